//! Exact SHAP values of trees: what each feature did to the sum of a row, path-dependent as in Lundberg, Erion and Lee, "Consistent
//! Individualized Feature Attribution for Tree Ensembles" (2018), which LightGBM and XGBoost answer too.
//!
//! The game: a row whose features outside of a set S are unknown goes, at a node that asks about one of them, every way at once, weighted by the
//! rows of the training that went there (the covers). The value of S is the mean of the leaves it reaches so; the Shapley values of that game are
//! the contributions. Promises: they and [`Explainer::base`] add up to the sum of the row, up to rounding; a feature that no tree asks about has 0;
//! missing values and categories go where they go in scoring, since the ensemble itself says where.
//!
//! How: for a leaf, the game is a product over the features on its path, of 1 or 0 (the row goes that way or not) inside S and of a share of the
//! covers outside. The Shapley value of such a product is an integral over [0, 1] of a polynomial with one factor per feature (Owen, "Multilinear
//! extensions of games", 1972), which [`quadrature`] computes without error. At each of its points a walk carries the product of the factors down
//! and the sum of the leaves up, so one walk serves all leaves: O(nodes * d) per tree and row where d is half of the most features on one path,
//! against O(leaves * depth^2) of the paper's second algorithm. Factors lie between 0 and 1 and are only multiplied or replaced by smaller
//! ones, so deep trees lose no digits.

mod quadrature;
#[cfg(test)]
mod tests;

use gristmill_kernel::limits::SHAP_DEPTH_MAX;
use quadrature::Rule;
use std::collections::HashSet;

/// Trees as the walk sees them.
pub trait Ensemble {
    /// How many outputs.
    fn outputs(&self) -> usize;
    /// How many trees.
    fn trees(&self) -> usize;
    /// The root of a tree.
    fn root(&self, tree: usize) -> usize;
    /// The output that a tree adds to.
    fn output(&self, tree: usize) -> usize;
    /// What an inner node asks about and leads to; `None` for a leaf.
    fn split(&self, tree: usize, node: usize) -> Option<Split>;
    /// The child that an inner node sends a row to.
    fn child(&self, tree: usize, node: usize, row: &[f64]) -> usize;
    /// What a leaf adds.
    fn value(&self, tree: usize, leaf: usize) -> f64;
    /// How many rows of the training reached a node, or what stands for that; `None` if the file does not say.
    fn cover(&self, tree: usize, node: usize) -> Option<f64>;
    /// What the sum of an output begins with.
    fn start(&self, output: usize) -> f64;
    /// What the sum of an output is divided by.
    fn divisor(&self, output: usize) -> f64;
}

/// An inner node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Split {
    /// The input it asks about.
    pub feature: usize,
    left: usize,
    right: usize,
    missing: Option<usize>,
}

impl Split {
    /// A node with two children, or with three where missing values have their own.
    pub fn new(feature: usize, left: usize, right: usize, missing: Option<usize>) -> Split {
        Split { feature, left, right, missing }
    }
    fn children(self) -> impl Iterator<Item = usize> {
        [self.left, self.right].into_iter().chain(self.missing)
    }
}

/// What is known of an ensemble before the first row comes.
#[derive(Debug, Clone, PartialEq)]
pub struct Explainer {
    /// Per output.
    base: Vec<f64>,
    /// Per tree which rule integrates it.
    rule: Vec<u32>,
    /// By the number of points; the first has none, for trees that are one leaf.
    rules: Vec<Rule>,
    /// The longest way through a tree.
    depth: usize,
}

/// A share of the covers below it counts as none; it keeps the factors of a path away from 0.
const SHARE_MIN: f64 = 1e-100;

/// On a path: whether the row goes that way (1 or 0), and the share of the covers that does, as far as one feature decides.
type Factor = (f64, f64);

impl Explainer {
    /// Looks at every tree. `None` if some tree has no covers, is no tree (two ways lead to one node) or is deeper than [`SHAP_DEPTH_MAX`].
    pub fn of(ensemble: &impl Ensemble) -> Option<Explainer> {
        let outputs = ensemble.outputs();
        let mut base: Vec<f64> = vec![0.0; outputs];
        let (mut points, mut depth) = (Vec::new(), 0);
        for tree in 0..ensemble.trees() {
            let seen = Look::at(ensemble, tree)?;
            base[ensemble.output(tree)] += seen.mean;
            points.push(seen.features.div_ceil(2) as u32);
            depth = depth.max(seen.depth);
        }
        for (output, base) in base.iter_mut().enumerate() {
            *base = (ensemble.start(output) + *base) / ensemble.divisor(output);
        }
        let most = points.iter().copied().max().unwrap_or(0) as usize;
        Some(Explainer { base, rule: points, rules: (0..=most).map(Rule::new).collect(), depth })
    }

    /// The mean of an output over the training by the covers, on the scale before the link.
    pub fn base(&self, output: usize) -> f64 {
        self.base[output]
    }

    /// What each input of a row did to the sum of an output, on the scale before the link. The ensemble is the one this was made of.
    pub fn contributions(&self, ensemble: &impl Ensemble, row: &[f64], output: usize) -> Vec<f64> {
        let most = self.rules.len().saturating_sub(1);
        let mut walk = Walk {
            ensemble,
            row,
            tree: 0,
            rule: &self.rules[0],
            path: vec![(1.0, 1.0); row.len()],
            down: vec![0.0; most * (self.depth + 1)],
            up: vec![0.0; most * (self.depth + 1)],
            found: vec![0.0; row.len()],
        };
        for (tree, points) in self.rule.iter().enumerate().filter(|(tree, points)| **points > 0 && ensemble.output(*tree) == output) {
            (walk.tree, walk.rule) = (tree, &self.rules[*points as usize]);
            walk.down[..*points as usize].fill(1.0);
            walk.node(ensemble.root(tree), 0);
        }
        let divisor = ensemble.divisor(output);
        walk.found.into_iter().map(|sum| sum / divisor).collect()
    }
}

/// How the children of a node share its rows: evenly where no row came by.
fn shares(ensemble: &impl Ensemble, tree: usize, split: Split) -> impl Iterator<Item = (usize, f64)> {
    let cover = move |child| ensemble.cover(tree, child).unwrap_or(0.0);
    let all: f64 = split.children().map(cover).sum();
    let even = 1.0 / split.children().count() as f64;
    split.children().map(move |child| (child, if all > 0.0 { cover(child) / all } else { even }))
}

/// What one tree is like.
struct Look {
    /// The most features on one path.
    features: usize,
    /// The longest path.
    depth: usize,
    /// The mean of its leaves by the covers.
    mean: f64,
}

impl Look {
    /// `None` if a tree cannot be explained.
    fn at(ensemble: &impl Ensemble, tree: usize) -> Option<Look> {
        enum Step {
            Enter { node: usize, share: f64, depth: usize },
            Leave { feature: usize },
        }
        let mut look = Look { features: 0, depth: 0, mean: 0.0 };
        let (mut reached, mut path) = (HashSet::new(), HashSet::new());
        let root = ensemble.root(tree);
        let mut open = vec![Step::Enter { node: root, share: 1.0, depth: 0 }];
        while let Some(step) = open.pop() {
            let (node, share, depth) = match step {
                Step::Enter { node, share, depth } => (node, share, depth),
                Step::Leave { feature } => {
                    path.remove(&feature);
                    continue;
                }
            };
            if !reached.insert(node) || depth > SHAP_DEPTH_MAX {
                return None;
            }
            let Some(split) = ensemble.split(tree, node) else {
                look.depth = look.depth.max(depth);
                look.features = look.features.max(path.len());
                look.mean += share * ensemble.value(tree, node);
                continue;
            };
            let covers: Vec<f64> = split.children().map(|child| ensemble.cover(tree, child)).collect::<Option<_>>()?;
            let sound = covers.iter().all(|cover| *cover >= 0.0) && covers.iter().sum::<f64>().is_finite();
            // At the root they say that nobody counted.
            if !sound || (node == root && covers.iter().all(|cover| *cover == 0.0)) {
                return None;
            }
            if path.insert(split.feature) {
                open.push(Step::Leave { feature: split.feature });
            }
            open.extend(shares(ensemble, tree, split).map(|(node, part)| Step::Enter { node, share: share * part, depth: depth + 1 }));
        }
        Some(look)
    }
}

/// One row on its way through the trees.
struct Walk<'a, E> {
    ensemble: &'a E,
    row: &'a [f64],
    tree: usize,
    rule: &'a Rule,
    /// Per input its factor on the path to here.
    path: Vec<Factor>,
    /// Per depth and point: the product of all factors on the path.
    down: Vec<f64>,
    /// Per depth and point: the sum of leaves times their products.
    up: Vec<f64>,
    /// Per input.
    found: Vec<f64>,
}

impl<E: Ensemble> Walk<'_, E> {
    /// Leaves in `up`, at `depth`, the sum over the leaves below a node. It calls itself as deep as the tree is, which [`Explainer::of`] has limited.
    fn node(&mut self, node: usize, depth: usize) {
        let points = self.rule.points.len();
        let (here, below) = (depth * points, (depth + 1) * points);
        let Some(split) = self.ensemble.split(self.tree, node) else {
            let value = self.ensemble.value(self.tree, node);
            for k in here..below {
                self.up[k] = value * self.down[k];
            }
            return;
        };
        self.up[here..below].fill(0.0);
        let taken = self.ensemble.child(self.tree, node, self.row);
        let before = self.path[split.feature];
        for (child, share) in shares(self.ensemble, self.tree, split) {
            let factor = (if child == taken { before.0 } else { 0.0 }, before.1 * share);
            if factor.0 == 0.0 && factor.1 < SHARE_MIN {
                // Neither the row nor the training goes there: nothing of it is in any sum.
                continue;
            }
            for (k, point) in self.rule.points.iter().enumerate() {
                self.down[below + k] = self.down[here + k] / at(before, point.0) * at(factor, point.0);
            }
            self.path[split.feature] = factor;
            self.node(child, depth + 1);
            // The leaves below count with this factor of the feature. The node before, which gets them in its sum, must not count them.
            let mut gain = 0.0;
            for (k, point) in self.rule.points.iter().enumerate() {
                let leaves = self.up[below + k];
                self.up[here + k] += leaves;
                gain += point.1 * leaves * (pull(factor, point.0) - pull(before, point.0));
            }
            self.found[split.feature] += gain;
        }
        self.path[split.feature] = before;
    }
}

/// What a feature adds by being in the set, in place of its factor in a product.
fn pull(factor: Factor, point: f64) -> f64 {
    (factor.0 - factor.1) / at(factor, point)
}

/// A factor at a point: its feature is in the set with this probability.
fn at(factor: Factor, point: f64) -> f64 {
    factor.1 * (1.0 - point) + factor.0 * point
}
