//! Decisions of the runner, from values alone.

use gristmill_kernel::error::Code;
use gristmill_kernel::graph::{Graph, Node};
use gristmill_kernel::port::FlowOrder;
use gristmill_kernel::{Address, Fault, Result, limits};
use serde_json::Value;
use std::time::Duration;

/// The nodes a flow runs, parents first, with its overrides applied.
pub fn steps(graph: &Graph, order: &FlowOrder) -> Result<Vec<Node>> {
    for target in &order.targets {
        if graph.node(target).is_none() {
            let known: Vec<String> = graph.nodes().iter().map(|n| n.address.to_string()).collect();
            return Err(
                Fault::not_found(Code::UNKNOWN_ADDRESS, format!("the project has no {target}")).fix(format!("it has {}", known.join(", ")))
            );
        }
    }
    let chosen: Vec<&Node> = if order.upstream {
        graph.upstream(&order.targets)
    } else {
        graph.nodes().iter().filter(|n| order.targets.contains(&n.address)).collect()
    };
    let mut nodes: Vec<Node> = chosen.into_iter().cloned().collect();
    for (path, value) in &order.overrides {
        override_spec(&mut nodes, path, value)?;
    }
    Ok(nodes)
}

/// Replaces `KIND.NAME.key[.key...]` in the spec of that node. The key must exist: a typing error shall not pass silently.
fn override_spec(nodes: &mut [Node], path: &str, value: &Value) -> Result<()> {
    let mut parts = path.splitn(3, '.');
    let (kind, name, keys) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    let address: Address = format!("{kind}.{name}").parse()?;
    let node = nodes.iter_mut().find(|n| n.address == address).ok_or_else(|| {
        Fault::not_found(Code::UNKNOWN_ADDRESS, format!("{address} is not part of this flow"))
            .fix("override keys of nodes that the flow runs")
    })?;
    let mut at = &mut node.spec;
    for key in keys.split('.') {
        let known: Vec<String> = at.as_object().map(|o| o.keys().cloned().collect()).unwrap_or_default();
        at = at.get_mut(key).ok_or_else(|| {
            Fault::invalid(Code::UNKNOWN_KEY, format!("{address} has no key `{key}`")).fix(format!("keys are {}", known.join(", ")))
        })?;
    }
    *at = value.clone();
    Ok(())
}

/// How long to wait before attempt `next` (2, 3, ...); `None` when there are no more.
pub fn backoff(next: u32) -> Option<Duration> {
    (next <= limits::STEP_ATTEMPTS_MAX).then(|| Duration::from_millis(limits::STEP_BACKOFF_MS << (next.saturating_sub(2)).min(16)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use gristmill_kernel::{Actor, StageKind};
    use serde_json::json;
    use std::collections::BTreeMap;

    fn graph() -> Graph {
        let node = |address: &str, stage, parents: &[&str]| Node {
            address: address.parse().unwrap(),
            stage,
            spec: json!({"train": "gbdt", "params": {"budget": 1}}),
            parents: parents.iter().map(|p| p.parse().unwrap()).collect(),
        };
        Graph::new(vec![
            node("raw.a", StageKind::Ingest, &[]),
            node("sources.a", StageKind::Validate, &["raw.a"]),
            node("raw.b", StageKind::Ingest, &[]),
            node("models.m", StageKind::Train, &["sources.a"]),
        ])
        .unwrap()
    }

    fn order(targets: &[&str], upstream: bool) -> FlowOrder {
        FlowOrder {
            targets: targets.iter().map(|t| t.parse().unwrap()).collect(),
            upstream,
            force: false,
            overrides: BTreeMap::new(),
            actor: Actor::user("test"),
            reason: "test".into(),
            idempotency: None,
        }
    }

    fn names(nodes: &[Node]) -> Vec<String> {
        nodes.iter().map(|n| n.address.to_string()).collect()
    }

    #[test]
    fn a_flow_runs_what_its_targets_need_and_nothing_else() {
        assert_eq!(names(&steps(&graph(), &order(&["models.m"], true)).unwrap()), ["raw.a", "sources.a", "models.m"]);
        assert_eq!(names(&steps(&graph(), &order(&["models.m"], false)).unwrap()), ["models.m"]);
        assert_eq!(steps(&graph(), &order(&["models.x"], true)).unwrap_err().code, Code::UNKNOWN_ADDRESS);
    }

    #[test]
    fn overrides_replace_known_keys_only() {
        let mut o = order(&["models.m"], false);
        o.overrides.insert("models.m.params.budget".into(), json!(2));
        assert_eq!(steps(&graph(), &o).unwrap()[0].spec["params"]["budget"], 2);
        o.overrides.insert("models.m.trian".into(), json!("x"));
        assert_eq!(steps(&graph(), &o).unwrap_err().code, Code::UNKNOWN_KEY);
    }

    #[test]
    fn retries_wait_longer_and_end() {
        assert_eq!(backoff(2), Some(Duration::from_millis(500)));
        assert_eq!(backoff(3), Some(Duration::from_millis(1000)));
        assert_eq!(backoff(limits::STEP_ATTEMPTS_MAX + 1), None);
    }
}
