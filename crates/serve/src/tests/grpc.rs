//! The Open Inference Protocol over gRPC, frame by frame; that real clients understand it is a test of the product's.

use super::bench::Bench;
use super::served;
use gristmill_web::HeaderMap;

fn framed(message: &[u8]) -> Vec<u8> {
    let mut frame = vec![0];
    frame.extend((message.len() as u32).to_be_bytes());
    frame.extend(message);
    frame
}

/// A field of bytes or text.
fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
    [&[number << 3 | 2, bytes.len() as u8], bytes].concat()
}

/// Asks for a customer's score; the raw contents are eight bytes.
fn ask(customer: i64) -> Vec<u8> {
    let tensor = [field(1, b"customer_id"), field(2, b"INT64"), field(3, &[1])].concat();
    [field(1, b"churn"), field(3, b"a1"), field(5, &tensor), field(7, &customer.to_le_bytes())].concat()
}

/// Bytes of the messages, the status and its message.
async fn call(bench: &Bench, name: &str, body: Vec<u8>) -> (Vec<u8>, String, String) {
    let headers = [("content-type", "application/grpc"), ("te", "trailers")];
    let (status, headers, bytes, trailers) =
        bench.send_for_trailers(&format!("/inference.GRPCInferenceService/{name}"), &headers, body).await;
    assert_eq!(status, 200);
    let of = |map: &HeaderMap, key: &str| map.get(key).map(|v| v.to_str().expect("text").to_owned());
    let text = |key: &str| of(&headers, key).or_else(|| of(&trailers, key)).unwrap_or_default();
    (bytes, text("grpc-status"), text("grpc-message"))
}

#[tokio::test]
async fn a_message_is_answered_with_one_and_how_it_ended() {
    let bench = served().await;
    assert_eq!(call(&bench, "ServerLive", framed(&[])).await, (framed(&[8, 1]), "0".into(), String::new()));
    let (bytes, status, _) = call(&bench, "ModelInfer", framed(&ask(3))).await;
    assert_eq!(status, "0");
    assert!(bytes.windows(8).any(|w| w == 3.25f64.to_le_bytes()), "{bytes:?}");
    assert!(bytes.windows(2).any(|w| w == b"a1"));
    assert_eq!(bench.plane.flush().await.expect("flushes"), 1, "it is logged");
}

#[tokio::test]
async fn a_stream_is_answered_message_by_message() {
    let bench = served().await;
    let wrong = [field(1, b"fraud"), field(3, b"a2")].concat();
    let body = [framed(&ask(3)), framed(&wrong), framed(&ask(4))].concat();
    let (bytes, status, _) = call(&bench, "ModelStreamInfer", body).await;
    assert_eq!(status, "0");
    let text = String::from_utf8_lossy(&bytes);
    assert!(text.contains("endpoints are `churn`"), "a failure of one is an answer: {text}");
    for score in [3.25f64, 4.25] {
        assert!(bytes.windows(8).any(|w| w == score.to_le_bytes()));
    }
    let (_, status, _) = call(&bench, "ModelStreamInfer", framed(&ask(3))[..9].to_vec()).await;
    assert_eq!(status, "3", "it ended within a message");
}

#[tokio::test]
async fn failures_are_statuses() {
    let bench = served().await;
    let twice = [ask(3), field(7, &[0; 8])].concat();
    for (name, body, status, part) in [
        ("ModelInfer", framed(&field(1, b"fraud")), "5", "endpoints are `churn`"),
        ("ModelInfer", framed(&field(1, b"churn")), "3", "no inputs"),
        ("ModelInfer", framed(&twice), "3", "2 raw contents"),
        ("ModelInfer", framed(&[255, 255, 255]), "3", "cannot be read"),
        ("ModelInfer", b"{}".to_vec(), "3", "not one message"),
        ("ModelInfer", [0, 255, 255, 255, 255].to_vec(), "3", "at most"),
        ("ModelInfer", [1, 0, 0, 0, 1, 9].to_vec(), "3", "does not say how"),
        ("ModelReady", framed(&[field(1, b"churn"), field(2, b"9")].concat()), "5", "does not serve version 9"),
        ("RepositoryModelUnload", framed(&field(2, b"churn")), "3", "gristmill apply"),
    ] {
        let (bytes, got, message) = call(&bench, name, body).await;
        assert_eq!((bytes.len(), got.as_str()), (0, status), "{name}: {message}");
        assert!(message.contains(part), "{message} lacks {part}");
    }
    assert_eq!(bench.plane.flush().await.expect("flushes"), 0, "nothing of these was predicted");
}
