//! SQL, tables, `as_of()` and conditions: the one port behind which a query engine lives.
//!
//! What a stage may ask is all here; there is no way to hand in a session, a file path or a setting.

use crate::condition::{Figures, Judged};
use crate::error::{Code, Fault};
use crate::table::{Catalog, TableInfo, TableName, TableWrite, Written};
use crate::view::{PinnedTable, REQUEST, Ties, ViewDef};
use crate::{Check, Result, Span, Timestamp};
use arrow::array::{Int64Array, RecordBatch, TimestampMicrosecondArray, UInt32Array};
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use futures::stream::BoxStream;
use std::collections::BTreeMap;
use std::sync::Arc;

/// What parsing a query told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Analysis {
    /// The names in FROM that the query does not define itself, in order of appearance, each once.
    pub tables: Vec<String>,
    /// Whether it uses `as_of()`.
    pub uses_as_of: bool,
    /// The query without comments and with one spelling of white space, keywords and identifiers: equal texts mean equal work.
    pub normalised: String,
}

/// How a view will be computed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ViewShape {
    /// `aggregate` (one group per entity), `lookup` (a row per entity), `request`, or `general` (evaluated per label; correct but slow).
    pub shape: &'static str,
    /// How it is computed, in a few words: `rows slide through windows`, `rows are joined with what is asked`, `moment by moment`.
    pub how: &'static str,
    /// The features: names and types without the entity columns.
    pub features: SchemaRef,
    /// Its kept rows online.
    pub kept: Vec<KeptRows>,
    /// What a user should know: unbounded history, no incremental form, ...
    pub remarks: Vec<String>,
    /// What was chosen where the text leaves a choice, and what it keeps: nothing to worry about.
    pub notes: Vec<String>,
}

/// Rows that must be kept per entity to answer a view online.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptRows {
    /// The name in FROM.
    pub table: String,
    /// The table's columns that identify the entity, in the order of the view's entity; empty when the whole table is needed for every entity
    /// (a small table joined by something else).
    pub key: Vec<String>,
    /// The event time column; `None` for a snapshot.
    pub time: Option<String>,
    /// How far back the view looks; `None` is all of history.
    pub window: Option<Span>,
    /// Ties at the moment.
    pub ties: Ties,
    /// Only the newest row before the moment counts, whatever is in it: the view can be asked by [`AsOfPlan::evaluate_newest`].
    pub newest: bool,
}

/// The rows that a view which reads only the newest is asked with.
#[derive(Debug, Clone)]
pub struct NewestRows {
    /// Rows of the table, at most one per entity: the newest before the moment that may count.
    pub rows: RecordBatch,
    /// Which of them each asked row's entity has; NULL where it has none.
    pub of: UInt32Array,
}

/// Which of the rows given an evaluation may know, besides those that its moment sees by their time.
#[derive(Debug, Clone, Copy, Default)]
pub enum Known<'a> {
    /// All of them.
    #[default]
    Now,
    /// Those that had become available ([`crate::table::LOADED_AT`]) not after a moment of each asked row. A row that does not say when
    /// it did was always there.
    Available(&'a TimestampMicrosecondArray),
    /// Those of loads up to a number ([`crate::table::LOAD`]), per table and asked row. Without a number nothing is known.
    Loads(&'a BTreeMap<String, Int64Array>),
}

/// A compiled view: one plan for offline, online and request. Made by [`Engine::compile`], cheap to share.
#[async_trait]
pub trait AsOfPlan: Send + Sync {
    /// How it will be computed.
    fn shape(&self) -> &ViewShape;
    /// Its values for `asked`: one row per asked row, in the asked order, never dropped or collapsed.
    ///
    /// `asked` has the view's entity columns and a column `time` (Timestamp(us, UTC)); for a request view also what the caller sends, under the
    /// name `request`. `tables` gives the rows of each table the plan reads: stored tables (training, backfill) or kept rows at hand (online). Rows
    /// not yet known at the asked moment are filtered by the plan itself, so giving too many is never wrong.
    /// Event tables carry their own columns and [`crate::table::SYSTEM_COLUMNS`]; a snapshot's moment is `_loaded_at`.
    /// The answer has one column per feature, named as in the view, and bits that do not depend on the order of the rows given.
    async fn evaluate(&self, asked: &RecordBatch, tables: &Catalog) -> Result<RecordBatch>;
    /// As [`Self::evaluate`], for a view whose one table keeps [`KeptRows::newest`] rows and whoever asks has found them: the same bits, without
    /// looking for them again.
    async fn evaluate_newest(&self, _asked: &RecordBatch, _newest: &NewestRows) -> Result<RecordBatch> {
        Err(Fault::internal("a view that reads more than the newest row was asked with that alone"))
    }
    /// Of a view whose features are columns of the newest row and nothing else, neither of the moment nor of what is asked: whether a row of this
    /// time counts at a moment. `None` for every other view.
    fn newest_counts(&self, _row: Timestamp, _moment: Timestamp) -> Option<bool> {
        None
    }
    /// As [`Self::evaluate`], over the rows that were known then. Of a snapshot that is the latest load not after the moment among those known, or the
    /// first of them; if none is known, there are no rows.
    async fn evaluate_known(&self, asked: &RecordBatch, tables: &Catalog, known: Known<'_>) -> Result<RecordBatch> {
        match known {
            Known::Now => self.evaluate(asked, tables).await,
            Known::Available(_) | Known::Loads(_) => {
                let what = "this view cannot be computed as it was known then";
                Err(Fault::invalid(Code::AS_OF_UNSUPPORTED, what).fix("leave out `known = \"then\"`"))
            }
        }
    }
}

/// SQL, tables, `as_of()` and conditions. Queries are fenced: one SELECT, no DDL, no COPY, no SET, no files.
#[async_trait]
pub trait Engine: Send + Sync {
    // tables
    /// Writes rows, note and positions in one atomic, durable commit.
    async fn write(&self, write: TableWrite) -> Result<Written>;
    /// The table as it stands, `None` if there is none.
    async fn table(&self, table: &TableName) -> Result<Option<TableInfo>>;
    /// Rows of a table at a version (`None`: the newest), own columns included, only loads behind `after_load`, ordered by (load, row).
    /// A table without own columns is read as written.
    async fn scan(&self, table: &TableName, version: Option<u64>, after_load: i64) -> Result<BoxStream<'static, Result<RecordBatch>>>;

    // queries
    /// Parses and fences a query without running it. `file` and `line_offset` place errors in the user's file.
    fn analyse(&self, sql: &str, file: &str, line_offset: usize) -> Result<Analysis>;
    /// The schema of a query's answer.
    async fn schema(&self, sql: &str, catalog: &Catalog) -> Result<SchemaRef>;
    /// Runs a query. Our own columns are hidden from stored tables unless `with_system` is set.
    async fn query(&self, sql: &str, catalog: &Catalog, with_system: bool) -> Result<BoxStream<'static, Result<RecordBatch>>>;

    // as_of
    /// Compiles a view. `tables` gives the schema and time column of every table it reads; `request` columns come as table `request`.
    async fn compile(&self, view: &ViewDef, tables: &BTreeMap<String, TableShape>) -> Result<Arc<dyn AsOfPlan>>;

    // conditions
    /// Judges row conditions over rows: for each condition a boolean per row (NULL counts as true unless the condition itself asks about NULL:
    /// SQL's CHECK rule). Knows the helper `unique(column, ...)`; `history` holds the rows already accepted, for it.
    async fn judge_rows(&self, conditions: &[String], rows: &RecordBatch, history: Option<(&TableName, u64)>) -> Result<Vec<Vec<bool>>>;
    /// Judges a condition over figures.
    async fn judge(&self, condition: &str, figures: &Figures) -> Result<Judged>;
    /// Checks that a condition parses and uses only these names; `rows` gives the columns for a row condition.
    fn check_condition(&self, condition: &str, names: &[String]) -> Result<()>;
}

/// What compiling needs to know of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableShape {
    /// Without our own columns.
    pub schema: SchemaRef,
    /// The event time column; `None` for a snapshot.
    pub time: Option<String>,
}

/// Compiles a view over its tables as they are shaped now.
pub async fn compile_view(engine: &dyn Engine, view: &ViewDef, tables: &BTreeMap<String, PinnedTable>) -> Result<Arc<dyn AsOfPlan>> {
    let mut shapes = BTreeMap::new();
    for (name, pinned) in tables {
        let table = &pinned.table;
        let info = engine.table(table).await?;
        let info = info.ok_or_else(|| Fault::damaged(format!("the ledger names table {table}, which does not exist")))?;
        shapes.insert(name.clone(), TableShape { schema: info.schema, time: pinned.time.clone() });
    }
    shapes.extend(view.request_schema().map(|schema| (REQUEST.to_owned(), TableShape { schema, time: None })));
    engine.compile(view, &shapes).await
}

/// Runs several conditions over figures and collects the checks.
pub async fn judge_all(engine: &dyn Engine, conditions: &[String], figures: &Figures) -> Result<Vec<Check>> {
    let mut checks = Vec::with_capacity(conditions.len());
    for condition in conditions {
        let judged = engine.judge(condition, figures).await?;
        let verdict = match judged.holds {
            Some(true) => crate::Verdict::Pass,
            Some(false) => crate::Verdict::Fail,
            None => crate::Verdict::Inconclusive,
        };
        checks.push(Check { condition: condition.clone(), verdict, observed: judged.observed });
    }
    Ok(checks)
}
