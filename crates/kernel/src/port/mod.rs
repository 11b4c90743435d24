//! Ports: everything a stage may ask of the outside. Small and `dyn`-safe; adapters implement them, `wiring.rs`
//! plugs them in, stages see nothing else.
//!
//! Each port has one conformance suite in the crate of its adapters (`store/src/suite/`, `engine/tests/`), run by every
//! implementation, the in-memory one too.

mod blobs;
mod engine;
mod features;
mod import;
mod journal;
mod ledger;
mod online;
mod serving;
mod system;
mod traces;
mod tracking;
mod upkeep;
mod webhooks;

pub use blobs::Blobs;
pub use engine::{Analysis, AsOfPlan, Engine, KeptRows, Known, NewestRows, TableShape, ViewShape, compile_view, judge_all};
pub use features::{FeatureReader, FeatureRequest, FeatureRows, FeatureSource, NewestFound, ViewRef};
pub use import::{Cell, ForeignDb, ImportedModel, ImportedVersion, RegistryImport, Taken, TrackingImport};
pub use journal::{Journal, JournalEntry, JournalState};
pub use ledger::{AuditEntry, AuditFilter, Ledger, RunFilter, Token, Tokens};
pub use online::{Online, OnlineRead, OnlineRow, SlotState, WholeRows, widest};
pub use serving::{FlowOrder, LiveFigures, RegisteredVersions, Runs};
pub use system::{Clock, Ids, Secrets};
pub use traces::{EvaluationDatasets, RecordCursor, Traces};
pub use tracking::{ArtifactEntry, ArtifactInfo, ArtifactKey, Artifacts, Logged, ModelRegistry, Tracking};
pub use upkeep::{Compacted, TableLayout, TableUpkeep, Vacuumed};
pub use webhooks::{Outward, Post, Posted, Webhooks};

use std::sync::Arc;

/// The ports a stage works with.
#[derive(Clone)]
pub struct Ports {
    /// Runs, versions, aliases.
    pub ledger: Arc<dyn Ledger>,
    /// Content by digest.
    pub blobs: Arc<dyn Blobs>,
    /// Kept rows per entity.
    pub online: Arc<dyn Online>,
    /// Pushed events that are not in a table yet.
    pub journal: Arc<dyn Journal>,
    /// SQL, tables, `as_of()`.
    pub engine: Arc<dyn Engine>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// New ids.
    pub ids: Arc<dyn Ids>,
    /// Values behind `${NAME}`.
    pub secrets: Arc<dyn Secrets>,
}
