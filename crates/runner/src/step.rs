//! Runs one node: pins its inputs, skips it when its work key is known, retries what is transient, and ends
//! its run in one ledger transaction.

use crate::observer::{Observer, StepEnd};
use crate::plan::backoff;
use gristmill_kernel::error::Code;
use gristmill_kernel::graph::Node;
use gristmill_kernel::port::Ports;
use gristmill_kernel::run::{Annotation, Finish, NewRun, RunError, work_key};
use gristmill_kernel::stage::{CancelFlag, Made, Progress, StageMove};
use gristmill_kernel::version::{AliasMove, Which};
use gristmill_kernel::{
    Actor, Address, Done, Fault, Kind, NewVersion, Order, Result, Run, RunId, RunStatus, Span, Stage, StageContext, StageKind, Verdict,
    Version, limits,
};
use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Runs nodes with the stages it was given. One per process; a node is never run twice at the same time by it.
pub struct Stepper {
    ports: Ports,
    stages: HashMap<StageKind, Arc<dyn Stage>>,
    project_dir: PathBuf,
    worker: String,
    observer: Arc<dyn Observer>,
    locks: Mutex<HashMap<Address, Arc<tokio::sync::Mutex<()>>>>,
}

/// Why and for whom a node is run.
#[derive(Debug, Clone)]
pub struct StepOrder {
    /// The node, overrides applied.
    pub node: Node,
    /// The flow it belongs to.
    pub parent: Option<RunId>,
    /// Who asked.
    pub actor: Actor,
    /// Why.
    pub reason: String,
    /// Run even if unchanged.
    pub force: bool,
}

impl StepOrder {
    /// As the stage sees it.
    fn to_stage(&self, run: RunId, inputs: Vec<Version>) -> Order {
        Order { run, node: self.node.clone(), inputs, actor: self.actor.clone(), reason: self.reason.clone() }
    }
}

/// What came of a step.
#[derive(Debug, Clone)]
pub struct StepOutcome {
    /// The run that was written.
    pub run: Run,
}

impl StepOutcome {
    /// Whether a gate or expectation said no.
    pub fn refused(&self) -> bool {
        self.run.verdict == Some(Verdict::Fail)
    }
}

impl Stepper {
    /// A stepper; `worker` names this process in leases.
    pub fn new(ports: Ports, stages: Vec<Arc<dyn Stage>>, project_dir: PathBuf, worker: String, observer: Arc<dyn Observer>) -> Stepper {
        let stages = stages.into_iter().map(|s| (s.kind(), s)).collect();
        Stepper { ports, stages, project_dir, worker, observer, locks: Mutex::default() }
    }

    /// The ports it works with.
    pub fn ports(&self) -> &Ports {
        &self.ports
    }
    /// The name of this process in leases.
    pub fn worker(&self) -> &str {
        &self.worker
    }
    /// Who is shown what happens.
    pub fn observer(&self) -> &Arc<dyn Observer> {
        &self.observer
    }

    /// Runs a node now. An error is a step that failed for good; it is in the ledger too.
    pub async fn step(&self, order: StepOrder, cancel: &CancelFlag) -> Result<StepOutcome> {
        let lock = self.lock_of(&order.node.address);
        let _one_at_a_time = lock.lock().await;
        cancel.check()?;
        let stage = self
            .stages
            .get(&order.node.stage)
            .ok_or_else(|| Fault::internal(format!("no stage {} is registered", order.node.stage)))?
            .clone();
        let began = Instant::now();
        self.observer.began(&order.node);
        let inputs = self.inputs(&order.node).await?;
        let key = work_key(&order.node, &inputs);
        if stage.skippable()
            && !order.force
            && let Some(before) = self.ports.ledger.run_by_key(&key).await?
            && self.outputs_stand(&before).await?
            && stage.stands(&self.ports, &order.to_stage(before.id.clone(), inputs.clone())).await?
        {
            return self.skip(order, inputs, key, before, began).await;
        }
        let run = self.open(&order, &inputs, key).await?;
        let heartbeat = self.heartbeat(run.id.clone(), cancel.clone());
        let done = self.attempts(&order, stage, &run, inputs, cancel).await;
        heartbeat.abort();
        match done {
            Ok(done) => {
                let finish = self.conclude(&run, done)?;
                let run = self.ports.ledger.finish(&run.id, finish, self.ports.clock.now()).await?;
                self.observer.ended(&order.node, &step_end(&run, false, began.elapsed()));
                Ok(StepOutcome { run })
            }
            Err(fault) => {
                let status = if fault.kind == Kind::Cancelled { RunStatus::Cancelled } else { RunStatus::Failed };
                let finish = Finish { error: Some(RunError::from(&fault)), summary: fault.message.clone(), ..Finish::empty(status) };
                self.ports.ledger.finish(&run.id, finish, self.ports.clock.now()).await?;
                self.observer.failed(&order.node, &fault, None);
                Err(fault)
            }
        }
    }

    fn lock_of(&self, address: &Address) -> Arc<tokio::sync::Mutex<()>> {
        self.locks.lock().unwrap_or_else(PoisonError::into_inner).entry(address.clone()).or_default().clone()
    }

    /// The newest version of each parent that has one.
    async fn inputs(&self, node: &Node) -> Result<Vec<Version>> {
        let mut inputs = Vec::new();
        for parent in &node.parents {
            inputs.extend(self.ports.ledger.version(parent, &Which::Latest).await?);
        }
        Ok(inputs)
    }

    /// A skip is only as good as what the earlier run made: its outputs must still be the newest of their assets.
    async fn outputs_stand(&self, before: &Run) -> Result<bool> {
        for output in &before.outputs {
            let newest = self.ports.ledger.version(&output.asset, &Which::Latest).await?;
            if newest.is_none_or(|v| v.id != *output) {
                return Ok(false);
            }
        }
        Ok(!before.outputs.is_empty())
    }

    async fn open(&self, order: &StepOrder, inputs: &[Version], key: gristmill_kernel::Digest) -> Result<Run> {
        let now = self.ports.clock.now();
        let run = NewRun {
            id: self.ports.ids.run(),
            stage: order.node.stage,
            address: order.node.address.clone(),
            spec: order.node.spec.clone(),
            key,
            inputs: inputs.iter().map(|v| v.id.clone()).collect(),
            parent: order.parent.clone(),
            actor: order.actor.clone(),
            reason: order.reason.clone(),
            idempotency: None,
            due_at: now,
        };
        self.ports.ledger.begin(run, &self.worker, now, now.plus(Span::from_millis(limits::LEASE_MS))).await
    }

    async fn skip(
        &self,
        order: StepOrder,
        inputs: Vec<Version>,
        key: gristmill_kernel::Digest,
        before: Run,
        began: Instant,
    ) -> Result<StepOutcome> {
        let run = self.open(&order, &inputs, key).await?;
        let names: Vec<String> = before.outputs.iter().map(ToString::to_string).collect();
        let finish = Finish {
            verdict: before.verdict,
            checks: before.checks.clone(),
            skipped_for: Some(before.id.clone()),
            reused: before.outputs.clone(),
            summary: format!("unchanged: same spec and inputs as run {}, {} stands", before.id.short(), names.join(", ")),
            ..Finish::empty(RunStatus::Skipped)
        };
        let run = self.ports.ledger.finish(&run.id, finish, self.ports.clock.now()).await?;
        self.observer.ended(&order.node, &step_end(&run, true, began.elapsed()));
        Ok(StepOutcome { run })
    }

    /// Keeps the lease; a lost lease stops the work.
    fn heartbeat(&self, run: RunId, cancel: CancelFlag) -> tokio::task::JoinHandle<()> {
        let (ports, worker) = (self.ports.clone(), self.worker.clone());
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(Duration::from_millis(limits::LEASE_MS / 3)).await;
                let until = ports.clock.now().plus(Span::from_millis(limits::LEASE_MS));
                match ports.ledger.renew(&run, &worker, until).await {
                    Ok(run) if run.cancel_asked => cancel.cancel(),
                    Ok(_) => {}
                    Err(fault) if fault.kind == Kind::Conflict => cancel.cancel(),
                    Err(fault) => tracing::warn!(run = %run, error = %fault, "could not renew a lease"),
                }
            }
        })
    }

    async fn attempts(
        &self,
        order: &StepOrder,
        stage: Arc<dyn Stage>,
        run: &Run,
        inputs: Vec<Version>,
        cancel: &CancelFlag,
    ) -> Result<Done> {
        let mut attempt = 1;
        loop {
            let fault = match self.attempt(order, stage.clone(), run, inputs.clone(), cancel).await {
                Ok(done) => return Ok(done),
                Err(fault) => fault,
            };
            attempt += 1;
            let Some(wait) = backoff(attempt).filter(|_| fault.kind.is_transient()) else { return Err(fault) };
            tracing::warn!(run = %run.id, address = %order.node.address, error = %fault, "step will be tried again");
            self.observer.failed(&order.node, &fault, Some(wait));
            let tags = BTreeMap::from([("attempt".to_owned(), attempt.to_string()), ("last_error".to_owned(), fault.message.clone())]);
            self.ports.ledger.annotate(&run.id, Annotation { tags, ..Annotation::default() }).await?;
            tokio::time::sleep(wait).await;
            cancel.check()?;
        }
    }

    /// One attempt in a task of its own, so that a panic is an error of the step and not the end of the process.
    async fn attempt(
        &self,
        order: &StepOrder,
        stage: Arc<dyn Stage>,
        run: &Run,
        inputs: Vec<Version>,
        cancel: &CancelFlag,
    ) -> Result<Done> {
        let cx = StageContext {
            ports: self.ports.clone(),
            project_dir: self.project_dir.clone(),
            progress: Arc::new(Shown { observer: self.observer.clone(), node: order.node.clone() }),
            cancel: cancel.clone(),
        };
        let order = order.to_stage(run.id.clone(), inputs);
        let address = order.node.address.clone();
        let mut task = tokio::spawn(async move { stage.run(&cx, order).await });
        let ended = tokio::time::timeout(Duration::from_millis(limits::STEP_TIMEOUT_MS), &mut task).await;
        match ended {
            Ok(Ok(done)) => done,
            Ok(Err(join)) => Err(Fault::internal(format!("{address} stopped by a bug: {join}"))
                .fix("please report it with the log; nothing it was about to write became visible")),
            Err(_) => {
                cancel.cancel();
                task.abort();
                Err(Fault::new(Kind::Timeout, Code::TIMED_OUT, format!("{address} took longer than its limit"))
                    .fix("look at its log; a smaller input or a larger machine may help"))
            }
        }
    }

    fn conclude(&self, run: &Run, done: Done) -> Result<Finish> {
        match done {
            Done::Unchanged { versions, summary } => Ok(Finish { reused: versions, summary, ..Finish::empty(RunStatus::Succeeded) }),
            Done::Made(Made { outputs, verdict, checks, params, metrics, aliases, summary }) => {
                let aliases = aliases.into_iter().map(|m| resolve(m, &outputs, run)).collect::<Result<Vec<_>>>()?;
                Ok(Finish { verdict, checks, outputs, params, metrics, aliases, summary, ..Finish::empty(RunStatus::Succeeded) })
            }
        }
    }
}

/// A move to a version that is made in the same transaction is written as `to: Some(0)`: "the output of this asset".
fn resolve(wish: StageMove, outputs: &[NewVersion], run: &Run) -> Result<AliasMove> {
    let mut alias = wish.wish;
    if let Some(index) = wish.output {
        let output = outputs.get(index).ok_or_else(|| Fault::internal("an alias names an output that does not exist"))?;
        if output.asset != alias.asset {
            return Err(Fault::internal("an alias names an output of another asset"));
        }
        alias.to = Some(NEW_OUTPUT);
    }
    alias.run.get_or_insert_with(|| run.id.clone());
    Ok(alias)
}

/// Stands in an alias move of a [`Finish`] for "the version that this run makes of the asset": numbers are given
/// inside the transaction, from 1.
pub const NEW_OUTPUT: u64 = gristmill_kernel::version::NEW_OUTPUT;

fn step_end(run: &Run, skipped: bool, took: Duration) -> StepEnd {
    StepEnd { summary: run.summary.clone(), verdict: run.verdict, skipped, took }
}

struct Shown {
    observer: Arc<dyn Observer>,
    node: Node,
}

impl Progress for Shown {
    fn at(&self, done: u64, total: u64, unit: &str) {
        self.observer.at(&self.node, done, total, unit);
    }
    fn say(&self, text: &str) {
        self.observer.say(&self.node, text);
    }
}
