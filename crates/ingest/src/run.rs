//! Does the work: reads through ports, asks [`crate::plan`], writes. A run loads new files first and empties the journal after.

use crate::journal::{self, HISTORY_STREAM, REPLAY_STREAM, STREAM};
use crate::load::{Loader, Piece, measure};
use crate::plan::{Decision, Note, SourceKind, decide};
use crate::schema::Columns;
use crate::source::file::{self, Seen};
use crate::source::{Origin, http, replay};
use crate::spec::{Column, SourceSpec};
use arrow::array::RecordBatch;
use async_trait::async_trait;
use gristmill_kernel::error::{Code, Fault, Kind, Result};
use gristmill_kernel::limits::{JOURNAL_DRAIN_ROWS_MAX, LOAD_BYTES_MAX};
use gristmill_kernel::run::Metric;
use gristmill_kernel::stage::{CancelFlag, Made};
use gristmill_kernel::table::{Position, SystemColumns, TableInfo, TableName, TableWrite, WriteMode};
use gristmill_kernel::version::{Place, Which};
use gristmill_kernel::{Address, AssetKind, Digest, Done, NewVersion, Order, Stage, StageContext, StageKind, Timestamp};
use serde_json::json;
use std::path::Path;

/// The stream of loads of files.
const FILES: &str = "files";

/// Stage ingest. `"full": true` in the node's spec (`gristmill run raw.NAME --full`) reads every file again and replaces the table's rows.
pub struct IngestStage;

#[async_trait]
impl Stage for IngestStage {
    fn kind(&self) -> StageKind {
        StageKind::Ingest
    }
    /// The world outside is an input that no version names.
    fn skippable(&self) -> bool {
        false
    }
    async fn run(&self, cx: &StageContext, order: Order) -> Result<Done> {
        let spec: SourceSpec = order.spec()?;
        let full = spec.full;
        let asset = Address::new(AssetKind::Raw, spec.name.clone());
        let mut ingest = Ingest { cx, table: TableName::of(&asset), spec, asset, tally: Tally::default() };
        let started = cx.ports.clock.now();
        match Origin::of(&ingest.spec)? {
            Origin::Files(pattern) => ingest.load_files(&pattern, full).await?,
            _ if full => {
                return Err(Fault::conflict(Code::BAD_VALUE, format!("{} has no files that could be read again", ingest.asset))
                    .fix("leave out --full; pushed rows are only in the table"));
            }
            Origin::Replay { path, from: Some(from), .. } => ingest.load_history(&path, from).await?,
            Origin::Replay { from: None, .. } | Origin::Push => {}
        }
        ingest.drain().await?;
        let seconds = cx.ports.clock.now().since(started).micros() as f64 / 1e6;
        ingest.finish(seconds).await
    }
}

/// What a run has read so far.
#[derive(Default)]
struct Tally {
    file_rows: u64,
    files: u64,
    bytes: u64,
    pushed_rows: u64,
    files_known: u64,
}

struct Ingest<'a> {
    cx: &'a StageContext,
    spec: SourceSpec,
    asset: Address,
    table: TableName,
    tally: Tally,
}

impl Ingest<'_> {
    fn kind(&self) -> SourceKind {
        if self.spec.time.is_some() { SourceKind::Events } else { SourceKind::Snapshot }
    }

    async fn info(&self) -> Result<Option<TableInfo>> {
        self.cx.ports.engine.table(&self.table).await
    }

    async fn load_files(&mut self, pattern: &str, full: bool) -> Result<()> {
        let info = self.info().await?;
        let journal = info.as_ref().and_then(|i| i.positions.get(STREAM).copied()).unwrap_or(0);
        if full && journal > 0 {
            return Err(Fault::conflict(
                Code::BAD_VALUE,
                format!("{} also has {journal} pushed rows, and a full reload would lose them", self.asset),
            )
            .fix("give the files and the pushed rows two sources"));
        }
        let note = Note::of(info.as_ref().map_or(&serde_json::Value::Null, |i| &i.note), self.table.as_str())?;
        let (found, decision) = self.look(pattern, &note, full).await?;
        self.tally.files_known = found.len() as u64;
        let Decision::Read { files, replace } = decision else { return Ok(()) };
        let columns = self.columns(&found, full).await?;
        // A snapshot is seen whole or not at all, so it is one commit whatever its size.
        let bytes_max = if self.kind() == SourceKind::Snapshot { usize::MAX } else { LOAD_BYTES_MAX };
        let loader = |progress| Loader::new(&found, &files, &columns, &self.cx.cancel, progress);
        let (mut reader, check) = (loader(Some(self.cx.progress.clone())), loader(None));
        let mut mode = if replace { WriteMode::Overwrite } else { WriteMode::Append };
        let mut note = if replace || self.kind() == SourceKind::Snapshot { Note { format: Note::FORMAT, ..Note::default() } } else { note };
        let mut offset = info.as_ref().and_then(|i| i.positions.get(FILES).copied()).unwrap_or(0);
        let mut check = Some(check);
        loop {
            let (piece, back) = blocking(move || {
                let piece = reader.next_piece(bytes_max)?;
                Ok((piece, reader))
            })
            .await?;
            reader = back;
            if let Some(check) = check.take().filter(|_| !reader.is_done()) {
                blocking(move || check.check_rest()).await?;
            }
            self.cx.cancel.check()?;
            offset += 1;
            self.commit_piece(piece, &columns, &mut note, mode, offset).await?;
            mode = WriteMode::Append;
            if reader.is_done() {
                return Ok(());
            }
        }
    }

    /// Loads what lies before a replay begins, in one commit.
    async fn load_history(&mut self, path: &str, from: Timestamp) -> Result<()> {
        let Some(history) = replay::history(self.cx, &self.spec, path, from).await? else { return Ok(()) };
        let note = Note::of(&self.info().await?.map_or(serde_json::Value::Null, |i| i.note), self.table.as_str())?;
        self.tally.file_rows += history.rows.num_rows() as u64;
        self.tally.files += 1;
        let positions = vec![Position { stream: HISTORY_STREAM.into(), offset: history.last as i64 }];
        self.commit(vec![history.rows], &history.columns, WriteMode::Append, positions, &note).await
    }

    /// Lists, measures and decides.
    async fn look(&self, pattern: &str, note: &Note, full: bool) -> Result<(Vec<Seen>, Decision)> {
        let (dir, pattern, source, note) = (self.cx.project_dir.clone(), pattern.to_owned(), self.spec.name.to_string(), note.clone());
        let (kind, cancel) = (self.kind(), self.cx.cancel.clone());
        blocking(move || {
            let found = file::list(&dir, &pattern, &source)?;
            let measured = measure(&found, &note, &cancel)?;
            let decision = decide(kind, full, &found, &note, &measured)?;
            Ok((found, decision))
        })
        .await
    }

    async fn columns(&self, found: &[Seen], full: bool) -> Result<Columns> {
        let known = if full {
            let whose = format!("sources.{} in gristmill.lock", self.spec.name);
            Columns::pinned(&self.spec)?.map(|c| c.with_time(&self.spec, &whose)).transpose()?
        } else {
            http::known_columns(&self.cx.ports, &self.spec, &self.table).await?
        };
        match known {
            Some(columns) => Ok(columns),
            None => {
                self.cx.progress.say(&format!("inferring the columns of {}", self.asset));
                infer_files(found.to_vec(), self.spec.clone(), self.cx.cancel.clone()).await
            }
        }
    }

    async fn commit_piece(&mut self, piece: Piece, columns: &Columns, note: &mut Note, mode: WriteMode, offset: i64) -> Result<()> {
        self.tally.file_rows += piece.rows;
        self.tally.files += piece.learned.len() as u64;
        self.tally.bytes += piece.learned.iter().map(|f| f.size).sum::<u64>();
        piece.learned.into_iter().for_each(|file| note.learn(file));
        note.partial = piece.partial;
        let positions = vec![Position { stream: FILES.into(), offset }];
        self.commit(piece.batches, columns, mode, positions, note).await
    }

    async fn commit(
        &self,
        mut rows: Vec<RecordBatch>,
        columns: &Columns,
        mode: WriteMode,
        positions: Vec<Position>,
        note: &Note,
    ) -> Result<()> {
        if rows.is_empty() {
            rows.push(RecordBatch::new_empty(columns.schema()));
        }
        let note = serde_json::to_value(note).map_err(|e| Fault::internal("a note does not serialise").because(e))?;
        let system = SystemColumns::Assign(self.cx.ports.clock.now());
        let written = self.cx.ports.engine.write(TableWrite { table: self.table.clone(), rows, mode, system, positions, note }).await?;
        if written.written {
            return Ok(());
        }
        Err(Fault::new(Kind::Busy, Code::ALIAS_CONFLICT, format!("another load of {} ended first", self.asset))
            .fix("run it again; nothing was written twice"))
    }

    /// Takes what was pushed before this run into the table.
    async fn drain(&mut self) -> Result<()> {
        let journal = self.cx.ports.journal.clone();
        let until = journal.state(&self.spec.name).await?.last;
        loop {
            self.cx.cancel.check()?;
            let info = self.info().await?;
            let at = info.as_ref().and_then(|i| i.positions.get(STREAM).copied()).unwrap_or(0) as u64;
            let state = journal.state(&self.spec.name).await?;
            if state.forgotten > at {
                return Err(Fault::damaged(format!(
                    "the journal of {} has forgotten rows up to {}, but the table has them up to {at} only",
                    self.asset, state.forgotten
                )));
            }
            // After a crash between a commit and this, the journal still has what the table has.
            if at > state.forgotten {
                journal.forget(&self.spec.name, at).await?;
            }
            if at >= until {
                return Ok(());
            }
            self.drain_some(info, at, (until - at) as usize).await?;
        }
    }

    async fn drain_some(&mut self, info: Option<TableInfo>, at: u64, most: usize) -> Result<()> {
        if self.kind() == SourceKind::Snapshot {
            return Err(Fault::conflict(
                Code::BAD_VALUE,
                format!("rows pushed to {} wait in its journal, but without `time` it is a snapshot", self.asset),
            )
            .fix("give the source its `time` back, and the rows go into the table"));
        }
        let source = self.spec.name.as_str();
        let entries = self.cx.ports.journal.read(&self.spec.name, at, most.min(JOURNAL_DRAIN_ROWS_MAX)).await?;
        let (Some(first), Some(last)) = (entries.first().map(|e| e.offset), entries.last().map(|e| e.offset)) else {
            return Err(Fault::damaged(format!("the journal of {source} has no rows behind {at}")));
        };
        if first != at + 1 || last - first + 1 != entries.len() as u64 {
            return Err(Fault::damaged(format!("the journal of {source} has a gap between {at} and {last}")));
        }
        let columns = http::known_columns(&self.cx.ports, &self.spec, &self.table)
            .await?
            .ok_or_else(|| Fault::damaged(format!("{source} has rows in its journal but neither table nor pinned columns")))?;
        let note = Note::of(info.as_ref().map_or(&serde_json::Value::Null, |i| &i.note), self.table.as_str())?;
        let drained = journal::decode(source, &entries, &columns)?;
        let mut positions = vec![Position { stream: STREAM.into(), offset: last as i64 }];
        positions.extend(drained.replayed.map(|row| Position { stream: REPLAY_STREAM.into(), offset: row as i64 }));
        self.commit(drained.batches, &columns, WriteMode::Append, positions, &note).await?;
        self.tally.pushed_rows += entries.len() as u64;
        self.cx.progress.at(self.tally.pushed_rows, 0, "row");
        Ok(())
    }

    async fn finish(self, seconds: f64) -> Result<Done> {
        let info = match self.info().await? {
            Some(info) => info,
            None => self.empty_table().await?,
        };
        let output = version(&self.asset, &self.table, &info)?;
        let latest = self.cx.ports.ledger.version(&self.asset, &Which::Latest).await?;
        let summary = self.tally.summary(info.rows, seconds);
        if let Some(latest) = latest.filter(|v| v.digest == output.digest) {
            return Ok(Done::Unchanged { versions: vec![latest.id], summary });
        }
        let tally = &self.tally;
        let metrics = [
            ("rows", info.rows as f64),
            ("rows_read", (tally.file_rows + tally.pushed_rows) as f64),
            ("files_read", tally.files as f64),
            ("bytes_read", tally.bytes as f64),
            ("seconds", seconds),
        ];
        Ok(Done::Made(Made {
            outputs: vec![output],
            metrics: metrics.map(|(key, value)| Metric::new(key, value)).to_vec(),
            summary,
            ..Made::default()
        }))
    }

    /// A source that is only pushed to has a table from the start, if its columns are pinned.
    async fn empty_table(&self) -> Result<TableInfo> {
        if let Some(columns) = http::known_columns(&self.cx.ports, &self.spec, &self.table).await? {
            http::make_table(&self.cx.ports, &self.table, &columns).await?;
        }
        self.info().await?.ok_or_else(|| {
            Fault::conflict(
                Code::SOURCE_UNREADABLE,
                format!("no row has come to sources.{} yet, and its columns are not pinned", self.spec.name),
            )
            .fix(format!("push rows to POST /ingest/{}, or pin its columns in gristmill.lock", self.spec.name))
        })
    }
}

fn version(asset: &Address, table: &TableName, info: &TableInfo) -> Result<NewVersion> {
    let columns = Columns::of_schema(&info.schema)?;
    let note = Note::of(&info.note, table.as_str())?;
    let positions = json!(info.positions).to_string();
    let parts = [table.as_str().to_owned(), format!("{}/{}", info.generation, info.version), positions, info.note.to_string()];
    let files: Vec<_> = note.files.iter().map(|f| json!({"path": f.path, "rows": f.rows, "size": f.size, "digest": f.digest})).collect();
    Ok(NewVersion {
        asset: asset.clone(),
        digest: Digest::of_parts(parts.iter().map(String::as_bytes)),
        place: Place::Table { table: table.clone(), version: info.version },
        rows: Some(info.rows),
        meta: json!({
            "format": 1,
            "columns": columns.to_spec(),
            "files": files,
            "load": info.last_load,
            "generation": info.generation,
            "positions": info.positions,
        }),
    })
}

impl Tally {
    fn summary(&self, rows: u64, seconds: f64) -> String {
        let plural = |n: u64, what: &str| format!("{} {what}{}", grouped(n), if n == 1 { "" } else { "s" });
        let from_files = (self.files > 0 || self.file_rows > 0)
            .then(|| format!("{} from {}", plural(self.file_rows, "row"), plural(self.files, "file")));
        let pushed = (self.pushed_rows > 0).then(|| plural(self.pushed_rows, "pushed row"));
        let read: Vec<String> = from_files.into_iter().chain(pushed).collect();
        if read.is_empty() {
            let known =
                if self.files_known > 0 { format!("{} unchanged", plural(self.files_known, "file")) } else { "nothing was pushed".into() };
            return format!("nothing new: {known}, {} in the table", plural(rows, "row"));
        }
        format!("read {} in {seconds:.1} s", read.join(" and "))
    }
}

/// A number with commas: 1,067,371.
pub(crate) fn grouped(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// The columns of a source as `gristmill.lock` pins them, without changing anything. Empty for a source that is only pushed to: its first rows decide.
pub async fn infer(project_dir: &Path, spec: &SourceSpec) -> Result<Vec<Column>> {
    let pattern = match Origin::of(spec)? {
        Origin::Files(pattern) => pattern,
        Origin::Replay { path, .. } => path,
        Origin::Push => return Ok(Vec::new()),
    };
    let (dir, source) = (project_dir.to_owned(), spec.name.to_string());
    let found = blocking(move || file::list(&dir, &pattern, &source)).await?;
    Ok(infer_files(found, spec.clone(), CancelFlag::default()).await?.to_spec())
}

async fn infer_files(found: Vec<Seen>, spec: SourceSpec, cancel: CancelFlag) -> Result<Columns> {
    blocking(move || {
        let whose = found.first().map_or_else(|| spec.from.clone(), |f| f.path.clone());
        Columns::new(file::infer(&found, &cancel)?, &whose)?.with_time(&spec, &whose)
    })
    .await
}

/// Runs blocking work on a thread of its own. A panic there (a reader that met bytes it did not expect) is an error here, not the end of the process.
pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|e| {
        Err(Fault::invalid(Code::SOURCE_UNREADABLE, "a file could not be read: its reader failed on what it found")
            .fix("check that the file is complete")
            .because(e))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_grouped() {
        assert_eq!([grouped(7), grouped(243_007), grouped(1_067_371)], ["7", "243,007", "1,067,371"]);
    }

    #[test]
    fn the_summary_has_the_counts() {
        let tally = Tally { file_rows: 1_067_371, files: 1, ..Tally::default() };
        assert_eq!(tally.summary(1_067_371, 1.23), "read 1,067,371 rows from 1 file in 1.2 s");
        let tally = Tally { pushed_rows: 1, ..tally };
        assert_eq!(tally.summary(0, 0.0), "read 1,067,371 rows from 1 file and 1 pushed row in 0.0 s");
        assert_eq!(Tally { files_known: 2, ..Tally::default() }.summary(5, 0.0), "nothing new: 2 files unchanged, 5 rows in the table");
    }
}
