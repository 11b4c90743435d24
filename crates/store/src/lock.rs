//! One owner per state folder: whoever holds the lock runs the queue and the embedded exclusive parts.

use gristmill_kernel::{Code, Fault, Result};
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::Path;

/// The name of the lock's file in the state folder.
pub const LOCK_FILE: &str = "lock";

/// Held while it lives; the operating system gives it back when the process ends, however it ends.
#[derive(Debug)]
pub struct StateLock {
    file: File,
}

impl StateLock {
    /// Takes the lock of a state folder, or `None` if another process holds it. The file then says the owner's process id.
    pub fn try_acquire(dir: &Path) -> Result<Option<StateLock>> {
        let path = dir.join(LOCK_FILE);
        let told = |e| Fault::io(format_args!("lock {}", path.display()), e);
        std::fs::create_dir_all(dir).map_err(told)?;
        let mut file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path).map_err(told)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Ok(None),
            Err(TryLockError::Error(e)) => return Err(told(e)),
        }
        file.set_len(0).map_err(told)?;
        file.write_all(std::process::id().to_string().as_bytes()).map_err(told)?;
        Ok(Some(StateLock { file }))
    }

    /// Takes the lock or says who has it.
    pub fn acquire(dir: &Path) -> Result<StateLock> {
        StateLock::try_acquire(dir)?.ok_or_else(|| locked(dir))
    }

    /// The process id of the owner, if its file says one.
    pub fn owner(dir: &Path) -> Option<u32> {
        let mut text = String::new();
        File::open(dir.join(LOCK_FILE)).ok()?.take(20).read_to_string(&mut text).ok()?;
        text.trim().parse().ok()
    }
}

impl Drop for StateLock {
    fn drop(&mut self) {
        // Nobody must take a stale number for an owner. The lock itself goes with the file handle.
        let _ = self.file.seek(SeekFrom::Start(0));
        let _ = self.file.set_len(0);
    }
}

/// The error of a second owner.
pub(crate) fn locked(dir: &Path) -> Fault {
    let owner = StateLock::owner(dir).map_or("another process".to_owned(), |pid| format!("process {pid}"));
    Fault::conflict(Code::STATE_LOCKED, format!("the state folder {} is held by {owner}", dir.display()))
        .fix("stop that process, or give this one another project folder")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_owner_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let first = StateLock::try_acquire(dir.path()).unwrap().expect("free");
        assert_eq!(StateLock::owner(dir.path()), Some(std::process::id()));
        assert!(StateLock::try_acquire(dir.path()).unwrap().is_none());
        let fault = StateLock::acquire(dir.path()).unwrap_err();
        assert_eq!(fault.code, Code::STATE_LOCKED);
        assert!(fault.message.contains(&std::process::id().to_string()) && fault.fix.is_some(), "{fault}");
        drop(first);
        assert!(StateLock::try_acquire(dir.path()).unwrap().is_some());
    }
}
