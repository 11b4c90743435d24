//! What of a row is ranked, and how.

use super::{BLOCK, Ranks, WORTH, signed};
use multiversion::multiversion;

/// Limits that are compared at once: most cells of a grid have no more.
const FEW: usize = 4;

/// Thresholds of a column; ranks above stand for what never goes left, and for leaves.
pub const THRESHOLDS_MAX: usize = u16::MAX as usize - 2;
/// The rank of a value that goes right wherever it comes.
pub const HIGHEST: u16 = u16::MAX - 1;
/// The rank of a test that nothing passes to the right: a leaf's.
pub const NEVER: u16 = u16::MAX;

/// A column: an input with one meaning of missing values, or one set of categories.
#[derive(Debug, Clone, PartialEq)]
pub struct Column {
    pub feature: u32,
    /// Whether values are rounded to `f32` first.
    pub single: bool,
    pub how: How,
}

#[derive(Debug, Clone, PartialEq)]
pub enum How {
    /// The number of thresholds that are not above the value. `nan`: the rank where it is missing. Behind the thresholds stand some that no value reaches.
    Above { limits: Vec<f64>, grid: Grid, nan: u16, zero_is_nan: Option<f64> },
    /// 0 if the value's code is in the set, else 1.
    Within { set: Kept, nan: u16, zero_is_nan: Option<f64> },
    /// 1 if it is missing.
    Missing,
}

/// Where a value lies among limits, without a bisection of all of them: even cells over their range, and the limits of each.
///
/// Which cell a value is in never falls as the value grows, rounding or not. So limits of lower cells are below it, those of higher cells above
/// it, and only those of its own are compared.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Grid {
    low: f64,
    /// Cells in one; 0 where there is one cell.
    scale: f64,
    /// The last cell.
    last: f64,
    /// The first limit of each cell, and the end.
    starts: Vec<u16>,
}

impl Grid {
    /// Of ascending limits, not more than [`THRESHOLDS_MAX`].
    pub fn of(limits: &[f64]) -> Grid {
        let finite = || limits.iter().copied().filter(|limit| limit.is_finite());
        let (low, high) = (finite().fold(f64::INFINITY, f64::min), finite().fold(f64::NEG_INFINITY, f64::max));
        let cells = (2 * limits.len()).next_power_of_two();
        let scale = cells as f64 / (high - low);
        let mut grid = if scale.is_normal() {
            Grid { low, scale, last: (cells - 1) as f64, starts: vec![0; cells + 1] }
        } else {
            Grid { starts: vec![0; 2], ..Grid::default() }
        };
        for limit in limits {
            let cell = grid.cell(*limit);
            grid.starts[cell + 1] += 1;
        }
        for cell in 1..grid.starts.len() {
            grid.starts[cell] += grid.starts[cell - 1];
        }
        grid
    }

    #[inline(always)]
    fn cell(&self, x: f64) -> usize {
        /// What is added to it loses its fraction and stands in the lowest bits.
        const WHOLE: f64 = (1u64 << 52) as f64;
        let place = (x - self.low) * self.scale;
        // No number is in the first cell too. A comparison each, which is less than what a cast would do.
        let place = if place > 0.0 { place } else { 0.0 };
        let place = if place < self.last { place } else { self.last };
        ((place + WHOLE).to_bits() as u32) as usize
    }

    /// How many limits are not above a value of a cell.
    #[inline(always)]
    fn rank(&self, limits: &[f64], x: f64, cell: usize) -> u16 {
        let (from, to) = (usize::from(self.starts[cell]), usize::from(self.starts[cell + 1]));
        let above = match limits.get(from..).and_then(<[f64]>::first_chunk::<FEW>) {
            // Those behind the cell's own are above.
            Some(few) if to - from <= FEW => few.iter().map(|limit| u16::from(*limit <= x)).sum(),
            _ => limits[from..to].partition_point(|limit| *limit <= x) as u16,
        };
        from as u16 + above
    }
}

/// Puts limits behind all others that no value reaches, not even an infinite one.
pub fn pad(limits: &mut Vec<f64>) {
    limits.extend([f64::NAN; FEW]);
}

impl Column {
    /// The ranks of rows of so many numbers, one behind the other.
    pub fn rank(&self, block: &[f64], width: usize, ranks: &mut Ranks) {
        match &self.how {
            How::Above { limits, grid, nan, zero_is_nan } => {
                if block.len() < WORTH * width {
                    let rank = |x| if is_missing(x, *zero_is_nan) { *nan } else { grid.rank(limits, x, grid.cell(x)) };
                    return self.each(block, width, ranks, rank);
                }
                let mut values = [0.0; BLOCK];
                for (row, value) in block.chunks_exact(width).zip(&mut values) {
                    let x = row[self.feature as usize];
                    *value = if self.single { f64::from(x as f32) } else { x };
                }
                above(grid, limits, &values, *nan, *zero_is_nan, ranks);
            }
            How::Within { set, nan, zero_is_nan } => {
                let set = Set { words: &set.words, whole: set.whole };
                self.each(block, width, ranks, |x| if is_missing(x, *zero_is_nan) { *nan } else { u16::from(!set.holds(x)) });
            }
            How::Missing => self.each(block, width, ranks, |x| u16::from(x.is_nan())),
        }
    }

    #[inline(always)]
    fn each(&self, block: &[f64], width: usize, ranks: &mut Ranks, rank: impl Fn(f64) -> u16) {
        for (row, place) in block.chunks_exact(width).zip(&mut ranks.0) {
            let x = row[self.feature as usize];
            *place = signed(rank(if self.single { f64::from(x as f32) } else { x }));
        }
    }
}

/// Ranks a block of values, with the vectors that this processor has.
#[multiversion(targets("x86_64+avx2"))]
fn above(grid: &Grid, limits: &[f64], values: &[f64; BLOCK], nan: u16, zero_is_nan: Option<f64>, ranks: &mut Ranks) {
    // Vectors do these, so they come before what is looked up.
    let cells = values.map(|x| grid.cell(x) as u32);
    for ((x, cell), rank) in values.iter().zip(cells).zip(&mut ranks.0) {
        let missing = is_missing(*x, zero_is_nan);
        let found = grid.rank(limits, *x, cell as usize);
        *rank = signed(if missing { nan } else { found });
    }
}

#[inline(always)]
fn is_missing(x: f64, zero: Option<f64>) -> bool {
    x.is_nan() || zero.is_some_and(|zero| x.abs() <= zero)
}

/// Categories by the bits of their codes, lowest first.
#[derive(Debug, Clone, Copy)]
pub struct Set<'f> {
    /// The bits.
    pub words: &'f [u32],
    /// Whether a value between two codes is none; else its fraction is cut off.
    pub whole: bool,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Kept {
    words: Vec<u32>,
    whole: bool,
}

impl Set<'_> {
    /// A copy of it.
    pub fn kept(self) -> Kept {
        Kept { words: self.words.to_vec(), whole: self.whole }
    }
    /// Whether it holds the code of a value; what is no code is in no set. NaN must not come here.
    pub fn holds(self, x: f64) -> bool {
        // A cast cuts the fraction off, as the libraries do.
        let code = x as i64;
        let word = usize::try_from(code >> 5).ok().and_then(|word| self.words.get(word));
        let is_code = x > -1.0 && (!self.whole || x == code as f64);
        is_code && word.is_some_and(|word| word >> (code & 31) & 1 == 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::rngs::SmallRng;
    use rand::{Rng, SeedableRng};

    #[test]
    fn a_grid_says_what_a_bisection_says() {
        let mut random = SmallRng::seed_from_u64(11);
        let edges = [f64::INFINITY, f64::NEG_INFINITY, f64::MAX, f64::MIN, 0.0, 1e-320, -1e-320, 1e300];
        for case in 0..400 {
            // Even ones, ones in heaps, ones of every size, and few.
            let count = if case % 4 == 3 { random.random_range(0..4) } else { random.random_range(1..900) };
            let mut limits: Vec<f64> = (0..count)
                .map(|_| match case % 3 {
                    0 => random.random_range(-5.0..5.0),
                    1 => random.random_range(0.0..1.0_f64).powi(30),
                    _ => random.random_range(-1.0..1.0) * 10f64.powi(random.random_range(-300..300)),
                })
                .collect();
            if case % 5 == 0 {
                limits.extend(edges.iter().take(random.random_range(0..edges.len())));
            }
            limits.sort_by(f64::total_cmp);
            limits.dedup();
            let grid = Grid::of(&limits);
            let mut padded = limits.clone();
            pad(&mut padded);
            let near = limits.iter().flat_map(|limit| [*limit, limit.next_up(), limit.next_down()]);
            let anywhere: Vec<f64> = (0..100).map(|_| random.random_range(-6.0..6.0)).collect();
            for x in near.chain(anywhere).chain(edges) {
                let rank = grid.rank(&padded, x, grid.cell(x));
                assert_eq!(usize::from(rank), limits.partition_point(|limit| *limit <= x), "{x} among {limits:?}");
            }
        }
    }
}
