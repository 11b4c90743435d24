//! Logged models: written, measured, found, deleted; their files.

use crate::server::{INVALID, MISSING, Server, assert_refused, text};
use gristmill_web::{Body, Request};
use serde_json::{Value, json};

#[tokio::test]
async fn logged_models_are_written_found_and_deleted() {
    let server = Server::new().await;
    let run = server.run("0", "r").await;
    let body = json!({ "experiment_id": "0", "name": "churn", "model_type": "gbdt", "source_run_id": run,
        "params": [{ "key": "depth", "value": "8" }], "tags": [{ "key": "stage", "value": "try" }] });
    let model = server.done("logged-models", body).await["model"].clone();
    let id = text(&model["info"]["model_id"]);
    assert!(id.starts_with("m-") && id.len() == 34, "{id}");
    assert_eq!(model["info"]["status"], "LOGGED_MODEL_PENDING");
    assert_eq!(model["info"]["artifact_uri"], format!("mlflow-artifacts:/0/models/{id}/artifacts"));
    assert_eq!((&model["info"]["source_run_id"], &model["data"]["params"]), (&json!(run), &json!([{ "key": "depth", "value": "8" }])));
    let patch = async |path: &str, body: Value| {
        server.ask("PATCH", &format!("/api/2.0/mlflow/logged-models/{path}"), Some("root"), Some(&body)).await
    };
    let delete = async |path: &str| server.ask("DELETE", &format!("/api/2.0/mlflow/logged-models/{path}"), Some("root"), None).await;
    let (status, ready) = patch(&id, json!({ "model_id": id, "status": "LOGGED_MODEL_READY" })).await;
    assert_eq!((status, &ready["model"]["info"]["status"]), (200, &json!("LOGGED_MODEL_READY")));
    assert_eq!(
        patch(&format!("{id}/tags"), json!({ "tags": [{ "key": "a/b", "value": "1" }, { "key": "c", "value": "2" }] })).await.0,
        200
    );
    assert_eq!(delete(&format!("{id}/tags/a%2Fb")).await, (200, json!({})));
    let gone = delete(&format!("{id}/tags/a%2Fb")).await;
    assert_refused("a tag twice", &gone, 404, MISSING, "No tag with key 'a/b' found for model with ID");
    server.done(&format!("logged-models/{id}/params"), json!({ "params": [{ "key": "trees", "value": "9" }] })).await;
    let point = json!({ "run_id": run, "key": "auc", "value": 0.9, "timestamp": 5, "step": 1, "model_id": id, "dataset_name": "test", "dataset_digest": "d" });
    server.done("runs/log-metric", point).await;
    let shown = server.read(&format!("logged-models/{id}")).await["model"].clone();
    assert_eq!(
        shown["data"]["metrics"],
        json!([{ "key": "auc", "value": 0.9, "timestamp": 5, "step": 1, "run_id": run, "model_id": id, "dataset_name": "test", "dataset_digest": "d" }])
    );
    assert_eq!(shown["info"]["tags"].as_array().map(Vec::len), Some(2));
    let other = text(&server.done("logged-models", json!({ "experiment_id": "0" })).await["model"]["info"]["model_id"]);
    let search = async |body: Value| -> Vec<String> {
        let answer = server.done("logged-models/search", body).await;
        answer["models"].as_array().map(|list| list.iter().map(|m| text(&m["info"]["model_id"])).collect()).unwrap_or_default()
    };
    for (filter, found) in [
        ("name = 'churn'", vec![&id]),
        ("metrics.auc > 0.5 AND params.depth = '8' AND tags.stage != 'live'", vec![&id]),
        ("status = 'READY' OR model_type IN ('gbdt')", vec![&id]),
        ("status = 'PENDING'", vec![&other]),
        ("creation_timestamp > 0 AND attributes.last_updated_timestamp > 0 AND metrics.auc IS NULL", vec![&other]),
    ] {
        let found: Vec<String> = found.into_iter().cloned().collect();
        assert_eq!(search(json!({ "experiment_ids": ["0"], "filter": filter })).await, found, "{filter}");
    }
    let on = |name: &str| json!({ "experiment_ids": ["0"], "filter": "metrics.auc > 0.5", "datasets": [{ "dataset_name": name }] });
    assert_eq!((search(on("test")).await.len(), search(on("train")).await.len()), (1, 0));
    let ordered =
        json!({ "experiment_ids": ["0"], "order_by": [{ "field_name": "metrics.auc", "ascending": true, "dataset_name": "test" }] });
    assert_eq!(search(ordered).await, [id.clone(), other]);
    let first = server.done("logged-models/search", json!({ "experiment_ids": ["0"], "max_results": 1 })).await;
    let next = json!({ "experiment_ids": ["0"], "max_results": 1, "page_token": first["next_page_token"] });
    assert_eq!(search(next).await.len(), 1);

    assert_eq!(delete(&id).await, (200, json!({})));
    server.not_read(&format!("logged-models/{id}"), 404, MISSING, &format!("Logged model with ID '{id}' not found.")).await;
    server.read(&format!("logged-models/{id}?allow_deleted=true")).await;
    assert_eq!(search(json!({ "experiment_ids": ["0"] })).await.len(), 1);
    server.not_read("logged-models/m-none", 404, MISSING, "Logged model with ID 'm-none' not found.").await;
    assert_refused("unknown", &delete("m-none").await, 404, MISSING, "Logged model with ID 'm-none' not found.");
    let unknown = patch("m-none", json!({ "model_id": "m-none", "status": 2 })).await;
    assert_refused("unknown", &unknown, 404, MISSING, "Logged model with ID 'm-none' not found.");
    for (body, like) in [
        (json!({ "name": "x" }), "Missing value for required parameter 'experiment_id'"),
        (json!({ "experiment_id": "0", "name": "a/b" }), "Invalid model name ('a/b') provided."),
        (json!({ "experiment_id": "0", "name": "50%" }), "Invalid model name ('50%') provided."),
    ] {
        server.refused("logged-models", body, 400, INVALID, like).await;
    }
    for (change, like) in [
        (json!({ "datasets": [{}] }), "`dataset_name` in the `datasets` clause must be specified."),
        (json!({ "order_by": [{ "field_name": "size" }] }), "Invalid order by field name: size"),
        (json!({ "order_by": [{ "field_name": "params.a" }] }), "Only metrics are supported."),
        (
            json!({ "order_by": [{ "field_name": "name", "dataset_digest": "d" }] }),
            "can only be specified if `dataset_name` is also specified",
        ),
        (json!({ "filter": "datasets.name = 'a'" }), "Invalid entity type"),
    ] {
        let mut body = json!({ "experiment_ids": ["0"] });
        body.as_object_mut().expect("an object").extend(change.as_object().cloned().expect("an object"));
        server.refused("logged-models/search", body, 400, INVALID, like).await;
    }
}

#[tokio::test]
async fn the_files_of_a_logged_model_are_listed_a_folder_at_a_time() {
    let server = Server::new().await;
    let model = server.done("logged-models", json!({ "experiment_id": "0" })).await["model"]["info"].clone();
    let (id, root) = (text(&model["model_id"]), text(&model["artifact_uri"]));
    let key = root.strip_prefix("mlflow-artifacts:/").expect("ours");
    for file in ["MLmodel", "data/model.bin"] {
        let request = Request::builder().method("PUT").uri(format!("/api/2.0/mlflow-artifacts/artifacts/{key}/{file}"));
        let request =
            request.header("host", "localhost").header("authorization", "Bearer root").body(Body::from("12345")).expect("a request");
        assert_eq!(server.send(request).await.0, 200);
    }
    let path = format!("logged-models/{id}/artifacts/directories");
    let file = |path: &str| json!({ "path": path, "is_dir": false, "file_size": 5 });
    let answer = server.read(&path).await;
    assert_eq!((&answer["root_uri"], answer["files"].as_array().map(Vec::len)), (&json!(root), Some(2)));
    assert!(answer["files"].as_array().is_some_and(|files| files.contains(&file("MLmodel"))), "{answer}");
    assert!(answer["files"].as_array().is_some_and(|files| files.contains(&json!({ "path": "data", "is_dir": true }))), "{answer}");
    let beneath = server.read(&format!("{path}?artifact_directory_path=data")).await;
    assert_eq!(beneath["files"], json!([file("data/model.bin")]));
    for evil in ["..", "../..", "/etc", "data/../..", "%2e%2e", "a%5Cb"] {
        server.not_read(&format!("{path}?artifact_directory_path={evil}"), 400, INVALID, "Invalid path").await;
    }
    server.not_read("logged-models/m-none/artifacts/directories", 404, MISSING, "Logged model with ID 'm-none' not found.").await;
}
