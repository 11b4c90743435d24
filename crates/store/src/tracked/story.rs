//! The audit lines of tracking, in the words of [`crate::story`].

use crate::story::Line;
use gristmill_kernel::tracking::{Experiment, LoggedModel, NewTrackedRun};
use gristmill_kernel::{Actor, Address, RunId, RunStatus};
use serde_json::{Map, Value, json};

fn line(action: &'static str, subject: String, run: Option<&RunId>, actor: &Actor, mut detail: Map<String, Value>) -> Line {
    if let Some(run) = run {
        detail.insert("run".into(), json!(run));
    }
    Line { action, subject, run: run.cloned(), actor: actor.clone(), detail: Value::Object(detail) }
}

fn words<const N: usize>(pairs: [(&str, Value); N]) -> Map<String, Value> {
    pairs.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
}

fn subject(id: impl std::fmt::Display) -> String {
    format!("experiments.e{id}")
}

pub(crate) fn experiment_made(experiment: &Experiment, actor: &Actor) -> Line {
    line("experiment.made", subject(experiment.id), None, actor, words([("name", json!(experiment.name))]))
}

pub(crate) fn experiment_imported(experiment: &Experiment, actor: &Actor) -> Line {
    let detail = words([("name", json!(experiment.name)), ("created_at", json!(experiment.created_at))]);
    line("experiment.imported", subject(experiment.id), None, actor, detail)
}

pub(crate) fn experiment_renamed(experiment: &Experiment, to: &str, actor: &Actor) -> Line {
    line("experiment.renamed", subject(experiment.id), None, actor, words([("from", json!(experiment.name)), ("to", json!(to))]))
}

/// `runs`: how many went with it.
pub(crate) fn experiment_moved(experiment: &Experiment, deleted: bool, runs: u64, actor: &Actor) -> Line {
    let action = if deleted { "experiment.deleted" } else { "experiment.restored" };
    line(action, subject(experiment.id), None, actor, words([("name", json!(experiment.name)), ("runs", json!(runs))]))
}

pub(crate) fn experiment_purged(experiment: &Experiment, actor: &Actor) -> Line {
    line("experiment.purged", subject(experiment.id), None, actor, words([("name", json!(experiment.name))]))
}

pub(crate) fn run_began(run: &NewTrackedRun, address: &Address, actor: &Actor) -> Line {
    let detail = words([("stage", json!("train")), ("reason", json!("tracked")), ("name", json!(run.name)), ("user", json!(run.user))]);
    line("run.started", address.to_string(), Some(&run.id), actor, detail)
}

pub(crate) fn run_changed(id: &RunId, address: &Address, to: RunStatus, actor: &Actor) -> Line {
    let action = if to.is_final() { "run.finished" } else { "run.reopened" };
    line(action, address.to_string(), Some(id), actor, words([("stage", json!("train")), ("status", json!(to))]))
}

pub(crate) fn run_moved(id: &RunId, address: &Address, deleted: bool, actor: &Actor) -> Line {
    let action = if deleted { "run.deleted" } else { "run.restored" };
    line(action, address.to_string(), Some(id), actor, Map::new())
}

pub(crate) fn run_purged(id: &RunId, address: &Address, actor: &Actor) -> Line {
    line("run.purged", address.to_string(), Some(id), actor, Map::new())
}

pub(crate) fn model_made(model: &LoggedModel, actor: &Actor) -> Line {
    let detail = words([("model", json!(model.id)), ("name", json!(model.name))]);
    line("logged_model.made", subject(model.experiment), model.source_run.as_ref(), actor, detail)
}

pub(crate) fn model_purged(model: &LoggedModel, actor: &Actor) -> Line {
    line("logged_model.purged", subject(model.experiment), None, actor, words([("model", json!(model.id)), ("name", json!(model.name))]))
}
