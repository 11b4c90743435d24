//! `gbdt`: gradient boosted trees by `perpetual`, which tunes itself by one `budget`.
//!
//! The fitted trees are rewritten as the kernel's forest. Leaves are 32-bit floats widened to 64 bits, thresholds, base score and sums are 64-bit in both, and
//! the trees are added in the same order, so a score equals perpetual's own `predict` (log-odds put through the logistic function) to the bit. Left out of the
//! library on purpose: its hidden class weights (`balance` says when rare classes count more), the linear companion it adds to small
//! regressions, and its fold-averaged probabilities: none of them is a sum of trees.
//!
//! More than two classes are learnt one against the rest; the log-odds are divided by one temperature, fitted on the training rows, before the softmax.

use super::params::{Kind, Param, Params};
use super::{Algorithm, Effort, Fitted, shares};
use crate::sample::{Sample, untrainable};
use gristmill_kernel::error::{Fault, Result};
use gristmill_kernel::model::{Body, Forest, LEAF, Link, Task, Tree};
use gristmill_kernel::view::FeatureType;
use perpetual::booster::config::MissingNodeTreatment;
use perpetual::objective::Objective;
use perpetual::{Matrix, PerpetualBooster};
use std::collections::{BTreeMap, BTreeSet, HashSet, VecDeque};

/// The entry in the list of algorithms.
pub const ALGORITHM: Algorithm = Algorithm {
    name: "gbdt",
    about: "gradient boosted trees that tune themselves by one budget",
    tasks: &[Task::Binary, Task::Multiclass, Task::Regression, Task::Ranking],
    weighs: true,
    params: &[
        Param {
            name: "budget",
            kind: Kind::Float { low: 0.05, high: 3.0, default: Some(0.5) },
            about: "how much is learnt: steps shrink and trees multiply by ten with each 1.0",
        },
        Param { name: "iteration_limit", kind: Kind::Int { low: 1, high: 100_000, default: None }, about: "at most this many trees" },
        Param {
            name: "stopping_rounds",
            kind: Kind::Int { low: 1, high: 1_000, default: None },
            about: "stop after this many rounds without gain",
        },
        Param { name: "max_bin", kind: Kind::Int { low: 3, high: 4_096, default: Some(256) }, about: "into how many bins a number is cut" },
        Param { name: "missing_splits", kind: Kind::Bool { default: true }, about: "whether a split may set missing values apart" },
        Param { name: "missing_branch", kind: Kind::Bool { default: false }, about: "whether missing values get a branch of their own" },
        Param {
            name: "missing_weight",
            kind: Kind::Word(&["assign_to_parent", "average_leaf_weight", "average_node_weight", "none"]),
            about: "with `missing_branch`: what its leaf answers",
        },
        Param {
            name: "memory_gb",
            kind: Kind::Float { low: 0.1, high: 1_024.0, default: Some(1.0) },
            about: "memory for histograms; bounds the size of a tree, the same on every machine",
        },
    ],
    hints: &[
        ("learning_rate", "it follows from `budget`"),
        ("max_depth", "it follows from `budget`"),
        ("num_leaves", "it follows from `budget`"),
        ("n_estimators", "write `iteration_limit`"),
        ("num_trees", "write `iteration_limit`"),
        ("max_bins", "write `max_bin`"),
    ],
    fit,
};

fn fit(sample: &Sample, params: &Params, effort: &Effort) -> Result<Fitted> {
    let kept = sample.varying();
    if kept.is_empty() {
        return Err(untrainable(
            "no feature has two different values in the training rows",
            "check the views, or use the algorithm `baseline`",
        ));
    }
    let rows = sample.y.len();
    let data: Vec<f64> = kept.iter().flat_map(|f| sample.columns[*f].iter().copied()).collect();
    let learner = Learner { sample, kept: &kept, data: &Matrix::new(&data, rows, kept.len()), params, effort };
    match sample.task {
        Task::Binary => learner.one(Objective::LogLoss, Link::Logistic),
        Task::Regression => learner.one(Objective::SquaredLoss, Link::Identity),
        Task::Ranking => learner.one(Objective::ListNetLoss, Link::Identity),
        Task::Multiclass => learner.one_against_rest(),
    }
}

/// One fit's surroundings.
struct Learner<'a> {
    sample: &'a Sample<'a>,
    kept: &'a [usize],
    data: &'a Matrix<'a, f64>,
    params: &'a Params,
    effort: &'a Effort<'a>,
}

impl Learner<'_> {
    fn one(&self, objective: Objective, link: Link) -> Result<Fitted> {
        let booster = self.boost(objective, &self.sample.y)?;
        self.fitted(&[booster], link, 1.0)
    }

    fn one_against_rest(&self) -> Result<Fitted> {
        let mut boosters = Vec::with_capacity(self.sample.classes);
        for class in 0..self.sample.classes {
            self.effort.cancel.check()?;
            self.effort.progress.at(class as u64, self.sample.classes as u64, "classes");
            let y: Vec<f64> = self.sample.y.iter().map(|c| f64::from(u8::from(*c as usize == class))).collect();
            boosters.push(self.boost(Objective::LogLoss, &y)?);
        }
        let logits: Vec<Vec<f64>> = boosters.iter().map(|b| b.predict(self.data, false)).collect();
        let temperature = temperature(&logits, &self.sample.y);
        self.fitted(&boosters, Link::Softmax, temperature)
    }

    fn boost(&self, objective: Objective, y: &[f64]) -> Result<PerpetualBooster> {
        let mut booster = configure(self.params, self.effort, objective);
        let categorical: HashSet<usize> =
            (0..self.kept.len()).filter(|at| self.sample.features[self.kept[*at]].kind == FeatureType::Category).collect();
        booster.cfg.categorical_features = (!categorical.is_empty()).then_some(categorical);
        let weight = self.sample.weight.as_deref();
        let groups = self.sample.group_sizes.as_deref();
        let data = self.data;
        let mut booster = crate::guard("perpetual", move || booster.fit(data, y, weight, groups).map(|()| booster))?
            .map_err(|e| Fault::internal(format!("perpetual could not fit: {e}")))?;
        booster.regression_head = None;
        Ok(booster)
    }

    fn fitted(&self, boosters: &[PerpetualBooster], link: Link, temperature: f64) -> Result<Fitted> {
        let mut trees = Vec::new();
        let mut gains = vec![0.0; self.sample.features.len()];
        for (output, booster) in boosters.iter().enumerate() {
            for source in &booster.trees {
                let mut tree = rewrite(source, self.kept, self.sample)?;
                tree.output = output as u32;
                tree.value.iter_mut().for_each(|v| *v /= temperature);
                trees.push(tree);
                for node in BTreeMap::from_iter(&source.nodes).values().filter(|n| !n.is_leaf) {
                    gains[self.kept[node.split_feature]] += f64::from(node.split_gain.max(0.0));
                }
            }
        }
        let size = format!("{} trees", trees.len());
        let base = boosters.iter().map(|b| b.base_score / temperature).collect();
        Ok(Fitted { body: Body::Forest(Forest { base, trees, link }), importance: shares(gains), size })
    }
}

fn configure(params: &Params, effort: &Effort, objective: Objective) -> PerpetualBooster {
    let mut booster = PerpetualBooster::default()
        .set_objective(objective)
        .set_budget(params.float("budget") as f32)
        .set_max_bin(params.int("max_bin").unwrap_or(256) as u16)
        .set_num_threads(Some(effort.threads.max(1)))
        .set_missing(f64::NAN)
        .set_allow_missing_splits(params.bool("missing_splits"))
        .set_create_missing_branch(params.bool("missing_branch"))
        .set_missing_node_treatment(match params.word("missing_weight") {
            "none" => MissingNodeTreatment::None,
            "average_leaf_weight" => MissingNodeTreatment::AverageLeafWeight,
            "average_node_weight" => MissingNodeTreatment::AverageNodeWeight,
            _ => MissingNodeTreatment::AssignToParent,
        })
        .set_iteration_limit(params.int("iteration_limit").map(|i| i as usize))
        .set_stopping_rounds(params.int("stopping_rounds").map(|i| i as usize))
        .set_seed(effort.seed);
    // Without a limit the size of a tree follows the machine's free memory, and with it the model's bits.
    booster.cfg.memory_limit = Some(params.float("memory_gb") as f32);
    booster.cfg.auto_class_weights = false;
    booster
}

/// One tree in the kernel's form: nodes renumbered so that children stand behind their parents.
fn rewrite(source: &perpetual::tree::Tree, kept: &[usize], sample: &Sample) -> Result<Tree> {
    let mut order = vec![0usize];
    let mut place: BTreeMap<usize, u32> = BTreeMap::from([(0, 0)]);
    let mut waiting = VecDeque::from([0usize]);
    let node_of = |id: usize| source.nodes.get(&id).ok_or_else(|| Fault::internal(format!("perpetual's tree lacks node {id}")));
    while let Some(id) = waiting.pop_front() {
        let node = node_of(id)?;
        if node.is_leaf {
            continue;
        }
        for child in BTreeSet::from([node.left_child, node.right_child, node.missing_node]) {
            if place.insert(child, order.len() as u32).is_some() {
                return Err(Fault::internal(format!("perpetual's tree has two ways to node {child}")));
            }
            order.push(child);
            waiting.push_back(child);
        }
    }
    let mut tree = Tree::default();
    let branches = order.iter().map(|id| node_of(*id)).collect::<Result<Vec<_>>>()?.iter().any(|n| !n.is_leaf && n.has_missing_branch());
    for (at, id) in order.iter().enumerate() {
        let node = node_of(*id)?;
        let mut missing_child = 0;
        if node.is_leaf {
            tree.feature.push(LEAF);
            tree.threshold.push(0.0);
            tree.left.push(0);
            tree.right.push(0);
            tree.missing.push(0);
            tree.value.push(f64::from(node.weight_value));
        } else {
            let feature = kept[node.split_feature];
            tree.feature.push(feature as u32);
            tree.left.push(place[&node.left_child]);
            tree.right.push(place[&node.right_child]);
            tree.missing.push(match node.missing_node {
                m if m == node.left_child => 0,
                m if m == node.right_child => 1,
                m => {
                    missing_child = place[&m];
                    2
                }
            });
            tree.value.push(0.0);
            match &node.left_cats {
                None => tree.threshold.push(node.split_value),
                Some(bits) => {
                    // Bit `code` of the set says that this word goes left; codes behind its end go right.
                    let codes = 0..sample.features[feature].categories.len() as u32;
                    let goes_left = |code: &u32| bits.get((code >> 3) as usize).is_some_and(|byte| byte >> (code & 7) & 1 == 1);
                    tree.categories.insert(at as u32, codes.filter(goes_left).collect());
                    tree.threshold.push(0.0);
                }
            }
        }
        if branches {
            tree.missing_child.push(missing_child);
        }
    }
    Ok(tree)
}

/// The temperature between 1/4 and 8 with the least log loss on the training rows, by golden section on its logarithm.
fn temperature(logits: &[Vec<f64>], y: &[f64]) -> f64 {
    let loss = |log_t: f64| -> f64 {
        let t = log_t.exp();
        let of_row = |row: usize| {
            let top = logits.iter().map(|l| l[row]).fold(f64::NEG_INFINITY, f64::max);
            let sum: f64 = logits.iter().map(|l| ((l[row] - top) / t).exp()).sum();
            sum.ln() - (logits[y[row] as usize][row] - top) / t
        };
        (0..y.len()).map(of_row).sum()
    };
    let golden = (5f64.sqrt() - 1.0) / 2.0;
    let (mut low, mut high) = (0.25f64.ln(), 8f64.ln());
    let (mut a, mut b) = (high - golden * (high - low), low + golden * (high - low));
    let (mut at_a, mut at_b) = (loss(a), loss(b));
    for _ in 0..30 {
        if at_a < at_b {
            (high, b, at_b) = (b, a, at_a);
            a = high - golden * (high - low);
            at_a = loss(a);
        } else {
            (low, a, at_a) = (a, b, at_b);
            b = low + golden * (high - low);
            at_b = loss(b);
        }
    }
    ((low + high) / 2.0).exp()
}
