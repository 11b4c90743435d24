//! How Feast's feature server words its failures. Reading features and writing rows are two stages' routes; the words are the same.

use crate::error::status_of;
use crate::route::{ErrorSchema, Route};
use crate::schema::text;
use gristmill_kernel::{Code, Fault, Kind};
use http::StatusCode;
use serde_json::Value;

/// A route whose failures are Feast's, those from before the handler too.
pub fn shaped(route: Route) -> Route {
    route.errors(body, ErrorSchema { name: "FeastError", schema: text }).error_status(status)
}

/// Feast answers what it does not know with 404, wrong input with 422.
fn status(fault: &Fault) -> StatusCode {
    match fault.kind {
        Kind::Invalid => StatusCode::UNPROCESSABLE_ENTITY,
        kind => status_of(kind),
    }
}

/// A text of JSON, which the SDK turns into the error of its own that it names.
fn body(_: StatusCode, fault: &Fault, id: &str) -> Value {
    let class = match fault.code {
        Code::UNKNOWN_NAME => "FeatureViewNotFoundException",
        Code::UNKNOWN_COLUMN => "SpecifiedFeaturesNotPresentError",
        Code::UNKNOWN_ENDPOINT => "FeatureServiceNotFoundException",
        _ if matches!(fault.kind, Kind::Denied | Kind::Unauthenticated) => "FeastPermissionError",
        _ => "FeastError",
    };
    let fix = fault.fix.as_ref().map(|fix| format!(" ({fix})")).unwrap_or_default();
    let told = serde_json::json!({ "module": "feast.errors", "class": class, "message": format!("{}{fix}", fault.message), "id": id });
    Value::String(told.to_string())
}
