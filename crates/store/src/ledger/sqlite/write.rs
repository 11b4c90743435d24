//! Writing: submit, lease, annotate, cancel, move an alias. Every function is one transaction with its audit lines.

use super::SqliteLedger;
use super::open::fault;
use super::runs::{Held, bare, held, run_columns, whole};
use super::tracking::rows::{self, PointRow};
use super::{read, runs, tracking};
use crate::story::{self, Line};
use gristmill_kernel::run::{Annotation, Metric, NewRun, RunError};
use gristmill_kernel::version::{AliasMove, AliasState};
use gristmill_kernel::{Actor, Code, Fault, Kind, Result, Run, RunId, RunStatus, Timestamp, limits};
use sqlx::pool::PoolConnection;
use sqlx::sqlite::{Sqlite, SqliteConnection};
use sqlx::{Connection, Transaction};
use std::collections::BTreeMap;
use tokio::sync::MutexGuard;

/// Appends a line to the chain and returns its number.
pub(super) async fn append(db: &mut SqliteConnection, at: Timestamp, line: Line) -> Result<i64> {
    let (seq, previous) = read::head(db).await?;
    let seq = seq + 1;
    let detail = line.detail.to_string();
    let hash = story::chain_hash(&previous, seq, at, &line.actor.0, line.action, &line.subject, &detail);
    let number = i64::try_from(seq).map_err(|_| Fault::internal("the audit chain is full"))?;
    sqlx::query("INSERT INTO audit (seq, at, actor, action, subject, run, detail, hash) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)")
        .bind(number)
        .bind(at.micros())
        .bind(line.actor.0)
        .bind(line.action)
        .bind(line.subject)
        .bind(line.run.map(|id| id.0))
        .bind(detail)
        .bind(hash.to_string())
        .execute(db)
        .await
        .map_err(|e| fault("append to the audit chain", e))?;
    Ok(number)
}

/// Writes a queued run, or a running one if `lease` says who holds it until when.
pub(super) async fn insert_run(db: &mut SqliteConnection, run: &NewRun, lease: Option<(&str, Timestamp)>, now: Timestamp) -> Result<()> {
    let taken = sqlx::query("SELECT 1 FROM runs WHERE id = $1").bind(&run.id.0).fetch_optional(&mut *db).await;
    if taken.map_err(|e| fault("submit a run", e))?.is_some() {
        return Err(Fault::conflict(Code::BAD_VALUE, format!("run {} exists already", run.id)).fix("take a new id"));
    }
    let line = match lease {
        Some((worker, _)) => story::begun(run, worker),
        None => story::submitted(run),
    };
    let seq = append(db, now, line).await?;
    let status = if lease.is_some() { RunStatus::Running } else { RunStatus::Queued };
    sqlx::query(
        "INSERT INTO runs (id, seq, stage, address, spec, work_key, parent, actor, reason, idempotency, status, summary, attempt, \
         cancel_asked, submitted_at, due_at, started_at, worker, lease_until) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, '', $12, 0, $13, $14, $15, $16, $17)",
    )
    .bind(&run.id.0)
    .bind(seq)
    .bind(run.stage.as_str())
    .bind(run.address.to_string())
    .bind(run.spec.to_string())
    .bind(run.key.to_string())
    .bind(run.parent.as_ref().map(|id| id.0.as_str()))
    .bind(&run.actor.0)
    .bind(&run.reason)
    .bind(run.idempotency.as_deref())
    .bind(status.as_str())
    .bind(i64::from(lease.is_some()))
    .bind(now.micros())
    .bind(run.due_at.micros())
    .bind(lease.map(|_| now.micros()))
    .bind(lease.map(|(worker, _)| worker))
    .bind(lease.map(|(_, until)| until.micros()))
    .execute(&mut *db)
    .await
    .map_err(|e| fault("submit a run", e))?;
    if crate::tracked::is_ours(run.stage, &run.address) {
        tracking::join_experiment(db, run, seq, now).await?;
    }
    for (position, input) in run.inputs.iter().enumerate() {
        sqlx::query("INSERT INTO run_inputs (run, position, asset, number) VALUES ($1, $2, $3, $4)")
            .bind(&run.id.0)
            .bind(position as i64)
            .bind(input.asset.to_string())
            .bind(stored_number(input.number)?)
            .execute(&mut *db)
            .await
            .map_err(|e| fault("submit a run", e))?;
    }
    Ok(())
}

/// The run that was submitted with this token before.
pub(super) async fn known(db: &mut SqliteConnection, token: Option<&str>) -> Result<Option<Run>> {
    let Some(token) = token else { return Ok(None) };
    let row = sqlx::query(concat!("SELECT ", run_columns!(), " FROM runs WHERE idempotency = $1"))
        .bind(token)
        .fetch_optional(&mut *db)
        .await
        .map_err(|e| fault("look for an idempotency token", e))?;
    let Some(row) = row else { return Ok(None) };
    Ok(whole(db, vec![bare(&row)?]).await?.pop())
}

/// A run that must exist.
pub(super) async fn must(db: &mut SqliteConnection, id: &RunId) -> Result<Held> {
    held(db, id).await?.ok_or_else(|| unknown_run(id))
}

/// A run that must exist, be open, and not be a tracking client's.
pub(super) async fn must_be_open(db: &mut SqliteConnection, id: &RunId) -> Result<Held> {
    let held = must(db, id).await?;
    if held.by_client {
        return Err(crate::tracked::not_ours(&held.run));
    }
    if held.run.status.is_final() {
        return Err(crate::rules::ended(&held.run));
    }
    Ok(held)
}

pub(super) fn unknown_run(id: &RunId) -> Fault {
    crate::rules::unknown_run(id)
}

pub(super) fn stored_number(number: u64) -> Result<i64> {
    i64::try_from(number).map_err(|_| Fault::invalid(Code::BAD_VALUE, format!("{number} is too large")))
}

/// Ends the open steps of a flow whose worker is gone.
async fn interrupt_steps(db: &mut SqliteConnection, flow: &RunId, now: Timestamp) -> Result<u64> {
    let rows = sqlx::query(concat!("SELECT ", run_columns!(), " FROM runs WHERE parent = $1 AND status = 'running' ORDER BY seq"))
        .bind(&flow.0)
        .fetch_all(&mut *db)
        .await
        .map_err(|e| fault("find the steps of a flow", e))?;
    for row in &rows {
        fail_interrupted(db, &bare(row)?, now).await?;
    }
    Ok(rows.len() as u64)
}

async fn fail_interrupted(db: &mut SqliteConnection, step: &Held, now: Timestamp) -> Result<()> {
    let error = serde_json::to_string(&story::interruption()).map_err(|e| Fault::internal("encode an error").because(e))?;
    sqlx::query("UPDATE runs SET status = 'failed', error = $2, ended_at = $3, worker = NULL, lease_until = NULL WHERE id = $1")
        .bind(&step.run.id.0)
        .bind(error)
        .bind(now.micros())
        .execute(&mut *db)
        .await
        .map_err(|e| fault("end an interrupted step", e))?;
    append(db, now, story::interrupted(&step.run, step.worker.as_deref(), false)).await?;
    Ok(())
}

/// Writes values of metrics: one per key and step, the last one stands; the latest is the one with the greatest step.
pub(super) async fn put_metrics(db: &mut SqliteConnection, run: i64, metrics: &[Metric], now: Timestamp) -> Result<()> {
    let mut kept: BTreeMap<(&str, i64), f64> = BTreeMap::new();
    for metric in metrics {
        kept.insert((&metric.key, metric.step), metric.value);
    }
    let mut latest: BTreeMap<&str, PointRow> = BTreeMap::new();
    let mut points = Vec::with_capacity(kept.len());
    for ((name, step), value) in kept {
        sqlx::query("DELETE FROM run_metrics WHERE run = $1 AND name = $2 AND step = $3")
            .bind(run)
            .bind(name)
            .bind(step)
            .execute(&mut *db)
            .await
            .map_err(|e| fault("write a metric", e))?;
        let point = PointRow::new(run, name, step, now, value);
        latest.insert(name, point.clone());
        points.push(point);
    }
    rows::put_points(db, &points).await?;
    rows::put_latest(db, &latest.into_values().collect::<Vec<_>>(), rows::Newer::Step).await
}

/// Writes a parameter over what was there.
pub(super) async fn put_param(db: &mut SqliteConnection, run: i64, name: &str, value: &str) -> Result<()> {
    rows::put_words(db, rows::Words::Params, &[(run, name.to_owned(), value.to_owned())]).await
}

/// Moves an alias and writes its line.
pub(super) async fn apply_move(db: &mut SqliteConnection, wish: AliasMove, now: Timestamp) -> Result<AliasState> {
    let previous = read::alias(db, &wish.asset, &wish.alias).await?.and_then(|state| state.number);
    let newest = read::version(db, &wish.asset, &gristmill_kernel::version::Which::Latest).await?.map_or(0, |v| v.id.number);
    super::registry::refuse_deleted(db, &wish).await?;
    let state = crate::rules::moved(wish, previous, newest, now)?;
    let seq = append(db, now, story::alias_moved(&state)).await?;
    let number = state.number.map(stored_number).transpose()?;
    let previous = state.previous.map(stored_number).transpose()?;
    sqlx::query(
        "INSERT INTO alias_moves (seq, asset, alias, number, previous, actor, reason, run, moved_at) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
    )
    .bind(seq)
    .bind(state.asset.to_string())
    .bind(state.alias.as_str())
    .bind(number)
    .bind(previous)
    .bind(&state.actor.0)
    .bind(&state.reason)
    .bind(state.run.as_ref().map(|id| id.0.as_str()))
    .bind(now.micros())
    .execute(&mut *db)
    .await
    .map_err(|e| fault("move an alias", e))?;
    let query = match number {
        None => sqlx::query("DELETE FROM aliases WHERE asset = $1 AND alias = $2").bind(state.asset.to_string()).bind(state.alias.as_str()),
        Some(number) => sqlx::query(
            "INSERT INTO aliases (asset, alias, number, previous, actor, reason, run, moved_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8) \
             ON CONFLICT (asset, alias) DO UPDATE SET number = excluded.number, previous = excluded.previous, actor = excluded.actor, \
             reason = excluded.reason, run = excluded.run, moved_at = excluded.moved_at",
        )
        .bind(state.asset.to_string())
        .bind(state.alias.as_str())
        .bind(number)
        .bind(previous)
        .bind(&state.actor.0)
        .bind(&state.reason)
        .bind(state.run.as_ref().map(|id| id.0.as_str()))
        .bind(now.micros()),
    };
    query.execute(db).await.map_err(|e| fault("move an alias", e))?;
    Ok(state)
}

pub(super) async fn commit(tx: Transaction<'_, Sqlite>) -> Result<()> {
    tx.commit().await.map_err(|e| fault("commit", e))
}

impl SqliteLedger {
    pub(super) async fn writer(&self) -> MutexGuard<'_, SqliteConnection> {
        self.writer.lock().await
    }

    pub(super) async fn submit_run(&self, run: NewRun, now: Timestamp) -> Result<Run> {
        let mut db = self.writer().await;
        let mut tx = write(&mut db).await?;
        if let Some(known) = known(&mut tx, run.idempotency.as_deref()).await? {
            return Ok(known);
        }
        let waiting = sqlx::query("SELECT count(*) FROM runs WHERE status = 'queued' AND by_client = 0").fetch_one(&mut *tx).await;
        let waiting = read::only_number(&waiting.map_err(|e| fault("count the queue", e))?)?;
        if waiting >= limits::QUEUE_RUNS_MAX as i64 {
            return Err(crate::rules::queue_full());
        }
        insert_run(&mut tx, &run, None, now).await?;
        let written = reread(&mut tx, &run.id).await?;
        commit(tx).await?;
        Ok(written)
    }

    pub(super) async fn begin_run(&self, run: NewRun, worker: &str, now: Timestamp, lease_until: Timestamp) -> Result<Run> {
        let mut db = self.writer().await;
        let mut tx = write(&mut db).await?;
        if let Some(known) = known(&mut tx, run.idempotency.as_deref()).await? {
            return Ok(known);
        }
        insert_run(&mut tx, &run, Some((worker, lease_until)), now).await?;
        let written = reread(&mut tx, &run.id).await?;
        commit(tx).await?;
        Ok(written)
    }

    pub(super) async fn lease_run(&self, worker: &str, now: Timestamp, lease_until: Timestamp) -> Result<Option<Run>> {
        // Idle workers ask often: look without the write lock first.
        let mut reader: PoolConnection<Sqlite> = self.reader().await?;
        if next_to_lease(&mut reader, now).await?.is_none() {
            return Ok(None);
        }
        drop(reader);
        let mut db = self.writer().await;
        let mut tx = write(&mut db).await?;
        let Some(Held { mut run, worker: lost, .. }) = next_to_lease(&mut tx, now).await? else { return Ok(None) };
        if run.status == RunStatus::Running {
            interrupt_steps(&mut tx, &run.id, now).await?;
        }
        run.attempt += 1;
        sqlx::query("UPDATE runs SET status = 'running', attempt = $2, worker = $3, lease_until = $4, started_at = $5 WHERE id = $1")
            .bind(&run.id.0)
            .bind(i64::from(run.attempt))
            .bind(worker)
            .bind(lease_until.micros())
            .bind(now.micros())
            .execute(&mut *tx)
            .await
            .map_err(|e| fault("lease a run", e))?;
        append(&mut tx, now, story::started(&run, worker, lost.as_deref())).await?;
        let leased = reread(&mut tx, &run.id).await?;
        commit(tx).await?;
        Ok(Some(leased))
    }

    pub(super) async fn renew_lease(&self, id: &RunId, worker: &str, lease_until: Timestamp) -> Result<Run> {
        let mut db = self.writer().await;
        let mut tx = write(&mut db).await?;
        let held = must(&mut tx, id).await?;
        if held.run.status != RunStatus::Running || held.worker.as_deref() != Some(worker) {
            return Err(crate::rules::lease_lost(&held.run, worker));
        }
        sqlx::query("UPDATE runs SET lease_until = $2 WHERE id = $1")
            .bind(&id.0)
            .bind(lease_until.micros())
            .execute(&mut *tx)
            .await
            .map_err(|e| fault("renew a lease", e))?;
        let renewed = reread(&mut tx, id).await?;
        commit(tx).await?;
        Ok(renewed)
    }

    pub(super) async fn end_other_leases(&self, worker: &str, now: Timestamp) -> Result<u64> {
        let mut db = self.writer().await;
        let mut tx = write(&mut db).await?;
        let rows = sqlx::query(concat!(
            "SELECT ",
            run_columns!(),
            " FROM runs WHERE status = 'running' AND by_client = 0 AND (worker IS NULL OR worker <> $1) ORDER BY seq"
        ))
        .bind(worker)
        .fetch_all(&mut *tx)
        .await
        .map_err(|e| fault("take over", e))?;
        for row in &rows {
            let held = bare(row)?;
            if held.run.parent.is_some() {
                fail_interrupted(&mut tx, &held, now).await?;
                continue;
            }
            back_to_queue(&mut tx, &held.run.id, held.run.due_at, None).await?;
            append(&mut tx, now, story::interrupted(&held.run, held.worker.as_deref(), true)).await?;
        }
        commit(tx).await?;
        Ok(rows.len() as u64)
    }

    pub(super) async fn requeue_run(&self, id: &RunId, due_at: Timestamp, error: RunError) -> Result<()> {
        let now = self.clock.now();
        let mut db = self.writer().await;
        let mut tx = write(&mut db).await?;
        let held = must_be_open(&mut tx, id).await?;
        if held.run.status != RunStatus::Running {
            return Err(crate::rules::not_running(&held.run));
        }
        interrupt_steps(&mut tx, id, now).await?;
        back_to_queue(&mut tx, id, due_at, Some(&error)).await?;
        append(&mut tx, now, story::requeued(&held.run, due_at, &error)).await?;
        commit(tx).await
    }

    pub(super) async fn annotate_run(&self, id: &RunId, note: Annotation) -> Result<()> {
        let now = self.clock.now();
        let mut db = self.writer().await;
        let mut tx = write(&mut db).await?;
        let held = must_be_open(&mut tx, id).await?;
        for (name, value) in &note.params {
            let row = sqlx::query_scalar::<_, String>("SELECT value FROM run_params WHERE run = $1 AND name = $2")
                .bind(held.seq)
                .bind(name)
                .fetch_optional(&mut *tx)
                .await
                .map_err(|e| fault("read a parameter", e))?;
            crate::rules::param_fits(id, name, row.as_deref(), value)?;
            put_param(&mut tx, held.seq, name, value).await?;
        }
        let tags: Vec<_> = note.tags.iter().map(|(name, value)| (held.seq, name.clone(), value.clone())).collect();
        rows::put_words(&mut tx, rows::Words::Tags, &tags).await?;
        put_metrics(&mut tx, held.seq, &note.metrics, now).await?;
        if let Some(summary) = &note.summary {
            sqlx::query("UPDATE runs SET summary = $2 WHERE id = $1")
                .bind(&id.0)
                .bind(summary)
                .execute(&mut *tx)
                .await
                .map_err(|e| fault("write progress", e))?;
        }
        if let Some(line) = story::annotated(&held.run, &note) {
            append(&mut tx, now, line).await?;
        }
        commit(tx).await
    }

    pub(super) async fn cancel_run(&self, id: &RunId, actor: &Actor, now: Timestamp) -> Result<()> {
        let mut db = self.writer().await;
        let mut tx = write(&mut db).await?;
        let held = must_be_open(&mut tx, id).await?;
        let (query, line) = if held.run.status == RunStatus::Queued {
            let sql = "UPDATE runs SET status = 'cancelled', cancel_asked = 1, ended_at = $2, summary = 'cancelled before it began' WHERE id = $1";
            (sqlx::query(sql).bind(&id.0).bind(now.micros()), story::cancelled(&held.run, actor))
        } else if held.run.cancel_asked {
            return Ok(());
        } else {
            (sqlx::query("UPDATE runs SET cancel_asked = 1 WHERE id = $1").bind(&id.0), story::cancel_asked(&held.run, actor))
        };
        query.execute(&mut *tx).await.map_err(|e| fault("cancel a run", e))?;
        append(&mut tx, now, line).await?;
        commit(tx).await
    }

    pub(super) async fn move_one_alias(&self, wish: AliasMove, now: Timestamp) -> Result<AliasState> {
        let mut db = self.writer().await;
        let mut tx = write(&mut db).await?;
        let state = apply_move(&mut tx, wish, now).await?;
        commit(tx).await?;
        Ok(state)
    }
}

/// Begins a write: takes SQLite's write lock at once, so that nothing read inside can be stale at commit.
pub(super) async fn write(db: &mut SqliteConnection) -> Result<Transaction<'_, Sqlite>> {
    db.begin_with("BEGIN IMMEDIATE").await.map_err(|e| fault("begin a write", e))
}

/// The run as this transaction left it.
pub(super) async fn reread(db: &mut SqliteConnection, id: &RunId) -> Result<Run> {
    let held = must(db, id).await?;
    runs::whole(db, vec![held])
        .await?
        .pop()
        .ok_or_else(|| Fault::new(Kind::Internal, Code::INTERNAL, format!("run {id} vanished while it was written")))
}

async fn next_to_lease(db: &mut SqliteConnection, now: Timestamp) -> Result<Option<Held>> {
    let expired = sqlx::query(concat!(
        "SELECT ",
        run_columns!(),
        " FROM runs WHERE status = 'running' AND by_client = 0 AND parent IS NULL AND lease_until <= $1 ORDER BY due_at, seq LIMIT 1"
    ))
    .bind(now.micros())
    .fetch_optional(&mut *db)
    .await
    .map_err(|e| fault("look for work", e))?;
    let row = match expired {
        Some(row) => Some(row),
        None => sqlx::query(concat!(
            "SELECT ",
            run_columns!(),
            " FROM runs WHERE status = 'queued' AND by_client = 0 AND parent IS NULL AND due_at <= $1 ORDER BY due_at, seq LIMIT 1"
        ))
        .bind(now.micros())
        .fetch_optional(&mut *db)
        .await
        .map_err(|e| fault("look for work", e))?,
    };
    row.as_ref().map(bare).transpose()
}

async fn back_to_queue(db: &mut SqliteConnection, id: &RunId, due_at: Timestamp, error: Option<&RunError>) -> Result<()> {
    let error = error.map(serde_json::to_string).transpose().map_err(|e| Fault::internal("encode an error").because(e))?;
    sqlx::query(
        "UPDATE runs SET status = 'queued', worker = NULL, lease_until = NULL, due_at = $2, error = coalesce($3, error) WHERE id = $1",
    )
    .bind(&id.0)
    .bind(due_at.micros())
    .bind(error)
    .execute(db)
    .await
    .map_err(|e| fault("queue a run again", e))?;
    Ok(())
}
