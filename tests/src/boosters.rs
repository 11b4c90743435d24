//! Registered models without a library: LightGBM's text, written by hand and registered as MLflow's client does.

use crate::{Server, client};
use serde_json::{Value, json};

/// LightGBM's text of a model over `x` and `y` whose trees, in turns over one and the other, have these two leaves below and above 0; each tree
/// claims to have `claims` leaves.
pub fn booster(leaves: &[(f64, f64)], claims: usize) -> String {
    let mut text = String::from(
        "tree\nversion=v4\nnum_class=1\nnum_tree_per_iteration=1\nlabel_index=0\nmax_feature_idx=1\nobjective=regression\n\
         feature_names=x y\nfeature_infos=[-10:10] [-10:10]\n\n",
    );
    for (number, (low, high)) in leaves.iter().enumerate() {
        let feature = number % 2;
        text.push_str(&format!(
            "Tree={number}\nnum_leaves={claims}\nnum_cat=0\nsplit_feature={feature}\nsplit_gain=1\nthreshold=0\ndecision_type=2\n\
             left_child=-1\nright_child=-2\nleaf_value={low} {high}\nleaf_weight=1 1\nleaf_count=1 1\ninternal_value=0\n\
             internal_weight=2\ninternal_count=2\nis_linear=0\nshrinkage=1\n\n\n"
        ));
    }
    text + "end of trees\n\nfeature_importances:\nx=1\ny=1\n\nparameters:\n[boosting: gbdt]\nend of parameters\n\npandas_categorical:[]\n"
}

/// What MLflow's client writes beside it; the columns are those that callers send.
pub fn mlmodel(columns: &[&str]) -> String {
    let inputs: Vec<Value> = columns.iter().map(|c| json!({ "type": "double", "name": c, "required": true })).collect();
    format!(
        "flavors:\n  lightgbm:\n    data: model.lgb\n    lgb_version: 4.7.0\n    model_class: lightgbm.basic.Booster\n\
         mlflow_version: 3.17.2\nmodel_uuid: 9b0dfc5fd8f442c4932cc761fba759c4\nsignature:\n  inputs: '{}'\n  params: null\n\
         utc_time_created: '2026-11-21 15:19:10.898104'\n",
        Value::Array(inputs)
    )
}

fn ask(server: &Server, path: &str, body: &Value) -> Value {
    let (status, answer) = server.post(&format!("/api/2.0/mlflow/{path}"), body);
    assert_eq!(status, 200, "{path}: {answer}");
    answer
}

/// Registers files as the next version of a model, as a client does: a run, its artifacts, a version. The version's number.
pub fn register(server: &Server, model: &str, files: &[(&str, Vec<u8>)]) -> String {
    let run = ask(server, "runs/create", &json!({ "experiment_id": "0", "start_time": 1_700_000_000_000_i64 }));
    let (id, root) = (run["run"]["info"]["run_id"].clone(), run["run"]["info"]["artifact_uri"].as_str().expect("a place").to_owned());
    let folder = root.strip_prefix("mlflow-artifacts:/").expect("a proxied place").trim_start_matches('/').to_owned();
    for (key, bytes) in files {
        let url = format!("{}/api/2.0/mlflow-artifacts/artifacts/{folder}/model/{key}", server.url);
        let answer = client().put(url).body(bytes.clone()).send().expect("an answer");
        assert_eq!(answer.status().as_u16(), 200, "{key}");
    }
    let (_, _already_there) = server.post("/api/2.0/mlflow/registered-models/create", &json!({ "name": model }));
    let made = ask(server, "model-versions/create", &json!({ "name": model, "source": format!("{root}/model"), "run_id": id }));
    made["model_version"]["version"].as_str().expect("a number").to_owned()
}

/// Points the alias `champion` of a model to a version.
pub fn point(server: &Server, model: &str, version: &str) {
    ask(server, "registered-models/alias", &json!({ "name": model, "alias": "champion", "version": version }));
}
