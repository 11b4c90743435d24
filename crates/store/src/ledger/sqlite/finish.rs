//! Ending a run: one transaction in which its versions become visible, aliases move and follow-ups are queued.

use super::SqliteLedger;
use super::open::fault;
use super::runs::Held;
use super::write::{append, apply_move, commit, insert_run, known, must_be_open, put_metrics, put_param, reread, stored_number, write};
use super::{read, registry};
use crate::{rules, story};
use gristmill_kernel::run::Finish;
use gristmill_kernel::version::Which;
use gristmill_kernel::{Fault, NewVersion, Result, Run, RunId, Timestamp, Version, VersionRef};
use sqlx::sqlite::SqliteConnection;

impl SqliteLedger {
    pub(super) async fn finish_run(&self, id: &RunId, finish: Finish, now: Timestamp) -> Result<Run> {
        rules::finish_fits(&finish)?;
        let mut db = self.writer().await;
        let mut tx = write(&mut db).await?;
        let Held { run, seq, .. } = must_be_open(&mut tx, id).await?;
        let outputs = write_outputs(&mut tx, &run, &finish, now).await?;
        for (name, value) in &finish.params {
            put_param(&mut tx, seq, name, value).await?;
        }
        put_metrics(&mut tx, seq, &finish.metrics, now).await?;
        write_checks(&mut tx, id, &finish).await?;
        write_end(&mut tx, id, &finish, now).await?;
        append(&mut tx, now, story::finished(&run, &finish, &outputs)).await?;
        for wish in finish.aliases {
            apply_move(&mut tx, rules::name_output(wish, &outputs)?, now).await?;
        }
        for next in &finish.follow_ups {
            if known(&mut tx, next.idempotency.as_deref()).await?.is_none() {
                insert_run(&mut tx, next, None, now).await?;
            }
        }
        let ended = reread(&mut tx, id).await?;
        commit(tx).await?;
        Ok(ended)
    }
}

/// Numbers and writes what the run made; what is unchanged is found again.
async fn write_outputs(db: &mut SqliteConnection, run: &Run, finish: &Finish, now: Timestamp) -> Result<Vec<VersionRef>> {
    let mut outputs = Vec::new();
    for output in &finish.outputs {
        let newest = read::version(db, &output.asset, &Which::Latest).await?;
        let version = match newest {
            Some(newest) if newest.digest == output.digest && !registry::is_deleted(db, &newest.id).await? => newest.id,
            newest => {
                let number = newest.map_or(0, |v| v.id.number) + 1;
                insert_version(db, run, output, number, now).await?
            }
        };
        rules::add_output(&mut outputs, version);
    }
    for reused in &finish.reused {
        if read::version(db, &reused.asset, &Which::Number(reused.number)).await?.is_none() {
            let newest = read::version(db, &reused.asset, &Which::Latest).await?.map_or(0, |v| v.id.number);
            return Err(rules::unknown_version(&reused.asset, reused.number, newest));
        }
        rules::add_output(&mut outputs, reused.clone());
    }
    for (position, output) in outputs.iter().enumerate() {
        write_output(db, &run.id, position as i64, output).await?;
    }
    Ok(outputs)
}

pub(super) async fn write_output(db: &mut SqliteConnection, run: &RunId, position: i64, output: &VersionRef) -> Result<()> {
    sqlx::query("INSERT INTO run_outputs (run, position, asset, number) VALUES ($1, $2, $3, $4)")
        .bind(&run.0)
        .bind(position)
        .bind(output.asset.to_string())
        .bind(stored_number(output.number)?)
        .execute(db)
        .await
        .map_err(|e| fault("write an output", e))?;
    Ok(())
}

pub(super) async fn insert_version(
    db: &mut SqliteConnection,
    run: &Run,
    new: &NewVersion,
    number: u64,
    now: Timestamp,
) -> Result<VersionRef> {
    let id = VersionRef { asset: new.asset.clone(), number };
    let version = Version {
        id: id.clone(),
        digest: new.digest,
        place: new.place.clone(),
        rows: new.rows,
        meta: new.meta.clone(),
        run: run.id.clone(),
        made_at: now,
    };
    let place = serde_json::to_string(&version.place).map_err(|e| Fault::internal("encode a place").because(e))?;
    sqlx::query(
        "INSERT INTO versions (asset, number, digest, place, row_count, meta, run, made_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
    )
    .bind(id.asset.to_string())
    .bind(stored_number(number)?)
    .bind(version.digest.to_string())
    .bind(place)
    .bind(version.rows.map(stored_number).transpose()?)
    .bind(version.meta.to_string())
    .bind(&run.id.0)
    .bind(now.micros())
    .execute(&mut *db)
    .await
    .map_err(|e| fault("write a version", e))?;
    append(db, now, story::version_made(&version, &run.actor)).await?;
    registry::note_made(db, run, &id, now).await?;
    Ok(id)
}

async fn write_checks(db: &mut SqliteConnection, id: &RunId, finish: &Finish) -> Result<()> {
    for (position, check) in finish.checks.iter().enumerate() {
        sqlx::query("INSERT INTO run_checks (run, position, condition, verdict, observed) VALUES ($1, $2, $3, $4, $5)")
            .bind(&id.0)
            .bind(position as i64)
            .bind(&check.condition)
            .bind(check.verdict.as_str())
            .bind(&check.observed)
            .execute(&mut *db)
            .await
            .map_err(|e| fault("write a check", e))?;
    }
    Ok(())
}

pub(super) async fn write_end(db: &mut SqliteConnection, id: &RunId, finish: &Finish, now: Timestamp) -> Result<()> {
    let error = finish.error.as_ref().map(serde_json::to_string).transpose();
    sqlx::query(
        "UPDATE runs SET status = $2, verdict = $3, skipped_for = $4, summary = $5, error = $6, ended_at = $7, worker = NULL, \
         lease_until = NULL WHERE id = $1",
    )
    .bind(&id.0)
    .bind(finish.status.as_str())
    .bind(finish.verdict.map(|v| v.as_str()))
    .bind(finish.skipped_for.as_ref().map(|id| id.0.as_str()))
    .bind(&finish.summary)
    .bind(error.map_err(|e| Fault::internal("encode an error").because(e))?)
    .bind(now.micros())
    .execute(db)
    .await
    .map_err(|e| fault("end a run", e))?;
    Ok(())
}
