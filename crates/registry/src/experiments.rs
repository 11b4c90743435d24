//! Experiments: the `train` runs of a model, ordered.

use gristmill_kernel::AssetKind;
use gristmill_kernel::port::{Ports, RunFilter};
use gristmill_kernel::run::{Run, RunStatus};
use gristmill_kernel::{Address, Name, Result, StageKind};
use std::cmp::Ordering;

/// How experiments are ordered.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Order {
    /// The newest first.
    #[default]
    Newest,
    /// The highest value of a metric first; runs without it last.
    Highest(String),
    /// The lowest value of a metric first; runs without it last.
    Lowest(String),
}

/// One experiment: a run of stage `train`. In the API of MLflow it is a run.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct Experiment {
    /// The model.
    pub model: Address,
    /// The run.
    pub run: Run,
}

/// The train runs of a model, or of all models, in order; at most `limit` (0 means 1000).
pub async fn experiments(ports: &Ports, model: Option<&Name>, order: &Order, limit: usize) -> Result<Vec<Experiment>> {
    let limit = if limit == 0 { 1000 } else { limit };
    let filter = RunFilter {
        stages: vec![StageKind::Train],
        address: model.map(|m| Address::new(AssetKind::Models, m.clone())),
        // A metric's best run may be old: the whole list is ordered before it is cut.
        limit: if *order == Order::Newest { limit } else { usize::MAX >> 1 },
        ..RunFilter::default()
    };
    let mut runs = ports.ledger.runs(&filter).await?;
    sort(&mut runs, order);
    runs.truncate(limit);
    Ok(runs.into_iter().map(|run| Experiment { model: run.address.clone(), run }).collect())
}

/// Orders runs that come newest first. A skipped run measured nothing of its own and stands behind those that did.
fn sort(runs: &mut [Run], order: &Order) {
    let (key, sign) = match order {
        Order::Newest => return,
        Order::Highest(key) => (key, -1.0),
        Order::Lowest(key) => (key, 1.0),
    };
    let value = |run: &Run| run.metrics.get(key).copied().filter(|v| !v.is_nan() && run.status != RunStatus::Skipped);
    runs.sort_by(|a, b| match (value(a), value(b)) {
        (Some(a), Some(b)) => (a * sign).total_cmp(&(b * sign)),
        (Some(_), None) => Ordering::Less,
        (None, Some(_)) => Ordering::Greater,
        (None, None) => Ordering::Equal,
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::tests::run;

    #[test]
    fn the_best_comes_first_and_the_unmeasured_last() {
        let mut runs = vec![
            run(&[("auc", 0.7)], &[]),
            run(&[], &[]),
            run(&[("auc", f64::NAN)], &[]),
            run(&[("auc", 0.9)], &[]),
            run(&[("auc", 0.8)], &[]),
        ];
        let values = |runs: &[Run]| runs.iter().map(|r| r.metrics.get("auc").copied().filter(|v| !v.is_nan())).collect::<Vec<_>>();
        sort(&mut runs, &Order::Highest("auc".into()));
        assert_eq!(values(&runs), [Some(0.9), Some(0.8), Some(0.7), None, None]);
        sort(&mut runs, &Order::Lowest("auc".into()));
        assert_eq!(values(&runs), [Some(0.7), Some(0.8), Some(0.9), None, None]);
    }
}
