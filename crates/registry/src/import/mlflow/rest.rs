//! A running MLflow server, read through its REST API.
//!
//! Only reading routes are called. Answers are input like a request's body: their size is bounded by the client that the binary gives, every
//! field is asked for by name and type, and what the server calls a path becomes an artifact key or nothing.

use super::check;
use super::source::{
    Content, Counts, Files, Owner, Part, Root, Source, SourceFile, SourceModel, SourceRegistered, SourceRun, SourceVersion, unreadable,
};
use async_trait::async_trait;
use gristmill_kernel::port::{ImportedModel, ImportedVersion};
use gristmill_kernel::tracking::registry::ModelStage;
use gristmill_kernel::tracking::{
    Dataset, DatasetInput, DatasetKey, Experiment, ExperimentId, Lifecycle, LoggedModel, ModelUse, Point, TrackedRun,
};
use gristmill_kernel::{Code, Fault, Kind, Result, RunId, Timestamp, limits};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};

/// One request: only these two kinds are made.
#[derive(Debug, Clone, PartialEq)]
pub enum Ask {
    /// `GET` of a path with its query.
    Get(String),
    /// `POST` of JSON: searches.
    Post(String, Value),
}

/// Calls the server. The binary implements it with its HTTP client: no redirects to other hosts, time and size caps, a few tries when the
/// server is busy. Paths begin with `/`; the address and the credentials are the client's.
#[async_trait]
pub trait Fetch: Send + Sync {
    /// The server's address without credentials.
    fn about(&self) -> String;
    /// Status and JSON of an answer, at most [`limits::FOREIGN_ANSWER_BYTES_MAX`]; `Null` if the body is no JSON.
    async fn json(&self, ask: &Ask) -> Result<(u16, Value)>;
    /// Status and content of an answer.
    async fn stream(&self, path: &str) -> Result<(u16, Content)>;
}

/// An MLflow server.
pub struct MlflowServer {
    fetch: Box<dyn Fetch>,
    /// Registered models that were given already: prompts come in a second list that may repeat them.
    seen: Mutex<BTreeSet<String>>,
}

const API: &str = "/api/2.0/mlflow";
const RUNS: usize = 200;
const PAGE: usize = 100;
const POINTS: usize = 20_000;
const PROMPTS: &str = "tags.`mlflow.prompt.is_prompt` = 'true'";

/// What a value of a query keeps as it is.
const QUERY: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

fn query(pairs: &[(&str, &str)]) -> String {
    let pairs: Vec<String> = pairs.iter().map(|(k, v)| format!("{k}={}", utf8_percent_encode(v, QUERY))).collect();
    pairs.join("&")
}

impl MlflowServer {
    /// A server behind a client.
    pub fn new(fetch: Box<dyn Fetch>) -> MlflowServer {
        MlflowServer { fetch, seen: Mutex::default() }
    }

    async fn ask(&self, ask: Ask) -> Result<Value> {
        let (status, body) = self.fetch.json(&ask).await?;
        if (200..300).contains(&status) { Ok(body) } else { Err(refused(&ask, status, &body)) }
    }
    async fn post(&self, path: &str, body: Value) -> Result<Value> {
        self.ask(Ask::Post(format!("{API}{path}"), body)).await
    }
    async fn get(&self, path: &str, pairs: &[(&str, &str)]) -> Result<Value> {
        self.ask(Ask::Get(format!("{API}{path}?{}", query(pairs)))).await
    }

    async fn versions(&self, name: &str, prompts: bool) -> Result<Vec<SourceVersion>> {
        let quote = if name.contains('\'') { '"' } else { '\'' };
        if name.contains(quote) {
            return Err(unreadable("its name has both kinds of quotes, which the server cannot search for"));
        }
        let mut filter = format!("name = {quote}{name}{quote}");
        if prompts {
            filter = format!("{filter} AND {PROMPTS}");
        }
        let mut versions = Vec::new();
        let mut token = String::new();
        loop {
            let mut pairs = vec![("filter", filter.as_str()), ("max_results", "1000")];
            if !token.is_empty() {
                pairs.push(("page_token", &token));
            }
            let answer = self.get("/model-versions/search", &pairs).await?;
            for found in list(&answer, "model_versions") {
                versions.push(version(name, found)?);
            }
            match next(&answer) {
                Some(next) if next != token => token = next,
                _ => return Ok(versions),
            }
        }
    }

    async fn registered_model(&self, found: &Value, prompts: bool) -> Result<SourceRegistered> {
        let name = check::name(text(found, "name")?)?;
        let created_at = moment(found, "creation_timestamp")?.unwrap_or_default();
        let mut aliases = BTreeMap::new();
        for alias in list(found, "aliases") {
            aliases.insert(text(alias, "alias")?.to_owned(), check::number(whole(alias, "version")?.unwrap_or(0))?);
        }
        let model = ImportedModel {
            description: maybe(found, "description").unwrap_or_default().to_owned(),
            created_at,
            updated_at: moment(found, "last_updated_timestamp")?.unwrap_or(created_at),
            tags: words(found, "tags")?,
            name,
        };
        let versions = self.versions(&model.name, prompts).await?;
        Ok(SourceRegistered { model, aliases, versions })
    }

    /// Files beneath a folder of a root, folder by folder.
    async fn list(&self, root: &Root) -> Result<Vec<SourceFile>> {
        let mut files = Vec::new();
        let mut folders = vec![(String::new(), 0)];
        while let Some((folder, depth)) = folders.pop() {
            if depth > limits::FOREIGN_DEPTH_MAX {
                return Err(unreadable(format!("folders are nested more than {} deep", limits::FOREIGN_DEPTH_MAX)));
            }
            let answer = match &root.owner {
                Owner::Run(run) => {
                    let pairs = [("run_id", run.0.as_str()), ("path", folder.as_str())];
                    self.get("/artifacts/list", if folder.is_empty() { &pairs[..1] } else { &pairs }).await?
                }
                Owner::Model(model) => {
                    let pairs = [("artifact_directory_path", folder.as_str())];
                    self.get(&format!("/logged-models/{model}/artifacts/directories"), if folder.is_empty() { &[] } else { &pairs }).await?
                }
            };
            for found in list(&answer, "files") {
                let path = text(found, "path")?;
                // A listing names what is directly beneath; anything else would send us round in circles.
                let inside = if folder.is_empty() { Some(path) } else { path.strip_prefix(&format!("{folder}/")) };
                if inside.is_none_or(|name| name.is_empty() || name.contains('/') || name == "." || name == "..") {
                    return Err(unreadable(format!("the server lists `{}` in `{}`", check::shown(path), check::shown(&folder))));
                }
                if found["is_dir"].as_bool() == Some(true) {
                    folders.push((path.to_owned(), depth + 1));
                } else {
                    files.push(SourceFile { key: path.to_owned(), bytes: whole(found, "file_size")?.and_then(|n| u64::try_from(n).ok()) });
                }
                if files.len() + folders.len() > limits::FOREIGN_ENTRIES_MAX {
                    return Err(unreadable(format!("there are more than {} files", limits::FOREIGN_ENTRIES_MAX)));
                }
            }
        }
        Ok(files)
    }
}

#[async_trait]
impl Source for MlflowServer {
    fn about(&self) -> String {
        self.fetch.about()
    }

    /// The server has no counts; only what is cheap to list is counted.
    async fn survey(&self) -> Result<Counts> {
        let experiments = self.experiments().await?;
        let mut counts = Counts { experiments: experiments.items.len() as u64, ..Counts::default() };
        let mut token = String::new();
        loop {
            let pairs = [("max_results", "1000"), ("page_token", &token)];
            let answer = self.get("/registered-models/search", &pairs[..if token.is_empty() { 1 } else { 2 }]).await?;
            counts.models += list(&answer, "registered_models").len() as u64;
            match next(&answer) {
                Some(next) if next != token => token = next,
                _ => return Ok(counts),
            }
        }
    }

    async fn experiments(&self) -> Result<Part<Experiment>> {
        let mut part = Part::default();
        let mut token = String::new();
        loop {
            let answer = self.post("/experiments/search", paged(json!({ "max_results": 1_000, "view_type": "ALL" }), Some(&token))).await?;
            for found in list(&answer, "experiments") {
                part.add(|| format!("experiment {}", check::shown(maybe(found, "experiment_id").unwrap_or("?"))), experiment(found));
            }
            match next(&answer) {
                Some(next) if next != token => token = next,
                _ => return Ok(part),
            }
        }
    }

    async fn runs(&self, experiment: ExperimentId, from: Option<&str>) -> Result<Part<SourceRun>> {
        let search = json!({
            "experiment_ids": [experiment.to_string()], "run_view_type": "ALL", "max_results": RUNS, "order_by": ["attributes.start_time ASC"],
        });
        let answer = self.post("/runs/search", paged(search, from)).await?;
        let mut part = Part { next: next(&answer), ..Part::default() };
        for found in list(&answer, "runs") {
            part.add(|| format!("run {}", check::shown(maybe(&found["info"], "run_id").unwrap_or("?"))), run(experiment, found));
        }
        Ok(part)
    }

    /// A search leaves out which logged models a run read.
    async fn whole(&self, mut run: SourceRun) -> Result<SourceRun> {
        let answer = self.get("/runs/get", &[("run_id", &run.run.id.0)]).await?;
        let inputs = &answer["run"]["inputs"];
        run.run.model_inputs = list(inputs, "model_inputs").iter().map(model_use).collect::<Result<_>>()?;
        Ok(run)
    }

    async fn history(&self, run: &SourceRun, key: &str, from: Option<&str>) -> Result<Part<Point>> {
        let most = POINTS.to_string();
        let mut pairs = vec![("run_id", run.run.id.0.as_str()), ("metric_key", key), ("max_results", &most)];
        pairs.extend(from.map(|token| ("page_token", token)));
        let answer = self.get("/metrics/get-history", &pairs).await?;
        let mut part = Part { next: next(&answer), ..Part::default() };
        for found in list(&answer, "metrics") {
            part.add(|| format!("a point of metric `{}` of run {}", check::shown(key), run.run.id), point(key, found));
        }
        Ok(part)
    }

    async fn logged_models(&self, experiment: ExperimentId, from: Option<&str>) -> Result<Part<SourceModel>> {
        let search = json!({ "experiment_ids": [experiment.to_string()], "max_results": PAGE });
        let answer = match self.post("/logged-models/search", paged(search, from)).await {
            // Servers before 3.0 have none.
            Err(fault) if fault.kind == Kind::NotFound => return Ok(Part::default()),
            answer => answer?,
        };
        let mut part = Part { next: next(&answer), ..Part::default() };
        for found in list(&answer, "models") {
            part.add(
                || format!("logged model {}", check::shown(maybe(&found["info"], "model_id").unwrap_or("?"))),
                logged_model(experiment, found),
            );
        }
        Ok(part)
    }

    /// Two lists behind each other: models, then prompts, which some servers leave out of the first. A token says which list it belongs to.
    async fn registered(&self, from: Option<&str>) -> Result<Part<SourceRegistered>> {
        let (prompts, token) = match from {
            Some(from) => (from.starts_with("p:"), from.get(2..).unwrap_or_default()),
            None => (false, ""),
        };
        let most = PAGE.to_string();
        let mut pairs = vec![("max_results", most.as_str())];
        pairs.extend((!token.is_empty()).then_some(("page_token", token)));
        pairs.extend(prompts.then_some(("filter", PROMPTS)));
        let answer = match self.get("/registered-models/search", &pairs).await {
            // Servers before prompts do not know this filter.
            Err(fault) if prompts && fault.kind == Kind::Invalid => return Ok(Part::default()),
            answer => answer?,
        };
        let mut part = Part::default();
        for found in list(&answer, "registered_models") {
            let name = maybe(found, "name").unwrap_or("?");
            if !self.seen.lock().unwrap_or_else(PoisonError::into_inner).insert(name.to_owned()) {
                continue;
            }
            let is_prompt = list(found, "tags").iter().any(|t| maybe(t, "key") == Some("mlflow.prompt.is_prompt"));
            let model = self.registered_model(found, is_prompt).await;
            if let Err(fault) = &model
                && fault.kind.is_transient()
            {
                return model.map(|_| part);
            }
            part.add(|| format!("registered model `{}`", check::shown(name)), model);
        }
        part.next = match (next(&answer), prompts) {
            (Some(next), false) => Some(format!("m:{next}")),
            (Some(next), true) => Some(format!("p:{next}")),
            (None, false) => Some("p:".to_owned()),
            (None, true) => None,
        };
        Ok(part)
    }

    async fn files(&self, root: &Root) -> Result<Files> {
        match self.list(root).await {
            Ok(files) => Ok(Files::Here(files)),
            // A server that does not give files out, or cannot reach the bucket, says so here.
            Err(fault) if fault.kind == Kind::NotFound => Ok(Files::Elsewhere),
            Err(fault) => Err(fault),
        }
    }

    async fn read(&self, root: &Root, key: &str) -> Result<Content> {
        let path = match &root.owner {
            Owner::Run(run) => format!("/get-artifact?{}", query(&[("run_id", &run.0), ("run_uuid", &run.0), ("path", key)])),
            Owner::Model(model) => {
                format!("/ajax-api/2.0/mlflow/logged-models/{model}/artifacts/files?{}", query(&[("artifact_file_path", key)]))
            }
        };
        let (status, content) = self.fetch.stream(&path).await?;
        if (200..300).contains(&status) { Ok(content) } else { Err(refused(&Ask::Get(path), status, &Value::Null)) }
    }
}

/// What a refusal means.
fn refused(ask: &Ask, status: u16, body: &Value) -> Fault {
    let (Ask::Get(path) | Ask::Post(path, _)) = ask;
    let path = path.split('?').next().unwrap_or_default();
    let said = maybe(body, "message").map(|m| format!(": {}", check::shown(m))).unwrap_or_default();
    let told = format!("the server answered {status} to {path}{said}");
    match status {
        401 => Fault::new(Kind::Unauthenticated, Code::NOT_AUTHENTICATED, told)
            .fix("set MLFLOW_TRACKING_TOKEN, or MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD"),
        403 => Fault::new(Kind::Denied, Code::NOT_ALLOWED, told).fix("use a login that may read everything that is to be imported"),
        404 => Fault::not_found(Code::SOURCE_UNREADABLE, told),
        408 | 429 | 500.. => {
            Fault::new(Kind::Unavailable, Code::SOURCE_UNREADABLE, told).fix("try again: the import goes on where it stopped")
        }
        _ => unreadable(told),
    }
}

fn paged(mut body: Value, token: Option<&str>) -> Value {
    if let Some(token) = token.filter(|t| !t.is_empty()) {
        body["page_token"] = token.into();
    }
    body
}

fn next(answer: &Value) -> Option<String> {
    maybe(answer, "next_page_token").filter(|t| !t.is_empty()).map(str::to_owned)
}

fn list<'v>(value: &'v Value, key: &str) -> &'v [Value] {
    value[key].as_array().map_or(&[], Vec::as_slice)
}

fn maybe<'v>(value: &'v Value, key: &str) -> Option<&'v str> {
    value[key].as_str()
}

fn some(value: &Value, key: &str) -> Option<String> {
    maybe(value, key).filter(|t| !t.is_empty()).map(str::to_owned)
}

fn text<'v>(value: &'v Value, key: &str) -> Result<&'v str> {
    maybe(value, key).ok_or_else(|| unreadable(format!("the server's answer has no `{key}`")))
}

/// A whole number, which some servers write as a text.
fn whole(value: &Value, key: &str) -> Result<Option<i64>> {
    match &value[key] {
        Value::Null => Ok(None),
        Value::Number(n) => n.as_i64().map(Some).ok_or_else(|| unreadable(format!("`{key}` is not a whole number"))),
        Value::String(t) => t.parse().map(Some).map_err(|_| unreadable(format!("`{key}` is not a whole number"))),
        _ => Err(unreadable(format!("`{key}` is not a whole number"))),
    }
}

fn moment(value: &Value, key: &str) -> Result<Option<Timestamp>> {
    whole(value, key)?.map(check::moment).transpose()
}

fn words(value: &Value, key: &str) -> Result<BTreeMap<String, String>> {
    list(value, key).iter().map(|w| check::pair((text(w, "key")?, maybe(w, "value").unwrap_or_default()))).collect()
}

fn lifecycle(value: &Value) -> Lifecycle {
    if maybe(value, "lifecycle_stage") == Some("deleted") { Lifecycle::Deleted } else { Lifecycle::Active }
}

fn experiment(found: &Value) -> Result<Experiment> {
    let created_at = moment(found, "creation_time")?.unwrap_or_default();
    Ok(Experiment {
        id: check::experiment_id(text(found, "experiment_id")?)?,
        name: check::name(text(found, "name")?)?,
        address: None,
        artifact_location: maybe(found, "artifact_location").unwrap_or_default().to_owned(),
        lifecycle: lifecycle(found),
        created_at,
        updated_at: moment(found, "last_update_time")?.unwrap_or(created_at),
        tags: words(found, "tags")?,
    })
}

fn run(experiment: ExperimentId, found: &Value) -> Result<SourceRun> {
    let (info, data) = (&found["info"], &found["data"]);
    let id = check::run_id(maybe(info, "run_id").or(maybe(info, "run_uuid")).unwrap_or_default())?;
    if text(info, "experiment_id")? != experiment.to_string() {
        return Err(unreadable("it belongs to another experiment than asked for"));
    }
    let tags = words(data, "tags")?;
    let named = some(info, "run_name").or_else(|| tags.get("mlflow.runName").cloned());
    let latest = list(data, "metrics").iter().map(|m| point(&check::key(text(m, "key")?)?, m)).collect::<Result<Vec<Point>>>()?;
    let inputs = &found["inputs"];
    let run = TrackedRun {
        id,
        experiment,
        name: named.unwrap_or_default(),
        user: maybe(info, "user_id").unwrap_or_default().to_owned(),
        status: check::status(maybe(info, "status").unwrap_or("RUNNING"))?,
        lifecycle: lifecycle(info),
        started_at: moment(info, "start_time")?,
        ended_at: moment(info, "end_time")?.filter(|t| t.micros() != 0),
        params: words(data, "params")?,
        metrics: latest,
        tags,
        datasets: list(inputs, "dataset_inputs").iter().map(dataset).collect::<Result<_>>()?,
        model_inputs: list(inputs, "model_inputs").iter().map(model_use).collect::<Result<_>>()?,
        model_outputs: list(&found["outputs"], "model_outputs").iter().map(model_use).collect::<Result<_>>()?,
    };
    Ok(SourceRun { run, artifacts: maybe(info, "artifact_uri").unwrap_or_default().to_owned() })
}

fn dataset(found: &Value) -> Result<DatasetInput> {
    let dataset = &found["dataset"];
    Ok(DatasetInput {
        dataset: Dataset {
            key: DatasetKey { name: text(dataset, "name")?.to_owned(), digest: text(dataset, "digest")?.to_owned() },
            source_type: maybe(dataset, "source_type").unwrap_or_default().to_owned(),
            source: maybe(dataset, "source").unwrap_or_default().to_owned(),
            schema: some(dataset, "schema"),
            profile: some(dataset, "profile"),
        },
        tags: words(found, "tags")?.into_iter().collect(),
    })
}

fn model_use(found: &Value) -> Result<ModelUse> {
    Ok(ModelUse { model: check::model_id(text(found, "model_id")?)?, step: whole(found, "step")?.unwrap_or(0) })
}

fn point(key: &str, found: &Value) -> Result<Point> {
    let value = match &found["value"] {
        Value::Number(n) => n.as_f64(),
        // JSON has no words for these, so they come as texts.
        Value::String(t) => match t.as_str() {
            "NaN" => Some(f64::NAN),
            "Infinity" => Some(f64::INFINITY),
            "-Infinity" => Some(f64::NEG_INFINITY),
            other => other.parse().ok(),
        },
        Value::Null => Some(0.0),
        _ => None,
    };
    let value = value.ok_or_else(|| unreadable("a metric's value is not a number"))?;
    let at = moment(found, "timestamp")?.unwrap_or_default();
    let dataset = match (some(found, "dataset_name"), some(found, "dataset_digest")) {
        (Some(name), Some(digest)) => Some(DatasetKey { name, digest }),
        _ => None,
    };
    let model = some(found, "model_id").map(|m| check::model_id(&m)).transpose()?;
    Ok(Point { key: key.to_owned(), value, at, step: whole(found, "step")?.unwrap_or(0), model, dataset })
}

fn logged_model(experiment: ExperimentId, found: &Value) -> Result<SourceModel> {
    let (info, data) = (&found["info"], &found["data"]);
    let id = check::model_id(text(info, "model_id")?)?;
    if text(info, "experiment_id")? != experiment.to_string() {
        return Err(unreadable("it belongs to another experiment than asked for"));
    }
    let created_at = moment(info, "creation_timestamp_ms")?.unwrap_or_default();
    let source_run = some(info, "source_run_id").map(|r| check::run_id(&r)).transpose()?;
    let mut metrics: Vec<(Point, RunId)> = Vec::new();
    for found in list(data, "metrics") {
        let mut point = point(&check::key(text(found, "key")?)?, found)?;
        point.model = Some(id.clone());
        let by = some(found, "run_id").map(|r| check::run_id(&r)).transpose()?.or_else(|| source_run.clone());
        metrics.extend(by.map(|run| (point, run)));
    }
    let model = LoggedModel {
        experiment,
        name: check::name(text(info, "name")?)?,
        model_type: some(info, "model_type"),
        source_run,
        status: check::model_status(maybe(info, "status").unwrap_or("PENDING"))?,
        status_message: some(info, "status_message"),
        lifecycle: lifecycle(info),
        created_at,
        updated_at: moment(info, "last_updated_timestamp_ms")?.unwrap_or(created_at),
        params: words(data, "params")?,
        tags: words(info, "tags")?,
        metrics,
        id,
    };
    Ok(SourceModel { model, artifacts: maybe(info, "artifact_uri").unwrap_or_default().to_owned() })
}

fn version(name: &str, found: &Value) -> Result<SourceVersion> {
    let created_at = moment(found, "creation_timestamp")?.unwrap_or_default();
    let source = maybe(found, "source").unwrap_or_default().to_owned();
    let from_source = source.strip_prefix("models:/").filter(|m| m.starts_with("m-")).map(str::to_owned);
    let version = ImportedVersion {
        name: name.to_owned(),
        number: check::number(whole(found, "version")?.unwrap_or(0))?,
        run: some(found, "run_id").map(|r| check::run_id(&r)).transpose()?,
        run_link: some(found, "run_link"),
        model: some(found, "model_id").or(from_source).map(|m| check::model_id(&m)).transpose()?,
        source,
        description: maybe(found, "description").unwrap_or_default().to_owned(),
        user: some(found, "user_id"),
        stage: maybe(found, "current_stage").and_then(ModelStage::parse).unwrap_or_default(),
        created_at,
        updated_at: moment(found, "last_updated_timestamp")?.unwrap_or(created_at),
        tags: words(found, "tags")?,
        files: Vec::new(),
    };
    Ok(SourceVersion { version, location: None })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_come_as_numbers_or_texts() {
        let answer = json!({ "a": 7, "b": "7", "c": 1.5, "d": null });
        assert_eq!((whole(&answer, "a").unwrap(), whole(&answer, "b").unwrap(), whole(&answer, "d").unwrap()), (Some(7), Some(7), None));
        assert!(whole(&answer, "c").is_err());
    }

    #[test]
    fn values_that_json_lacks_come_as_texts() {
        let value = |v: Value| point("k", &json!({ "value": v, "timestamp": 1, "step": "3" })).unwrap();
        assert!(value(json!("NaN")).value.is_nan() && value(json!("-Infinity")).value == f64::NEG_INFINITY);
        assert_eq!((value(json!(0.5)).value, value(json!(0.5)).step), (0.5, 3));
        assert!(point("k", &json!({ "value": {}, "timestamp": 1 })).is_err());
    }

    #[test]
    fn a_query_hides_nothing() {
        assert_eq!(query(&[("path", "a b/../&x=1#?")]), "path=a%20b%2F..%2F%26x%3D1%23%3F");
    }
}
