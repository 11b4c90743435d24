//! Filters and orders as SQL conditions that mean what `Filter::holds` means.
//!
//! Every condition is true or false and never NULL, so that `NOT` means what it says. Values are always bound. A comparison of a number
//! with a text, which holds for nothing, is written as such: SQL would convert one of them.

use super::sql::Sql;
use crate::tracked::CONTEXT_TAG;
use crate::tracked::fields::Searched;
use gristmill_kernel::tracking::filter::{Field, Filter, Op, OrderBy, Test, Value};
use gristmill_kernel::{Code, Fault, Result};

/// Longest `LIKE` pattern; SQLite stops at 50,000 bytes.
const PATTERN_BYTES_MAX: usize = 20_000;
/// Characters of a value in the index over parameters and tags.
const INDEXED_CHARS: usize = 64;

/// What is searched.
#[derive(Clone, Copy)]
pub(super) struct Of {
    pub kind: Searched,
    /// What stands for a run's number. Where an index with it is walked anyway, a test that reads it from there needs no look at the run.
    pub run: &'static str,
}

impl Of {
    /// What opens a question for a row. SQLite makes a join of `EXISTS` and then looks every run up before it asks; behind a plus it asks first,
    /// which takes a third of the time where an index is walked.
    fn exists(self) -> &'static str {
        if self.run == "r.seq" { "EXISTS (SELECT 1 FROM " } else { "+EXISTS (SELECT 1 FROM " }
    }
}

impl From<Searched> for Of {
    fn from(kind: Searched) -> Of {
        Of { kind, run: "r.seq" }
    }
}

/// Where a field's values are.
enum Source {
    /// One value or NULL.
    Column { expression: &'static str, number: bool },
    /// One value per row of `FROM ...`, which ends in a `WHERE` that more may be added to.
    Rows { from: Sql, value: &'static str, number: bool },
}

fn column(expression: &'static str, number: bool) -> Result<Source> {
    Ok(Source::Column { expression, number })
}

fn keyed(from: &str, key: &str, value: &'static str, number: bool) -> Result<Source> {
    let mut sql = Sql::new(from);
    sql.value(key);
    Ok(Source::Rows { from: sql, value, number })
}

fn source(of: Of, field: &Field) -> Result<Source> {
    let run = |table: &str| format!("{table} x WHERE x.run = {} AND x.name = ", of.run);
    match (of.kind, field) {
        (kind, Field::Attribute(name)) => attribute(kind, name),
        (Searched::Runs, Field::Metric(key)) => keyed(&run("run_metrics_latest"), key, "x.value", true),
        (Searched::Runs, Field::Param(key)) => keyed(&run("run_params"), key, "x.value", false),
        (Searched::Runs, Field::Tag(key)) => keyed(&run("run_tags"), key, "x.value", false),
        (Searched::Runs, Field::Dataset(key)) => match key.as_str() {
            "context" => keyed(&run("run_dataset_tags"), CONTEXT_TAG, "x.value", false),
            "digest" => used(of, "x.digest"),
            _ => used(of, "x.name"),
        },
        (Searched::Experiments, Field::Tag(key)) => {
            keyed("experiment_tags x WHERE x.experiment = e.id AND x.name = ", key, "x.value", false)
        }
        (Searched::Models, Field::Metric(key)) => measured(key, None),
        (Searched::Models, Field::MetricOn(key, on)) => measured(key, Some(on)),
        (Searched::Models, Field::Param(key)) => keyed("logged_model_params x WHERE x.model = m.id AND x.name = ", key, "x.value", false),
        (Searched::Models, Field::Tag(key)) => keyed("logged_model_tags x WHERE x.model = m.id AND x.name = ", key, "x.value", false),
        (Searched::Models, Field::Dataset(key)) => Ok(Source::Rows {
            from: Sql::new("logged_model_metrics x WHERE x.model = m.id AND x.dataset <> ''"),
            value: if key == "digest" { "x.digest" } else { "x.dataset" },
            number: false,
        }),
        (_, other) => Err(Fault::internal(format!("a checked search asks for {other:?}"))),
    }
}

fn used(of: Of, value: &'static str) -> Result<Source> {
    let from = Sql::new(&format!("run_datasets u JOIN datasets x ON x.id = u.dataset WHERE u.run = {}", of.run));
    Ok(Source::Rows { from, value, number: false })
}

fn measured(key: &str, on: Option<&(String, Option<String>)>) -> Result<Source> {
    let mut from = Sql::new("logged_model_metrics x WHERE x.model = m.id AND x.name = ");
    from.value(key);
    if let Some((name, digest)) = on {
        from.text(" AND x.dataset <> '' AND x.dataset = ").value(name.as_str());
        if let Some(digest) = digest {
            from.text(" AND x.digest = ").value(digest.as_str());
        }
    }
    Ok(Source::Rows { from, value: "CASE WHEN x.nan = 0 THEN x.value END", number: true })
}

fn attribute(kind: Searched, name: &str) -> Result<Source> {
    match (kind, name) {
        (Searched::Runs, "run_id") => column("r.id", false),
        (Searched::Runs, "run_name") => column("r.run_name", false),
        (Searched::Runs, "user_id") => column("r.user_name", false),
        (Searched::Runs, "status") => column(
            "CASE r.status WHEN 'queued' THEN 'SCHEDULED' WHEN 'running' THEN 'RUNNING' WHEN 'failed' THEN 'FAILED' \
             WHEN 'cancelled' THEN 'KILLED' ELSE 'FINISHED' END",
            false,
        ),
        (Searched::Runs, "artifact_uri") => {
            column("((SELECT l.artifact_location FROM experiments l WHERE l.id = r.experiment) || '/' || r.id || '/artifacts')", false)
        }
        (Searched::Runs, "start_time") => column("(r.started_at / 1000)", true),
        (Searched::Runs, "end_time") => column("(r.ended_at / 1000)", true),
        (Searched::Runs, "experiment_id") => column("r.experiment", true),
        (Searched::Runs, "lifecycle_stage") => column("CASE WHEN r.deleted_at IS NULL THEN 'active' ELSE 'deleted' END", false),
        (Searched::Experiments, "name") => column("e.name", false),
        (Searched::Experiments, "experiment_id") => column("e.id", true),
        (Searched::Experiments, "artifact_location") => column("e.artifact_location", false),
        (Searched::Experiments, "creation_time") => column("(e.created_at / 1000)", true),
        (Searched::Experiments, "last_update_time") => column("(e.updated_at / 1000)", true),
        (Searched::Experiments, "lifecycle_stage") => column("CASE WHEN e.deleted_at IS NULL THEN 'active' ELSE 'deleted' END", false),
        (Searched::Models, "name") => column("m.name", false),
        (Searched::Models, "model_id") => column("m.id", false),
        (Searched::Models, "model_type") => column("m.model_type", false),
        (Searched::Models, "status") => column("m.status", false),
        (Searched::Models, "status_message") => column("m.status_message", false),
        (Searched::Models, "source_run_id") => column("m.source_run", false),
        (Searched::Models, "experiment_id") => column("m.experiment", true),
        (Searched::Models, "creation_timestamp") => column("(m.created_at / 1000)", true),
        (Searched::Models, "last_updated_timestamp") => column("(m.updated_at / 1000)", true),
        (Searched::Models, "lifecycle_stage") => column("CASE WHEN m.deleted_at IS NULL THEN 'active' ELSE 'deleted' END", false),
        (_, other) => Err(Fault::internal(format!("a checked search asks for attribute `{other}`"))),
    }
}

/// The moment column behind an attribute: things are ordered by microseconds, whatever clients see.
fn moment(kind: Searched, name: &str) -> Option<&'static str> {
    match (kind, name) {
        (Searched::Runs, "start_time") => Some("r.started_at"),
        (Searched::Runs, "end_time") => Some("r.ended_at"),
        (Searched::Experiments, "creation_time") => Some("e.created_at"),
        (Searched::Experiments, "last_update_time") => Some("e.updated_at"),
        (Searched::Models, "creation_timestamp") => Some("m.created_at"),
        (Searched::Models, "last_updated_timestamp") => Some("m.updated_at"),
        _ => None,
    }
}

/// Adds the condition of a checked filter.
pub(super) fn condition(of: Of, filter: &Filter, sql: &mut Sql) -> Result<()> {
    match filter {
        Filter::All(parts) => {
            // SQLite asks in the order in which they are written; a run has far fewer parameters and tags than metrics.
            let mut parts: Vec<&Filter> = parts.iter().collect();
            parts.sort_by_key(|part| matches!(part, Filter::Test(Test { field: Field::Metric(_), .. })));
            joined(of, &parts, "1 = 1", " AND ", sql)
        }
        Filter::Any(parts) => joined(of, &parts.iter().collect::<Vec<_>>(), "1 = 0", " OR ", sql),
        Filter::Not(part) => {
            sql.text("NOT (");
            condition(of, part, sql)?;
            sql.text(")");
            Ok(())
        }
        Filter::Test(one) => test(of, one, sql),
    }
}

fn joined(of: Of, parts: &[&Filter], empty: &str, by: &str, sql: &mut Sql) -> Result<()> {
    if parts.is_empty() {
        sql.text(empty);
        return Ok(());
    }
    sql.text("(");
    for (i, part) in parts.iter().enumerate() {
        if i > 0 {
            sql.text(by);
        }
        condition(of, part, sql)?;
    }
    sql.text(")");
    Ok(())
}

fn test(of: Of, test: &Test, sql: &mut Sql) -> Result<()> {
    match source(of, &test.field)? {
        Source::Column { expression, number } => {
            match (&test.op, test.or_absent) {
                (Op::IsNull, _) => {
                    sql.text(expression).text(" IS NULL");
                }
                (Op::IsNotNull, _) => {
                    sql.text(expression).text(" IS NOT NULL");
                }
                (op, or_absent) => {
                    sql.text("(").text(expression).text(if or_absent { " IS NULL OR " } else { " IS NOT NULL AND " });
                    compare(expression, number, op, sql)?;
                    sql.text(")");
                }
            }
            Ok(())
        }
        Source::Rows { from, value, number } => {
            let exists = |sql: &mut Sql, not: &str| {
                sql.text(not).text(of.exists()).part(&from);
            };
            match &test.op {
                Op::IsNull => {
                    exists(sql, "NOT ");
                    sql.text(")");
                }
                Op::IsNotNull => {
                    exists(sql, "");
                    sql.text(")");
                }
                op => {
                    sql.text("(");
                    if test.or_absent {
                        exists(sql, "NOT ");
                        sql.text(") OR ");
                    }
                    exists(sql, "");
                    sql.text(" AND ");
                    compare(value, number, op, sql)?;
                    sql.text("))");
                }
            }
            Ok(())
        }
    }
}

/// Whether a value can be compared with the values of a field; NaN compares with nothing.
fn comparable(value: &Value, number: bool) -> bool {
    match value {
        Value::Number(value) => number && !value.is_nan(),
        Value::Text(_) => !number,
    }
}

fn bind(sql: &mut Sql, value: &Value) {
    match value {
        Value::Number(number) => sql.value(*number),
        Value::Text(text) => sql.value(text.as_str()),
    };
}

/// Adds the comparison of one value that is there; NULL stands for NaN.
fn compare(expression: &str, number: bool, op: &Op, sql: &mut Sql) -> Result<()> {
    let mut binary = |word: &str, other: &Value| {
        if comparable(other, number) {
            sql.text(expression).text(word);
            bind(sql, other);
        } else {
            sql.text("1 = 0");
        }
    };
    match op {
        Op::Equal(other) => binary(" = ", other),
        Op::NotEqual(other) => binary(" <> ", other),
        Op::Less(other) => binary(" < ", other),
        Op::LessOrEqual(other) => binary(" <= ", other),
        Op::Greater(other) => binary(" > ", other),
        Op::GreaterOrEqual(other) => binary(" >= ", other),
        Op::Like(_) | Op::ILike(_) if number => {
            sql.text("1 = 0");
        }
        Op::Like(pattern) => {
            sql.text(expression).text(" GLOB ").value(glob(short(pattern)?));
        }
        // SQLite's `LIKE` ignores the case of ASCII letters and no others, which is what `ILIKE` is here.
        Op::ILike(pattern) => {
            sql.text(expression).text(" LIKE ").value(short(pattern)?);
        }
        Op::RLike(_) => {
            sql.text("1 = 0");
        }
        Op::In(others) => {
            let others: Vec<&Value> = others.iter().filter(|other| comparable(other, number)).collect();
            if others.is_empty() {
                sql.text("1 = 0");
            } else {
                sql.text(expression).text(" IN ");
                list(sql, &others);
            }
        }
        Op::NotIn(others) => {
            let others: Vec<&Value> = others.iter().filter(|other| comparable(other, number)).collect();
            if others.is_empty() {
                sql.text("1 = 1");
            } else {
                // NaN is in no list.
                sql.text("(").text(expression).text(" IS NULL OR ").text(expression).text(" NOT IN ");
                list(sql, &others);
                sql.text(")");
            }
        }
        Op::Between(low, high) => {
            if comparable(low, number) && comparable(high, number) {
                sql.text("(").text(expression).text(" >= ");
                bind(sql, low);
                sql.text(" AND ").text(expression).text(" <= ");
                bind(sql, high);
                sql.text(")");
            } else {
                sql.text("1 = 0");
            }
        }
        Op::IsNull => {
            sql.text("1 = 0");
        }
        Op::IsNotNull => {
            sql.text("1 = 1");
        }
    }
    Ok(())
}

fn list(sql: &mut Sql, values: &[&Value]) {
    sql.text("(");
    for (i, value) in values.iter().enumerate() {
        if i > 0 {
            sql.text(",");
        }
        bind(sql, value);
    }
    sql.text(")");
}

fn short(pattern: &str) -> Result<&str> {
    if pattern.len() <= PATTERN_BYTES_MAX {
        return Ok(pattern);
    }
    Err(Fault::invalid(Code::BAD_FILTER, format!("a pattern has at most {PATTERN_BYTES_MAX} bytes")).fix("shorten the pattern"))
}

/// A `LIKE` pattern as a `GLOB` pattern, which minds case.
fn glob(pattern: &str) -> String {
    let mut out = String::with_capacity(pattern.len() + 8);
    for c in pattern.chars() {
        match c {
            '%' => out.push('*'),
            '_' => out.push('?'),
            '*' | '?' | '[' => out.extend(['[', c, ']']),
            c => out.push(c),
        }
    }
    out
}

/// What a thing is ordered by, as an expression that is NULL where there is nothing or NaN.
pub(super) fn order_key(kind: Searched, order: &OrderBy) -> Result<Sql> {
    if let Field::Attribute(name) = &order.field
        && let Some(column) = moment(kind, name)
    {
        return Ok(Sql::new(column));
    }
    let found = match (&order.field, &order.dataset) {
        (Field::Metric(key), on) if kind == Searched::Models => measured(key, on.as_ref())?,
        (field, _) => source(kind.into(), field)?,
    };
    Ok(match found {
        Source::Column { expression, .. } => Sql::new(expression),
        Source::Rows { from, value, .. } => {
            let mut sql = Sql::new("(SELECT ");
            sql.text(value).text(" FROM ").part(&from);
            if kind == Searched::Models && matches!(order.field, Field::Metric(_) | Field::MetricOn(..)) {
                sql.text(" ORDER BY x.at DESC, x.step DESC, x.run, x.value DESC, x.nan");
            }
            sql.text(" LIMIT 1)");
            sql
        }
    })
}

/// Adds `expression ASC NULLS LAST`.
pub(super) fn direction(order: &OrderBy) -> &'static str {
    if order.ascending { " ASC NULLS LAST" } else { " DESC NULLS LAST" }
}

/// The rows of an index, as `table f WHERE ...`, that every run which passes this test is among; `None` where no index says it.
pub(super) fn index_rows(test: &Test) -> Result<Option<Sql>> {
    if test.or_absent {
        return Ok(None);
    }
    let mut sql = Sql::default();
    match (&test.field, &test.op) {
        (
            Field::Metric(key),
            Op::Equal(_) | Op::Less(_) | Op::LessOrEqual(_) | Op::Greater(_) | Op::GreaterOrEqual(_) | Op::Between(..) | Op::In(_),
        ) => {
            sql.text("run_metrics_latest f WHERE f.name = ").value(key.as_str()).text(" AND ");
            compare("f.value", true, &test.op, &mut sql)?;
        }
        (Field::Param(key), op) => return words("run_params", key, op),
        (Field::Tag(key), op) => return words("run_tags", key, op),
        _ => return Ok(None),
    }
    Ok(Some(sql))
}

/// Only the indexed beginning of the value is compared: the filter itself does the rest. (A comparison of the whole value beside it would
/// lead SQLite's planner away from the index.)
fn words(table: &str, key: &str, op: &Op) -> Result<Option<Sql>> {
    let values: Vec<&str> = match op {
        Op::Equal(Value::Text(text)) => vec![text],
        Op::In(values) => values.iter().filter_map(|v| if let Value::Text(text) = v { Some(text.as_str()) } else { None }).collect(),
        _ => return Ok(None),
    };
    let mut sql = Sql::new(table);
    sql.text(" f WHERE f.name = ").value(key).text(&format!(" AND substr(f.value, 1, {INDEXED_CHARS}) IN ("));
    for (i, value) in values.iter().enumerate() {
        sql.text(if i == 0 { "substr(" } else { ", substr(" }).value(*value).text(&format!(", 1, {INDEXED_CHARS})"));
    }
    sql.text(")");
    Ok(Some(sql))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_keep_their_meaning() {
        assert_eq!(glob("a%b_c*[x]?"), "a*b?c[*][[]x][?]");
    }

    #[test]
    fn values_are_never_text() {
        let evil = "x') OR 1=1 --";
        let test = |field, op| Filter::Test(Test { field, op, or_absent: true });
        let filter = Filter::All(vec![
            test(Field::Tag(evil.into()), Op::NotEqual(Value::Text(evil.into()))),
            test(Field::Metric(evil.into()), Op::In(vec![Value::Number(1.0)])),
            test(Field::Dataset("name".into()), Op::Like(evil.into())),
            test(Field::Attribute("run_name".into()), Op::ILike(evil.into())),
        ]);
        let mut sql = Sql::default();
        condition(Searched::Runs.into(), &filter, &mut sql).expect("a condition");
        assert!(!sql.told().contains("1=1"), "{}", sql.told());
    }
}
