//! Parquet in memory: label sets and training sets are one blob each. Equal rows give equal bytes.

use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use arrow::datatypes::SchemaRef;
use bytes::Bytes;
use gristmill_kernel::{Fault, Result, limits};
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;

/// The rows as one Parquet file.
pub fn write(rows: &RecordBatch) -> Result<Bytes> {
    let bad = |e: parquet::errors::ParquetError| Fault::internal("rows do not fit into Parquet").because(e);
    let properties = WriterProperties::builder()
        .set_created_by("gristmill".to_owned())
        .set_compression(Compression::ZSTD(ZstdLevel::try_new(3).map_err(bad)?))
        .build();
    let mut bytes = Vec::new();
    let mut writer = ArrowWriter::try_new(&mut bytes, rows.schema(), Some(properties)).map_err(bad)?;
    writer.write(rows).map_err(bad)?;
    writer.close().map_err(bad)?;
    Ok(bytes.into())
}

/// The rows of a Parquet file that this system wrote. A panic of the parser is damage, not the end of the process.
pub fn read(bytes: Bytes) -> Result<RecordBatch> {
    let parsed = std::panic::catch_unwind(|| -> std::result::Result<(SchemaRef, Vec<RecordBatch>), String> {
        let builder = ParquetRecordBatchReaderBuilder::try_new(bytes).map_err(|e| e.to_string())?;
        let schema = builder.schema().clone();
        let reader = builder.with_batch_size(limits::BATCH_ROWS).build().map_err(|e| e.to_string())?;
        let batches = reader.collect::<std::result::Result<Vec<_>, _>>().map_err(|e| e.to_string())?;
        Ok((schema, batches))
    });
    match parsed {
        Ok(Ok((schema, batches))) => {
            concat_batches(&schema, &batches).map_err(|e| Fault::damaged("a Parquet blob has mixed batches").because(e))
        }
        Ok(Err(why)) => Err(Fault::damaged(format!("a Parquet blob does not parse: {why}"))),
        Err(_) => Err(Fault::damaged("a Parquet blob made its parser panic")),
    }
}
