//! `logistic`: logistic regression by `linfa-logistic`, with L2 regularisation.

use super::design::{design, importance};
use super::params::{Kind, Param, Params};
use super::{Algorithm, Effort, Fitted};
use crate::sample::Sample;
use gristmill_kernel::error::{Fault, Result};
use gristmill_kernel::model::{Body, Linear, Link, Task};
use linfa::DatasetBase;
use linfa::traits::Fit;
use linfa_logistic::{LogisticRegression, MultiLogisticRegression};
use ndarray::Array1;

/// The entry in the list of algorithms.
pub const ALGORITHM: Algorithm = Algorithm {
    name: "logistic",
    about: "logistic regression: a weighted sum put through the logistic function or the softmax",
    tasks: &[Task::Binary, Task::Multiclass],
    weighs: false,
    params: &[
        Param {
            name: "alpha",
            kind: Kind::Float { low: 0.0, high: 1e6, default: Some(1.0) },
            about: "strength of the L2 regularisation, over all rows together",
        },
        Param { name: "max_iterations", kind: Kind::Int { low: 1, high: 100_000, default: Some(300) }, about: "at most this many steps" },
    ],
    hints: &[("c", "it is 1 / `alpha`"), ("l2", "write `alpha`"), ("max_iter", "write `max_iterations`")],
    fit,
};

fn fit(sample: &Sample, params: &Params, effort: &Effort) -> Result<Fitted> {
    effort.cancel.check()?;
    let design = design(sample)?;
    let alpha = params.float("alpha");
    let steps = params.int("max_iterations").unwrap_or(300) as u64;
    let labels: Array1<usize> = sample.y.iter().map(|c| *c as usize).collect();
    let failed = |e: &dyn std::fmt::Display| Fault::internal(format!("logistic regression could not fit: {e}"));
    let data = DatasetBase::new(design.matrix.view(), labels);
    // The classes present, in order; a fold may lack one, and then its probability is as good as 0.
    let (present, weights, intercepts) = crate::guard("linfa-logistic", || {
        if sample.task == Task::Binary {
            let fitted = LogisticRegression::default().alpha(alpha).max_iterations(steps).fit(&data).map_err(|e| failed(&e))?;
            // linfa calls the smaller label negative unless the other is met more often; the sign says which one it took.
            let sign = if fitted.labels().pos.class == 1 { 1.0 } else { -1.0 };
            let weights: Vec<f64> = fitted.params().iter().map(|w| sign * w).collect();
            Ok((vec![1], vec![weights], vec![sign * fitted.intercept()]))
        } else {
            let fitted = MultiLogisticRegression::default().alpha(alpha).max_iterations(steps).fit(&data).map_err(|e| failed(&e))?;
            let weights: Vec<Vec<f64>> = fitted.params().columns().into_iter().map(|c| c.to_vec()).collect();
            Ok((fitted.classes().to_vec(), weights, fitted.intercept().to_vec()))
        }
    })??;
    let (weights, intercept, link) = if sample.task == Task::Binary {
        (weights, intercepts, Link::Logistic)
    } else {
        let mut all = vec![vec![0.0; design.inputs.len()]; sample.classes];
        let mut intercept = vec![-700.0; sample.classes];
        for ((class, weights), start) in present.into_iter().zip(weights).zip(intercepts) {
            all[class] = weights;
            intercept[class] = start;
        }
        (all, intercept, Link::Softmax)
    };
    let importance = importance(sample, &design, &weights);
    let size = format!("{} inputs", design.inputs.len());
    Ok(Fitted { body: Body::Linear(Linear { inputs: design.inputs, weights, intercept, link }), importance, size })
}
