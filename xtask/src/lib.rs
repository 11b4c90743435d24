//! Tools for developers: the laws of the crates, everything that must pass before a merge, and benchmarks.
//!
//! Promise: `cargo xtask ci` is the whole truth; whatever runs our checks elsewhere only calls it. This crate stays light (no
//! crate of ours, no async runtime), so that it builds in seconds.
//!
//! To add a law: [`tidy`]. To add a step of the checks: [`ci::STEPS`]. To add a benchmark: [`bench::BENCHES`].

pub mod bench;
pub mod ci;
pub mod tidy;

use std::path::{Path, PathBuf};

/// The workspace this binary was built from.
pub fn workspace_root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here).to_path_buf()
}

/// The cargo that started us, or the one on the path.
pub fn cargo() -> std::ffi::OsString {
    std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into())
}
