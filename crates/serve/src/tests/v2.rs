//! The Open Inference Protocol, as its clients speak it.

use super::bench::model_file;
use super::{Bench, served};
use crate::spec::Batching;
use gristmill_kernel::Span;
use serde_json::{Value, json};

fn tensor(name: &str, shape: &[usize], datatype: &str, data: Value) -> Value {
    json!({ "name": name, "shape": shape, "datatype": datatype, "data": data })
}

async fn scores(bench: &Bench, inputs: Value) -> Value {
    let (status, body) = bench.post("/v2/models/churn/infer", json!({ "id": "a1", "inputs": inputs })).await;
    assert_eq!((status, body["id"].as_str(), body["model_version"].as_str()), (200, Some("a1"), Some("1")), "{body}");
    assert_eq!(body["outputs"][0]["name"], "score");
    body["outputs"][0]["data"].clone()
}

#[tokio::test]
async fn rows_come_as_entity_as_features_or_as_a_matrix() {
    let bench = served().await;
    let entity = json!([tensor("customer_id", &[2, 1], "INT64", json!([[3], [4]]))]);
    assert_eq!(scores(&bench, entity).await, json!([3.25, 4.25]));
    let named =
        json!([tensor("activity.orders", &[2], "FP32", json!([3, 4])), tensor("country", &[2], "BYTES", json!(["Spain", "France"]))]);
    assert_eq!(scores(&bench, named).await, json!([3.0, 4.25]));
    let matrix = json!([tensor("x", &[2, 2], "FP64", json!([[3, 0], [4, 1]]))]);
    assert_eq!(scores(&bench, matrix).await, json!([3.0, 4.25]));
    assert_eq!(bench.plane.flush().await.expect("flushes"), 6, "all are logged");
}

#[tokio::test]
async fn what_the_client_asks_first_is_answered() {
    let bench = served().await;
    assert_eq!(bench.get("/v2").await.1["extensions"], json!(["binary_tensor_data", "model_repository", "statistics"]));
    for path in ["/v2/health/live", "/v2/health/ready", "/v2/models/churn/ready", "/v2/models/churn/versions/1/ready"] {
        assert_eq!(bench.get(path).await.0, 200, "{path}");
    }
    assert_eq!(bench.get("/v2/models").await.1, json!({ "models": ["churn"] }));
    let (_, about) = bench.get("/v2/models/churn").await;
    assert_eq!(
        (&about["versions"], &about["inputs"][1]),
        (&json!(["1"]), &json!({ "name": "activity.country", "datatype": "BYTES", "shape": [-1] }))
    );
}

#[tokio::test]
async fn operators_see_what_is_there_and_what_it_did() {
    let bench = served().await;
    scores(&bench, json!([tensor("customer_id", &[2], "INT64", json!([3, 4]))])).await;
    let index = json!([{ "name": "churn", "version": "1", "state": "READY", "reason": "" }]);
    assert_eq!(bench.post("/v2/repository/index", json!({})).await, (200, index));
    for path in ["/v2/models/stats", "/v2/models/churn/stats", "/v2/models/churn/versions/1/stats"] {
        let (_, body) = bench.get(path).await;
        let one = &body["model_stats"][0];
        assert_eq!((&one["name"], &one["inference_count"], &one["execution_count"]), (&json!("churn"), &json!(2), &json!(1)), "{body}");
        assert!(one["last_inference"].as_u64().is_some_and(|ms| ms > 0), "{body}");
    }
    let (_, config) = bench.get("/v2/models/churn/config").await;
    assert_eq!(config["input"][1], json!({ "name": "activity.country", "data_type": "TYPE_STRING", "dims": [-1] }));
    bench.train(&model_file("activity", 2.0)).await;
    bench.deploy(2, None).await;
    assert_eq!(bench.post("/v2/repository/models/churn/load", json!({})).await.0, 200);
    let (status, body) = bench.post("/v2/repository/models/churn/unload", json!({})).await;
    assert_eq!(status, 400);
    assert!(body["error"].as_str().is_some_and(|e| e.contains("gristmill apply")), "{body}");
    assert_eq!(bench.post("/v2/repository/models/fraud/load", json!({})).await.0, 404);
}

#[tokio::test]
async fn requests_share_calls_where_the_endpoint_says_so() {
    let bench = served().await;
    bench.spec.lock().expect("a lock").batch = Some(Batching { rows: 8, delay: Span::from_secs(60) });
    bench.deploy(1, None).await;
    // Six requests of one row and one of two fill the call, so nobody waits for a minute; one that cannot be read is no part of it.
    let ask = |ids: Value| {
        let bench = &bench;
        async move { scores(bench, json!([tensor("customer_id", &[ids.as_array().map_or(0, Vec::len)], "INT64", ids)])).await }
    };
    let words = [tensor("activity.orders", &[1], "BYTES", json!(["x"])), tensor("activity.country", &[1], "BYTES", json!(["France"]))];
    let nonsense = bench.post("/v2/models/churn/infer", json!({ "inputs": words }));
    let six = futures::future::join_all((1..7).map(|id| ask(json!([id]))));
    let (six, two, (refused, _)) = futures::join!(six, ask(json!([7, 8])), nonsense);
    assert_eq!(six, (1..7).map(|id| json!([f64::from(id) + 0.25])).collect::<Vec<_>>());
    assert_eq!((two, refused), (json!([7.25, 8.25]), 400));
    let (_, body) = bench.get("/v2/models/churn/stats").await;
    let one = &body["model_stats"][0];
    assert_eq!((&one["inference_count"], &one["execution_count"]), (&json!(8), &json!(1)), "{body}");
    let page = bench.plane.metrics();
    let labels = "{endpoint=\"churn\",arm=\"stable\",model=\"models.churn@1\"}";
    assert!(
        page.contains(&format!("gristmill_batches_total{labels} 1\n")) && page.contains(&format!("gristmill_batch_rows_total{labels} 8\n")),
        "{page}"
    );

    // More rows than a call of several may have are a call of their own, at once; and a request may say how long it waits.
    let nine: Vec<i64> = (1..10).collect();
    assert_eq!(ask(json!(nine)).await.as_array().map(Vec::len), Some(9));
    let impatient = |timeout: Value| {
        let inputs = [tensor("customer_id", &[1], "INT64", json!([3]))];
        bench.post("/v2/models/churn/infer", json!({ "inputs": inputs, "parameters": { "timeout": timeout, "priority": 1 } }))
    };
    let (status, body) = impatient(json!(20_000)).await;
    assert_eq!(status, 504, "{body}");
    let failed = &bench.get("/v2/models/churn/stats").await.1["model_stats"][0]["inference_stats"]["fail"]["count"];
    assert_eq!(failed, &json!(0), "the model is not to blame for a caller without time");
    for wrong in [json!("soon"), json!(-1), json!(1.5)] {
        assert_eq!(impatient(wrong).await.0, 400);
    }
}

#[tokio::test]
async fn bodies_are_compressed_both_ways() {
    use flate2::read::{GzDecoder, ZlibDecoder};
    use flate2::write::{GzEncoder, ZlibEncoder};
    use std::io::{Read, Write};
    let bench = served().await;
    let ask = json!({ "inputs": [tensor("customer_id", &[1], "INT64", json!([3]))] }).to_string();
    let level = flate2::Compression::default();
    let mut gzip = GzEncoder::new(Vec::new(), level);
    gzip.write_all(ask.as_bytes()).expect("compresses");
    let mut deflate = ZlibEncoder::new(Vec::new(), level);
    deflate.write_all(ask.as_bytes()).expect("compresses");
    for (coding, body) in [("gzip", gzip.finish().expect("whole")), ("deflate", deflate.finish().expect("whole"))] {
        let headers = [("content-type", "application/json"), ("content-encoding", coding), ("accept-encoding", coding)];
        let (status, headers, bytes) = bench.send("POST", "/v2/models/churn/infer", &headers, body.clone()).await;
        assert_eq!((status, headers["content-encoding"].to_str().expect("text")), (200, coding));
        let mut plain = String::new();
        match coding {
            "gzip" => GzDecoder::new(bytes.as_slice()).read_to_string(&mut plain),
            _ => ZlibDecoder::new(bytes.as_slice()).read_to_string(&mut plain),
        }
        .expect("decompresses");
        assert!(plain.contains("3.25"), "{plain}");
        let broken = bench.send("POST", "/v2/models/churn/infer", &[("content-encoding", coding)], body[..body.len() / 2].to_vec()).await;
        assert_eq!(broken.0, 400);
    }
    // What is small here may be large there.
    let mut bomb = GzEncoder::new(Vec::new(), level);
    bomb.write_all(&vec![b' '; gristmill_kernel::limits::BODY_BYTES_MAX + 1]).expect("compresses");
    let bomb = bomb.finish().expect("whole");
    assert_eq!(bench.send("POST", "/v2/models/churn/infer", &[("content-encoding", "gzip")], bomb).await.0, 413);
    // Offered with every request, and wanted by nobody.
    let headers = [("content-type", "application/json"), ("accept-encoding", "gzip, deflate, br")];
    let (_, headers, _) = bench.send("POST", "/v2/models/churn/infer", &headers, ask.into_bytes()).await;
    assert!(headers.get("content-encoding").is_none());
}

#[tokio::test]
async fn errors_have_the_protocols_one_field() {
    let bench = served().await;
    for (path, body, status, part) in [
        ("/v2/models/fraud/infer", json!({ "inputs": [] }), 404, "endpoints are `churn`"),
        ("/v2/models/churn/versions/9/infer", json!({ "inputs": [] }), 404, "does not serve version 9"),
        ("/v2/models/churn/infer", json!({ "inputs": [] }), 400, "no inputs"),
        (
            "/v2/models/churn/infer",
            json!({ "inputs": [tensor("who", &[1], "INT64", json!([1]))] }),
            400,
            "neither the entity nor one feature",
        ),
        ("/v2/models/churn/infer", json!({ "inputs": [tensor("orders", &[1], "FP64", json!([1]))] }), 400, "`activity.country` is missing"),
        ("/v2/models/churn/infer", json!({ "inputs": [tensor("customer_id", &[2], "INT64", json!([1]))] }), 400, "its shape says 2"),
        (
            "/v2/models/churn/infer",
            json!({ "inputs": [tensor("customer_id", &[1], "INT64", json!([1]))], "outputs": [{ "name": "y" }] }),
            400,
            "there is no output `y`",
        ),
    ] {
        let (got, answer) = bench.post(path, body).await;
        assert_eq!((got, answer.as_object().map(|o| o.len())), (status, Some(1)), "{answer}");
        assert!(answer["error"].as_str().is_some_and(|e| e.contains(part)), "{answer} lacks {part}");
    }
}

#[tokio::test]
async fn one_version_can_be_asked_and_binary_goes_both_ways() {
    let bench = served().await;
    bench.train(&model_file("activity", 2.0)).await;
    bench.deploy(1, Some((2, 0))).await;
    let head = json!({
        "inputs": [{ "name": "customer_id", "shape": [2], "datatype": "INT64", "parameters": { "binary_data_size": 16 } }],
        "parameters": { "binary_data_output": true },
    })
    .to_string();
    let mut body = head.clone().into_bytes();
    body.extend(3i64.to_le_bytes());
    body.extend(4i64.to_le_bytes());
    let length = head.len().to_string();
    let headers = [("inference-header-content-length", length.as_str()), ("content-type", "application/octet-stream")];
    let (status, headers, bytes) = bench.send("POST", "/v2/models/churn/versions/2/infer", &headers, body).await;
    assert_eq!(status, 200, "{}", String::from_utf8_lossy(&bytes));
    let length: usize = headers["inference-header-content-length"].to_str().expect("text").parse().expect("a number");
    let head: Value = serde_json::from_slice(&bytes[..length]).expect("json");
    assert_eq!((&head["model_version"], &head["outputs"][0]["parameters"]["binary_data_size"]), (&json!("2"), &json!(16)));
    let numbers: Vec<f64> = bytes[length..].as_chunks::<8>().0.iter().map(|b| f64::from_le_bytes(*b)).collect();
    assert_eq!(numbers, [6.25, 8.25]);
}
