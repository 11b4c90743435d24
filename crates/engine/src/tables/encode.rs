//! From a write to Parquet files and the table's next state. Pure: no IO, so it can be redone after a conflict.
//!
//! A file that is sorted carries the mark of its order in its name, and the columns in its Parquet metadata; the table's state knows the marks.

use super::state::History;
use super::{Pinned, State, carries_system, nullable};
use arrow::array::{Array, ArrayRef, AsArray, Int64Array, RecordBatch, TimestampMicrosecondArray};
use arrow::compute::{SortColumn, SortOptions, concat_batches, lexsort_to_indices, max, min, take_record_batch};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef, TimeUnit};
use gristmill_kernel::error::{Code, Fault, Result};
use gristmill_kernel::limits::{JOURNAL_DRAIN_ROWS_MAX, TABLE_FILE_ROWS_MAX, TABLE_ROW_GROUP_ROWS};
use gristmill_kernel::table::{LOAD, LOADED_AT, ROW, SYSTEM_COLUMNS, SystemColumns, TableWrite, WriteMode};
use parquet::arrow::ArrowWriter;
use parquet::basic::Compression;
use parquet::file::metadata::SortingColumn;
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
    /// Rows.
    pub rows: usize,
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
    let version = before.map_or(0, |b| b.version + 1);
    let mut state = before.map(|b| b.state.clone()).unwrap_or_default();
    state.format = State::FORMAT;
    state.history = history_after(write, &rows, before, version);
    state.written = None;
    if overwrite {
        state.orders.clear();
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
    let moment_ms = if let SystemColumns::Assign(at) = write.system { at.millis() } else { 0 };
    let files = match order_of(&state, &schema).filter(|_| added <= SORTED_ROWS_MAX) {
        Some(order) => encode(&in_order(&rows, &schema, &order)?, &schema, version, order)?,
        None => encode(&rows, &schema, version, Vec::new())?,
    };
    Ok(Plan { files, schema, state, moment_ms })
}

/// Rows that a write sorts itself, where the table's files are sorted; more are left to the next rewrite.
const SORTED_ROWS_MAX: u64 = JOURNAL_DRAIN_ROWS_MAX as u64;

/// The order in which the table's files are kept, if they are kept in one.
fn order_of(state: &State, schema: &SchemaRef) -> Option<Vec<String>> {
    let mut orders = state.orders.values();
    let order = orders.next().filter(|order| order.first().is_some_and(|c| c != LOAD))?;
    let known = order.iter().all(|c| schema.column_with_name(c).is_some());
    (orders.next().is_none() && known).then(|| order.clone())
}

/// The rows sorted by these columns, each ascending with NULLs last.
fn in_order(rows: &[RecordBatch], schema: &SchemaRef, order: &[String]) -> Result<Vec<RecordBatch>> {
    let failed = |e| Fault::internal("sort rows").because(e);
    let all = concat_batches(schema, rows).map_err(failed)?;
    let options = Some(SortOptions { descending: false, nulls_first: false });
    let column = |name: &String| Some(SortColumn { values: all.column_by_name(name)?.clone(), options });
    let columns: Vec<SortColumn> = order.iter().filter_map(column).collect();
    let places = lexsort_to_indices(&columns, None).map_err(failed)?;
    Ok(vec![take_record_batch(&all, &places).map_err(failed)?])
}

/// Which versions are prefixes once this write has landed as `version`.
fn history_after(write: &TableWrite, rows: &[RecordBatch], before: Option<&Pinned>, version: u64) -> Option<History> {
    let overwrite = write.mode == WriteMode::Overwrite;
    let Some(before) = before else { return carries_system(write.system).then(|| History::new(version)) };
    let known = history_of(before);
    if !overwrite && rows.iter().all(|r| r.num_rows() == 0) {
        return known;
    }
    if !carries_system(write.system) {
        // These rows have no load to tell them by.
        return None;
    }
    let lowest = rows.iter().filter_map(|r| min(load_column(r)?)).min();
    if overwrite || lowest.is_some_and(|low| low <= before.state.last_load) {
        // An overwrite begins anew even where nothing was known.
        let mut history = known.or_else(|| overwrite.then(|| History::new(version)))?;
        history.broken(version);
        return Some(history);
    }
    known
}

/// What is known of the versions of a table as it stands. A table of format 1 whose files tell their loads begins to know here; one of format 2
/// that knows nothing has rows without a load.
pub fn history_of(table: &Pinned) -> Option<History> {
    if table.state.format > 1 {
        return table.state.history.clone();
    }
    let told = table.files.iter().all(|file| file.load_max.is_some());
    (table.has_system() && told).then(|| History::new(table.version))
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
                if [LOAD, ROW].iter().any(|c| batch.column_by_name(c).is_some_and(|column| column.null_count() > 0)) {
                    return Err(Fault::invalid(
                        Code::SCHEMA_MISMATCH,
                        format!("rows for table `{}` have no number: `{LOAD}` and `{ROW}` identify a row for ever", write.table),
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

fn encode(rows: &[RecordBatch], schema: &SchemaRef, version: u64, order: Vec<String>) -> Result<Vec<NewFile>> {
    let mut encoder = Encoder::new(schema.clone(), version, order);
    let mut files = Vec::new();
    for batch in rows {
        files.extend(encoder.push(batch)?);
    }
    files.extend(encoder.finish()?);
    Ok(files)
}

/// The mark of an order in the names of files.
pub fn mark(order: &[String]) -> String {
    let text = order.iter().map(|c| format!("{}:{c}", c.len())).collect::<String>();
    hex::encode(&Sha256::digest(text)[..4])
}

/// The mark in a file's name, if its rows are sorted.
pub fn mark_of(path: &str) -> Option<&str> {
    path.strip_suffix(".parquet")?.rsplit_once("-by-").map(|(_, mark)| mark)
}

/// The version a file was made for, by its name.
pub fn version_of(name: &str) -> Option<u64> {
    name.strip_prefix("part-")?.strip_suffix(".parquet")?.split('-').next()?.parse().ok()
}

/// Rows to files, each as large as a file may be.
pub struct Encoder {
    schema: SchemaRef,
    version: u64,
    order: Vec<String>,
    open: Option<OpenFile>,
    closed: usize,
}

impl Encoder {
    /// For a version. The rows come sorted by the columns of `order`; empty: in no order that anybody relies on.
    pub fn new(schema: SchemaRef, version: u64, order: Vec<String>) -> Encoder {
        Encoder { schema, version, order, open: None, closed: 0 }
    }
    /// Takes rows of the schema; gives the files they completed.
    pub fn push(&mut self, batch: &RecordBatch) -> Result<Vec<NewFile>> {
        let mut files = Vec::new();
        let mut from = 0;
        while from < batch.num_rows() {
            let mut file = match self.open.take() {
                Some(file) => file,
                None => OpenFile::new(&self.schema, &self.order)?,
            };
            let count = (batch.num_rows() - from).min(TABLE_FILE_ROWS_MAX - file.rows);
            file.add(&batch.slice(from, count))?;
            from += count;
            if file.rows == TABLE_FILE_ROWS_MAX {
                files.push(self.close(file)?);
            } else {
                self.open = Some(file);
            }
        }
        Ok(files)
    }
    /// The last file.
    pub fn finish(mut self) -> Result<Option<NewFile>> {
        self.open.take().map(|file| self.close(file)).transpose()
    }
    fn close(&mut self, file: OpenFile) -> Result<NewFile> {
        let number = self.closed;
        self.closed += 1;
        let sorted = if self.order.is_empty() { String::new() } else { format!("-by-{}", mark(&self.order)) };
        let (rows, bytes, stats) = file.close()?;
        let print = hex::encode(&Sha256::digest(&bytes)[..12]);
        Ok(NewFile { name: format!("part-{:012}-{number:04}-{print}{sorted}.parquet", self.version), bytes, stats, rows })
    }
}

struct OpenFile {
    writer: ArrowWriter<Vec<u8>>,
    rows: usize,
    loads: Option<(i64, i64)>,
}

impl OpenFile {
    fn new(schema: &SchemaRef, order: &[String]) -> Result<OpenFile> {
        let properties = WriterProperties::builder()
            .set_compression(Compression::SNAPPY)
            .set_max_row_group_row_count(Some(TABLE_ROW_GROUP_ROWS))
            .set_sorting_columns(sorting_columns(schema, order))
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
    /// Rows, bytes, statistics.
    fn close(self) -> Result<(usize, Vec<u8>, String)> {
        let bytes = self.writer.into_inner().map_err(encode_fault)?;
        let mut stats = serde_json::json!({ "numRecords": self.rows, "minValues": {}, "maxValues": {}, "nullCount": {} });
        if let Some((low, high)) = self.loads {
            stats["minValues"][LOAD] = low.into();
            stats["maxValues"][LOAD] = high.into();
        }
        Ok((self.rows, bytes, stats.to_string()))
    }
}

/// The order as Parquet says it; it counts leaves, so a table with nested columns says nothing.
fn sorting_columns(schema: &SchemaRef, order: &[String]) -> Option<Vec<SortingColumn>> {
    if order.is_empty() || schema.fields().iter().any(|f| f.data_type().is_nested()) {
        return None;
    }
    let column =
        |name: &String| Some(SortingColumn { column_idx: schema.index_of(name).ok()? as i32, descending: false, nulls_first: false });
    order.iter().map(column).collect()
}

fn encode_fault(error: parquet::errors::ParquetError) -> Fault {
    Fault::internal(format!("encode rows: {error}")).because(error)
}
