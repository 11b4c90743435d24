//! Runs: one line of the ledger per piece of work.
//!
//! A run names its stage, the digest of its spec, the versions it read and made, parameters, metrics, verdict, actor and times.
//! A *flow* is the run that drives others: its steps have it as `parent`.

use crate::graph::Node;
use crate::{Address, Check, Digest, Timestamp, Verdict, VersionRef};
use std::collections::BTreeMap;
use std::fmt;

/// Identifies a run: 32 lowercase hex digits.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct RunId(pub String);

impl RunId {
    /// The first eight digits, for people.
    pub fn short(&self) -> &str {
        self.0.get(..8).unwrap_or(&self.0)
    }
}
impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Who acts: a person, a token or a part of the system.
#[derive(Debug, Clone, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct Actor(pub String);

impl Actor {
    /// A part of the system: `system:retrain`.
    pub fn system(part: &str) -> Actor {
        Actor(format!("system:{part}"))
    }
    /// A person: `user:ada`.
    pub fn user(name: &str) -> Actor {
        Actor(format!("user:{name}"))
    }
}
impl fmt::Display for Actor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The stages, in the order the data takes. The words are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StageKind {
    /// sources -> raw rows
    Ingest,
    /// raw rows -> accepted rows, quarantine, profile
    Validate,
    /// definitions -> training sets, online rows
    Features,
    /// training set -> model
    Train,
    /// model -> the right to be rolled out (stage `registry`)
    Gate,
    /// model -> deployment
    Deploy,
    /// deployment -> predictions
    Serve,
    /// predictions -> report
    Monitor,
    /// drives the others
    Flow,
    /// a client's files -> a version of a model (stage `registry`)
    Register,
}

impl StageKind {
    /// Every stage, in order.
    pub const ALL: [StageKind; 10] = [
        StageKind::Ingest,
        StageKind::Validate,
        StageKind::Features,
        StageKind::Train,
        StageKind::Gate,
        StageKind::Deploy,
        StageKind::Serve,
        StageKind::Monitor,
        StageKind::Flow,
        StageKind::Register,
    ];
    /// The word.
    pub fn as_str(self) -> &'static str {
        match self {
            StageKind::Ingest => "ingest",
            StageKind::Validate => "validate",
            StageKind::Features => "features",
            StageKind::Train => "train",
            StageKind::Gate => "gate",
            StageKind::Deploy => "deploy",
            StageKind::Serve => "serve",
            StageKind::Monitor => "monitor",
            StageKind::Flow => "flow",
            StageKind::Register => "register",
        }
    }
}
impl fmt::Display for StageKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Where a run stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunStatus {
    /// Waiting for a worker.
    Queued,
    /// A worker has a lease on it.
    Running,
    /// Done; look at the verdict.
    Succeeded,
    /// Not needed: same inputs, same spec, so the same outputs as `skipped_for`.
    Skipped,
    /// An error; look at `error`.
    Failed,
    /// Stopped on request.
    Cancelled,
}

impl RunStatus {
    /// The word.
    pub fn as_str(self) -> &'static str {
        match self {
            RunStatus::Queued => "queued",
            RunStatus::Running => "running",
            RunStatus::Succeeded => "succeeded",
            RunStatus::Skipped => "skipped",
            RunStatus::Failed => "failed",
            RunStatus::Cancelled => "cancelled",
        }
    }
    /// Whether nothing more will happen to it.
    pub fn is_final(self) -> bool {
        !matches!(self, RunStatus::Queued | RunStatus::Running)
    }
}
impl fmt::Display for RunStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One measured value.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Metric {
    /// Its name, such as `auc` or `slice.country=France.auc`.
    pub key: String,
    /// Its value; may be NaN.
    pub value: f64,
    /// The step it belongs to, 0 if there are none.
    pub step: i64,
}

impl Metric {
    /// A value without steps.
    pub fn new(key: impl Into<String>, value: f64) -> Metric {
        Metric { key: key.into(), value, step: 0 }
    }
}

/// The stored form of an error: what a later reader needs.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct RunError {
    /// The code.
    pub code: String,
    /// What happened.
    pub message: String,
    /// What to do.
    pub fix: Option<String>,
    /// Whether another try may help.
    pub transient: bool,
}

impl From<&crate::Fault> for RunError {
    fn from(fault: &crate::Fault) -> RunError {
        RunError {
            code: fault.code.0.to_owned(),
            message: match &fault.spot {
                Some(spot) => format!("{}:{}:{}: {}", spot.file, spot.line, spot.column, fault.message),
                None => fault.message.clone(),
            },
            fix: fault.fix.clone(),
            transient: fault.kind.is_transient(),
        }
    }
}

/// A run about to be written.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct NewRun {
    /// Its id, from the `Ids` port.
    pub id: RunId,
    /// Which stage does it.
    pub stage: StageKind,
    /// What it is for.
    pub address: Address,
    /// The resolved spec, without secrets.
    pub spec: serde_json::Value,
    /// Digest of stage, address, spec and input versions: the key under which work is skipped.
    pub key: Digest,
    /// The versions it reads.
    pub inputs: Vec<VersionRef>,
    /// The flow it belongs to.
    pub parent: Option<RunId>,
    /// Who asked.
    pub actor: Actor,
    /// Why: `asked`, `schedule`, `drift: psi(spend_90d) = 0.41 > 0.2`.
    pub reason: String,
    /// A second submission with the same token returns the first run.
    pub idempotency: Option<String>,
    /// Not before this moment.
    pub due_at: Timestamp,
}

/// How a run ended. Written in one transaction with everything that follows from it.
#[derive(Debug, Clone, PartialEq)]
pub struct Finish {
    /// A final status.
    pub status: RunStatus,
    /// The verdict.
    pub verdict: Option<Verdict>,
    /// The conditions behind the verdict.
    pub checks: Vec<Check>,
    /// What it made; numbers are given now, and become visible now.
    pub outputs: Vec<crate::NewVersion>,
    /// For a skipped run: the run whose outputs stand.
    pub skipped_for: Option<RunId>,
    /// Versions that already existed and are this run's result (skipped, unchanged).
    pub reused: Vec<VersionRef>,
    /// Aliases that move with it.
    pub aliases: Vec<crate::version::AliasMove>,
    /// Parameters to remember.
    pub params: BTreeMap<String, String>,
    /// Metrics to remember.
    pub metrics: Vec<Metric>,
    /// One line for people: counts, time, why skipped.
    pub summary: String,
    /// The error, if it failed.
    pub error: Option<RunError>,
    /// Runs that must now be queued.
    pub follow_ups: Vec<NewRun>,
}

/// A note on an open run.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Annotation {
    /// Parameters; a different value for a known one is a conflict.
    pub params: BTreeMap<String, String>,
    /// Metrics; the same (key, step) again replaces.
    pub metrics: Vec<Metric>,
    /// Tags; the last value stands.
    pub tags: BTreeMap<String, String>,
    /// Progress for people.
    pub summary: Option<String>,
}

/// One line of the ledger.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Run {
    /// Its id.
    pub id: RunId,
    /// Which stage does it.
    pub stage: StageKind,
    /// What it is for.
    pub address: Address,
    /// The resolved spec.
    pub spec: serde_json::Value,
    /// The skip key.
    pub key: Digest,
    /// The flow it belongs to.
    pub parent: Option<RunId>,
    /// Who asked.
    pub actor: Actor,
    /// Why.
    pub reason: String,
    /// Where it stands.
    pub status: RunStatus,
    /// The verdict, when it has one.
    pub verdict: Option<Verdict>,
    /// The conditions behind it.
    pub checks: Vec<Check>,
    /// The versions it read.
    pub inputs: Vec<VersionRef>,
    /// The versions it made or found unchanged.
    pub outputs: Vec<VersionRef>,
    /// For a skipped run: the run whose outputs stand.
    pub skipped_for: Option<RunId>,
    /// Parameters.
    pub params: BTreeMap<String, String>,
    /// The last value of each metric.
    pub metrics: BTreeMap<String, f64>,
    /// Tags.
    pub tags: BTreeMap<String, String>,
    /// One line for people.
    pub summary: String,
    /// The error, if it failed.
    pub error: Option<RunError>,
    /// Which try this is, from 1; 0 while queued.
    pub attempt: u32,
    /// Whether somebody asked to stop it.
    pub cancel_asked: bool,
    /// When it was submitted.
    pub submitted_at: Timestamp,
    /// Not before this moment.
    pub due_at: Timestamp,
    /// When its last attempt began.
    pub started_at: Option<Timestamp>,
    /// When it ended. Runs that tracking clients write (`experiments.*`) may lack it, or keep it when they are opened again.
    pub ended_at: Option<Timestamp>,
}

/// The key under which finished work is found again.
pub fn work_key(node: &Node, inputs: &[crate::Version]) -> Digest {
    let mut parts: Vec<Vec<u8>> =
        vec![node.stage.as_str().as_bytes().to_vec(), node.address.to_string().into_bytes(), node.spec.to_string().into_bytes()];
    parts.extend(inputs.iter().map(|v| format!("{}={}", v.id.asset, v.digest).into_bytes()));
    Digest::of_parts(parts.iter().map(Vec::as_slice))
}
