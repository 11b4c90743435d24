//! All of the traffic at once, after a look at copies of it and with the old version warm behind.

use super::{ALL, Phase, Traffic};
use gristmill_kernel::Span;

/// A preview, and the time in which going back is a move of a pointer.
pub fn phases(sample: u32, preview: Span, bake: Span) -> Vec<Phase> {
    vec![Phase { traffic: Traffic::Copies(sample), lasts: preview }, Phase { traffic: Traffic::Share(ALL), lasts: bake }]
}
