//! What a reader of MLflow's data offers: the same nouns whether they come from a folder, a database or a server.
//!
//! A reader believes nothing: names and numbers pass [`super::check`], a thing that is broken becomes a [`Skipped`] beside the sound ones, and
//! lists come in pages. Ids are the other tracker's; the writer maps them where it must.

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use gristmill_kernel::port::{ImportedModel, ImportedVersion};
use gristmill_kernel::tracking::{Experiment, ExperimentId, LoggedModel, Point, TrackedRun};
use gristmill_kernel::{Code, Fault, Result, RunId};
use std::collections::BTreeMap;

/// How much there is. `None` is what a reader cannot count without reading everything.
#[derive(Debug, Clone, PartialEq, Eq, Default, serde::Serialize)]
pub struct Counts {
    /// Experiments, deleted ones too.
    pub experiments: u64,
    /// Runs, deleted ones too.
    pub runs: Option<u64>,
    /// Points of all histories.
    pub points: Option<u64>,
    /// Logged models.
    pub logged_models: Option<u64>,
    /// Registered models, prompts too.
    pub models: u64,
    /// Their versions.
    pub versions: u64,
    /// Files of runs and logged models.
    pub files: Option<u64>,
    /// Their bytes.
    pub bytes: Option<u64>,
}

/// Something that cannot be taken, and why.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Skipped {
    /// The thing: `run 0123...`, `experiment 7`.
    pub what: String,
    /// The code of the error.
    pub code: String,
    /// The reason.
    pub why: String,
}

impl Skipped {
    /// From an error.
    pub fn new(what: impl Into<String>, fault: &Fault) -> Skipped {
        Skipped { what: what.into(), code: fault.code.to_string(), why: fault.message.clone() }
    }
}

/// A part of a list.
#[derive(Debug, Clone, PartialEq)]
pub struct Part<T> {
    /// The sound ones.
    pub items: Vec<T>,
    /// The broken ones.
    pub skipped: Vec<Skipped>,
    /// Where the next part begins; `None` at the end.
    pub next: Option<String>,
}

impl<T> Default for Part<T> {
    fn default() -> Part<T> {
        Part { items: Vec::new(), skipped: Vec::new(), next: None }
    }
}

impl<T> Part<T> {
    /// Adds a thing, or the reason why not.
    pub fn add(&mut self, what: impl FnOnce() -> String, item: Result<T>) {
        match item {
            Ok(item) => self.items.push(item),
            Err(fault) => self.skipped.push(Skipped::new(what(), &fault)),
        }
    }
}

/// A run, and where its files are.
#[derive(Debug, Clone, PartialEq)]
pub struct SourceRun {
    /// The run; its metrics are the latest points.
    pub run: TrackedRun,
    /// Its artifacts, as the other tracker names their place.
    pub artifacts: String,
}

/// A logged model, and where its files are.
#[derive(Debug, Clone, PartialEq)]
pub struct SourceModel {
    /// The model, with every point that was logged about it.
    pub model: LoggedModel,
    /// Its artifacts.
    pub artifacts: String,
}

/// A registered model with all that belongs to it.
#[derive(Debug, Clone, PartialEq)]
pub struct SourceRegistered {
    /// The model.
    pub model: ImportedModel,
    /// Aliases and the numbers they name.
    pub aliases: BTreeMap<String, u64>,
    /// Its versions; `files` are empty, `source` as the other registry says.
    pub versions: Vec<SourceVersion>,
}

/// A version, and where its files really are.
#[derive(Debug, Clone, PartialEq)]
pub struct SourceVersion {
    /// The version.
    pub version: ImportedVersion,
    /// The resolved place of its files, if the registry remembers one beside the source.
    pub location: Option<String>,
}

/// Whose files.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Owner {
    /// A run's.
    Run(RunId),
    /// A logged model's.
    Model(String),
}

/// The beginning of somebody's files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Root {
    /// The experiment, by the source's id.
    pub experiment: ExperimentId,
    /// Whose.
    pub owner: Owner,
    /// Where, as the other tracker names it.
    pub uri: String,
}

/// A file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceFile {
    /// Its key below the root; not checked yet.
    pub key: String,
    /// Its length, if known.
    pub bytes: Option<u64>,
}

/// The files of a root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Files {
    /// They can be read here.
    Here(Vec<SourceFile>),
    /// They are at a place that this import does not read.
    Elsewhere,
}

/// Content, piece by piece.
pub type Content = BoxStream<'static, Result<Bytes>>;

/// MLflow's data, wherever it is.
#[async_trait]
pub trait Source: Send + Sync {
    /// Where it is, for people; without secrets.
    fn about(&self) -> String;
    /// Counts what is there.
    async fn survey(&self) -> Result<Counts>;
    /// Every experiment, deleted ones too.
    async fn experiments(&self) -> Result<Part<Experiment>>;
    /// Runs of an experiment, deleted ones too.
    async fn runs(&self, experiment: ExperimentId, from: Option<&str>) -> Result<Part<SourceRun>>;
    /// A run with what lists leave out; asked only for runs that are written.
    async fn whole(&self, run: SourceRun) -> Result<SourceRun> {
        Ok(run)
    }
    /// Points of one metric, in any order.
    async fn history(&self, run: &SourceRun, key: &str, from: Option<&str>) -> Result<Part<Point>>;
    /// Logged models of an experiment.
    async fn logged_models(&self, experiment: ExperimentId, from: Option<&str>) -> Result<Part<SourceModel>>;
    /// Registered models.
    async fn registered(&self, from: Option<&str>) -> Result<Part<SourceRegistered>>;
    /// The files of a root.
    async fn files(&self, root: &Root) -> Result<Files>;
    /// One of them.
    async fn read(&self, root: &Root, key: &str) -> Result<Content>;
}

/// The source cannot be read.
pub fn unreadable(what: impl std::fmt::Display) -> Fault {
    Fault::invalid(Code::SOURCE_UNREADABLE, what.to_string())
}
