//! Tables on Delta Lake, one folder per table.
//!
//! Promises: one [`TableWrite`] is one Delta commit, durable when it returns ([`durable`]); positions land with the rows, so a replay after a
//! crash writes nothing; a reader sees whole commits only. Every commit carries our whole [`State`] in its `commitInfo`, so what a table is
//! needs the last log entry and no replay. Writers of one process queue per table; another process's commit in between is
//! noticed by Delta's put-if-absent, and the write starts over from the new state.
//!
//! To add something a reader needs to know of a table: a field with a default in [`State`].

pub mod durable;
mod encode;
mod state;

pub use encode::system_fields;
pub use state::State;

use crate::fault;
use arrow::datatypes::{Schema, SchemaRef};
use deltalake_core::kernel::transaction::{CommitBuilder, CommitProperties, TableReference, TransactionError};
use deltalake_core::kernel::{Action, Add, Metadata, MetadataExt, Protocol, StructType, Transaction, new_metadata};
use deltalake_core::protocol::{DeltaOperation, SaveMode};
use deltalake_core::{DeltaTable, DeltaTableBuilder, DeltaTableError};
use durable::DurableStore;
use gristmill_kernel::error::{Code, Fault, Kind, Result};
use gristmill_kernel::limits::{TABLE_COMMIT_ATTEMPTS_MAX, TABLE_COMMITS_PER_CHECKPOINT};
use gristmill_kernel::table::{SYSTEM_COLUMNS, SystemColumns, TableInfo, TableName, TableWrite, WriteMode, Written};
use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

/// The tables under one folder.
pub struct Tables {
    root: PathBuf,
    store: DurableStore,
    slots: Mutex<HashMap<TableName, Arc<Slot>>>,
}

/// A table at one version.
#[derive(Clone)]
pub struct Pinned {
    /// The version.
    pub version: u64,
    /// What our commits say about it.
    pub state: State,
    /// All columns: the user's, then ours.
    pub schema: SchemaRef,
    /// The data files.
    pub files: Arc<Vec<DataFile>>,
}

/// One Parquet file of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DataFile {
    /// Relative to the root of all tables.
    pub path: String,
    /// Bytes.
    pub size: u64,
    /// Rows.
    pub rows: u64,
    /// The lowest load in it, if known.
    pub load_min: Option<i64>,
    /// The highest load in it, if known.
    pub load_max: Option<i64>,
}

#[derive(Default)]
struct Slot {
    writer: tokio::sync::Mutex<()>,
    loader: tokio::sync::Mutex<()>,
    current: RwLock<Option<Arc<Current>>>,
    older: Mutex<Vec<Arc<Pinned>>>,
}

struct Current {
    table: DeltaTable,
    pinned: Arc<Pinned>,
}

/// Older versions kept per table; training sets and labels read the same few again and again.
const OLDER_KEPT: usize = 4;

impl Tables {
    /// Opens the folder, making it if need be.
    pub fn open(root: &Path) -> Result<Tables> {
        durable::make_folders(root).map_err(|e| Fault::io(format!("make {}", root.display()), e))?;
        let root = root.canonicalize().map_err(|e| Fault::io(format!("open {}", root.display()), e))?;
        Ok(Tables { root, store: DurableStore::new(), slots: Mutex::default() })
    }

    /// The folder of all tables.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The table at a version (`None`: the newest).
    pub async fn pinned(&self, table: &TableName, version: Option<u64>) -> Result<Option<Arc<Pinned>>> {
        let slot = self.slot(table);
        let Some(current) = self.current(table, &slot).await? else { return Ok(None) };
        let newest = current.pinned.version;
        match version {
            None => Ok(Some(current.pinned.clone())),
            Some(v) if v == newest => Ok(Some(current.pinned.clone())),
            Some(v) if v > newest => Err(Fault::not_found(Code::UNKNOWN_TABLE, format!("table `{table}` has no version {v}"))
                .fix(format!("its newest version is {newest}"))),
            Some(v) => self.older(table, &slot, v).await.map(Some),
        }
    }

    /// One atomic, durable commit.
    pub async fn write(&self, write: TableWrite) -> Result<Written> {
        let slot = self.slot(&write.table);
        let _turn = slot.writer.lock().await;
        let write = Arc::new(write);
        for _ in 0..TABLE_COMMIT_ATTEMPTS_MAX {
            let current = self.current(&write.table, &slot).await?;
            if let Some(current) = &current
                && write.positions.iter().any(|p| current.pinned.state.positions.get(&p.stream).is_some_and(|at| *at >= p.offset))
            {
                return Ok(Written { info: current.pinned.info(), written: false });
            }
            if self.commit(&slot, current.as_deref(), write.clone()).await? {
                let current = self.current(&write.table, &slot).await?;
                let current = current.ok_or_else(|| Fault::damaged(format!("table `{}` vanished after a commit", write.table)))?;
                return Ok(Written { info: current.pinned.info(), written: true });
            }
        }
        Err(Fault::new(Kind::Busy, Code::OVERLOADED, format!("table `{}` is written by too many processes at once", write.table))
            .fix("let one process write a table"))
    }

    /// False when somebody else committed in between.
    async fn commit(&self, slot: &Slot, current: Option<&Current>, write: Arc<TableWrite>) -> Result<bool> {
        let before = current.map(|c| c.pinned.clone());
        let table = self.table_of(&write.table)?;
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
        for file in &plan.files {
            durable::write_file(&root.join(&file.name), &file.bytes).await?;
            actions.push(Action::Add(Add {
                path: file.name.clone(),
                size: file.bytes.len() as i64,
                modification_time: plan.moment_ms,
                data_change: true,
                stats: Some(file.stats.clone()),
                ..Add::default()
            }));
        }
        if write.mode == WriteMode::Overwrite
            && let Some(current) = current
        {
            let state = current.table.snapshot().map_err(|e| fault::delta("read the table's state", e))?;
            actions.extend(state.log_data().iter().map(|file| Action::Remove(file.remove_action(true))));
        }
        let transactions = write.positions.iter().map(|p| Transaction::new(&p.stream, p.offset)).collect();
        let properties = CommitProperties::default()
            .with_metadata([(state::KEY.to_string(), plan.state.to_json()?)])
            .with_application_transactions(transactions)
            .with_max_retries(0);
        let mode = if write.mode == WriteMode::Overwrite { SaveMode::Overwrite } else { SaveMode::Append };
        let snapshot = current.and_then(|c| c.table.state.as_ref());
        let committed = CommitBuilder::from(properties)
            .with_actions(actions)
            .build(
                snapshot.map(|s| s as &dyn TableReference),
                table.log_store(),
                DeltaOperation::Write { mode, partition_by: None, predicate: None },
            )
            .into_prepared_commit_future()
            .await
            .map_err(|e| fault::delta(format!("commit to table `{}`", write.table), e))?
            .await;
        let post = match committed {
            Ok(post) => post,
            Err(DeltaTableError::Transaction {
                source:
                    TransactionError::MaxCommitAttempts(_) | TransactionError::CommitConflict(_) | TransactionError::VersionAlreadyExists(_),
            })
            | Err(DeltaTableError::VersionAlreadyExists(_)) => return Ok(false),
            Err(error) => return Err(fault::delta(format!("commit to table `{}`", write.table), error)),
        };
        // The commit stands from here on. Checkpoints and log cleaning may fail without harm: the next reader replays a few more entries.
        match post.await {
            Ok(done) if done.version() > 0 => {
                let mut table = table;
                table.state = Some(done.snapshot());
                let version = done.version();
                let pinned = self.pin(&write.table, &table, version, plan.state)?;
                set(slot, Current { table, pinned: Arc::new(pinned) });
            }
            Ok(_) => {}
            Err(error) => tracing::warn!(table = %write.table, %error, "a table's checkpoint failed; its commits are safe"),
        }
        Ok(true)
    }

    /// The newest state, from the cache when no newer log entry exists.
    async fn current(&self, name: &TableName, slot: &Slot) -> Result<Option<Arc<Current>>> {
        if let Some(current) = get(slot)
            && !self.log_entry(name, current.pinned.version + 1).exists()
        {
            return Ok(Some(current));
        }
        let _turn = slot.loader.lock().await;
        let known = get(slot);
        if let Some(current) = &known
            && !self.log_entry(name, current.pinned.version + 1).exists()
        {
            return Ok(known);
        }
        let mut table = match &known {
            Some(current) => current.table.clone(),
            None => {
                let log = self.table_root(name).join("_delta_log");
                if !self.log_entry(name, 0).exists() && !log.join("_last_checkpoint").exists() {
                    return Ok(None);
                }
                self.table_of(name)?
            }
        };
        table.update_incremental(None).await.map_err(|e| fault::delta(format!("open table `{name}`"), e))?;
        let version = table.version().ok_or_else(|| Fault::damaged(format!("table `{name}` has no version")))?;
        let state = self.read_state(name, version)?;
        let pinned = Arc::new(self.pin(name, &table, version, state)?);
        set(slot, Current { table, pinned });
        Ok(get(slot))
    }

    async fn older(&self, name: &TableName, slot: &Slot, version: u64) -> Result<Arc<Pinned>> {
        let kept = |slot: &Slot| {
            let older = slot.older.lock().unwrap_or_else(PoisonError::into_inner);
            older.iter().find(|p| p.version == version).cloned()
        };
        if let Some(pinned) = kept(slot) {
            return Ok(pinned);
        }
        let mut table = self.table_of(name)?;
        table.load_version(version).await.map_err(|e| fault::delta(format!("open table `{name}` at version {version}"), e))?;
        let state = self.read_state(name, version)?;
        let pinned = Arc::new(self.pin(name, &table, version, state)?);
        let mut older = slot.older.lock().unwrap_or_else(PoisonError::into_inner);
        older.insert(0, pinned.clone());
        older.truncate(OLDER_KEPT);
        Ok(pinned)
    }

    fn pin(&self, name: &TableName, table: &DeltaTable, version: u64, state: State) -> Result<Pinned> {
        let snapshot = table.snapshot().map_err(|e| fault::delta(format!("read table `{name}`"), e))?;
        let mut files = Vec::new();
        for file in snapshot.log_data().iter() {
            let stats = file.stats().and_then(|s| serde_json::from_str::<serde_json::Value>(&s).ok()).unwrap_or_default();
            files.push(DataFile {
                path: format!("{name}/{}", file.path()),
                size: file.size().unsigned_abs(),
                rows: stats["numRecords"].as_u64().unwrap_or_default(),
                load_min: stats["minValues"]["_load"].as_i64(),
                load_max: stats["maxValues"]["_load"].as_i64(),
            });
        }
        // The order of files never matters to a result; a fixed one makes runs alike.
        files.sort_by(|a, b| a.path.cmp(&b.path));
        let schema = nullable(&snapshot.snapshot().arrow_schema());
        Ok(Pinned { version, state, schema, files: Arc::new(files) })
    }

    fn read_state(&self, name: &TableName, version: u64) -> Result<State> {
        let path = self.log_entry(name, version);
        let text = std::fs::read_to_string(&path).map_err(|e| Fault::io(format!("read {}", path.display()), e))?;
        State::from_log_entry(&text).ok_or_else(|| {
            Fault::damaged(format!("version {version} of table `{name}` was not written by gristmill"))
                .fix("restore the table's folder from a backup")
        })
    }

    fn slot(&self, table: &TableName) -> Arc<Slot> {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        slots.entry(table.clone()).or_default().clone()
    }

    fn table_root(&self, table: &TableName) -> PathBuf {
        self.root.join(table.as_str())
    }

    fn log_entry(&self, table: &TableName, version: u64) -> PathBuf {
        self.table_root(table).join("_delta_log").join(format!("{version:020}.json"))
    }

    fn table_of(&self, name: &TableName) -> Result<DeltaTable> {
        let root = self.table_root(name);
        let url = url::Url::from_directory_path(&root).map_err(|()| Fault::internal(format!("{} is no absolute path", root.display())))?;
        let builder = DeltaTableBuilder::from_url(url.clone()).map_err(|e| fault::delta(format!("open table `{name}`"), e))?;
        builder.with_storage_backend(Arc::new(self.store.clone()), url).build().map_err(|e| fault::delta(format!("open table `{name}`"), e))
    }
}

impl Pinned {
    /// The table as callers see it.
    pub fn info(&self) -> TableInfo {
        TableInfo {
            version: self.version,
            generation: self.state.generation,
            schema: self.own_schema(),
            rows: self.state.rows,
            last_load: self.state.last_load,
            positions: self.state.positions.clone(),
            note: self.state.note.clone(),
        }
    }
    /// The user's columns.
    pub fn own_schema(&self) -> SchemaRef {
        let fields: Vec<_> = self.schema.fields().iter().filter(|f| !SYSTEM_COLUMNS.contains(&f.name().as_str())).cloned().collect();
        Arc::new(Schema::new(fields))
    }
    /// Whether it carries our columns.
    pub fn has_system(&self) -> bool {
        SYSTEM_COLUMNS.iter().all(|c| self.schema.column_with_name(c).is_some())
    }
}

fn get(slot: &Slot) -> Option<Arc<Current>> {
    slot.current.read().unwrap_or_else(PoisonError::into_inner).clone()
}

/// Never steps back: a slow reader must not hide a newer commit.
fn set(slot: &Slot, current: Current) {
    let mut held = slot.current.write().unwrap_or_else(PoisonError::into_inner);
    if held.as_ref().is_none_or(|h| h.pinned.version <= current.pinned.version) {
        *held = Some(Arc::new(current));
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(|e| Fault::internal("a background task died").because(e))?
}

fn nullable(schema: &Schema) -> SchemaRef {
    let fields: Vec<_> = schema.fields().iter().map(|f| f.as_ref().clone().with_nullable(true)).collect();
    Arc::new(Schema::new(fields))
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

/// Whether rows get our columns.
fn carries_system(system: SystemColumns) -> bool {
    !matches!(system, SystemColumns::None)
}
