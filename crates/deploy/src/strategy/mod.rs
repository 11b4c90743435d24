//! How a new version takes over. One file per strategy; each is a pure decision.

pub mod canary;
pub mod direct;

/// What happens to a rollout now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Nothing yet.
    Hold(String),
    /// The next share.
    Advance {
        /// In per mille; always more than now.
        permille: u32,
        /// Which step that is, from 0.
        step: u32,
    },
    /// The new version answers everything from now on.
    Complete,
    /// The old version answers everything again.
    Abort(String),
    /// There has been nothing to judge for longer than its patience. The share stays; it goes on when there is something to judge.
    Pause(String),
}
