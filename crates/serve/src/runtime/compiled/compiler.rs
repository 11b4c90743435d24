//! From nodes that ask to nodes that compare ranks.

use super::columns::{Column, Grid, HIGHEST, How, NEVER, Set, THRESHOLDS_MAX, pad};
use super::quick::Quick;
use super::{Compiled, Node, Tree, Values, signed};
use std::collections::HashMap;

/// Sets of categories that are worth looking at for each row, whether it comes by or not.
const SETS_MAX: usize = 128;

/// What a node asks, for [`Compiler`].
#[derive(Debug, Clone, Copy)]
pub enum Ask<'f> {
    /// Nothing: this is its value.
    Leaf(f64),
    /// Nothing: these are its values, each of an output.
    Leaves(&'f [(u32, f64)]),
    /// Left if the value of the input is below, or missing and `nan_left`.
    Below {
        /// The input.
        feature: u32,
        /// What is compared.
        limit: Limit,
        /// Where missing values go.
        missing: Gone,
        /// The left child.
        left: u32,
        /// The right child.
        right: u32,
    },
    /// Left if the code of the input is in the set.
    Within {
        /// The input.
        feature: u32,
        /// The set.
        set: Set<'f>,
        /// Where missing values go.
        missing: Gone,
        /// The left child.
        left: u32,
        /// The right child.
        right: u32,
    },
    /// Right if the input is missing.
    Missing {
        /// The input.
        feature: u32,
        /// The left child.
        left: u32,
        /// The right child.
        right: u32,
    },
}

/// What a value is compared with.
#[derive(Debug, Clone, Copy)]
pub enum Limit {
    /// Left if it is below.
    Below(f64),
    /// Left if it is not above.
    AtMost(f64),
}

/// What becomes of missing values.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Gone {
    /// Whether they go left.
    pub left: bool,
    /// Up to here a value counts as missing too.
    pub zero: Option<f64>,
}

/// Compiles a forest. It trusts what it is given: children stand behind their parents, and indices are in range.
pub struct Compiler {
    width: usize,
    single: bool,
    /// The columns so far, with the thresholds in the order of their first use.
    numbers: HashMap<(u32, bool, Option<u64>), usize>,
    sets: HashMap<(u32, Vec<u32>, bool, Option<u64>), usize>,
    missing: HashMap<u32, usize>,
    columns: Vec<Column>,
    /// Per node the limit that it compares with, until ranks are known; NaN if it compares with none.
    limits: Vec<f64>,
    nodes: Vec<Node>,
    values: Values,
    /// Root, output and depth of each.
    trees: Vec<(u32, u32, u32)>,
}

impl Compiler {
    /// Nothing yet; rows have so many numbers, rounded to `f32` or not, and leaves may have several values or each has one.
    pub fn new(width: usize, single: bool, several: bool) -> Compiler {
        Compiler {
            width,
            single,
            numbers: HashMap::new(),
            sets: HashMap::new(),
            missing: HashMap::new(),
            columns: Vec::new(),
            limits: Vec::new(),
            nodes: Vec::new(),
            values: if several { Values::Many(Vec::new(), Vec::new()) } else { Values::One(Vec::new()) },
            trees: Vec::new(),
        }
    }

    /// Adds a tree by its root, the output that its leaves add to and the number of its nodes. `None` if this layout has no room for it, or if a node
    /// has so many parents that the tree is none.
    pub fn tree<'f>(&mut self, (root, output): (u32, u32), nodes: usize, ask: impl Fn(u32) -> Ask<'f>) -> Option<()> {
        let first = self.place(1)?;
        let most = self.nodes.len() + nodes;
        let mut deepest = 0;
        let mut open = vec![(root, first, 0)];
        while let Some((number, place, depth)) = open.pop() {
            deepest = depth.max(deepest);
            let asked = ask(number);
            let (column, rank, limit, children) = match asked {
                Ask::Leaf(value) => {
                    self.leaf(place, &[(output, value)])?;
                    continue;
                }
                Ask::Leaves(values) => {
                    self.leaf(place, values)?;
                    continue;
                }
                Ask::Below { feature, limit, missing, left, right } => {
                    let column = self.number(feature, missing)?;
                    let below = match limit {
                        Limit::Below(limit) | Limit::AtMost(limit) if limit.is_nan() => return None,
                        Limit::Below(limit) => Some(limit),
                        // Everything is at most infinity.
                        Limit::AtMost(f64::INFINITY) => None,
                        Limit::AtMost(limit) => Some(limit.next_up()),
                    };
                    (column, HIGHEST, below, (left, right))
                }
                Ask::Within { feature, set, missing, left, right } => (self.set(feature, set, missing)?, 1, None, (left, right)),
                Ask::Missing { feature, left, right } => (self.is_missing(feature)?, 1, None, (left, right)),
            };
            if let (Some(limit), How::Above { limits, .. }) = (limit, &mut self.columns[column].how) {
                limits.push(limit);
            }
            let child = self.place(2)?;
            if self.nodes.len() > most {
                return None;
            }
            self.limits[place as usize] = limit.unwrap_or(f64::NAN);
            self.nodes[place as usize] = Node { child, column: u16::try_from(column).ok()?, rank: signed(rank) };
            open.push((children.1, child + 1, depth + 1));
            open.push((children.0, child, depth + 1));
        }
        self.trees.push((first, output, deepest));
        Some(())
    }

    /// So many places, one behind the other, of what is a leaf until something else is said.
    fn place(&mut self, count: usize) -> Option<u32> {
        let first = u32::try_from(self.nodes.len()).ok()?;
        for _ in 0..count {
            let at = u32::try_from(self.nodes.len()).ok()?;
            self.nodes.push(Node { child: at, column: 0, rank: signed(NEVER) });
            self.limits.push(f64::NAN);
            match &mut self.values {
                Values::One(values) => values.push(0.0),
                Values::Many(runs, _) => runs.push((0, 0)),
            }
        }
        Some(first)
    }

    fn leaf(&mut self, place: u32, said: &[(u32, f64)]) -> Option<()> {
        match (&mut self.values, said) {
            (Values::One(values), [(_, value)]) => values[place as usize] = *value,
            (Values::One(_), _) => return None,
            (Values::Many(runs, many), said) => {
                runs[place as usize] = (u32::try_from(many.len()).ok()?, u32::try_from(said.len()).ok()?);
                many.extend_from_slice(said);
            }
        }
        Some(())
    }

    fn column(&mut self, feature: u32, how: How) -> Option<usize> {
        // Columns are told by 16 bits.
        let fits = self.columns.len() < usize::from(u16::MAX);
        fits.then(|| {
            self.columns.push(Column { feature, single: self.single, how });
            self.columns.len() - 1
        })
    }

    fn number(&mut self, feature: u32, missing: Gone) -> Option<usize> {
        let key = (feature, missing.left, missing.zero.map(f64::to_bits));
        if let Some(known) = self.numbers.get(&key) {
            return Some(*known);
        }
        let nan = if missing.left { 0 } else { HIGHEST };
        let column = self.column(feature, How::Above { limits: Vec::new(), grid: Grid::default(), nan, zero_is_nan: missing.zero })?;
        self.numbers.insert(key, column);
        Some(column)
    }

    fn set(&mut self, feature: u32, set: Set<'_>, missing: Gone) -> Option<usize> {
        let key = (feature, set.words.to_vec(), missing.left, missing.zero.map(f64::to_bits));
        if let Some(known) = self.sets.get(&key) {
            return Some(*known);
        }
        if self.sets.len() >= SETS_MAX {
            return None;
        }
        let how = How::Within { set: set.kept(), nan: u16::from(!missing.left), zero_is_nan: missing.zero };
        let column = self.column(feature, how)?;
        self.sets.insert(key, column);
        Some(column)
    }

    fn is_missing(&mut self, feature: u32) -> Option<usize> {
        if let Some(known) = self.missing.get(&feature) {
            return Some(*known);
        }
        let column = self.column(feature, How::Missing)?;
        self.missing.insert(feature, column);
        Some(column)
    }

    /// The forest; `None` if a column has more thresholds than there are ranks.
    pub fn finish(mut self) -> Option<Compiled> {
        for column in &mut self.columns {
            if let How::Above { limits, .. } = &mut column.how {
                limits.sort_by(f64::total_cmp);
                // Both zeros are one.
                limits.dedup();
                if limits.len() > THRESHOLDS_MAX {
                    return None;
                }
            }
        }
        for column in &mut self.columns {
            if let How::Above { limits, grid, .. } = &mut column.how {
                *grid = Grid::of(limits);
            }
        }
        for (node, limit) in self.nodes.iter_mut().zip(&self.limits) {
            if limit.is_nan() {
                continue;
            }
            if let How::Above { limits, .. } = &self.columns[usize::from(node.column)].how {
                node.rank = signed(limits.partition_point(|known| known < limit) as u16 + 1);
            }
        }
        for column in &mut self.columns {
            if let How::Above { limits, .. } = &mut column.how {
                pad(limits);
            }
        }
        // A forest of leaves alone asks nothing, but a leaf looks at a column as every node does.
        if self.columns.is_empty() {
            self.column(0, How::Missing)?;
        }
        let values = match &self.values {
            Values::One(values) => values.as_slice(),
            Values::Many(..) => &[],
        };
        let quick = |root| Quick::of(&self.nodes, values, root);
        let trees =
            self.trees.iter().map(|(root, output, depth)| Tree { root: *root, output: *output, depth: *depth, quick: quick(*root) });
        let trees = trees.collect();
        Some(Compiled { width: self.width, columns: self.columns, nodes: self.nodes, values: self.values, trees })
    }
}
