//! The compiled view: planned and optimised once against table shapes; each evaluation puts rows under the scans and runs it.

use super::exactly::exactly;
use super::known::{KnownBy, Reach};
use super::literal::Literal;
use super::rewrite::{ASKED, Counts, known_name, load_name, rewrite, table_name};
use super::sliding::Sliding;
use super::view::{self, Form, Joined, REQUEST, View};
use super::window;
use crate::fault::{self, Text};
use crate::local::{Shared, unknown_table};
use crate::sql::at_hand::{AtHand, RowsAtHand};
use crate::sql::fence;
use crate::sql::session::{Size, Sources, schema_of};
use crate::sql::source::{StoredRows, rows_provider, rows_source};
use crate::tables::Pinned;
use arrow::array::{
    Array, ArrayRef, AsArray, Int64Array, RecordBatch, RecordBatchOptions, TimestampMicrosecondArray, UInt32Array, new_null_array,
};
use arrow::compute::{cast, concat_batches, take};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef, TimeUnit, TimestampMicrosecondType};
use async_trait::async_trait;
use datafusion::catalog::TableProvider;
use datafusion::common::tree_node::Transformed;
use datafusion::datasource::provider_as_source;
use datafusion::logical_expr::{LogicalPlan, TableScan};
use datafusion::physical_plan::ExecutionPlan;
use gristmill_kernel::Timestamp;
use gristmill_kernel::error::{Code, Fault, Result};
use gristmill_kernel::port::{AsOfPlan, Known, NewestRows, TableShape, ViewShape};
use gristmill_kernel::table::{Catalog, LOAD, LOADED_AT, ROW, Relation};
use gristmill_kernel::view::{Ties, ViewAt, ViewDef};
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, OnceLock};

/// A compiled view.
pub struct Compiled {
    pub(super) shared: Arc<Shared>,
    pub(super) def: ViewDef,
    shape: ViewShape,
    taken: View,
    tables: Vec<Joined>,
    entity_types: Vec<DataType>,
    /// Knowing everything.
    how: Way,
    /// By what rows are known: made when they are asked for.
    known: [OnceLock<Arc<Way>>; 2],
}

/// A way to compute, and what the asked rows must look like for it.
struct Way {
    how: How,
    asked_schema: SchemaRef,
}

enum How {
    /// One walk in time per entity.
    Sliding(Box<Sliding>),
    /// The optimised plan over [`ASKED`] and the tables.
    Joined(Box<Planned>),
    /// Word for word per moment.
    Literal(Box<Literal>),
}

/// An optimised plan.
struct Planned {
    plan: LogicalPlan,
    /// The same as a physical plan, for a handful of rows at hand: made when it is first asked for.
    at_hand: tokio::sync::OnceCell<Arc<dyn ExecutionPlan>>,
}

/// Rows up to which one partition is faster than many.
const SMALL_ROWS: usize = 50_000;

/// Compiles a view.
pub async fn compile(shared: Arc<Shared>, def: &ViewDef, shapes: &BTreeMap<String, TableShape>) -> Result<Compiled> {
    let text = Text { sql: &def.sql, file: &def.file, line_offset: def.line_offset };
    let mut fenced = fence::parse(text)?;
    fenced.refuse_restless(text)?;
    let notes = exactly(&mut fenced.query, text)?;
    for (name, span) in &fenced.tables {
        if !shapes.contains_key(name) {
            return Err(unknown_table(name, shapes.keys(), text, *span));
        }
    }
    let is_aggregate = |name: &str| shared.session.state().aggregate_functions().contains_key(name);
    // The query as written is planned first: what it says of columns and types is said of the user's own text.
    let written = as_written(&shared, &fenced, shapes, text)?;
    let taken = view::parse(&fenced, def, shapes, text, &is_aggregate)?;
    let entity_types = def.entity.iter().map(|name| type_of(&written, name)).collect::<Vec<_>>();
    let mut remarks = Vec::new();
    let mut kept = window::kept(&taken, def.ties, &is_aggregate);
    let reads_request = fenced.tables.iter().any(|(name, _)| name == REQUEST);
    if reads_request != (def.at == ViewAt::Request) {
        let (message, fix) = if reads_request {
            ("the view reads `request`, but is computed from sources", "write `at = \"request\"` in the header")
        } else {
            ("the view is computed in the request, but does not read `request`", "read `request`, or leave `at` out of the header")
        };
        return Err(Fault::invalid(Code::AS_OF_UNSUPPORTED, message).fix(fix).at(text.spot(1, 1, 1)));
    }
    let (shape, tables, how, features) = match &taken.form {
        Form::Joined { tables, .. }
            if !reads_request
                || !tables.iter().any(|t| t.left && t.table == REQUEST) && tables[0].table == REQUEST
                || tables.iter().all(|t| !t.left) =>
        {
            let asks = Asks { view: &taken, tables, entity_types: &entity_types, ties: def.ties, known: None, text };
            let (how, features) = asks.way(&shared, &is_aggregate)?;
            let shape = match (reads_request, taken.aggregates) {
                (true, _) => "request",
                (false, true) => "aggregate",
                (false, false) => "lookup",
            };
            (shape, tables.clone(), how, features)
        }
        form => {
            let reason = match form {
                Form::Literal(reason) => reason,
                Form::Joined { .. } => "`request` stands on the right of a left join",
            };
            if reads_request {
                let fault = Fault::invalid(Code::AS_OF_UNSUPPORTED, format!("a request view cannot be computed when {reason}"));
                return Err(fault.fix("start FROM with `request` and join the others to it").at(text.spot(1, 1, 1)));
            }
            remarks.push(format!("evaluated moment by moment, which is slow: {reason}"));
            kept = literal_kept(&fenced, shapes, def);
            let features = Arc::new(Schema::new(
                taken.features.iter().map(|c| Field::new(&c.name, type_of(&written, &c.name), true)).collect::<Vec<_>>(),
            ));
            let literal = Literal::new(&fenced, &taken, shapes);
            let how = Way { how: How::Literal(Box::new(literal)), asked_schema: Arc::new(Schema::empty()) };
            ("general", Vec::new(), how, features)
        }
    };
    for rows in kept.iter().filter(|k| k.time.is_some() && k.window.is_none()) {
        remarks.push(format!("`{}` has no window on its time column, so all of its history is kept", rows.table));
    }
    let way = match &how.how {
        How::Sliding(_) => "rows slide through windows",
        How::Joined(_) => "rows are joined with what is asked",
        How::Literal(_) => "moment by moment",
    };
    if let (How::Sliding(sliding), [only]) = (&how.how, kept.as_mut_slice()) {
        only.newest = sliding.reads_newest() && !only.key.is_empty();
    }
    let shape = ViewShape { shape, how: way, features, kept, remarks, notes };
    Ok(Compiled { shared: shared.clone(), def: def.clone(), shape, taken, tables, entity_types, how, known: Default::default() })
}

/// A view of tables that are joined with what is asked, and which rows of them count.
struct Asks<'a> {
    view: &'a View,
    tables: &'a [Joined],
    entity_types: &'a [DataType],
    ties: Ties,
    known: Option<KnownBy>,
    text: Text<'a>,
}

impl Asks<'_> {
    /// The way to compute it, and its features.
    fn way(&self, shared: &Shared, is_aggregate: &dyn Fn(&str) -> bool) -> Result<(Way, SchemaRef)> {
        let asked_schema = asked_schema(self.view, self.tables, self.entity_types, self.known);
        let sql = rewrite(self.view, Counts { ties: self.ties, known: self.known }, is_aggregate);
        let plan = planned(shared, &sql, self.tables, &asked_schema, self.text)?;
        let features = features_of(&plan);
        let sliding = match self.tables {
            [one] if one.table != REQUEST => {
                let counts = (self.ties, self.known);
                Sliding::compile(shared, self.view, &one.shape, counts, &asked_schema, self.entity_types, is_aggregate)?
            }
            _ => None,
        };
        let planned = || How::Joined(Box::new(Planned { plan, at_hand: tokio::sync::OnceCell::new() }));
        let how = sliding.map_or_else(planned, |sliding| How::Sliding(Box::new(sliding)));
        Ok((Way { how, asked_schema }, features))
    }
}

#[async_trait]
impl AsOfPlan for Compiled {
    fn shape(&self) -> &ViewShape {
        &self.shape
    }

    async fn evaluate(&self, asked: &RecordBatch, tables: &Catalog) -> Result<RecordBatch> {
        self.evaluate_known(asked, tables, Known::Now).await
    }

    async fn evaluate_newest(&self, asked: &RecordBatch, newest: &NewestRows) -> Result<RecordBatch> {
        let How::Sliding(sliding) = &self.how.how else { return Err(Fault::internal("the view does not read the newest row alone")) };
        if newest.of.len() != asked.num_rows() {
            return Err(Fault::internal(format!("{} rows were asked and the rows of {} given", asked.num_rows(), newest.of.len())));
        }
        let moments = moments(asked)?;
        let laid_out = || self.asked_rows(&self.how.asked_schema, asked, &moments, &HashMap::new());
        sliding.newest(self.text(), laid_out, (&self.tables[0].table, newest), &moments, &self.shape.features)
    }

    fn newest_counts(&self, row: Timestamp, moment: Timestamp) -> Option<bool> {
        match &self.how.how {
            How::Sliding(sliding) => sliding.newest_counts(row.micros(), moment.micros()),
            How::Joined(_) | How::Literal(_) => None,
        }
    }

    async fn evaluate_known(&self, asked: &RecordBatch, tables: &Catalog, known: Known<'_>) -> Result<RecordBatch> {
        if asked.num_rows() == 0 {
            return Ok(RecordBatch::new_empty(self.shape.features.clone()));
        }
        let made;
        let way = match KnownBy::of(known) {
            Some(by) if !matches!(self.how.how, How::Literal(_)) => {
                made = self.way_known(by)?;
                made.as_ref()
            }
            _ => &self.how,
        };
        match &way.how {
            How::Literal(literal) => literal.evaluate(self, asked, tables, known).await,
            How::Joined(planned) => self.joined(planned, &way.asked_schema, asked, (tables, known)).await,
            How::Sliding(sliding) => {
                let table = &self.tables[0];
                let relation = tables.get(&table.table).ok_or_else(|| no_rows(&table.table))?;
                let mut more = HashMap::new();
                if let Some(reach) = Reach::of(known, &table.table, asked.num_rows())? {
                    more.insert(known_name(0), Arc::new(reach.of) as ArrayRef);
                }
                let asked = self.asked_rows(&way.asked_schema, asked, &moments(asked)?, &more)?;
                sliding.evaluate(&self.shared, self.text(), &asked, (&table.table, &table.shape, relation), &self.shape.features).await
            }
        }
    }
}

impl Compiled {
    pub(super) fn text(&self) -> Text<'_> {
        Text { sql: &self.def.sql, file: &self.def.file, line_offset: self.def.line_offset }
    }

    /// The features' names and types.
    pub(super) fn features(&self) -> &SchemaRef {
        &self.shape.features
    }

    /// The asked entities, as the view types them.
    pub(super) fn entities(&self, asked: &RecordBatch) -> Result<Vec<ArrayRef>> {
        let columns = self.def.entity.iter().zip(&self.entity_types);
        columns.map(|(name, to)| cast_to(column(asked, name)?, to, name)).collect()
    }

    /// The way that sees only what is known.
    fn way_known(&self, by: KnownBy) -> Result<Arc<Way>> {
        let kept = &self.known[by as usize];
        if let Some(way) = kept.get() {
            return Ok(way.clone());
        }
        let is_aggregate = |name: &str| self.shared.session.state().aggregate_functions().contains_key(name);
        let asks = Asks {
            view: &self.taken,
            tables: &self.tables,
            entity_types: &self.entity_types,
            ties: self.def.ties,
            known: Some(by),
            text: self.text(),
        };
        let (way, _) = asks.way(&self.shared, &is_aggregate)?;
        Ok(kept.get_or_init(|| Arc::new(way)).clone())
    }

    async fn joined(
        &self,
        planned: &Planned,
        asked_schema: &SchemaRef,
        asked: &RecordBatch,
        (tables, known): (&Catalog, Known<'_>),
    ) -> Result<RecordBatch> {
        let moments = moments(asked)?;
        let mut given_rows: HashMap<String, Given> = HashMap::new();
        let mut more: HashMap<String, ArrayRef> = HashMap::new();
        let mut rows = asked.num_rows();
        for (number, table) in self.tables.iter().enumerate().filter(|(_, t)| t.table != REQUEST) {
            let relation = tables.get(&table.table).ok_or_else(|| no_rows(&table.table))?;
            let given = Given::of(&self.shared, &table.table, &table.shape, relation).await?;
            rows += given.rows();
            let reach = Reach::of(known, &table.table, asked.num_rows())?;
            match (&table.shape.time, reach) {
                (None, reach) => {
                    let loads = given.loads(&self.shared, self.text()).await?;
                    more.insert(load_name(number), loads.seen(&moments, reach.as_ref()));
                }
                (Some(_), Some(reach)) => drop(more.insert(known_name(number), Arc::new(reach.of))),
                (Some(_), None) => {}
            }
            given_rows.insert(table_name(number), given);
        }
        let asked_rows = self.asked_rows(asked_schema, asked, &moments, &more)?;
        given_rows.insert(ASKED.to_string(), Given::Rows(asked_schema.clone(), vec![asked_rows]));
        let all_at_hand = given_rows.values().all(|given| matches!(given, Given::Rows(..)));
        let answer = if all_at_hand && rows <= SMALL_ROWS {
            self.over_rows(planned, given_rows).await?
        } else {
            let providers = given_rows.into_iter().map(|(name, given)| Ok((name, given.provider()?))).collect::<Result<_>>()?;
            let plan = with_rows(&planned.plan, &providers).map_err(|e| fault::query(e, self.text()))?;
            let size = if rows <= SMALL_ROWS { Size::Small } else { Size::Large };
            self.shared.collect(&plan, size, self.text()).await?
        };
        in_asked_order(&answer, asked.num_rows(), &self.shape.features)
    }

    /// The answer from a handful of rows, without planning.
    async fn over_rows(&self, planned: &Planned, given: HashMap<String, Given>) -> Result<Vec<RecordBatch>> {
        let prepare = || async {
            let at_hand = |(name, given): (&String, &Given)| {
                let table: Arc<dyn TableProvider> = Arc::new(AtHand { name: name.clone(), schema: given.schema().clone() });
                (name.clone(), table)
            };
            let plan = with_rows(&planned.plan, &given.iter().map(at_hand).collect())?;
            self.shared.session.prepare(&plan).await
        };
        let wrong = |e| fault::query(e, self.text());
        let plan = planned.at_hand.get_or_try_init(prepare).await.map_err(wrong)?;
        let rows = given.into_iter().filter_map(|(name, given)| match given {
            Given::Rows(_, rows) => Some((name, rows)),
            Given::Stored(..) => None,
        });
        let stream = self.shared.session.run_prepared(plan, RowsAtHand(rows.collect())).map_err(wrong)?;
        datafusion::physical_plan::common::collect(stream).await.map_err(wrong)
    }

    fn asked_rows(
        &self,
        schema: &SchemaRef,
        asked: &RecordBatch,
        moments: &TimestampMicrosecondArray,
        more: &HashMap<String, ArrayRef>,
    ) -> Result<RecordBatch> {
        let count = asked.num_rows();
        let mut columns: Vec<ArrayRef> = Vec::new();
        for field in schema.fields() {
            let name = field.name().as_str();
            let column: ArrayRef = match name {
                "__id" => Arc::new(Int64Array::from_iter_values(0..count as i64)),
                "__t" => Arc::new(moments.clone()),
                _ => match (name.strip_prefix("__k").and_then(|n| n.parse::<usize>().ok()), more.get(name)) {
                    (Some(number), _) => cast_to(column(asked, &self.def.entity[number])?, field.data_type(), &self.def.entity[number])?,
                    (None, Some(own)) => own.clone(),
                    (None, None) => cast_to(column(asked, name)?, field.data_type(), name)?,
                },
            };
            columns.push(column);
        }
        let options = RecordBatchOptions::new().with_row_count(Some(count));
        RecordBatch::try_new_with_options(schema.clone(), columns, &options)
            .map_err(|e| Fault::internal("lay out the asked rows").because(e))
    }
}

fn no_rows(table: &str) -> Fault {
    Fault::invalid(Code::UNKNOWN_TABLE, format!("there are no rows of `{table}` at hand"))
}

/// The rows given for a table, with all its columns and ours.
pub(super) enum Given {
    /// At hand.
    Rows(SchemaRef, Vec<RecordBatch>),
    /// Stored.
    Stored(SchemaRef, Arc<Pinned>),
}

impl Given {
    pub(super) async fn of(shared: &Shared, name: &str, shape: &TableShape, relation: &Relation) -> Result<Given> {
        let schema = full_schema(shape);
        match relation {
            Relation::Rows(rows, _) => Ok(Given::Rows(schema.clone(), conform_all(rows, &schema, name)?)),
            Relation::Stored { table, version, .. } => Ok(Given::Stored(schema, shared.stored(table, *version).await?)),
            Relation::View(_) => {
                Err(Fault::invalid(Code::AS_OF_UNSUPPORTED, format!("`{name}` is a view; a view is read as of a moment from tables only"))
                    .fix("read the sources of that view"))
            }
        }
    }
    fn schema(&self) -> &SchemaRef {
        let (Given::Rows(schema, _) | Given::Stored(schema, _)) = self;
        schema
    }
    pub(super) fn rows(&self) -> usize {
        match self {
            Given::Rows(_, rows) => rows.iter().map(RecordBatch::num_rows).sum(),
            Given::Stored(_, pinned) => (pinned.state.rows as usize).max(SMALL_ROWS),
        }
    }
    pub(super) fn provider(&self) -> Result<Arc<dyn TableProvider>> {
        match self {
            Given::Rows(schema, rows) => rows_provider(schema.clone(), rows.clone()),
            Given::Stored(schema, pinned) => Ok(Arc::new(StoredRows::with_schema(pinned, schema.clone()))),
        }
    }
    /// The loads of a snapshot.
    pub(super) async fn loads(&self, shared: &Shared, text: Text<'_>) -> Result<Loads> {
        match self {
            Given::Rows(_, rows) => Ok(Loads::of(rows)),
            Given::Stored(schema, pinned) => {
                let sql = format!("SELECT \"{LOAD}\", min(\"{LOADED_AT}\") AS \"{LOADED_AT}\" FROM snapshot GROUP BY \"{LOAD}\"");
                let fenced = fence::parse(Text::bare(&sql))?;
                let sources = Sources::from([("snapshot".to_string(), StoredRows::with_schema(pinned, schema.clone()).source())]);
                let plan = shared.session.plan(fenced.query, &sources, text)?;
                let plan = shared.session.optimise(&plan, text)?;
                Ok(Loads::of(&shared.collect(&plan, Size::Large, text).await?))
            }
        }
    }
}

/// The loads of a snapshot by the moment they became available.
pub(super) struct Loads(Vec<(i64, i64)>);

impl Loads {
    fn of(rows: &[RecordBatch]) -> Loads {
        let mut loads: BTreeMap<i64, i64> = BTreeMap::new();
        for batch in rows {
            let (Some(load), Some(at)) = (
                batch.column_by_name(LOAD).and_then(|c| c.as_primitive_opt::<Int64Type>()),
                batch.column_by_name(LOADED_AT).and_then(|c| c.as_primitive_opt::<TimestampMicrosecondType>()),
            ) else {
                continue;
            };
            for row in (0..batch.num_rows()).filter(|r| load.is_valid(*r)) {
                let at = if at.is_valid(row) { at.value(row) } else { i64::MIN };
                loads.entry(load.value(row)).and_modify(|known| *known = (*known).min(at)).or_insert(at);
            }
        }
        let mut by_moment: Vec<(i64, i64)> = loads.into_iter().map(|(load, at)| (at, load)).collect();
        by_moment.sort_unstable();
        Loads(by_moment)
    }
    /// The load a moment sees.
    fn at(&self, moment: i64) -> Option<i64> {
        let not_after = self.0.partition_point(|(at, _)| *at <= moment);
        self.0.get(not_after.saturating_sub(1)).map(|(_, load)| *load)
    }
    /// The load a moment sees among those that are known: by what, and how far.
    pub(super) fn at_known(&self, moment: i64, known: Option<(KnownBy, Option<i64>)>) -> Option<i64> {
        let Some((by, reach)) = known else { return self.at(moment) };
        let reach = reach?;
        let is_known = |(at, load): &&(i64, i64)| match by {
            KnownBy::Moment => *at <= reach,
            KnownBy::Load => *load <= reach,
        };
        let mut known = self.0.iter().filter(is_known);
        let first = known.next()?;
        Some(known.take_while(|(at, _)| *at <= moment).last().unwrap_or(first).1)
    }
    fn seen(&self, moments: &TimestampMicrosecondArray, reach: Option<&Reach>) -> ArrayRef {
        let one = |(row, moment): (usize, Option<i64>)| self.at_known(moment?, reach.map(|r| (r.by, r.at(row))));
        Arc::new(moments.iter().enumerate().map(one).collect::<Int64Array>())
    }
}

fn as_written(shared: &Shared, fenced: &fence::Fenced, shapes: &BTreeMap<String, TableShape>, text: Text<'_>) -> Result<SchemaRef> {
    let mut sources = Sources::new();
    for (name, _) in &fenced.tables {
        sources.insert(name.clone(), rows_source(shapes[name].schema.clone(), Vec::new())?);
    }
    let plan = shared.session.plan(fenced.query.clone(), &sources, text)?;
    Ok(schema_of(&shared.session.optimise(&plan, text)?))
}

fn planned(shared: &Shared, sql: &str, tables: &[Joined], asked: &SchemaRef, text: Text<'_>) -> Result<LogicalPlan> {
    let mut sources = Sources::from([(ASKED.to_string(), rows_source(asked.clone(), Vec::new())?)]);
    for (number, table) in tables.iter().enumerate() {
        sources.insert(table_name(number), rows_source(full_schema(&table.shape), Vec::new())?);
    }
    let fenced = fence::parse(Text::bare(sql)).map_err(|f| Fault::internal(format!("a rewritten view does not parse: {f}")))?;
    // Places in the rewritten text mean nothing to the user.
    let plan = shared.session.plan(fenced.query, &sources, Text::bare(sql)).map_err(|f| elsewhere(f, text))?;
    shared.session.optimise(&plan, Text::bare(sql)).map_err(|f| elsewhere(f, text))
}

fn elsewhere(mut fault: Fault, text: Text<'_>) -> Fault {
    fault.spot = Some(Box::new(text.spot(1, 1, 1)));
    fault
}

fn asked_schema(view: &View, tables: &[Joined], entity_types: &[DataType], known: Option<KnownBy>) -> SchemaRef {
    let mut fields = vec![Field::new("__id", DataType::Int64, false), Field::new("__t", moment_type(), true)];
    let request = tables.iter().find(|t| t.table == REQUEST);
    match request {
        None => {
            for (number, to) in entity_types.iter().enumerate().take(view.entity.len()) {
                fields.push(Field::new(format!("__k{number}"), to.clone(), true));
            }
        }
        Some(table) => fields.extend(table.shape.schema.fields().iter().map(|f| f.as_ref().clone().with_nullable(true))),
    }
    for (number, table) in tables.iter().enumerate() {
        match &table.shape.time {
            _ if table.table == REQUEST => {}
            None => fields.push(Field::new(load_name(number), DataType::Int64, true)),
            Some(_) => fields.extend(known.map(|_| Field::new(known_name(number), DataType::Int64, true))),
        }
    }
    Arc::new(Schema::new(fields))
}

/// A view run word for word reads whole tables.
fn literal_kept(fenced: &fence::Fenced, shapes: &BTreeMap<String, TableShape>, def: &ViewDef) -> Vec<gristmill_kernel::port::KeptRows> {
    let whole = |name: &String| gristmill_kernel::port::KeptRows {
        table: name.clone(),
        key: Vec::new(),
        time: shapes[name].time.clone(),
        window: None,
        ties: def.ties,
        newest: false,
    };
    fenced.tables.iter().map(|(name, _)| whole(name)).collect()
}

fn features_of(plan: &LogicalPlan) -> SchemaRef {
    let schema = schema_of(plan);
    let fields: Vec<Field> = schema.fields().iter().skip(1).map(|f| Field::new(f.name(), f.data_type().clone(), true)).collect();
    Arc::new(Schema::new(fields))
}

fn type_of(schema: &Schema, name: &str) -> DataType {
    schema.field_with_name(name).map_or(DataType::Null, |f| f.data_type().clone())
}

/// The table's columns, then ours.
pub(super) fn full_schema(shape: &TableShape) -> SchemaRef {
    let mut fields: Vec<Field> = shape.schema.fields().iter().map(|f| f.as_ref().clone().with_nullable(true)).collect();
    for field in crate::tables::system_fields() {
        if shape.schema.column_with_name(field.name()).is_none() {
            fields.push(field);
        }
    }
    Arc::new(Schema::new(fields))
}

fn moment_type() -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))
}

/// The asked moments.
pub(super) fn moments(asked: &RecordBatch) -> Result<TimestampMicrosecondArray> {
    let moments = cast_to(column(asked, "time")?, &moment_type(), "time")?;
    let moments = moments.as_primitive_opt::<TimestampMicrosecondType>().cloned();
    moments.ok_or_else(|| Fault::internal("the asked moments are no moments"))
}

fn column<'a>(rows: &'a RecordBatch, name: &str) -> Result<&'a ArrayRef> {
    rows.column_by_name(name)
        .ok_or_else(|| Fault::invalid(Code::MISSING_INPUT, format!("the asked rows lack `{name}`")).fix(format!("send `{name}`")))
}

fn cast_to(column: &ArrayRef, to: &DataType, name: &str) -> Result<ArrayRef> {
    if column.data_type() == to {
        return Ok(column.clone());
    }
    cast(column, to)
        .map_err(|e| Fault::invalid(Code::WRONG_TYPE, format!("`{name}` is {}, the view needs {to}", column.data_type())).because(e))
}

/// The given rows with the wanted columns. Missing ones of ours are empty: the order of rows then rests on their other columns.
pub(super) fn conform(rows: &RecordBatch, schema: &SchemaRef, table: &str) -> Result<RecordBatch> {
    conform_by(rows, schema, table, &mut HashMap::new())
}

/// The same of many batches. Those of one length share what they all lack: millions of rows without a load do not need as many numbers.
pub(super) fn conform_all(batches: &[RecordBatch], schema: &SchemaRef, table: &str) -> Result<Vec<RecordBatch>> {
    let mut ours = HashMap::new();
    batches.iter().map(|rows| conform_by(rows, schema, table, &mut ours)).collect()
}

/// `ours`: columns of ours that were made before, by name and length.
fn conform_by<'s>(
    rows: &RecordBatch,
    schema: &'s SchemaRef,
    table: &str,
    ours: &mut HashMap<(&'s str, usize), ArrayRef>,
) -> Result<RecordBatch> {
    let mut columns = Vec::with_capacity(schema.fields().len());
    let count = rows.num_rows();
    for field in schema.fields() {
        let mut make = |made: &dyn Fn() -> ArrayRef| ours.entry((field.name(), count)).or_insert_with(made).clone();
        columns.push(match rows.column_by_name(field.name()) {
            Some(column) => cast_to(column, field.data_type(), field.name())?,
            // Rows without a load are one load.
            None if field.name() == LOAD => make(&|| Arc::new(Int64Array::from_value(1, count))),
            None if [LOAD, ROW, LOADED_AT].contains(&field.name().as_str()) => make(&|| new_null_array(field.data_type(), count)),
            None => return Err(Fault::invalid(Code::SCHEMA_MISMATCH, format!("the rows of `{table}` lack the column `{}`", field.name()))),
        });
    }
    let options = RecordBatchOptions::new().with_row_count(Some(count));
    RecordBatch::try_new_with_options(schema.clone(), columns, &options).map_err(|e| Fault::internal("lay out given rows").because(e))
}

/// The plan with rows under its scans.
pub(super) fn with_rows(
    plan: &LogicalPlan,
    providers: &HashMap<String, Arc<dyn TableProvider>>,
) -> std::result::Result<LogicalPlan, datafusion::common::DataFusionError> {
    let placed = plan.clone().transform_up_with_subqueries(|node| match node {
        LogicalPlan::TableScan(scan) => match providers.get(scan.table_name.table()) {
            Some(provider) => {
                let source = provider_as_source(provider.clone());
                Ok(Transformed::yes(LogicalPlan::TableScan(TableScan { source, ..scan })))
            }
            None => Ok(Transformed::no(LogicalPlan::TableScan(scan))),
        },
        other => Ok(Transformed::no(other)),
    })?;
    Ok(placed.data)
}

/// Answers carry `__id` first; each asked row has exactly one.
fn in_asked_order(answer: &[RecordBatch], asked: usize, features: &SchemaRef) -> Result<RecordBatch> {
    let broken = |e| Fault::internal("put answers in order").because(e);
    let Some(first) = answer.first() else { return Err(Fault::internal("a view gave no answer")) };
    let all = concat_batches(&first.schema(), answer).map_err(broken)?;
    let ids = all.column(0).as_primitive_opt::<Int64Type>().ok_or_else(|| Fault::internal("answers lost their numbers"))?;
    if all.num_rows() != asked {
        return Err(Fault::internal(format!("{asked} rows were asked and {} answered", all.num_rows())));
    }
    let mut places = vec![u32::MAX; asked];
    for (place, id) in ids.values().iter().enumerate() {
        match usize::try_from(*id).ok().and_then(|id| places.get_mut(id)) {
            Some(slot) if *slot == u32::MAX => *slot = place as u32,
            _ => return Err(Fault::internal("an asked row was answered twice")),
        }
    }
    let places = UInt32Array::from(places);
    let columns = all.columns()[1..].iter().map(|c| take(c, &places, None)).collect::<std::result::Result<Vec<_>, _>>().map_err(broken)?;
    let options = RecordBatchOptions::new().with_row_count(Some(asked));
    RecordBatch::try_new_with_options(features.clone(), columns, &options).map_err(broken)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_of_one_length_share_what_they_lack_and_others_do_not() {
        let wanted = Arc::new(Schema::new(vec![
            Field::new("x", DataType::Int64, true),
            Field::new(LOAD, DataType::Int64, true),
            Field::new(ROW, DataType::Int64, true),
        ]));
        let rows = |values: Vec<i64>| RecordBatch::try_from_iter([("x", Arc::new(Int64Array::from(values)) as ArrayRef)]).unwrap();
        let conformed = conform_all(&[rows(vec![1, 2, 3]), rows(vec![4]), rows(vec![5, 6, 7])], &wanted, "t").unwrap();
        assert_eq!(conformed.iter().map(RecordBatch::num_rows).collect::<Vec<_>>(), [3, 1, 3]);
        for batch in &conformed {
            assert_eq!(
                batch.column(1).as_ref(),
                &Int64Array::from_value(1, batch.num_rows()) as &dyn Array,
                "rows without a load are one load"
            );
            assert_eq!(batch.column(2).null_count(), batch.num_rows());
        }
        let of = |batch: usize, column: usize| conformed[batch].column(column);
        assert!(Arc::ptr_eq(of(0, 1), of(2, 1)) && Arc::ptr_eq(of(0, 2), of(2, 2)) && !Arc::ptr_eq(of(0, 0), of(2, 0)));
    }
}
