//! Benchmarks: contenders measured in turn, a table for people, a report for tools.
//!
//! Promise: contenders are interleaved (A B A B ...), so that a slow minute of the machine hits all of them; the first round
//! is thrown away; the figure is the median, with the smallest and largest beside it. A report says what was measured, how often
//! and on how many cores. No test asserts a time.
//!
//! To add one: a module with a [`Bench`], and a line in [`BENCHES`]. [`examples`] has those that are an example of the crate they measure.

pub(crate) mod command;
mod examples;
pub mod features;
mod figures;
mod http;
pub mod online;
pub mod replay;
mod running;
pub mod scores;
pub mod serve;
pub mod stream;
pub mod tracking;
mod words;

pub use figures::{Figures, Measured, Series, rounds, table};

use anyhow::{Context, Result, bail};
use std::path::{Path, PathBuf};

/// What can be measured.
pub struct Bench {
    /// The word on the command line.
    pub name: &'static str,
    /// One line for people.
    pub about: &'static str,
    /// What `--help` prints.
    pub usage: &'static str,
    /// Measures in a workspace as the words say; whether all is well.
    pub run: fn(root: &Path, words: &[&str]) -> Result<bool>,
}

/// Every benchmark, by name.
pub const BENCHES: &[Bench] = &[
    features::BENCH,
    online::BENCH,
    examples::ONLINE_STORE,
    replay::BENCH,
    scores::BENCH,
    serve::BENCH,
    examples::SMALL_COMMITS,
    stream::BENCH,
    tracking::BENCH,
];

/// Prints what can be measured.
pub fn list() -> Result<bool> {
    print!("{}", listed());
    Ok(true)
}

/// A line per benchmark.
fn listed() -> String {
    BENCHES.iter().map(|bench| format!("  {:<16} {}\n", bench.name, bench.about)).collect()
}

/// Measures as the words after the name say, or tells what they may be.
pub fn run(root: &Path, name: &str, words: &[&str]) -> Result<bool> {
    let Some(bench) = BENCHES.iter().find(|bench| bench.name == name) else {
        bail!("there is no benchmark `{name}`; there are\n{}", listed());
    };
    if words.iter().any(|word| matches!(*word, "--help" | "-h")) {
        print!("{}", bench.usage);
        return Ok(true);
    }
    (bench.run)(root, words)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_benchmark_is_found_by_its_name_and_explains_itself() {
        for bench in BENCHES {
            let named = format!("usage: cargo xtask bench {} ", bench.name);
            assert!(bench.usage.starts_with(&named), "{}: {}", bench.name, bench.usage);
            assert!(run(Path::new("/"), bench.name, &["--help"]).unwrap());
            let refused = run(Path::new("/"), bench.name, &["--nothing"]).unwrap_err().to_string();
            assert_eq!(refused, format!("`--nothing` is not understood\n{}", bench.usage));
        }
        assert!(BENCHES.is_sorted_by(|a, b| a.name < b.name), "the list is in order");
        let unknown = run(Path::new("/"), "nothing", &[]).unwrap_err().to_string();
        assert!(BENCHES.iter().all(|bench| unknown.contains(bench.about)), "{unknown}");
    }
}
