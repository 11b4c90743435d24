//! Retention: what was deleted softly long enough ago goes for good, one thing per transaction, so that loggers wait for none of it long.

use super::super::SqliteLedger;
use super::super::cells::at;
use super::super::open::fault;
use super::super::write::{append, commit, write};
use super::experiments::{self, number};
use super::models;
use super::runs;
use super::sql::Sql;
use crate::tracked::story;
use gristmill_kernel::tracking::{ExperimentId, Lifecycle, ViewType};
use gristmill_kernel::{Actor, Result, RunId, Timestamp};
use sqlx::sqlite::SqliteConnection;

/// Everything that hangs on a client's run, by its number, and the run.
const OF_A_RUN: &[&str] = &[
    "DELETE FROM run_metrics WHERE run = $1",
    "DELETE FROM run_metrics_latest WHERE run = $1",
    "DELETE FROM run_params WHERE run = $1",
    "DELETE FROM run_tags WHERE run = $1",
    "DELETE FROM run_models WHERE run = $1",
    "DELETE FROM run_dataset_tags WHERE run = $1",
    "DELETE FROM run_datasets WHERE run = $1",
    "DELETE FROM runs WHERE seq = $1",
];

/// Everything that hangs on a logged model, and the model.
const OF_A_MODEL: &[&str] = &[
    "DELETE FROM logged_model_metrics WHERE model = $1",
    "DELETE FROM logged_model_params WHERE model = $1",
    "DELETE FROM logged_model_tags WHERE model = $1",
    "DELETE FROM logged_models WHERE id = $1",
];

impl SqliteLedger {
    pub(super) async fn purge_deleted(&self, before: Timestamp, actor: &Actor, now: Timestamp) -> Result<u64> {
        let mut gone = 0;
        for id in self.deleted("SELECT id FROM runs WHERE by_client = 1 AND experiment IS NOT NULL AND deleted_at <= ", before).await? {
            gone += u64::from(self.purge_run(&RunId(id), before, actor, now).await?);
        }
        for id in self.deleted("SELECT id FROM logged_models WHERE deleted_at <= ", before).await? {
            gone += u64::from(self.purge_model(&id, before, actor, now).await?);
        }
        for id in self.deleted("SELECT CAST(id AS TEXT) FROM experiments WHERE id <> 0 AND deleted_at <= ", before).await? {
            if let Ok(id) = id.parse() {
                gone += u64::from(self.purge_experiment(ExperimentId(id), before, actor, now).await?);
            }
        }
        Ok(gone)
    }

    /// Names of what could go. Each is looked at again when its turn comes.
    async fn deleted(&self, select: &str, before: Timestamp) -> Result<Vec<String>> {
        let mut db = self.reader().await?;
        let mut sql = Sql::new(select);
        sql.value(before.micros());
        sql.rows(&mut db, "look for what was deleted").await?.iter().map(|row| at(row, 0, "deleted things", "id")).collect()
    }

    async fn purge_run(&self, id: &RunId, before: Timestamp, actor: &Actor, now: Timestamp) -> Result<bool> {
        let mut db = self.writer().await;
        let mut tx = write(&mut db).await?;
        let still = still_deleted(&mut tx, "SELECT count(*) FROM runs WHERE by_client = 1 AND id = ", &id.0, before).await?;
        let Some(found) = (if still { runs::bare(&mut tx, id).await? } else { None }) else { return Ok(false) };
        let mut used = Sql::new("SELECT dataset FROM run_datasets WHERE run = ");
        used.value(found.seq);
        let used: Vec<i64> =
            used.rows(&mut tx, "read datasets").await?.iter().map(|row| at(row, 0, "run_datasets", "dataset")).collect::<Result<_>>()?;
        for text in OF_A_RUN {
            sqlx::query(*text).bind(found.seq).execute(&mut *tx).await.map_err(|e| fault("purge a run", e))?;
        }
        sqlx::query("DELETE FROM logged_model_metrics WHERE run = $1")
            .bind(&id.0)
            .execute(&mut *tx)
            .await
            .map_err(|e| fault("purge a run", e))?;
        for dataset in used {
            sqlx::query("DELETE FROM datasets WHERE id = $1 AND NOT EXISTS (SELECT 1 FROM run_datasets WHERE dataset = $1)")
                .bind(dataset)
                .execute(&mut *tx)
                .await
                .map_err(|e| fault("purge a dataset", e))?;
        }
        append(&mut tx, now, story::run_purged(id, &found.address()?, actor)).await?;
        commit(tx).await?;
        Ok(true)
    }

    async fn purge_model(&self, id: &str, before: Timestamp, actor: &Actor, now: Timestamp) -> Result<bool> {
        let mut db = self.writer().await;
        let mut tx = write(&mut db).await?;
        let still = still_deleted(&mut tx, "SELECT count(*) FROM logged_models WHERE id = ", id, before).await?;
        let Some(model) = (if still { models::one(&mut tx, id, ViewType::DeletedOnly).await? } else { None }) else { return Ok(false) };
        for text in OF_A_MODEL {
            sqlx::query(*text).bind(id).execute(&mut *tx).await.map_err(|e| fault("purge a logged model", e))?;
        }
        append(&mut tx, now, story::model_purged(&model, actor)).await?;
        commit(tx).await?;
        Ok(true)
    }

    async fn purge_experiment(&self, id: ExperimentId, before: Timestamp, actor: &Actor, now: Timestamp) -> Result<bool> {
        let mut db = self.writer().await;
        let mut tx = write(&mut db).await?;
        let mut sql = Sql::new("SELECT count(*) FROM experiments e WHERE e.id = ");
        sql.value(id.0 as i64).text(" AND e.deleted_at <= ").value(before.micros());
        sql.text(" AND NOT EXISTS (SELECT 1 FROM runs r WHERE r.experiment = e.id)");
        sql.text(" AND NOT EXISTS (SELECT 1 FROM logged_models m WHERE m.experiment = e.id)");
        if number(sql.rows(&mut tx, "look for an experiment").await?.first())? == 0 {
            return Ok(false);
        }
        let experiment = experiments::must(&mut tx, id).await?;
        if experiment.lifecycle != Lifecycle::Deleted {
            return Ok(false);
        }
        experiments::remove(&mut tx, id).await?;
        append(&mut tx, now, story::experiment_purged(&experiment, actor)).await?;
        commit(tx).await?;
        Ok(true)
    }
}

async fn still_deleted(db: &mut SqliteConnection, select: &str, id: &str, before: Timestamp) -> Result<bool> {
    let mut sql = Sql::new(select);
    sql.value(id).text(" AND deleted_at <= ").value(before.micros());
    Ok(number(sql.rows(db, "look for what was deleted").await?.first())? > 0)
}
