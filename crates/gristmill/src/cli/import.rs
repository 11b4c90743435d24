//! `gristmill import`: what other tools have, taken over. A file per tool.

mod feast;
mod mlflow;

use super::{Cx, Ended};
use clap::{Args, Subcommand};

/// Take over what another tool has.
#[derive(Debug, Args)]
pub struct Import {
    #[command(subcommand)]
    from: From,
}

#[derive(Debug, Subcommand)]
enum From {
    /// From MLflow: experiments, runs, histories, files, logged and registered models, aliases, stages; ids and moments are kept.
    Mlflow(mlflow::Mlflow),
    /// From Feast: sources and feature views, as files of a project; rows stay where they are.
    Feast(feast::Feast),
}

impl Import {
    pub async fn run(self, cx: &Cx) -> Ended {
        match self.from {
            From::Mlflow(wish) => wish.run(cx).await,
            From::Feast(wish) => wish.run(cx),
        }
    }
}
