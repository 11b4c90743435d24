//! Gates, promotion, rollback and lineage on the real ledger.

mod support;

use gristmill_kernel::version::Which;
use gristmill_kernel::{Actor, AliasName, Code, Kind, Name, Run, RunStatus, StageKind, Verdict, VersionRef};
use gristmill_registry::{Force, GateSpec, GateStage, Promote, diff, experiments, lineage, promote, rollback};
use support::{World, version};

fn spec(gates: &[&str]) -> GateSpec {
    GateSpec {
        model: Name::new("churn").expect("name"),
        gates: gates.iter().map(|g| (*g).to_owned()).collect(),
        measure: "auc".into(),
        promote_to: AliasName::challenger(),
    }
}
async fn gate(world: &World, gates: &[&str]) -> Run {
    world.step(&GateStage, "gates.churn", &spec(gates), &["models.churn"]).await.expect("judged")
}
fn wish(number: u64, force: Force) -> Promote {
    Promote {
        model: Name::new("churn").expect("name"),
        which: Which::Number(number),
        to: AliasName::champion(),
        actor: Actor::user("ada"),
        reason: "it is better".into(),
        force,
    }
}

#[tokio::test]
async fn a_pass_moves_the_alias_and_a_fail_does_not() {
    let world = World::new().await;
    world.trained("models.churn", &[("auc", 0.77)], &[]).await;
    let first = gate(&world, &["auc >= 0.7", "auc >= champion.auc - 0.01"]).await;
    assert_eq!(first.verdict, Some(Verdict::Pass), "{:?}", first.checks);
    assert!(first.checks[1].observed.contains("no champion"), "{:?}", first.checks[1]);
    assert_eq!(world.alias("models.churn", "challenger").await, Some(1));

    world.point("models.churn", "champion", Some(1)).await;
    world.trained("models.churn", &[("auc", 0.71), ("champion.auc", 0.78)], &[("champion", "1")]).await;
    let second = gate(&world, &["auc >= 0.7", "auc >= champion.auc - 0.01"]).await;
    assert_eq!((second.status, second.verdict), (RunStatus::Succeeded, Some(Verdict::Fail)));
    assert_eq!(second.checks.iter().map(|c| c.verdict).collect::<Vec<_>>(), [Verdict::Pass, Verdict::Fail]);
    assert!(second.checks[1].observed.contains("champion.auc = 0.78"), "{:?}", second.checks);
    assert_eq!(world.alias("models.churn", "challenger").await, Some(1), "it stays where it was");

    let again = gate(&world, &["auc >= 0.7", "auc >= champion.auc - 0.01"]).await;
    assert_eq!(again.verdict, Some(Verdict::Fail), "asked again it still says no, so a flow still stops");
}

#[tokio::test]
async fn an_unknown_figure_is_inconclusive_and_moves_nothing() {
    let world = World::new().await;
    world.trained("models.churn", &[("auc", f64::NAN)], &[]).await;
    let run = gate(&world, &["auc >= 0.7"]).await;
    assert_eq!(run.verdict, Some(Verdict::Inconclusive));
    assert_eq!(world.alias("models.churn", "challenger").await, None);
}

#[tokio::test]
async fn a_first_model_that_fails_on_its_own_terms_fails() {
    let world = World::new().await;
    world.trained("models.churn", &[("auc", 0.6)], &[]).await;
    let run = gate(&world, &["auc >= 0.7 and auc >= champion.auc"]).await;
    assert_eq!(run.verdict, Some(Verdict::Fail), "{:?}", run.checks);
}

#[tokio::test]
async fn promotion_wants_the_verdict_or_a_forced_line() {
    let world = World::new().await;
    world.trained("models.churn", &[("auc", 0.6)], &[]).await;
    let never = promote(&world.ports, wish(1, Force::No)).await.expect_err("not judged yet");
    assert_eq!((never.kind, never.code), (Kind::Refused, Code::GATE_FAILED));
    gate(&world, &["auc >= 0.7"]).await;
    let failed = promote(&world.ports, wish(1, Force::No)).await.expect_err("failed");
    assert!(failed.message.contains("auc >= 0.7") && failed.fix.is_some(), "{failed}");
    assert_eq!(world.alias("models.churn", "champion").await, None);
    let forced = promote(&world.ports, wish(1, Force::Yes)).await.expect("forced");
    assert!(forced.reason.starts_with("forced: it is better") && forced.reason.contains("auc >= 0.7"), "{}", forced.reason);
    gate(&world, &["auc >= 0.5"]).await;
    world.point("models.churn", "champion", None).await;
    let passed = promote(&world.ports, wish(1, Force::No)).await.expect("the newest verdict counts");
    assert!(passed.reason.starts_with("promoted: "));
    let unknown = promote(&world.ports, wish(9, Force::Yes)).await.expect_err("no such version");
    assert!(unknown.kind == Kind::NotFound && unknown.fix.is_some_and(|f| f.contains("1 to 1")));
}

#[tokio::test]
async fn a_rollback_is_remembered_so_that_the_model_does_not_come_back() {
    let world = World::new().await;
    let churn = Name::new("churn").expect("name");
    assert_eq!(rollback(&world.ports, &churn, &Actor::user("ada"), "x").await.expect_err("nothing").code, Code::ALIAS_CONFLICT);
    for auc in [0.7, 0.8] {
        world.trained("models.churn", &[("auc", auc)], &[]).await;
        gate(&world, &["auc >= 0.5"]).await;
        let newest = world.ports.ledger.versions(&"models.churn".parse().expect("address")).await.expect("versions").len() as u64;
        promote(&world.ports, wish(newest, Force::No)).await.expect("passed");
    }
    let back = rollback(&world.ports, &churn, &Actor::user("ada"), "complaints").await.expect("rolled back");
    assert_eq!((back.number, back.previous), (Some(1), Some(2)));
    assert_eq!(world.alias("models.churn", "rejected").await, Some(2));
    world.point("models.churn", "challenger", None).await;
    gate(&world, &["auc >= 0.6"]).await;
    assert_eq!(world.alias("models.churn", "challenger").await, None, "it was rejected");
    assert!(rollback(&world.ports, &churn, &Actor::user("ada"), "again").await.is_err(), "there is none before");
}

#[tokio::test]
async fn lineage_walks_both_ways_and_shows_a_shared_parent_once() {
    let world = World::new().await;
    let make = |stage, asset: &'static str, inputs: &'static [&'static str]| {
        let world = &world;
        async move {
            world.ended(stage, asset, inputs, |f| f.outputs = vec![version(asset, asset, Some(10))]).await;
        }
    };
    make(StageKind::Validate, "sources.s", &[]).await;
    make(StageKind::Features, "features.a", &["sources.s@1"]).await;
    make(StageKind::Features, "labels.l", &["sources.s@1"]).await;
    make(StageKind::Features, "training_sets.churn", &["features.a@1", "labels.l@1"]).await;
    make(StageKind::Train, "models.churn", &["training_sets.churn@1"]).await;
    make(StageKind::Deploy, "endpoints.churn", &["models.churn@1"]).await;
    let of = VersionRef { asset: "models.churn".parse().expect("address"), number: 1 };
    let lines = lineage(&world.ports, &of).await.expect("lineage");
    let set = &lines.upstream.next[0];
    assert_eq!(set.version.to_string(), "training_sets.churn@1");
    assert_eq!(set.next.iter().map(|t| t.version.to_string()).collect::<Vec<_>>(), ["features.a@1", "labels.l@1"]);
    let sources: Vec<(String, bool)> = set.next.iter().map(|t| (t.next[0].version.to_string(), t.next[0].again)).collect();
    assert_eq!(sources, [("sources.s@1".to_owned(), false), ("sources.s@1".to_owned(), true)]);
    assert_eq!(lines.downstream.next[0].version.to_string(), "endpoints.churn@1");
    assert!(!lines.cut);
}

#[tokio::test]
async fn experiments_and_differences_read_the_runs() {
    let world = World::new().await;
    world.trained("models.churn", &[("auc", 0.7)], &[("depth", "3")]).await;
    world.trained("models.churn", &[("auc", 0.8)], &[("depth", "5")]).await;
    let name = Name::new("churn").expect("name");
    let order = gristmill_registry::ExperimentOrder::Highest("auc".into());
    let best = experiments(&world.ports, Some(&name), &order, 1).await.expect("experiments");
    assert_eq!((best.len(), best[0].run.metrics["auc"]), (1, 0.8));
    let of = |number| VersionRef { asset: "models.churn".parse().expect("address"), number };
    let d = diff(&world.ports, &of(1), &of(2)).await.expect("a difference");
    assert_eq!((d.params["depth"].a.as_deref(), d.params["depth"].b.as_deref()), (Some("3"), Some("5")));
    assert!(!d.same_content && d.metrics.contains_key("auc"));
}
