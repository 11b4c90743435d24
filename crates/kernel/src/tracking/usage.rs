//! What the model calls of a trace used and cost, added up over its tree of spans.
//!
//! Invariant: nothing is counted twice. A span that has figures speaks for everything beneath it, because libraries that give figures to a
//! parent give it the sum of its children.

use serde_json::Value;
use std::collections::{HashMap, HashSet};

/// The keys of a token count, and whether a sum has it also when no span does.
const TOKENS: [(&str, bool); 6] = [
    ("input_tokens", true),
    ("output_tokens", true),
    ("total_tokens", true),
    ("cache_read_input_tokens", false),
    ("cache_creation_input_tokens", false),
    ("cache_creation_input_tokens_above_1hr", false),
];
const COSTS: [(&str, bool); 3] = [("input_cost", true), ("output_cost", true), ("total_cost", true)];

/// A span as far as its figures are concerned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spent {
    /// The span.
    pub id: String,
    /// The span it is part of.
    pub parent: Option<String>,
    /// Its figures, a JSON object as text.
    pub figures: Option<String>,
}

/// The tokens of a trace as JSON, if any span has some.
pub fn tokens(spans: &[Spent]) -> Option<String> {
    let sums = sum(spans, &TOKENS)?;
    // Counts are whole numbers; what a client sent beyond them is not one.
    let shown = sums.into_iter().map(|(key, value)| format!("\"{key}\": {}", value as i64));
    Some(format!("{{{}}}", shown.collect::<Vec<_>>().join(", ")))
}

/// The costs of a trace as JSON, if any span has some.
pub fn costs(spans: &[Spent]) -> Option<String> {
    let sums = sum(spans, &COSTS)?;
    let shown = sums.into_iter().map(|(key, value)| format!("\"{key}\": {}", Value::from(value)));
    Some(format!("{{{}}}", shown.collect::<Vec<_>>().join(", ")))
}

fn sum(spans: &[Spent], keys: &[(&'static str, bool)]) -> Option<Vec<(&'static str, f64)>> {
    let ids: HashSet<&str> = spans.iter().map(|span| span.id.as_str()).collect();
    let mut children: HashMap<&str, Vec<&Spent>> = HashMap::new();
    let mut waiting: Vec<&Spent> = Vec::new();
    for span in spans {
        match span.parent.as_deref().filter(|parent| ids.contains(parent) && *parent != span.id) {
            Some(parent) => children.entry(parent).or_default().push(span),
            None => waiting.push(span),
        }
    }
    let mut sums: HashMap<&str, f64> = HashMap::new();
    let mut found = false;
    // A walk with a stack of its own, so that a deep tree cannot overflow ours. Spans in a ring hang from no root and are not met.
    while let Some(span) = waiting.pop() {
        let figures = span.figures.as_deref().and_then(read);
        match figures {
            Some(figures) => {
                found = true;
                for (key, _) in keys {
                    if let Some(value) = figures.get(key).and_then(Value::as_f64).filter(|value| value.is_finite()) {
                        *sums.entry(key).or_default() += value;
                    }
                }
            }
            None => waiting.extend(children.get(span.id.as_str()).into_iter().flatten()),
        }
    }
    let shown = keys.iter().filter_map(|(key, always)| match sums.get(key) {
        Some(value) => Some((*key, *value)),
        None => always.then_some((*key, 0.0)),
    });
    found.then(|| shown.collect())
}

/// Figures as an object; some libraries write the object as a text.
fn read(text: &str) -> Option<Value> {
    match serde_json::from_str(text).ok()? {
        Value::String(inner) => serde_json::from_str(&inner).ok().filter(Value::is_object),
        value => Some(value).filter(Value::is_object),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spent(id: &str, parent: Option<&str>, figures: Option<&str>) -> Spent {
        Spent { id: id.into(), parent: parent.map(str::to_owned), figures: figures.map(str::to_owned) }
    }

    #[test]
    fn a_parent_speaks_for_its_children() {
        let leaf = r#"{"input_tokens": 3, "output_tokens": 4, "total_tokens": 7}"#;
        let both = r#"{"input_tokens": 6, "output_tokens": 8, "total_tokens": 14, "cache_read_input_tokens": 1}"#;
        let tree = |top: Option<&str>| {
            [spent("a", None, None), spent("b", Some("a"), top), spent("c", Some("b"), Some(leaf)), spent("d", Some("b"), Some(leaf))]
        };
        assert_eq!(tokens(&tree(None)).as_deref(), Some(r#"{"input_tokens": 6, "output_tokens": 8, "total_tokens": 14}"#));
        assert_eq!(tokens(&tree(Some(both))).as_deref(), Some(both));
        assert_eq!(tokens(&[spent("a", None, Some(&Value::from(leaf).to_string()))]).as_deref(), Some(leaf), "a text with an object");
        assert_eq!(tokens(&[spent("a", None, None)]), None);
        assert_eq!(tokens(&[spent("a", None, Some("[]")), spent("b", None, Some("no JSON"))]), None);
    }

    #[test]
    fn a_child_without_its_parent_counts_and_a_ring_ends() {
        let cost = r#"{"input_cost": 0.25, "output_cost": 0.5, "total_cost": 0.75}"#;
        assert_eq!(costs(&[spent("b", Some("gone"), Some(cost))]).as_deref(), Some(cost));
        assert_eq!(costs(&[spent("a", Some("a"), Some(cost))]).as_deref(), Some(cost));
        assert_eq!(costs(&[spent("a", Some("b"), Some(cost)), spent("b", Some("a"), Some(cost))]), None);
    }

    #[test]
    fn a_deep_tree_is_walked() {
        let mut spans: Vec<Spent> = (0..100_000).map(|n| spent(&n.to_string(), Some(&(n + 1).to_string()), None)).collect();
        spans[0].figures = Some(r#"{"total_cost": 1.5}"#.into());
        assert_eq!(costs(&spans).as_deref(), Some(r#"{"input_cost": 0.0, "output_cost": 0.0, "total_cost": 1.5}"#));
    }
}
