//! Golden models: what is read from the libraries' own files predicts what the libraries predict. `testdata/make.py` makes them.

use super::*;
use crate::model::LoadedModel;
use crate::plan::Row;
use gristmill_kernel::Digest;
use gristmill_kernel::model::Task;
use gristmill_kernel::version::{Place, Version};
use gristmill_kernel::{RunId, Timestamp};
use gristmill_store::memory::MemoryBlobs;
use serde_json::Value;
use std::path::PathBuf;

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("testdata/foreign")
}
fn golden(file: &str) -> Vec<u8> {
    std::fs::read(folder().join(file)).expect(file)
}

/// The cases of a kind: name, and what `make.py` wrote.
fn cases(kind: &str) -> Vec<(String, Value)> {
    let mut cases: Vec<(String, Value)> = std::fs::read_dir(folder())
        .expect("the golden files")
        .map(|entry| entry.expect("an entry").file_name().into_string().expect("a name"))
        .filter(|name| name.ends_with(".json") && !name.ends_with(".model.json") && !name.contains("refused"))
        .map(|name| (name.clone(), serde_json::from_slice(&golden(&name)).expect("json")))
        .filter(|(_, case): &(String, Value)| case["kind"] == kind)
        .collect();
    cases.sort_by(|a, b| a.0.cmp(&b.0));
    cases
}

fn id() -> VersionRef {
    VersionRef { asset: "models.churn".parse().expect("an address"), number: 3 }
}

fn loaded(answering: Answering) -> LoadedModel {
    LoadedModel::of(id(), answering.shape, answering.runtime, Vec::new())
}

/// Asks for the case's rows as a caller would, and gives the largest difference.
fn difference(name: &str, model: &LoadedModel, case: &Value) -> f64 {
    let names: Vec<String> = match case["columns"].as_array() {
        Some(columns) => columns.iter().map(|c| c.as_str().expect("a name").to_owned()).collect(),
        None => model.shape.features.iter().map(|f| f.column.clone()).collect(),
    };
    let rows: Vec<Row> = case["rows"]
        .as_array()
        .expect("rows")
        .iter()
        .map(|row| names.iter().cloned().zip(row.as_array().expect("a row").iter().cloned()).collect())
        .collect();
    let rows: Vec<&Row> = rows.iter().collect();
    let matrix = model.encode(&model.request_columns(&rows).expect(name)).expect(name);
    let scored = model.score(&matrix, rows.len()).expect(name);
    let mut worst: f64 = 0.0;
    for (row, (scored, expected)) in scored.into_iter().zip(case["predictions"].as_array().expect("predictions")).enumerate() {
        let scored = scored.unwrap_or_else(|fault| panic!("{name}, row {row}: {fault}"));
        let expected: Vec<f64> = expected.as_array().expect("outputs").iter().map(|x| x.as_f64().expect("a number")).collect();
        // ONNX gives both probabilities of two classes; we are asked for the second.
        let expected = if expected.len() == 2 && scored.outputs.len() == 1 { &expected[1..] } else { &expected[..] };
        assert_eq!(scored.outputs.len(), expected.len(), "{name}");
        for (got, expected) in scored.outputs.iter().zip(expected) {
            worst = worst.max((got - expected).abs() / expected.abs().max(1.0));
        }
    }
    worst
}

fn task_of(case: &Value) -> Task {
    serde_json::from_value(case["task"].clone()).expect("a task")
}

#[test]
fn lightgbm_predicts_as_lightgbm() {
    let cases = cases("lightgbm");
    assert!(cases.len() >= 20, "{}", cases.len());
    for (name, case) in cases {
        let answering = read_lightgbm(&golden(case["file"].as_str().expect("a file")), &Flavor::default(), &Inputs::Unsaid);
        let model = loaded(answering.unwrap_or_else(|refused| panic!("{name}: {}", refused.why)));
        assert_eq!(model.shape.task, task_of(&case), "{name}");
        let worst = difference(&name, &model, &case);
        assert!(worst < 1e-15, "{name}: off by {worst}, but both compute in f64");
    }
}

#[test]
fn xgboost_predicts_as_xgboost() {
    let cases = cases("xgboost");
    assert!(cases.len() >= 30, "{}", cases.len());
    for (name, case) in cases {
        let class = if case["best"] == true { "xgboost.sklearn.XGBClassifier" } else { "xgboost.core.Booster" };
        let flavor =
            MlModel::read(format!("flavors:\n  xgboost:\n    model_class: {class}\n").as_bytes()).expect("reads").flavors.remove("xgboost");
        let answering = read_xgboost(&golden(case["file"].as_str().expect("a file")), &flavor.expect("there"), &Inputs::Unsaid);
        let model = loaded(answering.unwrap_or_else(|refused| panic!("{name}: {}", refused.why)));
        assert_eq!(model.shape.task, task_of(&case), "{name}");
        let worst = difference(&name, &model, &case);
        assert!(worst <= f64::from(f32::EPSILON), "{name}: off by {worst}, but both compute in f32");
    }
}

#[test]
fn onnx_predicts_as_onnxruntime() {
    let cases = cases("onnx");
    assert!(cases.len() >= 15, "{}", cases.len());
    for (name, case) in cases {
        if case["beyond"] == true && !cfg!(feature = "onnx") {
            continue;
        }
        let answering = read_onnx(&golden(case["file"].as_str().expect("a file")), &Flavor::default(), &Inputs::Unsaid);
        let model = loaded(answering.unwrap_or_else(|refused| panic!("{name}: {}; {}", refused.why, refused.fix)));
        assert_eq!(model.shape.task, task_of(&case), "{name}");
        if let Some(classes) = case["classes"].as_array() {
            assert_eq!(model.shape.classes, classes.iter().map(|c| c.as_str().expect("a word")).collect::<Vec<_>>(), "{name}");
        }
        // Sums of many products depend on their order, by which ONNX Runtime is free.
        let worst = difference(&name, &model, &case);
        assert!(worst <= 1e-5, "{name}: off by {worst}");
    }
}

/// A version with these files.
pub(super) struct Stored {
    pub(super) blobs: MemoryBlobs,
    pub(super) version: Version,
}

pub(super) async fn stored(files: &[(&str, Vec<u8>)]) -> Stored {
    let blobs = MemoryBlobs::default();
    let mut listed = Vec::new();
    for (key, bytes) in files {
        listed.push(((*key).to_owned(), blobs.put(bytes.clone().into()).await.expect("stored")));
    }
    let manifest = Manifest::new(listed).expect("a manifest");
    let place = Place::Blob { digest: blobs.put(manifest.write().expect("writes").into()).await.expect("stored") };
    let (meta, digest) = (Value::Null, manifest.digest());
    let version = Version { id: id(), digest, place, rows: None, meta, run: RunId("r".into()), made_at: Timestamp::from_micros(0) };
    Stored { blobs, version }
}

async fn refusal(files: &[(&str, Vec<u8>)]) -> Fault {
    let stored = stored(files).await;
    let fault = LoadedModel::registered(&stored.version, &stored.blobs).await.err().expect("a refusal");
    assert_eq!(fault.code, Code::NOT_SERVABLE, "{fault}");
    assert!(fault.message.starts_with("models.churn@3 cannot be served: ") && fault.fix.is_some(), "{fault}");
    fault
}

#[tokio::test]
async fn what_the_client_registers_answers_by_its_signature() {
    for (name, file) in [("mlmodel_lightgbm", "model.lgb"), ("mlmodel_xgboost", "model.ubj")] {
        let files = [("MLmodel", golden(&format!("{name}.yaml"))), (file, golden(&format!("{name}.{file}"))), ("conda.yaml", vec![])];
        let stored = stored(&files).await;
        let model = LoadedModel::registered(&stored.version, &stored.blobs).await.expect(name).expect("registered");
        let case: Value = serde_json::from_slice(&golden(&format!("{name}.json"))).expect("json");
        assert!(difference(name, &model, &case) <= f64::from(f32::EPSILON), "{name}");
        assert_eq!(model.shape.features[2].column, "mean radius of the thing (worst)");
        assert_eq!((model.shape.task, model.shape.classes.len()), (Task::Binary, 2));
        let row = serde_json::json!({ "age": 1.0, "calls": true });
        let fault = model.request_columns(&[row.as_object().expect("a row")]).expect_err("lacks columns");
        assert_eq!((fault.code, fault.message.as_str()), (Code::MISSING_INPUT, "row 0 lacks `monthly fee`"));
        let row = serde_json::json!({ "age": "old" });
        let fault = model.request_columns(&[row.as_object().expect("a row")]).expect_err("text");
        assert_eq!(fault.code, Code::WRONG_TYPE);
    }
}

#[tokio::test]
async fn what_cannot_answer_is_refused_with_the_way_out() {
    let mlmodel = |name: &str| ("MLmodel", golden(&format!("mlmodel_{name}.yaml")));
    for (files, why, fix) in [
        (vec![mlmodel("sklearn"), ("model.pkl", vec![])], "python_function, sklearn, none of which is served", "skl2onnx"),
        (vec![mlmodel("lightgbm_sklearn"), ("model.skops", vec![])], "an object of Python", "model.booster_"),
        (vec![mlmodel("lightgbm")], "`model.lgb`, which is not among its files", "upload"),
        (vec![mlmodel("lightgbm"), ("model.lgb", b"tree\nversion=v9\n".to_vec())], "version `v9`", "current LightGBM"),
        (vec![mlmodel("lightgbm"), ("model.lgb", golden("lgb_refused_linear.txt"))], "linear_tree=false", "LightGBM"),
        (vec![mlmodel("xgboost"), ("model.ubj", golden("xgb_refused_linear.json"))], "gblinear", "model_format"),
        (vec![mlmodel("xgboost"), ("model.ubj", golden("xgb_refused_targets.json"))], "several", "XGBoost"),
        (vec![mlmodel("xgboost"), ("model.ubj", b"binf".to_vec())], "neither JSON nor UBJSON", "model_format=\"json\""),
        (vec![("model.lgb", vec![])], "no file `MLmodel`", "log_model"),
        (vec![("MLmodel", b"flavors: [".to_vec())], "in braces", "current mlflow"),
        (vec![("MLmodel", b"flavors:\n  mystery:\n    data: x\n".to_vec())], "flavours mystery", "mlflow.lightgbm"),
    ] {
        let fault = refusal(&files).await;
        assert!(fault.message.contains(why), "{} lacks {why}", fault.message);
        assert!(fault.fix.as_deref().is_some_and(|f| f.contains(fix)), "{fault}");
    }
    let onnx = ("MLmodel", b"flavors:\n  onnx:\n    data: model.onnx\n".to_vec());
    let fault = refusal(&[onnx.clone(), ("model.onnx", golden("onnx_refused_external.onnx"))]).await;
    assert!(fault.fix.as_deref().is_some_and(|f| f.contains("save_as_external_data=False")), "{fault}");
    #[cfg(not(feature = "onnx"))]
    {
        let fault = refusal(&[onnx, ("model.onnx", golden("onnx_beyond.onnx"))]).await;
        assert!(fault.fix.as_deref().is_some_and(|f| f.contains("ORT_DYLIB_PATH")), "{fault}");
    }
}

#[tokio::test]
async fn damage_is_not_a_refusal() {
    let mut gone = stored(&[("MLmodel", golden("mlmodel_lightgbm.yaml"))]).await;
    let manifest = Manifest::new([("MLmodel".to_owned(), Digest::of("elsewhere"))]).expect("a manifest");
    gone.version.place = Place::Blob { digest: gone.blobs.put(manifest.write().expect("writes").into()).await.expect("stored") };
    let fault = LoadedModel::registered(&gone.version, &gone.blobs).await.err().expect("gone");
    assert_eq!(fault.code, Code::DAMAGED);
    gone.version.place = Place::Meta;
    assert!(LoadedModel::registered(&gone.version, &gone.blobs).await.expect("no manifest").is_none());
}
