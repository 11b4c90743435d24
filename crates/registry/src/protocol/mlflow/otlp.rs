//! `POST /v1/traces`: spans from MLflow's clients and from any exporter of OpenTelemetry, as protocol buffers or JSON, plain or compressed.
//!
//! The header `x-mlflow-experiment-id` names the experiment, `x-mlflow-run-id` the run that the traces are linked to. All spans of a request
//! are taken, or none. What a compressed body becomes is limited like a plain one.

use super::error::invalid;
use super::{Mlflow, traces};
use flate2::read::{DeflateDecoder, GzDecoder, ZlibDecoder};
use gristmill_kernel::limits::TRACE_BODY_BYTES_MAX;
use gristmill_kernel::tracking::trace::TraceId;
use gristmill_kernel::{Code, Fault, Kind, Result, RunId};
use gristmill_web::{Call, Method, Permission, Response, Routes, StatusCode, check_json_depth, plain};
use std::borrow::Cow;
use std::io::Read;
use std::sync::Arc;

const EXPERIMENT: &str = "x-mlflow-experiment-id";
const RUN: &str = "x-mlflow-run-id";
const PROTOBUF: &str = "application/x-protobuf";

pub(super) fn routes(m: &Arc<Mlflow>) -> Routes {
    vec![
        super::at(m, &Method::POST, "/v1/traces", Permission::Track, export)
            .body_limit(TRACE_BODY_BYTES_MAX)
            .takes_anything()
            .gives_anything(),
    ]
    .into()
}

async fn export(m: Arc<Mlflow>, call: Call) -> Result<Response> {
    let Told { experiment, run, encoding, is_json } = told(&call)?;
    let (experiment, location) = traces::place(&m, &experiment).await?;
    let body = call.bytes().await?;
    let body = inflated(&body, encoding.as_deref())?;
    let sent = if is_json { of_json(&body)? } else { traces::protobuf::read(&body)? };
    if sent.is_empty() {
        return Err(invalid("Invalid OpenTelemetry format - no spans found"));
    }
    let batches = traces::batches(sent, experiment, &location)?;
    // A trace whose root is here is complete as far as this request goes.
    let ended: Vec<TraceId> =
        batches.iter().filter(|batch| batch.spans.iter().any(|span| span.parent.is_none())).map(|batch| batch.trace.clone()).collect();
    if !batches.is_empty() {
        m.traces.log_spans(batches).await?;
    }
    if let Some(run) = run
        && !ended.is_empty()
        && m.tracking.tracked_run(&run).await?.is_some()
    {
        m.traces.link_traces(&ended, &run).await?;
    }
    // An empty answer is a whole one: nothing was refused.
    Ok(plain(StatusCode::OK, PROTOBUF, Vec::new()))
}

/// What the headers say.
struct Told {
    experiment: String,
    run: Option<RunId>,
    encoding: Option<String>,
    is_json: bool,
}

fn told(call: &Call) -> Result<Told> {
    let header = |name: &str| call.header(name).map(str::trim).filter(|value| !value.is_empty()).map(str::to_owned);
    let media_type = header("content-type").unwrap_or_default();
    Ok(Told {
        experiment: header(EXPERIMENT).ok_or_else(|| invalid(format!("Missing value for required header '{EXPERIMENT}'.")))?,
        run: header(RUN).map(RunId),
        encoding: header("content-encoding"),
        is_json: match media_type.split(';').next().map(str::trim) {
            Some(PROTOBUF) => false,
            Some("application/json") => true,
            _ => return Err(invalid(format!("Invalid Content-Type: {media_type}. Expected: {PROTOBUF} or application/json"))),
        },
    })
}

fn of_json(body: &[u8]) -> Result<Vec<traces::Sent>> {
    check_json_depth(body)?;
    let request = serde_json::from_slice(body).map_err(|_| invalid("Invalid OpenTelemetry format"))?;
    traces::of_json(&request)
}

/// The body as it was before it was compressed.
fn inflated<'b>(body: &'b [u8], encoding: Option<&str>) -> Result<Cow<'b, [u8]>> {
    let encoding = encoding.unwrap_or("identity").to_ascii_lowercase();
    match encoding.as_str() {
        "identity" => Ok(Cow::Borrowed(body)),
        "gzip" => limited(GzDecoder::new(body), &encoding).map(Cow::Owned),
        // Some clients send the stream without its frame.
        "deflate" => match limited(ZlibDecoder::new(body), &encoding) {
            Err(fault) if fault.kind == Kind::Invalid => limited(DeflateDecoder::new(body), &encoding).map(Cow::Owned),
            inflated => inflated.map(Cow::Owned),
        },
        other => Err(invalid(format!("Unsupported Content-Encoding: {}", other.escape_debug()))),
    }
}

fn limited(stream: impl Read, encoding: &str) -> Result<Vec<u8>> {
    let mut out = Vec::new();
    let read = stream.take(TRACE_BODY_BYTES_MAX as u64 + 1).read_to_end(&mut out);
    read.map_err(|_| invalid(format!("Failed to decompress {encoding} payload")))?;
    if out.len() > TRACE_BODY_BYTES_MAX {
        let message = format!("the body is larger than {TRACE_BODY_BYTES_MAX} bytes when it is decompressed");
        return Err(Fault::new(Kind::TooLarge, Code::BODY_TOO_LARGE, message).fix("send it in several requests"));
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::Compression;
    use flate2::write::{DeflateEncoder, GzEncoder, ZlibEncoder};
    use std::io::Write;

    #[test]
    fn bodies_are_inflated_up_to_their_limit() {
        let text = b"spans spans spans".repeat(100);
        let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
        let mut zlib = ZlibEncoder::new(Vec::new(), Compression::fast());
        let mut raw = DeflateEncoder::new(Vec::new(), Compression::fast());
        for encoder in [&mut gzip as &mut dyn Write, &mut zlib, &mut raw] {
            encoder.write_all(&text).expect("compress");
        }
        for (body, encoding) in [
            (text.clone(), None),
            (text.clone(), Some("identity")),
            (gzip.finish().expect("gzip"), Some("GZIP")),
            (zlib.finish().expect("zlib"), Some("deflate")),
            (raw.finish().expect("deflate"), Some("deflate")),
        ] {
            assert_eq!(inflated(&body, encoding).expect("inflate"), text, "{encoding:?}");
        }
        assert_eq!(inflated(&text, Some("gzip")).expect_err("no gzip").message, "Failed to decompress gzip payload");
        assert_eq!(inflated(&text, Some("br")).expect_err("unknown").message, "Unsupported Content-Encoding: br");
        let mut bomb = GzEncoder::new(Vec::new(), Compression::best());
        for _ in 0..=TRACE_BODY_BYTES_MAX / (1 << 20) {
            bomb.write_all(&vec![0; 1 << 20]).expect("compress");
        }
        let bomb = bomb.finish().expect("gzip");
        assert!(bomb.len() < 1 << 20);
        assert_eq!(inflated(&bomb, Some("gzip")).expect_err("too large").kind, Kind::TooLarge);
    }
}
