//! Gathers the facts from the ledger and asks for the runs that are due.

use crate::plan::{self, Attempt, Facts, Report};
use crate::spec::RetrainSpec;
use gristmill_kernel::port::{FlowOrder, Ports, RunFilter, Runs};
use gristmill_kernel::run::RunStatus;
use gristmill_kernel::version::{Version, Which};
use gristmill_kernel::{Actor, Address, AssetKind, Fault, Result, Run, StageKind, Timestamp, Verdict, VersionRef};
use std::collections::{BTreeMap, BTreeSet};

/// Runs looked at for the newest training and the newest try.
const RUNS_LOOKED_AT: usize = 200;

/// Asks for every retraining that is due and returns the flows. Called every few seconds; one that cannot be judged is
/// logged and does not keep the others from being looked at.
pub async fn tick(ports: &Ports, runs: &dyn Runs, specs: &[RetrainSpec]) -> Result<Vec<Run>> {
    let mut asked = Vec::new();
    for spec in specs {
        match one(ports, runs, spec).await {
            Ok(run) => asked.extend(run),
            Err(fault) => tracing::warn!(model = %spec.model, error = %fault, "retraining could not be decided"),
        }
    }
    Ok(asked)
}

async fn one(ports: &Ports, runs: &dyn Runs, spec: &RetrainSpec) -> Result<Option<Run>> {
    let facts = facts(ports, spec).await?;
    let when = match &spec.when {
        Some(condition) => Some(ports.engine.judge(condition, &plan::figures(&facts)).await?),
        None => None,
    };
    let Some(reason) = plan::due(spec, &facts, when.as_ref())? else { return Ok(None) };
    tracing::info!(model = %spec.model, reason = reason.text, "retraining");
    let order = FlowOrder {
        targets: vec![target(spec)],
        upstream: true,
        force: false,
        overrides: BTreeMap::new(),
        actor: Actor::system("retrain"),
        reason: reason.text,
        idempotency: Some(reason.token),
    };
    Ok(Some(runs.submit_flow(order).await?))
}

/// What a retraining brings up to date: the endpoint, or the gates of a model that has none.
pub fn target(spec: &RetrainSpec) -> Address {
    match &spec.endpoint {
        Some(endpoint) => Address::new(AssetKind::Endpoints, endpoint.clone()),
        None => Address::new(AssetKind::Gates, spec.model.clone()),
    }
}

/// What the ledger knows about a model.
pub async fn facts(ports: &Ports, spec: &RetrainSpec) -> Result<Facts> {
    let model = Address::new(AssetKind::Models, spec.model.clone());
    let filter = |stage, address: Option<&Address>| RunFilter {
        stages: vec![stage],
        address: address.cloned(),
        limit: RUNS_LOOKED_AT,
        ..RunFilter::default()
    };
    let trainings = ports.ledger.runs(&filter(StageKind::Train, Some(&model))).await?;
    let flows = ports.ledger.runs(&filter(StageKind::Flow, None)).await?;
    let flows: Vec<&Run> = flows.iter().filter(|f| is_about(f, &[target(spec), model.clone()])).collect();
    let trained = trainings.iter().find(|r| matches!(r.status, RunStatus::Succeeded | RunStatus::Skipped));
    let (new_rows, new_labels) = match trained {
        Some(run) if asks_for_growth(spec) => growth(ports, run).await?,
        _ => (None, None),
    };
    Ok(Facts {
        now: ports.clock.now(),
        last_trained: trained.map(began),
        last_attempt: last_attempt(&flows),
        running: trainings.iter().chain(flows.iter().copied()).any(|r| !r.status.is_final()),
        report: report(ports, spec).await?,
        new_rows,
        new_labels,
    })
}

fn began(run: &Run) -> Timestamp {
    run.started_at.unwrap_or(run.submitted_at)
}

fn last_attempt(flows: &[&Run]) -> Option<Attempt> {
    let ours = flows.iter().find(|f| f.actor == Actor::system("retrain"))?;
    Some(Attempt { at: ours.submitted_at, worked: ours.status == RunStatus::Succeeded })
}

/// Whether a flow aims at one of these. A flow's spec holds its order; its targets are looked for by name wherever they stand in it, so a
/// flow that was written by another version is recognised too.
fn is_about(flow: &Run, targets: &[Address]) -> bool {
    fn holds(value: &serde_json::Value, names: &[String]) -> bool {
        match value {
            serde_json::Value::String(text) => names.contains(text),
            serde_json::Value::Array(all) => all.iter().any(|v| holds(v, names)),
            serde_json::Value::Object(map) => map.values().any(|v| holds(v, names)),
            _ => false,
        }
    }
    let names: Vec<String> = targets.iter().map(Address::to_string).collect();
    targets.contains(&flow.address) || holds(&flow.spec, &names)
}

/// Counting new rows walks the ledger, so it is done only when the condition asks.
fn asks_for_growth(spec: &RetrainSpec) -> bool {
    spec.when.as_deref().is_some_and(|when| {
        let when = when.to_ascii_lowercase();
        when.contains("new_rows") || when.contains("new_labels")
    })
}

/// Rows of the sources and labels a training came from, against what they have now.
async fn growth(ports: &Ports, training: &Run) -> Result<(Option<u64>, Option<u64>)> {
    let mut seen: BTreeSet<VersionRef> = BTreeSet::new();
    let mut open: Vec<VersionRef> = training.inputs.clone();
    let mut used: BTreeMap<Address, Version> = BTreeMap::new();
    while let Some(id) = open.pop() {
        if !seen.insert(id.clone()) {
            continue;
        }
        let version = ports.ledger.version(&id.asset, &Which::Number(id.number)).await?;
        let version = version.ok_or_else(|| Fault::damaged(format!("{id} was read by a run but is not in the ledger")))?;
        let source = id.asset.kind == AssetKind::Sources;
        if source || id.asset.kind == AssetKind::Labels {
            // Several ways may lead to different versions of one asset; the oldest was surely trained on.
            let older = used.get(&id.asset).is_none_or(|known| known.id.number > id.number);
            if older {
                used.insert(id.asset.clone(), version.clone());
            }
        }
        if !source {
            open.extend(ports.ledger.run(&version.run).await?.map(|run| run.inputs).unwrap_or_default());
        }
    }
    let (mut rows, mut labels) = (None, None);
    for (asset, before) in &used {
        let Some(now) = ports.ledger.version(asset, &Which::Latest).await? else { continue };
        let (Some(now), Some(before)) = (now.rows, before.rows) else { continue };
        let sum = if asset.kind == AssetKind::Sources { &mut rows } else { &mut labels };
        *sum = Some(sum.unwrap_or(0) + now.saturating_sub(before));
    }
    Ok((rows, labels))
}

/// The part of a monitor's report that matters here; the rest of its record is the monitor's own.
#[derive(serde::Deserialize)]
struct Seen {
    verdict: Option<Verdict>,
    #[serde(default)]
    drifted: Vec<String>,
    quality: Option<SeenQuality>,
    #[serde(default)]
    parity: Option<SeenParity>,
}

#[derive(serde::Deserialize)]
struct SeenParity {
    checked: u64,
    mismatched: u64,
}

#[derive(serde::Deserialize)]
struct SeenQuality {
    drop: Option<f64>,
}

async fn report(ports: &Ports, spec: &RetrainSpec) -> Result<Option<Report>> {
    let Some(endpoint) = &spec.endpoint else { return Ok(None) };
    let address = Address::new(AssetKind::Monitors, endpoint.clone());
    let Some(version) = ports.ledger.version(&address, &Which::Latest).await? else { return Ok(None) };
    let seen: Seen =
        serde_json::from_value(version.meta).map_err(|e| Fault::damaged(format!("{} is not a report: {e}", version.id)).because(e))?;
    let drift = match seen.verdict {
        Some(Verdict::Fail) => Some(true),
        Some(Verdict::Pass | Verdict::Warn) => Some(false),
        Some(Verdict::Inconclusive) | None => None,
    };
    let (first, quality_drop) = (seen.drifted.into_iter().next(), seen.quality.and_then(|q| q.drop));
    let mismatch_rate = seen.parity.filter(|p| p.checked > 0).map(|p| p.mismatched as f64 / p.checked as f64);
    Ok(Some(Report { id: version.id, made_at: version.made_at, drift, first, quality_drop, mismatch_rate }))
}
