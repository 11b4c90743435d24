//! Plugs the ledger into the ports of experiment tracking, behind the protocol of MLflow.

use crate::egress::WebEgress;
use crate::wiring::State;
use gristmill_kernel::Result;
use gristmill_kernel::port::{ModelRegistry, Outward, RegisteredVersions};
use gristmill_registry::protocol::mlflow::{Addresses, Hooks, Mlflow};
use gristmill_store::ledger::{SqliteRegistry, TrackedArtifacts};
use std::sync::Arc;

/// Registered models of a state folder.
pub fn registry(state: &State) -> Arc<dyn ModelRegistry> {
    Arc::new(SqliteRegistry::new(state.ledger.clone(), state.ports.blobs.clone(), state.ports.ids.clone()))
}

/// Registered versions of a state folder, as endpoints follow them.
pub fn registered(state: &State) -> Arc<dyn RegisteredVersions> {
    let ports = &state.ports;
    Arc::new(gristmill_serve::Registered { models: registry(state), ledger: ports.ledger.clone(), blobs: ports.blobs.clone() })
}

/// Files of a state folder.
pub fn artifacts(state: &State) -> Arc<TrackedArtifacts> {
    Arc::new(TrackedArtifacts::new(state.ledger.clone(), (*state.blobs).clone()))
}

/// Everything that the protocol works with. `allow_private` lets webhooks call private addresses.
pub fn mlflow(state: &State, allow_private: bool) -> Result<Arc<Mlflow>> {
    let outward: Arc<dyn Outward> = Arc::new(WebEgress::new(allow_private)?);
    let (ports, ledger) = (state.ports.clone(), state.ledger.clone());
    Ok(Arc::new(Mlflow {
        tracking: ledger.clone(),
        registry: registry(state),
        artifacts: artifacts(state),
        traces: ledger.clone(),
        datasets: ledger.clone(),
        hooks: Hooks::new(ledger, outward, ports.clock.clone(), ports.ids.clone()),
        signed: Addresses::new(ports.ids.as_ref()),
        ports,
    }))
}
