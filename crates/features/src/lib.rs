//! Definitions to training sets and online rows.
//!
//! Promises: a feature has one text and one plan ([`AsOfPlan`](gristmill_kernel::port::AsOfPlan)); training sets and served rows come out of the same
//! evaluation, so they have the same bits. N label rows in are N rows out, in the order of the label set. Kept rows
//! follow their table load by load and can be rebuilt at any time; applying a load twice changes nothing.
//!
//! [`plan`] decides from values, [`run`] is the stage, [`online`] answers the request plane, [`kept`] encodes kept rows,
//! [`blob`] reads and writes Parquet. To add a split, touch `kernel::training::Split` and [`plan::split_rows`].

pub mod blob;
pub mod kept;
pub mod online;
pub mod plan;
pub mod run;
pub mod spec;

pub use online::OnlineFeatures;
pub use run::FeaturesStage;
