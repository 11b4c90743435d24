//! Blobs: content by digest.
//!
//! `local` is a folder, `stream` what goes through it piece by piece, `sweep` the removal of what nobody names. Another place is another file
//! here that passes `suite::blobs`.

pub mod local;
mod stream;
mod sweep;

pub use local::LocalBlobs;
pub use sweep::Swept;
