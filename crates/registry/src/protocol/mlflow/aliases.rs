//! Aliases of registered models: the ledger's own aliases.
//!
//! Promise: no client of this protocol goes around a gate. `champion` and `challenger` of a model that the project makes or judges move through
//! [`promote`] with [`Force::No`]; every other alias, and every alias of a model that only clients know, moves freely. Each move has the
//! caller as actor and a reason.

use super::model_versions::{self, number};
use super::registered_models::{find as find_model, latest_versions, name};
use super::request;
use super::webhooks::{About, Told};
use super::wire::registry::{AliasAsk, ModelVersionWire, OneVersion, SetAliasAsk, ShowAliases};
use super::{Mlflow, done, error, v2};
use crate::promote::{Force, Promote, promote};
use crate::run::is_gated;
use gristmill_kernel::port::RunFilter;
use gristmill_kernel::tracking::registry::{ModelVersion, RegisteredModel};
use gristmill_kernel::version::{AliasMove, Which};
use gristmill_kernel::{Actor, Address, AliasName, AssetKind, Code, Fault, Kind, Result, StageKind};
use gristmill_web::{Call, Method, Permission, Response, Route, Routes, json};
use std::sync::Arc;

/// What the ledger remembers as the reason of such a move.
const REASON: &str = "set by a tracking client";
/// Longest name of an alias.
const ALIAS_CHARS_MAX: usize = 255;

pub(super) fn routes(mlflow: &Arc<Mlflow>) -> Routes {
    use Permission::{MoveAlias, ReadProject};
    let path = "/mlflow/registered-models/alias";
    let routes: Vec<Route> = [
        v2(mlflow, &Method::GET, path, ReadProject, get_one),
        v2(mlflow, &Method::POST, path, MoveAlias, set),
        v2(mlflow, &Method::DELETE, path, MoveAlias, delete),
    ]
    .into_iter()
    .flatten()
    .collect();
    Routes::from(routes)
}

/// The name of an alias, checked as far as looking for it needs.
fn check(alias: &str) -> Result<()> {
    if alias.is_empty() {
        return Err(error::invalid("Registered model alias name cannot be empty."));
    }
    if !alias.chars().all(|c| c.is_alphanumeric() || c == '_' || c == '-') {
        return Err(error::invalid(format!(
            "Invalid alias name: '{alias}'. Names may only contain alphanumerics, underscores (_), and dashes (-)."
        )));
    }
    super::validate::within("Registered model alias name", ALIAS_CHARS_MAX, alias)
}

/// The name of an alias that may be given.
fn free(alias: &str) -> Result<AliasName> {
    check(alias)?;
    if alias.eq_ignore_ascii_case("latest") {
        return Err(error::invalid("'latest' alias name (case insensitive) is reserved."));
    }
    let number = alias.strip_prefix(['v', 'V']);
    if number.is_some_and(|digits| !digits.is_empty() && digits.chars().all(char::is_numeric)) {
        return Err(error::invalid(format!("Version alias name '{alias}' is reserved.")));
    }
    AliasName::new(alias).map_err(|_| {
        error::invalid(format!("Invalid alias name: '{alias}'. Names may only contain alphanumerics, underscores (_), and dashes (-)."))
    })
}

/// The version that an alias names; `latest` is the newest.
pub(crate) async fn find(mlflow: &Mlflow, model: &str, alias: &str) -> Result<ModelVersion> {
    name(model)?;
    check(alias)?;
    let model = find_model(mlflow, model).await?;
    if alias.eq_ignore_ascii_case("latest") {
        let newest = latest_versions(mlflow, &model.name).await?.into_iter().max_by_key(|v| v.id.number);
        let message = format!("Latest version not found for model {}.", model.name);
        return newest.ok_or_else(|| error::unknown(Code::UNKNOWN_MODEL, message));
    }
    let number = model.aliases.get(alias).copied();
    let number = number.ok_or_else(|| Fault::not_found(Code::UNKNOWN_ALIAS, format!("Registered model alias {alias} not found.")))?;
    let version = mlflow.registry.model_version(&model.name, number).await?;
    version.ok_or_else(|| model_versions::unknown(&model.name, number))
}

/// Whether champion and challenger of a model wait for verdicts: its gates have answered or were asked, or the project trains it.
async fn is_judged(mlflow: &Mlflow, model: &RegisteredModel) -> Result<bool> {
    let ledger = &mlflow.ports.ledger;
    let gates = Address::new(AssetKind::Gates, model.asset.name.clone());
    if ledger.version(&gates, &Which::Latest).await?.is_some() {
        return Ok(true);
    }
    for (stage, address) in [(StageKind::Gate, gates), (StageKind::Train, model.asset.clone())] {
        let filter = RunFilter { stages: vec![stage], address: Some(address), limit: 1, ..RunFilter::default() };
        if !ledger.runs(&filter).await?.is_empty() {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Gives an alias to a version.
async fn give(mlflow: &Mlflow, model: &RegisteredModel, alias: AliasName, number: u64, actor: Actor) -> Result<()> {
    if is_gated(&alias) && is_judged(mlflow, model).await? {
        let wish = Promote {
            model: model.asset.name.clone(),
            which: Which::Number(number),
            to: alias,
            actor,
            reason: REASON.to_owned(),
            force: Force::No,
        };
        return promote(&mlflow.ports, wish).await.map(drop);
    }
    let now_names = mlflow.ports.ledger.alias(&model.asset, &alias).await?.and_then(|state| state.number);
    if now_names == Some(number) {
        return Ok(());
    }
    move_to(mlflow, model, alias, Some(number), actor).await
}

async fn move_to(mlflow: &Mlflow, model: &RegisteredModel, alias: AliasName, to: Option<u64>, actor: Actor) -> Result<()> {
    let asset = model.asset.clone();
    let wish = AliasMove { asset, alias, to, expect: None, actor, reason: REASON.to_owned(), run: None };
    mlflow.ports.ledger.move_alias(wish, mlflow.now()).await.map(drop)
}

/// Refuses to delete the version that a judged model's champion or challenger names: deleting takes the alias away.
pub(crate) async fn may_be_deleted(mlflow: &Mlflow, version: &ModelVersion) -> Result<()> {
    let held = version.aliases.iter().find(|alias| AliasName::new(alias.as_str()).is_ok_and(|alias| is_gated(&alias)));
    let Some(alias) = held else { return Ok(()) };
    if is_judged(mlflow, &find_model(mlflow, &version.name).await?).await? {
        return Err(Fault::conflict(Code::ALIAS_CONFLICT, format!("{} is the {alias} of its model", version.id))
            .fix(format!("give the place to another version first: gristmill promote {}@N", version.id.asset)));
    }
    Ok(())
}

/// `GET registered-models/alias`
async fn get_one(mlflow: Arc<Mlflow>, call: Call) -> Result<Response> {
    let ask: AliasAsk = request::read(call).await?;
    let version = find(&mlflow, &ask.name, &ask.alias).await?;
    json(&OneVersion { model_version: ModelVersionWire::new(&version, ShowAliases::Yes) })
}

/// `POST registered-models/alias`
async fn set(mlflow: Arc<Mlflow>, call: Call) -> Result<Response> {
    let actor = call.caller().actor.clone();
    let ask: SetAliasAsk = request::read(call).await?;
    name(&ask.name)?;
    let alias = free(&ask.alias)?;
    number(&ask.version)?;
    let version = model_versions::find(&mlflow, &ask.name, &ask.version).await?;
    let model = find_model(&mlflow, &ask.name).await?;
    give(&mlflow, &model, alias, version.id.number, actor).await?;
    mlflow.hooks.tell(Told::AliasSet { about: About::of(&model), alias: ask.alias, version: ask.version });
    done()
}

/// `DELETE registered-models/alias`: an alias that is not there is gone already.
async fn delete(mlflow: Arc<Mlflow>, call: Call) -> Result<Response> {
    let actor = call.caller().actor.clone();
    let ask: AliasAsk = request::read(call).await?;
    name(&ask.name)?;
    check(&ask.alias)?;
    let model = find_model(&mlflow, &ask.name).await?;
    if let Some(alias) = AliasName::new(ask.alias.as_str()).ok().filter(|alias| model.aliases.contains_key(alias.as_str())) {
        if is_gated(&alias) && is_judged(&mlflow, &model).await? {
            return Err(Fault::new(
                Kind::Refused,
                Code::GATE_FAILED,
                format!("the {alias} of {} is not taken away by a client", model.asset),
            )
            .fix(format!("promote another version, or roll back: gristmill rollback {}", model.asset)));
        }
        move_to(&mlflow, &model, alias, None, actor).await?;
    }
    mlflow.hooks.tell(Told::AliasDeleted { about: About::of(&model), alias: ask.alias });
    done()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_aliases_are_checked_in_mlflows_words() {
        for good in ["champion", "a-b_c", "v1a", "V", "123", "Best"] {
            assert!(free(good).is_ok(), "{good}");
        }
        for (bad, words) in [
            ("", "Registered model alias name cannot be empty."),
            ("latest", "'latest' alias name (case insensitive) is reserved."),
            ("LATEST", "'latest' alias name (case insensitive) is reserved."),
            ("v1", "Version alias name 'v1' is reserved."),
            ("V12", "Version alias name 'V12' is reserved."),
            ("a b", "Invalid alias name: 'a b'."),
            ("../x", "Invalid alias name: '../x'."),
            ("a@b", "Invalid alias name: 'a@b'."),
            (&"a".repeat(256), "'Registered model alias name' exceeds the maximum length of 255 characters"),
        ] {
            let message = free(bad).expect_err(bad).message;
            assert!(message.starts_with(words), "{message}");
        }
        assert!(check("latest").is_ok() && check("v1").is_ok(), "they may be asked for");
        assert!(free(&"a".repeat(255)).is_ok());
    }
}
