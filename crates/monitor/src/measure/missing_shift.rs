//! `missing_shift`: how far the window's missing rate is from the reference's, in either direction.

use super::{Measure, Pair, Said};
use gristmill_kernel::model::Reference;

/// The measure.
pub const MISSING_SHIFT: Measure = Measure { name: "missing_shift", neutral: 0.0, of };

fn of(pair: &Pair) -> Said {
    let (known, missing) = match pair.reference {
        Reference::Number { counts, missing, .. } => (counts.iter().sum::<u64>(), *missing),
        Reference::Category { counts, other, missing } => (counts.values().sum::<u64>() + other, *missing),
    };
    if known + missing == 0 || pair.window.rows == 0 {
        return Said::Nothing;
    }
    let (before, now) = (missing as f64 / (known + missing) as f64, pair.window.missing as f64 / pair.window.rows as f64);
    Said::Value((now - before).abs())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::window::Column;

    #[test]
    fn both_directions_count() {
        let reference = Reference::Number { edges: vec![], counts: vec![50], missing: 50, sample: vec![] };
        let mut window = Column::new(&reference);
        window.add(&serde_json::json!(1.0), &reference);
        assert_eq!(of(&Pair { reference: &reference, window: &window }), Said::Value(0.5));
        let empty = Column::new(&reference);
        assert_eq!(of(&Pair { reference: &reference, window: &empty }), Said::Nothing);
    }
}
