//! A file that is written in whole blocks, past the page cache where the file system allows it; what was written is durable when the call
//! returns.
//!
//! Promises: what was appended is on the disk once [`Blocks::flush`] returned, whoever called it; bytes that are there already are written
//! again only as they are; a place is written by one thread at a time, while others append.
//!
//! Why past the page cache: a small write and its sync are two trips through the file system, its pages and its list of what is dirty. One
//! write of a block that is already there (`O_DIRECT | O_DSYNC`) is one trip: two thirds of the time of the core, and the disk is asked sooner.
//! The file must have its size, and its blocks must have been written before: otherwise each write is one of the file system's own records too.

use nix::fcntl::OFlag;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The unit of writing: a multiple of what any disk has as its own, and where memory has to begin for it.
pub(super) const BLOCK_BYTES: usize = 4_096;

#[cfg(target_os = "linux")]
const PAST_THE_CACHE: OFlag = OFlag::O_DIRECT;
/// Elsewhere there is no such flag; writes are durable all the same.
#[cfg(not(target_os = "linux"))]
const PAST_THE_CACHE: OFlag = OFlag::empty();

/// The file and what waits to be written to it.
pub(super) struct Blocks {
    file: File,
    waiting: Mutex<Waiting>,
    /// Who holds it writes.
    writing: Mutex<Aligned>,
}

#[derive(Default)]
struct Waiting {
    /// Of the places that were appended to, in this order; the last one is appended to.
    pieces: Vec<Piece>,
    /// A new first block.
    head: Option<Vec<u8>>,
}

/// Bytes of the file from a block's beginning on.
struct Piece {
    place: u64,
    bytes: Vec<u8>,
    /// Those before are written.
    written: usize,
}

impl Blocks {
    /// Opens a file that has its size and writes its first block.
    pub(super) fn open(path: &Path, head: &[u8]) -> io::Result<Blocks> {
        let open = |flags: OFlag| -> io::Result<Blocks> {
            let file = OpenOptions::new().write(true).custom_flags((flags | OFlag::O_DSYNC).bits()).open(path)?;
            let mut aligned = Aligned::default();
            file.write_all_at(aligned.filled(head), 0)?;
            Ok(Blocks { file, waiting: Mutex::default(), writing: Mutex::new(aligned) })
        };
        match open(PAST_THE_CACHE) {
            // What the file system says to a flag, or to a block, that it does not take.
            Err(e) if e.kind() == io::ErrorKind::InvalidInput => open(OFlag::empty()),
            opened => opened,
        }
    }

    /// What is appended next goes to this place, the beginning of a block.
    pub(super) fn begin(&self, place: u64) {
        debug_assert_eq!(place % BLOCK_BYTES as u64, 0, "a piece begins with a block");
        let mut waiting = self.waiting();
        waiting.pieces.retain(|piece| piece.written < piece.bytes.len());
        waiting.pieces.push(Piece { place, bytes: Vec::new(), written: 0 });
    }

    /// Adds bytes behind those that were added before.
    pub(super) fn append(&self, bytes: &[u8]) {
        if let Some(piece) = self.waiting().pieces.last_mut() {
            piece.bytes.extend_from_slice(bytes);
        }
    }

    /// Replaces the first block with the next [`Blocks::flush`].
    pub(super) fn head(&self, head: Vec<u8>) {
        self.waiting().head = Some(head);
    }

    /// Writes what waits; afterwards everything that was appended before is durable.
    pub(super) fn flush(&self) -> io::Result<()> {
        let mut aligned = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        while let Some((place, bytes)) = self.next(&mut aligned) {
            self.file.write_all_at(bytes, place)?;
        }
        // In this order: a mark must not be there before what it marks, which is on the disk since longer.
        let head = self.waiting().head.take();
        head.map_or(Ok(()), |head| self.file.write_all_at(aligned.filled(&head), 0))
    }

    /// The blocks of a piece that are not written yet, filled up with zeros.
    fn next<'a>(&self, aligned: &'a mut Aligned) -> Option<(u64, &'a [u8])> {
        let mut waiting = self.waiting();
        let piece = waiting.pieces.iter_mut().find(|piece| piece.written < piece.bytes.len())?;
        let first = piece.written / BLOCK_BYTES * BLOCK_BYTES;
        let (place, bytes) = (piece.place + first as u64, aligned.filled(&piece.bytes[first..]));
        piece.written = piece.bytes.len();
        // Only the block that is appended to is needed again.
        let whole = piece.written / BLOCK_BYTES * BLOCK_BYTES;
        piece.bytes.drain(..whole);
        (piece.place, piece.written) = (piece.place + whole as u64, piece.written - whole);
        Some((place, bytes))
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Memory that begins where a block may begin.
#[derive(Default)]
struct Aligned {
    bytes: Vec<u8>,
}

impl Aligned {
    /// These bytes, filled up to whole blocks with zeros.
    fn filled(&mut self, with: &[u8]) -> &[u8] {
        let needed = with.len().next_multiple_of(BLOCK_BYTES);
        if self.bytes.len() < needed + BLOCK_BYTES {
            self.bytes = vec![0; needed + BLOCK_BYTES];
        }
        // The vector does not move until it is made anew above, and `usize::MAX` (never, for bytes) would only be refused by the disk.
        let from = self.bytes.as_ptr().align_offset(BLOCK_BYTES).min(BLOCK_BYTES);
        let blocks = &mut self.bytes[from..from + needed];
        blocks[..with.len()].copy_from_slice(with);
        blocks[with.len()..].fill(0);
        blocks
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file of so many blocks of ones.
    fn file(dir: &Path, blocks: usize) -> std::path::PathBuf {
        let path = dir.join("file");
        std::fs::write(&path, vec![1; blocks * BLOCK_BYTES]).unwrap();
        path
    }

    #[test]
    fn what_was_appended_is_there_after_a_flush() {
        let dir = tempfile::tempdir().unwrap();
        let path = file(dir.path(), 8);
        let blocks = Blocks::open(&path, b"head").unwrap();
        blocks.begin(BLOCK_BYTES as u64);
        let mut expected = Vec::new();
        for (number, length) in [3, 4_000, 93, 1, 9_000, 7].into_iter().enumerate() {
            let more = vec![number as u8 + 10; length];
            blocks.append(&more);
            expected.extend(more);
            if number % 2 == 1 {
                blocks.flush().unwrap();
                let there = std::fs::read(&path).unwrap();
                assert_eq!(there[BLOCK_BYTES..BLOCK_BYTES + expected.len()], expected, "after {number}");
                assert!(there[..BLOCK_BYTES].starts_with(b"head\0"));
            }
        }
        assert_eq!(std::fs::read(&path).unwrap().len(), 8 * BLOCK_BYTES, "it keeps its size");
        let held = blocks.waiting().pieces[0].bytes.len();
        assert!(held < BLOCK_BYTES, "only the last block is kept, not {held} bytes");
    }

    #[test]
    fn two_places_and_a_head_wait_together() {
        let dir = tempfile::tempdir().unwrap();
        let path = file(dir.path(), 4);
        let blocks = Blocks::open(&path, b"old").unwrap();
        blocks.begin(2 * BLOCK_BYTES as u64);
        blocks.append(b"first");
        blocks.head(b"new".to_vec());
        blocks.begin(3 * BLOCK_BYTES as u64);
        blocks.append(b"second");
        let before = std::fs::read(&path).unwrap();
        assert!(before.starts_with(b"old\0") && before[BLOCK_BYTES..].iter().all(|b| *b == 1), "nothing is written before it is flushed");
        blocks.flush().unwrap();
        let there = std::fs::read(&path).unwrap();
        assert!(there.starts_with(b"new\0") && there[2 * BLOCK_BYTES..].starts_with(b"first\0"));
        assert!(there[3 * BLOCK_BYTES..].starts_with(b"second\0") && there[BLOCK_BYTES..2 * BLOCK_BYTES].iter().all(|b| *b == 1));
        blocks.begin(2 * BLOCK_BYTES as u64);
        blocks.append(b"third");
        blocks.flush().unwrap();
        assert!(std::fs::read(&path).unwrap()[2 * BLOCK_BYTES..].starts_with(b"third\0"));
        assert_eq!(blocks.waiting().pieces.len(), 1, "what is written is forgotten");
    }

    #[test]
    fn threads_append_while_another_one_writes() {
        let dir = tempfile::tempdir().unwrap();
        let path = file(dir.path(), 64);
        let blocks = Blocks::open(&path, b"").unwrap();
        blocks.begin(0);
        std::thread::scope(|scope| {
            for number in 1..=4_u8 {
                let blocks = &blocks;
                scope.spawn(move || {
                    for _ in 0..200 {
                        blocks.append(&[number; 100]);
                        blocks.flush().unwrap();
                    }
                });
            }
        });
        let there = std::fs::read(&path).unwrap();
        for number in 1..=4_u8 {
            assert_eq!(there[..80_000].iter().filter(|b| **b == number).count(), 20_000);
        }
        assert!(there[..80_000].chunks(100).all(|part| part.iter().all(|b| *b == part[0])));
    }
}
