//! The journal: pushed events, durable until a table has them.
//!
//! `embedded` keeps them in the state folder. Another place is another file here that passes `suite::journal`.

pub mod embedded;

pub use embedded::EmbeddedJournal;
