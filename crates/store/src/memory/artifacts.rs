//! Artifacts in memory: keys and content in two maps.

use crate::ledger::sqlite::sort_entries;
use crate::rules;
use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::{self, BoxStream};
use futures::{StreamExt, TryStreamExt};
use gristmill_kernel::port::{ArtifactEntry, ArtifactInfo, ArtifactKey, Artifacts};
use gristmill_kernel::{Digest, Result, Timestamp, limits};
use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::sync::{Mutex, MutexGuard, PoisonError};

#[derive(Default)]
struct State {
    keys: BTreeMap<String, (Digest, u64)>,
    content: HashMap<Digest, Bytes>,
}

/// Artifacts in memory.
#[derive(Default)]
pub struct MemoryArtifacts(Mutex<State>);

impl MemoryArtifacts {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn beneath(&self, prefix: &str) -> impl Iterator<Item = (&str, &(Digest, u64))> {
        let prefix = format!("{prefix}/");
        self.keys.range(prefix.clone()..).map_while(move |(key, value)| Some((key.strip_prefix(&prefix)?, value)))
    }

    fn name(&mut self, key: &ArtifactKey, digest: Digest, bytes: u64) -> Result<()> {
        let key = key.as_str();
        if let Some((at, _)) = key.match_indices('/').find(|(at, _)| self.keys.contains_key(&key[..*at])) {
            return Err(rules::artifact_is_file(&key[..at]));
        }
        if self.beneath(key).next().is_some() {
            return Err(rules::artifact_is_folder(key));
        }
        self.keys.insert(key.to_owned(), (digest, bytes));
        Ok(())
    }
}

#[async_trait]
impl Artifacts for MemoryArtifacts {
    async fn put_artifact(
        &self,
        key: &ArtifactKey,
        mut content: BoxStream<'static, Result<Bytes>>,
        _now: Timestamp,
    ) -> Result<ArtifactInfo> {
        let mut whole = Vec::new();
        while let Some(piece) = content.try_next().await? {
            whole.extend_from_slice(&piece);
        }
        let (digest, bytes) = (Digest::of(&whole), whole.len() as u64);
        let mut state = self.state();
        state.name(key, digest, bytes)?;
        state.content.insert(digest, Bytes::from(whole));
        Ok(ArtifactInfo { key: key.as_str().to_owned(), digest, bytes })
    }
    async fn link_artifact(&self, key: &ArtifactKey, digest: Digest, bytes: u64, _now: Timestamp) -> Result<()> {
        let mut state = self.state();
        if !state.content.contains_key(&digest) {
            return Err(rules::unknown_content(&digest));
        }
        state.name(key, digest, bytes)
    }
    async fn artifact(&self, key: &ArtifactKey) -> Result<Option<ArtifactInfo>> {
        let state = self.state();
        Ok(state.keys.get(key.as_str()).map(|(digest, bytes)| ArtifactInfo {
            key: key.as_str().to_owned(),
            digest: *digest,
            bytes: *bytes,
        }))
    }
    async fn read_artifact(&self, digest: &Digest, range: Range<u64>) -> Result<BoxStream<'static, Result<Bytes>>> {
        let content = self.state().content.get(digest).cloned().ok_or_else(|| rules::unknown_content(digest))?;
        let end = (content.len() as u64).min(range.end) as usize;
        let start = (range.start.min(end as u64)) as usize;
        let part = content.slice(start..end);
        let pieces: Vec<Result<Bytes>> = (0..part.len())
            .step_by(limits::ARTIFACT_CHUNK_BYTES)
            .map(|at| Ok(part.slice(at..part.len().min(at + limits::ARTIFACT_CHUNK_BYTES))))
            .collect();
        Ok(stream::iter(pieces).boxed())
    }
    async fn list_artifacts(&self, prefix: Option<&ArtifactKey>) -> Result<Vec<ArtifactEntry>> {
        let state = self.state();
        let names: Vec<(&str, u64)> = match prefix {
            Some(prefix) => state.beneath(prefix.as_str()).map(|(name, (_, bytes))| (name, *bytes)).collect(),
            None => state.keys.iter().map(|(name, (_, bytes))| (name.as_str(), *bytes)).collect(),
        };
        let mut entries: Vec<ArtifactEntry> = names
            .into_iter()
            .map(|(name, bytes)| match name.split_once('/') {
                Some((folder, _)) => ArtifactEntry::Folder(folder.to_owned()),
                None => ArtifactEntry::File(name.to_owned(), bytes),
            })
            .collect();
        entries.dedup();
        sort_entries(&mut entries);
        Ok(entries)
    }
    async fn walk_artifacts(&self, prefix: &ArtifactKey) -> Result<Vec<ArtifactInfo>> {
        let state = self.state();
        Ok(state
            .beneath(prefix.as_str())
            .map(|(key, (digest, bytes))| ArtifactInfo { key: key.to_owned(), digest: *digest, bytes: *bytes })
            .collect())
    }
    async fn delete_artifacts(&self, prefix: &ArtifactKey) -> Result<u64> {
        let mut state = self.state();
        let known = state.keys.len();
        let beneath = format!("{}/", prefix.as_str());
        state.keys.retain(|key, _| key != prefix.as_str() && !key.starts_with(&beneath));
        Ok((known - state.keys.len()) as u64)
    }
}
