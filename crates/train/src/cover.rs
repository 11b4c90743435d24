//! How many training rows reach each node of a forest: what exact contributions weigh the ways through a tree with.
//!
//! Promise: counts, so they are the same on any number of threads; a node has as many rows as its children together; scores do not change.
//! Of a larger training set, [`COVER_ROWS_MAX`] rows are counted, evenly spaced, so that counting stays small beside learning.

use crate::algorithm::Effort;
use gristmill_kernel::error::{Fault, Result};
use gristmill_kernel::limits::COVER_ROWS_MAX;
use gristmill_kernel::model::{Body, LEAF, Tree};

/// Counts the rows of `rows`, whose features are in `columns`, through each tree of a body. A body without trees stays as it is.
pub fn count(body: &mut Body, columns: &[Vec<f64>], rows: &[usize], effort: &Effort) -> Result<()> {
    let Body::Forest(forest) = body else { return Ok(()) };
    let counted = spaced(rows, COVER_ROWS_MAX);
    let share = forest.trees.len().div_ceil(effort.threads.max(1)).max(1);
    let outcomes: Vec<Result<()>> = std::thread::scope(|scope| {
        let work = |trees: &mut [Tree]| {
            trees.iter_mut().try_for_each(|tree| {
                effort.cancel.check()?;
                tree.cover = through(tree, columns, &counted);
                Ok(())
            })
        };
        let threads: Vec<_> = forest.trees.chunks_mut(share).map(|trees| scope.spawn(move || work(trees))).collect();
        threads.into_iter().map(|t| t.join().unwrap_or_else(|_| Err(Fault::internal("a thread that counted rows stopped")))).collect()
    });
    outcomes.into_iter().collect()
}

/// At most `most` of the rows, evenly spaced.
fn spaced(rows: &[usize], most: usize) -> Vec<usize> {
    let taken = rows.len().min(most);
    (0..taken).map(|place| rows[place * rows.len() / taken]).collect()
}

/// The rows that reach each node. Rows go down in groups, so each column is read in order.
fn through(tree: &Tree, columns: &[Vec<f64>], rows: &[usize]) -> Vec<u64> {
    let mut cover = vec![0; tree.feature.len()];
    let mut open = vec![(0, rows.to_vec())];
    while let Some((at, group)) = open.pop() {
        cover[at] += group.len() as u64;
        if tree.feature[at] == LEAF || group.is_empty() {
            continue;
        }
        let column = &columns[tree.feature[at] as usize];
        let mut children = vec![tree.left[at] as usize, tree.right[at] as usize];
        if tree.missing[at] == 2 {
            children.push(tree.missing_child[at] as usize);
        }
        let mut groups = vec![Vec::new(); children.len()];
        for row in group {
            let to = tree.child(at, column[row]);
            if let Some(place) = children.iter().position(|child| *child == to) {
                groups[place].push(row);
            }
        }
        open.extend(children.into_iter().zip(groups));
    }
    cover
}

#[cfg(test)]
mod tests {
    use super::*;
    use gristmill_kernel::model::{Forest, Link};
    use gristmill_kernel::stage::{CancelFlag, NoProgress};

    #[test]
    fn every_node_counts_the_rows_that_reach_it() {
        // Below 2 or not, missing values apart; below 2, code 1 of the second feature or not.
        let tree = Tree {
            feature: vec![0, 1, LEAF, LEAF, LEAF, LEAF],
            threshold: vec![2.0, 0.0, 0.0, 0.0, 0.0, 0.0],
            left: vec![1, 4, 0, 0, 0, 0],
            right: vec![2, 5, 0, 0, 0, 0],
            missing: vec![2, 1, 0, 0, 0, 0],
            missing_child: vec![3, 0, 0, 0, 0, 0],
            categories: [(1, vec![1])].into(),
            value: vec![0.0; 6],
            ..Tree::default()
        };
        let columns = [vec![1.0, 1.0, 3.0, f64::NAN, 1.0, 1.0], vec![1.0, 0.0, 1.0, 1.0, f64::NAN, 1.0]];
        let mut body = Body::Forest(Forest { base: vec![0.0], trees: vec![tree.clone(), tree], link: Link::Identity });
        let cancel = CancelFlag::default();
        for threads in [1, 2, 5] {
            let effort = Effort { seed: 1, threads, cancel: &cancel, progress: &NoProgress };
            // The last row is not of the training.
            count(&mut body, &columns, &[0, 1, 2, 3, 4], &effort).expect("counts");
            let Body::Forest(forest) = &body else { unreachable!("it was one before") };
            assert!(forest.trees.iter().all(|t| t.cover == [5, 3, 1, 1, 1, 2]), "{:?}", forest.trees[0].cover);
        }
    }

    #[test]
    fn a_large_training_set_is_thinned_evenly() {
        let rows: Vec<usize> = (100..200).collect();
        assert_eq!(spaced(&rows, 4), [100, 125, 150, 175]);
        assert_eq!(spaced(&rows, 1_000), rows);
        assert!(spaced(&[], 4).is_empty());
    }
}
