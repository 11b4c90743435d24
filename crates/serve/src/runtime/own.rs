//! Models of our own training: what they mean is in `kernel::model`; here their trees are compiled, and shown to the walk for exact contributions.

use super::compiled::{self, Compiled};
use super::forest::Precision;
use super::shap::{Ensemble, Split};
use gristmill_kernel::model::{Body, Forest, LEAF, Link, ModelFile};

/// A model of our own training, ready to score.
pub struct Own {
    /// Its file.
    pub file: ModelFile,
    compiled: Option<Compiled>,
}

impl Own {
    /// Takes a file.
    pub fn new(file: ModelFile) -> Own {
        let compiled = match &file.body {
            Body::Forest(forest) => compiled::own(forest, file.features.len()),
            Body::Linear(_) => None,
        };
        Own { file, compiled }
    }

    /// Whether its trees could be compiled.
    #[cfg(test)]
    pub fn is_compiled(&self) -> bool {
        self.compiled.is_some()
    }

    /// Scores some rows, one behind the other: to the bit what the file says of each.
    pub fn score_rows(&self, matrix: &[f64], rows: usize, out: &mut [f64]) {
        let (width, outputs) = (self.file.features.len(), self.file.outputs());
        match (&self.file.body, &self.compiled) {
            (Body::Forest(forest), Some(compiled)) => {
                out.chunks_exact_mut(outputs).for_each(|out| out.copy_from_slice(&forest.base));
                compiled.add(matrix, rows, Precision::Double, out);
                out.chunks_exact_mut(outputs).for_each(|out| forest.linked(out));
            }
            _ => {
                for (row, out) in out.chunks_exact_mut(outputs).enumerate() {
                    self.file.score(&matrix[row * width..(row + 1) * width], out);
                }
            }
        }
    }
}

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
