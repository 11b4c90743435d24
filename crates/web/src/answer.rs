//! Answers in the few forms we give.

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures::stream;
use gristmill_kernel::{Fault, Result};
use http::{HeaderValue, StatusCode, header};
use serde::Serialize;
use std::future::Future;

/// 200 with JSON.
pub fn json(value: &impl Serialize) -> Result<Response> {
    json_status(StatusCode::OK, value)
}

/// JSON with a status.
pub fn json_status(status: StatusCode, value: &impl Serialize) -> Result<Response> {
    let bytes = serde_json::to_vec(value).map_err(|e| Fault::internal("an answer does not serialise").because(e))?;
    Ok(typed(status, "application/json", bytes))
}

/// 200 with JSON whose head goes out at once and whose body follows when `rest` has ended well. If it does not, the connection breaks off
/// before the body: whoever reads answers to their end has none. For clients that do, and that have the head to read meanwhile.
pub fn json_after(body: &'static str, rest: impl Future<Output = Result<()>> + Send + 'static) -> Response {
    let body_after = async move {
        // What is written so far is sent when a body has to be waited for.
        tokio::task::yield_now().await;
        rest.await.map(|()| Bytes::from_static(body.as_bytes())).inspect_err(|fault| {
            tracing::error!(error = %fault, "an answer that had begun broke off");
        })
    };
    let length = HeaderValue::from(body.len());
    let kind = HeaderValue::from_static("application/json");
    ([(header::CONTENT_TYPE, kind), (header::CONTENT_LENGTH, length)], Body::from_stream(stream::once(body_after))).into_response()
}

/// Text with a media type of its own.
pub fn plain(status: StatusCode, media_type: &'static str, text: impl Into<Vec<u8>>) -> Response {
    typed(status, media_type, text.into())
}

/// A page. Whoever writes it escapes what it shows.
pub fn html(page: impl Into<Vec<u8>>) -> Response {
    typed(StatusCode::OK, "text/html; charset=utf-8", page.into())
}

/// A style sheet; it may be kept for an hour.
pub fn style(css: &'static str) -> Response {
    let mut response = typed(StatusCode::OK, "text/css; charset=utf-8", css.as_bytes().to_vec());
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("max-age=3600"));
    response
}

fn typed(status: StatusCode, media_type: &'static str, body: Vec<u8>) -> Response {
    (status, [(header::CONTENT_TYPE, HeaderValue::from_static(media_type))], body).into_response()
}
