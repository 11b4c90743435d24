//! The session: functions, limits, planning against named tables, running.
//!
//! One [`Session`] serves the whole process. Planning resolves table names from the map it is given and from nowhere else: there is no
//! catalog to leak into, no information schema, no URL table, no table function.

use super::at_hand::RowsAtHand;
use crate::aggregate;
use crate::fault::{self, Text};
use arrow::datatypes::{DataType, SchemaRef, TimeUnit};
use datafusion::common::config::ConfigOptions;
use datafusion::common::{DFSchema, DataFusionError, TableReference, plan_err};
use datafusion::execution::TaskContext;
use datafusion::execution::memory_pool::{GreedyMemoryPool, TrackConsumersPool};
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use datafusion::execution::session_state::{SessionState, SessionStateBuilder};
use datafusion::logical_expr::planner::{ContextProvider, ExprPlanner, TypePlanner};
use datafusion::logical_expr::simplify::SimplifyContext;
use datafusion::logical_expr::{
    AggregateUDF, ColumnarValue, Expr, HigherOrderUDF, LogicalPlan, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, TableSource,
    Volatility, WindowUDF,
};
use datafusion::optimizer::simplify_expressions::ExprSimplifier;
use datafusion::physical_plan::execution_plan::reset_plan_states;
use datafusion::physical_plan::{ExecutionPlan, PhysicalExpr, SendableRecordBatchStream, execute_stream, execute_stream_partitioned};
use datafusion::prelude::SessionConfig;
use datafusion::sql::planner::{ParserOptions, SqlToRel};
use gristmill_kernel::error::{Fault, Result};
use gristmill_kernel::limits::{BATCH_ROWS, QUERY_MEMORY_BYTES_MAX};
use object_store::local::LocalFileSystem;
use sqlparser::ast::{Query, Statement};
use std::collections::HashMap;
use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::Arc;

/// Where the session finds our tables' files.
pub const TABLES_URL: &str = "gristmill://tables/";

/// Names in FROM and what they stand for.
pub type Sources = HashMap<String, Arc<dyn TableSource>>;

/// Functions, limits and stores of every query.
pub struct Session {
    state: SessionState,
    /// For a handful of rows: one partition, no exchange between threads.
    small: SessionState,
}

impl Session {
    /// A session that reads tables under `root`.
    pub fn new(root: &Path) -> Result<Session> {
        let pool = TrackConsumersPool::new(GreedyMemoryPool::new(QUERY_MEMORY_BYTES_MAX), NonZeroUsize::MIN);
        let runtime = RuntimeEnvBuilder::new()
            .with_memory_pool(Arc::new(pool))
            .build_arc()
            .map_err(|e| Fault::internal("the query runtime does not start").because(e))?;
        let store = LocalFileSystem::new_with_prefix(root).map_err(|e| Fault::internal("the tables' folder does not open").because(e))?;
        let url = url::Url::parse(TABLES_URL).map_err(|e| Fault::internal("the tables' address does not parse").because(e))?;
        // Only our own folder: the default registry also knows `file://`, which no query may reach.
        let _ = runtime.deregister_object_store(&url_of_files()?);
        runtime.register_object_store(&url, Arc::new(store));
        let mut config = SessionConfig::new().with_batch_size(BATCH_ROWS).with_information_schema(false);
        let options = config.options_mut();
        options.sql_parser.collect_spans = true;
        options.sql_parser.map_string_types_to_utf8view = false;
        options.execution.parquet.schema_force_view_types = false;
        let state = SessionStateBuilder::new()
            .with_default_features()
            .with_table_functions(HashMap::new())
            .with_config(config.clone())
            .with_runtime_env(runtime.clone());
        let mut state = state.build();
        for function in aggregate::exact_functions() {
            datafusion::execution::FunctionRegistry::register_udaf(&mut state, Arc::new(function))
                .map_err(|e| Fault::internal("an aggregate does not register").because(e))?;
        }
        let as_of = AsOf { signature: Signature::nullary(Volatility::Volatile) };
        datafusion::execution::FunctionRegistry::register_udf(&mut state, Arc::new(ScalarUDF::new_from_impl(as_of)))
            .map_err(|e| Fault::internal("`as_of` does not register").because(e))?;
        let mut small_config = config.with_target_partitions(1);
        // What one run learns must not filter the next one.
        small_config.options_mut().optimizer.enable_dynamic_filter_pushdown = false;
        let small = SessionStateBuilder::new_from_existing(state.clone()).with_config(small_config).build();
        Ok(Session { state, small })
    }

    /// Plans a fenced query against these tables.
    pub fn plan(&self, query: Query, sources: &Sources, text: Text<'_>) -> Result<LogicalPlan> {
        let provider = Names { state: &self.state, sources };
        let options = ParserOptions { collect_spans: true, map_string_types_to_utf8view: false, ..ParserOptions::default() };
        let planner = SqlToRel::new_with_options(&provider, options);
        planner.sql_statement_to_plan(Statement::Query(Box::new(query))).map_err(|e| fault::query(e, text))
    }

    /// The optimised plan, to be kept.
    pub fn optimise(&self, plan: &LogicalPlan, text: Text<'_>) -> Result<LogicalPlan> {
        self.state.optimize(plan).map_err(|e| fault::query(e, text))
    }

    /// Runs an optimised plan.
    pub async fn run(&self, plan: &LogicalPlan, size: Size) -> Result<SendableRecordBatchStream, DataFusionError> {
        let state = match size {
            Size::Small => &self.small,
            Size::Large => &self.state,
        };
        let physical: Arc<dyn ExecutionPlan> = state.query_planner().create_physical_plan(plan, state).await?;
        execute_stream(physical, state.task_ctx())
    }

    /// Runs an optimised plan in parts that may be read at the same time.
    pub async fn run_in_parts(&self, plan: &LogicalPlan) -> Result<Vec<SendableRecordBatchStream>, DataFusionError> {
        let physical = self.state.query_planner().create_physical_plan(plan, &self.state).await?;
        execute_stream_partitioned(physical, self.state.task_ctx())
    }

    /// A plan over [`super::at_hand::AtHand`] tables, to be run again and again.
    pub async fn prepare(&self, plan: &LogicalPlan) -> Result<Arc<dyn ExecutionPlan>, DataFusionError> {
        self.small.query_planner().create_physical_plan(plan, &self.small).await
    }

    /// Runs a prepared plan over these rows.
    pub fn run_prepared(&self, plan: &Arc<dyn ExecutionPlan>, rows: RowsAtHand) -> Result<SendableRecordBatchStream, DataFusionError> {
        let config = self.small.config().clone().with_extension(Arc::new(rows));
        // A physical plan has its functions already.
        let (scalar, higher, aggregate, window) = Default::default();
        let id = self.small.session_id().to_owned();
        let context = TaskContext::new(None, id, config, scalar, higher, aggregate, window, self.small.runtime_env().clone());
        execute_stream(reset_plan_states(plan.clone())?, Arc::new(context))
    }

    /// An expression that can be evaluated over rows of this schema: typed, and with what is only a way of writing (`coalesce`) spelt out.
    pub fn expression(&self, expr: Expr, schema: &DFSchema) -> Result<Arc<dyn PhysicalExpr>, DataFusionError> {
        let info = SimplifyContext::builder()
            .with_schema(Arc::new(schema.clone()))
            .with_config_options(self.state.config_options().clone())
            .build();
        let simplifier = ExprSimplifier::new(info);
        let typed = simplifier.coerce(expr, schema)?;
        self.state.create_physical_expr(simplifier.simplify(typed)?, schema)
    }

    /// The functions and limits, for expressions.
    pub fn state(&self) -> &SessionState {
        &self.state
    }
}

/// How much a plan will read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Size {
    /// A few thousand rows at hand.
    Small,
    /// Anything else.
    Large,
}

/// The columns a plan answers with.
pub fn schema_of(plan: &LogicalPlan) -> SchemaRef {
    Arc::new(plan.schema().as_arrow().clone())
}

/// `as_of()` as written: it types a view, and is replaced by the asked moment before anything runs.
#[derive(Debug, PartialEq, Eq, Hash)]
struct AsOf {
    signature: Signature,
}

impl ScalarUDFImpl for AsOf {
    fn name(&self) -> &str {
        crate::sql::fence::AS_OF
    }
    fn signature(&self) -> &Signature {
        &self.signature
    }
    fn return_type(&self, _types: &[DataType]) -> Result<DataType, DataFusionError> {
        Ok(DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())))
    }
    fn invoke_with_args(&self, _args: ScalarFunctionArgs) -> Result<ColumnarValue, DataFusionError> {
        plan_err!("`as_of()` has a value in a feature only")
    }
}

fn url_of_files() -> Result<url::Url> {
    url::Url::parse("file://").map_err(|e| Fault::internal("the file address does not parse").because(e))
}

struct Names<'a> {
    state: &'a SessionState,
    sources: &'a Sources,
}

impl ContextProvider for Names<'_> {
    fn get_table_source(&self, name: TableReference) -> Result<Arc<dyn TableSource>, DataFusionError> {
        match self.sources.get(name.table()) {
            Some(source) => Ok(source.clone()),
            None => plan_err!("there is no table `{}`", name.table()),
        }
    }
    fn get_expr_planners(&self) -> &[Arc<dyn ExprPlanner>] {
        self.state.expr_planners()
    }
    fn get_type_planner(&self) -> Option<Arc<dyn TypePlanner>> {
        None
    }
    fn get_function_meta(&self, name: &str) -> Option<Arc<ScalarUDF>> {
        self.state.scalar_functions().get(name).cloned()
    }
    fn get_higher_order_meta(&self, name: &str) -> Option<Arc<HigherOrderUDF>> {
        self.state.higher_order_functions().get(name).cloned()
    }
    fn get_aggregate_meta(&self, name: &str) -> Option<Arc<AggregateUDF>> {
        self.state.aggregate_functions().get(name).cloned()
    }
    fn get_window_meta(&self, name: &str) -> Option<Arc<WindowUDF>> {
        self.state.window_functions().get(name).cloned()
    }
    fn get_variable_type(&self, _names: &[String]) -> Option<DataType> {
        None
    }
    fn options(&self) -> &ConfigOptions {
        self.state.config_options()
    }
    fn udf_names(&self) -> Vec<String> {
        self.state.scalar_functions().keys().cloned().collect()
    }
    fn higher_order_function_names(&self) -> Vec<String> {
        self.state.higher_order_functions().keys().cloned().collect()
    }
    fn udaf_names(&self) -> Vec<String> {
        self.state.aggregate_functions().keys().cloned().collect()
    }
    fn udwf_names(&self) -> Vec<String> {
        self.state.window_functions().keys().cloned().collect()
    }
}
