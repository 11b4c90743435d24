//! Figures over traces, spans and assessments: how many, how long, how dear, how good, over time.
//!
//! The figures are computed from the traces of a search, at most [`TRACES_LOOKED_AT_MAX`] of them; narrow the time otherwise.

use super::super::error::invalid;
use super::super::request::{Ask, Double, EnumWord, Field, Int, Is, read};
use super::super::{Mlflow, filter as grammar, validate};
use super::any::Any;
use super::find::experiments;
use super::wire;
use gristmill_kernel::Result;
use gristmill_kernel::limits::{SEARCH_TRACES_MAX, TRACES_LOOKED_AT_MAX};
use gristmill_kernel::tracking::assessment::{Assessment, Said};
use gristmill_kernel::tracking::filter::{Field as Named, Filter, Op, Test, TraceField, Value as Wanted};
use gristmill_kernel::tracking::trace::{Span, TraceInfo, key, moment_of_ms};
use gristmill_kernel::tracking::{Search, ViewType};
use gristmill_web::{Call, Method, Permission, Response, Route, json};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Points in one answer.
const POINTS_MAX: usize = 1_000;
/// Attributes of a span that name its model and who runs it.
const MODEL: &str = "mlflow.llm.model";
const PROVIDER: &str = "mlflow.llm.provider";

pub(super) fn routes(m: &Arc<Mlflow>) -> Vec<Route> {
    super::super::v3(m, &Method::POST, "/mlflow/traces/metrics", Permission::ReadProject, figures).to_vec()
}

#[derive(Deserialize)]
struct FiguresAsk {
    experiment_ids: Vec<String>,
    view_type: EnumWord,
    metric_name: String,
    aggregations: Vec<AggregationAsk>,
    dimensions: Option<Vec<String>>,
    filters: Option<Vec<String>>,
    time_interval_seconds: Option<Int>,
    start_time_ms: Option<Int>,
    end_time_ms: Option<Int>,
    max_results: Option<Int>,
}
impl Ask for FiguresAsk {
    const FIELDS: &'static [Field] = &[
        Field::new("experiment_ids", Is::Texts).required(),
        Field::new("view_type", Is::Word).required(),
        Field::text("metric_name").required(),
        Field::new(
            "aggregations",
            Is::Items(&[Field::new("aggregation_type", Is::Word).required(), Field::new("percentile_value", Is::Float)]),
        )
        .required(),
        Field::new("dimensions", Is::Texts),
        Field::new("filters", Is::Texts),
        Field::new("time_interval_seconds", Is::Int),
        Field::new("start_time_ms", Is::Int),
        Field::new("end_time_ms", Is::Int),
        Field::new("max_results", Is::Int),
    ];
}

#[derive(Deserialize)]
struct AggregationAsk {
    aggregation_type: EnumWord,
    percentile_value: Option<Double>,
}

/// What is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum View {
    Traces,
    Spans,
    Assessments,
}

/// How values become one.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Aggregation {
    Count,
    Sum,
    Average,
    Percentile(f64),
    Least,
    Greatest,
}

/// A figure and what may be asked of it.
struct Figure {
    view: View,
    name: &'static str,
    aggregations: &'static str,
    dimensions: &'static [&'static str],
}

/// Aggregations of counts, of lengths and values, of sums.
const COUNTED: &str = "COUNT";
const MEASURED: &str = "AVG MIN MAX PERCENTILE";
const SUMMED: &str = "SUM AVG MIN MAX PERCENTILE";
const OF_MODEL: &[&str] = &["span_model_name", "span_model_provider"];

/// Every figure there is.
const FIGURES: &[Figure] = &[
    Figure { view: View::Traces, name: "trace_count", aggregations: COUNTED, dimensions: &["trace_name", "trace_status"] },
    Figure { view: View::Traces, name: "session_count", aggregations: COUNTED, dimensions: &[] },
    Figure { view: View::Traces, name: "latency", aggregations: MEASURED, dimensions: &["trace_name"] },
    Figure { view: View::Traces, name: "input_tokens", aggregations: SUMMED, dimensions: &["trace_name"] },
    Figure { view: View::Traces, name: "output_tokens", aggregations: SUMMED, dimensions: &["trace_name"] },
    Figure { view: View::Traces, name: "total_tokens", aggregations: SUMMED, dimensions: &["trace_name"] },
    Figure { view: View::Traces, name: "cache_read_input_tokens", aggregations: SUMMED, dimensions: &["trace_name"] },
    Figure { view: View::Traces, name: "cache_creation_input_tokens", aggregations: SUMMED, dimensions: &["trace_name"] },
    Figure {
        view: View::Spans,
        name: "span_count",
        aggregations: COUNTED,
        dimensions: &["span_name", "span_type", "span_status", "span_model_name", "span_model_provider"],
    },
    Figure { view: View::Spans, name: "latency", aggregations: MEASURED, dimensions: &["span_name", "span_status"] },
    Figure { view: View::Spans, name: "input_cost", aggregations: SUMMED, dimensions: OF_MODEL },
    Figure { view: View::Spans, name: "output_cost", aggregations: SUMMED, dimensions: OF_MODEL },
    Figure { view: View::Spans, name: "total_cost", aggregations: SUMMED, dimensions: OF_MODEL },
    Figure {
        view: View::Assessments,
        name: "assessment_count",
        aggregations: COUNTED,
        dimensions: &["assessment_name", "assessment_value"],
    },
    Figure { view: View::Assessments, name: "assessment_value", aggregations: MEASURED, dimensions: &["assessment_name"] },
];

/// What is asked, checked.
struct Question {
    figure: &'static Figure,
    aggregations: Vec<(String, Aggregation)>,
    dimensions: Vec<String>,
    /// Milliseconds of one interval.
    interval_ms: Option<i64>,
    /// Of spans or assessments: field and value.
    wanted: Vec<(String, String)>,
}

/// One value that is counted or measured.
struct Measured {
    at_ms: i64,
    dimensions: Vec<Option<String>>,
    value: Option<f64>,
    /// What is counted once.
    identity: Option<String>,
}

async fn figures(m: Arc<Mlflow>, call: Call) -> Result<Response> {
    let ask: FiguresAsk = read(call).await?;
    let most = match ask.max_results {
        Some(_) => validate::max_results(ask.max_results, POINTS_MAX)?,
        None => POINTS_MAX,
    };
    let (question, mut filter) = question(&ask)?;
    let bounds = [(ask.start_time_ms, true), (ask.end_time_ms, false)];
    filter.extend(bounds.into_iter().filter_map(|(bound, from)| bound.map(|Int(ms)| since(ms, from))));
    let mut search = Search {
        experiments: experiments(&ask.experiment_ids)?,
        view: ViewType::ActiveOnly,
        filter: Filter::All(filter),
        order: Vec::new(),
        limit: SEARCH_TRACES_MAX,
        offset: 0,
    };
    let mut sums = Sums::default();
    loop {
        let page = m.traces.search_traces(&search).await?;
        let ids: Vec<_> = page.items.iter().map(|info| info.id.clone()).collect();
        let spans = if question.figure.view == View::Spans { m.traces.spans(&ids).await? } else { BTreeMap::new() };
        for info in &page.items {
            let spans = spans.get(&info.id).map_or(&[][..], Vec::as_slice);
            values(&question, info, spans).into_iter().for_each(|value| sums.add(&question, value));
        }
        search.offset += page.items.len();
        if !page.more {
            break;
        }
        if search.offset >= TRACES_LOOKED_AT_MAX {
            return Err(invalid(format!("these figures are over more than {TRACES_LOOKED_AT_MAX} traces"))
                .fix("narrow them by start_time_ms and end_time_ms"));
        }
    }
    json(&super::listed("data_points", sums.shown(&question, most)))
}

fn since(ms: i64, from: bool) -> Filter {
    let bound = Wanted::Number(ms as f64);
    let op = if from { Op::GreaterOrEqual(bound) } else { Op::LessOrEqual(bound) };
    Filter::Test(Test { field: Named::Attribute("timestamp_ms".into()), op, or_absent: false })
}

/// Checks what is asked; the second is what the traces must fulfil.
fn question(ask: &FiguresAsk) -> Result<(Question, Vec<Filter>)> {
    let view = match ask.view_type.0.as_str() {
        "TRACES" | "1" => View::Traces,
        "SPANS" | "2" => View::Spans,
        "ASSESSMENTS" | "3" => View::Assessments,
        _ => return Err(validate::bad_word("view_type", Some(&ask.view_type))),
    };
    let figure = FIGURES.iter().find(|figure| figure.view == view && figure.name == ask.metric_name);
    let figure = figure.ok_or_else(|| {
        let names: Vec<&str> = FIGURES.iter().filter(|figure| figure.view == view).map(|figure| figure.name).collect();
        invalid(format!("metric_name must be one of {}, got '{}'", names.join(", "), ask.metric_name))
    })?;
    let aggregations = ask.aggregations.iter().map(|one| aggregation(figure, one)).collect::<Result<Vec<_>>>()?;
    let dimensions = ask.dimensions.clone().unwrap_or_default();
    if let Some(unknown) = dimensions.iter().find(|name| !figure.dimensions.contains(&name.as_str())) {
        return Err(invalid(format!("dimension '{unknown}' is not one of [{}]", figure.dimensions.join(", "))));
    }
    let interval_ms = match ask.time_interval_seconds {
        Some(Int(seconds)) if seconds > 0 => seconds.checked_mul(1_000),
        _ => None,
    };
    if interval_ms.is_some() && (ask.start_time_ms.is_none() || ask.end_time_ms.is_none()) {
        return Err(invalid("start_time_ms and end_time_ms are required if time_interval_seconds is set"));
    }
    let (mut traces, mut wanted) = (Vec::new(), Vec::new());
    for text in ask.filters.iter().flatten() {
        condition(text, view, &mut traces, &mut wanted)?;
    }
    Ok((Question { figure, aggregations, dimensions, interval_ms, wanted }, traces))
}

fn aggregation(figure: &Figure, ask: &AggregationAsk) -> Result<(String, Aggregation)> {
    let word = ask.aggregation_type.0.as_str();
    let percentile = || match ask.percentile_value {
        Some(Double(value)) if (0.0..=100.0).contains(&value) => Ok(value),
        Some(Double(value)) => Err(invalid(format!("Percentile value must be between 0 and 100, got {value}"))),
        None => Err(invalid("Percentile value is required for PERCENTILE aggregation")),
    };
    let (name, aggregation) = match word {
        "COUNT" | "1" => ("COUNT", Aggregation::Count),
        "SUM" | "2" => ("SUM", Aggregation::Sum),
        "AVG" | "3" => ("AVG", Aggregation::Average),
        "PERCENTILE" | "4" => ("PERCENTILE", Aggregation::Percentile(percentile()?)),
        "MIN" | "5" => ("MIN", Aggregation::Least),
        "MAX" | "6" => ("MAX", Aggregation::Greatest),
        _ => return Err(validate::bad_word("aggregation_type", Some(&ask.aggregation_type))),
    };
    if !figure.aggregations.split(' ').any(|known| known == name) {
        return Err(invalid(format!("aggregation '{name}' of {} is not one of [{}]", figure.name, figure.aggregations.replace(' ', ", "))));
    }
    let label = match aggregation {
        Aggregation::Percentile(value) => format!("P{value:?}"),
        _ => name.to_owned(),
    };
    Ok((label, aggregation))
}

/// One filter of figures: `trace.status = 'OK'`, `trace.tag.x = 'y'`, `span.type = 'LLM'`, `assessment.name = 'quality'`.
fn condition(text: &str, view: View, traces: &mut Vec<Filter>, wanted: &mut Vec<(String, String)>) -> Result<()> {
    let clause = std::cell::RefCell::new(None);
    grammar::parse(text, &|one| {
        *clause.borrow_mut() = Some(one);
        Ok(Filter::Test(Test { field: Named::Attribute(String::new()), op: Op::IsNull, or_absent: false }))
    })?;
    let one = clause.into_inner().ok_or_else(|| invalid(format!("Invalid filter: '{text}'. Expected one filter clause.")))?;
    if one.comparator != "=" {
        return Err(invalid(format!("Invalid comparator: '{}', only '=' operator is supported", one.comparator)));
    }
    let value = match one.values.as_slice() {
        [grammar::Literal::Text(value)] => value.clone(),
        _ => return Err(invalid(format!("Expected a quoted string value for {} value (e.g. 'my-value').", one.key))),
    };
    match (one.entity.as_deref(), one.key.split_once('.').unwrap_or((&one.key, ""))) {
        (Some("trace"), ("tag", name)) if !name.is_empty() => traces.push(is(Named::Tag(name.into()), value)),
        (Some("trace"), ("metadata", key::RUN)) => traces.push(is(Named::Trace(TraceField::Run), value)),
        (Some("trace"), ("metadata", name)) if !name.is_empty() => {
            traces.push(is(Named::Trace(TraceField::Metadata(name.into())), value));
        }
        (Some("trace"), ("status", "")) => traces.push(is(Named::Attribute("status".into()), value)),
        (Some("span"), (field @ ("name" | "status" | "type"), "")) if view == View::Spans => wanted.push((field.to_owned(), value)),
        (Some("assessment"), (field @ ("name" | "type"), "")) if view == View::Assessments => wanted.push((field.to_owned(), value)),
        _ => {
            let message =
                format!("Invalid filter: '{text}'. Columns should be specified as 'trace.<key>', 'span.<key>', 'assessment.<key>'.");
            return Err(invalid(message));
        }
    }
    Ok(())
}

fn is(field: Named, value: String) -> Filter {
    Filter::Test(Test { field, op: Op::Equal(Wanted::Text(value)), or_absent: false })
}

/// The values that a trace contributes.
fn values(question: &Question, info: &TraceInfo, spans: &[Span]) -> Vec<Measured> {
    match question.figure.view {
        View::Traces => of_trace(question, info).into_iter().collect(),
        View::Spans => spans.iter().filter_map(|span| of_span(question, span)).collect(),
        View::Assessments => of_assessments(question, info),
    }
}

fn of_trace(question: &Question, info: &TraceInfo) -> Option<Measured> {
    let of = |name: &String| match name.as_str() {
        "trace_name" => info.tags.get(key::NAME).cloned(),
        _ => Some(info.state.as_str().to_owned()),
    };
    let session = info.metadata.get(key::SESSION).cloned();
    let value = match question.figure.name {
        "trace_count" => Some(1.0),
        "session_count" => session.as_ref().map(|_| 1.0),
        "latency" => info.took_ms.map(|ms| ms as f64),
        tokens => figure_in(info.metadata.get(key::USAGE).map(String::as_str), tokens),
    };
    Some(Measured {
        at_ms: info.requested_at.millis(),
        dimensions: question.dimensions.iter().map(of).collect(),
        value,
        identity: session.filter(|_| question.figure.name == "session_count"),
    })
}

/// A figure in an object that is JSON text.
fn figure_in(text: Option<&str>, name: &str) -> Option<f64> {
    match Any::of_json(text?).get(name)? {
        Any::Int(value) => Some(*value as f64),
        Any::Float(value) => Some(*value).filter(|value| value.is_finite()),
        _ => None,
    }
}

fn of_span(question: &Question, span: &Span) -> Option<Measured> {
    let text = |name: &str| span.attribute(name).map(Any::of_json).and_then(|value| value.as_text().map(str::to_owned));
    let of = |name: &str| match name {
        "name" | "span_name" => Some(span.name.clone()),
        "type" | "span_type" => span.kind(),
        "status" | "span_status" => Some(span.status.as_str().to_owned()),
        "span_model_name" => text(MODEL),
        _ => text(PROVIDER),
    };
    if question.wanted.iter().any(|(field, value)| of(field).as_ref() != Some(value)) {
        return None;
    }
    let value = match question.figure.name {
        "span_count" => Some(1.0),
        "latency" => span.ended_ns.map(|ended| ended.saturating_sub(span.started_ns).div_euclid(1_000_000) as f64),
        cost => figure_in(span.attribute(key::SPAN_COST), cost),
    };
    let dimensions = question.dimensions.iter().map(|name| of(name)).collect();
    Some(Measured { at_ms: span.started_ms(), dimensions, value, identity: None })
}

fn of_assessments(question: &Question, info: &TraceInfo) -> Vec<Measured> {
    let fits = |field: &str, value: &str, one: &Assessment| match field {
        "name" => one.name == value,
        _ => one.said.kind() == value,
    };
    let valid = info.assessments.iter().filter(|one| one.valid);
    let wanted = valid.filter(|one| question.wanted.iter().all(|(field, value)| fits(field, value, one)));
    let of = |one: &Assessment, name: &String| match (name.as_str(), &one.said) {
        ("assessment_name", _) => Some(one.name.clone()),
        (_, Said::Feedback(value, _) | Said::Expectation(value)) => Some(value.to_string()),
        (_, Said::Issue(name)) => Some(json!({ "issue_name": name }).to_string()),
    };
    wanted
        .map(|one| Measured {
            at_ms: info.requested_at.millis(),
            dimensions: question.dimensions.iter().map(|name| of(one, name)).collect(),
            value: if question.figure.name == "assessment_count" { Some(1.0) } else { worth(&one.said) },
            identity: None,
        })
        .collect()
}

/// An assessment as a number: yes and true are 1, no and false are 0.
fn worth(said: &Said) -> Option<f64> {
    let (Said::Feedback(value, _) | Said::Expectation(value)) = said else { return None };
    match value {
        Value::Bool(value) => Some(f64::from(u8::from(*value))),
        Value::String(text) => match text.trim().to_ascii_lowercase().as_str() {
            "yes" => Some(1.0),
            "no" => Some(0.0),
            _ => None,
        },
        value => value.as_f64(),
    }
}

/// Values by interval and dimensions.
#[derive(Default)]
struct Sums(BTreeMap<(i64, Vec<Option<String>>), Group>);

#[derive(Default)]
struct Group {
    values: Vec<f64>,
    identities: BTreeSet<String>,
}

impl Sums {
    fn add(&mut self, question: &Question, one: Measured) {
        let interval = question.interval_ms.map_or(0, |ms| one.at_ms.div_euclid(ms) * ms);
        let group = self.0.entry((interval, one.dimensions)).or_default();
        group.values.extend(one.value);
        group.identities.extend(one.identity);
    }

    fn shown(mut self, question: &Question, most: usize) -> Vec<Value> {
        // Without a dimension there is always a point, over nothing too.
        if self.0.is_empty() && question.dimensions.is_empty() && question.interval_ms.is_none() {
            self.0.insert((0, Vec::new()), Group::default());
        }
        let point = |((interval, dimensions), mut group): ((i64, Vec<Option<String>>), Group)| {
            group.values.sort_by(f64::total_cmp);
            let figure =
                |(label, how): &(String, Aggregation)| aggregate(*how, &group, question).map(|value| (label.clone(), value.into()));
            let values: Map<String, Value> = question.aggregations.iter().filter_map(figure).collect();
            // A point without a value, or with a dimension that is not there, is not shown.
            let mut named = Map::new();
            for (name, value) in question.dimensions.iter().zip(dimensions) {
                named.insert(name.clone(), value?.into());
            }
            if question.interval_ms.is_some() {
                let begin = wire::moment(moment_of_ms(interval)).replace('Z', "+00:00");
                named.insert("time_bucket".into(), begin.into());
            }
            let mut out = json!({ "metric_name": question.figure.name, "values": &values });
            if !named.is_empty() {
                out["dimensions"] = named.into();
            }
            (!values.is_empty()).then_some(out)
        };
        self.0.into_iter().filter_map(point).take(most).collect()
    }
}

/// One figure of sorted values; nothing where there are none.
fn aggregate(aggregation: Aggregation, group: &Group, question: &Question) -> Option<f64> {
    let values = &group.values;
    let last = values.len().checked_sub(1);
    match aggregation {
        Aggregation::Count if question.figure.name == "session_count" => Some(group.identities.len() as f64),
        Aggregation::Count => Some(values.len() as f64),
        Aggregation::Sum => last.map(|_| values.iter().sum()),
        Aggregation::Average => last.map(|last| values.iter().sum::<f64>() / (last + 1) as f64),
        Aggregation::Least => values.first().copied(),
        Aggregation::Greatest => values.last().copied(),
        Aggregation::Percentile(percentile) => {
            // Between two values, in proportion.
            let place = percentile / 100.0 * last? as f64;
            let (below, above) = (values.get(place.floor() as usize)?, values.get(place.ceil() as usize)?);
            Some(below + (above - below) * place.fract())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(value: Value) -> FiguresAsk {
        serde_json::from_value(value).expect("a question")
    }
    fn latency(aggregations: Value) -> FiguresAsk {
        ask(json!({"experiment_ids": ["1"], "view_type": "TRACES", "metric_name": "latency", "aggregations": aggregations}))
    }

    #[test]
    fn values_become_figures() {
        let aggregations = json!([
            {"aggregation_type": "AVG"}, {"aggregation_type": "MIN"}, {"aggregation_type": "MAX"},
            {"aggregation_type": "PERCENTILE", "percentile_value": 50}, {"aggregation_type": "PERCENTILE", "percentile_value": 75}
        ]);
        let (question, _) = question(&latency(aggregations)).expect("fits");
        let mut sums = Sums::default();
        for value in [4.0, 1.0, 3.0, 2.0] {
            sums.add(&question, Measured { at_ms: 5, dimensions: vec![], value: Some(value), identity: None });
        }
        sums.add(&question, Measured { at_ms: 5, dimensions: vec![], value: None, identity: None });
        let shown = sums.shown(&question, 10);
        assert_eq!(shown.len(), 1);
        assert_eq!(shown[0]["values"], json!({"AVG": 2.5, "MIN": 1.0, "MAX": 4.0, "P50.0": 2.5, "P75.0": 3.25}));
    }

    #[test]
    fn questions_that_make_no_sense_are_refused() {
        for (value, why) in [
            (json!({"view_type": "PEOPLE"}), "view_type"),
            (json!({"metric_name": "speed"}), "metric_name must be one of"),
            (json!({"aggregations": [{"aggregation_type": "COUNT"}]}), "aggregation 'COUNT' of latency"),
            (json!({"aggregations": [{"aggregation_type": "PERCENTILE"}]}), "Percentile value is required"),
            (json!({"aggregations": [{"aggregation_type": "PERCENTILE", "percentile_value": 101}]}), "between 0 and 100"),
            (json!({"dimensions": ["span_name"]}), "dimension 'span_name'"),
            (json!({"time_interval_seconds": 60}), "start_time_ms and end_time_ms are required"),
            (json!({"filters": ["span.name = 'x'"]}), "Invalid filter"),
            (json!({"filters": ["trace.status != 'x'"]}), "Invalid comparator"),
            (json!({"filters": ["trace.tag = 'x'"]}), "Invalid filter"),
            (json!({"filters": [""]}), "Expected one filter clause"),
        ] {
            let mut asked = json!({"experiment_ids": ["1"], "view_type": "TRACES", "metric_name": "latency", "aggregations": [{"aggregation_type": "AVG"}]});
            asked.as_object_mut().expect("an object").extend(value.as_object().cloned().expect("an object"));
            let message = question(&ask(asked)).map(drop).expect_err(why).message;
            assert!(message.contains(why), "{message}");
        }
        let mut fine = latency(json!([{"aggregation_type": "AVG"}]));
        fine.filters = Some(vec!["trace.tag.team = 'it''s'".into(), "trace.metadata.`a b` = 'x'".into(), "trace.status = 'OK'".into()]);
        assert_eq!(question(&fine).expect("fits").1.len(), 3);
    }

    #[test]
    fn words_have_a_worth() {
        let worth_of = |value: Value| worth(&Said::Feedback(value, None));
        for (value, wanted) in
            [(json!(true), Some(1.0)), (json!("No "), Some(0.0)), (json!(0.5), Some(0.5)), (json!("maybe"), None), (Value::Null, None)]
        {
            assert_eq!(worth_of(value), wanted);
        }
    }
}
