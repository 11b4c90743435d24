//! A version that is shown copies: counted, compared, and never felt by the caller.

use super::bench::{Bench, model_file};
use super::{churn, served};
use gristmill_kernel::limits::COPIES_MAX;
use gristmill_kernel::port::LiveFigures;
use gristmill_kernel::prediction::{Arm, ArmFigures};
use gristmill_kernel::{Span, Timestamp};
use serde_json::json;
use std::sync::atomic::Ordering::SeqCst;
use std::time::{Duration, Instant};

fn figures(bench: &Bench, arm: Arm) -> ArmFigures {
    bench.plane.figures(&churn(), Timestamp::from_micros(0)).expect("served")[&arm].clone()
}

/// Waits until the shadow has done something with so many rows.
async fn shown(bench: &Bench, rows: u64) -> ArmFigures {
    for _ in 0..500 {
        let shadow = figures(bench, Arm::Shadow);
        if shadow.rows >= rows {
            return shadow;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("{} of {rows} rows were shown", figures(bench, Arm::Shadow).rows);
}

#[tokio::test]
async fn a_shadow_answers_nobody_and_is_compared() {
    let bench = served().await;
    bench.train(&model_file("activity", 2.0)).await;
    bench.deploy_beside(1, Some((2, 0, 1_000))).await;
    let rows: Vec<_> = (0..20).map(|id| json!({ "customer_id": id })).collect();
    let (status, body) = bench.post("/predict/churn", json!({ "rows": rows })).await;
    assert_eq!(status, 200);
    for (id, row) in body["predictions"].as_array().expect("rows").iter().enumerate() {
        assert_eq!((row["score"].as_f64(), row["arm"].as_str()), (Some(id as f64 + 0.25), Some("stable")));
    }
    let shadow = shown(&bench, 20).await;
    assert_eq!((shadow.rows, shadow.errors, shadow.model.number), (20, 0, 2));
    // Twice the weight: only the customer without orders is scored alike.
    assert_eq!((shadow.compared.rows, shadow.compared.same, shadow.compared.distance), (20, 1, (0..20).sum::<u32>() as f64));
    let (stable, canary) = (figures(&bench, Arm::Stable), figures(&bench, Arm::Canary));
    assert_eq!((stable.rows, canary.rows), (20, 0));
    assert_eq!(bench.plane.flush().await.expect("flushes"), 20, "copies are in no log");
    assert!(bench.plane.metrics().contains("gristmill_predict_rows_total{endpoint=\"churn\",arm=\"shadow\",model=\"models.churn@2\"} 20"));
}

#[tokio::test]
async fn a_shadow_sees_its_sample() {
    let bench = served().await;
    bench.train(&model_file("activity", 2.0)).await;
    bench.deploy_beside(1, Some((2, 0, 200))).await;
    for id in 0..500 {
        assert_eq!(bench.post("/predict/churn", json!({ "customer_id": id })).await.0, 200);
        tokio::task::yield_now().await;
    }
    let seen = shown(&bench, 60).await.rows + bench.plane.endpoint("churn").expect("there").1.lane.skipped.load(SeqCst);
    assert!((60..=140).contains(&seen), "{seen} of 500 for a sample of 20%");
}

#[tokio::test]
async fn a_shadow_that_fails_or_hangs_is_not_felt() {
    let bench = served().await;
    bench.train(&model_file("extra", 2.0)).await;
    bench.spec.lock().expect("a lock").timeout = Span::from_millis(300);
    bench.deploy_beside(1, Some((2, 0, 1_000))).await;
    bench.reader.extra_broken.store(true, SeqCst);
    let ask = || bench.post("/predict/churn", json!({ "customer_id": 4 }));
    assert_eq!(ask().await.1["predictions"][0]["score"].as_f64(), Some(4.25));
    assert_eq!(shown(&bench, 1).await.errors, 1);
    // Its own view takes longer than callers are given; theirs does not.
    bench.reader.extra_broken.store(false, SeqCst);
    bench.reader.extra_delay_ms.store(60_000, SeqCst);
    let began = Instant::now();
    for _ in 0..COPIES_MAX + 10 {
        let (status, body) = ask().await;
        assert_eq!((status, body["predictions"][0]["score"].as_f64()), (200, Some(4.25)));
    }
    assert!(began.elapsed() < Duration::from_secs(30), "callers waited for the shadow");
    let lane = bench.plane.endpoint("churn").expect("there").1.lane.clone();
    assert!(lane.skipped.load(SeqCst) > 0, "copies pile up no further than their limit");
    let shadow = shown(&bench, 1 + COPIES_MAX as u64).await;
    assert_eq!(shadow.errors, shadow.rows, "what takes too long is an error");
    assert_eq!(figures(&bench, Arm::Stable).errors, 0);
}

#[tokio::test]
async fn numbers_without_names_are_shown_and_shared_where_they_mean_the_same() {
    let bench = served().await;
    bench.train(&model_file("activity", 2.0)).await;
    bench.deploy_beside(1, Some((2, 0, 1_000))).await;
    let inputs = json!({ "inputs": [{ "name": "input", "datatype": "FP64", "shape": [2, 2], "data": [3.0, 1.0, 4.0, 1.0] }] });
    let (status, body) = bench.post("/v2/models/churn/infer", inputs.clone()).await;
    assert_eq!((status, &body["outputs"][0]["data"]), (200, &json!([3.25, 4.25])), "{body}");
    assert_eq!(shown(&bench, 2).await.compared.distance, 7.0);
    bench.deploy(1, Some((2, 1_000))).await;
    let (_, body) = bench.post("/v2/models/churn/infer", inputs.clone()).await;
    assert_eq!(body["outputs"][0]["data"], json!([6.25, 8.25]), "the canary has its share of them");
    // A version that reads other columns would mean something else by the same numbers.
    bench.train(&model_file("extra", 2.0)).await;
    bench.deploy(1, Some((3, 1_000))).await;
    let (_, body) = bench.post("/v2/models/churn/infer", inputs.clone()).await;
    assert_eq!(body["outputs"][0]["data"], json!([3.25, 4.25]));
    // So would one whose words have other codes.
    let mut recoded = model_file("activity", 2.0);
    recoded.features[1].categories.reverse();
    bench.train(&recoded).await;
    bench.deploy(1, Some((4, 1_000))).await;
    let (_, body) = bench.post("/v2/models/churn/infer", inputs).await;
    assert_eq!(body["outputs"][0]["data"], json!([3.25, 4.25]));
}
