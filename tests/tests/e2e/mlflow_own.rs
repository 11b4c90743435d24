//! One ledger: what `gristmill run` trains is a run of the MLflow client's, and what the client registers is an asset that `gristmill show` shows.

use gristmill_tests::mlflow::python;
use gristmill_tests::{Project, Ran, Server};
use serde_json::{Value, json};
use std::process::Command;

fn ask(server: &Server, path: &str, body: &Value) -> Value {
    let (status, answer) = server.post(&format!("/api/2.0/mlflow/{path}"), body);
    assert_eq!(status, 200, "{path}: {answer}");
    answer
}

/// A shop whose model was trained by the product.
fn trained() -> (Project, String) {
    let project = Project::shop();
    project.run(&["run", "models.buys"]).good();
    let shown = project.run(&["show", "models.buys", "--json"]).good().json();
    let run = shown["version"]["run"].as_str().expect("a run").to_owned();
    (project, run)
}

#[test]
fn what_the_product_trains_is_found_by_a_search() {
    let (project, run) = trained();
    let server = project.start(&["dev", "--port", "0"]);
    let experiment = server.get("/api/2.0/mlflow/experiments/get-by-name?experiment_name=buys").1;
    let experiment: Value = serde_json::from_str(&experiment).expect("JSON");
    let id = experiment["experiment"]["experiment_id"].clone();
    let found =
        ask(&server, "runs/search", &json!({ "experiment_ids": [id], "filter": "metrics.auc > 0 and attributes.status = 'FINISHED'" }));
    assert_eq!(found["runs"][0]["info"]["run_id"], run.as_str(), "{found}");
    assert!(found["runs"][0]["data"]["params"].as_array().is_some_and(|p| !p.is_empty()), "{found}");
    let (status, model) = server.get("/api/2.0/mlflow/model-versions/get?name=buys&version=1");
    assert_eq!(status, 200, "{model}");
    assert!(model.contains(&run), "the version says which run made it: {model}");
    server.stop();
}

#[test]
#[ignore = "needs Python and PyPI: cargo test -- --include-ignored"]
fn what_the_product_trains_is_found_by_the_client() {
    let (project, run) = trained();
    let server = project.start(&["dev", "--port", "0"]);
    let text = "import mlflow\nruns = mlflow.search_runs(search_all_experiments=True, filter_string='metrics.auc > 0')\n\
                print(runs[['run_id', 'status', 'metrics.auc']].to_json(orient='records'))";
    let ran: Ran = Command::new(python("3.17"))
        .args(["-c", text])
        .env("MLFLOW_TRACKING_URI", &server.url)
        .env("MLFLOW_DISABLE_TELEMETRY", "true")
        .env("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
        .output()
        .expect("Python starts")
        .into();
    let runs = ran.good().json();
    let ours = runs.as_array().expect("runs").iter().find(|r| r["run_id"] == run.as_str());
    let ours = ours.unwrap_or_else(|| panic!("{run} is not among {runs}"));
    assert!(ours["status"] == "FINISHED" && ours["metrics.auc"].as_f64().is_some_and(|auc| auc > 0.0), "{ours}");
    server.stop();
}

/// Names of registered models are free texts, so they are shown by the asset and by the name.
#[test]
fn a_registered_version_is_shown() {
    let project = Project::example("empty");
    let server = project.start(&["dev", "--port", "0"]);
    let run = ask(&server, "runs/create", &json!({ "experiment_id": "0", "start_time": 1_700_000_000_000_i64 }));
    let run = run["run"]["info"]["run_id"].as_str().expect("an id").to_owned();
    let source = format!("mlflow-artifacts:/0/{run}/artifacts/model");
    for name in ["churn", "Upsell EU"] {
        ask(&server, "registered-models/create", &json!({ "name": name, "description": "who\u{1b}[2J leaves" }));
        for mark in ["first", "second"] {
            let tags = json!([{ "key": "mark", "value": mark }]);
            ask(&server, "model-versions/create", &json!({ "name": name, "source": source, "run_id": run, "tags": tags }));
        }
        ask(&server, "registered-models/alias", &json!({ "name": name, "alias": "champion", "version": "1" }));
    }
    ask(&server, "registered-models/create", &json!({ "name": "yet_to_come" }));
    server.stop();
    let empty = project.run(&["show", "yet_to_come", "--json"]).good().json();
    assert_eq!((&empty["registered"]["name"], &empty["version"]), (&json!("yet_to_come"), &Value::Null), "{empty}");
    for address in ["models.churn", "churn", "mlflow:churn", "Upsell EU", "mlflow:Upsell EU"] {
        let newest = project.run(&["show", address, "--json"]).good().json();
        assert_eq!(
            (&newest["version"]["number"], &newest["registered"]["version"]["tags"]["mark"]),
            (&json!(2), &json!("second")),
            "{newest}"
        );
        let champion = project.run(&["show", &format!("{address}@champion"), "--json"]).good().json();
        let told = &champion["registered"];
        assert_eq!((&told["version"]["number"], &told["version"]["tags"]["mark"]), (&json!(1), &json!("first")), "{champion}");
        assert_eq!((&told["version"]["run"], &told["version"]["source"]), (&json!(run), &json!(source)), "{champion}");
    }
    let text = project.run(&["show", "Upsell EU@1"]).good().out;
    assert!(text.contains("Upsell EU") && text.contains("mark=first") && text.contains(&run), "{text}");
    assert!(!text.contains('\u{1b}'), "a client's text moves no cursor: {text:?}");
    project.run(&["show", "Upsell US"]).fails_with(1, "E0704");
    project.run(&["show", "models.churn@7"]).fails_with(1, "E0");
}
