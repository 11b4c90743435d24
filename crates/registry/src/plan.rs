//! What a gate sees and what follows from it. Pure.

use gristmill_kernel::condition::{Figures, Judged};
use gristmill_kernel::run::Run;
use gristmill_kernel::version::AliasState;
use gristmill_kernel::{AliasName, Check, Verdict, VersionRef};
use std::collections::BTreeMap;

/// The `meta` of a `gates.NAME` version: what the gates said about one model version.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct GateMeta {
    /// Format of this record.
    pub format: u32,
    /// The model version that was judged.
    pub model: VersionRef,
    /// The champion it was compared with.
    pub champion: Option<u64>,
    /// What was concluded.
    pub verdict: Verdict,
    /// The gates, one by one.
    pub checks: Vec<Check>,
    /// The metric that decides, and its value.
    pub measure: String,
    /// Its value; `None` if the run did not measure it.
    pub value: Option<f64>,
}

impl GateMeta {
    /// The format this binary writes and the newest it reads.
    pub const FORMAT: u32 = 1;
}

/// Where the aliases of a model stand, as far as gates care.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Aliases {
    /// `champion`.
    pub champion: Option<u64>,
    /// `challenger`.
    pub challenger: Option<u64>,
    /// `rejected`.
    pub rejected: Option<u64>,
}

impl Aliases {
    /// From the ledger's list.
    pub fn of(states: &[AliasState]) -> Aliases {
        let at = |alias: AliasName| states.iter().find(|s| s.alias == alias).and_then(|s| s.number);
        Aliases { champion: at(AliasName::champion()), challenger: at(AliasName::challenger()), rejected: at(AliasName::rejected()) }
    }
}

const CHAMPION: &str = "champion.";
const WORST: &str = "worst.";

/// The figures a gate may use: the run's metrics, `champion.*` and `worst.*`.
///
/// `champion` is the present champion's number and the metrics of the run that made it. When the judged run measured that very
/// version on its own held-out rows (parameter `champion`), those figures are used, because they are from the same rows;
/// otherwise the champion's own figures stand in. What has no value is there as missing, so that a gate on it is inconclusive.
pub fn figures(run: &Run, champion: Option<(u64, &BTreeMap<String, f64>)>) -> Figures {
    let mut figures = Figures::default();
    let own: Vec<(&String, f64)> = run.metrics.iter().filter(|(k, _)| !k.starts_with(CHAMPION)).map(|(k, v)| (k, *v)).collect();
    for (key, value) in &own {
        figures.number(key.as_str(), *value);
    }
    for (key, _) in own.iter().filter(|(k, _)| !k.contains('.')) {
        for prefix in [CHAMPION, WORST] {
            let name = format!("{prefix}{key}");
            if !figures.0.contains_key(&name) {
                figures.missing(name);
            }
        }
    }
    match champion {
        Some((number, _)) if run.params.get("champion").is_some_and(|p| *p == number.to_string()) => {
            for (key, value) in run.metrics.iter().filter(|(k, _)| k.starts_with(CHAMPION)) {
                figures.number(key.as_str(), *value);
            }
        }
        Some((_, metrics)) => {
            for (key, value) in metrics.iter().filter(|(k, _)| !k.starts_with(CHAMPION)) {
                figures.number(format!("{CHAMPION}{key}"), *value);
            }
        }
        None => {}
    }
    figures
}

/// Whether a condition compares with the champion: it names `champion.` outside of a text in quotes.
pub fn mentions_champion(condition: &str) -> bool {
    let mut in_text = false;
    let mut before = ' ';
    let lower = condition.to_ascii_lowercase();
    for (at, c) in lower.char_indices() {
        if c == '\'' {
            in_text = !in_text;
        } else if !in_text && !before.is_alphanumeric() && before != '_' && before != '.' {
            let rest = lower[at..].strip_prefix("champion").map(|r| r.trim_start_matches(|c: char| c.is_whitespace() || c == '"'));
            if rest.is_some_and(|r| r.starts_with('.')) {
                return true;
            }
        }
        before = c;
    }
    false
}

/// The same figures with every champion figure set to `value`: [`judged_alone`] asks with a very low and a very high champion.
pub fn with_champion_at(figures: &Figures, value: f64) -> Figures {
    let mut all = figures.clone();
    for name in figures.0.keys().filter(|k| k.starts_with(CHAMPION)) {
        all.number(name.clone(), value);
    }
    all
}

/// The check of one gate when there is a champion, or when the gate does not ask about one.
pub fn judged(condition: &str, judged: Judged) -> Check {
    let verdict = match judged.holds {
        Some(true) => Verdict::Pass,
        Some(false) => Verdict::Fail,
        None => Verdict::Inconclusive,
    };
    Check { condition: condition.to_owned(), verdict, observed: judged.observed }
}

/// The check of a gate that mentions the champion when there is none. `without` was judged with the champion's figures missing, `low` and
/// `high` with very small and very large ones. A gate that fails without looking at the champion fails; one that lacks
/// nothing but the champion passes, for the first model; one that lacks something else too is inconclusive.
pub fn judged_alone(condition: &str, without: Judged, low: Option<bool>, high: Option<bool>) -> Check {
    if without.holds.is_some() {
        return judged(condition, without);
    }
    if low.is_none() && high.is_none() {
        return Check { condition: condition.to_owned(), verdict: Verdict::Inconclusive, observed: without.observed };
    }
    Check {
        condition: condition.to_owned(),
        verdict: Verdict::Pass,
        observed: format!("no champion yet: the first model has nobody to beat ({})", without.observed),
    }
}

/// What all gates together say. A model of which nothing is demanded passes.
pub fn verdict(checks: &[Check]) -> Verdict {
    if checks.is_empty() { Verdict::Pass } else { Verdict::worst(checks.iter().map(|c| c.verdict)) }
}

/// What happens to the aliases after a verdict.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The alias moves, for this reason.
    Move {
        /// Where it stands now.
        from: Option<u64>,
        /// Why it moves.
        reason: String,
    },
    /// Nothing moves, for this reason.
    Stay(String),
}

/// Whether `promote_to` moves to `number`.
pub fn outcome(number: u64, promote_to: &AliasName, aliases: Aliases, verdict: Verdict, checks: &[Check]) -> Outcome {
    if verdict != Verdict::Pass {
        return Outcome::Stay(format!("gates {}: {}", verdict_word(verdict), reasons(checks, |c| c.verdict != Verdict::Pass)));
    }
    if aliases.champion == Some(number) {
        return Outcome::Stay("it is the champion already".into());
    }
    let from = if *promote_to == AliasName::champion() { aliases.champion } else { aliases.challenger };
    if from == Some(number) {
        return Outcome::Stay(format!("it is the {promote_to} already"));
    }
    if aliases.rejected == Some(number) {
        return Outcome::Stay("it was rejected before; promote it by hand to try it again".into());
    }
    let demanded = if checks.is_empty() { "no gates demanded".to_owned() } else { reasons(checks, |_| true) };
    Outcome::Move { from, reason: format!("gates passed: {demanded}") }
}

fn verdict_word(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Fail => "failed",
        Verdict::Inconclusive => "inconclusive",
        Verdict::Pass => "passed",
        Verdict::Warn => "warned",
    }
}

fn reasons(checks: &[Check], keep: impl Fn(&Check) -> bool) -> String {
    checks.iter().filter(|c| keep(c)).map(|c| format!("{} ({})", c.condition, c.observed)).collect::<Vec<_>>().join("; ")
}

/// The version an alias named before, walking back over rollbacks: after 1, 2, 3 and a rollback to 2, the previous one is 1.
/// `history` is newest first, as the ledger gives it. A move is a rollback when its reason starts with `rollback`.
pub fn previous(history: &[AliasState]) -> Option<u64> {
    let mut stack: Vec<u64> = Vec::new();
    for state in history.iter().rev() {
        let Some(number) = state.number else { continue };
        match stack.iter().rposition(|n| *n == number) {
            Some(at) if state.reason.starts_with("rollback") => stack.truncate(at + 1),
            _ if stack.last() == Some(&number) => {}
            _ => stack.push(number),
        }
    }
    stack.pop();
    stack.pop()
}

#[cfg(test)]
#[path = "plan_tests.rs"]
pub(crate) mod tests;
