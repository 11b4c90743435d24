//! Stage ingest.

pub mod spec;
