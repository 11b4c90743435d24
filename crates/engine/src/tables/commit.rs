//! One Delta commit: what a write or a rewrite adds and removes, with the table's next state.

use super::{Current, Slot, State, Tables, blocking, durable, encode, set, state};
use crate::fault;
use arrow::datatypes::Schema;
use deltalake_core::DeltaTableError;
use deltalake_core::kernel::transaction::{CommitBuilder, CommitProperties, TableReference, TransactionError};
use deltalake_core::kernel::{Action, Add, Metadata, MetadataExt, Protocol, StructType, Transaction, new_metadata};
use deltalake_core::protocol::{DeltaOperation, SaveMode};
use gristmill_kernel::error::{Code, Fault, Result};
use gristmill_kernel::limits::TABLE_COMMITS_PER_CHECKPOINT;
use gristmill_kernel::table::{TableName, TableWrite, WriteMode};
use std::collections::BTreeMap;
use std::sync::Arc;

/// What a commit does.
pub(super) struct Change {
    /// Files added and removed, and what else Delta must know.
    pub actions: Vec<Action>,
    /// Positions that land with it.
    pub transactions: Vec<Transaction>,
    /// Its name in the log.
    pub operation: DeltaOperation,
    /// The table after it.
    pub state: State,
}

/// A file that is on the disk, as the log names it.
pub(super) fn added(name: String, bytes: usize, stats: String, moment_ms: i64, data_change: bool) -> Action {
    Action::Add(Add { path: name, size: bytes as i64, modification_time: moment_ms, data_change, stats: Some(stats), ..Add::default() })
}

impl Tables {
    /// Commits a write. False when somebody else committed in between.
    pub(super) async fn append(&self, slot: &Slot, current: Option<&Current>, write: Arc<TableWrite>) -> Result<bool> {
        let before = current.map(|c| c.pinned.clone());
        let plan = {
            let (write, before) = (write.clone(), before.clone());
            blocking(move || encode::plan(&write, before.as_deref())).await?
        };
        let mut actions = Vec::new();
        match current {
            None => {
                actions.push(Action::Protocol(protocol()?));
                actions.push(Action::Metadata(metadata(&plan.schema)?));
            }
            Some(current) if plan.schema != current.pinned.schema => {
                let state = current.table.snapshot().map_err(|e| fault::delta("read the table's state", e))?;
                let changed = state.metadata().clone().with_schema(&delta_schema(&plan.schema)?);
                actions.push(Action::Metadata(changed.map_err(|e| Fault::internal("change the table's schema").because(e))?));
            }
            Some(_) => {}
        }
        let root = self.table_root(&write.table);
        for file in plan.files {
            durable::write_file(&root.join(&file.name), &file.bytes).await?;
            actions.push(added(file.name, file.bytes.len(), file.stats, plan.moment_ms, true));
        }
        if write.mode == WriteMode::Overwrite
            && let Some(current) = current
        {
            let state = current.table.snapshot().map_err(|e| fault::delta("read the table's state", e))?;
            actions.extend(state.log_data().iter().map(|file| Action::Remove(file.remove_action(true))));
        }
        let mode = if write.mode == WriteMode::Overwrite { SaveMode::Overwrite } else { SaveMode::Append };
        let change = Change {
            actions,
            transactions: write.positions.iter().map(|p| Transaction::new(&p.stream, p.offset)).collect(),
            operation: DeltaOperation::Write { mode, partition_by: None, predicate: None },
            state: plan.state,
        };
        self.commit(slot, &write.table, current, change).await
    }

    /// False when somebody else committed in between.
    pub(super) async fn commit(&self, slot: &Slot, name: &TableName, current: Option<&Current>, change: Change) -> Result<bool> {
        let table = self.table_of(name)?;
        let properties = CommitProperties::default()
            .with_metadata([(state::KEY.to_string(), change.state.to_json()?)])
            .with_application_transactions(change.transactions)
            .with_max_retries(0);
        let snapshot = current.and_then(|c| c.table.state.as_ref());
        let committed = CommitBuilder::from(properties)
            .with_actions(change.actions)
            .build(snapshot.map(|s| s as &dyn TableReference), table.log_store(), change.operation)
            .into_prepared_commit_future()
            .await
            .map_err(|e| fault::delta(format!("commit to table `{name}`"), e))?
            .await;
        let post = match committed {
            Ok(post) => post,
            Err(DeltaTableError::Transaction {
                source:
                    TransactionError::MaxCommitAttempts(_) | TransactionError::CommitConflict(_) | TransactionError::VersionAlreadyExists(_),
            })
            | Err(DeltaTableError::VersionAlreadyExists(_)) => return Ok(false),
            Err(error) => return Err(fault::delta(format!("commit to table `{name}`"), error)),
        };
        // The commit stands from here on. Checkpoints and log cleaning may fail without harm: the next reader replays a few more entries.
        match post.await {
            Ok(done) if done.version() > 0 => {
                let mut table = table;
                table.state = Some(done.snapshot());
                let pinned = self.pin(name, &table, done.version(), change.state)?;
                set(slot, Current { table, pinned: Arc::new(pinned) });
            }
            Ok(_) => {}
            Err(error) => tracing::warn!(table = %name, %error, "a table's checkpoint failed; its commits are safe"),
        }
        Ok(true)
    }
}

fn delta_schema(schema: &Schema) -> Result<StructType> {
    use deltalake_core::kernel::engine::arrow_conversion::TryIntoKernel as _;
    let converted: std::result::Result<StructType, _> = schema.try_into_kernel();
    converted.map_err(|e| Fault::invalid(Code::WRONG_TYPE, format!("a table cannot hold these columns: {e}")).because(e))
}

fn protocol() -> Result<Protocol> {
    let plain = serde_json::json!({ "minReaderVersion": 1, "minWriterVersion": 2 });
    serde_json::from_value(plain).map_err(|e| Fault::internal("the table protocol does not parse").because(e))
}

fn metadata(schema: &Schema) -> Result<Metadata> {
    let settings = BTreeMap::from([
        ("delta.checkpointInterval", TABLE_COMMITS_PER_CHECKPOINT.to_string()),
        ("delta.logRetentionDuration", "interval 365 days".to_string()),
    ]);
    new_metadata(&delta_schema(schema)?, Vec::<String>::new(), settings).map_err(|e| Fault::internal("make a table").because(e))
}
