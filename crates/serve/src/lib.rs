//! Stage serve: the request plane. Deployments in, predictions out, and every prediction in the log.
//!
//! Promises: no request touches the ledger. A request works on one immutable snapshot from beginning to end, and a new one is
//! swapped in whole after it is loaded. Overload is refused early. A prediction that was answered is logged; the log becomes versions of
//! `predictions.NAME`, where the loop closes.
//!
//! To add a protocol: a file in `protocol/`. To add a kind of model of our own: `kernel::model` gives it its meaning, `model.rs` its speed.
//! To add a runtime for models that were trained elsewhere: `runtime/`; a form in which clients register them: `registered/`.

mod batch;
mod cache;
mod explain;
mod figures;
mod log;
mod model;
mod plan;
mod plane;
mod predict;
mod protocol;
mod registered;
pub mod runtime;
mod scoring;
mod shadow;
pub mod spec;
mod table;

#[cfg(test)]
mod tests;

pub use log::schema as prediction_log_schema;
pub use model::Scored;
pub use plane::{EndpointHealth, Health, Plane, PlaneParts, follow};
pub use protocol::{VertexPaths, routes, vertex_routes};

/// What a version of a model says of a row of the prediction log.
pub async fn score_logged(
    model: &gristmill_kernel::VersionRef,
    ledger: &dyn gristmill_kernel::port::Ledger,
    blobs: &dyn gristmill_kernel::port::Blobs,
    features: &serde_json::Map<String, serde_json::Value>,
) -> gristmill_kernel::Result<Scored> {
    model::LoadedModel::score_logged(model, ledger, blobs, features).await
}
pub use registered::Registered;
