//! Which crate may depend on which, and which crate may have a library.
//!
//! Invariant: what a crate does not depend on is what keeps the stages apart. A new crate is written into [`role`] or tidy refuses it.

use super::Offence;
use anyhow::{Context, Result};
use cargo_metadata::{DependencyKind, Metadata, Package};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// What a crate is, which says what it may depend on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Nouns, laws, ports.
    Kernel,
    /// One step of the data's way.
    Stage,
    /// Computing that one adapter uses: no ports, no tables, no SQL.
    Algorithm,
    /// Implements ports.
    Adapter,
    /// Routes and the accept loop.
    Web,
    /// The control API.
    Api,
    /// The project language.
    Language,
    /// The binary: plugs everything together.
    Binary,
    /// The end-to-end tests.
    Tests,
    /// Tools for developers.
    Tools,
}

/// The stages, in the order the data takes.
pub const STAGES: [&str; 9] = ["ingest", "validate", "features", "train", "registry", "deploy", "serve", "monitor", "retrain"];
/// The crates that implement ports.
pub const ADAPTERS: [&str; 4] = ["store", "engine", "runner", "auth"];
/// The crates that only compute.
pub const ALGORITHMS: [&str; 1] = ["slide"];
/// What tests of any crate may use beside what the crate itself may: real tables and a real ledger instead of doubles.
const TEST_HELP: [&str; 2] = ["store", "engine"];

/// The role of a package, by its name.
pub fn role(package: &str) -> Option<Role> {
    match package {
        "gristmill" => return Some(Role::Binary),
        "gristmill-tests" => return Some(Role::Tests),
        "xtask" => return Some(Role::Tools),
        _ => {}
    }
    match short(package) {
        "kernel" => Some(Role::Kernel),
        "web" => Some(Role::Web),
        "api" => Some(Role::Api),
        "project" => Some(Role::Language),
        name if ALGORITHMS.contains(&name) => Some(Role::Algorithm),
        name if STAGES.contains(&name) => Some(Role::Stage),
        name if ADAPTERS.contains(&name) => Some(Role::Adapter),
        _ => None,
    }
}

/// The name without the prefix all our crates share.
pub fn short(package: &str) -> &str {
    package.strip_prefix("gristmill-").unwrap_or(package)
}

/// The crates of ours that a role may depend on; `None` means all.
fn allowed(role: Role) -> Option<Vec<&'static str>> {
    match role {
        Role::Kernel | Role::Tools => Some(vec![]),
        Role::Algorithm => Some(vec!["kernel"]),
        Role::Adapter => Some(std::iter::once("kernel").chain(ALGORITHMS).collect()),
        Role::Stage => Some(vec!["kernel", "web"]),
        Role::Web => Some(vec!["kernel", "auth"]),
        Role::Api => Some(vec!["kernel", "web", "auth"]),
        Role::Language => Some(std::iter::once("kernel").chain(STAGES).collect()),
        Role::Binary | Role::Tests => None,
    }
}

/// Our crates depend on each other only as their roles allow.
pub fn dependencies(metadata: &Metadata) -> Vec<Offence> {
    let ours: BTreeSet<&str> = metadata.packages.iter().map(|p| p.name.as_str()).collect();
    let mut offences = Vec::new();
    for package in &metadata.packages {
        let name = package.name.as_str();
        let Some(role) = role(name) else {
            offences.push(Offence::new(name, "roles", "is in no role; say in xtask/src/tidy/roles.rs what it is"));
            continue;
        };
        let Some(allowed) = allowed(role) else { continue };
        for dependency in package.dependencies.iter().filter(|d| ours.contains(d.name.as_str())) {
            let to = short(&dependency.name);
            let for_tests = dependency.kind == DependencyKind::Development && TEST_HELP.contains(&to);
            if allowed.contains(&to) || for_tests || dependency.name == name {
                continue;
            }
            let may = if allowed.is_empty() { "no crate of ours".to_owned() } else { allowed.join(", ") };
            let text = format!("must not depend on {to}: {} may use {may}; pass versions, runs or a port instead", described(role));
            offences.push(Offence::new(name, "layers", text));
        }
    }
    offences
}

fn described(role: Role) -> &'static str {
    match role {
        Role::Kernel => "the kernel",
        Role::Stage => "a stage",
        Role::Algorithm => "computing",
        Role::Adapter => "an adapter",
        Role::Web => "web",
        Role::Api => "the control API",
        Role::Language => "the project language",
        Role::Binary => "the binary",
        Role::Tests => "the tests",
        Role::Tools => "a developer's tool",
    }
}

/// A family of libraries and the crates that may name it.
pub struct Fence {
    /// Crate names; one that ends in `*` is a prefix.
    pub libraries: &'static [&'static str],
    /// Short names of the crates that may.
    pub only: &'static [&'static str],
    /// Why.
    pub why: &'static str,
}

/// Where libraries may be named, in a manifest or in source.
pub const FENCES: &[Fence] = &[
    Fence { libraries: &["datafusion*", "deltalake*"], only: &["engine"], why: "SQL and tables are behind the Engine port" },
    Fence { libraries: &["sqlx*", "redis", "fjall", "redb", "rusqlite"], only: &["store"], why: "stores are behind ports" },
    Fence {
        libraries: &["rdkafka*", "rumqttc*", "aws-sdk-*", "tokio-postgres", "mysql_async", "mongodb"],
        only: &["store", "ingest"],
        why: "drivers belong to sources and stores",
    },
];

/// What the kernel must not have: it does no IO and has no runtime.
const KERNEL_NEVER: [&str; 10] =
    ["tokio*", "axum*", "hyper*", "sqlx*", "reqwest*", "datafusion*", "deltalake*", "object_store", "parquet", "sqlparser"];

/// Whether a library is in a family.
pub fn matches(pattern: &str, library: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(prefix) => library.starts_with(prefix),
        None => library == pattern,
    }
}

/// Libraries are dependencies only where a fence lets them.
pub fn libraries(metadata: &Metadata) -> Vec<Offence> {
    let mut offences = Vec::new();
    for package in metadata.packages.iter().filter(|p| !is_for_developers(p)) {
        let name = package.name.as_str();
        for dependency in &package.dependencies {
            let library = dependency.name.as_str();
            for fence in FENCES {
                if fence.libraries.iter().any(|l| matches(l, library)) && !fence.only.contains(&short(name)) {
                    let text = format!("must not depend on {library}, which belongs to {}: {}", fence.only.join(" and "), fence.why);
                    offences.push(Offence::new(name, "fences", text));
                }
            }
            if short(name) == "kernel" && KERNEL_NEVER.iter().any(|l| matches(l, library)) {
                let text = format!("must not depend on {library}: no IO, runtime, SQL or HTTP in the kernel");
                offences.push(Offence::new(name, "kernel", text));
            }
        }
    }
    offences
}

fn is_for_developers(package: &Package) -> bool {
    matches!(role(&package.name), Some(Role::Tests | Role::Tools))
}

/// The version world moves as one: a second arrow would give two incompatible kinds of batch.
const ONE_VERSION: [&str; 6] = ["arrow", "arrow-*", "parquet", "datafusion", "object_store", "sqlparser"];

/// `Cargo.lock` has one version of each crate of the data world.
pub fn one_version(root: &Path) -> Result<Vec<Offence>> {
    let mut versions: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for package in lock_packages(root)? {
        if ONE_VERSION.iter().any(|p| matches(p, &package.name)) {
            versions.entry(package.name).or_default().insert(package.version);
        }
    }
    let doubled = versions.into_iter().filter(|(_, v)| v.len() > 1);
    Ok(doubled
        .map(|(name, versions)| {
            let versions: Vec<String> = versions.into_iter().collect();
            let text = format!("has {name} in versions {}; align [workspace.dependencies]", versions.join(" and "));
            Offence::new("Cargo.lock", "one arrow", text)
        })
        .collect())
}

/// One package of `Cargo.lock`.
#[derive(Debug, Clone)]
pub struct Locked {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// Where it comes from; `None` is the workspace.
    pub source: Option<String>,
}

/// The packages of `Cargo.lock`; none if there is no such file.
pub fn lock_packages(root: &Path) -> Result<Vec<Locked>> {
    let path = root.join("Cargo.lock");
    if !path.is_file() {
        return Ok(Vec::new());
    }
    let lock: toml::Table = std::fs::read_to_string(&path)?.parse().with_context(|| format!("{} does not parse", path.display()))?;
    let packages = lock.get("package").and_then(|p| p.as_array()).cloned().unwrap_or_default();
    let text = |package: &toml::Value, key: &str| package.get(key).and_then(|v| v.as_str()).map(str::to_owned);
    Ok(packages
        .iter()
        .map(|p| Locked {
            name: text(p, "name").unwrap_or_default(),
            version: text(p, "version").unwrap_or_default(),
            source: text(p, "source"),
        })
        .collect())
}

/// Every crate of the product takes the workspace's lints.
pub fn shared_lints(root: &Path, metadata: &Metadata) -> Result<Vec<Offence>> {
    let mut offences = Vec::new();
    for package in metadata.packages.iter().filter(|p| p.manifest_path.starts_with(root.join("crates").to_string_lossy().as_ref())) {
        let manifest: toml::Table = std::fs::read_to_string(&package.manifest_path)?.parse()?;
        let takes = manifest.get("lints").and_then(|l| l.get("workspace")).and_then(toml::Value::as_bool) == Some(true);
        if !takes {
            offences.push(Offence::new(
                package.name.as_str(),
                "lints",
                "does not take the workspace's lints; add [lints] workspace = true",
            ));
        }
    }
    Ok(offences)
}
