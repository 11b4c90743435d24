//! Statements whose text depends on what is asked: text and values grow together, and only text of this crate enters.

use super::super::open::fault;
use gristmill_kernel::{Code, Fault, Result};
use sqlx::sqlite::{SqliteArguments, SqliteConnection, SqliteRow};
use sqlx::{Arguments as _, AssertSqlSafe};
use std::sync::Arc;

/// SQLite takes 32,766 values in one statement.
const VALUES_MAX: usize = 30_000;

/// A value of a statement.
#[derive(Debug, Clone)]
pub(in super::super) enum Arg {
    Null,
    Int(i64),
    Float(f64),
    Text(Arc<str>),
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
        Arg::Text(value.into())
    }
}
impl From<&str> for Arg {
    fn from(value: &str) -> Arg {
        Arg::Text(value.into())
    }
}
impl From<Arc<str>> for Arg {
    fn from(value: Arc<str>) -> Arg {
        Arg::Text(value)
    }
}
impl<A: Into<Arg>> From<Option<A>> for Arg {
    fn from(value: Option<A>) -> Arg {
        value.map_or(Arg::Null, Into::into)
    }
}

/// A statement that is prepared once and run with other values each time.
pub(in super::super) struct Statement {
    pub(super) text: Arc<str>,
    pub(super) values: Vec<Arg>,
}

/// Runs statements one after the other.
pub(in super::super) async fn run(db: &mut SqliteConnection, what: &str, statements: impl Iterator<Item = Statement>) -> Result<()> {
    for statement in statements {
        let query = sqlx::query_with(AssertSqlSafe(statement.text), bound(&statement.values, what)?);
        query.execute(&mut *db).await.map_err(|e| fault(what, e))?;
    }
    Ok(())
}

fn bound(values: &[Arg], what: &str) -> Result<SqliteArguments> {
    let mut bound = SqliteArguments::default();
    bound.reserve(values.len(), 0);
    for value in values {
        match value {
            Arg::Null => bound.add(None::<i64>),
            Arg::Int(value) => bound.add(*value),
            Arg::Float(value) => bound.add(*value),
            Arg::Text(value) => bound.add(Arc::clone(value)),
        }
        .map_err(|e| fault(what, sqlx::Error::Encode(e)))?;
    }
    Ok(bound)
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
    /// Refuses what SQLite would.
    pub(super) fn must_fit(&self) -> Result<()> {
        if self.values.len() > VALUES_MAX {
            return Err(
                Fault::invalid(Code::BAD_FILTER, format!("a search has at most {VALUES_MAX} values")).fix("search in several steps")
            );
        }
        Ok(())
    }
    /// Every row of the answer.
    pub(super) async fn rows(&self, db: &mut SqliteConnection, what: &str) -> Result<Vec<SqliteRow>> {
        self.must_fit()?;
        let query = sqlx::query_with(AssertSqlSafe(self.text.as_str()), bound(&self.values, what)?);
        query.fetch_all(db).await.map_err(|e| fault(what, e))
    }
    /// Its text, with a `?` for each value.
    pub(super) fn told(&self) -> &str {
        &self.text
    }
    /// Its values, in the order of their places.
    pub(super) fn values(&self) -> &[Arg] {
        &self.values
    }
}
