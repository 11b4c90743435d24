//! `cargo xtask bench features`: training sets, side by side with the engines that people join them with today.
//!
//! Everybody gets the same two Parquet files and both cores; ours is measured from a table of its own as well, as it lies after upkeep. Each measurement is a process of its own and in turn; its clock runs from
//! opening the files until the answers are in memory. Before anything counts, the answers of all are compared row by row.

use super::command::{printed, venv};
use super::words::Words;
use super::{Bench, Figures, Measured, Series, rounds, table};
use anyhow::{Context, Result};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

const USAGE: &str = "\
usage: cargo xtask bench features [--quick] [--rounds N] [--only CASES] [--cache DIR]

  --quick        a hundredth of the rows: to see that it works, not to know how fast it is
  --rounds N     how often each is measured (3)
  --only CASES   of latest, feast, retail, small, middle, large; separated by commas
  --cache DIR    where the peers are installed (~/.cache/gristmill-venvs)
";

/// What this module measures.
pub const BENCH: Bench = Bench { name: "features", about: "training sets (Gristmill, DuckDB, Polars, chDB, Feast)", usage: USAGE, run };

/// The name that ours has in tables.
const OURS: &str = "gristmill";
/// Ours from a table of its own, clustered by entity and time.
const KEPT: &str = "kept";

/// A measured join.
struct Case {
    name: &'static str,
    about: &'static str,
    /// What is asked of each label; a word of the example and of the peers.
    view: &'static str,
    rows: Rows,
    /// Ours first.
    contenders: &'static [&'static str],
    /// The first takes at most this share of the second's time.
    goals: &'static [(&'static str, &'static str, f64)],
}

/// What a training set may take of memory, however large it is.
const MEMORY_MIB: f64 = 8_192.0;

/// What it is asked over.
enum Rows {
    /// Labels and events of invented customers; `keys` says how many each has: `even`, or `zipf`, by a power law.
    Made { labels: usize, events: usize, keys: &'static str },
    /// The retail data of `examples/churn`: every row of a customer is a label.
    Retail,
}

const CASES: &[Case] = &[
    Case {
        name: "latest",
        about: "newest row of 10 columns before each of 1,000,000 labels, over 5,000,000 events",
        view: "latest",
        rows: Rows::Made { labels: 1_000_000, events: 5_000_000, keys: "zipf" },
        contenders: &[OURS, KEPT, "duckdb", "polars", "chdb"],
        goals: &[(OURS, "duckdb", 0.4), (KEPT, "duckdb", 0.15)],
    },
    Case {
        name: "feast",
        // With a power law Feast's join of the largest customers takes more than 23 GB.
        about: "the same for 100,000 labels over 1,000,000 events of evenly active customers, as get_historical_features",
        view: "latest",
        rows: Rows::Made { labels: 100_000, events: 1_000_000, keys: "even" },
        contenders: &[OURS, "duckdb", "feast"],
        goals: &[(OURS, "feast", 1.0 / 40.0)],
    },
    Case {
        name: "retail",
        about: "count, sum, mean and maximum of 1, 7 and 30 days before each row of a customer in the retail data",
        view: "windows",
        rows: Rows::Retail,
        contenders: &[OURS, "duckdb", "polars"],
        goals: &[(OURS, "polars", 1.0)],
    },
    Case {
        name: "small",
        about: "count, sum, mean and maximum of three windows before 100,000 labels over 1,000,000 events",
        view: "windows",
        rows: Rows::Made { labels: 100_000, events: 1_000_000, keys: "zipf" },
        contenders: &[KEPT],
        goals: &[],
    },
    Case {
        name: "middle",
        about: "the same before 1,000,000 labels over 10,000,000 events",
        view: "windows",
        rows: Rows::Made { labels: 1_000_000, events: 10_000_000, keys: "zipf" },
        contenders: &[KEPT],
        goals: &[],
    },
    Case {
        name: "large",
        about: "the same before 10,000,000 labels over 100,000,000 events",
        view: "windows",
        rows: Rows::Made { labels: 10_000_000, events: 100_000_000, keys: "zipf" },
        contenders: &[KEPT],
        goals: &[],
    },
];

/// What is asked for.
struct Asked {
    quick: bool,
    rounds: usize,
    only: Vec<String>,
    cache: Option<PathBuf>,
}

impl Asked {
    fn parse(words: &[&str]) -> Result<Asked> {
        let mut asked = Asked { quick: false, rounds: 3, only: Vec::new(), cache: None };
        let mut words = Words::new(words, USAGE);
        while let Some(option) = words.option() {
            match option {
                "--quick" => asked.quick = true,
                "--rounds" => asked.rounds = words.number(option)?,
                "--only" => asked.only = words.some_of(option, &CASES.iter().map(|case| case.name).collect::<Vec<_>>())?,
                "--cache" => asked.cache = Some(words.path(option)?),
                other => return words.unknown(other),
            }
        }
        Ok(asked)
    }
}

/// Measures, prints tables, writes `target/bench/features.json`. False when somebody's answers differ from ours.
fn run(root: &Path, words: &[&str]) -> Result<bool> {
    let asked = Asked::parse(words)?;
    let target = crate::target_dir(root);
    let place = target.join("bench/features");
    std::fs::create_dir_all(&place)?;
    let script = place.join("peers.py");
    std::fs::write(&script, include_str!("peers.py"))?;
    let (program, engines) = (super::example(root, super::AS_USERS_RUN, "training_set")?, venv(root, "engines", asked.cache.as_deref())?);
    let bed = Bed { asked, root: root.to_owned(), program, script, engines, place };
    let (mut equal, mut reports) = (true, Vec::new());
    for case in CASES.iter().filter(|case| bed.asked.only.is_empty() || bed.asked.only.iter().any(|o| o == case.name)) {
        let (same, report) = bed.case(case)?;
        equal &= same;
        reports.push(report);
    }
    let path = target.join("bench/features.json");
    std::fs::write(&path, serde_json::to_string_pretty(&reports)? + "\n")?;
    println!("report: {}", path.display());
    Ok(equal)
}

fn last_json(text: &str) -> Result<Value> {
    serde_json::from_str(text.lines().last().unwrap_or_default()).with_context(|| format!("not understood: {text}"))
}

struct Bed {
    asked: Asked,
    root: PathBuf,
    /// Our side.
    program: PathBuf,
    script: PathBuf,
    /// The Python of DuckDB, Polars and chDB.
    engines: PathBuf,
    place: PathBuf,
}

impl Bed {
    /// Measures one join; whether all answers are equal, and the report.
    fn case(&self, case: &Case) -> Result<(bool, Value)> {
        let folder = self.place.join(format!("{}{}", case.name, if self.asked.quick { "-quick" } else { "" }));
        self.make(case, &folder)?;
        if case.contenders.contains(&KEPT) {
            printed(Command::new(&self.program).arg("keep").arg(&folder))?;
        }
        let ours = case.contenders[0];
        let (mut equal, mut there, mut left_out) = (true, vec![ours], Vec::new());
        self.once(case, ours, &folder)?;
        for who in case.contenders.iter().copied().filter(|who| *who != ours) {
            if let Err(error) = self.once(case, who, &folder) {
                left_out.push(format!("{who}: {error:#}"));
                continue;
            }
            let mut command = Command::new(&self.engines);
            command.arg(&self.script).args(["check", case.view]).arg(&folder).args([ours, who]);
            let found = last_json(&printed(&mut command)?)?;
            // Feast leaves rows out; what it has must be the same, and how many it has is a figure.
            let same = found["different"] == 0 && found["both"] == found[if who == "feast" { "other" } else { "rows" }];
            eprintln!("{}: {who} against ours: {found}", case.name);
            equal &= same;
            there.push(who);
        }
        let measured = rounds(self.asked.rounds, &there, || {
            there.iter().map(|who| Ok(((*who).to_owned(), self.once(case, who, &folder)?))).collect::<Result<BTreeMap<String, Figures>>>()
        })?;
        println!("\n{} ({})", case.name, case.about);
        print!("{}", table(&there, &measured));
        let goals = judged(case, &measured);
        goals.iter().for_each(|goal| println!("{goal}"));
        left_out.iter().for_each(|why| println!("left out: {why}"));
        std::fs::remove_dir_all(&folder)?;
        let figures: Vec<Value> = measured
            .iter()
            .flat_map(|(figure, by)| by.iter().map(move |(who, s)| (figure, who, s)))
            .map(|(figure, who, s)| serde_json::json!({ "figure": figure, "who": who, "unit": s.unit, "median": s.median(), "values": s.values }))
            .collect();
        let report = serde_json::json!({
            "case": case.name, "about": case.about, "quick": self.asked.quick, "equal": equal, "figures": figures, "goals": goals, "left_out": left_out,
        });
        Ok((equal, report))
    }

    /// Writes what is joined.
    fn make(&self, case: &Case, folder: &Path) -> Result<()> {
        let mut command = match case.rows {
            Rows::Made { labels, events, keys } => {
                let scale = if self.asked.quick { 100 } else { 1 };
                let mut command = Command::new(&self.program);
                command.arg("make").arg(folder).args([(labels / scale).to_string(), (events / scale).to_string()]).args([keys, case.view]);
                command
            }
            Rows::Retail => {
                let mut command = Command::new(&self.engines);
                command.arg(&self.script).arg("retail").arg(self.root.join("examples/churn/data/online_retail.parquet")).arg(folder);
                command
            }
        };
        printed(&mut command).map(|_| ())
    }

    fn once(&self, case: &Case, who: &str, folder: &Path) -> Result<Figures> {
        let mut command = match who {
            OURS | KEPT => {
                let mut command = Command::new(&self.program);
                command.arg(if who == OURS { "run" } else { "kept" }).arg(folder).arg(case.view);
                command
            }
            _ => {
                let python = if who == "feast" { venv(&self.root, "feast", self.asked.cache.as_deref())? } else { self.engines.clone() };
                let mut command = Command::new(python);
                command.arg(&self.script).args([who, case.view]).arg(folder).env("FEAST_USAGE", "False");
                command
            }
        };
        let said = last_json(&printed(&mut command)?)?;
        let figure = |key: &str| said[key].as_f64().with_context(|| format!("{who} says no {key}: {said}"));
        let mut figures = Figures::from([
            ("time".to_owned(), (figure("seconds")?, "s".to_owned())),
            ("peak memory".to_owned(), (figure("peak_mib")?, "MiB".to_owned())),
            ("rows".to_owned(), (figure("rows")?, String::new())),
        ]);
        if let Some(reading) = said["reading"].as_f64() {
            figures.insert("of it reading".to_owned(), (reading, "s".to_owned()));
        }
        Ok(figures)
    }
}

/// What was aimed at, and whether it was reached.
fn judged(case: &Case, measured: &Measured) -> Vec<String> {
    let median = |figure: &str, who: &str| measured.get(figure).and_then(|by| by.get(who)).map(Series::median);
    let word = |reached: bool| if reached { "reached" } else { "MISSED" };
    let goal = |(ours, who, share): &(&str, &str, f64)| {
        let (taken, theirs) = (median("time", ours)?, median("time", who)?);
        Some(format!("{}: {ours} takes at most {share:.3}x of {who}'s time: {:.3}x", word(taken <= theirs * share), taken / theirs))
    };
    let peak = median("peak memory", case.contenders[0]);
    let memory = peak.map(|peak| format!("{}: at most {MEMORY_MIB:.0} MiB of memory: {peak:.0}", word(peak <= MEMORY_MIB)));
    case.goals.iter().filter_map(goal).chain(memory).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_goal_is_judged_by_medians() {
        let series = |values: &[f64]| Series { unit: "s".into(), values: values.to_vec() };
        let by = |theirs: f64| BTreeMap::from([(OURS.to_owned(), series(&[1.0, 9.0, 2.0])), ("duckdb".to_owned(), series(&[theirs]))]);
        let said = |theirs: f64| judged(&CASES[0], &Measured::from([("time".to_owned(), by(theirs))]));
        assert!(said(5.0)[0].starts_with("reached"), "{:?}", said(5.0));
        assert!(said(4.9)[0].starts_with("MISSED"), "{:?}", said(4.9));
        assert!(judged(&CASES[1], &Measured::from([("time".to_owned(), by(1.0))])).is_empty(), "nobody to compare with");
    }

    #[test]
    fn words_that_are_not_understood_are_refused() {
        assert!(
            Asked::parse(&["--rounds", "2", "--only", "latest,retail", "--quick"])
                .is_ok_and(|a| a.rounds == 2 && a.only.len() == 2 && a.quick)
        );
        assert!(Asked::parse(&["--rounds"]).is_err() && Asked::parse(&["--fast"]).is_err());
    }
}
