//! The stage: reads the judged version, its run and the champion's, judges through the engine, moves the alias.

use crate::plan::{self, Aliases, GateMeta, Outcome};
use crate::promote::{find, model_address};
use crate::spec::GateSpec;
use async_trait::async_trait;
use gristmill_kernel::condition::Figures;
use gristmill_kernel::port::Ports;
use gristmill_kernel::run::{Metric, Run};
use gristmill_kernel::stage::{Made, StageMove};
use gristmill_kernel::version::{AliasMove, Place, Which};
use gristmill_kernel::{
    AliasName, Check, Digest, Done, Fault, NewVersion, Order, Result, Stage, StageContext, StageKind, Verdict, Version,
};
use std::collections::BTreeMap;

/// A champion that beats everyone and one that beats nobody: see [`plan::judged_alone`].
const EXTREME: f64 = 1e300;

/// Stage `gate`: node `gates.NAME`.
#[derive(Debug, Default)]
pub struct GateStage;

#[async_trait]
impl Stage for GateStage {
    fn kind(&self) -> StageKind {
        StageKind::Gate
    }
    /// The champion is not an input but an alias, so equal inputs may well be judged differently.
    fn skippable(&self) -> bool {
        false
    }
    async fn run(&self, cx: &StageContext, order: Order) -> Result<Done> {
        let spec: GateSpec = order.spec()?;
        let asset = model_address(&spec.model);
        let version = order.input(&asset)?;
        let aliases = Aliases::of(&cx.ports.ledger.aliases(&asset).await?);
        let run = made_by(&cx.ports, version).await?;
        let champion = match aliases.champion {
            Some(number) => {
                let version = find(&cx.ports, &asset, &Which::Number(number)).await?;
                Some((number, made_by(&cx.ports, &version).await?.metrics))
            }
            None => None,
        };
        let figures = plan::figures(&run, champion.as_ref().map(|(number, metrics)| (*number, metrics)));
        let checks = judge(&cx.ports, &spec.gates, &figures, champion.is_some()).await?;
        let verdict = plan::verdict(&checks);
        let outcome = plan::outcome(version.id.number, &spec.promote_to, aliases, verdict, &checks);
        let meta = GateMeta {
            format: GateMeta::FORMAT,
            model: version.id.clone(),
            champion: aliases.champion,
            verdict,
            checks: checks.clone(),
            measure: spec.measure.clone(),
            value: figures.get(&spec.measure),
        };
        let meta = serde_json::to_value(&meta).map_err(|e| Fault::internal("a gate's answer does not serialise").because(e))?;
        let output = NewVersion { asset: order.node.address.clone(), digest: Digest::of_json(&meta), place: Place::Meta, rows: None, meta };
        if verdict == Verdict::Pass && matches!(outcome, Outcome::Stay(_)) {
            let newest = cx.ports.ledger.version(&order.node.address, &Which::Latest).await?;
            if let Some(newest) = newest.filter(|n| n.digest == output.digest) {
                let summary = format!("{} passed these gates before; {}", version.id, stay(&outcome));
                return Ok(Done::Unchanged { versions: vec![newest.id], summary });
            }
        }
        Ok(Done::Made(made(&order, &spec, version, output, (verdict, checks), outcome, &figures)))
    }
}

fn stay(outcome: &Outcome) -> &str {
    match outcome {
        Outcome::Stay(why) => why,
        Outcome::Move { reason, .. } => reason,
    }
}

fn made(
    order: &Order,
    spec: &GateSpec,
    version: &Version,
    output: NewVersion,
    (verdict, checks): (Verdict, Vec<Check>),
    outcome: Outcome,
    figures: &Figures,
) -> Made {
    let passed = checks.iter().filter(|c| c.verdict == Verdict::Pass).count();
    let head = format!("{}: {passed} of {} gates passed", version.id, checks.len());
    let mut made = Made {
        outputs: vec![output],
        verdict: Some(verdict),
        checks,
        params: BTreeMap::from([("model".to_owned(), version.id.to_string())]),
        metrics: figures.get(&spec.measure).map(|v| Metric::new(spec.measure.clone(), v)).into_iter().collect(),
        ..Made::default()
    };
    match outcome {
        Outcome::Stay(why) => made.summary = format!("{head}; {why}"),
        Outcome::Move { from, reason } => {
            made.summary = format!("{head}; now {}", spec.promote_to);
            let wish = AliasMove {
                asset: version.id.asset.clone(),
                alias: spec.promote_to.clone(),
                to: Some(version.id.number),
                expect: Some(from),
                actor: order.actor.clone(),
                reason,
                run: Some(order.run.clone()),
            };
            made.aliases.push(StageMove { wish, output: None });
        }
    }
    made
}

async fn made_by(ports: &Ports, version: &Version) -> Result<Run> {
    ports
        .ledger
        .run(&version.run)
        .await?
        .ok_or_else(|| Fault::damaged(format!("{} was made by run {}, which is not in the ledger", version.id, version.run)))
}

/// Judges every gate. Without a champion a comparison with it is judged on its own terms.
async fn judge(ports: &Ports, gates: &[String], figures: &Figures, has_champion: bool) -> Result<Vec<Check>> {
    let mut checks = Vec::with_capacity(gates.len());
    for gate in gates {
        let judged = ports.engine.judge(gate, figures).await?;
        if has_champion || !plan::mentions_champion(gate) {
            checks.push(plan::judged(gate, judged));
            continue;
        }
        let low = ports.engine.judge(gate, &plan::with_champion_at(figures, -EXTREME)).await?;
        let high = ports.engine.judge(gate, &plan::with_champion_at(figures, EXTREME)).await?;
        checks.push(plan::judged_alone(gate, judged, low.holds, high.holds));
    }
    Ok(checks)
}

/// The aliases whose moves need a verdict.
pub(crate) fn is_gated(alias: &AliasName) -> bool {
    *alias == AliasName::champion() || *alias == AliasName::challenger()
}
