//! `gristmill check`: everything that can be said about a project before anything runs.
//!
//! Errors stop `plan` and `apply`; warnings do not. Nothing here writes. To add a check: a function in one of the files here, and
//! its line in [`check_with`].

mod conditions;
mod names;
mod queries;
mod unbuilt;

use crate::project::Project;
use crate::render::{json, render, render_warning};
use arrow::datatypes::{Schema, SchemaRef};
use gristmill_kernel::port::Engine;
use gristmill_kernel::table::TableName;
use gristmill_kernel::{Address, AssetKind, Fault, Name};
use std::collections::BTreeMap;
use std::sync::Arc;

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Worth knowing; nothing stops.
    Warning,
    /// The project cannot run like this.
    Error,
}

/// One finding.
#[derive(Debug)]
pub struct Diagnostic {
    /// How bad it is.
    pub severity: Severity,
    /// What, where, and the fix.
    pub fault: Fault,
}

impl Diagnostic {
    /// An error.
    pub fn error(fault: Fault) -> Diagnostic {
        Diagnostic { severity: Severity::Error, fault }
    }
    /// A warning.
    pub fn warning(fault: Fault) -> Diagnostic {
        Diagnostic { severity: Severity::Warning, fault }
    }
    /// For people.
    pub fn render(&self, color: bool) -> String {
        match self.severity {
            Severity::Error => render(&self.fault, color),
            Severity::Warning => render_warning(&self.fault, color),
        }
    }
    /// For tools.
    pub fn json(&self) -> serde_json::Value {
        let mut value = json(&self.fault);
        value["severity"] = serde_json::json!(self.severity);
        value
    }
}

/// Columns of sources as their connectors infer them.
pub type Inferred = BTreeMap<Name, SchemaRef>;

/// Checks a project against its lock and what the engine has.
pub async fn check(project: &Project, engine: &dyn Engine) -> Vec<Diagnostic> {
    check_with(project, engine, &Inferred::new()).await
}

/// As [`check`], with the columns that the sources have now: they are compared with the lock, and used where nothing is pinned.
pub async fn check_with(project: &Project, engine: &dyn Engine, inferred: &Inferred) -> Vec<Diagnostic> {
    let mut found = Vec::new();
    unbuilt::parts(project, &mut found);
    names::sources(project, &mut found);
    names::models(project, &mut found);
    names::endpoints(project, &mut found);
    names::secrets(project, &mut found);
    for (name, schema) in inferred {
        if let Some(fault) = project.lock.verify(name, &crate::lock::columns_of(schema)) {
            found.push(Diagnostic::error(project.at(fault, &format!("sources.{name}.from"))));
        }
    }
    let columns = columns(project, engine, inferred).await;
    conditions::all(project, engine, &columns, &mut found);
    queries::all(project, engine, &columns, &mut found).await;
    found.sort_by_key(|d| {
        let place = d.fault.spot.as_ref().map_or((String::new(), 0, 0), |s| (s.file.clone(), s.line, s.column));
        (std::cmp::Reverse(d.severity), place)
    });
    found
}

/// The columns of each source, as far as they are known: pinned, inferred, or of its table.
async fn columns(project: &Project, engine: &dyn Engine, inferred: &Inferred) -> BTreeMap<Name, SchemaRef> {
    let mut known = BTreeMap::new();
    for name in project.file.sources.keys() {
        let stored = || async {
            let table = TableName::of(&Address::new(AssetKind::Sources, name.clone()));
            engine.table(&table).await.ok().flatten().map(|info| info.schema)
        };
        let schema = match project.lock.schema(name).map(Arc::new).or_else(|| inferred.get(name).cloned()) {
            Some(schema) => Some(schema),
            None => stored().await,
        };
        if let Some(schema) = schema {
            known.insert(name.clone(), without_ours(&schema));
        }
    }
    known
}

fn without_ours(schema: &Schema) -> SchemaRef {
    let ours = gristmill_kernel::table::SYSTEM_COLUMNS;
    Arc::new(Schema::new(schema.fields().iter().filter(|f| !ours.contains(&f.name().as_str())).cloned().collect::<Vec<_>>()))
}
