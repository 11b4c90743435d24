//! Group commit: small writes wait in a queue, and one task writes all that wait in one transaction.
//!
//! Promises: whoever is answered `Ok` is durable; a write that is refused spoils none of the others; a write is done or not done as a whole;
//! other writers of the ledger get their turn between two groups. The task lives while something waits: nothing runs when nothing is written.
//! What clients log has a queue of its own: [`super::logger`].
//!
//! Why: a commit costs a sync of the disk and half a dozen thread hops, whatever is in it.

use super::super::open::fault;
use super::super::write::{commit, write};
use crate::tracked;
use futures::future::BoxFuture;
use gristmill_kernel::{Fault, Result, limits};
use sqlx::sqlite::SqliteConnection;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex as Lock, MutexGuard, PoisonError};
use tokio::sync::{Mutex, oneshot};

/// The queue before a ledger's writer.
pub(in super::super) struct Group {
    queue: Lock<Queue>,
    writer: Arc<Mutex<SqliteConnection>>,
}

#[derive(Default)]
struct Queue {
    waiting: VecDeque<Box<dyn Job>>,
    /// Whether a task is there that takes what waits.
    served: bool,
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
            (_, Some(failed)) => Err(failed.again()),
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

    /// Does a small write in the next group.
    pub(in super::super) async fn write<T, F>(self: &Arc<Self>, work: F) -> Result<T>
    where
        T: Send + 'static,
        F: for<'c> FnOnce(&'c mut SqliteConnection) -> BoxFuture<'c, Result<T>> + Send + 'static,
    {
        let (answer, answered) = oneshot::channel();
        self.add(Box::new(Typed { work: Some(work), outcome: None, answer }))?;
        answered.await.unwrap_or_else(|_| Err(lost()))
    }

    /// How many wait.
    #[cfg(test)]
    pub(super) fn waiting(&self) -> usize {
        self.queue().waiting.len()
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(self: &Arc<Self>, job: Box<dyn Job>) -> Result<()> {
        let mut queue = self.queue();
        if queue.waiting.len() >= limits::TRACK_WAITING_MAX {
            return Err(tracked::too_many_waiting());
        }
        queue.waiting.push_back(job);
        if !queue.served {
            queue.served = true;
            tokio::spawn(serve(Arc::clone(self)));
        }
        Ok(())
    }

    /// The next group; `None` when nothing waits, and then the task's work is done.
    fn take(&self) -> Option<Vec<Box<dyn Job>>> {
        let mut queue = self.queue();
        let size = queue.waiting.len().min(limits::TRACK_GROUP_MAX);
        if size == 0 {
            queue.served = false;
            return None;
        }
        Some(queue.waiting.drain(..size).collect())
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
    loop {
        // Those who were just answered may come at once; they are let in.
        tokio::task::yield_now().await;
        let mut db = serving.group.writer.lock().await;
        match serving.group.take() {
            Some(taken) => commit_group(&mut db, taken).await,
            // Whoever comes now starts another task, whose `served` must not be undone.
            None => {
                drop(db);
                serving.done = true;
                return;
            }
        }
    }
}

async fn commit_group(db: &mut SqliteConnection, mut group: Vec<Box<dyn Job>>) {
    let done = write_group(db, &mut group).await;
    if let Err(fault) = &done {
        tracing::warn!(error = %fault, writes = group.len(), "a group of tracking writes failed");
    }
    for job in group {
        job.answer(done.as_ref().err());
    }
}

/// One transaction: the jobs one by one.
async fn write_group(db: &mut SqliteConnection, jobs: &mut [Box<dyn Job>]) -> Result<()> {
    let mut tx = write(db).await?;
    if let [job] = jobs {
        if !job.work(&mut tx).await {
            return tx.rollback().await.map_err(|e| fault("take a write back", e));
        }
        return commit(tx).await;
    }
    let mut kept = false;
    for job in jobs {
        // The end of one and the beginning of the next are one trip to the connection's thread. The last one ends with the transaction.
        mark(&mut tx, if kept { "RELEASE job; SAVEPOINT job" } else { "SAVEPOINT job" }).await?;
        kept = job.work(&mut tx).await;
        if !kept {
            mark(&mut tx, "ROLLBACK TO job; RELEASE job").await?;
        }
    }
    commit(tx).await
}

/// Says where a job begins or ends.
async fn mark(db: &mut SqliteConnection, text: &'static str) -> Result<()> {
    sqlx::query(text).execute(db).await.map_err(|e| fault("mark a write", e))?;
    Ok(())
}

pub(super) fn lost() -> Fault {
    Fault::internal("a tracking write was dropped before it was answered").fix("try again: logging the same again changes nothing")
}
