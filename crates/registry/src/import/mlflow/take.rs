//! Writes what a reader offers, through the ports.
//!
//! The order makes it resumable: an experiment before its logged models, those before its runs, runs before registered versions. A run begins with
//! a tag that says it is unfinished ([`plan::UNFINISHED`]) and loses it last, so whatever stops the import, the next one knows where to go on.
//! Everything written is idempotent by itself: equal points are one point, files are named by their content.

use super::plan::{self, Look, ModelPoints, RunPoints, Todo};
use super::source::{Counts, Files, Owner, Root, Skipped, Source, SourceModel, SourceRegistered, SourceRun, SourceVersion};
use super::{check, uri};
use futures::{StreamExt as _, stream};
use gristmill_kernel::port::{ArtifactKey, Artifacts, Clock, ImportedVersion, Ledger, ModelRegistry, Taken, Tracking, TrackingImport};
use gristmill_kernel::tracking::{Experiment, ExperimentId, Lifecycle, NewTrackedRun, RunUpdate, ViewType};
use gristmill_kernel::version::AliasMove;
use gristmill_kernel::{Actor, AliasName, Code, Digest, Fault, Result, limits};
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::OnceCell;

/// Where it is written.
#[derive(Clone)]
pub struct Target {
    /// Experiments, runs, logged models.
    pub tracking: Arc<dyn Tracking>,
    /// The same, with ids and moments.
    pub import: Arc<dyn TrackingImport>,
    /// Registered models.
    pub models: Arc<dyn ModelRegistry>,
    /// Files.
    pub artifacts: Arc<dyn Artifacts>,
    /// Aliases.
    pub ledger: Arc<dyn Ledger>,
    /// The time.
    pub clock: Arc<dyn Clock>,
}

/// How it is done.
#[derive(Debug, Clone)]
pub struct Options {
    /// Who does it.
    pub actor: Actor,
    /// Only look: count what is there and what is missing here.
    pub dry_run: bool,
    /// How closely to look at runs that are here.
    pub look: Look,
    /// Leave files where they are.
    pub without_files: bool,
    /// Experiments whose id is taken here get another one.
    pub renumber: bool,
}

/// Follows the work.
pub trait Watch: Send + Sync {
    /// What the source has.
    fn found(&self, counts: &Counts);
    /// How many things of a kind are through; `total` if it is known.
    fn at(&self, kind: &'static str, done: u64, total: Option<u64>);
}

/// Follows nothing.
pub struct Silent;
impl Watch for Silent {
    fn found(&self, _: &Counts) {}
    fn at(&self, _: &'static str, _: u64, _: Option<u64>) {}
}

/// What became of the things of one kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize)]
pub struct Tally {
    /// Were not here.
    pub new: u64,
    /// Were here and got something they lacked.
    pub added: u64,
    /// Were here.
    pub same: u64,
}

impl Tally {
    fn count(&mut self, taken: Taken) {
        match taken {
            Taken::New => self.new += 1,
            Taken::Added => self.added += 1,
            Taken::Same => self.same += 1,
        }
    }
    /// All of them.
    pub fn all(&self) -> u64 {
        self.new + self.added + self.same
    }
}

/// What an import did, or would do.
#[derive(Debug, Clone, PartialEq, Default, serde::Serialize)]
pub struct Report {
    /// The source.
    pub source: String,
    /// Whether nothing was written.
    pub dry_run: bool,
    /// What the source has.
    pub found: Counts,
    /// Experiments.
    pub experiments: Tally,
    /// Runs.
    pub runs: Tally,
    /// Logged models.
    pub logged_models: Tally,
    /// Registered models.
    pub models: Tally,
    /// Versions.
    pub versions: Tally,
    /// Aliases.
    pub aliases: Tally,
    /// Points that were written; points that were here already count too where a history was read again.
    pub points: u64,
    /// Files that were written.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Runs and logged models whose files stayed where they are.
    pub files_elsewhere: u64,
    /// Things to know: values that differ here, experiments that got another id.
    pub notes: Vec<String>,
    /// How many things could not be taken.
    pub skipped: u64,
    /// The first of them.
    pub skipped_first: Vec<Skipped>,
}

impl Report {
    /// Whether nothing is new: what a second import says.
    pub fn is_unchanged(&self) -> bool {
        let tallies = [self.experiments, self.runs, self.logged_models, self.models, self.versions, self.aliases];
        tallies.iter().all(|t| t.new == 0 && t.added == 0) && self.files == 0
    }
}

/// Takes everything over. What cannot be taken is in the report; an error is what stops everything: the source or the store went away.
pub async fn import(source: &dyn Source, target: &Target, options: &Options, watch: &dyn Watch) -> Result<Report> {
    let found = source.survey().await?;
    watch.found(&found);
    let report = Report { source: source.about(), dry_run: options.dry_run, found, ..Report::default() };
    let work = Work { source, target, options, watch, report: Mutex::new(report), runs_done: Mutex::new(0) };
    let experiments = work.experiments().await?;
    for pair in &experiments {
        work.experiment(pair).await?;
    }
    work.registered(&experiments).await?;
    Ok(work.report.into_inner().unwrap_or_else(PoisonError::into_inner))
}

/// An experiment there, and the one here that takes its runs.
struct Pair {
    there: Experiment,
    /// `None` in a dry run, if it is not here.
    here: Option<Experiment>,
}

struct Work<'w> {
    source: &'w dyn Source,
    target: &'w Target,
    options: &'w Options,
    watch: &'w dyn Watch,
    report: Mutex<Report>,
    runs_done: Mutex<u64>,
}

/// What came of a thing; a fault of the thing itself is not a fault of the import.
type Outcome = Result<Taken>;

impl Work<'_> {
    fn note<T>(&self, change: impl FnOnce(&mut Report) -> T) -> T {
        change(&mut self.report.lock().unwrap_or_else(PoisonError::into_inner))
    }
    fn skip(&self, skipped: Skipped) {
        self.note(|report| {
            report.skipped += 1;
            if report.skipped_first.len() < limits::IMPORT_SKIPPED_SHOWN {
                report.skipped_first.push(skipped);
            }
        });
    }
    fn say(&self, text: String) {
        self.note(|report| {
            if report.notes.len() < limits::IMPORT_SKIPPED_SHOWN {
                report.notes.push(text);
            }
        });
    }
    /// Counts a thing, or names it with its reason; a fault that concerns everything goes on.
    fn settle(&self, what: impl FnOnce() -> String, outcome: Outcome, tally: impl FnOnce(&mut Report) -> &mut Tally) -> Result<()> {
        match outcome {
            Ok(taken) => self.note(|report| tally(report).count(taken)),
            Err(fault) if stops(&fault) => return Err(fault),
            Err(fault) => self.skip(Skipped::new(what(), &fault)),
        }
        Ok(())
    }

    async fn experiments(&self) -> Result<Vec<Pair>> {
        let part = self.source.experiments().await?;
        part.skipped.into_iter().for_each(|s| self.skip(s));
        let total = part.items.len() as u64;
        let mut pairs = Vec::new();
        for (done, there) in part.items.into_iter().enumerate() {
            let what = format!("experiment {} `{}`", there.id, check::shown(&there.name));
            let (taken, here) = match self.place_experiment(&there).await {
                Ok(placed) => placed,
                Err(fault) if stops(&fault) => return Err(fault),
                Err(fault) => {
                    self.skip(Skipped::new(what, &fault));
                    continue;
                }
            };
            self.note(|report| report.experiments.count(taken));
            pairs.push(Pair { there, here });
            self.watch.at("experiments", done as u64 + 1, Some(total));
        }
        Ok(pairs)
    }

    /// Finds or makes the experiment here.
    async fn place_experiment(&self, there: &Experiment) -> Result<(Taken, Option<Experiment>)> {
        let Target { tracking, import, .. } = self.target;
        let by_id = tracking.experiment(there.id).await?;
        let by_name = tracking.experiment_by_name(&there.name).await?;
        let mut wanted = Experiment { artifact_location: format!("mlflow-artifacts:/{}", there.id), address: None, ..there.clone() };
        let now = self.target.clock.now();
        match (&by_id, &by_name) {
            (Some(id), Some(name)) if id.id == name.id => {}
            (None, None) => {}
            // Somebody renamed the experiment that every tracker begins with.
            (Some(default), None) if there.id == ExperimentId(0) && default.name == "Default" => {
                if !self.options.dry_run {
                    tracking.rename_experiment(there.id, &there.name, &self.options.actor, now).await?;
                }
            }
            (_, Some(name)) if self.options.renumber => {
                self.say(format!("experiment {} `{}` is experiment {} here", there.id, there.name, name.id));
                return Ok((Taken::Same, Some(name.clone())));
            }
            (Some(id), None) if self.options.renumber => {
                if self.options.dry_run {
                    return Ok((Taken::New, None));
                }
                let new = tracking.create_experiment(&there.name, None, there.tags.clone(), &self.options.actor, now).await?;
                self.say(format!("experiment {} `{}` is experiment {new} here: its id belongs to `{}`", there.id, there.name, id.name));
                return Ok((Taken::New, tracking.experiment(new).await?));
            }
            (id, name) => {
                let taken = match (id, name) {
                    (_, Some(name)) => format!("its name belongs to experiment {}", name.id),
                    (Some(id), _) => format!("its id belongs to `{}`", id.name),
                    _ => String::new(),
                };
                return Err(Fault::conflict(Code::ALREADY_EXISTS, format!("experiment {} cannot be taken over: {taken}", there.id))
                    .fix("import into a new project, or let it have another id: --renumber"));
            }
        }
        if let Some(here) = &by_id {
            wanted.artifact_location = here.artifact_location.clone();
            wanted.name = if self.options.dry_run { here.name.clone() } else { there.name.clone() };
        }
        if self.options.dry_run {
            let taken = match &by_id {
                None => Taken::New,
                Some(here) if there.tags.keys().any(|k| !here.tags.contains_key(k)) => Taken::Added,
                Some(_) => Taken::Same,
            };
            return Ok((taken, by_id));
        }
        let taken = import.import_experiment(wanted, &self.options.actor, now).await?;
        Ok((taken, tracking.experiment(there.id).await?))
    }

    /// Logged models and runs of one experiment, and its lifecycle.
    async fn experiment(&self, pair: &Pair) -> Result<()> {
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

    /// An experiment that is deleted there is deleted here when its runs are in.
    async fn close(&self, place: &Place<'_>) -> Result<()> {
        let Some(here) = place.pair.here.as_ref().filter(|_| !self.options.dry_run) else { return Ok(()) };
        let closes = place.pair.there.lifecycle == Lifecycle::Deleted && (!place.deleted_here || place.opened.initialized());
        if closes {
            let now = self.target.clock.now();
            self.target.tracking.set_experiment_lifecycle(here.id, Lifecycle::Deleted, &self.options.actor, now).await?;
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
        place.opened.get_or_try_init(opening).await.map(|()| ())
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
        let deleted = model.lifecycle == Lifecycle::Deleted;
        (model.experiment, model.lifecycle) = (experiment.id, Lifecycle::Active);
        if elsewhere {
            model.tags.insert(plan::ELSEWHERE.to_owned(), root.uri);
        }
        let id = model.id.clone();
        let now = self.target.clock.now();
        let taken = import.import_logged_model(model, &self.options.actor, now).await?;
        if deleted && here.is_none_or(|h| h.lifecycle == Lifecycle::Active) {
            tracking.delete_logged_model(&id, now).await?;
        }
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
        let todo = plan::todo(&there.run, here.as_ref(), self.options.look);
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
        self.open(place).await?;
        let experiment = place.pair.here.as_ref().ok_or_else(|| Fault::internal("an experiment without a place"))?;
        let (id, actor) = (there.run.id.clone(), &self.options.actor);
        let mut marked = unfinished;
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
            marked = true;
        } else if here.as_ref().is_some_and(|h| h.lifecycle == Lifecycle::Deleted) {
            tracking.set_run_lifecycle(&id, Lifecycle::Active, actor, clock.now()).await?;
        }
        let written = self.fill(experiment, &there, todo, about).await?;
        if marked {
            tracking.delete_run_tag(&id, plan::UNFINISHED).await?;
        }
        let deleted = here.as_ref().filter(|_| !unfinished).map_or(there.run.lifecycle, |h| h.lifecycle);
        if deleted == Lifecycle::Deleted {
            tracking.set_run_lifecycle(&id, Lifecycle::Deleted, actor, clock.now()).await?;
        }
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

    async fn log(
        &self,
        run: &SourceRun,
        points: Vec<gristmill_kernel::tracking::Point>,
        params: Vec<(String, String)>,
        tags: Vec<(String, String)>,
    ) -> Result<()> {
        let count = points.len() as u64;
        for batch in plan::batches(points, params, tags) {
            self.target.tracking.log(&run.run.id, batch, self.target.clock.now()).await?;
        }
        self.note(|report| report.points += count);
        Ok(())
    }

    /// Takes the files of a root; how many were written, and whether they are elsewhere.
    async fn files(&self, root: &Root, experiment: &Experiment) -> Result<(u64, bool)> {
        if self.options.without_files {
            return Ok((0, false));
        }
        let listed = match self.source.files(root).await {
            Ok(Files::Here(files)) => files,
            Ok(Files::Elsewhere) => {
                self.note(|report| report.files_elsewhere += 1);
                return Ok((0, true));
            }
            Err(fault) if stops(&fault) => return Err(fault),
            Err(fault) => {
                self.skip(Skipped::new(format!("files of {}", name_of(&root.owner)), &fault));
                return Ok((0, false));
            }
        };
        if listed.is_empty() {
            return Ok((0, false));
        }
        let base = uri::root_key(&experiment.artifact_location, &root.owner);
        let there: HashMap<String, u64> = match ArtifactKey::new(&base) {
            Ok(prefix) => self.target.artifacts.walk_artifacts(&prefix).await?.into_iter().map(|a| (a.key, a.bytes)).collect(),
            Err(fault) => return Err(fault),
        };
        let mut written = 0;
        for file in listed {
            let known = there.get(&file.key).is_some_and(|bytes| file.bytes.is_none_or(|b| b == *bytes));
            if known && self.options.look == Look::Latest {
                continue;
            }
            let key = match ArtifactKey::new(&format!("{base}/{}", file.key)).and_then(|key| ArtifactKey::new(&file.key).map(|_| key)) {
                Ok(key) => key,
                Err(fault) => {
                    self.skip(Skipped::new(format!("file `{}` of {}", check::shown(&file.key), name_of(&root.owner)), &fault));
                    continue;
                }
            };
            match self.file(root, &file.key, &key).await {
                Ok(bytes) => {
                    // The same content again changes nothing and is not counted.
                    if !known {
                        written += 1;
                        self.note(|report| {
                            report.files += 1;
                            report.bytes += bytes;
                        });
                    }
                }
                Err(fault) if stops(&fault) => return Err(fault),
                Err(fault) => self.skip(Skipped::new(format!("file `{}` of {}", check::shown(&file.key), name_of(&root.owner)), &fault)),
            }
        }
        Ok((written, false))
    }

    async fn file(&self, root: &Root, name: &str, key: &ArtifactKey) -> Result<u64> {
        let content = self.source.read(root, name).await?;
        let info = self.target.artifacts.put_artifact(key, content, self.target.clock.now()).await?;
        Ok(info.bytes)
    }

    async fn registered(&self, experiments: &[Pair]) -> Result<()> {
        let mut from: Option<String> = None;
        let mut done = 0;
        loop {
            let part = self.source.registered(from.as_deref()).await?;
            part.skipped.into_iter().for_each(|s| self.skip(s));
            for there in part.items {
                self.registered_model(there, experiments).await?;
                done += 1;
                self.watch.at("registered models", done, self.note(|report| Some(report.found.models).filter(|n| *n >= done)));
            }
            match onward(from, part.next)? {
                Some(next) => from = Some(next),
                None => return Ok(()),
            }
        }
    }

    async fn registered_model(&self, there: SourceRegistered, experiments: &[Pair]) -> Result<()> {
        let name = there.model.name.clone();
        let what = || format!("registered model `{}`", check::shown(&name));
        let here = self.target.models.registered_model(&name).await?;
        let outcome = if self.options.dry_run {
            Ok(match &here {
                None => Taken::New,
                Some(h) if there.model.tags.keys().any(|k| !h.tags.contains_key(k)) => Taken::Added,
                Some(_) => Taken::Same,
            })
        } else {
            self.target.import.import_model(there.model, &self.options.actor, self.target.clock.now()).await
        };
        let taken = outcome.is_ok();
        self.settle(what, outcome, |report| &mut report.models)?;
        if !taken {
            return Ok(());
        }
        let mut versions = there.versions;
        versions.sort_by_key(|v| v.version.number);
        for version in versions {
            let what = format!("version {} of `{}`", version.version.number, check::shown(&name));
            let outcome = self.version(version, experiments).await;
            self.settle(|| what, outcome, |report| &mut report.versions)?;
        }
        for (alias, number) in there.aliases {
            let what = format!("alias `{}` of `{}`", check::shown(&alias), check::shown(&name));
            let outcome = self.alias(&name, &alias, number).await;
            self.settle(|| what, outcome, |report| &mut report.aliases)?;
        }
        Ok(())
    }

    async fn version(&self, there: SourceVersion, experiments: &[Pair]) -> Outcome {
        let SourceVersion { mut version, location } = there;
        let here = self.target.models.model_version(&version.name, version.number).await?;
        if self.options.dry_run {
            return Ok(match here {
                None => Taken::New,
                Some(h) if version.tags.keys().any(|k| !h.tags.contains_key(k)) => Taken::Added,
                Some(_) => Taken::Same,
            });
        }
        let meant = [location.as_deref(), Some(version.source.as_str())].into_iter().flatten().find_map(uri::meant);
        match meant {
            Some(meant) => self.content(&mut version, meant, experiments).await?,
            None if is_prompt(&version) => {}
            None => self.say(format!(
                "version {} of `{}` keeps its source `{}`: its files are not here",
                version.number,
                check::shown(&version.name),
                check::shown(&version.source)
            )),
        }
        if let Some(here) = here {
            // Its source was rewritten when it was taken; only what it lacks matters now.
            version.source = here.source;
        }
        self.target.import.import_model_version(version, &self.options.actor, self.target.clock.now()).await
    }

    /// Fills in a version's files and where they are here.
    async fn content(&self, version: &mut ImportedVersion, meant: uri::Meant, experiments: &[Pair]) -> Result<()> {
        let experiment = match &meant.owner {
            Owner::Run(run) => self.target.tracking.tracked_run(run).await?.map(|r| r.experiment),
            Owner::Model(model) => self.target.tracking.logged_model(model, ViewType::All).await?.map(|m| m.experiment),
        };
        let location = match experiment {
            Some(id) => match experiments.iter().filter_map(|p| p.here.as_ref()).find(|e| e.id == id) {
                Some(known) => Some(known.artifact_location.clone()),
                None => self.target.tracking.experiment(id).await?.map(|e| e.artifact_location),
            },
            None => None,
        };
        let Some(location) = location else {
            self.say(format!("version {} of `{}`: {} is not here", version.number, check::shown(&version.name), name_of(&meant.owner)));
            return Ok(());
        };
        let mut key = uri::root_key(&location, &meant.owner);
        if !meant.rest.is_empty() {
            key = format!("{key}/{}", meant.rest);
        }
        let prefix = ArtifactKey::new(&key)?;
        let files: Vec<(String, Digest)> =
            self.target.artifacts.walk_artifacts(&prefix).await?.into_iter().map(|a| (a.key, a.digest)).collect();
        // `models:/m-...` and `runs:/...` mean the same thing here.
        if !version.source.starts_with("models:/") && !version.source.starts_with("runs:/") {
            version.source = format!("mlflow-artifacts:/{key}");
        }
        version.files = files;
        Ok(())
    }

    async fn alias(&self, model: &str, alias: &str, number: u64) -> Outcome {
        let Some(here) = self.target.models.registered_model(model).await? else { return Ok(Taken::New) };
        match here.aliases.get(alias) {
            Some(ours) if *ours == number => return Ok(Taken::Same),
            Some(ours) => {
                self.say(format!("alias `{alias}` of `{}` names version {ours} here, {number} there, and stays", check::shown(model)));
                return Ok(Taken::Same);
            }
            None if self.options.dry_run => return Ok(Taken::New),
            None => {}
        }
        let wish = AliasMove {
            asset: here.asset,
            alias: AliasName::new(alias)?,
            to: Some(number),
            expect: Some(None),
            actor: self.options.actor.clone(),
            reason: format!("imported from {}", self.source.about()),
            run: None,
        };
        self.target.ledger.move_alias(wish, self.target.clock.now()).await?;
        Ok(Taken::New)
    }
}

/// An experiment while its runs are taken.
struct Place<'p> {
    pair: &'p Pair,
    deleted_here: bool,
    opened: OnceCell<()>,
}

fn is_prompt(version: &ImportedVersion) -> bool {
    version.tags.contains_key("mlflow.prompt.is_prompt")
}

fn name_of(owner: &Owner) -> String {
    match owner {
        Owner::Run(run) => format!("run {run}"),
        Owner::Model(model) => format!("logged model {model}"),
    }
}

/// Whether an error concerns everything that would follow, so that going on would only repeat it.
fn stops(fault: &Fault) -> bool {
    use gristmill_kernel::Kind;
    matches!(
        fault.kind,
        Kind::Unavailable | Kind::Timeout | Kind::Busy | Kind::Cancelled | Kind::Unauthenticated | Kind::Denied | Kind::Damaged
    )
}

/// The next part; a source that names the same one twice would go round for ever.
fn onward(from: Option<String>, next: Option<String>) -> Result<Option<String>> {
    if next.is_some() && next == from {
        return Err(super::source::unreadable("the source gives the same page twice"));
    }
    Ok(next)
}
