//! Removes data files that no version needs.
//!
//! A file is needed if the newest version has it, or one before a break of the table's history (all versions up to the break are read from its
//! files), or any version since a moment long enough ago that nobody can be reading what was replaced before. A file made for a version of which
//! nothing is known stays for ever. So every version can still be read, and what goes are files whose rows live on in others, and
//! what a crash left behind.

use super::encode::version_of;
use super::{Tables, blocking};
use gristmill_kernel::error::{Fault, Result};
use gristmill_kernel::limits::{TABLE_REPLACED_KEPT_MS, TABLE_VACUUM_FILES_MAX};
use gristmill_kernel::port::Vacuumed;
use gristmill_kernel::table::TableName;
use gristmill_kernel::{Span, Timestamp};
use std::collections::HashSet;
use std::fs::DirEntry;
use std::io::ErrorKind;
use std::path::Path;
use std::time::UNIX_EPOCH;

impl Tables {
    /// Removes what is not needed at `now`; a limited number of files per call.
    pub async fn vacuum(&self, table: &TableName, now: Timestamp) -> Result<Vacuumed> {
        let Some(newest) = self.pinned(table, None).await? else { return Ok(Vacuumed::default()) };
        let Some(history) = newest.state.history.clone() else { return Ok(Vacuumed::default()) };
        newest.state.check_format()?;
        let before = now.minus(Span::from_millis(TABLE_REPLACED_KEPT_MS));
        let log = self.table_root(table).join("_delta_log");
        // The version that stood then; without one the table is younger, and everything in it.
        let Some(stood) = blocking(move || version_at(&log, before)).await? else { return Ok(Vacuumed::default()) };
        let mut needed: HashSet<String> = newest.files.iter().map(|f| f.path.clone()).collect();
        for version in history.ends().filter(|v| *v >= history.since).chain([stood]) {
            // A version whose entry is gone cannot be asked for.
            if self.log_entry(table, version).exists() {
                needed.extend(self.as_written(table, version).await?.files.iter().map(|f| f.path.clone()));
            }
        }
        for version in stood + 1..=newest.version {
            needed.extend(self.added_by(table, version)?);
        }
        let (root, name) = (self.table_root(table), table.clone());
        blocking(move || {
            let goes = |file: &str| !needed.contains(&format!("{name}/{file}")) && version_of(file).is_none_or(|v| v >= history.since);
            remove(&root, before, goes)
        })
        .await
    }

    /// The files that one commit added.
    fn added_by(&self, table: &TableName, version: u64) -> Result<Vec<String>> {
        let path = self.log_entry(table, version);
        let text = std::fs::read_to_string(&path).map_err(|e| Fault::io(format!("read {}", path.display()), e))?;
        let added = |line: &str| -> Option<String> {
            let action: serde_json::Value = serde_json::from_str(line).ok()?;
            Some(format!("{table}/{}", action["add"]["path"].as_str()?))
        };
        Ok(text.lines().filter_map(added).collect())
    }
}

/// The newest version whose commit is older than that.
fn version_at(log: &Path, before: Timestamp) -> Result<Option<u64>> {
    let mut newest = None;
    for entry in entries(log)? {
        let name = entry.file_name();
        let version = name.to_str().and_then(|n| n.strip_suffix(".json")).and_then(|n| n.parse::<u64>().ok());
        if let Some(version) = version.filter(|v| newest.is_none_or(|n| *v > n))
            && written_at(&entry)? < before
        {
            newest = Some(version);
        }
    }
    Ok(newest)
}

fn remove(root: &Path, before: Timestamp, goes: impl Fn(&str) -> bool) -> Result<Vacuumed> {
    let mut done = Vacuumed::default();
    for entry in entries(root)? {
        let name = entry.file_name();
        let Some(name) = name.to_str().filter(|n| is_ours(n)) else { continue };
        if !goes(name) || written_at(&entry)? >= before {
            continue;
        }
        let bytes = entry.metadata().map(|m| m.len()).unwrap_or_default();
        match std::fs::remove_file(entry.path()) {
            Ok(()) => {
                done.files += 1;
                done.bytes += bytes;
            }
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(Fault::io(format!("remove {}", entry.path().display()), error)),
        }
        if done.files as usize >= TABLE_VACUUM_FILES_MAX {
            break;
        }
    }
    Ok(done)
}

/// A data file, or one whose writing was cut off.
fn is_ours(name: &str) -> bool {
    let whole = name.split_once('#').map_or(name, |(whole, _)| whole);
    version_of(whole).is_some()
}

fn entries(folder: &Path) -> Result<Vec<DirEntry>> {
    let failed = |e| Fault::io(format!("list {}", folder.display()), e);
    std::fs::read_dir(folder).map_err(failed)?.collect::<std::io::Result<_>>().map_err(failed)
}

fn written_at(entry: &DirEntry) -> Result<Timestamp> {
    let written = entry.metadata().and_then(|m| m.modified());
    let written = match written {
        Ok(written) => written,
        // It went while we looked.
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Timestamp::from_micros(i64::MAX)),
        Err(error) => return Err(Fault::io(format!("look at {}", entry.path().display()), error)),
    };
    let micros = written.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_micros() as i64);
    Ok(Timestamp::from_micros(micros))
}
