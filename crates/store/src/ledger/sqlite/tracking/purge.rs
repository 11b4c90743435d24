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
use gristmill_kernel::tracking::{ExperimentId, Lifecycle, Purged, ViewType};
use gristmill_kernel::{Actor, Result, RunId, Timestamp};
use sqlx::Connection as _;
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

/// A run that may go, as long as it was deleted early enough. What a registered version came from stays: people ask how it was made.
const FREE_RUN: &str = "r.by_client = 1 AND r.experiment IS NOT NULL AND r.deleted_at IS NOT NULL \
                        AND NOT EXISTS (SELECT 1 FROM model_version_notes n WHERE n.run = r.id AND n.deleted = 0)";
/// The same for a logged model.
const FREE_MODEL: &str =
    "m.deleted_at IS NOT NULL AND NOT EXISTS (SELECT 1 FROM model_version_notes n WHERE n.model = m.id AND n.deleted = 0)";

impl SqliteLedger {
    pub(super) async fn purge_deleted(&self, before: Timestamp, actor: &Actor, now: Timestamp) -> Result<Purged> {
        let mut purged = self.would_purge(before).await?;
        (purged.runs, purged.logged_models, purged.experiments) = (0, 0, 0);
        for id in self.deleted(&format!("SELECT r.id FROM runs r WHERE {FREE_RUN} AND r.deleted_at <= "), before).await? {
            purged.runs += u64::from(self.purge_run(&RunId(id), before, actor, now).await?);
        }
        for id in self.deleted(&format!("SELECT m.id FROM logged_models m WHERE {FREE_MODEL} AND m.deleted_at <= "), before).await? {
            purged.logged_models += u64::from(self.purge_model(&id, before, actor, now).await?);
        }
        for id in self.deleted("SELECT CAST(id AS TEXT) FROM experiments WHERE id <> 0 AND deleted_at <= ", before).await? {
            if let Ok(id) = id.parse() {
                purged.experiments += u64::from(self.purge_experiment(ExperimentId(id), before, actor, now).await?);
            }
        }
        Ok(purged)
    }

    /// Counts in one moment what would go.
    pub(super) async fn would_purge(&self, before: Timestamp) -> Result<Purged> {
        let mut db = self.reader().await?;
        let mut tx = db.begin().await.map_err(|e| fault("count what was deleted", e))?;
        let mut counts = [0; 5];
        let (run, model) = (format!("({FREE_RUN} AND r.deleted_at <= "), format!("({FREE_MODEL} AND m.deleted_at <= "));
        let all = "SELECT count(*) FROM runs r WHERE r.by_client = 1 AND r.experiment IS NOT NULL AND r.deleted_at <= ";
        let parts: [&[&str]; 5] = [
            &["SELECT count(*) FROM runs r WHERE ", &run, ")"],
            &["SELECT count(*) FROM logged_models m WHERE ", &model, ")"],
            &[
                "SELECT count(*) FROM experiments e WHERE e.id <> 0 AND NOT EXISTS (SELECT 1 FROM runs r WHERE r.experiment = e.id AND NOT ",
                &run,
                ")) AND NOT EXISTS (SELECT 1 FROM logged_models m WHERE m.experiment = e.id AND NOT ",
                &model,
                ")) AND e.deleted_at <= ",
                "",
            ],
            &[all, ""],
            &["SELECT count(*) FROM logged_models m WHERE m.deleted_at <= ", ""],
        ];
        for (count, parts) in counts.iter_mut().zip(parts) {
            let mut sql = Sql::new("");
            // A part that ends in a comparison is followed by the moment.
            parts.iter().for_each(|part| {
                sql.text(part);
                if part.ends_with("<= ") {
                    sql.value(before.micros());
                }
            });
            *count = number(sql.rows(&mut tx, "count what was deleted").await?.first())?.unsigned_abs();
        }
        tx.rollback().await.map_err(|e| fault("count what was deleted", e))?;
        let [runs, logged_models, experiments, runs_there, models_there] = counts;
        Ok(Purged { runs, logged_models, experiments, kept: (runs_there - runs) + (models_there - logged_models) })
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
        let still = still_deleted(&mut tx, &format!("SELECT count(*) FROM runs r WHERE {FREE_RUN} AND r.id = "), &id.0, before).await?;
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
        if let Some(base) = files_of(&mut tx, found.run.experiment).await? {
            remove_files(&mut tx, &format!("{base}{id}/artifacts")).await?;
        }
        append(&mut tx, now, story::run_purged(id, &found.address()?, actor)).await?;
        commit(tx).await?;
        Ok(true)
    }

    async fn purge_model(&self, id: &str, before: Timestamp, actor: &Actor, now: Timestamp) -> Result<bool> {
        let mut db = self.writer().await;
        let mut tx = write(&mut db).await?;
        let still =
            still_deleted(&mut tx, &format!("SELECT count(*) FROM logged_models m WHERE {FREE_MODEL} AND m.id = "), id, before).await?;
        let Some(model) = (if still { models::one(&mut tx, id, ViewType::DeletedOnly).await? } else { None }) else { return Ok(false) };
        for text in OF_A_MODEL {
            sqlx::query(*text).bind(id).execute(&mut *tx).await.map_err(|e| fault("purge a logged model", e))?;
        }
        if let Some(base) = files_of(&mut tx, model.experiment).await? {
            remove_files(&mut tx, &format!("{base}models/{id}/artifacts")).await?;
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
        if let Some(base) = files_of(&mut tx, id).await? {
            let mut traces = Sql::new("SELECT id FROM traces WHERE experiment = ");
            traces.value(id.0 as i64);
            for row in traces.rows(&mut tx, "read traces").await? {
                let trace: String = at(&row, 0, "traces", "id")?;
                remove_files(&mut tx, &format!("{base}traces/{trace}/artifacts")).await?;
            }
        }
        // What clients told of it otherwise goes too; datasets may belong to other experiments as well.
        for text in [
            "DELETE FROM trace_runs WHERE trace IN (SELECT id FROM traces WHERE experiment = $1)",
            "DELETE FROM traces WHERE experiment = $1",
            "DELETE FROM evaluation_dataset_experiments WHERE experiment = $1",
        ] {
            sqlx::query(text).bind(id.0 as i64).execute(&mut *tx).await.map_err(|e| fault("purge an experiment", e))?;
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

/// The key beneath which an experiment's files are, with its `/`; `None` if they are somebody else's.
async fn files_of(db: &mut SqliteConnection, id: ExperimentId) -> Result<Option<String>> {
    let location = experiments::must(db, id).await?.artifact_location;
    let Some(rest) = location.strip_prefix("mlflow-artifacts:") else { return Ok(None) };
    // `mlflow-artifacts://host/5` is `mlflow-artifacts:/5` by another name.
    let path = match rest.strip_prefix("//") {
        Some(named) => named.split_once('/').map_or("", |(_, path)| path),
        None => rest,
    };
    let path = path.trim_matches('/');
    Ok(Some(if path.is_empty() { String::new() } else { format!("{path}/") }))
}

/// Forgets the names of files; what nobody names any more goes with the garbage.
async fn remove_files(db: &mut SqliteConnection, folder: &str) -> Result<()> {
    sqlx::query("DELETE FROM artifacts WHERE key >= $1 AND key < $2")
        .bind(format!("{folder}/"))
        .bind(format!("{folder}0"))
        .execute(db)
        .await
        .map_err(|e| fault("purge files", e))?;
    Ok(())
}
