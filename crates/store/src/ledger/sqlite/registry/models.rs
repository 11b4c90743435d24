//! Writing registered models.

use super::super::open::fault;
use super::super::write::{append, apply_move, commit, write};
use super::read::{self, By};
use super::{SqliteRegistry, own};
use crate::registry::{rules, story};
use gristmill_kernel::tracking::registry::{RegisteredModel, check_model_name};
use gristmill_kernel::{Actor, Address, AliasName, Fault, Result, Timestamp, VersionRef};
use sqlx::Row;
use sqlx::sqlite::SqliteConnection;
use std::collections::BTreeMap;

/// A model that must be there, without tags and aliases.
pub(super) async fn must(db: &mut SqliteConnection, name: &str) -> Result<RegisteredModel> {
    read::model(db, By::Name(name)).await?.ok_or_else(|| rules::unknown_model(name))
}

/// The model as this transaction left it.
async fn reread(db: &mut SqliteConnection, asset: &Address) -> Result<RegisteredModel> {
    let model = read::model(db, By::Asset(asset)).await?;
    let model = model.ok_or_else(|| Fault::internal(format!("registered model of {asset} vanished while it was written")))?;
    read::whole_models(db, vec![model]).await?.pop().ok_or_else(|| Fault::internal("one model is one model"))
}

pub(super) async fn touch(db: &mut SqliteConnection, asset: &Address, now: Timestamp) -> Result<()> {
    sqlx::query("UPDATE registered_models SET updated_at = $2 WHERE asset = $1")
        .bind(asset.to_string())
        .bind(now.micros())
        .execute(db)
        .await
        .map_err(|e| fault("write a registered model", e))?;
    Ok(())
}

/// Takes away every alias that names this version, each with its line.
pub(super) async fn take_aliases(db: &mut SqliteConnection, id: &VersionRef, actor: &Actor, now: Timestamp) -> Result<()> {
    let rows = sqlx::query("SELECT alias FROM aliases WHERE asset = $1 AND number = $2 ORDER BY alias")
        .bind(id.asset.to_string())
        .bind(i64::try_from(id.number).unwrap_or(i64::MAX))
        .fetch_all(&mut *db)
        .await
        .map_err(|e| fault("list the aliases of a version", e))?;
    for row in rows {
        let alias: String = row.try_get("alias").map_err(|e| fault("list the aliases of a version", e))?;
        apply_move(db, rules::alias_gone(id, AliasName::new(alias)?, actor), now).await?;
    }
    Ok(())
}

pub(super) async fn put_model_tag(db: &mut SqliteConnection, asset: &Address, key: &str, value: Option<&str>) -> Result<()> {
    let query = match value {
        Some(value) => sqlx::query(
            "INSERT INTO registered_model_tags (asset, name, value) VALUES ($1, $2, $3) \
             ON CONFLICT (asset, name) DO UPDATE SET value = excluded.value",
        )
        .bind(asset.to_string())
        .bind(key)
        .bind(value),
        None => sqlx::query("DELETE FROM registered_model_tags WHERE asset = $1 AND name = $2").bind(asset.to_string()).bind(key),
    };
    query.execute(db).await.map_err(|e| fault("write a tag of a registered model", e))?;
    Ok(())
}

impl SqliteRegistry {
    pub(super) async fn register(
        &self,
        name: &str,
        description: &str,
        tags: BTreeMap<String, String>,
        actor: &Actor,
        now: Timestamp,
    ) -> Result<RegisteredModel> {
        check_model_name(name)?;
        let mut db = self.ledger.writer().await;
        let mut tx = write(&mut db).await?;
        if let Some(known) = read::model(&mut tx, By::Name(name)).await? {
            let known = read::whole_models(&mut tx, vec![known]).await?.pop().map(|model| model.tags).unwrap_or_default();
            return Err(rules::name_taken(name, &known, &tags));
        }
        let asset = free_asset(&mut tx, name).await?;
        own::insert_model(&mut tx, &asset, name, description, now).await?;
        for (key, value) in &tags {
            put_model_tag(&mut tx, &asset, key, Some(value)).await?;
        }
        append(&mut tx, now, story::registered(&asset, name, actor)).await?;
        let written = reread(&mut tx, &asset).await?;
        commit(tx).await?;
        Ok(written)
    }

    pub(super) async fn rename(&self, name: &str, to: &str, actor: &Actor, now: Timestamp) -> Result<RegisteredModel> {
        check_model_name(to)?;
        let mut db = self.ledger.writer().await;
        let mut tx = write(&mut db).await?;
        let model = must(&mut tx, name).await?;
        if read::model(&mut tx, By::Name(to)).await?.is_some_and(|other| other.asset != model.asset) {
            return Err(rules::rename_taken(to));
        }
        sqlx::query("UPDATE registered_models SET name = $2, updated_at = $3 WHERE asset = $1")
            .bind(model.asset.to_string())
            .bind(to)
            .bind(now.micros())
            .execute(&mut *tx)
            .await
            .map_err(|e| fault("rename a registered model", e))?;
        sqlx::query("UPDATE model_version_notes SET updated_at = $2 WHERE asset = $1 AND deleted = 0")
            .bind(model.asset.to_string())
            .bind(now.micros())
            .execute(&mut *tx)
            .await
            .map_err(|e| fault("rename a registered model", e))?;
        append(&mut tx, now, story::renamed(&model.asset, name, to, actor)).await?;
        let written = reread(&mut tx, &model.asset).await?;
        commit(tx).await?;
        Ok(written)
    }

    pub(super) async fn describe(&self, name: &str, description: &str, now: Timestamp) -> Result<RegisteredModel> {
        let mut db = self.ledger.writer().await;
        let mut tx = write(&mut db).await?;
        let model = must(&mut tx, name).await?;
        sqlx::query("UPDATE registered_models SET description = $2, updated_at = $3 WHERE asset = $1")
            .bind(model.asset.to_string())
            .bind(description)
            .bind(now.micros())
            .execute(&mut *tx)
            .await
            .map_err(|e| fault("describe a registered model", e))?;
        let written = reread(&mut tx, &model.asset).await?;
        commit(tx).await?;
        Ok(written)
    }

    pub(super) async fn unregister(&self, name: &str, actor: &Actor, now: Timestamp) -> Result<()> {
        let mut db = self.ledger.writer().await;
        let mut tx = write(&mut db).await?;
        let asset = must(&mut tx, name).await?.asset;
        let own = sqlx::query(
            "SELECT 1 FROM model_version_notes n JOIN versions v ON v.asset = n.asset AND v.number = n.number JOIN runs r ON r.id = v.run \
             WHERE n.asset = $1 AND n.deleted = 0 AND r.stage <> 'register' LIMIT 1",
        )
        .bind(asset.to_string())
        .fetch_optional(&mut *tx)
        .await
        .map_err(|e| fault("look for versions of the project", e))?;
        if own.is_some() {
            return Err(rules::made_by_project(name, &asset));
        }
        let rows = sqlx::query("SELECT DISTINCT number FROM aliases WHERE asset = $1 ORDER BY number")
            .bind(asset.to_string())
            .fetch_all(&mut *tx)
            .await
            .map_err(|e| fault("list aliases", e))?;
        for row in rows {
            let number: i64 = row.try_get("number").map_err(|e| fault("list aliases", e))?;
            let id = VersionRef { asset: asset.clone(), number: number.unsigned_abs() };
            take_aliases(&mut tx, &id, actor, now).await?;
        }
        let hidden = sqlx::query("UPDATE model_version_notes SET deleted = 1, updated_at = $2 WHERE asset = $1 AND deleted = 0")
            .bind(asset.to_string())
            .bind(now.micros())
            .execute(&mut *tx)
            .await
            .map_err(|e| fault("delete a registered model", e))?
            .rows_affected();
        for sql in ["DELETE FROM registered_model_tags WHERE asset = $1", "DELETE FROM registered_models WHERE asset = $1"] {
            sqlx::query(sql).bind(asset.to_string()).execute(&mut *tx).await.map_err(|e| fault("delete a registered model", e))?;
        }
        append(&mut tx, now, story::deleted(&asset, name, hidden, actor)).await?;
        commit(tx).await
    }

    pub(super) async fn tag_model(&self, name: &str, key: &str, value: Option<&str>) -> Result<()> {
        let mut db = self.ledger.writer().await;
        let mut tx = write(&mut db).await?;
        let asset = must(&mut tx, name).await?.asset;
        put_model_tag(&mut tx, &asset, key, value).await?;
        commit(tx).await
    }
}

/// The first asset for a name that no other name stands for.
async fn free_asset(db: &mut SqliteConnection, name: &str) -> Result<Address> {
    for asset in rules::assets_for(name) {
        let asset = asset?;
        if read::model(db, By::Asset(&asset)).await?.is_none() {
            return Ok(asset);
        }
    }
    Err(Fault::internal("there is always another asset"))
}
