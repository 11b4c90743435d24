//! `/healthz` and `/readyz`: for load balancers and orchestrators, so anybody may ask; they say yes or no, and no names.

use crate::plane::Plane;
use gristmill_web::schema::{either, object, one_of, whole};
use gristmill_web::{Method, Permission, Routes, StatusCode, error_schema, json_status, route};
use serde_json::json;
use std::sync::Arc;

pub(super) fn routes(plane: &Arc<Plane>) -> Routes {
    let ready = plane.clone();
    Routes::new()
        .with(
            route(Method::GET, "/healthz", Permission::Public, |_| async { json_status(StatusCode::OK, &json!({ "status": "ok" })) })
                .about("Whether the process runs")
                .gives(object([("status", one_of(&["ok"]))])),
        )
        .with(
            route(Method::GET, "/readyz", Permission::Public, move |_| {
                let health = ready.health();
                async move {
                    let (status, word) = match (health.ready, health.draining) {
                        (true, _) => (StatusCode::OK, "ready"),
                        (false, true) => (StatusCode::SERVICE_UNAVAILABLE, "stopping"),
                        (false, false) => (StatusCode::SERVICE_UNAVAILABLE, "loading"),
                    };
                    json_status(status, &json!({ "status": word, "endpoints": health.endpoints.len() }))
                }
            })
            .about("Whether every deployed endpoint is loaded and the server is not stopping")
            .gives(state())
            .gives_status(StatusCode::SERVICE_UNAVAILABLE, either(&[state(), error_schema()])),
        )
}

fn state() -> serde_json::Value {
    object([("status", one_of(&["ready", "stopping", "loading"])), ("endpoints", whole())])
}
