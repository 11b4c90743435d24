//! `gristmill import feast REPO`: a repository of Feast as sources and `features/*.sql`.

use crate::cli::{Cx, Ended, Exit};
use crate::output::{table, thousands};
use crate::wiring::project_dir;
use clap::Args;
use gristmill_project::import::feast::{Mode, Note, Options, Report, Tally, import};
use std::path::PathBuf;

/// How Feast is taken over.
#[derive(Debug, Args)]
pub struct Feast {
    /// The folder that `feast apply` is run in (with feature_store.yaml), or the registry file itself (data/registry.db).
    repo: PathBuf,
    /// Say what would be written; write nothing.
    #[arg(long)]
    dry_run: bool,
    /// The folder to write to; the project's, or this one, when left out.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Replace views that somebody changed since an earlier import.
    #[arg(long)]
    force: bool,
    /// Which project, where the registry has several.
    #[arg(long, value_name = "NAME")]
    feast_project: Option<String>,
}

impl Feast {
    pub fn run(self, cx: &Cx) -> Ended {
        let here = &cx.outside.here;
        let out = match &self.out {
            Some(out) => here.join(out),
            None => project_dir(cx).unwrap_or_else(|_| here.clone()),
        };
        let mode = match (self.dry_run, self.force) {
            (true, _) => Mode::Dry,
            (false, true) => Mode::Force,
            (false, false) => Mode::Careful,
        };
        let report = import(&Options { repo: &here.join(&self.repo), project: self.feast_project.as_deref(), out: &out, mode })?;
        show(cx, &report);
        Ok(Exit::Done)
    }
}

/// The outcome: a table for people, the report for programs.
fn show(cx: &Cx, report: &Report) {
    if cx.out.is_json() {
        cx.out.data_json(report);
        return;
    }
    cx.out.say(format!("read {}, project {}", report.registry, report.project));
    let line = |note: &Note| format!("{}: {}", note.what, note.why);
    for note in &report.not_taken {
        cx.out.warn(format!("not taken: {}", line(note)));
        note.fix.iter().for_each(|fix| cx.out.hint(fix));
    }
    for note in &report.notes {
        cx.out.say(line(note));
        note.fix.iter().for_each(|fix| cx.out.hint(fix));
    }
    let row = |what: &str, t: &Tally| {
        [what.to_owned()].into_iter().chain([t.new, t.updated, t.same, t.kept].map(thousands)).collect::<Vec<String>>()
    };
    cx.out.data(table(
        &["", if report.dry_run { "would be new" } else { "new" }, "updated", "here already", "left as changed"],
        vec![row("sources", &report.sources), row("views", &report.views)],
    ));
    if report.dry_run {
        cx.out.hint("nothing was written; run it again without --dry-run");
    } else {
        cx.out.hint(format!("next: gristmill --project {} apply", report.out));
    }
}
