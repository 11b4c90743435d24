//! Tools for developers: the laws of the crates, everything that must pass before a merge, benchmarks, and models of other
//! libraries for the tests.
//!
//! Promise: `cargo xtask ci` is the whole truth; whatever runs our checks elsewhere only calls it. This crate stays light (no
//! crate of ours; an async runtime only where load is made over HTTP/2), so that it builds in seconds.
//!
//! To add a law: [`tidy`]. To add a step of the checks: [`ci::STEPS`]. To add a benchmark: [`bench::BENCHES`]. To add a library whose models are
//! served: [`fixtures::LIBRARIES`].

pub mod bench;
pub mod ci;
pub mod fixtures;
pub mod tidy;

use std::path::PathBuf;

/// The workspace that `cargo xtask` was called in. Cargo says so when it starts us; where we were built may be another checkout.
pub fn workspace_root() -> PathBuf {
    let here = std::env::var_os("CARGO_MANIFEST_DIR").map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
    here.parent().unwrap_or(&here).to_path_buf()
}

/// Where cargo puts what it builds.
pub fn target_dir(root: &std::path::Path) -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from)
}

/// The cargo that started us, or the one on the path.
pub fn cargo(root: &std::path::Path, args: &[&str]) -> std::process::Command {
    let mut command = std::process::Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root).args(args);
    // `cargo xtask` says in the environment which package it runs. Build scripts that look at those would be run again, and DataFusion be
    // compiled again, each time somebody changes between `cargo build` and `cargo xtask`.
    for (name, _) in std::env::vars_os() {
        if name.to_str().is_some_and(|name| name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_")) {
            command.env_remove(name);
        }
    }
    command
}
