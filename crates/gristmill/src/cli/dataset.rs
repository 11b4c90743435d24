//! `gristmill dataset`: the rows of a version, and what it was made from.
//!
//! Rows are written batch by batch: what is held at once is one part of a table, or one batch of a blob. A file is there whole or not at all. What
//! is said about a version (`--json`) is what the ledger says: its digest, the versions behind it down to the files and positions of the raw rows, and how
//! its rows were split.

mod rows;

use super::{Cx, Ended, Exit};
use crate::output::thousands;
use crate::wiring::State;
use clap::{Args, ValueEnum};
use gristmill_kernel::error::Code;
use gristmill_kernel::version::{Selector, Version};
use gristmill_kernel::{AssetKind, Fault, Result};
use rows::{Rows, Written};
use serde_json::{Map, Value, json};
use std::path::{Path, PathBuf};

/// Write the rows of a version to standard output or a file; with --json, say what it was made from.
#[derive(Debug, Args)]
pub struct Dataset {
    /// An asset with rows: training_sets.churn, labels.churned, sources.invoices@3, predictions.churn, quarantine.invoices.
    address: String,
    /// The format; by the name of the file unless given, else csv.
    #[arg(long, value_enum)]
    format: Option<Format>,
    /// The file to write, in place of standard output. It is there whole or not at all.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    Csv,
    Jsonl,
    Parquet,
    Arrow,
}

impl Dataset {
    pub async fn run(self, cx: &Cx) -> Ended {
        let format = self.format()?;
        let state = State::open(cx).await?;
        let selector: Selector = self.address.parse()?;
        let version = gristmill_registry::find(&state.ports, &selector.asset, &selector.which).await?;
        let written = match &self.out {
            Some(file) => Some(rows::to_file(Rows::open(&state.ports, &version).await?, format, &cx.outside.here.join(file)).await?),
            None if cx.out.is_json() => None,
            None => {
                rows::to_standard_output(Rows::open(&state.ports, &version).await?, format).await?;
                return Ok(Exit::Done);
            }
        };
        if cx.out.is_json() {
            cx.out.data_json(&record(&state, &version, self.out.as_deref().zip(written)).await?);
        } else if let Some((file, written)) = self.out.as_deref().zip(written) {
            let Written { rows, bytes, digest } = written;
            cx.out.say(format!("{} rows of {} in {}, {} bytes, {digest}", thousands(rows), version.id, file.display(), thousands(bytes)));
        }
        Ok(Exit::Done)
    }

    fn format(&self) -> Result<Format> {
        let Some(file) = self.out.as_ref().filter(|_| self.format.is_none()) else { return Ok(self.format.unwrap_or(Format::Csv)) };
        let ending = file.extension().and_then(|e| e.to_str()).map(str::to_ascii_lowercase);
        match ending.as_deref() {
            Some("csv") => Ok(Format::Csv),
            Some("jsonl" | "ndjson") => Ok(Format::Jsonl),
            Some("parquet") => Ok(Format::Parquet),
            Some("arrow" | "arrows" | "ipc") => Ok(Format::Arrow),
            _ => Err(Fault::invalid(Code::BAD_VALUE, format!("the name {} does not say a format", file.display()))
                .fix("add --format csv, jsonl, parquet or arrow, or let the name end with one of them")),
        }
    }
}

/// What a version is and was made from.
async fn record(state: &State, version: &Version, written: Option<(&Path, Written)>) -> Result<Value> {
    let (origins, cut) = gristmill_registry::origins(&state.ports, &version.id).await?;
    let mut lineage: Map<String, Value> = Map::new();
    for origin in &origins {
        let list = lineage.entry(origin.id.asset.kind.as_str()).or_insert_with(|| json!([]));
        if let Some(list) = list.as_array_mut() {
            list.push(line(origin, &["tables", "positions", "load", "generation", "files"]));
        }
    }
    let mut said = line(version, &["entity", "features", "positions", "load", "generation", "files"]);
    said["split"] = match version.id.asset.kind {
        AssetKind::TrainingSets => {
            let keys = ["split", "train_rows", "test_rows", "test_from"];
            keys.iter().map(|key| ((*key).to_owned(), version.meta[*key].clone())).collect::<Map<_, _>>().into()
        }
        _ => Value::Null,
    };
    said["lineage"] = lineage.into();
    said["lineage_cut"] = cut.into();
    said["written"] = written.map_or(
        Value::Null,
        |(file, written)| json!({"file": file, "rows": written.rows, "bytes": written.bytes, "digest": written.digest}),
    );
    Ok(said)
}

/// A version in short, with what its stage says about these.
fn line(version: &Version, keys: &[&str]) -> Value {
    let mut line = json!({
        "version": version.id.to_string(), "digest": version.digest, "rows": version.rows, "run": version.run, "made_at": version.made_at,
    });
    for key in keys {
        if let Some(value) = version.meta.get(*key) {
            line[*key] = value.clone();
        }
    }
    line
}
