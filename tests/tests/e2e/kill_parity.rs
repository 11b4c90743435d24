//! Events arrive over HTTP, one of a hundred late, while features and labels are asked for, and the server is killed ten times with -9:
//! afterwards every key has online what a training set says of it, to the bit.
//!
//! `GRISTMILL_KILL_EVENTS` sets how many events arrive. The default fits a debug build into a minute; 5,000,000 are for an optimised one:
//! `GRISTMILL_KILL_EVENTS=5000000 cargo test --release -p gristmill-tests kill_parity -- --nocapture`.

use gristmill_tests::{Project, Server, client};
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::process::Stdio;
use std::sync::RwLock;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

const EVENTS: usize = 60_000;
const KILLS: usize = 10;
const KEYS: i64 = 2_000;
/// Rows of one push.
const BATCH: usize = 250;
/// Time between two events, and from when on.
const STEP_S: i64 = 40;
const BEGIN_S: i64 = 1_704_067_200;
const DAY_S: i64 = 86_400;
const FEATURES: [&str; 8] = ["n_1h", "n_7d", "n", "sum_7d", "sum", "avg", "max_1d", "last_kind"];

const PROJECT: &str = r#"project = "kills"
clock = "events"

[sources.events]
from   = "data/first.csv"
time   = "at"
expect = ["customer_id is not null"]

[models.big]
labels   = "labels/big.sql"
features = ["activity"]
train    = "baseline"
measure  = "auc"
"#;

const ACTIVITY: &str = r"/*---
entity = 'customer_id'
serve  = 'online'
---*/
select
  customer_id,
  count(*) filter (where at > as_of() - interval '1 hour')     as n_1h,
  count(*) filter (where at > as_of() - interval '7 days')     as n_7d,
  count(*)                                                     as n,
  sum(amount) filter (where at > as_of() - interval '7 days')  as sum_7d,
  sum(amount)                                                  as sum,
  avg(amount)                                                  as avg,
  max(amount) filter (where at >= as_of() - interval '1 day')  as max_1d,
  last_value(kind order by at)                                 as last_kind
from events
where at > as_of() - interval '14 days'
group by customer_id
";

const BIG: &str = r"/*---
entity = 'customer_id'
time   = 'asked_at'
label  = 'big'
---*/
select c.customer_id, m.asked_at, c.customer_id % 2 = 0 as big
from (select distinct customer_id from events) c
cross join (select max(at) + interval '1 microsecond' as asked_at from events
            union all select max(at) - interval '10 days' as asked_at from events) m
";

/// One event: its customer and its second.
type Event = (i64, i64);

struct Stream {
    events: Vec<Event>,
}

impl Stream {
    fn of(count: usize) -> Stream {
        let mut rng = StdRng::seed_from_u64(11);
        let events = (0..count as i64).map(|i| {
            // A few customers are in most of the events.
            let skewed: f64 = rng.random::<f64>().powi(3);
            let late = if rng.random_range(0..100) == 0 { rng.random_range(1..3 * 3600) } else { 0 };
            ((skewed * KEYS as f64) as i64, BEGIN_S + i * STEP_S - late)
        });
        Stream { events: events.collect() }
    }
    fn batches(&self) -> usize {
        self.events.len().div_ceil(BATCH)
    }
    fn rows(&self, batch: usize) -> Value {
        let from = batch * BATCH;
        let rows = self.events[from..self.events.len().min(from + BATCH)].iter().enumerate();
        let row = |(i, (customer, second)): (usize, &Event)| {
            let id = (from + i) as i64;
            // Amounts whose sum depends on the order of adding, if one adds as one should not.
            let amount = [1e-9, 0.1, 1.5, 1e6][(id % 4) as usize] * (1 + id % 97) as f64;
            json!({ "id": id, "customer_id": customer, "at": moment(*second), "amount": amount, "kind": format!("k{}", id % 13) })
        };
        rows.map(row).collect()
    }
    /// The customers' events of the last 14 days, counted by hand.
    fn counted(&self) -> BTreeMap<i64, u64> {
        let newest = self.events.iter().map(|(_, at)| *at).max().expect("events");
        let mut counts: BTreeMap<i64, u64> = (0..KEYS).map(|key| (key, 0)).collect();
        // The moment is a microsecond behind the newest event, so the edge falls between two seconds.
        for (customer, _) in self.events.iter().filter(|(_, at)| *at > newest - 14 * DAY_S) {
            *counts.entry(*customer).or_default() += 1;
        }
        counts
    }
}

/// A second as RFC 3339.
fn moment(second: i64) -> String {
    let (days, rest) = (second.div_euclid(DAY_S), second.rem_euclid(DAY_S));
    // Civil from days, H. Hinnant.
    let z = days + 719_468;
    let era = z.div_euclid(146_097);
    let doe = z.rem_euclid(146_097);
    let yoe = (doe - doe / 1_460 + doe / 36_524 - doe / 146_096) / 365;
    let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    let mp = (5 * doy + 2) / 153;
    let (day, month) = (doy - (153 * mp + 2) / 5 + 1, if mp < 10 { mp + 3 } else { mp - 9 });
    let year = yoe + era * 400 + i64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z", rest / 3600, rest / 60 % 60, rest % 60)
}

fn project() -> Project {
    let project = Project::empty();
    project.write("gristmill.toml", PROJECT);
    project.write("features/activity.sql", ACTIVITY);
    project.write("labels/big.sql", BIG);
    // Long before the stream, so that they are in no window at its end.
    let rows: String = (0..40).map(|i| format!("{},{},{},1.0,k0\n", -1 - i, i, moment(BEGIN_S - 60 * DAY_S + i * DAY_S / 8))).collect();
    project.write("data/first.csv", &format!("id,customer_id,at,amount,kind\n{rows}"));
    project.run(&["apply", "--yes"]).good();
    project
}

fn ask(http: &reqwest::blocking::Client, url: &str, keys: &[i64]) -> Option<Value> {
    let features: Vec<String> = FEATURES.iter().map(|f| format!("activity:{f}")).collect();
    let body = json!({ "entities": { "customer_id": keys }, "features": features });
    let answer = http.post(format!("{url}/get-online-features")).json(&body).send().ok()?;
    let status = answer.status().as_u16();
    let text = answer.text().ok()?;
    match status {
        200 => Some(serde_json::from_str(&text).expect("JSON")),
        // Not loaded yet.
        404 | 503 => None,
        _ => panic!("{status} {text}"),
    }
}

/// Pushes everything, each batch under its own key until it is acknowledged.
fn push(stream: &Stream, url: &RwLock<String>, pushed: &AtomicUsize) {
    let http = client();
    for batch in 0..stream.batches() {
        let rows = stream.rows(batch);
        loop {
            let at = url.read().expect("a url").clone();
            let sent = http.post(format!("{at}/ingest/events")).header("idempotency-key", format!("batch-{batch}")).json(&rows).send();
            match sent.map(|answer| answer.status().as_u16()) {
                Ok(200) => break,
                // The journal is full, or the server begins.
                Ok(429 | 503) | Err(_) => std::thread::sleep(Duration::from_millis(20)),
                Ok(status) => panic!("{status}"),
            }
        }
        pushed.store(batch + 1, Ordering::SeqCst);
    }
}

/// Asks for features of random customers; what is answered is never absurd. Returns how often it was answered.
fn read(url: &RwLock<String>, done: &AtomicBool) -> usize {
    let (http, mut rng, mut answered) = (client(), StdRng::seed_from_u64(3), 0);
    while !done.load(Ordering::SeqCst) {
        let keys: Vec<i64> = (0..20).map(|_| rng.random_range(0..KEYS)).collect();
        let at = url.read().expect("a url").clone();
        if let Some(answer) = ask(&http, &at, &keys) {
            answered += 1;
            for key in 0..keys.len() {
                let n = |column: usize| answer["results"][1 + column]["values"][key].as_u64().expect("a count");
                assert!(n(0) <= n(1) && n(1) <= n(2), "{answer}");
            }
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    answered
}

/// The features of every key online, in the order of [`FEATURES`].
fn online(server: &Server) -> BTreeMap<i64, Vec<Value>> {
    let (http, keys) = (client(), (0..KEYS).collect::<Vec<_>>());
    let mut found = BTreeMap::new();
    for part in keys.chunks(500) {
        let answer = server.wait_for("the view", 60, |s| ask(&http, &s.url, part));
        for (at, key) in part.iter().enumerate() {
            let values = (1..=FEATURES.len()).map(|column| answer["results"][column]["values"][at].clone()).collect();
            found.insert(*key, values);
        }
    }
    found
}

/// The same out of a training set, as of the same moment.
fn offline(project: &Project) -> BTreeMap<i64, Vec<Value>> {
    project.run(&["run", "training_sets.big"]).good();
    let text = project.run(&["dataset", "training_sets.big", "--format", "jsonl"]).good().out;
    let mut found: BTreeMap<i64, (String, Vec<Value>)> = BTreeMap::new();
    for line in text.lines() {
        let row: Value = serde_json::from_str(line).expect("JSON");
        let key = row["customer_id"].as_i64().expect("a customer");
        let time = row["__time"].as_str().expect("a time").to_owned();
        let values = FEATURES.iter().map(|f| row[format!("activity.{f}")].clone()).collect();
        // Two moments, ten days apart: the later one is now.
        if found.get(&key).is_none_or(|(known, _)| *known < time) {
            found.insert(key, (time, values));
        }
    }
    found.into_iter().map(|(key, (_, values))| (key, values)).collect()
}

fn same(a: &Value, b: &Value) -> bool {
    match (a.as_f64(), b.as_f64()) {
        (Some(a), Some(b)) => a.to_bits() == b.to_bits(),
        _ => a == b,
    }
}

/// Log entries of a table that were rewrites, and all of them.
fn commits(project: &Project, table: &str) -> (usize, usize) {
    let log = std::fs::read_dir(project.path().join(format!(".gristmill/tables/{table}/_delta_log"))).expect("a log");
    let texts = log.filter_map(|e| std::fs::read_to_string(e.ok()?.path()).ok()).filter(|t| t.contains("commitInfo"));
    texts.fold((0, 0), |(rewrites, all), text| (rewrites + usize::from(text.contains("\"OPTIMIZE\"")), all + 1))
}

#[test]
fn after_ten_kills_online_is_offline_for_every_key() {
    let count = std::env::var("GRISTMILL_KILL_EVENTS").map_or(EVENTS, |n| n.parse().expect("GRISTMILL_KILL_EVENTS is a number"));
    let (project, stream, began) = (project(), Stream::of(count), Instant::now());
    let mut rng = StdRng::seed_from_u64(5);
    let mut server = project.start(&["dev", "--port", "0"]);
    let (url, pushed, done) = (RwLock::new(server.url.clone()), AtomicUsize::new(0), AtomicBool::new(false));
    let (mut server, answered) = std::thread::scope(|scope| {
        let pusher = scope.spawn(|| push(&stream, &url, &pushed));
        let reader = scope.spawn(|| read(&url, &done));
        for kill in 1..=KILLS {
            let labels = project.command(&["run", "training_sets.big"]).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
            let mut labels = labels.expect("the binary starts");
            while pushed.load(Ordering::SeqCst) < stream.batches() * kill / (KILLS + 1) {
                std::thread::sleep(Duration::from_millis(5));
            }
            std::thread::sleep(Duration::from_millis(rng.random_range(0..2_500)));
            server.kill();
            // Before it could take the state folder for itself.
            labels.kill().expect("a process to kill");
            labels.wait().expect("its end");
            server = project.start(&["dev", "--port", "0"]);
            *url.write().expect("a url") = server.url.clone();
        }
        pusher.join().expect("everything is pushed");
        done.store(true, Ordering::SeqCst);
        (server, reader.join().expect("a reader"))
    });
    eprintln!("{count} events pushed, {KILLS} kills, {answered} answers: {:.1} s", began.elapsed().as_secs_f64());
    assert!(answered > KILLS, "features were asked for meanwhile: {answered}");

    let expected = stream.counted();
    let total: u64 = expected.values().sum();
    let n = FEATURES.iter().position(|f| *f == "n").expect("a count");
    let counted = |found: &BTreeMap<i64, Vec<Value>>| found.values().filter_map(|v| v[n].as_u64()).sum::<u64>();
    server.wait_for("every event online", 60 + count as u64 / 2_000, |s| (counted(&online(s)) == total).then_some(()));
    eprintln!("all of them online: {:.1} s", began.elapsed().as_secs_f64());
    let offline = offline(&project);
    // What is kept online is what a window can reach, after one more start too.
    for start in ["running", "started again"] {
        let online = online(&server);
        let mut different = Vec::new();
        for (key, expected) in &expected {
            let values = &online[key];
            assert_eq!(values[n].as_u64(), Some(*expected), "{start}: customer {key} was counted by hand");
            let offline = offline.get(key);
            if offline.is_some_and(|offline| !offline.iter().zip(values).all(|(a, b)| same(a, b))) {
                different.push((key, values, offline));
            }
        }
        assert!(different.is_empty(), "{start}: {} keys differ: {:?}", different.len(), &different[..different.len().min(3)]);
        server.stop();
        server = project.start(&["dev", "--port", "0"]);
    }
    assert!(offline.len() as i64 > KEYS / 2, "most customers have events: {}", offline.len());
    server.wait_for("files to be rewritten", 60, |_| {
        let (rewrites, all) = commits(&project, "sources__events");
        (rewrites > 0 || all < 40).then(|| eprintln!("sources__events: {all} commits, {rewrites} of them rewrites"))
    });
    server.stop();
    project.run(&["logs", "--verify"]).good();
    eprintln!("compared, {} keys: {:.1} s", expected.len(), began.elapsed().as_secs_f64());
}
