//! Tables, a ledger and a real online store in a fresh folder, and views kept in it.

use arrow::array::{Array, ArrayRef, RecordBatch, StringArray, TimestampMicrosecondArray, new_null_array};
use arrow::compute::cast;
use arrow::row::{RowConverter, SortField};
use gristmill_engine::LocalEngine;
use gristmill_features::kept::Slot;
use gristmill_features::spec::FeaturesSpec;
use gristmill_features::{FeaturesStage, OnlineFeatures};
use gristmill_kernel::graph::Node;
use gristmill_kernel::port::{FeatureReader, FeatureRequest, OnlineRow, Ports, Secrets, SlotState, TableShape, ViewRef};
use gristmill_kernel::run::{Finish, NewRun};
use gristmill_kernel::stage::{CancelFlag, NoProgress, StageContext};
use gristmill_kernel::table::{Catalog, Relation, SystemColumns, TableName, TableWrite, WriteMode};
use gristmill_kernel::version::{Place, Which};
use gristmill_kernel::view::{Ties, ViewAt, ViewDef};
use gristmill_kernel::{
    Actor, Address, AssetKind, Code, Digest, Done, Fault, Name, NewVersion, Order, Result, RunId, RunStatus, Span, Stage, StageKind,
    Timestamp,
};
use gristmill_store::memory::{MemoryBlobs, MemoryLedger};
use gristmill_store::system::{ManualClock, SeededIds};
use std::collections::BTreeMap;
use std::sync::Arc;

pub const DAY: i64 = 86_400_000_000;
/// The base of all moments: 2011-01-01.
pub const BASE: i64 = 1_293_840_000_000_000;

/// The sources and their event times.
const SOURCES: [(&str, Option<&str>); 3] = [("events", Some("event_time")), ("refunds", Some("refunded_at")), ("customers", None)];

pub struct World {
    ports: Ports,
    views: Vec<ViewDef>,
    features: OnlineFeatures,
    /// The newest version of each source's table.
    versions: BTreeMap<&'static str, u64>,
    _folder: tempfile::TempDir,
}

pub fn view(name: &str, sql: &str, ties: Ties) -> ViewDef {
    ViewDef {
        name: Name::new(name).unwrap(),
        entity: vec!["customer_id".into()],
        at: ViewAt::Sources,
        online: true,
        request: Default::default(),
        ties,
        sql: sql.into(),
        file: format!("features/{name}.sql"),
        line_offset: 0,
    }
}

/// What an online store may do wrong with a kept row.
pub type Change = fn(OnlineRow) -> Vec<OnlineRow>;

/// Each with its name.
pub const WRONG: [(&str, Change); 3] = [
    ("a row that is lost", |_| Vec::new()),
    ("a row that is there twice", |row| vec![row.clone(), OnlineRow { row: row.row + 1_000_000, ..row }]),
    ("a row of another time", |row| vec![OnlineRow { at: row.at.minus(Span::from_secs(30 * 86_400)), ..row }]),
];

impl World {
    pub fn new(views: Vec<ViewDef>) -> World {
        let folder = tempfile::tempdir().unwrap();
        let clock = Arc::new(ManualClock::new("2026-01-01".parse().unwrap()));
        let owned = gristmill_store::open_owner(&folder.path().join("state")).unwrap();
        let ports = Ports {
            ledger: Arc::new(MemoryLedger::new(clock.clone())),
            blobs: Arc::new(MemoryBlobs::default()),
            online: owned.online,
            journal: owned.journal,
            engine: Arc::new(LocalEngine::open(&folder.path().join("tables")).unwrap()),
            clock,
            ids: Arc::new(SeededIds::new(7)),
            secrets: Arc::new(NoSecrets),
        };
        World { features: OnlineFeatures::new(ports.clone()), ports, views, versions: BTreeMap::new(), _folder: folder }
    }

    /// Rows arrive in a source's table.
    pub async fn load(&mut self, source: &'static str, rows: Vec<RecordBatch>, at: Timestamp) {
        let write = TableWrite {
            table: table(source),
            rows,
            mode: WriteMode::Append,
            system: SystemColumns::Assign(at),
            positions: Vec::new(),
            note: serde_json::Value::Null,
        };
        self.ports.engine.write(write).await.unwrap();
        let version = self.ports.engine.table(&table(source)).await.unwrap().unwrap().version;
        self.versions.insert(source, version);
        let meta = serde_json::json!({ "version": version });
        let output = NewVersion {
            asset: Address::new(AssetKind::Sources, Name::new(source).unwrap()),
            digest: Digest::of_json(&meta),
            place: Place::Table { table: table(source), version },
            rows: None,
            meta,
        };
        let run = self.begin(StageKind::Validate, &output.asset).await;
        self.end(run, vec![output]).await;
    }

    /// The stage brings every view up to date, and the request plane follows.
    pub async fn bring_up_to_date(&self) {
        for view in &self.views {
            let address = Address::new(AssetKind::Features, view.name.clone());
            let mut inputs = Vec::new();
            let tables = self.reads(view);
            for name in tables.keys() {
                let asset = Address::new(AssetKind::Sources, Name::new(name.as_str()).unwrap());
                inputs.push(self.ports.ledger.version(&asset, &Which::Latest).await.unwrap().unwrap());
            }
            let spec = serde_json::to_value(FeaturesSpec::View { view: view.clone(), tables }).unwrap();
            let node = Node { address: address.clone(), stage: StageKind::Features, spec, parents: Vec::new() };
            let run = self.begin(StageKind::Features, &address).await;
            let order = Order { run: run.clone(), node, inputs, actor: Actor::user("ada"), reason: "test".into() };
            let cx = StageContext {
                ports: self.ports.clone(),
                project_dir: ".".into(),
                progress: Arc::new(NoProgress),
                cancel: CancelFlag::default(),
            };
            let Done::Made(made) = FeaturesStage.run(&cx, order).await.unwrap() else { panic!("a view is made") };
            self.end(run, made.outputs).await;
        }
        self.features.refresh().await.unwrap();
    }

    /// Forgets that loads behind this one were applied, as a crash between rows and state does, and applies them again. Returns how many slots
    /// it did that to.
    pub async fn apply_again(&self, load: i64) -> usize {
        let mut slots = 0;
        for view in &self.views {
            for slot in self.slots(view).await {
                let Some(state) = self.ports.online.state(&slot.name).await.unwrap() else { continue };
                if state.load > load {
                    self.ports.online.write(&slot.name, Vec::new(), &SlotState { load, ..state }).await.unwrap();
                    slots += 1;
                }
            }
        }
        self.bring_up_to_date().await;
        slots
    }

    /// The views whose online answers have other bits than the same view over the stored tables.
    pub async fn differences(&self, entities: &[String], at: Timestamp) -> Vec<String> {
        let mut differ = Vec::new();
        for view in &self.views {
            let name = view.name.as_str();
            let (online, offline) = (self.online(name, entities, at).await, self.offline(view, entities, at).await);
            assert_eq!(online.len(), entities.len(), "{name}: as many answers as questions");
            for (entity, (online, offline)) in entities.iter().zip(online.into_iter().zip(offline)) {
                if online != offline {
                    differ.push(format!("{name} of {entity}: {online:?} online, {offline:?} offline"));
                }
            }
            differ.extend(self.differently_found(name, entities, at).await);
        }
        differ
    }

    /// Where the newest rows that are found alone say something else than the request plane reads.
    async fn differently_found(&self, view: &str, entities: &[String], at: Timestamp) -> Vec<String> {
        let FeatureRequest { views, rows, at } = request(view, entities, at);
        let Some(found) = self.features.newest(&views, &rows, at).await.unwrap().pop().unwrap() else { return Vec::new() };
        let read = self.features.read(FeatureRequest { views, rows, at }).await.unwrap();
        let there: Vec<usize> = (0..entities.len()).filter(|row| found.sources()[*row].is_some()).collect();
        let mut columns = bits(&found.columns(&there).await.unwrap()).into_iter();
        let schema = read.columns.schema();
        let nothing = schema.fields().iter().map(|field| new_null_array(field.data_type(), 1)).collect();
        let nothing = bits(&RecordBatch::try_new(schema, nothing).unwrap()).remove(0);
        let (mut differ, read_bits) = (Vec::new(), bits(&read.columns));
        for (row, entity) in entities.iter().enumerate() {
            let (bits, moment) = match &found.sources()[row] {
                Some((_, moment)) => (columns.next().unwrap(), Some(*moment)),
                None => (nothing.clone(), None),
            };
            if bits != read_bits[row] || (moment.is_some() && moment != read.newest[row]) {
                differ
                    .push(format!("{view} of {entity}: {bits:?} of {moment:?} found, {:?} of {:?} read", read_bits[row], read.newest[row]));
            }
        }
        differ
    }

    /// What the request plane answers, a row of bits per entity.
    pub async fn online(&self, view: &str, entities: &[String], at: Timestamp) -> Vec<Vec<u8>> {
        bits(&self.features.read(request(view, entities, at)).await.unwrap().columns)
    }

    async fn offline(&self, view: &ViewDef, entities: &[String], at: Timestamp) -> Vec<Vec<u8>> {
        let names: StringArray = entities.iter().map(|e| Some(e.as_str())).collect();
        let moments = TimestampMicrosecondArray::from(vec![at.micros(); entities.len()]).with_timezone("UTC");
        let asked =
            RecordBatch::try_from_iter([("customer_id", Arc::new(names) as ArrayRef), ("time", Arc::new(moments) as ArrayRef)]).unwrap();
        let plan = self.ports.engine.compile(view, &self.shapes(view).await).await.unwrap();
        let mut catalog = Catalog::new();
        for (name, time) in self.reads(view) {
            let version = self.versions.get(name.as_str()).copied();
            catalog.insert(name.clone(), Relation::Stored { table: table(&name), version, time });
        }
        bits(&plan.evaluate(&asked, &catalog).await.unwrap())
    }

    /// Changes the first kept row of every key of a view, and returns what was there.
    pub async fn tamper(&self, view: &str, change: Change) -> Vec<OnlineRow> {
        let view = self.views.iter().find(|v| v.name.as_str() == view).unwrap();
        let [slot] = self.slots(view).await.try_into().unwrap();
        let (online, mut before) = (&self.ports.online, Vec::new());
        for key in online.keys(&slot.name, 10_000).await.unwrap() {
            before.extend(online.read(&slot.name, &key, None, None).await.unwrap());
        }
        let mut after = Vec::new();
        let mut seen = None;
        // One that is in the window that is asked for.
        for row in &before {
            let first = seen.as_ref() != Some(&row.key) && row.at.micros() > BASE + 3 * DAY;
            if first {
                seen = Some(row.key.clone());
                after.extend(change(row.clone()));
            } else {
                after.push(row.clone());
            }
        }
        self.replace(&slot, after).await;
        before
    }

    /// Puts rows back.
    pub async fn mend(&self, view: &str, rows: Vec<OnlineRow>) {
        let view = self.views.iter().find(|v| v.name.as_str() == view).unwrap();
        let [slot] = self.slots(view).await.try_into().unwrap();
        self.replace(&slot, rows).await;
    }

    async fn replace(&self, slot: &Slot, rows: Vec<OnlineRow>) {
        let state = self.ports.online.state(&slot.name).await.unwrap().unwrap();
        self.ports.online.clear(&slot.name).await.unwrap();
        self.ports.online.write(&slot.name, rows, &state).await.unwrap();
    }

    /// The views that read only the newest row.
    pub async fn of_newest_rows(&self) -> Vec<&str> {
        let mut found = Vec::new();
        for view in &self.views {
            let plan = self.ports.engine.compile(view, &self.shapes(view).await).await.unwrap();
            if plan.shape().kept.iter().any(|kept| kept.newest) {
                found.push(view.name.as_str());
            }
        }
        found
    }

    /// Those that are nothing but columns of it, which are found without being read.
    pub async fn of_newest_columns(&self) -> Vec<&str> {
        let mut found = Vec::new();
        for view in &self.views {
            let FeatureRequest { views, rows, at } = request(view.name.as_str(), &["c1".to_owned()], Timestamp::from_micros(BASE));
            if self.features.newest(&views, &rows, at).await.unwrap()[0].is_some() {
                found.push(view.name.as_str());
            }
        }
        found
    }

    async fn slots(&self, view: &ViewDef) -> Vec<Slot> {
        let shapes = self.shapes(view).await;
        let plan = self.ports.engine.compile(view, &shapes).await.unwrap();
        plan.shape().kept.iter().map(|kept| Slot::new(table(&kept.table), kept, &shapes[&kept.table].schema)).collect()
    }

    fn reads(&self, view: &ViewDef) -> BTreeMap<String, Option<String>> {
        let analysis = self.ports.engine.analyse(&view.sql, &view.file, 0).unwrap();
        let read = SOURCES.iter().filter(|(name, _)| analysis.tables.iter().any(|t| t == name));
        read.map(|(name, time)| ((*name).to_string(), time.map(str::to_string))).collect()
    }

    async fn shapes(&self, view: &ViewDef) -> BTreeMap<String, TableShape> {
        let mut shapes = BTreeMap::new();
        for (name, time) in self.reads(view) {
            let schema = self.ports.engine.table(&table(&name)).await.unwrap().unwrap().schema;
            shapes.insert(name, TableShape { schema, time });
        }
        shapes
    }

    async fn begin(&self, stage: StageKind, address: &Address) -> RunId {
        let (now, id) = (self.ports.clock.now(), self.ports.ids.run());
        let run = NewRun {
            key: Digest::of(&id.0),
            id,
            stage,
            address: address.clone(),
            spec: serde_json::Value::Null,
            inputs: Vec::new(),
            parent: None,
            actor: Actor::user("ada"),
            reason: "test".into(),
            idempotency: None,
            due_at: now,
        };
        self.ports.ledger.begin(run, "test", now, now.plus(Span::from_secs(30))).await.unwrap().id
    }

    async fn end(&self, run: RunId, outputs: Vec<NewVersion>) {
        let finish = Finish {
            status: RunStatus::Succeeded,
            verdict: None,
            checks: Vec::new(),
            outputs,
            skipped_for: None,
            reused: Vec::new(),
            aliases: Vec::new(),
            params: BTreeMap::new(),
            metrics: Vec::new(),
            summary: String::new(),
            error: None,
            follow_ups: Vec::new(),
        };
        self.ports.ledger.finish(&run, finish, self.ports.clock.now()).await.unwrap();
    }
}

fn request(view: &str, entities: &[String], at: Timestamp) -> FeatureRequest {
    let names: StringArray = entities.iter().map(|e| Some(e.as_str())).collect();
    let rows = RecordBatch::try_from_iter([("customer_id", Arc::new(names) as ArrayRef)]).unwrap();
    FeatureRequest { views: vec![ViewRef::newest(Name::new(view).unwrap())], rows, at }
}

fn table(source: &str) -> TableName {
    TableName::of(&Address::new(AssetKind::Sources, Name::new(source).unwrap()))
}

/// Rows as bytes that differ when a bit of a value does.
fn bits(rows: &RecordBatch) -> Vec<Vec<u8>> {
    let text = |column: &ArrayRef| match column.data_type() {
        arrow::datatypes::DataType::Utf8View | arrow::datatypes::DataType::LargeUtf8 => {
            cast(column, &arrow::datatypes::DataType::Utf8).unwrap()
        }
        _ => column.clone(),
    };
    let columns: Vec<ArrayRef> = rows.columns().iter().map(text).collect();
    let converter = RowConverter::new(columns.iter().map(|c| SortField::new(c.data_type().clone())).collect()).unwrap();
    let encoded = converter.convert_columns(&columns).unwrap();
    (0..rows.num_rows()).map(|row| encoded.row(row).as_ref().to_vec()).collect()
}

struct NoSecrets;

impl Secrets for NoSecrets {
    fn get(&self, name: &str) -> Result<secrecy::SecretString> {
        Err(Fault::not_found(Code::UNKNOWN_NAME, format!("there is no secret {name}")))
    }
    fn fill(&self, text: &str) -> Result<secrecy::SecretString> {
        Ok(text.to_owned().into())
    }
}
