//! Rows as registered models and versions. Tags and aliases are one statement each for a whole page.

use super::super::cells::Cells;
use super::super::open::fault;
use gristmill_kernel::tracking::registry::{ModelStage, ModelVersion, RegisteredModel};
use gristmill_kernel::{Address, Result, RunId, VersionRef};
use sqlx::sqlite::{SqliteConnection, SqliteRow};
use sqlx::{AssertSqlSafe, Connection};
use std::collections::HashMap;

/// Assets, or versions, in one statement. Lists are padded to 1, 8, 64 or 512, so that few statements are prepared.
const LIST_MAX: usize = 512;

macro_rules! model_columns {
    () => {
        "m.name, m.asset, m.description, m.created_at, m.updated_at"
    };
}
macro_rules! version_columns {
    () => {
        "m.name AS model_name, n.asset, n.number, n.source, n.run, n.run_link, n.model, n.description, n.user_name, n.stage, n.updated_at, \
         v.made_at"
    };
}
/// Versions that are seen.
macro_rules! seen_versions {
    () => {
        "model_version_notes n JOIN registered_models m ON m.asset = n.asset JOIN versions v ON v.asset = n.asset AND v.number = n.number \
         WHERE n.deleted = 0"
    };
}
pub(super) use {model_columns, seen_versions, version_columns};

/// Which model.
pub(super) enum By<'a> {
    Name(&'a str),
    Asset(&'a Address),
}

/// A model's own row, without tags and aliases.
pub(super) fn bare_model(row: &SqliteRow) -> Result<RegisteredModel> {
    let c = Cells::keyed(row, "registered_models", "asset")?;
    Ok(RegisteredModel {
        name: c.text("name")?,
        asset: c.parse("asset")?,
        description: c.text("description")?,
        created_at: c.time("created_at")?,
        updated_at: c.time("updated_at")?,
        tags: Default::default(),
        aliases: Default::default(),
    })
}

/// A version's own row, without tags and aliases.
pub(super) fn bare_version(row: &SqliteRow) -> Result<ModelVersion> {
    let c = Cells::keyed(row, "model_version_notes", "asset")?;
    let id = c.version_ref()?;
    let c = Cells::new(row, "model_version_notes", &id);
    let stage = c.text("stage")?;
    Ok(ModelVersion {
        name: c.text("model_name")?,
        source: c.text("source")?,
        run: c.maybe_text("run")?.map(RunId),
        run_link: c.maybe_text("run_link")?,
        model: c.maybe_text("model")?,
        description: c.text("description")?,
        user: c.maybe_text("user_name")?,
        stage: ModelStage::parse(&stage).ok_or_else(|| c.damage("stage", format_args!("`{stage}` is no stage")))?,
        created_at: c.time("made_at")?,
        updated_at: c.time("updated_at")?,
        tags: Default::default(),
        aliases: Vec::new(),
        id,
    })
}

pub(super) async fn model(db: &mut SqliteConnection, by: By<'_>) -> Result<Option<RegisteredModel>> {
    let query = match by {
        By::Name(name) => {
            sqlx::query(concat!("SELECT ", model_columns!(), " FROM registered_models m WHERE m.name = $1")).bind(name.to_owned())
        }
        By::Asset(asset) => {
            sqlx::query(concat!("SELECT ", model_columns!(), " FROM registered_models m WHERE m.asset = $1")).bind(asset.to_string())
        }
    };
    let row = query.fetch_optional(db).await.map_err(|e| fault("read a registered model", e))?;
    row.as_ref().map(bare_model).transpose()
}

pub(super) async fn whole_model(db: &mut SqliteConnection, by: By<'_>) -> Result<Option<RegisteredModel>> {
    let mut tx = db.begin().await.map_err(|e| fault("read a registered model", e))?;
    let Some(model) = model(&mut tx, by).await? else { return Ok(None) };
    Ok(whole_models(&mut tx, vec![model]).await?.pop())
}

pub(super) async fn version(db: &mut SqliteConnection, name: &str, number: u64) -> Result<Option<ModelVersion>> {
    let Ok(number) = i64::try_from(number) else { return Ok(None) };
    let row = sqlx::query(concat!("SELECT ", version_columns!(), " FROM ", seen_versions!(), " AND m.name = $1 AND n.number = $2"))
        .bind(name.to_owned())
        .bind(number)
        .fetch_optional(db)
        .await
        .map_err(|e| fault("read a model version", e))?;
    row.as_ref().map(bare_version).transpose()
}

pub(super) async fn whole_version(db: &mut SqliteConnection, name: &str, number: u64) -> Result<Option<ModelVersion>> {
    let mut tx = db.begin().await.map_err(|e| fault("read a model version", e))?;
    let Some(version) = version(&mut tx, name, number).await? else { return Ok(None) };
    Ok(whole_versions(&mut tx, vec![version]).await?.pop())
}

/// Adds tags and aliases; aliases of versions that are not seen are none.
pub(super) async fn whole_models(db: &mut SqliteConnection, mut models: Vec<RegisteredModel>) -> Result<Vec<RegisteredModel>> {
    for part in models.chunks_mut(LIST_MAX) {
        let at: HashMap<String, usize> = part.iter().enumerate().map(|(i, model)| (model.asset.to_string(), i)).collect();
        let assets: Vec<String> = part.iter().map(|model| model.asset.to_string()).collect();
        for row in of_assets(db, "asset, name, value", "registered_model_tags", &assets).await? {
            let c = Cells::keyed(&row, "registered_model_tags", "asset")?;
            if let Some(i) = at.get(&c.text("asset")?) {
                part[*i].tags.insert(c.text("name")?, c.text("value")?);
            }
        }
        for row in of_assets(db, "asset, alias, number", "aliases", &assets).await? {
            let c = Cells::keyed(&row, "aliases", "asset")?;
            if let Some(i) = at.get(&c.text("asset")?) {
                part[*i].aliases.insert(c.text("alias")?, c.count("number")?);
            }
        }
    }
    Ok(models)
}

/// Adds tags and aliases.
pub(super) async fn whole_versions(db: &mut SqliteConnection, mut versions: Vec<ModelVersion>) -> Result<Vec<ModelVersion>> {
    for part in versions.chunks_mut(LIST_MAX) {
        let at: HashMap<VersionRef, usize> = part.iter().enumerate().map(|(i, version)| (version.id.clone(), i)).collect();
        let ids: Vec<VersionRef> = part.iter().map(|version| version.id.clone()).collect();
        for row in of_versions(db, "asset, number, name, value", "model_version_tags", &ids).await? {
            let c = Cells::keyed(&row, "model_version_tags", "asset")?;
            if let Some(i) = at.get(&c.version_ref()?) {
                part[*i].tags.insert(c.text("name")?, c.text("value")?);
            }
        }
        let mut assets: Vec<String> = ids.iter().map(|id| id.asset.to_string()).collect();
        assets.sort();
        assets.dedup();
        for row in of_assets(db, "asset, alias, number", "aliases", &assets).await? {
            let c = Cells::keyed(&row, "aliases", "asset")?;
            if let Some(i) = at.get(&c.version_ref()?) {
                part[*i].aliases.push(c.text("alias")?);
            }
        }
        part.iter_mut().for_each(|version| version.aliases.sort());
    }
    Ok(versions)
}

fn padded(count: usize) -> usize {
    [1, 8, 64, LIST_MAX].into_iter().find(|n| *n >= count).unwrap_or(LIST_MAX)
}

async fn of_assets(db: &mut SqliteConnection, columns: &str, table: &str, assets: &[String]) -> Result<Vec<SqliteRow>> {
    let places: Vec<String> = (1..=padded(assets.len())).map(|n| format!("${n}")).collect();
    // Only names from this file and placeholders enter the text.
    let sql = format!("SELECT {columns} FROM {table} WHERE asset IN ({})", places.join(","));
    let mut query = sqlx::query(AssertSqlSafe(sql));
    for i in 0..places.len() {
        query = query.bind(assets.get(i).or(assets.last()).cloned().unwrap_or_default());
    }
    query.fetch_all(db).await.map_err(|e| fault(format_args!("read {table}"), e))
}

async fn of_versions(db: &mut SqliteConnection, columns: &str, table: &str, ids: &[VersionRef]) -> Result<Vec<SqliteRow>> {
    let places: Vec<String> = (0..padded(ids.len())).map(|n| format!("(${}, ${})", 2 * n + 1, 2 * n + 2)).collect();
    // Only names from this file and placeholders enter the text.
    let sql = format!("SELECT {columns} FROM {table} WHERE (asset, number) IN (VALUES {})", places.join(","));
    let mut query = sqlx::query(AssertSqlSafe(sql));
    for i in 0..places.len() {
        let id = ids.get(i).or(ids.last());
        let number = id.and_then(|id| i64::try_from(id.number).ok()).unwrap_or(0);
        query = query.bind(id.map(|id| id.asset.to_string()).unwrap_or_default()).bind(number);
    }
    query.fetch_all(db).await.map_err(|e| fault(format_args!("read {table}"), e))
}
