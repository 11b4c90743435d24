//! `gristmill check`: the project file, the SQL and the conditions.

use super::{Cx, Ended, Exit};
use crate::wiring::Workspace;
use clap::Args;
use gristmill_project::Severity;
use serde_json::json;

/// Check the project file, the SQL and the conditions.
#[derive(Debug, Args)]
pub struct Check {
    /// Accept the columns that the sources have now: writes gristmill.lock.
    #[arg(long)]
    lock: bool,
}

impl Check {
    pub async fn run(self, cx: &Cx) -> Ended {
        let workspace = match self.lock {
            true => Workspace::accept_columns(cx).await?,
            false => Workspace::load_unchecked(cx).await?,
        };
        let found = workspace.check().await;
        let errors = found.iter().filter(|d| d.severity == Severity::Error).count();
        let warnings = found.len() - errors;
        if cx.out.is_json() {
            let list: Vec<_> = found
                .iter()
                .map(|d| {
                    let mut value = gristmill_project::render::json(&d.fault);
                    value["severity"] = json!(if d.severity == Severity::Error { "error" } else { "warning" });
                    value
                })
                .collect();
            cx.out.data_json(&json!({"errors": errors, "warnings": warnings, "found": list}));
        } else {
            for diagnostic in &found {
                match diagnostic.severity {
                    Severity::Error => cx.out.fault(&diagnostic.fault),
                    Severity::Warning => {
                        let place = diagnostic.fault.spot.as_ref().map(|s| format!("{}:{}: ", s.file, s.line)).unwrap_or_default();
                        cx.out.warn(format!("{place}{}", diagnostic.fault.message));
                        if let Some(fix) = &diagnostic.fault.fix {
                            cx.out.hint(fix);
                        }
                    }
                }
            }
            cx.out.say(format!("{errors} errors, {warnings} warnings"));
        }
        workspace.write_schema()?;
        Ok(if errors == 0 { Exit::Done } else { Exit::Failed })
    }
}
