//! The algorithms: one file each, one visible list.
//!
//! Promise: an algorithm turns a [`Sample`] into the kernel's model body, and the same sample, parameters and seed give the same body on any number of
//! threads. What it returns is scored by the kernel's own meaning of the format, never by the library that fitted it.
//!
//! To add one: a file here with a `pub const ALGORITHM: Algorithm`, and its line in [`ALGORITHMS`].

pub mod baseline;
mod design;
pub mod gbdt;
pub mod linear;
pub mod logistic;
pub mod params;
pub mod random_forest;

use crate::sample::{Sample, task_word};
use gristmill_kernel::error::{Code, Fault, Result};
use gristmill_kernel::model::{Body, Task};
use gristmill_kernel::stage::{CancelFlag, Progress};
use params::{Param, Params};

/// Every algorithm there is.
pub const ALGORITHMS: &[&Algorithm] =
    &[&gbdt::ALGORITHM, &random_forest::ALGORITHM, &logistic::ALGORITHM, &linear::ALGORITHM, &baseline::ALGORITHM];

/// One way to learn.
#[derive(Debug)]
pub struct Algorithm {
    /// The word in the project file.
    pub name: &'static str,
    /// One sentence for people.
    pub about: &'static str,
    /// What it can predict.
    pub tasks: &'static [Task],
    /// Whether it can weigh rows, which `balance = true` needs.
    pub weighs: bool,
    /// Its parameters.
    pub params: &'static [Param],
    /// Words from other libraries, and what to write instead.
    pub hints: &'static [(&'static str, &'static str)],
    /// Learns.
    pub fit: fn(&Sample, &Params, &Effort) -> Result<Fitted>,
}

/// What a fit may use.
#[derive(Clone, Copy)]
pub struct Effort<'a> {
    /// Feeds every draw.
    pub seed: u64,
    /// At most this many threads; the result does not depend on it.
    pub threads: usize,
    /// Looked at between pieces of work.
    pub cancel: &'a CancelFlag,
    /// Shown between pieces of work.
    pub progress: &'a dyn Progress,
}

/// What was learnt.
#[derive(Debug, Clone, PartialEq)]
pub struct Fitted {
    /// What computes.
    pub body: Body,
    /// The share of each feature in what was learnt; empty where the algorithm does not know.
    pub importance: Vec<f64>,
    /// Its size in words: `153 trees`.
    pub size: String,
}

/// The algorithm of a name, if it can do the task.
pub fn find(name: &str, task: Task) -> Result<&'static Algorithm> {
    let unknown = || {
        let names: Vec<&str> = ALGORITHMS.iter().map(|a| a.name).collect();
        Fault::invalid(Code::UNKNOWN_ALGORITHM, format!("there is no algorithm `{name}`")).fix(format!("use one of {}", names.join(", ")))
    };
    let algorithm = ALGORITHMS.iter().find(|a| a.name == name).ok_or_else(unknown)?;
    if !algorithm.tasks.contains(&task) {
        let able: Vec<&str> = ALGORITHMS.iter().filter(|a| a.tasks.contains(&task)).map(|a| a.name).collect();
        let tasks: Vec<&str> = algorithm.tasks.iter().map(|t| task_word(*t)).collect();
        return Err(Fault::invalid(Code::UNTRAINABLE, format!("`{name}` learns {}, this is {}", tasks.join(" and "), task_word(task)))
            .fix(format!("for a {} task use one of {}", task_word(task), able.join(", "))));
    }
    Ok(algorithm)
}

/// Shares that add up to 1, or nothing when there is nothing to share.
pub(crate) fn shares(gains: Vec<f64>) -> Vec<f64> {
    let total: f64 = gains.iter().sum();
    if total > 0.0 && total.is_finite() { gains.into_iter().map(|g| g / total).collect() } else { Vec::new() }
}
