//! The one face of a stage: an order goes in, what was done comes out.
//!
//! A stage reads through ports, decides in its `plan`, writes content (blobs, tables) and returns what the ledger
//! shall say. It never writes the ledger itself while it runs (progress apart): the runner records the end in one
//! transaction, so nothing is half-visible. Running an order twice must do no harm: content is addressed by digest,
//! tables by position.

use crate::error::{Code, Fault, Result};
use crate::graph::Node;
use crate::port::Ports;
use crate::run::Metric;
use crate::version::AliasMove;
use crate::{Actor, Check, NewVersion, RunId, StageKind, Verdict, Version, VersionRef};
use async_trait::async_trait;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// What a stage is asked to do.
#[derive(Debug, Clone)]
pub struct Order {
    /// The run it is.
    pub run: RunId,
    /// The node of the graph: address, stage, resolved spec.
    pub node: Node,
    /// The newest version of each parent that has one, in the order of `node.parents`. Pinned for this run.
    pub inputs: Vec<Version>,
    /// Who asked.
    pub actor: Actor,
    /// Why.
    pub reason: String,
}

impl Order {
    /// Reads the spec as the stage's own type.
    pub fn spec<T: serde::de::DeserializeOwned>(&self) -> Result<T> {
        serde_json::from_value(self.node.spec.clone())
            .map_err(|e| Fault::internal(format!("the spec of {} does not fit stage {}: {e}", self.node.address, self.node.stage)))
    }
    /// The input of a kind and name.
    pub fn input(&self, asset: &crate::Address) -> Result<&Version> {
        self.inputs.iter().find(|v| v.id.asset == *asset).ok_or_else(|| {
            Fault::conflict(Code::UNKNOWN_ADDRESS, format!("{} needs {asset}, which has no version yet", self.node.address))
                .fix(format!("run it first: gristmill run {asset}"))
        })
    }
}

/// What a stage did.
#[derive(Debug, Clone)]
pub enum Done {
    /// It made versions.
    Made(Made),
    /// There was nothing to do: these versions stand.
    Unchanged {
        /// The versions that stand.
        versions: Vec<VersionRef>,
        /// Why, for people.
        summary: String,
    },
}

/// Versions made, and what to remember.
#[derive(Debug, Clone, Default)]
pub struct Made {
    /// The new versions, complete and readable. One whose digest equals the newest version of its asset is not made again.
    pub outputs: Vec<NewVersion>,
    /// The verdict; `None` where the stage judges nothing.
    pub verdict: Option<Verdict>,
    /// The conditions behind it.
    pub checks: Vec<Check>,
    /// Parameters to remember.
    pub params: BTreeMap<String, String>,
    /// Metrics to remember.
    pub metrics: Vec<Metric>,
    /// Aliases that move with the end of the run. `to` counts outputs: see [`MoveTo`].
    pub aliases: Vec<StageMove>,
    /// One line for people, with the counts.
    pub summary: String,
}

/// An alias move by a stage; a number that does not exist yet is named by its output.
#[derive(Debug, Clone)]
pub struct StageMove {
    /// The wish; `to` is ignored when `output` is set.
    pub wish: AliasMove,
    /// The index into `outputs` of the version the alias shall name.
    pub output: Option<usize>,
}

/// What a stage has at hand while it works.
#[derive(Clone)]
pub struct StageContext {
    /// The ports.
    pub ports: Ports,
    /// The project's folder: relative paths in specs start here.
    pub project_dir: PathBuf,
    /// Shows progress.
    pub progress: Arc<dyn Progress>,
    /// Set when somebody asked to stop; look at it between pieces of work.
    pub cancel: CancelFlag,
}

/// Set once, read often.
#[derive(Debug, Clone, Default)]
pub struct CancelFlag(Arc<AtomicBool>);

impl CancelFlag {
    /// Asks to stop.
    pub fn cancel(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
    /// An error if somebody asked to stop.
    pub fn check(&self) -> Result<()> {
        if self.0.load(Ordering::Relaxed) {
            return Err(Fault::new(crate::Kind::Cancelled, Code::CANCELLED, "stopped on request"));
        }
        Ok(())
    }
}

/// Shows how far a piece of work is. Calls are cheap and may come often.
pub trait Progress: Send + Sync {
    /// `done` of `total` (0 when unknown) `unit`s.
    fn at(&self, done: u64, total: u64, unit: &str);
    /// A sentence about what happens now.
    fn say(&self, text: &str);
}

/// Shows nothing.
pub struct NoProgress;
impl Progress for NoProgress {
    fn at(&self, _: u64, _: u64, _: &str) {}
    fn say(&self, _: &str) {}
}

/// One stage. Registered in the binary's `wiring.rs`, in one list.
#[async_trait]
pub trait Stage: Send + Sync {
    /// Which stage this is.
    fn kind(&self) -> StageKind;
    /// Does the work. Safe to call again with the same order after a crash.
    async fn run(&self, cx: &StageContext, order: Order) -> Result<Done>;
    /// Whether what an earlier run of an equal order made outside the ledger and the blobs is still there. Asked before the work is skipped
    /// for that run; what is lost is made again.
    async fn stands(&self, _ports: &Ports, _order: &Order) -> Result<bool> {
        Ok(true)
    }
    /// Whether equal inputs and spec make the work skippable. Stages that read the world (ingest) or the clock
    /// (deploy, monitor) say no and decide for themselves.
    fn skippable(&self) -> bool {
        true
    }
}
