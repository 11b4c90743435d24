//! `cargo xtask bench online`: online features over HTTP, beside Feast's server on Redis and on SQLite, and beside Redis itself.
//!
//! Five views of ten features each, asked by Feast's own protocol for one entity and for a hundred. Servers run on one core (Feast's Redis on
//! the same one as Feast) and whoever asks on another; contenders are measured in turn while the others are held still; the first round does
//! not count; before anything is timed, everybody has to give the same values. Floors: `redis-benchmark` with `HMGET` of fifty fields, and a
//! server that answers at once.

use super::command::{printed, venv};
use super::running::{Running, Start, free_port};
use super::tracking::worker::{Measured, Work};
use super::words::Words;
use super::{Bench, Figures, Measured as Table, rounds, table};
use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

const USAGE: &str = "\
usage: cargo xtask bench online [--quick] [--rounds N] [--binary FILE] [--cache DIR]

  --quick        few entities and short rounds: to see that it works, not to know how fast it is
  --rounds N     how often each is measured (3)
  --binary FILE  our server (built for production)
  --cache DIR    where the peers are installed (~/.cache/gristmill-venvs)

It needs `redis-server` and `redis-benchmark` (Debian's `redis`).
";

/// What this module measures.
pub const BENCH: Bench =
    Bench { name: "online", about: "online features over HTTP (Gristmill, Feast on Redis and on SQLite, Redis itself)", usage: USAGE, run };

const OURS: &str = "gristmill";
const FEAST_REDIS: &str = "feast+redis";
const FEAST_SQLITE: &str = "feast+sqlite";
const REDIS: &str = "redis hmget";
const FLOOR: &str = "floor";

const VIEWS: usize = 5;
const FEATURES: usize = 10;
/// Requests in flight.
const CONNECTIONS: usize = 8;

/// What is aimed at: ours is at least so many times theirs.
const GOALS: [(&str, &str, f64); 4] =
    [("1 x 50", FEAST_REDIS, 300.0), ("1 x 50", REDIS, 0.5), ("100 x 50", FEAST_REDIS, 250.0), ("100 x 50", FEAST_SQLITE, 250.0)];

struct Asked {
    quick: bool,
    rounds: usize,
    binary: Option<PathBuf>,
    cache: Option<PathBuf>,
}

impl Asked {
    fn parse(words: &[&str]) -> Result<Asked> {
        let mut asked = Asked { quick: false, rounds: 3, binary: None, cache: None };
        let mut words = Words::new(words, USAGE);
        while let Some(option) = words.option() {
            match option {
                "--quick" => asked.quick = true,
                "--rounds" => asked.rounds = words.number(option)?,
                "--binary" => asked.binary = Some(words.path(option)?),
                "--cache" => asked.cache = Some(words.path(option)?),
                other => return words.unknown(other),
            }
        }
        Ok(asked)
    }
}

/// Measures, prints tables, writes `target/bench/online.json`.
fn run(root: &Path, words: &[&str]) -> Result<bool> {
    let asked = Asked::parse(words)?;
    let target = crate::target_dir(root);
    let place = target.join(format!("bench/online-{}", std::process::id()));
    std::fs::create_dir_all(&place)?;
    let binary = super::our_server(root, asked.binary.as_deref())?;
    let script = place.join("peers.py");
    std::fs::write(&script, include_str!("peers.py"))?;
    let python = venv(root, "feast-redis", asked.cache.as_deref())?;
    let bed = Bed { quick: asked.quick, rounds: asked.rounds, binary, python, script, place: place.clone() };
    let report = bed.everything()?;
    std::fs::remove_dir_all(&place)?;
    let path = target.join("bench/online.json");
    std::fs::write(&path, serde_json::to_string_pretty(&report)? + "\n")?;
    println!("report: {}", path.display());
    Ok(true)
}

struct Bed {
    quick: bool,
    rounds: usize,
    binary: PathBuf,
    python: PathBuf,
    script: PathBuf,
    place: PathBuf,
}

type Servers = BTreeMap<&'static str, Running>;

impl Bed {
    fn entities(&self) -> u64 {
        if self.quick { 500 } else { 10_000 }
    }

    fn everything(&self) -> Result<Value> {
        let data = self.folder("data")?;
        printed(self.peers().arg("data").arg(&data).arg(self.entities().to_string()))?;
        let redis = self.redis()?;
        let (mut servers, refreshed) = self.servers(&data, &redis)?;
        self.agree(&servers)?;
        servers.insert(FLOOR, self.floor()?);
        servers.values().for_each(Running::hold);
        redis.hold();
        println!(
            "\nfrom files to the online store, {} entities x 50 features; ours reads, judges and stores the rows first",
            self.entities()
        );
        for (who, seconds) in &refreshed {
            println!("{who:<14} {seconds:>8.2} s  {:>8.1}x ours", seconds / refreshed[OURS]);
        }
        let mut cases = serde_json::Map::new();
        for (name, batch) in [("1 x 50", 1), ("100 x 50", 100)] {
            let measured = self.case(&servers, &redis, batch)?;
            let who: Vec<&str> = measured.get("requests").map(|by| by.keys().map(String::as_str).collect()).unwrap_or_default();
            let ordered: Vec<&str> = [OURS, FEAST_REDIS, FEAST_SQLITE, REDIS, FLOOR].into_iter().filter(|w| who.contains(w)).collect();
            println!("\n{name} (entities x features), {CONNECTIONS} connections");
            print!("{}", table(&ordered, &measured));
            for line in judged(name, &measured) {
                println!("{line}");
            }
            cases.insert(name.to_owned(), told(&measured));
        }
        Ok(json!({ "bench": "online", "entities": self.entities(), "refresh_seconds": refreshed, "cases": cases }))
    }

    fn folder(&self, name: &str) -> Result<PathBuf> {
        let folder = self.place.join(name);
        std::fs::create_dir_all(&folder)?;
        Ok(folder)
    }

    fn peers(&self) -> Command {
        let mut command = Command::new(&self.python);
        command.arg(&self.script).current_dir(&self.place);
        command
    }

    fn redis(&self) -> Result<Running> {
        let (folder, port) = (self.folder("redis")?, free_port()?);
        let words = pinned(0, &["redis-server", "--port", &port.to_string(), "--bind", "127.0.0.1", "--save", ""]);
        Running::start(&Start { words: &words, folder: &folder, port, health: "", environment: &[] })
            .context("Debian's package `redis` has it")
    }

    /// Ours and Feast's, filled from the same tables; how long the filling took.
    fn servers(&self, data: &Path, redis: &Running) -> Result<(Servers, BTreeMap<&'static str, f64>)> {
        let (mut servers, mut refreshed) = (Servers::new(), BTreeMap::new());
        let folder = self.folder("gristmill")?;
        refreshed.insert(OURS, self.project(&folder, data)?);
        let port = free_port()?;
        let words = pinned(0, &[&self.binary.display().to_string(), "serve", "--port", &port.to_string()]);
        let mut ours = Running::start(&Start { words: &words, folder: &folder, port, health: "/readyz", environment: &[] })?;
        ours.take_token(&folder)?;
        servers.insert(OURS, ours);
        for (who, store) in [(FEAST_REDIS, redis.address.at.to_string()), (FEAST_SQLITE, "sqlite".to_owned())] {
            let folder = self.folder(who)?;
            let said = printed(self.peers().arg("feast").arg(&folder).arg(data).arg(store))?;
            let said: Value = serde_json::from_str(said.lines().last().unwrap_or_default()).context("Feast's materialisation")?;
            refreshed.insert(who, said["seconds"].as_f64().context("how long it took")?);
            let port = free_port()?;
            let feast = self.python.with_file_name("feast").display().to_string();
            let words = pinned(0, &[&feast, "serve", "-h", "127.0.0.1", "-p", &port.to_string(), "--no-access-log"]);
            let environment = [("FEAST_USAGE", "False")];
            servers.insert(
                who,
                Running::start(&Start { words: &words, folder: &folder, port, health: "/health", environment: &environment })?,
            );
        }
        Ok((servers, refreshed))
    }

    /// A project over the same tables; how long it took from the files to the online store: reading and judging the rows is part of it.
    fn project(&self, folder: &Path, data: &Path) -> Result<f64> {
        let mut file = String::from("project = \"bench\"\n");
        std::fs::create_dir_all(folder.join("features"))?;
        for view in 0..VIEWS {
            let from = data.join(format!("s{view}.parquet"));
            file += &format!("\n[sources.s{view}]\nfrom = \"{}\"\ntime = \"event_timestamp\"\n", from.display());
            let features: Vec<String> = (0..FEATURES).map(|number| format!("f{view}_{number}")).collect();
            let head = "/*---\nentity = \"driver_id\"\nserve = \"online\"\nties = \"include\"\n---*/\n";
            let sql = format!("{head}select driver_id, {} from s{view}\n", features.join(", "));
            std::fs::write(folder.join(format!("features/view{view}.sql")), sql)?;
        }
        std::fs::write(folder.join("gristmill.toml"), file)?;
        let begun = Instant::now();
        printed(Command::new(&self.binary).args(["apply", "--yes"]).current_dir(folder))?;
        Ok(begun.elapsed().as_secs_f64())
    }

    fn floor(&self) -> Result<Running> {
        let port = free_port()?;
        let own = std::env::current_exe()?.display().to_string();
        let words = pinned(0, &[&own, "bench-floor", &port.to_string()]);
        Running::start(&Start { words: &words, folder: &self.folder("floor")?, port, health: "/", environment: &[] })
    }

    /// Everybody gives the same values for some entities.
    fn agree(&self, servers: &Servers) -> Result<()> {
        let entities: Vec<String> = (0..100).map(|n| (n * self.entities() / 100).to_string()).collect();
        let mut first: Option<Value> = None;
        for (who, server) in servers {
            let mut command = self.peers();
            command.arg("ask").arg(format!("http://{}", server.address.at)).args(&entities);
            server.address.auth.as_ref().map(|auth| command.env("BENCH_AUTHORIZATION", auth));
            let told: Value = serde_json::from_str(printed(&mut command)?.trim()).with_context(|| format!("what {who} answers"))?;
            if told.as_array().is_none_or(|rows| rows.iter().any(|row| row.as_array().is_none_or(|row| row.iter().any(|v| !v.is_f64())))) {
                bail!("{who} lacks values: {}", told.to_string().chars().take(400).collect::<String>());
            }
            match &first {
                None => first = Some(told),
                Some(known) if *known != told => bail!("{who} gives other values"),
                Some(_) => {}
            }
        }
        eprintln!("everybody gives the same values");
        Ok(())
    }

    fn case(&self, servers: &Servers, redis: &Running, batch: u64) -> Result<Table> {
        let work = Work::Posts {
            path: "/get-online-features".into(),
            bodies: self.bodies(batch),
            connections: CONNECTIONS,
            seconds: if self.quick { 1.0 } else { 4.0 },
        };
        let mut who: Vec<&str> = vec![OURS, FEAST_REDIS, FEAST_SQLITE, FLOOR];
        if batch == 1 {
            redis.wake();
            printed(self.peers().arg("hash").arg(redis.address.at.to_string()))?;
            redis.hold();
            who.insert(3, REDIS);
        }
        rounds(self.rounds, &who, || {
            let mut measured = BTreeMap::new();
            for who in &who {
                let figures = if *who == REDIS {
                    redis.wake();
                    let figures = self.hmget(redis);
                    redis.hold();
                    figures?
                } else {
                    let server = &servers[who];
                    server.wake();
                    if *who == FEAST_REDIS {
                        redis.wake();
                    }
                    let measured = self.worker(server, &work);
                    server.hold();
                    redis.hold();
                    let measured = measured.with_context(|| format!("measure {who}"))?;
                    figures(measured.rate(), measured.p50_us, measured.p99_us)
                };
                measured.insert((*who).to_owned(), figures);
            }
            Ok(measured)
        })
    }

    /// Requests for different entities.
    fn bodies(&self, batch: u64) -> Vec<Value> {
        let features: Vec<String> =
            (0..VIEWS).flat_map(|view| (0..FEATURES).map(move |number| format!("view{view}:f{view}_{number}"))).collect();
        let body = |number: u64| {
            let ids: Vec<u64> = (0..batch).map(|row| (number * 7_919 + row * 104_729) % self.entities()).collect();
            json!({ "features": features, "entities": { "driver_id": ids } })
        };
        (0..500).map(body).collect()
    }

    fn worker(&self, server: &Running, work: &Work) -> Result<Measured> {
        let work = serde_json::to_string(&(&server.address, work))?;
        let file = self.place.join("work.json");
        std::fs::write(&file, work)?;
        let own = std::env::current_exe()?.display().to_string();
        let words = pinned(1, &[&own, "bench-worker", &format!("@{}", file.display())]);
        Ok(serde_json::from_str(printed(Command::new(&words[0]).args(&words[1..]))?.trim())?)
    }

    /// `redis-benchmark` reading fifty fields at once.
    fn hmget(&self, redis: &Running) -> Result<Figures> {
        let times = if self.quick { 20_000 } else { 400_000 };
        let port = redis.address.at.port().to_string();
        let (clients, times) = (CONNECTIONS.to_string(), times.to_string());
        let mut words = pinned(1, &["redis-benchmark", "-p", &port, "-c", &clients, "-n", &times, "--csv", "HMGET", "raw"]);
        words.extend((0..VIEWS * FEATURES).map(|number| format!("field{number:02}")));
        let said = printed(Command::new(&words[0]).args(&words[1..]))?;
        // "test","rps","avg_latency_ms","min_latency_ms","p50_latency_ms","p95_latency_ms","p99_latency_ms","max_latency_ms"
        let line = said.lines().last().unwrap_or_default();
        let cells: Vec<f64> = line.split("\",\"").filter_map(|cell| cell.trim_matches('"').parse().ok()).collect();
        let [.., rate, _, _, p50, _, p99, _] = cells.as_slice() else { bail!("not understood: {said}") };
        Ok(figures(*rate, p50 * 1e3, p99 * 1e3))
    }
}

fn figures(rate: f64, p50_us: f64, p99_us: f64) -> Figures {
    let figure = |value: f64, unit: &str| (value, unit.to_owned());
    Figures::from([
        ("requests".to_owned(), figure(rate, "1/s")),
        ("p50".to_owned(), figure(p50_us, "us")),
        ("p99".to_owned(), figure(p99_us, "us")),
    ])
}

/// A command on one core.
fn pinned(core: usize, words: &[&str]) -> Vec<String> {
    ["taskset", "-c", &core.to_string()].iter().chain(words).map(|word| (*word).to_owned()).collect()
}

/// A line per goal.
fn judged(case: &str, measured: &Table) -> Vec<String> {
    let median = |figure: &str, who: &str| measured.get(figure).and_then(|by| by.get(who)).map(super::Series::median);
    let mut lines = Vec::new();
    for (_, peer, times) in GOALS.iter().filter(|(name, _, _)| *name == case) {
        if let (Some(ours), Some(theirs)) = (median("requests", OURS), median("requests", peer)) {
            let said = if ours >= theirs * times { "reached" } else { "MISSED" };
            lines.push(format!("{said} {times}x {peer}: {:.2}x", ours / theirs));
        }
    }
    if let (Some(ours), Some(theirs)) = (median("p99", OURS), median("p99", REDIS)) {
        let said = if ours <= theirs * 1.5 { "reached" } else { "MISSED" };
        lines.push(format!("{said} p99 within 1.5x {REDIS}: {:.2}x", ours / theirs));
    }
    lines
}

fn told(measured: &Table) -> Value {
    let by = |series: &BTreeMap<String, super::Series>| {
        let of: serde_json::Map<String, Value> =
            series.iter().map(|(who, s)| (who.clone(), json!({ "unit": s.unit, "median": s.median(), "values": s.values }))).collect();
        Value::Object(of)
    };
    Value::Object(measured.iter().map(|(figure, series)| (figure.clone(), by(series))).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::Series;

    #[test]
    fn goals_are_judged_in_both_directions() {
        let one = |value: f64| Series { unit: String::new(), values: vec![value] };
        let by = |ours: f64, feast: f64, redis: f64| {
            BTreeMap::from([(OURS.to_owned(), one(ours)), (FEAST_REDIS.to_owned(), one(feast)), (REDIS.to_owned(), one(redis))])
        };
        let measured = Table::from([("requests".to_owned(), by(30_000.0, 100.0, 80_000.0)), ("p99".to_owned(), by(100.0, 9.0, 90.0))]);
        let lines = judged("1 x 50", &measured);
        assert_eq!(lines.len(), 3, "{lines:?}");
        assert!(lines[0].starts_with("reached 300x feast+redis: 300.00x") && lines[1].starts_with("MISSED 0.5x"), "{lines:?}");
        assert!(lines[2].starts_with("reached p99"), "{lines:?}");
    }
}
