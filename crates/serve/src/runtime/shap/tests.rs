//! Contributions against their definition, against the sum of the row, and against what LightGBM and XGBoost answer.

use super::*;
use crate::runtime::forest::{self, Builder, FileNode, Missing, Precision, Test};
use crate::runtime::xgboost::Rounds;
use crate::runtime::{ReadModel, lightgbm, xgboost};
use gristmill_kernel::model::{Forest, LEAF, Link, Tree};
use proptest::prelude::*;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use serde_json::Value;
use std::path::PathBuf;

/// The sum of a row, leaf by leaf.
fn sum(ensemble: &impl Ensemble, row: &[f64], output: usize) -> f64 {
    ensemble.start(output) / ensemble.divisor(output) + known(ensemble, row, output, &|_| true)
}

/// The mean of the trees for a row of which only some features are known: the game of which the contributions are the Shapley values.
fn known(ensemble: &impl Ensemble, row: &[f64], output: usize, is_known: &dyn Fn(usize) -> bool) -> f64 {
    fn below(ensemble: &impl Ensemble, tree: usize, node: usize, row: &[f64], is_known: &dyn Fn(usize) -> bool) -> f64 {
        let Some(split) = ensemble.split(tree, node) else { return ensemble.value(tree, node) };
        if is_known(split.feature) {
            return below(ensemble, tree, ensemble.child(tree, node, row), row, is_known);
        }
        let cover = |child: usize| ensemble.cover(tree, child).expect("a cover");
        let (all, count) = (split.children().map(cover).sum::<f64>(), split.children().count() as f64);
        let share = |child: usize| if all == 0.0 { 1.0 / count } else { cover(child) / all };
        split.children().map(|child| share(child) * below(ensemble, tree, child, row, is_known)).sum()
    }
    let trees = (0..ensemble.trees()).filter(|tree| ensemble.output(*tree) == output);
    trees.map(|tree| below(ensemble, tree, ensemble.root(tree), row, is_known)).sum::<f64>() / ensemble.divisor(output)
}

/// The Shapley value of each feature by its definition: its mean gain over all sets of the others, weighted by their sizes.
fn shapley(ensemble: &impl Ensemble, row: &[f64], output: usize) -> Vec<f64> {
    let width = row.len();
    let factorial = |n: usize| (1..=n).map(|k| k as f64).product::<f64>();
    let value: Vec<f64> = (0..1_usize << width).map(|set| known(ensemble, row, output, &|f| set >> f & 1 == 1)).collect();
    let of_feature = |feature: usize| {
        let sets = (0..1_usize << width).filter(|set| set >> feature & 1 == 0);
        let gain = |set: usize| {
            let size = set.count_ones() as usize;
            factorial(size) * factorial(width - size - 1) / factorial(width) * (value[set | 1 << feature] - value[set])
        };
        sets.map(gain).sum::<f64>()
    };
    (0..width).map(of_feature).collect()
}

/// Trees of our own: numbers, categories, missing values to the left, to the right and in a branch of their own, nodes that no row reached.
fn own(random: &mut SmallRng, width: usize, depth: usize) -> Forest {
    fn grow(random: &mut SmallRng, tree: &mut Tree, width: usize, depth: usize) -> u32 {
        let at = tree.feature.len();
        let is_leaf = at > 0 && (depth == 0 || random.random_bool(0.2));
        tree.feature.push(if is_leaf { LEAF } else { random.random_range(0..width as u32) });
        tree.threshold.push(f64::from(random.random_range(0..5)));
        tree.value.push(if is_leaf { random.random_range(-3.0..3.0) } else { 0.0 });
        tree.cover.push(if at > 0 && random.random_bool(0.15) { 0 } else { random.random_range(1..100) });
        tree.missing.push(random.random_range(0..3));
        [&mut tree.left, &mut tree.right, &mut tree.missing_child].into_iter().for_each(|children| children.push(0));
        if is_leaf {
            return at as u32;
        }
        if random.random_bool(0.3) {
            tree.categories.insert(at as u32, (0..5).filter(|_| random.random_bool(0.5)).collect());
        }
        tree.left[at] = grow(random, tree, width, depth - 1);
        tree.right[at] = grow(random, tree, width, depth - 1);
        if tree.missing[at] == 2 {
            tree.missing_child[at] = grow(random, tree, width, depth - 1);
        }
        at as u32
    }
    let outputs = random.random_range(1..3);
    let mut trees = Vec::new();
    for number in 0..random.random_range(1..5) {
        let mut tree = Tree { output: number % outputs, ..Tree::default() };
        // The first node is never a leaf, and one of a cover above 0 has children; counts of children alone matter.
        grow(random, &mut tree, width, depth);
        let root = tree.left[0] as usize;
        tree.cover[root] = tree.cover[root].max(1);
        trees.push(tree);
    }
    let link = if random.random_bool(0.5) { Link::Mean } else { Link::Softmax };
    Forest { base: (0..outputs).map(|o| f64::from(o) + 0.5).collect(), trees, link }
}

/// Trees as files of other libraries hold them, of either precision, perhaps averaged.
fn grown_elsewhere(random: &mut SmallRng, width: usize, depth: usize) -> forest::Forest {
    let precision = if random.random_bool(0.5) { Precision::Single } else { Precision::Double };
    let mut builder = Builder::new(width, vec![0.25], precision, forest::Link::Identity).expect("a builder");
    let rounds = random.random_range(1..4);
    for _ in 0..rounds {
        // A whole binary tree whose nodes are numbered level by level.
        let (inner, all) = ((1_usize << depth) - 1, (2_usize << depth) - 1);
        let seed: u64 = random.random();
        let bits = [0b1_0110_u32];
        let read = |node: usize| {
            let mut random = SmallRng::seed_from_u64(seed ^ node as u64);
            if node >= inner {
                return Ok(FileNode::Leaf(f64::from(random.random_range(-3.0_f32..3.0))));
            }
            let limit = f64::from(random.random_range(0..5));
            let test = [Test::Below(limit), Test::AtMost(limit), Test::Within(&bits)][random.random_range(0..3)];
            let missing = [Missing::NaN, Missing::Zero, Missing::None][random.random_range(0..3)];
            let (feature, default_left) = (random.random_range(0..width), random.random());
            Ok(FileNode::Split { feature, test, left: 2 * node + 1, right: 2 * node + 2, missing, default_left })
        };
        let cover = |node: usize| Some(if node.is_multiple_of(7) { 0.0 } else { (node % 13) as f64 + 0.5 });
        builder.covered_tree(0, all, read, cover).expect("a tree");
    }
    (if random.random_bool(0.3) { builder.averaged(rounds) } else { builder }).finish()
}

fn any_row(random: &mut SmallRng, width: usize) -> Vec<f64> {
    let cell = |random: &mut SmallRng| if random.random_bool(0.2) { f64::NAN } else { f64::from(random.random_range(0..5)) };
    (0..width).map(|_| cell(random)).collect()
}

fn explained(ensemble: &impl Ensemble, row: &[f64], output: usize) -> (f64, Vec<f64>) {
    let explainer = Explainer::of(ensemble).expect("an explainer");
    (explainer.base(output), explainer.contributions(ensemble, row, output))
}

fn close(found: f64, expected: f64, tolerance: f64, what: &str) {
    let off = (found - expected).abs() / expected.abs().max(1.0);
    assert!(off <= tolerance, "{what}: {found} instead of {expected}, off by {off:e}");
}

fn adds_up(ensemble: &impl Ensemble, row: &[f64]) {
    for output in 0..ensemble.outputs() {
        let (base, each) = explained(ensemble, row, output);
        close(base + each.iter().sum::<f64>(), sum(ensemble, row, output), 1e-11, "base and contributions");
        let nothing = ensemble.start(output) / ensemble.divisor(output) + known(ensemble, row, output, &|_| false);
        close(base, nothing, 1e-12, "the base value");
    }
}

fn is_the_definition(ensemble: &impl Ensemble, row: &[f64]) {
    for output in 0..ensemble.outputs() {
        let (_, each) = explained(ensemble, row, output);
        for (feature, (found, expected)) in each.iter().zip(shapley(ensemble, row, output)).enumerate() {
            close(*found, expected, 1e-11, &format!("feature {feature} of output {output}"));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn base_and_contributions_are_the_sum_of_the_row(seed: u64, width in 1_usize..12, depth in 1_usize..8) {
        let random = &mut SmallRng::seed_from_u64(seed);
        let row = any_row(random, width);
        adds_up(&own(random, width, depth), &row);
        let elsewhere = grown_elsewhere(random, width, depth);
        adds_up(&elsewhere, &row);
        let mut out = [0.0];
        elsewhere.score(&row, &mut out);
        let (base, each) = explained(&elsewhere, &row, 0);
        close(base + each.iter().sum::<f64>(), out[0], 1e-6, "the score, which may be a sum of `f32`");
    }

    #[test]
    fn contributions_are_shapley_values(seed: u64, width in 1_usize..6, depth in 1_usize..6) {
        let random = &mut SmallRng::seed_from_u64(seed);
        let row = any_row(random, width);
        is_the_definition(&own(random, width, depth), &row);
        is_the_definition(&grown_elsewhere(random, width, depth), &row);
    }
}

/// A tree that asks at every level about the next of its features, and goes on to the right.
fn chain(depth: usize, width: usize) -> Forest {
    let mut tree = Tree::default();
    for level in 0..depth {
        let at = tree.feature.len() as u32;
        tree.feature.extend([(level % width) as u32, LEAF]);
        tree.left.extend([at + 1, 0]);
        tree.right.extend([at + 2, 0]);
        tree.value.extend([0.0, (level as f64).sin()]);
        tree.cover.extend([1 + (depth - level) as u64, 1]);
    }
    tree.feature.push(LEAF);
    tree.left.push(0);
    tree.right.push(0);
    tree.value.push(10.0);
    tree.cover.push(1);
    (tree.threshold, tree.missing) = (vec![0.5; tree.feature.len()], vec![0; tree.feature.len()]);
    Forest { base: vec![0.0], trees: vec![tree], link: Link::Identity }
}

#[test]
fn deep_trees_lose_no_digits_and_too_deep_ones_are_refused() {
    for width in [3, 40, SHAP_DEPTH_MAX] {
        let deep = chain(SHAP_DEPTH_MAX, width);
        // To the last leaf, to one in the middle, to the first.
        for zeros in [None, Some(width / 2), Some(0)] {
            let row: Vec<f64> = (0..width).map(|feature| if Some(feature) == zeros { 0.0 } else { 1.0 }).collect();
            adds_up(&deep, &row);
        }
        assert_eq!(Explainer::of(&chain(SHAP_DEPTH_MAX + 1, width)), None);
    }
    // All features of a path of equal shares have the same part.
    let mut even = chain(60, 60);
    let tree = &mut even.trees[0];
    tree.value.iter_mut().for_each(|value| *value = if *value == 10.0 { 1e18 } else { 0.0 });
    tree.cover.iter_mut().for_each(|cover| *cover = 1);
    let (base, each) = explained(&even, &[1.0; 60], 0);
    close(base, 1e18 / 2f64.powi(60), 1e-12, "the base value");
    each.iter().for_each(|part| close(*part, (1e18 - base) / 60.0, 1e-12, "a part"));
}

#[test]
fn the_example_of_the_papers_adds_up_by_hand() {
    // Two features and a leaf of 8 that needs both; half of the rows go each way.
    let tree = Tree {
        feature: vec![0, 1, LEAF, LEAF, LEAF],
        threshold: vec![0.5; 5],
        left: vec![2, 3, 0, 0, 0],
        right: vec![1, 4, 0, 0, 0],
        missing: vec![0; 5],
        value: vec![0.0, 0.0, 0.0, 0.0, 8.0],
        cover: vec![4, 2, 2, 1, 1],
        ..Tree::default()
    };
    let forest = Forest { base: vec![1.0], trees: vec![tree], link: Link::Identity };
    let (base, each) = explained(&forest, &[1.0, 1.0, 1.0], 0);
    assert_eq!((base, each[2]), (3.0, 0.0), "a feature that no tree asks about did nothing");
    // Alone: from 2 to 4; behind the other: from 4 to 8.
    each[..2].iter().for_each(|part| close(*part, 3.0, 1e-14, "a part"));
}

#[test]
fn what_cannot_be_explained_is_refused() {
    let forest = |change: fn(&mut Tree)| {
        let mut forest = chain(2, 2);
        change(&mut forest.trees[0]);
        Explainer::of(&forest)
    };
    assert!(forest(|_| ()).is_some());
    assert!(forest(|tree| tree.cover.iter_mut().skip(3).for_each(|cover| *cover = 0)).is_some(), "some node that nothing reached");
    assert_eq!(forest(|tree| tree.cover.clear()), None, "no covers");
    assert_eq!(forest(|tree| tree.cover.fill(0)), None, "nobody counted");
    assert_eq!(forest(|tree| tree.right[0] = tree.left[0]), None, "two ways to one node");
    for cover in [-1.0, f64::NAN, f64::INFINITY] {
        let mut builder = Builder::new(1, vec![0.0], Precision::Double, forest::Link::Identity).expect("a builder");
        let split = FileNode::Split { feature: 0, test: Test::Below(0.0), left: 1, right: 2, missing: Missing::NaN, default_left: true };
        builder.covered_tree(0, 3, |node| Ok(if node == 0 { split } else { FileNode::Leaf(1.0) }), |_| Some(cover)).expect("a tree");
        assert_eq!(Explainer::of(&builder.finish()), None, "{cover}");
    }
    let mut builder = Builder::new(1, vec![2.0], Precision::Double, forest::Link::Identity).expect("a builder");
    builder.covered_tree(0, 1, |_| Ok(FileNode::Leaf(1.0)), |_| Some(5.0)).expect("a tree");
    assert_eq!(explained(&builder.finish(), &[7.0], 0), (3.0, vec![0.0]), "a tree that asks nothing");
    // One tree without covers, and nothing adds up.
    let mut builder = Builder::new(1, vec![0.0], Precision::Double, forest::Link::Identity).expect("a builder");
    builder.covered_tree(0, 1, |_| Ok(FileNode::Leaf(1.0)), |_| Some(5.0)).expect("a tree");
    let split = FileNode::Split { feature: 0, test: Test::Below(0.0), left: 1, right: 2, missing: Missing::NaN, default_left: true };
    builder.tree(0, 3, |node| Ok(if node == 0 { split } else { FileNode::Leaf(1.0) })).expect("a tree");
    assert_eq!(Explainer::of(&builder.finish()), None);
}

fn golden(folder: &str, file: &str) -> Vec<u8> {
    std::fs::read(PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("testdata").join(folder).join(file)).expect(file)
}

/// Compares with what `testdata/contributions.py` wrote of a library; gives the number of cases.
fn as_the_library(kind: &str, tolerance: f64, read: impl Fn(&[u8], bool) -> Result<ReadModel, String>) -> usize {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("testdata/contributions");
    let mut cases = 0;
    for entry in std::fs::read_dir(folder).expect("the golden files") {
        let name = entry.expect("an entry").file_name().into_string().expect("a name");
        let json = |folder: &str| -> Value { serde_json::from_slice(&golden(folder, &name)).expect("json") };
        let (case, library) = (json("foreign"), json("contributions"));
        if case["kind"] != kind {
            continue;
        }
        cases += 1;
        let numbers =
            |list: &Value| -> Vec<f64> { list.as_array().expect("a list").iter().map(|x| x.as_f64().unwrap_or(f64::NAN)).collect() };
        let model = read(&golden("foreign", case["file"].as_str().expect("a file")), case["best"] == true).expect(&name);
        let explainer = Explainer::of(&model.forest).unwrap_or_else(|| panic!("{name} has covers"));
        let rows = library["contributions"].as_array().expect("rows");
        assert!(rows.len() >= 10 && rows.len() == library["margins"].as_array().expect("margins").len(), "{name}");
        for (place, outputs) in rows.iter().enumerate() {
            let row = numbers(&case["rows"][place]);
            for (output, expected) in outputs.as_array().expect("outputs").iter().enumerate() {
                let what = format!("{name}, row {place}, output {output}");
                let mut found = explainer.contributions(&model.forest, &row, output);
                found.push(explainer.base(output));
                let margin = library["margins"][place][output].as_f64().expect("a margin");
                close(found.iter().sum(), margin, tolerance, &what);
                let expected = numbers(expected);
                assert_eq!(found.len(), expected.len(), "{what}");
                for (input, (found, expected)) in found.iter().zip(&expected).enumerate() {
                    close(*found, *expected, tolerance, &format!("{what}, input {input}"));
                }
            }
        }
    }
    cases
}

#[test]
fn lightgbm_is_explained_as_lightgbm_does() {
    assert_eq!(as_the_library("lightgbm", 1e-12, |bytes, _| lightgbm::read(bytes)), 14);
}

#[test]
fn xgboost_is_explained_as_xgboost_does() {
    let rounds = |best: bool| if best { Rounds::Best } else { Rounds::All };
    // XGBoost computes contributions in `f32`, of covers in `f32`.
    assert_eq!(as_the_library("xgboost", 2e-6, |bytes, best| xgboost::read(bytes, rounds(best))), 16);
}
