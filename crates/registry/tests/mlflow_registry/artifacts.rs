//! Files: the proxy, and files by run, logged model and version.

use crate::server::Server;
use futures::StreamExt;
use gristmill_web::Body;
use serde_json::{Value, json};

const FILES: &str = "/api/2.0/mlflow-artifacts/artifacts";

fn read(bytes: &[u8]) -> Value {
    serde_json::from_slice(bytes).expect("JSON")
}

#[tokio::test]
async fn files_are_put_listed_read_replaced_and_removed() {
    let server = Server::new().await;
    for key in ["0/r/artifacts/a.txt", "0/r/artifacts/dir/b%20c.bin", "0/r/artifacts/dir/deep/d", "0/r/artifacts/%C3%A4.csv"] {
        server.put(key, b"first").await;
    }
    server.put("0/r/artifacts/a.txt", b"second").await;
    let (status, headers, body) = server.file("GET", &format!("{FILES}/0/r/artifacts/a.txt"), &[], "").await;
    assert_eq!((status, &body[..]), (200, &b"second"[..]));
    for (name, value) in [
        ("content-type", "text/plain"),
        ("content-disposition", "attachment; filename=a.txt"),
        ("x-content-type-options", "nosniff"),
        ("content-length", "6"),
        ("accept-ranges", "bytes"),
    ] {
        assert_eq!(headers[name], value);
    }
    let list = |path: &str| {
        let path = format!("{FILES}?path={path}");
        let server = &server;
        async move { read(&server.file("GET", &path, &[], "").await.2) }
    };
    let wanted = json!({ "files": [
        { "path": "a.txt", "is_dir": false, "file_size": 6 },
        { "path": "dir", "is_dir": true },
        { "path": "ä.csv", "is_dir": false, "file_size": 5 },
    ] });
    assert_eq!(list("0/r/artifacts").await, wanted);
    assert_eq!(list("0/r/artifacts/.").await, wanted);
    assert_eq!(list("0/r/artifacts/dir/").await["files"].as_array().map(Vec::len), Some(2));
    for nothing in ["0/r/artifacts/a.txt", "0/nobody"] {
        assert_eq!(list(nothing).await, json!({}), "{nothing}");
    }
    for _ in 0..2 {
        let (status, _, body) = server.file("DELETE", &format!("{FILES}/0/r/artifacts/dir"), &[], "").await;
        assert_eq!((status, read(&body)), (200, json!({})), "twice is fine");
    }
    assert_eq!(server.keys("0/r").await, ["artifacts/a.txt", "artifacts/ä.csv"]);
}

#[tokio::test]
async fn what_is_missing_or_a_folder_is_said_in_mlflows_words() {
    let server = Server::new().await;
    server.put("0/r/artifacts/dir/x", b"x").await;
    for (path, status, word, message) in [
        ("0/r/artifacts/nothing", 404, "RESOURCE_DOES_NOT_EXIST", "No such artifact: '0/r/artifacts/nothing'"),
        ("0/r/artifacts/dir", 400, "INVALID_PARAMETER_VALUE", "Artifact path refers to a directory, not a file: '0/r/artifacts/dir'"),
        ("0/r/../../etc/passwd", 400, "INVALID_PARAMETER_VALUE", "Invalid path"),
        ("%2e%2e/x", 400, "INVALID_PARAMETER_VALUE", "Invalid path"),
        ("%252e%252e/x", 400, "INVALID_PARAMETER_VALUE", "Invalid path"),
        ("%2Fetc/passwd", 400, "INVALID_PARAMETER_VALUE", "Invalid path"),
        ("a%5Cb", 400, "INVALID_PARAMETER_VALUE", "Invalid path"),
        ("a%00b", 400, "INVALID_PARAMETER_VALUE", "Invalid path"),
        ("a%23b", 400, "INVALID_PARAMETER_VALUE", "Invalid path"),
    ] {
        let (was, answer) = server.asked(Some("all"), "GET", &format!("{FILES}/{path}"), None).await;
        assert_eq!((was, answer["error_code"].as_str(), answer["message"].as_str()), (status, Some(word), Some(message)));
    }
    let (status, _, body) = server.file("PUT", &format!("{FILES}/0/../x"), &[], vec![b'x'; 1 << 20]).await;
    assert_eq!((status, read(&body)["message"].as_str()), (400, Some("Invalid path")), "told although it was sending");
    assert_eq!(server.file("GET", &format!("{FILES}/a%FF"), &[], "").await.0, 400, "no UTF-8");
}

#[tokio::test]
async fn parts_of_a_file_are_sent() {
    let server = Server::new().await;
    server.put("0/r/artifacts/x.bin", b"0123456789").await;
    let url = format!("{FILES}/0/r/artifacts/x.bin");
    for (range, status, content, about) in [
        ("bytes=0-3", 206, &b"0123"[..], Some("bytes 0-3/10")),
        ("bytes=8-", 206, b"89", Some("bytes 8-9/10")),
        ("bytes=-1", 206, b"9", Some("bytes 9-9/10")),
        ("bytes=10-", 416, b"", Some("bytes */10")),
        ("bytes=x", 200, b"0123456789", None),
    ] {
        let (was, headers, body) = server.file("GET", &url, &[("range", range)], "").await;
        assert_eq!((was, &body[..], headers.get("content-range").and_then(|v| v.to_str().ok())), (status, content, about), "{range}");
        if status != 416 {
            assert_eq!(headers["content-length"], content.len().to_string());
        }
    }
    let (_, headers, _) = server.file("GET", &url, &[], "").await;
    let tag = headers["etag"].to_str().expect("text").to_owned();
    assert_eq!(server.file("GET", &url, &[("range", "bytes=0-0"), ("if-range", &tag)], "").await.0, 206);
    assert_eq!(server.file("GET", &url, &[("range", "bytes=0-0"), ("if-range", "\"other\"")], "").await.0, 200);
    assert_eq!(server.file("HEAD", &url, &[], "").await.1["content-length"], "10");
}

#[tokio::test]
async fn what_browsers_would_run_is_sent_as_an_attachment() {
    let server = Server::new().await;
    for (name, kind) in [("x.html", "text/html"), ("x.svg", "image/svg+xml"), ("x.js", "text/plain"), ("x", "application/octet-stream")] {
        let key = format!("0/r/artifacts/{name}");
        let (status, ..) = server.file("PUT", &format!("{FILES}/{key}"), &[("content-type", "text/html")], "<script>").await;
        assert_eq!(status, 200);
        let (_, headers, _) = server.file("GET", &format!("{FILES}/{key}"), &[("accept", "text/html")], "").await;
        assert_eq!(headers["content-type"], kind);
        assert_eq!(headers["content-disposition"], format!("attachment; filename={name}"));
        assert!(headers["content-security-policy"].to_str().expect("text").starts_with("default-src 'none'"));
    }
}

#[tokio::test]
async fn a_large_file_goes_through_in_pieces_and_a_broken_one_leaves_nothing() {
    let server = Server::new().await;
    let url = format!("{FILES}/0/r/artifacts/large.bin");
    let pieces = || futures::stream::iter(0..64_u8).map(|n| Ok::<_, std::io::Error>(bytes::Bytes::from(vec![n; 1 << 20])));
    let (status, ..) = server.file("PUT", &url, &[], Body::from_stream(pieces())).await;
    assert_eq!(status, 200);
    let (status, headers, body) = server.file("GET", &url, &[], "").await;
    assert_eq!((status, body.len(), headers["content-length"].to_str().ok()), (200, 64 << 20, Some("67108864")));
    assert!(body.chunks(1 << 20).enumerate().all(|(n, piece)| piece.iter().all(|b| usize::from(*b) == n)));
    let broken = pieces().take(3).chain(futures::stream::once(async { Err(std::io::Error::other("gone")) }));
    let (status, ..) = server.file("PUT", &url, &[], Body::from_stream(broken)).await;
    assert_eq!(status, 400);
    let (_, headers, _) = server.file("GET", &url, &[("range", "bytes=0-0")], "").await;
    assert_eq!(headers["content-range"], "bytes 0-0/67108864", "the file before is still there, whole");
}

#[tokio::test]
async fn files_are_found_by_their_run() {
    let server = Server::new().await;
    let (run, _) = server.run_with_model().await;
    let (experiment, uri) = {
        let info = server.ok("GET", &format!("runs/get?run_id={run}"), json!(null)).await["run"]["info"].clone();
        (info["experiment_id"].as_str().expect("text").to_owned(), info["artifact_uri"].as_str().expect("text").to_owned())
    };
    assert_eq!(uri, format!("mlflow-artifacts:/{experiment}/{run}/artifacts"));
    let list = server.ok("GET", &format!("artifacts/list?run_id={run}"), json!(null)).await;
    assert_eq!(list, json!({ "root_uri": uri, "files": [{ "path": "model", "is_dir": true }] }));
    let list = server.ok("GET", &format!("artifacts/list?run_uuid={run}&path=model"), json!(null)).await;
    let wanted = json!([{ "path": "model/MLmodel", "is_dir": false, "file_size": 11 }, { "path": "model/data", "is_dir": true }]);
    assert_eq!(list["files"], wanted);
    for base in ["", "/ajax-api/2.0/mlflow"] {
        let (status, headers, body) =
            server.file("GET", &format!("{base}/get-artifact?run_id={run}&path=model/data/model.bin"), &[("range", "bytes=0-2")], "").await;
        assert_eq!((status, &body[..], headers["content-type"].to_str().ok()), (206, &b"wei"[..], Some("application/octet-stream")));
    }
    let nobody = (404, "RESOURCE_DOES_NOT_EXIST", "Run with id=nobody not found");
    server.refused("GET", "artifacts/list?run_id=nobody", json!(null), nobody).await;
    let (_, answer) = server.asked(Some("all"), "GET", "/get-artifact?run_id=nobody&path=x", None).await;
    assert_eq!(answer["message"], nobody.2);
    for path in ["..", "../../../x", "/etc/passwd", "%252e%252e/x"] {
        server
            .refused(
                "GET",
                &format!("artifacts/list?run_id={run}&path={path}"),
                json!(null),
                (400, "INVALID_PARAMETER_VALUE", "Invalid path"),
            )
            .await;
        let (status, answer) = server.asked(Some("all"), "GET", &format!("/get-artifact?run_id={run}&path={path}"), None).await;
        assert_eq!((status, answer["message"].as_str()), (400, Some("Invalid path")), "{path}");
    }
    let (status, answer) = server.asked(Some("all"), "GET", &format!("/get-artifact?run_id={run}"), None).await;
    assert_eq!((status, answer["error_code"].as_str()), (400, Some("INVALID_PARAMETER_VALUE")));
    // A run of an experiment whose files are elsewhere: said, not fetched.
    let far =
        server.ok("POST", "experiments/create", json!({ "name": "far", "artifact_location": "s3://bucket/x" })).await["experiment_id"]
            .clone();
    let far =
        server.ok("POST", "runs/create", json!({ "experiment_id": far })).await["run"]["info"]["run_id"].as_str().expect("text").to_owned();
    server
        .refused(
            "GET",
            &format!("artifacts/list?run_id={far}"),
            json!(null),
            (501, "NOT_IMPLEMENTED", "Artifacts with 's3' addresses are not kept by this server."),
        )
        .await;
}

#[tokio::test]
async fn files_are_found_by_their_logged_model_and_version() {
    let server = Server::new().await;
    let (model, _) = server.logged_model().await;
    let url = format!("/ajax-api/2.0/mlflow/logged-models/{model}/artifacts/files");
    let (status, _, body) = server.file("GET", &format!("{url}?artifact_file_path=MLmodel"), &[], "").await;
    assert_eq!((status, &body[..]), (200, &b"flavors: {onnx}"[..]));
    let (status, answer) = server.asked(Some("all"), "GET", &url, None).await;
    assert_eq!((status, answer["message"].as_str()), (400, Some("Request must include the \"artifact_file_path\" query parameter.")));
    server.registered("m").await;
    let url = "/model-versions/get-artifact?name=m&version";
    assert_eq!(server.file("GET", &format!("{url}=1&path=MLmodel"), &[], "").await.0, 200);
    assert_eq!(server.file("GET", &format!("{url}=7&path=MLmodel"), &[], "").await.0, 404);
    assert_eq!(server.file("GET", &format!("{url}=1&path=../x"), &[], "").await.0, 400);
}

#[tokio::test]
async fn pages_upload_small_files() {
    let server = Server::new().await;
    let (_, run) = server.run().await;
    let url = "/ajax-api/2.0/mlflow/upload-artifact";
    for (query, body, words) in [
        (String::new(), "x", "Request must specify run_uuid."),
        (format!("?run_uuid={run}"), "x", "Request must specify path."),
        (format!("?run_uuid={run}&path=../x"), "x", "Invalid path"),
        (format!("?run_uuid={run}&path=a.txt"), "", "Request must specify data."),
    ] {
        let (status, _, answer) = server.file("POST", &format!("{url}{query}"), &[], body).await;
        assert_eq!((status, read(&answer)["message"].as_str()), (400, Some(words)));
    }
    let (status, ..) = server.file("POST", &format!("{url}?run_uuid={run}&path=dir/a.txt"), &[], "hello").await;
    assert_eq!(status, 200);
    let (_, _, body) = server.file("GET", &format!("/get-artifact?run_id={run}&path=dir/a.txt"), &[], "").await;
    assert_eq!(&body[..], b"hello");
}
