//! Stage train.

pub mod spec;
