//! What clients delete goes for good with `gristmill purge`, and content that nobody names goes by itself.

use gristmill_tests::{Project, Server, client};
use serde_json::{Value, json};
use std::path::Path;
use std::time::{Duration, SystemTime};

fn ask(server: &Server, path: &str, body: &Value) -> Value {
    let (status, answer) = server.post(&format!("/api/2.0/mlflow/{path}"), body);
    assert_eq!(status, 200, "{path}: {answer}");
    answer
}

/// A run with a file of its own, in an experiment.
fn run_with_file(server: &Server, experiment: &str, content: &str) -> String {
    let run = ask(server, "runs/create", &json!({ "experiment_id": experiment, "start_time": 1_700_000_000_000_i64 }));
    let id = run["run"]["info"]["run_id"].as_str().expect("an id").to_owned();
    let url = format!("{}/api/2.0/mlflow-artifacts/artifacts/{experiment}/{id}/artifacts/model/a.txt", server.url);
    let answer = client().put(url).body(content.to_owned()).send().expect("an answer");
    assert_eq!(answer.status().as_u16(), 200);
    id
}

fn blobs(project: &Project) -> Vec<std::path::PathBuf> {
    let folder = project.path().join(".gristmill/blobs");
    let inside = |path: &Path| -> Vec<std::path::PathBuf> {
        let entries = std::fs::read_dir(path).expect("a folder").map(|entry| entry.expect("an entry").path());
        entries.collect()
    };
    let shelves = inside(&folder).into_iter().filter(|p| p.is_dir() && p.file_name().is_some_and(|n| n.len() == 2));
    shelves.flat_map(|shelf| inside(&shelf)).collect()
}

/// Content is kept for an hour whether it is named or not; this makes it look two hours old.
fn make_old(project: &Project) {
    for blob in blobs(project) {
        let file = std::fs::File::options().write(true).open(blob).expect("a blob");
        file.set_modified(SystemTime::now() - Duration::from_secs(7_200)).expect("a moment");
    }
}

#[test]
fn what_was_deleted_goes_for_good_when_its_time_has_come() {
    let project = Project::example("empty");
    let server = project.start(&["dev", "--port", "0"]);
    let study = ask(&server, "experiments/create", &json!({ "name": "study" }))["experiment_id"].as_str().expect("an id").to_owned();
    let (deleted, held, kept) =
        (run_with_file(&server, &study, "deleted"), run_with_file(&server, &study, "held"), run_with_file(&server, &study, "kept"));
    ask(&server, "registered-models/create", &json!({ "name": "m" }));
    let source = format!("mlflow-artifacts:/{study}/{held}/artifacts/model");
    ask(&server, "model-versions/create", &json!({ "name": "m", "source": source, "run_id": held }));
    for id in [&deleted, &held] {
        ask(&server, "runs/delete", &json!({ "run_id": id }));
    }
    make_old(&project);

    let none = project.run(&["purge", "--json"]).good().json();
    assert_eq!((&none["runs"], &none["contents"]), (&json!(0), &json!(0)), "deleted a moment ago: {none}");
    let counted = project.run(&["purge", "--older-than", "0s", "--dry-run", "--json"]).good().json();
    assert_eq!((&counted["runs"], &counted["kept"], &counted["contents"]), (&json!(1), &json!(1), &Value::Null), "{counted}");
    assert_eq!(server.get(&format!("/api/2.0/mlflow/runs/get?run_id={deleted}")).0, 200, "a dry run removes nothing");
    // While the server runs.
    let gone = project.run(&["purge", "--older-than", "0s", "--json"]).good().json();
    assert_eq!((&gone["runs"], &gone["kept"], &gone["contents"], &gone["bytes"]), (&json!(1), &json!(1), &json!(1), &json!(7)), "{gone}");
    assert_eq!(server.get(&format!("/api/2.0/mlflow/runs/get?run_id={deleted}")).0, 404);
    for id in [&held, &kept] {
        let (status, content) = server.get(&format!("/get-artifact?run_id={id}&path=model/a.txt"));
        assert_eq!((status, content.len()), (200, 4), "{id}: {content}");
    }

    // A version that is deleted holds its run no longer, and an experiment goes with its last run.
    let (status, answer) = {
        let answer = client()
            .delete(format!("{}/api/2.0/mlflow/model-versions/delete", server.url))
            .json(&json!({ "name": "m", "version": "1" }))
            .send()
            .expect("an answer");
        (answer.status().as_u16(), answer.text().expect("a body"))
    };
    assert_eq!(status, 200, "{answer}");
    ask(&server, "experiments/delete", &json!({ "experiment_id": study }));
    let text = project.run(&["purge", "--older-than", "0s"]).good();
    assert!(text.out.contains("runs") && text.out.contains("experiments"), "{}", text.out);
    assert_eq!(server.get(&format!("/api/2.0/mlflow/experiments/get?experiment_id={study}")).0, 404);
    ask(&server, "experiments/create", &json!({ "name": "study" }));
    server.stop();
    let logs = project.run(&["logs", "--json"]).good().out;
    assert!(logs.contains("run.purged") && logs.contains("experiment.purged"), "{logs}");
    project.run(&["logs", "--verify"]).good();
}

#[test]
fn a_server_removes_content_that_nobody_names() {
    let project = Project::example("empty");
    let server = project.start(&["dev", "--port", "0"]);
    let id = run_with_file(&server, "0", "in the way");
    let url = format!("{}/api/2.0/mlflow-artifacts/artifacts/0/{id}/artifacts/model/a.txt", server.url);
    assert_eq!(client().delete(url).send().expect("an answer").status().as_u16(), 200);
    server.stop();
    assert_eq!(blobs(&project).len(), 1, "the name is gone, the content is not");
    make_old(&project);
    let server = project.start(&["dev", "--port", "0"]);
    server.wait_for("the content to go", 60, |_| blobs(&project).is_empty().then_some(()));
    server.stop();
}
