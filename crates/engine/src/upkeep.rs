//! The port that keeps tables in order: reads what [`compact`](crate::tables::compact) chose, sorted, and has it put in place.
//!
//! Sorting uses one core and spills when it must, so that whoever is served meanwhile has the others.

use crate::fault::{self, Text};
use crate::local::{LocalEngine, Shared};
use crate::sql::session::Size;
use crate::sql::source::StoredRows;
use crate::tables::compact::{self, Rewritten};
use crate::tables::encode::Encoder;
use crate::tables::{DataFile, Pinned};
use async_trait::async_trait;
use datafusion::logical_expr::{LogicalPlan, LogicalPlanBuilder, ident};
use futures::StreamExt;
use gristmill_kernel::Timestamp;
use gristmill_kernel::error::{Fault, Result};
use gristmill_kernel::port::{Compacted, TableLayout, TableUpkeep, Vacuumed};
use gristmill_kernel::table::TableName;
use std::sync::Arc;

/// Batches on their way from the sort to the file.
const WAITING_BATCHES: usize = 4;

#[async_trait]
impl TableUpkeep for LocalEngine {
    async fn tables(&self) -> Result<Vec<TableName>> {
        self.shared.tables.names()
    }

    async fn layout(&self, table: &TableName) -> Result<Option<TableLayout>> {
        let Some(pinned) = self.shared.tables.pinned(table, None).await? else { return Ok(None) };
        let mut layout = TableLayout { files: pinned.files.len() as u64, ..TableLayout::default() };
        for file in pinned.files.iter() {
            layout.bytes += file.size;
            layout.rows += file.rows;
            match layout.sorted.iter_mut().find(|(order, _)| order.as_slice() == file.sorted.as_ref()) {
                _ if file.sorted.is_empty() => {}
                Some((_, rows)) => *rows += file.rows,
                None => layout.sorted.push((file.sorted.to_vec(), file.rows)),
            }
        }
        Ok(Some(layout))
    }

    async fn compact(&self, table: &TableName, cluster: &[String]) -> Result<Compacted> {
        let tables = &self.shared.tables;
        // Two rewrites of one table would choose the same files, and one would have worked in vain.
        let rewriter = tables.rewriter(table);
        let Ok(_turn) = rewriter.try_lock() else { return Ok(Compacted::default()) };
        let Some(pinned) = tables.pinned(table, None).await? else { return Ok(Compacted::default()) };
        let order = compact::order(&pinned, cluster)?;
        let Some(chosen) = compact::choose(&pinned.files, &order) else { return Ok(Compacted::default()) };
        let written = rewrite(&self.shared, table, &pinned, &chosen, &order).await?;
        tables.replace(table, &chosen, written, &order).await
    }

    async fn vacuum(&self, table: &TableName, now: Timestamp) -> Result<Vacuumed> {
        self.shared.tables.vacuum(table, now).await
    }
}

/// The rows of the chosen files in new ones, sorted, not committed.
async fn rewrite(
    shared: &Arc<Shared>,
    table: &TableName,
    pinned: &Pinned,
    chosen: &[DataFile],
    order: &[String],
) -> Result<Vec<Rewritten>> {
    let failed = |e| fault::query(e, Text::bare(""));
    let plan = shared.session.optimise(&sorted(pinned, chosen, order)?, Text::bare(""))?;
    let mut rows = shared.session.run(&plan, Size::Small).await.map_err(failed)?;
    let encoder = Encoder::new(pinned.schema.clone(), pinned.version + 1, order.to_vec());
    let (send, receive) = tokio::sync::mpsc::channel(WAITING_BATCHES);
    let writing = {
        let (shared, table) = (shared.clone(), table.clone());
        tokio::task::spawn_blocking(move || shared.tables.write_files(&table, receive, encoder))
    };
    let mut broken = Ok(());
    while let Some(batch) = rows.next().await {
        let sent = match batch {
            Ok(batch) => send.send(batch).await.is_ok(),
            Err(error) => {
                broken = Err(failed(error));
                false
            }
        };
        // A writer that has ended early says why.
        if !sent {
            break;
        }
    }
    drop(send);
    let written = writing.await.map_err(|e| Fault::internal("a writing task died").because(e))?;
    broken?;
    written
}

fn sorted(pinned: &Pinned, chosen: &[DataFile], order: &[String]) -> Result<LogicalPlan> {
    let failed = |e| fault::query(e, Text::bare(""));
    let rows = StoredRows::new(pinned, true).only(chosen.to_vec());
    let plan = LogicalPlanBuilder::scan("rows", rows.source(), None).map_err(failed)?;
    let plan = match order {
        [] => plan,
        order => plan.sort(order.iter().map(|column| ident(column).sort(true, false))).map_err(failed)?,
    };
    plan.build().map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tables::sorted_by;
    use arrow::array::{Int64Array, RecordBatch};
    use gristmill_kernel::port::Engine;
    use gristmill_kernel::table::{SystemColumns, TableWrite, WriteMode};

    struct Bench {
        folder: tempfile::TempDir,
        engine: LocalEngine,
        table: TableName,
    }

    impl Bench {
        async fn new() -> Bench {
            let folder = tempfile::tempdir().unwrap();
            let engine = LocalEngine::open(folder.path()).unwrap();
            let bench = Bench { folder, engine, table: TableName::try_from("t".to_string()).unwrap() };
            for number in [3, 1, 2] {
                bench.write(number, WriteMode::Append).await;
            }
            bench
        }
        async fn write(&self, number: i64, mode: WriteMode) {
            let rows = vec![RecordBatch::try_from_iter([("n", Arc::new(Int64Array::from(vec![number, -number])) as _)]).unwrap()];
            let system = SystemColumns::Assign(Timestamp::from_micros(number));
            let write = TableWrite { table: self.table.clone(), rows, mode, system, positions: vec![], note: serde_json::Value::Null };
            self.engine.write(write).await.unwrap();
        }
        fn files_on_disk(&self) -> usize {
            let all = std::fs::read_dir(self.folder.path().join("t")).unwrap();
            all.filter(|e| e.as_ref().unwrap().path().extension().is_some_and(|e| e == "parquet")).count()
        }
        async fn rows(&self) -> usize {
            let mut rows = self.engine.scan(&self.table, None, 0).await.unwrap();
            let mut count = 0;
            while let Some(batch) = rows.next().await {
                count += batch.unwrap().num_rows();
            }
            count
        }
        /// Rewrites every file, does something meanwhile, and tries to put the new ones in place.
        async fn rewritten(&self, meanwhile: impl Future<Output = ()>) -> Compacted {
            let tables = &self.engine.shared.tables;
            let pinned = tables.pinned(&self.table, None).await.unwrap().unwrap();
            let order = compact::order(&pinned, &["n".to_string()]).unwrap();
            let written = rewrite(&self.engine.shared, &self.table, &pinned, &pinned.files, &order).await.unwrap();
            meanwhile.await;
            tables.replace(&self.table, &pinned.files, written, &order).await.unwrap()
        }
    }

    #[tokio::test]
    async fn rows_that_come_meanwhile_stay() {
        let bench = Bench::new().await;
        let done = bench.rewritten(bench.write(9, WriteMode::Append)).await;
        assert_eq!((done.replaced, done.written, done.rows), (3, 1, 6));
        assert_eq!(bench.rows().await, 8);
    }

    #[tokio::test]
    async fn a_rewrite_of_what_was_overwritten_has_lost() {
        let bench = Bench::new().await;
        let done = bench.rewritten(bench.write(9, WriteMode::Overwrite)).await;
        assert_eq!((done, bench.rows().await), (Compacted::default(), 2));
    }

    #[tokio::test]
    async fn of_two_rewrites_one_has_lost_and_takes_nothing_from_the_other() {
        let bench = Bench::new().await;
        // As of two processes: both write a file of the same name.
        let first = async { assert_eq!(bench.rewritten(async {}).await.replaced, 3) };
        assert_eq!(bench.rewritten(first).await, Compacted::default());
        assert_eq!((bench.rows().await, bench.files_on_disk()), (6, 4));
    }

    #[tokio::test]
    async fn a_rewrite_that_would_lose_rows_is_refused() {
        let bench = Bench::new().await;
        let tables = &bench.engine.shared.tables;
        let pinned = tables.pinned(&bench.table, None).await.unwrap().unwrap();
        let order = compact::order(&pinned, &[]).unwrap();
        let written = rewrite(&bench.engine.shared, &bench.table, &pinned, &pinned.files[..2], &order).await.unwrap();
        assert!(tables.replace(&bench.table, &pinned.files, written, &order).await.is_err());
        assert_eq!(bench.rows().await, 6);
    }

    #[tokio::test]
    async fn once_sorted_a_table_is_written_sorted() {
        let bench = Bench::new().await;
        bench.rewritten(async {}).await;
        bench.write(5, WriteMode::Append).await;
        let pinned = bench.engine.shared.tables.pinned(&bench.table, None).await.unwrap().unwrap();
        assert_eq!(pinned.files.len(), 2);
        assert_eq!(sorted_by(&pinned.files).unwrap(), ["n", "_load", "_row"]);
        bench.write(5, WriteMode::Overwrite).await;
        let pinned = bench.engine.shared.tables.pinned(&bench.table, None).await.unwrap().unwrap();
        assert_eq!(sorted_by(&pinned.files), None, "an overwrite begins anew");
    }
}
