//! Keys of the language on which this version does not act yet. They parse, so that a project written for them keeps its shape, but using one is
//! an error: nothing is pretended. When a part is built, its line here goes.

use super::Diagnostic;
use crate::project::Project;
use gristmill_kernel::{Code, Fault, Kind};

/// Refuses every key and URL that is used but not built yet.
pub(super) fn parts(project: &Project, found: &mut Vec<Diagnostic>) {
    let file = &project.file;
    let mut refuse = |what: String, fix: &str, path: &str| {
        let fault = Fault::new(Kind::Invalid, Code::PART_UNAVAILABLE, format!("{what} is not built yet")).fix(fix);
        found.push(Diagnostic::error(project.at(fault, path)));
    };
    for (key, value) in [("storage", &file.storage), ("ledger", &file.ledger), ("online", &file.online), ("engine", &file.engine)] {
        if let Some(value) = value
            && let Some((scheme, _)) = value.split_once("://")
            && scheme != "file"
        {
            refuse(format!("`{key}` on {scheme}"), &format!("remove `{key}`: the embedded part is used"), key);
        }
    }
    for (name, source) in &file.sources {
        let scheme = source.from.split_once("://").map(|(s, _)| s);
        if let Some(scheme) = scheme.filter(|s| !["replay", "file"].contains(s)) {
            refuse(
                format!("reading a source from {scheme}"),
                "read a file (CSV, Parquet, JSON lines), replay://FILE, or push: with POST /ingest/NAME",
                &format!("sources.{name}.from"),
            );
        }
        if source.every.is_some() {
            refuse(
                "reading a source on its own every so often".into(),
                "remove it; gristmill run reads new rows",
                &format!("sources.{name}.every"),
            );
        }
    }
    for (name, model) in &file.models {
        if model.train.ends_with(".py") {
            refuse("training by a script".into(), "use a built-in: gbdt, logistic, linear, random_forest", &format!("models.{name}.train"));
        }
        if model.labels.is_none() {
            refuse("a model without labels".into(), "add labels = \"labels/NAME.sql\"", &format!("models.{name}"));
        }
    }
    for (name, endpoint) in &file.endpoints {
        let at = |key: &str| format!("endpoints.{name}.{key}");
        if endpoint.fallback.is_some() {
            refuse("a fallback query".into(), "remove it", &at("fallback"));
        }
        if endpoint.model.registered().is_some() && project.places.contains_key(&at("monitor")) {
            refuse(
                "watching an endpoint whose model was trained elsewhere".into(),
                "remove `monitor`; its predictions are in the table predictions.NAME",
                &at("monitor"),
            );
        }
        if endpoint.score.is_some() {
            refuse("scoring rows as they come".into(), "ask POST /predict/NAME", &at("score"));
        }
        if endpoint.send.is_some() {
            refuse("sending scores on".into(), "remove it; predictions are in the table predictions.NAME", &at("send"));
        }
    }
    for (i, to) in file.alerts.to.0.iter().enumerate() {
        let scheme = to.split_once(':').map_or(to.as_str(), |(s, _)| s);
        if !["http", "https", "slack"].contains(&scheme) && !to.starts_with("${") {
            refuse(format!("alerting by `{scheme}`"), "use an https:// webhook or slack://...", &format!("alerts.to.{i}"));
        }
    }
    if !file.alerts.when.0.is_empty() {
        refuse("choosing what is told (alerts.when)".into(), "remove it: every alert is told", "alerts.when");
    }
}
