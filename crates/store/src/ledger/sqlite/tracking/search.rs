//! Searches. A page costs a constant number of statements, and time that depends on what is found rather than on how much there is.
//!
//! Runs are found in one of three ways, decided by counting up to a thousand index entries:
//! - *from an index*: some comparison (a metric's range, a parameter's or tag's value) leaves few runs; these are filtered and sorted;
//! - *along an order*: runs are wanted by a metric; its index is walked in that order, and each run is tested, until the page is full;
//! - *scan*: the runs of the experiments, along the index of their starts if that is the order.

use super::experiments;
use super::filter::{Of, condition, direction, index_rows, order_key};
use super::models;
use super::reader::Reader;
use super::runs;
use super::sql::Sql;
use crate::tracked::fields::{Searched, checked};
use gristmill_kernel::tracking::filter::{Field, Filter, OrderBy, Test};
use gristmill_kernel::tracking::{Experiment, ExperimentId, LoggedModel, Page, Search, TrackedRun, ViewType};
use gristmill_kernel::{Result, limits};
use sqlx::sqlite::SqliteConnection;

/// Index entries that are counted before something is called large. Tests have few runs and want every way.
const PROBE: i64 = if cfg!(test) { 4 } else { 1_000 };
/// Comparisons whose index entries are counted.
const PROBES_MAX: usize = 4;

/// One row more than the page, to know whether there are more.
fn page_rows(search: &Search) -> i64 {
    search.limit.min(limits::SEARCH_RUNS_MAX) as i64 + 1
}

fn page<T>(mut items: Vec<T>, search: &Search) -> Page<T> {
    let limit = search.limit.min(limits::SEARCH_RUNS_MAX);
    let more = items.len() > limit;
    items.truncate(limit);
    Page { items, more }
}

/// Adds ` AND x.deleted_at ...`.
fn view(sql: &mut Sql, alias: &str, view: ViewType) {
    match view {
        ViewType::ActiveOnly => sql.text(" AND ").text(alias).text(".deleted_at IS NULL"),
        ViewType::DeletedOnly => sql.text(" AND ").text(alias).text(".deleted_at IS NOT NULL"),
        ViewType::All => sql,
    };
}

/// Adds `x.experiment = ?`, or `IN (...)`.
fn of_experiments(sql: &mut Sql, alias: &str, experiments: &[ExperimentId]) {
    let mut numbers: Vec<i64> = experiments.iter().filter_map(|id| i64::try_from(id.0).ok()).collect();
    numbers.sort_unstable();
    numbers.dedup();
    sql.text(alias).text(".experiment");
    match numbers.as_slice() {
        [one] => sql.text(" = ").value(*one),
        many => sql.text(" IN ").list(many.iter().copied()),
    };
}

/// Adds the order, its ties and the page.
fn ordered(kind: Searched, search: &Search, first: usize, ties: &str, sql: &mut Sql) -> Result<()> {
    for order in &search.order[first..] {
        sql.part(&order_key(kind, order)?).text(direction(order)).text(", ");
    }
    sql.text(ties).text(" LIMIT ").value(page_rows(search)).text(" OFFSET ").value(i64::try_from(search.offset).unwrap_or(i64::MAX));
    Ok(())
}

pub(super) async fn experiments(db: &mut SqliteConnection, search: &Search) -> Result<Page<Experiment>> {
    let search = &checked(Searched::Experiments, search)?;
    let mut sql = Sql::new("SELECT ");
    sql.text(experiments::COLUMNS).text(" FROM experiments e WHERE ");
    condition(Searched::Experiments.into(), &search.filter, &mut sql)?;
    view(&mut sql, "e", search.view);
    sql.text(" ORDER BY ");
    ordered(Searched::Experiments, search, 0, "e.created_at DESC, e.id DESC", &mut sql)?;
    let rows = sql.rows(db, "search experiments").await?;
    let found = page(rows.iter().map(experiments::of_row).collect::<Result<_>>()?, search);
    Ok(Page { items: experiments::with_tags(db, found.items).await?, more: found.more })
}

pub(super) async fn models(db: &mut SqliteConnection, search: &Search) -> Result<Page<LoggedModel>> {
    let search = &checked(Searched::Models, search)?;
    let mut sql = Sql::new("SELECT ");
    sql.text(models::COLUMNS).text(" FROM logged_models m WHERE ");
    of_experiments(&mut sql, "m", &search.experiments);
    view(&mut sql, "m", search.view);
    sql.text(" AND ");
    condition(Searched::Models.into(), &search.filter, &mut sql)?;
    sql.text(" ORDER BY ");
    ordered(Searched::Models, search, 0, "m.created_at DESC, m.id", &mut sql)?;
    let rows = sql.rows(db, "search logged models").await?;
    let found = page(rows.iter().map(models::of_row).collect::<Result<_>>()?, search);
    Ok(Page { items: models::whole(db, found.items).await?, more: found.more })
}

pub(super) fn runs(db: &Reader, search: &Search) -> Result<Page<TrackedRun>> {
    let search = &checked(Searched::Runs, search)?;
    let found = page(numbers(db, search)?, search);
    Ok(Page { items: runs::by_numbers(db, &found.items)?, more: found.more })
}

/// How runs are found.
enum Way {
    Scan,
    /// From these index entries, written as `table f WHERE ...`.
    From(Sql),
    /// Along the index of this metric.
    Along(String),
}

/// The numbers of the runs of the page and of one more.
fn numbers(db: &Reader, search: &Search) -> Result<Vec<i64>> {
    let way = way(db, search)?;
    if let Way::Along(metric) = &way {
        let mut sql = Sql::new("SELECT r.seq FROM run_metrics_latest o CROSS JOIN runs r WHERE o.name = ");
        sql.value(metric.as_str()).text(" AND o.value IS NOT NULL AND r.seq = o.run AND ");
        these(search, "o.run", &mut sql)?;
        sql.text(" ORDER BY o.value").text(direction(&search.order[0])).text(", ");
        ordered(Searched::Runs, search, 1, &ties(&search.order), &mut sql)?;
        let found = listed(db, &sql)?;
        // With fewer than a page, runs without the metric come behind them: that is rare, and a scan knows how.
        if found.len() as i64 == page_rows(search) {
            return Ok(found);
        }
    }
    let mut sql = Sql::new("SELECT r.seq FROM ");
    match &way {
        Way::From(rows) => {
            sql.text("(SELECT DISTINCT f.run FROM ").part(rows).text(") AS few CROSS JOIN runs r WHERE r.seq = few.run AND ")
        }
        Way::Scan | Way::Along(_) => sql.text("runs r WHERE "),
    };
    these(search, "r.seq", &mut sql)?;
    sql.text(" ORDER BY ");
    ordered(Searched::Runs, search, 0, &ties(&search.order), &mut sql)?;
    listed(db, &sql)
}

/// The numbers that a statement finds.
fn listed(db: &Reader, found: &Sql) -> Result<Vec<i64>> {
    db.rows("search runs", found, |row| row.get(0))
}

/// Adds the experiments, the view and the filter; `run` stands for a run's number.
fn these(search: &Search, run: &'static str, sql: &mut Sql) -> Result<()> {
    of_experiments(sql, "r", &search.experiments);
    view(sql, "r", search.view);
    sql.text(" AND ");
    condition(Of { kind: Searched::Runs, run }, &search.filter, sql)
}

/// Newest start first, then id; without what the order says already, so that an index can give it.
fn ties(order: &[OrderBy]) -> String {
    let says = |name: &str| order.iter().any(|key| matches!(&key.field, Field::Attribute(known) if known == name));
    let start = if says("start_time") { "" } else { "r.started_at DESC NULLS LAST, " };
    format!("{start}r.id")
}

fn way(db: &Reader, search: &Search) -> Result<Way> {
    let mut tests = Vec::new();
    conjuncts(&search.filter, &mut tests);
    let mut few: Vec<Sql> = Vec::new();
    for test in tests {
        few.extend(index_rows(test)?);
    }
    few.truncate(PROBES_MAX);
    let along = match search.order.first().map(|key| &key.field) {
        Some(Field::Metric(metric)) => Some(metric.clone()),
        _ => None,
    };
    if few.is_empty() && along.is_none() {
        return Ok(Way::Scan);
    }
    let mut all = Sql::new("runs r WHERE ");
    of_experiments(&mut all, "r", &search.experiments);
    view(&mut all, "r", search.view);
    let counted = counts(db, std::iter::once(&all).chain(&few))?;
    let Some((all, counted)) = counted.split_first() else { return Ok(Way::Scan) };
    if *all < PROBE {
        return Ok(Way::Scan);
    }
    let best = counted.iter().copied().zip(few).min_by_key(|(counted, _)| *counted);
    Ok(match (best, along) {
        (Some((counted, rows)), _) if counted < PROBE => Way::From(rows),
        (_, Some(metric)) => Way::Along(metric),
        _ => Way::Scan,
    })
}

/// How many rows each `table WHERE ...` has, up to [`PROBE`], by one statement.
fn counts<'s>(db: &Reader, of: impl Iterator<Item = &'s Sql>) -> Result<Vec<i64>> {
    let mut sql = Sql::new("SELECT ");
    let mut columns = 0;
    for rows in of {
        sql.text(if columns == 0 { "" } else { ", " });
        sql.text("(SELECT count(*) FROM (SELECT 1 FROM ").part(rows).text(" LIMIT ").value(PROBE).text(") AS some)");
        columns += 1;
    }
    let counted = db.rows("count what a search may find", &sql, |row| (0..columns).map(|i| row.get(i)).collect())?;
    Ok(counted.into_iter().next().unwrap_or_default())
}

/// The tests that all must hold.
fn conjuncts<'f>(filter: &'f Filter, tests: &mut Vec<&'f Test>) {
    match filter {
        Filter::All(parts) => parts.iter().for_each(|part| conjuncts(part, tests)),
        Filter::Test(test) => tests.push(test),
        Filter::Any(_) | Filter::Not(_) => {}
    }
}
