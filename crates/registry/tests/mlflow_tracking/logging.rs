//! What runs log: points, batches, histories, what they read and made.

use crate::server::{INVALID, MISSING, Server, assert_refused, text};
use serde_json::{Value, json};

fn metric(run: &str, key: &str, value: impl Into<Value>, step: i64, at: i64) -> Value {
    json!({ "run_id": run, "run_uuid": run, "key": key, "value": value.into(), "step": step, "timestamp": at })
}

/// The latest points of a run, by name.
async fn latest(server: &Server, run: &str) -> Vec<(String, Value)> {
    let run = server.read(&format!("runs/get?run_id={run}")).await;
    let list = run["run"]["data"]["metrics"].as_array().cloned().unwrap_or_default();
    let mut list: Vec<_> = list.iter().map(|m| (text(&m["key"]), m["value"].clone())).collect();
    list.sort_by(|a, b| a.0.cmp(&b.0));
    list
}

#[tokio::test]
async fn metrics_are_logged_once_and_have_a_history() {
    let server = Server::new().await;
    let run = server.run("0", "r").await;
    for (value, step, at) in [(0.1, 0, 10), (0.2, 1, 20), (0.3, 2, 30), (0.3, 2, 30)] {
        server.done("runs/log-metric", metric(&run, "loss", value, step, at)).await;
    }
    server.done("runs/log-metric", json!({ "run_id": run, "key": "stepless", "value": "987.5", "timestamp": "321" })).await;
    server.done("runs/log-metric", metric(&run, "nan", "NaN", 0, 1)).await;
    server.done("runs/log-metric", metric(&run, "inf", "Infinity", 0, 1)).await;
    server.done("runs/log-metric", metric(&run, "-inf", "-Infinity", 0, 1)).await;
    let wanted =
        [("-inf", json!(f64::MIN)), ("inf", json!(f64::MAX)), ("loss", json!(0.3)), ("nan", json!("NaN")), ("stepless", json!(987.5))];
    assert_eq!(latest(&server, &run).await, wanted.map(|(k, v)| (k.to_owned(), v)));

    let history = server.read(&format!("metrics/get-history?run_id={run}&metric_key=loss")).await;
    let point = |value: f64, step: i64, at: i64| json!({ "key": "loss", "value": value, "step": step, "timestamp": at });
    assert_eq!(history, json!({ "metrics": [point(0.1, 0, 10), point(0.2, 1, 20), point(0.3, 2, 30)] }));
    let page = server.read(&format!("metrics/get-history?run_id={run}&metric_key=loss&max_results=2")).await;
    assert_eq!(page["metrics"].as_array().map(Vec::len), Some(2));
    let rest = format!("metrics/get-history?run_id={run}&metric_key=loss&max_results=2&page_token={}", text(&page["next_page_token"]));
    assert_eq!(server.read(&rest).await, json!({ "metrics": [point(0.3, 2, 30)] }));
    assert_eq!(server.read(&format!("metrics/get-history?run_id={run}&metric_key=nothing")).await, json!({}));
    server.not_read(&format!("metrics/get-history?run_id={run}"), 400, INVALID, "Missing value for required parameter 'metric_key'").await;
    let none = format!("metrics/get-history?run_id={run}&metric_key=loss&max_results=0");
    server.not_read(&none, 400, INVALID, "Invalid value 0 for parameter 'max_results' supplied. It must be a positive integer.").await;
}

#[tokio::test]
async fn metrics_that_cannot_be_are_refused() {
    let server = Server::new().await;
    let run = server.run("0", "r").await;
    let change = |field: &str, value: Value| {
        let mut body = metric(&run, "loss", 1.0, 0, 1);
        body[field] = value;
        if field == "run_id" {
            body["run_uuid"] = Value::Null;
        }
        body
    };
    for (field, value, like) in [
        ("run_id", json!(31), "Invalid value 31 for parameter 'run_id' supplied"),
        ("run_id", Value::Null, "Missing value for required parameter 'run_id'"),
        ("key", json!(31), "Invalid value 31 for parameter 'key' supplied"),
        ("key", Value::Null, "Missing value for required parameter 'key'"),
        ("value", Value::Null, "Missing value for required parameter 'value'"),
        ("value", json!("high"), "Invalid value \"high\" for parameter 'value' supplied"),
        ("step", json!("foo"), "Invalid value \"foo\" for parameter 'step' supplied"),
        ("timestamp", json!("foo"), "Invalid value \"foo\" for parameter 'timestamp' supplied"),
        ("timestamp", Value::Null, "Missing value for required parameter 'timestamp'"),
        ("timestamp", json!(-1), "Timestamp must be a nonnegative long"),
        ("key", json!("../../etc/passwd"), "must not resolve to other names"),
        ("key", json!("a\u{0}b"), "Names may only contain alphanumerics"),
        ("key", json!("k".repeat(251)), "'Metric name' exceeds the maximum length of 250 characters"),
    ] {
        server.refused("runs/log-metric", change(field, value), 400, INVALID, like).await;
    }
    server.refused("runs/log-metric", metric("nobody", "loss", 1, 0, 1), 404, MISSING, "Run with id=nobody not found").await;
    assert_eq!(latest(&server, &run).await, []);
}

#[tokio::test]
async fn batches_are_taken_whole_or_not_at_all() {
    let server = Server::new().await;
    let run = server.run("0", "r").await;
    let metrics: Vec<Value> =
        (0..800).map(|n| json!({ "key": format!("m{}", n % 8), "value": n, "timestamp": n, "step": n / 8 })).collect();
    let body = json!({ "run_id": run, "metrics": metrics, "params": [{ "key": "p", "value": "1" }],
        "tags": [{ "key": "t", "value": "1" }, { "key": "mlflow.runName", "value": "named by a batch" }] });
    server.done("runs/log-batch", body.clone()).await;
    server.done("runs/log-batch", body).await;
    let history = server.read(&format!("metrics/get-history?run_id={run}&metric_key=m3")).await;
    assert_eq!(history["metrics"].as_array().map(Vec::len), Some(100), "a batch sent again changes nothing");
    assert_eq!(server.read(&format!("runs/get?run_id={run}")).await["run"]["info"]["run_name"], "named by a batch");

    let half =
        json!({ "run_id": run, "metrics": [{ "key": "new", "value": 1, "timestamp": 1 }], "params": [{ "key": "p", "value": "2" }] });
    server.refused("runs/log-batch", half, 400, INVALID, "Changing param values is not allowed. Params were already logged=").await;
    assert!(!latest(&server, &run).await.iter().any(|(key, _)| key == "new"));

    for field in ["metrics", "params", "tags"] {
        let mut body = json!({ "run_id": run });
        body[field] = json!("foo");
        server.refused("runs/log-batch", body, 400, INVALID, &format!("Invalid value \"foo\" for parameter '{field}' supplied")).await;
    }
    let missing = json!({ "run_id": run, "metrics": [{ "key": "mae", "value": 2.5 }] });
    server.refused("runs/log-batch", missing, 400, INVALID, "Missing value for required parameter 'metrics[0].timestamp'").await;
    let missing = json!({ "run_id": run, "params": [{ "key": "a" }, { "value": "b" }] });
    server.refused("runs/log-batch", missing, 400, INVALID, "Missing value for required parameter 'params[1].key'").await;
    server.refused("runs/log-batch", json!({ "metrics": [] }), 400, INVALID, "Missing value for required parameter 'run_id'").await;
    server.refused("runs/log-batch", json!({ "run_id": "nobody" }), 404, MISSING, "Run with id=nobody not found").await;
    let many: Vec<Value> = (0..1_001).map(|n| json!({ "key": format!("m{n}"), "value": n, "timestamp": n })).collect();
    let many = json!({ "run_id": run, "metrics": many });
    server
        .refused("runs/log-batch", many, 400, INVALID, "A batch logging request can contain at most 1000 metrics. Got 1001 metrics.")
        .await;
}

#[tokio::test]
async fn histories_of_many_runs_are_thinned() {
    let server = Server::new().await;
    let (a, b) = (server.run("0", "a").await, server.run("0", "b").await);
    for (run, count) in [(&a, 900), (&b, 5)] {
        let metrics: Vec<Value> = (0..count).map(|n| json!({ "key": "loss", "value": n, "timestamp": n, "step": n })).collect();
        server.done("runs/log-batch", json!({ "run_id": run, "metrics": metrics })).await;
    }
    let path = "metrics/get-history-bulk-interval?metric_key=loss";
    let answer = server.read(&format!("{path}&run_ids={a}&run_ids={b}&max_results=10")).await;
    let steps = |run: &str| -> Vec<i64> {
        let list = answer["metrics"].as_array().cloned().unwrap_or_default();
        list.iter().filter(|m| m["run_id"] == run).filter_map(|m| m["step"].as_i64()).collect()
    };
    let thinned = steps(&a);
    assert!(thinned.len() <= 10 && thinned.first() == Some(&0) && thinned.last() == Some(&899), "{thinned:?}");
    assert_eq!(steps(&b), [0, 1, 2, 3, 4]);
    let answer = server.read(&format!("{path}&run_ids={a}&start_step=5&end_step=7")).await;
    assert_eq!(answer["metrics"].as_array().map(Vec::len), Some(3), "both ends are in");
    let whole = format!("/ajax-api/2.0/mlflow/metrics/get-history-bulk?run_id={b}&run_id={a}&metric_key=loss");
    let (_, whole) = server.ask("GET", &whole, Some("root"), None).await;
    assert_eq!(whole["metrics"].as_array().map(Vec::len), Some(905));
    for (query, like) in [
        (format!("run_ids={a}&start_step=5"), "both must be specified"),
        (format!("run_ids={a}&start_step=5&end_step=4"), "end_step must be greater than start_step"),
        (format!("run_ids={a}&max_results=2501"), "max_results must be between 1 and 2500."),
        (format!("run_ids={a}&max_results=0"), "max_results must be between 1 and 2500."),
        ("x=1".to_owned(), "Missing value for required parameter 'run_ids'"),
        (vec!["run_ids=x"; 101].join("&"), "must specify at most 100 run_ids. Received 101 run_ids."),
    ] {
        server.not_read(&format!("{path}&{query}"), 400, INVALID, like).await;
    }
}

#[tokio::test]
async fn runs_remember_what_they_read_and_made() {
    let server = Server::new().await;
    let run = server.run("0", "r").await;
    let dataset = |name: &str, context: &str| {
        json!({ "dataset": { "name": name, "digest": "d1", "source_type": "local", "source": "{}", "schema": "s", "profile": "p" },
            "tags": [{ "key": "mlflow.data.context", "value": context }] })
    };
    let body =
        json!({ "run_id": run, "datasets": [dataset("train", "training"), dataset("test", "eval")], "models": [{ "model_id": "m-1" }] });
    server.done("runs/log-inputs", body.clone()).await;
    server.done("runs/log-inputs", body).await;
    server.done("runs/outputs", json!({ "run_id": run, "models": [{ "model_id": "m-2", "step": "3" }] })).await;
    let shown = server.read(&format!("runs/get?run_id={run}")).await["run"].clone();
    assert_eq!(shown["inputs"]["dataset_inputs"].as_array().map(Vec::len), Some(2));
    assert_eq!(shown["inputs"]["dataset_inputs"][0], dataset("train", "training"));
    assert_eq!(shown["inputs"]["model_inputs"], json!([{ "model_id": "m-1" }]));
    assert_eq!(shown["outputs"]["model_outputs"], json!([{ "model_id": "m-2", "step": 3 }]));
    let found = server
        .done("runs/search", json!({ "experiment_ids": ["0"], "filter": "dataset.context = 'eval' AND datasets.name = 'train'" }))
        .await;
    assert_eq!(found["runs"].as_array().map(Vec::len), Some(1));

    for base in ["/api/2.0mlflow", "/ajax-api/2.0mlflow", "/ajax-api/2.0/mlflow"] {
        let ask = json!({ "experiment_ids": ["0"] });
        let (status, answer) = server.ask("POST", &format!("{base}/experiments/search-datasets"), Some("root"), Some(&ask)).await;
        let summary = |name: &str, context: &str| json!({ "experiment_id": "0", "name": name, "digest": "d1", "context": context });
        assert_eq!((status, &answer["dataset_summaries"]), (200, &json!([summary("test", "eval"), summary("train", "training")])));
    }
    let none = server.ask("POST", "/ajax-api/2.0/mlflow/experiments/search-datasets", Some("root"), Some(&json!({}))).await;
    assert_refused("search-datasets", &none, 400, INVALID, "must specify at least one experiment_id");
    let mut long = dataset("x", "training");
    long["dataset"]["digest"] = json!("d".repeat(37));
    let long = json!({ "run_id": run, "datasets": [long] });
    server.refused("runs/log-inputs", long, 400, INVALID, "'digest' exceeds the maximum length of 36 characters").await;
    server.refused("runs/log-inputs", json!({ "run_id": "../x" }), 400, INVALID, "Invalid value \"../x\" for parameter 'run_id'").await;
    server.refused("runs/log-inputs", json!({ "run_id": "nobody", "datasets": [] }), 404, MISSING, "Run with id=nobody not found").await;
    server.refused("runs/outputs", json!({ "run_id": run }), 400, INVALID, "Missing value for required parameter 'models'").await;
}

#[tokio::test]
async fn old_clients_keep_their_models_in_a_tag() {
    let server = Server::new().await;
    let run = server.run("0", "r").await;
    let model = |path: &str| {
        let model = json!({ "artifact_path": path, "run_id": run, "utc_time_created": "2026-01-01", "model_uuid": "u", "signature": {},
            "flavors": { "sklearn": { "code": null, "config": { "secret": 1 } } } });
        json!({ "run_id": run, "model_json": model.to_string() })
    };
    server.done("runs/log-model", model("a")).await;
    server.done("runs/log-model", model("b")).await;
    let shown = server.read(&format!("runs/get?run_id={run}")).await;
    let tags = shown["run"]["data"]["tags"].as_array().cloned().expect("tags");
    let history = tags.iter().find(|t| t["key"] == "mlflow.log-model.history").map(|t| text(&t["value"])).expect("the history");
    let history: Value = serde_json::from_str(&history).expect("JSON");
    let kept = |path: &str| json!({ "artifact_path": path, "run_id": run, "utc_time_created": "2026-01-01", "model_uuid": "u", "flavors": { "sklearn": { "code": null } } });
    assert_eq!(history, json!([kept("a"), kept("b")]));
    server.refused("runs/log-model", json!({ "run_id": run, "model_json": "{" }), 400, INVALID, "is not a valid JSON").await;
    server.refused("runs/log-model", json!({ "run_id": run, "model_json": "{}" }), 400, INVALID, "missing mandatory fields").await;
}
