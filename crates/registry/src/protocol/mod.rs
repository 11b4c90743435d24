//! The protocols by which experiments and models are tracked and registered. A folder each; wire types never leave it.
//!
//! To add one: a folder with `pub fn routes(...) -> Routes` that turns its requests into calls of the ports, and a line here.

pub mod mlflow;
