//! Stage train: a training set and a spec become a model.
//!
//! Promises:
//! - the same training set and spec give the same model bytes, on any number of threads;
//! - what is measured is what is served: every figure comes from [`gristmill_kernel::model::ModelFile::score`];
//! - held-out rows are looked at once, to measure the finished model; tuning sees only the rows to train on.
//!
//! To add an algorithm: a file in `algorithm/` and its line in [`algorithm::ALGORITHMS`]. To add a metric: a function in a file of `metric/` and its line in
//! [`metric::METRICS`]. To add a way of searching: a file in `search/`.

pub mod algorithm;
pub mod cover;
pub mod metric;
pub mod plan;
pub mod reference;
pub mod report;
pub mod run;
pub mod sample;
pub mod score;
pub mod search;
pub mod spec;
pub mod table;

use gristmill_kernel::error::{Fault, Result};
use std::sync::Arc;

/// The stage, for the binary's list.
pub fn stage() -> Arc<dyn gristmill_kernel::Stage> {
    Arc::new(run::TrainStage)
}

/// Runs a library's code so that its panic is a fault. Untrusted bytes and other people's numerics are run through it.
pub(crate) fn guard<T>(what: &str, work: impl FnOnce() -> T) -> Result<T> {
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(work)).map_err(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
        Fault::internal(format!("{what} stopped: {}", text.unwrap_or("for an unknown reason")))
    })
}
