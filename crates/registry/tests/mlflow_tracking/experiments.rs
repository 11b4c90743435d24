//! Experiments: made, renamed, tagged, deleted, restored, searched.

use crate::server::{INVALID, MISSING, Server, text, value_of};
use serde_json::{Value, json};

#[tokio::test]
async fn experiments_live_and_die() {
    let server = Server::new().await;
    let default = server.read("experiments/get?experiment_id=0").await;
    assert_eq!(
        (default["experiment"]["name"].as_str(), default["experiment"]["lifecycle_stage"].as_str()),
        (Some("Default"), Some("active"))
    );
    server.not_read("experiments/get-by-name?experiment_name=churn", 404, MISSING, "Could not find experiment with name 'churn'").await;
    server.not_read("experiments/get?experiment_id=99", 404, MISSING, "No Experiment with id=99 exists").await;
    server.not_read("experiments/get?experiment_id=abc", 400, INVALID, "Invalid experiment ID 'abc'").await;
    server.not_read("experiments/get", 400, INVALID, "Missing value for required parameter 'experiment_id'").await;

    let tags = json!([{ "key": "team", "value": "growth" }]);
    let id = text(&server.done("experiments/create", json!({ "name": "churn", "tags": tags })).await["experiment_id"]);
    server.refused("experiments/create", json!({ "name": "churn" }), 400, "RESOURCE_ALREADY_EXISTS", "already exists").await;
    let found = server.read("experiments/get-by-name?experiment_name=churn").await["experiment"].clone();
    assert_eq!((text(&found["experiment_id"]), text(&found["artifact_location"])), (id.clone(), format!("mlflow-artifacts:/{id}")));
    assert_eq!(value_of(&found["tags"], "team"), Some("growth".into()));
    assert!(found["creation_time"].is_i64() && found["last_update_time"].is_i64());

    server.done("experiments/set-experiment-tag", json!({ "experiment_id": id, "key": "k", "value": "v" })).await;
    server.done("experiments/set-experiment-tag", json!({ "experiment_id": id, "key": "k", "value": "v" })).await;
    server.done("experiments/delete-experiment-tag", json!({ "experiment_id": id, "key": "k" })).await;
    let again = json!({ "experiment_id": id, "key": "k" });
    server.refused("experiments/delete-experiment-tag", again, 404, MISSING, "No tag with name: k in experiment with id").await;
    let bad = json!({ "experiment_id": id, "key": "../k", "value": "v" });
    server.refused("experiments/set-experiment-tag", bad, 400, INVALID, "must not resolve to other names").await;
    let long = json!({ "experiment_id": id, "key": "k", "value": "x".repeat(20_001) });
    server.refused("experiments/set-experiment-tag", long, 400, INVALID, "'value' exceeds the maximum length of 20000").await;

    server.done("experiments/update", json!({ "experiment_id": id, "new_name": "churn-2" })).await;
    server.refused("experiments/update", json!({ "experiment_id": id, "new_name": "Default" }), 400, "RESOURCE_ALREADY_EXISTS", "").await;
    let run = server.run(&id, "r").await;
    server.done("experiments/delete", json!({ "experiment_id": id })).await;
    server.refused("experiments/delete", json!({ "experiment_id": id }), 404, MISSING, "No Experiment with id=").await;
    server.refused("experiments/create", json!({ "name": "churn-2" }), 400, "RESOURCE_ALREADY_EXISTS", "already exists").await;
    server.refused("experiments/update", json!({ "experiment_id": id, "new_name": "x" }), 400, INVALID, "non-active experiment").await;
    server.refused("runs/create", json!({ "experiment_id": id }), 400, INVALID, "must be in the 'active' state").await;
    assert_eq!(server.read(&format!("runs/get?run_id={run}")).await["run"]["info"]["lifecycle_stage"], "deleted");
    server.done("experiments/restore", json!({ "experiment_id": id })).await;
    server.refused("experiments/restore", json!({ "experiment_id": id }), 404, MISSING, "No Experiment").await;
    assert_eq!(server.read(&format!("runs/get?run_id={run}")).await["run"]["info"]["lifecycle_stage"], "active");
}

#[tokio::test]
async fn experiments_never_begin_at_a_path_of_the_server() {
    let server = Server::new().await;
    for location in
        ["/etc", "file:///etc", "my_location", "mlflow-artifacts:/../x", "C:\\x", "http://127.0.0.1/x", "s3://b/../c", "runs:/x"]
    {
        let body = json!({ "name": format!("at {}", location.len()), "artifact_location": location });
        let (status, answer) = server.post("experiments/create", body).await;
        assert_eq!((status, answer["error_code"].as_str()), (400, Some(INVALID)), "{location}: {answer}");
    }
    let body = json!({ "name": "far", "artifact_location": "s3://bucket/far" });
    let id = text(&server.done("experiments/create", body).await["experiment_id"]);
    let run = server.done("runs/create", json!({ "experiment_id": id })).await["run"]["info"].clone();
    assert_eq!(text(&run["artifact_uri"]), format!("s3://bucket/far/{}/artifacts", text(&run["run_id"])));
}

#[tokio::test]
async fn experiments_are_searched_by_get_and_by_post() {
    let server = Server::new().await;
    for name in ["a", "b", "c"] {
        server.world.pass(1);
        server.done("experiments/create", json!({ "name": name, "tags": [{ "key": "n", "value": name }] })).await;
    }
    let names = |answer: &Value| -> Vec<String> {
        answer["experiments"].as_array().map(|list| list.iter().map(|e| text(&e["name"])).collect()).unwrap_or_default()
    };
    let page = server.read("experiments/search?max_results=3").await;
    assert_eq!(names(&page), ["c", "b", "a"]);
    let token = text(&page["next_page_token"]);
    let page = server.done("experiments/search", json!({ "max_results": 3, "page_token": token })).await;
    assert_eq!((names(&page), &page["next_page_token"]), (vec!["Default".into()], &Value::Null));
    let query = "experiments/search?max_results=10&order_by=name%20DESC&filter=tags.n%20IN%20('a','b')%20OR%20name%20=%20'Default'";
    assert_eq!(names(&server.read(query).await), ["b", "a", "Default"]);
    let deleted = text(&server.read("experiments/get-by-name?experiment_name=b").await["experiment"]["experiment_id"]);
    server.done("experiments/delete", json!({ "experiment_id": deleted })).await;
    for (view, count) in [("ACTIVE_ONLY", 3), ("DELETED_ONLY", 1), ("ALL", 4), ("1", 3), ("2", 1), ("3", 4), ("NEWER", 3)] {
        let page = server.read(&format!("experiments/search?max_results=10&view_type={view}")).await;
        assert_eq!(names(&page).len(), count, "{view}");
    }
    server.not_read("experiments/search?view_type=ALL", 400, INVALID, "Invalid value 0 for parameter 'max_results'").await;
    server.not_read("experiments/search?max_results=0", 400, INVALID, "Invalid value 0 for parameter 'max_results'").await;
    server.not_read("experiments/search?max_results=50001", 400, INVALID, "It must be at most 50000").await;
    server.not_read("experiments/search?max_results=5&page_token=abc", 400, INVALID, "could not base64-decode").await;
    server.not_read("experiments/search?max_results=5&filter=x%20=%201", 400, INVALID, "Invalid attribute key 'x'").await;
}
