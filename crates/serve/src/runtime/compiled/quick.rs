//! Small trees for many rows, without walking: QuickScorer (Lucchese et al., "QuickScorer: a fast algorithm to rank documents with additive
//! ensembles of regression trees", SIGIR 2015) with its words cut into bytes (Ye et al., "RapidScorer", KDD 2018).
//!
//! Each row has a bit per leaf, from left to right. A test that sends a row to the right takes away the leaves of its left child; the order of
//! tests does not matter, and none waits for another one. The lowest bit that is left is the leaf. Every test is looked at, by all rows of a
//! block at once, and most touch only one of the eight bytes.

use super::{BLOCK, Node, Ranks};
use wide::{i8x16, i16x8, i16x16, u8x16};

/// Leaves of a tree.
const LEAVES_MAX: usize = 64;
/// Bytes of a row's bits.
const BYTES: usize = LEAVES_MAX / 8;
/// Rows in a vector of bytes.
const WIDTH: usize = 16;
/// Vectors of a block.
const VECTORS: usize = BLOCK / WIDTH;

/// The bits of a block of rows: byte by byte, of all rows.
type Bits = [[u8x16; VECTORS]; BYTES];

/// A small tree.
#[derive(Debug, Clone, PartialEq)]
pub struct Quick {
    tests: Vec<Test>,
    /// The nodes that are leaves, from left to right.
    leaves: Vec<u32>,
}

/// A test, and the leaves that stay whatever it says: those that are not the left child's.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Test {
    column: u16,
    rank: i16,
    /// The first and the last byte that it touches; those between are touched as a whole.
    first: u8,
    last: u8,
    /// What stays in the first and in the last byte.
    head: u8,
    tail: u8,
}

impl Test {
    /// `left`: the leaves of the left child.
    fn of(node: Node, left: u64) -> Test {
        let (first, last) = (left.trailing_zeros() / 8, (u64::BITS - 1 - left.leading_zeros()) / 8);
        let stays = |byte: u32| !((left >> (8 * byte)) as u8);
        Test { column: node.column, rank: node.rank, first: first as u8, last: last as u8, head: stays(first), tail: stays(last) }
    }
}

impl Quick {
    /// Of the tree with this root; `None` if it has too many leaves.
    pub fn of(nodes: &[Node], root: u32) -> Option<Quick> {
        let mut quick = Quick { tests: Vec::new(), leaves: Vec::new() };
        // Where a node is, and, once its left child has been gone through, the first leaf of that.
        let mut open = vec![(root, None)];
        while let Some((at, left_from)) = open.pop() {
            let node = nodes[at as usize];
            match left_from {
                _ if node.child == at => {
                    if quick.leaves.len() == LEAVES_MAX {
                        return None;
                    }
                    quick.leaves.push(at);
                }
                None => {
                    open.push((node.child + 1, None));
                    open.push((at, Some(quick.leaves.len())));
                    open.push((node.child, None));
                }
                Some(from) => {
                    // If the left child alone has as many as there are bits, there are more.
                    let left = 1u64.checked_shl((quick.leaves.len() - from) as u32)?.wrapping_sub(1) << from;
                    quick.tests.push(Test::of(node, left));
                }
            }
        }
        Some(quick)
    }

    /// The leaves of the rows of a block.
    pub fn leaves(&self, ranks: &[Ranks]) -> [u32; BLOCK] {
        let places = lowest(&self.bits(ranks));
        places.map(|place| self.leaves[usize::from(place)])
    }

    fn bits(&self, ranks: &[Ranks]) -> Bits {
        let mut bits: Bits = [[u8x16::splat(u8::MAX); VECTORS]; BYTES];
        for test in &self.tests {
            let limit = i16x8::splat(test.rank);
            let ranks = ranks[usize::from(test.column)].as_chunks::<WIDTH>().0;
            let mut goes_left = [u8x16::splat(0); VECTORS];
            for (goes_left, ranks) in goes_left.iter_mut().zip(ranks) {
                *goes_left = below(ranks, limit);
            }
            let (first, last) = (usize::from(test.first), usize::from(test.last));
            let mut touch = |byte: usize, stays: u8| {
                let stays = u8x16::splat(stays);
                bits[byte].iter_mut().zip(goes_left).for_each(|(bits, left)| *bits &= left | stays);
            };
            touch(first, test.head);
            (first + 1..last).for_each(|byte| touch(byte, 0));
            if last > first {
                touch(last, test.tail);
            }
        }
        bits
    }
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

/// The place of each row's lowest bit.
fn lowest(bits: &Bits) -> [u8; BLOCK] {
    let mut places = [0; BLOCK];
    let zero = u8x16::splat(0);
    for (vector, places) in places.as_chunks_mut::<WIDTH>().0.iter_mut().enumerate() {
        // The last byte stays if all before it are empty.
        let (mut byte, mut place) = (bits[BYTES - 1][vector], u8x16::splat((8 * (BYTES - 1)) as u8));
        for number in (0..BYTES - 1).rev() {
            let empty = bits[number][vector].simd_eq(zero);
            byte = empty.bitselect(byte, bits[number][vector]);
            place = empty.bitselect(place, u8x16::splat((8 * number) as u8));
        }
        let alone = byte & (zero - byte);
        let digit = |mask: u8, value: u8| u8x16::splat(value) & !(alone & u8x16::splat(mask)).simd_eq(zero);
        *places = (place | digit(0xaa, 1) | digit(0xcc, 2) | digit(0xf0, 4)).to_array();
    }
    places
}
