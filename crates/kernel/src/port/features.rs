//! Feature rows for serving: how the request plane asks, without knowing how rows are kept.

use crate::{Name, Result, Timestamp};
use arrow::array::RecordBatch;
use async_trait::async_trait;

/// A wish for feature rows.
#[derive(Debug, Clone)]
pub struct FeatureRequest {
    /// The views, in order.
    pub views: Vec<Name>,
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
}

/// Reads features for serving: kept rows, evaluated by the one compiled plan. Implemented by `features`, used by `serve`.
#[async_trait]
pub trait FeatureReader: Send + Sync {
    /// The rows as of the moment.
    async fn read(&self, request: FeatureRequest) -> Result<FeatureRows>;
    /// The names and types of a view's features, in order.
    async fn schema(&self, view: &Name) -> Result<arrow::datatypes::SchemaRef>;
}
