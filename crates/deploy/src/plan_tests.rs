use super::*;
use crate::spec::Judging;
use gristmill_kernel::{Name, Span};

fn spec(rollout: Rollout) -> DeploySpec {
    let name = Name::new("churn").expect("name");
    DeploySpec { endpoint: name.clone(), model: name.into(), rollout, freeze: Vec::new(), serve: serde_json::json!({ "cache": "10m" }) }
}
fn canary_spec() -> DeploySpec {
    let judging = Judging { abort: None, at_least: 10, patience: Span::from_secs(600), approve: false };
    spec(Rollout::Canary { steps: vec![50, 1000], every: Span::from_secs(60), judging })
}
fn model(_: &DeploySpec, number: u64) -> VersionRef {
    super::model(&Name::new("churn").expect("name"), number)
}
fn at(seconds: u64) -> Timestamp {
    Timestamp::from_micros(0).plus(Span::from_secs(seconds))
}
fn live(spec: &DeploySpec, stable: u64, canary: Option<u64>) -> Deployment {
    Deployment {
        format: 1,
        endpoint: spec.endpoint.clone(),
        stable: model(spec, stable),
        canary: canary.map(|n| Canary { model: model(spec, n), permille: 50, mirrored: 0, step: 0, began_at: at(0), since: at(0) }),
        serve: spec.serve.clone(),
    }
}
fn facts<'a>(spec: &'a DeploySpec, live: Option<&'a Deployment>, champion: Option<u64>, challenger: Option<u64>) -> Facts<'a> {
    Facts { spec, live, champion, challenger, rejected: None, wanted: None, unservable: false, unapproved: None, now: at(100) }
}
fn moved(change: &Change) -> Vec<(String, Option<u64>, Option<u64>)> {
    change.moves.iter().map(|m| (m.alias.to_string(), m.from, m.to)).collect()
}
fn proof() -> Evidence {
    Evidence { rows: 500, abort: Some(false), observed: "error_rate = 0".into(), experiment: None }
}

#[test]
fn the_first_version_answers_at_once_and_is_champion() {
    let spec = canary_spec();
    let change = follow(&facts(&spec, None, None, Some(1))).expect("a change");
    assert_eq!((change.what, change.deployment.stable.number, &change.deployment.canary), (What::First, 1, &None));
    assert_eq!(moved(&change), [("champion".into(), None, Some(1)), ("challenger".into(), Some(1), None)]);
    let change = follow(&facts(&spec, None, Some(2), Some(3))).expect("a change");
    assert_eq!((change.deployment.stable.number, change.moves.len()), (2, 0), "the challenger is rolled out next");
    assert!(follow(&facts(&spec, None, None, None)).is_err());
}

#[test]
fn a_challenger_begins_at_the_first_share() {
    let spec = canary_spec();
    let now = live(&spec, 1, None);
    let change = follow(&facts(&spec, Some(&now), Some(1), Some(2))).expect("a change");
    let canary = change.deployment.canary.expect("a canary");
    assert_eq!((change.what, canary.model.number, canary.permille, canary.step, canary.since), (What::Began, 2, 50, 0, at(100)));
    assert!(change.moves.is_empty(), "nobody has won yet");
    assert!(follow(&facts(&spec, Some(&now), Some(1), Some(1))).is_err(), "the champion is no challenger of itself");
}

#[test]
fn a_newer_challenger_replaces_the_running_one() {
    let spec = canary_spec();
    let now = live(&spec, 1, Some(2));
    assert!(follow(&facts(&spec, Some(&now), Some(1), Some(2))).is_err(), "running");
    let change = follow(&facts(&spec, Some(&now), Some(1), Some(3))).expect("a change");
    let canary = change.deployment.canary.expect("a canary");
    assert_eq!((canary.model.number, canary.permille, canary.began_at), (3, 50, at(100)), "from the first step");
    let change = follow(&facts(&spec, Some(&now), Some(1), None)).expect("a change");
    assert_eq!((change.what, change.deployment.canary), (What::Aborted, None));
}

#[test]
fn direct_swaps_at_once() {
    let spec = spec(Rollout::Direct);
    for canary in [None, Some(2)] {
        let now = live(&spec, 1, canary);
        let change = follow(&facts(&spec, Some(&now), Some(1), Some(2))).expect("a change");
        assert_eq!((change.what, change.deployment.stable.number, &change.deployment.canary), (What::Swapped, 2, &None));
        assert_eq!(moved(&change), [("champion".into(), Some(1), Some(2)), ("challenger".into(), Some(2), None)]);
    }
}

#[test]
fn the_endpoint_follows_a_champion_moved_by_hand() {
    let spec = canary_spec();
    let now = live(&spec, 3, Some(4));
    let change = follow(&facts(&spec, Some(&now), Some(2), Some(4))).expect("a change");
    assert_eq!((change.deployment.stable.number, &change.deployment.canary, change.moves.len()), (2, &None, 0));
}

#[test]
fn settings_travel_without_touching_the_rollout() {
    let mut spec = canary_spec();
    let now = live(&spec, 1, Some(2));
    spec.serve = serde_json::json!({ "cache": "1m" });
    let change = follow(&facts(&spec, Some(&now), Some(1), Some(2))).expect("a change");
    assert_eq!((change.what, &change.deployment.serve, &change.deployment.canary), (What::Settings, &spec.serve, &now.canary));
}

#[test]
fn following_twice_changes_nothing() {
    let spec = canary_spec();
    for (stable, champion, challenger) in [(None, None, Some(1)), (Some(1), Some(1), Some(2)), (Some(3), Some(2), Some(2))] {
        let now = stable.map(|n| live(&spec, n, None));
        let change = follow(&facts(&spec, now.as_ref(), champion, challenger)).expect("a change");
        let after = |name: &str, was: Option<u64>| change.moves.iter().find(|m| m.alias.as_str() == name).map_or(was, |m| m.to);
        let (champion, challenger) = (after("champion", champion), after("challenger", challenger));
        assert!(follow(&facts(&spec, Some(&change.deployment), champion, challenger)).is_err(), "{change:?}");
    }
}

#[test]
fn completion_and_abort_move_the_aliases() {
    let spec = canary_spec();
    let now = live(&spec, 1, Some(2));
    let facts = facts(&spec, Some(&now), Some(1), Some(2));
    let done = apply(&facts, &Step::Complete, &proof()).expect("a change");
    assert_eq!((done.what, done.deployment.stable.number, done.verdict), (What::Completed, 2, Some(Verdict::Pass)));
    assert_eq!(moved(&done), [("champion".into(), Some(1), Some(2)), ("challenger".into(), Some(2), None)]);
    assert!(done.reason.contains("500 rows") && done.reason.contains("error_rate = 0"), "{}", done.reason);
    let gone = apply(&facts, &Step::Abort("error_rate > 0.01".into()), &proof()).expect("a change");
    assert_eq!((gone.what, gone.deployment.stable.number, &gone.deployment.canary), (What::Aborted, 1, &None));
    assert_eq!(moved(&gone), [("challenger".into(), Some(2), None), ("rejected".into(), None, Some(2))]);
    let next = apply(&facts, &Step::Advance { traffic: Traffic::Share(1000), step: 1 }, &proof()).expect("a change");
    let canary = next.deployment.canary.expect("a canary");
    assert_eq!((canary.permille, canary.step, canary.began_at, canary.since), (1000, 1, at(0), at(100)));
    assert!(apply(&facts, &Step::Hold("w".into()), &proof()).is_none() && apply(&facts, &Step::Pause("w".into()), &proof()).is_none());
}

#[test]
fn a_person_rolls_back() {
    let spec = canary_spec();
    let running = live(&spec, 1, Some(2));
    let change = roll_back(&facts(&spec, Some(&running), Some(1), Some(2)), &[(1, "first".into())], "looks odd").expect("a change");
    assert_eq!((change.deployment.stable.number, &change.deployment.canary), (1, &None));
    assert_eq!(moved(&change), [("challenger".into(), Some(2), None), ("rejected".into(), None, Some(2))]);

    let calm = live(&spec, 2, None);
    let history = [(1, "first".into()), (1, "begins".into()), (2, "completed".into())];
    let change = roll_back(&facts(&spec, Some(&calm), Some(2), None), &history, "looks odd").expect("a change");
    assert_eq!((change.what, change.deployment.stable.number), (What::RolledBack, 1));
    assert_eq!(moved(&change), [("champion".into(), Some(2), Some(1)), ("rejected".into(), None, Some(2))]);
    assert!(change.reason.starts_with("rollback"), "the next rollback must see it");
    assert!(roll_back(&facts(&spec, Some(&calm), Some(2), None), &[(2, "first".into())], "x").is_err());
    assert!(roll_back(&facts(&spec, None, None, None), &[], "x").is_err());
}

#[test]
fn rollbacks_do_not_swing() {
    let of = |moves: &[(u64, &str)]| previous(&moves.iter().map(|(n, r)| (*n, (*r).to_owned())).collect::<Vec<_>>());
    assert_eq!(of(&[(1, ""), (2, ""), (3, "")]), Some(2));
    assert_eq!(of(&[(1, ""), (2, ""), (3, ""), (2, "rollback: x")]), Some(1));
    assert_eq!(of(&[(1, ""), (2, ""), (1, "champion again")]), Some(2));
    assert_eq!(of(&[(1, "")]), None);
}
