//! `as_of()`: one compiled plan for training, online and request.
//!
//! The law: the value of a view at (entity e, moment t) is the query with `as_of()` = t over rows of e whose event time is strictly before t
//! (`ties = "include"`: not after), read as an aggregate over that one entity: a count of nothing is 0, other aggregates of nothing are
//! NULL. Without an event time, t sees the latest load not after it, and the first load before that.
//!
//! How: [`view`] takes the SQL apart, [`plan`] compiles once and runs many times. A view over one table is walked in time ([`sliding`]); others are
//! joined with the asked rows ([`rewrite`]); what cannot be joined is run word for word per moment ([`literal`]). Each of them can leave out what
//! was not yet known then ([`known`]). `gristmill explain` says which. Bits do not depend on the order of rows: float aggregates are exact
//! ([`crate::aggregate`]), ordered ones are ordered to the end, and names that promise an approximation are computed exactly ([`exactly`]). The
//! tests hold all of it against an oracle.
//!
//! To widen what is rewritten: a case in [`view`], its text in [`rewrite`], and a shape in `tests/same_answer`.

mod exactly;
mod known;
mod literal;
mod plan;
mod rewrite;
mod sliding;
mod view;
mod window;

pub use plan::compile;
