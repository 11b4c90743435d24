//! Conditions: a SQL boolean, everywhere. Over the rows of a source (`expect`), over the metrics of a run (`gates`),
//! over live figures (`abort`, `drift`, `when`). The engine evaluates them; here are only the figures they see.

use std::collections::BTreeMap;

/// Named numbers and words that a condition may use. A dot in a name is a qualifier: `champion.auc`, `worst.auc`.
/// A figure that is missing or NaN is NULL, and a condition that comes out NULL is inconclusive, never passed.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Figures(pub BTreeMap<String, Figure>);

/// One figure.
#[derive(Debug, Clone, PartialEq)]
pub enum Figure {
    /// A number; NaN is read as NULL.
    Number(f64),
    /// A truth.
    Bool(bool),
    /// A word.
    Text(String),
    /// Known by name, without a value now.
    Missing,
}

impl Figures {
    /// Adds a number.
    pub fn number(&mut self, name: impl Into<String>, value: f64) {
        self.0.insert(name.into(), Figure::Number(value));
    }
    /// Adds a name without a value.
    pub fn missing(&mut self, name: impl Into<String>) {
        self.0.insert(name.into(), Figure::Missing);
    }
    /// The number behind a name, if it has one.
    pub fn get(&self, name: &str) -> Option<f64> {
        match self.0.get(name) {
            Some(Figure::Number(n)) if !n.is_nan() => Some(*n),
            _ => None,
        }
    }
}

/// What a condition over figures came to.
#[derive(Debug, Clone, PartialEq)]
pub struct Judged {
    /// `None` when a figure it needs has no value.
    pub holds: Option<bool>,
    /// The figures it used, for people: `auc = 0.773, champion.auc = 0.771`.
    pub observed: String,
}
