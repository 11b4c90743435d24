//! Content that is larger than memory: stored and read piece by piece.
//!
//! Promises: an upload holds two buffers of [`limits::ARTIFACT_CHUNK_BYTES`], whatever its size and however the sender cuts it; a download holds
//! one. One that fails, or is dropped half-way, leaves nothing behind. No thread waits for a slow sender or reader: only the writing and
//! reading of a full buffer runs on a blocking thread.

use super::local::{Folder, LocalBlobs, damaged, name_of, temporary};
use bytes::Bytes;
use cap_std::fs::File;
use futures::StreamExt;
use futures::stream::{self, BoxStream};
use gristmill_kernel::digest::Hasher;
use gristmill_kernel::{Code, Digest, Fault, Kind, Result, limits};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::ops::Range;
use std::sync::Arc;
use tokio::task::{JoinHandle, spawn_blocking};

impl LocalBlobs {
    /// Stores a stream of at most `bytes_max` bytes; returns its digest and length. Durable when it returns.
    pub async fn put_stream(&self, mut content: BoxStream<'static, Result<Bytes>>, bytes_max: u64) -> Result<(Digest, u64)> {
        let folder = Arc::clone(&self.folder);
        let sink = join(spawn_blocking(move || Sink::begin(folder))).await?;
        let mut writer = Writer::Idle(Box::new(sink), Vec::with_capacity(limits::ARTIFACT_CHUNK_BYTES));
        let mut buffer = Vec::with_capacity(limits::ARTIFACT_CHUNK_BYTES);
        let mut taken = 0u64;
        while let Some(piece) = content.next().await {
            let mut piece = match piece {
                Ok(piece) => piece,
                Err(fault) => return Err(writer.give_up(fault).await),
            };
            taken = taken.saturating_add(piece.len() as u64);
            if taken > bytes_max {
                return Err(writer.give_up(too_large(bytes_max)).await);
            }
            while !piece.is_empty() {
                let room = limits::ARTIFACT_CHUNK_BYTES - buffer.len();
                buffer.extend_from_slice(&piece.split_to(room.min(piece.len())));
                if buffer.len() == limits::ARTIFACT_CHUNK_BYTES {
                    (writer, buffer) = writer.write(buffer).await?;
                }
            }
        }
        if !buffer.is_empty() {
            (writer, _) = writer.write(buffer).await?;
        }
        let (sink, _) = writer.settle().await?;
        join(spawn_blocking(move || sink.finish())).await
    }

    /// Part of the content, or `None` if it was never stored. `length` is what its length must be, where the caller knows. Content read
    /// whole is checked against its digest before the last piece is given.
    pub async fn read_stream(
        &self,
        digest: &Digest,
        range: Range<u64>,
        length: Option<u64>,
    ) -> Result<Option<BoxStream<'static, Result<Bytes>>>> {
        let digest = *digest;
        let opened = self.blocking(move |folder| Source::open(folder, digest, range, length)).await?;
        Ok(opened.map(|source| {
            stream::unfold(Some(source), |source| async move {
                // After the end, or a failure, there is nothing more.
                let mut source = source.filter(|source| source.left > 0)?;
                let read = spawn_blocking(move || {
                    let piece = source.next_piece();
                    (source, piece)
                });
                Some(match read.await {
                    Ok((source, Ok(piece))) => (Ok(piece), Some(source)),
                    Ok((_, Err(fault))) => (Err(fault), None),
                    Err(e) => (Err(ended_early(e)), None),
                })
            })
            .boxed()
        }))
    }

    /// Whether content is there; if so it counts as stored just now.
    pub async fn keep(&self, digest: &Digest) -> Result<bool> {
        let name = name_of(digest);
        self.blocking(move |folder| folder.make_young(&name, None).map_err(|e| Fault::io(format_args!("look for blob {name}"), e))).await
    }
}

fn too_large(bytes_max: u64) -> Fault {
    Fault::new(Kind::TooLarge, Code::BODY_TOO_LARGE, format!("the content is above the limit of {bytes_max} bytes"))
}

fn ended_early(error: tokio::task::JoinError) -> Fault {
    Fault::internal("a blob operation ended early").because(error)
}

async fn join<T>(task: JoinHandle<Result<T>>) -> Result<T> {
    task.await.map_err(ended_early)?
}

/// Writes one buffer while the next one fills.
enum Writer {
    Idle(Box<Sink>, Vec<u8>),
    Writing(JoinHandle<Result<(Box<Sink>, Vec<u8>)>>),
}

impl Writer {
    /// Begins to write a full buffer, as soon as the one before is written, and gives an empty one back.
    async fn write(self, full: Vec<u8>) -> Result<(Writer, Vec<u8>)> {
        let (mut sink, mut empty) = self.settle().await?;
        empty.clear();
        let writing = spawn_blocking(move || {
            sink.write(&full)?;
            Ok((sink, full))
        });
        Ok((Writer::Writing(writing), empty))
    }
    /// Waits until nothing is written any more, so that nothing is left when the caller hears of the failure.
    async fn give_up(self, fault: Fault) -> Fault {
        drop(self.settle().await);
        fault
    }
    async fn settle(self) -> Result<(Box<Sink>, Vec<u8>)> {
        match self {
            Writer::Idle(sink, buffer) => Ok((sink, buffer)),
            Writer::Writing(task) => join(task).await,
        }
    }
}

/// Content on its way into the folder. Dropped before it is finished, it leaves nothing.
struct Sink {
    folder: Arc<Folder>,
    temporary: String,
    file: File,
    hasher: Hasher,
    bytes: u64,
    published: bool,
}

impl Sink {
    fn begin(folder: Arc<Folder>) -> Result<Sink> {
        folder.expect_writable()?;
        let temporary = temporary();
        let file = folder.begin(&temporary).map_err(|e| Fault::io("begin a blob", e))?;
        Ok(Sink { folder, temporary, file, hasher: Hasher::default(), bytes: 0, published: false })
    }

    fn write(&mut self, piece: &[u8]) -> Result<()> {
        self.file.write_all(piece).map_err(|e| Fault::io("write a blob", e))?;
        self.hasher.update(piece);
        self.bytes += piece.len() as u64;
        Ok(())
    }

    fn finish(mut self) -> Result<(Digest, u64)> {
        let digest = std::mem::take(&mut self.hasher).finish();
        let name = name_of(&digest);
        self.give_name(&name).map_err(|e| Fault::io(format_args!("store blob {name}"), e))?;
        Ok((digest, self.bytes))
    }

    fn give_name(&mut self, name: &str) -> io::Result<()> {
        if self.folder.make_young(name, Some(self.bytes))? {
            return Ok(());
        }
        self.folder.sync_file(&self.file)?;
        self.folder.publish(&self.temporary, name)?;
        self.published = true;
        Ok(())
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        if !self.published {
            let _ = self.folder.dir.remove_file(&self.temporary);
        }
    }
}

/// Content on its way out. The file stays readable even if it is swept meanwhile.
struct Source {
    name: String,
    digest: Digest,
    file: File,
    left: u64,
    /// Only where the whole content is read: of a part nothing can be said.
    hasher: Option<Hasher>,
}

impl Source {
    fn open(folder: &Folder, digest: Digest, range: Range<u64>, length: Option<u64>) -> Result<Option<Source>> {
        let name = name_of(&digest);
        let told = |e| Fault::io(format_args!("read blob {name}"), e);
        let mut file = match folder.dir.open(&name) {
            Ok(file) => file,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(told(e)),
        };
        let stored = file.metadata().map_err(told)?.len();
        if let Some(length) = length.filter(|length| *length != stored) {
            return Err(Fault::damaged(format!("blob {name} has {stored} bytes, not {length}")).fix("restore the blob from a backup"));
        }
        let end = range.end.min(stored);
        let start = range.start.min(end);
        file.seek(SeekFrom::Start(start)).map_err(told)?;
        let whole = start == 0 && end == stored;
        if whole && stored == 0 && digest != Digest::of("") {
            return Err(damaged(&name, &Digest::of("")));
        }
        Ok(Some(Source { name, digest, file, left: end - start, hasher: whole.then(Hasher::default) }))
    }

    fn next_piece(&mut self) -> Result<Bytes> {
        let size = self.left.min(limits::ARTIFACT_CHUNK_BYTES as u64);
        let mut piece = Vec::with_capacity(size as usize);
        (&mut self.file).take(size).read_to_end(&mut piece).map_err(|e| Fault::io(format_args!("read blob {}", self.name), e))?;
        if (piece.len() as u64) < size {
            return Err(Fault::damaged(format!("blob {} became shorter while it was read", self.name)));
        }
        self.left -= size;
        if let Some(hasher) = &mut self.hasher {
            hasher.update(&piece);
        }
        if self.left == 0
            && let Some(hasher) = self.hasher.take()
        {
            let found = hasher.finish();
            if found != self.digest {
                return Err(damaged(&self.name, &found));
            }
        }
        Ok(Bytes::from(piece))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::TryStreamExt;
    use gristmill_kernel::port::Blobs;
    use std::path::Path;

    fn pieces(content: Vec<&'static [u8]>) -> BoxStream<'static, Result<Bytes>> {
        stream::iter(content.into_iter().map(|piece| Ok(Bytes::from_static(piece)))).boxed()
    }

    fn waiting(folder: &Path) -> usize {
        std::fs::read_dir(folder.join("tmp")).unwrap().count()
    }

    async fn read(blobs: &LocalBlobs, digest: &Digest, range: Range<u64>) -> Result<Vec<u8>> {
        let pieces: Vec<Bytes> = blobs.read_stream(digest, range, None).await?.expect("stored").try_collect().await?;
        Ok(pieces.concat())
    }

    #[tokio::test]
    async fn a_stream_is_the_same_blob_as_its_bytes() {
        let folder = tempfile::tempdir().unwrap();
        let blobs = LocalBlobs::open(folder.path()).unwrap();
        let (digest, bytes) = blobs.put_stream(pieces(vec![b"ro", b"", b"ws"]), 4).await.unwrap();
        assert_eq!((digest, bytes), (Digest::of("rows"), 4));
        assert_eq!(blobs.put_stream(pieces(vec![b"rows"]), 4).await.unwrap().0, digest, "again");
        assert_eq!(blobs.get(&digest).await.unwrap().unwrap(), "rows");
        assert_eq!(blobs.put_stream(pieces(vec![]), 4).await.unwrap(), (Digest::of(""), 0));
        assert_eq!(read(&blobs, &Digest::of(""), 0..9).await.unwrap(), b"");
        assert_eq!(waiting(folder.path()), 0);
    }

    #[tokio::test]
    async fn what_fails_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let blobs = LocalBlobs::open(folder.path()).unwrap();
        assert_eq!(blobs.put_stream(pieces(vec![b"ro", b"ws"]), 3).await.unwrap_err().code, Code::BODY_TOO_LARGE);
        let broken = stream::iter([Ok(Bytes::from(vec![7; 3 * limits::ARTIFACT_CHUNK_BYTES])), Err(Fault::internal("gone"))]).boxed();
        assert_eq!(blobs.put_stream(broken, 1 << 30).await.unwrap_err().message, "gone");
        let endless = stream::iter([Ok(Bytes::from_static(b"ro"))]).chain(stream::pending()).boxed();
        let put = tokio::time::timeout(std::time::Duration::from_millis(50), blobs.put_stream(endless, 9)).await;
        assert!(put.is_err(), "dropped half-way");
        assert_eq!(waiting(folder.path()), 0);
        assert!(!blobs.has(&Digest::of("ro")).await.unwrap());
    }

    #[tokio::test]
    async fn damage_ends_a_whole_read_before_its_last_piece() {
        let folder = tempfile::tempdir().unwrap();
        let blobs = LocalBlobs::open(folder.path()).unwrap();
        let content = vec![1u8; 2 * limits::ARTIFACT_CHUNK_BYTES + 5];
        let digest = blobs.put(Bytes::from(content.clone())).await.unwrap();
        let path = folder.path().join(name_of(&digest));
        let mut changed = content.clone();
        changed[9] = 2;
        std::fs::write(&path, &changed).unwrap();
        let read: Vec<Result<Bytes>> = blobs.read_stream(&digest, 0..u64::MAX, None).await.unwrap().unwrap().collect().await;
        assert_eq!(read.len(), 3);
        assert_eq!(read[2].as_ref().unwrap_err().kind, Kind::Damaged);
        let part = blobs.read_stream(&digest, 0..4, None).await.unwrap().unwrap();
        assert_eq!(part.try_collect::<Vec<_>>().await.unwrap().concat(), [1; 4], "of a part nothing can be said");
        std::fs::write(&path, b"short").unwrap();
        let fault = blobs.read_stream(&digest, 0..4, Some(content.len() as u64)).await.err().unwrap();
        assert_eq!(fault.kind, Kind::Damaged, "the length is known");
        blobs.put_stream(stream::iter([Ok(Bytes::from(content.clone()))]).boxed(), 1 << 30).await.unwrap();
        assert_eq!(blobs.get(&digest).await.unwrap().unwrap(), content, "and a blob cut short is written again");
    }

    #[tokio::test]
    async fn ranges_are_cut_at_the_end() {
        let folder = tempfile::tempdir().unwrap();
        let blobs = LocalBlobs::open(folder.path()).unwrap();
        let digest = blobs.put(Bytes::from_static(b"0123456789")).await.unwrap();
        for (range, found) in [(0..10, "0123456789"), (3..5, "34"), (8..99, "89"), (10..12, ""), (50..60, ""), (4..4, "")] {
            assert_eq!(read(&blobs, &digest, range).await.unwrap(), found.as_bytes());
        }
        assert!(blobs.read_stream(&Digest::of("never"), 0..1, None).await.unwrap().is_none());
    }
}
