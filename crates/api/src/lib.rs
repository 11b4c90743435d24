//! The control API under `/api/v1`, the status page at `/`, and `/openapi.json`; and Feast's words for bringing views up to date ([`feast`]).
//!
//! Promises: reads are queries; the only writes are submitting and cancelling runs and moving aliases, and each goes through the
//! part that owns it ([`Runs`], [`Promoter`]), never straight to the ledger. Wire types live here and nowhere else.
//!
//! To add a route: a handler in the file of its noun, a line in [`routes`] with what it takes and gives ([`told`]), a test that it works, is unknown, is
//! denied.

pub mod feast;
mod openapi;
mod overview;
mod page;
mod read;
mod told;
mod wire;
mod write;

#[cfg(test)]
mod tests;

pub use openapi::with_openapi;
pub use write::{PromoteWish, Promoter};

use gristmill_kernel::port::{LiveFigures, Ports, Runs};
use gristmill_kernel::{Kind, Result};
use gristmill_web::{Call, Method, Permission, Response, Route, Routes, StatusCode, html, json, route, style};
use std::future::Future;
use std::sync::Arc;

/// What the handlers work with.
#[derive(Clone)]
pub(crate) struct Api {
    pub project: Arc<str>,
    pub ports: Ports,
    pub runs: Arc<dyn Runs>,
    pub promoter: Arc<dyn Promoter>,
    pub figures: Arc<dyn LiveFigures>,
}

/// Every route of the control API.
pub fn routes(project: &str, ports: Ports, runs: Arc<dyn Runs>, promoter: Arc<dyn Promoter>, figures: Arc<dyn LiveFigures>) -> Routes {
    let api = Api { project: project.into(), ports, runs, promoter, figures };
    let (get, post) = (Method::GET, Method::POST);
    let (see, submit, shift) = (Permission::ReadProject, Permission::SubmitRun, Permission::MoveAlias);
    Routes::from(vec![
        on(&api, &get, "/", see, status_page).about("The status page").gives_media("text/html"),
        route(Method::GET, "/style.css", Permission::Public, |_| async { Ok(style(page::STYLE)) })
            .about("The style sheet of the status page")
            .gives_media("text/css"),
        on(&api, &get, "/api/v1/status", see, status).about("The loop: stages, endpoints, latest runs, alerts").gives(told::overview()),
        on(&api, &get, "/api/v1/assets", see, read::assets)
            .about("Every asset with its newest version and its aliases")
            .gives(told::assets()),
        on(&api, &get, "/api/v1/assets/{address}/versions", see, read::versions)
            .about("The versions and aliases of an asset, newest first")
            .gives(told::versions()),
        on(&api, &get, "/api/v1/versions/{version}/lineage", see, read::lineage)
            .about("What a version (`models.churn@3`, `models.churn@champion`) was made from, and what was made from it")
            .gives(told::lineage()),
        told::asks_runs(on(&api, &get, "/api/v1/runs", see, read::runs))
            .about("Runs, newest first; filter by stage, status, address, parent, limit")
            .gives(told::runs()),
        on(&api, &get, "/api/v1/runs/{id}", see, read::run).about("One run with its steps").gives(told::run()),
        told::asks_audit(on(&api, &get, "/api/v1/audit", see, read::audit))
            .about("Lines of the audit chain behind `after`; filter by subject")
            .gives(told::audit()),
        on(&api, &post, "/api/v1/runs", submit, write::submit)
            .about("Bring targets up to date: submits a flow")
            .takes(told::order())
            .gives_status(StatusCode::ACCEPTED, told::run_line())
            .fails([Kind::NotFound, Kind::Conflict, Kind::Busy]),
        on(&api, &post, "/api/v1/runs/{id}/cancel", submit, write::cancel)
            .about("Ask a run to stop")
            .gives_status(StatusCode::ACCEPTED, told::run_line())
            .fails([Kind::Conflict]),
        on(&api, &post, "/api/v1/aliases", shift, write::promote)
            .about("Move an alias of a model to a version whose gates passed")
            .takes(told::promotion())
            .gives(told::alias())
            .fails([Kind::NotFound, Kind::Conflict, Kind::Refused]),
        on(&api, &post, "/api/v1/models/{model}/rollback", shift, write::rollback)
            .about("Give the champion's place back to the one before")
            .takes(told::reason())
            .gives(told::champion())
            .fails([Kind::Conflict, Kind::Refused]),
    ])
}

/// A route whose handler gets the API by value.
fn on<F>(api: &Api, method: &Method, path: &str, permission: Permission, handler: fn(Api, Call) -> F) -> Route
where
    F: Future<Output = Result<Response>> + Send + 'static,
{
    let api = api.clone();
    route(method.clone(), path, permission, move |call| handler(api.clone(), call))
}

async fn status(api: Api, _: Call) -> Result<Response> {
    json(&wire::overview(&overview::read(&api).await?))
}

async fn status_page(api: Api, _: Call) -> Result<Response> {
    Ok(html(page::render(&overview::read(&api).await?)))
}
