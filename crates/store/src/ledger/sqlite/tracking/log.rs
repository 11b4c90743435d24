//! Writing what clients log: any number of batches to any number of runs by the same few statements.
//!
//! First everything is looked up (runs, parameters, logged models), each in one statement for all batches; then each batch is admitted or
//! refused as a whole; then the rows of the admitted ones are written. A point's whole row is its key, so a batch that comes again is
//! found row by row, whatever the length of the history.

use super::super::cells::at;
use super::super::open::fault;
use super::group::LogWrite;
use super::rows::{self, ModelPointRow, Newer, PointRow, Words};
use super::sql::Sql;
use crate::tracked::{self, Changed, RUN_NAME_TAG};
use gristmill_kernel::tracking::Batch;
use gristmill_kernel::{Result, RunId, RunStatus};
use sqlx::sqlite::{SqliteConnection, SqliteRow};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

/// Keys looked up by one statement.
const KEYS_MAX: usize = 512;

/// A run as far as logging minds.
struct Target {
    seq: i64,
    deleted: bool,
    /// One of ours that has ended.
    closed: bool,
}

/// Whether [`write_at_once`] may write these: a few points of runs, and nothing else.
pub(super) fn is_small(logs: &[LogWrite]) -> bool {
    let few = |log: &LogWrite| {
        let batch = &log.batch;
        !batch.metrics.is_empty() && batch.params.is_empty() && batch.tags.is_empty() && batch.metrics.iter().all(|p| p.model.is_none())
    };
    !logs.is_empty() && logs.iter().map(|log| log.batch.metrics.len()).sum::<usize>() <= rows::AT_ONCE_MAX && logs.iter().all(few)
}

/// Writes the batches in a transaction of their own; what became of each, in their order.
pub(super) async fn write_at_once(db: &mut SqliteConnection, logs: &mut [LogWrite]) -> Result<Vec<Result<()>>> {
    let ids: BTreeSet<&str> = logs.iter().map(|log| log.run.0.as_str()).collect();
    let ids: Vec<Arc<str>> = ids.into_iter().map(Arc::from).collect();
    let mut points = Vec::with_capacity(logs.len());
    for log in logs.iter_mut() {
        let place = ids.partition_point(|id| **id < *log.run.0) as i64;
        let taken = std::mem::take(&mut log.batch.metrics);
        points.extend(taken.into_iter().map(|point| PointRow::new(place, point.key, point.step, point.at, point.value)));
    }
    sort(&mut points);
    let rows = rows::put_at_once(db, &ids, &points, &latest(&points)).await?;
    let targets = rows.iter().map(target_of).collect::<Result<HashMap<String, Target>>>()?;
    let outcome = |log: &LogWrite| admit(&log.run, true, &targets).map(|_| ());
    Ok(logs.iter().map(outcome).collect())
}

/// Writes the batches; what became of each, in their order.
pub(super) async fn write(db: &mut SqliteConnection, logs: &mut [LogWrite]) -> Result<Vec<Result<()>>> {
    if logs.is_empty() {
        return Ok(Vec::new());
    }
    let targets = targets(db, logs).await?;
    let mut params = known_params(db, logs, &targets).await?;
    let models = known_models(db, logs).await?;
    let mut new = New::default();
    let outcomes = logs
        .iter_mut()
        .map(|log| {
            let target = admit(&log.run, tracked::needs_open(&log.batch), &targets)?;
            if let Some(model) = log.batch.metrics.iter().filter_map(|p| p.model.as_ref()).find(|model| !models.contains(*model)) {
                return Err(tracked::unknown_model(model));
            }
            let fresh = fresh_params(&log.run, &log.batch, target.seq, &mut params)?;
            new.params.extend(fresh);
            new.take(&log.run, target.seq, std::mem::take(&mut log.batch));
            Ok(())
        })
        .collect();
    new.write(db).await?;
    Ok(outcomes)
}

/// Whether a run takes a batch; `needs_open`: one that changes what ours keep when they end.
fn admit<'t>(run: &RunId, needs_open: bool, targets: &'t HashMap<String, Target>) -> Result<&'t Target> {
    let target = targets.get(&run.0).ok_or_else(|| tracked::unknown_run(run))?;
    if target.deleted {
        return Err(tracked::run_deleted(run));
    }
    if target.closed && needs_open {
        return Err(tracked::our_run_ended(run));
    }
    Ok(target)
}

/// The parameters that are not there yet; the known ones grow by them.
fn fresh_params(run: &RunId, batch: &Batch, seq: i64, known: &mut HashMap<(i64, String), String>) -> Result<Vec<(i64, String, String)>> {
    let (mut fresh, mut changed): (BTreeMap<&str, &str>, Vec<Changed>) = Default::default();
    for (name, value) in &batch.params {
        let old = known.get(&(seq, name.clone())).map(String::as_str).or_else(|| fresh.get(name.as_str()).copied());
        match old {
            None => {
                fresh.insert(name, value);
            }
            Some(old) if old != value => changed.push(Changed { key: name.clone(), old: old.to_owned(), new: value.clone() }),
            Some(_) => {}
        }
    }
    if !changed.is_empty() {
        let alone = batch.params.len() == 1 && batch.metrics.is_empty() && batch.tags.is_empty();
        return Err(tracked::params_changed(run, &changed, alone));
    }
    let fresh: Vec<_> = fresh.into_iter().map(|(name, value)| (seq, name.to_owned(), value.to_owned())).collect();
    known.extend(fresh.iter().map(|(seq, name, value)| ((*seq, name.clone()), value.clone())));
    Ok(fresh)
}

/// Distinct keys in parts whose sizes are powers of two, so that few statements are prepared; the last key fills a part up.
pub(super) fn parts<K: Clone>(keys: &[K]) -> impl Iterator<Item = Vec<K>> + '_ {
    keys.chunks(KEYS_MAX).map(|part| {
        let mut part = part.to_vec();
        if let Some(last) = part.last().cloned() {
            part.resize(part.len().next_power_of_two(), last);
        }
        part
    })
}

async fn targets(db: &mut SqliteConnection, logs: &[LogWrite]) -> Result<HashMap<String, Target>> {
    let ids: BTreeSet<&str> = logs.iter().map(|log| log.run.0.as_str()).collect();
    let ids: Vec<&str> = ids.into_iter().collect();
    let mut targets = HashMap::with_capacity(ids.len());
    for part in parts(&ids) {
        let mut sql = Sql::new(rows::TARGETS);
        sql.list(part);
        for row in sql.rows(db, "look for runs").await? {
            targets.extend([target_of(&row)?]);
        }
    }
    Ok(targets)
}

/// A row of [`rows::TARGETS`].
fn target_of(row: &SqliteRow) -> Result<(String, Target)> {
    let status: &str = at(row, 3, "runs", "status")?;
    let ended = ![RunStatus::Queued, RunStatus::Running].iter().any(|open| open.as_str() == status);
    let by_client = at::<i64>(row, 2, "runs", "by_client")? != 0;
    let target = Target {
        seq: at(row, 1, "runs", "seq")?,
        deleted: at::<Option<i64>>(row, 4, "runs", "deleted_at")?.is_some(),
        closed: ended && !by_client,
    };
    Ok((at(row, 0, "runs", "id")?, target))
}

/// The values that parameters have which the batches name.
async fn known_params(
    db: &mut SqliteConnection,
    logs: &[LogWrite],
    targets: &HashMap<String, Target>,
) -> Result<HashMap<(i64, String), String>> {
    let mut keys: Vec<(i64, &str)> = Vec::new();
    for log in logs {
        if let Some(target) = targets.get(&log.run.0) {
            keys.extend(log.batch.params.iter().map(|(name, _)| (target.seq, name.as_str())));
        }
    }
    keys.sort_unstable();
    keys.dedup();
    let mut known = HashMap::with_capacity(keys.len());
    for part in parts(&keys) {
        let mut sql = Sql::new("SELECT p.run, p.name, p.value FROM (SELECT column1 AS run, column2 AS name FROM (VALUES ");
        for (i, (run, name)) in part.into_iter().enumerate() {
            sql.text(if i == 0 { "(" } else { ",(" }).value(run).text(",").value(name).text(")");
        }
        sql.text(")) AS wanted CROSS JOIN run_params p WHERE p.run = wanted.run AND p.name = wanted.name");
        for row in sql.rows(db, "look for parameters").await? {
            let key = (at(&row, 0, "run_params", "run")?, at(&row, 1, "run_params", "name")?);
            known.insert(key, at(&row, 2, "run_params", "value")?);
        }
    }
    Ok(known)
}

async fn known_models(db: &mut SqliteConnection, logs: &[LogWrite]) -> Result<HashSet<String>> {
    let named = logs.iter().flat_map(|log| &log.batch.metrics).filter_map(|point| point.model.as_deref());
    let ids: Vec<&str> = named.collect::<BTreeSet<&str>>().into_iter().collect();
    let mut known = HashSet::with_capacity(ids.len());
    for part in parts(&ids) {
        let mut sql = Sql::new("SELECT id FROM logged_models WHERE id IN ");
        sql.list(part);
        for row in sql.rows(db, "look for logged models").await? {
            known.insert(at(&row, 0, "logged_models", "id")?);
        }
    }
    Ok(known)
}

/// The rows of admitted batches.
#[derive(Default)]
struct New {
    points: Vec<PointRow>,
    model_points: Vec<ModelPointRow>,
    params: Vec<(i64, String, String)>,
    tags: BTreeMap<(i64, String), String>,
}

impl New {
    fn take(&mut self, run: &RunId, seq: i64, batch: Batch) {
        for point in batch.metrics {
            let row = PointRow::new(seq, point.key, point.step, point.at, point.value);
            if let Some(model) = point.model {
                let (dataset, digest) = point.dataset.map(|on| (on.name, on.digest)).unwrap_or_default();
                self.model_points.push(ModelPointRow { model, point: row.clone(), run: run.0.clone(), dataset, digest });
            }
            self.points.push(row);
        }
        self.tags.extend(batch.tags.into_iter().map(|(name, value)| ((seq, name), value)));
    }

    async fn write(mut self, db: &mut SqliteConnection) -> Result<()> {
        if !self.points.is_empty() {
            sort(&mut self.points);
            rows::put_points(db, &self.points).await?;
            rows::put_latest(db, &latest(&self.points), Newer::Point).await?;
            rows::put_model_points(db, &self.model_points).await?;
        }
        rows::put_words(db, Words::Params, &self.params).await?;
        if !self.tags.is_empty() {
            let tags: Vec<_> = self.tags.into_iter().map(|((run, name), value)| (run, name, value)).collect();
            rows::put_words(db, Words::Tags, &tags).await?;
            for (run, _, name) in tags.iter().filter(|(_, tag, _)| tag == RUN_NAME_TAG) {
                rename(db, *run, name).await?;
            }
        }
        Ok(())
    }
}

/// In the order of the key, so that neighbours are written together; what was logged first stays first among equals.
fn sort(points: &mut [PointRow]) {
    points.sort_by(|a, b| (a.run, &a.name, a.step, a.at).cmp(&(b.run, &b.name, b.step, b.at)).then_with(|| a.value.total_cmp(&b.value)));
}

/// The latest of each metric; the points are in the order of run and name.
fn latest(points: &[PointRow]) -> Vec<PointRow> {
    let of_metrics = points.chunk_by(|a, b| a.run == b.run && a.name == b.name);
    let newest = of_metrics.filter_map(|of_one| {
        let mut of_one = of_one.iter();
        let first = of_one.next()?;
        Some(of_one.fold(first, |best, next| if next.rank() > best.rank() { next } else { best }).clone())
    });
    newest.collect()
}

/// Gives a run another name; its tag is written by the caller.
pub(super) async fn rename(db: &mut SqliteConnection, run: i64, name: &str) -> Result<()> {
    sqlx::query("UPDATE runs SET run_name = $2 WHERE seq = $1")
        .bind(run)
        .bind(name)
        .execute(db)
        .await
        .map_err(|e| fault("name a run", e))?;
    Ok(())
}
