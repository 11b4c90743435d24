//! The audit on real tables and the real ledger: a vector with one wrong bit is found, late rows and rows not yet applied are told apart from it.

#[path = "../../registry/tests/support/mod.rs"]
mod support;

use arrow::array::{ArrayRef, Float64Array, Int32Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use async_trait::async_trait;
use futures::TryStreamExt;
use gristmill_engine::LocalEngine;
use gristmill_kernel::model::{Body, Feature, Linear, LinearInput, Link, ModelFile, Task};
use gristmill_kernel::port::{Known, compile_view};
use gristmill_kernel::prediction::{Basis, Deployment, Horizon, LOG_FORMAT, ViewBasis};
use gristmill_kernel::table::{SystemColumns, TableName, TableWrite, WriteMode};
use gristmill_kernel::version::Place;
use gristmill_kernel::view::{FeatureType, PinnedTable, Ties, ViewAt, ViewDef, ViewMeta, pinned_catalog};
use gristmill_kernel::{Digest, Name, NewVersion, Result, Run, Span, StageKind, Timestamp, Verdict, VersionRef, logged};
use gristmill_monitor::{Egress, MonitorSpec, MonitorStage, Report, last_report};
use secrecy::SecretString;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use support::World;

const MINUTE: i64 = 60_000_000;
/// 2026-01-01.
const START: i64 = 1_767_225_600_000_000;

/// What was told to whom.
#[derive(Default)]
struct Told(Mutex<Vec<Value>>);

#[async_trait]
impl Egress for Told {
    async fn post_json(&self, _: &SecretString, body: &Value) -> Result<()> {
        self.0.lock().expect("a lock").push(body.clone());
        Ok(())
    }
}

struct Bench {
    world: World,
    told: Arc<Told>,
    logged: i64,
    _tables: tempfile::TempDir,
}

fn name(text: &str) -> Name {
    Name::new(text).expect("a name")
}
fn table(text: &str) -> TableName {
    TableName::try_from(text.to_owned()).expect("a table")
}
fn moment(minute: i64) -> i64 {
    START + minute * MINUTE
}
fn moments(of: Vec<i64>) -> ArrayRef {
    Arc::new(TimestampMicrosecondArray::from(of).with_timezone("UTC"))
}

fn view() -> ViewMeta {
    let sql = "select customer_id, count(*) as events, sum(amount) as spend, last_value(amount) as last \
               from events where at > as_of() - interval '30 days' group by customer_id";
    let view = ViewDef {
        name: name("activity"),
        entity: vec!["customer_id".into()],
        at: ViewAt::Sources,
        online: true,
        request: Default::default(),
        ties: Ties::Exclude,
        sql: sql.into(),
        file: "features/activity.sql".into(),
        line_offset: 0,
    };
    let events = PinnedTable { table: table("sources__events"), version: 0, time: Some("at".into()) };
    ViewMeta { format: ViewMeta::FORMAT, view, tables: BTreeMap::from([("events".into(), events)]), features: vec![] }
}

fn model() -> ModelFile {
    let feature = Feature { view: "activity".into(), column: "events".into(), kind: FeatureType::Number, categories: vec![] };
    let inputs = vec![LinearInput::Scaled { feature: 0, mean: 0.0, scale: 1.0, fill: 0.0 }];
    ModelFile {
        format: 1,
        name: "churn".into(),
        algorithm: "linear".into(),
        task: Task::Regression,
        classes: vec![],
        entity: vec!["customer_id".into()],
        features: vec![feature],
        body: Body::Linear(Linear { inputs, weights: vec![vec![1.0]], intercept: vec![0.0], link: Link::Identity }),
        reference: BTreeMap::new(),
        importance: BTreeMap::new(),
    }
}

/// A prediction to be: who, the moment of the features, the moment of the answer, the last load that serving had applied.
#[derive(Clone, Copy)]
struct Ask {
    customer: i64,
    as_of: i64,
    at: i64,
    load: i64,
}

impl Bench {
    async fn new() -> Bench {
        let tables = tempfile::tempdir().expect("a folder");
        let mut world = World::new().await;
        world.ports.engine = Arc::new(LocalEngine::open(&tables.path().join("tables")).expect("an engine"));
        let bench = Bench { world, told: Arc::default(), logged: 0, _tables: tables };
        let meta = serde_json::to_value(view()).expect("json");
        bench.made(StageKind::Features, "features.activity", Place::Meta, meta).await;
        let digest = bench.world.ports.blobs.put(model().write().expect("a model").into()).await.expect("stored");
        bench.made(StageKind::Train, "models.churn", Place::Blob { digest }, Value::Null).await;
        let stable = VersionRef { asset: "models.churn".parse().expect("an address"), number: 1 };
        let deployment = Deployment { format: 1, endpoint: name("churn"), stable, canary: None, serve: json!({}) };
        bench.made(StageKind::Deploy, "endpoints.churn", Place::Meta, serde_json::to_value(deployment).expect("json")).await;
        bench.world.point("endpoints.churn", "live", Some(1)).await;
        bench
    }

    async fn made(&self, stage: StageKind, asset: &str, place: Place, meta: Value) {
        let digest = Digest::of_json(&json!([asset, meta]));
        let version = NewVersion { asset: asset.parse().expect("an address"), digest, place, rows: None, meta };
        self.world.ended(stage, asset, &[], |finish| finish.outputs = vec![version]).await;
    }

    async fn write(&self, to: &str, rows: RecordBatch, mode: WriteMode, system: SystemColumns) {
        let write = TableWrite { table: table(to), rows: vec![rows], mode, system, positions: vec![], note: Value::Null };
        self.world.ports.engine.write(write).await.expect("written");
    }

    /// A load of events (customer, minute, amount) that became available at a minute.
    async fn load(&self, available: i64, events: &[(i64, i64, f64)], mode: WriteMode) {
        let rows = RecordBatch::try_from_iter([
            ("customer_id", Arc::new(Int64Array::from_iter_values(events.iter().map(|e| e.0))) as ArrayRef),
            ("at", moments(events.iter().map(|e| moment(e.1)).collect())),
            ("amount", Arc::new(Float64Array::from_iter_values(events.iter().map(|e| e.2)))),
        ])
        .expect("a batch");
        self.write("sources__events", rows, mode, SystemColumns::Assign(Timestamp::from_micros(moment(available)))).await;
    }

    /// The features as serving would answer them: from the rows of the loads it has applied.
    async fn served(&self, ask: Ask) -> Map<String, Value> {
        let meta = view();
        let engine = self.world.ports.engine.as_ref();
        let plan = compile_view(engine, &meta.view, &meta.tables).await.expect("compiles");
        let rows: Vec<RecordBatch> =
            engine.scan(&table("sources__events"), None, 0).await.expect("scans").try_collect().await.expect("rows");
        let schema = rows[0].schema();
        let mut catalog = pinned_catalog(meta.tables.iter());
        catalog.insert("events".into(), gristmill_kernel::table::Relation::Rows(rows, schema));
        let asked = RecordBatch::try_from_iter([
            ("customer_id", Arc::new(Int64Array::from(vec![ask.customer])) as ArrayRef),
            ("time", moments(vec![moment(ask.as_of)])),
        ])
        .expect("a batch");
        let loads = BTreeMap::from([("events".to_owned(), Int64Array::from(vec![ask.load]))]);
        let answer = plan.evaluate_known(&asked, &catalog, Known::Loads(&loads)).await.expect("answers");
        logged::row(&answer, 0).into_iter().map(|(column, value)| (format!("activity.{column}"), value)).collect()
    }

    /// Writes a prediction into the log.
    async fn log(&mut self, ask: Ask, features: &Map<String, Value>, generation: Option<u64>) {
        self.logged += 1;
        let basis = generation.map(|generation| {
            let tables = BTreeMap::from([("events".to_owned(), Horizon { generation, load: ask.load })]);
            let basis = Basis { views: BTreeMap::from([(name("activity"), ViewBasis { version: 1, tables })]) };
            serde_json::to_string(&basis).expect("json")
        });
        let text = |of: String| Arc::new(StringArray::from(vec![of])) as ArrayRef;
        let rows = RecordBatch::try_from_iter([
            ("prediction_id", text(format!("{:032x}", self.logged))),
            ("at", moments(vec![moment(ask.at)])),
            ("as_of", moments(vec![moment(ask.as_of)])),
            ("arm", text("stable".into())),
            ("model", text("models.churn@1".into())),
            ("entity", text(json!({ "customer_id": ask.customer }).to_string())),
            ("features", text(Value::Object(features.clone()).to_string())),
            ("score", Arc::new(Float64Array::from(vec![0.5])) as ArrayRef),
            ("outcome", Arc::new(StringArray::from(vec![None::<&str>]))),
            ("error", Arc::new(StringArray::from(vec![None::<&str>]))),
            ("format", Arc::new(Int32Array::from(vec![LOG_FORMAT]))),
            ("based_on", Arc::new(StringArray::from(vec![basis]))),
        ])
        .expect("a batch");
        self.write("predictions__churn", rows, WriteMode::Append, SystemColumns::None).await;
    }

    async fn answer(&mut self, ask: Ask) {
        let features = self.served(ask).await;
        self.log(ask, &features, Some(0)).await;
    }

    async fn monitor(&self, audit: u64) -> (Run, Report) {
        let spec = MonitorSpec {
            decide: None,
            endpoint: name("churn"),
            model: name("churn"),
            measure: "rmse".into(),
            drift: None,
            every: Span::from_secs(60),
            at_least: 1,
            parity: Some("mismatch_rate > 0".into()),
            audit,
            outcomes: None,
            alerts: vec!["https://example.org/hook".into()],
        };
        let stage = MonitorStage::new(self.told.clone());
        let run = self.world.step(&stage, "monitors.churn", &spec, &[]).await.expect("the monitor runs");
        let report = last_report(&self.world.ports, &name("churn")).await.expect("reads").expect("a report");
        (run, report)
    }
}

/// Two customers with events before minute 10, all loaded at minute 10.
async fn shop() -> Bench {
    let bench = Bench::new().await;
    bench.load(10, &[(1, 1, 0.1), (1, 2, 0.2), (2, 3, -0.0), (1, 4, 1e300), (1, 5, -1e300)], WriteMode::Append).await;
    bench
}

#[tokio::test]
async fn one_wrong_bit_is_found_and_told() {
    let mut bench = shop().await;
    for minute in 20..30 {
        bench.answer(Ask { customer: 1 + minute % 3, as_of: minute, at: minute, load: 1 }).await;
    }
    let ask = Ask { customer: 1, as_of: 30, at: 30, load: 1 };
    let mut features = bench.served(ask).await;
    let spend = features["activity.spend"].as_f64().expect("a number");
    let wrong = f64::from_bits(spend.to_bits() + 1);
    features.insert("activity.spend".into(), wrong.into());
    bench.log(ask, &features, Some(0)).await;
    // The same number as a whole one, and the other zero: both are other features.
    let ask = Ask { customer: 2, as_of: 31, at: 31, load: 1 };
    let mut features = bench.served(ask).await;
    assert_eq!(features["activity.last"].to_string(), "-0.0");
    features.insert("activity.last".into(), 0.0.into());
    bench.log(ask, &features, Some(0)).await;

    let (run, report) = bench.monitor(1_000).await;
    let parity = report.parity.clone().expect("an audit");
    assert_eq!((parity.checked, parity.mismatched, parity.late, parity.behind, parity.unknown), (12, 2, 0, 0, 0), "{parity:?}");
    assert_eq!((run.verdict, report.verdict, parity.verdict), (Some(Verdict::Fail), None, Some(Verdict::Fail)));
    assert!(parity.shown[0].contains(&format!("activity.spend was {wrong} and is {spend}")), "{:?}", parity.shown);
    assert_eq!((run.metrics["parity_checked"], run.metrics["parity_mismatched"], run.metrics["mismatch_rate"]), (12.0, 2.0, 2.0 / 12.0));
    assert!(run.checks.iter().any(|c| c.condition == "parity: mismatch_rate > 0" && c.observed.contains("2 differ")), "{:?}", run.checks);
    let told = bench.told.0.lock().expect("a lock").clone();
    assert_eq!((told.len(), told[0]["kind"].as_str()), (1, Some("parity")), "{told:?}");
    assert!(run.summary.contains("12 feature vectors computed again, 2 differ") && run.summary.contains("1 alerted"), "{}", run.summary);
}

#[tokio::test]
async fn late_rows_and_rows_not_yet_applied_are_no_skew() {
    let mut bench = shop().await;
    // Answered at minute 20; a row of minute 15 comes at minute 25: late.
    bench.answer(Ask { customer: 1, as_of: 20, at: 20, load: 1 }).await;
    bench.load(25, &[(1, 15, 7.0)], WriteMode::Append).await;
    // Answered at minute 30 from load 1, although load 2 had come at minute 25: not yet applied.
    bench.answer(Ask { customer: 1, as_of: 30, at: 30, load: 1 }).await;
    // Applied: equal, whatever else comes for others.
    bench.answer(Ask { customer: 1, as_of: 31, at: 31, load: 2 }).await;
    bench.load(40, &[(2, 35, 1.0)], WriteMode::Append).await;
    // A row exactly at the moment does not count, so it is no difference.
    bench.answer(Ask { customer: 2, as_of: 35, at: 41, load: 2 }).await;
    // Nothing was applied yet when somebody asked: behind.
    bench.answer(Ask { customer: 2, as_of: 39, at: 42, load: 0 }).await;
    // Features that came with the request are nobody's to compute.
    let sent = json!({ "activity.events": 99 }).as_object().expect("an object").clone();
    bench.log(Ask { customer: 2, as_of: 39, at: 43, load: 0 }, &sent, None).await;

    let (run, report) = bench.monitor(1_000).await;
    let parity = report.parity.expect("an audit");
    assert_eq!((parity.checked, parity.late, parity.behind, parity.mismatched, parity.unknown), (5, 1, 2, 0, 0), "{parity:?}");
    assert_eq!((run.verdict, run.metrics["mismatch_rate"]), (Some(Verdict::Pass), 0.0));
    assert!(bench.told.0.lock().expect("a lock").is_empty(), "nobody is told of late rows");
}

#[tokio::test]
async fn a_table_that_was_overwritten_cannot_be_judged_unless_nothing_differs() {
    let mut bench = shop().await;
    bench.answer(Ask { customer: 1, as_of: 20, at: 20, load: 1 }).await;
    bench.answer(Ask { customer: 2, as_of: 20, at: 20, load: 1 }).await;
    bench.load(50, &[(1, 1, 0.5), (2, 3, -0.0)], WriteMode::Overwrite).await;
    let (run, report) = bench.monitor(1_000).await;
    let parity = report.parity.expect("an audit");
    assert_eq!((parity.checked, parity.unknown, parity.mismatched), (1, 1, 0), "{parity:?}");
    assert_eq!(run.verdict, Some(Verdict::Pass));
}

#[tokio::test]
async fn a_sample_is_as_large_as_asked_and_none_is_none() {
    let mut bench = shop().await;
    for minute in 20..30 {
        bench.answer(Ask { customer: 1, as_of: minute, at: minute, load: 1 }).await;
    }
    let (run, report) = bench.monitor(4).await;
    assert_eq!((report.parity.expect("an audit").checked, report.rows), (4, 10));
    assert_eq!(run.metrics["rows"], 10.0);
    bench.answer(Ask { customer: 1, as_of: 40, at: 40, load: 1 }).await;
    let (run, report) = bench.monitor(0).await;
    assert_eq!((report.parity, report.rows, run.verdict), (None, 1, None), "each window is looked at once");
}
