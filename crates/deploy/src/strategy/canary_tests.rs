use super::*;
use gristmill_kernel::condition::Figure;
use gristmill_kernel::{Name, VersionRef};
use proptest::prelude::*;
use std::collections::BTreeMap;

const MINUTE: u64 = 60;

fn model(number: u64) -> VersionRef {
    VersionRef { asset: "models.churn".parse().expect("address"), number }
}
fn at(seconds: u64) -> Timestamp {
    Timestamp::from_micros(1_000_000_000_000).plus(Span::from_secs(seconds))
}
fn rollout(steps: &[u32]) -> Rollout {
    Rollout::Canary {
        steps: steps.to_vec(),
        every: Span::from_secs(30 * MINUTE),
        abort: Some("error_rate > 0.01".into()),
        at_least: 100,
        patience: Span::from_secs(60 * MINUTE),
    }
}
fn deployment(permille: u32, step: u32) -> Deployment {
    Deployment {
        format: 1,
        endpoint: Name::new("churn").expect("name"),
        stable: model(1),
        canary: Some(Canary { model: model(2), permille, step, began_at: at(0), since: at(0) }),
        serve: serde_json::Value::Null,
    }
}
fn evidence(rows: u64, abort: Option<bool>) -> Evidence {
    Evidence { rows, abort, observed: "error_rate = 0.5".into() }
}
fn arm(number: u64, rows: u64, errors: u64) -> ArmFigures {
    ArmFigures { model: model(number), rows, errors, p50_ms: 1.0, p99_ms: 9.0, score_mean: 0.5, score_bins: vec![rows / 2; 2] }
}

#[test]
fn a_rollout_walks_its_steps() {
    let spec = rollout(&[50, 250, 1000]);
    let good = evidence(100, Some(false));
    assert!(matches!(decide(&spec, &deployment(50, 0), &good, at(29 * MINUTE)), Step::Hold(_)));
    assert_eq!(decide(&spec, &deployment(50, 0), &good, at(30 * MINUTE)), Step::Advance { permille: 250, step: 1 });
    assert_eq!(decide(&spec, &deployment(250, 1), &good, at(30 * MINUTE)), Step::Advance { permille: 1000, step: 2 });
    assert!(matches!(decide(&spec, &deployment(1000, 2), &good, at(29 * MINUTE)), Step::Hold(_)), "the last step has its time too");
    assert!(matches!(decide(&spec, &deployment(1000, 2), &evidence(99, Some(false)), at(30 * MINUTE)), Step::Hold(_)), "and its rows");
    assert_eq!(decide(&spec, &deployment(1000, 2), &good, at(30 * MINUTE)), Step::Complete);
}

#[test]
fn nothing_to_judge_holds_then_pauses() {
    let spec = rollout(&[50, 1000]);
    for nothing in [evidence(0, Some(false)), evidence(99, Some(false)), evidence(1_000, None)] {
        assert!(matches!(decide(&spec, &deployment(50, 0), &nothing, at(59 * MINUTE)), Step::Hold(_)));
        assert!(matches!(decide(&spec, &deployment(50, 0), &nothing, at(60 * MINUTE)), Step::Pause(_)));
        assert!(matches!(decide(&spec, &deployment(1000, 1), &nothing, at(60 * 24 * MINUTE)), Step::Pause(_)));
    }
}

#[test]
fn at_least_zero_still_wants_one_row() {
    let spec = Rollout::Canary { steps: vec![1000], every: Span::from_secs(0), abort: None, at_least: 0, patience: Span::from_secs(0) };
    assert!(matches!(decide(&spec, &deployment(1000, 0), &evidence(0, Some(false)), at(1)), Step::Pause(_)));
    assert_eq!(decide(&spec, &deployment(1000, 0), &evidence(1, Some(false)), at(1)), Step::Complete);
}

#[test]
fn a_clock_that_goes_back_only_waits() {
    let mut there = deployment(50, 0);
    if let Some(canary) = &mut there.canary {
        canary.since = at(10_000);
    }
    assert!(matches!(decide(&rollout(&[50, 1000]), &there, &evidence(100, Some(false)), at(0)), Step::Hold(_)));
}

#[test]
fn direct_completes_what_is_under_way() {
    assert_eq!(decide(&Rollout::Direct, &deployment(50, 0), &evidence(0, None), at(0)), Step::Complete);
}

proptest! {
    #[test]
    fn laws_of_a_step(
        mut steps in proptest::collection::btree_set(1u32..1000, 0..5).prop_map(|s| s.into_iter().collect::<Vec<_>>()),
        permille in 1u32..=1000, rows in 0u64..300, minutes in 0u64..200, abort in proptest::option::of(any::<bool>()),
    ) {
        steps.push(1000);
        let step = decide(&rollout(&steps), &deployment(permille, 0), &evidence(rows, abort), at(minutes * MINUTE));
        // An abort always wins, and only an abort aborts.
        prop_assert_eq!(matches!(step, Step::Abort(_)), abort == Some(true));
        let progress = matches!(step, Step::Advance { .. } | Step::Complete);
        // No data, no time, no verdict: no progress. With all three there is always progress.
        prop_assert_eq!(progress, rows >= 100 && minutes >= 30 && abort == Some(false));
        if let Step::Advance { permille: next, step: number } = step {
            prop_assert!(next > permille, "shares rise");
            prop_assert_eq!(steps.get(number as usize), Some(&next));
            prop_assert!(!steps.iter().any(|s| *s > permille && *s < next), "no step is skipped");
        }
        prop_assert_eq!(step == Step::Complete, progress && permille == 1000);
    }

    #[test]
    fn a_whole_rollout_takes_every_step_once(
        inner in proptest::collection::btree_set(1u32..1000, 0..5),
        answers in proptest::collection::vec((0u64..200, proptest::option::weighted(0.9, Just(false))), 400),
    ) {
        let steps: Vec<u32> = inner.into_iter().chain([1000]).collect();
        let spec = rollout(&steps);
        let mut there = deployment(first_share(&steps), 0);
        let (mut seen, mut done) = (vec![first_share(&steps)], false);
        for (tick, (rows, abort)) in answers.iter().enumerate() {
            let now = at(tick as u64 * 10 * MINUTE);
            let since = there.canary.as_ref().expect("a canary").since;
            match decide(&spec, &there.clone(), &evidence(*rows, *abort), now) {
                Step::Advance { permille, step } => {
                    prop_assert!(*rows >= 100 && abort.is_some());
                    let canary = there.canary.as_mut().expect("a canary");
                    prop_assert!(now.since(since) >= Span::from_secs(30 * MINUTE));
                    (canary.permille, canary.step, canary.since) = (permille, step, now);
                    seen.push(permille);
                }
                Step::Complete => {
                    prop_assert!(now.since(since) >= Span::from_secs(30 * MINUTE));
                    done = true;
                    break;
                }
                Step::Abort(_) => prop_assert!(false, "nobody asked for it"),
                Step::Hold(_) | Step::Pause(_) => {}
            }
        }
        prop_assert!(!done || seen == steps, "{seen:?} instead of {steps:?}");
    }
}

#[test]
fn psi_is_zero_for_equal_shapes_and_grows_with_the_shift() {
    let base = vec![100, 200, 400, 200, 100];
    assert_eq!(score_psi(&base, &base, 100), Some(0.0));
    let near = score_psi(&[110, 210, 380, 200, 100], &base, 100).expect("enough");
    let far = score_psi(&[900, 50, 30, 10, 10], &base, 100).expect("enough");
    assert!(near > 0.0 && near < 0.02 && far > 1.0, "{near} {far}");
    // By hand: shares with half a row added, (3.5/6, 2.5/6)... of [3,2] against [2,3].
    let (p, q) = ((3.5f64 / 6.0, 2.5f64 / 6.0), (2.5f64 / 6.0, 3.5f64 / 6.0));
    let by_hand = (p.0 - q.0) * (p.0 / q.0).ln() + (p.1 - q.1) * (p.1 / q.1).ln();
    assert!((score_psi(&[3, 2], &[2, 3], 1).expect("enough") - by_hand).abs() < 1e-15);
}

#[test]
fn psi_without_data_has_no_value() {
    assert_eq!(score_psi(&[0, 0], &[100, 100], 100), None);
    assert_eq!(score_psi(&[100, 100], &[0, 0], 0), None);
    assert_eq!(score_psi(&[100], &[100, 100], 1), None);
}

#[test]
fn figures_are_about_the_versions_of_this_deployment() {
    let there = deployment(50, 0);
    let live = BTreeMap::from([(Arm::Canary, arm(2, 200, 4)), (Arm::Stable, arm(1, 1000, 0))]);
    let all = figures(&there, Some(&live), Some(&live), 100);
    assert_eq!(all.get("error_rate"), Some(0.02));
    assert_eq!(all.get("stable.error_rate"), Some(0.0));
    assert_eq!(all.get("p99_ms"), Some(9.0));
    assert!(all.get("score_psi").is_some());
    let old = BTreeMap::from([(Arm::Canary, arm(7, 200, 4)), (Arm::Stable, arm(8, 1000, 0))]);
    let all = figures(&there, Some(&old), Some(&old), 100);
    assert_eq!((all.get("rows"), all.get("error_rate"), all.get("score_psi")), (Some(0.0), None, None));
    assert_eq!(figures(&there, None, None, 100).0.get("p99_ms"), Some(&Figure::Missing));
}

#[test]
fn few_rows_are_no_evidence_but_many_errors_are() {
    let there = deployment(50, 0);
    let one = BTreeMap::from([(Arm::Canary, arm(2, 1, 1))]);
    let all = figures(&there, Some(&one), None, 100);
    assert_eq!((all.get("error_rate"), all.get("p99_ms")), (Some(0.01), None), "one failed row of at least a hundred");
    let ten = BTreeMap::from([(Arm::Canary, arm(2, 10, 10))]);
    assert_eq!(figures(&there, Some(&ten), None, 100).get("error_rate"), Some(0.1), "ends the rollout before it has its rows");
}

#[test]
fn the_last_share_is_judged_without_comparison() {
    let there = deployment(1000, 2);
    let live = BTreeMap::from([(Arm::Canary, arm(2, 200, 0))]);
    let all = figures(&there, Some(&live), None, 100);
    assert_eq!(all.get("stable.p99_ms"), None);
    let alone = without_comparison(&all);
    assert_eq!((alone.get("score_psi"), alone.get("stable.p99_ms"), alone.get("stable.error_rate")), (Some(0.0), Some(9.0), Some(0.0)));
    let nothing = without_comparison(&figures(&there, None, None, 100));
    assert_eq!(nothing.get("p99_ms"), None, "the canary's own figures are never invented");
}

#[test]
fn shares_read_well() {
    assert_eq!([percent(50), percent(5), percent(1000), percent(125)], ["5%", "0.5%", "100%", "12.5%"]);
}
