//! Coming in: who may, what is there, and how requests are written.

use crate::server::{INVALID, Server, assert_refused};
use gristmill_web::{Body, Permission, Request};
use serde_json::json;

#[tokio::test]
async fn every_route_refuses_strangers_in_mlflows_shape() {
    let server = Server::new().await;
    let mut public = Vec::new();
    for route in server.routes.iter() {
        let path = route.path.replace("{*rest}", "gateway/x").replace("{*path}", "0/r/x").replace(['{', '}'], "");
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
    // Addresses that carry their own permission are another side's, and tried there.
    public.retain(|path| !path.contains("mlflow-artifacts"));
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
