//! Drives the nodes of a flow in order. A flow that is started again after a crash finds its finished steps by
//! their work keys and goes on.

use crate::plan;
use crate::step::{StepOrder, StepOutcome, Stepper};
use gristmill_kernel::graph::Graph;
use gristmill_kernel::port::FlowOrder;
use gristmill_kernel::run::{Finish, RunError};
use gristmill_kernel::stage::CancelFlag;
use gristmill_kernel::{Code, Fault, Kind, Result, Run, RunStatus, StageKind, Verdict};

/// Runs a leased flow to its end and writes that end.
pub async fn drive(stepper: &Stepper, graph: &Graph, flow: &Run, cancel: &CancelFlag) -> Result<Run> {
    if flow.stage != StageKind::Flow {
        // A step that its process left open: what it was doing is decided again by whoever began it.
        let fault = Fault::conflict(Code::INTERRUPTED, format!("{} {} was interrupted", flow.stage, flow.address));
        let finish = conclude(Err(fault));
        return stepper.ports().ledger.finish(&flow.id, finish, stepper.ports().clock.now()).await;
    }
    let finish = match serde_json::from_value::<FlowOrder>(flow.spec.clone()) {
        Ok(order) => conclude(walk(stepper, graph, flow, &order, cancel).await),
        Err(e) => conclude(Err(Fault::damaged(format!("run {} is no flow order: {e}", flow.id)))),
    };
    let run = stepper.ports().ledger.finish(&flow.id, finish, stepper.ports().clock.now()).await?;
    stepper.observer().flow_ended(&run);
    Ok(run)
}

async fn walk(stepper: &Stepper, graph: &Graph, flow: &Run, order: &FlowOrder, cancel: &CancelFlag) -> Result<Vec<StepOutcome>> {
    let mut outcomes = Vec::new();
    for node in plan::steps(graph, order)? {
        cancel.check()?;
        let step = StepOrder {
            force: order.force && order.targets.contains(&node.address),
            node,
            parent: Some(flow.id.clone()),
            actor: order.actor.clone(),
            reason: order.reason.clone(),
        };
        let outcome = stepper.step(step, cancel).await?;
        let gate_said_no = outcome.run.stage == StageKind::Gate && outcome.run.verdict != Some(Verdict::Pass);
        outcomes.push(outcome);
        if gate_said_no {
            break;
        }
    }
    Ok(outcomes)
}

fn conclude(walked: Result<Vec<StepOutcome>>) -> Finish {
    match walked {
        Ok(outcomes) => {
            let judged: Vec<Verdict> = outcomes.iter().filter_map(|o| o.run.verdict).collect();
            let skipped = outcomes.iter().filter(|o| o.run.status == RunStatus::Skipped).count();
            let refused = outcomes.iter().find(|o| o.run.stage == StageKind::Gate && o.run.verdict != Some(Verdict::Pass));
            let summary = match refused {
                Some(gate) => format!("the gates said no: {}", gate.run.summary),
                None => format!("{} steps, {} of them unchanged", outcomes.len(), skipped),
            };
            Finish {
                verdict: (!judged.is_empty()).then(|| Verdict::worst(judged)),
                checks: refused.map(|g| g.run.checks.clone()).unwrap_or_default(),
                summary,
                ..Finish::empty(RunStatus::Succeeded)
            }
        }
        Err(fault) => {
            let status = if fault.kind == Kind::Cancelled { RunStatus::Cancelled } else { RunStatus::Failed };
            Finish { error: Some(RunError::from(&fault)), summary: fault.message.clone(), ..Finish::empty(status) }
        }
    }
}
