//! SQL: the fence, the session and its functions, planning and running.
//!
//! Promises: user text is planned only after [`fence::parse`] passed it; the session has no file store but our own tables' folder, no DDL,
//! no table functions, no variables; tables resolve from the given names alone.

pub mod at_hand;
pub mod fence;
pub mod session;
pub mod source;
