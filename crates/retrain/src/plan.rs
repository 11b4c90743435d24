//! Whether a model is due. Pure: facts in, a reason or none out.

use crate::spec::RetrainSpec;
use croner::Cron;
use gristmill_kernel::condition::{Figure, Figures, Judged};
use gristmill_kernel::limits::RETRAIN_RETRY_MS;
use gristmill_kernel::{Code, Fault, Result, Span, Timestamp, VersionRef};
use std::str::FromStr;

/// The names a `when` condition may use.
pub const NAMES: [&str; 6] = ["drift", "quality_drop", "mismatch_rate", "new_rows", "new_labels", "age_hours"];

/// The newest report of a monitor.
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    /// Which version it is.
    pub id: VersionRef,
    /// When it became visible.
    pub made_at: Timestamp,
    /// Whether it said drift; `None` when it could not be judged.
    pub drift: Option<bool>,
    /// What drifted most: `psi(activity.spend_90d) = 0.41 > 0.2`.
    pub first: Option<String>,
    /// How much worse the predictions were than on held-out rows.
    pub quality_drop: Option<f64>,
    /// The share of served feature vectors that are not what training gives.
    pub mismatch_rate: Option<f64>,
}

/// The newest retraining that this stage asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attempt {
    /// When it was asked for.
    pub at: Timestamp,
    /// Whether it ended without an error.
    pub worked: bool,
}

/// What is known about a model.
#[derive(Debug, Clone, PartialEq)]
pub struct Facts {
    /// Now.
    pub now: Timestamp,
    /// When the newest training that worked began; one that found nothing new counts. `None`: never.
    pub last_trained: Option<Timestamp>,
    /// The newest retraining that nobody asked for.
    pub last_attempt: Option<Attempt>,
    /// Whether a training of the model is waiting or under way.
    pub running: bool,
    /// The newest report of the endpoint's monitor.
    pub report: Option<Report>,
    /// Rows that came to its sources since the last training; `None` when unknown.
    pub new_rows: Option<u64>,
    /// Labels that came since the last training.
    pub new_labels: Option<u64>,
}

impl Facts {
    /// The report, unless a training that began after it has answered it.
    pub fn open_report(&self) -> Option<&Report> {
        self.report.as_ref().filter(|r| self.last_trained.is_none_or(|trained| trained < r.made_at))
    }
}

/// Why a model is trained again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reason {
    /// For people: `drift: psi(activity.spend_90d) = 0.41 > 0.2`.
    pub text: String,
    /// Names the cause: the same cause always gives the same token.
    pub token: String,
}

/// The figures that `when` sees. A report that has been answered says no drift and has no quality any more.
pub fn figures(facts: &Facts) -> Figures {
    let mut figures = Figures::default();
    let open = facts.open_report();
    let drift = match (&facts.report, open) {
        (None, _) => Figure::Missing,
        (Some(_), None) => Figure::Bool(false),
        (Some(_), Some(report)) => report.drift.map_or(Figure::Missing, Figure::Bool),
    };
    figures.0.insert("drift".into(), drift);
    let age = facts.last_trained.map(|at| facts.now.since(at).micros() as f64 / 3.6e9);
    let numbers = [
        ("quality_drop", open.and_then(|r| r.quality_drop)),
        ("mismatch_rate", open.and_then(|r| r.mismatch_rate)),
        ("new_rows", facts.new_rows.map(|n| n as f64)),
        ("new_labels", facts.new_labels.map(|n| n as f64)),
        ("age_hours", age),
    ];
    for (name, value) in numbers {
        match value {
            Some(value) => figures.number(name, value),
            None => figures.missing(name),
        }
    }
    figures
}

/// Whether the model is due. `when` is the spec's condition judged over [`figures`]; `None` where the spec has none.
pub fn due(spec: &RetrainSpec, facts: &Facts, when: Option<&Judged>) -> Result<Option<Reason>> {
    let Some(last_trained) = facts.last_trained else { return Ok(None) };
    if facts.running || resting(spec, facts) {
        return Ok(None);
    }
    // A try that failed makes the next one a new cause; without this the token would find the failed run for ever.
    let after = facts.last_attempt.map_or(0, |a| a.at.micros()).max(last_trained.micros());
    if let Some(judged) = when.filter(|j| j.holds == Some(true)) {
        let drift = facts.open_report().filter(|r| r.drift == Some(true) && spec.when.as_deref().is_some_and(mentions_drift));
        return Ok(Some(match drift {
            Some(report) => Reason {
                text: format!("drift: {}", report.first.as_deref().unwrap_or("said by the monitor")),
                token: format!("retrain:{}:drift:{}:{after}", spec.model, report.id),
            },
            None => Reason {
                text: format!("when {}: {}", spec.when.as_deref().unwrap_or_default(), judged.observed),
                token: format!("retrain:{}:when:{after}", spec.model),
            },
        }));
    }
    let Some(every) = &spec.every else { return Ok(None) };
    let next = next_time(every, last_trained)?;
    Ok((next <= facts.now).then(|| Reason {
        text: format!("schedule: every {every}, last trained {last_trained}"),
        token: format!("retrain:{}:every:{}:{after}", spec.model, next.micros()),
    }))
}

/// Whether it is too early after the last try.
fn resting(spec: &RetrainSpec, facts: &Facts) -> bool {
    let Some(attempt) = facts.last_attempt else { return false };
    let rest = if attempt.worked { spec.cooldown } else { spec.cooldown.max(Span::from_millis(RETRAIN_RETRY_MS)) };
    facts.now < attempt.at.plus(rest)
}

/// The first scheduled moment after the last training: a span later, or the next of a cron line, in UTC. However many moments passed while
/// nothing ran, they are one.
pub fn next_time(every: &str, last_trained: Timestamp) -> Result<Timestamp> {
    if let Ok(span) = every.parse::<Span>() {
        return Ok(last_trained.plus(span));
    }
    let bad = || {
        Fault::invalid(Code::BAD_VALUE, format!("`{every}` is neither a duration nor a cron line"))
            .fix("write it as 7d, 12h, or as minute hour day month weekday in UTC: `0 3 * * 1`")
    };
    let cron = Cron::from_str(every).map_err(|e| bad().because(e.to_string()))?;
    let from = jiff::Timestamp::from_microsecond(last_trained.micros()).map_err(|e| bad().because(e))?;
    let next = cron.find_next_occurrence(&from.to_zoned(jiff::tz::TimeZone::UTC), false).map_err(|e| bad().because(e.to_string()))?;
    Ok(Timestamp::from_micros(next.timestamp().as_microsecond()))
}

/// Whether a condition asks about drift: the word stands in it outside of a text in quotes.
fn mentions_drift(condition: &str) -> bool {
    let outside: String = condition.split('\'').step_by(2).collect::<Vec<_>>().join(" ");
    outside.split(|c: char| !(c.is_alphanumeric() || c == '_' || c == '.')).any(|word| word.eq_ignore_ascii_case("drift"))
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
