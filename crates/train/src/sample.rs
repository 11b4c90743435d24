//! What an algorithm learns from: encoded rows with their outcomes. Also the decision what is predicted.
//!
//! Invariants: `columns[f].len() == y.len()`; a category is its place in the feature's dictionary; NaN is missing; there are no infinities.

use crate::table::{Labels, TrainingTable, Values, Words};
use gristmill_kernel::error::{Code, Fault, Result};
use gristmill_kernel::limits::CATEGORIES_MAX;
use gristmill_kernel::model::{Feature, Task};
use gristmill_kernel::training::Split;
use std::collections::{BTreeMap, BTreeSet};

/// Marks a held-out row whose class no training row has.
pub const UNSEEN: f64 = -1.0;

/// A training set, encoded.
#[derive(Debug, Clone)]
pub struct Dataset {
    /// What is predicted.
    pub task: Task,
    /// The classes in output order, for classification.
    pub classes: Vec<String>,
    /// The inputs with their dictionaries.
    pub features: Vec<Feature>,
    /// One column per feature.
    pub columns: Vec<Vec<f64>>,
    /// The outcome: a class's place, a number or a relevance. [`UNSEEN`] only in held-out rows.
    pub y: Vec<f64>,
    /// The group of each row; all 0 without groups.
    pub group: Vec<u32>,
    /// Whether the training set has groups.
    pub grouped: bool,
    /// Whether the latest moments are held out.
    pub split_by_time: bool,
    /// Moments, in microseconds.
    pub time: Vec<i64>,
    /// The rows to learn from, in order.
    pub train: Vec<usize>,
    /// The rows held out, in order.
    pub test: Vec<usize>,
}

/// A part of a data set, ready to learn from.
#[derive(Debug, Clone)]
pub struct Sample<'a> {
    /// What is predicted.
    pub task: Task,
    /// How many classes; 0 where there are none.
    pub classes: usize,
    /// The inputs.
    pub features: &'a [Feature],
    /// One column per feature.
    pub columns: Vec<Vec<f64>>,
    /// The outcome of each row.
    pub y: Vec<f64>,
    /// The weight of each row, if they differ.
    pub weight: Option<Vec<f64>>,
    /// For ranking: how many neighbouring rows belong together, in order.
    pub group_sizes: Option<Vec<u64>>,
}

impl Dataset {
    /// Encodes a table. Dictionaries come from the rows to train on.
    pub fn new(table: &TrainingTable, task: Option<Task>) -> Result<Dataset> {
        let train: Vec<usize> = (0..table.rows).filter(|r| !table.held_out[*r]).collect();
        let test: Vec<usize> = (0..table.rows).filter(|r| table.held_out[*r]).collect();
        if train.is_empty() {
            return Err(untrainable("the training set has no rows to train on", "hold fewer rows out, or widen the label query"));
        }
        let task = task_of(&table.labels, &train, task)?;
        if task == Task::Ranking && table.group.is_none() {
            return Err(untrainable(
                "a ranking needs groups, and the training set has none",
                "name the group column of the label query: group = \"COLUMN\"",
            ));
        }
        let (classes, y) = outcomes(&table.labels, task, &train)?;
        let mut features = Vec::with_capacity(table.features.len());
        let mut columns = Vec::with_capacity(table.features.len());
        for (column, values) in table.meta.features.iter().zip(&table.features) {
            let (categories, encoded) = match values {
                Values::Number(numbers) => (Vec::new(), numbers.clone()),
                Values::Word(words) => encode(words, &train),
            };
            features.push(Feature { view: column.view.clone(), column: column.column.clone(), kind: column.kind, categories });
            columns.push(encoded);
        }
        if features.is_empty() {
            return Err(untrainable("the training set has no features", "name at least one view: features = [\"VIEW\"]"));
        }
        let group = table.group.as_ref().map_or_else(|| vec![0; table.rows], |g| g.codes.clone());
        Ok(Dataset {
            task,
            classes,
            features,
            columns,
            y,
            group,
            grouped: table.group.is_some(),
            split_by_time: matches!(table.meta.split, Split::Time { .. }),
            time: table.time.clone(),
            train,
            test,
        })
    }

    /// The rows named, as a sample. `balance` weighs rare classes up as `rows / (classes * rows of the class)`.
    pub fn sample(&self, rows: &[usize], balance: Balance) -> Sample<'_> {
        let mut rows = rows.to_vec();
        let mut group_sizes = None;
        if self.task == Task::Ranking {
            rows.sort_by_key(|r| self.group[*r]); // stable: rows of a group keep their order
            group_sizes = Some(rows.chunk_by(|a, b| self.group[*a] == self.group[*b]).map(|g| g.len() as u64).collect());
        }
        let columns = self.columns.iter().map(|c| rows.iter().map(|r| c[*r]).collect()).collect();
        let y: Vec<f64> = rows.iter().map(|r| self.y[*r]).collect();
        let weight = match balance {
            Balance::Classes if !self.classes.is_empty() => {
                let mut counts = vec![0usize; self.classes.len()];
                y.iter().for_each(|c| counts[*c as usize] += 1);
                let each = |c: f64| rows.len() as f64 / (counts.len() as f64 * counts[c as usize] as f64);
                Some(y.iter().map(|c| each(*c)).collect())
            }
            _ => None,
        };
        Sample { task: self.task, classes: self.classes.len(), features: &self.features, columns, y, weight, group_sizes }
    }

    /// One encoded row.
    pub fn row(&self, row: usize, out: &mut Vec<f64>) {
        out.clear();
        out.extend(self.columns.iter().map(|c| c[row]));
    }
}

/// Whether rare classes are weighed up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Balance {
    /// Every row counts the same.
    Rows,
    /// Every class counts the same.
    Classes,
}

impl Sample<'_> {
    /// Features that can tell rows apart: not all missing and not all the same.
    pub fn varying(&self) -> Vec<usize> {
        let varies = |column: &Vec<f64>| {
            let Some(first) = column.iter().find(|v| !v.is_nan()) else { return false };
            column.iter().any(|v| v != first) // NaN differs too: being missing tells something
        };
        (0..self.columns.len()).filter(|f| varies(&self.columns[*f])).collect()
    }
}

pub(crate) fn untrainable(what: impl Into<String>, fix: impl Into<String>) -> Fault {
    Fault::invalid(Code::UNTRAINABLE, what).fix(fix)
}

/// What is predicted: as asked, else as the labels suggest.
fn task_of(labels: &Labels, train: &[usize], asked: Option<Task>) -> Result<Task> {
    let implied = match labels {
        Labels::Boolean(_) => Task::Binary,
        Labels::Int(v) if train.iter().all(|r| v[*r] == 0 || v[*r] == 1) => Task::Binary,
        Labels::Int(_) | Labels::Float(_) => Task::Regression,
        Labels::Text(w) => {
            let distinct: BTreeSet<u32> = train.iter().map(|r| w.codes[*r]).collect();
            if distinct.len() > 2 { Task::Multiclass } else { Task::Binary }
        }
    };
    let task = asked.unwrap_or(implied);
    if matches!(task, Task::Regression | Task::Ranking) && matches!(labels, Labels::Text(_)) {
        return Err(untrainable(
            format!("the labels are words, which task {} cannot learn", task_word(task)),
            "use task = \"multiclass\", or a label that is a number",
        ));
    }
    Ok(task)
}

/// The word of a task.
pub fn task_word(task: Task) -> &'static str {
    match task {
        Task::Binary => "binary",
        Task::Multiclass => "multiclass",
        Task::Regression => "regression",
        Task::Ranking => "ranking",
    }
}

/// Classes in a natural order and the outcome of every row.
fn outcomes(labels: &Labels, task: Task, train: &[usize]) -> Result<(Vec<String>, Vec<f64>)> {
    if matches!(task, Task::Regression | Task::Ranking) {
        let y: Vec<f64> = match labels {
            Labels::Boolean(v) => v.iter().map(|b| f64::from(u8::from(*b))).collect(),
            Labels::Int(v) => v.iter().map(|i| *i as f64).collect(),
            Labels::Float(v) => v.clone(),
            Labels::Text(_) => return Err(Fault::internal("words reached a numeric task")),
        };
        if task == Task::Ranking && y.iter().any(|v| *v < 0.0) {
            return Err(untrainable("a relevance is negative", "use labels from 0 (irrelevant) upwards"));
        }
        return Ok((Vec::new(), y));
    }
    // Places in the sorted list of distinct values of the training rows.
    fn places<T: Ord + Copy>(values: &[T], train: &[usize]) -> (Vec<T>, Vec<f64>) {
        let distinct: Vec<T> = train.iter().map(|r| values[*r]).collect::<BTreeSet<T>>().into_iter().collect();
        let y = values.iter().map(|v| distinct.binary_search(v).map_or(UNSEEN, |p| p as f64)).collect();
        (distinct, y)
    }
    let (classes, y) = match labels {
        Labels::Boolean(v) => {
            let (d, y) = places(v, train);
            (d.iter().map(bool::to_string).collect::<Vec<_>>(), y)
        }
        Labels::Int(v) => {
            let (d, y) = places(v, train);
            (d.iter().map(i64::to_string).collect(), y)
        }
        Labels::Float(v) => {
            let bits: Vec<i64> = v.iter().map(|x| ordered_bits(*x)).collect();
            let (d, y) = places(&bits, train);
            let words = d.iter().filter_map(|b| v.iter().find(|x| ordered_bits(**x) == *b)).map(f64::to_string).collect();
            (words, y)
        }
        Labels::Text(w) => {
            let words: Vec<&str> = (0..w.codes.len()).map(|r| w.at(r).unwrap_or_default()).collect();
            let (d, y) = places(&words, train);
            (d.iter().map(|s| (*s).to_owned()).collect(), y)
        }
    };
    if classes.len() < 2 {
        return Err(untrainable(
            format!("all {} rows to train on have the label `{}`", train.len(), classes.join("")),
            "widen the label query, so that both outcomes occur before the split",
        ));
    }
    if task == Task::Binary && classes.len() > 2 {
        return Err(untrainable(
            format!("a binary task has two classes, the labels have {}", classes.len()),
            "use task = \"multiclass\" or \"regression\"",
        ));
    }
    if classes.len() > CATEGORIES_MAX {
        return Err(untrainable(
            format!("the labels have {} classes, at most {CATEGORIES_MAX} can be learnt", classes.len()),
            "use task = \"regression\", or fewer classes",
        ));
    }
    Ok((classes, y))
}

/// A float's place in the total order, as an integer.
fn ordered_bits(x: f64) -> i64 {
    let bits = (x + 0.0).to_bits() as i64; // -0.0 and 0.0 are one class
    bits ^ (((bits >> 63) as u64) >> 1) as i64
}

/// The dictionary of the training rows, most frequent word first, and the codes of all rows.
fn encode(words: &Words, train: &[usize]) -> (Vec<String>, Vec<f64>) {
    let mut counts: BTreeMap<u32, u64> = BTreeMap::new();
    for row in train {
        if words.codes[*row] != Words::NONE {
            *counts.entry(words.codes[*row]).or_default() += 1;
        }
    }
    let mut order: Vec<(u32, u64)> = counts.into_iter().collect();
    order.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| words.words[a.0 as usize].cmp(&words.words[b.0 as usize])));
    order.truncate(CATEGORIES_MAX);
    let mut code_of = vec![f64::NAN; words.words.len()];
    order.iter().enumerate().for_each(|(code, (word, _))| code_of[*word as usize] = code as f64);
    let encoded = words.codes.iter().map(|c| code_of.get(*c as usize).copied().unwrap_or(f64::NAN)).collect();
    (order.into_iter().map(|(word, _)| words.words[word as usize].clone()).collect(), encoded)
}
