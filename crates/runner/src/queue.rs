//! The `Runs` port: the queue is the ledger itself, so what was submitted survives.

use async_trait::async_trait;
use gristmill_kernel::error::Code;
use gristmill_kernel::port::{Clock, FlowOrder, Ids, Ledger, Runs};
use gristmill_kernel::run::NewRun;
use gristmill_kernel::{Actor, Address, AssetKind, Digest, Fault, Result, Run, RunId, StageKind};
use std::sync::Arc;
use std::time::Duration;

/// How often a waiting caller looks at the ledger: small against any step, cheap against SQLite.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Submits runs to the ledger and waits for them there.
pub struct Queue {
    ledger: Arc<dyn Ledger>,
    clock: Arc<dyn Clock>,
    ids: Arc<dyn Ids>,
}

impl Queue {
    /// A queue over a ledger.
    pub fn new(ledger: Arc<dyn Ledger>, clock: Arc<dyn Clock>, ids: Arc<dyn Ids>) -> Queue {
        Queue { ledger, clock, ids }
    }
}

#[async_trait]
impl Runs for Queue {
    async fn submit_flow(&self, flow: FlowOrder) -> Result<Run> {
        let first = flow.targets.first().ok_or_else(|| {
            Fault::invalid(Code::UNKNOWN_ADDRESS, "a flow needs a target").fix("name an address, for example models.churn")
        })?;
        let address = Address::new(AssetKind::Flows, first.name.clone());
        let spec = serde_json::to_value(&flow).map_err(|e| Fault::internal("a flow order does not serialise").because(e))?;
        let id = self.ids.run();
        let key = Digest::of_parts([b"flow".as_slice(), id.0.as_bytes()]);
        let run = NewRun {
            id,
            stage: StageKind::Flow,
            address,
            spec,
            key,
            inputs: Vec::new(),
            parent: None,
            actor: flow.actor,
            reason: flow.reason,
            idempotency: flow.idempotency,
            due_at: self.clock.now(),
        };
        self.submit(run).await
    }

    async fn submit(&self, run: NewRun) -> Result<Run> {
        self.ledger.submit(run, self.clock.now()).await
    }

    async fn wait(&self, run: &RunId) -> Result<Run> {
        loop {
            let now = self.ledger.run(run).await?.ok_or_else(|| {
                Fault::not_found(Code::UNKNOWN_RUN, format!("there is no run {run}")).fix("list runs with gristmill status")
            })?;
            if now.status.is_final() {
                return Ok(now);
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    async fn cancel(&self, run: &RunId, actor: &Actor) -> Result<()> {
        self.ledger.ask_cancel(run, actor, self.clock.now()).await
    }
}
