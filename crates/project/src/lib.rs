//! The project language: one TOML file, SQL files with a small header, tests, and a lock file.
//!
//! Promise: everything wrong with a project is found at once, each fault with file, line, caret, reason, fix and code; what
//! is right becomes the kernel's graph, in which comments and formatting mean nothing.
//!
//! Invariants: secrets stay `${NAME}` in every spec and print as `•••`; nothing here reads the environment (the binary passes
//! it); SQL is parsed only by the engine behind its port.
//!
//! The way of a project: [`read`] (TOML to [`file::File`], with places) -> [`header`] (SQL files) -> [`project::Project`] ->
//! [`resolve`] (defaults, stage specs) -> [`graph`] -> [`check`]. To add a key see [`file`]. [`import`] writes a project from another feature store's.

pub mod check;
pub mod codes;
pub mod examples;
pub mod figures;
pub mod file;
pub mod graph;
pub mod header;
pub mod import;
pub mod lock;
pub mod project;
pub mod read;
pub mod render;
pub mod resolve;
pub mod schema;
pub mod secrets;
pub mod show;
pub mod text;
pub mod unit;
pub mod words;

pub use check::{Diagnostic, Severity, check};
pub use examples::example_files;
pub use lock::Lock;
pub use project::Project;
pub use render::render;
pub use secrets::EnvSecrets;
pub use show::{Origin, Shown};
pub use unit::{Real, Sampled, TestResult, run_tests, sample};
