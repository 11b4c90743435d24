//! Blobs in a local folder, through one capability directory: no name outside it can be reached.
//!
//! Layout: `ab/cdef...` (the 64 hex digits of SHA-256, split after two), `tmp/` for content on its way, and `sweep.lock`.
//! A blob is written to `tmp/`, synced, renamed to its name, and the folder is synced: it is there whole or not at all, and durable when
//! `put` returns. Any number of processes may share the folder.
//!
//! A failed sync makes this handle refuse further writes until the folder is opened again: what the kernel dropped once
//! cannot be synced by asking twice.
//!
//! A blob's age counts from when it was stored last: storing it again makes it young. Only old ones are ever swept (`super::sweep`), so
//! whoever stores content has an hour to write down that it is needed. Making young and sweeping exclude each other by a lock on
//! `sweep.lock`, across processes.

use crate::system::RandomIds;
use async_trait::async_trait;
use bytes::Bytes;
use cap_std::ambient_authority;
use cap_std::fs::{Dir, File, OpenOptions};
use gristmill_kernel::port::{Blobs, Ids};
use gristmill_kernel::{Code, Digest, Fault, Kind, Result, limits};
use std::io::{self, Read, Write};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Where content is while it is written.
pub(super) const TMP: &str = "tmp";
/// Locked while a blob is made young (shared) or taken away (exclusive).
const SWEEP_LOCK: &str = "sweep.lock";
/// Temporary files older than this belong to nobody: a writer that lives finishes sooner.
const LEFTOVER_AGE: Duration = Duration::from_secs(60 * 60);

/// Blobs in a folder.
#[derive(Clone)]
pub struct LocalBlobs {
    pub(super) folder: Arc<Folder>,
}

pub(super) struct Folder {
    pub(super) dir: Dir,
    sync_failed: AtomicBool,
}

impl LocalBlobs {
    /// Opens or makes the folder, and removes what crashed writers left behind.
    pub fn open(path: &Path) -> Result<LocalBlobs> {
        let told = |e| Fault::io(format_args!("open the blob folder {}", path.display()), e);
        std::fs::create_dir_all(path).map_err(told)?;
        let dir = Dir::open_ambient_dir(path, ambient_authority()).map_err(told)?;
        dir.create_dir_all(TMP).map_err(told)?;
        let removed = remove_leftovers(&dir).map_err(told)?;
        if removed > 0 {
            tracing::info!(removed, folder = %path.display(), "removed unfinished blobs of an earlier process");
        }
        Ok(LocalBlobs { folder: Arc::new(Folder { dir, sync_failed: AtomicBool::new(false) }) })
    }

    pub(super) async fn blocking<T: Send + 'static>(&self, work: impl FnOnce(&Folder) -> Result<T> + Send + 'static) -> Result<T> {
        let folder = Arc::clone(&self.folder);
        tokio::task::spawn_blocking(move || work(&folder)).await.map_err(|e| Fault::internal("a blob operation ended early").because(e))?
    }
}

#[async_trait]
impl Blobs for LocalBlobs {
    async fn put(&self, content: Bytes) -> Result<Digest> {
        self.blocking(move |folder| folder.put(&content)).await
    }
    async fn get(&self, digest: &Digest) -> Result<Option<Bytes>> {
        let digest = *digest;
        self.blocking(move |folder| folder.get(&digest)).await
    }
    async fn has(&self, digest: &Digest) -> Result<bool> {
        let name = name_of(digest);
        self.blocking(move |folder| folder.dir.try_exists(&name).map_err(|e| Fault::io(format_args!("look for blob {name}"), e))).await
    }
}

impl Folder {
    fn put(&self, content: &[u8]) -> Result<Digest> {
        if content.len() > limits::BLOB_BYTES_MAX {
            return Err(Fault::new(
                Kind::TooLarge,
                Code::BODY_TOO_LARGE,
                format!("a blob of {} bytes is above the limit of {}", content.len(), limits::BLOB_BYTES_MAX),
            ));
        }
        self.expect_writable()?;
        let digest = Digest::of(content);
        let name = name_of(&digest);
        self.store(&name, content).map_err(|e| Fault::io(format_args!("store blob {name}"), e))?;
        Ok(digest)
    }

    pub(super) fn expect_writable(&self) -> Result<()> {
        if self.sync_failed.load(Ordering::Acquire) {
            return Err(Fault::new(Kind::Unavailable, Code::IO, "the blob folder takes no writes since a sync failed")
                .fix("check the disk, then start again"));
        }
        Ok(())
    }

    fn store(&self, name: &str, content: &[u8]) -> io::Result<()> {
        if self.make_young(name, Some(content.len() as u64))? {
            return Ok(());
        }
        let temporary = temporary();
        let written = self.write_synced(&temporary, content).and_then(|()| self.publish(&temporary, name));
        if written.is_err() {
            let _ = self.dir.remove_file(&temporary);
        }
        written
    }

    /// Whether a blob is there; it is then durable, and young from now on. One of another length is damaged and counts as not there.
    pub(super) fn make_young(&self, name: &str, length: Option<u64>) -> io::Result<bool> {
        let file = match self.dir.open(name) {
            Ok(file) => file,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(e) => return Err(e),
        };
        if length.is_some_and(|length| file.metadata().is_ok_and(|known| known.len() != length)) {
            tracing::warn!(blob = name, "a stored blob has the wrong length and is written again");
            return Ok(false);
        }
        let lock = self.sweep_lock()?;
        lock.lock_shared()?;
        set_age_to_none(&file.into_std())?;
        // It may have been swept since it was opened.
        if !self.dir.try_exists(name)? {
            return Ok(false);
        }
        self.sync(&self.dir.open_dir(&name[..2])?)?;
        Ok(true)
    }

    /// A handle of its own: locks belong to handles, and two threads of one process must exclude each other too.
    pub(super) fn sweep_lock(&self) -> io::Result<std::fs::File> {
        Ok(self.dir.open_with(SWEEP_LOCK, OpenOptions::new().read(true).write(true).create(true))?.into_std())
    }

    /// Gives content that was written and synced its name. On an error nobody may take it for durable, so it has no name then.
    pub(super) fn publish(&self, temporary: &str, name: &str) -> io::Result<()> {
        let folder = &name[..2];
        match self.dir.create_dir(folder) {
            Ok(()) => {}
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
            Err(e) => return Err(e),
        }
        // Also when another process made it: it may not have synced it yet.
        self.sync(&self.dir)?;
        let lock = self.sweep_lock()?;
        lock.lock_shared()?;
        self.dir.rename(temporary, &self.dir, name)?;
        self.sync(&self.dir.open_dir(folder)?).inspect_err(|_| {
            let _ = self.dir.remove_file(name);
        })
    }

    fn write_synced(&self, name: &str, content: &[u8]) -> io::Result<()> {
        let mut file = self.begin(name)?;
        file.write_all(content)?;
        self.sync_file(&file)
    }

    /// A new file for content on its way.
    pub(super) fn begin(&self, temporary: &str) -> io::Result<File> {
        self.dir.open_with(temporary, OpenOptions::new().write(true).create_new(true))
    }

    pub(super) fn sync_file(&self, file: &File) -> io::Result<()> {
        file.sync_all().inspect_err(|_| self.sync_failed.store(true, Ordering::Release))
    }

    fn sync(&self, dir: &Dir) -> io::Result<()> {
        // The directory's own handle is only a path (`O_PATH`), which cannot be synced.
        dir.open(".")?.into_std().sync_all().inspect_err(|_| self.sync_failed.store(true, Ordering::Release))
    }

    fn get(&self, digest: &Digest) -> Result<Option<Bytes>> {
        let name = name_of(digest);
        let told = |e| Fault::io(format_args!("read blob {name}"), e);
        let mut file = match self.dir.open(&name) {
            Ok(file) => file,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(told(e)),
        };
        let length = file.metadata().map_err(told)?.len();
        if length > limits::BLOB_BYTES_MAX as u64 {
            return Err(Fault::damaged(format!("blob {name} has {length} bytes, above the limit of {}", limits::BLOB_BYTES_MAX)));
        }
        let mut content = Vec::with_capacity(length as usize);
        file.read_to_end(&mut content).map_err(told)?;
        if Digest::of(&content) != *digest {
            return Err(damaged(&name, &Digest::of(&content)));
        }
        Ok(Some(Bytes::from(content)))
    }
}

pub(super) fn name_of(digest: &Digest) -> String {
    let hex = digest.hex();
    format!("{}/{}", &hex[..2], &hex[2..])
}

/// A name nobody else has, for content on its way.
pub(super) fn temporary() -> String {
    format!("{TMP}/{}", RandomIds.run())
}

pub(super) fn damaged(name: &str, found: &Digest) -> Fault {
    Fault::damaged(format!("blob {name}: its content has the digest {found}"))
        .fix("restore the blob from a backup, or remove it and run again what made it")
}

#[expect(clippy::disallowed_methods, reason = "the age of a file is measured by the system's clock")]
fn set_age_to_none(file: &std::fs::File) -> io::Result<()> {
    file.set_modified(std::time::SystemTime::now())
}

fn remove_leftovers(dir: &Dir) -> io::Result<usize> {
    let tmp = dir.open_dir(TMP)?;
    let mut removed = 0;
    for entry in tmp.entries()? {
        let entry = entry?;
        // Another process may finish its own meanwhile.
        let Ok(metadata) = entry.metadata() else { continue };
        let age = metadata.modified().ok().and_then(|t| t.into_std().elapsed().ok()).unwrap_or_default();
        if metadata.is_file() && age > LEFTOVER_AGE && tmp.remove_file(entry.file_name()).is_ok() {
            removed += 1;
        }
    }
    Ok(removed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use gristmill_kernel::Kind;
    use std::time::SystemTime;

    #[tokio::test]
    async fn keeps_the_promises_of_blobs() {
        let folder = tempfile::tempdir().unwrap();
        crate::suite::blobs::run(|| async { LocalBlobs::open(folder.path()).unwrap() }).await;
    }

    #[tokio::test]
    async fn damaged_content_is_never_an_answer() {
        let folder = tempfile::tempdir().unwrap();
        let blobs = LocalBlobs::open(folder.path()).unwrap();
        let digest = blobs.put(Bytes::from_static(b"rows")).await.unwrap();
        std::fs::write(folder.path().join(name_of(&digest)), b"rots").unwrap();
        let fault = blobs.get(&digest).await.unwrap_err();
        assert_eq!((fault.kind, fault.code), (Kind::Damaged, Code::DAMAGED));
        assert!(fault.message.contains(&digest.hex()[2..]), "{fault}");
    }

    #[tokio::test]
    #[expect(clippy::disallowed_methods, reason = "the age of a file is measured by the system's clock")]
    async fn only_old_leftovers_are_removed_at_open() {
        let folder = tempfile::tempdir().unwrap();
        LocalBlobs::open(folder.path()).unwrap();
        let (old, young) = (folder.path().join("tmp/old"), folder.path().join("tmp/young"));
        std::fs::write(&old, b"half").unwrap();
        std::fs::write(&young, b"half").unwrap();
        let long_ago = SystemTime::now() - 2 * LEFTOVER_AGE;
        std::fs::File::options().write(true).open(&old).unwrap().set_modified(long_ago).unwrap();
        LocalBlobs::open(folder.path()).unwrap();
        assert!(!old.exists() && young.exists());
    }

    #[tokio::test]
    async fn a_blob_cut_short_is_written_again() {
        let folder = tempfile::tempdir().unwrap();
        let blobs = LocalBlobs::open(folder.path()).unwrap();
        let digest = blobs.put(Bytes::from_static(b"rows")).await.unwrap();
        std::fs::write(folder.path().join(name_of(&digest)), b"ro").unwrap();
        blobs.put(Bytes::from_static(b"rows")).await.unwrap();
        assert_eq!(blobs.get(&digest).await.unwrap().unwrap(), "rows");
    }
}
