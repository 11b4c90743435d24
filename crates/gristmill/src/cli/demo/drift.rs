//! The second half of the demo: the data breaks, and the loop closes by itself.
//!
//! The pushed rows are real lines of the last months, dated anew behind the newest one, with prices and quantities changed: a price
//! rise and smaller baskets. Everything that follows is done by the server's own tasks; the demo only sends traffic and watches the ledger.

use super::{Client, customers};
use crate::cli::{Cx, Faults, logs};
use crate::server::Server;
use crate::wiring::Workspace;
use futures::TryStreamExt as _;
use gristmill_kernel::port::{AuditFilter, FlowOrder, RunFilter, Runs as _};
use gristmill_kernel::prediction::Deployment;
use gristmill_kernel::version::Which;
use gristmill_kernel::{Address, AliasName, AssetKind, Code, Fault, Kind, Name, Result, Run, RunId, RunStatus, StageKind, Verdict};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// Rows per push.
const PUSH_ROWS: usize = 20_000;
/// How long each act may take before the demo gives up and says so.
const PATIENCE: Duration = Duration::from_secs(600);
/// How far the rows are moved, and how far back they are taken from: a year of whole weeks, so that seasons and weekdays stay what they are.
const SHIFT_DAYS: u32 = 364;

pub async fn tell(cx: &Cx, workspace: &Workspace, server: &Server, client: &Client) -> Result<(), Faults> {
    let who = customers(workspace, 1500).await?;
    let traffic = Traffic { client, who };
    let ledger = &workspace.state.ports.ledger;

    cx.out.head("Drift: prices triple and baskets shrink");
    let began = Instant::now();
    let pushed = push(workspace, client).await?;
    cx.out.say(format!(
        "  {} rows pushed over HTTP, each acknowledged after it was durable ({})",
        crate::output::thousands(pushed),
        crate::output::duration(began.elapsed())
    ));
    let seen = ledger.runs(&RunFilter { stages: vec![StageKind::Flow], limit: 1, ..RunFilter::default() }).await?;
    let last_flow = seen.first().map(|r| r.id.clone());

    let alert = traffic.until(|| red_monitor(workspace)).await?;
    cx.out.say(format!("  alert: {}", alert.summary));
    for check in alert.checks.iter().filter(|c| c.verdict == Verdict::Fail).take(5) {
        cx.out.say(format!("    {}", check.observed));
    }

    cx.out.head("Retraining, by itself");
    let flow = traffic.until(|| retraining(workspace, last_flow.clone())).await?;
    cx.out.say(format!("  reason: {}", flow.reason));
    let flow = traffic.until(|| ended(workspace, flow.id.clone())).await?;
    super::ended_well(&flow)?;

    cx.out.head("Canary: a growing share of the traffic");
    let promoted = traffic.until(|| settled(workspace, Some(&flow))).await?;
    cx.out.say(format!("  the endpoint now answers with {}", promoted.stable));
    cx.out.say(cx.out.faint("  (the pushed year repeats the last one, so the new model's held-out figures flatter it)"));

    cx.out.head("A bad challenger: a model that always says the same");
    let bad = bad_challenger(cx, workspace, &traffic).await?;
    cx.out.say(format!("  gates: {}", bad.summary));
    let number = ledger.version(&model()?, &Which::Latest).await?.map(|v| v.id.number).unwrap_or_default();
    let reason = "demo: somebody is sure to know better";
    workspace.state.promote(&Name::new("churn")?, &Which::Number(number), AliasName::challenger(), reason, true).await?;
    cx.out.say(format!("  models.churn@{number} is promoted by force: \"{reason}\""));
    let stable = promoted.stable.clone();
    let rejected = traffic.until(|| rejected(workspace, number)).await?;
    cx.out.say(format!("  rolled back: {rejected}"));
    let now = traffic.until(|| settled(workspace, None)).await?;
    if now.stable != stable {
        return Err(Fault::internal(format!("the endpoint answers with {}, not with {stable}", now.stable)).into());
    }
    cx.out.say(format!("  the endpoint still answers with {stable}"));

    cx.out.head("The ledger's story");
    for entry in story(workspace).await? {
        cx.out.say(format!("  {entry}"));
    }
    let lines = ledger.verify_audit().await?;
    cx.out.say(cx.out.faint(&format!("  {lines} lines in the ledger, the hash chain holds; {}", server.url)));
    Ok(())
}

fn model() -> Result<Address> {
    Ok(Address::new(AssetKind::Models, Name::new("churn")?))
}

fn endpoint() -> Result<Address> {
    Ok(Address::new(AssetKind::Endpoints, Name::new("churn")?))
}

/// Customers asked again and again while something is awaited.
struct Traffic<'a> {
    client: &'a Client,
    who: Vec<i64>,
}

impl Traffic<'_> {
    /// Sends traffic until `look` finds something.
    async fn until<T, F, Fut>(&self, look: F) -> Result<T>
    where
        F: Fn() -> Fut,
        Fut: Future<Output = Result<Option<T>>>,
    {
        let began = Instant::now();
        let mut batches = self.who.chunks(100).cycle();
        while began.elapsed() < PATIENCE {
            if let Some(found) = look().await? {
                return Ok(found);
            }
            if let Some(batch) = batches.next() {
                self.client.predict(batch).await?;
            }
            tokio::time::sleep(Duration::from_millis(250)).await;
        }
        Err(Fault::new(Kind::Timeout, Code::TIMED_OUT, "the demo waited in vain").fix("see gristmill logs and gristmill status"))
    }
}

/// Pushes shifted rows in batches; a repeated demo pushes nothing twice.
async fn push(workspace: &Workspace, client: &Client) -> Result<u64> {
    let catalog = workspace.state.catalog().await?;
    let sql = format!(
        "select invoice, stock_code, \
                case when quantity > 1 then quantity / 2 else quantity end as quantity, \
                invoice_date + interval '{SHIFT_DAYS} days' as invoice_date, price * 3 as price, customer_id, country \
         from invoices \
         where customer_id is not null and invoice_date > (select max(invoice_date) from invoices) - interval '{SHIFT_DAYS} days' \
         order by invoice_date, invoice, stock_code, quantity"
    );
    let mut rows = Vec::new();
    let mut pushed = 0;
    let mut part = 0;
    let newest = newest(workspace).await?;
    let mut stream = workspace.state.ports.engine.query(&sql, &catalog, false).await?;
    while let Some(batch) = stream.try_next().await? {
        rows.extend(crate::cli::sql::to_json(&[batch], usize::MAX)?);
        while rows.len() >= PUSH_ROWS {
            let rest = rows.split_off(PUSH_ROWS);
            pushed += send(client, std::mem::replace(&mut rows, rest), &format!("demo-{newest}-{part}")).await?;
            part += 1;
        }
    }
    if !rows.is_empty() {
        pushed += send(client, rows, &format!("demo-{newest}-{part}")).await?;
    }
    Ok(pushed)
}

async fn newest(workspace: &Workspace) -> Result<String> {
    let catalog = workspace.state.catalog().await?;
    let batches: Vec<_> = workspace
        .state
        .ports
        .engine
        .query("select max(invoice_date) as newest from invoices", &catalog, false)
        .await?
        .try_collect()
        .await?;
    Ok(crate::cli::sql::to_json(&batches, 1)?.first().map(|r| r["newest"].to_string()).unwrap_or_default().replace('"', ""))
}

async fn send(client: &Client, rows: Vec<Value>, key: &str) -> Result<u64> {
    let answer = client.post("/ingest/invoices", &json!({"rows": rows}), Some(key)).await?;
    Ok(answer["accepted"].as_u64().unwrap_or(0))
}

/// The newest monitor run, if it saw drift.
async fn red_monitor(workspace: &Workspace) -> Result<Option<Run>> {
    let filter = RunFilter { stages: vec![StageKind::Monitor], limit: 1, ..RunFilter::default() };
    let last = workspace.state.ports.ledger.runs(&filter).await?.into_iter().next();
    Ok(last.filter(|r| r.verdict == Some(Verdict::Fail)))
}

/// The flow that retraining submitted after the last one the demo knows.
async fn retraining(workspace: &Workspace, known: Option<RunId>) -> Result<Option<Run>> {
    let filter = RunFilter { stages: vec![StageKind::Flow], limit: 1, ..RunFilter::default() };
    let last = workspace.state.ports.ledger.runs(&filter).await?.into_iter().next();
    Ok(last.filter(|r| Some(&r.id) != known.as_ref() && r.actor.0.starts_with("system:")))
}

async fn ended(workspace: &Workspace, id: RunId) -> Result<Option<Run>> {
    Ok(workspace.state.ports.ledger.run(&id).await?.filter(|r| r.status.is_final()))
}

async fn deployment(workspace: &Workspace) -> Result<Option<Deployment>> {
    let version = workspace.state.ports.ledger.version(&endpoint()?, &Which::Alias(AliasName::live())).await?;
    version.map(|v| serde_json::from_value(v.meta).map_err(|e| Fault::damaged("the live deployment does not read").because(e))).transpose()
}

/// The live deployment once no rollout is under way; after a flow: once its model answers.
async fn settled(workspace: &Workspace, flow: Option<&Run>) -> Result<Option<Deployment>> {
    let Some(deployment) = deployment(workspace).await? else { return Ok(None) };
    let wanted = match flow {
        Some(_) => workspace.state.ports.ledger.version(&model()?, &Which::Latest).await?.map(|v| v.id),
        None => Some(deployment.stable.clone()),
    };
    Ok((deployment.canary.is_none() && Some(&deployment.stable) == wanted.as_ref()).then_some(deployment))
}

/// Why the rollout of a version was taken back, once it was.
async fn rejected(workspace: &Workspace, number: u64) -> Result<Option<String>> {
    let state = workspace.state.ports.ledger.alias(&model()?, &AliasName::rejected()).await?;
    Ok(state.filter(|s| s.number == Some(number)).map(|s| s.reason))
}

/// Trains the prior as a challenger; its gates say no.
async fn bad_challenger(cx: &Cx, workspace: &Workspace, traffic: &Traffic<'_>) -> Result<Run> {
    let order = FlowOrder {
        targets: vec![model()?, Address::new(AssetKind::Gates, Name::new("churn")?)],
        upstream: false,
        force: true,
        overrides: BTreeMap::from([
            ("models.churn.train".to_owned(), json!("baseline")),
            ("models.churn.params".to_owned(), json!({})),
            ("models.churn.tune".to_owned(), Value::Null),
        ]),
        actor: cx.actor(),
        reason: "demo: a bad challenger".to_owned(),
        idempotency: None,
    };
    let run = workspace.state.queue().submit_flow(order).await?;
    let run = traffic.until(|| ended(workspace, run.id.clone())).await?;
    if run.status != RunStatus::Succeeded || run.verdict != Some(Verdict::Fail) {
        return Err(Fault::internal(format!("the gates let the prior pass: {}", run.summary)));
    }
    Ok(run)
}

/// The lines of the ledger that tell the story: alerts, flows, gates that said no, and every move of an alias.
async fn story(workspace: &Workspace) -> Result<Vec<String>> {
    let mut lines = Vec::new();
    let mut after = 0;
    loop {
        let page = workspace.state.ports.ledger.audit(&AuditFilter { after, subject: None, limit: 1000 }).await?;
        let Some(last) = page.last() else { return Ok(lines) };
        after = last.seq;
        for entry in &page {
            let text = entry.detail.to_string();
            let told = match entry.action.as_str() {
                "alias.moved" => true,
                "run.finished" => text.contains("\"fail\"") || entry.subject.starts_with("flows."),
                _ => false,
            };
            if told {
                lines.push(logs::sentence(entry));
            }
        }
    }
}
