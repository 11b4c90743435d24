//! Tables: named, versioned rows with three columns of our own.
//!
//! Every table that comes from a source carries [`LOAD`], [`ROW`] and [`LOADED_AT`]: which load brought the row, which row of
//! it this was, and when it became available. `(LOAD, ROW)` identifies a row for ever, so that applying it twice to the
//! online store changes nothing, and two equal rows still count twice.

use crate::error::{Code, Fault, Result};
use crate::{Address, Timestamp};
use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use std::collections::BTreeMap;
use std::fmt;

/// The load that brought a row: Int64, from 1 per table.
pub const LOAD: &str = "_load";
/// The row's number within its load: Int64, from 0.
pub const ROW: &str = "_row";
/// When the row became available: Timestamp(us, UTC).
pub const LOADED_AT: &str = "_loaded_at";
/// Our own columns, hidden from `select *` in features and labels.
pub const SYSTEM_COLUMNS: [&str; 3] = [LOAD, ROW, LOADED_AT];

/// The name of a table: the address of its asset with `__` for the dot (`sources__invoices`), or any name of that shape.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TableName(String);

impl TableName {
    /// The table behind an asset.
    pub fn of(asset: &Address) -> TableName {
        TableName(format!("{}__{}", asset.kind, asset.name))
    }
    /// The text: lowercase letters, digits and `_`, safe as a folder name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}
impl TryFrom<String> for TableName {
    type Error = Fault;
    fn try_from(text: String) -> Result<TableName> {
        let good = !text.is_empty() && text.len() <= 160 && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
        if good { Ok(TableName(text)) } else { Err(Fault::invalid(Code::BAD_VALUE, format!("`{text}` is not a table name"))) }
    }
}
impl From<TableName> for String {
    fn from(name: TableName) -> String {
        name.0
    }
}
impl fmt::Display for TableName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// How far a reader of some stream has come. Committed together with the rows (Delta's `txn` action), so that
/// replay after a crash is a no-op.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Position {
    /// Which stream: `journal`, `files`, `raw__invoices`.
    pub stream: String,
    /// Everything up to and including this offset is in the table.
    pub offset: i64,
}

/// What happens to the rows already there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WriteMode {
    /// They stay.
    Append,
    /// They go; the table's generation rises.
    Overwrite,
}

/// Who numbers the rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SystemColumns {
    /// The engine assigns the next load number, row numbers from 0 and this moment.
    Assign(Timestamp),
    /// The rows carry them already (accepted rows keep what the raw rows had).
    Keep,
    /// The table has none (results; prediction logs of earlier versions).
    None,
}

/// One atomic write to a table.
#[derive(Debug, Clone)]
pub struct TableWrite {
    /// The table; made on first write with the rows' schema.
    pub table: TableName,
    /// The rows; all batches share one schema. May be empty, to move a position.
    pub rows: Vec<RecordBatch>,
    /// Append or overwrite.
    pub mode: WriteMode,
    /// Who numbers the rows.
    pub system: SystemColumns,
    /// Positions that land with the rows. If any is not beyond what the table has for its stream, nothing is written
    /// and the present state is returned with `written = false`.
    pub positions: Vec<Position>,
    /// Kept in the commit for later readers (files read, schema decisions).
    pub note: serde_json::Value,
}

/// A table as it stands.
#[derive(Debug, Clone)]
pub struct TableInfo {
    /// The table's version: each write has a higher one. Rewriting its files does not change it.
    pub version: u64,
    /// Rises with every overwrite: what was derived row by row must then be rebuilt.
    pub generation: u64,
    /// Without our own columns, in the user's order.
    pub schema: SchemaRef,
    /// Rows in it.
    pub rows: u64,
    /// The highest load number, 0 if none.
    pub last_load: i64,
    /// How far each stream has come.
    pub positions: BTreeMap<String, i64>,
    /// The note of the last commit that carried one.
    pub note: serde_json::Value,
}

/// What a write did.
#[derive(Debug, Clone)]
pub struct Written {
    /// The table after it.
    pub info: TableInfo,
    /// False when the position had been committed before and nothing was written.
    pub written: bool,
}

/// What a table name in a query stands for.
#[derive(Debug, Clone)]
pub enum Relation {
    /// A stored table at a version (`None`: the newest).
    Stored {
        /// The table.
        table: TableName,
        /// At this version.
        version: Option<u64>,
        /// The event time column; `None` makes it a snapshot, of which a moment sees the latest load not after it.
        time: Option<String>,
    },
    /// Rows at hand.
    Rows(Vec<RecordBatch>, SchemaRef),
    /// A view: another query over the same catalog.
    View(String),
}

/// What the names in a query mean. Keys are the names as written in SQL.
pub type Catalog = BTreeMap<String, Relation>;
