//! The protocols by which predictions are asked for. One file each; wire types never leave it.
//!
//! To add one: a file with `pub(crate) fn routes(plane) -> Routes` that turns its requests into an `Ask` (or, for features alone, into a `FeatureRequest`), and a line in [`routes`].

mod feast;
mod health;
mod predict;
mod v2;

use crate::plane::Plane;
use gristmill_web::Routes;
use std::sync::Arc;

/// Every route of this stage.
pub fn routes(plane: Arc<Plane>) -> Routes {
    Routes::new().merge(health::routes(&plane)).merge(feast::routes(&plane)).merge(predict::routes(&plane)).merge(v2::routes(&plane))
}
