//! Reads the files of a load in pieces that fit into memory. Blocking: runs on a thread of its own.

use crate::plan::{KnownFile, Measured, Note, Partial, ToRead, suspects};
use crate::schema::Columns;
use crate::source::file::{self, Batches, Seen};
use arrow::array::RecordBatch;
use gristmill_kernel::Digest;
use gristmill_kernel::error::{Fault, Result};
use gristmill_kernel::stage::{CancelFlag, Progress};
use std::collections::{BTreeMap, VecDeque};
use std::io::{Read, Seek, SeekFrom};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Measures the files of which the plan needs to know more.
pub fn measure(found: &[Seen], note: &Note, cancel: &CancelFlag) -> Result<BTreeMap<String, Measured>> {
    let mut measured = BTreeMap::new();
    for (seen, known) in suspects(found, note) {
        let digest = seen.digest(u64::MAX, cancel)?;
        let longer = seen.size > known.size && digest != known.digest;
        let beginning = if longer { Some(seen.digest(known.size, cancel)?) } else { None };
        measured.insert(seen.path.clone(), Measured { digest, beginning, row_ends_there: longer && row_ends_at(seen, known.size)? });
    }
    if let Some(partial) = &note.partial
        && let Some(seen) = found.iter().find(|s| s.path == partial.path && !measured.contains_key(&s.path))
    {
        measured.insert(seen.path.clone(), Measured { digest: seen.digest(u64::MAX, cancel)?, beginning: None, row_ends_there: false });
    }
    Ok(measured)
}

/// Whether a line ends right before or right at this place.
fn row_ends_at(seen: &Seen, place: u64) -> Result<bool> {
    let failed = |e| Fault::io(format!("read {}", seen.path), e);
    let mut file = seen.open()?;
    file.seek(SeekFrom::Start(place.saturating_sub(1))).map_err(failed)?;
    let mut around = [0; 2];
    file.read_exact(&mut around).map_err(failed)?;
    Ok(place == 0 || around[0] == b'\n' || matches!(around[1], b'\n' | b'\r'))
}

/// One piece of a load.
#[derive(Default)]
pub struct Piece {
    /// The rows.
    pub batches: Vec<RecordBatch>,
    /// Files that are complete with this piece.
    pub learned: Vec<KnownFile>,
    /// The file that is not.
    pub partial: Option<Partial>,
    /// How many rows.
    pub rows: u64,
}

/// Reads files one after the other.
pub struct Loader {
    columns: Columns,
    cancel: CancelFlag,
    progress: Option<Arc<dyn Progress>>,
    bytes: Arc<AtomicU64>,
    bytes_total: u64,
    waiting: VecDeque<(Seen, u64)>,
    current: Option<Current>,
}

struct Current {
    seen: Seen,
    digest: Digest,
    batches: Batches,
    skip: u64,
    rows: u64,
}

impl Loader {
    /// Over the files to read. Without `progress` it works in silence.
    pub fn new(found: &[Seen], files: &[ToRead], columns: &Columns, cancel: &CancelFlag, progress: Option<Arc<dyn Progress>>) -> Loader {
        let waiting: VecDeque<_> = files.iter().map(|f| (found[f.index].clone(), f.skip)).collect();
        let bytes_total = waiting.iter().map(|(seen, _)| seen.size).sum();
        Loader { columns: columns.clone(), cancel: cancel.clone(), progress, bytes: Arc::default(), bytes_total, waiting, current: None }
    }

    /// Whether everything has been read.
    pub fn is_done(&self) -> bool {
        self.current.is_none() && self.waiting.is_empty()
    }

    /// Reads to the end and keeps nothing: whatever is wrong with the rest of the load is found before any of it is kept.
    pub fn check_rest(mut self) -> Result<()> {
        while let Some(batch) = self.next_batch(&mut Piece::default())? {
            drop(batch);
        }
        Ok(())
    }

    /// Reads the next rows, up to about so many bytes in memory.
    pub fn next_piece(&mut self, bytes_max: usize) -> Result<Piece> {
        let mut piece = Piece::default();
        let mut bytes = 0;
        while bytes < bytes_max {
            let Some(batch) = self.next_batch(&mut piece)? else { break };
            bytes += batch.get_array_memory_size();
            piece.rows += batch.num_rows() as u64;
            piece.batches.push(batch);
        }
        piece.partial = self.current.as_ref().map(|c| Partial { path: c.seen.path.clone(), digest: c.digest, rows: c.rows });
        Ok(piece)
    }

    /// The next rows that the table does not have; notes in `piece` which files ended before them.
    fn next_batch(&mut self, piece: &mut Piece) -> Result<Option<RecordBatch>> {
        loop {
            self.cancel.check()?;
            let Some(current) = &mut self.current else {
                if !self.open_next()? {
                    return Ok(None);
                }
                continue;
            };
            let Some(batch) = current.batches.next() else {
                current.seen.check_unchanged()?;
                let Some(done) = self.current.take() else { continue };
                piece.learned.push(KnownFile {
                    path: done.seen.path,
                    size: done.seen.size,
                    mtime: done.seen.mtime,
                    digest: done.digest,
                    rows: done.rows,
                });
                continue;
            };
            let batch = batch?;
            let (before, rows) = (current.rows, batch.num_rows() as u64);
            current.rows += rows;
            let fresh = if current.skip <= before {
                batch
            } else if current.skip >= current.rows {
                continue;
            } else {
                let known = current.skip - before;
                batch.slice(known as usize, (rows - known) as usize)
            };
            if let Some(progress) = &self.progress {
                progress.at(self.bytes.load(Ordering::Relaxed).min(self.bytes_total), self.bytes_total, "byte");
            }
            return Ok(Some(fresh));
        }
    }

    fn open_next(&mut self) -> Result<bool> {
        let Some((seen, skip)) = self.waiting.pop_front() else { return Ok(false) };
        if let Some(progress) = &self.progress {
            progress.say(&format!("reading {}", seen.path));
        }
        let digest = seen.digest(u64::MAX, &self.cancel)?;
        let batches = file::open(&seen, &self.columns, &self.cancel, &self.bytes)?;
        self.current = Some(Current { seen, digest, batches, skip, rows: 0 });
        Ok(true)
    }
}
