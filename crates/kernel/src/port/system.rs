//! Time, ids and secrets: what is ambient elsewhere comes in through ports here, so that a test can hold it still.

use crate::{Result, RunId, Timestamp};
use secrecy::SecretString;

/// The time. Comes in through a port so that the control plane can be simulated.
pub trait Clock: Send + Sync {
    /// Now, in UTC.
    fn now(&self) -> Timestamp;
}

/// New ids and random bytes.
pub trait Ids: Send + Sync {
    /// A new run id.
    fn run(&self) -> RunId;
    /// Random bytes, fit for tokens.
    fn random(&self, out: &mut [u8]);
}

/// Values behind `${NAME}` and `${file:PATH}`. They print as `•••`.
pub trait Secrets: Send + Sync {
    /// The value, or the error naming what is missing.
    fn get(&self, name: &str) -> Result<SecretString>;
    /// Replaces every `${...}` in a text.
    fn fill(&self, text: &str) -> Result<SecretString>;
}
