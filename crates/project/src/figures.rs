//! The names that conditions may use, by where they stand.
//!
//! The metrics are those that `train` computes on held-out rows; a new metric there gets a line here, which a test demands.

use gristmill_kernel::model::Task;

/// Metrics by task. `_N` takes a number: `ndcg_10`, `recall_at_precision_90`.
pub const METRICS: &[(&str, Task)] = &[
    ("auc", Task::Binary),
    ("pr_auc", Task::Binary),
    ("logloss", Task::Binary),
    ("accuracy", Task::Binary),
    ("balanced_accuracy", Task::Binary),
    ("precision", Task::Binary),
    ("recall", Task::Binary),
    ("f1", Task::Binary),
    ("ks", Task::Binary),
    ("brier", Task::Binary),
    ("mcc", Task::Binary),
    ("lift_N", Task::Binary),
    ("recall_at_precision_N", Task::Binary),
    ("accuracy", Task::Multiclass),
    ("balanced_accuracy", Task::Multiclass),
    ("logloss", Task::Multiclass),
    ("f1_macro", Task::Multiclass),
    ("auc_ovr", Task::Multiclass),
    ("rmse", Task::Regression),
    ("mae", Task::Regression),
    ("r2", Task::Regression),
    ("mape", Task::Regression),
    ("medae", Task::Regression),
    ("ndcg", Task::Ranking),
    ("ndcg_N", Task::Ranking),
    ("map", Task::Ranking),
    ("mrr", Task::Ranking),
];

/// What `abort` sees of the new version's traffic; the same of the old one as `stable.NAME`.
pub const LIVE: [&str; 6] = ["error_rate", "p50_ms", "p99_ms", "score_psi", "score_mean", "rows"];
/// What `abort` sees besides of a version that is shown copies.
pub const COPIES: [&str; 2] = ["agreement", "score_distance"];
/// What `drift` sees of each feature and of the score.
pub const DRIFT: [&str; 8] = ["psi", "ks", "ks_p", "chi2", "chi2_p", "missing_rate", "missing_shift", "rows"];
/// What `parity` sees of the features that were computed again.
pub const PARITY: [&str; 4] = ["mismatch_rate", "late_rate", "behind_rate", "checked"];
/// What `retrain.when` sees.
pub const RETRAIN: [&str; 6] = ["drift", "quality_drop", "mismatch_rate", "new_rows", "new_labels", "age_hours"];

/// Whether a metric exists, for any task or for the one given.
pub fn is_metric(name: &str, task: Option<Task>) -> bool {
    METRICS.iter().filter(|(_, of)| task.is_none_or(|t| t == *of)).any(|(known, _)| match known.strip_suffix("_N") {
        None => *known == name,
        Some(base) => argument(name, base).is_some(),
    })
}

fn argument(name: &str, base: &str) -> Option<u32> {
    name.strip_prefix(base)?.strip_prefix('_')?.parse().ok().filter(|n| *n > 0)
}

/// The metrics of a task, or of all.
pub fn metrics(task: Option<Task>) -> Vec<&'static str> {
    let mut names: Vec<&str> = METRICS.iter().filter(|(_, of)| task.is_none_or(|t| t == *of)).map(|(n, _)| *n).collect();
    names.dedup();
    names
}

/// The names that gates may use: the metrics, of this version, of the champion on the same rows, of the worst slice, of the rows
/// trained on. Metrics with a number are those that the conditions mention.
pub fn gates(task: Option<Task>, conditions: &[String]) -> Vec<String> {
    let mut plain: Vec<String> = metrics(task).into_iter().filter(|m| !m.ends_with("_N")).map(str::to_owned).collect();
    for condition in conditions {
        for word in condition.split(|c: char| !c.is_alphanumeric() && c != '_') {
            if is_metric(word, task) {
                plain.push(word.to_owned());
            }
        }
    }
    plain.sort();
    plain.dedup();
    let with = |prefix: &'static str| plain.iter().map(move |m| format!("{prefix}{m}"));
    ["", "champion.", "worst.", "train."].into_iter().flat_map(with).collect()
}

/// The names that `abort` may use; `copies`: the new version is shown some.
pub fn live(copies: bool) -> Vec<String> {
    let own = LIVE.iter().chain(COPIES.iter().filter(|_| copies)).map(|n| (*n).to_owned());
    own.chain(LIVE.iter().map(|n| format!("stable.{n}"))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_metrics_are_those_of_train() {
        let name = |f: &gristmill_train::metric::Family| if f.argument.is_some() { format!("{}_N", f.name) } else { f.name.to_owned() };
        let theirs: Vec<(String, Task)> = gristmill_train::metric::METRICS.iter().map(|f| (name(f), f.task)).collect();
        let ours: Vec<(String, Task)> = METRICS.iter().map(|(n, t)| ((*n).to_owned(), *t)).collect();
        assert_eq!(ours, theirs);
    }

    #[test]
    fn numbered_metrics_exist_with_their_number() {
        assert!(is_metric("ndcg_10", Some(Task::Ranking)) && is_metric("recall_at_precision_50", None));
        assert!(!is_metric("ndcg_10", Some(Task::Binary)) && !is_metric("lift_x", None) && !is_metric("lift_N", None));
        let names = gates(Some(Task::Ranking), &["ndcg_10 >= champion.ndcg_10".into()]);
        assert!(names.contains(&"champion.ndcg_10".into()) && !names.contains(&"auc".into()));
    }
}
