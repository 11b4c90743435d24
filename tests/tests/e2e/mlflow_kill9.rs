//! kill -9 in the middle of logging over the MLflow protocol, each followed by a restart: every acknowledged metric, param, tag, version and
//! alias is there, once.

use gristmill_tests::{Project, client};
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use reqwest::blocking::Client;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

const KILLS: u64 = 40;
const WRITERS: u64 = 4;
const SINCE: i64 = 1_600_000_000_000;

/// A value that changes: the last one acknowledged, and those sent after it whose answer never came.
#[derive(Debug, Default, Clone)]
struct Moving {
    acked: Option<String>,
    maybe: BTreeSet<String>,
}

impl Moving {
    fn sent(&mut self, value: &str) {
        self.maybe.insert(value.to_owned());
    }
    fn acked(&mut self, value: &str) {
        *self = Moving { acked: Some(value.to_owned()), maybe: BTreeSet::new() };
    }
    fn allows(&self, value: Option<&str>) -> bool {
        self.acked.as_deref() == value || value.is_some_and(|v| self.maybe.contains(v))
    }
}

/// What one writer was told is safe.
#[derive(Debug, Default)]
struct Writer {
    run: String,
    model: String,
    n: u64,
    /// (key, step) to value.
    metrics: BTreeMap<(String, i64), f64>,
    sent_metrics: BTreeSet<(String, i64)>,
    params: BTreeMap<String, String>,
    tags: BTreeMap<String, Moving>,
    /// Number to the mark that the version carries.
    versions: BTreeMap<String, String>,
    sent_versions: BTreeSet<String>,
    aliases: BTreeMap<String, Moving>,
    runs: BTreeSet<String>,
}

/// POST; `None` means that no answer came, and nothing is known.
fn post(client: &Client, url: &str, route: &str, body: &Value) -> Option<Value> {
    let answer = client.post(format!("{url}/api/2.0/mlflow/{route}")).json(body).send().ok()?;
    let status = answer.status().as_u16();
    let text = answer.text().ok()?;
    assert_eq!(status, 200, "{route}: {text}");
    Some(serde_json::from_str(&text).expect("JSON"))
}

fn get(client: &Client, url: &str, route: &str, query: &[(&str, &str)]) -> Value {
    // The values are ours and need no escaping.
    let query: Vec<String> = query.iter().map(|(k, v)| format!("{k}={v}")).collect();
    let answer = client.get(format!("{url}/api/2.0/mlflow/{route}?{}", query.join("&"))).send().expect("an answer");
    let (status, text) = (answer.status().as_u16(), answer.text().expect("a body"));
    assert_eq!(status, 200, "{route}: {text}");
    serde_json::from_str(&text).expect("JSON")
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

impl Writer {
    fn begin(client: &Client, url: &str, number: u64) -> Writer {
        let made =
            post(client, url, "runs/create", &json!({"experiment_id": "0", "start_time": SINCE, "run_name": format!("writer{number}")}));
        let run = made.expect("a first run")["run"]["info"]["run_id"].as_str().expect("an id").to_owned();
        let model = format!("killed{number}");
        post(client, url, "registered-models/create", &json!({"name": model})).expect("a first model");
        Writer { run, model, ..Writer::default() }
    }

    fn point(&mut self, rng: &mut StdRng) -> Value {
        self.n += 1;
        let (key, step) = (format!("m{}", rng.random_range(0..5)), self.n as i64);
        self.sent_metrics.insert((key.clone(), step));
        json!({"key": key, "value": self.n as f64 / 8.0, "timestamp": SINCE + step, "step": step})
    }
    fn keep(&mut self, point: &Value) {
        let key = (point["key"].as_str().expect("a key").to_owned(), point["step"].as_i64().expect("a step"));
        self.metrics.insert(key, point["value"].as_f64().expect("a value"));
    }

    /// One request of a random kind; `false` when no answer came.
    fn step(&mut self, client: &Client, url: &str, rng: &mut StdRng) -> bool {
        self.n += 1;
        let (run, n) = (self.run.clone(), self.n);
        match rng.random_range(0..10) {
            0..3 => {
                let point = self.point(rng);
                let mut body = point.clone();
                body["run_id"] = json!(run);
                let done = post(client, url, "runs/log-metric", &body).is_some();
                if done {
                    self.keep(&point);
                }
                done
            }
            3..6 => {
                let points: Vec<Value> = (0..rng.random_range(1..300)).map(|_| self.point(rng)).collect();
                let param = (format!("batch{n}"), format!("value {n}"));
                let tag = (format!("t{}", rng.random_range(0..3)), n.to_string());
                self.tags.entry(tag.0.clone()).or_default().sent(&tag.1);
                let body = json!({
                    "run_id": run,
                    "metrics": points,
                    "params": [{"key": param.0, "value": param.1}],
                    "tags": [{"key": tag.0, "value": tag.1}],
                });
                let done = post(client, url, "runs/log-batch", &body).is_some();
                if done {
                    points.iter().for_each(|p| self.keep(p));
                    self.params.insert(param.0, param.1);
                    self.tags.entry(tag.0).or_default().acked(&tag.1);
                }
                done
            }
            6 => {
                let done = post(client, url, "runs/log-parameter", &json!({"run_id": run, "key": format!("p{n}"), "value": "v"})).is_some();
                if done {
                    self.params.insert(format!("p{n}"), "v".to_owned());
                }
                done
            }
            7 => {
                let key = format!("t{}", rng.random_range(0..3));
                self.tags.entry(key.clone()).or_default().sent(&n.to_string());
                let done = post(client, url, "runs/set-tag", &json!({"run_id": run, "key": key, "value": n.to_string()})).is_some();
                if done {
                    self.tags.entry(key).or_default().acked(&n.to_string());
                }
                done
            }
            8 => {
                let mark = format!("mark{n}");
                self.sent_versions.insert(mark.clone());
                let source = format!("mlflow-artifacts:/0/{run}/artifacts/model");
                let body = json!({"name": self.model, "source": source, "run_id": run, "tags": [{"key": "mark", "value": mark}]});
                let made = post(client, url, "model-versions/create", &body);
                if let Some(made) = &made {
                    let number = made["model_version"]["version"].as_str().expect("a number").to_owned();
                    assert_eq!(self.versions.insert(number.clone(), mark), None, "version {number} was given twice");
                }
                made.is_some()
            }
            _ => {
                let Some(number) = self.versions.keys().nth(rng.random_range(0..self.versions.len().max(1))).cloned() else { return true };
                let alias = ["champion", "challenger"][rng.random_range(0..2)];
                self.aliases.entry(alias.to_owned()).or_default().sent(&number);
                let body = json!({"name": self.model, "alias": alias, "version": number});
                let done = post(client, url, "registered-models/alias", &body).is_some();
                if done {
                    self.aliases.entry(alias.to_owned()).or_default().acked(&number);
                }
                done
            }
        }
    }

    /// Writes until the server is gone.
    fn write(&mut self, url: &str, seed: u64, stop: &AtomicBool) {
        let (client, mut rng) = (client(), StdRng::seed_from_u64(seed));
        if let Some(made) = post(&client, url, "runs/create", &json!({"experiment_id": "0", "start_time": SINCE})) {
            self.runs.insert(made["run"]["info"]["run_id"].as_str().expect("an id").to_owned());
        }
        while !stop.load(Ordering::Relaxed) && self.step(&client, url, &mut rng) {}
    }

    /// Everything acknowledged is there, once; nothing is there that was not sent.
    fn verify(&self, client: &Client, url: &str) {
        let run = get(client, url, "runs/get", &[("run_id", &self.run)])["run"].clone();
        let pairs = |what: &str| -> BTreeMap<String, String> {
            let text = |v: &Value| v.as_str().unwrap_or_default().to_owned();
            list(&run["data"][what]).iter().map(|p| (text(&p["key"]), text(&p["value"]))).collect()
        };
        let (params, tags) = (pairs("params"), pairs("tags"));
        for (key, value) in &self.params {
            assert_eq!(params.get(key), Some(value), "param {key} of {}", self.run);
        }
        for (key, value) in &self.tags {
            assert!(value.allows(tags.get(key).map(String::as_str)), "tag {key} is {:?}, not {value:?}", tags.get(key));
        }
        let keys: BTreeSet<&String> = self.sent_metrics.iter().map(|(k, _)| k).collect();
        for key in keys {
            let (mut seen, mut token) = (BTreeMap::new(), String::new());
            loop {
                let mut query = vec![("run_id", self.run.as_str()), ("metric_key", key), ("max_results", "25000")];
                if !token.is_empty() {
                    query.push(("page_token", &token));
                }
                let page = get(client, url, "metrics/get-history", &query);
                for point in list(&page["metrics"]) {
                    let step = point["step"].as_i64().unwrap_or_default();
                    assert_eq!(seen.insert(step, point["value"].as_f64()), None, "metric {key} step {step} is there twice");
                    assert!(self.sent_metrics.contains(&(key.clone(), step)), "metric {key} step {step} was never sent");
                }
                match page["next_page_token"].as_str() {
                    Some(next) if !next.is_empty() => token = next.replace('+', "%2B").replace('/', "%2F").replace('=', "%3D"),
                    _ => break,
                }
            }
            for ((_, step), value) in self.metrics.iter().filter(|((k, _), _)| k == key) {
                assert_eq!(seen.get(step), Some(&Some(*value)), "metric {key} step {step} of {}", self.run);
            }
        }
        for (number, mark) in &self.versions {
            let version = get(client, url, "model-versions/get", &[("name", &self.model), ("version", number)])["model_version"].clone();
            let found = list(&version["tags"]).iter().any(|t| t["key"] == "mark" && t["value"] == mark.as_str());
            assert!(found, "version {number} of {} is not {mark}: {version}", self.model);
        }
        let model = get(client, url, "registered-models/get", &[("name", &self.model)])["registered_model"].clone();
        for (alias, value) in &self.aliases {
            let now = list(&model["aliases"]).iter().find(|a| a["alias"] == alias.as_str()).and_then(|a| a["version"].as_str());
            assert!(value.allows(now), "alias {alias} of {} is {now:?}, not {value:?}", self.model);
        }
        for id in &self.runs {
            get(client, url, "runs/get", &[("run_id", id)]);
        }
    }
}

#[test]
fn forty_kills_in_the_middle_of_logging_lose_and_double_nothing() {
    let project = Project::example("empty");
    let mut rng = StdRng::seed_from_u64(93);
    let server = project.start(&["dev", "--port", "0"]);
    let mut writers: Vec<Writer> = (0..WRITERS).map(|n| Writer::begin(&client(), &server.url, n)).collect();
    server.kill();
    for kill in 0..KILLS {
        let server = project.start(&["dev", "--port", "0"]);
        let (url, pid, stop) = (server.url.as_str(), server.pid(), AtomicBool::new(false));
        std::thread::scope(|scope| {
            for (number, writer) in writers.iter_mut().enumerate() {
                let stop = &stop;
                scope.spawn(move || writer.write(url, kill * WRITERS + number as u64, stop));
            }
            std::thread::sleep(Duration::from_millis(rng.random_range(20..600)));
            nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid as i32), nix::sys::signal::Signal::SIGKILL).expect("a signal");
            stop.store(true, Ordering::Relaxed);
        });
        server.kill();
        // Not only at the end: what one restart loses, a later write must not hide.
        if kill % 8 == 7 {
            let server = project.start(&["dev", "--port", "0"]);
            writers.iter().for_each(|w| w.verify(&client(), &server.url));
            server.kill();
        }
    }
    let server = project.start(&["dev", "--port", "0"]);
    writers.iter().for_each(|w| w.verify(&client(), &server.url));
    let count = |of: fn(&Writer) -> usize| writers.iter().map(of).sum::<usize>();
    let moved = |values: &BTreeMap<String, Moving>| values.values().filter(|v| v.acked.is_some()).count();
    let (metrics, params, versions) = (count(|w| w.metrics.len()), count(|w| w.params.len()), count(|w| w.versions.len()));
    let tags: usize = writers.iter().map(|w| moved(&w.tags)).sum();
    let aliases: usize = writers.iter().map(|w| moved(&w.aliases)).sum();
    let told = format!("acknowledged: {metrics} points, {params} params, {tags} tags, {versions} versions, {aliases} aliases");
    eprintln!("{told}");
    assert!(metrics > 1000 && params > 0 && tags > 0 && versions > 0 && aliases > 0, "the test did something of each kind: {told}");
    server.stop();
    project.run(&["logs", "--verify"]).good();
    project.run(&["doctor", "--port", "0"]).good();
}
