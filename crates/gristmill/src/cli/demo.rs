//! `gristmill demo`: the whole loop on real data that the binary carries; `--drift` breaks the data and shows what follows.

mod drift;

use super::serve::{announce, until_told_to_stop};
use super::{Cx, Ended, Exit, Faults, Globals, init};
use crate::config::DEFAULT_PORT;
use crate::server::{Coming, Options, Server};
use crate::wiring::Workspace;
use arrow::array::AsArray as _;
use arrow::datatypes::Int64Type;
use clap::Args;
use futures::TryStreamExt as _;
use gristmill_kernel::port::{FlowOrder, RunFilter, Runs as _};
use gristmill_kernel::{Code, Fault, Kind, Result, Run, RunStatus, StageKind, Verdict};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Run the whole loop on real data, then serve it.
#[derive(Debug, Args)]
pub struct Demo {
    /// Then break the data: drift, alert, retraining, canary, promotion, and the rollback of a bad challenger.
    #[arg(long)]
    drift: bool,
    /// Where the demo's project is put; an earlier one there goes on where it was.
    #[arg(long, default_value = "gristmill-demo")]
    dir: PathBuf,
    /// The port.
    #[arg(long, default_value_t = DEFAULT_PORT)]
    port: u16,
    /// Stop when the story is told instead of serving on.
    #[arg(long)]
    exit: bool,
    /// Do not open a browser; the demo never does on a machine without one.
    #[arg(long)]
    no_open: bool,
}

impl Demo {
    pub async fn run(self, cx: &Cx) -> Ended {
        let began = Instant::now();
        let dir = cx.outside.here.join(&self.dir);
        init::write_example(&dir, "churn")?;
        let globals = Globals { project: Some(dir), env: cx.globals.env.clone().or(Some("demo".to_owned())), ..cx.globals.clone() };
        let cx = &Cx { globals, outside: cx.outside.clone(), out: cx.out.clone() };
        cx.out.head("Who will not come back? Two years of invoices of a UK gift retailer: 1,067,371 lines.");
        cx.out.say(cx.out.faint("UCI Online Retail II, D. Chen, doi 10.24432/C5CG6D, CC BY 4.0"));
        cx.out.say(cx.out.faint(&format!("the project is in {}: one TOML file and three queries", self.dir.display())));
        let workspace = Workspace::load(cx).await?;
        workspace.test_and_check(cx).await?;
        workspace.save_lock()?;
        let options =
            Options { host: IpAddr::V4(Ipv4Addr::LOCALHOST), port: self.port, coming: Coming::open(), observer: cx.out.observer() };
        let server = Server::start(cx, &workspace, options).await?;
        let told = self.tell(cx, &workspace, &server, began).await;
        let ended = match (told, self.exit) {
            (Ok(()), false) => {
                cx.out.say("\nCtrl-C stops the server; the next `gristmill demo` goes on from here.");
                until_told_to_stop()?.await;
                Ok(())
            }
            (told, _) => told,
        };
        server.stop().await?;
        ended.map(|()| Exit::Done)
    }

    async fn tell(&self, cx: &Cx, workspace: &Workspace, server: &Server, began: Instant) -> Result<(), Faults> {
        cx.out.head("The loop: raw rows to a served model");
        let flow = run_all(cx, workspace).await?;
        ended_well(&flow)?;
        report(cx, workspace).await?;
        wait_ready(server).await?;
        let client = Client::new(server)?;
        let customers = customers(workspace, 3).await?;
        let answer = client.predict(&customers).await?;
        cx.out.head("The first predictions: the probability that a customer buys nothing in the next 90 days");
        for (customer, prediction) in customers.iter().zip(answer["predictions"].as_array().into_iter().flatten()) {
            cx.out.say(format!(
                "  customer {customer}: {:.3}  by {}",
                prediction["score"].as_f64().unwrap_or(f64::NAN),
                prediction["model"].as_str().unwrap_or("?")
            ));
        }
        cx.out.say(cx.out.faint(&format!("  {} after the start", crate::output::duration(began.elapsed()))));
        cx.out.head("Ask it yourself");
        announce(cx, &server.url);
        cx.out.data(format!(
            "curl -s {}/predict/churn -H 'content-type: application/json' -d '{{\"customer_id\": {}, \"explain\": true}}'",
            server.url, customers[0]
        ));
        if self.drift {
            drift::tell(cx, workspace, server, &client).await?;
        }
        let flag = format!("--project {}", self.dir.display());
        cx.out.head("What next");
        cx.out.say(format!("  gristmill status {flag}        how things stand"));
        cx.out.say(format!("  gristmill logs {flag}          the ledger's story"));
        cx.out.say(format!("  gristmill show models.churn@champion --lineage {flag}"));
        cx.out.say(format!("  edit {}/features/activity.sql, then gristmill plan --env demo {flag}", self.dir.display()));
        if !self.drift {
            cx.out.say("  gristmill demo --drift            break the data and watch it heal");
        }
        Ok(())
    }
}

/// Queues everything but the monitors and waits for it; the server's worker does the work and shows it.
async fn run_all(cx: &Cx, workspace: &Workspace) -> Result<Run> {
    let order = FlowOrder {
        targets: workspace.graph.nodes().iter().filter(|n| n.stage != StageKind::Monitor).map(|n| n.address.clone()).collect(),
        upstream: true,
        force: false,
        overrides: BTreeMap::new(),
        actor: cx.actor(),
        reason: "demo".to_owned(),
        idempotency: None,
    };
    let queue = workspace.state.queue();
    let run = queue.submit_flow(order).await?;
    queue.wait(&run.id).await
}

fn ended_well(flow: &Run) -> Result<()> {
    if flow.status != RunStatus::Succeeded || flow.verdict == Some(Verdict::Fail) {
        let why = flow.error.as_ref().map_or(flow.summary.clone(), |e| e.message.clone());
        return Err(Fault::new(Kind::Refused, Code::GATE_FAILED, format!("the loop stopped: {why}")).fix("see gristmill logs"));
    }
    Ok(())
}

/// The held-out figures and the gates.
async fn report(cx: &Cx, workspace: &Workspace) -> Result<()> {
    let last = async |stage| -> Result<Option<Run>> {
        let filter = RunFilter { stages: vec![stage], statuses: vec![RunStatus::Succeeded], limit: 1, ..RunFilter::default() };
        Ok(workspace.state.ports.ledger.runs(&filter).await?.into_iter().next())
    };
    cx.out.head("What came out, on months the model never saw");
    if let Some(train) = last(StageKind::Train).await? {
        for key in ["auc", "pr_auc", "logloss", "accuracy", "worst.auc"] {
            if let Some(value) = train.metrics.get(key) {
                cx.out.say(format!("  {key:<10} {value:.4}"));
            }
        }
    }
    if let Some(gate) = last(StageKind::Gate).await? {
        for check in &gate.checks {
            cx.out.say(format!("  gate       {} {}  ({})", cx.out.verdict(check.verdict), check.condition, check.observed));
        }
    }
    Ok(())
}

async fn wait_ready(server: &Server) -> Result<()> {
    let client = reqwest::Client::builder().no_proxy().build().map_err(http)?;
    for _ in 0..200 {
        let answer = client.get(format!("{}/v2/models/churn/ready", server.url)).send().await.map_err(http)?;
        if answer.status().is_success() {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Err(Fault::new(Kind::Timeout, Code::NOT_READY, "the endpoint did not become ready").fix("see gristmill logs"))
}

/// Customers who bought lately, spread over the list.
async fn customers(workspace: &Workspace, count: usize) -> Result<Vec<i64>> {
    let catalog = workspace.state.catalog().await?;
    let sql = "select customer_id from invoices where quantity > 0 \
               and invoice_date > (select max(invoice_date) from invoices) - interval '180 days' \
               group by customer_id order by customer_id";
    let batches: Vec<_> = workspace.state.ports.engine.query(sql, &catalog, false).await?.try_collect().await?;
    let mut all = Vec::new();
    for batch in &batches {
        let column = arrow::compute::cast(batch.column(0), &arrow::datatypes::DataType::Int64)
            .map_err(|e| Fault::internal("customer ids are no numbers").because(e))?;
        all.extend(column.as_primitive::<Int64Type>().values().iter().copied());
    }
    if all.is_empty() {
        return Err(Fault::internal("the demo's data has no customers"));
    }
    let step = (all.len() / count.max(1)).max(1);
    Ok(all.into_iter().step_by(step).take(count).collect())
}

fn http(e: reqwest::Error) -> Fault {
    Fault::new(Kind::Unavailable, Code::PART_UNAVAILABLE, "the demo's own server did not answer").because(e)
}

/// The demo as its own client: real requests over the socket.
struct Client {
    http: reqwest::Client,
    url: String,
}

impl Client {
    fn new(server: &Server) -> Result<Client> {
        let client = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(60)).build().map_err(http)?;
        Ok(Client { http: client, url: server.url.clone() })
    }

    async fn post(&self, path: &str, body: &Value, key: Option<&str>) -> Result<Value> {
        let mut request = self.http.post(format!("{}{path}", self.url)).json(body);
        if let Some(key) = key {
            request = request.header("idempotency-key", key);
        }
        let answer = request.send().await.map_err(http)?;
        let status = answer.status();
        let body: Value = answer.json().await.map_err(http)?;
        if !status.is_success() {
            return Err(Fault::internal(format!("POST {path} answered {status}: {}", body["message"].as_str().unwrap_or("?"))));
        }
        Ok(body)
    }

    async fn predict(&self, customers: &[i64]) -> Result<Value> {
        let rows: Vec<Value> = customers.iter().map(|c| json!({"customer_id": c})).collect();
        self.post("/predict/churn", &json!({"rows": rows}), None).await
    }
}
