//! What clients log: batches wait in a queue, and one thread writes all that wait in one transaction.
//!
//! Promises: whoever is answered `Ok` is durable; a batch that is refused spoils none of the others; a batch is written as a whole or not at
//! all; other writers of the ledger get their turn between two groups. The thread starts with the first batch, sleeps while nothing waits,
//! and ends with the ledger.
//!
//! Why a thread: a commit waits for the disk, and the server has other things to do meanwhile, among them to take in the batches that make
//! up the next group.

use super::direct::Direct;
use super::group::{again, lost};
use super::log;
use crate::tracked;
use gristmill_kernel::tracking::Batch;
use gristmill_kernel::{Fault, Result, RunId, limits};
use sqlx::sqlite::SqliteConnection;
use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex as Lock, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::{Mutex, oneshot};

/// Points of one group: a transaction of more would keep other writers waiting.
const GROUP_POINTS_MAX: usize = 20_000;
/// Points that wait, which is what a queue's memory is.
const WAITING_POINTS_MAX: usize = 1_000_000;

/// Longest wait for those who were just answered: about half a commit.
const PATIENCE_MAX: Duration = Duration::from_micros(200);
const PATIENCE_MIN: Duration = Duration::from_micros(10);

/// The queue before the thread that logs.
pub(in super::super) struct Logger {
    shared: Arc<Shared>,
}

struct Shared {
    queue: Lock<Queue>,
    filled: Condvar,
    path: PathBuf,
    /// Who holds it may write: the other writers of this process are waited for in turn instead of by SQLite's timer.
    turn: Arc<Mutex<SqliteConnection>>,
}

#[derive(Default)]
struct Queue {
    waiting: VecDeque<LogWrite>,
    points: usize,
    /// How many must wait before the thread is woken.
    wanted: usize,
    thread: Option<JoinHandle<()>>,
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
    pub(in super::super) fn new(path: &Path, turn: Arc<Mutex<SqliteConnection>>) -> Logger {
        Logger { shared: Arc::new(Shared { queue: Lock::default(), filled: Condvar::new(), path: path.to_owned(), turn }) }
    }

    /// Logs a batch.
    pub(super) async fn log(&self, run: RunId, batch: Batch) -> Result<()> {
        let (answer, answered) = oneshot::channel();
        self.add(LogWrite { run, batch, answer, runtime: Handle::current() })?;
        answered.await.unwrap_or_else(|_| Err(lost()))
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
        let enough = queue.waiting.len() >= queue.wanted;
        drop(queue);
        if enough {
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
        let (mut db, mut answered, mut patience) = (None, 0, PATIENCE_MAX);
        while self.wait(answered, &mut patience) {
            let turn = self.turn.blocking_lock();
            let group = self.take();
            let answers = commit(&self.path, &mut db, group);
            drop(turn);
            answered = answers.len();
            answer(answers);
        }
    }

    /// Until something waits; whether it does.
    ///
    /// Those who were just answered may come first: a commit costs what it costs, whatever is in it. Clients that log all the time would else
    /// part into two halves, one of which always waits while the other is committed. `patience` is how long they are waited for: less where
    /// they took longer to come back. One client alone is not waited for: it may have said all it had to say.
    fn wait(&self, answered: usize, patience: &mut Duration) -> bool {
        let mut queue = self.queue();
        let wanted = (answered + queue.waiting.len()).min(limits::TRACK_GROUP_MAX);
        if wanted > 1 {
            queue.wanted = wanted;
            let lacking = |queue: &mut Queue| queue.waiting.len() < wanted && !queue.ended;
            let came = self.filled.wait_timeout_while(queue, *patience, lacking);
            queue = came.map_or_else(|e| e.into_inner().0, |(queue, _)| queue);
            let all_came = queue.waiting.len() >= wanted;
            *patience = if all_came { *patience * 2 } else { *patience / 2 }.clamp(PATIENCE_MIN, PATIENCE_MAX);
        }
        queue.wanted = 1;
        while queue.waiting.is_empty() && !queue.ended {
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

/// Tells everybody what became of theirs, all from within the runtime: a thread outside wakes it for each, and on one core they then take turns.
fn answer(answers: Vec<(LogWrite, Result<()>)>) {
    let tell = |answers: Vec<(LogWrite, Result<()>)>| {
        for (log, outcome) in answers {
            // Nobody listens when the caller went away; what was written stays written.
            let _ = log.answer.send(outcome);
        }
    };
    match answers.last().map(|(log, _)| log.runtime.clone()) {
        Some(runtime) if answers.len() > 1 => drop(runtime.spawn(async move { tell(answers) })),
        _ => tell(answers),
    }
}

/// Writes a group; what became of each. `db` is opened when it is first needed.
fn commit(path: &Path, db: &mut Option<Direct>, mut group: Vec<LogWrite>) -> Vec<(LogWrite, Result<()>)> {
    let open = match db.take() {
        Some(open) => Ok(open),
        None => Direct::open(path),
    };
    let done = open.and_then(|open| db.insert(open).write(|db| log::write(db, &mut group)));
    if let Err(fault) = &done {
        // Whatever is wrong with the connection, the next one has not.
        *db = None;
        tracing::warn!(error = %fault, writes = group.len(), "a group of tracking writes failed");
    }
    let mut outcomes = done.map(Vec::into_iter);
    let outcome = |log| match &mut outcomes {
        Ok(outcomes) => (log, outcomes.next().unwrap_or_else(|| Err(lost()))),
        Err(failed) => (log, Err(again(failed))),
    };
    group.into_iter().map(outcome).collect()
}
