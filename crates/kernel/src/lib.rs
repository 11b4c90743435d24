//! Nouns, laws, ports and limits of Gristmill.
//!
//! Promise: a value of a kernel type is valid by construction, and every law of the product that does
//! not need IO lives here as a pure function. There is no IO, async runtime, SQL, HTTP or environment here; arrow
//! arrays and schemas are the only data types.
//!
//! The single idea: *every stage turns versions into versions and writes one line in the ledger; nothing
//! passes between stages any other way.* So the nouns are few: [`Address`], [`Version`], [`Alias`](version::AliasState),
//! [`Run`], [`Verdict`], and the [`graph::Node`] that says how one stage makes one asset.
//!
//! To add a noun: a file here, a doc comment saying what it promises, and a conformance test in `store`
//! if it is stored. To add a port: `port/`, an implementation in an adapter crate, a suite in that crate.

pub mod choice;
pub mod column;
pub mod condition;
pub mod digest;
pub mod error;
pub mod experiment;
pub mod graph;
pub mod limits;
pub mod logged;
pub mod model;
pub mod name;
pub mod port;
pub mod prediction;
pub mod protobuf;
pub mod run;
pub mod stage;
pub mod table;
pub mod time;
pub mod tracking;
pub mod training;
pub mod verdict;
pub mod version;
pub mod view;

pub use choice::ModelChoice;
pub use digest::Digest;
pub use error::{Code, Fault, Kind, Result};
pub use name::{Address, AliasName, AssetKind, Name};
pub use run::{Actor, Run, RunId, RunStatus, StageKind};
pub use stage::{Done, Order, Stage, StageContext};
pub use time::{Span, Timestamp};
pub use verdict::{Check, Verdict};
pub use version::{NewVersion, Version, VersionRef};
