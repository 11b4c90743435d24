//! A world for the tests of stages: the stores in memory, and tables in memory with the promises of the engine's: one write is one commit, positions land
//! once, loads are numbered. Conditions are the few the tests need. `fail_next_write` lets the next commit to a table fail, as a crash before it would.

use arrow::array::{Array, ArrayRef, AsArray, Int64Array, RecordBatch, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, Field, Float64Type, Int64Type, Schema, SchemaRef, TimeUnit};
use async_trait::async_trait;
use futures::StreamExt as _;
use futures::stream::BoxStream;
use gristmill_kernel::condition::{Figures, Judged};
use gristmill_kernel::error::{Code, Fault, Kind, Result};
use gristmill_kernel::graph::Node;
use gristmill_kernel::port::{Analysis, AsOfPlan, Engine, Journal, Ports, Secrets, TableShape};
use gristmill_kernel::run::{Finish, NewRun};
use gristmill_kernel::stage::{CancelFlag, Made, NoProgress};
use gristmill_kernel::table::*;
use gristmill_kernel::version::Which;
use gristmill_kernel::view::ViewDef;
use gristmill_kernel::{Actor, Address, Digest, Done, Name, Order, RunStatus, Stage, StageContext, StageKind, Timestamp, Version};
use gristmill_store::memory::{MemoryBlobs, MemoryJournal, MemoryLedger, MemoryOnline};
use gristmill_store::system::{ManualClock, SeededIds};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

#[derive(Clone)]
struct Table {
    info: TableInfo,
    rows: Vec<RecordBatch>,
}

/// Tables in memory, every version of them.
#[derive(Default)]
pub struct TestEngine {
    tables: Mutex<BTreeMap<TableName, Vec<Table>>>,
    failing: Mutex<BTreeSet<TableName>>,
}

fn system_fields() -> Vec<Field> {
    let utc = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
    vec![Field::new(LOAD, DataType::Int64, true), Field::new(ROW, DataType::Int64, true), Field::new(LOADED_AT, utc, true)]
}

fn own(schema: &Schema) -> SchemaRef {
    Arc::new(Schema::new(schema.fields().iter().filter(|f| !SYSTEM_COLUMNS.contains(&f.name().as_str())).cloned().collect::<Vec<_>>()))
}

impl TestEngine {
    pub fn fail_next_write(&self, table: &str) {
        self.failing.lock().unwrap().insert(TableName::try_from(table.to_owned()).unwrap());
    }
    fn at(&self, table: &TableName, version: Option<u64>) -> Option<Table> {
        let tables = self.tables.lock().unwrap();
        let versions = tables.get(table)?;
        version.map_or(versions.last(), |v| versions.get(v as usize)).cloned()
    }
    pub fn rows(&self, table: &str) -> Vec<RecordBatch> {
        self.at(&TableName::try_from(table.to_owned()).unwrap(), None).map(|t| t.rows).unwrap_or_default()
    }
    pub fn count(&self, table: &str) -> usize {
        self.rows(table).iter().map(RecordBatch::num_rows).sum()
    }
    /// A column's values as text.
    pub fn column(&self, table: &str, name: &str) -> Vec<String> {
        let shown = |array: &ArrayRef, i| if array.is_null(i) { "NULL".to_owned() } else { show(array, i) };
        self.rows(table)
            .iter()
            .flat_map(|b| (0..b.num_rows()).map(|i| shown(b.column_by_name(name).unwrap(), i)).collect::<Vec<_>>())
            .collect()
    }
}

fn show(array: &ArrayRef, i: usize) -> String {
    match array.data_type() {
        DataType::Timestamp(_, _) => {
            Timestamp::from_micros(array.as_primitive::<arrow::datatypes::TimestampMicrosecondType>().value(i)).to_string()
        }
        _ => arrow::util::display::array_value_to_string(array, i).unwrap(),
    }
}

#[async_trait]
impl Engine for TestEngine {
    async fn write(&self, write: TableWrite) -> Result<Written> {
        if self.failing.lock().unwrap().remove(&write.table) {
            return Err(Fault::new(Kind::Unavailable, Code::IO, "the machine went down"));
        }
        let mut tables = self.tables.lock().unwrap();
        let versions = tables.entry(write.table.clone()).or_default();
        let before = versions.last().cloned();
        if let Some(before) = &before
            && write.positions.iter().any(|p| before.info.positions.get(&p.stream).is_some_and(|at| *at >= p.offset))
        {
            return Ok(Written { info: before.info.clone(), written: false });
        }
        let keep = before.clone().filter(|_| write.mode == WriteMode::Append);
        let last = before.as_ref().map_or(0, |b| b.info.last_load);
        let mut first = 0;
        let mut rows: Vec<RecordBatch> = keep.map(|b| b.rows).unwrap_or_default();
        for batch in &write.rows {
            let n = batch.num_rows() as i64;
            let batch = match write.system {
                SystemColumns::Assign(at) => {
                    let fields = batch.schema().fields().iter().map(|f| f.as_ref().clone()).chain(system_fields()).collect::<Vec<_>>();
                    let numbers: [ArrayRef; 3] = [
                        Arc::new(Int64Array::from_value(last + 1, n as usize)),
                        Arc::new(Int64Array::from_iter_values(first..first + n)),
                        Arc::new(TimestampMicrosecondArray::from_value(at.micros(), n as usize).with_timezone("UTC")),
                    ];
                    RecordBatch::try_new(Arc::new(Schema::new(fields)), batch.columns().iter().cloned().chain(numbers).collect()).unwrap()
                }
                _ => batch.clone(),
            };
            first += n;
            rows.push(batch);
        }
        let schema = write.rows.first().map_or_else(|| before.as_ref().unwrap().info.schema.clone(), |b| own(&b.schema()));
        assert!(rows.iter().all(|b| own(&b.schema()) == schema), "one schema per table");
        rows.retain(|b| b.num_rows() > 0);
        let loads =
            rows.iter().flat_map(|b| b.column_by_name(LOAD).map(|c| c.as_primitive::<Int64Type>().values().to_vec()).unwrap_or_default());
        let mut info = before.as_ref().map(|b| b.info.clone()).unwrap_or(TableInfo {
            version: 0,
            generation: 0,
            schema: schema.clone(),
            rows: 0,
            last_load: 0,
            positions: BTreeMap::new(),
            note: serde_json::Value::Null,
        });
        info.last_load = loads.max().unwrap_or(0).max(info.last_load);
        info.version = versions.len() as u64;
        info.generation += u64::from(write.mode == WriteMode::Overwrite && before.is_some());
        info.rows = rows.iter().map(|b| b.num_rows() as u64).sum();
        info.schema = schema;
        info.positions.extend(write.positions.iter().map(|p| (p.stream.clone(), p.offset)));
        if !write.note.is_null() {
            info.note = write.note;
        }
        versions.push(Table { info: info.clone(), rows });
        Ok(Written { info, written: true })
    }
    async fn table(&self, table: &TableName) -> Result<Option<TableInfo>> {
        Ok(self.at(table, None).map(|t| t.info))
    }
    async fn scan(&self, table: &TableName, version: Option<u64>, after_load: i64) -> Result<BoxStream<'static, Result<RecordBatch>>> {
        let rows = self.at(table, version).map(|t| t.rows).unwrap_or_default();
        let kept = rows.into_iter().map(move |b| {
            let loads = b.column_by_name(LOAD).unwrap().as_primitive::<Int64Type>();
            let mask: arrow::array::BooleanArray = loads.values().iter().map(|l| Some(*l > after_load)).collect();
            arrow::compute::filter_record_batch(&b, &mask).unwrap()
        });
        Ok(futures::stream::iter(kept.filter(|b| b.num_rows() > 0).map(Ok).collect::<Vec<_>>()).boxed())
    }
    async fn judge_rows(&self, conditions: &[String], rows: &RecordBatch, history: Option<(&TableName, u64)>) -> Result<Vec<Vec<bool>>> {
        let number = |array: &ArrayRef, i: usize| match array.data_type() {
            DataType::Int64 => array.as_primitive::<Int64Type>().value(i) as f64,
            _ => array.as_primitive::<Float64Type>().value(i),
        };
        let judge = |condition: &String| -> Vec<bool> {
            if let Some(name) = condition.strip_prefix("unique(").and_then(|c| c.strip_suffix(')')) {
                let before = history.and_then(|(t, v)| self.at(t, Some(v))).map(|t| t.rows).unwrap_or_default();
                let mut seen: BTreeSet<String> = before
                    .iter()
                    .flat_map(|b| (0..b.num_rows()).map(|i| show(b.column_by_name(name).unwrap(), i)).collect::<Vec<_>>())
                    .collect();
                return (0..rows.num_rows()).map(|i| seen.insert(show(rows.column_by_name(name).unwrap(), i))).collect();
            }
            let (name, rest) = condition.split_once(' ').unwrap();
            let array = rows.column_by_name(name).unwrap();
            let holds = |i: usize| match rest.split_once(' ').unwrap() {
                ("is", "not null") => array.is_valid(i),
                _ if array.is_null(i) => true,
                (">=", n) => number(array, i) >= n.parse().unwrap(),
                (">", n) => number(array, i) > n.parse().unwrap(),
                ("<>", n) => number(array, i) != n.parse::<f64>().unwrap(),
                other => panic!("{other:?}"),
            };
            (0..rows.num_rows()).map(holds).collect()
        };
        Ok(conditions.iter().map(judge).collect())
    }
    fn analyse(&self, _: &str, _: &str, _: usize) -> Result<Analysis> {
        unreachable!("no stage under test asks")
    }
    async fn schema(&self, _: &str, _: &Catalog) -> Result<SchemaRef> {
        unreachable!("no stage under test asks")
    }
    async fn query(&self, _: &str, _: &Catalog, _: bool) -> Result<BoxStream<'static, Result<RecordBatch>>> {
        unreachable!("no stage under test asks")
    }
    async fn compile(&self, _: &ViewDef, _: &BTreeMap<String, TableShape>) -> Result<Arc<dyn AsOfPlan>> {
        unreachable!("no stage under test asks")
    }
    async fn judge(&self, _: &str, _: &Figures) -> Result<Judged> {
        unreachable!("no stage under test asks")
    }
    fn check_condition(&self, _: &str, _: &[String]) -> Result<()> {
        Ok(())
    }
}

struct NoSecrets;
impl Secrets for NoSecrets {
    fn get(&self, name: &str) -> Result<secrecy::SecretString> {
        Err(Fault::invalid(Code::MISSING_SECRET, name))
    }
    fn fill(&self, text: &str) -> Result<secrecy::SecretString> {
        Ok(text.into())
    }
}

pub struct World {
    pub dir: tempfile::TempDir,
    pub engine: Arc<TestEngine>,
    pub clock: Arc<ManualClock>,
    pub cx: StageContext,
}

impl World {
    pub fn new() -> World {
        let engine = Arc::new(TestEngine::default());
        let clock = Arc::new(ManualClock::new("2011-12-10T00:00:00Z".parse().unwrap()));
        let ports = Ports {
            ledger: Arc::new(MemoryLedger::new(clock.clone())),
            blobs: Arc::new(MemoryBlobs::default()),
            online: Arc::new(MemoryOnline::default()),
            journal: Arc::new(MemoryJournal::default()),
            engine: engine.clone(),
            clock: clock.clone(),
            ids: Arc::new(SeededIds::new(1)),
            secrets: Arc::new(NoSecrets),
        };
        let dir = tempfile::tempdir().unwrap();
        let cx = StageContext { ports, project_dir: dir.path().to_owned(), progress: Arc::new(NoProgress), cancel: CancelFlag::default() };
        World { dir, engine, clock, cx }
    }
    /// The same world with another journal.
    pub fn with_journal(mut self, make: impl FnOnce(Arc<dyn Journal>) -> Arc<dyn Journal>) -> World {
        self.cx.ports.journal = make(self.cx.ports.journal.clone());
        self
    }
    pub fn write(&self, path: &str, text: &str) {
        let path = self.dir.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    /// Runs a stage as the runner does: its end goes into the ledger.
    pub async fn run(&self, stage: &dyn Stage, kind: StageKind, address: &str, spec: serde_json::Value, parents: &[&str]) -> Result<Done> {
        let address: Address = address.parse()?;
        let mut inputs = Vec::new();
        for parent in parents {
            inputs.extend(self.latest(parent).await);
        }
        let ports = &self.cx.ports;
        let id = ports.ids.run();
        let node = Node {
            address: address.clone(),
            stage: kind,
            spec: spec.clone(),
            parents: parents.iter().map(|p| p.parse().unwrap()).collect(),
        };
        let now = ports.clock.now();
        let run = NewRun {
            id: id.clone(),
            stage: kind,
            address,
            spec,
            key: Digest::of(&id.0),
            inputs: inputs.iter().map(|v| v.id.clone()).collect(),
            parent: None,
            actor: Actor::user("test"),
            reason: "asked".into(),
            idempotency: None,
            due_at: now,
        };
        let order = Order { run: id.clone(), node, inputs, actor: run.actor.clone(), reason: run.reason.clone() };
        let done = stage.run(&self.cx, order).await?;
        ports.ledger.begin(run, "test", now, now).await?;
        let (made, reused) = match &done {
            Done::Made(made) => (made.clone(), vec![]),
            Done::Unchanged { versions, summary } => (Made { summary: summary.clone(), ..Made::default() }, versions.clone()),
        };
        let finish = Finish {
            status: RunStatus::Succeeded,
            verdict: made.verdict,
            checks: made.checks,
            outputs: made.outputs,
            skipped_for: None,
            reused,
            aliases: vec![],
            params: made.params,
            metrics: made.metrics,
            summary: made.summary,
            error: None,
            follow_ups: vec![],
        };
        ports.ledger.finish(&id, finish, now).await?;
        Ok(done)
    }
    pub async fn latest(&self, asset: &str) -> Option<Version> {
        self.cx.ports.ledger.version(&asset.parse().unwrap(), &Which::Latest).await.unwrap()
    }
}

pub fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

pub fn made(done: Done) -> Made {
    match done {
        Done::Made(made) => made,
        Done::Unchanged { summary, .. } => panic!("unchanged: {summary}"),
    }
}

pub fn unchanged(done: Done) -> String {
    match done {
        Done::Unchanged { summary, .. } => summary,
        Done::Made(made) => panic!("made: {}", made.summary),
    }
}
