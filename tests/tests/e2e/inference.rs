//! Clients of inference servers, unmodified: Triton's and KServe's over REST and gRPC, MLflow's scoring, and what users of others send.
//!
//! All of them ask for the same three customers, and get the same numbers, to the bit, as `POST /predict` gives.

use gristmill_tests::{Project, Ran, Server, client, clients};
use serde_json::{Value, json};
use std::process::Command;

/// An endpoint, a token for it (`serve` wants one, `dev` does not), and what it says of the three customers.
fn served(command: &str) -> (Project, Server, String, Vec<f64>, Vec<String>) {
    let project = Project::shop();
    project.run(&["apply", "--yes"]).good();
    let token = project.run(&["token", "new", "app", "--role", "editor"]).good().out.trim().to_owned();
    let server = project.start(&[command, "--port", "0"]);
    let rows = json!({ "rows": [{ "customer_id": 7 }, { "customer_id": 8 }, { "customer_id": 777 }] });
    let answer: Value = server.wait_for("the endpoint", 60, |s| {
        let answer = client().post(format!("{}/predict/buys", s.url)).bearer_auth(&token).json(&rows).send().expect("an answer");
        (answer.status() == 200).then(|| answer.json().expect("JSON"))
    });
    let of = |key: &str| answer["predictions"].as_array().expect("rows").iter().map(|p| p[key].clone()).collect::<Vec<Value>>();
    let scores = of("score").iter().map(|s| s.as_f64().expect("a score")).collect();
    let outcomes = of("outcome").iter().map(|o| o.as_str().expect("a class").to_owned()).collect();
    (project, server, token, scores, outcomes)
}

/// What a script says, as JSON.
fn told(venv: &str, script: &str, args: &[&str]) -> Value {
    let script = gristmill_tests::folder().join("inference").join(script);
    let ran: Ran = Command::new(clients::python(venv)).arg(script).args(args).output().expect("Python starts").into();
    serde_json::from_str(ran.good().out.lines().last().expect("a line")).expect("JSON")
}

#[test]
#[ignore = "needs Python and PyPI: cargo test -- --include-ignored"]
fn tritons_clients_get_the_same_numbers_by_every_way() {
    let (_project, server, token, scores, outcomes) = served("serve");
    let told = told("inference", "triton.py", &[&server.url, &token, "buys"]);
    let same = json!({ "score": scores, "outcome": outcomes });
    for (way, keys) in [
        ("http", &["binary", "json", "version", "urgent", "async", "gzip", "deflate"][..]),
        ("grpc", &["binary", "version", "urgent", "async", "gzip", "deflate"]),
    ] {
        for key in keys {
            assert_eq!(told[way][*key], same, "{way} {key}");
        }
        let about = &told[way];
        assert_eq!((&about["live"], &about["server"], &about["counted"]), (&json!(true), &json!("gristmill"), &json!(true)), "{about}");
        assert_eq!(about["index"], json!([["buys", "1", "READY"]]));
        assert!(about["no_token"].is_string(), "strangers are refused");
        for (key, part) in [
            ("no_model", "endpoints are `buys`"),
            ("no_version", "does not serve version 99"),
            ("no_output", "there is no output `y`"),
            ("unload", "gristmill apply"),
        ] {
            assert!(about[key].as_str().is_some_and(|text| text.contains(part)), "{way} {key}: {}", about[key]);
        }
    }
    assert_eq!(told["http"]["metadata"], told["grpc"]["metadata"]);
    assert_eq!(told["http"]["config"], told["grpc"]["config"]);
    assert_eq!(told["grpc"]["stream"], json!([same, same, same]));
    assert!(told["grpc"]["stream_error"].as_str().is_some_and(|text| text.contains("endpoints are `buys`")), "{told}");
    assert_eq!(told["aio"], json!({ "http": same, "grpc": same, "all_the_same": true }));
    server.stop();
}

#[test]
#[ignore = "needs Python and PyPI: cargo test -- --include-ignored"]
fn kserves_clients_get_the_same_numbers_by_every_way() {
    let (_project, server, token, scores, _) = served("serve");
    let told = told("inference", "kserve_client.py", &[&server.url, &token, "buys"]);
    for key in ["v1", "v2", "grpc", "typed"] {
        assert_eq!(told[key], json!(scores), "{key}");
    }
    for key in ["v1_ready", "v2_ready", "v2_live", "grpc_ready"] {
        assert_eq!(told[key], true, "{key}");
    }
    assert_eq!(told["v1_explained"], 3);
    server.stop();
}

#[test]
#[ignore = "needs Python and PyPI: cargo test -- --include-ignored"]
fn rows_of_mlflow_tensorflow_serving_and_sagemaker_get_the_same_numbers() {
    let (_project, server, _, scores, outcomes) = served("dev");
    let told = told("mlflow-3.17", "rows.py", &[&server.url, "buys"]);
    for key in ["mlflow", "tensorflow", "columns", "sagemaker"] {
        assert_eq!(told[key], json!(scores), "{key}");
    }
    for (row, (score, outcome)) in scores.iter().zip(&outcomes).enumerate() {
        let classes = told["classify"][row].as_object().expect("classes");
        let sum: f64 = classes.values().filter_map(Value::as_f64).sum();
        let likelier = classes.iter().max_by(|a, b| a.1.as_f64().unwrap_or(0.0).total_cmp(&b.1.as_f64().unwrap_or(0.0)));
        assert_eq!(likelier.map(|(class, _)| class), Some(outcome), "{classes:?}");
        assert!(classes.len() == 2 && (sum - 1.0).abs() < 1e-12 && classes.values().any(|p| p.as_f64() == Some(*score)), "{classes:?}");
    }
    assert_eq!((&told["ping"], &told["nan"]), (&json!(200), &json!([scores[0]])));
    server.stop();
}

#[test]
#[ignore = "needs Python and PyPI: cargo test -- --include-ignored"]
fn sagemakers_client_gets_the_same_numbers_in_json_csv_and_arrays() {
    let (_project, server, token, scores, _) = served("serve");
    let told = told("sagemaker", "sagemaker_client.py", &[&server.url, &token, "buys"]);
    for key in ["json", "csv", "column", "rows", "turned", "stable"] {
        assert_eq!(told[key], json!(scores), "{key}");
    }
    assert_eq!((&told["variant"], &told["type"]), (&json!("stable"), &json!("application/json")));
    for (key, part, status) in [
        ("no_endpoint", "endpoints are `buys`", 404),
        ("no_variant", "has no variant `canary`", 404),
        ("objects", "`|O`", 400),
        ("other", "image/png", 400),
    ] {
        let [code, message, answered] = told[key].as_array().expect("an error").as_slice() else { panic!("{key}: {told}") };
        assert_eq!((code, answered), (&json!("ValidationError"), &json!(status)), "{key}");
        assert!(message.as_str().is_some_and(|text| text.contains(part)), "{key}: {message}");
    }
    assert_eq!(told["stranger"], "AccessDeniedException");
    server.stop();
}

/// The blocks of a language in `docs/serving.md`, for this server.
fn shown(language: &str, server: &Server) -> Vec<String> {
    let root = gristmill_tests::folder().parent().expect("the workspace").to_owned();
    let text = std::fs::read_to_string(root.join("docs/serving.md")).expect("the page");
    let open = format!("```{language}\n");
    let blocks = text.split(open.as_str()).skip(1).filter_map(|rest| rest.split_once("\n```").map(|(block, _)| block.to_owned()));
    let address = server.url.strip_prefix("http://").expect("an address");
    blocks.map(|block| block.replace("127.0.0.1:7300", address)).collect()
}

#[test]
#[ignore = "needs Python and PyPI: cargo test -- --include-ignored"]
fn what_the_page_shows_works() {
    let (_project, server, _, scores, _) = served("dev");
    let run = |program: &str, block: &str| -> String {
        let ran: Ran = Command::new(program).args(["-c", block]).output().expect("it starts").into();
        ran.good().out
    };
    let sh = shown("sh", &server);
    let said = run("sh", &sh[0]);
    assert_eq!(said.matches("\"error\"").count() + said.matches("\"code\"").count(), 0, "{said}");
    assert!(said.matches(&scores[0].to_string()).count() >= 5, "every way gives {}: {said}", scores[0]);
    for block in shown("python", &server) {
        let python = clients::python(if block.contains("boto3") { "sagemaker" } else { "inference" });
        let said = run(python.to_str().expect("a path"), &block);
        assert!(said.contains('['), "{said}");
    }
    server.stop();
}
