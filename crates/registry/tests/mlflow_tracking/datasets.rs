//! Evaluation datasets, as `mlflow.genai.datasets` asks for them.

use crate::server::{INVALID, MISSING, Server, assert_refused, text};
use serde_json::{Value, json};

async fn v3(server: &Server, method: &str, path: &str, body: Option<Value>) -> (u16, Value) {
    server.ask(method, &format!("/api/3.0/mlflow/datasets/{path}"), Some("root"), body.as_ref()).await
}
async fn done(server: &Server, method: &str, path: &str, body: Option<Value>) -> Value {
    let (status, answer) = v3(server, method, path, body).await;
    assert_eq!(status, 200, "{method} {path}: {answer}");
    answer
}
async fn refused(server: &Server, method: &str, path: &str, body: Option<Value>, status: u16, word: &str, like: &str) {
    let answer = v3(server, method, path, body.clone()).await;
    assert_refused(&format!("{method} {path} {body:?}"), &answer, status, word, like);
}
async fn made(server: &Server, name: &str, tags: Value) -> String {
    let body = json!({"name": name, "experiment_ids": ["0"], "tags": tags.to_string()});
    text(&done(server, "POST", "create", Some(body)).await["dataset"]["dataset_id"])
}
fn parsed(text: &Value) -> Value {
    serde_json::from_str(text.as_str().expect("a text")).expect("JSON")
}

#[tokio::test]
async fn datasets_live_and_die() {
    let server = Server::new().await;
    let id = made(&server, "qa", json!({"mlflow.user": "ada", "team": "blue"})).await;
    assert!(id.starts_with("d-") && id.len() == 34);
    let dataset = done(&server, "GET", &id, None).await["dataset"].clone();
    assert_eq!((dataset["name"].as_str(), dataset["created_by"].as_str()), (Some("qa"), Some("ada")));
    assert_eq!((dataset["digest"].as_str().map(str::len), dataset["created_time"].is_i64()), (Some(8), true));
    assert_eq!(parsed(&dataset["tags"]), json!({"mlflow.user": "ada", "team": "blue"}));
    assert!(dataset.get("schema").is_none() && dataset.get("profile").is_none());
    done(&server, "PATCH", &format!("{id}/tags"), Some(json!({"tags": "{\"team\": \"red\", \"n\": 5, \"none\": null}"}))).await;
    assert_eq!(done(&server, "DELETE", &format!("{id}/tags/n"), None).await, json!({}));
    assert_eq!(done(&server, "DELETE", &format!("{id}/tags/n"), None).await, json!({}), "twice");
    let dataset = done(&server, "GET", &id, None).await["dataset"].clone();
    assert_eq!(parsed(&dataset["tags"]), json!({"mlflow.user": "ada", "team": "red"}));
    let other = text(&server.done("experiments/create", json!({"name": "other"})).await["experiment_id"]);
    for _ in 0..2 {
        done(&server, "POST", &format!("{id}/add-experiments"), Some(json!({"experiment_ids": [other, "0"]}))).await;
    }
    assert_eq!(done(&server, "GET", &format!("{id}/experiment-ids"), None).await, json!({"experiment_ids": ["0", other]}));
    done(&server, "POST", &format!("{id}/remove-experiments"), Some(json!({"experiment_ids": ["0"]}))).await;
    assert_eq!(done(&server, "GET", &format!("{id}/experiment-ids"), None).await, json!({"experiment_ids": [other]}));
    assert_eq!(done(&server, "DELETE", &id, None).await, json!({}));
    assert_eq!(done(&server, "DELETE", &id, None).await, json!({}), "twice");
    refused(&server, "GET", &id, None, 404, MISSING, "not found").await;
    refused(&server, "PATCH", &format!("{id}/tags"), Some(json!({"tags": "{}"})), 404, MISSING, "Could not find evaluation dataset").await;
    refused(&server, "POST", &format!("{id}/records"), Some(json!({"records": "[]"})), 404, MISSING, "not found").await;
    refused(&server, "POST", &format!("{id}/add-experiments"), Some(json!({"experiment_ids": ["0"]})), 404, MISSING, "not found").await;
    for (body, like) in [
        (json!({}), "required parameter 'name'"),
        (json!({"name": "x".repeat(256)}), "exceeds the maximum length"),
        (json!({"name": "x", "tags": "no"}), "'tags' is not JSON"),
        (json!({"name": "x", "tags": "[]"}), "tags are not a JSON object"),
    ] {
        refused(&server, "POST", "create", Some(body), 400, INVALID, like).await;
    }
    refused(&server, "POST", "create", Some(json!({"name": "x", "experiment_ids": ["99"]})), 404, MISSING, "No Experiment with id=99")
        .await;
}

#[tokio::test]
async fn datasets_are_found() {
    let server = Server::new().await;
    for (name, team) in [("alpha", "blue"), ("beta", "red"), ("gamma", "blue")] {
        made(&server, name, json!({"team": team})).await;
    }
    let names = async |body: Value| -> Vec<String> {
        let found = done(&server, "POST", "search", Some(body)).await;
        found["datasets"].as_array().into_iter().flatten().map(|dataset| text(&dataset["name"])).collect()
    };
    assert_eq!(names(json!({"order_by": ["name"]})).await, ["alpha", "beta", "gamma"]);
    assert_eq!(names(json!({"filter_string": "tags.team = 'blue'", "order_by": ["name DESC"]})).await, ["gamma", "alpha"]);
    assert_eq!(names(json!({"filter_string": "name LIKE 'b%'"})).await, ["beta"]);
    assert_eq!(names(json!({"filter_string": "created_time > 5 AND name IN ('beta', 'x')"})).await, ["beta"]);
    assert_eq!(names(json!({"experiment_ids": ["7"]})).await, [""; 0]);
    let page = done(&server, "GET", "search?max_results=2&order_by=name", None).await;
    assert_eq!(page["datasets"].as_array().map(Vec::len), Some(2));
    let next = json!({"max_results": 2, "order_by": ["name"], "page_token": page["next_page_token"]});
    assert_eq!(names(next).await, ["gamma"]);
    for (body, like) in [
        (json!({"filter_string": "speed = 'x'"}), "Invalid attribute key 'speed'"),
        (json!({"order_by": ["tags.x"]}), "Invalid order_by entity"),
        (json!({"max_results": -1}), "must be a positive integer"),
    ] {
        refused(&server, "POST", "search", Some(body), 400, INVALID, like).await;
    }
}

#[tokio::test]
async fn records_are_kept_once() {
    let server = Server::new().await;
    let id = made(&server, "qa", json!({})).await;
    let path = format!("{id}/records");
    let records = json!([
        {"inputs": {"q": "1+1?"}, "expectations": {"a": "2"}, "source": {"source_type": "TRACE", "source_data": {"trace_id": "tr-1"}}},
        {"inputs": {"q": "2+2?"}, "tags": {"mlflow.user": "bob"}},
        {"inputs": {"q": "2+2?"}, "outputs": "4"}
    ]);
    let put = json!({"records": records.to_string()});
    assert_eq!(done(&server, "POST", &path, Some(put.clone())).await, json!({"inserted_count": 2, "updated_count": 1}));
    assert_eq!(done(&server, "POST", &path, Some(put)).await, json!({"inserted_count": 0, "updated_count": 3}));
    let dataset = done(&server, "GET", &id, None).await["dataset"].clone();
    assert_eq!(parsed(&dataset["profile"]), json!({"num_records": 2}));
    assert_eq!(parsed(&dataset["schema"])["inputs"], json!({"q": "string"}));
    let mut seen = Vec::new();
    let mut token = String::new();
    loop {
        let page = done(&server, "GET", &format!("{path}?max_results=1&page_token={}", token.replace('=', "%3D")), None).await;
        seen.extend(parsed(&page["records"]).as_array().cloned().expect("a list"));
        match page["next_page_token"].as_str() {
            Some(next) => next.clone_into(&mut token),
            None => break,
        }
    }
    assert_eq!(seen.len(), 2);
    let first = seen.iter().find(|record| record["inputs"]["q"] == "1+1?").expect("the first");
    assert_eq!((first["source_type"].as_str(), first["source_id"].as_str()), (Some("TRACE"), Some("tr-1")));
    assert_eq!((&first["outputs"], &first["dataset_id"]), (&json!({}), &json!(id)));
    let second = seen.iter().find(|record| record["inputs"]["q"] == "2+2?").expect("the second");
    assert_eq!((second["outputs"].as_str(), second["created_by"].as_str()), (Some("4"), Some("bob")));
    let gone = json!({"dataset_record_ids": [first["dataset_record_id"], "dr-0"]});
    assert_eq!(done(&server, "DELETE", &path, Some(gone.clone())).await, json!({"deleted_count": 1}));
    assert_eq!(done(&server, "DELETE", &path, Some(gone)).await, json!({"deleted_count": 0}));
    for (body, like) in [
        (json!({}), "required parameter 'records'"),
        (json!({"records": "{}"}), "records are not a JSON list"),
        (json!({"records": "[5]"}), "a record is not a JSON object"),
        (json!({"records": "[".repeat(1_000)}), "nested"),
        (json!({"records": "[{\"inputs\": {}, \"source\": {\"source_type\": \"MOON\"}}]"}), "Invalid dataset record source type: MOON"),
    ] {
        refused(&server, "POST", &path, Some(body), 400, INVALID, like).await;
    }
    refused(&server, "GET", &format!("{path}?page_token=%25"), None, 400, INVALID, "Invalid page token").await;
}
