//! Runs and what hangs on them, read as one row of lists.
//!
//! Each row on its way from SQLite's thread may wake the one that waits for it, which costs more than the reading, and a page of 100 runs with
//! 50 metrics has thousands. So SQLite packs them all into one row: JSON lists, and the numbers of points as text between spaces.
//!
//! Values must come out bit by bit, and SQLite's text of a float does not promise that. So a value goes as a whole number: multiplied by a
//! power of two, which is exact, such that its last bit counts one ([`RUNGS`]). What is too large or too small for that is rare and read by
//! itself.

use super::super::cells::at;
use super::rows::Words;
use super::sql::Sql;
use gristmill_kernel::tracking::Point;
use gristmill_kernel::{Fault, Result, Timestamp};
use serde::de::DeserializeOwned;
use sqlx::sqlite::SqliteConnection;
use std::collections::{BTreeMap, HashMap};

fn damage(table: &str, run: i64, why: impl std::fmt::Display) -> Fault {
    Fault::damaged(format!("ledger table `{table}`, run {run}: {why}"))
        .fix("restore the ledger from a backup; `gristmill doctor` lists what is damaged")
}

/// The items of the one JSON list that a statement answers.
pub(super) async fn list<T: DeserializeOwned>(db: &mut SqliteConnection, sql: &Sql, table: &'static str) -> Result<Vec<T>> {
    let rows = sql.rows(db, "read a list").await?;
    let Some(row) = rows.first() else { return Ok(Vec::new()) };
    serde_json::from_str(at(row, 0, table, "list")?).map_err(|e| {
        Fault::damaged(format!("ledger table `{table}`: {e}"))
            .fix("restore the ledger from a backup; `gristmill doctor` lists what is damaged")
    })
}

/// Sizes of values: from `2^low` up to `2^(low + 10)`, told by a letter. Their 53 bits reach down to `2^(low - 52)`, so that times
/// `2^(52 - low)` they are whole and less than `2^62`. The usual sizes come first.
const RUNGS: [(char, i32); 6] = [('c', -10), ('d', 0), ('e', 10), ('b', -20), ('a', -30), ('f', 20)];
/// Stands for a value that is on no rung.
const ODD: &str = "x";

fn power(exponent: i32) -> f64 {
    2f64.powi(exponent)
}

/// A value that was packed; `None` if that is not one.
fn unpacked(text: &str) -> Option<f64> {
    match text {
        "n" | ODD => Some(f64::NAN),
        "z" => Some(0.0),
        _ => {
            let (_, low) = RUNGS.into_iter().find(|(letter, _)| text.starts_with(*letter))?;
            Some(text.get(1..)?.parse::<i64>().ok()? as f64 * power(low - 52))
        }
    }
}

/// The latest points of these runs' metrics, by name.
pub(super) async fn latest(db: &mut SqliteConnection, runs: &[i64], mut give: impl FnMut(i64, Vec<Point>)) -> Result<()> {
    let table = "run_metrics_latest";
    let mut sql = Sql::new("SELECT json_group_array(json_array(run, json(names), steps, moments, numbers)) FROM (");
    // Three lists, each joined by the aggregate itself: putting a point together first takes three times as long.
    sql.text("SELECT run, json_group_array(name) AS names, group_concat(step, ' ') AS steps, group_concat(at, ' ') AS moments, ");
    sql.text("group_concat(CASE");
    for (letter, low) in RUNGS {
        sql.text(" WHEN abs(value) >= ").value(power(low)).text(" AND abs(value) < ").value(power(low + 10));
        sql.text(&format!(" THEN '{letter}' || CAST(value * ")).value(power(52 - low)).text(" AS INTEGER)");
    }
    sql.text(&format!(" WHEN value = 0 THEN 'z' WHEN value IS NULL THEN 'n' ELSE '{ODD}' END, ' ') AS numbers FROM {table} WHERE run IN "));
    sql.list(runs.iter().copied()).text(" GROUP BY run) AS packed");
    let rows = list::<(i64, Vec<String>, String, String, String)>(db, &sql, table).await?;
    let mut odd: Option<HashMap<(i64, String), f64>> = None;
    for (run, names, steps, moments, numbers) in rows {
        let mut points = points(names, [&steps, &moments, &numbers]).ok_or_else(|| damage(table, run, "a number cannot be read"))?;
        if numbers.contains(ODD) {
            if odd.is_none() {
                odd = Some(odd_ones(db, runs).await?);
            }
            // Named so, not NaN: what is NaN is not among them.
            for point in points.iter_mut().filter(|p| p.value.is_nan()) {
                let found = odd.as_mut().and_then(|odd| odd.remove(&(run, point.key.clone())));
                point.value = found.unwrap_or(f64::NAN);
            }
        }
        // They come along the key; only that they belong together is promised.
        points.sort_by(|a, b| a.key.cmp(&b.key));
        give(run, points);
    }
    Ok(())
}

/// The values that are on no rung.
async fn odd_ones(db: &mut SqliteConnection, runs: &[i64]) -> Result<HashMap<(i64, String), f64>> {
    let table = "run_metrics_latest";
    let ends = RUNGS.map(|(_, low)| low);
    let (low, high) = (ends.iter().min().map_or(0, |low| *low), ends.iter().max().map_or(0, |low| *low + 10));
    let mut sql = Sql::new("SELECT run, name, value FROM run_metrics_latest WHERE value <> 0 AND NOT (abs(value) >= ");
    sql.value(power(low)).text(" AND abs(value) < ").value(power(high)).text(") AND run IN ").list(runs.iter().copied());
    let mut odd = HashMap::new();
    for row in sql.rows(db, "read metrics").await? {
        odd.insert((at(&row, 0, table, "run")?, at(&row, 1, table, "name")?), at(&row, 2, table, "value")?);
    }
    Ok(odd)
}

/// The points with these names: the step, the moment and the value of each, in lists between spaces. `None` if that does not fit.
fn points(names: Vec<String>, lists: [&str; 3]) -> Option<Vec<Point>> {
    let [mut steps, mut moments, mut values] = lists.map(|list| list.split(' '));
    let points = names.into_iter().map(|key| {
        Some(Point {
            key,
            value: unpacked(values.next()?)?,
            step: steps.next()?.parse().ok()?,
            at: Timestamp::from_micros(moments.next()?.parse().ok()?),
            model: None,
            dataset: None,
        })
    });
    points.collect()
}

/// The parameters and the tags of these runs, table by table and run by run.
pub(super) async fn words(
    db: &mut SqliteConnection,
    runs: &[i64],
    mut give: impl FnMut(Words, i64, BTreeMap<String, String>),
) -> Result<()> {
    let kinds = [Words::Params, Words::Tags];
    let mut sql = Sql::new("SELECT json_group_array(json_array(kind, run, json(names), json(texts))) FROM (");
    for (kind, words) in kinds.into_iter().enumerate() {
        sql.text(if kind == 0 { "" } else { " UNION ALL " });
        sql.text(&format!("SELECT {kind} AS kind, run, json_group_array(name) AS names, json_group_array(value) AS texts FROM "));
        sql.text(words.table()).text(" WHERE run IN ").list(runs.iter().copied()).text(" GROUP BY run");
    }
    sql.text(") AS packed");
    for (kind, run, names, values) in list::<(usize, i64, Vec<String>, Vec<String>)>(db, &sql, "run_params, run_tags").await? {
        let words = *kinds.get(kind).ok_or_else(|| damage("run_params", run, "of no table"))?;
        if names.len() != values.len() {
            return Err(damage(words.table(), run, "names and values differ in number"));
        }
        give(words, run, names.into_iter().zip(values).collect());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use sqlx::Connection as _;

    /// Writes values as one run's metrics and reads them back.
    fn check(values: &[f64]) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut db = SqliteConnection::connect("sqlite::memory:").await.unwrap();
            let table = "CREATE TABLE run_metrics_latest (run BIGINT, name TEXT, step BIGINT, at BIGINT, value DOUBLE PRECISION)";
            sqlx::query(table).execute(&mut db).await.unwrap();
            for (i, part) in values.chunks(500).enumerate() {
                let mut sql = sqlx::QueryBuilder::new("INSERT INTO run_metrics_latest (run, name, step, at, value) ");
                sql.push_values(part.iter().enumerate(), |mut row, (k, value)| {
                    row.push_bind(i as i64).push_bind(format!("m{k:04}")).push_bind(-1i64).push_bind(i64::MAX).push_bind(*value);
                });
                sql.build().execute(&mut db).await.unwrap();
            }
            let runs: Vec<i64> = (0..values.len().div_ceil(500) as i64).collect();
            let mut seen = 0;
            latest(&mut db, &runs, |run, points| {
                for (point, value) in points.iter().zip(&values[run as usize * 500..]) {
                    let same = point.value == *value || (point.value.is_nan() && value.is_nan());
                    assert!(same, "{value:?} ({:x}) came back as {:?}", value.to_bits(), point.value);
                    assert_eq!((point.step, point.at.micros()), (-1, i64::MAX));
                    seen += 1;
                }
            })
            .await
            .unwrap();
            assert_eq!(seen, values.len());
        });
    }

    #[test]
    fn floats_at_the_edges_come_back() {
        let mut values = vec![0.0, 1.0, -1.0, 0.1, 1.0 / 3.0, 5e-324, f64::MIN_POSITIVE, f64::MAX, f64::MIN, f64::EPSILON];
        values.extend([9_007_199_254_740_993.0, f64::NAN, f64::INFINITY, f64::NEG_INFINITY]);
        for exponent in 0..2_047u64 {
            // Both ends of each binade.
            let first = f64::from_bits(exponent << 52);
            values.extend([first, -first.next_up(), f64::from_bits((exponent << 52) | ((1 << 52) - 1))]);
        }
        check(&values);
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]
        #[test]
        fn any_float_comes_back(bits in proptest::collection::vec(any::<u64>(), 1_500)) {
            // Half of all floats are beyond every use: these have the exponents that are used.
            let near = bits.iter().map(|bits| f64::from_bits((bits & !(0x7ff << 52)) | ((1_023 - 40 + (bits >> 20) % 80) << 52)));
            check(&near.chain(bits.iter().map(|bits| f64::from_bits(*bits))).collect::<Vec<f64>>());
        }
    }

    #[test]
    fn numbers_that_do_not_fit_are_no_points() {
        for [steps, moments, values] in [["", "2", "z"], ["1", "", "z"], ["1", "2", ""], ["1", "2", "y7"], ["1", "2", "c"], ["1", "z", "z"]]
        {
            assert!(points(vec!["a".into()], [steps, moments, values]).is_none(), "{steps} {moments} {values}");
        }
        assert!(points(vec!["a".into(), "b".into()], ["1", "2 2", "z z"]).is_none(), "a step is missing");
        let found = points(vec!["a".into(), "b".into()], ["1 -3", "2 4", "d4503599627370496 n"]).expect("two points");
        assert!((found[0].step, found[0].value) == (1, 1.0) && (found[1].step, found[1].value.is_nan()) == (-3, true));
    }
}
