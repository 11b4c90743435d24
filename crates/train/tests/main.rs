//! Every promise of the stage, in one binary so that it links once.
#![cfg_attr(test, expect(clippy::panic, reason = "helpers of tests fail by panicking"))]

mod algorithms;
mod common;
mod metrics;
mod ports;
mod stage;
