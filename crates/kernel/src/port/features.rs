//! Feature rows for serving: how the request plane asks, without knowing how rows are kept.

use crate::prediction::Basis;
use crate::{Digest, Name, Result, Timestamp};
use arrow::array::RecordBatch;
use async_trait::async_trait;

/// A view as a model knows it: the definition it was trained on, whatever the project says now.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ViewRef {
    /// The view.
    pub name: Name,
    /// A version of `features.NAME` with that definition, and the definition's digest; `None` is the newest.
    pub pinned: Option<(u64, Digest)>,
}

impl ViewRef {
    /// The newest definition of a view.
    pub fn newest(name: Name) -> ViewRef {
        ViewRef { name, pinned: None }
    }
    /// The digest that tells definitions apart, of the `meta` of a `features.NAME` version.
    pub fn definition(meta: &serde_json::Value) -> Digest {
        Digest::of_json(&meta["view"])
    }
    /// Whether two models read the same text.
    pub fn same(&self, other: &ViewRef) -> bool {
        self.name == other.name && self.pinned.as_ref().map(|p| p.1) == other.pinned.as_ref().map(|p| p.1)
    }
}

/// A wish for feature rows.
#[derive(Debug, Clone)]
pub struct FeatureRequest {
    /// The views, in order.
    pub views: Vec<ViewRef>,
    /// One row per asked entity, with at least the entity columns of every view. For request views: what the caller sent.
    pub rows: RecordBatch,
    /// As of which moment.
    pub at: Timestamp,
}

/// Feature rows, one per asked row, in the asked order.
#[derive(Debug, Clone)]
pub struct FeatureRows {
    /// One column per feature, named `view.column`; one row per asked row.
    pub columns: RecordBatch,
    /// Per row: the newest event time that was used; `None` if the entity has no rows.
    pub newest: Vec<Option<Timestamp>>,
    /// Which definitions and which rows they were computed from.
    pub basis: Basis,
}

/// Reads features for serving: kept rows, evaluated by the one compiled plan. Implemented by `features`, used by `serve`.
#[async_trait]
pub trait FeatureReader: Send + Sync {
    /// The rows as of the moment.
    async fn read(&self, request: FeatureRequest) -> Result<FeatureRows>;
    /// The names and types of a view's features, in order. A pinned definition is loaded by this call if it was not yet; reading it later is quick.
    async fn schema(&self, view: &ViewRef) -> Result<arrow::datatypes::SchemaRef>;
}
