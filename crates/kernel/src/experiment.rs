//! Experiments: two versions of a model answer side by side, and what happened afterwards says which one is better.
//!
//! `monitor` counts what happened to whom ([`Experiment`], written with its run), `deploy` decides by it, and whoever shows it compares it in the
//! same way ([`Experiment::compare`]). The unit is the entity: an entity is answered by one version for the whole experiment, and however
//! often it asks, it counts once, with the mean of its values.
//!
//! The comparison may be looked at as often as one likes. Its interval is a confidence sequence: with the chance `confidence` it contains the
//! true difference *at every look at once*, so an experiment may end at the first look that is clear
//! (Robbins' normal mixture, <https://doi.org/10.1214/aoms/1177696786>; for the difference of two means with estimated variances
//! <https://doi.org/10.1287/opre.2021.2135>, and why that is right for values of any distribution in the limit:
//! <https://doi.org/10.1214/24-AOS2408>).

use crate::prediction::Deployment;
use crate::run::{Metric, Run};
use crate::{Name, Timestamp, VersionRef};
use std::collections::BTreeMap;

/// What decides an experiment.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Decide {
    /// What is compared.
    pub by: Measure,
    /// The label set that says what happened.
    pub labels: Name,
    /// How sure a decision must be, in per mille.
    pub confidence: u32,
    /// Entities with a known outcome that are needed on either side.
    pub at_least: u64,
}

impl std::fmt::Display for Decide {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.by {
            Measure::More => write!(f, "more {}", self.labels),
            Measure::Less => write!(f, "less {}", self.labels),
            by => f.write_str(by.as_str()),
        }
    }
}

/// What is compared of what happened. The word is what people write, `more` and `less` with a label set behind them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Measure {
    /// What happened, as a number (true is 1), and more of it is better.
    More,
    /// What happened, and less of it is better.
    Less,
    /// The share of right predictions.
    Accuracy,
    /// The negative logarithm of the probability that was given to what happened; less is better.
    Logloss,
    /// The distance from what happened; less is better.
    Mae,
    /// Its square; less is better.
    Mse,
}

impl Measure {
    /// Those that compare predictions with what happened.
    pub const OF_PREDICTIONS: [Measure; 4] = [Measure::Accuracy, Measure::Logloss, Measure::Mae, Measure::Mse];

    /// The word.
    pub fn as_str(self) -> &'static str {
        match self {
            Measure::More => "more",
            Measure::Less => "less",
            Measure::Accuracy => "accuracy",
            Measure::Logloss => "logloss",
            Measure::Mae => "mae",
            Measure::Mse => "mse",
        }
    }
    /// Whether a larger mean is better.
    pub fn more_is_better(self) -> bool {
        matches!(self, Measure::More | Measure::Accuracy)
    }
    /// The value of one prediction. `outcome` is 1 or 0 for a class, or a value.
    pub fn of(self, score: f64, outcome: f64) -> f64 {
        match self {
            Measure::More | Measure::Less => outcome,
            Measure::Accuracy => f64::from(u8::from((score > 0.5) == (outcome > 0.5))),
            Measure::Logloss => {
                let p = score.clamp(f64::EPSILON, 1.0 - f64::EPSILON);
                if outcome > 0.5 { -p.ln() } else { -(1.0 - p).ln() }
            }
            Measure::Mae => (score - outcome).abs(),
            Measure::Mse => (score - outcome).powi(2),
        }
    }
}

/// The values of one version's entities.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Values {
    /// Entities with a known outcome.
    pub entities: u64,
    /// The mean of their values.
    pub mean: f64,
    /// The variance of their values (divided by one less than their number); 0 for fewer than two.
    pub variance: f64,
}

impl Values {
    /// Of the values themselves, by Welford's recurrence (<https://doi.org/10.1080/00401706.1962.10490022>).
    pub fn of(values: impl Iterator<Item = f64>) -> Values {
        let (mut entities, mut mean, mut squares) = (0u64, 0.0, 0.0);
        for value in values {
            entities += 1;
            let delta = value - mean;
            mean += delta / entities as f64;
            squares += delta * (value - mean);
        }
        Values { entities, mean, variance: if entities > 1 { squares / (entities - 1) as f64 } else { 0.0 } }
    }
}

/// An experiment.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Tried {
    /// When it began: an experiment of the same versions that began at another moment is another one.
    pub began_at: Timestamp,
    /// The version that answers the others.
    pub stable: VersionRef,
    /// The version on trial.
    pub trial: VersionRef,
    /// What decides.
    pub decide: Decide,
}

impl Tried {
    /// The experiment that a deployment is in.
    pub fn of(deployment: &Deployment, decide: &Decide) -> Option<Tried> {
        let canary = deployment.canary.as_ref().filter(|canary| canary.permille > 0)?;
        // Before its phase began, while the version may have stood by, it could answer nobody.
        Some(Tried { began_at: canary.since, stable: deployment.stable.clone(), trial: canary.model.clone(), decide: decide.clone() })
    }
}

/// What is known of an experiment.
#[derive(Debug, Clone, PartialEq)]
pub struct Experiment {
    /// Which one.
    pub tried: Tried,
    /// What happened to the entities that `stable` answered.
    pub of_stable: Values,
    /// And to those that `trial` answered.
    pub of_trial: Values,
}

/// The parameter of a monitor's run that says which experiment its metrics are about, and what those begin with.
const EXPERIMENT: &str = "experiment";

impl Experiment {
    /// The parameters and metrics of the run that counted it.
    pub fn written(&self) -> (BTreeMap<String, String>, Vec<Metric>) {
        let params = serde_json::to_string(&self.tried).map(|text| (EXPERIMENT.to_owned(), text)).into_iter().collect();
        let metric = |key: &str, value: f64| Metric::new(format!("{EXPERIMENT}.{key}"), value);
        let mut metrics = Vec::new();
        for (name, values) in [("stable", &self.of_stable), ("trial", &self.of_trial)] {
            let of = [("entities", values.entities as f64), ("mean", values.mean), ("variance", values.variance)];
            metrics.extend(of.map(|(key, value)| metric(&format!("{name}.{key}"), value)));
        }
        if let Ok(compared) = self.compare() {
            metrics.extend(
                [("difference", compared.difference), ("low", compared.low), ("high", compared.high)]
                    .map(|(key, value)| metric(key, value)),
            );
        }
        (params, metrics)
    }
    /// What a run counted; `None` if that was not for the experiment that the deployment is in.
    pub fn read(run: &Run, deployment: &Deployment) -> Option<Experiment> {
        let tried: Tried = serde_json::from_str(run.params.get(EXPERIMENT)?).ok()?;
        if Tried::of(deployment, &tried.decide)? != tried {
            return None;
        }
        let arm = |name: &str| {
            let of = |key: &str| run.metrics.get(&format!("{EXPERIMENT}.{name}.{key}")).copied();
            Some(Values { entities: of("entities")? as u64, mean: of("mean")?, variance: of("variance")? })
        };
        Some(Experiment { tried, of_stable: arm("stable")?, of_trial: arm("trial")? })
    }

    /// The comparison. `Err` says what is lacking.
    ///
    /// With V the variance of the difference D of the means, D ± sqrt(2 V (V + t) / t * ln(sqrt((V + t) / V) / (1 - confidence))). Any t > 0 is
    /// valid; here the interval is narrowest at about ten times `at_least` entities.
    pub fn compare(&self) -> Result<Comparison, String> {
        let Tried { stable, trial, decide, .. } = &self.tried;
        let needed = decide.at_least.max(2);
        for (version, values) in [(stable, &self.of_stable), (trial, &self.of_trial)] {
            if values.entities < needed {
                return Err(format!("the outcome of {} of {needed} entities that {version} answered is known", values.entities));
            }
        }
        let difference = self.of_trial.mean - self.of_stable.mean;
        let of = |entities: [u64; 2]| self.of_stable.variance / entities[0] as f64 + self.of_trial.variance / entities[1] as f64;
        let variance = of([self.of_stable.entities, self.of_trial.entities]);
        if variance <= 0.0 {
            // Nothing varies: no sample says more than that.
            return if difference == 0.0 {
                Err("every entity had the same value".into())
            } else {
                Err("no value varies on either side".into())
            };
        }
        let wrong = 1.0 - f64::from(decide.confidence) / 1_000.0;
        let log = -2.0 * wrong.ln();
        let t = of([NARROWEST * needed; 2]) * (log + (log + 1.0).ln());
        let width = (2.0 * variance * (variance + t) / t * (((variance + t) / variance).sqrt() / wrong).ln()).sqrt();
        Ok(Comparison { difference, low: difference - width, high: difference + width, more_is_better: decide.by.more_is_better() })
    }
}

/// Where an interval is narrowest, in entities of an arm per entity that is needed at least.
const NARROWEST: u64 = 10;

/// How the version on trial compares.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Comparison {
    /// Its mean less the other's.
    pub difference: f64,
    /// The interval of the difference.
    pub low: f64,
    /// Its upper end.
    pub high: f64,
    more_is_better: bool,
}

impl Comparison {
    /// Whether the version on trial is better, as far as is sure; `None` while the interval contains 0.
    pub fn is_better(&self) -> Option<bool> {
        let more = (self.low > 0.0).then_some(true).or((self.high < 0.0).then_some(false))?;
        Some(more == self.more_is_better)
    }
}

impl std::fmt::Display for Comparison {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "difference {:+.4}, between {:+.4} and {:+.4}", self.difference, self.low, self.high)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decide(by: Measure) -> Decide {
        Decide { by, labels: Name::new("churned").expect("a name"), confidence: 950, at_least: 100 }
    }
    fn experiment(of_stable: Values, of_trial: Values) -> Experiment {
        let version = |number| VersionRef { asset: "models.churn".parse().expect("an address"), number };
        let (stable, trial) = (version(1), version(2));
        let tried = Tried { began_at: Timestamp::from_micros(7), stable, trial, decide: decide(Measure::More) };
        Experiment { tried, of_stable, of_trial }
    }
    fn share(entities: u64, mean: f64) -> Values {
        Values { entities, mean, variance: mean * (1.0 - mean) }
    }
    /// A small generator, the same on every machine (<https://prng.di.unimi.it/splitmix64.c>).
    fn random(state: &mut u64) -> f64 {
        *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = *state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    }
    /// The first look at which it is clear, of one look per hundred entities, and what it said.
    fn first_clear(chance: [f64; 2], entities: usize, seed: &mut u64) -> Option<bool> {
        let mut values = [Vec::new(), Vec::new()];
        for _ in 0..entities / 100 {
            for (values, chance) in values.iter_mut().zip(chance) {
                values.extend((0..100).map(|_| f64::from(u8::from(random(seed) < chance))));
            }
            let of = |values: &Vec<f64>| Values::of(values.iter().copied());
            if let Ok(comparison) = experiment(of(&values[0]), of(&values[1])).compare()
                && let Some(better) = comparison.is_better()
            {
                return Some(better);
            }
        }
        None
    }

    #[test]
    fn a_look_at_every_hundred_entities_is_fooled_no_more_often_than_said() {
        let mut seed = 1;
        let fooled = (0..200).filter(|_| first_clear([0.2, 0.2], 5_000, &mut seed).is_some()).count();
        assert!(fooled <= 10, "{fooled} of 200 experiments of equal versions were decided, at most 5 % may be");
        // Looking fifty times at an interval for one look is fooled far more often: what this is for.
        let naive = |seed: &mut u64| {
            let mut sums = [0.0; 2];
            (1..=50u32).any(|look| {
                for sum in &mut sums {
                    *sum += (0..100).map(|_| f64::from(u8::from(random(seed) < 0.2))).sum::<f64>();
                }
                let n = f64::from(look) * 100.0;
                let of = |sum: f64| (sum / n) * (1.0 - sum / n) / n;
                ((sums[0] - sums[1]) / n).abs() > 1.96 * (of(sums[0]) + of(sums[1])).sqrt()
            })
        };
        let fooled = (0..200).filter(|_| naive(&mut seed)).count();
        assert!(fooled > 40, "{fooled}");
    }

    #[test]
    fn a_true_difference_is_found_and_its_direction_is_right() {
        let mut seed = 2;
        for (chance, better) in [([0.2, 0.25], true), ([0.25, 0.2], false)] {
            let found: Vec<bool> = (0..40).filter_map(|_| first_clear(chance, 10_000, &mut seed)).collect();
            assert!(found.len() >= 38 && found.iter().all(|found| *found == better), "{chance:?}: {found:?}");
        }
    }

    #[test]
    fn less_can_be_better_and_too_few_decide_nothing() {
        let clear = experiment(share(5_000, 0.2), share(5_000, 0.3));
        assert_eq!(clear.compare().map(|c| c.is_better()), Ok(Some(true)));
        let deciding = |decide| Experiment { tried: Tried { decide, ..clear.tried.clone() }, ..clear.clone() };
        let less = deciding(decide(Measure::Less));
        assert_eq!(less.compare().map(|c| c.is_better()), Ok(Some(false)));
        let lacking = experiment(share(5_000, 0.2), share(99, 0.3)).compare().expect_err("too few");
        assert_eq!(lacking, "the outcome of 99 of 100 entities that models.churn@2 answered is known");
        assert!(experiment(share(500, 0.0), share(500, 0.0)).compare().is_err(), "nothing varies");
        let wide =
            |confidence| deciding(Decide { confidence, ..decide(Measure::More) }).compare().map(|c| c.high - c.low).expect("compares");
        assert!(wide(990) > wide(950));
    }

    #[test]
    fn values_are_those_of_the_textbook() {
        let values = Values::of([2.0, 4.0, 4.0, 4.0, 5.0, 5.0, 7.0, 9.0].into_iter());
        assert_eq!((values.entities, values.mean), (8, 5.0));
        assert!((values.variance - 32.0 / 7.0).abs() < 1e-12, "{values:?}");
        assert_eq!(Values::of(std::iter::once(3.0)), Values { entities: 1, mean: 3.0, variance: 0.0 });
        assert_eq!(Measure::Logloss.of(0.5, 1.0), std::f64::consts::LN_2);
        assert_eq!((Measure::Accuracy.of(0.9, 0.0), Measure::Mae.of(3.0, 1.0), Measure::Mse.of(3.0, 1.0)), (0.0, 2.0, 4.0));
        assert_eq!([Measure::Less, Measure::Mae].map(|by| decide(by).to_string()), ["less churned", "mae"]);
    }
}
