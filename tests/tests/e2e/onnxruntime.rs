//! A graph with an operator that gristmill has not of its own answers by ONNX Runtime, whose library comes out of its package.

use gristmill_tests::clients::python;
use gristmill_tests::{Project, Server, boosters};
use serde_json::{Value, json};
use std::process::Command;

const PROJECT: &str = "project = \"registered\"\n\n[endpoints.upsell]\nmodel = \"mlflow:Upsell@champion\"\n";
/// Beside it, one of several inputs that takes one row at a time.
const SLOTS: &str = "\n[endpoints.slots]\nmodel = \"mlflow:Slots@champion\"\n";

fn golden(name: &str) -> Vec<u8> {
    let folder = gristmill_tests::folder().join("../crates/serve/testdata/foreign");
    std::fs::read(folder.join(name)).expect(name)
}

/// The library of the package as PyPI has it.
fn library() -> String {
    let find = "import glob, onnxruntime; print(glob.glob(onnxruntime.__path__[0] + '/capi/libonnxruntime.so.*')[0])";
    let ran = Command::new(python("onnxruntime")).args(["-c", find]).output().expect("python starts");
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    String::from_utf8_lossy(&ran.stdout).trim().to_owned()
}

/// What doctor finds about it.
fn found(project: &Project) -> Value {
    let all = project.run(&["doctor", "--json"]).json();
    all["found"].as_array().expect("findings").iter().find(|f| f["what"] == "onnxruntime").expect("one about it").clone()
}

fn register(server: &Server, model: &str, file: &str) {
    let flavor = b"flavors:\n  onnx:\n    data: model.onnx\n".to_vec();
    let version = boosters::register(server, model, &[("MLmodel", flavor), ("model.onnx", golden(file))]);
    boosters::point(server, model, &version);
}

/// An endpoint says what ONNX Runtime said in Python, to rows together and to each alone.
fn predicts(server: &Server, endpoint: &str, case: &str) {
    let case: Value = serde_json::from_slice(&golden(&format!("{case}.json"))).expect("json");
    let list = |key: &str| case[key].as_array().expect(key).clone();
    let column = |i: usize| case["columns"][i].as_str().map_or_else(|| format!("x{i}"), str::to_owned);
    let row = |row: &Value| Value::Object(row.as_array().expect("a row").iter().enumerate().map(|(i, x)| (column(i), x.clone())).collect());
    let rows: Vec<Value> = list("rows").iter().map(row).collect();
    let expected: Vec<f64> = list("predictions").iter().map(|p| p[0].as_f64().expect("a number")).collect();
    let answered = |s: &Server, rows: &[Value]| {
        let (status, answer) = s.post(&format!("/predict/{endpoint}"), &json!({ "rows": rows }));
        let predictions = answer["predictions"].as_array().filter(|_| status == 200)?.clone();
        Some(predictions.iter().map(|p| p["score"].as_f64().expect("a score")).collect::<Vec<f64>>())
    };
    let together = server.wait_for("the endpoint", 30, |s| answered(s, &rows));
    assert_eq!(together.len(), expected.len());
    let alone = std::thread::scope(|scope| {
        let each: Vec<_> = rows.chunks(1).map(|row| scope.spawn(|| answered(server, row).expect("an answer")[0])).collect();
        each.into_iter().map(|thread| thread.join().expect("a thread")).collect::<Vec<f64>>()
    });
    for ((together, alone), expected) in together.into_iter().zip(alone).zip(expected) {
        assert!(
            [together, alone].iter().all(|score| (score - expected).abs() <= 1e-6 * expected.abs().max(1.0)),
            "{together} and {alone}, not {expected}"
        );
    }
}

/// What ONNX has no value for: a whole number or a truth that is missing, or a part of one. A fraction may be missing.
fn refuses(server: &Server) {
    let row = |n: Value, d: Value, b: Value| json!({ "a0": 0.5, "a1": -0.25, "n": n, "d": d, "b": b });
    for (n, b, what) in
        [(json!(1), Value::Null, "`b` is missing"), (Value::Null, json!(true), "`n` is missing"), (json!(1.5), json!(true), "`n` is 1.5")]
    {
        let (status, answer) =
            server.post("/predict/slots", &json!({ "rows": [row(json!(1), json!(0.5), json!(true)), row(n, json!(0.5), b)] }));
        let said = answer.to_string();
        assert!(status == 400 && said.contains(what) && said.contains("nothing else"), "{status} {said}");
    }
    let (status, answer) = server.post("/predict/slots", &json!({ "rows": [row(json!(1), Value::Null, json!(true))] }));
    assert!(status == 200 && answer["predictions"][0]["error"].is_string(), "a sum with NaN is no score: {status} {answer}");
}

#[test]
#[ignore = "needs Python and PyPI: cargo test -- --include-ignored"]
fn a_graph_of_other_operators_answers_by_onnx_runtime() {
    let mut project = Project::empty();
    project.write("gristmill.toml", PROJECT);
    assert!(found(&project)["text"].as_str().is_some_and(|text| text.starts_with("not given")));

    // Without the library it is refused, with the way to get one.
    let server = project.start(&["dev", "--port", "0"]);
    register(&server, "Upsell", "onnx_beyond.onnx");
    let told = |_: &Server| Some(project.run(&["logs", "--json"]).out).filter(|out| out.contains("E0511"));
    let refusal = server.wait_for("the refusal in the logs", 30, told);
    assert!(refusal.contains("ORT_DYLIB_PATH"), "{refusal}");
    server.stop();

    // A library that is none says so, and doctor too.
    project.set("ORT_DYLIB_PATH", "gristmill.toml");
    let none = found(&project);
    assert!(none["good"] == false && none["fix"].as_str().is_some_and(|fix| fix.contains("libonnxruntime.so")), "{none}");

    project.set("ORT_DYLIB_PATH", &library());
    assert_eq!(found(&project)["good"], true, "{}", found(&project));
    let server = project.start(&["dev", "--port", "0"]);
    predicts(&server, "upsell", "onnx_beyond");
    server.stop();

    project.write("gristmill.toml", &format!("{PROJECT}{SLOTS}"));
    let server = project.start(&["dev", "--port", "0"]);
    register(&server, "Slots", "onnx_beyond_slots.onnx");
    predicts(&server, "slots", "onnx_beyond_slots");
    refuses(&server);
    server.stop();
}
