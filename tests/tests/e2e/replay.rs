//! `gristmill replay`: a logged prediction is computed again, features and score, and rows that came later are told from what must not be.

use gristmill_tests::Project;
use serde_json::{Value, json};

#[test]
fn a_prediction_is_computed_again_to_the_bit() {
    let project = Project::shop();
    project.run(&["apply", "--yes"]).good();
    let server = project.start(&["dev", "--port", "0"]);
    let ask = json!({ "rows": [{ "customer_id": 7 }, { "customer_id": 777 }], "as_of": "2024-05-02T00:00:00Z" });
    let answer = server.wait_for("the endpoint", 60, |s| {
        let (status, answer) = s.post("/predict/buys", &ask);
        (status == 200).then_some(answer)
    });
    let id = |row: usize| answer["predictions"][row]["prediction_id"].as_str().expect("an id").to_owned();
    let replay = |id: &str| -> Option<Value> {
        let ran = project.run(&["replay", id, "--json"]);
        (ran.code == 0).then(|| ran.json())
    };
    let seen = server.wait_for("the log", 60, |_| replay(&id(0)));
    let told = |seen: &Value| {
        (
            seen["prediction"]["views"][0]["found"].as_str().expect("a word").to_owned(),
            seen["same"] == true,
            seen["model_again"]["same"] == true,
        )
    };
    assert_eq!(told(&seen), ("equal".into(), true, true), "{seen}");
    assert_eq!(seen["prediction"]["score"], answer["predictions"][0]["score"], "bit for bit: {seen}");
    assert_eq!(seen["model_again"]["score"], answer["predictions"][0]["score"]);
    let short = project.run(&["replay", &id(0)[..12]]).good().out;
    assert!(short.contains("features.activity@1: the same") && short.contains("models.buys@1") && short.contains(&id(0)), "{short}");

    // A row that comes later, for a moment before the answer: the tables say something else now, and the replay says why.
    let row = json!([{ "id": 5000, "customer_id": 777, "at": "2024-05-01T00:00:00Z", "amount": 1.5, "kind": "sale" }]);
    assert_eq!(server.post("/ingest/events", &row).0, 200);
    let late = server.wait_for("the late row", 60, |_| replay(&id(1)).filter(|seen| told(seen).0 != "equal"));
    assert_eq!(told(&late), ("late".into(), true, true), "{late}");
    let now = late["prediction"]["views"][0]["now"].as_array().expect("differences");
    assert!(now.iter().any(|d| d["feature"] == "activity.orders_30d" && d["served"] == 0 && d["computed"] == 1), "{late}");
    let text = project.run(&["replay", &id(1)]).good().out;
    assert!(text.contains("the same without the rows that came after the answer"), "{text}");

    // Features that the caller sent are taken as they were logged.
    let names: Vec<String> = seen["prediction"]["features"].as_object().expect("features").keys().cloned().collect();
    let inputs: Vec<Value> =
        names.iter().map(|name| json!({ "name": name, "shape": [1], "datatype": "FP64", "data": [0.1 + 0.2] })).collect();
    let wanted = json!([{ "name": "prediction_id" }, { "name": "score" }]);
    let (status, sent) = server.post("/v2/models/buys/infer", &json!({ "inputs": inputs, "outputs": wanted }));
    assert_eq!(status, 200, "{sent}");
    let sent_id = sent["outputs"][0]["data"][0].as_str().expect("an id").to_owned();
    let seen = server.wait_for("the log", 60, |_| replay(&sent_id));
    assert_eq!((&seen["prediction"]["views"], &seen["model_again"]["score"]), (&json!([]), &sent["outputs"][1]["data"][0]), "{seen}");

    for (id, part) in [("ffffffffffff", "no logged prediction"), ("xyz", "not the id"), ("' or 1=1", "not the id")] {
        let refused = project.run(&["replay", id]);
        assert!(refused.code == 1 && refused.err.contains("E0512") && refused.err.contains(part), "{}", refused.err);
    }
    server.stop();
}
