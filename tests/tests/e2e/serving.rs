//! Serving over the socket: tokens, the protocols' main calls, pushed rows that reach the features, replay of files.

use gristmill_tests::{Project, client};
use serde_json::json;

#[test]
fn serve_wants_a_token_and_prints_one_once() {
    let project = Project::shop();
    project.run(&["apply", "--yes"]).good();
    let server = project.start(&["serve", "--port", "0"]);
    let shown = |s: &gristmill_tests::Server| Some(s.log().lines().find_map(|l| l.split_once("shown this once: "))?.1.trim().to_owned());
    let token: String = server.wait_for("the token", 20, shown);
    let (status, answer) = server.post("/predict/buys", &json!({"customer_id": 7}));
    assert_eq!((status, answer["code"].as_str()), (401, Some("E0505")), "{answer}");
    assert_eq!(server.get("/healthz").0, 200, "health needs no token");
    let ask = |token: &str| {
        client()
            .post(format!("{}/predict/buys", server.url))
            .bearer_auth(token)
            .json(&json!({"customer_id": 7}))
            .send()
            .expect("an answer")
            .status()
            .as_u16()
    };
    server.wait_for("the endpoint", 30, |_| (ask(&token) == 200).then_some(()));
    let viewer = project.run(&["token", "new", "reader", "--role", "viewer"]).good().out.trim().to_owned();
    assert_eq!(ask(&viewer), 403);
    let predictor = project.run(&["token", "new", "app", "--role", "predictor"]).good().out.trim().to_owned();
    assert_eq!(ask(&predictor), 200);
    project.run(&["token", "revoke", "app"]).good();
    server.wait_for("the revocation", 20, |_| (ask(&predictor) == 401).then_some(()));
    assert!(
        !std::fs::read(project.path().join(".gristmill/ledger.db"))
            .expect("the ledger")
            .windows(token.len())
            .any(|w| w == token.as_bytes())
    );
    let rebound = client().get(format!("{}/healthz", server.url)).header("host", "evil.example").send().expect("an answer");
    assert_eq!(rebound.status().as_u16(), 403, "another site's name does not reach us");
    server.stop();
}

#[test]
fn pushed_rows_change_the_served_features() {
    let project = Project::shop();
    project.run(&["apply", "--yes"]).good();
    let server = project.start(&["dev", "--port", "0"]);
    let features = |customer: i64| {
        let (status, answer) = server.post("/predict/buys", &json!({"rows": [{"customer_id": customer}], "explain": true}));
        (status == 200).then(|| answer["predictions"][0]["features"].clone())
    };
    let nobody = server.wait_for("the endpoint", 60, |_| features(777));
    assert_eq!(nobody["activity.orders_30d"], 0, "count of nothing is 0: {nobody}");
    assert!(nobody["activity.spend_30d"].is_null(), "the sum of nothing is NULL: {nobody}");
    let row = |id: i64, amount: f64| json!({"id": id, "customer_id": 777, "at": "2024-05-01T00:00:00Z", "amount": amount, "kind": "sale"});
    let push =
        || server.try_post("/ingest/events", &json!([row(5000, 0.1), row(5001, 0.2), row(5002, -5.0)]), Some("once")).expect("an answer");
    let (status, first) = push();
    assert_eq!((status, first["accepted"].as_i64()), (200, Some(3)), "{first}");
    let (_, again) = push();
    assert_eq!(again["duplicate"], true, "the same key again takes nothing: {again}");
    let seen = server.wait_for("the rows in the features", 30, |_| features(777).filter(|f| f["activity.orders_30d"] == 2));
    assert_eq!(
        seen["activity.spend_30d"].as_f64().map(f64::to_bits),
        Some((0.1f64 + 0.2).to_bits()),
        "the failing row is in quarantine: {seen}"
    );
    let (_, metadata) = server.get("/v2/models/buys");
    assert!(metadata.contains("buys"), "{metadata}");
    let (status, infer) = server.post(
        "/v2/models/buys/infer",
        &json!({"id": "1", "inputs": [{"name": "customer_id", "shape": [2], "datatype": "INT64", "data": [1, 777]}]}),
    );
    assert_eq!(status, 200, "{infer}");
    let (_, plain) = server.post("/predict/buys", &json!({"rows": [{"customer_id": 1}, {"customer_id": 777}]}));
    let scores =
        |v: &serde_json::Value| v.as_array().expect("an array").iter().map(|s| s.as_f64().expect("a score").to_bits()).collect::<Vec<_>>();
    let friendly: Vec<serde_json::Value> = plain["predictions"].as_array().expect("rows").iter().map(|p| p["score"].clone()).collect();
    assert_eq!(scores(&infer["outputs"][0]["data"]), scores(&json!(friendly)), "both protocols give the same numbers");
    assert!(server.get("/metrics").1.contains("gristmill_"));
    assert_eq!(server.get("/openapi.json").0, 200);
    let (status, page) = server.get("/");
    assert!(status == 200 && page.contains("buys"), "{page}");
    server.stop();
    let logged = project.run(&["sql", "select count(*) as n from predictions_buys", "--json"]).good().json();
    assert!(logged[0]["n"].as_i64().expect("n") >= 5, "every answered row is logged: {logged}");
}

/// `replay://`: the server plays the file by its event time, once, also over a restart in the middle.
#[test]
fn a_replayed_file_arrives_by_its_event_time() {
    let project = Project::empty();
    project.write("data/events.csv", &gristmill_tests::events());
    // The file spans 100 days; at this speed it takes about 4 s.
    project.write(
        "gristmill.toml",
        "project = \"shop\"\n\n[sources.events]\nfrom = \"replay://data/events.csv?speed=2000000\"\ntime = \"at\"\nexpect = [\"amount >= 0\"]\n",
    );
    project.run(&["apply", "--yes"]).good();
    let counts = || {
        let ran = project.run(&["sql", "select count(*) as n, count(distinct id) as ids, max(id) as last from events", "--json"]);
        let row = (ran.code == 0).then(|| ran.json()[0].clone())?;
        Some((row["n"].as_i64()?, row["ids"].as_i64()?, row["last"].as_i64().unwrap_or(-1)))
    };
    let server = project.start(&["dev", "--port", "0"]);
    let (some, ids, last) = server.wait_for("the first rows", 30, |_| counts().filter(|(n, ..)| *n > 0));
    assert_eq!((some, ids), (last + 1, last + 1), "rows arrive in the order of their time");
    server.kill();
    let server = project.start(&["dev", "--port", "0"]);
    let all = server.wait_for("every row", 60, |_| counts().filter(|(n, ..)| *n >= 3000));
    assert_eq!(all, (3000, 3000, 2999), "each once");
    server.stop();
}

/// What is served is what was trained on: the label rows' features, asked online as of their moment, are the training set's to the bit.
#[test]
fn served_features_equal_the_training_set() {
    let project = Project::shop();
    project.run(&["apply", "--yes"]).good();
    let rows = project.run(&["dataset", "training_sets.buys", "--format", "jsonl"]).good().out;
    let server = project.start(&["dev", "--port", "0"]);
    server.wait_for("the endpoint", 60, |s| (s.get("/readyz").0 == 200).then_some(()));
    let rows: Vec<serde_json::Value> = rows.lines().map(|l| serde_json::from_str(l).expect("a row")).collect();
    assert!(rows.len() > 500);
    let mut compared = 0;
    for row in rows.iter().step_by(7) {
        let body = json!({"rows": [{"customer_id": row["customer_id"]}], "as_of": row["__time"], "explain": true});
        let (status, answer) = server.post("/predict/buys", &body);
        assert_eq!(status, 200, "{answer}");
        let served = &answer["predictions"][0]["features"];
        for feature in ["activity.orders_7d", "activity.orders_30d", "activity.spend_30d"] {
            let bits = |v: &serde_json::Value| v.as_f64().map(f64::to_bits);
            assert_eq!(bits(&served[feature]), bits(row.get(feature).unwrap_or(&serde_json::Value::Null)), "{feature} of {row}");
            compared += 1;
        }
    }
    assert!(compared > 300);
    server.stop();
}

#[test]
fn predict_works_without_a_server_too() {
    let project = Project::shop();
    project.run(&["apply", "--yes"]).good();
    let alone = project.run(&["predict", "buys", "customer_id=7", "--json"]).good().json();
    let server = project.start(&["dev", "--port", "0"]);
    server.wait_for("the endpoint", 60, |s| (s.get("/readyz").0 == 200).then_some(()));
    let served = project.run(&["predict", "buys", "customer_id=7", "--json"]).good().json();
    assert_eq!(alone["predictions"][0]["score"], served["predictions"][0]["score"]);
    server.stop();
}

#[test]
fn dev_applies_again_when_a_file_changes() {
    let project = Project::shop();
    project.run(&["apply", "--yes"]).good();
    let server = project.start(&["dev", "--port", "0"]);
    server.wait_for("the endpoint", 60, |s| (s.get("/readyz").0 == 200).then_some(()));
    project.edit("features/activity.sql", "as orders_7d,", "as orders_7d, max(amount) as max_30d,");
    server.wait_for("the new feature", 90, |s| {
        let (status, answer) = s.post("/predict/buys", &json!({"rows": [{"customer_id": 7}], "explain": true}));
        (status == 200 && !answer["predictions"][0]["features"]["activity.max_30d"].is_null()).then_some(())
    });
    server.stop();
}
