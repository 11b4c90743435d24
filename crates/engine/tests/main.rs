//! The suites of the engine: tables, the fence, error texts, conditions, and `same_answer`.

mod conditions;
mod errors;
mod fence;
mod same_answer;
mod support;
mod tables;
