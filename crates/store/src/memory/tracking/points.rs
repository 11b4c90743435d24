//! The points of runs: all of a point is its key, and the latest of each metric is known.

use crate::tracked;
use gristmill_kernel::Timestamp;
use gristmill_kernel::run::Metric;
use gristmill_kernel::tracking::Point;
use std::collections::{BTreeMap, BTreeSet};

/// A value in the order of keys: numbers, with NaN behind zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Num(i64, bool);

impl Num {
    pub(super) fn of(value: f64) -> Num {
        let bits = if value.is_nan() { 0 } else { tracked::kept(value).to_bits() as i64 };
        Num(bits ^ (((bits >> 63) as u64) >> 1) as i64, value.is_nan())
    }
    pub(super) fn value(self) -> f64 {
        if self.1 { f64::NAN } else { f64::from_bits((self.0 ^ (((self.0 >> 63) as u64) >> 1) as i64) as u64) }
    }
}

/// The points of a run: all of a point is its key.
#[derive(Debug, Clone, Default)]
pub(in super::super) struct Points {
    all: BTreeMap<String, BTreeSet<(i64, i64, Num)>>,
    pub(super) latest: BTreeMap<String, Point>,
}

impl Points {
    pub(super) fn put(&mut self, point: &Point) {
        let value = Num::of(point.value);
        self.all.entry(point.key.clone()).or_default().insert((point.step, point.at.micros(), value));
        let kept = Point { value: value.value(), model: None, dataset: None, ..point.clone() };
        match self.latest.get_mut(&point.key) {
            Some(latest) if kept.rank() > latest.rank() => *latest = kept,
            Some(_) => {}
            None => {
                self.latest.insert(point.key.clone(), kept);
            }
        }
    }
    /// One value per step; the latest is the one with the greatest step.
    pub(in super::super) fn put_ours(&mut self, metric: &Metric, now: Timestamp) {
        let of_key = self.all.entry(metric.key.clone()).or_default();
        of_key.retain(|(step, _, _)| *step != metric.step);
        let value = Num::of(metric.value);
        of_key.insert((metric.step, now.micros(), value));
        if self.latest.get(&metric.key).is_none_or(|latest| metric.step >= latest.step) {
            let point = Point { key: metric.key.clone(), value: value.value(), at: now, step: metric.step, model: None, dataset: None };
            self.latest.insert(metric.key.clone(), point);
        }
    }
    pub(in super::super) fn latest(&self, key: &str) -> Option<&Point> {
        self.latest.get(key)
    }
    /// By step, moment and value.
    pub(in super::super) fn of(&self, key: &str) -> impl Iterator<Item = Point> {
        let points = self.all.get(key).into_iter().flatten();
        points.map(move |(step, at, value)| Point {
            key: key.to_owned(),
            value: value.value(),
            at: Timestamp::from_micros(*at),
            step: *step,
            model: None,
            dataset: None,
        })
    }
}
