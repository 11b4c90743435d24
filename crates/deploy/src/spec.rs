//! What the user writes about an endpoint's rollout.

use crate::freeze::Freeze;
use gristmill_kernel::experiment::Decide;
use gristmill_kernel::{ModelChoice, Name, Span};

/// The spec of node `endpoints.NAME`.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct DeploySpec {
    /// The endpoint.
    pub endpoint: Name,
    /// The model: one of the project, by its challenger and champion, or the version that a choice of registered models names.
    pub model: ModelChoice,
    /// How a new version takes over.
    pub rollout: Rollout,
    /// When no new version takes a step, in UTC.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub freeze: Vec<Freeze>,
    /// What `serve` needs; copied into each deployment unread.
    pub serve: serde_json::Value,
}

/// How a new version takes over.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case", tag = "by")]
pub enum Rollout {
    /// At once.
    Direct,
    /// When a person approves it: until then it stands by, loaded and warm.
    Manual,
    /// A growing share of the traffic, judged at each step.
    Canary {
        /// Shares in per mille, ascending; the last one is 1000.
        steps: Vec<u32>,
        /// How long each step lasts at least.
        every: Span,
        /// What is demanded of it.
        #[serde(flatten)]
        judging: Judging,
    },
    /// It is shown copies of the traffic and answers nobody; then it takes over.
    Shadow {
        /// The share of the requests that it is shown, in per mille.
        sample: u32,
        /// How long, at least.
        lasts: Span,
        /// What is demanded of it.
        #[serde(flatten)]
        judging: Judging,
    },
    /// It is shown copies first, then answers everything while the old version stays warm for its return.
    BlueGreen {
        /// The share of the requests that it is shown in the preview, in per mille.
        sample: u32,
        /// How long the preview lasts at least.
        preview: Span,
        /// How long the old version waits behind it at least.
        bake: Span,
        /// What is demanded of it.
        #[serde(flatten)]
        judging: Judging,
    },
    /// It answers a share of the entities until what happened to them decides.
    Ab {
        /// What is tried.
        #[serde(flatten)]
        trial: Trial,
        /// What is demanded of it besides.
        #[serde(flatten)]
        judging: Judging,
    },
}

/// An experiment.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Trial {
    /// The share of the entities that the version on trial answers, in per mille.
    pub share: u32,
    /// What decides.
    pub decide: Decide,
    /// How long it lasts at least before a better version wins.
    pub after: Span,
}

impl Rollout {
    /// The experiment, if it is one.
    pub fn trial(&self) -> Option<&Trial> {
        match self {
            Rollout::Ab { trial, .. } => Some(trial),
            _ => None,
        }
    }
    /// What is demanded of a version on its way; nothing where nothing is judged.
    pub fn judging(&self) -> Option<&Judging> {
        match self {
            Rollout::Direct | Rollout::Manual => None,
            Rollout::Canary { judging, .. }
            | Rollout::Shadow { judging, .. }
            | Rollout::BlueGreen { judging, .. }
            | Rollout::Ab { judging, .. } => Some(judging),
        }
    }
    /// Whether somebody must approve a version before callers get answers of it.
    pub fn asks(&self) -> bool {
        *self == Rollout::Manual || self.judging().is_some_and(|judging| judging.approve)
    }
}

/// What is demanded of a version in each phase of its rollout.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Judging {
    /// A SQL boolean over live figures of the new version: `error_rate`, `p50_ms`, `p99_ms`, `score_psi` (shift of its scores against the stable
    /// version's), `score_mean`, `rows`, `agreement` and `score_distance` (where it is shown copies), and the stable version's as `stable.*`.
    pub abort: Option<String>,
    /// Rows it must have answered in a phase before the phase can count; fewer is inconclusive.
    pub at_least: u64,
    /// How long an inconclusive phase waits before the rollout pauses and says so; it is never promoted without data.
    pub patience: Span,
    /// Whether a second person must approve it before it answers callers.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub approve: bool,
}
