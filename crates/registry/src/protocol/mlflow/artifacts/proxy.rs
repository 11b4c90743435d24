//! `mlflow-artifacts/artifacts`: files by key. Upload and download stream; memory does not grow with the file.

use super::super::wire::artifacts::{FileInfo, Files, ListAsk};
use super::super::{Mlflow, done, request};
use super::{key, send};
use gristmill_kernel::Result;
use gristmill_kernel::port::{ArtifactEntry, ArtifactKey};
use gristmill_web::{Body, Call, Response, json};
use std::sync::Arc;

/// `GET mlflow-artifacts/artifacts?path=`: what is directly beneath a folder.
pub(crate) async fn list(mlflow: Arc<Mlflow>, call: Call) -> Result<Response> {
    let ask: ListAsk = request::read(call).await?;
    let folder = ask.path.as_deref().map(key::key).transpose()?.flatten();
    json(&Files { files: entries(&mlflow, folder.as_ref(), None).await?, root_uri: None })
}

/// `GET mlflow-artifacts/artifacts/{path}`
pub(crate) async fn get(mlflow: Arc<Mlflow>, call: Call) -> Result<Response> {
    let path = call.param("path")?;
    send::send(&mlflow, &key::file(path)?, path, call.headers()).await
}

/// `PUT mlflow-artifacts/artifacts/{path}`: the body, whatever it is, becomes the file.
pub(crate) async fn put(mlflow: Arc<Mlflow>, call: Call) -> Result<Response> {
    match call.param("path").and_then(key::file) {
        Ok(key) => {
            mlflow.artifacts.put_artifact(&key, call.stream(), mlflow.now()).await?;
            Ok(Response::new(Body::empty()))
        }
        // The client is sending already; it would meet a closed connection instead of the answer.
        Err(fault) => Err(call.refuse(fault).await),
    }
}

/// `DELETE mlflow-artifacts/artifacts/{path}`: a file, or a folder with everything in it. What is not there is gone already.
pub(crate) async fn delete(mlflow: Arc<Mlflow>, call: Call) -> Result<Response> {
    mlflow.artifacts.delete_artifacts(&key::file(call.param("path")?)?).await?;
    done()
}

/// What is directly beneath a key, by name. `shown` is put before the names.
pub(crate) async fn entries(mlflow: &Mlflow, folder: Option<&ArtifactKey>, shown: Option<&str>) -> Result<Vec<FileInfo>> {
    let path = |name: String| match shown {
        Some(folder) => format!("{folder}/{name}"),
        None => name,
    };
    let listed = mlflow.artifacts.list_artifacts(folder).await?.into_iter();
    let mut files: Vec<FileInfo> = listed
        .filter_map(|entry| match entry {
            ArtifactEntry::Folder(name) if folder.is_none() && name == key::PARTS => None,
            ArtifactEntry::Folder(name) => Some(FileInfo { path: path(name), is_dir: true, file_size: None }),
            ArtifactEntry::File(name, bytes) => Some(FileInfo { path: path(name), is_dir: false, file_size: (bytes > 0).then_some(bytes) }),
        })
        .collect();
    files.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(files)
}
