//! The journal of points: what clients log of metrics is durable here before it is in the tables.
//!
//! Promises: what was appended and synced is found again by [`replay`] until its generation was applied; a frame is found whole or not at
//! all; a file belongs to one process at a time, whatever happens to that process. Replaying what is in the tables already changes nothing
//! there, since a point is its own key, so the mark of what was applied may be older than the truth but never newer.
//!
//! A file, numbers little-endian: [`MAGIC`] and the newest applied generation (u64) in a block of their own, then two halves. A half is
//! frames of one generation from its beginning on, and ends at the first one that is not whole or of an older generation. While the points
//! of one half go into the tables the other one is written.
//!
//! | frame | bytes | | row | bytes |
//! |---|---|---|---|---|
//! | CRC-32 of the rest | 4 | | run | 8 |
//! | bytes of the rows | 4 | | step, moment in microseconds | 8, 8 |
//! | generation | 8 | | bits of the value, 1 if NaN | 8, 1 |
//! | rows | | | length of the name, name | 2, |

use super::blocks::{BLOCK_BYTES, Blocks};
use super::rows::PointRow;
use gristmill_kernel::{Code, Fault, Kind, Result, Timestamp};
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

const MAGIC: [u8; 8] = *b"GRISTPT1";
/// The block that tells what was applied; the halves follow.
const HEAD_BYTES: u64 = BLOCK_BYTES as u64;
/// Bytes of a half.
const HALF_BYTES: u64 = 2 << 20;
/// Bytes of a frame before its rows.
const FRAME_BYTES: usize = 16;
/// Journals that processes may have beside one ledger at once; more of them log without.
const JOURNALS_MAX: u32 = 16;

/// A file that is written here and made durable there.
pub(super) struct LogFile {
    how: How,
    broken: AtomicBool,
}

enum How {
    /// Whoever writes it leaves its sync to us.
    Synced(File),
    /// What waits is written, and is durable with that.
    Written(Blocks),
}

impl LogFile {
    pub(super) fn new(file: File) -> LogFile {
        LogFile { how: How::Synced(file), broken: AtomicBool::new(false) }
    }
    /// Waits until the disk has what was written. A file that failed once fails for ever: nobody knows what of it is on the disk, and
    /// asking again would be told that all is well (https://www.postgresql.org/docs/current/wal-reliability.html).
    pub(super) fn sync(&self) -> Result<()> {
        if self.is_broken() {
            return Err(Fault::new(Kind::Unavailable, Code::IO, "ledger: the disk did not take what was logged before"));
        }
        let synced = match &self.how {
            How::Synced(file) => file.sync_data(),
            How::Written(blocks) => blocks.flush(),
        };
        synced.map_err(|e| {
            self.broken.store(true, Ordering::Release);
            told("sync what was logged", e)
        })
    }
    pub(super) fn is_broken(&self) -> bool {
        self.broken.load(Ordering::Acquire)
    }
    /// Where the journal's bytes wait; another file has no such place.
    fn blocks(&self) -> Option<&Blocks> {
        match &self.how {
            How::Written(blocks) => Some(blocks),
            How::Synced(_) => None,
        }
    }
}

/// The journal of this process.
pub(super) struct Journal {
    log: Arc<LogFile>,
    /// Its lock is this process's claim.
    _claimed: File,
    path: PathBuf,
    /// Of the half that is written: which one, its generation, its bytes.
    half: u64,
    generation: u64,
    end: u64,
    /// Whether the other half waits to be applied.
    behind: bool,
    frame: Vec<u8>,
}

impl Journal {
    /// Takes the first file that no other process has. What such a file still holds is given to `recover` before it is overwritten.
    /// `None` if there are too many.
    pub(super) fn claim(ledger: &Path, mut recover: impl FnMut(Vec<PointRow>) -> Result<()>) -> Result<Option<Journal>> {
        for number in 1..=JOURNALS_MAX {
            let path = path(ledger, number);
            let open = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path);
            let file = open.map_err(|e| told("open the journal", e))?;
            if !own(&file, &path)? {
                continue;
            }
            let found = read(&file)?;
            if !found.rows.is_empty() {
                recover(found.rows)?;
            }
            if found.blank {
                blank(&file, &path).map_err(|e| told("make the journal", e))?;
            }
            let blocks = Blocks::open(&path, &head(found.newest)).map_err(|e| told("mark the journal", e))?;
            blocks.begin(HEAD_BYTES);
            return Ok(Some(Journal {
                log: Arc::new(LogFile { how: How::Written(blocks), broken: AtomicBool::new(false) }),
                _claimed: file,
                path,
                half: 0,
                generation: found.newest + 1,
                end: 0,
                behind: false,
                frame: Vec::new(),
            }));
        }
        Ok(None)
    }

    pub(super) fn log(&self) -> Arc<LogFile> {
        Arc::clone(&self.log)
    }

    /// Appends rows; whether there was room. They are in the file, and durable, once it is synced.
    pub(super) fn append(&mut self, rows: &[PointRow]) -> Result<bool> {
        encode(&mut self.frame, self.generation, rows)?;
        let bytes = self.frame.len() as u64;
        if self.log.is_broken() || self.end + bytes > HALF_BYTES {
            return Ok(false);
        }
        self.blocks(|blocks| blocks.append(&self.frame));
        self.end += bytes;
        Ok(true)
    }

    /// Goes on in the other half; the generation of what was written until now. Not before that half was applied.
    pub(super) fn turn_over(&mut self) -> u64 {
        debug_assert!(!self.behind, "the other half is not applied yet");
        let full = self.generation;
        (self.half, self.generation, self.end, self.behind) = (1 - self.half, full + 1, 0, true);
        self.blocks(|blocks| blocks.begin(HEAD_BYTES + self.half * HALF_BYTES));
        full
    }

    /// Says that a generation is in the tables, durably. The file says so with the next sync: until then it is replayed once more.
    pub(super) fn applied(&mut self, generation: u64) {
        self.behind = false;
        self.blocks(|blocks| blocks.head(head(generation)));
    }

    fn blocks(&self, work: impl FnOnce(&Blocks)) {
        if let Some(blocks) = self.log.blocks() {
            work(blocks);
        }
    }

    /// Removes the file: everything is in the tables, durably.
    pub(super) fn remove(self) {
        if let Err(e) = std::fs::remove_file(&self.path) {
            tracing::warn!(error = %e, file = %self.path.display(), "an empty journal could not be removed");
        }
    }
}

/// Gives `recover` what the journals beside a ledger hold and the tables may not: those of processes that are gone, whose files are removed,
/// and of others that are at it, whose files stay.
pub(super) fn replay(ledger: &Path, mut recover: impl FnMut(Vec<PointRow>) -> Result<()>) -> Result<()> {
    for number in 1..=JOURNALS_MAX {
        let path = path(ledger, number);
        let file = match OpenOptions::new().read(true).write(true).open(&path) {
            Ok(file) => file,
            // Files with greater numbers may be there all the same.
            Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
            Err(e) => return Err(told("open the journal", e)),
        };
        let owned = own(&file, &path)?;
        let rows = read(&file)?.rows;
        if !rows.is_empty() {
            tracing::info!(points = rows.len(), file = %path.display(), "points of the journal go into the ledger");
            recover(rows)?;
        }
        if owned {
            std::fs::remove_file(&path).map_err(|e| told("remove the journal", e))?;
        }
    }
    Ok(())
}

fn path(ledger: &Path, number: u32) -> PathBuf {
    let mut name = ledger.file_name().unwrap_or_default().to_os_string();
    name.push(format!("-points{number}"));
    ledger.with_file_name(name)
}

/// Takes a file for this process, as long as it is open; whether that is possible.
fn own(file: &File, path: &Path) -> Result<bool> {
    match file.try_lock() {
        Ok(()) => {}
        Err(std::fs::TryLockError::WouldBlock) => return Ok(false),
        Err(std::fs::TryLockError::Error(e)) => return Err(told("lock the journal", e)),
    }
    // Its last owner may have removed it after it was opened here.
    let ours = file.metadata().map_err(|e| told("look at the journal", e))?;
    Ok(std::fs::metadata(path).is_ok_and(|there| (there.dev(), there.ino()) == (ours.dev(), ours.ino())))
}

/// The first block: what is applied.
fn head(applied: u64) -> Vec<u8> {
    [MAGIC, applied.to_le_bytes()].concat()
}

/// Gives a new file its size, so that a sync of what is written later has nothing else to write.
fn blank(file: &File, path: &Path) -> io::Result<()> {
    file.write_all_at(&vec![0; (HEAD_BYTES + 2 * HALF_BYTES) as usize], 0)?;
    file.sync_all()?;
    path.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())
}

fn encode(frame: &mut Vec<u8>, generation: u64, rows: &[PointRow]) -> Result<()> {
    frame.clear();
    frame.resize(FRAME_BYTES, 0);
    for row in rows {
        let length = u16::try_from(row.name.len()).map_err(|_| Fault::internal("a metric's name is longer than any may be"))?;
        for number in [row.run, row.step, row.at] {
            frame.extend(number.to_le_bytes());
        }
        frame.extend(row.value.to_bits().to_le_bytes());
        frame.push(u8::from(row.nan));
        frame.extend(length.to_le_bytes());
        frame.extend(row.name.as_bytes());
    }
    let bytes = u32::try_from(frame.len() - FRAME_BYTES).map_err(|_| Fault::internal("more points at once than a journal takes"))?;
    frame[4..8].copy_from_slice(&bytes.to_le_bytes());
    frame[8..16].copy_from_slice(&generation.to_le_bytes());
    let crc = crc32fast::hash(&frame[4..]);
    frame[..4].copy_from_slice(&crc.to_le_bytes());
    Ok(())
}

/// What a file holds.
struct Found {
    /// Points of generations that are not marked as applied, in the order in which they were logged.
    rows: Vec<PointRow>,
    /// The newest generation.
    newest: u64,
    /// Whether it is new.
    blank: bool,
}

fn read(file: &File) -> Result<Found> {
    let mut bytes = vec![0; (HEAD_BYTES + 2 * HALF_BYTES) as usize];
    let mut filled = 0;
    while filled < bytes.len() {
        match file.read_at(&mut bytes[filled..], filled as u64).map_err(|e| told("read the journal", e))? {
            0 => break,
            more => filled += more,
        }
    }
    let (head, halves) = bytes.split_at(HEAD_BYTES as usize);
    // Made by a process that ended before it had its size, or by none.
    let blank = filled < bytes.len() || head[..8] != MAGIC;
    let applied = if blank { 0 } else { number(head, 8).unwrap_or(0) };
    let mut of_halves: Vec<_> = halves.chunks(HALF_BYTES as usize).map(generation).collect();
    of_halves.sort_by_key(|(generation, _)| *generation);
    let newest = of_halves.iter().map(|(generation, _)| *generation).fold(applied, u64::max);
    let rows = of_halves.into_iter().filter(|(generation, _)| *generation > applied).flat_map(|(_, rows)| rows).collect();
    Ok(Found { rows, newest, blank })
}

/// The generation of a half and its rows; 0 if it has none.
fn generation(half: &[u8]) -> (u64, Vec<PointRow>) {
    let (mut rest, mut found, mut rows) = (half, None, Vec::new());
    while let Some((generation, bytes)) = frame(rest) {
        let more = decode(&rest[FRAME_BYTES..bytes]);
        let Some(more) = more.filter(|_| *found.get_or_insert(generation) == generation) else { break };
        rows.extend(more);
        rest = &rest[bytes..];
    }
    (found.unwrap_or(0), rows)
}

/// The frame that begins here: its generation and bytes, if it is whole.
fn frame(bytes: &[u8]) -> Option<(u64, usize)> {
    let word = |at: usize| Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
    let end = FRAME_BYTES + word(4)? as usize;
    let whole = crc32fast::hash(bytes.get(4..end)?) == word(0)?;
    (whole && end > FRAME_BYTES).then_some((number(bytes, 8)?, end))
}

fn number(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?))
}

fn decode(mut bytes: &[u8]) -> Option<Vec<PointRow>> {
    let mut rows = Vec::new();
    while !bytes.is_empty() {
        let signed = |at| number(bytes, at).map(|bits| bits as i64);
        let value = f64::from_bits(number(bytes, 24)?);
        let nan = *bytes.get(32)? == 1;
        let end = 35 + usize::from(u16::from_le_bytes(bytes.get(33..35)?.try_into().ok()?));
        let name = std::str::from_utf8(bytes.get(35..end)?).ok()?;
        let value = if nan { f64::NAN } else { value };
        rows.push(PointRow::new(signed(0)?, name, signed(8)?, Timestamp::from_micros(signed(16)?), value));
        bytes = &bytes[end..];
    }
    Some(rows)
}

fn told(what: &str, error: io::Error) -> Fault {
    let code = if error.kind() == io::ErrorKind::StorageFull { 13 } else { 10 };
    super::super::open::of_code(what, Some(code), error)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(step: i64, value: f64) -> PointRow {
        PointRow::new(7, format!("m\u{e4}{step}"), step, Timestamp::from_micros(step * 10), value)
    }

    fn never(rows: Vec<PointRow>) -> Result<()> {
        assert!(rows.is_empty(), "{rows:?}");
        Ok(())
    }

    fn claim(ledger: &Path) -> Journal {
        Journal::claim(ledger, never).unwrap().unwrap()
    }

    /// Appends rows that are durable then; whether there was room.
    fn add(journal: &mut Journal, rows: &[PointRow]) -> bool {
        journal.append(rows).unwrap() && journal.log().sync().is_ok()
    }

    /// What a process finds that opens the ledger now.
    fn found(ledger: &Path) -> Vec<PointRow> {
        let mut all = Vec::new();
        replay(ledger, |rows| {
            all.extend(rows);
            Ok(())
        })
        .unwrap();
        all
    }

    #[test]
    fn what_was_appended_is_found_until_it_is_applied() {
        let dir = tempfile::tempdir().unwrap();
        let ledger = dir.path().join("ledger.db");
        let mut journal = claim(&ledger);
        assert_eq!(found(&ledger), []);
        let rows: Vec<_> = [1.5, f64::NAN, -0.0, f64::INFINITY, 5e-324].iter().zip(-2..).map(|(value, step)| row(step, *value)).collect();
        assert!(journal.append(&rows[..2]).unwrap() && journal.append(&rows[2..]).unwrap());
        assert_eq!(found(&ledger), [], "not before it is synced");
        journal.log().sync().unwrap();
        assert_eq!(found(&ledger), rows, "while its process is at it");
        let first = journal.turn_over();
        assert!(add(&mut journal, &[row(9, 9.0)]));
        assert_eq!(found(&ledger), [rows, vec![row(9, 9.0)]].concat(), "both halves, in their order");
        journal.applied(first);
        journal.log().sync().unwrap();
        assert_eq!(found(&ledger), [row(9, 9.0)], "the mark goes with the next sync");
        // The half that held more before: nothing of its old frames is found.
        let second = journal.turn_over();
        assert!(add(&mut journal, &[row(10, 1.0)]));
        journal.applied(second);
        journal.log().sync().unwrap();
        assert_eq!(found(&ledger), [row(10, 1.0)]);
        drop(journal);
        assert_eq!(found(&ledger), [row(10, 1.0)], "its process ended in the middle");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "and what is in the ledger now needs no file");
    }

    #[test]
    fn each_process_has_its_own_and_takes_over_what_is_left() {
        let dir = tempfile::tempdir().unwrap();
        let ledger = dir.path().join("ledger.db");
        let (mut one, mut two) = (claim(&ledger), claim(&ledger));
        assert!(add(&mut one, &[row(1, 1.0)]) && add(&mut two, &[row(2, 2.0)]));
        assert_eq!(found(&ledger), [row(1, 1.0), row(2, 2.0)]);
        drop(one);
        let mut taken = Vec::new();
        let mut three = Journal::claim(&ledger, |rows| {
            taken.extend(rows);
            Ok(())
        })
        .unwrap()
        .unwrap();
        assert_eq!(taken, [row(1, 1.0)], "before it is overwritten");
        assert!(add(&mut three, &[row(3, 3.0)]));
        assert_eq!(found(&ledger), [row(3, 3.0), row(2, 2.0)]);
        three.remove();
        two.remove();
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
        // What cannot be taken over is not overwritten.
        let mut four = claim(&ledger);
        assert!(add(&mut four, &[row(4, 4.0)]));
        drop(four);
        assert!(Journal::claim(&ledger, |_| Err(Fault::internal("no"))).is_err());
        assert_eq!(found(&ledger), [row(4, 4.0)]);
        let held: Vec<_> = (0..JOURNALS_MAX).map(|_| claim(&ledger)).collect();
        assert!(Journal::claim(&ledger, never).unwrap().is_none(), "{} are enough", held.len());
    }

    #[test]
    fn a_frame_is_found_whole_or_not_at_all() {
        let dir = tempfile::tempdir().unwrap();
        let ledger = dir.path().join("ledger.db");
        let mut journal = claim(&ledger);
        for step in 0..3 {
            assert!(add(&mut journal, &[row(step, 1.0), row(step + 100, 2.0)]));
        }
        let frame = journal.end / 3;
        let file = &journal._claimed;
        let mut whole = vec![0; journal.end as usize];
        file.read_exact_at(&mut whole, HEAD_BYTES).unwrap();
        for place in 0..whole.len() {
            for bit in [1, 128] {
                file.write_all_at(&[whole[place] ^ bit], HEAD_BYTES + place as u64).unwrap();
                assert_eq!(found(&ledger).len(), 2 * (place as u64 / frame) as usize, "byte {place}");
            }
            file.write_all_at(&whole[place..=place], HEAD_BYTES + place as u64).unwrap();
        }
        assert_eq!(found(&ledger).len(), 6);
        drop(journal);
        let file = OpenOptions::new().write(true).open(path(&ledger, 1)).unwrap();
        file.set_len(HEAD_BYTES + frame + 5).unwrap();
        assert_eq!(found(&ledger), [row(0, 1.0), row(100, 2.0)], "the file ends in a frame");
    }

    #[test]
    fn a_full_or_broken_one_takes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let ledger = dir.path().join("ledger.db");
        let mut journal = claim(&ledger);
        let many: Vec<_> = (0..10_000).map(|step| row(step, 1.0)).collect();
        let mut taken = 0;
        while add(&mut journal, &many) {
            taken += many.len();
        }
        assert!(taken > 0 && found(&ledger).len() == taken);
        let full = journal.turn_over();
        assert!(journal.append(&many).unwrap(), "the other half has room");
        journal.applied(full);
        journal.turn_over();
        journal.log.broken.store(true, Ordering::Release);
        assert!(!journal.append(&many[..1]).unwrap() && journal.log().sync().is_err());
    }
}
