//! Endpoints of registered models: they follow what a client's alias names, through the same rollouts, and leave the client's aliases alone.

#[path = "../../registry/tests/support/mod.rs"]
mod support;

use async_trait::async_trait;
use gristmill_deploy::plan::What;
use gristmill_deploy::{DeploySpec, DeployStage, Judging, Rollout, Watch, live, rollback, tick};
use gristmill_kernel::choice::RegisteredChoice;
use gristmill_kernel::port::{LiveFigures, RegisteredVersions};
use gristmill_kernel::prediction::{Arm, ArmFigures, Compared, EndpointFigures};
use gristmill_kernel::{Actor, Code, Fault, Name, Result, RunStatus, Span, Timestamp, VersionRef};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use support::World;

fn version(number: u64) -> VersionRef {
    VersionRef { asset: "models.churn".parse().expect("an address"), number }
}

/// A registry with one alias; versions in `unservable` are refused.
#[derive(Default)]
struct Registry {
    alias: AtomicU64,
    unservable: Mutex<Vec<u64>>,
    asked: AtomicU64,
}

impl Registry {
    fn point(&self, number: u64) {
        self.alias.store(number, Ordering::SeqCst);
    }
}

#[async_trait]
impl RegisteredVersions for Registry {
    async fn named(&self, choice: &RegisteredChoice) -> Result<Option<VersionRef>> {
        assert_eq!(choice.name, "Churn");
        Ok(Some(self.alias.load(Ordering::SeqCst)).filter(|n| *n > 0).map(version))
    }
    async fn servable(&self, version: &VersionRef) -> Result<()> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        match self.unservable.lock().expect("a lock").contains(&version.number) {
            true => Err(Fault::invalid(Code::NOT_SERVABLE, format!("{version} is a pickle")).fix("convert it")),
            false => Ok(()),
        }
    }
}

/// Every arm answers well, the canary with these errors.
#[derive(Default)]
struct Arms(Mutex<BTreeMap<u64, u64>>);

impl LiveFigures for Arms {
    fn figures(&self, _: &Name, _: Timestamp) -> Option<EndpointFigures> {
        let errors = self.0.lock().expect("a lock").clone();
        let one = |arm, number: u64| {
            let errors = errors.get(&number).copied().unwrap_or(0);
            let (model, rows) = (version(number), 200);
            (
                arm,
                ArmFigures {
                    model,
                    rows,
                    errors,
                    p50_ms: 1.0,
                    p99_ms: 2.0,
                    score_mean: 0.5,
                    score_bins: vec![10; 20],
                    compared: Compared::default(),
                },
            )
        };
        Some([one(Arm::Stable, 1), one(Arm::Canary, 2)].into())
    }
}

fn spec(rollout: Rollout) -> DeploySpec {
    let endpoint = Name::new("churn").expect("a name");
    DeploySpec {
        endpoint,
        model: "mlflow:Churn@prod".parse().expect("a choice"),
        rollout,
        freeze: Vec::new(),
        serve: serde_json::json!({}),
    }
}
fn canary() -> DeploySpec {
    spec(Rollout::Canary {
        steps: vec![50, 1000],
        every: Span::from_secs(60),
        judging: Judging { abort: Some("error_rate > 0.01".into()), at_least: 100, patience: Span::from_secs(300), approve: false },
    })
}

struct Scene {
    world: World,
    registry: Arc<Registry>,
    arms: Arms,
    spec: DeploySpec,
}

impl Scene {
    /// Two versions are registered, and nothing is deployed.
    async fn new(spec: DeploySpec) -> Scene {
        let world = World::new().await;
        world.trained("models.churn", &[], &[]).await;
        world.trained("models.churn", &[], &[]).await;
        Scene { world, registry: Arc::new(Registry::default()), arms: Arms::default(), spec }
    }
    async fn tick(&self) -> Option<What> {
        let registered: &dyn RegisteredVersions = self.registry.as_ref();
        let watch = Watch { ports: &self.world.ports, figures: &self.arms, registered: Some(registered), worker: "test" };
        tick(&watch, &self.spec).await.expect("a tick").map(|step| step.what)
    }
    async fn step(&self) -> Result<gristmill_kernel::Run> {
        self.world.step(&DeployStage::new(self.registry.clone()), "endpoints.churn", &self.spec, &[]).await
    }
    async fn now(&self) -> Option<(u64, Option<(u64, u32)>)> {
        let (_, d) = live(&self.world.ports, &self.spec.endpoint).await.expect("reads")?;
        Some((d.stable.number, d.canary.map(|c| (c.model.number, c.permille))))
    }
    async fn aliases(&self) -> Vec<(String, Option<u64>)> {
        let states = self.world.ports.ledger.aliases(&"models.churn".parse().expect("an address")).await.expect("aliases");
        states.into_iter().map(|s| (s.alias.to_string(), s.number)).collect()
    }
}

#[tokio::test]
async fn the_first_version_answers_when_it_is_registered() {
    let scene = Scene::new(canary()).await;
    let run = scene.step().await.expect("runs");
    assert!(run.outputs.is_empty() && run.summary.contains("no version is registered as mlflow:Churn@prod"), "{}", run.summary);
    assert_eq!(scene.tick().await, None);
    scene.registry.point(1);
    assert_eq!((scene.tick().await, scene.now().await), (Some(What::First), Some((1, None))));
    assert_eq!((scene.tick().await, scene.aliases().await.len()), (None, 0), "the client's aliases are left alone");
}

#[tokio::test]
async fn a_moved_alias_begins_a_rollout_that_completes() {
    let scene = Scene::new(canary()).await;
    scene.registry.point(1);
    scene.step().await.expect("deployed");
    scene.registry.point(2);
    assert_eq!((scene.tick().await, scene.now().await), (Some(What::Began), Some((1, Some((2, 50))))));
    for expected in [What::Advanced, What::Completed] {
        assert_eq!(scene.tick().await, None, "not before its time");
        scene.world.pass(61);
        assert_eq!(scene.tick().await, Some(expected));
    }
    assert_eq!((scene.now().await, scene.aliases().await.len()), (Some((2, None)), 0));
    scene.registry.point(1);
    assert_eq!(scene.tick().await, Some(What::Began), "back again is a rollout too");
    scene.registry.point(2);
    assert_eq!((scene.tick().await, scene.now().await), (Some(What::Aborted), Some((2, None))), "and ends when the alias comes back");
    scene.registry.point(0);
    assert_eq!((scene.tick().await, scene.now().await), (None, Some((2, None))), "without the alias nothing changes");
}

#[tokio::test]
async fn a_version_that_fails_its_rollout_does_not_come_back() {
    let scene = Scene::new(canary()).await;
    scene.registry.point(1);
    scene.step().await.expect("deployed");
    scene.registry.point(2);
    scene.tick().await.expect("began");
    scene.arms.0.lock().expect("a lock").insert(2, 100);
    assert_eq!((scene.tick().await, scene.now().await), (Some(What::Aborted), Some((1, None))));
    assert_eq!(scene.aliases().await, [("rejected".to_owned(), Some(2))]);
    assert_eq!(scene.tick().await, None);
    let run = scene.step().await.expect("runs");
    assert!(run.summary.contains("models.churn@2 was rejected in its rollout; models.churn@1 goes on answering"), "{}", run.summary);
}

#[tokio::test]
async fn direct_swaps_and_a_person_can_go_back() {
    let scene = Scene::new(spec(Rollout::Direct)).await;
    scene.registry.point(1);
    scene.tick().await.expect("first");
    scene.registry.point(2);
    assert_eq!((scene.tick().await, scene.now().await), (Some(What::Swapped), Some((2, None))));
    rollback(&scene.world.ports, &scene.spec, &Actor::user("ada"), "wrong scores", "test").await.expect("taken back");
    assert_eq!((scene.now().await, scene.tick().await), (Some((1, None)), None), "and stays back, though the alias names the other");
}

#[tokio::test]
async fn what_cannot_be_served_gets_no_traffic_and_is_said_once() {
    let scene = Scene::new(canary()).await;
    scene.registry.unservable.lock().expect("a lock").push(2);
    scene.registry.point(2);
    let fault = scene.step().await.expect_err("refused");
    assert_eq!((fault.code, fault.fix.as_deref()), (Code::NOT_SERVABLE, Some("convert it")));
    // The run of the step was left open here; a real one is ended by the runner.
    scene.world.pass(11);
    assert_eq!((scene.tick().await, scene.now().await), (None, None));
    scene.registry.point(1);
    assert_eq!(scene.tick().await, Some(What::First));
    scene.registry.point(2);
    for _ in 0..3 {
        assert_eq!((scene.tick().await, scene.now().await), (None, Some((1, None))));
    }
    let filter = gristmill_kernel::port::RunFilter { statuses: vec![RunStatus::Failed], ..Default::default() };
    let failed = scene.world.ports.ledger.runs(&filter).await.expect("runs");
    let said: Vec<_> = failed.iter().filter(|run| run.params.contains_key("refused")).collect();
    assert_eq!((said.len(), said[0].params["refused"].as_str()), (1, "models.churn@2"));
    assert!(said[0].error.as_ref().is_some_and(|e| e.fix.as_deref() == Some("convert it")), "{:?}", said[0].error);
    scene.registry.unservable.lock().expect("a lock").clear();
    scene.step().await.expect("a person tries again");
    assert_eq!(scene.now().await, Some((1, Some((2, 50)))));
    let asked = scene.registry.asked.load(Ordering::SeqCst);
    scene.tick().await;
    assert_eq!(scene.registry.asked.load(Ordering::SeqCst), asked, "what has traffic is not asked about again");
}
