//! Releases that go wrong, and as many that do not, under load: by canary and by blue-green, on the real server.
//!
//! A bad one is rolled back, refused or paused, and touches at most 2 % of the rows that callers ask about meanwhile; a good one is never aborted.

use crate::experiments::BOUGHT;
use gristmill_tests::boosters::{self, booster, mlmodel};
use gristmill_tests::{Project, Server, client};
use serde_json::{Value, json};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::time::{Duration, Instant};

/// Rows of a request.
const ROWS: u64 = 10;
/// Requests that a caller sends in a second, and callers.
const RATE: u64 = 150;
const CALLERS: u64 = 2;
/// Part of the rows that a bad release may touch.
const TOUCHED_MAX: f64 = 0.02;
/// How often each kind is released each way; more by this variable.
const TIMES: &str = "GRISTMILL_RELEASES";

const ABORT: &str = "error_rate > 0.05 or score_psi > 0.5 or (p50_ms > 3 * stable.p50_ms and p50_ms > 8)";
const STRATEGIES: [(&str, &str); 2] = [
    ("canary", "canary = [\"2%\", \"50%\", \"100%\"], every = \"1s\""),
    ("blue-green", "blue_green = \"1s\", preview = \"1s\", sample = \"50%\""),
];

/// What is wrong with a release.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Release {
    Good,
    /// It asks for a column that no caller sends.
    Errors,
    /// It takes many times as long.
    Slow,
    /// What it says is no number.
    NotFinite,
    /// Its scores are higher than the old ones.
    Shifted,
    /// Its file ends in the middle.
    Broken,
    /// Its columns are not those that its file was trained on.
    WrongSchema,
    /// Its file says that it is larger than memory.
    TooLarge,
    /// Nobody asks.
    NoTraffic,
}

const BAD: [Release; 8] = [
    Release::Errors,
    Release::Slow,
    Release::NotFinite,
    Release::Shifted,
    Release::Broken,
    Release::WrongSchema,
    Release::TooLarge,
    Release::NoTraffic,
];

/// The two files of a release.
fn files(release: Release) -> [(&'static str, String); 2] {
    let good = [(0.3, 0.6), (0.05, 0.15)];
    let (columns, text): (&[&str], String) = match release {
        Release::Good | Release::NoTraffic => (&["x", "y"], booster(&[(0.3, 0.6), (0.05, 0.151)], 2)),
        Release::Errors => (&["x", "z"], booster(&good, 2).replace("feature_names=x y", "feature_names=x z")),
        Release::Slow => {
            let zeros = std::iter::repeat_n((0.0, 0.0), 200_000);
            (&["x", "y"], booster(&good.into_iter().chain(zeros).collect::<Vec<_>>(), 2))
        }
        Release::NotFinite => (&["x", "y"], booster(&[(1.7e308, 1.7e308), (1.7e308, 1.7e308)], 2)),
        Release::Shifted => (&["x", "y"], booster(&[(0.6, 0.75), (0.05, 0.15)], 2)),
        Release::Broken => (&["x", "y"], booster(&good, 2)[..400].to_owned()),
        Release::WrongSchema => (&["x", "y", "z"], booster(&good, 2)),
        Release::TooLarge => (&["x", "y"], booster(&good, 2_000_000_000)),
    };
    [("MLmodel", mlmodel(columns)), ("model.lgb", text)]
}

/// Registers a release and points the alias to it, as a client does.
fn release(server: &Server, release: Release) {
    let files = files(release).map(|(key, text)| (key, text.into_bytes()));
    boosters::point(server, "risk", &boosters::register(server, "risk", &files));
}

/// Rows that callers asked about, those that were not answered well by version 1, and requests without an answer.
#[derive(Default)]
struct Felt {
    rows: AtomicU64,
    touched: AtomicU64,
    failed: AtomicU64,
}

/// Asks until it is told to stop.
fn call(url: &str, seed: u64, stop: &AtomicBool, felt: &Felt) {
    let client = client();
    let mut state = seed * 2 + 1;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as f64 / f64::from(u32::MAX >> 1) * 20.0 - 10.0
    };
    let began = Instant::now();
    for number in 0.. {
        if stop.load(SeqCst) {
            return;
        }
        let due = Duration::from_micros(number * 1_000_000 / RATE);
        std::thread::sleep(due.saturating_sub(began.elapsed()));
        let rows: Vec<Value> = (0..ROWS).map(|_| json!({ "x": next(), "y": next() })).collect();
        let answer =
            client.post(format!("{url}/predict/risk")).json(&json!({ "rows": rows })).send().and_then(reqwest::blocking::Response::json);
        felt.rows.fetch_add(ROWS, SeqCst);
        let Ok(answer): Result<Value, _> = answer else {
            felt.failed.fetch_add(1, SeqCst);
            continue;
        };
        let Some(predictions) = answer["predictions"].as_array() else {
            felt.failed.fetch_add(1, SeqCst);
            continue;
        };
        let well = |p: &&Value| p["error"].is_null() && p["score"].is_number() && p["model"].as_str().is_some_and(|m| m.ends_with("@1"));
        felt.touched.fetch_add(ROWS - predictions.iter().filter(well).count() as u64, SeqCst);
    }
}

/// How a release ended.
#[derive(Debug, PartialEq)]
enum End {
    Completed,
    Aborted,
    Paused,
    Refused,
}

fn ended(server: &Server) -> Option<(End, String)> {
    let (_, runs) = server.get("/api/v1/runs?stage=deploy&limit=50");
    let runs: Value = serde_json::from_str(&runs).ok()?;
    runs["runs"].as_array()?.iter().find_map(|run| {
        let summary = run["summary"].as_str()?;
        let end = match () {
            () if summary.contains("completed its rollout") => End::Completed,
            () if summary.contains("aborted") => End::Aborted,
            () if summary.contains("paused") => End::Paused,
            () if run["status"] == "failed" => End::Refused,
            () => return None,
        };
        Some((end, summary.to_owned()))
    })
}

/// Releases one version after a good one, under load; what came of it, and the part of the rows that felt it.
fn released(kind: Release, rollout: &str) -> (End, String, f64) {
    let project = Project::empty();
    let endpoint =
        format!("model = \"mlflow:risk@champion\"\nrollout = {{ {rollout}, at_least = 200, patience = \"5s\", abort = \"{ABORT}\" }}\n");
    project.write("gristmill.toml", &format!("project = \"releases\"\n\n[endpoints.risk]\n{endpoint}"));
    let server = project.start(&["dev", "--port", "0"]);
    release(&server, Release::Good);
    server.wait_for("version 1", 30, |s| (s.post("/predict/risk", &json!({ "x": 1.0, "y": 1.0 })).0 == 200).then_some(()));
    let (stop, felt) = (AtomicBool::new(false), Felt::default());
    let (end, summary) = std::thread::scope(|scope| {
        for seed in 0..CALLERS {
            let (url, stop, felt) = (server.url.as_str(), &stop, &felt);
            scope.spawn(move || {
                if kind != Release::NoTraffic {
                    call(url, seed, stop, felt)
                }
            });
        }
        std::thread::sleep(Duration::from_secs(2));
        release(&server, kind);
        let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| server.wait_for("the end of the release", 60, ended)));
        std::thread::sleep(Duration::from_secs(1));
        stop.store(true, SeqCst);
        ended.unwrap_or_else(|_| panic!("{kind:?} by {rollout} came to no end"))
    });
    let (rows, touched, failed) = (felt.rows.load(SeqCst), felt.touched.load(SeqCst), felt.failed.load(SeqCst));
    assert_eq!(failed, 0, "{kind:?} by {rollout}: requests without an answer\n{}", server.log());
    // A paused canary keeps its share until somebody decides.
    if matches!(end, End::Aborted | End::Refused) {
        let (_, answer) = server.post("/predict/risk", &json!({ "x": 1.0, "y": 1.0 }));
        assert!(answer["predictions"][0]["model"].as_str().is_some_and(|m| m.ends_with("@1")), "{kind:?}: {summary}: {answer}");
    }
    server.stop();
    (end, summary, touched as f64 / rows.max(1) as f64)
}

#[test]
fn the_page_about_releases_shows_a_project_that_is_right() {
    let page = std::fs::read_to_string(gristmill_tests::folder().join("../docs/releases.md")).expect("the page");
    let blocks: Vec<&str> = page.split("```toml\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
    assert!(!blocks.is_empty(), "the page shows no project");
    for block in blocks {
        let project = if block.contains("project =") {
            let project = Project::empty();
            project.write("gristmill.toml", block);
            project
        } else {
            // A part of a project: it takes the place of the shop's endpoint.
            let project = Project::shop();
            project.write("labels/bought.sql", BOUGHT);
            project.edit("gristmill.toml", "[endpoints.buys]\nmodel = \"buys\"\n", block);
            project
        };
        project.run(&["check"]).good();
    }
}

#[test]
#[ignore = "takes minutes: cargo test -- --include-ignored"]
fn bad_releases_hurt_nobody_and_good_ones_go_through() {
    let times = std::env::var(TIMES).ok().and_then(|times| times.parse().ok()).unwrap_or(1);
    let kinds = BAD.into_iter().flat_map(|kind| [kind, Release::Good]);
    let jobs: Vec<(Release, &str, &str)> =
        kinds.flat_map(|kind| STRATEGIES.map(|(name, rollout)| (kind, name, rollout))).cycle().take(times * 2 * 2 * BAD.len()).collect();
    let (next, wrong) = (AtomicU64::new(0), std::sync::Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while let Some((kind, name, rollout)) = jobs.get(next.fetch_add(1, SeqCst) as usize) {
                    let (end, summary, touched) = released(*kind, rollout);
                    println!("{kind:?} by {name}: {end:?}, {:.2} % touched: {summary}", touched * 100.0);
                    let good = match kind {
                        Release::Good => end == End::Completed,
                        _ => end != End::Completed && touched <= TOUCHED_MAX,
                    };
                    if !good {
                        wrong.lock().expect("a lock").push(format!("{kind:?} by {name}: {end:?}, {touched}: {summary}"));
                    }
                }
            });
        }
    });
    let wrong = wrong.into_inner().expect("a lock");
    assert!(wrong.is_empty(), "{wrong:#?}");
}
