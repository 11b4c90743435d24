//! What a training run says about its model: figures on held-out rows, on the rows trained on, by slice, and of the champion on the same rows.

use crate::metric::{Better, Metric, figures, find, reported};
use crate::reference::qualified;
use crate::sample::Dataset;
use crate::score::{ScoredRows, columns_for, score};
use crate::spec::TrainSpec;
use crate::table::{TrainingTable, Values, Words};
use gristmill_kernel::error::{Code, Fault, Result};
use gristmill_kernel::limits::SLICE_ROWS_MIN;
use gristmill_kernel::model::{ModelFile, Task};
use std::collections::BTreeMap;

/// Most distinct values of a column by which figures are given; the rest are only counted.
const SLICES_MAX: usize = 200;

/// Figures and remarks, by name.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Report {
    /// Metrics of the run.
    pub metrics: BTreeMap<String, f64>,
    /// Parameters of the run.
    pub params: BTreeMap<String, String>,
}

/// The values of a column by which figures are also given.
pub struct SliceColumn {
    name: String,
    value: Vec<Option<String>>,
}

/// Finds the columns of `slices`: entity columns, or features as `column` or `view.column`.
pub fn slice_columns(spec: &TrainSpec, table: &TrainingTable) -> Result<Vec<SliceColumn>> {
    spec.slices.iter().map(|name| slice_column(name, table)).collect()
}

fn slice_column(name: &str, table: &TrainingTable) -> Result<SliceColumn> {
    let texts = |words: &Words| (0..table.rows).map(|row| words.at(row).map(str::to_owned)).collect();
    if let Some((_, words)) = table.entity.iter().find(|(column, _)| column == name) {
        return Ok(SliceColumn { name: name.to_owned(), value: texts(words) });
    }
    let features = &table.meta.features;
    let found: Vec<usize> = (0..features.len()).filter(|f| features[*f].qualified() == name || features[*f].column == name).collect();
    let exact = found.iter().copied().find(|f| features[*f].qualified() == name);
    let at = match (exact, found.as_slice()) {
        (Some(at), _) => at,
        (None, [at]) => *at,
        (None, []) => {
            let mut known: Vec<String> = table.entity.iter().map(|(column, _)| column.clone()).collect();
            known.extend(features.iter().map(|f| f.qualified()));
            return Err(Fault::invalid(Code::UNKNOWN_COLUMN, format!("slices name `{name}`, which the training set lacks"))
                .fix(format!("use one of {}", known.join(", "))));
        }
        (None, several) => {
            let names: Vec<String> = several.iter().map(|f| features[*f].qualified()).collect();
            return Err(Fault::invalid(Code::UNKNOWN_COLUMN, format!("slices name `{name}`, which several views have"))
                .fix(format!("use one of {}", names.join(", "))));
        }
    };
    let value = match &table.features[at] {
        Values::Word(words) => texts(words),
        Values::Number(numbers) => numbers.iter().map(|v| (!v.is_nan()).then(|| v.to_string())).collect(),
    };
    Ok(SliceColumn { name: name.to_owned(), value })
}

/// What a report is about.
pub struct Subject<'a> {
    /// The spec.
    pub spec: &'a TrainSpec,
    /// The rows as read.
    pub table: &'a TrainingTable,
    /// The rows as learnt.
    pub data: &'a Dataset,
    /// The model.
    pub model: &'a ModelFile,
    /// The champion's number and model, if there is one.
    pub champion: Option<&'a (u64, ModelFile)>,
    /// At most this many threads.
    pub threads: usize,
}

/// Writes the report; also the held-out and the training rows' scores.
pub fn report(subject: &Subject) -> Result<(Report, ScoredRows, ScoredRows)> {
    let Subject { spec, table, data, model, threads, .. } = *subject;
    let measure = find(&spec.measure, data.task)?;
    let slices = slice_columns(spec, table)?;
    let test = score(model, data, &data.columns, &data.test, threads);
    let train = score(model, data, &data.columns, &data.train, threads);
    let mut report = Report::default();
    report.metrics.insert("rows.train".into(), data.train.len() as f64);
    report.metrics.insert("rows.test".into(), data.test.len() as f64);
    report.metrics.insert("rows".into(), table.rows as f64);
    let unseen = data.test.len() - test.rows.len();
    if unseen > 0 {
        report.params.insert("test_rows_with_unseen_class".into(), unseen.to_string());
    }
    report.metrics.extend(figures(data.task, &measure, &test.view()));
    report.metrics.extend(figures(data.task, &measure, &train.view()).into_iter().map(|(name, v)| (format!("train.{name}"), v)));
    report.slices(&slices, &measure, data.task, &test);
    report.champion(subject, &measure);
    report.metrics.extend(model.importance.iter().map(|(feature, share)| (format!("importance.{feature}"), *share)));
    Ok((report, test, train))
}

impl Report {
    /// Figures by slice and the worst of them. Without slices the worst is the whole.
    fn slices(&mut self, slices: &[SliceColumn], measure: &Metric, task: Task, test: &ScoredRows) {
        let mut metrics = reported(task);
        if metrics.iter().all(|m| m.name() != measure.name()) {
            metrics.push(*measure);
        }
        let better: BTreeMap<String, Better> = metrics.iter().map(|m| (m.name(), m.better())).collect();
        let mut worst: BTreeMap<String, f64> = BTreeMap::new();
        let mut small: Vec<String> = Vec::new();
        for column in slices {
            let mut rows: BTreeMap<&str, usize> = BTreeMap::new();
            for row in &test.rows {
                *rows.entry(column.value[*row].as_deref().unwrap_or("NULL")).or_default() += 1;
            }
            let mut by_size: Vec<(&str, usize)> = rows.into_iter().collect();
            by_size.sort_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(b.0)));
            for (place, (value, count)) in by_size.iter().enumerate() {
                let name = format!("{}={value}", column.name);
                let part = test.only(|row| column.value[row].as_deref().unwrap_or("NULL") == *value);
                let one_class = matches!(task, Task::Binary | Task::Multiclass) && part.y.iter().all(|y| *y == part.y[0]);
                if *count < SLICE_ROWS_MIN || one_class || place >= SLICES_MAX {
                    small.push(format!("{name} ({count} rows{})", if one_class { ", one class" } else { "" }));
                    continue;
                }
                self.metrics.insert(format!("slice.{name}.rows"), *count as f64);
                for (metric, value) in figures(task, measure, &part.view()) {
                    let seen = worst.entry(metric.clone()).or_insert(value);
                    *seen = if better.get(&metric) == Some(&Better::Lower) { seen.max(value) } else { seen.min(value) };
                    self.metrics.insert(format!("slice.{name}.{metric}"), value);
                }
            }
        }
        if !small.is_empty() {
            let shown: Vec<&str> = small.iter().take(50).map(String::as_str).collect();
            let more = if small.len() > 50 { format!(" and {} more", small.len() - 50) } else { String::new() };
            self.params.insert("slices_not_judged".into(), format!("{}{more}", shown.join(", ")));
        }
        for metric in better.keys() {
            let value = worst.get(metric).or_else(|| if worst.is_empty() { self.metrics.get(metric) } else { None });
            if let Some(value) = value.copied() {
                self.metrics.insert(format!("worst.{metric}"), value);
            }
        }
    }

    /// The champion's figures on the same held-out rows.
    fn champion(&mut self, subject: &Subject, measure: &Metric) {
        let Some((number, champion)) = subject.champion else { return };
        self.params.insert("champion".into(), number.to_string());
        match columns_for(champion, subject.table, subject.data) {
            Ok(columns) => {
                let rows = score(champion, subject.data, &columns, &subject.data.test, subject.threads);
                let figures = figures(subject.data.task, measure, &rows.view());
                self.metrics.extend(figures.into_iter().map(|(name, v)| (format!("champion.{name}"), v)));
            }
            Err(why) => {
                self.params.insert("champion_not_compared".into(), why);
            }
        }
    }
}

/// The shares of an algorithm by `view.column`.
pub fn importance(data: &Dataset, shares: &[f64]) -> BTreeMap<String, f64> {
    data.features.iter().zip(shares).map(|(feature, share)| (qualified(feature), *share)).collect()
}
