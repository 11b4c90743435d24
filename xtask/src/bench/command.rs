//! Commands whose output is wanted, and the Python environments of the peers.

use anyhow::{Context, Result, bail};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// What a command prints; one that fails is an error that ends with its last words.
pub fn printed(command: &mut Command) -> Result<String> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command.stderr(Stdio::piped()).output().with_context(|| format!("start {program}"))?;
    if !output.status.success() {
        let why = String::from_utf8_lossy(&output.stderr).into_owned();
        bail!("{program} failed: {}", why.lines().rev().take(4).collect::<Vec<_>>().join(" / "));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The Python of an environment of `tests/clients`, made if it is not there.
pub fn venv(root: &Path, name: &str, cache: Option<&Path>) -> Result<PathBuf> {
    let mut command = Command::new("python3");
    command.arg(root.join("tests/clients/venvs.py")).arg(name);
    if let Some(cache) = cache {
        command.arg("--cache").arg(cache);
    }
    Ok(PathBuf::from(printed(&mut command)?.lines().last().context("venvs.py names a Python")?))
}
