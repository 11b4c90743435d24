//! The stage and the reader on real tables, kept rows and the real ledger: what a training set knew, and what a served answer was based on.

#[path = "../../registry/tests/support/mod.rs"]
mod support;

use arrow::array::{ArrayRef, AsArray, BooleanArray, Float64Array, Int64Array, RecordBatch, TimestampMicrosecondArray};
use arrow::datatypes::{Float64Type, Int64Type};
use futures::TryStreamExt;
use gristmill_engine::LocalEngine;
use gristmill_features::kept::Slot;
use gristmill_features::run::read_blob;
use gristmill_features::spec::{FeaturesSpec, TrainingSetSpec};
use gristmill_features::{FeaturesStage, OnlineFeatures};
use gristmill_kernel::port::{FeatureReader, FeatureRequest, FeatureRows, SlotState, ViewRef, compile_view};
use gristmill_kernel::prediction::Horizon;
use gristmill_kernel::table::{SystemColumns, TableName, TableWrite, WriteMode};
use gristmill_kernel::training::{KnownRows, Split};
use gristmill_kernel::version::{Place, Which};
use gristmill_kernel::view::{PinnedTable, Ties, ViewAt, ViewDef};
use gristmill_kernel::{Digest, Name, NewVersion, StageKind, Timestamp};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;
use support::World;

const MINUTE: i64 = 60_000_000;
const START: i64 = 1_767_225_600_000_000;

fn name(text: &str) -> Name {
    Name::new(text).expect("a name")
}
fn events() -> TableName {
    TableName::try_from("sources__events".to_owned()).expect("a table")
}
fn moments(minutes: &[i64]) -> ArrayRef {
    Arc::new(TimestampMicrosecondArray::from_iter_values(minutes.iter().map(|m| START + m * MINUTE)).with_timezone("UTC"))
}

fn view() -> ViewDef {
    ViewDef {
        name: name("activity"),
        entity: vec!["customer_id".into()],
        at: ViewAt::Sources,
        online: true,
        request: Default::default(),
        ties: Ties::Exclude,
        sql: "select customer_id, count(*) as events, sum(amount) as spend from events group by customer_id".into(),
        file: "features/activity.sql".into(),
        line_offset: 0,
    }
}

struct Bench {
    world: World,
    _tables: tempfile::TempDir,
}

impl Bench {
    async fn new() -> Bench {
        let tables = tempfile::tempdir().expect("a folder");
        let mut world = World::new().await;
        world.ports.engine = Arc::new(LocalEngine::open(&tables.path().join("tables")).expect("an engine"));
        Bench { world, _tables: tables }
    }

    /// A load of events (customer, minute, amount) that became available at a minute, and the version of the source that has it.
    async fn load(&self, available: i64, rows: &[(i64, i64, f64)]) {
        let rows = RecordBatch::try_from_iter([
            ("customer_id", Arc::new(Int64Array::from_iter_values(rows.iter().map(|e| e.0))) as ArrayRef),
            ("at", moments(&rows.iter().map(|e| e.1).collect::<Vec<_>>())),
            ("amount", Arc::new(Float64Array::from_iter_values(rows.iter().map(|e| e.2)))),
        ])
        .expect("a batch");
        let system = SystemColumns::Assign(Timestamp::from_micros(START + available * MINUTE));
        let write = TableWrite { table: events(), rows: vec![rows], mode: WriteMode::Append, system, positions: vec![], note: Value::Null };
        let info = self.world.ports.engine.write(write).await.expect("written").info;
        let place = Place::Table { table: events(), version: info.version };
        self.made("sources.events", place, json!({ "version": info.version })).await;
    }

    async fn made(&self, asset: &str, place: Place, meta: Value) {
        let digest = match &place {
            Place::Blob { digest } => *digest,
            Place::Table { .. } | Place::Meta => Digest::of_json(&json!([asset, meta])),
        };
        let version = NewVersion { asset: asset.parse().expect("an address"), digest, place, rows: None, meta };
        self.world.ended(StageKind::Validate, asset, &[], |finish| finish.outputs = vec![version]).await;
    }

    async fn bring_up_to_date(&self) {
        let spec = FeaturesSpec::View { view: view(), tables: BTreeMap::from([("events".to_owned(), Some("at".to_owned()))]) };
        self.world.step(&FeaturesStage, "features.activity", &spec, &["sources.events"]).await.expect("the view");
    }

    /// Labels of customer 1 at these minutes.
    async fn labels(&self, minutes: &[i64]) {
        let rows = RecordBatch::try_from_iter([
            ("customer_id", Arc::new(Int64Array::from_value(1, minutes.len())) as ArrayRef),
            ("__time", moments(minutes)),
            ("__label", Arc::new(BooleanArray::from_iter(minutes.iter().map(|m| Some(m % 2 == 0))))),
        ])
        .expect("a batch");
        let digest = self.world.ports.blobs.put(gristmill_features::blob::write(&rows).expect("bytes")).await.expect("stored");
        self.made("labels.buys", Place::Blob { digest }, json!({ "entity": ["customer_id"] })).await;
    }

    /// The events that each label saw.
    async fn training_set(&self, known: KnownRows) -> Vec<i64> {
        let spec = FeaturesSpec::TrainingSet(TrainingSetSpec {
            name: name("buys"),
            labels: name("buys"),
            views: vec![name("activity")],
            split: Split::Time { test: 0.5 },
            group: None,
            known,
        });
        let run = self.world.step(&FeaturesStage, "training_sets.buys", &spec, &["labels.buys", "features.activity"]).await.expect("a set");
        assert_eq!(run.summary.contains("as it was known then"), known == KnownRows::Then, "{}", run.summary);
        let asset = "training_sets.buys".parse().expect("an address");
        let version = self.world.ports.ledger.version(&asset, &Which::Latest).await.expect("reads").expect("a version");
        assert_eq!(version.meta.get("known").and_then(Value::as_str), (known == KnownRows::Then).then_some("then"));
        let rows = read_blob(&self.world.ports, &version).await.expect("rows");
        rows.column_by_name("activity.events").expect("the feature").as_primitive::<Int64Type>().values().to_vec()
    }
}

#[tokio::test]
async fn a_training_set_can_be_asked_as_it_was_known_then() {
    let bench = Bench::new().await;
    bench.load(10, &[(1, 1, 1.0), (1, 2, 1.0)]).await;
    // Late: it happened at minute 5 and was known at minute 30.
    bench.load(30, &[(1, 5, 1.0), (1, 29, 1.0)]).await;
    bench.bring_up_to_date().await;
    bench.labels(&[3, 9, 10, 11, 29, 30, 31]).await;
    assert_eq!(bench.training_set(KnownRows::Now).await, [2, 3, 3, 3, 3, 4, 4], "what is known today");
    assert_eq!(bench.training_set(KnownRows::Then).await, [0, 0, 2, 2, 2, 4, 4], "a row counts from the moment it was available");
}

#[test]
fn a_set_that_does_not_ask_has_the_spec_it_always_had() {
    let spec = |known| {
        let (name, labels, views) = (name("buys"), name("buys"), vec![name("activity")]);
        let set = TrainingSetSpec { name, labels, views, split: Split::default(), group: None, known };
        serde_json::to_value(FeaturesSpec::TrainingSet(set)).expect("json")
    };
    let split = json!({ "by": "time", "test": 0.2 });
    let before = json!({ "make": "training_set", "name": "buys", "labels": "buys", "views": ["activity"], "split": split, "group": null });
    assert_eq!(spec(KnownRows::Now), before);
    assert_eq!(spec(KnownRows::Then)["known"], "then");
    let read: FeaturesSpec = serde_json::from_value(before).expect("an old spec reads");
    assert!(matches!(read, FeaturesSpec::TrainingSet(set) if set.known == KnownRows::Now));
}

fn request(minute: i64) -> FeatureRequest {
    let rows = RecordBatch::try_from_iter([("customer_id", Arc::new(Int64Array::from(vec![1])) as ArrayRef)]).expect("a batch");
    FeatureRequest { views: vec![ViewRef::newest(name("activity"))], rows, at: Timestamp::from_micros(START + minute * MINUTE) }
}

fn spend(rows: &FeatureRows) -> Option<f64> {
    let column = rows.columns.column_by_name("activity.spend").expect("the feature").as_primitive::<Float64Type>();
    column.iter().next().flatten()
}

fn horizon(rows: &FeatureRows) -> Horizon {
    rows.basis.views[&name("activity")].tables["events"]
}

#[tokio::test]
async fn an_answer_is_based_on_whole_loads_and_says_on_which() {
    let bench = Bench::new().await;
    bench.load(10, &[(1, 1, 1.0), (1, 2, 2.0)]).await;
    bench.bring_up_to_date().await;
    let online = OnlineFeatures::new(bench.world.ports.clone());
    online.refresh().await.expect("loads");
    let first = online.read(request(60)).await.expect("features");
    assert_eq!((spend(&first), horizon(&first)), (Some(3.0), Horizon { generation: 0, load: 1 }));
    assert_eq!(first.basis.views[&name("activity")].version, 1);

    // A load of which only some rows are in yet: an answer between them is based on none of it.
    bench.load(20, &[(1, 11, 4.0), (1, 12, 8.0)]).await;
    let ports = &bench.world.ports;
    let tables = BTreeMap::from([("events".to_owned(), PinnedTable { table: events(), version: 1, time: Some("at".into()) })]);
    let plan = compile_view(ports.engine.as_ref(), &view(), &tables).await.expect("compiles");
    let info = ports.engine.table(&events()).await.expect("reads").expect("a table");
    let slot = Slot::new(events(), &plan.shape().kept[0], &info.schema);
    let loaded: Vec<RecordBatch> = ports.engine.scan(&events(), None, 1).await.expect("scans").try_collect().await.expect("rows");
    let half = slot.encode(&loaded[0].slice(0, 1)).expect("encoded");
    let state = SlotState { layout: slot.layout.clone(), generation: 0, load: 1, window: slot.window, kept_from: None };
    ports.online.write(&slot.name, half, &state).await.expect("written");
    let between = online.read(request(60)).await.expect("features");
    assert_eq!((spend(&between), horizon(&between).load, &between.newest), (Some(3.0), 1, &first.newest));

    bench.bring_up_to_date().await;
    let after = online.read(request(60)).await.expect("features");
    assert_eq!((spend(&after), horizon(&after).load), (Some(15.0), 2));

    // Rows of another layout are not read as if they were of this one.
    let other = SlotState { layout: "another".into(), generation: 0, load: 2, window: slot.window, kept_from: None };
    ports.online.write(&slot.name, Vec::new(), &other).await.expect("written");
    let fault = online.read(request(60)).await.expect_err("rebuilt");
    assert!(fault.message.contains("are being rebuilt") && fault.fix.is_some(), "{fault}");
}
