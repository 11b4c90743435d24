//! Webhooks: addresses that are told what happens in the registry. Only who administers the project makes them, as they make the server call.
//!
//! [`crud`] keeps them, [`payload`] says what is told, [`deliver`] tells it.

mod crud;
mod deliver;
mod payload;

pub use deliver::Hooks;
pub(crate) use payload::{About, Told};

use super::{Mlflow, v2};
use gristmill_web::{Method, Permission, Route, Routes};
use std::sync::Arc;

pub(super) fn routes(mlflow: &Arc<Mlflow>) -> Routes {
    let all = "/mlflow/webhooks";
    let one = "/mlflow/webhooks/{webhook_id}";
    let administer = Permission::Administer;
    let routes: Vec<Route> = [
        v2(mlflow, &Method::POST, all, administer, crud::create),
        v2(mlflow, &Method::GET, all, administer, crud::list),
        v2(mlflow, &Method::GET, one, administer, crud::get),
        v2(mlflow, &Method::PATCH, one, administer, crud::update),
        v2(mlflow, &Method::DELETE, one, administer, crud::delete),
        v2(mlflow, &Method::POST, "/mlflow/webhooks/{webhook_id}/test", administer, crud::test),
    ]
    .into_iter()
    .flatten()
    .collect();
    Routes::from(routes)
}
