//! `gristmill completions SHELL`.

use super::{Cli, Cx, Ended, Exit};
use clap::{Args, CommandFactory as _};
use clap_complete::Shell;

/// Shell completions.
#[derive(Debug, Args)]
pub struct Completions {
    /// The shell.
    #[arg(value_enum)]
    shell: Shell,
}

impl Completions {
    pub fn run(self, cx: &Cx) -> Ended {
        let mut text = Vec::new();
        clap_complete::generate(self.shell, &mut Cli::command(), "gristmill", &mut text);
        cx.out.data(String::from_utf8_lossy(&text));
        Ok(Exit::Done)
    }
}
