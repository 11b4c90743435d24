//! Every metric against scikit-learn's value on the same rows.

use gristmill_kernel::model::Task;
use gristmill_train::metric::{METRICS, Scored, find};
use std::collections::{BTreeMap, BTreeSet};

#[derive(serde::Deserialize)]
struct Fixtures {
    cases: Vec<Case>,
}

#[derive(serde::Deserialize)]
struct Case {
    task: Task,
    y: Vec<f64>,
    scores: Vec<f64>,
    outputs: usize,
    group: Vec<u32>,
    expected: BTreeMap<String, f64>,
}

#[test]
fn every_metric_equals_scikit_learn() {
    let fixtures: Fixtures = serde_json::from_str(include_str!("../testdata/metrics.json")).expect("fixtures");
    let mut seen = BTreeSet::new();
    for (number, case) in fixtures.cases.iter().enumerate() {
        let scored = Scored { y: &case.y, scores: &case.scores, outputs: case.outputs, group: &case.group };
        for (name, expected) in &case.expected {
            let metric = find(name, case.task).expect(name);
            let value = metric.compute(&scored).unwrap_or_else(|| panic!("case {number}: {name} is undefined"));
            let off = (value - expected).abs() / expected.abs().max(1e-300);
            assert!(off <= 1e-12 || value == *expected, "case {number}: {name} is {value}, scikit-learn says {expected}");
            seen.insert((format!("{:?}", case.task), name.clone()));
            if let Some((base, _)) = name.rsplit_once('_') {
                seen.insert((format!("{:?}", case.task), base.to_owned()));
            }
        }
    }
    for family in METRICS {
        assert!(seen.contains(&(format!("{:?}", family.task), family.name.to_owned())), "no fixture for {}", family.name);
    }
}

#[test]
fn what_the_rows_do_not_define_is_not_made_up() {
    let one_class = Scored { y: &[1.0, 1.0], scores: &[0.2, 0.9], outputs: 1, group: &[0, 0] };
    for name in ["auc", "ks"] {
        assert_eq!(find(name, Task::Binary).expect(name).compute(&one_class), None, "{name}");
    }
    let nobody = Scored { y: &[], scores: &[], outputs: 1, group: &[] };
    for family in METRICS.iter().filter(|f| f.argument.is_none()) {
        assert_eq!(find(family.name, family.task).expect(family.name).compute(&nobody), None, "{}", family.name);
    }
}

#[test]
fn an_unknown_metric_lists_those_there_are() {
    let fault = find("acu", Task::Binary).expect_err("unknown");
    assert_eq!(fault.code, gristmill_kernel::Code::UNKNOWN_ALGORITHM);
    assert!(fault.fix.expect("a fix").contains("auc, pr_auc"));
    assert!(find("rmse", Task::Binary).is_err() && find("ndcg_0", Task::Ranking).is_err());
    assert_eq!(find("ndcg_7", Task::Ranking).expect("ndcg_7").name(), "ndcg_7");
}
