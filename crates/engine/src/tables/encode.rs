//! From a write to Parquet files and the table's next state. Pure: no IO, so it can be redone after a conflict.

use super::{Pinned, State, carries_system, nullable};
use arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch, TimestampMicrosecondArray};
use arrow::compute::{max, min};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef, TimeUnit};
use gristmill_kernel::error::{Code, Fault, Result};
use gristmill_kernel::limits::{TABLE_FILE_ROWS_MAX, TABLE_ROW_GROUP_ROWS};
use gristmill_kernel::table::{LOAD, LOADED_AT, ROW, SYSTEM_COLUMNS, SystemColumns, TableWrite, WriteMode};
use parquet::arrow::ArrowWriter;
use parquet::basic::Compression;
use parquet::file::properties::WriterProperties;
use sha2::{Digest, Sha256};
use std::sync::Arc;

/// What a commit will do.
pub struct Plan {
    /// The table's columns after it.
    pub schema: SchemaRef,
    /// New files.
    pub files: Vec<NewFile>,
    /// The table after it.
    pub state: State,
    /// The moment of the load, for the log.
    pub moment_ms: i64,
}

/// An encoded file.
pub struct NewFile {
    /// Its name in the table's folder, from its content and the version it was made for.
    pub name: String,
    /// Parquet.
    pub bytes: Vec<u8>,
    /// Delta's statistics.
    pub stats: String,
}

/// The columns we add.
pub fn system_fields() -> Vec<Field> {
    vec![
        Field::new(LOAD, DataType::Int64, true),
        Field::new(ROW, DataType::Int64, true),
        Field::new(LOADED_AT, DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())), true),
    ]
}

/// Plans a write onto the table as it stands.
pub fn plan(write: &TableWrite, before: Option<&Pinned>) -> Result<Plan> {
    if let Some(before) = before {
        before.state.check_format()?;
    }
    let overwrite = write.mode == WriteMode::Overwrite;
    let last = before.map(|b| b.state.last_load).unwrap_or_default();
    let rows = numbered(write, last)?;
    let schema = schema_after(write, &rows, before)?;
    let rows: Vec<RecordBatch> = rows.iter().map(|r| conform(r, &schema)).collect::<Result<_>>()?;
    let added: u64 = rows.iter().map(|r| r.num_rows() as u64).sum();
    let mut state = before.map(|b| b.state.clone()).unwrap_or_default();
    state.format = State::FORMAT;
    if overwrite {
        state.rows = 0;
        state.generation += u64::from(before.is_some());
    }
    state.rows += added;
    state.last_load = match write.system {
        SystemColumns::Assign(_) => last + i64::from(added > 0),
        SystemColumns::Keep => {
            let highest = rows.iter().filter_map(|r| max(load_column(r)?)).max().unwrap_or_default();
            if overwrite { highest } else { last.max(highest) }
        }
        SystemColumns::None => last,
    };
    for position in &write.positions {
        state.positions.insert(position.stream.clone(), position.offset);
    }
    if !write.note.is_null() {
        state.note = write.note.clone();
    }
    let version = before.map_or(0, |b| b.version + 1);
    let moment_ms = if let SystemColumns::Assign(at) = write.system { at.millis() } else { 0 };
    Ok(Plan { files: encode(&rows, &schema, version)?, schema, state, moment_ms })
}

/// The rows with our columns, if the table has them.
fn numbered(write: &TableWrite, last: i64) -> Result<Vec<RecordBatch>> {
    let SystemColumns::Assign(at) = write.system else {
        if write.system == SystemColumns::Keep {
            for batch in &write.rows {
                if let Some(missing) = SYSTEM_COLUMNS.iter().find(|c| batch.schema().column_with_name(c).is_none()) {
                    return Err(Fault::invalid(
                        Code::SCHEMA_MISMATCH,
                        format!("rows for table `{}` lack the column `{missing}`", write.table),
                    ));
                }
            }
        }
        return Ok(write.rows.clone());
    };
    let mut first = 0i64;
    let mut numbered = Vec::with_capacity(write.rows.len());
    for batch in &write.rows {
        let count = batch.num_rows();
        let mut fields: Vec<Field> = Vec::new();
        let mut columns: Vec<ArrayRef> = Vec::new();
        for (field, column) in batch.schema().fields().iter().zip(batch.columns()) {
            if !SYSTEM_COLUMNS.contains(&field.name().as_str()) {
                fields.push(field.as_ref().clone());
                columns.push(column.clone());
            }
        }
        fields.extend(system_fields());
        columns.push(Arc::new(Int64Array::from_value(last + 1, count)));
        columns.push(Arc::new(Int64Array::from_iter_values(first..first + count as i64)));
        columns.push(Arc::new(TimestampMicrosecondArray::from_value(at.micros(), count).with_timezone("UTC")));
        first += count as i64;
        numbered.push(RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).map_err(|e| Fault::internal("number rows").because(e))?);
    }
    Ok(numbered)
}

/// The table's columns after the write: the user's in order, new ones behind, then ours.
fn schema_after(write: &TableWrite, rows: &[RecordBatch], before: Option<&Pinned>) -> Result<SchemaRef> {
    let overwrite = write.mode == WriteMode::Overwrite;
    let mut own: Vec<Field> = Vec::new();
    if let Some(before) = before
        && (!overwrite || rows.is_empty())
    {
        own = before.own_schema().fields().iter().map(|f| f.as_ref().clone()).collect();
    }
    for batch in rows {
        for field in batch.schema().fields() {
            if SYSTEM_COLUMNS.contains(&field.name().as_str()) && carries_system(write.system) {
                continue;
            }
            match own.iter().find(|f| f.name() == field.name()) {
                None => own.push(Field::new(field.name(), field.data_type().clone(), true)),
                Some(known) if known.data_type() == field.data_type() => {}
                Some(known) => {
                    return Err(Fault::invalid(
                        Code::SCHEMA_MISMATCH,
                        format!(
                            "column `{}` of table `{}` is {}, the rows have {}",
                            field.name(),
                            write.table,
                            known.data_type(),
                            field.data_type()
                        ),
                    )
                    .fix("cast the rows, or overwrite the table"));
                }
            }
        }
    }
    if carries_system(write.system) || before.is_some_and(Pinned::has_system) {
        own.extend(system_fields());
    }
    if own.is_empty() {
        return Err(Fault::invalid(Code::SCHEMA_MISMATCH, format!("table `{}` would have no columns", write.table)));
    }
    Ok(nullable(&Schema::new(own)))
}

fn conform(batch: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch> {
    let columns = schema
        .fields()
        .iter()
        .map(|field| match batch.column_by_name(field.name()) {
            Some(column) if column.data_type() == field.data_type() => Ok(column.clone()),
            Some(column) => arrow::compute::cast(column, field.data_type())
                .map_err(|e| Fault::invalid(Code::SCHEMA_MISMATCH, format!("column `{}`: {e}", field.name())).because(e)),
            None => Ok(arrow::array::new_null_array(field.data_type(), batch.num_rows())),
        })
        .collect::<Result<Vec<_>>>()?;
    RecordBatch::try_new(schema.clone(), columns).map_err(|e| Fault::internal("order columns").because(e))
}

fn load_column(batch: &RecordBatch) -> Option<&Int64Array> {
    batch.column_by_name(LOAD)?.as_primitive_opt::<Int64Type>()
}

fn encode(rows: &[RecordBatch], schema: &SchemaRef, version: u64) -> Result<Vec<NewFile>> {
    let mut files = Vec::new();
    let mut open: Option<OpenFile> = None;
    for batch in rows.iter().filter(|r| r.num_rows() > 0) {
        let mut from = 0;
        while from < batch.num_rows() {
            let mut file = match open.take() {
                Some(file) => file,
                None => OpenFile::new(schema)?,
            };
            let count = (batch.num_rows() - from).min(TABLE_FILE_ROWS_MAX - file.rows);
            file.add(&batch.slice(from, count))?;
            from += count;
            if file.rows == TABLE_FILE_ROWS_MAX {
                files.push(file.close(version, files.len())?);
            } else {
                open = Some(file);
            }
        }
    }
    if let Some(file) = open {
        files.push(file.close(version, files.len())?);
    }
    Ok(files)
}

struct OpenFile {
    writer: ArrowWriter<Vec<u8>>,
    rows: usize,
    loads: Option<(i64, i64)>,
}

impl OpenFile {
    fn new(schema: &SchemaRef) -> Result<OpenFile> {
        let properties = WriterProperties::builder()
            .set_compression(Compression::SNAPPY)
            .set_max_row_group_row_count(Some(TABLE_ROW_GROUP_ROWS))
            .build();
        let writer = ArrowWriter::try_new(Vec::new(), schema.clone(), Some(properties)).map_err(encode_fault)?;
        Ok(OpenFile { writer, rows: 0, loads: None })
    }
    fn add(&mut self, rows: &RecordBatch) -> Result<()> {
        self.rows += rows.num_rows();
        if let Some(loads) = load_column(rows)
            && let (Some(low), Some(high)) = (min(loads), max(loads))
        {
            self.loads = Some(self.loads.map_or((low, high), |(l, h)| (l.min(low), h.max(high))));
        }
        self.writer.write(rows).map_err(encode_fault)
    }
    fn close(self, version: u64, number: usize) -> Result<NewFile> {
        let bytes = self.writer.into_inner().map_err(encode_fault)?;
        let mut stats = serde_json::json!({ "numRecords": self.rows, "minValues": {}, "maxValues": {}, "nullCount": {} });
        if let Some((low, high)) = self.loads {
            stats["minValues"][LOAD] = low.into();
            stats["maxValues"][LOAD] = high.into();
        }
        let print = hex::encode(&Sha256::digest(&bytes)[..12]);
        Ok(NewFile { name: format!("part-{version:012}-{number:04}-{print}.parquet"), bytes, stats: stats.to_string() })
    }
}

fn encode_fault(error: parquet::errors::ParquetError) -> Fault {
    Fault::internal(format!("encode rows: {error}")).because(error)
}
