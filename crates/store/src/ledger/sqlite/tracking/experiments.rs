//! Experiments and their tags; the experiment that runs of the product join.

use super::super::cells::{Cells, at};
use super::super::open::fault;
use super::super::write::{append, stored_number};
use super::log::parts;
use super::rows::{self, Words};
use super::sql::Sql;
use crate::tracked::{self, story};
use gristmill_kernel::run::NewRun;
use gristmill_kernel::tracking::{Experiment, ExperimentId, Lifecycle};
use gristmill_kernel::{Actor, Address, Fault, Result, Timestamp};
use sqlx::Row;
use sqlx::sqlite::{SqliteConnection, SqliteRow};
use std::collections::{BTreeMap, HashMap};

/// The columns that [`of_row`] reads.
pub(super) const COLUMNS: &str = "e.id, e.name, e.address, e.artifact_location, e.created_at, e.updated_at, e.deleted_at";

/// An experiment's own row, without its tags.
pub(super) fn of_row(row: &SqliteRow) -> Result<Experiment> {
    let c = Cells::keyed(row, "experiments", "id")?;
    let address = c.maybe_text("address")?.map(|text| text.parse::<Address>().map_err(|e| c.damage("address", e.message)));
    Ok(Experiment {
        id: ExperimentId(c.count("id")?),
        name: c.text("name")?,
        address: address.transpose()?,
        artifact_location: c.text("artifact_location")?,
        lifecycle: lifecycle(c.maybe_int("deleted_at")?),
        created_at: c.time("created_at")?,
        updated_at: c.time("updated_at")?,
        tags: BTreeMap::new(),
    })
}

/// What a `deleted_at` says.
pub(super) fn lifecycle(deleted_at: Option<i64>) -> Lifecycle {
    if deleted_at.is_some() { Lifecycle::Deleted } else { Lifecycle::Active }
}

/// Adds the tags: one statement per 512 experiments.
pub(super) async fn with_tags(db: &mut SqliteConnection, mut experiments: Vec<Experiment>) -> Result<Vec<Experiment>> {
    let place: HashMap<i64, usize> = experiments.iter().enumerate().map(|(i, e)| (e.id.0 as i64, i)).collect();
    let ids: Vec<i64> = experiments.iter().map(|e| e.id.0 as i64).collect();
    for part in parts(&ids) {
        let mut sql = Sql::new("SELECT experiment, name, value FROM experiment_tags WHERE experiment IN ");
        sql.list(part);
        for row in sql.rows(db, "read tags of experiments").await? {
            let table = "experiment_tags";
            if let Some(place) = place.get(&at(&row, 0, table, "experiment")?) {
                experiments[*place].tags.insert(at(&row, 1, table, "name")?, at(&row, 2, table, "value")?);
            }
        }
    }
    Ok(experiments)
}

/// One experiment by a column that is unique, without tags.
async fn bare(db: &mut SqliteConnection, column: &str, value: impl Into<super::sql::Arg>) -> Result<Option<Experiment>> {
    let mut sql = Sql::new(&format!("SELECT {COLUMNS} FROM experiments e WHERE e.{column} = "));
    sql.value(value);
    sql.rows(db, "read an experiment").await?.first().map(of_row).transpose()
}

pub(super) async fn by_id(db: &mut SqliteConnection, id: ExperimentId) -> Result<Option<Experiment>> {
    let Ok(number) = i64::try_from(id.0) else { return Ok(None) };
    bare(db, "id", number).await
}

pub(super) async fn by_name(db: &mut SqliteConnection, name: &str) -> Result<Option<Experiment>> {
    bare(db, "name", name).await
}

pub(super) async fn must(db: &mut SqliteConnection, id: ExperimentId) -> Result<Experiment> {
    by_id(db, id).await?.ok_or_else(|| tracked::unknown_experiment(id))
}

pub(super) async fn must_be_active(db: &mut SqliteConnection, id: ExperimentId) -> Result<Experiment> {
    let experiment = must(db, id).await?;
    match experiment.lifecycle {
        Lifecycle::Active => Ok(experiment),
        Lifecycle::Deleted => Err(tracked::experiment_deleted(id)),
    }
}

/// The next number of an experiment; it is never given again.
async fn next_id(db: &mut SqliteConnection) -> Result<ExperimentId> {
    let row = sqlx::query("UPDATE numbers SET last = last + 1 WHERE name = 'experiments' RETURNING last")
        .fetch_optional(db)
        .await
        .map_err(|e| fault("number an experiment", e))?;
    let row = row.ok_or_else(|| Fault::damaged("ledger table `numbers`, row `experiments`: it is missing"))?;
    Ok(ExperimentId(Cells::new(&row, "numbers", "experiments").count("last")?))
}

pub(super) async fn insert(db: &mut SqliteConnection, experiment: &Experiment) -> Result<()> {
    sqlx::query("INSERT INTO experiments (id, name, address, artifact_location, created_at, updated_at) VALUES ($1, $2, $3, $4, $5, $5)")
        .bind(stored_number(experiment.id.0)?)
        .bind(&experiment.name)
        .bind(experiment.address.as_ref().map(ToString::to_string))
        .bind(&experiment.artifact_location)
        .bind(experiment.created_at.micros())
        .execute(&mut *db)
        .await
        .map_err(|e| fault("make an experiment", e))?;
    for (key, value) in &experiment.tags {
        put_tag(db, experiment.id, key, value).await?;
    }
    Ok(())
}

pub(super) async fn put_tag(db: &mut SqliteConnection, id: ExperimentId, key: &str, value: &str) -> Result<()> {
    sqlx::query(
        "INSERT INTO experiment_tags (experiment, name, value) VALUES ($1, $2, $3) \
         ON CONFLICT (experiment, name) DO UPDATE SET value = excluded.value",
    )
    .bind(stored_number(id.0)?)
    .bind(key)
    .bind(value)
    .execute(db)
    .await
    .map_err(|e| fault("tag an experiment", e))?;
    Ok(())
}

pub(super) async fn create(
    db: &mut SqliteConnection,
    name: String,
    location: Option<String>,
    tags: BTreeMap<String, String>,
    actor: &Actor,
    now: Timestamp,
) -> Result<ExperimentId> {
    if by_name(db, &name).await?.is_some() {
        return Err(tracked::experiment_exists(&name));
    }
    let id = next_id(db).await?;
    let experiment = Experiment {
        id,
        name,
        address: None,
        artifact_location: location.unwrap_or_else(|| tracked::artifact_location(id)),
        lifecycle: Lifecycle::Active,
        created_at: now,
        updated_at: now,
        tags,
    };
    insert(db, &experiment).await?;
    append(db, now, story::experiment_made(&experiment, actor)).await?;
    Ok(id)
}

pub(super) async fn rename(db: &mut SqliteConnection, id: ExperimentId, name: &str, actor: &Actor, now: Timestamp) -> Result<()> {
    let experiment = must(db, id).await?;
    if experiment.lifecycle == Lifecycle::Deleted {
        return Err(tracked::no_renaming());
    }
    if by_name(db, name).await?.is_some_and(|other| other.id != id) {
        return Err(tracked::experiment_exists(name));
    }
    sqlx::query("UPDATE experiments SET name = $2, updated_at = $3 WHERE id = $1")
        .bind(stored_number(id.0)?)
        .bind(name)
        .bind(now.micros())
        .execute(&mut *db)
        .await
        .map_err(|e| fault("rename an experiment", e))?;
    append(db, now, story::experiment_renamed(&experiment, name, actor)).await?;
    Ok(())
}

/// Deletes softly or restores; what is there already in that state is not found, as clients expect.
pub(super) async fn move_to(db: &mut SqliteConnection, id: ExperimentId, to: Lifecycle, actor: &Actor, now: Timestamp) -> Result<()> {
    let experiment = must(db, id).await?;
    if experiment.lifecycle == to {
        return Err(tracked::unknown_experiment(id));
    }
    let deleted = to == Lifecycle::Deleted;
    let deleted_at = deleted.then_some(now.micros());
    sqlx::query("UPDATE experiments SET deleted_at = $2, updated_at = $3 WHERE id = $1")
        .bind(stored_number(id.0)?)
        .bind(deleted_at)
        .bind(now.micros())
        .execute(&mut *db)
        .await
        .map_err(|e| fault("delete or restore an experiment", e))?;
    let runs = sqlx::query("UPDATE runs SET deleted_at = $2 WHERE experiment = $1 AND (deleted_at IS NULL) = ($2 IS NOT NULL)")
        .bind(stored_number(id.0)?)
        .bind(deleted_at)
        .execute(&mut *db)
        .await
        .map_err(|e| fault("delete or restore the runs of an experiment", e))?;
    append(db, now, story::experiment_moved(&experiment, deleted, runs.rows_affected(), actor)).await?;
    Ok(())
}

pub(super) async fn set_tag(db: &mut SqliteConnection, id: ExperimentId, key: &str, value: Option<&str>, now: Timestamp) -> Result<()> {
    must_be_active(db, id).await?;
    match value {
        Some(value) => put_tag(db, id, key, value).await?,
        None => {
            let gone = sqlx::query("DELETE FROM experiment_tags WHERE experiment = $1 AND name = $2")
                .bind(stored_number(id.0)?)
                .bind(key)
                .execute(&mut *db)
                .await
                .map_err(|e| fault("remove a tag", e))?;
            if gone.rows_affected() == 0 {
                return Err(tracked::no_experiment_tag(id, key));
            }
        }
    }
    sqlx::query("UPDATE experiments SET updated_at = $2 WHERE id = $1")
        .bind(stored_number(id.0)?)
        .bind(now.micros())
        .execute(&mut *db)
        .await
        .map_err(|e| fault("tag an experiment", e))?;
    Ok(())
}

/// Makes our own run part of the experiment of its asset, which is made if need be.
pub(in super::super) async fn join_experiment(db: &mut SqliteConnection, run: &NewRun, seq: i64, now: Timestamp) -> Result<()> {
    let experiment = ours(db, &run.address, now).await?;
    sqlx::query("UPDATE runs SET experiment = $2, run_name = $3, user_name = $4 WHERE seq = $1")
        .bind(seq)
        .bind(stored_number(experiment.0)?)
        .bind(tracked::run_name(&run.address, &run.id))
        .bind(&run.actor.0)
        .execute(&mut *db)
        .await
        .map_err(|e| fault("submit a run", e))?;
    let tags = tracked::run_tags(&run.address, &run.id, &run.actor).map(|(name, value)| (seq, name.to_owned(), value));
    rows::put_words(db, Words::Tags, &tags).await
}

/// The experiment of an asset: the one that has its address, else a client's one of its name, else a new one. It is restored if it was
/// deleted: the new run must be seen.
async fn ours(db: &mut SqliteConnection, address: &Address, now: Timestamp) -> Result<ExperimentId> {
    let known = match bare(db, "address", address.to_string()).await? {
        Some(known) => Some(known),
        None => by_name(db, address.name.as_str()).await?.filter(|named| named.address.is_none()),
    };
    if let Some(known) = known {
        if known.address.is_none() || known.lifecycle == Lifecycle::Deleted {
            sqlx::query("UPDATE experiments SET address = $2, deleted_at = NULL, updated_at = $3 WHERE id = $1")
                .bind(stored_number(known.id.0)?)
                .bind(address.to_string())
                .bind(now.micros())
                .execute(db)
                .await
                .map_err(|e| fault("adopt an experiment", e))?;
        }
        return Ok(known.id);
    }
    let mut free = None;
    for name in tracked::experiment_names(address) {
        if by_name(db, &name).await?.is_none() {
            free = Some(name);
            break;
        }
    }
    let name = free.ok_or_else(|| tracked::experiment_exists(address.name.as_str()))?;
    let id = next_id(db).await?;
    let experiment = Experiment {
        id,
        name,
        address: Some(address.clone()),
        artifact_location: tracked::artifact_location(id),
        lifecycle: Lifecycle::Active,
        created_at: now,
        updated_at: now,
        tags: BTreeMap::new(),
    };
    insert(db, &experiment).await?;
    Ok(id)
}

/// Removes an experiment for good; nothing refers to it any more.
pub(super) async fn remove(db: &mut SqliteConnection, id: ExperimentId) -> Result<()> {
    let number = stored_number(id.0)?;
    for text in [
        "DELETE FROM datasets WHERE experiment = $1",
        "DELETE FROM experiment_tags WHERE experiment = $1",
        "DELETE FROM experiments WHERE id = $1",
    ] {
        sqlx::query(text).bind(number).execute(&mut *db).await.map_err(|e| fault("purge an experiment", e))?;
    }
    Ok(())
}

/// One number of a one-row answer.
pub(super) fn number(row: Option<&SqliteRow>) -> Result<i64> {
    row.map_or(Ok(0), |row| row.try_get::<i64, _>(0).map_err(|e| fault("count", e)))
}
