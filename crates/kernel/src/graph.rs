//! The graph of a project and the difference between what is written and what was run.
//!
//! A node's fingerprint is its normalised spec and its parents' fingerprints: comments and formatting never trigger work.

use crate::error::{Code, Fault, Result};
use crate::{Address, Digest, StageKind};
use std::collections::{BTreeMap, BTreeSet};

/// How one stage makes one asset.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Node {
    /// What it makes (its main output).
    pub address: Address,
    /// Which stage makes it.
    pub stage: StageKind,
    /// The resolved spec: normalised, defaults filled in, secrets by name only. Equal specs mean equal work.
    pub spec: serde_json::Value,
    /// The assets it reads, made by other nodes.
    pub parents: Vec<Address>,
}

/// Nodes in an order in which each stands behind its parents.
#[derive(Debug, Clone, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Graph {
    nodes: Vec<Node>,
}

impl Graph {
    /// Sorts the nodes; a cycle or a doubled address is refused.
    pub fn new(nodes: Vec<Node>) -> Result<Graph> {
        let mut waiting: BTreeMap<Address, Node> = BTreeMap::new();
        for node in nodes {
            if let Some(other) = waiting.insert(node.address.clone(), node) {
                return Err(Fault::invalid(Code::BAD_VALUE, format!("{} is defined twice", other.address)));
            }
        }
        let known: BTreeSet<Address> = waiting.keys().cloned().collect();
        let mut done = BTreeSet::new();
        let mut sorted = Vec::new();
        while !waiting.is_empty() {
            let ready: Vec<Address> = waiting
                .values()
                .filter(|n| n.parents.iter().all(|p| done.contains(p) || !known.contains(p)))
                .map(|n| n.address.clone())
                .collect();
            if ready.is_empty() {
                let names: Vec<String> = waiting.keys().map(Address::to_string).collect();
                return Err(Fault::invalid(Code::CYCLE, format!("{} need each other", names.join(", "))).fix("break the cycle"));
            }
            for address in ready {
                if let Some(node) = waiting.remove(&address) {
                    done.insert(address);
                    sorted.push(node);
                }
            }
        }
        sorted.sort_by_key(|n| n.stage);
        // Stages are ordered like the data, but views may read views: keep parents first within a stage.
        let mut placed: BTreeSet<Address> = BTreeSet::new();
        let mut nodes: Vec<Node> = Vec::with_capacity(sorted.len());
        while !sorted.is_empty() {
            let next = sorted
                .iter()
                .position(|n| n.parents.iter().all(|p| placed.contains(p) || !known.contains(p)))
                .ok_or_else(|| Fault::internal("a sorted graph lost its order"))?;
            let node = sorted.remove(next);
            placed.insert(node.address.clone());
            nodes.push(node);
        }
        Ok(Graph { nodes })
    }
    /// All nodes, parents first.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }
    /// One node.
    pub fn node(&self, address: &Address) -> Option<&Node> {
        self.nodes.iter().find(|n| n.address == *address)
    }
    /// A node and everything it needs, parents first.
    pub fn upstream(&self, targets: &[Address]) -> Vec<&Node> {
        let mut wanted: BTreeSet<&Address> = targets.iter().collect();
        for node in self.nodes.iter().rev() {
            if wanted.contains(&node.address) {
                wanted.extend(node.parents.iter());
            }
        }
        self.nodes.iter().filter(|n| wanted.contains(&n.address)).collect()
    }
    /// A node and everything that needs it, parents first.
    pub fn downstream(&self, targets: &[Address]) -> Vec<&Node> {
        let mut wanted: BTreeSet<&Address> = targets.iter().collect();
        for node in &self.nodes {
            if node.parents.iter().any(|p| wanted.contains(p)) {
                wanted.insert(&node.address);
            }
        }
        self.nodes.iter().filter(|n| wanted.contains(&n.address)).collect()
    }
    /// Each node's fingerprint.
    pub fn fingerprints(&self) -> BTreeMap<Address, Digest> {
        let mut prints = BTreeMap::new();
        for node in &self.nodes {
            let mut parts = vec![node.stage.as_str().as_bytes().to_vec(), node.spec.to_string().into_bytes()];
            for parent in &node.parents {
                let print: Option<&Digest> = prints.get(parent);
                parts.push(format!("{parent}={}", print.map(Digest::hex).unwrap_or_default()).into_bytes());
            }
            prints.insert(node.address.clone(), Digest::of_parts(parts.iter().map(Vec::as_slice)));
        }
        prints
    }
}

/// What `plan` says about one node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    /// New in the project.
    Add,
    /// Its own text changed.
    Update,
    /// A parent changed.
    Rebuild,
    /// Gone from the project.
    Remove,
    /// As applied.
    Keep,
}

/// Compares a graph with the last one applied. Addresses in order of the new graph, removed ones last.
pub fn difference(applied: &Graph, wanted: &Graph) -> Vec<(Address, Change)> {
    let (old, new) = (applied.fingerprints(), wanted.fingerprints());
    let mut changes = Vec::new();
    for node in wanted.nodes() {
        let change = match (applied.node(&node.address), old.get(&node.address) == new.get(&node.address)) {
            (None, _) => Change::Add,
            (Some(_), true) => Change::Keep,
            (Some(before), false) if before.spec == node.spec && before.parents == node.parents => Change::Rebuild,
            (Some(_), false) => Change::Update,
        };
        changes.push((node.address.clone(), change));
    }
    for node in applied.nodes() {
        if wanted.node(&node.address).is_none() {
            changes.push((node.address.clone(), Change::Remove));
        }
    }
    changes
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn node(address: &str, stage: StageKind, spec: &str, parents: &[&str]) -> Node {
        Node {
            address: address.parse().expect("address"),
            stage,
            spec: json!(spec),
            parents: parents.iter().map(|p| p.parse().expect("address")).collect(),
        }
    }

    fn churn(feature: &str) -> Graph {
        Graph::new(vec![
            node("models.churn", StageKind::Train, "m", &["training_sets.churn"]),
            node("training_sets.churn", StageKind::Features, "t", &["features.a", "features.b"]),
            node("features.b", StageKind::Features, "b", &["sources.s"]),
            node("features.a", StageKind::Features, feature, &["sources.s"]),
            node("sources.s", StageKind::Validate, "s", &["raw.s"]),
            node("raw.s", StageKind::Ingest, "r", &[]),
        ])
        .expect("a graph")
    }

    #[test]
    fn parents_come_first() {
        let graph = churn("a");
        let names: Vec<String> = graph.nodes().iter().map(|n| n.address.to_string()).collect();
        assert_eq!(names, ["raw.s", "sources.s", "features.a", "features.b", "training_sets.churn", "models.churn"]);
    }

    #[test]
    fn only_what_depends_is_touched() {
        let changes = difference(&churn("a"), &churn("a2"));
        let of = |name: &str| changes.iter().find(|(a, _)| a.to_string() == name).expect(name).1;
        assert_eq!(of("features.a"), Change::Update);
        assert_eq!(of("features.b"), Change::Keep);
        assert_eq!(of("models.churn"), Change::Rebuild);
        assert!(difference(&churn("a"), &churn("a")).iter().all(|(_, c)| *c == Change::Keep));
    }

    #[test]
    fn a_cycle_is_refused() {
        let fault = Graph::new(vec![
            node("features.a", StageKind::Features, "a", &["features.b"]),
            node("features.b", StageKind::Features, "b", &["features.a"]),
        ])
        .expect_err("a cycle");
        assert_eq!(fault.code, Code::CYCLE);
    }
}
