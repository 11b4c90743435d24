//! Whether a long request still moves. A request that streams has no total time: it lives as long as bytes go through, and ends when
//! nothing moved for the route's time.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Counts what went through. A handler that works on after the body ended ticks it itself.
#[derive(Debug, Clone, Default)]
pub struct Progress(Arc<AtomicU64>);

impl Progress {
    /// Something went through.
    pub fn tick(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    fn ticks(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// The outcome of the work, or `None` when nothing moved for `patience`. What stands still is noticed after one to two times `patience`.
    pub(crate) async fn watch<F: Future>(&self, work: F, patience: Duration) -> Option<F::Output> {
        let mut work = std::pin::pin!(work);
        let mut seen = self.ticks();
        loop {
            match tokio::time::timeout(patience, work.as_mut()).await {
                Ok(outcome) => return Some(outcome),
                Err(_) if self.ticks() == seen => return None,
                Err(_) => seen = self.ticks(),
            }
        }
    }
}
