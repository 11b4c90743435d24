//! Feast: `gristmill import feast REPO`.
//!
//! [`place`] finds the registry, [`registry`] reads it, [`plan`] decides what it means here, [`sql`] writes a view's text, [`write`] the files.
//! To take over one more kind of thing: its fields in [`registry`], its meaning in [`plan`], and a case in `tests/import_feast.rs` with
//! `testdata/make_feast.py`, which makes a registry with Feast itself.

pub mod place;
pub mod plan;
pub mod registry;
pub mod sql;
pub mod write;

pub use plan::Note;
pub use write::{Mode, Outcome, Tally};

use gristmill_kernel::{Code, Fault, Result};
use plan::Places;
use std::collections::BTreeSet;
use std::path::Path;

/// What to take over, and where to.
#[derive(Debug, Clone)]
pub struct Options<'a> {
    /// A repository of Feast, or its registry file.
    pub repo: &'a Path,
    /// Which project of a registry that has several.
    pub project: Option<&'a str>,
    /// The folder of the project here.
    pub out: &'a Path,
    /// Whether files are written, and which.
    pub mode: Mode,
}

/// What was taken over.
#[derive(Debug, serde::Serialize)]
pub struct Report {
    /// Feast's project.
    pub project: String,
    /// The registry that was read.
    pub registry: String,
    /// The folder that was written to.
    pub out: String,
    /// Whether nothing was written.
    pub dry_run: bool,
    /// Sources of `gristmill.toml`.
    pub sources: Tally,
    /// Files in `features/`.
    pub views: Tally,
    /// Each file, with what happened to it.
    pub files: Vec<WrittenFile>,
    /// What has no counterpart here.
    pub not_taken: Vec<Note>,
    /// What differs, was left alone, or is to be done.
    pub notes: Vec<Note>,
}

/// A file of the project.
#[derive(Debug, PartialEq, Eq, serde::Serialize)]
pub struct WrittenFile {
    /// Its path in the project.
    pub path: String,
    /// What happened to it.
    pub outcome: Outcome,
}

/// Takes over a project of Feast.
pub fn import(options: &Options<'_>) -> Result<Report> {
    let found = place::open(options.repo)?;
    let project = chosen(options.project.or(found.project.as_deref()), &found.registry)?;
    let out = absolute(options.out)?;
    let places = Places { repo: &found.repo, out: &out, is_folder: &|path: &Path| path.is_dir() };
    let plan = plan::plan(&found.registry, &project, &places);
    let written = write::write(&plan, &plan::name_of(&project), &out, options.mode)?;
    let mut notes = written.notes;
    notes.extend(plan.notes);
    Ok(Report {
        project,
        registry: found.file.display().to_string(),
        out: out.display().to_string(),
        dry_run: options.mode == Mode::Dry,
        sources: written.sources,
        views: written.views,
        files: written.files.into_iter().map(|(path, outcome)| WrittenFile { path, outcome }).collect(),
        not_taken: plan.not_taken,
        notes,
    })
}

/// The project to take: the one that is named, or the only one.
fn chosen(named: Option<&str>, registry: &registry::Registry) -> Result<String> {
    let mut known: BTreeSet<&str> = registry.projects.iter().map(String::as_str).collect();
    known.extend(registry.views.iter().map(|view| view.project.as_str()));
    let list = known.iter().map(|name| plan::shown(name)).collect::<Vec<_>>().join(", ");
    match (named, known.len()) {
        (Some(name), _) if known.contains(name) => Ok(name.to_owned()),
        (Some(name), _) => Err(Fault::not_found(Code::UNKNOWN_NAME, format!("the registry has no project `{}`", plan::shown(name)))
            .fix(format!("it has {list}; name one with --feast-project, or run `feast apply`"))),
        (None, 1) => Ok(known.into_iter().collect()),
        (None, _) => Err(Fault::invalid(Code::BAD_VALUE, format!("the registry has {} projects", known.len()))
            .fix(format!("name one with --feast-project: {list}"))),
    }
}

/// The folder without links and dots, so that paths beneath it are seen to be; it may not be there yet.
fn absolute(out: &Path) -> Result<std::path::PathBuf> {
    match out.canonicalize() {
        Ok(out) => Ok(out),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(out.to_owned()),
        Err(e) => Err(Fault::io(format!("open {}", out.display()), e)),
    }
}
