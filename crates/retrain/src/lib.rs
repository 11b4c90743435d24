//! Stage retrain.

pub mod spec;
