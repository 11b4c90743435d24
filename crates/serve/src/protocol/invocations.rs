//! `POST /invocations`: SageMaker's containers and MLflow's scoring server, one contract for both; and SageMaker's form for several models.
//!
//! The body is JSON in any form of [`super::rows`], JSON lines or CSV; the answer is what `Accept` asks for: JSON as MLflow has it
//! (`{"predictions": [...]}`), JSON lines, or CSV, a line per row. With one endpoint that one is asked; with several the header
//! `X-Amzn-SageMaker-Target-Model` names it, or the path does: `/models/NAME/invoke`.

use super::rows::{self, Rows, json as read};
use super::scores;
use crate::plane::Plane;
use crate::predict::{Ask, predict};
use gristmill_kernel::{Code, Fault, Kind, Result};
use gristmill_web::schema::{either, flag, list, object, text};
use gristmill_web::{Call, Method, Permission, Response, Route, Routes, StatusCode, error_schema, json, json_status, plain, route};
use serde_json::{Value, json};
use std::sync::Arc;

/// The header by which SageMaker chooses among several models.
const TARGET: &str = "x-amzn-sagemaker-target-model";

pub(super) fn routes(plane: &Arc<Plane>) -> Routes {
    let with = |answer: fn(Arc<Plane>, Call) -> Answer| {
        let plane = plane.clone();
        move |call| answer(plane.clone(), call)
    };
    Routes::from(vec![
        route(Method::GET, "/ping", Permission::Public, with(|plane, _| Box::pin(async move { ping(&plane) })))
            .about("SageMaker: whether every deployed endpoint answers")
            .gives(object([("ready", flag())]))
            .gives_status(StatusCode::SERVICE_UNAVAILABLE, either(&[object([("ready", flag())]), error_schema()])),
        scoring(route(Method::POST, "/invocations", Permission::Predict, with(|plane, call| Box::pin(invoke(plane, call)))))
            .fails([Kind::NotFound])
            .about("SageMaker, MLflow: score rows in JSON, JSON lines or CSV"),
        route(Method::GET, "/models", Permission::Predict, with(|plane, _| Box::pin(async move { all(&plane) })))
            .about("SageMaker: the models")
            .gives(object([("models", list(about_schema()))])),
        route(Method::GET, "/models/{model}", Permission::Predict, with(|plane, call| Box::pin(async move { one(&plane, &call) })))
            .about("SageMaker: one model")
            .gives(about_schema()),
        scoring(route(Method::POST, "/models/{model}/invoke", Permission::Predict, with(|plane, call| Box::pin(invoke(plane, call)))))
            .about("SageMaker: score rows by a model that is named"),
    ])
}

/// A route that scores rows.
fn scoring(route: Route) -> Route {
    let route = route.takes(rows::body_schema()).takes_media("application/jsonlines", Value::Null).takes_media("text/csv", Value::Null);
    let route = route.gives(object([("predictions", scores::schema()), ("prediction_ids", list(text()))]));
    route.gives_media("application/jsonlines").gives_media("text/csv").fails([Kind::Busy])
}

fn about_schema() -> Value {
    object([("modelName", text()), ("modelUrl", text())])
}

type Answer = futures::future::BoxFuture<'static, Result<Response>>;

fn ping(plane: &Plane) -> Result<Response> {
    let ready = plane.health().ready;
    json_status(if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }, &json!({ "ready": ready }))
}

fn about(name: &str) -> Value {
    json!({ "modelName": name, "modelUrl": format!("endpoints.{name}") })
}

fn all(plane: &Plane) -> Result<Response> {
    json(&json!({ "models": plane.snapshot().endpoints.keys().map(|name| about(name.as_str())).collect::<Vec<_>>() }))
}

fn one(plane: &Plane, call: &Call) -> Result<Response> {
    let (name, _) = plane.endpoint(call.param("model")?)?;
    json(&about(name.as_str()))
}

/// The endpoint that is meant.
fn name_of(plane: &Plane, call: &Call) -> Result<String> {
    if let Some(name) = call.param("model").ok().or_else(|| call.header(TARGET)) {
        return Ok(name.to_owned());
    }
    let names: Vec<String> = plane.snapshot().endpoints.keys().map(ToString::to_string).collect();
    match names.as_slice() {
        [only] => Ok(only.clone()),
        [] => plane.endpoint("").map(|(name, _)| name.to_string()),
        several => Err(Fault::invalid(Code::MISSING_INPUT, format!("{} endpoints could be meant", several.len()))
            .fix(format!("name one of {} in the header {TARGET}, or POST /models/NAME/invoke", crate::plan::words(several)))),
    }
}

async fn invoke(plane: Arc<Plane>, call: Call) -> Result<Response> {
    let name = name_of(&plane, &call)?;
    let (_, endpoint) = plane.endpoint(&name)?;
    let (sent, wanted) = (media_type(&call, "content-type"), media_type(&call, "accept"));
    if let Err(fault) = plane.has_room(&name) {
        return Err(call.refuse(fault).await);
    }
    let body = call.bytes().await?;
    let rows = match sent.as_str() {
        "" | "application/json" => Rows::of_body(read(&body)?)?,
        "application/jsonlines" | "application/x-jsonlines" | "application/x-ndjson" => Rows::of_lines(&body)?,
        "text/csv" => Rows::of_csv(&body)?,
        other => {
            return Err(Fault::invalid(Code::BAD_BODY, format!("bodies of the type `{other}` are not read"))
                .fix("send application/json, application/jsonlines or text/csv"));
        }
    };
    let input = rows.input(&endpoint, None)?;
    let answered = predict(&plane, &name, Ask { input, at: None, explain: false, version: None }).await?;
    let values = scores::plain(&answered)?;
    let lines = |of: fn(&Value) -> String| values.iter().map(|value| of(value) + "\n").collect::<String>();
    Ok(match wanted.as_str() {
        "text/csv" => plain(StatusCode::OK, "text/csv", lines(comma_separated)),
        "application/jsonlines" | "application/x-jsonlines" => plain(StatusCode::OK, "application/jsonlines", lines(Value::to_string)),
        _ => json(&json!({ "predictions": values, "prediction_ids": scores::ids(&answered) }))?,
    })
}

/// The first media type of a header, without what is behind it.
fn media_type(call: &Call, header: &str) -> String {
    let text = call.header(header).unwrap_or_default().split([';', ',']).next().unwrap_or_default();
    text.trim().to_ascii_lowercase()
}

fn comma_separated(value: &Value) -> String {
    match value {
        Value::Array(values) => values.iter().map(Value::to_string).collect::<Vec<_>>().join(","),
        value => value.to_string(),
    }
}
