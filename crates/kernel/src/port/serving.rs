//! The queue of runs, the live figures of endpoints that `deploy` and `monitor` judge, and which registered versions can answer.

use crate::choice::RegisteredChoice;
use crate::prediction::EndpointFigures;
use crate::run::NewRun;
use crate::{Actor, Address, Name, Result, Run, RunId, Timestamp, VersionRef};
use async_trait::async_trait;

/// Live figures of endpoints, kept by `serve` in this process (or read from its replicas).
pub trait LiveFigures: Send + Sync {
    /// What each arm did since a moment; `None` if the endpoint is not served here. Figures are kept per 10 s for an hour; `since` is
    /// rounded down to that.
    fn figures(&self, endpoint: &Name, since: Timestamp) -> Option<EndpointFigures>;
}

/// Versions that clients registered, as far as `deploy` must know them. Implemented by `serve`, which answers with them.
#[async_trait]
pub trait RegisteredVersions: Send + Sync {
    /// The version that a choice names now; `None` while there is none.
    async fn named(&self, choice: &RegisteredChoice) -> Result<Option<VersionRef>>;
    /// Whether `serve` can answer with it; [`crate::Code::NOT_SERVABLE`] says how it must be registered so that it can.
    async fn servable(&self, version: &VersionRef) -> Result<()>;
}

/// The queue of runs: the only way to start work.
#[async_trait]
pub trait Runs: Send + Sync {
    /// Queues a flow that brings `targets` (and what they need) up to date; `only` runs just the targets.
    async fn submit_flow(&self, flow: FlowOrder) -> Result<Run>;
    /// Queues a run as it is.
    async fn submit(&self, run: NewRun) -> Result<Run>;
    /// Waits until a run has ended.
    async fn wait(&self, run: &RunId) -> Result<Run>;
    /// Asks a run to stop.
    async fn cancel(&self, run: &RunId, actor: &Actor) -> Result<()>;
}

/// A wish for a flow.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct FlowOrder {
    /// What shall be up to date.
    pub targets: Vec<Address>,
    /// Whether the targets' own parents are brought up to date first.
    pub upstream: bool,
    /// Run even what is unchanged.
    pub force: bool,
    /// Values that replace keys of target specs for this flow: `models.churn.train = "baseline"`.
    pub overrides: std::collections::BTreeMap<String, serde_json::Value>,
    /// Who asked.
    pub actor: Actor,
    /// Why.
    pub reason: String,
    /// A second submission with the same token returns the first run.
    pub idempotency: Option<String>,
}
