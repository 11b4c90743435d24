//! kill -9 at random moments of ingest, run and serve, each followed by a restart: no acknowledged row lost or doubled, no half-visible
//! model, and the audit chain verifies.

use gristmill_tests::Project;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use serde_json::json;
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

const KILLS: usize = 40;

#[test]
fn forty_kills_lose_and_double_nothing() {
    let project = Project::shop();
    project.run(&["apply", "--yes"]).good();
    let mut rng = StdRng::seed_from_u64(9);
    let mut acked: BTreeSet<i64> = BTreeSet::new();
    let mut asked: BTreeSet<i64> = BTreeSet::new();
    let mut next_id = 1_000_000i64;
    let mut answered = 0u32;
    let mut retry: Option<(Vec<serde_json::Value>, String)> = None;
    for kill in 0..KILLS {
        // Another feature text each time, so that the runs which are killed have something to do.
        let days = 10 + kill % 20;
        let text = project.read("features/activity.sql");
        let line = text.lines().find(|l| l.contains("as orders_7d")).expect("the feature").to_owned();
        project.write(
            "features/activity.sql",
            &text.replace(&line, &format!("  count(*) filter (where at > as_of() - interval '{days} days') as orders_7d,")),
        );
        let server = project.start(&["dev", "--port", "0"]);
        let until = Instant::now() + Duration::from_millis(rng.random_range(20..1500));
        while Instant::now() < until {
            // What was not answered before the kill is sent again under its own key, as a client would.
            let (rows, key) = retry.take().unwrap_or_else(|| {
                let rows: Vec<_> = (0..rng.random_range(1..20))
                    .map(|_| {
                        next_id += 1;
                        json!({"id": next_id, "customer_id": next_id % 100, "at": "2024-06-01T00:00:00Z", "amount": 1.0, "kind": "sale"})
                    })
                    .collect();
                (rows, format!("push-{next_id}"))
            });
            let ids: Vec<i64> = rows.iter().filter_map(|r| r["id"].as_i64()).collect();
            asked.extend(&ids);
            match server.try_post("/ingest/events", &json!(rows), Some(&key)) {
                Ok((200, _)) => acked.extend(&ids),
                Ok((status, answer)) => panic!("{status} {answer}"),
                Err(_) => retry = Some((rows, key)),
            }
            let (status, answer) = server.post("/predict/buys", &json!({"customer_id": 7}));
            match status {
                200 => {
                    let model = answer["predictions"][0]["model"].as_str().expect("a model");
                    assert!(model.starts_with("models.buys@") && answer["predictions"][0]["score"].is_f64(), "{answer}");
                    answered += 1;
                }
                404 | 503 => {}
                _ => panic!("{status} {answer}"),
            }
        }
        server.kill();
    }
    assert!(acked.len() > KILLS && answered > 0, "the test did something: {} rows, {answered} answers", acked.len());

    let server = project.start(&["dev", "--port", "0"]);
    server.wait_for("the journal to drain", 120, |_| {
        let n = project.run(&["sql", "select count(*) as n from events where id >= 1000000", "--json"]).good().json()[0]["n"].as_u64()?;
        (n as usize >= acked.len()).then_some(())
    });
    server.wait_for("the endpoint", 60, |s| (s.get("/readyz").0 == 200).then_some(()));
    server.stop();
    let rows = project
        .run(&["sql", "select id, count(*) as n from events where id >= 1000000 group by id", "--json", "--rows", "1000000"])
        .good()
        .json();
    let rows = rows.as_array().expect("rows");
    let stored: BTreeSet<i64> = rows.iter().filter_map(|r| r["id"].as_i64()).collect();
    assert!(rows.iter().all(|r| r["n"] == 1), "doubled: {:?}", rows.iter().filter(|r| r["n"] != 1).collect::<Vec<_>>());
    assert_eq!(acked.difference(&stored).count(), 0, "acknowledged rows are lost");
    assert_eq!(stored.difference(&asked).count(), 0, "rows nobody sent");
    project.run(&["logs", "--verify"]).good();
    project.run(&["doctor", "--port", "0"]).good();
    project.run(&["apply", "--yes"]).good();
    let runs = project.run(&["status", "--runs", "5000", "--json"]).good().json();
    let open = runs["runs"].as_array().expect("runs").iter().filter(|r| r["status"] == "running").count();
    assert_eq!(open, 0, "no run is left open");
}
