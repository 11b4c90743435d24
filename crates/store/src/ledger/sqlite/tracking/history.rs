//! Histories of metrics: page by page, and thinned for charts.

use super::super::cells::at;
use super::log::parts;
use super::sql::Sql;
use crate::tracked::thin::Thinned;
use gristmill_kernel::tracking::{HistoryWanted, Page, Point};
use gristmill_kernel::{Result, RunId, Timestamp};
use sqlx::sqlite::{SqliteConnection, SqliteRow};
use std::collections::HashMap;
use std::ops::Range;

const COLUMNS: &str = "step, at, value, nan";

fn point_of(row: &SqliteRow, key: &str) -> Result<Point> {
    let table = "run_metrics";
    let nan = at::<i64>(row, 3, table, "nan")? != 0;
    Ok(Point {
        key: key.to_owned(),
        step: at(row, 0, table, "step")?,
        at: Timestamp::from_micros(at(row, 1, table, "at")?),
        value: if nan { f64::NAN } else { at(row, 2, table, "value")? },
        model: None,
        dataset: None,
    })
}

pub(super) async fn page(db: &mut SqliteConnection, id: &RunId, key: &str, wanted: HistoryWanted) -> Result<Page<Point>> {
    let limit = wanted.limit.map_or(-1, |limit| i64::try_from(limit).unwrap_or(i64::MAX - 1) + 1);
    let mut sql = Sql::new("SELECT ");
    sql.text(COLUMNS)
        .text(" FROM run_metrics WHERE run = (SELECT seq FROM runs WHERE experiment IS NOT NULL AND id = ")
        .value(id.0.as_str())
        .text(") AND name = ")
        .value(key)
        .text(" ORDER BY at, step, value, nan LIMIT ")
        .value(limit)
        .text(" OFFSET ")
        .value(i64::try_from(wanted.offset).unwrap_or(i64::MAX));
    let rows = sql.rows(db, "read a metric").await?;
    let mut items = rows.iter().map(|row| point_of(row, key)).collect::<Result<Vec<Point>>>()?;
    let more = wanted.limit.is_some_and(|limit| items.len() > limit);
    if let Some(limit) = wanted.limit {
        items.truncate(limit);
    }
    Ok(Page { items, more })
}

/// The condition that picks a metric's points of the asked steps.
fn within(sql: &mut Sql, key: &str, steps: Option<&Range<i64>>) {
    sql.text(" AND name = ").value(key);
    if let Some(steps) = steps {
        sql.text(" AND step >= ").value(steps.start).text(" AND step < ").value(steps.end);
    }
}

pub(super) async fn sampled(
    db: &mut SqliteConnection,
    runs: &[RunId],
    key: &str,
    steps: Option<Range<i64>>,
    limit: usize,
) -> Result<Vec<(RunId, Point)>> {
    let ids: Vec<&str> = runs.iter().map(|id| id.0.as_str()).collect();
    // Number and count of the runs that have the metric.
    let mut counted: HashMap<String, (i64, i64)> = HashMap::with_capacity(ids.len());
    for part in parts(&ids) {
        let mut sql = Sql::new("SELECT r.id, r.seq, (SELECT count(*) FROM run_metrics WHERE run = r.seq");
        within(&mut sql, key, steps.as_ref());
        sql.text(") FROM runs r WHERE r.experiment IS NOT NULL AND r.id IN ").list(part);
        for row in sql.rows(db, "count points").await? {
            counted.insert(at(&row, 0, "runs", "id")?, (at(&row, 1, "runs", "seq")?, at(&row, 2, "run_metrics", "count")?));
        }
    }
    let mut points = Vec::new();
    for id in runs {
        let Some(&(seq, count)) = counted.get(&id.0).filter(|(_, count)| *count > 0) else { continue };
        for row in shown(db, seq, key, steps.as_ref(), Thinned::new(count as u64, limit)).await? {
            points.push((id.clone(), point_of(&row, key)?));
        }
    }
    Ok(points)
}

/// The points at the positions to show. The key's own order numbers them, so nothing is sorted and only the shown ones are kept.
async fn shown(db: &mut SqliteConnection, seq: i64, key: &str, steps: Option<&Range<i64>>, thinned: Thinned) -> Result<Vec<SqliteRow>> {
    let mut sql = Sql::new("SELECT ");
    sql.text(COLUMNS);
    if thinned.count <= thinned.parts {
        sql.text(" FROM run_metrics WHERE run = ").value(seq);
        within(&mut sql, key, steps);
        sql.text(" ORDER BY step, at, value, nan");
        return sql.rows(db, "read a metric").await;
    }
    let (count, size, larger) = (thinned.count as i64, thinned.size as i64, thinned.larger as i64);
    let first_smaller = larger * (size + 1);
    let last_part = if thinned.parts > 1 { thinned.begin(thinned.parts - 1) as i64 } else { 0 };
    sql.text(" FROM (SELECT ")
        .text(COLUMNS)
        .text(", row_number() OVER (ORDER BY step, at, value, nan) - 1 AS place FROM run_metrics WHERE run = ");
    sql.value(seq);
    within(&mut sql, key, steps);
    sql.text(") AS numbered WHERE place = ").value(count - 1);
    sql.text(" OR (place < ").value(last_part);
    sql.text(" AND ((place < ").value(first_smaller).text(" AND place % ").value(size + 1).text(" = 0)");
    sql.text(" OR (place >= ")
        .value(first_smaller)
        .text(" AND (place - ")
        .value(first_smaller)
        .text(") % ")
        .value(size.max(1))
        .text(" = 0)))");
    sql.text(" ORDER BY step, at, value, nan");
    sql.rows(db, "read a metric").await
}
