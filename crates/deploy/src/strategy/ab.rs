//! Two versions side by side: each entity is answered by one of them, and what happened to whom decides ([`gristmill_kernel::experiment`]).

use super::{Phase, Step, Traffic};
use crate::spec::Trial;
use gristmill_kernel::experiment::Experiment;
use gristmill_kernel::prediction::Canary;
use gristmill_kernel::{Span, Timestamp};

/// One phase: the share does not grow while it is decided.
pub fn phases(trial: &Trial) -> Vec<Phase> {
    vec![Phase { traffic: Traffic::Share(trial.share), lasts: trial.after }]
}

/// What the outcomes say: `None` if they let the version on trial take over. A worse one goes as soon as that is sure, a better one wins when
/// the experiment has lasted its time: a day of the week may not decide.
pub fn decided(trial: &Trial, patience: Span, canary: &Canary, seen: Option<&Experiment>, now: Timestamp) -> Option<Step> {
    let lasted = now.since(canary.since);
    let compared = match seen {
        None => Err("no outcome has been counted yet".to_owned()),
        Some(seen) => seen.compare(),
    };
    let undecided = match compared {
        Err(lacking) => lacking,
        Ok(comparison) => match comparison.is_better() {
            Some(false) => return Some(Step::Abort(format!("it is worse by {}: {comparison}", trial.decide))),
            Some(true) if lasted >= trial.after => return None,
            Some(true) => return Some(Step::Hold(format!("better by {} after {lasted} of {}: {comparison}", trial.decide, trial.after))),
            None => format!("neither version is surely better by {}: {comparison}", trial.decide),
        },
    };
    Some(if lasted >= patience.max(trial.after) {
        Step::Pause(format!("{undecided}, after {lasted}"))
    } else {
        Step::Hold(format!("{undecided}, after {lasted}"))
    })
}

/// The figures behind a decision, for people and for the run that records it.
pub fn told(seen: &Experiment) -> String {
    let compared = seen.compare().map_or_else(|lacking| lacking, |c| c.to_string());
    let (a, b) = (seen.of_stable, seen.of_trial);
    format!("{} {:.4} of {} entities against {:.4} of {}, {compared}", seen.tried.decide, b.mean, b.entities, a.mean, a.entities)
}

#[cfg(test)]
mod tests {
    use super::*;
    use gristmill_kernel::experiment::{Decide, Measure, Tried, Values};
    use gristmill_kernel::{Name, VersionRef};

    const DAY: Span = Span::from_secs(86_400);

    fn version(number: u64) -> VersionRef {
        VersionRef { asset: "models.churn".parse().expect("an address"), number }
    }
    fn less() -> Decide {
        Decide { by: Measure::Less, labels: Name::new("churned").expect("a name"), confidence: 950, at_least: 100 }
    }
    fn seen(stable: (u64, f64), trial: (u64, f64)) -> Experiment {
        let values = |(entities, mean): (u64, f64)| Values { entities, mean, variance: mean * (1.0 - mean) };
        let (of_stable, of_trial) = (values(stable), values(trial));
        let tried = Tried { began_at: Timestamp::from_micros(0), stable: version(1), trial: version(2), decide: less() };
        Experiment { tried, of_stable, of_trial }
    }
    fn after(days: i64, seen: Option<&Experiment>) -> Option<Step> {
        let trial = Trial { share: 500, decide: less(), after: Span::from_secs(7 * 86_400) };
        let began = Timestamp::from_micros(0);
        let canary = Canary { model: version(2), permille: 500, mirrored: 0, step: 0, began_at: began, since: began };
        decided(&trial, DAY, &canary, seen, Timestamp::from_micros(days * DAY.micros()))
    }

    #[test]
    fn a_worse_version_goes_at_once_and_a_better_one_waits_for_the_end() {
        let (worse, better) = (seen((5_000, 0.20), (5_000, 0.30)), seen((5_000, 0.30), (5_000, 0.20)));
        assert!(matches!(after(1, Some(&worse)), Some(Step::Abort(why)) if why.contains("worse by less churned")));
        assert!(matches!(after(6, Some(&better)), Some(Step::Hold(why)) if why.contains("better")));
        assert_eq!(after(7, Some(&better)), None, "it takes over");
    }

    #[test]
    fn what_is_not_sure_goes_on_and_says_so_after_its_time() {
        let equal = seen((5_000, 0.20), (5_000, 0.201));
        assert!(matches!(after(6, Some(&equal)), Some(Step::Hold(why)) if why.contains("neither")));
        assert!(matches!(after(7, Some(&equal)), Some(Step::Pause(_))));
        assert!(matches!(after(7, None), Some(Step::Pause(why)) if why.contains("no outcome")));
        let few = seen((5_000, 0.20), (99, 0.9));
        assert!(matches!(after(1, Some(&few)), Some(Step::Hold(why)) if why.contains("99 of 100")));
    }
}
