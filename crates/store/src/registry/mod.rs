//! Registered models: what every implementation shares.
//!
//! `rules` decides (pure functions and the words of refusals), `story` has the lines of the audit chain, `search` says what a search can ask for and
//! in which order it answers.

pub(crate) mod rules;
pub(crate) mod search;
pub(crate) mod story;
