//! What each arm of an endpoint did: ten-second slots for an hour, and totals for Prometheus.
//!
//! Invariant: a row is counted exactly once, on the arm it was meant for; a canary row that fails and is answered by the stable
//! version is an error of the canary and nothing of the stable arm. Figures of different model versions are never mixed.

use gristmill_kernel::prediction::{Arm, ArmFigures, Compared, EndpointFigures};
use gristmill_kernel::{Timestamp, VersionRef};
use hdrhistogram::Histogram;
use std::collections::{BTreeMap, VecDeque};
use std::fmt::Write;
use std::sync::{Mutex, MutexGuard};

const SLOT_MICROS: i64 = 10_000_000;
const SLOTS: usize = 360;
const SCORE_BINS: usize = 20;
/// Upper borders of the latency histogram on `/metrics`, in seconds.
const BORDERS: [f64; 13] = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0];

/// What one request did on one arm.
#[derive(Debug, Clone, Default)]
pub struct Tally {
    /// Rows that failed.
    pub errors: u64,
    /// The scores of the others.
    pub scores: Vec<f64>,
    /// The time the arm took.
    pub micros: u64,
    /// Of a copy: how the answers compare with those that the caller got.
    pub compared: Compared,
}

/// The figures of one endpoint.
#[derive(Default)]
pub struct Figures(Mutex<BTreeMap<(Arm, VersionRef), Track>>);

#[derive(Default)]
struct Track {
    slots: VecDeque<Slot>,
    requests: u64,
    rows: u64,
    errors: u64,
    seconds: f64,
    buckets: [u64; BORDERS.len()],
    last: Option<Timestamp>,
}

/// Counts since the process began.
#[derive(Debug, Clone, Copy, Default)]
pub struct Totals {
    /// Requests of which at least a row was this arm's.
    pub requests: u64,
    /// Their rows, and those of them that failed.
    pub rows: u64,
    pub errors: u64,
    /// The time that all of them took.
    pub seconds: f64,
    /// When the last one was answered.
    pub last: Option<Timestamp>,
}

struct Slot {
    number: i64,
    rows: u64,
    errors: u64,
    score_sum: f64,
    bins: [u64; SCORE_BINS],
    compared: Compared,
    latency: Option<Histogram<u32>>,
}

impl Slot {
    fn new(number: i64) -> Slot {
        // One percent of error over a microsecond to a hundred seconds; these bounds are valid, so there is always a histogram.
        let latency = Histogram::new_with_bounds(1, 100_000_000, 2).ok();
        Slot { number, rows: 0, errors: 0, score_sum: 0.0, bins: [0; SCORE_BINS], compared: Compared::default(), latency }
    }
}

impl Figures {
    fn tracks(&self) -> MutexGuard<'_, BTreeMap<(Arm, VersionRef), Track>> {
        self.0.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// Counts what a request did on one arm.
    pub fn record(&self, arm: Arm, model: &VersionRef, tally: &Tally, now: Timestamp) {
        let number = now.micros().div_euclid(SLOT_MICROS);
        let mut tracks = self.tracks();
        let track = tracks.entry((arm, model.clone())).or_default();
        // A clock that steps back counts into the newest slot.
        if track.slots.back().is_none_or(|last| last.number < number) {
            track.slots.push_back(Slot::new(number));
            while track.slots.front().is_some_and(|first| first.number <= number - SLOTS as i64) {
                track.slots.pop_front();
            }
        }
        let rows = tally.errors + tally.scores.len() as u64;
        if let Some(slot) = track.slots.back_mut() {
            slot.rows += rows;
            slot.errors += tally.errors;
            add(&mut slot.compared, &tally.compared);
            for score in &tally.scores {
                slot.score_sum += score;
                slot.bins[((score * SCORE_BINS as f64).max(0.0) as usize).min(SCORE_BINS - 1)] += 1;
            }
            if let Some(latency) = &mut slot.latency {
                latency.saturating_record(tally.micros.max(1));
            }
        }
        let seconds = tally.micros as f64 / 1e6;
        track.requests += 1;
        track.last = Some(now);
        track.rows += rows;
        track.errors += tally.errors;
        track.seconds += seconds;
        for (border, bucket) in BORDERS.iter().zip(&mut track.buckets) {
            *bucket += u64::from(seconds <= *border);
        }
    }

    /// What a version did on an arm since the process began.
    pub fn totals(&self, arm: Arm, model: &VersionRef) -> Totals {
        let tracks = self.tracks();
        let Some(track) = tracks.get(&(arm, model.clone())) else { return Totals::default() };
        Totals { requests: track.requests, rows: track.rows, errors: track.errors, seconds: track.seconds, last: track.last }
    }

    /// What the given versions did since a moment, rounded down to ten seconds. An arm that did nothing is there with zero rows.
    pub fn since(&self, arms: &[(Arm, VersionRef)], since: Timestamp) -> EndpointFigures {
        let from = since.micros().div_euclid(SLOT_MICROS);
        let tracks = self.tracks();
        arms.iter()
            .map(|(arm, model)| {
                let slots = tracks.get(&(*arm, model.clone())).map(|track| &track.slots);
                (*arm, merge(model, slots.into_iter().flatten().filter(|slot| slot.number >= from)))
            })
            .collect()
    }

    /// Forgets versions that are neither deployed nor have done anything within the hour.
    pub fn forget(&self, deployed: &[(Arm, VersionRef)], now: Timestamp) {
        let oldest = now.micros().div_euclid(SLOT_MICROS) - SLOTS as i64;
        self.tracks().retain(|key, track| deployed.contains(key) || track.slots.back().is_some_and(|slot| slot.number > oldest));
    }

    /// The lines for `/metrics` by metric name.
    pub(crate) fn prometheus(&self, endpoint: &str, out: &mut BTreeMap<&'static str, String>) {
        let mut line = |metric: &'static str, labels: &str, value: String| {
            let _ = writeln!(out.entry(family(metric)).or_default(), "{metric}{{{labels}}} {value}");
        };
        for ((arm, model), track) in self.tracks().iter() {
            let labels = format!("endpoint=\"{endpoint}\",arm=\"{}\",model=\"{model}\"", arm.as_str());
            line("gristmill_predict_requests_total", &labels, track.requests.to_string());
            line("gristmill_predict_rows_total", &labels, track.rows.to_string());
            line("gristmill_predict_errors_total", &labels, track.errors.to_string());
            for (border, count) in BORDERS.iter().zip(track.buckets) {
                line("gristmill_predict_seconds_bucket", &format!("{labels},le=\"{border}\""), count.to_string());
            }
            line("gristmill_predict_seconds_bucket", &format!("{labels},le=\"+Inf\""), track.requests.to_string());
            line("gristmill_predict_seconds_sum", &labels, track.seconds.to_string());
            line("gristmill_predict_seconds_count", &labels, track.requests.to_string());
        }
    }
}

/// The name under which a metric's lines stand together.
fn family(metric: &'static str) -> &'static str {
    if metric.starts_with("gristmill_predict_seconds") { "gristmill_predict_seconds" } else { metric }
}

fn add(sum: &mut Compared, more: &Compared) {
    sum.rows += more.rows;
    sum.same += more.same;
    sum.distance += more.distance;
}

fn merge<'a>(model: &VersionRef, slots: impl Iterator<Item = &'a Slot>) -> ArmFigures {
    let mut all = Slot::new(0);
    for slot in slots {
        all.rows += slot.rows;
        all.errors += slot.errors;
        all.score_sum += slot.score_sum;
        add(&mut all.compared, &slot.compared);
        all.bins.iter_mut().zip(slot.bins).for_each(|(sum, n)| *sum += n);
        if let (Some(sum), Some(latency)) = (&mut all.latency, &slot.latency) {
            // Both have the same bounds, so adding cannot fail.
            let _ = sum.add(latency);
        }
    }
    let scored = all.rows - all.errors;
    let latency = all.latency.filter(|h| !h.is_empty());
    let quantile_ms = |q: f64| latency.as_ref().map_or(f64::NAN, |h| h.value_at_quantile(q) as f64 / 1_000.0);
    ArmFigures {
        model: model.clone(),
        rows: all.rows,
        errors: all.errors,
        p50_ms: quantile_ms(0.5),
        p99_ms: quantile_ms(0.99),
        score_mean: if scored == 0 { f64::NAN } else { all.score_sum / scored as f64 },
        score_bins: all.bins.to_vec(),
        compared: all.compared,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn model(number: u64) -> VersionRef {
        VersionRef { asset: "models.churn".parse().expect("an address"), number }
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_micros(seconds * 1_000_000)
    }

    #[test]
    fn figures_are_kept_per_arm_version_and_slot() {
        let figures = Figures::default();
        let tally = |scores: &[f64], errors, micros| Tally { errors, scores: scores.to_vec(), micros, ..Tally::default() };
        figures.record(Arm::Stable, &model(1), &tally(&[0.0, 1.0, 7.0], 0, 2_000), at(5));
        figures.record(Arm::Stable, &model(1), &tally(&[0.5], 1, 4_000), at(25));
        figures.record(Arm::Canary, &model(2), &tally(&[], 2, 100), at(25));
        let arms = [(Arm::Stable, model(1)), (Arm::Canary, model(2))];
        let all = figures.since(&arms, at(0));
        let stable = &all[&Arm::Stable];
        assert_eq!((stable.rows, stable.errors, stable.score_mean), (5, 1, 8.5 / 4.0));
        assert_eq!((stable.score_bins[0], stable.score_bins[10], stable.score_bins[19]), (1, 1, 2));
        assert!((1.9..2.1).contains(&stable.p50_ms) && (3.9..4.1).contains(&stable.p99_ms), "{stable:?}");
        assert_eq!((all[&Arm::Canary].rows, all[&Arm::Canary].errors), (2, 2));
        assert!(all[&Arm::Canary].score_mean.is_nan());
        assert_eq!(figures.since(&arms, at(29))[&Arm::Stable].rows, 2, "since is rounded down to ten seconds");
        let other = figures.since(&[(Arm::Stable, model(9))], at(0));
        assert_eq!(other[&Arm::Stable].rows, 0, "another version has done nothing");
    }

    #[test]
    fn an_hour_is_kept() {
        let figures = Figures::default();
        let one = Tally { scores: vec![0.5], ..Tally::default() };
        for second in (0..7_200).step_by(10) {
            figures.record(Arm::Stable, &model(1), &one, at(second));
        }
        assert_eq!(figures.since(&[(Arm::Stable, model(1))], at(0))[&Arm::Stable].rows, 360);
        figures.forget(&[], at(7_200 + 3_600));
        assert_eq!(figures.tracks().len(), 0);
    }

    #[test]
    fn prometheus_lines_are_cumulative() {
        let figures = Figures::default();
        figures.record(Arm::Stable, &model(3), &Tally { errors: 1, scores: vec![0.1], micros: 3_000, ..Tally::default() }, at(1));
        let mut out = BTreeMap::new();
        figures.prometheus("churn", &mut out);
        let text: String = out.into_values().collect();
        for line in [
            "gristmill_predict_rows_total{endpoint=\"churn\",arm=\"stable\",model=\"models.churn@3\"} 2",
            "gristmill_predict_seconds_bucket{endpoint=\"churn\",arm=\"stable\",model=\"models.churn@3\",le=\"0.0025\"} 0",
            "gristmill_predict_seconds_bucket{endpoint=\"churn\",arm=\"stable\",model=\"models.churn@3\",le=\"0.005\"} 1",
        ] {
            assert!(text.contains(line), "{line} not in\n{text}");
        }
    }
}
