//! Where the files of runs and logged models are: their addresses, and the keys behind them.
//!
//! An experiment may name a place elsewhere (`s3://...`). Such an address is passed on and never opened: this server keeps
//! `mlflow-artifacts:` addresses only, and says so when it is asked for the others.

use super::super::{Mlflow, error, locations};
use super::key;
use gristmill_kernel::port::ArtifactKey;
use gristmill_kernel::tracking::{LoggedModel, ViewType};
use gristmill_kernel::{Result, RunId};

/// The address of the files of a run, deleted or not.
pub(crate) async fn of_run(mlflow: &Mlflow, id: &RunId) -> Result<String> {
    let location = mlflow.location_of(&mlflow.run(id).await?).await?;
    Ok(locations::of_run(&location, id))
}

/// The address of the files of a logged model that is not deleted.
pub(crate) async fn of_model(mlflow: &Mlflow, id: &str) -> Result<String> {
    of_logged(mlflow, &mlflow.logged_model(id, ViewType::ActiveOnly).await?).await
}

/// The address of the files of a logged model.
pub(crate) async fn of_logged(mlflow: &Mlflow, model: &LoggedModel) -> Result<String> {
    Ok(locations::of_model(&mlflow.experiment(model.experiment).await?.artifact_location, &model.id))
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
