//! What a server does beside answering: drains pushed rows, follows the ledger, ticks rollouts, monitors and retraining, keeps tables in order.
//!
//! Each task is a loop that looks, decides through a stage's own `plan`, and writes through the ledger; none keeps state that a
//! restart would miss. A failure is logged and tried again at the next turn.

use crate::server::Live;
use gristmill_deploy::Watch;
use gristmill_deploy::spec::DeploySpec;
use gristmill_features::OnlineFeatures;
use gristmill_ingest::spec::SourceSpec;
use gristmill_kernel::graph::Node;
use gristmill_kernel::limits::REQUEST_TIMEOUT_MS;
use gristmill_kernel::port::{Clock, LiveFigures, Ports, RegisteredVersions, RunFilter, Runs, TableUpkeep};
use gristmill_kernel::stage::{CancelFlag, NoProgress, StageContext};
use gristmill_kernel::{Actor, Address, AssetKind, Name, Result, StageKind, Timestamp};
use gristmill_monitor::spec::MonitorSpec;
use gristmill_registry::protocol::mlflow::Mlflow;
use gristmill_runner::Worker;
use gristmill_runner::step::StepOrder;
use gristmill_serve::Plane;
use gristmill_store::ledger::TrackedArtifacts;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// How often pushed rows are brought into tables and kept rows.
const DRAIN_EVERY: Duration = Duration::from_millis(250);
/// How often the ledger is asked whether something changed.
const FOLLOW_EVERY: Duration = Duration::from_millis(150);
/// How often rollouts, monitors and retraining are looked at.
const TICK_EVERY: Duration = Duration::from_millis(400);

/// How often content that nobody names and uploads that nobody completed are looked for; the first time soon after the start.
const TIDY_EVERY: Duration = Duration::from_secs(60 * 60);
/// How often tables are looked at for files to rewrite.
const COMPACT_EVERY: Duration = Duration::from_secs(2);
/// How often kept rows that nobody can ask for any more are forgotten. No request takes as long, see [`Tasks::forgetting`].
const FORGET_EVERY: Duration = Duration::from_millis(REQUEST_TIMEOUT_MS + 5_000);

/// How long the first look waits, so that it does not compete with the start.
const TIDY_FIRST: Duration = Duration::from_secs(5);

/// How long a replay that failed waits before it goes on.
const REPLAY_RETRY: Duration = Duration::from_secs(5);

/// A replay at work.
struct Playing {
    from: String,
    stop: CancelFlag,
    task: tokio::task::JoinHandle<()>,
}

/// What the tasks share.
#[derive(Clone)]
pub struct Tasks {
    pub ports: Ports,
    pub worker: Arc<Worker>,
    pub plane: Arc<Plane>,
    pub features: Arc<OnlineFeatures>,
    pub figures: Arc<dyn LiveFigures>,
    pub registered: Arc<dyn RegisteredVersions>,
    pub queue: Arc<dyn Runs>,
    pub live: Arc<Live>,
    pub events: Arc<EventClock>,
    pub stop: CancellationToken,
    /// What tracking clients gave.
    pub mlflow: Arc<Mlflow>,
    /// Their files.
    pub artifacts: Arc<TrackedArtifacts>,
    /// What keeps tables in order.
    pub tables: Arc<dyn TableUpkeep>,
    /// The newest report of each endpoint, for `/metrics`.
    pub reports: Arc<std::sync::RwLock<Vec<gristmill_monitor::Report>>>,
}

impl Tasks {
    /// Starts all of them on the runtime beside the requests.
    pub fn spawn(&self, beside: &Handle) -> JoinSet<()> {
        let mut set = JoinSet::new();
        let worker = self.worker.clone();
        let stop = self.stop.clone();
        set.spawn_on(async move { worker.run(stop).await }, beside);
        set.spawn_on(self.clone().every(DRAIN_EVERY, "drain", |t| async move { t.drain().await }), beside);
        set.spawn_on(self.clone().every(TICK_EVERY, "rollout", |t| async move { t.rollouts().await }), beside);
        set.spawn_on(self.clone().every(TICK_EVERY, "monitor", |t| async move { t.monitors().await }), beside);
        set.spawn_on(self.clone().every(TICK_EVERY, "retrain", |t| async move { t.retraining().await }), beside);
        set.spawn_on(self.clone().follow(), beside);
        set.spawn_on(self.clone().tidying(), beside);
        set.spawn_on(self.clone().every(COMPACT_EVERY, "compact", |t| async move { t.compact().await }), beside);
        set.spawn_on(self.clone().forgetting(), beside);
        set.spawn_on(self.clone().replays(), beside);
        set
    }

    /// Plays every `replay://` source, those too that come with a project applied later; a source whose URL changed is played anew.
    async fn replays(self) {
        let mut playing: BTreeMap<Name, Playing> = BTreeMap::new();
        while !self.stop.is_cancelled() {
            let wanted: Vec<SourceSpec> = self.live.sources().into_iter().filter(|s| s.from.starts_with("replay://")).collect();
            playing.retain(|name, now| {
                let stays = wanted.iter().any(|s| s.name == *name && s.from == now.from);
                if !stays {
                    now.stop.cancel();
                }
                stays
            });
            for spec in wanted {
                playing.entry(spec.name.clone()).or_insert_with(|| self.play(spec));
            }
            tokio::select! {
                () = self.stop.cancelled() => {}
                () = tokio::time::sleep(TICK_EVERY) => {}
            }
        }
        for (_, now) in playing {
            now.stop.cancel();
            let _ended = now.task.await;
        }
    }

    fn play(&self, spec: SourceSpec) -> Playing {
        let stop = CancelFlag::default();
        let (tasks, from, asked) = (self.clone(), spec.from.clone(), stop.clone());
        let cx = StageContext {
            ports: self.ports.clone(),
            project_dir: self.live.project_dir().to_owned(),
            progress: Arc::new(NoProgress),
            cancel: stop.clone(),
        };
        let task = tokio::spawn(async move {
            while asked.check().is_ok() && !tasks.stop.is_cancelled() {
                match gristmill_ingest::replay(&cx, &spec, None, asked.clone()).await {
                    Ok(rows) => {
                        tracing::info!(source = %spec.name, rows, "the replay has ended");
                        return;
                    }
                    Err(fault) => tracing::error!(source = %spec.name, error = %fault, "the replay will be tried again"),
                }
                tokio::select! {
                    () = tasks.stop.cancelled() => {}
                    () = tokio::time::sleep(REPLAY_RETRY) => {}
                }
            }
        });
        Playing { from, stop, task }
    }

    async fn tidying(self) {
        let mut pause = TIDY_FIRST;
        loop {
            tokio::select! {
                () = self.stop.cancelled() => return,
                () = tokio::time::sleep(pause) => {}
            }
            if let Err(fault) = self.tidy().await {
                tracing::error!(task = "tidy", error = %fault, "will be tried again");
            }
            pause = TIDY_EVERY;
        }
    }

    /// Removes uploads in parts that nobody completed, then the content that nobody names, then files of tables that no version needs.
    async fn tidy(&self) -> Result<()> {
        let now = self.ports.clock.now();
        let parts = gristmill_registry::protocol::mlflow::sweep(&self.mlflow, now).await?;
        let garbage = self.artifacts.collect_garbage(now).await?;
        if parts > 0 || garbage.removed > 0 {
            tracing::info!(parts, contents = garbage.removed, bytes = garbage.bytes, "removed what nobody names");
        }
        let (files, bytes) = crate::upkeep::vacuum(self.tables.as_ref(), now).await?;
        if files > 0 {
            tracing::info!(files, bytes, "removed files of tables that no version needs");
        }
        Ok(())
    }

    /// Rewrites the files of tables that are due; a rewrite that is not committed when the server stops has not been.
    async fn compact(self) -> Result<()> {
        let clusterings = self.features.clusterings();
        tokio::select! {
            () = self.stop.cancelled() => Ok(()),
            done = crate::upkeep::compact(self.tables.as_ref(), &clusterings) => done,
        }
    }

    /// Forgets kept rows that nobody can ask for any more, as of the turn before: a request that was let in then has been answered since, however fast
    /// the clock of features runs.
    async fn forgetting(self) {
        let mut earlier = self.events.known();
        while !self.stop.is_cancelled() {
            tokio::select! {
                () = self.stop.cancelled() => return,
                () = tokio::time::sleep(FORGET_EVERY) => {}
            }
            let now = self.events.known();
            if let Some(moment) = std::mem::replace(&mut earlier, now) {
                match self.features.expire(moment).await {
                    Ok(0) => {}
                    Ok(rows) => tracing::info!(rows, "kept rows that no view looks back to any more are forgotten"),
                    Err(fault) => tracing::error!(task = "forget", error = %fault, "will be tried again"),
                }
            }
        }
    }

    async fn every<F, Fut>(self, pause: Duration, what: &'static str, turn: F)
    where
        F: Fn(Tasks) -> Fut + Send,
        Fut: Future<Output = Result<()>> + Send,
    {
        while !self.stop.is_cancelled() {
            tokio::select! {
                () = self.stop.cancelled() => return,
                () = tokio::time::sleep(pause) => {}
            }
            if let Err(fault) = turn(self.clone()).await {
                tracing::error!(task = what, error = %fault, "will be tried again");
            }
        }
    }

    /// Loads views and deployments when the ledger has moved.
    async fn follow(self) {
        let mut seen = None;
        while !self.stop.is_cancelled() {
            match self.ports.ledger.head().await {
                Ok(head) if seen != Some(head) => match self.reload().await {
                    Ok(()) => seen = Some(head),
                    Err(fault) => tracing::error!(task = "follow", error = %fault, "the last good state goes on answering"),
                },
                Ok(_) => {}
                Err(fault) => tracing::error!(task = "follow", error = %fault, "the ledger cannot be read"),
            }
            tokio::select! {
                () = self.stop.cancelled() => return,
                () = tokio::time::sleep(FOLLOW_EVERY) => {}
            }
        }
    }

    /// Views first, then the models that read them.
    pub async fn reload(&self) -> Result<()> {
        let views = self.features.refresh().await;
        let models = self.plane.refresh().await;
        self.events.refresh(&self.ports, &self.live).await?;
        let mut reports = Vec::new();
        for node in self.worker.graph().nodes().iter().filter(|n| n.stage == StageKind::Monitor) {
            reports.extend(gristmill_monitor::last_report(&self.ports, &node.address.name).await?);
        }
        *self.reports.write().unwrap_or_else(std::sync::PoisonError::into_inner) = reports;
        views.and(models)
    }

    /// Brings what was pushed into tables and kept rows: ingest, validate, then the views that read the source.
    async fn drain(self) -> Result<()> {
        let graph = self.worker.graph();
        for source in self.ports.journal.sources().await? {
            let state = self.ports.journal.state(&source).await?;
            let raw = Address::new(AssetKind::Raw, source.clone());
            if state.last <= state.forgotten || graph.node(&raw).is_none() {
                continue;
            }
            let accepted = Address::new(AssetKind::Sources, source.clone());
            let mut nodes: Vec<Node> = [raw, accepted.clone()].iter().filter_map(|a| graph.node(a).cloned()).collect();
            nodes.extend(graph.downstream(&[accepted]).into_iter().filter(|n| n.address.kind == AssetKind::Features).cloned());
            for node in nodes {
                self.step(node, format!("rows were pushed into {source}")).await?;
            }
            self.events.refresh(&self.ports, &self.live).await?;
        }
        Ok(())
    }

    async fn step(&self, node: Node, reason: String) -> Result<()> {
        let order = StepOrder { node, parent: None, actor: Actor::system("server"), reason, force: false };
        self.worker.stepper().step(order, &CancelFlag::default()).await.map(|_| ())
    }

    async fn rollouts(self) -> Result<()> {
        for node in self.worker.graph().nodes().iter().filter(|n| n.stage == StageKind::Deploy) {
            let spec: DeploySpec = read(node)?;
            let worker = self.worker.stepper().worker();
            let watch = Watch { ports: &self.ports, figures: self.figures.as_ref(), registered: Some(self.registered.as_ref()), worker };
            if let Some(step) = gristmill_deploy::tick(&watch, &spec).await? {
                tracing::info!(endpoint = %spec.endpoint, summary = %step.run.summary, "rollout");
                self.reload().await?;
            }
        }
        Ok(())
    }

    /// Runs the monitors whose time has come, once there is something to look at.
    async fn monitors(self) -> Result<()> {
        let now = self.ports.clock.now();
        for node in self.worker.graph().nodes().iter().filter(|n| n.stage == StageKind::Monitor) {
            let spec: MonitorSpec = read(node)?;
            let predictions = Address::new(AssetKind::Predictions, spec.endpoint.clone());
            if self.ports.ledger.version(&predictions, &gristmill_kernel::version::Which::Latest).await?.is_none() {
                continue;
            }
            let filter =
                RunFilter { stages: vec![StageKind::Monitor], address: Some(node.address.clone()), limit: 1, ..RunFilter::default() };
            let last = self.ports.ledger.runs(&filter).await?.into_iter().next();
            let due = last.is_none_or(|run| run.status.is_final() && run.submitted_at.plus(spec.every) <= now);
            if due {
                // What has happened by now decides an experiment; a label set of unchanged sources is not made again.
                let labels = spec.decide.as_ref().map(|decide| Address::new(AssetKind::Labels, decide.labels.clone()));
                if let Some(labels) = labels.and_then(|labels| self.worker.graph().node(&labels).cloned()) {
                    self.step(labels, format!("outcomes for monitors.{}", spec.endpoint)).await?;
                }
                self.step(node.clone(), format!("every {}", spec.every)).await?;
            }
        }
        Ok(())
    }

    async fn retraining(self) -> Result<()> {
        let specs = self.live.retrain();
        for run in gristmill_retrain::tick(&self.ports, self.queue.as_ref(), &specs).await? {
            tracing::info!(run = %run.id, reason = %run.reason, "retraining");
        }
        Ok(())
    }
}

fn read<T: serde::de::DeserializeOwned>(node: &Node) -> Result<T> {
    serde_json::from_value(node.spec.clone())
        .map_err(|e| gristmill_kernel::Fault::internal(format!("the spec of {} does not fit its stage: {e}", node.address)))
}

/// The moment of features: the wall clock, or, for projects on replayed data (`clock = "events"`), just behind the newest event.
pub struct EventClock {
    wall: Arc<dyn Clock>,
    by_events: bool,
    newest: AtomicI64,
}

impl EventClock {
    /// A clock; with `by_events` it follows the data.
    pub fn new(wall: Arc<dyn Clock>, by_events: bool) -> EventClock {
        EventClock { wall, by_events, newest: AtomicI64::new(i64::MIN) }
    }

    /// The moment of features, unless it follows data of which nothing has been seen yet.
    pub fn known(&self) -> Option<Timestamp> {
        (!self.by_events || self.newest.load(Ordering::Relaxed) > i64::MIN).then(|| self.now())
    }

    /// Looks at the newest events.
    pub async fn refresh(&self, ports: &Ports, live: &Live) -> Result<()> {
        if !self.by_events {
            return Ok(());
        }
        let timed: Vec<(Name, String)> = live.sources().into_iter().filter_map(|s: SourceSpec| Some((s.name, s.time?))).collect();
        if let Some(versions) = changed(ports, &timed, live).await? {
            if let Some(newest) = gristmill_features::online::newest_event(ports, &timed).await? {
                self.newest.fetch_max(newest.micros(), Ordering::Relaxed);
            }
            live.remember(versions);
        }
        Ok(())
    }
}

/// The versions of the event tables, if they are not those seen last.
async fn changed(ports: &Ports, timed: &[(Name, String)], live: &Live) -> Result<Option<BTreeMap<Name, u64>>> {
    let mut versions = BTreeMap::new();
    for (name, _) in timed {
        let asset = Address::new(AssetKind::Sources, name.clone());
        if let Some(version) = ports.ledger.version(&asset, &gristmill_kernel::version::Which::Latest).await? {
            versions.insert(name.clone(), version.id.number);
        }
    }
    Ok((live.seen() != versions).then_some(versions))
}

impl Clock for EventClock {
    fn now(&self) -> Timestamp {
        match self.newest.load(Ordering::Relaxed) {
            // Features see what lies strictly before the moment; the newest event shall count.
            newest if self.by_events && newest > i64::MIN => Timestamp::from_micros(newest + 1),
            _ => self.wall.now(),
        }
    }
}
