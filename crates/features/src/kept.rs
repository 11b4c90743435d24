//! Kept rows: how the rows of a source are encoded in the online store, and how a slot follows its table.
//!
//! A slot belongs to one table and one list of key columns. A value is the whole row, our own columns included, in
//! arrow's row format; the format is that of one arrow version, so the version is part of the slot's layout and an upgrade
//! rebuilds the slot from its table.
//!
//! A slot keeps as much history as the view that looks back farthest needs; what is older is forgotten by itself
//! ([`OnlineFeatures::expire`](crate::OnlineFeatures::expire)). A view that comes later and looks back farther brings back what was forgotten. A slot does not shrink
//! when such a view goes: it may be in use by a model that was trained on it.

use crate::plan::{bug, cast_column};
use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::compute::concat_batches;
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef, TimestampMicrosecondType};
use arrow::row::{RowConverter, SortField};
use bytes::Bytes;
use futures::TryStreamExt as _;
use gristmill_kernel::port::{KeptRows, OnlineRow, Ports, SlotState, widest};
use gristmill_kernel::stage::StageContext;
use gristmill_kernel::table::{LOAD, LOADED_AT, ROW, TableInfo, TableName};
use gristmill_kernel::{Digest, Fault, Result, Span, Timestamp};
use std::sync::{Arc, OnceLock};

/// The row format of this arrow version.
const ROW_FORMAT: &str = "arrow59";

/// One slot: which rows it keeps and how they are encoded.
#[derive(Debug, Clone)]
pub struct Slot {
    /// Its name in the online store.
    pub name: String,
    /// Identifies the meaning of its bytes.
    pub layout: String,
    /// The table it follows.
    pub table: TableName,
    /// The key columns.
    pub key: Vec<String>,
    /// The event time column; for a snapshot the load's moment.
    pub time: String,
    /// How far back from now its rows are needed; `None`: all of them.
    pub window: Option<Span>,
    /// The user's columns and our own.
    pub schema: SchemaRef,
    /// How keys and rows become bytes, made when first needed.
    codecs: Arc<(OnceLock<RowConverter>, OnceLock<RowConverter>)>,
}

impl Slot {
    /// The slot of a table for kept rows.
    pub fn new(table: TableName, kept: &KeptRows, user_schema: &SchemaRef) -> Slot {
        let mut fields: Vec<Field> = user_schema.fields().iter().map(|f| f.as_ref().clone().with_nullable(true)).collect();
        fields.push(Field::new(LOAD, DataType::Int64, true));
        fields.push(Field::new(ROW, DataType::Int64, true));
        fields.push(Field::new(LOADED_AT, crate::plan::moment_type(), true));
        let schema = Arc::new(Schema::new(fields));
        let name = format!("{table}/{}", kept.key.join(","));
        let time = kept.time.clone().unwrap_or_else(|| LOADED_AT.to_owned());
        let columns: Vec<String> = schema.fields().iter().map(|f| format!("{}:{}", f.name(), f.data_type())).collect();
        let layout = Digest::of(format!("{ROW_FORMAT} {name} {time} {}", columns.join(","))).short();
        // A snapshot's older loads are history: which one counts is the plan's business.
        let window = kept.time.as_ref().and(kept.window);
        Slot { name, layout, table, key: kept.key.clone(), time, window, schema, codecs: Arc::default() }
    }

    /// The types of the key columns.
    pub fn key_types(&self) -> Result<Vec<DataType>> {
        self.key.iter().map(|k| Ok(self.schema.field_with_name(k).map_err(bug)?.data_type().clone())).collect()
    }

    /// The encoded key of each row; `None` where a part is NULL. A slot without key columns keeps everything under one key.
    pub fn keys(&self, rows: &RecordBatch, columns: &[String]) -> Result<Vec<Option<Bytes>>> {
        if self.key.is_empty() {
            return Ok(vec![Some(Bytes::new()); rows.num_rows()]);
        }
        let types = self.key_types()?;
        let columns = columns.iter().zip(&types).map(|(name, to)| cast_column(rows, name, to)).collect::<Result<Vec<ArrayRef>>>()?;
        let encoded = made(&self.codecs.0, || types)?.convert_columns(&columns).map_err(bug)?;
        Ok((0..rows.num_rows())
            .map(|i| columns.iter().all(|c| c.is_valid(i)).then(|| Bytes::copy_from_slice(encoded.row(i).as_ref())))
            .collect())
    }

    /// Encodes table rows. Rows without key or time are never asked for and are left out.
    pub fn encode(&self, rows: &RecordBatch) -> Result<Vec<OnlineRow>> {
        let columns = self.schema.fields().iter().map(|f| cast_column(rows, f.name(), f.data_type())).collect::<Result<Vec<ArrayRef>>>()?;
        let whole = RecordBatch::try_new(self.schema.clone(), columns).map_err(bug)?;
        let keys = self.keys(&whole, &self.key)?;
        let values = self.converter()?.convert_columns(whole.columns()).map_err(bug)?;
        let column = |name: &str| whole.column_by_name(name).cloned().ok_or_else(|| Fault::internal(format!("kept rows lack `{name}`")));
        let (time, load, row) = (column(&self.time)?, column(LOAD)?, column(ROW)?);
        let time = arrow::compute::cast(&time, &crate::plan::moment_type()).map_err(bug)?;
        let (time, load, row) =
            (time.as_primitive::<TimestampMicrosecondType>(), load.as_primitive::<Int64Type>(), row.as_primitive::<Int64Type>());
        Ok(keys
            .into_iter()
            .enumerate()
            .filter(|(i, _)| time.is_valid(*i))
            .filter_map(|(i, key)| {
                Some(OnlineRow {
                    key: key?,
                    at: Timestamp::from_micros(time.value(i)),
                    load: load.value(i),
                    row: row.value(i),
                    value: Bytes::copy_from_slice(values.row(i).as_ref()),
                })
            })
            .collect())
    }

    /// The rows behind values that [`Slot::encode`] made.
    pub fn decode<'a>(&self, values: impl IntoIterator<Item = &'a Bytes>) -> Result<RecordBatch> {
        let converter = self.converter()?;
        let parser = converter.parser();
        let values: Vec<&Bytes> = values.into_iter().collect();
        let columns = converter.convert_rows(values.iter().map(|v| parser.parse(v))).map_err(bug)?;
        RecordBatch::try_new(self.schema.clone(), columns).map_err(bug)
    }

    fn converter(&self) -> Result<&RowConverter> {
        made(&self.codecs.1, || self.schema.fields().iter().map(|f| f.data_type().clone()).collect())
    }
}

fn made(kept: &OnceLock<RowConverter>, types: impl FnOnce() -> Vec<DataType>) -> Result<&RowConverter> {
    if let Some(converter) = kept.get() {
        return Ok(converter);
    }
    let converter = RowConverter::new(types().into_iter().map(SortField::new).collect()).map_err(bug)?;
    Ok(kept.get_or_init(|| converter))
}

/// Brings a slot up to the given version of its table. Returns how many rows were applied.
pub async fn follow(ports: &Ports, cx: Option<&StageContext>, slot: &Slot, info: &TableInfo, version: u64) -> Result<u64> {
    let state = ports.online.state(&slot.name).await?;
    let start = match state {
        Some(state) if state.layout == slot.layout && state.generation == info.generation => widened(ports, slot, state).await?,
        found => {
            let mut window = slot.window;
            if let Some(found) = found {
                tracing::info!(slot = %slot.name, "the table or its layout changed; kept rows are rebuilt");
                ports.online.clear(&slot.name).await?;
                window = widest(window, found.window);
            }
            SlotState { layout: slot.layout.clone(), generation: info.generation, load: 0, window, kept_from: None }
        }
    };
    if start.load >= info.last_load {
        return Ok(0);
    }
    let mut rows = ports.engine.scan(&slot.table, Some(version), start.load).await?;
    let mut applied = 0;
    while let Some(batch) = rows.try_next().await? {
        if let Some(cx) = cx {
            cx.cancel.check()?;
        }
        let encoded = slot.encode(&batch)?;
        applied += encoded.len() as u64;
        // The state moves only when every row of the loads is in: until then a restart applies them again, which changes nothing.
        ports.online.write(&slot.name, encoded, &start).await?;
        if let Some(cx) = cx {
            cx.progress.at(applied, 0, "rows");
        }
    }
    ports.online.write(&slot.name, Vec::new(), &SlotState { load: info.last_load, ..start }).await?;
    Ok(applied)
}

/// The slot's state, once its window is wide enough. If rows were forgotten that it must have now, every load is applied again; until that is done
/// the slot answers nobody, because an answer of some of its rows would be wrong.
async fn widened(ports: &Ports, slot: &Slot, state: SlotState) -> Result<SlotState> {
    let window = widest(state.window, slot.window);
    if window == state.window {
        return Ok(state);
    }
    // The window first, so that nothing more is forgotten, and only then a look at what was. Cut off in between, everything is applied again.
    let again = SlotState { window, load: 0, ..state.clone() };
    ports.online.write(&slot.name, Vec::new(), &again).await?;
    let now = ports.online.state(&slot.name).await?.unwrap_or(again);
    if now.kept_from.is_some() {
        tracing::info!(slot = %slot.name, "a view looks back farther than rows were kept; they are brought back");
        return Ok(now);
    }
    let wider = SlotState { load: state.load, ..now };
    ports.online.write(&slot.name, Vec::new(), &wider).await?;
    Ok(wider)
}

/// The rows of many batches as one.
pub fn one_batch(schema: &SchemaRef, batches: &[RecordBatch]) -> Result<RecordBatch> {
    concat_batches(schema, batches).map_err(bug)
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{Float64Array, Int64Array, StringArray, TimestampMicrosecondArray};
    use gristmill_kernel::view::Ties;

    #[test]
    fn kept_rows_round_trip_to_the_bit() {
        let user = Arc::new(Schema::new(vec![
            Field::new("id", DataType::Int64, true),
            Field::new("at", crate::plan::moment_type(), true),
            Field::new("x", DataType::Float64, true),
            Field::new("w", DataType::Utf8, true),
        ]));
        let kept = KeptRows {
            table: "t".into(),
            key: vec!["id".into()],
            time: Some("at".into()),
            window: None,
            ties: Ties::Exclude,
            newest: false,
        };
        let slot = Slot::new(TableName::try_from("sources__t".to_owned()).unwrap(), &kept, &user);
        let times = |v: Vec<Option<i64>>| Arc::new(TimestampMicrosecondArray::from(v).with_timezone("UTC"));
        let rows = RecordBatch::try_new(
            slot.schema.clone(),
            vec![
                Arc::new(Int64Array::from(vec![Some(7), None, Some(-7)])),
                times(vec![Some(5), Some(6), Some(7)]),
                Arc::new(Float64Array::from(vec![Some(-0.0), Some(1.0), Some(0.1 + 0.2)])),
                Arc::new(StringArray::from(vec![None, Some("x"), Some("é")])),
                Arc::new(Int64Array::from(vec![1, 1, 1])),
                Arc::new(Int64Array::from(vec![0, 1, 2])),
                times(vec![Some(9), Some(9), Some(9)]),
            ],
        )
        .unwrap();
        let encoded = slot.encode(&rows).unwrap();
        assert_eq!(encoded.len(), 2, "a row without a key is never asked for");
        let decoded = slot.decode(encoded.iter().map(|r| &r.value)).unwrap();
        let x = decoded.column(2).as_primitive::<arrow::datatypes::Float64Type>();
        assert_eq!(x.value(0).to_bits(), (-0.0f64).to_bits());
        assert_eq!(x.value(1).to_bits(), (0.1f64 + 0.2).to_bits());
        let asked = RecordBatch::try_from_iter([("customer", Arc::new(StringArray::from(vec!["7"])) as ArrayRef)]).unwrap();
        assert_eq!(slot.keys(&asked, &["customer".into()]).unwrap()[0].as_ref(), Some(&encoded[0].key));
    }
}
