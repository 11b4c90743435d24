//! Tokens, audited on the same chain.

use super::SqliteLedger;
use super::cells::Cells;
use super::open::fault;
use super::write::{append, commit, write};
use crate::{rules, story};
use async_trait::async_trait;
use gristmill_kernel::port::{Token, Tokens};
use gristmill_kernel::{Actor, Digest, Result, Timestamp};
use sqlx::sqlite::SqliteRow;

fn token_of(row: &SqliteRow) -> Result<Token> {
    let c = Cells::keyed(row, "tokens", "name")?;
    Ok(Token {
        name: c.text("name")?,
        hash: c.parse("hash")?,
        role: c.text("role")?,
        made_at: c.time("made_at")?,
        expires_at: c.maybe_time("expires_at")?,
        revoked_at: c.maybe_time("revoked_at")?,
    })
}

#[async_trait]
impl Tokens for SqliteLedger {
    async fn put_token(&self, token: Token, actor: &Actor, now: Timestamp) -> Result<()> {
        let mut db = self.writer().await;
        let mut tx = write(&mut db).await?;
        let known = sqlx::query("SELECT 1 FROM tokens WHERE name = $1 OR hash = $2")
            .bind(&token.name)
            .bind(token.hash.to_string())
            .fetch_optional(&mut *tx)
            .await
            .map_err(|e| fault("look for a token", e))?;
        if known.is_some() {
            return Err(rules::token_exists(&token.name));
        }
        sqlx::query("INSERT INTO tokens (name, hash, role, made_at, expires_at, revoked_at) VALUES ($1, $2, $3, $4, $5, $6)")
            .bind(&token.name)
            .bind(token.hash.to_string())
            .bind(&token.role)
            .bind(token.made_at.micros())
            .bind(token.expires_at.map(Timestamp::micros))
            .bind(token.revoked_at.map(Timestamp::micros))
            .execute(&mut *tx)
            .await
            .map_err(|e| fault("write a token", e))?;
        append(&mut tx, now, story::token_made(&token, actor)).await?;
        commit(tx).await
    }

    async fn token_by_hash(&self, hash: &Digest) -> Result<Option<Token>> {
        // Every request may ask.
        let mut db = self.reader_at_once().await?;
        let row = sqlx::query("SELECT * FROM tokens WHERE hash = $1")
            .bind(hash.to_string())
            .fetch_optional(&mut *db)
            .await
            .map_err(|e| fault("look for a token", e))?;
        row.as_ref().map(token_of).transpose()
    }

    async fn tokens(&self) -> Result<Vec<Token>> {
        let mut db = self.reader().await?;
        let rows = sqlx::query("SELECT * FROM tokens ORDER BY name").fetch_all(&mut *db).await.map_err(|e| fault("list tokens", e))?;
        rows.iter().map(token_of).collect()
    }

    async fn revoke_token(&self, name: &str, actor: &Actor, now: Timestamp) -> Result<()> {
        let mut db = self.writer().await;
        let mut tx = write(&mut db).await?;
        let row = sqlx::query("SELECT * FROM tokens WHERE name = $1")
            .bind(name)
            .fetch_optional(&mut *tx)
            .await
            .map_err(|e| fault("look for a token", e))?;
        let Some(row) = row else { return Err(rules::unknown_token(name)) };
        if token_of(&row)?.revoked_at.is_some() {
            return Ok(());
        }
        sqlx::query("UPDATE tokens SET revoked_at = $2 WHERE name = $1")
            .bind(name)
            .bind(now.micros())
            .execute(&mut *tx)
            .await
            .map_err(|e| fault("revoke a token", e))?;
        append(&mut tx, now, story::token_revoked(name, actor)).await?;
        commit(tx).await
    }
}
