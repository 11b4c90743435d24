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

use crate::plane::Plane;
use gristmill_kernel::Fault;
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

/// For protocols that have one field for what we say in two.
fn one_line(fault: &Fault) -> String {
    match &fault.fix {
        Some(fix) => format!("{} [{}]; fix: {fix}", fault.message, fault.code),
        None => format!("{} [{}]", fault.message, fault.code),
    }
}
