//! Independent draws.

use crate::spec::Range;
use rand::Rng;
use serde_json::Value;

/// Whether a range is searched by factors rather than by differences.
pub(super) fn logarithmic(low: f64, high: f64) -> bool {
    low > 0.0 && high >= 10.0 * low
}

pub(super) fn draw(range: &Range, rng: &mut impl Rng) -> Value {
    match range {
        Range::Int { low, high } => Value::from(rng.random_range(*low..=*high)),
        Range::Float { low, high } if logarithmic(*low, *high) => {
            Value::from(rng.random_range(low.ln()..=high.ln()).exp().clamp(*low, *high))
        }
        Range::Float { low, high } => Value::from(rng.random_range(*low..=*high)),
        Range::Choice { choices } => choices[rng.random_range(0..choices.len())].clone(),
    }
}
