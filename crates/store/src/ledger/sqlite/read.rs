//! Reading versions, aliases, metric histories and the audit chain.

use super::SqliteLedger;
use super::cells::Cells;
use super::open::fault;
use super::tracking::Readers;
use crate::story;
use gristmill_kernel::port::{AuditEntry, AuditFilter};
use gristmill_kernel::run::Metric;
use gristmill_kernel::version::{AliasState, Which};
use gristmill_kernel::{Actor, Address, AliasName, Digest, Fault, Result, RunId, Timestamp, Version, VersionRef};
use sqlx::Row;
use sqlx::pool::PoolConnection;
use sqlx::sqlite::{Sqlite, SqliteConnection, SqliteRow};

/// Audit lines a list returns when its filter does not say.
const LINES_LISTED: usize = 1_000;
/// Lines checked per statement when the chain is verified.
const LINES_PER_STEP: i64 = 5_000;

/// The newest line's number and hash; (0, zeros) before the first.
pub(super) async fn head(db: &mut SqliteConnection) -> Result<(u64, [u8; 32])> {
    let row = sqlx::query("SELECT seq, hash FROM audit ORDER BY seq DESC LIMIT 1")
        .fetch_optional(db)
        .await
        .map_err(|e| fault("read the audit chain", e))?;
    let Some(row) = row else { return Ok((0, [0; 32])) };
    let c = Cells::keyed(&row, "audit", "seq")?;
    let hash: Digest = c.parse("hash")?;
    Ok((c.count("seq")?, *hash.bytes()))
}

fn version_of(row: &SqliteRow) -> Result<Version> {
    let mut c = Cells::keyed(row, "versions", "asset")?;
    let id = c.version_ref()?;
    c = Cells::new(row, "versions", &id);
    Ok(Version {
        id,
        digest: c.parse("digest")?,
        place: c.json("place")?,
        rows: c.maybe_count("row_count")?,
        meta: c.json("meta")?,
        run: RunId(c.text("run")?),
        made_at: c.time("made_at")?,
    })
}

pub(super) async fn version(db: &mut SqliteConnection, asset: &Address, which: &Which) -> Result<Option<Version>> {
    let query = match which {
        Which::Latest => sqlx::query("SELECT * FROM versions WHERE asset = $1 ORDER BY number DESC LIMIT 1").bind(asset.to_string()),
        Which::Number(number) => {
            let Ok(number) = i64::try_from(*number) else { return Ok(None) };
            sqlx::query("SELECT * FROM versions WHERE asset = $1 AND number = $2").bind(asset.to_string()).bind(number)
        }
        Which::Alias(alias) => sqlx::query(
            "SELECT v.* FROM aliases a JOIN versions v ON v.asset = a.asset AND v.number = a.number WHERE a.asset = $1 AND a.alias = $2",
        )
        .bind(asset.to_string())
        .bind(alias.as_str()),
    };
    let row = query.fetch_optional(db).await.map_err(|e| fault("read a version", e))?;
    row.as_ref().map(version_of).transpose()
}

fn alias_of(row: &SqliteRow, table: &'static str) -> Result<AliasState> {
    let c = Cells::keyed(row, table, "alias")?;
    Ok(AliasState {
        asset: c.parse("asset")?,
        alias: AliasName::new(c.text("alias")?).map_err(|e| c.damage("alias", e.message))?,
        number: c.maybe_count("number")?,
        previous: c.maybe_count("previous")?,
        actor: Actor(c.text("actor")?),
        reason: c.text("reason")?,
        run: c.maybe_text("run")?.map(RunId),
        moved_at: c.time("moved_at")?,
    })
}

pub(super) async fn alias(db: &mut SqliteConnection, asset: &Address, alias: &AliasName) -> Result<Option<AliasState>> {
    let row = sqlx::query("SELECT * FROM aliases WHERE asset = $1 AND alias = $2")
        .bind(asset.to_string())
        .bind(alias.as_str())
        .fetch_optional(db)
        .await
        .map_err(|e| fault("read an alias", e))?;
    row.as_ref().map(|row| alias_of(row, "aliases")).transpose()
}

fn line_of(row: &SqliteRow) -> Result<(AuditEntry, String)> {
    let c = Cells::keyed(row, "audit", "seq")?;
    let entry = AuditEntry {
        seq: c.count("seq")?,
        at: c.time("at")?,
        actor: Actor(c.text("actor")?),
        action: c.text("action")?,
        subject: c.text("subject")?,
        detail: c.json("detail")?,
        hash: c.parse("hash")?,
    };
    if story::run_of(&entry.detail) != c.maybe_text("run")? {
        return Err(c.damage("run", "differs from the detail"));
    }
    Ok((entry, c.text("detail")?))
}

impl SqliteLedger {
    /// A connection that finds everything that was acknowledged before.
    pub(super) async fn reader(&self) -> Result<PoolConnection<Sqlite>> {
        self.behind.settled().await?;
        self.reader_at_once().await
    }

    /// Connections for pages of runs.
    pub(super) async fn pages(&self) -> Result<&Readers> {
        self.behind.settled().await?;
        Ok(&self.pages)
    }

    /// A connection that may not find the last points that clients logged.
    pub(super) async fn reader_at_once(&self) -> Result<PoolConnection<Sqlite>> {
        self.readers.acquire().await.map_err(|e| fault("open a reader", e))
    }

    pub(super) async fn history_of_metric(&self, run: &RunId, key: &str) -> Result<Vec<(Metric, Timestamp)>> {
        let mut db = self.reader().await?;
        let rows = sqlx::query(
            "SELECT run, step, at, CASE WHEN nan = 0 THEN value END AS value FROM run_metrics \
             WHERE run = (SELECT seq FROM runs WHERE id = $1) AND name = $2 ORDER BY step, at, run_metrics.value, nan",
        )
        .bind(&run.0)
        .bind(key)
        .fetch_all(&mut *db)
        .await
        .map_err(|e| fault("read a metric", e))?;
        rows.iter()
            .map(|row| {
                let c = Cells::keyed(row, "run_metrics", "run")?;
                Ok((Metric { key: key.to_owned(), value: c.float("value")?, step: c.int("step")? }, c.time("at")?))
            })
            .collect()
    }

    pub(super) async fn list_versions(&self, asset: &Address) -> Result<Vec<Version>> {
        let mut db = self.reader().await?;
        let rows = sqlx::query("SELECT * FROM versions WHERE asset = $1 ORDER BY number DESC")
            .bind(asset.to_string())
            .fetch_all(&mut *db)
            .await
            .map_err(|e| fault("list versions", e))?;
        rows.iter().map(version_of).collect()
    }

    pub(super) async fn list_assets(&self) -> Result<Vec<Address>> {
        let mut db = self.reader().await?;
        let rows = sqlx::query("SELECT DISTINCT asset FROM versions ORDER BY asset")
            .fetch_all(&mut *db)
            .await
            .map_err(|e| fault("list assets", e))?;
        rows.iter().map(|row| Cells::keyed(row, "versions", "asset")?.parse("asset")).collect()
    }

    pub(super) async fn list_readers(&self, version: &VersionRef) -> Result<Vec<RunId>> {
        let Ok(number) = i64::try_from(version.number) else { return Ok(Vec::new()) };
        let mut db = self.reader().await?;
        let rows = sqlx::query(
            "SELECT r.id, r.seq FROM run_inputs i JOIN runs r ON r.id = i.run WHERE i.asset = $1 AND i.number = $2 ORDER BY r.seq DESC",
        )
        .bind(version.asset.to_string())
        .bind(number)
        .fetch_all(&mut *db)
        .await
        .map_err(|e| fault("list the readers of a version", e))?;
        let mut ids: Vec<RunId> =
            rows.iter().map(|row| Cells::keyed(row, "runs", "id")?.text("id").map(RunId)).collect::<Result<Vec<_>>>()?;
        ids.dedup();
        Ok(ids)
    }

    pub(super) async fn list_aliases(&self, asset: &Address) -> Result<Vec<AliasState>> {
        let mut db = self.reader().await?;
        let rows = sqlx::query("SELECT * FROM aliases WHERE asset = $1 ORDER BY alias")
            .bind(asset.to_string())
            .fetch_all(&mut *db)
            .await
            .map_err(|e| fault("list aliases", e))?;
        rows.iter().map(|row| alias_of(row, "aliases")).collect()
    }

    pub(super) async fn list_alias_moves(&self, asset: &Address, alias: &AliasName) -> Result<Vec<AliasState>> {
        let mut db = self.reader().await?;
        let rows = sqlx::query("SELECT * FROM alias_moves WHERE asset = $1 AND alias = $2 ORDER BY seq DESC")
            .bind(asset.to_string())
            .bind(alias.as_str())
            .fetch_all(&mut *db)
            .await
            .map_err(|e| fault("list the moves of an alias", e))?;
        rows.iter().map(|row| alias_of(row, "alias_moves")).collect()
    }

    pub(super) async fn list_audit(&self, filter: &AuditFilter) -> Result<Vec<AuditEntry>> {
        let after = i64::try_from(filter.after).unwrap_or(i64::MAX);
        let limit = i64::try_from(if filter.limit == 0 { LINES_LISTED } else { filter.limit }).unwrap_or(i64::MAX);
        let mut db = self.reader().await?;
        let rows = match &filter.subject {
            None => {
                sqlx::query("SELECT * FROM audit WHERE seq > $1 ORDER BY seq LIMIT $2").bind(after).bind(limit).fetch_all(&mut *db).await
            }
            // What is beneath a subject starts with it and `@` or `.`; the characters behind these are `A` and `/`.
            Some(subject) => {
                sqlx::query(
                    "SELECT * FROM audit WHERE seq > $1 AND (subject = $2 OR (subject >= $3 AND subject < $4) \
                     OR (subject >= $5 AND subject < $6) OR run = $2) ORDER BY seq LIMIT $7",
                )
                .bind(after)
                .bind(subject)
                .bind(format!("{subject}@"))
                .bind(format!("{subject}A"))
                .bind(format!("{subject}."))
                .bind(format!("{subject}/"))
                .bind(limit)
                .fetch_all(&mut *db)
                .await
            }
        }
        .map_err(|e| fault("read the audit chain", e))?;
        rows.iter().map(|row| line_of(row).map(|(entry, _)| entry)).collect()
    }

    pub(super) async fn verify_chain(&self) -> Result<u64> {
        let mut db = self.reader().await?;
        let (mut seq, mut hash) = (0u64, [0u8; 32]);
        loop {
            let rows = sqlx::query("SELECT * FROM audit WHERE seq > $1 ORDER BY seq LIMIT $2")
                .bind(i64::try_from(seq).unwrap_or(i64::MAX))
                .bind(LINES_PER_STEP)
                .fetch_all(&mut *db)
                .await
                .map_err(|e| fault("read the audit chain", e))?;
            if rows.is_empty() {
                return Ok(seq);
            }
            for row in &rows {
                let (line, detail) = line_of(row)?;
                if line.seq != seq + 1 {
                    return Err(broken(seq + 1, "is missing"));
                }
                let expected = story::chain_hash(&hash, line.seq, line.at, &line.actor.0, &line.action, &line.subject, &detail);
                if expected != line.hash {
                    return Err(broken(line.seq, "does not have the hash of its content and the line before it"));
                }
                (seq, hash) = (line.seq, *line.hash.bytes());
            }
        }
    }
}

fn broken(seq: u64, why: &str) -> Fault {
    Fault::damaged(format!("ledger table `audit`, column `hash`, row `{seq}`: audit line {seq} {why}"))
        .fix("somebody changed the ledger behind its back; compare it with a backup")
}

/// One whole number of a one-row answer.
pub(super) fn only_number(row: &SqliteRow) -> Result<i64> {
    row.try_get::<i64, _>(0).map_err(|e| fault("count", e))
}
