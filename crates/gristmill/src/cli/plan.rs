//! `gristmill plan`: what `apply` would do. The project's checks and unit tests come first: a plan of something that is wrong is none.

use super::{Cx, Ended, Exit};
use crate::output::{duration, thousands};
use crate::wiring::Workspace;
use clap::Args;
use gristmill_kernel::graph::{Change, Graph, Node};
use gristmill_kernel::port::{Ledger, RunFilter};
use gristmill_kernel::version::Which;
use gristmill_kernel::{Address, AliasName, AssetKind, Result, RunStatus, StageKind};
use owo_colors::OwoColorize as _;
use serde_json::json;
use std::time::Duration;

/// Show what `apply` would do, and what it would touch.
#[derive(Debug, Args)]
pub struct Plan {
    /// Exit with 3 when there is something to do.
    #[arg(long)]
    exit_code: bool,
}

/// What `apply` would do about one node.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Planned {
    /// The asset.
    pub address: Address,
    /// The stage that makes it.
    pub stage: StageKind,
    /// What changes.
    pub change: Change,
    /// Lines of the spec that go and come.
    pub diff: Vec<String>,
    /// Rows its newest version has.
    pub rows: Option<u64>,
    /// How long its last run took, in seconds.
    pub last_seconds: Option<f64>,
}

impl Plan {
    pub async fn run(self, cx: &Cx) -> Ended {
        let workspace = Workspace::load(cx).await?;
        workspace.test_and_check(cx).await?;
        let planned = changes(&workspace).await?;
        if cx.out.is_json() {
            cx.out.data_json(&json!({"changes": planned, "serving": serving(&planned)}));
        } else {
            print(cx, &planned);
        }
        Ok(if self.exit_code && !planned.is_empty() { Exit::Changes } else { Exit::Done })
    }
}

/// Shows changes for people, with their blast radius.
pub fn print(cx: &Cx, planned: &[Planned]) {
    if planned.is_empty() {
        cx.out.data("nothing to do: the project is as applied");
        return;
    }
    for change in planned {
        let (sign, word) = match change.change {
            Change::Add => ("+", "add"),
            Change::Update => ("~", "change"),
            Change::Rebuild => ("^", "rebuild, because something it reads changes"),
            Change::Remove => ("-", "remove"),
            Change::Keep => ("=", "keep"),
        };
        let line = format!("{sign} {:<28} {word}", change.address.to_string());
        let colored = match (cx.out.color(), change.change) {
            (false, _) | (true, Change::Keep) => line,
            (true, Change::Add) => line.green().to_string(),
            (true, Change::Remove) => line.red().to_string(),
            (true, _) => line.yellow().to_string(),
        };
        cx.out.data(colored);
        for line in &change.diff {
            let shown = match (cx.out.color(), line.chars().next()) {
                (true, Some('+')) => line.green().to_string(),
                (true, Some('-')) => line.red().to_string(),
                _ => line.clone(),
            };
            cx.out.data(format!("      {shown}"));
        }
    }
    let rows: u64 =
        planned.iter().filter(|p| p.stage == StageKind::Features || p.stage == StageKind::Validate).filter_map(|p| p.rows).sum();
    let seconds: f64 = planned.iter().filter_map(|p| p.last_seconds).sum();
    let count = |change| planned.iter().filter(|p| p.change == change).count();
    cx.out.data(format!(
        "\nplan: {} to add, {} to change, {} to rebuild, {} to remove",
        count(Change::Add),
        count(Change::Update),
        count(Change::Rebuild),
        count(Change::Remove)
    ));
    let mut radius = Vec::new();
    if rows > 0 {
        radius.push(format!("{} rows are computed again", thousands(rows)));
    }
    if seconds > 0.0 {
        radius.push(format!("about {} by the last runs", duration(Duration::from_secs_f64(seconds))));
    }
    match serving(planned).as_slice() {
        [] => radius.push("no serving model is touched".to_owned()),
        touched => radius.push(format!("{} may get a new model, through its gates and its rollout", touched.join(", "))),
    }
    cx.out.data(format!("blast radius: {}", radius.join("; ")));
}

fn serving(planned: &[Planned]) -> Vec<String> {
    planned.iter().filter(|p| p.address.kind == AssetKind::Endpoints).map(|p| p.address.to_string()).collect()
}

/// What differs between the project and what was run last, node by node.
pub async fn changes(workspace: &Workspace) -> Result<Vec<Planned>> {
    let ledger = workspace.state.ports.ledger.as_ref();
    let mut applied: Vec<Node> = Vec::new();
    let mut seconds = std::collections::BTreeMap::new();
    for node in workspace.graph.nodes() {
        let good = last_good(ledger, node).await?;
        if let Some(run) = &good
            && let (Some(began), Some(ended)) = (run.started_at, run.ended_at)
        {
            seconds.insert(node.address.clone(), ended.since(began).micros() as f64 / 1e6);
        }
        match good {
            Some(run) => applied.push(Node { spec: run.spec, ..node.clone() }),
            // What has never been watched yet is watched once the server runs; it is nothing to apply.
            None if node.stage == StageKind::Monitor => applied.push(node.clone()),
            None => {}
        }
    }
    for asset in ledger.assets().await? {
        let live = asset.kind == AssetKind::Endpoints && ledger.alias(&asset, &AliasName::live()).await?.is_some();
        if live && workspace.graph.node(&asset).is_none() {
            applied.push(Node { address: asset, stage: StageKind::Deploy, spec: serde_json::Value::Null, parents: Vec::new() });
        }
    }
    let applied = Graph::new(applied)?;
    let mut planned = Vec::new();
    for (address, change) in gristmill_kernel::graph::difference(&applied, &workspace.graph) {
        if change == Change::Keep {
            continue;
        }
        let (before, after) = (applied.node(&address), workspace.graph.node(&address));
        let stage = after.or(before).map_or(StageKind::Flow, |n| n.stage);
        if stage == StageKind::Monitor && change == Change::Rebuild {
            continue;
        }
        let diff = match (before, after, change) {
            (Some(b), Some(a), Change::Update) => spec_diff(&b.spec, &a.spec),
            _ => Vec::new(),
        };
        let rows = ledger.version(&address, &Which::Latest).await?.and_then(|v| v.rows);
        planned.push(Planned { last_seconds: seconds.get(&address).copied(), address, stage, change, diff, rows });
    }
    Ok(planned)
}

/// The newest run of a node that ended well; a skipped one stands for the run it was skipped for.
async fn last_good(ledger: &dyn Ledger, node: &Node) -> Result<Option<gristmill_kernel::Run>> {
    let filter = RunFilter {
        stages: vec![node.stage],
        address: Some(node.address.clone()),
        statuses: vec![RunStatus::Succeeded, RunStatus::Skipped],
        limit: 50,
        ..RunFilter::default()
    };
    for run in ledger.runs(&filter).await? {
        // What was run with other values (`--set`) says nothing about the project.
        if let Some(parent) = &run.parent
            && let Some(flow) = ledger.run(parent).await?
            && flow.spec["overrides"].as_object().is_some_and(|o| !o.is_empty())
        {
            continue;
        }
        return match &run.skipped_for {
            Some(id) => Ok(ledger.run(id).await?.or(Some(run))),
            None => Ok(Some(run)),
        };
    }
    Ok(None)
}

fn spec_diff(before: &serde_json::Value, after: &serde_json::Value) -> Vec<String> {
    let mut lines = Vec::new();
    leaves("", before, after, &mut lines);
    lines
}

fn leaves(path: &str, before: &serde_json::Value, after: &serde_json::Value, lines: &mut Vec<String>) {
    if before == after {
        return;
    }
    if let (Some(b), Some(a)) = (before.as_object(), after.as_object()) {
        let keys: std::collections::BTreeSet<&String> = b.keys().chain(a.keys()).collect();
        for key in keys {
            let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
            leaves(&path, b.get(key).unwrap_or(&serde_json::Value::Null), a.get(key).unwrap_or(&serde_json::Value::Null), lines);
        }
        return;
    }
    match (before.as_str(), after.as_str()) {
        (Some(b), Some(a)) if b.len() + a.len() > 100 => {
            for change in similar::TextDiff::from_words(b, a).iter_all_changes() {
                let text = change.value().trim();
                match change.tag() {
                    _ if text.is_empty() => {}
                    similar::ChangeTag::Delete => lines.push(format!("- {path}: {text}")),
                    similar::ChangeTag::Insert => lines.push(format!("+ {path}: {text}")),
                    similar::ChangeTag::Equal => {}
                }
            }
        }
        _ => {
            if !before.is_null() {
                lines.push(format!("- {path} = {before}"));
            }
            if !after.is_null() {
                lines.push(format!("+ {path} = {after}"));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_diff_names_the_key_and_both_values() {
        let lines = spec_diff(&json!({"a": {"b": 1}, "c": 2}), &json!({"a": {"b": 3}, "c": 2}));
        assert_eq!(lines, ["- a.b = 1", "+ a.b = 3"]);
    }
}
