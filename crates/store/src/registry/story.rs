//! The words of the audit chain about registered models. The chain tells who did what; descriptions and tags are no lines.

use crate::story::Line;
use gristmill_kernel::tracking::registry::ModelStage;
use gristmill_kernel::{Actor, Address, VersionRef};
use serde_json::{Value, json};

fn line(action: &'static str, subject: String, actor: &Actor, detail: Value) -> Line {
    Line { action, subject, run: None, actor: actor.clone(), detail }
}

pub(crate) fn registered(asset: &Address, name: &str, actor: &Actor) -> Line {
    line("model.registered", asset.to_string(), actor, json!({ "name": name }))
}

pub(crate) fn renamed(asset: &Address, from: &str, to: &str, actor: &Actor) -> Line {
    line("model.renamed", asset.to_string(), actor, json!({ "from": from, "to": to }))
}

pub(crate) fn deleted(asset: &Address, name: &str, versions: u64, actor: &Actor) -> Line {
    line("model.deleted", asset.to_string(), actor, json!({ "name": name, "versions": versions }))
}

pub(crate) fn staged(id: &VersionRef, from: ModelStage, to: ModelStage, archived: &[u64], actor: &Actor) -> Line {
    let detail = json!({ "from": from.as_str(), "to": to.as_str(), "archived": archived });
    line("version.staged", id.to_string(), actor, detail)
}

pub(crate) fn hidden(id: &VersionRef, name: &str, actor: &Actor) -> Line {
    line("version.deleted", id.to_string(), actor, json!({ "name": name }))
}
