//! MLflow's protocol, asked as its clients ask: each operation works, works twice, names the unknown, and refuses strangers.

mod support;

use gristmill_web::{Body, Permission, Request};
use serde_json::{Value, json};
use support::mlflow::{Server, assert_refused, text};

const INVALID: &str = "INVALID_PARAMETER_VALUE";
const MISSING: &str = "RESOURCE_DOES_NOT_EXIST";

fn pairs(list: &Value) -> Vec<(String, String)> {
    let list = list.as_array().cloned().unwrap_or_default();
    list.iter().map(|p| (text(&p["key"]), text(&p["value"]))).collect()
}

fn value_of(list: &Value, key: &str) -> Option<String> {
    pairs(list).into_iter().find(|(k, _)| k == key).map(|(_, v)| v)
}

#[tokio::test]
async fn every_route_refuses_strangers_in_mlflows_shape() {
    let server = Server::new().await;
    let mut public = Vec::new();
    for route in server.routes.iter() {
        let path = route.path.replace("{*rest}", "gateway/x").replace(['{', '}'], "");
        let method = route.method.as_str();
        if route.permission == Permission::Public {
            public.push(format!("{method} {path}"));
            continue;
        }
        let body = json!({});
        let answer = server.ask(method, &path, None, Some(&body)).await;
        assert_refused(&format!("{method} {path}"), &answer, 401, "UNAUTHENTICATED", "no token");
        let answer = server.ask(method, &path, Some("reader"), Some(&body)).await;
        match route.permission {
            Permission::ReadProject => assert!(![401, 403].contains(&answer.0), "{method} {path}: {answer:?}"),
            _ => assert_refused(&format!("{method} {path}"), &answer, 403, "PERMISSION_DENIED", "may not do this"),
        }
    }
    public.sort();
    let told = ["3.0/mlflow/server-features", "3.0/mlflow/server-info", "3.0/mlflow/ui-telemetry"];
    assert!(public.iter().all(|p| p.ends_with("/health") || p.ends_with("/version") || told.iter().any(|t| p.ends_with(t))), "{public:?}");
}

#[tokio::test]
async fn clients_find_out_whom_they_talk_to() {
    let server = Server::new().await;
    let ask = async |path: &str| server.ask("GET", path, None, None).await;
    assert_eq!(ask("/health").await, (200, json!("OK")));
    assert_eq!(ask("/version").await, (200, json!("3.17.2")));
    for base in ["/api", "/ajax-api"] {
        let (status, info) = ask(&format!("{base}/3.0/mlflow/server-info")).await;
        assert_eq!((status, &info["workspaces_enabled"], &info["store_type"]), (200, &json!(false), &json!("SqlStore")));
    }
    server.not_read("nothing/here", 404, "ENDPOINT_NOT_FOUND", "there is no GET /api/2.0/mlflow/nothing/here").await;
    server.not_read("gateway/endpoints/list", 501, "NOT_IMPLEMENTED", "gateway").await;
    let answer = server.ask("POST", "/graphql", Some("root"), Some(&json!({ "query": "{}" }))).await;
    assert_refused("graphql", &answer, 501, "NOT_IMPLEMENTED", "GraphQL");
    let (status, answer) = server.get("runs/create").await;
    assert_eq!((status, answer["error_code"].as_str()), (405, Some("ENDPOINT_NOT_FOUND")));
}

#[tokio::test]
async fn requests_say_what_they_send_and_unknown_fields_are_passed_over() {
    let server = Server::new().await;
    let post = |kind: Option<&str>, body: &str| {
        let mut request = Request::builder().method("POST").uri("/api/2.0/mlflow/experiments/create").header("host", "localhost");
        request = request.header("authorization", "Bearer root");
        if let Some(kind) = kind {
            request = request.header("content-type", kind);
        }
        server.send(request.body(Body::from(body.to_owned())).expect("a request"))
    };
    let refused = post(None, r#"{"name":"a"}"#).await;
    assert_refused("without a type", &refused, 400, INVALID, "Bad Request. Content-Type header is missing.");
    let refused = post(Some("text/plain"), r#"{"name":"a"}"#).await;
    assert_refused("of another type", &refused, 400, INVALID, "Content-Type must be one of ['application/json'].");
    assert_eq!(post(Some("application/json; charset=utf-8"), r#"{"name":"a","new_in_4":{"x":[1]}}"#).await.0, 200);
    server.refused("experiments/create", json!({}), 400, INVALID, "Missing value for required parameter 'name'").await;
    server.refused("experiments/create", json!({ "name": 123 }), 400, INVALID, "Invalid value 123 for parameter 'name'").await;
    server
        .refused("experiments/create", json!({ "name": "x", "tags": "5" }), 400, INVALID, "Invalid value \"5\" for parameter 'tags'")
        .await;
    let body = json!({ "name": "x", "artifact_location": 9.0 });
    server.refused("experiments/create", body, 400, INVALID, "Invalid value 9.0 for parameter 'artifact_location'").await;
}

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
    // The ledger made `Default` by the clock of this machine.
    server.world.pass(1_000 * 86_400);
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
    for (view, count) in [("ACTIVE_ONLY", 3), ("DELETED_ONLY", 1), ("ALL", 4), ("1", 3), ("2", 1), ("3", 4)] {
        let page = server.read(&format!("experiments/search?max_results=10&view_type={view}")).await;
        assert_eq!(names(&page).len(), count, "{view}");
    }
    server.not_read("experiments/search?max_results=0", 400, INVALID, "Invalid value 0 for parameter 'max_results'").await;
    server.not_read("experiments/search?max_results=50001", 400, INVALID, "It must be at most 50000").await;
    server.not_read("experiments/search?max_results=5&page_token=%25", 400, INVALID, "could not base64-decode").await;
    server
        .not_read("experiments/search?max_results=5&view_type=SOME", 400, INVALID, "Invalid value \"SOME\" for parameter 'view_type'")
        .await;
    server.not_read("experiments/search?max_results=5&filter=x%20=%201", 400, INVALID, "Invalid attribute key 'x'").await;
}

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

    let named = server.done("runs/create", json!({ "tags": [{ "key": "mlflow.runName", "value": "from tag" }] })).await;
    assert_eq!(named["run"]["info"]["run_name"], "from tag");
    let invented = server.done("runs/create", json!({})).await["run"].clone();
    let name = text(&invented["info"]["run_name"]);
    assert_eq!((name.split('-').count(), value_of(&invented["data"]["tags"], "mlflow.runName")), (3, Some(name)));
    let twice = json!({ "run_name": "a", "tags": [{ "key": "mlflow.runName", "value": "b" }] });
    server.refused("runs/create", twice, 400, INVALID, "Both 'run_name' argument and 'mlflow.runName' tag are specified").await;
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
    for (word, shown) in [("KILLED", "KILLED"), ("SCHEDULED", "SCHEDULED"), ("RUNNING", "RUNNING")] {
        let info = server.done("runs/update", json!({ "run_id": id, "status": word })).await["run_info"].clone();
        assert_eq!(info["status"], shown);
    }
    server
        .refused("runs/update", json!({ "run_id": id, "status": "DONE" }), 400, INVALID, "Invalid value \"DONE\" for parameter 'status'")
        .await;
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
