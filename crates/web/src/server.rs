//! The accept loop: bind, accept, answer, drain.
//!
//! `axum::serve` sets no timer, which makes the header timeout of `hyper` inert, and it has no cap on connections; so the loop is ours.
//! HTTP/1.1, and HTTP/2 for those who speak it from their first byte on, as clients of gRPC do. A connection over the cap is told so and closed at
//! once; the others keep their latency.

use crate::app::App;
use axum::body::Body;
use gristmill_kernel::limits::{CONNECTIONS_MAX, DRAIN_TIMEOUT_MS, HEADER_READ_TIMEOUT_MS, HTTP2_HEADER_BYTES_MAX, HTTP2_STREAMS_MAX};
use gristmill_kernel::{Code, Fault, Kind, Result};
use http::Request;
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

const FULL: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nretry-after: 1\r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length: 98\r\n\r\n\
{\"code\":\"E0507\",\"message\":\"too many connections are open\",\"fix\":\"try again in a second\",\"id\":null}";

/// How a connection of HTTP/2 begins (<https://www.rfc-editor.org/rfc/rfc9113#section-3.4>). No request of HTTP/1.1 has this method, so its first
/// word tells.
const PREFACE: &[u8] = b"PRI ";
/// How often a connection of HTTP/2 is asked whether it is still there, and how long it may take to say so.
const PING_EVERY: Duration = Duration::from_secs(30);

/// How stopping went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Drained {
    /// Whether every request in flight was answered in time.
    pub complete: bool,
}

/// Binds the one port.
pub async fn bind(address: SocketAddr) -> Result<TcpListener> {
    TcpListener::bind(address).await.map_err(|e| {
        let port = address.port();
        match e.kind() {
            std::io::ErrorKind::AddrInUse => {
                let next = port.checked_add(1).unwrap_or(7300);
                Fault::new(Kind::Conflict, Code::PORT_IN_USE, format!("port {port} of {} is in use", address.ip()))
                    .fix(format!("stop the other program, or use --port {next}"))
            }
            std::io::ErrorKind::PermissionDenied => {
                Fault::new(Kind::Denied, Code::PORT_IN_USE, format!("port {port} may not be opened by this user"))
                    .fix("use a port above 1023, such as --port 7300")
            }
            _ => Fault::new(Kind::Unavailable, Code::IO, format!("cannot listen on {address}: {e}"))
                .fix("check the address with `ip addr`; 127.0.0.1 always works"),
        }
        .because(e)
    })
}

/// Answers until `shutdown` is ready, then lets requests in flight finish. Stopping order for the caller: turn readiness off, complete
/// `shutdown`, wait for this, flush.
pub async fn serve(listener: TcpListener, app: App, shutdown: impl Future<Output = ()> + Send) -> Drained {
    serve_with(listener, app, shutdown, Waits::default()).await
}

/// The waits of the accept loop; tests shorten them.
pub(crate) struct Waits {
    pub connections: usize,
    pub headers: Duration,
    pub drain: Duration,
}

impl Default for Waits {
    fn default() -> Waits {
        Waits {
            connections: CONNECTIONS_MAX,
            headers: Duration::from_millis(HEADER_READ_TIMEOUT_MS),
            drain: Duration::from_millis(DRAIN_TIMEOUT_MS),
        }
    }
}

pub(crate) async fn serve_with(listener: TcpListener, app: App, shutdown: impl Future<Output = ()> + Send, waits: Waits) -> Drained {
    let graceful = GracefulShutdown::new();
    let slots = Arc::new(Semaphore::new(waits.connections));
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(waits.headers).max_headers(100).keep_alive(true);
    let mut builder2 = http2::Builder::new(TokioExecutor::new());
    builder2.timer(TokioTimer::new()).max_concurrent_streams(HTTP2_STREAMS_MAX).max_header_list_size(HTTP2_HEADER_BYTES_MAX);
    builder2.keep_alive_interval(PING_EVERY).keep_alive_timeout(PING_EVERY);
    let mut shutdown = std::pin::pin!(shutdown);
    loop {
        let stream = tokio::select! {
            biased;
            () = &mut shutdown => break,
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    // Out of file descriptors, or the peer left already. Waiting a little lets others finish.
                    tracing::warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(Duration::from_millis(20)).await;
                    continue;
                }
            },
        };
        let Ok(slot) = slots.clone().try_acquire_owned() else {
            turn_away(stream);
            continue;
        };
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "a connection keeps its delay");
        }
        let app = app.clone();
        let service = service_fn(move |request: Request<Incoming>| {
            let app = app.clone();
            async move { Ok::<_, Infallible>(app.handle(request.map(Body::new)).await) }
        });
        let (builder, builder2, watcher, headers) = (builder.clone(), builder2.clone(), graceful.watcher(), waits.headers);
        tokio::spawn(async move {
            let ended = match tokio::time::timeout(headers, speaks_http2(&stream)).await {
                Ok(Ok(true)) => watcher.watch(builder2.serve_connection(TokioIo::new(stream), service)).await,
                Ok(Ok(false)) => watcher.watch(builder.serve_connection(TokioIo::new(stream), service)).await,
                // Whoever says nothing loses its place.
                Ok(Err(_)) | Err(_) => Ok(()),
            };
            if let Err(error) = ended {
                tracing::debug!(%error, "a connection ended early");
            }
            drop(slot);
        });
    }
    drop(listener);
    let complete = tokio::time::timeout(waits.drain, graceful.shutdown()).await.is_ok();
    if !complete {
        tracing::warn!(waited_ms = waits.drain.as_millis() as u64, "stopped with requests in flight");
    }
    Drained { complete }
}

/// Whether a client speaks HTTP/2; its bytes stay where they are.
async fn speaks_http2(stream: &TcpStream) -> std::io::Result<bool> {
    let mut first = [0; PREFACE.len()];
    loop {
        let seen = stream.peek(&mut first).await?;
        if first[..seen] != PREFACE[..seen] || seen == 0 {
            return Ok(false);
        }
        if seen == PREFACE.len() {
            return Ok(true);
        }
        // What is there is there at once again: the rest of the word is on its way.
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// Tells a connection over the cap to come back, without waiting for it.
fn turn_away(stream: TcpStream) {
    tracing::warn!("a connection was turned away: too many are open");
    // A new socket's send buffer takes these few bytes; if not, closing is answer enough.
    let _ = stream.try_write(FULL);
}
