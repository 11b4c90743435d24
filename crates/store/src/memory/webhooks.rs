//! Webhooks in memory.

use super::MemoryLedger;
use crate::{rules, story};
use async_trait::async_trait;
use gristmill_kernel::port::Webhooks;
use gristmill_kernel::tracking::webhook::Webhook;
use gristmill_kernel::{Actor, Result, Timestamp};

#[async_trait]
impl Webhooks for MemoryLedger {
    async fn put_webhook(&self, webhook: &Webhook, actor: &Actor, now: Timestamp) -> Result<()> {
        self.write(|state| {
            rules::room_for_webhook(state.webhooks.keys().filter(|id| **id != webhook.id).count())?;
            state.webhooks.insert(webhook.id.clone(), webhook.clone());
            state.append(now, story::webhook_set(webhook, actor));
            Ok(())
        })
    }
    async fn webhook(&self, id: &str) -> Result<Option<Webhook>> {
        Ok(self.read().webhooks.get(id).cloned())
    }
    async fn webhooks(&self) -> Result<Vec<Webhook>> {
        let mut all: Vec<Webhook> = self.read().webhooks.values().cloned().collect();
        all.sort_by(|a, b| (b.created_at, &b.id).cmp(&(a.created_at, &a.id)));
        Ok(all)
    }
    async fn delete_webhook(&self, id: &str, actor: &Actor, now: Timestamp) -> Result<()> {
        self.write(|state| {
            state.webhooks.remove(id).ok_or_else(|| rules::unknown_webhook(id))?;
            state.append(now, story::webhook_deleted(id, actor));
            Ok(())
        })
    }
}
