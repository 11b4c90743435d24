//! What a project becomes: its graph, its values, its tests.

mod support;

use gristmill_deploy::spec::{DeploySpec, Rollout};
use gristmill_features::spec::FeaturesSpec;
use gristmill_kernel::graph::{Change, difference};
use gristmill_kernel::{Address, StageKind};
use gristmill_project::{run_tests, schema};
use gristmill_serve::spec::ServeSpec;
use support::{Folder, LABELS, TOML, VIEW, Words, all};

fn address(text: &str) -> Address {
    text.parse().expect(text)
}

#[test]
fn a_project_is_a_graph() {
    let project = Folder::new(TOML).good();
    let graph = project.graph(&Words).unwrap_or_else(|f| panic!("{}", all(&f)));
    let nodes: Vec<(String, StageKind)> = graph.nodes().iter().map(|n| (n.address.to_string(), n.stage)).collect();
    let names: Vec<&str> = nodes.iter().map(|(n, _)| n.as_str()).collect();
    assert_eq!(
        names,
        [
            "raw.events",
            "sources.events",
            "features.activity",
            "labels.churned",
            "training_sets.churn",
            "models.churn",
            "gates.churn",
            "endpoints.churn",
            "monitors.churn"
        ]
    );
    let node = graph.node(&address("endpoints.churn")).expect("a node");
    let spec: DeploySpec = serde_json::from_value(node.spec.clone()).expect("a spec");
    let serve: ServeSpec = serde_json::from_value(spec.serve).expect("a spec");
    assert_eq!(serve.entity, ["customer_id"]);
    assert!(matches!(spec.rollout, Rollout::Canary { ref steps, .. } if *steps == [50, 1000]));
    let node = graph.node(&address("features.activity")).expect("a node");
    let FeaturesSpec::View { tables, .. } = serde_json::from_value(node.spec.clone()).expect("a spec") else { panic!("a view") };
    assert_eq!(tables["events"].as_deref(), Some("at"));
    assert_eq!(node.parents, [address("sources.events")]);
}

#[test]
fn an_endpoint_of_a_registered_model_stands_alone() {
    let toml = TOML.replace("[env.fast]", "[endpoints.upsell]\nmodel = \"mlflow:Upsell EU@champion\"\ncache = \"1m\"\n\n[env.fast]");
    let folder = Folder::new(&toml);
    let graph = folder.good().graph(&Words).unwrap_or_else(|f| panic!("{}", all(&f)));
    let node = graph.node(&address("endpoints.upsell")).expect("a node");
    assert!(node.parents.is_empty() && graph.node(&address("monitors.upsell")).is_none());
    let spec: DeploySpec = serde_json::from_value(node.spec.clone()).expect("a spec");
    let serve: ServeSpec = serde_json::from_value(spec.serve.clone()).expect("a spec");
    assert_eq!((spec.model.to_string(), spec.rollout), ("mlflow:Upsell EU@champion".into(), Rollout::Direct));
    assert_eq!((serve.model, serve.entity.len(), serve.views.len()), (spec.model, 0, 0));
    let text = folder.good().show("endpoints.upsell").expect("shown").text();
    assert!(text.contains("model") && text.contains("\"mlflow:Upsell EU@champion\""), "{text}");
    let other = Folder::new(&toml.replace("@champion", "@7")).good().graph(&Words).expect("a graph");
    let changed: Vec<String> =
        difference(&graph, &other).into_iter().filter(|(_, c)| *c != Change::Keep).map(|(a, _)| a.to_string()).collect();
    assert_eq!(changed, ["endpoints.upsell"]);
    let alone = Folder(tempfile::tempdir().expect("a folder"));
    alone.put("gristmill.toml", "project = \"p\"\n[endpoints.upsell]\nmodel = \"mlflow:upsell@3\"\n");
    assert_eq!(alone.good().graph(&Words).expect("a graph").nodes().len(), 1, "a project may be nothing else");
}

#[test]
fn an_environment_changes_what_it_overrides_and_says_so() {
    let folder = Folder::new(TOML);
    let plain = folder.good();
    let fast = folder.load(Some("fast")).expect("loaded");
    let (a, b) = (plain.graph(&Words).expect("a graph"), fast.graph(&Words).expect("a graph"));
    let changed: Vec<String> = difference(&a, &b).into_iter().filter(|(_, c)| *c != Change::Keep).map(|(a, _)| a.to_string()).collect();
    assert_eq!(changed, ["endpoints.churn", "monitors.churn"]);
    let text = fast.show("endpoints.churn").expect("shown").text();
    for line in [
        "rollout.every = \"2s\"",
        "# env.fast gristmill.toml:18",
        "limits.timeout = \"10s\"",
        "# default",
        "monitor.outcomes = \"labels/churned.sql\"",
        "# derived",
        "# gristmill.toml:15",
    ] {
        assert!(text.contains(line), "{line}\n{text}");
    }
    assert!(plain.show("endpoints.churn").expect("shown").text().contains("rollout.every = \"30m\""));
    assert_eq!(plain.show("endpoints.chrn").expect_err("unknown").fix.as_deref(), Some("did you mean `churn`?"));
    assert!(plain.show("features.activity").expect("shown").text().contains("# features/activity.sql:2"));
}

#[test]
fn a_model_says_which_rows_its_labels_see() {
    let (plain, then) = (Folder::new(TOML), Folder::new(&TOML.replace("gates    =", "known    = \"then\"\ngates    =")));
    let spec = |folder: &Folder| {
        let graph = folder.good().graph(&Words).expect("a graph");
        graph.node(&address("training_sets.churn")).expect("a node").spec.clone()
    };
    assert_eq!(
        (spec(&plain).get("known"), spec(&then).get("known")),
        (None, Some(&"then".into())),
        "who does not ask keeps the spec of before"
    );
    let shown = |folder: &Folder| {
        let text = folder.good().show("models.churn").expect("shown").text();
        text.lines().find(|line| line.starts_with("known = ")).map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
    };
    assert_eq!(shown(&plain).as_deref(), Some("known = \"now\" # default"));
    assert_eq!(shown(&then).as_deref(), Some("known = \"then\" # gristmill.toml:11"));
    let text = plain.good().show("endpoints.churn").expect("shown").text();
    assert!(text.contains("monitor.parity = \"mismatch_rate > 0\"") && text.contains("monitor.audit = 1000"), "{text}");
}

#[test]
fn comments_and_formatting_change_nothing() {
    let folder = Folder::new(TOML);
    let before = folder.good().graph(&Words).expect("a graph");
    folder.put("gristmill.toml", &TOML.replace("[models.churn]", "# a comment\n\n\n[models.churn] # more"));
    folder.put("features/activity.sql", &VIEW.replace("from events", "-- why\n   from   events"));
    folder.put("labels/churned.sql", &LABELS.replace("/*---\n", "/*---\n# moved down\n"));
    let after = folder.good().graph(&Words).expect("a graph");
    assert!(difference(&before, &after).iter().all(|(_, c)| *c == Change::Keep), "{:?}", difference(&before, &after));
}

#[test]
fn the_drafts_of_the_language_parse() {
    for (name, toml, view) in [
        ("ads", include_str!("drafts/ads.toml"), "/*---\nentity = \"ad_id\"\n---*/\nselect ad_id from impressions"),
        ("pumps", include_str!("drafts/pumps.toml"), "/*---\nentity = \"pump_id\"\n---*/\nselect pump_id from telemetry"),
        ("churn", include_str!("drafts/churn.toml"), "/*---\nentity = \"customer_id\"\n---*/\nselect customer_id from events"),
    ] {
        let folder = Folder::new(toml);
        for file in ["ad_ctr", "user_interest", "auction", "vibration", "machine", "profile", "activity"] {
            folder.put(&format!("features/{file}.sql"), view);
        }
        for file in ["clicked", "fails_in_24h", "churned"] {
            folder.put(&format!("labels/{file}.sql"), LABELS);
        }
        let project = folder.good();
        assert_eq!(project.file.project.as_str(), name);
        for env in project.envs.clone() {
            folder.load(Some(&env)).unwrap_or_else(|f| panic!("{}", all(&f)));
        }
    }
}

#[tokio::test]
async fn views_are_tested_on_rows_at_hand() {
    let folder = Folder::new(TOML);
    folder.put(
        "tests/a.toml",
        r#"
[[test]]
name = "two rows"
view = "activity"
as_of = "2011-01-01"
entity = { customer_id = 1 }
expect = { n = 2, name = "null" }
rows.events = [{ customer_id = 1, at = "2010-01-01" }, { customer_id = 1, at = "2010-02-01", amount = 1.5 }]

[[test]]
name = "wrong"
view = "activity"
as_of = "2011-01-01"
entity = { customer_id = 1 }
expect = { n = 3 }

[[test]]
name = "no such column"
view = "activity"
as_of = "2011-01-01"
entity = { customer_id = 1 }
expect = { m = 3 }
"#,
    );
    let results = run_tests(&folder.good(), &Words).await.unwrap_or_else(|f| panic!("{}", all(&f)));
    assert_eq!(results[0].text(), "ok   tests/a.toml: two rows");
    assert_eq!(results[1].text(), "FAIL tests/a.toml: wrong\n  n\n  - expected 3\n  + found    0");
    assert!(results[2].text().contains("the view activity has no column `m`"), "{}", results[2].text());
    assert!(results[2].text().contains("tests/a.toml:22:"), "{}", results[2].text());
}

#[test]
fn examples_load() {
    for name in gristmill_project::examples::NAMES {
        let folder = support::Folder(tempfile::tempdir().expect("a folder"));
        for (path, bytes) in gristmill_project::example_files(name).expect(name) {
            let path = folder.0.path().join(path);
            std::fs::create_dir_all(path.parent().expect("a parent")).expect("folders");
            std::fs::write(path, bytes).expect("written");
        }
        let project = folder.good();
        schema::write(folder.0.path()).expect("a schema");
        for env in project.envs.clone() {
            folder.load(Some(&env)).unwrap_or_else(|f| panic!("{}", all(&f)));
        }
        assert_eq!(project.lock.to_text().lines().count() > 3, name != "empty", "{name}");
    }
}
