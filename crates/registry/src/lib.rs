//! Stage `registry`: judges a trained model by its gates, and answers who made what from what.
//!
//! Promises:
//! - An alias of a model does not move without a verdict that allows it; a person may force it, and then the reason says so for ever.
//! - A gate without the figures it needs is inconclusive, and inconclusive is not passed. The one exception is a comparison with the
//!   champion when there is none: the first model has nobody to beat, and the check says so.
//! - A version that was rejected in its rollout, or rolled back, does not become challenger again by itself.
//!
//! There is no table of the registry: a model is an asset, a model version a version, an experiment the `train` runs of a model, lineage is
//! walking runs, and a gate's answer is a version of `gates.NAME` ([`plan::GateMeta`]).
//!
//! The same ledger answers unmodified MLflow clients: [`protocol`].
//!
//! To add a figure that gates may use: [`plan::figures`]. To add a question about the past: a file beside [`lineage`], reading
//! through the ledger port only.

pub mod diff;
pub mod experiments;
pub mod import;
pub mod lineage;
pub mod plan;
pub mod promote;
pub mod protocol;
pub mod run;
pub mod spec;

pub use diff::{Difference, diff};
pub use experiments::{Experiment, Order as ExperimentOrder, experiments};
pub use lineage::{Lineage, Tree, lineage, origins};
pub use plan::GateMeta;
pub use promote::{Force, Promote, find, promote, rollback};
pub use run::GateStage;
pub use spec::GateSpec;
