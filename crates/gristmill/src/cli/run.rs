//! `gristmill run [ADDRESS]`: one asset and what it needs.

use super::{Cx, Ended, apply};
use crate::wiring::Workspace;
use clap::Args;
use gristmill_kernel::port::FlowOrder;
use gristmill_kernel::{Address, AssetKind, Code, Fault, StageKind};
use std::collections::BTreeMap;

/// Run one asset and what it needs.
#[derive(Debug, Args)]
pub struct Run {
    /// What to bring up to date: models.churn, sources.invoices. Everything when left out.
    addresses: Vec<Address>,
    /// Only the named assets, not what they need.
    #[arg(long)]
    only: bool,
    /// Even if unchanged.
    #[arg(long)]
    force: bool,
    /// Read every file of the named raw assets again and replace the rows.
    #[arg(long)]
    full: bool,
    /// Use another value for this run: --set models.churn.train='"baseline"'. The value is JSON; plain words may go without quotes.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    overrides: Vec<String>,
    /// Why; it is kept in the ledger.
    #[arg(long, short, default_value = "asked")]
    reason: String,
}

impl Run {
    pub async fn run(self, cx: &Cx) -> Ended {
        let workspace = Workspace::load(cx).await?;
        workspace.save_lock()?;
        let targets = match self.addresses.is_empty() {
            true => workspace.graph.nodes().iter().filter(|n| n.stage != StageKind::Monitor).map(|n| n.address.clone()).collect(),
            false => self.addresses,
        };
        let mut overrides = overrides(&self.overrides)?;
        if self.full {
            for raw in targets.iter().filter(|t: &&Address| t.kind == AssetKind::Raw) {
                overrides.insert(format!("{raw}.full"), serde_json::Value::Bool(true));
            }
        }
        let order = FlowOrder {
            targets,
            upstream: !self.only,
            force: self.force,
            overrides,
            actor: cx.actor(),
            reason: self.reason,
            idempotency: None,
        };
        gristmill_runner::plan::steps(&workspace.graph, &order)?;
        let run = workspace.work(cx, order).await?;
        apply::report(cx, &run)
    }
}

/// `models.churn.train=baseline` as a path and a JSON value.
pub fn overrides(texts: &[String]) -> Result<BTreeMap<String, serde_json::Value>, Fault> {
    texts
        .iter()
        .map(|text| {
            let (key, value) = text.split_once('=').ok_or_else(|| {
                Fault::invalid(Code::BAD_VALUE, format!("`{text}` is no KEY=VALUE")).fix("write --set models.churn.train=baseline")
            })?;
            let value = serde_json::from_str(value).unwrap_or_else(|_| serde_json::Value::String(value.to_owned()));
            Ok((key.trim().to_owned(), value))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_json_or_words() {
        let map = overrides(&["a.b.c=3".into(), "a.b.d=baseline".into(), "a.b.e=\"3\"".into()]).unwrap();
        assert_eq!(map["a.b.c"], 3);
        assert_eq!(map["a.b.d"], "baseline");
        assert_eq!(map["a.b.e"], "3");
        assert!(overrides(&["oops".into()]).is_err());
    }
}
