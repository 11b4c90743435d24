//! Online rows in the embedded database. The layout is in [`crate::embedded`].
//!
//! Each slot has an epoch, and the epoch is in its rows' keys: clearing a slot gives it another epoch in one small write, so no reader
//! and no crash can see a slot half-cleared. The rows of an old epoch are deleted afterwards, at the next open at the latest.

use super::newest::Newest;
use crate::embedded::{Batch, Embedded, File, Hex, LastCommit, Table, eight, fault, number, sortable, unreadable, unsortable};
use async_trait::async_trait;
use bytes::Bytes;
use gristmill_kernel::port::{Online, OnlineRead, OnlineRow, SlotState, WholeRows};
use gristmill_kernel::{Code, Fault, Result, Timestamp};
use redb::{ReadOnlyTable, ReadableTable as _};
use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

/// Rows deleted in one batch.
const DELETE_ROWS: usize = 10_000;
/// Bytes of an epoch and of the three numbers behind the entity's key.
const EPOCH_BYTES: usize = 8;
const TAIL_BYTES: usize = 24;
/// The longest slot name and entity key.
const NAME_BYTES_MAX: usize = 1_000;
const KEY_BYTES_MAX: usize = 16_000;

const ROWS: Table = Table::new("online_rows");
const SLOTS: Table = Table::new("online_slots");
const DROPPED: Table = Table::new("online_dropped");

/// Rows of a moment.
type Rows = ReadOnlyTable<&'static [u8], &'static [u8]>;
/// A key and its value.
type Entry = (redb::AccessGuard<'static, &'static [u8]>, redb::AccessGuard<'static, &'static [u8]>);

/// Kept rows in the state folder.
#[derive(Clone)]
pub struct EmbeddedOnline {
    inner: Arc<Inner>,
}

struct Inner {
    store: Embedded,
    now: LastCommit,
    newest: Newest,
    /// Every slot. Readers hold it while they read, so the rows of an epoch are deleted only when nobody reads them.
    known: RwLock<Known>,
    /// One writer at a time.
    writing: Mutex<()>,
}

struct Known {
    slots: HashMap<String, Slot>,
    next_epoch: u64,
}

/// A stored slot.
#[derive(Clone, serde::Serialize, serde::Deserialize)]
struct Slot {
    epoch: u64,
    state: Option<SlotState>,
}

impl EmbeddedOnline {
    pub(crate) fn open(state_dir: &Path) -> Result<EmbeddedOnline> {
        let store = Embedded::open(state_dir, File::Online, &[ROWS, SLOTS, DROPPED])?;
        let now = store.read()?;
        let slots = now.open_table(SLOTS).map_err(|e| fault("read the online slots", e))?;
        let dropped = now.open_table(DROPPED).map_err(|e| fault("read the dropped epochs", e))?;
        let mut known = Known { slots: HashMap::new(), next_epoch: 1 };
        for entry in slots.iter().map_err(unreadable("read the online slots"))? {
            let (name, value) = entry.map_err(unreadable("read the online slots"))?;
            let name = String::from_utf8_lossy(name.value()).into_owned();
            let slot: Slot =
                serde_json::from_slice(value.value()).map_err(|e| Fault::damaged(format!("table `online_slots`, row `{name}`: {e}")))?;
            known.next_epoch = known.next_epoch.max(slot.epoch + 1);
            known.slots.insert(name, slot);
        }
        let mut left = Vec::new();
        for entry in dropped.iter().map_err(unreadable("read the dropped epochs"))? {
            let (key, _) = entry.map_err(unreadable("read the dropped epochs"))?;
            left.push(number(key.value(), "online_dropped", "?")?);
        }
        known.next_epoch = known.next_epoch.max(left.iter().max().map_or(1, |epoch| epoch + 1));
        drop((slots, dropped, now));
        let inner =
            Inner { store, now: LastCommit::default(), newest: Newest::default(), known: RwLock::new(known), writing: Mutex::new(()) };
        for epoch in left {
            inner.delete_epoch(epoch)?;
        }
        Ok(EmbeddedOnline { inner: Arc::new(inner) })
    }

    async fn blocking<T: Send + 'static>(&self, work: impl FnOnce(&Inner) -> Result<T> + Send + 'static) -> Result<T> {
        let inner = Arc::clone(&self.inner);
        tokio::task::spawn_blocking(move || work(&inner))
            .await
            .map_err(|e| Fault::internal("an online operation ended early").because(e))?
    }
}

/// Reads do not leave the thread: they take microseconds, and a hop would take longer.
#[async_trait]
impl Online for EmbeddedOnline {
    async fn write(&self, slot: &str, rows: Vec<OnlineRow>, state: &SlotState) -> Result<()> {
        let (slot, state) = (slot.to_owned(), state.clone());
        self.blocking(move |inner| inner.write(&slot, rows, state)).await
    }
    async fn read(&self, slot: &str, key: &[u8], from: Option<Timestamp>, before: Option<Timestamp>) -> Result<Vec<OnlineRow>> {
        let known = self.inner.known();
        let Some(slot) = known.slots.get(slot) else { return Ok(Vec::new()) };
        let range = Range::of(slot.epoch, key, from, before)?;
        range.map_or(Ok(Vec::new()), |range| range.all(&*self.inner.rows()?, &Bytes::copy_from_slice(key), i64::MAX))
    }
    async fn read_whole(&self, slot: &str, read: OnlineRead<'_>) -> Result<WholeRows> {
        self.inner.read_whole(slot, read)
    }
    async fn state(&self, slot: &str) -> Result<Option<SlotState>> {
        Ok(self.inner.known().slots.get(slot).and_then(|slot| slot.state.clone()))
    }
    async fn expire(&self, slot: &str, now: Timestamp) -> Result<u64> {
        let slot = slot.to_owned();
        self.blocking(move |inner| inner.expire(&slot, now)).await
    }
    async fn clear(&self, slot: &str) -> Result<()> {
        let slot = slot.to_owned();
        self.blocking(move |inner| inner.clear(&slot)).await
    }
    async fn keys(&self, slot: &str, limit: usize) -> Result<Vec<Bytes>> {
        let slot = slot.to_owned();
        self.blocking(move |inner| inner.keys(&slot, limit)).await
    }
}

impl Inner {
    fn known(&self) -> std::sync::RwLockReadGuard<'_, Known> {
        self.known.read().unwrap_or_else(PoisonError::into_inner)
    }
    fn one_writer(&self) -> std::sync::MutexGuard<'_, ()> {
        self.writing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn commit(&self, what: &str, batch: Batch, bytes: u64) -> Result<()> {
        let done = self.store.commit(what, batch, bytes);
        self.now.forget();
        done
    }

    fn write(&self, name: &str, rows: Vec<OnlineRow>, state: SlotState) -> Result<()> {
        check_name(name)?;
        let _writer = self.one_writer();
        let slot = {
            let known = self.known();
            match known.slots.get(name) {
                None => Slot { epoch: known.next_epoch, state: Some(state) },
                Some(Slot { epoch, state: before }) => {
                    let state = before.as_ref().map_or_else(|| state.clone(), |before| before.then(&state));
                    Slot { epoch: *epoch, state: Some(state) }
                }
            }
        };
        let epoch = slot.epoch;
        let encoded = serde_json::to_vec(&slot).map_err(|e| Fault::internal("encode a slot").because(e))?;
        let mut batch = Batch::default();
        let mut bytes = (name.len() + encoded.len()) as u64;
        for row in &rows {
            let key = row_key(epoch, row)?;
            bytes += (key.len() + row.value.len()) as u64;
            batch.insert(ROWS, key, row.value.as_ref());
        }
        batch.insert(SLOTS, name, encoded);
        let written = self.commit("write online rows", batch, bytes);
        // Whatever became of it: a fault does not say that nothing was written.
        rows.iter().for_each(|row| self.newest.forget(epoch, &row.key));
        written?;
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        known.next_epoch = known.next_epoch.max(epoch + 1);
        known.slots.insert(name.to_owned(), slot);
        Ok(())
    }

    /// Rows first, then the state that says so: a writer makes its rows durable before it changes `known`, which is held here.
    fn read_whole(&self, name: &str, OnlineRead { keys, from, before, newest }: OnlineRead<'_>) -> Result<WholeRows> {
        let known = self.known();
        let Some(Slot { epoch, state }) = known.slots.get(name) else {
            return Ok(WholeRows { state: None, rows: vec![Vec::new(); keys.len()] });
        };
        let whole = state.as_ref().map_or(0, |state| state.load);
        if newest {
            let of_key = |key: &Bytes| Ok(self.newest(*epoch, key, (from, before), whole)?.into_iter().collect());
            return Ok(WholeRows { rows: keys.iter().map(of_key).collect::<Result<_>>()?, state: state.clone() });
        }
        let rows = self.rows()?;
        let of_key = |key: &Bytes| match Range::of(*epoch, key, from, before)? {
            None => Ok(Vec::new()),
            Some(range) => range.all(&rows, key, whole),
        };
        Ok(WholeRows { rows: keys.iter().map(of_key).collect::<Result<_>>()?, state: state.clone() })
    }

    /// The newest row of a key between the edges, of loads up to `whole`. Whoever calls holds `known`.
    fn newest(&self, epoch: u64, key: &Bytes, edges: (Option<Timestamp>, Option<Timestamp>), whole: i64) -> Result<Option<OnlineRow>> {
        let (from, before) = edges;
        let newest = match self.newest.of(epoch, key) {
            Some(row) => Some(row),
            None => self.newest_of_all(epoch, key)?,
        };
        match newest {
            // Nothing is newer, so nothing is inside either.
            Some(row) if from.is_some_and(|from| row.at < from) => Ok(None),
            Some(row) if row.load <= whole && before.is_none_or(|before| row.at < before) => Ok(Some(row)),
            Some(_) => Range::of(epoch, key, from, before)?.map_or(Ok(None), |range| range.newest(&*self.rows()?, key, whole)),
            None => Ok(None),
        }
    }

    /// The newest row of a key, looked up and remembered.
    fn newest_of_all(&self, epoch: u64, key: &Bytes) -> Result<Option<OnlineRow>> {
        let before = self.store.commits();
        let Some(range) = Range::of(epoch, key, None, None)? else { return Ok(None) };
        let newest = range.newest(&*self.rows()?, key, i64::MAX)?;
        if let Some(row) = &newest {
            self.newest.remember(epoch, row.clone());
            // Somebody wrote meanwhile, and may have looked here before it was remembered.
            if self.store.commits() != before {
                self.newest.forget(epoch, key);
            }
        }
        Ok(newest)
    }

    /// The rows as they are now.
    fn rows(&self) -> Result<Arc<Rows>> {
        self.now.get(&self.store, ROWS, "read online rows")
    }

    /// Jumps from key to key: each costs one look for its oldest rows, not a walk over all of them. Writers go on meanwhile.
    fn expire(&self, name: &str, now: Timestamp) -> Result<u64> {
        let Some(slot @ Slot { epoch, state: Some(state) }) = &self.known().slots.get(name).cloned() else { return Ok(0) };
        let Some(before) = state.needed_from(now) else { return Ok(0) };
        let (mut expired, mut old, mut at) = (0, Vec::new(), epoch.to_be_bytes().to_vec());
        let end = behind(&epoch.to_be_bytes());
        // A read table is one moment: what is deleted on the way does not disturb the walk.
        let rows = self.rows()?;
        loop {
            let mut next = None;
            for entry in rows.range(at.as_slice()..end.as_slice()).map_err(unreadable("expire online rows"))? {
                let (key, _) = entry.map_err(unreadable("expire online rows"))?;
                let stored = key.value();
                let prefix = stored.len().saturating_sub(TAIL_BYTES);
                if tail(stored, prefix)?.0 >= before {
                    next = Some(behind(&stored[..prefix]));
                    break;
                }
                old.push(stored.to_vec());
                if old.len() == DELETE_ROWS {
                    match self.forget(name, slot, before, &mut old)? {
                        Some(forgotten) => expired += forgotten,
                        None => return Ok(expired),
                    }
                }
            }
            match next {
                Some(next) => at = next,
                None => break,
            }
        }
        Ok(expired + self.forget(name, slot, before, &mut old)?.unwrap_or_default())
    }

    /// Deletes rows older than `before`, unless the slot was cleared or has come to need them since it was looked at: then `None`.
    fn forget(&self, name: &str, seen: &Slot, before: Timestamp, old: &mut Vec<Vec<u8>>) -> Result<Option<u64>> {
        let _writer = self.one_writer();
        let Some(mut slot) = self.known().slots.get(name).cloned() else { return Ok(None) };
        let (Some(state), Some(then)) = (slot.state.as_mut(), &seen.state) else { return Ok(None) };
        if slot.epoch != seen.epoch || state.window != then.window {
            return Ok(None);
        }
        if !old.is_empty() && state.kept_from < Some(before) {
            state.kept_from = Some(before);
            let encoded = serde_json::to_vec(&slot).map_err(|e| Fault::internal("encode a slot").because(e))?;
            let mut batch = Batch::default();
            batch.insert(SLOTS, name, encoded);
            self.commit("say what an online slot forgets", batch, 0)?;
            self.known.write().unwrap_or_else(PoisonError::into_inner).slots.insert(name.to_owned(), slot);
        }
        self.delete(old).map(Some)
    }

    fn clear(&self, name: &str) -> Result<()> {
        let _writer = self.one_writer();
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        let Some(slot) = known.slots.get(name).cloned() else { return Ok(()) };
        let next = Slot { epoch: known.next_epoch, state: None };
        let encoded = serde_json::to_vec(&next).map_err(|e| Fault::internal("encode a slot").because(e))?;
        let mut batch = Batch::default();
        batch.insert(SLOTS, name, encoded);
        batch.insert(DROPPED, slot.epoch.to_be_bytes(), []);
        self.commit("clear an online slot", batch, 256)?;
        known.next_epoch += 1;
        known.slots.insert(name.to_owned(), next);
        drop(known);
        self.delete_epoch(slot.epoch)
    }

    fn delete_epoch(&self, epoch: u64) -> Result<()> {
        let mut old = Vec::new();
        let (begin, end) = (epoch.to_be_bytes(), behind(&epoch.to_be_bytes()));
        for entry in self.rows()?.range(begin.as_slice()..end.as_slice()).map_err(unreadable("clear an online slot"))? {
            old.push(entry.map_err(unreadable("clear an online slot"))?.0.value().to_vec());
            if old.len() == DELETE_ROWS {
                self.delete(&mut old)?;
            }
        }
        self.delete(&mut old)?;
        let mut batch = Batch::default();
        batch.remove(DROPPED, epoch.to_be_bytes());
        self.commit("clear an online slot", batch, 0)
    }

    fn delete(&self, keys: &mut Vec<Vec<u8>>) -> Result<u64> {
        let count = keys.len() as u64;
        if count > 0 {
            let mut batch = Batch::default();
            keys.drain(..).for_each(|key| batch.remove(ROWS, key));
            // Deleting makes room in the end, so it is not refused for want of it.
            let deleted = self.commit("delete online rows", batch, 0);
            self.newest.forget_all();
            deleted?;
        }
        Ok(count)
    }

    fn keys(&self, name: &str, limit: usize) -> Result<Vec<Bytes>> {
        let known = self.known();
        let Some(epoch) = known.slots.get(name).map(|slot| slot.epoch) else { return Ok(Vec::new()) };
        let rows = self.rows()?;
        let (mut found, mut at, end) = (Vec::new(), epoch.to_be_bytes().to_vec(), behind(&epoch.to_be_bytes()));
        while found.len() < limit {
            let mut range = rows.range(at.as_slice()..end.as_slice()).map_err(unreadable("list online keys"))?;
            let Some(entry) = range.next() else { break };
            let (key, _) = entry.map_err(unreadable("list online keys"))?;
            let stored = key.value();
            let prefix = stored.len().saturating_sub(TAIL_BYTES);
            found.push(unescape(&stored[..prefix])?);
            let next = behind(&stored[..prefix]);
            drop(key);
            at = next;
        }
        Ok(found)
    }
}

/// Where the rows of a key are.
struct Range {
    prefix: usize,
    start: Vec<u8>,
    end: Vec<u8>,
}

impl Range {
    /// `None` if nothing can be there.
    fn of(epoch: u64, key: &[u8], from: Option<Timestamp>, before: Option<Timestamp>) -> Result<Option<Range>> {
        let prefix = key_prefix(epoch, key)?;
        let edge = |time: Option<Timestamp>| time.map(|t| [prefix.as_slice(), &sortable(t.micros())].concat());
        let end = edge(before).unwrap_or_else(|| behind(&prefix));
        let (length, start) = (prefix.len(), edge(from).unwrap_or(prefix));
        Ok((start < end).then_some(Range { prefix: length, start, end }))
    }

    /// The rows of loads up to `whole`, in order.
    fn all(&self, rows: &Rows, key: &Bytes, whole: i64) -> Result<Vec<OnlineRow>> {
        let mut found = Vec::new();
        for entry in self.entries(rows)? {
            found.extend(self.row(entry, key, whole)?);
        }
        Ok(found)
    }

    /// The newest of them.
    fn newest(&self, rows: &Rows, key: &Bytes, whole: i64) -> Result<Option<OnlineRow>> {
        for entry in self.entries(rows)?.rev() {
            if let Some(row) = self.row(entry, key, whole)? {
                return Ok(Some(row));
            }
        }
        Ok(None)
    }

    fn entries(&self, rows: &Rows) -> Result<redb::Range<'static, &'static [u8], &'static [u8]>> {
        rows.range(self.start.as_slice()..self.end.as_slice()).map_err(unreadable("read online rows"))
    }

    fn row(&self, entry: std::result::Result<Entry, redb::StorageError>, key: &Bytes, whole: i64) -> Result<Option<OnlineRow>> {
        let (stored, value) = entry.map_err(unreadable("read online rows"))?;
        let (at, load, row) = tail(stored.value(), self.prefix)?;
        Ok((load <= whole).then(|| OnlineRow { key: key.clone(), at, load, row, value: Bytes::copy_from_slice(value.value()) }))
    }
}

fn check_name(name: &str) -> Result<()> {
    if name.is_empty() || name.len() > NAME_BYTES_MAX {
        return Err(Fault::invalid(Code::BAD_VALUE, format!("slot name `{name}` must have 1 to {NAME_BYTES_MAX} bytes")));
    }
    Ok(())
}

/// What all rows of an entity begin with: no other entity's rows do, and entities sort as their keys do.
fn key_prefix(epoch: u64, key: &[u8]) -> Result<Vec<u8>> {
    if key.len() > KEY_BYTES_MAX {
        return Err(Fault::invalid(Code::BAD_VALUE, format!("an entity key has {} bytes; the limit is {KEY_BYTES_MAX}", key.len())));
    }
    let mut out = Vec::with_capacity(EPOCH_BYTES + key.len() + 2 + TAIL_BYTES);
    out.extend(epoch.to_be_bytes());
    for byte in key {
        out.push(*byte);
        if *byte == 0 {
            out.push(0xff);
        }
    }
    out.extend([0, 1]);
    Ok(out)
}

fn unescape(prefix: &[u8]) -> Result<Bytes> {
    let damaged = || Fault::damaged(format!("table `online_rows`, entity key, row `{}`: it does not end", hex::encode(prefix)));
    let escaped = prefix.get(EPOCH_BYTES..).and_then(|rest| rest.strip_suffix(&[0, 1])).ok_or_else(damaged)?;
    let mut key = Vec::with_capacity(escaped.len());
    let mut bytes = escaped.iter();
    while let Some(byte) = bytes.next() {
        key.push(*byte);
        if *byte == 0 && bytes.next() != Some(&0xff) {
            return Err(damaged());
        }
    }
    Ok(Bytes::from(key))
}

fn row_key(epoch: u64, row: &OnlineRow) -> Result<Vec<u8>> {
    let mut key = key_prefix(epoch, &row.key)?;
    key.extend(sortable(row.at.micros()));
    key.extend(sortable(row.load));
    key.extend(sortable(row.row));
    Ok(key)
}

fn tail(key: &[u8], prefix: usize) -> Result<(Timestamp, i64, i64)> {
    let part = |from: usize| eight(key, prefix + from, "online_rows", Hex(key)).map(unsortable);
    Ok((Timestamp::from_micros(part(0)?), part(8)?, part(16)?))
}

/// The first key that does not begin with `prefix`.
fn behind(prefix: &[u8]) -> Vec<u8> {
    let mut next = prefix.to_vec();
    while let Some(last) = next.last_mut() {
        if *last < 0xff {
            *last += 1;
            return next;
        }
        next.pop();
    }
    // Only an epoch of all ones has nothing behind it, and epochs count from 1.
    vec![0xff; EPOCH_BYTES + 1]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn keeps_the_promises_of_online() {
        let dir = tempfile::tempdir().unwrap();
        let count = std::sync::atomic::AtomicU32::new(0);
        crate::suite::online::run(|| {
            let path = dir.path().join(count.fetch_add(1, std::sync::atomic::Ordering::Relaxed).to_string());
            async move { EmbeddedOnline::open(&path).unwrap() }
        })
        .await;
    }

    /// Each load has a row of the key, so the newest whole one is always that of the state's load.
    #[tokio::test(flavor = "multi_thread", worker_threads = 3)]
    async fn the_newest_row_is_that_of_the_newest_load_while_loads_are_written() {
        let dir = tempfile::tempdir().unwrap();
        let online = EmbeddedOnline::open(dir.path()).unwrap();
        let state = |load| SlotState { layout: "l".into(), generation: 1, load, ..SlotState::default() };
        let rows = |load: i64| {
            (0..20).map(move |key| OnlineRow { key: vec![key].into(), at: Timestamp::from_micros(load), load, row: 0, value: "v".into() })
        };
        online.write("s", rows(1).collect(), &state(1)).await.unwrap();
        let readers = (0..2).map(|_| {
            let online = online.clone();
            tokio::spawn(async move {
                let keys: Vec<Bytes> = (0..20).map(|key| vec![key].into()).collect();
                let (mut last, mut reads) = (0, 0);
                while last < 300 {
                    let read = OnlineRead { keys: &keys, from: None, before: None, newest: true };
                    let found = online.read_whole("s", read).await.unwrap();
                    last = found.state.unwrap().load;
                    for rows in found.rows {
                        assert_eq!(rows.iter().map(|row| row.load).collect::<Vec<_>>(), [last]);
                    }
                    reads += 1;
                    tokio::task::yield_now().await;
                }
                reads
            })
        });
        let readers: Vec<_> = readers.collect();
        for load in 2..=300 {
            online.write("s", rows(load).collect(), &state(load - 1)).await.unwrap();
            online.write("s", Vec::new(), &state(load)).await.unwrap();
        }
        for reader in readers {
            assert!(reader.await.unwrap() > 100);
        }
    }

    #[tokio::test]
    async fn slots_are_as_they_were_after_opening_again() {
        let dir = tempfile::tempdir().unwrap();
        let row = |load| OnlineRow { key: "a".into(), at: Timestamp::from_micros(1), load, row: 0, value: "v".into() };
        let state = SlotState { layout: "l".into(), generation: 1, load: 2, ..SlotState::default() };
        {
            let online = EmbeddedOnline::open(dir.path()).unwrap();
            online.write("kept", vec![row(1), row(2)], &state).await.unwrap();
            online.write("cleared", vec![row(1)], &state).await.unwrap();
            online.clear("cleared").await.unwrap();
        }
        let online = EmbeddedOnline::open(dir.path()).unwrap();
        assert_eq!(online.read("kept", b"a", None, None).await.unwrap(), [row(1), row(2)]);
        assert_eq!(online.state("kept").await.unwrap(), Some(state.clone()));
        assert_eq!(online.state("cleared").await.unwrap(), None);
        online.write("new", vec![row(3)], &state).await.unwrap();
        assert_eq!(online.read("new", b"a", None, None).await.unwrap(), [row(3)], "epochs are not used twice");
        assert!(online.read("cleared", b"a", None, None).await.unwrap().is_empty());
    }
}
