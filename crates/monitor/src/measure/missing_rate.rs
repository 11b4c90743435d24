//! `missing_rate`: the share of the window's rows without a value.

use super::{Measure, Pair, Said};

/// The measure.
pub const MISSING_RATE: Measure = Measure { name: "missing_rate", neutral: 0.0, of };

fn of(pair: &Pair) -> Said {
    match pair.window.rows {
        0 => Said::Nothing,
        rows => Said::Value(pair.window.missing as f64 / rows as f64),
    }
}
