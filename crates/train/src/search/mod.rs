//! Tuning: trials over folds of the training rows, the next ones proposed from the finished ones.
//!
//! Promises:
//! - rows of `test` are never looked at; a split by time is validated on later rows than it learnt from;
//! - the same seed, rows and space give the same trials on any number of threads: trials are proposed in batches of [`BATCH`], each from the finished batches
//!   before it, with draws that depend on the trial's number only;
//! - a trial that a killed run of the same work had finished is taken over, not run again.
//!
//! To add a way of searching: a file here with a function from finished trials to a proposal, and its arm in [`propose`].

mod folds;
mod random;
mod tpe;

use crate::algorithm::params::{Params, check_range};
use crate::algorithm::{Algorithm, Effort};
use crate::metric::Metric;
use crate::sample::{Balance, Dataset};
use crate::score::score;
use crate::spec::{Search, TrainSpec, Tune};
use folds::{Fold, folds};
use gristmill_kernel::error::{Code, Fault, Result};
use gristmill_kernel::limits::TUNE_TRIALS_MAX;
use gristmill_kernel::model::ModelFile;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;

/// Trials proposed together. Part of the result, so it does not follow the number of threads.
pub const BATCH: u32 = 4;
/// Finished trials before any is pruned or modelled.
const STARTUP: usize = 8;

/// One finished trial.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Trial {
    /// The searched parameters.
    pub params: BTreeMap<String, Value>,
    /// The measure on each fold that was run.
    pub folds: Vec<f64>,
    /// Whether it was given up before the last fold.
    pub pruned: bool,
}

impl Trial {
    /// The mean over its first `folds` folds.
    fn mean(&self, folds: usize) -> f64 {
        self.folds[..folds].iter().sum::<f64>() / folds as f64
    }
}

/// Remembers finished trials beyond the life of a process.
pub trait Memory: Sync {
    /// The trials that an earlier attempt at this very work finished, by number.
    fn recall(&self) -> Result<BTreeMap<u32, Trial>>;
    /// Keeps a trial; durable when it returns. `value` is the measure's mean.
    fn keep(&self, number: u32, trial: &Trial, measure: &str, value: f64) -> Result<()>;
}

/// Remembers nothing.
pub struct Forgetful;
impl Memory for Forgetful {
    fn recall(&self) -> Result<BTreeMap<u32, Trial>> {
        Ok(BTreeMap::new())
    }
    fn keep(&self, _: u32, _: &Trial, _: &str, _: f64) -> Result<()> {
        Ok(())
    }
}

/// What is searched.
pub struct Question<'a> {
    /// The model's spec.
    pub spec: &'a TrainSpec,
    /// The search's spec.
    pub tune: &'a Tune,
    /// The algorithm.
    pub algorithm: &'a Algorithm,
    /// The rows.
    pub data: &'a Dataset,
    /// What decides.
    pub measure: Metric,
    /// Whether classes are weighed.
    pub balance: Balance,
    /// What may be used.
    pub effort: Effort<'a>,
}

/// The best trial.
#[derive(Debug, Clone, PartialEq)]
pub struct Best {
    /// Its number, from 0.
    pub number: u32,
    /// The searched parameters.
    pub params: BTreeMap<String, Value>,
    /// The measure's mean over the folds.
    pub value: f64,
    /// How many trials there were.
    pub trials: u32,
    /// How many were given up early.
    pub pruned: u32,
    /// How many were taken over from an earlier attempt.
    pub reused: u32,
}

/// Searches.
pub fn run(question: &Question, memory: &dyn Memory) -> Result<Best> {
    let tune = question.tune;
    check(question)?;
    let folds = folds(question.data, question.spec.seed)?;
    let known = memory.recall()?;
    let mut done: Vec<Trial> = Vec::new();
    let mut reused = 0;
    while (done.len() as u32) < tune.trials {
        question.effort.cancel.check()?;
        let first = done.len() as u32;
        let batch: Vec<BTreeMap<String, Value>> =
            (first..tune.trials.min(first + BATCH)).map(|number| propose(question, &done, number)).collect();
        let mut slots: Vec<Option<Trial>> = batch
            .iter()
            .enumerate()
            .map(|(at, params)| known.get(&(first + at as u32)).filter(|t| t.params == *params && fits(t, folds.len())).cloned())
            .collect();
        reused += slots.iter().flatten().count() as u32;
        run_batch(&Batch { question, folds: &folds, done: &done, first, params: &batch }, &mut slots, memory)?;
        let finished = slots.into_iter().map(|s| s.ok_or_else(|| Fault::internal("a trial ended without a result")));
        done.extend(finished.collect::<Result<Vec<_>>>()?);
        question.effort.progress.at(done.len() as u64, u64::from(tune.trials), "trials");
    }
    let cost = |t: &Trial| question.measure.cost(t.mean(t.folds.len()));
    let best = done
        .iter()
        .enumerate()
        .filter(|(_, t)| !t.pruned)
        .min_by(|a, b| cost(a.1).total_cmp(&cost(b.1)))
        .ok_or_else(|| Fault::internal("every trial was pruned"))?;
    Ok(Best {
        number: best.0 as u32,
        params: best.1.params.clone(),
        value: best.1.mean(best.1.folds.len()),
        trials: done.len() as u32,
        pruned: done.iter().filter(|t| t.pruned).count() as u32,
        reused,
    })
}

/// Whether a remembered trial can be one of this search's.
fn fits(trial: &Trial, folds: usize) -> bool {
    if trial.pruned { (1..folds).contains(&trial.folds.len()) } else { trial.folds.len() == folds }
}

fn check(question: &Question) -> Result<()> {
    let tune = question.tune;
    if tune.trials == 0 || tune.trials > TUNE_TRIALS_MAX {
        return Err(Fault::invalid(Code::BAD_VALUE, format!("tune cannot run {} trials", tune.trials))
            .fix(format!("use a number from 1 to {TUNE_TRIALS_MAX}")));
    }
    if tune.space.is_empty() {
        let names: Vec<&str> = question.algorithm.params.iter().map(|p| p.name).collect();
        return Err(Fault::invalid(Code::BAD_VALUE, "tune names no parameter to search").fix(format!(
            "add a range such as budget = \"0.3..1.5\"; parameters of `{}` are {}",
            question.algorithm.name,
            names.join(", ")
        )));
    }
    tune.space.iter().try_for_each(|(name, range)| check_range(question.algorithm, name, range))
}

fn propose(question: &Question, done: &[Trial], number: u32) -> BTreeMap<String, Value> {
    let mut rng = ChaCha8Rng::seed_from_u64(question.spec.seed);
    rng.set_stream(1 + u64::from(number));
    if question.tune.search == Search::Random || done.len() < STARTUP {
        return question.tune.space.iter().map(|(name, range)| (name.clone(), random::draw(range, &mut rng))).collect();
    }
    let ordered = tpe::order(done, |t| question.measure.cost(t.mean(t.folds.len())));
    question.tune.space.iter().map(|(name, range)| (name.clone(), tpe::draw(name, range, &ordered, &mut rng))).collect()
}

/// Trials that run at the same time.
struct Batch<'a> {
    question: &'a Question<'a>,
    folds: &'a [Fold],
    done: &'a [Trial],
    first: u32,
    params: &'a [BTreeMap<String, Value>],
}

fn run_batch(batch: &Batch, slots: &mut [Option<Trial>], memory: &dyn Memory) -> Result<()> {
    let open: Vec<usize> = (0..slots.len()).filter(|at| slots[*at].is_none()).collect();
    let threads = batch.question.effort.threads.max(1);
    let asked = if batch.question.tune.parallel == 0 { threads } else { batch.question.tune.parallel as usize };
    let workers = asked.min(open.len());
    let next = AtomicUsize::new(0);
    let (send, receive) = mpsc::channel::<(usize, Result<Trial>)>();
    std::thread::scope(|scope| {
        for _ in 0..workers {
            let (send, next, open) = (send.clone(), &next, &open);
            scope.spawn(move || {
                while let Some(at) = open.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let result = batch.run_one(&batch.params[*at], (threads / workers).max(1));
                    if send.send((*at, result)).is_err() {
                        return;
                    }
                }
            });
        }
        drop(send);
        let mut fault: Option<(usize, Fault)> = None;
        for (at, result) in receive {
            let kept = result.and_then(|trial| {
                let value = trial.mean(trial.folds.len());
                memory.keep(batch.first + at as u32, &trial, &batch.question.measure.name(), value)?;
                slots[at] = Some(trial);
                Ok(())
            });
            if let Err(e) = kept
                && fault.as_ref().is_none_or(|(first, _)| at < *first)
            {
                fault = Some((at, e)); // the first trial's fault, whichever came first
            }
        }
        fault.map_or(Ok(()), |(_, fault)| Err(fault))
    })
}

impl Batch<'_> {
    fn run_one(&self, searched: &BTreeMap<String, Value>, threads: usize) -> Result<Trial> {
        let question = self.question;
        let mut written = question.spec.params.clone();
        written.extend(searched.clone());
        let params = Params::new(question.algorithm, &written)?;
        let mut trial = Trial { params: searched.clone(), folds: Vec::new(), pruned: false };
        for fold in self.folds {
            question.effort.cancel.check()?;
            trial.folds.push(self.measure(fold, &params, threads)?);
            if trial.folds.len() < self.folds.len() && self.hopeless(&trial) {
                trial.pruned = true;
                break;
            }
        }
        Ok(trial)
    }

    fn measure(&self, fold: &Fold, params: &Params, threads: usize) -> Result<f64> {
        let Question { data, algorithm, effort, .. } = self.question;
        let effort = Effort { threads, progress: &gristmill_kernel::stage::NoProgress, ..*effort };
        let fitted = (algorithm.fit)(&data.sample(&fold.learn, self.question.balance), params, &effort)?;
        let model = ModelFile {
            format: ModelFile::FORMAT,
            name: String::new(),
            algorithm: String::new(),
            task: data.task,
            classes: data.classes.clone(),
            entity: Vec::new(),
            features: data.features.clone(),
            body: fitted.body,
            reference: BTreeMap::new(),
            importance: BTreeMap::new(),
        };
        let scored = score(&model, data, &data.columns, &fold.judge, threads);
        self.question.measure.compute(&scored.view()).ok_or_else(|| {
            Fault::invalid(
                Code::UNTRAINABLE,
                format!("`{}` is undefined on one of the folds that tuning validates on", self.question.measure.name()),
            )
            .fix("give tuning more rows, or measure something that one class defines, such as logloss")
        })
    }

    /// Whether a trial is worse than the median of the finished ones after as many folds.
    fn hopeless(&self, trial: &Trial) -> bool {
        let reached = trial.folds.len();
        let cost = |t: &Trial| self.question.measure.cost(t.mean(reached));
        let mut others: Vec<f64> = self.done.iter().filter(|t| t.folds.len() >= reached).map(cost).collect();
        if others.len() < STARTUP {
            return false;
        }
        others.sort_by(f64::total_cmp);
        cost(trial) > others[others.len() / 2]
    }
}
