//! `cargo xtask bench tracking`: our server beside `mlflow server` and FastTrackML, over their common protocol.
//!
//! Promises: servers run on one core and whatever asks them on another; contenders are measured in turn (A B A B ...), and while one is
//! measured the others are held still; the first round does not count; before anything is timed, everybody has to give the same answers.
//! The peers are the published packages, started as their manuals say. What cannot be measured is left out and said.
//!
//! `worker` makes load, `client.py` is the unmodified client, `floor` answers at once and so shows what the client itself costs, `fill` makes
//! the runs that are searched, `server` starts and ends, `report` writes.

mod fill;
pub mod floor;
mod report;
mod server;
pub mod worker;

use self::report::{Figure, Goal, Report};
use self::server::{Programs, Server, Who, start};
use self::worker::{API, Measured, Work};
use super::Bench;
use super::http::{Address, Connection};
use super::words::Words;
use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

/// How it is called.
const USAGE: &str = "\
usage: cargo xtask bench tracking [--quick] [--rounds N] [--only WORDS] [--binary FILE] [--cache DIR] [--wheels DIR]

  --quick        few rounds and few runs: to see that it works, not to know how fast it is
  --rounds N     how often each is measured (5)
  --only WORDS   of start, client, metric, batch, lifecycle, get, artifacts, search, big; separated by commas
  --binary FILE  our server (built for production)
  --cache DIR    where the peers are installed (~/.cache/gristmill-venvs)
  --wheels DIR   wheels that pip may take instead of downloading
";

/// What `--only` takes.
const PARTS: &[&str] = &["start", "client", "metric", "batch", "lifecycle", "get", "artifacts", "search", "big"];

/// What this module measures.
pub const BENCH: Bench =
    Bench { name: "tracking", about: "experiment tracking over HTTP (Gristmill, MLflow, FastTrackML)", usage: USAGE, run };

/// What was asked for.
struct Asked {
    rounds: usize,
    quick: bool,
    only: Vec<String>,
    binary: Option<PathBuf>,
    cache: PathBuf,
    wheels: Option<PathBuf>,
}

impl Asked {
    fn parse(words: &[&str]) -> Result<Asked> {
        let home = std::env::var_os("HOME").map(PathBuf::from).unwrap_or_default();
        let mut asked =
            Asked { rounds: 5, quick: false, only: Vec::new(), binary: None, cache: home.join(".cache/gristmill-venvs"), wheels: None };
        let mut words = Words::new(words, USAGE);
        while let Some(option) = words.option() {
            match option {
                "--quick" => (asked.quick, asked.rounds) = (true, 1),
                "--rounds" => asked.rounds = words.number(option)?,
                "--only" => asked.only = words.some_of(option, PARTS)?,
                "--binary" => asked.binary = Some(words.path(option)?),
                "--cache" => asked.cache = words.path(option)?,
                "--wheels" => asked.wheels = Some(words.path(option)?),
                other => return words.unknown(other),
            }
        }
        Ok(asked)
    }
    fn wants(&self, part: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|o| o == part)
    }
    /// The full number, or a small one.
    fn scale(&self, full: u64, quick: u64) -> u64 {
        if self.quick { quick } else { full }
    }
}

/// Measures, prints a table, writes `target/bench/tracking.json` and `.md`.
fn run(root: &Path, words: &[&str]) -> Result<bool> {
    let asked = Asked::parse(words)?;
    let programs = Programs::find(root, asked.binary.as_deref(), &asked.cache, asked.wheels.as_deref())?;
    let target = crate::target_dir(root);
    let out = target.join("bench");
    let place = out.join(format!("tracking-{}", std::process::id()));
    std::fs::create_dir_all(&place)?;
    let cores = cores()?;
    let (server_core, client_core) = (cores[0], *cores.get(1).unwrap_or(&cores[0]));
    let script = place.join("client.py");
    std::fs::write(&script, include_str!("client.py"))?;
    let mut bed = Bed { asked, programs, place: place.clone(), script, server_core, client_core, report: Report::default() };
    bed.facts(&cores);
    let measured = bed.everything();
    // Folders of servers are large; a failed run leaves them for a look.
    if measured.is_ok() {
        std::fs::remove_dir_all(&place)?;
    }
    print!("{}", bed.report.table());
    let paths = [
        (out.join("tracking.json"), serde_json::to_string_pretty(&bed.report.json())? + "\n"),
        (out.join("tracking.md"), bed.report.markdown()),
    ];
    for (path, text) in paths {
        std::fs::write(&path, text)?;
        println!("report: {}", path.display());
    }
    measured.map(|()| true)
}

struct Bed {
    asked: Asked,
    programs: Programs,
    place: PathBuf,
    script: PathBuf,
    server_core: usize,
    client_core: usize,
    report: Report,
}

type Servers = BTreeMap<Who, Server>;

/// The unmodified client, in a process on the clients' core.
struct Python {
    process: Child,
    asked: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Python {
    /// The token goes to everybody: to send it is the client's own cost.
    fn start(bed: &Bed, token: Option<&str>) -> Result<Python> {
        let mut command = Command::new("taskset");
        command.args(["-c", &bed.client_core.to_string()]).arg(&bed.programs.python).arg(&bed.script);
        command.env("MLFLOW_DISABLE_TELEMETRY", "true").env_remove("MLFLOW_TRACKING_TOKEN");
        command.envs(token.map(|token| ("MLFLOW_TRACKING_TOKEN", token)));
        let mut process = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().context("start the client")?;
        let asked = process.stdin.take().context("the client reads")?;
        let answers = BufReader::new(process.stdout.take().context("the client writes")?);
        Ok(Python { process, asked, answers })
    }

    fn measure(&mut self, address: &Address, run: &str, first: u64, times: u64) -> Result<Vec<Duration>> {
        writeln!(self.asked, "http://{} {run} {first} {times}", address.at)?;
        self.asked.flush()?;
        let mut line = String::new();
        self.answers.read_line(&mut line)?;
        let took: Vec<f64> = serde_json::from_str(&line).with_context(|| format!("the client said {line:?}"))?;
        Ok(took.into_iter().map(|micros| Duration::from_secs_f64(micros / 1e6)).collect())
    }
}

impl Drop for Python {
    fn drop(&mut self) {
        let _ended = self.process.kill().and_then(|()| self.process.wait());
    }
}

impl Bed {
    fn contenders(&self) -> Vec<Who> {
        let mut all = vec![Who::Gristmill, Who::Mlflow];
        all.extend(self.programs.fml.is_some().then_some(Who::FastTrackMl));
        all
    }

    fn everything(&mut self) -> Result<()> {
        let mut servers = self.starts()?;
        for (who, server) in &servers {
            self.report.facts.push((format!("command of {}", who.name()), server.command.clone()));
        }
        let mut runs = BTreeMap::new();
        for (who, server) in &servers {
            server.wake();
            runs.insert(*who, agree(server)?);
            server.hold();
        }
        let first = runs.get(&Who::Gristmill).map(|r| r.answers.clone());
        for (who, ready) in &runs {
            if Some(&ready.answers) != first.as_ref() {
                bail!("{} answers differently:\n{}\nours:\n{}", who.name(), ready.answers, first.unwrap_or_default());
            }
        }
        eprintln!("everybody gives the same answers");
        if self.asked.wants("client") {
            self.client(&mut servers, &runs)?;
        }
        self.raw(&servers, &runs)?;
        drop(servers);
        if self.asked.wants("search") || self.asked.wants("big") {
            self.searches()?;
        }
        Ok(())
    }

    fn folder(&self, who: Who, what: &str) -> PathBuf {
        self.place.join(format!("{}-{what}", who.name().to_lowercase()))
    }

    /// Start to ready and idle memory; leaves the servers running and held still.
    fn starts(&mut self) -> Result<Servers> {
        let mut ready: BTreeMap<Who, Vec<f64>> = BTreeMap::new();
        let rounds = if self.asked.wants("start") { self.asked.rounds.min(3) } else { 0 };
        // The first start makes the folder and does not count.
        for round in 0..=rounds {
            for who in self.contenders() {
                let server = start(&self.programs, who, &self.folder(who, "log"), self.server_core)?;
                eprintln!("start {round} of {rounds}: {} after {:.3} s", who.name(), server.ready.as_secs_f64());
                if round > 0 {
                    ready.entry(who).or_default().push(server.ready.as_secs_f64());
                }
            }
        }
        let mut servers = Servers::new();
        let (mut resident, mut proportional) = (BTreeMap::new(), BTreeMap::new());
        for who in self.contenders() {
            let server = start(&self.programs, who, &self.folder(who, "log"), self.server_core)?;
            std::thread::sleep(Duration::from_secs(self.asked.scale(10, 2)));
            let memory = server.memory();
            eprintln!("{}: {memory:?}", who.name());
            resident.insert(who, vec![memory.resident_mib]);
            proportional.insert(who, vec![memory.proportional_mib]);
            self.report.facts.push((format!("processes of {}", who.name()), memory.processes.to_string()));
            server.hold();
            servers.insert(who, server);
        }
        if rounds > 0 {
            self.figure("start to ready", "s", ready, vec![Goal::Below(0.3)]);
        }
        self.figure("idle memory, resident", "MiB", resident, vec![Goal::AtMost(Who::Mlflow, 0.05)]);
        self.figure("idle memory, proportional", "MiB", proportional, vec![Goal::AtMost(Who::Mlflow, 0.05)]);
        Ok(servers)
    }

    /// The unmodified client, and its own floor.
    fn client(&mut self, servers: &mut Servers, runs: &BTreeMap<Who, Ready>) -> Result<()> {
        for floor in [Who::Floor, Who::SyncedFloor] {
            servers.insert(floor, start(&self.programs, floor, &self.folder(floor, "log"), self.server_core)?);
        }
        // Ours between the two that it is compared with, a few calls of each at a time: the machine has quick and slow seconds, in which the
        // client's own part takes 2 ms or 3.5, and whoever is compared has to be asked in the same one.
        let peers = servers.keys().copied().filter(|who| ![Who::Floor, Who::Gristmill, Who::SyncedFloor].contains(who));
        let everybody: Vec<Who> = peers.chain([Who::Floor, Who::Gristmill, Who::SyncedFloor]).collect();
        let token = servers.get(&Who::Gristmill).and_then(|ours| ours.address.auth.as_deref()?.strip_prefix("Bearer "));
        let mut python = Python::start(self, token)?;
        let rounds = self.asked.scale(self.asked.rounds as u64 * 40, 4);
        let mut all: BTreeMap<Who, Vec<Duration>> = BTreeMap::new();
        let measured = self.rounds_of(rounds, servers, "client log_metric", &everybody, |_, server, round| {
            let run = runs.get(&server.who).map_or("0".repeat(32), |r| r.run.clone());
            let times = if server.who == Who::Mlflow { 4 } else { 20 };
            let took = python.measure(&server.address, &run, round * 1_000, times)?;
            all.entry(server.who).or_default().extend(&took);
            let seconds = took.iter().sum::<Duration>().as_secs_f64();
            Ok(Measured::of(took, seconds))
        })?;
        drop(python);
        servers.retain(|who, _| ![Who::Floor, Who::SyncedFloor].contains(who));
        self.figure("client log_metric p50", "ms", pick(&measured, |m| m.p50_us / 1e3), vec![Goal::AtMost(Who::Floor, 1.25)]);
        let p99 = all.into_iter().map(|(who, took)| (who, vec![Measured::of(took, 0.0).p99_us / 1e3])).collect();
        self.figure("client log_metric p99", "ms", p99, vec![]);
        Ok(())
    }

    /// Everything over raw HTTP but searches.
    fn raw(&mut self, servers: &Servers, runs: &BTreeMap<Who, Ready>) -> Result<()> {
        let everybody = self.contenders();
        let ready = |who: Who| runs.get(&who).context("everybody was made ready");
        if self.asked.wants("metric") {
            let seconds = self.asked.scale(5, 1) as f64;
            let measured = self.rounds(servers, "log-metric, 8 connections", &everybody, |bed, server, round| {
                // Runs of its own for each round: what was written before does not weigh on it.
                let runs = ready(server.who)?.new_runs(server, 8)?;
                let measured = bed.worker(&server.address, &Work::Metric { runs: runs.clone(), seconds, from: round })?;
                let kept: usize = runs.iter().map(|run| history(&server.address, run, "loss").map(|h| h.len())).sum::<Result<usize>>()?;
                // Each connection logs one more before the clock runs.
                if kept as u64 != measured.count + 8 {
                    bail!("{} acknowledged {} points and has {kept}", server.who.name(), measured.count + 8);
                }
                Ok(measured)
            })?;
            let goals = vec![Goal::AtLeast(Who::Mlflow, 100.0), Goal::AtLeast(Who::FastTrackMl, 10.0)];
            self.figure("log-metric, 8 connections", "1/s", pick(&measured, Measured::rate), goals);
            self.figure("log-metric, 8 connections, p50", "ms", pick(&measured, |m| m.p50_us / 1e3), vec![]);
            self.figure("log-metric, 8 connections, p99", "ms", pick(&measured, |m| m.p99_us / 1e3), vec![]);
        }
        if self.asked.wants("batch") {
            let times = self.asked.scale(40, 3);
            let measured = self.rounds(servers, "log-batch of 1,000", &everybody, |bed, server, _| {
                let run = ready(server.who)?.new_runs(server, 1)?.remove(0);
                let measured = bed.worker(&server.address, &Work::Batch { run: run.clone(), metrics: 1_000, times, from: 0 })?;
                let kept = history(&server.address, &run, "m0999")?.len();
                if kept as u64 != times {
                    bail!("{} acknowledged {times} batches and has {kept}", server.who.name());
                }
                Ok(measured)
            })?;
            self.figure("log-batch of 1,000 p50", "ms", pick(&measured, |m| m.p50_us / 1e3), vec![Goal::AtMost(Who::FastTrackMl, 0.1)]);
        }
        if self.asked.wants("lifecycle") {
            let times = self.asked.scale(40, 3);
            let measured = self.rounds(servers, "create, log, finish", &everybody, |bed, server, _| {
                bed.worker(&server.address, &Work::Lifecycle { experiment: ready(server.who)?.experiment.clone(), times })
            })?;
            self.figure("create, log, finish p50", "ms", pick(&measured, |m| m.p50_us / 1e3), vec![]);
        }
        if self.asked.wants("get") {
            let times = self.asked.scale(200, 5);
            let measured = self.rounds(servers, "get run", &everybody, |bed, server, _| {
                let path = format!("{API}/runs/get?run_id={}", ready(server.who)?.whole);
                bed.worker(&server.address, &Work::Get { path, times })
            })?;
            self.figure("get run p50", "ms", pick(&measured, |m| m.p50_us / 1e3), vec![]);
            self.figure("get run p99", "ms", pick(&measured, |m| m.p99_us / 1e3), vec![]);
        }
        if self.asked.wants("artifacts") {
            self.artifacts(servers, runs)?;
        }
        Ok(())
    }

    fn artifacts(&mut self, servers: &Servers, runs: &BTreeMap<Who, Ready>) -> Result<()> {
        let mib = self.asked.scale(100, 4) as usize;
        let mut everybody = Vec::new();
        for who in self.contenders() {
            let (Some(server), Some(ready)) = (servers.get(&who), runs.get(&who)) else { continue };
            server.wake();
            let path = ready.artifact("probe");
            let put = Connection::new(&server.address).call(&server.address.with_body("PUT", &path, "application/octet-stream", b"x"))?;
            server.hold();
            if put.status == 200 {
                everybody.push(who);
            } else {
                self.report.missing.push(format!("artifacts of {}: its proxy answers {}", who.name(), put.status));
            }
        }
        for (name, download) in [("artifact upload, 100 MB", false), ("artifact download, 100 MB", true)] {
            let measured = self.rounds(servers, name, &everybody, |bed, server, round| {
                let path = runs.get(&server.who).context("made ready")?.artifact(&format!("big-{round}.bin"));
                bed.worker(&server.address, &if download { Work::Download { path, mib } } else { Work::Put { path, mib } })
            })?;
            self.figure(name, "MB/s", pick(&measured, |m| mib as f64 * 1.048_576 / m.seconds), vec![]);
        }
        Ok(())
    }

    /// Pages of 100 over many runs.
    fn searches(&mut self) -> Result<()> {
        let runs = self.asked.scale(10_000, 300);
        let mut servers = Servers::new();
        let mut experiments = BTreeMap::new();
        for who in self.contenders() {
            let folder = self.folder(who, "search");
            let begun = Instant::now();
            let mut server = start(&self.programs, who, &folder, self.server_core)?;
            let experiment = new_experiment(&server.address, "searched")?;
            if who == Who::Mlflow {
                drop(server);
                let filled = Command::new(&self.programs.python)
                    .arg("-c")
                    .arg(include_str!("fill_mlflow.py"))
                    .args([folder.join("mlflow.db").display().to_string(), experiment.clone(), runs.to_string()])
                    .args([fill::METRICS.to_string(), fill::BEGAN.to_string()])
                    .status()?;
                if !filled.success() {
                    bail!("MLflow's database could not be filled");
                }
                server = start(&self.programs, who, &folder, self.server_core)?;
            } else {
                self.worker(&server.address, &Work::Fill { experiment: experiment.clone(), runs, connections: 8 })?;
            }
            eprintln!("{runs} runs in {} after {:.0} s", who.name(), begun.elapsed().as_secs_f64());
            let page = post(&server.address, "runs/search", &fill::search(&experiment))?;
            if fill::names(&page) != fill::expected(runs) {
                bail!("{} finds other runs: {:?} instead of {:?}", who.name(), fill::names(&page), fill::expected(runs));
            }
            server.hold();
            experiments.insert(who, experiment);
            servers.insert(who, server);
        }
        let everybody = self.contenders();
        if self.asked.wants("search") {
            let asked = |who: Who| match who {
                Who::Gristmill => self.asked.scale(200, 5),
                Who::FastTrackMl => self.asked.scale(50, 3),
                _ => self.asked.scale(20, 2),
            };
            let measured = self.rounds(&servers, "search of 10,000", &everybody, |bed, server, _| {
                let body = fill::search(experiments.get(&server.who).context("filled")?);
                bed.worker(&server.address, &Work::Post { path: format!("{API}/runs/search"), body, times: asked(server.who) })
            })?;
            self.figure("search of 10,000 p50", "ms", pick(&measured, |m| m.p50_us / 1e3), vec![]);
            self.figure("search of 10,000 p99", "ms", pick(&measured, |m| m.p99_us / 1e3), vec![Goal::AtMost(Who::Mlflow, 0.02)]);
        }
        if self.asked.wants("big") {
            servers.retain(|who, _| *who == Who::Gristmill);
            let server = servers.get(&Who::Gristmill).context("ours is running")?;
            server.wake();
            let many = self.asked.scale(100_000, 1_000);
            let experiment = new_experiment(&server.address, "searched too")?;
            let filled = self.worker(&server.address, &Work::Fill { experiment: experiment.clone(), runs: many, connections: 8 })?;
            eprintln!("{many} runs in Gristmill after {:.0} s", filled.seconds);
            let times = self.asked.scale(200, 5);
            let body = fill::search(&experiment);
            let measured = self.rounds(&servers, "search of 100,000", &[Who::Gristmill], |bed, server, _| {
                bed.worker(&server.address, &Work::Post { path: format!("{API}/runs/search"), body: body.clone(), times })
            })?;
            self.figure("search of 100,000 p50", "ms", pick(&measured, |m| m.p50_us / 1e3), vec![]);
            let goals = vec![Goal::TimesOwn("search of 10,000 p99", 5.0)];
            self.figure("search of 100,000 p99", "ms", pick(&measured, |m| m.p99_us / 1e3), goals);
        }
        Ok(())
    }

    /// Measures everybody in turn, so often; the first time does not count.
    fn rounds(
        &self,
        servers: &Servers,
        what: &str,
        everybody: &[Who],
        measure: impl FnMut(&Bed, &Server, u64) -> Result<Measured>,
    ) -> Result<BTreeMap<Who, Vec<Measured>>> {
        self.rounds_of(self.asked.rounds as u64, servers, what, everybody, measure)
    }

    fn rounds_of(
        &self,
        rounds: u64,
        servers: &Servers,
        what: &str,
        everybody: &[Who],
        mut measure: impl FnMut(&Bed, &Server, u64) -> Result<Measured>,
    ) -> Result<BTreeMap<Who, Vec<Measured>>> {
        let mut measured: BTreeMap<Who, Vec<Measured>> = BTreeMap::new();
        for round in 0..=rounds {
            for who in everybody {
                let server = servers.get(who).with_context(|| format!("{} is not running", who.name()))?;
                server.wake();
                let outcome = measure(self, server, round);
                server.hold();
                let outcome = outcome.with_context(|| format!("{what}, {}", who.name()))?;
                eprintln!("{what}, round {round} of {rounds}: {} {outcome:?}", who.name());
                if round > 0 {
                    measured.entry(*who).or_default().push(outcome);
                }
            }
        }
        Ok(measured)
    }

    fn figure(&mut self, name: &'static str, unit: &'static str, values: BTreeMap<Who, Vec<f64>>, goals: Vec<Goal>) {
        self.report.figures.push(Figure { name, unit, values, goals });
    }

    /// Load from a process of its own, on the clients' core.
    fn worker(&self, address: &Address, work: &Work) -> Result<Measured> {
        let text = serde_json::to_string(&(address, work))?;
        let mut command = Command::new("taskset");
        command.args(["-c", &self.client_core.to_string()]).arg(&self.programs.own).args(["bench-worker", &text]);
        printed(&mut command)
    }

    fn facts(&mut self, cores: &[usize]) {
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let cpuinfo = read("/proc/cpuinfo");
        let model = cpuinfo.lines().find_map(|l| l.strip_prefix("model name")).and_then(|l| l.split(": ").nth(1)).unwrap_or("unknown");
        let memory = read("/proc/meminfo").lines().next().unwrap_or_default().split_whitespace().nth(1).unwrap_or("?").to_owned();
        let facts = [
            ("processor", model.to_owned()),
            ("cores", format!("{cores:?}; servers on {}, clients on {}", self.server_core, self.client_core)),
            ("memory", format!("{memory} KiB")),
            ("kernel", read("/proc/sys/kernel/osrelease").trim().to_owned()),
            ("load before", read("/proc/loadavg").trim().to_owned()),
            ("fdatasync of 4 KiB, p50", fdatasync(&self.place).map_or_else(|e| e.to_string(), |us| format!("{us:.0} us"))),
            ("rounds", self.asked.rounds.to_string()),
            // A quick run says the names of the full one.
            ("runs searched", format!("{} and {}", self.asked.scale(10_000, 300), self.asked.scale(100_000, 1_000))),
            ("peers", "mlflow 3.17.2 (default workers, SQLite), fasttrackml 0.6.0 (SQLite), as installed from PyPI".to_owned()),
        ];
        self.report.facts.extend(facts.map(|(k, v)| (k.to_owned(), v)));
        if cores.len() < 2 {
            self.report.missing.push("a second core: servers and clients share one".to_owned());
        }
    }
}

fn pick(measured: &BTreeMap<Who, Vec<Measured>>, value: impl Fn(&Measured) -> f64) -> BTreeMap<Who, Vec<f64>> {
    measured.iter().map(|(who, all)| (*who, all.iter().map(&value).collect())).collect()
}

/// The last line of what a program prints, as what was measured.
fn printed(command: &mut Command) -> Result<Measured> {
    let output = command.output()?;
    if !output.status.success() {
        bail!("{} failed: {}", command.get_program().to_string_lossy(), String::from_utf8_lossy(&output.stderr));
    }
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    serde_json::from_str(text.lines().last().unwrap_or_default()).with_context(|| format!("not understood: {text}"))
}

/// The cores this process may use.
pub(super) fn cores() -> Result<Vec<usize>> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let list = status.lines().find_map(|l| l.strip_prefix("Cpus_allowed_list:")).context("the kernel names no cores")?;
    let mut cores = Vec::new();
    for part in list.trim().split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        cores.extend(first.parse::<usize>()?..=last.parse::<usize>()?);
    }
    if cores.is_empty() { bail!("no core is allowed") } else { Ok(cores) }
}

/// What a durable write costs here at least.
fn fdatasync(place: &Path) -> Result<f64> {
    let mut file = std::fs::File::create(place.join("sync"))?;
    let mut times = Vec::new();
    for _ in 0..100 {
        file.write_all(&[1; 4096])?;
        let begun = Instant::now();
        file.sync_data()?;
        times.push(begun.elapsed().as_secs_f64() * 1e6);
    }
    times.sort_by(f64::total_cmp);
    Ok(times[times.len() / 2])
}

fn post(address: &Address, route: &str, body: &Value) -> Result<Value> {
    Connection::new(address).call(&address.post(&format!("{API}/{route}"), body))?.json().with_context(|| route.to_owned())
}

fn get(address: &Address, route: &str) -> Result<Value> {
    Connection::new(address).call(&address.get(&format!("{API}/{route}")))?.json().with_context(|| route.to_owned())
}

/// All points of a metric.
fn history(address: &Address, run: &str, key: &str) -> Result<Vec<Value>> {
    let answer = get(address, &format!("metrics/get-history?run_id={run}&metric_key={key}"))?;
    Ok(answer["metrics"].as_array().cloned().unwrap_or_default())
}

fn new_experiment(address: &Address, name: &str) -> Result<String> {
    let stamp = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?.as_micros();
    let made = post(address, "experiments/create", &json!({ "name": format!("{name} {stamp}") }))?;
    Ok(made["experiment_id"].as_str().context("the experiment has no id")?.to_owned())
}

/// A server that was asked everything once.
struct Ready {
    experiment: String,
    /// A run to log to.
    run: String,
    /// A run with 50 metrics, 5 parameters and tags.
    whole: String,
    /// What it answered, without ids and times.
    answers: Value,
}

impl Ready {
    fn new_runs(&self, server: &Server, count: usize) -> Result<Vec<String>> {
        (0..count).map(|_| new_run(&server.address, &self.experiment)).collect()
    }
    fn artifact(&self, name: &str) -> String {
        format!("/api/2.0/mlflow-artifacts/artifacts/{}/{}/artifacts/{name}", self.experiment, self.run)
    }
}

fn new_run(address: &Address, experiment: &str) -> Result<String> {
    let made = post(address, "runs/create", &json!({ "experiment_id": experiment, "start_time": fill::BEGAN, "run_name": "measured" }))?;
    Ok(made["run"]["info"]["run_id"].as_str().context("the run has no id")?.to_owned())
}

/// Asks a server everything that is measured later, and notes what must be the same for all.
fn agree(server: &Server) -> Result<Ready> {
    let address = &server.address;
    let experiment = new_experiment(address, "measured")?;
    let run = new_run(address, &experiment)?;
    for (step, value) in [(0, 0.5), (1, 0.25), (2, 0.125)] {
        let metric =
            json!({ "run_id": run, "run_uuid": run, "key": "first", "value": value, "timestamp": fill::BEGAN + step, "step": step });
        post(address, "runs/log-metric", &metric)?;
    }
    let mut connection = Connection::new(address);
    for i in 0..8 {
        fill::whole(&mut connection, address, &experiment, i, fill::METRICS)?;
    }
    let mut search = fill::search(&experiment);
    search["filter"] = "metrics.m07 > 0.001".into();
    let page = post(address, "runs/search", &search)?;
    let whole = page["runs"][0]["info"]["run_id"].as_str().context("the search finds nothing")?.to_owned();
    let one = get(address, &format!("runs/get?run_id={whole}"))?;
    let sorted = |list: &Value| {
        let mut pairs: Vec<(String, Value)> =
            list.as_array().into_iter().flatten().map(|m| (m["key"].as_str().unwrap_or_default().to_owned(), m["value"].clone())).collect();
        pairs.sort_by(|a, b| a.0.cmp(&b.0));
        json!(pairs.into_iter().filter(|(key, _)| key != "mlflow.runName" && key != "mlflow.user").collect::<Vec<_>>())
    };
    let data = &one["run"]["data"];
    let points: Vec<Value> =
        history(address, &run, "first")?.iter().map(|p| json!([p["step"].as_i64().unwrap_or(0), p["value"], p["timestamp"]])).collect();
    let missing = Connection::new(address).call(&address.get(&format!("{API}/runs/get?run_id={}", "0".repeat(32))))?.status;
    let answers = json!({
        "status": one["run"]["info"]["status"], "name": one["run"]["info"]["run_name"], "metrics": sorted(&data["metrics"]),
        "params": sorted(&data["params"]), "tags": sorted(&data["tags"]), "page": fill::names(&page), "history": points, "missing": missing,
    });
    Ok(Ready { experiment, run, whole, answers })
}
