//! Sums of floats that do not depend on the order.
//!
//! A sum is kept exactly, as a short list of floats that do not overlap (Shewchuk's expansions, as in Python's `math.fsum`), and rounded once at
//! the end. So any order, partitioning or merging of the same values gives the same bits. Two parts are enough for most data and live in place;
//! a third moves the list to the heap. Values near the largest float go to a second, scaled list, so that no intermediate overflows.
//! The sum of nothing but zeros is `+0`; with both infinities or a NaN it is NaN.

/// An exact sum.
#[derive(Debug, Clone, Default)]
pub struct Exact {
    /// The larger part.
    high: f64,
    /// The rest, not overlapping `high`.
    low: f64,
    more: Option<Box<More>>,
}

#[derive(Debug, Clone, Default)]
struct More {
    /// Takes the place of `high` and `low` when they are not enough; smallest first.
    parts: Vec<f64>,
    /// Values from [`HUGE`] on, times [`DOWN`].
    huge: Vec<f64>,
    plus_infinity: bool,
    minus_infinity: bool,
    nan: bool,
}

/// 2^960: sums of 2^64 smaller values stay finite.
const HUGE: f64 = f64::from_bits((960 + 1023) << 52);
/// 2^-200.
const DOWN: f64 = f64::from_bits((1023 - 200) << 52);
/// 2^200.
const UP: f64 = f64::from_bits((1023 + 200) << 52);
/// 2^-1000: smaller than anything a huge sum can be rounded by, so only its sign matters.
const TRACE: f64 = f64::from_bits((1023 - 1000) << 52);

impl Exact {
    /// Adds a value.
    #[inline]
    pub fn add(&mut self, value: f64) {
        if value.abs() < HUGE && self.more.is_none() {
            let (sum, first) = two_sum(value, self.low);
            let (sum, second) = two_sum(sum, self.high);
            if first == 0.0 {
                (self.high, self.low) = (sum, second);
                return;
            }
            if second == 0.0 {
                (self.high, self.low) = (sum, first);
                return;
            }
        }
        self.add_slowly(value);
    }

    #[cold]
    fn add_slowly(&mut self, value: f64) {
        let (high, low) = (self.high, self.low);
        let more = self.more.get_or_insert_with(|| {
            let mut more = Box::<More>::default();
            for part in [low, high] {
                if part != 0.0 {
                    more.parts.push(part);
                }
            }
            more
        });
        (self.high, self.low) = (0.0, 0.0);
        if value.is_nan() {
            more.nan = true;
        } else if value.is_infinite() {
            if value > 0.0 { more.plus_infinity = true } else { more.minus_infinity = true }
        } else if value.abs() >= HUGE {
            grow(&mut more.huge, value * DOWN);
        } else {
            grow(&mut more.parts, value);
        }
    }

    /// Adds everything another sum holds.
    pub fn merge(&mut self, parts: &[f64]) {
        for part in parts {
            self.add(*part);
        }
    }

    /// Values whose exact sum is this one.
    pub fn parts(&self) -> Vec<f64> {
        let mut parts = Vec::new();
        match &self.more {
            None => parts.extend([self.low, self.high].into_iter().filter(|p| *p != 0.0)),
            Some(more) => {
                parts.extend(more.parts.iter().filter(|p| **p != 0.0));
                // A scaled part may itself be too large for a float; halves of it are not.
                for huge in more.huge.iter().filter(|p| **p != 0.0) {
                    let mut pieces = vec![*huge];
                    while (pieces[0] * UP).is_infinite() {
                        pieces = pieces.iter().flat_map(|p| [p / 2.0, p / 2.0]).collect();
                    }
                    parts.extend(pieces.iter().map(|p| p * UP));
                }
                if more.nan {
                    parts.push(f64::NAN);
                }
                if more.plus_infinity {
                    parts.push(f64::INFINITY);
                }
                if more.minus_infinity {
                    parts.push(f64::NEG_INFINITY);
                }
            }
        }
        parts
    }

    /// The sum, rounded once.
    pub fn value(&self) -> f64 {
        let Some(more) = &self.more else { return plain_zero(self.high + self.low) };
        if more.nan || (more.plus_infinity && more.minus_infinity) {
            return f64::NAN;
        }
        if more.plus_infinity {
            return f64::INFINITY;
        }
        if more.minus_infinity {
            return f64::NEG_INFINITY;
        }
        if rounded(&more.huge) == 0.0 {
            return plain_zero(rounded(&more.parts));
        }
        let mut parts = more.huge.clone();
        for part in &more.parts {
            let scaled = part * DOWN;
            grow(&mut parts, if scaled * UP == *part { scaled } else { TRACE.copysign(*part) });
        }
        plain_zero(rounded(&parts) * UP)
    }

    /// The sum as two floats: the rounded sum and the rounded rest. Both depend on the exact sum only.
    pub fn pair(&self) -> (f64, f64) {
        let high = self.value();
        if !high.is_finite() {
            return (high, 0.0);
        }
        let mut rest = self.clone();
        rest.add(-high);
        (high, rest.value())
    }

    /// Bytes on the heap.
    pub fn heap_bytes(&self) -> usize {
        self.more.as_ref().map_or(0, |m| std::mem::size_of::<More>() + (m.parts.capacity() + m.huge.capacity()) * 8)
    }
}

/// `a + b` and what rounding lost, exactly.
#[inline]
fn two_sum(a: f64, b: f64) -> (f64, f64) {
    let sum = a + b;
    let b_part = sum - a;
    let a_part = sum - b_part;
    (sum, (a - a_part) + (b - b_part))
}

/// Adds to a list of parts that do not overlap, smallest first.
fn grow(parts: &mut Vec<f64>, value: f64) {
    let mut sum = value;
    let mut kept = 0;
    for at in 0..parts.len() {
        let (high, low) = two_sum(sum, parts[at]);
        if low != 0.0 {
            parts[kept] = low;
            kept += 1;
        }
        sum = high;
    }
    parts.truncate(kept);
    parts.push(sum);
}

/// The parts' exact sum, rounded to nearest, ties to even.
fn rounded(parts: &[f64]) -> f64 {
    let mut rest = parts.len();
    let Some(mut high) = parts.last().copied() else { return 0.0 };
    rest -= 1;
    let mut low = 0.0;
    while rest > 0 {
        rest -= 1;
        let (sum, lost) = two_sum(high, parts[rest]);
        high = sum;
        low = lost;
        if low != 0.0 {
            break;
        }
    }
    // Half way between two floats, the parts below decide.
    if rest > 0 && ((low < 0.0 && parts[rest - 1] < 0.0) || (low > 0.0 && parts[rest - 1] > 0.0)) {
        let twice = low * 2.0;
        let up = high + twice;
        if twice == up - high {
            high = up;
        }
    }
    high
}

fn plain_zero(value: f64) -> f64 {
    if value == 0.0 { 0.0 } else { value }
}

/// Count, sum and sum of squares, exactly.
#[derive(Debug, Clone, Default)]
pub struct Moments {
    /// How many values.
    pub count: u64,
    /// Their sum.
    pub sum: Exact,
    /// The sum of their squares.
    pub squares: Exact,
}

impl Moments {
    /// Adds a value.
    pub fn add(&mut self, value: f64) {
        self.count += 1;
        self.sum.add(value);
        let square = value * value;
        self.squares.add(square);
        if square.is_finite() {
            self.squares.add(value.mul_add(value, -square));
        }
    }

    /// Takes out a value that was added; its square must be finite.
    pub fn remove(&mut self, value: f64) {
        self.count -= 1;
        if self.count == 0 {
            *self = Moments::default();
            return;
        }
        self.sum.add(-value);
        let square = value * value;
        self.squares.add(-square);
        self.squares.add(-value.mul_add(value, -square));
    }

    /// The variance over `count - less`; `None` if that is not positive.
    pub fn variance(&self, less: u64) -> Option<f64> {
        let divisor = self.count.checked_sub(less).filter(|d| *d > 0)?;
        let (sum, squares) = (self.sum.pair(), self.squares.pair());
        if !sum.0.is_finite() || !squares.0.is_finite() {
            return Some(f64::NAN);
        }
        let count = self.count as f64;
        let spread = minus(times(squares, (count, 0.0)), times(sum, sum));
        let variance = divided(spread, times((count, 0.0), (divisor as f64, 0.0)));
        Some(if variance > 0.0 || variance.is_nan() { variance } else { 0.0 })
    }
}

type Pair = (f64, f64);

fn times(a: Pair, b: Pair) -> Pair {
    let high = a.0 * b.0;
    let low = a.0.mul_add(b.0, -high) + (a.0 * b.1 + a.1 * b.0);
    fast_two_sum(high, low)
}

fn minus(a: Pair, b: Pair) -> Pair {
    let (high, low) = two_sum(a.0, -b.0);
    let (tail, lost) = two_sum(a.1, -b.1);
    let (high, low) = fast_two_sum(high, low + tail);
    fast_two_sum(high, low + lost)
}

/// Rounded to one float.
fn divided(a: Pair, b: Pair) -> f64 {
    let first = a.0 / b.0;
    let product = times(b, (first, 0.0));
    let rest = minus(a, product);
    first + rest.0 / b.0
}

fn fast_two_sum(a: f64, b: f64) -> Pair {
    let sum = a + b;
    (sum, b - (sum - a))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sum(values: &[f64]) -> f64 {
        let mut exact = Exact::default();
        values.iter().for_each(|v| exact.add(*v));
        exact.value()
    }

    #[test]
    fn as_fsum() {
        assert_eq!(sum(&[0.1; 10]), 1.0);
        assert_eq!(sum(&[1e100, 1.0, -1e100]), 1.0);
        assert_eq!(sum(&[1e16, 1.0, 1e-16]), 1e16 + 2.0);
        assert_eq!(sum(&[f64::MAX, f64::MAX, -f64::MAX]), f64::MAX);
        assert_eq!(sum(&[f64::MAX, 1.0, -f64::MAX]), 1.0);
        assert_eq!(sum(&[f64::MAX, f64::MAX]), f64::INFINITY);
        assert_eq!(sum(&[f64::INFINITY, 1.0]), f64::INFINITY);
        assert!(sum(&[f64::INFINITY, f64::NEG_INFINITY]).is_nan());
        assert_eq!(sum(&[-0.0]).to_bits(), 0);
        assert_eq!(sum(&[]).to_bits(), 0);
    }

    #[test]
    fn any_order_and_any_split_give_the_same_bits() {
        use rand::prelude::*;
        let mut rng = rand::rngs::StdRng::seed_from_u64(7);
        for _ in 0..300 {
            let mut values: Vec<f64> = (0..rng.random_range(0..60))
                .map(|_| {
                    let exponent = if rng.random_bool(0.05) { rng.random_range(900..1024) } else { rng.random_range(-60..60) };
                    rng.random_range(-1.0..1.0f64) * 2f64.powi(exponent)
                })
                .collect();
            let first = sum(&values);
            values.shuffle(&mut rng);
            let (left, right) = values.split_at(values.len() / 3);
            let mut a = Exact::default();
            left.iter().for_each(|v| a.add(*v));
            let mut b = Exact::default();
            right.iter().for_each(|v| b.add(*v));
            b.merge(&a.parts());
            assert_eq!(first.to_bits(), b.value().to_bits());
            assert_eq!(sum(&values).to_bits(), first.to_bits());
        }
    }

    #[test]
    fn variance_of_far_values() {
        let mut moments = Moments::default();
        for value in [1e9 + 1.0, 1e9 + 2.0, 1e9 + 3.0] {
            moments.add(value);
        }
        assert_eq!(moments.variance(1), Some(1.0));
        assert_eq!(Moments::default().variance(0), None);
    }
}
