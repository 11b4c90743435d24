//! The engine in this process: the port's face over [`Tables`], [`Session`] and [`crate::as_of`].

use crate::as_of;
use crate::condition;
use crate::fault::{self, Text};
use crate::sql::fence::{self, Fenced};
use crate::sql::session::{Session, Size, Sources, schema_of};
use crate::sql::source::{StoredRows, rows_source};
use crate::tables::{Pinned, Tables};
use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion::datasource::ViewTable;
use datafusion::datasource::provider_as_source;
use datafusion::logical_expr::{LogicalPlan, LogicalPlanBuilder, TableSource, col, lit};
use futures::future::BoxFuture;
use futures::stream::{self, BoxStream};
use futures::{StreamExt as _, TryStreamExt as _};
use gristmill_kernel::condition::{Figures, Judged};
use gristmill_kernel::error::{Code, Fault, Result};
use gristmill_kernel::limits::{AS_OF_BYTES_MAX, SCAN_PART_ROWS, VIEW_DEPTH_MAX};
use gristmill_kernel::port::{Analysis, AsOfPlan, Engine, TableShape};
use gristmill_kernel::table::{Catalog, LOAD, ROW, Relation, TableInfo, TableName, TableWrite, Written};
use gristmill_kernel::view::ViewDef;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

/// DataFusion over Delta tables in a local folder.
pub struct LocalEngine {
    pub(crate) shared: Arc<Shared>,
}

/// What plans keep of the engine.
pub(crate) struct Shared {
    pub(crate) tables: Tables,
    pub(crate) session: Session,
    /// What the rows of a view may take at a time.
    pub(crate) as_of_bytes: usize,
}

impl LocalEngine {
    /// Opens the folder of tables (`root/TABLE`), making it if need be.
    pub fn open(root: &Path) -> Result<LocalEngine> {
        LocalEngine::open_within(root, AS_OF_BYTES_MAX)
    }

    /// The same, where the rows that a view reads of a stored table take at most so many bytes at a time: more are read in passes.
    pub fn open_within(root: &Path, as_of_bytes: usize) -> Result<LocalEngine> {
        let tables = Tables::open(root)?;
        let session = Session::new(tables.root())?;
        Ok(LocalEngine { shared: Arc::new(Shared { tables, session, as_of_bytes }) })
    }

    async fn plan(&self, sql: &str, catalog: &Catalog, with_system: bool) -> Result<LogicalPlan> {
        let text = Text::bare(sql);
        let fenced = fence::parse(text)?;
        self.shared.plan(&fenced, catalog, with_system, text, 0).await
    }
}

impl Shared {
    fn plan<'a>(
        &'a self,
        fenced: &'a Fenced,
        catalog: &'a Catalog,
        with_system: bool,
        text: Text<'a>,
        depth: usize,
    ) -> BoxFuture<'a, Result<LogicalPlan>> {
        Box::pin(async move {
            if let Some(span) = fenced.as_of.first() {
                let fault =
                    Fault::invalid(Code::AS_OF_UNSUPPORTED, "`as_of()` has a value in a feature only").fix("write the moment itself");
                return Err(fault::placed(fault, text.spot_of(*span)));
            }
            let mut sources = Sources::new();
            for (name, span) in &fenced.tables {
                let relation = catalog.get(name).ok_or_else(|| unknown_table(name, catalog.keys(), text, *span))?;
                sources.insert(name.clone(), self.source(name, relation, catalog, with_system, depth).await?);
            }
            self.session.plan(fenced.query.clone(), &sources, text)
        })
    }

    async fn source(
        &self,
        name: &str,
        relation: &Relation,
        catalog: &Catalog,
        with_system: bool,
        depth: usize,
    ) -> Result<Arc<dyn TableSource>> {
        match relation {
            Relation::Rows(rows, schema) => rows_source(schema.clone(), rows.clone()),
            Relation::Stored { table, version, time } => {
                let pinned = self.stored(table, *version).await?;
                if time.is_none() && !with_system && pinned.has_system() {
                    return latest_load(&pinned);
                }
                Ok(StoredRows::new(&pinned, with_system).source())
            }
            Relation::View(sql) => {
                if depth >= VIEW_DEPTH_MAX {
                    return Err(Fault::invalid(
                        Code::CYCLE,
                        format!("view `{name}` reads itself, or views are stacked more than {VIEW_DEPTH_MAX} deep"),
                    ));
                }
                let text = Text { sql, file: name, line_offset: 0 };
                let fenced = fence::parse(text)?;
                let plan = self.plan(&fenced, catalog, with_system, text, depth + 1).await?;
                Ok(provider_as_source(Arc::new(ViewTable::new(plan, None))))
            }
        }
    }

    pub(crate) async fn stored(&self, table: &TableName, version: Option<u64>) -> Result<Arc<Pinned>> {
        let found = self.tables.pinned(table, version).await?;
        found.ok_or_else(|| {
            Fault::not_found(Code::UNKNOWN_TABLE, format!("table `{table}` has no rows yet")).fix("run the source that fills it")
        })
    }

    /// Rows as they were written; behind a load, they are ordered by load and row.
    async fn in_order(&self, rows: StoredRows, behind: Option<i64>) -> Result<BoxStream<'static, Result<RecordBatch>>> {
        let broken = |e| fault::query(e, Text::bare(""));
        let mut plan = LogicalPlanBuilder::scan("rows", rows.source(), None).map_err(broken)?;
        if let Some(load) = behind {
            // Loads count from 1; rows of a table that once had no such columns have none.
            if load > 0 {
                plan = plan.filter(col(LOAD).gt(lit(load))).map_err(broken)?;
            }
            plan = plan.sort([col(LOAD).sort(true, false), col(ROW).sort(true, false)]).map_err(broken)?;
        }
        let plan = plan.build().map_err(broken)?;
        let plan = self.session.optimise(&plan, Text::bare(""))?;
        let stream = self.session.run(&plan, Size::Large).await.map_err(broken)?;
        Ok(stream.map(|batch| batch.map_err(|e| fault::query(e, Text::bare("")))).boxed())
    }

    pub(crate) async fn collect(&self, plan: &LogicalPlan, size: Size, text: Text<'_>) -> Result<Vec<RecordBatch>> {
        let stream = self.session.run(plan, size).await.map_err(|e| fault::query(e, text))?;
        datafusion::physical_plan::common::collect(stream).await.map_err(|e| fault::query(e, text))
    }
}

/// A snapshot outside of `as_of()`: the rows of its newest load.
fn latest_load(pinned: &Pinned) -> Result<Arc<dyn TableSource>> {
    let broken = |e| Fault::internal("plan a snapshot").because(e);
    let last = pinned.state.last_load;
    let own: Vec<_> = pinned.own_schema().fields().iter().map(|f| datafusion::logical_expr::ident(f.name())).collect();
    let rows = StoredRows::new(pinned, true).after_load(last - 1).source();
    let plan = LogicalPlanBuilder::scan("snapshot", rows, None)
        .and_then(|p| p.filter(col(LOAD).eq(lit(last))))
        .and_then(|p| p.project(own))
        .and_then(LogicalPlanBuilder::build)
        .map_err(broken)?;
    Ok(provider_as_source(Arc::new(ViewTable::new(plan, None))))
}

pub(crate) fn unknown_table<'a>(
    name: &str,
    known: impl Iterator<Item = &'a String>,
    text: Text<'_>,
    span: sqlparser::tokenizer::Span,
) -> Fault {
    let known: Vec<String> = known.cloned().collect();
    fault::placed(fault::unknown(Code::UNKNOWN_TABLE, "table", name, &known), text.spot_of(span))
}

#[async_trait]
impl Engine for LocalEngine {
    async fn write(&self, write: TableWrite) -> Result<Written> {
        self.shared.tables.write(write).await
    }

    async fn table(&self, table: &TableName) -> Result<Option<TableInfo>> {
        Ok(self.shared.tables.pinned(table, None).await?.map(|p| p.info()))
    }

    async fn scan(&self, table: &TableName, version: Option<u64>, after_load: i64) -> Result<BoxStream<'static, Result<RecordBatch>>> {
        let pinned = self.shared.stored(table, version).await?;
        let rows = StoredRows::new(&pinned, true);
        if !pinned.has_system() {
            return self.shared.in_order(rows, None).await;
        }
        // Part by part, so that a table may be larger than what a sort may hold.
        let parts = rows.after_load(after_load).parts(SCAN_PART_ROWS);
        let shared = self.shared.clone();
        let streams = stream::iter(parts).then(move |part| {
            let shared = shared.clone();
            async move { shared.in_order(part, Some(after_load)).await }
        });
        Ok(streams.try_flatten().boxed())
    }

    fn analyse(&self, sql: &str, file: &str, line_offset: usize) -> Result<Analysis> {
        let text = Text { sql, file, line_offset };
        let fenced = fence::parse(text)?;
        fenced.refuse_restless(text)?;
        fenced.analysis(text)
    }

    async fn schema(&self, sql: &str, catalog: &Catalog) -> Result<SchemaRef> {
        Ok(schema_of(&self.plan(sql, catalog, false).await?))
    }

    async fn query(&self, sql: &str, catalog: &Catalog, with_system: bool) -> Result<BoxStream<'static, Result<RecordBatch>>> {
        let plan = self.plan(sql, catalog, with_system).await?;
        let plan = self.shared.session.optimise(&plan, Text::bare(sql))?;
        let stream = self.shared.session.run(&plan, Size::Large).await.map_err(|e| fault::query(e, Text::bare(sql)))?;
        let sql = sql.to_string();
        Ok(stream.map(move |batch| batch.map_err(|e| fault::query(e, Text::bare(&sql)))).boxed())
    }

    async fn compile(&self, view: &ViewDef, tables: &BTreeMap<String, TableShape>) -> Result<Arc<dyn AsOfPlan>> {
        Ok(Arc::new(as_of::compile(self.shared.clone(), view, tables).await?))
    }

    async fn judge_rows(&self, conditions: &[String], rows: &RecordBatch, history: Option<(&TableName, u64)>) -> Result<Vec<Vec<bool>>> {
        condition::judge_rows(&self.shared, conditions, rows, history).await
    }

    async fn judge(&self, condition: &str, figures: &Figures) -> Result<Judged> {
        condition::judge(&self.shared, condition, figures).await
    }

    fn check_condition(&self, condition: &str, names: &[String]) -> Result<()> {
        condition::check(&self.shared, condition, names)
    }
}
