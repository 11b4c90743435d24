//! `gristmill status`: how things stand.

use super::{Cx, Ended, Exit};
use crate::output::table;
use crate::wiring::State;
use clap::Args;
use gristmill_kernel::port::{Ports, RunFilter};
use gristmill_kernel::prediction::Deployment;
use gristmill_kernel::version::Which;
use gristmill_kernel::{AliasName, AssetKind, Result, Run, StageKind, Verdict};
use serde_json::{Value, json};

/// How things stand: health, endpoints, latest runs.
#[derive(Debug, Args)]
pub struct Status {
    /// How many runs to list.
    #[arg(long, default_value_t = 12)]
    runs: usize,
}

impl Status {
    pub async fn run(self, cx: &Cx) -> Ended {
        let state = State::open(cx).await?;
        let ports = &state.ports;
        let standing = endpoints(ports).await?;
        let runs = ports.ledger.runs(&RunFilter { limit: self.runs, ..RunFilter::default() }).await?;
        let alerts = alerts(ports).await?;
        let chain = ports.ledger.head().await?;
        let server = state.server();
        if cx.out.is_json() {
            cx.out.data_json(&json!({
                "project_dir": state.dir, "server": server.map(|s| s.url), "ledger_lines": chain,
                "endpoints": standing, "alerts": alerts.iter().map(brief).collect::<Vec<_>>(), "runs": runs.iter().map(brief).collect::<Vec<_>>(),
            }));
            return Ok(Exit::Done);
        }
        match server {
            Some(server) => cx.out.data(format!("server     {}", server.url)),
            None => cx.out.data("server     not running (gristmill serve)"),
        }
        cx.out.data(format!("ledger     {chain} lines"));
        for endpoint in &standing {
            let canary = match endpoint["canary"].as_object() {
                Some(c) => format!(", rolling out {} at {}", c["model"].as_str().unwrap_or("?"), c["sees"].as_str().unwrap_or("?")),
                None => String::new(),
            };
            cx.out.data(format!(
                "endpoint   {} answers with {}{canary}",
                endpoint["endpoint"].as_str().unwrap_or("?"),
                endpoint["stable"].as_str().unwrap_or("?")
            ));
            if let Some(experiment) = endpoint["experiment"].as_str() {
                cx.out.data(format!("           experiment: {experiment}"));
            }
            if let Some(parity) = endpoint["parity"].as_object() {
                cx.out.data(format!("           {}", parity["summary"].as_str().unwrap_or_default()));
            }
        }
        for alert in &alerts {
            cx.out.data(format!("alert      {} {}", alert.ended_at.map(|t| t.to_string()).unwrap_or_default(), alert.summary));
        }
        if runs.is_empty() {
            cx.out.hint("nothing has run yet: gristmill apply");
            return Ok(Exit::Done);
        }
        let rows = runs
            .iter()
            .map(|r| {
                vec![
                    r.id.short().to_owned(),
                    r.stage.to_string(),
                    r.address.to_string(),
                    r.status.to_string(),
                    r.verdict.map(|v| v.to_string()).unwrap_or_default(),
                    r.summary.clone(),
                ]
            })
            .collect();
        cx.out.data("");
        cx.out.data(table(&["run", "stage", "address", "status", "verdict", "summary"], rows));
        Ok(Exit::Done)
    }
}

/// What each endpoint answers with.
pub async fn endpoints(ports: &Ports) -> Result<Vec<Value>> {
    let mut standing = Vec::new();
    for asset in ports.ledger.assets().await?.into_iter().filter(|a| a.kind == AssetKind::Endpoints) {
        let Some(version) = ports.ledger.version(&asset, &Which::Alias(AliasName::live())).await? else { continue };
        let deployment: Deployment = serde_json::from_value(version.meta)
            .map_err(|e| gristmill_kernel::Fault::damaged(format!("{} is no deployment", version.id)).because(e))?;
        let report = gristmill_monitor::last_report(ports, &deployment.endpoint).await?;
        let parity = report.and_then(|r| r.parity).map(|p| {
            json!({
                "checked": p.checked, "late": p.late, "behind": p.behind, "mismatched": p.mismatched, "unknown": p.unknown,
                "mismatch_rate": p.mismatch_rate(), "summary": p.summary(),
            })
        });
        let seen = gristmill_deploy::experiment(ports, &deployment).await?;
        standing.push(json!({
            "experiment": seen.as_ref().map(gristmill_deploy::strategy::ab::told),
            "parity": parity,
            "endpoint": deployment.endpoint,
            "stable": deployment.stable.to_string(),
            "canary": deployment.canary.map(|c| json!({
                "model": c.model.to_string(), "percent": f64::from(c.permille) / 10.0,
                "copies_percent": f64::from(c.mirrored) / 10.0, "sees": gristmill_deploy::strategy::Traffic::of(&c).to_string(),
                "step": c.step, "since": c.since,
            })),
        }));
    }
    Ok(standing)
}

/// Monitor runs that said no and have not been followed by one that did not.
pub async fn alerts(ports: &Ports) -> Result<Vec<Run>> {
    let runs = ports.ledger.runs(&RunFilter { stages: vec![StageKind::Monitor], limit: 200, ..RunFilter::default() }).await?;
    let mut seen = std::collections::BTreeSet::new();
    Ok(runs
        .into_iter()
        .filter(|r| r.verdict.is_some() && seen.insert(r.address.clone()))
        .filter(|r| r.verdict == Some(Verdict::Fail))
        .collect())
}

/// A run in a few words.
pub fn brief(run: &Run) -> Value {
    json!({
        "id": run.id, "stage": run.stage, "address": run.address, "status": run.status, "verdict": run.verdict, "reason": run.reason,
        "summary": run.summary, "started_at": run.started_at, "ended_at": run.ended_at, "outputs": run.outputs.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "error": run.error,
    })
}
