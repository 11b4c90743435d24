//! Bad input: each shows the clear error, its code and its fix, and nothing was lost.

use gristmill_tests::{Project, binary};
use serde_json::json;
use std::net::TcpListener;

fn accepted(project: &Project) -> i64 {
    project.run(&["sql", "select count(*) as n from events", "--json"]).good().json()[0]["n"].as_i64().expect("n")
}

#[test]
fn no_project() {
    Project::empty().run(&["check"]).fails_with(1, "E0101");
}

#[test]
fn a_missing_file() {
    let project = Project::shop();
    std::fs::remove_file(project.path().join("data/events.csv")).expect("removed");
    let ran = project.run(&["apply", "--yes"]);
    assert!(ran.err.contains("data/events.csv"), "{}", ran.err);
    assert!(ran.err.contains("E0301") || ran.err.contains("E0107"), "{}", ran.err);
    assert_eq!(ran.code, 1);
}

#[test]
fn a_csv_with_a_broken_line() {
    let project = Project::shop();
    project.run(&["run", "sources.events"]).good();
    let text = project.read("data/events.csv");
    project.write("data/events.csv", &format!("{text}3000,5,2024-05-01T00:00:00Z,1.5,sale\n3001,5,2024-05-01T00:00:00Z\n"));
    let ran = project.run(&["run", "sources.events"]).fails_with(1, "E0302");
    assert!(ran.err.contains("3003") || ran.out.contains("3003"), "the line is named:\n{}", ran.err);
    assert_eq!(accepted(&project), 3000, "nothing of the refused load is visible, nothing before it is lost");
    project.edit("data/events.csv", "3001,5,2024-05-01T00:00:00Z\n", "3001,5,2024-05-01T00:00:00Z,2.5,sale\n");
    project.run(&["run", "sources.events"]).good();
    assert_eq!(accepted(&project), 3002);
}

#[test]
fn a_wrong_column_type() {
    let project = Project::shop();
    project.run(&["run", "sources.events"]).good();
    let text = project.read("data/events.csv");
    project.write("data/events.csv", &format!("{text}3000,5,2024-05-01T00:00:00Z,a lot,sale\n"));
    let ran = project.run(&["run", "sources.events"]);
    assert_ne!(ran.code, 0);
    let text = format!("{}{}", ran.out, ran.err);
    assert!(text.contains("amount"), "the column is named:\n{text}");
    assert!(text.contains("E0303") || text.contains("E0108") || text.contains("E0302"), "{text}");
    assert_eq!(accepted(&project), 3000);
}

#[test]
fn a_misspelt_key() {
    let project = Project::shop();
    project.edit("gristmill.toml", "measure  =", "mesure   =");
    let ran = project.run(&["check"]).fails_with(1, "E0103");
    assert!(ran.err.contains("did you mean") && ran.err.contains("measure"), "{}", ran.err);
    assert!(ran.err.contains("gristmill.toml:13"), "file and line:\n{}", ran.err);
}

#[test]
fn an_unknown_table() {
    let project = Project::shop();
    project.edit("features/activity.sql", "from events", "from evnts");
    let ran = project.run(&["check"]).fails_with(1, "E0202");
    assert!(ran.err.contains("features/activity.sql:10") && ran.err.contains("events"), "{}", ran.err);
}

#[test]
fn an_unknown_column() {
    let project = Project::shop();
    project.edit("features/activity.sql", "sum(amount)", "sum(amuont)");
    let ran = project.run(&["check"]).fails_with(1, "E0203");
    assert!(ran.err.contains("amount"), "{}", ran.err);
}

#[test]
fn now_in_a_feature() {
    let project = Project::shop();
    project.edit("features/activity.sql", "as_of() - interval '30 days'", "now() - interval '30 days'");
    let ran = project.run(&["check"]).fails_with(1, "E0207");
    assert!(ran.err.contains("features/activity.sql:11") && ran.err.contains("as_of()"), "{}", ran.err);
}

#[test]
fn a_port_in_use() {
    let project = Project::shop();
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = taken.local_addr().expect("an address").port().to_string();
    let ran = project.run(&["serve", "--port", &port]).fails_with(1, "E0601");
    assert!(ran.err.contains(&port), "{}", ran.err);
}

#[test]
fn requests_that_cannot_be_answered() {
    let project = Project::shop();
    project.run(&["apply", "--yes"]).good();
    let server = project.start(&["dev", "--port", "0"]);
    server.wait_for("the endpoint", 60, |s| (s.get("/readyz").0 == 200).then_some(()));
    let check = |path: &str, body: serde_json::Value, status: u16, code: &str| {
        let (got, answer) = server.post(path, &body);
        assert_eq!((got, answer["code"].as_str()), (status, Some(code)), "{path} {answer}");
        assert!(answer["fix"].as_str().is_some_and(|f| !f.is_empty()), "no fix: {answer}");
    };
    check("/predict/buys", json!({"rows": [{"customer": 7}]}), 400, "E0502");
    check("/predict/nope", json!({"customer_id": 7}), 404, "E0501");
    check("/predict/buys", json!({"rows": "x"}), 400, "E0504");
    check("/ingest/nope", json!([{"id": 1}]), 404, "E0305");
    check(
        "/ingest/events",
        json!([{"id": 3000, "customer_id": 7, "at": "2024-05-01T00:00:00Z", "amount": "much", "kind": "sale"}]),
        400,
        "E0303",
    );
    check(
        "/ingest/events",
        json!([{"id": 3000, "customer_id": 7, "at": "2024-05-01T00:00:00Z", "amuont": 1.0, "kind": "sale"}]),
        400,
        "E0306",
    );
    check("/nowhere", json!({}), 404, "E0509");
    let huge = json!({"rows": [{"customer_id": 7, "note": "x".repeat(9 << 20)}]});
    check("/predict/buys", huge, 413, "E0503");
    let (status, answer) = server.post("/predict/buys", &json!({"customer_id": 7}));
    assert_eq!(status, 200, "the server is well: {answer}");
    server.stop();
    assert_eq!(accepted(&project), 3000);
}

#[test]
fn an_unknown_model_and_an_unknown_address() {
    let project = Project::shop();
    project.run(&["run", "models.nope"]).fails_with(1, "E0704");
    project.run(&["run", "modles.buys"]).fails_with(2, "models");
    project.run(&["show", "models.nope"]).fails_with(1, "E0704");
    project.run(&["diff", "models.buys@1", "models.buys@2"]).fails_with(1, "models.buys");
}

#[test]
fn user_sql_is_fenced() {
    let project = Project::shop();
    project.run(&["run", "sources.events"]).good();
    for sql in [
        "drop table events",
        "copy events to '/tmp/stolen.csv'",
        "select * from '/etc/passwd'",
        "set datafusion.execution.batch_size = 1",
        "create external table x stored as csv location '/etc/passwd'",
        "select 1; select 2",
        "insert into events select * from events",
    ] {
        let ran = project.run(&["sql", sql]);
        assert_eq!(ran.code, 1, "{sql} was let through:\n{}", ran.out);
        assert!(ran.err.contains("E02"), "{sql}: {}", ran.err);
    }
}

/// A state folder on a disk of a few megabytes: what was acknowledged is there when space is back, what was not is refused clearly.
#[test]
fn a_full_disk() {
    let project = Project::shop();
    project.run(&["apply", "--yes"]).good();
    let script = format!(
        r#"set -eu
mount -t tmpfs -o size=24m tmpfs disk
cp -a gristmill.toml features labels data gristmill.lock disk/
cd disk
{bin} apply --yes >../apply.log 2>&1
{bin} dev --port 0 >../dev.log 2>&1 &
server=$!
for i in $(seq 200); do [ -s .gristmill/server.json ] && break; sleep 0.05; done
url=$(sed 's/.*"url":"\([^"]*\)".*/\1/' .gristmill/server.json)
sleep 2
head -c 64m /dev/zero > filler 2>/dev/null || true
code=none
for i in $(seq 40); do
  body="[{{\"id\": $((100000 + i)), \"customer_id\": 1, \"at\": \"2024-06-01T00:00:00Z\", \"amount\": 1.0, \"kind\": \"$(head -c 60000 /dev/zero | tr '\0' x)\"}}]"
  echo "$body" > ../body.json
  status=$({curl} -s -o ../answer.json -w '%{{http_code}}' -H 'content-type: application/json' --data-binary @../body.json "$url/ingest/events" || echo 000)
  if [ "$status" = 200 ]; then echo $((100000 + i)) >> ../acked; else cp ../answer.json ../refused.json; echo "$status" > ../refused.status; break; fi
done
rm -f filler
for i in $(seq 100); do kill -0 $server 2>/dev/null || break; [ $i = 60 ] && kill -TERM $server; sleep 0.1; done
wait $server || true
{bin} run sources.events >../after.log 2>&1
{bin} sql "select id from events where id >= 100000" --json --rows 100000 > ../rows.json
{bin} logs --verify > ../verify.log
"#,
        bin = binary().display(),
        curl = "curl",
    );
    std::fs::create_dir(project.path().join("disk")).expect("a folder");
    project.write("full_disk.sh", &script);
    let ran = std::process::Command::new("unshare")
        .args(["--map-root-user", "--mount", "bash", "full_disk.sh"])
        .current_dir(project.path())
        .output()
        .expect("unshare from util-linux is there");
    let log = |name: &str| std::fs::read_to_string(project.path().join(name)).unwrap_or_default();
    let all = ["apply.log", "dev.log", "after.log", "refused.json"].map(|n| format!("--- {n}\n{}", log(n))).join("\n");
    assert!(ran.status.success(), "{}\n{}\n{all}", String::from_utf8_lossy(&ran.stdout), String::from_utf8_lossy(&ran.stderr));
    let refused: serde_json::Value = serde_json::from_str(&log("refused.json")).unwrap_or_else(|e| panic!("no refusal ({e})\n{all}"));
    assert_eq!(refused["code"], "E0602", "{all}");
    assert!(refused["fix"].as_str().is_some_and(|f| f.contains("space")), "{refused}");
    let rows: Vec<i64> =
        serde_json::from_str::<Vec<serde_json::Value>>(&log("rows.json")).expect("rows").iter().filter_map(|r| r["id"].as_i64()).collect();
    for acked in log("acked").lines() {
        let id: i64 = acked.parse().expect("an id");
        assert_eq!(rows.iter().filter(|r| **r == id).count(), 1, "acknowledged row {id}\n{all}");
    }
}
