//! Folders of another tracker, each opened once as a capability: nothing outside them can be reached, and links inside are not followed.
//!
//! A name from a file or a database never becomes a path by itself. It is compared with the folder that was opened and cut down to a relative
//! key, and every part of the key is looked at before it is entered. Work here blocks; callers put it on blocking threads.

use super::source::{Content, Files, Owner, Root, SourceFile, unreadable};
use super::{check, uri};
use bytes::Bytes;
use cap_std::ambient_authority;
use cap_std::fs::{Dir, File};
use futures::{StreamExt as _, stream};
use gristmill_kernel::{Fault, Result, limits};
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A folder that may be read, with everything beneath it.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    dir: Dir,
}

impl Folder {
    /// Opens a folder that the user named.
    pub fn open(path: &Path) -> Result<Folder> {
        let told = |e| Fault::io(format!("open the folder {}", path.display()), e);
        let path = path.canonicalize().map_err(told)?;
        let dir = Dir::open_ambient_dir(&path, ambient_authority()).map_err(told)?;
        Ok(Folder { path, dir })
    }
    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
    /// The capability.
    pub fn dir(&self) -> &Dir {
        &self.dir
    }
}

/// A folder beneath, if it is there and no link.
pub fn enter(dir: &Dir, key: &str) -> Result<Option<Dir>> {
    let mut at = dir.try_clone().map_err(|e| Fault::io("read a folder", e))?;
    for part in key.split('/').filter(|p| !p.is_empty()) {
        if !is_plain(part) {
            return Ok(None);
        }
        match at.symlink_metadata(part) {
            Ok(found) if found.is_dir() => {}
            Ok(_) => return Ok(None),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(Fault::io(format!("look at `{}`", check::shown(key)), e)),
        }
        at = at.open_dir(part).map_err(|e| Fault::io(format!("open the folder `{}`", check::shown(key)), e))?;
    }
    Ok(Some(at))
}

/// A file beneath, if it is there, a regular file and behind no link.
pub fn open(dir: &Dir, key: &str) -> Result<Option<File>> {
    let (folder, name) = key.rsplit_once('/').unwrap_or(("", key));
    let Some(at) = enter(dir, folder)? else { return Ok(None) };
    match at.symlink_metadata(name) {
        Ok(found) if found.is_file() && is_plain(name) => {}
        Ok(_) => return Ok(None),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(Fault::io(format!("look at `{}`", check::shown(key)), e)),
    }
    at.open(name).map(Some).map_err(|e| Fault::io(format!("open `{}`", check::shown(key)), e))
}

fn is_plain(part: &str) -> bool {
    !part.is_empty() && part != "." && part != ".." && !part.contains(['/', '\\', '\0'])
}

/// The text of a small file; `None` if it is not there.
pub fn text(dir: &Dir, key: &str) -> Result<Option<String>> {
    let Some(file) = open(dir, key)? else { return Ok(None) };
    let mut bytes = Vec::new();
    let limit = limits::FOREIGN_CELL_BYTES_MAX;
    file.take(limit as u64 + 1).read_to_end(&mut bytes).map_err(|e| Fault::io(format!("read `{}`", check::shown(key)), e))?;
    if bytes.len() > limit {
        return Err(unreadable(format!("`{}` is longer than {limit} bytes", check::shown(key))));
    }
    String::from_utf8(bytes).map(Some).map_err(|_| unreadable(format!("`{}` is not UTF-8", check::shown(key))))
}

/// Names of the folders directly in a folder, sorted; links are not folders.
pub fn folders(dir: &Dir) -> Result<Vec<String>> {
    let mut names: Vec<String> = entries(dir)?.into_iter().filter(|(_, kind)| *kind == Kind::Folder).map(|(name, _)| name).collect();
    names.sort();
    Ok(names)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Folder,
    File(u64),
}

fn entries(dir: &Dir) -> Result<Vec<(String, Kind)>> {
    let told = |e| Fault::io("list a folder", e);
    let mut found = Vec::new();
    for entry in dir.entries().map_err(told)? {
        let entry = entry.map_err(told)?;
        if found.len() >= limits::FOREIGN_ENTRIES_MAX {
            return Err(unreadable(format!("a folder has more than {} entries", limits::FOREIGN_ENTRIES_MAX)));
        }
        let Ok(name) = entry.file_name().into_string() else { continue };
        let kind = entry.file_type().map_err(told)?;
        if kind.is_dir() {
            found.push((name, Kind::Folder));
        } else if kind.is_file() {
            found.push((name, Kind::File(entry.metadata().map_err(told)?.len())));
        }
    }
    Ok(found)
}

/// Every file beneath a folder, by its key, with its length; links are passed over.
pub fn walk(dir: &Dir) -> Result<Vec<(String, u64)>> {
    let mut found = Vec::new();
    walk_into(dir, "", 0, &mut found)?;
    found.sort();
    Ok(found)
}

fn walk_into(dir: &Dir, prefix: &str, depth: usize, found: &mut Vec<(String, u64)>) -> Result<()> {
    if depth > limits::FOREIGN_DEPTH_MAX {
        return Err(unreadable(format!("folders are nested more than {} deep", limits::FOREIGN_DEPTH_MAX)));
    }
    for (name, kind) in entries(dir)? {
        let key = if prefix.is_empty() { name.clone() } else { format!("{prefix}/{name}") };
        match kind {
            Kind::Folder => {
                let Some(inner) = enter(dir, &name)? else { continue };
                walk_into(&inner, &key, depth + 1, found)?;
            }
            Kind::File(bytes) => found.push((key, bytes)),
        }
        if found.len() > limits::FOREIGN_ENTRIES_MAX {
            return Err(unreadable(format!("there are more than {} files", limits::FOREIGN_ENTRIES_MAX)));
        }
    }
    Ok(())
}

/// Where a tracker lays the folders of its experiments.
const BASES: [&str; 5] = ["", "mlruns/", "mlartifacts/", ".trash/", "mlruns/.trash/"];

/// A root's folder.
enum Found {
    /// It is there.
    Here(Dir),
    /// It would be there if anything was in it.
    Empty,
    /// It is at another place.
    Elsewhere,
}

/// The folders in which artifacts may be.
#[derive(Debug, Clone)]
pub struct Places {
    folders: Arc<Vec<Folder>>,
}

impl Places {
    /// From the folders that the user named, the likeliest first.
    pub fn new(folders: Vec<Folder>) -> Places {
        Places { folders: Arc::new(folders) }
    }

    /// The folder of a root. The address is tried as it is written, then as a tracker lays its folders out, so that a folder that was moved
    /// is found too.
    fn find(&self, root: &Root) -> Result<Found> {
        let own = match &root.owner {
            Owner::Run(run) => format!("{}/{run}/artifacts", root.experiment),
            Owner::Model(model) => format!("{}/models/{model}/artifacts", root.experiment),
        };
        let place = uri::location(&root.uri);
        let mut found = Found::Elsewhere;
        for folder in self.folders.iter() {
            let mut keys = Vec::new();
            // A folder is made with its first file, so where others of its kind are, a missing one is an empty one.
            let mut kin: Vec<String> = BASES.iter().map(|base| format!("{base}{}", root.experiment)).collect();
            match &place {
                uri::Location::Local(path) => {
                    let inside = beneath(&folder.path, path);
                    kin.extend(inside.iter().map(|_| String::new()));
                    keys.extend(inside);
                }
                uri::Location::Proxied(key) => {
                    kin.push("mlartifacts".to_owned());
                    keys.extend([key.clone(), format!("mlartifacts/{key}"), format!("mlruns/{key}")]);
                }
                uri::Location::Elsewhere => return Ok(Found::Elsewhere),
            }
            keys.extend(BASES.iter().map(|base| format!("{base}{own}")));
            for key in keys {
                if let Some(dir) = enter(&folder.dir, &key)? {
                    return Ok(Found::Here(dir));
                }
            }
            for key in kin {
                if enter(&folder.dir, &key)?.is_some() {
                    found = Found::Empty;
                }
            }
        }
        Ok(found)
    }

    /// The files of a root.
    pub async fn files(&self, root: &Root) -> Result<Files> {
        let (places, root) = (self.clone(), root.clone());
        blocking(move || match places.find(&root)? {
            Found::Elsewhere => Ok(Files::Elsewhere),
            Found::Empty => Ok(Files::Here(Vec::new())),
            Found::Here(dir) => {
                let files = walk(&dir)?;
                Ok(Files::Here(files.into_iter().map(|(key, bytes)| SourceFile { key, bytes: Some(bytes) }).collect()))
            }
        })
        .await
    }

    /// One file of a root.
    pub async fn read(&self, root: &Root, key: &str) -> Result<Content> {
        let (places, root, key) = (self.clone(), root.clone(), key.to_owned());
        let file = blocking(move || {
            let found = match places.find(&root)? {
                Found::Here(dir) => open(&dir, &key)?,
                _ => None,
            };
            found.ok_or_else(|| unreadable(format!("`{}` is gone", check::shown(&key))))
        })
        .await?;
        let pieces = stream::try_unfold(file, |mut file| async move {
            blocking(move || {
                let mut piece = vec![0; limits::ARTIFACT_CHUNK_BYTES];
                let read = file.read(&mut piece).map_err(|e| Fault::io("read a file", e))?;
                piece.truncate(read);
                Ok((read > 0).then(|| (Bytes::from(piece), file)))
            })
            .await
        });
        Ok(pieces.boxed())
    }
}

/// A path of another machine or moment as a key beneath a folder, if it lies there.
fn beneath(folder: &Path, path: &str) -> Option<String> {
    let rest = Path::new(path).strip_prefix(folder).ok()?;
    rest.to_str().map(str::to_owned)
}

/// Runs blocking work off the threads that answer.
pub async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(|e| Fault::internal("reading files ended early").because(e))?
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::TryStreamExt as _;
    use gristmill_kernel::RunId;
    use gristmill_kernel::tracking::ExperimentId;

    const RUN: &str = "0123456789abcdef0123456789abcdef";

    fn root(uri: String) -> Root {
        Root { experiment: ExperimentId(1), owner: Owner::Run(RunId(RUN.into())), uri }
    }

    #[tokio::test]
    async fn only_what_is_beneath_is_read() {
        let outside = tempfile::tempdir().unwrap();
        std::fs::write(outside.path().join("secret"), "secret").unwrap();
        let inside = tempfile::tempdir().unwrap();
        let run = inside.path().join("1").join(RUN).join("artifacts");
        std::fs::create_dir_all(run.join("model")).unwrap();
        std::fs::write(run.join("model/MLmodel"), "flavors").unwrap();
        #[cfg(unix)]
        {
            std::os::unix::fs::symlink(outside.path().join("secret"), run.join("link")).unwrap();
            std::os::unix::fs::symlink(outside.path(), run.join("folder")).unwrap();
        }
        let places = Places::new(vec![Folder::open(inside.path()).unwrap()]);
        let own = root(run.to_str().unwrap().to_owned());
        let Files::Here(files) = places.files(&own).await.unwrap() else { panic!("elsewhere") };
        assert_eq!(files, [SourceFile { key: "model/MLmodel".into(), bytes: Some(7) }]);
        let content: Vec<Bytes> = places.read(&own, "model/MLmodel").await.unwrap().try_collect().await.unwrap();
        assert_eq!(content.concat(), b"flavors");
        for evil in ["link", "folder/secret", "../meta.yaml", "/etc/passwd", "model/../model/MLmodel", "model", ""] {
            assert!(places.read(&own, evil).await.is_err(), "{evil}");
        }
        // An address of somebody else's file does not open it: the run's own folder does.
        for moved in ["file:///old/place/1/x/artifacts", "/etc", "mlflow-artifacts:/1/x/artifacts"] {
            assert_eq!(places.files(&root(moved.into())).await.unwrap(), Files::Here(files.clone()), "{moved}");
        }
        assert_eq!(places.files(&root("s3://bucket/1".into())).await.unwrap(), Files::Elsewhere);
    }
}
