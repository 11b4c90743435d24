//! The examples that the binary carries: each works from `init` to an answer, without anything else.
//!
//! They run on all of their data in a release build; here, where nothing is optimised, they run on a part of it.

use gristmill_tests::Project;
use serde_json::{Value, json};

/// Conditions that make an example small: labels of a part of its time. Everything else stays as it is.
fn cut(project: &Project, file: &str, from: &str, to: &str) {
    project.edit(file, from, to);
}

/// `check`, `test`, `plan`, `apply` and `plan` again.
fn loop_of(project: &Project) -> Value {
    project.run(&["check"]).good();
    let tested = project.run(&["test", "--json"]).good().json();
    assert!(tested["passed"].as_u64().expect("a number") >= 3, "{tested}");
    let planned = project.run(&["plan", "--exit-code"]);
    assert_eq!(planned.code, 3, "{}{}", planned.out, planned.err);
    let run = project.run(&["apply", "--yes", "--json"]).good().json();
    project.run(&["plan", "--exit-code"]).good();
    run
}

fn count(project: &Project, sql: &str) -> i64 {
    project.run(&["sql", sql, "--json"]).good().json()[0]["n"].as_i64().expect("a count")
}

fn metrics(project: &Project, model: &str) -> Value {
    let run = project.run(&["show", model, "--json"]).good().json()["version"]["run"].as_str().expect("a run").to_owned();
    project.run(&["show", &run, "--json"]).good().json()["metrics"].clone()
}

#[test]
fn turbines_from_init_to_an_answer() {
    let project = Project::example("turbines");
    assert!(project.read("data/ATTRIBUTION.md").contains("ENGIE"));
    cut(
        &project,
        "labels/stops.sql",
        "date_trunc('hour', ts) as asked_at from readings",
        "date_trunc('day', ts) as asked_at from readings",
    );
    cut(&project, "gristmill.toml", "trees = 200", "trees = 10");
    cut(&project, "gristmill.toml", "\"auc >= 0.65\", \"pr_auc >= 0.02\", ", "");
    loop_of(&project);
    // What is wrong with the file is in the quarantine: readings that say nothing, and an hour that is there twice.
    assert_eq!(count(&project, "select count(*) as n from readings"), 420_480 - 2_569 - 48);
    assert_eq!(count(&project, "select count(*) as n from quarantine_readings"), 2_569 + 48);
    let server = project.start(&["dev", "--port", "0"]);
    let answer = server.wait_for("an answer", 120, |s| {
        let (status, answer) =
            s.post("/predict/stop", &json!({"rows": [{"turbine": "R80711"}], "as_of": "2015-06-01T12:00:00", "explain": true}));
        (status == 200).then_some(answer)
    });
    let features = &answer["predictions"][0]["features"];
    assert_eq!(features["sensors.readings_24h"], 143, "the reading at the moment itself does not count: {answer}");
    assert!(features["sensors.power_sd_1h"].as_f64().is_some_and(|sd| sd > 0.0), "{answer}");
    server.stop();
}

#[test]
fn ads_from_init_to_an_answer() {
    let project = Project::example("ads");
    assert!(project.read("data/ATTRIBUTION.md").contains("2008.07146"));
    cut(
        &project,
        "labels/clicked.sql",
        "left join clicks c on c.impression_id = i.impression_id",
        "left join clicks c on c.impression_id = i.impression_id\nwhere i.impression_id % 20 = 0 or c.impression_id is not null",
    );
    cut(&project, "gristmill.toml", "\"logloss <= 0.04\", ", "");
    loop_of(&project);
    assert!(metrics(&project, "models.shelf")["ndcg_10"].as_f64().is_some_and(|v| v > 0.0 && v < 1.0));
    let clicks = count(&project, "select count(*) as n from clicks");
    assert_eq!((clicks, count(&project, "select count(*) as n from impressions")), (287, 60_000));
    // Candidates for one visitor: the answers rank them.
    let who = json!({"user_feature_0": "81ce123cbb5bd8ce818f60fb3586bba5", "user_feature_1": "03a5648a76832f83c859d46bc06cb64a",
        "user_feature_2": "2d03db5543b14483e52d761760686b64", "user_feature_3": "c39b0c7dd5d4eb9a18e7db6ba2f258f8"});
    let candidate = |item: i64| {
        let mut row = who.clone();
        for (key, value) in [("campaign", json!("men")), ("item_id", json!(item))] {
            row[key] = value;
        }
        row
    };
    let rows: Vec<Value> = (0..5).map(candidate).collect();
    let server = project.start(&["dev", "--port", "0"]);
    let answer = server.wait_for("an answer", 120, |s| {
        let (status, answer) = s.post("/predict/click", &json!({"rows": rows, "as_of": "2019-11-30T12:00:00", "explain": true}));
        (status == 200).then_some(answer)
    });
    for (row, item) in answer["predictions"].as_array().expect("answers").iter().zip(0..) {
        let score = row["score"].as_f64().expect("a score");
        assert!(score > 0.0 && score < 0.2, "{row}");
        let shown = count(
            &project,
            &format!(
                "select count(*) as n from impressions where campaign = 'men' and item_id = {item} and shown_at < timestamp '2019-11-30T12:00:00Z' and shown_at > timestamp '2019-11-27T12:00:00Z'"
            ),
        );
        assert_eq!(row["features"]["traffic.shown_72h"], shown, "{row}");
    }
    server.stop();
}

/// The streams of the ads are played in step, and what is served is what lies in the tables.
#[test]
fn ads_are_replayed_at_speed() {
    let project = Project::example("ads");
    // Only the streams and their features; the models are the other test's. The last day takes four seconds.
    let text = project.read("gristmill.toml");
    let sources = text.split("[models.click]").next().expect("the sources");
    project.write(
        "gristmill.toml",
        &format!(
            "{sources}\n[env.replay]\nsources.impressions.from = \"replay://data/impressions.parquet?from=2019-11-30&speed=21600\"\nsources.clicks.from = \"replay://data/clicks.parquet?from=2019-11-30&speed=21600\"\n"
        ),
    );
    project.run(&["--env", "replay", "apply", "--yes"]).good();
    let now = |table: &str| count(&project, &format!("select count(*) as n from {table}"));
    assert_eq!((now("impressions"), now("clicks")), (60_000 - 8_006, 287 - 43), "the days before are history");
    let server = project.start(&["--env", "replay", "dev", "--port", "0"]);
    server.wait_for("the whole day", 120, |_| (now("impressions") == 60_000 && now("clicks") == 287).then_some(()));
    server.stop();
    let ids = project.run(&["sql", "select count(distinct impression_id) as n from impressions", "--json"]).good().json();
    assert_eq!(ids[0]["n"], 60_000, "each once");
}
