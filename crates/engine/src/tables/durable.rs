//! A local object store whose writes survive power loss.
//!
//! `object_store`'s local store never calls fsync, so a commit could be acknowledged and lost, or become visible with
//! its content still in memory. Here every write goes to a staging file that is synced *before* it gets its name, and the folder
//! is synced after. A name therefore never points at half a file, and a returned write is on disk. A failed sync is returned and never
//! retried on the same file. Reads, lists and deletes are the plain store's.

use bytes::Bytes;
use futures::stream::BoxStream;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMode, PutMultipartOptions, PutOptions,
    PutPayload, PutResult, Result, UploadPart,
};
use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::ops::Range;
use std::path::{Path as FilePath, PathBuf};
use std::sync::Arc;

/// The store. Cheap to clone.
#[derive(Debug, Clone)]
pub struct DurableStore {
    plain: Arc<LocalFileSystem>,
}

impl DurableStore {
    /// Over the whole file system; the table's URL says where.
    pub fn new() -> DurableStore {
        DurableStore { plain: Arc::new(LocalFileSystem::new()) }
    }
}

impl std::fmt::Display for DurableStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("DurableStore")
    }
}

#[async_trait::async_trait]
impl ObjectStore for DurableStore {
    async fn put_opts(&self, location: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        let create = match options.mode {
            PutMode::Create => true,
            PutMode::Overwrite => false,
            PutMode::Update(_) => {
                return Err(object_store::Error::NotImplemented {
                    operation: "conditional update".into(),
                    implementer: "DurableStore".into(),
                });
            }
        };
        let target = self.plain.path_to_filesystem(location)?;
        tokio::task::spawn_blocking(move || put_file(&target, &payload, create).map_err(|e| io_error(&target, e)))
            .await
            .map_err(|e| object_store::Error::Generic { store: "DurableStore", source: Box::new(e) })??;
        Ok(PutResult { e_tag: None, version: None })
    }

    async fn put_multipart_opts(&self, location: &Path, _options: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        Ok(Box::new(Upload { store: self.clone(), location: location.clone(), parts: Vec::new() }))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.plain.get_opts(location, options).await
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        self.plain.get_ranges(location, ranges).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.plain.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.plain.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.plain.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.plain.copy_opts(from, to, options).await?;
        let target = self.plain.path_to_filesystem(to)?;
        sync_file_and_folder(&target).map_err(|e| io_error(&target, e))
    }
}

/// Parts are collected and written as one synced file: our files are small (checkpoints, data of one commit).
#[derive(Debug)]
struct Upload {
    store: DurableStore,
    location: Path,
    parts: Vec<Bytes>,
}

#[async_trait::async_trait]
impl MultipartUpload for Upload {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        self.parts.extend(data.iter().cloned());
        Box::pin(std::future::ready(Ok(())))
    }

    async fn complete(&mut self) -> Result<PutResult> {
        let payload = PutPayload::from_iter(std::mem::take(&mut self.parts));
        self.store.put_opts(&self.location, payload, PutOptions::default()).await
    }

    async fn abort(&mut self) -> Result<()> {
        self.parts.clear();
        Ok(())
    }
}

fn put_file(target: &FilePath, payload: &PutPayload, create: bool) -> io::Result<()> {
    let (mut file, staging) = stage(target)?;
    let written = payload.iter().try_for_each(|part| file.write_all(part)).and_then(|()| file.sync_all());
    drop(file);
    let named = written.and_then(|()| {
        if create {
            std::fs::hard_link(&staging, target)?;
            // The staging name goes; if that fails, listing ignores it.
            let _ = std::fs::remove_file(&staging);
            Ok(())
        } else {
            std::fs::rename(&staging, target)
        }
    });
    if let Err(error) = named {
        let _ = std::fs::remove_file(&staging);
        return Err(error);
    }
    sync_folder_of(target)
}

/// A new file beside the target. `#` and a number mark it as unfinished, which `LocalFileSystem` hides from listings.
fn stage(target: &FilePath) -> io::Result<(File, PathBuf)> {
    let mut number = 1u32;
    loop {
        let mut name = target.as_os_str().to_owned();
        name.push(format!("#{number}"));
        let staging = PathBuf::from(name);
        match OpenOptions::new().write(true).create_new(true).open(&staging) {
            Ok(file) => return Ok((file, staging)),
            Err(e) if e.kind() == ErrorKind::AlreadyExists => number += 1,
            Err(e) if e.kind() == ErrorKind::NotFound => make_folders(target.parent().unwrap_or(FilePath::new("/")))?,
            Err(e) => return Err(e),
        }
    }
}

/// Makes a folder and those above it, each durable in its parent.
pub fn make_folders(folder: &FilePath) -> io::Result<()> {
    if folder.is_dir() {
        return Ok(());
    }
    if let Some(parent) = folder.parent() {
        make_folders(parent)?;
    }
    match std::fs::create_dir(folder) {
        Ok(()) => sync_folder_of(folder),
        Err(e) if e.kind() == ErrorKind::AlreadyExists => Ok(()),
        Err(e) => Err(e),
    }
}

fn sync_file_and_folder(path: &FilePath) -> io::Result<()> {
    File::open(path)?.sync_all()?;
    sync_folder_of(path)
}

fn sync_folder_of(path: &FilePath) -> io::Result<()> {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => File::open(parent)?.sync_all(),
        _ => Ok(()),
    }
}

fn io_error(path: &FilePath, error: io::Error) -> object_store::Error {
    let path = path.to_string_lossy().into_owned();
    match error.kind() {
        ErrorKind::AlreadyExists => object_store::Error::AlreadyExists { path, source: Box::new(error) },
        ErrorKind::NotFound => object_store::Error::NotFound { path, source: Box::new(error) },
        _ => object_store::Error::Generic { store: "DurableStore", source: Box::new(error) },
    }
}

/// Writes a data file, blocking: on disk and named when it returns.
pub fn write_file_now(path: &FilePath, bytes: &[u8]) -> gristmill_kernel::Result<()> {
    put_file(path, &PutPayload::from(bytes.to_vec()), false)
        .map_err(|e| gristmill_kernel::Fault::io(format!("write {}", path.display()), e))
}

/// Writes a data file: on disk and named when it returns. An equal file of an earlier try is replaced.
pub async fn write_file(path: &FilePath, bytes: &[u8]) -> gristmill_kernel::Result<()> {
    let (target, payload) = (path.to_path_buf(), PutPayload::from(bytes.to_vec()));
    let written = tokio::task::spawn_blocking(move || put_file(&target, &payload, false)).await;
    let written = written.map_err(|e| gristmill_kernel::Fault::internal("a writing task died").because(e))?;
    written.map_err(|e| gristmill_kernel::Fault::io(format!("write {}", path.display()), e))
}
