//! Runs: begun, changed, deleted, restored; their parameters and tags.

use crate::server::{INVALID, MISSING, Server, text, value_of};
use serde_json::{Value, json};

#[tokio::test]
async fn runs_begin_with_names_and_tags() {
    let server = Server::new().await;
    let body = json!({ "experiment_id": "0", "user_id": "ada", "run_name": "my name", "start_time": 456,
        "tags": [{ "key": "mlflow.user", "value": "ada" }, { "key": "my", "value": "tag" }] });
    let run = server.done("runs/create", body).await["run"].clone();
    let info = &run["info"];
    assert_eq!(info["run_id"], info["run_uuid"]);
    let id = text(&info["run_id"]);
    assert!(id.len() == 32 && id.chars().all(|c| c.is_ascii_hexdigit()), "{id}");
    for (field, wanted) in [
        ("run_name", json!("my name")),
        ("experiment_id", json!("0")),
        ("user_id", json!("ada")),
        ("status", json!("RUNNING")),
        ("start_time", json!(456)),
        ("end_time", Value::Null),
        ("lifecycle_stage", json!("active")),
        ("artifact_uri", json!(format!("mlflow-artifacts:/0/{id}/artifacts"))),
    ] {
        assert_eq!(info[field], wanted, "{field}");
    }
    assert_eq!(value_of(&run["data"]["tags"], "mlflow.runName"), Some("my name".into()));
    assert_eq!(server.read(&format!("runs/get?run_id={id}&run_uuid={id}")).await["run"]["info"], *info);
    assert_eq!(server.read(&format!("runs/get?run_uuid={id}")).await["run"]["info"], *info);

    let named =
        server.done("runs/create", json!({ "experiment_id": "0", "tags": [{ "key": "mlflow.runName", "value": "from tag" }] })).await;
    assert_eq!(named["run"]["info"]["run_name"], "from tag");
    let invented = server.done("runs/create", json!({ "experiment_id": "0" })).await["run"].clone();
    let name = text(&invented["info"]["run_name"]);
    assert_eq!((name.split('-').count(), value_of(&invented["data"]["tags"], "mlflow.runName")), (3, Some(name)));
    let twice = json!({ "experiment_id": "0", "run_name": "a", "tags": [{ "key": "mlflow.runName", "value": "b" }] });
    server.refused("runs/create", twice, 400, INVALID, "Both 'run_name' argument and 'mlflow.runName' tag are specified").await;
    server.refused("runs/create", json!({}), 400, INVALID, "Missing value for required parameter 'experiment_id'").await;
    server.refused("runs/create", json!({ "experiment_id": "77" }), 404, MISSING, "No Experiment with id=77 exists").await;
    server.refused("runs/create", json!({ "experiment_id": 5 }), 400, INVALID, "Invalid value 5 for parameter 'experiment_id'").await;
    server.refused("runs/create", json!({ "start_time": "x" }), 400, INVALID, "Invalid value \"x\" for parameter 'start_time'").await;
    server.not_read("runs/get?run_id=nobody", 404, MISSING, "Run with id=nobody not found").await;
    server.not_read("runs/get?x=1", 400, INVALID, "Missing value for required parameter 'run_id'").await;
}

#[tokio::test]
async fn runs_change_end_and_are_deleted() {
    let server = Server::new().await;
    let id = server.run("0", "first").await;
    let body = json!({ "run_id": id, "status": "FINISHED", "end_time": "1700000000123", "run_name": "second" });
    let info = server.done("runs/update", body).await["run_info"].clone();
    assert_eq!(
        (&info["status"], &info["end_time"], &info["run_name"]),
        (&json!("FINISHED"), &json!(1_700_000_000_123_i64), &json!("second"))
    );
    let info = server.done("runs/update", json!({ "run_uuid": id, "status": 4, "run_name": "" })).await["run_info"].clone();
    assert_eq!((&info["status"], &info["run_name"]), (&json!("FAILED"), &json!("second")));
    let run = server.read(&format!("runs/get?run_id={id}")).await["run"].clone();
    assert_eq!(value_of(&run["data"]["tags"], "mlflow.runName"), Some("second".into()));
    for (word, shown) in [("KILLED", "KILLED"), ("SCHEDULED", "SCHEDULED"), ("RUNNING", "RUNNING"), ("NEWER", "RUNNING")] {
        let info = server.done("runs/update", json!({ "run_id": id, "status": word })).await["run_info"].clone();
        assert_eq!(info["status"], shown);
    }
    server.refused("runs/update", json!({ "run_id": "nobody" }), 404, MISSING, "Run with id=nobody not found").await;

    server.done("runs/delete", json!({ "run_id": id })).await;
    server.done("runs/delete", json!({ "run_id": id })).await;
    let deleted = "must be in the 'active' state. Current state is deleted";
    server.refused("runs/log-parameter", json!({ "run_id": id, "key": "a", "value": "b" }), 400, INVALID, deleted).await;
    server.refused("runs/set-tag", json!({ "run_id": id, "key": "a", "value": "b" }), 400, INVALID, deleted).await;
    server.refused("runs/update", json!({ "run_id": id, "status": "FINISHED" }), 400, INVALID, deleted).await;
    let point = json!({ "run_id": id, "key": "m", "value": 1, "timestamp": 1 });
    server.refused("runs/log-metric", point.clone(), 400, INVALID, deleted).await;
    server.done("runs/restore", json!({ "run_id": id })).await;
    server.done("runs/log-metric", point).await;
    server.refused("runs/delete", json!({ "run_id": "nobody" }), 404, MISSING, "Run with id=nobody not found").await;
    server.refused("runs/restore", json!({ "run_id": "nobody" }), 404, MISSING, "Run with id=nobody not found").await;
}

#[tokio::test]
async fn parameters_stay_and_tags_change() {
    let server = Server::new().await;
    let id = server.run("0", "r").await;
    let param = |value: &str| json!({ "run_id": id, "run_uuid": id, "key": "lr", "value": value });
    server.done("runs/log-parameter", param("0.1")).await;
    server.done("runs/log-parameter", param("0.1")).await;
    server
        .refused("runs/log-parameter", param("0.2"), 400, INVALID, "Changing param values is not allowed. Param with key='lr' was already")
        .await;
    server.done("runs/log-parameter", json!({ "run_id": id, "key": "empty" })).await;
    server.done("runs/log-parameter", json!({ "run_id": id, "key": "long", "value": "é".repeat(6_001) })).await;
    server
        .refused("runs/log-parameter", json!({ "run_id": 31, "key": "a" }), 400, INVALID, "Invalid value 31 for parameter 'run_id'")
        .await;
    let key = json!({ "run_id": id, "key": "k".repeat(251), "value": "v" });
    server.refused("runs/log-parameter", key, 400, INVALID, "'Param key' exceeds the maximum length of 250 characters").await;
    let key = json!({ "run_id": id, "key": "a//b", "value": "v" });
    server.refused("runs/log-parameter", key, 400, INVALID, "This name would resolve to 'a/b'").await;
    server.refused("runs/log-parameter", json!({ "run_id": "nobody", "key": "a" }), 404, MISSING, "Run with id=nobody not found").await;

    for value in ["one", "two", "two"] {
        server.done("runs/set-tag", json!({ "run_id": id, "key": "t", "value": value })).await;
    }
    server.done("runs/set-tag", json!({ "run_id": id, "key": "mlflow.runName", "value": "renamed" })).await;
    server.done("runs/set-tag", json!({ "run_id": id, "key": "gone", "value": "x" })).await;
    server.done("runs/delete-tag", json!({ "run_id": id, "key": "gone" })).await;
    server.refused("runs/delete-tag", json!({ "run_id": id, "key": "gone" }), 404, MISSING, "No tag with name: gone in run with id").await;
    let run = server.read(&format!("runs/get?run_id={id}")).await["run"].clone();
    let (params, tags) = (&run["data"]["params"], &run["data"]["tags"]);
    assert_eq!((value_of(params, "lr"), value_of(params, "empty")), (Some("0.1".into()), Some(String::new())));
    assert_eq!(value_of(params, "long").map(|v| v.chars().count()), Some(6_000));
    assert_eq!((value_of(tags, "t"), value_of(tags, "gone")), (Some("two".into()), None));
    assert_eq!((run["info"]["run_name"].as_str(), value_of(tags, "mlflow.runName")), (Some("renamed"), Some("renamed".into())));
}
