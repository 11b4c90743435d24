//! What `deploy` asks about registered versions, answered by the same code that serves them.

use super::Refused;
use crate::model::LoadedModel;
use async_trait::async_trait;
use gristmill_kernel::choice::{RegisteredChoice, RegisteredWhich};
use gristmill_kernel::port::{Blobs, Ledger, ModelRegistry, RegisteredVersions};
use gristmill_kernel::version::Which;
use gristmill_kernel::{Code, Fault, Result, VersionRef};
use std::sync::Arc;

/// Registered versions of a ledger.
pub struct Registered {
    /// Names, aliases, numbers.
    pub models: Arc<dyn ModelRegistry>,
    /// The versions behind them.
    pub ledger: Arc<dyn Ledger>,
    /// Their content.
    pub blobs: Arc<dyn Blobs>,
}

#[async_trait]
impl RegisteredVersions for Registered {
    async fn named(&self, choice: &RegisteredChoice) -> Result<Option<VersionRef>> {
        let Some(model) = self.models.registered_model(&choice.name).await? else { return Ok(None) };
        let number = match &choice.which {
            RegisteredWhich::Number(number) => *number,
            RegisteredWhich::Alias(alias) => match model.aliases.get(alias.as_str()) {
                Some(number) => *number,
                None => return Ok(None),
            },
            RegisteredWhich::Latest => {
                // Newest first; deleted ones are in the ledger, but not in the registry.
                for version in self.ledger.versions(&model.asset).await? {
                    if let Some(found) = self.models.model_version(&choice.name, version.id.number).await? {
                        return Ok(Some(found.id));
                    }
                }
                return Ok(None);
            }
        };
        Ok(self.models.model_version(&choice.name, number).await?.map(|version| version.id))
    }

    async fn servable(&self, id: &VersionRef) -> Result<()> {
        let version = self.ledger.version(&id.asset, &Which::Number(id.number)).await?;
        let version = version.ok_or_else(|| Fault::not_found(Code::UNKNOWN_MODEL, format!("{id} does not exist")))?;
        match LoadedModel::registered(&version, self.blobs.as_ref()).await? {
            Some(_) => Ok(()),
            None => {
                let name = &id.asset.name;
                let fix = format!("name it without its registry: model = \"{name}\"");
                Err(Refused::new("it was trained by a project of Gristmill and reads that project's features", fix).of(id))
            }
        }
    }
}
