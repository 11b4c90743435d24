//! Whole rollouts on the real ledger: begin, steps, completion, abort, pause, rollback, and two deciders at once.

#[path = "../../registry/tests/support/mod.rs"]
mod support;

use gristmill_deploy::plan::What;
use gristmill_deploy::{DeploySpec, DeployStage, Judging, Rollout, StepTaken, Trial, Watch, live, rollback, tick};
use gristmill_kernel::experiment::{Decide, Experiment, Measure, Tried, Values};
use gristmill_kernel::port::LiveFigures;
use gristmill_kernel::prediction::{Arm, ArmFigures, Compared, EndpointFigures};
use gristmill_kernel::run::{Finish, NewRun};
use gristmill_kernel::{Actor, Digest, Name, RunStatus, Span, StageKind, Timestamp, Verdict, VersionRef};
use std::collections::BTreeMap;
use std::sync::Mutex;
use support::World;

/// Figures set by hand: rows, errors and rows answered alike of each arm.
#[derive(Default)]
struct Arms(Mutex<BTreeMap<Arm, (u64, u64, u64, u64)>>);

impl Arms {
    fn set(&self, arm: Arm, model: u64, rows: u64, errors: u64) {
        self.0.lock().expect("lock").insert(arm, (model, rows, errors, rows));
    }
    /// Of these rows, some were answered as the stable version did.
    fn set_agreeing(&self, arm: Arm, model: u64, rows: u64, same: u64) {
        self.0.lock().expect("lock").insert(arm, (model, rows, 0, same));
    }
}
impl LiveFigures for Arms {
    fn figures(&self, _: &Name, _: Timestamp) -> Option<EndpointFigures> {
        let arms = self.0.lock().expect("lock").clone();
        let one = |(number, rows, errors, same): (u64, u64, u64, u64)| ArmFigures {
            model: VersionRef { asset: "models.churn".parse().expect("address"), number },
            rows,
            errors,
            p50_ms: 1.0,
            p99_ms: 2.0,
            score_mean: 0.5,
            score_bins: vec![rows / 20; 20],
            compared: Compared { rows, same, distance: 0.0 },
        };
        Some(arms.into_iter().map(|(arm, of)| (arm, one(of))).collect())
    }
}

fn spec(rollout: Rollout) -> DeploySpec {
    let name = Name::new("churn").expect("name");
    DeploySpec { endpoint: name.clone(), model: name.into(), rollout, freeze: Vec::new(), serve: serde_json::json!({}) }
}
fn canary() -> DeploySpec {
    spec(Rollout::Canary {
        steps: vec![50, 1000],
        every: Span::from_secs(60),
        judging: Judging {
            abort: Some("error_rate > 0.01 or score_psi > 0.3".into()),
            at_least: 100,
            patience: Span::from_secs(300),
            approve: false,
        },
    })
}
/// A world where version 1 answers and version 2 waits.
async fn waiting(spec: &DeploySpec) -> World {
    let world = World::new().await;
    world.trained("models.churn", &[], &[]).await;
    world.point("models.churn", "challenger", Some(1)).await;
    world.step(&DeployStage::default(), "endpoints.churn", spec, &[]).await.expect("first");
    world.trained("models.churn", &[], &[]).await;
    world.point("models.churn", "challenger", Some(2)).await;
    world.pass(60);
    world
}
fn watch<'a>(world: &'a World, arms: &'a Arms) -> Watch<'a> {
    Watch { ports: &world.ports, figures: arms, registered: None, worker: "test" }
}
async fn ticked(world: &World, arms: &Arms, spec: &DeploySpec) -> Option<StepTaken> {
    tick(&watch(world, arms), spec).await.expect("a tick")
}
async fn stable(world: &World) -> (u64, Option<(u64, u32)>) {
    let (_, d) = live(&world.ports, &Name::new("churn").expect("name")).await.expect("reads").expect("deployed");
    (d.stable.number, d.canary.map(|c| (c.model.number, c.permille)))
}

#[tokio::test]
async fn the_first_version_answers_and_is_champion() {
    let world = World::new().await;
    let nothing = world.step(&DeployStage::default(), "endpoints.churn", &canary(), &[]).await.expect("runs");
    assert!(nothing.outputs.is_empty() && nothing.summary.contains("no version"), "{}", nothing.summary);
    world.trained("models.churn", &[], &[]).await;
    world.point("models.churn", "challenger", Some(1)).await;
    let run = world.step(&DeployStage::default(), "endpoints.churn", &canary(), &[]).await.expect("runs");
    assert_eq!((run.outputs.len(), stable(&world).await), (1, (1, None)));
    assert_eq!((world.alias("models.churn", "champion").await, world.alias("models.churn", "challenger").await), (Some(1), None));
    let again = world.step(&DeployStage::default(), "endpoints.churn", &canary(), &[]).await.expect("runs");
    assert!(again.summary.contains("nothing waits"), "{}", again.summary);
}

#[tokio::test]
async fn a_good_challenger_takes_every_step_and_becomes_champion() {
    let (spec, arms) = (canary(), Arms::default());
    let world = waiting(&spec).await;
    assert_eq!(ticked(&world, &arms, &spec).await.map(|s| s.what), Some(What::Began));
    assert_eq!(stable(&world).await, (1, Some((2, 50))));
    arms.set(Arm::Stable, 1, 5_000, 3);
    arms.set(Arm::Canary, 2, 400, 0);
    assert!(ticked(&world, &arms, &spec).await.is_none(), "the step has not had its time");
    world.pass(60);
    assert_eq!(ticked(&world, &arms, &spec).await.map(|s| s.what), Some(What::Advanced));
    assert_eq!((stable(&world).await, world.alias("models.churn", "champion").await), ((1, Some((2, 1000))), Some(1)));
    // At the last share the stable version answers nothing; the comparison was made before.
    arms.set(Arm::Stable, 1, 0, 0);
    world.pass(60);
    let done = ticked(&world, &arms, &spec).await.expect("done");
    assert_eq!((done.what, done.run.verdict, stable(&world).await), (What::Completed, Some(Verdict::Pass), (2, None)));
    assert!(done.run.summary.contains("400 rows") && done.run.metrics.contains_key("error_rate"), "{}", done.run.summary);
    assert_eq!((world.alias("models.churn", "champion").await, world.alias("models.churn", "challenger").await), (Some(2), None));
    assert!(ticked(&world, &arms, &spec).await.is_none(), "nothing is left to do");
    world.ports.ledger.verify_audit().await.expect("the chain holds");
}

#[tokio::test]
async fn a_bad_challenger_is_rolled_back_by_itself() {
    let (spec, arms) = (canary(), Arms::default());
    let world = waiting(&spec).await;
    ticked(&world, &arms, &spec).await.expect("begins");
    arms.set(Arm::Canary, 2, 20, 5);
    let step = ticked(&world, &arms, &spec).await.expect("aborts at once");
    assert_eq!((step.what, step.run.verdict, stable(&world).await), (What::Aborted, Some(Verdict::Fail), (1, None)));
    assert!(step.run.summary.contains("error_rate = 0.05"), "{}", step.run.summary);
    let aliases = ["champion", "challenger", "rejected"].map(|a| world.alias("models.churn", a));
    assert_eq!(futures::future::join_all(aliases).await, [Some(1), None, Some(2)]);
    assert!(ticked(&world, &arms, &spec).await.is_none(), "it does not begin again");
}

/// What a monitor writes with its run.
async fn counted(world: &World, (stable, trial): ((u64, f64), (u64, f64))) {
    let (_, deployment) = live(&world.ports, &Name::new("churn").expect("name")).await.expect("reads").expect("deployed");
    let values = |(entities, mean): (u64, f64)| Values { entities, mean, variance: mean * (1.0 - mean) };
    let tried = Tried::of(&deployment, &less_churned()).expect("an experiment");
    let seen = Experiment { tried, of_stable: values(stable), of_trial: values(trial) };
    let (params, metrics) = seen.written();
    let now = world.ports.clock.now();
    let run = NewRun {
        id: world.ports.ids.run(),
        stage: StageKind::Monitor,
        address: "monitors.churn".parse().expect("address"),
        key: Digest::of("monitor"),
        spec: serde_json::json!({}),
        inputs: vec![],
        parent: None,
        actor: Actor::user("ada"),
        reason: "test".into(),
        idempotency: None,
        due_at: now,
    };
    let begun = world.ports.ledger.begin(run, "test", now, now.plus(Span::from_secs(10))).await.expect("begins");
    let finish = Finish { params, metrics, ..Finish::empty(RunStatus::Succeeded) };
    world.ports.ledger.finish(&begun.id, finish, now).await.expect("ends");
}
fn less_churned() -> Decide {
    Decide { by: Measure::Less, labels: Name::new("churned").expect("name"), confidence: 950, at_least: 100 }
}
fn experiment() -> DeploySpec {
    let trial = Trial { share: 500, decide: less_churned(), after: Span::from_secs(7_200) };
    let judging = Judging { abort: Some("error_rate > 0.01".into()), at_least: 100, patience: Span::from_secs(10_800), approve: false };
    spec(Rollout::Ab { trial, judging })
}

#[tokio::test]
async fn outcomes_decide_an_experiment() {
    let (spec, arms) = (experiment(), Arms::default());
    let world = waiting(&spec).await;
    assert_eq!(ticked(&world, &arms, &spec).await.map(|s| s.what), Some(What::Began));
    assert_eq!(stable(&world).await, (1, Some((2, 500))));
    arms.set(Arm::Canary, 2, 5_000, 0);
    world.pass(7_200);
    assert!(ticked(&world, &arms, &spec).await.is_none(), "nothing was counted");
    // Nothing is sure of so few; what was counted of another experiment is about that one.
    counted(&world, ((5_000, 0.3), (90, 0.1))).await;
    assert!(ticked(&world, &arms, &spec).await.is_none(), "too few");
    counted(&world, ((5_000, 0.3), (5_000, 0.25))).await;
    let step = ticked(&world, &arms, &spec).await.expect("it wins");
    assert_eq!((step.what, step.run.verdict, stable(&world).await), (What::Completed, Some(Verdict::Pass), (2, None)));
    assert!(
        step.run.summary.contains("less churned 0.2500 of 5000 entities against 0.3000 of 5000, difference -0.0500"),
        "{}",
        step.run.summary
    );
    assert_eq!(step.run.metrics.get("experiment.trial.mean"), Some(&0.25));
    assert_eq!(world.alias("models.churn", "champion").await, Some(2));
}

#[tokio::test]
async fn an_experiment_ends_as_soon_as_the_new_version_is_surely_worse_and_pauses_when_nothing_is_sure() {
    let (spec, arms) = (experiment(), Arms::default());
    let world = waiting(&spec).await;
    ticked(&world, &arms, &spec).await.expect("begins");
    arms.set(Arm::Canary, 2, 5_000, 0);
    world.pass(10_800);
    counted(&world, ((5_000, 0.3), (5_000, 0.301))).await;
    let step = ticked(&world, &arms, &spec).await.expect("it pauses");
    assert_eq!((step.what, stable(&world).await), (What::Paused, (1, Some((2, 500)))));
    assert!(step.run.summary.contains("neither version is surely better by less churned"), "{}", step.run.summary);
    assert!(ticked(&world, &arms, &spec).await.is_none(), "it says so once");
    world.pass(60);
    counted(&world, ((9_000, 0.3), (9_000, 0.35))).await;
    let step = ticked(&world, &arms, &spec).await.expect("it ends");
    assert_eq!((step.what, step.run.verdict, stable(&world).await), (What::Aborted, Some(Verdict::Fail), (1, None)));
    assert_eq!(world.alias("models.churn", "rejected").await, Some(2));
}

#[tokio::test]
async fn without_traffic_it_pauses_once_and_goes_on_later() {
    let (spec, arms) = (canary(), Arms::default());
    let world = waiting(&spec).await;
    ticked(&world, &arms, &spec).await.expect("begins");
    world.pass(299);
    assert!(ticked(&world, &arms, &spec).await.is_none());
    world.pass(1);
    let paused = ticked(&world, &arms, &spec).await.expect("says so");
    assert_eq!((paused.what, paused.run.verdict), (What::Paused, Some(Verdict::Inconclusive)));
    world.pass(100_000);
    assert!(ticked(&world, &arms, &spec).await.is_none(), "once is enough");
    assert_eq!((stable(&world).await, world.alias("models.churn", "champion").await), ((1, Some((2, 50))), Some(1)), "never promoted");
    arms.set(Arm::Stable, 1, 5_000, 0);
    arms.set(Arm::Canary, 2, 400, 0);
    assert_eq!(ticked(&world, &arms, &spec).await.map(|s| s.what), Some(What::Advanced));
}

#[tokio::test]
async fn two_deciders_make_one_step() {
    let (spec, arms) = (canary(), Arms::default());
    let world = waiting(&spec).await;
    let watch = watch(&world, &arms);
    let (a, b) = tokio::join!(tick(&watch, &spec), tick(&watch, &spec));
    let taken = [a.expect("no error"), b.expect("no error")].into_iter().flatten().count();
    assert!(taken <= 1, "{taken} began");
    world.pass(20);
    ticked(&world, &arms, &spec).await;
    assert_eq!(stable(&world).await, (1, Some((2, 50))));
    let versions = world.ports.ledger.versions(&"endpoints.churn".parse().expect("address")).await.expect("versions");
    assert_eq!(versions.len(), 2);
}

#[tokio::test]
async fn a_decision_that_died_with_its_process_is_taken_again() {
    let (spec, arms) = (canary(), Arms::default());
    let world = waiting(&spec).await;
    let dead = world.begun("system:deploy", StageKind::Deploy, "endpoints.churn", &[], serde_json::Value::Null).await;
    assert!(ticked(&world, &arms, &spec).await.is_none(), "somebody may be writing");
    let busy = world.step(&DeployStage::default(), "endpoints.churn", &spec, &[]).await.expect_err("busy");
    assert!(busy.kind.is_transient());
    world.pass(11);
    assert!(world.ports.ledger.run(&dead.id).await.expect("reads").is_some_and(|r| r.status == RunStatus::Running));
    assert_eq!(ticked(&world, &arms, &spec).await.map(|s| s.what), Some(What::Began));
}

#[tokio::test]
async fn a_person_rolls_back_twice() {
    let spec = spec(Rollout::Direct);
    let world = World::new().await;
    for number in 1..=3 {
        world.trained("models.churn", &[], &[]).await;
        world.point("models.churn", "challenger", Some(number)).await;
        world.step(&DeployStage::default(), "endpoints.churn", &spec, &[]).await.expect("swapped");
        assert_eq!((stable(&world).await, world.alias("models.churn", "champion").await), ((number, None), Some(number)));
    }
    for back_to in [2, 1] {
        let step = rollback(&world.ports, &spec, &Actor::user("ada"), "complaints", "test").await.expect("rolled back");
        assert_eq!((step.what, stable(&world).await), (What::RolledBack, (back_to, None)));
        assert_eq!(world.alias("models.churn", "champion").await, Some(back_to));
        assert_eq!(world.alias("models.churn", "rejected").await, Some(back_to + 1));
    }
    assert!(rollback(&world.ports, &spec, &Actor::user("ada"), "again", "test").await.is_err());
}

#[tokio::test]
async fn a_rollback_ends_a_rollout() {
    let (spec, arms) = (canary(), Arms::default());
    let world = waiting(&spec).await;
    ticked(&world, &arms, &spec).await.expect("begins");
    rollback(&world.ports, &spec, &Actor::user("ada"), "looks odd", "test").await.expect("rolled back");
    assert_eq!((stable(&world).await, world.alias("models.churn", "rejected").await), ((1, None), Some(2)));
    assert!(ticked(&world, &arms, &spec).await.is_none());
}

fn judging(approve: bool) -> Judging {
    Judging { abort: Some("error_rate > 0.01 or agreement < 0.9".into()), at_least: 100, patience: Span::from_secs(300), approve }
}
async fn beside(world: &World) -> Option<(u64, u32, u32)> {
    let (_, d) = live(&world.ports, &Name::new("churn").expect("name")).await.expect("reads").expect("deployed");
    d.canary.map(|c| (c.model.number, c.permille, c.mirrored))
}

#[tokio::test]
async fn blue_green_looks_at_copies_and_bakes() {
    let (sample, minute) = (200, Span::from_secs(60));
    let spec = spec(Rollout::BlueGreen { sample, preview: minute, bake: minute, judging: judging(false) });
    let arms = Arms::default();
    let world = waiting(&spec).await;
    assert_eq!(ticked(&world, &arms, &spec).await.map(|s| s.what), Some(What::Began));
    assert_eq!((stable(&world).await.0, beside(&world).await), (1, Some((2, 0, 200))));
    arms.set(Arm::Shadow, 2, 400, 0);
    world.pass(60);
    assert_eq!(ticked(&world, &arms, &spec).await.map(|s| s.what), Some(What::Advanced));
    assert_eq!((stable(&world).await.0, beside(&world).await), (1, Some((2, 1000, 0))));
    arms.set(Arm::Canary, 2, 400, 0);
    world.pass(60);
    let done = ticked(&world, &arms, &spec).await.expect("done");
    assert_eq!((done.what, stable(&world).await), (What::Completed, (2, None)));
    assert_eq!(world.alias("models.churn", "champion").await, Some(2));
}

#[tokio::test]
async fn blue_goes_back_when_green_turns_bad_while_it_bakes() {
    let (sample, minute) = (1000, Span::from_secs(60));
    let spec = spec(Rollout::BlueGreen { sample, preview: minute, bake: minute, judging: judging(false) });
    let arms = Arms::default();
    let world = waiting(&spec).await;
    ticked(&world, &arms, &spec).await.expect("begins");
    arms.set(Arm::Shadow, 2, 400, 0);
    world.pass(60);
    ticked(&world, &arms, &spec).await.expect("answers everything");
    arms.set(Arm::Canary, 2, 50, 50);
    let gone = ticked(&world, &arms, &spec).await.expect("goes back");
    assert_eq!((gone.what, stable(&world).await, world.alias("models.churn", "rejected").await), (What::Aborted, (1, None), Some(2)));
}

#[tokio::test]
async fn a_shadow_that_disagrees_answers_nobody_ever() {
    let spec = spec(Rollout::Shadow { sample: 1000, lasts: Span::from_secs(60), judging: judging(false) });
    let arms = Arms::default();
    let world = waiting(&spec).await;
    ticked(&world, &arms, &spec).await.expect("begins");
    arms.set_agreeing(Arm::Shadow, 2, 400, 300);
    let gone = ticked(&world, &arms, &spec).await.expect("is given up");
    assert_eq!((gone.what, stable(&world).await), (What::Aborted, (1, None)));
    assert!(gone.run.summary.contains("agreement = 0.75"), "{}", gone.run.summary);
}

#[tokio::test]
async fn a_second_person_approves_before_anybody_gets_an_answer() {
    let spec = spec(Rollout::Shadow { sample: 1000, lasts: Span::from_secs(60), judging: judging(true) });
    let arms = Arms::default();
    let world = World::new().await;
    world.trained("models.churn", &[], &[]).await;
    world.point("models.churn", "challenger", Some(1)).await;
    world.step(&DeployStage::default(), "endpoints.churn", &spec, &[]).await.expect("first");
    // Made by the one who will approve it.
    let made = |finish: &mut gristmill_kernel::run::Finish| finish.outputs = vec![support::version("models.churn", "by ada", None)];
    world.ended_by("user:ada", StageKind::Train, "models.churn", &[], serde_json::Value::Null, made).await;
    world.point("models.churn", "challenger", Some(2)).await;
    ticked(&world, &arms, &spec).await.expect("begins");
    arms.set(Arm::Shadow, 2, 400, 0);
    world.pass(120);
    assert!(ticked(&world, &arms, &spec).await.is_none(), "nobody has approved it");
    world.point("models.churn", "approved", Some(2)).await;
    assert!(ticked(&world, &arms, &spec).await.is_none(), "its maker has");
    let bob = gristmill_kernel::version::AliasMove {
        asset: "models.churn".parse().expect("address"),
        alias: gristmill_kernel::AliasName::approved(),
        to: Some(2),
        expect: None,
        actor: Actor::user("bob"),
        reason: "looked at its shadow".into(),
        run: None,
    };
    world.ports.ledger.move_alias(bob, world.now()).await.expect("moves");
    let done = ticked(&world, &arms, &spec).await.expect("goes on");
    assert_eq!((done.what, stable(&world).await), (What::Completed, (2, None)));
    assert!(done.run.summary.contains("approved"), "{}", done.run.summary);
}

#[tokio::test]
async fn by_hand_a_version_stands_by_until_it_is_approved() {
    let (spec, arms) = (spec(Rollout::Manual), Arms::default());
    let world = waiting(&spec).await;
    assert_eq!(ticked(&world, &arms, &spec).await.map(|s| s.what), Some(What::Began));
    assert_eq!((stable(&world).await.0, beside(&world).await), (1, Some((2, 0, 0))));
    world.pass(100_000);
    assert!(ticked(&world, &arms, &spec).await.is_none());
    world.point("models.churn", "approved", Some(2)).await;
    assert_eq!(ticked(&world, &arms, &spec).await.map(|s| s.what), Some(What::Completed));
    assert_eq!(stable(&world).await, (2, None));
}

#[tokio::test]
async fn while_it_is_frozen_nothing_begins_and_bad_ones_still_go() {
    let mut spec = canary();
    let arms = Arms::default();
    let world = waiting(&spec).await;
    let freeze = |from: Timestamp, to: Timestamp| vec![format!("{from} to {to}").parse().expect("a freeze")];
    spec.freeze = freeze(world.now(), world.now().plus(Span::from_secs(3_600)));
    assert!(ticked(&world, &arms, &spec).await.is_none());
    let asked = world.step(&DeployStage::default(), "endpoints.churn", &spec, &[]).await.expect("runs");
    assert!(asked.summary.contains("frozen until") && stable(&world).await == (1, None), "{}", asked.summary);
    world.pass(3_600);
    ticked(&world, &arms, &spec).await.expect("begins when it is over");
    spec.freeze = freeze(world.now(), world.now().plus(Span::from_secs(3_600)));
    arms.set(Arm::Stable, 1, 5_000, 3);
    arms.set(Arm::Canary, 2, 400, 0);
    world.pass(60);
    assert!(ticked(&world, &arms, &spec).await.is_none(), "it does not go on");
    arms.set(Arm::Canary, 2, 400, 40);
    assert_eq!(ticked(&world, &arms, &spec).await.map(|s| s.what), Some(What::Aborted));
}
