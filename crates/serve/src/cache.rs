//! The answers of an endpoint that may be given again, and those that are being computed just now.
//!
//! Promises: rows that are asked at the same time and have the same key are computed once (request coalescing): whoever comes first computes, the
//! others wait for that answer. If there is none, because the first one failed or its caller went away, each of the others computes its own. Who
//! waits has published its own rows before, so requests cannot wait for each other in a circle.

use crate::predict::Cached;
use gristmill_kernel::limits::PREDICTION_CACHE_ROWS_MAX;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::watch;

/// The cache of an endpoint as deployed.
pub(crate) struct AnswerCache {
    answers: moka::sync::Cache<String, Arc<Cached>>,
    /// The keys that are being computed. Whoever waits for one sees its channel close.
    flights: Mutex<HashMap<String, watch::Receiver<()>>>,
}

/// Who computes a row.
pub(crate) enum Claim<'a> {
    /// Whoever claimed it, until the flight is dropped.
    Ours(Flight<'a>),
    /// Somebody else, who has begun.
    Theirs(Landing),
}

/// A row that is being computed.
pub(crate) struct Flight<'a> {
    cache: &'a AnswerCache,
    key: &'a str,
    _landed: watch::Sender<()>,
}

/// Waits for somebody else's flight.
pub(crate) struct Landing(watch::Receiver<()>);

impl AnswerCache {
    pub fn new() -> AnswerCache {
        AnswerCache { answers: moka::sync::Cache::new(PREDICTION_CACHE_ROWS_MAX), flights: Mutex::default() }
    }

    pub fn get(&self, key: &str) -> Option<Arc<Cached>> {
        self.answers.get(key)
    }

    pub fn insert(&self, key: String, answer: Arc<Cached>) {
        self.answers.insert(key, answer);
    }

    /// Claims a key, unless somebody has.
    pub fn claim<'a>(&'a self, key: &'a str) -> Claim<'a> {
        match self.flights().entry(key.to_owned()) {
            Entry::Occupied(taken) => Claim::Theirs(Landing(taken.get().clone())),
            Entry::Vacant(free) => {
                let (landed, waiting) = watch::channel(());
                free.insert(waiting);
                Claim::Ours(Flight { cache: self, key, _landed: landed })
            }
        }
    }

    fn flights(&self) -> MutexGuard<'_, HashMap<String, watch::Receiver<()>>> {
        self.flights.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Flight<'_> {
    fn drop(&mut self) {
        // The key first, the channel after it: whoever wakes and finds no answer may claim the key.
        self.cache.flights().remove(self.key);
    }
}

impl Landing {
    /// Until there is an answer in the cache, or nobody who makes one.
    pub async fn landed(mut self) {
        // Nothing is ever sent: the only change is that the sender goes.
        let _closed = self.0.changed().await;
    }
}

/// How often the cache of an endpoint had the answer of a row.
#[derive(Debug, Default)]
pub(crate) struct CacheFigures {
    hits: AtomicU64,
    shared: AtomicU64,
    misses: AtomicU64,
}

impl CacheFigures {
    pub fn note(&self, hits: usize, shared: usize, misses: usize) {
        for (counter, by) in [(&self.hits, hits), (&self.shared, shared), (&self.misses, misses)] {
            counter.fetch_add(by as u64, Ordering::Relaxed);
        }
    }

    /// What happened to rows, by its word: found, computed by a request at the same time, computed.
    pub fn counts(&self) -> [(&'static str, u64); 3] {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        [("hit", read(&self.hits)), ("coalesced", read(&self.shared)), ("miss", read(&self.misses))]
    }
}
