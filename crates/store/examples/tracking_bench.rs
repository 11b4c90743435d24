//! How fast experiment tracking is on the SQLite ledger: logging with several writers, and searches of many runs.
//!
//! `cargo run --release -p gristmill-store --example tracking_bench -- [RUNS] [FOLDER]`; runs default to 10,000 with 50 metrics each, the folder
//! to a temporary one (it decides what a sync of the disk costs). Everything goes through the port, without HTTP.

use gristmill_kernel::port::Tracking;
use gristmill_kernel::tracking::filter::{Field, Filter, Op, OrderBy, Test, Value};
use gristmill_kernel::tracking::{Batch, ExperimentId, HistoryWanted, NewTrackedRun, Point, RunUpdate, Search, ViewType};
use gristmill_kernel::{Actor, RunId, RunStatus, Timestamp};
use gristmill_store::ledger::SqliteLedger;
use gristmill_store::system::SystemClock;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use std::error::Error;
use std::sync::Arc;
use std::time::{Duration, Instant};

type Done<T = ()> = Result<T, Box<dyn Error>>;

const METRICS: usize = 50;
const PARAMS: usize = 10;
const REPEATS: usize = 200;

fn run_id(number: usize) -> RunId {
    RunId(format!("{number:032x}"))
}

fn moment(millis: usize) -> Timestamp {
    Timestamp::from_micros(millis as i64 * 1_000)
}

fn point(key: String, value: f64, step: i64) -> Point {
    Point { key, value, at: moment(step as usize), step, model: None, dataset: None }
}

fn tracked(number: usize) -> NewTrackedRun {
    let (id, name) = (run_id(number), format!("run-{number}"));
    let tags = [("mlflow.source.type".to_owned(), "LOCAL".to_owned()), ("group".to_owned(), format!("g{}", number % 100))].into();
    NewTrackedRun { id, experiment: ExperimentId(0), name, user: "ada".into(), started_at: Some(moment(number)), tags }
}

fn told(what: &str, mut times: Vec<Duration>) {
    times.sort();
    let at = |part: f64| times[((times.len() - 1) as f64 * part) as usize];
    println!("{what:58} p50 {:>10.1?}  p99 {:>10.1?}", at(0.5), at(0.99));
}

async fn fill(ledger: &Arc<SqliteLedger>, runs: usize) -> Done {
    let began = Instant::now();
    let writers = (0..64).map(|writer| {
        let ledger = Arc::clone(ledger);
        tokio::spawn(async move {
            let mut rng = StdRng::seed_from_u64(writer as u64);
            for number in (writer..runs).step_by(64) {
                ledger.create_run(tracked(number), &Actor::user("ada"), moment(number)).await?;
                let metrics = (0..METRICS).map(|m| point(format!("metric_{m}"), rng.random(), 1)).collect();
                let params = (0..PARAMS).map(|p| (format!("param_{p}"), rng.random_range(0..10).to_string())).collect();
                ledger.log(&run_id(number), Batch { metrics, params, tags: vec![] }, moment(number)).await?;
                let end = RunUpdate { status: Some(RunStatus::Succeeded), ended_at: Some(moment(number + 1)), name: None };
                ledger.update_run(&run_id(number), end, &Actor::user("ada"), moment(number)).await?;
            }
            Ok::<(), gristmill_kernel::Fault>(())
        })
    });
    for writer in futures::future::join_all(writers).await {
        writer??;
    }
    let took = began.elapsed();
    println!("filled {runs} runs x {METRICS} metrics in {took:.1?}: {:.0} runs/s", runs as f64 / took.as_secs_f64());
    Ok(())
}

async fn logging(ledger: &Arc<SqliteLedger>, writers: usize, one_run: bool) -> Done {
    let began = Instant::now();
    let lasts = Duration::from_secs(4);
    let tasks = (0..writers).map(|writer| {
        let ledger = Arc::clone(ledger);
        tokio::spawn(async move {
            let (id, mut times) = (run_id(if one_run { 0 } else { writer }), Vec::new());
            while began.elapsed() < lasts {
                let step = (writer * 1_000_000 + times.len()) as i64 + 10;
                let start = Instant::now();
                ledger.log(&id, Batch { metrics: vec![point("loss".into(), 0.5, step)], ..Batch::default() }, moment(1)).await?;
                times.push(start.elapsed());
            }
            Ok::<Vec<Duration>, gristmill_kernel::Fault>(times)
        })
    });
    let mut times = Vec::new();
    for task in futures::future::join_all(tasks).await {
        times.extend(task??);
    }
    let rate = times.len() as f64 / began.elapsed().as_secs_f64();
    let runs = if one_run { "one run" } else { "a run each" };
    told(&format!("log one metric, {writers} writers, {runs}: {rate:.0}/s"), times);
    Ok(())
}

async fn batches(ledger: &Arc<SqliteLedger>) -> Done {
    let mut times = Vec::new();
    for batch in 0..100i64 {
        let metrics: Vec<Point> = (0..1_000).map(|step| point("curve".into(), 0.5, batch * 1_000 + step)).collect();
        let logged = Batch { metrics, ..Batch::default() };
        let start = Instant::now();
        ledger.log(&run_id(0), logged.clone(), moment(1)).await?;
        times.push(start.elapsed());
        if batch == 99 {
            let start = Instant::now();
            ledger.log(&run_id(0), logged, moment(1)).await?;
            println!("the same batch of 1,000 again {:?}", start.elapsed());
        }
    }
    told("log a batch of 1,000 points", times);
    let start = Instant::now();
    let all = ledger.history(&run_id(0), "curve", HistoryWanted { limit: Some(25_000), offset: 0 }).await?.items.len();
    println!("history, first {all} of 100,000 points {:?}", start.elapsed());
    let start = Instant::now();
    let shown = ledger.sampled_history(&[run_id(0)], "curve", None, 320).await?.len();
    println!("history thinned to {shown} of 100,000 points {:?}", start.elapsed());
    Ok(())
}

fn test(field: Field, op: Op) -> Filter {
    Filter::Test(Test { field, op, or_absent: false })
}

fn by(field: Field) -> Vec<OrderBy> {
    vec![OrderBy { field, ascending: false, dataset: None }]
}

async fn searches(ledger: &SqliteLedger, runs: usize) -> Done {
    let metric = |number: usize| Field::Metric(format!("metric_{number}"));
    let above = |number: usize, limit: f64| test(metric(number), Op::Greater(Value::Number(limit)));
    let param = |number: usize| test(Field::Param(format!("param_{number}")), Op::Equal(Value::Text("3".into())));
    let group = test(Field::Tag("group".into()), Op::Equal(Value::Text("g7".into())));
    let name = test(Field::Attribute("run_name".into()), Op::ILike("%N-77%".into()));
    let cases = [
        ("everything, newest first", Filter::default(), vec![]),
        ("everything, by a metric", Filter::default(), by(metric(1))),
        ("metric > 0.5 and param = 3, by another metric", Filter::All(vec![above(0, 0.5), param(0)]), by(metric(1))),
        ("metric > 0.5 and metric > 0.5, newest first", Filter::All(vec![above(0, 0.5), above(1, 0.5)]), vec![]),
        ("metric > 0.999, by another metric", above(0, 0.999), by(metric(1))),
        ("three params (1 in 1,000), by a metric", Filter::All(vec![param(0), param(1), param(2)]), by(metric(1))),
        ("a tag (1 in 100), newest first", group, vec![]),
        ("name ILIKE, by a metric", name, by(metric(3))),
        ("everything, by a param", Filter::default(), by(Field::Param("param_1".into()))),
    ];
    for (what, filter, order) in cases {
        let search = Search { experiments: vec![ExperimentId(0)], view: ViewType::ActiveOnly, filter, order, limit: 100, offset: 0 };
        let (mut times, mut found) = (Vec::new(), 0);
        let repeats = if runs > 20_000 { REPEATS / 10 } else { REPEATS };
        for _ in 0..repeats {
            let start = Instant::now();
            found = ledger.search_runs(&search).await?.items.len();
            times.push(start.elapsed());
        }
        told(&format!("{what} ({found})"), times);
    }
    let mut times = Vec::new();
    for number in 0..1_000 {
        let start = Instant::now();
        ledger.tracked_run(&run_id(number * 7 % runs)).await?;
        times.push(start.elapsed());
    }
    told("get a run", times);
    Ok(())
}

async fn measure() -> Done {
    let arguments: Vec<String> = std::env::args().collect();
    let runs = arguments.get(1).map_or(Ok(10_000), |text| text.parse())?;
    let folder = match arguments.get(2) {
        Some(parent) => tempfile::tempdir_in(parent)?,
        None => tempfile::tempdir()?,
    };
    let ledger = Arc::new(SqliteLedger::open(&folder.path().join("ledger.db"), Arc::new(SystemClock::new())).await?);
    fill(&ledger, runs).await?;
    println!("on disk {} MiB", std::fs::metadata(folder.path().join("ledger.db"))?.len() >> 20);
    searches(&ledger, runs).await?;
    logging(&ledger, 1, true).await?;
    logging(&ledger, 8, true).await?;
    logging(&ledger, 8, false).await?;
    logging(&ledger, 64, false).await?;
    batches(&ledger).await
}

fn main() -> Done {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?.block_on(measure())
}
