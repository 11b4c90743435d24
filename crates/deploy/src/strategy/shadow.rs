//! Copies of the traffic only: callers never get an answer of the new version before it has proved itself.

use super::{Phase, Traffic};
use gristmill_kernel::Span;

/// One phase; after it the version takes over.
pub fn phases(sample: u32, lasts: Span) -> Vec<Phase> {
    vec![Phase { traffic: Traffic::Copies(sample), lasts }]
}
