//! Taking over what other trackers wrote. One folder per tracker; each has readers for where that tracker keeps its things, and one writer
//! that goes through the ports.
//!
//! Promise: what is taken over keeps its ids, numbers and moments; taking it over twice writes nothing the second time; what people changed
//! here since is left alone; a thing that cannot be taken is named with its reason and stops nothing else.

pub mod mlflow;
pub mod yaml;
