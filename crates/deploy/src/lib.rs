//! Stage `deploy`: decides which model version answers, and brings a new one in without betting the traffic on it.
//!
//! Promises:
//! - No data is never success: a step of a rollout counts only when the canary has answered enough rows and the abort condition could be
//!   judged. Without that the rollout waits, then says that it is paused, and is never promoted.
//! - An abort condition that holds ends the rollout at once; the stable version keeps answering everything.
//! - What a new version sees only grows (nothing, copies, shares), one phase at a time, and each phase lasts at least its time.
//! - While an endpoint is frozen nothing begins and nothing goes on; aborts and rollbacks happen as ever. Where a rollout asks for approval, no
//!   caller gets an answer of a version before somebody other than its maker has moved the model's alias `approved` to it.
//! - All state is in the live deployment version (`endpoints.NAME@live`): a crash between two decisions loses nothing, and
//!   a decision is one transaction (deployment, aliases, run). Two deciders cannot both win: every move names what it expects.
//! - The endpoint follows the aliases of its model: a new `challenger` is rolled out, a `champion` moved by a person is followed at once.
//!   Of a registered model it follows the version that its choice names; one that cannot be served is refused before it gets any traffic.
//!
//! To add a strategy: a variant of [`spec::Rollout`], a file in `strategy/` with its phases, a line in [`strategy::phases`].

pub mod freeze;
pub mod plan;
pub mod registered;
pub mod run;
pub mod spec;
pub mod strategy;

pub use freeze::Freeze;
pub use run::{DeployStage, StepTaken, Watch, experiment, live, rollback, tick};
pub use spec::{DeploySpec, Judging, Rollout, Trial};
