//! Drift measures: one number per column from the reference (training) and a window of predictions.
//!
//! Each measure is a file here and a line in [`MEASURES`]; nothing else knows their names. A measure sees only a
//! [`Pair`], so it cannot depend on how the window was read.
//!
//! To add one: a file with a `pub const` [`Measure`], and a line in the list. A test demands that the list has no name twice.

mod chi2;
mod ks;
mod missing_rate;
mod missing_shift;
mod psi;
mod rows;

pub use chi2::chi2;
pub use ks::{kolmogorov, ks_statistic};
pub use psi::psi;

use crate::window::{Column, Counts};
use gristmill_kernel::condition::Figures;
use gristmill_kernel::model::Reference;
use std::collections::BTreeMap;

/// One column: how it looked in training and how it looks in the window.
#[derive(Debug, Clone, Copy)]
pub struct Pair<'a> {
    /// How it looked in training.
    pub reference: &'a Reference,
    /// How it looks in the window.
    pub window: &'a Column,
}

/// What a measure says about a column.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Said {
    /// A number.
    Value(f64),
    /// The measure is not made for this kind of column. In a condition it counts as "no difference" ([`Measure::neutral`]).
    NotForThis,
    /// There is nothing to compute it from. In a condition it is NULL: inconclusive.
    Nothing,
}

/// A drift measure.
#[derive(Debug, Clone, Copy)]
pub struct Measure {
    /// Its name in conditions and metrics.
    pub name: &'static str,
    /// The value that means "no difference": what a condition sees for a column this measure is not made for.
    pub neutral: f64,
    /// Computes it.
    pub of: fn(&Pair) -> Said,
}

/// Every measure. Add here.
pub const MEASURES: &[Measure] =
    &[psi::PSI, ks::KS, ks::KS_P, chi2::CHI2, chi2::CHI2_P, missing_rate::MISSING_RATE, missing_shift::MISSING_SHIFT, rows::ROWS];

/// The names a drift condition may use.
pub fn names() -> Vec<String> {
    MEASURES.iter().map(|m| m.name.to_owned()).collect()
}

/// Every measure of a column: the values there are, and the figures a condition sees.
pub fn measure(pair: &Pair) -> (BTreeMap<&'static str, f64>, Figures) {
    let (mut values, mut figures) = (BTreeMap::new(), Figures::default());
    for measure in MEASURES {
        match (measure.of)(pair) {
            Said::Value(value) if value.is_finite() => {
                values.insert(measure.name, value);
                figures.number(measure.name, value);
            }
            Said::NotForThis => figures.number(measure.name, measure.neutral),
            Said::Value(_) | Said::Nothing => figures.missing(measure.name),
        }
    }
    (values, figures)
}

/// The counts of reference and window over the same bins or words, in the same order; a category's last entry is every other word.
fn aligned(pair: &Pair) -> Option<(Vec<u64>, Vec<u64>)> {
    match (pair.reference, &pair.window.counts) {
        (Reference::Number { counts, .. }, Counts::Number { bins, .. }) if counts.len() == bins.len() => {
            Some((counts.clone(), bins.clone()))
        }
        (Reference::Category { counts, other, .. }, Counts::Category { words, other: seen_other }) => {
            let reference = counts.values().copied().chain([*other]).collect();
            let window = counts.keys().map(|word| words.get(word).copied().unwrap_or(0)).chain([*seen_other]).collect();
            Some((reference, window))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_are_words_of_sql() {
        let names = names();
        let unique: std::collections::BTreeSet<&String> = names.iter().collect();
        assert_eq!(unique.len(), names.len());
        assert!(names.iter().all(|n| n.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')), "{names:?}");
    }

    #[test]
    fn a_measure_for_another_kind_of_column_shows_no_difference() {
        let reference = Reference::Category { counts: BTreeMap::from([("a".to_owned(), 5)]), other: 0, missing: 0 };
        let mut window = Column::new(&reference);
        for _ in 0..5 {
            window.add(&serde_json::json!("a"), &reference);
        }
        let (values, figures) = measure(&Pair { reference: &reference, window: &window });
        assert!(!values.contains_key("ks_p"));
        assert_eq!(figures.get("ks_p"), Some(1.0), "so `ks_p < 0.01 or chi2_p < 0.01` can be judged");
        assert!(values.contains_key("psi"));
    }
}
