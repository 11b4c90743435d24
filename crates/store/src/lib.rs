//! Adapters that remember: the ledger, blobs, online rows, the journal of pushed events, and the system's clock and ids.
//!
//! Promises: what a write acknowledged survives kill -9 and power loss (online rows, which can be rebuilt: kill -9); nothing is ever
//! half-visible; a stored row that cannot be true is reported as damage, never papered over; a newer format is refused in one sentence.
//!
//! Each port has a conformance suite in `suite`, run by the in-memory implementation (`memory`) and by the real one. To add an
//! implementation: a file beside the others of its port, and a test that runs the port's suite on it.

pub mod blobs;
mod embedded;
mod foreign;
pub mod journal;
pub mod ledger;
mod lock;
pub mod memory;
pub mod online;
mod registry;
mod rules;
mod seal;
mod stores;
mod story;
pub mod suite;
pub mod system;
mod trace_rules;
mod tracked;

pub use foreign::open_foreign_sqlite;
pub use lock::{LOCK_FILE, StateLock};
pub use stores::{Owned, Stores, open, open_blobs, open_ledger, open_ledger_with, open_owner};
