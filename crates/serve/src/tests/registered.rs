//! Endpoints whose models clients registered, asked through both protocols.

use super::bench::Bench;
use gristmill_kernel::VersionRef;
use gristmill_kernel::tracking::manifest::Manifest;
use gristmill_kernel::version::Place;
use serde_json::{Value, json};

fn golden(name: &str) -> Vec<u8> {
    std::fs::read(std::path::PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("testdata/foreign").join(name)).expect(name)
}

/// Registers the files of a golden model as the next version of `models.churn`.
async fn register(bench: &Bench, name: &str, file: &str) -> VersionRef {
    let mut listed = Vec::new();
    for (key, bytes) in [("MLmodel", golden(&format!("{name}.yaml"))), (file, golden(&format!("{name}.{file}")))] {
        listed.push((key.to_owned(), bench.ports.blobs.put(bytes.into()).await.expect("stored")));
    }
    let manifest = Manifest::new(listed).expect("a manifest").write().expect("writes");
    let digest = bench.ports.blobs.put(manifest.into()).await.expect("stored");
    bench.make("models.churn", Place::Blob { digest }, Value::Null, None).await
}

/// A plane that answers with a LightGBM model, and what the library says to its rows.
async fn served() -> (Bench, Vec<Value>, Vec<f64>) {
    let bench = Bench::new().await;
    register(&bench, "mlmodel_lightgbm", "model.lgb").await;
    {
        let mut spec = bench.spec.lock().expect("a lock");
        (spec.model, spec.views, spec.entity) = ("mlflow:churn@champion".parse().expect("a choice"), vec![], vec![]);
    }
    bench.deploy(1, None).await;
    let case: Value = serde_json::from_slice(&golden("mlmodel_lightgbm.json")).expect("json");
    let columns = case["columns"].as_array().expect("columns");
    let row = |row: &Value| {
        let named = columns.iter().zip(row.as_array().expect("a row")).map(|(c, x)| (c.as_str().expect("a name").to_owned(), x.clone()));
        Value::Object(named.collect())
    };
    let rows = case["rows"].as_array().expect("rows").iter().map(row).collect();
    let expected = case["predictions"].as_array().expect("predictions").iter().map(|p| p[0].as_f64().expect("a number")).collect();
    (bench, rows, expected)
}

#[tokio::test]
async fn rows_are_the_columns_of_the_signature() {
    let (bench, rows, expected) = served().await;
    let (status, body) = bench.post("/predict/churn", json!({ "rows": rows, "explain": true })).await;
    assert_eq!(status, 200, "{body}");
    for (prediction, expected) in body["predictions"].as_array().expect("predictions").iter().zip(&expected) {
        let score = prediction["score"].as_f64().expect("a score");
        assert!((score - expected).abs() < 1e-12, "{score} instead of {expected}");
        let outcome = if *expected > 0.5 { "1" } else { "0" };
        assert_eq!((&prediction["outcome"], &prediction["model"]), (&json!(outcome), &json!("models.churn@1")));
        assert_eq!((&prediction["contributions_method"], &prediction["feature_age_seconds"]), (&json!("tree_shap"), &Value::Null));
        let each = prediction["contributions"].as_object().expect("contributions");
        let base = prediction["contributions_base"].as_f64().expect("a base value");
        let margin = each.values().map(|part| part.as_f64().expect("a number")).sum::<f64>() + base;
        assert!((margin - (expected / (1.0 - expected)).ln()).abs() < 1e-12, "{prediction}");
    }
    assert_eq!(body["predictions"][0]["features"]["request.monthly fee"], rows[0]["monthly fee"]);
    assert_eq!(bench.plane.flush().await.expect("flushes"), 10, "all are logged");
    let (status, body) = bench.post("/predict/churn", json!({ "age": 1, "calls": true })).await;
    assert_eq!((status, body["code"].as_str()), (400, Some("E0502")), "{body}");
    let mut wrong = rows[0].clone();
    wrong["calls"] = json!("yes");
    let (status, body) = bench.post("/predict/churn", wrong).await;
    assert_eq!((status, body["code"].as_str()), (400, Some("E0303")), "{body}");
}

#[tokio::test]
async fn tensors_are_the_columns_or_the_matrix() {
    let (bench, rows, expected) = served().await;
    let (_, about) = bench.get("/v2/models/churn").await;
    assert_eq!((&about["platform"], &about["inputs"][1]["name"]), (&json!("gristmill_lightgbm"), &json!("monthly fee")));
    let column = |name: &str| rows.iter().map(|row| row[name].clone()).collect::<Vec<Value>>();
    let tensor = |name: &str, datatype: &str| json!({ "name": name, "shape": [rows.len()], "datatype": datatype, "data": column(name) });
    let inputs = json!([
        tensor("age", "FP64"),
        tensor("monthly fee", "FP64"),
        tensor("mean radius of the thing (worst)", "FP64"),
        tensor("tenure", "INT64"),
        tensor("calls", "BOOL"),
    ]);
    let close = |body: &Value| {
        let scores = body["outputs"][0]["data"].as_array().expect("scores");
        assert_eq!(scores.len(), expected.len());
        scores.iter().zip(&expected).all(|(score, expected)| (score.as_f64().expect("a number") - expected).abs() < 1e-12)
    };
    let (status, body) = bench.post("/v2/models/churn/infer", json!({ "inputs": inputs })).await;
    assert!(status == 200 && close(&body), "{body}");
    let number = |x: &Value| x.as_f64().or(x.as_bool().map(|b| f64::from(u8::from(b)))).expect("a number");
    let names = ["age", "monthly fee", "mean radius of the thing (worst)", "tenure", "calls"];
    let matrix: Vec<Vec<f64>> = rows.iter().map(|row| names.iter().map(|name| number(&row[*name])).collect()).collect();
    let tensor = json!({ "name": "x", "shape": [rows.len(), 5], "datatype": "FP64", "data": matrix });
    let (status, body) = bench.post("/v2/models/churn/infer", json!({ "inputs": [tensor] })).await;
    assert!(status == 200 && close(&body), "{body}");
    let stranger = json!([{ "name": "who", "shape": [1], "datatype": "FP64", "data": [1] }]);
    let (status, body) = bench.post("/v2/models/churn/infer", json!({ "inputs": stranger })).await;
    assert!(status == 400 && body["error"].as_str().is_some_and(|e| e.contains("`monthly fee`")), "{body}");
}

#[tokio::test]
async fn a_canary_shares_the_rows_and_what_cannot_be_loaded_leaves_the_old_one() {
    let (bench, rows, _) = served().await;
    register(&bench, "mlmodel_xgboost", "model.ubj").await;
    bench.deploy(1, Some((2, 500))).await;
    let (_, body) = bench.post("/predict/churn", json!({ "rows": rows })).await;
    let arms: Vec<&str> = body["predictions"].as_array().expect("predictions").iter().map(|p| p["arm"].as_str().expect("an arm")).collect();
    assert!(arms.contains(&"stable") && arms.contains(&"canary"), "rows without an entity are shared out by what they hold: {arms:?}");
    let (_, again) = bench.post("/predict/churn", json!({ "rows": rows })).await;
    let twice: Vec<&str> =
        again["predictions"].as_array().expect("predictions").iter().map(|p| p["arm"].as_str().expect("an arm")).collect();
    assert_eq!(arms, twice, "equal rows take the same arm");
    let digest = bench.ports.blobs.put(Manifest::default().write().expect("writes").into()).await.expect("stored");
    bench.make("models.churn", Place::Blob { digest }, json!(3), None).await;
    bench.deploy(3, None).await;
    let (status, _) = bench.post("/predict/churn", json!({ "rows": rows })).await;
    let health = bench.plane.health();
    assert_eq!((status, health.endpoints.len()), (200, 1));
    assert!(health.broken.values().any(|why| why.contains("no file `MLmodel`")), "{:?}", health.broken);
}
