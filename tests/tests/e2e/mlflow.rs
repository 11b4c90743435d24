//! Unmodified MLflow clients against the real binary, side by side with MLflow's own server. The Python side is in `tests/mlflow`.
//!
//! These need Python and, the first time, PyPI: they are ignored unless asked for (`-- --include-ignored`), as `cargo xtask ci` does.

use gristmill_tests::mlflow::{Peer, python, script, scripts};
use gristmill_tests::{Project, Ran};
use serde_json::Value;
use std::process::Command;

/// The newest client, and two older ones.
const CLIENTS: [&str; 3] = ["3.17", "3.1", "2.22"];

/// The differences that `differences.toml` does not allow, in words.
fn told(result: &Value) -> String {
    let mut text = String::new();
    for (name, outcome) in result["scenarios"].as_object().expect("scenarios") {
        for d in outcome["differences"].as_array().expect("differences").iter().take(20) {
            text.push_str(&format!("{name} [{}] {} {}: peer {} ours {}\n", d["step"], d["route"], d["where"], d["peer"], d["ours"]));
        }
    }
    text
}

fn same_as_the_peer(client: &str) {
    let (client_python, peer_python) = (python(client), python(CLIENTS[0]));
    let peer = Peer::start(&peer_python);
    let project = Project::example("empty");
    let server = project.start(&["dev", "--port", "0"]);
    let python = client_python.display().to_string();
    let mut arguments = vec!["--peer", &peer.url, "--ours", &server.url, "--python", &python, "--json"];
    if client != CLIENTS[0] {
        // Requests without a client are the same whichever client is tested.
        arguments.push("--client-only");
    }
    let (code, result) = script(&peer_python, "run.py", &arguments);
    assert!(result["scenarios"].as_object().is_some_and(|s| s.len() > 10), "{result}");
    assert_eq!(code, 0, "client {client}:\n{}\n{}", told(&result), server.log());
    server.stop();
    project.run(&["logs", "--verify"]).good();
}

#[test]
#[ignore = "needs Python and PyPI: cargo test -- --include-ignored"]
fn the_newest_client_sees_what_it_sees_at_mlflow() {
    same_as_the_peer(CLIENTS[0]);
}

#[test]
#[ignore = "needs Python and PyPI: cargo test -- --include-ignored"]
fn an_older_client_sees_what_it_sees_at_mlflow() {
    same_as_the_peer(CLIENTS[1]);
}

#[test]
#[ignore = "needs Python and PyPI: cargo test -- --include-ignored"]
fn a_client_of_the_second_generation_sees_what_it_sees_at_mlflow() {
    same_as_the_peer(CLIENTS[2]);
}

/// The issue's own words: the usual script, unmodified but for the tracking URI and the place of its data.
#[test]
#[ignore = "needs Python and PyPI: cargo test -- --include-ignored"]
fn the_usual_churn_script_runs_unmodified() {
    let project = Project::example("empty");
    let server = project.start(&["dev", "--port", "0"]);
    let folder = tempfile::tempdir().expect("a folder");
    let ran: Ran = Command::new(python(CLIENTS[0]))
        .arg(scripts().join("churn_script.py"))
        .env("MLFLOW_TRACKING_URI", &server.url)
        .env("MLFLOW_DISABLE_TELEMETRY", "true")
        .current_dir(folder.path())
        .output()
        .expect("the script starts")
        .into();
    let ran = ran.good();
    assert!(ran.out.contains("version 1") && ran.out.contains("predicts the same"), "{}\n{}", ran.out, ran.err);
    let shown = project.run(&["show", "models.churn", "--json"]).good().json();
    assert_eq!(shown["version"]["number"], 1, "the registered version is an asset of ours: {shown}");
    server.stop();
    project.run(&["logs", "--verify"]).good();
}

/// 64 processes, one run, batches of 1,000: no error, each metric once. The peer's figures are printed beside.
/// `GRISTMILL_HAMMER_SECONDS=120` for the two minutes that docs/mlflow.md reports.
#[test]
#[ignore = "needs Python and PyPI: cargo test -- --include-ignored"]
fn many_processes_log_to_one_run() {
    let python = python(CLIENTS[0]);
    let seconds = std::env::var("GRISTMILL_HAMMER_SECONDS").unwrap_or_else(|_| "20".to_owned());
    let arguments = |url: &str| ["--url", url, "--processes", "64", "--seconds", &seconds].map(str::to_owned);
    let project = Project::example("empty");
    let server = project.start(&["dev", "--port", "0"]);
    let (_, ours) = script(&python, "hammer.py", &arguments(&server.url).each_ref().map(String::as_str));
    server.stop();
    let peer = Peer::start(&python);
    let (_, theirs) = script(&python, "hammer.py", &arguments(&peer.url).each_ref().map(String::as_str));
    eprintln!("ours {ours}\npeer {theirs}");
    assert!(ours["batches"].as_u64().is_some_and(|b| b > 64), "{ours}");
    assert_eq!((&ours["errors"], &ours["missing"], &ours["doubled"]), (&Value::from(0), &Value::from(0), &Value::from(0)), "{ours}");
}
