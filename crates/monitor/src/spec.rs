//! What the user writes about watching an endpoint.

use gristmill_kernel::experiment::Decide;
use gristmill_kernel::{Name, Span};

/// The spec of node `monitors.NAME` (the endpoint's name).
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct MonitorSpec {
    /// The endpoint.
    pub endpoint: Name,
    /// The model.
    pub model: Name,
    /// The metric that decides about the model's quality.
    pub measure: String,
    /// A SQL boolean that means drift, judged per feature and for the score: `psi > 0.2`, `ks_p < 0.01`, `chi2_p < 0.01`, `missing_rate > 0.1`,
    /// `missing_shift > 0.1`, `ks`, `rows`.
    pub drift: Option<String>,
    /// How often, and the width of a window.
    pub every: Span,
    /// Rows a window needs to be judged; fewer is inconclusive.
    pub at_least: u64,
    /// A SQL boolean that means that served features are not what training gives: `mismatch_rate > 0`, `late_rate > 0.1`, `behind_rate`, `checked`.
    #[serde(default)]
    pub parity: Option<String>,
    /// Predictions of a window whose features are computed again; 0: none.
    #[serde(default)]
    pub audit: u64,
    /// What decides an experiment of two versions; nothing is counted for one unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decide: Option<Decide>,
    /// The label set that says what happened.
    pub outcomes: Option<Name>,
    /// Where alerts go besides the log and the ledger: `https://...` webhooks, `slack://...`; `${NAME}` unresolved.
    pub alerts: Vec<String>,
}
