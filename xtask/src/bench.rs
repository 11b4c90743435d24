//! Benchmarks: contenders measured in turn, a table for people, a report for tools.
//!
//! Promise: contenders are interleaved (A B A B ...), so that a slow minute of the machine hits all of them; the first round
//! is thrown away; the figure is the median, with the smallest and largest beside it. A report says what was measured, how often
//! and on how many cores. No test asserts a time.
//!
//! A benchmark is an example of the crate it measures. It is started once per round, measures every contender in turn and prints a line
//! for each that begins with its name. To add one: the example, a reader of its lines, and a line in [`BENCHES`]. What compares whole servers
//! or other engines is a module of its own: [`tracking`], [`features`], [`online`], [`scores`], [`serve`], [`stream`], [`replay`].

pub(crate) mod command;
pub mod features;
mod http;
pub mod online;
pub mod replay;
mod running;
pub mod scores;
pub mod serve;
pub mod stream;
pub mod tracking;

use anyhow::{Context, Result, bail};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What can be measured.
pub struct Bench {
    /// The word on the command line.
    pub name: &'static str,
    /// One line for people.
    pub about: &'static str,
    /// The package that has the example.
    pub package: &'static str,
    /// The example.
    pub example: &'static str,
    /// What is compared.
    pub contenders: &'static [&'static str],
    /// How often each is measured.
    pub rounds: usize,
    /// Reads the figures out of a contender's line.
    pub read: fn(line: &str) -> Figures,
}

/// Every benchmark.
pub const BENCHES: &[Bench] = &[
    Bench {
        name: "online-store",
        about: "embedded key-value stores on the online store's access pattern",
        package: "gristmill-store",
        example: "online_bench",
        contenders: &["fjall", "redb"],
        rounds: 5,
        read: read_online_store,
    },
    Bench {
        name: "small-commits",
        about: "a table after ten thousand small commits, its files left alone and rewritten",
        package: "gristmill-engine",
        example: "small_commits",
        contenders: &["left", "rewritten"],
        rounds: 2,
        read: read_small_commits,
    },
];

/// Prints what can be measured.
pub fn list() -> Result<bool> {
    for bench in BENCHES {
        println!("{:<16} {} ({})", bench.name, bench.about, bench.contenders.join(", "));
    }
    println!("{:<16} training sets (Gristmill, DuckDB, Polars, chDB, Feast)", "features");
    println!("{:<16} online features over HTTP (Gristmill, Feast on Redis and on SQLite, Redis itself)", "online");
    println!("{:<16} the ads example's stream at speed, audited (Gristmill)", "replay");
    println!("{:<16} models scored in process (Gristmill, lleaves, LightGBM, ONNX Runtime)", "scores");
    println!("{:<16} predictions over HTTP and gRPC (Gristmill, FastAPI, MLServer, BentoML, MLflow, nginx)", "serve");
    println!("{:<16} from an event to its feature, and what events cost readers (Gristmill)", "stream");
    println!("{:<16} experiment tracking over HTTP (Gristmill, MLflow, FastTrackML)", "tracking");
    Ok(true)
}

/// Measures, prints a table and writes `target/bench/NAME.json`.
pub fn run(root: &Path, name: &str) -> Result<bool> {
    let known: Vec<&str> = BENCHES.iter().map(|b| b.name).collect();
    let bench = BENCHES
        .iter()
        .find(|b| b.name == name)
        .with_context(|| format!("there is no benchmark `{name}`; there are {}", known.join(", ")))?;
    let program = example(root, &["--package", bench.package], bench.example)?;
    let series = rounds(bench.rounds, bench.contenders, || measure(&program, bench))?;
    print!("{}", table(bench.contenders, &series));
    let path = write_report(root, bench, &series)?;
    println!("report: {}", path.display());
    Ok(true)
}

/// With all of the workspace, so that nothing is compiled with other features than what users run.
const AS_USERS_RUN: &[&str] = &["--workspace"];

/// The profile of `Cargo.toml` that figures are of: everything optimised, as for production. It takes twice as long to build as what a newcomer's
/// first command builds.
const PROFILE: &str = "dist";

/// Builds an example as for production and names the program.
fn example(root: &Path, of: &[&str], example: &str) -> Result<PathBuf> {
    built(root, example, &[&["--example", example], of].concat())
}

/// Our server: the one that is named, or ours as it is built for production.
fn our_server(root: &Path, named: Option<&Path>) -> Result<PathBuf> {
    let program = match named {
        Some(path) => path.to_path_buf(),
        None => built(root, "gristmill", &["--package", "gristmill", "--bin", "gristmill"])?,
    };
    program.canonicalize().with_context(|| format!("there is no {}", program.display()))
}

/// Builds a program and says where it is.
fn built(root: &Path, name: &str, what: &[&str]) -> Result<PathBuf> {
    eprintln!("building {name} with the profile {PROFILE}");
    let args = [&["build", "--profile", PROFILE, "--message-format", "json-render-diagnostics"], what].concat();
    let output = crate::cargo(root, &args).stderr(std::process::Stdio::inherit()).output()?;
    if !output.status.success() {
        bail!("{name} does not build");
    }
    let lines = String::from_utf8_lossy(&output.stdout).into_owned();
    let messages = lines.lines().filter_map(|l| serde_json::from_str::<serde_json::Value>(l).ok());
    let mut programs = messages.filter(|m| m["target"]["name"] == name).filter_map(|m| m["executable"].as_str().map(PathBuf::from));
    programs.next_back().with_context(|| format!("cargo did not name the program of {name}"))
}

/// Figures of one round: name -> (value, unit).
pub type Figures = BTreeMap<String, (f64, String)>;

fn measure(program: &Path, bench: &Bench) -> Result<BTreeMap<String, Figures>> {
    let output = Command::new(program).stderr(std::process::Stdio::inherit()).output()?;
    if !output.status.success() {
        bail!("{} failed: {}", program.display(), output.status);
    }
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let mut measured = BTreeMap::new();
    for contender in bench.contenders {
        let line = text.lines().find(|l| l.split_whitespace().next() == Some(contender));
        let figures = line.map(bench.read).unwrap_or_default();
        if figures.is_empty() {
            bail!("{} printed no figure of {contender}:\n{text}", program.display());
        }
        measured.insert((*contender).to_owned(), figures);
    }
    Ok(measured)
}

/// `fjall 100000 rows: write 500000 rows/s (batch p99 20ms); read of 150 p50 60µs p99 90µs; durable append p50 1ms p99 2ms; on disk 9 KiB`
fn read_online_store(line: &str) -> Figures {
    let mut figures = Figures::new();
    let mut add = |name: &str, value: Option<f64>, unit: &str| value.map(|v| figures.insert(name.to_owned(), (v, unit.to_owned())));
    let behind = |text: &str, word: &str| text.split_once(word).and_then(|(_, rest)| rest.split_whitespace().next().map(str::to_owned));
    let part = |word: &str| line.split(';').find(|p| p.contains(word)).unwrap_or_default();
    add("write", behind(line, "write ").and_then(|n| n.parse().ok()), "rows/s");
    add("on disk", behind(line, "on disk ").and_then(|n| n.parse().ok()), "KiB");
    for (name, word) in [("read", "read of"), ("durable append", "durable append")] {
        for rank in ["p50", "p99"] {
            add(&format!("{name} {rank}"), behind(part(word), &format!("{rank} ")).and_then(|t| micros(&t)), "us");
        }
    }
    figures
}

/// `left 10000 commits of 1 rows: first p50 1ms; last p50 9ms; last p99 20ms; rewriting took 0ns; files 10000; open took 80ms; ...`
fn read_small_commits(line: &str) -> Figures {
    let mut figures = Figures::new();
    for part in line.split_once(": ").map_or("", |(_, rest)| rest).split("; ") {
        let Some((name, value)) = part.rsplit_once(' ') else { continue };
        let figure = micros(value).map(|v| (v, "us")).or_else(|| value.parse().ok().map(|v| (v, "")));
        figures.extend(figure.map(|(value, unit)| (name.trim_end_matches(" took").to_owned(), (value, unit.to_owned()))));
    }
    figures
}

/// A time as Rust prints it, in microseconds.
fn micros(text: &str) -> Option<f64> {
    let units = [("ns", 0.001), ("µs", 1.0), ("ms", 1_000.0), ("s", 1_000_000.0)];
    let (number, factor) = units.iter().find_map(|(unit, factor)| text.strip_suffix(unit).map(|n| (n, factor)))?;
    number.parse::<f64>().ok().map(|n| n * factor)
}

/// The values of one figure of one contender.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Series {
    /// The unit.
    pub unit: String,
    /// One value per round.
    pub values: Vec<f64>,
}

impl Series {
    /// The middle value; NaN without values.
    pub fn median(&self) -> f64 {
        let mut sorted = self.values.clone();
        sorted.sort_by(f64::total_cmp);
        match sorted.len() {
            0 => f64::NAN,
            n if n % 2 == 1 => sorted[n / 2],
            n => (sorted[n / 2 - 1] + sorted[n / 2]) / 2.0,
        }
    }
    /// The smallest and the largest value.
    pub fn range(&self) -> (f64, f64) {
        self.values.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), v| (low.min(*v), high.max(*v)))
    }
}

/// Figure -> contender -> values.
pub type Measured = BTreeMap<String, BTreeMap<String, Series>>;

/// Measures round by round; the first round is thrown away.
pub fn rounds(count: usize, contenders: &[&str], mut measure: impl FnMut() -> Result<BTreeMap<String, Figures>>) -> Result<Measured> {
    let mut measured = Measured::new();
    for round in 0..=count {
        let figures = measure()?;
        eprintln!("round {round} of {count}: {}", contenders.join(", "));
        if round == 0 {
            continue;
        }
        for (contender, figures) in figures {
            for (name, (value, unit)) in figures {
                let series = measured.entry(name).or_default().entry(contender.clone()).or_default();
                series.unit = unit;
                series.values.push(value);
            }
        }
    }
    Ok(measured)
}

/// A table: a line per figure and contender, with the ratio to the first contender.
pub fn table(contenders: &[&str], measured: &Measured) -> String {
    let mut text = format!("{:<20} {:<10} {:>12} {:>12} {:>12}  {:<10} {:>7}\n", "figure", "who", "median", "min", "max", "unit", "ratio");
    for (figure, by) in measured {
        let base = contenders.first().and_then(|c| by.get(*c)).map_or(f64::NAN, Series::median);
        for contender in contenders {
            let Some(series) = by.get(*contender) else { continue };
            let (low, high) = series.range();
            let median = series.median();
            let ratio = median / base;
            text += &format!("{figure:<20} {contender:<10} {median:>12.3} {low:>12.3} {high:>12.3}  {:<10} {ratio:>7.2}\n", series.unit);
        }
    }
    text
}

fn write_report(root: &Path, bench: &Bench, measured: &Measured) -> Result<PathBuf> {
    let target = crate::target_dir(root);
    let folder = target.join("bench");
    std::fs::create_dir_all(&folder)?;
    let figures: Vec<serde_json::Value> = measured
        .iter()
        .flat_map(|(figure, by)| by.iter().map(move |(who, s)| (figure, who, s)))
        .map(|(figure, who, s)| serde_json::json!({ "figure": figure, "who": who, "unit": s.unit, "median": s.median(), "values": s.values }))
        .collect();
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let report =
        serde_json::json!({ "bench": bench.name, "about": bench.about, "rounds": bench.rounds, "cores": cores, "figures": figures });
    let path = folder.join(format!("{}.json", bench.name));
    std::fs::write(&path, serde_json::to_string_pretty(&report)? + "\n")?;
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_round_does_not_count_and_the_median_does() {
        let mut next = 0.0;
        let measured = rounds(2, &["a", "b"], || {
            next += 1.0;
            let figures = |v: f64| Figures::from([("read".to_owned(), (v, "us".to_owned()))]);
            Ok(BTreeMap::from([("a".to_owned(), figures(next)), ("b".to_owned(), figures(next * 10.0))]))
        })
        .unwrap();
        assert_eq!(measured["read"]["a"].values, [2.0, 3.0]);
        assert_eq!(measured["read"]["b"].median(), 25.0);
        let table = table(&["a", "b"], &measured);
        assert!(table.contains("10.00") && table.lines().count() == 3, "{table}");
    }

    #[test]
    fn the_line_of_small_commits_is_read() {
        let figures =
            read_small_commits("left 10 commits of 1 rows: first p50 1.5ms; last p99 20ms; rewriting took 0ns; files 10; open took 2s");
        let value = |name: &str| figures[name].clone();
        assert_eq!((value("first p50"), value("files")), ((1_500.0, "us".to_owned()), (10.0, String::new())));
        assert_eq!((value("open").0, value("rewriting").0, figures.len()), (2_000_000.0, 0.0, 5));
    }

    #[test]
    fn the_line_of_the_online_store_is_read() {
        let line = "redb   100 rows: write 1234 rows/s (batch p99 20.5ms); read of 150 p50 61.5µs p99 1.2ms; \
                    durable append p50 900ns p99 2s; on disk 96 KiB";
        let figures = read_online_store(line);
        let value = |name: &str| figures[name].0;
        assert_eq!((value("write"), value("on disk"), value("read p50")), (1234.0, 96.0, 61.5));
        assert_eq!((value("read p99"), value("durable append p50"), value("durable append p99")), (1200.0, 0.9, 2_000_000.0));
    }
}
