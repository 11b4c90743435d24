//! `linear`: least squares by `linfa-linear`, with L2 regularisation as in scikit-learn's `Ridge`.
//!
//! The library solves plain least squares. The rows are centred, and one row of `sqrt(alpha)` per input is put below them: its least-squares
//! answer is the ridge's, and columns that say the same do no harm.

use super::design::{design, importance};
use super::params::{Kind, Param, Params};
use super::{Algorithm, Effort, Fitted};
use crate::sample::Sample;
use gristmill_kernel::error::{Fault, Result};
use gristmill_kernel::model::{Body, Linear, Link, Task};
use linfa::DatasetBase;
use linfa::traits::Fit;
use linfa_linear::LinearRegression;
use ndarray::{Array1, Array2, Axis, concatenate};

/// The entry in the list of algorithms.
pub const ALGORITHM: Algorithm = Algorithm {
    name: "linear",
    about: "least squares: a weighted sum",
    tasks: &[Task::Regression, Task::Ranking],
    weighs: false,
    params: &[Param {
        name: "alpha",
        kind: Kind::Float { low: 1e-9, high: 1e9, default: Some(1.0) },
        about: "strength of the L2 regularisation, over all rows together",
    }],
    hints: &[("l2", "write `alpha`"), ("lambda", "write `alpha`")],
    fit,
};

fn fit(sample: &Sample, params: &Params, effort: &Effort) -> Result<Fitted> {
    effort.cancel.check()?;
    let design = design(sample)?;
    let (rows, width) = design.matrix.dim();
    let centre = design.matrix.sum_axis(Axis(0)) / rows as f64;
    let y = Array1::from(sample.y.clone());
    let level = y.sum() / rows as f64;
    let mut below = Array2::zeros((width, width));
    below.diag_mut().fill(params.float("alpha").sqrt());
    let joined = |e| Fault::internal("the rows do not make a matrix").because(e);
    let x = concatenate(Axis(0), &[(&design.matrix - &centre).view(), below.view()]).map_err(joined)?;
    let target = concatenate(Axis(0), &[(y - level).view(), Array1::zeros(width).view()]).map_err(joined)?;
    let fitted = crate::guard("linfa-linear", || LinearRegression::new().with_intercept(false).fit(&DatasetBase::new(x, target)))?
        .map_err(|e| Fault::internal(format!("least squares could not fit: {e}")))?;
    let weights = fitted.params().to_vec();
    let intercept = level - weights.iter().zip(&centre).map(|(w, c)| w * c).sum::<f64>();
    let importance = importance(sample, &design, std::slice::from_ref(&weights));
    let size = format!("{} inputs", design.inputs.len());
    let body = Body::Linear(Linear { inputs: design.inputs, weights: vec![weights], intercept: vec![intercept], link: Link::Identity });
    Ok(Fitted { body, importance, size })
}
