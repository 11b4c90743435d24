//! What the user demands of a model before it may go on.

use gristmill_kernel::{AliasName, Name};

/// The spec of node `gates.NAME`.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct GateSpec {
    /// The model.
    pub model: Name,
    /// SQL booleans over the metrics of the run that made the version, `champion.*` and `worst.*`.
    pub gates: Vec<String>,
    /// The metric that decides.
    pub measure: String,
    /// The alias that moves to a version that passes: `challenger` when an endpoint rolls it out, else `champion`.
    pub promote_to: AliasName,
}
