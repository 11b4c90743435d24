//! The ledger: runs, versions, aliases and the audit chain; and the tokens audited on it.
//!
//! Three writes exist. There is no update of a version, no delete, and no way to end a run without its consequences.

use crate::run::{Annotation, Finish, Metric, NewRun};
use crate::version::{AliasMove, AliasState, Which};
use crate::{Actor, Address, AliasName, Digest, Result, Run, RunId, RunStatus, StageKind, Timestamp, Version, VersionRef};
use async_trait::async_trait;

/// Which runs.
#[derive(Debug, Clone, Default)]
pub struct RunFilter {
    /// Only of these stages; empty means all.
    pub stages: Vec<StageKind>,
    /// Only for this address.
    pub address: Option<Address>,
    /// Only in these states; empty means all.
    pub statuses: Vec<RunStatus>,
    /// Only steps of this flow.
    pub parent: Option<RunId>,
    /// At most this many; 0 means 1000.
    pub limit: usize,
}

/// One line of the audit chain: `hash = SHA-256(previous hash, seq, at, actor, action, subject, detail)`.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct AuditEntry {
    /// From 1, without gaps.
    pub seq: u64,
    /// When.
    pub at: Timestamp,
    /// Who.
    pub actor: Actor,
    /// What: `run.submitted`, `run.started`, `run.finished`, `alias.moved`, `token.made`, ...
    pub action: String,
    /// On what: an address, a version, a run.
    pub subject: String,
    /// The details, for people and tools.
    pub detail: serde_json::Value,
    /// The hash of this line.
    pub hash: Digest,
}

/// Which audit lines.
#[derive(Debug, Clone, Default)]
pub struct AuditFilter {
    /// Behind this line.
    pub after: u64,
    /// Only about this subject or something beneath it (`models.churn` matches `models.churn@3`).
    pub subject: Option<String>,
    /// At most this many; 0 means 1000.
    pub limit: usize,
}

/// The ledger. Append-only and hash-chained; three writes exist: submit a run, annotate an open run (ending it is the last
/// annotation), move an alias. Every write is durable when it returns and is one transaction with its audit lines.
#[async_trait]
pub trait Ledger: Send + Sync {
    // submit
    /// Queues a run. A known idempotency token returns the first run unchanged.
    async fn submit(&self, run: NewRun, now: Timestamp) -> Result<Run>;
    /// Writes a run that begins at once, leased to `worker`: a step of a flow.
    async fn begin(&self, run: NewRun, worker: &str, now: Timestamp, lease_until: Timestamp) -> Result<Run>;

    // work
    /// Takes the oldest due queued run without a parent, or a running one whose lease ran out, and leases it to `worker`. Two workers never
    /// hold the same run.
    async fn lease(&self, worker: &str, now: Timestamp, lease_until: Timestamp) -> Result<Option<Run>>;
    /// Renews a lease. An error of kind `Conflict` means the lease was lost.
    async fn renew(&self, run: &RunId, worker: &str, lease_until: Timestamp) -> Result<Run>;
    /// Ends every lease of other workers: called by the process that has just become the only owner of this ledger's work.
    /// Running flows go back to the queue; their open steps are marked failed (`interrupted`).
    async fn take_over(&self, worker: &str, now: Timestamp) -> Result<u64>;
    /// Puts a running run back into the queue (retry with backoff).
    async fn requeue(&self, run: &RunId, due_at: Timestamp, error: crate::run::RunError) -> Result<()>;

    // annotate
    /// Adds to an open run.
    async fn annotate(&self, run: &RunId, note: Annotation) -> Result<()>;
    /// Ends a run and writes all that follows, in one transaction: versions become visible, aliases move, follow-ups are queued.
    /// An output whose digest equals its asset's newest version is not made again; that version counts as output.
    /// Ending a run that has ended is a conflict.
    async fn finish(&self, run: &RunId, finish: Finish, now: Timestamp) -> Result<Run>;
    /// Asks an open run to stop; a queued one is cancelled at once.
    async fn ask_cancel(&self, run: &RunId, actor: &Actor, now: Timestamp) -> Result<()>;

    // alias
    /// Moves an alias. A mismatch with `expect` is a conflict, an unknown version not found.
    async fn move_alias(&self, wish: AliasMove, now: Timestamp) -> Result<AliasState>;

    // reads
    /// One run.
    async fn run(&self, id: &RunId) -> Result<Option<Run>>;
    /// Runs, newest first.
    async fn runs(&self, filter: &RunFilter) -> Result<Vec<Run>>;
    /// The newest succeeded run with this work key.
    async fn run_by_key(&self, key: &Digest) -> Result<Option<Run>>;
    /// Every value of one metric of a run, by step: one per step of a run that we drive, maybe several of a run that a client writes.
    async fn metric_history(&self, run: &RunId, key: &str) -> Result<Vec<(Metric, Timestamp)>>;
    /// One version.
    async fn version(&self, asset: &Address, which: &Which) -> Result<Option<Version>>;
    /// All versions of an asset, newest first.
    async fn versions(&self, asset: &Address) -> Result<Vec<Version>>;
    /// All assets that have versions.
    async fn assets(&self) -> Result<Vec<Address>>;
    /// The runs that read a version.
    async fn readers(&self, version: &VersionRef) -> Result<Vec<RunId>>;
    /// Where an alias stands.
    async fn alias(&self, asset: &Address, alias: &AliasName) -> Result<Option<AliasState>>;
    /// All aliases of an asset.
    async fn aliases(&self, asset: &Address) -> Result<Vec<AliasState>>;
    /// Every move of an alias, newest first.
    async fn alias_history(&self, asset: &Address, alias: &AliasName) -> Result<Vec<AliasState>>;
    /// Audit lines, oldest first.
    async fn audit(&self, filter: &AuditFilter) -> Result<Vec<AuditEntry>>;
    /// Recomputes the whole chain; `Ok(lines)` or damage naming the first wrong line.
    async fn verify_audit(&self) -> Result<u64>;
    /// The number of the newest audit line: it rises with every write, so a reader can ask cheaply whether something changed.
    async fn head(&self) -> Result<u64>;
}

/// A token that may call the API. Only its hash is stored.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Token {
    /// Its name, unique.
    pub name: String,
    /// SHA-256 of the token.
    pub hash: Digest,
    /// The role's word: `admin`, `editor`, `viewer`, `predictor`.
    pub role: String,
    /// When it was made.
    pub made_at: Timestamp,
    /// When it stops working.
    pub expires_at: Option<Timestamp>,
    /// When it was taken back.
    pub revoked_at: Option<Timestamp>,
}

/// People and tokens, audited on the same ledger.
#[async_trait]
pub trait Tokens: Send + Sync {
    /// Writes a token; a known name is a conflict.
    async fn put_token(&self, token: Token, actor: &Actor, now: Timestamp) -> Result<()>;
    /// The token with this hash, even if expired or revoked.
    async fn token_by_hash(&self, hash: &Digest) -> Result<Option<Token>>;
    /// All tokens by name.
    async fn tokens(&self) -> Result<Vec<Token>>;
    /// Takes a token back.
    async fn revoke_token(&self, name: &str, actor: &Actor, now: Timestamp) -> Result<()>;
}
