//! `ks` and `ks_p`: the two-sample Kolmogorov-Smirnov statistic against the reference sample, and its p-value.
//!
//! The statistic is exact although the window's values are not kept: the reference's distribution only jumps at its own values, so between two
//! of them the largest distance stands at one of the ends, and counts of window values below, at and between the reference values
//! are enough. The p-value is that of the limiting Kolmogorov distribution with the effective size n m / (n + m).

use super::{Measure, Pair, Said};
use crate::window::Counts;
use gristmill_kernel::model::Reference;

/// The statistic: the largest distance between the two cumulative shares, 0 to 1.
pub const KS: Measure = Measure { name: "ks", neutral: 0.0, of: |pair| of(pair, |d, _, _| d) };
/// The chance of a distance at least this large between samples of the same distribution.
pub const KS_P: Measure = Measure { name: "ks_p", neutral: 1.0, of: |pair| of(pair, p_value) };

fn of(pair: &Pair, take: fn(f64, f64, f64) -> f64) -> Said {
    match (pair.reference, &pair.window.counts) {
        (Reference::Number { sample, .. }, Counts::Number { cells, .. }) => match ks_statistic(sample, cells) {
            Some((d, n)) => Said::Value(take(d, n as f64, sample.len() as f64)),
            None => Said::Nothing,
        },
        _ => Said::NotForThis,
    }
}

/// The statistic and the number of window values. `sample` is sorted and finite; `cells[2 i + 1]` counts window values equal to the i-th
/// distinct value of it, `cells[2 i]` those between it and the one before. `None` if a side is empty.
pub fn ks_statistic(sample: &[f64], cells: &[u64]) -> Option<(f64, u64)> {
    let n: u64 = cells.iter().sum();
    if n == 0 || sample.is_empty() {
        return None;
    }
    let (mut window, mut reference, mut largest) = (0u64, 0usize, 0f64);
    let mut at = 0;
    while reference < sample.len() {
        let value = sample[reference];
        // Just below the value: the window has grown, the reference not yet.
        window += cells.get(2 * at).copied().unwrap_or(0);
        largest = largest.max(distance(window, n, reference, sample.len()));
        // At the value: both have jumped.
        window += cells.get(2 * at + 1).copied().unwrap_or(0);
        reference += sample[reference..].partition_point(|x| *x <= value);
        largest = largest.max(distance(window, n, reference, sample.len()));
        at += 1;
    }
    Some((largest, n))
}

fn distance(window: u64, n: u64, reference: usize, m: usize) -> f64 {
    (window as f64 / n as f64 - reference as f64 / m as f64).abs()
}

fn p_value(d: f64, n: f64, m: f64) -> f64 {
    kolmogorov(d * (n * m / (n + m)).sqrt())
}

/// The survival function of the Kolmogorov distribution: the chance of a value above x.
pub fn kolmogorov(x: f64) -> f64 {
    if x <= 0.0 {
        return 1.0;
    }
    let pi = std::f64::consts::PI;
    if x < 1.0 {
        // The theta-transformed series converges at once for small x.
        let sum: f64 = (1..=4).map(|k| (-f64::from(2 * k - 1).powi(2) * pi * pi / (8.0 * x * x)).exp()).sum();
        return (1.0 - (2.0 * pi).sqrt() / x * sum).clamp(0.0, 1.0);
    }
    let sum: f64 = (1..=10).map(|k| if k % 2 == 1 { 1.0 } else { -1.0 } * (-2.0 * f64::from(k * k) * x * x).exp()).sum();
    (2.0 * sum).clamp(0.0, 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::window::Column;
    use proptest::prelude::*;

    /// The definition, by looking at every value of both.
    fn brute(reference: &[f64], window: &[f64]) -> f64 {
        let below = |values: &[f64], x: f64| values.iter().filter(|v| **v <= x).count() as f64 / values.len() as f64;
        reference.iter().chain(window).map(|x| (below(reference, *x) - below(window, *x)).abs()).fold(0.0, f64::max)
    }

    proptest! {
        #[test]
        fn counting_gives_the_exact_statistic(
            mut reference in proptest::collection::vec((0i32..40).prop_map(|v| f64::from(v) / 2.0), 1..60),
            window in proptest::collection::vec((-5i32..50).prop_map(|v| f64::from(v) / 2.0), 1..80),
        ) {
            reference.sort_by(f64::total_cmp);
            let of = Reference::Number { edges: vec![], counts: vec![1], missing: 0, sample: reference.clone() };
            let mut column = Column::new(&of);
            window.iter().for_each(|v| column.add(&serde_json::json!(v), &of));
            let Counts::Number { cells, .. } = &column.counts else { panic!("a number") };
            let (d, n) = ks_statistic(&reference, cells).expect("a value");
            prop_assert_eq!(n, window.len() as u64);
            prop_assert!((d - brute(&reference, &window)).abs() < 1e-12, "{} {}", d, brute(&reference, &window));
        }
    }

    #[test]
    fn nothing_to_compare_has_no_value() {
        assert_eq!(ks_statistic(&[], &[1]), None);
        assert_eq!(ks_statistic(&[1.0], &[0, 0, 0]), None);
        assert_eq!(kolmogorov(0.0), 1.0);
        assert!(kolmogorov(50.0) < 1e-300);
    }
}
