//! What clients ask before they begin: is somebody there, which version, what can it do.

use super::Mlflow;
use super::error::shaped;
use gristmill_kernel::Result;
use gristmill_web::{Call, Method, Permission, Response, Routes, StatusCode, json, plain, route};
use serde_json::json;
use std::sync::Arc;

/// The version of MLflow whose protocol this is. Clients choose their requests by it.
pub const PROTOCOL_VERSION: &str = "3.17.2";

pub(super) fn routes(m: &Arc<Mlflow>) -> Routes {
    let get = &Method::GET;
    let text = |path: &str, media_type: &'static str, text: &'static str| {
        let answer = move |_: Call| async move { Ok(plain(StatusCode::OK, media_type, text)) };
        shaped(route(Method::GET, path, Permission::Public, answer)).gives_media(media_type)
    };
    let mut routes = vec![
        text("/health", "text/plain; charset=utf-8", "OK").about("MLflow: whether the server answers"),
        text("/version", "text/html; charset=utf-8", PROTOCOL_VERSION).about("MLflow: the version whose protocol this is"),
    ];
    // Like MLflow's own, without a login: clients ask this to learn how to log in. It tells nothing about the project.
    routes.extend(super::v3(m, get, "/mlflow/server-info", Permission::Public, info));
    routes.extend(super::v3(m, get, "/mlflow/server-features", Permission::Public, info));
    routes.push(super::at(m, get, "/ajax-api/3.0/mlflow/ui-telemetry", Permission::Public, telemetry));
    routes.push(super::at(m, &Method::POST, "/ajax-api/3.0/mlflow/ui-telemetry", Permission::Public, telemetry));
    routes.into()
}

async fn info(_: Arc<Mlflow>, _: Call) -> Result<Response> {
    json(&json!({
        "store_type": "SqlStore",
        "workspaces_enabled": false,
        "trace_archival_enabled": false,
        "multipart_uploads_enabled": true,
        "multipart_downloads_enabled": true,
        "presigned_upload_run_id_supported": true,
        "presigned_upload_model_id_supported": true,
        "features_enabled": { "gateway": false },
    }))
}

/// Nobody is told anything.
async fn telemetry(_: Arc<Mlflow>, _: Call) -> Result<Response> {
    json(&json!({ "disable_ui_telemetry": true, "disable_ui_events": [], "ui_rollout_percentage": 0 }))
}
