//! Tables on Delta Lake, one folder per table.
//!
//! Promises: one [`TableWrite`] is one Delta commit, durable when it returns ([`durable`]); positions land with the rows, so a replay after a
//! crash writes nothing; a reader sees whole commits only. Every commit carries our whole [`State`] in its `commitInfo`, so what a table is
//! needs the last log entry and no replay. Writers of one process queue per table; another process's commit in between is
//! noticed by Delta's put-if-absent, and the write starts over from the new state.
//!
//! Files are rewritten into fewer and sorted ones ([`compact`]), and those they replace are removed later ([`vacuum`]). Neither takes a version
//! away: a version whose files are gone is a prefix, by load, of a later one, and is read from that one's files ([`Pinned::upto`]).
//!
//! To add something a reader needs to know of a table: a field with a default in [`State`].

mod commit;
pub mod compact;
pub mod durable;
pub mod encode;
mod state;
mod vacuum;

pub use encode::system_fields;
pub use state::State;

use crate::fault;
use arrow::datatypes::{Schema, SchemaRef};
use deltalake_core::{DeltaTable, DeltaTableBuilder};
use durable::DurableStore;
use gristmill_kernel::error::{Code, Fault, Kind, Result};
use gristmill_kernel::limits::TABLE_COMMIT_ATTEMPTS_MAX;
use gristmill_kernel::table::{LOAD, SYSTEM_COLUMNS, SystemColumns, TableInfo, TableName, TableWrite, Written};
use std::collections::HashMap;
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
    /// The version of its last commit, rewrites included.
    pub version: u64,
    /// What our commits say about it.
    pub state: State,
    /// All columns: the user's, then ours.
    pub schema: SchemaRef,
    /// The data files.
    pub files: Arc<Vec<DataFile>>,
    /// Only rows of loads up to this one belong to the version: it is read from the files of a later one.
    pub upto: Option<i64>,
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
    /// The columns by which its rows are sorted, each ascending with NULLs last; empty if they are not.
    pub sorted: Arc<[String]>,
}

#[derive(Default)]
struct Slot {
    writer: tokio::sync::Mutex<()>,
    loader: tokio::sync::Mutex<()>,
    rewriter: Arc<tokio::sync::Mutex<()>>,
    current: RwLock<Option<Arc<Current>>>,
    older: Mutex<Vec<Older>>,
}

/// An older version, and how often the table had been rewritten when it was looked up: then its files may be others.
struct Older {
    rewrites: u64,
    pinned: Arc<Pinned>,
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
        let (written, newest) = (current.pinned.written(), current.pinned.version);
        match version {
            None => Ok(Some(current.pinned.clone())),
            // What was rewritten since says the same.
            Some(v) if (written..=newest).contains(&v) => Ok(Some(current.pinned.clone())),
            Some(v) if v > newest => Err(Fault::not_found(Code::UNKNOWN_TABLE, format!("table `{table}` has no version {v}"))
                .fix(format!("its newest version is {written}"))),
            Some(v) => self.older(table, &slot, v, &current.pinned).await.map(Some),
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
            if self.append(&slot, current.as_deref(), write.clone()).await? {
                let current = self.current(&write.table, &slot).await?;
                let current = current.ok_or_else(|| Fault::damaged(format!("table `{}` vanished after a commit", write.table)))?;
                return Ok(Written { info: current.pinned.info(), written: true });
            }
        }
        Err(Fault::new(Kind::Busy, Code::OVERLOADED, format!("table `{}` is written by too many processes at once", write.table))
            .fix("let one process write a table"))
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

    async fn older(&self, name: &TableName, slot: &Slot, version: u64, newest: &Arc<Pinned>) -> Result<Arc<Pinned>> {
        let rewrites = newest.state.rewrites;
        let kept = |slot: &Slot| {
            let older = slot.older.lock().unwrap_or_else(PoisonError::into_inner);
            older.iter().find(|o| o.pinned.version == version && o.rewrites == rewrites).map(|o| o.pinned.clone())
        };
        if let Some(pinned) = kept(slot) {
            return Ok(pinned);
        }
        let written = self.as_written(name, version).await?;
        let pinned = match newest.state.history.as_ref().and_then(|h| h.end_of(version, newest.version)) {
            Some(end) if end == newest.version => written.within(newest),
            Some(end) if end > version => written.within(&self.as_written(name, end).await?),
            _ => written,
        };
        let pinned = Arc::new(pinned);
        let mut older = slot.older.lock().unwrap_or_else(PoisonError::into_inner);
        older.retain(|o| o.pinned.version != version);
        older.insert(0, Older { rewrites, pinned: pinned.clone() });
        older.truncate(OLDER_KEPT);
        Ok(pinned)
    }

    /// A version with the files it was written with. They may be gone.
    async fn as_written(&self, name: &TableName, version: u64) -> Result<Pinned> {
        let mut table = self.table_of(name)?;
        table.load_version(version).await.map_err(|e| fault::delta(format!("open table `{name}` at version {version}"), e))?;
        self.pin(name, &table, version, self.read_state(name, version)?)
    }

    fn pin(&self, name: &TableName, table: &DeltaTable, version: u64, state: State) -> Result<Pinned> {
        let snapshot = table.snapshot().map_err(|e| fault::delta(format!("read table `{name}`"), e))?;
        let orders: HashMap<&str, Arc<[String]>> = state.orders.iter().map(|(m, o)| (m.as_str(), o.clone().into())).collect();
        let unsorted: Arc<[String]> = Arc::new([]);
        let mut files = Vec::new();
        for file in snapshot.log_data().iter() {
            let stats = file.stats().and_then(|s| serde_json::from_str::<serde_json::Value>(&s).ok()).unwrap_or_default();
            let path = format!("{name}/{}", file.path());
            files.push(DataFile {
                size: file.size().unsigned_abs(),
                rows: stats["numRecords"].as_u64().unwrap_or_default(),
                load_min: stats["minValues"][LOAD].as_i64(),
                load_max: stats["maxValues"][LOAD].as_i64(),
                sorted: encode::mark_of(&path).and_then(|mark| orders.get(mark)).unwrap_or(&unsorted).clone(),
                path,
            });
        }
        // The order of files never matters to a result; a fixed one makes runs alike.
        files.sort_by(|a, b| a.path.cmp(&b.path));
        let schema = nullable(&snapshot.snapshot().arrow_schema());
        drop(orders);
        Ok(Pinned { version, state, schema, files: Arc::new(files), upto: None })
    }

    fn read_state(&self, name: &TableName, version: u64) -> Result<State> {
        let path = self.log_entry(name, version);
        let text = std::fs::read_to_string(&path).map_err(|e| Fault::io(format!("read {}", path.display()), e))?;
        State::from_log_entry(&text).ok_or_else(|| {
            Fault::damaged(format!("version {version} of table `{name}` was not written by gristmill"))
                .fix("restore the table's folder from a backup")
        })
    }

    /// The tables there are.
    pub fn names(&self) -> Result<Vec<TableName>> {
        let failed = |e| Fault::io(format!("list {}", self.root.display()), e);
        let mut names = Vec::new();
        for entry in std::fs::read_dir(&self.root).map_err(failed)? {
            let name = entry.map_err(failed)?.file_name();
            // What is no table of ours has another name, or no log.
            if let Some(name) = name.to_str().and_then(|n| TableName::try_from(n.to_string()).ok())
                && self.table_root(&name).join("_delta_log").is_dir()
            {
                names.push(name);
            }
        }
        names.sort();
        Ok(names)
    }

    /// Whoever rewrites files of a table holds it.
    pub fn rewriter(&self, table: &TableName) -> Arc<tokio::sync::Mutex<()>> {
        self.slot(table).rewriter.clone()
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
            version: self.written(),
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
    /// The version of the last write: rewriting files makes no version that anybody sees.
    pub fn written(&self) -> u64 {
        self.state.written.unwrap_or(self.version)
    }
    /// This version, read from the files of a later one that begins with its rows, if files were rewritten in between.
    fn within(self, later: &Pinned) -> Pinned {
        if self.state.rewrites == later.state.rewrites {
            return self;
        }
        let upto = self.state.last_load;
        let files = later.files.iter().filter(|f| f.load_min.is_none_or(|low| low <= upto)).cloned().collect();
        Pinned { files: Arc::new(files), upto: Some(upto), ..self }
    }
    /// Whether it carries our columns.
    pub fn has_system(&self) -> bool {
        SYSTEM_COLUMNS.iter().all(|c| self.schema.column_with_name(c).is_some())
    }
}

/// The columns by which the rows of each of these files are sorted, ascending with NULLs last; `None` if there are files that are not, or are otherwise.
pub fn sorted_by(files: &[DataFile]) -> Option<&[String]> {
    let first = files.first().map(|f| f.sorted.as_ref()).filter(|order| !order.is_empty())?;
    files.iter().all(|f| f.sorted.as_ref() == first).then_some(first)
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

/// Whether rows get our columns.
fn carries_system(system: SystemColumns) -> bool {
    !matches!(system, SystemColumns::None)
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(|e| Fault::internal("a background task died").because(e))?
}

fn nullable(schema: &Schema) -> SchemaRef {
    let fields: Vec<_> = schema.fields().iter().map(|f| f.as_ref().clone().with_nullable(true)).collect();
    Arc::new(Schema::new(fields))
}
