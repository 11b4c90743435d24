//! Trees that were grown elsewhere: one representation for what LightGBM and XGBoost write, scored as those libraries score it.
//!
//! Promise: the sums are made in the order and in the precision of the library (`f32` or `f64`), so that scores are its scores. Only a
//! [`Builder`] makes a forest, and it takes nothing on trust: every index is in range, no node is reached twice, and every child stands behind
//! its parent. So each walk ends, and scoring can neither fail nor panic.
//!
//! A forest of our own training is another thing: its meaning is in `kernel::model`.

use super::compiled::{Compiled, Set};
use super::shap::{Ensemble, Split};
use gristmill_kernel::limits::{MODEL_CATEGORIES_MAX, MODEL_INPUTS_MAX, MODEL_NODES_MAX, MODEL_OUTPUTS_MAX};

/// Trees whose leaves are added up, and what is done with the sums.
#[derive(Debug, Clone, PartialEq)]
pub struct Forest {
    pub(super) width: usize,
    pub(super) base: Vec<f64>,
    pub(super) precision: Precision,
    /// The sums are divided by it: the number of rounds where trees are averaged, else 1.
    pub(super) divisor: f64,
    pub(super) link: Link,
    pub(super) nodes: Vec<Node>,
    /// The root of each tree and the output it adds to, in the order of adding.
    pub(super) trees: Vec<(u32, u32)>,
    /// Per set of categories the first word and the number of words of its bits.
    pub(super) sets: Vec<(u32, u32)>,
    pub(super) bits: Vec<u32>,
    /// What leaves with several values add to which output.
    pub(super) many: Vec<(u32, f64)>,
    /// Per node what stands for the rows of the training that reached it; empty if the file does not say so of every leaf.
    covers: Vec<f64>,
    /// The same trees in the layout that scores; without it they are walked as they are.
    compiled: Option<Box<Compiled>>,
}

/// How numbers are compared and added.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Precision {
    /// As `f32`: inputs are rounded, sums too, after each tree.
    Single,
    /// As `f64`.
    Double,
}

impl Precision {
    /// A number, or a sum of two, as it is kept. The sum of two `f32` is exact in `f64`, so rounding it once is what an addition of `f32` does.
    #[inline]
    pub fn rounded(self, x: f64) -> f64 {
        if self == Precision::Single { f64::from(x as f32) } else { x }
    }
}

/// What happens to the sums.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Link {
    /// Nothing.
    Identity,
    /// `1 / (1 + exp(-steepness * x))`, each output for itself.
    Logistic {
        /// 1 unless the model says otherwise.
        steepness: f64,
    },
    /// Softmax over the outputs.
    Softmax,
    /// `exp(x)`.
    Exp,
    /// `ln(1 + exp(x))`.
    LogOnePlusExp,
    /// `x * |x|`.
    SignedSquare,
    /// 1 above 0, else 0.
    Step,
}

/// What a node asks.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Ask {
    /// Nothing: this is its value.
    Leaf(f64),
    /// Nothing: these are its values, by the first and their number.
    Leaves(u32, u32),
    /// Left if the value is below.
    Below(f64),
    /// Left if the value is not above.
    AtMost(f64),
    /// Left if the code is in the set.
    Within(u32),
}

/// Which values count as missing, and what becomes of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Missing {
    /// NaN goes the default way.
    NaN,
    /// NaN, and zero as far as anybody can tell, go the default way.
    Zero,
    /// NaN counts as zero.
    None,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Node {
    pub(super) ask: Ask,
    pub(super) feature: u32,
    pub(super) left: u32,
    pub(super) right: u32,
    pub(super) missing: Missing,
    pub(super) default_left: bool,
}

/// What is not told from zero where [`Missing::Zero`] holds.
pub(super) const ZERO: f64 = 1e-35_f32 as f64;

impl Forest {
    /// How many outputs.
    pub fn outputs(&self) -> usize {
        self.base.len()
    }
    /// Scores a row of as many numbers as there are inputs (NaN is missing) into [`Self::outputs`] places, tree by tree as the file has them.
    pub fn score(&self, row: &[f64], out: &mut [f64]) {
        out.copy_from_slice(&self.base);
        self.add(row, out);
        self.linked(out);
    }

    /// The same of some rows, one behind the other, to the bit.
    pub fn score_rows(&self, matrix: &[f64], rows: usize, out: &mut [f64]) {
        let outputs = self.outputs();
        match &self.compiled {
            None => {
                let each = matrix.chunks_exact(self.width).zip(out.chunks_exact_mut(outputs)).take(rows);
                each.for_each(|(row, out)| self.score(row, out));
            }
            Some(compiled) => {
                out.chunks_exact_mut(outputs).for_each(|out| out.copy_from_slice(&self.base));
                compiled.add(matrix, rows, self.precision, out);
                out.chunks_exact_mut(outputs).for_each(|out| self.linked(out));
            }
        }
    }

    /// What the sums of a row mean.
    fn linked(&self, out: &mut [f64]) {
        out.iter_mut().for_each(|sum| *sum = self.precision.rounded(*sum / self.divisor));
        match self.precision {
            Precision::Double => self.link.apply(out),
            Precision::Single => self.link.apply_single(out),
        }
    }

    fn add(&self, row: &[f64], out: &mut [f64]) {
        for (root, output) in &self.trees {
            let mut at = *root as usize;
            loop {
                let node = &self.nodes[at];
                match node.ask {
                    Ask::Leaf(value) => {
                        let sum = &mut out[*output as usize];
                        *sum = self.precision.rounded(*sum + value);
                        break;
                    }
                    Ask::Leaves(first, count) => {
                        for (output, value) in &self.many[first as usize..(first + count) as usize] {
                            let sum = &mut out[*output as usize];
                            *sum = self.precision.rounded(*sum + value);
                        }
                        break;
                    }
                    _ => {
                        let x = self.precision.rounded(row[node.feature as usize]);
                        at = if node.goes_left(x, self) { node.left } else { node.right } as usize;
                    }
                }
            }
        }
    }

    /// A set of categories.
    pub(super) fn set_of(&self, set: u32) -> Set<'_> {
        let (first, words) = self.sets[set as usize];
        Set { words: &self.bits[first as usize..(first + words) as usize], whole: false }
    }
}

impl Node {
    fn goes_left(&self, x: f64, forest: &Forest) -> bool {
        let x = match self.missing {
            Missing::NaN if x.is_nan() => return self.default_left,
            Missing::Zero if x.is_nan() || x.abs() <= ZERO => return self.default_left,
            Missing::None if x.is_nan() => 0.0,
            _ => x,
        };
        match self.ask {
            Ask::Below(limit) => x < limit,
            Ask::AtMost(limit) => x <= limit,
            Ask::Within(set) => forest.set_of(set).holds(x),
            Ask::Leaf(_) | Ask::Leaves(..) => false,
        }
    }
}

impl Link {
    fn apply(self, out: &mut [f64]) {
        match self {
            Link::Identity => {}
            Link::Logistic { steepness } => out.iter_mut().for_each(|x| *x = 1.0 / (1.0 + (-steepness * *x).exp())),
            Link::Softmax => {
                let top = out.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                out.iter_mut().for_each(|x| *x = (*x - top).exp());
                let sum: f64 = out.iter().sum();
                out.iter_mut().for_each(|x| *x /= sum);
            }
            Link::Exp => out.iter_mut().for_each(|x| *x = x.exp()),
            Link::LogOnePlusExp => out.iter_mut().for_each(|x| *x = x.exp().ln_1p()),
            Link::SignedSquare => out.iter_mut().for_each(|x| *x *= x.abs()),
            Link::Step => out.iter_mut().for_each(|x| *x = f64::from(u8::from(*x > 0.0))),
        }
    }

    /// The same in single precision, with the rounding and the guards of the library that works so.
    fn apply_single(self, out: &mut [f64]) {
        let each = |out: &mut [f64], f: fn(f32) -> f32| out.iter_mut().for_each(|x| *x = f64::from(f(*x as f32)));
        match self {
            Link::Logistic { .. } => each(out, |x| 1.0 / ((-x).min(88.7).exp() + 1.0)),
            Link::Softmax => {
                let top = out.iter().fold(f32::NEG_INFINITY, |top, x| top.max(*x as f32));
                let mut sum = 0.0_f64;
                for x in out.iter_mut() {
                    *x = f64::from((*x as f32 - top).exp());
                    sum += *x;
                }
                out.iter_mut().for_each(|x| *x = f64::from(*x as f32 / sum as f32));
            }
            Link::Exp => each(out, f32::exp),
            Link::Identity | Link::LogOnePlusExp | Link::SignedSquare | Link::Step => {
                self.apply(out);
                out.iter_mut().for_each(|x| *x = f64::from(*x as f32));
            }
        }
    }
}

/// A node as a file describes it; children are numbers of nodes of the same file.
#[derive(Debug, Clone, Copy)]
pub enum FileNode<'a> {
    /// A leaf with its value.
    Leaf(f64),
    /// A leaf with several values, each of an output.
    Leaves(&'a [(usize, f64)]),
    /// An inner node.
    Split {
        /// The input it asks about.
        feature: usize,
        /// What it asks.
        test: Test<'a>,
        /// Where to go if the test holds.
        left: usize,
        /// Where to go if not.
        right: usize,
        /// Which values count as missing.
        missing: Missing,
        /// Whether missing values go left.
        default_left: bool,
    },
}

/// What a file says that an inner node asks.
#[derive(Debug, Clone, Copy)]
pub enum Test<'a> {
    /// Below a number.
    Below(f64),
    /// Not above a number.
    AtMost(f64),
    /// One of the categories whose bits are set, lowest first.
    Within(&'a [u32]),
}

/// Collects a forest, checking what it is given. Every refusal is a sentence about the file.
#[derive(Debug)]
pub struct Builder {
    forest: Forest,
    covered: bool,
}

impl Builder {
    /// A forest without trees: how many inputs, the start value of each output, and how it computes.
    pub fn new(width: usize, base: Vec<f64>, precision: Precision, link: Link) -> Result<Builder, String> {
        if width == 0 || width > MODEL_INPUTS_MAX {
            return Err(format!("it has {width} inputs, from 1 to {MODEL_INPUTS_MAX} are served"));
        }
        if base.is_empty() || base.len() > MODEL_OUTPUTS_MAX {
            return Err(format!("it has {} outputs, from 1 to {MODEL_OUTPUTS_MAX} are served", base.len()));
        }
        if let Some(bad) = base.iter().find(|b| !b.is_finite()) {
            return Err(format!("its start value is {bad}"));
        }
        let (nodes, trees, sets, bits, many) = (Vec::new(), Vec::new(), Vec::new(), Vec::new(), Vec::new());
        let forest =
            Forest { width, base, precision, divisor: 1.0, link, nodes, trees, sets, bits, many, covers: Vec::new(), compiled: None };
        Ok(Builder { forest, covered: true })
    }

    /// Adds the tree whose root is node 0 of `count` nodes that `read` describes. Nodes that no walk reaches are left out.
    pub fn tree<'a>(&mut self, output: usize, count: usize, read: impl Fn(usize) -> Result<FileNode<'a>, String>) -> Result<(), String> {
        self.covered_tree(output, count, read, |_| None)
    }

    /// The same for a tree whose file says how many rows of the training reached a leaf, or what stands for that.
    pub fn covered_tree<'a>(
        &mut self,
        output: usize,
        count: usize,
        read: impl Fn(usize) -> Result<FileNode<'a>, String>,
        cover: impl Fn(usize) -> Option<f64>,
    ) -> Result<(), String> {
        let forest = &mut self.forest;
        if output >= forest.base.len() {
            return Err(format!("a tree adds to output {output} of {}", forest.base.len()));
        }
        if count == 0 || forest.nodes.len() + count > MODEL_NODES_MAX {
            return Err(format!("its trees have more than {MODEL_NODES_MAX} nodes, or one has none"));
        }
        let mut seen = vec![false; count];
        // What is still to be placed: the node in the file, and the place of its parent with the side it is on.
        let mut open: Vec<(usize, Option<(usize, bool)>)> = vec![(0, None)];
        let root = forest.nodes.len() as u32;
        while let Some((number, parent)) = open.pop() {
            match seen.get_mut(number) {
                None => return Err(format!("node {number} of {count} is asked for")),
                Some(seen) if *seen => return Err(format!("node {number} is reached twice")),
                Some(seen) => *seen = true,
            }
            let place = forest.nodes.len();
            if let Some((parent, is_left)) = parent {
                let parent = &mut forest.nodes[parent];
                *(if is_left { &mut parent.left } else { &mut parent.right }) = place as u32;
            }
            let node = match read(number)? {
                FileNode::Leaf(value) if value.is_finite() => leaf(Ask::Leaf(value)),
                FileNode::Leaves(values) => {
                    let first = forest.many.len();
                    if first + values.len() > MODEL_NODES_MAX {
                        return Err(format!("its leaves have more than {MODEL_NODES_MAX} values"));
                    }
                    for (output, value) in values {
                        if *output >= forest.base.len() || !value.is_finite() {
                            return Err(format!("leaf {number} adds {value} to output {output} of {}", forest.base.len()));
                        }
                        forest.many.push((*output as u32, *value));
                    }
                    leaf(Ask::Leaves(first as u32, values.len() as u32))
                }
                FileNode::Leaf(value) => return Err(format!("the value of leaf {number} is {value}")),
                FileNode::Split { feature, test, left, right, missing, default_left } => {
                    if feature >= forest.width {
                        return Err(format!("node {number} asks about input {feature} of {}", forest.width));
                    }
                    let ask = match test {
                        Test::Below(limit) | Test::AtMost(limit) if limit.is_nan() => {
                            return Err(format!("node {number} has no threshold"));
                        }
                        Test::Below(limit) => Ask::Below(limit),
                        Test::AtMost(limit) => Ask::AtMost(limit),
                        Test::Within(bits) => Ask::Within(forest.set(bits)?),
                    };
                    open.push((right, Some((place, false))));
                    open.push((left, Some((place, true))));
                    Node { ask, feature: feature as u32, left: 0, right: 0, missing, default_left }
                }
            };
            // One leaf with several values, or without a cover, and nothing is known of the whole.
            let covers = match node.ask {
                Ask::Leaf(_) => cover(number),
                Ask::Leaves(..) => None,
                Ask::Below(_) | Ask::AtMost(_) | Ask::Within(_) => Some(0.0),
            };
            self.covered &= covers.is_some();
            if self.covered {
                forest.covers.push(covers.unwrap_or_default());
            }
            forest.nodes.push(node);
        }
        if self.covered {
            // Children stand behind their parents.
            for place in (root as usize..forest.nodes.len()).rev() {
                let node = &forest.nodes[place];
                if !matches!(node.ask, Ask::Leaf(_)) {
                    forest.covers[place] = forest.covers[node.left as usize] + forest.covers[node.right as usize];
                }
            }
        }
        forest.trees.push((root, output as u32));
        Ok(())
    }

    /// The sums are divided by this many rounds.
    pub fn averaged(mut self, rounds: usize) -> Builder {
        self.forest.divisor = rounds.max(1) as f64;
        self
    }

    /// The forest.
    pub fn finish(mut self) -> Forest {
        if !self.covered {
            self.forest.covers = Vec::new();
        }
        self.forest.compiled = self.forest.compile().map(Box::new);
        self.forest
    }
}

impl Forest {
    fn set(&mut self, bits: &[u32]) -> Result<u32, String> {
        if bits.len() > MODEL_CATEGORIES_MAX / 32 || self.bits.len() + bits.len() > MODEL_NODES_MAX {
            return Err(format!("a split names a category above {MODEL_CATEGORIES_MAX}, or all of them too many"));
        }
        self.sets.push((self.bits.len() as u32, bits.len() as u32));
        self.bits.extend_from_slice(bits);
        Ok(self.sets.len() as u32 - 1)
    }
}

impl Ensemble for Forest {
    fn outputs(&self) -> usize {
        self.base.len()
    }
    fn trees(&self) -> usize {
        self.trees.len()
    }
    fn root(&self, tree: usize) -> usize {
        self.trees[tree].0 as usize
    }
    fn output(&self, tree: usize) -> usize {
        self.trees[tree].1 as usize
    }
    fn split(&self, _: usize, node: usize) -> Option<Split> {
        let node = &self.nodes[node];
        let inner = !matches!(node.ask, Ask::Leaf(_) | Ask::Leaves(..));
        inner.then(|| Split::new(node.feature as usize, node.left as usize, node.right as usize, None))
    }
    fn child(&self, _: usize, node: usize, row: &[f64]) -> usize {
        let node = &self.nodes[node];
        let x = row[node.feature as usize];
        let x = self.precision.rounded(x);
        if node.goes_left(x, self) { node.left as usize } else { node.right as usize }
    }
    fn value(&self, _: usize, leaf: usize) -> f64 {
        match self.nodes[leaf].ask {
            Ask::Leaf(value) => value,
            // With several values there are no covers, and so no contributions.
            _ => 0.0,
        }
    }
    fn cover(&self, _: usize, node: usize) -> Option<f64> {
        self.covers.get(node).copied()
    }
    fn start(&self, output: usize) -> f64 {
        self.base[output]
    }
    fn divisor(&self, _: usize) -> f64 {
        self.divisor
    }
}

fn leaf(ask: Ask) -> Node {
    Node { ask, feature: 0, left: 0, right: 0, missing: Missing::NaN, default_left: false }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(feature: usize, test: Test<'_>, missing: Missing, default_left: bool) -> FileNode<'_> {
        FileNode::Split { feature, test, left: 1, right: 2, missing, default_left }
    }

    /// One split over two leaves: -1 left, 1 right.
    fn stump(test: Test<'_>, missing: Missing, default_left: bool, precision: Precision) -> Forest {
        let mut builder = Builder::new(1, vec![0.0], precision, Link::Identity).expect("a builder");
        let read =
            |node| Ok(if node == 0 { split(0, test, missing, default_left) } else { FileNode::Leaf(if node == 1 { -1.0 } else { 1.0 }) });
        builder.tree(0, 3, read).expect("a tree");
        builder.finish()
    }

    fn goes_left(forest: &Forest, x: f64) -> bool {
        let mut out = [f64::NAN];
        forest.score(&[x], &mut out);
        out[0] < 0.0
    }

    #[test]
    fn borders_and_missing_values_go_where_they_should() {
        let below = stump(Test::Below(2.0), Missing::NaN, true, Precision::Double);
        let at_most = stump(Test::AtMost(2.0), Missing::NaN, false, Precision::Double);
        assert!(goes_left(&below, 1.9) && !goes_left(&below, 2.0) && goes_left(&below, f64::NAN));
        assert!(goes_left(&at_most, 2.0) && !goes_left(&at_most, 2.1) && !goes_left(&at_most, f64::NAN));
        let zero = stump(Test::AtMost(-1.0), Missing::Zero, true, Precision::Double);
        assert!(goes_left(&zero, 0.0) && goes_left(&zero, -1e-36) && goes_left(&zero, f64::NAN) && !goes_left(&zero, 1e-34));
        let none = stump(Test::AtMost(-1.0), Missing::None, true, Precision::Double);
        assert!(!goes_left(&none, f64::NAN), "NaN is zero, and zero is above -1");
    }

    #[test]
    fn single_precision_rounds_inputs() {
        let limit = f64::from(0.1_f32);
        let single = stump(Test::Below(limit), Missing::NaN, true, Precision::Single);
        let double = stump(Test::Below(limit), Missing::NaN, true, Precision::Double);
        assert!(!goes_left(&single, 0.1) && goes_left(&double, 0.1));
    }

    #[test]
    fn sets_hold_codes_and_nothing_else() {
        let set = stump(Test::Within(&[0b1010, 1]), Missing::NaN, false, Precision::Double);
        for (x, left) in [(1.0, true), (3.9, true), (32.0, true), (0.0, false), (33.0, false), (-1.0, false), (-0.5, false), (1e300, false)]
        {
            assert_eq!(goes_left(&set, x), left, "{x}");
        }
        assert!(!goes_left(&set, f64::INFINITY) && !goes_left(&set, f64::NAN));
    }

    #[test]
    fn what_is_no_tree_is_refused() {
        let check = |nodes: &[FileNode<'_>], part: &str| {
            let mut builder = Builder::new(1, vec![0.0], Precision::Double, Link::Identity).expect("a builder");
            let why = builder.tree(0, nodes.len(), |node| Ok(nodes[node])).expect_err(part);
            assert!(why.contains(part), "{why}");
        };
        let to =
            |left, right| FileNode::Split { feature: 0, test: Test::Below(0.0), left, right, missing: Missing::NaN, default_left: true };
        check(&[to(0, 1), FileNode::Leaf(0.0)], "twice");
        check(&[to(1, 1), FileNode::Leaf(0.0)], "twice");
        check(&[to(1, 7), FileNode::Leaf(0.0)], "node 7 of 2");
        check(&[FileNode::Leaf(f64::NAN)], "NaN");
        check(&[split(1, Test::Below(0.0), Missing::NaN, true), FileNode::Leaf(0.0), FileNode::Leaf(0.0)], "input 1 of 1");
        check(&[split(0, Test::AtMost(f64::NAN), Missing::NaN, true), FileNode::Leaf(0.0), FileNode::Leaf(0.0)], "no threshold");
        check(&[], "one has none");
        assert!(Builder::new(0, vec![0.0], Precision::Double, Link::Identity).is_err());
        assert!(Builder::new(1, vec![], Precision::Double, Link::Identity).is_err());
        let mut builder = Builder::new(1, vec![0.0], Precision::Double, Link::Identity).expect("a builder");
        assert!(builder.tree(1, 1, |_| Ok(FileNode::Leaf(0.0))).is_err());
    }

    #[test]
    fn links() {
        let all = |link: Link, x: f64| {
            let mut out = [x];
            link.apply(&mut out);
            out[0]
        };
        assert_eq!(all(Link::Logistic { steepness: 2.0 }, 0.0), 0.5);
        assert_eq!((all(Link::SignedSquare, -3.0), all(Link::Step, 0.1), all(Link::Step, 0.0)), (-9.0, 1.0, 0.0));
        assert_eq!(all(Link::LogOnePlusExp, 0.0), 2f64.ln());
        let mut out = [1.0, 1.0, 1.0];
        Link::Softmax.apply_single(&mut out);
        assert_eq!(out, [f64::from(1.0_f32 / 3.0); 3]);
    }
}
