//! Serving: one port, every route, and the tasks beside it. `serve`, `dev` and `demo` start the same server.

use crate::cli::Cx;
use crate::tasks::{EventClock, Tasks};
use crate::threads::Beside;
use crate::wiring::{Owner, ServerFile, Workspace};
use async_trait::async_trait;
use gristmill_auth::{Authenticator, Role};
use gristmill_features::OnlineFeatures;
use gristmill_ingest::spec::SourceSpec;
use gristmill_kernel::graph::Graph;
use gristmill_kernel::port::{Engine, LiveFigures, Ports};
use gristmill_kernel::version::AliasState;
use gristmill_kernel::{Actor, AliasName, Fault, Name, Result, Span};
use gristmill_project::file::ClockMode;
use gristmill_project::{EnvSecrets, Project};
use gristmill_retrain::spec::RetrainSpec;
use gristmill_runner::Observer;
use gristmill_serve::{Plane, PlaneParts, VertexPaths};
use gristmill_web::{App, Caller, Credentials, Door, Doorkeeper, Hosts, MetricsPage, Permission, Routes};
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use tokio_util::sync::CancellationToken;

/// How often predictions are written.
const FLUSH_EVERY: Span = Span::from_millis(1_000);

/// How to serve.
pub struct Options {
    /// The address to listen on.
    pub host: IpAddr,
    /// The port; 0 takes a free one.
    pub port: u16,
    /// How callers come in.
    pub coming: Coming,
    /// Who is shown the steps of flows.
    pub observer: Arc<dyn Observer>,
}

/// A server that answers until it is stopped.
pub struct Server {
    /// Where it is: `http://127.0.0.1:7300`.
    pub url: String,
    /// Holds the state folder's lock for as long as this server lives.
    _owner: Owner,
    /// The tasks beside it.
    pub tasks: Tasks,
    state_dir: PathBuf,
    set: tokio::task::JoinSet<()>,
    answering: tokio::task::JoinHandle<gristmill_web::Drained>,
    stop_answering: CancellationToken,
    flushing: tokio::task::JoinHandle<()>,
    /// Where `set` runs.
    _beside: Beside,
}

/// What changes when the project is applied again while the server runs.
pub struct Live {
    reloader: Reloader,
    now: RwLock<Specs>,
    seen: Mutex<BTreeMap<Name, u64>>,
}

#[derive(Clone, Default)]
struct Specs {
    retrain: Vec<RetrainSpec>,
    sources: Vec<SourceSpec>,
}

struct Reloader {
    dir: PathBuf,
    env: Option<String>,
    vars: BTreeMap<String, String>,
    engine: Arc<dyn Engine>,
}

impl Live {
    fn new(cx: &Cx, workspace: &Workspace) -> Live {
        let reloader = Reloader {
            dir: workspace.project.dir.clone(),
            env: cx.globals.env.clone().or_else(|| workspace.project.env.clone()),
            vars: cx.outside.vars.clone(),
            engine: workspace.state.ports.engine.clone(),
        };
        Live { reloader, now: RwLock::new(specs(&workspace.project)), seen: Mutex::default() }
    }
    /// Reads the project again; a broken one leaves everything as it was.
    pub fn reload(&self) -> Option<Graph> {
        match self.reloader.load() {
            Ok((specs, graph)) => {
                *self.now.write().unwrap_or_else(PoisonError::into_inner) = specs;
                Some(graph)
            }
            Err(faults) => {
                for fault in faults {
                    tracing::error!(error = %fault, "the project cannot be read; the last good one stays");
                }
                None
            }
        }
    }
    /// When models are trained again.
    pub fn retrain(&self) -> Vec<RetrainSpec> {
        self.now.read().unwrap_or_else(PoisonError::into_inner).retrain.clone()
    }
    /// The sources.
    pub fn sources(&self) -> Vec<SourceSpec> {
        self.now.read().unwrap_or_else(PoisonError::into_inner).sources.clone()
    }
    /// The project's folder.
    pub fn project_dir(&self) -> &std::path::Path {
        &self.reloader.dir
    }
    /// The table versions the event clock has seen.
    pub fn seen(&self) -> BTreeMap<Name, u64> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
    /// Remembers them.
    pub fn remember(&self, versions: BTreeMap<Name, u64>) {
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = versions;
    }
}

impl Reloader {
    fn load(&self) -> Result<(Specs, Graph), Vec<Fault>> {
        let secrets = Arc::new(EnvSecrets::read(self.vars.clone(), &self.dir).map_err(|f| vec![f])?);
        let project = Project::load(&self.dir, self.env.as_deref(), secrets)?;
        let graph = project.graph(self.engine.as_ref())?;
        Ok((specs(&project), graph))
    }
}

fn specs(project: &Project) -> Specs {
    let sources = project.file.sources.keys().filter_map(|name| gristmill_project::resolve::source(project, name)).collect();
    Specs { retrain: project.retrain(), sources }
}

impl Server {
    /// Takes the state folder, loads what is deployed, and answers.
    pub async fn start(cx: &Cx, workspace: &Workspace, options: Options) -> Result<Server> {
        // The port first: a port in use is found out before anything is taken.
        let listener = gristmill_web::bind(SocketAddr::new(options.host, options.port)).await?;
        let address = listener.local_addr().map_err(|e| Fault::io("the listening address", e))?;
        let owner = Owner::acquire(workspace, Some(options.observer))?;
        let interrupted = owner.worker.take_over().await?;
        if interrupted > 0 {
            cx.out.say(format!("{interrupted} runs were interrupted and go on"));
        }
        let live = Arc::new(Live::new(cx, workspace));
        let reload = live.clone();
        owner.worker.reload_before_flows(move || reload.reload());
        let tasks = assemble(&owner, workspace, live).await?;
        let app = app(&owner, workspace, &tasks, options.coming)?;
        let stop_answering = CancellationToken::new();
        let stopped = stop_answering.clone();
        let answering = tokio::spawn(gristmill_web::serve(listener, app, async move { stopped.cancelled().await }));
        let flushing = tokio::spawn(tasks.plane.clone().flush_loop(FLUSH_EVERY));
        let beside = Beside::start()?;
        let set = tasks.spawn(beside.handle()?);
        let url = format!("http://{}", SocketAddr::new(loopback_if_any(address.ip()), address.port()));
        let state_dir = workspace.state.state_dir.clone();
        let file = ServerFile { url: url.clone(), pid: std::process::id() };
        let text = serde_json::to_vec(&file).map_err(|e| Fault::internal("the server file does not serialise").because(e))?;
        std::fs::write(state_dir.join("server.json"), text).map_err(|e| Fault::io("write server.json", e))?;
        Ok(Server { url, _owner: owner, tasks, state_dir, set, answering, stop_answering, flushing, _beside: beside })
    }

    /// Not ready, drain, stop, flush.
    pub async fn stop(mut self) -> Result<()> {
        self.tasks.plane.drain();
        self.stop_answering.cancel();
        if let Ok(drained) = (&mut self.answering).await
            && !drained.complete
        {
            tracing::warn!("some requests were still open when the server stopped");
        }
        self.tasks.stop.cancel();
        while self.set.join_next().await.is_some() {}
        self.flushing.abort();
        let flushed = self.tasks.plane.flush().await.map(|_| ());
        let _gone_already = std::fs::remove_file(self.state_dir.join("server.json"));
        flushed
    }
}

fn loopback_if_any(ip: IpAddr) -> IpAddr {
    if ip.is_unspecified() { IpAddr::from([127, 0, 0, 1]) } else { ip }
}

/// What changes when the project is applied again.
pub fn live(cx: &Cx, workspace: &Workspace) -> Arc<Live> {
    Arc::new(Live::new(cx, workspace))
}

/// Puts the parts of serving together without listening: `predict` without a server uses it too.
pub async fn assemble(owner: &Owner, workspace: &Workspace, live: Arc<Live>) -> Result<Tasks> {
    let ports = owner.ports.clone();
    let features = Arc::new(OnlineFeatures::new(ports.clone()));
    let events = Arc::new(EventClock::new(ports.clock.clone(), workspace.project.clock() == ClockMode::Events));
    let plane = Plane::new(PlaneParts { ports: ports.clone(), features: features.clone(), features_clock: events.clone() });
    let figures: Arc<dyn LiveFigures> = plane.clone();
    let tasks = Tasks {
        ports,
        worker: owner.worker.clone(),
        plane,
        features,
        figures,
        registered: crate::tracking::registered(&workspace.state),
        queue: workspace.state.queue(),
        live,
        events,
        stop: CancellationToken::new(),
        mlflow: crate::tracking::mlflow(&workspace.state, workspace.project.file.alerts.allow_private)?,
        artifacts: crate::tracking::artifacts(&workspace.state),
        tables: workspace.state.tables.clone(),
        reports: Arc::default(),
    };
    if let Err(fault) = tasks.reload().await {
        tracing::warn!(error = %fault, "not everything that is deployed could be loaded");
    }
    Ok(tasks)
}

/// How callers come in.
#[derive(Default)]
pub struct Coming {
    /// What they are without a token: admins only ever on loopback, for `dev` and `demo`; predictors behind a platform that knows its callers.
    pub nameless: Option<Role>,
    /// Where Vertex AI asks, in a container of it.
    pub vertex: Option<VertexPaths>,
    /// Names this server answers to besides loopback and addresses.
    pub names: Vec<String>,
}

impl Coming {
    /// Without tokens. What answers so is never reached from another machine.
    pub fn open() -> Coming {
        Coming { nameless: Some(Role::Admin), ..Coming::default() }
    }
}

/// All routes behind one door. To add routes: the crate's list, merged here.
pub fn app(owner: &Owner, workspace: &Workspace, tasks: &Tasks, coming: Coming) -> Result<App> {
    let metrics = MetricsPage::new();
    let plane = tasks.plane.clone();
    metrics.add(move || plane.metrics());
    let reports = tasks.reports.clone();
    metrics.add(move || gristmill_monitor::metrics_page(&reports.read().unwrap_or_else(PoisonError::into_inner)));
    let live = tasks.live.clone();
    let features = tasks.features.clone();
    let promoter = Arc::new(Promotions { ports: owner.ports.clone(), worker: owner.worker.clone() });
    let routes = Routes::new()
        .merge(gristmill_ingest::routes(
            owner.ports.clone(),
            Arc::new(move || live.sources()),
            Arc::new(move |view| features.event_sources(view)),
        ))
        .merge(gristmill_serve::routes(tasks.plane.clone()))
        .merge(metrics.routes())
        .merge(gristmill_registry::protocol::mlflow::routes(tasks.mlflow.clone()));
    let name = workspace.project.file.project.to_string();
    let routes = routes.merge(gristmill_api::routes(&name, owner.ports.clone(), tasks.queue.clone(), promoter, tasks.figures.clone()));
    let routes = routes.merge(gristmill_api::feast::routes(owner.ports.ledger.clone(), tasks.queue.clone(), views(owner)));
    let routes = match &coming.vertex {
        None => routes,
        Some(paths) => {
            let theirs = gristmill_serve::vertex_routes(&tasks.plane, paths, &routes)?;
            routes.merge(theirs)
        }
    };
    let routes = gristmill_api::with_openapi(routes, env!("CARGO_PKG_VERSION"));
    let keeper = Keeper(Authenticator::new(workspace.state.tokens.clone(), owner.ports.clock.clone(), coming.nameless));
    App::new(routes, Door { keeper: Arc::new(keeper), hosts: Hosts::new(coming.names), ids: owner.ports.ids.clone() })
}

/// The views of the graph that flows are driven over.
fn views(owner: &Owner) -> gristmill_api::feast::ProjectViews {
    let worker = owner.worker.clone();
    Arc::new(move || {
        let graph = worker.graph();
        let views = graph.nodes().iter().filter(|node| node.address.kind == gristmill_kernel::AssetKind::Features);
        let view = |node: &gristmill_kernel::graph::Node| gristmill_api::feast::ProjectView {
            name: node.address.name.clone(),
            online: node.spec["view"]["online"] == true,
        };
        views.map(view).collect()
    })
}

/// Lets callers in by their tokens.
struct Keeper(Authenticator);

#[async_trait]
impl Doorkeeper for Keeper {
    async fn admit(&self, credentials: Credentials<'_>, permission: Permission) -> Result<Caller> {
        let caller = self.0.authenticate(credentials.authorization).await?;
        caller.may(permission)?;
        Ok(Caller { actor: caller.actor, role: caller.role.to_string() })
    }
}

/// Alias moves that the API asks for.
struct Promotions {
    ports: Ports,
    worker: Arc<gristmill_runner::Worker>,
}

#[async_trait]
impl gristmill_api::Promoter for Promotions {
    async fn promote(&self, wish: gristmill_api::PromoteWish) -> Result<AliasState> {
        let wish = gristmill_registry::Promote {
            model: wish.model,
            which: wish.which,
            to: wish.to.unwrap_or_else(AliasName::challenger),
            actor: wish.actor,
            reason: wish.reason,
            force: if wish.force { gristmill_registry::Force::Yes } else { gristmill_registry::Force::No },
        };
        gristmill_registry::promote(&self.ports, wish).await
    }
    /// A model behind an endpoint goes back through the endpoint, at once; without one only its champion moves.
    async fn rollback(&self, model: &Name, actor: &Actor, reason: &str) -> Result<AliasState> {
        let graph = self.worker.graph();
        for node in graph.nodes().iter().filter(|n| n.stage == gristmill_kernel::StageKind::Deploy) {
            if node.spec["model"] == model.as_str() {
                rollback(&self.ports, &graph, self.worker.stepper().worker(), &node.address.name, actor, reason).await?;
                let asset = gristmill_kernel::Address::new(gristmill_kernel::AssetKind::Models, model.clone());
                let champion = self.ports.ledger.alias(&asset, &AliasName::champion()).await?;
                return champion.ok_or_else(|| Fault::internal(format!("{asset} has no champion after a rollback")));
            }
        }
        gristmill_registry::rollback(&self.ports, model, actor, reason).await
    }
    async fn lineage(&self, of: &gristmill_kernel::VersionRef) -> Result<serde_json::Value> {
        let lineage = gristmill_registry::lineage(&self.ports, of).await?;
        serde_json::to_value(lineage).map_err(|e| Fault::internal("a lineage does not serialise").because(e))
    }
}

/// Takes an endpoint back to what it answered with before.
pub async fn rollback(
    ports: &Ports,
    graph: &Graph,
    worker: &str,
    endpoint: &Name,
    actor: &Actor,
    reason: &str,
) -> Result<gristmill_kernel::Run> {
    let address = gristmill_kernel::Address::new(gristmill_kernel::AssetKind::Endpoints, endpoint.clone());
    let node = graph.node(&address).ok_or_else(|| {
        Fault::not_found(gristmill_kernel::Code::UNKNOWN_ENDPOINT, format!("the project has no {address}")).fix("see gristmill status")
    })?;
    let spec = serde_json::from_value(node.spec.clone()).map_err(|e| Fault::internal("a rollout does not read").because(e))?;
    Ok(gristmill_deploy::rollback(ports, &spec, actor, reason, worker).await?.run)
}
