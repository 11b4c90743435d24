//! MLflow: an `./mlruns` folder ([`files`]), an SQLite database ([`sqlite`]) or a running server ([`rest`]).
//!
//! [`source::Source`] is what a reader offers; [`take::import`] writes it; [`plan`] decides, from values, what is missing here; [`uri`] reads
//! artifact addresses; [`super::yaml`] the small YAML of the folder format; [`check`] is what everything that comes in has to pass.
//!
//! To add a reader: a file beside [`files`] that implements `Source`, and a case in `tests/import_mlflow.rs` with the same golden content.

pub mod check;
pub mod disk;
pub mod files;
pub mod plan;
pub mod rest;
pub mod source;
pub mod sqlite;
pub mod take;
pub mod uri;

pub use source::{Counts, Source};
pub use take::{Options, Report, Silent, Target, Watch, import};
