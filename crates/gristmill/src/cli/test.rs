//! `gristmill test`: the project's unit tests of features and labels. `--write` makes one out of real rows.

use super::{Cx, Ended, Exit, Faults};
use crate::wiring::Workspace;
use arrow::array::RecordBatch;
use clap::Args;
use gristmill_kernel::version::Which;
use gristmill_kernel::{Address, AssetKind, Code, Fault, Name};
use gristmill_project::Real;
use serde_json::json;

/// Run the project's unit tests of features and labels.
#[derive(Debug, Args)]
pub struct Test {
    /// Write tests of a view out of real rows instead: features.activity. The sources that it reads must have been read.
    #[arg(long, value_name = "ADDRESS")]
    write: Option<Address>,
    /// The name of the file in tests/, without .toml; VIEW_real unless given.
    #[arg(long, requires = "write")]
    name: Option<Name>,
}

impl Test {
    pub async fn run(self, cx: &Cx) -> Ended {
        let workspace = Workspace::load(cx).await?;
        match &self.write {
            Some(address) => self.write(cx, &workspace, address).await,
            None => run(cx, &workspace).await,
        }
    }

    async fn write(&self, cx: &Cx, workspace: &Workspace, address: &Address) -> Ended {
        if address.kind != AssetKind::Features {
            return Err(Fault::invalid(Code::UNKNOWN_ADDRESS, format!("{address} is no feature view, and tests are written of those"))
                .fix("write gristmill test --write features.NAME")
                .into());
        }
        let file = match &self.name {
            Some(name) => format!("tests/{name}.toml"),
            None => format!("tests/{}_real.toml", address.name),
        };
        let path = workspace.project.dir.join(&file);
        if path.exists() {
            return Err(Fault::conflict(Code::BAD_VALUE, format!("{file} is there already"))
                .fix("choose another with --name NAME, or remove it first")
                .into());
        }
        let catalog = workspace.state.catalog().await?;
        let labels = labels_with(workspace, &address.name).await?;
        let real = Real { project: &workspace.project, engine: workspace.state.ports.engine.as_ref(), catalog: &catalog, labels };
        let sampled = gristmill_project::sample(&real, &address.name, &file).await?;
        let failed = |e| Fault::io(format!("write {}", path.display()), e);
        std::fs::create_dir_all(workspace.project.dir.join("tests")).map_err(failed)?;
        std::fs::write(&path, &sampled.text).map_err(failed)?;
        if cx.out.is_json() {
            cx.out.data_json(&json!({"file": file, "tests": sampled.tests, "rows": sampled.rows}));
        } else {
            cx.out.data(&file);
            cx.out.say(format!("{} tests of {address} with {} rows; they pass", sampled.tests, sampled.rows));
        }
        Ok(Exit::Done)
    }
}

async fn run(cx: &Cx, workspace: &Workspace) -> Ended {
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
            cx.out.hint("put unit tests of features into tests/*.toml, or let gristmill test --write features.NAME make one of real rows");
        }
    }
    Ok(if failed == 0 { Exit::Done } else { Exit::Failed })
}

/// The newest label rows of a model that uses a view.
async fn labels_with(workspace: &Workspace, view: &Name) -> Result<Option<RecordBatch>, Faults> {
    let uses = workspace.project.file.models.values().filter(|model| model.features.contains(view));
    for labels in uses.filter_map(|model| model.labels.as_deref()) {
        let stem = labels.trim_start_matches("labels/").trim_end_matches(".sql");
        let asset = Address::new(AssetKind::Labels, Name::new(stem)?);
        if let Some(version) = workspace.state.ports.ledger.version(&asset, &Which::Latest).await? {
            return Ok(Some(gristmill_features::run::read_blob(&workspace.state.ports, &version).await?));
        }
    }
    Ok(None)
}
