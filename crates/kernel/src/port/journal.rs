//! Pushed events between their acknowledgement and their table. Acknowledged means durable.

use crate::{Name, Result, Timestamp};
use async_trait::async_trait;
use bytes::Bytes;

/// One pushed row on its way into a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JournalEntry {
    /// Its offset, from 1 per source, without gaps.
    pub offset: u64,
    /// When it was acknowledged.
    pub at: Timestamp,
    /// The row, as the source's folder encodes it.
    pub row: Bytes,
}

/// A journal as it stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct JournalState {
    /// The offset of the newest entry, 0 if there never was one.
    pub last: u64,
    /// Everything up to here has been forgotten because a table has it.
    pub forgotten: u64,
}

/// Pushed events, per source, until a table has them. Acknowledged means durable: when `append` returns, the rows survive
/// kill -9 and power loss.
#[async_trait]
pub trait Journal: Send + Sync {
    /// Appends rows in one durable step and returns the offset of the last. The same idempotency key again (kept for at least a
    /// day) appends nothing and returns what the first call returned, with `false`.
    async fn append(&self, source: &Name, at: Timestamp, rows: Vec<Bytes>, idempotency: Option<&str>) -> Result<(u64, bool)>;
    /// Up to `limit` entries behind `after`, in order.
    async fn read(&self, source: &Name, after: u64, limit: usize) -> Result<Vec<JournalEntry>>;
    /// Where it stands.
    async fn state(&self, source: &Name) -> Result<JournalState>;
    /// Forgets everything up to and including `offset`; a table has it.
    async fn forget(&self, source: &Name, offset: u64) -> Result<()>;
    /// Sources that have entries.
    async fn sources(&self) -> Result<Vec<Name>>;
}
