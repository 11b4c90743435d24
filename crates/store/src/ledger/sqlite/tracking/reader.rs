//! Connections by which pages of runs are read: statements are calls, made on a thread that may wait.
//!
//! Why not the async driver: each row that it sends from its thread may wake the one that waits for it, which costs more than the reading, and a
//! page of 100 runs with 50 metrics has thousands.

use super::super::open::{BUSY_TIMEOUT, READERS_MAX};
use super::direct::{connect, fault, rows_of};
use super::sql::Sql;
use gristmill_kernel::{Code, Fault, Kind, Result};
use rusqlite::{Connection, Row};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex as Lock, PoisonError};
use tokio::sync::Semaphore;

/// The connections, opened when they are needed and kept.
pub(in super::super) struct Readers {
    path: PathBuf,
    idle: Arc<Lock<Vec<Reader>>>,
    turns: Arc<Semaphore>,
}

impl Readers {
    pub(in super::super) fn new(path: &Path) -> Readers {
        Readers { path: path.to_owned(), idle: Arc::default(), turns: Arc::new(Semaphore::new(READERS_MAX as usize)) }
    }

    /// Reads at one moment.
    pub(super) async fn read<T: Send + 'static>(&self, work: impl FnOnce(&Reader) -> Result<T> + Send + 'static) -> Result<T> {
        let turn = tokio::time::timeout(BUSY_TIMEOUT, Arc::clone(&self.turns).acquire_owned()).await;
        let busy = || Fault::new(Kind::Busy, Code::OVERLOADED, "ledger: too many read it at once").fix("try again");
        let turn = turn.ok().and_then(std::result::Result::ok).ok_or_else(busy)?;
        let (path, idle) = (self.path.clone(), Arc::clone(&self.idle));
        let read = tokio::task::spawn_blocking(move || {
            let _until_the_end = turn;
            let kept = idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
            let reader = kept.map_or_else(|| Reader::open(&path), Ok)?;
            let read = reader.at_one_moment(work)?;
            // One that failed is not used again.
            idle.lock().unwrap_or_else(PoisonError::into_inner).push(reader);
            Ok(read)
        });
        read.await.unwrap_or_else(|e| Err(Fault::internal("the ledger could not be read").because(e)))
    }

    /// Closes those that nobody reads by.
    pub(in super::super) fn close(&self) {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

/// A connection that only reads.
pub(super) struct Reader(Connection);

impl Reader {
    fn open(path: &Path) -> Result<Reader> {
        connect(path, "PRAGMA query_only = ON").map(Reader)
    }

    fn at_one_moment<T>(&self, work: impl FnOnce(&Reader) -> Result<T>) -> Result<T> {
        self.0.execute_batch("BEGIN").map_err(|e| fault("begin a read", e))?;
        let read = work(self);
        self.0.execute_batch("ROLLBACK").map_err(|e| fault("end a read", e))?;
        read
    }

    /// Every row of an answer, read by `of`.
    pub(super) fn rows<T>(&self, what: &str, sql: &Sql, of: impl FnMut(&Row<'_>) -> rusqlite::Result<T>) -> Result<Vec<T>> {
        rows_of(&self.0, what, sql, of)
    }
}
