//! What clients log: batches wait in a queue, one thread writes all that wait, and another one syncs transactions. Batches of nothing but points are one
//! frame of the [`super::journal`], synced at once, from which [`super::behind`] brings them into the tables; everything else is one transaction.
//!
//! Promises: whoever is answered `Ok` is durable; a batch that is refused spoils none of the others; a batch is written as a whole or not at
//! all; other writers of the ledger get their turn between two groups. The threads start with the first batch, sleep while nothing waits,
//! and end with the ledger.
//!
//! Why threads: a commit waits for the disk, and the server has other things to do meanwhile: to take in the batches of the next group, and to
//! write that. A client that logs alone has nobody to share a group with, and its next request comes only after this answer: after
//! [`LONE_AFTER`] groups of one, its frames are written by the thread that has the request, which saves two turns of the core. Whoever
//! wants to use the time that the disk takes ([`Logger::log_soon`]) is told when only that is left.

use super::behind::Behind;
use super::direct::Direct;
use super::group::lost;
use super::journal::LogFile;
use super::log::{self, Admitted};
use crate::tracked;
use gristmill_kernel::port::Logged;
use gristmill_kernel::tracking::Batch;
use gristmill_kernel::{Fault, Result, RunId, limits};
use sqlx::sqlite::SqliteConnection;
use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex as Lock, MutexGuard, PoisonError, mpsc};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};
use tokio::runtime::Handle;
use tokio::sync::{Mutex, oneshot};

/// Points of one group: a transaction of more would keep other writers waiting.
const GROUP_POINTS_MAX: usize = 20_000;
/// Points that wait, which is what a queue's memory is.
const WAITING_POINTS_MAX: usize = 1_000_000;

/// Groups of one batch in a row after which a client is taken to log alone.
const LONE_AFTER: usize = 16;
/// What a frame may take that a thread of the runtime waits for: many times what a good disk takes, and what nobody notices.
const LONE_DISK_MAX: Duration = Duration::from_millis(10);

/// The queue before the thread that logs.
pub(in super::super) struct Logger {
    shared: Arc<Shared>,
}

struct Shared {
    queue: Lock<Queue>,
    filled: Condvar,
    path: PathBuf,
    behind: Arc<Behind>,
    /// The connection by which groups are written; who holds it writes one.
    db: Lock<Option<Direct>>,
    /// Groups of one batch since there was a larger one, or one that came while another was written.
    lone: AtomicUsize,
    /// Whether a frame of somebody who logs alone is on its way to the disk.
    lone_at_disk: AtomicBool,
    /// Who holds it may write: the other writers of this process are waited for in turn instead of by SQLite's timer.
    turn: Arc<Mutex<SqliteConnection>>,
}

#[derive(Default)]
struct Queue {
    waiting: VecDeque<LogWrite>,
    points: usize,
    thread: Option<JoinHandle<()>>,
    /// Whether that thread sleeps: only then is it woken, which costs a call into the system.
    asleep: bool,
    /// Nothing will come any more.
    ended: bool,
}

/// A batch that waits.
pub(super) struct LogWrite {
    pub run: RunId,
    pub batch: Batch,
    answer: oneshot::Sender<Result<()>>,
    /// Where it is awaited.
    runtime: Handle,
}

impl Logger {
    pub(in super::super) fn new(path: &Path, turn: Arc<Mutex<SqliteConnection>>, behind: Arc<Behind>) -> Logger {
        let (queue, filled, db) = (Lock::default(), Condvar::new(), Lock::default());
        let (lone, lone_at_disk) = (AtomicUsize::new(0), AtomicBool::new(false));
        Logger { shared: Arc::new(Shared { queue, filled, path: path.to_owned(), behind, db, lone, lone_at_disk, turn }) }
    }

    /// Logs a batch.
    pub(super) async fn log(&self, run: RunId, batch: Batch) -> Result<()> {
        match self.log_soon(run, batch).await? {
            Logged::Durable => Ok(()),
            Logged::AtDisk(rest) => rest.await,
        }
    }

    /// Logs a batch; what is left to wait for once it is admitted.
    pub(super) async fn log_soon(&self, run: RunId, batch: Batch) -> Result<Logged> {
        let (answer, answered) = oneshot::channel();
        let answered = async { answered.await.unwrap_or_else(|_| Err(lost())) };
        match self.shared.at_once(LogWrite { run, batch, answer, runtime: Handle::current() }) {
            Ok(lone) if lone.admitted() => {
                return Ok(Logged::AtDisk(Box::pin(async {
                    // Whoever else has something to log says so first. Else one after the other would wait for the disk on the thread that
                    // all share, and each would find nobody beside itself.
                    tokio::task::yield_now().await;
                    drop(lone);
                    answered.await
                })));
            }
            Ok(refused) => drop(refused),
            Err(write) => self.add(write)?,
        }
        answered.await.map(|()| Logged::Durable)
    }

    /// Whether somebody is taken to log alone.
    #[cfg(test)]
    pub(super) fn serves_one(&self) -> bool {
        self.shared.lone.load(Ordering::Acquire) >= LONE_AFTER
    }

    /// How many wait.
    #[cfg(test)]
    pub(super) fn waiting(&self) -> usize {
        self.shared.queue().waiting.len()
    }

    fn add(&self, log: LogWrite) -> Result<()> {
        let mut queue = self.shared.queue();
        if queue.waiting.len() >= limits::TRACK_WAITING_MAX || queue.points >= WAITING_POINTS_MAX {
            return Err(tracked::too_many_waiting());
        }
        if queue.thread.as_ref().is_none_or(JoinHandle::is_finished) {
            let shared = Arc::clone(&self.shared);
            let begun = thread::Builder::new().name("tracking".into()).spawn(move || shared.serve());
            queue.thread = Some(begun.map_err(|e| Fault::internal("no thread for tracking writes could be started").because(e))?);
        }
        queue.points += log.batch.metrics.len();
        queue.waiting.push_back(log);
        let asleep = std::mem::take(&mut queue.asleep);
        drop(queue);
        if asleep {
            self.shared.filled.notify_one();
        }
        Ok(())
    }
}

impl Drop for Logger {
    /// Nobody waits any more: whoever does holds the ledger. The thread may still be closing its connection.
    fn drop(&mut self) {
        let thread = {
            let mut queue = self.shared.queue();
            queue.ended = true;
            queue.thread.take()
        };
        self.shared.filled.notify_one();
        if let Some(Err(_)) = thread.map(JoinHandle::join) {
            tracing::error!("the thread of tracking writes ended badly");
        }
    }
}

impl Shared {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn serve(&self) {
        let at_disk = AtomicUsize::new(0);
        thread::scope(|scope| {
            // Both end with this one however this one ends: here the channel and `_end` are dropped before they are waited for.
            let (hand_over, handed) = mpsc::channel();
            let _end = End(&self.behind);
            let served = self.behind.begin();
            let applying = thread::Builder::new().name("tracking-apply".into()).spawn_scoped(scope, move || served.serve());
            if let Err(e) = applying {
                tracing::warn!(error = %e, "no thread for the journal of points could be started: each is written into the ledger at once");
            }
            let at_disk = &at_disk;
            let syncing = thread::Builder::new().name("tracking-sync".into()).spawn_scoped(scope, move || sync_all(&handed, at_disk));
            while self.wait() {
                // Whoever woke this thread may be about to bring more, and waits for this core if there is only one.
                thread::yield_now();
                let mut db = self.db.lock().unwrap_or_else(PoisonError::into_inner);
                let group = self.take();
                self.count(group.len());
                self.write(&mut db, group, |written| {
                    // With nobody else waiting, the other thread would only be a detour.
                    let alone = at_disk.load(Ordering::Acquire) == 0 && self.queue().waiting.is_empty();
                    if alone || syncing.is_err() {
                        return written.finish();
                    }
                    at_disk.fetch_add(1, Ordering::AcqRel);
                    if let Err(mpsc::SendError(written)) = hand_over.send(written) {
                        written.finish();
                    }
                });
            }
        });
    }

    /// Takes a batch of a client that logs alone, on this thread; gives it back when it must wait its turn.
    fn at_once(self: &Arc<Self>, write: LogWrite) -> std::result::Result<Lone, LogWrite> {
        if self.lone.load(Ordering::Acquire) < LONE_AFTER || !log::for_journal(&write.batch) {
            return Err(write);
        }
        let mut db = match self.db.try_lock() {
            Ok(db) if self.queue().waiting.is_empty() && !self.lone_at_disk.swap(true, Ordering::AcqRel) => db,
            _ => {
                self.count(2);
                return Err(write);
            }
        };
        let mut others = Vec::new();
        let written = self.append(&mut db, vec![write], &mut others);
        // From here on dropping it makes way for the next one.
        let lone = Lone { shared: Arc::clone(self), written: Some(written) };
        others.pop().map_or(Ok(lone), Err)
    }

    /// Counts a group of as many batches.
    fn count(&self, batches: usize) {
        match batches {
            1 => drop(self.lone.fetch_add(1, Ordering::AcqRel)),
            _ => self.lone.store(0, Ordering::Release),
        }
    }

    /// Writes a group: what the journal takes there, the rest into the tables, which `done` gets as soon as it is written. Who logs points
    /// does not wait for the tables. The journal is written and synced by one call, so handing that over would only cost two more turns of the core.
    fn write(&self, db: &mut Option<Direct>, group: Vec<LogWrite>, done: impl Fn(Written)) {
        let (points, mut others): (Vec<_>, Vec<_>) = group.into_iter().partition(|log| log::for_journal(&log.batch));
        if !points.is_empty() {
            self.append(db, points, &mut others).finish();
        }
        if !others.is_empty() {
            done(self.commit(db, others));
        }
    }

    /// Writes batches into the journal; those that it does not take join the `others`.
    fn append(&self, db: &mut Option<Direct>, group: Vec<LogWrite>, others: &mut Vec<LogWrite>) -> Written {
        let (rows, admitted) = match Direct::kept(db, &self.path).and_then(|db| log::admit_points(db, &group)) {
            Ok(looked) => looked,
            Err(fault) => {
                *db = None;
                return refused(group, &fault);
            }
        };
        let log = if rows.is_empty() { None } else { self.behind.append(&rows) };
        let mut outcomes = Vec::with_capacity(group.len());
        for (write, admitted) in group.into_iter().zip(admitted) {
            match admitted {
                Admitted::Refused(fault) => outcomes.push((write, Err(fault))),
                Admitted::Yes if log.is_some() => outcomes.push((write, Ok(()))),
                Admitted::Yes | Admitted::Elsewhere => others.push(write),
            }
        }
        Written { log, outcomes }
    }

    /// Writes batches into the tables; what became of each.
    fn commit(&self, db: &mut Option<Direct>, mut group: Vec<LogWrite>) -> Written {
        // Of equal points the first one counts, so those of the journal go first.
        let settled = if group.iter().any(|log| !log.batch.metrics.is_empty()) { self.behind.settle() } else { Ok(()) };
        let done = settled.and_then(|()| {
            let _turn = self.turn.blocking_lock();
            let db = Direct::kept(db, &self.path)?;
            Ok((db.write(|db| log::write(db, &mut group))?, db.log()))
        });
        match done {
            Ok((outcomes, log)) => Written { log: Some(log), outcomes: group.into_iter().zip(outcomes).collect() },
            Err(fault) => {
                // Whatever is wrong with the connection, the next one has not.
                *db = None;
                refused(group, &fault)
            }
        }
    }

    /// Until something waits; whether it does.
    fn wait(&self) -> bool {
        let mut queue = self.queue();
        while queue.waiting.is_empty() && !queue.ended {
            queue.asleep = true;
            queue = self.filled.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
        !queue.waiting.is_empty()
    }

    fn take(&self) -> Vec<LogWrite> {
        let mut queue = self.queue();
        let (mut group, mut points) = (Vec::new(), 0);
        while group.len() < limits::TRACK_GROUP_MAX
            && points < GROUP_POINTS_MAX
            && let Some(next) = queue.waiting.pop_front()
        {
            points += next.batch.metrics.len();
            group.push(next);
        }
        queue.points -= points;
        group
    }
}

/// What a client that logs alone had written: dropping it waits for the disk, on that thread, and answers.
struct Lone {
    shared: Arc<Shared>,
    written: Option<Written>,
}

impl Lone {
    /// Whether only the disk can still fail.
    fn admitted(&self) -> bool {
        self.written.as_ref().is_some_and(|written| written.log.is_some() && written.outcomes.iter().all(|(_, outcome)| outcome.is_ok()))
    }
}

impl Drop for Lone {
    fn drop(&mut self) {
        let begun = Instant::now();
        if let Some(written) = self.written.take() {
            written.finish();
        }
        if begun.elapsed() > LONE_DISK_MAX {
            self.shared.lone.store(0, Ordering::Release);
        }
        self.shared.lone_at_disk.store(false, Ordering::Release);
    }
}

/// Tells the thread of the journal that nothing will come any more.
struct End<'b>(&'b Behind);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.end();
    }
}

/// A group none of which was written.
fn refused(group: Vec<LogWrite>, fault: &Fault) -> Written {
    tracing::warn!(error = %fault, writes = group.len(), "a group of tracking writes failed");
    Written { log: None, outcomes: group.into_iter().map(|log| (log, Err(fault.again()))).collect() }
}

/// A group that is written, but perhaps not on the disk yet.
struct Written {
    log: Option<Arc<LogFile>>,
    outcomes: Vec<(LogWrite, Result<()>)>,
}

impl Written {
    /// Syncs and answers.
    fn finish(self) {
        let synced = self.log.as_deref().map_or(Ok(()), LogFile::sync);
        answer(self.outcomes, synced.err().as_ref());
    }
}

/// Syncs and answers groups that are handed over, all that wait by one sync.
fn sync_all(handed: &mpsc::Receiver<Written>, at_disk: &AtomicUsize) {
    while let Ok(first) = handed.recv() {
        let mut groups = vec![first];
        groups.extend(handed.try_iter());
        at_disk.fetch_sub(finish_all(groups), Ordering::AcqRel);
    }
}

/// Syncs each file once and answers; how many groups there were.
fn finish_all(mut groups: Vec<Written>) -> usize {
    let count = groups.len();
    while let Some(next) = groups.first() {
        let log = next.log.clone();
        let same = |other: &Option<Arc<LogFile>>| match (&log, other) {
            (Some(log), Some(other)) => Arc::ptr_eq(log, other),
            (log, other) => log.is_none() && other.is_none(),
        };
        let (of_file, others): (Vec<_>, Vec<_>) = groups.into_iter().partition(|group| same(&group.log));
        groups = others;
        Written { log, outcomes: of_file.into_iter().flat_map(|group| group.outcomes).collect() }.finish();
    }
    count
}

/// Tells everybody what became of theirs, all from within the runtime: a thread outside wakes it for each, and on one core they then take
/// turns. What the disk did not take is refused, though it may be there: logging it again changes nothing.
fn answer(outcomes: Vec<(LogWrite, Result<()>)>, unsynced: Option<&Fault>) {
    if let Some(fault) = unsynced {
        tracing::error!(error = %fault, writes = outcomes.len(), "the disk did not take what was logged");
    }
    let failed = unsynced.map(Fault::again);
    let tell = move |outcomes: Vec<(LogWrite, Result<()>)>| {
        for (log, outcome) in outcomes {
            let outcome = match &failed {
                Some(failed) if outcome.is_ok() => Err(failed.again()),
                _ => outcome,
            };
            // Nobody listens when the caller went away; what was written stays written.
            let _ = log.answer.send(outcome);
        }
    };
    match outcomes.last().map(|(log, _)| log.runtime.clone()) {
        Some(runtime) if outcomes.len() > 1 => drop(runtime.spawn(async move { tell(outcomes) })),
        _ => tell(outcomes),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use gristmill_kernel::{Code, Kind};
    use std::fs::File;

    fn log(file: File) -> Option<Arc<LogFile>> {
        Some(Arc::new(LogFile::new(file)))
    }

    /// A batch that was committed, and where its caller waits.
    fn committed(outcome: Result<()>) -> ((LogWrite, Result<()>), oneshot::Receiver<Result<()>>) {
        let (answer, answered) = oneshot::channel();
        ((LogWrite { run: RunId("run".into()), batch: Batch::default(), answer, runtime: Handle::current() }, outcome), answered)
    }

    #[tokio::test]
    async fn what_the_disk_does_not_take_is_not_acknowledged() {
        // The kernel syncs no devices: https://man7.org/linux/man-pages/man2/fdatasync.2.html, EINVAL.
        let broken = log(File::open("/dev/null").expect("a file that cannot be synced"));
        for count in [1, 3] {
            let (mut outcomes, answered): (Vec<_>, Vec<_>) = (0..count).map(|_| committed(Ok(()))).unzip();
            let (refused, its_answer) = committed(Err(tracked::too_many_waiting()));
            outcomes.push(refused);
            let (hand_over, handed) = mpsc::channel();
            hand_over.send(Written { log: broken.clone(), outcomes }).expect("a receiver");
            drop(hand_over);
            let at_disk = AtomicUsize::new(1);
            sync_all(&handed, &at_disk);
            assert_eq!(at_disk.load(Ordering::Acquire), 0);
            for one in answered {
                let fault = one.await.expect("an answer").expect_err("it is not on the disk");
                assert_eq!((fault.kind, fault.code), (Kind::Unavailable, Code::IO), "{fault}");
            }
            let fault = its_answer.await.expect("an answer").expect_err("it was refused before");
            assert_eq!(fault.code, Code::OVERLOADED, "its own reason stays: {fault}");
        }
        let (one, answered) = committed(Ok(()));
        Written { log: broken, outcomes: vec![one] }.finish();
        assert!(answered.await.expect("an answer").is_err());
        let (one, answered) = committed(Ok(()));
        Written { log: log(tempfile::tempfile().expect("a file")), outcomes: vec![one] }.finish();
        assert!(answered.await.expect("an answer").is_ok());
    }
}
