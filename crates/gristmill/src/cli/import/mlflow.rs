//! `gristmill import mlflow SOURCE`: experiments, runs, histories, files and registered models of another tracker, with their ids and moments.

use crate::cli::{Cx, Ended, Exit};
use crate::fetch::{Login, WebFetch};
use crate::output::{Output, table, thousands};
use crate::wiring::{STATE_DIR, project_dir};
use clap::Args;
use gristmill_kernel::port::Clock;
use gristmill_kernel::{Code, Fault, Result};
use gristmill_registry::import::mlflow::disk::Folder;
use gristmill_registry::import::mlflow::files::MlrunsFolder;
use gristmill_registry::import::mlflow::plan::Look;
use gristmill_registry::import::mlflow::rest::MlflowServer;
use gristmill_registry::import::mlflow::sqlite::MlflowDb;
use gristmill_registry::import::mlflow::{Counts, Options, Report, Source, Target, Watch, import};
use gristmill_store::ledger::{SqliteRegistry, TrackedArtifacts};
use gristmill_store::system::{RandomIds, SystemClock};
use indicatif::ProgressBar;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// How MLflow is taken over.
#[derive(Debug, Args)]
pub struct Mlflow {
    /// A server (http://host:5000), a folder (./mlruns) or a database (sqlite:///mlflow.db). A server's login comes from
    /// MLFLOW_TRACKING_TOKEN, or MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD.
    source: String,
    /// Count what is there and what is missing here; write nothing.
    #[arg(long)]
    dry_run: bool,
    /// Also look at the files and histories of runs that are here and look complete.
    #[arg(long)]
    everything: bool,
    /// Leave files where they are.
    #[arg(long)]
    no_files: bool,
    /// Where the files of `mlflow-artifacts:` addresses are, for a folder or a database: what the server's --artifacts-destination names.
    #[arg(long, value_name = "DIR")]
    artifacts: Option<PathBuf>,
    /// Let experiments whose id is taken here have another one.
    #[arg(long)]
    renumber: bool,
}

impl Mlflow {
    pub async fn run(self, cx: &Cx) -> Ended {
        let wish = self;
        let source = open(cx, &wish).await?;
        let target = target(cx).await?;
        let options = Options {
            actor: cx.actor(),
            dry_run: wish.dry_run,
            look: if wish.everything { Look::Everything } else { Look::Latest },
            without_files: wish.no_files,
            renumber: wish.renumber,
        };
        cx.out.say(format!("reading {}", source.about()));
        let progress = Progress { out: cx.out.clone(), bar: cx.out.bar() };
        let report = import(source.as_ref(), &target, &options, &progress).await;
        if let Some(bar) = &progress.bar {
            bar.finish_and_clear();
        }
        let report = report?;
        show(cx, &report);
        Ok(if report.skipped == 0 { Exit::Done } else { Exit::Failed })
    }
}

/// Opens what the user named.
async fn open(cx: &Cx, wish: &Mlflow) -> Result<Box<dyn Source>> {
    let here = |path: &str| cx.outside.here.join(path);
    let artifacts = wish.artifacts.as_ref().map(|dir| cx.outside.here.join(dir));
    let text = wish.source.as_str();
    if text.starts_with("http://") || text.starts_with("https://") {
        let login = Login { token: cx.outside.mlflow_token.clone(), password: cx.outside.mlflow_password.clone() };
        return Ok(Box::new(MlflowServer::new(Box::new(WebFetch::new(text, login)?))));
    }
    // `sqlite:///relative`, `sqlite:////absolute`: what follows the third slash is the path.
    if let Some(path) = text.strip_prefix("sqlite:///") {
        return database(&here(path), artifacts.as_deref()).await;
    }
    if let Some(path) = text.strip_prefix("file://") {
        return Ok(Box::new(MlrunsFolder::open(&here(path.trim_start_matches("localhost")), artifacts.as_deref())?));
    }
    if let Some((scheme, _)) = text.split_once("://") {
        return Err(Fault::invalid(Code::NOT_SUPPORTED, format!("{scheme}:// is no source that can be imported"))
            .fix("start an MLflow server on that store, and import from its http:// address"));
    }
    let path = here(text);
    if path.is_file() {
        database(&path, artifacts.as_deref()).await
    } else {
        Ok(Box::new(MlrunsFolder::open(&path, artifacts.as_deref())?))
    }
}

/// A database, with its own folder and the named one as the places where files may be.
async fn database(path: &Path, artifacts: Option<&Path>) -> Result<Box<dyn Source>> {
    let db = gristmill_store::open_foreign_sqlite(path).await?;
    let own = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let folders = artifacts.into_iter().chain([own]).map(Folder::open).collect::<Result<Vec<Folder>>>()?;
    Ok(Box::new(MlflowDb::open(db, format!("sqlite:///{}", path.display()), folders).await?))
}

/// The state of the project that the flags mean. A running server may have it open too.
async fn target(cx: &Cx) -> Result<Target> {
    let state_dir = project_dir(cx)?.join(STATE_DIR);
    let ledger = gristmill_store::open_ledger(&state_dir).await?;
    let blobs = gristmill_store::open_blobs(&state_dir)?;
    let registry = Arc::new(SqliteRegistry::new(ledger.clone(), blobs.clone(), Arc::new(RandomIds)));
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    Ok(Target {
        tracking: ledger.clone(),
        import: ledger.clone(),
        models: registry.clone(),
        registry_import: registry,
        artifacts: Arc::new(TrackedArtifacts::new(ledger.clone(), (*blobs).clone())),
        ledger,
        clock,
    })
}

/// Tells how far it is: a bar on a terminal, a line for every thousand runs elsewhere.
struct Progress {
    out: Output,
    bar: Option<ProgressBar>,
}

impl Watch for Progress {
    fn found(&self, counts: &Counts) {
        let known = |n: Option<u64>, what: &str| n.map(|n| format!(", {} {what}", thousands(n))).unwrap_or_default();
        self.out.say(format!(
            "found {} experiments{}{}, {} registered models{}",
            thousands(counts.experiments),
            known(counts.runs, "runs"),
            known(counts.points, "points"),
            thousands(counts.models),
            known(counts.files, "files")
        ));
    }
    fn at(&self, kind: &'static str, done: u64, total: Option<u64>) {
        let text = match total {
            Some(total) => format!("{} of {} {kind}", thousands(done), thousands(total)),
            None => format!("{} {kind}", thousands(done)),
        };
        match &self.bar {
            Some(bar) => bar.set_message(text),
            None if done.is_multiple_of(1_000) => self.out.say(text),
            None => {}
        }
    }
}

/// The outcome: a table for people, the report for programs.
fn show(cx: &Cx, report: &Report) {
    for skipped in &report.skipped_first {
        cx.out.warn(format!("{} was not taken: {} [{}]", skipped.what, skipped.why, skipped.code));
    }
    let unnamed = report.skipped.saturating_sub(report.skipped_first.len() as u64);
    if unnamed > 0 {
        cx.out.warn(format!("{} more were not taken", thousands(unnamed)));
    }
    for note in &report.notes {
        cx.out.say(note);
    }
    if cx.out.is_json() {
        cx.out.data_json(report);
        return;
    }
    let tallies = [
        ("experiments", report.experiments),
        ("runs", report.runs),
        ("logged models", report.logged_models),
        ("registered models", report.models),
        ("versions", report.versions),
        ("aliases", report.aliases),
    ];
    let rows = tallies.map(|(kind, t)| vec![kind.to_owned(), thousands(t.new), thousands(t.added), thousands(t.same)]).to_vec();
    cx.out.data(table(&["", if report.dry_run { "would be new" } else { "new" }, "added to", "here already"], rows));
    if !report.dry_run {
        cx.out.say(format!(
            "{} points, {} files, {} bytes written",
            thousands(report.points),
            thousands(report.files),
            thousands(report.bytes)
        ));
    }
    if report.files_elsewhere > 0 {
        let tag = gristmill_registry::import::mlflow::plan::ELSEWHERE;
        cx.out.say(format!(
            "the files of {} runs and models stayed where they are; the tag {tag} says where",
            thousands(report.files_elsewhere)
        ));
        cx.out.hint("if they are in a folder here, name it: --artifacts DIR; or import from the running server");
    }
    if report.dry_run {
        cx.out.hint("nothing was written; run it again without --dry-run");
    } else if report.is_unchanged() {
        cx.out.say("nothing was new");
    }
}
