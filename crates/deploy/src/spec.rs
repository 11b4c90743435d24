//! What the user writes about an endpoint's rollout.

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
    /// What `serve` needs; copied into each deployment unread.
    pub serve: serde_json::Value,
}

/// How a new version takes over.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case", tag = "by")]
pub enum Rollout {
    /// At once.
    Direct,
    /// A growing share of the traffic, judged at each step.
    Canary {
        /// Shares in per mille, ascending; the last one is 1000.
        steps: Vec<u32>,
        /// How long each step lasts at least.
        every: Span,
        /// A SQL boolean over live figures of the canary arm: `error_rate`, `p50_ms`, `p99_ms`, `score_psi` (shift of its scores against the stable
        /// arm), `score_mean`, `rows`, and the stable arm's as `stable.*`.
        abort: Option<String>,
        /// Rows the canary must have answered in a step before the step can count; fewer is inconclusive.
        at_least: u64,
        /// How long an inconclusive step waits before the rollout pauses and says so; it is never promoted without data.
        patience: Span,
    },
}
