//! The newest row of each key that was asked for lately, in memory: most questions are about it.
//!
//! An entry is the newest of all rows of its key, those of a load that is still being written too: it stays right until a row of the key is written
//! or deleted, and that takes it out. Invariant: whoever reads the store holds [`super::embedded`]'s `known` until what it remembered is
//! checked, and a writer changes `known` after it has committed and called [`Newest::forget`]: no entry outlives the state it belongs to.

use bytes::Bytes;
use gristmill_kernel::port::OnlineRow;
use gristmill_kernel::{Timestamp, limits};
use quick_cache::sync::Cache;
use quick_cache::{Equivalent, Weighter};
use std::hash::{Hash, Hasher};

/// An entity of an epoch.
#[derive(Clone)]
struct Key {
    epoch: u64,
    key: KeyBytes,
}

/// A short key lies in the entry itself: a look at another place costs more than all the rest of a look-up.
#[derive(Clone)]
enum KeyBytes {
    Short(u8, [u8; SHORT]),
    Long(Bytes),
}

/// Bytes of a key that is short: two numbers, or a word.
const SHORT: usize = 22;

impl Key {
    fn new(epoch: u64, key: &Bytes) -> Key {
        let mut short = [0; SHORT];
        let key = match short.get_mut(..key.len()) {
            Some(place) => {
                place.copy_from_slice(key);
                KeyBytes::Short(key.len() as u8, short)
            }
            None => KeyBytes::Long(key.clone()),
        };
        Key { epoch, key }
    }

    fn asked(&self) -> Asked<'_> {
        Asked(
            self.epoch,
            match &self.key {
                KeyBytes::Short(length, bytes) => &bytes[..usize::from(*length)],
                KeyBytes::Long(bytes) => bytes,
            },
        )
    }
}

impl Hash for Key {
    fn hash<H: Hasher>(&self, to: &mut H) {
        self.asked().hash(to);
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Key) -> bool {
        self.asked() == other.asked()
    }
}

impl Eq for Key {}

/// The same for a look that owns nothing.
#[derive(PartialEq, Hash)]
struct Asked<'k>(u64, &'k [u8]);

impl Equivalent<Key> for Asked<'_> {
    fn equivalent(&self, key: &Key) -> bool {
        *self == key.asked()
    }
}

/// A row without its key.
#[derive(Clone)]
struct Row {
    at: Timestamp,
    load: i64,
    row: i64,
    value: Bytes,
}

/// The newest rows.
pub(super) struct Newest(Cache<Key, Row, ByBytes>);

/// Counts bytes.
#[derive(Clone)]
struct ByBytes;

/// What an entry takes beside its bytes.
const ENTRY_BYTES: u64 = 160;
/// What a row takes, about, to begin with.
const ROW_BYTES: u64 = 256;

impl Weighter<Key, Row> for ByBytes {
    fn weight(&self, key: &Key, row: &Row) -> u64 {
        ENTRY_BYTES + (key.asked().1.len() + row.value.len()) as u64
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
        let Row { at, load, row, value } = self.0.get(&Asked(epoch, key))?;
        Some(OnlineRow { key: key.clone(), at, load, row, value })
    }
    /// Remembers it.
    pub(super) fn remember(&self, epoch: u64, OnlineRow { key, at, load, row, value }: OnlineRow) {
        self.0.insert(Key::new(epoch, &key), Row { at, load, row, value });
    }
    /// A row of the key was written.
    pub(super) fn forget(&self, epoch: u64, key: &Bytes) {
        self.0.remove(&Asked(epoch, key));
    }
    /// Rows were deleted.
    pub(super) fn forget_all(&self) {
        self.0.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Keys of every length around the border, which differ in one byte, in their length or in their epoch only.
    #[test]
    fn keys_of_any_length_are_told_apart() {
        let newest = Newest::default();
        let keys: Vec<(u64, Bytes)> = (1..=2)
            .flat_map(|epoch| {
                (0..=2 * SHORT).flat_map(move |length| {
                    [0u8, 1].map(|last| {
                        let mut key = vec![0; length];
                        key.extend((length > 0).then_some(last));
                        (epoch, Bytes::from(key))
                    })
                })
            })
            .collect();
        let row = |number: usize, key: &Bytes| OnlineRow {
            key: key.clone(),
            at: Timestamp::from_micros(number as i64),
            load: 1,
            row: 2,
            value: Bytes::from(number.to_string()),
        };
        let distinct: std::collections::BTreeMap<&(u64, Bytes), usize> =
            keys.iter().enumerate().map(|(number, key)| (key, number)).collect();
        for ((epoch, key), number) in &distinct {
            assert_eq!(newest.of(*epoch, key), None);
            newest.remember(*epoch, row(*number, key));
        }
        for ((epoch, key), number) in &distinct {
            assert_eq!(newest.of(*epoch, key), Some(row(*number, key)));
        }
        for (epoch, key) in distinct.keys() {
            newest.forget(*epoch, key);
            assert_eq!(newest.of(*epoch, key), None);
        }
    }
}
