//! MLflow's REST protocol: the unmodified `mlflow` client finds its tracking server here.
//!
//! Promises:
//! - Every classical route answers as MLflow's own server does: paths, parameters, status, words of errors, JSON. Where the answers differ
//!   on purpose, the file of the noun says so.
//! - Nothing is translated twice: a run is a run of the ledger, a registered model is a model of the ledger, and what these routes write goes
//!   through the ports [`Tracking`], [`ModelRegistry`], [`Artifacts`], [`Traces`] and [`EvaluationDatasets`] only.
//! - No client's text becomes a path. What this server does not have, it says so: 501.
//!
//! To add a route: a handler `async fn name(mlflow: Arc<Mlflow>, call: Call) -> Result<Response>` and a line in the `routes` of its noun's
//! file; its request and answer in [`wire`]. A new noun is a file, and a line in [`routes`] here.

mod aliases;
mod artifacts;
mod datasets;
mod error;
mod experiments;
mod filter;
mod hmac;
mod locations;
mod logged_models;
mod metrics;
mod model_versions;
mod names;
mod order;
mod otlp;
mod page_token;
mod registered_models;
mod request;
mod runs;
mod search;
mod server;
mod traces;
mod unsupported;
mod validate;
mod version_source;
mod webhooks;
mod wire;

pub use artifacts::{Addresses, sweep};
pub use server::PROTOCOL_VERSION;
pub use webhooks::Hooks;

use gristmill_kernel::port::{Artifacts, EvaluationDatasets, ModelRegistry, Ports, Traces, Tracking};
use gristmill_kernel::{Kind, Result, Timestamp};
use gristmill_web::schema::{any, map};
use gristmill_web::{Call, Method, Permission, Response, Route, Routes, json, route};
use std::future::Future;
use std::sync::Arc;

/// What the handlers work with.
pub struct Mlflow {
    /// Experiments, runs, logged models.
    pub tracking: Arc<dyn Tracking>,
    /// Registered models and their versions.
    pub registry: Arc<dyn ModelRegistry>,
    /// Files that clients upload.
    pub artifacts: Arc<dyn Artifacts>,
    /// Traces, their spans, what is said about them.
    pub traces: Arc<dyn Traces>,
    /// Evaluation datasets.
    pub datasets: Arc<dyn EvaluationDatasets>,
    /// The time, ids, the ledger.
    pub ports: Ports,
    /// Webhooks, and what is told to them.
    pub hooks: Hooks,
    /// Addresses that carry their own permission, and uploads in parts.
    pub signed: Addresses,
}

impl Mlflow {
    /// Now.
    fn now(&self) -> Timestamp {
        self.ports.clock.now()
    }
}

/// Every route of the protocol.
pub fn routes(mlflow: Arc<Mlflow>) -> Routes {
    Routes::new()
        .merge(server::routes(&mlflow))
        .merge(experiments::routes(&mlflow))
        .merge(runs::routes(&mlflow))
        .merge(metrics::routes(&mlflow))
        .merge(search::routes(&mlflow))
        .merge(logged_models::routes(&mlflow))
        .merge(traces::routes(&mlflow))
        .merge(otlp::routes(&mlflow))
        .merge(datasets::routes(&mlflow))
        .merge(registered_models::routes(&mlflow))
        .merge(model_versions::routes(&mlflow))
        .merge(aliases::routes(&mlflow))
        .merge(artifacts::routes(&mlflow))
        .merge(webhooks::routes(&mlflow))
        .merge(unsupported::routes(&mlflow))
}

/// A route of the classical family, for clients and for pages: `/api/2.0` and `/ajax-api/2.0`. `path` begins with `/mlflow`.
fn v2<F>(mlflow: &Arc<Mlflow>, method: &Method, path: &str, permission: Permission, handler: fn(Arc<Mlflow>, Call) -> F) -> [Route; 2]
where
    F: Future<Output = Result<Response>> + Send + 'static,
{
    ["/api/2.0", "/ajax-api/2.0"].map(|base| at(mlflow, method, &format!("{base}{path}"), permission, handler))
}

/// A route of the third family: `/api/3.0` and `/ajax-api/3.0`.
fn v3<F>(mlflow: &Arc<Mlflow>, method: &Method, path: &str, permission: Permission, handler: fn(Arc<Mlflow>, Call) -> F) -> [Route; 2]
where
    F: Future<Output = Result<Response>> + Send + 'static,
{
    ["/api/3.0", "/ajax-api/3.0"].map(|base| at(mlflow, method, &format!("{base}{path}"), permission, handler))
}

/// A route at exactly this path, with MLflow's errors.
fn at<F>(mlflow: &Arc<Mlflow>, method: &Method, path: &str, permission: Permission, handler: fn(Arc<Mlflow>, Call) -> F) -> Route
where
    F: Future<Output = Result<Response>> + Send + 'static,
{
    let mlflow = mlflow.clone();
    let about = format!("MLflow: {}", path.rsplit_once("/mlflow").map_or(path, |(_, tail)| tail.trim_start_matches('/')));
    let route = route(method.clone(), path, permission, move |call| handler(mlflow.clone(), call)).about(&about);
    described(error::shaped(route), method)
}

/// What all of them have in common: MLflow's own definitions say which keys there are, and its client is what this is tested with.
fn described(route: Route, method: &Method) -> Route {
    let route = if *method == Method::GET { route } else { route.takes(map(any())) };
    route.gives(map(any())).lacks_parts().fails([Kind::Invalid, Kind::NotFound, Kind::Conflict, Kind::Busy, Kind::TooLarge])
}

/// The answer of an operation that has nothing to say: `{}`.
fn done() -> Result<Response> {
    json(&serde_json::Map::new())
}
