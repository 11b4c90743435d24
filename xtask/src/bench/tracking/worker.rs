//! The part that makes load: started as a process of its own, so that it can be pinned to its core.
//!
//! Everything is prepared before the clock runs. Each connection is a thread that waits for its answer before it asks again.

use crate::bench::http::{Address, Connection};
use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use std::sync::Barrier;
use std::time::{Duration, Instant};

/// The API's root.
pub const API: &str = "/api/2.0/mlflow";

/// What to do.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case", tag = "do")]
pub enum Work {
    /// `log-metric`, one run per connection, for so long. Steps begin at `from`.
    Metric {
        /// The runs.
        runs: Vec<String>,
        /// How long.
        seconds: f64,
        /// The first step.
        from: u64,
    },
    /// `log-batch` of so many metrics, so often, over one connection.
    Batch {
        /// The run.
        run: String,
        /// Metrics in a batch.
        metrics: usize,
        /// How many batches.
        times: u64,
        /// The first step.
        from: u64,
    },
    /// Creates a run, logs a batch, ends it; so often.
    Lifecycle {
        /// The experiment.
        experiment: String,
        /// How often.
        times: u64,
    },
    /// The same `GET`, so often.
    Get {
        /// The path with its query.
        path: String,
        /// How often.
        times: u64,
    },
    /// The same `POST`, so often.
    Post {
        /// The path.
        path: String,
        /// The body.
        body: Value,
        /// How often.
        times: u64,
    },
    /// `POST`s of different bodies over several connections, for so long.
    Posts {
        /// The path.
        path: String,
        /// The bodies, in turn.
        bodies: Vec<Value>,
        /// How many connections.
        connections: usize,
        /// How long.
        seconds: f64,
    },
    /// Uploads so many MiB.
    Put {
        /// The path.
        path: String,
        /// MiB.
        mib: usize,
    },
    /// Downloads them and compares every byte.
    Download {
        /// The path.
        path: String,
        /// MiB.
        mib: usize,
    },
    /// Writes whole runs, see [`super::fill::run`].
    Fill {
        /// The experiment.
        experiment: String,
        /// How many runs.
        runs: u64,
        /// Over how many connections.
        connections: u64,
    },
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Default, serde::Serialize, serde::Deserialize)]
pub struct Measured {
    /// How often it was done.
    pub count: u64,
    /// How long everything took.
    pub seconds: f64,
    /// Half took no longer than this.
    pub p50_us: f64,
    /// 99 of 100 took no longer than this.
    pub p99_us: f64,
}

impl Measured {
    /// Of the times of each, and how long all of them took.
    pub fn of(mut times: Vec<Duration>, seconds: f64) -> Measured {
        times.sort();
        let rank = |share: f64| {
            let at = ((times.len() as f64 * share).ceil() as usize).clamp(1, times.len().max(1)) - 1;
            times.get(at).map_or(0.0, |t| t.as_secs_f64() * 1e6)
        };
        Measured { count: times.len() as u64, seconds, p50_us: rank(0.5), p99_us: rank(0.99) }
    }
    /// How many a second.
    pub fn rate(&self) -> f64 {
        self.count as f64 / self.seconds
    }
}

/// Does it.
pub fn work(address: &Address, work: &Work) -> Result<Measured> {
    match work {
        Work::Metric { runs, seconds, from } => metric(address, runs, *seconds, *from),
        Work::Batch { run, metrics, times, from } => {
            let bodies = (0..*times).map(|i| address.post(&format!("{API}/runs/log-batch"), &batch(run, *metrics, from + i)));
            each(address, bodies.collect())
        }
        Work::Lifecycle { experiment, times } => lifecycle(address, experiment, *times),
        Work::Get { path, times } => each(address, vec![address.get(path); *times as usize]),
        Work::Post { path, body, times } => each(address, vec![address.post(path, body); *times as usize]),
        Work::Posts { path, bodies, connections, seconds } => posts(address, path, bodies, *connections, *seconds),
        Work::Put { path, mib } => put(address, path, *mib),
        Work::Download { path, mib } => download(address, path, *mib),
        Work::Fill { experiment, runs, connections } => fill(address, experiment, *runs, *connections),
    }
}

/// One metric.
fn one_metric(run: &str, step: u64) -> Value {
    json!({ "run_id": run, "run_uuid": run, "key": "loss", "value": 1.0 / (step + 1) as f64, "timestamp": 1_700_000_000_000_u64 + step, "step": step })
}

/// A batch: so many metrics at one step.
fn batch(run: &str, metrics: usize, step: u64) -> Value {
    let at = 1_700_000_000_000_u64 + step;
    let metrics: Vec<Value> = (0..metrics)
        .map(|i| json!({ "key": format!("m{i:04}"), "value": (step + i as u64) as f64 * 0.5, "timestamp": at, "step": step }))
        .collect();
    json!({ "run_id": run, "metrics": metrics, "params": [], "tags": [] })
}

fn good(connection: &mut Connection, request: &[u8]) -> Result<Vec<u8>> {
    let answer = connection.call(request)?;
    if answer.status != 200 {
        bail!("status {}: {}", answer.status, String::from_utf8_lossy(&answer.body).chars().take(300).collect::<String>());
    }
    Ok(answer.body)
}

/// Requests one behind the other.
fn each(address: &Address, requests: Vec<Vec<u8>>) -> Result<Measured> {
    let mut connection = Connection::new(address);
    let mut times = Vec::with_capacity(requests.len());
    let begun = Instant::now();
    for request in &requests {
        let asked = Instant::now();
        good(&mut connection, request)?;
        times.push(asked.elapsed());
    }
    Ok(Measured::of(times, begun.elapsed().as_secs_f64()))
}

fn metric(address: &Address, runs: &[String], seconds: f64, from: u64) -> Result<Measured> {
    /// Prepared requests per run; a connection that needs more goes on preparing, which the fastest server pays for itself.
    const PREPARED: u64 = 200_000;
    let path = format!("{API}/runs/log-metric");
    let start = Barrier::new(runs.len());
    let limit = Duration::from_secs_f64(seconds);
    at_once(runs.len(), |number| {
        let mut connection = Connection::new(address);
        let first_answer = good(&mut connection, &address.post(&path, &one_metric(&runs[number], from)));
        // The step is the only thing that changes, and its digits do not change in number: bytes are patched in place.
        let first = from.max(1_000_000);
        let mut request = address.post(&path, &one_metric(&runs[number], first));
        let mut times = Vec::with_capacity(PREPARED as usize);
        // Everybody comes here, also who failed: the others would wait for ever.
        start.wait();
        first_answer?;
        let begun = Instant::now();
        let mut step = first;
        while begun.elapsed() < limit {
            step += 1;
            patch(&mut request, first, step);
            let asked = Instant::now();
            good(&mut connection, &request)?;
            times.push(asked.elapsed());
        }
        Ok((times, begun.elapsed().as_secs_f64()))
    })
}

/// The same on several connections at once, each a thread that gives its times and how long it took.
fn at_once(connections: usize, work: impl Fn(usize) -> Result<(Vec<Duration>, f64)> + Sync) -> Result<Measured> {
    let threads: Vec<Result<(Vec<Duration>, f64)>> = std::thread::scope(|scope| {
        let work = &work;
        let threads: Vec<_> = (0..connections).map(|number| scope.spawn(move || work(number))).collect();
        threads.into_iter().map(|t| t.join().unwrap_or_else(|_| Err(anyhow::anyhow!("a connection's thread panicked")))).collect()
    });
    let (mut times, mut longest) = (Vec::new(), 0.0_f64);
    for thread in threads {
        let (some, took) = thread?;
        times.extend(some);
        longest = longest.max(took);
    }
    Ok(Measured::of(times, longest))
}

fn posts(address: &Address, path: &str, bodies: &[Value], connections: usize, seconds: f64) -> Result<Measured> {
    let requests: Vec<Vec<u8>> = bodies.iter().map(|body| address.post(path, body)).collect();
    in_turn(address, &requests, connections, seconds)
}

/// Prepared requests in turn over several connections, for so long.
pub fn in_turn(address: &Address, requests: &[Vec<u8>], connections: usize, seconds: f64) -> Result<Measured> {
    let (start, limit) = (Barrier::new(connections), Duration::from_secs_f64(seconds));
    at_once(connections, |number| {
        let mut connection = Connection::new(address);
        let mut times = Vec::new();
        // Each begins elsewhere, so that no two ask for the same at once.
        let mut next = requests.iter().cycle().skip(number * requests.len() / connections);
        let first_answer = next.next().context("there is nothing to ask").and_then(|request| good(&mut connection, request));
        start.wait();
        first_answer?;
        let begun = Instant::now();
        while begun.elapsed() < limit {
            let request = next.next().context("there is nothing to ask")?;
            let asked = Instant::now();
            good(&mut connection, request)?;
            times.push(asked.elapsed());
        }
        Ok((times, begun.elapsed().as_secs_f64()))
    })
}

/// Writes the step's digits, and those of the moment that goes with it, into a prepared request.
fn patch(request: &mut [u8], first: u64, step: u64) {
    let moment = 1_700_000_000_000_u64;
    // Serde writes keys in their order, so the step is the first of both; each is found once by its name.
    for (name, value) in [("\"step\":", step), ("\"timestamp\":", moment + step)] {
        let digits = value.to_string();
        if let Some(at) = request.windows(name.len()).position(|w| w == name.as_bytes()) {
            let at = at + name.len();
            request[at..at + digits.len()].copy_from_slice(digits.as_bytes());
        }
    }
    debug_assert!(first.to_string().len() == step.to_string().len());
}

fn lifecycle(address: &Address, experiment: &str, times: u64) -> Result<Measured> {
    let mut connection = Connection::new(address);
    let mut took = Vec::with_capacity(times as usize);
    let begun = Instant::now();
    for i in 0..times {
        let asked = Instant::now();
        super::fill::whole(&mut connection, address, experiment, i, 10)?;
        took.push(asked.elapsed());
    }
    Ok(Measured::of(took, begun.elapsed().as_secs_f64()))
}

fn fill(address: &Address, experiment: &str, runs: u64, connections: u64) -> Result<Measured> {
    let begun = Instant::now();
    let results: Vec<Result<()>> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..connections)
            .map(|part| {
                scope.spawn(move || {
                    let mut connection = Connection::new(address);
                    for i in (part..runs).step_by(connections as usize) {
                        super::fill::whole(&mut connection, address, experiment, i, super::fill::METRICS)?;
                    }
                    Ok(())
                })
            })
            .collect();
        threads.into_iter().map(|t| t.join().unwrap_or_else(|_| Err(anyhow::anyhow!("a connection's thread panicked")))).collect()
    });
    results.into_iter().collect::<Result<Vec<()>>>()?;
    let seconds = begun.elapsed().as_secs_f64();
    Ok(Measured { count: runs, seconds, p50_us: 0.0, p99_us: 0.0 })
}

/// A MiB that does not compress and differs from the others.
fn piece(number: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64 ^ (number as u64 + 1);
    (0..(1 << 20) / 8)
        .flat_map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_le_bytes()
        })
        .collect()
}

fn put(address: &Address, path: &str, mib: usize) -> Result<Measured> {
    let pieces: Vec<Vec<u8>> = (0..mib).map(piece).collect();
    let mut next = pieces.into_iter();
    let head = address.head("PUT", path, "application/octet-stream", mib << 20);
    let begun = Instant::now();
    let answer = Connection::new(address).send(&head, || next.next())?;
    let took = begun.elapsed();
    if answer.status != 200 {
        bail!("status {}: {}", answer.status, String::from_utf8_lossy(&answer.body).chars().take(300).collect::<String>());
    }
    Ok(Measured::of(vec![took], took.as_secs_f64()))
}

fn download(address: &Address, path: &str, mib: usize) -> Result<Measured> {
    let wanted: Vec<u8> = (0..mib).flat_map(piece).collect();
    let mut at = 0;
    let begun = Instant::now();
    let status = Connection::new(address).receive(&address.get(path), |part| {
        let end = at + part.len();
        if wanted.get(at..end) != Some(part) {
            bail!("the download differs at byte {at}");
        }
        at = end;
        Ok(())
    })?;
    let took = begun.elapsed();
    if status != 200 || at != wanted.len() {
        bail!("status {status}, {at} of {} bytes", wanted.len());
    }
    Ok(Measured::of(vec![took], took.as_secs_f64()))
}

/// Runs as a process of its own: reads address and work, prints what was measured.
pub fn main(text: &str) -> Result<bool> {
    // Much work does not fit into a command's words.
    let file = text.strip_prefix('@').map(std::fs::read_to_string).transpose().context("read the work")?;
    let text = file.as_deref().unwrap_or(text);
    let (address, what): (Address, Work) = serde_json::from_str(text).context("the work is not understood")?;
    println!("{}", serde_json::to_string(&work(&address, &what)?)?);
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_are_of_the_sorted_times() {
        let times = (1..=100).rev().map(Duration::from_micros).collect();
        let measured = Measured::of(times, 2.0);
        assert_eq!((measured.p50_us.round(), measured.p99_us.round(), measured.rate()), (50.0, 99.0, 50.0));
    }

    #[test]
    fn a_prepared_request_is_the_one_that_would_be_written() {
        let address = Address { at: "127.0.0.1:1".parse().unwrap(), auth: None };
        let mut request = address.post("/x", &one_metric("r", 1_000_000));
        patch(&mut request, 1_000_000, 1_234_567);
        let body: Value = serde_json::from_slice(&request[request.len() - one_metric("r", 1_000_000).to_string().len()..]).unwrap();
        assert_eq!((body["step"].as_u64(), body["timestamp"].as_u64()), (Some(1_234_567), Some(1_700_001_234_567)));
    }
}
