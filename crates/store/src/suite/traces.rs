//! What every `Traces` and every `EvaluationDatasets` promises. Both ports are one implementation.

use gristmill_kernel::port::{EvaluationDatasets, Traces};
use gristmill_kernel::tracking::assessment::{Assessment, AssessmentError, AssessmentUpdate, Said, SourceKind};
use gristmill_kernel::tracking::evaluation::{EvaluationDataset, GivenRecord, RecordSource};
use gristmill_kernel::tracking::filter::{Field, Filter, Op, OrderBy, Test, TraceField, Value};
use gristmill_kernel::tracking::trace::{
    Span, SpanBatch, SpanEvent, SpanLink, SpanStatus, TraceEnd, TraceId, TraceInfo, TraceState, TracesToDelete, key, moment_of_ms,
};
use gristmill_kernel::tracking::{ExperimentId, Search, ViewType};
use gristmill_kernel::{Actor, Code, Kind, RunId, Timestamp};
use serde_json::json;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Runs every case.
pub async fn run<S, F>(make: impl Fn() -> F)
where
    S: Traces + EvaluationDatasets + 'static,
    F: Future<Output = Arc<S>>,
{
    told_in_any_order(&*make().await).await;
    spans_come_back_whole(&*make().await).await;
    figures_are_added_up_once(&*make().await).await;
    begun_and_ended(&*make().await).await;
    tags(&*make().await).await;
    searches(&*make().await).await;
    searches_of_what_hangs_on_traces(&*make().await).await;
    pages_and_orders(&*make().await).await;
    deleting(&*make().await).await;
    assessments(&*make().await).await;
    datasets(&*make().await).await;
    records(&*make().await).await;
}

fn id(text: &str) -> TraceId {
    TraceId::new(text).expect("an id")
}
fn ms(millis: i64) -> Timestamp {
    moment_of_ms(millis)
}
fn words(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
}

/// A trace told as a whole.
pub fn trace(name: &str, experiment: u64, requested_ms: i64) -> TraceInfo {
    TraceInfo {
        id: id(name),
        experiment: ExperimentId(experiment),
        requested_at: ms(requested_ms),
        took_ms: Some(10),
        state: TraceState::Ok,
        client_request: None,
        request_preview: None,
        response_preview: None,
        metadata: words(&[(key::SETTLED, "true")]),
        tags: words(&[(key::NAME, name)]),
        assessments: vec![],
    }
}

/// A span with nothing but its place and its attributes.
pub fn span(name: &str, parent: Option<&str>, from_ms: i64, to_ms: i64, attributes: &[(&str, &str)]) -> Span {
    Span {
        id: name.into(),
        parent: parent.map(str::to_owned),
        name: name.into(),
        started_ns: from_ms * 1_000_000 + 1,
        ended_ns: Some(to_ms * 1_000_000 + 2),
        status: SpanStatus::Ok,
        status_message: None,
        attributes: attributes.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(),
        events: vec![],
        links: vec![],
    }
}

/// Spans of one trace of experiment 1.
pub fn batch(name: &str, spans: Vec<Span>) -> SpanBatch {
    SpanBatch {
        trace: id(name),
        experiment: ExperimentId(1),
        first_tags: words(&[(key::ARTIFACTS_AT, "there")]),
        tags: BTreeMap::new(),
        metadata: BTreeMap::new(),
        request_preview: None,
        response_preview: None,
        spans,
    }
}

async fn get(store: &dyn Traces, name: &str) -> TraceInfo {
    store.traces(&[id(name)], None).await.expect("read").pop().expect("is there")
}

async fn told_in_any_order(store: &dyn Traces) {
    let (root, child) = (span("a", None, 10, 40, &[]), span("b", Some("a"), 20, 30, &[]));
    let mut whole = trace("tr-1", 1, 10);
    (whole.took_ms, whole.request_preview) = (Some(30), Some("hello".into()));
    // Spans, then the whole; the whole, then spans; each twice.
    for (name, spans_first) in [("tr-1", true), ("tr-2", false)] {
        let told = TraceInfo { id: id(name), ..whole.clone() };
        for _ in 0..2 {
            if !spans_first {
                store.put_trace(told.clone()).await.expect("put");
            }
            store.log_spans(vec![batch(name, vec![child.clone()])]).await.expect("spans");
            store.log_spans(vec![batch(name, vec![root.clone()])]).await.expect("spans");
            if spans_first {
                store.put_trace(told.clone()).await.expect("put");
            }
        }
        let known = get(store, name).await;
        assert_eq!((known.requested_at, known.took_ms, known.state), (ms(10), Some(30), TraceState::Ok));
        assert_eq!(known.request_preview.as_deref(), Some("hello"));
        assert_eq!(known.tags[key::SPANS_AT], key::IN_STORE);
        assert_eq!(known.tags[key::NAME], "tr-1");
        let spans = store.spans(&[id(name)]).await.expect("spans");
        assert_eq!(spans[&id(name)], [root.clone(), child.clone()]);
    }
    // A batch for several traces, the second of which is new.
    let both = vec![batch("tr-1", vec![span("c", Some("a"), 21, 22, &[])]), batch("tr-3", vec![span("c", Some("gone"), 5, 6, &[])])];
    store.log_spans(both).await.expect("two traces");
    let made = get(store, "tr-3").await;
    assert_eq!((made.state, made.took_ms, made.tags[key::ARTIFACTS_AT].as_str()), (TraceState::InProgress, Some(1), "there"));
    assert_eq!(store.spans(&[id("tr-1")]).await.expect("spans")[&id("tr-1")].len(), 3);
    // Several at once: in the order asked, each once, unknown and foreign ones left out.
    store.put_trace(trace("tr-4", 7, 1)).await.expect("put");
    let asked = [id("tr-4"), id("tr-0"), id("tr-2"), id("tr-4"), id("tr-1")];
    let names = |infos: Vec<TraceInfo>| infos.into_iter().map(|info| info.id.to_string()).collect::<Vec<_>>();
    assert_eq!(names(store.traces(&asked, None).await.expect("many")), ["tr-4", "tr-2", "tr-1"]);
    assert_eq!(names(store.traces(&asked, Some(&[ExperimentId(1)])).await.expect("many")), ["tr-2", "tr-1"]);
    assert!(store.traces(&asked, Some(&[])).await.expect("none").is_empty());
}

async fn spans_come_back_whole(store: &dyn Traces) {
    let mut one = span("0123456789abcdef", None, 10, 11, &[("b", "1.0"), ("a", r#"{"z": [1, null], "y": "é\n"}"#)]);
    one.ended_ns = None;
    (one.status, one.status_message) = (SpanStatus::Error, Some("boom".into()));
    one.events = vec![SpanEvent { name: "exception".into(), at_ns: 12, attributes: vec![("t".into(), "\"E\"".into())] }];
    one.links = vec![SpanLink { trace: "f".repeat(32), span: "1".repeat(16), attributes: vec![] }];
    store.log_spans(vec![batch("tr-1", vec![span("0123456789abcdef", None, 1, 2, &[]), one.clone()])]).await.expect("spans");
    assert_eq!(store.spans(&[id("tr-1"), id("tr-0")]).await.expect("spans"), [(id("tr-1"), vec![one])].into(), "the later one stands");
    assert_eq!(get(store, "tr-1").await.state, TraceState::Ok, "of two roots the first one speaks");
    let many: Vec<Span> = (0..1_000).map(|n| span(&format!("{n:016x}"), Some("x"), n, n + 1, &[])).collect();
    store.log_spans(vec![batch("tr-2", many.clone())]).await.expect("many");
    assert_eq!(store.spans(&[id("tr-2")]).await.expect("spans")[&id("tr-2")], many);
}

async fn figures_are_added_up_once(store: &dyn Traces) {
    let used = [(key::SPAN_USAGE, r#"{"input_tokens": 1, "output_tokens": 2, "total_tokens": 3}"#)];
    let cost = [(key::SPAN_COST, r#"{"input_cost": 0.5, "output_cost": 0.25, "total_cost": 0.75}"#)];
    for _ in 0..2 {
        store.log_spans(vec![batch("tr-1", vec![span("b", Some("a"), 2, 3, &used)])]).await.expect("spans");
        store
            .log_spans(vec![batch("tr-1", vec![span("c", Some("a"), 2, 3, &used), span("d", Some("a"), 2, 3, &cost)])])
            .await
            .expect("spans");
    }
    let info = get(store, "tr-1").await;
    assert_eq!(info.metadata[key::USAGE], r#"{"input_tokens": 2, "output_tokens": 4, "total_tokens": 6}"#);
    assert_eq!(info.metadata[key::COST], cost[0].1);
    // The parent brings the sum of its children.
    let sum = [(key::SPAN_USAGE, r#"{"input_tokens": 2, "output_tokens": 4, "total_tokens": 6}"#)];
    store.log_spans(vec![batch("tr-1", vec![span("a", None, 1, 4, &sum)])]).await.expect("spans");
    assert_eq!(get(store, "tr-1").await.metadata[key::USAGE], sum[0].1);
    // A trace that was told with its own figures keeps them.
    let mut told = trace("tr-1", 1, 1);
    told.metadata.insert(key::USAGE.into(), "{}".into());
    store.put_trace(told).await.expect("put");
    store.log_spans(vec![batch("tr-1", vec![span("e", Some("a"), 2, 3, &used)])]).await.expect("spans");
    assert_eq!(get(store, "tr-1").await.metadata[key::USAGE], "{}");
}

async fn begun_and_ended(store: &dyn Traces) {
    let mut begun = trace("0123", 1, 100);
    (begun.state, begun.took_ms, begun.metadata) = (TraceState::InProgress, None, words(&[("a", "1")]));
    store.put_trace(begun).await.expect("begin");
    let end = TraceEnd { at: ms(150), state: TraceState::Error, metadata: words(&[("b", "2")]), tags: words(&[("t", "x")]) };
    let ended = store.end_trace(&id("0123"), end.clone()).await.expect("end");
    assert_eq!((ended.took_ms, ended.state), (Some(50), TraceState::Error));
    assert_eq!(ended.metadata, words(&[("a", "1"), ("b", "2")]));
    assert_eq!(ended.tags["t"], "x");
    assert_eq!(get(store, "0123").await, ended);
    let fault = store.end_trace(&id("4567"), end).await.expect_err("unknown");
    assert_eq!((fault.kind, fault.code), (Kind::NotFound, Code::UNKNOWN_TRACE));
}

async fn tags(store: &dyn Traces) {
    store.put_trace(trace("tr-1", 1, 1)).await.expect("put");
    store.set_trace_tag(&id("tr-1"), "a", Some("1")).await.expect("set");
    store.set_trace_tag(&id("tr-1"), "a", Some("2")).await.expect("set again");
    assert_eq!(get(store, "tr-1").await.tags["a"], "2");
    store.set_trace_tag(&id("tr-1"), "a", None).await.expect("remove");
    assert!(!get(store, "tr-1").await.tags.contains_key("a"));
    assert_eq!(store.set_trace_tag(&id("tr-1"), "a", None).await.expect_err("gone").code, Code::UNKNOWN_TAG);
    assert_eq!(store.set_trace_tag(&id("tr-0"), "a", Some("1")).await.expect_err("unknown").code, Code::UNKNOWN_TRACE);
}

fn search(filter: Filter) -> Search {
    Search { experiments: vec![ExperimentId(1)], view: ViewType::ActiveOnly, filter, order: vec![], limit: 100, offset: 0 }
}
fn test(field: Field, op: Op) -> Filter {
    Filter::Test(Test { field, op, or_absent: false })
}
fn attribute(name: &str) -> Field {
    Field::Attribute(name.into())
}
fn text(value: &str) -> Value {
    Value::Text(value.into())
}
fn number(value: f64) -> Value {
    Value::Number(value)
}

async fn found(store: &dyn Traces, filter: Filter) -> Vec<String> {
    let search = search(filter);
    let page = store.search_traces(&search).await.expect("search");
    assert!(!page.more);
    assert_eq!(store.count_traces(&search).await.expect("count"), page.items.len() as u64);
    page.items.into_iter().map(|info| info.id.to_string()).collect()
}

async fn searches(store: &dyn Traces) {
    for n in 1..=4 {
        let mut info = trace(&format!("tr-{n}"), 1, n * 100);
        info.took_ms = (n != 4).then_some(n * 10);
        info.state = if n == 2 { TraceState::Error } else { TraceState::Ok };
        info.client_request = (n == 3).then(|| "req".into());
        info.tags.insert("team".into(), if n % 2 == 0 { "blue" } else { "Red" }.into());
        if n == 1 {
            info.tags.insert("only".into(), "here".into());
            info.metadata.insert("model".into(), "gpt".into());
        }
        store.put_trace(info).await.expect("put");
    }
    store.put_trace(trace("tr-9", 2, 1)).await.expect("another experiment");
    let tag = |name: &str| Field::Tag(name.into());
    let metadata = |name: &str| Field::Trace(TraceField::Metadata(name.into()));
    for (filter, wanted) in [
        (Filter::default(), vec!["tr-4", "tr-3", "tr-2", "tr-1"]),
        (test(attribute("status"), Op::Equal(text("ERROR"))), vec!["tr-2"]),
        (test(attribute("status"), Op::NotEqual(text("ERROR"))), vec!["tr-4", "tr-3", "tr-1"]),
        (test(attribute("status"), Op::In(vec![text("ERROR"), text("X")])), vec!["tr-2"]),
        (test(attribute("status"), Op::NotIn(vec![text("ERROR")])), vec!["tr-4", "tr-3", "tr-1"]),
        (test(attribute("status"), Op::ILike("err%".into())), vec!["tr-2"]),
        (test(attribute("status"), Op::Like("err%".into())), vec![]),
        (test(attribute("timestamp_ms"), Op::Greater(number(200.0))), vec!["tr-4", "tr-3"]),
        (test(attribute("timestamp_ms"), Op::GreaterOrEqual(number(200.0))), vec!["tr-4", "tr-3", "tr-2"]),
        (test(attribute("timestamp_ms"), Op::Less(number(200.0))), vec!["tr-1"]),
        (test(attribute("timestamp_ms"), Op::LessOrEqual(number(200.0))), vec!["tr-2", "tr-1"]),
        (test(attribute("timestamp_ms"), Op::Equal(number(300.0))), vec!["tr-3"]),
        (test(attribute("timestamp_ms"), Op::Greater(number(199.5))), vec!["tr-4", "tr-3", "tr-2"]),
        (test(attribute("timestamp_ms"), Op::Between(number(200.0), number(300.0))), vec!["tr-3", "tr-2"]),
        (test(attribute("execution_time_ms"), Op::LessOrEqual(number(20.0))), vec!["tr-2", "tr-1"]),
        (test(attribute("execution_time_ms"), Op::IsNull), vec!["tr-4"]),
        (test(attribute("execution_time_ms"), Op::NotEqual(number(10.0))), vec!["tr-3", "tr-2"]),
        (test(attribute("end_time_ms"), Op::Greater(number(330.0))), vec!["tr-4"]),
        (test(attribute("end_time_ms"), Op::GreaterOrEqual(number(330.0))), vec!["tr-4", "tr-3"]),
        (test(attribute("request_id"), Op::Equal(text("tr-3"))), vec!["tr-3"]),
        (test(attribute("client_request_id"), Op::Equal(text("req"))), vec!["tr-3"]),
        (test(attribute("client_request_id"), Op::IsNull), vec!["tr-4", "tr-2", "tr-1"]),
        (test(attribute("client_request_id"), Op::IsNotNull), vec!["tr-3"]),
        (test(attribute("nothing"), Op::Equal(text("x"))), vec![]),
        (test(attribute("nothing"), Op::IsNull), vec!["tr-4", "tr-3", "tr-2", "tr-1"]),
        (test(tag("team"), Op::Equal(text("blue"))), vec!["tr-4", "tr-2"]),
        (test(tag("team"), Op::NotEqual(text("blue"))), vec!["tr-3", "tr-1"]),
        (test(tag("team"), Op::Like("R%".into())), vec!["tr-3", "tr-1"]),
        (test(tag("team"), Op::Like("r%".into())), vec![]),
        (test(tag("team"), Op::ILike("r_D".into())), vec!["tr-3", "tr-1"]),
        (test(tag("team"), Op::RLike("^(blue|x)$".into())), vec!["tr-4", "tr-2"]),
        (test(tag("only"), Op::IsNull), vec!["tr-4", "tr-3", "tr-2"]),
        (test(tag("only"), Op::IsNotNull), vec!["tr-1"]),
        (test(tag("only"), Op::NotEqual(text("x"))), vec!["tr-1"]),
        (test(tag("only"), Op::In(vec![])), vec![]),
        (test(tag(key::NAME), Op::Equal(text("tr-2"))), vec!["tr-2"]),
        (test(metadata("model"), Op::Equal(text("gpt"))), vec!["tr-1"]),
        (test(metadata("model"), Op::IsNull), vec!["tr-4", "tr-3", "tr-2"]),
        (
            Filter::All(vec![test(tag("team"), Op::Equal(text("blue"))), test(attribute("timestamp_ms"), Op::Greater(number(200.0)))]),
            vec!["tr-4"],
        ),
        (
            Filter::All(vec![test(tag("team"), Op::ILike("BLUE".into())), test(attribute("timestamp_ms"), Op::Greater(number(200.0)))]),
            vec!["tr-4"],
        ),
        (
            Filter::Any(vec![test(tag("only"), Op::Equal(text("here"))), test(attribute("status"), Op::Equal(text("ERROR")))]),
            vec!["tr-2", "tr-1"],
        ),
        (Filter::Not(Box::new(test(tag("only"), Op::Equal(text("here"))))), vec!["tr-4", "tr-3", "tr-2"]),
        (Filter::Test(Test { field: tag("only"), op: Op::NotEqual(text("here")), or_absent: true }), vec!["tr-4", "tr-3", "tr-2"]),
    ] {
        assert_eq!(found(store, filter.clone()).await, wanted, "{filter:?}");
    }
    for bad in ["(", "(?=x)", &"x".repeat(2_000)] {
        let wanted = search(test(tag("team"), Op::RLike(bad.to_owned())));
        assert_eq!(store.search_traces(&wanted).await.expect_err("no pattern").code, Code::BAD_FILTER, "{bad}");
    }
    let nowhere = Search { experiments: vec![], ..search(Filter::default()) };
    assert!(store.search_traces(&nowhere).await.expect("search").items.is_empty());
    let two = Search { experiments: vec![ExperimentId(2), ExperimentId(1)], ..search(Filter::default()) };
    assert_eq!(store.search_traces(&two).await.expect("search").items.len(), 5);
}

async fn searches_of_what_hangs_on_traces(store: &dyn Traces) {
    for n in 1..=3 {
        store.put_trace(trace(&format!("tr-{n}"), 1, n)).await.expect("put");
    }
    let kind = |kind: &'static str| (key::SPAN_KIND, kind);
    let root = span("root", None, 1, 2, &[kind("\"AGENT\""), ("model", "\"gpt-4o\""), ("n", "7")]);
    let mut tool = span("search", Some("root"), 1, 2, &[kind("\"TOOL\"")]);
    tool.status = SpanStatus::Error;
    store.log_spans(vec![batch("tr-1", vec![root, tool])]).await.expect("spans");
    store.log_spans(vec![batch("tr-2", vec![span("search", None, 1, 2, &[kind("\"LLM\"")])])]).await.expect("spans");
    store.link_traces(&[id("tr-2"), id("tr-0")], &RunId("r2".into())).await.expect("link");
    store.link_traces(&[id("tr-2")], &RunId("r2".into())).await.expect("again");
    let mut made_in_run = trace("tr-3", 1, 3);
    made_in_run.metadata.insert(key::RUN.into(), "r3".into());
    store.put_trace(made_in_run).await.expect("put");
    store.link_prompts(&id("tr-1"), &["hello/1".into()]).await.expect("prompt");
    store.link_prompts(&id("tr-1"), &["hello/1".into(), "bye/2".into()]).await.expect("again");
    assert_eq!(store.link_prompts(&id("tr-0"), &[]).await.expect_err("unknown").code, Code::UNKNOWN_TRACE);
    for assessment in [
        said("a-1", "tr-1", "quality", Said::Feedback(json!(0.9), None)),
        said("a-2", "tr-2", "quality", Said::Feedback(json!("bad"), None)),
        said("a-3", "tr-3", "quality", Said::Expectation(json!(true))),
        said("a-4", "tr-3", "iss-1", Said::Issue("slow".into())),
    ] {
        store.put_assessment(assessment).await.expect("assess");
    }
    let of_span = |name: &str| Field::Trace(TraceField::Span(name.into()));
    let in_span = |name: &str| Field::Trace(TraceField::SpanAttribute(name.into()));
    let feedback = || Field::Trace(TraceField::Feedback("quality".into()));
    let is = |field: Field, value: &str| test(field, Op::Equal(text(value)));
    for (filter, wanted) in [
        (is(of_span("name"), "search"), vec!["tr-2", "tr-1"]),
        (is(of_span("type"), "TOOL"), vec!["tr-1"]),
        (is(of_span("status"), "ERROR"), vec!["tr-1"]),
        (test(of_span("type"), Op::In(vec![text("LLM"), text("AGENT")])), vec!["tr-2", "tr-1"]),
        (test(of_span("content"), Op::ILike("%GPT-4%".into())), vec!["tr-1"]),
        (is(in_span("model"), "gpt-4o"), vec!["tr-1"]),
        (test(in_span("model"), Op::RLike("^gpt".into())), vec!["tr-1"]),
        (is(in_span("n"), "7"), vec!["tr-1"]),
        // Side by side, they are about one span.
        (Filter::All(vec![is(of_span("name"), "search"), is(of_span("type"), "AGENT")]), vec![]),
        (Filter::All(vec![is(of_span("name"), "search"), is(of_span("type"), "TOOL")]), vec!["tr-1"]),
        (Filter::Any(vec![is(of_span("name"), "root"), is(of_span("type"), "LLM")]), vec!["tr-2", "tr-1"]),
        (is(Field::Trace(TraceField::Run), "r2"), vec!["tr-2"]),
        (is(Field::Trace(TraceField::Run), "r3"), vec!["tr-3"]),
        (is(Field::Trace(TraceField::Prompt), "bye/2"), vec!["tr-1"]),
        (is(Field::Trace(TraceField::Issue), "iss-1"), vec!["tr-3"]),
        (test(feedback(), Op::Greater(number(0.5))), vec!["tr-1"]),
        (is(feedback(), "bad"), vec!["tr-2"]),
        (test(feedback(), Op::NotEqual(text("bad"))), vec!["tr-1"]),
        (test(feedback(), Op::IsNull), vec!["tr-3"]),
        (test(feedback(), Op::IsNotNull), vec!["tr-2", "tr-1"]),
        (is(Field::Trace(TraceField::Expectation("quality".into())), "true"), vec!["tr-3"]),
    ] {
        assert_eq!(found(store, filter.clone()).await, wanted, "{filter:?}");
    }
    // Linked before it was told.
    store.put_trace(trace("tr-0", 1, 0)).await.expect("put");
    assert_eq!(found(store, is(Field::Trace(TraceField::Run), "r2")).await, ["tr-2", "tr-0"]);
}

async fn pages_and_orders(store: &dyn Traces) {
    for n in 0..30 {
        let mut info = trace(&format!("tr-{n:02}"), 1, 1_000 + n % 10);
        info.took_ms = (n % 3 != 0).then_some(n);
        info.tags.insert("third".into(), (n % 3).to_string());
        if n >= 28 {
            info.metadata.insert("rare".into(), format!("x{n}"));
        }
        store.put_trace(info).await.expect("put");
    }
    let all: Vec<String> = found(store, Filter::default()).await;
    assert_eq!((all.len(), &all[..4]), (30, &["tr-09", "tr-19", "tr-29", "tr-08"].map(str::to_owned)[..]));
    // One page after the other is the whole, with a filter for SQL and with one that is asked of each.
    let third = Field::Tag("third".into());
    for filter in [Filter::default(), test(third.clone(), Op::Equal(text("1"))), test(third.clone(), Op::Like("1%".into()))] {
        let whole = found(store, filter.clone()).await;
        let mut paged = Vec::new();
        for offset in (0..).step_by(4) {
            let page = store.search_traces(&Search { limit: 4, offset, ..search(filter.clone()) }).await.expect("page");
            paged.extend(page.items.into_iter().map(|info| info.id.to_string()));
            assert_eq!(page.more, paged.len() < whole.len());
            if !page.more {
                break;
            }
        }
        assert_eq!(paged, whole);
    }
    let ordered = async |field: Field, ascending: bool| -> Vec<String> {
        let order = vec![OrderBy { field, ascending, dataset: None }];
        let page = store.search_traces(&Search { order, limit: 3, ..search(Filter::default()) }).await.expect("order");
        page.items.into_iter().map(|info| info.id.to_string()).collect()
    };
    assert_eq!(ordered(attribute("timestamp_ms"), true).await, ["tr-00", "tr-10", "tr-20"]);
    assert_eq!(ordered(attribute("execution_time_ms"), true).await, ["tr-01", "tr-02", "tr-04"]);
    assert_eq!(ordered(attribute("execution_time_ms"), false).await, ["tr-29", "tr-28", "tr-26"]);
    assert_eq!(ordered(attribute("request_id"), true).await, ["tr-00", "tr-01", "tr-02"]);
    assert_eq!(ordered(Field::Trace(TraceField::Metadata("rare".into())), true).await, ["tr-28", "tr-29", "tr-09"]);
    assert_eq!(ordered(Field::Tag(key::NAME.into()), false).await, ["tr-29", "tr-28", "tr-27"]);
}

async fn deleting(store: &dyn Traces) {
    for n in 1..=6 {
        store.put_trace(trace(&format!("tr-{n}"), 1, n * 10)).await.expect("put");
        store.log_spans(vec![batch(&format!("tr-{n}"), vec![span("a", None, 1, 2, &[])])]).await.expect("spans");
    }
    store.put_trace(trace("tr-9", 2, 1)).await.expect("another experiment");
    let ada = Actor::user("ada");
    let all = TracesToDelete { experiment: ExperimentId(1), ids: vec![], until: None, at_most: None };
    let delete = async |which: TracesToDelete| store.delete_traces(&which, &ada, ms(99)).await.expect("delete");
    assert_eq!(delete(TracesToDelete { ids: vec![id("tr-6"), id("tr-9"), id("tr-0"), id("tr-6")], ..all.clone() }).await, 1);
    assert_eq!(delete(TracesToDelete { until: Some(ms(30)), at_most: Some(1), ..all.clone() }).await, 1);
    assert_eq!(found(store, Filter::default()).await, ["tr-5", "tr-4", "tr-3", "tr-2"]);
    assert_eq!(delete(TracesToDelete { until: Some(ms(30)), ..all.clone() }).await, 2);
    assert_eq!(delete(TracesToDelete { ids: vec![id("tr-5")], until: Some(ms(30)), ..all.clone() }).await, 0);
    assert!(store.spans(&[id("tr-2")]).await.expect("spans").is_empty());
    assert_eq!(delete(all.clone()).await, 2);
    assert_eq!(delete(all).await, 0);
    assert_eq!(store.traces(&[id("tr-9")], None).await.expect("read").len(), 1);
}

fn said(name: &str, of: &str, about: &str, said: Said) -> Assessment {
    Assessment {
        id: name.into(),
        trace: id(of),
        name: about.into(),
        said,
        source: SourceKind::Human,
        source_id: Some("ada".into()),
        span: None,
        rationale: Some("because".into()),
        metadata: words(&[("k", "v")]),
        overrides: None,
        valid: true,
        created_at: ms(5),
        updated_at: ms(5),
    }
}

async fn assessments(store: &dyn Traces) {
    store.put_trace(trace("tr-1", 1, 1)).await.expect("put");
    let error = AssessmentError { code: Some("E".into()), message: Some("no".into()), stack: None };
    let first = said("a-1", "tr-1", "quality", Said::Feedback(json!({"deep": [1, "x"]}), Some(error)));
    assert_eq!(store.put_assessment(first.clone()).await.expect("put"), first);
    let changed = Assessment { name: "other".into(), ..first.clone() };
    assert_eq!(store.put_assessment(changed).await.expect("again"), first, "sent again, it is there already");
    assert_eq!(store.assessment(&id("tr-1"), "a-1").await.expect("read"), Some(first.clone()));
    assert_eq!(store.assessment(&id("tr-1"), "a-0").await.expect("read"), None);
    assert_eq!(store.assessment(&id("tr-0"), "a-1").await.expect_err("no trace").code, Code::UNKNOWN_TRACE);
    // A correction.
    let mut second = said("a-2", "tr-1", "quality", Said::Feedback(json!(true), None));
    (second.overrides, second.created_at) = (Some("a-1".into()), ms(6));
    store.put_assessment(second.clone()).await.expect("override");
    let listed = get(store, "tr-1").await.assessments;
    assert_eq!(listed.iter().map(|a| (a.id.as_str(), a.valid)).collect::<Vec<_>>(), [("a-1", false), ("a-2", true)]);
    let lost = Assessment { overrides: Some("a-0".into()), id: "a-3".into(), ..second.clone() };
    assert_eq!(store.put_assessment(lost).await.expect_err("overrides nothing").code, Code::UNKNOWN_TRACE);
    assert_eq!(get(store, "tr-1").await.assessments.len(), 2);
    let update =
        AssessmentUpdate { said: Some(Said::Feedback(json!(false), None)), metadata: words(&[("m", "w")]), ..AssessmentUpdate::default() };
    let updated = store.update_assessment(&id("tr-1"), "a-2", update.clone(), ms(9)).await.expect("update");
    assert_eq!((updated.text().as_str(), updated.updated_at, updated.created_at), ("false", ms(9), ms(6)));
    assert_eq!(updated.metadata, words(&[("k", "v"), ("m", "w")]));
    assert_eq!(store.assessment(&id("tr-1"), "a-2").await.expect("read"), Some(updated));
    let other_kind = AssessmentUpdate { said: Some(Said::Expectation(json!(1))), ..AssessmentUpdate::default() };
    assert_eq!(store.update_assessment(&id("tr-1"), "a-2", other_kind, ms(9)).await.expect_err("kind").kind, Kind::Invalid);
    assert_eq!(store.update_assessment(&id("tr-1"), "a-0", update, ms(9)).await.expect_err("unknown").kind, Kind::NotFound);
    store.delete_assessment(&id("tr-1"), "a-2").await.expect("delete");
    store.delete_assessment(&id("tr-1"), "a-2").await.expect("twice");
    assert_eq!(store.delete_assessment(&id("tr-0"), "a-2").await.expect_err("no trace").code, Code::UNKNOWN_TRACE);
    assert!(store.assessment(&id("tr-1"), "a-1").await.expect("read").expect("is there").valid, "nothing overrides it any more");
    // Told with the trace.
    let mut told = trace("tr-1", 1, 1);
    told.assessments = vec![said("a-5", "tr-1", "length", Said::Expectation(json!([1, 2])))];
    store.put_trace(told.clone()).await.expect("put");
    store.put_trace(told).await.expect("again");
    assert_eq!(get(store, "tr-1").await.assessments.len(), 2);
}

fn dataset(name: &str, made_ms: i64, experiments: &[u64]) -> EvaluationDataset {
    EvaluationDataset {
        id: format!("d-{name}"),
        name: name.into(),
        digest: EvaluationDataset::digest_of(name, ms(made_ms)),
        schema: None,
        records: 0,
        created_at: ms(made_ms),
        updated_at: ms(made_ms),
        created_by: Some("ada".into()),
        updated_by: None,
        tags: words(&[("team", name)]),
        experiments: experiments.iter().map(|n| ExperimentId(*n)).collect(),
    }
}

async fn datasets(store: &dyn EvaluationDatasets) {
    let ada = Actor::user("ada");
    for (name, at, experiments) in [("one", 1, &[3, 1][..]), ("two", 2, &[1]), ("three", 3, &[])] {
        let made = dataset(name, at, experiments);
        assert_eq!(store.create_dataset(made.clone(), &ada).await.expect("create"), made);
        assert_eq!(store.dataset(&made.id).await.expect("read"), Some(made));
    }
    assert_eq!(store.dataset("d-0").await.expect("read"), None);
    let everything = Search { experiments: vec![], ..search(Filter::default()) };
    let names = async |search: Search| -> Vec<String> {
        store.search_datasets(&search).await.expect("search").items.into_iter().map(|d| d.name).collect()
    };
    assert_eq!(names(everything.clone()).await, ["three", "two", "one"]);
    assert_eq!(names(search(Filter::default())).await, ["two", "one"]);
    let filter = test(Field::Tag("team".into()), Op::Like("t%".into()));
    assert_eq!(names(Search { filter, ..everything.clone() }).await, ["three", "two"]);
    let filter = test(attribute("created_time"), Op::Less(number(2.0)));
    assert_eq!(names(Search { filter, ..everything.clone() }).await, ["one"]);
    let order = vec![OrderBy { field: attribute("name"), ascending: true, dataset: None }];
    let page = store.search_datasets(&Search { order, limit: 1, offset: 1, ..everything.clone() }).await.expect("page");
    assert_eq!((page.items[0].name.as_str(), page.more), ("three", true));
    let tags = [("team".to_owned(), None), ("x".to_owned(), Some("1".to_owned())), ("gone".to_owned(), None)];
    store.set_dataset_tags("d-one", &tags).await.expect("tags");
    assert_eq!(store.dataset("d-one").await.expect("read").expect("there").tags, words(&[("x", "1")]));
    let changed = store.set_dataset_experiments("d-one", &[ExperimentId(2), ExperimentId(1)], &[ExperimentId(3)], ms(7)).await;
    let changed = changed.expect("experiments");
    assert_eq!((changed.experiments.clone(), changed.updated_at), (vec![ExperimentId(1), ExperimentId(2)], ms(7)));
    assert_eq!(store.dataset("d-one").await.expect("read"), Some(changed));
    assert!(store.delete_dataset("d-one", &ada, ms(8)).await.expect("delete"));
    assert!(!store.delete_dataset("d-one", &ada, ms(8)).await.expect("twice"));
    for fault in [
        store.set_dataset_tags("d-one", &[]).await.expect_err("gone"),
        store.set_dataset_experiments("d-one", &[], &[], ms(9)).await.expect_err("gone"),
        store.put_records("d-one", vec![], ms(9)).await.expect_err("gone"),
        store.records("d-one", None, 1).await.expect_err("gone"),
        store.delete_records("d-one", &[]).await.expect_err("gone"),
    ] {
        assert_eq!((fault.kind, fault.code), (Kind::NotFound, Code::UNKNOWN_DATASET));
    }
}

async fn records(store: &dyn EvaluationDatasets) {
    store.create_dataset(dataset("one", 1, &[]), &Actor::user("ada")).await.expect("create");
    let given = |n: i64| GivenRecord {
        id: format!("dr-{n}"),
        inputs: json!({"q": n}),
        expectations: json!({"a": n}).as_object().cloned(),
        source: Some(RecordSource { kind: "TRACE".into(), data: json!({"trace_id": "tr-1"}).as_object().cloned().unwrap_or_default() }),
        user: Some("ada".into()),
        ..GivenRecord::default()
    };
    assert_eq!(store.put_records("d-one", (1..=5).map(given).collect(), ms(10)).await.expect("put"), (5, 0));
    let mut again = given(2);
    (again.id, again.expectations, again.outputs) = ("dr-x".into(), json!({"b": 1}).as_object().cloned(), Some(None));
    again.user = Some("bob".into());
    assert_eq!(store.put_records("d-one", vec![again, given(6), given(6)], ms(20)).await.expect("put"), (1, 2));
    let known = store.dataset("d-one").await.expect("read").expect("there");
    assert_eq!((known.records, known.updated_at, known.updated_by.as_deref()), (6, ms(20), Some("ada")));
    assert_eq!(known.digest, EvaluationDataset::digest_of("one", ms(20)));
    let schema: serde_json::Value = serde_json::from_str(&known.schema.expect("a schema")).expect("JSON");
    assert_eq!(schema["expectations"], json!({"a": "integer", "b": "integer"}));
    // One page after the other.
    let mut seen = Vec::new();
    let mut cursor = None;
    loop {
        let page = store.records("d-one", cursor.as_ref(), 4).await.expect("page");
        cursor = page.items.last().map(|record| (record.created_at, record.id.clone()));
        seen.extend(page.items);
        if !page.more {
            break;
        }
    }
    assert_eq!(seen.iter().map(|record| record.id.as_str()).collect::<Vec<_>>(), ["dr-1", "dr-2", "dr-3", "dr-4", "dr-5", "dr-6"]);
    let second = &seen[1];
    assert_eq!((second.outputs.clone(), second.expectations.clone()), (None, json!({"a": 2, "b": 1}).as_object().cloned()));
    assert_eq!((second.created_by.as_deref(), second.updated_by.as_deref()), (Some("ada"), Some("bob")));
    assert_eq!((second.created_at, second.updated_at), (ms(10), ms(20)));
    assert_eq!(second.source.as_ref().map(|s| s.kind.as_str()), Some("TRACE"));
    assert_eq!(seen[0].outputs, Some(json!({})));
    assert_eq!(store.delete_records("d-one", &["dr-1".into(), "dr-2".into(), "dr-0".into()]).await.expect("delete"), 2);
    assert_eq!(store.dataset("d-one").await.expect("read").expect("there").records, 4);
}
