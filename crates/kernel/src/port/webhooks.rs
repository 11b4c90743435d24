//! Webhooks that people registered, and the one way to call the outside.

use crate::time::Span;
use crate::tracking::webhook::Webhook;
use crate::{Actor, Result, Timestamp};
use async_trait::async_trait;
use bytes::Bytes;
use secrecy::SecretString;

/// Webhooks, audited on the ledger without address and secret.
#[async_trait]
pub trait Webhooks: Send + Sync {
    /// Writes a webhook: a new one, or in place of the one with its id. More than [`crate::limits::WEBHOOKS_MAX`] are refused.
    async fn put_webhook(&self, webhook: &Webhook, actor: &Actor, now: Timestamp) -> Result<()>;
    /// One by id.
    async fn webhook(&self, id: &str) -> Result<Option<Webhook>>;
    /// All, newest first.
    async fn webhooks(&self) -> Result<Vec<Webhook>>;
    /// Removes one; one that is not there is [`crate::Code::UNKNOWN_WEBHOOK`].
    async fn delete_webhook(&self, id: &str, actor: &Actor, now: Timestamp) -> Result<()>;
}

/// A message to an address that a person named.
#[derive(Debug, Clone)]
pub struct Post {
    /// The address; it may hold a token of its owner.
    pub url: SecretString,
    /// Headers beside those of HTTP itself.
    pub headers: Vec<(&'static str, String)>,
    /// The body.
    pub body: Bytes,
}

/// What the other side said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Posted {
    /// The status.
    pub status: u16,
    /// The beginning of the body, at most [`crate::limits::WEBHOOK_ANSWER_BYTES_MAX`].
    pub body: String,
    /// How long it asks us to wait before the next try.
    pub retry_after: Option<Span>,
}

/// Calls the outside with the product's one client: known schemes, addresses checked and pinned, no redirects, time and size caps.
#[async_trait]
pub trait Outward: Send + Sync {
    /// Whether an address may be called: scheme, host, and what the host resolves to now. The message names the host, nothing else of it.
    async fn check(&self, url: &SecretString) -> Result<()>;
    /// Posts, after checking again. Any answer is an answer, whatever its status; no answer is an error that does not hold the address.
    async fn post(&self, post: Post) -> Result<Posted>;
}
