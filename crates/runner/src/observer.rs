//! Shows people what is being run. Calls come from the worker's tasks and must be quick.

use gristmill_kernel::graph::Node;
use gristmill_kernel::{Fault, Run, Verdict};
use std::time::Duration;

/// How a step ended, for people.
#[derive(Debug, Clone)]
pub struct StepEnd {
    /// One line: counts, or why it was skipped.
    pub summary: String,
    /// The verdict, if it judged something.
    pub verdict: Option<Verdict>,
    /// True when the step was not needed.
    pub skipped: bool,
    /// How long it took.
    pub took: Duration,
}

/// Sees the steps of flows as they go.
pub trait Observer: Send + Sync {
    /// A step begins.
    fn began(&self, node: &Node);
    /// A step is under way: `done` of `total` (0: unknown) `unit`s.
    fn at(&self, node: &Node, done: u64, total: u64, unit: &str);
    /// A step says something.
    fn say(&self, node: &Node, text: &str);
    /// A step ended well, or was not needed.
    fn ended(&self, node: &Node, end: &StepEnd);
    /// A step failed; `retry_in` when it will be tried again.
    fn failed(&self, node: &Node, fault: &Fault, retry_in: Option<Duration>);
    /// A flow ended.
    fn flow_ended(&self, run: &Run);
}

/// Shows nothing.
pub struct Silent;

impl Observer for Silent {
    fn began(&self, _: &Node) {}
    fn at(&self, _: &Node, _: u64, _: u64, _: &str) {}
    fn say(&self, _: &Node, _: &str) {}
    fn ended(&self, _: &Node, _: &StepEnd) {}
    fn failed(&self, _: &Node, _: &Fault, _: Option<Duration>) {}
    fn flow_ended(&self, _: &Run) {}
}
