//! What a name in FROM reads: a stored table's files, rows at hand, or nothing yet.

use super::session::TABLES_URL;
use crate::tables::{DataFile, Pinned, sorted_by};
use arrow::array::RecordBatch;
use arrow::compute::SortOptions;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::stats::Precision;
use datafusion::common::{DataFusionError, Statistics};
use datafusion::datasource::MemTable;
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::{FileGroup, FileScanConfigBuilder, ParquetSource};
use datafusion::datasource::source::DataSourceExec;
use datafusion::datasource::{TableType, provider_as_source};
use datafusion::execution::object_store::ObjectStoreUrl;
use datafusion::logical_expr::{Expr, Operator, TableProviderFilterPushDown, TableSource};
use datafusion::physical_expr::expressions::{self, Column};
use datafusion::physical_expr::{LexOrdering, PhysicalExpr, PhysicalSortExpr};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::empty::EmptyExec;
use datafusion::physical_plan::filter::FilterExec;
use datafusion::physical_plan::projection::ProjectionExec;
use gristmill_kernel::error::{Fault, Result};
use gristmill_kernel::table::LOAD;
use std::sync::Arc;

/// The files of a table at a version.
///
/// Where all of them are sorted alike, the plan is told: a query that wants the rows by those columns merges files instead of sorting rows.
#[derive(Debug)]
pub struct StoredRows {
    schema: SchemaRef,
    files: Vec<DataFile>,
    /// Rows of later loads are not of the version.
    upto: Option<i64>,
}

/// Files up to which each is read by itself, so that its order survives.
const MERGED_FILES_MAX: usize = 64;

impl StoredRows {
    /// All columns or, without `with_system`, the user's.
    pub fn new(pinned: &Pinned, with_system: bool) -> StoredRows {
        let schema = if with_system { pinned.schema.clone() } else { pinned.own_schema() };
        StoredRows::with_schema(pinned, schema)
    }
    /// These columns; those that a file lacks are NULL.
    pub fn with_schema(pinned: &Pinned, schema: SchemaRef) -> StoredRows {
        StoredRows { schema, files: pinned.files.as_ref().clone(), upto: pinned.upto }
    }
    /// Only these files.
    #[must_use]
    pub fn only(mut self, files: Vec<DataFile>) -> StoredRows {
        self.files = files;
        self
    }
    /// Only files that may hold loads behind this one.
    #[must_use]
    pub fn after_load(mut self, load: i64) -> StoredRows {
        self.files.retain(|f| f.load_max.is_none_or(|max| max > load));
        self
    }
    /// Parts that come one after another in the order of loads: no load is in two of them. A part has about `rows` rows, or one load that has more.
    /// Where the loads of a file are not known, everything is one part.
    pub fn parts(self, rows: usize) -> Vec<StoredRows> {
        let range = |file: &DataFile| file.load_min.zip(file.load_max);
        if self.files.iter().any(|file| range(file).is_none()) {
            return vec![self];
        }
        let mut files = self.files;
        files.sort_by_key(|file| range(file));
        let mut parts: Vec<StoredRows> = Vec::new();
        let mut end = i64::MIN;
        for file in files {
            let overlaps = file.load_min.is_some_and(|load| load <= end);
            end = end.max(file.load_max.unwrap_or(i64::MAX));
            match parts.last_mut() {
                Some(part) if overlaps || part.rows() + file.rows as usize <= rows => part.files.push(file),
                _ => parts.push(StoredRows { schema: self.schema.clone(), files: vec![file], upto: self.upto }),
            }
        }
        parts
    }
    /// As a plan names it.
    pub fn source(self) -> Arc<dyn TableSource> {
        provider_as_source(Arc::new(self))
    }
    fn rows(&self) -> usize {
        self.files.iter().map(|f| f.rows as usize).sum()
    }
}

#[async_trait]
impl TableProvider for StoredRows {
    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }
    fn table_type(&self) -> TableType {
        TableType::Base
    }
    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> Result<Vec<TableProviderFilterPushDown>, DataFusionError> {
        // The physical optimiser pushes filters into the Parquet reader; the filter itself stays.
        Ok(vec![TableProviderFilterPushDown::Unsupported; filters.len()])
    }
    fn statistics(&self) -> Option<Statistics> {
        Some(Statistics { num_rows: self.count(self.rows()), ..Statistics::new_unknown(&self.schema) })
    }
    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        _filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>, DataFusionError> {
        let wanted: Vec<usize> = projection.cloned().unwrap_or_else(|| (0..self.schema.fields().len()).collect());
        if self.files.is_empty() {
            return Ok(Arc::new(EmptyExec::new(Arc::new(self.schema.project(&wanted)?))));
        }
        match self.bound() {
            None => self.read(state, &self.schema, wanted, limit),
            Some(upto) => self.read_upto(state, wanted, upto),
        }
    }
}

impl StoredRows {
    /// The highest load that belongs to the version, if a file may hold others.
    fn bound(&self) -> Option<i64> {
        self.upto.filter(|upto| self.files.iter().any(|f| f.load_max.is_none_or(|max| max > *upto)))
    }

    /// So many rows, or, where some of them are not of the version, about so many.
    fn count(&self, rows: usize) -> Precision<usize> {
        if self.bound().is_some() { Precision::Inexact(rows) } else { Precision::Exact(rows) }
    }

    /// The rows of the version out of files that have later ones too.
    fn read_upto(&self, state: &dyn Session, wanted: Vec<usize>, upto: i64) -> Result<Arc<dyn ExecutionPlan>, DataFusionError> {
        let (mut schema, mut read) = (self.schema.clone(), wanted.clone());
        let load = schema.index_of(LOAD).unwrap_or_else(|_| {
            let mut fields: Vec<_> = schema.fields().iter().cloned().collect();
            fields.push(Arc::new(Field::new(LOAD, DataType::Int64, true)));
            schema = Arc::new(Schema::new(fields));
            schema.fields().len() - 1
        });
        let at = read.iter().position(|column| *column == load).unwrap_or_else(|| {
            read.push(load);
            read.len() - 1
        });
        let rows = self.read(state, &schema, read, None)?;
        let load: Arc<dyn PhysicalExpr> = Arc::new(Column::new(LOAD, at));
        let of_version = expressions::binary(load, Operator::LtEq, expressions::lit(upto), &rows.schema())?;
        let rows: Arc<dyn ExecutionPlan> = Arc::new(FilterExec::try_new(of_version, rows)?);
        if rows.schema().fields().len() == wanted.len() {
            return Ok(rows);
        }
        let fields = rows.schema();
        let columns = fields.fields().iter().take(wanted.len()).enumerate();
        let columns: Vec<(Arc<dyn PhysicalExpr>, String)> =
            columns.map(|(i, f)| (Arc::new(Column::new(f.name(), i)) as Arc<dyn PhysicalExpr>, f.name().clone())).collect();
        Ok(Arc::new(ProjectionExec::try_new(columns, rows)?))
    }

    fn read(
        &self,
        state: &dyn Session,
        schema: &SchemaRef,
        columns: Vec<usize>,
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>, DataFusionError> {
        let order = self.order(schema);
        let partitions = match order {
            // A file is in order; two of them one after the other are not.
            Some(_) => self.files.len(),
            None => state.config().target_partitions().clamp(1, self.files.len()),
        };
        let mut groups: Vec<Vec<PartitionedFile>> = vec![Vec::new(); partitions];
        for (number, file) in self.files.iter().enumerate() {
            let mut statistics = Statistics::new_unknown(schema);
            statistics.num_rows = self.count(file.rows as usize);
            groups[number % partitions].push(PartitionedFile::new(file.path.clone(), file.size).with_statistics(Arc::new(statistics)));
        }
        let source = ParquetSource::new(schema.clone()).with_table_parquet_options(state.table_options().parquet.clone());
        let config = FileScanConfigBuilder::new(ObjectStoreUrl::parse(TABLES_URL)?, Arc::new(source))
            .with_file_groups(groups.into_iter().map(FileGroup::new).collect())
            .with_projection_indices(Some(columns))?
            .with_statistics(Statistics { num_rows: self.count(self.rows()), ..Statistics::new_unknown(schema) })
            .with_output_ordering(order.into_iter().collect())
            .with_limit(limit)
            .build();
        Ok(DataSourceExec::from_data_source(config))
    }

    /// The order that every file has.
    fn order(&self, schema: &SchemaRef) -> Option<LexOrdering> {
        let order = sorted_by(&self.files).filter(|_| self.files.len() <= MERGED_FILES_MAX)?;
        let options = SortOptions { descending: false, nulls_first: false };
        // What a plan does not read cannot order it, nor can what comes after.
        let columns = order.iter().map_while(|name| {
            let column: Arc<dyn PhysicalExpr> = Arc::new(Column::new(name, schema.index_of(name).ok()?));
            Some(PhysicalSortExpr::new(column, options))
        });
        LexOrdering::new(columns)
    }
}

/// Rows at hand.
pub fn rows_source(schema: SchemaRef, rows: Vec<RecordBatch>) -> Result<Arc<dyn TableSource>> {
    Ok(provider_as_source(rows_provider(schema, rows)?))
}

/// Rows at hand, as a provider.
pub fn rows_provider(schema: SchemaRef, rows: Vec<RecordBatch>) -> Result<Arc<dyn TableProvider>> {
    let table = MemTable::try_new(schema, vec![rows]).map_err(|e| Fault::internal("rows at hand do not form a table").because(e))?;
    Ok(Arc::new(table))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_follow_the_loads_and_split_none() {
        let file = |path: &str, rows, loads: Option<(i64, i64)>| {
            let (load_min, load_max) = (loads.map(|l| l.0), loads.map(|l| l.1));
            DataFile { path: path.into(), size: 1, rows, load_min, load_max, sorted: Vec::new().into() }
        };
        let parts = |files: Vec<DataFile>| {
            let rows = StoredRows { schema: Arc::new(Schema::empty()), files, upto: None };
            let names = |part: StoredRows| part.files.into_iter().map(|f| f.path).collect::<Vec<_>>().join(" ");
            rows.parts(10).into_iter().map(names).collect::<Vec<_>>()
        };
        let files = vec![file("d", 3, Some((4, 4))), file("b", 8, Some((2, 3))), file("a", 9, Some((1, 1))), file("c", 8, Some((3, 3)))];
        assert_eq!(parts(files), ["a", "b c", "d"], "load 3 is in two files, and they stay together");
        assert_eq!(parts(vec![file("a", 3, Some((1, 1))), file("b", 3, Some((2, 2)))]), ["a b"]);
        assert_eq!(parts(vec![file("b", 30, Some((2, 2))), file("a", 30, None)]), ["b a"]);
        assert!(parts(vec![]).is_empty());
    }
}
