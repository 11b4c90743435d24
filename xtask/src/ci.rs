//! Everything that must hold before a merge, in one command.
//!
//! Promise: each step is printed with its time; a failed step does not hide the later ones; the last line is
//! `N passed, N failed`, summed over every test binary; any failure makes the exit code non-zero.

use crate::cargo;
use anyhow::{Context, Result};
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

/// What a step came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It holds.
    Passed,
    /// It does not.
    Failed,
    /// Its tool is missing; said aloud, and covered elsewhere.
    NotRun(&'static str),
}

/// One step: its name and what it does.
pub type Step = (&'static str, fn(&Path, &mut Counts) -> Result<Outcome>);

/// The steps, the quick ones first.
pub const STEPS: &[Step] = &[
    ("format", |root, _| plain(root, &["fmt", "--all", "--check"])),
    ("tidy", |root, _| crate::tidy::run(root).map(passed)),
    ("clippy", |root, _| plain(root, &["clippy", "--workspace", "--all-targets", "--quiet", "--", "-D", "warnings"])),
    ("build", |root, _| plain(root, &["build", "--release", "--quiet"])),
    ("tests", tests),
    ("deny", |root, _| deny(root)),
];

/// Tests counted.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Counts {
    /// Test binaries that reported.
    pub binaries: u64,
    /// Tests that passed.
    pub passed: u64,
    /// Tests that failed.
    pub failed: u64,
    /// Tests that were not run because they are marked so.
    pub ignored: u64,
}

impl Counts {
    /// Adds a line of a test binary's output if it is its last one.
    pub fn read(&mut self, line: &str) {
        let Some((_, rest)) = line.split_once("test result: ") else { return };
        let count = |word: &str| {
            let before = rest.split(';').find_map(|part| part.trim().strip_suffix(word)).unwrap_or_default().trim();
            before.rsplit(' ').next().and_then(|n| n.parse::<u64>().ok())
        };
        let (Some(passed), Some(failed)) = (count("passed"), count("failed")) else { return };
        self.binaries += 1;
        self.passed += passed;
        self.failed += failed;
        self.ignored += count("ignored").unwrap_or_default();
    }
}

/// Runs every step. True when all of them hold.
pub fn run(root: &Path) -> Result<bool> {
    let mut counts = Counts::default();
    let mut lines = Vec::new();
    let mut good = true;
    for (name, step) in STEPS {
        println!("== {name}");
        std::io::stdout().flush()?;
        let began = Instant::now();
        let outcome = step(root, &mut counts).unwrap_or_else(|error| {
            eprintln!("error: {error:#}");
            Outcome::Failed
        });
        good &= outcome != Outcome::Failed;
        let line = format!("{name:<8} {:<8} {}", took(began.elapsed()), word(outcome));
        println!("-- {line}");
        lines.push(line);
    }
    println!("\n{}", lines.join("\n"));
    if counts.ignored > 0 {
        println!("{} ignored", counts.ignored);
    }
    println!("{} passed, {} failed", counts.passed, counts.failed);
    Ok(good)
}

fn word(outcome: Outcome) -> String {
    match outcome {
        Outcome::Passed => "passed".to_owned(),
        Outcome::Failed => "FAILED".to_owned(),
        Outcome::NotRun(why) => format!("not run: {why}"),
    }
}

fn took(time: Duration) -> String {
    let seconds = time.as_secs_f64();
    if seconds < 60.0 { format!("{seconds:.1} s") } else { format!("{}m {:02}s", seconds as u64 / 60, seconds as u64 % 60) }
}

fn passed(yes: bool) -> Outcome {
    if yes { Outcome::Passed } else { Outcome::Failed }
}

fn plain(root: &Path, args: &[&str]) -> Result<Outcome> {
    let status = cargo(root, args).status().with_context(|| format!("cargo {} does not start", args.join(" ")))?;
    Ok(passed(status.success()))
}

fn tests(root: &Path, counts: &mut Counts) -> Result<Outcome> {
    // What is ignored elsewhere needs Python and PyPI; here it runs.
    let mut child = cargo(root, &["test", "--release", "--workspace", "--no-fail-fast", "--", "--include-ignored"])
        .stdout(Stdio::piped())
        .spawn()
        .context("cargo test does not start")?;
    let output = child.stdout.take().context("cargo test has no output")?;
    let mut stdout = std::io::stdout();
    for line in BufReader::new(output).split(b'\n') {
        let line = line?;
        let line = String::from_utf8_lossy(&line);
        writeln!(stdout, "{line}")?;
        counts.read(&line);
    }
    let ended = child.wait()?.success();
    Ok(passed(ended && counts.failed == 0 && counts.passed > 0))
}

fn deny(root: &Path) -> Result<Outcome> {
    let installed = cargo(root, &["deny", "--version"]).stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|s| s.success());
    if !installed {
        return Ok(Outcome::NotRun("cargo-deny is not installed; licences, bans and origins were checked by tidy, advisories were not"));
    }
    plain(root, &["deny", "check"])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_are_summed_over_binaries() {
        let mut counts = Counts::default();
        counts.read("running 3 tests");
        counts.read("test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.01s");
        counts.read("test result: FAILED. 10 passed; 2 failed; 0 ignored; 0 measured; 4 filtered out; finished in 1.20s");
        counts.read("test it_prints::test_result ... ok");
        assert_eq!(counts, Counts { binaries: 2, passed: 13, failed: 2, ignored: 1 });
    }

    #[test]
    fn times_are_for_people() {
        assert_eq!(took(Duration::from_millis(1234)), "1.2 s");
        assert_eq!(took(Duration::from_secs(125)), "2m 05s");
    }
}
