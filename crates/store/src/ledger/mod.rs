//! Ledgers: runs, versions, aliases, tokens and the audit chain.
//!
//! `sqlite` is the embedded one. Another database is another folder here that passes `suite::ledger`.

pub mod sqlite;

pub use sqlite::{Garbage, SqliteLedger, SqliteRegistry, TrackedArtifacts};
