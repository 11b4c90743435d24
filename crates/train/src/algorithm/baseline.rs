//! `baseline`: the prior, whatever the row says. What any model must beat.
//!
//! Classification answers the class frequencies of the training rows, regression their mean, ranking 0: scikit-learn's `DummyClassifier(strategy="prior")`
//! and `DummyRegressor(strategy="mean")`.

use super::params::Params;
use super::{Algorithm, Effort, Fitted};
use crate::sample::Sample;
use gristmill_kernel::Result;
use gristmill_kernel::model::{Body, Linear, Link, Task};

/// The entry in the list of algorithms.
pub const ALGORITHM: Algorithm = Algorithm {
    name: "baseline",
    about: "the frequency of each class or the mean, whatever the row says",
    tasks: &[Task::Binary, Task::Multiclass, Task::Regression, Task::Ranking],
    weighs: true,
    params: &[],
    hints: &[],
    fit,
};

fn fit(sample: &Sample, _: &Params, _: &Effort) -> Result<Fitted> {
    let weight = |row: usize| sample.weight.as_ref().map_or(1.0, |w| w[row]);
    let rows = sample.y.len() as f64;
    // Identity keeps the frequencies to the bit; a logit would round them.
    let answer = match sample.task {
        Task::Regression => vec![sample.y.iter().sum::<f64>() / rows],
        Task::Ranking => vec![0.0],
        Task::Binary | Task::Multiclass => {
            let mut mass = vec![0.0; sample.classes];
            sample.y.iter().enumerate().for_each(|(row, class)| mass[*class as usize] += weight(row));
            let total: f64 = mass.iter().sum();
            mass.iter_mut().for_each(|m| *m /= total);
            if sample.task == Task::Binary { vec![mass[1]] } else { mass }
        }
    };
    let linear = Linear { inputs: vec![], weights: vec![vec![]; answer.len()], intercept: answer, link: Link::Identity };
    Ok(Fitted { body: Body::Linear(linear), importance: vec![], size: "the prior".into() })
}
