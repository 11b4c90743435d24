//! How features and scores looked in training: what `monitor` measures drift against.
//!
//! Features are profiled over the rows trained on, the score over the held-out rows (over the rows trained on when none are held out), because
//! a model is too sure of the rows it has seen.

use crate::sample::Dataset;
use gristmill_kernel::limits::DRIFT_BINS;
use gristmill_kernel::model::{Feature, Reference};
use gristmill_kernel::view::FeatureType;
use std::collections::BTreeMap;

/// Values kept of a column for the Kolmogorov-Smirnov test.
const SAMPLE: usize = 1_000;

/// The profiles of all features, by `view.column`.
pub fn of_features(data: &Dataset) -> BTreeMap<String, Reference> {
    let profile = |(feature, column): (&Feature, &Vec<f64>)| {
        let values = data.train.iter().map(|r| column[*r]);
        let reference = if feature.kind == FeatureType::Category { of_codes(feature, values) } else { of_numbers(values) };
        (qualified(feature), reference)
    };
    data.features.iter().zip(&data.columns).map(profile).collect()
}

/// `view.column`.
pub fn qualified(feature: &Feature) -> String {
    format!("{}.{}", feature.view, feature.column)
}

/// The profile of numbers: bins with about equally many rows, and an evenly spaced sample of the sorted values.
pub fn of_numbers(values: impl Iterator<Item = f64>) -> Reference {
    let mut missing = 0;
    let mut sorted: Vec<f64> = values
        .filter(|v| {
            if v.is_nan() {
                missing += 1;
                false
            } else {
                true
            }
        })
        .collect();
    sorted.sort_by(f64::total_cmp);
    let mut edges: Vec<f64> = (1..DRIFT_BINS).filter_map(|bin| sorted.get(bin * sorted.len() / DRIFT_BINS)).copied().collect();
    edges.dedup();
    // Below the smallest value there is nothing; an empty bin would make every drift measure jump.
    edges.retain(|e| sorted.first().is_some_and(|lowest| e > lowest));
    let mut counts = vec![0u64; edges.len() + 1];
    sorted.iter().for_each(|v| counts[edges.partition_point(|e| e <= v)] += 1);
    let sample =
        if sorted.len() <= SAMPLE { sorted } else { (0..SAMPLE).map(|at| sorted[at * (sorted.len() - 1) / (SAMPLE - 1)]).collect() };
    Reference::Number { edges, counts, missing, sample }
}

/// The profile of a category. A code that is missing may be NULL or a word outside the dictionary; both are missing to the model.
fn of_codes(feature: &Feature, codes: impl Iterator<Item = f64>) -> Reference {
    let mut counts: BTreeMap<String, u64> = BTreeMap::new();
    let mut missing = 0;
    for code in codes {
        match feature.categories.get(code as usize) {
            Some(word) if !code.is_nan() => *counts.entry(word.clone()).or_default() += 1,
            _ => missing += 1,
        }
    }
    Reference::Category { counts, other: 0, missing }
}
