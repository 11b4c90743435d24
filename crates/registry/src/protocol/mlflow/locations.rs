//! Where the artifacts of experiments, runs and logged models are, as addresses.
//!
//! `mlflow-artifacts:` addresses are ours, and only [`super::artifacts`] makes keys of them. Others name stores that clients reach
//! themselves; this server keeps the text and opens nothing there. A path of the server is never one.

use super::artifacts::key::of_address;
use super::error::invalid;
use super::validate::{LOCATION_CHARS_MAX, within};
use gristmill_kernel::tracking::trace::TraceId;
use gristmill_kernel::{Fault, Result, RunId};

/// Schemes of stores that clients reach themselves.
const THEIRS: [&str; 12] = ["s3", "s3a", "gs", "wasb", "wasbs", "abfs", "abfss", "hdfs", "viewfs", "dbfs", "r2", "b2"];

/// The address of a run's files beneath its experiment's.
pub(crate) fn of_run(root: &str, run: &RunId) -> String {
    format!("{}/{run}/artifacts", root.trim_end_matches('/'))
}

/// The address of a logged model's files beneath its experiment's.
pub(crate) fn of_model(root: &str, model: &str) -> String {
    format!("{}/models/{model}/artifacts", root.trim_end_matches('/'))
}

/// The address of a trace's files beneath its experiment's.
pub(crate) fn of_trace(root: &str, trace: &TraceId) -> String {
    format!("{}/traces/{trace}/artifacts", root.trim_end_matches('/'))
}

/// Checks where a client wants the artifacts of an experiment.
pub(crate) fn check_root(location: &str) -> Result<()> {
    within("artifact_location", LOCATION_CHARS_MAX, location)?;
    if let Some(key) = of_address(location) {
        return key.map(drop);
    }
    if location.starts_with("runs:") {
        return Err(invalid(format!("Artifact location cannot be a runs:/ URI. Given: '{location}'")));
    }
    let Some((scheme, _)) = location.split_once(":/") else { return Err(bad_location(location)) };
    let plain = !location.contains(['#', '?', ';', '\\', '%']) && !location.chars().any(char::is_control);
    let climbs = location.split('/').any(|part| part == ".." || part == ".");
    if THEIRS.contains(&scheme) && plain && !climbs { Ok(()) } else { Err(bad_location(location)) }
}

fn bad_location(location: &str) -> Fault {
    invalid(format!("Invalid artifact location: '{}'", location.escape_debug())).fix(
        "leave it out, or use an mlflow-artifacts:/ URI or a remote store such as s3://bucket/folder; paths of the server are not taken",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roots_are_ours_or_remote_and_never_paths() {
        assert_eq!(of_run("s3://b/x/", &RunId("r".into())), "s3://b/x/r/artifacts");
        assert_eq!(of_model("mlflow-artifacts:/5", "m-1"), "mlflow-artifacts:/5/models/m-1/artifacts");
        for good in ["mlflow-artifacts:/mine", "s3://bucket/folder", "gs://bucket", "abfss://c@a.dfs.core.windows.net/x"] {
            assert!(check_root(good).is_ok(), "{good}");
        }
        for bad in [
            "my_location",
            "/tmp/x",
            "file:///etc",
            "file:/etc",
            "C:\\data",
            "\\\\server\\share",
            "runs:/abc/model",
            "mlflow-artifacts:/../x",
            "mlflow-artifacts:/.uploads/x",
            "mlflow-artifacts://elsewhere/x",
            "mlflow-artifacts:/x#y",
            "mlflow-artifacts:/x?y",
            "mlflow-artifacts:/%2e%2e/x",
            "s3://bucket/../other",
            "s3://bucket/x?versionId=1",
            "s3:bucket",
            "http://169.254.169.254/x",
            "ftp://host/x",
            "sqlite:///x.db",
            "",
        ] {
            assert!(check_root(bad).is_err(), "{bad}");
        }
    }
}
