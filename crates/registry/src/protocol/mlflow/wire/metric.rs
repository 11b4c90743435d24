//! Points of metrics, as they are sent and shown.

use crate::protocol::mlflow::request::{Ask, Double, Field, Int, Is, filled};
use gristmill_kernel::RunId;
use gristmill_kernel::tracking::{DatasetKey, Point};
use serde::{Deserialize, Serialize};

/// The fields of a point within a batch.
pub(crate) const POINT: &[Field] = &[
    Field::text("key").required(),
    Field::new("value", Is::Float).required(),
    Field::new("timestamp", Is::Int).required(),
    Field::new("step", Is::Int),
    Field::text("model_id"),
    Field::text("dataset_name"),
    Field::text("dataset_digest"),
];

/// A point that a client sends.
#[derive(Debug, Deserialize)]
pub(crate) struct PointAsk {
    #[serde(deserialize_with = "filled")]
    pub key: String,
    pub value: Double,
    pub timestamp: Int,
    pub step: Option<Int>,
    pub model_id: Option<String>,
    pub dataset_name: Option<String>,
    pub dataset_digest: Option<String>,
}

/// Logs one point.
#[derive(Debug, Deserialize)]
pub(crate) struct LogAsk {
    pub run_id: Option<String>,
    pub run_uuid: Option<String>,
    #[serde(deserialize_with = "filled")]
    pub key: String,
    pub value: Double,
    pub timestamp: Int,
    pub step: Option<Int>,
    pub model_id: Option<String>,
    pub dataset_name: Option<String>,
    pub dataset_digest: Option<String>,
}

impl Ask for LogAsk {
    const FIELDS: &'static [Field] = &[
        Field::text("run_id").required(),
        Field::text("run_uuid"),
        Field::text("key").required(),
        Field::new("value", Is::Float).required(),
        Field::new("timestamp", Is::Int).required_last(),
        Field::new("step", Is::Int),
        Field::text("model_id"),
        Field::text("dataset_name"),
        Field::text("dataset_digest"),
    ];
}

impl LogAsk {
    /// The point, and the run under its two names.
    pub(crate) fn taken(self) -> (Option<String>, Option<String>, PointAsk) {
        let LogAsk { run_id, run_uuid, key, value, timestamp, step, model_id, dataset_name, dataset_digest } = self;
        (run_id, run_uuid, PointAsk { key, value, timestamp, step, model_id, dataset_name, dataset_digest })
    }
}

impl From<PointAsk> for Point {
    fn from(ask: PointAsk) -> Point {
        let said = |text: Option<String>| text.filter(|t| !t.is_empty());
        let digest = said(ask.dataset_digest).unwrap_or_default();
        Point {
            key: ask.key,
            value: ask.value.0,
            at: super::moment(ask.timestamp.0),
            step: ask.step.unwrap_or_default().0,
            model: said(ask.model_id),
            dataset: said(ask.dataset_name).map(|name| DatasetKey { name, digest }),
        }
    }
}

/// Asks for the history of a metric.
#[derive(Debug, Deserialize)]
pub(crate) struct HistoryAsk {
    pub run_id: Option<String>,
    pub run_uuid: Option<String>,
    #[serde(deserialize_with = "filled")]
    pub metric_key: String,
    pub page_token: Option<String>,
    pub max_results: Option<Int>,
}

impl Ask for HistoryAsk {
    const FIELDS: &'static [Field] = &[
        Field::text("run_id").required(),
        Field::text("run_uuid"),
        Field::text("metric_key").required(),
        Field::text("page_token"),
        Field::new("max_results", Is::Int),
    ];
}

/// Asks for thinned histories of a metric of several runs.
#[derive(Debug, Deserialize)]
pub(crate) struct IntervalAsk {
    pub run_ids: Vec<String>,
    #[serde(deserialize_with = "filled")]
    pub metric_key: String,
    pub start_step: Option<Int>,
    pub end_step: Option<Int>,
    pub max_results: Option<Int>,
}

impl Ask for IntervalAsk {
    const FIELDS: &'static [Field] = &[
        Field::new("run_ids", Is::Texts).required(),
        Field::text("metric_key").required(),
        Field::new("start_step", Is::Int),
        Field::new("end_step", Is::Int),
        Field::new("max_results", Is::Int),
    ];
}

/// Asks for whole histories of a metric of several runs.
#[derive(Debug, Deserialize)]
pub(crate) struct BulkAsk {
    pub run_id: Option<Vec<String>>,
    pub metric_key: Option<String>,
    pub max_results: Option<Int>,
}

impl Ask for BulkAsk {
    const FIELDS: &'static [Field] = &[Field::new("run_id", Is::Texts), Field::text("metric_key"), Field::new("max_results", Is::Int)];
}

/// A point as it is shown.
#[derive(Debug, Serialize)]
pub(crate) struct Shown<'a> {
    key: &'a str,
    value: Double,
    timestamp: i64,
    step: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    run_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    model_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    dataset_name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    dataset_digest: Option<&'a str>,
}

impl<'a> Shown<'a> {
    /// A point of a run: without what it is about.
    pub(crate) fn plain(point: &'a Point) -> Shown<'a> {
        Shown {
            key: &point.key,
            // Clients compare with the largest number there is, as MLflow's store gives it for what has no end.
            value: Double(point.value.clamp(f64::MIN, f64::MAX)),
            timestamp: point.at.millis(),
            step: point.step,
            run_id: None,
            model_id: None,
            dataset_name: None,
            dataset_digest: None,
        }
    }
    /// A point with the run it is of.
    pub(crate) fn of(point: &'a Point, run: &'a RunId) -> Shown<'a> {
        Shown { run_id: Some(&run.0), ..Shown::plain(point) }
    }
    /// A point about a logged model: with everything it is about.
    pub(crate) fn about(point: &'a Point, run: &'a RunId) -> Shown<'a> {
        Shown {
            model_id: point.model.as_deref(),
            dataset_name: point.dataset.as_ref().map(|d| d.name.as_str()),
            dataset_digest: point.dataset.as_ref().map(|d| d.digest.as_str()).filter(|d| !d.is_empty()),
            ..Shown::of(point, run)
        }
    }
}

/// Points, a page of them.
#[derive(Debug, Serialize)]
pub(crate) struct History<'a> {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub metrics: Vec<Shown<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_page_token: Option<String>,
}

/// Points in the form that pages read: the list is there, also when it is empty.
#[derive(Debug, Serialize)]
pub(crate) struct Bulk<'a> {
    pub metrics: Vec<Shown<'a>>,
}
