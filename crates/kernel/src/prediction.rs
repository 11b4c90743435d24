//! Predictions and the live figures about them: what `serve` produces and `deploy` and `monitor` judge.

use crate::{Name, Timestamp, VersionRef};
use std::collections::BTreeMap;

/// Which part of the traffic an answer belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Arm {
    /// The deployed version.
    Stable,
    /// The version being rolled out.
    Canary,
    /// The version being rolled out, where it was shown a copy and answered nobody.
    Shadow,
}

impl Arm {
    /// The word.
    pub fn as_str(self) -> &'static str {
        match self {
            Arm::Stable => "stable",
            Arm::Canary => "canary",
            Arm::Shadow => "shadow",
        }
    }
}

/// What one arm of an endpoint did since a moment.
#[derive(Debug, Clone, PartialEq)]
pub struct ArmFigures {
    /// The model version that answered.
    pub model: VersionRef,
    /// Rows answered, failed ones included.
    pub rows: u64,
    /// Rows that failed or came out NaN or infinite.
    pub errors: u64,
    /// Median latency of a request in milliseconds; NaN without requests.
    pub p50_ms: f64,
    /// 99th percentile latency in milliseconds; NaN without requests.
    pub p99_ms: f64,
    /// Mean score; NaN without rows.
    pub score_mean: f64,
    /// Counts of scores in 20 equal bins over the range [0, 1]; scores outside fall into the first or last bin.
    pub score_bins: Vec<u64>,
    /// How its answers compare with those that callers got, where it was shown copies of their requests.
    pub compared: Compared,
}

/// Answers of two versions to the same rows.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Compared {
    /// Rows that both answered.
    pub rows: u64,
    /// Those where both gave the same outcome; without outcomes, scores that are equal to six digits.
    pub same: u64,
    /// Sum of the absolute differences of the scores.
    pub distance: f64,
}

/// How an endpoint answers: the content of an `endpoints.NAME` version. `serve` follows the alias `live`.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Deployment {
    /// Format of this record.
    pub format: u32,
    /// The endpoint.
    pub endpoint: Name,
    /// The version that answers.
    pub stable: VersionRef,
    /// The version being rolled out, if any.
    pub canary: Option<Canary>,
    /// What serving needs to know of the spec: cache, limits, features; `serve` reads its own part.
    pub serve: serde_json::Value,
}

impl Deployment {
    /// The format this binary writes and the newest it reads.
    pub const FORMAT: u32 = 1;
}

/// A version being rolled out.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Canary {
    /// The version.
    pub model: VersionRef,
    /// Its share of the traffic in per mille, 0 to 1000; 0 while it stands by or is only shown copies.
    pub permille: u32,
    /// The share of the requests that it is shown a copy of, in per mille. Nobody waits for what it says about them.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub mirrored: u32,
    /// Which step of the rollout, from 0.
    pub step: u32,
    /// When the rollout began.
    pub began_at: Timestamp,
    /// When this step began.
    pub since: Timestamp,
}

fn is_zero(permille: &u32) -> bool {
    *permille == 0
}

/// The format of the rows of a prediction log that this binary writes, and the newest it reads. Rows of format 1 have no column `format` and do not say
/// what they were based on.
pub const LOG_FORMAT: i32 = 2;

/// What served features were computed from: with the moment, all that it takes to compute them again. Kept with every prediction.
///
/// A load is visible to serving as a whole or not at all, so the last load that was applied says exactly which rows there were.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
pub struct Basis {
    /// By view.
    pub views: BTreeMap<Name, ViewBasis>,
}

/// What the features of one view were computed from.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
pub struct ViewBasis {
    /// A version of `features.NAME` with the definition.
    pub version: u64,
    /// Name in SQL -> how far its rows were known.
    pub tables: BTreeMap<String, Horizon>,
}

/// How far the rows of a table were known.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
pub struct Horizon {
    /// The table's generation: after an overwrite, loads of the one before say nothing any more.
    pub generation: u64,
    /// Every load up to here was known, and none behind it; 0: none at all.
    pub load: i64,
}

/// Live figures of an endpoint by arm.
pub type EndpointFigures = BTreeMap<Arm, ArmFigures>;
