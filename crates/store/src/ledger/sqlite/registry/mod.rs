//! Registered models in the ledger's SQLite file.
//!
//! A registered model is a name for an asset `models.*`; its versions are the asset's versions with a row of notes each; aliases are the
//! ledger's. `read` decodes, `models` and `versions` write, `search` searches, `own` registers what the project trains, `import` takes
//! other registries over.
//!
//! Invariants: every version of an asset `models.*` has a row of notes and its asset a row in `registered_models`, from the transaction that
//! made it on (unless the model was deleted, when all its notes say so); no alias names a version that was deleted.

mod import;
mod models;
mod own;
mod read;
mod search;
#[cfg(test)]
mod tests;
mod versions;

pub(super) use own::{is_deleted, note_made, refuse_deleted};

use super::SqliteLedger;
use async_trait::async_trait;
use gristmill_kernel::port::{Blobs, Ids, ModelRegistry};
use gristmill_kernel::tracking::registry::{ModelStage, ModelVersion, NewModelVersion, RegisteredModel};
use gristmill_kernel::tracking::{Page, Search};
use gristmill_kernel::{Actor, Address, Result, Timestamp};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Registered models on a ledger and its blobs.
#[derive(Clone)]
pub struct SqliteRegistry {
    ledger: Arc<SqliteLedger>,
    blobs: Arc<dyn Blobs>,
    ids: Arc<dyn Ids>,
}

impl SqliteRegistry {
    /// The registry of a ledger. Manifests of versions go to `blobs`, ids of the runs that register come from `ids`.
    pub fn new(ledger: Arc<SqliteLedger>, blobs: Arc<dyn Blobs>, ids: Arc<dyn Ids>) -> SqliteRegistry {
        SqliteRegistry { ledger, blobs, ids }
    }
}

#[async_trait]
impl ModelRegistry for SqliteRegistry {
    async fn create_model(
        &self,
        name: &str,
        description: &str,
        tags: BTreeMap<String, String>,
        actor: &Actor,
        now: Timestamp,
    ) -> Result<RegisteredModel> {
        self.register(name, description, tags, actor, now).await
    }
    async fn registered_model(&self, name: &str) -> Result<Option<RegisteredModel>> {
        let mut db = self.ledger.reader().await?;
        read::whole_model(&mut db, read::By::Name(name)).await
    }
    async fn model_of_asset(&self, asset: &Address) -> Result<Option<RegisteredModel>> {
        let mut db = self.ledger.reader().await?;
        read::whole_model(&mut db, read::By::Asset(asset)).await
    }
    async fn rename_model(&self, name: &str, to: &str, actor: &Actor, now: Timestamp) -> Result<RegisteredModel> {
        self.rename(name, to, actor, now).await
    }
    async fn describe_model(&self, name: &str, description: &str, now: Timestamp) -> Result<RegisteredModel> {
        self.describe(name, description, now).await
    }
    async fn delete_model(&self, name: &str, actor: &Actor, now: Timestamp) -> Result<()> {
        self.unregister(name, actor, now).await
    }
    async fn set_registered_model_tag(&self, name: &str, key: &str, value: Option<&str>, _now: Timestamp) -> Result<()> {
        self.tag_model(name, key, value).await
    }
    async fn search_models(&self, search: &Search) -> Result<Page<RegisteredModel>> {
        self.find_models(search).await
    }
    async fn create_model_version(&self, version: NewModelVersion, actor: &Actor, now: Timestamp) -> Result<ModelVersion> {
        self.register_version(version, actor, now).await
    }
    async fn model_version(&self, name: &str, number: u64) -> Result<Option<ModelVersion>> {
        let mut db = self.ledger.reader().await?;
        read::whole_version(&mut db, name, number).await
    }
    async fn describe_model_version(&self, name: &str, number: u64, description: &str, now: Timestamp) -> Result<ModelVersion> {
        self.describe_version(name, number, description, now).await
    }
    async fn set_stage(
        &self,
        name: &str,
        number: u64,
        stage: ModelStage,
        archive_others: bool,
        actor: &Actor,
        now: Timestamp,
    ) -> Result<ModelVersion> {
        self.move_to_stage(name, number, stage, archive_others, actor, now).await
    }
    async fn delete_model_version(&self, name: &str, number: u64, actor: &Actor, now: Timestamp) -> Result<()> {
        self.hide_version(name, number, actor, now).await
    }
    async fn set_model_version_tag(&self, name: &str, number: u64, key: &str, value: Option<&str>, _now: Timestamp) -> Result<()> {
        self.tag_version(name, number, key, value).await
    }
    async fn search_model_versions(&self, search: &Search) -> Result<Page<ModelVersion>> {
        self.find_versions(search).await
    }
    async fn latest_versions(&self, names: &[String]) -> Result<Vec<ModelVersion>> {
        self.newest_of_stages(names).await
    }
}
