//! How long training sets take: labels x events of a size, for two forms of views.
//!
//!     cargo run --release --workspace --example training_set -- [LABELS] [EVENTS] [FOLDER]
//!
//! With FOLDER, labels and events are written there as Parquet before anything is measured, for other engines to read.

use arrow::array::{ArrayRef, Float64Array, Int64Array, RecordBatch, TimestampMicrosecondArray};
use gristmill_engine::LocalEngine;
use gristmill_kernel::port::{Engine, TableShape};
use gristmill_kernel::table::{Catalog, Relation};
use gristmill_kernel::view::{Ties, ViewAt, ViewDef};
use rand::prelude::*;
use rand::rngs::StdRng;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

const DAY: i64 = 86_400_000_000;
const BASE: i64 = 1_600_000_000_000_000;
const COLUMNS: usize = 10;
const BATCH: usize = 65_536;

const WINDOWS: &str = "select customer_id,
    count(*) filter (where event_time > as_of() - interval '1 day') as n1, sum(x0) filter (where event_time > as_of() - interval '1 day') as s1,
    avg(x1) filter (where event_time > as_of() - interval '1 day') as a1, max(x2) filter (where event_time > as_of() - interval '1 day') as m1,
    count(*) filter (where event_time > as_of() - interval '7 days') as n7, sum(x0) filter (where event_time > as_of() - interval '7 days') as s7,
    avg(x1) filter (where event_time > as_of() - interval '7 days') as a7, max(x2) filter (where event_time > as_of() - interval '7 days') as m7,
    count(*) as n30, sum(x0) as s30, avg(x1) as a30, max(x2) as m30
  from events where event_time > as_of() - interval '30 days' group by customer_id";

fn batch(columns: Vec<(&str, ArrayRef)>) -> RecordBatch {
    RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, column)| (name, column, true))).expect("columns of one length")
}

/// Customers by a power law: a few have much, most have little.
fn customer(rng: &mut StdRng, customers: f64) -> i64 {
    (customers.powf(rng.random::<f64>()) - 1.0) as i64
}

fn events(rng: &mut StdRng, rows: usize, customers: f64) -> RecordBatch {
    let keys: Int64Array = (0..rows).map(|_| Some(customer(rng, customers))).collect();
    let times: TimestampMicrosecondArray = (0..rows).map(|_| Some(BASE + rng.random_range(0..365 * DAY))).collect();
    let mut columns: Vec<(String, ArrayRef)> =
        vec![("customer_id".into(), Arc::new(keys)), ("event_time".into(), Arc::new(times.with_timezone("UTC")))];
    for number in 0..COLUMNS {
        let values: Float64Array = (0..rows).map(|_| Some(f64::from(rng.random_range(0..100_000)) / 100.0)).collect();
        columns.push((format!("x{number}"), Arc::new(values)));
    }
    batch(columns.iter().map(|(name, column)| (name.as_str(), column.clone())).collect())
}

fn labels(rng: &mut StdRng, rows: usize, customers: f64) -> RecordBatch {
    let keys: Int64Array = (0..rows).map(|_| Some(customer(rng, customers))).collect();
    let times: TimestampMicrosecondArray = (0..rows).map(|_| Some(BASE + rng.random_range(30 * DAY..365 * DAY))).collect();
    batch(vec![("customer_id", Arc::new(keys)), ("time", Arc::new(times.with_timezone("UTC")))])
}

fn write(path: &Path, batches: &[RecordBatch]) {
    let file = std::fs::File::create(path).expect("a file");
    let mut writer = parquet::arrow::ArrowWriter::try_new(file, batches[0].schema(), None).expect("a writer");
    batches.iter().for_each(|rows| writer.write(rows).expect("rows"));
    writer.close().expect("a file");
}

#[tokio::main]
async fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let size = |at: usize, default: usize| args.get(at).and_then(|a| a.parse().ok()).unwrap_or(default);
    let (asked, rows) = (size(0, 1_000_000), size(1, 5_000_000));
    let customers = (asked as f64 / 5.0).max(10.0);
    let mut rng = StdRng::seed_from_u64(7);
    let batches: Vec<RecordBatch> = (0..rows.div_ceil(BATCH)).map(|at| events(&mut rng, BATCH.min(rows - at * BATCH), customers)).collect();
    let asked = labels(&mut rng, asked, customers);
    if let Some(folder) = args.get(2).map(Path::new) {
        std::fs::create_dir_all(folder).expect("a folder");
        write(&folder.join("events.parquet"), &batches);
        write(&folder.join("labels.parquet"), std::slice::from_ref(&asked));
    }
    let folder = tempfile::tempdir().expect("a folder");
    let engine = LocalEngine::open(folder.path()).expect("an engine");
    let schema = batches[0].schema();
    let shapes = BTreeMap::from([("events".to_owned(), TableShape { schema: schema.clone(), time: Some("event_time".into()) })]);
    let tables: Catalog = BTreeMap::from([("events".to_owned(), Relation::Rows(batches, schema))]);
    let latest = format!("select customer_id, {} from events", (0..COLUMNS).map(|i| format!("x{i}")).collect::<Vec<_>>().join(", "));
    for (name, sql) in [("latest of 10 columns", latest.as_str()), ("4 aggregates x 3 windows", WINDOWS)] {
        let def = ViewDef {
            name: "measured".parse().expect("a name"),
            entity: vec!["customer_id".to_owned()],
            at: ViewAt::Sources,
            online: false,
            ties: Ties::Exclude,
            sql: sql.to_owned(),
            file: "features/measured.sql".to_owned(),
            line_offset: 0,
        };
        let plan = engine.compile(&def, &shapes).await.expect("a view");
        for _ in 0..3 {
            let began = Instant::now();
            let answer = plan.evaluate(&asked, &tables).await.expect("answers");
            let took = began.elapsed().as_secs_f64();
            println!("{name:<26} {:<34} {:>9} labels {rows:>10} events {took:>8.3} s", plan.shape().how, answer.num_rows());
        }
    }
}
