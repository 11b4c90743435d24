//! What tables need beside being read and written: fewer files, rows that are asked together stored together, and room on the disk.
//!
//! Nothing here changes what a table says. Every version that could be read before can be read afterwards and gives the same rows, so no run
//! and no line in the ledger belongs to it.

use crate::table::TableName;
use crate::{Result, Timestamp};
use async_trait::async_trait;

/// What rewriting did to a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Compacted {
    /// Files that were replaced; 0 if there was nothing to do, or if another writer was faster.
    pub replaced: u64,
    /// Files that stand in their place.
    pub written: u64,
    /// Their rows.
    pub rows: u64,
}

/// What vacuuming removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Vacuumed {
    /// Files.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// The files of a table as it stands.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TableLayout {
    /// How many.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Their rows.
    pub rows: u64,
    /// Rows in files that are sorted, by the columns they are sorted by.
    pub sorted: Vec<(Vec<String>, u64)>,
}

/// Keeps the files of tables few and in order.
#[async_trait]
pub trait TableUpkeep: Send + Sync {
    /// The tables there are.
    async fn tables(&self) -> Result<Vec<TableName>>;
    /// How a table's rows lie in files; `None` if there is no such table.
    async fn layout(&self, table: &TableName) -> Result<Option<TableLayout>>;
    /// Rewrites files of a table that are many and small, or not in this order, into few that are sorted by `cluster`, then load and row; without
    /// `cluster` by load and row. One atomic commit that changes no row and no position; a write that lands meanwhile wins. Does one round: whoever wants
    /// it done calls until nothing is replaced.
    async fn compact(&self, table: &TableName, cluster: &[String]) -> Result<Compacted>;
    /// Removes files that no version needs any more and that nobody can be reading still.
    async fn vacuum(&self, table: &TableName, now: Timestamp) -> Result<Vacuumed>;
}
