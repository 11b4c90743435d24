//! The servers that are compared: found or installed, and started on their core.

use crate::bench::running::{Running, Start, free_port};
use anyhow::{Context, Result, bail};
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Who is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Who {
    /// Ours.
    Gristmill,
    /// `mlflow server` with SQLite, its default workers and proxied artifacts.
    Mlflow,
    /// `fml server` with SQLite.
    FastTrackMl,
    /// Answers at once, keeps nothing.
    Floor,
    /// The same after a sync of a few bytes.
    SyncedFloor,
}

impl Who {
    /// Its name in tables.
    pub fn name(self) -> &'static str {
        match self {
            Who::Gristmill => "Gristmill",
            Who::Mlflow => "MLflow",
            Who::FastTrackMl => "FastTrackML",
            Who::Floor => "floor",
            Who::SyncedFloor => "synced floor",
        }
    }
    fn health(self) -> &'static str {
        match self {
            Who::Gristmill => "/readyz",
            Who::Mlflow | Who::FastTrackMl => "/health",
            Who::Floor | Who::SyncedFloor => "/",
        }
    }
}

/// Where the programs are.
pub struct Programs {
    /// Our binary.
    pub gristmill: PathBuf,
    /// The Python of the environment that has `mlflow`.
    pub python: PathBuf,
    /// The FastTrackML binary, if it could be installed.
    pub fml: Option<PathBuf>,
    /// This program.
    pub own: PathBuf,
}

const MLFLOW: &str = "mlflow==3.17.2";
const FASTTRACKML: &str = "fasttrackml==0.6.0";

impl Programs {
    /// Finds them, and installs the peers from PyPI into `cache` if they are not there yet. `wheels` is a folder that pip looks into first.
    pub fn find(root: &Path, binary: Option<&Path>, cache: &Path, wheels: Option<&Path>) -> Result<Programs> {
        let gristmill = crate::bench::our_server(root, binary)?;
        let python = environment(&cache.join("mlflow-3.17"), MLFLOW, "bin/mlflow", wheels)?;
        let fml = match environment(&cache.join("fasttrackml-0.6"), FASTTRACKML, "bin/fml", wheels) {
            Ok(_) => Some(cache.join("fasttrackml-0.6/bin/fml")),
            Err(error) => {
                eprintln!("FastTrackML is left out: {error:#}");
                None
            }
        };
        Ok(Programs { gristmill, python, fml, own: std::env::current_exe()? })
    }
}

/// A virtual environment with one package, made if its program is not there; its Python.
fn environment(place: &Path, package: &str, program: &str, wheels: Option<&Path>) -> Result<PathBuf> {
    let python = place.join("bin/python");
    if place.join(program).is_file() {
        return Ok(python);
    }
    eprintln!("installing {package} into {}", place.display());
    std::fs::create_dir_all(place)?;
    let made = Command::new("python3").args(["-m", "venv"]).arg(place).status()?;
    let mut pip = Command::new(&python);
    pip.args(["-m", "pip", "install", "--quiet"]);
    if let Some(wheels) = wheels {
        pip.arg("--find-links").arg(wheels);
    }
    // FastTrackML's own clients are not used, so what they need is not installed.
    if package == FASTTRACKML {
        pip.arg("--no-deps");
    }
    if !made.success() || !pip.arg(package).status()?.success() || !place.join(program).is_file() {
        bail!("{package} could not be installed");
    }
    Ok(python)
}

/// A running server.
pub struct Server {
    /// Who it is.
    pub who: Who,
    running: Running,
}

impl Deref for Server {
    type Target = Running;
    fn deref(&self) -> &Running {
        &self.running
    }
}

/// Starts a server in its folder, on one core, and waits until it is ready.
pub fn start(programs: &Programs, who: Who, folder: &Path, core: usize) -> Result<Server> {
    std::fs::create_dir_all(folder)?;
    let port = free_port()?;
    let text = |path: &Path| path.display().to_string();
    let mut words: Vec<String> = vec!["taskset".into(), "-c".into(), core.to_string()];
    match who {
        Who::Gristmill => {
            if !folder.join("gristmill.toml").is_file() {
                let made = Command::new(&programs.gristmill).args(["--quiet", "init", "."]).current_dir(folder).status()?;
                if !made.success() {
                    bail!("gristmill init failed in {}", folder.display());
                }
            }
            words.extend([text(&programs.gristmill), "serve".into(), "--port".into(), port.to_string()]);
        }
        Who::Mlflow => {
            words.extend([text(&programs.python), "-m".into(), "mlflow".into(), "server".into(), "--host".into(), "127.0.0.1".into()]);
            words.extend([
                "--port".into(),
                port.to_string(),
                "--backend-store-uri".into(),
                format!("sqlite:///{}/mlflow.db", folder.display()),
            ]);
            words.extend(["--artifacts-destination".into(), text(&folder.join("artifacts"))]);
        }
        Who::FastTrackMl => {
            let fml = programs.fml.as_deref().context("FastTrackML is not installed")?;
            words.extend([text(fml), "server".into(), "--listen-address".into(), format!("127.0.0.1:{port}")]);
            words.extend(["--database-uri".into(), format!("sqlite://{}/fml.db", folder.display()), "--log-level".into(), "error".into()]);
            words.extend(["--default-artifact-root".into(), text(&folder.join("artifacts"))]);
        }
        Who::Floor => words.extend([text(&programs.own), "bench-floor".into(), port.to_string()]),
        Who::SyncedFloor => words.extend([text(&programs.own), "bench-floor".into(), port.to_string(), text(&folder.join("synced"))]),
    }
    let environment = [("MLFLOW_DISABLE_TELEMETRY", "true"), ("DO_NOT_TRACK", "true")];
    let mut running = Running::start(&Start { words: &words, folder, port, health: who.health(), environment: &environment })?;
    if who == Who::Gristmill {
        running.take_token(folder)?;
    }
    Ok(Server { who, running })
}
