//! Uploads in parts, and addresses that carry their own permission.

use crate::server::Server;
use gristmill_kernel::Span;
use gristmill_registry::protocol::mlflow::sweep;
use gristmill_web::{Body, HeaderMap, Request};
use serde_json::{Value, json};

const PROXY: &str = "/api/2.0/mlflow-artifacts";

impl Server {
    /// Calls an address without any token.
    async fn anybody(&self, method: &str, url: &str, headers: &[(&str, &str)], body: Body) -> (u16, HeaderMap, bytes::Bytes) {
        let path = url.strip_prefix("http://localhost:7300").expect("an address of this server");
        let mut request = Request::builder().method(method).uri(path).header("host", "localhost:7300");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        self.send(request.body(body).expect("a request")).await
    }

    /// Begins an upload in parts: its id and addresses.
    async fn begin(&self, folder: &str, path: &str, parts: u32) -> (String, Vec<String>) {
        let ask = json!({ "path": path, "num_parts": parts });
        let (status, answer) = self.asked(Some("all"), "POST", &format!("{PROXY}/mpu/create/{folder}"), Some(&ask)).await;
        assert_eq!(status, 200, "{answer}");
        let credentials = answer["credentials"].as_array().expect("credentials");
        assert!(credentials.iter().enumerate().all(|(n, c)| c["part_number"] == n + 1));
        let urls = credentials.iter().map(|c| c["url"].as_str().expect("text").to_owned()).collect();
        (answer["upload_id"].as_str().expect("text").to_owned(), urls)
    }

    async fn mpu(&self, what: &str, folder: &str, ask: Value) -> (u16, Value) {
        self.asked(Some("all"), "POST", &format!("{PROXY}/mpu/{what}/{folder}"), Some(&ask)).await
    }
}

#[tokio::test]
async fn parts_become_the_file_in_their_order() {
    let server = Server::new().await;
    let (id, urls) = server.begin("0/r/artifacts/model", "/home/ada/tmp/weights.bin", 3).await;
    let mut parts = Vec::new();
    // In any order, and one of them twice.
    for n in [2_usize, 0, 1, 0] {
        let content = vec![b'a' + u8::try_from(n).expect("small"); 300_000];
        let (status, headers, _) = server.anybody("PUT", &urls[n], &[], Body::from(content)).await;
        assert_eq!(status, 200);
        parts.retain(|part: &Value| part["part_number"] != n + 1);
        parts.push(json!({ "part_number": n + 1, "etag": headers["etag"].to_str().expect("text"), "url": urls[n] }));
    }
    parts.sort_by_key(|part| part["part_number"].as_u64());
    let (_, _, list) = server.file("GET", &format!("{PROXY}/artifacts"), &[], "").await;
    assert_eq!(&list[..], b"{}", "no listing shows the parts");
    assert_eq!(server.keys(".uploads").await.len(), 3);
    let ask = json!({ "path": "weights.bin", "upload_id": id, "parts": parts });
    for _ in 0..2 {
        assert_eq!(server.mpu("complete", "0/r/artifacts/model", ask.clone()).await, (200, json!({})), "asked again it is still done");
    }
    let (_, _, body) = server.file("GET", &format!("{PROXY}/artifacts/0/r/artifacts/model/weights.bin"), &[], "").await;
    assert_eq!(body.len(), 900_000);
    assert!(body.iter().enumerate().all(|(at, byte)| usize::from(*byte - b'a') == at / 300_000));
    assert!(server.keys(".uploads").await.is_empty());
}

#[tokio::test]
async fn an_upload_of_one_part_an_abort_and_what_does_not_fit() {
    let server = Server::new().await;
    let (id, urls) = server.begin("0/r", "x.bin", 1).await;
    let invalid = |answer: &(u16, Value), words: &str| {
        assert_eq!((answer.0, answer.1["error_code"].as_str()), (400, Some("INVALID_PARAMETER_VALUE")), "{answer:?}");
        assert!(answer.1["message"].as_str().expect("text").contains(words), "{answer:?}");
    };
    let with = |parts: Value| json!({ "path": "x.bin", "upload_id": id, "parts": parts });
    let part = |number: u32, etag: &str| json!({ "part_number": number, "etag": etag });
    invalid(&server.mpu("complete", "0/r", with(json!([part(1, "")]))).await, "Part 1 was not uploaded");
    let (_, headers, _) = server.anybody("PUT", &urls[0], &[], Body::from("content")).await;
    let etag = headers["etag"].to_str().expect("text").to_owned();
    invalid(
        &server.mpu("complete", "0/r", with(json!([part(1, "\"other\"")]))).await,
        "Part 1 was not uploaded, or is not what was uploaded.",
    );
    invalid(&server.mpu("complete", "0/r", with(json!([part(1, &etag), part(1, &etag)]))).await, "in ascending order");
    invalid(&server.mpu("complete", "0/r", with(json!([part(0, &etag)]))).await, "in ascending order");
    invalid(&server.mpu("complete", "0/r", with(json!([]))).await, "");
    // The id belongs to this file of this server.
    for (folder, path, id) in [("0/r", "y.bin", id.as_str()), ("0/s", "x.bin", &id), ("0/r", "x.bin", "0"), ("0/r", "x.bin", "../../x")] {
        for what in ["complete", "abort"] {
            let ask = json!({ "path": path, "upload_id": id, "parts": [part(1, &etag)] });
            assert_eq!(server.mpu(what, folder, ask).await.0, 404, "{what} {folder}/{path} {id}");
        }
    }
    assert_eq!(server.mpu("complete", "0/r", with(json!([part(1, &etag)]))).await, (200, json!({})));
    let (_, _, body) = server.file("GET", &format!("{PROXY}/artifacts/0/r/x.bin"), &[], "").await;
    assert_eq!(&body[..], b"content");

    let (id, urls) = server.begin("0/r", "z.bin", 2).await;
    server.anybody("PUT", &urls[1], &[], Body::from("half")).await;
    for _ in 0..2 {
        assert_eq!(server.mpu("abort", "0/r", json!({ "path": "z.bin", "upload_id": id })).await, (200, json!({})), "twice is fine");
    }
    assert!(server.keys(".uploads").await.is_empty());
    for (path, parts, words) in [
        ("x", json!(0), "num_parts must be between 1 and 10000."),
        ("x", json!(10_001), "num_parts"),
        ("..", json!(1), "Invalid path"),
        ("a\\b", json!(1), "Invalid path"),
    ] {
        invalid(&server.mpu("create", "0/r", json!({ "path": path, "num_parts": parts })).await, words);
    }
    invalid(&server.mpu("create", "../r", json!({ "path": "x", "num_parts": 1 })).await, "Invalid path");
    // Only the name of the file on the client's disk counts.
    let (_, urls) = server.begin("0/r", "../../../etc/passwd", 1).await;
    assert_eq!(urls.len(), 1);
}

#[tokio::test]
async fn a_signature_is_checked_before_a_byte_is_read_and_permits_one_thing() {
    let server = Server::new().await;
    let (_, urls) = server.begin("0/r", "x.bin", 2).await;
    let trap = || {
        Body::from_stream(futures::stream::poll_fn(|_| -> std::task::Poll<Option<std::io::Result<bytes::Bytes>>> {
            panic!("the body was read")
        }))
    };
    let (path, query) = urls[0].split_once('?').expect("signed");
    let other_part = path.replace("/1", "/2");
    for url in [
        path.to_owned(),
        format!("{path}?expires=99999999999999&signature=AAAA"),
        format!("{other_part}?{query}"),
        format!("{path}?{}", query.replace("expires=", "expires=9")),
        format!("{path}?{query}").replace("parts/", "parts/0"),
    ] {
        let (status, ..) = server.anybody("PUT", &url, &[], trap()).await;
        assert!(status == 403 || status == 400, "{url}: {status}");
    }
    server.world.clock.advance(Span::from_secs(24 * 60 * 60 + 1));
    let (status, _, body) = server.anybody("PUT", &urls[0], &[], trap()).await;
    assert_eq!(
        (status, serde_json::from_slice::<Value>(&body).expect("JSON")["message"].as_str()),
        (403, Some("this address has expired"))
    );
}

#[tokio::test]
async fn what_nobody_completes_goes_after_a_day() {
    let server = Server::new().await;
    let (_, old) = server.begin("0/r", "old.bin", 1).await;
    server.anybody("PUT", &old[0], &[], Body::from("old")).await;
    server.world.clock.advance(Span::from_secs(23 * 60 * 60));
    let (_, new) = server.begin("0/r", "new.bin", 1).await;
    server.anybody("PUT", &new[0], &[], Body::from("new")).await;
    assert_eq!(server.keys(".uploads").await.len(), 2);
    server.world.clock.advance(Span::from_secs(2 * 60 * 60));
    assert_eq!(sweep(&server.mlflow, server.world.now()).await.expect("swept"), 1);
    assert_eq!(server.keys(".uploads").await.len(), 1);
    server.world.clock.advance(Span::from_secs(24 * 60 * 60));
    server.begin("0/r", "newest.bin", 1).await;
    assert!(server.keys(".uploads").await.is_empty(), "a new upload looks after old ones");
}

#[tokio::test]
async fn no_client_reaches_the_parts_by_name() {
    let server = Server::new().await;
    let (id, urls) = server.begin("0/r", "x.bin", 1).await;
    server.anybody("PUT", &urls[0], &[], Body::from("secret")).await;
    for path in [format!(".uploads/{id}/00001"), format!("./.uploads/{id}/00001"), format!("%2Euploads/{id}/00001")] {
        for method in ["GET", "PUT", "DELETE"] {
            let (status, _, body) = server.file(method, &format!("{PROXY}/artifacts/{path}"), &[], "").await;
            assert_eq!(status, 400, "{method} {path}: {body:?}");
        }
        let (status, ..) = server.file("GET", &format!("{PROXY}/presigned/{path}"), &[], "").await;
        assert_eq!(status, 400);
    }
    assert_eq!(server.file("GET", &format!("{PROXY}/artifacts?path=.uploads"), &[], "").await.0, 400);
    // Not by an experiment that lies there either.
    let (_, experiment) =
        server.ask("POST", "experiments/create", json!({ "name": "x", "artifact_location": "mlflow-artifacts:/.uploads" })).await;
    if let Some(experiment) = experiment["experiment_id"].as_str() {
        let run = server.ok("POST", "runs/create", json!({ "experiment_id": experiment })).await["run"]["info"]["run_id"].clone();
        let (status, _) = server.ask("GET", &format!("artifacts/list?run_id={}", run.as_str().expect("text")), json!(null)).await;
        assert_eq!(status, 400);
    }
}

#[tokio::test]
async fn signed_addresses_read_and_write_one_file_for_a_while() {
    let server = Server::new().await;
    let (run, key) = server.run_with_model().await;
    let (status, answer) = server.asked(Some("all"), "GET", &format!("{PROXY}/presigned/{key}/data/model.bin"), None).await;
    assert_eq!((status, answer["file_size"].as_u64(), answer["headers"].clone()), (200, Some(7), json!({})));
    let url = answer["url"].as_str().expect("text");
    let (status, headers, body) = server.anybody("GET", url, &[("range", "bytes=1-3")], Body::empty()).await;
    assert_eq!((status, &body[..], headers["content-range"].to_str().ok()), (206, &b"eig"[..], Some("bytes 1-3/7")));
    assert_eq!(server.anybody("GET", &url.replace("model.bin", "other"), &[], Body::empty()).await.0, 403);
    assert_eq!(server.anybody("PUT", url, &[], Body::from("x")).await.0, 403, "reading is not writing");
    let (status, _) = server.asked(Some("all"), "GET", &format!("{PROXY}/presigned/{key}/nothing"), None).await;
    assert_eq!(status, 404);

    let ask = json!({ "run_id": run, "path": "model/MLmodel", "expiration": 60 });
    let down = server.ok("POST", "artifacts/presigned-download-url", ask).await;
    assert_eq!(down["file_size"], 11);
    let down = down["presigned_url"].as_str().expect("text").to_owned();
    assert_eq!(&server.anybody("GET", &down, &[], Body::empty()).await.2[..], b"flavors: {}");
    let up = server.ok("POST", "artifacts/presigned-upload-url", json!({ "run_id": run, "path": "new dir/ä.txt" })).await;
    let up = up["presigned_url"].as_str().expect("text").to_owned();
    assert_eq!(server.anybody("PUT", &up, &[], Body::from("new")).await.0, 200);
    let (_, _, body) = server.file("GET", &format!("/get-artifact?run_id={run}&path=new%20dir/%C3%A4.txt"), &[], "").await;
    assert_eq!(&body[..], b"new");
    assert_eq!(server.anybody("GET", &up, &[], Body::empty()).await.0, 403, "writing is not reading");
    server.world.clock.advance(Span::from_secs(61));
    assert_eq!(server.anybody("GET", &down, &[], Body::empty()).await.0, 403, "it has expired");

    let (model, _) = server.logged_model().await;
    server.ok("POST", "artifacts/presigned-upload-url", json!({ "model_id": model, "path": "x" })).await;
    let invalid = |words| (400, "INVALID_PARAMETER_VALUE", words);
    for (path, ask, words) in [
        ("upload", json!({ "path": "x" }), "Exactly one of run_id and model_id must be provided."),
        ("upload", json!({ "run_id": run, "model_id": model, "path": "x" }), "Exactly one of run_id and model_id must be provided."),
        ("upload", json!({ "run_id": run }), "Missing value for required parameter 'path'."),
        ("upload", json!({ "run_id": run, "path": "../x" }), "Invalid path"),
        (
            "download",
            json!({ "run_id": run, "path": "model/MLmodel", "expiration": 0 }),
            "expiration must be between 1 and 604800 seconds (got 0).",
        ),
        ("download", json!({ "path": "x" }), "Missing value for required parameter 'run_id'."),
    ] {
        server.refused("POST", &format!("artifacts/presigned-{path}-url"), ask, invalid(words)).await;
    }
    let none = (404, "RESOURCE_DOES_NOT_EXIST", "/artifacts/nothing'");
    server.refused("POST", "artifacts/presigned-download-url", json!({ "run_id": run, "path": "nothing" }), none).await;
}
