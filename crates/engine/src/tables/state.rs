//! What every commit says about its table, kept in Delta's `commitInfo` under [`KEY`].
//!
//! Invariant: the newest commit's state alone describes the table. Formats 1 and 2 are read for ever; a newer one is refused.
//!
//! A version is most often a *prefix* of those after it: its rows are theirs up to its highest load. [`History`] says where that ends, so that an old
//! version can be read from files that were written after it, and its own may go.

use gristmill_kernel::error::{Code, Fault, Kind, Result};
use gristmill_kernel::limits::TABLE_BREAKS_MAX;
use serde_json::Value;
use std::collections::BTreeMap;

/// The key in `commitInfo`.
pub const KEY: &str = "gristmill";

/// A table after one commit.
#[derive(Debug, Clone, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct State {
    /// The format of this record.
    pub format: u32,
    /// Rises with every overwrite.
    pub generation: u64,
    /// Rows in the table.
    pub rows: u64,
    /// The highest load number given or seen.
    pub last_load: i64,
    /// How far each stream has come.
    pub positions: BTreeMap<String, i64>,
    /// The note of the last commit that carried one.
    #[serde(default)]
    pub note: Value,
    /// Which versions are prefixes of later ones; `None` if none is.
    #[serde(default)]
    pub history: Option<History>,
    /// How often files were rewritten.
    #[serde(default)]
    pub rewrites: u64,
    /// In a rewrite: the version of the last write. A write says nothing, it is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub written: Option<u64>,
    /// The columns by which files are sorted, by the mark in their names.
    #[serde(default)]
    pub orders: BTreeMap<String, Vec<String>>,
}

/// Which versions are prefixes of later ones.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct History {
    /// Nothing is known of the versions before this one.
    pub since: u64,
    /// Versions that are no continuation of the one before them: the table was overwritten, or rows of an earlier load came in.
    #[serde(default)]
    pub breaks: Vec<u64>,
}

impl History {
    /// Nothing is known of the versions before this one.
    pub fn new(since: u64) -> History {
        History { since, breaks: Vec::new() }
    }
    /// The last version that begins with the rows of `version`; `None` if it must be read as it was written.
    pub fn end_of(&self, version: u64, newest: u64) -> Option<u64> {
        if version < self.since {
            return None;
        }
        Some(self.breaks.iter().find(|b| **b > version).map_or(newest, |b| b - 1))
    }
    /// The versions before each break.
    pub fn ends(&self) -> impl Iterator<Item = u64> {
        self.breaks.iter().map(|b| b - 1)
    }
    /// This version does not continue the one before it.
    pub fn broken(&mut self, version: u64) {
        if version > self.since {
            self.breaks.push(version);
        }
        while self.breaks.len() > TABLE_BREAKS_MAX {
            self.since = self.breaks.remove(0);
        }
    }
}

impl State {
    /// The format this binary writes and the newest it reads.
    pub const FORMAT: u32 = 2;

    /// As the commit carries it.
    pub fn to_json(&self) -> Result<Value> {
        serde_json::to_value(self).map_err(|e| Fault::internal("a table's state does not serialise").because(e))
    }

    /// From the text of a log entry; `None` if it is not ours.
    pub fn from_log_entry(text: &str) -> Option<State> {
        text.lines().find_map(|line| {
            let mut action: Value = serde_json::from_str(line).ok()?;
            serde_json::from_value(action.get_mut("commitInfo")?.get_mut(KEY)?.take()).ok()
        })
    }

    /// Refuses what a newer binary wrote.
    pub fn check_format(&self) -> Result<()> {
        if self.format > State::FORMAT {
            return Err(Fault::new(Kind::Invalid, Code::NEWER_FORMAT, "the table was written by a newer version of gristmill")
                .fix("update gristmill"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Format 1 as it was first written: never change this text.
    const GOLDEN: &str = r#"{"commitInfo":{"timestamp":1,"operation":"WRITE","gristmill":{"format":1,"generation":2,"rows":3,"last_load":4,"positions":{"files":5},"note":{"a":1}}}}
{"add":{"path":"x.parquet"}}"#;

    #[test]
    fn format_1_opens() {
        let state = State::from_log_entry(GOLDEN).expect("a state");
        assert_eq!((state.generation, state.rows, state.last_load), (2, 3, 4));
        assert_eq!(state.positions["files"], 5);
        assert_eq!(state.note["a"], 1);
        assert!(state.check_format().is_ok());
        assert_eq!((state.history, state.rewrites), (None, 0), "nothing is known of its versions");
        assert_eq!(State::from_log_entry("{\"commitInfo\":{}}"), None);
    }

    /// Format 2 as it was first written: never change this text.
    const GOLDEN_2: &str = r#"{"commitInfo":{"timestamp":1,"operation":"OPTIMIZE","gristmill":{"format":2,"generation":2,"rows":3,"last_load":4,"positions":{"files":5},"note":null,"history":{"since":0,"breaks":[7]},"rewrites":3,"written":8,"orders":{"0a1b2c3d":["id","at","_load","_row"]}}}}"#;

    #[test]
    fn format_2_opens() {
        let state = State::from_log_entry(GOLDEN_2).expect("a state");
        assert!(state.check_format().is_ok());
        assert_eq!(state.history, Some(History { since: 0, breaks: vec![7] }));
        assert_eq!((state.rewrites, state.written, state.orders["0a1b2c3d"].len()), (3, Some(8), 4));
        let newer = State { format: 3, ..state };
        assert_eq!(newer.check_format().expect_err("refused").code, Code::NEWER_FORMAT);
    }

    #[test]
    fn versions_are_prefixes_up_to_the_next_break() {
        let mut history = History::new(3);
        assert_eq!((history.end_of(2, 9), history.end_of(3, 9), history.end_of(9, 9)), (None, Some(9), Some(9)));
        history.broken(3);
        assert!(history.breaks.is_empty(), "it begins there anyway");
        history.broken(6);
        assert_eq!((history.end_of(3, 9), history.end_of(5, 9), history.end_of(6, 9)), (Some(5), Some(5), Some(9)));
        (10..10 + TABLE_BREAKS_MAX as u64).for_each(|version| history.broken(version));
        assert_eq!((history.since, history.breaks.len()), (6, TABLE_BREAKS_MAX), "the oldest is forgotten");
        assert_eq!((history.end_of(5, 99), history.end_of(6, 99)), (None, Some(9)), "and what was before it keeps its own files");
    }
}
