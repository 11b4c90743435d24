//! The reads: assets, versions, lineage, runs, audit.

use crate::{Api, wire};
use gristmill_kernel::port::{AuditFilter, RunFilter};
use gristmill_kernel::version::{Selector, Which};
use gristmill_kernel::{Address, Code, Fault, Result, RunId, RunStatus, StageKind};
use gristmill_web::{Call, Response, json};
use serde_json::json;

const LIMIT_DEFAULT: usize = 100;
const LIMIT_MAX: usize = 1_000;

/// `GET /api/v1/assets`
pub async fn assets(api: Api, _: Call) -> Result<Response> {
    let mut list = Vec::new();
    for asset in api.ports.ledger.assets().await? {
        let newest = api.ports.ledger.version(&asset, &Which::Latest).await?;
        let aliases = api.ports.ledger.aliases(&asset).await?;
        let aliases: serde_json::Map<_, _> = aliases.iter().map(|a| (a.alias.to_string(), json!(a.number))).collect();
        list.push(json!({ "address": asset.to_string(), "newest": newest.as_ref().map(wire::version), "aliases": aliases }));
    }
    json(&json!({ "assets": list }))
}

/// `GET /api/v1/assets/{address}/versions`
pub async fn versions(api: Api, call: Call) -> Result<Response> {
    let asset: Address = call.parse("address")?;
    let versions = api.ports.ledger.versions(&asset).await?;
    if versions.is_empty() {
        return Err(no_version(&asset));
    }
    let aliases = api.ports.ledger.aliases(&asset).await?;
    json(&json!({
        "address": asset.to_string(),
        "versions": versions.iter().map(wire::version).collect::<Vec<_>>(),
        "aliases": aliases.iter().map(wire::alias).collect::<Vec<_>>(),
    }))
}

/// `GET /api/v1/versions/{version}/lineage`
pub async fn lineage(api: Api, call: Call) -> Result<Response> {
    let selector: Selector = call.parse("version")?;
    let version = api.ports.ledger.version(&selector.asset, &selector.which).await?;
    let version = version.ok_or_else(|| match selector.which {
        Which::Latest => no_version(&selector.asset),
        _ => Fault::not_found(Code::UNKNOWN_ADDRESS, format!("`{}` does not exist", call.param("version").unwrap_or_default()))
            .fix(format!("GET /api/v1/assets/{}/versions lists what there is", selector.asset)),
    })?;
    json(&api.promoter.lineage(&version.id).await?)
}

fn no_version(asset: &Address) -> Fault {
    Fault::not_found(Code::UNKNOWN_ADDRESS, format!("{asset} has no version")).fix(format!("make one: gristmill run {asset}"))
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct RunsQuery {
    stage: Option<StageKind>,
    status: Option<RunStatus>,
    address: Option<Address>,
    parent: Option<RunId>,
    limit: Option<usize>,
}

/// `GET /api/v1/runs`
pub async fn runs(api: Api, call: Call) -> Result<Response> {
    let query: RunsQuery = call.query()?;
    let filter = RunFilter {
        stages: query.stage.into_iter().collect(),
        address: query.address,
        statuses: query.status.into_iter().collect(),
        parent: query.parent,
        limit: query.limit.unwrap_or(LIMIT_DEFAULT).clamp(1, LIMIT_MAX),
    };
    let runs = api.ports.ledger.runs(&filter).await?;
    json(&json!({ "runs": runs.iter().map(wire::run_line).collect::<Vec<_>>() }))
}

/// `GET /api/v1/runs/{id}`
pub async fn run(api: Api, call: Call) -> Result<Response> {
    let id = RunId(call.param("id")?.to_owned());
    let run = api.ports.ledger.run(&id).await?.ok_or_else(|| unknown_run(&id))?;
    let steps = api.ports.ledger.runs(&RunFilter { parent: Some(id), ..RunFilter::default() }).await?;
    json(&wire::run(&run, &steps))
}

/// A run that does not exist.
pub(crate) fn unknown_run(id: &RunId) -> Fault {
    Fault::not_found(Code::UNKNOWN_RUN, format!("there is no run `{id}`")).fix("GET /api/v1/runs lists the runs; ids have 32 digits")
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct AuditQuery {
    after: Option<u64>,
    subject: Option<String>,
    limit: Option<usize>,
}

/// `GET /api/v1/audit`
pub async fn audit(api: Api, call: Call) -> Result<Response> {
    let query: AuditQuery = call.query()?;
    let limit = query.limit.unwrap_or(LIMIT_DEFAULT).clamp(1, LIMIT_MAX);
    let filter = AuditFilter { after: query.after.unwrap_or(0), subject: query.subject, limit };
    let lines = api.ports.ledger.audit(&filter).await?;
    json(&json!({ "lines": lines.iter().map(wire::audit).collect::<Vec<_>>(), "head": api.ports.ledger.head().await? }))
}
