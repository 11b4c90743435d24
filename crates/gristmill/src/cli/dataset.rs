//! `gristmill dataset`: the rows of an asset on standard output.

use super::{Cx, Ended, Exit};
use crate::wiring::State;
use arrow::array::RecordBatch;
use clap::{Args, ValueEnum};
use futures::TryStreamExt as _;
use gristmill_kernel::error::Code;
use gristmill_kernel::version::{Place, Selector};
use gristmill_kernel::{Fault, Result};
use std::io::Write as _;

/// Write the rows of an asset to standard output.
#[derive(Debug, Args)]
pub struct Dataset {
    /// An asset with rows: training_sets.churn, labels.churned, sources.invoices@3, predictions.churn, quarantine.invoices.
    address: String,
    /// The format.
    #[arg(long, value_enum, default_value_t = Format::Csv)]
    format: Format,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Format {
    Csv,
    Jsonl,
    Parquet,
    Arrow,
}

impl Dataset {
    pub async fn run(self, cx: &Cx) -> Ended {
        let state = State::open(cx).await?;
        let selector: Selector = self.address.parse()?;
        let version = gristmill_registry::find(&state.ports, &selector.asset, &selector.which).await?;
        let batches: Vec<RecordBatch> = match &version.place {
            Place::Table { table, version } => state.ports.engine.scan(table, Some(*version), 0).await?.try_collect().await?,
            Place::Blob { .. } => vec![gristmill_features::run::read_blob(&state.ports, &version).await?],
            Place::Meta => {
                return Err(Fault::invalid(Code::UNKNOWN_ADDRESS, format!("{} has no rows", version.id))
                    .fix("name a source, label set, training set, prediction log or quarantine")
                    .into());
            }
        };
        write(self.format, &batches)?;
        Ok(Exit::Done)
    }
}

fn write(format: Format, batches: &[RecordBatch]) -> Result<()> {
    let bug = |e: arrow::error::ArrowError| Fault::internal(format!("rows cannot be written: {e}"));
    let Some(first) = batches.first() else { return Ok(()) };
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    match format {
        Format::Csv => {
            let mut writer = arrow::csv::WriterBuilder::new().with_header(true).build(&mut out);
            batches.iter().try_for_each(|b| writer.write(b)).map_err(bug)?;
        }
        Format::Jsonl => {
            let mut writer = arrow::json::LineDelimitedWriter::new(&mut out);
            batches.iter().try_for_each(|b| writer.write(b)).map_err(bug)?;
            writer.finish().map_err(bug)?;
        }
        Format::Arrow => {
            let mut writer = arrow::ipc::writer::StreamWriter::try_new(&mut out, &first.schema()).map_err(bug)?;
            batches.iter().try_for_each(|b| writer.write(b)).map_err(bug)?;
            writer.finish().map_err(bug)?;
        }
        Format::Parquet => {
            let whole = arrow::compute::concat_batches(&first.schema(), batches).map_err(bug)?;
            out.write_all(&gristmill_features::blob::write(&whole)?).map_err(|e| Fault::io("standard output", e))?;
        }
    }
    out.flush().map_err(|e| Fault::io("standard output", e))
}
