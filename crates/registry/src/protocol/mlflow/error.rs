//! From a fault to what an MLflow client reads: `{"error_code", "message"}` and the status that belongs to the word.
//!
//! Promise: there is one table, [`word`]. Clients decide by the word and the status (a missing experiment is what makes `set_experiment`
//! create one), and people read the message, which is MLflow's own wherever its clients look at it.

use gristmill_kernel::{Code, Fault, Kind};
use gristmill_web::schema::{open, text};
use gristmill_web::{ErrorSchema, Route, StatusCode};
use serde_json::{Value, json};

/// The words of MLflow's error bodies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Word {
    /// A parameter is wrong.
    InvalidParameterValue,
    /// A name is taken.
    ResourceAlreadyExists,
    /// The named thing is not there.
    ResourceDoesNotExist,
    /// The path is not one of ours.
    EndpointNotFound,
    /// The state does not allow it.
    ResourceConflict,
    /// No or wrong credentials.
    Unauthenticated,
    /// The credentials do not allow it.
    PermissionDenied,
    /// Too much at once.
    RequestLimitExceeded,
    /// Not part of this server.
    NotImplemented,
    /// A part of the server is away.
    TemporarilyUnavailable,
    /// It took too long.
    DeadlineExceeded,
    /// Stopped on request.
    Cancelled,
    /// Stored data cannot be read.
    DataLoss,
    /// A bug of ours.
    InternalError,
}

impl Word {
    /// As it is written in a body.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Word::InvalidParameterValue => "INVALID_PARAMETER_VALUE",
            Word::ResourceAlreadyExists => "RESOURCE_ALREADY_EXISTS",
            Word::ResourceDoesNotExist => "RESOURCE_DOES_NOT_EXIST",
            Word::EndpointNotFound => "ENDPOINT_NOT_FOUND",
            Word::ResourceConflict => "RESOURCE_CONFLICT",
            Word::Unauthenticated => "UNAUTHENTICATED",
            Word::PermissionDenied => "PERMISSION_DENIED",
            Word::RequestLimitExceeded => "REQUEST_LIMIT_EXCEEDED",
            Word::NotImplemented => "NOT_IMPLEMENTED",
            Word::TemporarilyUnavailable => "TEMPORARILY_UNAVAILABLE",
            Word::DeadlineExceeded => "DEADLINE_EXCEEDED",
            Word::Cancelled => "CANCELLED",
            Word::DataLoss => "DATA_LOSS",
            Word::InternalError => "INTERNAL_ERROR",
        }
    }

    /// What MLflow adds to the word: a state as SQL has them, and a class. Not every word has them.
    fn class(self) -> Option<(&'static str, &'static str)> {
        match self {
            Word::InvalidParameterValue => Some(("KAM00", "INVALID_PARAMETER_VALUE")),
            Word::ResourceAlreadyExists => Some(("KAM00", "RESOURCE_ALREADY_EXISTS")),
            Word::ResourceDoesNotExist | Word::EndpointNotFound => Some(("KAM00", "RESOURCE_NOT_FOUND")),
            Word::PermissionDenied => Some(("KAM00", "PERMISSION_DENIED")),
            Word::TemporarilyUnavailable | Word::InternalError => Some(("XXM00", "CLIENT_INTERNAL_ERROR")),
            Word::ResourceConflict
            | Word::Unauthenticated
            | Word::RequestLimitExceeded
            | Word::NotImplemented
            | Word::DeadlineExceeded
            | Word::Cancelled
            | Word::DataLoss => None,
        }
    }

    /// The status that goes with it. Clients try again on 429, 500, 503 and 504.
    fn status(self) -> u16 {
        match self {
            Word::InvalidParameterValue | Word::ResourceAlreadyExists => 400,
            Word::Unauthenticated => 401,
            Word::PermissionDenied => 403,
            Word::ResourceDoesNotExist | Word::EndpointNotFound => 404,
            Word::ResourceConflict => 409,
            Word::RequestLimitExceeded => 429,
            Word::Cancelled => 499,
            Word::InternalError | Word::DataLoss => 500,
            Word::NotImplemented => 501,
            Word::TemporarilyUnavailable => 503,
            Word::DeadlineExceeded => 504,
        }
    }
}

/// The word of a fault. The code decides where MLflow's word differs from the rest of its kind: a taken name and a missing alias are
/// wrong parameters there, not a conflict and not an absence.
pub(crate) fn word(fault: &Fault) -> Word {
    match (fault.kind, fault.code) {
        (_, Code::ALREADY_EXISTS) => Word::ResourceAlreadyExists,
        (_, Code::NOT_ACTIVE | Code::PARAM_CHANGED | Code::UNKNOWN_ALIAS) => Word::InvalidParameterValue,
        (_, Code::NOT_SUPPORTED) => Word::NotImplemented,
        (_, Code::NO_ROUTE) => Word::EndpointNotFound,
        (Kind::Invalid | Kind::TooLarge, _) => Word::InvalidParameterValue,
        (Kind::NotFound, _) => Word::ResourceDoesNotExist,
        (Kind::Conflict | Kind::Refused, _) => Word::ResourceConflict,
        (Kind::Unauthenticated, _) => Word::Unauthenticated,
        (Kind::Denied, _) => Word::PermissionDenied,
        (Kind::Busy, _) => Word::RequestLimitExceeded,
        (Kind::Unavailable, _) => Word::TemporarilyUnavailable,
        (Kind::Timeout, _) => Word::DeadlineExceeded,
        (Kind::Cancelled, _) => Word::Cancelled,
        (Kind::Damaged, _) => Word::DataLoss,
        (Kind::Internal, _) => Word::InternalError,
    }
}

/// The status of a fault. A body that is too large keeps its own, which MLflow has no word for.
fn status(fault: &Fault) -> StatusCode {
    let number = if fault.kind == Kind::TooLarge { 413 } else { word(fault).status() };
    StatusCode::from_u16(number).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
}

/// The body. `fix` is ours; clients pass over it. Who has to look into the log is told where.
fn body(status: StatusCode, fault: &Fault, id: &str) -> Value {
    let message = if status.is_server_error() && word(fault) != Word::NotImplemented {
        format!("{} (id {id})", fault.message)
    } else {
        fault.message.clone()
    };
    let mut body = json!({ "error_code": word(fault).as_str(), "message": message });
    if let Some((state, class)) = word(fault).class() {
        body["sqlstate"] = state.into();
        body["error_class"] = class.into();
    }
    if let Some(fix) = &fault.fix {
        body["fix"] = fix.as_str().into();
    }
    body
}

const SCHEMA: ErrorSchema = ErrorSchema { name: "MlflowError", schema: || open([("error_code", text()), ("message", text())]) };

/// A route whose failures are MLflow's, those from before the handler too.
pub(crate) fn shaped(route: Route) -> Route {
    route.errors(body, SCHEMA).error_status(status)
}

/// The caller sent something wrong: 400 INVALID_PARAMETER_VALUE.
pub(crate) fn invalid(message: impl Into<String>) -> Fault {
    Fault::invalid(Code::BAD_BODY, message)
}

/// The named thing is not there: 404 RESOURCE_DOES_NOT_EXIST.
pub(crate) fn unknown(code: Code, message: impl Into<String>) -> Fault {
    Fault::not_found(code, message)
}

/// This server does not have it: 501 NOT_IMPLEMENTED.
pub(crate) fn not_supported(message: impl Into<String>) -> Fault {
    Fault::invalid(Code::NOT_SUPPORTED, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_and_statuses_are_mlflows() {
        for (fault, number, text) in [
            (invalid("x"), 400, "INVALID_PARAMETER_VALUE"),
            (unknown(Code::UNKNOWN_RUN, "x"), 404, "RESOURCE_DOES_NOT_EXIST"),
            (Fault::conflict(Code::ALREADY_EXISTS, "x"), 400, "RESOURCE_ALREADY_EXISTS"),
            (Fault::conflict(Code::NOT_ACTIVE, "x"), 400, "INVALID_PARAMETER_VALUE"),
            (Fault::conflict(Code::PARAM_CHANGED, "x"), 400, "INVALID_PARAMETER_VALUE"),
            (Fault::not_found(Code::UNKNOWN_ALIAS, "x"), 400, "INVALID_PARAMETER_VALUE"),
            (Fault::not_found(Code::NO_ROUTE, "x"), 404, "ENDPOINT_NOT_FOUND"),
            (Fault::conflict(Code::ALIAS_CONFLICT, "x"), 409, "RESOURCE_CONFLICT"),
            (Fault::new(Kind::Denied, Code::NOT_ALLOWED, "x"), 403, "PERMISSION_DENIED"),
            (Fault::new(Kind::Unauthenticated, Code::NOT_AUTHENTICATED, "x"), 401, "UNAUTHENTICATED"),
            (Fault::new(Kind::TooLarge, Code::BODY_TOO_LARGE, "x"), 413, "INVALID_PARAMETER_VALUE"),
            (Fault::new(Kind::Busy, Code::OVERLOADED, "x"), 429, "REQUEST_LIMIT_EXCEEDED"),
            (Fault::new(Kind::Unavailable, Code::IO, "x"), 503, "TEMPORARILY_UNAVAILABLE"),
            (not_supported("x"), 501, "NOT_IMPLEMENTED"),
            (Fault::internal("x"), 500, "INTERNAL_ERROR"),
        ] {
            let status = status(&fault);
            let body = body(status, &fault, "17");
            assert_eq!((status.as_u16(), body["error_code"].as_str()), (number, Some(text)), "{fault}");
            let wanted = if number == 500 || number == 503 { "x (id 17)" } else { "x" };
            assert_eq!(body["message"], wanted);
        }
    }
}
