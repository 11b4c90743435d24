//! Tells webhooks what happened, beside the requests: a request puts what happened into a queue and goes on.
//!
//! Promises:
//! - A delivery is signed with the webhook's secret over id, moment and body. Every try of one delivery has the same id.
//! - Tried again are silence, 429 and 500 to 504 of the other side, a few times with a growing wait. What may not be called is not tried again.
//! - Queue, deliveries on their way, tries and waits have limits. When the queue is full what happened is dropped, and the log says so.
//! - What waits when the process ends is lost: MLflow promises no more, and who must know everything asks the registry.

use super::super::hmac::hmac_sha256;
use super::payload::{Told, body, example};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use gristmill_kernel::limits::{
    WEBHOOK_ATTEMPTS_MAX, WEBHOOK_BACKOFF_MS, WEBHOOK_BACKOFF_MS_MAX, WEBHOOK_IN_FLIGHT_MAX, WEBHOOK_WAITING_MAX,
};
use gristmill_kernel::port::{Clock, Ids, Outward, Post, Posted, Webhooks};
use gristmill_kernel::tracking::webhook::{Webhook, WebhookEvent};
use gristmill_kernel::{Kind, Result};
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{Semaphore, mpsc};

/// Webhooks, and what is told to them. Cheap to clone.
#[derive(Clone)]
pub struct Hooks {
    inner: Arc<Inner>,
}

struct Inner {
    line: Line,
    queue: mpsc::Sender<(WebhookEvent, Value)>,
    /// Taken when the first event comes: before that there may be no runtime to work in.
    waiting: Mutex<Option<mpsc::Receiver<(WebhookEvent, Value)>>>,
}

/// The way out.
#[derive(Clone)]
struct Line {
    webhooks: Arc<dyn Webhooks>,
    outward: Arc<dyn Outward>,
    clock: Arc<dyn Clock>,
    ids: Arc<dyn Ids>,
    backoff: Duration,
}

impl Hooks {
    /// Webhooks that are kept in `webhooks` and called through `outward`.
    pub fn new(webhooks: Arc<dyn Webhooks>, outward: Arc<dyn Outward>, clock: Arc<dyn Clock>, ids: Arc<dyn Ids>) -> Hooks {
        Hooks::with_backoff(webhooks, outward, clock, ids, Duration::from_millis(WEBHOOK_BACKOFF_MS))
    }

    pub(crate) fn with_backoff(
        webhooks: Arc<dyn Webhooks>,
        outward: Arc<dyn Outward>,
        clock: Arc<dyn Clock>,
        ids: Arc<dyn Ids>,
        backoff: Duration,
    ) -> Hooks {
        let (queue, waiting) = mpsc::channel(WEBHOOK_WAITING_MAX);
        let line = Line { webhooks, outward, clock, ids, backoff };
        Hooks { inner: Arc::new(Inner { line, queue, waiting: Mutex::new(Some(waiting)) }) }
    }

    /// Where webhooks are kept.
    pub(crate) fn store(&self) -> &dyn Webhooks {
        self.inner.line.webhooks.as_ref()
    }

    /// Whether an address may be called.
    pub(crate) async fn check(&self, url: &str) -> Result<()> {
        self.inner.line.outward.check(&SecretString::from(url.to_owned())).await
    }

    /// Tells whoever wants to know, later. Never waits, never fails.
    pub(crate) fn tell(&self, told: Told) {
        let Some(event) = told.event() else { return };
        let waiting = self.inner.waiting.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(waiting) = waiting {
            tokio::spawn(work(self.inner.line.clone(), waiting));
        }
        if let Err(error) = self.inner.queue.try_send(event) {
            let (event, _) = error.into_inner();
            tracing::warn!(event = event.words(), waiting = WEBHOOK_WAITING_MAX, "webhooks are not told of an event: too many wait");
        }
    }

    /// Sends an example once and says how it went.
    pub(crate) async fn test(&self, webhook: &Webhook, event: WebhookEvent) -> Result<Posted> {
        let line = &self.inner.line;
        line.outward.post(line.message(webhook, event, &example(event))).await
    }
}

/// Takes events from the queue until nobody can send any more.
async fn work(line: Line, mut waiting: mpsc::Receiver<(WebhookEvent, Value)>) {
    let slots = Arc::new(Semaphore::new(WEBHOOK_IN_FLIGHT_MAX));
    while let Some((event, data)) = waiting.recv().await {
        let webhooks = match line.webhooks.webhooks().await {
            Ok(webhooks) => webhooks,
            Err(fault) => {
                tracing::warn!(event = event.words(), code = %fault.code, "webhooks are not told of an event: {fault}");
                continue;
            }
        };
        for webhook in webhooks.into_iter().filter(|w| w.active && w.events.contains(&event)) {
            // Closed only when the program ends.
            let Ok(slot) = slots.clone().acquire_owned().await else { return };
            let (line, post) = (line.clone(), line.message(&webhook, event, &data));
            tokio::spawn(async move {
                line.deliver(&webhook, event, post).await;
                drop(slot);
            });
        }
    }
}

impl Line {
    /// A signed message.
    fn message(&self, webhook: &Webhook, event: WebhookEvent, data: &Value) -> Post {
        let now = self.clock.now();
        let body = body(event, data, now);
        let (id, moment) = (delivery_id(self.ids.as_ref()), now.millis().div_euclid(1_000).to_string());
        let mut headers = vec![("content-type", "application/json".to_owned())];
        if let Some(secret) = &webhook.secret {
            headers.push(("x-mlflow-signature", signature(secret, &id, &moment, &body)));
        }
        headers.extend([("x-mlflow-delivery-id", id), ("x-mlflow-timestamp", moment)]);
        Post { url: SecretString::from(webhook.url.clone()), headers, body: Bytes::from(body) }
    }

    /// Tries until it is taken, refused, or tried often enough.
    async fn deliver(&self, webhook: &Webhook, event: WebhookEvent, post: Post) {
        let mut wait = self.backoff;
        for attempt in 1..=WEBHOOK_ATTEMPTS_MAX {
            let (again, why) = match self.outward.post(post.clone()).await {
                Ok(answer) if answer.status < 400 => return,
                Ok(answer) => {
                    if let Some(asked) = answer.retry_after {
                        wait = wait.max(asked.std());
                    }
                    (matches!(answer.status, 429 | 500 | 502..=504), format!("it answered {}", answer.status))
                }
                Err(fault) => (matches!(fault.kind, Kind::Unavailable | Kind::Timeout), fault.message),
            };
            if !again || attempt == WEBHOOK_ATTEMPTS_MAX {
                tracing::warn!(webhook = webhook.id, event = event.words(), attempt, "a webhook was not told: {why}");
                return;
            }
            tokio::time::sleep(wait.min(Duration::from_millis(WEBHOOK_BACKOFF_MS_MAX)) + self.jitter()).await;
            wait *= 2;
        }
    }

    /// Up to one backoff, so that many webhooks of one host do not come back together.
    fn jitter(&self) -> Duration {
        let mut byte = [0];
        self.ids.random(&mut byte);
        self.backoff.mul_f64(f64::from(byte[0]) / 256.0)
    }
}

/// `v1,` and the code of id, moment and body under the secret.
fn signature(secret: &SecretString, id: &str, moment: &str, body: &str) -> String {
    let message = [id, ".", moment, ".", body].map(str::as_bytes);
    format!("v1,{}", BASE64.encode(hmac_sha256(secret.expose_secret().as_bytes(), message)))
}

/// A random UUID, version 4.
pub(crate) fn delivery_id(ids: &dyn Ids) -> String {
    let mut bytes = [0; 16];
    ids.random(&mut bytes);
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let hex = hex::encode(bytes);
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}

#[cfg(test)]
#[path = "deliver_tests.rs"]
mod tests;
