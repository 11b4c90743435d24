//! `gristmill diff`: what differs between two versions.

use super::{Cx, Ended, Exit};
use crate::output::table;
use crate::wiring::State;
use clap::Args;
use gristmill_kernel::version::Selector;

/// What differs between two versions.
#[derive(Debug, Args)]
pub struct Diff {
    /// One version: models.churn@1, models.churn@champion.
    a: String,
    /// The other.
    b: String,
}

impl Diff {
    pub async fn run(self, cx: &Cx) -> Ended {
        let state = State::open(cx).await?;
        let (a, b): (Selector, Selector) = (self.a.parse()?, self.b.parse()?);
        let a = gristmill_registry::find(&state.ports, &a.asset, &a.which).await?;
        let b = gristmill_registry::find(&state.ports, &b.asset, &b.which).await?;
        let difference = gristmill_registry::diff(&state.ports, &a.id, &b.id).await?;
        let value = serde_json::to_value(&difference)
            .map_err(|e| gristmill_kernel::Fault::internal("a difference does not serialise").because(e))?;
        if cx.out.is_json() {
            cx.out.data_json(&value);
            return Ok(Exit::Done);
        }
        let mut rows = Vec::new();
        flatten("", &value, &mut rows);
        match rows.is_empty() {
            true => cx.out.data(format!("{} and {} do not differ", a.id, b.id)),
            false => cx.out.data(table(&["what", &a.id.to_string(), &b.id.to_string()], rows)),
        }
        Ok(Exit::Done)
    }
}

/// Pairs `{a, b}` as rows.
fn flatten(path: &str, value: &serde_json::Value, rows: &mut Vec<Vec<String>>) {
    let Some(object) = value.as_object() else { return };
    if object.len() == 2 && object.contains_key("a") && object.contains_key("b") {
        if object["a"] != object["b"] {
            let text = |v: &serde_json::Value| v.as_str().map_or_else(|| v.to_string(), str::to_owned);
            rows.push(vec![path.to_owned(), text(&object["a"]), text(&object["b"])]);
        }
        return;
    }
    for (key, inner) in object {
        let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
        flatten(&path, inner, rows);
    }
}
