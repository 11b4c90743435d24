//! The trees of other libraries, and those of our own training, as the compiler is told them.

use super::Compiled;
use super::columns::Set;
use super::compiler::{Ask, Compiler, Gone, Limit};
use crate::runtime::forest::{self, Forest, Missing, Precision, ZERO};
use gristmill_kernel::limits::MODEL_CATEGORIES_MAX;
use gristmill_kernel::model::{self, LEAF};
use std::collections::HashMap;

impl Forest {
    /// Compiles it; `None` if the layout has no room for it.
    pub(in crate::runtime) fn compile(&self) -> Option<Compiled> {
        let mut compiler = Compiler::new(self.width, self.precision == Precision::Single, !self.many.is_empty());
        for (root, output) in &self.trees {
            compiler.tree((*root, *output), self.nodes.len(), |number| self.asked(number))?;
        }
        compiler.finish()
    }

    fn asked(&self, number: u32) -> Ask<'_> {
        let node = &self.nodes[number as usize];
        let (feature, left, right) = (node.feature, node.left, node.right);
        let missing = |zero_is_left: &dyn Fn() -> bool| match node.missing {
            Missing::NaN => Gone { left: node.default_left, zero: None },
            Missing::Zero => Gone { left: node.default_left, zero: Some(ZERO) },
            Missing::None => Gone { left: zero_is_left(), zero: None },
        };
        match node.ask {
            forest::Ask::Leaf(value) => Ask::Leaf(value),
            forest::Ask::Leaves(first, count) => Ask::Leaves(&self.many[first as usize..(first + count) as usize]),
            forest::Ask::Below(limit) => Ask::Below { feature, limit: Limit::Below(limit), missing: missing(&|| 0.0 < limit), left, right },
            forest::Ask::AtMost(limit) => {
                Ask::Below { feature, limit: Limit::AtMost(limit), missing: missing(&|| 0.0 <= limit), left, right }
            }
            forest::Ask::Within(id) => {
                let set = self.set_of(id);
                Ask::Within { feature, set, missing: missing(&|| set.holds(0.0)), left, right }
            }
        }
    }
}

/// Compiles a forest of our own training, for rows of `width` numbers; `None` if the layout has no room for it.
pub fn own(forest: &model::Forest, width: usize) -> Option<Compiled> {
    let mut compiler = Compiler::new(width, false, false);
    let sets = sets(forest)?;
    for (number, tree) in forest.trees.iter().enumerate() {
        // A node with a child of its own for missing values is two: one that asks about them, and behind it the other question.
        let second = tree.feature.len() as u32;
        let ask = |number_in_tree: u32| {
            let behind = number_in_tree >= second;
            let node = (number_in_tree - if behind { second } else { 0 }) as usize;
            let (feature, left, right) = (tree.feature[node], tree.left[node], tree.right[node]);
            if feature == LEAF {
                return Ask::Leaf(tree.value[node]);
            }
            if tree.missing[node] == 2 && !behind {
                return Ask::Missing { feature, left: second + node as u32, right: tree.missing_child[node] };
            }
            let missing = Gone { left: tree.missing[node] == 0, zero: None };
            match sets.get(&(number, node as u32)) {
                Some(words) => Ask::Within { feature, set: Set { words, whole: true }, missing, left, right },
                None => Ask::Below { feature, limit: Limit::Below(tree.threshold[node]), missing, left, right },
            }
        };
        compiler.tree((0, tree.output), 2 * tree.feature.len(), ask)?;
    }
    compiler.finish()
}

/// The bits of the categories that go left, by tree and node.
type Sets = HashMap<(usize, u32), Vec<u32>>;

fn sets(forest: &model::Forest) -> Option<Sets> {
    let mut sets = Sets::new();
    for (number, tree) in forest.trees.iter().enumerate() {
        for (node, codes) in &tree.categories {
            let top = codes.iter().max().map_or(0, |code| *code as usize);
            if top >= MODEL_CATEGORIES_MAX {
                return None;
            }
            let mut words = vec![0u32; top / 32 + 1];
            codes.iter().for_each(|code| words[*code as usize / 32] |= 1 << (code % 32));
            sets.insert((number, *node), words);
        }
    }
    Some(sets)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::forest::{Builder, FileNode, Link, Test};
    use crate::runtime::own::Own;
    use gristmill_kernel::model::{Body, ModelFile, Tree};
    use rand::rngs::SmallRng;
    use rand::{Rng, SeedableRng};
    use std::collections::BTreeMap;

    const WIDTH: usize = 5;
    /// Few, so that values meet thresholds.
    const VALUES: [f64; 14] =
        [0.0, -0.0, 1.0, 1.5, 2.0, -1.0, 0.1, 1e-36, -1e-36, 1e-34, f64::INFINITY, f64::NEG_INFINITY, f64::MAX, f64::MIN];

    fn value(random: &mut SmallRng) -> f64 {
        match random.random_range(0..10) {
            0 => f64::NAN,
            1..4 => f64::from(random.random_range(0..70)),
            4 => random.random_range(-3.0..3.0),
            _ => VALUES[random.random_range(0..VALUES.len())],
        }
    }

    fn rows(random: &mut SmallRng, rows: usize) -> Vec<f64> {
        (0..rows * WIDTH).map(|_| value(random)).collect()
    }

    fn same(one: &[f64], other: &[f64], what: &str) {
        let bits = |all: &[f64]| all.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
        assert_eq!(bits(one), bits(other), "{what}");
    }

    /// A tree of so many nodes, the children of a node somewhere behind it: for each its two children, or none.
    fn shape(random: &mut SmallRng, nodes: usize) -> Vec<Option<(usize, usize)>> {
        let mut shape = vec![None];
        while shape.len() + 2 <= nodes {
            let at = random.random_range(0..shape.len());
            if shape[at].is_none() {
                shape[at] = Some((shape.len(), shape.len() + 1));
                shape.extend([None, None]);
            }
        }
        shape
    }

    fn foreign(random: &mut SmallRng, trees: usize) -> Forest {
        let outputs = random.random_range(1..4);
        let precision = if random.random() { Precision::Single } else { Precision::Double };
        let several = random.random_range(0..3) == 0;
        let base = (0..outputs).map(|_| random.random_range(-1.0..1.0)).collect();
        let mut builder = Builder::new(WIDTH, base, precision, Link::Identity).expect("a builder");
        let words: Vec<[u32; 3]> = (0..4).map(|_| random.random()).collect();
        for _ in 0..trees {
            let nodes = random.random_range(1..90);
            let shape = shape(random, nodes);
            let leaves: Vec<Vec<(usize, f64)>> =
                shape.iter().map(|_| (0..outputs).map(|output| (output, random.random_range(-1.0..1.0))).collect()).collect();
            let asked: Vec<(usize, u8, f64, usize, u8, bool)> = shape
                .iter()
                .map(|_| {
                    let limit = Some(value(random)).filter(|x| !x.is_nan()).unwrap_or(0.5);
                    let (feature, test, set) = (random.random_range(0..WIDTH), random.random_range(0..5), random.random_range(0..4));
                    (feature, test, limit, set, random.random_range(0..3), random.random())
                })
                .collect();
            let read = |at: usize| {
                let Some((left, right)) = shape[at] else {
                    return Ok(if several { FileNode::Leaves(&leaves[at]) } else { FileNode::Leaf(leaves[at][0].1) });
                };
                let (feature, test, limit, set, missing, default_left) = asked[at];
                let test = match test {
                    0 => Test::Within(&words[set]),
                    1 | 2 => Test::Below(limit),
                    _ => Test::AtMost(limit),
                };
                let missing = [Missing::NaN, Missing::Zero, Missing::None][usize::from(missing)];
                Ok(FileNode::Split { feature, test, left, right, missing, default_left })
            };
            builder.tree(random.random_range(0..outputs), shape.len(), read).expect("a tree");
        }
        builder.finish()
    }

    #[test]
    fn foreign_trees_score_as_they_do_one_by_one() {
        let mut random = SmallRng::seed_from_u64(3);
        for trees in [0, 1, 2, 7, 8, 9, 30] {
            for _ in 0..40 {
                let forest = foreign(&mut random, trees);
                assert!(forest.compile().is_some());
                for count in [0, 1, 3, 8, 9, 63, 64, 65, 200] {
                    let matrix = rows(&mut random, count);
                    let mut plain = vec![0.0; count * forest.outputs()];
                    let each = matrix.chunks_exact(WIDTH).zip(plain.chunks_exact_mut(forest.outputs()));
                    each.for_each(|(row, out)| forest.score(row, out));
                    let mut compiled = vec![f64::NAN; count * forest.outputs()];
                    forest.score_rows(&matrix, count, &mut compiled);
                    same(&plain, &compiled, &format!("{trees} trees, {count} rows"));
                }
            }
        }
    }

    fn tree(random: &mut SmallRng, outputs: u32) -> Tree {
        let mut tree = Tree { output: random.random_range(0..outputs), ..Tree::default() };
        let nodes = random.random_range(1..60);
        let mut shape: Vec<Option<[usize; 3]>> = vec![None];
        while shape.len() + 3 <= nodes {
            let (at, first) = (random.random_range(0..shape.len()), shape.len());
            if shape[at].is_none() {
                let missing = random.random_range(0..3);
                shape[at] = Some([first, first + 1, if missing == 2 { first + 2 } else { missing }]);
                shape.resize(first + if missing == 2 { 3 } else { 2 }, None);
            }
        }
        for (at, children) in shape.iter().enumerate() {
            let [left, right, missing] = children.unwrap_or_default();
            tree.feature.push(if children.is_some() { random.random_range(0..WIDTH as u32) } else { LEAF });
            tree.threshold.push(Some(value(random)).filter(|x| !x.is_nan()).unwrap_or(0.5));
            tree.left.push(left as u32);
            tree.right.push(right as u32);
            tree.missing.push(missing.min(2) as u8);
            tree.missing_child.push(missing as u32);
            tree.value.push(random.random_range(-1.0..1.0));
            if children.is_some() && random.random_range(0..5) == 0 {
                let codes = (0..random.random_range(0..4)).map(|_| random.random_range(0..70)).collect();
                tree.categories.insert(at as u32, codes);
            }
        }
        tree
    }

    #[test]
    fn own_trees_score_as_they_do_one_by_one() {
        let mut random = SmallRng::seed_from_u64(5);
        let (mut tried, mut by_mean) = (0, 0);
        while tried < 150 {
            let outputs: u32 = random.random_range(1..3);
            let link = [model::Link::Mean, model::Link::Logistic, model::Link::Softmax, model::Link::Identity][random.random_range(0..4)];
            let base = (0..outputs).map(|_| random.random_range(-1.0..1.0)).collect();
            let count = random.random_range(0..12);
            let forest = model::Forest { base, trees: (0..count).map(|_| tree(&mut random, outputs)).collect(), link };
            let feature = |i: usize| model::Feature {
                view: "v".into(),
                column: format!("c{i}"),
                kind: gristmill_kernel::view::FeatureType::Number,
                categories: vec![],
            };
            let file = ModelFile {
                format: ModelFile::FORMAT,
                name: "m".into(),
                algorithm: "gbdt".into(),
                task: model::Task::Regression,
                classes: vec![],
                entity: vec![],
                features: (0..WIDTH).map(feature).collect(),
                body: Body::Forest(forest),
                reference: BTreeMap::new(),
                importance: BTreeMap::new(),
            };
            let file = ModelFile::read(&serde_json::to_vec(&file).expect("serialises")).expect("a model");
            (tried, by_mean) = (tried + 1, by_mean + usize::from(link == model::Link::Mean));
            let own = Own::new(file);
            assert!(own.is_compiled());
            for count in [1, 5, 8, 64, 100] {
                let matrix = rows(&mut random, count);
                let outputs = own.file.outputs();
                let mut plain = vec![0.0; count * outputs];
                let each = matrix.chunks_exact(WIDTH).zip(plain.chunks_exact_mut(outputs));
                each.for_each(|(row, out)| own.file.score(row, out));
                let mut compiled = vec![f64::NAN; count * outputs];
                own.score_rows(&matrix, count, &mut compiled);
                same(&plain, &compiled, "own");
            }
        }
        assert!(by_mean > 10);
    }

    #[test]
    fn a_node_with_many_parents_does_not_become_many_nodes() {
        // Each node's three children are the next three: 3^40 ways, but 43 nodes.
        let nodes = 43;
        let next = |distance: usize| (0..nodes).map(|at| if at < 40 { (at + distance) as u32 } else { 0 }).collect::<Vec<u32>>();
        let tree = Tree {
            feature: (0..nodes).map(|at| if at < 40 { 0 } else { LEAF }).collect(),
            threshold: vec![0.5; nodes],
            left: next(1),
            right: next(2),
            missing: vec![2; nodes],
            missing_child: next(3),
            value: vec![1.0; nodes],
            ..Tree::default()
        };
        assert!(own(&model::Forest { base: vec![0.0], trees: vec![tree], link: model::Link::Identity }, 1).is_none());
    }

    #[test]
    fn what_the_layout_has_no_room_for_is_walked_as_it_is() {
        let mut builder = Builder::new(1, vec![0.0], Precision::Double, Link::Identity).expect("a builder");
        for limit in 0..70_000 {
            let split = FileNode::Split {
                feature: 0,
                test: Test::Below(f64::from(limit)),
                left: 1,
                right: 2,
                missing: Missing::NaN,
                default_left: true,
            };
            let read = |at: usize| Ok(if at == 0 { split } else { FileNode::Leaf(at as f64) });
            builder.tree(0, 3, read).expect("a tree");
        }
        let forest = builder.finish();
        assert!(forest.compile().is_none());
        let mut out = [0.0];
        forest.score_rows(&[35_000.5], 1, &mut out);
        assert_eq!(out[0], 35_001.0 * 2.0 + 34_999.0);
    }
}
