//! Benchmarks: contenders measured in turn, a table for people, a report for tools.
//!
//! Promise: contenders are interleaved (A B, B A, A B, ...), so that a slow minute of the machine hits all of them; the first round
//! is thrown away; the figure is the median, with the quickest and slowest beside it. A report says what was measured, how often
//! and on how many cores. No test asserts a time.
//!
//! A benchmark is an example of the crate it measures. It is started once per contender and round as
//! `EXAMPLE CONTENDER` and prints lines `FIGURE VALUE UNIT` such as `write 12.5 us/row`. To add one: the example, and a line in [`BENCHES`].

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
}

/// Every benchmark.
pub const BENCHES: &[Bench] = &[Bench {
    name: "online-store",
    about: "embedded key-value stores on the online store's access pattern",
    package: "gristmill-store",
    example: "online_bench",
    contenders: &["fjall", "redb"],
    rounds: 5,
}];

/// Prints what can be measured.
pub fn list() -> Result<bool> {
    for bench in BENCHES {
        println!("{:<16} {} ({})", bench.name, bench.about, bench.contenders.join(", "));
    }
    Ok(true)
}

/// Measures, prints a table and writes `target/bench/NAME.json`.
pub fn run(root: &Path, name: &str) -> Result<bool> {
    let known: Vec<&str> = BENCHES.iter().map(|b| b.name).collect();
    let bench = BENCHES
        .iter()
        .find(|b| b.name == name)
        .with_context(|| format!("there is no benchmark `{name}`; there are {}", known.join(", ")))?;
    let program = build(root, bench)?;
    let series = interleave(bench.rounds, bench.contenders, |contender| measure(&program, contender))?;
    print!("{}", table(bench.contenders, &series));
    let path = write_report(root, bench, &series)?;
    println!("report: {}", path.display());
    Ok(true)
}

/// Builds the example with optimisation and names the program.
fn build(root: &Path, bench: &Bench) -> Result<PathBuf> {
    let args =
        ["build", "--release", "--package", bench.package, "--example", bench.example, "--message-format", "json-render-diagnostics"];
    let output = Command::new(crate::cargo()).current_dir(root).args(args).stderr(std::process::Stdio::inherit()).output()?;
    if !output.status.success() {
        bail!("example {} of {} does not build", bench.example, bench.package);
    }
    let lines = String::from_utf8_lossy(&output.stdout).into_owned();
    let messages = lines.lines().filter_map(|l| serde_json::from_str::<serde_json::Value>(l).ok());
    let mut programs =
        messages.filter(|m| m["target"]["name"] == bench.example).filter_map(|m| m["executable"].as_str().map(PathBuf::from));
    programs.next_back().with_context(|| format!("cargo did not name the program of {}", bench.example))
}

/// Figures of one round: name -> (value, unit).
pub type Figures = BTreeMap<String, (f64, String)>;

fn measure(program: &Path, contender: &str) -> Result<Figures> {
    let output = Command::new(program).arg(contender).stderr(std::process::Stdio::inherit()).output()?;
    if !output.status.success() {
        bail!("{} {contender} failed: {}", program.display(), output.status);
    }
    let figures = read_figures(&String::from_utf8_lossy(&output.stdout));
    if figures.is_empty() {
        bail!("{} {contender} printed no figure", program.display());
    }
    Ok(figures)
}

/// Reads lines `FIGURE VALUE UNIT`; other lines are talk.
pub fn read_figures(text: &str) -> Figures {
    let lines = text.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        let (name, value, unit) = (words.next()?, words.next()?.parse::<f64>().ok()?, words.next().unwrap_or_default());
        Some((name.to_owned(), (value, unit.to_owned())))
    });
    lines.collect()
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

/// Measures contenders in turn, the order reversed every other round, the first round thrown away.
pub fn interleave(rounds: usize, contenders: &[&str], mut measure: impl FnMut(&str) -> Result<Figures>) -> Result<Measured> {
    let mut measured = Measured::new();
    for round in 0..=rounds {
        let mut order: Vec<&str> = contenders.to_vec();
        if round % 2 == 1 {
            order.reverse();
        }
        for contender in order {
            let figures = measure(contender)?;
            eprintln!("round {round} of {rounds}: {contender}");
            if round == 0 {
                continue;
            }
            for (name, (value, unit)) in figures {
                let series = measured.entry(name).or_default().entry(contender.to_owned()).or_default();
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
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from);
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
    fn contenders_take_turns_and_the_first_round_does_not_count() {
        let mut order = Vec::new();
        let mut next = 0.0;
        let measured = interleave(2, &["a", "b"], |who| {
            order.push(who.to_owned());
            next += 1.0;
            Ok(read_figures(&format!("warming up\nread {next} us\n")))
        })
        .unwrap();
        assert_eq!(order, ["a", "b", "b", "a", "a", "b"]);
        assert_eq!(measured["read"]["a"].values, [4.0, 5.0]);
        assert_eq!(measured["read"]["b"].values, [3.0, 6.0]);
        assert_eq!(measured["read"]["a"].median(), 4.5);
        let table = table(&["a", "b"], &measured);
        assert!(table.contains("1.00") && table.lines().count() == 3, "{table}");
    }
}
