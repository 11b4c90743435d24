//! `gristmill.lock`: the columns of every source, pinned. Written by the tool, committed by people, so that a change upstream
//! is a diff to review.
//!
//! Invariant: reading what was written gives the same lock; one column per line, in the source's order.

use crate::text::Text;
use arrow::datatypes::{DataType, Schema};
use gristmill_ingest::spec::Column;
use gristmill_kernel::column::ColumnType;
use gristmill_kernel::{Code, Fault, Name, Result};
use std::collections::BTreeMap;
use std::path::Path;

/// The file's name.
pub const FILE: &str = "gristmill.lock";
const VERSION: u32 = 1;

/// Pinned columns by source.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Lock {
    /// The columns of each source, in order.
    pub sources: BTreeMap<Name, Vec<Column>>,
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    version: u32,
    #[serde(default)]
    sources: BTreeMap<Name, StoredSource>,
}
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct StoredSource {
    columns: Vec<Column>,
}

/// How one column differs from its pin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ColumnChange {
    /// New upstream.
    Added(Column),
    /// Gone upstream.
    Removed(Column),
    /// Of another type: pinned, found.
    Retyped(Column, Column),
}

impl std::fmt::Display for ColumnChange {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            ColumnChange::Added(c) => write!(f, "+ {} {}", c.name, c.kind),
            ColumnChange::Removed(c) => write!(f, "- {} {}", c.name, c.kind),
            ColumnChange::Retyped(old, new) => write!(f, "~ {} {} -> {}", old.name, old.kind, new.kind),
        }
    }
}

impl Lock {
    /// Reads the lock of a project folder; none is an empty lock.
    pub fn load(dir: &Path) -> Result<Lock> {
        match std::fs::read_to_string(dir.join(FILE)) {
            Ok(text) => Lock::parse(&text),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(Lock::default()),
            Err(e) => Err(Fault::io(format!("read {FILE}"), e)),
        }
    }
    /// Reads a lock's text.
    pub fn parse(text: &str) -> Result<Lock> {
        let text = Text::new(FILE, text);
        let (stored, _) = crate::read::other_file::<Stored>(&text).map_err(|mut faults| {
            let fault = faults.swap_remove(0);
            fault.fix(format!("take {FILE} back from version control, or delete it and run gristmill check --lock"))
        })?;
        if stored.version > VERSION {
            return Err(Fault::invalid(
                Code::NEWER_FORMAT,
                format!("{FILE} has version {}, this binary reads up to {VERSION}", stored.version),
            )
            .fix("use a newer gristmill"));
        }
        let lock = Lock { sources: stored.sources.into_iter().map(|(name, s)| (name, s.columns)).collect() };
        for (source, columns) in &lock.sources {
            if let Some(bad) = columns.iter().find(|c| arrow_type(&c.kind).is_none()) {
                let at = text.word(&bad.kind, text.word(source.as_str(), 0).map_or(0, |s| s.end)).unwrap_or(0..0);
                return Err(Fault::invalid(
                    Code::BAD_VALUE,
                    format!("column {} of {source} has the unknown type `{}`", bad.name, bad.kind),
                )
                .fix("types are bool, int, float, text, time, date, binary, decimal(P,S)")
                .at(text.spot(at)));
            }
        }
        Ok(lock)
    }
    /// The lock's text.
    pub fn to_text(&self) -> String {
        let mut text = String::from(
            "# Written by gristmill: the columns of every source as first seen. Commit it; a change upstream then shows as a diff.\n\
             # To accept a change, run: gristmill check --lock\n",
        );
        text.push_str(&format!("version = {VERSION}\n"));
        for (source, columns) in &self.sources {
            text.push_str(&format!("\n[sources.{source}]\ncolumns = [\n"));
            for column in columns {
                let name = toml::Value::String(column.name.clone());
                text.push_str(&format!("  {{ name = {name}, type = \"{}\" }},\n", column.kind));
            }
            text.push_str("]\n");
        }
        text
    }
    /// Writes the lock into a project folder: whole or not at all.
    pub fn save(&self, dir: &Path) -> Result<()> {
        let (new, path) = (dir.join(format!("{FILE}.new")), dir.join(FILE));
        std::fs::write(&new, self.to_text()).map_err(|e| Fault::io(format!("write {FILE}"), e))?;
        std::fs::rename(&new, &path).map_err(|e| Fault::io(format!("write {FILE}"), e))
    }
    /// How columns found upstream differ from the pinned ones; nothing if the source is not pinned.
    pub fn compare(&self, source: &Name, found: &[Column]) -> Vec<ColumnChange> {
        let Some(pinned) = self.sources.get(source) else { return Vec::new() };
        let mut changes = Vec::new();
        for old in pinned {
            match found.iter().find(|c| c.name == old.name) {
                None => changes.push(ColumnChange::Removed(old.clone())),
                Some(new) if new.kind != old.kind => changes.push(ColumnChange::Retyped(old.clone(), new.clone())),
                Some(_) => {}
            }
        }
        let added = found.iter().filter(|c| pinned.iter().all(|p| p.name != c.name));
        changes.extend(added.cloned().map(ColumnChange::Added));
        changes
    }
    /// The error of a changed source, `None` if it is as pinned.
    pub fn verify(&self, source: &Name, found: &[Column]) -> Option<Fault> {
        let changes = self.compare(source, found);
        if changes.is_empty() {
            return None;
        }
        let list: Vec<String> = changes.iter().map(ColumnChange::to_string).collect();
        Some(
            Fault::invalid(Code::SCHEMA_CHANGED, format!("sources.{source} is not as pinned in {FILE}: {}", list.join(", ")))
                .fix(format!("if this is meant, run gristmill check --lock and commit {FILE}; if not, ask whoever writes the source")),
        )
    }
    /// The pinned columns as an arrow schema.
    pub fn schema(&self, source: &Name) -> Option<Schema> {
        let columns = self.sources.get(source)?;
        let fields = columns.iter().filter_map(|c| Some(arrow::datatypes::Field::new(&c.name, arrow_type(&c.kind)?, true)));
        Some(Schema::new(fields.collect::<Vec<_>>()))
    }
}

/// The type behind a word of the lock.
pub fn arrow_type(word: &str) -> Option<DataType> {
    ColumnType::from_word(word).ok().map(ColumnType::arrow)
}

/// The word for a type, `None` for a type that tables do not have.
pub fn type_word(kind: &DataType) -> Option<String> {
    ColumnType::exactly(kind).map(|kind| kind.to_string())
}

/// The columns of a schema as the lock has them; our own columns are left out.
pub fn columns_of(schema: &Schema) -> Vec<Column> {
    let ours = gristmill_kernel::table::SYSTEM_COLUMNS;
    let fields = schema.fields().iter().filter(|f| !ours.contains(&f.name().as_str()));
    fields.filter_map(|f| Some(Column { name: f.name().clone(), kind: type_word(f.data_type())? })).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn column(name: &str, kind: &str) -> Column {
        Column { name: name.into(), kind: kind.into() }
    }
    fn lock() -> Lock {
        let columns = vec![column("invoice", "text"), column("a \"b\"", "decimal(10,2)"), column("at", "time")];
        Lock { sources: BTreeMap::from([(Name::new("invoices").expect("a name"), columns)]) }
    }

    #[test]
    fn what_was_written_is_read() {
        let lock = lock();
        assert_eq!(Lock::parse(&lock.to_text()).expect("a lock"), lock);
        let folder = tempfile::tempdir().expect("a folder");
        assert_eq!(Lock::load(folder.path()).expect("none"), Lock::default());
        lock.save(folder.path()).expect("saved");
        assert_eq!(Lock::load(folder.path()).expect("some"), lock);
        let schema = lock.schema(&Name::new("invoices").expect("a name")).expect("a schema");
        assert_eq!(columns_of(&schema), lock.sources.values().next().expect("columns").clone());
    }

    #[test]
    fn a_change_upstream_is_a_diff() {
        let source = Name::new("invoices").expect("a name");
        let found = [column("invoice", "int"), column("at", "time"), column("new", "text")];
        let fault = lock().verify(&source, &found).expect("a fault");
        assert_eq!(fault.code, Code::SCHEMA_CHANGED);
        assert_eq!(
            fault.message,
            "sources.invoices is not as pinned in gristmill.lock: ~ invoice text -> int, - a \"b\" decimal(10,2), + new text"
        );
        assert!(lock().verify(&Name::new("other").expect("a name"), &found).is_none());
    }

    #[test]
    fn a_newer_lock_is_refused() {
        assert_eq!(Lock::parse("version = 9").expect_err("newer").code, Code::NEWER_FORMAT);
        assert_eq!(
            Lock::parse("version = 1\n[sources.a]\ncolumns = [{ name = \"x\", type = \"blob\" }]").expect_err("type").code,
            Code::BAD_VALUE
        );
    }
}
