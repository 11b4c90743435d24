//! Experiments, datasets and logged models, and what tracking knows of runs.

use super::points::Num;
use crate::tracked::{self, DEFAULT_EXPERIMENT};
use gristmill_kernel::run::NewRun;
use gristmill_kernel::tracking::{Dataset, DatasetInput, DatasetKey, Experiment, ExperimentId, Lifecycle, LoggedModel, ModelUse, Point};
use gristmill_kernel::{Result, RunId, Timestamp};
use std::collections::{BTreeMap, BTreeSet};

/// What tracking knows of a run besides the run.
#[derive(Debug, Clone)]
pub(in super::super) struct Tracked {
    pub(super) experiment: ExperimentId,
    pub(super) name: String,
    pub(super) user: String,
    pub(in super::super) by_client: bool,
    pub(super) deleted_at: Option<Timestamp>,
    pub(super) datasets: Vec<DatasetInput>,
    pub(super) inputs: Vec<ModelUse>,
    pub(super) outputs: Vec<ModelUse>,
}

#[derive(Debug, Clone)]
pub(super) struct KeptModel {
    pub(super) model: LoggedModel,
    pub(super) deleted_at: Option<Timestamp>,
    /// By name, step, moment, run, value and dataset.
    pub(super) points: BTreeSet<(String, i64, i64, String, Num, String, String)>,
}

impl KeptModel {
    pub(super) fn whole(&self) -> LoggedModel {
        let metrics = self.points.iter().map(|(key, step, at, run, value, name, digest)| {
            let point = Point {
                key: key.clone(),
                value: value.value(),
                at: Timestamp::from_micros(*at),
                step: *step,
                model: Some(self.model.id.clone()),
                dataset: (!name.is_empty()).then(|| DatasetKey { name: name.clone(), digest: digest.clone() }),
            };
            (point, RunId(run.clone()))
        });
        LoggedModel { lifecycle: lifecycle(self.deleted_at), metrics: metrics.collect(), ..self.model.clone() }
    }
}

pub(super) fn lifecycle(deleted_at: Option<Timestamp>) -> Lifecycle {
    if deleted_at.is_some() { Lifecycle::Deleted } else { Lifecycle::Active }
}

/// Experiments, datasets and logged models.
#[derive(Debug, Clone)]
pub(in super::super) struct TrackingState {
    pub(super) experiments: BTreeMap<ExperimentId, (Experiment, Option<Timestamp>)>,
    last: u64,
    pub(super) datasets: BTreeMap<(ExperimentId, DatasetKey), Dataset>,
    pub(super) models: BTreeMap<String, KeptModel>,
}

impl TrackingState {
    pub(in super::super) fn new(now: Timestamp) -> TrackingState {
        let mut state = TrackingState { experiments: BTreeMap::new(), last: 0, datasets: BTreeMap::new(), models: BTreeMap::new() };
        state.insert(ExperimentId(0), DEFAULT_EXPERIMENT.into(), None, None, BTreeMap::new(), now);
        state
    }

    pub(super) fn insert(
        &mut self,
        id: ExperimentId,
        name: String,
        address: Option<gristmill_kernel::Address>,
        location: Option<&str>,
        tags: BTreeMap<String, String>,
        now: Timestamp,
    ) -> &Experiment {
        let experiment = Experiment {
            id,
            name,
            address,
            artifact_location: location.map_or_else(|| tracked::artifact_location(id), str::to_owned),
            lifecycle: Lifecycle::Active,
            created_at: now,
            updated_at: now,
            tags,
        };
        &self.experiments.entry(id).or_insert((experiment, None)).0
    }

    pub(super) fn next(&mut self) -> ExperimentId {
        self.last += 1;
        ExperimentId(self.last)
    }

    pub(super) fn by_name(&self, name: &str) -> Option<Experiment> {
        self.experiments.values().find(|(e, _)| e.name == name).map(|(e, _)| e.clone())
    }

    pub(super) fn must(&self, id: ExperimentId) -> Result<&Experiment> {
        self.experiments.get(&id).map(|(e, _)| e).ok_or_else(|| tracked::unknown_experiment(id))
    }

    pub(super) fn must_be_active(&self, id: ExperimentId) -> Result<&Experiment> {
        let experiment = self.must(id)?;
        match experiment.lifecycle {
            Lifecycle::Active => Ok(experiment),
            Lifecycle::Deleted => Err(tracked::experiment_deleted(id)),
        }
    }

    pub(super) fn change(&mut self, id: ExperimentId, now: Timestamp, change: impl FnOnce(&mut Experiment, &mut Option<Timestamp>)) {
        if let Some((experiment, deleted_at)) = self.experiments.get_mut(&id) {
            change(experiment, deleted_at);
            experiment.lifecycle = lifecycle(*deleted_at);
            experiment.updated_at = now;
        }
    }

    /// Our own run joins the experiment of its asset.
    pub(in super::super) fn join(&mut self, run: &NewRun, now: Timestamp) -> Result<Tracked> {
        let of_asset = self.experiments.values().map(|(e, _)| e).find(|e| e.address.as_ref() == Some(&run.address)).cloned();
        let known = of_asset.or_else(|| self.by_name(run.address.name.as_str()).filter(|e| e.address.is_none()));
        let experiment = match known {
            Some(known) => {
                if known.address.is_none() || known.lifecycle == Lifecycle::Deleted {
                    self.change(known.id, now, |experiment, deleted_at| {
                        experiment.address = Some(run.address.clone());
                        *deleted_at = None;
                    });
                }
                known.id
            }
            None => {
                let free = tracked::experiment_names(&run.address).find(|name| self.by_name(name).is_none());
                let name = free.ok_or_else(|| tracked::experiment_exists(run.address.name.as_str()))?;
                let id = self.next();
                self.insert(id, name, Some(run.address.clone()), None, BTreeMap::new(), now).id
            }
        };
        Ok(Tracked {
            experiment,
            name: tracked::run_name(&run.address, &run.id),
            user: run.actor.0.clone(),
            by_client: false,
            deleted_at: None,
            datasets: Vec::new(),
            inputs: Vec::new(),
            outputs: Vec::new(),
        })
    }

    pub(super) fn model(&mut self, id: &str) -> Result<&mut KeptModel> {
        self.models.get_mut(id).ok_or_else(|| tracked::unknown_model(id))
    }
}
