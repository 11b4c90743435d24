//! More than two classes; one probability per class, the predicted class is the first of the highest.

use super::{Scored, area, steps};

fn predicted(s: &Scored, row: usize) -> usize {
    let of_row = &s.scores[row * s.outputs..(row + 1) * s.outputs];
    (1..of_row.len()).fold(0, |best, class| if of_row[class] > of_row[best] { class } else { best })
}

pub(super) fn accuracy(s: &Scored, _: u32) -> Option<f64> {
    let right = (0..s.y.len()).filter(|row| predicted(s, *row) == s.y[*row] as usize).count();
    Some(right as f64 / s.y.len() as f64)
}

/// Per class: rows of it, rows predicted as it, rows of both.
fn counts(s: &Scored) -> Vec<(f64, f64, f64)> {
    let mut counts = vec![(0.0, 0.0, 0.0); s.outputs];
    for row in 0..s.y.len() {
        let (is, said) = (s.y[row] as usize, predicted(s, row));
        counts[is].0 += 1.0;
        counts[said].1 += 1.0;
        if is == said {
            counts[is].2 += 1.0;
        }
    }
    counts
}

fn mean(values: &[f64]) -> Option<f64> {
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
}

/// The mean recall of the classes that occur.
pub(super) fn balanced_accuracy(s: &Scored, _: u32) -> Option<f64> {
    mean(&counts(s).iter().filter(|c| c.0 > 0.0).map(|c| c.2 / c.0).collect::<Vec<_>>())
}

/// The mean F1 of the classes that occur or are predicted.
pub(super) fn f1_macro(s: &Scored, _: u32) -> Option<f64> {
    mean(&counts(s).iter().filter(|c| c.0 + c.1 > 0.0).map(|c| 2.0 * c.2 / (c.0 + c.1)).collect::<Vec<_>>())
}

pub(super) fn logloss(s: &Scored, _: u32) -> Option<f64> {
    let cost = |row: usize| -s.scores[row * s.outputs + s.y[row] as usize].clamp(f64::EPSILON, 1.0 - f64::EPSILON).ln();
    Some((0..s.y.len()).map(cost).sum::<f64>() / s.y.len() as f64)
}

/// The mean AUC of each class against the rest; undefined when a class does not occur.
pub(super) fn auc_ovr(s: &Scored, _: u32) -> Option<f64> {
    let of_class = |class: usize| {
        let scores: Vec<f64> = (0..s.y.len()).map(|row| s.scores[row * s.outputs + class]).collect();
        area(&steps(|row| s.y[row] as usize == class, &scores))
    };
    mean(&(0..s.outputs).map(of_class).collect::<Option<Vec<f64>>>()?)
}
