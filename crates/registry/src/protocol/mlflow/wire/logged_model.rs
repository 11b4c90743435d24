//! Logged models.

use super::metric::Shown;
use super::{PAIR, Pair, PairAsk, pairs};
use crate::protocol::mlflow::locations;
use crate::protocol::mlflow::request::{Ask, EnumWord, Field, Int, Is, filled};
use gristmill_kernel::tracking as kernel;
use gristmill_kernel::tracking::LoggedModelStatus;
use serde::{Deserialize, Serialize};

/// The word of a state.
pub(crate) fn status_word(status: LoggedModelStatus) -> &'static str {
    match status {
        LoggedModelStatus::Pending => "LOGGED_MODEL_PENDING",
        LoggedModelStatus::Ready => "LOGGED_MODEL_READY",
        LoggedModelStatus::Failed => "LOGGED_MODEL_UPLOAD_FAILED",
    }
}

/// The state of a word, or of its number.
pub(crate) fn status_of_word(word: &str) -> Option<LoggedModelStatus> {
    match word {
        "LOGGED_MODEL_PENDING" | "1" => Some(LoggedModelStatus::Pending),
        "LOGGED_MODEL_READY" | "2" => Some(LoggedModelStatus::Ready),
        "LOGGED_MODEL_UPLOAD_FAILED" | "3" => Some(LoggedModelStatus::Failed),
        _ => None,
    }
}

/// Asks for a new logged model.
#[derive(Debug, Deserialize)]
pub(crate) struct CreateAsk {
    #[serde(deserialize_with = "filled")]
    pub experiment_id: String,
    pub name: Option<String>,
    pub model_type: Option<String>,
    pub source_run_id: Option<String>,
    pub params: Option<Vec<PairAsk>>,
    pub tags: Option<Vec<PairAsk>>,
}

impl Ask for CreateAsk {
    const FIELDS: &'static [Field] = &[
        Field::text("experiment_id").required(),
        Field::text("name"),
        Field::text("model_type"),
        Field::text("source_run_id"),
        Field::new("params", Is::Items(PAIR)),
        Field::new("tags", Is::Items(PAIR)),
    ];
}

/// Asks for one, also if it was deleted.
#[derive(Debug, Deserialize)]
pub(crate) struct GetAsk {
    pub allow_deleted: Option<String>,
}

impl Ask for GetAsk {
    const FIELDS: &'static [Field] = &[Field::text("allow_deleted")];
}

/// Ends the upload.
#[derive(Debug, Deserialize)]
pub(crate) struct FinishAsk {
    pub status: EnumWord,
}

impl Ask for FinishAsk {
    const FIELDS: &'static [Field] = &[Field::new("status", Is::Int).required_last()];
}

/// Adds parameters.
#[derive(Debug, Deserialize)]
pub(crate) struct ParamsAsk {
    pub params: Option<Vec<PairAsk>>,
}

impl Ask for ParamsAsk {
    const FIELDS: &'static [Field] = &[Field::new("params", Is::Items(PAIR))];
}

/// Sets tags.
#[derive(Debug, Deserialize)]
pub(crate) struct TagsAsk {
    pub tags: Option<Vec<PairAsk>>,
}

impl Ask for TagsAsk {
    const FIELDS: &'static [Field] = &[Field::new("tags", Is::Items(PAIR))];
}

/// Searches logged models.
#[derive(Debug, Deserialize)]
pub(crate) struct SearchAsk {
    pub experiment_ids: Vec<String>,
    pub filter: Option<String>,
    pub datasets: Option<Vec<DatasetAsk>>,
    pub max_results: Option<Int>,
    pub order_by: Option<Vec<OrderAsk>>,
    pub page_token: Option<String>,
}

impl Ask for SearchAsk {
    const FIELDS: &'static [Field] = &[
        Field::new("experiment_ids", Is::Texts).required_last(),
        Field::text("filter"),
        Field::new("datasets", Is::Items(&[Field::text("dataset_name"), Field::text("dataset_digest")])),
        Field::new("max_results", Is::Int),
        Field::new(
            "order_by",
            Is::Items(&[
                Field::text("field_name"),
                Field::new("ascending", Is::Flag),
                Field::text("dataset_name"),
                Field::text("dataset_digest"),
            ]),
        ),
        Field::text("page_token"),
    ];
}

/// A dataset that figures were measured on.
#[derive(Debug, Deserialize)]
pub(crate) struct DatasetAsk {
    pub dataset_name: Option<String>,
    pub dataset_digest: Option<String>,
}

/// One key of the order.
#[derive(Debug, Deserialize)]
pub(crate) struct OrderAsk {
    pub field_name: Option<String>,
    pub ascending: Option<bool>,
    pub dataset_name: Option<String>,
    pub dataset_digest: Option<String>,
}

/// Lists files.
#[derive(Debug, Deserialize)]
pub(crate) struct ListAsk {
    pub artifact_directory_path: Option<String>,
}

impl Ask for ListAsk {
    const FIELDS: &'static [Field] = &[Field::text("artifact_directory_path")];
}

/// One logged model, in its envelope.
#[derive(Debug, Serialize)]
pub(crate) struct One<'a> {
    pub model: Model<'a>,
}

/// Logged models, a page of them.
#[derive(Debug, Serialize)]
pub(crate) struct Many<'a> {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub models: Vec<Model<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_page_token: Option<String>,
}

/// A logged model.
#[derive(Debug, Serialize)]
pub(crate) struct Model<'a> {
    info: Info<'a>,
    data: Data<'a>,
}

#[derive(Debug, Serialize)]
struct Info<'a> {
    model_id: &'a str,
    experiment_id: String,
    name: &'a str,
    creation_timestamp_ms: i64,
    last_updated_timestamp_ms: i64,
    artifact_uri: String,
    status: &'static str,
    model_type: &'a str,
    source_run_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    status_message: Option<&'a str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tags: Vec<Pair<'a>>,
}

#[derive(Debug, Serialize)]
struct Data<'a> {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    params: Vec<Pair<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    metrics: Vec<Shown<'a>>,
}

impl<'a> Model<'a> {
    /// A logged model; `location` is where the artifacts of its experiment begin.
    pub(crate) fn new(model: &'a kernel::LoggedModel, location: &str) -> Model<'a> {
        Model {
            info: Info {
                model_id: &model.id,
                experiment_id: model.experiment.to_string(),
                name: &model.name,
                creation_timestamp_ms: model.created_at.millis(),
                last_updated_timestamp_ms: model.updated_at.millis(),
                artifact_uri: locations::of_model(location, &model.id),
                status: status_word(model.status),
                model_type: model.model_type.as_deref().unwrap_or_default(),
                source_run_id: model.source_run.as_ref().map_or("", |run| run.0.as_str()),
                status_message: model.status_message.as_deref(),
                tags: pairs(&model.tags),
            },
            data: Data {
                params: pairs(&model.params),
                metrics: model.metrics.iter().map(|(point, run)| Shown::about(point, run)).collect(),
            },
        }
    }
}
