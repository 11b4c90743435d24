//! Experiments.

use super::{PAIR, Pair, PairAsk, pairs};
use crate::protocol::mlflow::request::{Ask, EnumWord, Field, Int, Is, filled};
use gristmill_kernel::tracking as kernel;
use serde::{Deserialize, Serialize};

/// Asks for a new experiment.
#[derive(Debug, Deserialize)]
pub(crate) struct CreateAsk {
    #[serde(deserialize_with = "filled")]
    pub name: String,
    pub artifact_location: Option<String>,
    pub tags: Option<Vec<PairAsk>>,
}

impl Ask for CreateAsk {
    const FIELDS: &'static [Field] =
        &[Field::text("name").required(), Field::text("artifact_location"), Field::new("tags", Is::Items(PAIR))];
}

/// Names an experiment by its id.
#[derive(Debug, Deserialize)]
pub(crate) struct IdAsk {
    #[serde(deserialize_with = "filled")]
    pub experiment_id: String,
}

impl Ask for IdAsk {
    const FIELDS: &'static [Field] = &[Field::text("experiment_id").required()];
}

/// Names an experiment by its name.
#[derive(Debug, Deserialize)]
pub(crate) struct NameAsk {
    #[serde(deserialize_with = "filled")]
    pub experiment_name: String,
}

impl Ask for NameAsk {
    const FIELDS: &'static [Field] = &[Field::text("experiment_name").required()];
}

/// Renames an experiment.
#[derive(Debug, Deserialize)]
pub(crate) struct UpdateAsk {
    #[serde(deserialize_with = "filled")]
    pub experiment_id: String,
    #[serde(deserialize_with = "filled")]
    pub new_name: String,
}

impl Ask for UpdateAsk {
    const FIELDS: &'static [Field] = &[Field::text("experiment_id").required(), Field::text("new_name").required()];
}

/// Sets or removes a tag.
#[derive(Debug, Deserialize)]
pub(crate) struct TagAsk {
    #[serde(deserialize_with = "filled")]
    pub experiment_id: String,
    #[serde(deserialize_with = "filled")]
    pub key: String,
    pub value: Option<String>,
}

impl Ask for TagAsk {
    const FIELDS: &'static [Field] = &[Field::text("experiment_id").required(), Field::text("key").required(), Field::text("value")];
}

/// Searches experiments.
#[derive(Debug, Deserialize)]
pub(crate) struct SearchAsk {
    pub view_type: Option<EnumWord>,
    pub max_results: Option<Int>,
    pub order_by: Option<Vec<String>>,
    pub filter: Option<String>,
    pub page_token: Option<String>,
}

impl Ask for SearchAsk {
    const FIELDS: &'static [Field] = &[
        // A word is only looked at where another field does not fit, and then MLflow wants its number.
        Field::new("view_type", Is::Int),
        Field::new("max_results", Is::Int),
        Field::new("order_by", Is::Texts),
        Field::text("filter"),
        Field::text("page_token"),
    ];
}

/// Searches the datasets that runs of experiments read.
#[derive(Debug, Deserialize)]
pub(crate) struct DatasetsAsk {
    pub experiment_ids: Option<Vec<String>>,
}

impl Ask for DatasetsAsk {
    const FIELDS: &'static [Field] = &[Field::new("experiment_ids", Is::Texts)];
}

/// The id of a new experiment.
#[derive(Debug, Serialize)]
pub(crate) struct Created {
    pub experiment_id: String,
}

/// One experiment, in its envelope.
#[derive(Debug, Serialize)]
pub(crate) struct One<'a> {
    pub experiment: Experiment<'a>,
}

/// Experiments, a page of them.
#[derive(Debug, Serialize)]
pub(crate) struct Many<'a> {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub experiments: Vec<Experiment<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_page_token: Option<String>,
}

/// An experiment.
#[derive(Debug, Serialize)]
pub(crate) struct Experiment<'a> {
    experiment_id: String,
    name: &'a str,
    artifact_location: &'a str,
    lifecycle_stage: &'static str,
    last_update_time: i64,
    creation_time: i64,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tags: Vec<Pair<'a>>,
    workspace: &'static str,
}

impl<'a> From<&'a kernel::Experiment> for Experiment<'a> {
    fn from(experiment: &'a kernel::Experiment) -> Experiment<'a> {
        Experiment {
            experiment_id: experiment.id.to_string(),
            name: &experiment.name,
            artifact_location: &experiment.artifact_location,
            lifecycle_stage: experiment.lifecycle.as_str(),
            last_update_time: experiment.updated_at.millis(),
            creation_time: experiment.created_at.millis(),
            tags: pairs(&experiment.tags),
            // There is one, and MLflow calls it so.
            workspace: "default",
        }
    }
}

/// Datasets that runs read.
#[derive(Debug, Serialize)]
pub(crate) struct Datasets {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub dataset_summaries: Vec<DatasetSummary>,
}

/// A dataset that runs read, and as what.
#[derive(Debug, Serialize, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct DatasetSummary {
    pub experiment_id: String,
    pub name: String,
    pub digest: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub context: Option<String>,
}
