//! Quantiles of floats: what lies above a share of the values.
//!
//! Of `n` values in order, the quantile of a share `s` is at the place `s * (n - 1)`, counted from 0; between two values it is in proportion, and
//! half way it is their mean. That is `percentile_cont` of SQL. Values have the total order of floats in which all NaNs are one, above everything,
//! so the answer depends on which values there are and not on their order.

use crate::Share;

/// A float as a number with the same order.
#[inline]
pub fn key(value: f64) -> u64 {
    let bits = if value.is_nan() { f64::NAN.to_bits() } else { value.to_bits() };
    // Negative floats grow downwards.
    if bits >> 63 == 1 { !bits } else { bits | 1 << 63 }
}

/// The float behind a key.
#[inline]
pub fn value(key: u64) -> f64 {
    f64::from_bits(if key >> 63 == 1 { key & !(1 << 63) } else { !key })
}

/// The quantile of values that can be asked for the key of the one at a place. `None` of none.
pub fn in_order(count: usize, share: Share, nth: impl Fn(usize) -> Option<u64>) -> Option<f64> {
    let (at, part) = place(count, share)?;
    let lower = value(nth(at)?);
    if part == 0.0 { Some(lower) } else { Some(between(lower, value(nth(at + 1)?), part)) }
}

/// The quantile of values in any order; their order changes.
pub fn of(values: &mut [f64], share: Share) -> Option<f64> {
    let (at, part) = place(values.len(), share)?;
    let (_, lower, above) = values.select_nth_unstable_by_key(at, |v| key(*v));
    let lower = *lower;
    if part == 0.0 {
        return Some(canonical(lower));
    }
    let upper = above.iter().copied().min_by_key(|v| key(*v))?;
    Some(between(canonical(lower), canonical(upper), part))
}

fn canonical(float: f64) -> f64 {
    value(key(float))
}

/// Where it is: behind this many values, and how far on to the next.
fn place(count: usize, share: Share) -> Option<(usize, f64)> {
    let last = count.checked_sub(1)?;
    let place = share.value() * last as f64;
    let at = (place as usize).min(last);
    // A place that rounding pushed to the end or beyond is the end.
    Some((at, if at == last { 0.0 } else { place - at as f64 }))
}

/// A part of the way from one value to a greater one.
fn between(lower: f64, upper: f64, part: f64) -> f64 {
    if lower.to_bits() == upper.to_bits() {
        return lower;
    }
    let (sum, way) = (lower + upper, upper - lower);
    let there = match part {
        0.5 if sum.is_finite() => sum / 2.0,
        0.5 => lower / 2.0 + upper / 2.0,
        _ if way.is_finite() => (lower + way * part).min(upper),
        _ => lower * (1.0 - part) + upper * part,
    };
    // Whatever made it, there is one NaN.
    if there.is_nan() { f64::NAN } else { there }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(values: &[f64], share: f64) -> Option<f64> {
        of(&mut values.to_vec(), Share::new(share).unwrap())
    }

    #[test]
    fn keys_have_the_order_of_floats() {
        let ordered =
            [f64::NEG_INFINITY, f64::MIN, -1.0, -5e-324, -0.0, 0.0, 5e-324, 1.0, f64::MAX, f64::INFINITY, f64::NAN].map(|v| (v, key(v)));
        for pair in ordered.windows(2) {
            assert!(pair[0].1 < pair[1].1, "{pair:?}");
        }
        for (float, key) in ordered {
            assert_eq!(value(key).to_bits(), float.to_bits());
        }
        assert_eq!(key(-f64::NAN), key(f64::NAN));
    }

    #[test]
    fn as_percentile_cont() {
        assert_eq!(at(&[], 0.5), None);
        assert_eq!(at(&[7.0], 0.9), Some(7.0));
        assert_eq!(at(&[3.0, 1.0, 2.0], 0.5), Some(2.0));
        assert_eq!(at(&[4.0, 1.0, 3.0, 2.0], 0.5), Some(2.5));
        assert_eq!(at(&[4.0, 1.0, 3.0, 2.0], 0.25), Some(1.75));
        assert_eq!(at(&[4.0, 1.0, 3.0, 2.0], 0.0), Some(1.0));
        assert_eq!(at(&[4.0, 1.0, 3.0, 2.0], 1.0), Some(4.0));
        assert_eq!(at(&[f64::MAX, f64::MAX], 0.5), Some(f64::MAX));
        assert_eq!(at(&[f64::MIN, f64::MAX], 0.5), Some(0.0));
        assert_eq!(at(&[f64::INFINITY, f64::INFINITY], 0.3), Some(f64::INFINITY));
        assert_eq!(at(&[-0.0, 0.0, -0.0], 0.5).map(f64::to_bits), Some((-0.0f64).to_bits()));
        assert!(at(&[1.0, f64::NAN], 0.5).unwrap().is_nan());
        assert_eq!(Share::new(1.5), None);
        assert_eq!(Share::new(f64::NAN), None);
        assert_eq!(Share::HALF.value(), 0.5);
    }
}
