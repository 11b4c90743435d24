use super::*;
use gristmill_kernel::condition::Figure;
use gristmill_kernel::{Actor, Digest, RunId, RunStatus, StageKind, Timestamp};

pub(crate) fn run(metrics: &[(&str, f64)], params: &[(&str, &str)]) -> Run {
    Run {
        id: RunId("0".repeat(32)),
        stage: StageKind::Train,
        address: "models.churn".parse().expect("address"),
        spec: serde_json::Value::Null,
        key: Digest::of("k"),
        parent: None,
        actor: Actor::system("test"),
        reason: "test".into(),
        status: RunStatus::Succeeded,
        verdict: None,
        checks: vec![],
        inputs: vec![],
        outputs: vec![],
        skipped_for: None,
        params: params.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(),
        metrics: metrics.iter().map(|(k, v)| ((*k).to_owned(), *v)).collect(),
        tags: BTreeMap::new(),
        summary: String::new(),
        error: None,
        attempt: 1,
        cancel_asked: false,
        submitted_at: Timestamp::default(),
        due_at: Timestamp::default(),
        started_at: None,
        ended_at: None,
    }
}

fn check(verdict: Verdict) -> Check {
    Check { condition: "auc >= 0.7".into(), verdict, observed: "auc = 0.77".into() }
}

fn moved(number: Option<u64>, reason: &str) -> AliasState {
    AliasState {
        asset: "models.churn".parse().expect("address"),
        alias: AliasName::champion(),
        number,
        previous: None,
        actor: Actor::system("test"),
        reason: reason.into(),
        run: None,
        moved_at: Timestamp::default(),
    }
}

#[test]
fn the_champions_figures_come_from_the_same_rows_if_they_can() {
    let run = run(&[("auc", 0.77), ("champion.auc", 0.75), ("worst.auc", 0.7)], &[("champion", "3")]);
    let own = BTreeMap::from([("auc".to_owned(), 0.9), ("logloss".to_owned(), 0.5)]);
    assert_eq!(figures(&run, Some((3, &own))).get("champion.auc"), Some(0.75), "measured on the same rows");
    assert_eq!(figures(&run, Some((4, &own))).get("champion.auc"), Some(0.9), "another champion: its own figures");
    assert_eq!(figures(&run, Some((4, &own))).get("champion.logloss"), Some(0.5));
    let none = figures(&run, None);
    assert_eq!(none.0.get("champion.auc"), Some(&Figure::Missing), "stale champion figures are not used");
    assert_eq!(none.get("worst.auc"), Some(0.7));
}

#[test]
fn figures_without_value_are_missing_not_absent() {
    let figures = figures(&run(&[("auc", 0.77)], &[]), None);
    assert_eq!(figures.0.get("worst.auc"), Some(&Figure::Missing));
}

#[test]
fn the_champion_is_recognised_in_a_condition() {
    for yes in
        ["auc >= champion.auc - 0.01", "CHAMPION.auc < auc", "x > (champion . auc)", "\"champion\".\"auc\" > 1", "\"champion.auc\" > 1"]
    {
        assert!(mentions_champion(yes), "{yes}");
    }
    for no in ["auc > 0.7", "plan = 'champion.x'", "old_champion.auc > 1", "champions.auc > 1", "a.champion.auc > 1"] {
        assert!(!mentions_champion(no), "{no}");
    }
}

#[test]
fn the_first_model_passes_comparisons_and_nothing_else() {
    let of = |holds| Judged { holds, observed: "o".into() };
    assert_eq!(judged_alone("c", of(None), Some(true), Some(false)).verdict, Verdict::Pass);
    assert!(judged_alone("c", of(None), Some(true), Some(false)).observed.contains("no champion"));
    assert_eq!(judged_alone("c", of(Some(false)), Some(true), Some(true)).verdict, Verdict::Fail, "the other half failed");
    assert_eq!(judged_alone("c", of(None), None, None).verdict, Verdict::Inconclusive, "its own metric is missing");
}

#[test]
fn only_a_pass_moves_the_alias() {
    let to = AliasName::challenger();
    let all = Aliases { champion: Some(2), challenger: None, rejected: None };
    for verdict in [Verdict::Fail, Verdict::Inconclusive, Verdict::Warn] {
        assert!(matches!(outcome(3, &to, all, verdict, &[check(verdict)]), Outcome::Stay(_)), "{verdict}");
    }
    let Outcome::Move { from, reason } = outcome(3, &to, all, Verdict::Pass, &[check(Verdict::Pass)]) else { panic!("it moves") };
    assert_eq!((from, reason.as_str()), (None, "gates passed: auc >= 0.7 (auc = 0.77)"));
    assert!(matches!(outcome(2, &to, all, Verdict::Pass, &[]), Outcome::Stay(_)), "champion already");
    let challenged = Aliases { challenger: Some(3), ..all };
    assert!(matches!(outcome(3, &to, challenged, Verdict::Pass, &[]), Outcome::Stay(_)), "challenger already");
    let rejected = Aliases { rejected: Some(3), ..all };
    assert!(matches!(outcome(3, &to, rejected, Verdict::Pass, &[]), Outcome::Stay(_)), "rejected before");
    assert!(matches!(outcome(4, &to, rejected, Verdict::Pass, &[]), Outcome::Move { from: None, .. }), "a newer one is free");
    assert!(matches!(outcome(3, &AliasName::champion(), all, Verdict::Pass, &[]), Outcome::Move { from: Some(2), .. }));
}

#[test]
fn nothing_demanded_passes_but_a_null_does_not() {
    assert_eq!(verdict(&[]), Verdict::Pass);
    assert_eq!(verdict(&[check(Verdict::Pass), check(Verdict::Inconclusive)]), Verdict::Inconclusive);
}

#[test]
fn rollbacks_walk_back_and_do_not_swing() {
    let history = |moves: &[(Option<u64>, &str)]| moves.iter().rev().map(|(n, r)| moved(*n, r)).collect::<Vec<_>>();
    assert_eq!(previous(&history(&[])), None);
    assert_eq!(previous(&history(&[(Some(1), "first")])), None);
    assert_eq!(previous(&history(&[(Some(1), "a"), (Some(2), "b"), (Some(3), "c")])), Some(2));
    assert_eq!(previous(&history(&[(Some(1), "a"), (Some(2), "b"), (Some(3), "c"), (Some(2), "rollback: bad")])), Some(1));
    assert_eq!(previous(&history(&[(Some(1), "a"), (Some(2), "b"), (Some(1), "promoted again")])), Some(2));
    assert_eq!(previous(&history(&[(Some(1), "a"), (Some(2), "b"), (Some(2), "b")])), Some(1), "a repeated move is no move");
}
