//! Numbers.

use super::Scored;

fn errors<'a>(s: &'a Scored) -> impl Iterator<Item = f64> + 'a {
    s.y.iter().zip(s.scores).map(|(y, p)| y - p)
}

fn mean(values: impl Iterator<Item = f64>, rows: usize) -> Option<f64> {
    Some(values.sum::<f64>() / rows as f64)
}

pub(super) fn rmse(s: &Scored, _: u32) -> Option<f64> {
    mean(errors(s).map(|e| e * e), s.y.len()).map(f64::sqrt)
}

pub(super) fn mae(s: &Scored, _: u32) -> Option<f64> {
    mean(errors(s).map(f64::abs), s.y.len())
}

pub(super) fn mape(s: &Scored, _: u32) -> Option<f64> {
    let relative = s.y.iter().zip(s.scores).map(|(y, p)| (y - p).abs() / y.abs().max(f64::EPSILON));
    mean(relative, s.y.len())
}

pub(super) fn medae(s: &Scored, _: u32) -> Option<f64> {
    let mut sorted: Vec<f64> = errors(s).map(f64::abs).collect();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    Some(if sorted.len() % 2 == 1 { sorted[middle] } else { (sorted[middle - 1] + sorted[middle]) / 2.0 })
}

/// 1 - residual / total. When all outcomes are the same: 1 if all are hit, else 0.
pub(super) fn r2(s: &Scored, _: u32) -> Option<f64> {
    if s.y.len() < 2 {
        return None;
    }
    let centre = s.y.iter().sum::<f64>() / s.y.len() as f64;
    let total: f64 = s.y.iter().map(|y| (y - centre) * (y - centre)).sum();
    let residual: f64 = errors(s).map(|e| e * e).sum();
    Some(match (residual == 0.0, total == 0.0) {
        (true, _) => 1.0,
        (false, true) => 0.0,
        (false, false) => 1.0 - residual / total,
    })
}
