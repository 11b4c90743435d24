//! Versions of registered models.

use crate::server::Server;
use serde_json::{Value, json};

const INVALID: &str = "INVALID_PARAMETER_VALUE";

#[tokio::test]
async fn a_version_is_what_lies_under_its_source() {
    let server = Server::new().await;
    server.ok("POST", "registered-models/create", json!({ "name": "m" })).await;
    let (run, key) = server.run_with_model().await;
    let source = format!("mlflow-artifacts:/{key}");
    let ask = json!({ "name": "m", "source": source, "run_id": run, "description": "first", "tags": [{ "key": "a", "value": "b" }] });
    let made = server.ok("POST", "model-versions/create", ask).await["model_version"].clone();
    let at = made["creation_timestamp"].as_i64().expect("a number");
    let wanted = json!({
        "name": "m", "version": "1", "creation_timestamp": at, "last_updated_timestamp": at, "current_stage": "None", "description": "first",
        "source": source, "run_id": run, "run_link": "", "status": "READY", "tags": [{ "key": "a", "value": "b" }],
    });
    assert_eq!(made, wanted);
    assert_eq!(server.ok("GET", "model-versions/get?name=m&version=1", json!(null)).await["model_version"], wanted);
    let uri = server.ok("GET", "model-versions/get-download-uri?name=m&version=1", json!(null)).await;
    assert_eq!(uri, json!({ "artifact_uri": source }));
    // The files of the version stay, whatever happens to those of the run; and it is a version of the asset in the ledger.
    let which = gristmill_kernel::version::Which::Number(1);
    let version =
        server.world.ports.ledger.version(&"models.m".parse().expect("an address"), &which).await.expect("read").expect("is there");
    assert_eq!(version.id.to_string(), "models.m@1");
    let (status, headers, body) = server.file("GET", "/model-versions/get-artifact?name=m&version=1&path=data/model.bin", &[], "").await;
    assert_eq!(
        (status, &body[..], headers["content-disposition"].to_str().ok()),
        (200, &b"weights"[..], Some("attachment; filename=model.bin"))
    );
}

#[tokio::test]
async fn a_logged_model_becomes_a_version_and_remembers_it() {
    let server = Server::new().await;
    for name in ["m", "n"] {
        server.ok("POST", "registered-models/create", json!({ "name": name })).await;
    }
    let (model, run) = server.logged_model().await;
    let ask = |name: &str| json!({ "name": name, "source": format!("models:/{model}"), "model_id": model });
    let made = server.ok("POST", "model-versions/create", ask("m")).await["model_version"].clone();
    assert_eq!((made["run_id"].as_str(), made["source"].as_str()), (Some(run.as_str()), Some(format!("models:/{model}").as_str())));
    server.ok("POST", "model-versions/create", ask("n")).await;
    let shown = server.ok("GET", &format!("logged-models/{model}"), json!(null)).await["model"].clone();
    let tag =
        shown["info"]["tags"].as_array().expect("tags").iter().find(|t| t["key"] == "mlflow.modelVersions").cloned().expect("the tag");
    assert_eq!(tag["value"], r#"[{"name": "m", "version": 1}, {"name": "n", "version": 1}]"#);
    let uri = server.ok("GET", "model-versions/get-download-uri?name=m&version=1", json!(null)).await["artifact_uri"].clone();
    assert_eq!(uri, shown["info"]["artifact_uri"]);
    let (status, _, body) = server.file("GET", "/model-versions/get-artifact?name=m&version=1&path=MLmodel", &[], "").await;
    assert_eq!((status, &body[..]), (200, &b"flavors: {onnx}"[..]));
    // The model is named beside the source; none or another one is a contradiction.
    let ask = json!({ "name": "m", "source": format!("models:/{model}") });
    server.refused("POST", "model-versions/create", ask, (400, INVALID, "The model_id request parameter must identify the resource")).await;
    let (other, _) = server.logged_model().await;
    let ask = json!({ "name": "m", "source": format!("models:/{model}"), "model_id": other });
    server.refused("POST", "model-versions/create", ask, (400, INVALID, "The model_id request parameter must identify the resource")).await;
    let ask = json!({ "name": "m", "source": "models:/m-nobody", "model_id": "m-nobody" });
    server.refused("POST", "model-versions/create", ask, (400, INVALID, "The model_id request parameter must identify the resource")).await;
}

#[tokio::test]
async fn a_version_is_copied_by_number_stage_and_alias() {
    let server = Server::new().await;
    let run = server.registered("m").await;
    server.ok("POST", "registered-models/create", json!({ "name": "copy" })).await;
    server.ok("POST", "registered-models/alias", json!({ "name": "m", "alias": "best", "version": "1" })).await;
    server.ok("POST", "model-versions/transition-stage", json!({ "name": "m", "version": "1", "stage": "Staging" })).await;
    for source in ["models:/m/1", "models:/m@best", "models:/m/staging", "models:/m/latest"] {
        let made = server.ok("POST", "model-versions/create", json!({ "name": "copy", "source": source })).await["model_version"].clone();
        assert_eq!((made["source"].as_str(), made["run_id"].as_str()), (Some("models:/m/1"), Some(run.as_str())), "{source}");
    }
    let of = |name: &str| format!("model-versions/get-download-uri?name={name}&version=1");
    assert_eq!(server.ok("GET", &of("copy"), json!(null)).await, server.ok("GET", &of("m"), json!(null)).await);
    let (status, _, body) = server.file("GET", "/model-versions/get-artifact?name=copy&version=2&path=MLmodel", &[], "").await;
    assert_eq!((status, &body[..]), (200, &b"flavors: {}"[..]));
    let words = "The run_id and model_id request parameters must match the referenced model version.";
    server
        .refused(
            "POST",
            "model-versions/create",
            json!({ "name": "copy", "source": "models:/m/1", "run_id": "other" }),
            (400, INVALID, words),
        )
        .await;
    server
        .refused(
            "POST",
            "model-versions/create",
            json!({ "name": "copy", "source": "models:/m/Archived" }),
            (400, INVALID, "No versions of model with name 'm' and stage 'Archived' found"),
        )
        .await;
    server
        .refused(
            "POST",
            "model-versions/create",
            json!({ "name": "copy", "source": "models:/m/9" }),
            (404, "RESOURCE_DOES_NOT_EXIST", "Model Version (name=m, version=9) not found"),
        )
        .await;
    server
        .refused(
            "POST",
            "model-versions/create",
            json!({ "name": "copy", "source": "models:/nobody/1" }),
            (404, "RESOURCE_DOES_NOT_EXIST", "Registered Model with name=nobody not found"),
        )
        .await;
}

#[tokio::test]
async fn sources_elsewhere_are_written_down_and_others_refused() {
    let server = Server::new().await;
    server.ok("POST", "registered-models/create", json!({ "name": "m" })).await;
    let (run, key) = server.run_with_model().await;
    let (other, _) = server.run_with_model().await;
    for source in ["s3://bucket/model", "https://example.org/model", "dbfs:/models/x", &format!("runs:/{run}/model")] {
        let made = server.ok("POST", "model-versions/create", json!({ "name": "m", "source": source, "run_id": run })).await;
        assert_eq!(made["model_version"]["source"].as_str(), Some(source));
    }
    let (status, answer) = server.asked(Some("all"), "GET", "/model-versions/get-artifact?name=m&version=1&path=x", None).await;
    assert_eq!((status, answer["error_code"].as_str()), (501, Some("NOT_IMPLEMENTED")), "nothing is fetched from elsewhere");
    for (source, run, words) in [
        ("/etc/passwd", Some(&run), "To use a local path as a model version source, the run_id request parameter"),
        ("file:///etc/passwd", None, "To use a local path as a model version source, the run_id request parameter"),
        (
            &format!("mlflow-artifacts:/{key}"),
            Some(&other),
            "The run_id request parameter must identify the resource that contains the source.",
        ),
        (&format!("mlflow-artifacts:/{key}"), None, "The run_id request parameter must identify the resource that contains the source."),
        (&format!("mlflow-artifacts:/{key}/../../x"), Some(&run), "If supplying a source as an http, https,"),
        (&format!("runs:/{run}/model"), Some(&other), "The run_id request parameter must identify"),
        (&format!("runs:/{run}/model"), None, "The run_id request parameter must identify"),
        ("s3://bucket/../x", Some(&run), "If supplying a source as an http, https,"),
    ] {
        let ask = match run {
            Some(run) => json!({ "name": "m", "source": source, "run_id": run }),
            None => json!({ "name": "m", "source": source }),
        };
        server.refused("POST", "model-versions/create", ask, (400, INVALID, words)).await;
    }
    let ask = json!({ "name": "m", "source": "/tmp/x", "model_id": "m-1" });
    server.refused("POST", "model-versions/create", ask, (400, INVALID, "the model_id request parameter has to be specified")).await;
    let ask = json!({ "name": "nobody", "source": "s3://b/x" });
    server
        .refused("POST", "model-versions/create", ask, (404, "RESOURCE_DOES_NOT_EXIST", "Registered Model with name=nobody not found"))
        .await;
}

#[tokio::test]
async fn prompts_are_models_with_a_tag() {
    let server = Server::new().await;
    let tag = json!({ "key": "mlflow.prompt.is_prompt", "value": "true" });
    server.ok("POST", "registered-models/create", json!({ "name": "p", "tags": [tag] })).await;
    let text = json!({ "key": "mlflow.prompt.text", "value": "Hello {{name}}" });
    let ask = json!({ "name": "p", "source": "dummy-source", "tags": [tag, text] });
    assert_eq!(server.ok("POST", "model-versions/create", ask).await["model_version"]["version"], "1");
    let ask = json!({ "name": "p", "source": "s3://b/x", "tags": [tag, text] });
    server
        .refused(
            "POST",
            "model-versions/create",
            ask,
            (400, INVALID, "Invalid prompt source: 's3://b/x'. Prompt sources must use an MLflow placeholder."),
        )
        .await;
    server.ok("POST", "registered-models/create", json!({ "name": "m" })).await;
    server
        .refused(
            "POST",
            "model-versions/create",
            json!({ "name": "m", "source": "models:/p/1" }),
            (400, INVALID, "Prompt versions cannot be used as model version sources."),
        )
        .await;
    let all = server.ok("GET", "model-versions/search", json!(null)).await;
    assert_eq!(all, json!({}), "searches do not show them");
    let asked = server.ok("GET", "model-versions/search?filter=tags.%60mlflow.prompt.is_prompt%60%20%3D%20'true'", json!(null)).await;
    assert_eq!(asked["model_versions"].as_array().map(Vec::len), Some(1));
}

#[tokio::test]
async fn a_version_is_described_tagged_staged_and_deleted() {
    let server = Server::new().await;
    let run = server.registered("m").await;
    let source = server.ok("GET", "model-versions/get?name=m&version=1", json!(null)).await["model_version"]["source"].clone();
    server.ok("POST", "model-versions/create", json!({ "name": "m", "source": source, "run_id": run })).await;
    let said = server.ok("PATCH", "model-versions/update", json!({ "name": "m", "version": "1", "description": "better" })).await;
    assert_eq!(said["model_version"]["description"], "better");
    assert_eq!(
        server.ok("POST", "model-versions/set-tag", json!({ "name": "m", "version": "1", "key": "k", "value": "v" })).await,
        json!({})
    );
    for _ in 0..2 {
        server.ok("DELETE", "model-versions/delete-tag", json!({ "name": "m", "version": "1", "key": "k" })).await;
    }
    let stage = |version: &str, stage: &str, archive: bool| json!({ "name": "m", "version": version, "stage": stage, "archive_existing_versions": archive });
    let moved = server.ok("POST", "model-versions/transition-stage", stage("1", "PRODUCTION", false)).await;
    assert_eq!(moved["model_version"]["current_stage"], "Production");
    server.ok("POST", "model-versions/transition-stage", stage("2", "Production", true)).await;
    let first = server.ok("GET", "model-versions/get?name=m&version=1", json!(null)).await;
    assert_eq!(first["model_version"]["current_stage"], "Archived");
    assert_eq!(server.world.alias("models.m", "champion").await, None, "a stage moves no alias");
    let words = "Model version transition cannot archive existing model versions because 'None' is not an Active stage. Valid stages are ['Staging', 'Production']";
    server.refused("POST", "model-versions/transition-stage", stage("1", "None", true), (400, INVALID, words)).await;
    server
        .refused(
            "POST",
            "model-versions/transition-stage",
            stage("1", "Nowhere", false),
            (400, INVALID, "Invalid Model Version stage: Nowhere."),
        )
        .await;
    server.ok("POST", "registered-models/alias", json!({ "name": "m", "alias": "best", "version": "2" })).await;
    assert_eq!(server.ok("DELETE", "model-versions/delete", json!({ "name": "m", "version": "2" })).await, json!({}));
    let gone = (404, "RESOURCE_DOES_NOT_EXIST", "Model Version (name=m, version=2) not found");
    server.refused("DELETE", "model-versions/delete", json!({ "name": "m", "version": "2" }), gone).await;
    server
        .refused("GET", "registered-models/alias?name=m&alias=best", json!(null), (400, INVALID, "Registered model alias best not found."))
        .await;
    let next = server.ok("POST", "model-versions/create", json!({ "name": "m", "source": source, "run_id": run })).await;
    assert_eq!(next["model_version"]["version"], "3", "a number is never given again");
}

#[tokio::test]
async fn unknown_versions_and_bad_numbers_are_told_apart() {
    let server = Server::new().await;
    server.registered("m").await;
    for (method, path, more) in [
        ("GET", "model-versions/get", json!({})),
        ("GET", "model-versions/get-download-uri", json!({})),
        ("PATCH", "model-versions/update", json!({ "description": "x" })),
        ("DELETE", "model-versions/delete", json!({})),
        ("POST", "model-versions/transition-stage", json!({ "stage": "Staging" })),
        ("POST", "model-versions/set-tag", json!({ "key": "k", "value": "v" })),
        ("DELETE", "model-versions/delete-tag", json!({ "key": "k" })),
    ] {
        for (name, version, wanted) in [
            ("m", "9", (404, "RESOURCE_DOES_NOT_EXIST", "Model Version (name=m, version=9) not found")),
            ("nobody", "1", (404, "RESOURCE_DOES_NOT_EXIST", "Model Version (name=nobody, version=1) not found")),
            ("m", "one", (400, INVALID, "Parameter 'version' must be an integer, got 'one'.")),
            ("m", "", (400, INVALID, "Missing value for required parameter 'version'.")),
        ] {
            if path.ends_with("get-download-uri") && version.is_empty() {
                let wanted = (400, INVALID, "Parameter 'version' must be an integer, got ''.");
                server.refused(method, &format!("{path}?name={name}&version="), json!(null), wanted).await;
            } else if method == "GET" {
                server.refused(method, &format!("{path}?name={name}&version={version}"), json!(null), wanted).await;
            } else {
                let mut body = more.clone();
                body["name"] = json!(name);
                body["version"] = json!(version);
                server.refused(method, path, body, wanted).await;
            }
        }
    }
}

#[tokio::test]
async fn versions_are_searched() {
    let server = Server::new().await;
    for name in ["b", "a"] {
        server.world.pass(1);
        server.registered(name).await;
    }
    server.world.pass(1);
    let run = server.registered("c").await;
    let found = |answer: &Value| -> Vec<String> {
        let versions = answer["model_versions"].as_array().cloned().unwrap_or_default();
        versions.iter().map(|v| v["name"].as_str().expect("a name").to_owned()).collect()
    };
    for (query, wanted) in [
        (String::new(), &["c", "a", "b"][..]),
        ("filter=name%3D'a'".into(), &["a"]),
        (format!("filter=run_id%3D'{run}'"), &["c"]),
        (format!("filter=run_id%20IN%20('{run}'%2C'x')"), &["c"]),
        ("filter=version_number%20%3E%201".into(), &[]),
        ("filter=source_path%20LIKE%20'mlflow-artifacts%25'%20AND%20name%20!%3D%20'a'".into(), &["c", "b"]),
        ("order_by=name%20ASC".into(), &["a", "b", "c"]),
        ("order_by=creation_timestamp%20ASC".into(), &["b", "a", "c"]),
    ] {
        let answer = server.ok("GET", &format!("model-versions/search?{query}"), json!(null)).await;
        assert_eq!(found(&answer), wanted, "{query}");
    }
    let first = server.ok("GET", "model-versions/search?max_results=2&order_by=name", json!(null)).await;
    let token = first["next_page_token"].as_str().expect("more");
    let second = server.ok("GET", &format!("model-versions/search?max_results=2&order_by=name&page_token={token}"), json!(null)).await;
    assert_eq!((found(&first).len(), found(&second), second.get("next_page_token")), (2, vec!["c".to_owned()], None));
    server
        .refused("GET", "model-versions/search?max_results=0", json!(null), (400, INVALID, "It must be a positive integer, but got 0"))
        .await;
    server
        .refused(
            "GET",
            "model-versions/search?filter=color%3D'red'",
            json!(null),
            (400, INVALID, "Invalid attribute key 'color' specified."),
        )
        .await;
}
