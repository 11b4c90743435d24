//! Requests that nobody wrote: every request of `testdata/protocol` cut, flipped and spliced, sent to the real routes.
//!
//! Whatever comes is answered or refused in the shape of its protocol, never with a failure of ours, and the endpoint answers as before afterwards. What
//! is found is kept as one more file of the corpus. A longer hunt: `GRISTMILL_FUZZ_SECONDS=600 cargo test --release -p gristmill-serve
//! requests_that_nobody_wrote`; it says its seed, and `GRISTMILL_FUZZ_SEED` begins there.

use super::bench::Bench;
use super::served;
use gristmill_web::HeaderMap;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use serde_json::Value;
use std::hash::{BuildHasher as _, Hasher as _};
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Changed copies of each request.
const COPIES: usize = 400;

/// Pieces that parsers meet rarely by chance.
const PIECES: [&[u8]; 28] = [
    b"99999999999999999999",
    b"-1",
    b"1e400",
    b"NaN",
    b"Infinity",
    b"null",
    b"\\ud800",
    b"[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[",
    b"{\"a\":{\"a\":{\"a\":{\"a\":{\"a\":{\"a\":",
    b"\"shape\":[4294967296,4294967296]",
    b"\"shape\":[-1]",
    b"\"shape\":[]",
    b"\"binary_data_size\":18446744073709551615",
    b"\"datatype\":\"FP16\"",
    b"\"datatype\":\"BYTES\"",
    b"\"datatype\":\"BOOL\"",
    b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
    b"\x00\x00\x00\x00\x00",
    b"\x7f\xff\xff\xff",
    b"\"\"",
    b"\r\n",
    b",,,,",
    b"9999-99-99T99:99:99Z",
    b"\xf0\x9f\xa6\x80",
    b"'descr': '|O'",
    b"'fortran_order': True",
    b"'shape': (4294967296, 4294967296)",
    b"'shape': (18446744073709551615,)",
];

#[derive(Clone)]
struct Request {
    name: String,
    path: String,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Request {
    fn read(name: String, bytes: &[u8]) -> Request {
        let end = bytes.windows(2).position(|two| two == b"\n\n").expect("a head");
        let head = std::str::from_utf8(&bytes[..end]).expect("a head of text");
        let mut lines = head.lines();
        let path = lines.next().and_then(|line| line.strip_prefix("POST ")).expect("a path").to_owned();
        let headers = lines.map(|line| line.split_once(": ").expect("a header")).map(|(k, v)| (k.to_owned(), v.to_owned())).collect();
        Request { name, path, headers, body: bytes[end + 2..].to_vec() }
    }

    fn is_grpc(&self) -> bool {
        self.path.starts_with("/inference.")
    }
    /// Whether it was found by this test and is no good request as it is.
    fn is_refused(&self) -> bool {
        self.name.ends_with(".refused.http")
    }
}

fn corpus() -> Vec<Request> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("testdata/protocol");
    let mut paths: Vec<PathBuf> = std::fs::read_dir(folder).expect("the corpus").map(|e| e.expect("an entry").path()).collect();
    paths.sort();
    let name = |path: &PathBuf| path.file_name().expect("a name").to_string_lossy().into_owned();
    paths.iter().map(|path| Request::read(name(path), &std::fs::read(path).expect("a request"))).collect()
}

fn changed(all: &[Request], one: &Request, random: &mut SmallRng) -> Request {
    let mut copy = one.clone();
    for _ in 0..random.random_range(1..5) {
        let body = &mut copy.body;
        let at = random.random_range(0..=body.len());
        let until = (at + random.random_range(1..30)).min(body.len());
        match random.random_range(0..9) {
            0 if at < body.len() => body[at] ^= 1 << random.random_range(0..8),
            1 if at < body.len() => body[at] = random.random(),
            2 => body.truncate(at),
            3 => drop(body.drain(at..until)),
            4 => {
                let piece = PIECES[random.random_range(0..PIECES.len())];
                drop(body.splice(at..at, piece.iter().copied()));
            }
            5 => {
                let piece = PIECES[random.random_range(0..PIECES.len())];
                drop(body.splice(at..until, piece.iter().copied()));
            }
            6 => {
                let other = &all[random.random_range(0..all.len())].body;
                let from = random.random_range(0..=other.len());
                let to = (from + random.random_range(1..60)).min(other.len());
                drop(body.splice(at..at, other[from..to].iter().copied()));
            }
            7 => {
                let piece = body[at..until].to_vec();
                drop(body.splice(at..at, piece));
            }
            _ => {
                // The length in front of a message, or of the JSON part.
                if one.is_grpc() && body.len() > 5 {
                    body[random.random_range(0..5)] = random.random();
                } else if let Some((_, value)) = copy.headers.iter_mut().find(|(name, _)| name == "inference-header-content-length") {
                    *value = random.random_range(0..400_u32).to_string();
                }
            }
        }
    }
    copy
}

/// Why an answer is none that its protocol has, if so.
fn wrong(request: &Request, status: u16, headers: &HeaderMap, body: &[u8], trailers: &HeaderMap) -> Option<String> {
    let text = |map: &HeaderMap, key: &str| map.get(key).and_then(|value| value.to_str().ok().map(str::to_owned));
    if request.is_grpc() {
        let code = text(headers, "grpc-status").or_else(|| text(trailers, "grpc-status"));
        // 2 is unknown, 13 internal, 15 lost data.
        let refused = ["0", "3", "5", "8", "9", "11", "12", "14"].map(str::to_owned);
        return (status != 200 || !code.as_ref().is_some_and(|code| refused.contains(code)))
            .then(|| format!("{status}, grpc-status {code:?}"));
    }
    if status >= 500 {
        return Some(format!("{status}: {}", String::from_utf8_lossy(body)));
    }
    if status < 400 {
        return None;
    }
    let told: Value = match serde_json::from_slice(body) {
        // Feast wraps its errors in a text once more.
        Ok(Value::String(inner)) => serde_json::from_str(&inner).unwrap_or(Value::Null),
        Ok(told) => told,
        Err(e) => return Some(format!("{status} without JSON ({e}): {}", String::from_utf8_lossy(body))),
    };
    let says = ["error", "message", "detail", "error_code"].iter().any(|key| told[*key].as_str().is_some_and(|text| !text.is_empty()));
    (!says).then(|| format!("{status} without a reason: {told}"))
}

async fn sent(bench: &Bench, request: &Request) -> (u16, Option<String>) {
    let headers: Vec<(&str, &str)> = request.headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let (status, headers, body, trailers) = bench.send_for_trailers(&request.path, &headers, request.body.clone()).await;
    (status, wrong(request, status, &headers, &body, &trailers))
}

#[expect(clippy::disallowed_methods, reason = "whoever hunts for longer says so to this test, not to the product")]
fn variable(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|text| text.parse().ok())
}

#[tokio::test]
async fn requests_that_nobody_wrote_are_answered_or_refused() {
    let bench = served().await;
    let all = corpus();
    assert!(all.len() >= 25);
    for request in &all {
        let (status, wrong) = sent(&bench, request).await;
        let expected = if request.is_refused() { 400 } else { 200 };
        assert_eq!((status, wrong), (expected, None), "{} as it is", request.name);
    }
    let limit = variable("GRISTMILL_FUZZ_SECONDS").map(Duration::from_secs);
    let anywhere = || std::hash::RandomState::new().build_hasher().finish();
    let mut seed = variable("GRISTMILL_FUZZ_SEED").unwrap_or_else(|| if limit.is_some() { anywhere() } else { 7 });
    let begun = Instant::now();
    let (mut answered, mut refused) = (0u64, 0u64);
    loop {
        let mut random = SmallRng::seed_from_u64(seed);
        for request in &all {
            // A full log refuses everything, and then nothing would be read to its end.
            bench.plane.flush().await.expect("flushes");
            for _ in 0..COPIES {
                let copy = changed(&all, request, &mut random);
                let (status, wrong) = sent(&bench, &copy).await;
                *(if status < 400 { &mut answered } else { &mut refused }) += 1;
                if let Some(wrong) = wrong {
                    panic!("seed {seed}, {}: {wrong}\n{}", copy.name, copy.body.escape_ascii());
                }
            }
        }
        if limit.is_none_or(|limit| begun.elapsed() >= limit) {
            break;
        }
        seed = seed.wrapping_add(1);
    }
    println!("{answered} answered, {refused} refused, the last by seed {seed}");
    assert!(answered > 100 && refused > 100, "{answered} answered, {refused} refused");
    for request in all.iter().filter(|request| !request.is_refused()) {
        assert_eq!(sent(&bench, request).await, (200, None), "{} afterwards", request.name);
    }
}
