//! The words of the audit chain: one function per kind of line, shared by every implementation of the ledger.
//!
//! Promise: the chain alone tells the whole story of the loop. `subject` is an address (`models.churn`), a version
//! (`models.churn@3`), an alias (`models.churn@champion`), `tokens.NAME` or `datasets.ID`; lines about a run carry its id in `detail.run`.
//! Details never hold secrets: specs reach the ledger without them.
//!
//! To add a kind of line: one function here and a call inside the transaction that does what the line says.

use gristmill_kernel::port::Token;
use gristmill_kernel::run::{Annotation, Finish, NewRun, RunError};
use gristmill_kernel::tracking::ExperimentId;
use gristmill_kernel::tracking::evaluation::EvaluationDataset;
use gristmill_kernel::tracking::webhook::Webhook;
use gristmill_kernel::version::AliasState;
use gristmill_kernel::{Actor, Address, Digest, Run, RunId, RunStatus, Timestamp, Verdict, Version, VersionRef};
use serde_json::{Map, Value, json};

/// Metrics named one by one in a `run.annotated` line; beyond it only their number is told.
const METRICS_TOLD_MAX: usize = 20;

/// A line that has no number yet.
#[derive(Debug, Clone)]
pub(crate) struct Line {
    pub action: &'static str,
    pub subject: String,
    pub run: Option<RunId>,
    pub actor: Actor,
    pub detail: Value,
}

/// The hash of a line: over the previous hash and every field, with borders.
pub(crate) fn chain_hash(previous: &[u8; 32], seq: u64, at: Timestamp, actor: &str, action: &str, subject: &str, detail: &str) -> Digest {
    let (seq, at) = (seq.to_be_bytes(), at.micros().to_be_bytes());
    Digest::of_parts([&previous[..], &seq, &at, actor.as_bytes(), action.as_bytes(), subject.as_bytes(), detail.as_bytes()])
}

/// Whether a line is about `wanted` or something beneath it. `run` is the run the line tells of.
pub(crate) fn is_about(wanted: &str, subject: &str, run: Option<&str>) -> bool {
    let beneath = subject.strip_prefix(wanted).is_some_and(|rest| rest.is_empty() || rest.starts_with('@') || rest.starts_with('.'));
    beneath || run == Some(wanted)
}

/// The run that a line tells of.
pub(crate) fn run_of(detail: &Value) -> Option<String> {
    detail.get("run").and_then(Value::as_str).map(str::to_owned)
}

pub(crate) fn submitted(run: &NewRun) -> Line {
    about_run("run.submitted", &run.address, &run.id, run.actor.clone(), submission(run))
}

/// A step of a flow is submitted and started by one line.
pub(crate) fn begun(run: &NewRun, worker: &str) -> Line {
    let mut detail = submission(run);
    detail.insert("worker".into(), json!(worker));
    detail.insert("attempt".into(), json!(1));
    about_run("run.started", &run.address, &run.id, run.actor.clone(), detail)
}

fn submission(run: &NewRun) -> Map<String, Value> {
    let mut detail = Map::new();
    detail.insert("stage".into(), json!(run.stage));
    detail.insert("reason".into(), json!(run.reason));
    detail.insert("key".into(), json!(run.key));
    if !run.inputs.is_empty() {
        detail.insert("inputs".into(), names(&run.inputs));
    }
    if let Some(parent) = &run.parent {
        detail.insert("parent".into(), json!(parent));
    }
    if let Some(token) = &run.idempotency {
        detail.insert("idempotency".into(), json!(token));
    }
    detail
}

/// `lost` names the worker whose lease ran out, if the run was taken from one.
pub(crate) fn started(run: &Run, worker: &str, lost: Option<&str>) -> Line {
    let mut detail = Map::new();
    detail.insert("stage".into(), json!(run.stage));
    detail.insert("reason".into(), json!(run.reason));
    detail.insert("worker".into(), json!(worker));
    detail.insert("attempt".into(), json!(run.attempt));
    if let Some(lost) = lost {
        detail.insert("lease_lost_by".into(), json!(lost));
    }
    about_run("run.started", &run.address, &run.id, run.actor.clone(), detail)
}

pub(crate) fn finished(run: &Run, finish: &Finish, outputs: &[VersionRef]) -> Line {
    let mut detail = Map::new();
    detail.insert("stage".into(), json!(run.stage));
    detail.insert("status".into(), json!(finish.status));
    detail.insert("summary".into(), json!(finish.summary));
    if let Some(verdict) = finish.verdict {
        detail.insert("verdict".into(), json!(verdict));
    }
    let failed: Vec<_> = finish.checks.iter().filter(|c| c.verdict != Verdict::Pass).collect();
    if !finish.checks.is_empty() {
        detail.insert("checks".into(), json!(finish.checks.len()));
    }
    if !failed.is_empty() {
        detail.insert("failed_checks".into(), json!(failed));
    }
    if !outputs.is_empty() {
        detail.insert("outputs".into(), names(outputs));
    }
    if let Some(other) = &finish.skipped_for {
        detail.insert("skipped_for".into(), json!(other));
    }
    if let Some(error) = &finish.error {
        detail.insert("error".into(), json!(error));
    }
    if let Some(parent) = &run.parent {
        detail.insert("parent".into(), json!(parent));
    }
    about_run("run.finished", &run.address, &run.id, run.actor.clone(), detail)
}

/// A queued run that somebody took back before anyone began it.
pub(crate) fn cancelled(run: &Run, actor: &Actor) -> Line {
    let mut detail = Map::new();
    detail.insert("stage".into(), json!(run.stage));
    detail.insert("status".into(), json!(RunStatus::Cancelled));
    detail.insert("summary".into(), json!("cancelled before it began"));
    about_run("run.finished", &run.address, &run.id, actor.clone(), detail)
}

pub(crate) fn cancel_asked(run: &Run, actor: &Actor) -> Line {
    about_run("run.cancel_asked", &run.address, &run.id, actor.clone(), Map::new())
}

pub(crate) fn requeued(run: &Run, due_at: Timestamp, error: &RunError) -> Line {
    let mut detail = Map::new();
    detail.insert("stage".into(), json!(run.stage));
    detail.insert("attempt".into(), json!(run.attempt));
    detail.insert("due_at".into(), json!(due_at));
    detail.insert("error".into(), json!(error));
    about_run("run.requeued", &run.address, &run.id, Actor::system("runner"), detail)
}

/// `back_in_queue` tells a flow that will go on from a step that is over.
pub(crate) fn interrupted(run: &Run, worker: Option<&str>, back_in_queue: bool) -> Line {
    let mut detail = Map::new();
    detail.insert("stage".into(), json!(run.stage));
    detail.insert("attempt".into(), json!(run.attempt));
    detail.insert("worker".into(), json!(worker));
    detail.insert("then".into(), json!(if back_in_queue { "queued" } else { "failed" }));
    if let Some(parent) = &run.parent {
        detail.insert("parent".into(), json!(parent));
    }
    about_run("run.interrupted", &run.address, &run.id, Actor::system("runner"), detail)
}

/// Progress for people is no line; parameters, metrics and tags are.
pub(crate) fn annotated(run: &Run, note: &Annotation) -> Option<Line> {
    if note.params.is_empty() && note.metrics.is_empty() && note.tags.is_empty() {
        return None;
    }
    let mut detail = Map::new();
    if !note.params.is_empty() {
        detail.insert("params".into(), json!(note.params));
    }
    if !note.tags.is_empty() {
        detail.insert("tags".into(), json!(note.tags));
    }
    if note.metrics.len() > METRICS_TOLD_MAX {
        detail.insert("metrics".into(), json!(note.metrics.len()));
    } else if !note.metrics.is_empty() {
        let told: Vec<Value> = note.metrics.iter().map(|m| json!([m.key, m.step, number(m.value)])).collect();
        detail.insert("metrics".into(), Value::Array(told));
    }
    Some(about_run("run.annotated", &run.address, &run.id, run.actor.clone(), detail))
}

pub(crate) fn version_made(version: &Version, actor: &Actor) -> Line {
    let detail = json!({
        "run": version.run, "digest": version.digest, "place": version.place, "rows": version.rows,
        "meta": Digest::of_json(&version.meta),
    });
    Line { action: "version.made", subject: version.id.to_string(), run: Some(version.run.clone()), actor: actor.clone(), detail }
}

pub(crate) fn alias_moved(state: &AliasState) -> Line {
    let mut detail = Map::new();
    detail.insert("asset".into(), json!(state.asset));
    detail.insert("alias".into(), json!(state.alias));
    detail.insert("from".into(), json!(state.previous));
    detail.insert("to".into(), json!(state.number));
    detail.insert("reason".into(), json!(state.reason));
    detail.insert("actor".into(), json!(state.actor));
    if let Some(run) = &state.run {
        detail.insert("run".into(), json!(run));
    }
    Line {
        action: "alias.moved",
        subject: format!("{}@{}", state.asset, state.alias),
        run: state.run.clone(),
        actor: state.actor.clone(),
        detail: Value::Object(detail),
    }
}

pub(crate) fn token_made(token: &Token, actor: &Actor) -> Line {
    let detail = json!({ "name": token.name, "role": token.role, "expires_at": token.expires_at });
    Line { action: "token.made", subject: format!("tokens.{}", token.name), run: None, actor: actor.clone(), detail }
}

pub(crate) fn token_revoked(name: &str, actor: &Actor) -> Line {
    let detail = json!({ "name": name });
    Line { action: "token.revoked", subject: format!("tokens.{name}"), run: None, actor: actor.clone(), detail }
}

pub(crate) fn traces_deleted(experiment: ExperimentId, count: u64, actor: &Actor) -> Line {
    Line {
        action: "traces.deleted",
        subject: format!("experiments.e{experiment}"),
        run: None,
        actor: actor.clone(),
        detail: json!({"count": count}),
    }
}

pub(crate) fn dataset_made(dataset: &EvaluationDataset, actor: &Actor) -> Line {
    about_dataset("dataset.made", dataset, actor)
}

pub(crate) fn dataset_deleted(dataset: &EvaluationDataset, actor: &Actor) -> Line {
    about_dataset("dataset.deleted", dataset, actor)
}

fn about_dataset(action: &'static str, dataset: &EvaluationDataset, actor: &Actor) -> Line {
    let detail = json!({"name": dataset.name, "records": dataset.records});
    Line { action, subject: format!("datasets.{}", dataset.id), run: None, actor: actor.clone(), detail }
}

/// A webhook was made or changed. Its address is its owner's and stays out, as its secret does.
pub(crate) fn webhook_set(webhook: &Webhook, actor: &Actor) -> Line {
    let events: Vec<String> = webhook.events.iter().map(|e| e.words()).collect();
    let detail = json!({ "name": webhook.name, "events": events, "active": webhook.active, "signed": webhook.secret.is_some() });
    Line { action: "webhook.set", subject: format!("webhooks.{}", webhook.id), run: None, actor: actor.clone(), detail }
}

pub(crate) fn webhook_deleted(id: &str, actor: &Actor) -> Line {
    Line { action: "webhook.deleted", subject: format!("webhooks.{id}"), run: None, actor: actor.clone(), detail: json!({}) }
}

/// The error that an interrupted step ends with.
pub(crate) fn interruption() -> RunError {
    RunError {
        code: gristmill_kernel::Code::INTERRUPTED.0.to_owned(),
        message: "interrupted: the process that ran this step ended before it did".into(),
        fix: Some("nothing to do: its flow goes on from the last finished step".into()),
        transient: true,
    }
}

fn about_run(action: &'static str, address: &Address, id: &RunId, actor: Actor, mut detail: Map<String, Value>) -> Line {
    detail.insert("run".into(), json!(id));
    Line { action, subject: address.to_string(), run: Some(id.clone()), actor, detail: Value::Object(detail) }
}

fn names(versions: &[VersionRef]) -> Value {
    Value::Array(versions.iter().map(|v| Value::String(v.to_string())).collect())
}

/// JSON has no NaN and no infinity; they are told as words.
fn number(value: f64) -> Value {
    if value.is_finite() { json!(value) } else { json!(value.to_string()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subject_covers_what_is_beneath_it() {
        assert!(is_about("models.churn", "models.churn", None));
        assert!(is_about("models.churn", "models.churn@3", None));
        assert!(is_about("models", "models.churn@3", None));
        assert!(!is_about("models.churn", "models.churn2", None));
        assert!(is_about("abc", "models.churn", Some("abc")));
    }

    #[test]
    fn borders_of_fields_are_part_of_the_hash() {
        let at = Timestamp::from_micros(1);
        let hash = |actor, action| chain_hash(&[0; 32], 1, at, actor, action, "s", "{}");
        assert_ne!(hash("ab", "c"), hash("a", "bc"));
    }
}
