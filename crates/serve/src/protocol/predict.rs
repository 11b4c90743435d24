//! `POST /predict/NAME`: our own protocol.

use crate::explain::Explained;
use crate::model::Scored;
use crate::plan::read_wish;
use crate::plane::Plane;
use crate::predict::{Answered, Ask, Input, Prediction, Urgency, predict};
use gristmill_kernel::prediction::Arm;
use gristmill_kernel::{Kind, Result};
use gristmill_web::schema::{any, either, flag, list, map, maybe, moment, number, object, one_of, open, text};
use gristmill_web::{Call, Method, Permission, Response, Routes, json, route};
use serde::Serialize;
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::Arc;

pub(super) fn routes(plane: &Arc<Plane>) -> Routes {
    let plane = plane.clone();
    Routes::new().with(
        route(Method::POST, "/predict/{endpoint}", Permission::Predict, move |call| answer(plane.clone(), call))
            .about("Score rows by entity key and request fields; `explain` adds features and contributions")
            .takes(asked())
            .gives(Reply::schema())
            .fails([Kind::Busy]),
    )
}

async fn answer(plane: Arc<Plane>, call: Call) -> Result<Response> {
    let endpoint = call.param("endpoint")?.to_owned();
    if let Err(fault) = plane.has_room(&endpoint) {
        return Err(call.refuse(fault).await);
    }
    let wish = read_wish(call.json().await?)?;
    let explain = wish.explain;
    let ask = Ask { input: Input::Entities(wish.rows), at: wish.at, explain, version: None, urgency: Urgency::default() };
    json(&Reply::new(predict(&plane, &endpoint, ask).await?))
}

/// One row, or several.
fn asked() -> Value {
    let rows = object([("rows", list(map(any()))), ("as_of?", text()), ("explain?", flag())]);
    either(&[rows, open([("as_of?", text()), ("explain?", flag())])])
}

#[derive(Serialize)]
struct Reply {
    endpoint: String,
    as_of: String,
    predictions: Vec<ReplyRow>,
}

#[derive(Serialize)]
struct ReplyRow {
    prediction_id: String,
    score: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    outcome: Option<String>,
    model: String,
    arm: &'static str,
    as_of: String,
    feature_age_seconds: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    features: Option<serde_json::Map<String, Value>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    contributions: Option<BTreeMap<String, f64>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    contributions_method: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    contributions_base: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'static str>,
}

impl Reply {
    fn schema() -> Value {
        let row = object([
            ("prediction_id", text()),
            ("score", maybe(number())),
            ("outcome?", text()),
            ("model", text()),
            ("arm", one_of(&[Arm::Stable, Arm::Canary].map(Arm::as_str))),
            ("as_of", moment()),
            ("feature_age_seconds", maybe(number())),
            ("features?", map(any())),
            ("contributions?", map(number())),
            ("contributions_method?", text()),
            ("contributions_base?", number()),
            ("error?", text()),
        ]);
        object([("endpoint", text()), ("as_of", moment()), ("predictions", list(row))])
    }
    fn new(answered: Answered) -> Reply {
        Reply {
            endpoint: answered.endpoint.to_string(),
            as_of: answered.as_of.to_string(),
            predictions: answered.predictions.into_iter().map(ReplyRow::new).collect(),
        }
    }
}

impl ReplyRow {
    fn new(prediction: Prediction) -> ReplyRow {
        let failed = prediction.scored.is_none();
        let (score, outcome) = match prediction.scored {
            Some(Scored { score, outcome, .. }) => (Some(score), outcome),
            None => (None, None),
        };
        let (contributions, method, base) = match prediction.explained {
            Some(Explained { method, base, contributions }) => (Some(contributions), Some(method), base),
            None => (None, None, None),
        };
        ReplyRow {
            prediction_id: prediction.id,
            score,
            outcome,
            model: prediction.model.to_string(),
            arm: prediction.arm.as_str(),
            as_of: prediction.as_of.to_string(),
            feature_age_seconds: prediction.newest.map(|newest| prediction.as_of.since(newest).micros() as f64 / 1e6),
            features: prediction.features,
            contributions,
            contributions_method: method,
            contributions_base: base,
            // The details are in the prediction log under the id.
            error: failed.then_some("this row could not be scored; the prediction log says why"),
        }
    }
}
