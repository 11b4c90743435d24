//! Writing versions of registered models.

use super::super::finish::{insert_version, write_end, write_output};
use super::super::open::fault;
use super::super::write::{append, commit, insert_run, must as must_run, stored_number, write};
use super::own::{Note, insert_note};
use super::{SqliteRegistry, models, read};
use crate::registry::{rules, story};
use gristmill_kernel::tracking::registry::{ModelStage, ModelVersion, NewModelVersion};
use gristmill_kernel::{Actor, Address, Fault, NewVersion, Result, RunId, Timestamp, VersionRef};
use sqlx::Row;
use sqlx::sqlite::SqliteConnection;

/// A version that must be there, without tags and aliases.
async fn must(db: &mut SqliteConnection, name: &str, number: u64) -> Result<ModelVersion> {
    read::version(db, name, number).await?.ok_or_else(|| rules::unknown_version(name, number))
}

/// The version as this transaction left it.
async fn reread(db: &mut SqliteConnection, name: &str, number: u64) -> Result<ModelVersion> {
    let version = must(db, name, number).await?;
    read::whole_versions(db, vec![version]).await?.pop().ok_or_else(|| Fault::internal("one version is one version"))
}

pub(super) async fn put_version_tag(db: &mut SqliteConnection, id: &VersionRef, key: &str, value: Option<&str>) -> Result<()> {
    let query = match value {
        Some(value) => sqlx::query(
            "INSERT INTO model_version_tags (asset, number, name, value) VALUES ($1, $2, $3, $4) \
             ON CONFLICT (asset, number, name) DO UPDATE SET value = excluded.value",
        )
        .bind(id.asset.to_string())
        .bind(stored_number(id.number)?)
        .bind(key)
        .bind(value),
        None => sqlx::query("DELETE FROM model_version_tags WHERE asset = $1 AND number = $2 AND name = $3")
            .bind(id.asset.to_string())
            .bind(stored_number(id.number)?)
            .bind(key),
    };
    query.execute(db).await.map_err(|e| fault("write a tag of a model version", e))?;
    Ok(())
}

async fn set_stage_of(db: &mut SqliteConnection, id: &VersionRef, stage: ModelStage, now: Timestamp) -> Result<()> {
    sqlx::query("UPDATE model_version_notes SET stage = $3, updated_at = $4 WHERE asset = $1 AND number = $2")
        .bind(id.asset.to_string())
        .bind(stored_number(id.number)?)
        .bind(stage.as_str())
        .bind(now.micros())
        .execute(db)
        .await
        .map_err(|e| fault("move a model version to a stage", e))?;
    Ok(())
}

/// One more than was ever given, whether it is still seen or not.
pub(super) async fn next_number(db: &mut SqliteConnection, asset: &Address) -> Result<u64> {
    let row = sqlx::query("SELECT coalesce(max(number), 0) FROM versions WHERE asset = $1")
        .bind(asset.to_string())
        .fetch_one(db)
        .await
        .map_err(|e| fault("number a model version", e))?;
    Ok(super::super::read::only_number(&row)?.unsigned_abs() + 1)
}

/// A run of stage `register` from its beginning to its end, with the version it makes. An imported version brings its number and its moment.
pub(super) async fn run_registration(
    db: &mut SqliteConnection,
    run: RunId,
    new: &NewModelVersion,
    version: &NewVersion,
    imported: Option<(u64, Timestamp)>,
    actor: &Actor,
    now: Timestamp,
) -> Result<VersionRef> {
    insert_run(db, &rules::register_run(new, version, run.clone(), actor, now), Some((rules::WORKER, now)), now).await?;
    let held = must_run(db, &run).await?;
    let (number, made_at) = match imported {
        Some(imported) => imported,
        None => (next_number(db, &version.asset).await?, now),
    };
    let id = insert_version(db, &held.run, version, number, made_at).await?;
    write_output(db, &run, 0, &id).await?;
    let end = rules::register_end(&id, new.files.len());
    write_end(db, &run, &end, now).await?;
    append(db, now, crate::story::finished(&held.run, &end, std::slice::from_ref(&id))).await?;
    Ok(id)
}

impl SqliteRegistry {
    pub(super) async fn register_version(&self, new: NewModelVersion, actor: &Actor, now: Timestamp) -> Result<ModelVersion> {
        // Before anything is stored. The asset is looked up again under the lock: the model may be deleted meanwhile.
        let asset = {
            let mut db = self.ledger.reader().await?;
            models::must(&mut db, &new.name).await?.asset
        };
        let mut registration = rules::registration(&new, asset)?;
        // Content first, and durable: a version never names what is not there.
        self.blobs.put(std::mem::take(&mut registration.content).into()).await?;
        let mut version = registration.version;
        let mut db = self.ledger.writer().await;
        let mut tx = write(&mut db).await?;
        version.asset = models::must(&mut tx, &new.name).await?.asset;
        let id = run_registration(&mut tx, self.ids.run(), &new, &version, None, actor, now).await?;
        let note = Note {
            source: &new.source,
            run: new.run.as_ref().map(|run| run.0.as_str()),
            run_link: new.run_link.as_deref(),
            model: new.model.as_deref(),
            description: &new.description,
            user: new.user.as_deref(),
        };
        insert_note(&mut tx, &id, note, now).await?;
        for (key, value) in &new.tags {
            put_version_tag(&mut tx, &id, key, Some(value)).await?;
        }
        models::touch(&mut tx, &id.asset, now).await?;
        let written = reread(&mut tx, &new.name, id.number).await?;
        commit(tx).await?;
        Ok(written)
    }

    pub(super) async fn describe_version(&self, name: &str, number: u64, description: &str, now: Timestamp) -> Result<ModelVersion> {
        let mut db = self.ledger.writer().await;
        let mut tx = write(&mut db).await?;
        let id = must(&mut tx, name, number).await?.id;
        sqlx::query("UPDATE model_version_notes SET description = $3, updated_at = $4 WHERE asset = $1 AND number = $2")
            .bind(id.asset.to_string())
            .bind(stored_number(id.number)?)
            .bind(description)
            .bind(now.micros())
            .execute(&mut *tx)
            .await
            .map_err(|e| fault("describe a model version", e))?;
        let written = reread(&mut tx, name, number).await?;
        commit(tx).await?;
        Ok(written)
    }

    pub(super) async fn move_to_stage(
        &self,
        name: &str,
        number: u64,
        stage: ModelStage,
        archive_others: bool,
        actor: &Actor,
        now: Timestamp,
    ) -> Result<ModelVersion> {
        rules::archiving_fits(stage, archive_others)?;
        let mut db = self.ledger.writer().await;
        let mut tx = write(&mut db).await?;
        let version = must(&mut tx, name, number).await?;
        let mut archived = Vec::new();
        if archive_others {
            archived = others_in(&mut tx, &version.id, stage).await?;
            for number in &archived {
                let other = VersionRef { asset: version.id.asset.clone(), number: *number };
                set_stage_of(&mut tx, &other, ModelStage::Archived, now).await?;
            }
        }
        set_stage_of(&mut tx, &version.id, stage, now).await?;
        models::touch(&mut tx, &version.id.asset, now).await?;
        append(&mut tx, now, story::staged(&version.id, version.stage, stage, &archived, actor)).await?;
        let written = reread(&mut tx, name, number).await?;
        commit(tx).await?;
        Ok(written)
    }

    pub(super) async fn hide_version(&self, name: &str, number: u64, actor: &Actor, now: Timestamp) -> Result<()> {
        let mut db = self.ledger.writer().await;
        let mut tx = write(&mut db).await?;
        let id = must(&mut tx, name, number).await?.id;
        models::take_aliases(&mut tx, &id, actor, now).await?;
        sqlx::query("UPDATE model_version_notes SET deleted = 1, updated_at = $3 WHERE asset = $1 AND number = $2")
            .bind(id.asset.to_string())
            .bind(stored_number(id.number)?)
            .bind(now.micros())
            .execute(&mut *tx)
            .await
            .map_err(|e| fault("delete a model version", e))?;
        models::touch(&mut tx, &id.asset, now).await?;
        append(&mut tx, now, story::hidden(&id, name, actor)).await?;
        commit(tx).await
    }

    pub(super) async fn tag_version(&self, name: &str, number: u64, key: &str, value: Option<&str>) -> Result<()> {
        let mut db = self.ledger.writer().await;
        let mut tx = write(&mut db).await?;
        let id = must(&mut tx, name, number).await?.id;
        put_version_tag(&mut tx, &id, key, value).await?;
        commit(tx).await
    }
}

async fn others_in(db: &mut SqliteConnection, id: &VersionRef, stage: ModelStage) -> Result<Vec<u64>> {
    let rows = sqlx::query(
        "SELECT number FROM model_version_notes WHERE asset = $1 AND number <> $2 AND stage = $3 AND deleted = 0 ORDER BY number",
    )
    .bind(id.asset.to_string())
    .bind(stored_number(id.number)?)
    .bind(stage.as_str())
    .fetch_all(db)
    .await
    .map_err(|e| fault("list the versions of a stage", e))?;
    rows.iter()
        .map(|row| row.try_get::<i64, _>("number").map(i64::unsigned_abs).map_err(|e| fault("list the versions of a stage", e)))
        .collect()
}
