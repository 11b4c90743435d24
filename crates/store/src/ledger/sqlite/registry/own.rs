//! What the project makes itself: its versions are registered in the transaction that makes them visible.

use super::super::open::fault;
use super::super::write::stored_number;
use super::read::{self, By};
use crate::registry::rules;
use gristmill_kernel::tracking::registry::ModelStage;
use gristmill_kernel::version::AliasMove;
use gristmill_kernel::{Address, Fault, Result, Run, Timestamp, VersionRef};
use sqlx::sqlite::SqliteConnection;

/// What is noted about a version from the start.
pub(super) struct Note<'a> {
    pub source: &'a str,
    pub run: Option<&'a str>,
    pub run_link: Option<&'a str>,
    pub model: Option<&'a str>,
    pub description: &'a str,
    pub user: Option<&'a str>,
}

/// Registers a version of an asset `models.*` that a run has just made, and its asset if nobody did. Versions of other assets, and
/// those that are registered by clients, are not its business.
pub(in super::super) async fn note_made(db: &mut SqliteConnection, run: &Run, id: &VersionRef, now: Timestamp) -> Result<()> {
    if !rules::is_own_model(run.stage, &id.asset) {
        return Ok(());
    }
    match read::model(db, By::Asset(&id.asset)).await? {
        Some(_) => super::models::touch(db, &id.asset, now).await?,
        None => {
            let name = free_name(db, &id.asset).await?;
            insert_model(db, &id.asset, &name, "", now).await?;
        }
    }
    let source = rules::own_source(id);
    let note = Note { source: &source, run: Some(&run.id.0), run_link: None, model: None, description: "", user: None };
    insert_note(db, id, note, now).await
}

/// An alias never names a version that was deleted.
pub(in super::super) async fn refuse_deleted(db: &mut SqliteConnection, wish: &AliasMove) -> Result<()> {
    let Some(number) = wish.to else { return Ok(()) };
    let id = VersionRef { asset: wish.asset.clone(), number };
    if is_deleted(db, &id).await? { Err(rules::deleted_version(&id)) } else { Ok(()) }
}

/// Whether a version was deleted from the registry. It is no answer to "the same again" then.
pub(in super::super) async fn is_deleted(db: &mut SqliteConnection, id: &VersionRef) -> Result<bool> {
    let Ok(number) = i64::try_from(id.number) else { return Ok(false) };
    let row = sqlx::query("SELECT 1 FROM model_version_notes WHERE asset = $1 AND number = $2 AND deleted = 1")
        .bind(id.asset.to_string())
        .bind(number)
        .fetch_optional(db)
        .await
        .map_err(|e| fault("look for a model version", e))?;
    Ok(row.is_some())
}

async fn free_name(db: &mut SqliteConnection, asset: &Address) -> Result<String> {
    for name in rules::names_for(asset) {
        if read::model(db, By::Name(&name)).await?.is_none() {
            return Ok(name);
        }
    }
    Err(Fault::internal("there is always another name"))
}

pub(super) async fn insert_model(db: &mut SqliteConnection, asset: &Address, name: &str, description: &str, now: Timestamp) -> Result<()> {
    sqlx::query("INSERT INTO registered_models (asset, name, description, created_at, updated_at) VALUES ($1, $2, $3, $4, $4)")
        .bind(asset.to_string())
        .bind(name)
        .bind(description)
        .bind(now.micros())
        .execute(db)
        .await
        .map_err(|e| fault("register a model", e))?;
    Ok(())
}

pub(super) async fn insert_note(db: &mut SqliteConnection, id: &VersionRef, note: Note<'_>, now: Timestamp) -> Result<()> {
    sqlx::query(
        "INSERT INTO model_version_notes (asset, number, source, run, run_link, model, description, user_name, stage, updated_at, deleted) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, 0)",
    )
    .bind(id.asset.to_string())
    .bind(stored_number(id.number)?)
    .bind(note.source)
    .bind(note.run)
    .bind(note.run_link)
    .bind(note.model)
    .bind(note.description)
    .bind(note.user)
    .bind(ModelStage::None.as_str())
    .bind(now.micros())
    .execute(db)
    .await
    .map_err(|e| fault("note a model version", e))?;
    Ok(())
}
