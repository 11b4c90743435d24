//! Blobs, online rows and journal in memory.

use crate::journal::embedded::{check_key, too_many_waiting};
use async_trait::async_trait;
use bytes::Bytes;
use gristmill_kernel::port::{Blobs, Journal, JournalEntry, JournalState, Online, OnlineRead, OnlineRow, SlotState, WholeRows};
use gristmill_kernel::{Digest, Name, Result, Timestamp, limits};
use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Blobs in memory.
#[derive(Default)]
pub struct MemoryBlobs(Mutex<HashMap<Digest, Bytes>>);

#[async_trait]
impl Blobs for MemoryBlobs {
    async fn put(&self, content: Bytes) -> Result<Digest> {
        let digest = Digest::of(&content);
        locked(&self.0).insert(digest, content);
        Ok(digest)
    }
    async fn get(&self, digest: &Digest) -> Result<Option<Bytes>> {
        Ok(locked(&self.0).get(digest).cloned())
    }
    async fn has(&self, digest: &Digest) -> Result<bool> {
        Ok(locked(&self.0).contains_key(digest))
    }
}

/// Where a row stands within its slot.
type RowKey = (Bytes, Timestamp, i64, i64);

#[derive(Default)]
struct MemorySlot {
    state: Option<SlotState>,
    rows: BTreeMap<RowKey, Bytes>,
}

impl MemorySlot {
    fn of_key(&self, key: &Bytes, from: Option<Timestamp>, before: Option<Timestamp>) -> Vec<OnlineRow> {
        let start = (key.clone(), from.unwrap_or(Timestamp::from_micros(i64::MIN)), i64::MIN, i64::MIN);
        self.rows
            .range(start..)
            .take_while(|((k, at, ..), _)| k == key && before.is_none_or(|before| *at < before))
            .map(|((key, at, load, row), value)| OnlineRow { key: key.clone(), at: *at, load: *load, row: *row, value: value.clone() })
            .collect()
    }
}

/// Online rows in memory.
#[derive(Default)]
pub struct MemoryOnline(Mutex<HashMap<String, MemorySlot>>);

#[async_trait]
impl Online for MemoryOnline {
    async fn write(&self, slot: &str, rows: Vec<OnlineRow>, state: &SlotState) -> Result<()> {
        let mut slots = locked(&self.0);
        let slot = slots.entry(slot.to_owned()).or_default();
        slot.state = Some(slot.state.as_ref().map_or_else(|| state.clone(), |before| before.then(state)));
        slot.rows.extend(rows.into_iter().map(|r| ((r.key, r.at, r.load, r.row), r.value)));
        Ok(())
    }
    async fn read(&self, slot: &str, key: &[u8], from: Option<Timestamp>, before: Option<Timestamp>) -> Result<Vec<OnlineRow>> {
        let slots = locked(&self.0);
        Ok(slots.get(slot).map(|slot| slot.of_key(&Bytes::copy_from_slice(key), from, before)).unwrap_or_default())
    }
    async fn read_whole(&self, slot: &str, read: OnlineRead<'_>) -> Result<WholeRows> {
        let slots = locked(&self.0);
        let Some(slot) = slots.get(slot) else { return Ok(WholeRows { state: None, rows: vec![Vec::new(); read.keys.len()] }) };
        let whole = slot.state.as_ref().map_or(0, |state| state.load);
        let of_key = |key: &Bytes| {
            let mut rows = slot.of_key(key, read.from, read.before);
            rows.retain(|row| row.load <= whole);
            if read.newest { rows.pop().into_iter().collect() } else { rows }
        };
        Ok(WholeRows { state: slot.state.clone(), rows: read.keys.iter().map(of_key).collect() })
    }
    async fn state(&self, slot: &str) -> Result<Option<SlotState>> {
        Ok(locked(&self.0).get(slot).and_then(|slot| slot.state.clone()))
    }
    async fn expire(&self, slot: &str, now: Timestamp) -> Result<u64> {
        let mut slots = locked(&self.0);
        let Some(MemorySlot { state: Some(state), rows }) = slots.get_mut(slot) else { return Ok(0) };
        let Some(before) = state.needed_from(now) else { return Ok(0) };
        let had = rows.len();
        rows.retain(|(_, at, ..), _| *at >= before);
        if rows.len() < had {
            state.kept_from = state.kept_from.max(Some(before));
        }
        Ok((had - rows.len()) as u64)
    }
    async fn clear(&self, slot: &str) -> Result<()> {
        locked(&self.0).remove(slot);
        Ok(())
    }
    async fn keys(&self, slot: &str, limit: usize) -> Result<Vec<Bytes>> {
        let slots = locked(&self.0);
        let mut keys: Vec<Bytes> = slots.get(slot).into_iter().flat_map(|slot| slot.rows.keys().map(|(key, ..)| key.clone())).collect();
        keys.dedup();
        keys.truncate(limit);
        Ok(keys)
    }
}

#[derive(Default)]
struct MemorySource {
    state: JournalState,
    entries: BTreeMap<u64, JournalEntry>,
    keys: HashMap<String, u64>,
}

/// A journal in memory.
#[derive(Default)]
pub struct MemoryJournal(Mutex<BTreeMap<Name, MemorySource>>);

#[async_trait]
impl Journal for MemoryJournal {
    async fn append(&self, source: &Name, at: Timestamp, rows: Vec<Bytes>, idempotency: Option<&str>) -> Result<(u64, bool)> {
        if let Some(key) = idempotency {
            check_key(key)?;
        }
        let mut sources = locked(&self.0);
        let known = sources.entry(source.clone()).or_default();
        if let Some(last) = idempotency.and_then(|key| known.keys.get(key)) {
            return Ok((*last, false));
        }
        let waiting = known.state.last - known.state.forgotten;
        if waiting.saturating_add(rows.len() as u64) > limits::JOURNAL_ROWS_MAX {
            return Err(too_many_waiting(source, waiting));
        }
        for row in rows {
            known.state.last += 1;
            known.entries.insert(known.state.last, JournalEntry { offset: known.state.last, at, row });
        }
        if let Some(key) = idempotency {
            known.keys.insert(key.to_owned(), known.state.last);
        }
        Ok((known.state.last, true))
    }
    async fn read(&self, source: &Name, after: u64, limit: usize) -> Result<Vec<JournalEntry>> {
        let sources = locked(&self.0);
        let Some(known) = sources.get(source) else { return Ok(Vec::new()) };
        Ok(known.entries.range(after.saturating_add(1)..).take(limit).map(|(_, entry)| entry.clone()).collect())
    }
    async fn state(&self, source: &Name) -> Result<JournalState> {
        Ok(locked(&self.0).get(source).map(|known| known.state).unwrap_or_default())
    }
    async fn forget(&self, source: &Name, offset: u64) -> Result<()> {
        let mut sources = locked(&self.0);
        let Some(known) = sources.get_mut(source) else { return Ok(()) };
        known.state.forgotten = known.state.forgotten.max(offset.min(known.state.last));
        known.entries = known.entries.split_off(&(known.state.forgotten + 1));
        Ok(())
    }
    async fn sources(&self) -> Result<Vec<Name>> {
        let sources = locked(&self.0);
        Ok(sources.iter().filter(|(_, known)| !known.entries.is_empty()).map(|(name, _)| name.clone()).collect())
    }
}
