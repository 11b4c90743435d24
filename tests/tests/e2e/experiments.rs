//! Experiments on the real server: two versions answer side by side, what happened is pushed as it happens, and the loop closes by itself.

use gristmill_tests::{Project, Server};
use serde_json::{Value, json};
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

const CUSTOMERS: u64 = 600;

/// What happened, told by events of two kinds.
pub const BOUGHT: &str = r"/*---
entity = 'customer_id'
time   = 'told_at'
label  = 'bought'
---*/
select customer_id, at as told_at, kind = 'yes' as bought from events where kind in ('yes', 'no')
";

/// A shop whose second version is on trial, and whom of the customers it answers.
fn on_trial() -> (Project, Server, Vec<bool>) {
    let project = Project::shop();
    project.write("labels/bought.sql", BOUGHT);
    project.run(&["apply", "--yes"]).good();
    let rollout = "rollout = { ab = \"50%\", decide = \"bought\", after = \"1s\", confidence = \"95%\", at_least = 100 }\n\
                   monitor = { every = \"1s\", drift = \"psi > 1e9\" }";
    project.edit("gristmill.toml", "model = \"buys\"", &format!("model = \"buys\"\n{rollout}"));
    project.edit("gristmill.toml", "train    = \"logistic\"", "train    = \"gbdt\"");
    let server = project.start(&["dev", "--port", "0"]);
    server.wait_for("the experiment", 120, |server| {
        let (_, status) = server.get("/api/v1/status");
        let status: Value = serde_json::from_str(&status).ok()?;
        (status["endpoints"][0]["canary"]["share"] == 0.5).then_some(())
    });
    let asked = AtomicU64::new(0);
    // Customers to whom nothing happens: they are asked about until the server answers with both versions.
    let others: Vec<Value> = (5_000..5_100).map(|customer| json!({ "customer_id": customer })).collect();
    server.wait_for("an answer of the version on trial", 60, |server| {
        let (_, answer) = server.post("/predict/buys", &json!({ "rows": others }));
        asked.fetch_add(100, SeqCst);
        answer["predictions"].as_array()?.iter().any(|p| p["model"] == "models.buys@2").then_some(())
    });
    let answered = |server: &Server| {
        let mut trial = Vec::new();
        for first in (0..CUSTOMERS).step_by(100) {
            let rows: Vec<Value> = (first..first + 100).map(|customer| json!({ "customer_id": customer })).collect();
            let (status, answer) = server.post("/predict/buys", &json!({ "rows": rows }));
            asked.fetch_add(100, SeqCst);
            assert_eq!(status, 200, "{answer}");
            let models = answer["predictions"].as_array().expect("predictions").iter().map(|p| p["model"].as_str().expect("a model"));
            trial.extend(models.map(|model| model.ends_with("@2")));
        }
        trial
    };
    let trial = answered(&server);
    let share = trial.iter().filter(|trial| **trial).count();
    assert!((240..360).contains(&share), "{share} of {CUSTOMERS} in the half on trial");
    assert_eq!(answered(&server), trial, "everybody stays on their side");
    // What is not in the log yet would be counted later than it is decided.
    server.wait_for("the log of all predictions", 60, |server| {
        let (_, runs) = server.get("/api/v1/runs?stage=serve&limit=100");
        let runs: Value = serde_json::from_str(&runs).ok()?;
        let logged = |run: &Value| run["summary"].as_str().and_then(|s| s.split(' ').next()?.parse::<u64>().ok());
        (runs["runs"].as_array()?.iter().filter_map(logged).sum::<u64>() >= asked.load(SeqCst)).then_some(())
    });
    (project, server, trial)
}

/// Pushes what happened; how many bought on either side, and of how many.
fn happens(server: &Server, trial: &[bool], bought: impl Fn(u64, bool) -> bool) -> [(f64, f64); 2] {
    let mut counts = [(0.0, 0.0); 2];
    let mut rows = Vec::new();
    for (customer, trial) in trial.iter().enumerate() {
        let yes = bought(customer as u64, *trial);
        let count = &mut counts[usize::from(*trial)];
        *count = (count.0 + f64::from(u8::from(yes)), count.1 + 1.0);
        let kind = if yes { "yes" } else { "no" };
        rows.push(json!({ "id": 10_000 + customer, "customer_id": customer, "at": "2024-04-20T00:00:00Z", "amount": 1.0, "kind": kind }));
    }
    assert_eq!(server.post("/ingest/events", &Value::Array(rows)).0, 200);
    counts
}

/// The decision that ended the experiment.
fn decided(server: &Server, word: &str) -> Value {
    server.wait_for(word, 90, |server| {
        let (_, runs) = server.get("/api/v1/runs?stage=deploy&limit=50");
        let runs: Value = serde_json::from_str(&runs).ok()?;
        let run = runs["runs"].as_array()?.iter().find(|run| run["summary"].as_str().is_some_and(|s| s.contains(word)))?;
        serde_json::from_str(&server.get(&format!("/api/v1/runs/{}", run["id"].as_str()?)).1).ok()
    })
}

fn means_what_happened(run: &Value, [stable, trial]: [(f64, f64); 2]) {
    let metric = |name: &str| run["metrics"][format!("experiment.{name}")].as_f64().unwrap_or(f64::NAN);
    assert_eq!((metric("stable.entities"), metric("trial.entities")), (stable.1, trial.1), "{run}");
    let near = |a: f64, b: f64| (a - b).abs() < 1e-9;
    assert!(near(metric("stable.mean"), stable.0 / stable.1) && near(metric("trial.mean"), trial.0 / trial.1), "{run}");
}

#[test]
fn the_better_version_takes_over_by_what_happened() {
    let (project, server, trial) = on_trial();
    let counts = happens(&server, &trial, |customer, trial| customer % 10 < if trial { 5 } else { 2 });
    let run = decided(&server, "completed its rollout");
    means_what_happened(&run, counts);
    let summary = run["summary"].as_str().expect("a summary");
    assert!(summary.contains("more bought 0.") && summary.contains("difference +0."), "{summary}");
    let everybody = json!({ "rows": (0..50).map(|c| json!({ "customer_id": c })).collect::<Vec<_>>() });
    server.wait_for("the new version's answers to everybody", 30, |server| {
        let (_, answer) = server.post("/predict/buys", &everybody);
        answer["predictions"].as_array()?.iter().all(|p| p["model"] == "models.buys@2").then_some(())
    });
    assert!(project.run(&["show", "models.buys"]).good().out.contains("champion"));
}

#[test]
fn the_worse_version_goes_back() {
    let (_project, server, trial) = on_trial();
    let counts = happens(&server, &trial, |customer, trial| customer % 10 < if trial { 1 } else { 4 });
    let run = decided(&server, "aborted");
    means_what_happened(&run, counts);
    assert!(run["summary"].as_str().is_some_and(|s| s.contains("it is worse by more bought: difference -0.")), "{run}");
    let (_, status) = server.get("/api/v1/status");
    let status: Value = serde_json::from_str(&status).expect("json");
    assert_eq!((&status["endpoints"][0]["stable"], &status["endpoints"][0]["canary"]), (&json!("models.buys@1"), &Value::Null), "{status}");
}
