//! Containers of managed platforms: asked as Vertex AI and SageMaker ask them, without a token of ours.

use gristmill_tests::mlflow::free_port;
use gristmill_tests::{Project, client};
use serde_json::{Value, json};

/// The project in a container of a platform, listening on loopback only.
fn container(platform: &str, environment: &[(&str, &str)]) -> (Project, gristmill_tests::Server) {
    let mut project = Project::shop();
    project.run(&["apply", "--yes"]).good();
    for (name, value) in environment {
        project.set(name, value);
    }
    let server = project.start(&["serve", "--host", "127.0.0.1", "--front", platform]);
    (project, server)
}

#[test]
fn vertex_ai_asks_at_the_paths_that_it_chose() {
    let (port, health, predict) = (free_port().to_string(), "/v1/endpoints/7/deployedModels/8", "/v1/endpoints/7/deployedModels/8:predict");
    let chosen = [("AIP_HTTP_PORT", port.as_str()), ("AIP_HEALTH_ROUTE", health), ("AIP_PREDICT_ROUTE", predict)];
    let (project, server) = container("vertex", &chosen);
    assert!(server.url.ends_with(&format!(":{port}")), "{}", server.url);
    let healthy = server.wait_for("the health route", 60, |s| Some(s.get(health)).filter(|(status, _)| *status == 200));
    assert_eq!(healthy.1, r#"{"ready":true}"#);
    let (status, answer) =
        server.post(predict, &json!({ "instances": [{ "customer_id": 7 }, { "customer_id": 8 }], "parameters": { "x": 1 } }));
    let (_, same) = server.post("/predict/buys", &json!({ "rows": [{ "customer_id": 7 }, { "customer_id": 8 }] }));
    let scores = |key: &str| same["predictions"].as_array().expect("rows").iter().map(|row| row[key].clone()).collect::<Vec<Value>>();
    assert_eq!((status, &answer["predictions"]), (200, &Value::from(scores("score"))), "{answer}");
    // Whoever comes without a token may predict, and nothing else.
    let (status, refused) = server.post(predict, &json!({ "instances": [{ "x": 1 }] }));
    assert_eq!(status, 400, "{refused}");
    assert!(refused["error"].as_str().is_some_and(|text| text.contains("fix:")), "{refused}");
    for path in ["/metrics", "/api/v1/runs", "/api/2.0/mlflow/experiments/get?experiment_id=0"] {
        assert_eq!(server.get(path).0, 403, "{path}");
    }
    assert_eq!(server.post("/ingest/events", &json!([])).0, 403);
    let wrong = client().post(format!("{}{predict}", server.url)).bearer_auth("gm_nonsense").json(&json!({ "instances": [] })).send();
    assert_eq!(wrong.expect("an answer").status(), 401, "a wrong token is no stranger's");
    server.stop();
    // Without Vertex AI's variables nobody stands in front.
    let mut elsewhere = project.command(&["serve", "--host", "127.0.0.1", "--port", "0", "--front", "vertex"]);
    let ran: gristmill_tests::Ran = elsewhere.env_remove("AIP_PREDICT_ROUTE").output().expect("the binary starts").into();
    assert!(ran.fails_with(1, "E0502").err.contains("AIP_PREDICT_ROUTE is not set"));
}

#[test]
fn sagemaker_starts_an_image_with_one_word() {
    let port = free_port().to_string();
    let mut project = Project::shop();
    project.run(&["apply", "--yes"]).good();
    project.set("GRISTMILL_FRONT", "sagemaker");
    project.set("SAGEMAKER_BIND_TO_PORT", &port);
    let server = project.start(&["serve", "--host", "127.0.0.1"]);
    assert!(server.url.ends_with(&format!(":{port}")), "{}", server.url);
    server.wait_for("the endpoint", 60, |s| Some(s.get("/ping")).filter(|(status, _)| *status == 200));
    let answer = client().post(format!("{}/invocations", server.url)).header("content-type", "text/csv").header("accept", "text/csv");
    let answer = answer.body("customer_id\n7\n").send().expect("an answer");
    assert_eq!(answer.status(), 200);
    let score: f64 = answer.text().expect("a body").trim().parse().expect("a score");
    let (_, same) = server.post("/predict/buys", &json!({ "customer_id": 7 }));
    assert_eq!(same["predictions"][0]["score"].as_f64(), Some(score));
    assert_eq!(server.get("/metrics").0, 403);
}
