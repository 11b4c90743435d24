//! Projects of other feature stores, written as files of ours. One folder per store: its definitions are read ([`feast::registry`]), what they
//! mean here is decided from values ([`feast::plan`]), and files are written ([`feast::write`]).
//!
//! Promise: importing twice writes nothing the second time; what people changed since is left alone; a thing that cannot be taken over is named
//! with its reason and stops nothing else. Rows stay where they are: a source names their files.

pub mod feast;
