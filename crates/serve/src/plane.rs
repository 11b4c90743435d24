//! The plane: an immutable snapshot of endpoints, swapped whole, and what outlives a snapshot.
//!
//! Promises: a request works on the snapshot it began with. A deployment is loaded completely before it can be seen; one that
//! cannot be loaded leaves the old one answering, and [`Plane::health`] says so. No request touches the ledger.

use crate::batch::Batcher;
use crate::cache::{AnswerCache, CacheFigures};
use crate::figures::Figures;
use crate::log::PredictionLog;
use crate::model::LoadedModel;
use crate::scoring::{Paces, Scorers};
use crate::spec::ServeSpec;
use arc_swap::ArcSwap;
use gristmill_kernel::limits::COPIES_MAX;
use gristmill_kernel::port::{Clock, FeatureReader, LiveFigures, Ports, ViewRef};
use gristmill_kernel::prediction::{Arm, Canary, Deployment, EndpointFigures};
use gristmill_kernel::version::{Place, Which};
use gristmill_kernel::{Address, AliasName, AssetKind, Code, Fault, Kind, Name, Result, Span, Timestamp, VersionRef};
use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, RwLock};
use tokio::sync::Semaphore;

/// What a plane needs.
#[derive(Clone)]
pub struct PlaneParts {
    /// The ports. The ledger is read on refresh and written on flush, never on a request.
    pub ports: Ports,
    /// Reads features.
    pub features: Arc<dyn FeatureReader>,
    /// The moment of features when a request names none. Where history is replayed, it is not the wall clock.
    pub features_clock: Arc<dyn Clock>,
}

/// The request plane.
pub struct Plane {
    pub(crate) parts: PlaneParts,
    pub(crate) log: PredictionLog,
    pub(crate) scorers: Scorers,
    snapshot: ArcSwap<Snapshot>,
    lanes: RwLock<HashMap<Name, Arc<Lane>>>,
    refreshing: tokio::sync::Mutex<()>,
    loaded_once: AtomicBool,
    draining: AtomicBool,
    seen_head: AtomicU64,
    flush_fault: RwLock<Option<String>>,
}

/// All endpoints at one moment.
#[derive(Default)]
pub(crate) struct Snapshot {
    pub endpoints: BTreeMap<Name, Arc<Endpoint>>,
    /// Endpoints whose newest deployment cannot be loaded, and why. They may still answer with an older one.
    pub broken: BTreeMap<Name, String>,
}

/// One endpoint as deployed.
pub(crate) struct Endpoint {
    pub deployment: VersionRef,
    pub spec: ServeSpec,
    pub stable: Arc<LoadedModel>,
    pub canary: Option<(Canary, Arc<LoadedModel>)>,
    /// What the versions have shown of their speed: the stable one and the other.
    pub paces: [Arc<Paces>; 2],
    /// Where requests meet for a call of each version.
    batchers: [Option<Arc<Batcher>>; 2],
    /// Whether everything the deployment names is loaded.
    pub whole: bool,
    /// The answers that may be given again.
    pub cache: Option<AnswerCache>,
    pub lane: Arc<Lane>,
}

impl Endpoint {
    /// The arms that may answer and the versions behind them.
    pub fn arms(&self) -> Vec<(Arm, VersionRef)> {
        let canary = self.canary.as_ref().map(|(_, model)| (Arm::Canary, model.id.clone()));
        std::iter::once((Arm::Stable, self.stable.id.clone())).chain(canary).collect()
    }
    /// The arms that do something, and the versions behind them.
    pub fn working_arms(&self) -> Vec<(Arm, VersionRef)> {
        let shadow = self.canary.as_ref().map(|(_, model)| (Arm::Shadow, model.id.clone()));
        self.arms().into_iter().chain(shadow).collect()
    }
    /// The model of an arm; without a canary it is the stable one.
    pub fn model(&self, arm: Arm) -> &Arc<LoadedModel> {
        match (arm, &self.canary) {
            (Arm::Canary | Arm::Shadow, Some((_, model))) => model,
            _ => &self.stable,
        }
    }
    /// How fast the model of an arm is; without a canary it is the stable one's.
    pub fn paces(&self, arm: Arm) -> &Arc<Paces> {
        match arm {
            Arm::Canary | Arm::Shadow if self.canary.is_some() => &self.paces[1],
            _ => &self.paces[0],
        }
    }
    /// Where requests meet for a call of the model of an arm, if they do.
    pub fn batcher(&self, arm: Arm) -> Option<&Arc<Batcher>> {
        match arm {
            Arm::Canary | Arm::Shadow if self.canary.is_some() => self.batchers[1].as_ref(),
            _ => self.batchers[0].as_ref(),
        }
    }
    /// Whether rows of numbers mean the same to both versions: the same features in the same order, and words of the same codes.
    pub fn alike(&self) -> bool {
        let Some((_, canary)) = &self.canary else { return false };
        self.stable.shape.features == canary.shape.features
    }
}

/// What an endpoint has across deployments.
pub(crate) struct Lane {
    pub figures: Figures,
    in_flight: AtomicU32,
    /// Places for copies that are being shown to a version.
    pub copies: Arc<Semaphore>,
    /// Copies that found no place.
    pub skipped: AtomicU64,
    pub cached: CacheFigures,
}

impl Default for Lane {
    fn default() -> Lane {
        let (in_flight, skipped) = (AtomicU32::new(0), AtomicU64::new(0));
        Lane {
            figures: Figures::default(),
            in_flight,
            copies: Arc::new(Semaphore::new(COPIES_MAX)),
            skipped,
            cached: CacheFigures::default(),
        }
    }
}

/// A request in flight.
pub(crate) struct InFlight(Arc<Lane>);

impl Lane {
    /// Counts a request in, or refuses it.
    pub fn enter(self: &Arc<Lane>, limit: u32, endpoint: &Name) -> Result<InFlight> {
        let counted = self.in_flight.fetch_update(Ordering::AcqRel, Ordering::Acquire, |n| (n < limit).then_some(n + 1));
        counted.map(|_| InFlight(self.clone())).map_err(|_| full(limit, endpoint))
    }
    pub fn in_flight(&self) -> u32 {
        self.in_flight.load(Ordering::Acquire)
    }
}

fn full(limit: u32, endpoint: &Name) -> Fault {
    Fault::new(Kind::Busy, Code::OVERLOADED, format!("endpoint `{endpoint}` has {limit} requests in flight"))
        .fix("try again in a second, or ask for more rows per request")
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::AcqRel);
    }
}

/// How the plane is.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct Health {
    /// Whether every deployed endpoint answers and the plane is not stopping.
    pub ready: bool,
    /// Whether the plane is stopping.
    pub draining: bool,
    /// The endpoints that answer, with the versions that do.
    pub endpoints: BTreeMap<Name, EndpointHealth>,
    /// Endpoints whose newest deployment cannot be loaded, and why.
    pub broken: BTreeMap<Name, String>,
    /// Why the last flush of the prediction log failed, if it did.
    pub log: Option<String>,
}

/// How one endpoint answers.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct EndpointHealth {
    /// The deployment.
    pub deployment: String,
    /// The stable version.
    pub stable: String,
    /// The version being rolled out.
    pub canary: Option<String>,
    /// Its share of the traffic.
    pub canary_permille: Option<u32>,
    /// The share of the requests that it is shown copies of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub copied_permille: Option<u32>,
}

impl Plane {
    /// A plane without endpoints; [`Plane::refresh`] loads them.
    pub fn new(parts: PlaneParts) -> Arc<Plane> {
        let mut instance = [0; 8];
        parts.ports.ids.random(&mut instance);
        Plane::with_log(parts, PredictionLog::new(hex::encode(instance)))
    }

    pub(crate) fn with_log(parts: PlaneParts, log: PredictionLog) -> Arc<Plane> {
        Arc::new(Plane {
            parts,
            log,
            scorers: Scorers::new(std::thread::available_parallelism().map_or(1, usize::from)),
            snapshot: ArcSwap::default(),
            lanes: RwLock::default(),
            refreshing: tokio::sync::Mutex::default(),
            loaded_once: AtomicBool::new(false),
            draining: AtomicBool::new(false),
            seen_head: AtomicU64::new(0),
            flush_fault: RwLock::default(),
        })
    }

    pub(crate) fn snapshot(&self) -> Arc<Snapshot> {
        self.snapshot.load_full()
    }

    /// The views that an endpoint's stable model reads.
    pub(crate) fn views(&self, endpoint: &str) -> Result<Vec<ViewRef>> {
        Ok(self.endpoint(endpoint)?.1.stable.views.clone())
    }

    /// The endpoint, as a request needs it.
    pub(crate) fn endpoint(&self, name: &str) -> Result<(Name, Arc<Endpoint>)> {
        let snapshot = self.snapshot();
        let found = Name::new(name).ok().and_then(|name| snapshot.endpoints.get(&name).map(|e| (name, e.clone())));
        found.ok_or_else(|| {
            if snapshot.broken.keys().any(|n| n.as_str() == name) {
                return Fault::new(Kind::Unavailable, Code::NOT_READY, format!("endpoint `{name}` is deployed but cannot be loaded"))
                    .fix("`gristmill status` says why");
            }
            let names: Vec<String> = snapshot.endpoints.keys().map(Name::to_string).collect();
            let fix = match names.is_empty() {
                true => "no endpoint is deployed yet: gristmill run".to_owned(),
                false => format!("endpoints are {}", crate::plan::words(&names)),
            };
            Fault::not_found(Code::UNKNOWN_ENDPOINT, format!("there is no endpoint `{name}`")).fix(fix)
        })
    }

    /// Refuses a request of an endpoint that has no room, before its body is looked at: the more there are, the less each of them may cost.
    pub(crate) fn has_room(&self, endpoint: &str) -> Result<()> {
        let (name, endpoint) = self.endpoint(endpoint)?;
        match endpoint.lane.in_flight() < endpoint.spec.in_flight {
            true => Ok(()),
            false => Err(full(endpoint.spec.in_flight, &name)),
        }
    }

    /// Loads what is deployed now and swaps it in. A deployment that cannot be loaded is reported by [`Plane::health`]; an error here means
    /// that the ledger could not be read and nothing changed.
    pub async fn refresh(&self) -> Result<()> {
        let _one_at_a_time = self.refreshing.lock().await;
        let old = self.snapshot();
        let head = self.parts.ports.ledger.head().await?;
        let mut new = Snapshot::default();
        for asset in self.parts.ports.ledger.assets().await? {
            if asset.kind != AssetKind::Endpoints {
                continue;
            }
            let before = old.endpoints.get(&asset.name);
            match self.load(&asset, before).await {
                Ok(Some((endpoint, trouble))) => {
                    if before.is_none_or(|b| b.deployment != endpoint.deployment) {
                        let arms = endpoint.working_arms();
                        endpoint.lane.figures.forget(&arms, self.parts.ports.clock.now());
                        tracing::info!(endpoint = %asset.name, deployment = %endpoint.deployment, stable = %endpoint.stable.id, "endpoint answers");
                    }
                    new.endpoints.insert(asset.name.clone(), endpoint);
                    if let Some(trouble) = trouble {
                        new.broken.insert(asset.name, trouble);
                    }
                }
                Ok(None) => {}
                Err(fault) => {
                    let why = fault.to_string();
                    // Tried at each poll, said once.
                    if old.broken.get(&asset.name) != Some(&why) {
                        tracing::error!(endpoint = %asset.name, "a deployment could not be loaded, the old one goes on answering: {why}");
                    }
                    new.broken.insert(asset.name.clone(), why);
                    if let Some(before) = before {
                        new.endpoints.insert(asset.name, before.clone());
                    }
                }
            }
        }
        // Another try at the next poll if something is broken: a blob or a view may come back without a new line.
        self.seen_head.store(if new.broken.is_empty() { head } else { 0 }, Ordering::Release);
        self.snapshot.store(Arc::new(new));
        self.loaded_once.store(true, Ordering::Release);
        Ok(())
    }

    /// The endpoint as the alias `live` names it; with it, what is wrong although it can answer.
    async fn load(&self, asset: &Address, before: Option<&Arc<Endpoint>>) -> Result<Option<(Arc<Endpoint>, Option<String>)>> {
        let ledger = &self.parts.ports.ledger;
        let Some(version) = ledger.version(asset, &Which::Alias(AliasName::live())).await? else { return Ok(None) };
        if let Some(before) = before.filter(|b| b.deployment == version.id && b.whole) {
            return Ok(Some((before.clone(), None)));
        }
        let unreadable = |e: serde_json::Error| Fault::damaged(format!("{} is not a deployment: {e}", version.id));
        let deployment: Deployment = match &version.place {
            Place::Blob { digest } => {
                let gone = || Fault::damaged(format!("the blob of {} is gone", version.id));
                serde_json::from_slice(&self.parts.ports.blobs.get(digest).await?.ok_or_else(gone)?).map_err(unreadable)?
            }
            Place::Meta | Place::Table { .. } => serde_json::from_value(version.meta.clone()).map_err(unreadable)?,
        };
        if deployment.format > Deployment::FORMAT {
            let what = format!("{} has format {}, this binary reads up to {}", version.id, deployment.format, Deployment::FORMAT);
            return Err(Fault::invalid(Code::NEWER_FORMAT, what).fix("use the newer gristmill that wrote it"));
        }
        let spec: ServeSpec = serde_json::from_value(deployment.serve.clone()).map_err(unreadable)?;
        let stable = self.model(&deployment.stable, before).await?;
        let (canary, trouble) = match deployment.canary {
            None => (None, None),
            Some(canary) => match self.model(&canary.model, before).await {
                Ok(model) => (Some((canary, model)), None),
                // With nothing older to fall back on, the stable version alone is better than no answer.
                Err(fault) if before.is_none_or(|b| b.deployment == version.id) => {
                    (None, Some(format!("the canary {} cannot be loaded: {fault}", canary.model)))
                }
                Err(fault) => return Err(fault),
            },
        };
        let cache = spec.cache.map(|_| AnswerCache::new());
        let lane = self.lane(&asset.name);
        let paces = [paces_of(&stable, before), canary.as_ref().map(|(_, model)| paces_of(model, before)).unwrap_or_default()];
        let batcher = |model: &Arc<LoadedModel>, paces: &Arc<Paces>| self.batcher_of(&spec, model, paces, before);
        let batchers = [batcher(&stable, &paces[0]), canary.as_ref().and_then(|(_, model)| batcher(model, &paces[1]))];
        let whole = trouble.is_none();
        let endpoint = Endpoint { deployment: version.id, spec, stable, canary, paces, batchers, whole, cache, lane };
        Ok(Some((Arc::new(endpoint), trouble)))
    }

    /// Where requests meet for a call of a version: where they did before, if nothing about it is new.
    fn batcher_of(
        &self,
        spec: &ServeSpec,
        model: &Arc<LoadedModel>,
        paces: &Arc<Paces>,
        before: Option<&Arc<Endpoint>>,
    ) -> Option<Arc<Batcher>> {
        let rules = spec.batch.as_ref()?;
        let mut known = before.into_iter().flat_map(|before| before.batchers.iter().flatten());
        let known = known.find(|batcher| batcher.is_for(rules, model)).cloned();
        Some(known.unwrap_or_else(|| Batcher::new(rules.clone(), model.clone(), paces.clone(), self.scorers.clone())))
    }

    /// A model, taken over from the old snapshot if it is there: versions are immutable.
    async fn model(&self, id: &VersionRef, before: Option<&Arc<Endpoint>>) -> Result<Arc<LoadedModel>> {
        let old = before.into_iter().flat_map(|b| std::iter::once(&b.stable).chain(b.canary.as_ref().map(|(_, m)| m)));
        if let Some(known) = old.into_iter().find(|m| m.id == *id) {
            return Ok(known.clone());
        }
        let ports = &self.parts.ports;
        let model = LoadedModel::load(id, ports.ledger.as_ref(), ports.blobs.as_ref(), self.parts.features.as_ref()).await?;
        Ok(Arc::new(model))
    }

    fn lane(&self, endpoint: &Name) -> Arc<Lane> {
        self.lanes.write().unwrap_or_else(|e| e.into_inner()).entry(endpoint.clone()).or_default().clone()
    }

    /// How the plane is.
    pub fn health(&self) -> Health {
        let snapshot = self.snapshot();
        let draining = self.draining.load(Ordering::Acquire);
        let unanswered = snapshot.broken.keys().any(|name| !snapshot.endpoints.contains_key(name));
        let one = |endpoint: &Endpoint| EndpointHealth {
            deployment: endpoint.deployment.to_string(),
            stable: endpoint.stable.id.to_string(),
            canary: endpoint.canary.as_ref().map(|(_, model)| model.id.to_string()),
            canary_permille: endpoint.canary.as_ref().map(|(canary, _)| canary.permille),
            copied_permille: endpoint.canary.as_ref().map(|(canary, _)| canary.mirrored).filter(|copies| *copies > 0),
        };
        Health {
            ready: self.loaded_once.load(Ordering::Acquire) && !draining && !unanswered,
            draining,
            endpoints: snapshot.endpoints.iter().map(|(name, endpoint)| (name.clone(), one(endpoint))).collect(),
            broken: snapshot.broken.clone(),
            log: self.flush_fault.read().unwrap_or_else(|e| e.into_inner()).clone(),
        }
    }

    /// Turns readiness off: the first step of stopping. Requests are still answered.
    pub fn drain(&self) {
        self.draining.store(true, Ordering::Release);
    }

    /// Writes the waiting predictions into their tables. Call it once more after the last request.
    pub async fn flush(&self) -> Result<u64> {
        let outcome = self.log.flush(&self.parts.ports).await;
        let fault = outcome.as_ref().err().map(Fault::to_string);
        *self.flush_fault.write().unwrap_or_else(|e| e.into_inner()) = fault;
        outcome
    }

    /// Flushes for ever. The caller spawns it, and aborts it when stopping; then comes the final [`Plane::flush`].
    pub async fn flush_loop(self: Arc<Plane>, every: Span) {
        loop {
            tokio::time::sleep(every.std()).await;
            if let Err(fault) = self.flush().await {
                tracing::error!("predictions wait in memory because they could not be written: {fault}");
            }
        }
    }

    /// The lines of `/metrics`.
    pub fn metrics(&self) -> String {
        let snapshot = self.snapshot();
        let mut families: BTreeMap<&'static str, String> = BTreeMap::new();
        let (mut in_flight, mut skipped) = (String::new(), String::new());
        for (name, lane) in self.lanes.read().unwrap_or_else(|e| e.into_inner()).iter() {
            lane.figures.prometheus(name.as_str(), &mut families);
            in_flight.push_str(&format!("gristmill_predict_in_flight{{endpoint=\"{name}\"}} {}\n", lane.in_flight()));
            let missed = lane.skipped.load(Ordering::Relaxed);
            skipped.push_str(&format!("gristmill_copies_skipped_total{{endpoint=\"{name}\"}} {missed}\n"));
        }
        let share = |(name, endpoint): (&Name, &Arc<Endpoint>)| {
            let share = endpoint.canary.as_ref().map_or(0.0, |(canary, _)| f64::from(canary.permille) / 1_000.0);
            format!("gristmill_canary_share{{endpoint=\"{name}\"}} {share}\n")
        };
        let mut cached = String::new();
        for (name, endpoint) in snapshot.endpoints.iter().filter(|(_, endpoint)| endpoint.cache.is_some()) {
            for (outcome, rows) in endpoint.lane.cached.counts() {
                cached.push_str(&format!("gristmill_prediction_cache_rows_total{{endpoint=\"{name}\",outcome=\"{outcome}\"}} {rows}\n"));
            }
        }
        let (mut calls, mut call_rows) = (String::new(), String::new());
        for (name, endpoint) in snapshot.endpoints.iter().filter(|(_, endpoint)| endpoint.spec.batch.is_some()) {
            for (arm, model) in endpoint.arms() {
                let (made, rows) = endpoint.paces(arm).together.calls_and_rows();
                let labels = format!("endpoint=\"{name}\",arm=\"{}\",model=\"{model}\"", arm.as_str());
                calls.push_str(&format!("gristmill_batches_total{{{labels}}} {made}\n"));
                call_rows.push_str(&format!("gristmill_batch_rows_total{{{labels}}} {rows}\n"));
            }
        }
        let mut page = String::new();
        let mut family = |name: &str, kind: &str, help: &str, lines: &str| {
            page.push_str(&format!("# HELP {name} {help}\n# TYPE {name} {kind}\n{lines}"));
        };
        for (name, lines) in &families {
            let (kind, help) = match *name {
                "gristmill_predict_requests_total" => ("counter", "Prediction requests by endpoint, arm and model."),
                "gristmill_predict_rows_total" => ("counter", "Rows asked for, failed ones included."),
                "gristmill_predict_errors_total" => ("counter", "Rows that failed."),
                _ => ("histogram", "Time of a request on one arm."),
            };
            family(name, kind, help, lines);
        }
        family("gristmill_predict_in_flight", "gauge", "Prediction requests being answered.", &in_flight);
        family("gristmill_copies_skipped_total", "counter", "Requests that were not shown to a shadow because it had too many.", &skipped);
        family(
            "gristmill_prediction_cache_rows_total",
            "counter",
            "Rows of endpoints with a cache: found in it, computed by another request at the same time, or computed.",
            &cached,
        );
        family("gristmill_batches_total", "counter", "Calls of a model that rows of several requests may share.", &calls);
        family("gristmill_batch_rows_total", "counter", "Rows in such calls.", &call_rows);
        family(
            "gristmill_canary_share",
            "gauge",
            "Share of the traffic of the version being rolled out.",
            &snapshot.endpoints.iter().map(share).collect::<String>(),
        );
        family(
            "gristmill_prediction_log_rows",
            "gauge",
            "Predictions that are in no table yet.",
            &format!("gristmill_prediction_log_rows {}\n", self.log.rows_waiting()),
        );
        family(
            "gristmill_deployments_broken",
            "gauge",
            "Endpoints whose newest deployment cannot be loaded.",
            &format!("gristmill_deployments_broken {}\n", snapshot.broken.len()),
        );
        page
    }
}

/// What a version has shown of its speed so far.
fn paces_of(model: &LoadedModel, before: Option<&Arc<Endpoint>>) -> Arc<Paces> {
    let shown = |before: &Arc<Endpoint>| {
        let arms = [Arm::Stable, Arm::Canary].into_iter();
        arms.into_iter().find(|arm| before.model(*arm).id == model.id).map(|arm| before.paces(arm).clone())
    };
    before.and_then(shown).unwrap_or_default()
}

impl LiveFigures for Plane {
    fn figures(&self, endpoint: &Name, since: Timestamp) -> Option<EndpointFigures> {
        let snapshot = self.snapshot();
        let endpoint = snapshot.endpoints.get(endpoint)?;
        Some(endpoint.lane.figures.since(&endpoint.working_arms(), since))
    }
}

/// Refreshes whenever the ledger has grown, for ever. The caller spawns it and aborts it when stopping.
pub async fn follow(plane: Arc<Plane>, every: Span) {
    loop {
        match plane.parts.ports.ledger.head().await {
            Ok(head) if head == plane.seen_head.load(Ordering::Acquire) && plane.loaded_once.load(Ordering::Acquire) => {}
            Ok(_) => {
                if let Err(fault) = plane.refresh().await {
                    tracing::warn!("deployments could not be read, the old ones go on answering: {fault}");
                }
            }
            Err(fault) => tracing::warn!("the ledger could not be asked for changes: {fault}"),
        }
        tokio::time::sleep(every.std()).await;
    }
}
