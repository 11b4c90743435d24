//! Stage deploy.

pub mod spec;
