//! Small summaries of many values that can be merged: distinct values, a uniform sample, frequent texts.
//!
//! Invariants: merging the summaries of two parts gives the summary of the whole; nothing here draws at random, so equal rows give equal summaries.

use std::collections::{BTreeMap, BTreeSet};

/// A 64-bit hash that is the same for ever: FNV-1a, then the finisher of SplitMix64, which spreads the bits evenly.
pub fn hash(bytes: &[u8]) -> u64 {
    let fnv = bytes.iter().fold(0xcbf2_9ce4_8422_2325u64, |h, b| (h ^ u64::from(*b)).wrapping_mul(0x0100_0000_01b3));
    spread(fnv)
}

/// The finisher of SplitMix64.
pub fn spread(x: u64) -> u64 {
    let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// Counts distinct values: the `limit` smallest hashes. Exact below the limit, an estimate beyond it.
#[derive(Debug, Clone, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Distinct {
    smallest: BTreeSet<u64>,
}

impl Distinct {
    /// Takes one value's hash.
    pub fn see(&mut self, hash: u64, limit: usize) {
        if self.smallest.len() < limit {
            self.smallest.insert(hash);
        } else if self.smallest.last().is_some_and(|last| hash < *last) && self.smallest.insert(hash) {
            self.smallest.pop_last();
        }
    }
    /// Takes another summary.
    pub fn merge(&mut self, other: &Distinct, limit: usize) {
        other.smallest.iter().for_each(|h| self.see(*h, limit));
    }
    /// How many, and whether that is exact.
    pub fn count(&self, limit: usize) -> (u64, bool) {
        match self.smallest.last() {
            Some(last) if self.smallest.len() >= limit => {
                let share = *last as f64 / u64::MAX as f64;
                (((self.smallest.len() - 1) as f64 / share).round() as u64, false)
            }
            _ => (self.smallest.len() as u64, true),
        }
    }
}

/// A uniform sample: the values of the rows whose hashes are smallest.
#[derive(Debug, Clone, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Sample {
    by_hash: BTreeMap<u64, f64>,
}

impl Sample {
    /// Takes the value of a row, known by its hash.
    pub fn see(&mut self, row: u64, value: f64, limit: usize) {
        if self.by_hash.len() < limit {
            self.by_hash.insert(row, value);
        } else if self.by_hash.last_key_value().is_some_and(|(last, _)| row < *last) {
            self.by_hash.insert(row, value);
            if self.by_hash.len() > limit {
                self.by_hash.pop_last();
            }
        }
    }
    /// Takes another sample.
    pub fn merge(&mut self, other: &Sample, limit: usize) {
        other.by_hash.iter().for_each(|(row, value)| self.see(*row, *value, limit));
    }
    /// The sampled values in order.
    pub fn sorted(&self) -> Vec<f64> {
        let mut values: Vec<f64> = self.by_hash.values().copied().collect();
        values.sort_by(f64::total_cmp);
        values
    }
}

/// The most frequent texts (Misra and Gries 1982): exact while there are no more than `limit` different ones, else each count may be too low by `missed`.
#[derive(Debug, Clone, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Frequent {
    counts: BTreeMap<String, u64>,
    missed: u64,
}

impl Frequent {
    /// Takes a text `times` times.
    pub fn see(&mut self, text: &str, times: u64, limit: usize) {
        if let Some(count) = self.counts.get_mut(text) {
            *count += times;
            return;
        }
        self.counts.insert(text.to_owned(), times);
        // Making room when twice the limit is reached makes each removal pay for many insertions.
        if self.counts.len() > limit * 2 {
            self.shrink(limit);
        }
    }
    /// Takes another summary.
    pub fn merge(&mut self, other: &Frequent, limit: usize) {
        self.missed += other.missed;
        other.counts.iter().for_each(|(text, count)| self.see(text, *count, limit));
    }
    /// Brings it down to its limit.
    pub fn shrink(&mut self, limit: usize) {
        if self.counts.len() <= limit {
            return;
        }
        let mut counts: Vec<u64> = self.counts.values().copied().collect();
        counts.sort_unstable_by(|a, b| b.cmp(a));
        let cut = counts[limit];
        self.missed += cut;
        self.counts.retain(|_, count| {
            *count = count.saturating_sub(cut);
            *count > 0
        });
    }
    /// The first few with their counts, and by how much a count may be too low.
    pub fn top(&self, limit: usize) -> (Vec<(&str, u64)>, u64) {
        let mut all: Vec<(&str, u64)> = self.counts.iter().map(|(text, count)| (text.as_str(), *count)).collect();
        all.sort_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(b.0)));
        all.truncate(limit);
        (all, self.missed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn distinct_is_exact_then_close() {
        let mut distinct = Distinct::default();
        (0..100_000u64).for_each(|i| distinct.see(hash(&(i % 500).to_le_bytes()), 1024));
        assert_eq!(distinct.count(1024), (500, true));
        (0..100_000u64).for_each(|i| distinct.see(hash(&i.to_le_bytes()), 1024));
        let (count, exact) = distinct.count(1024);
        assert!(!exact && (90_000..110_000).contains(&count), "{count}");
    }

    #[test]
    fn the_sample_is_even() {
        let mut sample = Sample::default();
        (0..100_000u64).for_each(|i| sample.see(spread(i), i as f64, 1000));
        let sorted = sample.sorted();
        assert_eq!(sorted.len(), 1000);
        assert!((45_000.0..55_000.0).contains(&sorted[500]), "{}", sorted[500]);
    }

    proptest! {
        #[test]
        fn parts_merge_to_the_whole(values in prop::collection::vec(0u16..300, 0..600), cut in 0usize..600) {
            let cut = cut.min(values.len());
            let summary = |part: &[u16], from: usize| {
                let (mut distinct, mut sample) = (Distinct::default(), Sample::default());
                for (i, v) in part.iter().enumerate() {
                    distinct.see(hash(&v.to_le_bytes()), 64);
                    sample.see(spread((from + i) as u64), f64::from(*v), 64);
                }
                (distinct, sample)
            };
            let whole = summary(&values, 0);
            let (mut distinct, mut sample) = summary(&values[..cut], 0);
            let (d, s) = summary(&values[cut..], cut);
            distinct.merge(&d, 64);
            sample.merge(&s, 64);
            prop_assert_eq!((distinct, sample), whole);
        }
        #[test]
        fn frequent_counts_are_never_too_high_and_miss_no_more_than_they_say(values in prop::collection::vec(0u8..60, 0..2000)) {
            let mut frequent = Frequent::default();
            let mut truth: BTreeMap<String, u64> = BTreeMap::new();
            for v in &values {
                frequent.see(&v.to_string(), 1, 10);
                *truth.entry(v.to_string()).or_default() += 1;
            }
            frequent.shrink(10);
            let (top, missed) = frequent.top(10);
            for (text, count) in &top {
                prop_assert!(*count <= truth[*text] && truth[*text] <= count + missed);
            }
            for (text, count) in &truth {
                prop_assert!(top.iter().any(|(t, _)| t == text) || *count <= missed);
            }
        }
    }
}
