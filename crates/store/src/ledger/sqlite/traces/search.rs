//! Searches for traces: what SQL can decide is put into the statement, the rest is asked of each trace in turn.
//!
//! Invariant: the statement never leaves out a trace for which the filter holds, and the two together give what [`Question::holds`] gives.

use super::{IN_VALUES_MAX, rows};
use crate::ledger::sqlite::cells::Cells;
use crate::ledger::sqlite::open::fault;
use crate::trace_rules::{Gather, Looked, Question};
use gristmill_kernel::tracking::filter::{Field, Filter, Op, OrderBy, Test, TraceField, Value};
use gristmill_kernel::tracking::trace::{TraceInfo, key};
use gristmill_kernel::tracking::{Page, Search};
use gristmill_kernel::{Code, Fault, Result, limits};
use sqlx::sqlite::SqliteConnection;
use sqlx::{QueryBuilder, Row, Sqlite};
use std::collections::HashMap;

/// Traces read together when they are asked one by one.
const ASKED_TOGETHER: usize = 128;

/// One page.
pub(super) async fn page(db: &mut SqliteConnection, search: &Search) -> Result<Page<TraceInfo>> {
    let (in_sql, rest) = split(&search.filter);
    if rest.is_empty() {
        let ids = candidates(db, search, &in_sql, search.offset, search.limit.saturating_add(1)).await?;
        let more = ids.len() > search.limit;
        let wanted: Vec<&str> = ids.iter().take(search.limit).map(String::as_str).collect();
        return Ok(Page { items: rows::many(db, &wanted).await?, more });
    }
    let mut gather = Gather::new(search);
    let mut items = Vec::new();
    let ids = candidates(db, search, &in_sql, 0, limits::TRACES_LOOKED_AT_MAX + 1).await?;
    ask(db, &ids, &Question::new(rest)?, &mut gather, |info| items.push(info)).await?;
    Ok(Page { items, more: gather.is_done() })
}

/// How many there are.
pub(super) async fn count(db: &mut SqliteConnection, search: &Search) -> Result<u64> {
    let (in_sql, rest) = split(&search.filter);
    if rest.is_empty() {
        let mut query = QueryBuilder::<Sqlite>::new("SELECT count(*) FROM traces t");
        push_where(&mut query, search, &in_sql)?;
        let row = query.build().fetch_one(db).await.map_err(|e| fault("count traces", e))?;
        return row.try_get::<i64, _>(0).map(|n| n.unsigned_abs()).map_err(|e| fault("count traces", e));
    }
    let everything = Search { order: Vec::new(), offset: 0, limit: usize::MAX, ..search.clone() };
    let mut gather = Gather::new(&everything);
    let ids = candidates(db, &everything, &in_sql, 0, limits::TRACES_LOOKED_AT_MAX + 1).await?;
    ask(db, &ids, &Question::new(rest)?, &mut gather, drop).await?;
    Ok(gather.held as u64)
}

/// Asks traces in turn until the page is full.
async fn ask(
    db: &mut SqliteConnection,
    ids: &[String],
    question: &Question<'_>,
    gather: &mut Gather,
    mut take: impl FnMut(TraceInfo),
) -> Result<()> {
    for ids in ids.chunks(ASKED_TOGETHER) {
        let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
        let links = if question.needs.links { rows::links(db, &ids).await? } else { HashMap::new() };
        let spans = if question.needs.spans { rows::spans(db, &ids).await? } else { HashMap::new() };
        for info in rows::many(db, &ids).await? {
            let (runs, prompts) = links.get(info.id.as_str()).map_or((&[][..], &[][..]), |(runs, prompts)| (runs, prompts));
            let spans = spans.get(info.id.as_str()).map_or(&[][..], Vec::as_slice);
            let holds = question.holds(&Looked { info: &info, runs, prompts, spans });
            if gather.takes(holds)? {
                take(info);
            }
            if gather.is_done() {
                return Ok(());
            }
        }
    }
    Ok(())
}

/// The ids of the traces that SQL lets through, in the search's order.
async fn candidates(db: &mut SqliteConnection, search: &Search, in_sql: &[&Test], offset: usize, limit: usize) -> Result<Vec<String>> {
    let mut query = QueryBuilder::<Sqlite>::new("SELECT t.id AS id FROM traces t");
    push_where(&mut query, search, in_sql)?;
    query.push(" ORDER BY ");
    for by in &search.order {
        push_order(&mut query, by)?;
    }
    query.push("t.requested_at DESC, t.id LIMIT ").push_bind(i64::try_from(limit).unwrap_or(i64::MAX));
    query.push(" OFFSET ").push_bind(i64::try_from(offset).unwrap_or(i64::MAX));
    let rows = query.build().fetch_all(db).await.map_err(|e| fault("search traces", e))?;
    rows.iter().map(|row| Cells::keyed(row, "traces", "id")?.text("id")).collect()
}

/// The parts of a conjunction that SQL decides alone, and the others.
fn split(filter: &Filter) -> (Vec<&Test>, Vec<&Filter>) {
    let parts = match filter {
        Filter::All(parts) => parts.iter().collect(),
        one => vec![one],
    };
    let (mut in_sql, mut rest) = (Vec::new(), Vec::new());
    for part in parts {
        match part {
            Filter::Test(test) if is_for_sql(test) => in_sql.push(test),
            part => rest.push(part),
        }
    }
    (in_sql, rest)
}

/// Whether a test means the same in SQL. Patterns do not: SQLite's `LIKE` folds case. `or_absent` is left to the question.
fn is_for_sql(test: &Test) -> bool {
    let numeric = |value: &Value| matches!(value, Value::Number(n) if n.is_finite());
    let text = |value: &Value| matches!(value, Value::Text(_));
    let fits: &dyn Fn(&Value) -> bool = match &test.field {
        Field::Attribute(name) => match column(name) {
            Some((_, true)) => &numeric,
            Some((_, false)) => &text,
            None => return false,
        },
        Field::Tag(_) | Field::Trace(TraceField::Metadata(_)) => &text,
        _ => return false,
    };
    let value_fits = match &test.op {
        Op::Equal(v) | Op::NotEqual(v) | Op::Less(v) | Op::LessOrEqual(v) | Op::Greater(v) | Op::GreaterOrEqual(v) => fits(v),
        Op::Between(low, high) => fits(low) && fits(high),
        Op::In(values) | Op::NotIn(values) => !values.is_empty() && values.len() <= IN_VALUES_MAX && values.iter().all(fits),
        Op::IsNull | Op::IsNotNull => true,
        Op::Like(_) | Op::ILike(_) | Op::RLike(_) => false,
    };
    value_fits && !test.or_absent
}

/// The expression of an attribute, and whether it is a number. Milliseconds are what filters compare; moments are stored in whole ones.
fn column(name: &str) -> Option<(&'static str, bool)> {
    Some(match name {
        "request_id" => ("t.id", false),
        "client_request_id" => ("t.client_request", false),
        "status" => ("t.state", false),
        "experiment_id" => ("t.experiment", true),
        "timestamp_ms" => ("t.requested_at / 1000.0", true),
        "execution_time_ms" => ("t.took_ms", true),
        "end_time_ms" => ("t.requested_at / 1000.0 + coalesce(t.took_ms, 0)", true),
        _ => return None,
    })
}

fn push_where(query: &mut QueryBuilder<Sqlite>, search: &Search, in_sql: &[&Test]) -> Result<()> {
    query.push(" WHERE ");
    if search.experiments.is_empty() {
        // No experiment, nothing to look in.
        query.push("1 = 0");
    } else {
        query.push("t.experiment IN (");
        let mut values = query.separated(", ");
        for experiment in &search.experiments {
            values.push_bind(i64::try_from(experiment.0).unwrap_or(i64::MAX));
        }
        query.push(")");
    }
    for test in in_sql {
        query.push(" AND ");
        push_test(query, test)?;
    }
    Ok(())
}

fn push_test(query: &mut QueryBuilder<Sqlite>, test: &Test) -> Result<()> {
    let (table, name) = match &test.field {
        Field::Attribute(name) => {
            // A range of moments is left to the index: the bound is brought to the column, not the column to the bound.
            if name == "timestamp_ms" && push_moment(query, &test.op) {
                return Ok(());
            }
            let (expression, _) = column(name).ok_or_else(|| unknown(name))?;
            query.push(expression);
            return push_op(query, &test.op);
        }
        Field::Tag(name) => ("trace_tags", name),
        Field::Trace(TraceField::Metadata(name)) => ("trace_metadata", name),
        other => return Err(Fault::internal(format!("no SQL for {other:?}"))),
    };
    let absent = matches!(test.op, Op::IsNull);
    query.push(if absent { "NOT EXISTS" } else { "EXISTS" });
    query.push(" (SELECT 1 FROM ").push(table).push(" w WHERE w.trace = t.id AND w.name = ").push_bind(name.clone());
    if !absent {
        query.push(" AND w.value");
        push_op(query, &test.op)?;
    }
    query.push(")");
    Ok(())
}

/// A comparison of `requested_at` with a whole number of milliseconds.
fn push_moment(query: &mut QueryBuilder<Sqlite>, op: &Op) -> bool {
    let whole = |value: &Value| match value {
        Value::Number(ms) if ms.fract() == 0.0 && ms.abs() < 9.0e15 => Some((*ms as i64).saturating_mul(1_000)),
        _ => None,
    };
    // What is stored may have microseconds; a filter sees the millisecond they are in.
    let (sign, bound) = match op {
        Op::GreaterOrEqual(v) => (" >= ", whole(v)),
        Op::Greater(v) => (" >= ", whole(v).map(|us| us.saturating_add(1_000))),
        Op::Less(v) => (" < ", whole(v)),
        Op::LessOrEqual(v) => (" < ", whole(v).map(|us| us.saturating_add(1_000))),
        _ => return false,
    };
    let Some(bound) = bound else { return false };
    query.push("t.requested_at").push(sign).push_bind(bound);
    true
}

fn push_op(query: &mut QueryBuilder<Sqlite>, op: &Op) -> Result<()> {
    let (sign, value) = match op {
        Op::Equal(v) => (" = ", v),
        Op::NotEqual(v) => (" <> ", v),
        Op::Less(v) => (" < ", v),
        Op::LessOrEqual(v) => (" <= ", v),
        Op::Greater(v) => (" > ", v),
        Op::GreaterOrEqual(v) => (" >= ", v),
        Op::Between(low, high) => {
            query.push(" BETWEEN ");
            push_value(query, low);
            query.push(" AND ");
            push_value(query, high);
            return Ok(());
        }
        Op::In(values) | Op::NotIn(values) => {
            query.push(if matches!(op, Op::In(_)) { " IN (" } else { " NOT IN (" });
            for (i, value) in values.iter().enumerate() {
                if i > 0 {
                    query.push(", ");
                }
                push_value(query, value);
            }
            query.push(")");
            return Ok(());
        }
        Op::IsNull => {
            query.push(" IS NULL");
            return Ok(());
        }
        Op::IsNotNull => {
            query.push(" IS NOT NULL");
            return Ok(());
        }
        Op::Like(_) | Op::ILike(_) | Op::RLike(_) => return Err(Fault::internal("a pattern is not for SQL")),
    };
    query.push(sign);
    push_value(query, value);
    Ok(())
}

fn push_value(query: &mut QueryBuilder<Sqlite>, value: &Value) {
    match value {
        Value::Number(number) => query.push_bind(*number),
        Value::Text(text) => query.push_bind(text.clone()),
    };
}

/// One key of the order and a comma; what is absent comes last.
fn push_order(query: &mut QueryBuilder<Sqlite>, by: &OrderBy) -> Result<()> {
    let words = |query: &mut QueryBuilder<Sqlite>, table: &'static str, name: &str| {
        query.push("(SELECT value FROM ").push(table).push(" WHERE trace = t.id AND name = ").push_bind(name.to_owned()).push(")");
    };
    let push = |query: &mut QueryBuilder<Sqlite>| -> Result<()> {
        match &by.field {
            Field::Attribute(name) => {
                query.push(column(name).ok_or_else(|| unknown(name))?.0);
            }
            Field::Tag(name) => words(query, "trace_tags", name),
            Field::Trace(TraceField::Metadata(name)) => words(query, "trace_metadata", name),
            Field::Trace(TraceField::Run) => words(query, "trace_metadata", key::RUN),
            other => return Err(unknown(&format!("{other:?}"))),
        }
        Ok(())
    };
    push(query)?;
    query.push(" IS NULL, ");
    push(query)?;
    query.push(if by.ascending { " ASC, " } else { " DESC, " });
    Ok(())
}

fn unknown(name: &str) -> Fault {
    Fault::invalid(Code::BAD_FILTER, format!("traces have no field `{}` to search or order by", name.escape_debug()))
}
