//! Spans as clients get them: in OpenTelemetry's JSON, and in the file `traces.json` that clients keep as an artifact.

use super::any::{Any, pair};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use gristmill_kernel::Digest;
use gristmill_kernel::tracking::trace::{Attributes, Span, SpanLink, SpanStatus, TraceId};
use serde::ser::{Serialize, SerializeMap, Serializer};
use serde_json::{Map, Value, json};

/// What is before the 32 hex digits of OpenTelemetry in the id of a trace.
pub(crate) const PREFIX: &str = "tr-";

/// The id of the trace that OpenTelemetry knows by these bytes.
pub(crate) fn trace_id_of(bytes: [u8; 16]) -> String {
    format!("{PREFIX}{}", hex::encode(bytes))
}

/// The 16 bytes of a trace. An id that somebody else invented has those of its digest.
fn bytes_of(trace: &TraceId) -> [u8; 16] {
    let digits = trace.as_str().strip_prefix(PREFIX).unwrap_or(trace.as_str());
    let mut bytes = [0; 16];
    if hex::decode_to_slice(digits, &mut bytes).is_err() {
        bytes.copy_from_slice(&Digest::of(trace.as_str()).bytes()[..16]);
    }
    bytes
}

/// Hex digits as base64; what is no hex is no bytes.
fn base64_of_hex(digits: &str) -> String {
    STANDARD.encode(hex::decode(digits).unwrap_or_default())
}

/// OpenTelemetry's JSON: `Span` of protocol buffers, with what is unset left out.
pub(crate) fn to_otlp(trace: &TraceId, span: &Span) -> Value {
    let mut out = Map::new();
    let mut put = |name: &str, value: Value| drop(out.insert(name.to_owned(), value));
    put("trace_id", STANDARD.encode(bytes_of(trace)).into());
    put("span_id", base64_of_hex(&span.id).into());
    if let Some(parent) = &span.parent {
        put("parent_span_id", base64_of_hex(parent).into());
    }
    if !span.name.is_empty() {
        put("name", span.name.as_str().into());
    }
    put("start_time_unix_nano", span.started_ns.into());
    if let Some(ended) = span.ended_ns {
        put("end_time_unix_nano", ended.into());
    }
    let mut status = Map::new();
    if span.status != SpanStatus::Unset {
        status.insert("code".into(), code(span.status).into());
    }
    if let Some(message) = span.status_message.as_ref().filter(|message| !message.is_empty()) {
        status.insert("message".into(), message.as_str().into());
    }
    put("status", status.into());
    if !span.attributes.is_empty() {
        put("attributes", pairs(&span.attributes));
    }
    if !span.events.is_empty() {
        let event = |event: &gristmill_kernel::tracking::trace::SpanEvent| {
            let mut out = json!({ "name": event.name, "time_unix_nano": event.at_ns });
            if !event.attributes.is_empty() {
                out["attributes"] = pairs(&event.attributes);
            }
            out
        };
        put("events", span.events.iter().map(event).collect());
    }
    if !span.links.is_empty() {
        let link = |link: &SpanLink| {
            let mut out = json!({ "trace_id": base64_of_hex(&link.trace), "span_id": base64_of_hex(&link.span) });
            if !link.attributes.is_empty() {
                out["attributes"] = pairs(&link.attributes);
            }
            out
        };
        put("links", span.links.iter().map(link).collect());
    }
    Value::Object(out)
}

fn pairs(attributes: &Attributes) -> Value {
    attributes.iter().map(|(key, json)| pair(key, &Any::of_json(json))).collect()
}

fn code(status: SpanStatus) -> &'static str {
    match status {
        SpanStatus::Unset => "STATUS_CODE_UNSET",
        SpanStatus::Ok => "STATUS_CODE_OK",
        SpanStatus::Error => "STATUS_CODE_ERROR",
    }
}

/// The file `traces.json`: spans with their attributes as JSON texts.
pub(crate) struct File<'a> {
    /// The trace.
    pub trace: &'a TraceId,
    /// Its spans.
    pub spans: &'a [Span],
}

impl Serialize for File<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(1))?;
        let spans: Vec<InFile<'_>> = self.spans.iter().map(|span| InFile { trace: self.trace, span }).collect();
        map.serialize_entry("spans", &spans)?;
        map.end()
    }
}

struct InFile<'a> {
    trace: &'a TraceId,
    span: &'a Span,
}

impl Serialize for InFile<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let span = self.span;
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("trace_id", &STANDARD.encode(bytes_of(self.trace)))?;
        map.serialize_entry("span_id", &base64_of_hex(&span.id))?;
        map.serialize_entry("parent_span_id", &span.parent.as_deref().map(base64_of_hex))?;
        map.serialize_entry("name", &span.name)?;
        map.serialize_entry("start_time_unix_nano", &span.started_ns)?;
        map.serialize_entry("end_time_unix_nano", &span.ended_ns)?;
        let events: Vec<Value> = span
            .events
            .iter()
            .map(|event| json!({ "name": event.name, "time_unix_nano": event.at_ns, "attributes": plain(&event.attributes) }))
            .collect();
        map.serialize_entry("events", &events)?;
        map.serialize_entry("status", &json!({ "code": code(span.status), "message": span.status_message.as_deref().unwrap_or("") }))?;
        map.serialize_entry("attributes", &Texts(&span.attributes))?;
        let link = |link: &SpanLink| json!({ "trace_id": format!("{PREFIX}{}", link.trace), "span_id": link.span, "attributes": plain(&link.attributes) });
        map.serialize_entry("links", &span.links.iter().map(link).collect::<Vec<_>>())?;
        map.end()
    }
}

/// Attributes as plain values.
fn plain(attributes: &Attributes) -> Map<String, Value> {
    let value = |json: &str| serde_json::from_str(json).unwrap_or_else(|_| Value::from(json));
    attributes.iter().map(|(key, json)| (key.clone(), value(json))).collect()
}

/// Attributes as JSON texts, in their order.
struct Texts<'a>(&'a Attributes);

impl Serialize for Texts<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(key, json)| (key, json)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use gristmill_kernel::tracking::trace::SpanEvent;

    fn span() -> Span {
        Span {
            id: "00000000000000ff".into(),
            parent: None,
            name: "predict".into(),
            started_ns: 1_700_000_000_000_000_001,
            ended_ns: Some(1_700_000_000_000_000_002),
            status: SpanStatus::Error,
            status_message: Some("boom".into()),
            attributes: vec![("z".into(), r#"{"b": 1, "a": 2.0}"#.into()), ("a".into(), "null".into())],
            events: vec![SpanEvent { name: "e".into(), at_ns: 5, attributes: vec![("k".into(), "\"v\"".into())] }],
            links: vec![SpanLink { trace: "ab".repeat(16), span: "cd".repeat(8), attributes: vec![] }],
        }
    }

    #[test]
    fn a_span_in_opentelemetrys_json() {
        let trace = TraceId::new("tr-000000000000000000000000000000ff").expect("an id");
        let wanted = json!({
            "trace_id": "AAAAAAAAAAAAAAAAAAAA/w==", "span_id": "AAAAAAAAAP8=", "name": "predict",
            "start_time_unix_nano": 1_700_000_000_000_000_001_i64, "end_time_unix_nano": 1_700_000_000_000_000_002_i64,
            "status": {"code": "STATUS_CODE_ERROR", "message": "boom"},
            "attributes": [
                {"key": "z", "value": {"kvlist_value": {"values": [
                    {"key": "b", "value": {"int_value": 1}}, {"key": "a", "value": {"double_value": 2.0}}
                ]}}},
                {"key": "a"}
            ],
            "events": [{"name": "e", "time_unix_nano": 5, "attributes": [{"key": "k", "value": {"string_value": "v"}}]}],
            "links": [{"trace_id": "q6urq6urq6urq6urq6urqw==", "span_id": "zc3Nzc3Nzc0="}]
        });
        assert_eq!(to_otlp(&trace, &span()), wanted);
        let bare = Span {
            name: String::new(),
            status: SpanStatus::Unset,
            status_message: None,
            attributes: vec![],
            events: vec![],
            links: vec![],
            ended_ns: None,
            ..span()
        };
        let keys: Vec<String> = to_otlp(&trace, &bare).as_object().expect("an object").keys().cloned().collect();
        assert_eq!(keys, ["span_id", "start_time_unix_nano", "status", "trace_id"]);
    }

    #[test]
    fn a_span_in_the_file() {
        let trace = TraceId::new("tr-000000000000000000000000000000ff").expect("an id");
        let text = serde_json::to_string(&File { trace: &trace, spans: &[span()] }).expect("JSON");
        assert!(text.contains(r#""attributes":{"z":"{\"b\": 1, \"a\": 2.0}","a":"null"}"#), "{text}");
        assert!(text.contains(r#""parent_span_id":null"#) && text.contains(r#""code":"STATUS_CODE_ERROR""#), "{text}");
        assert!(text.contains(r#""trace_id":"tr-abababababababababababababababab""#), "{text}");
    }

    #[test]
    fn any_id_has_bytes() {
        let bytes = |text: &str| bytes_of(&TraceId::new(text).expect("an id"));
        assert_eq!(bytes("tr-000000000000000000000000000000ff")[15], 0xff);
        assert_eq!(bytes("000000000000000000000000000000ff")[15], 0xff);
        assert_ne!(bytes("trace-1"), bytes("trace-2"));
        assert_eq!(trace_id_of(bytes("tr-000000000000000000000000000000ff")), "tr-000000000000000000000000000000ff");
    }
}
