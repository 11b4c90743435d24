//! A database file of somebody else: an SQLite file opened for reading.
//!
//! Promises: the file is not changed, not even its journal mode; statements that write are refused by the connection; functions named in its
//! schema do not run; one answer is bounded in rows and in the length of a value.

use async_trait::async_trait;
use gristmill_kernel::port::{Cell, ForeignDb};
use gristmill_kernel::{Code, Fault, Kind, Result, limits};
use sqlx::sqlite::{SqliteConnectOptions, SqlitePool, SqlitePoolOptions, SqliteRow};
use sqlx::{AssertSqlSafe, ConnectOptions as _, Row as _, TypeInfo as _, ValueRef as _};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// Longest wait for a writer of that file.
const BUSY_TIMEOUT: Duration = Duration::from_secs(20);
/// Connections.
const READERS_MAX: u32 = 4;

/// An SQLite file, open for reading.
pub struct ForeignSqlite {
    readers: SqlitePool,
    about: String,
}

/// Opens a file that must be there.
pub async fn open_foreign_sqlite(path: &Path) -> Result<Arc<dyn ForeignDb>> {
    let about = path.display().to_string();
    let found = std::fs::metadata(path).map_err(|e| Fault::io(format!("open the database {about}"), e))?;
    if !found.is_file() {
        return Err(Fault::invalid(Code::SOURCE_UNREADABLE, format!("{about} is not a file")));
    }
    let options = SqliteConnectOptions::new()
        .filename(path)
        .read_only(true)
        .create_if_missing(false)
        .busy_timeout(BUSY_TIMEOUT)
        .pragma("query_only", "on")
        .pragma("trusted_schema", "off")
        .pragma("cell_size_check", "on")
        .disable_statement_logging();
    let readers =
        SqlitePoolOptions::new().max_connections(READERS_MAX).min_connections(0).acquire_timeout(BUSY_TIMEOUT).connect_lazy_with(options);
    let db = ForeignSqlite { readers, about };
    // A file that is no database is found out here and not in the middle.
    db.rows("SELECT count(*) FROM sqlite_master", &[]).await?;
    Ok(Arc::new(db))
}

#[async_trait]
impl ForeignDb for ForeignSqlite {
    async fn rows(&self, query: &str, values: &[Cell]) -> Result<Vec<Vec<Cell>>> {
        use futures::TryStreamExt as _;
        let told = |e: sqlx::Error| fault(&self.about, e);
        let mut bound = sqlx::query(AssertSqlSafe(query.to_owned()));
        for value in values {
            bound = match value {
                Cell::Null => bound.bind(None::<i64>),
                Cell::Int(n) => bound.bind(*n),
                Cell::Real(x) => bound.bind(*x),
                Cell::Text(text) => bound.bind(text.clone()),
            };
        }
        let mut rows = bound.fetch(&self.readers);
        let mut found = Vec::new();
        while let Some(row) = rows.try_next().await.map_err(told)? {
            if found.len() >= limits::FOREIGN_ROWS_MAX {
                return Err(unreadable(&self.about, format_args!("more than {} rows belong together", limits::FOREIGN_ROWS_MAX)));
            }
            found.push((0..row.len()).map(|at| self.cell(&row, at)).collect::<Result<_>>()?);
        }
        Ok(found)
    }
}

impl ForeignSqlite {
    fn cell(&self, row: &SqliteRow, at: usize) -> Result<Cell> {
        let told = |e: sqlx::Error| fault(&self.about, e);
        let raw = row.try_get_raw(at).map_err(told)?;
        if raw.is_null() {
            return Ok(Cell::Null);
        }
        // The type of the value itself: columns of SQLite hold what was put into them.
        let kind = raw.type_info().name().to_owned();
        match kind.as_str() {
            "INTEGER" | "BOOLEAN" => row.try_get_unchecked(at).map(Cell::Int).map_err(told),
            "REAL" => row.try_get_unchecked(at).map(Cell::Real).map_err(told),
            "TEXT" => {
                let text: String = row.try_get_unchecked(at).map_err(told)?;
                if text.len() > limits::FOREIGN_CELL_BYTES_MAX {
                    return Err(unreadable(&self.about, format_args!("a value is longer than {} bytes", limits::FOREIGN_CELL_BYTES_MAX)));
                }
                Ok(Cell::Text(text))
            }
            other => Err(unreadable(&self.about, format_args!("a value is {other}"))),
        }
    }
}

fn unreadable(about: &str, why: std::fmt::Arguments<'_>) -> Fault {
    Fault::invalid(Code::SOURCE_UNREADABLE, format!("the database {about} cannot be read: {why}"))
}

fn fault(about: &str, error: sqlx::Error) -> Fault {
    // The low byte is SQLite's primary result code: https://www.sqlite.org/rescode.html
    let code = match &error {
        sqlx::Error::Database(e) => e.code().and_then(|c| c.parse::<i64>().ok()).map(|c| c & 0xff),
        sqlx::Error::PoolTimedOut => Some(5),
        _ => None,
    };
    let told = format!("the database {about} cannot be read: {error}");
    match code {
        Some(5 | 6) => {
            Fault::new(Kind::Busy, Code::SOURCE_UNREADABLE, told).fix("its server is writing; try again, or stop it for a moment")
        }
        Some(8 | 10 | 14) => Fault::new(Kind::Unavailable, Code::SOURCE_UNREADABLE, told).fix("check the path and its permissions"),
        _ => Fault::invalid(Code::SOURCE_UNREADABLE, told).fix("name an SQLite file that is whole"),
    }
    .because(error)
}

#[cfg(test)]
mod tests {
    use super::*;
    use sqlx::Connection as _;

    async fn made(dir: &Path) -> std::path::PathBuf {
        let path = dir.join("theirs.db");
        let mut db = SqliteConnectOptions::new().filename(&path).create_if_missing(true).connect().await.expect("make");
        sqlx::raw_sql("CREATE TABLE t (a BIGINT, b VARCHAR(20), c FLOAT, d BOOLEAN); INSERT INTO t VALUES (1, 'x', 0.5, 1), (NULL, NULL, 2, 0), ('odd', 7, 'text', NULL)")
            .execute(&mut db)
            .await
            .expect("fill");
        db.close().await.expect("close");
        path
    }

    #[tokio::test]
    async fn values_come_as_they_are() {
        let dir = tempfile::tempdir().expect("folder");
        let db = open_foreign_sqlite(&made(dir.path()).await).await.expect("open");
        let rows = db.rows("SELECT a, b, c, d FROM t WHERE rowid >= ? ORDER BY rowid", &[Cell::Int(1)]).await.expect("rows");
        let text = |t: &str| Cell::Text(t.to_owned());
        assert_eq!(rows[0], [Cell::Int(1), text("x"), Cell::Real(0.5), Cell::Int(1)]);
        assert_eq!(rows[1], [Cell::Null, Cell::Null, Cell::Real(2.0), Cell::Int(0)]);
        assert_eq!(rows[2], [text("odd"), text("7"), text("text"), Cell::Null]);
    }

    #[tokio::test]
    async fn nothing_is_written_and_nothing_made() {
        let dir = tempfile::tempdir().expect("folder");
        let path = made(dir.path()).await;
        let before = std::fs::read(&path).expect("read");
        let db = open_foreign_sqlite(&path).await.expect("open");
        for write in ["DELETE FROM t", "CREATE TABLE u (a)", "PRAGMA journal_mode = wal", "ATTACH 'other.db' AS o"] {
            let _refused = db.rows(write, &[]).await;
        }
        assert_eq!(db.rows("SELECT count(*) FROM t", &[]).await.expect("count"), [[Cell::Int(3)]]);
        assert_eq!(std::fs::read(&path).expect("read"), before);
        assert!(open_foreign_sqlite(&dir.path().join("none.db")).await.is_err());
        assert!(!dir.path().join("none.db").exists());
        std::fs::write(dir.path().join("text.db"), "not a database, but long enough to be asked about its first page".repeat(20))
            .expect("write");
        let fault = open_foreign_sqlite(&dir.path().join("text.db")).await.err().expect("refused");
        assert_eq!(fault.code, Code::SOURCE_UNREADABLE);
    }
}
