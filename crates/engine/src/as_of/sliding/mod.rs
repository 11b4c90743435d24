//! Views as windows that slide: for a view over one table, training sets, online answers and request answers by one walk in time.
//!
//! [`recipe`] recognises such a view and says which columns of each row it needs; they are compiled to expressions once. The crate `slide` puts
//! rows and questions of each entity in order and lets every row enter and leave each window once. The expressions around the calls run over
//! the asked rows with one more column per call. Nothing is planned per evaluation, except for reading a stored table.

mod calls;
mod passes;
mod recipe;

use super::known::KnownBy;
use super::plan::{Given, conform, conform_all, full_schema};
use super::rewrite::{known_name, table_name};
use super::view::View;
use crate::fault::{self, Text};
use crate::local::Shared;
use crate::sql::fence;
use crate::sql::session::{Sources, schema_of};
use crate::sql::source::rows_source;
use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, RecordBatchOptions, TimestampMicrosecondArray, UInt32Array};
use arrow::compute::{cast, concat, filter_record_batch, take};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef, TimestampMicrosecondType};
use datafusion::common::{DFSchema, DataFusionError};
use datafusion::logical_expr::{Expr, LogicalPlan};
use datafusion::physical_plan::PhysicalExpr;
use gristmill_kernel::error::{Code, Fault, Result};
use gristmill_kernel::port::{NewestRows, TableShape};
use gristmill_kernel::table::Relation;
use gristmill_kernel::view::Ties as ViewTies;
use gristmill_slide::Call;
use gristmill_slide::argument::{Argument, Form, column_of, supported};
use gristmill_slide::entities::Entities;
use gristmill_slide::gather::Chosen;
use gristmill_slide::known::Known;
use gristmill_slide::place::{Arrivals, Places};
use gristmill_slide::walk::{Buckets, Entry, Ties, Walk};
use recipe::Recipe;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use tokio::runtime::RuntimeFlavor;

/// A compiled view that slides.
pub struct Sliding {
    recipe: Recipe,
    /// The table's columns that are read.
    needed: SchemaRef,
    /// Which rows may count.
    passes: Option<Arc<dyn PhysicalExpr>>,
    /// Time, load, row, entity, arguments, filters, and since when a row is known where that is asked.
    columns: Vec<Arc<dyn PhysicalExpr>>,
    /// Whether each question knows only some of the rows.
    known: bool,
    /// The types of the entity's columns.
    entity: Vec<DataType>,
    /// The types of the calls.
    calls: Vec<DataType>,
    /// What is kept: a call each, but calls for the first or last row of a window share one.
    kept: Vec<Call>,
    /// Which of `kept` each call reads.
    reads: Vec<usize>,
    /// The features, over the asked rows and the calls.
    features: Vec<Arc<dyn PhysicalExpr>>,
    /// Whether all of them are columns of the newest row and nothing else.
    only_columns: bool,
}

/// Rows from which more than one thread is worth it.
const MANY: usize = 20_000;

impl Sliding {
    /// Compiles a view, if it is one that slides; `asked` are the columns of the asked rows.
    pub fn compile(
        shared: &Shared,
        view: &View,
        shape: &TableShape,
        (ties, known): (ViewTies, Option<KnownBy>),
        asked: &SchemaRef,
        entity: &[DataType],
        is_aggregate: &dyn Fn(&str) -> bool,
    ) -> Result<Option<Sliding>> {
        let Some(recipe) = recipe::recognise(view, ties, known, is_aggregate) else { return Ok(None) };
        let table = full_schema(shape);
        let Some((written, condition, schema)) = expressions(shared, &recipe.rows, &table_name(0), &table)? else { return Ok(None) };
        // Only the columns that are read.
        let mut used = vec![false; table.fields().len()];
        for column in written.iter().chain(&condition).flat_map(|e| e.column_refs()) {
            if let Some(at) = schema.maybe_index_of_column(column) {
                used[at] = true;
            }
        }
        let kept: Vec<usize> = (0..used.len()).filter(|at| used[*at]).collect();
        let needed: SchemaRef = Arc::new(table.project(&kept).map_err(|e| Fault::internal("narrow a table").because(e))?);
        let narrow = DFSchema::new_with_metadata(
            kept.iter().map(|at| schema.qualified_field(*at)).map(|(q, f)| (q.cloned(), f.clone())).collect(),
            std::collections::HashMap::new(),
        )
        .map_err(broken)?;
        let physical = |exprs: Vec<Expr>, schema: &DFSchema| -> Result<Vec<Arc<dyn PhysicalExpr>>> {
            exprs.into_iter().map(|e| shared.session.expression(e, schema).map_err(broken)).collect()
        };
        let columns = physical(written, &narrow)?;
        let passes = physical(condition.into_iter().collect(), &narrow)?.pop();

        let types = planned(shared, &recipe.types, &table_name(0), &table)?;
        let calls: Vec<DataType> = types.fields().iter().map(|f| f.data_type().clone()).collect();
        let first = 3 + recipe.entity;
        for (number, call) in recipe.calls.iter().enumerate() {
            let given = match call.argument {
                None => None,
                Some(argument) => Some(columns[first + argument].data_type(&needed).map_err(broken)?),
            };
            let by = call.by.map(|by| columns[first + by].data_type(&needed)).transpose().map_err(broken)?;
            if !supported(call.what, given.as_ref(), &calls[number]) || by.is_some_and(|by| by.is_nested() || by.is_null()) {
                return Ok(None);
            }
        }

        let mut fields: Vec<Field> = asked.fields().iter().map(|f| f.as_ref().clone()).collect();
        fields.extend(calls.iter().enumerate().map(|(i, to)| Field::new(format!("__g{i}"), to.clone(), true)));
        let answered: SchemaRef = Arc::new(Schema::new(fields));
        let Some((around, None, schema)) = expressions(shared, &recipe.answer, super::rewrite::ASKED, &answered)? else { return Ok(None) };
        let features = physical(around, &schema)?;
        let mut kept: Vec<Call> = Vec::new();
        let reads = recipe
            .calls
            .iter()
            .map(|call| {
                let argument = if call.what.is_row() { call.by } else { call.argument };
                let call = Call { argument, by: None, ..call.clone() };
                kept.iter().position(|k| *k == call).unwrap_or_else(|| {
                    kept.push(call);
                    kept.len() - 1
                })
            })
            .collect();
        let known = known.is_some();
        let only_columns = recipe.newest.as_ref().is_some_and(|features| features.iter().all(Option::is_some));
        Ok(Some(Sliding { only_columns, recipe, needed, passes, columns, known, entity: entity.to_vec(), calls, kept, reads, features }))
    }

    /// The answers; `asked` is laid out as at compilation.
    pub async fn evaluate(
        &self,
        shared: &Shared,
        text: Text<'_>,
        asked: &RecordBatch,
        relation: (&str, &TableShape, &Relation),
        features: &SchemaRef,
    ) -> Result<RecordBatch> {
        let (name, shape, relation) = relation;
        let calls = match relation {
            Relation::Rows(rows, _) => {
                let rows = conform_all(rows, &self.needed, name)?;
                let many = rows.iter().map(RecordBatch::num_rows).sum::<usize>() + asked.num_rows();
                beside(many, |threads| {
                    let entities = self.entities(asked)?;
                    let parts = in_threads(&rows, threads, |batch| self.prepare(&entities, batch))?;
                    self.called(asked, &entities, parts, threads)
                })?
            }
            _ => {
                let stored = Given::of(shared, name, shape, relation).await?;
                self.in_passes(shared, text, asked, &stored).await?
            }
        };
        let answered = self.answered(asked, calls)?;
        let mut answers = Vec::with_capacity(self.features.len());
        for (expr, field) in self.features.iter().zip(features.fields()) {
            let values = computed(expr, &answered).map_err(|e| fault::query(e, text))?;
            answers.push(as_typed(values, field.data_type())?);
        }
        laid_out(features, answers, asked.num_rows())
    }

    /// Whether what the newest row before the moment says is all that the view reads.
    pub fn reads_newest(&self) -> bool {
        self.recipe.newest.is_some()
    }

    /// Whether a row of this time counts at a moment, of a view whose features are columns of the newest row and nothing else.
    pub fn newest_counts(&self, row: i64, moment: i64) -> Option<bool> {
        self.only_columns.then(|| self.recipe.windows.iter().all(|window| window.holds(row, moment)))
    }

    /// The answers of a view that [`Self::reads_newest`], from these rows; `asked` lays out the asked rows where an expression needs them.
    pub fn newest(
        &self,
        text: Text<'_>,
        asked: impl FnOnce() -> Result<RecordBatch>,
        (name, newest): (&str, &NewestRows),
        moments: &TimestampMicrosecondArray,
        features: &SchemaRef,
    ) -> Result<RecordBatch> {
        let plain = self.recipe.newest.as_ref().ok_or_else(|| Fault::internal("the view reads more than the newest row"))?;
        let wrong = |e| Fault::internal("compute the columns of a view").because(e);
        let rows = conform(&newest.rows, &self.needed, name)?;
        let times = moment_column(&computed(&self.columns[0], &rows).map_err(wrong)?)?;
        let inside = |asked: usize, row: u32| {
            let (at, moment) = (times.value(row as usize), moments.value(asked));
            times.is_valid(row as usize) && moments.is_valid(asked) && self.recipe.windows.iter().all(|window| window.holds(at, moment))
        };
        let of: UInt32Array = newest.of.iter().enumerate().map(|(asked, row)| row.filter(|row| inside(asked, *row))).collect();
        // Often everybody has a row and they lie in the order asked.
        let as_they_lie =
            of.null_count() == 0 && rows.num_rows() == of.len() && of.values().iter().enumerate().all(|(i, row)| i == *row as usize);
        let first = 3 + self.recipe.entity;
        let called = |number: usize| -> Result<ArrayRef> {
            let argument =
                self.recipe.calls[number].argument.ok_or_else(|| Fault::internal("a row is asked for and none of its columns"))?;
            let values = computed(&self.columns[first + argument], &rows).map_err(wrong)?;
            if as_they_lie {
                return Ok(values);
            }
            take(&values, &of, None).map_err(|e| Fault::internal("take answers").because(e))
        };
        let (mut asked, mut answered) = (Some(asked), None);
        let mut answers = Vec::with_capacity(self.features.len());
        for ((expr, field), plain) in self.features.iter().zip(features.fields()).zip(plain) {
            let values = match plain {
                Some(call) => called(*call)?,
                None => {
                    if let Some(asked) = asked.take() {
                        answered = Some(self.answered(&asked()?, (0..self.calls.len()).map(called).collect::<Result<_>>()?)?);
                    }
                    let rows = answered.as_ref().ok_or_else(|| Fault::internal("nothing was answered"))?;
                    computed(expr, rows).map_err(|e| fault::query(e, text))?
                }
            };
            answers.push(as_typed(values, field.data_type())?);
        }
        laid_out(features, answers, of.len())
    }

    /// The asked rows with a column per call.
    fn answered(&self, asked: &RecordBatch, calls: Vec<ArrayRef>) -> Result<RecordBatch> {
        let mut columns = asked.columns().to_vec();
        columns.extend(calls);
        let mut fields: Vec<Field> = asked.schema().fields().iter().map(|f| f.as_ref().clone()).collect();
        fields.extend(self.calls.iter().enumerate().map(|(i, to)| Field::new(format!("__g{i}"), to.clone(), true)));
        laid_out(&Arc::new(Schema::new(fields)), columns, asked.num_rows())
    }

    /// The asked entities, numbered.
    fn entities(&self, asked: &RecordBatch) -> Result<Entities> {
        let keys: Vec<ArrayRef> = (0..self.recipe.entity)
            .map(|i| asked.column_by_name(&format!("__k{i}")).cloned().ok_or_else(|| Fault::internal("the asked rows lost their entity")))
            .collect::<Result<_>>()?;
        Entities::of(&self.entity, &keys, asked.num_rows())
    }

    /// A column per call, from what is needed of the rows of asked entities.
    fn called(&self, asked: &RecordBatch, entities: &Entities, parts: Vec<Prepared>, threads: usize) -> Result<Vec<ArrayRef>> {
        let moments = moments_of(asked)?;
        let questions = entities.questions(&moments);
        let (mut of_entities, mut arrivals, mut parts_of) = (Vec::new(), Vec::new(), Vec::new());
        for part in parts {
            of_entities.push(part.rows);
            arrivals.push(part.arrivals);
            parts_of.push(part.columns);
        }
        let parts = parts_of;
        let places = Places::of(arrivals, &mut of_entities).ok_or_else(|| {
            Fault::invalid(Code::SQL_FAILED, "one view reads more than four thousand million rows").fix("ask for fewer entities at a time")
        })?;
        let rows = Buckets::of(entities.count, of_entities, threads);
        let questions = Buckets::of(entities.count, vec![questions], threads);

        let whole = |number: usize| -> Result<ArrayRef> {
            let columns: Vec<&dyn Array> = parts.iter().map(|p| p[number].as_ref()).collect();
            if columns.is_empty() {
                let to = self.columns[3 + self.recipe.entity + number].data_type(&self.needed).map_err(broken)?;
                return Ok(arrow::array::new_empty_array(&to));
            }
            concat(&columns).map_err(|e| Fault::internal("lay out rows").because(e))
        };
        let mut filters: Vec<Vec<bool>> = Vec::with_capacity(self.recipe.filters);
        for number in 0..self.recipe.filters {
            filters.push(whole(self.recipe.arguments + number)?.as_boolean().iter().map(|v| v == Some(true)).collect());
        }
        // Arguments in the forms that calls want, each once.
        let mut calls = self.kept.clone();
        let mut wanted: Vec<(usize, Form)> = Vec::new();
        for (number, call) in calls.iter_mut().enumerate() {
            if let Some(argument) = call.argument {
                let to = self.reads.iter().position(|read| *read == number).map_or(&DataType::Null, |at| &self.calls[at]);
                let form = (argument, Form::of(call.what, to));
                let at = wanted.iter().position(|known| *known == form).unwrap_or_else(|| {
                    wanted.push(form);
                    wanted.len() - 1
                });
                call.argument = Some(at);
            }
        }
        let mut laid_out: Vec<(usize, ArrayRef)> = Vec::new();
        let mut forms: Vec<Argument> = Vec::with_capacity(wanted.len());
        for (argument, form) in wanted {
            let values = match laid_out.iter().find(|(known, _)| *known == argument) {
                Some((_, values)) => values.clone(),
                None => whole(argument)?,
            };
            forms.push(Argument::of(form, &values)?);
            laid_out.push((argument, values));
        }
        drop(laid_out);
        let order = |a: u32, b: u32| places.order(a, b);
        let ties = if places.in_order() { None } else { Some(&order as Ties<'_>) };
        let knowledge = if self.known { Some(self.knowledge(asked, &whole(self.recipe.arguments + self.recipe.filters)?)?) } else { None };
        let known = knowledge.as_ref().map(|(rows, questions)| Known { rows, questions });
        let walk = Walk { windows: &self.recipe.windows, calls: &calls, arguments: &forms, filters: &filters, ties, known };
        let answers = walk.answers(rows, questions, asked.num_rows(), threads);

        // Columns of one row are taken from the same places.
        let mut columns: Vec<Option<ArrayRef>> = vec![None; self.calls.len()];
        for (kept, answers) in answers.into_iter().enumerate() {
            let readers: Vec<usize> = (0..self.reads.len()).filter(|at| self.reads[*at] == kept).collect();
            if self.kept[kept].what.is_row() {
                let chosen = Chosen::of(&places, &answers);
                drop(answers);
                let taken = in_threads(&readers, threads, |at| match self.recipe.calls[*at].argument {
                    Some(argument) => {
                        let columns: Vec<&dyn Array> = parts.iter().map(|part| part[argument].as_ref()).collect();
                        chosen.column(&columns, &self.calls[*at])
                    }
                    None => Err(Fault::internal("a row is asked for and none of its columns")),
                })?;
                for (at, column) in readers.into_iter().zip(taken) {
                    columns[at] = Some(column);
                }
            } else if let Some((at, others)) = readers.split_first() {
                let column = column_of(answers, calls[kept].argument.map(|n| &forms[n]), &self.calls[*at])?;
                for at in [at].into_iter().chain(others) {
                    columns[*at] = Some(column.clone());
                }
            }
        }
        columns.into_iter().map(|column| column.ok_or_else(|| Fault::internal("a call was not answered"))).collect()
    }

    /// Since when each row is known, and how far each question's knowledge reaches.
    fn knowledge(&self, asked: &RecordBatch, since: &ArrayRef) -> Result<(Vec<i64>, Vec<i64>)> {
        let column = |values: &ArrayRef, of_null: i64| -> Result<Vec<i64>> {
            let typed = cast(values, &DataType::Int64).map_err(|e| Fault::internal("type what is known").because(e))?;
            Ok(typed.as_primitive::<Int64Type>().iter().map(|v| v.unwrap_or(of_null)).collect())
        };
        let reach = asked.column_by_name(&known_name(0)).ok_or_else(|| Fault::internal("the asked rows do not say what they know"))?;
        // A question that does not say knows nothing; a row that does not say was always known, but not to such a question.
        Ok((column(since, -i64::MAX)?, column(reach, i64::MIN)?))
    }

    /// The rows of asked entities in a batch, and their arguments and filters.
    fn prepare(&self, entities: &Entities, batch: &RecordBatch) -> Result<Prepared> {
        let wrong = |e| Fault::internal("compute the columns of a view").because(e);
        let passing;
        let batch = match &self.passes {
            None => batch,
            Some(passes) => {
                let kept = computed(passes, batch).map_err(wrong)?;
                passing = filter_record_batch(batch, kept.as_boolean()).map_err(|e| Fault::internal("narrow rows").because(e))?;
                &passing
            }
        };
        let compute = |at: usize| computed(&self.columns[at], batch).map_err(wrong);
        let typed = |at: usize, to: &DataType| -> Result<ArrayRef> {
            cast(&compute(at)?, to).map_err(|e| Fault::internal("type a column of a view").because(e))
        };
        let times = moment_column(&compute(0)?)?;
        let (loads, numbers) = (typed(1, &DataType::Int64)?, typed(2, &DataType::Int64)?);
        let keys: Vec<ArrayRef> = self.entity.iter().enumerate().map(|(i, to)| typed(3 + i, to)).collect::<Result<_>>()?;
        let mut rows = entities.rows(&keys, &times)?;
        // Few of many are laid together; of most, what is between them costs less than moving them.
        let few = rows.len() < batch.num_rows() / 2;
        let places = UInt32Array::from_iter_values(rows.iter().take(if few { rows.len() } else { 0 }).map(|row| row.at));
        let narrowed = |values: ArrayRef| {
            if few { take(&values, &places, None).map_err(|e| Fault::internal("narrow rows").because(e)) } else { Ok(values) }
        };
        let columns = (3 + self.recipe.entity..self.columns.len()).map(|at| narrowed(compute(at)?)).collect::<Result<_>>()?;
        let (loads, numbers) = (narrowed(loads)?, narrowed(numbers)?);
        if few {
            rows.iter_mut().enumerate().for_each(|(place, row)| row.at = place as u32);
        }
        let arrivals = Arrivals::new(loads.as_primitive().clone(), numbers.as_primitive().clone());
        Ok(Prepared { rows, columns, arrivals })
    }
}

fn as_typed(values: ArrayRef, to: &DataType) -> Result<ArrayRef> {
    if values.data_type() == to {
        return Ok(values);
    }
    cast(&values, to).map_err(|e| Fault::internal("type a feature").because(e))
}

fn laid_out(schema: &SchemaRef, columns: Vec<ArrayRef>, rows: usize) -> Result<RecordBatch> {
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    RecordBatch::try_new_with_options(schema.clone(), columns, &options).map_err(|e| Fault::internal("lay out answers").because(e))
}

/// What is needed of a batch.
struct Prepared {
    /// Rows of asked entities.
    rows: Vec<Entry>,
    /// Arguments, then filters.
    columns: Vec<ArrayRef>,
    arrivals: Arrivals,
}

fn moments_of(asked: &RecordBatch) -> Result<TimestampMicrosecondArray> {
    moment_column(asked.column_by_name("__t").ok_or_else(|| Fault::internal("the asked rows lost their moments"))?)
}

fn moment_column(column: &ArrayRef) -> Result<TimestampMicrosecondArray> {
    let to = DataType::Timestamp(arrow::datatypes::TimeUnit::Microsecond, Some("UTC".into()));
    let typed = cast(column, &to).map_err(|e| Fault::internal("type the time of a view").because(e))?;
    Ok(typed.as_primitive::<TimestampMicrosecondType>().clone())
}

fn computed(expr: &Arc<dyn PhysicalExpr>, rows: &RecordBatch) -> std::result::Result<ArrayRef, DataFusionError> {
    expr.evaluate(rows)?.into_array(rows.num_rows())
}

/// The select list of a query over one table, its condition, and the columns both are written over. `None` if it has another form.
type Written = (Vec<Expr>, Option<Expr>, Arc<DFSchema>);

fn expressions(shared: &Shared, sql: &str, table: &str, schema: &SchemaRef) -> Result<Option<Written>> {
    let LogicalPlan::Projection(projection) = plan(shared, sql, table, schema)? else { return Ok(None) };
    Ok(match projection.input.as_ref() {
        LogicalPlan::Filter(filter) => Some((projection.expr.clone(), Some(filter.predicate.clone()), filter.input.schema().clone())),
        LogicalPlan::SubqueryAlias(_) | LogicalPlan::TableScan(_) => {
            Some((projection.expr.clone(), None, projection.input.schema().clone()))
        }
        _ => None,
    })
}

fn planned(shared: &Shared, sql: &str, table: &str, schema: &SchemaRef) -> Result<SchemaRef> {
    Ok(schema_of(&shared.session.optimise(&plan(shared, sql, table, schema)?, Text::bare(sql))?))
}

fn plan(shared: &Shared, sql: &str, table: &str, schema: &SchemaRef) -> Result<LogicalPlan> {
    let sources = Sources::from([(table.to_string(), rows_source(schema.clone(), Vec::new())?)]);
    let fenced = fence::parse(Text::bare(sql)).map_err(|f| Fault::internal(format!("a sliding view does not parse: {f}")))?;
    shared.session.plan(fenced.query, &sources, Text::bare(sql))
}

fn broken(error: DataFusionError) -> Fault {
    Fault::internal("compile a sliding view").because(error)
}

/// Heavy work over so many rows, on threads that are worth it. Others go on meanwhile, where there is a thread for them.
fn beside<T>(rows: usize, work: impl FnOnce(usize) -> Result<T>) -> Result<T> {
    if rows < MANY {
        return work(1);
    }
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get);
    let several = tokio::runtime::Handle::try_current().is_ok_and(|h| h.runtime_flavor() == RuntimeFlavor::MultiThread);
    if several { tokio::task::block_in_place(|| work(threads)) } else { work(threads) }
}

/// Each item's result, in order. So many threads take one item after the other: some of them are more work than others.
fn in_threads<T: Sync, R: Send>(items: &[T], threads: usize, work: impl Fn(&T) -> Result<R> + Sync) -> Result<Vec<R>> {
    if threads <= 1 || items.len() <= 1 {
        return items.iter().map(work).collect();
    }
    let next = AtomicUsize::new(0);
    let take = || {
        let mut done = Vec::new();
        while let Some((at, item)) = Some(next.fetch_add(1, Relaxed)).and_then(|at| Some((at, items.get(at)?))) {
            done.push((at, work(item)));
        }
        done
    };
    let mut done: Vec<(usize, Result<R>)> = std::thread::scope(|scope| {
        let at_work: Vec<_> = (0..threads.min(items.len())).map(|_| scope.spawn(take)).collect();
        at_work.into_iter().flat_map(|thread| thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))).collect()
    });
    done.sort_by_key(|(at, _)| *at);
    done.into_iter().map(|(_, result)| result).collect()
}
