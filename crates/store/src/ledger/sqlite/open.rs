//! Opening a ledger: connections, migrations, the backup before a migration, and what SQLite's errors mean to a user.

use super::SqliteLedger;
use super::schema::{MIGRATIONS, newest};
use super::tracking::{Behind, Group, Logger, Readers, replay};
use crate::seal::{KEY_FILE, Seal};
use gristmill_kernel::port::Clock;
use gristmill_kernel::{Code, Fault, Kind, Result, Timestamp};
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{ConnectOptions, Connection, Row};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Mutex;

/// Longest wait for another process's write.
pub(super) const BUSY_TIMEOUT: Duration = Duration::from_secs(20);
/// Connections that only read, of either driver.
pub(super) const READERS_MAX: u32 = 4;
/// Prepared statements kept per connection.
pub(super) const STATEMENTS_KEPT: usize = 200;
/// Rows a query is ahead of its reader: each time one of the two waits costs more than a row.
const ROWS_AHEAD: usize = 1_000;
/// Pages in the write-ahead log before they go to their places. Tracking writes the same few pages again and again: the later, the fewer.
pub(super) const CHECKPOINT_PAGES: &str = "4000";
/// Cached pages per connection, in KiB (negative by SQLite's convention).
pub(super) const CACHE_KIB: &str = "-16000";

pub(super) async fn open(path: &Path, clock: Arc<dyn Clock>) -> Result<SqliteLedger> {
    let options = SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .busy_timeout(BUSY_TIMEOUT)
        .foreign_keys(true)
        .pragma("wal_autocheckpoint", CHECKPOINT_PAGES)
        .pragma("cache_size", CACHE_KIB)
        .row_buffer_size(ROWS_AHEAD)
        .statement_cache_capacity(STATEMENTS_KEPT)
        .disable_statement_logging();
    let mut writer = options.connect().await.map_err(|e| fault("open the ledger", e))?;
    migrate(&mut writer, path, clock.now()).await?;
    let ledger = path.to_owned();
    let replayed = tokio::task::spawn_blocking(move || replay(&ledger)).await;
    replayed.unwrap_or_else(|e| Err(Fault::internal("the journal of points could not be replayed").because(e)))?;
    let readers = SqlitePoolOptions::new()
        .max_connections(READERS_MAX)
        .min_connections(0)
        .acquire_timeout(BUSY_TIMEOUT)
        .connect_lazy_with(options.pragma("query_only", "on"));
    let writer = Arc::new(Mutex::new(writer));
    let group = Arc::new(Group::new(Arc::clone(&writer)));
    let behind = Arc::new(Behind::new(path, Arc::clone(&writer)));
    let logger = Logger::new(path, Arc::clone(&writer), Arc::clone(&behind));
    let pages = Readers::new(path);
    let seal = Seal::at(path.with_file_name(KEY_FILE));
    Ok(SqliteLedger { writer, readers, pages, group, behind, logger, clock, seal, path: path.to_owned() })
}

async fn migrate(db: &mut SqliteConnection, path: &Path, now: Timestamp) -> Result<()> {
    let stored = stored_version(db).await?;
    refuse_newer(stored, path)?;
    if stored == newest() {
        return Ok(());
    }
    if stored > 0 {
        back_up(db, path, stored).await?;
    }
    let mut tx = db.begin_with("BEGIN IMMEDIATE").await.map_err(|e| fault("begin a migration", e))?;
    // Another process may have migrated between the look above and the lock.
    let stored = stored_version(&mut tx).await?;
    refuse_newer(stored, path)?;
    for (version, text) in MIGRATIONS.iter().filter(|(version, _)| *version > stored) {
        sqlx::raw_sql(*text).execute(&mut *tx).await.map_err(|e| fault("migrate the ledger", e))?;
        sqlx::query("DELETE FROM gristmill_format").execute(&mut *tx).await.map_err(|e| fault("migrate the ledger", e))?;
        sqlx::query("INSERT INTO gristmill_format (version) VALUES ($1)")
            .bind(version)
            .execute(&mut *tx)
            .await
            .map_err(|e| fault("migrate the ledger", e))?;
    }
    // A migration's text cannot know the moment at which it makes experiment 0.
    sqlx::query("UPDATE experiments SET created_at = $1, updated_at = $1 WHERE id = 0 AND created_at = 0")
        .bind(now.micros())
        .execute(&mut *tx)
        .await
        .map_err(|e| fault("migrate the ledger", e))?;
    tx.commit().await.map_err(|e| fault("migrate the ledger", e))
}

async fn stored_version(db: &mut SqliteConnection) -> Result<i64> {
    sqlx::query("CREATE TABLE IF NOT EXISTS gristmill_format (version BIGINT NOT NULL)")
        .execute(&mut *db)
        .await
        .map_err(|e| fault("open the ledger", e))?;
    let row = sqlx::query("SELECT max(version) AS version FROM gristmill_format")
        .fetch_one(&mut *db)
        .await
        .map_err(|e| fault("open the ledger", e))?;
    let version: Option<i64> =
        row.try_get("version").map_err(|e| Fault::damaged("ledger table `gristmill_format`, column `version`: not a number").because(e))?;
    Ok(version.unwrap_or(0))
}

fn refuse_newer(stored: i64, path: &Path) -> Result<()> {
    if stored <= newest() {
        return Ok(());
    }
    Err(Fault::conflict(
        Code::NEWER_FORMAT,
        format!("the ledger {} has format {stored}, this gristmill knows formats up to {}", path.display(), newest()),
    )
    .fix("use the newer gristmill that wrote it, or restore the backup it made before its migration"))
}

/// A consistent copy beside the ledger, made before its format changes.
async fn back_up(db: &mut SqliteConnection, path: &Path, version: i64) -> Result<()> {
    let copy = backup_path(path, version);
    if copy.exists() {
        return Ok(());
    }
    sqlx::query("VACUUM INTO $1")
        .bind(copy.to_string_lossy().into_owned())
        .execute(&mut *db)
        .await
        .map_err(|e| fault(format_args!("copy the ledger to {} before its migration", copy.display()), e))?;
    tracing::info!(backup = %copy.display(), "copied the ledger before its migration");
    Ok(())
}

pub(super) fn backup_path(path: &Path, version: i64) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    name.push(format!(".format{version}.bak"));
    path.with_file_name(name)
}

/// What SQLite said, in the words of the product.
pub(super) fn fault(what: impl std::fmt::Display, error: sqlx::Error) -> Fault {
    let code = match &error {
        sqlx::Error::Database(e) => e.code().and_then(|c| c.parse::<i64>().ok()),
        sqlx::Error::Io(_) => Some(10),
        sqlx::Error::PoolTimedOut => Some(5),
        _ => None,
    };
    of_code(what, code, error)
}

/// The fault of a result code of SQLite: https://www.sqlite.org/rescode.html. Its low byte is the primary code.
pub(super) fn of_code(what: impl std::fmt::Display, code: Option<i64>, error: impl std::error::Error + Send + Sync + 'static) -> Fault {
    let told = format!("ledger: {what}: {error}");
    match code.map(|code| code & 0xff) {
        Some(5 | 6) => Fault::new(Kind::Busy, Code::OVERLOADED, told).fix("another process is writing the ledger; try again"),
        Some(13) => Fault::new(Kind::Unavailable, Code::DISK_FULL, told)
            .fix("free some space on that disk; nothing acknowledged was lost, and the work goes on when there is room"),
        Some(11 | 26) => Fault::damaged(told).fix("restore the ledger from a backup"),
        Some(8 | 10 | 14 | 23) => Fault::new(Kind::Unavailable, Code::IO, told).fix("check the path and its permissions"),
        _ => Fault::internal(told),
    }
    .because(error)
}
