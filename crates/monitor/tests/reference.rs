//! The statistics against scipy's and scikit-learn's values in `testdata/reference.json` (written by `testdata/reference.py`).

use gristmill_kernel::model::Reference;
use gristmill_monitor::measure::{chi2, kolmogorov, ks_statistic};
use gristmill_monitor::quality::{Known, accuracy, auc, logloss, rmse};
use gristmill_monitor::window::{Column, Counts};

fn document() -> serde_json::Value {
    serde_json::from_str(include_str!("../testdata/reference.json")).expect("the fixture")
}
fn floats(value: &serde_json::Value) -> Vec<f64> {
    value.as_array().expect("a list").iter().map(|v| v.as_f64().expect("a number")).collect()
}
fn close(got: f64, want: &serde_json::Value, tolerance: f64) {
    let want = want.as_f64().expect("a number");
    assert!((got - want).abs() <= tolerance * want.abs().max(1e-300), "{got} instead of {want}");
}

#[test]
fn the_kolmogorov_distribution_is_scipys() {
    for pair in document()["kolmogorov"].as_array().expect("cases") {
        close(kolmogorov(pair[0].as_f64().expect("x")), &pair[1], 1e-10);
    }
}

#[test]
fn ks_is_scipys() {
    for case in document()["ks"].as_array().expect("cases") {
        let (sample, window) = (floats(&case["reference"]), floats(&case["window"]));
        let reference = Reference::Number { edges: vec![], counts: vec![1], missing: 0, sample: sample.clone() };
        let mut column = Column::new(&reference);
        window.iter().for_each(|x| column.add(&serde_json::json!(x), &reference));
        let Counts::Number { cells, .. } = &column.counts else { panic!("a number") };
        let (d, n) = ks_statistic(&sample, cells).expect("a value");
        close(d, &case["d"], 1e-12);
        let (n, m) = (n as f64, sample.len() as f64);
        let p = kolmogorov(d * (n * m / (n + m)).sqrt());
        close(p, &case["p_limit"], 1e-9);
        // scipy's own "asymp" uses the finite distribution; the limit stays close to it at these sizes.
        assert!((p - case["p_scipy"].as_f64().expect("p")).abs() < 0.03, "{p} {}", case["p_scipy"]);
    }
}

#[test]
fn chi2_is_scipys() {
    for case in document()["chi2"].as_array().expect("cases") {
        let counts = |key: &str| floats(&case[key]).into_iter().map(|x| x as u64).collect::<Vec<_>>();
        let (statistic, p) = chi2(&counts("reference"), &counts("window")).expect("a value");
        close(statistic, &case["statistic"], 1e-12);
        close(p, &case["p"], 1e-8);
    }
}

#[test]
fn realised_quality_is_scikit_learns() {
    let of = |case: &serde_json::Value| -> Vec<Known> {
        let pairs = floats(&case["score"]).into_iter().zip(floats(&case["outcome"]));
        pairs.map(|(score, outcome)| Known { score, outcome }).collect()
    };
    for case in document()["quality"].as_array().expect("cases") {
        let known = of(case);
        close(auc(&known).expect("auc"), &case["auc"], 1e-12);
        close(logloss(&known).expect("logloss"), &case["logloss"], 1e-12);
        close(accuracy(&known).expect("accuracy"), &case["accuracy"], 1e-12);
    }
    for case in document()["errors"].as_array().expect("cases") {
        close(rmse(&of(case)).expect("rmse"), &case["rmse"], 1e-12);
    }
}
