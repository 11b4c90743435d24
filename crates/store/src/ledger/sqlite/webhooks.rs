//! Webhooks: a table of their own, audited on the same chain without address and secret.

use super::SqliteLedger;
use super::cells::Cells;
use super::open::fault;
use super::write::{append, commit, write};
use crate::{rules, story};
use async_trait::async_trait;
use gristmill_kernel::port::Webhooks;
use gristmill_kernel::tracking::webhook::{Webhook, WebhookEvent};
use gristmill_kernel::{Actor, Result, Timestamp};
use sqlx::sqlite::SqliteRow;

/// | `webhooks` | an address that is told what happens in the registry; `events` is JSON, `secret` is sealed | written, replaced, removed |
pub(super) const V5: &str = "
CREATE TABLE webhooks (
    id          TEXT PRIMARY KEY NOT NULL,
    name        TEXT NOT NULL,
    description TEXT,
    url         TEXT NOT NULL,
    events      TEXT NOT NULL,
    active      BIGINT NOT NULL,
    secret      TEXT,
    created_at  BIGINT NOT NULL,
    updated_at  BIGINT NOT NULL
);
CREATE INDEX webhooks_by_time ON webhooks (created_at, id);
";

impl SqliteLedger {
    fn webhook_of(&self, row: &SqliteRow) -> Result<Webhook> {
        let c = Cells::keyed(row, "webhooks", "id")?;
        let id = c.text("id")?;
        let words: Vec<String> = c.json("events")?;
        let event = |words: &String| WebhookEvent::parse(words).ok_or_else(|| c.damage("events", format_args!("`{words}` is no event")));
        let secret = c.maybe_text("secret")?.map(|sealed| self.seal.open(&id, &sealed)).transpose()?;
        Ok(Webhook {
            name: c.text("name")?,
            description: c.maybe_text("description")?,
            url: c.text("url")?,
            events: words.iter().map(event).collect::<Result<_>>()?,
            active: c.int("active")? != 0,
            secret,
            created_at: c.time("created_at")?,
            updated_at: c.time("updated_at")?,
            id,
        })
    }
}

#[async_trait]
impl Webhooks for SqliteLedger {
    async fn put_webhook(&self, webhook: &Webhook, actor: &Actor, now: Timestamp) -> Result<()> {
        let sealed = webhook.secret.as_ref().map(|secret| self.seal.seal(&webhook.id, secret)).transpose()?;
        let events: Vec<String> = webhook.events.iter().map(|e| e.words()).collect();
        let events = serde_json::to_string(&events).map_err(|e| gristmill_kernel::Fault::internal("events do not serialise").because(e))?;
        let mut db = self.writer().await;
        let mut tx = write(&mut db).await?;
        let others: i64 = sqlx::query_scalar("SELECT count(*) FROM webhooks WHERE id <> $1")
            .bind(&webhook.id)
            .fetch_one(&mut *tx)
            .await
            .map_err(|e| fault("count webhooks", e))?;
        rules::room_for_webhook(usize::try_from(others).unwrap_or(usize::MAX))?;
        sqlx::query("DELETE FROM webhooks WHERE id = $1")
            .bind(&webhook.id)
            .execute(&mut *tx)
            .await
            .map_err(|e| fault("write a webhook", e))?;
        sqlx::query(
            "INSERT INTO webhooks (id, name, description, url, events, active, secret, created_at, updated_at) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
        )
        .bind(&webhook.id)
        .bind(&webhook.name)
        .bind(&webhook.description)
        .bind(&webhook.url)
        .bind(events)
        .bind(i64::from(webhook.active))
        .bind(sealed)
        .bind(webhook.created_at.micros())
        .bind(webhook.updated_at.micros())
        .execute(&mut *tx)
        .await
        .map_err(|e| fault("write a webhook", e))?;
        append(&mut tx, now, story::webhook_set(webhook, actor)).await?;
        commit(tx).await
    }

    async fn webhook(&self, id: &str) -> Result<Option<Webhook>> {
        let mut db = self.reader().await?;
        let row = sqlx::query("SELECT * FROM webhooks WHERE id = $1").bind(id).fetch_optional(&mut *db).await;
        row.map_err(|e| fault("look for a webhook", e))?.as_ref().map(|row| self.webhook_of(row)).transpose()
    }

    async fn webhooks(&self) -> Result<Vec<Webhook>> {
        let mut db = self.reader().await?;
        let rows = sqlx::query("SELECT * FROM webhooks ORDER BY created_at DESC, id DESC").fetch_all(&mut *db).await;
        rows.map_err(|e| fault("list webhooks", e))?.iter().map(|row| self.webhook_of(row)).collect()
    }

    async fn delete_webhook(&self, id: &str, actor: &Actor, now: Timestamp) -> Result<()> {
        let mut db = self.writer().await;
        let mut tx = write(&mut db).await?;
        let gone = sqlx::query("DELETE FROM webhooks WHERE id = $1").bind(id).execute(&mut *tx).await;
        if gone.map_err(|e| fault("remove a webhook", e))?.rows_affected() == 0 {
            return Err(rules::unknown_webhook(id));
        }
        append(&mut tx, now, story::webhook_deleted(id, actor)).await?;
        commit(tx).await
    }
}
