//! The demo's promises, read back from the ledger.

use gristmill_tests::Project;
use serde_json::Value;

#[test]
fn the_loop_closes_by_itself_and_a_bad_challenger_is_rolled_back() {
    let project = Project::empty();
    let ran = project.run(&["demo", "--drift", "--exit", "--no-open", "--port", "0"]).good();
    assert!(ran.out.contains("curl -s http://127.0.0.1:"), "a curl to paste:\n{}", ran.out);
    let dir = project.path().join("gristmill-demo");
    let dir = dir.to_str().expect("a path");

    let log = project.run(&["--project", dir, "--json", "logs", "-n", "100000"]).good();
    let entries: Vec<Value> = log.out.lines().map(|l| serde_json::from_str(l).expect("a line")).collect();
    let find = |from: usize, what: &str, test: &dyn Fn(&Value) -> bool| -> usize {
        from + entries[from..]
            .iter()
            .position(test)
            .unwrap_or_else(|| panic!("no {what} in the ledger after line {from}:\n{}\n{}", ran.err, log.out))
    };
    let moved = |e: &Value, subject: &str, alias: &str| {
        e["action"] == "alias.moved" && e["subject"].as_str().is_some_and(|s| s.starts_with(subject)) && e["detail"]["alias"] == alias
    };
    let system = |e: &Value| e["actor"].as_str().is_some_and(|a| a.starts_with("system:"));

    // The first champion, then: drift, retraining, gates, canary, promotion, all by the system.
    let first = find(0, "first deployment", &|e| moved(e, "endpoints.churn", "live"));
    let drift = find(first, "drift alert", &|e| {
        e["action"] == "run.finished" && e["subject"].to_string().contains("monitors.churn") && e["detail"].to_string().contains("\"fail\"")
    });
    let retrained =
        find(drift, "retraining", &|e| e["action"] == "run.submitted" && system(e) && e["detail"].to_string().contains("drift"));
    let challenger = find(retrained, "gates that pass", &|e| moved(e, "models.churn", "challenger"));
    let canary = find(challenger, "canary", &|e| moved(e, "endpoints.churn", "live"));
    let champion = find(canary, "promotion", &|e| moved(e, "models.churn", "champion") && system(e));
    // Then somebody forces a bad one in, and it is taken back.
    let refused = find(champion, "gates that say no", &|e| {
        e["action"] == "run.finished" && e["subject"].to_string().contains("gates.churn") && e["detail"].to_string().contains("\"fail\"")
    });
    let forced = find(refused, "forced promotion", &|e| moved(e, "models.churn", "challenger") && !system(e));
    let rejected = find(forced, "rollback", &|e| moved(e, "models.churn", "rejected") && system(e));
    assert!(
        entries[rejected]["detail"]["reason"].as_str().is_some_and(|r| !r.is_empty()),
        "the reason carries the numbers: {}",
        entries[rejected]
    );
    assert!(
        entries[champion..].iter().all(|e| !moved(e, "models.churn", "champion") || e["seq"] == entries[champion]["seq"]),
        "the champion stays"
    );

    let status = project.run(&["--project", dir, "--json", "status"]).good().json();
    assert_eq!(status["endpoints"][0]["canary"], Value::Null);
    let champion = project.run(&["--project", dir, "--json", "show", "models.churn@champion"]).good().json();
    let number = champion["version"]["number"].as_u64().expect("a version");
    assert_eq!(status["endpoints"][0]["stable"], format!("models.churn@{number}"));
    assert!(number > 1);
    let text = project.run(&["--project", dir, "logs"]).good().out;
    assert!(text.contains("@champion") && text.contains("@rejected"), "{text}");
    project.run(&["--project", dir, "logs", "--verify"]).good();

    let lineage = project.run(&["--project", dir, "--json", "show", "models.churn@champion", "--lineage"]).good().out;
    for ancestor in ["training_sets.churn", "labels.churned", "features.", "sources.invoices", "raw.invoices"] {
        assert!(lineage.contains(ancestor), "{ancestor} is missing in the lineage");
    }
}
