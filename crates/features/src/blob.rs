//! Parquet: label sets and training sets are one blob each. Equal rows give equal bytes.

use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use arrow::datatypes::SchemaRef;
use bytes::Bytes;
use gristmill_kernel::{Fault, Result, limits};
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::{ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};
use parquet::basic::{Compression, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;
use std::io::Write;

/// The rows as one Parquet file.
pub fn write(rows: &RecordBatch) -> Result<Bytes> {
    let mut bytes = Vec::new();
    let mut writer = Writer::new(&mut bytes, rows.schema())?;
    writer.write(rows)?;
    writer.end()?;
    Ok(bytes.into())
}

/// Writes a Parquet file batch by batch; what is held is one row group.
pub struct Writer<W: Write + Send>(ArrowWriter<W>);

impl<W: Write + Send> Writer<W> {
    /// Begins a file.
    pub fn new(to: W, schema: SchemaRef) -> Result<Writer<W>> {
        let properties = WriterProperties::builder()
            .set_created_by("gristmill".to_owned())
            .set_compression(Compression::ZSTD(ZstdLevel::try_new(3).map_err(unfit)?))
            .build();
        Ok(Writer(ArrowWriter::try_new(to, schema, Some(properties)).map_err(unfit)?))
    }
    /// Adds rows.
    pub fn write(&mut self, rows: &RecordBatch) -> Result<()> {
        self.0.write(rows).map_err(unfit)
    }
    /// Ends the file.
    pub fn end(self) -> Result<()> {
        self.0.close().map(|_| ()).map_err(unfit)
    }
}

fn unfit(e: ParquetError) -> Fault {
    match e {
        ParquetError::External(e) if e.is::<std::io::Error>() => {
            Fault::io("write a Parquet file", *e.downcast::<std::io::Error>().unwrap_or_else(|e| Box::new(std::io::Error::other(e))))
        }
        e => Fault::internal("rows do not fit into Parquet").because(e),
    }
}

/// The rows of a Parquet file that this system wrote.
pub fn read(bytes: Bytes) -> Result<RecordBatch> {
    let reader = Reader::new(bytes)?;
    let schema = reader.schema();
    let batches = reader.collect::<Result<Vec<_>>>()?;
    concat_batches(&schema, &batches).map_err(|e| Fault::damaged("a Parquet blob has mixed batches").because(e))
}

/// The same batch by batch. A panic of the parser is damage, not the end of the process.
pub struct Reader {
    schema: SchemaRef,
    batches: Option<ParquetRecordBatchReader>,
}

impl Reader {
    /// Opens a file.
    pub fn new(bytes: Bytes) -> Result<Reader> {
        let parsed = std::panic::catch_unwind(|| -> std::result::Result<Reader, String> {
            let builder = ParquetRecordBatchReaderBuilder::try_new(bytes).map_err(|e| e.to_string())?;
            let schema = builder.schema().clone();
            let batches = builder.with_batch_size(limits::BATCH_ROWS).build().map_err(|e| e.to_string())?;
            Ok(Reader { schema, batches: Some(batches) })
        });
        parsed.unwrap_or_else(|_| Err(PANICKED.to_owned())).map_err(damaged)
    }
    /// Its columns.
    pub fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }
}

impl Iterator for Reader {
    type Item = Result<RecordBatch>;
    fn next(&mut self) -> Option<Result<RecordBatch>> {
        let mut batches = self.batches.take()?;
        let next = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| batches.next().map(|batch| (batch, batches))));
        match next.map_err(|_| damaged(PANICKED.to_owned())) {
            Err(fault) => Some(Err(fault)),
            Ok(None) => None,
            Ok(Some((batch, batches))) => {
                self.batches = Some(batches).filter(|_| batch.is_ok());
                Some(batch.map_err(|e| damaged(e.to_string())))
            }
        }
    }
}

const PANICKED: &str = "its parser panicked";

fn damaged(why: String) -> Fault {
    Fault::damaged(format!("a Parquet blob does not parse: {why}"))
}
