//! Experiments from inside: logged models, then runs with all that hangs on them, then the lifecycle.

use super::super::check;
use super::super::plan::{self, Look, ModelPoints, RunPoints, Todo};
use super::super::source::{Owner, Root, SourceModel, SourceRun};
use super::{Outcome, Pair, Target, Work, onward};
use futures::{StreamExt as _, stream};
use gristmill_kernel::port::Taken;
use gristmill_kernel::tracking::{Experiment, Lifecycle, NewTrackedRun, Point, RunUpdate, ViewType};
use gristmill_kernel::{Code, Fault, Result, limits};
use std::collections::BTreeMap;
use std::sync::PoisonError;
use tokio::sync::OnceCell;

/// An experiment while its runs are taken.
struct Place<'p> {
    pair: &'p Pair,
    deleted_here: bool,
    opened: OnceCell<()>,
}

impl Work<'_> {
    /// Logged models and runs of one experiment, and its lifecycle.
    pub(super) async fn experiment(&self, pair: &Pair) -> Result<()> {
        let deleted_here = pair.here.as_ref().is_some_and(|e| e.lifecycle == Lifecycle::Deleted);
        if deleted_here && pair.there.lifecycle == Lifecycle::Active {
            self.say(format!("experiment {} `{}` was deleted here and is left alone", pair.there.id, pair.there.name));
            return Ok(());
        }
        let place = Place { pair, deleted_here, opened: OnceCell::new() };
        let mut points = self.logged_models(&place).await?;
        let mut from: Option<String> = None;
        loop {
            let part = self.source.runs(pair.there.id, from.as_deref()).await?;
            part.skipped.into_iter().for_each(|s| self.skip(s));
            let with_points: Vec<(SourceRun, RunPoints)> =
                part.items.into_iter().map(|r| (points.of(&r.run.id), r)).map(|(p, r)| (r, p)).collect();
            let mut runs = stream::iter(with_points.into_iter().map(|(run, about)| {
                let place = &place;
                async move {
                    let what = format!("run {}", run.run.id);
                    (what, self.run(place, run, about).await)
                }
            }))
            .buffer_unordered(limits::IMPORT_RUNS_AT_ONCE);
            while let Some((what, outcome)) = runs.next().await {
                self.settle(|| what, outcome, |report| &mut report.runs)?;
                let total = self.note(|report| report.found.runs);
                let done = {
                    let mut done = self.runs_done.lock().unwrap_or_else(PoisonError::into_inner);
                    *done += 1;
                    *done
                };
                self.watch.at("runs", done, total);
            }
            drop(runs);
            match onward(from, part.next)? {
                Some(next) => from = Some(next),
                None => break,
            }
        }
        self.close(&place).await
    }

    /// The end of an experiment: one that an import began ends as it is there, one that was opened for its runs is closed again.
    async fn close(&self, place: &Place<'_>) -> Result<()> {
        let Some(here) = place.pair.here.as_ref().filter(|_| !self.options.dry_run) else { return Ok(()) };
        let unfinished = here.tags.contains_key(plan::UNFINISHED);
        if unfinished || place.opened.initialized() {
            let lifecycle = place.pair.there.lifecycle;
            self.target
                .import
                .finish_experiment(here.id, plan::UNFINISHED, lifecycle, &self.options.actor, self.target.clock.now())
                .await?;
        }
        Ok(())
    }

    /// A deleted experiment takes runs only while it is open.
    async fn open(&self, place: &Place<'_>) -> Result<()> {
        if !place.deleted_here {
            return Ok(());
        }
        let Some(here) = &place.pair.here else { return Ok(()) };
        let opening = || async {
            let now = self.target.clock.now();
            self.target.tracking.set_experiment_lifecycle(here.id, Lifecycle::Active, &self.options.actor, now).await
        };
        place.opened.get_or_try_init(opening).await?;
        Ok(())
    }

    async fn logged_models(&self, place: &Place<'_>) -> Result<ModelPoints> {
        let mut points = ModelPoints::default();
        let mut from: Option<String> = None;
        loop {
            let part = self.source.logged_models(place.pair.there.id, from.as_deref()).await?;
            part.skipped.into_iter().for_each(|s| self.skip(s));
            for there in part.items {
                points.add(there.model.metrics.iter().cloned());
                let what = format!("logged model {}", there.model.id);
                let outcome = self.logged_model(place, there).await;
                self.settle(|| what, outcome, |report| &mut report.logged_models)?;
            }
            match onward(from, part.next)? {
                Some(next) => from = Some(next),
                None => return Ok(points),
            }
        }
    }

    async fn logged_model(&self, place: &Place<'_>, there: SourceModel) -> Outcome {
        let Target { tracking, import, .. } = self.target;
        let here = tracking.logged_model(&there.model.id, ViewType::All).await?;
        let missing = here.as_ref().is_none_or(|h| {
            let lacks = |theirs: &BTreeMap<String, String>, ours: &BTreeMap<String, String>| theirs.keys().any(|k| !ours.contains_key(k));
            lacks(&there.model.tags, &h.tags) || lacks(&there.model.params, &h.params)
        });
        if self.options.dry_run {
            return Ok(if here.is_none() {
                Taken::New
            } else if missing {
                Taken::Added
            } else {
                Taken::Same
            });
        }
        if here.is_some() && !missing && self.options.look == Look::Latest {
            return Ok(Taken::Same);
        }
        self.open(place).await?;
        let experiment = place.pair.here.as_ref().ok_or_else(|| Fault::internal("an experiment without a place"))?;
        let root = Root { experiment: place.pair.there.id, owner: Owner::Model(there.model.id.clone()), uri: there.artifacts };
        let (files, elsewhere) = self.files(&root, experiment).await?;
        let mut model = there.model;
        model.experiment = experiment.id;
        if elsewhere {
            model.tags.insert(plan::ELSEWHERE.to_owned(), root.uri);
        }
        let taken = import.import_logged_model(model, &self.options.actor, self.target.clock.now()).await?;
        Ok(if taken == Taken::Same && files > 0 { Taken::Added } else { taken })
    }

    async fn run(&self, place: &Place<'_>, there: SourceRun, about: RunPoints) -> Outcome {
        let Target { tracking, clock, .. } = self.target;
        let here = tracking.tracked_run(&there.run.id).await?;
        if let (Some(here), Some(experiment)) = (&here, &place.pair.here)
            && here.experiment != experiment.id
        {
            return Err(Fault::conflict(Code::ALREADY_EXISTS, format!("run {} is in experiment {} here", here.id, here.experiment)));
        }
        let mut todo = plan::todo(&there.run, here.as_ref(), self.options.look);
        for key in &todo.differing {
            self.say(format!("run {}: parameter `{}` has another value here and keeps it", there.run.id, check::shown(key)));
        }
        let unfinished = here.as_ref().is_some_and(plan::is_unfinished);
        let taken = match &here {
            None => Taken::New,
            Some(_) if todo.is_empty() && !unfinished => Taken::Same,
            Some(_) => Taken::Added,
        };
        if self.options.dry_run || taken == Taken::Same {
            return Ok(taken);
        }
        let there = self.source.whole(there).await?;
        todo = plan::todo(&there.run, here.as_ref(), self.options.look);
        self.open(place).await?;
        let experiment = place.pair.here.as_ref().ok_or_else(|| Fault::internal("an experiment without a place"))?;
        let (id, actor) = (there.run.id.clone(), &self.options.actor);
        if todo.create {
            let new = NewTrackedRun {
                id: id.clone(),
                experiment: experiment.id,
                name: there.run.name.clone(),
                user: there.run.user.clone(),
                started_at: there.run.started_at,
                tags: BTreeMap::from([(plan::UNFINISHED.to_owned(), format!("from {}", self.source.about()))]),
            };
            tracking.create_run(new, actor, clock.now()).await?;
        } else if here.as_ref().is_some_and(|h| h.lifecycle == Lifecycle::Deleted) {
            tracking.set_run_lifecycle(&id, Lifecycle::Active, actor, clock.now()).await?;
        }
        let written = self.fill(experiment, &there, todo, about).await?;
        // A run that an import began ends as it is there; one that people have had since stays as they left it.
        let lifecycle = match &here {
            Some(here) if !unfinished => here.lifecycle,
            _ => there.run.lifecycle,
        };
        self.target.import.finish_run(&id, plan::UNFINISHED, lifecycle, actor, clock.now()).await?;
        // Looking at everything again finds nothing to add as a rule.
        Ok(if taken == Taken::Added && !written && !unfinished { Taken::Same } else { taken })
    }

    /// Writes what a run lacks; whether there was anything beside points that may be here already.
    async fn fill(&self, experiment: &Experiment, there: &SourceRun, mut todo: Todo, mut about: RunPoints) -> Result<bool> {
        let Target { tracking, clock, .. } = self.target;
        let id = &there.run.id;
        let mut written =
            todo != Todo { files: todo.files, metrics: todo.metrics.clone(), differing: todo.differing.clone(), ..Todo::default() };
        if todo.files {
            let root = Root { experiment: there.run.experiment, owner: Owner::Run(id.clone()), uri: there.artifacts.clone() };
            let (files, elsewhere) = self.files(&root, experiment).await?;
            written |= files > 0;
            if elsewhere && todo.create {
                todo.tags.push((plan::ELSEWHERE.to_owned(), root.uri));
            }
        }
        for key in &todo.metrics {
            let mut from: Option<String> = None;
            loop {
                let part = self.source.history(there, key, from.as_deref()).await?;
                part.skipped.into_iter().for_each(|s| self.skip(s));
                let points = part.items.into_iter().flat_map(|p| about.with_models(p)).collect::<Vec<_>>();
                written |= self.options.look == Look::Latest && !points.is_empty();
                self.log(there, points, Vec::new(), Vec::new()).await?;
                match onward(from, part.next)? {
                    Some(next) => from = Some(next),
                    None => break,
                }
            }
        }
        let rest = if todo.metrics.is_empty() { Vec::new() } else { about.rest() };
        self.log(there, rest, std::mem::take(&mut todo.params), std::mem::take(&mut todo.tags)).await?;
        if !todo.datasets.is_empty() || !todo.model_inputs.is_empty() {
            tracking.log_inputs(id, todo.datasets, todo.model_inputs).await?;
        }
        if !todo.model_outputs.is_empty() {
            tracking.log_outputs(id, todo.model_outputs).await?;
        }
        if let Some((status, ended_at)) = todo.end {
            let update = RunUpdate { status: Some(status), ended_at, name: None };
            tracking.update_run(id, update, &self.options.actor, clock.now()).await?;
        }
        Ok(written)
    }

    async fn log(&self, run: &SourceRun, points: Vec<Point>, params: Vec<(String, String)>, tags: Vec<(String, String)>) -> Result<()> {
        let count = points.len() as u64;
        for batch in plan::batches(points, params, tags) {
            self.target.tracking.log(&run.run.id, batch, self.target.clock.now()).await?;
        }
        self.note(|report| report.points += count);
        Ok(())
    }
}
