//! Kept rows that nobody can ask for any more are forgotten, and no answer changes by it.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on says so")]

use arrow::array::{ArrayRef, Float64Array, Int64Array, RecordBatch, TimestampMicrosecondArray};
use gristmill_engine::LocalEngine;
use gristmill_features::spec::FeaturesSpec;
use gristmill_features::{FeaturesStage, OnlineFeatures};
use gristmill_kernel::error::{Code, Fault, Result};
use gristmill_kernel::graph::Node;
use gristmill_kernel::port::{FeatureReader, FeatureRequest, Online, Ports, Secrets, ViewRef};
use gristmill_kernel::run::{Finish, NewRun, RunStatus};
use gristmill_kernel::stage::{CancelFlag, NoProgress};
use gristmill_kernel::table::{Position, SystemColumns, TableName, TableWrite, WriteMode};
use gristmill_kernel::version::{Place, Which};
use gristmill_kernel::view::{Ties, ViewAt, ViewDef};
use gristmill_kernel::{Actor, Address, Digest, Done, Name, NewVersion, Order, Stage, StageContext, StageKind, Timestamp};
use gristmill_store::memory::{MemoryBlobs, MemoryJournal, MemoryLedger, MemoryOnline};
use gristmill_store::system::{ManualClock, SeededIds};
use std::sync::Arc;

const DAY: i64 = 86_400_000_000;
const SLOT: &str = "sources__events/id";

struct NoSecrets;
impl Secrets for NoSecrets {
    fn get(&self, name: &str) -> Result<secrecy::SecretString> {
        Err(Fault::invalid(Code::MISSING_SECRET, name))
    }
    fn fill(&self, text: &str) -> Result<secrecy::SecretString> {
        Ok(text.into())
    }
}

struct World {
    _folder: tempfile::TempDir,
    cx: StageContext,
    online: Arc<MemoryOnline>,
}

impl World {
    fn new() -> World {
        let folder = tempfile::tempdir().unwrap();
        let clock = Arc::new(ManualClock::new(Timestamp::from_micros(100 * DAY)));
        let online = Arc::new(MemoryOnline::default());
        let ports = Ports {
            ledger: Arc::new(MemoryLedger::new(clock.clone())),
            blobs: Arc::new(MemoryBlobs::default()),
            online: online.clone(),
            journal: Arc::new(MemoryJournal::default()),
            engine: Arc::new(LocalEngine::open(folder.path()).unwrap()),
            clock,
            ids: Arc::new(SeededIds::new(1)),
            secrets: Arc::new(NoSecrets),
        };
        let cx =
            StageContext { ports, project_dir: folder.path().to_owned(), progress: Arc::new(NoProgress), cancel: CancelFlag::default() };
        World { _folder: folder, cx, online }
    }

    /// Puts what was made into the ledger, as the runner does.
    async fn ends(&self, stage: StageKind, address: &Address, outputs: Vec<NewVersion>) {
        let ports = &self.cx.ports;
        let (id, now) = (ports.ids.run(), ports.clock.now());
        let run = NewRun {
            id: id.clone(),
            stage,
            address: address.clone(),
            spec: serde_json::Value::Null,
            key: Digest::of(&id.0),
            inputs: vec![],
            parent: None,
            actor: Actor::user("test"),
            reason: "asked".into(),
            idempotency: None,
            due_at: now,
        };
        ports.ledger.begin(run, "test", now, now).await.unwrap();
        let finish = Finish {
            status: RunStatus::Succeeded,
            verdict: None,
            checks: vec![],
            outputs,
            skipped_for: None,
            reused: vec![],
            aliases: vec![],
            params: Default::default(),
            metrics: vec![],
            summary: String::new(),
            error: None,
            follow_ups: vec![],
        };
        ports.ledger.finish(&id, finish, now).await.unwrap();
    }

    /// A load of events: (id, micros, amount).
    async fn load(&self, events: &[(i64, i64, f64)]) {
        let rows = RecordBatch::try_from_iter_with_nullable([
            ("id", Arc::new(Int64Array::from_iter_values(events.iter().map(|e| e.0))) as ArrayRef, true),
            ("at", Arc::new(TimestampMicrosecondArray::from_iter_values(events.iter().map(|e| e.1)).with_timezone("UTC")), true),
            ("amount", Arc::new(Float64Array::from_iter_values(events.iter().map(|e| e.2))), true),
        ])
        .unwrap();
        let asset: Address = "sources.events".parse().unwrap();
        let table = TableName::of(&asset);
        let ports = &self.cx.ports;
        let loads = ports.engine.table(&table).await.unwrap().map_or(0, |info| info.last_load);
        let write = TableWrite {
            table: table.clone(),
            rows: vec![rows],
            mode: WriteMode::Append,
            system: SystemColumns::Assign(ports.clock.now()),
            positions: vec![Position { stream: "test".into(), offset: loads + 1 }],
            note: serde_json::Value::Null,
        };
        let info = ports.engine.write(write).await.unwrap().info;
        let place = Place::Table { table, version: info.version };
        let version = NewVersion {
            asset: asset.clone(),
            digest: Digest::of(info.version.to_string()),
            place,
            rows: Some(info.rows),
            meta: serde_json::json!({}),
        };
        self.ends(StageKind::Validate, &asset, vec![version]).await;
    }

    /// Brings a view that looks back so many days up to date.
    async fn view(&self, name: &str, days: u64) {
        let sql = format!(
            "select id, count(*) as n, sum(amount) as s, min(amount) as low from events where at >= as_of() - interval '{days} days' group by id"
        );
        let view = ViewDef {
            name: Name::new(name).unwrap(),
            entity: vec!["id".into()],
            at: ViewAt::Sources,
            online: true,
            request: Default::default(),
            ties: Ties::Exclude,
            sql,
            file: format!("features/{name}.sql"),
            line_offset: 0,
        };
        let spec = FeaturesSpec::View { view, tables: [("events".to_string(), Some("at".to_string()))].into() };
        let (source, address): (Address, Address) = ("sources.events".parse().unwrap(), format!("features.{name}").parse().unwrap());
        let input = self.cx.ports.ledger.version(&source, &Which::Latest).await.unwrap().unwrap();
        let node = Node {
            address: address.clone(),
            stage: StageKind::Features,
            spec: serde_json::to_value(&spec).unwrap(),
            parents: vec![source],
        };
        let order = Order { run: self.cx.ports.ids.run(), node, inputs: vec![input], actor: Actor::user("test"), reason: "asked".into() };
        let Done::Made(made) = FeaturesStage.run(&self.cx, order).await.unwrap() else { unreachable!("a view is made") };
        self.ends(StageKind::Features, &address, made.outputs).await;
    }

    async fn features(&self) -> OnlineFeatures {
        let features = OnlineFeatures::new(self.cx.ports.clone());
        features.refresh().await.unwrap();
        features
    }

    async fn ask(&self, view: &str, at: i64) -> RecordBatch {
        let ids: ArrayRef = Arc::new(Int64Array::from_iter_values(0..6));
        let views = vec![ViewRef { name: Name::new(view).unwrap(), pinned: None }];
        let rows = RecordBatch::try_from_iter([("id", ids)]).unwrap();
        self.features().await.read(FeatureRequest { views, rows, at: Timestamp::from_micros(at) }).await.unwrap().columns
    }

    async fn kept(&self) -> usize {
        let mut count = 0;
        for key in self.online.keys(SLOT, 100).await.unwrap() {
            count += self.online.read(SLOT, &key, None, None).await.unwrap().len();
        }
        count
    }
}

/// Five customers, two events a day for a hundred days, one of them at midnight, so that it lies on the edge of a window.
fn history() -> Vec<(i64, i64, f64)> {
    (0..200).map(|i| (i % 5, i / 2 * DAY + (i % 2) * 1_000, 0.1 * i as f64)).collect()
}

#[tokio::test]
async fn what_is_forgotten_changes_no_answer() {
    let world = World::new();
    world.load(&history()).await;
    world.view("month", 30).await;
    let moments = [100 * DAY, 100 * DAY + 1, 103 * DAY, 150 * DAY];
    let mut before = Vec::new();
    for at in moments {
        before.push(world.ask("month", at).await);
    }
    assert_eq!(world.kept().await, 200);
    let now = Timestamp::from_micros(moments[0]);
    assert_eq!(world.features().await.expire(now).await.unwrap(), 140, "what is older than thirty days; the edge stays");
    assert_eq!(world.kept().await, 60);
    for (at, before) in moments.into_iter().zip(before) {
        assert_eq!(world.ask("month", at).await, before, "at {at}");
    }
    assert_eq!(world.features().await.expire(now).await.unwrap(), 0);
    // A row that comes too late for every window goes at the next turn; one that does not, stays.
    let late = [(1, 2 * DAY, 1.0), (1, 99 * DAY, 1.0)];
    world.load(&late).await;
    world.view("month", 30).await;
    assert_eq!(world.kept().await, 62);
    assert_eq!(world.features().await.expire(now).await.unwrap(), 1);
    assert_eq!(world.kept().await, 61);
}

#[tokio::test]
async fn the_view_that_looks_back_farthest_decides() {
    let world = World::new();
    world.load(&history()).await;
    world.view("week", 7).await;
    world.view("month", 30).await;
    world.view("day", 1).await;
    let now = Timestamp::from_micros(100 * DAY);
    let month = world.ask("month", 100 * DAY).await;
    assert_eq!(world.features().await.expire(now).await.unwrap(), 140);
    assert_eq!(world.ask("month", 100 * DAY).await, month);
}

#[tokio::test]
async fn a_view_that_looks_back_farther_brings_back_what_was_forgotten() {
    let world = World::new();
    world.load(&history()).await;
    world.view("month", 30).await;
    let now = Timestamp::from_micros(100 * DAY);
    assert_eq!(world.features().await.expire(now).await.unwrap(), 140);
    world.view("quarter", 90).await;
    assert_eq!(world.kept().await, 200, "all loads were applied again");
    let fresh = World::new();
    fresh.load(&history()).await;
    fresh.view("quarter", 90).await;
    assert_eq!(world.ask("quarter", 100 * DAY).await, fresh.ask("quarter", 100 * DAY).await);
    assert_eq!(world.features().await.expire(now).await.unwrap(), 20, "now ninety days stay");
    assert_eq!(world.ask("quarter", 100 * DAY).await, fresh.ask("quarter", 100 * DAY).await);
    // The narrower view is brought up to date again, and takes nothing away.
    world.load(&[(2, 99 * DAY, 1.0)]).await;
    world.view("month", 30).await;
    assert_eq!(world.features().await.expire(now).await.unwrap(), 0);
    assert_eq!(world.kept().await, 181);
}

#[tokio::test]
async fn tables_are_clustered_by_what_most_views_ask() {
    let world = World::new();
    world.load(&history()).await;
    assert!(world.features().await.clusterings().is_empty());
    world.view("week", 7).await;
    world.view("month", 30).await;
    let by = world.features().await.clusterings();
    assert_eq!(by[&TableName::try_from("sources__events".to_string()).unwrap()], ["id", "at"]);
}
