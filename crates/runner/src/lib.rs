//! Executes runs: queue, lease, retry, timeout, resume, cancel.
//!
//! Promises: a run is executed by one worker at a time; a step whose spec and inputs are unchanged is not run again and says why;
//! kill -9 at any moment and a new start go on where the work stopped, because everything a step concluded
//! is one ledger transaction and everything it wrote is addressed by digest or position.
//!
//! [`plan`] decides from values, [`step`] runs one node, [`flow`] drives nodes in order, [`queue`] is the `Runs` port,
//! [`worker`] takes runs from the queue. To execute something new, implement `kernel::Stage` and register it in the binary's
//! `wiring.rs`; nothing here changes.

pub mod flow;
pub mod observer;
pub mod plan;
pub mod queue;
pub mod step;
pub mod worker;

pub use observer::{Observer, Silent, StepEnd};
pub use queue::Queue;
pub use step::{StepOutcome, Stepper};
pub use worker::Worker;
