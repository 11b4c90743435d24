//! The servers that are compared: found or installed, started on their core, watched, held still while another is measured, ended.

use super::http::{Address, Connection};
use anyhow::{Context, Result, bail};
use std::collections::BTreeSet;
use std::fs::File;
use std::net::TcpListener;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Longest wait for a server to be ready.
const READY: Duration = Duration::from_secs(180);

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
    Stub,
    /// The same after a sync of a few bytes.
    SyncedStub,
}

impl Who {
    /// Its name in tables.
    pub fn name(self) -> &'static str {
        match self {
            Who::Gristmill => "Gristmill",
            Who::Mlflow => "MLflow",
            Who::FastTrackMl => "FastTrackML",
            Who::Stub => "stub",
            Who::SyncedStub => "synced stub",
        }
    }
    fn health(self) -> &'static str {
        match self {
            Who::Gristmill => "/readyz",
            Who::Mlflow | Who::FastTrackMl => "/health",
            Who::Stub | Who::SyncedStub => "/",
        }
    }
}

/// Where the programs are.
pub struct Programs {
    /// Our release binary.
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
        let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from);
        let gristmill = binary.map_or_else(|| target.join("release/gristmill"), Path::to_path_buf);
        if !gristmill.is_file() {
            bail!("there is no {}; build it first: cargo build --release -p gristmill", gristmill.display());
        }
        let python = environment(&cache.join("mlflow-3.17"), MLFLOW, "bin/mlflow", wheels)?;
        let fml = match environment(&cache.join("fasttrackml-0.6"), FASTTRACKML, "bin/fml", wheels) {
            Ok(_) => Some(cache.join("fasttrackml-0.6/bin/fml")),
            Err(error) => {
                eprintln!("FastTrackML is left out: {error:#}");
                None
            }
        };
        Ok(Programs { gristmill: gristmill.canonicalize()?, python, fml, own: std::env::current_exe()? })
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
    /// Where it is.
    pub address: Address,
    /// From its start until it said that it is ready.
    pub ready: Duration,
    /// The command that started it.
    pub command: String,
    child: Child,
}

/// Starts a server in its folder, on one core, and waits until it is ready.
pub fn start(programs: &Programs, who: Who, folder: &Path, core: usize) -> Result<Server> {
    std::fs::create_dir_all(folder)?;
    let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
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
        Who::Stub => words.extend([text(&programs.own), "bench-stub".into(), port.to_string()]),
        Who::SyncedStub => words.extend([text(&programs.own), "bench-stub".into(), port.to_string(), text(&folder.join("synced"))]),
    }
    let log = folder.join("server.log");
    let out = File::create(&log)?;
    let begun = Instant::now();
    let child = Command::new(&words[0])
        .args(&words[1..])
        .current_dir(folder)
        .env("MLFLOW_DISABLE_TELEMETRY", "true")
        .env("DO_NOT_TRACK", "true")
        .stdin(Stdio::null())
        .stdout(out.try_clone()?)
        .stderr(out)
        // A group of its own: it is held still and ended with everything it started.
        .process_group(0)
        .spawn()
        .with_context(|| format!("start {}", words.join(" ")))?;
    let address = Address { at: ([127, 0, 0, 1], port).into(), auth: None };
    let mut server = Server { who, address, ready: Duration::ZERO, command: words.join(" "), child };
    while !server.is_ready() {
        if begun.elapsed() > READY || server.child.try_wait()?.is_some() {
            let told = std::fs::read_to_string(&log).unwrap_or_default();
            let end: Vec<&str> = told.lines().rev().take(20).collect();
            bail!("{} does not get ready; its log ends with:\n{}", who.name(), end.into_iter().rev().collect::<Vec<_>>().join("\n"));
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    server.ready = begun.elapsed();
    if who == Who::Gristmill {
        server.address.auth = Some(format!("Bearer {}", token(folder, &log)?));
    }
    Ok(server)
}

/// The token that our server shows once, at its first start; kept for the next one.
fn token(folder: &Path, log: &Path) -> Result<String> {
    let kept = folder.join("token");
    if let Ok(token) = std::fs::read_to_string(&kept) {
        return Ok(token);
    }
    for _ in 0..200 {
        let told = std::fs::read_to_string(log)?;
        if let Some((_, rest)) = told.split_once("shown this once: ")
            && let Some((token, _)) = rest.split_once('\n')
        {
            std::fs::write(&kept, token.trim())?;
            return Ok(token.trim().to_owned());
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    bail!("the server showed no token in {}", log.display())
}

/// Memory of a server.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Memory {
    /// Resident, summed over its processes: pages that they share count for each.
    pub resident_mib: f64,
    /// Proportional: shared pages count once.
    pub proportional_mib: f64,
    /// How many processes.
    pub processes: usize,
}

impl Server {
    fn is_ready(&self) -> bool {
        let asked = Connection::new(&self.address).call(&self.address.get(self.who.health()));
        asked.is_ok_and(|a| a.status == 200)
    }

    fn signal(&self, name: &str) {
        let group = format!("-{}", self.child.id());
        let _gone = Command::new("kill").args([name, "--", &group]).stderr(Stdio::null()).status();
    }
    /// Takes no processor time until it is woken.
    pub fn hold(&self) {
        self.signal("-STOP");
    }
    /// Goes on.
    pub fn wake(&self) {
        self.signal("-CONT");
    }

    /// Its processes: the group, and what they started.
    fn processes(&self) -> BTreeSet<u32> {
        let mut found = BTreeSet::from([self.child.id()]);
        let all: Vec<(u32, u32, u32)> = std::fs::read_dir("/proc")
            .into_iter()
            .flatten()
            .filter_map(|e| e.ok()?.file_name().to_str()?.parse::<u32>().ok())
            .filter_map(|pid| {
                let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
                // The name may hold anything; what follows its closing bracket is fields.
                let fields: Vec<&str> = stat.rsplit_once(") ")?.1.split(' ').collect();
                Some((pid, fields.get(1)?.parse().ok()?, fields.get(2)?.parse().ok()?))
            })
            .collect();
        loop {
            let before = found.len();
            for (pid, parent, group) in &all {
                if *group == self.child.id() || found.contains(parent) {
                    found.insert(*pid);
                }
            }
            if found.len() == before {
                return found;
            }
        }
    }

    /// What it holds in memory now.
    pub fn memory(&self) -> Memory {
        let mut memory = Memory::default();
        for pid in self.processes() {
            let Ok(rollup) = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")) else { continue };
            let kib = |name: &str| {
                let line = rollup.lines().find(|l| l.starts_with(name));
                line.and_then(|l| l.split_whitespace().nth(1)).and_then(|n| n.parse::<f64>().ok()).unwrap_or(0.0)
            };
            memory.resident_mib += kib("Rss:") / 1024.0;
            memory.proportional_mib += kib("Pss:") / 1024.0;
            memory.processes += 1;
        }
        memory
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let all = self.processes();
        self.wake();
        self.signal("-TERM");
        let until = Instant::now() + Duration::from_secs(20);
        while Instant::now() < until && matches!(self.child.try_wait(), Ok(None)) {
            std::thread::sleep(Duration::from_millis(20));
        }
        self.signal("-KILL");
        let _ended = self.child.wait();
        // What left the group is ended by number, if it is still one of those.
        for pid in all.into_iter().filter(|pid| *pid != self.child.id() && Path::new(&format!("/proc/{pid}")).exists()) {
            let _gone = Command::new("kill").args(["-KILL", &pid.to_string()]).stderr(Stdio::null()).status();
        }
    }
}
