//! What an endpoint's next deployment is. Pure: where things stand goes in, a change or a reason for none comes out.
//!
//! An endpoint of the project's own model follows the model's `challenger` and `champion`, and moves them. One of a registered model follows the
//! version that its choice names ([`crate::registered`]) and leaves the client's aliases alone; only `rejected` is set on either.

use crate::freeze;
use crate::registered;
use crate::spec::{DeploySpec, Rollout};
use crate::strategy::evidence::Evidence;
use crate::strategy::{self, Leave, Step, Traffic};
use gristmill_kernel::prediction::{Canary, Deployment};
use gristmill_kernel::version::AliasState;
use gristmill_kernel::{Address, AliasName, AssetKind, ModelChoice, Name, Timestamp, Verdict, VersionRef};

/// Where an endpoint and its model stand.
#[derive(Debug, Clone)]
pub struct Facts<'a> {
    /// The spec.
    pub spec: &'a DeploySpec,
    /// The live deployment.
    pub live: Option<&'a Deployment>,
    /// The model's `champion`.
    pub champion: Option<u64>,
    /// The model's `challenger`.
    pub challenger: Option<u64>,
    /// The model's `rejected`.
    pub rejected: Option<u64>,
    /// Of a registered model: the version that the choice names now.
    pub wanted: Option<&'a VersionRef>,
    /// Of a registered model: whether that version was found not to be servable.
    pub unservable: bool,
    /// Why the version that is on its way has no approval, if it has none.
    pub unapproved: Option<String>,
    /// Now.
    pub now: Timestamp,
}

impl Facts<'_> {
    /// Why no new version takes a step now.
    pub fn frozen(&self) -> Option<String> {
        let (freeze, until) = freeze::frozen(&self.spec.freeze, self.now)?;
        Some(format!("frozen until {until} ({freeze})"))
    }
    /// What a step of the rollout needs besides good figures.
    pub fn leave(&self) -> Leave {
        Leave { unapproved: self.unapproved.clone(), frozen: self.frozen() }
    }
}

/// A move of one of a model's aliases.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelMove {
    /// The model.
    pub asset: Address,
    /// The alias.
    pub alias: AliasName,
    /// Where it stands.
    pub from: Option<u64>,
    /// Where it shall stand.
    pub to: Option<u64>,
}

/// What kind of change it is. The word is a parameter of the run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum What {
    /// The endpoint answers for the first time.
    First,
    /// A rollout began.
    Began,
    /// A rollout took the next share.
    Advanced,
    /// A rollout completed: the new version answers everything.
    Completed,
    /// A rollout was aborted: the old version answers everything.
    Aborted,
    /// A version was swapped in at once.
    Swapped,
    /// A person took it back.
    RolledBack,
    /// Only serving's own settings changed.
    Settings,
    /// A rollout waits for data; nothing moved.
    Paused,
}

impl What {
    /// The word.
    pub fn as_str(self) -> &'static str {
        match self {
            What::First => "first",
            What::Began => "began",
            What::Advanced => "advanced",
            What::Completed => "completed",
            What::Aborted => "aborted",
            What::Swapped => "swapped",
            What::RolledBack => "rolled_back",
            What::Settings => "settings",
            What::Paused => "paused",
        }
    }
}

/// A new deployment and what moves with it.
#[derive(Debug, Clone, PartialEq)]
pub struct Change {
    /// What kind of change.
    pub what: What,
    /// The deployment that becomes live.
    pub deployment: Deployment,
    /// The model's aliases that move in the same transaction.
    pub moves: Vec<ModelMove>,
    /// Why, with the numbers that decided.
    pub reason: String,
    /// What it means for the version that was judged, if one was.
    pub verdict: Option<Verdict>,
}

/// A version of one of the project's models.
pub fn model(name: &Name, number: u64) -> VersionRef {
    VersionRef { asset: Address::new(AssetKind::Models, name.clone()), number }
}

/// What the model's aliases and the spec demand of the endpoint, judged against what is live. `Err` says why nothing is to be done.
pub fn follow(facts: &Facts) -> Result<Change, String> {
    match &facts.spec.model {
        ModelChoice::Own(name) => follow_own(facts, name),
        ModelChoice::Registered(choice) => registered::follow(facts, choice),
    }
}

fn follow_own(facts: &Facts, name: &Name) -> Result<Change, String> {
    let Some(live) = facts.live else { return first(facts, name) };
    if let Some(champion) = facts.champion.filter(|c| *c != live.stable.number).map(|c| model(name, c)) {
        let reason = format!("{champion} is champion instead of {}", live.stable);
        return Ok(swap(facts, champion, What::Swapped, reason));
    }
    let running = live.canary.as_ref().map(|c| c.model.number);
    match (facts.challenger.filter(|c| *c != live.stable.number).map(|c| model(name, c)), running) {
        (Some(challenger), running)
            if (running != Some(challenger.number) || facts.spec.rollout == Rollout::Direct)
                && let Some(why) = facts.frozen() =>
        {
            Err(format!("{challenger} waits: {why}"))
        }
        (Some(challenger), _) if facts.spec.rollout == Rollout::Direct => {
            let reason = format!("{challenger} takes over from {} at once", live.stable);
            Ok(swap(facts, challenger, What::Swapped, reason))
        }
        (Some(challenger), None) => Ok(begin(facts, live, challenger)),
        (Some(challenger), Some(canary)) if challenger.number != canary => Ok(begin(facts, live, challenger)),
        (None, Some(canary)) => {
            let reason = format!("{} is no longer challenger: its rollout ends", model(name, canary));
            Ok(end(facts, live, reason))
        }
        _ if live.serve != facts.spec.serve => Ok(settings(facts, live)),
        (Some(challenger), Some(_)) => Err(format!("{challenger} is being rolled out")),
        (None, None) => Err(format!("{} answers and nothing waits for a rollout", live.stable)),
    }
}

fn first(facts: &Facts, name: &Name) -> Result<Change, String> {
    let Some(number) = facts.champion.or(facts.challenger) else {
        return Err(format!("no version of models.{name} has passed its gates yet"));
    };
    let version = model(name, number);
    let reason = format!("{version} is the first version that answers");
    Ok(swap(facts, version, What::First, reason))
}

/// A version answers everything from now on, and has won.
pub(crate) fn swap(facts: &Facts, version: VersionRef, what: What, reason: String) -> Change {
    let moves = won(facts, &version);
    let deployment = Deployment {
        format: Deployment::FORMAT,
        endpoint: facts.spec.endpoint.clone(),
        stable: version,
        canary: None,
        serve: facts.spec.serve.clone(),
    };
    Change { what, deployment, moves, reason, verdict: None }
}

/// A version begins its rollout, in the place of another one if one is running.
pub(crate) fn begin(facts: &Facts, live: &Deployment, version: VersionRef) -> Change {
    let traffic = strategy::first(&facts.spec.rollout);
    let (permille, mirrored) = traffic.permilles();
    let reason = match &live.canary {
        None => format!("{version} begins its rollout beside {}", live.stable),
        Some(running) => format!("{version} replaces {} in the rollout", running.model),
    };
    let canary = Canary { model: version, permille, mirrored, step: 0, began_at: facts.now, since: facts.now };
    let deployment = Deployment { canary: Some(canary), ..with_settings(facts, live) };
    Change { what: What::Began, deployment, moves: vec![], reason: format!("{reason}, at {traffic}"), verdict: None }
}

/// A running rollout ends without anybody having lost.
pub(crate) fn end(facts: &Facts, live: &Deployment, reason: String) -> Change {
    let deployment = Deployment { canary: None, ..with_settings(facts, live) };
    Change { what: What::Aborted, deployment, moves: vec![], reason, verdict: None }
}

/// Only what serving itself needs to know changes.
pub(crate) fn settings(facts: &Facts, live: &Deployment) -> Change {
    let reason = "the endpoint's settings changed".to_owned();
    Change { what: What::Settings, deployment: with_settings(facts, live), moves: vec![], reason, verdict: None }
}

fn with_settings(facts: &Facts, live: &Deployment) -> Deployment {
    Deployment { serve: facts.spec.serve.clone(), ..live.clone() }
}

/// The aliases of a version that has won: it is champion, and no longer challenger. A registered model's aliases are its client's.
fn won(facts: &Facts, version: &VersionRef) -> Vec<ModelMove> {
    let mut moves = Vec::new();
    if facts.spec.model.own().is_none() {
        return moves;
    }
    let (asset, number) = (version.asset.clone(), version.number);
    if facts.champion != Some(number) {
        moves.push(ModelMove { asset: asset.clone(), alias: AliasName::champion(), from: facts.champion, to: Some(number) });
    }
    if facts.challenger == Some(number) {
        moves.push(ModelMove { asset, alias: AliasName::challenger(), from: facts.challenger, to: None });
    }
    moves
}

/// The aliases of a version that has lost: it is rejected, and no longer challenger.
fn lost(facts: &Facts, version: &VersionRef) -> Vec<ModelMove> {
    let mut moves = Vec::new();
    let (asset, number) = (version.asset.clone(), version.number);
    if facts.spec.model.own().is_some() && facts.challenger == Some(number) {
        moves.push(ModelMove { asset: asset.clone(), alias: AliasName::challenger(), from: facts.challenger, to: None });
    }
    if facts.rejected != Some(number) {
        moves.push(ModelMove { asset, alias: AliasName::rejected(), from: facts.rejected, to: Some(number) });
    }
    moves
}

/// What a step of the rollout changes; `None` for a step that changes nothing.
pub fn apply(facts: &Facts, step: &Step, evidence: &Evidence) -> Option<Change> {
    let live = facts.live?;
    let canary = live.canary.as_ref()?;
    let lasted = facts.now.since(canary.since);
    let present = Traffic::of(canary);
    let proof = match facts.spec.rollout.judging() {
        Some(_) if present != Traffic::None => format!("{} rows in {lasted} at {present}, {}", evidence.rows, evidence.observed),
        _ => format!("after {lasted} at {present}"),
    };
    let proof = if facts.spec.rollout.asks() && !matches!(present, Traffic::Share(_)) { format!("{proof}; approved") } else { proof };
    match step {
        Step::Hold(_) | Step::Pause(_) => None,
        Step::Advance { traffic, step } => {
            let (permille, mirrored) = traffic.permilles();
            let next = Canary { permille, mirrored, step: *step, since: facts.now, ..canary.clone() };
            let deployment = Deployment { canary: Some(next), ..with_settings(facts, live) };
            let reason = format!("{} goes to {traffic}: {proof}", canary.model);
            Some(Change { what: What::Advanced, deployment, moves: vec![], reason, verdict: Some(Verdict::Pass) })
        }
        Step::Complete => {
            let reason = format!("{} completed its rollout: {proof}", canary.model);
            let change = swap(facts, canary.model.clone(), What::Completed, reason);
            Some(Change { verdict: Some(Verdict::Pass), ..change })
        }
        Step::Abort(why) => {
            let deployment = Deployment { canary: None, ..with_settings(facts, live) };
            let reason = format!("rollout of {} aborted: {why}; {proof}", canary.model);
            Some(Change { what: What::Aborted, deployment, moves: lost(facts, &canary.model), reason, verdict: Some(Verdict::Fail) })
        }
    }
}

/// What a person's rollback does: a running rollout ends; without one, the version before answers again. The version left is
/// rejected, so that it does not come back by itself. `history` is every stable version that was live, oldest first, each
/// with the reason of its move.
pub fn roll_back(facts: &Facts, history: &[(u64, String)], reason: &str) -> Result<Change, String> {
    let live = facts.live.ok_or_else(|| format!("endpoint `{}` is not deployed", facts.spec.endpoint))?;
    if let Some(canary) = &live.canary {
        let deployment = Deployment { canary: None, ..with_settings(facts, live) };
        let reason = format!("rollback: {reason} (rollout of {} ended by hand)", canary.model);
        return Ok(Change { what: What::RolledBack, deployment, moves: lost(facts, &canary.model), reason, verdict: None });
    }
    let now = live.stable.number;
    let before = previous(history).filter(|n| *n != now);
    let before =
        before.ok_or_else(|| format!("endpoint `{}` never answered with a version before {}", facts.spec.endpoint, live.stable))?;
    let before = VersionRef { asset: live.stable.asset.clone(), number: before };
    let why = format!("rollback: {reason} (from {} to {before})", live.stable);
    let mut change = swap(facts, before, What::RolledBack, why);
    change.moves.extend(lost(facts, &live.stable));
    Ok(change)
}

/// The stable version before the present one, walking back over rollbacks: after 1, 2, 3 and a rollback to 2, it is 1.
pub fn previous(history: &[(u64, String)]) -> Option<u64> {
    let mut stack: Vec<u64> = Vec::new();
    for (number, reason) in history {
        match stack.iter().rposition(|n| n == number) {
            Some(at) if reason.starts_with("rollback") => stack.truncate(at + 1),
            _ if stack.last() == Some(number) => {}
            _ => stack.push(*number),
        }
    }
    stack.pop();
    stack.pop()
}

/// Where an alias stands in the ledger's list.
pub fn alias(states: &[AliasState], alias: AliasName) -> Option<u64> {
    states.iter().find(|s| s.alias == alias).and_then(|s| s.number)
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
