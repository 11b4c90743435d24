//! What can answer: our own models, forests that were grown elsewhere, and ONNX graphs.
//!
//! A runtime takes rows of numbers (NaN is missing) and gives outputs; which column becomes which number is decided before it
//! ([`crate::model`], [`crate::registered`]). No runtime runs code from a model file: there is no pickle and no Python here.
//!
//! Readers are pure, and what they read is not trusted: a file gives a model or a sentence that says what is wrong with it, never a panic or an
//! allocation out of proportion. To add a runtime: a file here, a variant of [`Runtime`], and, for a flavour of registered models, a
//! line in `FLAVOURS` of [`crate::registered`].

mod compiled;
mod doc;
pub mod forest;
#[cfg(test)]
mod fuzz;
pub mod lightgbm;
pub mod onnx;
mod own;
pub mod shap;
pub mod xgboost;

pub use own::Own;

use gristmill_kernel::model::{Body, Task};

/// A model that computes.
pub enum Runtime {
    /// A model of our own training: its file says what it computes.
    Own(Box<Own>),
    /// A forest that was grown elsewhere.
    Forest(Box<forest::Forest>),
    /// A graph of ONNX.
    Onnx(Box<onnx::Onnx>),
}

impl Runtime {
    /// How many outputs a row has.
    pub fn outputs(&self) -> usize {
        match self {
            Runtime::Own(own) => own.file.outputs(),
            Runtime::Forest(forest) => forest.outputs(),
            Runtime::Onnx(onnx) => onnx.outputs(),
        }
    }

    /// The outputs of some rows of numbers, both one row behind the other. `Err`: why there are none.
    pub fn run(&self, matrix: &[f64], rows: usize) -> Result<Vec<f64>, String> {
        if let Runtime::Onnx(onnx) = self {
            return onnx.run(matrix, rows);
        }
        let mut all = vec![0.0; rows * self.outputs()];
        match self {
            Runtime::Own(own) => own.score_rows(matrix, rows, &mut all),
            Runtime::Forest(forest) => forest.score_rows(matrix, rows, &mut all),
            Runtime::Onnx(_) => {}
        }
        Ok(all)
    }

    /// What is needed to explain trees exactly; `None` if it has no trees, or they do not say how many rows went which way.
    pub fn explainer(&self) -> Option<shap::Explainer> {
        match self {
            Runtime::Own(own) => match &own.file.body {
                Body::Forest(forest) => shap::Explainer::of(forest),
                Body::Linear(_) => None,
            },
            Runtime::Forest(forest) => shap::Explainer::of(forest.as_ref()),
            Runtime::Onnx(_) => None,
        }
    }

    /// The exact contributions to an output by its own [`Self::explainer`]; empty if it has none.
    pub fn contributions(&self, explainer: &shap::Explainer, row: &[f64], output: usize) -> Vec<f64> {
        match self {
            Runtime::Own(own) => match &own.file.body {
                Body::Forest(forest) => explainer.contributions(forest, row, output),
                Body::Linear(_) => Vec::new(),
            },
            Runtime::Forest(forest) => explainer.contributions(forest.as_ref(), row, output),
            Runtime::Onnx(_) => Vec::new(),
        }
    }
}

/// A forest as a reader found it, with what its file says about inputs and outputs.
#[derive(Debug, Clone, PartialEq)]
pub struct ReadModel {
    /// What computes.
    pub forest: forest::Forest,
    /// What it predicts.
    pub task: Task,
    /// The classes in output order, for classification. The files know them by number only.
    pub classes: Vec<String>,
    /// The inputs in order.
    pub names: Vec<String>,
    /// What the codes of categorical inputs stand for.
    pub categories: Categories,
}

/// What the codes of categorical inputs stand for.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Categories {
    /// The categorical inputs.
    pub inputs: Vec<usize>,
    /// Per categorical column of the table that the model was trained on, in order; usually the same columns. Empty if the file does not say.
    pub codes: Vec<Codes>,
}

/// What the codes of one column stand for.
#[derive(Debug, Clone, PartialEq)]
pub enum Codes {
    /// Words, in the order of their codes.
    Words(Vec<String>),
    /// The values are the codes.
    Same,
    /// Something else, such as numbers that do not count from 0.
    Other,
}
