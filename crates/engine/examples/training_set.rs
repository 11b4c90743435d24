//! How long training sets take, for `cargo xtask bench features`.
//!
//!     training_set make FOLDER LABELS EVENTS KEYS VIEW # writes labels.parquet and events.parquet, the same each time; KEYS: zipf or even
//!     training_set keep FOLDER                    # takes events.parquet into a table of ours, clustered by customer and time
//!     training_set run FOLDER VIEW                # answers the labels from the files, writes gristmill.parquet, prints seconds and peak memory as JSON
//!     training_set kept FOLDER VIEW               # the same from the table; writes kept.parquet
//!
//! What is measured begins with opening the two files, or the file and the table, and ends with the answers in memory, as for the peers; making,
//! taking in and writing are not.

use arrow::array::{ArrayRef, Float64Array, Int64Array, RecordBatch, TimestampMicrosecondArray};
use arrow::compute::concat_batches;
use arrow::datatypes::SchemaRef;
use gristmill_engine::LocalEngine;
use gristmill_kernel::Timestamp;
use gristmill_kernel::port::{Engine, TableShape, TableUpkeep};
use gristmill_kernel::table::{Catalog, Relation, SystemColumns, TableName, TableWrite, WriteMode};
use gristmill_kernel::view::{Ties, ViewAt, ViewDef};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ParquetRecordBatchReaderBuilder};
use rand::prelude::*;
use rand::rngs::StdRng;
use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

/// The one that the program has.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const DAY: i64 = 86_400_000_000;
const BASE: i64 = 1_600_000_000_000_000;
const BATCH: usize = 65_536;
/// Rows that come into the table at once.
const LOAD_ROWS: usize = 1 << 20;

/// The newest row before the label.
const LATEST: &str = "select customer_id, x0, x1, x2, x3, x4, x5, x6, x7, x8, x9 from events";
/// Counts, sums, means and maxima of three windows.
const WINDOWS: &str = "select customer_id,
    count(*)    filter (where event_time > as_of() - interval '1 day')  as n1,
    sum(amount) filter (where event_time > as_of() - interval '1 day')  as s1,
    avg(amount) filter (where event_time > as_of() - interval '1 day')  as a1,
    max(amount) filter (where event_time > as_of() - interval '1 day')  as m1,
    count(*)    filter (where event_time > as_of() - interval '7 days') as n7,
    sum(amount) filter (where event_time > as_of() - interval '7 days') as s7,
    avg(amount) filter (where event_time > as_of() - interval '7 days') as a7,
    max(amount) filter (where event_time > as_of() - interval '7 days') as m7,
    count(*) as n30, sum(amount) as s30, avg(amount) as a30, max(amount) as m30
  from events where event_time > as_of() - interval '30 days' group by customer_id";

fn batch(columns: Vec<(&str, ArrayRef)>) -> RecordBatch {
    RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, column)| (name, column, true))).expect("columns of one length")
}

/// Who is drawn.
#[derive(Clone, Copy)]
struct Customers {
    count: f64,
    /// By a power law: a few have much, most have little.
    zipf: bool,
}

impl Customers {
    fn one(self, rng: &mut StdRng) -> i64 {
        let at = rng.random::<f64>();
        if self.zipf { (self.count.powf(at) - 1.0) as i64 } else { (self.count * at) as i64 }
    }
}

/// The columns that a view reads beside customer and time.
fn values_of(view: &str) -> Vec<String> {
    if view == "windows" { vec!["amount".into()] } else { (0..10).map(|number| format!("x{number}")).collect() }
}

fn events(rng: &mut StdRng, rows: usize, customers: Customers, values: &[String]) -> RecordBatch {
    let keys: Int64Array = (0..rows).map(|_| Some(customers.one(rng))).collect();
    let times: TimestampMicrosecondArray = (0..rows).map(|_| Some(BASE + rng.random_range(0..365 * DAY))).collect();
    let mut columns: Vec<(String, ArrayRef)> =
        vec![("customer_id".into(), Arc::new(keys)), ("event_time".into(), Arc::new(times.with_timezone("UTC")))];
    for name in values {
        let values: Float64Array = (0..rows).map(|_| Some(f64::from(rng.random_range(0..100_000)) / 100.0)).collect();
        columns.push((name.clone(), Arc::new(values)));
    }
    batch(columns.iter().map(|(name, column)| (name.as_str(), column.clone())).collect())
}

fn labels(rng: &mut StdRng, rows: usize, customers: Customers) -> RecordBatch {
    let keys: Int64Array = (0..rows).map(|_| Some(customers.one(rng))).collect();
    let times: TimestampMicrosecondArray = (0..rows).map(|_| Some(BASE + rng.random_range(30 * DAY..365 * DAY))).collect();
    let ids: Int64Array = (0..rows as i64).map(Some).collect();
    batch(vec![("label_id", Arc::new(ids)), ("customer_id", Arc::new(keys)), ("time", Arc::new(times.with_timezone("UTC")))])
}

/// One batch after the other: there may be more than memory holds.
fn write(path: &Path, batches: impl IntoIterator<Item = RecordBatch>) {
    let mut batches = batches.into_iter().peekable();
    let schema = batches.peek().expect("rows").schema();
    let mut writer = parquet::arrow::ArrowWriter::try_new(File::create(path).expect("a file"), schema, None).expect("a writer");
    batches.for_each(|rows| writer.write(&rows).expect("rows"));
    writer.close().expect("a file");
}

/// Some columns of a file; its row groups are shared among the cores.
fn read(path: &Path, columns: &[&str]) -> (SchemaRef, Vec<RecordBatch>) {
    let open = || File::open(path).expect("a file that `make` wrote");
    let about = ArrowReaderMetadata::load(&open(), Default::default()).expect("Parquet");
    let mask = ProjectionMask::columns(about.parquet_schema(), columns.iter().copied());
    let groups: Vec<usize> = (0..about.metadata().num_row_groups()).collect();
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get);
    let part = |groups: Vec<usize>| {
        let reader = ParquetRecordBatchReaderBuilder::new_with_metadata(open(), about.clone()).with_projection(mask.clone());
        let reader = reader.with_row_groups(groups).with_batch_size(BATCH).build().expect("a reader");
        reader.collect::<Result<Vec<_>, _>>().expect("rows")
    };
    let batches: Vec<RecordBatch> = std::thread::scope(|scope| {
        let at_work: Vec<_> = groups.chunks(groups.len().div_ceil(threads).max(1)).map(|g| scope.spawn(|| part(g.to_vec()))).collect();
        at_work.into_iter().flat_map(|thread| thread.join().expect("a part")).collect()
    });
    (batches[0].schema(), batches)
}

/// Peak memory of this process, in MiB.
fn peak_mib() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:")).unwrap_or_default();
    line.split_whitespace().next().and_then(|kib| kib.parse::<f64>().ok()).unwrap_or(f64::NAN) / 1024.0
}

fn make(folder: &Path, asked: usize, rows: usize, zipf: bool, view: &str) {
    let customers = Customers { count: (asked as f64 / 5.0).max(10.0), zipf };
    let mut rng = StdRng::seed_from_u64(7);
    std::fs::create_dir_all(folder).expect("a folder");
    let values = values_of(view);
    let batches = (0..rows.div_ceil(BATCH)).map(|at| events(&mut rng, BATCH.min(rows - at * BATCH), customers, &values));
    write(&folder.join("events.parquet"), batches);
    write(&folder.join("labels.parquet"), [labels(&mut rng, asked, customers)]);
}

fn table() -> TableName {
    TableName::try_from("events".to_owned()).expect("a name")
}

/// Takes the events into a table of ours, load by load, and puts its files in order as upkeep does.
async fn keep(folder: &Path) {
    let engine = LocalEngine::open(&folder.join("tables")).expect("an engine");
    let file = File::open(folder.join("events.parquet")).expect("a file that `make` wrote");
    let reader = ParquetRecordBatchReaderBuilder::try_new(file).expect("Parquet").with_batch_size(LOAD_ROWS).build().expect("a reader");
    for (load, rows) in reader.enumerate() {
        let write = TableWrite {
            table: table(),
            rows: vec![rows.expect("rows")],
            mode: WriteMode::Append,
            system: SystemColumns::Assign(Timestamp::from_micros(BASE + load as i64)),
            positions: Vec::new(),
            note: serde_json::Value::Null,
        };
        engine.write(write).await.expect("a load");
    }
    while engine.compact(&table(), &["customer_id".into(), "event_time".into()]).await.expect("a rewrite").replaced > 0 {}
    println!("{{}}");
}

/// Where the events are.
#[derive(Clone, Copy, PartialEq)]
enum Events {
    /// In a Parquet file, as for everybody.
    File,
    /// In a table of ours.
    Kept,
}

async fn run(folder: &Path, view: &str, events: Events) {
    let state = tempfile::tempdir().expect("a folder");
    let kept = folder.join("tables");
    let engine = LocalEngine::open(if events == Events::Kept { &kept } else { state.path() }).expect("an engine");
    let sql = if view == "windows" { WINDOWS } else { LATEST };
    let values = values_of(view);
    let columns: Vec<&str> = ["customer_id", "event_time"].into_iter().chain(values.iter().map(String::as_str)).collect();
    let began = Instant::now();
    let (asked_schema, asked) = read(&folder.join("labels.parquet"), &["label_id", "customer_id", "time"]);
    let asked = concat_batches(&asked_schema, &asked).expect("labels");
    let (schema, relation) = match events {
        Events::File => {
            let (schema, batches) = read(&folder.join("events.parquet"), &columns);
            (schema.clone(), Relation::Rows(batches, schema))
        }
        Events::Kept => {
            let info = engine.table(&table()).await.expect("a table").expect("`keep` was run");
            (info.schema, Relation::Stored { table: table(), version: None, time: Some("event_time".into()) })
        }
    };
    let read_seconds = began.elapsed().as_secs_f64();
    let shapes = BTreeMap::from([("events".to_owned(), TableShape { schema, time: Some("event_time".into()) })]);
    let tables: Catalog = BTreeMap::from([("events".to_owned(), relation)]);
    let def = ViewDef {
        name: "measured".parse().expect("a name"),
        entity: vec!["customer_id".to_owned()],
        at: ViewAt::Sources,
        online: false,
        request: Default::default(),
        ties: Ties::Exclude,
        sql: sql.to_owned(),
        file: "features/measured.sql".to_owned(),
        line_offset: 0,
    };
    let plan = engine.compile(&def, &shapes).await.expect("a view");
    let wanted = asked.project(&[1, 2]).expect("entity and moment");
    let answer = plan.evaluate(&wanted, &tables).await.expect("answers");
    let seconds = began.elapsed().as_secs_f64();
    println!(
        "{{\"seconds\":{seconds},\"reading\":{read_seconds},\"rows\":{},\"peak_mib\":{},\"how\":\"{}\"}}",
        answer.num_rows(),
        peak_mib(),
        plan.shape().how
    );
    let mut out: Vec<(String, ArrayRef)> = vec![("label_id".into(), asked.column(0).clone())];
    let names = answer.schema();
    out.extend(names.fields().iter().map(|f| f.name().clone()).zip(answer.columns().iter().cloned()));
    let file = if events == Events::Kept { "kept.parquet" } else { "gristmill.parquet" };
    write(&folder.join(file), [batch(out.iter().map(|(name, column)| (name.as_str(), column.clone())).collect())]);
}

#[tokio::main]
async fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["make", folder, asked, rows, keys @ ("zipf" | "even"), view] => {
            make(Path::new(folder), asked.parse().expect("labels"), rows.parse().expect("events"), *keys == "zipf", view);
        }
        ["keep", folder] => keep(Path::new(folder)).await,
        ["run", folder, view @ ("latest" | "windows")] => run(Path::new(folder), view, Events::File).await,
        ["kept", folder, view @ ("latest" | "windows")] => run(Path::new(folder), view, Events::Kept).await,
        _ => {
            eprintln!(
                "usage: training_set make FOLDER LABELS EVENTS zipf|even VIEW, keep FOLDER, run FOLDER VIEW, kept FOLDER VIEW; VIEW: latest|windows"
            );
            return ExitCode::from(2);
        }
    }
    ExitCode::SUCCESS
}
