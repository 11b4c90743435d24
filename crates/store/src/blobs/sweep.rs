//! Taking away what nobody names.
//!
//! Promise: what is named stays, and so does what was stored, or stored again, after the moment that the caller gives: its name may not be
//! written yet. The look at the age and the removal are one step, under the lock that making young takes too.

use super::local::{Folder, LocalBlobs};
use gristmill_kernel::{Digest, Fault, Result, Timestamp};
use std::collections::HashSet;
use std::io;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// What a sweep did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Swept {
    /// Blobs that stay.
    pub kept: u64,
    /// Blobs that went.
    pub removed: u64,
    /// Bytes that went with them.
    pub bytes: u64,
}

impl LocalBlobs {
    /// Removes every blob that is not in `named` and was stored last before `before`.
    pub async fn sweep(&self, named: HashSet<Digest>, before: Timestamp) -> Result<Swept> {
        self.blocking(move |folder| folder.sweep(&named, before).map_err(|e| Fault::io("sweep the blobs", e))).await
    }
}

impl Folder {
    fn sweep(&self, named: &HashSet<Digest>, before: Timestamp) -> io::Result<Swept> {
        let before = moment(before);
        let lock = self.sweep_lock()?;
        let mut swept = Swept::default();
        for shelf in self.dir.entries()? {
            let shelf = shelf?.file_name();
            let Some(shelf) = shelf.to_str().filter(|name| name.len() == 2) else { continue };
            for entry in self.dir.open_dir(shelf)?.entries()? {
                let rest = entry?.file_name();
                // What is no blob is not ours to remove.
                let Some(digest) = rest.to_str().and_then(|rest| digest_of(shelf, rest)) else { continue };
                if named.contains(&digest) {
                    swept.kept += 1;
                    continue;
                }
                lock.lock()?;
                let removed = self.remove_old(&super::local::name_of(&digest), before);
                lock.unlock()?;
                match removed? {
                    Some(bytes) => {
                        swept.removed += 1;
                        swept.bytes += bytes;
                    }
                    None => swept.kept += 1,
                }
            }
        }
        Ok(swept)
    }

    fn remove_old(&self, name: &str, before: SystemTime) -> io::Result<Option<u64>> {
        let metadata = match self.dir.metadata(name) {
            Ok(metadata) => metadata,
            // Another process sweeps too.
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(e),
        };
        if metadata.modified()?.into_std() >= before {
            return Ok(None);
        }
        self.dir.remove_file(name)?;
        Ok(Some(metadata.len()))
    }
}

fn digest_of(shelf: &str, rest: &str) -> Option<Digest> {
    let hex = format!("{shelf}{rest}");
    let digest: Digest = hex.parse().ok()?;
    (digest.hex() == hex).then_some(digest)
}

fn moment(at: Timestamp) -> SystemTime {
    let micros = Duration::from_micros(at.micros().unsigned_abs());
    let moment = if at.micros() < 0 { UNIX_EPOCH.checked_sub(micros) } else { UNIX_EPOCH.checked_add(micros) };
    moment.unwrap_or(UNIX_EPOCH)
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use gristmill_kernel::port::{Blobs, Clock};
    use gristmill_kernel::time::Span;

    #[tokio::test]
    async fn only_what_is_old_and_unnamed_goes() {
        let folder = tempfile::tempdir().unwrap();
        let blobs = LocalBlobs::open(folder.path()).unwrap();
        let mut digests = Vec::new();
        for content in ["named", "old", "young", "kept", "stored again"] {
            digests.push(blobs.put(Bytes::from_static(content.as_bytes())).await.unwrap());
        }
        let now = crate::system::SystemClock::new().now();
        let long_ago = moment(now) - Duration::from_secs(7_200);
        let age = |digest: &Digest| {
            let path = folder.path().join(super::super::local::name_of(digest));
            std::fs::File::options().write(true).open(path).unwrap().set_modified(long_ago).unwrap();
        };
        [0, 1, 3, 4].iter().for_each(|i| age(&digests[*i]));
        assert!(blobs.keep(&digests[3]).await.unwrap());
        assert!(!blobs.keep(&Digest::of("never")).await.unwrap());
        blobs.put(Bytes::from_static(b"stored again")).await.unwrap();
        std::fs::write(folder.path().join("ab.txt"), b"not ours").unwrap();
        let before = now.minus(Span::from_secs(3_600));
        let swept = blobs.sweep(HashSet::from([digests[0]]), before).await.unwrap();
        assert_eq!(swept, Swept { kept: 4, removed: 1, bytes: 3 });
        for (digest, there) in digests.iter().zip([true, false, true, true, true]) {
            assert_eq!(blobs.has(digest).await.unwrap(), there, "{digest}");
        }
        assert_eq!(blobs.sweep(HashSet::from([digests[0]]), before).await.unwrap().removed, 0, "again");
        assert!(folder.path().join("ab.txt").exists());
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn what_is_stored_while_a_sweep_runs_is_there() {
        let folder = tempfile::tempdir().unwrap();
        let blobs = LocalBlobs::open(folder.path()).unwrap();
        let digest = blobs.put(Bytes::from_static(b"rows")).await.unwrap();
        let path = folder.path().join(super::super::local::name_of(&digest));
        let now = crate::system::SystemClock::new().now();
        let before = now.minus(Span::from_secs(3_600));
        for _ in 0..50 {
            if let Ok(file) = std::fs::File::options().write(true).open(&path) {
                file.set_modified(moment(before) - Duration::from_secs(60)).unwrap();
            }
            let other = LocalBlobs::open(folder.path()).unwrap();
            let sweep = tokio::spawn(async move { other.sweep(HashSet::new(), before).await });
            blobs.put(Bytes::from_static(b"rows")).await.unwrap();
            sweep.await.unwrap().unwrap();
            assert!(blobs.has(&digest).await.unwrap(), "acknowledged, so there");
        }
    }
}
