//! Files of runs, logged models and registered versions, and the proxy through which clients reach them.
//!
//! Promises:
//! - What a client writes becomes a key in [`key`], or 400 `Invalid path`; a key is a row, not a path.
//! - Upload, download and completing an upload in parts hold a few pieces at a time, whatever the size, and may take as long as they move.
//! - A file is sent as an attachment, with a type that follows from its name alone.
//! - A route that anybody may call checks a signature of ours before it reads anything.

pub(crate) mod key;
pub(crate) mod location;
mod media;
mod parts;
mod proxy;
pub(crate) mod run;
pub(crate) mod send;
mod signed;

use super::{Mlflow, at, v2};
use gristmill_kernel::limits::ARTIFACT_BYTES_MAX;
use gristmill_kernel::port::Ids;
use gristmill_kernel::{Result, Timestamp};
use gristmill_web::{Method, Permission, Route, Routes, StatusCode};
use std::sync::Arc;

/// What signed addresses and uploads in parts need: a secret, and which uploads are being completed.
pub struct Addresses {
    pub(crate) signer: signed::Signer,
    pub(crate) completions: parts::Completions,
}

impl Addresses {
    /// With a new secret. Addresses that were signed with another one work no more.
    pub fn new(ids: &dyn Ids) -> Addresses {
        Addresses { signer: signed::Signer::new(ids), completions: parts::Completions::default() }
    }
}

/// Removes the parts of uploads that began a day ago and were never completed. Uploads do it now and then; this does it at once.
pub async fn sweep(mlflow: &Mlflow, now: Timestamp) -> Result<u64> {
    parts::sweep(mlflow, now).await
}

/// The routes of files.
pub(super) fn routes(mlflow: &Arc<Mlflow>) -> Routes {
    use Permission::{Public, ReadProject, Track};
    let (get, put, post, delete) = (&Method::GET, &Method::PUT, &Method::POST, &Method::DELETE);
    let files = "/mlflow-artifacts/artifacts";
    let file = "/mlflow-artifacts/artifacts/{*path}";
    let mut routes: Vec<Route> = [
        v2(mlflow, get, files, ReadProject, proxy::list),
        v2(mlflow, get, file, ReadProject, proxy::get).map(Route::gives_anything),
        v2(mlflow, put, file, Track, proxy::put).map(|route| upload(route).gives_nothing(StatusCode::OK)),
        v2(mlflow, delete, file, Track, proxy::delete),
        v2(mlflow, post, "/mlflow-artifacts/mpu/create/{*path}", Track, parts::create),
        v2(mlflow, post, "/mlflow-artifacts/mpu/complete/{*path}", Track, parts::complete).map(Route::streamed),
        v2(mlflow, post, "/mlflow-artifacts/mpu/abort/{*path}", Track, parts::abort),
        v2(mlflow, get, "/mlflow-artifacts/presigned/{*path}", ReadProject, run::presigned),
        v2(mlflow, get, "/mlflow/artifacts/list", ReadProject, run::list),
        v2(mlflow, post, "/mlflow/artifacts/presigned-upload-url", Track, run::sign_upload),
        v2(mlflow, post, "/mlflow/artifacts/presigned-download-url", ReadProject, run::sign_download),
    ]
    .into_iter()
    .flatten()
    .collect();
    let signed = format!("{}/{{*path}}", run::SIGNED_PATH);
    routes.extend([
        at(mlflow, get, "/get-artifact", ReadProject, run::get).gives_anything(),
        at(mlflow, get, "/ajax-api/2.0/mlflow/get-artifact", ReadProject, run::get).gives_anything(),
        at(mlflow, get, "/model-versions/get-artifact", ReadProject, run::get_of_version).gives_anything(),
        at(mlflow, get, "/ajax-api/2.0/mlflow/model-versions/get-artifact", ReadProject, run::get_of_version).gives_anything(),
        at(mlflow, get, "/ajax-api/2.0/mlflow/logged-models/{model_id}/artifacts/files", ReadProject, run::get_of_model).gives_anything(),
        at(mlflow, post, "/ajax-api/2.0/mlflow/upload-artifact", Track, run::upload)
            .body_limit(run::PAGE_UPLOAD_BYTES_MAX)
            .takes_anything(),
        upload(at(mlflow, put, &format!("{}/{{upload}}/{{part}}", parts::PART_PATH), Public, parts::put_part)),
        at(mlflow, get, &signed, Public, run::get_signed).gives_anything(),
        upload(at(mlflow, put, &signed, Public, run::put_signed)),
    ]);
    Routes::from(routes)
}

/// A route whose body is a file.
fn upload(route: Route) -> Route {
    route.body_limit(usize::try_from(ARTIFACT_BYTES_MAX).unwrap_or(usize::MAX)).streamed().takes_anything()
}
