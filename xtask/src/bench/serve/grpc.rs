//! A unary client of `inference.GRPCInferenceService/ModelInfer` over HTTP/2: what a load generator needs and no more.
//!
//! A connection has one request on its way at a time, as those of the HTTP client do, so that both protocols are asked alike. `h2` writes path
//! and token anew with every request; clients that keep them in HPACK's table give the server a little less to do.

use crate::bench::tracking::worker::Measured;
use anyhow::{Context, Result, bail};
use bytes::{BufMut as _, Bytes, BytesMut};
use h2::client::SendRequest;
use prost::Message;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::net::TcpStream;
use tokio::sync::Barrier;
use tokio::task::JoinSet;

/// A tensor, without its values: those go behind, as bytes.
#[derive(Clone, PartialEq, Message)]
pub struct Tensor {
    /// Its name.
    #[prost(string, tag = "1")]
    pub name: String,
    /// `FP32`, `INT64`.
    #[prost(string, tag = "2")]
    pub datatype: String,
    /// Its sizes.
    #[prost(int64, repeated, tag = "3")]
    pub shape: Vec<i64>,
}

/// An output that is wanted.
#[derive(Clone, PartialEq, Message)]
pub struct Wanted {
    /// Its name.
    #[prost(string, tag = "1")]
    pub name: String,
}

/// `ModelInferRequest`.
#[derive(Clone, PartialEq, Message)]
pub struct Ask {
    /// The endpoint.
    #[prost(string, tag = "1")]
    pub model_name: String,
    /// What is given.
    #[prost(message, repeated, tag = "5")]
    pub inputs: Vec<Tensor>,
    /// What is wanted.
    #[prost(message, repeated, tag = "6")]
    pub outputs: Vec<Wanted>,
    /// The values of each input, little-endian.
    #[prost(bytes = "vec", repeated, tag = "7")]
    pub raw_inputs: Vec<Vec<u8>>,
}

/// `ModelInferResponse`.
#[derive(Clone, PartialEq, Message)]
pub struct Answer {
    /// What is given back.
    #[prost(message, repeated, tag = "5")]
    pub outputs: Vec<Tensor>,
    /// The values of each output, little-endian.
    #[prost(bytes = "vec", repeated, tag = "6")]
    pub raw_outputs: Vec<Vec<u8>>,
}

/// Whom to ask.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Channel {
    /// The server's address.
    pub at: SocketAddr,
    /// The value of `authorization`.
    pub auth: Option<String>,
}

/// Asks once; the message of the answer.
pub fn once(channel: &Channel, message: &[u8]) -> Result<Vec<u8>> {
    let (channel, message) = (channel.clone(), framed(message));
    runtime()?.block_on(async move {
        let mut connection = Connection::open(&channel).await?;
        connection.call(&message).await
    })
}

/// Messages in turn over several connections, for so long.
pub fn in_turn(channel: &Channel, messages: &[Vec<u8>], connections: usize, seconds: f64) -> Result<Measured> {
    let messages: Arc<[Bytes]> = messages.iter().map(|message| framed(message)).collect();
    let (start, limit) = (Arc::new(Barrier::new(connections)), Duration::from_secs_f64(seconds));
    runtime()?.block_on(async move {
        let mut tasks = JoinSet::new();
        for number in 0..connections {
            tasks.spawn(one_connection(channel.clone(), messages.clone(), number * messages.len() / connections, start.clone(), limit));
        }
        let (mut times, mut longest) = (Vec::new(), 0.0_f64);
        while let Some(ended) = tasks.join_next().await {
            let (some, took) = ended.context("a connection's task panicked")??;
            times.extend(some);
            longest = longest.max(took);
        }
        Ok(Measured::of(times, longest))
    })
}

fn runtime() -> Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_current_thread().enable_io().build()?)
}

/// Each connection begins elsewhere, and asks once before the clock runs.
async fn one_connection(
    channel: Channel,
    messages: Arc<[Bytes]>,
    first: usize,
    start: Arc<Barrier>,
    limit: Duration,
) -> Result<(Vec<Duration>, f64)> {
    let mut next = messages.iter().cycle().skip(first);
    let opened = async {
        let mut connection = Connection::open(&channel).await?;
        connection.call(next.next().context("there is nothing to ask")?).await?;
        anyhow::Ok(connection)
    };
    let opened = opened.await;
    // Everybody comes here, also who failed: the others would wait for ever.
    start.wait().await;
    let mut connection = opened?;
    let (mut times, begun) = (Vec::new(), Instant::now());
    while begun.elapsed() < limit {
        let message = next.next().context("there is nothing to ask")?;
        let asked = Instant::now();
        connection.call(message).await?;
        times.push(asked.elapsed());
    }
    Ok((times, begun.elapsed().as_secs_f64()))
}

/// A message behind its length, not compressed.
fn framed(message: &[u8]) -> Bytes {
    let mut frame = BytesMut::with_capacity(5 + message.len());
    frame.put_u8(0);
    frame.put_u32(message.len() as u32);
    frame.put_slice(message);
    frame.freeze()
}

struct Connection {
    sender: Option<SendRequest<Bytes>>,
    head: http::Request<()>,
}

impl Connection {
    async fn open(channel: &Channel) -> Result<Connection> {
        let stream = TcpStream::connect(channel.at).await.with_context(|| format!("connect to {}", channel.at))?;
        stream.set_nodelay(true)?;
        let mut settings = h2::client::Builder::new();
        let (sender, connection) = settings.initial_window_size(1 << 20).initial_connection_window_size(1 << 24).handshake(stream).await?;
        // It ends with its sender; what went wrong on it, the call says.
        let _driver = tokio::spawn(connection);
        let mut head = http::Request::post(format!("http://{}/inference.GRPCInferenceService/ModelInfer", channel.at))
            .version(http::Version::HTTP_2)
            .header("content-type", "application/grpc")
            .header("te", "trailers");
        if let Some(auth) = &channel.auth {
            head = head.header("authorization", auth);
        }
        Ok(Connection { sender: Some(sender), head: head.body(())? })
    }

    async fn call(&mut self, frame: &Bytes) -> Result<Vec<u8>> {
        let mut sender = self.sender.take().context("the connection is closed")?.ready().await?;
        let (answer, mut body) = sender.send_request(self.head.clone(), false)?;
        self.sender = Some(sender);
        body.send_data(frame.clone(), true)?;
        let (head, mut body) = answer.await?.into_parts();
        let mut got = Vec::new();
        while let Some(part) = body.data().await {
            let part = part?;
            body.flow_control().release_capacity(part.len())?;
            got.extend_from_slice(&part);
        }
        // An answer without a message has its status in the head.
        let trailers = body.trailers().await?.unwrap_or_else(|| head.headers.clone());
        let field = |name: &str| trailers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
        if head.status != 200 || field("grpc-status") != "0" {
            bail!("status {}, gRPC's {}: {}", head.status, field("grpc-status"), field("grpc-message"));
        }
        Ok(got.split_off(got.len().min(5)))
    }
}
