//! The quarantine of a source: table `quarantine__NAME`.
//!
//! Columns: our own (`_load`, `_row` and `_loaded_at` of the raw row), `reason` (the conditions that failed, joined by `; `), `row` (the row as JSON) and
//! `state`. A row with state `open` waits; a second row with the same `(_load, _row)` and state `resolved` says that it was mended, and as what. Nothing is
//! ever taken out, so raw = accepted + quarantined holds at any time.

use crate::spec::ValidateSpec;
use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Int64Array, Int64Builder, RecordBatch, StringArray, StringBuilder, TimestampMicrosecondArray,
    TimestampMicrosecondBuilder,
};
use arrow::compute::filter_record_batch;
use arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, Field, Float64Type, Int64Type, Schema, SchemaRef, TimeUnit, TimestampMicrosecondType,
};
use bytes::Bytes;
use futures::StreamExt as _;
use gristmill_kernel::error::{Code, Fault, Kind, Result};
use gristmill_kernel::limits::{INGEST_ROWS_MAX, JOURNAL_ROWS_MAX};
use gristmill_kernel::port::Ports;
use gristmill_kernel::table::{LOAD, LOADED_AT, Position, ROW, SYSTEM_COLUMNS, SystemColumns, TableName, TableWrite, WriteMode};
use gristmill_kernel::{Address, AssetKind, Digest, Name, Timestamp};
use serde_json::{Map, Value};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

const OPEN: &str = "open";
const RESOLVED: &str = "resolved";
/// The stream of resolutions: the journal offset under which the mended rows went in.
const RESOLVE: &str = "resolve";

/// Identifies a raw row.
pub(crate) type Key = (i64, i64);

/// A row that waits in the quarantine.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct QuarantinedRow {
    /// The raw load.
    #[serde(rename = "_load")]
    pub load: i64,
    /// The row in it.
    #[serde(rename = "_row")]
    pub row: i64,
    /// When it came.
    pub loaded_at: Timestamp,
    /// The conditions that failed.
    pub reason: String,
    /// The row.
    pub content: Value,
}

/// What sending mended rows back did.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Replayed {
    /// How many rows went in again.
    pub rows: u64,
    /// The journal's offset of the last.
    pub offset: u64,
    /// Whether this was a repetition.
    pub duplicate: bool,
}

/// The schema of a quarantine table.
pub(crate) fn schema() -> SchemaRef {
    let utc = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
    Arc::new(Schema::new(vec![
        Field::new("reason", DataType::Utf8, true),
        Field::new("row", DataType::Utf8, true),
        Field::new("state", DataType::Utf8, true),
        Field::new(LOAD, DataType::Int64, true),
        Field::new(ROW, DataType::Int64, true),
        Field::new(LOADED_AT, utc, true),
    ]))
}

/// The failing rows of a batch as rows of the quarantine.
pub(crate) fn quarantine(batch: &RecordBatch, accepted: &[bool], reasons: Vec<String>) -> Result<RecordBatch> {
    let failing: BooleanArray = accepted.iter().map(|a| Some(!a)).collect();
    let failing = filter_record_batch(batch, &failing).map_err(internal)?;
    let own: Vec<(String, ArrayRef)> = own_columns(&failing);
    let rows = (0..failing.num_rows()).map(|row| Ok(row_json(&own, row)?.to_string())).collect::<Result<Vec<String>>>()?;
    let states = vec![OPEN; rows.len()];
    let system = |name: &str| failing.column_by_name(name).cloned().ok_or_else(|| Fault::internal(format!("raw rows lack `{name}`")));
    let columns: Vec<ArrayRef> = vec![
        Arc::new(StringArray::from(reasons)),
        Arc::new(StringArray::from(rows)),
        Arc::new(StringArray::from(states)),
        system(LOAD)?,
        system(ROW)?,
        system(LOADED_AT)?,
    ];
    RecordBatch::try_new(schema(), columns).map_err(internal)
}

fn internal(e: arrow::error::ArrowError) -> Fault {
    Fault::internal(format!("rows cannot be put together: {e}")).because(e)
}

fn own_columns(batch: &RecordBatch) -> Vec<(String, ArrayRef)> {
    let schema = batch.schema();
    let named = schema.fields().iter().map(|f| f.name().clone()).zip(batch.columns().iter().cloned());
    named.filter(|(name, _)| !SYSTEM_COLUMNS.contains(&name.as_str())).collect()
}

/// A row as the JSON in which rows are pushed: NULLs left out, moments in RFC 3339.
fn row_json(columns: &[(String, ArrayRef)], row: usize) -> Result<Value> {
    let mut object = Map::new();
    for (name, array) in columns.iter().filter(|(_, a)| a.is_valid(row)) {
        object.insert(name.clone(), cell_json(array, row)?);
    }
    Ok(Value::Object(object))
}

fn cell_json(array: &ArrayRef, row: usize) -> Result<Value> {
    Ok(match array.data_type() {
        DataType::Boolean => array.as_boolean().value(row).into(),
        DataType::Int64 => array.as_primitive::<Int64Type>().value(row).into(),
        DataType::Float64 => {
            let x = array.as_primitive::<Float64Type>().value(row);
            serde_json::Number::from_f64(x).map_or_else(
                || {
                    Value::from(if x.is_nan() {
                        "NaN"
                    } else if x > 0.0 {
                        "inf"
                    } else {
                        "-inf"
                    })
                },
                Value::Number,
            )
        }
        DataType::Utf8 => array.as_string::<i32>().value(row).into(),
        DataType::Timestamp(_, _) => Timestamp::from_micros(array.as_primitive::<TimestampMicrosecondType>().value(row)).to_string().into(),
        DataType::Date32 => {
            let days = i64::from(array.as_primitive::<Date32Type>().value(row));
            let text = Timestamp::from_micros(days * 86_400_000_000).to_string();
            text.split('T').next().unwrap_or_default().into()
        }
        DataType::Decimal128(_, _) => array.as_primitive::<Decimal128Type>().value_as_string(row).into(),
        DataType::Binary => base64(array.as_binary::<i32>().value(row)).into(),
        other => return Err(Fault::internal(format!("a raw column has type {other}"))),
    })
}

fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let group = chunk.iter().fold(0u32, |n, b| n << 8 | u32::from(*b)) << (8 * (3 - chunk.len()));
        for place in 0..4 {
            let letter = LETTERS[(group >> (18 - 6 * place) & 63) as usize] as char;
            out.push(if place <= chunk.len() { letter } else { '=' });
        }
    }
    out
}

/// What the quarantine of a source holds.
#[derive(Default)]
pub(crate) struct Contents {
    /// Rows that were put in.
    pub(crate) open: Vec<QuarantinedRow>,
    /// Those of them that were mended, and as what.
    pub(crate) resolved: BTreeMap<Key, (Timestamp, String)>,
}

pub(crate) fn table_of(source: &Name) -> TableName {
    TableName::of(&Address::new(AssetKind::Quarantine, source.clone()))
}

/// Reads the quarantine of a source.
pub(crate) async fn contents(ports: &Ports, source: &Name) -> Result<Contents> {
    let table = table_of(source);
    let mut contents = Contents::default();
    if ports.engine.table(&table).await?.is_none() {
        return Ok(contents);
    }
    let mut batches = ports.engine.scan(&table, None, 0).await?;
    while let Some(batch) = batches.next().await {
        contents.see(&batch?, &table)?;
    }
    Ok(contents)
}

impl Contents {
    fn see(&mut self, batch: &RecordBatch, table: &TableName) -> Result<()> {
        let column =
            |name: &str| batch.column_by_name(name).ok_or_else(|| Fault::damaged(format!("table {table} lacks its column `{name}`")));
        let (loads, rows) = (column(LOAD)?.as_primitive::<Int64Type>(), column(ROW)?.as_primitive::<Int64Type>());
        let times = column(LOADED_AT)?.as_primitive::<TimestampMicrosecondType>();
        let (reasons, contents, states) =
            (column("reason")?.as_string::<i32>(), column("row")?.as_string::<i32>(), column("state")?.as_string::<i32>());
        for i in 0..batch.num_rows() {
            let (load, row, loaded_at) = (loads.value(i), rows.value(i), Timestamp::from_micros(times.value(i)));
            if states.value(i) == RESOLVED {
                self.resolved.insert((load, row), (loaded_at, contents.value(i).to_owned()));
                continue;
            }
            let content = serde_json::from_str(contents.value(i))
                .map_err(|e| Fault::damaged(format!("row ({load}, {row}) of table {table} is no JSON: {e}")))?;
            self.open.push(QuarantinedRow { load, row, loaded_at, reason: reasons.value(i).to_owned(), content });
        }
        Ok(())
    }
}

/// Rows that say which keys are resolved.
pub(crate) fn resolutions<'a>(rows: impl Iterator<Item = (Key, Timestamp, &'a str)>) -> Result<RecordBatch> {
    let (mut loads, mut numbers) = (Int64Builder::new(), Int64Builder::new());
    let (mut times, mut contents) = (TimestampMicrosecondBuilder::new(), StringBuilder::new());
    for ((load, row), at, content) in rows {
        loads.append_value(load);
        numbers.append_value(row);
        times.append_value(at.micros());
        contents.append_value(content);
    }
    let contents = contents.finish();
    let word = |word: &str| Arc::new(StringArray::from(vec![word; contents.len()])) as ArrayRef;
    let times: TimestampMicrosecondArray = times.finish().with_timezone("UTC");
    let columns: Vec<ArrayRef> = vec![
        word("mended"),
        Arc::new(contents.clone()),
        word(RESOLVED),
        Arc::new(loads.finish() as Int64Array),
        Arc::new(numbers.finish() as Int64Array),
        Arc::new(times),
    ];
    RecordBatch::try_new(schema(), columns).map_err(internal)
}

/// The rows of a source that wait in its quarantine, oldest first, at most `limit`.
pub async fn quarantined(ports: &Ports, source: &Name, limit: usize) -> Result<Vec<QuarantinedRow>> {
    let Contents { open, resolved } = contents(ports, source).await?;
    Ok(open.into_iter().filter(|r| !resolved.contains_key(&(r.load, r.row))).take(limit).collect())
}

/// Sends mended rows back: JSON lines, each with the `_load` and `_row` of the quarantined row it mends and the columns as they should be. They come in as
/// new raw rows through the journal; the quarantined rows are marked resolved. All of them or none; the same lines again change nothing.
pub async fn replay(ports: &Ports, spec: &ValidateSpec, lines: &str) -> Result<Replayed> {
    let source = &spec.source;
    if spec.time.is_none() {
        return Err(Fault::conflict(
            Code::BAD_VALUE,
            format!("sources.{source} is a snapshot (it has no `time`): single rows cannot be added to it"),
        )
        .fix("mend the rows in the source itself; the next load takes all of it"));
    }
    let raw = TableName::of(&Address::new(AssetKind::Raw, source.clone()));
    let info = ports
        .engine
        .table(&raw)
        .await?
        .ok_or_else(|| Fault::not_found(Code::UNKNOWN_SOURCE, format!("sources.{source} has no rows yet")))?;
    let mended = read_lines(lines, &info.schema)?;
    let key = format!("quarantine:{}", Digest::of(lines).hex());
    let Contents { open, resolved } = contents(ports, source).await?;
    let open: BTreeSet<Key> = open.iter().map(|r| (r.load, r.row)).collect();
    for (number, (at, content)) in mended.iter().enumerate() {
        let content = content.to_string();
        let before = resolved.get(at);
        if !open.contains(at) || before.is_some_and(|(_, as_what)| *as_what != content) {
            let why = if before.is_some() { "has been mended already" } else { "is not in the quarantine" };
            return Err(Fault::conflict(Code::BAD_ROW, format!("line {}: row ({}, {}) of sources.{source} {why}", number + 1, at.0, at.1))
                .fix("list the rows that wait and take `_load` and `_row` from there; nothing was sent"));
        }
    }
    let state = ports.journal.state(source).await?;
    if state.last.saturating_sub(state.forgotten) + mended.len() as u64 > JOURNAL_ROWS_MAX {
        return Err(Fault::new(Kind::Busy, Code::OVERLOADED, format!("the journal of sources.{source} is full"))
            .fix(format!("empty it with gristmill run raw.{source}")));
    }
    let now = ports.clock.now();
    let rows = mended.iter().map(|(_, content)| Bytes::from(content.to_string())).collect();
    let (offset, fresh) = ports.journal.append(source, now, rows, Some(&key)).await?;
    let texts: Vec<(Key, String)> = mended.into_iter().map(|(at, content)| (at, content.to_string())).collect();
    let write = TableWrite {
        table: table_of(source),
        rows: vec![resolutions(texts.iter().map(|(at, text)| (*at, now, text.as_str())))?],
        mode: WriteMode::Append,
        system: SystemColumns::Keep,
        positions: vec![Position { stream: RESOLVE.into(), offset: offset as i64 }],
        note: Value::Null,
    };
    ports.engine.write(write).await?;
    Ok(Replayed { rows: texts.len() as u64, offset, duplicate: !fresh })
}

fn read_lines(lines: &str, schema: &Schema) -> Result<Vec<(Key, Value)>> {
    let mut rows = Vec::new();
    let mut seen = BTreeSet::new();
    for (number, line) in lines.lines().enumerate().filter(|(_, l)| !l.trim().is_empty()) {
        let number = number + 1;
        let bad = |code, what: String, fix: &str| {
            Err(Fault::invalid(code, format!("line {number}: {what}")).fix(format!("{fix}; nothing was sent")))
        };
        let Ok(Value::Object(mut row)) = serde_json::from_str::<Value>(line) else {
            return bad(Code::BAD_BODY, "this is no JSON object".into(), "write one object per line");
        };
        let (Some(load), Some(at)) = (row.remove(LOAD).and_then(|v| v.as_i64()), row.remove(ROW).and_then(|v| v.as_i64())) else {
            return bad(Code::BAD_ROW, "the row does not say which row it mends".into(), "keep `_load` and `_row` as they were listed");
        };
        if !seen.insert((load, at)) {
            return bad(Code::BAD_ROW, format!("row ({load}, {at}) is mended twice"), "leave one of the two lines");
        }
        row.retain(|_, value| !value.is_null());
        for (name, value) in &row {
            let Ok(field) = schema.field_with_name(name) else {
                let names: Vec<_> = schema.fields().iter().map(|f| f.name().as_str()).collect();
                return bad(
                    Code::SCHEMA_MISMATCH,
                    format!("there is no column `{name}`"),
                    &format!("the columns are {}", names.join(", ")),
                );
            };
            if !fits(value, field.data_type()) {
                return bad(
                    Code::WRONG_TYPE,
                    format!("column `{name}` is `{value}`, expected {}", field.data_type()),
                    "write a value of that type, or null",
                );
            }
        }
        rows.push(((load, at), Value::Object(row)));
        if rows.len() > INGEST_ROWS_MAX {
            return bad(Code::BODY_TOO_LARGE, format!("more than {INGEST_ROWS_MAX} rows at once"), "send them in parts");
        }
    }
    if rows.is_empty() {
        return Err(
            Fault::invalid(Code::BAD_BODY, "there are no rows to send").fix("give one JSON object per line, with `_load` and `_row`")
        );
    }
    Ok(rows)
}

fn fits(value: &Value, kind: &DataType) -> bool {
    match (kind, value) {
        (DataType::Boolean, Value::Bool(_)) => true,
        (DataType::Int64, Value::Number(n)) => n.is_i64(),
        (DataType::Float64, Value::Number(_)) => true,
        (DataType::Float64, Value::String(s)) => matches!(s.as_str(), "NaN" | "inf" | "-inf"),
        (DataType::Utf8, Value::String(_)) => true,
        (DataType::Timestamp(_, _), Value::String(s)) => s.parse::<Timestamp>().is_ok(),
        (DataType::Date32, Value::String(s)) => s.len() == 10 && s.parse::<Timestamp>().is_ok(),
        (DataType::Decimal128(_, _), Value::String(s)) => s.parse::<f64>().is_ok_and(f64::is_finite) && !s.contains(['e', 'E']),
        (DataType::Binary, Value::String(s)) => s.len().is_multiple_of(4),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_written_as_base64() {
        for (bytes, text) in [(&b""[..], ""), (b"f", "Zg=="), (b"fo", "Zm8="), (b"foo", "Zm9v"), (b"\x00\x01\xff", "AAH/")] {
            assert_eq!(base64(bytes), text);
        }
    }

    #[test]
    fn lines_are_checked_before_anything_is_sent() {
        let schema = Schema::new(vec![Field::new("n", DataType::Int64, true), Field::new("s", DataType::Utf8, true)]);
        let good = read_lines("{\"_load\":1,\"_row\":2,\"n\":3,\"s\":null}\n\n", &schema).expect("good");
        assert_eq!(good, [((1, 2), serde_json::json!({"n": 3}))]);
        for (bad, code) in [
            ("", Code::BAD_BODY),
            ("[1]", Code::BAD_BODY),
            ("{\"n\":1}", Code::BAD_ROW),
            ("{\"_load\":1,\"_row\":2}\n{\"_load\":1,\"_row\":2}", Code::BAD_ROW),
            ("{\"_load\":1,\"_row\":2,\"x\":1}", Code::SCHEMA_MISMATCH),
            ("{\"_load\":1,\"_row\":2,\"n\":\"1\"}", Code::WRONG_TYPE),
        ] {
            let fault = read_lines(bad, &schema).expect_err(bad);
            assert!(fault.code == code && fault.fix.is_some(), "{fault}");
        }
    }
}
