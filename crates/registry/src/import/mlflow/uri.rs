//! Artifact addresses of another tracker: which run's or logged model's files are meant, and which of them.
//!
//! An address never becomes a path here. It is taken apart into an owner and a relative rest, or it is "elsewhere".

use super::source::Owner;
use super::{check, source};
use percent_encoding::percent_decode_str;

/// What an address means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Meant {
    /// Whose files.
    pub owner: Owner,
    /// Beneath which key; empty for all of them.
    pub rest: String,
}

/// Reads the source of a version: `models:/m-...`, `runs:/RUN/PATH`, or any URI or path that ends in `.../RUN/artifacts/PATH` or
/// `.../models/m-.../artifacts/PATH`. `None` if it is none of these.
pub fn meant(address: &str) -> Option<Meant> {
    if let Some(rest) = address.strip_prefix("models:/") {
        let id = rest.trim_start_matches('/');
        return is_model(id).then(|| Meant { owner: Owner::Model(id.to_owned()), rest: String::new() });
    }
    if let Some(rest) = address.strip_prefix("runs:/") {
        let (run, rest) = rest.trim_start_matches('/').split_once('/').unwrap_or((rest.trim_start_matches('/'), ""));
        return Some(Meant { owner: Owner::Run(check::run_id(run).ok()?), rest: relative(rest.split('/'))? });
    }
    let parts = segments(address)?;
    // The last match: a folder above may be called `artifacts` too, with a run's id above it only by accident.
    let at = (1..parts.len()).rev().find(|i| parts[*i] == "artifacts" && is_owner(&parts[*i - 1], parts.get(i.wrapping_sub(2))))?;
    let id = parts[at - 1].clone();
    let owner = if is_model(&id) { Owner::Model(id) } else { Owner::Run(check::run_id(&id).ok()?) };
    Some(Meant { owner, rest: relative(parts[at + 1..].iter().map(String::as_str))? })
}

/// Where an artifact root is, as far as readers care.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Location {
    /// Behind the tracking server's artifact proxy, beneath this key.
    Proxied(String),
    /// A path of the machine that wrote it.
    Local(String),
    /// Something else: a bucket, a share.
    Elsewhere,
}

/// Reads an artifact root.
pub fn location(address: &str) -> Location {
    match scheme(address) {
        Some(("mlflow-artifacts", _)) => {
            segments(address).and_then(|p| relative(p.iter().map(String::as_str))).map_or(Location::Elsewhere, Location::Proxied)
        }
        Some(("file", rest)) => {
            // `file:///a/b`, `file:/a/b`, `file://localhost/a/b`; another host is elsewhere.
            let path = match rest.strip_prefix("//") {
                Some(rest) => match rest.split_once('/') {
                    Some(("" | "localhost", path)) => format!("/{path}"),
                    _ => return Location::Elsewhere,
                },
                None => rest.to_owned(),
            };
            percent_decode_str(&path).decode_utf8().map_or(Location::Elsewhere, |path| Location::Local(path.into_owned()))
        }
        Some(_) => Location::Elsewhere,
        None => Location::Local(address.to_owned()),
    }
}

/// The files of a run or logged model beneath a proxied key.
pub fn root_key(experiment_location: &str, owner: &source::Owner) -> String {
    let base = experiment_location.strip_prefix("mlflow-artifacts:").unwrap_or(experiment_location).trim_matches('/');
    match owner {
        Owner::Run(run) => format!("{base}/{run}/artifacts"),
        Owner::Model(model) => format!("{base}/models/{model}/artifacts"),
    }
}

fn scheme(address: &str) -> Option<(&str, &str)> {
    let (scheme, rest) = address.split_once(':')?;
    // A single letter is a drive.
    let sound = scheme.len() > 1 && scheme.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-' | b'.'));
    sound.then_some((scheme, rest))
}

/// The decoded segments of an address without scheme, host, query and fragment.
fn segments(address: &str) -> Option<Vec<String>> {
    let (decode, path) = match scheme(address) {
        Some((_, rest)) => {
            let rest = rest.split(['?', '#']).next().unwrap_or_default();
            let path = match rest.strip_prefix("//") {
                Some(rest) => rest.split_once('/').map_or("", |(_, path)| path),
                None => rest,
            };
            (true, path)
        }
        None => (false, address),
    };
    let parts = path.split('/').filter(|p| !p.is_empty());
    parts
        .map(|p| match decode {
            true => percent_decode_str(p).decode_utf8().ok().map(|p| p.into_owned()),
            false => Some(p.to_owned()),
        })
        .collect()
}

/// Joins segments; `None` if one of them climbs or hides.
fn relative<'a>(parts: impl Iterator<Item = &'a str>) -> Option<String> {
    let parts: Vec<&str> = parts.filter(|p| !p.is_empty()).collect();
    let sound = parts.iter().all(|p| *p != "." && *p != ".." && !p.contains(['/', '\\']) && !p.chars().any(char::is_control));
    sound.then(|| parts.join("/"))
}

fn is_model(id: &str) -> bool {
    id.strip_prefix("m-").is_some_and(|hex| hex.len() == 32 && hex.bytes().all(|b| b.is_ascii_hexdigit()))
}

fn is_owner(id: &str, above: Option<&String>) -> bool {
    let run = id.len() == 32 && id.bytes().all(|b| b.is_ascii_hexdigit());
    run || (is_model(id) && above.is_some_and(|a| a == "models"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use gristmill_kernel::RunId;

    const RUN: &str = "0123456789abcdef0123456789abcdef";

    #[test]
    fn addresses_name_an_owner_and_a_rest() {
        let run = |rest: &str| Some(Meant { owner: Owner::Run(RunId(RUN.into())), rest: rest.into() });
        let model = |rest: &str| Some(Meant { owner: Owner::Model(format!("m-{RUN}")), rest: rest.into() });
        assert_eq!(meant(&format!("runs:/{RUN}/model")), run("model"));
        assert_eq!(meant(&format!("models:/m-{RUN}")), model(""));
        assert_eq!(meant(&format!("mlflow-artifacts:/1/{RUN}/artifacts/model")), run("model"));
        assert_eq!(meant(&format!("mlflow-artifacts://host:5000/1/{RUN}/artifacts/model")), run("model"));
        assert_eq!(meant(&format!("file:///home/a%20b/mlruns/0/{RUN}/artifacts/m%20x/y")), run("m x/y"));
        assert_eq!(meant(&format!("/data/artifacts/mlruns/0/{RUN}/artifacts")), run(""));
        assert_eq!(meant(&format!("s3://bucket/1/models/m-{RUN}/artifacts")), model(""));
        for none in ["s3://bucket/x", "models:/churn/1", "/etc/passwd", "runs:/../x", &format!("/x/{RUN}/artifacts/../../etc")] {
            assert_eq!(meant(none), None, "{none}");
        }
        assert_eq!(meant(&format!("file:///x/{RUN}/artifacts/%2e%2e/etc")), None);
    }

    #[test]
    fn roots_are_behind_the_proxy_local_or_elsewhere() {
        assert_eq!(location("mlflow-artifacts:/1/r/artifacts"), Location::Proxied("1/r/artifacts".into()));
        assert_eq!(location("file:///a%20b/c"), Location::Local("/a b/c".into()));
        assert_eq!(location("/a/b"), Location::Local("/a/b".into()));
        assert_eq!(location("./mlruns/0"), Location::Local("./mlruns/0".into()));
        for elsewhere in ["s3://b/c", "file://server/share", "dbfs:/x", "mlflow-artifacts:/../x"] {
            assert_eq!(location(elsewhere), Location::Elsewhere, "{elsewhere}");
        }
    }
}
