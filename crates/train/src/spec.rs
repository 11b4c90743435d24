//! What the user writes about a model.

use gristmill_kernel::Name;
use gristmill_kernel::model::Task;
use std::collections::BTreeMap;

/// The spec of node `models.NAME`.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct TrainSpec {
    /// The model.
    pub name: Name,
    /// A built-in algorithm: `gbdt`, `logistic`, `linear`, `random_forest`, `baseline`.
    pub train: String,
    /// What is predicted; `None` follows from the label's type.
    pub task: Option<Task>,
    /// Fixed parameters of the algorithm.
    pub params: BTreeMap<String, serde_json::Value>,
    /// The search, if any.
    pub tune: Option<Tune>,
    /// The metric that decides: `auc`.
    pub measure: String,
    /// Columns (feature columns, `column` or `view.column`, or entity columns) by whose values the metrics are also given.
    pub slices: Vec<String>,
    /// Weighs rare classes up.
    pub balance: bool,
    /// Feeds every draw.
    pub seed: u64,
}

/// `tune = { trials = 30, learning_rate = "0.01..0.3" }`.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Tune {
    /// How many trials.
    pub trials: u32,
    /// `random` or `tpe`.
    pub search: Search,
    /// How many at once; 0 means one per core.
    pub parallel: u32,
    /// What is searched.
    pub space: BTreeMap<String, Range>,
}

/// How the next trial is chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Search {
    /// Independent draws.
    Random,
    /// Tree-structured Parzen estimator (Bergstra et al. 2011).
    #[default]
    Tpe,
}

/// One searched parameter: `"low..high"` or a list.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case", tag = "of")]
pub enum Range {
    /// Whole numbers, both ends included.
    Int {
        /// Lowest.
        low: i64,
        /// Highest.
        high: i64,
    },
    /// Numbers; drawn on a logarithmic scale when both ends are positive and at least a factor of 10 apart.
    Float {
        /// Lowest.
        low: f64,
        /// Highest.
        high: f64,
    },
    /// One of these.
    Choice {
        /// The choices.
        choices: Vec<serde_json::Value>,
    },
}
