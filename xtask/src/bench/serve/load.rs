//! The part that makes load: started as a process of its own, so that it can be pinned to its core.
//!
//! Requests are prepared bytes. Each connection waits for its answer before it asks again.

use super::grpc::{self, Channel};
use crate::bench::http::Address;
use crate::bench::tracking::worker;
use anyhow::{Context, Result};

/// Whom to ask what.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Requests {
    /// Whole requests of HTTP/1.1.
    Http(Address, Vec<Vec<u8>>),
    /// Messages of gRPC.
    Grpc(Channel, Vec<Vec<u8>>),
}

/// How long, over how many connections.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Load {
    /// What is asked, in turn.
    pub requests: Requests,
    /// How many connections.
    pub connections: usize,
    /// How long.
    pub seconds: f64,
}

/// Reads what to do from a file, does it, prints what was measured.
pub fn main(file: &str) -> Result<bool> {
    let text = std::fs::read_to_string(file).context("read the load")?;
    let load: Load = serde_json::from_str(&text).context("the load is not understood")?;
    let measured = match &load.requests {
        Requests::Http(address, requests) => worker::in_turn(address, requests, load.connections, load.seconds),
        Requests::Grpc(channel, messages) => grpc::in_turn(channel, messages, load.connections, load.seconds),
    }?;
    println!("{}", serde_json::to_string(&measured)?);
    Ok(true)
}
