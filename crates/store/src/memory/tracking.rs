//! Experiment tracking in memory: the plainest thing that keeps the promises, which the database is compared with.
//!
//! Writes check first and change then, so they need no copy of the state.

mod points;
mod state;

pub(super) use points::Points;
pub(super) use state::{Tracked, TrackingState};

use super::MemoryLedger;
use super::ledger::{Entry, State};
use crate::tracked::fields::{ExperimentFields, ModelFields, Ordered, RunFields, Searched, checked, compare};
use crate::tracked::thin::Thinned;
use crate::tracked::{self, CONTEXT_TAG, Changed, DATASETS_TOLD_MAX, RUN_NAME_TAG, story};
use async_trait::async_trait;
use gristmill_kernel::port::Tracking;
use gristmill_kernel::tracking::{
    Batch, Dataset, DatasetInput, DatasetKey, Experiment, ExperimentId, HistoryWanted, Lifecycle, LoggedModel, LoggedModelStatus, ModelUse,
    NewTrackedRun, Page, Point, Purged, RunUpdate, Search, TrackedRun, ViewType,
};
use gristmill_kernel::{Actor, Digest, Fault, Result, Run, RunId, RunStatus, StageKind, Timestamp};
use points::Num;
use state::{KeptModel, lifecycle};
use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

fn whole(entry: &Entry) -> Option<TrackedRun> {
    let tracked = entry.tracked.as_ref()?;
    let run = &entry.run;
    Some(TrackedRun {
        id: run.id.clone(),
        experiment: tracked.experiment,
        name: tracked.name.clone(),
        user: tracked.user.clone(),
        status: run.status,
        lifecycle: lifecycle(tracked.deleted_at),
        started_at: run.started_at,
        ended_at: run.ended_at,
        params: run.params.clone(),
        metrics: entry.points.latest.values().cloned().collect(),
        tags: run.tags.clone(),
        datasets: tracked.datasets.clone(),
        model_inputs: tracked.inputs.clone(),
        model_outputs: tracked.outputs.clone(),
    })
}

/// What may go for good.
struct Purgeable {
    runs: Vec<Run>,
    models: Vec<LoggedModel>,
    experiments: Vec<Experiment>,
    kept: u64,
}

impl Purgeable {
    fn counts(&self) -> Purged {
        let Purgeable { runs, models, experiments, kept } = self;
        Purged { runs: runs.len() as u64, logged_models: models.len() as u64, experiments: experiments.len() as u64, kept: *kept }
    }
}

impl State {
    /// What was deleted early enough and is behind no registered version.
    fn purgeable(&self, before: Timestamp) -> Purgeable {
        let due = |deleted_at: Option<Timestamp>| deleted_at.is_some_and(|at| at <= before);
        let runs = self.runs.iter().filter(|e| e.tracked.as_ref().is_some_and(|t| t.by_client && due(t.deleted_at)));
        let (held, runs): (Vec<Run>, Vec<Run>) = runs.map(|e| e.run.clone()).partition(|r| self.registry.holds(Some(&r.id), None));
        let mut kept = held.len() as u64;
        let models = self.tracking.models.values().filter(|m| due(m.deleted_at)).map(KeptModel::whole);
        let (held, models): (Vec<LoggedModel>, Vec<LoggedModel>) = models.partition(|m| self.registry.holds(None, Some(&m.id)));
        kept += held.len() as u64;
        let stays = |id: ExperimentId| {
            let run_stays = |e: &Entry| e.tracked.as_ref().is_some_and(|t| t.experiment == id) && !runs.iter().any(|r| r.id == e.run.id);
            let model_stays = |m: &KeptModel| m.model.experiment == id && !models.iter().any(|gone| gone.id == m.model.id);
            self.runs.iter().any(run_stays) || self.tracking.models.values().any(model_stays)
        };
        let experiments = self.tracking.experiments.values().filter(|(e, deleted_at)| e.id.0 != 0 && due(*deleted_at) && !stays(e.id));
        let experiments = experiments.map(|(e, _)| e.clone()).collect();
        Purgeable { runs, models, experiments, kept }
    }

    fn tracked(&mut self, id: &RunId) -> Result<(&mut Run, &mut Points, &mut Tracked)> {
        let entry = self.at.get(id).map(|at| &mut self.runs[*at]);
        match entry {
            Some(Entry { run, points, tracked: Some(tracked), .. }) => Ok((run, points, tracked)),
            _ => Err(tracked::unknown_run(id)),
        }
    }
    fn active(&mut self, id: &RunId) -> Result<(&mut Run, &mut Points, &mut Tracked)> {
        let found = self.tracked(id)?;
        if found.2.deleted_at.is_some() {
            return Err(tracked::run_deleted(id));
        }
        Ok(found)
    }
    /// Refuses what only an open run takes, if it is ours.
    fn open(&mut self, id: &RunId) -> Result<(&mut Run, &mut Points, &mut Tracked)> {
        let found = self.active(id)?;
        if !found.2.by_client && found.0.status.is_final() {
            return Err(tracked::our_run_ended(id));
        }
        Ok(found)
    }

    fn log(&mut self, id: &RunId, batch: Batch) -> Result<()> {
        let (run, _, _) = if tracked::needs_open(&batch) { self.open(id)? } else { self.active(id)? };
        let (mut fresh, mut changed): (BTreeMap<String, String>, Vec<Changed>) = Default::default();
        for (key, new) in &batch.params {
            match run.params.get(key).or_else(|| fresh.get(key)) {
                Some(old) if old != new => changed.push(Changed { key: key.clone(), old: old.clone(), new: new.clone() }),
                Some(_) => {}
                None => {
                    fresh.insert(key.clone(), new.clone());
                }
            }
        }
        if let Some(unknown) =
            batch.metrics.iter().filter_map(|p| p.model.as_ref()).find(|model| !self.tracking.models.contains_key(*model))
        {
            return Err(tracked::unknown_model(unknown));
        }
        if !changed.is_empty() {
            let alone = batch.params.len() == 1 && batch.metrics.is_empty() && batch.tags.is_empty();
            return Err(tracked::params_changed(id, &changed, alone));
        }
        for point in &batch.metrics {
            if let Some(model) = &point.model {
                let on = point.dataset.clone();
                let (name, digest) = on.map(|on| (on.name, on.digest)).unwrap_or_default();
                let key = (point.key.clone(), point.step, point.at.micros(), id.0.clone(), Num::of(point.value), name, digest);
                self.tracking.model(model)?.points.insert(key);
            }
        }
        let (run, points, tracked) = self.active(id)?;
        for point in &batch.metrics {
            points.put(point);
            if let Some(latest) = points.latest(&point.key) {
                run.metrics.insert(point.key.clone(), latest.value);
            }
        }
        run.params.extend(fresh);
        for (key, value) in batch.tags {
            if key == RUN_NAME_TAG {
                tracked.name.clone_from(&value);
            }
            run.tags.insert(key, value);
        }
        Ok(())
    }

    fn log_inputs(&mut self, id: &RunId, datasets: Vec<DatasetInput>, models: Vec<ModelUse>) -> Result<()> {
        let experiment = self.open(id)?.2.experiment;
        for mut input in datasets {
            let known = self.tracking.datasets.entry((experiment, input.dataset.key.clone())).or_insert_with(|| input.dataset.clone());
            input.dataset = known.clone();
            let tags: BTreeMap<String, String> = input.tags.into_iter().collect();
            input.tags = tags.into_iter().collect();
            let uses = &mut self.open(id)?.2.datasets;
            if !uses.iter().any(|used| used.dataset.key == input.dataset.key) {
                uses.push(input);
            }
        }
        note(&mut self.open(id)?.2.inputs, models);
        Ok(())
    }
}

/// Notes uses of models, each model once.
fn note(uses: &mut Vec<ModelUse>, models: Vec<ModelUse>) {
    for used in models {
        if !uses.iter().any(|known| known.model == used.model) {
            uses.push(used);
        }
    }
}

/// Filters, orders and cuts a page out.
fn found<T>(
    search: &Search,
    things: Vec<T>,
    fields: impl Fn(&T, &mut dyn FnMut(&dyn Ordered)),
    ties: impl Fn(&T, &T) -> Ordering,
) -> Page<T> {
    let holds = |thing: &T| {
        let mut holds = false;
        fields(thing, &mut |fields| holds = search.filter.holds(&AsFields(fields)));
        holds
    };
    let mut things: Vec<T> = things.into_iter().filter(holds).collect();
    things.sort_by(|a, b| {
        let mut by = Ordering::Equal;
        fields(a, &mut |a| fields(b, &mut |b| by = compare(&search.order, a, b)));
        by.then_with(|| ties(a, b))
    });
    let mut items: Vec<T> = things.into_iter().skip(search.offset).take(search.limit.saturating_add(1)).collect();
    let more = items.len() > search.limit;
    items.truncate(search.limit);
    Page { items, more }
}

struct AsFields<'a>(&'a dyn Ordered);

impl gristmill_kernel::tracking::filter::Fields for AsFields<'_> {
    fn values(&self, field: &gristmill_kernel::tracking::filter::Field) -> Vec<gristmill_kernel::tracking::filter::Value> {
        self.0.values(field)
    }
}

#[async_trait]
impl Tracking for MemoryLedger {
    async fn create_experiment(
        &self,
        name: &str,
        location: Option<&str>,
        tags: BTreeMap<String, String>,
        actor: &Actor,
        now: Timestamp,
    ) -> Result<ExperimentId> {
        let mut state = self.read();
        if state.tracking.by_name(name).is_some() {
            return Err(tracked::experiment_exists(name));
        }
        let id = state.tracking.next();
        let made = state.tracking.insert(id, name.to_owned(), None, location, tags, now).clone();
        state.append(now, story::experiment_made(&made, actor));
        Ok(id)
    }
    async fn experiment(&self, id: ExperimentId) -> Result<Option<Experiment>> {
        Ok(self.read().tracking.experiments.get(&id).map(|(e, _)| e.clone()))
    }
    async fn experiment_by_name(&self, name: &str) -> Result<Option<Experiment>> {
        Ok(self.read().tracking.by_name(name))
    }
    async fn rename_experiment(&self, id: ExperimentId, name: &str, actor: &Actor, now: Timestamp) -> Result<()> {
        let mut state = self.read();
        let experiment = state.tracking.must(id)?.clone();
        if experiment.lifecycle == Lifecycle::Deleted {
            return Err(tracked::no_renaming());
        }
        if state.tracking.by_name(name).is_some_and(|other| other.id != id) {
            return Err(tracked::experiment_exists(name));
        }
        state.tracking.change(id, now, |e, _| e.name = name.to_owned());
        state.append(now, story::experiment_renamed(&experiment, name, actor));
        Ok(())
    }
    async fn set_experiment_lifecycle(&self, id: ExperimentId, to: Lifecycle, actor: &Actor, now: Timestamp) -> Result<()> {
        let mut state = self.read();
        let experiment = state.tracking.must(id)?.clone();
        if experiment.lifecycle == to {
            return Err(tracked::unknown_experiment(id));
        }
        let deleted = to == Lifecycle::Deleted;
        let at = deleted.then_some(now);
        state.tracking.change(id, now, |_, deleted_at| *deleted_at = at);
        let mut moved = 0;
        for tracked in state.runs.iter_mut().filter_map(|entry| entry.tracked.as_mut()) {
            if tracked.experiment == id && tracked.deleted_at.is_some() != deleted {
                tracked.deleted_at = at;
                moved += 1;
            }
        }
        state.append(now, story::experiment_moved(&experiment, deleted, moved, actor));
        Ok(())
    }
    async fn set_experiment_tag(&self, id: ExperimentId, key: &str, value: Option<&str>, now: Timestamp) -> Result<()> {
        let mut state = self.read();
        let experiment = state.tracking.must_be_active(id)?;
        if value.is_none() && !experiment.tags.contains_key(key) {
            return Err(tracked::no_experiment_tag(id, key));
        }
        state.tracking.change(id, now, |experiment, _| {
            match value {
                Some(value) => experiment.tags.insert(key.to_owned(), value.to_owned()),
                None => experiment.tags.remove(key),
            };
        });
        Ok(())
    }
    async fn search_experiments(&self, search: &Search) -> Result<Page<Experiment>> {
        let search = checked(Searched::Experiments, search)?;
        let state = self.read();
        let seen = state.tracking.experiments.values().map(|(e, _)| e).filter(|e| search.view.shows(e.lifecycle));
        let newest = |a: &Experiment, b: &Experiment| (b.created_at, b.id).cmp(&(a.created_at, a.id));
        Ok(found(&search, seen.cloned().collect(), |e, look| look(&ExperimentFields(e)), newest))
    }

    async fn create_run(&self, mut new: NewTrackedRun, actor: &Actor, now: Timestamp) -> Result<TrackedRun> {
        let mut state = self.read();
        state.tracking.must_be_active(new.experiment)?;
        if state.at.contains_key(&new.id) {
            return Err(tracked::run_exists(&new.id));
        }
        new.tags.entry(RUN_NAME_TAG.to_owned()).or_insert_with(|| new.name.clone());
        let address = tracked::client_address(new.experiment)?;
        state.append(now, story::run_began(&new, &address, actor));
        let run = Run {
            id: new.id.clone(),
            stage: StageKind::Train,
            address,
            spec: serde_json::json!({}),
            key: Digest::of(format!("tracked run {}", new.id)),
            parent: None,
            actor: actor.clone(),
            reason: "tracked".into(),
            status: RunStatus::Running,
            verdict: None,
            checks: Vec::new(),
            inputs: Vec::new(),
            outputs: Vec::new(),
            skipped_for: None,
            params: BTreeMap::new(),
            metrics: BTreeMap::new(),
            tags: new.tags,
            summary: String::new(),
            error: None,
            attempt: 1,
            cancel_asked: false,
            submitted_at: now,
            due_at: now,
            started_at: new.started_at,
            ended_at: None,
        };
        let tracked = Tracked {
            experiment: new.experiment,
            name: new.name,
            user: new.user,
            by_client: true,
            deleted_at: None,
            datasets: Vec::new(),
            inputs: Vec::new(),
            outputs: Vec::new(),
        };
        state.push_tracked(run, tracked);
        state.runs.last().and_then(whole).ok_or_else(|| Fault::internal("a run vanished while it was written"))
    }
    async fn tracked_run(&self, id: &RunId) -> Result<Option<TrackedRun>> {
        let state = self.read();
        Ok(state.at.get(id).and_then(|at| whole(&state.runs[*at])))
    }
    async fn update_run(&self, id: &RunId, update: RunUpdate, actor: &Actor, now: Timestamp) -> Result<TrackedRun> {
        let mut state = self.read();
        let (run, _, tracked) = state.active(id)?;
        let mut line = None;
        if tracked.by_client {
            if let Some(status) = update.status.filter(|status| *status != run.status) {
                run.status = status;
                line = Some(story::run_changed(id, &run.address, status, actor));
            }
            run.ended_at = update.ended_at.or(run.ended_at);
        }
        if let Some(name) = update.name {
            run.tags.insert(RUN_NAME_TAG.to_owned(), name.clone());
            tracked.name = name;
        }
        if let Some(line) = line {
            state.append(now, line);
        }
        let mut changed = state.at.get(id).and_then(|at| whole(&state.runs[*at])).ok_or_else(|| tracked::unknown_run(id))?;
        (changed.params, changed.metrics, changed.tags) = Default::default();
        (changed.datasets, changed.model_inputs, changed.model_outputs) = Default::default();
        Ok(changed)
    }
    async fn set_run_lifecycle(&self, id: &RunId, to: Lifecycle, actor: &Actor, now: Timestamp) -> Result<()> {
        let mut state = self.read();
        let (run, _, tracked) = state.tracked(id)?;
        let deleted = to == Lifecycle::Deleted;
        let changes = tracked.deleted_at.is_some() != deleted;
        tracked.deleted_at = deleted.then_some(now);
        let line = story::run_moved(id, &run.address, deleted, actor);
        if changes {
            state.append(now, line);
        }
        Ok(())
    }
    async fn log(&self, id: &RunId, batch: Batch, _now: Timestamp) -> Result<()> {
        self.read().log(id, batch)
    }
    async fn delete_run_tag(&self, id: &RunId, key: &str) -> Result<()> {
        match self.read().active(id)?.0.tags.remove(key) {
            Some(_) => Ok(()),
            None => Err(tracked::no_run_tag(id, key)),
        }
    }
    async fn log_inputs(&self, id: &RunId, datasets: Vec<DatasetInput>, models: Vec<ModelUse>) -> Result<()> {
        self.read().log_inputs(id, datasets, models)
    }
    async fn log_outputs(&self, id: &RunId, models: Vec<ModelUse>) -> Result<()> {
        note(&mut self.read().open(id)?.2.outputs, models);
        Ok(())
    }
    async fn history(&self, id: &RunId, key: &str, wanted: HistoryWanted) -> Result<Page<Point>> {
        let state = self.read();
        let Some(entry) = state.at.get(id).map(|at| &state.runs[*at]).filter(|e| e.tracked.is_some()) else {
            return Ok(Page { items: Vec::new(), more: false });
        };
        let mut all: Vec<Point> = entry.points.of(key).collect();
        // Stable: among equal moments the order of steps and values stays.
        all.sort_by_key(|point| point.at);
        let mut items: Vec<Point> = all.into_iter().skip(wanted.offset).collect();
        let more = wanted.limit.is_some_and(|limit| items.len() > limit);
        items.truncate(wanted.limit.unwrap_or(usize::MAX));
        Ok(Page { items, more })
    }
    async fn sampled_history(&self, runs: &[RunId], key: &str, steps: Option<Range<i64>>, limit: usize) -> Result<Vec<(RunId, Point)>> {
        let state = self.read();
        let mut shown = Vec::new();
        for id in runs {
            let Some(entry) = state.at.get(id).map(|at| &state.runs[*at]).filter(|e| e.tracked.is_some()) else { continue };
            let points: Vec<Point> = entry.points.of(key).filter(|p| steps.as_ref().is_none_or(|steps| steps.contains(&p.step))).collect();
            let places = Thinned::new(points.len() as u64, limit).positions();
            shown.extend(places.into_iter().map(|place| (id.clone(), points[place as usize].clone())));
        }
        Ok(shown)
    }
    async fn search_runs(&self, search: &Search) -> Result<Page<TrackedRun>> {
        let search = checked(Searched::Runs, search)?;
        let state = self.read();
        let seen = |run: &TrackedRun| search.experiments.contains(&run.experiment) && search.view.shows(run.lifecycle);
        let runs: Vec<TrackedRun> = state.runs.iter().filter_map(whole).filter(seen).collect();
        let newest = |a: &TrackedRun, b: &TrackedRun| b.started_at.cmp(&a.started_at).then_with(|| a.id.cmp(&b.id));
        let fields = |run: &TrackedRun, look: &mut dyn FnMut(&dyn Ordered)| {
            let location = state.tracking.experiments.get(&run.experiment).map_or("", |(e, _)| e.artifact_location.as_str());
            look(&RunFields { run, location });
        };
        Ok(found(&search, runs, fields, newest))
    }
    async fn datasets(&self, experiments: &[ExperimentId]) -> Result<Vec<(ExperimentId, Dataset, Option<String>)>> {
        let state = self.read();
        let mut told: BTreeMap<(ExperimentId, DatasetKey, Option<String>), Dataset> = BTreeMap::new();
        for tracked in state.runs.iter().filter_map(|entry| entry.tracked.as_ref()).filter(|t| experiments.contains(&t.experiment)) {
            for used in &tracked.datasets {
                let context = used.tags.iter().find(|(name, _)| name == CONTEXT_TAG).map(|(_, value)| value.clone());
                told.insert((tracked.experiment, used.dataset.key.clone(), context), used.dataset.clone());
            }
        }
        Ok(told.into_iter().map(|((experiment, _, context), dataset)| (experiment, dataset, context)).take(DATASETS_TOLD_MAX).collect())
    }

    async fn create_logged_model(&self, model: LoggedModel, now: Timestamp) -> Result<LoggedModel> {
        let mut state = self.read();
        state.tracking.must_be_active(model.experiment)?;
        if state.tracking.models.contains_key(&model.id) {
            return Err(tracked::model_exists(&model.id));
        }
        let model = LoggedModel { status: LoggedModelStatus::Pending, lifecycle: Lifecycle::Active, metrics: Vec::new(), ..model };
        state.append(now, story::model_made(&model, &Actor::system("tracking")));
        let kept = KeptModel { model: model.clone(), deleted_at: None, points: BTreeSet::new() };
        state.tracking.models.insert(model.id.clone(), kept);
        Ok(model)
    }
    async fn logged_model(&self, id: &str, view: ViewType) -> Result<Option<LoggedModel>> {
        Ok(self.read().tracking.models.get(id).map(KeptModel::whole).filter(|model| view.shows(model.lifecycle)))
    }
    async fn finish_logged_model(&self, id: &str, status: LoggedModelStatus, now: Timestamp) -> Result<LoggedModel> {
        let mut state = self.read();
        let kept = state.tracking.model(id)?;
        (kept.model.status, kept.model.updated_at) = (status, now);
        Ok(kept.whole())
    }
    async fn log_model_params(&self, id: &str, params: Vec<(String, String)>, now: Timestamp) -> Result<()> {
        let mut state = self.read();
        let model = &mut state.tracking.model(id)?.model;
        let mut fresh: BTreeMap<String, String> = BTreeMap::new();
        for (key, new) in params {
            match model.params.get(&key).or_else(|| fresh.get(&key)) {
                Some(old) if *old != new => return Err(tracked::model_param_changed(id, &Changed { old: old.clone(), key, new })),
                Some(_) => {}
                None => {
                    fresh.insert(key, new);
                }
            }
        }
        model.params.extend(fresh);
        model.updated_at = now;
        Ok(())
    }
    async fn set_model_tags(&self, id: &str, tags: Vec<(String, Option<String>)>, now: Timestamp) -> Result<()> {
        let mut state = self.read();
        let model = &mut state.tracking.model(id)?.model;
        let mut next = model.tags.clone();
        for (key, value) in tags {
            match value {
                Some(value) => {
                    next.insert(key, value);
                }
                None => {
                    next.remove(&key).ok_or_else(|| tracked::no_model_tag(id, &key))?;
                }
            }
        }
        (model.tags, model.updated_at) = (next, now);
        Ok(())
    }
    async fn delete_logged_model(&self, id: &str, now: Timestamp) -> Result<()> {
        let mut state = self.read();
        let kept = state.tracking.model(id)?;
        (kept.deleted_at, kept.model.updated_at) = (Some(now), now);
        Ok(())
    }
    async fn search_logged_models(&self, search: &Search) -> Result<Page<LoggedModel>> {
        let search = checked(Searched::Models, search)?;
        let state = self.read();
        let seen = |model: &LoggedModel| search.experiments.contains(&model.experiment) && search.view.shows(model.lifecycle);
        let models: Vec<LoggedModel> = state.tracking.models.values().map(KeptModel::whole).filter(seen).collect();
        let newest = |a: &LoggedModel, b: &LoggedModel| b.created_at.cmp(&a.created_at).then_with(|| a.id.cmp(&b.id));
        Ok(found(&search, models, |model, look| look(&ModelFields(model)), newest))
    }

    async fn purge(&self, before: Timestamp, actor: &Actor, now: Timestamp) -> Result<Purged> {
        let mut state = self.read();
        let due = state.purgeable(before);
        for run in &due.runs {
            state.remove(&run.id);
            state.tracking.models.values_mut().for_each(|kept| kept.points.retain(|point| point.3 != run.id.0));
            state.append(now, story::run_purged(&run.id, &run.address, actor));
        }
        for model in &due.models {
            state.tracking.models.remove(&model.id);
            state.append(now, story::model_purged(model, actor));
        }
        for experiment in &due.experiments {
            state.tracking.experiments.remove(&experiment.id);
            state.tracking.datasets.retain(|(id, _), _| *id != experiment.id);
            state.append(now, story::experiment_purged(experiment, actor));
        }
        // A dataset that no run reads any more is described anew by the next one.
        let State { runs, tracking, .. } = &mut *state;
        tracking.datasets.retain(|(id, key), _| {
            let uses = |t: &Tracked| t.experiment == *id && t.datasets.iter().any(|used| used.dataset.key == *key);
            runs.iter().filter_map(|e| e.tracked.as_ref()).any(uses)
        });
        Ok(due.counts())
    }

    async fn purgeable(&self, before: Timestamp) -> Result<Purged> {
        Ok(self.read().purgeable(before).counts())
    }
}
