//! Writing what clients log: any number of batches to any number of runs by the same few statements.
//!
//! First everything is looked up (runs, parameters, logged models), each in one statement for all batches; then each batch is admitted or
//! refused as a whole; then the rows of the admitted ones are written. A point's whole row is its key, so a batch that comes again is
//! found row by row, whatever the length of the history.

use super::direct::Direct;
use super::logger::LogWrite;
use super::rows::{self, ModelPointRow, Newer, PointRow, Words};
use super::sql::{self, Sql, Statement};
use crate::tracked::{self, Changed, RUN_NAME_TAG};
use gristmill_kernel::tracking::Batch;
use gristmill_kernel::{Fault, Result, RunId, RunStatus, limits};
use sqlx::sqlite::SqliteConnection;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::{Arc, LazyLock};

/// Keys looked up by one statement.
const KEYS_MAX: usize = 512;

/// What is looked up of runs before something is logged to them.
const TARGETS: &str = "SELECT id, seq, by_client, status, deleted_at FROM runs WHERE experiment IS NOT NULL AND id IN ";

/// Points of one batch that the journal takes: as many as a request may have. A transaction of so many takes three times as long as their frame and
/// its sync, and the tables take several of them at once for less.
const JOURNAL_POINTS_MAX: usize = limits::TRACK_BATCH_METRICS_MAX;

/// A run as far as logging minds.
struct Target {
    seq: i64,
    by_client: bool,
    deleted: bool,
    /// One of ours that has ended.
    closed: bool,
}

/// Writes the batches; what became of each, in their order.
pub(super) fn write(db: &Direct, logs: &mut [LogWrite]) -> Result<Vec<Result<()>>> {
    if logs.is_empty() {
        return Ok(Vec::new());
    }
    let targets = targets(db, logs)?;
    let mut params = known_params(db, logs, &targets)?;
    let models = known_models(db, logs)?;
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
    new.write(db)?;
    Ok(outcomes)
}

/// What becomes of a batch that the journal could take.
pub(super) enum Admitted {
    /// It may be written there.
    Yes,
    Refused(Fault),
    /// It is for the tables.
    Elsewhere,
}

/// Whether a batch could be written into the journal: nothing but points of metrics, no more than a request may have.
pub(super) fn for_journal(batch: &Batch) -> bool {
    let points = &batch.metrics;
    let fits = !points.is_empty() && points.len() <= JOURNAL_POINTS_MAX && batch.params.is_empty() && batch.tags.is_empty();
    fits && points.iter().all(|point| point.model.is_none())
}

/// The rows of batches that are [`for_journal`], and what becomes of each in their order. What is logged to runs of ours is for the tables:
/// what such a run is when it ends must not change later.
pub(super) fn admit_points(db: &Direct, logs: &[LogWrite]) -> Result<(Vec<PointRow>, Vec<Admitted>)> {
    let targets = targets(db, logs)?;
    let mut rows = Vec::new();
    let admit = |log: &LogWrite| match admit(&log.run, true, &targets) {
        Err(refused) => Admitted::Refused(refused),
        Ok(target) if !target.by_client => Admitted::Elsewhere,
        Ok(target) => {
            let points = log.batch.metrics.iter();
            rows.extend(points.map(|p| PointRow::new(target.seq, p.key.as_str(), p.step, p.at, p.value)));
            Admitted::Yes
        }
    };
    let outcomes = logs.iter().map(admit).collect();
    Ok((rows, outcomes))
}

/// Writes points of the journal, those of runs that are still there.
pub(super) fn apply(db: &Direct, rows: &[PointRow]) -> Result<()> {
    let runs: Vec<i64> = rows.iter().map(|row| row.run).collect::<BTreeSet<i64>>().into_iter().collect();
    let mut there = HashSet::with_capacity(runs.len());
    for part in parts(&runs) {
        let mut sql = Sql::new("SELECT seq FROM runs WHERE seq IN ");
        sql.list(part);
        there.extend(db.rows("look for runs", &sql, |row| row.get::<_, i64>(0))?);
    }
    write_points(db, rows.iter().filter(|row| there.contains(&row.run)).cloned().collect())
}

fn write_points(db: &Direct, mut points: Vec<PointRow>) -> Result<()> {
    sort(&mut points);
    db.run(rows::WHAT, rows::points(&points))?;
    db.run(rows::WHAT, rows::latest(&latest(&points), Newer::Point))
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

fn targets(db: &Direct, logs: &[LogWrite]) -> Result<HashMap<String, Target>> {
    let ids: BTreeSet<&str> = logs.iter().map(|log| log.run.0.as_str()).collect();
    let ids: Vec<&str> = ids.into_iter().collect();
    let mut targets = HashMap::with_capacity(ids.len());
    for part in parts(&ids) {
        let mut sql = Sql::new(TARGETS);
        sql.list(part);
        targets.extend(db.rows("look for runs", &sql, target_of)?);
    }
    Ok(targets)
}

/// A row of [`TARGETS`].
fn target_of(row: &rusqlite::Row<'_>) -> rusqlite::Result<(String, Target)> {
    let status = row.get_ref(3)?.as_str()?;
    let ended = ![RunStatus::Queued, RunStatus::Running].iter().any(|open| open.as_str() == status);
    let by_client = row.get::<_, i64>(2)? != 0;
    Ok((row.get(0)?, Target { seq: row.get(1)?, by_client, deleted: row.get::<_, Option<i64>>(4)?.is_some(), closed: ended && !by_client }))
}

/// The values that parameters have which the batches name.
fn known_params(db: &Direct, logs: &[LogWrite], targets: &HashMap<String, Target>) -> Result<HashMap<(i64, String), String>> {
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
        known.extend(db.rows("look for parameters", &sql, |row| Ok(((row.get(0)?, row.get(1)?), row.get(2)?)))?);
    }
    Ok(known)
}

fn known_models(db: &Direct, logs: &[LogWrite]) -> Result<HashSet<String>> {
    let named = logs.iter().flat_map(|log| &log.batch.metrics).filter_map(|point| point.model.as_deref());
    let ids: Vec<&str> = named.collect::<BTreeSet<&str>>().into_iter().collect();
    let mut known = HashSet::with_capacity(ids.len());
    for part in parts(&ids) {
        let mut sql = Sql::new("SELECT id FROM logged_models WHERE id IN ");
        sql.list(part);
        known.extend(db.rows("look for logged models", &sql, |row| row.get::<_, String>(0))?);
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

    fn write(self, db: &Direct) -> Result<()> {
        write_points(db, self.points)?;
        db.run(rows::WHAT, rows::model_points(&self.model_points))?;
        db.run(rows::WHAT, rows::words(Words::Params, &self.params))?;
        if !self.tags.is_empty() {
            let tags: Vec<_> = self.tags.into_iter().map(|((run, name), value)| (run, name, value)).collect();
            db.run(rows::WHAT, rows::words(Words::Tags, &tags))?;
            let names = tags.iter().filter(|(_, tag, _)| tag == RUN_NAME_TAG);
            db.run("name a run", names.map(|(run, _, name)| renaming(*run, name)))?;
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
    sql::run(db, "name a run", std::iter::once(renaming(run, name))).await
}

fn renaming(run: i64, name: &str) -> Statement {
    static TEXT: LazyLock<Arc<str>> = LazyLock::new(|| Arc::from("UPDATE runs SET run_name = ? WHERE seq = ?"));
    Statement { text: Arc::clone(&TEXT), values: vec![name.into(), run.into()] }
}
