//! Realised quality: the metrics of predictions whose outcome is known by now. The definitions are those of training; a stage does not import
//! a stage, so the few that make sense on a stream of outcomes are written here and held to the same fixtures as there (scikit-learn).

use gristmill_kernel::limits::QUALITY_ROWS_MIN;
use gristmill_kernel::model::Task;
use std::collections::BTreeMap;

/// A prediction and what happened.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Known {
    /// The score: a probability of the second class, of the predicted class, or a value.
    pub score: f64,
    /// What happened: 1 or 0 for a class (whether it was the second one; whether the predicted class was right), or a value.
    pub outcome: f64,
}

/// How good the predictions were.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Quality {
    /// Predictions with a known outcome.
    pub rows: u64,
    /// The metrics; none while fewer than [`QUALITY_ROWS_MIN`] outcomes are known.
    pub metrics: BTreeMap<String, f64>,
    /// How much worse the deciding metric is than it was on held-out rows; negative when it is better. `None` if either is unknown.
    pub drop: Option<f64>,
    /// The metric that decides.
    pub measure: String,
}

impl Quality {
    /// The metrics of a task. `held_out` is the deciding metric's value when the model was trained.
    pub fn of(task: Task, known: &[Known], measure: &str, held_out: Option<f64>) -> Quality {
        let values: Vec<(&str, Option<f64>)> = match task {
            // A figure over a handful of outcomes is noise that would start a retraining.
            _ if known.len() < QUALITY_ROWS_MIN => vec![],
            Task::Binary => vec![("auc", auc(known)), ("logloss", logloss(known)), ("accuracy", accuracy(known))],
            Task::Multiclass => vec![("accuracy", mean(known, |k| k.outcome))],
            Task::Regression => vec![("rmse", rmse(known)), ("mae", mean(known, |k| (k.score - k.outcome).abs()))],
            // Ranking is judged within groups, which predictions do not carry.
            Task::Ranking => vec![],
        };
        let metrics: BTreeMap<String, f64> = values.into_iter().filter_map(|(n, v)| Some((n.to_owned(), v?))).collect();
        let drop = metrics
            .get(measure)
            .zip(held_out.filter(|v| v.is_finite()))
            .map(|(now, then)| if lower_is_better(measure) { now - then } else { then - now });
        Quality { rows: known.len() as u64, metrics, drop, measure: measure.to_owned() }
    }

    /// One line for people.
    pub fn summary(&self) -> String {
        let value = self.metrics.get(&self.measure).map(|v| format!("realised {} = {v:.4}", self.measure));
        let drop = self.drop.map(|d| format!(" ({} than on held-out rows by {:.4})", if d > 0.0 { "worse" } else { "not worse" }, d.abs()));
        match value {
            Some(value) => format!("{value}{} over {} outcomes", drop.unwrap_or_default(), self.rows),
            None if self.rows < QUALITY_ROWS_MIN as u64 => format!("{} outcomes known, {QUALITY_ROWS_MIN} needed to judge", self.rows),
            None => format!("{} outcomes known", self.rows),
        }
    }
}

fn lower_is_better(measure: &str) -> bool {
    matches!(measure, "logloss" | "rmse" | "mae")
}

fn mean(known: &[Known], of: impl Fn(&Known) -> f64) -> Option<f64> {
    (!known.is_empty()).then(|| known.iter().map(of).sum::<f64>() / known.len() as f64)
}

/// The chance that a random true row scores above a random false one, ties counting half; `None` without both.
pub fn auc(known: &[Known]) -> Option<f64> {
    let mut sorted: Vec<&Known> = known.iter().collect();
    sorted.sort_by(|a, b| a.score.total_cmp(&b.score));
    let (mut below, mut wins, mut trues) = (0.0, 0.0, 0.0);
    for tied in sorted.chunk_by(|a, b| a.score == b.score) {
        let yes = tied.iter().filter(|k| k.outcome > 0.5).count() as f64;
        let no = tied.len() as f64 - yes;
        wins += yes * (below + no / 2.0);
        below += no;
        trues += yes;
    }
    (trues > 0.0 && below > 0.0).then(|| wins / (trues * below))
}

/// The mean negative logarithm of the probability given to what happened, probabilities kept one epsilon away from 0 and 1.
pub fn logloss(known: &[Known]) -> Option<f64> {
    mean(known, |k| {
        let p = k.score.clamp(f64::EPSILON, 1.0 - f64::EPSILON);
        if k.outcome > 0.5 { -p.ln() } else { -(1.0 - p).ln() }
    })
}

/// The share of rows on the right side of one half.
pub fn accuracy(known: &[Known]) -> Option<f64> {
    mean(known, |k| f64::from(u8::from((k.score > 0.5) == (k.outcome > 0.5))))
}

/// The root of the mean squared error.
pub fn rmse(known: &[Known]) -> Option<f64> {
    mean(known, |k| (k.score - k.outcome).powi(2)).map(f64::sqrt)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known(rows: &[(f64, f64)]) -> Vec<Known> {
        rows.iter().map(|(score, outcome)| Known { score: *score, outcome: *outcome }).collect()
    }

    #[test]
    fn one_class_has_no_auc() {
        assert_eq!(auc(&known(&[(0.1, 1.0), (0.9, 1.0)])), None);
        assert_eq!(auc(&known(&[(0.5, 1.0), (0.5, 0.0)])), Some(0.5));
        assert_eq!(auc(&[]), None);
    }

    #[test]
    fn a_drop_is_positive_when_it_got_worse() {
        let rows = known(&[(0.9, 1.0), (0.8, 0.0), (0.2, 0.0), (0.7, 1.0)]).repeat(QUALITY_ROWS_MIN / 4);
        let up = Quality::of(Task::Binary, &rows, "auc", Some(0.9));
        assert!((up.drop.expect("known") - (0.9 - 0.75)).abs() < 1e-12, "{up:?}");
        let down = Quality::of(Task::Binary, &rows, "logloss", Some(0.1));
        assert!(down.drop.expect("known") > 0.0);
        assert_eq!(Quality::of(Task::Binary, &rows, "ks", Some(0.9)).drop, None);
        assert_eq!(Quality::of(Task::Binary, &[], "auc", Some(0.9)).drop, None);
    }

    #[test]
    fn a_handful_of_outcomes_is_not_judged() {
        let few = known(&[(0.9, 1.0), (0.1, 0.0)]).repeat(QUALITY_ROWS_MIN / 2 - 1);
        let quality = Quality::of(Task::Binary, &few, "auc", Some(0.9));
        assert_eq!((quality.rows, quality.metrics.len(), quality.drop), (98, 0, None));
        assert_eq!(quality.summary(), "98 outcomes known, 100 needed to judge");
    }
}
