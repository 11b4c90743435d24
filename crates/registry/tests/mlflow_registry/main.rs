//! The registry side of the MLflow protocol, driven through its routes over the real ledger and real files: registered models, versions,
//! aliases, artifacts, uploads in parts, webhooks.

#[path = "../support/mod.rs"]
mod support;

mod aliases;
mod artifacts;
mod denied;
mod evil;
mod models;
mod server;
mod uploads;
mod versions;
mod webhooks;
