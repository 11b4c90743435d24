//! `gristmill test`: the project's unit tests of features and labels.

use super::{Cx, Ended, Exit};
use crate::wiring::Workspace;
use clap::Args;
use serde_json::json;

/// Run the project's unit tests of features and labels.
#[derive(Debug, Args)]
pub struct Test {}

impl Test {
    pub async fn run(self, cx: &Cx) -> Ended {
        let workspace = Workspace::load(cx).await?;
        let results = workspace.unit_tests().await?;
        let failed = results.iter().filter(|r| !r.passed()).count();
        if cx.out.is_json() {
            let list: Vec<_> = results.iter().map(|r| json!({"name": r.name, "passed": r.passed(), "text": r.text()})).collect();
            cx.out.data_json(&json!({"passed": results.len() - failed, "failed": failed, "tests": list}));
        } else {
            for result in results.iter().filter(|r| !r.passed()) {
                cx.out.data(result.text());
            }
            cx.out.data(format!("{} passed, {failed} failed", results.len() - failed));
            if results.is_empty() {
                cx.out.hint("put unit tests of features into tests/*.toml; see the churn example");
            }
        }
        Ok(if failed == 0 { Exit::Done } else { Exit::Failed })
    }
}
