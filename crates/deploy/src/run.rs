//! The stage, the clockwork and a person's rollback: three ways to the same plan, one way to write it.

use crate::plan::{self, Change, Facts, What};
use crate::spec::{DeploySpec, Judging};
use crate::strategy::evidence;
use crate::strategy::{self, ALL, Step, Traffic};
use async_trait::async_trait;
use gristmill_kernel::condition::Figures;
use gristmill_kernel::experiment::Experiment;
use gristmill_kernel::port::{LiveFigures, Ports, RegisteredVersions, RunFilter};
use gristmill_kernel::prediction::Deployment;
use gristmill_kernel::run::{Finish, Metric, NewRun, Run, RunError};
use gristmill_kernel::stage::{Made, StageMove};
use gristmill_kernel::version::{AliasMove, AliasState, Place, Which};
use gristmill_kernel::{
    Actor, Address, AliasName, AssetKind, Check, Code, Digest, Done, Fault, Kind, ModelChoice, Name, NewVersion, Order, Result, RunId,
    RunStatus, Span, Stage, StageContext, StageKind, Timestamp, Verdict, Version, VersionRef,
};
use std::collections::BTreeMap;
use std::sync::Arc;

/// A decision is written at once; one that is not finished after this time died with its process.
const DECISION: Span = Span::from_secs(10);

/// Stage `deploy`: node `endpoints.NAME`. Follows the aliases of the model; the steps of a rollout are taken by [`tick`].
#[derive(Default)]
pub struct DeployStage {
    registered: Option<Arc<dyn RegisteredVersions>>,
}

impl DeployStage {
    /// A stage that also deploys registered models.
    pub fn new(registered: Arc<dyn RegisteredVersions>) -> DeployStage {
        DeployStage { registered: Some(registered) }
    }
}

#[async_trait]
impl Stage for DeployStage {
    fn kind(&self) -> StageKind {
        StageKind::Deploy
    }
    fn skippable(&self) -> bool {
        false
    }
    async fn run(&self, cx: &StageContext, order: Order) -> Result<Done> {
        let spec: DeploySpec = order.spec()?;
        if others_at_work(&cx.ports, &address(&spec.endpoint), Some(&order.run)).await? {
            return Err(Fault::new(
                Kind::Busy,
                Code::ROLLOUT_CONFLICT,
                format!("another decision about endpoint `{}` is being written", spec.endpoint),
            ));
        }
        let state = State::read(&cx.ports, self.registered.as_deref(), &spec).await?;
        match plan::follow(&state.facts(&spec, cx.ports.clock.now())) {
            Ok(change) => {
                if let Some((registered, version)) = self.registered.as_deref().zip(newcomer(&state, &change)) {
                    registered.servable(version).await?;
                }
                Ok(Done::Made(made(&state, &order, change)?))
            }
            Err(why) => Ok(Done::Unchanged { versions: state.live.iter().map(|(v, _)| v.id.clone()).collect(), summary: why }),
        }
    }
}

/// A step that was taken.
#[derive(Debug, Clone)]
pub struct StepTaken {
    /// What it was.
    pub what: What,
    /// The run that records it.
    pub run: Run,
}

/// The live deployment of an endpoint and its version, `None` before the first.
pub async fn live(ports: &Ports, endpoint: &Name) -> Result<Option<(Version, Deployment)>> {
    let address = address(endpoint);
    let Some(version) = ports.ledger.version(&address, &Which::Alias(AliasName::live())).await? else { return Ok(None) };
    let deployment = read(&version)?;
    Ok(Some((version, deployment)))
}

/// What the clockwork looks at.
#[derive(Clone, Copy)]
pub struct Watch<'a> {
    /// The ports.
    pub ports: &'a Ports,
    /// What the arms of endpoints do.
    pub figures: &'a dyn LiveFigures,
    /// What clients registered.
    pub registered: Option<&'a dyn RegisteredVersions>,
    /// Who decides.
    pub worker: &'a str,
}

/// Takes the next step of an endpoint if one is due: follows the model's aliases, or advances, completes, aborts or pauses a
/// rollout. Called every second or so; what it decides it writes as one run in one transaction. `Ok(None)`: nothing to do,
/// or somebody else was first.
pub async fn tick(watch: &Watch<'_>, spec: &DeploySpec) -> Result<Option<StepTaken>> {
    let Watch { ports, figures, registered, worker } = *watch;
    let mut state = State::read(ports, registered, spec).await?;
    let actor = Actor::system("deploy");
    // Before the first deployment the project's own flow decides; a tick only keeps going what is live. A registered model has no flow.
    if state.live.is_none() && spec.model.own().is_some() {
        return Ok(None);
    }
    let mut change = plan::follow(&state.facts(spec, ports.clock.now()));
    if let Some((registered, version)) = registered.zip(change.as_ref().ok().and_then(|change| newcomer(&state, change)).cloned())
        && let Refusal::Known | Refusal::New = refused(watch, registered, spec, &version).await?
    {
        state.unservable = true;
        change = plan::follow(&state.facts(spec, ports.clock.now()));
    }
    let facts = state.facts(spec, ports.clock.now());
    if let Ok(change) = change {
        return write(ports, &state, spec, Written { change, evidence: Evidence::default(), actor, worker }).await;
    }
    let Some((_, deployment)) = &state.live else { return Ok(None) };
    let Some(canary) = &deployment.canary else { return Ok(None) };
    let evidence = judge(ports, figures, spec, deployment).await?;
    let step = strategy::decide(&spec.rollout, deployment, &evidence.judged, &facts.leave(), facts.now);
    if let Step::Pause(why) = &step {
        let mark = canary.since.to_string();
        if said_before(ports, &address(&spec.endpoint), ("paused", &mark)).await? {
            return Ok(None);
        }
        let change = Change {
            what: What::Paused,
            deployment: deployment.clone(),
            moves: vec![],
            reason: format!("rollout of {} paused at {}: {why}", canary.model, Traffic::of(canary)),
            verdict: Some(Verdict::Inconclusive),
        };
        return write(ports, &state, spec, Written { change, evidence, actor, worker }).await;
    }
    match plan::apply(&facts, &step, &evidence.judged) {
        Some(change) => write(ports, &state, spec, Written { change, evidence, actor, worker }).await,
        None => Ok(None),
    }
}

/// A person takes it back, at once: a running rollout ends; without one, the version before answers again.
pub async fn rollback(ports: &Ports, spec: &DeploySpec, actor: &Actor, reason: &str, worker: &str) -> Result<StepTaken> {
    let state = State::read(ports, None, spec).await?;
    let history = stable_history(ports, &address(&spec.endpoint)).await?;
    let change = plan::roll_back(&state.facts(spec, ports.clock.now()), &history, reason).map_err(|why| {
        let fix = match &spec.model {
            ModelChoice::Own(name) => format!("promote a version by hand: gristmill promote models.{name}@N"),
            ModelChoice::Registered(_) => "move the model's alias to the version that shall answer".to_owned(),
        };
        Fault::conflict(Code::ROLLOUT_CONFLICT, why).fix(fix)
    })?;
    let wish = Written { change, evidence: Evidence::default(), actor: actor.clone(), worker };
    write(ports, &state, spec, wish).await?.ok_or_else(|| {
        Fault::conflict(Code::ROLLOUT_CONFLICT, format!("endpoint `{}` changed at the same moment", spec.endpoint))
            .fix("look at its status and try again")
    })
}

fn address(endpoint: &Name) -> Address {
    Address::new(AssetKind::Endpoints, endpoint.clone())
}

fn read(version: &Version) -> Result<Deployment> {
    let format = version.meta.get("format").and_then(serde_json::Value::as_u64).unwrap_or(0);
    if format > u64::from(Deployment::FORMAT) {
        let message = format!("{} has format {format}, this binary reads up to {}", version.id, Deployment::FORMAT);
        return Err(Fault::invalid(Code::NEWER_FORMAT, message).fix("use the newer gristmill that wrote it"));
    }
    serde_json::from_value(version.meta.clone()).map_err(|e| Fault::damaged(format!("{} is not a deployment: {e}", version.id)).because(e))
}

/// What the ledger says about an endpoint and its model.
struct State {
    endpoint: Address,
    live: Option<(Version, Deployment)>,
    aliases: Vec<AliasState>,
    /// Of a registered model: what its choice names, and whether that was refused.
    wanted: Option<VersionRef>,
    unservable: bool,
    unapproved: Option<String>,
}

impl State {
    async fn read(ports: &Ports, registered: Option<&dyn RegisteredVersions>, spec: &DeploySpec) -> Result<State> {
        // The live version first: whatever moves after it makes the move conflict, never the decision wrong.
        let live = live(ports, &spec.endpoint).await?;
        let wanted = match (&spec.model, registered) {
            (ModelChoice::Registered(choice), Some(registered)) => registered.named(choice).await?,
            _ => None,
        };
        let model = match (&spec.model, &wanted, &live) {
            (ModelChoice::Own(name), _, _) => Some(Address::new(AssetKind::Models, name.clone())),
            (ModelChoice::Registered(_), Some(wanted), _) => Some(wanted.asset.clone()),
            (ModelChoice::Registered(_), None, Some((_, live))) => Some(live.stable.asset.clone()),
            (ModelChoice::Registered(_), None, None) => None,
        };
        let aliases = match &model {
            Some(model) => ports.ledger.aliases(model).await?,
            None => Vec::new(),
        };
        let unapproved = match live.as_ref().and_then(|(_, live)| live.canary.as_ref()).filter(|_| spec.rollout.asks()) {
            Some(canary) => unapproved(ports, &canary.model, &aliases).await?,
            None => None,
        };
        Ok(State { endpoint: address(&spec.endpoint), live, aliases, wanted, unservable: false, unapproved })
    }
    fn facts<'a>(&'a self, spec: &'a DeploySpec, now: Timestamp) -> Facts<'a> {
        Facts {
            spec,
            live: self.live.as_ref().map(|(_, d)| d),
            champion: plan::alias(&self.aliases, AliasName::champion()),
            challenger: plan::alias(&self.aliases, AliasName::challenger()),
            rejected: plan::alias(&self.aliases, AliasName::rejected()),
            wanted: self.wanted.as_ref(),
            unservable: self.unservable,
            unapproved: self.unapproved.clone(),
            now,
        }
    }
    /// The moves of a change; the move of `live` comes first and guards all others.
    fn moves(&self, change: &Change, actor: &Actor, run: &RunId) -> Vec<AliasMove> {
        let wish = |asset: &Address, alias: AliasName, from: Option<u64>, to: Option<u64>| AliasMove {
            asset: asset.clone(),
            alias,
            to,
            expect: Some(from),
            actor: actor.clone(),
            reason: change.reason.clone(),
            run: Some(run.clone()),
        };
        let live = self.live.as_ref().map(|(v, _)| v.id.number);
        let mut moves = vec![wish(&self.endpoint, AliasName::live(), live, None)];
        moves.extend(change.moves.iter().map(|m| wish(&m.asset, m.alias.clone(), m.from, m.to)));
        moves
    }
}

/// Why a version may not answer callers yet, where somebody must approve it: the alias `approved` does not name it, or was moved there by whoever
/// made the version.
async fn unapproved(ports: &Ports, version: &VersionRef, aliases: &[AliasState]) -> Result<Option<String>> {
    let approved = aliases.iter().find(|state| state.alias == AliasName::approved() && state.number == Some(version.number));
    let Some(approved) = approved else {
        return Ok(Some(format!("{version} waits for approval: gristmill promote {version} --to approved --reason ...")));
    };
    let run = match ports.ledger.version(&version.asset, &Which::Number(version.number)).await? {
        Some(made) => ports.ledger.run(&made.run).await?,
        None => None,
    };
    let maker = run.map(|run| run.actor);
    Ok((maker.as_ref() == Some(&approved.actor))
        .then(|| format!("{version} waits for approval by somebody else: {} made it and approved it", approved.actor)))
}

/// The registered version to which a change gives its first traffic.
fn newcomer<'c>(state: &State, change: &'c Change) -> Option<&'c VersionRef> {
    let wanted = state.wanted.as_ref()?;
    let holds = |deployment: &Deployment| deployment.stable == *wanted || deployment.canary.as_ref().is_some_and(|c| c.model == *wanted);
    if state.live.as_ref().is_some_and(|(_, live)| holds(live)) || !holds(&change.deployment) {
        return None;
    }
    let canary = change.deployment.canary.as_ref().map(|canary| &canary.model);
    canary.filter(|model| *model == wanted).or(Some(&change.deployment.stable))
}

/// Whether a version was refused, now or before.
enum Refusal {
    No,
    Known,
    New,
}

/// Asks whether a registered version can be served. A refusal is written once as a failed run, so that people see why nothing happens, and
/// holds until the choice names another version or somebody runs the endpoint by hand.
async fn refused(watch: &Watch<'_>, registered: &dyn RegisteredVersions, spec: &DeploySpec, version: &VersionRef) -> Result<Refusal> {
    let (ports, endpoint) = (watch.ports, address(&spec.endpoint));
    if said_before(ports, &endpoint, ("refused", &version.to_string())).await? {
        return Ok(Refusal::Known);
    }
    let Err(fault) = registered.servable(version).await else { return Ok(Refusal::No) };
    // What may be better in a moment is no refusal.
    if fault.code != Code::NOT_SERVABLE {
        return Err(fault);
    }
    let now = ports.clock.now();
    let run = NewRun {
        id: ports.ids.run(),
        stage: StageKind::Deploy,
        address: endpoint.clone(),
        key: Digest::of_parts([b"refused".as_slice(), endpoint.to_string().as_bytes(), version.to_string().as_bytes()]),
        spec: spec_json(spec)?,
        inputs: vec![version.clone()],
        parent: None,
        actor: Actor::system("deploy"),
        reason: format!("{} names {version}", spec.model),
        idempotency: None,
        due_at: now,
    };
    let begun = ports.ledger.begin(run, watch.worker, now, now.plus(DECISION)).await?;
    let params = BTreeMap::from([("refused".to_owned(), version.to_string())]);
    let finish = Finish { params, ..failed(&fault, &fault.message) };
    ports.ledger.finish(&begun.id, finish, ports.clock.now()).await?;
    tracing::warn!(endpoint = %spec.endpoint, %version, error = %fault, "a registered version cannot be served, the endpoint stays as it is");
    Ok(Refusal::New)
}

fn spec_json(spec: &DeploySpec) -> Result<serde_json::Value> {
    serde_json::to_value(spec).map_err(|e| Fault::internal("a deploy spec does not serialise").because(e))
}

fn version_of(endpoint: &Address, deployment: &Deployment) -> Result<NewVersion> {
    let meta = serde_json::to_value(deployment).map_err(|e| Fault::internal("a deployment does not serialise").because(e))?;
    Ok(NewVersion { asset: endpoint.clone(), digest: Digest::of_json(&meta), place: Place::Meta, rows: None, meta })
}

fn params(change: &Change) -> BTreeMap<String, String> {
    let mut params =
        BTreeMap::from([("what".to_owned(), change.what.as_str().to_owned()), ("stable".to_owned(), change.deployment.stable.to_string())]);
    if let Some(canary) = &change.deployment.canary {
        params.insert("canary".into(), canary.model.to_string());
        params.insert("share".into(), strategy::percent(canary.permille));
        if canary.mirrored > 0 {
            params.insert("copies".into(), strategy::percent(canary.mirrored));
        }
        if change.what == What::Paused {
            params.insert("paused".into(), canary.since.to_string());
        }
    }
    params
}

fn made(state: &State, order: &Order, change: Change) -> Result<Made> {
    let mut aliases: Vec<StageMove> =
        state.moves(&change, &order.actor, &order.run).into_iter().map(|wish| StageMove { wish, output: None }).collect();
    if let Some(live) = aliases.first_mut() {
        live.output = Some(0);
    }
    Ok(Made {
        outputs: vec![version_of(&state.endpoint, &change.deployment)?],
        params: params(&change),
        aliases,
        summary: change.reason,
        ..Made::default()
    })
}

/// What was known when a step was decided.
#[derive(Default)]
struct Evidence {
    judged: evidence::Evidence,
    checks: Vec<Check>,
    metrics: Vec<Metric>,
}

/// Judges the abort condition over what the arms did in this step.
async fn judge(ports: &Ports, live: &dyn LiveFigures, spec: &DeploySpec, deployment: &Deployment) -> Result<Evidence> {
    let (Some(Judging { abort, at_least, .. }), Some(canary)) = (spec.rollout.judging(), &deployment.canary) else {
        return Ok(Evidence::default());
    };
    if Traffic::of(canary) == Traffic::None {
        return Ok(Evidence::default());
    }
    let step = live.figures(&spec.endpoint, canary.since);
    let stable = live.figures(&spec.endpoint, evidence::compare_since(canary.began_at, strategy::lasts(&spec.rollout, canary)));
    let figures = evidence::figures(deployment, step.as_ref(), stable.as_ref(), *at_least);
    let rows = figures.get("rows").unwrap_or(0.0) as u64;
    let Some(condition) = abort else {
        let judged = evidence::Evidence { rows, abort: Some(false), observed: observed(&figures), experiment: None };
        return tried(ports, spec, deployment, Evidence { judged, checks: vec![], metrics: metrics(&figures) }).await;
    };
    let mut judged = ports.engine.judge(condition, &figures).await?;
    if judged.holds.is_none() && canary.permille >= ALL && canary.step > 0 {
        judged = ports.engine.judge(condition, &evidence::without_comparison(&figures)).await?;
    }
    // The check reads "this must not hold".
    let verdict = match judged.holds {
        Some(true) => Verdict::Fail,
        Some(false) => Verdict::Pass,
        None => Verdict::Inconclusive,
    };
    let check = Check { condition: format!("not ({condition})"), verdict, observed: judged.observed.clone() };
    let judged = evidence::Evidence { rows, abort: judged.holds, observed: judged.observed, experiment: None };
    tried(ports, spec, deployment, Evidence { judged, checks: vec![check], metrics: metrics(&figures) }).await
}

/// The evidence with what an experiment has come to.
async fn tried(ports: &Ports, spec: &DeploySpec, deployment: &Deployment, mut evidence: Evidence) -> Result<Evidence> {
    let Some(trial) = spec.rollout.trial() else { return Ok(evidence) };
    // An edited spec asks another question: what was counted for the one before does not answer it.
    let seen = experiment(ports, deployment).await?.filter(|seen| seen.tried.decide == trial.decide);
    let Some(seen) = seen else { return Ok(evidence) };
    evidence.judged.observed = [strategy::ab::told(&seen), evidence.judged.observed].join("; ").trim_end_matches("; ").to_owned();
    evidence.metrics.extend(seen.written().1);
    evidence.judged.experiment = Some(seen);
    Ok(evidence)
}

/// What the experiment that a deployment is in has come to, as the endpoint's monitor counted it last.
pub async fn experiment(ports: &Ports, deployment: &Deployment) -> Result<Option<Experiment>> {
    let monitor = Address::new(AssetKind::Monitors, deployment.endpoint.clone());
    let statuses = vec![RunStatus::Succeeded];
    let filter = RunFilter { stages: vec![StageKind::Monitor], address: Some(monitor), statuses, limit: 1, ..RunFilter::default() };
    Ok(ports.ledger.runs(&filter).await?.first().and_then(|run| Experiment::read(run, deployment)))
}

fn metrics(figures: &Figures) -> Vec<Metric> {
    figures.0.keys().filter_map(|key| figures.get(key).map(|value| Metric::new(key.as_str(), value))).collect()
}

fn observed(figures: &Figures) -> String {
    let shown = ["error_rate", "p99_ms", "score_psi", "agreement", "score_distance"];
    shown.iter().filter_map(|key| figures.get(key).map(|v| format!("{key} = {v:.4}"))).collect::<Vec<_>>().join(", ")
}

/// Whether one of the newest decisions about an endpoint bears a mark.
async fn said_before(ports: &Ports, endpoint: &Address, (param, mark): (&str, &str)) -> Result<bool> {
    let filter = RunFilter { stages: vec![StageKind::Deploy], address: Some(endpoint.clone()), limit: 50, ..RunFilter::default() };
    Ok(ports.ledger.runs(&filter).await?.iter().any(|r| r.params.get(param).is_some_and(|p| p == mark)))
}

/// Whether another decision about this endpoint is being written now.
async fn others_at_work(ports: &Ports, endpoint: &Address, me: Option<&RunId>) -> Result<bool> {
    let filter = RunFilter {
        stages: vec![StageKind::Deploy],
        address: Some(endpoint.clone()),
        statuses: vec![RunStatus::Running],
        ..RunFilter::default()
    };
    let now = ports.clock.now();
    let fresh = |run: &Run| run.started_at.is_some_and(|at| now.since(at) < DECISION);
    Ok(ports.ledger.runs(&filter).await?.iter().any(|r| Some(&r.id) != me && fresh(r)))
}

async fn stable_history(ports: &Ports, endpoint: &Address) -> Result<Vec<(u64, String)>> {
    let mut history = Vec::new();
    for state in ports.ledger.alias_history(endpoint, &AliasName::live()).await?.into_iter().rev() {
        let Some(number) = state.number else { continue };
        let version = ports.ledger.version(endpoint, &Which::Number(number)).await?;
        let version = version.ok_or_else(|| Fault::damaged(format!("{endpoint}@live named version {number}, which does not exist")))?;
        history.push((read(&version)?.stable.number, state.reason));
    }
    Ok(history)
}

/// What is to be written.
struct Written<'a> {
    change: Change,
    evidence: Evidence,
    actor: Actor,
    worker: &'a str,
}

/// Writes a change as a run that begins and ends here: deployment, aliases and the reason in one transaction.
/// `Ok(None)` when somebody else was first.
async fn write(ports: &Ports, state: &State, spec: &DeploySpec, wish: Written<'_>) -> Result<Option<StepTaken>> {
    if others_at_work(ports, &state.endpoint, None).await? {
        return Ok(None);
    }
    let Written { change, evidence, actor, worker } = wish;
    let now = ports.clock.now();
    let output = version_of(&state.endpoint, &change.deployment)?;
    let judged = change.deployment.canary.as_ref().map_or(&change.deployment.stable, |c| &c.model);
    let spec = spec_json(spec)?;
    let run = NewRun {
        id: ports.ids.run(),
        stage: StageKind::Deploy,
        address: state.endpoint.clone(),
        key: Digest::of_parts([b"deploy".as_slice(), state.endpoint.to_string().as_bytes(), output.digest.bytes()]),
        spec,
        inputs: vec![judged.clone()],
        parent: None,
        actor: actor.clone(),
        reason: change.reason.clone(),
        idempotency: None,
        due_at: now,
    };
    let id = run.id.clone();
    let what = change.what;
    let begun = ports.ledger.begin(run, worker, now, now.plus(DECISION)).await?;
    let finish = finish(ports, state, change, evidence, (&actor, &begun.id), output).await?;
    match ports.ledger.finish(&id, finish, ports.clock.now()).await {
        Ok(run) => Ok(Some(StepTaken { what, run })),
        Err(fault) => {
            let first = fault.kind == Kind::Conflict;
            let failed = failed(&fault, if first { "somebody else was first" } else { "it could not be written" });
            if let Err(again) = ports.ledger.finish(&id, failed, ports.clock.now()).await {
                tracing::warn!(endpoint = %state.endpoint, error = %again, "a decision could not be recorded as failed");
            }
            if first { Ok(None) } else { Err(fault) }
        }
    }
}

async fn finish(
    ports: &Ports,
    state: &State,
    change: Change,
    evidence: Evidence,
    (actor, run): (&Actor, &RunId),
    output: NewVersion,
) -> Result<Finish> {
    let mut finish = Finish {
        verdict: change.verdict,
        checks: evidence.checks,
        params: params(&change),
        metrics: evidence.metrics,
        summary: change.reason.clone(),
        ..Finish::empty(RunStatus::Succeeded)
    };
    if change.what == What::Paused {
        finish.reused = state.live.iter().map(|(v, _)| v.id.clone()).collect();
        return Ok(finish);
    }
    // The number the ledger will give. Every version of an endpoint is made together with a move of `live`, and the move
    // expects the one we read: if another version slips in between, this write conflicts as a whole.
    let newest = ports.ledger.version(&state.endpoint, &Which::Latest).await?;
    let number = match &newest {
        Some(newest) if newest.digest == output.digest => newest.id.number,
        Some(newest) => newest.id.number + 1,
        None => 1,
    };
    finish.aliases = state.moves(&change, actor, run);
    if let Some(live) = finish.aliases.first_mut() {
        live.to = Some(number);
    }
    finish.outputs = vec![output];
    Ok(finish)
}

fn failed(fault: &Fault, summary: &str) -> Finish {
    Finish { summary: summary.to_owned(), error: Some(RunError::from(fault)), ..Finish::empty(RunStatus::Failed) }
}
