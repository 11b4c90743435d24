//! Where the files of runs and logged models are: their addresses, and the keys behind them.
//!
//! An experiment may name a place elsewhere (`s3://...`). Such an address is passed on and never opened: this server keeps
//! `mlflow-artifacts:` addresses only, and says so when it is asked for the others.

use super::super::{Mlflow, error};
use super::key;
use gristmill_kernel::port::ArtifactKey;
use gristmill_kernel::tracking::{Experiment, ExperimentId, LoggedModel, ViewType};
use gristmill_kernel::{Code, Fault, Result, RunId};

/// The address of a run's files.
pub(crate) fn run_address(experiment: &Experiment, run: &RunId) -> String {
    format!("{}/{run}/artifacts", experiment.artifact_location.trim_end_matches('/'))
}

/// The address of a logged model's files.
pub(crate) fn model_address(experiment: &Experiment, model: &str) -> String {
    format!("{}/models/{model}/artifacts", experiment.artifact_location.trim_end_matches('/'))
}

/// The address of the files of a run, deleted or not.
pub(crate) async fn of_run(mlflow: &Mlflow, id: &RunId) -> Result<String> {
    let run = mlflow.tracking.tracked_run(id).await?;
    let run = run.ok_or_else(|| error::unknown(Code::UNKNOWN_RUN, format!("Run with id={id} not found")))?;
    Ok(run_address(&experiment(mlflow, run.experiment).await?, id))
}

/// The address of the files of a logged model that is not deleted.
pub(crate) async fn of_model(mlflow: &Mlflow, id: &str) -> Result<String> {
    let model = logged_model(mlflow, id, ViewType::ActiveOnly).await?;
    Ok(model_address(&experiment(mlflow, model.experiment).await?, id))
}

/// A logged model.
pub(crate) async fn logged_model(mlflow: &Mlflow, id: &str, view: ViewType) -> Result<LoggedModel> {
    let model = mlflow.tracking.logged_model(id, view).await?;
    model.ok_or_else(|| error::unknown(Code::UNKNOWN_LOGGED_MODEL, format!("Logged model with ID '{id}' not found.")))
}

pub(crate) async fn experiment(mlflow: &Mlflow, id: ExperimentId) -> Result<Experiment> {
    let experiment = mlflow.tracking.experiment(id).await?;
    experiment.ok_or_else(|| Fault::damaged(format!("experiment {id} is not in the ledger, but a run of it is")))
}

/// The key of a place that this server keeps. Experiments may name the server in it: `mlflow-artifacts://host/5` is `mlflow-artifacts:/5`.
pub(crate) fn kept(address: &str) -> Result<ArtifactKey> {
    let named = address.strip_prefix(key::SCHEME).and_then(|rest| rest.strip_prefix("//")).and_then(|rest| rest.split_once('/'));
    if let Some((_, path)) = named {
        return key::file(path.trim_start_matches('/'));
    }
    key::of_address(address).unwrap_or_else(|| {
        let scheme = address.split(':').next().unwrap_or_default();
        Err(error::not_supported(format!("Artifacts with '{scheme}' addresses are not kept by this server."))
            .fix("open them with a client that can reach that place"))
    })
}
