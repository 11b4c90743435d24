//! What only this implementation has: group commit and its limits, the ways of a search, and that it finds what memory finds.

use super::super::SqliteLedger;
use super::log;
use crate::memory::MemoryLedger;
use crate::suite::ledger::at;
use crate::suite::tracking::{input, model, ms, point, points, run_id, search, tracked};
use crate::system::ManualClock;
use gristmill_kernel::port::{Ledger, Logged, Tracking};
use gristmill_kernel::tracking::filter::{Field, Filter, Op, OrderBy, Test, Value};
use gristmill_kernel::tracking::{Batch, DatasetKey, ExperimentId, HistoryWanted, Lifecycle, Point, RunUpdate, Search, ViewType};
use gristmill_kernel::{Actor, Code, Kind, RunStatus, limits};
use proptest::prelude::*;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

async fn open(path: &Path) -> SqliteLedger {
    SqliteLedger::open(path, Arc::new(ManualClock::new(at(500_000)))).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn keeps_the_promises_of_tracking() {
    let dir = tempfile::tempdir().unwrap();
    let count = AtomicU32::new(0);
    crate::suite::tracking::run(|clock| {
        let path = dir.path().join(format!("{}.db", count.fetch_add(1, Ordering::Relaxed)));
        async move {
            let ledger = Arc::new(SqliteLedger::open(&path, clock).await.unwrap());
            (ledger.clone() as Arc<dyn Tracking>, ledger as Arc<dyn Ledger>)
        }
    })
    .await;
}

#[tokio::test]
async fn what_was_logged_is_there_after_opening_again() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ledger.db");
    let first = open(&path).await;
    first.create_run(tracked(1), &Actor::user("ada"), ms(1)).await.unwrap();
    first.log(&run_id(1), points(vec![point("m", 1.0, 1)]), ms(1)).await.unwrap();
    let told = first.tracked_run(&run_id(1)).await.unwrap();
    drop(first);
    assert_eq!(open(&path).await.tracked_run(&run_id(1)).await.unwrap(), told);
}

/// Keeps the thread that logs waiting for the writer, so that what is logged meanwhile is one group.
async fn occupy(ledger: &SqliteLedger, number: u32) {
    let batch = Batch { tags: vec![("occupied".into(), "yes".into())], ..Batch::default() };
    ledger.log(&run_id(number), batch, ms(1)).await.unwrap();
}

#[tokio::test]
async fn a_full_queue_refuses_and_recovers() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = Arc::new(open(&dir.path().join("ledger.db")).await);
    ledger.create_run(tracked(1), &Actor::user("ada"), ms(1)).await.unwrap();
    let held = ledger.writer().await;
    let mut first = Box::pin(occupy(&ledger, 1));
    assert!(futures::poll!(&mut first).is_pending());
    while ledger.logger.waiting() > 0 {
        tokio::task::yield_now().await;
    }
    let waiting: Vec<_> = (0..limits::TRACK_WAITING_MAX as i64)
        .map(|step| {
            let ledger = Arc::clone(&ledger);
            tokio::spawn(async move { ledger.log(&run_id(1), points(vec![point("m", 0.0, step)]), ms(1)).await })
        })
        .collect();
    while ledger.logger.waiting() < limits::TRACK_WAITING_MAX {
        tokio::task::yield_now().await;
    }
    let fault = ledger.log(&run_id(1), Batch::default(), ms(1)).await.unwrap_err();
    assert_eq!((fault.kind, fault.code), (Kind::Busy, Code::OVERLOADED));
    drop(held);
    first.await;
    for one in waiting {
        one.await.unwrap().unwrap();
    }
    ledger.log(&run_id(1), Batch::default(), ms(1)).await.unwrap();
    let history = ledger.history(&run_id(1), "m", HistoryWanted::default()).await.unwrap();
    assert_eq!(history.items.len(), limits::TRACK_WAITING_MAX);
}

/// What is waiting for the writer is one group: a refused write in it spoils no other one, whichever way the group is written.
#[tokio::test]
async fn a_group_is_refused_one_by_one() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = Arc::new(open(&dir.path().join("ledger.db")).await);
    let ada = Actor::user("ada");
    for number in 1..=3 {
        ledger.create_run(tracked(number), &ada, ms(1)).await.unwrap();
    }
    ledger.set_run_lifecycle(&run_id(3), Lifecycle::Deleted, &ada, ms(2)).await.unwrap();
    let with_param = |value: &str| Batch { params: vec![("p".into(), value.into())], ..points(vec![point("with param", 1.0, 0)]) };
    // Points alone; points and parameters; points and other small writes, one of which is refused after another one was done.
    for (round, params, jobs) in [(0, false, false), (1, true, false), (2, false, true)] {
        let held = ledger.writer().await;
        let mut first = Box::pin(occupy(&ledger, 1));
        assert!(futures::poll!(&mut first).is_pending());
        while ledger.logger.waiting() > 0 {
            tokio::task::yield_now().await;
        }
        let log = |number: u32, batch: Batch| {
            let ledger = Arc::clone(&ledger);
            tokio::spawn(async move { ledger.log(&run_id(number), batch, ms(3)).await })
        };
        let rename = |number: u32, name: &str| {
            let (ledger, update) = (Arc::clone(&ledger), RunUpdate { name: Some(name.into()), ..RunUpdate::default() });
            tokio::spawn(async move { ledger.update_run(&run_id(number), update, &Actor::user("ada"), ms(3)).await })
        };
        let mut waiting = vec![log(1, points(vec![point("m", 1.0, round), point("m", f64::NAN, round), point("other", 2.0, round)]))];
        waiting.extend([log(3, points(vec![point("m", 1.0, round)])), log(9, points(vec![point("m", 1.0, round)]))]);
        waiting.push(log(2, points(vec![point("m", 3.0, 5 - round)])));
        if params {
            waiting.extend([log(1, with_param("a")), log(2, with_param("a")), log(1, with_param("b"))]);
        }
        let renamed = if jobs { vec![rename(1, "first"), rename(3, "never"), rename(2, "second")] } else { vec![] };
        while ledger.logger.waiting() + ledger.group.waiting() < waiting.len() + renamed.len() {
            tokio::task::yield_now().await;
        }
        drop(held);
        first.await;
        let mut codes = Vec::new();
        for one in waiting {
            codes.push(one.await.unwrap().err().map(|fault| fault.code));
        }
        assert_eq!(codes[..4], [None, Some(Code::NOT_ACTIVE), Some(Code::UNKNOWN_RUN), None], "round {round}");
        assert_eq!(codes[4..], if params { vec![None, None, Some(Code::PARAM_CHANGED)] } else { vec![] });
        let mut renames = Vec::new();
        for one in renamed {
            renames.push(one.await.unwrap().map(|run| run.name).map_err(|fault| fault.code));
        }
        assert_eq!(renames, if jobs { vec![Ok("first".into()), Err(Code::NOT_ACTIVE), Ok("second".into())] } else { vec![] });
    }
    let count = async |number, key| ledger.history(&run_id(number), key, HistoryWanted::default()).await.unwrap().items.len();
    assert_eq!((count(1, "m").await, count(2, "m").await, count(3, "m").await, count(1, "with param").await), (6, 3, 0, 1));
    let runs = [ledger.tracked_run(&run_id(1)).await.unwrap().unwrap(), ledger.tracked_run(&run_id(2)).await.unwrap().unwrap()];
    assert_eq!(runs.each_ref().map(|run| run.name.as_str()), ["first", "second"]);
    let latest = |run: usize, key: &str| runs[run].metrics.iter().find(|p| p.key == key).map(|p| (p.step, p.value)).unwrap();
    assert_eq!((latest(0, "m"), latest(0, "other"), latest(1, "m")), ((2, 1.0), (2, 2.0), (5, 3.0)), "the greatest step, not the last one");
    ledger.set_run_lifecycle(&run_id(3), Lifecycle::Active, &ada, ms(9)).await.unwrap();
    assert_eq!(ledger.tracked_run(&run_id(3)).await.unwrap().unwrap().name, "run-3");
}

/// Texts and numbers that a page might garble on its way.
#[tokio::test]
async fn a_page_is_what_was_written() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = open(&dir.path().join("ledger.db")).await;
    let texts = ["", " ", "a b", "\"quoted\"", "back\\slash", "line\nbreak\ttab", "\u{0}nul\u{1}", "ä€😀", "null", "]"];
    let values = [0.1, -0.0, 1.0 / 3.0, 1e300, 5e-324, f64::NAN, f64::INFINITY, 9_007_199_254_740_993.0];
    for number in 1..=2 {
        ledger.create_run(tracked(number), &Actor::user("ada"), ms(1)).await.unwrap();
        let words: Vec<(String, String)> = texts.iter().enumerate().map(|(i, text)| (format!("{i}{text}"), (*text).to_owned())).collect();
        let metrics = values.iter().enumerate().map(|(i, value)| point(&format!("{i} {}", texts[i]), *value, -3 + i as i64)).collect();
        let batch = Batch { metrics, params: words.clone(), tags: words };
        ledger.log(&run_id(number), batch, ms(1)).await.unwrap();
    }
    let page = ledger.search_runs(&search(Filter::default(), vec![])).await.unwrap();
    assert_eq!(page.items.len(), 2);
    for run in &page.items {
        for (i, text) in texts.iter().enumerate() {
            let key = format!("{i}{text}");
            assert_eq!((run.params[&key].as_str(), run.tags[&key].as_str()), (*text, *text));
        }
        for (i, value) in values.iter().enumerate() {
            let kept = &run.metrics[i];
            let same = kept.value == *value || (kept.value.is_nan() && value.is_nan());
            assert!(same && kept.step == -3 + i as i64 && kept.key == format!("{i} {}", texts[i]), "{kept:?} is not {value:?}");
        }
        assert_eq!(ledger.tracked_run(&run.id).await.unwrap().map(|one| format!("{one:?}")), Some(format!("{run:?}")));
    }
}

#[tokio::test]
async fn a_caller_who_goes_away_takes_nobody_along() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = Arc::new(open(&dir.path().join("ledger.db")).await);
    ledger.create_run(tracked(1), &Actor::user("ada"), ms(1)).await.unwrap();
    for step in 0..40 {
        let one = |step: i64| {
            let ledger = Arc::clone(&ledger);
            async move { ledger.log(&run_id(1), points(vec![point("m", 0.0, step)]), ms(1)).await }
        };
        let leaves = tokio::time::timeout(std::time::Duration::from_micros(step as u64 * 30), one(1_000 + step));
        let (_, stays) = tokio::join!(leaves, one(step));
        stays.unwrap();
    }
    let history = ledger.history(&run_id(1), "m", HistoryWanted::default()).await.unwrap();
    assert!((0..40).all(|step| history.items.iter().any(|p| p.step == step)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn two_handles_log_to_one_run() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ledger.db");
    let (one, two) = (Arc::new(open(&path).await), Arc::new(open(&path).await));
    one.create_run(tracked(1), &Actor::user("ada"), ms(1)).await.unwrap();
    let work = |ledger: Arc<SqliteLedger>, first: i64| async move {
        for step in first..first + 50 {
            ledger.log(&run_id(1), points(vec![point("m", 0.0, step)]), ms(1)).await.unwrap();
        }
    };
    let (a, b) = tokio::join!(tokio::spawn(work(one.clone(), 0)), tokio::spawn(work(two.clone(), 100)));
    a.unwrap();
    b.unwrap();
    let steps = async |ledger: &SqliteLedger| ledger.history(&run_id(1), "m", HistoryWanted::default()).await.unwrap().items.len();
    assert_eq!(steps(&open(&path).await).await, 100, "who opens the ledger finds everything");
    // Points of other processes come a moment later.
    while steps(&one).await < 100 {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    two.set_run_lifecycle(&run_id(1), Lifecycle::Deleted, &Actor::user("ada"), ms(2)).await.unwrap();
    let refused = one.log(&run_id(1), Batch::default(), ms(3)).await.unwrap_err();
    assert_eq!(refused.code, Code::NOT_ACTIVE, "the other process's deletion counts at once");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_logs_alone_is_written_at_once_and_keeps_every_promise() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ledger.db");
    let ledger = Arc::new(open(&path).await);
    for number in [1, 2] {
        ledger.create_run(tracked(number), &Actor::user("ada"), ms(1)).await.unwrap();
    }
    ledger.set_run_lifecycle(&run_id(2), Lifecycle::Deleted, &Actor::user("ada"), ms(2)).await.unwrap();
    let one = async |number, step| ledger.log(&run_id(number), points(vec![point("m", 0.0, step)]), ms(1)).await;
    let (mut step, mut at_once) = (0, 0);
    while at_once < 100 {
        assert!(step < 20_000, "{at_once} of {step} points were written at once");
        if let Logged::AtDisk(rest) = ledger.log_soon(&run_id(1), points(vec![point("m", 0.0, step)]), ms(1)).await.unwrap() {
            rest.await.unwrap();
            at_once += 1;
        }
        step += 1;
    }
    assert_eq!(one(2, 0).await.unwrap_err().code, Code::NOT_ACTIVE);
    assert_eq!(one(3, 0).await.unwrap_err().code, Code::UNKNOWN_RUN);
    // Who has something to do meanwhile is told what is left; dropping that takes nothing back, and nobody else is held up.
    let mut left = 0;
    for _ in 0..100 {
        let soon = ledger.log_soon(&run_id(1), points(vec![point("m", 0.0, step)]), ms(1)).await.unwrap();
        step += 1;
        if let Logged::AtDisk(rest) = soon {
            one(1, step).await.unwrap();
            step += 1;
            left += 1;
            if left % 2 == 0 {
                rest.await.unwrap();
            }
        }
    }
    assert!(left > 0, "somebody who logs alone waits for the disk only");
    assert!(ledger.log_soon(&run_id(2), points(vec![point("m", 0.0, 0)]), ms(1)).await.is_err(), "what is refused is refused at once");
    let tagged = Batch { tags: vec![("a".into(), "b".into())], ..points(vec![point("m", 0.0, step)]) };
    ledger.log(&run_id(1), tagged, ms(1)).await.unwrap();
    // Others join in, and leave again.
    let crowd = (0..8).map(|number| {
        let ledger = Arc::clone(&ledger);
        tokio::spawn(async move {
            for i in 0..50 {
                ledger.log(&run_id(1), points(vec![point("m", 0.0, 1_000_000 + number * 50 + i)]), ms(1)).await.unwrap();
            }
        })
    });
    futures::future::try_join_all(crowd).await.unwrap();
    for more in 1..=100 {
        one(1, step + more).await.unwrap();
    }
    drop(ledger);
    let there = open(&path).await.history(&run_id(1), "m", HistoryWanted::default()).await.unwrap().items.len();
    assert_eq!(there as i64, step + 1 + 400 + 100);
}

#[tokio::test]
async fn who_logs_alone_gives_way_before_it_waits_for_the_disk() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = Arc::new(open(&dir.path().join("ledger.db")).await);
    ledger.create_run(tracked(1), &Actor::user("ada"), ms(1)).await.unwrap();
    let mut step = 0;
    let mut next = || {
        step += 1;
        assert!(step < 20_000, "somebody logs alone");
        points(vec![point("m", 0.0, step)])
    };
    let mut at_disk = loop {
        if let Logged::AtDisk(rest) = ledger.log_soon(&run_id(1), next(), ms(1)).await.unwrap() {
            break rest;
        }
    };
    // All share this thread: whoever waited for the disk on it now would never learn that somebody else has something to log.
    assert!(futures::poll!(&mut at_disk).is_pending(), "it waits for the disk without giving way");
    let other = ledger.log_soon(&run_id(1), next(), ms(1)).await.unwrap();
    assert!(matches!(other, Logged::Durable), "the second one joins the queue");
    assert!(!ledger.logger.serves_one(), "and nobody is taken to log alone any more");
    at_disk.await.unwrap();
}

// What the property test draws from: few words, so that things meet.
const METRICS: [&str; 3] = ["auc", "loss", "m"];
const WORDS: [&str; 7] = ["a", "A", "ab", "a%b", "a*b", "Ä[b]?", ""];
const NUMBERS: [f64; 7] = [-1.0, -0.0, 0.0, 0.5, f64::NAN, f64::INFINITY, f64::NEG_INFINITY];
const PATTERNS: [&str; 8] = ["%", "a", "A", "_", "a_b", "%b", "%*%", "ä%"];
const ATTRIBUTES: [&str; 9] =
    ["run_id", "run_name", "user_id", "status", "artifact_uri", "start_time", "end_time", "experiment_id", "lifecycle_stage"];
const MODEL_ATTRIBUTES: [&str; 5] = ["name", "model_type", "status", "creation_timestamp", "source_run_id"];

/// Points of a logged model: metric, value, step, dataset.
type ModelPoints = Vec<(&'static str, f64, i64, &'static str)>;

#[derive(Debug, Clone)]
struct Drawn {
    experiment: u64,
    name: &'static str,
    start: Option<i64>,
    end: Option<i64>,
    status: usize,
    deleted: bool,
    metrics: Vec<(&'static str, f64, i64)>,
    params: Vec<(&'static str, &'static str)>,
    tags: Vec<(&'static str, &'static str)>,
    datasets: Vec<(&'static str, &'static str)>,
    model: Option<(&'static str, ModelPoints)>,
}

fn one_of<T: Clone + std::fmt::Debug + 'static>(all: &[T]) -> impl Strategy<Value = T> + Clone + use<T> {
    proptest::sample::select(all.to_vec())
}

fn pairs() -> impl Strategy<Value = Vec<(&'static str, &'static str)>> {
    proptest::collection::vec((one_of(&["k", "l"]), one_of(&WORDS)), 0..3)
}

fn drawn_run() -> impl Strategy<Value = Drawn> {
    let model_points = proptest::collection::vec((one_of(&METRICS), one_of(&NUMBERS), 0..3i64, one_of(&["", "a", "ab"])), 0..4);
    let times = (proptest::option::of(0..4i64), proptest::option::weighted(0.3, 0..4i64));
    let own = (0..3u64, one_of(&WORDS), times, 0..4usize, proptest::bool::weighted(0.2));
    let logged = (
        proptest::collection::vec((one_of(&METRICS), one_of(&NUMBERS), 0..3i64), 0..5),
        pairs(),
        pairs(),
        proptest::collection::vec((one_of(&["a", "ab"]), one_of(&WORDS)), 0..3),
        proptest::option::weighted(0.5, (one_of(&WORDS), model_points)),
    );
    (own, logged).prop_map(|((experiment, name, (start, end), status, deleted), (metrics, params, tags, datasets, model))| Drawn {
        experiment,
        name,
        start,
        end,
        status,
        deleted,
        metrics,
        params,
        tags,
        datasets,
        model,
    })
}

fn value() -> impl Strategy<Value = Value> + Clone {
    prop_oneof![
        one_of(&NUMBERS).prop_map(Value::Number),
        (0..4i64).prop_map(|n| Value::Number(n as f64)),
        one_of(&WORDS).prop_map(|w| Value::Text(w.to_owned())),
        one_of(&["RUNNING", "FINISHED", "active", "READY", "1", "00000000000000000000000000000001"])
            .prop_map(|w| Value::Text(w.to_owned())),
    ]
}

fn op() -> impl Strategy<Value = Op> {
    let values = proptest::collection::vec(value(), 0..3);
    prop_oneof![
        3 => value().prop_map(Op::Equal),
        2 => value().prop_map(Op::NotEqual),
        1 => value().prop_map(Op::Less),
        1 => value().prop_map(Op::LessOrEqual),
        2 => value().prop_map(Op::Greater),
        1 => value().prop_map(Op::GreaterOrEqual),
        2 => one_of(&PATTERNS).prop_map(|p| Op::Like(p.to_owned())),
        2 => one_of(&PATTERNS).prop_map(|p| Op::ILike(p.to_owned())),
        2 => values.clone().prop_map(Op::In),
        2 => values.prop_map(Op::NotIn),
        1 => (value(), value()).prop_map(|(low, high)| Op::Between(low, high)),
        1 => Just(Op::IsNull),
        1 => Just(Op::IsNotNull),
    ]
}

fn run_field() -> impl Strategy<Value = Field> {
    prop_oneof![
        3 => one_of(&METRICS).prop_map(|m| Field::Metric(m.to_owned())),
        2 => one_of(&["k", "l"]).prop_map(|k| Field::Param(k.to_owned())),
        2 => one_of(&["k", "l", "mlflow.runName"]).prop_map(|k| Field::Tag(k.to_owned())),
        2 => one_of(&ATTRIBUTES).prop_map(|a| Field::Attribute(a.to_owned())),
        1 => one_of(&["name", "digest", "context"]).prop_map(|d| Field::Dataset(d.to_owned())),
    ]
}

fn model_field() -> impl Strategy<Value = Field> {
    let on = (one_of(&["a", "ab", ""]), proptest::option::of(one_of(&["a", "d"])));
    prop_oneof![
        3 => one_of(&METRICS).prop_map(|m| Field::Metric(m.to_owned())),
        2 => (one_of(&METRICS), on).prop_map(|(m, (name, digest))| Field::MetricOn(m.to_owned(), (name.to_owned(), digest.map(str::to_owned)))),
        1 => Just(Field::Param("p".into())),
        1 => Just(Field::Tag("t".into())),
        2 => one_of(&MODEL_ATTRIBUTES).prop_map(|a| Field::Attribute(a.to_owned())),
        1 => one_of(&["name", "digest"]).prop_map(|d| Field::Dataset(d.to_owned())),
    ]
}

fn filter(field: impl Strategy<Value = Field> + 'static) -> impl Strategy<Value = Filter> {
    let test = (field, op(), any::<bool>()).prop_map(|(field, op, or_absent)| Filter::Test(Test { field, op, or_absent }));
    test.prop_recursive(3, 8, 3, |inner| {
        prop_oneof![
            3 => proptest::collection::vec(inner.clone(), 0..3).prop_map(Filter::All),
            1 => proptest::collection::vec(inner.clone(), 0..3).prop_map(Filter::Any),
            1 => inner.prop_map(|f| Filter::Not(Box::new(f))),
        ]
    })
}

fn drawn_search(field: fn() -> BoxedStrategy<Field>) -> impl Strategy<Value = Search> {
    let order = (field(), any::<bool>()).prop_filter_map("datasets have no order", |(field, ascending)| {
        (!matches!(field, Field::Dataset(_))).then_some(OrderBy { field, ascending, dataset: None })
    });
    let view = one_of(&[ViewType::ActiveOnly, ViewType::ActiveOnly, ViewType::DeletedOnly, ViewType::All]);
    let experiments = proptest::collection::vec((0..3u64).prop_map(ExperimentId), 1..4);
    let filters = prop_oneof![1 => Just(Filter::default()), 4 => filter(field())];
    (experiments, view, filters, proptest::collection::vec(order, 0..3), 0..8usize, 0..6usize)
        .prop_map(|(experiments, view, filter, order, limit, offset)| Search { experiments, view, filter, order, limit, offset })
}

async fn build(tracking: &dyn Tracking, runs: &[Drawn]) {
    let ada = Actor::user("ada");
    for name in ["one", "two"] {
        tracking.create_experiment(name, None, Default::default(), &ada, ms(1)).await.unwrap();
    }
    for (number, drawn) in runs.iter().enumerate() {
        let number = number as u32;
        let mut new = tracked(number);
        (new.experiment, new.name, new.started_at) = (ExperimentId(drawn.experiment), drawn.name.into(), drawn.start.map(ms));
        tracking.create_run(new, &ada, ms(1)).await.unwrap();
        if let Some((model_type, _)) = &drawn.model {
            let mut new = model(number, Some(number));
            new.experiment = ExperimentId(drawn.experiment);
            new.model_type = (!model_type.is_empty()).then(|| (*model_type).to_owned());
            new.created_at = ms(drawn.start.unwrap_or(0));
            tracking.create_logged_model(new, ms(1)).await.unwrap();
        }
        let owned = |pairs: &[(&str, &str)]| pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect::<Vec<_>>();
        let mut params = owned(&drawn.params);
        params.dedup_by(|a, b| a.0 == b.0);
        params.sort();
        params.dedup_by(|a, b| a.0 == b.0);
        let mut metrics: Vec<Point> = drawn.metrics.iter().map(|(key, value, step)| point(key, *value, *step)).collect();
        for (key, value, step, on) in drawn.model.iter().flat_map(|(_, points)| points) {
            let dataset = (!on.is_empty()).then(|| DatasetKey { name: (*on).into(), digest: "d".into() });
            metrics.push(Point { model: Some(model(number, None).id), dataset, ..point(key, *value, *step) });
        }
        tracking.log(&run_id(number), Batch { metrics, params, tags: owned(&drawn.tags) }, ms(1)).await.unwrap();
        let datasets = drawn.datasets.iter().map(|(name, context)| input(name, "d", context)).collect();
        tracking.log_inputs(&run_id(number), datasets, vec![]).await.unwrap();
        let status = [RunStatus::Running, RunStatus::Succeeded, RunStatus::Failed, RunStatus::Queued][drawn.status];
        let update = RunUpdate { status: Some(status), ended_at: drawn.end.map(ms), name: None };
        tracking.update_run(&run_id(number), update, &ada, ms(1)).await.unwrap();
        if drawn.deleted {
            tracking.set_run_lifecycle(&run_id(number), Lifecycle::Deleted, &ada, ms(2)).await.unwrap();
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn searches_find_what_memory_finds(
        runs in proptest::collection::vec(drawn_run(), 0..14),
        of_runs in proptest::collection::vec(drawn_search(|| run_field().boxed()), 30),
        of_models in proptest::collection::vec(drawn_search(|| model_field().boxed()), 15),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let dir = tempfile::tempdir().unwrap();
            let sqlite = open(&dir.path().join("ledger.db")).await;
            let memory = MemoryLedger::new(Arc::new(ManualClock::new(at(500_000))));
            build(&sqlite, &runs).await;
            build(&memory, &runs).await;
            for search in &of_runs {
                let (found, expected) = (sqlite.search_runs(search).await.unwrap(), memory.search_runs(search).await.unwrap());
                // As text, where NaN equals NaN.
                assert_eq!(format!("{found:#?}"), format!("{expected:#?}"), "{search:#?}");
            }
            for search in &of_models {
                let found = sqlite.search_logged_models(search).await.unwrap();
                let expected = memory.search_logged_models(search).await.unwrap();
                assert_eq!(format!("{found:#?}"), format!("{expected:#?}"), "{search:#?}");
            }
        });
    }
}

#[tokio::test]
async fn every_way_of_a_search_finds_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = open(&dir.path().join("ledger.db")).await;
    for number in 0..40u32 {
        ledger.create_run(tracked(number), &Actor::user("ada"), ms(1)).await.unwrap();
        let long = "x".repeat(70) + &(number % 20).to_string();
        let batch = Batch {
            metrics: if number % 4 == 3 { vec![] } else { vec![point("auc", f64::from(number % 10), 1)] },
            params: vec![("long".into(), long)],
            tags: vec![("parent".into(), (number % 13).to_string())],
        };
        ledger.log(&run_id(number), batch, ms(1)).await.unwrap();
    }
    let auc = || Field::Metric("auc".into());
    let test = |field, op| Filter::Test(Test { field, op, or_absent: false });
    let found = async |filter: Filter, order: Vec<OrderBy>, limit| {
        let page = ledger.search_runs(&Search { limit, ..search(filter, order) }).await.unwrap();
        page.items.iter().map(|r| u32::from_str_radix(&r.id.0, 16).unwrap()).collect::<Vec<_>>()
    };
    let by_auc = |ascending| vec![OrderBy { field: auc(), ascending, dataset: None }];
    // Along the order.
    assert_eq!(found(Filter::default(), by_auc(false), 4).await, [29, 9, 38, 28]);
    assert_eq!(found(Filter::default(), by_auc(true), 3).await, [30, 20, 10]);
    // Along the order to its end, then what has no value.
    assert_eq!(found(test(auc(), Op::Greater(Value::Number(8.0))), by_auc(false), 40).await, [29, 9]);
    assert_eq!(found(Filter::default(), by_auc(false), 40).await.len(), 40);
    // From an index: few have the tag, and values longer than the index.
    assert_eq!(found(test(Field::Tag("parent".into()), Op::Equal(Value::Text("5".into()))), by_auc(false), 9).await, [18, 5, 31]);
    let long = "x".repeat(70) + "7";
    assert_eq!(found(test(Field::Param("long".into()), Op::Equal(Value::Text(long))), vec![], 9).await, [27, 7]);
}

#[test]
fn the_journal_takes_as_many_points_as_a_request_may_have() {
    let many = |count: usize| points((0..count).map(|step| point("m", 0.5, step as i64)).collect());
    assert!(log::for_journal(&many(1)) && log::for_journal(&many(limits::TRACK_BATCH_METRICS_MAX)));
    assert!(!log::for_journal(&many(0)) && !log::for_journal(&many(limits::TRACK_BATCH_METRICS_MAX + 1)));
    assert!(!log::for_journal(&Batch { params: vec![("depth".into(), "3".into())], ..many(1) }));
}
