//! Runs.

use super::metric::{POINT, PointAsk, Shown};
use super::{NAMED_PAIR, NamedPairAsk, PAIR, Pair, PairAsk, pairs};
use crate::protocol::mlflow::locations;
use crate::protocol::mlflow::request::{Ask, EnumWord, Field, Int, Is, filled};
use gristmill_kernel::RunStatus;
use gristmill_kernel::tracking as kernel;
use gristmill_kernel::tracking::TrackedRun;
use serde::{Deserialize, Serialize};

/// The word of a state.
pub(crate) fn status_word(status: RunStatus) -> &'static str {
    match status {
        RunStatus::Queued => "SCHEDULED",
        RunStatus::Running => "RUNNING",
        RunStatus::Succeeded | RunStatus::Skipped => "FINISHED",
        RunStatus::Failed => "FAILED",
        RunStatus::Cancelled => "KILLED",
    }
}

/// The state of a word, or of its number.
pub(crate) fn status_of_word(word: &str) -> Option<RunStatus> {
    match word {
        "RUNNING" | "1" => Some(RunStatus::Running),
        "SCHEDULED" | "2" => Some(RunStatus::Queued),
        "FINISHED" | "3" => Some(RunStatus::Succeeded),
        "FAILED" | "4" => Some(RunStatus::Failed),
        "KILLED" | "5" => Some(RunStatus::Cancelled),
        _ => None,
    }
}

/// Starts a run.
#[derive(Debug, Deserialize)]
pub(crate) struct CreateAsk {
    pub experiment_id: Option<String>,
    pub user_id: Option<String>,
    pub run_name: Option<String>,
    pub start_time: Option<Int>,
    pub tags: Option<Vec<PairAsk>>,
}

impl Ask for CreateAsk {
    const FIELDS: &'static [Field] = &[
        Field::text("experiment_id"),
        Field::new("start_time", Is::Int),
        Field::text("run_name"),
        Field::text("user_id"),
        Field::new("tags", Is::Items(PAIR)),
    ];
}

/// Names a run.
#[derive(Debug, Deserialize)]
pub(crate) struct IdAsk {
    pub run_id: Option<String>,
    pub run_uuid: Option<String>,
}

impl Ask for IdAsk {
    const FIELDS: &'static [Field] = &[Field::text("run_id").required(), Field::text("run_uuid")];
}

/// Changes a run.
#[derive(Debug, Deserialize)]
pub(crate) struct UpdateAsk {
    pub run_id: Option<String>,
    pub run_uuid: Option<String>,
    pub status: Option<EnumWord>,
    pub end_time: Option<Int>,
    pub run_name: Option<String>,
}

impl Ask for UpdateAsk {
    const FIELDS: &'static [Field] = &[
        Field::text("run_id").required(),
        Field::text("run_uuid"),
        Field::new("end_time", Is::Int),
        Field::new("status", Is::Word),
        Field::text("run_name"),
    ];
}

/// Logs a parameter, sets or removes a tag.
#[derive(Debug, Deserialize)]
pub(crate) struct PairOfRunAsk {
    pub run_id: Option<String>,
    pub run_uuid: Option<String>,
    #[serde(deserialize_with = "filled")]
    pub key: String,
    pub value: Option<String>,
}

impl Ask for PairOfRunAsk {
    const FIELDS: &'static [Field] =
        &[Field::text("run_id").required(), Field::text("run_uuid"), Field::text("key").required(), Field::text("value")];
}

/// Logs a batch.
#[derive(Debug, Deserialize)]
pub(crate) struct BatchAsk {
    #[serde(deserialize_with = "filled")]
    pub run_id: String,
    pub metrics: Option<Vec<PointAsk>>,
    pub params: Option<Vec<NamedPairAsk>>,
    pub tags: Option<Vec<NamedPairAsk>>,
}

impl Ask for BatchAsk {
    const FIELDS: &'static [Field] = &[
        Field::text("run_id").required(),
        Field::new("metrics", Is::Items(POINT)),
        Field::new("params", Is::Items(NAMED_PAIR)),
        Field::new("tags", Is::Items(NAMED_PAIR)),
    ];
}

/// Searches runs.
#[derive(Debug, Deserialize)]
pub(crate) struct SearchAsk {
    pub experiment_ids: Option<Vec<String>>,
    pub filter: Option<String>,
    pub run_view_type: Option<EnumWord>,
    pub max_results: Option<Int>,
    pub order_by: Option<Vec<String>>,
    pub page_token: Option<String>,
}

impl Ask for SearchAsk {
    const FIELDS: &'static [Field] = &[
        Field::new("experiment_ids", Is::Texts),
        Field::text("filter"),
        Field::new("run_view_type", Is::Word),
        Field::new("max_results", Is::Int),
        Field::new("order_by", Is::Texts),
        Field::text("page_token"),
    ];
}

/// Notes what a run read.
#[derive(Debug, Deserialize)]
pub(crate) struct InputsAsk {
    #[serde(deserialize_with = "filled")]
    pub run_id: String,
    pub datasets: Option<Vec<DatasetInputAsk>>,
    pub models: Option<Vec<ModelUseAsk>>,
}

impl Ask for InputsAsk {
    const FIELDS: &'static [Field] = &[
        Field::text("run_id").required(),
        Field::new("datasets", Is::Items(&[Field::new("dataset", Is::Object(DATASET)), Field::new("tags", Is::Items(PAIR))])),
        Field::new("models", Is::Items(MODEL_USE)),
    ];
}

const DATASET: &[Field] = &[
    Field::text("name"),
    Field::text("digest"),
    Field::text("source_type"),
    Field::text("source"),
    Field::text("schema"),
    Field::text("profile"),
];

const MODEL_USE: &[Field] = &[Field::text("model_id"), Field::new("step", Is::Int)];

/// A dataset that a run read.
#[derive(Debug, Deserialize)]
pub(crate) struct DatasetInputAsk {
    pub dataset: Option<DatasetAsk>,
    pub tags: Option<Vec<PairAsk>>,
}

/// A dataset as a client describes it.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct DatasetAsk {
    pub name: Option<String>,
    pub digest: Option<String>,
    pub source_type: Option<String>,
    pub source: Option<String>,
    pub schema: Option<String>,
    pub profile: Option<String>,
}

/// A logged model that a run read or made.
#[derive(Debug, Deserialize)]
pub(crate) struct ModelUseAsk {
    pub model_id: Option<String>,
    pub step: Option<Int>,
}

/// Notes what a run made.
#[derive(Debug, Deserialize)]
pub(crate) struct OutputsAsk {
    #[serde(deserialize_with = "filled")]
    pub run_id: String,
    pub models: Vec<ModelUseAsk>,
}

impl Ask for OutputsAsk {
    const FIELDS: &'static [Field] = &[Field::text("run_id").required(), Field::new("models", Is::Items(MODEL_USE)).required()];
}

/// Notes a model the old way, as JSON in a text.
#[derive(Debug, Deserialize)]
pub(crate) struct LogModelAsk {
    #[serde(deserialize_with = "filled")]
    pub run_id: String,
    #[serde(deserialize_with = "filled")]
    pub model_json: String,
}

impl Ask for LogModelAsk {
    const FIELDS: &'static [Field] = &[Field::text("run_id").required(), Field::text("model_json").required()];
}

/// One run, in its envelope.
#[derive(Debug, Serialize)]
pub(crate) struct One<'a> {
    pub run: Run<'a>,
}

/// What a change of a run is answered with.
#[derive(Debug, Serialize)]
pub(crate) struct Updated<'a> {
    pub run_info: Info<'a>,
}

/// Runs, a page of them.
#[derive(Debug, Serialize)]
pub(crate) struct Many<'a> {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub runs: Vec<Run<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_page_token: Option<String>,
}

/// A run.
#[derive(Debug, Serialize)]
pub(crate) struct Run<'a> {
    info: Info<'a>,
    data: Data<'a>,
    inputs: Inputs<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    outputs: Option<Outputs<'a>>,
}

impl<'a> Run<'a> {
    /// A run that has just begun: nothing was made yet, and MLflow does not say so.
    pub(crate) fn begun(run: &'a TrackedRun, location: &str) -> Run<'a> {
        Run { outputs: None, ..Run::new(run, location) }
    }
    /// A run; `location` is where the artifacts of its experiment begin.
    pub(crate) fn new(run: &'a TrackedRun, location: &str) -> Run<'a> {
        Run {
            info: Info::new(run, location),
            data: Data { metrics: run.metrics.iter().map(Shown::plain).collect(), params: pairs(&run.params), tags: pairs(&run.tags) },
            inputs: Inputs {
                dataset_inputs: run.datasets.iter().map(DatasetInput::from).collect(),
                model_inputs: run.model_inputs.iter().map(|used| ModelUse { model_id: &used.model, step: None }).collect(),
            },
            outputs: Some(Outputs {
                model_outputs: run.model_outputs.iter().map(|made| ModelUse { model_id: &made.model, step: Some(made.step) }).collect(),
            }),
        }
    }
}

/// A run without what it logged.
#[derive(Debug, Serialize)]
pub(crate) struct Info<'a> {
    run_id: &'a str,
    run_uuid: &'a str,
    run_name: &'a str,
    experiment_id: String,
    user_id: &'a str,
    status: &'static str,
    start_time: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    end_time: Option<i64>,
    artifact_uri: String,
    lifecycle_stage: &'static str,
}

impl<'a> Info<'a> {
    /// A run; `location` is where the artifacts of its experiment begin.
    pub(crate) fn new(run: &'a TrackedRun, location: &str) -> Info<'a> {
        Info {
            run_id: &run.id.0,
            run_uuid: &run.id.0,
            run_name: &run.name,
            experiment_id: run.experiment.to_string(),
            user_id: &run.user,
            status: status_word(run.status),
            start_time: run.started_at.map_or(0, |at| at.millis()),
            // Zero is how clients write that a run has not ended.
            end_time: run.ended_at.map(|at| at.millis()).filter(|millis| *millis != 0),
            artifact_uri: locations::of_run(location, &run.id),
            lifecycle_stage: run.lifecycle.as_str(),
        }
    }
}

#[derive(Debug, Serialize)]
struct Data<'a> {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    metrics: Vec<Shown<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    params: Vec<Pair<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tags: Vec<Pair<'a>>,
}

#[derive(Debug, Serialize)]
struct Inputs<'a> {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    dataset_inputs: Vec<DatasetInput<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    model_inputs: Vec<ModelUse<'a>>,
}

#[derive(Debug, Serialize)]
struct Outputs<'a> {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    model_outputs: Vec<ModelUse<'a>>,
}

#[derive(Debug, Serialize)]
struct ModelUse<'a> {
    model_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    step: Option<i64>,
}

#[derive(Debug, Serialize)]
struct DatasetInput<'a> {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tags: Vec<Pair<'a>>,
    dataset: Dataset<'a>,
}

#[derive(Debug, Serialize)]
struct Dataset<'a> {
    name: &'a str,
    digest: &'a str,
    source_type: &'a str,
    source: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    schema: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    profile: Option<&'a str>,
}

impl<'a> From<&'a kernel::DatasetInput> for DatasetInput<'a> {
    fn from(input: &'a kernel::DatasetInput) -> DatasetInput<'a> {
        let dataset = &input.dataset;
        DatasetInput {
            tags: input.tags.iter().map(|(key, value)| Pair { key, value }).collect(),
            dataset: Dataset {
                name: &dataset.key.name,
                digest: &dataset.key.digest,
                source_type: &dataset.source_type,
                source: &dataset.source,
                schema: dataset.schema.as_deref().filter(|s| !s.is_empty()),
                profile: dataset.profile.as_deref().filter(|p| !p.is_empty()),
            },
        }
    }
}
