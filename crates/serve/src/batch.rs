//! Rows of several requests in one call of a model, for those that compute many rows in little more time than one.
//!
//! As a journal commits: while a call is running, requests gather, and the next call takes what has gathered, so under load calls become
//! large by themselves and nobody waits for others. An endpoint may have a call wait for more (`delay`), which pays where requests come
//! too seldom to meet but often enough to be worth it.
//!
//! Promises: no call has more rows than the endpoint says; a request is never cut in two; who has the smaller `priority` goes first, and among
//! equals who came first; what was given up while it waited is not computed; one request's fault is no other's, but if the model
//! fails as a whole.

use crate::model::{LoadedModel, Scored};
use crate::scoring::{Paces, Scorers, Turn};
use crate::spec::Batching;
use gristmill_kernel::{Fault, Result};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;
use tokio::sync::oneshot;

/// What waits for the calls of one version.
pub(crate) struct Batcher {
    rules: Batching,
    model: Arc<LoadedModel>,
    paces: Arc<Paces>,
    scorers: Scorers,
    /// Calls at the same time.
    at_once: usize,
    queue: Mutex<Queue>,
    /// Told when a request joins or leaves.
    joined: Condvar,
}

#[derive(Default)]
struct Queue {
    /// By priority, and by who came first.
    waiting: BTreeMap<(u64, u64), Waiting>,
    rows: usize,
    /// How many requests ever joined.
    joined: u64,
    /// Tasks that make calls.
    busy: usize,
}

struct Waiting {
    matrix: Vec<f64>,
    rows: usize,
    since: Instant,
    tell: oneshot::Sender<Answers>,
    /// It counts as work before others while it waits and while it is computed.
    turn: Turn,
}

type Answers = Result<Vec<Result<Scored>>>;

/// What goes into one call.
struct Call {
    matrix: Vec<f64>,
    rows: usize,
    /// Whose they are, each with its rows, in their order.
    owners: Vec<Owner>,
}

struct Owner {
    rows: usize,
    tell: oneshot::Sender<Answers>,
    _turn: Turn,
}

impl Batcher {
    pub fn new(rules: Batching, model: Arc<LoadedModel>, paces: Arc<Paces>, scorers: Scorers) -> Arc<Batcher> {
        let at_once = model.calls_at_once().unwrap_or_else(|| scorers.cores());
        Arc::new(Batcher { rules, model, paces, scorers, at_once, queue: Mutex::default(), joined: Condvar::new() })
    }

    /// Whether so many rows may share a call.
    pub fn takes(&self, rows: usize) -> bool {
        rows <= self.rules.rows
    }

    /// Whether it is for this version, by these rules.
    pub fn is_for(&self, rules: &Batching, model: &Arc<LoadedModel>) -> bool {
        self.rules == *rules && Arc::ptr_eq(&self.model, model)
    }

    /// Scores encoded rows, one behind the other, together with those of others. What it answers is what [`LoadedModel::score`] says of them.
    pub async fn score(self: &Arc<Self>, matrix: Vec<f64>, rows: usize, priority: u64, turn: Turn) -> Answers {
        let (tell, answer) = oneshot::channel();
        let begins = {
            let mut queue = self.queue();
            queue.joined += 1;
            let place = (priority, queue.joined);
            queue.rows += rows;
            queue.waiting.insert(place, Waiting { matrix, rows, since: Instant::now(), tell, turn });
            let begins = queue.busy < self.at_once;
            queue.busy += usize::from(begins);
            begins
        };
        match begins {
            // A task of nobody's, so that it goes on when the request that began it is given up.
            true => drop(tokio::spawn(self.clone().work())),
            false => self.joined.notify_all(),
        }
        let _left = Left(self);
        answer.await.unwrap_or_else(|_| Err(Fault::internal("a call of the model was lost")))
    }

    /// Makes calls until nothing waits.
    async fn work(self: Arc<Self>) {
        loop {
            if self.rules.delay.micros() > 0 {
                let gathering = self.clone();
                // A thread waits to the microsecond, a timer of the runtime to the millisecond.
                if let Err(error) = tokio::task::spawn_blocking(move || gathering.gather()).await {
                    tracing::error!("waiting for a call to fill failed: {error}");
                }
            }
            let place = self.scorers.free_place().await;
            let Some(call) = self.next() else { return };
            let (model, paces) = (self.model.clone(), self.paces.clone());
            let computed = tokio::task::spawn_blocking(move || {
                let _until_done = place;
                call.made(&model, &paces);
            });
            if let Err(error) = computed.await {
                tracing::error!(model = %self.model.id, "a call of a model failed: {error}");
            }
        }
    }

    /// Waits until there are enough rows for a call, or the first of them has waited for long enough.
    fn gather(&self) {
        let mut queue = self.queue();
        while queue.rows < self.rules.rows {
            let listening = queue.waiting.values().filter(|waiting| !waiting.tell.is_closed());
            let Some(first) = listening.map(|waiting| waiting.since).min() else { return };
            let left = self.rules.delay.std().saturating_sub(first.elapsed());
            if left.is_zero() {
                return;
            }
            queue = self.joined.wait_timeout(queue, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// The requests of the next call; with none, whoever asks has to stop.
    fn next(&self) -> Option<Call> {
        let mut queue = self.queue();
        let mut call = Call { matrix: Vec::new(), rows: 0, owners: Vec::new() };
        while let Some(first) = queue.waiting.first_entry() {
            let given_up = first.get().tell.is_closed();
            if !given_up && call.rows > 0 && call.rows + first.get().rows > self.rules.rows {
                break;
            }
            let Waiting { matrix, rows, tell, turn, .. } = first.remove();
            queue.rows -= rows;
            if given_up {
                continue;
            }
            call.rows += rows;
            if call.owners.is_empty() {
                call.matrix = matrix
            } else {
                call.matrix.extend(matrix)
            }
            call.owners.push(Owner { rows, tell, _turn: turn });
        }
        if call.owners.is_empty() {
            // Under the lock, so that whoever joins next sees that nobody works.
            queue.busy -= 1;
            return None;
        }
        Some(call)
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A request that waits. When it is gone, answered or given up, the call may have nobody left to wait for.
struct Left<'a>(&'a Batcher);

impl Drop for Left<'_> {
    fn drop(&mut self) {
        // Under the lock, or a thread that has just looked would sleep on.
        let _queue = self.0.queue();
        self.0.joined.notify_all();
    }
}

impl Call {
    /// Computes, and tells each owner about its rows.
    fn made(self, model: &LoadedModel, paces: &Paces) {
        let began = Instant::now();
        let scored = model.score(&self.matrix, self.rows);
        paces.scored.note(self.rows, began.elapsed());
        paces.together.note(self.owners.len(), self.rows);
        // Who does not listen any more needs no answer.
        match scored {
            Ok(scored) => {
                let mut scored = scored.into_iter();
                for owner in self.owners {
                    let _ = owner.tell.send(Ok(scored.by_ref().take(owner.rows).collect()));
                }
            }
            Err(fault) => {
                for owner in self.owners {
                    let _ = owner.tell.send(Err(fault.again()));
                }
            }
        }
    }
}

/// What shared calls did.
#[derive(Default)]
pub(crate) struct Together {
    calls: AtomicU64,
    requests: AtomicU64,
    rows: AtomicU64,
}

impl Together {
    fn note(&self, requests: usize, rows: usize) {
        self.calls.fetch_add(1, Ordering::Relaxed);
        self.requests.fetch_add(requests as u64, Ordering::Relaxed);
        self.rows.fetch_add(rows as u64, Ordering::Relaxed);
    }
    /// The calls, and the rows in them.
    pub fn calls_and_rows(&self) -> (u64, u64) {
        (self.calls.load(Ordering::Relaxed), self.rows.load(Ordering::Relaxed))
    }
    /// The calls that requests saved by going with others.
    pub fn saved(&self) -> u64 {
        self.requests.load(Ordering::Relaxed).saturating_sub(self.calls.load(Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::bench::{model, model_file};
    use gristmill_kernel::{Name, Span};
    use std::time::Duration;

    /// A batcher of one call at a time, and both threads of its core, taken.
    async fn busy(rows: usize, delay: Span) -> (Arc<Batcher>, Scorers, Vec<impl Sized>) {
        let scorers = Scorers::new(1);
        let loaded = Arc::new(LoadedModel::new(model(1), model_file("activity", 1.0)).expect("loads"));
        let batcher = Batcher::new(Batching { rows, delay }, loaded, Arc::default(), scorers.clone());
        let taken = vec![scorers.free_place().await, scorers.free_place().await];
        (batcher, scorers, taken)
    }

    fn turn(scorers: &Scorers) -> Turn {
        scorers.take_on(crate::scoring::Load::Short, Span::from_secs(1), &Name::new("churn").expect("a name")).expect("a turn")
    }

    /// Asks for some rows, of which each is known by its number.
    fn ask(batcher: &Arc<Batcher>, scorers: &Scorers, numbers: &[f64], priority: u64) -> tokio::task::JoinHandle<Answers> {
        let matrix: Vec<f64> = numbers.iter().flat_map(|x| [*x, 0.0]).collect();
        let (batcher, turn, rows) = (batcher.clone(), turn(scorers), numbers.len());
        tokio::spawn(async move { batcher.score(matrix, rows, priority, turn).await })
    }

    async fn joined(batcher: &Batcher, requests: u64) {
        while batcher.queue().joined < requests {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    fn scores(answers: Answers) -> Vec<f64> {
        answers.expect("scores").into_iter().map(|scored| scored.expect("a score").score).collect()
    }

    #[tokio::test]
    async fn requests_share_a_call_of_so_many_rows_and_each_gets_its_own_answers() {
        let (batcher, scorers, taken) = busy(4, Span::default()).await;
        let asked = [[1.0, 2.0].as_slice(), &[3.0], &[4.0, 5.0], &[f64::INFINITY], &[6.0]];
        let mut waiting = Vec::new();
        for numbers in asked {
            waiting.push(ask(&batcher, &scorers, numbers, 1));
            joined(&batcher, waiting.len() as u64).await;
        }
        drop(taken);
        let alone = |numbers: &[f64]| {
            let matrix: Vec<f64> = numbers.iter().flat_map(|x| [*x, 0.0]).collect();
            batcher.model.score(&matrix, numbers.len()).map_err(|fault| fault.to_string())
        };
        for (numbers, answers) in asked.into_iter().zip(waiting) {
            let of =
                |answers: Vec<Result<Scored>>| answers.into_iter().map(|one| one.map_err(|fault| fault.to_string())).collect::<Vec<_>>();
            let answers = answers.await.expect("an answer").map_err(|fault| fault.to_string());
            assert_eq!(answers.map(of), alone(numbers).map(of), "{numbers:?}");
        }
        assert_eq!(batcher.paces.together.calls_and_rows(), (2, 7), "3 rows, then 4: no request is cut in two");
        assert_eq!(batcher.paces.together.saved(), 3);
        while batcher.queue().busy > 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        assert_eq!(scores(ask(&batcher, &scorers, &[7.0], 1).await.expect("an answer")).len(), 1, "and again when nobody works");
    }

    #[tokio::test]
    async fn the_urgent_go_first_and_what_was_given_up_is_not_computed() {
        let (batcher, scorers, taken) = busy(2, Span::default()).await;
        let given_up = ask(&batcher, &scorers, &[1.0, 1.5], 1);
        joined(&batcher, 1).await;
        let late = ask(&batcher, &scorers, &[2.0, 2.5], u64::MAX);
        joined(&batcher, 2).await;
        let urgent = ask(&batcher, &scorers, &[3.0], 1);
        joined(&batcher, 3).await;
        given_up.abort();
        assert!(given_up.await.is_err());
        let first = batcher.next().expect("a call");
        assert_eq!((first.rows, first.matrix[0]), (1, 3.0), "two more rows would be too many for the others of the first call");
        first.made(&batcher.model, &batcher.paces);
        assert_eq!(scores(urgent.await.expect("an answer")).len(), 1);
        drop(taken);
        assert_eq!(scores(late.await.expect("an answer")).len(), 2);
        assert_eq!(batcher.paces.together.calls_and_rows(), (2, 3));
    }

    #[tokio::test]
    async fn a_call_waits_for_others_until_it_is_full_or_its_time_is_up() {
        let (batcher, scorers, taken) = busy(3, Span::from_millis(60_000)).await;
        drop(taken);
        let waiting: Vec<_> = [1.0, 2.0, 3.0].iter().map(|x| ask(&batcher, &scorers, &[*x], 1)).collect();
        for answers in waiting {
            tokio::time::timeout(Duration::from_secs(20), answers).await.expect("in time").expect("an answer").expect("scores");
        }
        assert_eq!(batcher.paces.together.calls_and_rows(), (1, 3), "nobody waited for a minute");

        let (batcher, scorers, taken) = busy(3, Span::from_millis(30)).await;
        drop(taken);
        let began = Instant::now();
        ask(&batcher, &scorers, &[1.0], 1).await.expect("an answer").expect("scores");
        assert!(began.elapsed() >= Duration::from_millis(30), "{:?}", began.elapsed());
        assert_eq!(batcher.paces.together.calls_and_rows(), (1, 1));
    }
}
