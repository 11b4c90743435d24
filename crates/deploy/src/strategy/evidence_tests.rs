use super::super::tests::{at, deployment, model};
use super::*;
use gristmill_kernel::condition::Figure;
use gristmill_kernel::prediction::Compared;
use std::collections::BTreeMap;

fn arm(number: u64, rows: u64, errors: u64) -> ArmFigures {
    let compared = Compared { rows, same: rows / 4, distance: rows as f64 / 2.0 };
    ArmFigures { model: model(number), rows, errors, p50_ms: 1.0, p99_ms: 9.0, score_mean: 0.5, score_bins: vec![rows / 2; 2], compared }
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
fn copies_are_judged_by_what_was_said_about_copies() {
    let mut there = deployment(0, 0);
    if let Some(canary) = &mut there.canary {
        canary.mirrored = 200;
    }
    let live = BTreeMap::from([(Arm::Shadow, arm(2, 200, 4)), (Arm::Canary, arm(2, 900, 900)), (Arm::Stable, arm(1, 1000, 0))]);
    let all = figures(&there, Some(&live), Some(&live), 100);
    assert_eq!((all.get("rows"), all.get("error_rate")), (Some(200.0), Some(0.02)));
    assert_eq!((all.get("agreement"), all.get("score_distance")), (Some(0.25), Some(0.5)));
    let few = figures(&there, Some(&BTreeMap::from([(Arm::Shadow, arm(2, 99, 0))])), None, 100);
    assert_eq!(few.get("agreement"), None, "few rows are no evidence");
    // When it answers everything, the comparison was made before.
    let alone = without_comparison(&figures(&deployment(1000, 1), Some(&live), None, 100));
    assert_eq!((alone.get("rows"), alone.get("agreement")), (Some(900.0), Some(0.25)));
    assert_eq!(without_comparison(&few).get("agreement"), Some(1.0));
    assert_eq!(compare_since(at(100), Span::from_secs(60)), at(40));
}
