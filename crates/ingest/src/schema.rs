//! The columns of a source: their names, and the types that incoming ones are widened to. Event time columns are always [`ColumnType::Time`].

use crate::spec::{Column, SourceSpec};
use arrow::datatypes::{Field, Schema, SchemaRef};
pub use gristmill_kernel::column::ColumnType;
use gristmill_kernel::error::{Code, Fault, Result};
use gristmill_kernel::limits::SOURCE_COLUMNS_MAX;
use gristmill_kernel::table::SYSTEM_COLUMNS;
use std::collections::BTreeSet;
use std::sync::Arc;

/// The columns of a source, in order. Names are unique and none of ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Columns(Vec<(String, ColumnType)>);

impl Columns {
    /// Checks and takes columns; `whose` names the file or source in errors.
    pub fn new(columns: Vec<(String, ColumnType)>, whose: &str) -> Result<Columns> {
        check_names(columns.iter().map(|(name, _)| name.as_str()), whose)?;
        Ok(Columns(columns))
    }
    /// The columns pinned in the lock file, if any.
    pub fn pinned(spec: &SourceSpec) -> Result<Option<Columns>> {
        let Some(columns) = &spec.columns else { return Ok(None) };
        let columns = columns.iter().map(|c| Ok((c.name.clone(), ColumnType::from_word(&c.kind)?))).collect::<Result<Vec<_>>>()?;
        Columns::new(columns, &format!("sources.{} in gristmill.lock", spec.name)).map(Some)
    }
    /// The columns of a table's schema.
    pub fn of_schema(schema: &Schema) -> Result<Columns> {
        let column = |field: &Arc<Field>| {
            let kind = ColumnType::of_arrow(field.data_type())
                .ok_or_else(|| Fault::damaged(format!("column `{}` has type {}, which no source has", field.name(), field.data_type())))?;
            Ok((field.name().clone(), kind))
        };
        let own = schema.fields().iter().filter(|f| !SYSTEM_COLUMNS.contains(&f.name().as_str()));
        Ok(Columns(own.map(column).collect::<Result<_>>()?))
    }
    /// Names and types, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, ColumnType)> {
        self.0.iter().map(|(name, kind)| (name.as_str(), *kind))
    }
    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
    /// Where a column stands.
    pub fn position(&self, name: &str) -> Option<usize> {
        self.0.iter().position(|(n, _)| n == name)
    }
    /// The column at a place.
    pub fn at(&self, index: usize) -> (&str, ColumnType) {
        (&self.0[index].0, self.0[index].1)
    }
    /// The names for a message: `a`, `b`.
    pub fn names(&self) -> String {
        self.0.iter().map(|(name, _)| format!("`{name}`")).collect::<Vec<_>>().join(", ")
    }
    /// The schema of the table.
    pub fn schema(&self) -> SchemaRef {
        Arc::new(Schema::new(self.0.iter().map(|(name, kind)| Field::new(name, kind.arrow(), true)).collect::<Vec<_>>()))
    }
    /// As the lock file writes them.
    pub fn to_spec(&self) -> Vec<Column> {
        self.iter().map(|(name, kind)| Column { name: name.to_owned(), kind: kind.to_string() }).collect()
    }
    /// Makes the event time column a time; a column that cannot be one is refused.
    pub fn with_time(mut self, spec: &SourceSpec, whose: &str) -> Result<Columns> {
        let Some(time) = &spec.time else { return Ok(self) };
        let Some(index) = self.position(time) else {
            let near = nearest(time, self.iter().map(|(name, _)| name)).map(|n| format!("did you mean `{n}`? ")).unwrap_or_default();
            return Err(Fault::invalid(
                Code::SCHEMA_MISMATCH,
                format!("{whose} has no column `{time}`, which sources.{} names as its time", spec.name),
            )
            .fix(format!("{near}its columns are {}", self.names())));
        };
        match self.0[index].1 {
            ColumnType::Time | ColumnType::Date => self.0[index].1 = ColumnType::Time,
            other => {
                return Err(Fault::invalid(
                    Code::WRONG_TYPE,
                    format!("column `{time}` of {whose} is {other}, but sources.{} names it as its time", spec.name),
                )
                .fix("an event time is a timestamp column, or text such as 2011-09-01T12:00:00Z; name another column in `time`"));
            }
        }
        Ok(self)
    }
}

/// Refuses names that are empty, doubled, or ours.
pub fn check_names<'a>(names: impl Iterator<Item = &'a str>, whose: &str) -> Result<()> {
    let mut seen = BTreeSet::new();
    for (index, name) in names.enumerate() {
        let mismatch = |what: String, fix: &str| Err(Fault::invalid(Code::SCHEMA_MISMATCH, what).fix(fix));
        if index >= SOURCE_COLUMNS_MAX {
            return mismatch(format!("{whose} has more than {SOURCE_COLUMNS_MAX} columns"), "leave out the columns that nothing reads");
        }
        if name.is_empty() {
            return mismatch(format!("column {} of {whose} has no name", index + 1), "give every column a name in the header");
        }
        if SYSTEM_COLUMNS.contains(&name) || name == crate::journal::REPLAY_KEY {
            return mismatch(format!("column `{name}` of {whose} has a name that gristmill keeps for itself"), "rename the column");
        }
        if !seen.insert(name) {
            return mismatch(format!("column `{name}` of {whose} appears twice"), "rename one of the two columns");
        }
    }
    Ok(())
}

/// The name a misspelt one was probably meant to be.
pub fn nearest<'a>(name: &str, among: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    among.map(|n| (strsim::jaro_winkler(name, n), n)).filter(|(s, _)| *s > 0.8).max_by(|a, b| a.0.total_cmp(&b.0)).map(|(_, n)| n)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_checked() {
        for (bad, word) in [(vec!["a", "a"], "twice"), (vec!["_load"], "keeps for itself"), (vec!["a", ""], "no name")] {
            let fault = check_names(bad.into_iter(), "x.csv").expect_err("refused");
            assert_eq!(fault.code, Code::SCHEMA_MISMATCH);
            assert!(fault.message.contains(word), "{fault}");
        }
    }
}
