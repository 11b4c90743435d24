//! Stage serve.

pub mod spec;
