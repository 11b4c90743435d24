//! `psi`: the population stability index, the sum of `(p - q) * ln(p / q)` over bins (numbers) or words (categories), where p is the
//! window's share and q the reference's. Missing values are left out; `missing_shift` is about them.
//!
//! Smoothing: half a row is added to every bin on both sides, so that an empty bin is a large surprise and not an infinite one.
//! With n rows in k bins a share is `(count + 0.5) / (n + 0.5 k)`. By convention below 0.1 is quiet and above 0.2 is a shift.

use super::{Measure, Pair, Said, aligned};

/// The measure.
pub const PSI: Measure = Measure { name: "psi", neutral: 0.0, of };

/// Added to every count.
const SMOOTHING: f64 = 0.5;

fn of(pair: &Pair) -> Said {
    match aligned(pair).and_then(|(reference, window)| psi(&reference, &window)) {
        Some(value) => Said::Value(value),
        None => Said::Nothing,
    }
}

/// The index of two histograms over the same bins; `None` if one of them is empty.
pub fn psi(reference: &[u64], window: &[u64]) -> Option<f64> {
    let (n, m) = (reference.iter().sum::<u64>(), window.iter().sum::<u64>());
    if n == 0 || m == 0 || reference.len() != window.len() {
        return None;
    }
    let bins = reference.len() as f64;
    let share = |count: u64, total: u64| (count as f64 + SMOOTHING) / (total as f64 + SMOOTHING * bins);
    Some(reference.iter().zip(window).map(|(q, p)| (share(*p, m), share(*q, n))).map(|(p, q)| (p - q) * (p / q).ln()).sum())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_shapes_have_none_and_empty_ones_no_value() {
        assert_eq!(psi(&[10, 20, 30], &[10, 20, 30]), Some(0.0));
        assert_eq!(psi(&[10, 20], &[0, 0]), None);
        assert_eq!(psi(&[0, 0], &[1, 0]), None);
        assert_eq!(psi(&[], &[]), None);
    }

    #[test]
    fn an_empty_bin_is_large_and_finite() {
        let value = psi(&[500, 500], &[1000, 0]).expect("a value");
        assert!(value > 2.0 && value.is_finite(), "{value}");
    }
}
