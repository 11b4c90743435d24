//! The files of runs and logged models.

use super::super::plan::Look;
use super::super::source::{Files, Root, Skipped};
use super::super::{check, uri};
use super::{Work, name_of, stops};
use gristmill_kernel::Result;
use gristmill_kernel::port::ArtifactKey;
use gristmill_kernel::tracking::Experiment;
use std::collections::HashMap;

impl Work<'_> {
    /// Takes the files of a root; how many were written, and whether they are elsewhere.
    pub(super) async fn files(&self, root: &Root, experiment: &Experiment) -> Result<(u64, bool)> {
        if self.options.without_files {
            return Ok((0, false));
        }
        let listed = match self.source.files(root).await {
            Ok(Files::Here(files)) => files,
            Ok(Files::Elsewhere) => {
                self.note(|report| report.files_elsewhere += 1);
                return Ok((0, true));
            }
            Err(fault) if stops(&fault) => return Err(fault),
            Err(fault) => {
                self.skip(Skipped::new(format!("files of {}", name_of(&root.owner)), &fault));
                return Ok((0, false));
            }
        };
        if listed.is_empty() {
            return Ok((0, false));
        }
        let base = uri::root_key(&experiment.artifact_location, &root.owner);
        let there: HashMap<String, u64> = match ArtifactKey::new(&base) {
            Ok(prefix) => self.target.artifacts.walk_artifacts(&prefix).await?.into_iter().map(|a| (a.key, a.bytes)).collect(),
            Err(fault) => return Err(fault),
        };
        let mut written = 0;
        for file in listed {
            let known = there.get(&file.key).is_some_and(|bytes| file.bytes.is_none_or(|b| b == *bytes));
            if known && self.options.look == Look::Latest {
                continue;
            }
            let key = match ArtifactKey::new(&format!("{base}/{}", file.key)).and_then(|key| ArtifactKey::new(&file.key).map(|_| key)) {
                Ok(key) => key,
                Err(fault) => {
                    self.skip(Skipped::new(format!("file `{}` of {}", check::shown(&file.key), name_of(&root.owner)), &fault));
                    continue;
                }
            };
            match self.file(root, &file.key, &key).await {
                Ok(bytes) => {
                    // The same content again changes nothing and is not counted.
                    if !known {
                        written += 1;
                        self.note(|report| {
                            report.files += 1;
                            report.bytes += bytes;
                        });
                    }
                }
                Err(fault) if stops(&fault) => return Err(fault),
                Err(fault) => self.skip(Skipped::new(format!("file `{}` of {}", check::shown(&file.key), name_of(&root.owner)), &fault)),
            }
        }
        Ok((written, false))
    }

    async fn file(&self, root: &Root, name: &str, key: &ArtifactKey) -> Result<u64> {
        let content = self.source.read(root, name).await?;
        let info = self.target.artifacts.put_artifact(key, content, self.target.clock.now()).await?;
        Ok(info.bytes)
    }
}
