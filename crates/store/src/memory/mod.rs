//! Every port in memory: for tests and simulations. They keep the same promises as the real ones, durability apart,
//! and run the same suites.

mod artifacts;
mod ledger;
mod parts;
mod registry;

pub use artifacts::MemoryArtifacts;
pub use ledger::MemoryLedger;
pub use parts::{MemoryBlobs, MemoryJournal, MemoryOnline};
pub use registry::MemoryRegistry;

#[cfg(test)]
mod tests {
    use super::*;
    use gristmill_kernel::port::{Ledger, Tokens};
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
    #[tokio::test]
    async fn registry_keeps_its_promises() {
        crate::suite::registry::run(|| async {
            let ledger =
                Arc::new(MemoryLedger::new(Arc::new(crate::system::ManualClock::new(gristmill_kernel::Timestamp::from_micros(1)))));
            let blobs = Arc::new(MemoryBlobs::default());
            let registry = MemoryRegistry::new(ledger.clone(), blobs.clone(), Arc::new(crate::system::SeededIds::new(7)));
            crate::suite::registry::Parts { registry: Arc::new(registry), ledger, blobs }
        })
        .await;
    }
    #[tokio::test]
    async fn artifacts_keep_their_promises() {
        crate::suite::artifacts::run(|| async { Arc::new(MemoryArtifacts::default()) as Arc<dyn gristmill_kernel::port::Artifacts> }).await;
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
