//! The stage through its ports: what it reads, writes and annotates, and that a killed run's trials are taken over.

use crate::common::ports::{Memory, now, ports};
use crate::common::{Label, made_up, spec};
use gristmill_kernel::graph::Node;
use gristmill_kernel::model::ModelFile;
use gristmill_kernel::run::{Run, RunStatus, work_key};
use gristmill_kernel::stage::{CancelFlag, Made, NoProgress};
use gristmill_kernel::version::{Place, VersionRef};
use gristmill_kernel::{Actor, Code, Digest, Done, Order, Result, RunId, StageContext, StageKind, Version};
use gristmill_train::spec::{Range, Search, TrainSpec, Tune};
use std::collections::BTreeMap;
use std::sync::Arc;

struct Bench {
    memory: Arc<Memory>,
    set: Version,
}

impl Bench {
    fn new() -> Bench {
        let memory = Arc::new(Memory::default());
        let (meta, blob) = made_up(900, Label::Boolean, 11);
        let digest = Digest::of(&blob);
        memory.blobs.lock().expect("lock").insert(digest, blob);
        let set = version("training_sets.m", 1, digest, serde_json::to_value(meta).expect("json"));
        Bench { memory, set }
    }

    fn order(&self, run: &str, spec: &TrainSpec) -> Order {
        let node = Node {
            address: "models.m".parse().expect("an address"),
            stage: StageKind::Train,
            spec: serde_json::to_value(spec).expect("json"),
            parents: vec!["training_sets.m".parse().expect("an address")],
        };
        let inputs = vec![self.set.clone()];
        self.memory.runs.lock().expect("lock").push(open_run(run, &node, work_key(&node, &inputs)));
        Order { run: RunId(run.into()), node, inputs, actor: Actor::user("ada"), reason: "asked".into() }
    }

    async fn run(&self, run: &str, spec: &TrainSpec) -> Result<Made> {
        let cx = StageContext {
            ports: ports(&self.memory),
            project_dir: "/nowhere".into(),
            progress: Arc::new(NoProgress),
            cancel: CancelFlag::default(),
        };
        match gristmill_train::stage().run(&cx, self.order(run, spec)).await? {
            Done::Made(made) => Ok(made),
            Done::Unchanged { .. } => panic!("train always makes"),
        }
    }

    fn model(&self, made: &Made) -> ModelFile {
        let Place::Blob { digest } = made.outputs[0].place else { panic!("a blob") };
        ModelFile::read(&self.memory.blobs.lock().expect("lock")[&digest]).expect("a model")
    }
}

fn version(asset: &str, number: u64, digest: Digest, meta: serde_json::Value) -> Version {
    Version {
        id: VersionRef { asset: asset.parse().expect("an address"), number },
        digest,
        place: Place::Blob { digest },
        rows: None,
        meta,
        run: RunId("0".into()),
        made_at: now(),
    }
}

fn open_run(id: &str, node: &Node, key: Digest) -> Run {
    Run {
        id: RunId(id.into()),
        stage: StageKind::Train,
        address: node.address.clone(),
        spec: node.spec.clone(),
        key,
        parent: None,
        actor: Actor::user("ada"),
        reason: "asked".into(),
        status: RunStatus::Running,
        verdict: None,
        checks: vec![],
        inputs: vec![],
        outputs: vec![],
        skipped_for: None,
        params: BTreeMap::new(),
        metrics: BTreeMap::new(),
        tags: BTreeMap::new(),
        summary: String::new(),
        error: None,
        attempt: 1,
        cancel_asked: false,
        submitted_at: now(),
        due_at: now(),
        started_at: None,
        ended_at: None,
    }
}

fn tuned() -> TrainSpec {
    let mut spec = spec("logistic", "auc", None);
    let space = BTreeMap::from([("alpha".to_owned(), Range::Float { low: 0.01, high: 1_000.0 })]);
    spec.tune = Some(Tune { trials: 12, search: Search::Tpe, parallel: 1, space });
    spec
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_model_version_comes_out_and_the_champion_is_compared() {
    let bench = Bench::new();
    let made = bench.run("a", &spec("logistic", "auc", None)).await.expect("trains");
    let output = &made.outputs[0];
    assert_eq!(output.asset.to_string(), "models.m");
    assert_eq!(output.place, Place::Blob { digest: output.digest });
    assert_eq!(output.meta["algorithm"], "logistic");
    assert!(made.metrics.iter().any(|m| m.key == "auc") && !made.metrics.iter().any(|m| m.key == "champion.auc"));
    assert!(made.verdict.is_none() && made.aliases.is_empty(), "gates judge and move, not training");
    assert_eq!(bench.model(&made).features.len(), 5);

    bench.memory.versions.lock().expect("lock").push(version("models.m", 6, output.digest, serde_json::Value::Null));
    *bench.memory.champion.lock().expect("lock") = Some(6);
    let again = bench.run("b", &spec("logistic", "auc", None)).await.expect("trains");
    assert_eq!(again.outputs[0].digest, output.digest);
    assert_eq!(again.params["champion"], "6");
    let value = |key: &str| again.metrics.iter().find(|m| m.key == key).expect(key).value;
    assert_eq!(value("champion.auc"), value("auc"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn trials_of_a_killed_run_of_the_same_work_are_taken_over() {
    let bench = Bench::new();
    let whole = Bench::new().run("whole", &tuned()).await.expect("trains");
    *bench.memory.annotations_left.lock().expect("lock") = Some(7);
    bench.run("killed", &tuned()).await.expect_err("killed");
    *bench.memory.annotations_left.lock().expect("lock") = None;
    let resumed = bench.run("resumed", &tuned()).await.expect("trains");
    let reused = resumed.metrics.iter().find(|m| m.key == "tune.reused").expect("a metric").value;
    assert_eq!(reused, 7.0);
    assert_eq!(resumed.outputs[0].digest, whole.outputs[0].digest);
    let killed = bench.memory.runs.lock().expect("lock")[0].clone();
    assert!(killed.tags.contains_key("trial.0") && killed.metrics.contains_key("trial.0.auc"), "{killed:?}");

    // Other work: nothing is taken over.
    let mut other = tuned();
    other.seed = 99;
    let made = bench.run("other", &other).await.expect("trains");
    assert_eq!(made.metrics.iter().find(|m| m.key == "tune.reused").expect("a metric").value, 0.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_lost_blob_and_a_missing_set_are_clear_faults() {
    let bench = Bench::new();
    bench.memory.blobs.lock().expect("lock").clear();
    let fault = bench.run("a", &spec("baseline", "auc", None)).await.expect_err("gone");
    assert!(fault.code == Code::DAMAGED && fault.message.contains("training_sets.m@1"), "{fault}");
    let mut order = bench.order("b", &spec("baseline", "auc", None));
    order.inputs.clear();
    let cx = StageContext {
        ports: ports(&bench.memory),
        project_dir: "/nowhere".into(),
        progress: Arc::new(NoProgress),
        cancel: CancelFlag::default(),
    };
    let fault = gristmill_train::stage().run(&cx, order).await.expect_err("missing");
    assert!(fault.fix.expect("a fix").contains("gristmill run training_sets.m"));
}
