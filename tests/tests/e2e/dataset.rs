//! `gristmill dataset`: equal inputs are equal bytes, a version says what it was made from, and a file is there whole or not at all.

use gristmill_tests::Project;
use serde_json::Value;
use std::process::Stdio;

fn record(project: &Project, address: &str) -> Value {
    project.run(&["dataset", address, "--json"]).good().json()
}

#[test]
fn the_same_inputs_have_the_same_digest_and_others_another() {
    let (one, two) = (Project::shop(), Project::shop());
    for project in [&one, &two] {
        project.run(&["apply", "--yes"]).good();
    }
    let first = record(&one, "training_sets.buys");
    assert_eq!(first["digest"], record(&two, "training_sets.buys")["digest"], "made twice, in two places, at two times");
    one.run(&["run", "training_sets.buys", "--force"]).good();
    assert_eq!(record(&one, "training_sets.buys")["digest"], first["digest"]);
    // What is written has this digest too.
    let written = one.run(&["dataset", "training_sets.buys", "--out", "set.parquet", "--json"]).good().json();
    assert_eq!(written["written"]["digest"], first["digest"]);
    assert_eq!(written["written"]["rows"], first["rows"]);
    let sum = std::process::Command::new("sha256sum").arg(one.path().join("set.parquet")).output().expect("sha256sum");
    let sum = String::from_utf8_lossy(&sum.stdout).into_owned();
    assert_eq!(format!("sha256:{}", sum.split_whitespace().next().expect("a sum")), first["digest"].as_str().expect("a digest"));
    // Another feature, other rows, another split: another digest.
    two.edit("features/activity.sql", "interval '30 days'", "interval '29 days'");
    two.run(&["apply", "--yes"]).good();
    let other = record(&two, "training_sets.buys");
    assert_ne!(other["digest"], first["digest"]);
    assert_eq!(record(&two, "training_sets.buys@1")["digest"], first["digest"], "the old version stays what it was");
    let text = two.read("gristmill.toml").replace("gates ", "split    = { by = \"random\", test = 0.5 }\ngates ");
    two.write("gristmill.toml", &text);
    two.run(&["apply", "--yes"]).good();
    assert_ne!(record(&two, "training_sets.buys")["digest"], other["digest"]);
}

#[test]
fn a_version_says_what_it_was_made_from_and_how_it_was_split() {
    let project = Project::shop();
    project.run(&["apply", "--yes"]).good();
    let said = record(&project, "training_sets.buys");
    let lineage = &said["lineage"];
    let only = |kind: &str| {
        let list = lineage[kind].as_array().unwrap_or_else(|| panic!("no {kind}: {said:#}"));
        assert_eq!(list.len(), 1, "{said:#}");
        list[0].clone()
    };
    assert_eq!(only("labels")["version"], "labels.buys@1");
    assert_eq!(only("features")["version"], "features.activity@1");
    assert_eq!(only("features")["tables"]["events"]["table"], "sources__events");
    assert_eq!(only("sources")["version"], "sources.events@1");
    let raw = only("raw");
    assert_eq!((&raw["version"], &raw["rows"], &raw["positions"]["files"]), (&"raw.events@1".into(), &3000.into(), &1.into()));
    assert_eq!((&raw["files"][0]["path"], &raw["files"][0]["rows"]), (&"data/events.csv".into(), &3000.into()));
    // The split is recorded, and is that of the rows.
    assert_eq!(said["split"]["split"], serde_json::json!({"by": "time", "test": 0.2}));
    let rows = project.run(&["dataset", "training_sets.buys", "--format", "jsonl"]).good().out;
    let rows: Vec<Value> = rows.lines().map(|line| serde_json::from_str(line).expect("a row")).collect();
    let count = |side: &str| rows.iter().filter(|row| row["__split"] == side).count();
    assert_eq!(
        (said["split"]["train_rows"].as_u64(), said["split"]["test_rows"].as_u64()),
        (Some(count("train") as u64), Some(count("test") as u64))
    );
    let from = said["split"]["test_from"].as_str().expect("a moment");
    let earliest = rows.iter().filter(|row| row["__split"] == "test").map(|row| row["__time"].as_str().expect("a moment")).min();
    assert_eq!(earliest.map(|t| t[..19].to_owned()), Some(from[..19].to_owned()));
    // More rows are a later position, and the first set still names the first.
    let more = format!("{}3000,1,2024-02-01T00:00:00Z,1.0,sale\n", project.read("data/events.csv"));
    project.write("data/events.csv", &more);
    project.run(&["apply", "--yes"]).good();
    // The labels came out the same and keep their version, so the first load is behind the second set too.
    let latest = record(&project, "training_sets.buys");
    let raw = latest["lineage"]["raw"].as_array().expect("raw versions");
    assert_eq!(raw.iter().map(|v| v["positions"]["files"].as_i64().expect("a position")).max(), Some(2), "{latest:#}");
    assert_eq!(record(&project, "training_sets.buys@1")["lineage"]["raw"][0]["positions"]["files"], 1);
}

#[test]
fn every_format_has_every_row_in_the_same_order() {
    let project = Project::shop();
    project.run(&["apply", "--yes"]).good();
    for (file, address) in
        [("a.csv", "sources.events"), ("b.jsonl", "sources.events"), ("c.arrow", "sources.events"), ("d.parquet", "sources.events")]
    {
        let said = project.run(&["dataset", address, "--out", file, "--json"]).good().json();
        assert_eq!(said["written"]["rows"], 3000, "{file}");
        assert_eq!(said["written"]["bytes"].as_u64(), Some(std::fs::metadata(project.path().join(file)).expect("a file").len()));
        let again = project.run(&["dataset", address, "--out", &format!("again-{file}"), "--json"]).good().json();
        assert_eq!(said["written"]["digest"], again["written"]["digest"], "{file}");
    }
    // Our own columns come along: they name the row for ever.
    let csv = project.read("a.csv");
    assert!(csv.lines().next().expect("a header").starts_with("id,customer_id,at,amount,kind"), "{}", &csv[..200]);
    let ids: Vec<&str> = csv.lines().skip(1).map(|line| line.split(',').next().expect("an id")).collect();
    assert_eq!(ids, (0..3000).map(|id| id.to_string()).collect::<Vec<_>>(), "rows are in the order in which they came");
    // A quarantine that is empty is a header.
    let empty = project.run(&["dataset", "quarantine.events"]);
    if empty.code == 0 {
        assert!(empty.out.lines().count() <= 1, "{}", empty.out);
    }
}

#[test]
fn what_cannot_be_written_says_why_and_leaves_nothing() {
    let project = Project::shop();
    project.run(&["dataset", "training_sets.buys"]).fails_with(1, "E");
    project.run(&["apply", "--yes"]).good();
    project.run(&["dataset", "endpoints.buys", "--out", "x.csv"]).fails_with(1, "E0704");
    project.run(&["dataset", "training_sets.nope"]).fails_with(1, "E");
    project.run(&["dataset", "sources.events", "--out", "rows.xlsx"]).fails_with(1, "E");
    project.run(&["dataset", "sources.events", "--out", "nowhere/rows.csv"]).fails_with(1, "E");
    project.run(&["dataset", "training_sets.buys@7", "--out", "rows.csv"]).fails_with(1, "E");
    let left: Vec<_> = std::fs::read_dir(project.path())
        .expect("the folder")
        .map(|entry| entry.expect("an entry").file_name().into_string().expect("text"))
        .filter(|name| name.ends_with(".part") || name.starts_with("rows") || name.starts_with("x."))
        .collect();
    assert!(left.is_empty(), "{left:?}");
    // A reader that has seen enough is no error.
    let mut child =
        project.command(&["dataset", "sources.events"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("a process");
    let mut few = [0; 10];
    std::io::Read::read_exact(child.stdout.as_mut().expect("its output"), &mut few).expect("a beginning");
    drop(child.stdout.take());
    let ended = child.wait_with_output().expect("an end");
    assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
}
