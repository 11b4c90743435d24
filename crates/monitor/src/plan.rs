//! What a window says: which columns drifted, what the verdict is, how it reads. Pure.

use crate::measure::{MEASURES, Pair, measure};
use crate::parity::Parity;
use crate::quality::Quality;
use crate::window::{SCORE, Window};
use gristmill_kernel::condition::{Figures, Judged};
use gristmill_kernel::run::Metric;
use gristmill_kernel::{Check, Name, Timestamp, Verdict, VersionRef};
use std::collections::BTreeMap;

/// Which predictions a report is about: those made after `from` (`None`: since the first) and not after `to`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Span {
    /// Not included.
    pub from: Option<Timestamp>,
    /// Included.
    pub to: Timestamp,
}

/// The content of a `monitors.NAME` version; its `meta` is the same without `columns`.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Report {
    /// Format of this record.
    pub format: u32,
    /// The endpoint.
    pub endpoint: Name,
    /// The version whose answers were judged.
    pub model: VersionRef,
    /// Which predictions.
    pub window: Span,
    /// How many.
    pub rows: u64,
    /// What was concluded; `None` when the project asks for no drift condition.
    pub verdict: Option<Verdict>,
    /// What drifted, the largest shift first: `psi(activity.spend_90d) = 0.41 > 0.2`.
    pub drifted: Vec<String>,
    /// Realised quality, when outcomes have arrived.
    pub quality: Option<Quality>,
    /// Whether the served features are what training gives, for a sample.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parity: Option<Parity>,
    /// Every measure of every column.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub columns: BTreeMap<String, BTreeMap<String, f64>>,
}

impl Report {
    /// The format this binary writes and the newest it reads.
    pub const FORMAT: u32 = 1;

    /// The metrics of the run: `psi.view.column`, `psi.score`, `realised.auc`, `quality_drop`, `rows`.
    pub fn metrics(&self) -> Vec<Metric> {
        let mut metrics = vec![Metric::new("rows", self.rows as f64)];
        for (column, values) in &self.columns {
            metrics.extend(values.iter().filter(|(m, _)| *m != "rows").map(|(m, v)| Metric::new(format!("{m}.{column}"), *v)));
        }
        if let Some(quality) = &self.quality {
            metrics.push(Metric::new("realised.rows", quality.rows as f64));
            metrics.extend(quality.metrics.iter().map(|(name, value)| Metric::new(format!("realised.{name}"), *value)));
            metrics.extend(quality.drop.map(|drop| Metric::new("quality_drop", drop)));
        }
        metrics.extend(self.parity.iter().flat_map(Parity::metrics));
        metrics
    }

    /// Whether served features are wrong, by the project's condition.
    pub fn skewed(&self) -> bool {
        self.parity.as_ref().is_some_and(|p| p.verdict == Some(Verdict::Fail))
    }

    /// What the run says: the worse of drift and parity.
    pub fn overall(&self) -> Option<Verdict> {
        let parity = self.parity.as_ref().and_then(|p| p.verdict);
        match (self.verdict, parity) {
            (Some(a), Some(b)) => Some(Verdict::worst([a, b])),
            (a, b) => a.or(b),
        }
    }
}

/// A column that was measured and is to be judged.
#[derive(Debug, Clone)]
pub struct Measured {
    /// `view.column` or `score`.
    pub column: String,
    /// What there is.
    pub values: BTreeMap<String, f64>,
    /// What the condition sees.
    pub figures: Figures,
}

/// Measures every column of a window.
pub fn measure_all(window: &Window) -> Vec<Measured> {
    let mut all = Vec::new();
    for (name, column) in &window.columns {
        let Some(reference) = window.reference(name) else { continue };
        let (values, figures) = measure(&Pair { reference, window: column });
        let values = values.into_iter().map(|(m, v)| (m.to_owned(), v)).collect();
        all.push(Measured { column: (*name).to_owned(), values, figures });
    }
    all
}

/// The check of one column. The condition means drift, so a condition that holds is a failed check.
pub fn check(condition: &str, measured: &Measured, judged: &Judged) -> Check {
    let verdict = match judged.holds {
        Some(true) => Verdict::Fail,
        Some(false) => Verdict::Pass,
        None => Verdict::Inconclusive,
    };
    let with = |value: bool| spell(condition, &measured.column, |name| value.then(|| shown(measured.figures.get(name))));
    Check { condition: with(false), verdict, observed: with(true) }
}

/// Sorts the checks: failed ones first, the largest shift first among them; then inconclusive ones, then those that passed.
pub fn sort(checks: &mut [(Check, &Measured)]) {
    let psi = |m: &Measured| m.values.get("psi").copied().unwrap_or(0.0);
    // The score drifts because features do: the cause is named first.
    let key = |c: &Check, m: &Measured| (std::cmp::Reverse(c.verdict), m.column == SCORE);
    checks.sort_by(|(a, of_a), (b, of_b)| key(a, of_a).cmp(&key(b, of_b)).then(psi(of_b).total_cmp(&psi(of_a))));
}

/// What the checks come to. Drift anywhere is drift; a column that cannot be judged leaves the rest inconclusive.
pub fn verdict(checks: &[Check]) -> Verdict {
    Verdict::worst(checks.iter().map(|c| c.verdict))
}

/// The condition with each measure named after its column: `psi(activity.spend_90d) > 0.2`, with values
/// `psi(activity.spend_90d) = 0.41 > 0.2`.
fn spell(condition: &str, column: &str, value: impl Fn(&str) -> Option<String>) -> String {
    let mut out = String::new();
    let mut rest = condition;
    while let Some(start) = rest.find(|c: char| c.is_alphabetic() || c == '_') {
        let (before, word_on) = rest.split_at(start);
        let end = word_on.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(word_on.len());
        let (word, after) = word_on.split_at(end);
        out.push_str(before);
        let name = word.to_ascii_lowercase();
        // A letter behind a digit belongs to a number such as 1e-3.
        let in_number = before.ends_with(|c: char| c.is_ascii_digit() || c == '.');
        match MEASURES.iter().find(|m| m.name == name && !in_number) {
            Some(measure) => {
                out.push_str(&format!("{}({column})", measure.name));
                if let Some(value) = value(measure.name) {
                    out.push_str(&format!(" = {value}"));
                }
            }
            None => out.push_str(word),
        }
        rest = after;
    }
    out.push_str(rest);
    out
}

/// A number for people: four digits that matter.
fn shown(value: Option<f64>) -> String {
    let Some(value) = value else { return "unknown".into() };
    if value == 0.0 || value.fract() == 0.0 && value.abs() < 1e15 {
        return format!("{value}");
    }
    if value.abs() < 1e-3 {
        return format!("{value:.1e}");
    }
    let decimals = (3 - value.abs().log10().floor() as i32).clamp(0, 4) as usize;
    let text = format!("{value:.decimals$}");
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

/// One line for people.
pub fn summary(report: &Report, columns: usize) -> String {
    let head = format!("{} predictions of {}, {columns} columns", report.rows, report.model);
    let drift = match (report.verdict, report.drifted.first()) {
        (Some(Verdict::Fail), Some(first)) if report.drifted.len() == 1 => format!("drift: {first}"),
        (Some(Verdict::Fail), Some(first)) => format!("drift in {} columns: {first}", report.drifted.len()),
        (Some(Verdict::Inconclusive), _) => "drift could not be judged in every column".into(),
        (Some(_), _) => "no drift".into(),
        (None, _) => "drift is not judged".into(),
    };
    let quality = report.quality.as_ref().map(Quality::summary);
    let parity = report.parity.as_ref().map(Parity::summary);
    quality.into_iter().chain(parity).fold(format!("{head}: {drift}"), |all, more| format!("{all}; {more}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measured(column: &str, values: &[(&str, f64)]) -> Measured {
        let mut figures = Figures::default();
        values.iter().for_each(|(k, v)| figures.number(*k, *v));
        Measured { column: column.into(), values: values.iter().map(|(k, v)| ((*k).to_owned(), *v)).collect(), figures }
    }
    fn judged(holds: Option<bool>) -> Judged {
        Judged { holds, observed: String::new() }
    }

    #[test]
    fn a_check_reads_as_what_was_seen() {
        let column = measured("activity.spend_90d", &[("psi", 0.41), ("ks_p", 1.5e-7), ("rows", 2000.0)]);
        let one = check("psi > 0.2", &column, &judged(Some(true)));
        assert_eq!((one.observed.as_str(), one.verdict), ("psi(activity.spend_90d) = 0.41 > 0.2", Verdict::Fail));
        assert_eq!(one.condition, "psi(activity.spend_90d) > 0.2");
        let two = check("(PSI > 2e-1 and ks_p < 1e-3) or missing_rate > 0.1", &column, &judged(None));
        let want = "(psi(activity.spend_90d) = 0.41 > 2e-1 and ks_p(activity.spend_90d) = 1.5e-7 < 1e-3) or missing_rate(activity.spend_90d) = unknown > 0.1";
        assert_eq!((two.observed.as_str(), two.verdict), (want, Verdict::Inconclusive));
    }

    #[test]
    fn numbers_are_short() {
        let all =
            [(0.0, "0"), (2000.0, "2000"), (0.41, "0.41"), (0.123456, "0.1235"), (1234.56, "1235"), (1.5e-7, "1.5e-7"), (12.3456, "12.35")];
        for (value, text) in all {
            assert_eq!(shown(Some(value)), text);
        }
    }

    #[test]
    fn the_cause_comes_before_the_score() {
        let (a, b, s) = (measured("v.a", &[("psi", 0.3)]), measured("v.b", &[("psi", 0.9)]), measured(SCORE, &[("psi", 2.0)]));
        let of = |m, holds| check("psi > 0.2", m, &judged(holds));
        let mut checks = vec![(of(&s, Some(true)), &s), (of(&a, Some(true)), &a), (of(&b, Some(true)), &b), (of(&a, Some(false)), &a)];
        sort(&mut checks);
        let order: Vec<&str> = checks.iter().map(|(_, m)| m.column.as_str()).collect();
        assert_eq!(order, ["v.b", "v.a", SCORE, "v.a"]);
        assert_eq!(verdict(&checks.into_iter().map(|(c, _)| c).collect::<Vec<_>>()), Verdict::Fail);
    }

    #[test]
    fn one_column_that_cannot_be_judged_is_not_success() {
        let a = measured("v.a", &[("psi", 0.3)]);
        let checks = [check("psi > 0.2", &a, &judged(Some(false))), check("psi > 0.2", &a, &judged(None))];
        assert_eq!(verdict(&checks), Verdict::Inconclusive);
    }
}
