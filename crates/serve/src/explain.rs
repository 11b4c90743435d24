//! Why a row got its score: what each feature did to it.
//!
//! Promise: the answer says by which method, since not all are equally good, and gives a base value where base value and contributions add up.
//!
//! - `tree_shap`: exact Shapley values of trees ([`crate::runtime::shap`]), on the scale before the link (log-odds for a boosted classifier, the
//!   mean of the leaves for a random forest). With the base value, the mean over the training, they add up to it.
//! - `linear`: exact, the feature's weights times its inputs, on the scale before the link; with the base value, the intercept, they add up to it.
//! - `occlusion`, for trees whose file does not say how many rows of the training went which way: the score minus the score of the same row with
//!   that feature missing; features that act together share an effect twice or not at all, so these do not add up and have no base value.

use crate::model::{LoadedModel, best};
use crate::runtime::Runtime;
use gristmill_kernel::model::{Body, Feature, Linear, LinearInput, Task};
use std::collections::BTreeMap;

/// An explained row.
#[derive(Debug, Clone, PartialEq)]
pub struct Explained {
    /// How.
    pub method: &'static str,
    /// What contributions are counted from, where they add up.
    pub base: Option<f64>,
    /// What each feature (`view.column`) did.
    pub contributions: BTreeMap<String, f64>,
}

impl LoadedModel {
    /// Explains the score of a row; for several classes, that of the predicted one. `None` if this model cannot.
    pub fn explain(&self, row: &[f64]) -> Option<Explained> {
        let linear = match &self.runtime {
            // What a missing value means to a graph is not known.
            Runtime::Onnx(_) => return None,
            Runtime::Own(file) => match &file.body {
                Body::Linear(linear) => Some(linear),
                Body::Forest(_) => None,
            },
            Runtime::Forest(_) => None,
        };
        let output = self.explained_output(row);
        let (method, base, each) = match (linear, self.explainer.get_or_init(|| self.runtime.explainer())) {
            (Some(linear), _) => ("linear", Some(linear.intercept[output]), weighted(linear, row, output)),
            (None, Some(trees)) => ("tree_shap", Some(trees.base(output)), self.runtime.contributions(trees, row, output)),
            (None, None) => ("occlusion", None, (0..row.len()).map(|feature| self.occluded(row, feature, output)).collect()),
        };
        let name = |f: &Feature| format!("{}.{}", f.view, f.column);
        let contributions = self.shape.features.iter().map(name).zip(each).collect();
        Some(Explained { method, base, contributions })
    }

    fn explained_output(&self, row: &[f64]) -> usize {
        match self.shape.task {
            Task::Binary => self.shape.outputs - 1,
            Task::Multiclass => best(&self.runtime.run(row, 1).unwrap_or_default()),
            Task::Regression | Task::Ranking => 0,
        }
    }

    /// The score minus the score without a feature.
    fn occluded(&self, row: &[f64], feature: usize, output: usize) -> f64 {
        let mut without = row.to_vec();
        without[feature] = f64::NAN;
        let score = |row: &[f64]| self.runtime.run(row, 1).ok().and_then(|outputs| outputs.get(output).copied()).unwrap_or(f64::NAN);
        score(row) - score(&without)
    }
}

/// Per feature its weights times its inputs.
fn weighted(linear: &Linear, row: &[f64], output: usize) -> Vec<f64> {
    let mut sums = vec![0.0; row.len()];
    for (input, weight) in linear.inputs.iter().zip(&linear.weights[output]) {
        let (LinearInput::Scaled { feature, .. } | LinearInput::OneHot { feature, .. } | LinearInput::Missing { feature }) = *input;
        sums[feature as usize] += weight * input.encode(row);
    }
    sums
}
