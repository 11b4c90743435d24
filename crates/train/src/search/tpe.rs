//! The tree-structured Parzen estimator of Bergstra et al. (2011): the good trials' density over the others', parameter by parameter.

use super::Trial;
use super::random::logarithmic;
use crate::spec::Range;
use rand::Rng;
use serde_json::Value;
use statrs::function::erf::erf;

/// The share of trials that count as good.
const GOOD: f64 = 0.15;
/// Draws from the good density, of which the most promising is taken.
const CANDIDATES: usize = 24;

/// Finished trials, the best first; pruned ones stand behind all others, those that came further first.
pub(super) fn order(done: &[Trial], cost: impl Fn(&Trial) -> f64) -> Vec<&Trial> {
    let mut out: Vec<&Trial> = done.iter().collect();
    let key = |t: &Trial| (t.pruned, if t.pruned { usize::MAX - t.folds.len() } else { 0 });
    out.sort_by(|a, b| key(a).cmp(&key(b)).then_with(|| cost(a).total_cmp(&cost(b))));
    out
}

/// Draws one parameter of the next trial.
pub(super) fn draw(name: &str, range: &Range, ordered: &[&Trial], rng: &mut impl Rng) -> Value {
    let good = ((ordered.len() as f64 * GOOD).ceil() as usize).clamp(2, ordered.len());
    let values = |trials: &[&Trial]| -> Vec<Value> { trials.iter().filter_map(|t| t.params.get(name).cloned()).collect() };
    let (good, rest) = (values(&ordered[..good]), values(&ordered[good..]));
    match range {
        Range::Choice { choices } => choose(choices, &good, &rest, rng),
        Range::Int { low, high } => {
            // Each whole number owns the unit around it.
            let x = between(Scale { low: *low as f64 - 0.5, high: *high as f64 + 0.5, log: false }, &good, &rest, rng);
            Value::from((x.round() as i64).clamp(*low, *high))
        }
        Range::Float { low, high } => {
            let x = between(Scale { low: *low, high: *high, log: logarithmic(*low, *high) }, &good, &rest, rng);
            Value::from(x.clamp(*low, *high))
        }
    }
}

fn choose(choices: &[Value], good: &[Value], rest: &[Value], rng: &mut impl Rng) -> Value {
    let share =
        |seen: &[Value], choice: &Value| (1.0 + seen.iter().filter(|v| *v == choice).count() as f64) / (choices.len() + seen.len()) as f64;
    let mut best: Option<(f64, &Value)> = None;
    for _ in 0..CANDIDATES {
        let mut left: f64 = rng.random();
        let drawn = choices
            .iter()
            .find(|c| {
                left -= share(good, c);
                left <= 0.0
            })
            .unwrap_or(&choices[choices.len() - 1]);
        let promise = share(good, drawn) / share(rest, drawn);
        if best.is_none_or(|(b, _)| promise > b) {
            best = Some((promise, drawn));
        }
    }
    best.map_or(Value::Null, |(_, v)| v.clone())
}

/// The line a number is searched on.
#[derive(Clone, Copy)]
struct Scale {
    low: f64,
    high: f64,
    log: bool,
}

fn between(scale: Scale, good: &[Value], rest: &[Value], rng: &mut impl Rng) -> f64 {
    let there = |v: f64| if scale.log { v.ln() } else { v };
    let (low, high) = (there(scale.low), there(scale.high));
    let points = |seen: &[Value]| seen.iter().filter_map(Value::as_f64).map(|v| there(v).clamp(low, high)).collect::<Vec<_>>();
    let (good, rest) = (Parzen::new(points(good), low, high), Parzen::new(points(rest), low, high));
    let mut best: Option<(f64, f64)> = None;
    for _ in 0..CANDIDATES {
        let x = good.draw(rng);
        let promise = good.density(x) / rest.density(x);
        if best.is_none_or(|(b, _)| promise > b) {
            best = Some((promise, x));
        }
    }
    let x = best.map_or(low, |(_, x)| x);
    if scale.log { x.exp() } else { x }
}

/// Normal distributions around the points, cut at the ends, and a wide one for what nobody tried.
struct Parzen {
    low: f64,
    high: f64,
    parts: Vec<(f64, f64)>,
}

impl Parzen {
    fn new(mut points: Vec<f64>, low: f64, high: f64) -> Parzen {
        let width = (high - low).max(f64::MIN_POSITIVE);
        let centre = (low + high) / 2.0;
        points.push(centre);
        points.sort_by(f64::total_cmp);
        let narrowest = width / (1.0 + points.len() as f64).min(100.0);
        let mut wide_given = false;
        let parts = (0..points.len())
            .map(|at| {
                let left = if at == 0 { low } else { points[at - 1] };
                let right = points.get(at + 1).copied().unwrap_or(high);
                let sigma = (points[at] - left).max(right - points[at]).clamp(narrowest, width);
                let is_prior = points[at] == centre && !wide_given;
                wide_given |= is_prior;
                (points[at], if is_prior { width } else { sigma })
            })
            .collect();
        Parzen { low, high, parts }
    }

    fn draw(&self, rng: &mut impl Rng) -> f64 {
        let (mean, sigma) = self.parts[rng.random_range(0..self.parts.len())];
        for _ in 0..100 {
            // Box and Muller.
            let radius = (-2.0 * (1.0 - rng.random::<f64>()).ln()).sqrt();
            let x = mean + sigma * radius * (std::f64::consts::TAU * rng.random::<f64>()).cos();
            if (self.low..=self.high).contains(&x) {
                return x;
            }
        }
        mean
    }

    fn density(&self, x: f64) -> f64 {
        let below = |x: f64, (mean, sigma): (f64, f64)| 0.5 * (1.0 + erf((x - mean) / (sigma * std::f64::consts::SQRT_2)));
        let of_part = |part: &(f64, f64)| {
            let z = (x - part.0) / part.1;
            (-0.5 * z * z).exp() / (part.1 * (below(self.high, *part) - below(self.low, *part)).max(1e-12))
        };
        self.parts.iter().map(of_part).sum::<f64>() / self.parts.len() as f64
    }
}
