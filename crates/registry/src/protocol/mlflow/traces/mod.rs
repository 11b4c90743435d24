//! Traces: what applications did, told by clients of every age.
//!
//! - New clients (3.4 and later) send spans to `POST /v1/traces` ([`super::otlp`]) and the whole trace to `POST /api/3.0/mlflow/traces`.
//! - Older 3.x clients send the whole trace there and upload the spans as the artifact `traces.json`; 2.x clients begin and end a trace in the
//!   second family and upload the same file. What clients uploaded, clients download: the tag [`key::SPANS_AT`] tells them which way to go.
//!
//! Differs from MLflow on purpose: spans are kept as they were sent (MLflow also rewrites the attributes of other tracing libraries into its
//! own); an id that could lead out of its place is refused; archives of old traces do not exist.

mod any;
mod export;
mod filter;
mod find;
mod metrics;
mod preview;
pub(super) mod protobuf;
mod said;
mod spans;
mod wire;

pub(super) use export::{Sent, batches, of_json};
pub(super) use filter::order_field;

use super::error::{invalid, unknown};
use super::request::{Ask, Field, Int, Is, needed, read};
use super::wire::{PAIR, PairAsk};
use super::{Mlflow, artifacts, done, validate};
use export::{artifacts_at, checked_tag};
use futures::TryStreamExt;
use gristmill_kernel::limits::{BODY_BYTES_MAX, TRACE_BODY_BYTES_MAX, TRACES_NAMED_MAX};
use gristmill_kernel::tracking::ExperimentId;
use gristmill_kernel::tracking::trace::{TraceEnd, TraceId, TraceInfo, TraceState, TracesToDelete, key, moment_of_ms};
use gristmill_kernel::{Code, Fault, Result};
use gristmill_web::{Call, Method, Permission, Response, Route, Routes, StatusCode, header, json, plain};
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// Traces linked to a run in one request.
const LINKS_MAX: usize = 100;
/// Longest name of a trace.
const NAME_CHARS_MAX: usize = 4_096;
/// How often a trace is looked at until all its spans are there, and how long it is waited between.
const LOOKS: usize = 30;
const BETWEEN_LOOKS: Duration = Duration::from_millis(100);
/// Tags that only the server sets.
const OWN_TAGS: [&str; 3] = [key::SPANS_AT, "mlflow.trace.archiveLocation", "mlflow.trace.archivalFailure"];

pub(super) fn routes(m: &Arc<Mlflow>) -> Routes {
    let (get, post, patch, delete) = (&Method::GET, &Method::POST, &Method::PATCH, &Method::DELETE);
    let (see, track) = (Permission::ReadProject, Permission::Track);
    let large = |routes: [Route; 2]| routes.map(|route| route.body_limit(TRACE_BODY_BYTES_MAX));
    let mut routes = [
        large(super::v3(m, post, "/mlflow/traces", track, start)),
        super::v3(m, get, "/mlflow/traces/get", see, get_whole),
        super::v3(m, get, "/mlflow/traces/batchGet", see, get_many),
        super::v3(m, post, "/mlflow/traces/batchGetInfos", see, get_infos),
        super::v3(m, get, "/mlflow/traces/{trace_id}", see, get_info),
        super::v3(m, patch, "/mlflow/traces/{trace_id}/tags", track, set_tag),
        super::v3(m, delete, "/mlflow/traces/{trace_id}/tags", track, delete_tag),
        super::v3(m, post, "/mlflow/traces/delete-traces", track, delete_many),
        super::v3(m, get, "/mlflow/get-trace-artifact", see, artifact),
        super::v2(m, post, "/mlflow/traces", track, begin),
        super::v2(m, patch, "/mlflow/traces/{trace_id}", track, end),
        super::v2(m, get, "/mlflow/traces/{trace_id}/info", see, get_info_v2),
        super::v2(m, patch, "/mlflow/traces/{trace_id}/tags", track, set_tag),
        super::v2(m, delete, "/mlflow/traces/{trace_id}/tags", track, delete_tag),
        super::v2(m, post, "/mlflow/traces/delete-traces", track, delete_many),
        super::v2(m, post, "/mlflow/traces/link-to-run", track, link_to_run),
        super::v2(m, post, "/mlflow/traces/link-prompts", track, link_prompts),
        super::v2(m, get, "/mlflow/get-trace-artifact", see, artifact),
    ]
    .concat();
    routes.extend(find::routes(m));
    routes.extend(metrics::routes(m));
    routes.extend(said::routes(m));
    routes.into()
}

impl Mlflow {
    /// A trace that must be there. A text that is no id names none.
    pub(super) async fn trace(&self, id: &str) -> Result<TraceInfo> {
        let id = known_id(id)?;
        self.traces.traces(std::slice::from_ref(&id), None).await?.pop().ok_or_else(|| no_trace(id.as_str()))
    }

    /// The whole traces of these, with their spans, in their order; those that lack spans are left out.
    async fn whole(&self, infos: Vec<TraceInfo>, partial: bool) -> Result<Vec<Value>> {
        let ids: Vec<TraceId> = infos.iter().map(|info| info.id.clone()).collect();
        let mut spans = self.traces.spans(&ids).await?;
        let mut whole = Vec::new();
        for info in infos {
            let spans = spans.remove(&info.id).unwrap_or_default();
            let complete = !spans.is_empty() && info.spans_expected().is_none_or(|expected| spans.len() >= expected);
            if partial || complete {
                let mut out = json!({ "trace_info": wire::info(&info) });
                if !spans.is_empty() {
                    out["spans"] = spans.iter().map(|span| spans::to_otlp(&info.id, span)).collect();
                }
                whole.push(out);
            }
        }
        Ok(whole)
    }
}

fn no_trace(id: &str) -> Fault {
    unknown(Code::UNKNOWN_TRACE, format!("Trace with ID '{}' not found.", id.escape_debug()))
}

/// The id of a trace that is looked for.
fn known_id(text: &str) -> Result<TraceId> {
    TraceId::new(text).map_err(|_| no_trace(text))
}

/// Ids of traces that are looked for; texts that are no ids name none.
fn known_ids(texts: &[String]) -> Result<Vec<TraceId>> {
    if texts.len() > TRACES_NAMED_MAX {
        return Err(invalid(format!("a request names at most {TRACES_NAMED_MAX} traces, this one names {}", texts.len())));
    }
    Ok(texts.iter().filter_map(|text| TraceId::new(text).ok()).collect())
}

/// Checks the trace's own name.
fn check_name(tags: &BTreeMap<String, String>) -> Result<()> {
    tags.get(key::NAME).map_or(Ok(()), |name| validate::within("Trace name", NAME_CHARS_MAX, name))
}

#[derive(Deserialize)]
struct StartAsk {
    trace: TraceAsk,
}
#[derive(Deserialize)]
struct TraceAsk {
    trace_info: wire::InfoAsk,
}
impl Ask for StartAsk {
    const FIELDS: &'static [Field] = &[Field::new("trace", Is::Object(&[Field::new("trace_info", Is::Object(&[])).required()])).required()];
}

/// Tells of a whole trace. It is called when the trace ends, whatever its name says.
async fn start(m: Arc<Mlflow>, call: Call) -> Result<Response> {
    let ask = read::<StartAsk>(call).await?.trace.trace_info;
    check_name(ask.tags.as_ref().unwrap_or(&BTreeMap::new()))?;
    let experiment = m.active_experiment(validate::experiment_id(ask.experiment())?).await?;
    let mut info = ask.taken(m.now())?;
    info.tags.insert(key::ARTIFACTS_AT.into(), artifacts_at(&experiment.artifact_location, &info.id));
    info.metadata.insert(key::SETTLED.into(), "true".into());
    let info = m.traces.put_trace(info).await?;
    json(&json!({ "trace": { "trace_info": wire::info(&info) } }))
}

async fn get_info(m: Arc<Mlflow>, call: Call) -> Result<Response> {
    let info = m.trace(call.param("trace_id")?).await?;
    json(&json!({ "trace": { "trace_info": wire::info(&info) } }))
}

#[derive(Deserialize)]
struct GetAsk {
    trace_id: String,
    allow_partial: Option<bool>,
}
impl Ask for GetAsk {
    const FIELDS: &'static [Field] = &[Field::text("trace_id").required(), Field::new("allow_partial", Is::Flag)];
}

/// A whole trace. Clients send spans and the trace side by side, so the last spans may still be on their way.
async fn get_whole(m: Arc<Mlflow>, call: Call) -> Result<Response> {
    let ask: GetAsk = read(call).await?;
    let partial = ask.allow_partial.unwrap_or(false);
    for look in 0..LOOKS {
        let info = m.trace(&ask.trace_id).await?;
        let in_store = info.tags.get(key::SPANS_AT).is_some_and(|place| place == key::IN_STORE);
        if let Some(trace) = m.whole(vec![info], partial).await?.pop() {
            return json(&json!({ "trace": trace }));
        }
        // Without spans of its own nothing will come: the client has them as an artifact.
        if !in_store {
            break;
        }
        if look + 1 < LOOKS {
            tokio::time::sleep(BETWEEN_LOOKS).await;
        }
    }
    let message = format!("Trace with ID {} is not fully exported yet, please try again later.", ask.trace_id);
    Err(unknown(Code::UNKNOWN_TRACE, message))
}

#[derive(Deserialize)]
struct ManyAsk {
    trace_ids: Vec<String>,
    experiment_ids: Option<Vec<String>>,
}
impl Ask for ManyAsk {
    const FIELDS: &'static [Field] = &[Field::new("trace_ids", Is::Texts).required(), Field::new("experiment_ids", Is::Texts)];
}

impl ManyAsk {
    async fn infos(self, m: &Mlflow) -> Result<Vec<TraceInfo>> {
        let ids = known_ids(&self.trace_ids)?;
        let experiments = self.experiment_ids.map(|ids| ids.iter().map(|id| validate::experiment_id(id)).collect::<Result<Vec<_>>>());
        m.traces.traces(&ids, experiments.transpose()?.as_deref()).await
    }
}

async fn get_many(m: Arc<Mlflow>, call: Call) -> Result<Response> {
    let infos = read::<ManyAsk>(call).await?.infos(&m).await?;
    let traces = m.whole(infos, false).await?;
    json(&listed("traces", traces))
}

async fn get_infos(m: Arc<Mlflow>, call: Call) -> Result<Response> {
    let infos = read::<ManyAsk>(call).await?.infos(&m).await?;
    json(&listed("trace_infos", infos.iter().map(wire::info).collect()))
}

/// A list under a name; an empty one is left out.
fn listed(name: &str, items: Vec<Value>) -> Value {
    if items.is_empty() { json!({}) } else { json!({ name: items }) }
}

#[derive(Deserialize)]
struct TagAsk {
    key: String,
    value: Option<String>,
}
impl Ask for TagAsk {
    const FIELDS: &'static [Field] = &[Field::text("key").required(), Field::text("value")];
}

fn check_not_own(key: &str, what: &str, allowed: &[&str]) -> Result<()> {
    if OWN_TAGS.contains(&key) && !allowed.contains(&key) {
        return Err(invalid(format!("Tag '{key}' is immutable and cannot be {what} on a trace.")));
    }
    Ok(())
}

async fn set_tag(m: Arc<Mlflow>, call: Call) -> Result<Response> {
    let id = known_id(call.param("trace_id")?)?;
    let ask: TagAsk = read(call).await?;
    check_not_own(&ask.key, "set", &[])?;
    let value = checked_tag(&ask.key, ask.value.unwrap_or_default())?;
    check_name(&[(ask.key.clone(), value.clone())].into())?;
    m.traces.set_trace_tag(&id, &ask.key, Some(&value)).await?;
    done()
}

async fn delete_tag(m: Arc<Mlflow>, call: Call) -> Result<Response> {
    let id = known_id(call.param("trace_id")?)?;
    let ask: TagAsk = read(call).await?;
    check_not_own(&ask.key, "deleted", &OWN_TAGS[2..])?;
    m.traces.set_trace_tag(&id, &ask.key, None).await?;
    done()
}

#[derive(Deserialize)]
struct DeleteAsk {
    experiment_id: String,
    max_timestamp_millis: Option<Int>,
    max_traces: Option<Int>,
    request_ids: Option<Vec<String>>,
}
impl Ask for DeleteAsk {
    const FIELDS: &'static [Field] = &[
        Field::text("experiment_id").required(),
        Field::new("max_timestamp_millis", Is::Int),
        Field::new("max_traces", Is::Int),
        Field::new("request_ids", Is::Texts),
    ];
}

async fn delete_many(m: Arc<Mlflow>, call: Call) -> Result<Response> {
    let actor = call.caller().actor.clone();
    let ask: DeleteAsk = read(call).await?;
    let named = ask.request_ids.unwrap_or_default();
    match (&ask.max_timestamp_millis, named.is_empty(), &ask.max_traces) {
        (None, true, _) => return Err(invalid("Either `max_timestamp_millis` or `trace_ids` must be specified.")),
        (Some(_), false, _) => return Err(invalid("Only one of `max_timestamp_millis` and `trace_ids` can be specified.")),
        (_, false, Some(_)) => return Err(invalid("`max_traces` can't be specified if `trace_ids` is specified.")),
        (_, _, Some(Int(most))) if *most <= 0 => {
            return Err(invalid(format!("`max_traces` must be a positive integer, received {most}.")));
        }
        _ => {}
    }
    let ids = known_ids(&named)?;
    if ids.is_empty() && !named.is_empty() {
        return json(&json!({ "traces_deleted": 0 }));
    }
    let which = TracesToDelete {
        experiment: validate::experiment_id(&ask.experiment_id)?,
        ids,
        until: ask.max_timestamp_millis.map(|Int(ms)| moment_of_ms(ms)),
        at_most: ask.max_traces.and_then(|Int(most)| usize::try_from(most).ok()),
    };
    let gone = m.traces.delete_traces(&which, &actor, m.now()).await?;
    json(&json!({ "traces_deleted": gone }))
}

#[derive(Deserialize)]
struct LinkAsk {
    trace_ids: Vec<String>,
    run_id: String,
}
impl Ask for LinkAsk {
    const FIELDS: &'static [Field] = &[Field::new("trace_ids", Is::Texts).required(), Field::text("run_id").required()];
}

async fn link_to_run(m: Arc<Mlflow>, call: Call) -> Result<Response> {
    let ask: LinkAsk = read(call).await?;
    if ask.trace_ids.len() > LINKS_MAX {
        return Err(invalid(format!(
            "Cannot link more than {LINKS_MAX} traces to a run in a single request. Provided {} traces.",
            ask.trace_ids.len()
        )));
    }
    let run = gristmill_kernel::RunId(ask.run_id);
    if m.tracking.tracked_run(&run).await?.is_none() {
        return Err(unknown(Code::UNKNOWN_RUN, format!("Run with id={run} not found")));
    }
    m.traces.link_traces(&known_ids(&ask.trace_ids)?, &run).await?;
    done()
}

#[derive(Deserialize)]
struct PromptsAsk {
    trace_id: String,
    prompt_versions: Vec<PromptAsk>,
}
#[derive(Deserialize)]
struct PromptAsk {
    name: String,
    version: String,
}
impl Ask for PromptsAsk {
    const FIELDS: &'static [Field] = &[
        Field::text("trace_id").required(),
        Field::new("prompt_versions", Is::Items(&[Field::text("name").required(), Field::text("version").required()])).required(),
    ];
}

async fn link_prompts(m: Arc<Mlflow>, call: Call) -> Result<Response> {
    let ask: PromptsAsk = read(call).await?;
    let prompts: Vec<String> = ask.prompt_versions.iter().map(|prompt| format!("{}/{}", prompt.name, prompt.version)).collect();
    if prompts.len() > LINKS_MAX {
        return Err(invalid(format!("a request links at most {LINKS_MAX} prompts")));
    }
    m.traces.link_prompts(&known_id(&ask.trace_id)?, &prompts).await?;
    done()
}

#[derive(Deserialize)]
struct BeginAsk {
    experiment_id: Option<String>,
    timestamp_ms: Option<Int>,
    request_metadata: Option<Vec<PairAsk>>,
    tags: Option<Vec<PairAsk>>,
}
impl Ask for BeginAsk {
    const FIELDS: &'static [Field] = &[
        Field::text("experiment_id"),
        Field::new("timestamp_ms", Is::Int),
        Field::new("request_metadata", Is::Items(PAIR)),
        Field::new("tags", Is::Items(PAIR)),
    ];
}

fn taken(pairs: Option<Vec<PairAsk>>) -> BTreeMap<String, String> {
    pairs.unwrap_or_default().into_iter().map(PairAsk::taken).collect()
}

/// Begins a trace for a 2.x client, which learns its id from the answer.
async fn begin(m: Arc<Mlflow>, call: Call) -> Result<Response> {
    let ask: BeginAsk = read(call).await?;
    let experiment = m.active_experiment(validate::experiment_id(ask.experiment_id.as_deref().unwrap_or_default())?).await?;
    let mut bytes = [0; 16];
    m.ports.ids.random(&mut bytes);
    let id = TraceId::new(&hex::encode(bytes))?;
    let mut tags = taken(ask.tags);
    check_name(&tags)?;
    tags.insert(key::ARTIFACTS_AT.into(), artifacts_at(&experiment.artifact_location, &id));
    let info = TraceInfo {
        id,
        experiment: experiment.id,
        requested_at: ask.timestamp_ms.map_or_else(|| m.now(), |Int(ms)| moment_of_ms(ms)),
        took_ms: None,
        state: TraceState::InProgress,
        client_request: None,
        request_preview: None,
        response_preview: None,
        metadata: taken(ask.request_metadata),
        tags,
        assessments: Vec::new(),
    };
    let info = m.traces.put_trace(info).await?;
    json(&json!({ "trace_info": wire::info_v2(&info) }))
}

#[derive(Deserialize)]
struct EndAsk {
    timestamp_ms: Option<Int>,
    status: Option<super::request::EnumWord>,
    request_metadata: Option<Vec<PairAsk>>,
    tags: Option<Vec<PairAsk>>,
}
impl Ask for EndAsk {
    const FIELDS: &'static [Field] = &[
        Field::new("timestamp_ms", Is::Int),
        Field::new("status", Is::Word),
        Field::new("request_metadata", Is::Items(PAIR)),
        Field::new("tags", Is::Items(PAIR)),
    ];
}

async fn end(m: Arc<Mlflow>, call: Call) -> Result<Response> {
    let id = known_id(call.param("trace_id")?)?;
    let ask: EndAsk = read(call).await?;
    let tags = taken(ask.tags);
    check_name(&tags)?;
    let end = TraceEnd {
        at: ask.timestamp_ms.map_or_else(|| m.now(), |Int(ms)| moment_of_ms(ms)),
        state: wire::state(ask.status.as_ref())?,
        metadata: taken(ask.request_metadata),
        tags,
    };
    let info = m.traces.end_trace(&id, end).await?;
    json(&json!({ "trace_info": wire::info_v2(&info) }))
}

async fn get_info_v2(m: Arc<Mlflow>, call: Call) -> Result<Response> {
    let info = m.trace(call.param("trace_id")?).await?;
    json(&json!({ "trace_info": wire::info_v2(&info) }))
}

#[derive(Deserialize)]
struct ArtifactAsk {
    request_id: Option<String>,
    path: Option<String>,
}
impl Ask for ArtifactAsk {
    const FIELDS: &'static [Field] = &[Field::text("request_id"), Field::text("path")];
}

/// The spans of a trace as the file that clients know, or another file that was uploaded with it.
async fn artifact(m: Arc<Mlflow>, call: Call) -> Result<Response> {
    let ask: ArtifactAsk = read(call).await?;
    let info = m.trace(&needed(ask.request_id, "request_id")?).await?;
    let name = match ask.path.filter(|path| !path.is_empty()) {
        Some(path) => format!("attachments/{path}"),
        None => {
            let spans = m.traces.spans(std::slice::from_ref(&info.id)).await?.remove(&info.id).unwrap_or_default();
            if !spans.is_empty() || info.tags.get(key::SPANS_AT).is_some_and(|place| place == key::IN_STORE) {
                return download("traces.json", serde_json::to_vec(&spans::File { trace: &info.id, spans: &spans }));
            }
            "traces.json".to_owned()
        }
    };
    let location = info.tags.get(key::ARTIFACTS_AT).map_or("", String::as_str);
    let missing = || unknown(Code::UNKNOWN_ARTIFACT, format!("Trace data not found for request_id={}", info.id));
    let key = artifacts::key::below(&artifacts::location::kept(location)?, Some(&name))?;
    let stored = m.artifacts.artifact(&key).await?.ok_or_else(missing)?;
    if stored.bytes > TRACE_BODY_BYTES_MAX.max(BODY_BYTES_MAX) as u64 {
        return Err(invalid(format!("the artifact {} has {} bytes; fetch it through mlflow-artifacts", key.as_str(), stored.bytes)));
    }
    let parts: Vec<bytes::Bytes> = m.artifacts.read_artifact(&stored.digest, 0..stored.bytes).await?.try_collect().await?;
    download(name.rsplit('/').next().unwrap_or("file"), Ok(parts.concat()))
}

/// A file that browsers keep instead of showing it.
fn download(name: &str, content: serde_json::Result<Vec<u8>>) -> Result<Response> {
    let content = content.map_err(|e| Fault::internal("spans do not serialise").because(e))?;
    let mut response = plain(StatusCode::OK, "application/octet-stream", content);
    let safe: String = name.chars().filter(|c| c.is_ascii_alphanumeric() || "._-".contains(*c)).collect();
    let disposition = format!("attachment; filename={safe}");
    if let Ok(value) = disposition.parse() {
        response.headers_mut().insert(header::CONTENT_DISPOSITION, value);
    }
    Ok(response)
}

/// Where the spans of an experiment's traces go, for [`super::otlp`].
pub(super) async fn place(m: &Mlflow, experiment: &str) -> Result<(ExperimentId, String)> {
    let experiment = m.active_experiment(validate::experiment_id(experiment)?).await?;
    Ok((experiment.id, experiment.artifact_location))
}
