//! Finds the registry that a user means: a folder with `feature_store.yaml`, that file, or the registry file itself.

use super::registry::{self, Registry};
use gristmill_kernel::limits::FOREIGN_CELL_BYTES_MAX;
use gristmill_kernel::{Code, Fault, Result};
use gristmill_registry::import::yaml::{self, Map, Yaml};
use std::io::Read as _;
use std::path::{Path, PathBuf};

const STORE: &str = "feature_store.yaml";

/// A registry that was found.
#[derive(Debug)]
pub struct Found {
    /// The registry's file.
    pub file: PathBuf,
    /// What relative paths in it start from.
    pub repo: PathBuf,
    /// The project that `feature_store.yaml` names.
    pub project: Option<String>,
    /// What it holds.
    pub registry: Registry,
}

/// Opens what the user named.
pub fn open(named: &Path) -> Result<Found> {
    let named = named.canonicalize().map_err(|e| Fault::io(format!("open {}", named.display()), e))?;
    let is_store = named.file_name().is_some_and(|name| name == STORE);
    if named.is_dir() || is_store {
        let repo = if is_store { parent(&named) } else { named };
        return of_store(&repo);
    }
    // Paths in a registry start from the repository: the nearest folder above with a feature_store.yaml.
    let repo = named.ancestors().skip(1).find(|folder| folder.join(STORE).is_file()).map_or_else(|| parent(&named), Path::to_owned);
    let registry = read(&named)?;
    Ok(Found { file: named, repo, project: None, registry })
}

fn of_store(repo: &Path) -> Result<Found> {
    let path = repo.join(STORE);
    if !path.is_file() {
        return Err(Fault::not_found(Code::FILE_NOT_FOUND, format!("{} has no {STORE}", repo.display()))
            .fix("name the folder that `feast apply` is run in, or the registry file itself (data/registry.db)"));
    }
    let text = String::from_utf8(content(&path)?).map_err(|_| unreadable(&path, "it is not UTF-8"))?;
    let store = yaml::parse(&text).map_err(|fault| {
        unreadable(&path, &fault.message).fix("name the registry file itself instead: gristmill import feast data/registry.db")
    })?;
    let file = registry_file(repo, &store, &path)?;
    if !file.is_file() {
        return Err(Fault::not_found(Code::FILE_NOT_FOUND, format!("there is no registry {}", file.display()))
            .fix("run `feast apply` in the repository first: it writes the registry"));
    }
    let project = store.get("project").and_then(Yaml::text).map(str::to_owned);
    Ok(Found { registry: read(&file)?, file, repo: repo.to_owned(), project })
}

/// `registry: PATH`, or `registry: {registry_type: file, path: PATH}`; `data/registry.db` unless given.
fn registry_file(repo: &Path, store: &Map, path: &Path) -> Result<PathBuf> {
    let (kind, place) = match store.get("registry") {
        None | Some(Yaml::Null) => ("file", "data/registry.db"),
        Some(Yaml::Text(place)) => ("file", place.as_str()),
        Some(Yaml::Map(registry)) => {
            let word = |key: &str| registry.get(key).and_then(Yaml::text);
            (word("registry_type").unwrap_or("file"), word("path").unwrap_or("data/registry.db"))
        }
        Some(Yaml::List(_)) => return Err(unreadable(path, "`registry` is a list")),
    };
    if kind != "file" || place.contains("://") {
        return Err(Fault::invalid(Code::NOT_SUPPORTED, format!("the registry in {} is no file here ({kind})", path.display()))
            .fix("write `registry: data/registry.db`, run `feast apply` once more, and import that"));
    }
    Ok(repo.join(place))
}

fn read(file: &Path) -> Result<Registry> {
    let found = registry::read(&content(file)?).map_err(|why| unreadable(file, &why))?;
    if found == Registry::default() {
        return Err(unreadable(file, "it holds nothing of Feast's").fix("name a registry that `feast apply` wrote"));
    }
    Ok(found)
}

fn unreadable(path: &Path, why: &str) -> Fault {
    Fault::invalid(Code::SOURCE_UNREADABLE, format!("{} cannot be read: {why}", path.display()))
        .fix("name the folder that `feast apply` is run in, or its registry file")
}

/// A whole file, which may not be larger than any small file of a foreign tool.
fn content(path: &Path) -> Result<Vec<u8>> {
    let told = |e| Fault::io(format!("read {}", path.display()), e);
    let mut bytes = Vec::new();
    let limit = FOREIGN_CELL_BYTES_MAX as u64;
    std::fs::File::open(path).map_err(told)?.take(limit + 1).read_to_end(&mut bytes).map_err(told)?;
    if bytes.len() as u64 > limit {
        return Err(unreadable(path, &format!("it is larger than {limit} bytes")));
    }
    Ok(bytes)
}

fn parent(path: &Path) -> PathBuf {
    path.parent().unwrap_or(Path::new("/")).to_owned()
}
