//! The JSON of the control API, written out: a change of a stored or domain type changes nothing here by accident.

use crate::overview::{EndpointState, Health, Overview, error_rate};
use gristmill_kernel::experiment::{Comparison, Experiment, Values};
use gristmill_kernel::port::AuditEntry;
use gristmill_kernel::prediction::ArmFigures;
use gristmill_kernel::version::{AliasState, Place};
use gristmill_kernel::{Check, Run, Version, VersionRef};
use serde_json::{Value, json};

/// The loop.
pub fn overview(overview: &Overview) -> Value {
    json!({
        "project": overview.project,
        "at": overview.now,
        "health": overview.stages.iter().map(|s| s.health).max().unwrap_or(Health::Unknown).as_str(),
        "stages": overview.stages.iter().map(|s| json!({
            "stage": s.stage.as_str(),
            "health": s.health.as_str(),
            "last_run": s.last.as_ref().map(run_line),
        })).collect::<Vec<_>>(),
        "endpoints": overview.endpoints.iter().map(endpoint).collect::<Vec<_>>(),
        "runs": overview.runs.iter().map(run_line).collect::<Vec<_>>(),
        "alerts": overview.alerts.iter().map(|a| json!({ "at": a.at, "subject": a.subject, "text": a.text })).collect::<Vec<_>>(),
    })
}

fn endpoint(endpoint: &EndpointState) -> Value {
    let arms = endpoint.figures.iter().flatten().map(|(arm, figures)| (arm.as_str().to_owned(), arm_figures(figures)));
    json!({
        "endpoint": endpoint.name,
        "deployment": endpoint.deployment.to_string(),
        "stable": endpoint.stable.to_string(),
        "canary": endpoint.canary.as_ref().map(|canary| json!({
            "model": canary.model.to_string(),
            "share": f64::from(canary.permille) / 1_000.0,
            "copies": f64::from(canary.mirrored) / 1_000.0,
        })),
        "figures": endpoint.figures.as_ref().map(|_| arms.collect::<serde_json::Map<_, _>>()),
        "experiment": endpoint.experiment.as_ref().map(experiment),
        "parity": endpoint.parity.as_ref().map(|p| json!({
            "checked": p.checked, "late": p.late, "behind": p.behind, "mismatched": p.mismatched, "mismatch_rate": p.mismatch_rate(),
        })),
    })
}

fn experiment(seen: &Experiment) -> Value {
    let compared = seen.compare();
    let of = |values: &Values| json!({ "entities": values.entities, "mean": values.mean });
    let figure = |of: fn(&Comparison) -> f64| compared.as_ref().ok().map(of);
    json!({
        "decide": seen.tried.decide.to_string(),
        "confidence": f64::from(seen.tried.decide.confidence) / 1_000.0,
        "stable": of(&seen.of_stable),
        "trial": of(&seen.of_trial),
        "difference": figure(|c| c.difference),
        "low": figure(|c| c.low),
        "high": figure(|c| c.high),
        "better": compared.as_ref().ok().and_then(Comparison::is_better),
        "lacking": compared.as_ref().err(),
    })
}

fn arm_figures(figures: &ArmFigures) -> Value {
    json!({
        "model": figures.model.to_string(),
        "rows": figures.rows,
        "errors": figures.errors,
        "error_rate": error_rate(figures),
        "p50_ms": figures.p50_ms,
        "p99_ms": figures.p99_ms,
        "score_mean": figures.score_mean,
        "score_bins": figures.score_bins,
        "agreement": (figures.compared.rows > 0).then(|| figures.compared.same as f64 / figures.compared.rows as f64),
    })
}

/// A run in a list.
pub fn run_line(run: &Run) -> Value {
    json!({
        "id": run.id.0,
        "stage": run.stage.as_str(),
        "address": run.address.to_string(),
        "status": run.status.as_str(),
        "verdict": run.verdict.map(|v| v.as_str()),
        "health": Health::of(run).as_str(),
        "summary": run.summary,
        "actor": run.actor.0,
        "reason": run.reason,
        "parent": run.parent.as_ref().map(|id| &id.0),
        "submitted_at": run.submitted_at,
        "started_at": run.started_at,
        "ended_at": run.ended_at,
    })
}

/// A run, whole.
pub fn run(run: &Run, steps: &[Run]) -> Value {
    let names = |versions: &[VersionRef]| versions.iter().map(VersionRef::to_string).collect::<Vec<_>>();
    let mut value = run_line(run);
    value["inputs"] = names(&run.inputs).into();
    value["outputs"] = names(&run.outputs).into();
    value["skipped_for"] = run.skipped_for.as_ref().map(|id| id.0.clone()).into();
    value["params"] = json!(run.params);
    value["metrics"] = json!(run.metrics);
    value["tags"] = json!(run.tags);
    value["checks"] = run.checks.iter().map(check).collect();
    value["error"] = match &run.error {
        None => Value::Null,
        Some(e) => json!({ "code": e.code, "message": e.message, "fix": e.fix, "transient": e.transient }),
    };
    value["attempt"] = run.attempt.into();
    value["cancel_asked"] = run.cancel_asked.into();
    value["spec"] = run.spec.clone();
    value["steps"] = steps.iter().map(run_line).collect();
    value
}

fn check(check: &Check) -> Value {
    json!({ "condition": check.condition, "verdict": check.verdict.as_str(), "observed": check.observed })
}

/// A version.
pub fn version(version: &Version) -> Value {
    let place = match &version.place {
        Place::Blob { digest } => json!({ "blob": digest.to_string() }),
        Place::Table { table, version } => json!({ "table": table.as_str(), "version": version }),
        Place::Meta => json!("meta"),
    };
    json!({
        "version": version.id.to_string(),
        "number": version.id.number,
        "digest": version.digest.to_string(),
        "place": place,
        "rows": version.rows,
        "meta": version.meta,
        "run": version.run.0,
        "made_at": version.made_at,
    })
}

/// Where an alias stands.
pub fn alias(state: &AliasState) -> Value {
    json!({
        "asset": state.asset.to_string(),
        "alias": state.alias.as_str(),
        "number": state.number,
        "previous": state.previous,
        "actor": state.actor.0,
        "reason": state.reason,
        "run": state.run.as_ref().map(|id| &id.0),
        "moved_at": state.moved_at,
    })
}

/// A line of the audit chain.
pub fn audit(entry: &AuditEntry) -> Value {
    json!({
        "seq": entry.seq,
        "at": entry.at,
        "actor": entry.actor.0,
        "action": entry.action,
        "subject": entry.subject,
        "detail": entry.detail,
        "hash": entry.hash.to_string(),
    })
}
