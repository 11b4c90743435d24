//! `gristmill apply`: bring everything up to date with the project.

use super::{Cx, Ended, Exit, plan};
use crate::wiring::Workspace;
use clap::Args;
use gristmill_kernel::port::FlowOrder;
use gristmill_kernel::version::AliasMove;
use gristmill_kernel::{Address, AliasName, Code, Fault, Run, RunStatus, StageKind, Verdict};
use std::collections::BTreeMap;

/// Bring everything up to date with the project.
#[derive(Debug, Args)]
pub struct Apply {
    /// Do not ask.
    #[arg(long, short)]
    yes: bool,
}

impl Apply {
    pub async fn run(self, cx: &Cx) -> Ended {
        let workspace = Workspace::load(cx).await?;
        workspace.test_and_check(cx).await?;
        let planned = plan::changes(&workspace).await?;
        if !cx.out.is_json() && !planned.is_empty() {
            plan::print(cx, &planned);
        }
        if !planned.is_empty() && !self.yes && !agreed(cx)? {
            cx.out.say("nothing was done");
            return Ok(Exit::Failed);
        }
        workspace.save_lock()?;
        remove(&workspace, cx, &planned).await?;
        let targets: Vec<Address> =
            workspace.graph.nodes().iter().filter(|n| n.stage != StageKind::Monitor).map(|n| n.address.clone()).collect();
        let order = FlowOrder {
            targets,
            upstream: true,
            force: false,
            overrides: BTreeMap::new(),
            actor: cx.actor(),
            reason: "apply".to_owned(),
            idempotency: None,
        };
        let run = workspace.work(cx, order).await?;
        report(cx, &run)
    }
}

/// Endpoints that left the project stop answering.
async fn remove(workspace: &Workspace, cx: &Cx, planned: &[plan::Planned]) -> Result<(), Fault> {
    for gone in planned.iter().filter(|p| p.change == gristmill_kernel::graph::Change::Remove) {
        let wish = AliasMove {
            asset: gone.address.clone(),
            alias: AliasName::live(),
            to: None,
            expect: None,
            actor: cx.actor(),
            reason: "removed from the project".to_owned(),
            run: None,
        };
        workspace.state.ports.ledger.move_alias(wish, workspace.state.ports.clock.now()).await?;
    }
    Ok(())
}

fn agreed(cx: &Cx) -> Result<bool, Fault> {
    if cx.globals.no_input || !cx.outside.terminal {
        return Err(Fault::invalid(Code::BAD_VALUE, "there is nobody to ask").fix("say yes beforehand: gristmill apply --yes"));
    }
    cx.out.say("\napply this? [y/N]");
    let mut line = String::new();
    std::io::stdin().read_line(&mut line).map_err(|e| Fault::io("standard input", e))?;
    Ok(matches!(line.trim(), "y" | "Y" | "yes"))
}

/// Says how a flow ended, and what that means for the exit code.
pub fn report(cx: &Cx, run: &Run) -> Ended {
    if cx.out.is_json() {
        cx.out.data_json(run);
    } else {
        match (&run.error, run.verdict) {
            (Some(error), _) => {
                cx.out.say(format!("run {} {}: {} [{}]", run.id.short(), run.status, error.message, error.code));
                if let Some(fix) = &error.fix {
                    cx.out.hint(fix);
                }
            }
            (None, _) => {
                cx.out.data(format!("run {} {}: {}", run.id.short(), run.status, run.summary));
                for check in run.checks.iter().filter(|c| c.verdict != Verdict::Pass) {
                    cx.out.data(format!("  {:<12} {}  ({})", check.verdict.as_str(), check.condition, check.observed));
                }
            }
        }
    }
    Ok(match (run.status, run.verdict, &run.error) {
        (RunStatus::Failed, _, Some(e)) if e.code == Code::EXPECTATION_FAILED.0 || e.code == Code::GATE_FAILED.0 => Exit::Refused,
        (RunStatus::Failed | RunStatus::Cancelled, _, _) => Exit::Failed,
        (_, Some(Verdict::Fail), _) => Exit::Refused,
        _ => Exit::Done,
    })
}
