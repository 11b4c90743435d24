//! Trees laid out for the processor. The same answers as the plain walk, to the bit, in a fraction of its time.
//!
//! What a node compares is the *rank* of a value among all thresholds of its column, found once per row ([`columns`]); what becomes of missing values,
//! zeros and categories is decided there. So a node is eight bytes, its test is `rank[column] >= node.rank`, and the next node is that bit added to
//! the left child: there is nothing to mispredict. Eight walks go on at once, of eight rows through one tree or of one row through eight
//! trees, so that none waits for its memory alone. Many rows do not walk through trees of up to 64 leaves at all ([`quick`]).
//!
//! Leaves are added in the order of the trees, as the plain walk does; that is what makes the bits equal. Forests that have too many thresholds or
//! sets of categories stay with the plain walk.
//!
//! [`compiler`] lays out, [`from`] gives it the trees as their files have them.

mod columns;
pub mod compiler;
mod from;
mod quick;
#[cfg(target_arch = "x86_64")]
mod vectors;

use super::forest::Precision;
use columns::Column;
pub use columns::Set;
pub use from::own;
use quick::Quick;

/// Walks at once.
const LANES: usize = 8;
/// Rows whose columns are ranked together: their ranks stay in the first cache while all trees are gone through.
const BLOCK: usize = 64;
/// Rows from which it is worth ranking a block, and walking eight rows, whoever they are, instead of each through eight trees.
const WORTH: usize = 4;

/// Rows of a block from which it is worth looking at all of it by [`quick`].
const MANY: usize = 32;

/// Trees of no more levels are walked to the last one without asking who has arrived.
const SHALLOW: u32 = 6;

/// The ranks of a column for a block of rows: lines of the cache, none of them in part.
#[derive(Debug, Clone, Copy)]
#[repr(align(64))]
struct Ranks([i16; BLOCK]);

/// A rank in the order of signed numbers, which vectors compare faster.
fn signed(rank: u16) -> i16 {
    (rank ^ (1 << 15)).cast_signed()
}

/// A forest, compiled.
#[derive(Debug, Clone, PartialEq)]
pub struct Compiled {
    /// Numbers in a row.
    width: usize,
    columns: Vec<Column>,
    nodes: Vec<Node>,
    /// Per node, for leaves.
    values: Values,
    trees: Vec<Tree>,
}

/// A tree of [`Compiled`].
#[derive(Debug, Clone, PartialEq)]
struct Tree {
    root: u32,
    /// The output that its leaves add to.
    output: u32,
    /// Tests on the longest way to a leaf.
    depth: u32,
    /// If it is small.
    quick: Option<Quick>,
}

/// What leaves say.
#[derive(Debug, Clone, PartialEq)]
enum Values {
    /// Each a value.
    One(Vec<f64>),
    /// Some have several: a run of `(output, value)`, by its first and its number.
    Many(Vec<(u32, u32)>, Vec<(u32, f64)>),
}

/// The left child is `child`, the right one stands behind it. A leaf is its own child.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Node {
    child: u32,
    column: u16,
    rank: i16,
}

impl Compiled {
    /// The sums over all trees for some rows of as many numbers as there are inputs, one behind the other; `out` holds the start values.
    pub fn add(&self, matrix: &[f64], rows: usize, sums: Precision, out: &mut [f64]) {
        let outputs = out.len().checked_div(rows).unwrap_or(0);
        let mut ranks: Vec<Ranks> = vec![Ranks([0; BLOCK]); self.columns.len()];
        let mut first = 0;
        while first < rows {
            let count = (rows - first).min(BLOCK);
            let block = &matrix[first * self.width..(first + count) * self.width];
            for (column, ranks) in self.columns.iter().zip(&mut ranks) {
                column.rank(block, self.width, ranks);
            }
            let out = &mut out[first * outputs..(first + count) * outputs];
            if count < WORTH {
                out.chunks_exact_mut(outputs).enumerate().for_each(|(lane, out)| self.row(&ranks, lane, sums, out));
            } else {
                for tree in &self.trees {
                    let leaves = match (&tree.quick, &self.values) {
                        (Some(quick), Values::One(_)) if count >= MANY => {
                            added(quick, &ranks, sums, &mut out[tree.output as usize..], outputs);
                            continue;
                        }
                        (Some(quick), Values::Many(..)) if count >= MANY => quick.leaves(&ranks),
                        _ => self.walked(tree, &ranks, count),
                    };
                    self.give_rows(tree.output, &leaves[..count], sums, out);
                }
            }
            first += count;
        }
    }

    /// So many rows of a block through a tree. What lies in the block behind them is of rows before, or of nobody, and of no use to anybody.
    fn walked(&self, tree: &Tree, ranks: &[Ranks], count: usize) -> [u32; BLOCK] {
        let mut leaves = [tree.root; BLOCK];
        for (group, leaves) in leaves.as_chunks_mut::<LANES>().0.iter_mut().take(count.div_ceil(LANES)).enumerate() {
            *leaves = self.walk(*leaves, tree.depth, |column, lane| ranks[usize::from(column)].0[group * LANES + lane]);
        }
        leaves
    }

    /// One row through eight trees.
    fn row(&self, ranks: &[Ranks], row: usize, sums: Precision, out: &mut [f64]) {
        let look = |column: u16, _: usize| ranks[usize::from(column)].0[row];
        for trees in self.trees.chunks(LANES) {
            let mut at = [trees[0].root; LANES];
            at.iter_mut().zip(trees).for_each(|(at, tree)| *at = tree.root);
            let depth = trees.iter().map(|tree| tree.depth).max().unwrap_or(0);
            for (tree, leaf) in trees.iter().zip(self.walk(at, depth, look)) {
                self.give(tree.output, leaf, sums, out);
            }
        }
    }

    /// From these nodes to the leaves, which are no more levels away than that.
    #[inline(always)]
    fn walk(&self, mut at: [u32; LANES], depth: u32, look: impl Fn(u16, usize) -> i16) -> [u32; LANES] {
        let nodes = self.nodes.as_slice();
        let next = |at: u32, lane: usize| {
            let node = nodes[at as usize];
            node.child.wrapping_add(u32::from(look(node.column, lane) >= node.rank))
        };
        if depth <= SHALLOW {
            for _ in 0..depth {
                for (lane, at) in at.iter_mut().enumerate() {
                    *at = next(*at, lane);
                }
            }
            return at;
        }
        loop {
            // A leaf goes on to itself, so going on does no harm; asking after each level whether all have arrived would.
            for _ in 0..3 {
                for (lane, at) in at.iter_mut().enumerate() {
                    *at = next(*at, lane);
                }
            }
            let mut moved = 0;
            for (lane, at) in at.iter_mut().enumerate() {
                let to = next(*at, lane);
                moved |= *at ^ to;
                *at = to;
            }
            if moved == 0 {
                return at;
            }
        }
    }

    /// A leaf for each row.
    fn give_rows(&self, output: u32, leaves: &[u32], sums: Precision, out: &mut [f64]) {
        let outputs = out.len() / leaves.len();
        match &self.values {
            Values::One(values) => {
                for (row, leaf) in leaves.iter().enumerate() {
                    let sum = &mut out[row * outputs + output as usize];
                    *sum = sums.rounded(*sum + values[*leaf as usize]);
                }
            }
            Values::Many(..) => {
                out.chunks_exact_mut(outputs).zip(leaves).for_each(|(out, leaf)| self.give(output, *leaf, sums, out));
            }
        }
    }

    #[inline(always)]
    fn give(&self, output: u32, leaf: u32, sums: Precision, out: &mut [f64]) {
        match &self.values {
            Values::One(values) => {
                let sum = &mut out[output as usize];
                *sum = sums.rounded(*sum + values[leaf as usize]);
            }
            Values::Many(runs, many) => {
                let (first, count) = runs[leaf as usize];
                for (output, value) in &many[first as usize..(first + count) as usize] {
                    let sum = &mut out[*output as usize];
                    *sum = sums.rounded(*sum + value);
                }
            }
        }
    }
}

/// What a small tree says, added to each so many-th sum. What is known before the loop is looked at before it.
fn added(quick: &Quick, ranks: &[Ranks], sums: Precision, out: &mut [f64], outputs: usize) {
    match (sums, outputs) {
        (Precision::Double, 1) => quick.add(ranks, out.iter_mut(), |sum| sum),
        (Precision::Double, _) => quick.add(ranks, out.iter_mut().step_by(outputs), |sum| sum),
        (Precision::Single, _) => quick.add(ranks, out.iter_mut().step_by(outputs), |sum| Precision::Single.rounded(sum)),
    }
}
