//! The newest row of each key that was asked for lately, in memory: most questions are about it.
//!
//! An entry is the newest of all rows of its key, those of a load that is still being written too: it stays right until a row of the key is written
//! or deleted, and that takes it out. Invariant: whoever reads the store holds [`super::embedded`]'s `known` until what it remembered is
//! checked, and a writer changes `known` after it has committed and called [`Newest::forget`]: no entry outlives the state it belongs to.

use bytes::Bytes;
use gristmill_kernel::limits;
use gristmill_kernel::port::OnlineRow;
use quick_cache::sync::Cache;
use quick_cache::{Equivalent, Weighter};

/// An entity of an epoch.
type Key = (u64, Bytes);

/// The same for a look that owns nothing: it hashes as a [`Key`] does.
#[derive(Hash)]
struct Asked<'k>(u64, &'k [u8]);

impl Equivalent<Key> for Asked<'_> {
    fn equivalent(&self, (epoch, key): &Key) -> bool {
        self.0 == *epoch && self.1 == key.as_ref()
    }
}

/// The newest rows.
pub(super) struct Newest(Cache<Key, OnlineRow, ByBytes>);

/// Counts bytes.
#[derive(Clone)]
struct ByBytes;

/// What an entry takes beside its bytes.
const ENTRY_BYTES: u64 = 160;
/// What a row takes, about, to begin with.
const ROW_BYTES: u64 = 256;

impl Weighter<Key, OnlineRow> for ByBytes {
    fn weight(&self, (_, key): &Key, row: &OnlineRow) -> u64 {
        ENTRY_BYTES + (key.len() + row.value.len()) as u64
    }
}

impl Default for Newest {
    fn default() -> Newest {
        let bytes = limits::ONLINE_NEWEST_BYTES_MAX;
        Newest(Cache::with_weighter((bytes / ROW_BYTES) as usize, bytes, ByBytes))
    }
}

impl Newest {
    /// The newest row of a key, if it is remembered.
    pub(super) fn of(&self, epoch: u64, key: &Bytes) -> Option<OnlineRow> {
        self.0.get(&Asked(epoch, key))
    }
    /// Remembers it.
    pub(super) fn remember(&self, epoch: u64, row: OnlineRow) {
        self.0.insert((epoch, row.key.clone()), row);
    }
    /// A row of the key was written.
    pub(super) fn forget(&self, epoch: u64, key: &Bytes) {
        self.0.remove(&(epoch, key.clone()));
    }
    /// Rows were deleted.
    pub(super) fn forget_all(&self) {
        self.0.clear();
    }
}
