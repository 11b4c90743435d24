//! Tracked runs: begun, changed and deleted by clients, and read whole, a page at a time.

use super::super::open::fault;
use super::super::write::{append, stored_number};
use super::experiments::lifecycle;
use super::inputs;
use super::log::{parts, rename};
use super::reader::Reader;
use super::rows::{self, Words};
use super::sql::Sql;
use crate::tracked::{self, RUN_NAME_TAG, story};
use gristmill_kernel::tracking::{ExperimentId, Lifecycle, NewTrackedRun, Point, RunUpdate, TrackedRun};
use gristmill_kernel::{Actor, Address, Digest, Fault, Result, RunId, RunStatus, Timestamp};
use sqlx::FromRow as _;
use sqlx::sqlite::SqliteConnection;
use std::collections::{BTreeMap, HashMap};

const COLUMNS: &str = "seq, id, experiment, run_name, user_name, status, deleted_at, started_at, ended_at, by_client, address";

/// A tracked run and what its row says besides.
pub(super) struct Found {
    pub seq: i64,
    pub run: TrackedRun,
    /// Whether a client drives it.
    pub by_client: bool,
    pub address: String,
}

impl Found {
    pub(super) fn address(&self) -> Result<Address> {
        self.address
            .parse()
            .map_err(|e: Fault| Fault::damaged(format!("ledger table `runs`, column `address`, row `{}`: {}", self.run.id, e.message)))
    }
    /// Refuses what only an open run takes, if it is ours.
    pub(super) fn must_be_open(&self) -> Result<()> {
        if !self.by_client && self.run.status.is_final() {
            return Err(tracked::our_run_ended(&self.run.id));
        }
        Ok(())
    }
}

fn status_of(word: &str) -> Option<RunStatus> {
    use RunStatus::{Cancelled, Failed, Queued, Running, Skipped, Succeeded};
    [Queued, Running, Succeeded, Skipped, Failed, Cancelled].into_iter().find(|status| status.as_str() == word)
}

/// The columns of [`COLUMNS`].
type Stored = (i64, String, i64, Option<String>, Option<String>, String, Option<i64>, Option<i64>, Option<i64>, i64, String);

fn found(stored: Stored) -> Result<Found> {
    let (seq, id, experiment, name, user, word, deleted_at, started_at, ended_at, by_client, address) = stored;
    let status = status_of(&word)
        .ok_or_else(|| Fault::damaged(format!("ledger table `runs`, column `status`, row `{id}`: `{word}` is not a status")))?;
    Ok(Found {
        seq,
        by_client: by_client != 0,
        address,
        run: TrackedRun {
            id: RunId(id),
            experiment: ExperimentId(experiment as u64),
            name: name.unwrap_or_default(),
            user: user.unwrap_or_default(),
            status,
            lifecycle: lifecycle(deleted_at),
            started_at: started_at.map(Timestamp::from_micros),
            ended_at: ended_at.map(Timestamp::from_micros),
            params: BTreeMap::new(),
            metrics: Vec::new(),
            tags: BTreeMap::new(),
            datasets: Vec::new(),
            model_inputs: Vec::new(),
            model_outputs: Vec::new(),
        },
    })
}

/// A run's own row, without what hangs on it.
pub(super) async fn bare(db: &mut SqliteConnection, id: &RunId) -> Result<Option<Found>> {
    let rows = of_id(id).rows(db, "read a run").await?;
    let Some(row) = rows.first() else { return Ok(None) };
    let stored = Stored::from_row(row).map_err(|e| fault("read a run", e))?;
    found(stored).map(Some)
}

fn of_id(id: &RunId) -> Sql {
    let mut sql = Sql::new("SELECT ");
    sql.text(COLUMNS).text(" FROM runs WHERE experiment IS NOT NULL AND id = ").value(id.0.as_str());
    sql
}

pub(super) async fn must(db: &mut SqliteConnection, id: &RunId) -> Result<Found> {
    bare(db, id).await?.ok_or_else(|| tracked::unknown_run(id))
}

pub(super) async fn must_be_active(db: &mut SqliteConnection, id: &RunId) -> Result<Found> {
    let found = must(db, id).await?;
    match found.run.lifecycle {
        Lifecycle::Active => Ok(found),
        Lifecycle::Deleted => Err(tracked::run_deleted(id)),
    }
}

/// The runs that a statement finds, without what hangs on them.
fn some(db: &Reader, sql: &Sql) -> Result<Vec<Found>> {
    db.rows("read runs", sql, |row| Stored::try_from(row))?.into_iter().map(found).collect()
}

/// One run, whole.
pub(super) fn one(db: &Reader, id: &RunId) -> Result<Option<TrackedRun>> {
    Ok(whole(db, some(db, &of_id(id))?)?.pop())
}

/// The runs with these numbers, in their order, whole.
pub(super) fn by_numbers(db: &Reader, numbers: &[i64]) -> Result<Vec<TrackedRun>> {
    let mut found: HashMap<i64, Found> = HashMap::with_capacity(numbers.len());
    for part in parts(numbers) {
        let mut sql = Sql::new("SELECT ");
        sql.text(COLUMNS).text(" FROM runs WHERE seq IN ").list(part);
        found.extend(some(db, &sql)?.into_iter().map(|one| (one.seq, one)));
    }
    whole(db, numbers.iter().filter_map(|number| found.remove(number)).collect())
}

/// Adds what hangs on runs: five statements per 512 runs.
fn whole(db: &Reader, mut found: Vec<Found>) -> Result<Vec<TrackedRun>> {
    let place: HashMap<i64, usize> = found.iter().enumerate().map(|(i, one)| (one.seq, i)).collect();
    let numbers: Vec<i64> = found.iter().map(|one| one.seq).collect();
    for part in parts(&numbers) {
        latest(db, &part, |run, point| {
            if let Some(place) = place.get(&run) {
                found[*place].run.metrics.push(point);
            }
        })?;
        for kind in [Words::Params, Words::Tags] {
            words(db, kind, &part, |run, name, value| {
                if let Some(place) = place.get(&run) {
                    let run = &mut found[*place].run;
                    let _new = if kind == Words::Tags { &mut run.tags } else { &mut run.params }.insert(name, value);
                }
            })?;
        }
        inputs::add(db, &part, |number| place.get(&number).copied(), &mut found)?;
    }
    // They come along the key; only that they are all there is promised.
    for one in &mut found {
        one.run.metrics.sort_by(|a, b| a.key.cmp(&b.key));
    }
    Ok(found.into_iter().map(|one| one.run).collect())
}

/// The latest points of these runs' metrics.
fn latest(db: &Reader, runs: &[i64], mut give: impl FnMut(i64, Point)) -> Result<()> {
    let mut sql = Sql::new("SELECT run, name, step, at, value FROM run_metrics_latest WHERE run IN ");
    sql.list(runs.iter().copied());
    let rows = db.rows("read metrics", &sql, |row| {
        let value: Option<f64> = row.get(4)?;
        let (key, step, at) = (row.get(1)?, row.get(2)?, Timestamp::from_micros(row.get(3)?));
        give(row.get(0)?, Point { key, value: value.unwrap_or(f64::NAN), step, at, model: None, dataset: None });
        Ok(())
    });
    rows.map(|_each| ())
}

/// The parameters or the tags of these runs.
fn words(db: &Reader, kind: Words, runs: &[i64], mut give: impl FnMut(i64, String, String)) -> Result<()> {
    let mut sql = Sql::new("SELECT run, name, value FROM ");
    sql.text(kind.table()).text(" WHERE run IN ").list(runs.iter().copied());
    let rows = db.rows("read parameters and tags", &sql, |row| {
        give(row.get(0)?, row.get(1)?, row.get(2)?);
        Ok(())
    });
    rows.map(|_each| ())
}

pub(super) async fn create(db: &mut SqliteConnection, mut new: NewTrackedRun, actor: &Actor, now: Timestamp) -> Result<TrackedRun> {
    super::experiments::must_be_active(db, new.experiment).await?;
    let mut taken = Sql::new("SELECT 1 FROM runs WHERE id = ");
    taken.value(new.id.0.as_str());
    if !taken.rows(db, "look for a run").await?.is_empty() {
        return Err(tracked::run_exists(&new.id));
    }
    new.tags.entry(RUN_NAME_TAG.to_owned()).or_insert_with(|| new.name.clone());
    let address = tracked::client_address(new.experiment)?;
    let seq = append(db, now, story::run_began(&new, &address, actor)).await?;
    sqlx::query(
        "INSERT INTO runs (id, seq, stage, address, spec, work_key, actor, reason, status, summary, attempt, cancel_asked, submitted_at, \
         due_at, started_at, by_client, experiment, run_name, user_name) \
         VALUES ($1, $2, 'train', $3, '{}', $4, $5, 'tracked', $6, '', 1, 0, $7, $7, $8, 1, $9, $10, $11)",
    )
    .bind(&new.id.0)
    .bind(seq)
    .bind(address.to_string())
    // Nothing else has this key: a client's run is never found again as finished work.
    .bind(Digest::of(format!("tracked run {}", new.id)).to_string())
    .bind(&actor.0)
    .bind(RunStatus::Running.as_str())
    .bind(now.micros())
    .bind(new.started_at.map(Timestamp::micros))
    .bind(stored_number(new.experiment.0)?)
    .bind(&new.name)
    .bind(&new.user)
    .execute(&mut *db)
    .await
    .map_err(|e| fault("begin a run", e))?;
    let tags: Vec<_> = new.tags.iter().map(|(name, value)| (seq, name.clone(), value.clone())).collect();
    rows::put_words(db, Words::Tags, &tags).await?;
    Ok(TrackedRun {
        id: new.id,
        experiment: new.experiment,
        name: new.name,
        user: new.user,
        status: RunStatus::Running,
        lifecycle: Lifecycle::Active,
        started_at: new.started_at,
        ended_at: None,
        params: BTreeMap::new(),
        metrics: Vec::new(),
        tags: new.tags,
        datasets: Vec::new(),
        model_inputs: Vec::new(),
        model_outputs: Vec::new(),
    })
}

/// Changes a run and answers its own row, which is known without reading it again.
pub(super) async fn update(db: &mut SqliteConnection, id: &RunId, update: RunUpdate, actor: &Actor, now: Timestamp) -> Result<TrackedRun> {
    let mut found = must_be_active(db, id).await?;
    if found.by_client && (update.status.is_some() || update.ended_at.is_some()) {
        let (status, before) = (update.status.unwrap_or(found.run.status), found.run.status);
        found.run.status = status;
        found.run.ended_at = update.ended_at.or(found.run.ended_at);
        sqlx::query("UPDATE runs SET status = $2, ended_at = $3 WHERE seq = $1")
            .bind(found.seq)
            .bind(status.as_str())
            .bind(found.run.ended_at.map(Timestamp::micros))
            .execute(&mut *db)
            .await
            .map_err(|e| fault("change a run", e))?;
        if status != before {
            append(db, now, story::run_changed(id, &found.address()?, status, actor)).await?;
        }
    }
    if let Some(name) = update.name {
        rename(db, found.seq, &name).await?;
        rows::put_words(db, Words::Tags, &[(found.seq, RUN_NAME_TAG.to_owned(), name.clone())]).await?;
        found.run.name = name;
    }
    Ok(found.run)
}

pub(super) async fn move_to(db: &mut SqliteConnection, id: &RunId, to: Lifecycle, actor: &Actor, now: Timestamp) -> Result<()> {
    let found = must(db, id).await?;
    let deleted = to == Lifecycle::Deleted;
    sqlx::query("UPDATE runs SET deleted_at = $2 WHERE seq = $1")
        .bind(found.seq)
        .bind(deleted.then_some(now.micros()))
        .execute(&mut *db)
        .await
        .map_err(|e| fault("delete or restore a run", e))?;
    if found.run.lifecycle != to {
        append(db, now, story::run_moved(id, &found.address()?, deleted, actor)).await?;
    }
    Ok(())
}

pub(super) async fn delete_tag(db: &mut SqliteConnection, id: &RunId, key: &str) -> Result<()> {
    let found = must_be_active(db, id).await?;
    let gone = sqlx::query("DELETE FROM run_tags WHERE run = $1 AND name = $2")
        .bind(found.seq)
        .bind(key)
        .execute(db)
        .await
        .map_err(|e| fault("remove a tag", e))?;
    if gone.rows_affected() == 0 {
        return Err(tracked::no_run_tag(id, key));
    }
    Ok(())
}
