//! How an endpoint follows a registered model: to the version that its choice names, through its rollout like any new version. Pure.
//!
//! The aliases of a registered model belong to its clients. When one moves, a rollout begins; when it moves back, the rollout ends. A version that lost
//! its rollout is marked `rejected` and not tried again until that mark goes or the choice names another version.

use crate::plan::{Change, Facts, What, begin, end, settings, swap};
use crate::spec::Rollout;
use gristmill_kernel::VersionRef;
use gristmill_kernel::choice::RegisteredChoice;
use gristmill_kernel::prediction::Deployment;

/// What the choice demands of the endpoint. `Err` says why nothing is to be done.
pub fn follow(facts: &Facts, choice: &RegisteredChoice) -> Result<Change, String> {
    let Some(live) = facts.live else { return first(facts, choice) };
    // What nobody can want is as good as what answers already.
    let (wanted, note) = match facts.wanted {
        None => (&live.stable, Some(format!("{choice} names no version"))),
        Some(wanted) if *wanted == live.stable => (wanted, None),
        Some(wanted) if facts.unservable => (&live.stable, Some(format!("{wanted} cannot be served"))),
        Some(wanted) if facts.rejected == Some(wanted.number) => (&live.stable, Some(format!("{wanted} was rejected in its rollout"))),
        Some(wanted) => (wanted, None),
    };
    let running = live.canary.as_ref().map(|canary| &canary.model);
    if *wanted != live.stable {
        return toward(facts, live, wanted, running);
    }
    if let Some(running) = running {
        let why = note.unwrap_or_else(|| format!("{choice} names {wanted} again"));
        return Ok(end(facts, live, format!("{why}: the rollout of {running} ends")));
    }
    if live.serve != facts.spec.serve {
        return Ok(settings(facts, live));
    }
    Err(match note {
        Some(note) => format!("{note}; {} goes on answering", live.stable),
        None => format!("{} answers and is what {choice} names", live.stable),
    })
}

fn first(facts: &Facts, choice: &RegisteredChoice) -> Result<Change, String> {
    match facts.wanted {
        None => Err(format!("no version is registered as {choice} yet")),
        Some(wanted) if facts.unservable => Err(format!("{wanted} cannot be served")),
        Some(wanted) if facts.rejected == Some(wanted.number) => Err(format!("{wanted} was rejected in its rollout")),
        Some(wanted) => {
            let reason = format!("{wanted} is the first version that answers: {choice}");
            Ok(swap(facts, wanted.clone(), What::First, reason))
        }
    }
}

fn toward(facts: &Facts, live: &Deployment, wanted: &VersionRef, running: Option<&VersionRef>) -> Result<Change, String> {
    if (running != Some(wanted) || facts.spec.rollout == Rollout::Direct)
        && let Some(why) = facts.frozen()
    {
        return Err(format!("{wanted} waits: {why}"));
    }
    match (&facts.spec.rollout, running) {
        (Rollout::Direct, _) => {
            let reason = format!("{wanted} takes over from {} at once", live.stable);
            Ok(swap(facts, wanted.clone(), What::Swapped, reason))
        }
        (_, Some(running)) if running == wanted => match live.serve == facts.spec.serve {
            true => Err(format!("{wanted} is being rolled out")),
            false => Ok(settings(facts, live)),
        },
        (_, _) => Ok(begin(facts, live, wanted.clone())),
    }
}
