//! The audit behind [`parity`](crate::parity): takes a sample of the log, computes its features again from the stored tables by the same plan, and
//! judges what differs by the rows that serving had then.
//!
//! Nothing of what serving keeps is read: not its rows, not how it finds them. What is shared is the compiled plan and the tables.
//! Views that are computed in the request are left out, because what the caller sent is not in the log.

use crate::parity::{Found, Parity, differing, line};
use crate::replay::Difference;
use crate::run::{catalog, column};
use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Float64Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray, UInt32Array,
};
use arrow::compute::take_record_batch;
use arrow::datatypes::{DataType, Int32Type, TimeUnit, TimestampMicrosecondType};
use futures::TryStreamExt;
use gristmill_kernel::port::{AsOfPlan, Known, Ports, compile_view};
use gristmill_kernel::prediction::{Basis, Horizon, LOG_FORMAT, ViewBasis};
use gristmill_kernel::table::{Catalog, Relation, TableName};
use gristmill_kernel::version::Which;
use gristmill_kernel::view::{ViewAt, ViewMeta};
use gristmill_kernel::{Address, AssetKind, Fault, Name, Result, StageContext, VersionRef, logged};
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Which predictions are looked at.
pub struct Wanted<'a> {
    /// The prediction log.
    pub table: &'a TableName,
    /// The version that answered.
    pub model: &'a VersionRef,
    /// The window.
    pub window: crate::plan::Span,
    /// At most this many.
    pub rows: u64,
}

/// A prediction as the log has it.
pub(crate) struct Served {
    pub id: String,
    /// When it was answered, in microseconds.
    pub at: i64,
    /// The moment of its features.
    pub as_of: i64,
    pub entity: Map<String, Value>,
    pub features: Map<String, Value>,
    /// Nothing where the features came with the request.
    pub basis: Basis,
}

/// The columns that [`read`] needs.
pub(crate) const READ: &str = "prediction_id, at, as_of, entity, features, based_on, format";

/// Predictions out of rows of the log, but for those of a newer format.
pub(crate) fn read(batch: &RecordBatch, table: &TableName) -> Result<Vec<Served>> {
    let text = |name: &str| column(batch, name, &DataType::Utf8);
    let moment = |name: &str| column(batch, name, &DataType::Timestamp(TimeUnit::Microsecond, None));
    let (id, entity, features, basis) = (text("prediction_id")?, text("entity")?, text("features")?, text("based_on")?);
    let (at, as_of, format) = (moment("at")?, moment("as_of")?, column(batch, "format", &DataType::Int32)?);
    let mut found = Vec::new();
    for row in 0..batch.num_rows() {
        let id = id.as_string::<i32>().value(row).to_owned();
        if format.as_primitive::<Int32Type>().value(row) > LOG_FORMAT {
            continue;
        }
        let damaged = |name: &str, e: serde_json::Error| Fault::damaged(format!("table {table}, column {name}, prediction {id}: {e}"));
        let basis = match basis.is_null(row) {
            true => Basis::default(),
            false => serde_json::from_str(basis.as_string::<i32>().value(row)).map_err(|e| damaged("based_on", e))?,
        };
        found.push(Served {
            at: at.as_primitive::<TimestampMicrosecondType>().value(row),
            as_of: as_of.as_primitive::<TimestampMicrosecondType>().value(row),
            entity: serde_json::from_str(entity.as_string::<i32>().value(row)).map_err(|e| damaged("entity", e))?,
            features: serde_json::from_str(features.as_string::<i32>().value(row)).map_err(|e| damaged("features", e))?,
            basis,
            id,
        });
    }
    Ok(found)
}

/// Audits a sample of a window; `None` if no prediction in it says what its features were computed from.
pub async fn audit(cx: &StageContext, wanted: &Wanted<'_>) -> Result<Option<Parity>> {
    if wanted.rows == 0 {
        return Ok(None);
    }
    let sample = sample(cx, wanted).await?;
    let mut found: Vec<Option<Found>> = vec![None; sample.len()];
    let mut parity = Parity::default();
    for group in groups(&sample) {
        cx.cancel.check()?;
        let Some(view) = View::load(&cx.ports, &group.view, group.version).await? else { continue };
        for (number, judged) in view.judge(&sample, &group.rows, &mut parity).await? {
            found[number] = found[number].max(Some(judged));
        }
        cx.progress.at(group.rows.len() as u64, sample.len() as u64, "feature vectors");
    }
    found.iter().flatten().for_each(|one| parity.add(*one));
    Ok((parity.checked + parity.unknown > 0).then_some(parity))
}

/// A sample that is the same whoever takes it: ids are drawn by chance, so the smallest of them are any.
async fn sample(cx: &StageContext, wanted: &Wanted<'_>) -> Result<Vec<Served>> {
    let Wanted { table, model, window, rows } = wanted;
    let info = cx.ports.engine.table(table).await?;
    // A log of an earlier binary does not say what its rows were based on.
    if info.is_none_or(|info| info.schema.column_with_name("based_on").is_none()) {
        return Ok(Vec::new());
    }
    let since = window.from.map(|t| format!(" and cast(at as bigint) > {}", t.micros())).unwrap_or_default();
    let sql = format!(
        "select {READ} from predictions where error is null and model = '{model}' \
         and based_on is not null and cast(at as bigint) <= {}{since} order by prediction_id limit {rows}",
        window.to.micros()
    );
    let batches: Vec<RecordBatch> = cx.ports.engine.query(&sql, &catalog(table), false).await?.try_collect().await?;
    let read = batches.iter().map(|batch| read(batch, table)).collect::<Result<Vec<_>>>()?;
    Ok(read.into_iter().flatten().collect())
}

/// Predictions whose features of one view are computed together.
struct Group {
    view: Name,
    version: u64,
    /// Places in the sample.
    rows: Vec<usize>,
}

/// The columns of an entity, and what kind of value each has.
type Types<'s> = Vec<(&'s String, &'static str)>;

/// Groups by view and definition, and by the types of the entity, which become columns of one type each.
fn groups(sample: &[Served]) -> Vec<Group> {
    let mut groups: BTreeMap<(&Name, u64, Types<'_>), Vec<usize>> = BTreeMap::new();
    for (number, served) in sample.iter().enumerate() {
        let types: Vec<_> = served.entity.iter().map(|(name, value)| (name, type_of(value))).collect();
        for (view, basis) in &served.basis.views {
            groups.entry((view, basis.version, types.clone())).or_default().push(number);
        }
    }
    groups.into_iter().map(|((view, version, _), rows)| Group { view: view.clone(), version, rows }).collect()
}

fn type_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "truth",
        Value::Number(n) if n.is_i64() => "whole number",
        Value::Number(_) => "number",
        Value::String(_) => "text",
        Value::Array(_) | Value::Object(_) => "other",
    }
}

/// A view ready to compute from the stored tables as they are now.
pub(crate) struct View {
    name: Name,
    meta: ViewMeta,
    plan: Arc<dyn AsOfPlan>,
    tables: Catalog,
    /// Name in SQL -> the table's generation.
    generations: BTreeMap<String, u64>,
}

impl View {
    /// `None` for a view that is computed in the request.
    pub(crate) async fn load(ports: &Ports, name: &Name, version: u64) -> Result<Option<View>> {
        let asset = Address::new(AssetKind::Features, name.clone());
        let found = ports.ledger.version(&asset, &Which::Number(version)).await?;
        let found =
            found.ok_or_else(|| Fault::damaged(format!("a prediction is based on {asset}@{version}, which is not in the ledger")))?;
        let meta: ViewMeta = serde_json::from_value(found.meta)
            .map_err(|e| Fault::damaged(format!("{} has no readable definition", found.id)).because(e))?;
        if meta.view.at == ViewAt::Request {
            return Ok(None);
        }
        let (mut tables, mut generations) = (Catalog::new(), BTreeMap::new());
        for (in_sql, pinned) in &meta.tables {
            let table = pinned.table.clone();
            let info = ports.engine.table(&table).await?;
            let info = info.ok_or_else(|| Fault::damaged(format!("the ledger names table {table}, which does not exist")))?;
            generations.insert(in_sql.clone(), info.generation);
            // All evaluations see the same rows, whatever is written meanwhile.
            tables.insert(in_sql.clone(), Relation::Stored { table, version: Some(info.version), time: pinned.time.clone() });
        }
        let plan = compile_view(ports.engine.as_ref(), &meta.view, &meta.tables).await?;
        Ok(Some(View { name: name.clone(), meta, plan, tables, generations }))
    }

    /// What there is to say about each of these vectors.
    async fn judge(&self, sample: &[Served], rows: &[usize], parity: &mut Parity) -> Result<Vec<(usize, Found)>> {
        let served: Vec<&Served> = rows.iter().map(|row| &sample[*row]).collect();
        let asked = self.asked(&served)?;
        let now = self.plan.evaluate(&asked, &self.tables).await?;
        let differs = |at: usize, answer: &RecordBatch, row: usize| {
            !differing(self.name.as_str(), &served[at].features, &logged::row(answer, row)).is_empty()
        };
        let mut found = vec![Found::Equal; rows.len()];
        let mut open: Vec<usize> = (0..rows.len()).filter(|at| differs(*at, &now, *at)).collect();
        open.retain(|at| {
            let known = self.loads_say(&served[*at].basis);
            if !known {
                found[*at] = Found::Unknown;
            }
            known
        });
        if !open.is_empty() {
            let loads = self.loads(&served, &open);
            let then = self.plan.evaluate_known(&some(&asked, &open)?, &self.tables, Known::Loads(&loads)).await?;
            let mut explained = Vec::new();
            for (row, at) in open.into_iter().enumerate() {
                let again = logged::row(&then, row);
                let differences = differing(self.name.as_str(), &served[at].features, &again);
                if differences.is_empty() {
                    explained.push(at);
                } else {
                    found[at] = Found::Mismatch;
                    parity.show(line(&served[at].id, &differences));
                }
            }
            self.explain(&served, &asked, &explained, &mut found).await?;
        }
        Ok(rows.iter().copied().zip(found).collect())
    }

    /// What there is to say about one vector, what of it is another value now, and what is another one without the rows that serving did not have.
    pub(crate) async fn again(&self, served: &Served) -> Result<(Found, Vec<Difference>, Vec<Difference>)> {
        let judged = self.judge(std::slice::from_ref(served), &[0], &mut Parity::default()).await?;
        let found = judged.first().map_or(Found::Unknown, |(_, found)| *found);
        let asked = self.asked(&[served])?;
        let differences = |answer: &RecordBatch| {
            let again = logged::row(answer, 0);
            let one = |(feature, was, is): (&str, &Value, &Value)| Difference {
                feature: feature.into(),
                served: was.clone(),
                computed: is.clone(),
            };
            differing(self.name.as_str(), &served.features, &again).into_iter().map(one).collect::<Vec<_>>()
        };
        let now = differences(&self.plan.evaluate(&asked, &self.tables).await?);
        let then = match found {
            Found::Mismatch => {
                let loads = self.loads(&[served], &[0]);
                differences(&self.plan.evaluate_known(&asked, &self.tables, Known::Loads(&loads)).await?)
            }
            _ => Vec::new(),
        };
        Ok((found, now, then))
    }

    /// Tells rows that came after the answer from rows that had come and were not yet applied.
    async fn explain(&self, served: &[&Served], asked: &RecordBatch, rows: &[usize], found: &mut [Found]) -> Result<()> {
        if rows.is_empty() {
            return Ok(());
        }
        let moments = TimestampMicrosecondArray::from_iter_values(rows.iter().map(|at| served[*at].at)).with_timezone("UTC");
        let there = self.plan.evaluate_known(&some(asked, rows)?, &self.tables, Known::Available(&moments)).await?;
        for (row, at) in rows.iter().enumerate() {
            let same = differing(self.name.as_str(), &served[*at].features, &logged::row(&there, row)).is_empty();
            found[*at] = if same { Found::Late } else { Found::Behind };
        }
        Ok(())
    }

    fn basis<'b>(&self, basis: &'b Basis) -> Option<&'b ViewBasis> {
        basis.views.get(&self.name)
    }

    fn horizon(&self, basis: &Basis, table: &str) -> Option<Horizon> {
        self.basis(basis)?.tables.get(table).copied()
    }

    /// Whether the loads that were known then are still those of the tables.
    fn loads_say(&self, basis: &Basis) -> bool {
        let one = |(table, generation): (&String, &u64)| {
            self.horizon(basis, table).is_some_and(|then| then.load == 0 || then.generation == *generation)
        };
        self.generations.iter().all(one)
    }

    fn loads(&self, served: &[&Served], rows: &[usize]) -> BTreeMap<String, Int64Array> {
        let of = |table: &String| rows.iter().map(|at| self.horizon(&served[*at].basis, table).map(|h| h.load)).collect();
        self.generations.keys().map(|table| (table.clone(), of(table))).collect()
    }

    /// The entities and moments.
    fn asked(&self, served: &[&Served]) -> Result<RecordBatch> {
        let mut columns: Vec<(String, ArrayRef)> = Vec::new();
        for name in &self.meta.view.entity {
            let values: Vec<&Value> = served.iter().map(|one| one.entity.get(name).unwrap_or(&Value::Null)).collect();
            columns.push((name.clone(), entity_column(&values)));
        }
        let moments = TimestampMicrosecondArray::from_iter_values(served.iter().map(|one| one.as_of)).with_timezone("UTC");
        columns.push(("time".to_owned(), Arc::new(moments)));
        RecordBatch::try_from_iter(columns).map_err(|e| Fault::internal("the sample of an audit does not make a batch").because(e))
    }
}

/// Values of one type, as serving makes a column of what it was sent.
fn entity_column(values: &[&Value]) -> ArrayRef {
    match values.iter().find(|v| !v.is_null()) {
        Some(Value::Bool(_)) => Arc::new(values.iter().map(|v| v.as_bool()).collect::<BooleanArray>()),
        Some(Value::Number(n)) if n.is_i64() => Arc::new(values.iter().map(|v| v.as_i64()).collect::<Int64Array>()),
        Some(Value::Number(_)) => Arc::new(values.iter().map(|v| v.as_f64()).collect::<Float64Array>()),
        _ => Arc::new(values.iter().map(|v| v.as_str()).collect::<StringArray>()),
    }
}

fn some(asked: &RecordBatch, rows: &[usize]) -> Result<RecordBatch> {
    let places = UInt32Array::from_iter_values(rows.iter().map(|row| *row as u32));
    take_record_batch(asked, &places).map_err(|e| Fault::internal("rows of a batch cannot be taken").because(e))
}
