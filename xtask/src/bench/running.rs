//! A server that is measured: started, watched, held still while another one is measured, ended with everything it started.

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

/// How a server is started.
pub struct Start<'a> {
    /// The command.
    pub words: &'a [String],
    /// Where it runs; its log is `server.log` there.
    pub folder: &'a Path,
    /// The port that it was told.
    pub port: u16,
    /// The path that answers 200 when it is ready; empty: it is ready when it takes connections.
    pub health: &'a str,
    /// More of the environment.
    pub environment: &'a [(&'a str, &'a str)],
}

/// A running server.
pub struct Running {
    /// Where it is.
    pub address: Address,
    /// From its start until it said that it is ready.
    pub ready: Duration,
    /// The command that started it.
    pub command: String,
    child: Child,
    log: PathBuf,
}

/// A port that nobody has now.
pub fn free_port() -> Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
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

impl Running {
    /// Starts it and waits until it is ready.
    pub fn start(start: &Start) -> Result<Running> {
        let Start { words, folder, port, health, environment } = *start;
        std::fs::create_dir_all(folder)?;
        let log = folder.join("server.log");
        let out = File::create(&log)?;
        let begun = Instant::now();
        let child = Command::new(&words[0])
            .args(&words[1..])
            .current_dir(folder)
            .envs(environment.iter().copied())
            .stdin(Stdio::null())
            .stdout(out.try_clone()?)
            .stderr(out)
            // A group of its own: it is held still and ended with everything it started.
            .process_group(0)
            .spawn()
            .with_context(|| format!("start {}", words.join(" ")))?;
        let address = Address { at: ([127, 0, 0, 1], port).into(), auth: None };
        let mut running = Running { address, ready: Duration::ZERO, command: words.join(" "), child, log };
        while !running.is_ready(health) {
            if begun.elapsed() > READY || running.child.try_wait()?.is_some() {
                let told = std::fs::read_to_string(&running.log).unwrap_or_default();
                let end: Vec<&str> = told.lines().rev().take(20).collect();
                bail!(
                    "{} does not get ready; its log ends with:\n{}",
                    running.command,
                    end.into_iter().rev().collect::<Vec<_>>().join("\n")
                );
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        running.ready = begun.elapsed();
        Ok(running)
    }

    fn is_ready(&self, health: &str) -> bool {
        if health.is_empty() {
            return std::net::TcpStream::connect(self.address.at).is_ok();
        }
        let asked = Connection::new(&self.address).call(&self.address.get(health));
        asked.is_ok_and(|a| a.status == 200)
    }

    /// Our server shows a token once, at its first start: it is kept in the folder for the next one, and sent from now on.
    pub fn take_token(&mut self, folder: &Path) -> Result<()> {
        self.address.auth = Some(format!("Bearer {}", token(folder, &self.log)?));
        Ok(())
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

    /// The process that was started.
    pub fn pid(&self) -> u32 {
        self.child.id()
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

    /// The processor time that it has taken so far. The kernel counts hundredths of a second.
    pub fn processor(&self) -> Duration {
        let ticks: u64 = self
            .processes()
            .into_iter()
            .filter_map(|pid| {
                let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
                let fields: Vec<u64> = stat.rsplit_once(") ")?.1.split(' ').map(|f| f.parse().unwrap_or(0)).collect();
                Some(fields.get(11)? + fields.get(12)?)
            })
            .sum();
        Duration::from_millis(ticks * 10)
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

impl Drop for Running {
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
