//! What an MLflow client registers answers at an endpoint: registered over the wire, followed by its alias, asked by both protocols.
//!
//! The first tests speak MLflow's REST as a client does, with models that LightGBM and XGBoost wrote; the last one is a real client's.

use gristmill_tests::mlflow::{python, scripts};
use gristmill_tests::{Project, Ran, Server, boosters};
use serde_json::{Value, json};
use std::process::Command;

const PROJECT: &str = "project = \"registered\"\n\n[endpoints.upsell]\nmodel = \"mlflow:Upsell EU@champion\"\n";
const CANARY: &str = "rollout = { canary = [\"50%\", \"100%\"], every = \"1s\", at_least = 10, abort = \"error_rate > 0.5\" }\n";

/// A golden model of `serve`: what the library wrote and what it predicts.
fn golden(name: &str) -> Vec<u8> {
    let folder = gristmill_tests::folder().join("../crates/serve/testdata/foreign");
    std::fs::read(folder.join(name)).expect(name)
}

fn cases(name: &str) -> (Vec<Value>, Vec<f64>) {
    let case: Value = serde_json::from_slice(&golden(&format!("{name}.json"))).expect("json");
    let columns: Vec<&str> = case["columns"].as_array().expect("columns").iter().map(|c| c.as_str().expect("a name")).collect();
    let row = |row: &Value| columns.iter().zip(row.as_array().expect("a row")).map(|(c, x)| ((*c).to_owned(), x.clone())).collect();
    let rows = case["rows"].as_array().expect("rows").iter().map(|r| Value::Object(row(r))).collect();
    (rows, case["predictions"].as_array().expect("predictions").iter().map(|p| p[0].as_f64().expect("a number")).collect())
}

fn register(server: &Server, files: &[(&str, Vec<u8>)]) -> String {
    boosters::register(server, "Upsell EU", files)
}

fn point(server: &Server, version: &str) {
    boosters::point(server, "Upsell EU", version);
}

/// The version that answers, once every row is answered by one.
fn answering(server: &Server, rows: &[Value]) -> Option<(String, Vec<f64>)> {
    let (status, answer) = server.post("/predict/upsell", &json!({ "rows": rows }));
    let predictions = answer["predictions"].as_array().filter(|_| status == 200)?;
    let model = predictions[0]["model"].as_str()?.to_owned();
    let same = predictions.iter().all(|p| p["model"] == model.as_str());
    same.then(|| (model, predictions.iter().map(|p| p["score"].as_f64().expect("a score")).collect()))
}

fn close(scores: &[f64], expected: &[f64]) -> bool {
    scores.len() == expected.len() && scores.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-6)
}

#[test]
fn an_endpoint_follows_the_alias_of_a_registered_model() {
    let project = Project::empty();
    project.write("gristmill.toml", &format!("{PROJECT}{CANARY}"));
    project.run(&["check"]).good();
    let server = project.start(&["dev", "--port", "0"]);
    let (rows, expected) = cases("mlmodel_lightgbm");
    assert_eq!(server.post("/predict/upsell", &json!({ "rows": rows })).0, 404, "nothing is registered yet");
    let lightgbm = [("MLmodel", golden("mlmodel_lightgbm.yaml")), ("model.lgb", golden("mlmodel_lightgbm.model.lgb"))];
    point(&server, &register(&server, &lightgbm));
    let (first, scores) = server.wait_for("the first version", 30, |s| answering(s, &rows));
    assert!(first.ends_with("@1") && close(&scores, &expected), "{first} {scores:?} {expected:?}");
    let inputs: Vec<Value> = rows[0]
        .as_object()
        .expect("a row")
        .iter()
        .map(|(name, value)| {
            let kind = if value.is_boolean() { "BOOL" } else { "FP64" };
            json!({ "name": name, "shape": [1], "datatype": kind, "data": [value] })
        })
        .collect();
    let (status, infer) = server.post("/v2/models/upsell/infer", &json!({ "inputs": inputs }));
    assert!(status == 200 && close(&[infer["outputs"][0]["data"][0].as_f64().expect("a score")], &expected[..1]), "{infer}");
    assert_eq!(infer["model_version"], "1");

    // The alias moves: the next version comes in by its rollout, and the traffic carries it through.
    let xgboost = [("MLmodel", golden("mlmodel_xgboost.yaml")), ("model.ubj", golden("mlmodel_xgboost.model.ubj"))];
    point(&server, &register(&server, &xgboost));
    let (_, expected) = cases("mlmodel_xgboost");
    let done = |s: &Server| answering(s, &rows).filter(|(model, scores)| model.ends_with("@2") && close(scores, &expected));
    // A new version that comes in the middle of a rollout replaces it, so the next one waits until this one is through.
    let through = |s: &Server| done(s).filter(|_| project.run(&["logs", "--json"]).out.contains("completed its rollout"));
    server.wait_for("the rollout", 60, through);

    // A version that cannot answer gets no traffic, and somebody is told how to convert it.
    point(&server, &register(&server, &[("MLmodel", golden("mlmodel_sklearn.yaml")), ("model.pkl", b"\x80\x04.".to_vec())]));
    let told = |_: &Server| project.run(&["logs", "--json"]).out.contains("E0511").then_some(());
    server.wait_for("the refusal in the logs", 30, told);
    assert!(answering(&server, &rows).is_some_and(|(model, _)| model.ends_with("@2")), "version 2 goes on answering");
    let (status, answer) = server.post("/predict/upsell", &json!({ "age": 1.5 }));
    assert_eq!((status, answer["code"].as_str()), (400, Some("E0502")), "{answer}");
    server.stop();
    project.run(&["logs", "--verify"]).good();

    // What was deployed answers again after a restart.
    let server = project.start(&["dev", "--port", "0"]);
    server.wait_for("the endpoint", 30, done);
    server.stop();
}

#[test]
fn what_an_endpoint_may_not_be_given_is_said_before_anything_runs() {
    let project = Project::empty();
    for (model, part) in [
        ("mlflow:Upsell EU", "add an alias or a number"),
        ("mlflw:upsell@champion", "mlflow:upsell@champion"),
        ("upsell@champion", "mlflow:upsell@champion"),
        ("upsell", "mlflow:upsell@champion"),
    ] {
        project.write("gristmill.toml", &format!("project = \"registered\"\n[endpoints.upsell]\nmodel = \"{model}\"\n"));
        let ran = project.run(&["check"]);
        assert!(ran.code == 1 && format!("{}{}", ran.out, ran.err).contains(part), "{model}\n{}\n{}", ran.out, ran.err);
    }
}

/// A real client trains, logs, registers and points; the endpoint gives what the client's own `predict` gives.
#[test]
#[ignore = "needs Python and PyPI: cargo test -- --include-ignored"]
fn what_a_real_client_registers_predicts_the_same() {
    let project = Project::empty();
    project.write("gristmill.toml", PROJECT);
    let server = project.start(&["dev", "--port", "0"]);
    let ran: Ran = Command::new(python("3.17"))
        .arg(scripts().join("serve_script.py"))
        .arg(&server.url)
        .env("MLFLOW_TRACKING_URI", &server.url)
        .env("MLFLOW_DISABLE_TELEMETRY", "true")
        .output()
        .expect("the script starts")
        .into();
    let ran = ran.good();
    assert!(ran.out.contains("all answers agree"), "{}\n{}", ran.out, ran.err);
    server.stop();
}
