//! `cargo xtask bench stream`: from an event to the feature that it changes, and what events cost those who read.
//!
//! Events are pushed at a steady rate to a view of windows, in batches every 50 ms. Beside that, one event at a time is pushed for an entity of
//! its own, and its feature asked for until it shows it: the time from the push to the first answer that has it. A third connection asks for
//! features of other entities all the time. The server is on one core and whoever speaks to it on another. There is no peer: Feast has neither
//! windows nor streams of its own; the rates are the goals of DESIGN.md.

use super::Bench;
use super::http::Connection;
use super::running::{Running, Start, free_port};
use super::words::Words;
use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

const USAGE: &str = "\
usage: cargo xtask bench stream [--rates LIST] [--seconds N] [--binary FILE]

  --rates LIST   events per second, one case each (0,10000,20000,50000)
  --seconds N    how long each case takes (20)
  --binary FILE  our server (built for production)
";

/// What this module measures.
pub const BENCH: Bench =
    Bench { name: "stream", about: "from an event to its feature, and what events cost readers (Gristmill)", usage: USAGE, run };

/// Between two pushes of the stream.
const TICK: Duration = Duration::from_millis(50);
/// Entities of the stream.
const ENTITIES: u64 = 10_000;
/// The entity whose events are waited for.
const PROBE: u64 = 1_000_000;
/// How long an event may take until the case ends without it.
const PATIENCE: Duration = Duration::from_secs(60);

const PROJECT: &str = "project = \"stream\"\n\n[sources.events]\nfrom = \"data/first.csv\"\ntime = \"at\"\n";
const VIEW: &str = "/*---
entity = \"customer_id\"
serve  = \"online\"
---*/
select customer_id, count(*) as n_1h, count(*) filter (where at > as_of() - interval '5 minutes') as n_5m,
  sum(amount) as sum_1h, avg(amount) as avg_1h, max(amount) as max_1h, max(id) as newest
from events where at > as_of() - interval '1 hour' group by customer_id
";
const FEATURES: [&str; 6] = ["n_1h", "n_5m", "sum_1h", "avg_1h", "max_1h", "newest"];

/// What came of a rate.
#[derive(Debug, Default)]
struct Case {
    wanted: u64,
    /// Events per second that were acknowledged.
    pushed: f64,
    /// Acknowledgements that were refused because too much waited.
    refused: usize,
    /// From a push to the answer that shows it, in milliseconds.
    visible: Vec<f64>,
    /// Events that were not seen in time.
    unseen: usize,
    /// What a read took, in microseconds.
    reads: Vec<f64>,
    /// From the end of the stream until all of it was visible, in seconds.
    drained: f64,
}

/// Measures, prints a table, writes `target/bench/stream.json`.
fn run(root: &Path, words: &[&str]) -> Result<bool> {
    let target = crate::target_dir(root);
    let (mut rates, mut seconds, mut binary) = (vec![0, 10_000, 20_000, 50_000], 20, None);
    let mut words = Words::new(words, USAGE);
    while let Some(option) = words.option() {
        match option {
            "--rates" => rates = words.numbers(option)?,
            "--seconds" => seconds = words.number(option)?,
            "--binary" => binary = Some(words.path(option)?),
            other => return words.unknown(other),
        }
    }
    let binary = super::our_server(root, binary.as_deref())?;
    let mut cases = Vec::new();
    for rate in rates {
        let place = target.join(format!("bench/stream-{}-{rate}", std::process::id()));
        let case = measure(&binary, &place, rate, Duration::from_secs(seconds)).with_context(|| format!("at {rate} events per second"))?;
        std::fs::remove_dir_all(&place)?;
        println!("{}", said(&case));
        cases.push(case);
    }
    table(&cases);
    let path = target.join("bench/stream.json");
    std::fs::write(&path, serde_json::to_string_pretty(&cases.iter().map(told).collect::<Vec<_>>())? + "\n")?;
    println!("report: {}", path.display());
    Ok(true)
}

fn measure(binary: &Path, place: &Path, rate: u64, time: Duration) -> Result<Case> {
    for folder in ["features", "data"] {
        std::fs::create_dir_all(place.join(folder))?;
    }
    std::fs::write(place.join("gristmill.toml"), PROJECT)?;
    std::fs::write(place.join("features/activity.sql"), VIEW)?;
    std::fs::write(place.join("data/first.csv"), format!("id,customer_id,at,amount\n0,0,{},1.5\n", moment()))?;
    let applied = Command::new(binary).args(["--quiet", "apply", "--yes"]).current_dir(place).status()?;
    if !applied.success() {
        bail!("gristmill apply failed");
    }
    let port = free_port()?;
    let words = ["taskset", "-c", "0", &binary.display().to_string(), "serve", "--port", &port.to_string()].map(str::to_owned);
    let mut server = Running::start(&Start { words: &words, folder: place, port, health: "/readyz", environment: &[] })?;
    server.take_token(place)?;
    pin_myself()?;
    let (end, mut case) = (Instant::now() + time, Case { wanted: rate, ..Case::default() });
    let done = AtomicBool::new(false);
    let (pushed, probed, read) = std::thread::scope(|scope| {
        let pusher = scope.spawn(|| if rate == 0 { Ok((0, 0)) } else { push(&server, rate, end) });
        let reader = scope.spawn(|| read(&server, &done));
        let probed = probe(&server, end);
        let pushed = pusher.join();
        done.store(true, Ordering::SeqCst);
        (pushed, probed, reader.join())
    });
    let failed = |_| anyhow::anyhow!("a thread of the benchmark panicked");
    let (count, refused) = pushed.map_err(failed)??;
    (case.pushed, case.refused) = (count as f64 / time.as_secs_f64(), refused);
    (case.visible, case.unseen) = probed?;
    case.reads = read.map_err(failed)??;
    let begun = Instant::now();
    if seen(&server, 999_999_999)?.is_none() {
        bail!("what was pushed last does not become visible");
    }
    case.drained = begun.elapsed().as_secs_f64();
    Ok(case)
}

/// The load generator keeps off the server's core.
fn pin_myself() -> Result<()> {
    let pinned = Command::new("taskset").args(["-a", "-c", "-p", "1", &std::process::id().to_string()]).output()?;
    if !pinned.status.success() {
        bail!("taskset: {}", String::from_utf8_lossy(&pinned.stderr));
    }
    Ok(())
}

/// Pushes at the rate until the end; how many events were taken, and how often there was no room.
fn push(server: &Running, rate: u64, end: Instant) -> Result<(u64, usize)> {
    let mut connection = Connection::new(&server.address);
    let (begun, mut sent, mut refused) = (Instant::now(), 0, 0);
    while Instant::now() < end {
        let due = (begun.elapsed().as_secs_f64() * rate as f64) as u64;
        // What is late is pushed later, and not all at once.
        let count = (due - sent).min(rate * TICK.as_millis() as u64 / 500);
        if count == 0 {
            std::thread::sleep(TICK);
            continue;
        }
        let at = moment();
        let rows: Vec<Value> = (sent..sent + count)
            .map(|id| json!({ "id": id, "customer_id": id * 7_919 % ENTITIES, "at": at, "amount": (id % 1_000) as f64 / 8.0 }))
            .collect();
        let answer = connection.call(&server.address.post("/ingest/events", &Value::Array(rows)))?;
        match answer.status {
            200 => sent += count,
            429 | 503 => {
                refused += 1;
                std::thread::sleep(TICK);
            }
            _ => drop(answer.json()?),
        }
    }
    Ok((sent, refused))
}

/// One event after the other: how long each took until it was seen, in milliseconds.
fn probe(server: &Running, end: Instant) -> Result<(Vec<f64>, usize)> {
    let (mut visible, mut unseen, mut id) = (Vec::new(), 0, 1_000_000);
    while Instant::now() < end {
        id += 1;
        match seen(server, id)? {
            Some(took) => visible.push(took.as_secs_f64() * 1e3),
            None => unseen += 1,
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok((visible, unseen))
}

/// Pushes an event and asks until it is there.
fn seen(server: &Running, id: u64) -> Result<Option<Duration>> {
    let mut connection = Connection::new(&server.address);
    let row = json!([{ "id": id, "customer_id": PROBE, "at": moment(), "amount": 1.0 }]);
    let begun = Instant::now();
    while connection.call(&server.address.post("/ingest/events", &row))?.status != 200 {
        std::thread::sleep(Duration::from_millis(5));
    }
    let ask = server.address.post("/get-online-features", &asked(PROBE, &["newest"]));
    while begun.elapsed() < PATIENCE {
        let answer = connection.call(&ask)?.json()?;
        if answer["results"][1]["values"][0].as_u64().is_some_and(|newest| newest >= id) {
            return Ok(Some(begun.elapsed()));
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    Ok(None)
}

/// Asks for features all the time; what each answer took, in microseconds.
fn read(server: &Running, done: &AtomicBool) -> Result<Vec<f64>> {
    let mut connection = Connection::new(&server.address);
    let asks: Vec<Vec<u8>> =
        (0..200).map(|n| server.address.post("/get-online-features", &asked(n * 104_729 % ENTITIES, &FEATURES))).collect();
    let mut took = Vec::new();
    for ask in asks.iter().cycle() {
        if done.load(Ordering::SeqCst) {
            break;
        }
        let begun = Instant::now();
        let answer = connection.call(ask)?;
        took.push(begun.elapsed().as_secs_f64() * 1e6);
        if answer.status != 200 {
            answer.json()?;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    Ok(took)
}

fn asked(entity: u64, features: &[&str]) -> Value {
    let features: Vec<String> = features.iter().map(|feature| format!("activity:{feature}")).collect();
    json!({ "features": features, "entities": { "customer_id": [entity] } })
}

/// Now, as RFC 3339.
fn moment() -> String {
    jiff::Timestamp::now().to_string()
}

pub(super) fn rank(values: &[f64], share: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(((sorted.len() as f64 * share) as usize).min(sorted.len().saturating_sub(1))).copied().unwrap_or(f64::NAN)
}

fn said(case: &Case) -> String {
    format!(
        "{} events/s: {:.0} taken, {} seen, {} not, drained in {:.1} s",
        case.wanted,
        case.pushed,
        case.visible.len(),
        case.unseen,
        case.drained
    )
}

fn told(case: &Case) -> Value {
    json!({
        "events_per_second": case.wanted, "taken_per_second": case.pushed, "refused": case.refused, "seen": case.visible.len(), "unseen": case.unseen,
        "visible_ms": { "p50": rank(&case.visible, 0.5), "p99": rank(&case.visible, 0.99) },
        "read_us": { "p50": rank(&case.reads, 0.5), "p99": rank(&case.reads, 0.99), "count": case.reads.len() }, "drained_seconds": case.drained,
    })
}

fn table(cases: &[Case]) {
    println!(
        "\n{:>10} {:>10} {:>8} {:>14} {:>14} {:>12} {:>12} {:>10}",
        "events/s", "taken/s", "refused", "visible p50", "visible p99", "read p50", "read p99", "drained"
    );
    for case in cases {
        let (visible, reads) = (&case.visible, &case.reads);
        println!(
            "{:>10} {:>10.0} {:>8} {:>11.1} ms {:>11.1} ms {:>9.0} us {:>9.0} us {:>8.1} s",
            case.wanted,
            case.pushed,
            case.refused,
            rank(visible, 0.5),
            rank(visible, 0.99),
            rank(reads, 0.5),
            rank(reads, 0.99),
            case.drained
        );
    }
}
