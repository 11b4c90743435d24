//! Writes what a reader offers, through the ports.
//!
//! The order makes it resumable: an experiment before its logged models, those before its runs, runs before registered versions. A run begins with
//! a tag that says it is unfinished ([`super::plan::UNFINISHED`]) and loses it last, so whatever stops the import, the next one knows where to go on.
//! Everything written is idempotent by itself: equal points are one point, files are named by their content.

mod files;
mod registered;
mod runs;

use super::check;
use super::plan::{Look, UNFINISHED};
use super::source::{Counts, Owner, Skipped, Source};
use gristmill_kernel::port::{Artifacts, Clock, Ledger, ModelRegistry, RegistryImport, Taken, Tracking, TrackingImport};
use gristmill_kernel::tracking::{Experiment, ExperimentId};
use gristmill_kernel::{Actor, Code, Fault, Result, limits};
use std::sync::{Arc, Mutex, PoisonError};

/// Where it is written.
#[derive(Clone)]
pub struct Target {
    /// Experiments, runs, logged models.
    pub tracking: Arc<dyn Tracking>,
    /// Experiments and logged models with their ids and moments.
    pub import: Arc<dyn TrackingImport>,
    /// Registered models.
    pub models: Arc<dyn ModelRegistry>,
    /// The same, with numbers and moments.
    pub registry_import: Arc<dyn RegistryImport>,
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
        if by_id.is_none() {
            wanted.tags.insert(UNFINISHED.to_owned(), format!("from {}", self.source.about()));
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
