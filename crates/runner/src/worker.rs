//! Takes flows from the queue, one at a time, and drives them. The process that owns the state folder runs one worker.

use crate::flow;
use crate::step::Stepper;
use gristmill_kernel::graph::Graph;
use gristmill_kernel::stage::CancelFlag;
use gristmill_kernel::{Kind, Result, Run, RunId, Span, limits};
use std::sync::{Arc, OnceLock, PoisonError, RwLock};
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// How often an idle worker looks at the queue.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Gives the newest graph of the project, if it can be read.
type Reload = Box<dyn Fn() -> Option<Graph> + Send + Sync>;

/// Drives queued flows over the project's graph, which may be replaced while it runs.
pub struct Worker {
    stepper: Arc<Stepper>,
    graph: RwLock<Arc<Graph>>,
    reload: OnceLock<Reload>,
}

impl Worker {
    /// A worker over a graph.
    pub fn new(stepper: Arc<Stepper>, graph: Graph) -> Worker {
        Worker { stepper, graph: RwLock::new(Arc::new(graph)), reload: OnceLock::new() }
    }
    /// The graph that flows are driven over.
    pub fn graph(&self) -> Arc<Graph> {
        self.graph.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
    /// Replaces the graph; a flow under way finishes on the one it began with.
    pub fn set_graph(&self, graph: Graph) {
        *self.graph.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(graph);
    }
    /// Reads the project again before each flow: whoever queued it may have changed the project. Only the first call counts.
    pub fn reload_before_flows(&self, reload: impl Fn() -> Option<Graph> + Send + Sync + 'static) {
        let _set_before = self.reload.set(Box::new(reload));
    }
    /// What runs single nodes.
    pub fn stepper(&self) -> &Arc<Stepper> {
        &self.stepper
    }

    /// Puts back what an earlier owner of this state folder left open. Call once, before `run`, by the only owner.
    pub async fn take_over(&self) -> Result<u64> {
        let ports = self.stepper.ports();
        ports.ledger.take_over(self.stepper.worker(), ports.clock.now()).await
    }

    /// Drives flows until `stop`; a flow under way is stopped between steps and goes back to the queue with its lease.
    pub async fn run(&self, stop: CancellationToken) {
        while !stop.is_cancelled() {
            match self.run_next(&stop).await {
                Ok(true) => {}
                Ok(false) => tokio::select! {
                    () = stop.cancelled() => {}
                    () = tokio::time::sleep(LOOK_EVERY) => {}
                },
                Err(fault) => {
                    tracing::error!(error = %fault, "the worker could not take a run");
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
            }
        }
    }

    /// Drives the queue until `run` has ended; used by commands that work in their own process.
    pub async fn run_until(&self, run: &RunId, stop: &CancellationToken) -> Result<Run> {
        loop {
            if let Some(run) = self.stepper.ports().ledger.run(run).await?.filter(|r| r.status.is_final()) {
                return Ok(run);
            }
            if stop.is_cancelled() {
                return Err(gristmill_kernel::Fault::new(Kind::Cancelled, gristmill_kernel::Code::CANCELLED, "stopped on request")
                    .fix("the run stays in the queue; the next start goes on with it"));
            }
            if !self.run_next(stop).await? {
                tokio::time::sleep(LOOK_EVERY).await;
            }
        }
    }

    async fn run_next(&self, stop: &CancellationToken) -> Result<bool> {
        let ports = self.stepper.ports();
        let now = ports.clock.now();
        let until = now.plus(Span::from_millis(limits::LEASE_MS));
        let Some(run) = ports.ledger.lease(self.stepper.worker(), now, until).await? else { return Ok(false) };
        let cancel = CancelFlag::default();
        let heartbeat = self.watch(run.id.clone(), cancel.clone());
        if let Some(graph) = self.reload.get().and_then(|reload| reload()) {
            self.set_graph(graph);
        }
        let graph = self.graph();
        let driven = tokio::select! {
            driven = flow::drive(&self.stepper, &graph, &run, &cancel) => Some(driven),
            () = stop.cancelled() => None,
        };
        heartbeat.abort();
        match driven {
            Some(driven) => driven.map(|_| true),
            None => {
                // Leaving: whatever the step wrote is addressed by digest or position, so the next owner takes over safely.
                cancel.cancel();
                Ok(true)
            }
        }
    }

    fn watch(&self, run: RunId, cancel: CancelFlag) -> tokio::task::JoinHandle<()> {
        let (ports, worker) = (self.stepper.ports().clone(), self.stepper.worker().to_owned());
        tokio::spawn(async move {
            let mut ticks = 0u64;
            loop {
                tokio::time::sleep(Duration::from_millis(500)).await;
                ticks += 1;
                let asked = match ports.ledger.run(&run).await {
                    Ok(Some(run)) => run.cancel_asked,
                    _ => false,
                };
                if asked {
                    cancel.cancel();
                }
                if ticks * 500 >= limits::LEASE_MS / 3 {
                    ticks = 0;
                    let until = ports.clock.now().plus(Span::from_millis(limits::LEASE_MS));
                    if let Err(fault) = ports.ledger.renew(&run, &worker, until).await
                        && fault.kind == Kind::Conflict
                    {
                        cancel.cancel();
                    }
                }
            }
        })
    }
}
