//! Triton's extensions for operators, over REST: what is there, its configuration, what it did.

use super::model::{self, About, Did};
use super::{Answer, shaped, told, version_of};
use crate::plane::Plane;
use gristmill_kernel::Result;
use gristmill_web::schema::{flag, object, open};
use gristmill_web::{Call, Method, Permission, Response, Route, Routes, json, route};
use serde_json::{Value, json};
use std::sync::Arc;

pub(super) fn routes(plane: &Arc<Plane>) -> Routes {
    let on = |method: Method, path: &str, permission, about: &str, answer: fn(Arc<Plane>, Call) -> Answer| -> Route {
        let plane = plane.clone();
        shaped(route(method, path, permission, move |call| answer(plane.clone(), call)).about(about))
    };
    let (get, post, see) = (Method::GET, Method::POST, Permission::Predict);
    Routes::from(vec![
        on(post.clone(), "/v2/repository/index", see, "Triton: the models of the repository", |plane, call| {
            Box::pin(async move {
                let asked: Value = serde_json::from_slice(&call.bytes().await?).unwrap_or_default();
                json(&model::index(&plane, asked["ready"] == true))
            })
        })
        .takes(open([("ready?", flag())]))
        .gives(told::index()),
        on(
            post.clone(),
            "/v2/repository/models/{model}/load",
            Permission::SubmitRun,
            "Triton: look for a newer deployment",
            |plane, call| {
                Box::pin(async move {
                    model::load(&plane, call.param("model")?).await?;
                    json(&json!({}))
                })
            },
        )
        .gives(object([])),
        on(post, "/v2/repository/models/{model}/unload", Permission::SubmitRun, "Triton: refused, deployments decide", |plane, call| {
            Box::pin(async move {
                model::unload(&plane, call.param("model")?)?;
                json(&json!({}))
            })
        })
        .gives(object([])),
        on(get.clone(), "/v2/models/stats", see, "Triton: what all models did", |plane, _| {
            Box::pin(async move { stats(&plane, None, None) })
        })
        .gives(told::statistics()),
        on(get.clone(), "/v2/models/{model}/stats", see, "Triton: what a model did", |plane, call| {
            Box::pin(async move { stats(&plane, Some(call.param("model")?), None) })
        })
        .gives(told::statistics()),
        on(get.clone(), "/v2/models/{model}/versions/{version}/stats", see, "Triton: what a version did", |plane, call| {
            Box::pin(async move { stats(&plane, Some(call.param("model")?), Some(version_of(&call)?)) })
        })
        .gives(told::statistics()),
        on(get.clone(), "/v2/models/{model}/config", see, "Triton: the configuration of a model", |plane, call| {
            Box::pin(async move { config(&plane, &call, None) })
        })
        .gives(told::config()),
        on(get, "/v2/models/{model}/versions/{version}/config", see, "Triton: the configuration of a version", |plane, call| {
            Box::pin(async move { config(&plane, &call, Some(version_of(&call)?)) })
        })
        .gives(told::config()),
    ])
}

fn stats(plane: &Plane, name: Option<&str>, version: Option<u64>) -> Result<Response> {
    let duration = |count: u64, ns: u64| json!({ "count": count, "ns": ns });
    let one = |did: Did| {
        json!({
            "name": did.name,
            "version": did.version,
            "last_inference": did.last_ms,
            "inference_count": did.inferences,
            "execution_count": did.executions,
            // Nothing waits in a queue, and what is read and written is in the time of the request.
            "inference_stats": {
                "success": duration(did.requests, did.ns),
                "fail": duration(did.failures, 0),
                "queue": duration(0, 0),
                "compute_input": duration(0, 0),
                "compute_infer": duration(did.requests, did.ns),
                "compute_output": duration(0, 0),
                "cache_hit": duration(0, 0),
                "cache_miss": duration(0, 0),
            },
            "batch_stats": [],
            "memory_usage": [],
        })
    };
    json(&json!({ "model_stats": model::statistics(plane, name, version)?.into_iter().map(one).collect::<Vec<_>>() }))
}

fn config(plane: &Plane, call: &Call, version: Option<u64>) -> Result<Response> {
    let about = About::of(plane, call.param("model")?, version)?;
    let tensor = |t: &model::Described| json!({ "name": t.name, "data_type": type_word(t.datatype), "dims": t.shape });
    json(&json!({
        "name": about.name,
        "platform": about.platform,
        "backend": super::NAME,
        "max_batch_size": 0,
        "version_policy": { "specific": { "versions": about.versions } },
        "input": about.inputs.iter().map(tensor).collect::<Vec<_>>(),
        "output": about.outputs.iter().map(tensor).collect::<Vec<_>>(),
    }))
}

/// A datatype as configurations write it.
fn type_word(datatype: &str) -> String {
    if datatype == "BYTES" { "TYPE_STRING".to_owned() } else { format!("TYPE_{datatype}") }
}
