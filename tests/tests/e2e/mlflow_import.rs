//! `gristmill import mlflow` from what the real client wrote: a folder, a database, a running server. `tests/mlflow/import_check.py` fills the
//! source, kills the import several times, ends it, repeats it, and compares both sides as the unmodified client reads them.

use gristmill_tests::Project;
use gristmill_tests::mlflow::{python, script};
use serde_json::Value;

fn imported_from(kind: &str) {
    let binary = gristmill_tests::binary().display().to_string();
    let (code, result) = script(&python("3.17"), "import_check.py", &["--binary", &binary, "--kind", kind, "--points", "2500"]);
    let differences = result["differences"].as_array().expect("differences");
    let told: Vec<String> = differences.iter().take(20).map(Value::to_string).collect();
    assert!(code == 0 && differences.is_empty(), "{kind}: {} differences\n{}", differences.len(), told.join("\n"));
    let there = |what: &str| result["there"][what].as_u64().unwrap_or_default();
    assert!(there("runs") > 100 && there("files") > 5 && there("predictions") > 3, "{}", result["there"]);
    assert!(result["kills"].as_u64().is_some_and(|kills| kills > 0), "the import was never killed: {result}");
}

#[test]
#[ignore = "needs Python and PyPI: cargo test -- --include-ignored"]
fn a_folder_of_runs_is_taken_over() {
    imported_from("folder");
}

#[test]
#[ignore = "needs Python and PyPI: cargo test -- --include-ignored"]
fn a_database_is_taken_over() {
    imported_from("database");
}

#[test]
#[ignore = "needs Python and PyPI: cargo test -- --include-ignored"]
fn a_running_server_is_taken_over() {
    imported_from("server");
}

/// What can be said without Python: a source that is none is refused before anything is written.
#[test]
fn what_is_no_source_is_refused() {
    let project = Project::example("empty");
    project.run(&["import", "mlflow", "./nothing-here"]).fails_with(1, "E0");
    project.run(&["import", "mlflow", "postgresql://host/db"]).fails_with(1, "E0");
    project.write("other.db", "not a database");
    project.run(&["import", "mlflow", "sqlite:///other.db"]).fails_with(1, "E0");
    project.run(&["import", "mlflow", "http://127.0.0.1:1"]).fails_with(1, "E0");
}
