//! From a fault to an answer: the status follows from the kind, exhaustively, so a new kind does not compile unmapped.
//!
//! What leaves is code, message, fix and an id. Causes, and messages that may name files or stored rows, stay in the log.

use crate::schema::{maybe, object, text};
use axum::response::{IntoResponse, Response};
use gristmill_kernel::{Code, Fault, Kind};
use http::{HeaderValue, StatusCode, header};
use serde_json::{Value, json};

/// How a protocol writes its errors: status, fault as the caller may see it, id.
pub type ErrorShape = fn(StatusCode, &Fault, &str) -> Value;

/// Which status a protocol gives to a failure. Most take [`status_of`] the kind.
pub type ErrorStatus = fn(&Fault) -> StatusCode;

/// The status of a kind of failure.
pub fn status_of(kind: Kind) -> StatusCode {
    match kind {
        Kind::Invalid => StatusCode::BAD_REQUEST,
        Kind::NotFound => StatusCode::NOT_FOUND,
        Kind::Conflict | Kind::Cancelled => StatusCode::CONFLICT,
        Kind::Unauthenticated => StatusCode::UNAUTHORIZED,
        Kind::Denied => StatusCode::FORBIDDEN,
        Kind::Busy => StatusCode::TOO_MANY_REQUESTS,
        Kind::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        Kind::Refused => StatusCode::UNPROCESSABLE_ENTITY,
        Kind::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        Kind::Timeout => StatusCode::GATEWAY_TIMEOUT,
        Kind::Damaged | Kind::Internal => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

/// Our own status of a failure.
pub fn error_status(fault: &Fault) -> StatusCode {
    status_of(fault.kind)
}

/// Our own error body.
pub fn error_body(_: StatusCode, fault: &Fault, id: &str) -> Value {
    json!({ "code": fault.code.0, "message": fault.message, "fix": fault.fix, "id": id })
}

/// What it looks like.
pub fn error_schema() -> Value {
    object([("code", text()), ("message", text()), ("fix", maybe(text())), ("id", text())])
}

/// The answer to a failure, with a protocol's status and in its shape. Logs the fault whole, under the id that the caller sees.
pub fn error_response(fault: &Fault, status: ErrorStatus, shape: ErrorShape, id: &str) -> Response {
    let status = status(fault);
    let cause = fault.source.as_ref().map(|e| e.to_string()).unwrap_or_default();
    // What is not there on purpose is no failure of ours.
    if status.is_server_error() && status != StatusCode::NOT_IMPLEMENTED {
        tracing::error!(id, code = fault.code.0, status = status.as_u16(), cause, "request failed: {fault}");
    } else {
        tracing::debug!(id, code = fault.code.0, status = status.as_u16(), cause, "request refused: {fault}");
    }
    let body = shape(status, &outward(fault), id);
    let mut response = (status, axum::Json(body)).into_response();
    let headers = response.headers_mut();
    if matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE) {
        headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    }
    if status == StatusCode::UNAUTHORIZED {
        headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"gristmill\""));
    }
    if let Ok(id) = HeaderValue::from_str(id) {
        headers.insert("x-request-id", id);
    }
    response
}

/// The fault as a remote caller may see it.
pub(crate) fn outward(fault: &Fault) -> Fault {
    let closed = |message: &str, fix: &str| Fault::new(fault.kind, fault.code, message).fix(fix);
    match (fault.kind, fault.code) {
        (Kind::Internal, _) => closed("something went wrong on this server", "look for the id in the server's log and report it"),
        (Kind::Damaged, _) => {
            closed("stored data cannot be read", "look for the id in the server's log; `gristmill doctor` checks the state")
        }
        (_, Code::IO) => closed("a file operation failed on this server", "look for the id in the server's log"),
        (_, Code::DISK_FULL) => closed("the server's disk is full", "free some space on the server; nothing acknowledged was lost"),
        _ => Fault {
            kind: fault.kind,
            code: fault.code,
            message: match &fault.spot {
                Some(spot) => format!("{}:{}:{}: {}", spot.file, spot.line, spot.column, fault.message),
                None => fault.message.clone(),
            },
            fix: fault.fix.clone(),
            spot: None,
            source: None,
        },
    }
}
