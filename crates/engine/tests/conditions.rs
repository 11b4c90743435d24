//! Conditions over figures and rows.

use crate::support::*;
use gristmill_kernel::condition::{Figure, Figures};
use gristmill_kernel::error::Code;
use gristmill_kernel::port::Engine;
use gristmill_kernel::table::WriteMode;

fn figures() -> Figures {
    let mut figures = Figures::default();
    figures.number("auc", 0.773);
    figures.number("champion.auc", 0.771);
    figures.number("error_rate", f64::NAN);
    figures.missing("worst.auc");
    figures.missing("stale");
    figures.0.insert("drift".into(), Figure::Bool(true));
    figures.0.insert("plan".into(), Figure::Text("basic".into()));
    figures
}

#[tokio::test]
async fn figures_are_judged() {
    let bench = bench();
    for (condition, holds) in [
        ("auc >= 0.77", Some(true)),
        ("auc >= champion.auc - 0.005", Some(true)),
        ("auc < champion.auc", Some(false)),
        ("worst.auc >= 0.5", None),
        ("error_rate > 0.01", None),
        ("error_rate > 0.01 or auc > 0.5", Some(true)),
        ("error_rate > 0.01 and auc > 0.5", None),
        ("drift", Some(true)),
        ("not drift", Some(false)),
        ("stale", None),
        ("stale or drift", Some(true)),
        ("plan in ('basic', 'pro')", Some(true)),
        ("AUC between 0.7 and 0.8", Some(true)),
        ("1 = 1", Some(true)),
    ] {
        let judged = bench.engine.judge(condition, &figures()).await.unwrap_or_else(|e| panic!("{condition}: {e}"));
        assert_eq!(judged.holds, holds, "{condition}");
    }
    let judged = bench.engine.judge("auc >= champion.auc and worst.auc > 0", &figures()).await.unwrap();
    assert_eq!(judged.observed, "auc = 0.773, champion.auc = 0.771, worst.auc = no value");
}

#[tokio::test]
async fn bad_conditions_are_refused_with_a_place() {
    let bench = bench();
    let names: Vec<String> = figures().0.keys().cloned().collect();
    for condition in [
        "acu >= 0.7",
        "auc >=",
        "auc >= 0.7; drop table x",
        "(select 1)",
        "exists (select 1 from t)",
        "auc >= 0.7 auc",
        "champion.acu > 1",
        "nosuch(auc) > 1",
        "",
    ] {
        let fault = bench.engine.check_condition(condition, &names).unwrap_err();
        assert_eq!(fault.code, Code::BAD_CONDITION, "{condition}: {fault}");
    }
    let fault = bench.engine.check_condition("acu >= 0.7", &names).unwrap_err();
    assert!(fault.fix.as_deref().unwrap_or_default().starts_with("did you mean `auc`?"), "{fault}");
    let spot = fault.spot.expect("a place");
    assert_eq!((spot.column, spot.width), (1, 3));
    assert_eq!(bench.engine.judge("auc", &figures()).await.unwrap_err().code, Code::BAD_CONDITION, "a number is no truth");
    for good in ["drift", "auc >= 0.7", "champion.auc > 0", "unique(auc)", "fresh('2 minutes')"] {
        bench.engine.check_condition(good, &names).unwrap_or_else(|e| panic!("{good}: {e}"));
    }
}

#[tokio::test]
async fn rows_are_judged_by_the_check_rule() {
    let bench = bench();
    let rows = batch(vec![
        ("id", ints(&[Some(1), Some(2), Some(2), None, Some(5)])),
        ("amount", floats(&[Some(1.0), Some(-1.0), None, Some(0.0), Some(9.0)])),
    ]);
    let conditions = ["amount >= 0", "amount is not null", "unique(id)", "fresh('1 minute')", "id is not null and amount < 5"];
    let conditions: Vec<String> = conditions.iter().map(|c| (*c).to_string()).collect();
    let judged = bench.engine.judge_rows(&conditions, &rows, None).await.unwrap();
    assert_eq!(judged[0], [true, false, true, true, true]);
    assert_eq!(judged[1], [true, true, false, true, true]);
    assert_eq!(judged[2], [true, true, false, true, true]);
    assert_eq!(judged[3], [true; 5]);
    assert_eq!(judged[4], [true, true, true, false, false]);
    bench.engine.write(write("h", vec![batch(vec![("id", ints(&[Some(5), None]))])], WriteMode::Append, at(1), &[])).await.unwrap();
    bench.engine.write(write("h", vec![batch(vec![("id", ints(&[Some(1)]))])], WriteMode::Append, at(1), &[])).await.unwrap();
    let history = table("h");
    let judged = bench.engine.judge_rows(&["unique(id)".into()], &rows, Some((&history, 0))).await.unwrap();
    assert_eq!(judged[0], [true, true, false, true, false], "version 0 has 5 but not 1");
    assert_eq!(bench.engine.judge_rows(&["nosuch > 1".into()], &rows, None).await.unwrap_err().code, Code::BAD_CONDITION);
}

#[tokio::test]
async fn many_rows_keep_their_order() {
    let bench = bench();
    let values: Vec<Option<i64>> = (0..30_000).map(Some).collect();
    let rows = batch(vec![("id", ints(&values))]);
    let judged = bench.engine.judge_rows(&["id % 7 <> 3".into()], &rows, None).await.unwrap();
    assert!(judged[0].iter().enumerate().all(|(i, holds)| *holds == (i % 7 != 3)));
}
