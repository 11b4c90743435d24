//! `cargo xtask COMMAND`: parses, dispatches, nothing else.

use std::path::PathBuf;
use std::process::ExitCode;

const USAGE: &str = "\
usage: cargo xtask COMMAND

  tidy [--root DIR]   check the laws of the workspace
  ci                  format, clippy, tidy, tests, licences and advisories; prints the counts
  bench [NAME]        measure; without a name: list what can be measured
  bench features ...  measure training sets beside their peers; see `bench features --help`
  bench online ...    measure online features beside their peers; see `bench online --help`
  bench replay ...    play the ads example at speed and audit it; see `bench replay --help`
  bench scores ...    measure models in process beside their peers; see `bench scores --help`
  bench serve ...     measure predictions beside their peers; see `bench serve --help`
  bench stream ...    measure events on their way to features; see `bench stream --help`
  bench tracking ...  measure tracking beside its peers; see `bench tracking --help`
  fixtures [NAME]...  make the models of other libraries again (tests/models), all or those named; needs PyPI
";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    let outcome = match words.as_slice() {
        ["tidy"] => xtask::tidy::run(&xtask::workspace_root()),
        ["tidy", "--root", dir] => xtask::tidy::run(&PathBuf::from(dir)),
        ["ci"] => xtask::ci::run(&xtask::workspace_root()),
        ["bench"] => xtask::bench::list(),
        ["bench", "features", rest @ ..] => xtask::bench::features::run(&xtask::workspace_root(), rest),
        ["bench", "online", rest @ ..] => xtask::bench::online::run(&xtask::workspace_root(), rest),
        ["bench", "replay", rest @ ..] => xtask::bench::replay::run(&xtask::workspace_root(), rest),
        ["bench", "scores", rest @ ..] => xtask::bench::scores::run(&xtask::workspace_root(), rest),
        ["bench", "serve", rest @ ..] => xtask::bench::serve::run(&xtask::workspace_root(), rest),
        ["bench", "stream", rest @ ..] => xtask::bench::stream::run(&xtask::workspace_root(), rest),
        ["bench", "tracking", rest @ ..] => xtask::bench::tracking::run(&xtask::workspace_root(), rest),
        // Parts of a benchmark that run as processes of their own.
        ["bench-worker", work] => xtask::bench::tracking::worker::main(work),
        ["bench-load", file] => xtask::bench::serve::load::main(file),
        ["bench-stub", port] => xtask::bench::tracking::stub::main(port, None),
        ["bench-stub", port, file] => xtask::bench::tracking::stub::main(port, Some(file)),
        ["bench", name] => xtask::bench::run(&xtask::workspace_root(), name),
        ["fixtures", names @ ..] => xtask::fixtures::run(&xtask::workspace_root(), names),
        ["help" | "--help" | "-h"] => {
            print!("{USAGE}");
            return ExitCode::SUCCESS;
        }
        _ => {
            eprint!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
