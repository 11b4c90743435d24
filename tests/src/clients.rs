//! The environments in which the clients of others run, unmodified, from PyPI. What needs them is ignored unless asked for.

use std::path::PathBuf;
use std::process::{Command, Stdio};

/// The variable that names the folder of the client environments.
pub const VENVS: &str = "GRISTMILL_VENVS";

/// The Python of an environment (`mlflow-3.17`, `feast`), made when it is not there yet.
pub fn python(name: &str) -> PathBuf {
    let mut command = Command::new("python3");
    command.arg(crate::folder().join("clients/venvs.py")).arg(name);
    if let Some(folder) = std::env::var_os(VENVS) {
        command.arg("--cache").arg(folder);
    }
    let ran = command.stderr(Stdio::inherit()).output().expect("python3 starts");
    assert!(ran.status.success(), "venvs.py {name} ended with {}", ran.status);
    let out = String::from_utf8_lossy(&ran.stdout).into_owned();
    PathBuf::from(out.lines().last().expect("venvs.py names a Python"))
}
