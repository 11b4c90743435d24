//! Parity while rows are pushed, late ones too, and predictions are asked for: whatever was served is what the tables give.

use gristmill_tests::{Project, Server};
use serde_json::{Value, json};
use std::sync::atomic::{AtomicBool, Ordering};

/// The monitor's runs that audited something: their metrics.
fn audits(server: &Server) -> Vec<Value> {
    let (status, list) = server.get("/api/v1/runs?stage=monitor&limit=100");
    assert_eq!(status, 200, "{list}");
    let list: Value = serde_json::from_str(&list).expect("json");
    let ids = list["runs"].as_array().expect("runs").iter().filter_map(|run| run["id"].as_str());
    let runs = ids.map(|id| server.get(&format!("/api/v1/runs/{id}")).1);
    let metrics = runs.filter_map(|run| Some(serde_json::from_str::<Value>(&run).ok()?["metrics"].clone()));
    metrics.filter(|m| m["parity_checked"].as_f64().is_some_and(|n| n > 0.0)).collect()
}

/// Rows of ten customers; every third is days older than the newest, some as old as the questions that were answered already.
fn pushed(turn: i64) -> Value {
    let row = |n: i64| {
        let id = 5_000 + turn * 20 + n;
        let minute = 5 * turn + n % 5 - if n % 3 == 0 { 1_440 * (1 + n % 4) } else { 0 };
        let day = 10 + minute.div_euclid(1_440);
        let (hour, minute) = (minute.rem_euclid(1_440) / 60, minute.rem_euclid(60));
        let amount = (id * 7_919 % 10_007) as f64 / 100.0 + 0.1;
        json!({ "id": id, "customer_id": n % 10, "at": format!("2024-05-{day:02}T{hour:02}:{minute:02}:00Z"), "amount": amount, "kind": "sale" })
    };
    (0..20).map(row).collect()
}

#[test]
fn served_features_are_those_of_the_tables_while_rows_come_late() {
    let project = Project::shop();
    let monitor = "model = \"buys\"\nmonitor = { drift = \"psi > 1e9\", every = \"1s\", at_least = 20, audit = 400 }";
    project.edit("gristmill.toml", "model = \"buys\"", monitor);
    project.run(&["apply", "--yes"]).good();
    let server = project.start(&["dev", "--port", "0"]);
    let ask = |body: &Value| server.post("/predict/buys", body).0;
    server.wait_for("the endpoint", 60, |_| (ask(&json!({ "customer_id": 1 })) == 200).then_some(()));

    let pushing = AtomicBool::new(true);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for turn in 0..60 {
                assert_eq!(server.post("/ingest/events", &pushed(turn)).0, 200);
                std::thread::sleep(std::time::Duration::from_millis(100));
            }
            pushing.store(false, Ordering::SeqCst);
        });
        let mut turn = 0;
        while pushing.load(Ordering::SeqCst) {
            turn += 1;
            let rows: Vec<Value> = (0..5).map(|n| json!({ "customer_id": (turn + n) % 12 })).collect();
            assert_eq!(ask(&json!({ "rows": rows })), 200, "as of the newest event");
            // A moment in the middle of what is being pushed, and one that lies behind all of it.
            let day = 8 + turn % 3;
            assert_eq!(ask(&json!({ "rows": rows, "as_of": format!("2024-05-{day:02}T12:00:00Z") })), 200);
            assert_eq!(ask(&json!({ "customer_id": "3", "as_of": "2024-05-30T00:00:00Z" })), 200, "a key in quotes is the same key");
        }
    });
    let enough = |server: &Server| {
        // Something to look at, so that no window stays open.
        for _ in 0..5 {
            ask(&json!({ "rows": [{ "customer_id": 1 }, { "customer_id": 2 }] }));
        }
        let audits = audits(server);
        (audits.iter().filter_map(|m| m["parity_checked"].as_f64()).sum::<f64>() >= 500.0).then_some(audits)
    };
    let audits = server.wait_for("the audits", 120, enough);
    let sum = |name: &str| audits.iter().filter_map(|m| m[name].as_f64()).sum::<f64>();
    assert_eq!((sum("parity_mismatched"), sum("parity_unknown")), (0.0, 0.0), "{audits:?}\n{}", server.log());
    assert!(sum("parity_late") + sum("parity_behind") > 0.0, "rows came late, so some answers must have changed since: {audits:?}");

    let (_, metrics) = server.get("/metrics");
    assert!(metrics.contains("gristmill_parity_mismatch_rate{endpoint=\"buys\"") && metrics.contains("found=\"checked\""), "{metrics}");
    let (_, page) = server.get("/");
    assert!(page.contains("features that differ") && page.contains("0 of "), "{page}");
    let (_, status) = server.get("/api/v1/status");
    assert_eq!(serde_json::from_str::<Value>(&status).expect("json")["endpoints"][0]["parity"]["mismatch_rate"], 0.0, "{status}");
    let told = project.run(&["status"]).good().out;
    assert!(told.contains("feature vectors computed again, none differs"), "{told}");
    server.stop();
}
