//! Registered models.

use crate::server::Server;
use serde_json::json;

const NOT_FOUND: (u16, &str, &str) = (404, "RESOURCE_DOES_NOT_EXIST", "Registered Model with name=nobody not found");

#[tokio::test]
async fn a_model_is_made_changed_and_taken_away() {
    let server = Server::new().await;
    let ask = json!({ "name": "Churn Model", "description": "who leaves", "tags": [{ "key": "team", "value": "a" }, { "key": "team", "value": "b" }] });
    let made = server.ok("POST", "registered-models/create", ask).await;
    let at = made["registered_model"]["creation_timestamp"].as_i64().expect("a number");
    let wanted = json!({ "registered_model": {
        "name": "Churn Model", "creation_timestamp": at, "last_updated_timestamp": at, "description": "who leaves",
        "tags": [{ "key": "team", "value": "b" }],
    } });
    assert_eq!(made, wanted);
    assert_eq!(server.ok("GET", "registered-models/get?name=Churn%20Model", json!(null)).await, wanted);
    server.world.pass(5);
    let changed = server.ok("PATCH", "registered-models/update", json!({ "name": "Churn Model", "description": "new" })).await;
    assert_eq!(
        (changed["registered_model"]["description"].as_str(), changed["registered_model"]["last_updated_timestamp"].as_i64()),
        (Some("new"), Some(at + 5_000))
    );
    let renamed = server.ok("POST", "registered-models/rename", json!({ "name": "Churn Model", "new_name": "churn" })).await;
    assert_eq!(renamed["registered_model"]["name"], "churn");
    server
        .refused(
            "GET",
            "registered-models/get?name=Churn%20Model",
            json!(null),
            (404, "RESOURCE_DOES_NOT_EXIST", "Registered Model with name=Churn Model not found"),
        )
        .await;
    assert_eq!(server.ok("POST", "registered-models/set-tag", json!({ "name": "churn", "key": "x", "value": "" })).await, json!({}));
    for _ in 0..2 {
        assert_eq!(
            server.ok("DELETE", "registered-models/delete-tag", json!({ "name": "churn", "key": "team" })).await,
            json!({}),
            "twice is fine"
        );
    }
    let got = server.ok("GET", "registered-models/get?name=churn", json!(null)).await;
    assert_eq!(got["registered_model"]["tags"], json!([{ "key": "x", "value": "" }]));
    assert_eq!(server.ok("DELETE", "registered-models/delete", json!({ "name": "churn" })).await, json!({}));
    let gone = (404, "RESOURCE_DOES_NOT_EXIST", "Registered Model with name=churn not found");
    server.refused("DELETE", "registered-models/delete", json!({ "name": "churn" }), gone).await;
}

#[tokio::test]
async fn a_taken_name_says_by_what_it_is_taken() {
    let server = Server::new().await;
    let prompt = json!([{ "key": "mlflow.prompt.is_prompt", "value": "true" }]);
    server.ok("POST", "registered-models/create", json!({ "name": "m" })).await;
    server.ok("POST", "registered-models/create", json!({ "name": "p", "tags": prompt })).await;
    let taken = |words| (400, "RESOURCE_ALREADY_EXISTS", words);
    server.refused("POST", "registered-models/create", json!({ "name": "m" }), taken("Registered Model (name=m) already exists.")).await;
    server
        .refused("POST", "registered-models/create", json!({ "name": "p", "tags": prompt }), taken("Prompt (name=p) already exists."))
        .await;
    server
        .refused(
            "POST",
            "registered-models/create",
            json!({ "name": "p" }),
            taken("Tried to create a registered model with name 'p', but the name is already taken by a prompt."),
        )
        .await;
    server
        .refused(
            "POST",
            "registered-models/rename",
            json!({ "name": "m", "new_name": "p" }),
            taken("Registered Model (name=p) already exists."),
        )
        .await;
}

#[tokio::test]
async fn what_is_unknown_or_wrong_is_said_in_mlflows_words() {
    let server = Server::new().await;
    for (method, path, body) in [
        ("GET", "registered-models/get?name=nobody", json!(null)),
        ("PATCH", "registered-models/update", json!({ "name": "nobody", "description": "x" })),
        ("POST", "registered-models/rename", json!({ "name": "nobody", "new_name": "x" })),
        ("DELETE", "registered-models/delete", json!({ "name": "nobody" })),
        ("POST", "registered-models/set-tag", json!({ "name": "nobody", "key": "k", "value": "v" })),
        ("DELETE", "registered-models/delete-tag", json!({ "name": "nobody", "key": "k" })),
        ("GET", "registered-models/get-latest-versions?name=nobody", json!(null)),
        ("POST", "registered-models/get-latest-versions", json!({ "name": "nobody" })),
    ] {
        server.refused(method, path, body, NOT_FOUND).await;
    }
    server.ok("POST", "registered-models/create", json!({ "name": "m" })).await;
    let invalid = |words| (400, "INVALID_PARAMETER_VALUE", words);
    for (method, path, body, words) in [
        ("POST", "registered-models/create", json!({}), "Missing value for required parameter 'name'. See the API docs"),
        ("POST", "registered-models/create", json!({ "name": 5 }), "Invalid value 5 for parameter 'name' supplied"),
        ("POST", "registered-models/create", json!({ "name": "a/b" }), "Invalid model name 'a/b'. Names cannot contain '/' or ':'."),
        ("POST", "registered-models/rename", json!({ "name": "m", "new_name": "a:b" }), "Invalid model name 'a:b'."),
        ("POST", "registered-models/rename", json!({ "name": "m" }), "Missing value for required parameter 'new_name'."),
        (
            "POST",
            "registered-models/set-tag",
            json!({ "name": "m", "key": "../k", "value": "v" }),
            "Names may be treated as files in certain cases",
        ),
        (
            "POST",
            "registered-models/set-tag",
            json!({ "name": "m", "key": "k".repeat(251), "value": "v" }),
            "'key' exceeds the maximum length of 250 characters",
        ),
        (
            "POST",
            "registered-models/set-tag",
            json!({ "name": "m", "key": "k", "value": "v".repeat(100_001) }),
            "'value' exceeds the maximum length of 100000 characters",
        ),
        ("GET", "registered-models/search?max_results=1001", json!(null), "Invalid value \"1001\" for parameter 'max_results' supplied"),
        ("GET", "registered-models/search?page_token=x", json!(null), "Invalid page token, could not base64-decode"),
        ("GET", "registered-models/search?filter=nonsense", json!(null), ""),
        (
            "GET",
            "registered-models/get-latest-versions?name=m&stages=Nowhere",
            json!(null),
            "Invalid Model Version stage: Nowhere. Value must be one of None, Staging, Production, Archived.",
        ),
    ] {
        server.refused(method, path, body, invalid(words)).await;
    }
}

#[tokio::test]
async fn searches_hide_prompts_and_turn_pages() {
    let server = Server::new().await;
    for name in ["c", "a", "b"] {
        server.world.pass(1);
        server.ok("POST", "registered-models/create", json!({ "name": name, "tags": [{ "key": "team", "value": name }] })).await;
    }
    let prompt = json!([{ "key": "mlflow.prompt.is_prompt", "value": "true" }]);
    server.ok("POST", "registered-models/create", json!({ "name": "prompt", "tags": prompt })).await;
    let names = |answer: &serde_json::Value| -> Vec<String> {
        let models = answer["registered_models"].as_array().cloned().unwrap_or_default();
        models.iter().map(|m| m["name"].as_str().expect("a name").to_owned()).collect()
    };
    for (query, wanted) in [
        ("", &["a", "b", "c"][..]),
        ("filter=tags.%60mlflow.prompt.is_prompt%60%20!%3D%20'true'", &["a", "b", "c"]),
        ("filter=tag.%60mlflow.prompt.is_prompt%60%20%3D%20'false'", &["a", "b", "c"]),
        ("filter=tags.%60mlflow.prompt.is_prompt%60%20%3D%20'true'", &["prompt"]),
        ("filter=name%20%3D%20'b'", &["b"]),
        ("filter=name%20ILIKE%20'%25B%25'", &["b"]),
        ("filter=name%20IN%20('a'%2C%20'c'%2C%20'x')", &["a", "c"]),
        ("filter=tags.team%20%3D%20'a'%20AND%20name%20LIKE%20'%25'", &["a"]),
        ("filter=tags.team%20!%3D%20'a'", &["b", "c"]),
        ("order_by=timestamp%20DESC", &["b", "a", "c"]),
        ("order_by=name%20DESC", &["c", "b", "a"]),
        ("filter=name%20%3D%20'x'", &[]),
    ] {
        let answer = server.ok("GET", &format!("registered-models/search?{query}"), json!(null)).await;
        assert_eq!(names(&answer), wanted, "{query}");
        assert!(answer.get("next_page_token").is_none());
    }
    let first = server.ok("GET", "registered-models/search?max_results=2", json!(null)).await;
    let token = first["next_page_token"].as_str().expect("more");
    let second = server.ok("GET", &format!("registered-models/search?max_results=2&page_token={token}"), json!(null)).await;
    assert_eq!((names(&first), names(&second), second.get("next_page_token")), (vec!["a".into(), "b".into()], vec!["c".into()], None));
}

#[tokio::test]
async fn the_newest_of_each_stage_is_found_by_get_and_post() {
    let server = Server::new().await;
    let run = server.registered("m").await;
    let source = server.ok("GET", "model-versions/get?name=m&version=1", json!(null)).await["model_version"]["source"].clone();
    for _ in 0..2 {
        server.ok("POST", "model-versions/create", json!({ "name": "m", "source": source, "run_id": run })).await;
    }
    server.ok("POST", "model-versions/transition-stage", json!({ "name": "m", "version": "2", "stage": "production" })).await;
    server.ok("POST", "registered-models/alias", json!({ "name": "m", "alias": "best", "version": "3" })).await;
    let all = server.ok("POST", "registered-models/get-latest-versions", json!({ "name": "m" })).await;
    let mut found: Vec<(String, String)> = all["model_versions"]
        .as_array()
        .expect("versions")
        .iter()
        .map(|v| (v["current_stage"].as_str().expect("text").to_owned(), v["version"].as_str().expect("text").to_owned()))
        .collect();
    found.sort();
    assert_eq!(found, [("None".into(), "3".into()), ("Production".into(), "2".into())]);
    let one = server.ok("GET", "registered-models/get-latest-versions?name=m&stages=None&stages=Staging", json!(null)).await;
    assert_eq!((one["model_versions"].as_array().map(Vec::len), one["model_versions"][0]["aliases"].clone()), (Some(1), json!(["best"])));
    let model = server.ok("GET", "registered-models/get?name=m", json!(null)).await["registered_model"].clone();
    assert_eq!(model["aliases"], json!([{ "alias": "best", "version": "3" }]));
    assert_eq!(model["latest_versions"].as_array().map(Vec::len), Some(2));
    assert!(model["latest_versions"][0].get("aliases").is_none(), "as in MLflow, versions in a model do not repeat its aliases");
}
