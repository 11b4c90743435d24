//! Plugs adapters into ports: the one place where parts are chosen, and the one list of stages.
//!
//! [`State`] is a state folder as any process may open it: ledger, blobs, tables. [`Workspace`] adds the project and its graph.
//! [`Owner`] is the one process that holds the state folder's lock: it has the online rows, the journal and the worker.

use crate::cli::{Cx, Faults};
use crate::egress::WebEgress;
use async_trait::async_trait;
use bytes::Bytes;
use gristmill_kernel::graph::Graph;
use gristmill_kernel::port::{
    AsOfPlan, FlowOrder, Journal, JournalEntry, JournalState, Online, OnlineRead, OnlineRow, Ports, RegisteredVersions, Runs as _,
    SlotState, TableShape, TableUpkeep, Tokens, WholeRows,
};
use gristmill_kernel::table::{Catalog, Relation};
use gristmill_kernel::version::{AliasState, Place, Which};
use gristmill_kernel::{Actor, Address, AliasName, AssetKind, Code, Fault, Kind, Name, Result, Run, Stage, Timestamp};
use gristmill_project::{Diagnostic, EnvSecrets, Project, TestResult};
use gristmill_runner::{Observer, Queue, Silent, Stepper, Worker};
use gristmill_store::blobs::LocalBlobs;
use gristmill_store::ledger::SqliteLedger;
use gristmill_store::{StateLock, system};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// The folder of a project's state.
pub const STATE_DIR: &str = ".gristmill";

/// The stages. To add one: its crate, and a line here.
pub fn stages(egress: Arc<WebEgress>, registered: Arc<dyn RegisteredVersions>) -> Vec<Arc<dyn Stage>> {
    vec![
        Arc::new(gristmill_ingest::IngestStage),
        Arc::new(gristmill_validate::ValidateStage),
        Arc::new(gristmill_features::FeaturesStage),
        gristmill_train::stage(),
        Arc::new(gristmill_registry::GateStage),
        Arc::new(gristmill_deploy::DeployStage::new(registered)),
        Arc::new(gristmill_monitor::MonitorStage::new(egress)),
    ]
}

/// Where a running server can be found; written by it, removed by it.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
pub struct ServerFile {
    /// Its address.
    pub url: String,
    /// Its process, for people.
    pub pid: u32,
}

/// A state folder as any process may open it.
pub struct State {
    /// The project's folder.
    pub dir: PathBuf,
    /// The state folder.
    pub state_dir: PathBuf,
    /// The ports; online rows and journal answer with an error unless this process owns them.
    pub ports: Ports,
    /// Tokens.
    pub tokens: Arc<dyn Tokens>,
    /// The ledger as its adapter, for the ports of experiment tracking.
    pub ledger: Arc<SqliteLedger>,
    /// The blobs as their adapter.
    pub blobs: Arc<LocalBlobs>,
    /// What keeps tables in order.
    pub tables: Arc<dyn TableUpkeep>,
    actor: Actor,
}

impl State {
    /// Opens the state of the project that the flags mean.
    pub async fn open(cx: &Cx) -> Result<State> {
        let dir = project_dir(cx)?;
        State::open_in(cx, &dir).await
    }

    async fn open_in(cx: &Cx, dir: &Path) -> Result<State> {
        let state_dir = dir.join(STATE_DIR);
        std::fs::create_dir_all(&state_dir).map_err(|e| Fault::io(format!("make {}", state_dir.display()), e))?;
        let ledger = gristmill_store::open_ledger(&state_dir).await?;
        let tables = state_dir.join("tables");
        std::fs::create_dir_all(&tables).map_err(|e| Fault::io(format!("make {}", tables.display()), e))?;
        let held = Arc::new(Held);
        let blobs = gristmill_store::open_blobs(&state_dir)?;
        let engine = Arc::new(gristmill_engine::LocalEngine::open(&tables)?);
        let ports = Ports {
            ledger: ledger.clone(),
            blobs: blobs.clone(),
            online: held.clone(),
            journal: held,
            engine: engine.clone(),
            clock: Arc::new(system::SystemClock::new()),
            ids: Arc::new(system::RandomIds),
            secrets: Arc::new(EnvSecrets::read(cx.outside.vars.clone(), dir)?),
        };
        Ok(State { dir: dir.to_owned(), state_dir, ports, tokens: ledger.clone(), ledger, blobs, tables: engine, actor: cx.actor() })
    }

    /// The running server, if its process still holds the lock.
    pub fn server(&self) -> Option<ServerFile> {
        let text = std::fs::read_to_string(self.state_dir.join("server.json")).ok()?;
        let file: ServerFile = serde_json::from_str(&text).ok()?;
        // A server that was killed leaves its file but not its lock.
        match StateLock::try_acquire(&self.state_dir) {
            Ok(None) => Some(file),
            _ => None,
        }
    }

    /// The tables a person may query: sources by name, and everything else that is a table as `KIND_NAME`.
    pub async fn catalog(&self) -> Result<Catalog> {
        let mut catalog = Catalog::new();
        for asset in self.ports.ledger.assets().await? {
            let Some(version) = self.ports.ledger.version(&asset, &Which::Latest).await? else { continue };
            let Place::Table { table, .. } = version.place.clone() else { continue };
            let name = match asset.kind {
                AssetKind::Sources => asset.name.to_string(),
                kind => format!("{kind}_{}", asset.name),
            };
            // A snapshot shows its newest load; of everything else a query sees all rows.
            let snapshot = asset.kind == AssetKind::Sources && self.is_snapshot(&version).await?;
            let time = (!snapshot).then(|| gristmill_kernel::table::LOADED_AT.to_owned());
            catalog.insert(name, Relation::Stored { table, version: None, time });
        }
        Ok(catalog)
    }

    /// Whether a source has no event time, by the spec of the run that accepted its rows.
    async fn is_snapshot(&self, version: &gristmill_kernel::Version) -> Result<bool> {
        Ok(self.ports.ledger.run(&version.run).await?.is_some_and(|run| run.spec["time"].is_null()))
    }

    /// The queue.
    pub fn queue(&self) -> Arc<Queue> {
        Arc::new(Queue::new(self.ports.ledger.clone(), self.ports.clock.clone(), self.ports.ids.clone()))
    }

    /// Moves an alias of a model for a person.
    pub async fn promote(&self, model: &Name, which: &Which, to: AliasName, reason: &str, force: bool) -> Result<AliasState> {
        let wish = gristmill_registry::Promote {
            model: model.clone(),
            which: which.clone(),
            to,
            actor: self.actor.clone(),
            reason: reason.to_owned(),
            force: if force { gristmill_registry::Force::Yes } else { gristmill_registry::Force::No },
        };
        gristmill_registry::promote(&self.ports, wish).await
    }
}

/// The project's folder: `--project`, or the nearest `gristmill.toml` upwards.
pub fn project_dir(cx: &Cx) -> Result<PathBuf> {
    match &cx.globals.project {
        Some(dir) => Ok(cx.outside.here.join(dir)),
        None => Project::find(&cx.outside.here),
    }
}

/// A project with its state.
pub struct Workspace {
    /// The state.
    pub state: State,
    /// The project.
    pub project: Project,
    /// Its graph; empty if it was loaded unchecked and its queries are wrong.
    pub graph: Graph,
    /// What is wrong with the graph.
    pub graph_faults: Vec<Fault>,
    /// Errors from looking at the sources.
    source_faults: Vec<Fault>,
}

impl Workspace {
    /// Loads a project whose file and queries are sound.
    pub async fn load(cx: &Cx) -> Result<Workspace, Faults> {
        let mut workspace = Workspace::load_unchecked(cx).await?;
        if !workspace.graph_faults.is_empty() {
            return Err(Faults(std::mem::take(&mut workspace.graph_faults)));
        }
        Ok(workspace)
    }

    /// Loads a project; faults of its queries are kept for `check`.
    pub async fn load_unchecked(cx: &Cx) -> Result<Workspace, Faults> {
        Workspace::build(cx, load_project(cx)?).await
    }

    /// Loads a project with the columns that its sources have now, and writes them into the lock file.
    pub async fn accept_columns(cx: &Cx) -> Result<Workspace, Faults> {
        let mut project = load_project(cx)?;
        project.lock.sources.clear();
        let workspace = Workspace::build(cx, project).await?;
        workspace.save_lock()?;
        Ok(workspace)
    }

    async fn build(cx: &Cx, mut project: Project) -> Result<Workspace, Faults> {
        let dir = project.dir.clone();
        let state = State::open_in(cx, &dir).await?;
        let source_faults = pin_columns(&mut project).await;
        let (graph, graph_faults) = match project.graph(state.ports.engine.as_ref()) {
            Ok(graph) => (graph, Vec::new()),
            Err(faults) => (Graph::default(), faults),
        };
        Ok(Workspace { state, project, graph, graph_faults, source_faults })
    }

    /// Everything that is wrong or worth a warning.
    pub async fn check(&self) -> Vec<Diagnostic> {
        let mut found = gristmill_project::check(&self.project, self.state.ports.engine.as_ref()).await;
        for fault in &self.source_faults {
            found.push(Diagnostic::error(copy(fault)));
        }
        found
    }

    /// Refuses a project whose checks or unit tests fail; shows its warnings.
    pub async fn test_and_check(&self, cx: &Cx) -> Result<(), Faults> {
        let found = self.check().await;
        let mut errors = Vec::new();
        for diagnostic in found {
            match diagnostic.severity {
                gristmill_project::Severity::Error => errors.push(diagnostic.fault),
                gristmill_project::Severity::Warning => tracing::debug!(warning = %diagnostic.fault, "check"),
            }
        }
        if !errors.is_empty() {
            return Err(Faults(errors));
        }
        let results = self.unit_tests().await?;
        let failed: Vec<_> = results.iter().filter(|r| !r.passed()).collect();
        for result in &failed {
            cx.out.say(result.text());
        }
        if !failed.is_empty() {
            return Err(Fault::invalid(Code::BAD_VALUE, format!("{} of the project's unit tests fail", failed.len()))
                .fix("see them alone with gristmill test")
                .into());
        }
        Ok(())
    }

    /// Runs the project's unit tests.
    pub async fn unit_tests(&self) -> Result<Vec<TestResult>, Faults> {
        Ok(gristmill_project::run_tests(&self.project, self.state.ports.engine.as_ref()).await?)
    }

    /// Writes the JSON schema for editors.
    pub fn write_schema(&self) -> Result<()> {
        gristmill_project::schema::write(&self.project.dir)
    }

    /// Writes the lock file if a source was pinned for the first time.
    pub fn save_lock(&self) -> Result<()> {
        let stored = gristmill_project::Lock::load(&self.project.dir)?;
        if stored.to_text() != self.project.lock.to_text() {
            self.project.lock.save(&self.project.dir)?;
        }
        Ok(())
    }

    /// Compiles a view over the columns that are known.
    pub async fn compile(&self, address: &Address) -> Result<Arc<dyn AsOfPlan>> {
        let view = self.project.views.get(&address.name).ok_or_else(|| {
            let known: Vec<&str> = self.project.views.keys().map(Name::as_str).collect();
            Fault::not_found(Code::UNKNOWN_ADDRESS, format!("the project has no {address}")).fix(format!("it has {}", known.join(", ")))
        })?;
        let mut tables = BTreeMap::new();
        for (name, source) in &self.project.file.sources {
            if let Some(schema) = self.project.lock.schema(name) {
                tables.insert(name.to_string(), TableShape { schema: Arc::new(schema), time: source.time.clone() });
            }
        }
        self.state.ports.engine.compile(view, &tables).await
    }

    /// Runs a flow: in this process if the state folder is free, else by the process that holds it.
    pub async fn work(&self, cx: &Cx, order: FlowOrder) -> Result<Run> {
        let queue = self.state.queue();
        match StateLock::try_acquire(&self.state.state_dir)? {
            Some(lock) => {
                let owner = Owner::new(self, lock, cx.out.observer())?;
                owner.worker.take_over().await?;
                let run = queue.submit_flow(order).await?;
                let stop = CancellationToken::new();
                let watched = stop.clone();
                tokio::spawn(async move {
                    if tokio::signal::ctrl_c().await.is_ok() {
                        watched.cancel();
                    }
                });
                let ended = owner.worker.run_until(&run.id, &stop).await?;
                crate::upkeep::after_run(&owner.ports, self.state.tables.as_ref()).await;
                Ok(ended)
            }
            None => {
                let run = queue.submit_flow(order).await?;
                cx.out.say(format!("run {} is queued; the running server works on it", run.id.short()));
                follow(cx, &self.state, &run).await
            }
        }
    }
}

fn load_project(cx: &Cx) -> Result<Project, Faults> {
    let dir = project_dir(cx)?;
    let secrets = Arc::new(EnvSecrets::read(cx.outside.vars.clone(), &dir)?);
    Ok(Project::load(&dir, cx.globals.env.as_deref(), secrets)?)
}

/// Shows the steps of a run that another process drives.
async fn follow(cx: &Cx, state: &State, run: &Run) -> Result<Run> {
    let mut shown = std::collections::BTreeSet::new();
    loop {
        let now = state.ports.ledger.run(&run.id).await?.ok_or_else(|| Fault::damaged(format!("run {} is gone", run.id)))?;
        let filter = gristmill_kernel::port::RunFilter { parent: Some(run.id.clone()), limit: 1000, ..Default::default() };
        let mut steps = state.ports.ledger.runs(&filter).await?;
        steps.reverse();
        for step in steps.into_iter().filter(|s| s.status.is_final()) {
            if shown.insert(step.id.clone()) {
                cx.out.say(format!("{:<9} {:<24} {}: {}", step.stage.as_str(), step.address.to_string(), step.status, step.summary));
            }
        }
        if now.status.is_final() {
            return Ok(now);
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Pins the columns of sources that are not pinned yet, so that the first plan and the second see the same project.
async fn pin_columns(project: &mut Project) -> Vec<Fault> {
    let mut faults = Vec::new();
    let names: Vec<Name> = project.file.sources.keys().cloned().collect();
    for name in names {
        let Some(spec) = gristmill_project::resolve::source(project, &name) else { continue };
        let pinned = project.lock.sources.contains_key(&name);
        match gristmill_ingest::infer(&project.dir, &spec).await {
            Ok(columns) if !pinned && !columns.is_empty() => {
                project.lock.sources.insert(name, columns);
            }
            Ok(columns) if pinned && !columns.is_empty() => {
                if let Some(fault) = project.lock.verify(&name, &columns) {
                    faults.push(project.at(fault, &format!("sources.{name}.from")));
                }
            }
            Ok(_) => {}
            Err(fault) => faults.push(project.at(fault, &format!("sources.{name}.from"))),
        }
    }
    faults
}

fn copy(fault: &Fault) -> Fault {
    Fault {
        kind: fault.kind,
        code: fault.code,
        message: fault.message.clone(),
        fix: fault.fix.clone(),
        spot: fault.spot.clone(),
        source: None,
    }
}

/// The process that holds the state folder.
pub struct Owner {
    /// The ports, all of them real.
    pub ports: Ports,
    /// Drives flows.
    pub worker: Arc<Worker>,
    _lock: StateLock,
}

impl Owner {
    /// Opens the parts that only one process may have.
    pub fn new(workspace: &Workspace, lock: StateLock, observer: Arc<dyn Observer>) -> Result<Owner> {
        let owned = gristmill_store::open_owner(&workspace.state.state_dir)?;
        let ports = Ports { online: owned.online, journal: owned.journal, ..workspace.state.ports.clone() };
        let egress = Arc::new(WebEgress::new(workspace.project.file.alerts.allow_private)?);
        let worker_name = format!("{}-{}", std::process::id(), ports.ids.run().short());
        let stepper = Stepper::new(
            ports.clone(),
            stages(egress, crate::tracking::registered(&workspace.state)),
            workspace.project.dir.clone(),
            worker_name,
            observer,
        );
        let worker = Arc::new(Worker::new(Arc::new(stepper), workspace.graph.clone()));
        Ok(Owner { ports, worker, _lock: lock })
    }

    /// Takes the lock or says who has it.
    pub fn acquire(workspace: &Workspace, observer: Option<Arc<dyn Observer>>) -> Result<Owner> {
        let lock = StateLock::acquire(&workspace.state.state_dir)?;
        Owner::new(workspace, lock, observer.unwrap_or_else(|| Arc::new(Silent)))
    }
}

impl Cx {
    /// Who acts on this command line.
    pub fn actor(&self) -> Actor {
        Actor::user(&self.outside.user)
    }
}

/// Online rows and journal in a process that does not hold them.
struct Held;

fn held() -> Fault {
    Fault::new(Kind::Conflict, Code::STATE_LOCKED, "online rows and the journal belong to the process that holds the state folder")
        .fix("ask the running server, or stop it first")
}

#[async_trait]
impl Online for Held {
    async fn write(&self, _: &str, _: Vec<OnlineRow>, _: &SlotState) -> Result<()> {
        Err(held())
    }
    async fn read(&self, _: &str, _: &[u8], _: Option<Timestamp>, _: Option<Timestamp>) -> Result<Vec<OnlineRow>> {
        Err(held())
    }
    async fn read_whole(&self, _: &str, _: OnlineRead<'_>) -> Result<WholeRows> {
        Err(held())
    }
    async fn state(&self, _: &str) -> Result<Option<SlotState>> {
        Err(held())
    }
    async fn expire(&self, _: &str, _: Timestamp) -> Result<u64> {
        Err(held())
    }
    async fn clear(&self, _: &str) -> Result<()> {
        Err(held())
    }
    async fn keys(&self, _: &str, _: usize) -> Result<Vec<Bytes>> {
        Err(held())
    }
}

#[async_trait]
impl Journal for Held {
    async fn append(&self, _: &Name, _: Timestamp, _: Vec<Bytes>, _: Option<&str>) -> Result<(u64, bool)> {
        Err(held())
    }
    async fn read(&self, _: &Name, _: u64, _: usize) -> Result<Vec<JournalEntry>> {
        Err(held())
    }
    async fn state(&self, _: &Name) -> Result<JournalState> {
        Err(held())
    }
    async fn forget(&self, _: &Name, _: u64) -> Result<()> {
        Err(held())
    }
    async fn sources(&self) -> Result<Vec<Name>> {
        Err(held())
    }
}
