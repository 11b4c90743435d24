//! `random_forest`: bagged trees by `smartcore`.
//!
//! A class is learnt as the regression of being it or not, so leaves hold shares of rows instead of votes, and the mean of the trees is a probability. The library
//! knows no missing values: they are learnt as a value below all others, and the rewritten tree sends them that way by name. A split at
//! `x <= t` becomes the kernel's `x < next float after t`, so scores equal the library's to the rounding of one division.
//!
//! The trees are grown in a fixed number of parts with a seed each, so the model does not depend on how many threads grow them.

use super::params::{Kind, Param, Params};
use super::{Algorithm, Effort, Fitted, shares};
use crate::sample::{Sample, untrainable};
use gristmill_kernel::error::{Code, Fault, Result};
use gristmill_kernel::model::{Body, Forest, LEAF, Link, Task, Tree};
use smartcore::ensemble::random_forest_regressor::{RandomForestRegressor, RandomForestRegressorParameters};
use smartcore::linalg::basic::matrix::DenseMatrix;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The entry in the list of algorithms.
pub const ALGORITHM: Algorithm = Algorithm {
    name: "random_forest",
    about: "the mean of trees grown on draws of the rows",
    tasks: &[Task::Binary, Task::Multiclass, Task::Regression, Task::Ranking],
    weighs: true,
    params: &[
        Param {
            name: "trees",
            kind: Kind::Int { low: 1, high: 5_000, default: Some(100) },
            about: "how many trees (per class, if there are more than two)",
        },
        Param { name: "max_depth", kind: Kind::Int { low: 1, high: 64, default: Some(12) }, about: "most questions on the way to a leaf" },
        Param { name: "min_rows_leaf", kind: Kind::Int { low: 1, high: 1_000_000, default: Some(10) }, about: "least rows in a leaf" },
        Param {
            name: "features_per_split",
            kind: Kind::Int { low: 1, high: 10_000, default: None },
            about: "features tried at a split; the root of their number when left out",
        },
    ],
    hints: &[
        ("n_estimators", "write `trees`"),
        ("min_samples_leaf", "write `min_rows_leaf`"),
        ("max_features", "write `features_per_split`"),
        ("mtry", "write `features_per_split`"),
    ],
    fit,
};

/// Parts that are grown independently of each other.
const PARTS: usize = 10;

/// The library's forest as it writes itself; the only way to its trees.
#[derive(serde::Deserialize)]
struct Written {
    forest_regressor: WrittenForest,
}
#[derive(serde::Deserialize)]
struct WrittenForest {
    trees: Vec<WrittenTree>,
}
#[derive(serde::Deserialize)]
struct WrittenTree {
    nodes: Vec<WrittenNode>,
}
#[derive(serde::Deserialize)]
struct WrittenNode {
    output: f64,
    split_feature: usize,
    split_value: Option<f64>,
    true_child: Option<usize>,
    false_child: Option<usize>,
}

type Library = RandomForestRegressor<f64, f64, DenseMatrix<f64>, Vec<f64>>;

fn fit(sample: &Sample, params: &Params, effort: &Effort) -> Result<Fitted> {
    let kept = sample.varying();
    if kept.is_empty() {
        return Err(untrainable(
            "no feature has two different values in the training rows",
            "check the views, or use the algorithm `baseline`",
        ));
    }
    let below: Vec<f64> = kept.iter().map(|f| below_all(&sample.columns[*f])).collect();
    let fill =
        |(at, f): (usize, &usize)| -> Vec<f64> { sample.columns[*f].iter().map(|v| if v.is_nan() { below[at] } else { *v }).collect() };
    let data: Vec<f64> = kept.iter().enumerate().flat_map(fill).collect();
    let x = DenseMatrix::new(sample.y.len(), kept.len(), data, true)
        .map_err(|e| Fault::internal(format!("the rows do not make a matrix: {e}")))?;
    let targets: Vec<Vec<f64>> = match sample.task {
        Task::Multiclass => (0..sample.classes).map(|c| sample.y.iter().map(|y| f64::from(u8::from(*y as usize == c))).collect()).collect(),
        _ => vec![sample.y.clone()],
    };
    let jobs = jobs(targets.len(), params.int("trees").unwrap_or(100) as usize);
    let grown = grow(&Growth { sample, params, effort, x: &x, targets: &targets, features: kept.len() }, &jobs)?;

    let rewriting = Rewriting { kept: &kept, below: &below };
    let mut trees = Vec::new();
    let mut gains = vec![0.0; sample.features.len()];
    for (job, part) in jobs.iter().zip(grown) {
        for written in &part {
            trees.push(rewriting.tree(written, job.output as u32)?);
            written.nodes.iter().filter(|n| n.split_value.is_some()).for_each(|n| gains[kept[n.split_feature]] += 1.0);
        }
    }
    let size = format!("{} trees", trees.len());
    let body = Body::Forest(Forest { base: vec![0.0; targets.len()], trees, link: Link::Mean });
    Ok(Fitted { body, importance: shares(gains), size })
}

/// A value below all of a column.
fn below_all(column: &[f64]) -> f64 {
    let lowest = column.iter().copied().filter(|v| !v.is_nan()).fold(f64::INFINITY, f64::min);
    (lowest - 1.0 - lowest.abs()).max(f64::MIN)
}

/// Some trees of one output.
struct Job {
    output: usize,
    trees: usize,
    number: u64,
}

fn jobs(outputs: usize, trees: usize) -> Vec<Job> {
    let parts = PARTS.min(trees);
    let of_part = |part: usize| trees * (part + 1) / parts - trees * part / parts;
    let all = (0..outputs).flat_map(|output| (0..parts).map(move |part| (output, part)));
    all.enumerate().map(|(number, (output, part))| Job { output, trees: of_part(part), number: number as u64 }).collect()
}

/// What trees grow from.
struct Growth<'a> {
    sample: &'a Sample<'a>,
    params: &'a Params,
    effort: &'a Effort<'a>,
    x: &'a DenseMatrix<f64>,
    targets: &'a [Vec<f64>],
    features: usize,
}

fn grow(growth: &Growth, jobs: &[Job]) -> Result<Vec<Vec<WrittenTree>>> {
    let next = AtomicUsize::new(0);
    let done = AtomicUsize::new(0);
    let slots: Mutex<Vec<Option<Result<Vec<WrittenTree>>>>> = Mutex::new((0..jobs.len()).map(|_| None).collect());
    std::thread::scope(|scope| {
        for _ in 0..growth.effort.threads.clamp(1, jobs.len()) {
            scope.spawn(|| {
                while let Some(at) = Some(next.fetch_add(1, Ordering::Relaxed)).filter(|at| *at < jobs.len()) {
                    let part = growth.effort.cancel.check().and_then(|()| growth.part(&jobs[at]));
                    if let Ok(mut slots) = slots.lock() {
                        slots[at] = Some(part);
                    }
                    let done = done.fetch_add(1, Ordering::Relaxed) + 1;
                    growth.effort.progress.at(done as u64, jobs.len() as u64, "parts of the forest");
                }
            });
        }
    });
    let slots = slots.into_inner().map_err(|_| Fault::internal("a thread that grew trees stopped"))?;
    slots.into_iter().map(|s| s.unwrap_or_else(|| Err(Fault::internal("a part of the forest is missing")))).collect()
}

impl Growth<'_> {
    fn part(&self, job: &Job) -> Result<Vec<WrittenTree>> {
        let root = (self.features as f64).sqrt().round() as usize;
        let tried = self.params.int("features_per_split").map_or(root, |n| n as usize).clamp(1, self.features);
        let leaf = self.params.int("min_rows_leaf").unwrap_or(10) as usize;
        let wishes = RandomForestRegressorParameters::default()
            .with_n_trees(job.trees)
            .with_max_depth(self.params.int("max_depth").unwrap_or(12) as u16)
            .with_min_samples_leaf(leaf)
            .with_min_samples_split(2 * leaf)
            .with_m(tried)
            .with_seed(self.effort.seed.wrapping_mul(1_000_003).wrapping_add(job.number));
        let y = &self.targets[job.output];
        let forest: Library = crate::guard("smartcore", || match &self.sample.weight {
            Some(weight) => RandomForestRegressor::fit_with_weights(self.x, y, weight, wishes),
            None => RandomForestRegressor::fit(self.x, y, wishes),
        })?
        .map_err(|e| {
            Fault::invalid(Code::UNTRAINABLE, format!("the random forest could not be grown: {e}")).fix("use the algorithm `gbdt`")
        })?;
        let text = serde_json::to_value(&forest).map_err(|e| Fault::internal("a random forest does not serialise").because(e))?;
        let written: Written = serde_json::from_value(text).map_err(|e| Fault::internal("a random forest has another form").because(e))?;
        Ok(written.forest_regressor.trees)
    }
}

/// From the library's trees to the kernel's.
struct Rewriting<'a> {
    kept: &'a [usize],
    below: &'a [f64],
}

impl Rewriting<'_> {
    fn tree(&self, written: &WrittenTree, output: u32) -> Result<Tree> {
        let mut tree = Tree { output, ..Tree::default() };
        for (at, node) in written.nodes.iter().enumerate() {
            let split = node.split_value.zip(node.true_child).zip(node.false_child);
            let Some(((value, left), right)) = split else {
                tree.feature.push(LEAF);
                tree.threshold.push(0.0);
                tree.left.push(0);
                tree.right.push(0);
                tree.missing.push(0);
                tree.value.push(node.output);
                continue;
            };
            if left <= at || right <= at {
                return Err(Fault::internal("a tree of the random forest points backwards"));
            }
            tree.feature.push(self.kept[node.split_feature] as u32);
            tree.threshold.push(value.next_up());
            tree.left.push(left as u32);
            tree.right.push(right as u32);
            tree.missing.push(u8::from(self.below[node.split_feature] > value));
            tree.value.push(0.0);
        }
        Ok(tree)
    }
}
