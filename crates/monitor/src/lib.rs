//! Stage monitor.

pub mod spec;
