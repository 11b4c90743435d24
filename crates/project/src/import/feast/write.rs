//! Writes planned sources and views into a project's folder, and leaves alone what people changed.
//!
//! A view's file ends in a line with a digest of what stands above it. Where the digest still fits, nobody changed the file and a newer import
//! may replace it. `gristmill.toml` is only ever added to.

use super::plan::{Note, Plan, PlannedSource};
use gristmill_kernel::{Code, Digest, Fault, Name, Result};
use std::path::Path;

const PROJECT: &str = "gristmill.toml";
const MARK: &str = "-- gristmill import feast ";

/// Whether files are written, and which.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// None: only say what would be written.
    Dry,
    /// New ones, and those that nobody changed.
    Careful,
    /// Views that somebody changed, too.
    Force,
}

/// What happened to a file or a source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It was not there.
    New,
    /// It was there, as an earlier import wrote it, and is now as Feast has it.
    Updated,
    /// It was there and says the same.
    Same,
    /// Somebody changed it, and it stays so.
    Kept,
}

/// How many of each.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct Tally {
    /// Were not there.
    pub new: u64,
    /// Are as Feast has them now.
    pub updated: u64,
    /// Were as they should be.
    pub same: u64,
    /// Were left as somebody made them.
    pub kept: u64,
}

impl Tally {
    fn count(&mut self, outcome: Outcome) {
        match outcome {
            Outcome::New => self.new += 1,
            Outcome::Updated => self.updated += 1,
            Outcome::Same => self.same += 1,
            Outcome::Kept => self.kept += 1,
        }
    }
}

/// What was written.
#[derive(Debug, Default)]
pub struct Written {
    /// Of sources.
    pub sources: Tally,
    /// Of views.
    pub views: Tally,
    /// The files, relative to the project.
    pub files: Vec<(String, Outcome)>,
    /// What was left alone.
    pub notes: Vec<Note>,
}

/// Writes a plan.
pub fn write(plan: &Plan, project: &Name, out: &Path, mode: Mode) -> Result<Written> {
    let mut written = Written::default();
    let file = out.join(PROJECT);
    let before = existing(&file)?;
    let (text, kept) = with_sources(before.as_deref(), project, &plan.sources, &mut written.sources)?;
    written.notes.extend(kept);
    let outcome = match &before {
        None => Outcome::New,
        Some(before) if *before == text => Outcome::Same,
        Some(_) => Outcome::Updated,
    };
    put(&file, &text, outcome, mode)?;
    written.files.push((PROJECT.to_owned(), outcome));
    for view in &plan.views {
        let name = format!("features/{}.sql", view.name);
        let file = out.join(&name);
        let text = marked(&view.text);
        let outcome = match existing(&file)? {
            None => Outcome::New,
            Some(before) if before == text => Outcome::Same,
            Some(before) if is_ours(&before) || mode == Mode::Force => Outcome::Updated,
            Some(_) => {
                let note = Note {
                    what: name.clone(),
                    why: "is not as an import wrote it, and stays as it is".to_owned(),
                    fix: Some("take over what Feast has with --force, which replaces the file".to_owned()),
                };
                written.notes.push(note);
                Outcome::Kept
            }
        };
        put(&file, &text, outcome, mode)?;
        written.views.count(outcome);
        written.files.push((name, outcome));
    }
    Ok(written)
}

/// The project file with the sources that it lacks, and what is to be said about those that it has otherwise.
fn with_sources(before: Option<&str>, project: &Name, sources: &[PlannedSource], tally: &mut Tally) -> Result<(String, Vec<Note>)> {
    let mut text = before.map_or_else(|| format!("project = \"{project}\"\n"), str::to_owned);
    let known = parsed(&text)?;
    let known = known.get("sources").and_then(toml::Value::as_table);
    let mut notes = Vec::new();
    for source in sources {
        let table = format!("[sources.{}]\nfrom = {}\ntime = {}\n", source.name, quoted(&source.from), quoted(&source.time));
        let Some(there) = known.and_then(|known| known.get(source.name.as_str())) else {
            if !text.is_empty() && !text.ends_with('\n') {
                text.push('\n');
            }
            text += &format!("\n{table}");
            tally.count(Outcome::New);
            continue;
        };
        let is = |key: &str, value: &str| there.get(key).and_then(toml::Value::as_str) == Some(value);
        if is("from", &source.from) && is("time", &source.time) {
            tally.count(Outcome::Same);
        } else {
            tally.count(Outcome::Kept);
            notes.push(Note {
                what: format!("sources.{}", source.name),
                why: format!("{PROJECT} has another source of that name, and keeps it"),
                fix: Some(format!("if it is the same one, write from = {} and time = {}", quoted(&source.from), quoted(&source.time))),
            });
        }
    }
    // A file that has its sources in one inline table cannot have more of them below.
    parsed(&text).map_err(|fault| fault.fix("write each source as a table of its own, [sources.NAME], and import again"))?;
    Ok((text, notes))
}

fn parsed(text: &str) -> Result<toml::Table> {
    text.parse().map_err(|e: toml::de::Error| {
        Fault::invalid(Code::PROJECT_SYNTAX, format!("{PROJECT} cannot be read: {}", e.message())).fix("see gristmill check")
    })
}

fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

/// A view's text with its mark.
fn marked(text: &str) -> String {
    format!("{text}{MARK}{}\n", Digest::of(text).short())
}

/// Whether a file is as an import wrote it.
fn is_ours(text: &str) -> bool {
    text.rfind(MARK).is_some_and(|at| text[at + MARK.len()..].trim_end() == Digest::of(&text[..at]).short())
}

fn existing(file: &Path) -> Result<Option<String>> {
    match std::fs::read_to_string(file) {
        Ok(text) => Ok(Some(text)),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(Fault::io(format!("read {}", file.display()), e)),
    }
}

/// Writes a file: whole or not at all.
fn put(file: &Path, text: &str, outcome: Outcome, mode: Mode) -> Result<()> {
    if mode == Mode::Dry || matches!(outcome, Outcome::Same | Outcome::Kept) {
        return Ok(());
    }
    let told = |e| Fault::io(format!("write {}", file.display()), e);
    if let Some(folder) = file.parent() {
        std::fs::create_dir_all(folder).map_err(told)?;
    }
    let mut new = file.as_os_str().to_owned();
    new.push(".new");
    std::fs::write(&new, text).map_err(told)?;
    std::fs::rename(&new, file).map_err(told)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_tells_whether_somebody_changed_the_file() {
        let text = marked("select 1\n");
        assert!(is_ours(&text) && is_ours(text.trim_end()));
        for changed in [text.replace('1', "2"), "select 1\n".to_owned(), format!("{text}-- mine\n")] {
            assert!(!is_ours(&changed), "{changed}");
        }
    }
}
