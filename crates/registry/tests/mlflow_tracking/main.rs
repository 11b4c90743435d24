//! The tracking side of the MLflow protocol, asked as its clients ask over the real ledger: each operation works, works twice, names the
//! unknown, and refuses strangers.

#[path = "../support/mod.rs"]
mod support;

mod datasets;
mod door;
mod experiments;
mod logged_models;
mod logging;
mod runs;
mod search;
mod server;
mod traces;
