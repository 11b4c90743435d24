//! The metrics: one file per family, one visible list.
//!
//! Promise: a value equals scikit-learn's for the same rows, ties included (`testdata/make_metrics.py` made the fixtures). A metric
//! that the rows do not define - the AUC of one class - is `None`, never a made-up number.
//!
//! To add one: a function in a family's file, and its line in [`METRICS`]. A name with an argument ends in `_N`: `ndcg_10`.

mod binary;
mod multiclass;
mod ranking;
mod regression;

use crate::sample::task_word;
use gristmill_kernel::error::{Code, Fault, Result};
use gristmill_kernel::model::Task;
use std::collections::BTreeMap;

/// Rows with their outcomes and scores.
#[derive(Debug, Clone, Copy)]
pub struct Scored<'a> {
    /// The outcome: a class's place, a number or a relevance.
    pub y: &'a [f64],
    /// `outputs` values per row, row after row.
    pub scores: &'a [f64],
    /// 1, or one per class.
    pub outputs: usize,
    /// The group of each row.
    pub group: &'a [u32],
}

/// Which way is better.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Better {
    /// More is better.
    Higher,
    /// Less is better.
    Lower,
}

/// One line of the list.
#[derive(Debug)]
pub struct Family {
    /// The name without its argument.
    pub name: &'static str,
    /// For which task.
    pub task: Task,
    /// Which way is better.
    pub better: Better,
    /// For names with an argument: the values it takes, and those that are always reported.
    pub argument: Option<Argument>,
    /// Computes it; the argument is 0 where there is none.
    pub compute: fn(&Scored, u32) -> Option<f64>,
}

/// The `_N` of a name.
#[derive(Debug)]
pub struct Argument {
    /// Lowest.
    pub low: u32,
    /// Highest.
    pub high: u32,
    /// Always reported.
    pub reported: &'static [u32],
}

const fn plain(name: &'static str, task: Task, better: Better, compute: fn(&Scored, u32) -> Option<f64>) -> Family {
    Family { name, task, better, argument: None, compute }
}

const fn with(
    name: &'static str,
    task: Task,
    (low, high, reported): (u32, u32, &'static [u32]),
    compute: fn(&Scored, u32) -> Option<f64>,
) -> Family {
    Family { name, task, better: Better::Higher, argument: Some(Argument { low, high, reported }), compute }
}

/// Every metric there is.
pub const METRICS: &[Family] = &[
    plain("auc", Task::Binary, Better::Higher, binary::auc),
    plain("pr_auc", Task::Binary, Better::Higher, binary::pr_auc),
    plain("logloss", Task::Binary, Better::Lower, binary::logloss),
    plain("accuracy", Task::Binary, Better::Higher, binary::accuracy),
    plain("balanced_accuracy", Task::Binary, Better::Higher, binary::balanced_accuracy),
    plain("precision", Task::Binary, Better::Higher, binary::precision),
    plain("recall", Task::Binary, Better::Higher, binary::recall),
    plain("f1", Task::Binary, Better::Higher, binary::f1),
    plain("ks", Task::Binary, Better::Higher, binary::ks),
    plain("brier", Task::Binary, Better::Lower, binary::brier),
    plain("mcc", Task::Binary, Better::Higher, binary::mcc),
    with("lift", Task::Binary, (1, 100, &[10]), binary::lift),
    with("recall_at_precision", Task::Binary, (1, 100, &[90]), binary::recall_at_precision),
    plain("accuracy", Task::Multiclass, Better::Higher, multiclass::accuracy),
    plain("balanced_accuracy", Task::Multiclass, Better::Higher, multiclass::balanced_accuracy),
    plain("logloss", Task::Multiclass, Better::Lower, multiclass::logloss),
    plain("f1_macro", Task::Multiclass, Better::Higher, multiclass::f1_macro),
    plain("auc_ovr", Task::Multiclass, Better::Higher, multiclass::auc_ovr),
    plain("rmse", Task::Regression, Better::Lower, regression::rmse),
    plain("mae", Task::Regression, Better::Lower, regression::mae),
    plain("r2", Task::Regression, Better::Higher, regression::r2),
    plain("mape", Task::Regression, Better::Lower, regression::mape),
    plain("medae", Task::Regression, Better::Lower, regression::medae),
    plain("ndcg", Task::Ranking, Better::Higher, ranking::ndcg),
    with("ndcg", Task::Ranking, (1, 1_000, &[5, 10]), ranking::ndcg),
    plain("map", Task::Ranking, Better::Higher, ranking::map),
    plain("mrr", Task::Ranking, Better::Higher, ranking::mrr),
];

/// One metric with its argument.
#[derive(Debug, Clone, Copy)]
pub struct Metric {
    family: &'static Family,
    argument: u32,
}

impl Metric {
    /// Its name: `ndcg_10`.
    pub fn name(&self) -> String {
        match self.family.argument {
            None => self.family.name.to_owned(),
            Some(_) => format!("{}_{}", self.family.name, self.argument),
        }
    }
    /// Which way is better.
    pub fn better(&self) -> Better {
        self.family.better
    }
    /// Its value, if the rows define one.
    pub fn compute(&self, scored: &Scored) -> Option<f64> {
        if scored.y.is_empty() {
            return None;
        }
        (self.family.compute)(scored, self.argument).filter(|v| v.is_finite())
    }
    /// The value turned so that less is better.
    pub fn cost(&self, value: f64) -> f64 {
        match self.family.better {
            Better::Higher => -value,
            Better::Lower => value,
        }
    }
}

/// The metrics that are always reported for a task.
pub fn reported(task: Task) -> Vec<Metric> {
    let of = |family: &'static Family| match &family.argument {
        None => vec![Metric { family, argument: 0 }],
        Some(argument) => argument.reported.iter().map(|n| Metric { family, argument: *n }).collect(),
    };
    METRICS.iter().filter(|f| f.task == task).flat_map(of).collect()
}

/// The metric of a name.
pub fn find(name: &str, task: Task) -> Result<Metric> {
    let of_task = || METRICS.iter().filter(|f| f.task == task);
    if let Some(family) = of_task().find(|f| f.argument.is_none() && f.name == name) {
        return Ok(Metric { family, argument: 0 });
    }
    if let Some((base, number)) = name.rsplit_once('_')
        && let Ok(argument) = number.parse::<u32>()
        && let Some(family) =
            of_task().find(|f| f.name == base && f.argument.as_ref().is_some_and(|a| (a.low..=a.high).contains(&argument)))
    {
        return Ok(Metric { family, argument });
    }
    let names: Vec<String> = of_task()
        .map(|f| match &f.argument {
            None => f.name.to_owned(),
            Some(a) => format!("{}_{}..{}", f.name, a.low, a.high),
        })
        .collect();
    Err(Fault::invalid(Code::UNKNOWN_ALGORITHM, format!("a {} task has no metric `{name}`", task_word(task)))
        .fix(format!("measure one of {}", names.join(", "))))
}

/// Every reported metric and the measure, as far as the rows define them.
pub fn figures(task: Task, measure: &Metric, scored: &Scored) -> BTreeMap<String, f64> {
    let mut metrics = reported(task);
    metrics.push(*measure);
    metrics.iter().filter_map(|m| Some((m.name(), m.compute(scored)?))).collect()
}

/// Rows by falling score. Equal scores stay in the order of the rows.
fn by_score(scores: &[f64]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..scores.len()).collect();
    order.sort_by(|a, b| scores[*b].total_cmp(&scores[*a]));
    order
}

/// (positives, negatives) of each distinct score, from the highest down.
fn steps(positive: impl Fn(usize) -> bool, scores: &[f64]) -> Vec<(f64, f64)> {
    let order = by_score(scores);
    let count = |rows: &[usize]| {
        let positives = rows.iter().filter(|r| positive(**r)).count() as f64;
        (positives, rows.len() as f64 - positives)
    };
    order.chunk_by(|a, b| scores[*a] == scores[*b]).map(count).collect()
}

/// The area under the ROC curve.
fn area(steps: &[(f64, f64)]) -> Option<f64> {
    let (positives, negatives) = totals(steps);
    if positives == 0.0 || negatives == 0.0 {
        return None;
    }
    let mut above = 0.0;
    let mut wins = 0.0;
    for (p, n) in steps {
        wins += n * (above + p / 2.0);
        above += p;
    }
    Some(wins / (positives * negatives))
}

/// Average precision: the sum over distinct scores of the gain in recall times the precision.
fn average_precision(steps: &[(f64, f64)]) -> f64 {
    let (positives, _) = totals(steps);
    if positives == 0.0 {
        return 0.0;
    }
    let (mut tp, mut all, mut sum) = (0.0, 0.0, 0.0);
    for (p, n) in steps {
        tp += p;
        all += p + n;
        sum += p / positives * (tp / all);
    }
    sum
}

fn totals(steps: &[(f64, f64)]) -> (f64, f64) {
    steps.iter().fold((0.0, 0.0), |(p, n), step| (p + step.0, n + step.1))
}
