//! Online rows: kept rows per entity, ready to be read at once.
//!
//! `embedded` keeps them in the state folder. Another place is another file here that passes `suite::online`.

pub mod embedded;
mod newest;

pub use embedded::EmbeddedOnline;
