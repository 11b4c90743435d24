//! Feature views and label sets: SQL files with a small header.

use crate::column::ColumnType;
use crate::table::{Catalog, Relation, TableName};
use crate::training::FeatureColumn;
use crate::{Name, Span};
use arrow::datatypes::{Field, Schema, SchemaRef};
use std::collections::BTreeMap;
use std::sync::Arc;

/// The table that stands for what the caller sends.
pub const REQUEST: &str = "request";

/// Where a view is computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ViewAt {
    /// From kept rows of its sources (the default).
    Sources,
    /// Inside the prediction call, on what the caller sends.
    Request,
}

/// Whether a row at exactly the asked moment counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ties {
    /// Strictly before (the default).
    #[default]
    Exclude,
    /// Before or at.
    Include,
}

/// A feature view: a query *as of a moment*. `features/NAME.sql`.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct ViewDef {
    /// Its name: the file's.
    pub name: Name,
    /// The entity's columns, in order. Empty only for a request view that has none.
    pub entity: Vec<String>,
    /// Where it is computed.
    pub at: ViewAt,
    /// Whether kept rows for it are maintained online (`serve = "online"`).
    pub online: bool,
    /// The columns of the table `request`, for a view that is computed in the call.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub request: BTreeMap<String, ColumnType>,
    /// Ties at the moment.
    pub ties: Ties,
    /// The query without the header.
    pub sql: String,
    /// The file, for messages.
    pub file: String,
    /// Lines of the file before the query, so that places in the query become places in the file.
    pub line_offset: usize,
}

impl ViewDef {
    /// The columns of the table `request`; `None` for a view that has no such table.
    pub fn request_schema(&self) -> Option<SchemaRef> {
        let fields = self.request.iter().map(|(name, kind)| Field::new(name, kind.arrow(), true));
        (self.at == ViewAt::Request).then(|| Arc::new(Schema::new(fields.collect::<Vec<_>>())))
    }
}

/// The `meta` of a `features.NAME` version: the definition and the tables it was brought up to date with.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct ViewMeta {
    /// Format of this record.
    pub format: u32,
    /// The definition.
    pub view: ViewDef,
    /// Name in SQL -> the pinned table.
    pub tables: BTreeMap<String, PinnedTable>,
    /// The features it gives.
    pub features: Vec<FeatureColumn>,
}

impl ViewMeta {
    /// The format this binary writes and the newest it reads.
    pub const FORMAT: u32 = 1;
}

/// A table as a version saw it.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct PinnedTable {
    /// The table.
    pub table: TableName,
    /// Its version.
    pub version: u64,
    /// The event time column; `None`: a snapshot.
    pub time: Option<String>,
}

/// What the names in a view mean: the tables, each at its version.
pub fn pinned_catalog<'a>(pinned: impl Iterator<Item = (&'a String, &'a PinnedTable)>) -> Catalog {
    pinned
        .map(|(name, p)| (name.clone(), Relation::Stored { table: p.table.clone(), version: Some(p.version), time: p.time.clone() }))
        .collect()
}

/// A label set: entity, moment, outcome. `labels/NAME.sql`.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct LabelDef {
    /// Its name: the file's.
    pub name: Name,
    /// The entity's columns.
    pub entity: Vec<String>,
    /// The column with the moment asked about.
    pub time: String,
    /// The column with the outcome.
    pub label: String,
    /// How long after the moment the outcome is known, if the header says so (`horizon = "90d"`).
    pub horizon: Option<Span>,
    /// The query without the header.
    pub sql: String,
    /// The file, for messages.
    pub file: String,
    /// Lines of the file before the query.
    pub line_offset: usize,
}

/// The type of a feature as a model sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FeatureType {
    /// Integers and floats.
    Number,
    /// True or false.
    Boolean,
    /// Text with a dictionary.
    Category,
}
