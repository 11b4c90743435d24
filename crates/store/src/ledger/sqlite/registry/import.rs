//! Taking over registered models of another registry: the port `RegistryImport`.
//!
//! Promise: names, numbers and moments as given; what is there keeps its values and gets only the tags that it lacks. A registration is a run of
//! stage `register` as any other, dated now; the version it makes is dated as it was there.

use super::super::open::fault;
use super::super::write::{append, commit, stored_number, write};
use super::own::{self, Note};
use super::read::{self, By};
use super::{SqliteRegistry, models, versions};
use crate::registry::{rules, story};
use async_trait::async_trait;
use gristmill_kernel::port::{ImportedModel, ImportedVersion, RegistryImport, Taken};
use gristmill_kernel::tracking::registry::{NewModelVersion, PROMPT_TAG, check_model_name};
use gristmill_kernel::{Actor, Address, Code, Fault, Result, Timestamp, VersionRef};
use sqlx::sqlite::SqliteConnection;
use std::collections::BTreeMap;

#[async_trait]
impl RegistryImport for SqliteRegistry {
    async fn import_model(&self, wanted: ImportedModel, actor: &Actor, now: Timestamp) -> Result<Taken> {
        check_model_name(&wanted.name)?;
        let mut db = self.ledger.writer().await;
        let mut tx = write(&mut db).await?;
        let taken = take_model(&mut tx, &wanted, actor, now).await?;
        commit(tx).await?;
        Ok(taken)
    }

    async fn import_model_version(&self, wanted: ImportedVersion, actor: &Actor, now: Timestamp) -> Result<Taken> {
        let asset = {
            let mut db = self.ledger.reader().await?;
            models::must(&mut db, &wanted.name).await?.asset
        };
        let new = as_new(&wanted);
        let mut registration = rules::registration(&new, asset)?;
        self.blobs.put(std::mem::take(&mut registration.content).into()).await?;
        let mut version = registration.version;
        let mut db = self.ledger.writer().await;
        let mut tx = write(&mut db).await?;
        version.asset = models::must(&mut tx, &wanted.name).await?.asset;
        if let Some(taken) = known_version(&mut tx, &version.asset, &wanted).await? {
            commit(tx).await?;
            return Ok(taken);
        }
        let imported = Some((wanted.number, wanted.created_at));
        let id = versions::run_registration(&mut tx, self.ids.run(), &new, &version, imported, actor, now).await?;
        let note = Note {
            source: &wanted.source,
            run: wanted.run.as_ref().map(|run| run.0.as_str()),
            run_link: wanted.run_link.as_deref(),
            model: wanted.model.as_deref(),
            description: &wanted.description,
            user: wanted.user.as_deref(),
        };
        own::insert_note(&mut tx, &id, note, wanted.updated_at).await?;
        sqlx::query("UPDATE model_version_notes SET stage = $3 WHERE asset = $1 AND number = $2")
            .bind(id.asset.to_string())
            .bind(stored_number(id.number)?)
            .bind(wanted.stage.as_str())
            .execute(&mut *tx)
            .await
            .map_err(|e| fault("take a model version over", e))?;
        for (key, value) in &wanted.tags {
            versions::put_version_tag(&mut tx, &id, key, Some(value)).await?;
        }
        commit(tx).await?;
        Ok(Taken::New)
    }
}

async fn take_model(db: &mut SqliteConnection, wanted: &ImportedModel, actor: &Actor, now: Timestamp) -> Result<Taken> {
    if let Some(known) = read::model(db, By::Name(&wanted.name)).await? {
        let asset = known.asset.clone();
        let known = read::whole_models(db, vec![known]).await?.pop().map(|model| model.tags).unwrap_or_default();
        if known.contains_key(PROMPT_TAG) != wanted.tags.contains_key(PROMPT_TAG) {
            return Err(rules::name_taken(&wanted.name, &known, &wanted.tags));
        }
        let lacking = lacking(&wanted.tags, &known);
        for (key, value) in &lacking {
            models::put_model_tag(db, &asset, key, Some(value)).await?;
        }
        return Ok(if lacking.is_empty() { Taken::Same } else { Taken::Added });
    }
    let asset = unused_asset(db, &wanted.name).await?;
    own::insert_model(db, &asset, &wanted.name, &wanted.description, wanted.created_at).await?;
    models::touch(db, &asset, wanted.updated_at).await?;
    for (key, value) in &wanted.tags {
        models::put_model_tag(db, &asset, key, Some(value)).await?;
    }
    append(db, now, story::registered(&asset, &wanted.name, actor)).await?;
    Ok(Taken::New)
}

/// An asset without versions, not even ones of a model that was deleted: the numbers that come are all free.
async fn unused_asset(db: &mut SqliteConnection, name: &str) -> Result<Address> {
    for asset in rules::assets_for(name) {
        let asset = asset?;
        if read::model(db, By::Asset(&asset)).await?.is_none() && versions::next_number(db, &asset).await? == 1 {
            return Ok(asset);
        }
    }
    Err(Fault::internal("there is always another asset"))
}

/// What is to be done about a number that was given here already; `None` if it was not.
async fn known_version(db: &mut SqliteConnection, asset: &Address, wanted: &ImportedVersion) -> Result<Option<Taken>> {
    let id = VersionRef { asset: asset.clone(), number: wanted.number };
    let Some(known) = read::version(db, &wanted.name, wanted.number).await? else {
        let row = sqlx::query("SELECT 1 FROM versions WHERE asset = $1 AND number = $2")
            .bind(asset.to_string())
            .bind(stored_number(wanted.number)?)
            .fetch_optional(db)
            .await
            .map_err(|e| fault("look for a model version", e))?;
        return match row {
            Some(_) => {
                Err(Fault::conflict(Code::ALREADY_EXISTS, format!("version {} of `{}` was deleted here", wanted.number, wanted.name)))
            }
            None => Ok(None),
        };
    };
    if known.source != wanted.source {
        let told = format!("version {} of `{}` has another source here: `{}`", wanted.number, wanted.name, known.source);
        return Err(Fault::conflict(Code::ALREADY_EXISTS, told));
    }
    let known = read::whole_versions(db, vec![known]).await?.pop().map(|version| version.tags).unwrap_or_default();
    let lacking = lacking(&wanted.tags, &known);
    for (key, value) in &lacking {
        versions::put_version_tag(db, &id, key, Some(value)).await?;
    }
    Ok(Some(if lacking.is_empty() { Taken::Same } else { Taken::Added }))
}

fn lacking(wanted: &BTreeMap<String, String>, known: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    wanted.iter().filter(|(key, _)| !known.contains_key(*key)).map(|(key, value)| (key.clone(), value.clone())).collect()
}

fn as_new(wanted: &ImportedVersion) -> NewModelVersion {
    NewModelVersion {
        name: wanted.name.clone(),
        source: wanted.source.clone(),
        run: wanted.run.clone(),
        run_link: wanted.run_link.clone(),
        model: wanted.model.clone(),
        description: wanted.description.clone(),
        user: wanted.user.clone(),
        tags: wanted.tags.clone(),
        files: wanted.files.clone(),
    }
}
