//! From a table and a spec to a model, its figures and one line for people. No IO: everything here is a function of its arguments, the
//! memory of earlier trials apart.

use crate::algorithm::{self, Effort, params::Params};
use crate::cover;
use crate::metric::find;
use crate::reference;
use crate::report::{Subject, importance, report, slice_columns};
use crate::sample::{Balance, Dataset, task_word};
use crate::search::{self, Memory};
use crate::spec::TrainSpec;
use crate::table::TrainingTable;
use gristmill_kernel::error::{Code, Fault, Result};
use gristmill_kernel::model::{ModelFile, Task};
use std::collections::BTreeMap;

/// What a training needs.
pub struct Work<'a> {
    /// The spec.
    pub spec: &'a TrainSpec,
    /// The rows.
    pub table: &'a TrainingTable,
    /// The champion's number and model, if there is one.
    pub champion: Option<(u64, ModelFile)>,
    /// What may be used.
    pub effort: Effort<'a>,
    /// Finished trials of this very work.
    pub memory: &'a dyn Memory,
}

/// What a training gives.
#[derive(Debug, Clone)]
pub struct Trained {
    /// The model, complete.
    pub model: ModelFile,
    /// Figures.
    pub metrics: BTreeMap<String, f64>,
    /// Parameters and remarks.
    pub params: BTreeMap<String, String>,
    /// One line for people.
    pub summary: String,
}

/// Tunes if asked, learns on all rows of `train`, measures on those of `test`.
pub fn train(work: &Work) -> Result<Trained> {
    let Work { spec, table, effort, .. } = work;
    let data = Dataset::new(table, spec.task)?;
    let algorithm = algorithm::find(&spec.train, data.task)?;
    let measure = find(&spec.measure, data.task)?;
    slice_columns(spec, table)?; // before the long part
    let balance = balance(spec, algorithm, data.task)?;
    let mut written = spec.params.clone();
    let mut tuned = None;
    if let Some(tune) = &spec.tune {
        let best = search::run(&search::Question { spec, tune, algorithm, data: &data, measure, balance, effort: *effort }, work.memory)?;
        written.extend(best.params.clone());
        tuned = Some(best);
    }
    let params = Params::new(algorithm, &written)?;
    effort.cancel.check()?;
    effort.progress.say(&format!("{} learns from {} rows", algorithm.name, thousands(data.train.len())));
    let mut fitted = (algorithm.fit)(&data.sample(&data.train, balance), &params, effort)?;
    effort.cancel.check()?;
    cover::count(&mut fitted.body, &data.columns, &data.train, effort)?;

    let mut model = ModelFile {
        format: ModelFile::FORMAT,
        name: spec.name.to_string(),
        algorithm: algorithm.name.to_owned(),
        task: data.task,
        classes: data.classes.clone(),
        entity: table.meta.entity.clone(),
        features: data.features.clone(),
        body: fitted.body,
        reference: reference::of_features(&data),
        importance: importance(&data, &fitted.importance),
    };
    effort.progress.say("measuring");
    let subject = Subject { spec, table, data: &data, model: &model, champion: work.champion.as_ref(), threads: effort.threads };
    let (report, test, train) = report(&subject)?;
    let seen = if test.rows.is_empty() { &train } else { &test };
    model.reference.insert("score".into(), reference::of_numbers(seen.logged(data.task).into_iter()));

    let mut params = params.texts();
    params.extend(report.params);
    params.insert("algorithm".into(), algorithm.name.into());
    params.insert("task".into(), task_word(data.task).into());
    params.insert("measure".into(), measure.name());
    params.insert("seed".into(), spec.seed.to_string());
    params.insert("balance".into(), spec.balance.to_string());
    params.insert("size".into(), fitted.size.clone());
    let mut metrics = report.metrics;
    let mut summary = summary(algorithm.name, &fitted.size, &data, &measure.name(), &metrics);
    if let Some(best) = tuned {
        summary.push_str(&format!("; best of {} trials ({} pruned)", best.trials, best.pruned));
        metrics.insert("tune.trials".into(), f64::from(best.trials));
        metrics.insert("tune.pruned".into(), f64::from(best.pruned));
        metrics.insert("tune.reused".into(), f64::from(best.reused));
        metrics.insert(format!("tune.{}", measure.name()), best.value);
        params.insert("tune.best_trial".into(), best.number.to_string());
    }
    Ok(Trained { model, metrics, params, summary })
}

fn balance(spec: &TrainSpec, algorithm: &algorithm::Algorithm, task: Task) -> Result<Balance> {
    if !spec.balance {
        return Ok(Balance::Rows);
    }
    if !matches!(task, Task::Binary | Task::Multiclass) {
        return Err(Fault::invalid(Code::BAD_VALUE, format!("`balance` weighs classes, and a {} task has none", task_word(task)))
            .fix("leave `balance` out"));
    }
    if !algorithm.weighs {
        let able: Vec<&str> = algorithm::ALGORITHMS.iter().filter(|a| a.weighs && a.tasks.contains(&task)).map(|a| a.name).collect();
        return Err(Fault::invalid(Code::BAD_VALUE, format!("`{}` cannot weigh rows, which `balance` needs", algorithm.name))
            .fix(format!("leave `balance` out, or train one of {}", able.join(", "))));
    }
    Ok(Balance::Classes)
}

fn summary(algorithm: &str, size: &str, data: &Dataset, measure: &str, metrics: &BTreeMap<String, f64>) -> String {
    let figure = |name: String| metrics.get(&name).map_or_else(|| "undefined".to_owned(), |v| format!("{v:.3}"));
    let held_out = match data.test.len() {
        0 => "none held out".to_owned(),
        rows => format!("held out {}: {measure} {}", thousands(rows), figure(measure.to_owned())),
    };
    let train = figure(format!("train.{measure}"));
    format!("{algorithm} {size} on {} rows, {held_out} (train {train})", thousands(data.train.len()))
}

/// `43012` as `43,012`.
pub(crate) fn thousands(number: usize) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}
