//! Remote procedures of gRPC over the one port: a message in, a message out.
//!
//! A procedure is a [`Route`] like any other, so the door, the permissions and the limits are the same, and a test that walks the routes meets it.
//! What a protocol's failure is on the wire follows from the kind. Framing and statuses:
//! <https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md>. A refusal at the door is an HTTP status, which clients translate
//! (<https://github.com/grpc/grpc/blob/master/doc/http-grpc-status-mapping.md>).

use crate::call::Call;
use crate::route::{Route, route};
use axum::body::Body;
use axum::response::Response;
use bytes::{Buf, BufMut, Bytes, BytesMut};
use flate2::read::{GzDecoder, ZlibDecoder};
use futures::StreamExt;
use futures::stream::{self, BoxStream};
use gristmill_auth::Permission;
use gristmill_kernel::limits::BODY_BYTES_MAX;
use gristmill_kernel::{Code, Fault, Kind, Result};
use http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use http_body_util::StreamBody;
use hyper::body::Frame;
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use prost::Message;
use serde_json::Value;
use std::convert::Infallible;
use std::future::Future;
use std::io::Read;
use std::sync::Arc;

/// The type of every body.
pub const MEDIA_TYPE: &str = "application/grpc";
/// Bytes before a message: whether it is compressed, and its length.
const PREFIX_BYTES: usize = 5;
/// What a message of a status escapes.
const ESCAPED: &AsciiSet = &CONTROLS.add(b'%');
const STATUS: HeaderName = HeaderName::from_static("grpc-status");
const MESSAGE: HeaderName = HeaderName::from_static("grpc-message");

/// A procedure that answers one message with one.
pub fn unary<Q, A, H, F>(path: &str, permission: Permission, handler: H) -> Route
where
    Q: Message + Default + 'static,
    A: Message + 'static,
    H: Fn(Q) -> F + Send + Sync + 'static,
    F: Future<Output = Result<A>> + Send + 'static,
{
    let handler = Arc::new(handler);
    route(Method::POST, path, permission, move |call: Call| {
        let handler = handler.clone();
        async move {
            let answered = async {
                let coding = Coding::of(call.header("grpc-encoding"))?;
                let message = whole(call.bytes().await?)?;
                framed(&handler(read(coding, message)?).await?)
            };
            // A panic is the business of whoever called us.
            Ok(match answered.await {
                Ok(frame) => answer(stream::iter([Ok(frame)]).boxed()),
                Err(fault) => refused(&fault),
            })
        }
    })
    .about("gRPC")
    .takes_media(MEDIA_TYPE, Value::Null)
    .gives_media(MEDIA_TYPE)
}

/// A procedure that answers each message of a stream, in order, until the stream ends. A failure of one is for `of_failure` to say.
pub fn streaming<Q, A, H, F>(path: &str, permission: Permission, handler: H, of_failure: fn(&Fault) -> A) -> Route
where
    Q: Message + Default + 'static,
    A: Message + 'static,
    H: Fn(Q) -> F + Send + Sync + 'static,
    F: Future<Output = Result<A>> + Send + 'static,
{
    let handler = Arc::new(handler);
    route(Method::POST, path, permission, move |call: Call| {
        let handler = handler.clone();
        async move {
            let coding = match Coding::of(call.header("grpc-encoding")) {
                Ok(coding) => coding,
                Err(fault) => return Ok(refused(&fault)),
            };
            let asked = Asked { pieces: call.stream(), rest: BytesMut::new() };
            let answers = stream::try_unfold((asked, handler), move |(mut asked, handler)| async move {
                let Some(message) = asked.next().await? else { return Ok(None) };
                let answered = async { handler(read(coding, message)?).await }.await.unwrap_or_else(|fault| of_failure(&fault));
                Ok(Some((framed(&answered)?, (asked, handler))))
            });
            Ok(answer(answers.boxed()))
        }
    })
    .streamed()
    .about("gRPC")
    .takes_media(MEDIA_TYPE, Value::Null)
    .gives_media(MEDIA_TYPE)
}

/// The messages of a request.
struct Asked {
    pieces: BoxStream<'static, Result<Bytes>>,
    rest: BytesMut,
}

impl Asked {
    async fn next(&mut self) -> Result<Option<(bool, Bytes)>> {
        loop {
            if let Some(message) = take(&mut self.rest)? {
                return Ok(Some(message));
            }
            match self.pieces.next().await {
                Some(piece) => self.rest.extend_from_slice(&piece?),
                None if self.rest.is_empty() => return Ok(None),
                None => return Err(bad("the stream ended within a message")),
            }
        }
    }
}

#[derive(Debug, Clone, Copy)]
enum Coding {
    Plain,
    Gzip,
    Deflate,
}

impl Coding {
    fn of(word: Option<&str>) -> Result<Coding> {
        match word {
            None | Some("identity") => Ok(Coding::Plain),
            Some("gzip") => Ok(Coding::Gzip),
            Some("deflate") => Ok(Coding::Deflate),
            Some(other) => Err(bad(format!("messages in the coding `{other}` are not read"))),
        }
    }
}

fn bad(message: impl Into<String>) -> Fault {
    Fault::invalid(Code::BAD_BODY, message).fix("use a client of gRPC")
}

/// Whether the message that begins here is compressed, and its length, once that much is there.
fn prefix(bytes: &[u8]) -> Result<Option<(bool, usize)>> {
    let Some([compressed, length @ ..]) = bytes.first_chunk::<PREFIX_BYTES>() else { return Ok(None) };
    let length = u32::from_be_bytes(*length) as usize;
    if *compressed > 1 || length > BODY_BYTES_MAX {
        return Err(bad(format!("a message is said to have {length} bytes, at most {BODY_BYTES_MAX} are read")));
    }
    Ok(Some((*compressed == 1, length)))
}

/// The one message of a body.
fn whole(body: Bytes) -> Result<(bool, Bytes)> {
    match prefix(&body)? {
        Some((compressed, length)) if body.len() == PREFIX_BYTES + length => Ok((compressed, body.slice(PREFIX_BYTES..))),
        _ => Err(bad("the body is not one message")),
    }
}

/// The next message and whether it is compressed, once it is whole.
fn take(rest: &mut BytesMut) -> Result<Option<(bool, Bytes)>> {
    let Some((compressed, length)) = prefix(rest)? else { return Ok(None) };
    if rest.len() < PREFIX_BYTES + length {
        return Ok(None);
    }
    rest.advance(PREFIX_BYTES);
    Ok(Some((compressed, rest.split_to(length).freeze())))
}

fn read<Q: Message + Default>(coding: Coding, (compressed, bytes): (bool, Bytes)) -> Result<Q> {
    let mut plain = Vec::new();
    let limit = BODY_BYTES_MAX as u64 + 1;
    let unreadable = |e: std::io::Error| bad("a message cannot be decompressed").because(e);
    let bytes = match (compressed, coding) {
        (false, _) => bytes,
        (true, Coding::Plain) => return Err(bad("a message is compressed and does not say how")),
        (true, Coding::Gzip) => {
            GzDecoder::new(bytes.as_ref()).take(limit).read_to_end(&mut plain).map_err(unreadable)?;
            plain.into()
        }
        (true, Coding::Deflate) => {
            ZlibDecoder::new(bytes.as_ref()).take(limit).read_to_end(&mut plain).map_err(unreadable)?;
            plain.into()
        }
    };
    if bytes.len() > BODY_BYTES_MAX {
        return Err(crate::call::too_large(BODY_BYTES_MAX));
    }
    Q::decode(bytes).map_err(|e| bad("a message cannot be read").because(e))
}

fn framed(message: &impl Message) -> Result<Bytes> {
    let length = u32::try_from(message.encoded_len()).map_err(|_| Fault::internal("an answer is too long for a message"))?;
    let mut frame = BytesMut::with_capacity(PREFIX_BYTES + length as usize);
    frame.put_u8(0);
    frame.put_u32(length);
    message.encode(&mut frame).map_err(|e| Fault::internal("an answer cannot be encoded").because(e))?;
    Ok(frame.freeze())
}

/// Messages, then how it ended.
fn answer(messages: BoxStream<'static, Result<Bytes>>) -> Response {
    let frames = stream::unfold((messages, false), |(mut messages, ended)| async move {
        if ended {
            return None;
        }
        let frame = match messages.next().await {
            Some(Ok(message)) => return Some((Ok::<_, Infallible>(Frame::data(message)), (messages, false))),
            Some(Err(fault)) => Frame::trailers(told(&fault)),
            None => Frame::trailers(HeaderMap::from_iter([(STATUS, HeaderValue::from_static("0"))])),
        };
        Some((Ok(frame), (messages, true)))
    });
    let mut response = Response::new(Body::new(StreamBody::new(frames)));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(MEDIA_TYPE));
    response
}

/// A failure and no message.
fn refused(fault: &Fault) -> Response {
    let mut response = Response::new(Body::empty());
    *response.headers_mut() = told(fault);
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(MEDIA_TYPE));
    response
}

fn told(fault: &Fault) -> HeaderMap {
    let status = status_of(fault.kind);
    if status == 13 {
        tracing::error!(code = fault.code.0, "a procedure failed: {fault}");
    }
    let fault = crate::error::outward(fault);
    let text = match &fault.fix {
        Some(fix) => format!("{} [{}]; fix: {fix}", fault.message, fault.code),
        None => format!("{} [{}]", fault.message, fault.code),
    };
    let text = utf8_percent_encode(&text, ESCAPED).to_string();
    let mut headers = HeaderMap::from_iter([(STATUS, HeaderValue::from(status))]);
    headers.extend(HeaderValue::from_str(&text).ok().map(|text| (MESSAGE, text)));
    headers
}

/// <https://grpc.github.io/grpc/core/md_doc_statuscodes.html>
fn status_of(kind: Kind) -> u16 {
    match kind {
        Kind::Cancelled => 1,
        Kind::Invalid => 3,
        Kind::Timeout => 4,
        Kind::NotFound => 5,
        Kind::Denied => 7,
        Kind::Busy | Kind::TooLarge => 8,
        Kind::Conflict | Kind::Refused => 9,
        Kind::Damaged | Kind::Internal => 13,
        Kind::Unavailable => 14,
        Kind::Unauthenticated => 16,
    }
}
