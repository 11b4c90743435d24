//! Texts that try to leave, in every field of this surface that looks like a path.
//!
//! A file that must stay secret lies beside the state folder, and is named in the ways the texts name it. No answer holds it, nothing beside the
//! state folder changes, and inside it there is nothing but the ledger, its key and blobs named by their digests.

use crate::server::Server;
use gristmill_kernel::tracking::evil::{EVIL, overlong};
use serde_json::json;
use std::collections::BTreeSet;
use std::path::Path;

const CANARY: &str = "this must stay secret";

fn encoded(text: &str) -> String {
    text.bytes().map(|b| if b.is_ascii_alphanumeric() { char::from(b).to_string() } else { format!("%{b:02X}") }).collect()
}

/// As a careless client would send it: only what a request line cannot hold is escaped.
fn careless(text: &str) -> String {
    text.bytes()
        .map(|b| if b.is_ascii_graphic() && !b"#?\"<>`{}|\\^".contains(&b) { char::from(b).to_string() } else { format!("%{b:02X}") })
        .collect()
}

/// Every file beneath a folder, by its path.
fn files(folder: &Path) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in std::fs::read_dir(&next).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path)
            } else {
                found.insert(path.strip_prefix(folder).expect("beneath").display().to_string());
            }
        }
    }
    found
}

/// Whether a file of the state folder has a name that we made.
fn is_ours(path: &str) -> bool {
    let blob = path.strip_prefix("state/blobs/").map(|name| name.replace('/', ""));
    let plain = ["state/ledger.db", "state/ledger.db-wal", "state/ledger.db-shm", "state/seal.key", "secret", "secret.txt"];
    plain.contains(&path) || blob.is_some_and(|name| name.len() == 64 && name.bytes().all(|b| b.is_ascii_hexdigit()))
}

#[tokio::test]
async fn no_field_leads_out_of_the_data_folder() {
    let server = Server::new().await;
    for name in ["secret", "secret.txt"] {
        std::fs::write(server.folder.path().join(name), CANARY).expect("written");
    }
    let run = server.registered("m").await;
    let (model, _) = server.logged_model().await;
    let overlong = overlong();
    let texts = EVIL.iter().copied().chain(overlong.iter().map(String::as_str));
    let mut answers = 0;
    for text in texts {
        let files = "/api/2.0/mlflow-artifacts";
        let mut requests = Vec::new();
        for path in [encoded(text), careless(text), format!("0/r/{}", careless(text))] {
            for (method, base) in [
                ("GET", "artifacts"),
                ("PUT", "artifacts"),
                ("DELETE", "artifacts"),
                ("GET", "presigned"),
                ("GET", "signed"),
                ("PUT", "signed"),
            ] {
                requests.push((method, format!("{files}/{base}/{path}"), json!(null)));
            }
            for what in ["create", "complete", "abort"] {
                let ask = json!({ "path": "x", "num_parts": 1, "upload_id": text, "parts": [{ "part_number": 1 }] });
                requests.push(("POST", format!("{files}/mpu/{what}/{path}"), ask));
            }
            requests.push(("PUT", format!("{files}/parts/{path}/1?expires=9&signature=x"), json!(null)));
            requests.push(("GET", format!("/api/2.0/mlflow/webhooks/{path}"), json!(null)));
            requests.push(("GET", format!("/ajax-api/2.0/mlflow/logged-models/{path}/artifacts/files?artifact_file_path=x"), json!(null)));
        }
        for what in ["create", "complete", "abort"] {
            let ask =
                json!({ "path": text, "num_parts": 1, "upload_id": text, "parts": [{ "part_number": 1, "etag": text, "url": text }] });
            requests.push(("POST", format!("{files}/mpu/{what}/0/r"), ask));
        }
        let query = encoded(text);
        for path in [
            format!("{files}/artifacts?path={query}"),
            format!("/api/2.0/mlflow/artifacts/list?run_id={run}&path={query}"),
            format!("/api/2.0/mlflow/artifacts/list?run_id={query}"),
            format!("/get-artifact?run_id={run}&path={query}"),
            format!("/get-artifact?run_id={query}&path=x"),
            format!("/model-versions/get-artifact?name=m&version=1&path={query}"),
            format!("/model-versions/get-artifact?name={query}&version={query}&path=x"),
            format!("/ajax-api/2.0/mlflow/logged-models/{model}/artifacts/files?artifact_file_path={query}"),
            format!("/api/2.0/mlflow/registered-models/get?name={query}"),
            format!("/api/2.0/mlflow/registered-models/alias?name=m&alias={query}"),
            format!("/api/2.0/mlflow/model-versions/get?name=m&version={query}"),
            format!("/api/2.0/mlflow/registered-models/search?filter={query}&page_token={query}"),
        ] {
            requests.push(("GET", path, json!(null)));
        }
        requests.push(("POST", format!("/ajax-api/2.0/mlflow/upload-artifact?run_uuid={run}&path={query}"), json!("x")));
        for (path, ask) in [
            ("artifacts/presigned-upload-url", json!({ "run_id": run, "path": text })),
            ("artifacts/presigned-download-url", json!({ "run_id": run, "path": text })),
            ("model-versions/create", json!({ "name": "m", "source": text, "run_id": run })),
            ("model-versions/create", json!({ "name": "m", "source": text, "model_id": model })),
            ("model-versions/create", json!({ "name": "m", "source": format!("runs:/{run}/{text}"), "run_id": run })),
            ("model-versions/create", json!({ "name": "m", "source": format!("mlflow-artifacts:/{text}"), "run_id": run })),
            ("model-versions/create", json!({ "name": "m", "source": format!("models:/{text}"), "model_id": text })),
            ("model-versions/create", json!({ "name": "m", "source": "s3://b/x", "run_id": text, "run_link": text })),
            ("registered-models/create", json!({ "name": text })),
            ("registered-models/rename", json!({ "name": "m", "new_name": format!("{text}/") })),
            ("registered-models/set-tag", json!({ "name": "m", "key": text, "value": text })),
            ("registered-models/alias", json!({ "name": "m", "alias": text, "version": "1" })),
            ("webhooks", json!({ "name": text, "url": text, "events": [{ "entity": text, "action": text }] })),
        ] {
            requests.push(("POST", format!("/api/2.0/mlflow/{path}"), ask));
        }
        for (method, path, body) in requests {
            let Some((status, answer)) = server.evil(method, &path, &body).await else { continue };
            assert!(!answer.contains(CANARY), "{method} {path} {body}");
            assert!(!answer.contains("root:"), "{method} {path} {body}: {answer}");
            // 501 is said of files elsewhere; no text makes the server fail.
            assert!(status < 500 || status == 501, "{method} {path} {body}: {status} {answer}");
            answers += 1;
        }
    }
    assert!(answers > 60 * 40, "{answers}");
    let strange: Vec<String> = files(server.folder.path()).into_iter().filter(|path| !is_ours(path)).collect();
    assert!(strange.is_empty(), "{strange:?}");
    for name in ["secret", "secret.txt"] {
        assert_eq!(std::fs::read_to_string(server.folder.path().join(name)).expect("still there"), CANARY);
    }
}
