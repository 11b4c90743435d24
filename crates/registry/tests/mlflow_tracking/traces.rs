//! Traces, as clients of every age tell of them and ask for them.

use crate::server::{Answer, INVALID, MISSING, Server, assert_refused, text};
use gristmill_web::{Body, Request};
use serde_json::{Value, json};

const TRACE: &str = "tr-0123456789abcdef0123456789abcdef";

async fn v3(server: &Server, method: &str, path: &str, body: Option<Value>) -> Answer {
    server.ask(method, &format!("/api/3.0/mlflow/{path}"), Some("root"), body.as_ref()).await
}
async fn done(server: &Server, method: &str, path: &str, body: Option<Value>) -> Value {
    let (status, answer) = v3(server, method, path, body).await;
    assert_eq!(status, 200, "{method} {path}: {answer}");
    answer
}
async fn refused(server: &Server, method: &str, path: &str, body: Option<Value>, status: u16, word: &str, like: &str) {
    let answer = v3(server, method, path, body.clone()).await;
    assert_refused(&format!("{method} {path} {body:?}"), &answer, status, word, like);
}

/// `POST /v1/traces`.
async fn export(server: &Server, headers: &[(&str, &str)], body: Vec<u8>) -> Answer {
    let mut request = Request::builder().method("POST").uri("/v1/traces").header("host", "localhost:7300");
    for (name, value) in [("authorization", "Bearer root")].iter().chain(headers) {
        request = request.header(*name, *value);
    }
    server.send(request.body(Body::from(body)).expect("a request")).await
}

/// What the client's own library makes of a span with a value of every kind.
fn fixture() -> Vec<u8> {
    let text = include_str!("../../src/protocol/mlflow/traces/fixtures/export.hex");
    let digits: String = text.lines().filter(|line| !line.starts_with('#')).collect();
    (0..digits.len()).step_by(2).map(|at| u8::from_str_radix(&digits[at..at + 2], 16).expect("hex")).collect()
}

const PROTOBUF: &[(&str, &str)] = &[("content-type", "application/x-protobuf"), ("x-mlflow-experiment-id", "0")];
const JSON: &[(&str, &str)] = &[("content-type", "application/json"), ("x-mlflow-experiment-id", "0")];

/// A span in OpenTelemetry's JSON, in a request of its own.
fn span(trace: &str, id: &str, parent: &str, attributes: Value) -> Vec<u8> {
    let span = json!({
        "traceId": trace.trim_start_matches("tr-"), "spanId": id, "parentSpanId": parent, "name": "predict",
        "startTimeUnixNano": "1700000000000000000", "endTimeUnixNano": "1700000000250000000", "status": {"code": 1},
        "attributes": attributes
    });
    json!({"resourceSpans": [{"scopeSpans": [{"spans": [span]}]}]}).to_string().into_bytes()
}

fn whole(trace: &str, experiment: &str) -> Value {
    json!({"trace": {"trace_info": {
        "trace_id": trace,
        "trace_location": {"type": "MLFLOW_EXPERIMENT", "mlflow_experiment": {"experiment_id": experiment}},
        "request_preview": "hi", "request_time": "2023-11-14T22:13:20Z", "execution_duration": "0.250s", "state": "OK",
        "trace_metadata": {"mlflow.trace_schema.version": "3", "mlflow.trace.sizeStats": "{\"num_spans\": 2}"},
        "tags": {"mlflow.traceName": "predict", "team": "blue"}
    }}})
}

async fn search(server: &Server, filter: &str) -> Vec<String> {
    let body = json!({
        "locations": [{"type": "MLFLOW_EXPERIMENT", "mlflow_experiment": {"experiment_id": "0"}}], "filter": filter, "max_results": 10
    });
    let found = done(server, "POST", "traces/search", Some(body)).await;
    found["traces"].as_array().into_iter().flatten().map(|trace| text(&trace["trace_id"])).collect()
}

#[tokio::test]
async fn spans_and_the_whole_become_one_trace() {
    let server = Server::new().await;
    assert_eq!(export(&server, PROTOBUF, fixture()).await, (200, json!("")));
    let info = done(&server, "GET", &format!("traces/{TRACE}"), None).await["trace"]["trace_info"].clone();
    assert_eq!((info["state"].as_str(), info["tags"]["service.name"].as_str()), (Some("IN_PROGRESS"), Some("shop")));
    let place = format!("mlflow-artifacts:/0/traces/{TRACE}/artifacts");
    assert_eq!(info["tags"]["mlflow.artifactLocation"].as_str(), Some(place.as_str()));
    let made = done(&server, "POST", "traces", Some(whole(TRACE, "0"))).await["trace"]["trace_info"].clone();
    assert_eq!(made["tags"]["mlflow.trace.spansLocation"], "TRACKING_STORE");
    assert_eq!((made["request_time"].as_str(), made["execution_duration"].as_str()), (Some("2023-11-14T22:13:20Z"), Some("0.250s")));
    assert_eq!(done(&server, "POST", "traces", Some(whole(TRACE, "0"))).await["trace"]["trace_info"], made, "told twice");
    // One of two spans is there: the trace is not whole yet.
    assert_eq!(done(&server, "GET", &format!("traces/batchGet?trace_ids={TRACE}&trace_ids=tr-0"), None).await, json!({}));
    let partial = done(&server, "GET", &format!("traces/get?trace_id={TRACE}&allow_partial=true"), None).await;
    assert_eq!(partial["trace"]["spans"].as_array().map(Vec::len), Some(1));
    let inputs = json!([{"key": "mlflow.spanInputs", "value": {"kvlistValue": {"values": [{"key": "q", "value": {"stringValue": "x"}}]}}}]);
    for _ in 0..2 {
        assert_eq!(export(&server, JSON, span(TRACE, "00000000000000bb", "", inputs.clone())).await.0, 200);
    }
    let trace = done(&server, "GET", &format!("traces/get?trace_id={TRACE}"), None).await["trace"].clone();
    assert_eq!(trace["trace_info"]["state"], "OK");
    let ids: Vec<&str> = trace["spans"].as_array().expect("spans").iter().filter_map(|span| span["span_id"].as_str()).collect();
    assert_eq!(ids, ["AAAAAAAAALs=", "AAAAAAAAAKo="], "the root comes first");
    assert_eq!(trace["spans"][1]["parent_span_id"], "AAAAAAAAALs=");
    assert_eq!(trace["spans"][1]["trace_id"], "ASNFZ4mrze8BI0VniavN7w==");
    let many = done(&server, "GET", &format!("traces/batchGet?trace_ids={TRACE}&trace_ids=tr-0"), None).await;
    assert_eq!(many["traces"], json!([trace]));
    let infos = done(&server, "POST", "traces/batchGetInfos", Some(json!({"trace_ids": [TRACE, "no id!"]}))).await;
    assert_eq!(infos["trace_infos"], json!([trace["trace_info"]]));
    let elsewhere = json!({"trace_ids": [TRACE], "experiment_ids": ["7"]});
    assert_eq!(done(&server, "POST", "traces/batchGetInfos", Some(elsewhere)).await, json!({}));
}

#[tokio::test]
async fn traces_are_found() {
    let server = Server::new().await;
    export(&server, PROTOBUF, fixture()).await;
    done(&server, "POST", "traces", Some(whole(TRACE, "0"))).await;
    let other = "tr-ffffffffffffffffffffffffffffffff";
    done(&server, "POST", "traces", Some(whole(other, "0"))).await;
    let run = server.run("0", "r").await;
    server.done("traces/link-to-run", json!({"trace_ids": [other, "tr-0"], "run_id": run})).await;
    server.done("traces/link-prompts", json!({"trace_id": other, "prompt_versions": [{"name": "p", "version": "1"}]})).await;
    for (filter, wanted) in [
        ("", vec![TRACE, other]),
        ("status = 'OK' AND tags.team = 'blue'", vec![TRACE, other]),
        ("name = 'predict' AND timestamp_ms > 1700000000000", vec![]),
        ("span.name = 'predict'", vec![TRACE]),
        ("span.status = 'ERROR' AND span.attributes.text RLIKE '^h.llo$'", vec![TRACE]),
        ("span.attributes.`int` = '-5'", vec![TRACE]),
        ("trace.text LIKE '%ValueError%'", vec![TRACE]),
        ("tags.`service.name` = 'shop' OR prompt = 'p/1'", vec![TRACE, other]),
    ] {
        assert_eq!(search(&server, filter).await, wanted, "{filter}");
    }
    assert_eq!(search(&server, &format!("attributes.run_id = '{run}'")).await, [other]);
    let page = |token: Option<&str>| {
        let mut body =
            json!({"locations": [{"mlflow_experiment": {"experiment_id": "0"}}], "max_results": 1, "order_by": ["request_id DESC"]});
        if let Some(token) = token {
            body["page_token"] = token.into();
        }
        body
    };
    let first = done(&server, "POST", "traces/search", Some(page(None))).await;
    assert_eq!(text(&first["traces"][0]["trace_id"]), other);
    let second = done(&server, "POST", "traces/search", Some(page(first["next_page_token"].as_str()))).await;
    assert_eq!((text(&second["traces"][0]["trace_id"]).as_str(), second.get("next_page_token")), (TRACE, None));
    let old = server.read("traces?experiment_ids=0&experiment_ids=5&filter=name%20%3D%20%27predict%27").await;
    assert_eq!((old["traces"].as_array().map(Vec::len), old["traces"][0]["status"].as_str()), (Some(2), Some("OK")));
    for (body, like) in [
        (json!({}), "Missing value for required parameter 'locations'"),
        (json!({"locations": [], "max_results": 501}), "Invalid value 501 for parameter 'max_results'"),
        (json!({"locations": [], "max_results": 0}), "must be a positive integer"),
        (json!({"locations": [], "filter": "speed > 1"}), "Invalid attribute key 'speed'"),
        (json!({"locations": [], "filter": "name RLIKE '('"}), "regular expression"),
        (json!({"locations": [], "order_by": ["status", "status"]}), "duplicate fields"),
        (json!({"locations": [], "order_by": ["span.name"]}), "Invalid identifier type"),
        (json!({"locations": [], "page_token": "%"}), "Invalid page token"),
    ] {
        refused(&server, "POST", "traces/search", Some(body), 400, INVALID, like).await;
    }
    server.refused("traces/link-to-run", json!({"trace_ids": [TRACE], "run_id": "nobody"}), 404, MISSING, "nobody").await;
    let many: Vec<String> = (0..101).map(|n| format!("tr-{n}")).collect();
    server.refused("traces/link-to-run", json!({"trace_ids": many, "run_id": run}), 400, INVALID, "Cannot link more than 100").await;
}

#[tokio::test]
async fn old_clients_begin_and_end_traces() {
    let server = Server::new().await;
    let begin = json!({
        "experiment_id": "0", "timestamp_ms": 1_700_000_000_000_i64, "request_metadata": [{"key": "a", "value": "1"}],
        "tags": [{"key": "mlflow.traceName", "value": "f"}]
    });
    let begun = server.done("traces", begin).await["trace_info"].clone();
    let id = text(&begun["request_id"]);
    assert_eq!((id.len(), begun["status"].as_str(), begun["timestamp_ms"].as_i64()), (32, Some("IN_PROGRESS"), Some(1_700_000_000_000)));
    let place = begun["tags"].as_array().expect("tags").iter().find(|tag| tag["key"] == "mlflow.artifactLocation").expect("a place");
    assert_eq!(place["value"], format!("mlflow-artifacts:/0/traces/{id}/artifacts"));
    let end = json!({"timestamp_ms": 1_700_000_000_070_i64, "status": "OK", "request_metadata": [], "tags": [{"key": "t", "value": "x"}]});
    let path = format!("/api/2.0/mlflow/traces/{id}");
    let (status, ended) = server.ask("PATCH", &path, Some("root"), Some(&end)).await;
    assert_eq!((status, ended["trace_info"]["execution_time_ms"].as_i64()), (200, Some(70)), "{ended}");
    let info = server.read(&format!("traces/{id}/info")).await;
    assert_eq!(info["trace_info"], ended["trace_info"]);
    // The client uploads the spans, and everybody finds them there.
    let file = json!({"spans": [{"name": "f"}]}).to_string();
    let upload = format!("/api/2.0/mlflow-artifacts/artifacts/0/traces/{id}/artifacts/traces.json");
    let request = Request::builder().method("PUT").uri(&upload).header("host", "localhost:7300").header("authorization", "Bearer root");
    let answer = server.send(request.body(Body::from(file.clone())).expect("a request")).await;
    assert_eq!(answer.0, 200, "{answer:?}");
    let shown = server.ask("GET", &format!("/ajax-api/2.0/mlflow/get-trace-artifact?request_id={id}"), Some("root"), None).await;
    assert_eq!(shown, (200, serde_json::from_str(&file).expect("JSON")));
    refused(&server, "GET", &format!("traces/get?trace_id={id}"), None, 404, MISSING, "is not fully exported yet").await;
    let (status, answer) = server.ask("PATCH", "/api/2.0/mlflow/traces/4567", Some("root"), Some(&end)).await;
    assert_refused("end", &(status, answer), 404, MISSING, "Trace with ID '4567' not found.");
}

#[tokio::test]
async fn tags_are_set_and_removed_but_not_the_servers_own() {
    let server = Server::new().await;
    done(&server, "POST", "traces", Some(whole(TRACE, "0"))).await;
    let tags = format!("traces/{TRACE}/tags");
    for _ in 0..2 {
        assert_eq!(done(&server, "PATCH", &tags, Some(json!({"key": "k", "value": "v"}))).await, json!({}));
    }
    assert_eq!(search(&server, "tags.k = 'v'").await, [TRACE]);
    done(&server, "PATCH", &tags, Some(json!({"key": "long", "value": "x".repeat(9_000)}))).await;
    assert_eq!(done(&server, "DELETE", &tags, Some(json!({"key": "k"}))).await, json!({}));
    refused(&server, "DELETE", &tags, Some(json!({"key": "k"})), 404, MISSING, "No trace tag with key 'k'").await;
    refused(&server, "PATCH", "traces/tr-0/tags", Some(json!({"key": "k"})), 404, MISSING, "Trace with ID 'tr-0' not found.").await;
    refused(&server, "PATCH", &tags, Some(json!({"value": "v"})), 400, INVALID, "required parameter 'key'").await;
    let own = json!({"key": "mlflow.trace.spansLocation", "value": "TRACKING_STORE"});
    refused(&server, "PATCH", &tags, Some(own.clone()), 400, INVALID, "is immutable and cannot be set on a trace").await;
    refused(&server, "DELETE", &tags, Some(own), 400, INVALID, "is immutable and cannot be deleted on a trace").await;
    refused(&server, "PATCH", &tags, Some(json!({"key": "../x", "value": "v"})), 400, INVALID, "must not resolve to other names").await;
    let name = json!({"key": "mlflow.traceName", "value": "x".repeat(4_097)});
    refused(&server, "PATCH", &tags, Some(name), 400, INVALID, "Trace name").await;
}

#[tokio::test]
async fn assessments_are_made_corrected_and_removed() {
    let server = Server::new().await;
    done(&server, "POST", "traces", Some(whole(TRACE, "0"))).await;
    let path = format!("traces/{TRACE}/assessments");
    let feedback = json!({"assessment": {
        "assessment_name": "quality", "trace_id": TRACE, "source": {"source_type": "HUMAN", "source_id": "ada"},
        "create_time": "2023-11-14T22:13:21.500Z", "last_update_time": "2023-11-14T22:13:21.500Z", "feedback": {"value": 0.5},
        "metadata": {"k": "v"}, "rationale": "so so"
    }});
    let made = done(&server, "POST", &path, Some(feedback.clone())).await["assessment"].clone();
    assert_eq!(done(&server, "POST", &path, Some(feedback)).await["assessment"], made, "sent again");
    let id = text(&made["assessment_id"]);
    assert!(id.starts_with("a-") && made["valid"] == json!(true) && made["create_time"] == "2023-11-14T22:13:21.500Z", "{made}");
    let one = format!("{path}/{id}");
    assert_eq!(done(&server, "GET", &one, None).await["assessment"], made);
    assert_eq!(search(&server, "feedback.quality >= 0.5").await, [TRACE]);
    let update = json!({"assessment": {"feedback": {"value": "good"}, "rationale": "better"}, "update_mask": "feedback,rationale"});
    let changed = done(&server, "PATCH", &one, Some(update)).await["assessment"].clone();
    assert_eq!((changed["feedback"]["value"].as_str(), changed["rationale"].as_str()), (Some("good"), Some("better")));
    assert_eq!(changed["metadata"], json!({"k": "v"}));
    let wrong = json!({"assessment": {"expectation": {"value": 1}}, "update_mask": "expectation"});
    refused(&server, "PATCH", &one, Some(wrong), 400, INVALID, "Cannot update expectation value on a Feedback assessment.").await;
    let correction = json!({"assessment": {"assessment_name": "quality", "feedback": {"value": true}, "overrides": id}});
    let second = text(&done(&server, "POST", &path, Some(correction.clone())).await["assessment"]["assessment_id"]);
    assert_eq!(done(&server, "GET", &one, None).await["assessment"]["valid"], json!(false));
    assert_eq!(done(&server, "DELETE", &format!("{path}/{second}"), None).await, json!({}));
    assert_eq!(done(&server, "DELETE", &format!("{path}/{second}"), None).await, json!({}), "twice");
    assert_eq!(done(&server, "GET", &one, None).await["assessment"]["valid"], json!(true));
    let gone = format!("Assessment with ID '{second}' not found for trace");
    refused(&server, "GET", &format!("{path}/{second}"), None, 404, MISSING, &gone).await;
    refused(&server, "POST", "traces/tr-0/assessments", Some(correction), 404, MISSING, "It may have been deleted").await;
    let nothing = json!({"assessment": {"assessment_name": "x"}});
    refused(&server, "POST", &path, Some(nothing), 400, INVALID, "Unknown assessment type").await;
    refused(&server, "POST", &path, Some(json!({})), 400, INVALID, "required parameter 'assessment'").await;
    // Told with the trace.
    let mut told = whole(TRACE, "0");
    told["trace"]["trace_info"]["assessments"] = json!([{"assessment_name": "expected", "expectation": {"value": "y"}}]);
    done(&server, "POST", "traces", Some(told)).await;
    assert_eq!(search(&server, "expectation.expected = 'y'").await, [TRACE]);
}

#[tokio::test]
async fn traces_are_deleted() {
    let server = Server::new().await;
    for n in 1..=4 {
        let mut told = whole(&format!("tr-{n}"), "0");
        told["trace"]["trace_info"]["request_time"] = format!("2023-11-14T22:13:2{n}Z").into();
        done(&server, "POST", "traces", Some(told)).await;
    }
    let delete = async |body: Value| server.done("traces/delete-traces", body).await["traces_deleted"].as_u64();
    assert_eq!(delete(json!({"experiment_id": "0", "request_ids": ["tr-4", "tr-0", "../x"]})).await, Some(1));
    assert_eq!(delete(json!({"experiment_id": "0", "request_ids": ["../x"]})).await, Some(0), "no id is not every id");
    assert_eq!(delete(json!({"experiment_id": "7", "request_ids": ["tr-3"]})).await, Some(0));
    assert_eq!(delete(json!({"experiment_id": "0", "max_timestamp_millis": 1_700_000_002_000_i64, "max_traces": 1})).await, Some(1));
    assert_eq!(search(&server, "").await, ["tr-3", "tr-2"]);
    assert_eq!(delete(json!({"experiment_id": "0", "max_timestamp_millis": "1700000009000"})).await, Some(2));
    for (body, like) in [
        (json!({"experiment_id": "0"}), "Either `max_timestamp_millis` or `trace_ids` must be specified."),
        (json!({"experiment_id": "0", "max_timestamp_millis": 1, "request_ids": ["a"]}), "Only one of"),
        (json!({"experiment_id": "0", "max_traces": 1, "request_ids": ["a"]}), "`max_traces` can't be specified"),
        (json!({"experiment_id": "0", "max_traces": 0, "max_timestamp_millis": 1}), "`max_traces` must be a positive integer, received 0."),
        (json!({"max_timestamp_millis": 1}), "required parameter 'experiment_id'"),
    ] {
        server.refused("traces/delete-traces", body, 400, INVALID, like).await;
    }
}

#[tokio::test]
async fn exports_that_cannot_be_taken_are_refused() {
    let server = Server::new().await;
    let fine = || span(TRACE, "00000000000000bb", "", json!([]));
    let type_json = ("content-type", "application/json");
    for (headers, body, status, word, like) in [
        (vec![type_json], fine(), 400, INVALID, "x-mlflow-experiment-id"),
        (vec![("x-mlflow-experiment-id", "0")], fine(), 400, INVALID, "Invalid Content-Type"),
        (vec![("content-type", "text/plain"), ("x-mlflow-experiment-id", "0")], fine(), 400, INVALID, "Invalid Content-Type: text/plain"),
        (vec![type_json, ("x-mlflow-experiment-id", "99")], fine(), 404, MISSING, "No Experiment with id=99"),
        (vec![type_json, ("x-mlflow-experiment-id", "../0")], fine(), 400, INVALID, "Invalid experiment ID"),
        (JSON.to_vec(), b"{}".to_vec(), 400, INVALID, "no spans found"),
        (JSON.to_vec(), b"{".to_vec(), 400, INVALID, "Invalid OpenTelemetry format"),
        (JSON.to_vec(), "[".repeat(10_000).into_bytes(), 400, INVALID, "nested"),
        (JSON.to_vec(), span("tr-00", "00000000000000bb", "", json!([])), 400, INVALID, "trace_id has 1 bytes, not 16"),
        (JSON.to_vec(), span(TRACE, "", "", json!([])), 400, INVALID, "span_id has 0 bytes, not 8"),
        (PROTOBUF.to_vec(), b"nonsense".to_vec(), 400, INVALID, "Invalid OpenTelemetry format"),
        (PROTOBUF.to_vec(), Vec::new(), 400, INVALID, "no spans found"),
        ([JSON, &[("content-encoding", "gzip")]].concat(), fine(), 400, INVALID, "Failed to decompress gzip payload"),
    ] {
        let answer = export(&server, &headers, body).await;
        assert_refused(&format!("{headers:?}"), &answer, status, word, like);
    }
    assert!(search(&server, "").await.is_empty(), "nothing of them was taken");
    // A good one, linked to a run.
    let run = server.run("0", "r").await;
    assert_eq!(export(&server, &[JSON, &[("x-mlflow-run-id", run.as_str())]].concat(), fine()).await.0, 200);
    assert_eq!(search(&server, &format!("run_id = '{run}'")).await, [TRACE]);
    let answer = server.ask("POST", "/v1/traces", Some("reader"), Some(&json!({}))).await;
    assert_eq!(answer.0, 403);
}

#[tokio::test]
async fn names_of_traces_and_files_lead_nowhere() {
    let server = Server::new().await;
    done(&server, "POST", "traces", Some(whole(TRACE, "0"))).await;
    for evil in ["../0", "..", "a/b", "a\\b", "trace:/x/y", "a.b", ".", "-a", "a%2e%2e", "é", "a b", "\u{0}", &"a".repeat(200)] {
        let answer = v3(&server, "POST", "traces", Some(whole(evil, "0"))).await;
        assert_refused(evil, &answer, 400, INVALID, "Invalid trace ID");
    }
    for evil in ["..%2Fx", "%2e%2e", "a%00", "tr-%0a"] {
        for path in [format!("traces/{evil}"), format!("traces/get?trace_id={evil}"), format!("get-trace-artifact?request_id={evil}")] {
            let (status, answer) = v3(&server, "GET", &path, None).await;
            assert!([400, 404].contains(&status), "{path}: {status} {answer}");
        }
    }
    for evil in
        ["../traces.json", "..", "/etc/passwd", "..%2f..", "a/../../b", "a\\..\\b", "file:///etc/passwd", "C:\\x", "%2e%2e/x", "~/x"]
    {
        let path =
            format!("get-trace-artifact?request_id={TRACE}&path={}", evil.replace('%', "%25").replace('\\', "%5C").replace('/', "%2F"));
        let (status, answer) = v3(&server, "GET", &path, None).await;
        assert!([400, 404].contains(&status), "{path}: {status} {answer}");
    }
    for missing in ["get-trace-artifact", "traces/get", "traces/batchGet"] {
        refused(&server, "GET", missing, None, 400, INVALID, "Missing value for required parameter").await;
    }
    let location = json!({"key": "mlflow.artifactLocation", "value": "file:///etc"});
    done(&server, "PATCH", &format!("traces/{TRACE}/tags"), Some(location)).await;
    let (status, _) = v3(&server, "GET", &format!("get-trace-artifact?request_id={TRACE}"), None).await;
    assert_eq!(status, 501, "an address that a client wrote into the tag is opened by nobody");
}

#[tokio::test]
async fn figures_are_computed() {
    let server = Server::new().await;
    for (n, (state, ms)) in [("OK", 100), ("OK", 300), ("ERROR", 50)].into_iter().enumerate() {
        let mut told = whole(&format!("tr-{n}"), "0");
        let info = &mut told["trace"]["trace_info"];
        info["state"] = state.into();
        info["execution_duration"] = format!("0.{ms:03}s").into();
        info["request_time"] = format!("2023-11-14T22:1{n}:00Z").into();
        info["tags"]["odd"] = if n % 2 == 1 { "yes" } else { "no" }.into();
        info["trace_metadata"]["mlflow.trace.tokenUsage"] = "{\"input_tokens\": 10, \"output_tokens\": 5, \"total_tokens\": 15}".into();
        done(&server, "POST", "traces", Some(told)).await;
    }
    let ask = async |more: Value| {
        let mut body = json!({"experiment_ids": ["0"], "view_type": "TRACES"});
        body.as_object_mut().expect("an object").extend(more.as_object().cloned().expect("an object"));
        done(&server, "POST", "traces/metrics", Some(body)).await["data_points"].clone()
    };
    let latency = json!({"metric_name": "latency", "aggregations": [{"aggregation_type": "AVG"}, {"aggregation_type": "PERCENTILE", "percentile_value": 50.0}]});
    assert_eq!(ask(latency).await, json!([{"metric_name": "latency", "values": {"AVG": 150.0, "P50.0": 100.0}}]));
    let by_state = json!({"metric_name": "trace_count", "aggregations": [{"aggregation_type": "COUNT"}], "dimensions": ["trace_status"]});
    let wanted = json!([
        {"metric_name": "trace_count", "dimensions": {"trace_status": "ERROR"}, "values": {"COUNT": 1.0}},
        {"metric_name": "trace_count", "dimensions": {"trace_status": "OK"}, "values": {"COUNT": 2.0}}
    ]);
    assert_eq!(ask(by_state).await, wanted);
    let over_time = json!({
        "metric_name": "total_tokens", "aggregations": [{"aggregation_type": "SUM"}], "time_interval_seconds": 60,
        "start_time_ms": 1_699_999_980_000_i64, "end_time_ms": 1_700_000_000_000_i64, "filters": ["trace.tag.odd = 'no'", "trace.status = 'OK'"]
    });
    let wanted =
        json!([{"metric_name": "total_tokens", "dimensions": {"time_bucket": "2023-11-14T22:10:00+00:00"}, "values": {"SUM": 15.0}}]);
    let shifted = json!({"start_time_ms": 1_699_999_000_000_i64});
    let mut body = over_time;
    body.as_object_mut().expect("an object").extend(shifted.as_object().cloned().expect("an object"));
    assert_eq!(ask(body).await, wanted);
    let together = json!({"experiment_ids": ["0"], "filter_string1": "status = 'ERROR'", "filter_string2": "tags.odd = 'no'"});
    let together = done(&server, "POST", "traces/calculate-filter-correlation", Some(together)).await;
    let counts = ["filter1_count", "filter2_count", "joint_count", "total_count"].map(|name| together[name].as_u64());
    assert_eq!(counts, [Some(1), Some(2), Some(1), Some(3)]);
    assert!(together["npmi"].as_f64().is_some_and(|npmi| npmi > 0.3), "{together}");
}
