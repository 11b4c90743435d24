//! Files and uploads, as MLflow writes them.

use super::super::request::{Ask, Field, Int, Is, filled};
use serde::{Deserialize, Serialize};

/// A file or folder of a listing.
#[derive(Debug, Serialize)]
pub(crate) struct FileInfo {
    pub path: String,
    pub is_dir: bool,
    /// Not of an empty file: protocol buffers leave a zero out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file_size: Option<u64>,
}

/// A listing.
#[derive(Debug, Serialize)]
pub(crate) struct Files {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub root_uri: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<FileInfo>,
}

/// `mlflow-artifacts/artifacts`
#[derive(Debug, Deserialize)]
pub(crate) struct ListAsk {
    pub path: Option<String>,
}
impl Ask for ListAsk {
    const FIELDS: &'static [Field] = &[Field::text("path")];
}

/// `artifacts/list`
#[derive(Debug, Deserialize)]
pub(crate) struct RunListAsk {
    pub run_id: Option<String>,
    pub run_uuid: Option<String>,
    pub path: Option<String>,
}
impl Ask for RunListAsk {
    const FIELDS: &'static [Field] =
        &[Field::text("run_id").required(), Field::text("run_uuid"), Field::text("path"), Field::text("page_token")];
}

/// `artifacts/presigned-upload-url` and `artifacts/presigned-download-url`
#[derive(Debug, Deserialize)]
pub(crate) struct SignAsk {
    pub run_id: Option<String>,
    pub model_id: Option<String>,
    #[serde(deserialize_with = "filled")]
    pub path: String,
    pub expiration: Option<Int>,
}
impl Ask for SignAsk {
    const FIELDS: &'static [Field] =
        &[Field::text("run_id"), Field::text("model_id"), Field::text("path").required(), Field::new("expiration", Is::Int)];
}

/// A signed address, in the words of the run's routes.
#[derive(Debug, Serialize)]
pub(crate) struct PresignedUrl {
    pub presigned_url: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file_size: Option<u64>,
}

/// A signed address, in the words of the proxy.
#[derive(Debug, Serialize)]
pub(crate) struct Presigned {
    pub url: String,
    pub headers: serde_json::Map<String, serde_json::Value>,
    pub file_size: u64,
}

/// `mlflow-artifacts/mpu/create`
#[derive(Debug, Deserialize)]
pub(crate) struct CreateUploadAsk {
    #[serde(deserialize_with = "filled")]
    pub path: String,
    pub num_parts: Option<Int>,
}
impl Ask for CreateUploadAsk {
    const FIELDS: &'static [Field] = &[Field::text("path").required(), Field::new("num_parts", Is::Int)];
}

/// An upload that began.
#[derive(Debug, Serialize)]
pub(crate) struct CreatedUpload {
    pub upload_id: String,
    pub credentials: Vec<Credential>,
}

/// Where one part goes.
#[derive(Debug, Serialize)]
pub(crate) struct Credential {
    pub url: String,
    pub part_number: u32,
}

/// `mlflow-artifacts/mpu/complete`
#[derive(Debug, Deserialize)]
pub(crate) struct CompleteUploadAsk {
    #[serde(deserialize_with = "filled")]
    pub path: String,
    pub upload_id: Option<String>,
    pub parts: Vec<PartAsk>,
}
impl Ask for CompleteUploadAsk {
    const FIELDS: &'static [Field] = &[
        Field::text("path").required(),
        Field::text("upload_id"),
        Field::new("parts", Is::Items(&[Field::new("part_number", Is::Int), Field::text("etag"), Field::text("url")])).required(),
    ];
}

/// A part as the client saw it stored.
#[derive(Debug, Deserialize)]
pub(crate) struct PartAsk {
    #[serde(default)]
    pub part_number: Int,
    #[serde(default)]
    pub etag: Option<String>,
}

/// `mlflow-artifacts/mpu/abort`
#[derive(Debug, Deserialize)]
pub(crate) struct AbortUploadAsk {
    #[serde(deserialize_with = "filled")]
    pub path: String,
    pub upload_id: Option<String>,
}
impl Ask for AbortUploadAsk {
    const FIELDS: &'static [Field] = &[Field::text("path").required(), Field::text("upload_id")];
}

/// `get-artifact`, of a run or of a version of a model
#[derive(Debug, Deserialize)]
pub(crate) struct GetAsk {
    pub run_id: Option<String>,
    pub run_uuid: Option<String>,
    pub name: Option<String>,
    pub version: Option<String>,
    pub path: Option<String>,
    pub artifact_file_path: Option<String>,
}
impl Ask for GetAsk {
    const FIELDS: &'static [Field] = &[
        Field::text("run_id"),
        Field::text("run_uuid"),
        Field::text("name"),
        Field::text("version"),
        Field::text("path"),
        Field::text("artifact_file_path"),
    ];
}
