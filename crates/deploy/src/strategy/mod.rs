//! How a new version takes over. One file per strategy, which says the phases; a state machine over the live deployment walks them.

pub mod ab;
pub mod blue_green;
pub mod canary;
pub mod evidence;
pub mod shadow;

use crate::spec::{Judging, Rollout};
use evidence::Evidence;
use gristmill_kernel::prediction::{Canary, Deployment};
use gristmill_kernel::{Span, Timestamp};

/// All of the traffic.
pub const ALL: u32 = 1000;

/// A part of a rollout.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Phase {
    /// What the new version sees.
    pub traffic: Traffic,
    /// How long at least.
    pub lasts: Span,
}

/// What a new version sees of the traffic, from less to more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Traffic {
    /// Nothing: it is loaded and warm, and waits for somebody's approval.
    None,
    /// Copies of this share of the requests, in per mille; it answers nobody.
    Copies(u32),
    /// It answers this share, in per mille.
    Share(u32),
}

impl Traffic {
    /// What a version that is on its way sees.
    pub fn of(canary: &Canary) -> Traffic {
        match (canary.permille, canary.mirrored) {
            (0, 0) => Traffic::None,
            (0, sample) => Traffic::Copies(sample),
            (share, _) => Traffic::Share(share),
        }
    }
    /// The same as two numbers of a deployment: the share and the copies.
    pub fn permilles(self) -> (u32, u32) {
        match self {
            Traffic::None => (0, 0),
            Traffic::Copies(sample) => (0, sample.clamp(1, ALL)),
            Traffic::Share(share) => (share.clamp(1, ALL), 0),
        }
    }
    fn is_answering(self) -> bool {
        matches!(self, Traffic::Share(_))
    }
    /// Whether this is a later phase than the present one: an edited spec changes how much is copied, never back and forth.
    fn is_after(self, now: Traffic) -> bool {
        match (self, now) {
            (Traffic::Copies(_), Traffic::Copies(_)) => false,
            (next, now) => next > now,
        }
    }
}

impl std::fmt::Display for Traffic {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Traffic::None => f.write_str("no traffic yet"),
            Traffic::Copies(sample) => write!(f, "copies of {}", percent(*sample)),
            Traffic::Share(share) => f.write_str(&percent(*share)),
        }
    }
}

/// Per mille as people write it: `5%`, `0.5%`.
pub fn percent(permille: u32) -> String {
    if permille.is_multiple_of(10) { format!("{}%", permille / 10) } else { format!("{}.{}%", permille / 10, permille % 10) }
}

/// The phases of a rollout in their order. Where somebody must approve and nothing is shown to it before, it begins standing by.
pub fn phases(rollout: &Rollout) -> Vec<Phase> {
    let mut phases = match rollout {
        Rollout::Direct | Rollout::Manual => Vec::new(),
        Rollout::Canary { steps, every, .. } => canary::phases(steps, *every),
        Rollout::Shadow { sample, lasts, .. } => shadow::phases(*sample, *lasts),
        Rollout::BlueGreen { sample, preview, bake, .. } => blue_green::phases(*sample, *preview, *bake),
        Rollout::Ab { trial, .. } => ab::phases(trial),
    };
    if rollout.asks() && phases.first().is_none_or(|first| first.traffic.is_answering()) {
        phases.insert(0, Phase { traffic: Traffic::None, lasts: Span::from_secs(0) });
    }
    phases
}

/// What a rollout begins with.
pub fn first(rollout: &Rollout) -> Traffic {
    phases(rollout).first().map_or(Traffic::Share(ALL), |phase| phase.traffic)
}

/// How long the present phase lasts at least; with an edited spec, as the nearest one before it.
pub fn lasts(rollout: &Rollout, canary: &Canary) -> Span {
    let (phases, now) = (phases(rollout), Traffic::of(canary));
    let here = phases.iter().rfind(|phase| !phase.traffic.is_after(now)).or(phases.first());
    here.map_or(Span::from_secs(0), |phase| phase.lasts)
}

/// What a step needs besides good figures.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Leave {
    /// Why the version has no approval; `None` if it has one, or needs none.
    pub unapproved: Option<String>,
    /// Why nothing moves now.
    pub frozen: Option<String>,
}

/// What happens to a rollout now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Nothing yet.
    Hold(String),
    /// The next phase.
    Advance {
        /// What it sees from now on; always more than now.
        traffic: Traffic,
        /// Which phase that is, from 0.
        step: u32,
    },
    /// The new version answers everything from now on.
    Complete,
    /// The old version answers everything again.
    Abort(String),
    /// There has been nothing to judge for longer than its patience. What it sees stays; it goes on when there is something to judge.
    Pause(String),
}

/// Decides about a rollout. The order of the questions is the safety: abort, then enough to judge, then time, then whether anything may move
/// now, then whether somebody has approved.
pub fn decide(rollout: &Rollout, deployment: &Deployment, evidence: &Evidence, leave: &Leave, now: Timestamp) -> Step {
    let Some(canary) = &deployment.canary else {
        return Step::Hold("nothing is being rolled out".into());
    };
    let present = Traffic::of(canary);
    if let (Some(judging), true) = (rollout.judging(), present != Traffic::None)
        && let Some(step) = judged(rollout, judging, canary, evidence, now)
    {
        return step;
    }
    if let Some(why) = &leave.frozen {
        return Step::Hold(why.clone());
    }
    let next = phases(rollout).into_iter().enumerate().find(|(_, phase)| phase.traffic.is_after(present));
    let will_answer = next.is_none_or(|(_, phase)| phase.traffic.is_answering());
    let goes_live = will_answer && !present.is_answering();
    if (*rollout == Rollout::Manual || rollout.asks() && goes_live)
        && let Some(why) = &leave.unapproved
    {
        return Step::Hold(why.clone());
    }
    match next {
        Some((step, phase)) => Step::Advance { traffic: phase.traffic, step: step as u32 },
        None => Step::Complete,
    }
}

/// What the figures say: `None` if they let it go on.
fn judged(rollout: &Rollout, judging: &Judging, canary: &Canary, evidence: &Evidence, now: Timestamp) -> Option<Step> {
    let Judging { abort, at_least, patience, .. } = judging;
    let (lasted, every) = (now.since(canary.since), lasts(rollout, canary));
    if evidence.abort == Some(true) {
        return Some(Step::Abort(format!("{} ({})", abort.as_deref().unwrap_or_default(), evidence.observed)));
    }
    if let Some(trial) = rollout.trial() {
        // An experiment is long and live figures are short: that it answers at all is not asked again.
        return ab::decided(trial, *patience, canary, evidence.experiment.as_ref(), now);
    }
    if let Some(lacking) = lacking(evidence, *at_least) {
        return Some(if lasted >= (*patience).max(every) {
            Step::Pause(format!("{lacking} after {lasted}: not promoted without data"))
        } else {
            Step::Hold(lacking)
        });
    }
    (lasted < every).then(|| Step::Hold(format!("{lasted} of {every} at {}", Traffic::of(canary))))
}

fn lacking(evidence: &Evidence, at_least: u64) -> Option<String> {
    if evidence.rows < at_least.max(1) {
        return Some(format!("{} of {} rows answered in this step", evidence.rows, at_least.max(1)));
    }
    evidence.abort.is_none().then(|| format!("the abort condition cannot be judged ({})", evidence.observed))
}

#[cfg(test)]
mod tests;
