//! What a user sees of validation: counts that add up, quarantine, severities, new rules, crashes, mended rows.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on says so")]

#[path = "../../ingest/tests/support/mod.rs"]
#[expect(dead_code, reason = "shared with the tests of ingestion, which use the rest")]
mod support;

use arrow::array::{ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use gristmill_kernel::error::{Code, Kind};
use gristmill_kernel::table::{Position, SystemColumns, TableName, TableWrite, WriteMode};
use gristmill_kernel::version::Place;
use gristmill_kernel::{Digest, Done, NewVersion, Order, Result, Stage, StageContext, StageKind, Verdict};
use gristmill_validate::profile::Profile;
use gristmill_validate::spec::{Expectation, Otherwise, ValidateSpec};
use gristmill_validate::{ValidateStage, quarantined, replay};
use serde_json::json;
use std::sync::Arc;
use support::{World, made, name, unchanged};

fn expect(that: &str, otherwise: Otherwise) -> Expectation {
    Expectation { that: that.into(), at_least: 1.0, otherwise }
}

fn spec(expect: Vec<Expectation>) -> ValidateSpec {
    ValidateSpec { source: name("sales"), time: Some("at".into()), expect }
}

/// A load of raw rows: (id, price), one per hour; an id of 0 is no id.
fn rows(values: &[(i64, f64)]) -> RecordBatch {
    let ids = values.iter().map(|(id, _)| (*id != 0).then_some(*id)).collect::<Vec<_>>();
    let times = (0..values.len()).map(|i| (values[i].1 != 99.0).then_some(i as i64 * 3_600_000_000)).collect::<Vec<_>>();
    RecordBatch::try_from_iter_with_nullable([
        ("id", Arc::new(Int64Array::from(ids)) as ArrayRef, true),
        ("price", Arc::new(Float64Array::from_iter_values(values.iter().map(|v| v.1))) as ArrayRef, true),
        ("what", Arc::new(StringArray::from(vec!["a \"b\""; values.len()])) as ArrayRef, true),
        ("at", Arc::new(TimestampMicrosecondArray::from(times).with_timezone("UTC")) as ArrayRef, true),
    ])
    .unwrap()
}

/// Stands in for ingestion: writes what it is given, or nothing.
struct Load(Vec<RecordBatch>, WriteMode);

#[async_trait::async_trait]
impl Stage for Load {
    fn kind(&self) -> StageKind {
        StageKind::Ingest
    }
    async fn run(&self, cx: &StageContext, order: Order) -> Result<Done> {
        let table = TableName::of(&order.node.address);
        let at = cx.ports.engine.table(&table).await?.and_then(|i| i.positions.get("files").copied()).unwrap_or(0);
        let write = TableWrite {
            table: table.clone(),
            rows: self.0.clone(),
            mode: self.1,
            system: SystemColumns::Assign(cx.ports.clock.now()),
            positions: vec![Position { stream: "files".into(), offset: at + 1 }],
            note: json!(null),
        };
        let info = cx.ports.engine.write(write).await?.info;
        let output = NewVersion {
            asset: order.node.address,
            digest: Digest::of(info.version.to_string()),
            place: Place::Table { table, version: info.version },
            rows: Some(info.rows),
            meta: json!({"load": info.last_load, "generation": info.generation}),
        };
        Ok(Done::Made(gristmill_kernel::stage::Made { outputs: vec![output], ..Default::default() }))
    }
}

async fn load(world: &World, values: &[(i64, f64)]) {
    made(world.run(&Load(vec![rows(values)], WriteMode::Append), StageKind::Ingest, "raw.sales", json!({}), &[]).await.unwrap());
}

async fn validate(world: &World, spec: &ValidateSpec) -> Result<Done> {
    world.run(&ValidateStage, StageKind::Validate, "sources.sales", serde_json::to_value(spec).unwrap(), &["raw.sales"]).await
}

fn counts(world: &World) -> (usize, usize, usize) {
    (world.engine.count("raw__sales"), world.engine.count("sources__sales"), world.engine.count("quarantine__sales"))
}

#[tokio::test]
async fn rows_are_accepted_or_quarantined_and_the_counts_add_up() {
    let world = World::new();
    let spec = spec(vec![
        expect("id is not null", Otherwise::Quarantine),
        expect("price >= 0", Otherwise::Quarantine),
        Expectation { that: "price > 0".into(), at_least: 0.5, otherwise: Otherwise::Warn },
    ]);
    load(&world, &[(1, 5.0), (0, -1.0), (2, 0.0), (3, 99.0)]).await;
    let done = made(validate(&world, &spec).await.unwrap());
    assert_eq!(done.summary, "read 4 = accepted 2 + quarantined 2 (50.00 %)");
    assert_eq!(done.verdict, Some(Verdict::Warn));
    assert_eq!(done.checks[0].observed, "25.00 % failed (1 of 4)");
    assert_eq!(done.checks[2].verdict, Verdict::Pass);
    assert_eq!(counts(&world), (4, 2, 2));
    assert_eq!(world.engine.column("quarantine__sales", "reason"), ["id is not null; price >= 0", "at is not null"]);
    assert_eq!(world.engine.column("quarantine__sales", "row")[0], r#"{"at":"1970-01-01T01:00:00Z","price":-1.0,"what":"a \"b\""}"#);
    // Accepted rows keep the numbers of their raw rows.
    assert_eq!(world.engine.column("sources__sales", "_row"), ["0", "2"]);
    // Nothing new, nothing done; a new load adds its own.
    unchanged(validate(&world, &spec).await.unwrap());
    load(&world, &[(4, 1.0)]).await;
    assert_eq!(made(validate(&world, &spec).await.unwrap()).summary, "read 1 = accepted 1 + quarantined 0");
    assert_eq!(counts(&world), (5, 3, 2));
    let profile = profile(&world).await;
    assert_eq!((profile.load.rows, profile.whole.rows), (1, 3));
    assert_eq!(profile.whole.column("price").unwrap().max.as_deref(), Some("5"));
}

async fn profile(world: &World) -> Profile {
    let blob = world.latest("profiles.sales").await.unwrap().blob().unwrap();
    Profile::read(&world.cx.ports.blobs.get(&blob).await.unwrap().unwrap()).unwrap()
}

#[tokio::test]
async fn the_real_rows_count_as_known() {
    let world = World::new();
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/churn/data/online_retail.parquet");
    let file = std::fs::File::open(path).unwrap();
    let reader =
        parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder::try_new(file).unwrap().with_batch_size(65_536).build().unwrap();
    let rows: Vec<RecordBatch> = reader
        .map(|b| {
            let b = b.unwrap();
            let pick = |name: &str, kind| arrow::compute::cast(b.column_by_name(name).unwrap(), &kind).unwrap();
            let times = TimestampMicrosecondArray::from(vec![0; b.num_rows()]).with_timezone("UTC");
            RecordBatch::try_from_iter_with_nullable([
                ("customer_id", pick("customer_id", arrow::datatypes::DataType::Float64), true),
                ("price", pick("price", arrow::datatypes::DataType::Float64), true),
                ("at", Arc::new(times) as ArrayRef, true),
            ])
            .unwrap()
        })
        .collect();
    made(world.run(&Load(rows, WriteMode::Append), StageKind::Ingest, "raw.sales", json!({}), &[]).await.unwrap());
    let spec = spec(vec![expect("customer_id is not null", Otherwise::Quarantine)]);
    let done = made(validate(&world, &spec).await.unwrap());
    assert_eq!(done.summary, "read 1,067,371 = accepted 824,364 + quarantined 243,007 (22.77 %)");
    assert_eq!(counts(&world), (1_067_371, 824_364, 243_007));
    let profile = profile(&world).await;
    let customers = profile.whole.column("customer_id").unwrap();
    assert!(customers.nulls == 0 && (5_600..6_300).contains(&customers.distinct), "{} of 5,942", customers.distinct);
}

#[tokio::test]
async fn other_rules_judge_every_row_anew() {
    let world = World::new();
    load(&world, &[(1, 5.0), (0, 2.0)]).await;
    load(&world, &[(2, -1.0)]).await;
    made(validate(&world, &spec(vec![expect("id is not null", Otherwise::Quarantine)])).await.unwrap());
    assert_eq!(counts(&world), (3, 2, 1));
    let done = made(validate(&world, &spec(vec![expect("price >= 0", Otherwise::Quarantine)])).await.unwrap());
    // Rows without an id are accepted now, which the profile notes.
    assert_eq!(done.summary, "read 3 = accepted 2 + quarantined 1 (33.33 %); column `id` was empty in 0.0 % of rows, is in 50.0 %");
    assert_eq!(world.engine.column("quarantine__sales", "reason"), ["price >= 0"]);
    // So do raw rows that were replaced.
    made(world.run(&Load(vec![rows(&[(7, 7.0)])], WriteMode::Overwrite), StageKind::Ingest, "raw.sales", json!({}), &[]).await.unwrap());
    made(validate(&world, &spec(vec![expect("price >= 0", Otherwise::Quarantine)])).await.unwrap());
    assert_eq!(counts(&world), (1, 1, 0));
    assert_eq!(profile(&world).await.whole.rows, 1);
}

#[tokio::test]
async fn fail_refuses_the_load_and_keeps_the_raw_rows() {
    let world = World::new();
    load(&world, &[(1, 5.0)]).await;
    let spec = spec(vec![expect("id is not null", Otherwise::Fail)]);
    made(validate(&world, &spec).await.unwrap());
    load(&world, &[(0, 5.0), (2, 5.0)]).await;
    let fault = validate(&world, &spec).await.unwrap_err();
    assert_eq!((fault.code, fault.kind), (Code::EXPECTATION_FAILED, Kind::Refused));
    assert!(fault.message.contains("50.00 % failed (1 of 2)") && fault.fix.is_some(), "{fault}");
    assert_eq!(counts(&world), (3, 1, 0));
}

#[tokio::test]
async fn unique_looks_at_the_whole_load_and_at_what_was_accepted() {
    let world = World::new();
    let spec = spec(vec![expect("unique(id)", Otherwise::Quarantine)]);
    let batches = vec![rows(&[(1, 1.0), (2, 1.0)]), rows(&[(2, 2.0), (3, 1.0)])];
    made(world.run(&Load(batches, WriteMode::Append), StageKind::Ingest, "raw.sales", json!({}), &[]).await.unwrap());
    made(validate(&world, &spec).await.unwrap());
    assert_eq!(world.engine.column("sources__sales", "id"), ["1", "2", "3"]);
    load(&world, &[(3, 3.0), (4, 1.0)]).await;
    made(validate(&world, &spec).await.unwrap());
    assert_eq!(world.engine.column("sources__sales", "id"), ["1", "2", "3", "4"]);
    assert_eq!(counts(&world), (6, 4, 2));
    // Each load of a snapshot is a whole of its own.
    let world = World::new();
    let snapshot = ValidateSpec { time: None, ..spec };
    load(&world, &[(1, 1.0), (2, 1.0)]).await;
    load(&world, &[(1, 2.0), (2, 2.0)]).await;
    made(validate(&world, &snapshot).await.unwrap());
    load(&world, &[(1, 3.0), (1, 3.0)]).await;
    made(validate(&world, &snapshot).await.unwrap());
    assert_eq!(counts(&world), (6, 5, 1));
}

#[tokio::test]
async fn a_crash_between_the_two_commits_is_healed() {
    for rules_change in [false, true] {
        let world = World::new();
        let first = spec(vec![expect("id is not null", Otherwise::Quarantine)]);
        load(&world, &[(1, 1.0), (0, 1.0)]).await;
        made(validate(&world, &first).await.unwrap());
        load(&world, &[(2, 2.0), (0, 2.0)]).await;
        world.engine.fail_next_write("sources__sales");
        assert!(validate(&world, &first).await.is_err());
        assert_eq!(counts(&world), (4, 1, 2));
        // More comes in before the next try.
        load(&world, &[(3, -3.0), (0, 3.0)]).await;
        let next = if rules_change { spec(vec![expect("price >= 0", Otherwise::Quarantine)]) } else { first };
        made(validate(&world, &next).await.unwrap());
        let expected = if rules_change { (6, 5, 1) } else { (6, 3, 3) };
        assert_eq!(counts(&world), expected);
        assert_eq!(profile(&world).await.whole.rows, expected.1 as u64);
        unchanged(validate(&world, &next).await.unwrap());
    }
}

#[tokio::test]
async fn quarantined_rows_are_listed_mended_and_sent_back_once() {
    let world = World::new();
    let spec = spec(vec![expect("id is not null", Otherwise::Quarantine)]);
    load(&world, &[(1, 1.0), (0, 2.0), (0, 3.0)]).await;
    made(validate(&world, &spec).await.unwrap());
    let waiting = quarantined(&world.cx.ports, &spec.source, 10).await.unwrap();
    assert_eq!(waiting.len(), 2);
    let mut row = waiting[0].content.clone();
    (row["_load"], row["_row"], row["id"]) = (waiting[0].load.into(), waiting[0].row.into(), 9.into());
    let lines = row.to_string();
    let sent = replay(&world.cx.ports, &spec, &lines).await.unwrap();
    assert_eq!((sent.rows, sent.duplicate), (1, false));
    // Again, after a lost answer: nothing doubles.
    assert!(replay(&world.cx.ports, &spec, &lines).await.unwrap().duplicate);
    let entries = world.cx.ports.journal.read(&spec.source, 0, 10).await.unwrap();
    assert_eq!(entries.len(), 1);
    assert_eq!(serde_json::from_slice::<serde_json::Value>(&entries[0].row).unwrap()["id"], 9);
    let left = quarantined(&world.cx.ports, &spec.source, 10).await.unwrap();
    assert_eq!(left, waiting[1..]);
    row["id"] = 10.into();
    let fault = replay(&world.cx.ports, &spec, &row.to_string()).await.unwrap_err();
    assert!(fault.message.contains("mended already"), "{fault}");
    // Judging everything anew keeps what people did.
    let other = ValidateSpec { expect: vec![spec.expect[0].clone(), expect("price >= 0", Otherwise::Warn)], ..spec.clone() };
    made(validate(&world, &other).await.unwrap());
    assert_eq!(quarantined(&world.cx.ports, &spec.source, 10).await.unwrap(), waiting[1..]);
}

#[tokio::test]
async fn fresh_looks_at_the_newest_event() {
    let world = World::new();
    let spec = spec(vec![expect("fresh('2 hours')", Otherwise::Warn)]);
    load(&world, &[(1, 1.0), (2, 1.0)]).await;
    world.clock.set("1970-01-01T02:00:00Z".parse().unwrap());
    assert_eq!(made(validate(&world, &spec).await.unwrap()).verdict, Some(Verdict::Pass));
    load(&world, &[(3, 1.0)]).await;
    world.clock.set("1970-01-01T04:00:00Z".parse().unwrap());
    let done = made(validate(&world, &spec).await.unwrap());
    assert_eq!((done.verdict, done.checks[0].observed.as_str()), (Some(Verdict::Warn), "newest event at 1970-01-01T01:00:00Z, 3h ago"));
}

#[tokio::test]
async fn a_source_without_raw_rows_says_what_to_run() {
    let world = World::new();
    let fault = validate(&world, &spec(vec![])).await.unwrap_err();
    assert!(fault.fix.as_deref().unwrap().contains("gristmill run raw.sales"), "{fault}");
}
