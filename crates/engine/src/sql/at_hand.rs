//! Plans that are made once and run many times, each time over other rows.
//!
//! Making a physical plan costs milliseconds, running it over a handful of rows microseconds. So the scan of such a plan holds no rows: it takes
//! them from the context that it is run in. Before each run the states of its nodes are reset, which leaves the plan itself untouched.

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{DataFusionError, internal_datafusion_err};
use datafusion::datasource::TableType;
use datafusion::execution::TaskContext;
use datafusion::logical_expr::Expr;
use datafusion::physical_expr::{EquivalenceProperties, PhysicalExpr};
use datafusion::physical_plan::execution_plan::{Boundedness, ChildrenPropertiesMode, EmissionType, ReplaceChildrenOptions};
use datafusion::physical_plan::memory::MemoryStream;
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, Partitioning, PlanProperties, SendableRecordBatchStream};
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

type Result<T> = std::result::Result<T, DataFusionError>;

/// The rows of each name, given for one run.
#[derive(Debug, Default)]
pub struct RowsAtHand(pub HashMap<String, Vec<RecordBatch>>);

/// A table whose rows come with each run.
#[derive(Debug)]
pub struct AtHand {
    /// Its name among the [`RowsAtHand`].
    pub name: String,
    /// Its columns.
    pub schema: SchemaRef,
}

#[async_trait]
impl TableProvider for AtHand {
    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }
    fn table_type(&self) -> TableType {
        TableType::Base
    }
    async fn scan(&self, _: &dyn Session, projection: Option<&Vec<usize>>, _: &[Expr], _: Option<usize>) -> Result<Arc<dyn ExecutionPlan>> {
        let schema = match projection {
            Some(columns) => Arc::new(self.schema.project(columns)?),
            None => self.schema.clone(),
        };
        let properties = PlanProperties::new(
            EquivalenceProperties::new(schema.clone()),
            Partitioning::UnknownPartitioning(1),
            EmissionType::Incremental,
            Boundedness::Bounded,
        );
        Ok(Arc::new(Scan { name: self.name.clone(), schema, columns: projection.cloned(), properties: Arc::new(properties) }))
    }
}

#[derive(Debug)]
struct Scan {
    name: String,
    schema: SchemaRef,
    columns: Option<Vec<usize>>,
    properties: Arc<PlanProperties>,
}

impl DisplayAs for Scan {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AtHand: {}", self.name)
    }
}

impl ExecutionPlan for Scan {
    fn name(&self) -> &'static str {
        "AtHand"
    }
    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }
    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        Vec::new()
    }
    fn apply_expressions(&self, _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }
    fn replace_children(self: Arc<Self>, _: Vec<Arc<dyn ExecutionPlan>>, _: ReplaceChildrenOptions) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(self)
    }
    fn with_new_children(self: Arc<Self>, children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        self.replace_children(children, ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute))
    }
    fn execute(&self, _: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let given = context.session_config().get_extension::<RowsAtHand>();
        let rows = given.as_ref().and_then(|given| given.0.get(&self.name));
        let rows = rows.ok_or_else(|| internal_datafusion_err!("no rows of `{}` were given for this run", self.name))?;
        Ok(Box::pin(MemoryStream::try_new(rows.clone(), self.schema.clone(), self.columns.clone())?))
    }
}
