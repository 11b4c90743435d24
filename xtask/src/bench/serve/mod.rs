//! `cargo xtask bench serve`: the same model behind our server and behind those that people use, asked for the same rows.
//!
//! A forest of boosted trees and a small network, requests of one row and of 32, over one connection and over eight. Ours is asked by the Open
//! Inference Protocol over REST (JSON and binary tensors) and gRPC, and by `/predict`; the peers by their own protocols; nginx answers the same
//! requests with a body that never changes, as the floor. A third model of ours has its features looked up by key.
//!
//! Promises: servers run on one core and whatever asks them on another; contenders are measured in turn while the others are held still; the
//! first round does not count; before anything is timed, everybody has to give the same scores for every row. What cannot be measured is left
//! out and said. Beside what a client sees stands what a request takes of the server's core, since over few connections, and beside
//! fast servers, the client is the bottleneck.
//!
//! `servers` starts them, `asks` writes requests and reads answers, `load` makes load, `grpc` speaks it, `lookup` is the project with features,
//! `report` judges and writes. To add a peer: a [`Who`], its start, and a line in [`CONTENDERS`].

mod asks;
mod grpc;
pub mod load;
mod lookup;
mod report;
mod servers;

use self::asks::{Protocol, Rows, differing};
use self::load::{Load, Requests};
use self::report::{Case, Report};
use self::servers::{Kit, Who, pinned, wait_for};
use super::command::printed;
use super::running::Running;
use super::tracking::worker::Measured;
use super::words::Words;
use super::{Bench, Figures, rounds};
use anyhow::{Context, Result, bail};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

const USAGE: &str = "\
usage: cargo xtask bench serve [--quick] [--rounds N] [--only WORDS] [--binary FILE] [--cache DIR] [--profile WAY/ROWS]

  --quick            short rounds, one that counts: to see that it works, not to know how fast it is
  --rounds N         how often each is measured (3)
  --only WORDS       of trees, network, features; separated by commas
  --binary FILE      our server (built for production)
  --cache DIR        where the peers are installed (~/.cache/gristmill-venvs)
  --profile WAY/ROWS measure nothing: ask ours alone for 20 s, and name its process, for a profiler; `rest/1`; ways are
                     rest, binary, grpc, predict

It needs `nginx` (Debian's `nginx-light`); the peers are installed from PyPI.
";

/// What `--only` takes.
const PARTS: &[&str] = &["trees", "network", lookup::ENDPOINT];

/// What this module measures.
pub const BENCH: Bench = Bench {
    name: "serve",
    about: "predictions over HTTP and gRPC (Gristmill, FastAPI, MLServer, BentoML, MLflow, nginx)",
    usage: USAGE,
    run,
};

/// Features of a row.
const FEATURES: usize = 20;
/// Requests in flight.
const CONNECTIONS: [usize; 2] = [1, 8];
/// Rows of a request.
const ROWS: [usize; 2] = [1, 32];
/// How far scores may be apart: the peers compute in float32.
const TOLERANCE: f64 = 2e-5;

/// A machine with more to do than this measures its other work too.
const QUIET_LOAD_MAX: f64 = 0.5;

/// Who is asked how.
struct Contender {
    name: &'static str,
    /// Its word on the command line, if it has one.
    way: &'static str,
    who: Who,
    protocol: Protocol,
}

/// In the order of the tables; what is compared with the others comes first.
const CONTENDERS: [Contender; 10] = [
    Contender { name: report::REST, way: "rest", who: Who::Gristmill, protocol: Protocol::Tensor },
    Contender { name: report::BINARY, way: "binary", who: Who::Gristmill, protocol: Protocol::Binary },
    Contender { name: report::GRPC, way: "grpc", who: Who::Gristmill, protocol: Protocol::Grpc },
    Contender { name: report::PREDICT, way: "predict", who: Who::Gristmill, protocol: Protocol::Named },
    Contender { name: "FastAPI + ONNX Runtime", way: "", who: Who::FastapiOnnx, protocol: Protocol::Rows },
    Contender { name: "FastAPI + scikit-learn", way: "", who: Who::FastapiSklearn, protocol: Protocol::Rows },
    Contender { name: "MLServer", way: "", who: Who::MlServer, protocol: Protocol::Tensor },
    Contender { name: "BentoML", way: "", who: Who::BentoMl, protocol: Protocol::Rows },
    Contender { name: "mlflow models serve", way: "", who: Who::Mlflow, protocol: Protocol::Matrix },
    Contender { name: "nginx, static body", way: "", who: Who::Nginx, protocol: Protocol::Unread },
];

/// What was asked for.
struct Asked {
    quick: bool,
    rounds: usize,
    only: Vec<String>,
    binary: Option<PathBuf>,
    cache: Option<PathBuf>,
    profile: Option<(&'static Contender, usize)>,
}

impl Asked {
    fn parse(words: &[&str]) -> Result<Asked> {
        let mut asked = Asked { quick: false, rounds: 3, only: Vec::new(), binary: None, cache: None, profile: None };
        let mut words = Words::new(words, USAGE);
        while let Some(option) = words.option() {
            match option {
                "--quick" => (asked.quick, asked.rounds) = (true, 1),
                "--rounds" => asked.rounds = words.number(option)?,
                "--only" => asked.only = words.some_of(option, PARTS)?,
                "--binary" => asked.binary = Some(words.path(option)?),
                "--cache" => asked.cache = Some(words.path(option)?),
                "--profile" => asked.profile = Some(profiled(words.value(option)?)?),
                other => return words.unknown(other),
            }
        }
        Ok(asked)
    }
    fn wants(&self, part: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|o| o == part)
    }
}

/// Of whom a profile is made, asked for how many rows at once.
fn profiled(words: &str) -> Result<(&'static Contender, usize)> {
    let (way, rows) = words.split_once('/').with_context(|| format!("`{words}` is no way and number of rows, such as `rest/1`"))?;
    let contender = CONTENDERS.iter().find(|c| c.way == way && c.who == Who::Gristmill);
    Ok((contender.with_context(|| format!("`{way}` is no way to ask ours\n{USAGE}"))?, rows.parse()?))
}

/// Measures, prints tables, writes `target/bench/serve.json` and `.md`.
fn run(root: &Path, words: &[&str]) -> Result<bool> {
    let asked = Asked::parse(words)?;
    let target = crate::target_dir(root);
    let out = target.join("bench");
    let place = out.join(format!("serve-{}", std::process::id()));
    std::fs::create_dir_all(&place)?;
    let place = place.canonicalize()?;
    let binary = super::our_server(root, asked.binary.as_deref())?;
    let cores = super::tracking::cores()?;
    let (core, client_core) = (cores[0], *cores.get(1).unwrap_or(&cores[0]));
    let kit = Kit { root: root.to_path_buf(), binary, cache: asked.cache.clone(), scripts: place.join("scripts"), core };
    kit.unpack()?;
    let mut bed = Bed { asked, kit, place: place.clone(), client_core, report: Report::default() };
    bed.facts(&cores);
    let measured = bed.everything();
    // A failed run leaves its folders for a look.
    if measured.is_ok() {
        std::fs::remove_dir_all(&place)?;
    }
    print!("{}", bed.report.text());
    if bed.asked.profile.is_none() {
        for (path, text) in [
            (out.join("serve.json"), serde_json::to_string_pretty(&bed.report.json())? + "\n"),
            (out.join("serve.md"), bed.report.markdown()),
        ] {
            std::fs::write(&path, text)?;
            println!("report: {}", path.display());
        }
    }
    measured.map(|()| true)
}

struct Bed {
    asked: Asked,
    kit: Kit,
    place: PathBuf,
    client_core: usize,
    report: Report,
}

type Servers = BTreeMap<Who, Running>;

/// What is asked of everybody, and what has to come back.
struct Questions {
    model: &'static str,
    names: Vec<String>,
    rows: Vec<Vec<f64>>,
    entity: bool,
    /// By scikit-learn itself; empty: ours have to agree with each other.
    expected: Vec<f64>,
}

impl Questions {
    fn of(&self, protocol: Protocol, server: &Running, each: usize) -> Requests {
        let all = Rows { model: self.model, names: &self.names, rows: &self.rows, entity: self.entity };
        protocol.requests(&server.address, all, each)
    }
}

impl Bed {
    fn everything(&mut self) -> Result<()> {
        let models = self.place.join("models");
        if self.asked.wants("trees") || self.asked.wants("network") {
            eprintln!("training the models");
            self.kit.train(&models)?;
        }
        for model in ["trees", "network"] {
            if !self.asked.wants(model) {
                continue;
            }
            let questions = Questions {
                model,
                names: (0..FEATURES).map(|number| format!("f{number:02}")).collect(),
                rows: read(&models.join("rows.json"))?,
                entity: false,
                expected: read(&models.join(model).join("expected.json"))?,
            };
            let servers = self.servers(model, &models)?;
            self.asked_all(&servers, questions)?;
        }
        if self.asked.wants(lookup::ENDPOINT) {
            let servers = Servers::from([(Who::Gristmill, self.kit.looked_up(&self.place.join("lookup"))?)]);
            let rows = (0..1_024).map(|number| vec![(number * 7_919 % lookup::CUSTOMERS) as f64]).collect();
            let names = vec!["customer_id".to_owned()];
            self.asked_all(&servers, Questions { model: lookup::ENDPOINT, names, rows, entity: true, expected: Vec::new() })?;
        }
        Ok(())
    }

    /// Everybody with a model, held still. A peer that does not start is left out, and said.
    fn servers(&mut self, model: &'static str, models: &Path) -> Result<Servers> {
        let folder = self.place.join(format!("gristmill-{model}"));
        let mut servers = Servers::from([(Who::Gristmill, self.kit.registered(model, models, &folder)?)]);
        if self.asked.profile.is_some() {
            return Ok(servers);
        }
        for who in Who::PEERS {
            let folder = self.place.join(format!("{who:?}-{model}").to_lowercase());
            match self.kit.peer(who, model, models, &folder) {
                Ok(running) => {
                    eprintln!("{} is ready after {:.1} s", who.name(), running.ready.as_secs_f64());
                    running.hold();
                    servers.insert(who, running);
                }
                Err(error) => {
                    eprintln!("{} is left out: {error:#}", who.name());
                    self.report.missing.push(format!("{} with {model}: {error:#}", who.name()));
                }
            }
        }
        for (who, server) in &servers {
            let memory = server.memory();
            let told = format!("{}; {:.1} s to ready, {:.0} MiB resident", server.command, server.ready.as_secs_f64(), memory.resident_mib);
            self.report.facts.push((format!("{} ({model})", who.name()), told));
        }
        Ok(servers)
    }

    /// Agreement first, then every case.
    fn asked_all(&mut self, servers: &Servers, questions: Questions) -> Result<()> {
        self.agree(servers, &questions)?;
        if self.asked.profile.is_some() {
            return self.profiled(servers, &questions);
        }
        for each in ROWS {
            for connections in CONNECTIONS {
                let case = Case { model: questions.model, rows: each, connections, measured: BTreeMap::new(), contenders: Vec::new() };
                let case = self.case(servers, &questions, case)?;
                print!("{}", case.text());
                self.report.cases.push(case);
            }
        }
        Ok(())
    }

    /// The contenders that are running and can be asked this.
    fn contenders(&self, servers: &Servers, questions: &Questions) -> Vec<&'static Contender> {
        CONTENDERS.iter().filter(|c| servers.contains_key(&c.who) && (!questions.entity || c.protocol != Protocol::Binary)).collect()
    }

    /// Everybody gives the same scores for every row, in small requests and in large ones.
    fn agree(&self, servers: &Servers, questions: &Questions) -> Result<()> {
        let mut expected = questions.expected.clone();
        for contender in self.contenders(servers, questions) {
            if contender.protocol == Protocol::Unread {
                continue;
            }
            let (server, protocol) = (&servers[&contender.who], contender.protocol);
            server.wake();
            // Ours has to find the version that was registered just now; the others said that they are ready.
            let patience_seconds = if contender.who == Who::Gristmill { 60 } else { 1 };
            wait_for(contender.name, patience_seconds, || {
                let first =
                    Questions { rows: questions.rows[..1].to_vec(), names: questions.names.clone(), expected: Vec::new(), ..*questions };
                protocol.scores(&first.of(protocol, server, 1))
            })?;
            for each in ROWS {
                let scores = protocol.scores(&questions.of(protocol, server, each)).with_context(|| contender.name)?;
                if expected.is_empty() {
                    expected.clone_from(&scores);
                }
                if let Some(why) = differing(&scores, &expected, TOLERANCE) {
                    bail!("{} gives other scores for {} in requests of {each}: {why}", contender.name, questions.model);
                }
            }
            if contender.who != Who::Gristmill {
                server.hold();
            }
        }
        servers.values().for_each(Running::hold);
        eprintln!("everybody gives the same scores for {}", questions.model);
        Ok(())
    }

    fn case(&self, servers: &Servers, questions: &Questions, case: Case) -> Result<Case> {
        let contenders = self.contenders(servers, questions);
        let names: Vec<&'static str> = contenders.iter().map(|c| c.name).collect();
        let seconds = if self.asked.quick { 0.5 } else { 3.0 };
        let measured = rounds(self.asked.rounds, &names, || {
            let mut measured = BTreeMap::new();
            for contender in &contenders {
                let server = &servers[&contender.who];
                let requests = questions.of(contender.protocol, server, case.rows);
                server.wake();
                let before = server.processor();
                let outcome = self.worker(Load { requests, connections: case.connections, seconds });
                let took = server.processor() - before;
                server.hold();
                let outcome = outcome.with_context(|| format!("{}, {}", case.name(), contender.name))?;
                measured.insert(contender.name.to_owned(), figures(&outcome, took.as_secs_f64()));
            }
            Ok(measured)
        })?;
        Ok(Case { measured, contenders: names, ..case })
    }

    /// Ours alone, long enough for a profiler.
    fn profiled(&self, servers: &Servers, questions: &Questions) -> Result<()> {
        let (contender, rows) = self.asked.profile.context("a profile is asked for")?;
        let server = &servers[&Who::Gristmill];
        server.wake();
        println!("our server is process {}", server.pid());
        let requests = questions.of(contender.protocol, server, rows);
        let before = server.processor();
        let measured = self.worker(Load { requests, connections: CONNECTIONS[1], seconds: 20.0 })?;
        let each = (server.processor() - before).as_secs_f64() * 1e6 / measured.count as f64;
        println!(
            "{}, {}: {:.0} requests a second, p99 {:.0} us, {each:.1} us of the core each",
            questions.model,
            contender.name,
            measured.rate(),
            measured.p99_us
        );
        Ok(())
    }

    /// Load from a process of its own, on the clients' core.
    fn worker(&self, load: Load) -> Result<Measured> {
        let file = self.place.join("load.json");
        std::fs::write(&file, serde_json::to_string(&load)?)?;
        let own = [std::env::current_exe()?.display().to_string(), "bench-load".into(), file.display().to_string()];
        let words = pinned(self.client_core, &own);
        Ok(serde_json::from_str(printed(Command::new(&words[0]).args(&words[1..]))?.trim())?)
    }

    fn facts(&mut self, cores: &[usize]) {
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let cpuinfo = read("/proc/cpuinfo");
        let model = cpuinfo.lines().find_map(|l| l.strip_prefix("model name")).and_then(|l| l.split(": ").nth(1)).unwrap_or("unknown");
        let facts = [
            ("processor", model.to_owned()),
            ("cores", format!("{cores:?}; servers on {}, clients on {}", self.kit.core, self.client_core)),
            ("kernel", read("/proc/sys/kernel/osrelease").trim().to_owned()),
            ("load before", read("/proc/loadavg").trim().to_owned()),
            ("rounds", self.asked.rounds.to_string()),
            ("our server", self.kit.binary.display().to_string()),
            (
                "models",
                "100 boosted trees of at most 63 leaves; a network of 20 x 64 x 32 x 1; 20 features, 1,024 different rows".to_owned(),
            ),
            ("peers", self.versions()),
        ];
        self.report.facts.extend(facts.map(|(k, v)| (k.to_owned(), v)));
        if cores.len() < 2 {
            self.report.missing.push("a second core: servers and clients share one".to_owned());
        }
        let load: f64 = read("/proc/loadavg").split(' ').next().and_then(|load| load.parse().ok()).unwrap_or(0.0);
        if load > QUIET_LOAD_MAX {
            self.report.missing.push(format!("a quiet machine: its load was {load} before the first round, so no goal is judged for good"));
        }
    }

    /// What the environments of the peers are pinned to.
    fn versions(&self) -> String {
        let folder = self.kit.root.join("tests/clients/requirements");
        let mut versions = Vec::new();
        for (file, packages) in [
            ("serving", &["fastapi", "uvicorn", "onnxruntime", "scikit-learn", "mlflow"][..]),
            ("serving-mlserver", &["mlserver", "onnxruntime"]),
            ("serving-bentoml", &["bentoml", "onnxruntime"]),
        ] {
            let text = std::fs::read_to_string(folder.join(format!("{file}.txt"))).unwrap_or_default();
            let wanted = |line: &&str| line.split_once("==").is_some_and(|(name, _)| packages.contains(&name));
            versions.push(text.lines().filter(wanted).collect::<Vec<_>>().join(" "));
        }
        versions.join("; ")
    }
}

fn read<T: serde::de::DeserializeOwned>(path: &Path) -> Result<T> {
    let text = std::fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
    serde_json::from_str(&text).with_context(|| format!("{} is not understood", path.display()))
}

fn figures(measured: &Measured, processor_seconds: f64) -> Figures {
    let figure = |value: f64, unit: &str| (value, unit.to_owned());
    let each = processor_seconds * 1e6 / measured.count.max(1) as f64;
    Figures::from([
        (report::RATE.to_owned(), figure(measured.rate(), "1/s")),
        (report::P50.to_owned(), figure(measured.p50_us, "us")),
        (report::P99.to_owned(), figure(measured.p99_us, "us")),
        (report::CORE.to_owned(), figure(each, "us")),
    ])
}
