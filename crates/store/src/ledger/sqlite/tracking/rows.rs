//! Points, parameters and tags, written hundreds at a time.
//!
//! Statements with many rows come in sizes that are powers of two, so that few texts are prepared and kept; a statement that is a little
//! too large says its last row again, which changes nothing. They use `?` placeholders: SQLite looks a `$N` up by its name, one by one.

use super::sql::{Arg, Statement, run};
use crate::tracked::kept;
use gristmill_kernel::{Result, Timestamp};
use sqlx::sqlite::SqliteConnection;
use std::sync::{Arc, OnceLock};

/// What is being done, for a fault.
pub(super) const WHAT: &str = "write what was logged";

/// Rows of one statement.
const ROWS_MAX: usize = 512;
/// Sizes of statements: 1, 2, 4, ... `ROWS_MAX`.
const SIZES: usize = ROWS_MAX.ilog2() as usize + 1;

/// A row of `run_metrics`.
#[derive(Debug, Clone, PartialEq)]
pub(in super::super) struct PointRow {
    pub run: i64,
    /// Shared by the statements that it is written with.
    pub name: Arc<str>,
    pub step: i64,
    pub at: i64,
    /// 0 where `nan`.
    pub value: f64,
    pub nan: bool,
}

impl PointRow {
    pub(in super::super) fn new(run: i64, name: impl Into<Arc<str>>, step: i64, at: Timestamp, value: f64) -> PointRow {
        let nan = value.is_nan();
        PointRow { run, name: name.into(), step, at: at.micros(), value: if nan { 0.0 } else { kept(value) }, nan }
    }
    /// What decides which of two points is the latest.
    pub(super) fn rank(&self) -> (i64, i64, f64) {
        (self.step, self.at, self.value)
    }
}

/// When a point takes the place of the latest one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum Newer {
    /// Its step is not less: what the product measures itself.
    Step,
    /// Its step, moment and value are greater, in this order: what clients log.
    Point,
}

/// Which table of names and values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum Words {
    Params,
    Tags,
}

impl Words {
    /// Where they are kept.
    pub(super) fn table(self) -> &'static str {
        match self {
            Words::Params => "run_params",
            Words::Tags => "run_tags",
        }
    }
}

/// A statement over any number of rows.
struct ManyRows {
    head: &'static str,
    row: &'static str,
    tail: &'static str,
    texts: [OnceLock<Arc<str>>; SIZES],
}

impl ManyRows {
    const fn new(head: &'static str, row: &'static str, tail: &'static str) -> ManyRows {
        ManyRows { head, row, tail, texts: [const { OnceLock::new() }; SIZES] }
    }
    fn text(&self, size: usize) -> Arc<str> {
        let text = || {
            let rows = vec![self.row; size].join(",");
            Arc::from(format!("{} {rows} {}", self.head, self.tail))
        };
        Arc::clone(self.texts[size.ilog2() as usize].get_or_init(text))
    }
    /// The statements that write the rows; `bind` adds the values of one.
    fn over<'r, R: Sync>(
        &'r self,
        rows: &'r [R],
        bind: impl Fn(&mut Vec<Arg>, &R) + Send + 'r,
    ) -> impl Iterator<Item = Statement> + Send + 'r {
        let each = self.row.matches('?').count();
        let mut rest = rows;
        std::iter::from_fn(move || {
            if rest.is_empty() {
                return None;
            }
            let size = size_for(rest.len());
            let (now, later) = rest.split_at(size.min(rest.len()));
            let mut values = Vec::with_capacity(size * each);
            filled(now, size).for_each(|row| bind(&mut values, row));
            rest = later;
            Some(Statement { text: self.text(size), values })
        })
    }
}

/// The rows, and the last one again until there are so many.
fn filled<R>(rows: &[R], size: usize) -> impl Iterator<Item = &R> {
    rows.iter().chain(rows.last().into_iter().cycle()).take(size)
}

/// The size of the next statement: the next power of two if at least three quarters of it are needed, else the one before.
fn size_for(rows: usize) -> usize {
    let above = rows.next_power_of_two();
    if rows >= ROWS_MAX {
        ROWS_MAX
    } else if above <= 8 || rows * 4 >= above * 3 {
        above
    } else {
        above / 2
    }
}

static POINTS: ManyRows =
    ManyRows::new("INSERT INTO run_metrics (run, name, step, at, value, nan) VALUES", "(?,?,?,?,?,?)", "ON CONFLICT DO NOTHING");
static LATEST_BY_POINT: ManyRows = ManyRows::new(
    "INSERT INTO run_metrics_latest (run, name, step, at, value) VALUES",
    "(?,?,?,?,?)",
    "ON CONFLICT (run, name) DO UPDATE SET step = excluded.step, at = excluded.at, value = excluded.value \
     WHERE (excluded.step, excluded.at, coalesce(excluded.value, 0)) \
     > (run_metrics_latest.step, run_metrics_latest.at, coalesce(run_metrics_latest.value, 0))",
);
static LATEST_BY_STEP: ManyRows = ManyRows::new(
    "INSERT INTO run_metrics_latest (run, name, step, at, value) VALUES",
    "(?,?,?,?,?)",
    "ON CONFLICT (run, name) DO UPDATE SET step = excluded.step, at = excluded.at, value = excluded.value \
     WHERE excluded.step >= run_metrics_latest.step",
);
static PARAMS: ManyRows = ManyRows::new(
    "INSERT INTO run_params (run, name, value) VALUES",
    "(?,?,?)",
    "ON CONFLICT (run, name) DO UPDATE SET value = excluded.value",
);
static TAGS: ManyRows = ManyRows::new(
    "INSERT INTO run_tags (run, name, value) VALUES",
    "(?,?,?)",
    "ON CONFLICT (run, name) DO UPDATE SET value = excluded.value",
);
static MODEL_POINTS: ManyRows = ManyRows::new(
    "INSERT INTO logged_model_metrics (model, name, step, at, run, value, nan, dataset, digest) VALUES",
    "(?,?,?,?,?,?,?,?,?)",
    "ON CONFLICT DO NOTHING",
);

/// Statements that write points; those that are there stay.
pub(super) fn points(rows: &[PointRow]) -> impl Iterator<Item = Statement> + Send {
    POINTS.over(rows, |values, p| {
        values.extend([p.run.into(), Arc::clone(&p.name).into(), p.step.into(), p.at.into(), p.value.into(), i64::from(p.nan).into()]);
    })
}

/// Statements that make points the latest of their metrics where they are newer. One point per metric, please.
pub(super) fn latest(rows: &[PointRow], newer: Newer) -> impl Iterator<Item = Statement> + Send {
    let statement = match newer {
        Newer::Step => &LATEST_BY_STEP,
        Newer::Point => &LATEST_BY_POINT,
    };
    statement.over(rows, |values, p| {
        values.extend([p.run.into(), Arc::clone(&p.name).into(), p.step.into(), p.at.into(), (!p.nan).then_some(p.value).into()]);
    })
}

/// Statements that write parameters or tags over what is there: run, name, value.
pub(super) fn words(words: Words, rows: &[(i64, String, String)]) -> impl Iterator<Item = Statement> + Send {
    let statement = match words {
        Words::Params => &PARAMS,
        Words::Tags => &TAGS,
    };
    statement.over(rows, |values, (run, name, value)| values.extend([(*run).into(), name.as_str().into(), value.as_str().into()]))
}

/// A row of `logged_model_metrics`: the point, the model, the run's id, the dataset's name and digest (empty if none).
pub(super) struct ModelPointRow {
    pub model: String,
    pub point: PointRow,
    pub run: String,
    pub dataset: String,
    pub digest: String,
}

/// Statements that write points about logged models; those that are there stay.
pub(super) fn model_points(rows: &[ModelPointRow]) -> impl Iterator<Item = Statement> + Send {
    MODEL_POINTS.over(rows, |values, row| {
        let p = &row.point;
        values.extend([row.model.as_str().into(), Arc::clone(&p.name).into(), p.step.into(), p.at.into(), row.run.as_str().into()]);
        values.extend([p.value.into(), i64::from(p.nan).into(), row.dataset.as_str().into(), row.digest.as_str().into()]);
    })
}

/// Writes points; those that are there stay.
pub(in super::super) async fn put_points(db: &mut SqliteConnection, rows: &[PointRow]) -> Result<()> {
    run(db, WHAT, points(rows)).await
}

/// Makes points the latest of their metrics where they are newer. One point per metric, please.
pub(in super::super) async fn put_latest(db: &mut SqliteConnection, rows: &[PointRow], newer: Newer) -> Result<()> {
    run(db, WHAT, latest(rows, newer)).await
}

/// Writes parameters or tags over what is there: run, name, value.
pub(in super::super) async fn put_words(db: &mut SqliteConnection, which: Words, rows: &[(i64, String, String)]) -> Result<()> {
    run(db, WHAT, words(which, rows)).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statements_are_filled_to_three_quarters() {
        for (rows, size) in [(1, 1), (2, 2), (3, 4), (5, 8), (9, 8), (12, 16), (13, 16), (96, 128), (95, 64), (600, 512), (512, 512)] {
            assert_eq!(size_for(rows), size, "{rows}");
        }
    }
}
