//! Ensembles of trees of `ai.onnx.ml`, as forests.

use super::graph::Build;
use super::ops::{Added, after, attribute, broken, floats, int, ints, labels, text, unknown};
use super::proto::Node;
use super::steps::{Pair, Step};
use crate::runtime::forest::{Builder, FileNode, Forest, Link, Missing, Precision, Test};
use std::collections::HashMap;

/// How a node names the leaves of its trees.
#[derive(Clone, Copy)]
pub struct Ensemble {
    leaves: &'static str,
    is_classifier: bool,
}

impl Ensemble {
    pub const REGRESSOR: Ensemble = Ensemble { leaves: "target", is_classifier: false };
    pub const CLASSIFIER: Ensemble = Ensemble { leaves: "class", is_classifier: true };
}

/// Adds the steps of an ensemble of trees.
pub fn add<'a>(build: &mut Build<'a>, node: &Node<'a>, kind: Ensemble) -> Added {
    let (from, width) = build.input(node, 0)?;
    let broken = |what: String| broken(node, &what);
    let file = Trees::of(node, kind).map_err(broken)?;
    let outputs = if kind.is_classifier { labels(node) } else { usize::try_from(int(node, "n_targets").unwrap_or(1)).unwrap_or(0) };
    let average = match text(node, "aggregate_function").unwrap_or("SUM") {
        "SUM" => false,
        "AVERAGE" => true,
        _ => return Err(unknown(node)),
    };
    let base = floats(node, "base_values");
    // Two classes with one score: its leaves all add to the same class.
    let paired = kind.is_classifier && outputs == 2 && file.leaves.values().flatten().all(|(class, _)| *class == file.first_class);
    let places = if paired { 1 } else { outputs };
    let base = match base.len() {
        0 => vec![0.0; places],
        count if count == places => base,
        _ => return Err(unknown(node)),
    };
    if average && base.iter().any(|b| *b != 0.0) {
        return Err(unknown(node));
    }
    let precision = if build.single { Precision::Single } else { Precision::Double };
    let forest = file.forest(Builder::new(width, base, precision, Link::Identity).map_err(broken)?, paired, average).map_err(broken)?;
    let scores = build.push(Step::Forest(from, Box::new(forest)), places)?;
    let output = usize::from(kind.is_classifier);
    if !paired {
        return Ok((after(build, node, scores, places)?, output));
    }
    let pair = match (file.none_negative, text(node, "post_transform").unwrap_or("NONE")) {
        // Such a score is a probability already.
        (true, "NONE" | "LOGISTIC") => Pair::Complement,
        (false, "LOGISTIC") => Pair::Logistic,
        (false, "NONE") => Pair::Opposite,
        _ => return Err(unknown(node)),
    };
    Ok((build.push(Step::Pair(scores, pair), 2)?, output))
}

/// The trees of a node: parallel lists, one entry per node of a tree.
struct Trees<'n, 'a> {
    ids: Vec<(i64, i64)>,
    /// Entries by tree and node.
    places: HashMap<(i64, i64), usize>,
    /// What a leaf adds to which output, by tree and node.
    leaves: HashMap<(i64, i64), Vec<(usize, f64)>>,
    first_class: usize,
    none_negative: bool,
    features: &'n [i64],
    modes: &'n [&'a [u8]],
    values: Vec<f64>,
    if_true: &'n [i64],
    if_false: &'n [i64],
    missing_is_true: &'n [i64],
}

impl<'n, 'a> Trees<'n, 'a> {
    fn of(node: &'n Node<'a>, kind: Ensemble) -> Result<Trees<'n, 'a>, String> {
        let ids: Vec<(i64, i64)> = ints(node, "nodes_treeids").iter().copied().zip(ints(node, "nodes_nodeids").iter().copied()).collect();
        let modes = attribute(node, "nodes_modes").map_or(&[][..], |a| &a.texts);
        let values = floats(node, "nodes_values");
        let (if_true, if_false) = (ints(node, "nodes_truenodeids"), ints(node, "nodes_falsenodeids"));
        let (features, missing_is_true) = (ints(node, "nodes_featureids"), ints(node, "nodes_missing_value_tracks_true"));
        let count = ids.len();
        let same = [ints(node, "nodes_nodeids").len(), modes.len(), values.len(), if_true.len(), if_false.len(), features.len()];
        if count == 0 || same.iter().any(|n| *n != count) || !(missing_is_true.is_empty() || missing_is_true.len() == count) {
            return Err("lists of different lengths".into());
        }
        let places: HashMap<(i64, i64), usize> = ids.iter().enumerate().map(|(place, id)| (*id, place)).collect();
        if places.len() != count {
            return Err("a node of a tree is there twice".into());
        }
        let list = |name: &str| ints(node, &format!("{}_{name}", kind.leaves));
        let (tree_ids, node_ids, classes) = (list("treeids"), list("nodeids"), list("ids"));
        let weights = floats(node, &format!("{}_weights", kind.leaves));
        if [tree_ids.len(), node_ids.len(), classes.len()].iter().any(|n| *n != weights.len()) || weights.is_empty() {
            return Err("lists of leaves of different lengths".into());
        }
        let mut leaves: HashMap<(i64, i64), Vec<(usize, f64)>> = HashMap::new();
        for (place, weight) in weights.iter().enumerate() {
            let class = usize::try_from(classes[place]).map_err(|_| "a leaf of a class below 0")?;
            leaves.entry((tree_ids[place], node_ids[place])).or_default().push((class, *weight));
        }
        let first_class = usize::try_from(classes[0]).unwrap_or(0);
        let none_negative = weights.iter().all(|w| *w >= 0.0);
        Ok(Trees { ids, places, leaves, first_class, none_negative, features, modes, values, if_true, if_false, missing_is_true })
    }

    /// Builds the forest, trees in the order of the file.
    fn forest(&self, mut builder: Builder, paired: bool, average: bool) -> Result<Forest, String> {
        let mut trees: Vec<(i64, Vec<usize>)> = Vec::new();
        let mut by_id: HashMap<i64, usize> = HashMap::new();
        for (place, (tree, _)) in self.ids.iter().enumerate() {
            let at = *by_id.entry(*tree).or_insert_with(|| {
                trees.push((*tree, Vec::new()));
                trees.len() - 1
            });
            trees[at].1.push(place);
        }
        let count = trees.len();
        for (tree, mut places) in trees {
            let inner = || places.iter().filter(|place| self.modes[**place] != b"LEAF");
            let children: std::collections::HashSet<i64> = inner().flat_map(|p| [self.if_true[*p], self.if_false[*p]]).collect();
            let root = places
                .iter()
                .position(|place| !children.contains(&self.ids[*place].1))
                .ok_or_else(|| format!("tree {tree} has no root"))?;
            places.swap(0, root);
            let local: HashMap<usize, usize> = places.iter().enumerate().map(|(local, place)| (*place, local)).collect();
            builder.tree(0, places.len(), |at| self.node(places[at], &local, paired)).map_err(|why| format!("tree {tree}: {why}"))?;
        }
        Ok(if average { builder.averaged(count).finish() } else { builder.finish() })
    }

    fn node(&self, place: usize, local: &HashMap<usize, usize>, paired: bool) -> Result<FileNode<'_>, String> {
        let (tree, number) = self.ids[place];
        let value = self.values[place];
        // Whether the test is as ours, or ours the other way round.
        let (test, straight) = match self.modes[place] {
            b"LEAF" => {
                let values = self.leaves.get(&(tree, number)).map_or(&[][..], Vec::as_slice);
                return Ok(if paired { FileNode::Leaf(values.iter().map(|(_, value)| value).sum()) } else { FileNode::Leaves(values) });
            }
            b"BRANCH_LEQ" => (Test::AtMost(value), true),
            b"BRANCH_LT" => (Test::Below(value), true),
            b"BRANCH_GT" => (Test::AtMost(value), false),
            b"BRANCH_GTE" => (Test::Below(value), false),
            other => return Err(format!("the test {} is not known", other.escape_ascii())),
        };
        let child = |number: i64| {
            let place = self.places.get(&(tree, number)).ok_or_else(|| format!("node {number} is asked for"))?;
            local.get(place).copied().ok_or_else(|| format!("node {number} is of another tree"))
        };
        let (yes, no) = (child(self.if_true[place])?, child(self.if_false[place])?);
        let feature = usize::try_from(self.features[place]).unwrap_or(usize::MAX);
        // NaN compares with nothing, so the test fails, unless the file says otherwise.
        let missing_is_true = self.missing_is_true.get(place).is_some_and(|flag| *flag != 0);
        let (left, right) = if straight { (yes, no) } else { (no, yes) };
        Ok(FileNode::Split { feature, test, left, right, missing: Missing::NaN, default_left: missing_is_true == straight })
    }
}
