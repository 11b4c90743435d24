//! What experiment tracking adds to runs and versions: experiments, histories of metrics, datasets, logged models, registered models.
//!
//! A tracked run *is* a line of the ledger (stage `train`): these types show it as trackers know it, with the moments the client gave and the
//! state the client asked for. A registered model *is* an asset of kind `models`, its versions are the asset's versions.
//!
//! Invariant: a soft-deleted thing is still there; only [`crate::port::Tracking::purge`] removes, and only what was deleted before.

pub mod assessment;
pub mod evaluation;
#[doc(hidden)]
pub mod evil;
pub mod filter;
pub mod manifest;
pub mod registry;
pub mod trace;
pub mod usage;
pub mod webhook;

use crate::{Address, RunId, RunStatus, Timestamp};
use std::collections::BTreeMap;

/// Identifies an experiment. `0` is `Default` and always there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ExperimentId(pub u64);

impl std::fmt::Display for ExperimentId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// What a retention removes for good.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize)]
pub struct Purged {
    /// Runs, with everything they logged.
    pub runs: u64,
    /// Logged models.
    pub logged_models: u64,
    /// Experiments that had nothing left.
    pub experiments: u64,
    /// Runs and logged models that stay because a registered version came from them.
    pub kept: u64,
}

impl Purged {
    /// How many things go.
    pub fn all(&self) -> u64 {
        self.runs + self.logged_models + self.experiments
    }
}

/// Whether something was deleted softly.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Lifecycle {
    /// There.
    #[default]
    Active,
    /// Deleted, and can be restored.
    Deleted,
}

impl Lifecycle {
    /// The stored word.
    pub fn as_str(self) -> &'static str {
        match self {
            Lifecycle::Active => "active",
            Lifecycle::Deleted => "deleted",
        }
    }
}

/// Which lifecycles a search looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ViewType {
    /// What is there.
    #[default]
    ActiveOnly,
    /// What was deleted.
    DeletedOnly,
    /// Both.
    All,
}

impl ViewType {
    /// Whether it shows this.
    pub fn shows(self, lifecycle: Lifecycle) -> bool {
        match self {
            ViewType::ActiveOnly => lifecycle == Lifecycle::Active,
            ViewType::DeletedOnly => lifecycle == Lifecycle::Deleted,
            ViewType::All => true,
        }
    }
}

/// A group of runs.
#[derive(Debug, Clone, PartialEq)]
pub struct Experiment {
    /// Its id.
    pub id: ExperimentId,
    /// Its name, unique among all, deleted ones too.
    pub name: String,
    /// The asset whose `train` runs these are, for experiments that the product made itself.
    pub address: Option<Address>,
    /// Where artifacts of its runs begin, as an `mlflow-artifacts:` URI.
    pub artifact_location: String,
    /// Whether it was deleted.
    pub lifecycle: Lifecycle,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it or its tags changed last.
    pub updated_at: Timestamp,
    /// Tags.
    pub tags: BTreeMap<String, String>,
}

/// A value of a metric at a moment and a step. Equal points are one point.
#[derive(Debug, Clone, PartialEq)]
pub struct Point {
    /// The metric.
    pub key: String,
    /// Its value; may be NaN. Infinities are stored as they are.
    pub value: f64,
    /// When the client measured it, to the millisecond.
    pub at: Timestamp,
    /// The step.
    pub step: i64,
    /// The logged model it is about.
    pub model: Option<String>,
    /// The dataset it was measured on.
    pub dataset: Option<DatasetKey>,
}

impl Point {
    /// The order that decides which point is the latest: step, moment, value (NaN counts as 0, as in the peer).
    pub fn rank(&self) -> (i64, i64, f64) {
        (self.step, self.at.micros(), if self.value.is_nan() { 0.0 } else { self.value })
    }
}

/// Names a dataset within an experiment.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DatasetKey {
    /// Its name.
    pub name: String,
    /// The digest the client computed.
    pub digest: String,
}

/// A dataset as a client describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dataset {
    /// Name and digest.
    pub key: DatasetKey,
    /// `local`, `s3`, `code`, ...
    pub source_type: String,
    /// Where it came from; never opened by the server.
    pub source: String,
    /// Its schema, as the client wrote it.
    pub schema: Option<String>,
    /// Its profile, as the client wrote it.
    pub profile: Option<String>,
}

/// A dataset that a run read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DatasetInput {
    /// The dataset.
    pub dataset: Dataset,
    /// Tags of this use: `mlflow.data.context` = `training`.
    pub tags: Vec<(String, String)>,
}

/// A logged model that a run made or read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelUse {
    /// The model.
    pub model: String,
    /// At which step; 0 for inputs.
    pub step: i64,
}

/// A run about to be tracked.
#[derive(Debug, Clone, PartialEq)]
pub struct NewTrackedRun {
    /// Its id.
    pub id: RunId,
    /// Where it belongs.
    pub experiment: ExperimentId,
    /// Its name.
    pub name: String,
    /// The user the client named; may be empty.
    pub user: String,
    /// When it started, as the client says.
    pub started_at: Option<Timestamp>,
    /// Tags, the run's name among them.
    pub tags: BTreeMap<String, String>,
}

/// A run as experiment tracking sees it.
#[derive(Debug, Clone, PartialEq)]
pub struct TrackedRun {
    /// Its id.
    pub id: RunId,
    /// Where it belongs.
    pub experiment: ExperimentId,
    /// Its name.
    pub name: String,
    /// The user the client named.
    pub user: String,
    /// Where it stands.
    pub status: RunStatus,
    /// Whether it was deleted.
    pub lifecycle: Lifecycle,
    /// When it started.
    pub started_at: Option<Timestamp>,
    /// When it ended. A client may end a run without saying when, and may open an ended run again.
    pub ended_at: Option<Timestamp>,
    /// Parameters.
    pub params: BTreeMap<String, String>,
    /// The latest point of each metric, by name.
    pub metrics: Vec<Point>,
    /// Tags.
    pub tags: BTreeMap<String, String>,
    /// Datasets it read.
    pub datasets: Vec<DatasetInput>,
    /// Logged models it read.
    pub model_inputs: Vec<ModelUse>,
    /// Logged models it made.
    pub model_outputs: Vec<ModelUse>,
}

/// What changes about a run.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct RunUpdate {
    /// The state the client asked for.
    pub status: Option<RunStatus>,
    /// When it ended.
    pub ended_at: Option<Timestamp>,
    /// Its name; the tag `mlflow.runName` follows.
    pub name: Option<String>,
}

/// What is logged to a run in one atomic step.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Batch {
    /// Points. A point that is already there changes nothing.
    pub metrics: Vec<Point>,
    /// Parameters. The same value again changes nothing; another one is a conflict ([`crate::Code::PARAM_CHANGED`]).
    pub params: Vec<(String, String)>,
    /// Tags; the last value stands.
    pub tags: Vec<(String, String)>,
}

/// Which points of a history.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct HistoryWanted {
    /// At most this many; `None` is all.
    pub limit: Option<usize>,
    /// Leave out this many.
    pub offset: usize,
}

/// Where a logged model stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum LoggedModelStatus {
    /// Being written.
    #[default]
    Pending,
    /// Complete.
    Ready,
    /// Its upload failed.
    Failed,
}

/// A model that a run logged, before anybody registers it.
#[derive(Debug, Clone, PartialEq)]
pub struct LoggedModel {
    /// `m-` and 32 hex digits.
    pub id: String,
    /// The experiment.
    pub experiment: ExperimentId,
    /// Its name within the run.
    pub name: String,
    /// What kind of model the client says it is.
    pub model_type: Option<String>,
    /// The run that logged it.
    pub source_run: Option<RunId>,
    /// Where it stands.
    pub status: LoggedModelStatus,
    /// Why, if it failed.
    pub status_message: Option<String>,
    /// Whether it was deleted.
    pub lifecycle: Lifecycle,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it changed last.
    pub updated_at: Timestamp,
    /// Parameters.
    pub params: BTreeMap<String, String>,
    /// Tags.
    pub tags: BTreeMap<String, String>,
    /// Every point that was logged about it, with the run that did.
    pub metrics: Vec<(Point, RunId)>,
}

/// One page of a list.
#[derive(Debug, Clone, PartialEq)]
pub struct Page<T> {
    /// The items, in order.
    pub items: Vec<T>,
    /// Whether there are more behind them.
    pub more: bool,
}

/// A search: what is looked at, which of it, in what order, which page.
#[derive(Debug, Clone, PartialEq)]
pub struct Search {
    /// The experiments to look in; ignored by searches that are not about runs or logged models.
    pub experiments: Vec<ExperimentId>,
    /// Which lifecycles.
    pub view: ViewType,
    /// What must hold.
    pub filter: filter::Filter,
    /// The order; ties end in the search's own order.
    pub order: Vec<filter::OrderBy>,
    /// At most this many.
    pub limit: usize,
    /// Leave out this many.
    pub offset: usize,
}
