//! Reading stored rows: a value that cannot be true is damage, named by table, column and row.

use gristmill_kernel::{Fault, Result, Timestamp, VersionRef};
use serde::de::DeserializeOwned;
use sqlx::sqlite::{Sqlite, SqliteRow};
use sqlx::{Decode, Row, Type};
use std::fmt;
use std::str::FromStr;

/// A value by its position, for lists of thousands of rows: nothing is made unless it is damage.
pub(super) fn at<'r, T: Decode<'r, Sqlite> + Type<Sqlite>>(
    row: &'r SqliteRow,
    index: usize,
    table: &'static str,
    column: &'static str,
) -> Result<T> {
    row.try_get(index).map_err(|e| {
        Fault::damaged(format!("ledger table `{table}`, column `{column}`: {e}"))
            .fix("restore the ledger from a backup; `gristmill doctor` lists what is damaged")
    })
}

/// One row of a table while it is decoded.
pub(super) struct Cells<'r> {
    row: &'r SqliteRow,
    table: &'static str,
    key: String,
}

impl<'r> Cells<'r> {
    /// `key` names the row for people.
    pub(super) fn new(row: &'r SqliteRow, table: &'static str, key: impl fmt::Display) -> Cells<'r> {
        Cells { row, table, key: key.to_string() }
    }
    /// A row named by its own key column.
    pub(super) fn keyed(row: &'r SqliteRow, table: &'static str, key: &'static str) -> Result<Cells<'r>> {
        let mut cells = Cells::new(row, table, "?");
        cells.key = match cells.maybe_text(key) {
            Ok(text) => text.unwrap_or_else(|| "NULL".into()),
            Err(_) => cells.int(key)?.to_string(),
        };
        Ok(cells)
    }
    pub(super) fn damage(&self, column: &str, why: impl fmt::Display) -> Fault {
        Fault::damaged(format!("ledger table `{}`, column `{column}`, row `{}`: {why}", self.table, self.key))
            .fix("restore the ledger from a backup; `gristmill doctor` lists what is damaged")
    }
    pub(super) fn maybe_text(&self, column: &str) -> Result<Option<String>> {
        self.row.try_get(column).map_err(|e| self.damage(column, e))
    }
    pub(super) fn text(&self, column: &str) -> Result<String> {
        self.maybe_text(column)?.ok_or_else(|| self.damage(column, "there is no value"))
    }
    pub(super) fn maybe_int(&self, column: &str) -> Result<Option<i64>> {
        self.row.try_get(column).map_err(|e| self.damage(column, e))
    }
    pub(super) fn int(&self, column: &str) -> Result<i64> {
        self.maybe_int(column)?.ok_or_else(|| self.damage(column, "there is no value"))
    }
    pub(super) fn maybe_count(&self, column: &str) -> Result<Option<u64>> {
        let value = self.maybe_int(column)?;
        value.map(|n| u64::try_from(n).map_err(|_| self.damage(column, format_args!("{n} is negative")))).transpose()
    }
    pub(super) fn count(&self, column: &str) -> Result<u64> {
        self.maybe_count(column)?.ok_or_else(|| self.damage(column, "there is no value"))
    }
    /// NULL is NaN: SQL databases do not agree on storing it.
    pub(super) fn float(&self, column: &str) -> Result<f64> {
        let value: Option<f64> = self.row.try_get(column).map_err(|e| self.damage(column, e))?;
        Ok(value.unwrap_or(f64::NAN))
    }
    pub(super) fn maybe_time(&self, column: &str) -> Result<Option<Timestamp>> {
        Ok(self.maybe_int(column)?.map(Timestamp::from_micros))
    }
    pub(super) fn time(&self, column: &str) -> Result<Timestamp> {
        self.int(column).map(Timestamp::from_micros)
    }
    pub(super) fn parse<T: FromStr<Err = Fault>>(&self, column: &str) -> Result<T> {
        self.text(column)?.parse().map_err(|e: Fault| self.damage(column, e.message))
    }
    /// A word of a closed list, as the kernel spells it.
    pub(super) fn word<T: DeserializeOwned>(&self, column: &str) -> Result<T> {
        let word = self.text(column)?;
        serde_json::from_value(serde_json::Value::String(word)).map_err(|e| self.damage(column, e))
    }
    pub(super) fn maybe_word<T: DeserializeOwned>(&self, column: &str) -> Result<Option<T>> {
        if self.maybe_text(column)?.is_none() {
            return Ok(None);
        }
        self.word(column).map(Some)
    }
    pub(super) fn json<T: DeserializeOwned>(&self, column: &str) -> Result<T> {
        serde_json::from_str(&self.text(column)?).map_err(|e| self.damage(column, e))
    }
    pub(super) fn maybe_json<T: DeserializeOwned>(&self, column: &str) -> Result<Option<T>> {
        if self.maybe_text(column)?.is_none() {
            return Ok(None);
        }
        self.json(column).map(Some)
    }
    pub(super) fn version_ref(&self) -> Result<VersionRef> {
        Ok(VersionRef { asset: self.parse("asset")?, number: self.count("number")? })
    }
}
