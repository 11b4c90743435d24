//! Feast's question, as far as the reader of these tests answers it: from columns. Rows that are found and not read are the end-to-end tests'.

use super::bench::{Bench, model_file};
use serde_json::json;
use std::sync::atomic::Ordering::SeqCst;

#[tokio::test]
async fn features_come_in_columns_with_statuses_and_moments() {
    let bench = Bench::new().await;
    bench.train(&model_file("activity", 1.0)).await;
    bench.deploy(1, None).await;
    let ask = async |features: &[&str], full: bool| {
        let body = json!({ "entities": { "customer_id": [7, 0] }, "features": features, "full_feature_names": full });
        bench.post("/get-online-features", body).await
    };
    let (status, found) = ask(&["activity:country", "extra:orders", "activity:orders"], false).await;
    assert_eq!(status, 200, "{found}");
    assert_eq!(found["metadata"]["feature_names"], json!(["customer_id", "country", "orders", "orders"]));
    let (never, at) = ("1970-01-01T00:00:00Z", "2011-08-31T23:59:00Z");
    let there = json!(["PRESENT", "PRESENT"]);
    let column =
        |values: serde_json::Value, moments: [&str; 2]| json!({ "values": values, "statuses": there, "event_timestamps": moments });
    assert_eq!(
        found["results"],
        json!([
            column(json!([7, 0]), [never, never]),
            column(json!(["France", "France"]), [at, never]),
            column(json!([7.0, 0.0]), [at, never]),
            column(json!([7.0, 0.0]), [at, never]),
        ])
    );
    assert_eq!(ask(&["activity:orders"], true).await.1["metadata"]["feature_names"][1], "activity__orders");
    // Infinity is no JSON.
    bench.reader.infinite.store(true, SeqCst);
    let (_, found) = ask(&["activity:orders"], false).await;
    assert_eq!(
        (&found["results"][1]["values"], &found["results"][1]["statuses"]),
        (&json!([null, null]), &json!(["NULL_VALUE", "NULL_VALUE"]))
    );
}

#[tokio::test]
async fn a_question_whose_answer_is_out_of_proportion_is_refused() {
    let bench = Bench::new().await;
    let body = json!({ "entities": { "customer_id": vec![1; 10_000] }, "features": vec!["activity:orders"; 401] });
    let (status, refused) = bench.post("/get-online-features", body).await;
    let error: serde_json::Value = serde_json::from_str(refused.as_str().expect("a text")).expect("JSON in a text");
    assert_eq!(status, 413, "{error}");
    assert!(error.to_string().contains("401 features of 10000 entities"), "{error}");
    assert_eq!(bench.reader.reads.load(SeqCst), 0);
}
