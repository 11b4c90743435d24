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
            Runtime::Own(own) => match &own.file.body {
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

#[cfg(test)]
mod tests {
    use super::*;
    use gristmill_kernel::VersionRef;
    use gristmill_kernel::model::{Forest, LEAF, Link, ModelFile, Tree};
    use gristmill_kernel::view::FeatureType;

    /// Three classes and two features: a tree per class, whose root asks about the feature of its number.
    fn model(cover: &[u64], link: Link) -> LoadedModel {
        let feature = |column: &str| Feature { view: "v".into(), column: column.into(), kind: FeatureType::Number, categories: vec![] };
        let tree = |output: u32| Tree {
            output,
            feature: vec![output % 2, LEAF, LEAF],
            threshold: vec![0.5, 0.0, 0.0],
            left: vec![1, 0, 0],
            right: vec![2, 0, 0],
            missing: vec![1, 0, 0],
            value: vec![0.0, -1.0, 3.0 + f64::from(output)],
            cover: cover.to_vec(),
            ..Tree::default()
        };
        let file = ModelFile {
            format: ModelFile::FORMAT,
            name: "m".into(),
            algorithm: "gbdt".into(),
            task: Task::Multiclass,
            classes: ["a", "b", "c"].map(String::from).into(),
            entity: vec![],
            features: vec![feature("x"), feature("y")],
            body: Body::Forest(Forest { base: vec![0.5; 3], trees: (0..3).map(tree).collect(), link }),
            reference: BTreeMap::new(),
            importance: BTreeMap::new(),
        };
        let file = ModelFile::read(&file.write().expect("writes")).expect("reads");
        LoadedModel::new(VersionRef { asset: "models.m".parse().expect("an address"), number: 1 }, file).expect("loads")
    }

    fn parts(explained: &Explained) -> Vec<(&str, f64)> {
        explained.contributions.iter().map(|(name, part)| (name.as_str(), *part)).collect()
    }

    #[test]
    fn trees_of_our_own_are_explained_for_the_predicted_class() {
        let model = model(&[4, 3, 1], Link::Softmax);
        // Class b: a quarter of the rows went to its leaf of 4, the others to that of -1.
        let explained = model.explain(&[0.0, 1.0]).expect("explained");
        assert_eq!((explained.method, explained.base), ("tree_shap", Some(0.5 + 0.25)));
        assert_eq!(parts(&explained), [("v.x", 0.0), ("v.y", 3.75)]);
        // Class c; missing values go to the right.
        let explained = model.explain(&[f64::NAN, 0.0]).expect("explained");
        assert_eq!((explained.base, parts(&explained)), (Some(1.0), vec![("v.x", 4.5), ("v.y", 0.0)]));
    }

    #[test]
    fn a_mean_of_trees_is_explained_as_it_is() {
        let explained = model(&[2, 1, 1], Link::Mean).explain(&[0.0, 1.0]).expect("explained");
        assert_eq!((explained.base, parts(&explained)), (Some(2.0), vec![("v.x", 0.0), ("v.y", 2.5)]));
    }

    #[test]
    fn trees_without_covers_are_explained_by_occlusion() {
        let explained = model(&[], Link::Softmax).explain(&[0.0, 0.0]).expect("explained");
        assert_eq!((explained.method, explained.base), ("occlusion", None));
        assert!(parts(&explained)[0].1 > 0.0, "without x the first class is likelier: {explained:?}");
    }
}
