//! The writes: submit and cancel runs, move aliases. The actor is always the caller, never a name in the body.

use crate::read::unknown_run;
use crate::{Api, wire};
use async_trait::async_trait;
use gristmill_kernel::limits::IDEMPOTENCY_KEY_CHARS_MAX;
use gristmill_kernel::port::FlowOrder;
use gristmill_kernel::version::{AliasState, Selector, Which};
use gristmill_kernel::{Actor, Address, AliasName, AssetKind, Code, Fault, Name, Result, RunId, VersionRef};
use gristmill_web::{Call, Response, StatusCode, json, json_status};
use serde_json::json;
use std::collections::BTreeMap;

/// The registry, as far as this API needs it: who may move which alias is decided there. The binary plugs it in.
#[async_trait]
pub trait Promoter: Send + Sync {
    /// Moves an alias of a model to a version. Refused when the gates have not passed and `force` is not set.
    async fn promote(&self, wish: PromoteWish) -> Result<AliasState>;
    /// Gives the champion's place back to the version before.
    async fn rollback(&self, model: &Name, actor: &Actor, reason: &str) -> Result<AliasState>;
    /// What a version was made from and what was made from it, as JSON for callers.
    async fn lineage(&self, version: &VersionRef) -> Result<serde_json::Value>;
}

/// A wish to promote.
#[derive(Debug, Clone, PartialEq)]
pub struct PromoteWish {
    /// The model.
    pub model: Name,
    /// Which of its versions.
    pub which: Which,
    /// The alias it shall get; `None` is what the project rolls out by: `challenger`.
    pub to: Option<AliasName>,
    /// Who asks.
    pub actor: Actor,
    /// Why.
    pub reason: String,
    /// Whether the gates may be overruled.
    pub force: bool,
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct SubmitBody {
    targets: Vec<Address>,
    #[serde(default = "yes")]
    upstream: bool,
    #[serde(default)]
    force: bool,
    #[serde(default)]
    reason: String,
}

fn yes() -> bool {
    true
}

/// `POST /api/v1/runs`
pub async fn submit(api: Api, call: Call) -> Result<Response> {
    let actor = call.caller().actor.clone();
    let idempotency = call.header("idempotency-key").map(str::to_owned);
    if idempotency.as_ref().is_some_and(|key| key.is_empty() || key.chars().count() > IDEMPOTENCY_KEY_CHARS_MAX) {
        return Err(Fault::invalid(
            Code::BAD_VALUE,
            format!("the idempotency key is empty or longer than {IDEMPOTENCY_KEY_CHARS_MAX} characters"),
        )
        .fix("send a short unique text, such as a UUID"));
    }
    let body: SubmitBody = call.json().await?;
    if body.targets.is_empty() {
        return Err(Fault::invalid(Code::BAD_BODY, "`targets` is empty").fix("name at least one address, such as models.churn"));
    }
    let reason = if body.reason.is_empty() { "asked".to_owned() } else { body.reason };
    let flow = FlowOrder {
        targets: body.targets,
        upstream: body.upstream,
        force: body.force,
        overrides: BTreeMap::new(),
        actor,
        reason,
        idempotency,
    };
    let run = api.runs.submit_flow(flow).await?;
    json_status(StatusCode::ACCEPTED, &wire::run_line(&run))
}

/// `POST /api/v1/runs/{id}/cancel`
pub async fn cancel(api: Api, call: Call) -> Result<Response> {
    let id = RunId(call.param("id")?.to_owned());
    api.ports.ledger.run(&id).await?.ok_or_else(|| unknown_run(&id))?;
    api.runs.cancel(&id, &call.caller().actor).await?;
    let run = api.ports.ledger.run(&id).await?.ok_or_else(|| unknown_run(&id))?;
    json_status(StatusCode::ACCEPTED, &wire::run_line(&run))
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct PromoteBody {
    /// `models.churn@3`, `models.churn@challenger`.
    version: String,
    alias: Option<AliasName>,
    reason: String,
    #[serde(default)]
    force: bool,
}

/// `POST /api/v1/aliases`
pub async fn promote(api: Api, call: Call) -> Result<Response> {
    let actor = call.caller().actor.clone();
    let body: PromoteBody = call.json().await?;
    let selector: Selector = body.version.parse()?;
    if selector.asset.kind != AssetKind::Models {
        return Err(Fault::invalid(Code::BAD_VALUE, format!("{} is not a model", selector.asset))
            .fix("people move the aliases of models; the others follow: models.NAME@3"));
    }
    let reason = told(body.reason)?;
    let wish = PromoteWish { model: selector.asset.name, which: selector.which, to: body.alias, actor, reason, force: body.force };
    json(&wire::alias(&api.promoter.promote(wish).await?))
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct RollbackBody {
    reason: String,
}

/// `POST /api/v1/models/{model}/rollback`
pub async fn rollback(api: Api, call: Call) -> Result<Response> {
    let actor = call.caller().actor.clone();
    let model: Name = call.parse("model")?;
    let body: RollbackBody = call.json().await?;
    let state = api.promoter.rollback(&model, &actor, &told(body.reason)?).await?;
    json(&json!({ "champion": wire::alias(&state) }))
}

/// Each move says why.
fn told(reason: String) -> Result<String> {
    if reason.trim().is_empty() {
        return Err(Fault::invalid(Code::BAD_BODY, "`reason` is empty").fix("say why: the ledger keeps it"));
    }
    Ok(reason)
}
