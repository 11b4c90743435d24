//! Stage features.

pub mod spec;
