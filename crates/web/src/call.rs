//! An admitted request: who calls, what the path and the query say, and a body that has not been read yet.
//!
//! Invariant: only [`crate::App`] makes a [`Call`], after the doorkeeper admitted the caller for the route's permission.

use crate::progress::Progress;
use axum::body::Body;
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;
use gristmill_kernel::limits::{DISCARD_TIMEOUT_MS, DISCARDED_BYTES_MAX, JSON_DEPTH_MAX};
use gristmill_kernel::{Actor, Code, Fault, Kind, Result};
use http::{HeaderMap, Method, Uri};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde::de::DeserializeOwned;
use std::str::FromStr;

/// Who calls.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// The name under which the ledger remembers what they do.
    pub actor: Actor,
    /// The role's word: `admin`, `editor`, `viewer`, `predictor`, or `anonymous` on a public route.
    pub role: String,
}

/// An admitted request.
pub struct Call {
    caller: Caller,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    params: Vec<(String, String)>,
    body: Body,
    body_bytes_max: usize,
    progress: Progress,
}

impl Call {
    pub(crate) fn new(
        caller: Caller,
        parts: http::request::Parts,
        params: Vec<(String, String)>,
        body: Body,
        body_bytes_max: usize,
    ) -> Call {
        Call {
            caller,
            method: parts.method,
            uri: parts.uri,
            headers: parts.headers,
            params,
            body,
            body_bytes_max,
            progress: Progress::default(),
        }
    }

    /// The same, counting what goes through.
    pub(crate) fn counting(mut self, progress: Progress) -> Call {
        self.progress = progress;
        self
    }

    /// Who calls.
    pub fn caller(&self) -> &Caller {
        &self.caller
    }
    /// The request's headers. Credentials have been taken out.
    pub fn headers(&self) -> &HeaderMap {
        &self.headers
    }
    /// A header as text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|v| v.to_str().ok())
    }
    /// The method as it was asked.
    pub fn method(&self) -> &Method {
        &self.method
    }
    /// The path as it was asked.
    pub fn path(&self) -> &str {
        self.uri.path()
    }
    /// A parameter of the path, decoded: `call.param("id")` for `/runs/{id}`.
    pub fn param(&self, name: &str) -> Result<&str> {
        let found = self.params.iter().find(|(key, _)| key == name);
        found.map(|(_, value)| value.as_str()).ok_or_else(|| Fault::internal(format!("the route has no parameter `{name}`")))
    }
    /// A parameter of the path as one of our types.
    pub fn parse<T: FromStr<Err = Fault>>(&self, name: &str) -> Result<T> {
        self.param(name)?.parse()
    }
    /// The query string as one of the handler's own types. Unknown keys are refused if the type says so.
    pub fn query<T: DeserializeOwned>(&self) -> Result<T> {
        axum::extract::Query::<T>::try_from_uri(&self.uri).map(|query| query.0).map_err(|e| {
            Fault::invalid(Code::BAD_BODY, format!("the query string cannot be read: {}", e.body_text()))
                .fix("check the names and values behind `?`")
        })
    }
    /// The whole body, up to the route's limit.
    pub async fn bytes(self) -> Result<Bytes> {
        let limit = self.body_bytes_max;
        match Limited::new(self.body, limit).collect().await {
            Ok(body) => Ok(body.to_bytes()),
            Err(error) => Err(body_fault(error, limit)),
        }
    }
    /// The body piece by piece, up to the route's limit. Memory does not grow with it. For routes that are [`crate::Route::streamed`]: there
    /// the route's time counts from the last piece.
    pub fn stream(self) -> BoxStream<'static, Result<Bytes>> {
        let (limit, progress) = (self.body_bytes_max, self.progress);
        let pieces = Limited::new(self.body, limit).into_data_stream();
        pieces
            .map(move |piece| {
                progress.tick();
                piece.map_err(|error| body_fault(error, limit))
            })
            .boxed()
    }
    /// What counts the progress of this request: work that goes on after the body ended ticks it.
    pub fn progress(&self) -> Progress {
        self.progress.clone()
    }
    /// Reads on past a body that nobody wants, so that its sender meets the answer; gives the fault back.
    pub async fn refuse(self, fault: Fault) -> Fault {
        discard(self.body).await;
        fault
    }
    /// The body as JSON of one of the handler's own types.
    pub async fn json<T: DeserializeOwned>(self) -> Result<T> {
        read_json(&self.bytes().await?)
    }
}

/// Reads on past a refused body, without keeping it and only so far: a client that is still sending would otherwise meet a closed
/// connection instead of the answer.
pub(crate) async fn discard(body: Body) {
    let reading = async {
        let mut body = Limited::new(body, DISCARDED_BYTES_MAX);
        while let Some(Ok(_)) = body.frame().await {}
    };
    let _given_up = tokio::time::timeout(std::time::Duration::from_millis(DISCARD_TIMEOUT_MS), reading).await;
}

/// The bytes of a body that we made ourselves.
pub async fn body_bytes(body: Body) -> Result<Bytes> {
    body.collect().await.map(|body| body.to_bytes()).map_err(|e| Fault::internal("an answer broke off").because(e))
}

/// Why a body could not be read.
fn body_fault(error: Box<dyn std::error::Error + Send + Sync>, limit: usize) -> Fault {
    if is_length_limit(error.as_ref()) {
        return too_large(limit);
    }
    Fault::invalid(Code::BAD_BODY, "the body ended early").fix("send the request again").because(error)
}

/// A body above its limit.
pub(crate) fn too_large(limit: usize) -> Fault {
    Fault::new(Kind::TooLarge, Code::BODY_TOO_LARGE, format!("the body is larger than {limit} bytes"))
        .fix("send it in several requests; nothing of this one was taken")
}

/// Reads JSON with a limit on its depth, looked at before anything is allocated.
fn read_json<T: DeserializeOwned>(bytes: &[u8]) -> Result<T> {
    check_json_depth(bytes)?;
    serde_json::from_slice(bytes).map_err(|e| {
        let what =
            if bytes.is_empty() { "the body is empty".to_owned() } else { format!("the body cannot be read as JSON for this route: {e}") };
        Fault::invalid(Code::BAD_BODY, what).fix("send one JSON value as /openapi.json describes it")
    })
}

/// Refuses JSON that is nested deeper than the limit, before anything is allocated for it.
pub fn check_json_depth(bytes: &[u8]) -> Result<()> {
    let (mut depth, mut in_text, mut escaped) = (0usize, false, false);
    for byte in bytes {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_text => escaped = true,
            b'"' => in_text = !in_text,
            b'[' | b'{' if !in_text => {
                depth += 1;
                if depth > JSON_DEPTH_MAX {
                    return Err(Fault::invalid(Code::BAD_BODY, format!("the JSON is nested deeper than {JSON_DEPTH_MAX}"))
                        .fix("send a flatter value"));
                }
            }
            b']' | b'}' if !in_text => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    Ok(())
}

fn is_length_limit(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(error) = next {
        if error.is::<LengthLimitError>() {
            return true;
        }
        next = error.source();
    }
    false
}
