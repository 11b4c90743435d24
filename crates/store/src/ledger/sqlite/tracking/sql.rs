//! Statements whose text depends on what is asked: text and values grow together, and only text of this crate enters.

use super::super::open::fault;
use gristmill_kernel::{Code, Fault, Result};
use sqlx::AssertSqlSafe;
use sqlx::sqlite::{SqliteConnection, SqliteRow};

/// SQLite takes 32,766 values in one statement.
const VALUES_MAX: usize = 30_000;

#[derive(Debug, Clone)]
pub(super) enum Arg {
    Int(i64),
    Float(f64),
    Text(String),
}

impl From<i64> for Arg {
    fn from(value: i64) -> Arg {
        Arg::Int(value)
    }
}
impl From<f64> for Arg {
    fn from(value: f64) -> Arg {
        Arg::Float(value)
    }
}
impl From<String> for Arg {
    fn from(value: String) -> Arg {
        Arg::Text(value)
    }
}
impl From<&str> for Arg {
    fn from(value: &str) -> Arg {
        Arg::Text(value.to_owned())
    }
}

/// A statement, or a part of one.
#[derive(Debug, Clone, Default)]
pub(super) struct Sql {
    text: String,
    values: Vec<Arg>,
}

impl Sql {
    pub(super) fn new(text: &str) -> Sql {
        Sql { text: text.to_owned(), values: Vec::new() }
    }
    /// Adds text.
    pub(super) fn text(&mut self, text: &str) -> &mut Sql {
        self.text.push_str(text);
        self
    }
    /// Adds a placeholder and its value.
    pub(super) fn value(&mut self, value: impl Into<Arg>) -> &mut Sql {
        self.text.push('?');
        self.values.push(value.into());
        self
    }
    /// Adds `(?,?,...)`.
    pub(super) fn list<A: Into<Arg>>(&mut self, values: impl IntoIterator<Item = A>) -> &mut Sql {
        self.text.push('(');
        for (i, value) in values.into_iter().enumerate() {
            if i > 0 {
                self.text.push(',');
            }
            self.value(value);
        }
        self.text.push(')');
        self
    }
    /// Adds another part.
    pub(super) fn part(&mut self, part: &Sql) -> &mut Sql {
        self.text.push_str(&part.text);
        self.values.extend(part.values.iter().cloned());
        self
    }
    /// Every row of the answer.
    pub(super) async fn rows(&self, db: &mut SqliteConnection, what: &str) -> Result<Vec<SqliteRow>> {
        if self.values.len() > VALUES_MAX {
            return Err(
                Fault::invalid(Code::BAD_FILTER, format!("a search has at most {VALUES_MAX} values")).fix("search in several steps")
            );
        }
        let mut query = sqlx::query(AssertSqlSafe(self.text.as_str()));
        for value in &self.values {
            query = match value {
                Arg::Int(value) => query.bind(*value),
                Arg::Float(value) => query.bind(*value),
                Arg::Text(value) => query.bind(value.as_str()),
            };
        }
        query.fetch_all(db).await.map_err(|e| fault(what, e))
    }
    #[cfg(test)]
    pub(super) fn told(&self) -> &str {
        &self.text
    }
}
