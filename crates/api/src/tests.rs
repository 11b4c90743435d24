//! The control API, driven through its routes, over a real ledger.

use crate::page::esc;
use crate::{PromoteWish, Promoter, feast, routes, with_openapi};
use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use futures::stream::BoxStream;
use gristmill_kernel::condition::{Figures, Judged};
use gristmill_kernel::experiment::{Decide, Experiment, Measure, Tried, Values};
use gristmill_kernel::port::*;
use gristmill_kernel::prediction::{Arm, ArmFigures, Canary, Compared, Deployment, EndpointFigures};
use gristmill_kernel::run::{Finish, NewRun};
use gristmill_kernel::table::{Catalog, TableInfo, TableName, TableWrite, Written};
use gristmill_kernel::version::{AliasMove, AliasState, Place, Which};
use gristmill_kernel::view::ViewDef;
use gristmill_kernel::*;
use gristmill_store::system::{ManualClock, SeededIds};
use gristmill_web::{App, Body, Caller, Credentials, Door, Doorkeeper, Hosts, Permission, Request};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

fn not_here<T>() -> Result<T> {
    Err(Fault::internal("not part of these tests"))
}

/// No tables: the control API reads none.
struct NoTables;

#[async_trait]
impl Engine for NoTables {
    async fn write(&self, _: TableWrite) -> Result<Written> {
        not_here()
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
    fn fill(&self, _: &str) -> Result<secrecy::SecretString> {
        not_here()
    }
}

/// Queues straight into the ledger, and remembers what was wished.
struct Queue {
    ports: Ports,
    wishes: Mutex<Vec<FlowOrder>>,
    /// How flows end that somebody waits for.
    fails: Mutex<Option<run::RunError>>,
}

#[async_trait]
impl Runs for Queue {
    async fn submit_flow(&self, flow: FlowOrder) -> Result<Run> {
        let mut run = new_run(&self.ports, StageKind::Flow, &format!("flows.{}", flow.targets[0].name));
        (run.actor, run.reason, run.idempotency) = (flow.actor.clone(), flow.reason.clone(), flow.idempotency.clone());
        run.spec = serde_json::to_value(&flow).expect("json");
        self.wishes.lock().expect("a lock").push(flow);
        self.ports.ledger.submit(run, self.ports.clock.now()).await
    }
    async fn submit(&self, _: NewRun) -> Result<Run> {
        not_here()
    }
    async fn wait(&self, run: &RunId) -> Result<Run> {
        let now = self.ports.clock.now();
        self.ports.ledger.lease("test", now, now.plus(Span::from_secs(30))).await?;
        let error = self.fails.lock().expect("a lock").clone();
        let status = if error.is_some() { RunStatus::Failed } else { RunStatus::Succeeded };
        self.ports.ledger.finish(run, Finish { error, ..Finish::empty(status) }, now).await
    }
    async fn cancel(&self, run: &RunId, actor: &Actor) -> Result<()> {
        self.ports.ledger.ask_cancel(run, actor, self.ports.clock.now()).await
    }
}

/// Version 2 has not passed its gates.
struct Registry {
    ports: Ports,
}

#[async_trait]
impl Promoter for Registry {
    async fn promote(&self, wish: PromoteWish) -> Result<AliasState> {
        if wish.which == Which::Number(2) && !wish.force {
            return Err(Fault::new(Kind::Refused, Code::GATE_FAILED, "auc is 0.5").fix("train a better model"));
        }
        let to = match wish.which {
            Which::Number(number) => number,
            _ => 1,
        };
        let (asset, alias) = (Address::new(AssetKind::Models, wish.model), wish.to.unwrap_or(AliasName::challenger()));
        let wish = AliasMove { asset, alias, to: Some(to), expect: None, actor: wish.actor, reason: wish.reason, run: None };
        self.ports.ledger.move_alias(wish, self.ports.clock.now()).await
    }
    async fn rollback(&self, model: &Name, _: &Actor, _: &str) -> Result<AliasState> {
        Err(Fault::conflict(Code::ALIAS_CONFLICT, format!("models.{model} has no champion before the present one")))
    }
    async fn lineage(&self, version: &VersionRef) -> Result<Value> {
        Ok(json!({ "version": version.to_string() }))
    }
}

struct Live;
impl LiveFigures for Live {
    fn figures(&self, _: &Name, _: Timestamp) -> Option<EndpointFigures> {
        let model = VersionRef { asset: "models.churn".parse().expect("an address"), number: 1 };
        let (p50_ms, p99_ms, score_mean, score_bins) = (1.5, 9.25, f64::NAN, vec![0; 20]);
        Some(
            [(
                Arm::Stable,
                ArmFigures { model, rows: 40, errors: 1, p50_ms, p99_ms, score_mean, score_bins, compared: Compared::default() },
            )]
            .into(),
        )
    }
}

/// The token is the permission's word; `all` is everything.
struct Keeper;
#[async_trait]
impl Doorkeeper for Keeper {
    async fn admit(&self, credentials: Credentials<'_>, permission: Permission) -> Result<Caller> {
        match credentials.authorization {
            Some(word) if word == permission.as_str() || word == "all" => Ok(Caller { actor: Actor::user("ada"), role: "editor".into() }),
            Some(_) => Err(Fault::new(Kind::Denied, Code::NOT_ALLOWED, "the role may not do this")),
            None => Err(Fault::new(Kind::Unauthenticated, Code::NOT_AUTHENTICATED, "no token")),
        }
    }
}

fn new_run(ports: &Ports, stage: StageKind, address: &str) -> NewRun {
    NewRun {
        id: ports.ids.run(),
        stage,
        address: address.parse().expect("an address"),
        spec: json!({}),
        key: Digest::of("key"),
        inputs: vec![],
        parent: None,
        actor: Actor::system("test"),
        reason: "test".into(),
        idempotency: None,
        due_at: ports.clock.now(),
    }
}

struct Bench {
    app: App,
    ports: Ports,
    queue: Arc<Queue>,
    routes: gristmill_web::Routes,
    _folder: tempfile::TempDir,
}

impl Bench {
    async fn new() -> Bench {
        let folder = tempfile::tempdir().expect("a folder");
        let stores = gristmill_store::open(folder.path()).await.expect("a state folder");
        let ports = Ports {
            ledger: stores.ledger,
            blobs: stores.blobs,
            online: stores.online,
            journal: stores.journal,
            engine: Arc::new(NoTables),
            clock: Arc::new(ManualClock::new("2011-09-01".parse().expect("a moment"))),
            ids: Arc::new(SeededIds::new(1)),
            secrets: Arc::new(NoSecrets),
        };
        let queue = Arc::new(Queue { ports: ports.clone(), wishes: Mutex::default(), fails: Mutex::default() });
        let registry = Arc::new(Registry { ports: ports.clone() });
        let view = |name: &str, online| feast::ProjectView { name: Name::new(name).expect("a name"), online };
        let views = move || vec![view("activity", true), view("profile", true), view("history", false)];
        let own = routes("<churn>", ports.clone(), queue.clone(), registry, Arc::new(Live));
        let routes = with_openapi(own.merge(feast::routes(ports.ledger.clone(), queue.clone(), Arc::new(views))), "0.1.0");
        let door = Door { keeper: Arc::new(Keeper), hosts: Hosts::default(), ids: ports.ids.clone() };
        let app = App::new(routes.clone(), door).expect("the routes fit");
        Bench { app, ports, queue, routes, _folder: folder }
    }

    async fn run(&self, stage: StageKind, address: &str, finish: impl FnOnce(&mut Finish)) -> Run {
        let now = self.ports.clock.now();
        let run = new_run(&self.ports, stage, address);
        let run = self.ports.ledger.begin(run, "test", now, now.plus(Span::from_secs(30))).await.expect("begins");
        let mut end = Finish::empty(RunStatus::Succeeded);
        finish(&mut end);
        self.ports.ledger.finish(&run.id, end, now).await.expect("finishes")
    }

    async fn version(&self, stage: StageKind, address: &str, meta: Value) {
        let output = NewVersion {
            asset: address.parse().expect("an address"),
            digest: Digest::of_json(&meta),
            place: Place::Meta,
            rows: None,
            meta,
        };
        self.run(stage, address, |end| end.outputs = vec![output]).await;
    }

    async fn send(&self, method: &str, path: &str, token: Option<&str>, body: Value) -> (u16, String) {
        let mut request = Request::builder().method(method).uri(path).header("host", "localhost");
        if let Some(token) = token {
            request = request.header("authorization", token);
        }
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let response = self.app.handle(request.body(Body::from(body)).expect("a request")).await;
        let status = response.status().as_u16();
        let bytes = response.into_body().collect().await.expect("a body").to_bytes();
        (status, String::from_utf8_lossy(&bytes).into_owned())
    }

    async fn get(&self, path: &str) -> (u16, Value) {
        let (status, text) = self.send("GET", path, Some("read_project"), Value::Null).await;
        (status, serde_json::from_str(&text).unwrap_or(Value::String(text)))
    }

    async fn post(&self, path: &str, body: Value) -> (u16, Value) {
        let (status, text) = self.send("POST", path, Some("all"), body).await;
        (status, serde_json::from_str(&text).expect("json"))
    }
}

#[tokio::test]
async fn every_route_that_is_not_public_has_a_denied_case() {
    let bench = Bench::new().await;
    for route in bench.routes.iter() {
        assert!(!route.about.is_empty(), "{} says nothing about itself", route.path);
        let wrong = if route.permission == Permission::ReadProject { "predict" } else { "read_project" };
        let stranger = bench.send(route.method.as_str(), &route.path, None, Value::Null).await.0;
        let other = bench.send(route.method.as_str(), &route.path, Some(wrong), Value::Null).await.0;
        let wanted = if route.permission == Permission::Public { (200, 200) } else { (401, 403) };
        assert_eq!((stranger, other), wanted, "{} {}", route.method, route.path);
    }
}

#[tokio::test]
async fn the_description_names_every_route_and_no_other() {
    let bench = Bench::new().await;
    let (_, document) = bench.get("/openapi.json").await;
    let described: usize = document["paths"].as_object().expect("paths").values().map(|p| p.as_object().map_or(0, |o| o.len())).sum();
    assert_eq!(described, bench.routes.iter().count());
    assert_eq!(document["paths"]["/api/v1/runs"]["post"]["x-permission"], "submit_run");
    assert_eq!(document["paths"]["/api/v1/runs/{id}"]["get"]["parameters"][0]["name"], "id");
    assert!(document["paths"]["/style.css"]["get"].get("security").is_none());
}

#[tokio::test]
async fn the_description_says_of_every_route_what_it_answers_and_how_it_fails() {
    let bench = Bench::new().await;
    let (_, document) = bench.get("/openapi.json").await;
    for (path, operations) in document["paths"].as_object().expect("paths") {
        for (method, operation) in operations.as_object().expect("operations") {
            let responses = operation["responses"].as_object().expect("responses");
            assert!(responses.keys().any(|status| status.starts_with('2')), "{method} {path}");
            assert_eq!(responses.contains_key("401"), path != "/style.css", "{method} {path}");
        }
    }
    let run = &document["paths"]["/api/v1/runs/{id}"]["get"]["responses"];
    assert_eq!(run["404"]["content"]["application/json"]["schema"], json!({ "$ref": "#/components/schemas/Error" }));
    let schemas = &document["components"]["schemas"];
    assert!(schemas["Error"]["required"].as_array().is_some_and(|keys| keys.contains(&json!("code"))), "{schemas}");
    assert!(schemas["FeastError"].is_object(), "each protocol has its own: {schemas}");
    assert!(run["200"]["content"]["application/json"]["schema"]["properties"]["steps"].is_object(), "{run}");
    assert!(!run.as_object().expect("responses").contains_key("413"), "it reads no body");
}

#[tokio::test]
async fn flows_are_submitted_seen_and_cancelled() {
    let bench = Bench::new().await;
    let (status, run) = bench.post("/api/v1/runs", json!({ "targets": ["models.churn"], "reason": "new rows" })).await;
    assert_eq!((status, run["status"].as_str(), run["actor"].as_str()), (202, Some("queued"), Some("user:ada")));
    let wish = bench.queue.wishes.lock().expect("a lock")[0].clone();
    assert_eq!((wish.upstream, wish.force, wish.reason.as_str()), (true, false, "new rows"));
    let id = run["id"].as_str().expect("an id");
    assert_eq!(bench.get(&format!("/api/v1/runs/{id}")).await.1["reason"], "new rows");
    assert_eq!(bench.get("/api/v1/runs?stage=flow&status=queued").await.1["runs"].as_array().map(Vec::len), Some(1));
    assert_eq!(bench.get("/api/v1/runs?stage=train").await.1["runs"], json!([]));
    let (status, run) = bench.post(&format!("/api/v1/runs/{id}/cancel"), Value::Null).await;
    assert_eq!((status, run["status"].as_str()), (202, Some("cancelled")));
    let (_, audit) = bench.get("/api/v1/audit?limit=1").await;
    assert_eq!((&audit["lines"][0]["seq"], audit["lines"].as_array().map(Vec::len)), (&json!(1), Some(1)));
    let (_, rest) = bench.get("/api/v1/audit?after=1").await;
    assert_eq!(rest["lines"][0]["seq"], 2);
}

#[tokio::test]
async fn wrong_requests_say_what_to_do() {
    let bench = Bench::new().await;
    for (path, body, status, code) in [
        ("/api/v1/runs", json!({ "targets": [] }), 400, "E0504"),
        ("/api/v1/runs", json!({ "targets": ["churn"] }), 400, "E0504"),
        ("/api/v1/runs", json!({ "targets": ["models.churn"], "when": 1 }), 400, "E0504"),
        ("/api/v1/runs/0123/cancel", Value::Null, 404, "E0701"),
        ("/api/v1/aliases", json!({ "version": "models.churn@1", "reason": " " }), 400, "E0504"),
        ("/api/v1/aliases", json!({ "version": "endpoints.churn@1", "reason": "x" }), 400, "E0104"),
        ("/api/v1/aliases", json!({ "version": "models.churn@2", "reason": "x" }), 422, "E0403"),
        ("/api/v1/models/churn/rollback", json!({ "reason": "x" }), 409, "E0405"),
        ("/api/v1/models/Churn/rollback", json!({ "reason": "x" }), 400, "E0104"),
    ] {
        let (got, answer) = bench.post(path, body).await;
        assert_eq!((got, answer["code"].as_str()), (status, Some(code)), "{path}: {answer}");
    }
    for (path, status, code) in [
        ("/api/v1/assets/models.churn/versions", 404, "E0704"),
        ("/api/v1/assets/churn/versions", 400, "E0704"),
        ("/api/v1/versions/models.churn@9/lineage", 404, "E0704"),
        ("/api/v1/runs/0123", 404, "E0701"),
        ("/api/v1/runs?stage=trains", 400, "E0504"),
        ("/api/v1/runs?colour=red", 400, "E0504"),
    ] {
        let (got, answer) = bench.get(path).await;
        assert_eq!((got, answer["code"].as_str()), (status, Some(code)), "{path}: {answer}");
    }
    assert!(bench.queue.wishes.lock().expect("a lock").is_empty(), "nothing was submitted");
}

const RANGE: &str = r#"{"start_ts":"2026-01-01T00:00:00","end_ts":"2026-01-02T00:00:00+00:00"}"#;

fn ranged(more: Value) -> Value {
    let mut body: Value = serde_json::from_str(RANGE).expect("json");
    body.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
    body
}

#[tokio::test]
async fn materializing_is_a_flow_that_is_waited_for() {
    let bench = Bench::new().await;
    assert_eq!(bench.post("/materialize", ranged(json!({ "full_feature_names": true }))).await, (200, Value::Null));
    let wish = bench.queue.wishes.lock().expect("a lock")[0].clone();
    let targets: Vec<String> = wish.targets.iter().map(ToString::to_string).collect();
    assert_eq!((targets, wish.upstream, wish.force), (vec!["features.activity".into(), "features.profile".into()], true, false));
    assert_eq!((wish.actor, wish.reason.as_str()), (Actor::user("ada"), "materialize"));
    // Again, one view, without a range, incrementally, and none at all.
    let one = json!({ "feature_views": ["profile", "profile"], "disable_event_timestamp": true });
    assert_eq!(bench.post("/materialize", one).await, (200, Value::Null));
    let body = json!({ "end_ts": "2026-01-02 00:00:00", "feature_views": ["activity"] });
    assert_eq!(bench.post("/materialize-incremental", body).await, (200, Value::Null));
    assert_eq!(bench.post("/materialize-incremental", json!({ "end_ts": "2026-01-02", "feature_views": [] })).await, (200, Value::Null));
    let targets: Vec<usize> = bench.queue.wishes.lock().expect("a lock").iter().map(|wish| wish.targets.len()).collect();
    assert_eq!(targets, [2, 1, 1], "nothing to do is no flow");
    *bench.queue.fails.lock().expect("a lock") =
        Some(run::RunError { code: "E0301".into(), message: "no such file".into(), fix: Some("put it there".into()), transient: false });
    let (status, answer) = bench.post("/materialize", ranged(json!({}))).await;
    assert!(status == 422 && answer.as_str().is_some_and(|a| a.contains("no such file [E0301] (put it there)")), "{status} {answer}");
}

#[tokio::test]
async fn a_view_is_materialized_once_at_a_time_unless_forced() {
    let bench = Bench::new().await;
    let body = ranged(json!({ "feature_views": ["activity"] }));
    let accepted = |views: Value| (202, json!({ "status": "accepted", "feature_views": views }));
    assert_eq!(bench.post("/materialize?async=true", body.clone()).await, accepted(json!(["activity"])));
    let (status, answer) = bench.post("/materialize?async=true", ranged(json!({}))).await;
    assert_eq!((status, &answer["feature_views"]), (409, &json!(["activity"])), "{answer}");
    assert!(answer["error"].as_str().is_some_and(|e| e.contains("already in MATERIALIZING state: ['activity']")), "{answer}");
    let end = json!({ "end_ts": "2026-01-02T00:00:00Z", "feature_views": ["activity"] });
    assert_eq!(bench.post("/materialize-incremental?async=true", end.clone()).await.0, 409);
    assert_eq!(bench.post("/materialize?async=true", ranged(json!({ "feature_views": ["profile"] }))).await, accepted(json!(["profile"])));
    assert_eq!(bench.post("/materialize-incremental?async=true&force=true", end).await, accepted(json!(["activity"])));
    assert_eq!(bench.queue.wishes.lock().expect("a lock").len(), 3);
}

#[tokio::test]
async fn what_cannot_be_materialized_fails_as_feast_fails() {
    let bench = Bench::new().await;
    for (path, body, status, class) in [
        ("/materialize", ranged(json!({ "feature_views": ["nobody"] })), 404, "FeatureViewNotFoundException"),
        (
            "/materialize-incremental?async=true",
            json!({ "end_ts": "2026-01-02", "feature_views": ["nobody"] }),
            404,
            "FeatureViewNotFoundException",
        ),
        ("/materialize", ranged(json!({ "feature_views": ["history"] })), 422, "FeastError"),
        ("/materialize", ranged(json!({ "version": "v2", "feature_views": ["activity"] })), 422, "FeastError"),
        ("/materialize", json!({}), 422, "FeastError"),
        ("/materialize", json!({ "start_ts": "2026-01-01" }), 422, "FeastError"),
        ("/materialize", json!({ "start_ts": "yesterday", "end_ts": "2026-01-01" }), 422, "FeastError"),
        ("/materialize", json!({ "start_ts": "2026-01-02", "end_ts": "2026-01-02" }), 422, "FeastError"),
        ("/materialize", json!({ "feature_views": "activity" }), 422, "FeastError"),
        ("/materialize?async=perhaps", ranged(json!({})), 422, "FeastError"),
        ("/materialize-incremental", json!({}), 422, "FeastError"),
        ("/materialize-incremental", json!({ "end_ts": "soon" }), 422, "FeastError"),
    ] {
        let (got, answer) = bench.post(path, body.clone()).await;
        let told: Value = serde_json::from_str(answer.as_str().unwrap_or_default()).unwrap_or_default();
        assert_eq!((got, told["class"].as_str()), (status, Some(class)), "{path} {body}: {answer}");
    }
    assert!(bench.queue.wishes.lock().expect("a lock").is_empty(), "nothing was submitted");
}

#[tokio::test]
async fn versions_and_aliases_are_seen_and_moved() {
    let bench = Bench::new().await;
    bench.version(StageKind::Train, "models.churn", json!({ "n": 1 })).await;
    bench.version(StageKind::Train, "models.churn", json!({ "n": 2 })).await;
    let (status, state) =
        bench.post("/api/v1/aliases", json!({ "version": "models.churn@1", "alias": "champion", "reason": "good" })).await;
    assert_eq!((status, &state["number"], state["actor"].as_str()), (200, &json!(1), Some("user:ada")), "{state}");
    let (status, state) = bench.post("/api/v1/aliases", json!({ "version": "models.churn@2", "reason": "I know", "force": true })).await;
    assert_eq!((status, state["alias"].as_str()), (200, Some("challenger")), "{state}");
    let (_, list) = bench.get("/api/v1/assets/models.churn/versions").await;
    assert_eq!((&list["versions"][0]["version"], list["aliases"].as_array().map(Vec::len)), (&json!("models.churn@2"), Some(2)));
    let (_, assets) = bench.get("/api/v1/assets").await;
    assert_eq!(assets["assets"][0]["aliases"], json!({ "champion": 1, "challenger": 2 }));
    assert_eq!(bench.get("/api/v1/versions/models.churn@champion/lineage").await.1["version"], "models.churn@1");
}

#[tokio::test]
async fn the_status_shows_what_an_experiment_has_come_to() {
    let bench = Bench::new().await;
    let model = |number| VersionRef { asset: "models.churn".parse().expect("an address"), number };
    let at = bench.ports.clock.now();
    let canary = Some(Canary { model: model(2), permille: 500, mirrored: 0, step: 0, began_at: at, since: at });
    let deployment = Deployment { format: 1, endpoint: Name::new("churn").expect("a name"), stable: model(1), canary, serve: json!({}) };
    bench.version(StageKind::Deploy, "endpoints.churn", serde_json::to_value(&deployment).expect("json")).await;
    let (asset, alias) = ("endpoints.churn".parse().expect("an address"), AliasName::live());
    let wish = AliasMove { asset, alias, to: Some(1), expect: None, actor: Actor::system("test"), reason: "x".into(), run: None };
    bench.ports.ledger.move_alias(wish, at).await.expect("moves");
    assert_eq!(bench.get("/api/v1/status").await.1["endpoints"][0]["experiment"], Value::Null, "nothing was counted");
    let decide = Decide { by: Measure::Less, labels: Name::new("churned").expect("a name"), confidence: 950, at_least: 100 };
    let values = |entities, mean: f64| Values { entities, mean, variance: mean * (1.0 - mean) };
    let counted = |decide: &Decide, trial| Experiment {
        tried: Tried::of(&deployment, decide).expect("an experiment"),
        of_stable: values(5_000, 0.3),
        of_trial: trial,
    };
    let told = async |seen: Experiment| {
        bench.run(StageKind::Monitor, "monitors.churn", |end| (end.params, end.metrics) = seen.written()).await;
        bench.get("/api/v1/status").await.1["endpoints"][0]["experiment"].clone()
    };
    let few = told(counted(&decide, values(20, 0.2))).await;
    assert_eq!(
        (&few["better"], &few["difference"], few["lacking"].as_str().map(|s| s.contains("20 of 100"))),
        (&Value::Null, &Value::Null, Some(true))
    );
    let clear = told(counted(&decide, values(5_000, 0.2))).await;
    assert_eq!(
        (&clear["better"], &clear["decide"], &clear["trial"]),
        (&json!(true), &json!("less churned"), &json!({ "entities": 5_000, "mean": 0.2 }))
    );
    let (_, page) = bench.send("GET", "/", Some("read_project"), Value::Null).await;
    assert!(page.contains("Experiment on churn: less churned") && page.contains("models.churn@2 is better: difference -0.1000"), "{page}");
    // What was counted for another experiment is not shown for this one.
    let before = Tried { began_at: Timestamp::from_micros(7), ..Tried::of(&deployment, &decide).expect("an experiment") };
    assert_eq!(told(Experiment { tried: before, ..counted(&decide, values(5_000, 0.2)) }).await, Value::Null);
}

#[tokio::test]
async fn the_status_shows_the_loop_and_escapes_what_others_wrote() {
    let bench = Bench::new().await;
    let model = |number| VersionRef { asset: "models.churn".parse().expect("an address"), number };
    let at = bench.ports.clock.now();
    let canary = Some(Canary { model: model(2), permille: 250, mirrored: 0, step: 1, began_at: at, since: at });
    let deployment = Deployment { format: 1, endpoint: Name::new("churn").expect("a name"), stable: model(1), canary, serve: json!({}) };
    bench.version(StageKind::Deploy, "endpoints.churn", serde_json::to_value(deployment).expect("json")).await;
    let (asset, alias) = ("endpoints.churn".parse().expect("an address"), AliasName::live());
    let wish = AliasMove { asset, alias, to: Some(1), expect: None, actor: Actor::system("test"), reason: "x".into(), run: None };
    bench.ports.ledger.move_alias(wish, at).await.expect("moves");
    let check = Check { condition: "psi > 0.2".into(), verdict: Verdict::Fail, observed: "psi(spend) = 0.41 <script>".into() };
    bench.run(StageKind::Monitor, "monitors.churn", |end| (end.verdict, end.checks) = (Some(Verdict::Fail), vec![check])).await;
    let (status, body) = bench.get("/api/v1/status").await;
    assert_eq!((status, body["health"].as_str()), (200, Some("bad")), "{body}");
    assert_eq!(body["endpoints"][0]["canary"], json!({ "model": "models.churn@2", "share": 0.25, "copies": 0.0 }));
    assert_eq!(body["endpoints"][0]["figures"]["stable"]["error_rate"], 0.025);
    assert_eq!(body["endpoints"][0]["figures"]["stable"]["score_mean"], Value::Null);
    assert_eq!(body["alerts"][0]["text"], "psi > 0.2 (psi(spend) = 0.41 <script>)");
    let stages: Vec<&str> = body["stages"].as_array().expect("stages").iter().map(|s| s["health"].as_str().expect("text")).collect();
    assert_eq!(stages, ["unknown", "unknown", "unknown", "unknown", "unknown", "good", "unknown", "bad"]);
    let (status, page) = bench.send("GET", "/", Some("read_project"), Value::Null).await;
    assert_eq!(status, 200);
    assert!(
        page.contains("&lt;churn&gt;") && page.contains("models.churn@2") && page.contains("25 %") && page.contains("9.250 ms"),
        "{page}"
    );
    assert!(
        !page.contains("<script") && !page.contains("style=") && !page.contains("<churn>"),
        "nothing the content policy forbids: {page}"
    );
    assert_eq!(esc("<a href=\"x\">'&'</a>"), "&lt;a href=&quot;x&quot;&gt;&#39;&amp;&#39;&lt;/a&gt;");
}
