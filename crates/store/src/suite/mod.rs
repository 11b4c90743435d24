//! One conformance suite per port. Every implementation runs the same cases; a case that only one can pass is in that one's tests.
//!
//! Each suite takes a function that makes a fresh, empty implementation, and asserts. To add a promise to a port: a case here,
//! called from the suite's `run`.

pub mod artifacts;
pub mod blobs;
pub mod journal;
pub mod ledger;
pub mod online;
pub mod registry;
pub mod tokens;
