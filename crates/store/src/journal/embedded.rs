//! The journal in the embedded database. The layout is in [`crate::embedded`].
//!
//! One thread writes. It takes every append that waits, writes them as one batch, syncs once, and only then answers them all:
//! many appenders share one sync. If the write or the sync fails, none of them is acknowledged and no later append is, until the
//! state folder is opened again: a sync that failed once must not be asked again.

use crate::embedded::{Batch, Embedded, File, Table, eight, fault, number, sortable, unreadable, unsortable};
use async_trait::async_trait;
use bytes::Bytes;
use gristmill_kernel::port::{Journal, JournalEntry, JournalState};
use gristmill_kernel::time::Span;
use gristmill_kernel::{Code, Fault, Kind, Name, Result, Timestamp, limits};
use redb::ReadableTable as _;
use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use tokio::sync::{mpsc, oneshot};

/// How long an idempotency key is remembered.
const KEYS_KEPT: Span = Span::from_secs(2 * 24 * 60 * 60);
/// Old keys forgotten per batch: more than one batch brings new ones, so the table stays small.
const KEYS_FORGOTTEN: usize = 2_000;
/// Appends that wait for the writer; beyond it appenders wait to be let in.
const WAITING_MAX: usize = 1_024;
/// Bytes after which a batch takes no further append.
const BATCH_BYTES: usize = 16 << 20;
/// Rows deleted in one batch.
const DELETE_ROWS: usize = 50_000;

const ROWS: Table = Table::new("journal_rows");
const SOURCES: Table = Table::new("journal_sources");
const FORGOTTEN: Table = Table::new("journal_forgotten");
const KEYS: Table = Table::new("journal_keys");
const KEYS_BY_TIME: Table = Table::new("journal_keys_by_time");

/// The journal in the state folder.
pub struct EmbeddedJournal {
    shared: Arc<Shared>,
    appends: Option<mpsc::Sender<Append>>,
    writer: Option<JoinHandle<()>>,
}

struct Shared {
    store: Embedded,
    /// What is acknowledged.
    states: Mutex<BTreeMap<Name, JournalState>>,
    /// One `forget` at a time.
    forgetting: Mutex<()>,
}

struct Append {
    source: Name,
    at: Timestamp,
    rows: Vec<Bytes>,
    idempotency: Option<String>,
    answer: oneshot::Sender<Result<(u64, bool)>>,
}

impl EmbeddedJournal {
    pub(crate) fn open(state_dir: &Path) -> Result<EmbeddedJournal> {
        let store = Embedded::open(state_dir, File::Journal, &[ROWS, SOURCES, FORGOTTEN, KEYS, KEYS_BY_TIME])?;
        let shared = Arc::new(Shared { states: Mutex::new(BTreeMap::new()), forgetting: Mutex::new(()), store });
        shared.load_states()?;
        let (appends, waiting) = mpsc::channel(WAITING_MAX);
        let at_work = Arc::clone(&shared);
        let writer = std::thread::Builder::new()
            .name("journal".into())
            .spawn(move || at_work.write_all(waiting))
            .map_err(|e| Fault::io("start the journal's writer", e))?;
        Ok(EmbeddedJournal { shared, appends: Some(appends), writer: Some(writer) })
    }

    async fn blocking<T: Send + 'static>(&self, work: impl FnOnce(&Shared) -> Result<T> + Send + 'static) -> Result<T> {
        let shared = Arc::clone(&self.shared);
        tokio::task::spawn_blocking(move || work(&shared))
            .await
            .map_err(|e| Fault::internal("a journal operation ended early").because(e))?
    }
}

impl Drop for EmbeddedJournal {
    fn drop(&mut self) {
        // Without senders the writer answers what waits and ends.
        self.appends.take();
        if let Some(writer) = self.writer.take() {
            let _ = writer.join();
        }
    }
}

#[async_trait]
impl Journal for EmbeddedJournal {
    async fn append(&self, source: &Name, at: Timestamp, rows: Vec<Bytes>, idempotency: Option<&str>) -> Result<(u64, bool)> {
        if let Some(key) = idempotency {
            check_key(key)?;
        }
        let (answer, answered) = oneshot::channel();
        let append = Append { source: source.clone(), at, rows, idempotency: idempotency.map(str::to_owned), answer };
        let ended = || Fault::new(Kind::Unavailable, Code::NOT_READY, "the journal's writer has ended").fix("start again");
        self.appends.as_ref().ok_or_else(ended)?.send(append).await.map_err(|_| ended())?;
        answered.await.map_err(|_| ended())?
    }

    async fn read(&self, source: &Name, after: u64, limit: usize) -> Result<Vec<JournalEntry>> {
        let source = source.clone();
        self.blocking(move |shared| shared.read(&source, after, limit)).await
    }

    async fn state(&self, source: &Name) -> Result<JournalState> {
        Ok(self.shared.states().get(source).copied().unwrap_or_default())
    }

    async fn forget(&self, source: &Name, offset: u64) -> Result<()> {
        let source = source.clone();
        self.blocking(move |shared| shared.forget(&source, offset)).await
    }

    async fn sources(&self) -> Result<Vec<Name>> {
        let waiting = |(name, state): (&Name, &JournalState)| (state.last > state.forgotten).then(|| name.clone());
        Ok(self.shared.states().iter().filter_map(waiting).collect())
    }
}

/// The rules for idempotency keys that every journal follows.
pub(crate) fn check_key(key: &str) -> Result<()> {
    if key.is_empty() || key.chars().count() > limits::IDEMPOTENCY_KEY_CHARS_MAX {
        return Err(Fault::invalid(
            Code::BAD_VALUE,
            format!("an idempotency key must have 1 to {} characters", limits::IDEMPOTENCY_KEY_CHARS_MAX),
        ));
    }
    Ok(())
}

/// The error of a source whose events wait too long for a table.
pub(crate) fn too_many_waiting(source: &Name, waiting: u64) -> Fault {
    Fault::new(
        Kind::Busy,
        Code::OVERLOADED,
        format!("source `{source}` has {waiting} pushed rows that no table has yet; the limit is {}", limits::JOURNAL_ROWS_MAX),
    )
    .fix(format!("run gristmill run sources.{source}, then push again"))
}

/// Who waits for a batch, and what it will be told.
type Answer = (oneshot::Sender<Result<(u64, bool)>>, (u64, bool));

/// What one batch is about to change.
struct Group {
    batch: Batch,
    bytes: usize,
    states: HashMap<Name, JournalState>,
    keys: HashMap<Vec<u8>, u64>,
    answers: Vec<Answer>,
    newest: Timestamp,
}

impl Shared {
    fn states(&self) -> std::sync::MutexGuard<'_, BTreeMap<Name, JournalState>> {
        self.states.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn load_states(&self) -> Result<()> {
        let mut states = self.states();
        let what = "read the journal's sources";
        let sources = self.store.read()?.open_table(SOURCES).map_err(|e| fault(what, e))?;
        for entry in sources.iter().map_err(unreadable(what))? {
            let (name, value) = entry.map_err(unreadable(what))?;
            let text = String::from_utf8_lossy(name.value()).into_owned();
            let last = number(value.value(), "journal_sources", &text)?;
            let forgotten = match self.store.get(FORGOTTEN, name.value(), what)? {
                Some(value) => number(&value, "journal_forgotten", &text)?,
                None => 0,
            };
            if forgotten > last {
                return Err(Fault::damaged(format!(
                    "table `journal_forgotten`, row `{text}`: {forgotten} is behind the last entry, {last}"
                )));
            }
            let name = Name::new(&text).map_err(|e| Fault::damaged(format!("table `journal_sources`, key, row `{text}`: {e}")))?;
            states.insert(name, JournalState { last, forgotten });
        }
        Ok(())
    }

    fn write_all(&self, mut waiting: mpsc::Receiver<Append>) {
        while let Some(first) = waiting.blocking_recv() {
            let mut group = Group {
                batch: Batch::default(),
                bytes: 0,
                states: HashMap::new(),
                keys: HashMap::new(),
                answers: Vec::new(),
                newest: first.at,
            };
            self.add(&mut group, first);
            while group.bytes < BATCH_BYTES {
                let Ok(next) = waiting.try_recv() else { break };
                self.add(&mut group, next);
            }
            self.finish(group);
        }
    }

    /// Adds an append to a group, or answers it at once if it cannot be done.
    fn add(&self, group: &mut Group, append: Append) {
        let Append { source, at, rows, idempotency, answer } = append;
        match self.place(group, &source, at, &rows, idempotency.as_deref()) {
            Ok(result) => group.answers.push((answer, result)),
            // The appender may be gone; then nobody needs the answer.
            Err(fault) => drop(answer.send(Err(fault))),
        }
    }

    fn place(&self, group: &mut Group, source: &Name, at: Timestamp, rows: &[Bytes], idempotency: Option<&str>) -> Result<(u64, bool)> {
        let key = idempotency.map(|key| [source.as_str().as_bytes(), &[0], key.as_bytes()].concat());
        if let Some(key) = &key
            && let Some(last) = self.known_key(group, key)?
        {
            return Ok((last, false));
        }
        let mut state = match group.states.get(source) {
            Some(state) => *state,
            None => self.states().get(source).copied().unwrap_or_default(),
        };
        let waiting = state.last - state.forgotten;
        if waiting.saturating_add(rows.len() as u64) > limits::JOURNAL_ROWS_MAX {
            return Err(too_many_waiting(source, waiting));
        }
        for row in rows {
            state.last += 1;
            let value = [&sortable(at.micros())[..], row].concat();
            group.bytes += value.len() + 64;
            group.batch.insert(ROWS, row_key(source, state.last), value);
        }
        if let Some(key) = key {
            let value = [state.last.to_be_bytes(), sortable(at.micros())].concat();
            group.bytes += 2 * key.len() + 64;
            group.batch.insert(KEYS_BY_TIME, [&sortable(at.micros())[..], &key].concat(), []);
            group.batch.insert(KEYS, key.as_slice(), value);
            group.keys.insert(key, state.last);
        }
        group.newest = group.newest.max(at);
        group.states.insert(source.clone(), state);
        Ok((state.last, true))
    }

    fn known_key(&self, group: &Group, key: &[u8]) -> Result<Option<u64>> {
        if let Some(last) = group.keys.get(key) {
            return Ok(Some(*last));
        }
        let stored = self.store.get(KEYS, key, "look for an idempotency key")?;
        stored.map(|value| number(&value, "journal_keys", String::from_utf8_lossy(key))).transpose()
    }

    fn finish(&self, mut group: Group) {
        let written = self.commit(&mut group);
        match written {
            Ok(()) => {
                let mut states = self.states();
                for (name, state) in group.states {
                    states.entry(name).or_default().last = state.last;
                }
                drop(states);
                for (answer, result) in group.answers {
                    let _ = answer.send(Ok(result));
                }
            }
            Err(fault) => {
                tracing::error!(error = %fault, appends = group.answers.len(), "the journal could not be written; nothing was acknowledged");
                for (answer, _) in group.answers {
                    let again = Fault {
                        kind: fault.kind,
                        code: fault.code,
                        message: fault.message.clone(),
                        fix: fault.fix.clone(),
                        spot: None,
                        source: None,
                    };
                    let _ = answer.send(Err(again));
                }
            }
        }
    }

    fn commit(&self, group: &mut Group) -> Result<()> {
        // Known keys only: an earlier group has written and synced what they stand for.
        if group.states.is_empty() {
            return Ok(());
        }
        for (name, state) in &group.states {
            group.batch.insert(SOURCES, name.as_str(), state.last.to_be_bytes());
        }
        self.forget_keys(group)?;
        let batch = std::mem::take(&mut group.batch);
        self.store.commit("append to the journal", batch, group.bytes as u64)
    }

    fn forget_keys(&self, group: &mut Group) -> Result<()> {
        let end = sortable(group.newest.minus(KEYS_KEPT).micros());
        let what = "forget idempotency keys";
        let by_time = self.store.read()?.open_table(KEYS_BY_TIME).map_err(|e| fault(what, e))?;
        for entry in by_time.range(..end.as_slice()).map_err(unreadable(what))?.take(KEYS_FORGOTTEN) {
            let (stored, _) = entry.map_err(unreadable(what))?;
            if let Some(key) = stored.value().get(8..) {
                group.batch.remove(KEYS, key);
            }
            group.batch.remove(KEYS_BY_TIME, stored.value());
        }
        Ok(())
    }

    fn read(&self, source: &Name, after: u64, limit: usize) -> Result<Vec<JournalEntry>> {
        loop {
            // Only what is acknowledged is read: `last` rises when the sync has returned.
            let state = self.states().get(source).copied().unwrap_or_default();
            let first = after.max(state.forgotten).saturating_add(1);
            if first > state.last {
                return Ok(Vec::new());
            }
            if let Some(entries) = self.read_range(source, first, state.last, limit)? {
                return Ok(entries);
            }
            // An entry was missing: right if it was forgotten meanwhile, damage if not.
            if self.states().get(source).copied().unwrap_or_default().forgotten == state.forgotten {
                return Err(Fault::damaged(format!("table `journal_rows`, rows `{source} {first}` to `{}`: one is missing", state.last)));
            }
        }
    }

    /// Entries from `first` on, or `None` if one is missing.
    fn read_range(&self, source: &Name, first: u64, last: u64, limit: usize) -> Result<Option<Vec<JournalEntry>>> {
        let wanted = usize::try_from(last - first + 1).unwrap_or(usize::MAX).min(limit);
        let mut entries = Vec::with_capacity(wanted);
        let rows = self.store.read()?.open_table(ROWS).map_err(|e| fault("read the journal", e))?;
        let (begin, end) = (row_key(source, first), row_key(source, last));
        let range = rows.range(begin.as_slice()..=end.as_slice()).map_err(unreadable("read the journal"))?;
        for (entry, offset) in range.take(limit).zip(first..) {
            let (key, value) = entry.map_err(unreadable("read the journal"))?;
            if key.value() != row_key(source, offset).as_slice() {
                return Ok(None);
            }
            let value = value.value();
            let at = eight(value, 0, "journal_rows", format_args!("{source} {offset}")).map(unsortable)?;
            entries.push(JournalEntry { offset, at: Timestamp::from_micros(at), row: Bytes::copy_from_slice(&value[8..]) });
        }
        Ok((entries.len() == wanted).then_some(entries))
    }

    fn forget(&self, source: &Name, offset: u64) -> Result<()> {
        let _one = self.forgetting.lock().unwrap_or_else(PoisonError::into_inner);
        let state = self.states().get(source).copied().unwrap_or_default();
        let (mut from, offset) = (state.forgotten + 1, offset.min(state.last));
        while from <= offset {
            let to = offset.min(from + DELETE_ROWS as u64 - 1);
            let mut batch = Batch::default();
            (from..=to).for_each(|n| batch.remove(ROWS, row_key(source, n)));
            batch.insert(FORGOTTEN, source.as_str(), to.to_be_bytes());
            // Readers first: they must not look for what is about to go.
            self.states().entry(source.clone()).or_default().forgotten = to;
            self.store.commit("forget journal rows", batch, 0)?;
            from = to + 1;
        }
        Ok(())
    }
}

fn row_key(source: &Name, offset: u64) -> Vec<u8> {
    [source.as_str().as_bytes(), &[0], &offset.to_be_bytes()].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Name {
        Name::new(text).unwrap()
    }

    #[tokio::test]
    async fn keeps_the_promises_of_a_journal() {
        let dir = tempfile::tempdir().unwrap();
        let count = std::sync::atomic::AtomicU32::new(0);
        crate::suite::journal::run(|| {
            let path = dir.path().join(count.fetch_add(1, std::sync::atomic::Ordering::Relaxed).to_string());
            async move { EmbeddedJournal::open(&path).unwrap() }
        })
        .await;
    }

    #[tokio::test]
    async fn what_was_acknowledged_is_there_after_opening_again() {
        let (dir, a, now) = (tempfile::tempdir().unwrap(), name("a"), Timestamp::from_micros(5));
        {
            let journal = EmbeddedJournal::open(dir.path()).unwrap();
            journal.append(&a, now, vec!["1".into(), "2".into()], Some("k")).await.unwrap();
            journal.forget(&a, 1).await.unwrap();
        }
        let journal = EmbeddedJournal::open(dir.path()).unwrap();
        assert_eq!(journal.state(&a).await.unwrap(), JournalState { last: 2, forgotten: 1 });
        assert_eq!(journal.append(&a, now, vec!["1".into()], Some("k")).await.unwrap(), (2, false));
        assert_eq!(journal.append(&a, now, vec!["3".into()], None).await.unwrap(), (3, true));
        let rows: Vec<Bytes> = journal.read(&a, 0, 9).await.unwrap().into_iter().map(|e| e.row).collect();
        assert_eq!(rows, ["2", "3"]);
    }

    #[tokio::test]
    async fn old_idempotency_keys_are_forgotten() {
        let (dir, a) = (tempfile::tempdir().unwrap(), name("a"));
        let journal = EmbeddedJournal::open(dir.path()).unwrap();
        let day = Span::from_secs(86_400);
        let mut now = Timestamp::from_micros(0);
        journal.append(&a, now, vec!["1".into()], Some("k")).await.unwrap();
        for _ in 0..3 {
            now = now.plus(day);
            journal.append(&a, now, vec!["x".into()], None).await.unwrap();
        }
        assert_eq!(journal.append(&a, now, vec!["1".into()], Some("k")).await.unwrap(), (5, true));
    }

    #[tokio::test]
    async fn a_second_owner_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let _first = EmbeddedJournal::open(dir.path()).unwrap();
        let fault = EmbeddedJournal::open(dir.path()).err().unwrap();
        assert!(fault.code == Code::STATE_LOCKED && fault.fix.is_some(), "{fault}");
    }
}
