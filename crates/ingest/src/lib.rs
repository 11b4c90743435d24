//! Stage ingest: sources in, raw rows out (node `raw.NAME`, table `raw__NAME`).
//!
//! Promises:
//! - A row is in the table once: rows, the record of files read and the positions of every stream land in one commit, so doing it again is a no-op.
//! - A load is taken wholly or not at all; what cannot be read is an error with file, line, column, value and fix, and nothing of it is kept. No value is
//!   rounded, cut or turned into NULL.
//! - A pushed row that was acknowledged is durable in the journal until the table has it.
//! - Nothing is read that has not changed; the rules are in [`plan`].
//!
//! To add a connector: a folder in `source/` and a line in [`source::CONNECTORS`]. To add a file format: [`source::file`].

pub mod cell;
pub mod journal;
mod load;
pub mod plan;
mod run;
pub mod schema;
pub mod source;
pub mod spec;

pub use run::{IngestStage, infer};
pub use source::http::{Push, PushAnswer, Sources, push, routes};
pub use source::replay::replay;
