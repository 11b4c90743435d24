//! Parts that a test has no use for.

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use gristmill_kernel::port::*;
use gristmill_kernel::tracking::registry::*;
use gristmill_kernel::tracking::*;
use gristmill_kernel::*;
use std::collections::BTreeMap;
use std::ops::Range;

/// Answers nothing.
pub struct Absent;

fn absent<T>() -> Result<T> {
    Err(Fault::internal("not in this test"))
}

#[async_trait]
impl ModelRegistry for Absent {
    async fn create_model(&self, _: &str, _: &str, _: BTreeMap<String, String>, _: &Actor, _: Timestamp) -> Result<RegisteredModel> {
        absent()
    }
    async fn registered_model(&self, _: &str) -> Result<Option<RegisteredModel>> {
        absent()
    }
    async fn model_of_asset(&self, _: &gristmill_kernel::Address) -> Result<Option<RegisteredModel>> {
        absent()
    }
    async fn rename_model(&self, _: &str, _: &str, _: &Actor, _: Timestamp) -> Result<RegisteredModel> {
        absent()
    }
    async fn describe_model(&self, _: &str, _: &str, _: Timestamp) -> Result<RegisteredModel> {
        absent()
    }
    async fn delete_model(&self, _: &str, _: &Actor, _: Timestamp) -> Result<()> {
        absent()
    }
    async fn set_registered_model_tag(&self, _: &str, _: &str, _: Option<&str>, _: Timestamp) -> Result<()> {
        absent()
    }
    async fn search_models(&self, _: &Search) -> Result<Page<RegisteredModel>> {
        absent()
    }
    async fn create_model_version(&self, _: NewModelVersion, _: &Actor, _: Timestamp) -> Result<ModelVersion> {
        absent()
    }
    async fn model_version(&self, _: &str, _: u64) -> Result<Option<ModelVersion>> {
        absent()
    }
    async fn describe_model_version(&self, _: &str, _: u64, _: &str, _: Timestamp) -> Result<ModelVersion> {
        absent()
    }
    async fn set_stage(&self, _: &str, _: u64, _: ModelStage, _: bool, _: &Actor, _: Timestamp) -> Result<ModelVersion> {
        absent()
    }
    async fn delete_model_version(&self, _: &str, _: u64, _: &Actor, _: Timestamp) -> Result<()> {
        absent()
    }
    async fn set_model_version_tag(&self, _: &str, _: u64, _: &str, _: Option<&str>, _: Timestamp) -> Result<()> {
        absent()
    }
    async fn search_model_versions(&self, _: &Search) -> Result<Page<ModelVersion>> {
        absent()
    }
}

#[async_trait]
impl Artifacts for Absent {
    async fn put_artifact(&self, _: &ArtifactKey, _: BoxStream<'static, Result<Bytes>>, _: Timestamp) -> Result<ArtifactInfo> {
        absent()
    }
    async fn link_artifact(&self, _: &ArtifactKey, _: Digest, _: u64, _: Timestamp) -> Result<()> {
        absent()
    }
    async fn artifact(&self, _: &ArtifactKey) -> Result<Option<ArtifactInfo>> {
        absent()
    }
    async fn read_artifact(&self, _: &Digest, _: Range<u64>) -> Result<BoxStream<'static, Result<Bytes>>> {
        absent()
    }
    async fn list_artifacts(&self, _: Option<&ArtifactKey>) -> Result<Vec<ArtifactEntry>> {
        absent()
    }
    async fn walk_artifacts(&self, _: &ArtifactKey) -> Result<Vec<ArtifactInfo>> {
        absent()
    }
    async fn delete_artifacts(&self, _: &ArtifactKey) -> Result<u64> {
        absent()
    }
}
