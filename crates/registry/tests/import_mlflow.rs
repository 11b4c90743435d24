//! A folder, a database and a server of a real MLflow are taken over and compared with what MLflow's own client said about them.
//!
//! The golden data in `mlflow/` is made by `mlflow/make_fixtures.py`.

use async_trait::async_trait;
use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use gristmill_kernel::port::{ArtifactKey, Artifacts, Blobs, Clock};
use gristmill_kernel::tracking::{Batch, ExperimentId, HistoryWanted, Lifecycle, LoggedModelStatus, Search, ViewType, filter::Filter};
use gristmill_kernel::{Actor, Result, RunId, RunStatus};
use gristmill_registry::import::mlflow::disk::Folder;
use gristmill_registry::import::mlflow::files::MlrunsFolder;
use gristmill_registry::import::mlflow::plan::{Look, UNFINISHED};
use gristmill_registry::import::mlflow::rest::{Ask, Fetch, MlflowServer};
use gristmill_registry::import::mlflow::source::{Content, Counts};
use gristmill_registry::import::mlflow::sqlite::MlflowDb;
use gristmill_registry::import::mlflow::{Options, Report, Silent, Source, Target, Watch, import};
use gristmill_store::ledger::{SqliteRegistry, TrackedArtifacts};
use gristmill_store::system::{RandomIds, SystemClock};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/mlflow").join(name)
}
fn expected(name: &str) -> Value {
    serde_json::from_str(&std::fs::read_to_string(golden(name)).expect("golden file")).expect("JSON")
}

struct Here {
    target: Target,
    blobs: Arc<dyn Blobs>,
    _dir: tempfile::TempDir,
}

impl Here {
    async fn new() -> Here {
        let dir = tempfile::tempdir().expect("folder");
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
        let ledger = gristmill_store::open_ledger_with(dir.path(), clock.clone()).await.expect("ledger");
        let blobs = gristmill_store::open_blobs(dir.path()).expect("blobs");
        let registry = Arc::new(SqliteRegistry::new(ledger.clone(), blobs.clone(), Arc::new(RandomIds)));
        let artifacts = Arc::new(TrackedArtifacts::new(ledger.clone(), (*blobs).clone()));
        let target = Target {
            tracking: ledger.clone(),
            import: ledger.clone(),
            models: registry.clone(),
            registry_import: registry,
            artifacts,
            ledger,
            clock,
        };
        Here { target, blobs, _dir: dir }
    }
    async fn take(&self, source: &dyn Source) -> Report {
        self.take_with(source, options()).await.expect("imported")
    }
    async fn take_with(&self, source: &dyn Source, options: Options) -> Result<Report> {
        import(source, &self.target, &options, &Silent).await
    }
}

fn options() -> Options {
    Options { actor: Actor::user("ada"), dry_run: false, look: Look::Latest, without_files: false, renumber: false }
}

fn folder() -> MlrunsFolder {
    MlrunsFolder::open(&golden("mlruns"), None).expect("folder")
}
async fn database() -> MlflowDb {
    let db = gristmill_store::open_foreign_sqlite(&golden("mlflow.db")).await.expect("database");
    MlflowDb::open(db, "mlflow.db".into(), vec![Folder::open(&golden("")).expect("folder")]).await.expect("schema")
}
fn server() -> MlflowServer {
    MlflowServer::new(Box::new(Recorded(expected("rest.json"))))
}

/// The recorded answers of a server.
struct Recorded(Value);

impl Recorded {
    fn answer(&self, key: &str) -> (u16, Value) {
        let kept = &self.0[key];
        assert!(!kept.is_null(), "nothing was recorded for {key}");
        (kept[0].as_u64().expect("status") as u16, kept[1].clone())
    }
}

#[async_trait]
impl Fetch for Recorded {
    fn about(&self) -> String {
        "http://recorded".into()
    }
    async fn json(&self, ask: &Ask) -> Result<(u16, Value)> {
        Ok(self.answer(&match ask {
            Ask::Get(path) => format!("GET {path}"),
            Ask::Post(path, body) => format!("POST {path} {body}"),
        }))
    }
    async fn stream(&self, path: &str) -> Result<(u16, Content)> {
        let (status, body) = self.answer(&format!("GET {path}"));
        // Bytes were recorded one character each.
        let bytes: Vec<u8> = body.as_str().expect("content").chars().map(|c| c as u8).collect();
        Ok((status, stream::iter([Ok(Bytes::from(bytes))]).boxed()))
    }
}

/// What is here, in the words of the golden file.
async fn describe(here: &Here) -> Value {
    let Target { tracking, models, artifacts, .. } = &here.target;
    let everything = |experiments: Vec<ExperimentId>| Search {
        experiments,
        view: ViewType::All,
        filter: Filter::default(),
        order: Vec::new(),
        limit: 1_000,
        offset: 0,
    };
    let experiments = tracking.search_experiments(&everything(Vec::new())).await.expect("experiments").items;
    let ids: Vec<ExperimentId> = experiments.iter().map(|e| e.id).collect();
    let mut told = json!({ "experiments": [], "runs": [], "logged_models": [], "models": [], "files": {} });
    let push = |told: &mut Value, key: &str, value: Value| told[key].as_array_mut().expect("a list").push(value);
    for e in experiments {
        let deleted = e.lifecycle == Lifecycle::Deleted;
        push(
            &mut told,
            "experiments",
            json!({ "id": e.id.0, "name": e.name, "deleted": deleted, "created": e.created_at.millis(), "tags": e.tags }),
        );
    }
    for r in tracking.search_runs(&everything(ids.clone())).await.expect("runs").items {
        let mut metrics = serde_json::Map::new();
        for latest in &r.metrics {
            let points = tracking.history(&r.id, &latest.key, HistoryWanted::default()).await.expect("history").items;
            metrics.insert(latest.key.clone(), points.iter().map(|p| json!([p.at.millis(), p.step, number(p.value)])).collect());
        }
        let datasets: Vec<Value> = r
            .datasets
            .iter()
            .map(|d| {
                let tags: BTreeMap<_, _> = d.tags.iter().cloned().collect();
                let s = &d.dataset;
                json!({ "name": s.key.name, "digest": s.key.digest, "source_type": s.source_type, "source": s.source, "schema": s.schema,
                        "profile": s.profile, "tags": tags })
            })
            .collect();
        let made: Vec<Value> = r.model_outputs.iter().map(|m| json!([m.model, m.step])).collect();
        let read: Vec<&String> = r.model_inputs.iter().map(|m| &m.model).collect();
        push(
            &mut told,
            "runs",
            json!({ "id": r.id, "experiment": r.experiment.0, "name": r.name, "user": r.user, "status": status(r.status),
                    "deleted": r.lifecycle == Lifecycle::Deleted, "started": r.started_at.map(|t| t.millis()), "ended": r.ended_at.map(|t| t.millis()),
                    "params": r.params, "tags": r.tags, "metrics": metrics, "datasets": datasets, "read": read, "made": made }),
        );
        told["files"][r.id.0.as_str()] = files(artifacts.as_ref(), &format!("{}/{}/artifacts", r.experiment, r.id)).await;
    }
    for m in tracking.search_logged_models(&everything(ids)).await.expect("logged models").items {
        let metrics: Vec<Value> = m
            .metrics
            .iter()
            .map(|(p, run)| {
                let dataset = p.dataset.as_ref();
                json!([p.key, p.at.millis(), p.step, number(p.value), run, dataset.map(|d| &d.name), dataset.map(|d| &d.digest)])
            })
            .collect();
        let word = match m.status {
            LoggedModelStatus::Pending => "PENDING",
            LoggedModelStatus::Ready => "READY",
            LoggedModelStatus::Failed => "FAILED",
        };
        push(
            &mut told,
            "logged_models",
            json!({ "id": m.id, "experiment": m.experiment.0, "name": m.name, "kind": m.model_type, "run": m.source_run, "status": word,
                    "created": m.created_at.millis(), "params": m.params, "tags": m.tags, "metrics": metrics }),
        );
        told["files"][m.id.as_str()] = files(artifacts.as_ref(), &format!("{}/models/{}/artifacts", m.experiment, m.id)).await;
    }
    for m in models.search_models(&everything(Vec::new())).await.expect("models").items {
        let mut versions = Vec::new();
        for number in 1..10 {
            let Some(v) = models.model_version(&m.name, number).await.expect("version") else { continue };
            versions.push(
                json!({ "number": v.id.number, "created": v.created_at.millis(), "stage": v.stage.as_str(), "description": v.description,
                                  "run": v.run, "tags": v.tags, "source": v.source }),
            );
        }
        push(
            &mut told,
            "models",
            json!({ "name": m.name, "created": m.created_at.millis(), "description": m.description, "tags": m.tags, "aliases": m.aliases,
                    "versions": versions }),
        );
    }
    told
}

async fn files(artifacts: &dyn Artifacts, prefix: &str) -> Value {
    let found = artifacts.walk_artifacts(&ArtifactKey::new(prefix).expect("key")).await.expect("walk");
    found.into_iter().map(|a| (a.key, Value::from(a.bytes))).collect::<serde_json::Map<_, _>>().into()
}

fn number(value: f64) -> Value {
    match value {
        v if v.is_nan() => "nan".into(),
        v if v == f64::INFINITY => "inf".into(),
        v => v.into(),
    }
}

fn status(status: RunStatus) -> &'static str {
    match status {
        RunStatus::Queued => "SCHEDULED",
        RunStatus::Running => "RUNNING",
        RunStatus::Succeeded | RunStatus::Skipped => "FINISHED",
        RunStatus::Failed => "FAILED",
        RunStatus::Cancelled => "KILLED",
    }
}

/// Brings both sides into one order, and takes out what an import changes on purpose.
fn normal(mut told: Value) -> Value {
    for (list, key) in [("experiments", "id"), ("runs", "id"), ("logged_models", "id"), ("models", "name")] {
        told[list].as_array_mut().expect("a list").sort_by_key(|v| v[key].to_string());
    }
    for run in told["runs"].as_array_mut().expect("runs") {
        for points in run["metrics"].as_object_mut().expect("metrics").values_mut() {
            points.as_array_mut().expect("points").sort_by_key(Value::to_string);
        }
    }
    for experiment in told["experiments"].as_array_mut().expect("experiments") {
        if experiment["id"] == 0 {
            // The experiment that every tracker begins with.
            experiment["created"] = Value::Null;
        }
    }
    for model in told["logged_models"].as_array_mut().expect("logged models") {
        for key in ["kind", "run"] {
            // Over the wire nothing and an empty text are the same.
            if model[key] == "" {
                model[key] = Value::Null;
            }
        }
    }
    for model in told["models"].as_array_mut().expect("models") {
        for version in model["versions"].as_array_mut().expect("versions") {
            // Where the files are is said in this server's words; the test of sources looks at it.
            version["source"] = Value::Null;
        }
    }
    told
}

fn differences(there: &Value, here: &Value, at: &str, found: &mut Vec<String>) {
    match (there, here) {
        (Value::Object(a), Value::Object(b)) => {
            for key in a.keys().chain(b.keys().filter(|k| !a.contains_key(*k))) {
                differences(&there[key], &here[key], &format!("{at}.{key}"), found);
            }
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            a.iter().zip(b).enumerate().for_each(|(i, (a, b))| differences(a, b, &format!("{at}[{i}]"), found));
        }
        (a, b) if a == b || a.as_f64().is_some_and(|x| Some(x) == b.as_f64()) => {}
        (a, b) => found.push(format!("{at}: {a} there, {b} here")),
    }
}

async fn check(source: &dyn Source, golden: &str) -> Here {
    let here = Here::new().await;
    let report = here.take(source).await;
    assert_eq!((report.skipped, report.files_elsewhere), (0, 0), "{:?}", report.skipped_first);
    let mut found = Vec::new();
    differences(&normal(expected(golden)), &normal(describe(&here).await), "", &mut found);
    assert!(found.is_empty(), "{}", found.join("\n"));
    here
}

async fn check_again(here: &Here, source: &dyn Source) {
    let before = describe(here).await;
    let again = here.take(source).await;
    assert!(again.is_unchanged() && again.points == 0 && again.skipped == 0, "{again:#?}");
    let everything = here.take_with(source, Options { look: Look::Everything, ..options() }).await.expect("looked at again");
    assert!(everything.is_unchanged() && everything.skipped == 0, "{everything:#?}");
    assert_eq!(describe(here).await, before);
    here.target.ledger.verify_audit().await.expect("the ledger is sound");
}

#[tokio::test]
async fn a_folder_is_taken_over() {
    let source = folder();
    let here = check(&source, "expected-folder.json").await;
    check_again(&here, &source).await;
}

#[tokio::test]
async fn a_database_is_taken_over() {
    let source = database().await;
    let here = check(&source, "expected-database.json").await;
    check_again(&here, &source).await;
}

#[tokio::test]
async fn a_server_is_taken_over() {
    let here = check(&server(), "expected-database.json").await;
    check_again(&here, &server()).await;
}

#[tokio::test]
async fn a_database_and_its_server_are_the_same() {
    let here = check(&server(), "expected-database.json").await;
    let report = here.take(&database().await).await;
    assert!(report.is_unchanged() && report.skipped == 0, "{report:#?}");
}

#[tokio::test]
async fn a_dry_run_counts_and_writes_nothing() {
    let here = Here::new().await;
    let head = here.target.ledger.head().await.expect("head");
    let dry = here.take_with(&folder(), Options { dry_run: true, ..options() }).await.expect("counted");
    assert_eq!(here.target.ledger.head().await.expect("head"), head);
    let Counts { experiments, runs, points, logged_models, models, versions, files, .. } = dry.found.clone();
    assert_eq!((experiments, runs, logged_models, models, versions), (3, Some(6), Some(2), 3, 3));
    assert_eq!((points, files), (Some(12), Some(5)));
    let wet = here.take(&folder()).await;
    assert_eq!((dry.runs, dry.logged_models, dry.models), (wet.runs, wet.logged_models, wet.models));
    assert_eq!((wet.files, wet.versions.new, wet.aliases.new), (5, 3, 2));
    let after = here.take_with(&folder(), Options { dry_run: true, ..options() }).await.expect("counted");
    assert!(after.is_unchanged(), "{after:#?}");
}

#[tokio::test]
async fn sources_and_files_of_versions_are_ours() {
    let here = Here::new().await;
    here.take(&folder()).await;
    let Target { models, artifacts, ledger, .. } = &here.target;
    let first = models.model_version("churn", 1).await.expect("read").expect("there");
    let run = first.run.clone().expect("a run");
    assert!(
        first.source.starts_with("mlflow-artifacts:/") && first.source.ends_with(&format!("/{run}/artifacts/model")),
        "{}",
        first.source
    );
    assert!(models.model_version("churn", 2).await.expect("read").is_none(), "a gap stays a gap");
    let third = models.model_version("churn", 3).await.expect("read").expect("there");
    assert!(third.source.starts_with("models:/m-") && third.model.as_deref() == third.source.strip_prefix("models:/"), "{}", third.source);
    let version = ledger.version(&third.id.asset, &gristmill_kernel::version::Which::Number(3)).await.expect("read").expect("there");
    let manifest = here.blobs.get(&version.blob().expect("a manifest")).await.expect("read").expect("there");
    let manifest = gristmill_kernel::tracking::manifest::Manifest::read(&manifest).expect("sound");
    assert_eq!(manifest.files().keys().collect::<Vec<_>>(), ["MLmodel"]);
    let key = ArtifactKey::new(&format!("{}/MLmodel", first.source.trim_start_matches("mlflow-artifacts:/"))).expect("key");
    let info = artifacts.artifact(&key).await.expect("read").expect("there");
    let content: Vec<Bytes> = artifacts.read_artifact(&info.digest, 0..info.bytes).await.expect("open").try_collect().await.expect("read");
    assert_eq!(content.concat(), b"flavors: {}\n");
}

/// Stops in the middle: everything after so many answers is an error.
struct Breaks<'s> {
    inner: &'s dyn Source,
    left: AtomicUsize,
}

impl Breaks<'_> {
    fn step(&self) -> Result<()> {
        let left = self.left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1));
        let broken = || {
            gristmill_kernel::Fault::new(gristmill_kernel::Kind::Unavailable, gristmill_kernel::Code::SOURCE_UNREADABLE, "the power went")
        };
        left.map(|_| ()).map_err(|_| broken())
    }
}

macro_rules! breaks {
    ($($name:ident($($arg:ident: $kind:ty),*) -> $answer:ty;)*) => {
        #[async_trait]
        impl Source for Breaks<'_> {
            fn about(&self) -> String {
                self.inner.about()
            }
            $(async fn $name(&self, $($arg: $kind),*) -> Result<$answer> {
                self.step()?;
                self.inner.$name($($arg),*).await
            })*
        }
    };
}

use gristmill_kernel::tracking::{Experiment, Point};
use gristmill_registry::import::mlflow::source::{Files, Part, Root, SourceModel, SourceRegistered, SourceRun};
breaks! {
    survey() -> Counts;
    experiments() -> Part<Experiment>;
    runs(experiment: ExperimentId, from: Option<&str>) -> Part<SourceRun>;
    whole(run: SourceRun) -> SourceRun;
    history(run: &SourceRun, key: &str, from: Option<&str>) -> Part<Point>;
    logged_models(experiment: ExperimentId, from: Option<&str>) -> Part<SourceModel>;
    registered(from: Option<&str>) -> Part<SourceRegistered>;
    files(root: &Root) -> Files;
    read(root: &Root, key: &str) -> Content;
}

#[tokio::test]
async fn an_import_goes_on_where_it_stopped() {
    let source = folder();
    for steps in 0..40 {
        let here = Here::new().await;
        let breaks = Breaks { inner: &source, left: AtomicUsize::new(steps) };
        if here.take_with(&breaks, options()).await.is_ok() {
            assert!(steps > 15, "it takes more than {steps} steps");
            return;
        }
        let report = here.take(&source).await;
        assert_eq!(report.skipped, 0, "after {steps} steps: {:?}", report.skipped_first);
        let mut found = Vec::new();
        differences(&normal(expected("expected-folder.json")), &normal(describe(&here).await), "", &mut found);
        assert!(found.is_empty(), "after {steps} steps: {}", found.join("\n"));
    }
    panic!("it never came to its end");
}

#[tokio::test]
async fn what_people_changed_here_stays() {
    let here = Here::new().await;
    here.take(&folder()).await;
    let told = describe(&here).await;
    let bold = told["runs"].as_array().expect("runs").iter().find(|r| r["name"] == "bold-hen").expect("the run");
    let id = RunId(bold["id"].as_str().expect("id").to_owned());
    let Target { tracking, models, ledger, clock, .. } = &here.target;
    let now = clock.now();
    let tags = vec![("k".to_owned(), "changed here".to_owned())];
    tracking.log(&id, Batch { tags, ..Batch::default() }, now).await.expect("tagged");
    tracking.delete_run_tag(&id, "text").await.expect("removed");
    models.describe_model("churn", "described here", now).await.expect("described");
    let asset = models.registered_model("churn").await.expect("read").expect("there").asset;
    let moved = gristmill_kernel::version::AliasMove {
        asset,
        alias: gristmill_kernel::AliasName::champion(),
        to: Some(1),
        expect: None,
        actor: Actor::user("ada"),
        reason: "better".into(),
        run: None,
    };
    ledger.move_alias(moved, now).await.expect("moved");
    let report = here.take(&folder()).await;
    // What was taken away comes back: it is missing.
    assert_eq!((report.runs.added, report.models.added, report.aliases.new), (1, 0, 0), "{report:#?}");
    let run = tracking.tracked_run(&id).await.expect("read").expect("there");
    assert_eq!((run.tags["k"].as_str(), run.tags["text"].as_str()), ("changed here", "a\nb"));
    assert!(!run.tags.contains_key(UNFINISHED));
    let model = models.registered_model("churn").await.expect("read").expect("there");
    assert_eq!((model.description.as_str(), model.aliases["champion"]), ("described here", 1));
    assert!(report.notes.iter().any(|n| n.contains("champion")), "{:?}", report.notes);
}

#[tokio::test]
async fn an_id_that_is_taken_is_a_conflict_or_gets_another() {
    let here = Here::new().await;
    let (actor, now) = (Actor::user("ada"), here.target.clock.now());
    let ours = here.target.tracking.create_experiment("ours", None, BTreeMap::new(), &actor, now).await.expect("made");
    assert_eq!(ours, ExperimentId(1), "the database has a `churn` with this id");
    let source = database().await;
    let report = here.take(&source).await;
    assert_eq!(report.skipped_first[0].code, "E0409");
    assert!(report.skipped_first[0].why.contains("ours"), "{:?}", report.skipped_first);
    let report = here.take_with(&source, Options { renumber: true, ..options() }).await.expect("imported");
    assert_eq!(report.skipped, 0, "{:?}", report.skipped_first);
    let churn = here.target.tracking.experiment_by_name("churn").await.expect("read").expect("there");
    assert!(churn.id != ExperimentId(1));
    let told = describe(&here).await;
    let runs = told["runs"].as_array().expect("runs");
    assert_eq!(runs.iter().filter(|r| r["experiment"] == churn.id.0).count(), 4);
    let again = here.take_with(&source, Options { renumber: true, ..options() }).await.expect("imported");
    assert!(again.is_unchanged(), "{again:#?}");
}

#[tokio::test]
async fn broken_things_are_named_and_stop_nothing() {
    let copy = tempfile::tempdir().expect("folder");
    copy_tree(&golden("mlruns"), copy.path());
    let told = expected("expected-folder.json");
    let churn =
        told["experiments"].as_array().expect("experiments").iter().find(|e| e["name"] == "churn").expect("churn")["id"].to_string();
    let runs = told["runs"].as_array().expect("runs");
    let named = |name: &str| runs.iter().find(|r| r["name"] == name).expect("the run")["id"].as_str().expect("id").to_owned();
    let dir = copy.path().join(&churn);
    std::fs::write(dir.join(named("gone")).join("meta.yaml"), "run_id: !!python/object:os.system x\n").expect("write");
    std::fs::write(dir.join(named("bold-hen")).join("metrics/auc"), "1 0.5 0\nnot a point\n2 0.75 1\n").expect("write");
    std::fs::create_dir_all(dir.join("f".repeat(32))).expect("folder");
    std::fs::write(dir.join("f".repeat(32)).join("meta.yaml"), format!("run_id: {}\nexperiment_id: '{churn}'\n", "e".repeat(32)))
        .expect("write");
    std::fs::write(dir.join(named("bold-hen")).join("artifacts/..%2fup"), "x").expect("write");
    let here = Here::new().await;
    let source = MlrunsFolder::open(copy.path(), None).expect("folder");
    let report = here.take(&source).await;
    let whats: Vec<&str> = report.skipped_first.iter().map(|s| s.what.as_str()).collect();
    assert_eq!(report.skipped, 4, "{:#?}", report.skipped_first);
    for what in ["run ", "a point of metric `auc`", "file `..%2fup`"] {
        assert!(whats.iter().any(|w| w.starts_with(what)), "{what} in {whats:?}");
    }
    let history = here.target.tracking.history(&RunId(named("bold-hen")), "auc", HistoryWanted::default()).await.expect("history");
    assert_eq!(history.items.len(), 3, "two of the file, one of the model");
    let refused = MlrunsFolder::open(&golden("mlartifacts"), None).err().expect("no experiments");
    assert_eq!(refused.code.to_string(), "E0301");
}

fn copy_tree(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("folder");
    for entry in std::fs::read_dir(from).expect("list") {
        let entry = entry.expect("entry");
        match entry.file_type().expect("kind").is_dir() {
            true => copy_tree(&entry.path(), &to.join(entry.file_name())),
            false => std::fs::copy(entry.path(), to.join(entry.file_name())).map(|_| ()).expect("copy"),
        }
    }
}

#[tokio::test]
async fn progress_is_told() {
    struct Last(std::sync::Mutex<BTreeMap<&'static str, (u64, Option<u64>)>>);
    impl Watch for Last {
        fn found(&self, counts: &Counts) {
            assert_eq!(counts.runs, Some(6));
        }
        fn at(&self, kind: &'static str, done: u64, total: Option<u64>) {
            self.0.lock().expect("lock").insert(kind, (done, total));
        }
    }
    let here = Here::new().await;
    let last = Last(std::sync::Mutex::default());
    import(&folder(), &here.target, &options(), &last).await.expect("imported");
    let last = last.0.into_inner().expect("lock");
    assert_eq!((last["runs"], last["experiments"], last["registered models"]), ((6, Some(6)), (3, Some(3)), (3, Some(3))));
}
