//! A connection without a thread of its own: statements are calls.
//!
//! Why two drivers: the async one sends every statement to a thread and its answer back, which costs several times what a small write does.
//! What clients log is written by a thread that may wait, with statements of [`super::sql`] like everything else.

use super::super::open::{BUSY_TIMEOUT, CACHE_KIB, CHECKPOINT_PAGES, STATEMENTS_KEPT, of_code};
use super::journal::LogFile;
use super::sql::{Arg, Sql, Statement};
use gristmill_kernel::{Fault, Result};
use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{Connection, OpenFlags, Row, ToSql, params_from_iter};
use std::fs::File;
use std::path::Path;
use std::sync::Arc;

/// A writing connection to a ledger that is there already. What it commits is whole and in order whatever happens, but durable only when
/// [`Direct::log`] was synced after it: so the next group is written while the disk is at work on the last one.
pub(super) struct Direct {
    db: Connection,
    log: Arc<LogFile>,
}

impl Direct {
    pub(super) fn open(path: &Path) -> Result<Direct> {
        // NORMAL syncs the log before its pages go to their places and its header before what follows it, FULL at each commit too.
        let db = connect(
            path,
            &format!("PRAGMA synchronous = NORMAL; PRAGMA foreign_keys = ON; PRAGMA wal_autocheckpoint = {CHECKPOINT_PAGES}"),
        )?;
        let mut name = path.file_name().unwrap_or_default().to_os_string();
        name.push("-wal");
        let log = File::open(path.with_file_name(name)).map_err(|e| of_code("open the ledger's log", Some(14), e))?;
        Ok(Direct { db, log: Arc::new(LogFile::new(log)) })
    }

    /// The connection that is kept here, opened when it is first needed and again when its log cannot be trusted any more.
    pub(super) fn kept<'d>(kept: &'d mut Option<Direct>, path: &Path) -> Result<&'d Direct> {
        let usable = kept.take().filter(|db| !db.log.is_broken());
        Ok(kept.insert(usable.map_or_else(|| Direct::open(path), Ok)?))
    }

    /// The write-ahead log.
    pub(super) fn log(&self) -> Arc<LogFile> {
        Arc::clone(&self.log)
    }

    /// Does it in a transaction; a fault leaves nothing of it.
    pub(super) fn write<T>(&self, work: impl FnOnce(&Direct) -> Result<T>) -> Result<T> {
        self.say("BEGIN IMMEDIATE").map_err(|e| fault("begin a write", e))?;
        let done = work(self).and_then(|done| self.say("COMMIT").map(|()| done).map_err(|e| fault("commit a write", e)));
        if done.is_err() && !self.db.is_autocommit() {
            self.say("ROLLBACK").map_err(|e| fault("take a write back", e))?;
        }
        done
    }

    fn say(&self, word: &str) -> rusqlite::Result<()> {
        self.db.prepare_cached(word)?.execute(()).map(|_| ())
    }

    /// Runs statements one after the other.
    pub(super) fn run(&self, what: &str, statements: impl Iterator<Item = Statement>) -> Result<()> {
        for statement in statements {
            let done = self.db.prepare_cached(&statement.text).and_then(|mut s| s.execute(params_from_iter(&statement.values)));
            done.map_err(|e| fault(what, e))?;
        }
        Ok(())
    }

    /// Every row of an answer, read by `of`.
    pub(super) fn rows<T>(&self, what: &str, sql: &Sql, of: impl FnMut(&Row<'_>) -> rusqlite::Result<T>) -> Result<Vec<T>> {
        rows_of(&self.db, what, sql, of)
    }
}

/// Opens a ledger that is there already.
pub(super) fn connect(path: &Path, pragmas: &str) -> Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let opened = Connection::open_with_flags(path, flags).and_then(|db| {
        db.busy_timeout(BUSY_TIMEOUT)?;
        db.set_prepared_statement_cache_capacity(STATEMENTS_KEPT);
        db.execute_batch(&format!("PRAGMA cache_size = {CACHE_KIB}; {pragmas}"))?;
        // The first read makes sure that the log is there; it stays the same file as long as anybody has the ledger open.
        db.query_row("SELECT count(*) FROM gristmill_format", (), |_| Ok(()))?;
        Ok(db)
    });
    opened.map_err(|e| fault("open the ledger", e))
}

pub(super) fn rows_of<T>(db: &Connection, what: &str, sql: &Sql, of: impl FnMut(&Row<'_>) -> rusqlite::Result<T>) -> Result<Vec<T>> {
    sql.must_fit()?;
    let read = db.prepare_cached(sql.told()).and_then(|mut s| s.query_map(params_from_iter(sql.values()), of)?.collect());
    read.map_err(|e| fault(what, e))
}

impl ToSql for Arg {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(match self {
            Arg::Null => ValueRef::Null,
            Arg::Int(value) => ValueRef::Integer(*value),
            Arg::Float(value) => ValueRef::Real(*value),
            Arg::Text(value) => ValueRef::Text(value.as_bytes()),
        }))
    }
}

/// What SQLite said, in the words of the product.
pub(super) fn fault(what: &str, error: rusqlite::Error) -> Fault {
    match &error {
        // A column has another type than the schema says.
        rusqlite::Error::FromSqlConversionFailure(..)
        | rusqlite::Error::InvalidColumnType(..)
        | rusqlite::Error::IntegralValueOutOfRange(..) => Fault::damaged(format!("ledger: {what}: {error}"))
            .fix("restore the ledger from a backup; `gristmill doctor` lists what is damaged")
            .because(error),
        _ => of_code(what, error.sqlite_error().map(|e| i64::from(e.extended_code)), error),
    }
}
