//! Evaluation datasets: what `mlflow.genai.datasets` makes, fills and finds.
//!
//! Differs from MLflow on purpose: a dataset whose last record is deleted has no profile, where MLflow writes `null`; records are deleted and
//! tags set only on a dataset that is there.

use super::error::{invalid, unknown};
use super::filter::{self, EVALUATION_DATASET_ATTRIBUTES};
use super::request::{Ask, Field, Int, Is, read};
use super::{Mlflow, done, order, page_token, validate};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use gristmill_kernel::limits::{BODY_BYTES_MAX, DATASET_RECORDS_MAX, JSON_DEPTH_MAX};
use gristmill_kernel::port::RecordCursor;
use gristmill_kernel::tracking::evaluation::{EvaluationDataset, EvaluationRecord, GivenRecord, RecordSource};
use gristmill_kernel::tracking::filter::{Field as Named, OrderBy};
use gristmill_kernel::tracking::trace::moment_of_ms;
use gristmill_kernel::tracking::{ExperimentId, Search, ViewType};
use gristmill_kernel::{Code, Result};
use gristmill_web::{Call, Method, Permission, Response, Routes, check_json_depth, json};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use std::sync::Arc;

/// Tag that names who does something.
const USER: &str = "mlflow.user";
const NAME_CHARS_MAX: usize = 255;
const TAG_KEY_CHARS_MAX: usize = 255;
const TAG_VALUE_CHARS_MAX: usize = 5_000;
/// Datasets in a page that does not say.
const DATASETS_UNSAID: usize = 1_000;
/// Records in a page that does not say.
const RECORDS_UNSAID: usize = 1_000;
/// Largest body that brings records.
const RECORDS_BYTES_MAX: usize = 8 * BODY_BYTES_MAX;
/// Where a record may come from.
const SOURCES: [&str; 5] = ["UNSPECIFIED", "TRACE", "HUMAN", "DOCUMENT", "CODE"];

pub(super) fn routes(m: &Arc<Mlflow>) -> Routes {
    let (get, post, patch, delete) = (&Method::GET, &Method::POST, &Method::PATCH, &Method::DELETE);
    let (see, track) = (Permission::ReadProject, Permission::Track);
    [
        super::v3(m, post, "/mlflow/datasets/create", track, create),
        super::v3(m, get, "/mlflow/datasets/search", see, search),
        super::v3(m, post, "/mlflow/datasets/search", see, search),
        super::v3(m, get, "/mlflow/datasets/{dataset_id}", see, get_one),
        super::v3(m, delete, "/mlflow/datasets/{dataset_id}", track, delete_one),
        super::v3(m, patch, "/mlflow/datasets/{dataset_id}/tags", track, set_tags),
        super::v3(m, delete, "/mlflow/datasets/{dataset_id}/tags/{key}", track, delete_tag),
        super::v3(m, post, "/mlflow/datasets/{dataset_id}/records", track, put_records).map(|route| route.body_limit(RECORDS_BYTES_MAX)),
        super::v3(m, get, "/mlflow/datasets/{dataset_id}/records", see, get_records),
        super::v3(m, delete, "/mlflow/datasets/{dataset_id}/records", track, delete_records),
        super::v3(m, get, "/mlflow/datasets/{dataset_id}/experiment-ids", see, get_experiments),
        super::v3(m, post, "/mlflow/datasets/{dataset_id}/add-experiments", track, add_experiments),
        super::v3(m, post, "/mlflow/datasets/{dataset_id}/remove-experiments", track, remove_experiments),
    ]
    .concat()
    .into()
}

impl Mlflow {
    /// A new id: a letter or two, a dash, 32 hex digits.
    fn new_id(&self, prefix: &str) -> String {
        let mut bytes = [0; 16];
        self.ports.ids.random(&mut bytes);
        format!("{prefix}-{}", hex::encode(bytes))
    }

    async fn dataset(&self, id: &str) -> Result<EvaluationDataset> {
        let missing = || unknown(Code::UNKNOWN_DATASET, format!("Evaluation dataset with id '{}' not found", id.escape_debug()));
        self.datasets.dataset(id).await?.ok_or_else(missing)
    }
}

/// A dataset as it is shown. Its experiments are asked for apart, but come along where they were given.
fn shown(dataset: &EvaluationDataset) -> Value {
    let mut out = json!({
        "dataset_id": dataset.id,
        "name": dataset.name,
        "tags": json!(dataset.tags).to_string(),
        "digest": dataset.digest,
        "created_time": dataset.created_at.millis(),
        "last_update_time": dataset.updated_at.millis(),
    });
    let texts = [("schema", &dataset.schema), ("created_by", &dataset.created_by), ("last_updated_by", &dataset.updated_by)];
    for (name, text) in texts {
        if let Some(text) = text {
            out[name] = text.as_str().into();
        }
    }
    if dataset.records > 0 {
        out["profile"] = json!({ "num_records": dataset.records }).to_string().into();
    }
    if !dataset.experiments.is_empty() {
        out["experiment_ids"] = ids(&dataset.experiments);
    }
    out
}

fn ids(experiments: &[ExperimentId]) -> Value {
    experiments.iter().map(|id| Value::from(id.to_string())).collect()
}

#[derive(Deserialize)]
struct CreateAsk {
    #[serde(deserialize_with = "super::request::filled")]
    name: String,
    experiment_ids: Option<Vec<String>>,
    tags: Option<String>,
}
impl Ask for CreateAsk {
    const FIELDS: &'static [Field] = &[Field::text("name").required(), Field::new("experiment_ids", Is::Texts), Field::text("tags")];
}

async fn create(m: Arc<Mlflow>, call: Call) -> Result<Response> {
    let actor = call.caller().actor.clone();
    let ask: CreateAsk = read(call).await?;
    validate::within("name", NAME_CHARS_MAX, &ask.name)?;
    let experiments = known_experiments(&m, ask.experiment_ids.as_deref().unwrap_or_default()).await?;
    let tags = tags(ask.tags.as_deref())?;
    let tags: std::collections::BTreeMap<String, String> =
        tags.into_iter().filter_map(|(name, value)| value.map(|value| (name, value))).collect();
    let now = moment_of_ms(m.now().millis());
    let user = tags.get(USER).cloned();
    let dataset = EvaluationDataset {
        id: m.new_id("d"),
        digest: EvaluationDataset::digest_of(&ask.name, now),
        name: ask.name,
        schema: None,
        records: 0,
        created_at: now,
        updated_at: now,
        created_by: user.clone(),
        updated_by: user,
        tags,
        experiments,
    };
    let made = m.datasets.create_dataset(dataset, &actor).await?;
    json(&json!({ "dataset": shown(&made) }))
}

/// Experiments that are there, each once.
async fn known_experiments(m: &Mlflow, texts: &[String]) -> Result<Vec<ExperimentId>> {
    let mut known = Vec::new();
    for text in texts {
        let id = validate::experiment_id(text)?;
        if m.tracking.experiment(id).await?.is_none() {
            return Err(unknown(Code::UNKNOWN_EXPERIMENT, format!("No Experiment with id={id}")));
        }
        if !known.contains(&id) {
            known.push(id);
        }
    }
    Ok(known)
}

/// Tags: an object that is a JSON text. A value that is no text is shown as one; null is none.
fn tags(text: Option<&str>) -> Result<Vec<(String, Option<String>)>> {
    let Some(text) = text.filter(|text| !text.is_empty()) else { return Ok(Vec::new()) };
    let Value::Object(fields) = parsed(text, "tags")? else { return Err(invalid("tags are not a JSON object")) };
    let mut tags = Vec::new();
    for (name, value) in fields {
        let value = match value {
            Value::Null => None,
            Value::String(text) => Some(text),
            // As Python writes them.
            Value::Bool(true) => Some("True".into()),
            Value::Bool(false) => Some("False".into()),
            other => Some(other.to_string()),
        };
        validate::within("key", TAG_KEY_CHARS_MAX, &name)?;
        validate::within("value", TAG_VALUE_CHARS_MAX, value.as_deref().unwrap_or_default())?;
        tags.push((name, value));
    }
    Ok(tags)
}

/// A parameter that is a JSON text.
fn parsed(text: &str, name: &str) -> Result<Value> {
    check_json_depth(text.as_bytes())?;
    serde_json::from_str(text).map_err(|_| invalid(format!("parameter '{name}' is not JSON (nested at most {JSON_DEPTH_MAX} deep)")))
}

async fn get_one(m: Arc<Mlflow>, call: Call) -> Result<Response> {
    let dataset = m.dataset(call.param("dataset_id")?).await?;
    json(&json!({ "dataset": shown(&dataset) }))
}

/// Deleting what is not there is done already.
async fn delete_one(m: Arc<Mlflow>, call: Call) -> Result<Response> {
    m.datasets.delete_dataset(call.param("dataset_id")?, &call.caller().actor, m.now()).await?;
    done()
}

#[derive(Deserialize)]
struct SearchAsk {
    experiment_ids: Option<Vec<String>>,
    filter_string: Option<String>,
    max_results: Option<Int>,
    order_by: Option<Vec<String>>,
    page_token: Option<String>,
}
impl Ask for SearchAsk {
    const FIELDS: &'static [Field] = &[
        Field::new("experiment_ids", Is::Texts),
        Field::text("filter_string"),
        Field::new("max_results", Is::Int),
        Field::new("order_by", Is::Texts),
        Field::text("page_token"),
    ];
}

async fn search(m: Arc<Mlflow>, call: Call) -> Result<Response> {
    let ask: SearchAsk = read(call).await?;
    let named = ask.experiment_ids.unwrap_or_default();
    let mut order = order::attributes(&ask.order_by.unwrap_or_default(), EVALUATION_DATASET_ATTRIBUTES)?;
    if order.is_empty() {
        order = vec![OrderBy { field: Named::Attribute("created_time".into()), ascending: false, dataset: None }];
    }
    let search = Search {
        experiments: named.iter().map(|id| validate::experiment_id(id)).collect::<Result<_>>()?,
        view: ViewType::ActiveOnly,
        filter: filter::evaluation_datasets(ask.filter_string.as_deref().unwrap_or_default())?,
        order,
        // Zero is what clients send for "not said".
        limit: validate::max_results(ask.max_results.filter(|Int(wanted)| *wanted != 0), DATASETS_UNSAID)?,
        offset: page_token::read(ask.page_token.as_deref())?,
    };
    let page = m.datasets.search_datasets(&search).await?;
    let mut out = json!({});
    if !page.items.is_empty() {
        out["datasets"] = page.items.iter().map(shown).collect();
    }
    if let Some(token) = page_token::next(page.more, search.offset, page.items.len()) {
        out["next_page_token"] = token.into();
    }
    json(&out)
}

#[derive(Deserialize)]
struct TagsAsk {
    tags: String,
}
impl Ask for TagsAsk {
    const FIELDS: &'static [Field] = &[Field::text("tags").required()];
}

async fn set_tags(m: Arc<Mlflow>, call: Call) -> Result<Response> {
    let id = call.param("dataset_id")?.to_owned();
    let ask: TagsAsk = read(call).await?;
    // A null says nothing.
    let tags: Vec<_> = tags(Some(&ask.tags))?.into_iter().filter(|(_, value)| value.is_some()).collect();
    if m.datasets.dataset(&id).await?.is_none() {
        return Err(unknown(Code::UNKNOWN_DATASET, format!("Could not find evaluation dataset with ID {}", id.escape_debug())));
    }
    m.datasets.set_dataset_tags(&id, &tags).await?;
    done()
}

/// Removing what is not there is done already.
async fn delete_tag(m: Arc<Mlflow>, call: Call) -> Result<Response> {
    let (id, key) = (call.param("dataset_id")?, call.param("key")?);
    if m.datasets.dataset(id).await?.is_some() {
        m.datasets.set_dataset_tags(id, &[(key.to_owned(), None)]).await?;
    }
    done()
}

#[derive(Deserialize)]
struct RecordsAsk {
    records: String,
}
impl Ask for RecordsAsk {
    const FIELDS: &'static [Field] = &[Field::text("records").required()];
}

async fn put_records(m: Arc<Mlflow>, call: Call) -> Result<Response> {
    let id = call.param("dataset_id")?.to_owned();
    let ask: RecordsAsk = read(call).await?;
    let Value::Array(items) = parsed(&ask.records, "records")? else { return Err(invalid("records are not a JSON list")) };
    if items.len() > DATASET_RECORDS_MAX {
        return Err(invalid(format!("a request brings at most {DATASET_RECORDS_MAX} records, this one brings {}", items.len())));
    }
    let records = items.into_iter().map(|item| given(item, m.new_id("dr"))).collect::<Result<Vec<_>>>()?;
    let (inserted, updated) = m.datasets.put_records(&id, records, moment_of_ms(m.now().millis())).await?;
    json(&json!({ "inserted_count": inserted, "updated_count": updated }))
}

/// A record as a client gives it.
fn given(item: Value, id: String) -> Result<GivenRecord> {
    let Value::Object(mut fields) = item else { return Err(invalid("a record is not a JSON object")) };
    let mut object = |name: &str| match fields.remove(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Object(fields)) => Ok(Some(fields)),
        Some(_) => Err(invalid(format!("`{name}` of a record is not a JSON object"))),
    };
    let (inputs, expectations, tags) = (object("inputs")?, object("expectations")?, object("tags")?);
    let source = object("source")?.map(source).transpose()?;
    let user = tags.as_ref().and_then(|tags| tags.get(USER)).and_then(Value::as_str).map(str::to_owned);
    Ok(GivenRecord {
        id,
        inputs: inputs.unwrap_or_default().into(),
        outputs: fields.remove("outputs").map(|outputs| Some(outputs).filter(|outputs| !outputs.is_null())),
        expectations,
        tags,
        source,
        user,
    })
}

fn source(mut fields: Map<String, Value>) -> Result<RecordSource> {
    let kind = fields.get("source_type").and_then(Value::as_str).unwrap_or_default().to_ascii_uppercase();
    if !SOURCES.contains(&kind.as_str()) {
        let valid: Vec<String> = SOURCES.iter().map(|source| format!("'{source}'")).collect();
        return Err(invalid(format!(
            "Invalid dataset record source type: {}. Valid source types: [{}]",
            kind.escape_debug(),
            valid.join(", ")
        )));
    }
    let data = match fields.remove("source_data") {
        Some(Value::Object(data)) => data,
        _ => Map::new(),
    };
    Ok(RecordSource { kind, data })
}

#[derive(Deserialize)]
struct PageAsk {
    max_results: Option<Int>,
    page_token: Option<String>,
}
impl Ask for PageAsk {
    const FIELDS: &'static [Field] = &[Field::new("max_results", Is::Int), Field::text("page_token")];
}

async fn get_records(m: Arc<Mlflow>, call: Call) -> Result<Response> {
    let id = call.param("dataset_id")?.to_owned();
    let ask: PageAsk = read(call).await?;
    let limit = validate::max_results(ask.max_results.filter(|Int(wanted)| *wanted != 0), RECORDS_UNSAID)?.min(DATASET_RECORDS_MAX);
    let after = cursor(ask.page_token.as_deref())?;
    let page = m.datasets.records(&id, after.as_ref(), limit).await?;
    let records: Vec<Value> = page.items.iter().map(|record| record_shown(&id, record)).collect();
    let mut out = json!({ "records": Value::from(records).to_string() });
    if let Some(last) = page.items.last().filter(|_| page.more) {
        out["next_page_token"] = STANDARD.encode(format!("{}:{}", last.created_at.millis(), last.id)).into();
    }
    json(&out)
}

/// A page of records begins behind a moment and an id.
fn cursor(token: Option<&str>) -> Result<Option<RecordCursor>> {
    let Some(token) = token.filter(|token| !token.is_empty()) else { return Ok(None) };
    let bad = || invalid(format!("Invalid page token: '{}'", token.escape_debug()));
    let text = STANDARD.decode(token).ok().and_then(|bytes| String::from_utf8(bytes).ok()).ok_or_else(bad)?;
    let (ms, id) = text.split_once(':').ok_or_else(bad)?;
    Ok(Some((moment_of_ms(ms.parse().map_err(|_| bad())?), id.to_owned())))
}

fn record_shown(dataset: &str, record: &EvaluationRecord) -> Value {
    let mut out = json!({
        "dataset_record_id": record.id,
        "dataset_id": dataset,
        "inputs": record.inputs,
        "tags": record.tags,
        "created_time": record.created_at.millis(),
        "last_update_time": record.updated_at.millis(),
    });
    let mut put = |name: &str, value: Option<Value>| {
        if let Some(value) = value {
            out[name] = value;
        }
    };
    put("outputs", record.outputs.clone());
    put("expectations", record.expectations.clone().map(Value::Object));
    put("created_by", record.created_by.as_deref().map(Value::from));
    put("last_updated_by", record.updated_by.as_deref().map(Value::from));
    if let Some(source) = &record.source {
        put("source", Some(json!({ "source_type": source.kind, "source_data": source.data })));
        put("source_type", Some(source.kind.as_str().into()));
        let id = if source.kind == "TRACE" { "trace_id" } else { "source_id" };
        put("source_id", source.data.get(id).filter(|id| id.is_string()).cloned());
    }
    out
}

#[derive(Deserialize)]
struct DeleteAsk {
    dataset_record_ids: Option<Vec<String>>,
}
impl Ask for DeleteAsk {
    const FIELDS: &'static [Field] = &[Field::new("dataset_record_ids", Is::Texts)];
}

async fn delete_records(m: Arc<Mlflow>, call: Call) -> Result<Response> {
    let id = call.param("dataset_id")?.to_owned();
    let records = read::<DeleteAsk>(call).await?.dataset_record_ids.unwrap_or_default();
    let gone = m.datasets.delete_records(&id, &records).await?;
    json(&json!({ "deleted_count": gone }))
}

async fn get_experiments(m: Arc<Mlflow>, call: Call) -> Result<Response> {
    let experiments = m.datasets.dataset(call.param("dataset_id")?).await?.map(|dataset| dataset.experiments).unwrap_or_default();
    json(&if experiments.is_empty() { json!({}) } else { json!({ "experiment_ids": ids(&experiments) }) })
}

#[derive(Deserialize)]
struct ExperimentsAsk {
    experiment_ids: Option<Vec<String>>,
}
impl Ask for ExperimentsAsk {
    const FIELDS: &'static [Field] = &[Field::new("experiment_ids", Is::Texts)];
}

async fn add_experiments(m: Arc<Mlflow>, call: Call) -> Result<Response> {
    let id = call.param("dataset_id")?.to_owned();
    let named = read::<ExperimentsAsk>(call).await?.experiment_ids.unwrap_or_default();
    must_be_there(&m, &id).await?;
    let add = known_experiments(&m, &named).await?;
    let dataset = m.datasets.set_dataset_experiments(&id, &add, &[], moment_of_ms(m.now().millis())).await?;
    json(&json!({ "dataset": shown(&dataset) }))
}

async fn remove_experiments(m: Arc<Mlflow>, call: Call) -> Result<Response> {
    let id = call.param("dataset_id")?.to_owned();
    let named = read::<ExperimentsAsk>(call).await?.experiment_ids.unwrap_or_default();
    must_be_there(&m, &id).await?;
    let remove = named.iter().map(|id| validate::experiment_id(id)).collect::<Result<Vec<_>>>()?;
    let dataset = m.datasets.set_dataset_experiments(&id, &[], &remove, moment_of_ms(m.now().millis())).await?;
    json(&json!({ "dataset": shown(&dataset) }))
}

async fn must_be_there(m: &Mlflow, id: &str) -> Result<()> {
    let missing = || unknown(Code::UNKNOWN_DATASET, format!("Dataset '{}' not found", id.escape_debug()));
    m.datasets.dataset(id).await?.map(drop).ok_or_else(missing)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_read() {
        let item = json!({
            "inputs": {"q": "?"}, "outputs": null, "expectations": {"a": 1}, "tags": {"mlflow.user": "ada"},
            "source": {"source_type": "trace", "source_data": {"trace_id": "tr-1"}}
        });
        let record = given(item, "dr-1".into()).expect("fits");
        assert_eq!((record.outputs.clone(), record.user.as_deref()), (Some(None), Some("ada")));
        assert_eq!(record.source.as_ref().map(|source| source.kind.as_str()), Some("TRACE"));
        let shown = record_shown("d-1", &record.made(moment_of_ms(7)));
        assert_eq!((shown["source_id"].as_str(), shown["created_time"].as_i64()), (Some("tr-1"), Some(7)));
        assert!(shown.get("outputs").is_none());
        assert_eq!(given(json!({}), String::new()).expect("fits").outputs, None);
        for (bad, why) in [
            (json!(5), "not a JSON object"),
            (json!({"inputs": 5}), "`inputs`"),
            (json!({"expectations": "x"}), "`expectations`"),
            (
                json!({"source": {"source_type": "MOON"}}),
                "Invalid dataset record source type: MOON. Valid source types: ['UNSPECIFIED', 'TRACE'",
            ),
        ] {
            let message = given(bad, String::new()).map(drop).expect_err(why).message;
            assert!(message.contains(why), "{message}");
        }
    }

    #[test]
    fn tags_are_texts() {
        let read = tags(Some(r#"{"a": "x", "b": true, "c": 1.5, "d": null}"#)).expect("fits");
        let texts: Vec<Option<&str>> = read.iter().map(|(_, value)| value.as_deref()).collect();
        assert_eq!(texts, [Some("x"), Some("True"), Some("1.5"), None]);
        assert!(tags(Some("[]")).is_err() && tags(Some("{")).is_err());
        assert!(tags(Some(&format!("{{\"a\": {}}}", "[".repeat(1_000)))).is_err());
        assert!(tags(Some(&json!({"a": "x".repeat(5_001)}).to_string())).is_err());
        assert!(tags(None).expect("none").is_empty());
    }

    #[test]
    fn cursors_come_back() {
        let token = STANDARD.encode("1700000000000:dr-1");
        assert_eq!(cursor(Some(&token)).expect("fits"), Some((moment_of_ms(1_700_000_000_000), "dr-1".into())));
        assert_eq!(cursor(Some("")).expect("none"), None);
        for bad in ["%", "bm9uc2Vuc2U=", "eDp5"] {
            assert!(cursor(Some(bad)).is_err(), "{bad}");
        }
    }
}
