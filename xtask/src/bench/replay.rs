//! `cargo xtask bench replay`: the stream of the ads example, played for half an hour at sixty times its speed, while predictions are asked for
//! and audited.
//!
//! Impressions and clicks arrive as they did; rows of an item of our own are pushed among them, every tenth of them hours late, and its feature
//! asked for until it shows them: that is the freshness. Every minute the monitor computes a sample of the served features again.

use super::Bench;
use super::http::Connection;
use super::running::{Running, Start, free_port};
use super::stream::rank;
use super::words::Words;
use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

const USAGE: &str = "\
usage: cargo xtask bench replay [--minutes N] [--speed N] [--binary FILE]

  --minutes N    how long it is played (30)
  --speed N      how many times as fast as it happened (60)
  --binary FILE  our server (built for production)
";

/// What this module measures.
pub const BENCH: Bench = Bench { name: "replay", about: "the ads example's stream at speed, audited (Gristmill)", usage: USAGE, run };

/// An item that the stream does not have.
const ITEM: u64 = 9_999;
/// Between two predictions, and between two rows of our own.
const ASK_EVERY: Duration = Duration::from_millis(100);
const PUSH_EVERY: Duration = Duration::from_millis(1_500);
/// What the audits say, by the names of their metrics.
const FOUND: [&str; 5] = ["parity_checked", "parity_mismatched", "parity_late", "parity_behind", "parity_unknown"];

/// Measures, prints, writes `target/bench/replay.json`.
fn run(root: &Path, words: &[&str]) -> Result<bool> {
    let target = crate::target_dir(root);
    let (mut minutes, mut speed, mut binary) = (30.0, 60, None);
    let mut words = Words::new(words, USAGE);
    while let Some(option) = words.option() {
        match option {
            "--minutes" => minutes = words.number::<f64>(option)?,
            "--speed" => speed = words.number::<u64>(option)?,
            "--binary" => binary = Some(words.path(option)?),
            other => return words.unknown(other),
        }
    }
    let binary = super::our_server(root, binary.as_deref())?;
    let place = target.join(format!("bench/replay-{}", std::process::id()));
    let said = played(&Bed { binary, place: place.clone() }, speed, Duration::from_secs_f64(minutes * 60.0))?;
    std::fs::remove_dir_all(&place)?;
    println!("{said:#}");
    let path = target.join("bench/replay.json");
    std::fs::write(&path, format!("{said:#}\n"))?;
    println!("report: {}", path.display());
    Ok(said["found"]["parity_mismatched"] == 0.0)
}

struct Bed {
    binary: PathBuf,
    place: PathBuf,
}

impl Bed {
    /// What a command of ours prints.
    fn told(&self, words: &[&str]) -> Result<String> {
        let done = Command::new(&self.binary).arg("--quiet").args(words).current_dir(&self.place).output()?;
        if !done.status.success() {
            bail!("gristmill {}: {}", words.join(" "), String::from_utf8_lossy(&done.stderr));
        }
        Ok(String::from_utf8_lossy(&done.stdout).into_owned())
    }

    fn project(&self, speed: u64) -> Result<()> {
        std::fs::create_dir_all(&self.place)?;
        self.told(&["init", ".", "--example", "ads"])?;
        let path = self.place.join("gristmill.toml");
        let mut text = std::fs::read_to_string(&path)?;
        let monitor = "monitor = { drift = \"psi > 1e9\", every = \"1m\", at_least = 20, audit = 1000 }";
        for (from, to) in [
            ("speed=600", format!("speed={speed}")),
            ("monitor = { drift = \"psi > 0.25\", every = \"15m\", outcomes = \"labels/clicked.sql\" }", monitor.to_owned()),
            ("retrain  = { every = \"1d\", when = \"new_labels > 20000\", cooldown = \"1h\" }", String::new()),
        ] {
            if !text.contains(from) {
                bail!("the example has no `{from}`");
            }
            text = text.replace(from, &to);
        }
        std::fs::write(&path, text)?;
        self.told(&["--env", "replay", "apply", "--yes"]).map(drop)
    }
}

fn played(bed: &Bed, speed: u64, time: Duration) -> Result<Value> {
    bed.project(speed)?;
    let rows = |bed: &Bed| -> Result<i64> {
        let told: Value = serde_json::from_str(&bed.told(&["sql", "select count(*) as n from impressions", "--json"])?)?;
        told[0]["n"].as_i64().context("a count")
    };
    let before = rows(bed)?;
    let port = free_port()?;
    let words = [&bed.binary.display().to_string(), "--env", "replay", "serve", "--port", &port.to_string()].map(str::to_owned);
    let mut server = Running::start(&Start { words: &words, folder: &bed.place, port, health: "/readyz", environment: &[] })?;
    server.take_token(&bed.place)?;
    let (end, done) = (Instant::now() + time, AtomicBool::new(false));
    let (asked, pushed) = std::thread::scope(|scope| {
        let asking = scope.spawn(|| ask(&server, &done));
        let pushed = push(bed, &server, end);
        done.store(true, Ordering::SeqCst);
        (asking.join(), pushed)
    });
    let Asked { answers, rows: predictions, took } = asked.map_err(|_| anyhow::anyhow!("a thread of the benchmark panicked"))??;
    let (fresh, late) = pushed?;
    // The last window is audited too.
    std::thread::sleep(Duration::from_secs(65));
    let found = audits(&server)?;
    Ok(json!({
        "minutes": time.as_secs_f64() / 60.0, "speed": speed, "impressions": rows(bed)? - before, "pushed": fresh.len(), "pushed_late": late,
        "requests": answers, "predictions": predictions, "found": found,
        "freshness_ms": { "p50": rank(&fresh, 0.5), "p99": rank(&fresh, 0.99) }, "predict_us": { "p50": rank(&took, 0.5), "p99": rank(&took, 0.99) },
    }))
}

#[derive(Default)]
struct Asked {
    answers: usize,
    rows: usize,
    took: Vec<f64>,
}

fn visitor(number: u64) -> Value {
    let traits = ["81ce123cbb5bd8ce818f60fb3586bba5", "cef3390ed299c09874189c387777674a", "4ae385d792f81dde128124a925a830de"];
    json!({
        "user_feature_0": traits[(number % 3) as usize], "user_feature_1": "03a5648a76832f83c859d46bc06cb64a",
        "user_feature_2": "2723d2eb8bba04e0362098011fa3997b", "user_feature_3": "c39b0c7dd5d4eb9a18e7db6ba2f258f8",
    })
}

/// Asks for predictions of candidates, as of the newest event.
fn ask(server: &Running, done: &AtomicBool) -> Result<Asked> {
    let (mut connection, mut asked) = (Connection::new(&server.address), Asked::default());
    for number in 0.. {
        if done.load(Ordering::SeqCst) {
            break;
        }
        let candidate = |place: u64| {
            let mut row = visitor(number);
            row["campaign"] = ["all", "men", "women"][(number % 3) as usize].into();
            row["item_id"] = if place == 0 { ITEM } else { (number * 7 + place) % 34 }.into();
            row
        };
        let rows: Vec<Value> = (0..5).map(candidate).collect();
        let begun = Instant::now();
        let answer = connection.call(&server.address.post("/predict/click", &json!({ "rows": rows })))?;
        asked.took.push(begun.elapsed().as_secs_f64() * 1e6);
        asked.rows += answer.json()?["predictions"].as_array().context("predictions")?.len();
        asked.answers += 1;
        std::thread::sleep(ASK_EVERY);
    }
    Ok(asked)
}

/// Pushes rows of our item until the end; how long each took until its feature had it, and how many came late.
fn push(bed: &Bed, server: &Running, end: Instant) -> Result<(Vec<f64>, usize)> {
    let (mut connection, mut fresh, mut late) = (Connection::new(&server.address), Vec::new(), 0);
    let shown = json!({ "features": ["traffic:shown_72h"], "entities": { "campaign": ["all"], "item_id": [ITEM] } });
    let shown = server.address.post("/get-online-features", &shown);
    while Instant::now() < end {
        let number = fresh.len() as u64 + 1;
        let is_late = number.is_multiple_of(10);
        late += usize::from(is_late);
        // Just before the newest event that is there, or hours before it.
        let back = if is_late { "5 hours" } else { "1 second" };
        let sql = format!("select cast(max(shown_at) - interval '{back}' as varchar) as at from impressions");
        let told: Value = serde_json::from_str(&bed.told(&["sql", &sql, "--json"])?)?;
        let at = told[0]["at"].as_str().context("a moment")?;
        let mut row = visitor(number);
        for (key, value) in [
            ("impression_id", json!(10_000_000 + number)),
            ("shown_at", json!(at)),
            ("campaign", json!("all")),
            ("item_id", json!(ITEM)),
            ("position", json!(1)),
            ("affinity", json!(0.0)),
            ("policy", json!("bts")),
            ("propensity_score", json!(0.1)),
        ] {
            row[key] = value;
        }
        let begun = Instant::now();
        connection.call(&server.address.post("/ingest/impressions", &json!([row])))?.json()?;
        loop {
            let answer = connection.call(&shown)?.json()?;
            if answer["results"][2]["values"][0].as_u64().is_some_and(|n| n >= number) {
                break;
            }
            if begun.elapsed() > Duration::from_secs(60) {
                bail!("row {number} is not seen: {answer}");
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        fresh.push(begun.elapsed().as_secs_f64() * 1e3);
        std::thread::sleep(PUSH_EVERY.saturating_sub(begun.elapsed()));
    }
    Ok((fresh, late))
}

/// What the audits found, all together.
fn audits(server: &Running) -> Result<BTreeMap<&'static str, f64>> {
    let mut connection = Connection::new(&server.address);
    let runs = connection.call(&server.address.get("/api/v1/runs?stage=monitor&limit=1000"))?.json()?;
    let mut sums: BTreeMap<&str, f64> = FOUND.iter().map(|name| (*name, 0.0)).collect();
    for run in runs["runs"].as_array().context("runs")? {
        let id = run["id"].as_str().context("an id")?;
        let run = connection.call(&server.address.get(&format!("/api/v1/runs/{id}")))?.json()?;
        for (name, sum) in &mut sums {
            *sum += run["metrics"][*name].as_f64().unwrap_or_default();
        }
    }
    Ok(sums)
}
