//! Small trees for many rows, without walking: QuickScorer (Lucchese et al., "QuickScorer: a fast algorithm to rank documents with additive
//! ensembles of regression trees", SIGIR 2015) with its words cut into bytes (Ye et al., "RapidScorer", KDD 2018).
//!
//! Each row has a bit per leaf, from left to right. A test that sends a row to the right takes away the leaves of its left child; the order of
//! tests does not matter, and none waits for another one. The lowest bit that is left is the leaf. Every test is looked at, by all rows of a
//! block at once.
//!
//! Bits are made byte by byte: those of a block stay in the processor's registers while all tests that touch the byte are gone through, and nothing
//! depends on what a test says, so there is nothing to mispredict. A test that touches several bytes, as few do, is looked at for each.

use super::{BLOCK, Node, Ranks};
use multiversion::multiversion;
use multiversion::target::match_target;
use wide::{i8x16, i16x8, i16x16, u8x16};

/// Leaves of a tree.
pub const LEAVES_MAX: usize = 64;
/// Bytes of a row's bits.
const BYTES: usize = LEAVES_MAX / 8;
/// Rows in a vector of bytes.
const WIDTH: usize = 16;
/// Vectors of a block.
const VECTORS: usize = BLOCK / WIDTH;

/// A small tree.
#[derive(Debug, Clone, PartialEq)]
pub struct Quick {
    /// By the byte that they touch, then by column.
    tests: Vec<Test>,
    /// Where the tests of each byte end.
    ends: [u16; BYTES],
    /// The nodes that are leaves, from left to right; those behind the last one are of no use to anybody.
    leaves: [u32; LEAVES_MAX],
    /// What each of them says, where it says one thing.
    values: [f64; LEAVES_MAX],
}

/// A test, and which leaves of a byte stay whatever it says: those that are not the left child's.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Test {
    pub column: u16,
    /// What a row is below that goes left.
    pub rank: i16,
    pub stays: u8,
}

impl Quick {
    /// Of the tree with this root; `None` if it has too many leaves. `values`: what each node says, if each leaf says one thing.
    pub fn of(nodes: &[Node], values: &[f64], root: u32) -> Option<Quick> {
        let mut leaves = Vec::new();
        let mut tests: [Vec<Test>; BYTES] = Default::default();
        // Where a node is, and, once its left child has been gone through, the first leaf of that.
        let mut open = vec![(root, None)];
        while let Some((at, left_from)) = open.pop() {
            let node = nodes[at as usize];
            match left_from {
                _ if node.child == at => {
                    if leaves.len() == LEAVES_MAX {
                        return None;
                    }
                    leaves.push(at);
                }
                None => {
                    open.push((node.child + 1, None));
                    open.push((at, Some(leaves.len())));
                    open.push((node.child, None));
                }
                Some(from) => {
                    // If the left child alone has as many as there are bits, there are more.
                    let left = 1u64.checked_shl((leaves.len() - from) as u32)?.wrapping_sub(1) << from;
                    for (tests, left) in tests.iter_mut().zip(left.to_le_bytes()).filter(|(_, left)| *left != 0) {
                        tests.push(Test { column: node.column, rank: node.rank, stays: !left });
                    }
                }
            }
        }
        leaves.resize(LEAVES_MAX, root);
        let leaves: [u32; LEAVES_MAX] = leaves.try_into().ok()?;
        let values = leaves.map(|leaf| values.get(leaf as usize).copied().unwrap_or(0.0));
        let mut quick = Quick { tests: Vec::new(), ends: [0; BYTES], leaves, values };
        for (mut tests, end) in tests.into_iter().zip(&mut quick.ends) {
            tests.sort_by_key(|test| test.column);
            quick.tests.extend(tests);
            *end = u16::try_from(quick.tests.len()).ok()?;
        }
        Some(quick)
    }

    /// The leaves of the rows of a block.
    pub fn leaves(&self, ranks: &[Ranks]) -> [u32; BLOCK] {
        places(self, ranks).map(|place| self.leaves[usize::from(place) % LEAVES_MAX])
    }

    /// Adds what the leaves of the rows of a block say to a sum of each.
    pub fn add<'s>(&self, ranks: &[Ranks], sums: impl Iterator<Item = &'s mut f64>, rounded: impl Fn(f64) -> f64) {
        for (sum, place) in sums.zip(places(self, ranks)) {
            *sum = rounded(*sum + self.values[usize::from(place) % LEAVES_MAX]);
        }
    }

    /// The numbers of the bytes from the last to the first, with the tests of each.
    pub fn bytes(&self) -> impl Iterator<Item = (u8, &[Test])> {
        let mut rest = self.tests.as_slice();
        (0..BYTES as u8).rev().map(move |byte| {
            let from = if byte == 0 { 0 } else { self.ends[usize::from(byte) - 1] };
            let (before, tests) = rest.split_at(usize::from(from));
            rest = before;
            (byte, tests)
        })
    }
}

/// The place of each row's lowest bit, with the vectors that this processor has.
#[multiversion(targets("x86_64+avx2"))]
fn places(quick: &Quick, ranks: &[Ranks]) -> [u8; BLOCK] {
    match_target! {
        "x86_64+avx2" => super::vectors::places(quick, ranks),
        _ => plain(quick, ranks),
    }
}

fn plain(quick: &Quick, ranks: &[Ranks]) -> [u8; BLOCK] {
    let zero = u8x16::splat(0);
    let (mut lowest, mut places) = ([u8x16::splat(u8::MAX); VECTORS], [zero; VECTORS]);
    for (byte, tests) in quick.bytes() {
        let mut bits = [u8x16::splat(u8::MAX); VECTORS];
        for test in tests {
            let (limit, stays) = (i16x8::splat(test.rank), u8x16::splat(test.stays));
            let ranks = ranks[usize::from(test.column)].0.as_chunks::<WIDTH>().0;
            bits.iter_mut().zip(ranks).for_each(|(bits, ranks)| *bits &= below(ranks, limit) | stays);
        }
        // What is empty leaves the place to the bytes behind it.
        for ((lowest, place), bits) in lowest.iter_mut().zip(&mut places).zip(bits) {
            let empty = bits.simd_eq(zero);
            *lowest = empty.bitselect(*lowest, bits);
            *place = empty.bitselect(*place, u8x16::splat(8 * byte));
        }
    }
    let mut out = [0; BLOCK];
    for ((lowest, place), out) in lowest.into_iter().zip(places).zip(out.as_chunks_mut::<WIDTH>().0) {
        let alone = lowest & (zero - lowest);
        let digit = |mask: u8, value: u8| u8x16::splat(value) & !(alone & u8x16::splat(mask)).simd_eq(zero);
        *out = (place | digit(0xaa, 1) | digit(0xcc, 2) | digit(0xf0, 4)).to_array();
    }
    out
}

/// All ones for each rank below the limit.
#[inline(always)]
fn below(ranks: &[i16; WIDTH], limit: i16x8) -> u8x16 {
    let [low, high] = [0, 1].map(|half| limit.simd_gt(i16x8::from(ranks.as_chunks::<8>().0[half])));
    let mut both = [0; WIDTH];
    both[..8].copy_from_slice(low.as_array());
    both[8..].copy_from_slice(high.as_array());
    let bytes = i8x16::from_i16x16_saturate(i16x16::from(both)).to_array();
    u8x16::from(bytes.map(i8::cast_unsigned))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::rngs::SmallRng;
    use rand::{Rng, SeedableRng};

    const COLUMNS: usize = 5;

    fn tree(leaves: usize, random: &mut SmallRng) -> Vec<Node> {
        let leaf = |at: usize| Node { child: at as u32, column: 0, rank: i16::MAX };
        let mut nodes = vec![leaf(0)];
        while nodes.len() < 2 * leaves - 1 {
            // Now and then the newest one: some trees are deep.
            let at = if random.random() { nodes.len() - 1 } else { random.random_range(0..nodes.len()) };
            if nodes[at].child as usize == at {
                let child = nodes.len();
                nodes[at] = Node { child: child as u32, column: random.random_range(0..COLUMNS) as u16, rank: rank(random) };
                nodes.extend([leaf(child), leaf(child + 1)]);
            }
        }
        nodes
    }

    /// Of a few in the middle and the outermost ones, so that many are equal.
    fn rank(random: &mut SmallRng) -> i16 {
        [i16::MIN, -300, -1, 0, 1, 2, 3, 300, i16::MAX][random.random_range(0..9)]
    }

    #[test]
    fn vectors_of_any_kind_find_the_leaf_that_a_walk_finds() {
        let mut random = SmallRng::seed_from_u64(9);
        for leaves in (1..=LEAVES_MAX).cycle().take(10 * LEAVES_MAX) {
            let nodes = tree(leaves, &mut random);
            let quick = Quick::of(&nodes, &[], 0).expect("a small tree");
            let ranks: Vec<Ranks> = (0..COLUMNS).map(|_| Ranks(std::array::from_fn(|_| rank(&mut random)))).collect();
            let walked: [u32; BLOCK] = std::array::from_fn(|row| {
                let mut at = 0;
                loop {
                    let node = nodes[at as usize];
                    match node.child {
                        child if child == at => return at,
                        child => at = child + u32::from(ranks[usize::from(node.column)].0[row] >= node.rank),
                    }
                }
            });
            assert_eq!(quick.leaves(&ranks), walked, "{leaves} leaves");
            assert_eq!(plain(&quick, &ranks), places(&quick, &ranks), "{leaves} leaves");
        }
    }

    #[test]
    fn a_tree_of_more_leaves_than_bits_is_walked() {
        let mut random = SmallRng::seed_from_u64(9);
        for leaves in LEAVES_MAX + 1..LEAVES_MAX + 20 {
            assert_eq!(Quick::of(&tree(leaves, &mut random), &[], 0), None, "{leaves}");
        }
    }
}
