//! The request plane, driven through its routes.

pub(crate) mod bench;
mod feast;
mod fuzz;
mod grpc;
mod registered;
mod rows;
mod shadow;
mod v2;

use bench::{Bench, model, model_file};
use gristmill_kernel::port::LiveFigures;
use gristmill_kernel::prediction::Arm;
use gristmill_kernel::version::Which;
use gristmill_kernel::{Code, Kind, Name, RunStatus, Span, Timestamp};
use gristmill_web::Permission;
use serde_json::json;
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;

async fn served() -> Bench {
    let bench = Bench::new().await;
    bench.train(&model_file("activity", 1.0)).await;
    bench.deploy(1, None).await;
    bench
}

fn churn() -> Name {
    Name::new("churn").expect("a name")
}

#[tokio::test]
async fn a_prediction_is_answered_logged_and_becomes_a_version() {
    let bench = served().await;
    let (status, body) = bench.post("/predict/churn", json!({ "rows": [{ "customer_id": 7 }, { "customer_id": 0 }] })).await;
    assert_eq!(status, 200, "{body}");
    let first = &body["predictions"][0];
    assert_eq!(
        (first["score"].as_f64(), first["model"].as_str(), first["arm"].as_str()),
        (Some(7.25), Some("models.churn@1"), Some("stable"))
    );
    assert_eq!((first["feature_age_seconds"].as_f64(), first.get("features")), (Some(60.0), None));
    assert_eq!(body["predictions"][1]["feature_age_seconds"], json!(null), "an entity without rows has no age");
    assert_eq!(body["as_of"], "2011-09-01T00:00:00Z");
    assert_eq!(bench.plane.flush().await.expect("flushes"), 2);
    assert_eq!(bench.plane.flush().await.expect("again"), 0);
    assert_eq!(bench.tables.column("predictions__churn", "entity"), [r#"{"customer_id":7}"#, r#"{"customer_id":0}"#]);
    assert_eq!(bench.tables.column("predictions__churn", "features")[0], r#"{"activity.country":"France","activity.orders":7.0}"#);
    assert_eq!(bench.tables.column("predictions__churn", "prediction_id")[0], first["prediction_id"].as_str().expect("an id"));
    let asset = "predictions.churn".parse().expect("an address");
    let version = bench.ports.ledger.version(&asset, &Which::Latest).await.expect("reads").expect("a version");
    let run = bench.ports.ledger.run(&version.run).await.expect("reads").expect("a run");
    let inputs: Vec<String> = run.inputs.iter().map(ToString::to_string).collect();
    assert_eq!((version.rows, run.status, inputs.join(" ")), (Some(2), RunStatus::Succeeded, "endpoints.churn@1 models.churn@1".into()));
}

#[tokio::test]
async fn the_log_says_what_features_were_based_on_and_loses_no_bit() {
    let bench = served().await;
    bench.post("/predict/churn", json!({ "customer_id": 7 })).await;
    bench.reader.infinite.store(true, SeqCst);
    let (_, body) = bench.post("/predict/churn", json!({ "customer_id": 8, "explain": true })).await;
    assert_eq!(body["predictions"][0]["features"]["activity.orders"], json!(null), "an answer is plain JSON: {body}");
    bench.plane.flush().await.expect("flushes");
    let column = |name: &str| bench.tables.column("predictions__churn", name);
    assert_eq!(column("features")[1], r#"{"activity.country":"France","activity.orders":"-inf"}"#);
    let basis = |load: u64| format!(r#"{{"views":{{"activity":{{"version":3,"tables":{{"events":{{"generation":0,"load":{load}}}}}}}}}}}"#);
    assert_eq!((column("based_on"), column("format")), (vec![basis(1), basis(2)], vec!["2".to_owned(), "2".to_owned()]));
    // Features that the caller sends are based on nothing of ours.
    let inputs = json!([
        { "name": "activity.orders", "datatype": "FP64", "shape": [1], "data": [7.0] },
        { "name": "activity.country", "datatype": "BYTES", "shape": [1], "data": ["France"] },
    ]);
    let (status, body) = bench.post("/v2/models/churn/infer", json!({ "inputs": inputs })).await;
    assert_eq!(status, 200, "{body}");
    bench.plane.flush().await.expect("flushes");
    assert_eq!(column("based_on")[2], "null");
}

#[tokio::test]
async fn explain_adds_features_and_exact_contributions() {
    let bench = served().await;
    let (_, body) = bench.post("/predict/churn", json!({ "customer_id": 3, "explain": true, "as_of": "2011-01-01" })).await;
    let row = &body["predictions"][0];
    assert_eq!(row["contributions"], json!({ "activity.country": 0.25, "activity.orders": 3.0 }));
    assert_eq!(row["contributions_base"], json!(0.0), "the intercept");
    assert_eq!((row["contributions_method"].as_str(), &row["features"]["activity.country"]), (Some("linear"), &json!("France")));
    assert_eq!(body["as_of"], "2011-01-01T00:00:00Z");
}

#[tokio::test]
async fn wrong_requests_say_what_to_do() {
    let bench = served().await;
    for (path, body, status, code, part) in [
        ("/predict/fraud", json!({ "customer_id": 1 }), 404, "E0501", "endpoints are `churn`"),
        ("/predict/churn", json!({ "country": "France" }), 400, "E0502", "row 0 lacks `customer_id`"),
        ("/predict/churn", json!({ "rows": [{ "customer_id": 1 }, { "customer_id": null }] }), 400, "E0502", "row 1 lacks `customer_id`"),
        ("/predict/churn", json!({ "rows": [] }), 400, "E0502", "no rows"),
        (
            "/predict/churn",
            json!({ "rows": [{ "customer_id": 1 }, { "customer_id": "x" }] }),
            400,
            "E0504",
            "a number in row 0 and text in row 1",
        ),
        ("/predict/churn", json!({ "customer_id": [1] }), 400, "E0504", "not a plain value"),
        ("/predict/churn", json!({ "customer_id": 1, "as_of": "tuesday" }), 400, "E0104", "is not a moment"),
        ("/predict/churn", json!({ "rows": vec![json!({ "customer_id": 1 }); 10_001] }), 413, "E0503", "10001 rows"),
    ] {
        let (got, answer) = bench.post(path, body).await;
        assert_eq!((got, answer["code"].as_str()), (status, Some(code)), "{answer}");
        assert!(answer.to_string().contains(part), "{answer} lacks {part}");
        assert!(answer["fix"].as_str().is_some_and(|fix| !fix.is_empty()), "{answer}");
    }
    let large = vec![b' '; gristmill_kernel::limits::BODY_BYTES_MAX + 1];
    assert_eq!(bench.send("POST", "/predict/churn", &[], large).await.0, 413);
    assert_eq!(bench.plane.flush().await.expect("flushes"), 0, "nothing of these was predicted");
}

#[tokio::test]
async fn every_route_that_is_not_public_has_a_denied_case() {
    let bench = served().await;
    for route in crate::routes(bench.plane.clone()).iter() {
        assert!(!route.about.is_empty(), "{} says nothing about itself", route.path);
        let path = route.path.replace("{version}", "1").replace("{endpoint}", "churn").replace("{model}", "churn");
        let request = gristmill_web::Request::builder().method(route.method.clone()).uri(path).header("host", "localhost");
        let response = bench.app.handle(request.body(gristmill_web::Body::empty()).expect("a request")).await;
        assert_eq!(response.status() == 401, route.permission != Permission::Public, "{} {}", route.method, route.path);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_swap_under_load_drops_nothing_and_never_mixes_versions() {
    let bench = Arc::new(served().await);
    for weight in 2..=6 {
        bench.train(&model_file("activity", f64::from(weight))).await;
    }
    let stop = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let clients: Vec<_> = (0..4)
        .map(|client| {
            let (bench, stop) = (bench.clone(), stop.clone());
            tokio::spawn(async move {
                let mut answered = 0;
                while !stop.load(SeqCst) {
                    let (status, body) = bench.post("/predict/churn", json!({ "customer_id": client + 1 })).await;
                    assert_eq!(status, 200, "{body}");
                    let row = &body["predictions"][0];
                    let version: f64 =
                        row["model"].as_str().and_then(|m| m.rsplit('@').next()).and_then(|n| n.parse().ok()).expect("a version");
                    assert_eq!(
                        row["score"].as_f64(),
                        Some(version * f64::from(client + 1) + 0.25),
                        "the model named is the model that answered"
                    );
                    answered += 1;
                }
                answered
            })
        })
        .collect();
    for number in [2, 3, 4, 5, 6, 1, 6] {
        bench.deploy(number, None).await;
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    stop.store(true, SeqCst);
    let mut answered = 0;
    for client in clients {
        answered += client.await.expect("a client");
    }
    assert!(answered > 0);
    assert_eq!(bench.plane.flush().await.expect("flushes"), answered, "each answer is logged once");
}

#[tokio::test]
async fn a_canary_gets_its_share_and_an_entity_keeps_its_arm() {
    let bench = served().await;
    bench.train(&model_file("activity", 2.0)).await;
    bench.deploy(1, Some((2, 200))).await;
    let rows: Vec<_> = (0..2_000).map(|id| json!({ "customer_id": id })).collect();
    let (_, first) = bench.post("/predict/churn", json!({ "rows": rows })).await;
    let (_, second) = bench.post("/predict/churn", json!({ "rows": rows })).await;
    let arms = |body: &serde_json::Value| -> Vec<String> {
        body["predictions"].as_array().expect("rows").iter().map(|p| p["arm"].as_str().expect("an arm").to_owned()).collect()
    };
    assert_eq!(arms(&first), arms(&second));
    let canary = arms(&first).iter().filter(|arm| *arm == "canary").count();
    assert!((330..470).contains(&canary), "{canary} of 2000");
    for (id, row) in first["predictions"].as_array().expect("rows").iter().enumerate() {
        let weight = if row["arm"] == "canary" { 2.0 } else { 1.0 };
        assert_eq!(row["score"].as_f64(), Some(weight * id as f64 + 0.25));
    }
    let figures = bench.plane.figures(&churn(), Timestamp::from_micros(0)).expect("served");
    assert_eq!((figures[&Arm::Canary].rows, figures[&Arm::Canary].model.clone()), (2 * canary as u64, model(2)));
    assert_eq!(figures[&Arm::Stable].rows, 2 * (2_000 - canary as u64));
    assert!(bench.plane.metrics().contains("gristmill_canary_share{endpoint=\"churn\"} 0.2"));
}

#[tokio::test]
async fn a_bad_canary_hurts_nobody_and_is_counted() {
    let bench = served().await;
    bench.train(&model_file("activity", 1e308)).await;
    bench.deploy(1, Some((2, 1_000))).await;
    let (status, body) = bench.post("/predict/churn", json!({ "customer_id": 50 })).await;
    let row = &body["predictions"][0];
    assert_eq!((status, row["score"].as_f64(), row["model"].as_str()), (200, Some(50.25), Some("models.churn@1")));
    let figures = bench.plane.figures(&churn(), Timestamp::from_micros(0)).expect("served");
    assert_eq!((figures[&Arm::Canary].rows, figures[&Arm::Canary].errors, figures[&Arm::Stable].rows), (1, 1, 0));
    bench.plane.flush().await.expect("flushes");
    let error = &bench.tables.column("predictions__churn", "error")[0];
    assert!(error.contains("canary models.churn@2") && error.contains("inf"), "{error}");
    assert_eq!(bench.tables.column("predictions__churn", "arm"), ["canary"]);
}

#[tokio::test]
async fn a_canary_whose_own_view_is_away_or_slow_hurts_nobody() {
    let bench = served().await;
    bench.train(&model_file("extra", 2.0)).await;
    bench.deploy(1, Some((2, 1_000))).await;
    let ask = || bench.post("/predict/churn", json!({ "customer_id": 4 }));
    assert_eq!(ask().await.1["predictions"][0]["score"].as_f64(), Some(8.25));
    bench.reader.extra_broken.store(true, SeqCst);
    assert_eq!(ask().await.1["predictions"][0]["score"].as_f64(), Some(4.25));
    // What both arms share is not the canary's fault.
    bench.reader.broken.store(true, SeqCst);
    assert_eq!(ask().await.0, 503);
    let figures = bench.plane.figures(&churn(), Timestamp::from_micros(0)).expect("served");
    assert_eq!((figures[&Arm::Canary].errors, figures[&Arm::Stable].errors), (1, 1));
}

#[tokio::test]
async fn a_row_without_a_finite_score_is_an_error_of_that_row() {
    let bench = Bench::new().await;
    bench.train(&model_file("activity", 1e308)).await;
    bench.deploy(1, None).await;
    let (status, body) = bench.post("/predict/churn", json!({ "rows": [{ "customer_id": 1 }, { "customer_id": 900 }] })).await;
    assert_eq!((status, body["predictions"][0]["score"].as_f64(), &body["predictions"][1]["score"]), (200, Some(1e308), &json!(null)));
    assert!(body["predictions"][1]["error"].is_string());
}

#[tokio::test]
async fn a_deployment_that_cannot_be_loaded_leaves_the_old_one_answering() {
    let bench = served().await;
    assert_eq!(bench.get("/readyz").await.0, 200);
    bench.train(&model_file("gone", 2.0)).await;
    // A model whose column the view does not give.
    let mut file = model_file("activity", 3.0);
    file.features[0].column = "spend".into();
    bench.train(&file).await;
    for number in [3, 99] {
        bench.deploy(number, None).await;
        assert_eq!(bench.post("/predict/churn", json!({ "customer_id": 4 })).await.1["predictions"][0]["model"], "models.churn@1");
        let health = bench.plane.health();
        assert!(health.ready && health.broken.contains_key(&churn()), "{health:?}");
    }
    assert!(bench.plane.health().broken[&churn()].contains("models.churn@99 does not exist"));
    bench.deploy(1, None).await;
    assert!(bench.plane.health().broken.is_empty());
    bench.plane.drain();
    assert_eq!(bench.get("/readyz").await, (503, json!({ "status": "stopping", "endpoints": 1 })));
    assert_eq!(bench.post("/predict/churn", json!({ "customer_id": 4 })).await.0, 200, "requests are answered while draining");
}

#[tokio::test]
async fn a_plane_that_starts_with_something_broken_is_not_ready() {
    let bench = Bench::new().await;
    assert_eq!(bench.get("/readyz").await.0, 503, "nothing was loaded yet");
    bench.plane.refresh().await.expect("refreshes");
    assert_eq!(bench.get("/readyz").await.0, 200, "nothing is deployed");
    bench.deploy(1, None).await;
    assert_eq!(bench.get("/readyz").await.0, 503);
    assert_eq!(bench.post("/predict/churn", json!({ "customer_id": 4 })).await.1["code"], "E0508");
    bench.train(&model_file("activity", 1.0)).await;
    bench.train(&model_file("activity", 2.0)).await;
    bench.plane.refresh().await.expect("refreshes");
    assert_eq!(bench.get("/readyz").await.0, 200, "it came back by itself");
}

#[tokio::test]
async fn a_full_log_refuses_early_and_loses_nothing() {
    let bench = Bench::with_room(3).await;
    bench.train(&model_file("activity", 1.0)).await;
    bench.deploy(1, None).await;
    let ask = |rows: usize| json!({ "rows": vec![json!({ "customer_id": 1 }); rows] });
    assert_eq!(bench.post("/predict/churn", ask(2)).await.0, 200);
    let reads = bench.reader.reads.load(SeqCst);
    let (status, headers, body) = bench.send("POST", "/predict/churn", &[], ask(2).to_string().into_bytes()).await;
    assert_eq!((status, headers["retry-after"].to_str().ok()), (429, Some("1")), "{}", String::from_utf8_lossy(&body));
    assert_eq!(bench.reader.reads.load(SeqCst), reads, "refused before any work");
    bench.tables.full.store(true, SeqCst);
    assert_eq!(bench.plane.flush().await.expect_err("full").code, Code::DISK_FULL);
    assert!(bench.plane.health().log.is_some());
    assert_eq!(bench.post("/predict/churn", ask(1)).await.0, 200, "one place was left");
    assert_eq!(bench.post("/predict/churn", ask(1)).await.0, 429);
    bench.tables.full.store(false, SeqCst);
    assert_eq!(bench.plane.flush().await.expect("room") + bench.plane.flush().await.expect("room"), 3);
    assert_eq!(bench.post("/predict/churn", ask(3)).await.0, 200);
}

#[tokio::test]
async fn a_flush_whose_answer_was_lost_writes_nothing_twice() {
    let bench = served().await;
    for id in 0..5 {
        bench.post("/predict/churn", json!({ "customer_id": id })).await;
    }
    bench.tables.ambiguous.store(true, SeqCst);
    assert!(bench.plane.flush().await.is_err());
    bench.post("/predict/churn", json!({ "customer_id": 5 })).await;
    let written = bench.plane.flush().await.expect("flushes") + bench.plane.flush().await.expect("flushes");
    assert_eq!((written, bench.tables.column("predictions__churn", "entity").len()), (6, 6));
}

#[tokio::test]
async fn too_much_at_once_and_too_slow_are_told_apart() {
    let bench = Bench::new().await;
    bench.train(&model_file("activity", 1.0)).await;
    bench.spec.lock().expect("a lock").in_flight = 1;
    bench.spec.lock().expect("a lock").timeout = Span::from_millis(300);
    bench.deploy(1, None).await;
    bench.reader.delay_ms.store(100, SeqCst);
    let ask = || bench.post("/predict/churn", json!({ "customer_id": 1 }));
    let ((first, _), (second, body)) = tokio::join!(ask(), ask());
    assert_eq!((first, second, body["code"].as_str()), (200, 429, Some("E0507")));
    bench.reader.delay_ms.store(2_000, SeqCst);
    let (status, body) = ask().await;
    assert_eq!((status, body["code"].as_str()), (504, Some("E0703")));
    bench.reader.delay_ms.store(0, SeqCst);
    assert_eq!(ask().await.0, 200, "a request that timed out gave its place back");
    assert!(Kind::Timeout.is_transient());
}

#[tokio::test]
async fn rows_asked_at_the_same_time_are_computed_once() {
    let bench = Bench::new().await;
    bench.train(&model_file("activity", 1.0)).await;
    {
        let mut spec = bench.spec.lock().expect("a lock");
        (spec.cache, spec.in_flight, spec.timeout) = (Some(Span::from_secs(600)), 100, Span::from_secs(2));
    }
    bench.deploy(1, None).await;
    let ask = |customers: &[u64]| {
        let rows: Vec<_> = customers.iter().map(|customer| json!({ "customer_id": customer })).collect();
        bench.post("/predict/churn", json!({ "rows": rows }))
    };
    let scores = |body: &serde_json::Value| {
        body["predictions"].as_array().expect("a list").iter().map(|p| p["score"].as_f64().expect("a score")).collect::<Vec<_>>()
    };
    // Eight of the same row, which one of them reads.
    bench.reader.delay_ms.store(100, SeqCst);
    let answers = futures::future::join_all((0..8).map(|_| ask(&[1]))).await;
    assert!(answers.iter().all(|(status, body)| *status == 200 && scores(body) == [1.25]), "{answers:?}");
    assert_eq!(bench.reader.reads.load(SeqCst), 1);
    let ids: std::collections::BTreeSet<_> = answers.iter().map(|(_, body)| body["predictions"][0]["prediction_id"].to_string()).collect();
    assert_eq!(ids.len(), 8, "each is a prediction of its own");
    // Each has a row that the other waits for, and one of its own twice.
    let ((_, one), (_, other), (_, twice)) = tokio::join!(ask(&[2, 3]), ask(&[4, 3, 2]), ask(&[4, 5, 5]));
    assert_eq!((scores(&one), scores(&other), scores(&twice)), (vec![2.25, 3.25], vec![4.25, 3.25, 2.25], vec![4.25, 5.25, 5.25]));
    assert_eq!(bench.reader.reads.load(SeqCst), 4);
    // Whoever was first gives up: those who waited compute it themselves.
    bench.reader.delay_ms.store(200, SeqCst);
    let first = tokio::time::timeout(std::time::Duration::from_millis(50), ask(&[6]));
    let second = async {
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        ask(&[6]).await
    };
    let (first, (status, body)) = tokio::join!(first, second);
    assert!(first.is_err() && status == 200 && scores(&body) == [6.25], "{body}");
    assert_eq!(bench.reader.reads.load(SeqCst), 6);
    let page = bench.plane.metrics();
    for line in [
        "gristmill_prediction_cache_rows_total{endpoint=\"churn\",outcome=\"hit\"} 0",
        "gristmill_prediction_cache_rows_total{endpoint=\"churn\",outcome=\"coalesced\"} 11",
        "gristmill_prediction_cache_rows_total{endpoint=\"churn\",outcome=\"miss\"} 6",
    ] {
        assert!(page.contains(line), "{line} is not in {page}");
    }
    assert_eq!(bench.plane.flush().await.expect("flushes"), 17, "all of them are logged");
}

#[tokio::test]
async fn a_cached_answer_is_given_again_until_its_time_is_over() {
    let bench = Bench::new().await;
    bench.train(&model_file("activity", 1.0)).await;
    bench.train(&model_file("activity", 2.0)).await;
    bench.spec.lock().expect("a lock").cache = Some(Span::from_secs(600));
    bench.deploy(1, None).await;
    let ask = |body: serde_json::Value| bench.post("/predict/churn", body);
    let one = json!({ "customer_id": 1 });
    let (_, first) = ask(one.clone()).await;
    bench.clock.advance(Span::from_secs(599));
    let (_, second) = ask(one.clone()).await;
    assert_eq!(bench.reader.reads.load(SeqCst), 1, "the second answer was kept");
    assert_eq!(second["predictions"][0]["as_of"], first["predictions"][0]["as_of"], "it says when it was true");
    assert_ne!(second["predictions"][0]["prediction_id"], first["predictions"][0]["prediction_id"]);
    ask(json!({ "customer_id": 1, "note": "x" })).await;
    ask(json!({ "customer_id": 1, "explain": true })).await;
    ask(json!({ "customer_id": 1, "as_of": "2011-08-01" })).await;
    assert_eq!(bench.reader.reads.load(SeqCst), 4, "other fields, explanations and moments are not the same question");
    bench.clock.advance(Span::from_secs(1));
    ask(one.clone()).await;
    assert_eq!(bench.reader.reads.load(SeqCst), 5, "its time is over");
    bench.deploy(2, None).await;
    assert_eq!(ask(one).await.1["predictions"][0]["score"].as_f64(), Some(2.25), "another version has its own answers");
    assert_eq!(bench.plane.flush().await.expect("flushes"), 7, "kept answers are logged too");
}
