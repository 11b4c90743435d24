//! Points that are durable in the journal and not in the tables yet, and the thread that brings them there, as many as there are at once:
//! a point then costs a sixth of what it costs in a transaction of its own.
//!
//! Promises: whoever reads after a point was acknowledged finds it, because readers wait here until what was logged before them is in the
//! tables ([`Behind::settled`]); other processes find it [`APPLY_AFTER`] later, or when they open the ledger; points of runs that were purged
//! meanwhile are dropped. While the tables cannot be written nothing is lost: readers are told why, and the thread tries again.

use super::direct::Direct;
use super::group::lost;
use super::journal::{self, Journal, LogFile};
use super::log;
use super::rows::PointRow;
use gristmill_kernel::{Fault, Result};
use sqlx::sqlite::SqliteConnection;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex as Lock, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::{Mutex, oneshot};

/// Points that are applied without waiting for more: beyond so many a point does not become cheaper.
const APPLY_POINTS: usize = 2_000;
/// The longest that points stay out of the tables when nobody asks for them.
const APPLY_AFTER: Duration = Duration::from_millis(250);
/// Between two attempts when the tables cannot be written.
const TRY_AGAIN_AFTER: Duration = Duration::from_secs(1);

/// What is between the journal and the tables.
pub(in super::super) struct Behind {
    ledger: PathBuf,
    turn: Arc<Mutex<SqliteConnection>>,
    state: Lock<State>,
    changed: Condvar,
    /// Points that were ever appended, and that were ever applied: while they are equal, readers wait for nothing and take no lock.
    appended: AtomicU64,
    applied: AtomicU64,
}

#[derive(Default)]
struct State {
    journal: Place,
    waiting: Vec<PointRow>,
    /// When the first of them came.
    since: Option<Instant>,
    /// Whether somebody waits for them.
    asked: bool,
    /// Who waits, and for which of all points that were ever appended.
    readers: Vec<(u64, oneshot::Sender<Result<()>>)>,
    /// Whether a thread is there that applies.
    served: bool,
    /// Nothing will come any more.
    ended: bool,
}

#[derive(Default)]
enum Place {
    /// The journal is made when it is first needed.
    #[default]
    Unclaimed,
    Open(Journal),
    /// Its points may be nowhere else on the disk: nothing is added or removed, and whoever opens the ledger next replays it.
    Kept(#[expect(dead_code, reason = "its lock is held as long as it is open")] Journal),
    /// There is none: what is logged goes into the tables at once.
    None,
}

/// Points on their way into the tables.
struct Taken {
    rows: Vec<PointRow>,
    /// What they are in the journal.
    generation: Option<u64>,
    /// All that was appended until now.
    up_to: u64,
}

impl Behind {
    pub(in super::super) fn new(ledger: &Path, turn: Arc<Mutex<SqliteConnection>>) -> Behind {
        Behind {
            ledger: ledger.to_owned(),
            turn,
            state: Lock::default(),
            changed: Condvar::new(),
            appended: AtomicU64::new(0),
            applied: AtomicU64::new(0),
        }
    }

    /// Writes points into the journal; they are durable once the answered file is synced. `None` if the journal does not take them.
    pub(super) fn append(&self, rows: &[PointRow]) -> Option<Arc<LogFile>> {
        let mut state = self.state();
        if !state.served {
            return None;
        }
        if matches!(state.journal, Place::Unclaimed) {
            state.journal = claim(&self.ledger);
        }
        let Place::Open(journal) = &mut state.journal else { return None };
        let written = journal.append(rows);
        let log = journal.log();
        if !written.inspect_err(|e| tracing::warn!(error = %e, "the journal cannot be written")).unwrap_or(false) {
            return None;
        }
        let before = state.waiting.len();
        state.waiting.extend_from_slice(rows);
        state.since.get_or_insert_with(Instant::now);
        let after = state.waiting.len();
        self.appended.fetch_add(rows.len() as u64, Ordering::AcqRel);
        drop(state);
        if before == 0 || (before < APPLY_POINTS && after >= APPLY_POINTS) {
            self.changed.notify_one();
        }
        Some(log)
    }

    /// Waits until everything that was acknowledged until now is in the tables.
    pub(in super::super) async fn settled(&self) -> Result<()> {
        match self.ask() {
            Some(answer) => answer.await.unwrap_or_else(|_| Err(lost())),
            None => Ok(()),
        }
    }

    /// The same for a thread that may wait.
    pub(super) fn settle(&self) -> Result<()> {
        self.ask().map_or(Ok(()), |answer| answer.blocking_recv().unwrap_or_else(|_| Err(lost())))
    }

    fn ask(&self) -> Option<oneshot::Receiver<Result<()>>> {
        let wanted = self.appended.load(Ordering::Acquire);
        if self.applied.load(Ordering::Acquire) >= wanted {
            return None;
        }
        let mut state = self.state();
        if self.applied.load(Ordering::Acquire) >= wanted {
            return None;
        }
        let (answer, answered) = oneshot::channel();
        if !state.served {
            // It ended in the middle, which its own faults do not make it.
            let told = "points are in the journal and not in the ledger, and the thread that writes them there is gone";
            let _ = answer.send(Err(Fault::internal(told).fix("start again: the journal is replayed, nothing is lost")));
            return Some(answered);
        }
        state.readers.push((wanted, answer));
        state.asked = true;
        drop(state);
        self.changed.notify_one();
        Some(answered)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Before [`Served::serve`], so that points may be appended before its thread has begun.
    pub(super) fn begin(&self) -> Served<'_> {
        let mut state = self.state();
        (state.served, state.ended) = (true, false);
        Served(self)
    }

    /// Lets [`Served::serve`] end when nothing waits any more.
    pub(super) fn end(&self) {
        self.state().ended = true;
        self.changed.notify_one();
    }

    /// Waits until points are due; `None` at the end.
    fn take(&self) -> Option<Taken> {
        let mut state = self.state();
        loop {
            if state.waiting.is_empty() {
                if state.ended {
                    return None;
                }
                state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            let left = APPLY_AFTER.saturating_sub(state.since.map_or(APPLY_AFTER, |since| since.elapsed()));
            if left.is_zero() || state.asked || state.ended || state.waiting.len() >= APPLY_POINTS {
                break;
            }
            state = self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        (state.since, state.asked) = (None, false);
        let generation = match &mut state.journal {
            Place::Open(journal) => Some(journal.turn_over()),
            Place::Unclaimed | Place::Kept(_) | Place::None => None,
        };
        Some(Taken { rows: std::mem::take(&mut state.waiting), generation, up_to: self.appended.load(Ordering::Acquire) })
    }

    /// Writes points into the tables.
    fn write(&self, db: &mut Option<Direct>, taken: &Taken) -> Result<()> {
        let turn = self.turn.blocking_lock();
        let db = Direct::kept(db, &self.ledger)?;
        db.write(|db| log::apply(db, &taken.rows))?;
        drop(turn);
        // Readers need not wait for the disk: it has the points in the journal.
        self.told(taken.up_to);
        self.mark(taken.generation, db.log().sync());
        Ok(())
    }

    /// Answers those who waited for nothing beyond this.
    fn told(&self, up_to: u64) {
        let mut state = self.state();
        self.applied.store(up_to, Ordering::Release);
        let (done, later) = std::mem::take(&mut state.readers).into_iter().partition(|(wanted, _)| *wanted <= up_to);
        state.readers = later;
        drop(state);
        answer(done, None);
    }

    /// Answers everybody who waits that the tables cannot be written.
    fn refuse(&self, fault: &Fault) {
        let readers = {
            let mut state = self.state();
            state.asked = false;
            std::mem::take(&mut state.readers)
        };
        answer(readers, Some(fault));
    }

    /// Frees the half of the journal whose points are in the tables, durably.
    fn mark(&self, generation: Option<u64>, synced: Result<()>) {
        let mut state = self.state();
        let Place::Open(journal) = &mut state.journal else { return };
        match (synced, generation) {
            (Ok(()), Some(generation)) => journal.applied(generation),
            (Ok(()), None) => {}
            (Err(fault), _) => {
                tracing::error!(error = %fault, "the journal of points is kept as it is and no longer used");
                state.keep();
            }
        }
    }

    /// A while, or until somebody asks; whether to try again.
    fn pause(&self) -> bool {
        let state = self.state();
        let waited = self.changed.wait_timeout_while(state, TRY_AGAIN_AFTER, |state| !state.asked && !state.ended);
        !waited.unwrap_or_else(PoisonError::into_inner).0.ended
    }
}

impl State {
    fn keep(&mut self) {
        self.journal = match std::mem::take(&mut self.journal) {
            Place::Open(journal) => Place::Kept(journal),
            other => other,
        };
    }
}

/// That a thread is there, or will be. However it ends, nobody waits for it any more, and points that it did not bring into the tables stay
/// in the journal.
pub(super) struct Served<'b>(&'b Behind);

impl Served<'_> {
    /// Brings points into the tables until [`Behind::end`]. Afterwards there is no journal, or one that must be replayed.
    pub(super) fn serve(self) {
        let behind = self.0;
        let mut db = None;
        while let Some(taken) = behind.take() {
            while let Err(fault) = behind.write(&mut db, &taken) {
                tracing::warn!(error = %fault, points = taken.rows.len(), "points of the journal cannot be written into the ledger");
                db = None;
                behind.refuse(&fault);
                if !behind.pause() {
                    return;
                }
            }
        }
        if let Place::Open(journal) = std::mem::take(&mut behind.state().journal) {
            journal.remove();
        }
    }
}

impl Drop for Served<'_> {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.served = false;
        state.keep();
        state.readers.clear();
    }
}

fn answer(readers: Vec<(u64, oneshot::Sender<Result<()>>)>, fault: Option<&Fault>) {
    for (_, reader) in readers {
        // Nobody listens when the caller went away.
        let _ = reader.send(fault.map_or(Ok(()), |fault| Err(fault.again())));
    }
}

/// Takes a journal for this process. Without one everything works, a point at a time.
fn claim(ledger: &Path) -> Place {
    match Journal::claim(ledger, |rows| recover(ledger, &rows)) {
        Ok(Some(journal)) => Place::Open(journal),
        Ok(None) => Place::None,
        Err(fault) => {
            tracing::warn!(error = %fault, "there is no journal of points: each is written into the ledger at once");
            Place::None
        }
    }
}

/// Brings what the journals of other processes hold into the tables: of those that ended in the middle, and of those that are at it.
pub(in super::super) fn replay(ledger: &Path) -> Result<()> {
    journal::replay(ledger, |rows| recover(ledger, &rows))
}

fn recover(ledger: &Path, rows: &[PointRow]) -> Result<()> {
    let db = Direct::open(ledger)?;
    db.write(|db| log::apply(db, rows))?;
    db.log().sync()
}

#[cfg(test)]
mod tests {
    use super::super::super::SqliteLedger;
    use crate::suite::ledger::at;
    use crate::suite::tracking::{ms, point, points, run_id, tracked};
    use crate::system::ManualClock;
    use gristmill_kernel::port::{Ledger, Tracking};
    use gristmill_kernel::tracking::{Batch, HistoryWanted};
    use gristmill_kernel::{Actor, Code};
    use std::path::Path;
    use std::sync::Arc;

    async fn open(folder: &Path) -> SqliteLedger {
        SqliteLedger::open(&folder.join("ledger.db"), Arc::new(ManualClock::new(at(500_000)))).await.unwrap()
    }

    async fn ready(folder: &Path) -> SqliteLedger {
        let ledger = open(folder).await;
        for number in 1..=2 {
            ledger.create_run(tracked(number), &Actor::user("ada"), ms(1)).await.unwrap();
        }
        ledger
    }

    async fn steps(ledger: &SqliteLedger, number: u32) -> Vec<i64> {
        let history = ledger.history(&run_id(number), "m", HistoryWanted::default()).await.unwrap();
        history.items.iter().map(|p| p.step).collect()
    }

    async fn log(ledger: &SqliteLedger, number: u32, step: i64) {
        ledger.log(&run_id(number), points(vec![point("m", step as f64, step)]), ms(step)).await.unwrap();
    }

    async fn sql(ledger: &SqliteLedger, text: &'static str) {
        sqlx::raw_sql(text).execute(&mut *ledger.writer().await).await.unwrap();
    }

    /// The files of a ledger as they are now: what is left of it when its process ends here.
    fn copy(from: &Path, to: &Path) -> Vec<String> {
        let names = std::fs::read_dir(from).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let names: Vec<String> = names.filter(|name| !name.ends_with("-shm")).collect();
        for name in &names {
            std::fs::copy(from.join(name), to.join(name)).unwrap();
        }
        names
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn what_is_only_in_the_journal_survives() {
        let (dir, left) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let ledger = ready(dir.path()).await;
        let held = ledger.writer().await;
        for step in 1..=20 {
            log(&ledger, 1, step).await;
            log(&ledger, 2, -step).await;
        }
        assert!(copy(dir.path(), left.path()).contains(&"ledger.db-points1".to_owned()));
        let bare = "SELECT count(*) FROM run_metrics";
        let in_tables: i64 = sqlx::query_scalar(bare).fetch_one(&mut *ledger.reader_at_once().await.unwrap()).await.unwrap();
        assert_eq!(in_tables, 0, "nobody could write there");
        let after = open(left.path()).await;
        let mut of_two = steps(&after, 2).await;
        of_two.sort_unstable();
        assert_eq!((steps(&after, 1).await, of_two), ((1..=20).collect(), (-20..=-1).collect()));
        let run = after.tracked_run(&run_id(2)).await.unwrap().unwrap();
        assert_eq!((run.metrics[0].step, run.metrics[0].value), (-1, -1.0));
        assert!(!left.path().join("ledger.db-points1").exists());
        drop(held);
        assert_eq!(steps(&ledger, 1).await.len(), 20, "readers wait for what is behind");
        drop(ledger);
        assert!(!dir.path().join("ledger.db-points1").exists(), "an orderly end leaves no journal");
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn points_of_a_purged_run_are_dropped() {
        let dir = tempfile::tempdir().unwrap();
        let ledger = ready(dir.path()).await;
        let mut held = ledger.writer().await;
        log(&ledger, 1, 1).await;
        log(&ledger, 2, 2).await;
        sqlx::raw_sql("DELETE FROM run_tags WHERE run = (SELECT seq FROM runs WHERE id LIKE '%1'); DELETE FROM runs WHERE id LIKE '%1'")
            .execute(&mut *held)
            .await
            .unwrap();
        drop(held);
        assert_eq!((steps(&ledger, 2).await, steps(&ledger, 1).await), (vec![2], vec![]));
        let refused = ledger.log(&run_id(1), points(vec![point("m", 1.0, 5)]), ms(5)).await.unwrap_err();
        assert_eq!(refused.code, Code::UNKNOWN_RUN);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn tables_that_cannot_be_written_lose_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let ledger = ready(dir.path()).await;
        sql(&ledger, "ALTER TABLE run_metrics_latest RENAME TO elsewhere").await;
        log(&ledger, 1, 1).await;
        let wanted = async || ledger.history(&run_id(1), "m", HistoryWanted::default()).await;
        assert!(wanted().await.unwrap_err().message.contains("run_metrics_latest"), "readers are told why");
        assert!(ledger.run(&run_id(1)).await.is_err());
        log(&ledger, 1, 2).await;
        let large = Batch { params: vec![("p".into(), "1".into())], ..points(vec![point("m", 3.0, 3)]) };
        assert!(ledger.log(&run_id(1), large.clone(), ms(3)).await.is_err(), "what needs the tables is refused");
        sql(&ledger, "ALTER TABLE elsewhere RENAME TO run_metrics_latest").await;
        assert_eq!(steps(&ledger, 1).await, [1, 2]);
        ledger.log(&run_id(1), large, ms(3)).await.unwrap();
        drop(ledger);
        assert_eq!(steps(&open(dir.path()).await, 1).await, [1, 2, 3]);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn an_end_without_tables_is_made_good_later() {
        let dir = tempfile::tempdir().unwrap();
        let ledger = ready(dir.path()).await;
        sql(&ledger, "ALTER TABLE run_metrics_latest RENAME TO elsewhere").await;
        log(&ledger, 1, 1).await;
        let repair = ledger.path().to_owned();
        drop(ledger);
        assert!(dir.path().join("ledger.db-points1").exists());
        let db = rusqlite::Connection::open(repair).unwrap();
        db.execute_batch("ALTER TABLE elsewhere RENAME TO run_metrics_latest").unwrap();
        drop(db);
        let ledger = open(dir.path()).await;
        assert_eq!(steps(&ledger, 1).await, [1]);
    }
}
