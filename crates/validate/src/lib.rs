//! Stage validate: raw rows in; accepted rows, quarantine and a profile out (node `sources.NAME`).
//!
//! Promises:
//! - No row disappears: rows read = rows accepted + rows quarantined, checked on every pass and printed.
//! - Each raw row is judged once under one set of expectations. Other expectations, or raw rows that were replaced, mean that everything is judged anew.
//! - A crash at any moment is healed by the next run ([`plan`] says how): quarantine first, accepted rows second, each commit with the number of its pass.
//! - Rows in the quarantine can be listed, mended and sent back ([`quarantined`], [`replay`]); a mended row comes in as a new raw row, and the old one is
//!   marked resolved, so the counts still explain themselves.
//!
//! To add a helper for `expect` that looks at the whole source, as `fresh('2 minutes')` does: [`plan::Rule`].

pub mod plan;
pub mod profile;
mod quarantine;
mod run;
mod sketch;
pub mod spec;

pub use quarantine::{QuarantinedRow, Replayed, quarantined, replay};
pub use run::ValidateStage;
