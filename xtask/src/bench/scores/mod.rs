//! `cargo xtask bench scores`: models scored in process, one thread each, beside the libraries that people call.
//!
//! A forest of 100 trees with 63 leaves as LightGBM wrote it, beside lleaves, LightGBM and ONNX Runtime, and a small network beside ONNX Runtime,
//! by our own steps and by ONNX Runtime in our process; 10,000 different rows, in one call and one by one. Promises: everybody is started on the same core, one after the other, round by round; before
//! anything is timed, everybody has to give the same probabilities. The peers are called from Python, which is part of a call with one row.
//!
//! Goals are judged by the quickest round of each. Nobody waits for anything here, so what takes longer in another round is somebody else's: on the
//! core of a shared machine whole processes take 1.7 times as long as the one before, from their start to their end, and medians of a few say who
//! met whom.

use super::command::{printed, venv};
use super::tracking::cores;
use super::words::Words;
use super::{Bench, Figures, Measured, rounds, table};
use anyhow::{Context, Result, bail};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

const USAGE: &str = "\
usage: cargo xtask bench scores [--rounds N] [--cache DIR]

  --rounds N   how often each is measured (9)
  --cache DIR  where the peers are installed (~/.cache/gristmill-venvs)
";

/// What this module measures.
pub const BENCH: Bench =
    Bench { name: "scores", about: "models scored in process (Gristmill, lleaves, LightGBM, ONNX Runtime)", usage: USAGE, run };

/// Ours.
const OURS: &str = "gristmill";
/// Ours, which leaves the graph to the library that the peer has.
const THROUGH: &str = "through";
/// What is scored by whom, how far probabilities may be apart from ours, and what is aimed at.
const CASES: [Case; 2] = [
    Case {
        model: "trees",
        // ONNX Runtime adds in float32.
        peers: &[("lleaves", 1e-12), ("lightgbm", 1e-12), ("onnxruntime", 2e-5)],
        goals: &[(OURS, ALL, "lleaves", 0.6), (OURS, ALL, "onnxruntime", 0.2), (OURS, ONE, "onnxruntime", 0.25)],
    },
    Case {
        model: "network",
        peers: &[("onnxruntime", 2e-5), (THROUGH, 2e-5)],
        goals: &[
            (OURS, ALL, "onnxruntime", 1.3),
            (OURS, ONE, "onnxruntime", 1.3),
            (THROUGH, ALL, "onnxruntime", 1.02),
            (THROUGH, ONE, "onnxruntime", 1.02),
        ],
    },
];

const ALL: &str = "a row of many";
const ONE: &str = "one row";

struct Case {
    model: &'static str,
    peers: &'static [(&'static str, f64)],
    /// Who, in what, takes at most which share of whose time.
    goals: &'static [(&'static str, &'static str, &'static str, f64)],
}

/// Measures, prints tables and writes `target/bench/scores.json`.
fn run(root: &Path, words: &[&str]) -> Result<bool> {
    let (mut times, mut cache) = (9, None);
    let mut words = Words::new(words, USAGE);
    while let Some(option) = words.option() {
        match option {
            "--rounds" => times = words.number(option)?,
            "--cache" => cache = Some(words.path(option)?),
            other => return words.unknown(other),
        }
    }
    let target = crate::target_dir(root);
    let folder = target.join("bench").join(format!("scores-{}", std::process::id()));
    std::fs::create_dir_all(&folder)?;
    let script = folder.join("peers.py");
    std::fs::write(&script, include_str!("peers.py"))?;
    let core = cores()?.last().context("a core")?.to_string();
    let python = venv(root, "scores", cache.as_deref())?;
    let find = "import glob, onnxruntime; print(glob.glob(onnxruntime.__path__[0] + '/capi/libonnxruntime.so.*')[0])";
    let library = printed(Command::new(&python).args(["-c", find]))?.trim().into();
    let bed = Bed { program: super::example(root, super::AS_USERS_RUN, "score")?, python, library, script, folder, core };
    printed(bed.python().arg("make").arg(&bed.folder))?;
    let mut reports = Vec::new();
    for case in &CASES {
        reports.push(bed.case(case, times)?);
    }
    std::fs::remove_dir_all(&bed.folder)?;
    let path = target.join("bench/scores.json");
    std::fs::write(&path, serde_json::to_string_pretty(&reports)? + "\n")?;
    println!("report: {}", path.display());
    Ok(true)
}

struct Bed {
    program: PathBuf,
    python: PathBuf,
    /// The shared library of ONNX Runtime that the peer has.
    library: PathBuf,
    script: PathBuf,
    folder: PathBuf,
    core: String,
}

impl Bed {
    fn pinned(&self, program: &Path) -> Command {
        let mut command = Command::new("taskset");
        command.args(["-c", &self.core]).arg(program);
        command
    }
    fn python(&self) -> Command {
        let mut command = self.pinned(&self.python);
        command.arg(&self.script);
        command
    }

    fn once(&self, who: &str, model: &str) -> Result<Figures> {
        let said = match who {
            OURS => printed(self.pinned(&self.program).arg(model).arg(&self.folder)),
            THROUGH => printed(self.pinned(&self.program).arg(model).arg(&self.folder).arg(&self.library)),
            peer => printed(self.python().args([peer, model]).arg(&self.folder)),
        }?;
        let said: serde_json::Value = serde_json::from_str(said.lines().last().unwrap_or_default())?;
        let figure = |key: &str| said[key].as_f64().map(|us| (us, "us".to_owned())).with_context(|| format!("{who} says no {key}: {said}"));
        Ok(Figures::from([(ALL.to_owned(), figure("all")?), (ONE.to_owned(), figure("one")?)]))
    }

    fn scores(&self, who: &str, model: &str) -> Result<Vec<f64>> {
        let bytes = std::fs::read(self.folder.join(format!("{who}.{model}.f64")))?;
        Ok(bytes.as_chunks::<8>().0.iter().map(|bytes| f64::from_le_bytes(*bytes)).collect())
    }

    fn case(&self, case: &Case, times: usize) -> Result<serde_json::Value> {
        self.once(OURS, case.model)?;
        let ours = self.scores(OURS, case.model)?;
        for (who, tolerance) in case.peers {
            self.once(who, case.model)?;
            let farthest = farthest(&ours, &self.scores(who, case.model)?);
            if farthest.is_nan() || farthest > *tolerance {
                bail!("{}: {who} is up to {farthest:e} from ours, {tolerance:e} is allowed", case.model);
            }
            eprintln!("{}: {who} is at most {farthest:e} from ours over {} rows", case.model, ours.len());
        }
        let who: Vec<&str> = std::iter::once(OURS).chain(case.peers.iter().map(|(who, _)| *who)).collect();
        let measured = rounds(times, &who, || {
            who.iter().map(|who| Ok(((*who).to_owned(), self.once(who, case.model)?))).collect::<Result<BTreeMap<String, Figures>>>()
        })?;
        println!("\n{} of {} rows", case.model, ours.len());
        print!("{}", table(&who, &measured));
        let goals = judged(case, &measured);
        goals.iter().for_each(|goal| println!("{goal}"));
        let figures: Vec<serde_json::Value> = measured
            .iter()
            .flat_map(|(figure, by)| by.iter().map(move |(who, s)| (figure, who, s)))
            .map(|(figure, who, s)| serde_json::json!({ "figure": figure, "who": who, "unit": s.unit, "median": s.median(), "quickest": s.range().0, "values": s.values }))
            .collect();
        Ok(serde_json::json!({ "model": case.model, "rows": ours.len(), "figures": figures, "goals": goals }))
    }
}

/// How far two lists of probabilities are apart; infinitely if they are not of the same rows.
fn farthest(one: &[f64], other: &[f64]) -> f64 {
    if one.len() != other.len() || one.is_empty() {
        return f64::INFINITY;
    }
    one.iter().zip(other).map(|(one, other)| (one - other).abs()).fold(0.0, |most, apart| if apart <= most { most } else { apart })
}

/// What was aimed at, and whether it was reached.
fn judged(case: &Case, measured: &Measured) -> Vec<String> {
    let quickest = |figure: &str, who: &str| measured.get(figure).and_then(|by| by.get(who)).map(|series| series.range().0);
    let goal = |(ours, figure, who, share): &(&str, &str, &str, f64)| {
        let ratio = quickest(figure, ours)? / quickest(figure, who)?;
        let word = if ratio <= *share { "reached" } else { "MISSED" };
        Some(format!("{word}: {ours}, {figure} takes at most {share}x of {who}'s time: {ratio:.3}x"))
    };
    case.goals.iter().filter_map(goal).collect()
}

#[cfg(test)]
mod tests {
    use super::super::Series;
    use super::*;

    #[test]
    fn nothing_equals_what_is_no_number_or_not_there() {
        assert_eq!(farthest(&[0.5, 0.25], &[0.5, 0.75]), 0.5);
        assert!(farthest(&[0.5], &[f64::NAN]).is_nan() && farthest(&[0.5], &[0.5, 0.5]).is_infinite() && farthest(&[], &[]).is_infinite());
    }

    #[test]
    fn a_goal_is_judged_by_the_quickest_rounds() {
        let series = |values: &[f64]| Series { unit: "us".into(), values: values.to_vec() };
        let by =
            |theirs: f64| BTreeMap::from([(OURS.to_owned(), series(&[2.0, 9.0, 3.0])), ("lleaves".to_owned(), series(&[7.0, theirs]))]);
        let said = |theirs: f64| judged(&CASES[0], &Measured::from([(ALL.to_owned(), by(theirs))]));
        assert!(said(3.4)[0].starts_with("reached") && said(3.3)[0].starts_with("MISSED"), "{:?}", said(3.3));
    }
}
