//! Licences, bans and origins of what we depend on, read from the same `deny.toml` that `cargo deny` reads.
//!
//! `cargo deny` knows more (advisories, ranges, whole graphs for every platform) and runs in `xtask ci` where it is installed.
//! This check needs nothing but cargo, so a licence never slips in because a tool was missing.

use super::Offence;
use super::roles::lock_packages;
use anyhow::{Context, Result};
use cargo_metadata::{Metadata, MetadataCommand};
use std::collections::BTreeMap;
use std::path::Path;

/// The part of `deny.toml` that is checked here.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Policy {
    /// Licences that are fine for every crate.
    pub licences: Vec<String>,
    /// Crate -> licences that are fine for it alone.
    pub exceptions: BTreeMap<String, Vec<String>>,
    /// Crates that must not be there.
    pub banned: Vec<String>,
    /// Registries that crates may come from.
    pub registries: Vec<String>,
}

impl Policy {
    /// Reads `deny.toml`.
    pub fn read(text: &str) -> Result<Policy> {
        let file: toml::Table = text.parse().context("deny.toml does not parse")?;
        let section = |name: &str| file.get(name).cloned().unwrap_or(toml::Value::Table(toml::Table::new()));
        let (licences, bans, sources) = (section("licenses"), section("bans"), section("sources"));
        let exceptions = tables(&licences, "exceptions").map(|e| (crate_name(&e), words(&e, "allow"))).collect();
        let banned = tables(&bans, "deny").map(|b| crate_name(&b)).collect();
        Ok(Policy { licences: words(&licences, "allow"), exceptions, banned, registries: words(&sources, "allow-registry") })
    }

    /// Whether a crate with this licence expression may be used.
    pub fn allows(&self, name: &str, expression: &str) -> bool {
        let none = Vec::new();
        let own = self.exceptions.get(name).unwrap_or(&none);
        holds(expression, &|licence| self.licences.iter().chain(own).any(|l| l == licence))
    }
}

fn words(table: &toml::Value, key: &str) -> Vec<String> {
    let list = table.get(key).and_then(|v| v.as_array()).cloned().unwrap_or_default();
    list.iter().filter_map(|v| v.as_str().map(str::to_owned)).collect()
}

fn tables(table: &toml::Value, key: &str) -> impl Iterator<Item = toml::Value> {
    table.get(key).and_then(|v| v.as_array()).cloned().unwrap_or_default().into_iter()
}

fn crate_name(entry: &toml::Value) -> String {
    let name = entry.get("crate").or_else(|| entry.get("name")).or(Some(entry)).and_then(toml::Value::as_str).unwrap_or_default();
    name.split('@').next().unwrap_or_default().to_owned()
}

/// Evaluates an SPDX expression: `OR` (and the old `/`), `AND`, `WITH`, brackets. What does not parse does not hold.
pub fn holds(expression: &str, allowed: &dyn Fn(&str) -> bool) -> bool {
    let spaced = expression.replace('(', " ( ").replace(')', " ) ").replace('/', " OR ");
    let tokens: Vec<&str> = spaced.split_whitespace().collect();
    let mut at = 0;
    let value = any_of(&tokens, &mut at, allowed);
    at == tokens.len() && value == Some(true)
}

fn any_of(tokens: &[&str], at: &mut usize, allowed: &dyn Fn(&str) -> bool) -> Option<bool> {
    let mut value = all_of(tokens, at, allowed)?;
    while tokens.get(*at) == Some(&"OR") {
        *at += 1;
        value |= all_of(tokens, at, allowed)?;
    }
    Some(value)
}

fn all_of(tokens: &[&str], at: &mut usize, allowed: &dyn Fn(&str) -> bool) -> Option<bool> {
    let mut value = one(tokens, at, allowed)?;
    while tokens.get(*at) == Some(&"AND") {
        *at += 1;
        value &= one(tokens, at, allowed)?;
    }
    Some(value)
}

fn one(tokens: &[&str], at: &mut usize, allowed: &dyn Fn(&str) -> bool) -> Option<bool> {
    let first = *tokens.get(*at)?;
    *at += 1;
    if first == "(" {
        let value = any_of(tokens, at, allowed)?;
        let closed = tokens.get(*at) == Some(&")");
        *at += 1;
        return closed.then_some(value);
    }
    if tokens.get(*at) == Some(&"WITH") {
        let exception = tokens.get(*at + 1)?;
        *at += 2;
        return Some(allowed(&format!("{first} WITH {exception}")));
    }
    Some(allowed(first))
}

/// Checks everything the default build depends on.
pub fn check(root: &Path) -> Result<Vec<Offence>> {
    let policy = Policy::read(&std::fs::read_to_string(root.join("deny.toml"))?)?;
    let mut offences = Vec::new();
    for package in lock_packages(root)? {
        if policy.banned.contains(&package.name) {
            offences.push(Offence::new(
                "Cargo.lock",
                "bans",
                format!("has {}, which deny.toml bans; the reason stands there", package.name),
            ));
        }
        let from = package.source.as_deref().map(|s| s.split_once('+').map_or(s, |(_, url)| url));
        if let Some(from) = from.filter(|f| !policy.registries.iter().any(|r| r == f)) {
            offences.push(Offence::new(
                "Cargo.lock",
                "origins",
                format!("takes {} from {from}, which deny.toml does not allow", package.name),
            ));
        }
    }
    for package in dependencies(root)?.packages.iter().filter(|p| p.source.is_some()) {
        let licence = package.license.as_deref().unwrap_or("none");
        if !policy.allows(&package.name, licence) {
            let text = format!("has licence `{licence}`, which deny.toml does not allow");
            offences.push(Offence::new(format!("{} {}", package.name, package.version), "licences", text));
        }
    }
    Ok(offences)
}

/// The dependencies on this platform; what has not been downloaded yet is downloaded.
fn dependencies(root: &Path) -> Result<Metadata> {
    let mut command = MetadataCommand::new();
    command.manifest_path(root.join("Cargo.toml"));
    let mut options = vec!["--filter-platform".to_owned(), host()?];
    let online = command.clone().other_options(options.clone()).clone();
    options.push("--offline".to_owned());
    command.other_options(options);
    command.exec().or_else(|_| online.exec()).context("cargo metadata cannot read the dependencies")
}

fn host() -> Result<String> {
    let output = std::process::Command::new(std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into())).arg("-vV").output()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let host = text.lines().find_map(|l| l.strip_prefix("host: ")).context("rustc -vV does not name its host")?;
    Ok(host.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expressions_hold_as_spdx_says() {
        let allowed = |l: &str| ["MIT", "ISC", "Apache-2.0 WITH LLVM-exception"].contains(&l);
        let holds = |e: &str| holds(e, &allowed);
        assert!(holds("MIT") && holds("GPL-3.0 OR MIT") && holds("MIT/Apache-2.0") && holds("MIT AND (GPL-3.0 OR ISC)"));
        assert!(holds("Apache-2.0 WITH LLVM-exception"));
        assert!(!holds("Apache-2.0") && !holds("MIT AND GPL-3.0") && !holds("none") && !holds("(MIT") && !holds("") && !holds("MIT ISC"));
        assert!(!holds("(MIT OR ISC) AND GPL-2.0-only"));
    }

    #[test]
    fn an_exception_counts_for_its_crate_only() {
        let policy = Policy::read(
            "[licenses]\nallow = [\"MIT\"]\n[[licenses.exceptions]]\ncrate = \"a\"\nallow = [\"MPL-2.0\"]\n\
             [bans]\ndeny = [{ crate = \"openssl-sys\", reason = \"x\" }, \"bincode\"]\n[sources]\nallow-registry = [\"https://r\"]",
        )
        .unwrap();
        assert!(policy.allows("a", "MPL-2.0") && !policy.allows("b", "MPL-2.0"));
        assert_eq!(policy.banned, ["openssl-sys", "bincode"]);
        assert_eq!(policy.registries, ["https://r"]);
    }
}
