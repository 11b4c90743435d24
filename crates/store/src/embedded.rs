//! The embedded key-value databases under online rows and the journal: redb, a copy-on-write B-tree in one file.
//!
//! # Why redb
//! Measured against fjall 3.1 (an LSM tree) with `online_bench 800000`: synced batches of 10,000 kept rows, then reads of an entity's 150 rows, then small
//! durable appends. Medians of three runs on two cores, redb then fjall: a read 24 µs and 92 µs (99th percentile 55 and 181 µs); 86,000 and 183,000 rows/s
//! written; a durable append 0.27 and 0.15 ms; 231 and 104 MB on disk. A prediction waits for reads, writes come in batches beside it, and under load
//! fjall's reads waited up to 20 ms for its compaction: so reads decide. `cargo xtask bench online-store` measures again.
//!
//! # Layout, on one page
//! Two databases in `kv/` of the state folder, each exclusive to one process and with one writer, so that a batch of kept rows does not hold up an
//! acknowledgement. Integers are big-endian; times, loads and rows have their sign bit flipped, so that bytes sort as numbers do.
//!
//! | file | table | key | value | lifetime |
//! |---|---|---|---|---|
//! | `online.redb` | `online_rows` | epoch u64, entity key (escaped, ended by `00 01`), time i64, load i64, row i64 | the encoded row | until expired or cleared |
//! | | `online_slots` | slot name | JSON: epoch, state | until another epoch replaces it |
//! | | `online_dropped` | epoch u64 | nothing | until the epoch's rows are gone |
//! | `journal.redb` | `journal_rows` | source name, `00`, offset u64 | time i64, the row | until forgotten |
//! | | `journal_sources` | source name | last offset u64 | for ever |
//! | | `journal_forgotten` | source name | offset u64 up to which rows are forgotten | for ever |
//! | | `journal_keys` | source name, `00`, idempotency key | last offset u64, time i64 | two days |
//! | | `journal_keys_by_time` | time i64, then a key of `journal_keys` | nothing | two days |
//! | both | `format` | `version` | u64 | for ever |
//!
//! # Durability
//! Every commit is synced before it returns, many appenders per sync. A commit is whole or not at all: its root is switched last. After a
//! failed write or sync the database takes no writes until it is opened again. A file that was not closed is checked when it is opened.

use crate::lock;
use gristmill_kernel::{Code, Fault, Kind, Result};
use redb::{
    Database, DatabaseError, ReadOnlyTable, ReadTransaction, ReadableDatabase as _, ReadableTable as _, StorageError, TableDefinition,
    TableHandle as _,
};
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

/// The version of the layout above. Version 1 was in other files, `kv/` of an LSM tree; it can be rebuilt from tables.
const FORMAT: u64 = 2;
/// Pages kept in memory, per database.
const CACHE_BYTES: usize = 64 << 20;
/// Space that must stay free: below it a write is refused before it begins, so that a full disk does not stop the database for good.
const FREE_BYTES_MIN: u64 = 8 << 20;

/// A table of bytes by bytes.
pub(crate) type Table = TableDefinition<'static, &'static [u8], &'static [u8]>;

const FORMAT_TABLE: Table = Table::new("format");

/// Which database.
#[derive(Debug, Clone, Copy)]
pub(crate) enum File {
    /// Kept rows.
    Online,
    /// Pushed rows.
    Journal,
}

/// A database of one state folder.
#[derive(Clone)]
pub(crate) struct Embedded {
    db: Arc<Database>,
    folder: PathBuf,
    /// How many commits there were.
    commits: Arc<AtomicU64>,
}

/// A table as of the last commit, opened once for all readers until the next one.
///
/// Readers beside a commit may still get what was before it; whoever reads after it gets it. What is kept here goes with each commit, because
/// pages that somebody could still read are not used again.
#[derive(Default)]
pub(crate) struct LastCommit(RwLock<Option<(u64, Arc<OpenTable>)>>);

/// A table of a moment.
pub(crate) type OpenTable = ReadOnlyTable<&'static [u8], &'static [u8]>;

impl LastCommit {
    /// The table.
    pub(crate) fn get(&self, store: &Embedded, table: Table, what: &str) -> Result<Arc<OpenTable>> {
        // Counted before the look: what is opened is at least as new as that.
        let commits = store.commits();
        if let Some((of, open)) = &*self.0.read().unwrap_or_else(PoisonError::into_inner)
            && *of == commits
        {
            return Ok(Arc::clone(open));
        }
        let open = Arc::new(store.read()?.open_table(table).map_err(|e| fault(what, e))?);
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Some((commits, Arc::clone(&open)));
        Ok(open)
    }
    /// Lets go of it.
    pub(crate) fn forget(&self) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

/// What one commit changes.
#[derive(Default)]
pub(crate) struct Batch(Vec<(Table, Vec<u8>, Option<Vec<u8>>)>);

impl Batch {
    /// Writes a value.
    pub(crate) fn insert(&mut self, table: Table, key: impl Into<Vec<u8>>, value: impl Into<Vec<u8>>) {
        self.0.push((table, key.into(), Some(value.into())));
    }
    /// Takes a value away.
    pub(crate) fn remove(&mut self, table: Table, key: impl Into<Vec<u8>>) {
        self.0.push((table, key.into(), None));
    }
}

impl Embedded {
    /// Opens or makes it, with these tables. A second owner is refused.
    pub(crate) fn open(state_dir: &Path, file: File, tables: &[Table]) -> Result<Embedded> {
        let folder = state_dir.join("kv");
        let path = folder.join(match file {
            File::Online => "online.redb",
            File::Journal => "journal.redb",
        });
        std::fs::create_dir_all(&folder).map_err(|e| Fault::io(format_args!("open {}", folder.display()), e))?;
        let opened = Database::builder().set_cache_size(CACHE_BYTES).create(&path);
        let db = opened.map_err(|e| match e {
            DatabaseError::DatabaseAlreadyOpen => lock::locked(state_dir),
            DatabaseError::UpgradeRequired(version) => {
                Fault::conflict(Code::NEWER_FORMAT, format!("{} has version {version}, which is not known here", path.display()))
                    .fix("use the gristmill that wrote it")
            }
            e => fault(format_args!("open {}", path.display()), e),
        })?;
        let embedded = Embedded { db: Arc::new(db), folder, commits: Arc::default() };
        embedded.prepare(&path, tables)?;
        Ok(embedded)
    }

    /// One moment of the database, for reading.
    pub(crate) fn read(&self) -> Result<ReadTransaction> {
        self.db.begin_read().map_err(|e| fault("read the key-value file", e))
    }

    /// How many commits there were.
    pub(crate) fn commits(&self) -> u64 {
        self.commits.load(Ordering::Acquire)
    }

    /// A value.
    pub(crate) fn get(&self, table: Table, key: &[u8], what: &str) -> Result<Option<Vec<u8>>> {
        let table = self.read()?.open_table(table).map_err(|e| fault(what, e))?;
        Ok(table.get(key).map_err(|e| fault(what, e))?.map(|value| value.value().to_vec()))
    }

    /// Commits a batch; it is synced when this returns. `bytes` is about how much it brings.
    pub(crate) fn commit(&self, what: &str, batch: Batch, bytes: u64) -> Result<()> {
        self.expect_room(what, bytes)?;
        let tx = self.db.begin_write().map_err(|e| fault(what, e))?;
        let mut changes = batch.0.into_iter().peekable();
        while let Some(table) = changes.peek().map(|(table, ..)| *table) {
            let mut open = tx.open_table(table).map_err(|e| fault(what, e))?;
            while let Some((_, key, value)) = changes.next_if(|(next, ..)| next.name() == table.name()) {
                match value {
                    Some(value) => open.insert(key.as_slice(), value.as_slice()).map(drop),
                    None => open.remove(key.as_slice()).map(drop),
                }
                .map_err(|e| fault(what, e))?;
            }
        }
        let done = tx.commit().map_err(|e| fault(what, e));
        self.commits.fetch_add(1, Ordering::AcqRel);
        done
    }

    fn expect_room(&self, what: &str, bytes: u64) -> Result<()> {
        // A file system that cannot say how full it is, is not asked.
        let Ok(stat) = nix::sys::statvfs::statvfs(&self.folder) else { return Ok(()) };
        let free = stat.blocks_available() * stat.fragment_size();
        if free < FREE_BYTES_MIN.saturating_add(bytes.saturating_mul(4)) {
            return Err(Fault::io(what, io::Error::from(io::ErrorKind::StorageFull)));
        }
        Ok(())
    }

    fn prepare(&self, path: &Path, tables: &[Table]) -> Result<()> {
        let what = "prepare the key-value file";
        let tx = self.db.begin_write().map_err(|e| fault(what, e))?;
        {
            let mut format = tx.open_table(FORMAT_TABLE).map_err(|e| fault(what, e))?;
            let stored = format.get("version".as_bytes()).map_err(|e| fault(what, e))?.map(|v| v.value().to_vec());
            match stored {
                None => {
                    format.insert("version".as_bytes(), FORMAT.to_be_bytes().as_slice()).map_err(|e| fault(what, e))?;
                }
                Some(stored) => {
                    let stored = number(&stored, "format", "version")?;
                    if stored > FORMAT {
                        let told = format!("{} has format {stored}, this gristmill knows formats up to {FORMAT}", path.display());
                        return Err(Fault::conflict(Code::NEWER_FORMAT, told).fix("use the newer gristmill that wrote it"));
                    }
                }
            }
            for table in tables {
                tx.open_table(*table).map_err(|e| fault(what, e))?;
            }
        }
        tx.commit().map_err(|e| fault(what, e))
    }
}

/// What the database said, in the words of the product.
pub(crate) fn fault(what: impl fmt::Display, error: impl Into<redb::Error>) -> Fault {
    match error.into() {
        redb::Error::Io(e) => Fault::io(what, e),
        redb::Error::PreviousIo => {
            Fault::new(Kind::Unavailable, Code::IO, format!("{what}: no writes are taken since one failed to reach the disk"))
                .fix("check the disk, then start again; everything acknowledged is safe")
        }
        e @ (redb::Error::Corrupted(_) | redb::Error::RepairAborted) => {
            Fault::damaged(format!("{what}: the key-value file is damaged: {e}")).because(e)
        }
        e => Fault::internal(format!("{what}: {e}")).because(e),
    }
}

/// The fault of reading one entry.
pub(crate) fn unreadable(what: &str) -> impl Fn(StorageError) -> Fault + '_ {
    move |e| fault(what, e)
}

/// A number that sorts as its bytes do.
pub(crate) fn sortable(number: i64) -> [u8; 8] {
    ((number as u64) ^ (1 << 63)).to_be_bytes()
}

/// The number behind [`sortable`].
pub(crate) fn unsortable(bytes: [u8; 8]) -> i64 {
    (u64::from_be_bytes(bytes) ^ (1 << 63)) as i64
}

/// Eight bytes of a stored value.
/// Bytes as a message shows them, made only for one.
pub(crate) struct Hex<'b>(pub(crate) &'b [u8]);

impl fmt::Display for Hex<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

pub(crate) fn eight(bytes: &[u8], from: usize, table: &str, row: impl fmt::Display) -> Result<[u8; 8]> {
    bytes
        .get(from..from + 8)
        .and_then(|b| b.try_into().ok())
        .ok_or_else(|| Fault::damaged(format!("table `{table}`, bytes {from} to {}, row `{row}`: they are missing", from + 8)))
}

pub(crate) fn number(bytes: &[u8], table: &str, row: impl fmt::Display) -> Result<u64> {
    eight(bytes, 0, table, row).map(u64::from_be_bytes)
}
