//! A growing share of the traffic, judged at each step.

use super::{Phase, Traffic};
use gristmill_kernel::Span;

/// One phase per share.
pub fn phases(steps: &[u32], every: Span) -> Vec<Phase> {
    steps.iter().map(|share| Phase { traffic: Traffic::Share(*share), lasts: every }).collect()
}
