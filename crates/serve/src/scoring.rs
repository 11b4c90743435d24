//! Where models compute: at once where that is quick, else on a few threads per core, one request after the other.
//!
//! Promises: a thread that answers requests does not compute for long, so whoever has to be refused is told at once, however busy the models are.
//! Who would wait longer than a request may take is refused before anything is done. What waits for a thread and is given up is never begun;
//! what was begun keeps its thread until it is done, also when nobody waits any more.

use crate::batch::Together;
use gristmill_kernel::limits::SCORING_INLINE_MICROS_MAX;
use gristmill_kernel::{Code, Fault, Kind, Name, Result, Span};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Threads per core. With one, a core has nothing to do from the end of a request until the next one has found its thread: a third less was answered
/// by two cores at 7 ms per request.
const PER_CORE: usize = 2;

/// The threads that models compute on. Clones are the same threads.
#[derive(Clone)]
pub(crate) struct Scorers {
    threads: u64,
    places: Arc<Semaphore>,
    /// What all who have or want a place will take, as far as their models have shown.
    ahead_micros: Arc<AtomicU64>,
}

/// A request that was taken on. Its clones go where its work goes, and it counts until the last of them is gone.
#[derive(Clone)]
pub(crate) struct Turn(Option<Arc<Ahead>>);

struct Ahead {
    micros: u64,
    of_all: Arc<AtomicU64>,
}

impl Drop for Ahead {
    fn drop(&mut self) {
        self.of_all.fetch_sub(self.micros, Ordering::AcqRel);
    }
}

/// Where a request computes.
#[derive(Clone)]
pub(crate) enum Place {
    /// On the thread that answers it.
    Here,
    /// On a thread of its own, which it holds until the last clone is gone.
    Thread(Arc<(OwnedSemaphorePermit, Turn)>),
}

impl Scorers {
    /// For a machine of so many cores.
    pub fn new(cores: usize) -> Scorers {
        Scorers::with(cores.max(1) * PER_CORE)
    }

    fn with(threads: usize) -> Scorers {
        Scorers { threads: threads as u64, places: Arc::new(Semaphore::new(threads)), ahead_micros: Arc::default() }
    }

    /// Takes a request on that computes for so long, or refuses it because it would wait longer than its limit.
    pub fn take_on(&self, work: Load, limit: Span, endpoint: &Name) -> Result<Turn> {
        let Load::Long { micros } = work else { return Ok(Turn(None)) };
        let limit_micros = u64::try_from(limit.micros()).unwrap_or(0);
        let fits = |ahead: u64| match ahead {
            // With nobody before it, it gets its time.
            0 => Some(micros),
            ahead => (ahead / self.threads + micros <= limit_micros).then_some(ahead + micros),
        };
        match self.ahead_micros.fetch_update(Ordering::AcqRel, Ordering::Acquire, fits) {
            Ok(_) => Ok(Turn(Some(Arc::new(Ahead { micros, of_all: self.ahead_micros.clone() })))),
            Err(ahead) => {
                let waits = Duration::from_micros(ahead / self.threads).as_millis();
                Err(Fault::new(
                    Kind::Busy,
                    Code::OVERLOADED,
                    format!("endpoint `{endpoint}` has {limit} for an answer, and what came before takes {waits} ms"),
                )
                .fix("try again in a second, or ask for fewer rows at once"))
            }
        }
    }

    /// How many cores compute.
    pub fn cores(&self) -> usize {
        (self.threads as usize / PER_CORE).max(1)
    }

    /// Waits for a place for work of several requests; it is free again when what is given is gone.
    pub async fn free_place(&self) -> Option<OwnedSemaphorePermit> {
        // The threads are never closed; without them, the work is done nevertheless.
        self.places.clone().acquire_owned().await.ok()
    }

    /// Waits for a place.
    pub async fn place(&self, turn: &Turn) -> Result<Place> {
        if turn.0.is_none() {
            return Ok(Place::Here);
        }
        let permit = self.places.clone().acquire_owned().await;
        let permit = permit.map_err(|e| Fault::internal("the threads for models are gone").because(e))?;
        Ok(Place::Thread(Arc::new((permit, turn.clone()))))
    }
}

impl Place {
    /// Computes there.
    pub async fn compute<T: Send + 'static>(&self, work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
        let Place::Thread(place) = self else { return work() };
        let place = place.clone();
        let work = move || {
            let _until_done = place;
            work()
        };
        on_a_thread(work).await
    }
    /// Computes there what may be given up for something surer: the place is then free for it, although the other goes on.
    pub async fn attempt<T: Send + 'static>(&self, work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
        match self {
            Place::Here => work(),
            Place::Thread(_) => on_a_thread(work).await,
        }
    }
}

async fn on_a_thread<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(|e| Fault::internal("scoring panicked").because(e))?
}

/// How long a request will compute.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Load {
    Short,
    Long { micros: u64 },
}

impl Load {
    /// Of a request whose parts take so long; `None` is a part about which nothing is known, and which is long if it has so many rows.
    pub fn of(parts: impl IntoIterator<Item = Option<u64>>, many_rows: bool) -> Load {
        let (mut micros, mut unknown) = (0, false);
        for part in parts {
            micros += part.unwrap_or(0);
            unknown |= part.is_none();
        }
        match micros > SCORING_INLINE_MICROS_MAX || (unknown && many_rows) {
            true => Load::Long { micros },
            false => Load::Short,
        }
    }
}

/// How long a version computes for a row, as it has shown lately.
#[derive(Default)]
pub(crate) struct Pace {
    /// 0 before the first time.
    nanos: AtomicU64,
}

/// How much the newest time counts: one of so many.
const NEWEST: u64 = 8;

impl Pace {
    /// For some rows, in microseconds, if anything is known.
    pub fn micros(&self, rows: usize) -> Option<u64> {
        match self.nanos.load(Ordering::Relaxed) {
            0 => None,
            nanos => Some(nanos.saturating_mul(rows as u64) / 1_000),
        }
    }
    /// Remembers how long some rows took. A thread that was taken away for a while would make a quick model look slow, so a single time can raise
    /// what is known by an eighth at most.
    pub fn note(&self, rows: usize, took: Duration) {
        let took = (took.as_nanos() as u64 / (rows as u64).max(1)).max(1);
        let old = self.nanos.load(Ordering::Relaxed);
        let new = if old == 0 { took } else { (old * (NEWEST - 1) + took.min(2 * old)).div_ceil(NEWEST) };
        // Of two at once, one counts.
        self.nanos.store(new, Ordering::Relaxed);
    }
}

/// The paces of a version: with nothing but scores, and with what each feature did; and what its shared calls did.
#[derive(Default)]
pub(crate) struct Paces {
    pub scored: Pace,
    pub explained: Pace,
    pub together: Together,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name() -> Name {
        Name::new("risk").expect("a name")
    }

    #[test]
    fn what_is_long_is_decided_by_what_was_seen() {
        assert_eq!(Load::of([None], false), Load::Short);
        assert_eq!(Load::of([None], true), Load::Long { micros: 0 });
        assert_eq!(Load::of([Some(SCORING_INLINE_MICROS_MAX)], true), Load::Short);
        let half = SCORING_INLINE_MICROS_MAX / 2 + 1;
        assert_eq!(Load::of([Some(half), Some(half)], false), Load::Long { micros: 2 * half });
    }

    #[test]
    fn one_slow_time_does_not_make_a_model_slow() {
        let pace = Pace::default();
        assert_eq!(pace.micros(10), None);
        pace.note(2, Duration::from_millis(2));
        assert_eq!(pace.micros(10), Some(10_000));
        pace.note(2, Duration::from_secs(2));
        assert_eq!(pace.micros(10), Some(11_250), "thrown out by an eighth");
        for _ in 0..100 {
            pace.note(2, Duration::from_millis(8));
        }
        assert!(pace.micros(10).is_some_and(|micros| micros > 39_900), "{:?}", pace.micros(10));
        for _ in 0..100 {
            pace.note(2, Duration::from_micros(2));
        }
        assert_eq!(pace.micros(10), Some(10), "and quick again");
    }

    #[tokio::test]
    async fn who_would_wait_too_long_is_refused_and_who_comes_first_is_not() {
        let scorers = Scorers::with(2);
        let (limit, long) = (Span::from_millis(100), |micros| Load::Long { micros });
        let first = scorers.take_on(long(900_000), limit, &name()).expect("nobody is before it");
        let fault = scorers.take_on(long(1_000), limit, &name()).map(drop).expect_err("450 ms are before it");
        assert_eq!((fault.kind, fault.code), (Kind::Busy, Code::OVERLOADED));
        assert!(scorers.take_on(Load::Short, limit, &name()).is_ok(), "what is short waits for nobody");
        let place = scorers.place(&first).await.expect("a place");
        drop(first);
        assert!(scorers.take_on(long(1_000), limit, &name()).is_err(), "its work goes on");
        drop(place);
        let turns: Vec<Turn> = (0..20).map_while(|_| scorers.take_on(long(20_000), limit, &name()).ok()).collect();
        assert_eq!(turns.len(), 9, "the ninth waits for 80 ms and takes 20");
    }

    #[tokio::test]
    async fn what_is_given_up_keeps_its_thread_until_it_is_done_and_what_waits_is_never_begun() {
        let scorers = Scorers::with(1);
        let turn = scorers.take_on(Load::Long { micros: 1 }, Span::from_secs(1), &name()).expect("a turn");
        let place = scorers.place(&turn).await.expect("a place");
        let (go_on, wait) = std::sync::mpsc::channel::<()>();
        let working = place.compute(move || Ok(wait.recv().is_ok()));
        assert!(tokio::time::timeout(Duration::from_millis(20), working).await.is_err());
        drop(place);
        assert!(tokio::time::timeout(Duration::from_millis(20), scorers.place(&turn)).await.is_err(), "the thread still works");
        go_on.send(()).expect("it still waits");
        assert!(tokio::time::timeout(Duration::from_secs(10), scorers.place(&turn)).await.is_ok());
    }
}
