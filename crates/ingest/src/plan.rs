//! What to read: found files held against the record of what the table has. Values in, decision out.
//!
//! The rules, for a source with `time` (events) and one without (a snapshot):
//! - size and modification time as recorded: the file is known, it is not read. Otherwise its digest decides.
//! - events: a new file is read; a known file that grew at its end gives its new rows; a known file whose old content changed is refused, because rows
//!   that features have already seen cannot be taken back in silence. A file that is gone takes nothing with it.
//! - snapshot: any difference in the set of files or their content makes a new load of all of them.
//! - `full`: everything is read again and replaces what is there.

use crate::source::file::{Format, Seen};
use gristmill_kernel::Digest;
use gristmill_kernel::error::{Code, Fault, Result};
use std::collections::BTreeMap;

/// What the commits of a raw table remember; the stored form is this JSON.
#[derive(Debug, Clone, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Note {
    /// Format of the note.
    pub format: u32,
    /// Every file whose rows are in the table.
    pub files: Vec<KnownFile>,
    /// A load that is committed in several parts and is not complete yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub partial: Option<Partial>,
}

/// One file whose rows are in the table.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct KnownFile {
    /// Its name.
    pub path: String,
    /// Its bytes.
    pub size: u64,
    /// Its modification time in microseconds.
    pub mtime: i64,
    /// The digest of its content.
    pub digest: Digest,
    /// How many rows it gave.
    pub rows: u64,
}

/// How far a load in several commits has come.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Partial {
    /// The file being read.
    pub path: String,
    /// The digest of its content.
    pub digest: Digest,
    /// Its rows that are in the table.
    pub rows: u64,
}

impl Note {
    /// The format written and the newest read.
    pub const FORMAT: u32 = 1;

    /// Reads the note of a table; a table without one has read no file.
    pub fn of(note: &serde_json::Value, table: &str) -> Result<Note> {
        if note.is_null() {
            return Ok(Note { format: Note::FORMAT, ..Note::default() });
        }
        let format = note.get("format").and_then(serde_json::Value::as_u64);
        if format.is_some_and(|f| f > u64::from(Note::FORMAT)) {
            return Err(Fault::new(
                gristmill_kernel::Kind::Damaged,
                Code::NEWER_FORMAT,
                format!("the record of loads of {table} was written by a newer gristmill"),
            )
            .fix("use that version or a newer one"));
        }
        serde_json::from_value(note.clone()).map_err(|e| Fault::damaged(format!("the record of loads of {table} cannot be read: {e}")))
    }
    /// The known file of this name.
    pub fn file(&self, path: &str) -> Option<&KnownFile> {
        self.files.iter().find(|f| f.path == path)
    }
    /// Replaces or adds a file.
    pub fn learn(&mut self, file: KnownFile) {
        match self.files.iter_mut().find(|f| f.path == file.path) {
            Some(known) => *known = file,
            None => self.files.push(file),
        }
    }
}

/// Whether loads add up or replace one another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SourceKind {
    /// The source has `time`: loads add up.
    Events,
    /// It has none: each load is the whole.
    Snapshot,
}

/// What was measured of a file that looks other than recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Measured {
    /// The digest of its content.
    pub digest: Digest,
    /// The digest of as many bytes as it had when it was read last, if it is longer now.
    pub beginning: Option<Digest>,
    /// Whether a row ends where its old content ended.
    pub row_ends_there: bool,
}

/// What to read.
#[derive(Debug, Clone, PartialEq)]
pub enum Decision {
    /// Nothing: everything found is in the table.
    Nothing,
    /// These files.
    Read {
        /// The files, in order, with the rows of each that the table has already.
        files: Vec<ToRead>,
        /// Whether they replace what is there.
        replace: bool,
    },
}

/// One file to read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ToRead {
    /// Its place in the list of found files.
    pub index: usize,
    /// Rows at its beginning that the table has.
    pub skip: u64,
}

/// The found files that must be measured before anything can be decided: known ones that look different.
pub fn suspects<'a>(found: &'a [Seen], note: &'a Note) -> impl Iterator<Item = (&'a Seen, &'a KnownFile)> {
    found.iter().filter_map(|seen| {
        let known = note.file(&seen.path)?;
        (known.size != seen.size || known.mtime != seen.mtime).then_some((seen, known))
    })
}

/// Decides.
pub fn decide(kind: SourceKind, full: bool, found: &[Seen], note: &Note, measured: &BTreeMap<String, Measured>) -> Result<Decision> {
    let all = |replace| {
        let files = (0..found.len()).map(|index| ToRead { index, skip: 0 }).collect();
        Ok(Decision::Read { files, replace })
    };
    if full {
        return all(true);
    }
    let changed = |seen: &Seen, known: &KnownFile| measured.get(&seen.path).is_some_and(|m| m.digest != known.digest);
    if kind == SourceKind::Snapshot {
        let same = note.files.len() == found.len() && found.iter().all(|s| note.file(&s.path).is_some_and(|k| !changed(s, k)));
        return if same { Ok(Decision::Nothing) } else { all(false) };
    }
    let mut files = Vec::new();
    for (index, seen) in found.iter().enumerate() {
        match note.file(&seen.path) {
            // A load in several commits that was interrupted goes on in the same file, if it is the same.
            None => match &note.partial {
                Some(partial) if partial.path == seen.path => files.push(ToRead { index, skip: resume(seen, partial, measured)? }),
                _ => files.push(ToRead { index, skip: 0 }),
            },
            Some(known) if !changed(seen, known) => {}
            Some(known) => files.push(ToRead { index, skip: grown(seen, known, measured)? }),
        }
    }
    Ok(if files.is_empty() { Decision::Nothing } else { Decision::Read { files, replace: false } })
}

fn resume(seen: &Seen, partial: &Partial, measured: &BTreeMap<String, Measured>) -> Result<u64> {
    match measured.get(&seen.path) {
        Some(m) if m.digest == partial.digest => Ok(partial.rows),
        _ => Err(Fault::conflict(
            Code::SOURCE_UNREADABLE,
            format!("{} changed while its load was interrupted; {} of its rows are in the table", seen.path, partial.rows),
        )
        .fix("put the old file back and run again, or read everything again with --full")),
    }
}

/// The rows that the table has of a file that grew at its end; any other change is refused.
fn grown(seen: &Seen, known: &KnownFile, measured: &BTreeMap<String, Measured>) -> Result<u64> {
    let text = !matches!(Format::of(&seen.path), Ok(Format::Parquet));
    let grown = text && measured.get(&seen.path).is_some_and(|m| m.beginning == Some(known.digest) && m.row_ends_there);
    if grown {
        return Ok(known.rows);
    }
    let what = if seen.size < known.size { "became shorter" } else { "has other content" };
    Err(Fault::conflict(
        Code::SOURCE_UNREADABLE,
        format!("{} {what} since its {} rows were read, and rows of an event source are not taken back", seen.path, known.rows),
    )
    .fix("put the old content back and write new rows behind it or into a new file, or read everything again with --full"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(path: &str, size: u64, mtime: i64) -> Seen {
        Seen { path: path.into(), full: path.into(), size, mtime }
    }
    fn known(path: &str, size: u64, mtime: i64, content: &str) -> KnownFile {
        KnownFile { path: path.into(), size, mtime, digest: Digest::of(content), rows: 7 }
    }
    fn note(files: Vec<KnownFile>) -> Note {
        Note { format: 1, files, partial: None }
    }
    fn measured(path: &str, content: &str, beginning: Option<&str>, row_ends_there: bool) -> BTreeMap<String, Measured> {
        BTreeMap::from([(path.into(), Measured { digest: Digest::of(content), beginning: beginning.map(Digest::of), row_ends_there })])
    }
    fn skips(decision: Decision) -> Vec<(usize, u64)> {
        match decision {
            Decision::Nothing => vec![],
            Decision::Read { files, .. } => files.into_iter().map(|f| (f.index, f.skip)).collect(),
        }
    }
    use SourceKind::{Events, Snapshot};

    #[test]
    fn what_is_known_is_not_read() {
        let note = note(vec![known("a.csv", 1, 1, "a")]);
        for kind in [Events, Snapshot] {
            let none = BTreeMap::new();
            assert_eq!(decide(kind, false, &[seen("a.csv", 1, 1)], &note, &none).expect("decided"), Decision::Nothing);
            // Touched, with the same content.
            let touched = [seen("a.csv", 1, 2)];
            assert_eq!(suspects(&touched, &note).count(), 1);
            assert_eq!(decide(kind, false, &touched, &note, &measured("a.csv", "a", None, true)).expect("decided"), Decision::Nothing);
            assert_eq!(skips(decide(kind, true, &[seen("a.csv", 1, 1)], &note, &none).expect("decided")), [(0, 0)]);
        }
    }

    #[test]
    fn a_growing_glob_of_events_reads_the_new_files_a_snapshot_all() {
        let note = note(vec![known("a.csv", 1, 1, "a")]);
        let found = [seen("a.csv", 1, 1), seen("b.csv", 1, 1)];
        assert_eq!(skips(decide(Events, false, &found, &note, &BTreeMap::new()).expect("decided")), [(1, 0)]);
        assert_eq!(skips(decide(Snapshot, false, &found, &note, &BTreeMap::new()).expect("decided")), [(0, 0), (1, 0)]);
        // A file that went away.
        assert_eq!(decide(Events, false, &[], &note, &BTreeMap::new()).expect("decided"), Decision::Nothing);
    }

    #[test]
    fn a_file_of_events_may_grow_at_its_end_only() {
        let note = note(vec![known("a.csv", 1, 1, "a")]);
        let found = [seen("a.csv", 2, 2)];
        assert_eq!(skips(decide(Events, false, &found, &note, &measured("a.csv", "ab", Some("a"), true)).expect("grown")), [(0, 7)]);
        for bad in [measured("a.csv", "ab", Some("a"), false), measured("a.csv", "xb", Some("x"), true), measured("a.csv", "x", None, true)]
        {
            let fault = decide(Events, false, &found, &note, &bad).expect_err("refused");
            assert!(fault.fix.as_deref().expect("a fix").contains("--full"), "{fault}");
        }
        assert_eq!(skips(decide(Snapshot, false, &found, &note, &measured("a.csv", "x", None, true)).expect("a new snapshot")), [(0, 0)]);
    }

    #[test]
    fn an_interrupted_load_goes_on() {
        let mut note = note(vec![]);
        note.partial = Some(Partial { path: "a.csv".into(), digest: Digest::of("a"), rows: 3 });
        let found = [seen("a.csv", 1, 1)];
        assert_eq!(skips(decide(Events, false, &found, &note, &measured("a.csv", "a", None, true)).expect("goes on")), [(0, 3)]);
        assert!(decide(Events, false, &found, &note, &measured("a.csv", "b", None, true)).is_err());
    }

    #[test]
    fn a_newer_note_is_refused_in_one_sentence() {
        assert_eq!(Note::of(&serde_json::json!({"format": 2}), "raw__x").expect_err("newer").code, Code::NEWER_FORMAT);
        let note = note(vec![known("a.csv", 1, 1, "a")]);
        assert_eq!(Note::of(&serde_json::to_value(&note).expect("json"), "raw__x").expect("round trip"), note);
        assert_eq!(Note::of(&serde_json::Value::Null, "raw__x").expect("none").files, []);
    }
}
