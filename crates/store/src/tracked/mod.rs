//! What tracking means, shared by every implementation: the words of its refusals, its audit lines (`story`), what a search looks at
//! (`fields`), and which points of a long history are shown (`thin`).
//!
//! The messages are the ones that tracking clients know and test for, so they do not follow the style of our own.
//!
//! What clients log (points, parameters, tags, inputs, outputs) has no audit line: at thousands a second it would bury the decisions, and
//! `Ledger::head` would never stand still. That a run began, ended, was deleted or restored has one.

pub(crate) mod fields;
pub(crate) mod story;
pub(crate) mod thin;

use gristmill_kernel::tracking::ExperimentId;
use gristmill_kernel::{Actor, Address, AssetKind, Code, Fault, Kind, Name, Result, Run, RunId, StageKind, limits};

/// The tag that repeats a run's name.
pub(crate) const RUN_NAME_TAG: &str = "mlflow.runName";
/// The tag that says what a use of a dataset was for.
pub(crate) const CONTEXT_TAG: &str = "mlflow.data.context";
/// Datasets of one `datasets` answer.
pub(crate) const DATASETS_TOLD_MAX: usize = 1_000;
/// Comparisons in one filter; databases have a limit on the depth of an expression.
const TESTS_MAX: usize = 500;

/// The name of experiment 0.
pub(crate) const DEFAULT_EXPERIMENT: &str = "Default";

/// Whether a run is one that the product drives and experiment tracking shows.
pub(crate) fn is_ours(stage: StageKind, address: &Address) -> bool {
    stage == StageKind::Train && address.kind == AssetKind::Models
}

/// The address of runs that clients write to an experiment.
pub(crate) fn client_address(experiment: ExperimentId) -> Result<Address> {
    Ok(Address::new(AssetKind::Experiments, Name::new(format!("e{experiment}"))?))
}

/// Where artifacts of an experiment begin unless its maker said otherwise.
pub(crate) fn artifact_location(experiment: ExperimentId) -> String {
    format!("mlflow-artifacts:/{experiment}")
}

/// The name that our own run has among tracked runs.
pub(crate) fn run_name(address: &Address, id: &RunId) -> String {
    format!("{}-{}", address.name, id.short())
}

/// The tags that our own run has from its beginning.
pub(crate) fn run_tags(address: &Address, id: &RunId, actor: &Actor) -> [(&'static str, String); 4] {
    [
        (RUN_NAME_TAG, run_name(address, id)),
        ("mlflow.source.name", address.to_string()),
        ("mlflow.source.type", "JOB".into()),
        ("mlflow.user", actor.0.clone()),
    ]
}

/// The names that the experiment of an asset may take, best first. The last one is free: no client may make names with addresses and
/// numbers up as fast as it counts.
pub(crate) fn experiment_names(address: &Address) -> impl Iterator<Item = String> {
    let (name, whole) = (address.name.to_string(), address.to_string());
    [name, whole.clone()].into_iter().chain((2..1_000).map(move |n| format!("{whole} ({n})")))
}

/// A value as it is kept: there is one zero.
pub(crate) fn kept(value: f64) -> f64 {
    if value == 0.0 { 0.0 } else { value }
}

pub(crate) fn unknown_experiment(id: ExperimentId) -> Fault {
    Fault::not_found(Code::UNKNOWN_EXPERIMENT, format!("No Experiment with id={id} exists")).fix("search the experiments for its id")
}

pub(crate) fn experiment_exists(name: &str) -> Fault {
    Fault::conflict(Code::ALREADY_EXISTS, format!("Experiment(name={name}) already exists."))
        .fix("choose another name; a deleted experiment keeps its name until it is purged")
}

pub(crate) fn experiment_deleted(id: ExperimentId) -> Fault {
    Fault::conflict(Code::NOT_ACTIVE, format!("The experiment {id} must be in the 'active' state. Current state is deleted."))
        .fix("restore it first")
}

pub(crate) fn no_renaming() -> Fault {
    Fault::conflict(Code::NOT_ACTIVE, "Cannot rename a non-active experiment.").fix("restore it first")
}

pub(crate) fn no_experiment_tag(id: ExperimentId, key: &str) -> Fault {
    Fault::not_found(Code::UNKNOWN_TAG, format!("No tag with name: {key} in experiment with id {id}")).fix("list its tags")
}

pub(crate) fn unknown_run(id: &RunId) -> Fault {
    Fault::not_found(Code::UNKNOWN_RUN, format!("Run with id={id} not found")).fix("search the runs for its id")
}

pub(crate) fn run_exists(id: &RunId) -> Fault {
    Fault::conflict(Code::ALREADY_EXISTS, format!("Run with id={id} already exists")).fix("take a new id")
}

pub(crate) fn run_deleted(id: &RunId) -> Fault {
    Fault::conflict(Code::NOT_ACTIVE, format!("The run {id} must be in the 'active' state. Current state is deleted."))
        .fix("restore it first")
}

/// Gates and reports read the figures of our own runs: they stay what they were at the end.
pub(crate) fn our_run_ended(id: &RunId) -> Fault {
    Fault::conflict(
        Code::NOT_ACTIVE,
        format!("The run {id} was driven by this server and has ended: its metrics, params and inputs do not change."),
    )
    .fix("set a tag, or log to a run of your own")
}

/// Words in quotes as clients of the protocol write them.
fn quoted(text: &str) -> String {
    let quote = if text.contains('\'') && !text.contains('"') { '"' } else { '\'' };
    let mut out = String::with_capacity(text.len() + 2);
    out.push(quote);
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c == quote => out.extend(['\\', c]),
            c => out.push(c),
        }
    }
    out.push(quote);
    out
}

/// A parameter that was logged with another value.
pub(crate) struct Changed {
    pub key: String,
    pub old: String,
    pub new: String,
}

/// `alone`: the parameter was all that was logged.
pub(crate) fn params_changed(run: &RunId, changed: &[Changed], alone: bool) -> Fault {
    let message = match changed {
        [one] if alone => format!(
            "Changing param values is not allowed. Param with key='{}' was already logged with value='{}' for run ID='{run}'. \
             Attempted logging new value '{}'.",
            one.key, one.old, one.new
        ),
        all => {
            let told: Vec<String> = all
                .iter()
                .map(|c| format!("{{'key': {}, 'old_value': {}, 'new_value': {}}}", quoted(&c.key), quoted(&c.old), quoted(&c.new)))
                .collect();
            format!("Changing param values is not allowed. Params were already logged='[{}]' for run ID='{run}'.", told.join(", "))
        }
    };
    Fault::conflict(Code::PARAM_CHANGED, message).fix("parameters do not change; use a tag, or another run")
}

pub(crate) fn no_run_tag(id: &RunId, key: &str) -> Fault {
    Fault::not_found(Code::UNKNOWN_TAG, format!("No tag with name: {key} in run with id {id}")).fix("list its tags")
}

pub(crate) fn unknown_model(id: &str) -> Fault {
    Fault::not_found(Code::UNKNOWN_LOGGED_MODEL, format!("Logged model with ID '{id}' not found."))
        .fix("search the logged models for its id")
}

pub(crate) fn model_exists(id: &str) -> Fault {
    Fault::conflict(Code::ALREADY_EXISTS, format!("Logged model with ID '{id}' already exists.")).fix("take a new id")
}

pub(crate) fn model_param_changed(id: &str, changed: &Changed) -> Fault {
    Fault::conflict(
        Code::PARAM_CHANGED,
        format!(
            "Changing param values is not allowed. Param with key='{}' was already logged with value='{}' for model ID='{id}'. \
             Attempted logging new value '{}'.",
            changed.key, changed.old, changed.new
        ),
    )
    .fix("parameters do not change; use a tag, or another model")
}

pub(crate) fn no_model_tag(id: &str, key: &str) -> Fault {
    Fault::not_found(Code::UNKNOWN_TAG, format!("No tag with key {} found for model with ID {}.", quoted(key), quoted(id)))
        .fix("list its tags")
}

pub(crate) fn too_many_waiting() -> Fault {
    Fault::new(Kind::Busy, Code::OVERLOADED, format!("{} tracking writes are waiting already", limits::TRACK_WAITING_MAX))
        .fix("try again in a moment; log in batches")
}

/// Whether what is logged needs an open run, if the run is ours.
pub(crate) fn needs_open(batch: &gristmill_kernel::tracking::Batch) -> bool {
    !batch.metrics.is_empty() || !batch.params.is_empty()
}

/// What the ledger's own writers say to a client's run.
pub(crate) fn not_ours(run: &Run) -> Fault {
    Fault::conflict(Code::UNKNOWN_RUN, format!("run {} of {} is written by a tracking client", run.id.short(), run.address))
        .fix("end it with that client")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changed_params_are_told_as_clients_expect() {
        let run = RunId("ab".into());
        let one = || Changed { key: "a".into(), old: "1".into(), new: "it's".into() };
        assert_eq!(
            params_changed(&run, &[one()], true).message,
            "Changing param values is not allowed. Param with key='a' was already logged with value='1' for run ID='ab'. Attempted logging new value 'it's'."
        );
        assert_eq!(
            params_changed(&run, &[one()], false).message,
            "Changing param values is not allowed. Params were already logged='[{'key': 'a', 'old_value': '1', 'new_value': \"it's\"}]' for run ID='ab'."
        );
    }

    #[test]
    fn names_of_our_experiments_begin_with_the_plain_one() {
        let address: Address = "models.churn".parse().expect("an address");
        let names: Vec<String> = experiment_names(&address).take(3).collect();
        assert_eq!(names, ["churn", "models.churn", "models.churn (2)"]);
    }
}
