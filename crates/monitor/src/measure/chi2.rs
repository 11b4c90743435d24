//! `chi2` and `chi2_p`: Pearson's test that the words of the window and of the reference come from one distribution: the 2 x k table of
//! their counts, without continuity correction.
//!
//! Words that are too rare to be judged (fewer than 5 rows expected on either side) count together as one, the usual rule for this test.

use super::{Measure, Pair, Said, aligned};
use crate::window::Counts;
use statrs::distribution::{ChiSquared, ContinuousCDF};

/// The statistic.
pub const CHI2: Measure = Measure { name: "chi2", neutral: 0.0, of: |pair| of(pair, |statistic, _| statistic) };
/// The chance of a statistic at least this large between samples of the same distribution.
pub const CHI2_P: Measure = Measure { name: "chi2_p", neutral: 1.0, of: |pair| of(pair, |_, p| p) };

/// Least expected rows of a cell.
const EXPECTED_MIN: f64 = 5.0;

fn of(pair: &Pair, take: fn(f64, f64) -> f64) -> Said {
    if !matches!(pair.window.counts, Counts::Category { .. }) {
        return Said::NotForThis;
    }
    match aligned(pair).and_then(|(reference, window)| chi2(&reference, &window)) {
        Some((statistic, p)) => Said::Value(take(statistic, p)),
        None => Said::Nothing,
    }
}

/// Statistic and p-value of two rows of counts; `None` if one of them is empty. With a single word there is no difference.
pub fn chi2(reference: &[u64], window: &[u64]) -> Option<(f64, f64)> {
    let (n, m) = (reference.iter().sum::<u64>() as f64, window.iter().sum::<u64>() as f64);
    if n == 0.0 || m == 0.0 || reference.len() != window.len() {
        return None;
    }
    let mut cells: Vec<(f64, f64)> = Vec::new();
    let mut rare = (0.0, 0.0);
    for (r, w) in reference.iter().zip(window).map(|(r, w)| (*r as f64, *w as f64)).filter(|(r, w)| r + w > 0.0) {
        if (r + w) * n.min(m) / (n + m) < EXPECTED_MIN {
            rare = (rare.0 + r, rare.1 + w);
        } else {
            cells.push((r, w));
        }
    }
    if rare.0 + rare.1 > 0.0 {
        cells.push(rare);
    }
    if cells.len() < 2 {
        return Some((0.0, 1.0));
    }
    let part = |observed: f64, expected: f64| (observed - expected).powi(2) / expected;
    let statistic = cells.iter().map(|(r, w)| part(*r, (r + w) * n / (n + m)) + part(*w, (r + w) * m / (n + m))).sum();
    let p = ChiSquared::new((cells.len() - 1) as f64).ok()?.sf(statistic);
    Some((statistic, p))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_shares_do_not_differ() {
        let (statistic, p) = chi2(&[100, 200, 300], &[10, 20, 30]).expect("a value");
        assert!(statistic.abs() < 1e-12 && (p - 1.0).abs() < 1e-9);
        assert_eq!(chi2(&[100], &[7]), Some((0.0, 1.0)));
        assert_eq!(chi2(&[100], &[0]), None);
    }

    #[test]
    fn rare_words_count_together() {
        let with_rare = chi2(&[500, 500, 1, 1, 1, 1], &[500, 500, 2, 2, 2, 2]).expect("a value");
        let merged = chi2(&[500, 500, 4], &[500, 500, 8]).expect("a value");
        assert_eq!(with_rare, merged);
    }

    #[test]
    fn a_new_word_is_seen() {
        let (_, p) = chi2(&[500, 500, 0], &[250, 250, 500]).expect("a value");
        assert!(p < 1e-50, "{p}");
    }
}
