//! The ledger on SQLite: WAL, every commit synced, many processes at once.
//!
//! Promises: each write is one `BEGIN IMMEDIATE` transaction together with its audit lines, durable when it returns; readers see one
//! moment and never wait for the writer; lists cost a fixed number of statements, whatever the number of runs.
//!
//! `registry` has registered models, `artifacts` the uploaded files, `garbage` what nobody needs any more.
//!
//! `schema` is the page with the tables, `open` the connections and migrations, `cells` the decoding (damage is named), `read` and
//! `runs` the queries, `write` and `finish` the transactions, `tokens` the tokens, `webhooks` the webhooks, `tracking` what experiment
//! tracking adds, `traces` traces and evaluation datasets.

mod artifacts;
mod cells;
mod finish;
mod garbage;
mod open;
mod read;
mod registry;
mod runs;
mod schema;
#[cfg(test)]
mod tests;
mod tokens;
mod traces;
mod tracking;
mod webhooks;
mod write;

pub use artifacts::TrackedArtifacts;
pub(crate) use artifacts::sort_entries;
pub use garbage::Garbage;
pub use registry::SqliteRegistry;

use crate::seal::Seal;
use async_trait::async_trait;
use gristmill_kernel::port::{AuditEntry, AuditFilter, Clock, Ledger, RunFilter};
use gristmill_kernel::run::{Annotation, Finish, Metric, NewRun, RunError};
use gristmill_kernel::version::{AliasMove, AliasState, Which};
use gristmill_kernel::{Actor, Address, AliasName, Digest, Result, Run, RunId, Timestamp, Version, VersionRef};
use sqlx::sqlite::{SqliteConnection, SqlitePool};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::sync::Mutex;

/// The ledger in one SQLite file.
pub struct SqliteLedger {
    writer: Arc<Mutex<SqliteConnection>>,
    readers: SqlitePool,
    /// Connections by which pages of runs are read.
    pages: tracking::Readers,
    /// Small writes of tracking clients, committed together.
    group: Arc<tracking::Group>,
    /// Points that are durable but not in the tables yet: readers wait for them.
    behind: Arc<tracking::Behind>,
    /// What clients log, written on a thread of its own.
    logger: tracking::Logger,
    clock: Arc<dyn Clock>,
    seal: Seal,
    path: PathBuf,
}

impl SqliteLedger {
    /// Opens or makes a ledger. Any number of processes may have it open.
    pub async fn open(path: &Path, clock: Arc<dyn Clock>) -> Result<SqliteLedger> {
        open::open(path, clock).await
    }
    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }
    /// Closes the readers; the writer closes when the ledger is dropped.
    pub async fn close(&self) {
        self.pages.close();
        self.readers.close().await;
    }
}

#[async_trait]
impl Ledger for SqliteLedger {
    async fn submit(&self, run: NewRun, now: Timestamp) -> Result<Run> {
        self.submit_run(run, now).await
    }
    async fn begin(&self, run: NewRun, worker: &str, now: Timestamp, lease_until: Timestamp) -> Result<Run> {
        self.begin_run(run, worker, now, lease_until).await
    }
    async fn lease(&self, worker: &str, now: Timestamp, lease_until: Timestamp) -> Result<Option<Run>> {
        self.lease_run(worker, now, lease_until).await
    }
    async fn renew(&self, run: &RunId, worker: &str, lease_until: Timestamp) -> Result<Run> {
        self.renew_lease(run, worker, lease_until).await
    }
    async fn take_over(&self, worker: &str, now: Timestamp) -> Result<u64> {
        self.end_other_leases(worker, now).await
    }
    async fn requeue(&self, run: &RunId, due_at: Timestamp, error: RunError) -> Result<()> {
        self.requeue_run(run, due_at, error).await
    }
    async fn annotate(&self, run: &RunId, note: Annotation) -> Result<()> {
        self.annotate_run(run, note).await
    }
    async fn finish(&self, run: &RunId, finish: Finish, now: Timestamp) -> Result<Run> {
        self.finish_run(run, finish, now).await
    }
    async fn ask_cancel(&self, run: &RunId, actor: &Actor, now: Timestamp) -> Result<()> {
        self.cancel_run(run, actor, now).await
    }
    async fn move_alias(&self, wish: AliasMove, now: Timestamp) -> Result<AliasState> {
        self.move_one_alias(wish, now).await
    }
    async fn run(&self, id: &RunId) -> Result<Option<Run>> {
        let mut db = self.reader().await?;
        runs::one(&mut db, id).await
    }
    async fn runs(&self, filter: &RunFilter) -> Result<Vec<Run>> {
        self.list_runs(filter).await
    }
    async fn run_by_key(&self, key: &Digest) -> Result<Option<Run>> {
        let mut db = self.reader().await?;
        runs::newest_succeeded(&mut db, key).await
    }
    async fn metric_history(&self, run: &RunId, key: &str) -> Result<Vec<(Metric, Timestamp)>> {
        self.history_of_metric(run, key).await
    }
    async fn version(&self, asset: &Address, which: &Which) -> Result<Option<Version>> {
        let mut db = self.reader().await?;
        read::version(&mut db, asset, which).await
    }
    async fn versions(&self, asset: &Address) -> Result<Vec<Version>> {
        self.list_versions(asset).await
    }
    async fn assets(&self) -> Result<Vec<Address>> {
        self.list_assets().await
    }
    async fn readers(&self, version: &VersionRef) -> Result<Vec<RunId>> {
        self.list_readers(version).await
    }
    async fn alias(&self, asset: &Address, alias: &AliasName) -> Result<Option<AliasState>> {
        let mut db = self.reader().await?;
        read::alias(&mut db, asset, alias).await
    }
    async fn aliases(&self, asset: &Address) -> Result<Vec<AliasState>> {
        self.list_aliases(asset).await
    }
    async fn alias_history(&self, asset: &Address, alias: &AliasName) -> Result<Vec<AliasState>> {
        self.list_alias_moves(asset, alias).await
    }
    async fn audit(&self, filter: &AuditFilter) -> Result<Vec<AuditEntry>> {
        self.list_audit(filter).await
    }
    async fn verify_audit(&self) -> Result<u64> {
        self.verify_chain().await
    }
    async fn head(&self) -> Result<u64> {
        let mut db = self.reader().await?;
        Ok(read::head(&mut db).await?.0)
    }
}
