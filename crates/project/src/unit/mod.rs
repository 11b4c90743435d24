//! `gristmill test`: unit tests of views, in `tests/*.toml`. No table, no run, no server: the given rows go through the one compiled plan.
//!
//! ```toml
//! [[test]]
//! name    = "an order at the moment itself does not count"
//! view    = "activity"
//! as_of   = "2011-01-01"
//! entity  = { customer_id = 1 }
//! expect  = { orders_30d = 0, spend_30d = "null" }
//! rows.invoices = [
//!   { invoice = "1", customer_id = 1, invoice_date = "2011-01-01", quantity = 1, price = 2.5 },
//! ]
//! ```
//!
//! TOML has no null: the text `"null"` means NULL, in rows and in `expect`; a column that a row leaves out is NULL. A row of a snapshot may
//! say when it was loaded with `_loaded_at`. A view that is computed in the call gets `request = { ... }`.

mod sample;
mod values;
mod written;

pub use sample::{Real, Sampled, sample};

use crate::check::Inferred;
use crate::project::{Project, files, read};
use crate::read::{Places, other_file};
use crate::text::{Text, did_you_mean};
use arrow::array::{Int64Array, RecordBatch, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use gristmill_kernel::port::{Engine, TableShape};
use gristmill_kernel::table::{Catalog, LOAD, LOADED_AT, ROW, Relation};
use gristmill_kernel::view::{REQUEST, ViewAt, ViewDef};
use gristmill_kernel::{Code, Fault, Name, Timestamp};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;
use values::{column, guess, moment, same, value};

type Row = Map<String, Value>;

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    test: Vec<Case>,
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    name: String,
    view: Name,
    as_of: Timestamp,
    #[serde(default)]
    entity: Row,
    #[serde(default)]
    rows: BTreeMap<String, Vec<Row>>,
    #[serde(default)]
    request: Row,
    expect: Row,
}

/// What came of one test.
#[derive(Debug)]
pub struct TestResult {
    /// The file.
    pub file: String,
    /// The test's name.
    pub name: String,
    /// Columns that are not as expected; empty when the test passed.
    pub differences: Vec<Difference>,
    /// Why it could not be judged.
    pub fault: Option<Fault>,
}

/// One column that is not as expected.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct Difference {
    /// The column.
    pub column: String,
    /// What the test says.
    pub expected: Value,
    /// What the view gives.
    pub found: Value,
}

impl TestResult {
    /// Whether the view gave what was expected.
    pub fn passed(&self) -> bool {
        self.fault.is_none() && self.differences.is_empty()
    }
    /// For people.
    pub fn text(&self) -> String {
        let mut text = format!("{} {}: {}", if self.passed() { "ok  " } else { "FAIL" }, self.file, self.name);
        for d in &self.differences {
            text.push_str(&format!("\n  {}\n  - expected {}\n  + found    {}", d.column, d.expected, d.found));
        }
        if let Some(fault) = &self.fault {
            text.push('\n');
            text.push_str(&crate::render::render(fault, false));
        }
        text
    }
    /// For tools.
    pub fn json(&self) -> Value {
        json!({
            "file": self.file,
            "name": self.name,
            "passed": self.passed(),
            "differences": self.differences,
            "fault": self.fault.as_ref().map(crate::render::json),
        })
    }
}

/// Runs every test of a project. On failure: the test files that cannot be read.
pub async fn run_tests(project: &Project, engine: &dyn Engine) -> Result<Vec<TestResult>, Vec<Fault>> {
    run_tests_with(project, engine, &Inferred::new()).await
}

/// As [`run_tests`], with the columns that the sources have where nothing is pinned.
pub async fn run_tests_with(project: &Project, engine: &dyn Engine, inferred: &Inferred) -> Result<Vec<TestResult>, Vec<Fault>> {
    let mut faults = Vec::new();
    let mut results = Vec::new();
    for name in files(&project.dir.join("tests"), "toml", &mut faults) {
        let shown = format!("tests/{name}");
        let text = match read(&project.dir.join(&shown), &shown) {
            Ok(text) => Text::new(&shown, text),
            Err(fault) => {
                faults.push(fault);
                continue;
            }
        };
        match judge_file(project, engine, inferred, &text).await {
            Ok(mut more) => results.append(&mut more),
            Err(mut more) => faults.append(&mut more),
        }
    }
    if faults.is_empty() { Ok(results) } else { Err(faults) }
}

/// Runs the tests of one file.
async fn judge_file(project: &Project, engine: &dyn Engine, inferred: &Inferred, text: &Text) -> Result<Vec<TestResult>, Vec<Fault>> {
    let (file, places) = other_file::<File>(text)?;
    let mut results = Vec::new();
    for (i, case) in file.test.iter().enumerate() {
        let bench = Bench { project, engine, inferred, text, places: &places, path: format!("test.{i}") };
        let (differences, fault) = match bench.judge(case).await {
            Ok(differences) => (differences, None),
            Err(fault) => (Vec::new(), Some(fault)),
        };
        results.push(TestResult { file: text.file.clone(), name: case.name.clone(), differences, fault });
    }
    Ok(results)
}

/// One test with what it needs.
struct Bench<'a> {
    project: &'a Project,
    engine: &'a dyn Engine,
    inferred: &'a Inferred,
    text: &'a Text,
    places: &'a Places,
    path: String,
}

impl Bench<'_> {
    async fn judge(&self, case: &Case) -> Result<Vec<Difference>, Fault> {
        let answer = self.answer(case).await?;
        let mut differences = Vec::new();
        for (column, expected) in &case.expect {
            let Some(values) = answer.column_by_name(column) else {
                let schema = answer.schema();
                let known: Vec<&str> = schema.fields().iter().map(|f| f.name().as_str()).collect();
                let fault = Fault::not_found(Code::UNKNOWN_COLUMN, format!("the view {} has no column `{column}`", case.view));
                return Err(self.at(fault.fix(did_you_mean(column, "columns", known)), &format!("expect.{column}")));
            };
            let found = value(values, 0);
            let expected = if expected == "null" { Value::Null } else { expected.clone() };
            if !same(&expected, &found) {
                differences.push(Difference { column: column.clone(), expected, found });
            }
        }
        Ok(differences)
    }

    /// What the view says of the given rows: one row.
    async fn answer(&self, case: &Case) -> Result<RecordBatch, Fault> {
        let Some(view) = self.project.views.get(&case.view) else {
            let known = self.project.views.keys().map(Name::as_str).collect::<Vec<_>>();
            let fault = Fault::not_found(Code::UNKNOWN_NAME, format!("there is no view `{}`", case.view));
            return Err(self.at(fault.fix(did_you_mean(case.view.as_str(), "views", known)), "view"));
        };
        let on_request = view.at == ViewAt::Request;
        let reads = self
            .project
            .reads(self.engine, &view.sql, &view.file, view.line_offset, on_request)
            .map_err(|mut faults| faults.swap_remove(0))?;
        if let Some(bad) = case.rows.keys().find(|t| !reads.tables.contains_key(*t)) {
            let fault = Fault::invalid(Code::UNKNOWN_TABLE, format!("the view {} does not read `{bad}`", view.name));
            return Err(
                self.at(fault.fix(did_you_mean(bad, "its tables", reads.tables.keys().map(String::as_str))), &format!("rows.{bad}"))
            );
        }
        let (mut shapes, mut catalog) = (BTreeMap::new(), Catalog::new());
        for (table, time) in &reads.tables {
            let rows = case.rows.get(table).map_or(&[][..], Vec::as_slice);
            let schema = self.schema(table, rows)?;
            let batch = self.batch(rows, &schema, &format!("rows.{table}"), Some(case.as_of))?;
            shapes.insert(table.clone(), TableShape { schema, time: time.clone() });
            catalog.insert(table.clone(), Relation::Rows(vec![batch.clone()], batch.schema()));
        }
        if let Some(schema) = view.request_schema() {
            if let Some(bad) = case.request.keys().find(|c| schema.field_with_name(c).is_err()) {
                let known = schema.fields().iter().map(|f| f.name().as_str());
                let fault = Fault::invalid(Code::UNKNOWN_COLUMN, format!("`{bad}` is no column of `request` in {}", view.file));
                return Err(self.at(fault.fix(did_you_mean(bad, "columns", known)), &format!("request.{bad}")));
            }
            let mut row = case.request.clone();
            row.extend(case.entity.clone());
            let batch = self.batch(&[row], &schema, "request", None)?;
            shapes.insert(REQUEST.into(), TableShape { schema: schema.clone(), time: None });
            catalog.insert(REQUEST.into(), Relation::Rows(vec![batch], schema));
        }
        let plan = self.engine.compile(view, &shapes).await?;
        let asked = self.asked(case, view, &shapes)?;
        let answer = plan.evaluate(&asked, &catalog).await?;
        if answer.num_rows() != 1 {
            return Err(Fault::internal(format!("one row was asked of {} and {} came back", view.name, answer.num_rows())));
        }
        Ok(answer)
    }

    fn at(&self, fault: Fault, key: &str) -> Fault {
        let mut path = format!("{}.{key}", self.path);
        loop {
            if let Some(place) = self.places.get(&path) {
                return fault.at(self.text.spot(place.value.clone()));
            }
            match path.rsplit_once('.') {
                Some((above, _)) => path = above.to_owned(),
                None => return fault,
            }
        }
    }

    /// The columns of a table: pinned, inferred, or guessed from the test's rows.
    fn schema(&self, table: &str, rows: &[Row]) -> Result<SchemaRef, Fault> {
        let name = Name::new(table)?;
        Ok(match self.project.lock.schema(&name) {
            Some(schema) => Arc::new(schema),
            None => self.inferred.get(&name).cloned().unwrap_or_else(|| Arc::new(self.timed(table, guess(rows)))),
        })
    }

    /// A guessed schema knows its time column at least.
    fn timed(&self, table: &str, schema: Schema) -> Schema {
        let time = self.project.file.sources.iter().find(|(n, _)| n.as_str() == table).and_then(|(_, s)| s.time.clone());
        let fields = schema
            .fields()
            .iter()
            .map(|f| if Some(f.name()) == time.as_ref() { Arc::new(Field::new(f.name(), moment(), true)) } else { f.clone() });
        Schema::new(fields.collect::<Vec<_>>())
    }

    fn asked(&self, case: &Case, view: &ViewDef, shapes: &BTreeMap<String, TableShape>) -> Result<RecordBatch, Fault> {
        let mut fields = Vec::new();
        for column in &view.entity {
            if !case.entity.contains_key(column) && !case.request.contains_key(column) {
                let fault = Fault::invalid(Code::MISSING_INPUT, format!("the test does not say which `{column}` it asks about"));
                return Err(self.at(fault.fix(format!("add entity = {{ {column} = ... }}")), "entity"));
            }
            let known = shapes.values().find_map(|s| s.schema.field_with_name(column).ok()).map(|f| f.data_type().clone());
            let guessed =
                || guess(std::slice::from_ref(&case.entity)).field_with_name(column).map_or(DataType::Utf8, |f| f.data_type().clone());
            fields.push(Field::new(column, known.unwrap_or_else(guessed), true));
        }
        if let Some(bad) = case.entity.keys().find(|c| !view.entity.contains(c)) {
            let fault = Fault::invalid(Code::UNKNOWN_COLUMN, format!("`{bad}` is no entity column of {}", view.name));
            return Err(
                self.at(fault.fix(did_you_mean(bad, "entity columns", view.entity.iter().map(String::as_str))), &format!("entity.{bad}"))
            );
        }
        let mut row = case.request.clone();
        row.extend(case.entity.clone());
        let sent = view.request_schema();
        let sent = sent.iter().flat_map(|schema| schema.fields()).filter(|f| !view.entity.contains(f.name()));
        fields.extend(sent.map(|f| f.as_ref().clone()));
        let batch = self.batch(&[row], &Arc::new(Schema::new(fields)), "entity", None)?;
        let mut fields: Vec<Arc<Field>> = batch.schema().fields().to_vec();
        let mut columns = batch.columns().to_vec();
        fields.push(Arc::new(Field::new("time", moment(), true)));
        columns.push(Arc::new(TimestampMicrosecondArray::from(vec![case.as_of.micros()]).with_timezone("UTC")));
        RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)
            .map_err(|e| Fault::internal("a test's question has no shape").because(e))
    }

    /// Rows as arrow; with `as_of`, our own columns are added, and a row counts as loaded just before that moment unless it says when.
    fn batch(&self, rows: &[Row], schema: &SchemaRef, path: &str, as_of: Option<Timestamp>) -> Result<RecordBatch, Fault> {
        for (i, row) in rows.iter().enumerate() {
            if let Some(bad) = row.keys().find(|c| schema.field_with_name(c).is_err() && *c != LOADED_AT && as_of.is_some()) {
                let known: Vec<&str> = schema.fields().iter().map(|f| f.name().as_str()).collect();
                let fault = Fault::invalid(Code::UNKNOWN_COLUMN, format!("there is no column `{bad}`"));
                return Err(self.at(fault.fix(did_you_mean(bad, "columns", known)), &format!("{path}.{i}.{bad}")));
            }
        }
        let mut fields: Vec<Arc<Field>> = schema.fields().to_vec();
        let mut columns = Vec::new();
        for field in schema.fields() {
            columns.push(column(rows, field).map_err(|(i, fault)| self.at(fault, &format!("{path}.{i}.{}", field.name())))?);
        }
        if let Some(as_of) = as_of {
            let loaded: Result<Vec<i64>, Fault> = rows
                .iter()
                .map(|r| match r.get(LOADED_AT).and_then(Value::as_str) {
                    Some(text) => Ok(text.parse::<Timestamp>()?.micros()),
                    None => Ok(as_of.micros() - 1),
                })
                .collect();
            let loaded = loaded.map_err(|fault| self.at(fault, path))?;
            // Rows loaded together share a load, later loads have higher numbers.
            let mut moments = loaded.clone();
            moments.sort_unstable();
            moments.dedup();
            let load = |at: &i64| moments.binary_search(at).map_or(1, |i| i as i64 + 1);
            fields.push(Arc::new(Field::new(LOAD, DataType::Int64, false)));
            columns.push(Arc::new(Int64Array::from_iter_values(loaded.iter().map(load))));
            fields.push(Arc::new(Field::new(ROW, DataType::Int64, false)));
            columns.push(Arc::new(Int64Array::from_iter_values(0..rows.len() as i64)));
            fields.push(Arc::new(Field::new(LOADED_AT, moment(), false)));
            columns.push(Arc::new(TimestampMicrosecondArray::from(loaded).with_timezone("UTC")));
        }
        let options = arrow::array::RecordBatchOptions::new().with_row_count(Some(rows.len()));
        RecordBatch::try_new_with_options(Arc::new(Schema::new(fields)), columns, &options)
            .map_err(|e| Fault::internal("a test's rows have no shape").because(e))
    }
}
