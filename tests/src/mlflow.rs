//! Helpers for the tests that hold Gristmill against MLflow: client environments, the peer's own server, requests as they are on the wire.
//!
//! What needs Python and PyPI is ignored unless asked for; everything that is started here is ended here, by its process id.

use serde_json::Value;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// The folder of the Python side, `tests/mlflow`.
pub fn scripts() -> PathBuf {
    crate::folder().join("mlflow")
}

/// The Python of a client environment (`3.17`, `3.1`, `2.22`), made when it is not there yet.
pub fn python(version: &str) -> PathBuf {
    crate::clients::python(&format!("mlflow-{version}"))
}

/// Runs one of our scripts with this Python; its standard output as JSON.
pub fn script(python: &Path, name: &str, args: &[&str]) -> (i32, Value) {
    let ran = Command::new(python).arg(scripts().join(name)).args(args).stderr(Stdio::inherit()).output().expect("the script starts");
    let out = String::from_utf8_lossy(&ran.stdout).into_owned();
    (ran.status.code().unwrap_or(-1), serde_json::from_str(&out).unwrap_or_else(|e| panic!("{name}: no JSON ({e}):\n{out}")))
}

/// A port that was free a moment ago.
pub fn free_port() -> u16 {
    TcpListener::bind(("127.0.0.1", 0)).and_then(|l| l.local_addr()).expect("a free port").port()
}

/// MLflow's own server, with SQLite and proxied artifacts, on loopback.
pub struct Peer {
    child: Child,
    folder: tempfile::TempDir,
    /// Where it is.
    pub url: String,
}

impl Peer {
    /// Starts it and waits until it answers.
    pub fn start(python: &Path) -> Peer {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let port = free_port();
        let log = std::fs::File::create(folder.path().join("server.log")).expect("a log");
        let child = Command::new(python)
            .args(["-m", "mlflow", "server", "--host", "127.0.0.1", "--workers", "1", "--port"])
            .arg(port.to_string())
            .arg("--backend-store-uri")
            .arg(format!("sqlite:///{}/mlflow.db", folder.path().display()))
            .arg("--artifacts-destination")
            .arg(folder.path().join("artifacts"))
            .env("MLFLOW_DISABLE_TELEMETRY", "true")
            .env("DO_NOT_TRACK", "true")
            .env("MLFLOW_SERVER_ENABLE_JOB_EXECUTION", "false")
            .current_dir(folder.path())
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a log"))
            .stderr(log)
            // It starts workers of its own: a group, so that they end with it.
            .process_group(0)
            .spawn()
            .expect("the peer starts");
        let mut peer = Peer { child, folder, url: format!("http://127.0.0.1:{port}") };
        let began = Instant::now();
        while began.elapsed() < Duration::from_secs(180) {
            if crate::client().get(format!("{}/health", peer.url)).send().is_ok_and(|a| a.status().is_success()) {
                return peer;
            }
            if let Some(status) = peer.child.try_wait().expect("a child") {
                panic!("the peer ended with {status}:\n{}", peer.log());
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        panic!("the peer did not answer:\n{}", peer.log());
    }
    /// What it wrote.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("server.log")).unwrap_or_default()
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let group = nix::unistd::Pid::from_raw(self.child.id() as i32);
        let _ended_already = nix::sys::signal::killpg(group, nix::sys::signal::Signal::SIGKILL);
        let _reaped_already = self.child.wait();
    }
}

/// One request exactly as written, on a connection of its own: no tidying of the target, no check of anything.
///
/// `None` means that the server closed without an answer.
pub fn raw(url: &str, method: &str, target: &[u8], headers: &[(&str, &str)], body: &[u8]) -> Option<(u16, Vec<u8>)> {
    let address = url.strip_prefix("http://").expect("a plain URL");
    let mut stream = TcpStream::connect(address).expect("the server listens");
    stream.set_read_timeout(Some(Duration::from_secs(60))).expect("a timeout");
    let mut request = Vec::with_capacity(target.len() + body.len() + 256);
    request.extend_from_slice(format!("{method} ").as_bytes());
    request.extend_from_slice(target);
    request
        .extend_from_slice(format!(" HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\nContent-Length: {}\r\n", body.len()).as_bytes());
    for (name, value) in headers {
        request.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
    }
    request.extend_from_slice(b"\r\n");
    request.extend_from_slice(body);
    // A server may refuse before it has read everything.
    let _refused_early = stream.write_all(&request);
    let mut answer = Vec::new();
    let _reset_after_the_answer = stream.read_to_end(&mut answer);
    let status = std::str::from_utf8(answer.get(9..12)?).ok()?.parse().ok()?;
    let start = answer.windows(4).position(|w| w == b"\r\n\r\n").map_or(answer.len(), |i| i + 4);
    Some((status, answer.split_off(start)))
}

/// [`raw`] with a JSON body.
pub fn raw_json(url: &str, method: &str, target: &str, body: &Value) -> Option<(u16, Value)> {
    let (status, answer) = raw(url, method, target.as_bytes(), &[("Content-Type", "application/json")], body.to_string().as_bytes())?;
    Some((status, serde_json::from_slice(&answer).unwrap_or(Value::Null)))
}
