//! init, check, plan, apply: what changes, what does not, and who hears of it.

use gristmill_tests::Project;
use serde_json::Value;

fn changes(project: &Project) -> Vec<(String, String)> {
    let plan = project.run(&["plan", "--json"]).good().json();
    plan["changes"]
        .as_array()
        .expect("changes")
        .iter()
        .map(|c| (c["address"].as_str().expect("address").to_owned(), c["change"].as_str().expect("change").to_owned()))
        .collect()
}

fn steps(project: &Project, stage: &str) -> Vec<Value> {
    let status = project.run(&["status", "--runs", "500", "--json"]).good().json();
    status["runs"].as_array().expect("runs").iter().filter(|r| r["stage"] == stage && r["status"] == "succeeded").cloned().collect()
}

/// The issue's own words: a second plan has nothing to do, a comment changes nothing, a new feature is additive.
#[test]
fn churn_is_applied_once_and_then_only_what_changed() {
    let project = Project::example("churn");
    project.run(&["check"]).good();
    let first = changes(&project);
    assert!(first.iter().all(|(_, change)| change == "add"), "{first:?}");
    assert_eq!(project.run(&["plan", "--exit-code"]).code, 3);
    let applied = project.run(&["apply", "--yes"]).good();
    assert!(applied.err.contains("54,407 label rows") || applied.err.contains("54407 label rows"), "{}", applied.err);

    assert_eq!(changes(&project), []);
    assert_eq!(project.run(&["plan", "--exit-code"]).good().out.trim(), "nothing to do: the project is as applied");

    project.edit("features/activity.sql", "select", "-- a comment\nSELECT ");
    assert_eq!(changes(&project), [], "comments and formatting change nothing");

    let trained = steps(&project, "train").len();
    project.write(
        "features/returns.sql",
        "/*---\nentity = 'customer_id'\nserve = 'online'\n---*/\nselect customer_id, count(*) filter (where quantity < 0) as returned_lines\nfrom invoices where invoice_date > as_of() - interval '60 days' group by customer_id\n",
    );
    project.edit("gristmill.toml", "features = [", "features = [\"returns\", ");
    let planned = changes(&project);
    let of = |address: &str| planned.iter().find(|(a, _)| a == address).map(|(_, c)| c.as_str());
    assert_eq!(of("features.returns"), Some("add"));
    assert_eq!(of("training_sets.churn"), Some("update"));
    assert_eq!(of("models.churn"), Some("rebuild"));
    for untouched in ["raw.invoices", "sources.invoices", "features.activity", "labels.churned"] {
        assert_eq!(of(untouched), None, "{planned:?}");
    }
    project.run(&["apply", "--yes"]).good();
    assert_eq!(steps(&project, "train").len(), trained + 1, "only what depends on the feature is trained again");
    assert_eq!(steps(&project, "validate").len(), 1, "nothing upstream ran again");
    assert_eq!(changes(&project), []);
    project.run(&["logs", "--verify"]).good();
}

#[test]
fn the_same_inputs_give_the_same_model() {
    let digest = |project: &Project| {
        project.run(&["run", "models.buys"]).good();
        project.run(&["show", "models.buys", "--json"]).good().json()["version"]["digest"].as_str().expect("a digest").to_owned()
    };
    let (a, b) = (Project::shop(), Project::shop());
    assert_eq!(digest(&a), digest(&b));
    let again = a.run(&["run", "models.buys"]).good();
    assert!(again.err.contains("unchanged: same spec and inputs"), "a skipped step says why:\n{}", again.err);
}

#[test]
fn new_rows_in_a_file_reach_the_model() {
    let project = Project::shop();
    project.run(&["apply", "--yes"]).good();
    let rows =
        |project: &Project| project.run(&["sql", "select count(*) as n from events", "--json"]).good().json()[0]["n"].as_i64().expect("n");
    assert_eq!(rows(&project), 3000);
    let text = project.read("data/events.csv");
    project.write("data/events.csv", &format!("{text}3000,7,2024-05-01T00:00:00Z,1.5,sale\n"));
    project.run(&["run", "sources.events"]).good();
    assert_eq!(rows(&project), 3001);
}

#[test]
fn quarantined_rows_are_counted_listed_and_replayed() {
    let project = Project::shop();
    let text = project.read("data/events.csv");
    project.write("data/events.csv", &format!("{text}3000,,2024-05-01T00:00:00Z,1.5,sale\n3001,7,2024-05-01T00:00:00Z,-1,sale\n"));
    let ran = project.run(&["run", "sources.events"]).good();
    assert!(ran.err.contains("3,002") && ran.err.contains("3,000"), "the counts add up and are shown:\n{}", ran.err);
    let listed = project.run(&["quarantine", "list", "events", "--json"]).good();
    let rows: Vec<Value> = listed.out.lines().map(|l| serde_json::from_str(l).expect("JSON lines")).collect();
    assert_eq!(rows.len(), 2);
    let fixed: Vec<String> = rows
        .into_iter()
        .map(|mut row| {
            match row["amount"].as_f64() {
                Some(amount) if amount < 0.0 => row["amount"] = 1.0.into(),
                _ => row["customer_id"] = 8.into(),
            }
            row.to_string()
        })
        .collect();
    project.write("fixed.jsonl", &fixed.join("\n"));
    project.run(&["quarantine", "replay", "events", "fixed.jsonl"]).good();
    project.run(&["run", "sources.events"]).good();
    let count = project.run(&["sql", "select count(*) as n from events", "--json"]).good().json();
    assert_eq!(count[0]["n"], 3002);
}

#[test]
fn a_gate_that_says_no_keeps_the_endpoint_and_exits_with_4() {
    let project = Project::shop();
    project.run(&["apply", "--yes"]).good();
    let live = project.run(&["status", "--json"]).good().json()["endpoints"].clone();
    project.edit("gristmill.toml", "auc >= 0.5", "auc >= 0.999");
    let refused = project.run(&["apply", "--yes"]);
    assert_eq!(refused.code, 4, "{}\n{}", refused.out, refused.err);
    assert!(refused.out.contains("auc >= 0.999"), "{}", refused.out);
    assert_eq!(project.run(&["status", "--json"]).good().json()["endpoints"], live);
    project.run(&["promote", "models.buys@1", "--reason", "no"]).fails_with(4, "E0403");
}

#[test]
fn an_environment_may_override_any_address() {
    let project = Project::shop();
    let text = project.read("gristmill.toml");
    project.write("gristmill.toml", &format!("{text}\n[env.strict]\nmodels.buys.gates = [\"auc >= 0.999\"]\n"));
    project.run(&["apply", "--yes"]).good();
    assert_eq!(project.run(&["--env", "strict", "apply", "--yes"]).code, 4);
    project.run(&["--env", "nope", "check"]).fails_with(1, "E0110");
}
