//! The laws of traces and evaluation datasets that every implementation shares: what a search means, and the words of refusals.

use gristmill_kernel::tracking::assessment::{Assessment, Said};
use gristmill_kernel::tracking::evaluation::EvaluationDataset;
use gristmill_kernel::tracking::filter::{Field, Fields, Filter, Op, OrderBy, TraceField, Value};
use gristmill_kernel::tracking::trace::{Span, TraceId, TraceInfo, key};
use gristmill_kernel::tracking::{Page, Search};
use gristmill_kernel::{Code, Fault, Result, limits};
use regex::{Regex, RegexBuilder};
use std::cmp::Ordering;
use std::collections::HashMap;

/// Memory of one compiled regular expression; its matching takes time in proportion to the text.
const PATTERN_BYTES_MAX: usize = 1 << 20;

pub(crate) fn unknown_trace(id: &TraceId) -> Fault {
    Fault::not_found(Code::UNKNOWN_TRACE, format!("Trace with ID '{id}' not found.")).fix("list traces with `mlflow.search_traces()`")
}

pub(crate) fn unknown_assessment(trace: &TraceId, id: &str) -> Fault {
    let message = format!("Assessment with ID '{}' not found for trace '{trace}'", id.escape_debug());
    Fault::not_found(Code::UNKNOWN_TRACE, message).fix("the trace lists its assessments")
}

pub(crate) fn unknown_trace_tag(trace: &TraceId, key: &str) -> Fault {
    let message = format!("No trace tag with key '{}' for trace with ID '{trace}'", key.escape_debug());
    Fault::not_found(Code::UNKNOWN_TAG, message).fix("the trace lists its tags")
}

pub(crate) fn unknown_dataset(id: &str) -> Fault {
    let message = format!("Evaluation dataset with id '{}' not found", id.escape_debug());
    Fault::not_found(Code::UNKNOWN_DATASET, message).fix("list them with `mlflow.genai.datasets.search_datasets()`")
}

fn too_much() -> Fault {
    let most = limits::TRACES_LOOKED_AT_MAX;
    Fault::invalid(Code::BAD_FILTER, format!("this search has to look at more than {most} traces one by one"))
        .fix("narrow it: by time (`timestamp_ms > ...`), by status, or by the value of a tag")
}

/// Whether figures of this key are added up from spans: always until the trace was told as a whole with its own.
pub(crate) fn is_added_up(info: &TraceInfo, key: &str) -> bool {
    !(info.is_settled() && info.metadata.contains_key(key))
}

/// A trace with everything a search may look at. Spans and links are empty unless the search needs them.
pub(crate) struct Looked<'a> {
    pub info: &'a TraceInfo,
    pub runs: &'a [String],
    pub prompts: &'a [String],
    pub spans: &'a [Span],
}

/// What a search has to read beside the trace itself.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Needs {
    pub links: bool,
    pub spans: bool,
}

/// A filter ready to be asked.
pub(crate) struct Question<'f> {
    parts: Vec<&'f Filter>,
    patterns: HashMap<&'f str, Regex>,
    /// What it looks at.
    pub needs: Needs,
}

impl<'f> Question<'f> {
    /// Reads the regular expressions once. `parts` must all hold.
    pub(crate) fn new(parts: Vec<&'f Filter>) -> Result<Question<'f>> {
        let mut question = Question { parts: Vec::new(), patterns: HashMap::new(), needs: Needs::default() };
        for part in &parts {
            question.prepare(part)?;
        }
        question.parts = parts;
        Ok(question)
    }

    fn prepare(&mut self, filter: &'f Filter) -> Result<()> {
        match filter {
            Filter::All(parts) | Filter::Any(parts) => parts.iter().try_for_each(|part| self.prepare(part)),
            Filter::Not(part) => self.prepare(part),
            Filter::Test(test) => {
                match &test.field {
                    Field::Trace(TraceField::Span(_) | TraceField::SpanAttribute(_)) => self.needs.spans = true,
                    Field::Trace(TraceField::Run | TraceField::Prompt) => self.needs.links = true,
                    _ => {}
                }
                let Op::RLike(pattern) = &test.op else { return Ok(()) };
                if pattern.chars().count() > limits::PATTERN_CHARS_MAX {
                    return Err(Fault::invalid(
                        Code::BAD_FILTER,
                        format!("a regular expression has more than {} characters", limits::PATTERN_CHARS_MAX),
                    ));
                }
                let compiled = RegexBuilder::new(pattern).size_limit(PATTERN_BYTES_MAX).build().map_err(|e| {
                    Fault::invalid(Code::BAD_FILTER, format!("the regular expression `{}` cannot be used: {e}", pattern.escape_debug()))
                        .fix("look-around and back-references are not supported")
                })?;
                self.patterns.insert(pattern, compiled);
                Ok(())
            }
        }
    }

    /// Whether it holds for a trace.
    pub(crate) fn holds(&self, trace: &Looked<'_>) -> bool {
        self.all(self.parts.iter().copied(), trace)
    }

    /// Tests on spans that stand side by side are asked of one and the same span.
    fn all<'p>(&self, parts: impl Iterator<Item = &'p Filter>, trace: &Looked<'_>) -> bool {
        let (of_span, others): (Vec<&Filter>, Vec<&Filter>) = parts.partition(|part| is_of_span(part));
        let span_fits = |span: &Span| of_span.iter().all(|part| self.asks(part, &OfSpan(span)));
        others.into_iter().all(|part| self.one(part, trace)) && (of_span.is_empty() || trace.spans.iter().any(span_fits))
    }

    fn one(&self, filter: &Filter, trace: &Looked<'_>) -> bool {
        match filter {
            Filter::All(parts) => self.all(parts.iter(), trace),
            Filter::Any(parts) => parts.iter().any(|part| self.one(part, trace)),
            Filter::Not(part) => !self.one(part, trace),
            Filter::Test(_) if is_of_span(filter) => trace.spans.iter().any(|span| self.asks(filter, &OfSpan(span))),
            Filter::Test(_) => self.asks(filter, trace),
        }
    }

    fn asks(&self, filter: &Filter, thing: &dyn Fields) -> bool {
        match filter {
            Filter::Test(test) => match &test.op {
                Op::RLike(pattern) => {
                    let matches = |value: &Value| match (value, self.patterns.get(pattern.as_str())) {
                        (Value::Text(text), Some(pattern)) => pattern.is_match(text),
                        _ => false,
                    };
                    thing.values(&test.field).iter().any(matches)
                }
                _ => filter.holds(thing),
            },
            _ => filter.holds(thing),
        }
    }
}

fn is_of_span(filter: &Filter) -> bool {
    matches!(filter, Filter::Test(test) if matches!(test.field, Field::Trace(TraceField::Span(_) | TraceField::SpanAttribute(_))))
}

fn text(value: Option<&String>) -> Vec<Value> {
    value.map(|text| Value::Text(text.clone())).into_iter().collect()
}

fn number(value: i64) -> Vec<Value> {
    vec![Value::Number(value as f64)]
}

impl Fields for Looked<'_> {
    fn values(&self, field: &Field) -> Vec<Value> {
        let info = self.info;
        match field {
            Field::Attribute(name) => match name.as_str() {
                "request_id" => vec![Value::Text(info.id.to_string())],
                "experiment_id" => number(info.experiment.0 as i64),
                "timestamp_ms" => number(info.requested_at.millis()),
                "execution_time_ms" => info.took_ms.map(number).unwrap_or_default(),
                "end_time_ms" => number(info.ended_ms()),
                "status" => vec![Value::Text(info.state.as_str().into())],
                "client_request_id" => text(info.client_request.as_ref()),
                _ => Vec::new(),
            },
            Field::Tag(name) => text(info.tags.get(name)),
            Field::Trace(TraceField::Metadata(name)) => text(info.metadata.get(name)),
            Field::Trace(TraceField::Run) => {
                self.runs.iter().chain(info.metadata.get(key::RUN)).map(|run| Value::Text(run.clone())).collect()
            }
            Field::Trace(TraceField::Prompt) => self.prompts.iter().map(|prompt| Value::Text(prompt.clone())).collect(),
            Field::Trace(TraceField::Feedback(name)) => said(info, name, |said| matches!(said, Said::Feedback(..))),
            Field::Trace(TraceField::Expectation(name)) => said(info, name, |said| matches!(said, Said::Expectation(_))),
            Field::Trace(TraceField::Issue) => {
                let issues = info.assessments.iter().filter(|a| matches!(a.said, Said::Issue(_)));
                issues.map(|a| Value::Text(a.name.clone())).collect()
            }
            _ => Vec::new(),
        }
    }
}

/// A number is both itself and its text, so that it can be compared with either.
fn said(info: &TraceInfo, name: &str, kind: fn(&Said) -> bool) -> Vec<Value> {
    let values = |a: &Assessment| a.number().map(Value::Number).into_iter().chain([Value::Text(a.text())]).collect::<Vec<_>>();
    info.assessments.iter().filter(|a| a.valid && a.name == name && kind(&a.said)).flat_map(values).collect()
}

/// One span, as a thing of its own.
struct OfSpan<'a>(&'a Span);

impl Fields for OfSpan<'_> {
    fn values(&self, field: &Field) -> Vec<Value> {
        let span = self.0;
        match field {
            Field::Trace(TraceField::Span(name)) => match name.as_str() {
                "name" => vec![Value::Text(span.name.clone())],
                "type" => span.kind().map(Value::Text).into_iter().collect(),
                "status" => vec![Value::Text(span.status.as_str().into())],
                "content" => vec![Value::Text(content(span))],
                _ => Vec::new(),
            },
            // A text is compared as itself, anything else as its JSON.
            Field::Trace(TraceField::SpanAttribute(name)) => {
                let plain = |json: &str| serde_json::from_str::<String>(json).unwrap_or_else(|_| json.to_owned());
                span.attribute(name).map(|json| Value::Text(plain(json))).into_iter().collect()
            }
            _ => Vec::new(),
        }
    }
}

/// Everything in a span as text, for searches that look anywhere.
fn content(span: &Span) -> String {
    let mut text = span.name.clone();
    let mut add = |part: &str| {
        text.push('\n');
        text.push_str(part);
    };
    span.status_message.iter().for_each(|message| add(message));
    let pairs = |attributes: &[(String, String)]| attributes.iter().map(|(key, value)| format!("\"{key}\": {value}")).collect::<Vec<_>>();
    pairs(&span.attributes).iter().for_each(|pair| add(pair));
    for event in &span.events {
        add(&event.name);
        pairs(&event.attributes).iter().for_each(|pair| add(pair));
    }
    text
}

/// Gathers a page from things that come in order and are asked one by one.
pub(crate) struct Gather {
    offset: usize,
    limit: usize,
    looked_at: usize,
    /// How many held so far.
    pub held: usize,
}

impl Gather {
    pub(crate) fn new(search: &Search) -> Gather {
        Gather { offset: search.offset, limit: search.limit, looked_at: 0, held: 0 }
    }
    /// Counts one that was looked at; says whether it is on the page.
    pub(crate) fn takes(&mut self, holds: bool) -> Result<bool> {
        self.looked_at += 1;
        if self.looked_at > limits::TRACES_LOOKED_AT_MAX {
            return Err(too_much());
        }
        self.held += usize::from(holds);
        Ok(holds && self.held > self.offset && self.held <= self.offset.saturating_add(self.limit))
    }
    /// Whether the page is full and it is known that more follow.
    pub(crate) fn is_done(&self) -> bool {
        self.held > self.offset.saturating_add(self.limit)
    }
}

/// The order of two things by the first key that tells them apart. What is absent comes last, whichever the direction.
pub(crate) fn compare(order: &[OrderBy], a: &dyn Fields, b: &dyn Fields) -> Ordering {
    for by in order {
        let first = |thing: &dyn Fields| thing.values(&by.field).into_iter().next();
        let told = match (first(a), first(b)) {
            (None, None) => Ordering::Equal,
            (None, Some(_)) => return Ordering::Greater,
            (Some(_), None) => return Ordering::Less,
            (Some(a), Some(b)) => a.compare(&b).unwrap_or(Ordering::Equal),
        };
        let told = if by.ascending { told } else { told.reverse() };
        if told.is_ne() {
            return told;
        }
    }
    Ordering::Equal
}

/// A dataset as searches see it.
struct OfDataset<'a>(&'a EvaluationDataset);

impl Fields for OfDataset<'_> {
    fn values(&self, field: &Field) -> Vec<Value> {
        let dataset = self.0;
        match field {
            Field::Attribute(name) => match name.as_str() {
                "name" => vec![Value::Text(dataset.name.clone())],
                "created_time" => number(dataset.created_at.millis()),
                "last_update_time" => number(dataset.updated_at.millis()),
                "created_by" => text(dataset.created_by.as_ref()),
                "last_updated_by" => text(dataset.updated_by.as_ref()),
                _ => Vec::new(),
            },
            Field::Tag(name) => text(dataset.tags.get(name)),
            _ => Vec::new(),
        }
    }
}

/// The page of a search over all datasets.
pub(crate) fn page_of_datasets(mut all: Vec<EvaluationDataset>, search: &Search) -> Page<EvaluationDataset> {
    let named = |dataset: &EvaluationDataset| {
        search.experiments.is_empty() || dataset.experiments.iter().any(|experiment| search.experiments.contains(experiment))
    };
    all.retain(|dataset| named(dataset) && search.filter.holds(&OfDataset(dataset)));
    all.sort_by(|a, b| {
        compare(&search.order, &OfDataset(a), &OfDataset(b)).then(b.created_at.cmp(&a.created_at)).then_with(|| a.id.cmp(&b.id))
    });
    let more = all.len() > search.offset.saturating_add(search.limit);
    Page { items: all.into_iter().skip(search.offset).take(search.limit).collect(), more }
}
