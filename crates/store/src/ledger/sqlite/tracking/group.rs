//! Group commit: small writes wait in a queue, and one task writes all that wait in one transaction.
//!
//! Promises: whoever is answered `Ok` is durable; a write that is refused spoils none of the others; a write is done or not done as a whole;
//! other writers of the ledger get their turn between two groups. The task lives while something waits: nothing runs when nothing is written.
//!
//! Why: a commit costs a sync of the disk and half a dozen thread hops, whatever is in it. With eight clients that log one value at a time a
//! group is up to eight values, and with hundreds of clients hundreds.

use super::super::open::fault;
use super::super::write::{commit, write};
use super::log;
use crate::tracked;
use futures::future::BoxFuture;
use gristmill_kernel::tracking::Batch;
use gristmill_kernel::{Fault, Result, RunId, limits};
use sqlx::sqlite::SqliteConnection;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex as Lock, MutexGuard, PoisonError};
use tokio::sync::{Mutex, oneshot};

/// Points of one group: a transaction of more would keep other writers waiting.
const GROUP_POINTS_MAX: usize = 20_000;
/// Points that wait, which is what a queue's memory is.
const WAITING_POINTS_MAX: usize = 1_000_000;

/// Turns of the runtime without a new write after which a group is not waited for any longer: about a tenth of a millisecond, half a commit.
const IDLE_TURNS_MAX: usize = 32;

/// The queue before a ledger's writer.
pub(in super::super) struct Group {
    queue: Lock<Queue>,
    writer: Arc<Mutex<SqliteConnection>>,
}

#[derive(Default)]
struct Queue {
    waiting: VecDeque<Waiting>,
    points: usize,
    /// Whether a task is there that takes what waits.
    served: bool,
}

enum Waiting {
    /// What clients log: many are written by the same few statements.
    Log(LogWrite),
    /// Another small write.
    Job(Box<dyn Job>),
}

impl Waiting {
    fn points(&self) -> usize {
        match self {
            Waiting::Log(log) => log.batch.metrics.len(),
            Waiting::Job(_) => 1,
        }
    }
}

/// A batch that waits.
pub(super) struct LogWrite {
    pub run: RunId,
    pub batch: Batch,
    answer: oneshot::Sender<Result<()>>,
}

/// A write whose answer has a type of its own.
trait Job: Send {
    /// Does it; whether it went well.
    fn work<'a>(&'a mut self, db: &'a mut SqliteConnection) -> BoxFuture<'a, bool>;
    /// Answers, with the fault if the transaction failed.
    fn answer(self: Box<Self>, failed: Option<&Fault>);
}

struct Typed<T, F> {
    work: Option<F>,
    outcome: Option<Result<T>>,
    answer: oneshot::Sender<Result<T>>,
}

impl<T, F> Job for Typed<T, F>
where
    T: Send,
    F: for<'c> FnOnce(&'c mut SqliteConnection) -> BoxFuture<'c, Result<T>> + Send,
{
    fn work<'a>(&'a mut self, db: &'a mut SqliteConnection) -> BoxFuture<'a, bool> {
        Box::pin(async move {
            let Some(work) = self.work.take() else { return false };
            let outcome = work(db).await;
            let well = outcome.is_ok();
            self.outcome = Some(outcome);
            well
        })
    }
    fn answer(self: Box<Self>, failed: Option<&Fault>) {
        let outcome = match (self.outcome, failed) {
            // A refusal stands, whatever became of the others.
            (Some(Err(refused)), _) => Err(refused),
            (_, Some(failed)) => Err(again(failed)),
            (Some(outcome), None) => outcome,
            (None, None) => Err(lost()),
        };
        // Nobody listens when the caller went away; what was written stays written.
        let _ = self.answer.send(outcome);
    }
}

impl Group {
    pub(in super::super) fn new(writer: Arc<Mutex<SqliteConnection>>) -> Group {
        Group { queue: Lock::default(), writer }
    }

    /// Logs a batch.
    pub(super) async fn log(self: &Arc<Self>, run: RunId, batch: Batch) -> Result<()> {
        let (answer, answered) = oneshot::channel();
        self.add(Waiting::Log(LogWrite { run, batch, answer }))?;
        answered.await.unwrap_or_else(|_| Err(lost()))
    }

    /// Does a small write in the next group.
    pub(in super::super) async fn write<T, F>(self: &Arc<Self>, work: F) -> Result<T>
    where
        T: Send + 'static,
        F: for<'c> FnOnce(&'c mut SqliteConnection) -> BoxFuture<'c, Result<T>> + Send + 'static,
    {
        let (answer, answered) = oneshot::channel();
        self.add(Waiting::Job(Box::new(Typed { work: Some(work), outcome: None, answer })))?;
        answered.await.unwrap_or_else(|_| Err(lost()))
    }

    /// How many wait.
    pub(super) fn waiting(&self) -> usize {
        self.queue().waiting.len()
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(self: &Arc<Self>, waiting: Waiting) -> Result<()> {
        let mut queue = self.queue();
        if queue.waiting.len() >= limits::TRACK_WAITING_MAX || queue.points >= WAITING_POINTS_MAX {
            return Err(tracked::too_many_waiting());
        }
        queue.points += waiting.points();
        queue.waiting.push_back(waiting);
        if !queue.served {
            queue.served = true;
            tokio::spawn(serve(Arc::clone(self)));
        }
        Ok(())
    }

    /// The next group; `None` when nothing waits, and then the task's work is done.
    fn take(&self) -> Option<Vec<Waiting>> {
        let mut queue = self.queue();
        let (mut group, mut points) = (Vec::new(), 0);
        while group.len() < limits::TRACK_GROUP_MAX
            && points < GROUP_POINTS_MAX
            && let Some(next) = queue.waiting.pop_front()
        {
            points += next.points();
            queue.points -= next.points();
            group.push(next);
        }
        if group.is_empty() {
            queue.served = false;
            return None;
        }
        Some(group)
    }
}

/// Says that nobody serves the queue should the task end before its work is done.
struct Serving {
    group: Arc<Group>,
    done: bool,
}

impl Drop for Serving {
    fn drop(&mut self) {
        if !self.done {
            self.group.queue().served = false;
        }
    }
}

async fn serve(group: Arc<Group>) {
    let mut serving = Serving { group, done: false };
    let (mut answered, mut patience) = (0, IDLE_TURNS_MAX);
    loop {
        patience = gather(&serving.group, answered, patience).await;
        let mut db = serving.group.writer.lock().await;
        let taken = serving.group.take();
        match taken {
            Some(taken) => {
                answered = taken.len();
                commit_group(&mut db, taken).await;
            }
            // Whoever comes now starts another task, whose `served` must not be undone.
            None => {
                drop(db);
                serving.done = true;
                return;
            }
        }
    }
}

/// Lets those who were just answered, and those who are about to write, come first: a commit costs what it costs, whatever is in it. Clients
/// that log all the time would else part into two halves, one of which always waits while the other is committed.
/// `patience` is how many idle turns it is worth; returned is what the next one is worth: less where clients took longer to come back.
async fn gather(group: &Group, answered: usize, patience: usize) -> usize {
    tokio::task::yield_now().await;
    let waiting = group.waiting();
    let wanted = answered + waiting;
    // One client alone is not waited for: it may have said all it had to say.
    if wanted < 2 {
        return patience;
    }
    let (mut came, mut idle) = (waiting, 0);
    while came < wanted {
        if idle == patience {
            return (patience / 2).max(1);
        }
        tokio::task::yield_now().await;
        let now = group.waiting();
        idle = if now > came { 0 } else { idle + 1 };
        came = now;
    }
    (patience * 2).min(IDLE_TURNS_MAX)
}

async fn commit_group(db: &mut SqliteConnection, group: Vec<Waiting>) {
    let (mut logs, mut jobs) = (Vec::new(), Vec::new());
    for waiting in group {
        match waiting {
            Waiting::Log(log) => logs.push(log),
            Waiting::Job(job) => jobs.push(job),
        }
    }
    let done = write_group(db, &mut jobs, &mut logs).await;
    let failed = done.as_ref().err();
    for job in jobs {
        job.answer(failed);
    }
    match &done {
        Ok(_) => {}
        Err(fault) => tracing::warn!(error = %fault, writes = logs.len(), "a group of tracking writes failed"),
    }
    let mut outcomes = done.map(Vec::into_iter);
    for log in logs {
        let outcome = match &mut outcomes {
            Ok(outcomes) => outcomes.next().unwrap_or_else(|| Err(lost())),
            Err(failed) => Err(again(failed)),
        };
        let _ = log.answer.send(outcome);
    }
}

/// One transaction: the jobs one by one, then everything that is logged. Returns what became of each log.
async fn write_group(db: &mut SqliteConnection, jobs: &mut [Box<dyn Job>], logs: &mut [LogWrite]) -> Result<Vec<Result<()>>> {
    if jobs.is_empty() && log::is_small(logs) {
        return log::write_at_once(db, logs).await;
    }
    let mut tx = write(db).await?;
    let alone = jobs.len() == 1 && logs.is_empty();
    let mut kept = false;
    for job in jobs {
        if alone {
            if !job.work(&mut tx).await {
                tx.rollback().await.map_err(|e| fault("take a write back", e))?;
                return Ok(Vec::new());
            }
            continue;
        }
        // The end of one and the beginning of the next are one trip to the connection's thread. The last one ends with the transaction.
        mark(&mut tx, if kept { "RELEASE job; SAVEPOINT job" } else { "SAVEPOINT job" }).await?;
        kept = job.work(&mut tx).await;
        if !kept {
            mark(&mut tx, "ROLLBACK TO job; RELEASE job").await?;
        }
    }
    let outcomes = log::write(&mut tx, logs).await?;
    commit(tx).await?;
    Ok(outcomes)
}

/// Says where a job begins or ends.
async fn mark(db: &mut SqliteConnection, text: &'static str) -> Result<()> {
    sqlx::query(text).execute(db).await.map_err(|e| fault("mark a write", e))?;
    Ok(())
}

/// The same fault for another one who waited.
fn again(fault: &Fault) -> Fault {
    let mut copy = Fault::new(fault.kind, fault.code, fault.message.clone());
    copy.fix.clone_from(&fault.fix);
    copy
}

fn lost() -> Fault {
    Fault::internal("a tracking write was dropped before it was answered").fix("try again: logging the same again changes nothing")
}
