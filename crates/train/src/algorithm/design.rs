//! The inputs of the linear algorithms: numbers scaled, categories one input per word, missing values filled and marked.
//!
//! The matrix is built by [`LinearInput::encode`], so that what is learnt from is what is served.

use crate::sample::{Sample, untrainable};
use gristmill_kernel::Result;
use gristmill_kernel::limits::ONE_HOT_MAX;
use gristmill_kernel::model::LinearInput;
use gristmill_kernel::view::FeatureType;
use ndarray::Array2;

/// The inputs of a sample and their values, one row per row.
pub(super) struct Design {
    pub inputs: Vec<LinearInput>,
    pub matrix: Array2<f64>,
}

/// Chooses the inputs and fills the matrix.
pub(super) fn design(sample: &Sample) -> Result<Design> {
    let mut inputs = Vec::new();
    for feature in sample.varying() {
        let column = &sample.columns[feature];
        let at = feature as u32;
        if sample.features[feature].kind == FeatureType::Category {
            // Codes are sorted by frequency: rare words share the answer of "none of these".
            let words = sample.features[feature].categories.len().min(ONE_HOT_MAX);
            let seen = |code: usize| column.contains(&(code as f64));
            inputs.extend((0..words).filter(|c| seen(*c)).map(|code| LinearInput::OneHot { feature: at, code: code as u32 }));
        } else if let Some((mean, scale)) = moments(column) {
            inputs.push(LinearInput::Scaled { feature: at, mean, scale, fill: mean });
        }
        if column.iter().any(|v| v.is_nan()) {
            inputs.push(LinearInput::Missing { feature: at });
        }
    }
    if inputs.is_empty() {
        return Err(untrainable(
            "no feature has two different values in the training rows",
            "check the views, or use the algorithm `baseline`",
        ));
    }
    let mut row = vec![0.0; sample.columns.len()];
    let mut matrix = Array2::zeros((sample.y.len(), inputs.len()));
    for at in 0..sample.y.len() {
        row.iter_mut().zip(&sample.columns).for_each(|(x, column)| *x = column[at]);
        inputs.iter().enumerate().for_each(|(place, input)| matrix[(at, place)] = input.encode(&row));
    }
    Ok(Design { inputs, matrix })
}

/// Mean and standard deviation of what is not missing; `None` when it does not vary.
fn moments(column: &[f64]) -> Option<(f64, f64)> {
    let present: Vec<f64> = column.iter().copied().filter(|v| !v.is_nan()).collect();
    let mean = present.iter().sum::<f64>() / present.len() as f64;
    let scale = (present.iter().map(|v| (v - mean) * (v - mean)).sum::<f64>() / present.len() as f64).sqrt();
    (mean.is_finite() && scale.is_finite() && scale > 0.0).then_some((mean, scale))
}

/// How much each feature moves the sum: the mean size of its weights times the spread of their inputs.
pub(super) fn importance(sample: &Sample, design: &Design, weights: &[Vec<f64>]) -> Vec<f64> {
    let mut gains = vec![0.0; sample.features.len()];
    let rows = design.matrix.nrows() as f64;
    for (place, input) in design.inputs.iter().enumerate() {
        let (LinearInput::Scaled { feature, .. } | LinearInput::OneHot { feature, .. } | LinearInput::Missing { feature }) = input;
        let column = design.matrix.column(place);
        let mean = column.sum() / rows;
        let spread = (column.iter().map(|v| (v - mean) * (v - mean)).sum::<f64>() / rows).sqrt();
        gains[*feature as usize] += spread * weights.iter().map(|w| w[place].abs()).sum::<f64>();
    }
    super::shares(gains)
}
