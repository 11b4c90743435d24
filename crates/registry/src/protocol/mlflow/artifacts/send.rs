//! Sends a stored file, whole or in part, without holding it.

use super::super::Mlflow;
use super::key;
use super::media::{Wanted, attachment, media_type, wanted};
use futures::TryStreamExt;
use gristmill_kernel::port::{ArtifactInfo, ArtifactKey};
use gristmill_kernel::{Code, Fault, Result};
use gristmill_web::{Body, HeaderMap, HeaderValue, Response, StatusCode, header};

/// The file under a key. `shown` is what the client called it.
pub(crate) async fn find(mlflow: &Mlflow, key: &ArtifactKey, shown: &str) -> Result<ArtifactInfo> {
    if let Some(info) = mlflow.artifacts.artifact(key).await? {
        return Ok(info);
    }
    if !mlflow.artifacts.list_artifacts(Some(key)).await?.is_empty() {
        return Err(Fault::invalid(Code::BAD_PATH, format!("Artifact path refers to a directory, not a file: '{shown}'")));
    }
    Err(Fault::not_found(Code::UNKNOWN_ARTIFACT, format!("No such artifact: '{shown}'")))
}

/// Answers with a file, or with the part of it that `headers` ask for.
pub(crate) async fn send(mlflow: &Mlflow, key: &ArtifactKey, shown: &str, headers: &HeaderMap) -> Result<Response> {
    let info = find(mlflow, key, shown).await?;
    let tag = format!("\"{}\"", info.digest.hex());
    let (status, range) = match wanted(headers, &tag, info.bytes) {
        Wanted::Whole => (StatusCode::OK, 0..info.bytes),
        Wanted::Part(range) => (StatusCode::PARTIAL_CONTENT, range),
        Wanted::Nothing => {
            let mut response = Response::new(Body::empty());
            *response.status_mut() = StatusCode::RANGE_NOT_SATISFIABLE;
            put(&mut response, header::CONTENT_RANGE, &format!("bytes */{}", info.bytes))?;
            return Ok(response);
        }
    };
    let content = mlflow.artifacts.read_artifact(&info.digest, range.clone()).await?;
    let content = content.inspect_err(|fault| tracing::error!(code = %fault.code, "an artifact broke off while it was sent: {fault}"));
    let mut response = Response::new(Body::from_stream(content));
    *response.status_mut() = status;
    let name = key::name(key.as_str());
    put(&mut response, header::CONTENT_TYPE, media_type(name))?;
    put(&mut response, header::CONTENT_DISPOSITION, &attachment(name))?;
    put(&mut response, header::CONTENT_LENGTH, &(range.end - range.start).to_string())?;
    put(&mut response, header::ACCEPT_RANGES, "bytes")?;
    put(&mut response, header::ETAG, &tag)?;
    put(&mut response, header::X_CONTENT_TYPE_OPTIONS, "nosniff")?;
    if status == StatusCode::PARTIAL_CONTENT {
        put(&mut response, header::CONTENT_RANGE, &format!("bytes {}-{}/{}", range.start, range.end - 1, info.bytes))?;
    }
    Ok(response)
}

/// Sets a header that we made.
pub(crate) fn put(response: &mut Response, name: header::HeaderName, value: &str) -> Result<()> {
    let value = HeaderValue::from_str(value).map_err(|e| Fault::internal(format!("`{value}` is no value of a header")).because(e))?;
    response.headers_mut().insert(name, value);
    Ok(())
}
