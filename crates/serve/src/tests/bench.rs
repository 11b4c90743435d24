//! A plane with a real ledger and blobs, and a reader and a table that do as they are told.

use crate::log::PredictionLog;
use crate::plane::{Plane, PlaneParts};
use crate::spec::ServeSpec;
use arrow::array::{Array, AsArray, Float64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Float64Type, Schema, SchemaRef};
use async_trait::async_trait;
use futures::stream::BoxStream;
use gristmill_kernel::condition::{Figures, Judged};
use gristmill_kernel::model::{Body as ModelBody, Feature, Linear, LinearInput, Link, ModelFile, Task};
use gristmill_kernel::port::{
    Analysis, AsOfPlan, Clock, Engine, FeatureReader, FeatureRequest, FeatureRows, Ports, Secrets, TableShape, ViewRef,
};
use gristmill_kernel::prediction::{Basis, Canary, Deployment, Horizon, ViewBasis};
use gristmill_kernel::run::{Finish, NewRun};
use gristmill_kernel::table::{Catalog, TableInfo, TableName, TableWrite, Written};
use gristmill_kernel::version::{AliasMove, Place};
use gristmill_kernel::view::{FeatureType, ViewDef};
use gristmill_kernel::*;
use gristmill_store::system::{ManualClock, SeededIds};
use gristmill_web::{App, Body, Caller, Credentials, Door, Doorkeeper, HeaderMap, Hosts, Permission, Request};
use http_body_util::BodyExt;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

/// Gives `orders` = the customer's number and `country` = "France" of view `activity`, and `orders` of view `extra`.
#[derive(Default)]
pub struct Reader {
    pub delay_ms: AtomicU64,
    pub broken: AtomicBool,
    pub extra_broken: AtomicBool,
    /// How long `extra` takes longer.
    pub extra_delay_ms: AtomicU64,
    /// `orders` is minus infinity for everybody.
    pub infinite: AtomicBool,
    pub reads: AtomicU64,
}

#[async_trait]
impl FeatureReader for Reader {
    async fn read(&self, request: FeatureRequest) -> Result<FeatureRows> {
        self.reads.fetch_add(1, Ordering::SeqCst);
        tokio::time::sleep(std::time::Duration::from_millis(self.delay_ms.load(Ordering::SeqCst))).await;
        let wants_extra = request.views.iter().any(|v| v.name.as_str() == "extra");
        if wants_extra {
            tokio::time::sleep(std::time::Duration::from_millis(self.extra_delay_ms.load(Ordering::SeqCst))).await;
        }
        if self.broken.load(Ordering::SeqCst) || (wants_extra && self.extra_broken.load(Ordering::SeqCst)) {
            return Err(Fault::new(Kind::Unavailable, Code::PART_UNAVAILABLE, "the online store is away"));
        }
        let lacks = || Fault::invalid(Code::MISSING_INPUT, "the asked rows lack `customer_id`").fix("send `customer_id`");
        let ids = request.rows.column_by_name("customer_id").ok_or_else(lacks)?;
        let ids = arrow::compute::cast(ids, &DataType::Float64)
            .map_err(|e| Fault::invalid(Code::WRONG_TYPE, "`customer_id` is no number").because(e))?;
        let mut ids: Vec<f64> = ids.as_primitive::<Float64Type>().values().to_vec();
        if self.infinite.load(Ordering::SeqCst) {
            ids.fill(f64::NEG_INFINITY);
        }
        let (mut fields, mut columns) = (Vec::new(), Vec::<arrow::array::ArrayRef>::new());
        for view in &request.views {
            fields.push(Field::new(format!("{}.orders", view.name), DataType::Float64, true));
            columns.push(Arc::new(Float64Array::from(ids.clone())));
            if view.name.as_str() == "activity" {
                fields.push(Field::new("activity.country", DataType::Utf8, true));
                columns.push(Arc::new(StringArray::from(vec!["France"; ids.len()])));
            }
        }
        let newest = ids.iter().map(|id| (*id != 0.0).then(|| request.at.minus(Span::from_secs(60)))).collect();
        let columns = RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).expect("a batch");
        let of_view = |load| ViewBasis { version: 3, tables: [("events".to_owned(), Horizon { generation: 0, load })].into() };
        let views = request.views.iter().map(|v| (v.name.clone(), of_view(self.reads.load(Ordering::SeqCst) as i64))).collect();
        Ok(FeatureRows { columns, newest, basis: Basis { views } })
    }
    async fn schema(&self, view: &ViewRef) -> Result<SchemaRef> {
        let mut fields = vec![Field::new("orders", DataType::Float64, true)];
        if view.name.as_str() == "activity" {
            fields.push(Field::new("country", DataType::Utf8, true));
        }
        Ok(Arc::new(Schema::new(fields)))
    }
}

/// The rows of a table, and how far each stream has come.
type Kept = (Vec<RecordBatch>, BTreeMap<String, i64>);

/// Tables in memory, as far as the log needs them.
#[derive(Default)]
pub struct Tables {
    pub tables: Mutex<BTreeMap<TableName, Kept>>,
    /// Refuses before writing.
    pub full: AtomicBool,
    /// Writes, and then says that it failed.
    pub ambiguous: AtomicBool,
}

impl Tables {
    pub fn column(&self, table: &str, column: &str) -> Vec<String> {
        let tables = self.tables.lock().expect("a lock");
        let found = tables.iter().find(|(name, _)| name.as_str() == table).map(|(_, t)| t.0.clone()).unwrap_or_default();
        let text = |b: &RecordBatch| {
            let values = arrow::compute::cast(b.column_by_name(column).expect("a column"), &DataType::Utf8).expect("text");
            let values = values.as_string::<i32>();
            (0..values.len()).map(|i| if values.is_null(i) { "null".into() } else { values.value(i).to_owned() }).collect::<Vec<_>>()
        };
        found.iter().flat_map(text).collect()
    }
}

fn not_here<T>() -> Result<T> {
    Err(Fault::internal("not part of these tests"))
}

#[async_trait]
impl Engine for Tables {
    async fn write(&self, write: TableWrite) -> Result<Written> {
        if self.full.load(Ordering::SeqCst) {
            return Err(Fault::new(Kind::Unavailable, Code::DISK_FULL, "the disk is full"));
        }
        let mut tables = self.tables.lock().expect("a lock");
        let (rows, positions) = tables.entry(write.table).or_default();
        let position = &write.positions[0];
        let written = positions.get(&position.stream).is_none_or(|known| *known < position.offset);
        let schema = write.rows[0].schema();
        if written {
            rows.extend(write.rows);
            positions.insert(position.stream.clone(), position.offset);
        }
        if self.ambiguous.swap(false, Ordering::SeqCst) {
            return Err(Fault::new(Kind::Unavailable, Code::IO, "the connection broke after the commit"));
        }
        let count = rows.iter().map(|b| b.num_rows() as u64).sum();
        let info = TableInfo {
            version: rows.len() as u64,
            generation: 0,
            schema,
            rows: count,
            last_load: 0,
            positions: positions.clone(),
            note: serde_json::Value::Null,
        };
        Ok(Written { info, written })
    }
    async fn table(&self, _: &TableName) -> Result<Option<TableInfo>> {
        not_here()
    }
    async fn scan(&self, _: &TableName, _: Option<u64>, _: i64) -> Result<BoxStream<'static, Result<RecordBatch>>> {
        not_here()
    }
    fn analyse(&self, _: &str, _: &str, _: usize) -> Result<Analysis> {
        not_here()
    }
    async fn schema(&self, _: &str, _: &Catalog) -> Result<SchemaRef> {
        not_here()
    }
    async fn query(&self, _: &str, _: &Catalog, _: bool) -> Result<BoxStream<'static, Result<RecordBatch>>> {
        not_here()
    }
    async fn compile(&self, _: &ViewDef, _: &BTreeMap<String, TableShape>) -> Result<Arc<dyn AsOfPlan>> {
        not_here()
    }
    async fn judge_rows(&self, _: &[String], _: &RecordBatch, _: Option<(&TableName, u64)>) -> Result<Vec<Vec<bool>>> {
        not_here()
    }
    async fn judge(&self, _: &str, _: &Figures) -> Result<Judged> {
        not_here()
    }
    fn check_condition(&self, _: &str, _: &[String]) -> Result<()> {
        not_here()
    }
}

struct NoSecrets;
impl Secrets for NoSecrets {
    fn get(&self, _: &str) -> Result<secrecy::SecretString> {
        not_here()
    }
    fn fill(&self, text: &str) -> Result<secrecy::SecretString> {
        Ok(text.into())
    }
}

/// Everybody with a token may predict; nobody without.
struct Keeper;
#[async_trait]
impl Doorkeeper for Keeper {
    async fn admit(&self, credentials: Credentials<'_>, _: Permission) -> Result<Caller> {
        match credentials.authorization {
            Some(_) => Ok(Caller { actor: Actor::user("ada"), role: "predictor".into() }),
            None => Err(Fault::new(Kind::Unauthenticated, Code::NOT_AUTHENTICATED, "no token")),
        }
    }
}

pub struct Bench {
    pub plane: Arc<Plane>,
    pub app: App,
    pub reader: Arc<Reader>,
    pub tables: Arc<Tables>,
    pub clock: Arc<ManualClock>,
    pub ports: Ports,
    pub spec: Mutex<ServeSpec>,
    _folder: tempfile::TempDir,
}

pub fn model(number: u64) -> VersionRef {
    VersionRef { asset: "models.churn".parse().expect("an address"), number }
}

/// `score = weight * orders + (country is France ? 0.25 : 0)`.
pub fn model_file(view: &str, weight: f64) -> ModelFile {
    let feature = |view: &str, column: &str, kind, categories: &[&str]| Feature {
        view: view.into(),
        column: column.into(),
        kind,
        categories: categories.iter().map(|c| (*c).to_owned()).collect(),
    };
    let inputs = vec![LinearInput::Scaled { feature: 0, mean: 0.0, scale: 1.0, fill: 0.0 }, LinearInput::OneHot { feature: 1, code: 1 }];
    ModelFile {
        format: 1,
        name: "churn".into(),
        algorithm: "linear".into(),
        task: Task::Regression,
        classes: vec![],
        entity: vec!["customer_id".into()],
        features: vec![
            feature(view, "orders", FeatureType::Number, &[]),
            feature("activity", "country", FeatureType::Category, &["Spain", "France"]),
        ],
        body: ModelBody::Linear(Linear { inputs, weights: vec![vec![weight, 0.25]], intercept: vec![0.0], link: Link::Identity }),
        reference: BTreeMap::new(),
        importance: BTreeMap::new(),
    }
}

impl Bench {
    pub async fn new() -> Bench {
        Bench::with_room(10_000).await
    }

    pub async fn with_room(rows: usize) -> Bench {
        let folder = tempfile::tempdir().expect("a folder");
        let stores = gristmill_store::open(folder.path()).await.expect("a state folder");
        let clock = Arc::new(ManualClock::new("2011-09-01".parse().expect("a moment")));
        let (reader, tables) = (Arc::new(Reader::default()), Arc::new(Tables::default()));
        let ports = Ports {
            ledger: stores.ledger,
            blobs: stores.blobs,
            online: stores.online,
            journal: stores.journal,
            engine: tables.clone(),
            clock: clock.clone(),
            ids: Arc::new(SeededIds::new(1)),
            secrets: Arc::new(NoSecrets),
        };
        let parts = PlaneParts { ports: ports.clone(), features: reader.clone(), features_clock: clock.clone() };
        let plane = Plane::with_log(parts, PredictionLog::with_room("test".into(), rows));
        let door = Door { keeper: Arc::new(Keeper), hosts: Hosts::default(), ids: ports.ids.clone() };
        let app = App::new(crate::routes(plane.clone()), door).expect("the routes fit");
        let name = |text: &str| Name::new(text).expect("a name");
        let spec = Mutex::new(ServeSpec {
            endpoint: name("churn"),
            model: name("churn").into(),
            views: vec![name("activity")],
            entity: vec!["customer_id".into()],
            cache: None,
            timeout: Span::from_secs(5),
            in_flight: 64,
            batch: None,
        });
        Bench { plane, app, reader, tables, clock, ports, spec, _folder: folder }
    }

    /// Writes a version as a run would.
    pub async fn make(&self, asset: &str, place: Place, meta: serde_json::Value, alias: Option<AliasName>) -> VersionRef {
        let asset: Address = asset.parse().expect("an address");
        let now = self.clock.now();
        let run = NewRun {
            id: self.ports.ids.run(),
            stage: StageKind::Train,
            address: asset.clone(),
            spec: serde_json::Value::Null,
            key: Digest::of("key"),
            inputs: vec![],
            parent: None,
            actor: Actor::system("test"),
            reason: "test".into(),
            idempotency: None,
            due_at: now,
        };
        let run = self.ports.ledger.begin(run, "test", now, now.plus(Span::from_secs(30))).await.expect("begins");
        let digest = Digest::of_json(&serde_json::json!([place, meta]));
        let output = NewVersion { asset: asset.clone(), digest, place, rows: None, meta };
        let finish = Finish { outputs: vec![output], ..Finish::empty(RunStatus::Succeeded) };
        let run = self.ports.ledger.finish(&run.id, finish, now).await.expect("finishes");
        let made = run.outputs[0].clone();
        if let Some(alias) = alias {
            let (actor, reason) = (Actor::system("test"), "test".to_owned());
            let wish = AliasMove { asset, alias, to: Some(made.number), expect: None, actor, reason, run: None };
            self.ports.ledger.move_alias(wish, now).await.expect("moves");
        }
        made
    }

    pub async fn train(&self, file: &ModelFile) -> VersionRef {
        let digest = self.ports.blobs.put(file.write().expect("a model").into()).await.expect("stored");
        self.make("models.churn", Place::Blob { digest }, serde_json::Value::Null, None).await
    }

    pub async fn deploy(&self, stable: u64, canary: Option<(u64, u32)>) {
        self.deploy_beside(stable, canary.map(|(number, permille)| (number, permille, 0))).await;
    }

    /// The version beside the stable one: its number, its share and the share of which it is shown copies.
    pub async fn deploy_beside(&self, stable: u64, canary: Option<(u64, u32, u32)>) {
        let at = self.clock.now();
        let canary = canary.map(|(number, permille, mirrored)| Canary {
            model: model(number),
            permille,
            mirrored,
            step: 0,
            began_at: at,
            since: at,
        });
        let spec = self.spec.lock().expect("a lock").clone();
        let serve = serde_json::to_value(&spec).expect("json");
        let deployment = Deployment { format: 1, endpoint: spec.endpoint, stable: model(stable), canary, serve };
        let meta = serde_json::to_value(&deployment).expect("json");
        self.make("endpoints.churn", Place::Meta, meta, Some(AliasName::live())).await;
        self.plane.refresh().await.expect("refreshes");
    }

    pub async fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: Vec<u8>) -> (u16, HeaderMap, Vec<u8>) {
        let mut request = Request::builder().method(method).uri(path).header("host", "localhost").header("authorization", "Bearer x");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response = self.app.handle(request.body(Body::from(body)).expect("a request")).await;
        let (parts, body) = response.into_parts();
        (parts.status.as_u16(), parts.headers, body.collect().await.expect("a body").to_bytes().to_vec())
    }

    /// The same by POST, with what comes behind the body.
    pub async fn send_for_trailers(&self, path: &str, headers: &[(&str, &str)], body: Vec<u8>) -> (u16, HeaderMap, Vec<u8>, HeaderMap) {
        let mut request = Request::builder().method("POST").uri(path).header("host", "localhost").header("authorization", "Bearer x");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let (parts, body) = self.app.handle(request.body(Body::from(body)).expect("a request")).await.into_parts();
        let body = body.collect().await.expect("a body");
        let trailers = body.trailers().cloned().unwrap_or_default();
        (parts.status.as_u16(), parts.headers, body.to_bytes().to_vec(), trailers)
    }

    pub async fn post(&self, path: &str, body: serde_json::Value) -> (u16, serde_json::Value) {
        let (status, _, bytes) = self.send("POST", path, &[], body.to_string().into_bytes()).await;
        (status, serde_json::from_slice(&bytes).expect("json"))
    }

    pub async fn get(&self, path: &str) -> (u16, serde_json::Value) {
        let (status, _, bytes) = self.send("GET", path, &[], Vec::new()).await;
        (status, serde_json::from_slice(&bytes).expect("json"))
    }
}
