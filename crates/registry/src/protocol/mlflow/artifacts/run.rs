//! Files by the run, the logged model or the registered version they belong to.

use super::super::wire::artifacts::{Files, GetAsk, PresignedUrl, RunListAsk, SignAsk};
use super::super::{Mlflow, error, model_versions, request};
use super::signed::{Grant, Signed, escaped, origin};
use super::{key, location, proxy, send};
use futures::StreamExt;
use gristmill_kernel::limits::{SIGNED_URL_MS, SIGNED_URL_MS_MAX};
use gristmill_kernel::port::ArtifactKey;
use gristmill_kernel::{Result, RunId, Span};
use gristmill_web::{Body, Call, Response, json};
use std::sync::Arc;

/// The path of signed addresses of whole files.
pub(super) const SIGNED_PATH: &str = "/api/2.0/mlflow-artifacts/signed";
/// Largest file that a page uploads.
pub(super) const PAGE_UPLOAD_BYTES_MAX: usize = 10 << 20;

/// `GET artifacts/list`
pub(crate) async fn list(mlflow: Arc<Mlflow>, call: Call) -> Result<Response> {
    let ask: RunListAsk = request::read(call).await?;
    let path = ask.path.as_deref().map(key::key).transpose()?.flatten();
    let run = request::run_id(ask.run_id, ask.run_uuid)?;
    let address = location::of_run(&mlflow, &run).await?;
    json(&list_below(&mlflow, address, path).await?)
}

/// What is directly beneath a path below an address, with paths relative to it.
pub(crate) async fn list_below(mlflow: &Mlflow, address: String, path: Option<ArtifactKey>) -> Result<Files> {
    let path = path.as_ref().map(ArtifactKey::as_str);
    let folder = key::below(&location::kept(&address)?, path)?;
    Ok(Files { files: proxy::entries(mlflow, Some(&folder), path).await?, root_uri: Some(address) })
}

/// `GET /get-artifact`
pub(crate) async fn get(mlflow: Arc<Mlflow>, call: Call) -> Result<Response> {
    let (headers, ask) = ask(call).await?;
    let path = request::needed(ask.path, "path")?;
    let run = request::run_id(ask.run_id, ask.run_uuid)?;
    let file = key::file(&path)?;
    let address = location::of_run(&mlflow, &run).await?;
    let key = key::below(&location::kept(&address)?, Some(file.as_str()))?;
    send::send(&mlflow, &key, key.as_str(), &headers).await
}

/// `GET /model-versions/get-artifact`
pub(crate) async fn get_of_version(mlflow: Arc<Mlflow>, call: Call) -> Result<Response> {
    let (headers, ask) = ask(call).await?;
    let path = request::needed(ask.path, "path")?;
    let file = key::file(&path)?;
    let name = request::needed(ask.name, "name")?;
    let version = request::needed(ask.version, "version")?;
    let root = model_versions::files_of(&mlflow, &name, &version).await?;
    let key = key::below(&root, Some(file.as_str()))?;
    send::send(&mlflow, &key, key.as_str(), &headers).await
}

/// `GET logged-models/{model_id}/artifacts/files`
pub(crate) async fn get_of_model(mlflow: Arc<Mlflow>, call: Call) -> Result<Response> {
    let model = call.param("model_id")?.to_owned();
    let (headers, ask) = ask(call).await?;
    let path = ask.artifact_file_path.filter(|path| !path.is_empty());
    let path = path.ok_or_else(|| error::invalid("Request must include the \"artifact_file_path\" query parameter."))?;
    let file = key::file(&path)?;
    let address = location::of_model(&mlflow, &model).await?;
    let key = key::below(&location::kept(&address)?, Some(file.as_str()))?;
    send::send(&mlflow, &key, key.as_str(), &headers).await
}

/// The arguments of a download, and its headers, which say which part is wanted.
async fn ask(call: Call) -> Result<(gristmill_web::HeaderMap, GetAsk)> {
    let headers = call.headers().clone();
    Ok((headers, request::read(call).await?))
}

/// `POST /ajax-api/2.0/mlflow/upload-artifact?run_uuid=&path=`: how pages upload a small file.
pub(crate) async fn upload(mlflow: Arc<Mlflow>, call: Call) -> Result<Response> {
    let pairs: Vec<(String, String)> = call.query()?;
    let ask: GetAsk = request::from_query(&pairs)?;
    let run = ask.run_uuid.filter(|id| !id.is_empty()).ok_or_else(|| error::invalid("Request must specify run_uuid."))?;
    let path = ask.path.filter(|path| !path.is_empty()).ok_or_else(|| error::invalid("Request must specify path."))?;
    let file = key::file(&path)?;
    let address = location::of_run(&mlflow, &RunId(run)).await?;
    let key = key::below(&location::kept(&address)?, Some(file.as_str()))?;
    let bytes = call.bytes().await.map_err(|fault| match fault.kind {
        gristmill_kernel::Kind::TooLarge => error::invalid("Artifact size is too large. Max size is 10MB."),
        _ => fault,
    })?;
    if bytes.is_empty() {
        return Err(error::invalid("Request must specify data."));
    }
    let content = futures::stream::once(async move { Ok(bytes) }).boxed();
    mlflow.artifacts.put_artifact(&key, content, mlflow.now()).await?;
    // No body, and yet called JSON: as MLflow answers.
    let mut response = Response::new(Body::empty());
    response.headers_mut().insert(gristmill_web::header::CONTENT_TYPE, gristmill_web::HeaderValue::from_static("application/json"));
    Ok(response)
}

/// `POST artifacts/presigned-download-url`
pub(crate) async fn sign_download(mlflow: Arc<Mlflow>, call: Call) -> Result<Response> {
    let origin = origin(&call)?;
    let ask: SignAsk = request::read(call).await?;
    let file = key::file(&ask.path)?;
    let lasts = lasting(&ask)?;
    let address = location::of_run(&mlflow, &request::run_id(ask.run_id, None)?).await?;
    let key = key::below(&location::kept(&address)?, Some(file.as_str()))?;
    let info = send::find(&mlflow, &key, key.as_str()).await?;
    let presigned_url = signed_address(&mlflow, &origin, Grant::Read(key.as_str()), &key, lasts);
    json(&PresignedUrl { presigned_url, file_size: Some(info.bytes) })
}

/// `POST artifacts/presigned-upload-url`: of a run or of a logged model.
pub(crate) async fn sign_upload(mlflow: Arc<Mlflow>, call: Call) -> Result<Response> {
    let origin = origin(&call)?;
    let ask: SignAsk = request::read(call).await?;
    let file = key::file(&ask.path)?;
    let lasts = lasting(&ask)?;
    let filled = |id: Option<String>| id.filter(|id| !id.is_empty());
    let address = match (filled(ask.run_id), filled(ask.model_id)) {
        (Some(run), None) => location::of_run(&mlflow, &RunId(run)).await?,
        (None, Some(model)) => location::of_model(&mlflow, &model).await?,
        _ => return Err(error::invalid("Exactly one of run_id and model_id must be provided.")),
    };
    let key = key::below(&location::kept(&address)?, Some(file.as_str()))?;
    let presigned_url = signed_address(&mlflow, &origin, Grant::Write(key.as_str()), &key, lasts);
    json(&PresignedUrl { presigned_url, file_size: None })
}

fn lasting(ask: &SignAsk) -> Result<Span> {
    const MAX: i64 = (SIGNED_URL_MS_MAX / 1_000) as i64;
    match ask.expiration.map(|seconds| seconds.0) {
        None => Ok(Span::from_millis(SIGNED_URL_MS)),
        Some(seconds @ 1..=MAX) => Ok(Span::from_micros(seconds * 1_000_000)),
        Some(other) => Err(error::invalid(format!("expiration must be between 1 and {MAX} seconds (got {other})."))),
    }
}

/// An address that permits something with a file for a while.
pub(super) fn signed_address(mlflow: &Mlflow, origin: &str, grant: Grant<'_>, key: &ArtifactKey, lasts: Span) -> String {
    let query = mlflow.signed.signer.query(grant, mlflow.now().plus(lasts));
    format!("{origin}{SIGNED_PATH}/{}?{query}", escaped(key.as_str()))
}

/// `GET mlflow-artifacts/presigned/{path}`
pub(crate) async fn presigned(mlflow: Arc<Mlflow>, call: Call) -> Result<Response> {
    let (path, origin) = (call.param("path")?, origin(&call)?);
    let key = key::file(path)?;
    let info = send::find(&mlflow, &key, path).await?;
    let url = signed_address(&mlflow, &origin, Grant::Read(key.as_str()), &key, Span::from_millis(SIGNED_URL_MS));
    json(&super::super::wire::artifacts::Presigned { url, headers: serde_json::Map::new(), file_size: info.bytes })
}

/// `GET mlflow-artifacts/signed/{path}?expires=&signature=`: anybody with the address.
pub(crate) async fn get_signed(mlflow: Arc<Mlflow>, call: Call) -> Result<Response> {
    let path = call.param("path")?;
    let key = key::file(path)?;
    let signed: Signed = call.query()?;
    mlflow.signed.signer.check(Grant::Read(key.as_str()), &signed, mlflow.now())?;
    send::send(&mlflow, &key, path, call.headers()).await
}

/// `PUT mlflow-artifacts/signed/{path}?expires=&signature=`: anybody with the address. The signature comes before the body.
pub(crate) async fn put_signed(mlflow: Arc<Mlflow>, call: Call) -> Result<Response> {
    let key = key::file(call.param("path")?)?;
    let signed: Signed = call.query()?;
    mlflow.signed.signer.check(Grant::Write(key.as_str()), &signed, mlflow.now())?;
    mlflow.artifacts.put_artifact(&key, call.stream(), mlflow.now()).await?;
    super::super::done()
}
