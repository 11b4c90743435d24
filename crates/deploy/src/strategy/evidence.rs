//! What the live figures say about a version on its way.

use super::Traffic;
use gristmill_kernel::condition::Figures;
use gristmill_kernel::experiment::Experiment;
use gristmill_kernel::prediction::{Arm, ArmFigures, Deployment, EndpointFigures};
use gristmill_kernel::{Span, Timestamp};

/// What is known about a version in its present phase.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Evidence {
    /// Rows it has answered in this phase, or been shown.
    pub rows: u64,
    /// What the abort condition came to; `None` when a figure it needs has no value. `Some(false)` where there is no condition.
    pub abort: Option<bool>,
    /// The figures behind it, for people.
    pub observed: String,
    /// What an experiment has come to, once something was counted.
    pub experiment: Option<Experiment>,
}

/// Since when the stable arm is compared: a phase's length before the rollout began, because a canary at 100 % leaves it no traffic.
pub fn compare_since(began_at: Timestamp, every: Span) -> Timestamp {
    began_at.minus(every)
}

/// The figures an abort condition may use. Figures of an arm count only if they are about the version that the deployment names.
///
/// - `rows`, and `error_rate` = errors / max(rows, at_least): the least rate the step can still end with, so one failed row among the first few
///   does not end a rollout, and enough failed rows end it before the step has its rows.
/// - `p50_ms`, `p99_ms`, `score_mean`: with `at_least` rows; a cold start is no evidence.
/// - `score_psi`: the shift of the canary's scores against the stable arm's; both need `at_least` rows.
/// - `agreement`, the share of the same answers, and `score_distance`, the mean absolute difference of scores: over `at_least` copies that both
///   versions answered.
/// - `stable.*`: the same of the stable arm, with the same demands.
pub fn figures(deployment: &Deployment, step: Option<&EndpointFigures>, stable: Option<&EndpointFigures>, at_least: u64) -> Figures {
    let of = |figures: Option<&EndpointFigures>, arm: Arm, model: Option<&gristmill_kernel::VersionRef>| {
        figures.and_then(|f| f.get(&arm)).filter(|f| Some(&f.model) == model).cloned()
    };
    // What it said about copies is about the phase of the copies, and no other.
    let arm = match deployment.canary.as_ref().map(Traffic::of) {
        Some(Traffic::Copies(_)) => Arm::Shadow,
        _ => Arm::Canary,
    };
    let canary = of(step, arm, deployment.canary.as_ref().map(|c| &c.model));
    let stable = of(stable, Arm::Stable, Some(&deployment.stable));
    let mut all = Figures::default();
    arm_figures(&mut all, "", canary.as_ref(), at_least);
    arm_figures(&mut all, "stable.", stable.as_ref(), at_least);
    let compared = canary.as_ref().map(|c| c.compared).filter(|compared| compared.rows >= at_least.max(1));
    for (name, value) in
        [("agreement", compared.map(|c| c.same as f64 / c.rows as f64)), ("score_distance", compared.map(|c| c.distance / c.rows as f64))]
    {
        match value {
            Some(value) => all.number(name, value),
            None => all.missing(name),
        }
    }
    match canary.zip(stable).and_then(|(c, s)| score_psi(&c.score_bins, &s.score_bins, at_least)) {
        Some(psi) => all.number("score_psi", psi),
        None => all.missing("score_psi"),
    }
    all
}

fn arm_figures(all: &mut Figures, prefix: &str, arm: Option<&ArmFigures>, at_least: u64) {
    let rows = arm.map_or(0, |a| a.rows);
    all.number(format!("{prefix}rows"), rows as f64);
    let error_rate = arm.filter(|a| a.rows > 0).map(|a| a.errors as f64 / a.rows.max(at_least) as f64);
    let enough = arm.filter(|a| a.rows >= at_least.max(1));
    let values = [
        ("error_rate", error_rate),
        ("p50_ms", enough.map(|a| a.p50_ms)),
        ("p99_ms", enough.map(|a| a.p99_ms)),
        ("score_mean", enough.map(|a| a.score_mean)),
    ];
    for (name, value) in values {
        match value.filter(|v| v.is_finite()) {
            Some(value) => all.number(format!("{prefix}{name}"), value),
            None => all.missing(format!("{prefix}{name}")),
        }
    }
}

/// The figures with the canary put in for a stable arm that gives no comparison: at the last share the stable version answers nothing, and the
/// comparison has been made in the steps before. Used only there; see `run::judge`.
pub fn without_comparison(figures: &Figures) -> Figures {
    use gristmill_kernel::condition::Figure;
    let mut all = figures.clone();
    for (name, value) in [("score_psi", 0.0), ("agreement", 1.0), ("score_distance", 0.0)] {
        if matches!(all.0.get(name), Some(Figure::Missing)) {
            all.number(name, value);
        }
    }
    for name in figures.0.keys() {
        if let (Some(own), Some(Figure::Missing)) = (name.strip_prefix("stable."), figures.0.get(name))
            && let Some(value) = figures.0.get(own)
        {
            all.0.insert(name.clone(), value.clone());
        }
    }
    all
}

/// The population stability index of two histograms over the same bins: the sum of `(p - q) * ln(p / q)`. Half a row is added to
/// each bin, so an empty bin is not infinitely surprising. `None` unless both have at least `at_least` rows.
pub fn score_psi(canary: &[u64], stable: &[u64], at_least: u64) -> Option<f64> {
    const SMOOTHING: f64 = 0.5;
    let (n, m) = (canary.iter().sum::<u64>(), stable.iter().sum::<u64>());
    if canary.len() != stable.len() || canary.is_empty() || n < at_least.max(1) || m < at_least.max(1) {
        return None;
    }
    let share = |count: u64, total: u64| (count as f64 + SMOOTHING) / (total as f64 + SMOOTHING * canary.len() as f64);
    Some(canary.iter().zip(stable).map(|(c, s)| (share(*c, n), share(*s, m))).map(|(p, q)| (p - q) * (p / q).ln()).sum())
}

#[cfg(test)]
#[path = "evidence_tests.rs"]
mod tests;
