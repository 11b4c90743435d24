//! Traces and assessments in MLflow's JSON: the third family (`TraceInfoV3`) and the second, which old clients read.

use crate::protocol::mlflow::error::invalid;
use crate::protocol::mlflow::request::{EnumWord, Int};
use crate::protocol::mlflow::validate;
use gristmill_kernel::tracking::assessment::{Assessment, AssessmentError, AssessmentUpdate, Said, SourceKind};
use gristmill_kernel::tracking::trace::{TraceId, TraceInfo, TraceState, moment_of_ms};
use gristmill_kernel::{Result, Timestamp};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// Longest value of metadata or a tag that is shown; the rest is cut, as MLflow cuts it.
const METADATA_SHOWN_CHARS_MAX: usize = 250;
const TAG_SHOWN_CHARS_MAX: usize = 4_096;
/// The one format that serialised expectations have.
const JSON_FORMAT: &str = "JSON_FORMAT";

/// A moment as protocol buffers write it: with 3 or 6 digits behind the second, or none.
pub(crate) fn moment(at: Timestamp) -> String {
    let text = at.to_string();
    let Some((whole, fraction)) = text.trim_end_matches('Z').split_once('.') else { return text };
    let width = if fraction.len() <= 3 { 3 } else { 6 };
    format!("{whole}.{fraction:0<width$}Z")
}

/// A duration as protocol buffers write it.
pub(crate) fn duration(ms: i64) -> String {
    let (sign, size) = (if ms < 0 { "-" } else { "" }, ms.unsigned_abs());
    match size % 1_000 {
        0 => format!("{sign}{}s", size / 1_000),
        rest => format!("{sign}{}.{rest:03}s", size / 1_000),
    }
}

/// Reads a duration; what is below a millisecond is dropped.
fn duration_ms(text: &str) -> Result<i64> {
    let bad = || invalid(format!("Invalid duration: '{}'", text.escape_debug()));
    let number = text.strip_suffix('s').ok_or_else(bad)?;
    let (negative, digits) = match number.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, number),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    if !whole.bytes().chain(fraction.bytes()).all(|b| b.is_ascii_digit()) || whole.is_empty() {
        return Err(bad());
    }
    let seconds: i64 = whole.parse().map_err(|_| bad())?;
    let millis: i64 = format!("{fraction:0<3}")[..3].parse().map_err(|_| bad())?;
    let size = seconds.checked_mul(1_000).and_then(|ms| ms.checked_add(millis)).ok_or_else(bad)?;
    Ok(if negative { -size } else { size })
}

/// Reads a moment, to the millisecond.
fn moment_ms(text: &str) -> Result<Timestamp> {
    let at: Timestamp = text.parse().map_err(|_| invalid(format!("Invalid timestamp: '{}'", text.escape_debug())))?;
    Ok(moment_of_ms(at.millis()))
}

/// A trace as a client tells of it.
#[derive(Debug, Deserialize)]
pub(crate) struct InfoAsk {
    pub trace_id: Option<String>,
    pub client_request_id: Option<String>,
    pub trace_location: Option<LocationAsk>,
    pub request_preview: Option<String>,
    pub response_preview: Option<String>,
    pub request_time: Option<String>,
    pub execution_duration: Option<String>,
    pub state: Option<EnumWord>,
    pub trace_metadata: Option<BTreeMap<String, String>>,
    pub tags: Option<BTreeMap<String, String>>,
    pub assessments: Option<Vec<AssessmentAsk>>,
}

/// Where a trace is.
#[derive(Debug, Deserialize)]
pub(crate) struct LocationAsk {
    pub mlflow_experiment: Option<ExperimentAsk>,
}

/// An experiment by its id.
#[derive(Debug, Deserialize)]
pub(crate) struct ExperimentAsk {
    pub experiment_id: Option<String>,
}

impl InfoAsk {
    /// The experiment that it names.
    pub(crate) fn experiment(&self) -> &str {
        let named = self.trace_location.as_ref().and_then(|location| location.mlflow_experiment.as_ref());
        named.and_then(|experiment| experiment.experiment_id.as_deref()).unwrap_or_default()
    }

    /// The trace; `now` is for what the client does not date.
    pub(crate) fn taken(self, now: Timestamp) -> Result<TraceInfo> {
        let experiment = validate::experiment_id(self.experiment())?;
        let id = TraceId::new(self.trace_id.as_deref().unwrap_or_default())?;
        let mut assessments = Vec::new();
        for ask in self.assessments.unwrap_or_default() {
            assessments.push(ask.taken(&id, now)?);
        }
        Ok(TraceInfo {
            experiment,
            requested_at: self.request_time.as_deref().map(moment_ms).transpose()?.unwrap_or(now),
            took_ms: self.execution_duration.as_deref().map(duration_ms).transpose()?,
            state: state(self.state.as_ref())?,
            client_request: self.client_request_id,
            request_preview: self.request_preview,
            response_preview: self.response_preview,
            metadata: self.trace_metadata.unwrap_or_default(),
            tags: self.tags.unwrap_or_default(),
            assessments,
            id,
        })
    }
}

/// Reads a state: a word or its number, in both families.
pub(crate) fn state(word: Option<&EnumWord>) -> Result<TraceState> {
    let Some(EnumWord(text)) = word else { return Ok(TraceState::Unspecified) };
    let of_number = || text.parse::<usize>().ok().and_then(|number| TraceState::ALL.get(number).copied());
    let old = (text == "TRACE_STATUS_UNSPECIFIED").then_some(TraceState::Unspecified);
    TraceState::of_word(text).or(old).or_else(of_number).ok_or_else(|| validate::bad_word("state", word))
}

/// A trace in the third family.
pub(crate) fn info(info: &TraceInfo) -> Value {
    let mut out = Map::new();
    let mut put = |name: &str, value: Option<Value>| {
        if let Some(value) = value {
            out.insert(name.to_owned(), value);
        }
    };
    let text = |text: &Option<String>| text.as_deref().map(Value::from);
    let location = json!({ "type": "MLFLOW_EXPERIMENT", "mlflow_experiment": { "experiment_id": info.experiment.to_string() } });
    put("trace_id", Some(info.id.as_str().into()));
    put("client_request_id", text(&info.client_request));
    put("trace_location", Some(location));
    put("request_preview", text(&info.request_preview));
    put("response_preview", text(&info.response_preview));
    put("request_time", Some(moment(info.requested_at).into()));
    put("execution_duration", info.took_ms.map(|ms| duration(ms).into()));
    put("state", Some(info.state.as_str().into()));
    put("trace_metadata", words(&info.metadata, METADATA_SHOWN_CHARS_MAX));
    put("tags", words(&info.tags, TAG_SHOWN_CHARS_MAX));
    let assessments: Vec<Value> = info.assessments.iter().map(assessment).collect();
    put("assessments", (!assessments.is_empty()).then(|| assessments.into()));
    Value::Object(out)
}

/// Words by name, cut; nothing if there are none.
fn words(words: &BTreeMap<String, String>, most: usize) -> Option<Value> {
    let cut = |(name, value): (&String, &String)| (name.clone(), Value::from(validate::cut(value.clone(), most)));
    (!words.is_empty()).then(|| words.iter().map(cut).collect::<Map<_, _>>().into())
}

/// A trace in the second family.
pub(crate) fn info_v2(info: &TraceInfo) -> Value {
    let pairs = |words: &BTreeMap<String, String>, most: usize| -> Value {
        words.iter().map(|(key, value)| json!({ "key": key, "value": validate::cut(value.clone(), most) })).collect()
    };
    let status = match info.state {
        TraceState::Unspecified => "TRACE_STATUS_UNSPECIFIED",
        state => state.as_str(),
    };
    let mut out = json!({
        "request_id": info.id.as_str(),
        "experiment_id": info.experiment.to_string(),
        "timestamp_ms": info.requested_at.millis(),
        "execution_time_ms": info.took_ms.unwrap_or(0),
        "status": status,
    });
    if !info.metadata.is_empty() {
        out["request_metadata"] = pairs(&info.metadata, METADATA_SHOWN_CHARS_MAX);
    }
    if !info.tags.is_empty() {
        out["tags"] = pairs(&info.tags, TAG_SHOWN_CHARS_MAX);
    }
    out
}

/// An assessment as a client sends it.
#[derive(Debug, Deserialize)]
pub(crate) struct AssessmentAsk {
    pub assessment_id: Option<String>,
    pub assessment_name: Option<String>,
    pub span_id: Option<String>,
    pub source: Option<SourceAsk>,
    pub create_time: Option<String>,
    pub last_update_time: Option<String>,
    pub feedback: Option<FeedbackAsk>,
    pub expectation: Option<ExpectationAsk>,
    pub issue: Option<IssueAsk>,
    pub rationale: Option<String>,
    pub error: Option<ErrorAsk>,
    pub metadata: Option<BTreeMap<String, String>>,
    pub overrides: Option<String>,
}

/// Who assessed.
#[derive(Debug, Deserialize)]
pub(crate) struct SourceAsk {
    pub source_type: Option<EnumWord>,
    pub source_id: Option<String>,
}

/// Feedback.
#[derive(Debug, Deserialize)]
pub(crate) struct FeedbackAsk {
    pub value: Option<Value>,
    pub error: Option<ErrorAsk>,
}

/// An expectation: plain, or serialised because protocol buffers could not hold it.
#[derive(Debug, Deserialize)]
pub(crate) struct ExpectationAsk {
    pub value: Option<Value>,
    pub serialized_value: Option<SerializedAsk>,
}

/// A serialised value.
#[derive(Debug, Deserialize)]
pub(crate) struct SerializedAsk {
    pub serialization_format: Option<String>,
    pub value: Option<String>,
}

/// A reference to an issue.
#[derive(Debug, Deserialize)]
pub(crate) struct IssueAsk {
    pub issue_name: Option<String>,
}

/// Why there is no feedback.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct ErrorAsk {
    pub error_code: Option<String>,
    pub error_message: Option<String>,
    pub stack_trace: Option<String>,
}

/// What is not empty.
fn filled(text: Option<String>) -> Option<String> {
    text.filter(|text| !text.is_empty())
}

/// Protocol buffers have one kind of number.
fn as_numbers(value: Value) -> Value {
    match value {
        Value::Number(number) => number.as_f64().map_or(Value::Number(number), Value::from),
        Value::Array(items) => items.into_iter().map(as_numbers).collect(),
        Value::Object(fields) => fields.into_iter().map(|(name, value)| (name, as_numbers(value))).collect::<Map<_, _>>().into(),
        other => other,
    }
}

impl AssessmentAsk {
    /// What is said; nothing if the client says nothing.
    fn said(&mut self) -> Result<Option<Said>> {
        let error = |ask: ErrorAsk| AssessmentError { code: ask.error_code, message: ask.error_message, stack: ask.stack_trace };
        if let Some(feedback) = self.feedback.take() {
            let error = feedback.error.or(self.error.take()).map(error);
            return Ok(Some(Said::Feedback(as_numbers(feedback.value.unwrap_or_default()), error)));
        }
        if let Some(expectation) = self.expectation.take() {
            let value = match expectation.serialized_value {
                None => as_numbers(expectation.value.unwrap_or_default()),
                Some(given) => {
                    let format = given.serialization_format.unwrap_or_default();
                    if format != JSON_FORMAT {
                        return Err(invalid(format!("Unknown serialization format: {format}. Only {JSON_FORMAT} is supported.")));
                    }
                    let text = given.value.unwrap_or_default();
                    serde_json::from_str(&text).map_err(|_| invalid("an expectation's serialised value is not JSON"))?
                }
            };
            if value.is_null() {
                return Err(invalid("The `value` field must be specified."));
            }
            return Ok(Some(Said::Expectation(value)));
        }
        Ok(self.issue.take().map(|issue| Said::Issue(issue.issue_name.unwrap_or_default())))
    }

    /// A new assessment of a trace.
    pub(crate) fn taken(mut self, trace: &TraceId, now: Timestamp) -> Result<Assessment> {
        let said = self.said()?.ok_or_else(|| invalid("Unknown assessment type: None"))?;
        let source = self.source.take();
        let word = source.as_ref().and_then(|source| source.source_type.as_ref());
        let created_at = self.create_time.as_deref().map(moment_ms).transpose()?.unwrap_or(now);
        let mut assessment = Assessment {
            id: String::new(),
            trace: trace.clone(),
            name: self.assessment_name.unwrap_or_default(),
            said,
            source: source_kind(word)?,
            source_id: filled(source.and_then(|source| source.source_id)),
            span: filled(self.span_id),
            rationale: filled(self.rationale),
            metadata: self.metadata.unwrap_or_default(),
            overrides: filled(self.overrides),
            valid: true,
            created_at,
            updated_at: self.last_update_time.as_deref().map(moment_ms).transpose()?.unwrap_or(created_at),
        };
        assessment.id = filled(self.assessment_id).unwrap_or_else(|| assessment.content_id());
        Ok(assessment)
    }

    /// A change: only the fields that the mask names.
    pub(crate) fn update(mut self, mask: &str) -> Result<AssessmentUpdate> {
        let mut update = AssessmentUpdate::default();
        for path in mask.split(',').map(str::trim) {
            match path {
                "assessment_name" | "assessmentName" => update.name = self.assessment_name.take(),
                "expectation" | "feedback" => update.said = self.said()?.or(update.said.take()),
                "rationale" => update.rationale = self.rationale.take(),
                "metadata" => update.metadata = self.metadata.take().unwrap_or_default(),
                // The server decides what is valid; other paths mean nothing to MLflow either.
                _ => {}
            }
        }
        Ok(update)
    }
}

fn source_kind(word: Option<&EnumWord>) -> Result<SourceKind> {
    let Some(EnumWord(text)) = word else { return Ok(SourceKind::Unspecified) };
    let of_number = || text.parse::<usize>().ok().and_then(|number| SourceKind::ALL.get(number).copied());
    // What old clients say for a judging model.
    let old = (text == "AI_JUDGE").then_some(SourceKind::LlmJudge);
    SourceKind::of_word(text).or(old).or_else(of_number).ok_or_else(|| {
        let valid: Vec<String> = SourceKind::ALL.iter().map(|kind| format!("'{}'", kind.as_str())).collect();
        invalid(format!("Invalid assessment source type: {text}. Valid source types: [{}]", valid.join(", ")))
    })
}

/// An assessment as it is shown.
pub(crate) fn assessment(one: &Assessment) -> Value {
    let mut source = json!({ "source_type": one.source.as_str() });
    if let Some(id) = &one.source_id {
        source["source_id"] = id.as_str().into();
    }
    let mut out = json!({
        "assessment_id": one.id,
        "assessment_name": one.name,
        "trace_id": one.trace.as_str(),
        "source": source,
        "create_time": moment(one.created_at),
        "last_update_time": moment(one.updated_at),
        "valid": one.valid,
    });
    let optional = [("span_id", &one.span), ("rationale", &one.rationale), ("overrides", &one.overrides)];
    for (name, text) in optional {
        if let Some(text) = text {
            out[name] = text.as_str().into();
        }
    }
    if !one.metadata.is_empty() {
        out["metadata"] = json!(one.metadata);
    }
    match &one.said {
        Said::Feedback(value, error) => {
            out["feedback"] = json!({ "value": value });
            if let Some(error) = error {
                out["feedback"]["error"] = error_shown(error);
            }
        }
        Said::Expectation(value @ (Value::Bool(_) | Value::Number(_) | Value::String(_))) => out["expectation"] = json!({ "value": value }),
        Said::Expectation(value) => {
            let serialized = json!({ "serialization_format": JSON_FORMAT, "value": value.to_string() });
            out["expectation"] = json!({ "serialized_value": serialized });
        }
        Said::Issue(name) => out["issue"] = json!({ "issue_name": name }),
    }
    out
}

fn error_shown(error: &AssessmentError) -> Value {
    let fields = [("error_code", &error.code), ("error_message", &error.message), ("stack_trace", &error.stack)];
    let set = fields.into_iter().filter_map(|(name, text)| text.as_deref().map(|text| (name.to_owned(), text.into())));
    set.collect::<Map<_, _>>().into()
}

/// A page's size: MLflow's own limit, in its words.
pub(crate) fn page_size(wanted: Option<Int>) -> Result<usize> {
    const UNSAID: usize = 100;
    if let Some(Int(wanted)) = wanted
        && wanted > gristmill_kernel::limits::SEARCH_TRACES_MAX as i64
    {
        let why = " See the API docs for more information about request parameters.";
        let text = crate::protocol::mlflow::request::invalid_text("max_results", &Value::from(wanted), None);
        return Err(invalid(text + why));
    }
    validate::max_results(wanted, UNSAID)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_and_durations_are_protocol_buffers() {
        for (ms, text) in
            [(0, "1970-01-01T00:00:00Z"), (1_700_000_000_120, "2023-11-14T22:13:20.120Z"), (1_700_000_000_001, "2023-11-14T22:13:20.001Z")]
        {
            assert_eq!(moment(moment_of_ms(ms)), text);
            assert_eq!(moment_ms(text).expect(text), moment_of_ms(ms));
        }
        assert_eq!(moment(Timestamp::from_micros(1)), "1970-01-01T00:00:00.000001Z");
        assert_eq!(moment_ms("2023-11-14T22:13:20.001999999+00:00").expect("nanoseconds").millis(), 1_700_000_000_001);
        for (ms, text) in [(0, "0s"), (1, "0.001s"), (1_500, "1.500s"), (60_000, "60s"), (-2_001, "-2.001s")] {
            assert_eq!((duration(ms).as_str(), duration_ms(text).expect(text)), (text, ms));
        }
        assert_eq!(duration_ms("1.5s").expect("short"), 1_500);
        assert_eq!(duration_ms("0.000999999s").expect("small"), 0);
        for bad in ["", "s", "1", "1.s.s", "x", "1e3s", "99999999999999999999s", "9223372036854775807s", "--1s", "1.-5s"] {
            assert!(duration_ms(bad).is_err(), "{bad}");
        }
        for bad in ["", "now", "2023-13-01T00:00:00Z"] {
            assert!(moment_ms(bad).is_err(), "{bad}");
        }
    }

    fn ask(value: Value) -> AssessmentAsk {
        serde_json::from_value(value).expect("an assessment")
    }
    fn trace() -> TraceId {
        TraceId::new("tr-1").expect("an id")
    }

    #[test]
    fn assessments_come_back_as_they_were() {
        for value in [
            json!({"feedback": {"value": true}, "rationale": "why", "metadata": {"a": "b"}, "span_id": "00aa"}),
            json!({"feedback": {"value": null, "error": {"error_code": "E", "error_message": "m"}}, "overrides": "a-1"}),
            json!({"expectation": {"value": 5.0}}),
            json!({"expectation": {"serialized_value": {"serialization_format": "JSON_FORMAT", "value": "[1,\"x\"]"}}}),
            json!({"issue": {"issue_name": "slow"}}),
        ] {
            let mut given = json!({
                "assessment_name": "n", "trace_id": "tr-1", "source": {"source_type": "HUMAN", "source_id": "ada"},
                "create_time": "2023-11-14T22:13:20.120Z", "last_update_time": "2023-11-14T22:13:20.121Z", "valid": true
            });
            given.as_object_mut().expect("an object").extend(value.as_object().cloned().expect("an object"));
            let taken = ask(given.clone()).taken(&trace(), Timestamp::from_micros(0)).expect("fits");
            given["assessment_id"] = taken.id.as_str().into();
            assert_eq!(assessment(&taken), given);
        }
        let five = ask(json!({"assessment_name": "n", "feedback": {"value": 5}})).taken(&trace(), Timestamp::from_micros(7)).expect("fits");
        assert_eq!((five.text().as_str(), five.created_at), ("5.0", Timestamp::from_micros(7)));
    }

    #[test]
    fn assessments_that_say_nothing_are_refused() {
        for (given, message) in [
            (json!({"assessment_name": "n"}), "Unknown assessment type: None"),
            (json!({"expectation": {"value": null}}), "The `value` field must be specified."),
            (
                json!({"expectation": {"serialized_value": {"serialization_format": "PICKLE", "value": "x"}}}),
                "Unknown serialization format: PICKLE. Only JSON_FORMAT is supported.",
            ),
            (
                json!({"feedback": {"value": 1}, "source": {"source_type": "GOD"}}),
                "Invalid assessment source type: GOD. Valid source types: ['SOURCE_TYPE_UNSPECIFIED', 'HUMAN', 'LLM_JUDGE', 'CODE']",
            ),
        ] {
            assert_eq!(ask(given).taken(&trace(), Timestamp::from_micros(0)).expect_err("refused").message, message);
        }
    }

    #[test]
    fn only_what_the_mask_names_changes() {
        let given = json!({"assessment_name": "x", "feedback": {"value": "no"}, "rationale": "r", "metadata": {"a": "1"}});
        let update = ask(given.clone()).update("feedback,rationale").expect("fits");
        assert_eq!((update.name, update.rationale.as_deref(), update.metadata.len()), (None, Some("r"), 0));
        assert_eq!(update.said, Some(Said::Feedback("no".into(), None)));
        assert_eq!(ask(given).update("assessmentName").expect("fits").name.as_deref(), Some("x"));
    }

    #[test]
    fn a_trace_in_both_families() {
        let given = json!({
            "trace_id": "tr-1", "trace_location": {"type": "MLFLOW_EXPERIMENT", "mlflow_experiment": {"experiment_id": "3"}},
            "request_time": "2023-11-14T22:13:20.120Z", "execution_duration": "1.500s", "state": "OK",
            "trace_metadata": {"a": "1"}, "tags": {"b": "2"}, "request_preview": "hi"
        });
        let ask: InfoAsk = serde_json::from_value(given.clone()).expect("a trace");
        let taken = ask.taken(Timestamp::from_micros(0)).expect("fits");
        assert_eq!(info(&taken), given);
        let wanted = json!({
            "request_id": "tr-1", "experiment_id": "3", "timestamp_ms": 1_700_000_000_120_i64, "execution_time_ms": 1_500, "status": "OK",
            "request_metadata": [{"key": "a", "value": "1"}], "tags": [{"key": "b", "value": "2"}]
        });
        assert_eq!(info_v2(&taken), wanted);
        let word = |text: &str| state(Some(&EnumWord(text.into())));
        assert_eq!(word("3").expect("a number"), TraceState::InProgress);
        assert_eq!(word("TRACE_STATUS_UNSPECIFIED").expect("old"), TraceState::Unspecified);
        assert!(word("DONE").is_err());
    }
}
