//! Vertex AI's containers: the two routes whose paths the platform chooses. What is sent and answered there is TensorFlow Serving's form of rows,
//! which [`super::v1`] has.
//!
//! Source: <https://cloud.google.com/vertex-ai/docs/predictions/custom-container-requirements>.

use super::{only_endpoint, v1};
use crate::plane::Plane;
use gristmill_kernel::{Code, Fault, Result};
use gristmill_web::schema::{flag, object};
use gristmill_web::{Method, Permission, Routes, StatusCode, error_schema, json_status, route};
use serde_json::json;
use std::sync::Arc;

/// Where the platform asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VertexPaths {
    /// Whether the server answers: `AIP_HEALTH_ROUTE`.
    pub health: String,
    /// For predictions: `AIP_PREDICT_ROUTE`.
    pub predict: String,
}

/// The routes at the platform's paths. One that is among `ours` stays as it is: the platform was told to ask there.
pub fn vertex_routes(plane: &Arc<Plane>, paths: &VertexPaths, ours: &Routes) -> Result<Routes> {
    let mut routes = Routes::new();
    if wanted(ours, &Method::GET, &paths.health)? {
        let plane = plane.clone();
        let health = route(Method::GET, &paths.health, Permission::Public, move |_| {
            let ready = plane.health().ready;
            async move { json_status(if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }, &json!({ "ready": ready })) }
        });
        let ready = || object([("ready", flag())]);
        let health = health.about("Vertex AI: whether every deployed endpoint answers").gives(ready());
        routes =
            routes.with(health.gives_status(StatusCode::SERVICE_UNAVAILABLE, gristmill_web::schema::either(&[ready(), error_schema()])));
    }
    if wanted(ours, &Method::POST, &paths.predict)? {
        let plane = plane.clone();
        let handler = move |call| {
            let plane = plane.clone();
            async move {
                let fix = "deploy one endpoint in this container, or let Vertex AI ask for /v1/models/NAME:predict";
                let name = only_endpoint(&plane, fix)?;
                v1::predict_by(&plane, &name, call).await
            }
        };
        routes = routes.with(v1::asked(route(Method::POST, &paths.predict, Permission::Predict, handler).about("Vertex AI: predictions")));
    }
    Ok(routes)
}

/// Whether a path needs a route of its own; one that is no path is refused.
fn wanted(ours: &Routes, method: &Method, path: &str) -> Result<bool> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/-_.~:".contains(c);
    if !path.starts_with('/') || path.contains("//") || !path.chars().all(plain) {
        return Err(Fault::invalid(Code::BAD_VALUE, format!("`{path}` is not a path that a server can answer at"))
            .fix("give Vertex AI's container routes such as /health and /predict"));
    }
    Ok(!ours.answers(method, path))
}

#[cfg(test)]
mod tests {
    use super::*;
    use gristmill_web::json;

    fn some(method: Method, path: &str) -> Routes {
        Routes::new().with(route(method, path, Permission::Public, |_| async { json(&"there") }))
    }

    #[test]
    fn a_path_that_is_answered_already_gets_no_second_route() {
        let ours = some(Method::POST, "/v1/models/{model}");
        for (path, is_wanted) in [
            ("/v1/models/churn:predict", false),
            ("/v1/models", true),
            ("/v1/models/a/b", true),
            ("/v1/endpoints/7/deployedModels/8:predict", true),
        ] {
            assert_eq!(wanted(&ours, &Method::POST, path).expect("a path"), is_wanted, "{path}");
        }
        assert!(wanted(&ours, &Method::GET, "/v1/models/churn").expect("a path"), "another method is another route");
        assert!(!wanted(&some(Method::GET, "/files/{*path}"), &Method::GET, "/files/a/b").expect("a path"));
        for path in ["", "health", "/a{b}", "/a b", "//host/health"] {
            assert!(wanted(&ours, &Method::GET, path).expect_err("no path").fix.is_some(), "{path}");
        }
    }
}
