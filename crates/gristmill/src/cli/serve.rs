//! `gristmill serve`: predictions, ingestion, control API on one port.

use super::{Cx, Ended, Exit};
use crate::config::DEFAULT_PORT;
use crate::front::{Front, Seat};
use crate::server::{Coming, Options, Server};
use crate::wiring::Workspace;
use clap::Args;
use gristmill_auth::Role;
use gristmill_kernel::Fault;
use std::net::{IpAddr, Ipv4Addr};

/// Serve the project: predictions, ingestion, control API.
#[derive(Debug, Args)]
pub struct Serve {
    /// The port; 7300, or where the platform of `--front` asks.
    #[arg(long)]
    port: Option<u16>,
    /// The address to listen on; 127.0.0.1, or all of them behind `--front`.
    #[arg(long)]
    host: Option<IpAddr>,
    /// The managed platform whose container this is. It knows its callers: they may ask for predictions without a token, and nothing else.
    #[arg(long, value_name = "PLATFORM")]
    front: Option<Front>,
    /// A host name this server answers to, besides loopback and addresses. May be given several times.
    #[arg(long = "name", value_name = "HOST")]
    names: Vec<String>,
}

impl Serve {
    pub async fn run(self, cx: &Cx) -> Ended {
        let workspace = Workspace::load(cx).await?;
        workspace.save_lock()?;
        let front = self.front.map_or_else(|| cx.outside.front.as_deref().map(Front::named).transpose(), |front| Ok(Some(front)))?;
        let seat = front.map(|front| front.seat(&cx.outside.container)).transpose()?;
        let host = self.host.unwrap_or(if seat.is_some() { Ipv4Addr::UNSPECIFIED } else { Ipv4Addr::LOCALHOST }.into());
        let port = self.port.or(seat.as_ref().map(|seat| seat.port)).unwrap_or(DEFAULT_PORT);
        let nameless = seat.is_some().then_some(Role::Predictor);
        let vertex = seat.and_then(|Seat { vertex, .. }| vertex);
        let options = Options { host, port, coming: Coming { nameless, vertex, names: self.names }, observer: cx.out.observer() };
        let stop = until_told_to_stop()?;
        let server = Server::start(cx, &workspace, options).await?;
        first_token(cx, &workspace).await?;
        announce(cx, &server.url);
        stop.await;
        cx.out.say("stopping: no new requests, those in flight are answered");
        server.stop().await?;
        Ok(Exit::Done)
    }
}

/// There is no default password: without any token, one is made and shown once.
async fn first_token(cx: &Cx, workspace: &Workspace) -> Result<(), Fault> {
    let tokens = workspace.state.tokens.as_ref();
    if !tokens.tokens().await?.is_empty() {
        return Ok(());
    }
    let now = workspace.state.ports.clock.now();
    let new = gristmill_auth::NewToken { name: "first".to_owned(), role: gristmill_auth::Role::Admin, expires_at: None };
    let token = gristmill_auth::make_token(tokens, workspace.state.ports.ids.as_ref(), new, &cx.actor(), now).await?;
    cx.out.say(format!("an admin token was made; it is shown this once: {}", gristmill_auth::expose(&token)));
    cx.out.hint("send it as Authorization: Bearer TOKEN; commands read GRISTMILL_TOKEN; make others with gristmill token new");
    Ok(())
}

/// Says where everything is.
pub fn announce(cx: &Cx, url: &str) {
    if cx.out.is_json() {
        cx.out.data_json(&serde_json::json!({"url": url, "pid": std::process::id()}));
        return;
    }
    cx.out.say(format!("serving  {url}/  status page, {url}/openapi.json, {url}/metrics"));
}

/// Ctrl-C or SIGTERM. Both are listened for from the call on, not from the first wait on: a server that answers can be told to stop.
pub fn until_told_to_stop() -> Result<impl Future<Output = ()>, Fault> {
    use tokio::signal::unix::{SignalKind, signal};
    let listen = |kind| signal(kind).map_err(|e: std::io::Error| Fault::io("signals", e));
    let (mut term, mut interrupt) = (listen(SignalKind::terminate())?, listen(SignalKind::interrupt())?);
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = term.recv() => {}
        }
    })
}
