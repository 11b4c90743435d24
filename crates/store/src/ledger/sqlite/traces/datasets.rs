//! Evaluation datasets and their records.

use crate::ledger::sqlite::SqliteLedger;
use crate::ledger::sqlite::cells::Cells;
use crate::ledger::sqlite::open::fault;
use crate::ledger::sqlite::write::{append, commit, write};
use crate::{story, trace_rules};
use async_trait::async_trait;
use gristmill_kernel::port::{EvaluationDatasets, RecordCursor};
use gristmill_kernel::tracking::evaluation::{EvaluationDataset, EvaluationRecord, GivenRecord, RecordSource, grown_schema};
use gristmill_kernel::tracking::{ExperimentId, Page, Search};
use gristmill_kernel::{Actor, Code, Fault, Result, Timestamp};
use sqlx::Connection;
use sqlx::sqlite::{SqliteConnection, SqliteRow};
use std::collections::{BTreeMap, HashMap};

#[async_trait]
impl EvaluationDatasets for SqliteLedger {
    async fn create_dataset(&self, dataset: EvaluationDataset, actor: &Actor) -> Result<EvaluationDataset> {
        let mut db = self.writer().await;
        let mut tx = write(&mut db).await?;
        sqlx::query(
            "INSERT INTO evaluation_datasets (id, name, digest, fields, created_at, updated_at, created_by, updated_by) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
        )
        .bind(&dataset.id)
        .bind(&dataset.name)
        .bind(&dataset.digest)
        .bind(&dataset.schema)
        .bind(dataset.created_at.micros())
        .bind(dataset.updated_at.micros())
        .bind(&dataset.created_by)
        .bind(&dataset.updated_by)
        .execute(&mut *tx)
        .await
        .map_err(|e| fault("write a dataset", e))?;
        for (name, value) in &dataset.tags {
            put_tag(&mut tx, &dataset.id, name, value).await?;
        }
        add_to(&mut tx, &dataset.id, &dataset.experiments).await?;
        append(&mut tx, dataset.created_at, story::dataset_made(&dataset, actor)).await?;
        let made = must(&mut tx, &dataset.id).await?;
        commit(tx).await?;
        Ok(made)
    }

    async fn dataset(&self, id: &str) -> Result<Option<EvaluationDataset>> {
        let mut db = self.reader().await?;
        let mut tx = db.begin().await.map_err(|e| fault("read a dataset", e))?;
        one(&mut tx, id).await
    }

    async fn delete_dataset(&self, id: &str, actor: &Actor, now: Timestamp) -> Result<bool> {
        let mut db = self.writer().await;
        let mut tx = write(&mut db).await?;
        let Some(dataset) = one(&mut tx, id).await? else { return Ok(false) };
        sqlx::query("DELETE FROM evaluation_datasets WHERE id = $1")
            .bind(id)
            .execute(&mut *tx)
            .await
            .map_err(|e| fault("delete a dataset", e))?;
        append(&mut tx, now, story::dataset_deleted(&dataset, actor)).await?;
        commit(tx).await?;
        Ok(true)
    }

    async fn search_datasets(&self, search: &Search) -> Result<Page<EvaluationDataset>> {
        let mut db = self.reader().await?;
        let mut tx = db.begin().await.map_err(|e| fault("search datasets", e))?;
        Ok(trace_rules::page_of_datasets(all(&mut tx).await?, search))
    }

    async fn set_dataset_tags(&self, id: &str, tags: &[(String, Option<String>)]) -> Result<()> {
        let mut db = self.writer().await;
        let mut tx = write(&mut db).await?;
        must(&mut tx, id).await?;
        for (name, value) in tags {
            match value {
                Some(value) => put_tag(&mut tx, id, name, value).await?,
                None => {
                    sqlx::query("DELETE FROM evaluation_dataset_tags WHERE dataset = $1 AND name = $2")
                        .bind(id)
                        .bind(name)
                        .execute(&mut *tx)
                        .await
                        .map_err(|e| fault("remove the tag of a dataset", e))?;
                }
            }
        }
        commit(tx).await
    }

    async fn set_dataset_experiments(
        &self,
        id: &str,
        add: &[ExperimentId],
        remove: &[ExperimentId],
        now: Timestamp,
    ) -> Result<EvaluationDataset> {
        let mut db = self.writer().await;
        let mut tx = write(&mut db).await?;
        must(&mut tx, id).await?;
        add_to(&mut tx, id, add).await?;
        for experiment in remove {
            sqlx::query("DELETE FROM evaluation_dataset_experiments WHERE dataset = $1 AND experiment = $2")
                .bind(id)
                .bind(stored(*experiment)?)
                .execute(&mut *tx)
                .await
                .map_err(|e| fault("take a dataset out of an experiment", e))?;
        }
        sqlx::query("UPDATE evaluation_datasets SET updated_at = $2 WHERE id = $1")
            .bind(id)
            .bind(now.micros())
            .execute(&mut *tx)
            .await
            .map_err(|e| fault("change a dataset", e))?;
        let changed = must(&mut tx, id).await?;
        commit(tx).await?;
        Ok(changed)
    }

    async fn put_records(&self, id: &str, records: Vec<GivenRecord>, now: Timestamp) -> Result<(u64, u64)> {
        let mut db = self.writer().await;
        let mut tx = write(&mut db).await?;
        let dataset = must(&mut tx, id).await?;
        let schema = grown_schema(dataset.schema.as_deref(), &records);
        let user = records.iter().rev().find_map(|record| record.user.clone());
        let (mut new, mut known) = (0, 0);
        for given in records {
            let identity = given.identity();
            let before = by_identity(&mut tx, id, &identity).await?;
            *(if before.is_some() { &mut known } else { &mut new }) += 1;
            let record = match before {
                Some(before) => given.merged(before, now),
                None => given.made(now),
            };
            save_record(&mut tx, id, &identity, &record).await?;
        }
        sqlx::query("UPDATE evaluation_datasets SET updated_at = $2, digest = $3, fields = $4, updated_by = $5 WHERE id = $1")
            .bind(id)
            .bind(now.micros())
            .bind(EvaluationDataset::digest_of(&dataset.name, now))
            .bind(schema)
            .bind(user)
            .execute(&mut *tx)
            .await
            .map_err(|e| fault("change a dataset", e))?;
        commit(tx).await?;
        Ok((new, known))
    }

    async fn records(&self, id: &str, after: Option<&RecordCursor>, limit: usize) -> Result<Page<EvaluationRecord>> {
        let mut db = self.reader().await?;
        let mut tx = db.begin().await.map_err(|e| fault("read records", e))?;
        must(&mut tx, id).await?;
        let (at, last) = after.map_or((i64::MIN, ""), |(at, last)| (at.micros(), last.as_str()));
        let rows = sqlx::query(
            "SELECT * FROM evaluation_records WHERE dataset = $1 AND (created_at > $2 OR (created_at = $2 AND id > $3)) \
             ORDER BY created_at, id LIMIT $4",
        )
        .bind(id)
        .bind(at)
        .bind(last)
        .bind(i64::try_from(limit.saturating_add(1)).unwrap_or(i64::MAX))
        .fetch_all(&mut *tx)
        .await
        .map_err(|e| fault("read records", e))?;
        let items = rows.iter().take(limit).map(record_of).collect::<Result<Vec<_>>>()?;
        Ok(Page { items, more: rows.len() > limit })
    }

    async fn delete_records(&self, id: &str, records: &[String]) -> Result<u64> {
        let mut db = self.writer().await;
        let mut tx = write(&mut db).await?;
        must(&mut tx, id).await?;
        let mut gone = 0;
        for record in records {
            gone += sqlx::query("DELETE FROM evaluation_records WHERE dataset = $1 AND id = $2")
                .bind(id)
                .bind(record)
                .execute(&mut *tx)
                .await
                .map_err(|e| fault("delete a record", e))?
                .rows_affected();
        }
        commit(tx).await?;
        Ok(gone)
    }
}

fn stored(experiment: ExperimentId) -> Result<i64> {
    i64::try_from(experiment.0)
        .map_err(|_| Fault::invalid(Code::UNKNOWN_EXPERIMENT, format!("experiment {experiment} is too large a number")))
}

async fn put_tag(db: &mut SqliteConnection, id: &str, name: &str, value: &str) -> Result<()> {
    sqlx::query(
        "INSERT INTO evaluation_dataset_tags (dataset, name, value) VALUES ($1, $2, $3) \
         ON CONFLICT (dataset, name) DO UPDATE SET value = excluded.value",
    )
    .bind(id)
    .bind(name)
    .bind(value)
    .execute(db)
    .await
    .map_err(|e| fault("write the tag of a dataset", e))?;
    Ok(())
}

async fn add_to(db: &mut SqliteConnection, id: &str, experiments: &[ExperimentId]) -> Result<()> {
    for experiment in experiments {
        sqlx::query(
            "INSERT INTO evaluation_dataset_experiments (dataset, experiment, added) \
             SELECT $1, $2, coalesce(max(added), 0) + 1 FROM evaluation_dataset_experiments WHERE dataset = $1 \
             ON CONFLICT (dataset, experiment) DO NOTHING",
        )
        .bind(id)
        .bind(stored(*experiment)?)
        .execute(&mut *db)
        .await
        .map_err(|e| fault("add a dataset to an experiment", e))?;
    }
    Ok(())
}

fn bare(row: &SqliteRow) -> Result<EvaluationDataset> {
    let c = Cells::keyed(row, "evaluation_datasets", "id")?;
    Ok(EvaluationDataset {
        id: c.text("id")?,
        name: c.text("name")?,
        digest: c.text("digest")?,
        schema: c.maybe_text("fields")?,
        records: c.count("records")?,
        created_at: c.time("created_at")?,
        updated_at: c.time("updated_at")?,
        created_by: c.maybe_text("created_by")?,
        updated_by: c.maybe_text("updated_by")?,
        tags: BTreeMap::new(),
        experiments: Vec::new(),
    })
}

async fn one(db: &mut SqliteConnection, id: &str) -> Result<Option<EvaluationDataset>> {
    let row = sqlx::query(
        "SELECT d.*, (SELECT count(*) FROM evaluation_records r WHERE r.dataset = d.id) AS records \
         FROM evaluation_datasets d WHERE d.id = $1",
    )
    .bind(id)
    .fetch_optional(&mut *db)
    .await
    .map_err(|e| fault("read a dataset", e))?;
    let Some(row) = row else { return Ok(None) };
    let mut dataset = bare(&row)?;
    let tags = sqlx::query("SELECT * FROM evaluation_dataset_tags WHERE dataset = $1").bind(id).fetch_all(&mut *db).await;
    for row in tags.map_err(|e| fault("read the tags of a dataset", e))? {
        let c = Cells::keyed(&row, "evaluation_dataset_tags", "dataset")?;
        dataset.tags.insert(c.text("name")?, c.text("value")?);
    }
    let experiments =
        sqlx::query("SELECT * FROM evaluation_dataset_experiments WHERE dataset = $1 ORDER BY added").bind(id).fetch_all(&mut *db).await;
    for row in experiments.map_err(|e| fault("read the experiments of a dataset", e))? {
        dataset.experiments.push(ExperimentId(Cells::keyed(&row, "evaluation_dataset_experiments", "dataset")?.count("experiment")?));
    }
    Ok(Some(dataset))
}

async fn must(db: &mut SqliteConnection, id: &str) -> Result<EvaluationDataset> {
    one(db, id).await?.ok_or_else(|| trace_rules::unknown_dataset(id))
}

/// Every dataset: three statements, however many there are.
async fn all(db: &mut SqliteConnection) -> Result<Vec<EvaluationDataset>> {
    let rows =
        sqlx::query("SELECT d.*, (SELECT count(*) FROM evaluation_records r WHERE r.dataset = d.id) AS records FROM evaluation_datasets d")
            .fetch_all(&mut *db)
            .await
            .map_err(|e| fault("list datasets", e))?;
    let mut datasets = rows.iter().map(bare).collect::<Result<Vec<_>>>()?;
    let at: HashMap<String, usize> = datasets.iter().enumerate().map(|(i, dataset)| (dataset.id.clone(), i)).collect();
    let find =
        |c: &Cells<'_>| -> Result<usize> { at.get(&c.text("dataset")?).copied().ok_or_else(|| c.damage("dataset", "names no dataset")) };
    let tags = sqlx::query("SELECT * FROM evaluation_dataset_tags").fetch_all(&mut *db).await;
    for row in tags.map_err(|e| fault("list the tags of datasets", e))? {
        let c = Cells::keyed(&row, "evaluation_dataset_tags", "dataset")?;
        datasets[find(&c)?].tags.insert(c.text("name")?, c.text("value")?);
    }
    let experiments = sqlx::query("SELECT * FROM evaluation_dataset_experiments ORDER BY dataset, added").fetch_all(&mut *db).await;
    for row in experiments.map_err(|e| fault("list the experiments of datasets", e))? {
        let c = Cells::keyed(&row, "evaluation_dataset_experiments", "dataset")?;
        datasets[find(&c)?].experiments.push(ExperimentId(c.count("experiment")?));
    }
    Ok(datasets)
}

fn record_of(row: &SqliteRow) -> Result<EvaluationRecord> {
    let c = Cells::keyed(row, "evaluation_records", "id")?;
    let source = match c.maybe_text("source")? {
        Some(kind) => Some(RecordSource { kind, data: c.maybe_json("source_data")?.unwrap_or_default() }),
        None => None,
    };
    Ok(EvaluationRecord {
        id: c.text("id")?,
        inputs: c.json("inputs")?,
        outputs: c.maybe_json("outputs")?,
        expectations: c.maybe_json("expectations")?,
        tags: c.json("tags")?,
        source,
        created_at: c.time("created_at")?,
        updated_at: c.time("updated_at")?,
        created_by: c.maybe_text("created_by")?,
        updated_by: c.maybe_text("updated_by")?,
    })
}

async fn by_identity(db: &mut SqliteConnection, id: &str, identity: &str) -> Result<Option<EvaluationRecord>> {
    let row = sqlx::query("SELECT * FROM evaluation_records WHERE dataset = $1 AND identity = $2")
        .bind(id)
        .bind(identity)
        .fetch_optional(db)
        .await
        .map_err(|e| fault("look for a record", e))?;
    row.as_ref().map(record_of).transpose()
}

async fn save_record(db: &mut SqliteConnection, id: &str, identity: &str, record: &EvaluationRecord) -> Result<()> {
    let json = |value: &serde_json::Map<String, serde_json::Value>| {
        serde_json::to_string(value).map_err(|e| Fault::internal("encode a record").because(e))
    };
    sqlx::query(
        "INSERT INTO evaluation_records (id, dataset, identity, inputs, outputs, expectations, tags, source, source_data, created_at, \
         updated_at, created_by, updated_by) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13) \
         ON CONFLICT (dataset, identity) DO UPDATE SET outputs = excluded.outputs, expectations = excluded.expectations, \
         tags = excluded.tags, updated_at = excluded.updated_at, updated_by = excluded.updated_by",
    )
    .bind(&record.id)
    .bind(id)
    .bind(identity)
    .bind(record.inputs.to_string())
    .bind(record.outputs.as_ref().map(ToString::to_string))
    .bind(record.expectations.as_ref().map(&json).transpose()?)
    .bind(json(&record.tags)?)
    .bind(record.source.as_ref().map(|source| source.kind.clone()))
    .bind(record.source.as_ref().map(|source| json(&source.data)).transpose()?)
    .bind(record.created_at.micros())
    .bind(record.updated_at.micros())
    .bind(&record.created_by)
    .bind(&record.updated_by)
    .execute(db)
    .await
    .map_err(|e| fault("write a record", e))?;
    Ok(())
}
