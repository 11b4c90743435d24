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

/// Which row of which table all features of an entity come from, and by which definition: for as long as the process lives, equal ones are equal
/// features.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct FeatureSource {
    /// The definition, by a number that it has in this process.
    pub definition: u64,
    /// The table's generation.
    pub generation: u64,
    /// The load that brought the row.
    pub load: i64,
    /// The row's number within the load.
    pub row: i64,
}

/// The newest rows of the asked entities, found and not yet read, of a view whose features are columns of that row and nothing else. Whoever kept the
/// features of a [`FeatureSource`] need not read it again.
#[async_trait]
pub trait NewestFound: Send + Sync {
    /// Per asked row: where its features come from, and the row's event time. `None`: there is no row that counts, and every feature is NULL.
    fn sources(&self) -> &[Option<(FeatureSource, Timestamp)>];
    /// The features of some of the asked rows, which have a source: one column per feature, as [`FeatureReader::read`] gives them.
    async fn columns(&self, asked: &[usize]) -> Result<RecordBatch>;
}

/// Reads features for serving: kept rows, evaluated by the one compiled plan. Implemented by `features`, used by `serve`.
#[async_trait]
pub trait FeatureReader: Send + Sync {
    /// The rows as of the moment.
    async fn read(&self, request: FeatureRequest) -> Result<FeatureRows>;
    /// The newest rows of the asked entities, for each view that is nothing but columns of them. `None` for every other view, and for one that
    /// cannot be asked: [`FeatureReader::read`] reads it, or says why not.
    async fn newest(&self, views: &[ViewRef], _rows: &RecordBatch, _at: Timestamp) -> Result<Vec<Option<Box<dyn NewestFound>>>> {
        Ok(views.iter().map(|_| None).collect())
    }
    /// The names and types of a view's features, in order. A pinned definition is loaded by this call if it was not yet; reading it later is quick.
    async fn schema(&self, view: &ViewRef) -> Result<arrow::datatypes::SchemaRef>;
}
