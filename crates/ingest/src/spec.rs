//! What the user writes about where rows come from.

use gristmill_kernel::{Name, Span};

/// `[sources.NAME]`: the spec of node `raw.NAME`.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct SourceSpec {
    /// The source.
    pub name: Name,
    /// Where from: a path or glob relative to the project, or a URL (`replay://FILE?speed=60`, `push:` for a source that is only pushed to).
    /// `${NAME}` stays unresolved here.
    pub from: String,
    /// The event time column; without one the source is a snapshot.
    pub time: Option<String>,
    /// How long stragglers are waited for.
    pub late: Option<Span>,
    /// The columns pinned in `gristmill.lock`; `None` before the first load, when they are inferred.
    pub columns: Option<Vec<Column>>,
    /// Read every file again and replace the rows (`gristmill run raw.NAME --full`).
    #[serde(default)]
    pub full: bool,
}

/// A pinned column.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Column {
    /// Its name.
    pub name: String,
    /// Its type in the words of the lock file: `bool`, `int`, `float`, `text`, `time`, `date`, `binary`, `decimal(P,S)`.
    #[serde(rename = "type")]
    pub kind: String,
}
