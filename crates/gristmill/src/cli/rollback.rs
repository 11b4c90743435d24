//! `gristmill rollback endpoints.NAME | models.NAME`.

use super::{Cx, Ended, Exit};
use crate::wiring::Workspace;
use clap::Args;
use gristmill_kernel::{Address, AssetKind, Code, Fault};

/// Take an endpoint or a champion back to what it was before.
#[derive(Debug, Args)]
pub struct Rollback {
    /// What: endpoints.churn ends a running rollout or brings the version before back; models.churn moves the champion back.
    address: Address,
    /// Why; it is kept in the ledger.
    #[arg(long, short)]
    reason: String,
}

impl Rollback {
    pub async fn run(self, cx: &Cx) -> Ended {
        let workspace = Workspace::load(cx).await?;
        let ports = &workspace.state.ports;
        let text = match self.address.kind {
            AssetKind::Endpoints => {
                let run =
                    crate::server::rollback(ports, &workspace.graph, "command-line", &self.address.name, &cx.actor(), &self.reason).await?;
                if cx.out.is_json() {
                    cx.out.data_json(&run);
                }
                run.summary
            }
            AssetKind::Models => {
                let moved = gristmill_registry::rollback(ports, &self.address.name, &cx.actor(), &self.reason).await?;
                if cx.out.is_json() {
                    cx.out.data_json(&moved);
                }
                format!("{}@{} is version {} again", self.address, moved.alias, moved.number.unwrap_or_default())
            }
            _ => {
                return Err(Fault::invalid(Code::UNKNOWN_ADDRESS, format!("{} cannot be rolled back", self.address))
                    .fix("name an endpoint or a model: endpoints.churn, models.churn")
                    .into());
            }
        };
        if !cx.out.is_json() {
            cx.out.data(text);
        }
        Ok(Exit::Done)
    }
}
