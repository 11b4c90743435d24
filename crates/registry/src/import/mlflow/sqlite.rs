//! MLflow's database, as an SQLite file. Read through [`ForeignDb`], so the driver stays in its crate; the statements and what they mean are here.
//!
//! The schema grew over the years. Which tables and columns there are is asked first, and what an older one lacks is NULL or empty. Only the
//! workspace `default` is read where there are workspaces.

use super::check;
use super::disk::{Folder, Places};
use super::source::{Content, Counts, Files, Part, Root, Source, SourceModel, SourceRegistered, SourceRun, SourceVersion, unreadable};
use async_trait::async_trait;
use gristmill_kernel::port::{Cell, ForeignDb, ImportedModel, ImportedVersion};
use gristmill_kernel::tracking::registry::ModelStage;
use gristmill_kernel::tracking::{
    Dataset, DatasetInput, DatasetKey, Experiment, ExperimentId, Lifecycle, LoggedModel, ModelUse, Point, TrackedRun,
};
use gristmill_kernel::{Result, RunId, Timestamp};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Runs of one page; few, because everything of theirs is read with them.
const RUNS: usize = 50;
/// Runs whose values one statement asks for.
const RUNS_AT_ONCE: usize = 10;
/// Other things of one page.
const PAGE: usize = 200;
/// Points of one page of a history.
const POINTS: usize = 20_000;

/// An MLflow database.
pub struct MlflowDb {
    db: Arc<dyn ForeignDb>,
    about: String,
    columns: BTreeSet<(String, String)>,
    places: Places,
}

impl MlflowDb {
    /// Looks at the schema. `folders` are where artifacts may be: the database's own folder and what the user named.
    pub async fn open(db: Arc<dyn ForeignDb>, about: String, folders: Vec<Folder>) -> Result<MlflowDb> {
        let rows =
            db.rows("SELECT m.name, p.name FROM sqlite_master m JOIN pragma_table_info(m.name) p WHERE m.type = 'table'", &[]).await?;
        let columns: BTreeSet<(String, String)> =
            rows.iter().map(|r| Ok((Row(r).text(0)?.to_owned(), Row(r).text(1)?.to_owned()))).collect::<Result<_>>()?;
        let has = |table: &str, column: &str| columns.contains(&(table.to_owned(), column.to_owned()));
        if !has("experiments", "experiment_id") || !has("runs", "run_uuid") || !has("metrics", "run_uuid") {
            return Err(unreadable(format!("{about} is not a database of MLflow: it has no experiments and runs"))
                .fix("name the file of `mlflow server --backend-store-uri sqlite:///...`"));
        }
        Ok(MlflowDb { db, about, columns, places: Places::new(folders) })
    }

    fn has(&self, table: &str, column: &str) -> bool {
        self.columns.contains(&(table.to_owned(), column.to_owned()))
    }
    /// The column, or NULL in a schema that lacks it.
    fn or_null(&self, table: &str, columns: &[&'static str]) -> String {
        columns.iter().map(|c| if self.has(table, c) { *c } else { "NULL" }).collect::<Vec<_>>().join(", ")
    }
    /// Leaves out other workspaces.
    fn here(&self, table: &str) -> &'static str {
        if self.has(table, "workspace") { "workspace = 'default'" } else { "1 = 1" }
    }
    async fn rows(&self, query: String, values: Vec<Cell>) -> Result<Vec<Vec<Cell>>> {
        self.db.rows(&query, &values).await
    }
    async fn count(&self, table: &'static str, rule: &str) -> Result<u64> {
        if !self.columns.iter().any(|(t, _)| t == table) {
            return Ok(0);
        }
        let rows = self.rows(format!("SELECT count(*) FROM {table} WHERE {rule}"), Vec::new()).await?;
        Ok(rows.first().and_then(|r| Row(r).int(0).ok()).and_then(|n| u64::try_from(n).ok()).unwrap_or(0))
    }
    /// Keys and values of several things, by the thing.
    async fn words(&self, table: &'static str, [owner, key, value]: [&'static str; 3], ids: &[String]) -> Result<Words> {
        let mut words = Words::new();
        if !self.has(table, key) {
            return Ok(words);
        }
        for ids in ids.chunks(RUNS_AT_ONCE) {
            let query = format!("SELECT {owner}, {key}, {value} FROM {table} WHERE {owner} IN ({})", marks(ids.len()));
            for row in self.rows(query, texts(ids)).await? {
                let row = Row(&row);
                let pair = check::pair((row.text(1)?, row.maybe_text(2)?.unwrap_or_default()));
                words.entry(row.key(0)?).or_default().push(pair);
            }
        }
        Ok(words)
    }
}

type Words = BTreeMap<String, Vec<Result<(String, String)>>>;

fn take(words: &mut Words, id: &str) -> Result<BTreeMap<String, String>> {
    words.remove(id).unwrap_or_default().into_iter().collect()
}

fn marks(count: usize) -> String {
    vec!["?"; count].join(", ")
}

fn texts(ids: &[String]) -> Vec<Cell> {
    ids.iter().map(|id| Cell::Text(id.clone())).collect()
}

fn int(n: usize) -> Cell {
    Cell::Int(i64::try_from(n).unwrap_or(i64::MAX))
}

/// One row, whose values may be of any type whatever the schema says.
struct Row<'r>(&'r [Cell]);

impl<'r> Row<'r> {
    fn maybe_text(&self, at: usize) -> Result<Option<&'r str>> {
        match self.0.get(at) {
            Some(Cell::Text(text)) => Ok(Some(text)),
            Some(Cell::Null) | None => Ok(None),
            Some(other) => Err(unreadable(format!("{other:?} where a text was expected"))),
        }
    }
    fn text(&self, at: usize) -> Result<&'r str> {
        self.maybe_text(at)?.ok_or_else(|| unreadable("NULL where a text was expected"))
    }
    fn some(&self, at: usize) -> Result<Option<String>> {
        Ok(self.maybe_text(at)?.filter(|t| !t.is_empty()).map(str::to_owned))
    }
    /// An id, which some tables keep as a number.
    fn key(&self, at: usize) -> Result<String> {
        match self.0.get(at) {
            Some(Cell::Int(n)) => Ok(n.to_string()),
            _ => self.text(at).map(str::to_owned),
        }
    }
    fn maybe_int(&self, at: usize) -> Result<Option<i64>> {
        match self.0.get(at) {
            Some(Cell::Int(n)) => Ok(Some(*n)),
            Some(Cell::Null) | None => Ok(None),
            Some(other) => Err(unreadable(format!("{other:?} where a number was expected"))),
        }
    }
    fn int(&self, at: usize) -> Result<i64> {
        self.maybe_int(at)?.ok_or_else(|| unreadable("NULL where a number was expected"))
    }
    fn moment(&self, at: usize) -> Result<Option<Timestamp>> {
        self.maybe_int(at)?.map(check::moment).transpose()
    }
    fn lifecycle(&self, at: usize) -> Result<Lifecycle> {
        Ok(if self.maybe_text(at)? == Some("deleted") { Lifecycle::Deleted } else { Lifecycle::Active })
    }
    fn value(&self, at: usize, is_nan: usize) -> Result<f64> {
        if self.maybe_int(is_nan)?.unwrap_or(0) != 0 {
            return Ok(f64::NAN);
        }
        match self.0.get(at) {
            Some(Cell::Real(value)) => Ok(*value),
            Some(Cell::Int(value)) => Ok(*value as f64),
            Some(Cell::Null) | None => Ok(f64::NAN),
            Some(other) => Err(unreadable(format!("{other:?} where a value was expected"))),
        }
    }
}

#[async_trait]
impl Source for MlflowDb {
    fn about(&self) -> String {
        self.about.clone()
    }

    async fn survey(&self) -> Result<Counts> {
        Ok(Counts {
            experiments: self.count("experiments", self.here("experiments")).await?,
            runs: Some(self.count("runs", "1 = 1").await?),
            points: Some(self.count("metrics", "1 = 1").await?),
            logged_models: Some(self.count("logged_models", "1 = 1").await?),
            models: self.count("registered_models", self.here("registered_models")).await?,
            versions: self.count("model_versions", &format!("{} AND {LIVE}", self.here("model_versions"))).await?,
            files: None,
            bytes: None,
        })
    }

    async fn experiments(&self) -> Result<Part<Experiment>> {
        let mut part = Part::default();
        let mut last = -1;
        loop {
            let columns = self.or_null("experiments", &["artifact_location", "lifecycle_stage", "creation_time", "last_update_time"]);
            let here = self.here("experiments");
            let query = format!(
                "SELECT experiment_id, name, {columns} FROM experiments WHERE experiment_id > ? AND {here} ORDER BY experiment_id LIMIT ?"
            );
            let rows = self.rows(query, vec![Cell::Int(last), int(PAGE)]).await?;
            let ids: Vec<String> = rows.iter().map(|r| Row(r).key(0)).collect::<Result<_>>()?;
            let mut tags = self.words("experiment_tags", ["experiment_id", "key", "value"], &ids).await?;
            for (row, id) in rows.iter().zip(&ids) {
                last = Row(row).int(0)?;
                let tags = take(&mut tags, id);
                part.add(|| format!("experiment {id}"), tags.and_then(|tags| experiment(&Row(row), id, tags)));
            }
            if rows.len() < PAGE {
                return Ok(part);
            }
        }
    }

    async fn runs(&self, experiment: ExperimentId, from: Option<&str>) -> Result<Part<SourceRun>> {
        let columns = self.or_null("runs", &["name", "user_id", "status", "start_time", "end_time", "lifecycle_stage", "artifact_uri"]);
        let query = format!("SELECT run_uuid, {columns} FROM runs WHERE experiment_id = ? AND run_uuid > ? ORDER BY run_uuid LIMIT ?");
        let values = vec![number_of(experiment), Cell::Text(from.unwrap_or_default().to_owned()), int(RUNS)];
        let rows = self.rows(query, values).await?;
        let ids: Vec<String> = rows.iter().map(|r| Row(r).key(0)).collect::<Result<_>>()?;
        let mut params = self.words("params", ["run_uuid", "key", "value"], &ids).await?;
        let mut tags = self.words("tags", ["run_uuid", "key", "value"], &ids).await?;
        let mut metrics = self.latest(&ids).await?;
        let mut inputs = self.inputs(&ids).await?;
        let mut part = Part::default();
        for (row, id) in rows.iter().zip(&ids) {
            let words = take(&mut params, id).and_then(|p| Ok((p, take(&mut tags, id)?)));
            let metrics = metrics.remove(id).unwrap_or_default().into_iter().collect::<Result<Vec<Point>>>();
            let inputs = inputs.remove(id).unwrap_or_default();
            let run = words.and_then(|(params, tags)| Ok((params, tags, metrics?)));
            let run = run.and_then(|(params, tags, metrics)| run_of(&Row(row), experiment, params, tags, metrics, inputs));
            part.add(|| format!("run {}", check::shown(id)), run);
        }
        part.next = ids.last().cloned().filter(|_| rows.len() == RUNS);
        Ok(part)
    }

    async fn history(&self, run: &SourceRun, key: &str, from: Option<&str>) -> Result<Part<Point>> {
        let offset: usize = from.and_then(|f| f.parse().ok()).unwrap_or(0);
        let columns = self.or_null("metrics", &["step", "is_nan"]);
        let query = format!(
            "SELECT value, timestamp, {columns} FROM metrics WHERE run_uuid = ? AND key = ? ORDER BY 3, timestamp, value, 4 LIMIT ? OFFSET ?"
        );
        let values = vec![Cell::Text(run.run.id.0.clone()), Cell::Text(key.to_owned()), int(POINTS), int(offset)];
        let rows = self.rows(query, values).await?;
        let mut part = Part::default();
        for row in &rows {
            part.add(|| format!("a point of metric `{}` of run {}", check::shown(key), run.run.id), point(key, &Row(row)));
        }
        part.next = (rows.len() == POINTS).then(|| (offset + POINTS).to_string());
        Ok(part)
    }

    async fn logged_models(&self, experiment: ExperimentId, from: Option<&str>) -> Result<Part<SourceModel>> {
        let mut part = Part::default();
        if !self.has("logged_models", "model_id") {
            return Ok(part);
        }
        let query = "SELECT model_id, name, artifact_location, creation_timestamp_ms, last_updated_timestamp_ms, status, lifecycle_stage, model_type, \
                     source_run_id, status_message FROM logged_models WHERE experiment_id = ? AND model_id > ? ORDER BY model_id LIMIT ?";
        let values = vec![number_of(experiment), Cell::Text(from.unwrap_or_default().to_owned()), int(PAGE)];
        let rows = self.rows(query.to_owned(), values).await?;
        let ids: Vec<String> = rows.iter().map(|r| Row(r).key(0)).collect::<Result<_>>()?;
        let mut params = self.words("logged_model_params", ["model_id", "param_key", "param_value"], &ids).await?;
        let mut tags = self.words("logged_model_tags", ["model_id", "tag_key", "tag_value"], &ids).await?;
        let mut metrics = self.model_points(&ids).await?;
        for (row, id) in rows.iter().zip(&ids) {
            let words = take(&mut params, id).and_then(|p| Ok((p, take(&mut tags, id)?)));
            let points = metrics.remove(id).unwrap_or_default().into_iter().collect::<Result<Vec<_>>>();
            let model = words.and_then(|(params, tags)| logged_model(&Row(row), experiment, params, tags, points?));
            part.add(|| format!("logged model {}", check::shown(id)), model);
        }
        part.next = ids.last().cloned().filter(|_| rows.len() == PAGE);
        Ok(part)
    }

    async fn registered(&self, from: Option<&str>) -> Result<Part<SourceRegistered>> {
        let mut part = Part::default();
        if !self.has("registered_models", "name") {
            return Ok(part);
        }
        let columns = self.or_null("registered_models", &["description", "creation_time", "last_updated_time"]);
        let here = self.here("registered_models");
        let query = format!("SELECT name, {columns} FROM registered_models WHERE name > ? AND {here} ORDER BY name LIMIT ?");
        let rows = self.rows(query, vec![Cell::Text(from.unwrap_or_default().to_owned()), int(PAGE)]).await?;
        for row in &rows {
            let name = Row(row).text(0)?;
            let model = self.registered_model(&Row(row)).await;
            if let Err(fault) = &model
                && fault.kind.is_transient()
            {
                return model.map(|_| part);
            }
            part.add(|| format!("registered model `{}`", check::shown(name)), model);
            part.next = (rows.len() == PAGE).then(|| name.to_owned());
        }
        Ok(part)
    }

    async fn files(&self, root: &Root) -> Result<Files> {
        self.places.files(root).await
    }
    async fn read(&self, root: &Root, key: &str) -> Result<Content> {
        self.places.read(root, key).await
    }
}

/// What was deleted for good but keeps its number.
const LIVE: &str = "coalesce(current_stage, 'None') <> 'Deleted_Internal'";

/// Datasets and logged models of a run.
#[derive(Default)]
struct Inputs {
    datasets: Vec<(String, DatasetInput)>,
    read: Vec<ModelUse>,
    made: Vec<ModelUse>,
}

impl MlflowDb {
    async fn latest(&self, ids: &[String]) -> Result<BTreeMap<String, Vec<Result<Point>>>> {
        let columns = self.or_null("latest_metrics", &["step", "is_nan"]);
        let mut found: BTreeMap<String, Vec<Result<Point>>> = BTreeMap::new();
        for ids in ids.chunks(RUNS_AT_ONCE) {
            let marks = marks(ids.len());
            let query = match self.has("latest_metrics", "key") {
                true => format!("SELECT value, timestamp, {columns}, key, run_uuid FROM latest_metrics WHERE run_uuid IN ({marks})"),
                // Before there was a table of latest values, the newest moment decided; any point of each key says that it is there.
                false => format!(
                    "SELECT value, max(timestamp), NULL, NULL, key, run_uuid FROM metrics WHERE run_uuid IN ({marks}) GROUP BY run_uuid, key"
                ),
            };
            for row in self.rows(query, texts(ids)).await? {
                let row = Row(&row);
                let point = row.text(4).and_then(check::key).and_then(|key| point(&key, &row));
                found.entry(row.key(5)?).or_default().push(point);
            }
        }
        Ok(found)
    }

    async fn inputs(&self, ids: &[String]) -> Result<BTreeMap<String, Inputs>> {
        let mut found: BTreeMap<String, Inputs> = BTreeMap::new();
        if !self.has("inputs", "source_id") {
            return Ok(found);
        }
        for ids in ids.chunks(RUNS_AT_ONCE) {
            let query = format!(
                "SELECT i.destination_id, i.input_uuid, d.name, d.digest, d.dataset_source_type, d.dataset_source, d.dataset_schema, d.dataset_profile \
                 FROM inputs i JOIN datasets d ON d.dataset_uuid = i.source_id \
                 WHERE i.source_type = 'DATASET' AND i.destination_type = 'RUN' AND i.destination_id IN ({})",
                marks(ids.len())
            );
            for row in self.rows(query, texts(ids)).await? {
                let row = Row(&row);
                let dataset = Dataset {
                    key: DatasetKey { name: row.text(2)?.to_owned(), digest: row.text(3)?.to_owned() },
                    source_type: row.maybe_text(4)?.unwrap_or_default().to_owned(),
                    source: row.maybe_text(5)?.unwrap_or_default().to_owned(),
                    schema: row.maybe_text(6)?.map(str::to_owned),
                    profile: row.maybe_text(7)?.map(str::to_owned),
                };
                let input = DatasetInput { dataset, tags: Vec::new() };
                found.entry(row.key(0)?).or_default().datasets.push((row.key(1)?, input));
            }
            let step = if self.has("inputs", "step") { "step" } else { "0" };
            let query = format!(
                "SELECT source_id, source_type, destination_id, {step} FROM inputs WHERE source_type IN ('RUN_INPUT', 'RUN_OUTPUT') AND source_id IN ({})",
                marks(ids.len())
            );
            for row in self.rows(query, texts(ids)).await? {
                let row = Row(&row);
                let uses = ModelUse { model: check::model_id(row.text(2)?)?, step: row.maybe_int(3)?.unwrap_or(0) };
                let of = found.entry(row.key(0)?).or_default();
                if row.text(1)? == "RUN_INPUT" { of.read.push(uses) } else { of.made.push(uses) }
            }
        }
        let inputs: Vec<String> = found.values().flat_map(|i| i.datasets.iter().map(|(id, _)| id.clone())).collect();
        let mut tags = self.words("input_tags", ["input_uuid", "name", "value"], &inputs).await?;
        for (id, input) in found.values_mut().flat_map(|i| i.datasets.iter_mut()) {
            input.tags = take(&mut tags, id)?.into_iter().collect();
        }
        Ok(found)
    }

    async fn model_points(&self, ids: &[String]) -> Result<BTreeMap<String, Vec<Result<(Point, RunId)>>>> {
        let mut found: BTreeMap<String, Vec<Result<(Point, RunId)>>> = BTreeMap::new();
        if !self.has("logged_model_metrics", "metric_name") {
            return Ok(found);
        }
        for id in ids {
            let mut offset = 0;
            loop {
                let query = "SELECT metric_value, metric_timestamp_ms, metric_step, NULL, metric_name, run_id, dataset_name, dataset_digest \
                             FROM logged_model_metrics WHERE model_id = ? ORDER BY metric_name, metric_timestamp_ms, metric_step, run_id LIMIT ? OFFSET ?";
                let rows = self.rows(query.to_owned(), vec![Cell::Text(id.clone()), int(POINTS), int(offset)]).await?;
                let full = rows.len() == POINTS;
                offset += rows.len();
                found.entry(id.clone()).or_default().extend(rows.iter().map(|row| model_point(id, &Row(row))));
                if !full {
                    break;
                }
            }
        }
        Ok(found)
    }

    async fn registered_model(&self, row: &Row<'_>) -> Result<SourceRegistered> {
        let name = check::name(row.text(0)?)?;
        let created_at = row.moment(2)?.unwrap_or_default();
        let model = ImportedModel {
            description: row.maybe_text(1)?.unwrap_or_default().to_owned(),
            created_at,
            updated_at: row.moment(3)?.unwrap_or(created_at),
            tags: self.pairs_of("registered_model_tags", "key, value", &name).await?.into_iter().collect(),
            name,
        };
        let mut aliases = BTreeMap::new();
        if self.has("registered_model_aliases", "alias") {
            let here = self.here("registered_model_aliases");
            let query = format!("SELECT alias, version FROM registered_model_aliases WHERE name = ? AND {here}");
            for row in self.rows(query, vec![Cell::Text(model.name.clone())]).await? {
                aliases.insert(Row(&row).text(0)?.to_owned(), check::number(Row(&row).int(1)?)?);
            }
        }
        let mut versions = Vec::new();
        let columns = self.or_null(
            "model_versions",
            &[
                "creation_time",
                "last_updated_time",
                "description",
                "user_id",
                "current_stage",
                "source",
                "storage_location",
                "run_id",
                "run_link",
            ],
        );
        let here = self.here("model_versions");
        let mut last = 0;
        loop {
            let query = format!(
                "SELECT version, {columns} FROM model_versions WHERE name = ? AND version > ? AND {LIVE} AND {here} ORDER BY version LIMIT ?"
            );
            let rows = self.rows(query, vec![Cell::Text(model.name.clone()), Cell::Int(last), int(PAGE)]).await?;
            for row in &rows {
                last = Row(row).int(0)?;
                versions.push(version(&model.name, &Row(row))?);
            }
            if rows.len() < PAGE {
                break;
            }
        }
        for (number, key, value) in self.version_tags(&model.name).await? {
            if let Some(version) = versions.iter_mut().find(|v: &&mut SourceVersion| v.version.number == number) {
                version.version.tags.insert(key, value);
            }
        }
        Ok(SourceRegistered { model, aliases, versions })
    }

    async fn pairs_of(&self, table: &'static str, columns: &str, name: &str) -> Result<Vec<(String, String)>> {
        if !self.has(table, "key") {
            return Ok(Vec::new());
        }
        let query = format!("SELECT {columns} FROM {table} WHERE name = ? AND {}", self.here(table));
        let rows = self.rows(query, vec![Cell::Text(name.to_owned())]).await?;
        rows.iter().map(|r| check::pair((Row(r).text(0)?, Row(r).maybe_text(1)?.unwrap_or_default()))).collect()
    }

    async fn version_tags(&self, name: &str) -> Result<Vec<(u64, String, String)>> {
        if !self.has("model_version_tags", "key") {
            return Ok(Vec::new());
        }
        let query = format!("SELECT version, key, value FROM model_version_tags WHERE name = ? AND {}", self.here("model_version_tags"));
        let rows = self.rows(query, vec![Cell::Text(name.to_owned())]).await?;
        let tag = |r: &Vec<Cell>| {
            let (key, value) = check::pair((Row(r).text(1)?, Row(r).maybe_text(2)?.unwrap_or_default()))?;
            Ok((check::number(Row(r).int(0)?)?, key, value))
        };
        rows.iter().map(tag).collect()
    }
}

fn number_of(id: ExperimentId) -> Cell {
    Cell::Int(i64::try_from(id.0).unwrap_or(i64::MAX))
}

fn experiment(row: &Row<'_>, id: &str, tags: BTreeMap<String, String>) -> Result<Experiment> {
    let created_at = row.moment(4)?.unwrap_or_default();
    Ok(Experiment {
        id: check::experiment_id(id)?,
        name: check::name(row.text(1)?)?,
        address: None,
        artifact_location: row.maybe_text(2)?.unwrap_or_default().to_owned(),
        lifecycle: row.lifecycle(3)?,
        created_at,
        updated_at: row.moment(5)?.unwrap_or(created_at),
        tags,
    })
}

fn run_of(
    row: &Row<'_>,
    experiment: ExperimentId,
    params: BTreeMap<String, String>,
    tags: BTreeMap<String, String>,
    metrics: Vec<Point>,
    inputs: Inputs,
) -> Result<SourceRun> {
    let named = row.some(1)?.or_else(|| tags.get("mlflow.runName").cloned());
    let run = TrackedRun {
        id: check::run_id(row.text(0)?)?,
        experiment,
        name: named.unwrap_or_default(),
        user: row.maybe_text(2)?.unwrap_or_default().to_owned(),
        status: check::status(row.maybe_text(3)?.unwrap_or("RUNNING"))?,
        lifecycle: row.lifecycle(6)?,
        started_at: row.moment(4)?,
        ended_at: row.moment(5)?,
        params,
        metrics,
        tags,
        datasets: inputs.datasets.into_iter().map(|(_, d)| d).collect(),
        model_inputs: inputs.read,
        model_outputs: inputs.made,
    };
    Ok(SourceRun { run, artifacts: row.maybe_text(7)?.unwrap_or_default().to_owned() })
}

/// value, moment, step, is_nan
fn point(key: &str, row: &Row<'_>) -> Result<Point> {
    let at = check::moment(row.maybe_int(1)?.unwrap_or(0))?;
    Ok(Point { key: key.to_owned(), value: row.value(0, 3)?, at, step: row.maybe_int(2)?.unwrap_or(0), model: None, dataset: None })
}

fn model_point(model: &str, row: &Row<'_>) -> Result<(Point, RunId)> {
    let mut point = point(&check::key(row.text(4)?)?, row)?;
    point.model = Some(model.to_owned());
    point.dataset = match (row.some(6)?, row.some(7)?) {
        (Some(name), Some(digest)) => Some(DatasetKey { name, digest }),
        _ => None,
    };
    Ok((point, check::run_id(row.text(5)?)?))
}

fn logged_model(
    row: &Row<'_>,
    experiment: ExperimentId,
    params: BTreeMap<String, String>,
    tags: BTreeMap<String, String>,
    metrics: Vec<(Point, RunId)>,
) -> Result<SourceModel> {
    let created_at = row.moment(3)?.unwrap_or_default();
    let model = LoggedModel {
        id: check::model_id(row.text(0)?)?,
        experiment,
        name: check::name(row.text(1)?)?,
        model_type: row.some(7)?,
        source_run: row.some(8)?.map(|r| check::run_id(&r)).transpose()?,
        status: check::model_status(&row.maybe_int(5)?.unwrap_or(0).to_string())?,
        status_message: row.some(9)?,
        lifecycle: row.lifecycle(6)?,
        created_at,
        updated_at: row.moment(4)?.unwrap_or(created_at),
        params,
        tags,
        metrics,
    };
    Ok(SourceModel { model, artifacts: row.maybe_text(2)?.unwrap_or_default().to_owned() })
}

fn version(name: &str, row: &Row<'_>) -> Result<SourceVersion> {
    let created_at = row.moment(1)?.unwrap_or_default();
    let source = row.maybe_text(6)?.unwrap_or_default().to_owned();
    let version = ImportedVersion {
        name: name.to_owned(),
        number: check::number(row.int(0)?)?,
        run: row.some(8)?.map(|r| check::run_id(&r)).transpose()?,
        run_link: row.some(9)?,
        // The database does not keep it; the source says it.
        model: source.strip_prefix("models:/").and_then(|m| check::model_id(m).ok()).filter(|m| m.starts_with("m-")),
        source,
        description: row.maybe_text(3)?.unwrap_or_default().to_owned(),
        user: row.some(4)?,
        stage: row.maybe_text(5)?.and_then(ModelStage::parse).unwrap_or_default(),
        created_at,
        updated_at: row.moment(2)?.unwrap_or(created_at),
        tags: BTreeMap::new(),
        files: Vec::new(),
    };
    Ok(SourceVersion { version, location: row.some(7)? })
}
