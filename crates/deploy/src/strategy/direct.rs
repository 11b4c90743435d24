//! A new version takes over at once. Also the fate of a canary that is under way when its strategy becomes direct.

use super::Step;
use gristmill_kernel::prediction::Deployment;

/// A version that is being rolled out has won; without one there is nothing to do.
pub fn decide(deployment: &Deployment) -> Step {
    match &deployment.canary {
        Some(_) => Step::Complete,
        None => Step::Hold("nothing is being rolled out".into()),
    }
}
