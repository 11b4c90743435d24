//! Webhooks: kept, tried, told.

use crate::server::Server;
use serde_json::{Value, json};

const INVALID: &str = "INVALID_PARAMETER_VALUE";

fn event(entity: &str, action: &str) -> Value {
    json!({ "entity": entity, "action": action })
}

impl Server {
    async fn hook(&self, events: Value) -> String {
        let ask = json!({ "name": "team", "url": "https://hooks.example/T/abc", "events": events, "secret": "hunter2" });
        self.ok("POST", "webhooks", ask).await["webhook"]["webhook_id"].as_str().expect("text").to_owned()
    }
}

#[tokio::test]
async fn a_webhook_is_made_shown_changed_tried_and_removed_and_never_shows_its_secret() {
    let server = Server::new().await;
    let ask = json!({
        "name": "team", "url": "https://hooks.example/T/abc", "events": [event("REGISTERED_MODEL", "CREATED")], "description": "tells us",
        "secret": "hunter2",
    });
    let (status, made) = server.ask("POST", "webhooks", ask).await;
    assert_eq!(status, 200, "{made}");
    let webhook = &made["webhook"];
    let id = webhook["webhook_id"].as_str().expect("text").to_owned();
    let at = webhook["creation_timestamp"].as_i64().expect("a number");
    let wanted = json!({ "webhook": {
        "webhook_id": id, "name": "team", "description": "tells us", "url": "https://hooks.example/T/abc", "status": "ACTIVE",
        "events": [event("REGISTERED_MODEL", "CREATED")], "creation_timestamp": at, "last_updated_timestamp": at,
    } });
    assert_eq!(made, wanted);
    assert_eq!(server.ok("GET", &format!("webhooks/{id}"), json!(null)).await, wanted);
    let change = json!({ "status": "DISABLED", "name": "other", "events": [event("MODEL_VERSION_TAG", "SET")] });
    let changed = server.ok("PATCH", &format!("webhooks/{id}"), change).await["webhook"].clone();
    assert_eq!(
        (changed["status"].as_str(), changed["name"].as_str(), changed["url"].clone()),
        (Some("DISABLED"), Some("other"), wanted["webhook"]["url"].clone())
    );
    let tried = server.ok("POST", &format!("webhooks/{id}/test"), json!({})).await;
    assert_eq!(tried, json!({ "result": { "success": true, "response_status": 200, "response_body": "ok" } }));
    let tried = server.ok("POST", &format!("webhooks/{id}/test"), json!({ "event": event("PROMPT", "CREATED") })).await;
    assert_eq!(tried["result"]["success"], true);
    let bodies = server.outside.bodies(2).await;
    let told: Vec<_> = bodies.iter().map(|b| (b["entity"].as_str().expect("text"), b["action"].as_str().expect("text"))).collect();
    assert_eq!(told, [("model_version_tag", "set"), ("prompt", "created")]);
    for path in ["webhooks".to_owned(), format!("webhooks/{id}")] {
        assert!(!server.ok("GET", &path, json!(null)).await.to_string().contains("hunter2"));
    }
    assert_eq!(server.ok("DELETE", &format!("webhooks/{id}"), json!(null)).await, json!({}));
    let gone = format!("Webhook with ID {id} not found.");
    for (method, path, body) in
        [("DELETE", "", json!(null)), ("GET", "", json!(null)), ("PATCH", "", json!({})), ("POST", "/test", json!({}))]
    {
        server.refused(method, &format!("webhooks/{id}{path}"), body, (404, "RESOURCE_DOES_NOT_EXIST", &gone)).await;
    }
    assert_eq!(server.ok("GET", "webhooks", json!(null)).await, json!({}));
}

#[tokio::test]
async fn what_does_not_fit_is_said_in_mlflows_words() {
    let server = Server::new().await;
    let good = json!({ "name": "a", "url": "https://hooks.example/x", "events": [event("MODEL_VERSION", "CREATED")] });
    let with = |key: &str, value: Value| {
        let mut ask = good.clone();
        ask[key] = value;
        ask
    };
    for (ask, words) in [
        (with("name", json!("")), "Missing value for required parameter 'name'."),
        (with("name", json!("-x")), "Webhook name '-x' is invalid. It must start and end with a letter or digit"),
        (with("url", json!(" ")), "Webhook URL cannot be empty or just whitespace"),
        (with("url", json!("https://private.example/x")), "Webhook URL must not resolve to a non-public IP address."),
        (with("url", json!(format!("https://x/{}", "a".repeat(2_048)))), "'url' exceeds the maximum length of 2048 characters"),
        (with("events", json!([])), "Webhook events must be a non-empty list"),
        (
            with("events", json!([event("MODEL_VERSION", "DELETED")])),
            "Invalid action 'deleted' for entity 'model_version'. Valid actions are: ['created']",
        ),
        (with("events", json!("x")), "Invalid value \"x\" for parameter 'events' supplied"),
        (with("status", json!("ASLEEP")), "Unknown webhook status: ASLEEP"),
        (with("secret", json!("s".repeat(1_001))), "'secret' exceeds the maximum length of 1000 characters"),
    ] {
        let (status, answer) = server.ask("POST", "webhooks", ask).await;
        assert_eq!((status, answer["error_code"].as_str()), (400, Some(INVALID)), "{words}: {answer}");
        assert!(answer["message"].as_str().expect("text").contains(words), "{words}: {answer}");
    }
    let id = server.hook(json!([event("MODEL_VERSION", "CREATED")])).await;
    server.refused("PATCH", &format!("webhooks/{id}"), json!({ "url": "https://private.example/x" }), (400, INVALID, "non-public")).await;
    server.refused("GET", "webhooks?max_results=1001", json!(null), (400, INVALID, "max_results must be between 1 and 1000.")).await;
}

#[tokio::test]
async fn lists_turn_pages_newest_first() {
    let server = Server::new().await;
    let mut ids = Vec::new();
    for _ in 0..3 {
        server.world.pass(1);
        ids.insert(0, server.hook(json!([event("MODEL_VERSION", "CREATED")])).await);
    }
    let found = |answer: &Value| -> Vec<String> {
        answer["webhooks"].as_array().expect("webhooks").iter().map(|w| w["webhook_id"].as_str().expect("text").to_owned()).collect()
    };
    let first = server.ok("GET", "webhooks?max_results=2", json!(null)).await;
    let token = first["next_page_token"].as_str().expect("more");
    let second = server.ok("GET", &format!("webhooks?max_results=2&page_token={token}"), json!(null)).await;
    assert_eq!((found(&first), found(&second), second.get("next_page_token")), (ids[..2].to_vec(), ids[2..].to_vec(), None));
}

#[tokio::test]
async fn everything_that_happens_is_told_signed_and_in_mlflows_shape() {
    let server = Server::new().await;
    server
        .hook(json!([
            event("REGISTERED_MODEL", "CREATED"),
            event("MODEL_VERSION", "CREATED"),
            event("MODEL_VERSION_TAG", "SET"),
            event("MODEL_VERSION_TAG", "DELETED"),
            event("MODEL_VERSION_ALIAS", "CREATED"),
            event("MODEL_VERSION_ALIAS", "DELETED"),
            event("PROMPT", "CREATED"),
            event("PROMPT_TAG", "SET"),
        ]))
        .await;
    let run = server.registered("m").await;
    server
        .ok("POST", "registered-models/set-tag", json!({ "name": "m", "key": "k", "value": "not told: models have no such event" }))
        .await;
    server.ok("POST", "model-versions/set-tag", json!({ "name": "m", "version": "1", "key": "k", "value": "v" })).await;
    server.ok("DELETE", "model-versions/delete-tag", json!({ "name": "m", "version": "1", "key": "k" })).await;
    server.ok("POST", "registered-models/alias", json!({ "name": "m", "alias": "best", "version": "1" })).await;
    server.ok("DELETE", "registered-models/alias", json!({ "name": "m", "alias": "best" })).await;
    let tag = json!({ "key": "mlflow.prompt.is_prompt", "value": "true" });
    server.ok("POST", "registered-models/create", json!({ "name": "p", "tags": [tag] })).await;
    server.ok("POST", "registered-models/set-tag", json!({ "name": "p", "key": "k", "value": "v" })).await;
    server.ask("POST", "registered-models/create", json!({ "name": "m" })).await;
    let mut told: Vec<(String, Value)> = server
        .outside
        .bodies(8)
        .await
        .into_iter()
        .map(|b| (format!("{}.{}", b["entity"].as_str().expect("text"), b["action"].as_str().expect("text")), b["data"].clone()))
        .collect();
    told.sort_by(|a, b| a.0.cmp(&b.0));
    let source = server.ok("GET", "model-versions/get?name=m&version=1", json!(null)).await["model_version"]["source"].clone();
    let wanted = [
        ("model_version.created", json!({ "name": "m", "version": "1", "source": source, "run_id": run, "tags": {}, "description": null })),
        ("model_version_alias.created", json!({ "name": "m", "alias": "best", "version": "1" })),
        ("model_version_alias.deleted", json!({ "name": "m", "alias": "best" })),
        ("model_version_tag.deleted", json!({ "name": "m", "version": "1", "key": "k" })),
        ("model_version_tag.set", json!({ "name": "m", "version": "1", "key": "k", "value": "v" })),
        ("prompt.created", json!({ "name": "p", "tags": {}, "description": "" })),
        ("prompt_tag.set", json!({ "name": "p", "key": "k", "value": "v" })),
        ("registered_model.created", json!({ "name": "m", "tags": {}, "description": "" })),
    ];
    assert_eq!(told, wanted.map(|(event, data)| (event.to_owned(), data)));
    let posts = server.outside.came.lock().expect("a lock");
    assert!(posts.iter().all(|p| p.headers.iter().any(|(name, value)| *name == "x-mlflow-signature" && value.starts_with("v1,"))));
}
