//! Feast's surfaces: what its server answers, and its unmodified SDK with a `remote` online store.

use gristmill_tests::{Project, Ran, Server, client, clients};
use serde_json::{Value, json};
use std::process::Command;

/// The drivers of Feast's quickstart, as a project of ours.
fn drivers() -> Project {
    let project = Project::empty();
    project.write(
        "gristmill.toml",
        "project = \"drivers\"\n\n[sources.driver_stats]\nfrom = \"data/stats.csv\"\ntime = \"event_timestamp\"\n",
    );
    project.write(
        "data/stats.csv",
        "driver_id,event_timestamp,conv_rate,acc_rate,avg_daily_trips\n\
         1001,2025-12-31T00:00:00Z,0.5,0.25,7\n1002,2025-12-31T00:00:00Z,0.125,,8\n",
    );
    project.write(
        "features/driver_hourly_stats.sql",
        "/*---\nentity = 'driver_id'\nserve = 'online'\nties = 'include'\n---*/\n\
         select driver_id, conv_rate, acc_rate, avg_daily_trips from driver_stats\n",
    );
    project.write(
        "features/two_sources.sql",
        "/*---\nentity = 'driver_id'\nserve = 'online'\n---*/\n\
         select a.driver_id, count(*) as pairs from driver_stats a join driver_stats b on a.driver_id = b.driver_id \
         where a.event_timestamp > as_of() - interval '1 day' group by a.driver_id\n",
    );
    project.run(&["apply", "--yes"]).good();
    project
}

fn ask(server: &Server, body: &Value) -> Option<Value> {
    let (status, answer) = server.post("/get-online-features", body);
    (status == 200).then_some(answer)
}

/// The error inside of the text that a failure is.
fn error(answer: &Value) -> Value {
    serde_json::from_str(answer.as_str().unwrap_or_else(|| panic!("no text: {answer}"))).expect("JSON in a text")
}

#[test]
fn features_are_answered_as_feasts_server_does() {
    let project = drivers();
    let server = project.start(&["dev", "--port", "0"]);
    let features = json!(["driver_hourly_stats:acc_rate", "driver_hourly_stats:avg_daily_trips"]);
    let wanted = json!({ "entities": { "driver_id": [1001, 1002, 9] }, "features": features });
    let found = server.wait_for("the view", 60, |s| ask(s, &wanted).filter(|found| found["results"][2]["values"][0] == 7));
    let never = "1970-01-01T00:00:00Z";
    let at = "2025-12-31T00:00:00Z";
    assert_eq!(
        found,
        json!({
            "metadata": { "feature_names": ["driver_id", "acc_rate", "avg_daily_trips"] },
            "results": [
                { "values": [1001, 1002, 9], "statuses": ["PRESENT", "PRESENT", "PRESENT"], "event_timestamps": [never, never, never] },
                { "values": [0.25, null, null], "statuses": ["PRESENT", "NULL_VALUE", "NOT_FOUND"], "event_timestamps": [at, at, never] },
                { "values": [7, 8, null], "statuses": ["PRESENT", "PRESENT", "NOT_FOUND"], "event_timestamps": [at, at, never] },
            ],
        })
    );
    // 1001.0 is 1001, as pandas writes it; 1001.5 is nobody.
    let fraction = |id: f64| server.post("/get-online-features", &json!({ "entities": { "driver_id": [id] }, "features": features }));
    assert_eq!(fraction(1001.0).1["results"][2]["values"], json!([7]));
    let (status, refused) = fraction(1001.5);
    assert!(status == 422 && error(&refused).to_string().contains("is 1001.5, which is no whole number"), "{refused}");
    let full = ask(&server, &json!({ "entities": { "driver_id": [1001] }, "features": features, "full_feature_names": true }));
    assert_eq!(full.expect("an answer")["metadata"]["feature_names"][1], "driver_hourly_stats__acc_rate");

    let df = json!({ "driver_id": [1001], "event_timestamp": ["2026-01-01 00:00:00"], "created": [null], "conv_rate": [1.0], "acc_rate": [0.75],
                     "avg_daily_trips": [9] });
    let push = json!({ "push_source_name": "driver_stats", "df": df, "to": "online_and_offline", "allow_registry_cache": true });
    assert_eq!(server.post("/push", &push), (200, Value::Null));
    server.wait_for("the pushed row", 60, |s| ask(s, &wanted).filter(|found| found["results"][2]["values"] == json!([9, 8, null])));

    let one = |key: &str, value: Value| json!({ "entities": { "driver_id": [1] }, key: value });
    let refused = [
        ("/get-online-features", one("features", json!(["nobody:x"])), 404, "FeatureViewNotFoundException"),
        ("/get-online-features", one("features", json!(["driver_hourly_stats:x"])), 404, "SpecifiedFeaturesNotPresentError"),
        ("/get-online-features", one("feature_service", json!("x")), 404, "FeatureServiceNotFoundException"),
        ("/get-online-features", one("features", json!(["x"])), 422, "FeastError"),
        ("/get-online-features", one("features", json!([])), 422, "FeastError"),
        ("/get-online-features", json!({ "entities": { "a": [1], "b": [] }, "features": features }), 422, "FeastError"),
        ("/get-online-features", json!({ "entities": { "rider_id": [1] }, "features": features }), 422, "FeastError"),
        ("/get-online-features", json!({}), 422, "FeastError"),
        ("/push", json!({ "push_source_name": "nobody", "df": df }), 404, "FeastError"),
        ("/push", json!({ "push_source_name": "driver_stats", "df": { "driver_id": [1], "x": [1] } }), 422, "FeastError"),
        ("/push", json!({ "push_source_name": "driver_stats", "df": {} }), 422, "FeastError"),
        ("/push", json!({ "push_source_name": "driver_stats", "df": df, "to": "moon" }), 422, "FeastError"),
        ("/write-to-online-store", json!({ "feature_view_name": "nobody", "df": df }), 404, "FeatureViewNotFoundException"),
    ];
    for (path, body, wanted, class) in refused {
        let (status, answer) = server.post(path, &body);
        assert_eq!((status, error(&answer)["class"].as_str()), (wanted, Some(class)), "{path} {body}: {answer}");
        assert!(error(&answer)["message"].as_str().is_some_and(|m| !m.is_empty()), "{answer}");
    }
    server.stop();
}

#[test]
fn materializing_reads_the_source_again() {
    let project = drivers();
    let server = project.start(&["dev", "--port", "0"]);
    let wanted = json!({ "entities": { "driver_id": [1001] }, "features": ["driver_hourly_stats:avg_daily_trips"] });
    let trips = |s: &Server| ask(s, &wanted).map(|found| found["results"][1]["values"][0].clone());
    server.wait_for("the view", 60, |s| trips(s).filter(|trips| *trips == 7));
    let more = format!("{}1001,2026-01-01T00:00:00Z,0.5,0.25,70\n", project.read("data/stats.csv"));
    project.write("data/stats.csv", &more);
    let range = json!({ "start_ts": "2025-01-01T00:00:00", "end_ts": "2026-01-02T00:00:00", "feature_views": ["driver_hourly_stats"] });
    assert_eq!(server.post("/materialize", &range), (200, Value::Null));
    assert_eq!(trips(&server), Some(json!(70)), "it is there when the answer is");
    let again = json!({ "end_ts": "2026-01-02T00:00:00Z" });
    assert_eq!(server.post("/materialize-incremental", &again), (200, Value::Null), "nothing is new, and that is well");
    let (status, answer) = server.post("/materialize-incremental?async=true", &again);
    assert_eq!((status, answer), (202, json!({ "status": "accepted", "feature_views": ["driver_hourly_stats", "two_sources"] })));
    // What was read cannot be taken back: a file whose old rows changed is refused, and the caller hears why.
    project.write("data/stats.csv", &more.replace("0.125", "0.25"));
    let (status, answer) = server.post("/materialize", &range);
    assert!(status == 422 && error(&answer)["message"].as_str().is_some_and(|m| m.contains("stats.csv")), "{status} {answer}");
    assert_eq!(error(&server.post("/materialize", &json!({})).1)["class"], "FeastError");
    server.stop();
}

#[test]
fn a_feature_service_is_an_endpoint() {
    let project = Project::shop();
    project.run(&["apply", "--yes"]).good();
    let server = project.start(&["dev", "--port", "0"]);
    let wanted = json!({ "entities": { "customer_id": [7] }, "feature_service": "buys", "full_feature_names": true });
    let found = server.wait_for("the endpoint", 60, |s| ask(s, &wanted));
    let (status, predicted) = server.post("/predict/buys", &json!({ "rows": [{ "customer_id": 7 }], "explain": true }));
    assert_eq!(status, 200, "{predicted}");
    let names = found["metadata"]["feature_names"].as_array().expect("names");
    assert_eq!(names.len(), 4, "{found}");
    for (place, name) in names.iter().enumerate().skip(1) {
        let feature = name.as_str().expect("a name").replacen("__", ".", 1);
        assert_eq!(
            found["results"][place]["values"][0], predicted["predictions"][0]["features"][&feature],
            "{feature}: what the model saw"
        );
    }
    server.stop();
}

#[test]
fn strangers_neither_read_nor_write() {
    let project = drivers();
    let server = project.start(&["serve", "--port", "0"]);
    for path in ["/get-online-features", "/push", "/write-to-online-store", "/materialize", "/materialize-incremental"] {
        let (status, answer) = server.post(path, &json!({}));
        assert_eq!((status, error(&answer)["class"].as_str()), (401, Some("FeastPermissionError")), "{path}: {answer}");
    }
    let viewer = project.run(&["token", "new", "reader", "--role", "viewer"]).good().out.trim().to_owned();
    for path in ["/push", "/materialize", "/materialize-incremental"] {
        let asked = client().post(format!("{}{path}", server.url)).bearer_auth(&viewer).json(&json!({})).send().expect("an answer");
        assert_eq!(asked.status().as_u16(), 403, "{path}");
    }
    server.stop();
}

#[test]
#[ignore = "needs Python and PyPI: cargo test -- --include-ignored"]
fn the_unmodified_sdk_reads_and_writes() {
    let project = drivers();
    let server = project.start(&["serve", "--port", "0"]);
    let shown = |s: &Server| Some(s.log().lines().find_map(|l| l.split_once("shown this once: "))?.1.trim().to_owned());
    let token: String = server.wait_for("the token", 20, shown);
    let script = gristmill_tests::folder().join("feast/sdk.py");
    let ran: Ran = Command::new(clients::python("feast")).arg(script).args([&server.url, &token]).output().expect("Python starts").into();
    let said = ran.good();
    let said: Value = serde_json::from_str(said.out.lines().last().expect("a line")).expect("JSON");
    let of = |key: &str, rate: f64, minute: i64| {
        let found = &said[key];
        assert_eq!(found["driver_id"], json!([1001, 1002, 9]), "{said}");
        assert_eq!(found["conv_rate"], json!([rate, rate / 2.0, null]), "{said}");
        assert_eq!(found["acc_rate"], json!([0.25, null, null]), "{said}");
        assert_eq!(found["avg_daily_trips"], json!([100 + minute, 200 + minute, null]), "{said}");
    };
    of("pushed", 0.75, 10);
    of("written", 0.125, 20);
    assert_eq!(said["service"], "FeatureServiceNotFoundException", "the SDK knows our errors: {said}");
    assert!(said["refused"].is_string(), "a text is no driver: {said}");
    server.stop();
}

/// Runs `moved.py`; what it said.
fn moved(args: &[&str]) -> Value {
    let script = gristmill_tests::folder().join("feast/moved.py");
    let ran: Ran = Command::new(clients::python("feast")).arg(script).args(args).output().expect("Python starts").into();
    serde_json::from_str(ran.good().out.lines().last().expect("a line")).expect("JSON")
}

/// What Feast's users ask, as labels whose value is the number of the asked row.
fn asks(project: &Project, name: &str, keys: &str, views: [&str; 2]) {
    project.write(
        &format!("labels/{name}.sql"),
        &format!("/*---\nentity = {keys}\ntime = 'asked_at'\nlabel = 'row_id'\n---*/\nselect * from asked_{name}\n"),
    );
    let mut toml = project.read("gristmill.toml");
    toml += &format!("\n[sources.asked_{name}]\nfrom = \"feast/asked_{name}.csv\"\ntime = \"asked_at\"\n");
    for view in views {
        toml += &format!(
            "\n[models.{view}]\nlabels = \"labels/{name}.sql\"\nfeatures = [\"{view}\"]\ntrain = \"baseline\"\n\
             task = \"regression\"\nmeasure = \"rmse\"\n"
        );
    }
    project.write("gristmill.toml", &toml);
}

#[test]
#[ignore = "needs Python and PyPI: cargo test -- --include-ignored"]
fn an_imported_repository_gives_feasts_values() {
    let project = Project::empty();
    let folder = project.path().join("feast");
    std::fs::create_dir_all(&folder).expect("a folder");
    let folder = folder.to_str().expect("text").to_owned();
    moved(&["make", &folder]);
    for (repo, sources, views) in [("feast/quick/feature_repo", 2, 2), ("feast/hard", 2, 2)] {
        let report = project.run(&["import", "feast", repo, "--out", ".", "--json"]).good().json();
        assert_eq!((&report["sources"]["new"], &report["views"]["new"]), (&json!(sources), &json!(views)), "{report}");
        let again = project.run(&["import", "feast", repo, "--out", ".", "--json"]).good().json();
        assert_eq!((&again["sources"]["same"], &again["views"]["same"]), (&json!(sources), &json!(views)), "{again}");
    }
    asks(&project, "quick", "'driver_id'", ["driver_hourly_stats", "driver_hourly_stats_fresh"]);
    asks(&project, "hard", "['driver_id', 'city']", ["renamed", "forever"]);
    project.run(&["apply", "--yes"]).good();
    let views = ["driver_hourly_stats", "driver_hourly_stats_fresh", "renamed", "forever"];
    for view in views {
        let rows = project.command(&["dataset", &format!("training_sets.{view}"), "--format", "parquet"]).output().expect("rows");
        assert!(rows.status.success(), "{}", String::from_utf8_lossy(&rows.stderr));
        std::fs::write(project.path().join(format!("feast/{view}.parquet")), rows.stdout).expect("a file");
    }
    let counts = moved(&["compare", &folder]);
    for view in views {
        let count = |what: &str| counts[view][what].as_u64().unwrap_or_else(|| panic!("{counts}"));
        assert_eq!(count("asked"), count("feast") + count("too_old") + count("twins"), "{counts}");
        assert!(count("feast") > 50 && count("values") > 100 && count("too_old") > 3, "it is a test of something: {counts}");
        assert!(view == "renamed" || count("agreed") == count("feast"), "Feast's very values: {counts}");
    }
    let server = project.start(&["dev", "--port", "0"]);
    server.wait_for("the views", 60, |s| {
        let wanted = json!({ "entities": { "driver_id": [1001] }, "features": ["driver_hourly_stats_fresh:conv_rate"] });
        ask(s, &wanted).filter(|found| found["results"][1]["values"][0].is_number())
    });
    let counts = moved(&["online", &folder, &server.url]);
    for what in views.iter().chain(&["sdk"]) {
        assert!(counts[what].as_u64().is_some_and(|values| values > 3), "{counts}");
    }
    assert_eq!(counts["unknown"], "RuntimeError", "the SDK says that materializing failed: {counts}");
    server.stop();
}
