//! `rows`: how many rows the window has.

use super::{Measure, Pair, Said};

/// The measure.
pub const ROWS: Measure = Measure { name: "rows", neutral: 0.0, of };

fn of(pair: &Pair) -> Said {
    Said::Value(pair.window.rows as f64)
}
