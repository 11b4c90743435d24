//! Uploaded files: a row names a key and the blob behind it.
//!
//! Promises: content is durable before its row is, so no row is ever without its blob; an upload that was acknowledged survives power loss;
//! a client's key is a row, never a path. A folder is what keys have in common: `a/b` is beneath `a`, and nothing is both.
//!
//! Keys compare by bytes, so what is beneath `p` is the range from `p/` to `p0` (`0` follows `/`).

use super::SqliteLedger;
use super::cells::Cells;
use super::open::fault;
use super::write::{commit, stored_number, write};
use crate::blobs::LocalBlobs;
use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use gristmill_kernel::port::{ArtifactEntry, ArtifactInfo, ArtifactKey, Artifacts};
use gristmill_kernel::{Code, Digest, Fault, Kind, Result, Timestamp, limits};
use sqlx::Connection;
use sqlx::sqlite::{SqliteConnection, SqliteRow};
use std::ops::Range;
use std::sync::Arc;

/// Rows read at once by a listing: it skips what lies deeper, so more would often be read in vain.
const ROWS_PER_STEP: usize = 1_000;

/// Artifacts on a ledger and its blobs.
#[derive(Clone)]
pub struct TrackedArtifacts {
    pub(super) ledger: Arc<SqliteLedger>,
    pub(super) blobs: LocalBlobs,
}

impl TrackedArtifacts {
    /// The artifacts of a ledger, their content in `blobs`.
    pub fn new(ledger: Arc<SqliteLedger>, blobs: LocalBlobs) -> TrackedArtifacts {
        TrackedArtifacts { ledger, blobs }
    }

    async fn name(&self, key: &ArtifactKey, digest: Digest, bytes: u64, now: Timestamp) -> Result<()> {
        let mut db = self.ledger.writer().await;
        let mut tx = write(&mut db).await?;
        refuse_both(&mut tx, key).await?;
        sqlx::query(
            "INSERT INTO artifacts (key, digest, bytes, at) VALUES ($1, $2, $3, $4) \
             ON CONFLICT (key) DO UPDATE SET digest = excluded.digest, bytes = excluded.bytes, at = excluded.at",
        )
        .bind(key.as_str())
        .bind(digest.to_string())
        .bind(stored_number(bytes)?)
        .bind(now.micros())
        .execute(&mut *tx)
        .await
        .map_err(|e| fault("write an artifact", e))?;
        commit(tx).await
    }

    /// The length that rows say the content has, if any row names it.
    async fn length(&self, digest: &Digest) -> Result<Option<u64>> {
        let mut db = self.ledger.reader().await?;
        let row = sqlx::query("SELECT key, bytes FROM artifacts WHERE digest = $1 LIMIT 1")
            .bind(digest.to_string())
            .fetch_optional(&mut *db)
            .await
            .map_err(|e| fault("look for an artifact", e))?;
        row.as_ref().map(|row| Cells::keyed(row, "artifacts", "key")?.count("bytes")).transpose()
    }
}

fn info_of(row: &SqliteRow) -> Result<ArtifactInfo> {
    let c = Cells::keyed(row, "artifacts", "key")?;
    Ok(ArtifactInfo { key: c.text("key")?, digest: c.parse("digest")?, bytes: c.count("bytes")? })
}

/// The first key beneath a prefix, and the first behind all of them.
fn beneath(prefix: &str) -> (String, String) {
    (format!("{prefix}/"), format!("{prefix}0"))
}

/// A key is a file or a folder.
async fn refuse_both(db: &mut SqliteConnection, key: &ArtifactKey) -> Result<()> {
    let key = key.as_str();
    for (at, _) in key.match_indices('/') {
        let folder = &key[..at];
        let file = sqlx::query("SELECT 1 FROM artifacts WHERE key = $1").bind(folder).fetch_optional(&mut *db).await;
        if file.map_err(|e| fault("look for an artifact", e))?.is_some() {
            return Err(crate::rules::artifact_is_file(folder));
        }
    }
    let (from, before) = beneath(key);
    let inside =
        sqlx::query("SELECT 1 FROM artifacts WHERE key >= $1 AND key < $2 LIMIT 1").bind(from).bind(before).fetch_optional(db).await;
    match inside.map_err(|e| fault("look for an artifact", e))? {
        Some(_) => Err(crate::rules::artifact_is_folder(key)),
        None => Ok(()),
    }
}

async fn rows_between(db: &mut SqliteConnection, from: &str, before: Option<&str>, limit: usize) -> Result<Vec<ArtifactInfo>> {
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let query = match before {
        Some(before) => sqlx::query("SELECT key, digest, bytes FROM artifacts WHERE key >= $1 AND key < $2 ORDER BY key LIMIT $3")
            .bind(from)
            .bind(before),
        None => sqlx::query("SELECT key, digest, bytes FROM artifacts WHERE key >= $1 ORDER BY key LIMIT $2").bind(from),
    };
    let rows = query.bind(limit).fetch_all(db).await.map_err(|e| fault("list artifacts", e))?;
    rows.iter().map(info_of).collect()
}

#[async_trait]
impl Artifacts for TrackedArtifacts {
    async fn put_artifact(&self, key: &ArtifactKey, content: BoxStream<'static, Result<Bytes>>, now: Timestamp) -> Result<ArtifactInfo> {
        let (digest, bytes) = self.blobs.put_stream(content, limits::ARTIFACT_BYTES_MAX).await?;
        self.name(key, digest, bytes, now).await?;
        Ok(ArtifactInfo { key: key.as_str().to_owned(), digest, bytes })
    }

    async fn link_artifact(&self, key: &ArtifactKey, digest: Digest, bytes: u64, now: Timestamp) -> Result<()> {
        // Young again, so that nothing sweeps it before its row is there.
        if !self.blobs.keep(&digest).await? {
            return Err(crate::rules::unknown_content(&digest));
        }
        self.name(key, digest, bytes, now).await
    }

    async fn artifact(&self, key: &ArtifactKey) -> Result<Option<ArtifactInfo>> {
        let mut db = self.ledger.reader().await?;
        let row = sqlx::query("SELECT key, digest, bytes FROM artifacts WHERE key = $1")
            .bind(key.as_str())
            .fetch_optional(&mut *db)
            .await
            .map_err(|e| fault("look for an artifact", e))?;
        row.as_ref().map(info_of).transpose()
    }

    async fn read_artifact(&self, digest: &Digest, range: Range<u64>) -> Result<BoxStream<'static, Result<Bytes>>> {
        let length = self.length(digest).await?;
        match self.blobs.read_stream(digest, range, length).await? {
            Some(content) => Ok(content),
            // A row without its blob cannot be.
            None if length.is_some() => {
                Err(Fault::damaged(format!("the blob {digest} of an artifact is gone")).fix("restore it from a backup"))
            }
            None => Err(crate::rules::unknown_content(digest)),
        }
    }

    async fn list_artifacts(&self, prefix: Option<&ArtifactKey>) -> Result<Vec<ArtifactEntry>> {
        let (start, before) = match prefix {
            Some(prefix) => {
                let (from, before) = beneath(prefix.as_str());
                (from, Some(before))
            }
            None => (String::new(), None),
        };
        let mut entries = Vec::new();
        let mut from = start.clone();
        let mut db = self.ledger.reader().await?;
        let mut tx = db.begin().await.map_err(|e| fault("list artifacts", e))?;
        loop {
            let rows = rows_between(&mut tx, &from, before.as_deref(), ROWS_PER_STEP).await?;
            let last = rows.len() < ROWS_PER_STEP;
            for row in rows {
                // Inside a folder that was listed already.
                if row.key < from {
                    continue;
                }
                let name = &row.key[start.len()..];
                match name.split_once('/') {
                    Some((folder, _)) => {
                        from = beneath(&row.key[..start.len() + folder.len()]).1;
                        entries.push(ArtifactEntry::Folder(folder.to_owned()));
                    }
                    None => {
                        entries.push(ArtifactEntry::File(name.to_owned(), row.bytes));
                        // No key has a control character.
                        from = format!("{}\u{1}", row.key);
                    }
                }
                if entries.len() > limits::ARTIFACTS_LISTED_MAX {
                    return Err(too_many(prefix));
                }
            }
            if last {
                break;
            }
        }
        sort_entries(&mut entries);
        Ok(entries)
    }

    async fn walk_artifacts(&self, prefix: &ArtifactKey) -> Result<Vec<ArtifactInfo>> {
        let (from, before) = beneath(prefix.as_str());
        let mut db = self.ledger.reader().await?;
        let mut files = rows_between(&mut db, &from, Some(&before), limits::ARTIFACTS_LISTED_MAX + 1).await?;
        if files.len() > limits::ARTIFACTS_LISTED_MAX {
            return Err(too_many(Some(prefix)));
        }
        files.iter_mut().for_each(|file| file.key.replace_range(..from.len(), ""));
        Ok(files)
    }

    async fn delete_artifacts(&self, prefix: &ArtifactKey) -> Result<u64> {
        let (from, before) = beneath(prefix.as_str());
        let mut db = self.ledger.writer().await;
        let mut tx = write(&mut db).await?;
        let deleted = sqlx::query("DELETE FROM artifacts WHERE key = $1 OR (key >= $2 AND key < $3)")
            .bind(prefix.as_str())
            .bind(from)
            .bind(before)
            .execute(&mut *tx)
            .await
            .map_err(|e| fault("delete artifacts", e))?
            .rows_affected();
        commit(tx).await?;
        Ok(deleted)
    }
}

fn too_many(prefix: Option<&ArtifactKey>) -> Fault {
    let below = prefix.map_or(String::new(), |prefix| format!(" beneath {}", prefix.as_str()));
    Fault::new(Kind::TooLarge, Code::BODY_TOO_LARGE, format!("there are more than {} artifacts{below}", limits::ARTIFACTS_LISTED_MAX))
        .fix("ask for a folder further down")
}

/// By name: the order of keys puts `a.txt` before what is beneath `a`.
pub(crate) fn sort_entries(entries: &mut [ArtifactEntry]) {
    entries.sort_by(|a, b| name_of(a).cmp(name_of(b)));
}

fn name_of(entry: &ArtifactEntry) -> &str {
    match entry {
        ArtifactEntry::Folder(name) | ArtifactEntry::File(name, _) => name,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::suite::artifacts::{content, key};
    use crate::suite::ledger::at;
    use crate::system::ManualClock;
    use gristmill_kernel::port::Blobs;
    use gristmill_kernel::tracking::evil::{EVIL, HARMLESS};
    use std::path::Path;
    use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

    async fn open(folder: &Path) -> TrackedArtifacts {
        std::fs::create_dir_all(folder).unwrap();
        let ledger = SqliteLedger::open(&folder.join("ledger.db"), Arc::new(ManualClock::new(at(1)))).await.unwrap();
        TrackedArtifacts::new(Arc::new(ledger), LocalBlobs::open(&folder.join("blobs")).unwrap())
    }

    #[tokio::test]
    async fn keeps_the_promises_of_artifacts() {
        let dir = tempfile::tempdir().unwrap();
        let count = AtomicU32::new(0);
        crate::suite::artifacts::run(|| {
            let folder = dir.path().join(count.fetch_add(1, Ordering::Relaxed).to_string());
            async move { Arc::new(open(&folder).await) as Arc<dyn Artifacts> }
        })
        .await;
    }

    /// Every name in a folder and beneath it.
    fn names(folder: &Path, found: &mut Vec<String>) {
        for entry in std::fs::read_dir(folder).unwrap().map(Result::unwrap) {
            found.push(entry.file_name().to_string_lossy().into_owned());
            if entry.path().is_dir() {
                names(&entry.path(), found);
            }
        }
    }

    #[tokio::test]
    async fn no_key_becomes_a_path() {
        let dir = tempfile::tempdir().unwrap();
        let artifacts = open(&dir.path().join("state")).await;
        let mut taken = 0;
        for text in EVIL.iter().chain(HARMLESS) {
            let Ok(key) = ArtifactKey::new(text) else { continue };
            taken += u32::from(artifacts.put_artifact(&key, content(text), at(1)).await.is_ok());
            artifacts.list_artifacts(Some(&key)).await.unwrap();
            artifacts.walk_artifacts(&key).await.unwrap();
        }
        assert!(taken > 20, "{taken}");
        let mut found = Vec::new();
        names(dir.path(), &mut found);
        let ours = |name: &str| {
            ["state", "ledger.db", "ledger.db-wal", "ledger.db-shm", "blobs", "tmp", "sweep.lock"].contains(&name)
                || (matches!(name.len(), 2 | 62) && name.bytes().all(|b| b.is_ascii_hexdigit()))
        };
        assert!(found.iter().all(|name| ours(name)), "{found:?}");
        for text in EVIL.iter().filter_map(|text| ArtifactKey::new(text).ok()) {
            artifacts.delete_artifacts(&text).await.unwrap();
        }
        assert!(dir.path().join("state/ledger.db").exists());
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn a_row_is_never_without_its_blob() {
        let dir = tempfile::tempdir().unwrap();
        let (writer, watcher) = (open(dir.path()).await, open(dir.path()).await);
        let done = Arc::new(AtomicBool::new(false));
        let writing = {
            let done = Arc::clone(&done);
            tokio::spawn(async move {
                let one = |number: u32| {
                    let writer = writer.clone();
                    async move {
                        let key = key(&format!("r/{}", number % 40));
                        let put = writer.put_artifact(&key, content(&number.to_string()), at(1));
                        // Some uploaders go away half-way.
                        let patience = if number.is_multiple_of(3) { 400 } else { 10_000_000 };
                        let _ = tokio::time::timeout(std::time::Duration::from_micros(patience), put).await;
                    }
                };
                for first in (0..160).step_by(16) {
                    futures::future::join_all((first..first + 16).map(one)).await;
                }
                done.store(true, Ordering::Release);
            })
        };
        let mut seen = 0;
        loop {
            let last = done.load(Ordering::Acquire);
            for row in watcher.walk_artifacts(&key("r")).await.unwrap() {
                assert!(watcher.blobs.has(&row.digest).await.unwrap(), "row {} names what is not there", row.key);
                seen += 1;
            }
            if last {
                break;
            }
        }
        writing.await.unwrap();
        assert!(seen >= 40, "{seen}");
    }

    #[tokio::test]
    async fn a_blob_that_is_gone_is_damage() {
        let dir = tempfile::tempdir().unwrap();
        let artifacts = open(dir.path()).await;
        let info = artifacts.put_artifact(&key("a"), content("rows"), at(1)).await.unwrap();
        let path = dir.path().join("blobs").join(&info.digest.hex()[..2]).join(&info.digest.hex()[2..]);
        std::fs::write(&path, b"ro").unwrap();
        assert_eq!(artifacts.read_artifact(&info.digest, 0..1).await.err().unwrap().kind, Kind::Damaged, "cut short");
        std::fs::remove_file(&path).unwrap();
        assert_eq!(artifacts.read_artifact(&info.digest, 0..4).await.err().unwrap().kind, Kind::Damaged, "gone");
    }
}
