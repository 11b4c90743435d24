//! Kept rows per entity, ready to be read at once. Never the only copy.

use crate::{Result, Timestamp};
use async_trait::async_trait;
use bytes::Bytes;

/// One kept row of a slot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OnlineRow {
    /// The entity's encoded key.
    pub key: Bytes,
    /// The row's event time.
    pub at: Timestamp,
    /// The load that brought it.
    pub load: i64,
    /// Its number within the load. `(load, row)` identifies it: writing it again changes nothing.
    pub row: i64,
    /// The encoded row.
    pub value: Bytes,
}

/// How far a slot has followed its table.
#[derive(Debug, Clone, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
pub struct SlotState {
    /// Identifies what the rows mean (table, key columns, encoding). Another layout means: rebuild.
    pub layout: String,
    /// The table's generation.
    pub generation: u64,
    /// Every load up to here is in the slot.
    pub load: i64,
}

/// Rows kept per entity, ready to be read at once. Never the only copy: a slot can be rebuilt from its table.
///
/// A slot belongs to one (table, key columns). Within a slot rows are ordered by (key, time, load, row).
#[async_trait]
pub trait Online: Send + Sync {
    /// Writes rows and the slot's new state in one atomic step.
    async fn write(&self, slot: &str, rows: Vec<OnlineRow>, state: &SlotState) -> Result<()>;
    /// The rows of a key with `from <= at < before`, in order. `None` leaves a side open.
    async fn read(&self, slot: &str, key: &[u8], from: Option<Timestamp>, before: Option<Timestamp>) -> Result<Vec<OnlineRow>>;
    /// The rows of many keys, in the order asked.
    async fn read_many(
        &self,
        slot: &str,
        keys: &[Bytes],
        from: Option<Timestamp>,
        before: Option<Timestamp>,
    ) -> Result<Vec<Vec<OnlineRow>>>;
    /// The slot's state, `None` if it was never written.
    async fn state(&self, slot: &str) -> Result<Option<SlotState>>;
    /// Forgets rows older than `before`. Returns how many.
    async fn expire(&self, slot: &str, before: Timestamp) -> Result<u64>;
    /// Empties the slot and its state.
    async fn clear(&self, slot: &str) -> Result<()>;
    /// How many different keys the slot has, counted up to `limit`.
    async fn keys(&self, slot: &str, limit: usize) -> Result<Vec<Bytes>>;
}
