//! Stage `monitor`: compares what an endpoint answered with what its model was trained on, says so, and tells somebody.
//!
//! Promises:
//! - Only rows answered by the live stable version are judged, each in one window; a window with too few rows is inconclusive and
//!   stays open, so no row is lost and none is judged twice.
//! - Memory does not grow with the window: every measure reads counts that are kept while the rows go by.
//! - Features that were served are computed again from the stored tables, for a sample of each window; what differs without late rows to
//!   explain it is told ([`parity`]).
//! - An alert that cannot be delivered never fails the run; the run itself is the alert that cannot be lost.
//!
//! To add a drift measure: a file in [`measure`] and a line in [`measure::MEASURES`]. To add a way to be alerted: a scheme in
//! [`alert::message`]. To add a measure of realised quality: an arm in [`quality::Quality::of`].

pub mod alert;
pub mod audit;
mod experiment;
mod known;
pub mod measure;
pub mod outcomes;
pub mod page;
pub mod parity;
pub mod plan;
pub mod quality;
pub mod replay;
pub mod run;
pub mod spec;
pub mod window;

pub use alert::Egress;
pub use page::metrics_page;
pub use parity::Parity;
pub use plan::Report;
pub use replay::{Replayed, replay};
pub use run::{MonitorStage, last_report};
pub use spec::MonitorSpec;
