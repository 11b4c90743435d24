//! What every `Tracking` promises, alone and together with the `Ledger` it is part of.

mod search;

use search::numbers;

use super::ledger::{address, at, new_run, new_version, success};
use crate::system::ManualClock;
use gristmill_kernel::port::{Clock, Ledger, RunFilter, Tracking};
use gristmill_kernel::run::{Annotation, Metric};
use gristmill_kernel::tracking::filter::{Filter, OrderBy};
use gristmill_kernel::tracking::{
    Batch, Dataset, DatasetInput, DatasetKey, ExperimentId, HistoryWanted, Lifecycle, LoggedModel, LoggedModelStatus, ModelUse,
    NewTrackedRun, Point, Purged, RunUpdate, Search, TrackedRun, ViewType,
};
use gristmill_kernel::{Actor, Code, Fault, Kind, RunId, RunStatus, StageKind, Timestamp};
use std::sync::Arc;

const DEFAULT: ExperimentId = ExperimentId(0);

/// A moment in milliseconds, as clients give them.
pub fn ms(millis: i64) -> Timestamp {
    Timestamp::from_micros(millis * 1_000)
}

fn ada() -> Actor {
    Actor::user("ada")
}

/// The id of a run with a number.
pub fn run_id(number: u32) -> RunId {
    RunId(format!("{number:032x}"))
}

/// A run to track in experiment 0; equal numbers give equal ids.
pub fn tracked(number: u32) -> NewTrackedRun {
    NewTrackedRun {
        id: run_id(number),
        experiment: DEFAULT,
        name: format!("run-{number}"),
        user: "ada".into(),
        started_at: Some(ms(i64::from(number))),
        tags: Default::default(),
    }
}

/// A point at the moment of its step.
pub fn point(key: &str, value: f64, step: i64) -> Point {
    Point { key: key.into(), value, at: ms(step), step, model: None, dataset: None }
}

/// A batch of points.
pub fn points(metrics: Vec<Point>) -> Batch {
    Batch { metrics, ..Batch::default() }
}

fn words(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

/// A search of experiment 0.
pub fn search(filter: Filter, order: Vec<OrderBy>) -> Search {
    Search { experiments: vec![DEFAULT], view: ViewType::ActiveOnly, filter, order, limit: 100, offset: 0 }
}

fn refused<T: std::fmt::Debug>(outcome: Result<T, Fault>, code: Code, message: &str) {
    let fault = outcome.expect_err("refused");
    assert_eq!((fault.code, fault.message.as_str()), (code, message));
}

/// Runs every case. The two ports are the same ledger.
pub async fn run<F: Future<Output = (Arc<dyn Tracking>, Arc<dyn Ledger>)>>(make: impl Fn(Arc<dyn Clock>) -> F) {
    let fresh = || make(Arc::new(ManualClock::new(at(500_000))));
    experiments_live_and_are_deleted(&*fresh().await.0).await;
    runs_begin_change_and_are_deleted(&*fresh().await.0).await;
    what_is_logged_is_there_once(&*fresh().await.0).await;
    parameters_keep_their_values(&*fresh().await.0).await;
    histories_come_in_pages_and_thinned(&*fresh().await.0).await;
    inputs_and_outputs_are_noted_once(&*fresh().await.0).await;
    logged_models_live(&*fresh().await.0).await;
    search::searches_find_what_holds(&*fresh().await.0).await;
    search::searches_of_experiments_and_models(&*fresh().await.0).await;
    let (tracking, ledger) = fresh().await;
    our_runs_are_tracked(&*tracking, &*ledger).await;
    let (tracking, ledger) = fresh().await;
    an_experiment_of_our_name_is_adopted(&*tracking, &*ledger).await;
    let (tracking, ledger) = fresh().await;
    clients_runs_are_no_work(&*tracking, &*ledger).await;
    let (tracking, ledger) = fresh().await;
    what_was_deleted_long_ago_is_purged(&*tracking, &*ledger).await;
    let (tracking, ledger) = fresh().await;
    many_log_to_one_run(tracking, &*ledger).await;
    a_refusal_spoils_nothing(fresh().await.0).await;
}

async fn experiments_live_and_are_deleted(tracking: &dyn Tracking) {
    let default = tracking.experiment(DEFAULT).await.expect("read").expect("always there");
    assert_eq!((default.name.as_str(), default.artifact_location.as_str()), ("Default", "mlflow-artifacts:/0"));
    assert_eq!((default.lifecycle, default.address.clone()), (Lifecycle::Active, None));
    assert_eq!(tracking.experiment_by_name("Default").await.expect("read"), Some(default));

    let tags = [("team".to_owned(), "a".to_owned())].into();
    let one = tracking.create_experiment("churn study", None, tags, &ada(), ms(1)).await.expect("create");
    let two = tracking.create_experiment("two", Some("mlflow-artifacts:/x"), Default::default(), &ada(), ms(2)).await.expect("create");
    assert_eq!((one, two), (ExperimentId(1), ExperimentId(2)));
    let made = tracking.experiment(one).await.expect("read").expect("made");
    assert_eq!((made.artifact_location.as_str(), made.tags["team"].as_str(), made.created_at), ("mlflow-artifacts:/1", "a", ms(1)));
    assert_eq!(tracking.experiment(two).await.expect("read").expect("made").artifact_location, "mlflow-artifacts:/x");
    let again = tracking.create_experiment("two", None, Default::default(), &ada(), ms(3)).await;
    refused(again, Code::ALREADY_EXISTS, "Experiment(name=two) already exists.");
    refused(tracking.rename_experiment(one, "two", &ada(), ms(3)).await, Code::ALREADY_EXISTS, "Experiment(name=two) already exists.");
    tracking.rename_experiment(one, "study", &ada(), ms(3)).await.expect("rename");
    let renamed = tracking.experiment_by_name("study").await.expect("read").expect("renamed");
    assert_eq!((renamed.id, renamed.created_at, renamed.updated_at), (one, ms(1), ms(3)));

    tracking.set_experiment_tag(one, "team", Some("b"), ms(4)).await.expect("tag");
    tracking.set_experiment_tag(one, "x", Some("y"), ms(4)).await.expect("tag");
    tracking.set_experiment_tag(one, "x", None, ms(5)).await.expect("untag");
    let tagged = tracking.experiment(one).await.expect("read").expect("tagged");
    assert_eq!((tagged.tags.len(), tagged.tags["team"].as_str(), tagged.updated_at), (1, "b", ms(5)));
    let missing = tracking.set_experiment_tag(one, "x", None, ms(5)).await;
    refused(missing, Code::UNKNOWN_TAG, "No tag with name: x in experiment with id 1");

    tracking.create_run(NewTrackedRun { experiment: one, ..tracked(1) }, &ada(), ms(5)).await.expect("run");
    tracking.set_experiment_lifecycle(one, Lifecycle::Deleted, &ada(), ms(6)).await.expect("delete");
    assert_eq!(tracking.experiment(one).await.expect("read").expect("still there").lifecycle, Lifecycle::Deleted);
    assert_eq!(tracking.tracked_run(&run_id(1)).await.expect("read").expect("run").lifecycle, Lifecycle::Deleted, "its runs follow");
    let gone = "The experiment 1 must be in the 'active' state. Current state is deleted.";
    let run = NewTrackedRun { experiment: one, ..tracked(2) };
    refused(tracking.create_run(run, &ada(), ms(7)).await, Code::NOT_ACTIVE, gone);
    refused(tracking.set_experiment_tag(one, "x", Some("y"), ms(7)).await, Code::NOT_ACTIVE, gone);
    refused(tracking.rename_experiment(one, "three", &ada(), ms(7)).await, Code::NOT_ACTIVE, "Cannot rename a non-active experiment.");
    let twice = tracking.set_experiment_lifecycle(one, Lifecycle::Deleted, &ada(), ms(7)).await;
    refused(twice, Code::UNKNOWN_EXPERIMENT, "No Experiment with id=1 exists");
    let taken = tracking.create_experiment("study", None, Default::default(), &ada(), ms(7)).await;
    assert_eq!(taken.expect_err("a deleted one keeps its name").code, Code::ALREADY_EXISTS);
    tracking.set_experiment_lifecycle(one, Lifecycle::Active, &ada(), ms(8)).await.expect("restore");
    assert_eq!(tracking.tracked_run(&run_id(1)).await.expect("read").expect("run").lifecycle, Lifecycle::Active);

    let nobody = ExperimentId(99);
    assert_eq!(tracking.experiment(nobody).await.expect("read"), None);
    let unknown = tracking.create_run(NewTrackedRun { experiment: nobody, ..tracked(3) }, &ada(), ms(9)).await;
    refused(unknown, Code::UNKNOWN_EXPERIMENT, "No Experiment with id=99 exists");
    assert_eq!(tracking.rename_experiment(nobody, "n", &ada(), ms(9)).await.expect_err("unknown").kind, Kind::NotFound);
}

async fn runs_begin_change_and_are_deleted(tracking: &dyn Tracking) {
    let new = NewTrackedRun { tags: [("k".to_owned(), "v".to_owned())].into(), ..tracked(1) };
    let begun = tracking.create_run(new.clone(), &ada(), ms(3)).await.expect("create");
    assert_eq!(
        (begun.status, begun.lifecycle, begun.started_at, begun.ended_at),
        (RunStatus::Running, Lifecycle::Active, Some(ms(1)), None)
    );
    assert_eq!((begun.name.as_str(), begun.user.as_str(), begun.tags["mlflow.runName"].as_str()), ("run-1", "ada", "run-1"));
    assert_eq!(tracking.tracked_run(&new.id).await.expect("read"), Some(begun));
    assert_eq!(tracking.create_run(new.clone(), &ada(), ms(3)).await.expect_err("twice").code, Code::ALREADY_EXISTS);

    let update = RunUpdate { status: Some(RunStatus::Succeeded), ended_at: Some(ms(9)), name: Some("best".into()) };
    let ended = tracking.update_run(&new.id, update, &ada(), ms(10)).await.expect("update");
    assert_eq!((ended.status, ended.ended_at, ended.name.as_str()), (RunStatus::Succeeded, Some(ms(9)), "best"));
    assert!(ended.tags.is_empty(), "what hangs on it is not read again");
    let kept = tracking.tracked_run(&new.id).await.expect("read").expect("run");
    assert_eq!((kept.tags["mlflow.runName"].as_str(), kept.tags["k"].as_str()), ("best", "v"));
    assert_eq!(TrackedRun { tags: Default::default(), ..kept }, ended, "the row is the one that was answered");
    tracking.log(&new.id, points(vec![point("late", 1.0, 0)]), ms(11)).await.expect("a client's ended run takes more");
    let again = RunUpdate { status: Some(RunStatus::Running), ..RunUpdate::default() };
    let open = tracking.update_run(&new.id, again, &ada(), ms(12)).await.expect("open again");
    assert_eq!((open.status, open.ended_at), (RunStatus::Running, Some(ms(9))), "without saying when");

    tracking.delete_run_tag(&new.id, "k").await.expect("untag");
    let missing = tracking.delete_run_tag(&new.id, "k").await;
    refused(missing, Code::UNKNOWN_TAG, &format!("No tag with name: k in run with id {}", new.id));

    tracking.set_run_lifecycle(&new.id, Lifecycle::Deleted, &ada(), ms(13)).await.expect("delete");
    tracking.set_run_lifecycle(&new.id, Lifecycle::Deleted, &ada(), ms(13)).await.expect("twice");
    assert_eq!(tracking.tracked_run(&new.id).await.expect("read").expect("still there").lifecycle, Lifecycle::Deleted);
    let gone = format!("The run {} must be in the 'active' state. Current state is deleted.", new.id);
    refused(tracking.log(&new.id, Batch::default(), ms(14)).await, Code::NOT_ACTIVE, &gone);
    refused(tracking.update_run(&new.id, RunUpdate::default(), &ada(), ms(14)).await, Code::NOT_ACTIVE, &gone);
    refused(tracking.delete_run_tag(&new.id, "x").await, Code::NOT_ACTIVE, &gone);
    refused(tracking.log_inputs(&new.id, vec![], vec![]).await, Code::NOT_ACTIVE, &gone);
    refused(tracking.log_outputs(&new.id, vec![]).await, Code::NOT_ACTIVE, &gone);
    tracking.set_run_lifecycle(&new.id, Lifecycle::Active, &ada(), ms(15)).await.expect("restore");
    tracking.log(&new.id, Batch::default(), ms(16)).await.expect("active again");

    let nobody = RunId("f".repeat(32));
    let unknown = format!("Run with id={nobody} not found");
    assert_eq!(tracking.tracked_run(&nobody).await.expect("read"), None);
    refused(tracking.log(&nobody, Batch::default(), ms(1)).await, Code::UNKNOWN_RUN, &unknown);
    refused(tracking.update_run(&nobody, RunUpdate::default(), &ada(), ms(1)).await, Code::UNKNOWN_RUN, &unknown);
    refused(tracking.set_run_lifecycle(&nobody, Lifecycle::Deleted, &ada(), ms(1)).await, Code::UNKNOWN_RUN, &unknown);
    refused(tracking.delete_run_tag(&nobody, "k").await, Code::UNKNOWN_RUN, &unknown);
    refused(tracking.log_inputs(&nobody, vec![], vec![]).await, Code::UNKNOWN_RUN, &unknown);
    refused(tracking.log_outputs(&nobody, vec![]).await, Code::UNKNOWN_RUN, &unknown);
}

async fn what_is_logged_is_there_once(tracking: &dyn Tracking) {
    let id = tracking.create_run(tracked(1), &ada(), ms(1)).await.expect("create").id;
    let moment = |value, step, at| Point { at: ms(at), ..point("loss", value, step) };
    let batch = Batch {
        metrics: vec![
            moment(0.5, 3, 10),
            moment(0.7, 3, 11),
            moment(0.6, 3, 11),
            moment(0.9, 1, 99),
            moment(0.7, 3, 11),
            moment(f64::NAN, 2, 5),
            moment(f64::NAN, 2, 5),
            moment(f64::INFINITY, 0, 5),
            moment(-0.0, 0, 6),
            moment(0.0, 0, 6),
            point("auc", f64::NAN, 1),
            point("auc", -1.0, 1),
        ],
        params: words(&[("depth", "6"), ("depth", "6")]),
        tags: words(&[("team", "a"), ("team", "b"), ("mlflow.runName", "renamed")]),
    };
    tracking.log(&id, batch.clone(), ms(20)).await.expect("log");
    let first = tracking.tracked_run(&id).await.expect("read").expect("run");
    tracking.log(&id, batch, ms(21)).await.expect("a retry");
    let run = tracking.tracked_run(&id).await.expect("read").expect("run");
    assert_eq!(format!("{first:?}"), format!("{run:?}"), "a retry changes nothing");

    let latest: Vec<(&str, i64, Timestamp)> = run.metrics.iter().map(|p| (p.key.as_str(), p.step, p.at)).collect();
    assert_eq!(latest, [("auc", 1, ms(1)), ("loss", 3, ms(11))], "the greatest step, then moment, then value");
    assert_eq!(run.metrics[1].value, 0.7);
    assert!(run.metrics[0].value.is_nan(), "NaN ranks as 0");
    assert_eq!((run.params["depth"].as_str(), run.tags["team"].as_str(), run.name.as_str()), ("6", "b", "renamed"));
    let history = tracking.history(&id, "loss", HistoryWanted::default()).await.expect("history");
    let told: Vec<(i64, i64, String)> = history.items.iter().map(|p| (p.at.millis(), p.step, p.value.to_string())).collect();
    let expected = [(5, 0, "inf"), (5, 2, "NaN"), (6, 0, "0"), (10, 3, "0.5"), (11, 3, "0.6"), (11, 3, "0.7"), (99, 1, "0.9")];
    assert_eq!(told, expected.map(|(at, step, value)| (at, step, value.to_owned())));
    assert!(!history.more);
    let higher = points(vec![moment(0.1, 4, 0), moment(5.0, 3, 11)]);
    tracking.log(&id, higher, ms(22)).await.expect("log");
    let run = tracking.tracked_run(&id).await.expect("read").expect("run");
    assert_eq!((run.metrics[1].value, run.metrics[1].step), (0.1, 4));
    let unknown = points(vec![Point { model: Some("m-0".into()), ..point("loss", 1.0, 9) }]);
    refused(tracking.log(&id, unknown, ms(23)).await, Code::UNKNOWN_LOGGED_MODEL, "Logged model with ID 'm-0' not found.");
}

async fn parameters_keep_their_values(tracking: &dyn Tracking) {
    let id = tracking.create_run(tracked(1), &ada(), ms(1)).await.expect("create").id;
    let log = async |params: &[(&str, &str)], metrics: Vec<Point>| {
        tracking.log(&id, Batch { params: words(params), metrics, tags: words(&[]) }, ms(2)).await
    };
    log(&[("a", "1"), ("b", "x")], vec![]).await.expect("log");
    log(&[("a", "1")], vec![]).await.expect("the same value");
    let alone = format!(
        "Changing param values is not allowed. Param with key='a' was already logged with value='1' for run ID='{id}'. Attempted logging new value '2'."
    );
    refused(log(&[("a", "2")], vec![]).await, Code::PARAM_CHANGED, &alone);
    let many = format!(
        "Changing param values is not allowed. Params were already logged='[{{'key': 'a', 'old_value': '1', 'new_value': '2'}}, \
         {{'key': 'b', 'old_value': 'x', 'new_value': 'y'}}]' for run ID='{id}'."
    );
    refused(log(&[("a", "2"), ("new", "n"), ("b", "y")], vec![point("m", 1.0, 1)]).await, Code::PARAM_CHANGED, &many);
    let run = tracking.tracked_run(&id).await.expect("read").expect("run");
    assert_eq!((run.params.len(), run.metrics.len()), (2, 0), "all or nothing");
    assert_eq!(log(&[("c", "1"), ("c", "2")], vec![]).await.expect_err("two values").code, Code::PARAM_CHANGED);
    assert!(!tracking.tracked_run(&id).await.expect("read").expect("run").params.contains_key("c"));
}

async fn histories_come_in_pages_and_thinned(tracking: &dyn Tracking) {
    let (one, two) = (run_id(1), run_id(2));
    for number in [1, 2] {
        tracking.create_run(tracked(number), &ada(), ms(1)).await.expect("create");
    }
    tracking.log(&one, points((0..100).map(|step| point("loss", step as f64, step)).collect()), ms(1)).await.expect("log");
    tracking.log(&two, points((0..7).map(|step| point("loss", step as f64, step)).collect()), ms(1)).await.expect("log");
    let page = async |limit, offset| {
        let page = tracking.history(&one, "loss", HistoryWanted { limit: Some(limit), offset }).await.expect("history");
        (page.items.iter().map(|p| p.step).collect::<Vec<_>>(), page.more)
    };
    assert_eq!(page(3, 0).await, (vec![0, 1, 2], true));
    assert_eq!(page(3, 97).await, (vec![97, 98, 99], false));
    assert_eq!(page(3, 200).await, (vec![], false));
    assert_eq!(tracking.history(&one, "nothing", HistoryWanted::default()).await.expect("history").items, []);
    assert_eq!(tracking.history(&run_id(9), "loss", HistoryWanted::default()).await.expect("history").items, []);

    let shown = async |steps: Option<std::ops::Range<i64>>, limit: usize| {
        let runs = [two.clone(), run_id(9), one.clone()];
        let points = tracking.sampled_history(&runs, "loss", steps, limit).await.expect("sampled");
        let of = |id: &RunId| points.iter().filter(|(run, _)| run == id).map(|(_, p)| p.step).collect::<Vec<_>>();
        assert!(points.is_sorted_by_key(|(run, p)| (*run == one, p.step)), "in the order of the runs, then steps");
        (of(&one), of(&two))
    };
    assert_eq!(shown(None, 4).await, (vec![0, 25, 50, 99], vec![0, 2, 4, 6]));
    assert_eq!(shown(None, 1).await, (vec![99], vec![6]));
    assert_eq!(shown(None, 7).await, (vec![0, 15, 30, 44, 58, 72, 99], vec![0, 1, 2, 3, 4, 5, 6]));
    assert_eq!(shown(Some(5..9), 2).await, (vec![5, 8], vec![5, 6]));
    assert_eq!(shown(Some(-9..0), 2).await, (vec![], vec![]));
    let (all, _) = shown(None, 1_000).await;
    assert_eq!(all.len(), 100);
}

/// A dataset's use.
pub fn input(name: &str, digest: &str, context: &str) -> DatasetInput {
    let dataset = Dataset {
        key: DatasetKey { name: name.into(), digest: digest.into() },
        source_type: "local".into(),
        source: "{}".into(),
        schema: Some("s".into()),
        profile: None,
    };
    DatasetInput { dataset, tags: words(&[("mlflow.data.context", context)]) }
}

async fn inputs_and_outputs_are_noted_once(tracking: &dyn Tracking) {
    for number in [1, 2] {
        tracking.create_run(tracked(number), &ada(), ms(1)).await.expect("create");
    }
    let (one, two) = (run_id(1), run_id(2));
    let used = |model: &str, step| ModelUse { model: model.into(), step };
    let inputs = vec![input("rows", "d1", "training"), input("more", "d1", "eval"), input("rows", "d1", "ignored")];
    tracking.log_inputs(&one, inputs, vec![used("m-1", 0)]).await.expect("log");
    tracking.log_inputs(&one, vec![input("rows", "d1", "other")], vec![used("m-1", 0), used("m-2", 0)]).await.expect("known ones");
    let described_anew = DatasetInput { dataset: Dataset { source: "elsewhere".into(), ..input("rows", "d1", "").dataset }, tags: vec![] };
    tracking.log_inputs(&two, vec![described_anew], vec![]).await.expect("log");
    tracking.log_outputs(&one, vec![used("m-3", 5), used("m-3", 7), used("m-0", 2)]).await.expect("log");
    let run = tracking.tracked_run(&one).await.expect("read").expect("run");
    assert_eq!(run.datasets, [input("rows", "d1", "training"), input("more", "d1", "eval")]);
    assert_eq!((run.model_inputs, run.model_outputs), (vec![used("m-1", 0), used("m-2", 0)], vec![used("m-3", 5), used("m-0", 2)]));
    let run = tracking.tracked_run(&two).await.expect("read").expect("run");
    assert_eq!((run.datasets[0].dataset.source.as_str(), run.datasets[0].tags.len()), ("{}", 0), "a known dataset stays as it is");
    let told = tracking.datasets(&[DEFAULT, ExperimentId(9)]).await.expect("datasets");
    let told: Vec<_> = told.iter().map(|(id, d, context)| (*id, d.key.name.as_str(), context.as_deref())).collect();
    assert_eq!(told, [(DEFAULT, "more", Some("eval")), (DEFAULT, "rows", None), (DEFAULT, "rows", Some("training"))]);
}

/// A logged model of experiment 0.
pub fn model(number: u32, run: Option<u32>) -> LoggedModel {
    LoggedModel {
        id: format!("m-{number:032x}"),
        experiment: DEFAULT,
        name: format!("model-{number}"),
        model_type: None,
        source_run: run.map(run_id),
        status: LoggedModelStatus::Ready,
        status_message: None,
        lifecycle: Lifecycle::Active,
        created_at: ms(i64::from(number)),
        updated_at: ms(i64::from(number)),
        params: [("p".to_owned(), "1".to_owned())].into(),
        tags: [("t".to_owned(), "1".to_owned())].into(),
        metrics: vec![],
    }
}

async fn logged_models_live(tracking: &dyn Tracking) {
    tracking.create_run(tracked(1), &ada(), ms(1)).await.expect("create");
    let new = model(1, Some(1));
    let made = tracking.create_logged_model(new.clone(), ms(1)).await.expect("create");
    assert_eq!(made, LoggedModel { status: LoggedModelStatus::Pending, ..new.clone() });
    assert_eq!(tracking.create_logged_model(new.clone(), ms(1)).await.expect_err("twice").code, Code::ALREADY_EXISTS);
    let ready = tracking.finish_logged_model(&new.id, LoggedModelStatus::Ready, ms(5)).await.expect("finish");
    assert_eq!((ready.status, ready.updated_at), (LoggedModelStatus::Ready, ms(5)));
    tracking.log_model_params(&new.id, words(&[("p", "1"), ("q", "2")]), ms(6)).await.expect("params");
    assert_eq!(tracking.log_model_params(&new.id, words(&[("q", "3")]), ms(6)).await.expect_err("changed").code, Code::PARAM_CHANGED);
    let tags = vec![("t".to_owned(), None), ("u".to_owned(), Some("2".to_owned()))];
    tracking.set_model_tags(&new.id, tags.clone(), ms(7)).await.expect("tags");
    let missing = tracking.set_model_tags(&new.id, tags, ms(7)).await;
    refused(missing, Code::UNKNOWN_TAG, &format!("No tag with key 't' found for model with ID '{}'.", new.id));

    let about = |value, step, on: Option<(&str, &str)>| Point {
        model: Some(new.id.clone()),
        dataset: on.map(|(name, digest)| DatasetKey { name: name.into(), digest: digest.into() }),
        ..point("auc", value, step)
    };
    let logged = points(vec![about(0.7, 1, Some(("rows", "d"))), about(0.8, 2, None), about(0.7, 1, Some(("rows", "d")))]);
    tracking.log(&run_id(1), logged.clone(), ms(8)).await.expect("log");
    tracking.log(&run_id(1), logged, ms(8)).await.expect("a retry");
    let read = tracking.logged_model(&new.id, ViewType::ActiveOnly).await.expect("read").expect("model");
    assert_eq!(read.metrics, [(about(0.7, 1, Some(("rows", "d"))), run_id(1)), (about(0.8, 2, None), run_id(1))]);
    assert_eq!((read.params.len(), read.params["q"].as_str(), read.tags.len(), read.tags["u"].as_str()), (2, "2", 1, "2"));
    let run = tracking.tracked_run(&run_id(1)).await.expect("read").expect("run");
    assert_eq!(run.metrics, [point("auc", 0.8, 2)], "the run has the points too");

    tracking.delete_logged_model(&new.id, ms(9)).await.expect("delete");
    assert_eq!(tracking.logged_model(&new.id, ViewType::ActiveOnly).await.expect("read"), None);
    assert!(tracking.logged_model(&new.id, ViewType::All).await.expect("read").is_some());
    let unknown = "Logged model with ID 'm-x' not found.";
    refused(tracking.finish_logged_model("m-x", LoggedModelStatus::Ready, ms(1)).await, Code::UNKNOWN_LOGGED_MODEL, unknown);
    refused(tracking.log_model_params("m-x", vec![], ms(1)).await, Code::UNKNOWN_LOGGED_MODEL, unknown);
    refused(tracking.set_model_tags("m-x", vec![], ms(1)).await, Code::UNKNOWN_LOGGED_MODEL, unknown);
    refused(tracking.delete_logged_model("m-x", ms(1)).await, Code::UNKNOWN_LOGGED_MODEL, unknown);
}

async fn our_runs_are_tracked(tracking: &dyn Tracking, ledger: &dyn Ledger) {
    let new = new_run(1, "models.churn", StageKind::Train);
    ledger.submit(new.clone(), at(10)).await.expect("submit");
    ledger.submit(new_run(2, "flows.f", StageKind::Flow), at(11)).await.expect("submit");
    assert_eq!(tracking.tracked_run(&run_id(2)).await.expect("read"), None, "only what trains is tracked");
    let experiment = tracking.experiment_by_name("churn").await.expect("read").expect("made with the run");
    assert_eq!((experiment.address.clone(), experiment.id), (Some(address("models.churn")), ExperimentId(1)));
    let queued = tracking.tracked_run(&new.id).await.expect("read").expect("tracked");
    assert_eq!((queued.experiment, queued.status, queued.started_at), (experiment.id, RunStatus::Queued, None));
    assert_eq!((queued.name.as_str(), queued.user.as_str()), ("churn-00000000", "user:ada"));
    let tag = |run: &TrackedRun, name: &str| run.tags.get(name).cloned().unwrap_or_default();
    assert_eq!([tag(&queued, "mlflow.runName"), tag(&queued, "mlflow.user")], [queued.name.clone(), queued.user.clone()]);
    assert_eq!([tag(&queued, "mlflow.source.name"), tag(&queued, "mlflow.source.type")], ["models.churn", "JOB"]);

    ledger.lease("w", at(20), at(90)).await.expect("lease").expect("work");
    let metric = |value, step| Metric { key: "loss".into(), value, step };
    let note =
        Annotation { metrics: vec![metric(0.5, 1), metric(0.4, 2)], params: [("depth".into(), "6".into())].into(), ..Default::default() };
    ledger.annotate(&new.id, note).await.expect("annotate");
    let own = Batch { metrics: vec![point("client", 1.0, 0)], params: words(&[("lr", "0.1")]), tags: words(&[("k", "v")]) };
    tracking.log(&new.id, own, ms(1)).await.expect("a script logs to the run that runs it");
    ledger.annotate(&new.id, Annotation { metrics: vec![metric(0.3, 2)], ..Default::default() }).await.expect("again");
    let running = ledger.run(&new.id).await.expect("read").expect("run");
    assert_eq!((running.metrics["loss"], running.metrics["client"], running.params["lr"].as_str()), (0.3, 1.0, "0.1"));
    assert_eq!(ledger.metric_history(&new.id, "loss").await.expect("history").len(), 2, "one per step");
    let finished = RunUpdate { status: Some(RunStatus::Failed), ended_at: Some(ms(1)), name: Some("mine".into()) };
    let renamed = tracking.update_run(&new.id, finished, &ada(), ms(2)).await.expect("update");
    assert_eq!((renamed.status, renamed.ended_at, renamed.name.as_str()), (RunStatus::Running, None, "mine"), "only the name");

    ledger.finish(&new.id, success(vec![new_version("models.churn", "a")]), at(30)).await.expect("finish");
    let page =
        tracking.search_runs(&Search { experiments: vec![experiment.id], ..search(Filter::default(), vec![]) }).await.expect("search");
    let run = &page.items[0];
    assert_eq!((run.status, run.started_at, run.ended_at), (RunStatus::Succeeded, Some(at(20)), Some(at(30))));
    assert_eq!(run.metrics.iter().map(|p| (p.key.as_str(), p.value)).collect::<Vec<_>>(), [("client", 1.0), ("loss", 0.3)]);
    let late = tracking.log(&new.id, points(vec![point("loss", 0.0, 9)]), ms(3)).await;
    assert_eq!(late.expect_err("gates read its figures").code, Code::NOT_ACTIVE);
    tracking.log(&new.id, Batch { tags: words(&[("k", "w")]), ..Batch::default() }, ms(3)).await.expect("a tag");
    assert_eq!(tracking.log_outputs(&new.id, vec![]).await.expect_err("ended").code, Code::NOT_ACTIVE);

    tracking.set_experiment_lifecycle(experiment.id, Lifecycle::Deleted, &ada(), ms(4)).await.expect("delete");
    ledger.begin(new_run(3, "models.churn", StageKind::Train), "w", at(40), at(90)).await.expect("begin");
    let seen =
        tracking.search_runs(&Search { experiments: vec![experiment.id], ..search(Filter::default(), vec![]) }).await.expect("search");
    assert_eq!(numbers(&seen), [3], "a new run brings its experiment back, not the old runs");
    assert_eq!(tracking.experiment(experiment.id).await.expect("read").expect("there").lifecycle, Lifecycle::Active);
    assert_eq!(ledger.verify_audit().await.expect("verify"), ledger.head().await.expect("head"));
}

async fn an_experiment_of_our_name_is_adopted(tracking: &dyn Tracking, ledger: &dyn Ledger) {
    let theirs = tracking.create_experiment("churn", None, Default::default(), &ada(), ms(1)).await.expect("create");
    ledger.submit(new_run(1, "models.churn", StageKind::Train), at(10)).await.expect("submit");
    let run = tracking.tracked_run(&run_id(1)).await.expect("read").expect("run");
    assert_eq!(run.experiment, theirs, "one experiment of that name");
    tracking.rename_experiment(theirs, "old churn", &ada(), ms(2)).await.expect("rename");
    ledger.submit(new_run(2, "models.churn", StageKind::Train), at(11)).await.expect("submit");
    assert_eq!(tracking.tracked_run(&run_id(2)).await.expect("read").expect("run").experiment, theirs, "it stays the asset's");
    tracking.rename_experiment(theirs, "fraud", &ada(), ms(3)).await.expect("rename");
    ledger.submit(new_run(3, "models.fraud", StageKind::Train), at(12)).await.expect("submit");
    let other = tracking.tracked_run(&run_id(3)).await.expect("read").expect("run").experiment;
    let other = tracking.experiment(other).await.expect("read").expect("made");
    assert_eq!(other.name, "models.fraud", "the name was another asset's");
}

async fn clients_runs_are_no_work(tracking: &dyn Tracking, ledger: &dyn Ledger) {
    for number in 1..=3 {
        tracking.create_run(tracked(number), &ada(), ms(1)).await.expect("create");
    }
    let waiting = RunUpdate { status: Some(RunStatus::Queued), ..RunUpdate::default() };
    tracking.update_run(&run_id(1), waiting, &ada(), ms(2)).await.expect("scheduled, says the client");
    let ended = RunUpdate { status: Some(RunStatus::Succeeded), ..RunUpdate::default() };
    tracking.update_run(&run_id(2), ended, &ada(), ms(2)).await.expect("end");
    assert_eq!(ledger.lease("w", ms(1_000), ms(2_000)).await.expect("lease"), None);
    assert_eq!(ledger.take_over("w", ms(1_000)).await.expect("take over"), 0);
    assert_eq!(tracking.tracked_run(&run_id(3)).await.expect("read").expect("run").status, RunStatus::Running);
    let run = ledger.run(&run_id(2)).await.expect("read").expect("it is a run of the ledger");
    assert_eq!((run.stage, run.address, run.status), (StageKind::Train, address("experiments.e0"), RunStatus::Succeeded));
    assert_eq!((run.ended_at, run.reason.as_str(), run.submitted_at), (None, "tracked", ms(1)));
    assert_eq!(ledger.runs(&RunFilter { address: Some(address("experiments.e0")), ..Default::default() }).await.expect("runs").len(), 3);
    assert_eq!(ledger.finish(&run_id(3), success(vec![]), ms(3)).await.expect_err("not ours").kind, Kind::Conflict);
    assert_eq!(ledger.ask_cancel(&run_id(3), &ada(), ms(3)).await.expect_err("not ours").kind, Kind::Conflict);
    assert_eq!(ledger.renew(&run_id(3), "w", ms(9)).await.expect_err("not ours").kind, Kind::Conflict);
}

async fn what_was_deleted_long_ago_is_purged(tracking: &dyn Tracking, ledger: &dyn Ledger) {
    let study = tracking.create_experiment("study", None, Default::default(), &ada(), ms(1)).await.expect("create");
    for number in 1..=3 {
        tracking.create_run(NewTrackedRun { experiment: study, ..tracked(number) }, &ada(), ms(1)).await.expect("create");
        let batch = Batch { metrics: vec![point("m", 1.0, 1)], params: words(&[("p", "1")]), tags: words(&[("t", "1")]) };
        tracking.log(&run_id(number), batch, ms(1)).await.expect("log");
        tracking
            .log_inputs(&run_id(number), vec![input("rows", "d", "x")], vec![ModelUse { model: "m".into(), step: 0 }])
            .await
            .expect("log");
    }
    ledger.begin(new_run(9, "models.churn", StageKind::Train), "w", at(1), at(9)).await.expect("begin");
    tracking.create_logged_model(LoggedModel { experiment: study, ..model(1, Some(1)) }, ms(1)).await.expect("create");
    tracking.set_run_lifecycle(&run_id(1), Lifecycle::Deleted, &ada(), ms(10)).await.expect("delete");
    tracking.set_run_lifecycle(&run_id(2), Lifecycle::Deleted, &ada(), ms(20)).await.expect("delete");
    tracking.set_run_lifecycle(&run_id(9), Lifecycle::Deleted, &ada(), ms(10)).await.expect("delete");
    tracking.delete_logged_model(&model(1, None).id, ms(10)).await.expect("delete");
    assert_eq!(tracking.purge(ms(9), &ada(), ms(30)).await.expect("purge"), Purged::default());
    let due = Purged { runs: 1, logged_models: 1, ..Purged::default() };
    assert_eq!(tracking.purgeable(ms(10)).await.expect("count"), due);
    assert_eq!(tracking.purge(ms(10), &ada(), ms(30)).await.expect("purge"), due);
    assert_eq!(tracking.purgeable(ms(10)).await.expect("count"), Purged::default());
    assert_eq!(tracking.tracked_run(&run_id(1)).await.expect("read"), None);
    assert_eq!(tracking.history(&run_id(1), "m", HistoryWanted::default()).await.expect("history").items, []);
    assert_eq!(tracking.logged_model(&model(1, None).id, ViewType::All).await.expect("read"), None);
    assert!(tracking.tracked_run(&run_id(2)).await.expect("read").is_some());
    assert!(tracking.tracked_run(&run_id(9)).await.expect("read").is_some(), "what the product drove stays");
    tracking.create_run(NewTrackedRun { experiment: study, ..tracked(1) }, &ada(), ms(31)).await.expect("the id is free again");

    tracking.set_experiment_lifecycle(study, Lifecycle::Deleted, &ada(), ms(40)).await.expect("delete");
    tracking.set_experiment_lifecycle(DEFAULT, Lifecycle::Deleted, &ada(), ms(40)).await.expect("delete");
    let due = Purged { runs: 3, experiments: 1, ..Purged::default() };
    assert_eq!(tracking.purgeable(ms(100)).await.expect("count"), due, "three runs, and then their experiment");
    assert_eq!(tracking.purge(ms(100), &ada(), ms(100)).await.expect("purge"), due);
    assert_eq!(tracking.experiment(study).await.expect("read"), None);
    assert!(tracking.experiment(DEFAULT).await.expect("read").is_some());
    let next = tracking.create_experiment("study", None, Default::default(), &ada(), ms(101)).await.expect("the name is free");
    assert!(next > study, "its number is not");
    ledger.verify_audit().await.expect("verify");
}

async fn many_log_to_one_run(tracking: Arc<dyn Tracking>, ledger: &dyn Ledger) {
    const WRITERS: i64 = 16;
    const BATCHES: i64 = 5;
    const POINTS: i64 = 1_000;
    let id = tracking.create_run(tracked(1), &ada(), ms(1)).await.expect("create").id;
    let head = ledger.head().await.expect("head");
    let writers = (0..WRITERS).map(|writer| {
        let (tracking, id) = (Arc::clone(&tracking), id.clone());
        tokio::spawn(async move {
            for batch in 0..BATCHES {
                let first = (writer * BATCHES + batch) * POINTS;
                let logged = points((first..first + POINTS).map(|step| point("loss", step as f64, step)).collect());
                // Every second batch comes twice, as from a client that did not hear the answer.
                for _ in 0..=batch % 2 {
                    tracking.log(&id, logged.clone(), ms(1)).await.expect("log");
                }
                let own = vec![Point { key: format!("writer{writer}"), ..point("", batch as f64, batch) }];
                let batch = Batch { metrics: own, params: words(&[("shared", "same")]), tags: words(&[("last", &writer.to_string())]) };
                tracking.log(&id, batch, ms(1)).await.expect("log");
            }
        })
    });
    for writer in futures::future::join_all(writers).await {
        writer.expect("a writer");
    }
    let history = tracking.history(&id, "loss", HistoryWanted::default()).await.expect("history");
    let steps: Vec<i64> = history.items.iter().map(|p| p.step).collect();
    assert_eq!(steps, (0..WRITERS * BATCHES * POINTS).collect::<Vec<_>>(), "each point once");
    let run = tracking.tracked_run(&id).await.expect("read").expect("run");
    assert_eq!(run.metrics.len() as i64, WRITERS + 1);
    assert_eq!(run.metrics[0].step, WRITERS * BATCHES * POINTS - 1);
    assert_eq!(run.params["shared"], "same");
    assert_eq!(ledger.head().await.expect("head"), head, "what clients log is no audit line");
}

async fn a_refusal_spoils_nothing(tracking: Arc<dyn Tracking>) {
    for number in [1, 2] {
        tracking.create_run(tracked(number), &ada(), ms(1)).await.expect("create");
    }
    tracking.set_run_lifecycle(&run_id(2), Lifecycle::Deleted, &ada(), ms(1)).await.expect("delete");
    tracking.log(&run_id(1), Batch { params: words(&[("p", "1")]), ..Batch::default() }, ms(1)).await.expect("log");
    // Started together, so that they may be committed together.
    let writes = (0..60u32).map(|number| {
        let tracking = Arc::clone(&tracking);
        async move {
            let value = |number: u32| points(vec![point("m", f64::from(number), i64::from(number))]);
            match number % 5 {
                0 => tracking.log(&run_id(1), value(number), ms(1)).await,
                1 => tracking.log(&run_id(2), value(number), ms(1)).await,
                2 => tracking.log(&run_id(77), value(number), ms(1)).await,
                3 => tracking.log(&run_id(1), Batch { params: words(&[("p", "2")]), ..value(number) }, ms(1)).await,
                _ => tracking.delete_run_tag(&run_id(1), "nothing").await,
            }
            .map_err(|fault| fault.code)
        }
    });
    let outcomes = futures::future::join_all(writes).await;
    for (number, outcome) in outcomes.into_iter().enumerate() {
        let expected =
            [Ok(()), Err(Code::NOT_ACTIVE), Err(Code::UNKNOWN_RUN), Err(Code::PARAM_CHANGED), Err(Code::UNKNOWN_TAG)][number % 5];
        assert_eq!(outcome, expected, "{number}");
    }
    let history = tracking.history(&run_id(1), "m", HistoryWanted::default()).await.expect("history");
    assert_eq!(history.items.iter().map(|p| p.step).collect::<Vec<_>>(), (0..12).map(|n| n * 5).collect::<Vec<_>>());
}
