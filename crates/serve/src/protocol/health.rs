//! `/healthz` and `/readyz`: for load balancers and orchestrators, so anybody may ask; they say yes or no, and no names.

use crate::plane::Plane;
use gristmill_web::{Method, Permission, Routes, StatusCode, json_status, route};
use serde_json::json;
use std::sync::Arc;

pub(super) fn routes(plane: &Arc<Plane>) -> Routes {
    let ready = plane.clone();
    Routes::new()
        .with(
            route(Method::GET, "/healthz", Permission::Public, |_| async { json_status(StatusCode::OK, &json!({ "status": "ok" })) })
                .about("Whether the process runs"),
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
            .about("Whether every deployed endpoint is loaded and the server is not stopping"),
        )
}
