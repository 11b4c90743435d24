//! The online store is a copy: when it is lost, one command brings it back.

use gristmill_tests::Project;
use serde_json::{Value, json};

#[test]
fn one_command_rebuilds_a_lost_online_store() {
    let project = Project::shop();
    project.run(&["apply", "--yes"]).good();
    let entities: Vec<i64> = (0..100).collect();
    let wanted = json!({ "entities": { "customer_id": entities }, "features": ["activity:orders_30d", "activity:spend_30d"] });
    let answers = || -> Value {
        let server = project.start(&["dev", "--port", "0"]);
        server.wait_for("the endpoint", 60, |s| (s.get("/readyz").0 == 200).then_some(()));
        let (status, found) = server.post("/get-online-features", &wanted);
        assert_eq!(status, 200, "{found}");
        server.stop();
        found["results"].clone()
    };
    let before = answers();
    assert!(before[1]["statuses"].as_array().expect("statuses").iter().all(|s| s == "PRESENT"), "{before}");

    let kept = project.run(&["run"]).good();
    assert!(!kept.out.contains("rows applied online"), "nothing is done again while it stands: {}{}", kept.out, kept.err);
    std::fs::remove_file(project.path().join(".gristmill/kv/online.redb")).expect("the store");
    let ran = project.run(&["run", "features.activity"]).good();
    assert!((ran.out.clone() + &ran.err).contains("3000 rows applied online"), "{}{}", ran.out, ran.err);
    assert_eq!(answers(), before);
}
