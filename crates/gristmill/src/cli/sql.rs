//! `gristmill sql`: a fenced query over the project's tables.

use super::{Cx, Ended, Exit};
use crate::output::thousands;
use crate::wiring::State;
use arrow::array::RecordBatch;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use clap::Args;
use futures::TryStreamExt as _;
use gristmill_kernel::error::Code;
use gristmill_kernel::{Fault, Kind, Result, limits};
use std::time::Duration;

/// Run a query over the project's tables.
#[derive(Debug, Args)]
pub struct Sql {
    /// The query. Tables are the sources by name; `predictions_ENDPOINT`, `quarantine_SOURCE` and `raw_SOURCE` too.
    query: String,
    /// Show at most this many rows.
    #[arg(long, default_value_t = limits::QUERY_ROWS_SHOWN)]
    rows: usize,
    /// Show the columns that Gristmill adds (_load, _row, _loaded_at).
    #[arg(long)]
    system: bool,
}

impl Sql {
    pub async fn run(self, cx: &Cx) -> Ended {
        let state = State::open(cx).await?;
        let catalog = state.catalog().await?;
        let query = async {
            let mut stream = state.ports.engine.query(&self.query, &catalog, self.system).await?;
            let mut batches: Vec<RecordBatch> = Vec::new();
            let mut rows = 0;
            while rows <= self.rows
                && let Some(batch) = stream.try_next().await?
            {
                rows += batch.num_rows();
                batches.push(batch);
            }
            Ok::<_, Fault>((batches, rows))
        };
        let (batches, rows) = tokio::time::timeout(Duration::from_millis(limits::QUERY_TIMEOUT_MS), query)
            .await
            .map_err(|_| Fault::new(Kind::Timeout, Code::TIMED_OUT, "the query took longer than its limit").fix("narrow it"))??;
        if cx.out.is_json() {
            cx.out.data_json(&to_json(&batches, self.rows)?);
        } else {
            cx.out.data(to_table(&batches, self.rows)?);
            if rows > self.rows {
                cx.out.hint(format!("more than {} rows; ask for more with --rows", thousands(self.rows as u64)));
            }
        }
        Ok(Exit::Done)
    }
}

/// Rows as JSON objects.
pub fn to_json(batches: &[RecordBatch], most: usize) -> Result<Vec<serde_json::Value>> {
    let bug = |e: arrow::error::ArrowError| Fault::internal(format!("rows do not become JSON: {e}"));
    let mut out = Vec::new();
    for batch in batches {
        let mut bytes = Vec::new();
        let mut writer =
            arrow::json::WriterBuilder::new().with_explicit_nulls(true).build::<_, arrow::json::writer::LineDelimited>(&mut bytes);
        writer.write(batch).map_err(bug)?;
        writer.finish().map_err(bug)?;
        for line in bytes.split(|b| *b == b'\n').filter(|l| !l.is_empty()) {
            out.push(serde_json::from_slice(line).map_err(|e| Fault::internal(format!("rows do not become JSON: {e}")))?);
        }
    }
    out.truncate(most);
    Ok(out)
}

fn to_table(batches: &[RecordBatch], most: usize) -> Result<String> {
    let bug = |e: arrow::error::ArrowError| Fault::internal(format!("rows cannot be shown: {e}"));
    let Some(first) = batches.first() else { return Ok("no rows".to_owned()) };
    let head: Vec<String> = first.schema_ref().fields().iter().map(|f| f.name().clone()).collect();
    let options = FormatOptions::default().with_null("NULL");
    let mut rows = Vec::new();
    for batch in batches {
        let columns = batch.columns().iter().map(|c| ArrayFormatter::try_new(c, &options).map_err(bug)).collect::<Result<Vec<_>>>()?;
        for row in 0..batch.num_rows().min(most - rows.len()) {
            rows.push(columns.iter().map(|c| c.value(row).to_string()).collect());
        }
    }
    Ok(crate::output::table(&head.iter().map(String::as_str).collect::<Vec<_>>(), rows))
}
