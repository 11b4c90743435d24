//! Spans as exporters send them, before they are ours: what both of OpenTelemetry's encodings are read into, and what is made of it.

use super::any::{Any, pairs_of_otlp};
use super::preview::{REQUEST, RESPONSE, preview};
use super::spans::trace_id_of;
use crate::protocol::mlflow::error::invalid;
use crate::protocol::mlflow::validate;
use gristmill_kernel::limits::{SPAN_ITEMS_MAX, TRACE_SPANS_MAX};
use gristmill_kernel::tracking::ExperimentId;
use gristmill_kernel::tracking::trace::{Attributes, Span, SpanBatch, SpanEvent, SpanLink, SpanStatus, TraceId, key};
use gristmill_kernel::{Fault, Result};
use serde_json::Value;
use std::collections::{BTreeMap, HashMap};

/// Attribute that names the trace for MLflow's clients.
const REQUEST_ID: &str = "mlflow.traceRequestId";
/// Attributes of a root that are tags of the trace begin with this.
const TRACE_TAG: &str = "mlflow.traceTag.";
/// Attributes that name the session, the first one found.
const SESSIONS: [&str; 2] = ["session.id", "gen_ai.conversation.id"];
/// Attribute that names the user.
const USER: &str = "user.id";
/// Longest value of a trace's tag; what is longer is cut.
pub(crate) const TAG_CHARS_MAX: usize = 8_000;
/// Longest id of a session.
const SESSION_CHARS_MAX: usize = 250;

/// Spans of one resource: a process that is observed.
#[derive(Debug, Default)]
pub(crate) struct Sent {
    /// What is known of the process.
    pub resource: Vec<(String, Any)>,
    /// Its spans.
    pub spans: Vec<SentSpan>,
}

/// A span and the trace it belongs to.
#[derive(Debug)]
pub(crate) struct SentSpan {
    /// The trace: `tr-` and 32 hex digits.
    pub trace: String,
    /// The span.
    pub span: Span,
}

impl SentSpan {
    /// Names a span by the bytes of its ids.
    pub(crate) fn new(trace: &[u8], id: &[u8], parent: &[u8], mut span: Span) -> Result<SentSpan> {
        let wrong = |what: &str, wanted: usize, given: usize| {
            Err(invalid(format!("Cannot convert OpenTelemetry span to MLflow span: {what} has {given} bytes, not {wanted}")))
        };
        let Ok(trace) = <[u8; 16]>::try_from(trace) else { return wrong("trace_id", 16, trace.len()) };
        if id.len() != 8 {
            return wrong("span_id", 8, id.len());
        }
        if !matches!(parent.len(), 0 | 8) {
            return wrong("parent_span_id", 8, parent.len());
        }
        span.id = hex::encode(id);
        // A parent of zeros is none.
        span.parent = Some(parent).filter(|p| p.iter().any(|byte| *byte != 0)).map(hex::encode);
        let trace = trace_id_of(trace);
        let named = Any::Text(trace.clone()).to_json();
        match span.attributes.iter_mut().find(|(key, _)| key == REQUEST_ID) {
            Some((_, value)) => *value = named,
            None => span.attributes.push((REQUEST_ID.into(), named)),
        }
        Ok(SentSpan { trace, span })
    }
}

/// Counts what a request holds while it is read.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    spans: usize,
    items: usize,
}

impl Tally {
    /// One span more.
    pub(crate) fn span(&mut self) -> Result<()> {
        (self.spans, self.items) = (self.spans + 1, 0);
        if self.spans > TRACE_SPANS_MAX {
            return Err(invalid(format!("a request holds more than {TRACE_SPANS_MAX} spans")).fix("send them in several requests"));
        }
        Ok(())
    }
    /// One attribute, event, link or value of the span more.
    pub(crate) fn item(&mut self) -> Result<()> {
        self.items += 1;
        if self.items > SPAN_ITEMS_MAX {
            return Err(invalid(format!("a span holds more than {SPAN_ITEMS_MAX} values")));
        }
        Ok(())
    }
}

/// Reads a request in OpenTelemetry's JSON: ids in hex digits, 64-bit numbers as texts or numbers.
pub(crate) fn of_json(request: &Value) -> Result<Vec<Sent>> {
    let mut tally = Tally::default();
    let mut sent = Vec::new();
    for block in list(request, "resourceSpans", "resource_spans") {
        let mut spans = Vec::new();
        for scope in list(block, "scopeSpans", "scope_spans") {
            for span in list(scope, "spans", "spans") {
                tally.span()?;
                spans.push(span_of_json(span)?);
            }
        }
        sent.push(Sent { resource: pairs_of_otlp(block.get("resource").and_then(|r| r.get("attributes"))), spans });
    }
    Ok(sent)
}

fn list<'a>(value: &'a Value, camel: &str, snake: &str) -> impl Iterator<Item = &'a Value> {
    value.get(camel).or_else(|| value.get(snake)).and_then(Value::as_array).into_iter().flatten()
}

fn span_of_json(span: &Value) -> Result<SentSpan> {
    let named = |camel: &str, snake: &str| span.get(camel).or_else(|| span.get(snake));
    let id = |camel: &str, snake: &str| bytes_of_hex(named(camel, snake));
    let status = span.get("status");
    let code = status.and_then(|status| status.get("code"));
    let event = |event: &Value| {
        Ok(SpanEvent {
            name: text(event.get("name")),
            at_ns: nanos(event.get("timeUnixNano").or_else(|| event.get("time_unix_nano")))?,
            attributes: attributes(event),
        })
    };
    let link = |link: &Value| {
        let trace = bytes_of_hex(link.get("traceId").or_else(|| link.get("trace_id"))).ok().filter(|bytes| bytes.len() == 16)?;
        let span = bytes_of_hex(link.get("spanId").or_else(|| link.get("span_id"))).ok().filter(|bytes| bytes.len() == 8)?;
        Some(SpanLink { trace: hex::encode(trace), span: hex::encode(span), attributes: attributes(link) })
    };
    let read = Span {
        id: String::new(),
        parent: None,
        name: text(span.get("name")),
        started_ns: nanos(named("startTimeUnixNano", "start_time_unix_nano"))?,
        ended_ns: Some(nanos(named("endTimeUnixNano", "end_time_unix_nano"))?).filter(|ns| *ns != 0),
        status: match code {
            Some(Value::String(word)) if word == "STATUS_CODE_OK" => SpanStatus::Ok,
            Some(Value::String(word)) if word == "STATUS_CODE_ERROR" => SpanStatus::Error,
            Some(Value::Number(number)) if number.as_u64() == Some(1) => SpanStatus::Ok,
            Some(Value::Number(number)) if number.as_u64() == Some(2) => SpanStatus::Error,
            _ => SpanStatus::Unset,
        },
        status_message: Some(text(status.and_then(|status| status.get("message")))).filter(|message| !message.is_empty()),
        attributes: attributes(span),
        events: list(span, "events", "events").map(event).collect::<Result<_>>()?,
        links: list(span, "links", "links").filter_map(link).collect(),
    };
    SentSpan::new(&id("traceId", "trace_id")?, &id("spanId", "span_id")?, &id("parentSpanId", "parent_span_id")?, read)
}

fn text(value: Option<&Value>) -> String {
    value.and_then(Value::as_str).unwrap_or_default().to_owned()
}

fn attributes(of: &Value) -> Attributes {
    pairs_of_otlp(of.get("attributes")).into_iter().map(|(key, value)| (key, value.to_json())).collect()
}

fn bytes_of_hex(value: Option<&Value>) -> Result<Vec<u8>> {
    hex::decode(value.and_then(Value::as_str).unwrap_or_default()).map_err(|_| invalid("Invalid OpenTelemetry format"))
}

fn nanos(value: Option<&Value>) -> Result<i64> {
    let read = match value {
        None | Some(Value::Null) => Some(0),
        Some(Value::String(text)) => text.parse().ok(),
        Some(value) => value.as_i64(),
    };
    read.ok_or_else(|| invalid("Invalid OpenTelemetry format"))
}

/// What the spans say about their traces: one batch per trace. `artifacts` is where the artifacts of the experiment begin.
pub(crate) fn batches(sent: Vec<Sent>, experiment: ExperimentId, artifacts: &str) -> Result<Vec<SpanBatch>> {
    let mut batches: Vec<SpanBatch> = Vec::new();
    let mut at: HashMap<String, usize> = HashMap::new();
    for Sent { resource, spans } in sent {
        let tags = resource_tags(resource);
        for SentSpan { trace, span } in spans {
            let batch = match at.get(&trace) {
                Some(batch) => &mut batches[*batch],
                None => {
                    at.insert(trace.clone(), batches.len());
                    batches.push(new_batch(&trace, experiment, artifacts)?);
                    let last = batches.len() - 1;
                    &mut batches[last]
                }
            };
            // The first process that says something about itself speaks for the trace.
            if batch.tags.is_empty() {
                batch.tags.clone_from(&tags);
            }
            batch.spans.push(span);
        }
    }
    batches.iter_mut().try_for_each(describe)?;
    Ok(batches)
}

fn new_batch(trace: &str, experiment: ExperimentId, artifacts: &str) -> Result<SpanBatch> {
    let trace = TraceId::new(trace)?;
    Ok(SpanBatch {
        first_tags: [(key::ARTIFACTS_AT.to_owned(), artifacts_at(artifacts, &trace))].into(),
        trace,
        experiment,
        tags: BTreeMap::new(),
        metadata: BTreeMap::new(),
        request_preview: None,
        response_preview: None,
        spans: Vec::new(),
    })
}

/// Where the artifacts of a trace go.
pub(crate) fn artifacts_at(experiment: &str, trace: &TraceId) -> String {
    format!("{}/traces/{trace}/artifacts", experiment.trim_end_matches('/'))
}

/// What is known of a process becomes tags, but never one of MLflow's own.
fn resource_tags(resource: Vec<(String, Any)>) -> BTreeMap<String, String> {
    let ours = |key: &str| key.starts_with("telemetry.sdk.") || key.starts_with("mlflow.");
    let kept = resource.into_iter().filter(|(key, _)| !ours(key));
    let tag = |(key, value): (String, Any)| {
        let value = match value {
            Any::Text(text) => text,
            other => other.to_json(),
        };
        checked_tag(&key, value).ok().map(|value| (key, value))
    };
    kept.filter_map(tag).collect()
}

/// The value of a trace's tag, cut to its limit. A name that cannot be one is refused.
pub(crate) fn checked_tag(name: &str, value: String) -> Result<String, Fault> {
    validate::key(name, "key")?;
    validate::within("key", validate::KEY_CHARS_MAX, name)?;
    Ok(validate::cut(value, TAG_CHARS_MAX))
}

/// Reads session, user, tags and previews from the attributes of the spans.
fn describe(batch: &mut SpanBatch) -> Result<()> {
    for span in &batch.spans {
        let text = |name: &str| span.attribute(name).map(plain).filter(|text| !text.is_empty());
        if let Some(session) = SESSIONS.iter().find_map(|name| text(name)) {
            validate::within("Session ID", SESSION_CHARS_MAX, &session)?;
            batch.metadata.entry(key::SESSION.into()).or_insert(session);
        }
        if let Some(user) = text(USER) {
            batch.metadata.entry(key::USER.into()).or_insert(user);
        }
        if span.parent.is_some() {
            continue;
        }
        for (name, json) in &span.attributes {
            if let Some(name) = name.strip_prefix(TRACE_TAG)
                && let Ok(value) = checked_tag(name, plain(json))
            {
                batch.tags.insert(name.to_owned(), value);
            }
        }
        batch.request_preview = span.attribute(REQUEST).map(|json| preview(json, "user")).or(batch.request_preview.take());
        batch.response_preview = span.attribute(RESPONSE).map(|json| preview(json, "assistant")).or(batch.response_preview.take());
    }
    Ok(())
}

/// A text is itself, anything else its JSON.
fn plain(json: &str) -> String {
    match Any::of_json(json) {
        Any::Text(text) => text,
        _ => json.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn request() -> Value {
        json!({"resourceSpans": [{
            "resource": {"attributes": [
                {"key": "service.name", "value": {"stringValue": "shop"}},
                {"key": "telemetry.sdk.name", "value": {"stringValue": "x"}},
                {"key": "mlflow.trace.spansLocation", "value": {"stringValue": "elsewhere"}},
                {"key": "cores", "value": {"intValue": "2"}}
            ]},
            "scopeSpans": [{"spans": [
                {
                    "traceId": "0123456789abcdef0123456789abcdef", "spanId": "00000000000000aa", "parentSpanId": "",
                    "name": "root", "startTimeUnixNano": "1700000000000000001", "endTimeUnixNano": 1_700_000_000_500_000_002_i64,
                    "status": {"code": 2, "message": "boom"},
                    "attributes": [
                        {"key": "mlflow.spanInputs", "value": {"kvlistValue": {"values": [{"key": "q", "value": {"stringValue": "hi"}}]}}},
                        {"key": "mlflow.traceTag.team", "value": {"stringValue": "blue"}},
                        {"key": "mlflow.traceRequestId", "value": {"stringValue": "tr-forged"}},
                        {"key": "session.id", "value": {"stringValue": "s1"}},
                        {"key": "user.id", "value": {"intValue": 7}}
                    ],
                    "events": [{"name": "e", "timeUnixNano": "5"}]
                },
                {
                    "traceId": "ffffffffffffffffffffffffffffffff", "spanId": "00000000000000bb", "parentSpanId": "00000000000000cc",
                    "name": "child", "startTimeUnixNano": "1", "status": {}
                }
            ]}]
        }]})
    }

    #[test]
    fn batches_tell_what_spans_say() {
        let sent = of_json(&request()).expect("a request");
        let batches = batches(sent, ExperimentId(3), "mlflow-artifacts:/3").expect("batches");
        assert_eq!(batches.len(), 2);
        let first = &batches[0];
        assert_eq!(first.trace.as_str(), "tr-0123456789abcdef0123456789abcdef");
        let place = "mlflow-artifacts:/3/traces/tr-0123456789abcdef0123456789abcdef/artifacts";
        assert_eq!(first.first_tags[key::ARTIFACTS_AT], place);
        let tags: Vec<(&str, &str)> = first.tags.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        assert_eq!(tags, [("cores", "2"), ("service.name", "shop"), ("team", "blue")]);
        assert_eq!((first.metadata[key::SESSION].as_str(), first.metadata[key::USER].as_str()), ("s1", "7"));
        assert_eq!(first.request_preview.as_deref(), Some(r#"{"q": "hi"}"#));
        let root = &first.spans[0];
        assert_eq!((root.parent.as_deref(), root.status, root.status_message.as_deref()), (None, SpanStatus::Error, Some("boom")));
        assert_eq!(root.attribute(REQUEST_ID), Some("\"tr-0123456789abcdef0123456789abcdef\""), "a client's word for it is not taken");
        assert_eq!((root.events.len(), root.ended_ns), (1, Some(1_700_000_000_500_000_002)));
        assert_eq!((batches[1].spans[0].parent.as_deref(), batches[1].spans[0].ended_ns), (Some("00000000000000cc"), None));
    }

    #[test]
    fn ids_that_are_none_are_refused() {
        for (name, value) in [("traceId", ""), ("traceId", "00ff"), ("spanId", ""), ("spanId", "zz"), ("parentSpanId", "00")] {
            let mut request = request();
            request["resourceSpans"][0]["scopeSpans"][0]["spans"][0][name] = value.into();
            assert!(of_json(&request).is_err(), "{name} = {value}");
        }
        for odd in [json!(null), json!([]), json!({"resourceSpans": 5}), json!({"resourceSpans": [5, {"scopeSpans": [{"spans": "x"}]}]})] {
            assert!(of_json(&odd).expect("nothing").iter().all(|sent| sent.spans.is_empty()));
        }
    }
}
