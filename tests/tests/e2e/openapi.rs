//! What `/openapi.json` allows is asked, by schemathesis with a seed, and every answer is held against what `/openapi.json` says of it: no failure of the
//! server, no status, type or body that is not described.
//!
//! About 2,000 cases by default, and 20,000 with `GRISTMILL_SCHEMATHESIS_CASES=20000`. What is asked about names of the project is in
//! `tests/schemathesis/hooks.py`.

use gristmill_tests::{Project, Ran, clients};
use serde_json::{Value, json};
use std::process::Command;

/// How many cases.
const CASES: &str = "GRISTMILL_SCHEMATHESIS_CASES";
const CASES_DEFAULT: usize = 2_000;
/// Not asked, and why.
const EXCLUDED: &[(&str, &str)] = &[("graphql", "501 by design, which counts as a failure of the server")];
const CHECKS: &str = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance";

#[test]
#[ignore = "needs Python and PyPI: cargo test -- --include-ignored"]
fn every_answer_is_as_the_description_says() {
    let project = Project::shop();
    project.run(&["apply", "--yes"]).good();
    let token = project.run(&["token", "new", "schemathesis", "--role", "admin"]).good().out.trim().to_owned();
    let server = project.start(&["dev", "--port", "0"]);
    server.wait_for("the endpoint", 60, |s| (s.post("/predict/buys", &json!({ "customer_id": 7 })).0 == 200).then_some(()));
    let document: Value = serde_json::from_str(&server.get("/openapi.json").1).expect("JSON");
    let operations: usize = document["paths"].as_object().expect("paths").values().map(|p| p.as_object().map_or(0, |o| o.len())).sum();
    let cases = std::env::var(CASES).ok().and_then(|n| n.parse().ok()).unwrap_or(CASES_DEFAULT);
    let mut command = Command::new(clients::python("schemathesis").with_file_name("st"));
    command.args(["run", &format!("{}/openapi.json", server.url), "--phases", "fuzzing", "--workers", "2", "--seed", "7", "--no-color"]);
    command.args(["--max-examples", &each(cases, operations).to_string(), "--checks", CHECKS, "--suppress-health-check", "all"]);
    command.args(["--header", &format!("Authorization: Bearer {token}"), "--warnings", "off", "--continue-on-failure"]);
    for (path, _) in EXCLUDED {
        command.args(["--exclude-path-regex", path]);
    }
    let hooks = gristmill_tests::folder().join("schemathesis");
    command.env("SCHEMATHESIS_HOOKS", "hooks").env("PYTHONPATH", hooks).current_dir(project.path());
    let ran: Ran = command.output().expect("schemathesis starts").into();
    let ran = ran.good();
    let told = ran.out.lines().rev().take(12).collect::<Vec<_>>();
    println!("{}", told.iter().rev().map(|line| format!("{line}\n")).collect::<String>());
    let made: usize = ran.out.lines().find_map(|line| line.trim().split_once(" generated")?.0.parse().ok()).expect("it says how many");
    assert!(made >= cases, "{made} cases of {operations} operations");
    server.stop();
}

/// Cases of each operation, so that there are enough although some operations have nothing that could be varied.
fn each(cases: usize, operations: usize) -> usize {
    (cases + cases / 3).div_ceil(operations)
}
