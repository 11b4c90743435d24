//! `gristmill promote`: give a model version an alias.

use super::{Cx, Ended, Exit};
use crate::wiring::State;
use clap::Args;
use gristmill_kernel::version::{Selector, Which};
use gristmill_kernel::{AliasName, AssetKind, Code, Fault};

/// Give a model version an alias; its gates must have passed.
#[derive(Debug, Args)]
pub struct Promote {
    /// The version: models.churn@3.
    version: String,
    /// The alias. `challenger` starts the endpoint's rollout, `champion` is for models without an endpoint.
    #[arg(long, default_value = "challenger")]
    to: String,
    /// Why; it is kept in the ledger.
    #[arg(long, short)]
    reason: String,
    /// Even though the gates did not pass; that is kept too.
    #[arg(long)]
    force: bool,
}

impl Promote {
    pub async fn run(self, cx: &Cx) -> Ended {
        let state = State::open(cx).await?;
        let selector: Selector = self.version.parse()?;
        if selector.asset.kind != AssetKind::Models {
            return Err(Fault::invalid(Code::UNKNOWN_MODEL, format!("{} is no model", selector.asset))
                .fix("name a version of a model: models.churn@3")
                .into());
        }
        let version = gristmill_registry::find(&state.ports, &selector.asset, &selector.which).await?;
        let moved = state
            .promote(&selector.asset.name, &Which::Number(version.id.number), AliasName::new(self.to)?, &self.reason, self.force)
            .await?;
        if cx.out.is_json() {
            cx.out.data_json(&moved);
        } else {
            cx.out.data(format!("{} is now @{}", version.id, moved.alias));
            cx.out.hint("a running server starts the rollout by itself; watch it with gristmill logs --follow");
        }
        Ok(Exit::Done)
    }
}
