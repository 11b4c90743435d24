//! TensorFlow Serving, KServe's first protocol, SageMaker and MLflow's scoring: rows in, values out.

use super::bench::{Bench, model_file};
use super::served;
use serde_json::{Value, json};

async fn predictions(bench: &Bench, path: &str, body: Value) -> Value {
    let (status, body) = bench.post(path, body).await;
    assert_eq!(status, 200, "{body}");
    for key in ["predictions", "outputs", "results"] {
        if !body[key].is_null() {
            return body[key].clone();
        }
    }
    panic!("no values: {body}");
}

#[tokio::test]
async fn rows_and_columns_are_answered_in_kind() {
    let bench = served().await;
    let two = json!([3.25, 4.25]);
    for body in [
        json!({ "instances": [{ "customer_id": 3 }, { "customer_id": 4 }] }),
        json!({ "instances": [3, 4], "signature_name": "serving_default" }),
        json!({ "inputs": { "customer_id": [3, 4] } }),
        json!({ "instances": [{ "orders": 3, "country": "France" }, { "orders": 4, "country": "France" }] }),
        json!({ "instances": [[3, { "b64": "RnJhbmNl" }], [4, "France"]] }),
        json!({ "instances": [[3, 1], [4, 1]] }),
    ] {
        assert_eq!(predictions(&bench, "/v1/models/churn:predict", body.clone()).await, two, "{body}");
        assert_eq!(predictions(&bench, "/invocations", body.clone()).await, two, "{body}");
    }
    let named = json!({ "instances": [{ "orders": 3, "country": "France" }, { "orders": null, "country": "Spain" }] });
    assert_eq!(predictions(&bench, "/v1/models/churn/versions/1:predict", named).await[0], json!(3.25));
    assert_eq!(predictions(&bench, "/v1/models/churn/labels/stable:PREDICT", json!({ "instances": [3] })).await, json!([3.25]));
    let body = json!({ "context": { "country": "France" }, "examples": [{ "orders": 3 }, { "orders": 4, "country": "Spain" }] });
    assert_eq!(predictions(&bench, "/v1/models/churn:regress", body).await, json!([3.25, 4.0]));
    let (_, body) = bench.post("/v1/models/churn:explain", json!({ "instances": [{ "customer_id": 3 }] })).await;
    assert_eq!(
        (&body["explanations"][0], &body["method"]),
        (&json!({ "activity.country": 0.25, "activity.orders": 3.0 }), &json!("linear"))
    );
    assert_eq!(body["base_values"], json!([0.0]));
    assert!(body["prediction_ids"][0].as_str().is_some_and(|id| id.len() == 32), "what happens later is told of this id: {body}");
}

#[tokio::test]
async fn a_model_tells_its_state_and_its_inputs() {
    let bench = served().await;
    bench.train(&model_file("activity", 2.0)).await;
    bench.deploy(1, Some((2, 100))).await;
    assert_eq!(bench.get("/v1/models").await.1, json!({ "models": ["churn"] }));
    let (_, body) = bench.get("/v1/models/churn").await;
    assert_eq!((body["model_version_status"].as_array().map(Vec::len), &body["ready"]), (Some(2), &json!(true)), "{body}");
    let (_, body) = bench.get("/v1/models/churn/labels/canary").await;
    let state = json!([{ "version": "2", "state": "AVAILABLE", "status": { "error_code": "OK", "error_message": "" } }]);
    assert_eq!(body["model_version_status"], state);
    let (_, body) = bench.get("/v1/models/churn/metadata").await;
    let signature = &body["metadata"]["signature_def"]["signature_def"]["serving_default"];
    assert_eq!((&body["model_spec"]["version"], &signature["inputs"]["activity.country"]["dtype"]), (&json!("1"), &json!("DT_STRING")));
    assert_eq!(bench.get("/ping").await.0, 200);
    assert_eq!(bench.get("/models").await.1["models"][0]["modelName"], "churn");
    assert_eq!(bench.get("/models/fraud").await.0, 404);
}

#[tokio::test]
async fn csv_and_lines_go_in_and_come_out() {
    let bench = served().await;
    for (kind, body) in [
        ("text/csv", "customer_id\n3\n4\n"),
        ("text/csv; charset=utf-8", "3\n4\n"),
        ("text/csv", "3,France\n4,France\n"),
        ("application/jsonlines", "{\"customer_id\": 3}\n{\"customer_id\": 4}\n"),
        ("application/json", "{\"dataframe_split\": {\"columns\": [\"customer_id\"], \"index\": [0, 1], \"data\": [[3], [4]]}}"),
    ] {
        let headers = [("content-type", kind), ("accept", "text/csv")];
        let (status, headers, bytes) = bench.send("POST", "/models/churn/invoke", &headers, body.as_bytes().to_vec()).await;
        assert_eq!((status, String::from_utf8_lossy(&bytes).as_ref()), (200, "3.25\n4.25\n"), "{kind}: {body}");
        assert_eq!(headers["content-type"], "text/csv");
    }
    let headers = [("content-type", "text/csv"), ("accept", "application/jsonlines"), ("x-amzn-sagemaker-target-model", "churn")];
    assert_eq!(bench.send("POST", "/invocations", &headers, b"3\n".to_vec()).await.2, b"3.25\n");
}

#[tokio::test]
async fn what_cannot_be_answered_says_why_in_the_protocols_shape() {
    let bench = served().await;
    for (path, body, status, part) in [
        ("/v1/models/fraud:predict", json!({ "instances": [1] }), 404, "endpoints are `churn`"),
        ("/v1/models/churn/versions/9:predict", json!({ "instances": [1] }), 404, "Servable not found"),
        ("/v1/models/churn/labels/gold:predict", json!({ "instances": [1] }), 404, "1 (stable)"),
        ("/v1/models/churn:dream", json!({ "instances": [1] }), 404, ":predict"),
        ("/v1/models/churn", json!({ "instances": [1] }), 404, ":predict"),
        ("/v1/models/churn:predict", json!({}), 400, "Missing 'inputs' or 'instances'"),
        ("/v1/models/churn:predict", json!({ "instances": [1], "inputs": [1] }), 400, "Both"),
        ("/v1/models/churn:predict", json!({ "instances": [1], "signature_name": "other" }), 400, "signature"),
        ("/v1/models/churn:predict", json!({ "instances": [[1, 2, 3]] }), 400, "the model reads 2 and the entity has 1"),
        ("/v1/models/churn:predict", json!({ "instances": [{ "who": 1 }] }), 400, "neither the entity nor one feature"),
        ("/v1/models/churn:predict", json!({ "instances": [] }), 400, "no rows"),
        ("/v1/models/churn:predict", json!({ "instances": [{ "customer_id": 3 }, { "orders": 3 }] }), 400, "row 1 lacks `customer_id`"),
        ("/v1/models/churn:predict", json!({ "instances": [{ "orders": 3 }, { "activity.orders": 4 }] }), 400, "named twice"),
        ("/v1/models/churn:classify", json!({ "examples": [{ "orders": 1 }] }), 400, ":regress"),
        ("/v1/models/churn:regress", json!({ "examples": 3 }), 400, "`examples`"),
    ] {
        let (got, answer) = bench.post(path, body).await;
        assert_eq!((got, answer.as_object().map(|o| o.len())), (status, Some(1)), "{path}: {answer}");
        assert!(answer["error"].as_str().is_some_and(|e| e.contains(part)), "{answer} lacks {part}");
    }
    for (kind, body, part) in [
        ("image/png", "x", "application/x-npy"),
        ("application/x-npy", "x", "no array of NumPy"),
        ("application/json", "{", "no JSON"),
        ("application/json", "[Infinity]", "no JSON"),
        ("text/csv", "1,2\n3\n", "no CSV"),
    ] {
        let (status, _, bytes) = bench.send("POST", "/invocations", &[("content-type", kind)], body.as_bytes().to_vec()).await;
        let text = String::from_utf8_lossy(&bytes);
        assert!(status == 400 && text.contains(part), "{kind}: {status} {text}");
    }
    assert_eq!(bench.plane.flush().await.expect("flushes"), 0, "nothing of these was predicted");
}
