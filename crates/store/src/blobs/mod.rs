//! Blobs: content by digest.
//!
//! `local` is a folder. Another place is another file here that passes `suite::blobs`.

pub mod local;

pub use local::LocalBlobs;
