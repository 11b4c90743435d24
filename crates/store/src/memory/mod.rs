//! Every port in memory: for tests and simulations. They keep the same promises as the real ones, durability apart,
//! and run the same suites.

mod ledger;
mod parts;
mod tracking;

pub use ledger::MemoryLedger;
pub use parts::{MemoryBlobs, MemoryJournal, MemoryOnline};

#[cfg(test)]
mod tests {
    use super::*;
    use gristmill_kernel::port::{Ledger, Tokens, Tracking};
    use std::sync::Arc;

    #[tokio::test]
    async fn ledger_keeps_its_promises() {
        crate::suite::ledger::run(|clock| async move { Arc::new(MemoryLedger::new(clock)) as Arc<dyn Ledger> }).await;
    }
    #[tokio::test]
    async fn tokens_keep_their_promises() {
        crate::suite::tokens::run(|clock| async move {
            let ledger = Arc::new(MemoryLedger::new(clock));
            (ledger.clone() as Arc<dyn Tokens>, ledger as Arc<dyn Ledger>)
        })
        .await;
    }
    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn tracking_keeps_its_promises() {
        crate::suite::tracking::run(|clock| async move {
            let ledger = Arc::new(MemoryLedger::new(clock));
            (ledger.clone() as Arc<dyn Tracking>, ledger as Arc<dyn Ledger>)
        })
        .await;
    }
    #[tokio::test]
    async fn blobs_keep_their_promises() {
        crate::suite::blobs::run(|| async { MemoryBlobs::default() }).await;
    }
    #[tokio::test]
    async fn online_keeps_its_promises() {
        crate::suite::online::run(|| async { MemoryOnline::default() }).await;
    }
    #[tokio::test]
    async fn journal_keeps_its_promises() {
        crate::suite::journal::run(|| async { MemoryJournal::default() }).await;
    }
}
