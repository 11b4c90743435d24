//! Lineage both ways: what a version was made from, and what was made from it. It is walking runs, nothing else.

use gristmill_kernel::port::Ports;
use gristmill_kernel::version::Which;
use gristmill_kernel::{Code, Fault, Result, RunId, StageKind, Version, VersionRef};
use std::collections::BTreeSet;

/// Most versions in one tree; beyond it a tree says that it was cut.
pub const VERSIONS_MAX: usize = 5_000;

/// A version and what stands behind it in one direction.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct Tree {
    /// The version.
    pub version: VersionRef,
    /// The run that made it (upstream), or the run that read its parent and made it (downstream).
    pub run: RunId,
    /// Which stage that run was.
    pub stage: StageKind,
    /// The run's line for people.
    pub summary: String,
    /// The versions one step further. Empty at an end, and where the version stands elsewhere in the tree (`again`).
    pub next: Vec<Tree>,
    /// The version was shown before; its branches are there.
    pub again: bool,
}

/// Lineage of one version.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct Lineage {
    /// The version and what it was made from, back to the raw rows.
    pub upstream: Tree,
    /// What was made from it, up to deployments and reports.
    pub downstream: Tree,
    /// Whether a tree was cut at [`VERSIONS_MAX`].
    pub cut: bool,
}

#[derive(Clone, Copy)]
enum Way {
    Up,
    Down,
}

/// Walks both ways from a version.
pub async fn lineage(ports: &Ports, of: &VersionRef) -> Result<Lineage> {
    let mut cut = false;
    let upstream = walk(ports, of, Way::Up, &mut cut).await?;
    let downstream = walk(ports, of, Way::Down, &mut cut).await?;
    Ok(Lineage { upstream, downstream, cut })
}

/// Every version that a version was made from, back to the raw rows, each once, the nearest first; and whether they were cut at [`VERSIONS_MAX`].
pub async fn origins(ports: &Ports, of: &VersionRef) -> Result<(Vec<Version>, bool)> {
    let mut seen: BTreeSet<VersionRef> = BTreeSet::from([of.clone()]);
    let mut found = vec![version_of(ports, of).await?];
    let mut at = 0;
    while at < found.len() {
        let inputs = ports.ledger.run(&found[at].run).await?.map(|run| run.inputs).unwrap_or_default();
        for input in inputs {
            if seen.insert(input.clone()) {
                if found.len() > VERSIONS_MAX {
                    return Ok((found.split_off(1), true));
                }
                found.push(version_of(ports, &input).await?);
            }
        }
        at += 1;
    }
    Ok((found.split_off(1), false))
}

async fn version_of(ports: &Ports, version: &VersionRef) -> Result<Version> {
    let found = ports.ledger.version(&version.asset, &Which::Number(version.number)).await?;
    found.ok_or_else(|| Fault::not_found(Code::UNKNOWN_MODEL, format!("{version} does not exist")))
}

/// Breadth first into a flat list, then folded into a tree: no recursion over data.
async fn walk(ports: &Ports, root: &VersionRef, way: Way, cut: &mut bool) -> Result<Tree> {
    let mut seen: BTreeSet<VersionRef> = BTreeSet::from([root.clone()]);
    let mut flat: Vec<(Tree, Option<usize>)> = vec![(leaf(ports, root, false).await?, None)];
    let mut at = 0;
    while at < flat.len() {
        if !flat[at].0.again {
            for next in neighbours(ports, &flat[at].0, way).await? {
                if flat.len() >= VERSIONS_MAX {
                    *cut = true;
                    break;
                }
                let again = !seen.insert(next.clone());
                flat.push((leaf(ports, &next, again).await?, Some(at)));
            }
        }
        at += 1;
    }
    while let Some((mut tree, parent)) = flat.pop() {
        tree.next.reverse();
        match parent {
            Some(parent) => flat[parent].0.next.push(tree),
            None => return Ok(tree),
        }
    }
    Err(Fault::internal("a lineage lost its root"))
}

async fn leaf(ports: &Ports, version: &VersionRef, again: bool) -> Result<Tree> {
    let found = version_of(ports, version).await?;
    let run = ports
        .ledger
        .run(&found.run)
        .await?
        .ok_or_else(|| Fault::damaged(format!("{version} was made by run {}, which is not in the ledger", found.run)))?;
    Ok(Tree { version: version.clone(), run: run.id, stage: run.stage, summary: run.summary, next: vec![], again })
}

async fn neighbours(ports: &Ports, tree: &Tree, way: Way) -> Result<Vec<VersionRef>> {
    match way {
        Way::Up => Ok(ports.ledger.run(&tree.run).await?.map(|run| run.inputs).unwrap_or_default()),
        Way::Down => {
            let mut made = BTreeSet::new();
            for reader in ports.ledger.readers(&tree.version).await? {
                let run = ports.ledger.run(&reader).await?;
                // A skipped run names outputs that another run made; only what a run made itself came from its inputs.
                made.extend(run.filter(|r| r.skipped_for.is_none()).map(|r| r.outputs).unwrap_or_default());
            }
            made.remove(&tree.version);
            Ok(made.into_iter().collect())
        }
    }
}
