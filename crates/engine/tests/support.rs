//! An engine in a temporary folder, and rows written shortly.

use arrow::array::{ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, TimeUnit};
use futures::StreamExt;
use gristmill_engine::LocalEngine;
use gristmill_kernel::port::Engine;
use gristmill_kernel::table::{Catalog, Position, SystemColumns, TableName, TableWrite, WriteMode};
use gristmill_kernel::view::{Ties, ViewAt, ViewDef};
use gristmill_kernel::{Name, Result, Timestamp};
use std::sync::Arc;

pub struct Bench {
    pub engine: LocalEngine,
    pub folder: tempfile::TempDir,
}

pub fn bench() -> Bench {
    let folder = tempfile::tempdir().unwrap();
    Bench { engine: LocalEngine::open(&folder.path().join("tables")).unwrap(), folder }
}

pub fn table(name: &str) -> TableName {
    TableName::try_from(name.to_string()).unwrap()
}

pub fn moment_type() -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))
}

pub fn texts(values: &[Option<&str>]) -> ArrayRef {
    Arc::new(values.iter().copied().collect::<StringArray>())
}
pub fn ints(values: &[Option<i64>]) -> ArrayRef {
    Arc::new(values.iter().copied().collect::<Int64Array>())
}
pub fn floats(values: &[Option<f64>]) -> ArrayRef {
    Arc::new(values.iter().copied().collect::<Float64Array>())
}
pub fn moments(values: &[Option<i64>]) -> ArrayRef {
    Arc::new(values.iter().copied().collect::<TimestampMicrosecondArray>().with_timezone("UTC"))
}
pub fn batch(columns: Vec<(&str, ArrayRef)>) -> RecordBatch {
    RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(n, c)| (n, c, true))).unwrap()
}

pub fn write(name: &str, rows: Vec<RecordBatch>, mode: WriteMode, system: SystemColumns, positions: &[(&str, i64)]) -> TableWrite {
    TableWrite {
        table: table(name),
        rows,
        mode,
        system,
        positions: positions.iter().map(|(stream, offset)| Position { stream: (*stream).into(), offset: *offset }).collect(),
        note: serde_json::Value::Null,
    }
}

pub fn at(micros: i64) -> SystemColumns {
    SystemColumns::Assign(Timestamp::from_micros(micros))
}

pub async fn query(engine: &LocalEngine, sql: &str, catalog: &Catalog) -> Result<Vec<RecordBatch>> {
    let mut stream = engine.query(sql, catalog, false).await?;
    let mut all = Vec::new();
    while let Some(rows) = stream.next().await {
        all.push(rows?);
    }
    Ok(all)
}

pub async fn scan(engine: &LocalEngine, name: &str, version: Option<u64>, after: i64) -> Vec<RecordBatch> {
    engine.scan(&table(name), version, after).await.unwrap().map(|b| b.unwrap()).collect().await
}

pub fn view(sql: &str, entity: &[&str], at: ViewAt, ties: Ties) -> ViewDef {
    ViewDef {
        name: Name::new("tested").unwrap(),
        entity: entity.iter().map(|e| (*e).to_string()).collect(),
        at,
        online: true,
        request: Default::default(),
        ties,
        sql: sql.into(),
        file: "features/tested.sql".into(),
        line_offset: 3,
    }
}
