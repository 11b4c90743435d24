//! The protocols by which predictions are asked for. One file each; wire types never leave it.
//!
//! To add one: a file with `pub(crate) fn routes(plane) -> Routes` that turns its requests into an `Ask` (or, for features alone, into a `FeatureRequest`), and a line in [`routes`].

mod feast;
mod health;
mod invocations;
mod npy;
mod predict;
mod rows;
mod scores;
mod v1;
mod v2;
mod vertex;

pub use vertex::{VertexPaths, vertex_routes};

use crate::plane::Plane;
use gristmill_kernel::{Code, Fault, Result};
use gristmill_web::schema::{object, text};
use gristmill_web::{ErrorSchema, Routes};
use std::sync::Arc;

/// Every route of this stage.
pub fn routes(plane: Arc<Plane>) -> Routes {
    let all = [health::routes, feast::routes, predict::routes, invocations::routes, v1::routes, v2::routes];
    all.into_iter().fold(Routes::new(), |routes, of| routes.merge(of(&plane)))
}

/// The failures of protocols that have one field for them.
const ERROR: ErrorSchema = ErrorSchema { name: "InferenceError", schema: || object([("error", text())]) };

/// The endpoint that is meant where none is named; with several, an error that says how to name one.
fn only_endpoint(plane: &Plane, fix: &str) -> Result<String> {
    let names: Vec<String> = plane.snapshot().endpoints.keys().map(ToString::to_string).collect();
    match names.as_slice() {
        [only] => Ok(only.clone()),
        [] => plane.endpoint("").map(|(name, _)| name.to_string()),
        several => {
            let what = format!("{} endpoints could be meant: {}", several.len(), crate::plan::words(several));
            Err(Fault::invalid(Code::MISSING_INPUT, what).fix(fix))
        }
    }
}

/// For protocols that have one field for what we say in two.
fn one_line(fault: &Fault) -> String {
    match &fault.fix {
        Some(fix) => format!("{} [{}]; fix: {fix}", fault.message, fault.code),
        None => format!("{} [{}]", fault.message, fault.code),
    }
}
