//! The laws of registered models, as pure functions, and the words of their refusals: the peer's, where its clients look for them.

use gristmill_kernel::run::{Finish, NewRun};
use gristmill_kernel::tracking::manifest::Manifest;
use gristmill_kernel::tracking::registry::{ModelStage, NewModelVersion, PROMPT_TAG};
use gristmill_kernel::version::{AliasMove, Place};
use gristmill_kernel::{
    Actor, Address, AliasName, AssetKind, Code, Digest, Fault, Name, NewVersion, Result, RunId, RunStatus, StageKind, Timestamp, VersionRef,
};
use serde_json::json;
use std::collections::BTreeMap;

/// Who holds a run that registers; it begins and ends in one transaction.
pub(crate) const WORKER: &str = "registry";

pub(crate) fn unknown_model(name: &str) -> Fault {
    Fault::not_found(Code::UNKNOWN_MODEL, format!("Registered Model with name={name} not found"))
}

pub(crate) fn unknown_version(name: &str, number: u64) -> Fault {
    Fault::not_found(Code::UNKNOWN_MODEL, format!("Model Version (name={name}, version={number}) not found"))
}

/// A version that was deleted is named by no alias.
pub(crate) fn deleted_version(id: &VersionRef) -> Fault {
    Fault::not_found(Code::UNKNOWN_MODEL, format!("{id} was deleted from the registry")).fix("choose a version that is still registered")
}

fn is_prompt(tags: &BTreeMap<String, String>) -> bool {
    tags.get(PROMPT_TAG).is_some_and(|value| value.eq_ignore_ascii_case("true"))
}

/// Prompts and models share their names, and each says which of them has it.
pub(crate) fn name_taken(name: &str, known: &BTreeMap<String, String>, new: &BTreeMap<String, String>) -> Fault {
    let word = |prompt| if prompt { "prompt" } else { "registered model" };
    let title = |prompt| if prompt { "Prompt" } else { "Registered Model" };
    let (known, new) = (is_prompt(known), is_prompt(new));
    let message = if known == new {
        format!("{} (name={name}) already exists.", title(new))
    } else {
        format!(
            "Tried to create a {} with name '{name}', but the name is already taken by a {}. MLflow does not allow creating a model and a prompt \
             with the same name.",
            word(new),
            word(known)
        )
    };
    Fault::conflict(Code::ALREADY_EXISTS, message)
}

pub(crate) fn rename_taken(to: &str) -> Fault {
    Fault::conflict(Code::ALREADY_EXISTS, format!("Registered Model (name={to}) already exists."))
}

pub(crate) fn made_by_project(name: &str, asset: &Address) -> Fault {
    Fault::conflict(Code::BAD_VALUE, format!("registered model `{name}` has versions that this project made"))
        .fix(format!("delete these versions of {asset} first, or leave it"))
}

/// Only the two stages that are in use can push others out of them.
pub(crate) fn archiving_fits(stage: ModelStage, archive_others: bool) -> Result<()> {
    if archive_others && !matches!(stage, ModelStage::Staging | ModelStage::Production) {
        return Err(Fault::invalid(
            Code::BAD_VALUE,
            format!(
                "Model version transition cannot archive existing model versions because '{}' is not an Active stage. Valid stages are ['Staging', \
                 'Production']",
                stage.as_str()
            ),
        ));
    }
    Ok(())
}

/// The assets that a new name may stand for, best first: its own if it is one of our names, then ones derived from it.
pub(crate) fn assets_for(name: &str) -> impl Iterator<Item = Result<Address>> {
    let own = Name::new(name).ok().map(|name| Ok(Address::new(AssetKind::Models, name)));
    own.into_iter().chain((0u32..).map({
        let name = name.to_owned();
        move |round| derived(&name, round)
    }))
}

/// `sk-learn RF` is `models.sk_learn_rf_` and eight digits of the name's digest: names that read alike stay apart.
fn derived(name: &str, round: u32) -> Result<Address> {
    const WORDS_CHARS_MAX: usize = 40;
    let mut words = String::from("m");
    for c in name.chars() {
        match c {
            c if c.is_ascii_alphanumeric() => words.push(c.to_ascii_lowercase()),
            _ if words.ends_with('_') => {}
            _ => words.push('_'),
        }
        if words.len() > WORDS_CHARS_MAX {
            break;
        }
    }
    // The `m` stands only where the name itself begins with no letter.
    let words = if words[1..].starts_with(|c: char| c.is_ascii_lowercase()) { &words[1..] } else { &words };
    let round = if round == 0 { String::new() } else { round.to_string() };
    let digest = Digest::of_parts([name.as_bytes(), round.as_bytes()]).hex();
    Ok(Address::new(AssetKind::Models, Name::new(format!("{}_{}", words.trim_end_matches('_'), &digest[..8]))?))
}

/// The names that an asset of the project may be registered under, best first: its own, unless somebody took it.
pub(crate) fn names_for(asset: &Address) -> impl Iterator<Item = String> {
    let (name, address) = (asset.name.to_string(), asset.to_string());
    [name, address.clone()].into_iter().chain((2u32..).map(move |round| format!("{address}-{round}")))
}

/// Where the files of a version are that the project made.
pub(crate) fn own_source(id: &VersionRef) -> String {
    format!("gristmill:{id}")
}

/// Whether the registry must be told of a version that a run made: registering does so itself.
pub(crate) fn is_own_model(stage: StageKind, asset: &Address) -> bool {
    asset.kind == AssetKind::Models && stage != StageKind::Register
}

/// The version that a registration makes, and its content.
pub(crate) struct Registration {
    pub content: Vec<u8>,
    pub version: NewVersion,
}

/// The asset is not known yet: it is found in the transaction.
pub(crate) fn registration(new: &NewModelVersion, asset: Address) -> Result<Registration> {
    let manifest = Manifest::new(new.files.iter().cloned())?;
    let content = manifest.write()?;
    let version = NewVersion {
        asset,
        digest: manifest.digest(),
        place: Place::Blob { digest: Digest::of(&content) },
        rows: None,
        meta: json!({ "registered": { "source": new.source, "run": new.run, "model": new.model } }),
    };
    Ok(Registration { content, version })
}

/// The run that registers.
pub(crate) fn register_run(new: &NewModelVersion, version: &NewVersion, id: RunId, actor: &Actor, now: Timestamp) -> NewRun {
    NewRun {
        // Registering the same files again makes another version: this work is never skipped.
        key: Digest::of_parts([StageKind::Register.as_str().as_bytes(), id.0.as_bytes()]),
        id,
        stage: StageKind::Register,
        address: version.asset.clone(),
        spec: json!({ "name": new.name, "source": new.source, "files": new.files.len() }),
        inputs: Vec::new(),
        parent: None,
        actor: actor.clone(),
        reason: "registered".into(),
        idempotency: None,
        due_at: now,
    }
}

/// How it ends.
pub(crate) fn register_end(id: &VersionRef, files: usize) -> Finish {
    Finish {
        status: RunStatus::Succeeded,
        verdict: None,
        checks: Vec::new(),
        outputs: Vec::new(),
        skipped_for: None,
        reused: Vec::new(),
        aliases: Vec::new(),
        params: BTreeMap::new(),
        metrics: Vec::new(),
        summary: format!("registered {id}, {files} files"),
        error: None,
        follow_ups: Vec::new(),
    }
}

/// Takes away an alias of a version that is deleted.
pub(crate) fn alias_gone(id: &VersionRef, alias: AliasName, actor: &Actor) -> AliasMove {
    AliasMove {
        asset: id.asset.clone(),
        alias,
        to: None,
        expect: Some(Some(id.number)),
        actor: actor.clone(),
        reason: format!("{id} was deleted"),
        run: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_become_assets() {
        let first = |name: &str| assets_for(name).next().expect("endless").expect("an asset").to_string();
        assert_eq!(first("churn"), "models.churn");
        for (name, start) in [
            ("sk-learn RF", "models.sk_learn_rf_"),
            ("Churn", "models.churn_"),
            ("3d", "models.m3d_"),
            ("数据", "models.m_"),
            ("___", "models.m_"),
            ("_a", "models.m_a_"),
            (&"n".repeat(64), "models.nnnn"),
        ] {
            let asset = first(name);
            assert!(
                asset.starts_with(start) && asset.len() == asset.trim_end_matches(|c: char| c.is_ascii_hexdigit()).len() + 8,
                "{asset}"
            );
        }
        assert_ne!(first("a-b"), first("a b"));
        let some: Vec<String> = assets_for("churn").take(3).map(|a| a.expect("an asset").to_string()).collect();
        assert!(some[0] != some[1] && some[1] != some[2], "{some:?}");
    }

    #[test]
    fn a_taken_name_says_what_has_it() {
        let prompt = BTreeMap::from([(PROMPT_TAG.to_owned(), "true".to_owned())]);
        let none = BTreeMap::new();
        assert_eq!(name_taken("x", &none, &none).message, "Registered Model (name=x) already exists.");
        assert_eq!(name_taken("x", &prompt, &prompt).message, "Prompt (name=x) already exists.");
        assert!(
            name_taken("x", &none, &prompt)
                .message
                .starts_with("Tried to create a prompt with name 'x', but the name is already taken by a registered model.")
        );
    }
}
