//! What every commit says about its table, kept in Delta's `commitInfo` under [`KEY`].
//!
//! Invariant: the newest commit's state alone describes the table. Format 1 is read for ever; a newer one is refused.

use gristmill_kernel::error::{Code, Fault, Kind, Result};
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
}

impl State {
    /// The format this binary writes and the newest it reads.
    pub const FORMAT: u32 = 1;

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
        assert_eq!(State::from_log_entry("{\"commitInfo\":{}}"), None);
    }
}
