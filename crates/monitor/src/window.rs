//! A window of predictions, kept as counts while the rows go by: its size does not depend on the number of rows.

use gristmill_kernel::model::{ModelFile, Reference};
use serde_json::Value;
use std::collections::BTreeMap;

/// The name of the score among the columns.
pub const SCORE: &str = "score";

/// One column of a window.
#[derive(Debug, Clone, PartialEq)]
pub struct Column {
    /// Rows seen.
    pub rows: u64,
    /// Rows without a value: NULL, absent, NaN, or of a type the reference does not have.
    pub missing: u64,
    /// The values.
    pub counts: Counts,
}

/// The values of a column, counted in the shape of its reference.
#[derive(Debug, Clone, PartialEq)]
pub enum Counts {
    /// A number or boolean.
    Number {
        /// Rows per bin of the reference.
        bins: Vec<u64>,
        /// The distinct values of the reference's sample.
        points: Vec<f64>,
        /// `cells[2 i + 1]`: rows equal to point i; `cells[2 i]`: rows between it and the point before; the last: rows above all.
        cells: Vec<u64>,
    },
    /// A category.
    Category {
        /// Rows per word that the reference knows.
        words: BTreeMap<String, u64>,
        /// Rows with other words.
        other: u64,
    },
}

impl Column {
    /// An empty column in the shape of its reference.
    pub fn new(reference: &Reference) -> Column {
        let counts = match reference {
            Reference::Number { edges, sample, .. } => {
                let mut points = sample.clone();
                points.dedup();
                Counts::Number { bins: vec![0; edges.len() + 1], cells: vec![0; 2 * points.len() + 1], points }
            }
            Reference::Category { .. } => Counts::Category { words: BTreeMap::new(), other: 0 },
        };
        Column { rows: 0, missing: 0, counts }
    }

    /// Counts one value.
    pub fn add(&mut self, value: &Value, reference: &Reference) {
        self.rows += 1;
        let known = match (&mut self.counts, reference) {
            (Counts::Number { bins, points, cells }, Reference::Number { edges, .. }) => number(value).map(|x| {
                bins[edges.partition_point(|edge| *edge <= x)] += 1;
                let at = points.partition_point(|point| *point < x);
                let equal = points.get(at).is_some_and(|point| *point == x);
                cells[2 * at + usize::from(equal)] += 1;
            }),
            (Counts::Category { words, other }, Reference::Category { counts, .. }) => {
                word(value).map(|word| if counts.contains_key(&word) { *words.entry(word).or_insert(0) += 1 } else { *other += 1 })
            }
            _ => None,
        };
        if known.is_none() {
            self.missing += 1;
        }
    }
}

fn number(value: &Value) -> Option<f64> {
    match value {
        Value::Number(n) => n.as_f64().filter(|x| !x.is_nan()),
        Value::Bool(b) => Some(f64::from(u8::from(*b))),
        // JSON has no infinities; they are written as words.
        Value::String(s) => s.parse().ok().filter(|x: &f64| !x.is_nan()),
        _ => None,
    }
}

fn word(value: &Value) -> Option<String> {
    match value {
        Value::Null => None,
        Value::String(s) => Some(s.clone()),
        other => Some(other.to_string()),
    }
}

/// All columns of a window that the model has a reference for.
#[derive(Debug, Clone)]
pub struct Window<'a> {
    reference: &'a BTreeMap<String, Reference>,
    /// Per column.
    pub columns: BTreeMap<&'a str, Column>,
    /// Rows added.
    pub rows: u64,
}

impl<'a> Window<'a> {
    /// An empty window for a model.
    pub fn new(model: &'a ModelFile) -> Window<'a> {
        let columns = model.reference.iter().map(|(name, of)| (name.as_str(), Column::new(of))).collect();
        Window { reference: &model.reference, columns, rows: 0 }
    }
    /// Adds one prediction.
    pub fn add(&mut self, features: &serde_json::Map<String, Value>, score: Option<f64>) {
        self.rows += 1;
        let score = score.and_then(serde_json::Number::from_f64).map_or(Value::Null, Value::Number);
        for (name, column) in &mut self.columns {
            let value = if *name == SCORE { &score } else { features.get(*name).unwrap_or(&Value::Null) };
            if let Some(reference) = self.reference.get(*name) {
                column.add(value, reference);
            }
        }
    }
    /// How a column looked in training.
    pub fn reference(&self, name: &str) -> Option<&'a Reference> {
        self.reference.get(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_value_on_an_edge_belongs_to_the_bin_above() {
        let reference = Reference::Number { edges: vec![1.0, 2.0], counts: vec![1, 1, 1], missing: 0, sample: vec![1.0, 1.0, 2.0] };
        let mut column = Column::new(&reference);
        for value in [json!(0.5), json!(1.0), json!(1.5), json!(2.0), json!(9), json!(true), json!(null), json!("x"), json!("inf")] {
            column.add(&value, &reference);
        }
        let Counts::Number { bins, points, cells } = &column.counts else { panic!("a number") };
        assert_eq!((bins.as_slice(), points.as_slice()), ([1, 3, 3].as_slice(), [1.0, 2.0].as_slice()));
        assert_eq!(cells.as_slice(), [1, 2, 1, 1, 2]);
        assert_eq!((column.rows, column.missing), (9, 2));
    }

    #[test]
    fn unknown_words_are_other_and_not_kept() {
        let reference = Reference::Category { counts: BTreeMap::from([("fr".to_owned(), 3)]), other: 0, missing: 0 };
        let mut column = Column::new(&reference);
        for value in [json!("fr"), json!("de"), json!("us"), json!(null)] {
            column.add(&value, &reference);
        }
        assert_eq!(column.counts, Counts::Category { words: BTreeMap::from([("fr".to_owned(), 1)]), other: 2 });
        assert_eq!((column.rows, column.missing), (4, 1));
    }
}
