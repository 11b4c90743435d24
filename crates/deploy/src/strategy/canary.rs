//! A growing share of the traffic, judged at each step. A pure state machine over the live deployment.

use super::Step;
use crate::spec::Rollout;
use gristmill_kernel::condition::Figures;
use gristmill_kernel::prediction::{Arm, ArmFigures, Canary, Deployment, EndpointFigures};
use gristmill_kernel::{Span, Timestamp};

/// All of the traffic.
pub const ALL: u32 = 1000;

/// What is known about the canary in its present step.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Evidence {
    /// Rows it has answered in this step.
    pub rows: u64,
    /// What the abort condition came to; `None` when a figure it needs has no value. `Some(false)` where there is no condition.
    pub abort: Option<bool>,
    /// The figures behind it, for people.
    pub observed: String,
}

/// Decides about a rollout. The order of the questions is the safety: abort, then enough to judge, then time, then share.
pub fn decide(rollout: &Rollout, deployment: &Deployment, evidence: &Evidence, now: Timestamp) -> Step {
    let Rollout::Canary { steps, every, abort, at_least, patience } = rollout else {
        return super::direct::decide(deployment);
    };
    let Some(canary) = &deployment.canary else {
        return Step::Hold("nothing is being rolled out".into());
    };
    let lasted = now.since(canary.since);
    if evidence.abort == Some(true) {
        return Step::Abort(format!("{} ({})", abort.as_deref().unwrap_or_default(), evidence.observed));
    }
    if let Some(lacking) = lacking(evidence, *at_least) {
        return if lasted >= (*patience).max(*every) {
            Step::Pause(format!("{lacking} after {}: not promoted without data", lasted))
        } else {
            Step::Hold(lacking)
        };
    }
    if lasted < *every {
        return Step::Hold(format!("{} of {every} at {}", lasted, percent(canary.permille)));
    }
    match next_share(steps, canary) {
        Some((step, permille)) => Step::Advance { permille, step },
        None => Step::Complete,
    }
}

fn lacking(evidence: &Evidence, at_least: u64) -> Option<String> {
    if evidence.rows < at_least.max(1) {
        return Some(format!("{} of {} rows answered in this step", evidence.rows, at_least.max(1)));
    }
    evidence.abort.is_none().then(|| format!("the abort condition cannot be judged ({})", evidence.observed))
}

/// The first share that is larger than the present one. With an unchanged spec that is the next step; with one that was edited during the
/// rollout, shares still only rise. A rollout always ends with all of the traffic.
fn next_share(steps: &[u32], canary: &Canary) -> Option<(u32, u32)> {
    if canary.permille >= ALL {
        return None;
    }
    let next = steps.iter().enumerate().find(|(_, share)| **share > canary.permille);
    Some(match next {
        Some((step, share)) => (step as u32, (*share).min(ALL)),
        None => (steps.len() as u32, ALL),
    })
}

/// The share a rollout begins with.
pub fn first_share(steps: &[u32]) -> u32 {
    steps.first().copied().unwrap_or(ALL).clamp(1, ALL)
}

/// Per mille as people write it: `5%`, `0.5%`.
pub fn percent(permille: u32) -> String {
    if permille.is_multiple_of(10) { format!("{}%", permille / 10) } else { format!("{}.{}%", permille / 10, permille % 10) }
}

/// Since when the stable arm is compared: a step's length before the rollout began, because a canary at 100 % leaves it no traffic.
pub fn compare_since(began_at: Timestamp, every: Span) -> Timestamp {
    began_at.minus(every)
}

/// The figures an abort condition may use. Figures of an arm count only if they are about the version that the deployment names.
///
/// - `rows`, and `error_rate` = errors / max(rows, at_least): the least rate the step can still end with, so one failed row among the first few
///   does not end a rollout, and enough failed rows end it before the step has its rows.
/// - `p50_ms`, `p99_ms`, `score_mean`: with `at_least` rows; a cold start is no evidence.
/// - `score_psi`: the shift of the canary's scores against the stable arm's; both need `at_least` rows.
/// - `stable.*`: the same of the stable arm, with the same demands.
pub fn figures(deployment: &Deployment, step: Option<&EndpointFigures>, stable: Option<&EndpointFigures>, at_least: u64) -> Figures {
    let of = |figures: Option<&EndpointFigures>, arm: Arm, model: Option<&gristmill_kernel::VersionRef>| {
        figures.and_then(|f| f.get(&arm)).filter(|f| Some(&f.model) == model).cloned()
    };
    let canary = of(step, Arm::Canary, deployment.canary.as_ref().map(|c| &c.model));
    let stable = of(stable, Arm::Stable, Some(&deployment.stable));
    let mut all = Figures::default();
    arm_figures(&mut all, "", canary.as_ref(), at_least);
    arm_figures(&mut all, "stable.", stable.as_ref(), at_least);
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
    if matches!(all.0.get("score_psi"), Some(Figure::Missing)) {
        all.number("score_psi", 0.0);
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
#[path = "canary_tests.rs"]
mod tests;
