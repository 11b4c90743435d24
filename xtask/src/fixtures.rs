//! The models of other libraries that the tests of `serve` hold ours against: `tests/models/fixtures`, made again by the libraries themselves.
//!
//! Promise: each library runs in an environment of its own with pinned versions, made by `tests/clients/venvs.py` where it is not there yet.
//! To add one: a file `tests/models/from_NAME.py` and a line in [`LIBRARIES`].

use crate::bench::command::{printed, venv};
use anyhow::{Result, bail};
use std::path::Path;
use std::process::Command;

/// Each library, and the environment that has it.
pub const LIBRARIES: &[(&str, &str)] = &[
    ("sklearn", "models"),
    ("lightgbm", "models"),
    ("xgboost", "models"),
    ("catboost", "models-catboost"),
    ("torch", "models-torch"),
    ("keras", "models-keras"),
];

/// Makes the cases of some libraries again; of all where none is named.
pub fn run(root: &Path, names: &[&str]) -> Result<bool> {
    if let Some(stranger) = names.iter().find(|name| !LIBRARIES.iter().any(|(library, _)| library == *name)) {
        let known: Vec<&str> = LIBRARIES.iter().map(|(library, _)| *library).collect();
        bail!("there are no models of `{stranger}`; there are those of {}", known.join(", "));
    }
    let folder = root.join("tests/models");
    for (library, environment) in LIBRARIES.iter().filter(|(library, _)| names.is_empty() || names.contains(library)) {
        let python = venv(root, environment, None)?;
        print!("{}", printed(Command::new(python).arg("-B").arg(folder.join("make.py")).arg(folder.join("fixtures")).arg(library))?);
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_library_has_its_script_its_versions_and_its_cases() {
        let root = crate::workspace_root();
        let cases: Vec<String> = std::fs::read_dir(root.join("tests/models/fixtures"))
            .expect("the fixtures")
            .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
            .collect();
        for (library, environment) in LIBRARIES {
            assert!(root.join(format!("tests/models/from_{library}.py")).is_file(), "{library}");
            assert!(root.join(format!("tests/clients/requirements/{environment}.txt")).is_file(), "{environment}");
            assert!(cases.iter().any(|case| case.starts_with(&format!("{library}_"))), "{library}");
        }
    }

    #[test]
    fn a_library_that_is_not_there_is_named_beside_those_that_are() {
        let why = run(Path::new("."), &["sklearn", "prophet"]).expect_err("no such library").to_string();
        assert!(why.contains("`prophet`") && why.contains("catboost"), "{why}");
    }
}
