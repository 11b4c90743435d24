//! Stage validate.

pub mod spec;
