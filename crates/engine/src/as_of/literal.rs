//! Views that cannot be joined with what is asked, run word for word: once per distinct moment, over the rows that the moment sees.
//!
//! Right by construction and slow. The query runs for all entities at once; each asked row takes the row of its entity. A missing
//! entity gets what an aggregate of nothing gives, or NULLs if the view does not aggregate. Two rows for one entity are refused. The rows are
//! sorted first, so that the answer does not depend on the order in which they are given.

use super::known::{KnownBy, Reach};
use super::plan::{Compiled, Given, moments};
use super::view::{View, is_as_of};
use crate::fault;
use crate::sql::fence::Fenced;
use crate::sql::session::{Size, Sources};
use arrow::array::{Array, ArrayRef, RecordBatch, RecordBatchOptions, new_null_array};
use arrow::compute::{cast, concat_batches, interleave};
use arrow::row::{RowConverter, SortField};
use datafusion::catalog::TableProvider;
use datafusion::datasource::{ViewTable, provider_as_source};
use datafusion::logical_expr::{LogicalPlanBuilder, ident, lit};
use datafusion::scalar::ScalarValue;
use gristmill_kernel::error::{Code, Fault, Result};
use gristmill_kernel::port::{Known, TableShape};
use gristmill_kernel::table::{Catalog, LOAD, LOADED_AT, ROW};
use gristmill_kernel::view::Ties;
use sqlparser::ast::{Expr, GroupByExpr, Ident, Query, Select, SelectItem, SetExpr, Value, VisitMut, VisitorMut};
use std::collections::{BTreeMap, HashMap};
use std::ops::ControlFlow;
use std::sync::Arc;

/// A view to be run per moment.
pub struct Literal {
    query: Query,
    /// The query over no rows at all, for entities without any; `None` if the view does not aggregate.
    nothing: Option<Query>,
    tables: BTreeMap<String, TableShape>,
    entity: Vec<String>,
}

/// A moment, and how far the knowledge of each table reaches that is not known whole.
type Asked = (Option<i64>, Vec<Option<i64>>);

impl Literal {
    /// Of a fenced query.
    pub fn new(fenced: &Fenced, view: &View, shapes: &BTreeMap<String, TableShape>) -> Literal {
        let tables = fenced.tables.iter().map(|(name, _)| (name.clone(), shapes[name].clone())).collect();
        let nothing = view.aggregates.then(|| over_nothing(&fenced.query, view)).flatten();
        Literal { query: fenced.query.clone(), nothing, tables, entity: view.entity.iter().map(|c| c.name.clone()).collect() }
    }

    /// The features for each asked row.
    pub async fn evaluate(&self, compiled: &Compiled, asked: &RecordBatch, catalog: &Catalog, known: Known<'_>) -> Result<RecordBatch> {
        let broken = |e| Fault::internal("match answers with entities").because(e);
        let moments = moments(asked)?;
        let entities = compiled.entities(asked)?;
        let converter = RowConverter::new(entities.iter().map(|c| SortField::new(c.data_type().clone())).collect()).map_err(broken)?;
        let keys = converter.convert_columns(&entities).map_err(broken)?;
        let mut reaches: BTreeMap<&String, Reach> = BTreeMap::new();
        for table in self.tables.keys() {
            reaches.extend(Reach::of(known, table, asked.num_rows())?.map(|reach| (table, reach)));
        }
        let mut by_moment: BTreeMap<Asked, Vec<usize>> = BTreeMap::new();
        for row in 0..asked.num_rows() {
            let knows = reaches.values().map(|reach| reach.at(row)).collect();
            by_moment.entry((moments.is_valid(row).then(|| moments.value(row)), knows)).or_default().push(row);
        }
        let features = compiled.features().clone();
        let tables = self.sorted(compiled, catalog).await?;
        // Part 0 is the row of NULLs.
        let mut parts: Vec<Vec<ArrayRef>> = vec![features.fields().iter().map(|f| new_null_array(f.data_type(), 1)).collect()];
        let mut places = vec![(0usize, 0usize); asked.num_rows()];
        for ((moment, knows), rows) in by_moment {
            let Some(at) = moment else { continue };
            let knows = reaches.iter().zip(knows).map(|((table, reach), to)| ((*table).clone(), (reach.by, to))).collect();
            let moment = Moment { at, knows };
            let nothing = match &self.nothing {
                Some(query) => {
                    let answer = self.run(compiled, query, &moment, &tables).await?;
                    parts.push(self.columns(&answer, compiled)?);
                    (parts.len() - 1, 0)
                }
                None => (0, 0),
            };
            let answer = self.run(compiled, &self.query, &moment, &tables).await?;
            let own: Vec<ArrayRef> =
                self.entity.iter().zip(&entities).map(|(n, to)| named(&answer, n, to.data_type())).collect::<Result<_>>()?;
            let found = if own.is_empty() { None } else { Some(converter.convert_columns(&own).map_err(broken)?) };
            let mut place_of = HashMap::new();
            for row in 0..answer.num_rows() {
                let key = found.as_ref().map(|f| f.row(row).owned());
                if place_of.insert(key, row).is_some() && own.iter().all(|c| c.is_valid(row)) {
                    let fault = Fault::invalid(
                        Code::AS_OF_UNSUPPORTED,
                        format!("the view gives more than one row for one entity ({})", self.entity.join(", ")),
                    );
                    return Err(fault.fix("aggregate, or make the entity's columns name one row").at(compiled.text().spot(1, 1, 1)));
                }
            }
            parts.push(self.columns(&answer, compiled)?);
            let part = parts.len() - 1;
            for row in rows {
                let known = entities.iter().all(|c| c.is_valid(row));
                let key = (!own.is_empty()).then(|| keys.row(row).owned());
                places[row] = match place_of.get(&key) {
                    Some(place) if known => (part, *place),
                    _ => nothing,
                };
            }
        }
        let columns = (0..features.fields().len())
            .map(|i| {
                let arrays: Vec<&dyn Array> = parts.iter().map(|p| p[i].as_ref()).collect();
                interleave(&arrays, &places)
            })
            .collect::<std::result::Result<Vec<_>, _>>()
            .map_err(broken)?;
        let options = RecordBatchOptions::new().with_row_count(Some(asked.num_rows()));
        RecordBatch::try_new_with_options(features, columns, &options).map_err(broken)
    }

    fn columns(&self, answer: &RecordBatch, compiled: &Compiled) -> Result<Vec<ArrayRef>> {
        compiled.features().fields().iter().map(|f| named(answer, f.name(), f.data_type())).collect()
    }

    /// All rows of the tables, in the order of time, load and row.
    async fn sorted(&self, compiled: &Compiled, catalog: &Catalog) -> Result<BTreeMap<String, Given>> {
        let text = compiled.text();
        let mut tables = BTreeMap::new();
        for (name, shape) in &self.tables {
            let relation =
                catalog.get(name).ok_or_else(|| Fault::invalid(Code::UNKNOWN_TABLE, format!("there are no rows of `{name}` at hand")))?;
            let provider = Given::of(&compiled.shared, name, shape, relation).await?.provider()?;
            let schema = provider.schema();
            let order = shape.time.as_deref().into_iter().chain([LOAD, ROW]).map(|name| ident(name).sort(true, false));
            let plan = LogicalPlanBuilder::scan(name.as_str(), provider_as_source(provider), None)
                .and_then(|p| p.sort(order))
                .and_then(LogicalPlanBuilder::build)
                .map_err(|e| fault::query(e, text))?;
            let plan = compiled.shared.session.optimise(&plan, text)?;
            tables.insert(name.clone(), Given::Rows(schema, compiled.shared.collect(&plan, Size::Large, text).await?));
        }
        Ok(tables)
    }

    async fn run(&self, compiled: &Compiled, query: &Query, moment: &Moment, tables: &BTreeMap<String, Given>) -> Result<RecordBatch> {
        let text = compiled.text();
        let mut sources = Sources::new();
        for (name, shape) in &self.tables {
            let given = tables.get(name).ok_or_else(|| Fault::internal(format!("the rows of `{name}` were not sorted")))?;
            let knows = moment.knows.get(name).copied();
            let seen = match &shape.time {
                Some(time) => {
                    let at = lit(ScalarValue::TimestampMicrosecond(Some(moment.at), Some("UTC".into())));
                    let before = if compiled.def.ties == Ties::Include { ident(time).lt_eq(at) } else { ident(time).lt(at) };
                    match knows {
                        None => before,
                        Some((by, to)) => before.and(is_known(by, to)),
                    }
                }
                None => {
                    let load = given.loads(&compiled.shared, text).await?.at_known(moment.at, knows);
                    ident(LOAD).eq(lit(ScalarValue::Int64(load)))
                }
            };
            let own: Vec<_> = shape.schema.fields().iter().map(|f| ident(f.name())).collect();
            let provider: Arc<dyn TableProvider> = given.provider()?;
            let plan = LogicalPlanBuilder::scan(name.as_str(), provider_as_source(provider), None)
                .and_then(|p| p.filter(seen))
                .and_then(|p| p.project(own))
                .and_then(LogicalPlanBuilder::build)
                .map_err(|e| fault::query(e, text))?;
            sources.insert(name.clone(), provider_as_source(Arc::new(ViewTable::new(plan, None))));
        }
        let plan = compiled.shared.session.plan(at_moment(query, moment.at), &sources, text)?;
        let plan = compiled.shared.session.optimise(&plan, text)?;
        let schema = crate::sql::session::schema_of(&plan);
        // Sorted rows through one partition: an aggregate without an order of its own takes them in that of time, load and row.
        let answer = compiled.shared.collect(&plan, Size::Small, text).await?;
        let schema = answer.first().map_or(schema, RecordBatch::schema);
        concat_batches(&schema, &answer).map_err(|e| Fault::internal("collect answers").because(e))
    }
}

/// A moment, and how far its knowledge of each table reaches; all of a table that is not named.
struct Moment {
    at: i64,
    knows: BTreeMap<String, (KnownBy, Option<i64>)>,
}

/// Rows that are known. One that does not say since when always is; to whom knows nothing none is.
fn is_known(by: KnownBy, to: Option<i64>) -> datafusion::logical_expr::Expr {
    let (column, to) = match (by, to) {
        (_, None) => return lit(false),
        (KnownBy::Moment, Some(to)) => (ident(LOADED_AT), ScalarValue::TimestampMicrosecond(Some(to), Some("UTC".into()))),
        (KnownBy::Load, Some(to)) => (ident(LOAD), ScalarValue::Int64(Some(to))),
    };
    column.clone().lt_eq(lit(to)).or(column.is_null())
}

fn named(answer: &RecordBatch, name: &str, to: &arrow::datatypes::DataType) -> Result<ArrayRef> {
    let column = answer.column_by_name(name).ok_or_else(|| Fault::internal(format!("the answer lacks `{name}`")))?;
    cast(column, to).map_err(|e| Fault::internal(format!("`{name}` changed its type")).because(e))
}

/// The query with `as_of()` = the moment.
fn at_moment(query: &Query, moment: i64) -> Query {
    struct Put(Expr);
    impl VisitorMut for Put {
        type Break = ();
        fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
            if is_as_of(expr) {
                *expr = self.0.clone();
                // Its parts are no expressions of the user; there is nothing to replace in them.
            }
            ControlFlow::Continue(())
        }
    }
    let value = Expr::Cast {
        kind: sqlparser::ast::CastKind::Cast,
        expr: Box::new(Expr::Value(Value::SingleQuotedString(rfc3339(moment)).into())),
        data_type: sqlparser::ast::DataType::Timestamp(Some(6), sqlparser::ast::TimezoneInfo::WithTimeZone),
        array: false,
        format: None,
    };
    let mut query = query.clone();
    let _ = query.visit(&mut Put(value));
    query
}

fn rfc3339(moment: i64) -> String {
    gristmill_kernel::Timestamp::from_micros(moment).to_string()
}

/// The query's features over no rows.
fn over_nothing(query: &Query, view: &View) -> Option<Query> {
    let mut query = query.clone();
    let select = only_select_mut(&mut query)?;
    select.projection =
        view.features.iter().map(|c| SelectItem::ExprWithAlias { expr: c.expr.clone(), alias: Ident::with_quote('"', &c.name) }).collect();
    select.group_by = GroupByExpr::Expressions(Vec::new(), Vec::new());
    select.selection = Some(Expr::Value(Value::Boolean(false).into()));
    Some(query)
}

fn only_select_mut(query: &mut Query) -> Option<&mut Select> {
    match query.body.as_mut() {
        SetExpr::Select(select) => Some(select),
        SetExpr::Query(inner) => only_select_mut(inner),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_written_in_full() {
        assert_eq!(rfc3339(1), "1970-01-01T00:00:00.000001Z");
    }
}
