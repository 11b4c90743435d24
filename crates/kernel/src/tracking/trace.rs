//! Traces: what one request did, as a tree of spans, and what people and judges say about it.
//!
//! A trace is told in any order: span by span while it runs ([`SpanBatch`]), and as a whole at its end ([`TraceInfo`]). How the two come
//! together is decided here, by [`TraceInfo::settled_over`] and [`TraceInfo::grown`]; stores keep the result. Both are harmless when told
//! twice.
//!
//! Invariant: once a trace was told as a whole (its metadata has [`key::SETTLED`]), spans that come later add to it but change none of its
//! own figures.

use super::ExperimentId;
use super::assessment::Assessment;
use crate::{Code, Fault, Result, Timestamp, limits};
use std::collections::BTreeMap;
use std::fmt;

/// Names of tags and metadata that clients and server agree on.
pub mod key {
    /// Tag: the trace's name.
    pub const NAME: &str = "mlflow.traceName";
    /// Tag: where the spans are. A client uploads them as an artifact unless it says [`IN_STORE`].
    pub const SPANS_AT: &str = "mlflow.trace.spansLocation";
    /// The value of [`SPANS_AT`] for spans that the store has.
    pub const IN_STORE: &str = "TRACKING_STORE";
    /// Tag: where artifacts of the trace go.
    pub const ARTIFACTS_AT: &str = "mlflow.artifactLocation";
    /// Metadata: the whole trace was told.
    pub const SETTLED: &str = "mlflow.trace.infoFinalized";
    /// Metadata: the run the trace was made in.
    pub const RUN: &str = "mlflow.sourceRun";
    /// Metadata: tokens of all model calls, as JSON.
    pub const USAGE: &str = "mlflow.trace.tokenUsage";
    /// Metadata: costs of all model calls, as JSON.
    pub const COST: &str = "mlflow.trace.cost";
    /// Metadata: the session that the request belongs to.
    pub const SESSION: &str = "mlflow.trace.session";
    /// Metadata: the user that the request came from.
    pub const USER: &str = "mlflow.trace.user";
    /// Metadata: sizes of the spans, as JSON; `num_spans` says how many there are to be.
    pub const SIZES: &str = "mlflow.trace.sizeStats";
    /// Attribute of a span: its kind.
    pub const SPAN_KIND: &str = "mlflow.spanType";
    /// Attribute of a span: tokens of its model call.
    pub const SPAN_USAGE: &str = "mlflow.chat.tokenUsage";
    /// Attribute of a span: cost of its model call.
    pub const SPAN_COST: &str = "mlflow.llm.cost";
}

/// Identifies a trace: `tr-` and 32 hex digits as a rule; letters, digits, `_` and `-` in any case, so that it may be part of an address.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TraceId(String);

impl TraceId {
    /// Checks and takes an id.
    pub fn new(text: &str) -> Result<TraceId> {
        let first = text.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric());
        let fits = text.len() <= limits::TRACE_ID_CHARS_MAX && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
        if !(first && fits) {
            return Err(Fault::invalid(Code::BAD_VALUE, format!("Invalid trace ID: '{}'", text.escape_debug()))
                .fix(format!("use letters, digits, `_` and `-`, at most {}", limits::TRACE_ID_CHARS_MAX)));
        }
        Ok(TraceId(text.to_owned()))
    }
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Where a trace stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum TraceState {
    /// Nobody said.
    #[default]
    Unspecified,
    /// Its root ended well.
    Ok,
    /// Its root ended with an error.
    Error,
    /// Its root has not ended.
    InProgress,
}

impl TraceState {
    /// Every state.
    pub const ALL: [TraceState; 4] = [TraceState::Unspecified, TraceState::Ok, TraceState::Error, TraceState::InProgress];
    /// The word.
    pub fn as_str(self) -> &'static str {
        match self {
            TraceState::Unspecified => "STATE_UNSPECIFIED",
            TraceState::Ok => "OK",
            TraceState::Error => "ERROR",
            TraceState::InProgress => "IN_PROGRESS",
        }
    }
    /// The state that a word means.
    pub fn of_word(word: &str) -> Option<TraceState> {
        TraceState::ALL.into_iter().find(|state| state.as_str() == word)
    }
    fn is_open(self) -> bool {
        matches!(self, TraceState::InProgress | TraceState::Unspecified)
    }
}

/// A trace without its spans.
#[derive(Debug, Clone, PartialEq)]
pub struct TraceInfo {
    /// Its id.
    pub id: TraceId,
    /// Where it belongs.
    pub experiment: ExperimentId,
    /// When the request came, to the millisecond.
    pub requested_at: Timestamp,
    /// How long it took, once it ended.
    pub took_ms: Option<i64>,
    /// Where it stands.
    pub state: TraceState,
    /// The id that the caller's own system gave the request.
    pub client_request: Option<String>,
    /// The beginning of the request, for people.
    pub request_preview: Option<String>,
    /// The beginning of the response, for people.
    pub response_preview: Option<String>,
    /// What was given once.
    pub metadata: BTreeMap<String, String>,
    /// What may change.
    pub tags: BTreeMap<String, String>,
    /// What was said about it, oldest first.
    pub assessments: Vec<Assessment>,
}

/// How a v2 client ends a trace it began before.
#[derive(Debug, Clone, PartialEq)]
pub struct TraceEnd {
    /// When.
    pub at: Timestamp,
    /// How.
    pub state: TraceState,
    /// Metadata to add.
    pub metadata: BTreeMap<String, String>,
    /// Tags to set.
    pub tags: BTreeMap<String, String>,
}

/// How a span ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum SpanStatus {
    /// Nobody said.
    #[default]
    Unset,
    /// Well.
    Ok,
    /// With an error.
    Error,
}

impl SpanStatus {
    /// The word.
    pub fn as_str(self) -> &'static str {
        match self {
            SpanStatus::Unset => "UNSET",
            SpanStatus::Ok => "OK",
            SpanStatus::Error => "ERROR",
        }
    }
    /// The status that a word means.
    pub fn of_word(word: &str) -> Option<SpanStatus> {
        [SpanStatus::Unset, SpanStatus::Ok, SpanStatus::Error].into_iter().find(|status| status.as_str() == word)
    }
}

/// Attributes in the order given. A value is a JSON text, so that numbers and the order of keys stay as they came.
pub type Attributes = Vec<(String, String)>;

/// One step of a trace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Span {
    /// 16 hex digits.
    pub id: String,
    /// The step it is part of; none for the root.
    pub parent: Option<String>,
    /// Its name.
    pub name: String,
    /// When it began, in nanoseconds since 1970.
    pub started_ns: i64,
    /// When it ended.
    pub ended_ns: Option<i64>,
    /// How it ended.
    pub status: SpanStatus,
    /// Why, if it failed.
    pub status_message: Option<String>,
    /// What is known of it: inputs, outputs, kind, tokens.
    pub attributes: Attributes,
    /// What happened meanwhile.
    pub events: Vec<SpanEvent>,
    /// Spans of other traces that belong to it.
    pub links: Vec<SpanLink>,
}

/// Something that happened during a span: an exception, for instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpanEvent {
    /// Its name.
    pub name: String,
    /// When, in nanoseconds since 1970.
    pub at_ns: i64,
    /// What is known of it.
    pub attributes: Attributes,
}

/// A span of another trace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpanLink {
    /// The other trace, 32 hex digits.
    pub trace: String,
    /// The span there, 16 hex digits.
    pub span: String,
    /// What is known of the link.
    pub attributes: Attributes,
}

impl Span {
    /// The JSON text of an attribute.
    pub fn attribute(&self, name: &str) -> Option<&str> {
        self.attributes.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
    /// The kind: `LLM`, `TOOL`, `CHAIN`, ...
    pub fn kind(&self) -> Option<String> {
        let text = self.attribute(key::SPAN_KIND)?;
        serde_json::from_str::<Option<String>>(text).unwrap_or_else(|_| Some(text.to_owned()))
    }
    /// When it began, in milliseconds.
    pub fn started_ms(&self) -> i64 {
        self.started_ns.div_euclid(1_000_000)
    }
    /// When it ended, in milliseconds.
    pub fn ended_ms(&self) -> Option<i64> {
        self.ended_ns.map(|ns| ns.div_euclid(1_000_000))
    }
}

/// Spans of one trace that arrive together, and what they say about it.
#[derive(Debug, Clone, PartialEq)]
pub struct SpanBatch {
    /// The trace.
    pub trace: TraceId,
    /// Where the trace is made if nobody told of it yet.
    pub experiment: ExperimentId,
    /// Tags for a trace that is made now.
    pub first_tags: BTreeMap<String, String>,
    /// Tags that are set in any case.
    pub tags: BTreeMap<String, String>,
    /// Metadata for names that have none.
    pub metadata: BTreeMap<String, String>,
    /// The request's preview, if there is none.
    pub request_preview: Option<String>,
    /// The response's preview, if there is none.
    pub response_preview: Option<String>,
    /// The spans, at least one. A span that is there already is replaced.
    pub spans: Vec<Span>,
}

impl SpanBatch {
    /// The state that the root gives the trace, if it is among them.
    fn state(&self) -> Option<TraceState> {
        let root = self.spans.iter().find(|span| span.parent.is_none())?;
        Some(if root.status == SpanStatus::Error { TraceState::Error } else { TraceState::Ok })
    }
}

impl TraceInfo {
    /// Whether it was told as a whole.
    pub fn is_settled(&self) -> bool {
        self.metadata.contains_key(key::SETTLED)
    }

    /// When it ended, in milliseconds.
    pub fn ended_ms(&self) -> i64 {
        self.requested_at.millis().saturating_add(self.took_ms.unwrap_or(0))
    }

    /// How many spans there are to be, if a client said so.
    pub fn spans_expected(&self) -> Option<usize> {
        let sizes: serde_json::Value = serde_json::from_str(self.metadata.get(key::SIZES)?).ok()?;
        sizes.get("num_spans")?.as_u64().and_then(|n| usize::try_from(n).ok())
    }

    /// What is known when the whole trace is told (`self`) and something was known `before`: what is told now stands, what only the spans
    /// said stays.
    #[must_use]
    pub fn settled_over(mut self, before: TraceInfo) -> TraceInfo {
        let joined = |before: BTreeMap<String, String>, now: BTreeMap<String, String>| before.into_iter().chain(now).collect();
        self.tags = joined(before.tags, self.tags);
        self.metadata = joined(before.metadata, self.metadata);
        self.request_preview = self.request_preview.or(before.request_preview);
        self.response_preview = self.response_preview.or(before.response_preview);
        let told = std::mem::take(&mut self.assessments);
        self.assessments = before.assessments.into_iter().filter(|old| !told.iter().any(|new| new.id == old.id)).collect();
        self.assessments.extend(told);
        self
    }

    /// What is known when spans arrive. Without `before` the trace is made from them.
    #[must_use]
    pub fn grown(before: Option<TraceInfo>, batch: &SpanBatch) -> TraceInfo {
        let started = batch.spans.iter().map(Span::started_ms).min().unwrap_or_default();
        let ended = batch.spans.iter().filter_map(Span::ended_ms).max();
        let mut info = match before {
            Some(mut info) if !info.is_settled() => {
                let was = info.requested_at.millis();
                let last = info.took_ms.map(|ms| was.saturating_add(ms)).into_iter().chain(ended).max();
                info.requested_at = moment_of_ms(started.min(was));
                info.took_ms = last.map(|last| last.saturating_sub(started.min(was)));
                info
            }
            Some(info) => info,
            None => TraceInfo {
                id: batch.trace.clone(),
                experiment: batch.experiment,
                requested_at: moment_of_ms(started),
                took_ms: ended.map(|ended| ended.saturating_sub(started)),
                state: TraceState::InProgress,
                client_request: None,
                request_preview: None,
                response_preview: None,
                metadata: BTreeMap::new(),
                tags: batch.first_tags.clone(),
                assessments: Vec::new(),
            },
        };
        if let (true, Some(state)) = (info.state.is_open(), batch.state()) {
            info.state = state;
        }
        info.request_preview = info.request_preview.or_else(|| batch.request_preview.clone());
        info.response_preview = info.response_preview.or_else(|| batch.response_preview.clone());
        for (name, value) in &batch.metadata {
            info.metadata.entry(name.clone()).or_insert_with(|| value.clone());
        }
        info.tags.extend(batch.tags.clone());
        info.tags.insert(key::SPANS_AT.into(), key::IN_STORE.into());
        info
    }

    /// What is known when a v2 client ends the trace.
    #[must_use]
    pub fn ended(mut self, end: TraceEnd) -> TraceInfo {
        self.took_ms = Some(end.at.millis().saturating_sub(self.requested_at.millis()));
        self.state = end.state;
        self.metadata.extend(end.metadata);
        self.tags.extend(end.tags);
        self
    }
}

/// The moment of a number of milliseconds; it stops at the ends of time.
pub fn moment_of_ms(ms: i64) -> Timestamp {
    Timestamp::from_micros(ms.saturating_mul(1_000))
}

/// Which traces of an experiment are deleted: those that fit everything that is said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TracesToDelete {
    /// The experiment.
    pub experiment: ExperimentId,
    /// Only these; empty means any.
    pub ids: Vec<TraceId>,
    /// Only those requested at this moment or before.
    pub until: Option<Timestamp>,
    /// At most this many, oldest first.
    pub at_most: Option<usize>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span(id: &str, parent: Option<&str>, from_ms: i64, to_ms: i64, status: SpanStatus) -> Span {
        Span {
            id: id.into(),
            parent: parent.map(str::to_owned),
            name: id.into(),
            started_ns: from_ms * 1_000_000 + 7,
            ended_ns: Some(to_ms * 1_000_000 + 9),
            status,
            status_message: None,
            attributes: vec![(key::SPAN_KIND.into(), "\"LLM\"".into())],
            events: vec![],
            links: vec![],
        }
    }
    fn batch(spans: Vec<Span>) -> SpanBatch {
        SpanBatch {
            trace: id(),
            experiment: ExperimentId(0),
            first_tags: [("made".into(), "1".into())].into(),
            tags: BTreeMap::new(),
            metadata: BTreeMap::new(),
            request_preview: None,
            response_preview: None,
            spans,
        }
    }
    fn id() -> TraceId {
        TraceId::new("tr-1").expect("an id")
    }

    #[test]
    fn ids_cannot_leave_their_place() {
        for good in ["tr-0123456789abcdef0123456789abcdef", "0123", "a_b-C"] {
            assert_eq!(TraceId::new(good).expect(good).as_str(), good);
        }
        for bad in ["", "..", "a/b", "a\\b", "a.b", "-a", "trace:/x/y", "a%2e", "a b", "é", &"a".repeat(limits::TRACE_ID_CHARS_MAX + 1)] {
            assert!(TraceId::new(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn spans_make_and_widen_a_trace() {
        let child = batch(vec![span("b", Some("a"), 20, 30, SpanStatus::Error)]);
        let made = TraceInfo::grown(None, &child);
        assert_eq!((made.requested_at.millis(), made.took_ms, made.state), (20, Some(10), TraceState::InProgress));
        assert_eq!(made.tags["made"], "1");
        assert_eq!(made.tags[key::SPANS_AT], key::IN_STORE);
        let root = batch(vec![span("a", None, 10, 40, SpanStatus::Unset)]);
        let whole = TraceInfo::grown(Some(made), &root);
        assert_eq!((whole.requested_at.millis(), whole.took_ms, whole.state), (10, Some(30), TraceState::Ok));
        assert_eq!(TraceInfo::grown(Some(whole.clone()), &root), whole, "told twice");
    }

    #[test]
    fn what_was_told_as_a_whole_is_not_changed_by_spans() {
        let mut told = TraceInfo::grown(None, &batch(vec![span("a", None, 10, 40, SpanStatus::Ok)]));
        told.metadata.insert(key::SETTLED.into(), "true".into());
        (told.requested_at, told.took_ms) = (moment_of_ms(11), Some(5));
        let later = TraceInfo::grown(Some(told.clone()), &batch(vec![span("b", Some("a"), 1, 99, SpanStatus::Error)]));
        assert_eq!((later.requested_at, later.took_ms, later.state), (told.requested_at, told.took_ms, told.state));
    }

    #[test]
    fn the_whole_keeps_what_only_spans_said() {
        let mut first = batch(vec![span("a", None, 10, 40, SpanStatus::Ok)]);
        first.request_preview = Some("hello".into());
        first.tags = [("service.name".into(), "shop".into())].into();
        let before = TraceInfo::grown(None, &first);
        let mut now = before.clone();
        (now.request_preview, now.response_preview) = (None, Some("bye".into()));
        now.tags = [(key::NAME.into(), "predict".into())].into();
        (now.took_ms, now.state) = (Some(31), TraceState::Error);
        let joined = now.settled_over(before);
        assert_eq!((joined.request_preview.as_deref(), joined.response_preview.as_deref()), (Some("hello"), Some("bye")));
        assert_eq!((joined.took_ms, joined.state), (Some(31), TraceState::Error));
        assert_eq!((joined.tags["service.name"].as_str(), joined.tags[key::NAME].as_str()), ("shop", "predict"));
    }

    #[test]
    fn a_kind_is_read_from_its_json() {
        let mut one = span("a", None, 0, 1, SpanStatus::Ok);
        assert_eq!(one.kind().as_deref(), Some("LLM"));
        for (text, kind) in [("null", None), ("LLM", Some("LLM")), ("{\"a\": 1}", Some("{\"a\": 1}"))] {
            one.attributes[0].1 = text.into();
            assert_eq!(one.kind().as_deref(), kind);
        }
    }
}
