//! Taking over what another tracker wrote: with its ids, numbers and moments, and reading a foreign database file.
//!
//! What is made here day by day goes through [`super::Tracking`] and [`super::ModelRegistry`], which give ids and moments themselves. An import
//! keeps those of the other tracker; everything it need not keep (points, params, tags, files) takes the ordinary ports.

use crate::tracking::registry::ModelStage;
use crate::tracking::{Experiment, ExperimentId, Lifecycle, LoggedModel};
use crate::{Actor, Digest, Result, RunId, Timestamp};
use async_trait::async_trait;
use std::collections::BTreeMap;

/// What taking something over did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Taken {
    /// It was not there and is now.
    New,
    /// It was there, and something that was missing was added.
    Added,
    /// It was there with all of this; nothing was written.
    Same,
}

/// A registered model as another registry has it.
#[derive(Debug, Clone, PartialEq)]
pub struct ImportedModel {
    /// Its name.
    pub name: String,
    /// What it is for.
    pub description: String,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it or one of its versions changed last.
    pub updated_at: Timestamp,
    /// Tags.
    pub tags: BTreeMap<String, String>,
}

/// A version of a registered model as another registry has it.
#[derive(Debug, Clone, PartialEq)]
pub struct ImportedVersion {
    /// The registered model.
    pub name: String,
    /// Its number there.
    pub number: u64,
    /// Where its files are, as an `mlflow-artifacts:` URI of ours, or as the other registry said if they are elsewhere.
    pub source: String,
    /// The run that made it.
    pub run: Option<RunId>,
    /// A link to a run elsewhere.
    pub run_link: Option<String>,
    /// The logged model it was registered from.
    pub model: Option<String>,
    /// What it is.
    pub description: String,
    /// Who registered it.
    pub user: Option<String>,
    /// Its stage.
    pub stage: ModelStage,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it changed last.
    pub updated_at: Timestamp,
    /// Tags.
    pub tags: BTreeMap<String, String>,
    /// The artifact keys it consists of, relative to its source, with the digest of each. Empty if its files are elsewhere.
    pub files: Vec<(String, Digest)>,
}

/// Experiments and logged models of another tracker, as they are there.
///
/// The same rule for everything that is imported: what is not there is made, ids and moments as given; what is there keeps its values, and only
/// tags (and params) that it lacks are added. So taking the same thing over twice writes nothing the second time, and what people changed since
/// stays. `now` dates the audit line, never the thing. Errors: [`crate::Code::ALREADY_EXISTS`] where an id, name or number belongs to
/// something else.
#[async_trait]
pub trait TrackingImport: Send + Sync {
    /// An experiment with its id. The same id under another name, or the same name under another id, is a conflict. A new one is active,
    /// whatever its lifecycle says, because its runs come after it; [`TrackingImport::finish_experiment`] is its end. `address` is ignored.
    async fn import_experiment(&self, experiment: Experiment, actor: &Actor, now: Timestamp) -> Result<Taken>;
    /// The end of an experiment's import: takes the tag away that marked it as unfinished, if it is there, and deletes the experiment softly if
    /// `lifecycle` says so, in one write.
    async fn finish_experiment(&self, id: ExperimentId, mark: &str, lifecycle: Lifecycle, actor: &Actor, now: Timestamp) -> Result<()>;
    /// The same for a run.
    async fn finish_run(&self, id: &RunId, mark: &str, lifecycle: Lifecycle, actor: &Actor, now: Timestamp) -> Result<()>;
    /// A logged model with its id, status, lifecycle and moments. Its `metrics` are ignored: they are points of its runs, which come after it.
    async fn import_logged_model(&self, model: LoggedModel, actor: &Actor, now: Timestamp) -> Result<Taken>;
}

/// Registered models of another registry, as they are there; the rule of [`TrackingImport`] holds.
#[async_trait]
pub trait RegistryImport: Send + Sync {
    /// A registered model with its moments.
    async fn import_model(&self, model: ImportedModel, actor: &Actor, now: Timestamp) -> Result<Taken>;
    /// A version with its number, which may leave a gap; new versions are numbered behind the highest number there ever was. The number of a
    /// version with another source is a conflict, that of a version that was deleted here too. Its stage is as given; other versions keep theirs.
    async fn import_model_version(&self, version: ImportedVersion, actor: &Actor, now: Timestamp) -> Result<Taken>;
}

/// One value of a foreign database.
#[derive(Debug, Clone, PartialEq)]
pub enum Cell {
    /// Nothing.
    Null,
    /// An integer.
    Int(i64),
    /// A number.
    Real(f64),
    /// A text.
    Text(String),
}

/// A database file of somebody else, opened for reading. Nothing in it is believed: schema and values are input like a request's body.
#[async_trait]
pub trait ForeignDb: Send + Sync {
    /// The rows of one query with its values bound in order, at most [`crate::limits::FOREIGN_ROWS_MAX`]. More rows, binary values and
    /// values above [`crate::limits::FOREIGN_CELL_BYTES_MAX`] are errors.
    async fn rows(&self, query: &str, values: &[Cell]) -> Result<Vec<Vec<Cell>>>;
}
