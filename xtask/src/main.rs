//! `cargo xtask COMMAND`: parses, dispatches, nothing else.

use std::path::PathBuf;
use std::process::ExitCode;

const USAGE: &str = "\
usage: cargo xtask COMMAND

  tidy [--root DIR]   check the laws of the workspace
  ci                  format, clippy, tidy, tests, licences and advisories; prints the counts
  bench [NAME ...]    measure; without a name: list what can be measured; see `bench NAME --help`
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
        ["bench", name, rest @ ..] => xtask::bench::run(&xtask::workspace_root(), name, rest),
        // Parts of a benchmark that run as processes of their own.
        ["bench-worker", work] => xtask::bench::tracking::worker::main(work),
        ["bench-load", file] => xtask::bench::serve::load::main(file),
        ["bench-floor", port] => xtask::bench::tracking::floor::main(port, None),
        ["bench-floor", port, file] => xtask::bench::tracking::floor::main(port, Some(file)),
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
