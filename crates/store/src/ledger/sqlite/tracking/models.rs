//! Logged models: written by clients, and read whole, a page at a time.

use super::super::cells::{Cells, at};
use super::super::open::fault;
use super::super::write::{append, stored_number};
use super::experiments::{self, lifecycle};
use super::log::parts;
use super::sql::Sql;
use crate::tracked::fields::{model_status, model_status_word};
use crate::tracked::{self, Changed, story};
use gristmill_kernel::tracking::{DatasetKey, ExperimentId, Lifecycle, LoggedModel, LoggedModelStatus, Point, ViewType};
use gristmill_kernel::{Actor, Result, RunId, Timestamp};
use sqlx::sqlite::{SqliteConnection, SqliteRow};
use std::collections::{BTreeMap, HashMap};

/// The columns that [`of_row`] reads.
pub(super) const COLUMNS: &str =
    "m.id, m.experiment, m.name, m.model_type, m.source_run, m.status, m.status_message, m.created_at, m.updated_at, m.deleted_at";

/// A logged model's own row, without what hangs on it.
pub(super) fn of_row(row: &SqliteRow) -> Result<LoggedModel> {
    let c = Cells::keyed(row, "logged_models", "id")?;
    let word = c.text("status")?;
    Ok(LoggedModel {
        id: c.text("id")?,
        experiment: ExperimentId(c.count("experiment")?),
        name: c.text("name")?,
        model_type: c.maybe_text("model_type")?,
        source_run: c.maybe_text("source_run")?.map(RunId),
        status: model_status(&word).ok_or_else(|| c.damage("status", format_args!("`{word}` is not a status")))?,
        status_message: c.maybe_text("status_message")?,
        lifecycle: lifecycle(c.maybe_int("deleted_at")?),
        created_at: c.time("created_at")?,
        updated_at: c.time("updated_at")?,
        params: BTreeMap::new(),
        tags: BTreeMap::new(),
        metrics: Vec::new(),
    })
}

/// Adds what hangs on logged models: three statements per 512 of them.
pub(super) async fn whole(db: &mut SqliteConnection, mut models: Vec<LoggedModel>) -> Result<Vec<LoggedModel>> {
    let place: HashMap<String, usize> = models.iter().enumerate().map(|(i, model)| (model.id.clone(), i)).collect();
    let ids: Vec<String> = models.iter().map(|model| model.id.clone()).collect();
    for part in parts(&ids) {
        for (table, is_tag) in [("logged_model_params", false), ("logged_model_tags", true)] {
            let mut sql = Sql::new(&format!("SELECT model, name, value FROM {table} WHERE model IN "));
            sql.list(part.iter().cloned());
            for row in sql.rows(db, "read parameters and tags").await? {
                if let Some(place) = place.get(at::<&str>(&row, 0, table, "model")?) {
                    let words = if is_tag { &mut models[*place].tags } else { &mut models[*place].params };
                    words.insert(at(&row, 1, table, "name")?, at(&row, 2, table, "value")?);
                }
            }
        }
        let mut sql = Sql::new("SELECT model, name, step, at, run, value, nan, dataset, digest FROM logged_model_metrics WHERE model IN ");
        sql.list(part.iter().cloned()).text(" ORDER BY model, name, step, at, run, value, nan, dataset, digest");
        for row in sql.rows(db, "read metrics of models").await? {
            let table = "logged_model_metrics";
            let Some(place) = place.get(at::<&str>(&row, 0, table, "model")?) else { continue };
            let model = &mut models[*place];
            let (name, digest): (String, String) = (at(&row, 7, table, "dataset")?, at(&row, 8, table, "digest")?);
            let nan = at::<i64>(&row, 6, table, "nan")? != 0;
            let point = Point {
                key: at(&row, 1, table, "name")?,
                value: if nan { f64::NAN } else { at(&row, 5, table, "value")? },
                at: Timestamp::from_micros(at(&row, 3, table, "at")?),
                step: at(&row, 2, table, "step")?,
                model: Some(model.id.clone()),
                dataset: (!name.is_empty()).then_some(DatasetKey { name, digest }),
            };
            model.metrics.push((point, RunId(at(&row, 4, table, "run")?)));
        }
    }
    Ok(models)
}

pub(super) async fn bare(db: &mut SqliteConnection, id: &str) -> Result<Option<LoggedModel>> {
    let mut sql = Sql::new(&format!("SELECT {COLUMNS} FROM logged_models m WHERE m.id = "));
    sql.value(id);
    sql.rows(db, "read a logged model").await?.first().map(of_row).transpose()
}

async fn must(db: &mut SqliteConnection, id: &str) -> Result<LoggedModel> {
    bare(db, id).await?.ok_or_else(|| tracked::unknown_model(id))
}

/// One, whole.
pub(super) async fn one(db: &mut SqliteConnection, id: &str, view: ViewType) -> Result<Option<LoggedModel>> {
    let Some(model) = bare(db, id).await?.filter(|model| view.shows(model.lifecycle)) else { return Ok(None) };
    Ok(whole(db, vec![model]).await?.pop())
}

pub(super) async fn create(db: &mut SqliteConnection, model: LoggedModel, now: Timestamp) -> Result<LoggedModel> {
    experiments::must_be_active(db, model.experiment).await?;
    if bare(db, &model.id).await?.is_some() {
        return Err(tracked::model_exists(&model.id));
    }
    let model = create_as(db, model, LoggedModelStatus::Pending).await?;
    append(db, now, story::model_made(&model, &Actor::system("tracking"))).await?;
    Ok(model)
}

/// Writes a logged model that is not there, in this state.
pub(super) async fn create_as(db: &mut SqliteConnection, model: LoggedModel, status: LoggedModelStatus) -> Result<LoggedModel> {
    let model = LoggedModel { status, lifecycle: Lifecycle::Active, metrics: Vec::new(), ..model };
    sqlx::query(
        "INSERT INTO logged_models (id, experiment, name, model_type, source_run, status, status_message, created_at, updated_at) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
    )
    .bind(&model.id)
    .bind(stored_number(model.experiment.0)?)
    .bind(&model.name)
    .bind(model.model_type.as_deref())
    .bind(model.source_run.as_ref().map(|id| id.0.as_str()))
    .bind(model_status_word(model.status))
    .bind(model.status_message.as_deref())
    .bind(model.created_at.micros())
    .bind(model.updated_at.micros())
    .execute(&mut *db)
    .await
    .map_err(|e| fault("write a logged model", e))?;
    add_words(db, &model.id, &model.params, &model.tags).await?;
    Ok(model)
}

/// Adds parameters and tags that are not there.
pub(super) async fn add_words(
    db: &mut SqliteConnection,
    id: &str,
    params: &BTreeMap<String, String>,
    tags: &BTreeMap<String, String>,
) -> Result<()> {
    for (name, value) in params {
        put_word(db, PUT_PARAM, id, name, value).await?;
    }
    for (name, value) in tags {
        put_word(db, PUT_TAG, id, name, value).await?;
    }
    Ok(())
}

const PUT_PARAM: &str = "INSERT INTO logged_model_params (model, name, value) VALUES ($1, $2, $3)";
const PUT_TAG: &str = "INSERT INTO logged_model_tags (model, name, value) VALUES ($1, $2, $3) \
                       ON CONFLICT (model, name) DO UPDATE SET value = excluded.value";

async fn put_word(db: &mut SqliteConnection, text: &'static str, model: &str, name: &str, value: &str) -> Result<()> {
    let query = sqlx::query(text).bind(model).bind(name).bind(value);
    query.execute(db).await.map_err(|e| fault("write to a logged model", e))?;
    Ok(())
}

/// Notes that it changed.
async fn touch(db: &mut SqliteConnection, id: &str, now: Timestamp) -> Result<()> {
    let query = sqlx::query("UPDATE logged_models SET updated_at = $2 WHERE id = $1").bind(id).bind(now.micros());
    query.execute(db).await.map_err(|e| fault("write to a logged model", e))?;
    Ok(())
}

pub(super) async fn finish(db: &mut SqliteConnection, id: &str, status: LoggedModelStatus, now: Timestamp) -> Result<LoggedModel> {
    must(db, id).await?;
    sqlx::query("UPDATE logged_models SET status = $2, updated_at = $3 WHERE id = $1")
        .bind(id)
        .bind(model_status_word(status))
        .bind(now.micros())
        .execute(&mut *db)
        .await
        .map_err(|e| fault("finish a logged model", e))?;
    one(db, id, ViewType::All).await?.ok_or_else(|| tracked::unknown_model(id))
}

pub(super) async fn log_params(db: &mut SqliteConnection, id: &str, params: Vec<(String, String)>, now: Timestamp) -> Result<()> {
    let model = must(db, id).await?;
    let known = whole(db, vec![model]).await?.pop().map(|model| model.params).unwrap_or_default();
    let mut fresh: BTreeMap<String, String> = BTreeMap::new();
    for (key, new) in params {
        match known.get(&key).or_else(|| fresh.get(&key)) {
            Some(old) if *old != new => return Err(tracked::model_param_changed(id, &Changed { old: old.clone(), key, new })),
            Some(_) => {}
            None => {
                fresh.insert(key, new);
            }
        }
    }
    for (name, value) in &fresh {
        put_word(db, "INSERT INTO logged_model_params (model, name, value) VALUES ($1, $2, $3)", id, name, value).await?;
    }
    touch(db, id, now).await
}

pub(super) async fn set_tags(db: &mut SqliteConnection, id: &str, tags: Vec<(String, Option<String>)>, now: Timestamp) -> Result<()> {
    must(db, id).await?;
    for (name, value) in &tags {
        match value {
            Some(value) => put_word(db, PUT_TAG, id, name, value).await?,
            None => {
                let query = sqlx::query("DELETE FROM logged_model_tags WHERE model = $1 AND name = $2").bind(id).bind(name);
                let gone = query.execute(&mut *db).await.map_err(|e| fault("remove a tag", e))?;
                if gone.rows_affected() == 0 {
                    return Err(tracked::no_model_tag(id, name));
                }
            }
        }
    }
    touch(db, id, now).await
}

pub(super) async fn delete(db: &mut SqliteConnection, id: &str, now: Timestamp) -> Result<()> {
    must(db, id).await?;
    sqlx::query("UPDATE logged_models SET deleted_at = $2, updated_at = $2 WHERE id = $1")
        .bind(id)
        .bind(now.micros())
        .execute(db)
        .await
        .map_err(|e| fault("delete a logged model", e))?;
    Ok(())
}
