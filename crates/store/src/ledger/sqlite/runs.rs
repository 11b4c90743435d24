//! Reading runs. A list is one statement for the runs and one per table that hangs on them, for all runs together.

use super::SqliteLedger;
use super::cells::Cells;
use super::open::fault;
use gristmill_kernel::port::RunFilter;
use gristmill_kernel::{Digest, Result, Run, RunId, RunStatus};
use sqlx::sqlite::{Sqlite, SqliteConnection, SqliteRow};
use sqlx::{AssertSqlSafe, Connection};
use std::collections::HashMap;

/// Runs a list returns when its filter does not say.
const RUNS_LISTED: usize = 1_000;
/// Values in one `IN (...)`. Lists are padded to 1, 8, 64 or 512 values so that few statements are prepared.
const IN_VALUES_MAX: usize = 512;

macro_rules! run_columns {
    () => {
        "id, seq, stage, address, spec, work_key, parent, actor, reason, status, verdict, skipped_for, summary, error, attempt, \
         cancel_asked, submitted_at, due_at, started_at, ended_at, worker, lease_until, by_client"
    };
}
pub(super) use run_columns;

/// A run, its number and who holds it.
pub(super) struct Held {
    pub run: Run,
    pub seq: i64,
    pub worker: Option<String>,
    /// Whether a tracking client drives it.
    pub by_client: bool,
}

/// A run's own row, without what hangs on it.
pub(super) fn bare(row: &SqliteRow) -> Result<Held> {
    let c = Cells::keyed(row, "runs", "id")?;
    let attempt = c.count("attempt")?;
    let run = Run {
        id: RunId(c.text("id")?),
        stage: c.word("stage")?,
        address: c.parse("address")?,
        spec: c.json("spec")?,
        key: c.parse("work_key")?,
        parent: c.maybe_text("parent")?.map(RunId),
        actor: gristmill_kernel::Actor(c.text("actor")?),
        reason: c.text("reason")?,
        status: c.word("status")?,
        verdict: c.maybe_word("verdict")?,
        checks: Vec::new(),
        inputs: Vec::new(),
        outputs: Vec::new(),
        skipped_for: c.maybe_text("skipped_for")?.map(RunId),
        params: Default::default(),
        metrics: Default::default(),
        tags: Default::default(),
        summary: c.text("summary")?,
        error: c.maybe_json("error")?,
        attempt: u32::try_from(attempt).map_err(|e| c.damage("attempt", e))?,
        cancel_asked: c.int("cancel_asked")? != 0,
        submitted_at: c.time("submitted_at")?,
        due_at: c.time("due_at")?,
        started_at: c.maybe_time("started_at")?,
        ended_at: c.maybe_time("ended_at")?,
    };
    let by_client = c.int("by_client")? != 0;
    // Clients end runs without saying when, and open ended ones again.
    if !by_client && run.status.is_final() != run.ended_at.is_some() {
        return Err(c.damage("ended_at", format_args!("does not fit status `{}`", run.status)));
    }
    Ok(Held { run, seq: c.int("seq")?, worker: c.maybe_text("worker")?, by_client })
}

/// One run with who holds it, without what hangs on it: enough for every write.
pub(super) async fn held(db: &mut SqliteConnection, id: &RunId) -> Result<Option<Held>> {
    let row = sqlx::query(concat!("SELECT ", run_columns!(), " FROM runs WHERE id = $1"))
        .bind(&id.0)
        .fetch_optional(db)
        .await
        .map_err(|e| fault("read a run", e))?;
    row.as_ref().map(bare).transpose()
}

/// One run, whole.
pub(super) async fn one(db: &mut SqliteConnection, id: &RunId) -> Result<Option<Run>> {
    let mut tx = db.begin().await.map_err(|e| fault("read a run", e))?;
    let Some(held) = held(&mut tx, id).await? else { return Ok(None) };
    Ok(whole(&mut tx, vec![held]).await?.pop())
}

/// The newest succeeded run with this work key.
pub(super) async fn newest_succeeded(db: &mut SqliteConnection, key: &Digest) -> Result<Option<Run>> {
    let mut tx = db.begin().await.map_err(|e| fault("read a run", e))?;
    let row = sqlx::query(concat!(
        "SELECT ",
        run_columns!(),
        " FROM runs WHERE work_key = $1 AND status = 'succeeded' ORDER BY seq DESC LIMIT 1"
    ))
    .bind(key.to_string())
    .fetch_optional(&mut *tx)
    .await
    .map_err(|e| fault("read a run", e))?;
    let Some(row) = row else { return Ok(None) };
    let held = bare(&row)?;
    Ok(whole(&mut tx, vec![held]).await?.pop())
}

/// Adds what hangs on runs: six statements per 512 runs.
pub(super) async fn whole(db: &mut SqliteConnection, found: Vec<Held>) -> Result<Vec<Run>> {
    let numbers: Vec<i64> = found.iter().map(|held| held.seq).collect();
    let mut runs: Vec<Run> = found.into_iter().map(|held| held.run).collect();
    for (part, numbers) in runs.chunks_mut(IN_VALUES_MAX).zip(numbers.chunks(IN_VALUES_MAX)) {
        let at: HashMap<String, usize> = part.iter().enumerate().map(|(i, run)| (run.id.0.clone(), i)).collect();
        let ids: Vec<String> = part.iter().map(|run| run.id.0.clone()).collect();
        let by_number: HashMap<i64, usize> = numbers.iter().enumerate().map(|(i, number)| (*number, i)).collect();
        let numbered = |c: &Cells<'_>| -> Result<usize> {
            let number = c.int("run")?;
            by_number.get(&number).copied().ok_or_else(|| c.damage("run", format_args!("names `{number}`, which was not asked for")))
        };
        let find = |c: &Cells<'_>| -> Result<usize> {
            let id = c.text("run")?;
            at.get(&id).copied().ok_or_else(|| c.damage("run", format_args!("names `{id}`, which was not asked for")))
        };
        for row in hanging(db, "run, asset, number", "run_inputs", "position", &ids).await? {
            let c = Cells::keyed(&row, "run_inputs", "run")?;
            let version = c.version_ref()?;
            part[find(&c)?].inputs.push(version);
        }
        for row in hanging(db, "run, asset, number", "run_outputs", "position", &ids).await? {
            let c = Cells::keyed(&row, "run_outputs", "run")?;
            let version = c.version_ref()?;
            part[find(&c)?].outputs.push(version);
        }
        for row in hanging(db, "run, condition, verdict, observed", "run_checks", "position", &ids).await? {
            let c = Cells::keyed(&row, "run_checks", "run")?;
            let check =
                gristmill_kernel::Check { condition: c.text("condition")?, verdict: c.word("verdict")?, observed: c.text("observed")? };
            part[find(&c)?].checks.push(check);
        }
        for row in hanging(db, "run, name, value", "run_params", "name", numbers).await? {
            let c = Cells::keyed(&row, "run_params", "run")?;
            part[numbered(&c)?].params.insert(c.text("name")?, c.text("value")?);
        }
        for row in hanging(db, "run, name, value", "run_tags", "name", numbers).await? {
            let c = Cells::keyed(&row, "run_tags", "run")?;
            part[numbered(&c)?].tags.insert(c.text("name")?, c.text("value")?);
        }
        for row in hanging(db, "run, name, value", "run_metrics_latest", "name", numbers).await? {
            let c = Cells::keyed(&row, "run_metrics_latest", "run")?;
            part[numbered(&c)?].metrics.insert(c.text("name")?, c.float("value")?);
        }
    }
    Ok(runs)
}

/// Rows of a table that hang on these runs, by their ids or their numbers.
async fn hanging<K>(db: &mut SqliteConnection, columns: &str, table: &str, order: &str, keys: &[K]) -> Result<Vec<SqliteRow>>
where
    K: Clone + Send + for<'q> sqlx::Encode<'q, Sqlite> + sqlx::Type<Sqlite>,
{
    let Some(last) = keys.last() else { return Ok(Vec::new()) };
    let places = [1, 8, 64, IN_VALUES_MAX].into_iter().find(|n| *n >= keys.len()).unwrap_or(IN_VALUES_MAX);
    let list = placeholders(1, places);
    // Only names from this file and placeholders enter the text.
    let sql = format!("SELECT {columns} FROM {table} WHERE run IN ({list}) ORDER BY run, {order}");
    let mut query = sqlx::query(AssertSqlSafe(sql));
    for i in 0..places {
        query = query.bind(keys.get(i).unwrap_or(last).clone());
    }
    query.fetch_all(db).await.map_err(|e| fault(format_args!("read {table}"), e))
}

fn placeholders(first: usize, count: usize) -> String {
    (first..first + count).map(|n| format!("${n}")).collect::<Vec<_>>().join(",")
}

impl SqliteLedger {
    pub(super) async fn list_runs(&self, filter: &RunFilter) -> Result<Vec<Run>> {
        let mut wanted: Vec<String> = Vec::new();
        let mut values: Vec<String> = Vec::new();
        let mut within = |column: &str, words: Vec<String>| {
            if !words.is_empty() {
                wanted.push(format!("{column} IN ({})", placeholders(values.len() + 1, words.len())));
                values.extend(words);
            }
        };
        within("stage", filter.stages.iter().map(|s| s.as_str().to_owned()).collect());
        within("status", filter.statuses.iter().map(|s: &RunStatus| s.as_str().to_owned()).collect());
        within("address", filter.address.iter().map(ToString::to_string).collect());
        within("parent", filter.parent.iter().map(|id| id.0.clone()).collect());
        let condition = if wanted.is_empty() { String::new() } else { format!("WHERE {}", wanted.join(" AND ")) };
        let sql = format!("SELECT {} FROM runs {condition} ORDER BY seq DESC LIMIT ${}", run_columns!(), values.len() + 1);
        let mut query = sqlx::query(AssertSqlSafe(sql));
        for value in &values {
            query = query.bind(value);
        }
        let limit = if filter.limit == 0 { RUNS_LISTED } else { filter.limit };
        let mut db = self.reader().await?;
        let mut tx = db.begin().await.map_err(|e| fault("list runs", e))?;
        let rows = query.bind(i64::try_from(limit).unwrap_or(i64::MAX)).fetch_all(&mut *tx).await.map_err(|e| fault("list runs", e))?;
        let found = rows.iter().map(bare).collect::<Result<Vec<Held>>>()?;
        whole(&mut tx, found).await
    }
}
