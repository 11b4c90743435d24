//! `gristmill quarantine`: rows that failed an expectation.

use super::{Cx, Ended, Exit};
use crate::output::{table, thousands};
use crate::wiring::{Owner, Workspace};
use clap::{Args, Subcommand};
use gristmill_kernel::{Fault, Name};
use std::path::PathBuf;

/// List, export and replay quarantined rows.
#[derive(Debug, Args)]
pub struct Quarantine {
    #[command(subcommand)]
    what: What,
}

/// A row as a JSON line that can be corrected and replayed: which row it is, and its columns.
fn line(row: &gristmill_validate::QuarantinedRow) -> serde_json::Value {
    let mut fields = serde_json::Map::from_iter([("_load".to_owned(), row.load.into()), ("_row".to_owned(), row.row.into())]);
    if let serde_json::Value::Object(columns) = &row.content {
        fields.extend(columns.clone());
    }
    serde_json::Value::Object(fields)
}

#[derive(Debug, Subcommand)]
enum What {
    /// List rows, newest first; --json for JSON lines that can be fixed and replayed.
    List {
        /// The source.
        source: Name,
        /// At most this many.
        #[arg(long, default_value_t = 20)]
        rows: usize,
    },
    /// Send fixed rows in again; each line names the row it replaces by _load and _row.
    Replay {
        /// The source.
        source: Name,
        /// A file of JSON lines, as `list --json` writes them, with the fields corrected.
        file: PathBuf,
    },
}

impl Quarantine {
    pub async fn run(self, cx: &Cx) -> Ended {
        let workspace = Workspace::load(cx).await?;
        match self.what {
            What::List { source, rows } => {
                let found = gristmill_validate::quarantined(&workspace.state.ports, &source, rows).await?;
                if cx.out.is_json() {
                    for row in &found {
                        cx.out.data(line(row).to_string());
                    }
                } else {
                    let lines = found
                        .iter()
                        .map(|r| vec![r.load.to_string(), r.row.to_string(), r.reason.clone(), r.content.to_string()])
                        .collect();
                    cx.out.data(table(&["_load", "_row", "reason", "row"], lines));
                }
            }
            What::Replay { source, file } => {
                let path = cx.outside.here.join(&file);
                let text = std::fs::read_to_string(&path).map_err(|e| Fault::io(format!("read {}", path.display()), e))?;
                let owner = Owner::acquire(&workspace, None)?;
                let spec = gristmill_project::resolve::validate(&workspace.project, &source).ok_or_else(|| {
                    Fault::not_found(gristmill_kernel::Code::UNKNOWN_SOURCE, format!("the project has no source {source}"))
                })?;
                let done = gristmill_validate::replay(&owner.ports, &spec, &text).await?;
                cx.out.say(format!("{} rows go in again", thousands(done.rows)));
                cx.out.hint(format!("bring them into the table: gristmill run sources.{source}"));
            }
        }
        Ok(Exit::Done)
    }
}
