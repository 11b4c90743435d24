//! The suites of the engine: tables, the fence, error texts, conditions, and `same_answer`.

#![expect(clippy::unwrap_used, clippy::panic, reason = "helpers of tests may panic; clippy knows only the test functions themselves")]

mod conditions;
mod errors;
mod fence;
mod same_answer;
mod support;
mod tables;
mod upkeep;
