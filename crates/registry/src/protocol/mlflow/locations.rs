//! Where artifacts are, as URIs. A client's text becomes a key of the artifact store by parsing, or nothing.
//!
//! `mlflow-artifacts:` URIs are ours. Others name stores that clients reach themselves; this server keeps the text and opens nothing there.

use super::error::{invalid, not_supported};
use super::validate::{LOCATION_CHARS_MAX, within};
use gristmill_kernel::port::ArtifactKey;
use gristmill_kernel::{Code, Fault, Result};

/// The scheme of what this server stores.
const OURS: &str = "mlflow-artifacts";
/// Schemes of stores that clients reach themselves.
const THEIRS: [&str; 12] = ["s3", "s3a", "gs", "wasb", "wasbs", "abfs", "abfss", "hdfs", "viewfs", "dbfs", "r2", "b2"];

/// Checks where a client wants the artifacts of an experiment.
pub(crate) fn check_root(location: &str) -> Result<()> {
    within("artifact_location", LOCATION_CHARS_MAX, location)?;
    let Some((scheme, _)) = location.split_once(':') else { return Err(bad_location(location)) };
    if scheme == OURS {
        return root_key(location).map(drop);
    }
    if scheme == "runs" {
        return Err(invalid(format!("Artifact location cannot be a runs:/ URI. Given: '{location}'")));
    }
    let plain = !location.contains(['#', '?', ';', '\\', '%']) && !location.chars().any(char::is_control);
    let climbs = location.split('/').any(|part| part == ".." || part == ".");
    if THEIRS.contains(&scheme) && plain && !climbs && location.contains("://") {
        return Ok(());
    }
    Err(bad_location(location))
}

fn bad_location(location: &str) -> Fault {
    invalid(format!("Invalid artifact location: '{}'", location.escape_debug())).fix(
        "leave it out, or use an mlflow-artifacts:/ URI or a remote store such as s3://bucket/folder; paths of the server are not taken",
    )
}

/// The key under which a location's files are stored; `None` is everything. A location that is not ours has none: 501.
pub(crate) fn root_key(location: &str) -> Result<Option<ArtifactKey>> {
    let Some(rest) = location.strip_prefix(OURS).and_then(|rest| rest.strip_prefix(':')) else {
        return Err(not_supported("artifacts of this experiment are in a store that clients reach themselves"));
    };
    // `mlflow-artifacts://host/key` names the server too; clients put their own tracking server there.
    let path = match rest.strip_prefix("//") {
        Some(rest) => rest.split_once('/').map_or("", |(_, path)| path),
        None => rest.trim_start_matches('/'),
    };
    let path = path.trim_end_matches('/');
    if path.contains(['#', '?']) {
        return Err(Fault::invalid(Code::BAD_PATH, format!("Invalid path: {}", path.escape_debug())));
    }
    if path.is_empty() { Ok(None) } else { ArtifactKey::new(path).map(Some) }
}

/// The key of a file or folder beneath a location.
pub(crate) fn key_beneath(location: &str, path: Option<&str>) -> Result<Option<ArtifactKey>> {
    let root = root_key(location)?;
    let path = path.map(|p| p.trim_end_matches('/')).filter(|p| !p.is_empty());
    match (root, path) {
        (root, None) => Ok(root),
        (None, Some(path)) => ArtifactKey::new(path).map(Some),
        (Some(root), Some(path)) => {
            // Checked by itself first: a path that begins with a slash would otherwise hide behind the root.
            ArtifactKey::new(path)?;
            ArtifactKey::new(&format!("{}/{path}", root.as_str())).map(Some)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_locations_are_keys() {
        let key = |text: &str| root_key(text).expect(text).map(|k| k.as_str().to_owned());
        assert_eq!(key("mlflow-artifacts:/5"), Some("5".into()));
        assert_eq!(key("mlflow-artifacts:/5/a b/artifacts/"), Some("5/a b/artifacts".into()));
        assert_eq!(key("mlflow-artifacts://host:7300/5"), Some("5".into()));
        assert_eq!(key("mlflow-artifacts:/"), None);
        let beneath = key_beneath("mlflow-artifacts:/5", Some("model/MLmodel")).expect("fits").expect("a key");
        assert_eq!(beneath.as_str(), "5/model/MLmodel");
        for path in ["../6", "/etc/passwd", "a/../../6", "..%2f6", "a\\b"] {
            assert!(key_beneath("mlflow-artifacts:/5", Some(path)).is_err(), "{path}");
        }
        assert!(root_key("s3://bucket/x").is_err());
    }

    #[test]
    fn roots_are_ours_or_remote_and_never_paths() {
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
