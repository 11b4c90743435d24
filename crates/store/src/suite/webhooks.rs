//! What every `Webhooks` promises.

use crate::system::ManualClock;
use gristmill_kernel::port::{AuditFilter, Clock, Ledger, Webhooks};
use gristmill_kernel::tracking::webhook::{Webhook, WebhookEvent};
use gristmill_kernel::{Actor, Code, Kind, Timestamp, limits};
use secrecy::{ExposeSecret, SecretString};
use std::sync::Arc;

/// A webhook made at a moment.
pub fn webhook(id: &str, at: i64) -> Webhook {
    Webhook {
        id: id.into(),
        name: format!("hook-{id}"),
        description: Some("tells the team".into()),
        url: "https://hooks.example/T/token-abc".into(),
        events: vec![WebhookEvent::ModelCreated, WebhookEvent::AliasDeleted],
        active: true,
        secret: Some("hunter2".to_owned().into()),
        created_at: Timestamp::from_micros(at),
        updated_at: Timestamp::from_micros(at),
    }
}

/// Everything about a webhook, for comparing.
fn told(webhook: &Webhook) -> (String, Option<String>) {
    let secret = webhook.secret.as_ref().map(|s: &SecretString| s.expose_secret().to_owned());
    (format!("{:?}", Webhook { secret: None, ..webhook.clone() }), secret)
}

/// Runs every case. The two ports are the same ledger.
pub async fn run<F: Future<Output = (Arc<dyn Webhooks>, Arc<dyn Ledger>)>>(make: impl Fn(Arc<dyn Clock>) -> F) {
    let now = Timestamp::from_micros(9);
    let (hooks, ledger) = make(Arc::new(ManualClock::new(now))).await;
    let ada = Actor::user("ada");
    assert!(hooks.webhook("a").await.expect("look").is_none());
    assert!(hooks.webhooks().await.expect("list").is_empty());
    for (id, at) in [("a", 1), ("c", 3), ("b", 3)] {
        hooks.put_webhook(&webhook(id, at), &ada, now).await.expect("put");
    }
    let found = hooks.webhook("a").await.expect("look").expect("is there");
    assert_eq!(told(&found), told(&webhook("a", 1)));
    let ids: Vec<String> = hooks.webhooks().await.expect("list").into_iter().map(|w| w.id).collect();
    assert_eq!(ids, ["c", "b", "a"], "newest first");
    // In place of the one with its id.
    let changed = Webhook { secret: None, description: None, active: false, events: vec![WebhookEvent::PromptTagSet], ..webhook("a", 1) };
    hooks.put_webhook(&changed, &ada, now).await.expect("put again");
    assert_eq!(told(&hooks.webhook("a").await.expect("look").expect("is there")), told(&changed));
    assert_eq!(hooks.webhooks().await.expect("list").len(), 3);
    hooks.delete_webhook("a", &ada, now).await.expect("delete");
    let fault = hooks.delete_webhook("a", &ada, now).await.expect_err("twice");
    assert_eq!((fault.kind, fault.code), (Kind::NotFound, Code::UNKNOWN_WEBHOOK));
    assert_eq!(fault.message, "Webhook with ID a not found.");
    let lines = ledger.audit(&AuditFilter::default()).await.expect("audit");
    let said: Vec<_> = lines.iter().map(|l| (l.action.as_str(), l.subject.as_str())).collect();
    assert_eq!(said.first(), Some(&("webhook.set", "webhooks.a")));
    assert_eq!(said.last(), Some(&("webhook.deleted", "webhooks.a")));
    let text = serde_json::to_string(&lines).expect("JSON");
    assert!(!text.contains("hunter2") && !text.contains("token-abc"), "neither secret nor address is in the chain");
    // As many as there may be, and no more.
    for n in 2..limits::WEBHOOKS_MAX {
        hooks.put_webhook(&webhook(&format!("n{n}"), 5), &ada, now).await.expect("put");
    }
    assert_eq!(hooks.put_webhook(&webhook("more", 6), &ada, now).await.expect_err("too many").kind, Kind::Busy);
    hooks.put_webhook(&webhook("b", 3), &ada, now).await.expect("one that is there may change");
}
