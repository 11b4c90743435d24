//! The embedded key-value database under online rows and the journal: fjall, an LSM tree with one write-ahead log.
//!
//! # Why fjall
//! Not measured yet: `examples/online_bench.rs` compares it with redb on our access pattern. Until its figures stand here, the choice rests on
//! reading: one log shared by all keyspaces, atomic batches across them, and a database that refuses writes after a failed one.
//!
//! # Layout, on one page
//! One database, `kv/` in the state folder, exclusive to one process. Integers are big-endian; times, loads and rows have their sign bit
//! flipped, so that bytes sort as numbers do.
//!
//! | keyspace | key | value | lifetime |
//! |---|---|---|---|
//! | `online_rows` | epoch u64, entity key (escaped, ended by `00 01`), time i64, load i64, row i64 | the encoded row | until expired or cleared |
//! | `online_slots` | slot name | JSON: epoch, state | until another epoch replaces it |
//! | `online_dropped` | epoch u64 | nothing | until the epoch's rows are gone |
//! | `journal_rows` | source name, `00`, offset u64 | time i64, the row | until forgotten |
//! | `journal_sources` | source name | last offset u64 | for ever |
//! | `journal_forgotten` | source name | offset u64 up to which rows are forgotten | for ever |
//! | `journal_keys` | source name, `00`, idempotency key | last offset u64, time i64 | two days |
//! | `journal_keys_by_time` | time i64, then a key of `journal_keys` | nothing | two days |
//! | `format` | `version` | u64 | for ever |
//!
//! # Write amplification
//! A row is written to the write-ahead log once and to a table when its memtable is full; levelled compaction then rewrites it about
//! once per level (factor 10), two levels for a few gigabytes. Journal rows are mostly forgotten before their memtable is full, so most
//! are written once. Clearing a slot is one small write (a new epoch); the old rows are deleted afterwards.
//!
//! # Durability
//! Journal appends are synced, many appenders per sync. Online batches reach the operating system at once (kill -9 loses nothing) and the
//! disk with the next sync: a batch and its slot's state are one entry of the log, so power loss may forget it but never halve it.
//! After a failed write or sync the database takes no writes until it is opened again; opening cuts the log behind its last whole entry.

use crate::lock;
use fjall::{Database, Keyspace, KeyspaceCreateOptions, OwnedWriteBatch, PersistMode};
use gristmill_kernel::{Code, Fault, Kind, Result};
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// The version of the layout above.
const FORMAT: u64 = 1;
/// Blocks kept in memory.
const CACHE_BYTES: u64 = 64 << 20;
/// Space that must stay free: below it a write is refused before it begins, so that a full disk does not stop the database for good.
const FREE_BYTES_MIN: u64 = 8 << 20;

/// The database of one state folder.
#[derive(Clone)]
pub(crate) struct Embedded {
    pub db: Database,
    path: PathBuf,
}

impl Embedded {
    /// Opens or makes it. A second owner is refused.
    pub(crate) fn open(state_dir: &Path) -> Result<Embedded> {
        let path = state_dir.join("kv");
        std::fs::create_dir_all(&path).map_err(|e| Fault::io(format_args!("open {}", path.display()), e))?;
        let db = Database::builder(&path).cache_size(CACHE_BYTES).open().map_err(|e| match e {
            fjall::Error::Locked => lock::locked(state_dir),
            e => fault(format_args!("open {}", path.display()), e),
        })?;
        let embedded = Embedded { db, path };
        embedded.check_format()?;
        Ok(embedded)
    }

    pub(crate) fn keyspace(&self, name: &str) -> Result<Keyspace> {
        self.db.keyspace(name, KeyspaceCreateOptions::default).map_err(|e| fault(format_args!("open keyspace {name}"), e))
    }

    /// Commits a batch; `durable` syncs it before returning.
    pub(crate) fn commit(&self, what: &str, batch: OwnedWriteBatch, bytes: u64, durable: Durable) -> Result<()> {
        self.expect_room(what, bytes)?;
        let mode = match durable {
            Durable::Synced => PersistMode::SyncAll,
            Durable::AgainstKill => PersistMode::Buffer,
        };
        batch.durability(Some(mode)).commit().map_err(|e| fault(what, e))
    }

    fn expect_room(&self, what: &str, bytes: u64) -> Result<()> {
        // A file system that cannot say how full it is, is not asked.
        let Ok(stat) = nix::sys::statvfs::statvfs(&self.path) else { return Ok(()) };
        let free = stat.blocks_available() * stat.fragment_size();
        if free < FREE_BYTES_MIN.saturating_add(bytes.saturating_mul(2)) {
            return Err(Fault::io(what, io::Error::from(io::ErrorKind::StorageFull)));
        }
        Ok(())
    }

    fn check_format(&self) -> Result<()> {
        let format = self.keyspace("format")?;
        match format.get("version").map_err(|e| fault("read the format", e))? {
            None => {
                let mut batch = self.db.batch();
                batch.insert(&format, "version", FORMAT.to_be_bytes());
                self.commit("write the format", batch, 64, Durable::Synced)
            }
            Some(stored) => {
                let stored = number(&stored, "format", "version")?;
                if stored <= FORMAT {
                    return Ok(());
                }
                Err(Fault::conflict(
                    Code::NEWER_FORMAT,
                    format!("{} has format {stored}, this gristmill knows formats up to {FORMAT}", self.path.display()),
                )
                .fix("use the newer gristmill that wrote it"))
            }
        }
    }
}

/// How much a commit survives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Durable {
    /// Power loss.
    Synced,
    /// kill -9.
    AgainstKill,
}

/// What the database said, in the words of the product.
pub(crate) fn fault(what: impl fmt::Display, error: fjall::Error) -> Fault {
    match error {
        fjall::Error::Io(e) => Fault::io(what, e),
        fjall::Error::Poisoned => {
            Fault::new(Kind::Unavailable, Code::IO, format!("{what}: no writes are taken since one failed to reach the disk"))
                .fix("check the disk, then start again; everything acknowledged is safe")
        }
        fjall::Error::InvalidVersion(version) => {
            Fault::conflict(Code::NEWER_FORMAT, format!("{what}: the key-value files have version {version:?}, which is not known here"))
                .fix("use the gristmill that wrote them")
        }
        fjall::Error::Storage(fjall::LsmError::Io(e)) => Fault::io(what, e),
        e @ (fjall::Error::JournalRecovery(_)
        | fjall::Error::InvalidTrailer
        | fjall::Error::InvalidTag(_)
        | fjall::Error::Decompress(_)
        | fjall::Error::Unrecoverable
        | fjall::Error::Storage(_)) => Fault::damaged(format!("{what}: the key-value files are damaged: {e}")).because(e),
        e => Fault::internal(format!("{what}: {e}")).because(e),
    }
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
pub(crate) fn eight(bytes: &[u8], from: usize, keyspace: &str, row: impl fmt::Display) -> Result<[u8; 8]> {
    bytes
        .get(from..from + 8)
        .and_then(|b| b.try_into().ok())
        .ok_or_else(|| Fault::damaged(format!("keyspace `{keyspace}`, bytes {from} to {}, row `{row}`: they are missing", from + 8)))
}

pub(crate) fn number(bytes: &[u8], keyspace: &str, row: impl fmt::Display) -> Result<u64> {
    eight(bytes, 0, keyspace, row).map(u64::from_be_bytes)
}
