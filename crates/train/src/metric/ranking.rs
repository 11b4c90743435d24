//! Rows in groups, ordered by score; the mean over the groups. A group without a relevant row counts as 0, as in scikit-learn.

use super::{Scored, average_precision, by_score, steps};

/// The mean over the groups of what `of_group` says about its (relevance, score) pairs.
fn mean(s: &Scored, of_group: impl Fn(&[f64], &[f64]) -> f64) -> Option<f64> {
    let mut rows: Vec<usize> = (0..s.y.len()).collect();
    rows.sort_by_key(|r| s.group[*r]);
    let (mut sum, mut groups) = (0.0, 0.0);
    for group in rows.chunk_by(|a, b| s.group[*a] == s.group[*b]) {
        let y: Vec<f64> = group.iter().map(|r| s.y[*r]).collect();
        let scores: Vec<f64> = group.iter().map(|r| s.scores[*r]).collect();
        sum += of_group(&y, &scores);
        groups += 1.0;
    }
    Some(sum / groups)
}

/// Discounted gain of the first `k` places; rows with equal scores share the mean of their gains.
fn discounted(y: &[f64], scores: &[f64], k: usize) -> f64 {
    let order = by_score(scores);
    let (mut place, mut sum) = (0usize, 0.0);
    for tied in order.chunk_by(|a, b| scores[*a] == scores[*b]) {
        let gain = tied.iter().map(|r| y[*r]).sum::<f64>() / tied.len() as f64;
        let discount: f64 = (place..place + tied.len()).filter(|p| *p < k).map(|p| 1.0 / (p as f64 + 2.0).log2()).sum();
        sum += gain * discount;
        place += tied.len();
    }
    sum
}

/// Normalised discounted gain; 0 takes all places.
pub(super) fn ndcg(s: &Scored, k: u32) -> Option<f64> {
    mean(s, |y, scores| {
        let k = if k == 0 { y.len() } else { k as usize };
        let best = discounted(y, y, k);
        if best == 0.0 { 0.0 } else { discounted(y, scores, k) / best }
    })
}

/// Mean average precision; relevant is what is above 0.
pub(super) fn map(s: &Scored, _: u32) -> Option<f64> {
    mean(s, |y, scores| average_precision(&steps(|row| y[row] > 0.0, scores)))
}

/// Mean reciprocal rank of the best relevant row; irrelevant rows with its score stand before it.
pub(super) fn mrr(s: &Scored, _: u32) -> Option<f64> {
    mean(s, |y, scores| {
        let best = (0..y.len()).filter(|r| y[*r] > 0.0).map(|r| scores[r]).max_by(f64::total_cmp);
        best.map_or(0.0, |top| {
            let before = (0..y.len()).filter(|r| scores[*r] > top || (scores[*r] == top && y[*r] <= 0.0)).count();
            1.0 / (1.0 + before as f64)
        })
    })
}
