//! What runs read and made, as clients tell it: datasets with their uses, and logged models.

use super::super::cells::at;
use super::super::open::fault;
use super::super::write::stored_number;
use super::experiments::number;
use super::reader::Reader;
use super::runs::{self, Found};
use super::sql::Sql;
use crate::tracked::{CONTEXT_TAG, DATASETS_TOLD_MAX};
use gristmill_kernel::tracking::{Dataset, DatasetInput, DatasetKey, ExperimentId, ModelUse};
use gristmill_kernel::{Result, RunId};
use sqlx::sqlite::{SqliteConnection, SqliteRow};
use std::collections::HashMap;

/// The roles of `run_models`.
const INPUT: &str = "input";
const OUTPUT: &str = "output";

const DATASET: &str = "d.name, d.digest, d.source_type, d.source, d.schema, d.profile";

/// A dataset in the columns of [`DATASET`], which begin at `first`.
fn dataset_of(row: &SqliteRow, first: usize) -> Result<Dataset> {
    let table = "datasets";
    Ok(Dataset {
        key: DatasetKey { name: at(row, first, table, "name")?, digest: at(row, first + 1, table, "digest")? },
        source_type: at(row, first + 2, table, "source_type")?,
        source: at(row, first + 3, table, "source")?,
        schema: at(row, first + 4, table, "schema")?,
        profile: at(row, first + 5, table, "profile")?,
    })
}

/// Adds datasets and logged models to runs: two statements.
pub(super) fn add(db: &Reader, numbers: &[i64], place: impl Fn(i64) -> Option<usize>, found: &mut [Found]) -> Result<()> {
    let mut sql = Sql::new("SELECT u.run, u.dataset, t.name, t.value, ");
    sql.text(DATASET)
        .text(" FROM run_datasets u JOIN datasets d ON d.id = u.dataset")
        .text(" LEFT JOIN run_dataset_tags t ON t.run = u.run AND t.dataset = u.dataset WHERE u.run IN ")
        .list(numbers.iter().copied())
        .text(" ORDER BY u.run, u.position, t.name");
    let mut last = None;
    db.rows("read datasets", &sql, |row| {
        let used: (i64, i64) = (row.get(0)?, row.get(1)?);
        let Some(run) = place(used.0).map(|place| &mut found[place].run) else { return Ok(()) };
        if last.replace(used) != Some(used) {
            let key = DatasetKey { name: row.get(4)?, digest: row.get(5)? };
            let dataset = Dataset { key, source_type: row.get(6)?, source: row.get(7)?, schema: row.get(8)?, profile: row.get(9)? };
            run.datasets.push(DatasetInput { dataset, tags: Vec::new() });
        }
        let tag: Option<String> = row.get(2)?;
        if let (Some(tag), Some(input)) = (tag, run.datasets.last_mut()) {
            input.tags.push((tag, row.get(3)?));
        }
        Ok(())
    })?;
    let mut sql = Sql::new("SELECT run, role, model, step FROM run_models WHERE run IN ");
    sql.list(numbers.iter().copied()).text(" ORDER BY run, role, position");
    db.rows("read models of runs", &sql, |row| {
        if let Some(place) = place(row.get(0)?) {
            let run = &mut found[place].run;
            let uses = if row.get_ref(1)?.as_str()? == INPUT { &mut run.model_inputs } else { &mut run.model_outputs };
            uses.push(ModelUse { model: row.get(2)?, step: row.get(3)? });
        }
        Ok(())
    })?;
    Ok(())
}

pub(super) async fn log_inputs(db: &mut SqliteConnection, id: &RunId, datasets: Vec<DatasetInput>, models: Vec<ModelUse>) -> Result<()> {
    let found = runs::must_be_active(db, id).await?;
    found.must_be_open()?;
    for input in datasets {
        let dataset = dataset_id(db, found.run.experiment, &input.dataset).await?;
        if !use_dataset(db, found.seq, dataset).await? {
            continue;
        }
        for (name, value) in &input.tags {
            sqlx::query(
                "INSERT INTO run_dataset_tags (run, dataset, name, value) VALUES ($1, $2, $3, $4) \
                 ON CONFLICT (run, dataset, name) DO UPDATE SET value = excluded.value",
            )
            .bind(found.seq)
            .bind(dataset)
            .bind(name)
            .bind(value)
            .execute(&mut *db)
            .await
            .map_err(|e| fault("tag a use of a dataset", e))?;
        }
    }
    use_models(db, found.seq, INPUT, &models).await
}

pub(super) async fn log_outputs(db: &mut SqliteConnection, id: &RunId, models: Vec<ModelUse>) -> Result<()> {
    let found = runs::must_be_active(db, id).await?;
    found.must_be_open()?;
    use_models(db, found.seq, OUTPUT, &models).await
}

/// The dataset of this name and digest; it is written if nobody did yet.
async fn dataset_id(db: &mut SqliteConnection, experiment: ExperimentId, dataset: &Dataset) -> Result<i64> {
    let experiment = stored_number(experiment.0)?;
    let mut known = Sql::new("SELECT id FROM datasets WHERE experiment = ");
    known.value(experiment).text(" AND name = ").value(dataset.key.name.as_str());
    known.text(" AND digest = ").value(dataset.key.digest.as_str());
    if let Some(row) = known.rows(db, "look for a dataset").await?.first() {
        return at(row, 0, "datasets", "id");
    }
    let last = Sql::new("SELECT coalesce(max(id), 0) FROM datasets").rows(db, "number a dataset").await?;
    let id = number(last.first())? + 1;
    sqlx::query(
        "INSERT INTO datasets (id, experiment, name, digest, source_type, source, schema, profile) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
    )
    .bind(id)
    .bind(experiment)
    .bind(&dataset.key.name)
    .bind(&dataset.key.digest)
    .bind(&dataset.source_type)
    .bind(&dataset.source)
    .bind(dataset.schema.as_deref())
    .bind(dataset.profile.as_deref())
    .execute(db)
    .await
    .map_err(|e| fault("write a dataset", e))?;
    Ok(id)
}

/// Notes a use; false if it is known.
async fn use_dataset(db: &mut SqliteConnection, run: i64, dataset: i64) -> Result<bool> {
    let done = sqlx::query(
        "INSERT INTO run_datasets (run, dataset, position) \
         SELECT $1, $2, coalesce(max(position) + 1, 0) FROM run_datasets WHERE run = $1 ON CONFLICT (run, dataset) DO NOTHING",
    )
    .bind(run)
    .bind(dataset)
    .execute(db)
    .await
    .map_err(|e| fault("note a dataset", e))?;
    Ok(done.rows_affected() > 0)
}

async fn use_models(db: &mut SqliteConnection, run: i64, role: &str, models: &[ModelUse]) -> Result<()> {
    for used in models {
        sqlx::query(
            "INSERT INTO run_models (run, role, model, step, position) \
             SELECT $1, $2, $3, $4, coalesce(max(position) + 1, 0) FROM run_models WHERE run = $1 AND role = $2 \
             ON CONFLICT (run, role, model) DO NOTHING",
        )
        .bind(run)
        .bind(role)
        .bind(&used.model)
        .bind(used.step)
        .execute(&mut *db)
        .await
        .map_err(|e| fault("note a model", e))?;
    }
    Ok(())
}

/// The datasets of experiments with the contexts of their uses, each once.
pub(super) async fn datasets(
    db: &mut SqliteConnection,
    experiments: &[ExperimentId],
) -> Result<Vec<(ExperimentId, Dataset, Option<String>)>> {
    let numbers: HashMap<i64, ExperimentId> =
        experiments.iter().filter_map(|id| i64::try_from(id.0).ok().map(|number| (number, *id))).collect();
    let mut sql = Sql::new("SELECT DISTINCT d.experiment, t.value, ");
    sql.text(DATASET)
        .text(" FROM datasets d JOIN run_datasets u ON u.dataset = d.id LEFT JOIN run_dataset_tags t ON t.run = u.run AND t.dataset = d.id AND t.name = ")
        .value(CONTEXT_TAG)
        .text(" WHERE d.experiment IN ")
        .list(numbers.keys().copied())
        .text(" ORDER BY d.experiment, d.name, d.digest, t.value LIMIT ")
        .value(DATASETS_TOLD_MAX as i64);
    let rows = sql.rows(db, "list datasets").await?;
    let of_row = |row: &SqliteRow| {
        let experiment: i64 = at(row, 0, "datasets", "experiment")?;
        Ok((ExperimentId(experiment as u64), dataset_of(row, 2)?, at(row, 1, "run_dataset_tags", "value")?))
    };
    rows.iter().map(of_row).collect()
}
