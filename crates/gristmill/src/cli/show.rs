//! `gristmill show`: an asset with its resolved values, versions, aliases and lineage.

use super::{Cx, Ended, Exit};
use crate::wiring::{State, Workspace};
use clap::Args;
use gristmill_kernel::port::ModelRegistry;
use gristmill_kernel::tracking::registry::{ModelStage, ModelVersion, RegisteredModel};
use gristmill_kernel::version::{Selector, Version, Which};
use gristmill_kernel::{Fault, Result, RunId};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// An asset: resolved values, versions, aliases, lineage.
#[derive(Debug, Args)]
pub struct Show {
    /// The address: models.churn, models.churn@champion, features.activity, a run's id, the name of a registered model.
    address: String,
    /// Walk the lineage both ways.
    #[arg(long)]
    lineage: bool,
    /// Show the JSON of the chosen version.
    #[arg(long)]
    meta: bool,
}

impl Show {
    pub async fn run(self, cx: &Cx) -> Ended {
        let state = State::open(cx).await?;
        if let Some(run) = run_id(&self.address) {
            return self.one_run(cx, &state, run).await;
        }
        let registry = crate::tracking::registry(&state);
        let selector: Selector = match self.address.parse() {
            Ok(selector) => selector,
            // Names of registered models are free texts.
            Err(fault) => by_registered_name(registry.as_ref(), &self.address).await?.ok_or(fault)?,
        };
        let written = match Workspace::load(cx).await {
            Ok(workspace) => workspace.project.show(&selector.asset.to_string()).ok(),
            Err(_) => None,
        };
        let ledger = &state.ports.ledger;
        let versions = ledger.versions(&selector.asset).await?;
        let aliases = ledger.aliases(&selector.asset).await?;
        let chosen = match &selector.which {
            Which::Latest => versions.first().cloned(),
            which => Some(gristmill_registry::find(&state.ports, &selector.asset, which).await?),
        };
        let registered = registry.model_of_asset(&selector.asset).await?;
        if written.is_none() && versions.is_empty() && registered.is_none() {
            let known: Vec<String> = ledger.assets().await?.iter().map(ToString::to_string).collect();
            return Err(Fault::not_found(gristmill_kernel::Code::UNKNOWN_ADDRESS, format!("nothing is known about {}", selector.asset))
                .fix(if known.is_empty() { "run gristmill apply first".to_owned() } else { format!("known are {}", known.join(", ")) })
                .into());
        }
        let lineage = match (&chosen, self.lineage) {
            (Some(version), true) => Some(gristmill_registry::lineage(&state.ports, &version.id).await?),
            _ => None,
        };
        let noted = match (&registered, &chosen) {
            (Some(model), Some(version)) => registry.model_version(&model.name, version.id.number).await?,
            _ => None,
        };
        if cx.out.is_json() {
            cx.out.data_json(&json!({
                "address": selector.asset, "written": written, "version": chosen, "aliases": aliases,
                "versions": versions, "lineage": lineage, "registered": registered.as_ref().map(|model| told(model, noted.as_ref())),
            }));
            return Ok(Exit::Done);
        }
        if let Some(written) = written {
            cx.out.data(written.text());
        }
        if let Some(model) = &registered {
            cx.out.data(registration(model, noted.as_ref()));
        }
        for alias in &aliases {
            cx.out.data(format!(
                "@{:<12} version {} since {}: {} ({})",
                alias.alias.to_string(),
                alias.number.unwrap_or_default(),
                alias.moved_at,
                alias.reason,
                alias.actor
            ));
        }
        for version in versions.iter().take(10) {
            cx.out.data(line(version));
        }
        if versions.len() > 10 {
            cx.out.data(format!("... and {} older", versions.len() - 10));
        }
        if let Some(version) = chosen.filter(|_| self.meta) {
            cx.out.data(serde_json::to_string_pretty(&version.meta).unwrap_or_default());
        }
        if let Some(lineage) = lineage {
            cx.out.data(serde_json::to_string_pretty(&lineage).unwrap_or_default());
        }
        Ok(Exit::Done)
    }

    async fn one_run(&self, cx: &Cx, state: &State, prefix: &str) -> Ended {
        let run = state.find_run(prefix).await?;
        if cx.out.is_json() {
            cx.out.data_json(&run);
            return Ok(Exit::Done);
        }
        cx.out.data(format!(
            "run      {}\nstage    {} for {}\nstatus   {}\nreason   {} ({})\nsummary  {}",
            run.id, run.stage, run.address, run.status, run.reason, run.actor, run.summary
        ));
        if let Some(verdict) = run.verdict {
            cx.out.data(format!("verdict  {}", cx.out.verdict(verdict)));
        }
        for check in &run.checks {
            cx.out.data(format!("  {:<12} {}  ({})", check.verdict.as_str(), check.condition, check.observed));
        }
        for (key, value) in &run.params {
            cx.out.data(format!("param    {key} = {value}"));
        }
        for (key, value) in &run.metrics {
            cx.out.data(format!("metric   {key} = {value}"));
        }
        if let Some(error) = &run.error {
            cx.out.data(format!("error    {} [{}]", error.message, error.code));
        }
        Ok(Exit::Done)
    }
}

/// `NAME`, `NAME@champion`, `NAME@3`, with or without `mlflow:` before it. A name may have an `@` itself.
async fn by_registered_name(registry: &dyn ModelRegistry, text: &str) -> Result<Option<Selector>> {
    let text = text.strip_prefix("mlflow:").unwrap_or(text);
    if let Some(model) = registry.registered_model(text).await? {
        return Ok(Some(Selector { asset: model.asset, which: Which::Latest }));
    }
    let Some((name, which)) = text.rsplit_once('@') else { return Ok(None) };
    match registry.registered_model(name).await? {
        Some(model) => format!("{}@{which}", model.asset).parse().map(Some),
        None => Ok(None),
    }
}

/// What is registered, for programs.
fn told(model: &RegisteredModel, version: Option<&ModelVersion>) -> Value {
    json!({
        "name": model.name, "description": model.description, "tags": model.tags,
        "version": version.map(|v| json!({
            "number": v.id.number, "source": v.source, "run": v.run, "logged_model": v.model, "stage": v.stage.as_str(),
            "description": v.description, "tags": v.tags, "aliases": v.aliases,
        })),
    })
}

/// What is registered, for people: the model, then the version that was asked for.
fn registration(model: &RegisteredModel, version: Option<&ModelVersion>) -> String {
    let words = |tags: &BTreeMap<String, String>| tags.iter().map(|(k, v)| format!("{k}={v}")).collect::<Vec<_>>().join(" ");
    let mut rows = vec![("registered", model.name.clone()), ("description", model.description.clone()), ("tags", words(&model.tags))];
    if let Some(version) = version {
        rows.push(("version", version.id.to_string()));
        rows.push(("from run", version.run.as_ref().map(ToString::to_string).unwrap_or_default()));
        rows.push(("source", version.source.clone()));
        rows.push(("stage", if version.stage == ModelStage::None { String::new() } else { version.stage.as_str().to_owned() }));
        rows.push(("said of it", version.description.clone()));
        rows.push(("its tags", words(&version.tags)));
    }
    // Texts of clients: what would move the cursor is shown, not done.
    let shown =
        |text: &str| text.chars().flat_map(|c| if c.is_control() { c.escape_debug().collect() } else { vec![c] }).collect::<String>();
    let rows = rows.into_iter().filter(|(_, text)| !text.is_empty());
    rows.map(|(what, text)| format!("{what:<12} {}", shown(&text))).collect::<Vec<_>>().join("\n")
}

/// A run's id or its beginning: hex digits only.
fn run_id(text: &str) -> Option<&str> {
    (text.len() >= 6 && text.len() <= 32 && text.bytes().all(|b| b.is_ascii_hexdigit())).then_some(text)
}

fn line(version: &Version) -> String {
    let rows = version.rows.map(|r| format!(", {} rows", crate::output::thousands(r))).unwrap_or_default();
    format!("{:<28} {} made {} by run {}{rows}", version.id.to_string(), version.digest.short(), version.made_at, version.run.short())
}

impl State {
    /// A run by the beginning of its id.
    pub async fn find_run(&self, prefix: &str) -> Result<gristmill_kernel::Run> {
        let unknown = || {
            Fault::not_found(gristmill_kernel::Code::UNKNOWN_RUN, format!("there is no run {prefix}"))
                .fix("list runs with gristmill status --runs 100")
        };
        if prefix.len() == 32 {
            return self.ports.ledger.run(&RunId(prefix.to_owned())).await?.ok_or_else(unknown);
        }
        let runs = self.ports.ledger.runs(&gristmill_kernel::port::RunFilter { limit: 10_000, ..Default::default() }).await?;
        runs.into_iter().find(|r| r.id.0.starts_with(prefix)).ok_or_else(unknown)
    }
}
