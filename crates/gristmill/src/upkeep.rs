//! What keeps tables and kept rows in order beside the work: files are rewritten into fewer and sorted ones, replaced files and rows that nobody can
//! ask for any more go.
//!
//! Nothing here makes or changes a version, so none of it is in the ledger. Whoever holds the state folder does it: a server from time to
//! time ([`crate::tasks`]), a command at the end of its run.

use gristmill_features::OnlineFeatures;
use gristmill_kernel::limits::TABLE_COMPACT_ROUNDS_MAX;
use gristmill_kernel::port::{Ports, TableUpkeep};
use gristmill_kernel::table::TableName;
use gristmill_kernel::{Result, Timestamp};
use std::collections::BTreeMap;

/// Rewrites the files of all tables that are due. A table that fails does not hold up the others.
pub async fn compact(tables: &dyn TableUpkeep, clusterings: &BTreeMap<TableName, Vec<String>>) -> Result<()> {
    let mut trouble = None;
    for table in tables.tables().await? {
        let cluster = clusterings.get(&table).map_or(&[] as &[String], Vec::as_slice);
        if let Err(fault) = compact_one(tables, &table, cluster).await {
            tracing::warn!(%table, error = %fault, "the files of a table stay as they are");
            trouble = Some(fault);
        }
    }
    trouble.map_or(Ok(()), Err)
}

async fn compact_one(tables: &dyn TableUpkeep, table: &TableName, cluster: &[String]) -> Result<()> {
    for _ in 0..TABLE_COMPACT_ROUNDS_MAX {
        let done = tables.compact(table, cluster).await?;
        if done.replaced == 0 {
            break;
        }
        tracing::info!(%table, replaced = done.replaced, written = done.written, rows = done.rows, "files of a table were rewritten");
    }
    Ok(())
}

/// Removes the files of all tables that no version needs. Returns how many, and their bytes.
pub async fn vacuum(tables: &dyn TableUpkeep, now: Timestamp) -> Result<(u64, u64)> {
    let (mut files, mut bytes) = (0, 0);
    for table in tables.tables().await? {
        let gone = tables.vacuum(&table, now).await?;
        files += gone.files;
        bytes += gone.bytes;
    }
    Ok((files, bytes))
}

/// What a command does at the end of a run: what a server would do meanwhile. The run stands, whatever happens here.
pub async fn after_run(ports: &Ports, tables: &dyn TableUpkeep) {
    let features = OnlineFeatures::new(ports.clone());
    let done = async {
        features.refresh().await?;
        compact(tables, &features.clusterings()).await?;
        vacuum(tables, ports.clock.now()).await
    };
    if let Err(fault) = done.await {
        tracing::warn!(error = %fault, "tables stay as they are; the next run tries again");
    }
}
