//! Rows of a version as a stream, and the formats they are written in.

use super::Format;
use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use bytes::Bytes;
use futures::stream::{self, BoxStream};
use futures::{StreamExt as _, TryStreamExt as _};
use gristmill_features::blob;
use gristmill_kernel::digest::Hasher;
use gristmill_kernel::error::Code;
use gristmill_kernel::port::Ports;
use gristmill_kernel::version::{Place, Version};
use gristmill_kernel::{Digest, Fault, Result};
use std::io::{BufWriter, Write};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

/// The rows of a version.
pub struct Rows {
    schema: SchemaRef,
    batches: BoxStream<'static, Result<RecordBatch>>,
    /// The blob they are in, a Parquet file as it is, and how many they are.
    whole: Option<(Bytes, u64)>,
}

/// What was written.
pub struct Written {
    /// How many rows.
    pub rows: u64,
    /// How many bytes.
    pub bytes: u64,
    /// Of these bytes.
    pub digest: Digest,
}

impl Rows {
    /// Opens the rows of a version.
    pub async fn open(ports: &Ports, version: &Version) -> Result<Rows> {
        match &version.place {
            Place::Table { table, version } => {
                let mut batches = ports.engine.scan(table, Some(*version), 0).await?;
                // The first batch says which columns this version has; a table without rows has those it has now.
                let first = batches.try_next().await?;
                let schema = match &first {
                    Some(batch) => batch.schema(),
                    None => ports.engine.table(table).await?.ok_or_else(|| Fault::damaged(format!("table {table} is gone")))?.schema,
                };
                Ok(Rows { schema, batches: stream::iter(first.map(Ok)).chain(batches).boxed(), whole: None })
            }
            Place::Blob { digest } => {
                let bytes = ports.blobs.get(digest).await?.ok_or_else(|| Fault::damaged(format!("the blob of {} is gone", version.id)))?;
                let batches = blob::Reader::new(bytes.clone())?;
                Ok(Rows {
                    schema: batches.schema(),
                    batches: stream::iter(batches).boxed(),
                    whole: Some((bytes, version.rows.unwrap_or_default())),
                })
            }
            Place::Meta => Err(Fault::invalid(Code::UNKNOWN_ADDRESS, format!("{} has no rows", version.id))
                .fix("name a source, label set, training set, prediction log or quarantine")),
        }
    }

    async fn write(mut self, format: Format, out: &mut Out<'_>) -> Result<u64> {
        if let (Format::Parquet, Some((bytes, rows))) = (format, &self.whole) {
            out.write_all(bytes).map_err(|e| Fault::io("write rows", e))?;
            return Ok(*rows);
        }
        let closed = out.closed;
        let mut writer = Writer::new(format, out, &self.schema)?;
        let mut rows = 0;
        while let Some(batch) = self.batches.try_next().await?
            && !closed.load(Ordering::Relaxed)
        {
            rows += batch.num_rows() as u64;
            writer.write(&batch)?;
        }
        writer.end()?;
        Ok(rows)
    }
}

/// Writes rows to standard output. A reader that has seen enough ends it quietly.
pub async fn to_standard_output(rows: Rows, format: Format) -> Result<()> {
    let closed = AtomicBool::new(false);
    let mut out = Out::new(Box::new(std::io::stdout()), &closed);
    rows.write(format, &mut out).await?;
    out.flush().map_err(|e| Fault::io("standard output", e))
}

/// Writes rows to a file: beside it first, then in one step to its name.
pub async fn to_file(rows: Rows, format: Format, path: &Path) -> Result<Written> {
    let Some(name) = path.file_name() else {
        return Err(Fault::invalid(Code::BAD_VALUE, format!("{} is no name of a file", path.display())).fix("write --out FILE"));
    };
    let mut beside = std::ffi::OsString::from(".");
    beside.push(name);
    beside.push(format!(".{}.part", std::process::id()));
    let beside = path.with_file_name(beside);
    let failed = |e| Fault::io(format!("write {}", path.display()), e);
    let done = async {
        let file = std::fs::File::create(&beside).map_err(failed)?;
        let closed = AtomicBool::new(false);
        let mut out = Out::new(Box::new(file.try_clone().map_err(failed)?), &closed);
        let rows = rows.write(format, &mut out).await?;
        out.flush().map_err(failed)?;
        let (bytes, digest) = (out.bytes, out.hasher.finish());
        file.sync_all().map_err(failed)?;
        std::fs::rename(&beside, path).map_err(failed)?;
        Ok(Written { rows, bytes, digest })
    }
    .await;
    if done.is_err() {
        let _nothing_to_remove = std::fs::remove_file(&beside);
    }
    done
}

/// Where bytes go, counted and digested.
struct Out<'a> {
    to: BufWriter<Box<dyn Write + Send>>,
    bytes: u64,
    hasher: Hasher,
    closed: &'a AtomicBool,
}

impl<'a> Out<'a> {
    fn new(to: Box<dyn Write + Send>, closed: &'a AtomicBool) -> Out<'a> {
        Out { to: BufWriter::with_capacity(1 << 16, to), bytes: 0, hasher: Hasher::default(), closed }
    }
    /// Nobody reads any more: what comes is dropped, and whoever writes stops at the next batch.
    fn unless_closed(&self, done: std::io::Result<()>) -> std::io::Result<()> {
        match done {
            Err(e) if e.kind() == std::io::ErrorKind::BrokenPipe => {
                self.closed.store(true, Ordering::Relaxed);
                Ok(())
            }
            done => done,
        }
    }
}

impl Write for Out<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        if !self.closed.load(Ordering::Relaxed) {
            let done = self.to.write_all(bytes);
            self.unless_closed(done)?;
        }
        self.hasher.update(bytes);
        self.bytes += bytes.len() as u64;
        Ok(bytes.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        if self.closed.load(Ordering::Relaxed) {
            return Ok(());
        }
        let done = self.to.flush();
        self.unless_closed(done)
    }
}

/// One of the formats.
enum Writer<W: Write + Send> {
    Csv(Box<arrow::csv::Writer<W>>),
    Jsonl(arrow::json::LineDelimitedWriter<W>),
    Arrow(Box<arrow::ipc::writer::StreamWriter<W>>),
    Parquet(Box<blob::Writer<W>>),
}

impl<W: Write + Send> Writer<W> {
    fn new(format: Format, out: W, schema: &SchemaRef) -> Result<Writer<W>> {
        Ok(match format {
            Format::Csv => {
                let mut writer = arrow::csv::WriterBuilder::new().with_header(true).build(out);
                // A table without rows has a header too.
                writer.write(&RecordBatch::new_empty(schema.clone())).map_err(unwritten)?;
                Writer::Csv(Box::new(writer))
            }
            Format::Jsonl => Writer::Jsonl(arrow::json::LineDelimitedWriter::new(out)),
            Format::Arrow => Writer::Arrow(Box::new(arrow::ipc::writer::StreamWriter::try_new(out, schema).map_err(unwritten)?)),
            Format::Parquet => Writer::Parquet(Box::new(blob::Writer::new(out, schema.clone())?)),
        })
    }
    fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        match self {
            Writer::Csv(w) => w.write(batch).map_err(unwritten),
            Writer::Jsonl(w) => w.write(batch).map_err(unwritten),
            Writer::Arrow(w) => w.write(batch).map_err(unwritten),
            Writer::Parquet(w) => w.write(batch),
        }
    }
    fn end(self) -> Result<()> {
        match self {
            Writer::Csv(_) => Ok(()),
            Writer::Jsonl(mut w) => w.finish().map_err(unwritten),
            Writer::Arrow(mut w) => w.finish().map_err(unwritten),
            Writer::Parquet(w) => w.end(),
        }
    }
}

fn unwritten(e: ArrowError) -> Fault {
    match e {
        ArrowError::IoError(_, e) => Fault::io("write rows", e),
        e => Fault::internal(format!("rows cannot be written: {e}")),
    }
}
