//! `gristmill test --write`: a unit test out of real rows.
//!
//! A few entities are chosen, one that has many rows and two that have few; for each a moment: that of the row which has the most rows in the view's window
//! before it. Of the rows up to it a few are given, close ones closer together, with one that is too old and the ones at the moment itself, so that moved
//! borders are seen. What the view says of just these rows is what is expected: it holds at once, and no longer when the view changes its mind.

use super::values::{expressible, value};
use super::{Bench, Case, Row, judge_file, written};
use crate::check::Inferred;
use crate::project::Project;
use crate::read::Places;
use crate::text::Text;
use arrow::array::{Array, RecordBatch};
use arrow::datatypes::SchemaRef;
use futures::TryStreamExt as _;
use gristmill_kernel::limits::{SAMPLE_ROWS_LOOKED_AT, SAMPLE_ROWS_WRITTEN, SAMPLE_TESTS};
use gristmill_kernel::port::{Engine, KeptRows, TableShape};
use gristmill_kernel::table::{Catalog, LOADED_AT};
use gristmill_kernel::training::{LABEL, TIME};
use gristmill_kernel::view::{Ties, ViewAt, ViewDef};
use gristmill_kernel::{Code, Fault, Name, Result, Timestamp};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Where real rows are.
pub struct Real<'a> {
    /// The project.
    pub project: &'a Project,
    /// Reads them.
    pub engine: &'a dyn Engine,
    /// The project's tables by name.
    pub catalog: &'a Catalog,
    /// Label rows of a model that uses the view, for what callers send.
    pub labels: Option<RecordBatch>,
}

/// A written test file.
#[derive(Debug)]
pub struct Sampled {
    /// Its text.
    pub text: String,
    /// How many tests it has.
    pub tests: usize,
    /// How many rows they give.
    pub rows: usize,
}

/// Writes tests of a view. They have been run, and pass.
pub async fn sample(real: &Real<'_>, view: &Name, file: &str) -> Result<Sampled, Vec<Fault>> {
    let sampler = Sampler::new(real, view).await?;
    let mut cases = sampler.cases().await.map_err(one)?;
    let (text, places) = (Text::new(file, ""), Places::new());
    for case in &mut cases {
        let bench = Bench {
            project: real.project,
            engine: real.engine,
            inferred: &Inferred::new(),
            text: &text,
            places: &places,
            path: String::new(),
        };
        let answer = bench.answer(case).await.map_err(one)?;
        for (field, column) in answer.schema().fields().iter().zip(answer.columns()) {
            if !sampler.view.entity.contains(field.name()) {
                case.expect.insert(field.name().clone(), value(column, 0));
            }
        }
    }
    let rows = cases.iter().flat_map(|c| c.rows.values()).map(Vec::len).sum();
    let text = written::file(&format!("features.{view}"), &cases);
    let results = judge_file(real.project, real.engine, &Inferred::new(), &Text::new(file, text.clone())).await?;
    if let Some(bad) = results.iter().find(|r| !r.passed()) {
        return Err(vec![Fault::internal(format!("a test of real rows does not pass as written: {}", bad.text()))]);
    }
    Ok(Sampled { text, tests: cases.len(), rows })
}

fn one(fault: Fault) -> Vec<Fault> {
    vec![fault]
}

struct Sampler<'a> {
    real: &'a Real<'a>,
    view: &'a ViewDef,
    tables: Vec<Table>,
}

/// A table of the view.
struct Table {
    name: String,
    time: Option<String>,
    schema: SchemaRef,
    /// Its columns that are the entity's, in that order; none if it has no such columns.
    key: Option<Vec<String>>,
    kept: Option<KeptRows>,
}

impl<'a> Sampler<'a> {
    async fn new(real: &'a Real<'a>, view: &Name) -> Result<Sampler<'a>, Vec<Fault>> {
        let project = real.project;
        let Some(view) = project.views.get(view) else {
            let known: Vec<&str> = project.views.keys().map(Name::as_str).collect();
            let fault = Fault::not_found(Code::UNKNOWN_ADDRESS, format!("the project has no features.{view}"));
            return Err(vec![fault.fix(format!("its views are {}", known.join(", ")))]);
        };
        let reads = project.reads(real.engine, &view.sql, &view.file, view.line_offset, view.at == ViewAt::Request)?;
        let mut shapes = BTreeMap::new();
        for (table, time) in &reads.tables {
            let rows = real.catalog.get(table).zip(project.lock.schema(&Name::new(table.as_str()).map_err(one)?));
            let Some((_, schema)) = rows else {
                let fault = Fault::not_found(Code::UNKNOWN_TABLE, format!("sources.{table} has no rows yet to take any from"));
                return Err(vec![fault.fix(format!("read them first: gristmill run sources.{table}"))]);
            };
            shapes.insert(table.clone(), TableShape { schema: Arc::new(schema), time: time.clone() });
        }
        // What callers send has no columns of its own here; which rows are kept is asked of views over sources only.
        let kept = match view.at {
            ViewAt::Sources => real.engine.compile(view, &shapes).await.map_err(one)?.shape().kept.clone(),
            ViewAt::Request => Vec::new(),
        };
        let mut tables = Vec::new();
        for name in reads.analysis.tables.iter().filter(|name| shapes.contains_key(*name)) {
            let shape = &shapes[name];
            let kept = kept.iter().find(|k| k.table == *name).cloned();
            let named = || view.entity.iter().all(|c| shape.schema.field_with_name(c).is_ok()).then(|| view.entity.clone());
            let key = kept.as_ref().map(|k| k.key.clone()).filter(|key| !key.is_empty()).or_else(named).filter(|key| !key.is_empty());
            tables.push(Table { name: name.clone(), time: shape.time.clone(), schema: shape.schema.clone(), key, kept });
        }
        Ok(Sampler { real, view, tables })
    }

    async fn cases(&self) -> Result<Vec<Case>> {
        if self.view.at == ViewAt::Request {
            return self.cases_of_labels().await;
        }
        // The first table with a time and an entity leads; a view of snapshots alone has one without.
        let lead =
            self.tables.iter().find(|t| t.time.is_some() && t.key.is_some()).or_else(|| self.tables.iter().find(|t| t.key.is_some()));
        let Some((lead, key)) = lead.and_then(|t| Some((t, t.key.as_ref()?))) else {
            let fault = Fault::invalid(
                Code::BAD_VALUE,
                format!("which rows belong to an entity of features.{} is not plain from its query", self.view.name),
            );
            return Err(fault.fix("write its test by hand: tests/NAME.toml, as gristmill init --example churn shows"));
        };
        let mut cases = Vec::new();
        for entity in self.entities(lead, key).await? {
            cases.push(self.case(lead, entity).await?);
        }
        match cases.is_empty() {
            false => Ok(cases),
            true => Err(Fault::not_found(Code::UNKNOWN_TABLE, format!("sources.{} has no rows to take any from", lead.name))
                .fix(format!("read some first: gristmill run sources.{}", lead.name))),
        }
    }

    /// Some entities: two that have few rows, then those that have most.
    async fn entities(&self, lead: &Table, key: &[String]) -> Result<Vec<Vec<Value>>> {
        let columns = key.iter().map(|c| quoted(c)).collect::<Vec<_>>().join(", ");
        let known = key.iter().map(|c| format!("{} is not null", quoted(c))).collect::<Vec<_>>().join(" and ");
        let mut found: Vec<Vec<Value>> = Vec::new();
        for (having, most) in [("count(*) between 3 and 12", SAMPLE_TESTS - 1), ("count(*) > 0", SAMPLE_TESTS)] {
            let sql = format!(
                "select {columns}, count(*) as \"__n\" from {} where {known} group by {columns} having {having} order by \"__n\" desc, {columns} limit {most}",
                quoted(&lead.name)
            );
            for row in self.rows(&sql, false).await? {
                let entity: Vec<Value> = key.iter().map(|c| row.get(c).cloned().unwrap_or_default()).collect();
                if found.len() < SAMPLE_TESTS && !found.contains(&entity) {
                    found.push(entity);
                }
            }
        }
        Ok(found)
    }

    /// One entity at one moment.
    async fn case(&self, lead: &Table, entity: Vec<Value>) -> Result<Case> {
        let of_lead = self.of_entity(lead, &entity).await?;
        let as_of = match &lead.time {
            Some(time) => moment(&of_lead, time, lead),
            None => self.loaded_at(lead).await?,
        };
        let as_of = as_of.ok_or_else(|| Fault::invalid(Code::BAD_VALUE, format!("no row of sources.{} has a time", lead.name)))?;
        let mut rows: BTreeMap<String, Vec<Row>> = BTreeMap::new();
        let named = |entity: &[Value]| self.view.entity.iter().cloned().zip(entity.iter().cloned()).collect::<Row>();
        let mut seen: Vec<Row> = vec![named(&entity)];
        for table in self.tables.iter().filter(|t| t.name != lead.name) {
            let candidates = match (&table.key, table.time.is_some()) {
                (Some(_), true) => self.of_entity(table, &entity).await?,
                _ => self.alike(table, &[&seen[..], &of_lead[..]].concat()).await?,
            };
            let chosen = choose(table, &candidates, as_of, self.view.ties, &|_| false);
            seen.extend(chosen.clone());
            rows.insert(table.name.clone(), chosen);
        }
        // Rows that belong to chosen rows of the other tables come along.
        let others: Vec<&Row> = rows.values().flatten().collect();
        let own: BTreeSet<&String> = lead.key.iter().flatten().chain(&lead.time).collect();
        let belongs = |row: &Row| {
            others.iter().any(|other| {
                let mut shared = row.iter().filter(|(c, _)| !own.contains(c) && other.contains_key(*c)).peekable();
                shared.peek().is_some() && shared.all(|(c, v)| other.get(c) == Some(v))
            })
        };
        let chosen = choose(lead, &of_lead, as_of, self.view.ties, &belongs);
        rows.insert(lead.name.clone(), chosen);
        let words: Vec<String> = self.view.entity.iter().zip(&entity).map(|(name, value)| format!("{name} {}", plain(value))).collect();
        Ok(Case {
            name: format!("{} at {as_of}", words.join(", ")),
            view: self.view.name.clone(),
            as_of,
            entity: named(&entity),
            rows: rows.into_iter().map(|(table, rows)| (table, rows.into_iter().map(|row| self.shown(row)).collect())).collect(),
            request: Row::new(),
            expect: Row::new(),
        })
    }

    /// A view that is computed in the call: what label rows say stands for what callers send.
    async fn cases_of_labels(&self) -> Result<Vec<Case>> {
        let labels = self.real.labels.as_ref().filter(|labels| labels.num_rows() > 0).ok_or_else(|| {
            let message =
                format!("features.{} is computed from what callers send, and no model that uses it has label rows yet", self.view.name);
            Fault::not_found(Code::UNKNOWN_TABLE, message).fix("make the label set first (gristmill apply), or write the test by hand")
        })?;
        let count = labels.num_rows();
        let chosen: BTreeSet<usize> = (0..SAMPLE_TESTS).map(|i| i * (count - 1) / (SAMPLE_TESTS - 1)).collect();
        let mut cases = Vec::new();
        for row in rows_of(&labels.clone(), &chosen.into_iter().collect::<Vec<_>>()) {
            let as_of = row.get(TIME).and_then(Value::as_str).map(str::parse::<Timestamp>).transpose()?;
            let as_of = as_of.ok_or_else(|| Fault::damaged("a label row has no moment"))?;
            let sent: Row = row.into_iter().filter(|(c, _)| ![TIME, LABEL].contains(&c.as_str())).collect();
            let mut rows = BTreeMap::new();
            for table in &self.tables {
                let candidates = self.alike(table, std::slice::from_ref(&sent)).await?;
                let chosen = choose(table, &candidates, as_of, self.view.ties, &|_| false);
                rows.insert(table.name.clone(), chosen.into_iter().map(|row| self.shown(row)).collect());
            }
            let is_entity = |column: &String| self.view.entity.contains(column);
            cases.push(Case {
                name: format!("what was sent at {as_of}"),
                view: self.view.name.clone(),
                as_of,
                entity: sent.clone().into_iter().filter(|(c, _)| is_entity(c)).collect(),
                rows,
                request: self.shown(sent.into_iter().filter(|(c, _)| !is_entity(c) && self.view.request.contains_key(c)).collect()),
                expect: Row::new(),
            });
        }
        Ok(cases)
    }

    /// The newest rows of an entity, the newest first.
    async fn of_entity(&self, table: &Table, entity: &[Value]) -> Result<Vec<Row>> {
        let key = table.key.iter().flatten().zip(entity).map(|(c, v)| format!("{} = {}", quoted(c), literal(v)));
        self.newest(table, key.collect()).await
    }

    /// Rows that have a value in common with others in the columns of the same names; the first of these columns that a row can be found by decides.
    async fn alike(&self, table: &Table, others: &[Row]) -> Result<Vec<Row>> {
        let mut conditions = Vec::new();
        for field in table.schema.fields().iter().filter(|f| table.time.as_ref() != Some(f.name())) {
            let values: BTreeSet<String> =
                others.iter().filter_map(|row| row.get(field.name())).filter(|v| v.is_i64() || v.is_string()).map(literal).collect();
            if !values.is_empty() {
                let some: Vec<String> = values.into_iter().take(SAMPLE_ROWS_WRITTEN).collect();
                conditions.push(format!("{} in ({})", quoted(field.name()), some.join(", ")));
            }
        }
        self.newest(table, conditions).await
    }

    async fn newest(&self, table: &Table, conditions: Vec<String>) -> Result<Vec<Row>> {
        let columns: Vec<String> = table.schema.fields().iter().filter(|f| expressible(f.data_type())).map(|f| quoted(f.name())).collect();
        let filter = if conditions.is_empty() { String::new() } else { format!(" where {}", conditions.join(" and ")) };
        let order = table.time.as_ref().map_or_else(String::new, |time| format!(" order by {} desc nulls last", quoted(time)));
        let sql = format!("select {} from {}{filter}{order} limit {SAMPLE_ROWS_LOOKED_AT}", columns.join(", "), quoted(&table.name));
        self.rows(&sql, false).await
    }

    async fn loaded_at(&self, table: &Table) -> Result<Option<Timestamp>> {
        let rows = self.rows(&format!("select max({LOADED_AT}) as \"__at\" from {}", quoted(&table.name)), true).await?;
        rows.first().and_then(|row| row.get("__at")?.as_str()).map(str::parse).transpose()
    }

    async fn rows(&self, sql: &str, with_system: bool) -> Result<Vec<Row>> {
        let batches: Vec<RecordBatch> = self.real.engine.query(sql, self.real.catalog, with_system).await?.try_collect().await?;
        Ok(batches.iter().flat_map(|batch| rows_of(batch, &(0..batch.num_rows()).collect::<Vec<_>>())).collect())
    }

    /// The columns that the query names; the others would not change its answer.
    fn shown(&self, row: Row) -> Row {
        let sql = self.view.sql.to_lowercase();
        let all = sql.contains(".*") || sql.split_whitespace().collect::<Vec<_>>().join(" ").contains("select *");
        let words: BTreeSet<&str> = sql.split(|c: char| !c.is_alphanumeric() && c != '_').collect();
        row.into_iter().filter(|(c, v)| !v.is_null() && (all || words.contains(c.to_lowercase().as_str()))).collect()
    }
}

/// The moment of the row that has the most rows in the window before it; of several, the newest.
fn moment(rows: &[Row], time: &str, table: &Table) -> Option<Timestamp> {
    let times: Vec<Timestamp> = rows.iter().filter_map(|row| time_of(row, time)).collect();
    let window = table.kept.as_ref().and_then(|k| k.window);
    let before = |at: Timestamp| {
        let begin = window.map_or(i64::MIN, |w| at.micros().saturating_sub(w.micros()));
        times.iter().filter(|t| **t < at && t.micros() > begin).count()
    };
    times.iter().take(SAMPLE_ROWS_LOOKED_AT / 10).max_by_key(|at| (before(**at), **at)).copied()
}

/// A few of the rows, which are the newest first: in the order of time.
fn choose(table: &Table, rows: &[Row], as_of: Timestamp, ties: Ties, also: &dyn Fn(&Row) -> bool) -> Vec<Row> {
    let Some(time) = &table.time else { return rows.iter().take(SAMPLE_ROWS_WRITTEN).cloned().collect() };
    let begin = table.kept.as_ref().and_then(|k| k.window).map_or(i64::MIN, |w| as_of.micros().saturating_sub(w.micros()));
    let at = |i: &usize| time_of(&rows[*i], time).map_or(i64::MIN, Timestamp::micros);
    let known = |i: &usize| if ties == Ties::Include { at(i) <= as_of.micros() } else { at(i) < as_of.micros() };
    let all: Vec<usize> = (0..rows.len()).filter(|i| time_of(&rows[*i], time).is_some()).collect();
    let inside: Vec<usize> = all.iter().copied().filter(|i| known(i) && at(i) > begin).collect();
    let mut chosen: BTreeSet<usize> = spread(inside.len()).into_iter().map(|n| inside[n]).collect();
    // What must not count: the rows at the moment or the next one behind it, and the newest that is too old.
    chosen.extend(all.iter().rev().filter(|i| !known(i)).take(2));
    chosen.extend(all.iter().find(|i| at(i) <= begin));
    chosen.extend(inside.iter().filter(|i| also(&rows[**i])).take(SAMPLE_ROWS_WRITTEN));
    chosen.into_iter().rev().map(|i| rows[i].clone()).collect()
}

/// The places of a few out of many: close together at the beginning, and the last.
fn spread(count: usize) -> BTreeSet<usize> {
    let mut places: BTreeSet<usize> = (0..count.min(3)).collect();
    let (mut a, mut b) = (3, 5);
    while a < count && places.len() < SAMPLE_ROWS_WRITTEN - 1 {
        places.insert(a);
        (a, b) = (b, a + b);
    }
    places.extend(count.checked_sub(1));
    places
}

fn time_of(row: &Row, time: &str) -> Option<Timestamp> {
    row.get(time)?.as_str()?.parse().ok()
}

fn rows_of(batch: &RecordBatch, places: &[usize]) -> Vec<Row> {
    let schema = batch.schema();
    let row = |at: &usize| {
        let pairs = schema.fields().iter().zip(batch.columns()).filter(|(_, column)| column.is_valid(*at));
        pairs.map(|(field, column)| (field.name().clone(), value(column, *at))).collect()
    };
    places.iter().map(row).collect()
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

fn literal(value: &Value) -> String {
    match value {
        Value::String(text) => format!("'{}'", text.replace('\'', "''")),
        other => other.to_string(),
    }
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), ToOwned::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_are_taken_of_many() {
        assert_eq!(spread(0).into_iter().collect::<Vec<_>>(), [0usize; 0]);
        assert_eq!(spread(2).into_iter().collect::<Vec<_>>(), [0, 1]);
        assert_eq!(spread(30).into_iter().collect::<Vec<_>>(), [0, 1, 2, 3, 5, 8, 13, 21, 29]);
        assert!(spread(1_000_000).len() <= SAMPLE_ROWS_WRITTEN);
    }
}
