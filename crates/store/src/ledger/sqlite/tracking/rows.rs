//! Points, parameters and tags, written hundreds at a time.
//!
//! Statements with many rows come in sizes that are powers of two, so that few texts are prepared and kept; a statement that is a little
//! too large says its last row again, which changes nothing. They use `?` placeholders: SQLite looks a `$N` up by its name, one by one.

use super::super::open::fault;
use crate::tracked::kept;
use gristmill_kernel::{Result, Timestamp};
use sqlx::AssertSqlSafe;
use sqlx::sqlite::{SqliteArguments, SqliteConnection, SqliteRow};
use sqlx::{Arguments as _, Encode, Sqlite};
use std::sync::{Arc, OnceLock};

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

/// The values of a statement, in the order of its placeholders.
#[derive(Default)]
struct Values {
    values: SqliteArguments,
    /// Why one of them cannot be a value; SQLite has room for all that are given here.
    wrong: Option<sqlx::error::BoxDynError>,
}

impl Values {
    fn with_room(values: usize) -> Values {
        let mut all = Values::default();
        all.values.reserve(values, 0);
        all
    }
    fn add<'v>(&mut self, value: impl Encode<'v, Sqlite> + sqlx::Type<Sqlite>) -> &mut Values {
        if let Err(error) = self.values.add(value) {
            self.wrong = Some(error);
        }
        self
    }
    fn taken(self) -> Result<SqliteArguments> {
        match self.wrong {
            None => Ok(self.values),
            Some(error) => Err(fault("write what was logged", sqlx::Error::Encode(error))),
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
    /// Runs it over the rows; `bind` adds the values of one.
    async fn run<R: Send + Sync>(&self, db: &mut SqliteConnection, rows: &[R], bind: impl Fn(&mut Values, &R)) -> Result<()> {
        let each = self.row.matches('?').count();
        let mut rest = rows;
        while !rest.is_empty() {
            let size = size_for(rest.len());
            let (now, later) = rest.split_at(size.min(rest.len()));
            let mut values = Values::with_room(size * each);
            filled(now, size).for_each(|row| bind(&mut values, row));
            let query = sqlx::query_with(AssertSqlSafe(self.text(size)), values.taken()?);
            query.execute(&mut *db).await.map_err(|e| fault("write what was logged", e))?;
            rest = later;
        }
        Ok(())
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
/// A later point takes the place of the latest one.
const IF_LATER: &str = "ON CONFLICT (run, name) DO UPDATE SET step = excluded.step, at = excluded.at, value = excluded.value \
     WHERE (excluded.step, excluded.at, coalesce(excluded.value, 0)) \
     > (run_metrics_latest.step, run_metrics_latest.at, coalesce(run_metrics_latest.value, 0))";
static LATEST_BY_POINT: ManyRows =
    ManyRows::new("INSERT INTO run_metrics_latest (run, name, step, at, value) VALUES", "(?,?,?,?,?)", IF_LATER);
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

/// Writes points; those that are there stay.
pub(in super::super) async fn put_points(db: &mut SqliteConnection, rows: &[PointRow]) -> Result<()> {
    POINTS.run(db, rows, |values, p| add_point(values.add(p.run), p)).await
}

/// Adds what a point is besides its run.
fn add_point(values: &mut Values, p: &PointRow) {
    values.add(Arc::clone(&p.name)).add(p.step).add(p.at).add(p.value).add(i64::from(p.nan));
}

/// Makes points the latest of their metrics where they are newer. One point per metric, please.
pub(in super::super) async fn put_latest(db: &mut SqliteConnection, rows: &[PointRow], newer: Newer) -> Result<()> {
    let statement = match newer {
        Newer::Step => &LATEST_BY_STEP,
        Newer::Point => &LATEST_BY_POINT,
    };
    statement.run(db, rows, |values, p| add_latest(values.add(p.run), p)).await
}

fn add_latest(values: &mut Values, p: &PointRow) {
    values.add(Arc::clone(&p.name)).add(p.step).add(p.at).add((!p.nan).then_some(p.value));
}

/// Most points that [`put_at_once`] takes.
pub(super) const AT_ONCE_MAX: usize = 64;
const AT_ONCE_SIZES: usize = AT_ONCE_MAX.ilog2() as usize + 1;
/// By the sizes of runs and points.
static AT_ONCE: [[OnceLock<Arc<str>>; AT_ONCE_SIZES]; AT_ONCE_SIZES] =
    [const { [const { OnceLock::new() }; AT_ONCE_SIZES] }; AT_ONCE_SIZES];

/// What is looked up of runs before something is logged to them.
pub(super) const TARGETS: &str = "SELECT id, seq, by_client, status, deleted_at FROM runs WHERE experiment IS NOT NULL AND id IN ";

/// A whole transaction: looks the runs up, writes the points of those that take metrics, and commits.
fn at_once(runs: usize, points: usize) -> Arc<str> {
    let text = || {
        let ids = vec!["?"; runs].join(",");
        let of_open = |row: &str, columns: &str| {
            let rows = vec![row; points].join(",");
            format!(
                "SELECT r.seq, {columns} FROM (VALUES {rows}) AS v CROSS JOIN runs r WHERE r.id = v.column1 AND r.experiment IS NOT NULL \
                 AND r.deleted_at IS NULL AND (r.by_client <> 0 OR r.status IN ('queued', 'running'))"
            )
        };
        Arc::from(format!(
            "BEGIN IMMEDIATE; {TARGETS}({ids}); \
             INSERT INTO run_metrics (run, name, step, at, value, nan) {} ON CONFLICT DO NOTHING; \
             INSERT INTO run_metrics_latest (run, name, step, at, value) {} {IF_LATER}; \
             COMMIT",
            of_open("(?,?,?,?,?,?)", "v.column2, v.column3, v.column4, v.column5, v.column6"),
            of_open("(?,?,?,?,?)", "v.column2, v.column3, v.column4, v.column5"),
        ))
    };
    Arc::clone(AT_ONCE[runs.ilog2() as usize][points.ilog2() as usize].get_or_init(text))
}

/// Writes a few points in one trip to the connection's thread, which costs several times what the writing does; each of the usual
/// statements is a trip of its own. `run` of a point is the place of its run among `runs`. Answers the rows of [`TARGETS`]; points of runs
/// that take none are not written.
pub(super) async fn put_at_once(
    db: &mut SqliteConnection,
    runs: &[Arc<str>],
    points: &[PointRow],
    latest: &[PointRow],
) -> Result<Vec<SqliteRow>> {
    let sizes = (runs.len().next_power_of_two(), points.len().next_power_of_two());
    let mut values = Values::with_room(sizes.0 + sizes.1 * 11);
    filled(runs, sizes.0).for_each(|id| {
        values.add(Arc::clone(id));
    });
    let id_of = |p: &PointRow| usize::try_from(p.run).ok().and_then(|place| runs.get(place)).map(Arc::clone);
    filled(points, sizes.1).for_each(|p| add_point(values.add(id_of(p)), p));
    filled(latest, sizes.1).for_each(|p| add_latest(values.add(id_of(p)), p));
    let query = sqlx::query_with(AssertSqlSafe(at_once(sizes.0, sizes.1)), values.taken()?);
    let outcome = query.fetch_all(&mut *db).await;
    if outcome.is_err() {
        // It may have failed before the transaction began or after it ended: then there is nothing to take back.
        let _nothing_to_take_back = sqlx::raw_sql("ROLLBACK").execute(db).await;
    }
    outcome.map_err(|e| fault("write what was logged", e))
}

/// Writes parameters or tags over what is there: run, name, value.
pub(in super::super) async fn put_words(db: &mut SqliteConnection, words: Words, rows: &[(i64, String, String)]) -> Result<()> {
    let statement = match words {
        Words::Params => &PARAMS,
        Words::Tags => &TAGS,
    };
    statement
        .run(db, rows, |values, (run, name, value)| {
            values.add(*run).add(name.clone()).add(value.clone());
        })
        .await
}

/// A row of `logged_model_metrics`: the point, the model, the run's id, the dataset's name and digest (empty if none).
pub(super) struct ModelPointRow {
    pub model: String,
    pub point: PointRow,
    pub run: String,
    pub dataset: String,
    pub digest: String,
}

/// Writes points about logged models; those that are there stay.
pub(super) async fn put_model_points(db: &mut SqliteConnection, rows: &[ModelPointRow]) -> Result<()> {
    MODEL_POINTS
        .run(db, rows, |values, row| {
            let p = &row.point;
            values.add(row.model.clone()).add(Arc::clone(&p.name)).add(p.step).add(p.at).add(row.run.clone());
            values.add(p.value).add(i64::from(p.nan)).add(row.dataset.clone()).add(row.digest.clone());
        })
        .await
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
