//! Stage registry.

pub mod spec;
