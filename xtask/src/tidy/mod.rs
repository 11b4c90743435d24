//! The laws of the workspace, checked from `cargo metadata` and the sources.
//!
//! Promise: reads only; needs no network for the laws; every offence names the law, the place and what to do. A law lives in one of
//!
//! - [`roles`]: which crate may depend on which, and where a library may be named;
//! - [`sources`]: what a source file may say, how it opens, how long it is;
//! - [`licences`]: licences, bans and origins of what we depend on, against `deny.toml`.
//!
//! To add a law: a function there that returns offences, a line in [`check`], and in `xtask/tests/tidy.rs` a fixture that breaks
//! it with a twin that keeps it. A list of exceptions has a reason per line and may only shrink: an exception that is no longer
//! needed is an offence itself.

pub mod licences;
pub mod roles;
pub mod source;
pub mod sources;

use anyhow::{Context, Result};
use cargo_metadata::{Metadata, MetadataCommand};
use std::fmt;
use std::path::Path;

/// A law that is broken somewhere.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Offence {
    /// A crate, or a file with its line.
    pub place: String,
    /// The law in a few words.
    pub law: &'static str,
    /// What is wrong and what to do.
    pub text: String,
}

impl Offence {
    /// An offence.
    pub fn new(place: impl Into<String>, law: &'static str, text: impl Into<String>) -> Offence {
        Offence { place: place.into(), law, text: text.into() }
    }
}

impl fmt::Display for Offence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} [{}]", self.place, self.text, self.law)
    }
}

/// Checks everything and prints what is wrong. True when nothing is.
pub fn run(root: &Path) -> Result<bool> {
    let mut offences = check(root)?;
    if root.join("deny.toml").is_file() {
        offences.extend(licences::check(root)?);
    } else {
        eprintln!("no deny.toml in {}: licences are not checked", root.display());
    }
    offences.sort();
    for offence in &offences {
        eprintln!("{offence}");
    }
    match offences.len() {
        0 => println!("tidy: every law holds"),
        n => eprintln!("tidy: {n} offence{}", if n == 1 { "" } else { "s" }),
    }
    Ok(offences.is_empty())
}

/// The laws that need nothing but the workspace itself.
pub fn check(root: &Path) -> Result<Vec<Offence>> {
    let root = root.canonicalize().with_context(|| format!("there is no folder {}", root.display()))?;
    let metadata = read_metadata(&root)?;
    let crates = sources::read_crates(&root, &metadata)?;
    let mut offences = roles::dependencies(&metadata);
    offences.extend(roles::libraries(&metadata));
    offences.extend(roles::one_version(&root)?);
    offences.extend(roles::shared_lints(&root, &metadata)?);
    offences.extend(sources::named_libraries(&crates));
    offences.extend(sources::environment(&crates));
    offences.extend(sources::processes(&crates));
    offences.extend(sources::routes(&crates));
    offences.extend(sources::unsafe_code(&crates));
    offences.extend(sources::openings(&crates));
    offences.extend(sources::lengths(&crates));
    offences.extend(sources::faces(&crates));
    offences.extend(sources::orphans(&crates));
    Ok(offences)
}

fn read_metadata(root: &Path) -> Result<Metadata> {
    MetadataCommand::new()
        .manifest_path(root.join("Cargo.toml"))
        .no_deps()
        .other_options(vec!["--offline".to_owned()])
        .exec()
        .with_context(|| format!("cargo metadata does not understand {}", root.display()))
}
