//! The Open Inference Protocol, version 2, over REST and gRPC, with Triton's extensions for binary tensors, statistics and the repository.
//!
//! A model of the protocol is one of our endpoints; its versions are the model versions that the endpoint serves just now. Inputs are one of:
//! tensors named like the entity's columns (features are read, as `/predict` does), tensors named like the features (`view.column`, or
//! `column` where that is unique), or one numeric matrix `[rows, features]` of encoded features.
//! Decided where the text is ambiguous: a model that is not there is 404; `ready` answers 200 or 503, with a body that says which.

mod coding;
mod grpc;
mod model;
mod repository;
mod tensor;
mod told;
mod wire;

use crate::plane::Plane;
use coding::Coding;
use gristmill_kernel::{Code, Fault, Kind, Result};
use gristmill_web::schema::{either, flag, list, object, text};
use gristmill_web::{Body, Call, HeaderValue, Method, Permission, Response, Route, Routes, StatusCode, header, json, json_status, route};
use model::{About, Inferred, served};
use serde_json::json;
use std::sync::Arc;
use tensor::InferRequest;

/// What of Triton's extensions is answered.
const EXTENSIONS: [&str; 3] = ["binary_tensor_data", "model_repository", "statistics"];

/// The header that says how long the JSON part of a binary body is.
const JSON_LENGTH: &str = "inference-header-content-length";

pub(super) fn routes(plane: &Arc<Plane>) -> Routes {
    let on = |method: Method, path: &str, permission, about: &str, answer: fn(Arc<Plane>, Call) -> Answer| {
        let plane = plane.clone();
        shaped(route(method, path, permission, move |call| answer(plane.clone(), call)).about(about))
    };
    let get = Method::GET;
    let asked = Routes::from(vec![
        on(get.clone(), "/v2", Permission::Public, "Open Inference Protocol: about this server", |_, _| Box::pin(async { about_server() }))
            .gives(told::server()),
        on(get.clone(), "/v2/health/live", Permission::Public, "Open Inference Protocol: whether the server runs", |_, _| {
            Box::pin(async { json(&json!({ "live": true })) })
        })
        .gives(object([("live", flag())])),
        on(get.clone(), "/v2/health/ready", Permission::Public, "Open Inference Protocol: whether the server answers", |plane, _| {
            Box::pin(async move { ready(plane.health().ready) })
        })
        .gives(told::ready())
        .gives_status(StatusCode::SERVICE_UNAVAILABLE, either(&[told::ready(), object([("error", text())])])),
        on(get.clone(), "/v2/models", Permission::Predict, "Open Inference Protocol: the models", |plane, _| {
            Box::pin(async move { json(&json!({ "models": plane.snapshot().endpoints.keys().collect::<Vec<_>>() })) })
        })
        .gives(object([("models", list(text()))])),
        on(get.clone(), "/v2/models/{model}", Permission::Predict, "Open Inference Protocol: about a model", |plane, call| {
            Box::pin(async move { about_model(&plane, &call, None) })
        })
        .gives(About::schema()),
        on(
            get.clone(),
            "/v2/models/{model}/versions/{version}",
            Permission::Predict,
            "Open Inference Protocol: about a version",
            |plane, call| Box::pin(async move { about_model(&plane, &call, Some(version_of(&call)?)) }),
        )
        .gives(About::schema()),
        on(
            get.clone(),
            "/v2/models/{model}/ready",
            Permission::Predict,
            "Open Inference Protocol: whether a model answers",
            |plane, call| Box::pin(async move { model_ready(&plane, &call, None) }),
        )
        .gives(told::model_ready())
        .gives_status(StatusCode::SERVICE_UNAVAILABLE, either(&[told::ready(), object([("error", text())])])),
        on(
            get,
            "/v2/models/{model}/versions/{version}/ready",
            Permission::Predict,
            "Open Inference Protocol: whether a version answers",
            |plane, call| Box::pin(async move { model_ready(&plane, &call, Some(version_of(&call)?)) }),
        )
        .gives(told::model_ready())
        .gives_status(StatusCode::SERVICE_UNAVAILABLE, either(&[told::ready(), object([("error", text())])])),
        told::inferring(on(
            Method::POST,
            "/v2/models/{model}/infer",
            Permission::Predict,
            "Open Inference Protocol: predict",
            |plane, call| Box::pin(async move { infer(&plane, call, None).await }),
        )),
        told::inferring(on(
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
        )),
    ]);
    asked.merge(repository::routes(plane)).merge(grpc::routes(plane))
}

/// Errors in the protocol's one field.
fn shaped(route: Route) -> Route {
    route.errors(|_, fault, _| json!({ "error": super::one_line(fault) }), super::ERROR)
}

type Answer = futures::future::BoxFuture<'static, Result<Response>>;

const NAME: &str = "gristmill";
const VERSION: &str = env!("CARGO_PKG_VERSION");

fn about_server() -> Result<Response> {
    json(&json!({ "name": NAME, "version": VERSION, "extensions": EXTENSIONS }))
}

fn ready(ready: bool) -> Result<Response> {
    json_status(if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }, &json!({ "ready": ready }))
}

fn version_of(call: &Call) -> Result<u64> {
    model::version(call.param("version")?)
}

fn model_ready(plane: &Plane, call: &Call, version: Option<u64>) -> Result<Response> {
    match served(plane, call.param("model")?, version) {
        Ok(_) => json(&json!({ "name": call.param("model")?, "ready": true })),
        Err(fault) if fault.kind == Kind::Unavailable => ready(false),
        Err(fault) => Err(fault),
    }
}

fn about_model(plane: &Plane, call: &Call, version: Option<u64>) -> Result<Response> {
    json(&About::of(plane, call.param("model")?, version)?)
}

async fn infer(plane: &Plane, call: Call, version: Option<u64>) -> Result<Response> {
    let name = call.param("model")?.to_owned();
    let endpoint = served(plane, &name, version)?;
    let (sent, wanted) = (Coding::of_body(&call)?, Coding::of_answer(&call));
    let json_length = match call.header(JSON_LENGTH) {
        None => None,
        Some(text) => Some(text.parse::<usize>().map_err(|_| {
            Fault::invalid(Code::BAD_BODY, format!("the header {JSON_LENGTH} is `{text}`, not a number"))
                .fix("send the length of the JSON part in bytes")
        })?),
    };
    if let Err(fault) = plane.has_room(&name) {
        return Err(call.refuse(fault).await);
    }
    let body = sent.read(call.bytes().await?)?;
    let request = InferRequest::read(&body, json_length)?;
    let inferred = model::infer(plane, &endpoint, &name, version, &request.inputs, request.urgency).await?;
    wanted.written(reply(&request, &inferred)?).await
}

/// The JSON part of an answer.
#[derive(serde::Serialize)]
struct Reply<'a> {
    model_name: &'a str,
    model_version: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a str>,
    parameters: AsOf<'a>,
    outputs: Vec<tensor::Written<'a>>,
}

#[derive(serde::Serialize)]
struct AsOf<'a> {
    as_of: &'a str,
}

fn reply(request: &InferRequest, inferred: &Inferred) -> Result<Response> {
    let wanted = request.wanted(&inferred.outputs)?;
    let (outputs, binary) = tensor::write(&wanted)?;
    let head = Reply {
        model_name: &inferred.model,
        model_version: &inferred.versions,
        id: request.id.as_deref(),
        parameters: AsOf { as_of: &inferred.as_of },
        outputs,
    };
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
