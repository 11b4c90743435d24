//! The trees of our own training as the walk for exact contributions sees them. What they mean is in `kernel::model`.

use super::shap::{Ensemble, Split};
use gristmill_kernel::model::{Forest, LEAF, Link};

impl Ensemble for Forest {
    fn outputs(&self) -> usize {
        self.base.len()
    }
    fn trees(&self) -> usize {
        self.trees.len()
    }
    fn root(&self, _: usize) -> usize {
        0
    }
    fn output(&self, tree: usize) -> usize {
        self.trees[tree].output as usize
    }
    fn split(&self, tree: usize, node: usize) -> Option<Split> {
        let tree = &self.trees[tree];
        let split = || {
            let missing = (tree.missing[node] == 2).then(|| tree.missing_child[node] as usize);
            Split::new(tree.feature[node] as usize, tree.left[node] as usize, tree.right[node] as usize, missing)
        };
        (tree.feature[node] != LEAF).then(split)
    }
    fn child(&self, tree: usize, node: usize, row: &[f64]) -> usize {
        let tree = &self.trees[tree];
        tree.child(node, row[tree.feature[node] as usize])
    }
    fn value(&self, tree: usize, leaf: usize) -> f64 {
        self.trees[tree].value[leaf]
    }
    fn cover(&self, tree: usize, node: usize) -> Option<f64> {
        self.trees[tree].cover.get(node).map(|rows| *rows as f64)
    }
    fn start(&self, output: usize) -> f64 {
        self.base[output]
    }
    fn divisor(&self, output: usize) -> f64 {
        match self.link {
            Link::Mean => self.trees.iter().filter(|tree| tree.output as usize == output).count().max(1) as f64,
            Link::Identity | Link::Logistic | Link::Softmax => 1.0,
        }
    }
}
