//! `POST /invocations`: SageMaker's containers and MLflow's scoring server, one contract for both; SageMaker's form for several models; and what
//! SageMaker's own client asks, `POST /endpoints/NAME/invocations`.
//!
//! The body is JSON in any form of [`super::rows`], JSON lines, CSV or an array of NumPy; the answer is what `Accept` asks for: JSON as MLflow has it
//! (`{"predictions": [...]}`), JSON lines, CSV, a line per row, or an array. With one endpoint that one is asked; with several the header
//! `X-Amzn-SageMaker-Target-Model` names it, or the path does: `/models/NAME/invoke`.

use super::rows::{self, Rows, json as read};
use super::{npy, scores};
use crate::plane::{Endpoint, Plane};
use crate::predict::{Ask, Urgency, predict};
use gristmill_kernel::{Code, Fault, Kind, Result};
use gristmill_web::schema::{either, flag, list, object, text};
use gristmill_web::{
    Call, ErrorSchema, HeaderValue, Method, Permission, Response, Route, Routes, StatusCode, error_schema, json, json_status, plain, route,
};
use serde_json::{Value, json};
use std::sync::Arc;

/// The header by which SageMaker chooses among several models.
const TARGET: &str = "x-amzn-sagemaker-target-model";
/// The header by which SageMaker's client chooses among the versions of an endpoint, by the names that their arms have here.
const VARIANT: &str = "x-amzn-sagemaker-target-variant";
/// The header that tells which one answered.
const INVOKED: &str = "x-amzn-invoked-production-variant";

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
        scoring(route(
            Method::POST,
            "/endpoints/{model}/invocations",
            Permission::Predict,
            with(|plane, call| Box::pin(invoke(plane, call))),
        ))
        .about("SageMaker's client: score rows by an endpoint")
        .errors(
            |_, fault, _| told(fault),
            ErrorSchema { name: "SageMakerError", schema: || object([("code", text()), ("message", text())]) },
        ),
    ])
}

/// A failure under the names that SageMaker's client knows:
/// <https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_runtime_InvokeEndpoint.html#API_runtime_InvokeEndpoint_Errors>.
fn told(fault: &Fault) -> Value {
    let code = match fault.kind {
        Kind::Unauthenticated | Kind::Denied => "AccessDeniedException",
        Kind::Busy => "ThrottlingException",
        Kind::Unavailable | Kind::Timeout => "ServiceUnavailable",
        Kind::Damaged | Kind::Internal => "InternalFailure",
        Kind::Invalid | Kind::NotFound | Kind::Conflict | Kind::Cancelled | Kind::TooLarge | Kind::Refused => "ValidationError",
    };
    json!({ "code": code, "message": super::one_line(fault) })
}

/// A route that scores rows.
fn scoring(route: Route) -> Route {
    let route = route.takes(rows::body_schema()).takes_media("application/jsonlines", Value::Null).takes_media("text/csv", Value::Null);
    let route = route.takes_media(npy::MEDIA_TYPE, Value::Null);
    let route = route.gives(object([("predictions", scores::schema()), ("prediction_ids", list(text()))]));
    route.gives_media("application/jsonlines").gives_media("text/csv").gives_media(npy::MEDIA_TYPE).fails([Kind::Busy])
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
    super::only_endpoint(plane, &format!("name one in the header {TARGET}, or POST /models/NAME/invoke"))
}

async fn invoke(plane: Arc<Plane>, call: Call) -> Result<Response> {
    let name = name_of(&plane, &call)?;
    let (_, endpoint) = plane.endpoint(&name)?;
    let (sent, wanted) = (media_type(&call, "content-type"), media_type(&call, "accept"));
    if let Err(fault) = plane.has_room(&name) {
        return Err(call.refuse(fault).await);
    }
    let version = call.header(VARIANT).map(|variant| version_of(&endpoint, &name, variant)).transpose()?;
    let body = call.bytes().await?;
    let rows = match sent.as_str() {
        "" | "application/json" => Rows::of_body(read(&body)?)?,
        "application/jsonlines" | "application/x-jsonlines" | "application/x-ndjson" => Rows::of_lines(&body)?,
        "text/csv" => Rows::of_csv(&body)?,
        npy::MEDIA_TYPE => npy::rows(&body)?,
        other => {
            return Err(Fault::invalid(Code::BAD_BODY, format!("bodies of the type `{other}` are not read"))
                .fix(format!("send application/json, application/jsonlines, text/csv or {}", npy::MEDIA_TYPE)));
        }
    };
    let input = rows.input(&endpoint, version)?;
    let answered = predict(&plane, &name, Ask { input, at: None, explain: false, version, urgency: Urgency::default() }).await?;
    let values = scores::plain(&answered)?;
    let lines = |of: fn(&Value) -> String| values.iter().map(|value| of(value) + "\n").collect::<String>();
    let mut response = match wanted.as_str() {
        "text/csv" => plain(StatusCode::OK, "text/csv", lines(comma_separated)),
        "application/jsonlines" | "application/x-jsonlines" => plain(StatusCode::OK, "application/jsonlines", lines(Value::to_string)),
        npy::MEDIA_TYPE => plain(StatusCode::OK, npy::MEDIA_TYPE, array(&values)),
        _ => json(&json!({ "predictions": values, "prediction_ids": scores::ids(&answered) }))?,
    };
    // Of a request whose rows went several ways, that of the first.
    if let Some(first) = answered.predictions.first() {
        response.headers_mut().insert(INVOKED, HeaderValue::from_static(first.arm.as_str()));
    }
    Ok(response)
}

/// The version that an arm serves.
fn version_of(endpoint: &Endpoint, name: &str, variant: &str) -> Result<u64> {
    let arms = endpoint.arms();
    arms.iter().find(|(arm, _)| arm.as_str() == variant).map(|(_, id)| id.number).ok_or_else(|| {
        let known: Vec<String> = arms.iter().map(|(arm, _)| arm.as_str().to_owned()).collect();
        Fault::not_found(Code::UNKNOWN_MODEL, format!("endpoint `{name}` has no variant `{variant}`"))
            .fix(format!("it has {}", crate::plan::words(&known)))
    })
}

/// A number per row, or one per class of each.
fn array(values: &[Value]) -> Vec<u8> {
    let columns = values.first().and_then(Value::as_array).map(Vec::len);
    let numbers = values.iter().flat_map(|value| value.as_array().map_or(std::slice::from_ref(value), Vec::as_slice));
    npy::of(values.len(), columns, numbers.map(|number| number.as_f64().unwrap_or(f64::NAN)))
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
