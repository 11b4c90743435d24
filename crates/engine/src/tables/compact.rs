//! Few files instead of many, sorted as they are asked: what is rewritten, and the commit that puts it in place.
//!
//! Files are merged in tiers of size, so that a row is rewritten a few times in its life and not with every merge: when [`TABLE_FILES_ALIKE_MAX`]
//! files of a tier have gathered, they and all smaller ones become one. A large file that is not in the wanted order is rewritten once.
//! A rewrite is one commit with `dataChange = false`. It holds up no write: rows are read and sorted beside the writers, and only the commit queues
//! with them. If a file it replaces is gone by then, the rewrite has lost: nothing has changed, and its own files are left to the vacuum. Nobody else may
//! remove them: the same rows written by two processes are files of one name, and the other one may have committed them.

use super::commit::{Change, added};
use super::encode::{Encoder, NewFile, history_of, mark};
use super::{DataFile, Pinned, State, Tables, durable};
use arrow::array::RecordBatch;
use deltalake_core::kernel::Action;
use deltalake_core::protocol::DeltaOperation;
use gristmill_kernel::error::{Code, Fault, Kind, Result};
use gristmill_kernel::limits::{
    TABLE_COMMIT_ATTEMPTS_MAX, TABLE_COMPACT_BYTES_MAX, TABLE_COMPACT_ROWS_MAX, TABLE_FILE_ROWS_MAX, TABLE_FILES_ALIKE_MAX,
};
use gristmill_kernel::port::Compacted;
use gristmill_kernel::table::{LOAD, ROW, TableName};
use std::collections::BTreeSet;
use std::path::PathBuf;
use tokio::sync::mpsc::Receiver;

/// Rows from which a file is of the next tier. A file of the last one is as large as it should be.
const TIERS: [u64; 3] = [4 << 10, 128 << 10, TABLE_FILE_ROWS_MAX as u64 / 2];

/// The tier from which a file in the wrong order is worth a rewrite of its own.
const LARGE: usize = 2;

/// The columns a table's rows are sorted by: those asked for, then load and row, so that the order is total. Empty for a table without our columns.
pub fn order(table: &Pinned, cluster: &[String]) -> Result<Vec<String>> {
    if !table.has_system() {
        return Ok(Vec::new());
    }
    if let Some(unknown) = cluster.iter().find(|c| table.schema.column_with_name(c).is_none()) {
        let known: Vec<&str> = table.schema.fields().iter().map(|f| f.name().as_str()).collect();
        return Err(Fault::invalid(Code::UNKNOWN_COLUMN, format!("a table cannot be clustered by `{unknown}`, which it does not have"))
            .fix(format!("its columns are {}", known.join(", "))));
    }
    let mut order: Vec<String> = Vec::new();
    for column in cluster.iter().map(String::as_str).chain([LOAD, ROW]) {
        if !order.iter().any(|c| c == column) {
            order.push(column.to_string());
        }
    }
    Ok(order)
}

/// The files to rewrite in one commit; `None` when the table is as it should be.
pub fn choose(files: &[DataFile], order: &[String]) -> Option<Vec<DataFile>> {
    let merged = (0..TIERS.len()).rev().find_map(|tier| {
        let alike = files.iter().filter(|f| tier_of(f) == tier).count();
        (alike >= TABLE_FILES_ALIKE_MAX).then(|| within_limits(files.iter().filter(|f| tier_of(f) <= tier)))
    });
    // Loads come in their own order.
    let by_load = order.first().is_none_or(|c| c == LOAD);
    merged.filter(|m| m.len() > 1).or_else(|| {
        let wrong = files.iter().filter(|f| !by_load && tier_of(f) >= LARGE && f.sorted.as_ref() != order);
        Some(within_limits(wrong)).filter(|w| !w.is_empty())
    })
}

fn tier_of(file: &DataFile) -> usize {
    TIERS.iter().position(|rows| file.rows < *rows).unwrap_or(TIERS.len())
}

/// The smallest first; one file always, however large.
fn within_limits<'a>(files: impl Iterator<Item = &'a DataFile>) -> Vec<DataFile> {
    let mut files: Vec<&DataFile> = files.collect();
    files.sort_by(|a, b| (a.rows, &a.path).cmp(&(b.rows, &b.path)));
    let (mut rows, mut bytes) = (0, 0);
    let fits = |file: &&&DataFile| {
        let first = rows == 0;
        rows += file.rows.max(1);
        bytes += file.size;
        first || (rows <= TABLE_COMPACT_ROWS_MAX && bytes <= TABLE_COMPACT_BYTES_MAX)
    };
    let mut chosen: Vec<DataFile> = files.iter().take_while(fits).map(|f| (*f).clone()).collect();
    // A table without our columns keeps the order in which it was written.
    chosen.sort_by(|a, b| a.path.cmp(&b.path));
    chosen
}

/// A file that was written for a rewrite and is not committed yet.
pub struct Rewritten {
    name: String,
    bytes: usize,
    stats: String,
    rows: u64,
}

impl Tables {
    /// Writes sorted rows as files of a table. Blocking, and it ends when no more rows come.
    pub fn write_files(&self, table: &TableName, mut rows: Receiver<RecordBatch>, mut encoder: Encoder) -> Result<Vec<Rewritten>> {
        let root = self.table_root(table);
        let mut written = Vec::new();
        while let Some(batch) = rows.blocking_recv() {
            for file in encoder.push(&batch)? {
                written.push(write_file(&root, file)?);
            }
        }
        written.extend(encoder.finish()?.map(|file| write_file(&root, file)).transpose()?);
        Ok(written)
    }

    /// Puts rewritten files in the place of `old`, if all of those are still there.
    pub async fn replace(&self, table: &TableName, old: &[DataFile], new: Vec<Rewritten>, order: &[String]) -> Result<Compacted> {
        let (before, after): (u64, u64) = (old.iter().map(|f| f.rows).sum(), new.iter().map(|f| f.rows).sum());
        if before != after {
            return Err(Fault::internal(format!("{after} of {before} rows of table `{table}` would be left by a rewrite")));
        }
        Ok(match self.put_in_place(table, old, &new, order).await? {
            true => Compacted { replaced: old.len() as u64, written: new.len() as u64, rows: after },
            false => Compacted::default(),
        })
    }

    async fn put_in_place(&self, table: &TableName, old: &[DataFile], new: &[Rewritten], order: &[String]) -> Result<bool> {
        let slot = self.slot(table);
        let _turn = slot.writer.lock().await;
        for _ in 0..TABLE_COMMIT_ATTEMPTS_MAX {
            let Some(current) = self.current(table, &slot).await? else { return Ok(false) };
            let mut gone: BTreeSet<String> = old.iter().map(|f| f.path.clone()).collect();
            let snapshot = current.table.snapshot().map_err(|e| crate::fault::delta("read the table's state", e))?;
            let mut actions = Vec::with_capacity(old.len() + new.len());
            for file in snapshot.log_data().iter() {
                if gone.remove(&format!("{table}/{}", file.path())) {
                    actions.push(Action::Remove(file.remove_action(false)));
                }
            }
            if !gone.is_empty() {
                return Ok(false);
            }
            for file in new {
                actions.push(added(file.name.clone(), file.bytes, file.stats.clone(), 0, false));
            }
            let state = state_after(&current.pinned, old, order)?;
            let operation = DeltaOperation::Optimize { predicate: None, target_size: TABLE_COMPACT_BYTES_MAX as i64 };
            let change = Change { actions, transactions: Vec::new(), operation, state };
            if self.commit(&slot, table, Some(&current), change).await? {
                return Ok(true);
            }
        }
        Err(Fault::new(Kind::Busy, Code::OVERLOADED, format!("table `{table}` is written by too many processes at once"))
            .fix("it is tried again by itself"))
    }
}

/// The same table, but for its files.
fn state_after(table: &Pinned, old: &[DataFile], order: &[String]) -> Result<State> {
    table.state.check_format()?;
    let mut state = State { format: State::FORMAT, history: history_of(table), ..table.state.clone() };
    state.rewrites += 1;
    state.written = Some(table.written());
    let replaced: BTreeSet<&str> = old.iter().map(|f| f.path.as_str()).collect();
    let left: BTreeSet<String> =
        table.files.iter().filter(|f| !f.sorted.is_empty() && !replaced.contains(f.path.as_str())).map(|f| mark(&f.sorted)).collect();
    state.orders.retain(|mark, _| left.contains(mark));
    if !order.is_empty() {
        state.orders.insert(mark(order), order.to_vec());
    }
    Ok(state)
}

fn write_file(root: &std::path::Path, file: NewFile) -> Result<Rewritten> {
    let path: PathBuf = root.join(&file.name);
    durable::write_file_now(&path, &file.bytes)?;
    Ok(Rewritten { name: file.name, bytes: file.bytes.len(), stats: file.stats, rows: file.rows as u64 })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    fn file(path: &str, rows: u64, sorted: &[&str]) -> DataFile {
        let sorted: Vec<String> = sorted.iter().map(|c| (*c).to_string()).collect();
        DataFile { path: path.into(), size: rows * 10, rows, load_min: None, load_max: None, sorted: Arc::from(sorted) }
    }
    fn many(count: usize, rows: u64) -> Vec<DataFile> {
        (0..count).map(|i| file(&format!("{rows}-{i:04}"), rows, &["id", LOAD, ROW])).collect()
    }
    fn wanted() -> Vec<String> {
        ["id", LOAD, ROW].map(String::from).to_vec()
    }

    #[test]
    fn files_of_one_tier_are_merged_with_all_smaller_ones() {
        assert_eq!(choose(&many(TABLE_FILES_ALIKE_MAX - 1, 5), &wanted()), None);
        assert_eq!(choose(&many(TABLE_FILES_ALIKE_MAX, 5), &wanted()).map(|c| c.len()), Some(TABLE_FILES_ALIKE_MAX));
        let mut files = many(3, 5);
        files.extend(many(TABLE_FILES_ALIKE_MAX, 5_000));
        files.extend(many(2, 200_000));
        let chosen = choose(&files, &wanted()).expect("something");
        assert_eq!(chosen.len(), TABLE_FILES_ALIKE_MAX + 3, "the larger ones stay");
        assert_eq!(choose(&many(200, TABLE_FILE_ROWS_MAX as u64), &wanted()), None, "full files stay");
    }

    #[test]
    fn one_rewrite_has_limits() {
        let chosen = choose(&many(TABLE_FILES_ALIKE_MAX, 1 << 20), &wanted()).expect("something");
        assert_eq!(chosen.len() as u64, TABLE_COMPACT_ROWS_MAX >> 20);
    }

    #[test]
    fn a_large_file_in_another_order_is_rewritten_alone() {
        let files = [file("a", 1 << 20, &["other", LOAD, ROW]), file("b", 1 << 20, &["id", LOAD, ROW]), file("c", 100, &[])];
        let chosen = choose(&files, &wanted()).expect("something");
        assert_eq!(chosen.iter().map(|f| f.path.as_str()).collect::<Vec<_>>(), ["a"]);
        assert_eq!(choose(&files, &[LOAD.to_string(), ROW.to_string()]), None, "loads come in their own order");
        assert_eq!(choose(&files, &[]), None);
        let huge = [file("a", TABLE_COMPACT_ROWS_MAX * 2, &[])];
        assert_eq!(choose(&huge, &wanted()).map(|c| c.len()), Some(1), "however large");
    }
}
