//! The Open Inference Protocol, version 2, over REST, with Triton's binary tensor extension.
//!
//! A model of the protocol is one of our endpoints; its versions are the model versions that the endpoint serves just now. Inputs are one of:
//! tensors named like the entity's columns (features are read, as `/predict` does), tensors named like the features (`view.column`, or
//! `column` where that is unique), or one numeric matrix `[rows, features]` of encoded features.
//! Decided where the text is ambiguous: a model that is not there is 404; `ready` answers 200 or 503, with a body that says which.

mod tensor;

use crate::plane::{Endpoint, Plane};
use crate::predict::{Answered, Ask, Input, predict};
use gristmill_kernel::model::Task;
use gristmill_kernel::{Code, Fault, Kind, Result};
use gristmill_web::{Body, Call, HeaderValue, Method, Permission, Response, Route, Routes, StatusCode, header, json, json_status, route};
use serde_json::{Value, json};
use std::sync::Arc;
use tensor::{Data, InferRequest, Tensor};

/// The header that says how long the JSON part of a binary body is.
const JSON_LENGTH: &str = "inference-header-content-length";

pub(super) fn routes(plane: &Arc<Plane>) -> Routes {
    let shape = |route: Route| route.errors(|_, fault, _| json!({ "error": full_text(fault) }));
    let on = |method: Method, path: &str, permission, about: &str, answer: fn(Arc<Plane>, Call) -> Answer| {
        let plane = plane.clone();
        shape(route(method, path, permission, move |call| answer(plane.clone(), call)).about(about))
    };
    let get = Method::GET;
    Routes::from(vec![
        on(get.clone(), "/v2", Permission::Public, "Open Inference Protocol: about this server", |_, _| Box::pin(async { about_server() })),
        on(get.clone(), "/v2/health/live", Permission::Public, "Open Inference Protocol: whether the server runs", |_, _| {
            Box::pin(async { json(&json!({ "live": true })) })
        }),
        on(get.clone(), "/v2/health/ready", Permission::Public, "Open Inference Protocol: whether the server answers", |plane, _| {
            Box::pin(async move { ready(plane.health().ready) })
        }),
        on(get.clone(), "/v2/models", Permission::Predict, "Open Inference Protocol: the models", |plane, _| {
            Box::pin(async move { json(&json!({ "models": plane.snapshot().endpoints.keys().collect::<Vec<_>>() })) })
        }),
        on(get.clone(), "/v2/models/{model}", Permission::Predict, "Open Inference Protocol: about a model", |plane, call| {
            Box::pin(async move { about_model(&plane, &call, None) })
        }),
        on(
            get.clone(),
            "/v2/models/{model}/versions/{version}",
            Permission::Predict,
            "Open Inference Protocol: about a version",
            |plane, call| Box::pin(async move { about_model(&plane, &call, Some(version_of(&call)?)) }),
        ),
        on(
            get.clone(),
            "/v2/models/{model}/ready",
            Permission::Predict,
            "Open Inference Protocol: whether a model answers",
            |plane, call| Box::pin(async move { model_ready(&plane, &call, None) }),
        ),
        on(
            get,
            "/v2/models/{model}/versions/{version}/ready",
            Permission::Predict,
            "Open Inference Protocol: whether a version answers",
            |plane, call| Box::pin(async move { model_ready(&plane, &call, Some(version_of(&call)?)) }),
        ),
        on(Method::POST, "/v2/models/{model}/infer", Permission::Predict, "Open Inference Protocol: predict", |plane, call| {
            Box::pin(async move { infer(&plane, call, None).await })
        }),
        on(
            Method::POST,
            "/v2/models/{model}/versions/{version}/infer",
            Permission::Predict,
            "Open Inference Protocol: predict with one version",
            |plane, call| {
                Box::pin(async move {
                    let version = version_of(&call)?;
                    infer(&plane, call, Some(version)).await
                })
            },
        ),
    ])
}

type Answer = futures::future::BoxFuture<'static, Result<Response>>;

/// The protocol has one field for what we say in two.
fn full_text(fault: &Fault) -> String {
    match &fault.fix {
        Some(fix) => format!("{} [{}]; fix: {fix}", fault.message, fault.code),
        None => format!("{} [{}]", fault.message, fault.code),
    }
}

fn about_server() -> Result<Response> {
    json(&json!({ "name": "gristmill", "version": env!("CARGO_PKG_VERSION"), "extensions": ["binary_tensor_data"] }))
}

fn ready(ready: bool) -> Result<Response> {
    json_status(if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }, &json!({ "ready": ready }))
}

fn version_of(call: &Call) -> Result<u64> {
    let text = call.param("version")?;
    text.parse().map_err(|_| Fault::not_found(Code::UNKNOWN_MODEL, format!("`{text}` is not a version")).fix("versions are numbers from 1"))
}

fn served(plane: &Plane, call: &Call, version: Option<u64>) -> Result<Arc<Endpoint>> {
    let (name, endpoint) = plane.endpoint(call.param("model")?)?;
    match version {
        Some(number) if endpoint.arms().iter().all(|(_, id)| id.number != number) => {
            Err(Fault::not_found(Code::UNKNOWN_MODEL, format!("endpoint `{name}` does not serve version {number}"))
                .fix(format!("GET /v2/models/{name} lists the versions")))
        }
        _ => Ok(endpoint),
    }
}

fn model_ready(plane: &Plane, call: &Call, version: Option<u64>) -> Result<Response> {
    match served(plane, call, version) {
        Ok(_) => json(&json!({ "name": call.param("model")?, "ready": true })),
        Err(fault) if fault.kind == Kind::Unavailable => ready(false),
        Err(fault) => Err(fault),
    }
}

fn about_model(plane: &Plane, call: &Call, version: Option<u64>) -> Result<Response> {
    let endpoint = served(plane, call, version)?;
    let arm =
        endpoint.arms().into_iter().find(|(_, id)| Some(id.number) == version).map_or(gristmill_kernel::prediction::Arm::Stable, |a| a.0);
    let model = endpoint.model(arm);
    let inputs: Vec<Value> = model
        .shape
        .features
        .iter()
        .map(|feature| {
            use gristmill_kernel::view::FeatureType::{Boolean, Category, Number};
            let datatype = match feature.kind {
                Number => "FP64",
                Boolean => "BOOL",
                Category => "BYTES",
            };
            json!({ "name": model.shape.input_name(feature), "datatype": datatype, "shape": [-1] })
        })
        .collect();
    let mut outputs = vec![json!({ "name": "score", "datatype": "FP64", "shape": [-1] })];
    if matches!(model.shape.task, Task::Binary | Task::Multiclass) {
        outputs.push(json!({ "name": "outcome", "datatype": "BYTES", "shape": [-1] }));
    }
    if model.shape.task == Task::Multiclass {
        outputs.push(json!({ "name": "probabilities", "datatype": "FP64", "shape": [-1, model.shape.outputs] }));
    }
    outputs.push(json!({ "name": "prediction_id", "datatype": "BYTES", "shape": [-1] }));
    json(&json!({
        "name": call.param("model")?,
        "versions": endpoint.arms().iter().map(|(_, id)| id.number.to_string()).collect::<Vec<_>>(),
        "platform": format!("gristmill_{}", model.shape.platform),
        "inputs": inputs,
        "outputs": outputs,
        "parameters": { "entity": endpoint.spec.entity, "classes": model.shape.classes },
    }))
}

async fn infer(plane: &Plane, call: Call, version: Option<u64>) -> Result<Response> {
    let endpoint = served(plane, &call, version)?;
    let name = call.param("model")?.to_owned();
    if let Some(coding) = call.header("content-encoding").filter(|c| *c != "identity") {
        return Err(Fault::invalid(Code::BAD_BODY, format!("bodies in the coding `{coding}` are not read")).fix("send it uncompressed"));
    }
    let json_length = match call.header(JSON_LENGTH) {
        None => None,
        Some(text) => Some(text.parse::<usize>().map_err(|_| {
            Fault::invalid(Code::BAD_BODY, format!("the header {JSON_LENGTH} is `{text}`, not a number"))
                .fix("send the length of the JSON part in bytes")
        })?),
    };
    let request = InferRequest::read(&call.bytes().await?, json_length)?;
    let input = input_of(&endpoint, &request, version)?;
    let answered = predict(plane, &name, Ask { input, at: None, explain: false, version }).await?;
    reply(&endpoint, &request, answered)
}

/// What the tensors are: the entity, the features, or a matrix of numbers.
fn input_of(endpoint: &Endpoint, request: &InferRequest, version: Option<u64>) -> Result<Input> {
    let spec = &endpoint.spec;
    let named = |name: &str| request.inputs.iter().find(|t| t.name == name);
    if !spec.entity.is_empty() && spec.entity.iter().all(|column| named(column).is_some()) {
        return Ok(Input::Entities(tensor::rows_of(&request.inputs)?));
    }
    let arm =
        endpoint.arms().into_iter().find(|(_, id)| Some(id.number) == version).map_or(gristmill_kernel::prediction::Arm::Stable, |a| a.0);
    let model = endpoint.model(arm);
    let features = &model.shape.features;
    if let [only] = request.inputs.as_slice() {
        let is_matrix = only.shape.len() == 2 && only.shape[1] == features.len();
        if let (true, Some(matrix)) = (is_matrix, only.data.numbers()) {
            return Ok(Input::Encoded { rows: only.shape[0], matrix });
        }
    }
    // Any feature that is named and that some arm reads; the model itself says which one is missing.
    let mut columns: Vec<(String, &Tensor)> = Vec::new();
    for tensor in &request.inputs {
        let hits: Vec<_> =
            features.iter().filter(|f| f.column == tensor.name || format!("{}.{}", f.view, f.column) == tensor.name).collect();
        match hits.as_slice() {
            [feature] => columns.push((format!("{}.{}", feature.view, feature.column), tensor)),
            [] if tensor.name.contains('.') => columns.push((tensor.name.clone(), tensor)),
            _ => {
                let known: Vec<String> = features.iter().map(|f| model.shape.input_name(f)).collect();
                let known = format!("{}; or one matrix [rows, {}]", crate::plan::words(&known), features.len());
                let (what, fix) = match model.shape.asks_request() {
                    true => ("no input of the model", format!("send {known}")),
                    false => ("neither the entity nor one feature", format!("send {}; or {known}", crate::plan::words(&spec.entity))),
                };
                return Err(Fault::invalid(Code::MISSING_INPUT, format!("the input `{}` is {what}", tensor.name)).fix(fix));
            }
        }
    }
    Ok(Input::Features(tensor::batch_of(&columns)?))
}

fn reply(endpoint: &Endpoint, request: &InferRequest, answered: Answered) -> Result<Response> {
    let mut scored = Vec::with_capacity(answered.predictions.len());
    for (row, prediction) in answered.predictions.iter().enumerate() {
        // The protocol has no place for the failure of one row.
        scored.push(prediction.scored.as_ref().ok_or_else(|| {
            Fault::new(Kind::Internal, Code::BAD_MODEL, format!("row {row} could not be scored, see prediction {}", prediction.id))
        })?);
    }
    let rows = scored.len();
    let tensor = |name: &str, shape: Vec<usize>, data: Data| Tensor { name: name.to_owned(), shape, data };
    let mut outputs = vec![tensor("score", vec![rows], Data::F64(scored.iter().map(|s| s.score).collect()))];
    if let Some(words) = scored.iter().map(|s| s.outcome.clone()).collect::<Option<Vec<String>>>() {
        outputs.push(tensor("outcome", vec![rows], Data::Text(words)));
    }
    if endpoint.stable.shape.task == Task::Multiclass {
        let width = scored.first().map_or(0, |s| s.outputs.len());
        outputs.push(tensor("probabilities", vec![rows, width], Data::F64(scored.iter().flat_map(|s| s.outputs.clone()).collect())));
    }
    outputs.push(tensor("prediction_id", vec![rows], Data::Text(answered.predictions.iter().map(|p| p.id.clone()).collect())));
    let wanted = request.wanted(&outputs)?;
    let mut versions: Vec<u64> = answered.predictions.iter().map(|p| p.model.number).collect();
    versions.sort_unstable();
    versions.dedup();
    let mut head = json!({
        "model_name": answered.endpoint,
        "model_version": versions.iter().map(u64::to_string).collect::<Vec<_>>().join(","),
        "parameters": { "as_of": answered.as_of },
    });
    if let Some(id) = &request.id {
        head["id"] = id.as_str().into();
    }
    let (described, binary) = tensor::write(&wanted)?;
    head["outputs"] = described.into();
    if binary.is_empty() {
        return json(&head);
    }
    let mut body = serde_json::to_vec(&head).map_err(|e| Fault::internal("an answer does not serialise").because(e))?;
    let json_length = HeaderValue::from(body.len());
    body.extend_from_slice(&binary);
    let mut response = Response::new(Body::from(body));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    response.headers_mut().insert(JSON_LENGTH, json_length);
    Ok(response)
}
