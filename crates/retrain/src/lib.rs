//! Stage `retrain`: the way back to the start. Decides when a model is trained again, and asks for the run.
//!
//! Promises:
//! - One retraining of a model at a time, and never two for the same cause: a drift report, a schedule's moment or a failed try is answered once.
//! - A crash between deciding and submitting doubles nothing: the request carries a token made from its cause.
//! - It starts work only through the queue of runs, so every retraining is a line in the ledger with its reason.
//! - It never trains a model for the first time: that is asked for by a person.
//!
//! To add a fact that `when` may use: a field of [`plan::Facts`], a line in [`plan::figures`] and in [`plan::NAMES`], and where it is read in [`run`].

pub mod plan;
pub mod run;
pub mod spec;

pub use plan::{Facts, Reason, due};
pub use run::tick;
pub use spec::RetrainSpec;
