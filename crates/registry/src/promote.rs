//! Moves of a model's aliases that a person asks for.

use crate::plan::{self, Aliases, GateMeta};
use crate::run::is_gated;
use gristmill_kernel::AssetKind;
use gristmill_kernel::port::Ports;
use gristmill_kernel::version::{AliasMove, AliasState, Which};
use gristmill_kernel::{Actor, Address, AliasName, Code, Fault, Kind, Name, Result, Verdict, Version};

/// Whether a person overrules the gates.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Force {
    /// The gates decide.
    No,
    /// The person decides; the reason records it.
    Yes,
}

/// A wish to promote a version.
#[derive(Debug, Clone)]
pub struct Promote {
    /// The model.
    pub model: Name,
    /// Which of its versions.
    pub which: Which,
    /// The alias it shall get: `challenger` starts a rollout, `champion` is for models without an endpoint or a direct swap.
    pub to: AliasName,
    /// Who asks.
    pub actor: Actor,
    /// Why.
    pub reason: String,
    /// Whether the gates may be overruled.
    pub force: Force,
}

/// The address of a model.
pub(crate) fn model_address(model: &Name) -> Address {
    Address::new(AssetKind::Models, model.clone())
}

/// The version meant, or an error that lists what there is.
pub async fn find(ports: &Ports, asset: &Address, which: &Which) -> Result<Version> {
    if let Some(version) = ports.ledger.version(asset, which).await? {
        return Ok(version);
    }
    let wanted = match which {
        Which::Latest => "version".to_owned(),
        Which::Number(number) => format!("version {number}"),
        Which::Alias(alias) => format!("alias `{alias}`"),
    };
    let newest = ports.ledger.version(asset, &Which::Latest).await?.map(|v| v.id.number);
    let aliases = ports.ledger.aliases(asset).await?;
    let fix = match newest {
        None => format!("make one: gristmill run {asset}"),
        Some(newest) => {
            let names: Vec<String> = aliases.iter().filter(|a| a.number.is_some()).map(|a| a.alias.to_string()).collect();
            let names = if names.is_empty() { String::new() } else { format!(" and the aliases {}", names.join(", ")) };
            format!("there are versions 1 to {newest}{names}")
        }
    };
    Err(Fault::not_found(Code::UNKNOWN_MODEL, format!("{asset} has no {wanted}")).fix(fix))
}

/// What the gates said last about a version; `None` if they were never asked.
pub async fn gate_answer(ports: &Ports, version: &Version) -> Result<Option<GateMeta>> {
    let gates = Address::new(AssetKind::Gates, version.id.asset.name.clone());
    for answer in ports.ledger.versions(&gates).await? {
        let meta: GateMeta = serde_json::from_value(answer.meta)
            .map_err(|e| Fault::damaged(format!("{} is not a gate's answer: {e}", answer.id)).because(e))?;
        if meta.model == version.id {
            return Ok(Some(meta));
        }
    }
    Ok(None)
}

/// Moves an alias to a version. Champion and challenger move only to a version whose newest gate verdict is `pass`, unless forced.
pub async fn promote(ports: &Ports, wish: Promote) -> Result<AliasState> {
    let asset = model_address(&wish.model);
    let version = find(ports, &asset, &wish.which).await?;
    let refused = if is_gated(&wish.to) { refusal(ports, &version).await? } else { None };
    let reason = match (refused, wish.force) {
        (None, _) => format!("promoted: {}", wish.reason),
        (Some(why), Force::Yes) => format!("forced: {} (against the gates: {why})", wish.reason),
        (Some(why), Force::No) => {
            return Err(Fault::new(Kind::Refused, Code::GATE_FAILED, format!("{} may not become {}: {why}", version.id, wish.to)).fix(
                format!("train a better model, change the gates of [models.{}], or promote it with --force and a reason", wish.model),
            ));
        }
    };
    let now = ports.ledger.alias(&asset, &wish.to).await?;
    let from = now.as_ref().and_then(|a| a.number);
    if let Some(state) = now.filter(|_| from == Some(version.id.number)) {
        return Ok(state);
    }
    let wish = AliasMove { asset, alias: wish.to, to: Some(version.id.number), expect: Some(from), actor: wish.actor, reason, run: None };
    ports.ledger.move_alias(wish, ports.clock.now()).await
}

async fn refusal(ports: &Ports, version: &Version) -> Result<Option<String>> {
    Ok(match gate_answer(ports, version).await? {
        None => Some(format!("its gates have not been asked; run gates.{} first", version.id.asset.name)),
        Some(answer) if answer.verdict == Verdict::Pass => None,
        Some(answer) => {
            let failed: Vec<String> = answer
                .checks
                .iter()
                .filter(|c| c.verdict != Verdict::Pass)
                .map(|c| format!("{} is {} ({})", c.condition, c.verdict, c.observed))
                .collect();
            Some(failed.join("; "))
        }
    })
}

/// Moves `champion` back to the champion before, and remembers the one it leaves as `rejected`, so that it does not
/// come back by itself. An endpoint follows its champion.
pub async fn rollback(ports: &Ports, model: &Name, actor: &Actor, reason: &str) -> Result<AliasState> {
    let asset = model_address(model);
    let aliases = Aliases::of(&ports.ledger.aliases(&asset).await?);
    let history = ports.ledger.alias_history(&asset, &AliasName::champion()).await?;
    let (Some(now), Some(before)) = (aliases.champion, plan::previous(&history)) else {
        return Err(Fault::conflict(Code::ALIAS_CONFLICT, format!("{asset} has no champion before the present one"))
            .fix(format!("promote a version by hand: gristmill promote {asset}@N")));
    };
    let at = ports.clock.now();
    let wish = |alias: AliasName, expect: Option<u64>, to: u64, reason: String| AliasMove {
        asset: asset.clone(),
        alias,
        to: Some(to),
        expect: Some(expect),
        actor: actor.clone(),
        reason,
        run: None,
    };
    // Rejected first: if the second move never happens, the worst is a champion that is also marked, and the call can be repeated.
    if aliases.rejected != Some(now) {
        ports.ledger.move_alias(wish(AliasName::rejected(), aliases.rejected, now, format!("rollback: {reason}")), at).await?;
    }
    ports.ledger.move_alias(wish(AliasName::champion(), Some(now), before, format!("rollback: {reason} (from {asset}@{now})")), at).await
}
