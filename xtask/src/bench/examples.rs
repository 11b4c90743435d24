//! Benchmarks that are an example of the crate they measure.
//!
//! The example is started once per round, measures every contender in turn and prints a line for each that begins with its name. To add one:
//! the example, a reader of its lines, an [`Example`], and its line in [`super::BENCHES`].

use super::words::Words;
use super::{Bench, Figures, Measured, example, rounds, table};
use anyhow::{Result, bail};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Embedded stores for features.
pub const ONLINE_STORE: Bench = Bench {
    name: "online-store",
    about: "embedded key-value stores on the online store's access pattern (fjall, redb)",
    usage: "\
usage: cargo xtask bench online-store [--rounds N]

  --rounds N   how often each is measured (5)
",
    run: |root, words| run(root, &STORES, words),
};

/// What small commits do to a table.
pub const SMALL_COMMITS: Bench = Bench {
    name: "small-commits",
    about: "a table after ten thousand small commits, its files left alone and rewritten",
    usage: "\
usage: cargo xtask bench small-commits [--rounds N]

  --rounds N   how often each is measured (2)
",
    run: |root, words| run(root, &COMMITS, words),
};

const STORES: Example = Example {
    bench: &ONLINE_STORE,
    package: "gristmill-store",
    example: "online_bench",
    contenders: &["fjall", "redb"],
    rounds: 5,
    read: read_online_store,
};

const COMMITS: Example = Example {
    bench: &SMALL_COMMITS,
    package: "gristmill-engine",
    example: "small_commits",
    contenders: &["left", "rewritten"],
    rounds: 2,
    read: read_small_commits,
};

struct Example {
    bench: &'static Bench,
    package: &'static str,
    example: &'static str,
    /// What is compared.
    contenders: &'static [&'static str],
    /// How often each is measured, if nobody says.
    rounds: usize,
    /// Reads the figures out of a contender's line.
    read: fn(line: &str) -> Figures,
}

/// Measures, prints a table and writes `target/bench/NAME.json`.
fn run(root: &Path, of: &Example, words: &[&str]) -> Result<bool> {
    let (mut words, mut times) = (Words::new(words, of.bench.usage), of.rounds);
    while let Some(option) = words.option() {
        match option {
            "--rounds" => times = words.number(option)?,
            other => return words.unknown(other),
        }
    }
    let program = example(root, &["--package", of.package], of.example)?;
    let series = rounds(times, of.contenders, || measure(&program, of))?;
    print!("{}", table(of.contenders, &series));
    let path = write_report(root, of, times, &series)?;
    println!("report: {}", path.display());
    Ok(true)
}

fn measure(program: &Path, of: &Example) -> Result<BTreeMap<String, Figures>> {
    let output = Command::new(program).stderr(std::process::Stdio::inherit()).output()?;
    if !output.status.success() {
        bail!("{} failed: {}", program.display(), output.status);
    }
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let mut measured = BTreeMap::new();
    for contender in of.contenders {
        let line = text.lines().find(|l| l.split_whitespace().next() == Some(contender));
        let figures = line.map(of.read).unwrap_or_default();
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

fn write_report(root: &Path, of: &Example, times: usize, measured: &Measured) -> Result<PathBuf> {
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
        serde_json::json!({ "bench": of.bench.name, "about": of.bench.about, "rounds": times, "cores": cores, "figures": figures });
    let path = folder.join(format!("{}.json", of.bench.name));
    std::fs::write(&path, serde_json::to_string_pretty(&report)? + "\n")?;
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

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
