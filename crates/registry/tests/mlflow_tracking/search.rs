//! Runs found again by what they logged.

use crate::server::{INVALID, Server, text};
use serde_json::{Value, json};

#[tokio::test]
async fn runs_are_found_by_what_they_logged() {
    let server = Server::new().await;
    let mut ids = Vec::new();
    for n in 0..5_i64 {
        let body = json!({ "experiment_id": "0", "run_name": format!("run {n}"), "start_time": n });
        let id = text(&server.done("runs/create", body).await["run"]["info"]["run_id"]);
        let batch = json!({ "run_id": id, "metrics": [{ "key": "auc", "value": 0.5 + n as f64 / 10.0, "timestamp": 1 }],
            "params": [{ "key": "model", "value": if n % 2 == 0 { "gbdt" } else { "forest" } }], "tags": [{ "key": "n", "value": n.to_string() }] });
        server.done("runs/log-batch", batch).await;
        ids.push(id);
    }
    server.done("runs/log-metric", json!({ "run_id": ids[4], "key": "broken", "value": "NaN", "timestamp": 1 })).await;
    server.done("runs/update", json!({ "run_id": ids[0], "status": "FINISHED" })).await;
    let search = async |filter: &str, order: &[&str]| -> Vec<usize> {
        let body = json!({ "experiment_ids": ["0"], "filter": filter, "order_by": order, "max_results": 100 });
        let answer = server.done("runs/search", body).await;
        let runs = answer["runs"].as_array().cloned().unwrap_or_default();
        let place = |run: &Value| ids.iter().position(|id| run["info"]["run_id"] == *id).expect("one of ours");
        runs.iter().map(place).collect()
    };
    for (filter, order, found) in [
        ("", &[][..], &[4, 3, 2, 1, 0][..]),
        ("metrics.auc >= 0.7", &[], &[4, 3, 2]),
        ("metrics.auc >= 0.7 and params.model = 'gbdt'", &["metrics.auc ASC"], &[2, 4]),
        ("params.model = 'forest' OR tags.n IN ('0')", &["start_time"], &[0, 1, 3]),
        ("NOT (params.model = 'forest')", &["start_time"], &[0, 2, 4]),
        ("metrics.auc BETWEEN 0.6 AND 0.7", &["metrics.auc DESC"], &[2, 1]),
        ("attributes.status = 'FINISHED'", &[], &[0]),
        ("status IN ('RUNNING') AND run_name LIKE 'run%' AND `Run Name` ILIKE 'RUN _'", &["start_time"], &[1, 2, 3, 4]),
        ("metrics.broken != 1", &[], &[4]),
        ("tags.`mlflow.runName` = 'run 2'", &[], &[2]),
        ("tags.absent IS NULL AND tags.n IS NOT NULL", &["tags.n DESC"], &[4, 3, 2, 1, 0]),
        ("start_time > 1 AND Created <= 3", &["params.model", "start_time DESC"], &[3, 2]),
        ("metrics.auc != 0.5", &["metrics.broken DESC", "start_time ASC"], &[1, 2, 3, 4]),
    ] {
        assert_eq!(search(filter, order).await, found, "{filter} {order:?}");
    }
    let one = json!({ "experiment_ids": ["0"], "max_results": 2, "order_by": ["start_time ASC"] });
    let mut page = server.done("runs/search", one.clone()).await;
    let mut seen = Vec::new();
    loop {
        seen.extend(page["runs"].as_array().cloned().unwrap_or_default().iter().map(|r| text(&r["info"]["run_id"])));
        let Some(token) = page["next_page_token"].as_str() else { break };
        let mut next = one.clone();
        next["page_token"] = token.into();
        page = server.done("runs/search", next).await;
    }
    assert_eq!(seen, ids);
    server.done("runs/delete", json!({ "run_id": ids[3] })).await;
    for (view, count) in [("ACTIVE_ONLY", 4), ("DELETED_ONLY", 1), ("ALL", 5)] {
        let answer = server.done("runs/search", json!({ "experiment_ids": ["0"], "run_view_type": view })).await;
        assert_eq!(answer["runs"].as_array().map(Vec::len), Some(count), "{view}");
    }
    assert_eq!(server.done("runs/search", json!({ "experiment_ids": [] })).await, json!({}));
    for (change, like) in [
        (json!({ "filter": 5 }), "Invalid value 5 for parameter 'filter'"),
        (json!({ "filter": "params.acc = LR" }), "either not quoted or unidentified quote types"),
        (json!({ "max_results": 50_001 }), "Invalid value 50001 for parameter 'max_results' supplied:  Hint: Value was of type 'int'."),
        (json!({ "max_results": 0 }), "Invalid value 0 for parameter 'max_results'"),
        (json!({ "order_by": ["metrics.auc UP"] }), "Invalid ordering key in order_by clause"),
        (json!({ "order_by": [5] }), "Invalid value [5] for parameter 'order_by'"),
        (json!({ "page_token": "abc" }), "Invalid page token, could not base64-decode"),
        (json!({ "experiment_ids": ["x"] }), "Invalid experiment ID 'x'"),
    ] {
        let mut body = json!({ "experiment_ids": ["0"] });
        body.as_object_mut().expect("an object").extend(change.as_object().cloned().expect("an object"));
        server.refused("runs/search", body, 400, INVALID, like).await;
    }
}
