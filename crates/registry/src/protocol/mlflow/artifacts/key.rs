//! From what clients write (paths below a root, `mlflow-artifacts:` addresses) to keys of artifacts. The only way from one to the other.
//!
//! Promises: a key names a row, never a path. Text is decoded once, by the router. The keys under [`PARTS`] are ours: no client names one,
//! and no listing shows them.

use gristmill_kernel::port::ArtifactKey;
use gristmill_kernel::{Code, Fault, Result};

/// Where the parts of unfinished uploads are.
pub(crate) const PARTS: &str = ".uploads";
/// The scheme of the addresses that this server keeps.
pub(crate) const SCHEME: &str = "mlflow-artifacts:";

/// MLflow's words for every name that cannot be one.
pub(crate) fn invalid_path() -> Fault {
    Fault::invalid(Code::BAD_PATH, "Invalid path").fix("use names joined by `/`, without `..`, `#`, backslashes or control characters")
}

/// The key of a path. Empty and `.` segments mean nothing, as on a disk; `None` is the root.
pub(crate) fn key(text: &str) -> Result<Option<ArtifactKey>> {
    if text.starts_with('/') || text.starts_with("file:") || text.contains('#') {
        return Err(invalid_path());
    }
    let parts: Vec<&str> = text.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
    match parts.first() {
        None => Ok(None),
        Some(&PARTS) => Err(invalid_path()),
        Some(_) => ArtifactKey::new(&parts.join("/")).map(Some).map_err(|_| invalid_path()),
    }
}

/// The key of a file or folder; the root is neither.
pub(crate) fn file(text: &str) -> Result<ArtifactKey> {
    key(text)?.ok_or_else(invalid_path)
}

/// The key of a path below another key.
pub(crate) fn below(root: &ArtifactKey, path: Option<&str>) -> Result<ArtifactKey> {
    match path.map(key).transpose()?.flatten() {
        None => Ok(root.clone()),
        Some(path) => file(&format!("{}/{}", root.as_str(), path.as_str())),
    }
}

/// The key of an address. `None` is an address elsewhere: another scheme, or another server.
pub(crate) fn of_address(address: &str) -> Option<Result<ArtifactKey>> {
    let rest = address.strip_prefix(SCHEME)?;
    // `mlflow-artifacts://host/...` is another server, `mlflow-artifacts:///...` is this one.
    let path = match rest.strip_prefix("//") {
        Some(authority) => authority.strip_prefix('/')?,
        None => rest,
    };
    if path.contains('?') {
        return Some(Err(invalid_path()));
    }
    Some(file(path.trim_start_matches('/')))
}

/// The last segment.
pub(crate) fn name(key: &str) -> &str {
    key.rsplit('/').next().unwrap_or(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_become_keys() {
        for (path, wanted) in [
            ("a", "a"),
            ("a/b", "a/b"),
            ("a//b/", "a/b"),
            ("./a/./b", "a/b"),
            ("ä b/c d.txt", "ä b/c d.txt"),
            ("a..b", "a..b"),
            ("..a", "..a"),
        ] {
            assert_eq!(file(path).expect(path).as_str(), wanted);
        }
        for root in ["", ".", "./", "a/.."] {
            assert!(!matches!(key(root), Ok(Some(_))), "{root}");
        }
    }

    #[test]
    fn what_is_no_path_is_said_so_in_mlflows_words() {
        let long = "a/".repeat(600);
        for evil in [
            "..",
            "../x",
            "a/../b",
            "/etc/passwd",
            "a\\b",
            "C:\\x",
            "C:/x",
            "a\0",
            "a\nb",
            "file:///etc/passwd",
            "file:x",
            "%2e%2e/x",
            "a%252fb",
            "a#b",
            ".uploads",
            ".uploads/x/1",
            "./.uploads/x",
            ".//.uploads",
            "~/x",
            &long,
        ] {
            assert_eq!(file(evil).expect_err(evil).message, "Invalid path");
        }
    }

    #[test]
    fn addresses_of_this_server_have_keys() {
        for (address, wanted) in [
            ("mlflow-artifacts:/0/r/artifacts", "0/r/artifacts"),
            ("mlflow-artifacts:///0/r//a/", "0/r/a"),
            ("mlflow-artifacts:0/r", "0/r"),
        ] {
            assert_eq!(of_address(address).expect("ours").expect("good").as_str(), wanted);
        }
        for elsewhere in [
            "s3://b/k",
            "mlflow-artifacts://host:9000/x",
            "file:///x",
            "/x",
            "",
            "http://h/api/2.0/mlflow-artifacts/artifacts/x",
            "MLFLOW-ARTIFACTS:/x",
        ] {
            assert!(of_address(elsewhere).is_none(), "{elsewhere}");
        }
        for bad in [
            "mlflow-artifacts:/",
            "mlflow-artifacts:/../x",
            "mlflow-artifacts:/a?b",
            "mlflow-artifacts:/.uploads/x",
            "mlflow-artifacts:/a#b",
        ] {
            assert!(of_address(bad).expect("ours").is_err(), "{bad}");
        }
    }

    #[test]
    fn paths_below_a_root_stay_there() {
        let root = file("0/r/artifacts").expect("good");
        assert_eq!(below(&root, Some("m/x")).expect("good").as_str(), "0/r/artifacts/m/x");
        assert_eq!(below(&root, None).expect("good"), root);
        assert_eq!(below(&root, Some(".")).expect("good"), root);
        for evil in ["../../s/artifacts/x", "/0/r", ".."] {
            assert!(below(&root, Some(evil)).is_err(), "{evil}");
        }
    }
}
