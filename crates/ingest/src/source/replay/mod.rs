//! `replay://FILE?speed=60&from=2019-11-29`: plays the rows of a file by their event time, `speed` seconds of the file per second, into the journal.
//!
//! Rows before `from` are history: the stage loads them at once, as it would load a file, and the replay waits for them. It begins at that moment, so that
//! sources which are played together are played in step. Without `from` everything is played, beginning with the first row.
//!
//! Promise: each row arrives once. A row carries its number in the journal and, with the rows, in the table's position `replay`, or `history`; a replay that
//! is started again goes on behind the highest number it finds. The rows are played in the order of their time; rows without a time come first.

use crate::journal::{self, HISTORY_STREAM, REPLAY_STREAM};
use crate::schema::{ColumnType, Columns};
use crate::source::file::json::Object;
use crate::source::{Origin, file, http};
use crate::spec::SourceSpec;
use arrow::array::{Array, AsArray, RecordBatch};
use arrow::compute::{concat_batches, take};
use arrow::datatypes::TimestampMicrosecondType;
use base64::Engine as _;
use gristmill_kernel::error::{Code, Fault, Result};
use gristmill_kernel::limits::{INGEST_ROWS_MAX, JOURNAL_ROWS_MAX};
use gristmill_kernel::port::Ports;
use gristmill_kernel::stage::CancelFlag;
use gristmill_kernel::table::TableName;
use gristmill_kernel::{Address, AssetKind, StageContext, Timestamp};
use serde_json::Value;
use std::time::Duration;

/// How often the replay looks which rows are due.
const TICK: Duration = Duration::from_millis(100);

/// Reads `replay://FILE?speed=60`.
pub(super) fn read_url(rest: &str, spec: &SourceSpec) -> Result<Origin> {
    let bad = |what: String| {
        Err(Fault::invalid(Code::BAD_VALUE, format!("sources.{}: {what}", spec.name))
            .fix("write it like replay://data/invoices.parquet?speed=60, or with &from=2011-09-01 for what is history"))
    };
    let rest = rest.strip_prefix("//").unwrap_or(rest);
    let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (mut speed, mut from) = (1.0, None);
    for pair in query.split('&').filter(|p| !p.is_empty()) {
        match pair.split_once('=') {
            Some(("speed", value)) => match value.parse::<f64>() {
                Ok(value) if value > 0.0 && value.is_finite() => speed = value,
                _ => return bad(format!("`{value}` is not a speed")),
            },
            Some(("from", value)) => match value.parse::<Timestamp>() {
                Ok(value) => from = Some(value),
                Err(fault) => return bad(fault.message),
            },
            _ => return bad(format!("`{pair}` is not a setting of a replay; there are `speed` and `from`")),
        }
    }
    if path.is_empty() || path.contains(['*', '[']) {
        return bad(format!("a replay plays one file, not `{path}`"));
    }
    if spec.time.is_none() {
        return bad("a replay needs the event time column, and the source has no `time`".into());
    }
    Ok(Origin::Replay { path: path.to_owned(), speed, from })
}

/// The rows of the file in the order of their time.
struct Tape {
    rows: RecordBatch,
    columns: Columns,
    time: usize,
}

/// Plays the source until its file ends or somebody asks to stop; returns how many rows it played. `speed` overrides the one in `from`.
pub async fn replay(cx: &StageContext, spec: &SourceSpec, speed: Option<f64>, stop: CancelFlag) -> Result<u64> {
    let Origin::Replay { path, speed: own, from } = Origin::of(spec)? else {
        return Err(Fault::invalid(Code::BAD_VALUE, format!("sources.{} is not a replay: it reads from `{}`", spec.name, spec.from))
            .fix("write from = \"replay://FILE?speed=60\""));
    };
    let speed = speed.filter(|s| *s > 0.0).unwrap_or(own);
    let table = TableName::of(&Address::new(AssetKind::Raw, spec.name.clone()));
    let tape = load(cx, spec, &path, &table).await?;
    let total = tape.rows.num_rows();
    let live = tape.before(from);
    let Some(begin) = behind_history(cx, spec, &table, live, &stop).await? else { return Ok(0) };
    let begin = begin.min(total);
    let moment = |row: usize| tape.moment(row).unwrap_or(i64::MIN);
    let first = match from {
        Some(from) if begin == live => from.micros(),
        _ => (begin..total).map(moment).find(|t| *t != i64::MIN).unwrap_or(0),
    };
    let started = cx.ports.clock.now();
    let mut next = begin;
    while next < total {
        if stop.check().is_err() || cx.cancel.check().is_err() {
            break;
        }
        let passed = cx.ports.clock.now().since(started).micros() as f64 * speed;
        let due = first.saturating_add(passed.min(i64::MAX as f64) as i64);
        let end = (next..total).take(INGEST_ROWS_MAX).find(|row| moment(*row) > due).unwrap_or_else(|| (next + INGEST_ROWS_MAX).min(total));
        if end > next && room(&cx.ports, spec, end - next).await? {
            let rows = (next..end).map(|row| tape.encode(row)).collect::<Result<Vec<_>>>()?;
            cx.ports.journal.append(&spec.name, cx.ports.clock.now(), rows, None).await?;
            next = end;
            cx.progress.at(next as u64, total as u64, "row");
        } else {
            tokio::time::sleep(TICK).await;
        }
    }
    Ok((next - begin) as u64)
}

/// The row to play next; `None` if somebody asks to stop before the history is there.
async fn behind_history(cx: &StageContext, spec: &SourceSpec, table: &TableName, live: usize, stop: &CancelFlag) -> Result<Option<usize>> {
    let mut told = false;
    loop {
        let next = next_row(&cx.ports, spec, table).await?;
        if next >= live {
            return Ok(Some(next));
        }
        if stop.check().is_err() || cx.cancel.check().is_err() {
            return Ok(None);
        }
        if !told {
            tracing::info!(source = %spec.name, rows = live, "the replay waits for its history, which gristmill apply loads");
            told = true;
        }
        tokio::time::sleep(TICK).await;
    }
}

/// Rows before `from` that are not in the table yet.
pub(crate) struct History {
    /// The rows.
    pub rows: RecordBatch,
    /// Their columns.
    pub columns: Columns,
    /// The number of the last of them, for the table's position.
    pub last: u64,
}

/// The history that is still to be loaded, if there is any.
pub(crate) async fn history(cx: &StageContext, spec: &SourceSpec, path: &str, from: Timestamp) -> Result<Option<History>> {
    let table = TableName::of(&Address::new(AssetKind::Raw, spec.name.clone()));
    let tape = load(cx, spec, path, &table).await?;
    let (next, live) = (next_row(&cx.ports, spec, &table).await?, tape.before(Some(from)));
    Ok((next < live).then(|| History { rows: tape.rows.slice(next, live - next), columns: tape.columns, last: live as u64 - 1 }))
}

async fn load(cx: &StageContext, spec: &SourceSpec, path: &str, table: &TableName) -> Result<Tape> {
    let (dir, source, path, cancel) = (cx.project_dir.clone(), spec.clone(), path.to_owned(), cx.cancel.clone());
    let known = http::known_columns(&cx.ports, spec, table).await?;
    let (batch, columns) = crate::run::blocking(move || {
        let files = file::list(&dir, &path, source.name.as_str())?;
        let columns = match known {
            Some(columns) => columns,
            None => Columns::new(file::infer(&files, &cancel)?, &path)?.with_time(&source, &path)?,
        };
        let batches = file::open(&files[0], &columns, &cancel, &Default::default())?.collect::<Result<Vec<_>>>()?;
        let all =
            concat_batches(&columns.schema(), &batches).map_err(|e| Fault::internal("rows of a file do not fit together").because(e))?;
        Ok((all, columns))
    })
    .await?;
    let columns = match cx.ports.engine.table(table).await? {
        Some(_) => columns,
        None => http::make_table(&cx.ports, table, &columns).await?,
    };
    let time = spec.time.as_deref().and_then(|t| columns.position(t)).ok_or_else(|| Fault::internal("a replay without time"))?;
    let sorted = |e| Fault::internal("rows cannot be put in order").because(e);
    // Equal times keep the order of the file.
    let mut order: Vec<u32> = (0..batch.num_rows() as u32).collect();
    let times = batch.column(time).as_primitive::<TimestampMicrosecondType>();
    order.sort_by_key(|i| (times.is_valid(*i as usize).then(|| times.value(*i as usize)), *i));
    let order = arrow::array::UInt32Array::from(order);
    let arrays = batch.columns().iter().map(|c| take(c, &order, None)).collect::<Result<Vec<_>, _>>().map_err(sorted)?;
    let rows = RecordBatch::try_new(batch.schema(), arrays).map_err(sorted)?;
    Ok(Tape { rows, columns, time })
}

/// The number of the first row that has not arrived, from the table and from the journal.
async fn next_row(ports: &Ports, spec: &SourceSpec, table: &TableName) -> Result<usize> {
    let positions = ports.engine.table(table).await?.map(|info| info.positions).unwrap_or_default();
    let arrived = [REPLAY_STREAM, HISTORY_STREAM].iter().filter_map(|stream| positions.get(*stream));
    let mut last = arrived.filter_map(|n| u64::try_from(*n).ok()).max();
    let mut after = ports.journal.state(&spec.name).await?.forgotten;
    loop {
        let entries = ports.journal.read(&spec.name, after, 10_000).await?;
        let Some(end) = entries.last() else { return Ok(last.map_or(0, |row| row as usize + 1)) };
        after = end.offset;
        for entry in &entries {
            last = last.max(journal::decode_one(spec.name.as_str(), entry)?.1);
        }
    }
}

/// Whether the journal has room for so many rows more.
async fn room(ports: &Ports, spec: &SourceSpec, rows: usize) -> Result<bool> {
    let state = ports.journal.state(&spec.name).await?;
    Ok(state.last.saturating_sub(state.forgotten) + rows as u64 <= JOURNAL_ROWS_MAX)
}

impl Tape {
    fn moment(&self, row: usize) -> Option<i64> {
        let times = self.rows.column(self.time).as_primitive::<TimestampMicrosecondType>();
        times.is_valid(row).then(|| times.value(row))
    }

    /// How many rows come before a moment: those without a time do.
    fn before(&self, from: Option<Timestamp>) -> usize {
        let Some(from) = from else { return 0 };
        (0..self.rows.num_rows()).take_while(|row| self.moment(*row).is_none_or(|t| t < from.micros())).count()
    }

    fn encode(&self, row: usize) -> Result<bytes::Bytes> {
        let pairs =
            self.columns.iter().zip(self.rows.columns()).map(|((name, kind), array)| Ok((name.to_owned(), value(array, row, kind)?)));
        journal::encode(&Object(pairs.collect::<Result<_>>()?), &self.columns, Some(row as u64))
    }
}

/// A value as JSON, such that [`crate::cell::Cells::push_json`] reads the same value back.
fn value(array: &dyn Array, row: usize, kind: ColumnType) -> Result<Value> {
    if array.is_null(row) {
        return Ok(Value::Null);
    }
    let shown =
        || arrow::util::display::array_value_to_string(array, row).map_err(|e| Fault::internal("a value cannot be shown").because(e));
    Ok(match kind {
        ColumnType::Bool => array.as_boolean().value(row).into(),
        ColumnType::Int => array.as_primitive::<arrow::datatypes::Int64Type>().value(row).into(),
        ColumnType::Float => {
            let x = array.as_primitive::<arrow::datatypes::Float64Type>().value(row);
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
        ColumnType::Text => array.as_string::<i32>().value(row).into(),
        ColumnType::Time => Timestamp::from_micros(array.as_primitive::<TimestampMicrosecondType>().value(row)).to_string().into(),
        ColumnType::Binary => base64::engine::general_purpose::STANDARD.encode(array.as_binary::<i32>().value(row)).into(),
        ColumnType::Date | ColumnType::Decimal(..) => shown()?.into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cell::Cells;

    #[test]
    fn values_survive_the_journal() {
        for (kind, text) in [
            (ColumnType::Bool, "true"),
            (ColumnType::Int, "-9007199254740993"),
            (ColumnType::Float, "0.1"),
            (ColumnType::Float, "NaN"),
            (ColumnType::Float, "-inf"),
            (ColumnType::Text, "a \"b\" é"),
            (ColumnType::Time, "2011-09-01T12:00:00.000001Z"),
            (ColumnType::Date, "2011-09-01"),
            (ColumnType::Binary, "AAH/"),
            (ColumnType::Decimal(20, 3), "-123456789012345.678"),
        ] {
            let mut cells = Cells::new(kind);
            assert!(cells.push_text(text), "{kind} {text}");
            let array = cells.finish();
            let json = value(&array, 0, kind).expect("json");
            let mut again = Cells::new(kind);
            assert!(again.push_json(&json), "{kind} {json}");
            assert_eq!(&again.finish().to_data(), &array.to_data(), "{kind} {text}");
        }
    }
}
