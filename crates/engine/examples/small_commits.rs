//! What thousands of small commits cost a table: written, opened, read, with its files left as they are and with them rewritten meanwhile.
//!
//! `small_commits [COMMITS] [ROWS]` prints a line for each. `cargo xtask bench small-commits` runs it in turn.

use arrow::array::{Float64Array, Int64Array, RecordBatch, TimestampMicrosecondArray};
use futures::StreamExt as _;
use gristmill_engine::LocalEngine;
use gristmill_kernel::Timestamp;
use gristmill_kernel::port::{Engine, TableUpkeep};
use gristmill_kernel::table::{Position, SystemColumns, TableName, TableWrite, WriteMode};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Commits between two looks for files to rewrite: what arrives in two seconds at four commits a second, rounded up.
const LOOK_EVERY: i64 = 10;

type Done<T = ()> = Result<T, Box<dyn std::error::Error>>;

fn rows(commit: i64, count: i64) -> Done<RecordBatch> {
    let number = |i: i64| commit * count + i;
    let columns: [(&str, arrow::array::ArrayRef); 3] = [
        ("id", Arc::new(Int64Array::from_iter_values((0..count).map(|i| number(i).wrapping_mul(0x9E37_79B9) % 1_000)))),
        ("at", Arc::new(TimestampMicrosecondArray::from_iter_values((0..count).map(number)).with_timezone("UTC"))),
        ("amount", Arc::new(Float64Array::from_iter_values((0..count).map(|i| number(i) as f64)))),
    ];
    Ok(RecordBatch::try_from_iter(columns)?)
}

fn percentile(times: &[Duration], part: f64) -> Duration {
    let mut times = times.to_vec();
    times.sort();
    times.get(((times.len().max(1) - 1) as f64 * part) as usize).copied().unwrap_or_default()
}

async fn read(engine: &LocalEngine, table: &TableName, after: i64) -> Done<(Duration, usize)> {
    let began = Instant::now();
    let mut stream = engine.scan(table, None, after).await?;
    let mut count = 0;
    while let Some(batch) = stream.next().await {
        count += batch?.num_rows();
    }
    Ok((began.elapsed(), count))
}

async fn measure(name: &str, commits: i64, count: i64, rewritten: bool) -> Done {
    let folder = tempfile::tempdir()?;
    let engine = LocalEngine::open(folder.path())?;
    let table = TableName::try_from("events".to_string())?;
    let cluster = ["id".to_string(), "at".to_string()];
    let (mut times, mut rewriting) = (Vec::new(), Duration::ZERO);
    for commit in 0..commits {
        let write = TableWrite {
            table: table.clone(),
            rows: vec![rows(commit, count)?],
            mode: WriteMode::Append,
            system: SystemColumns::Assign(Timestamp::from_micros(commit)),
            positions: vec![Position { stream: "journal".into(), offset: commit + 1 }],
            note: serde_json::Value::Null,
        };
        let began = Instant::now();
        engine.write(write).await?;
        times.push(began.elapsed());
        if rewritten && commit % LOOK_EVERY == 0 {
            let began = Instant::now();
            while engine.compact(&table, &cluster).await?.replaced > 0 {}
            rewriting += began.elapsed();
        }
    }
    let tenth = times.len().div_ceil(10);
    let layout = engine.layout(&table).await?.unwrap_or_default();
    let began = Instant::now();
    let again = LocalEngine::open(folder.path())?;
    again.table(&table).await?;
    let opened = began.elapsed();
    let (all, found) = read(&again, &table, 0).await?;
    let (newest, few) = read(&again, &table, commits - 1).await?;
    if (found as i64, few as i64) != (commits * count, count) {
        return Err(format!("{found} of {} rows were read, {few} of {count}", commits * count).into());
    }
    println!(
        "{name} {commits} commits of {count} rows: first p50 {:?}; last p50 {:?}; last p99 {:?}; rewriting took {:?}; files {}; open took {opened:?}; \
         read took {all:?}; newest took {newest:?}",
        percentile(&times[..tenth], 0.5),
        percentile(&times[times.len() - tenth..], 0.5),
        percentile(&times[times.len() - tenth..], 0.99),
        rewriting,
        layout.files,
    );
    Ok(())
}

#[tokio::main]
async fn main() -> Done {
    let arguments: Vec<String> = std::env::args().collect();
    let number = |at: usize, otherwise: i64| arguments.get(at).map_or(Ok(otherwise), |text| text.parse());
    let (commits, count) = (number(1, 10_000)?, number(2, 1)?);
    measure("left", commits, count, false).await?;
    measure("rewritten", commits, count, true).await
}
