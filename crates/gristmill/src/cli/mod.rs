//! The commands. One file each; `Command` is the list. Data goes to standard output, everything else to standard error;
//! every command has `--json`.
//!
//! Exit codes: 0 done, 1 failed, 2 usage, 3 `plan --exit-code` found changes, 4 a gate or expectation said no.

mod apply;
mod check;
mod completions;
mod dataset;
mod demo;
mod dev;
mod diff;
mod doctor;
mod explain;
mod import;
mod init;
mod logs;
mod plan;
mod predict;
mod promote;
mod purge;
mod quarantine;
mod replay;
mod rollback;
mod run;
mod serve;
mod show;
mod sql;
mod status;
mod test;
mod token;

use crate::config::Surroundings;
use crate::output::Output;
use clap::{Args, Parser, Subcommand};
use gristmill_kernel::{Fault, Kind};
use std::path::PathBuf;

/// Raw rows in, a served and monitored model that retrains itself out.
#[derive(Debug, Parser)]
#[command(name = "gristmill", version, propagate_version = true, max_term_width = 100, arg_required_else_help = true)]
pub struct Cli {
    #[command(flatten)]
    pub globals: Globals,
    #[command(subcommand)]
    command: Command,
}

/// Flags of every command.
#[derive(Debug, Clone, Args)]
pub struct Globals {
    /// The project's folder; found upwards from here when left out.
    #[arg(long, global = true, value_name = "DIR")]
    pub project: Option<PathBuf>,
    /// The environment: a table [env.NAME] of the project.
    #[arg(long, global = true, value_name = "NAME")]
    pub env: Option<String>,
    /// Machine-readable output.
    #[arg(long, global = true)]
    pub json: bool,
    /// Only errors.
    #[arg(long, short, global = true)]
    pub quiet: bool,
    /// Never ask.
    #[arg(long, global = true)]
    pub no_input: bool,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the whole loop on real data, then serve it.
    Demo(demo::Demo),
    /// Make a project from an example.
    Init(init::Init),
    /// Work on a project: apply it, serve it on loopback, follow its files.
    Dev(dev::Dev),
    /// Check the project file, the SQL and the conditions.
    Check(check::Check),
    /// Run the project's unit tests of features and labels.
    Test(test::Test),
    /// Show what `apply` would do, and what it would touch.
    Plan(plan::Plan),
    /// Bring everything up to date with the project.
    Apply(apply::Apply),
    /// Run one asset and what it needs.
    Run(run::Run),
    /// How things stand: health, endpoints, latest runs.
    Status(status::Status),
    /// An asset: resolved values, versions, aliases, lineage.
    Show(show::Show),
    /// What differs between two versions.
    Diff(diff::Diff),
    /// Write the rows of an asset to standard output.
    Dataset(dataset::Dataset),
    /// Ask an endpoint.
    Predict(predict::Predict),
    /// Compute a logged prediction again, and say whether it is the same.
    Replay(replay::Replay),
    /// Give a model version an alias; its gates must have passed.
    Promote(promote::Promote),
    /// Take an endpoint or a champion back to what it was before.
    Rollback(rollback::Rollback),
    /// The ledger's story: who did what, when and why.
    Logs(logs::Logs),
    /// Run a query over the project's tables.
    Sql(sql::Sql),
    /// List, export and replay quarantined rows.
    Quarantine(quarantine::Quarantine),
    /// Take over what another tool has: mlflow, feast.
    Import(import::Import),
    /// Remove for good what was deleted long enough ago.
    Purge(purge::Purge),
    /// Make, list and revoke tokens.
    Token(token::Token),
    /// Serve the project: predictions, ingestion, control API.
    Serve(serve::Serve),
    /// Is this machine fit, is this state sound?
    Doctor(doctor::Doctor),
    /// Explain an error code or how a feature is computed.
    Explain(explain::Explain),
    /// Shell completions.
    Completions(completions::Completions),
}

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// Done.
    Done,
    /// Failed.
    Failed,
    /// `plan --exit-code` found changes.
    Changes,
    /// A gate or expectation said no.
    Refused,
}

impl Exit {
    /// The process's exit code.
    pub fn code(self) -> u8 {
        match self {
            Exit::Done => 0,
            Exit::Failed => 1,
            Exit::Changes => 3,
            Exit::Refused => 4,
        }
    }
    /// What an error means for the exit code.
    pub fn of(fault: &Fault) -> Exit {
        if fault.kind == Kind::Refused { Exit::Refused } else { Exit::Failed }
    }
}

/// Several errors, or one.
#[derive(Debug)]
pub struct Faults(pub Vec<Fault>);

impl From<Fault> for Faults {
    fn from(fault: Fault) -> Faults {
        Faults(vec![fault])
    }
}
impl From<Vec<Fault>> for Faults {
    fn from(faults: Vec<Fault>) -> Faults {
        Faults(faults)
    }
}

/// What a command gives back.
pub type Ended = Result<Exit, Faults>;

/// What every command has at hand.
pub struct Cx {
    pub globals: Globals,
    pub outside: Surroundings,
    pub out: Output,
}

impl Cli {
    /// Runs the command.
    pub async fn run(self, outside: Surroundings) -> Exit {
        let out = Output::new(self.globals.json, self.globals.quiet, &outside);
        if let Some(place) = &outside.onnxruntime {
            gristmill_serve::runtime::onnx::library_at(outside.here.join(place));
        }
        let cx = Cx { globals: self.globals, outside, out };
        let ended = match self.command {
            Command::Demo(c) => c.run(&cx).await,
            Command::Init(c) => c.run(&cx),
            Command::Dev(c) => c.run(&cx).await,
            Command::Check(c) => c.run(&cx).await,
            Command::Test(c) => c.run(&cx).await,
            Command::Plan(c) => c.run(&cx).await,
            Command::Apply(c) => c.run(&cx).await,
            Command::Run(c) => c.run(&cx).await,
            Command::Status(c) => c.run(&cx).await,
            Command::Show(c) => c.run(&cx).await,
            Command::Diff(c) => c.run(&cx).await,
            Command::Dataset(c) => c.run(&cx).await,
            Command::Predict(c) => c.run(&cx).await,
            Command::Replay(c) => c.run(&cx).await,
            Command::Promote(c) => c.run(&cx).await,
            Command::Rollback(c) => c.run(&cx).await,
            Command::Logs(c) => c.run(&cx).await,
            Command::Sql(c) => c.run(&cx).await,
            Command::Quarantine(c) => c.run(&cx).await,
            Command::Import(c) => c.run(&cx).await,
            Command::Purge(c) => c.run(&cx).await,
            Command::Token(c) => c.run(&cx).await,
            Command::Serve(c) => c.run(&cx).await,
            Command::Doctor(c) => c.run(&cx).await,
            Command::Explain(c) => c.run(&cx).await,
            Command::Completions(c) => c.run(&cx),
        };
        match ended {
            Ok(exit) => exit,
            Err(Faults(faults)) => {
                for fault in &faults {
                    cx.out.fault(fault);
                }
                if faults.iter().any(|f| Exit::of(f) == Exit::Failed) { Exit::Failed } else { Exit::Refused }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_well_formed() {
        super::Cli::command().debug_assert();
    }
}
