//! Experiment tracking on the ledger: what `train` runs are to people who track them, and how clients write such runs themselves.
//!
//! The rules of [`super::Ledger`] hold: a write is one transaction, durable when it returns. Writes that come together are committed together.

use crate::tracking::registry::{ModelStage, ModelVersion, NewModelVersion, RegisteredModel};
use crate::tracking::{
    Batch, Dataset, DatasetInput, Experiment, ExperimentId, HistoryWanted, Lifecycle, LoggedModel, LoggedModelStatus, ModelUse,
    NewTrackedRun, Page, Point, Purged, RunUpdate, Search, TrackedRun, ViewType,
};
use crate::{Actor, Digest, Result, RunId, Timestamp};
use async_trait::async_trait;
use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use std::collections::BTreeMap;
use std::ops::Range;

/// A batch that nothing speaks against.
#[must_use = "it may not be durable yet"]
pub enum Logged {
    /// It is durable.
    Durable,
    /// It is durable when this ends well; only the disk can still fail. Dropping it does not take the batch back.
    AtDisk(BoxFuture<'static, Result<()>>),
}

/// Experiments, tracked runs, logged models.
///
/// Errors: [`crate::Code::UNKNOWN_EXPERIMENT`], [`crate::Code::UNKNOWN_RUN`], [`crate::Code::UNKNOWN_LOGGED_MODEL`] (not found);
/// [`crate::Code::ALREADY_EXISTS`] (a name is taken, by a deleted one too); [`crate::Code::NOT_ACTIVE`] (the thing was deleted, or is a run
/// of the product that has ended); [`crate::Code::PARAM_CHANGED`]; [`crate::Code::OVERLOADED`] (too many writes wait for a commit).
///
/// The runs that the product itself drives (stage `train`, address `models.*`) are among the runs. Clients may log to them while they are
/// open, and may always name, tag and softly delete them; their state and end are the product's, and they are never purged.
///
/// A search knows these attributes (moments are milliseconds, words are as the protocol's clients know them):
/// - runs: `run_id`, `run_name`, `user_id`, `status` (`SCHEDULED`, `RUNNING`, `FINISHED`, `FAILED`, `KILLED`), `artifact_uri`, `start_time`,
///   `end_time`, `experiment_id` (a number), `lifecycle_stage`;
/// - experiments: `name`, `experiment_id` (a number), `artifact_location`, `creation_time`, `last_update_time`, `lifecycle_stage`;
/// - logged models: `name`, `model_id`, `model_type`, `status` (`PENDING`, `READY`, `FAILED`), `status_message`, `source_run_id`,
///   `experiment_id` (a number), `creation_timestamp`, `last_updated_timestamp`, `lifecycle_stage`.
///
/// Another attribute is [`crate::Code::BAD_FILTER`]. A text that is compared with a number attribute is read as a number.
#[async_trait]
pub trait Tracking: Send + Sync {
    // experiments
    /// Makes an experiment. Without a location it is `mlflow-artifacts:/ID`.
    async fn create_experiment(
        &self,
        name: &str,
        location: Option<&str>,
        tags: BTreeMap<String, String>,
        actor: &Actor,
        now: Timestamp,
    ) -> Result<ExperimentId>;
    /// One experiment, deleted or not.
    async fn experiment(&self, id: ExperimentId) -> Result<Option<Experiment>>;
    /// One experiment by its name, deleted or not.
    async fn experiment_by_name(&self, name: &str) -> Result<Option<Experiment>>;
    /// Renames an active experiment.
    async fn rename_experiment(&self, id: ExperimentId, name: &str, actor: &Actor, now: Timestamp) -> Result<()>;
    /// Deletes softly or restores; its runs follow.
    async fn set_experiment_lifecycle(&self, id: ExperimentId, to: Lifecycle, actor: &Actor, now: Timestamp) -> Result<()>;
    /// Sets (`Some`) or removes a tag of an active experiment; removing one that is not there is [`crate::Code::UNKNOWN_TAG`].
    async fn set_experiment_tag(&self, id: ExperimentId, key: &str, value: Option<&str>, now: Timestamp) -> Result<()>;
    /// Experiments; ties by newest first (creation, then id, descending).
    async fn search_experiments(&self, search: &Search) -> Result<Page<Experiment>>;

    // runs
    /// Starts a run of an active experiment.
    async fn create_run(&self, run: NewTrackedRun, actor: &Actor, now: Timestamp) -> Result<TrackedRun>;
    /// One run, deleted or not.
    async fn tracked_run(&self, id: &RunId) -> Result<Option<TrackedRun>>;
    /// Changes an active run; returns its own row, without what hangs on it (parameters, metrics, tags, what it read and made). Of a run
    /// that the product drives only the name changes.
    async fn update_run(&self, id: &RunId, update: RunUpdate, actor: &Actor, now: Timestamp) -> Result<TrackedRun>;
    /// Deletes softly or restores.
    async fn set_run_lifecycle(&self, id: &RunId, to: Lifecycle, actor: &Actor, now: Timestamp) -> Result<()>;
    /// Logs to an active run. All or nothing.
    async fn log(&self, id: &RunId, batch: Batch, now: Timestamp) -> Result<()>;
    /// The same; whoever has something to do while the disk is at work is given what is left to wait for.
    async fn log_soon(&self, id: &RunId, batch: Batch, now: Timestamp) -> Result<Logged> {
        self.log(id, batch, now).await.map(|()| Logged::Durable)
    }
    /// Removes a tag of an active run; one that is not there is [`crate::Code::UNKNOWN_TAG`].
    async fn delete_run_tag(&self, id: &RunId, key: &str) -> Result<()>;
    /// Notes what an active run read. Known datasets (of the same experiment, by name and digest) and known uses change nothing.
    async fn log_inputs(&self, id: &RunId, datasets: Vec<DatasetInput>, models: Vec<ModelUse>) -> Result<()>;
    /// Notes the logged models that an active run made.
    async fn log_outputs(&self, id: &RunId, models: Vec<ModelUse>) -> Result<()>;
    /// Points of one metric, in the order (moment, step, value); none for an unknown metric or run. What they are about (model, dataset) is
    /// told by the logged model.
    async fn history(&self, id: &RunId, key: &str, wanted: HistoryWanted) -> Result<Page<Point>>;
    /// Points of one metric of several runs with `steps.start <= step < steps.end`, at most `limit` per run, thinned evenly over the steps
    /// with the first and the last kept (a limit of 1 keeps the last). In the order of the runs given, then (step, moment, value).
    async fn sampled_history(&self, runs: &[RunId], key: &str, steps: Option<Range<i64>>, limit: usize) -> Result<Vec<(RunId, Point)>>;
    /// Runs; ties by start, newest first, then id.
    async fn search_runs(&self, search: &Search) -> Result<Page<TrackedRun>>;
    /// The datasets that runs of these experiments read, with the context of the use (the tag `mlflow.data.context`), each once.
    async fn datasets(&self, experiments: &[ExperimentId]) -> Result<Vec<(ExperimentId, Dataset, Option<String>)>>;

    // logged models
    /// Writes a new logged model of an active experiment; its status is pending, whatever it says.
    async fn create_logged_model(&self, model: LoggedModel, now: Timestamp) -> Result<LoggedModel>;
    /// One that is not deleted; `deleted_too` shows the others.
    async fn logged_model(&self, id: &str, view: ViewType) -> Result<Option<LoggedModel>>;
    /// Sets where it stands.
    async fn finish_logged_model(&self, id: &str, status: LoggedModelStatus, now: Timestamp) -> Result<LoggedModel>;
    /// Adds parameters; another value for a known one is a conflict.
    async fn log_model_params(&self, id: &str, params: Vec<(String, String)>, now: Timestamp) -> Result<()>;
    /// Sets (`Some`) or removes tags; removing one that is not there is [`crate::Code::UNKNOWN_TAG`].
    async fn set_model_tags(&self, id: &str, tags: Vec<(String, Option<String>)>, now: Timestamp) -> Result<()>;
    /// Deletes softly.
    async fn delete_logged_model(&self, id: &str, now: Timestamp) -> Result<()>;
    /// Logged models; ties by newest first, then id.
    async fn search_logged_models(&self, search: &Search) -> Result<Page<LoggedModel>>;

    // retention
    /// Removes for good what was deleted softly at `before` or earlier: runs with everything they logged and their files, logged models with
    /// their files, experiments that have neither any more. Never the experiment 0, never runs that the product drove, never what a registered
    /// version came from.
    async fn purge(&self, before: Timestamp, actor: &Actor, now: Timestamp) -> Result<Purged>;
    /// What [`Tracking::purge`] would remove now.
    async fn purgeable(&self, before: Timestamp) -> Result<Purged>;
}

/// Registered models, on the assets `models.*` and their aliases.
///
/// Errors: [`crate::Code::UNKNOWN_MODEL`] (also for versions), [`crate::Code::ALREADY_EXISTS`], [`crate::Code::BAD_VALUE`],
/// [`crate::Code::BAD_FILTER`] (a search for a field that is not there).
///
/// Fields of a search for models: `name`, `creation_timestamp`, `last_updated_timestamp` (milliseconds) and tags; for versions also
/// `version_number`, `run_id`, `source_path`, `current_stage`, `user_id` and `model_id`.
///
/// What the project trains is here too: the first version of `models.NAME` registers NAME, with the source `gristmill:models.NAME@N` and the run
/// that trained it. Aliases are moved by [`super::Ledger::move_alias`], never to a version that was deleted.
#[async_trait]
pub trait ModelRegistry: Send + Sync {
    /// Registers a name.
    async fn create_model(
        &self,
        name: &str,
        description: &str,
        tags: BTreeMap<String, String>,
        actor: &Actor,
        now: Timestamp,
    ) -> Result<RegisteredModel>;
    /// One by name.
    async fn registered_model(&self, name: &str) -> Result<Option<RegisteredModel>>;
    /// One by asset.
    async fn model_of_asset(&self, asset: &crate::Address) -> Result<Option<RegisteredModel>>;
    /// Renames it; its versions go with it.
    async fn rename_model(&self, name: &str, to: &str, actor: &Actor, now: Timestamp) -> Result<RegisteredModel>;
    /// Sets its description.
    async fn describe_model(&self, name: &str, description: &str, now: Timestamp) -> Result<RegisteredModel>;
    /// Takes the name away; the versions stay in the ledger and are seen no more, their aliases go. A model with a version that the
    /// project made is a conflict. Registered again, the name goes on counting: numbers are never given twice.
    async fn delete_model(&self, name: &str, actor: &Actor, now: Timestamp) -> Result<()>;
    /// Sets (`Some`) or removes a tag.
    async fn set_registered_model_tag(&self, name: &str, key: &str, value: Option<&str>, now: Timestamp) -> Result<()>;
    /// Registered models; ties by name.
    async fn search_models(&self, search: &Search) -> Result<Page<RegisteredModel>>;

    /// Registers a version: a version of the asset, in the ledger, made by a run of stage `register`.
    async fn create_model_version(&self, version: NewModelVersion, actor: &Actor, now: Timestamp) -> Result<ModelVersion>;
    /// One version.
    async fn model_version(&self, name: &str, number: u64) -> Result<Option<ModelVersion>>;
    /// Sets description.
    async fn describe_model_version(&self, name: &str, number: u64, description: &str, now: Timestamp) -> Result<ModelVersion>;
    /// Moves it to a stage; `archive_others` archives the versions that are there.
    async fn set_stage(
        &self,
        name: &str,
        number: u64,
        stage: ModelStage,
        archive_others: bool,
        actor: &Actor,
        now: Timestamp,
    ) -> Result<ModelVersion>;
    /// Hides it and takes away its aliases; its number is never given again.
    async fn delete_model_version(&self, name: &str, number: u64, actor: &Actor, now: Timestamp) -> Result<()>;
    /// Sets (`Some`) or removes a tag.
    async fn set_model_version_tag(&self, name: &str, number: u64, key: &str, value: Option<&str>, now: Timestamp) -> Result<()>;
    /// Versions. Without an order: by last change, newest first; ties by name, then number, newest first.
    async fn search_model_versions(&self, search: &Search) -> Result<Page<ModelVersion>>;
    /// The newest version of each stage of each of these models, in the order of the names given, then by stage; unknown names have none.
    async fn latest_versions(&self, names: &[String]) -> Result<Vec<ModelVersion>>;
}

/// A stored artifact.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArtifactInfo {
    /// Its key, as it was put; of [`Artifacts::walk_artifacts`] relative to the prefix: `model/MLmodel`.
    pub key: String,
    /// Its content.
    pub digest: Digest,
    /// Its length in bytes.
    pub bytes: u64,
}

/// A line of a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ArtifactEntry {
    /// Something with keys beneath it: its name.
    Folder(String),
    /// A file: its name and length.
    File(String, u64),
}

/// A key of an artifact: segments joined by `/`. Only parsing makes one; it names a row, never a path.
///
/// No segment is empty or made of dots and spaces alone (look-alikes of dots too); there are no control characters, backslashes or `#`; it
/// does not begin with a drive, with `~` or with what reads as a scheme; and no percent-escape in it becomes a separator, a dot, a NUL or
/// another escape when somebody decodes it a second time. So it stays harmless on the machine of whoever downloads it, too.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ArtifactKey(String);

impl ArtifactKey {
    /// Checks and takes a decoded key.
    pub fn new(text: &str) -> Result<ArtifactKey> {
        let bad = text.is_empty()
            || text.len() > crate::limits::ARTIFACT_KEY_BYTES_MAX
            || text.chars().any(|c| c.is_control() || c == '\\' || c == '#')
            || text.split('/').any(is_dots)
            || begins_elsewhere(text)
            || text.contains('%') && percent_decodes_to_evil(text);
        if bad {
            return Err(crate::Fault::invalid(crate::Code::BAD_PATH, format!("Invalid path: {}", shown(text)))
                .fix("use names joined by `/`, without `..`, backslashes or control characters"));
        }
        Ok(ArtifactKey(text.to_owned()))
    }
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Nothing but dots, spaces and what some systems fold into dots: a segment that may mean this folder or the one above.
fn is_dots(segment: &str) -> bool {
    segment.chars().all(|c| matches!(c, '.' | ' ' | '\u{2024}' | '\u{2025}' | '\u{2026}' | '\u{fe52}' | '\u{ff0e}' | '\u{3000}' | '\u{a0}'))
}

/// A home folder, a drive (`C:x` is one too) or a scheme.
fn begins_elsewhere(text: &str) -> bool {
    let first = text.split('/').next().unwrap_or(text);
    let drive = first.as_bytes().get(1) == Some(&b':') && first.as_bytes()[0].is_ascii_alphabetic();
    drive || first.ends_with(':') || first.starts_with('~') || first.get(..5).is_some_and(|start| start.eq_ignore_ascii_case("file:"))
}

/// Whether decoding once or twice more gives separators, dots, NULs or further escapes.
fn percent_decodes_to_evil(text: &str) -> bool {
    let lower = text.to_ascii_lowercase();
    ["%2e", "%2f", "%5c", "%00", "%25"].iter().any(|escape| lower.contains(escape))
}

/// A refused text for people: escaped, and cut where it gets long.
fn shown(text: &str) -> String {
    const SHOWN_CHARS_MAX: usize = 200;
    let mut shown: String = text.chars().take(SHOWN_CHARS_MAX).flat_map(char::escape_debug).collect();
    if text.chars().nth(SHOWN_CHARS_MAX).is_some() {
        shown.push_str("...");
    }
    shown
}

/// Files that clients upload, by key; content is in [`super::Blobs`].
#[async_trait]
pub trait Artifacts: Send + Sync {
    /// Stores a stream under a key, replacing what was there, durable when it returns. Memory does not grow with the content. The content is
    /// durable before the key names it; a stream that fails leaves everything as it was. A key is a file or a folder, never both: the
    /// other is a conflict ([`crate::Code::ALREADY_EXISTS`]).
    async fn put_artifact(&self, key: &ArtifactKey, content: BoxStream<'static, Result<Bytes>>, now: Timestamp) -> Result<ArtifactInfo>;
    /// Puts content that is stored already under a key; content that is not there is [`crate::Code::UNKNOWN_ARTIFACT`], content of
    /// another length [`crate::Code::BAD_VALUE`].
    async fn link_artifact(&self, key: &ArtifactKey, digest: Digest, bytes: u64, now: Timestamp) -> Result<()>;
    /// What is stored under a key.
    async fn artifact(&self, key: &ArtifactKey) -> Result<Option<ArtifactInfo>>;
    /// Part of the content under a digest, as a stream; what lies behind its end is left out. Content read whole is checked against its
    /// digest: if it differs, the stream ends with damage before its last piece. Unknown content is [`crate::Code::UNKNOWN_ARTIFACT`].
    async fn read_artifact(&self, digest: &Digest, range: Range<u64>) -> Result<BoxStream<'static, Result<Bytes>>>;
    /// What is directly beneath a prefix (`None`: everything), folders and files by name. More than
    /// [`crate::limits::ARTIFACTS_LISTED_MAX`] are refused as too large, never cut.
    async fn list_artifacts(&self, prefix: Option<&ArtifactKey>) -> Result<Vec<ArtifactEntry>>;
    /// Every file beneath a prefix, keys relative to it, in order; the same limit.
    async fn walk_artifacts(&self, prefix: &ArtifactKey) -> Result<Vec<ArtifactInfo>>;
    /// Removes a key and everything beneath it; returns how many. Content that registered versions consist of stays.
    async fn delete_artifacts(&self, prefix: &ArtifactKey) -> Result<u64>;
}

#[cfg(test)]
mod tests {
    use super::ArtifactKey;
    use crate::tracking::evil::{EVIL, HARMLESS, overlong};

    /// What a careless reader may make of a text: decoded up to three times.
    fn decodings(text: &str) -> Vec<String> {
        let mut all = vec![text.to_owned()];
        for _ in 0..3 {
            let last = all[all.len() - 1].clone();
            let bytes = last.as_bytes();
            let (mut out, mut at) = (Vec::new(), 0);
            while at < bytes.len() {
                let hex = last.get(at + 1..at + 3).and_then(|digits| u8::from_str_radix(digits, 16).ok());
                match hex {
                    Some(byte) if bytes[at] == b'%' => {
                        out.push(byte);
                        at += 3;
                    }
                    _ => {
                        out.push(bytes[at]);
                        at += 1;
                    }
                }
            }
            all.push(String::from_utf8_lossy(&out).into_owned());
        }
        all
    }

    #[test]
    fn evil_keys_are_refused_or_plain() {
        assert!(EVIL.len() >= 60, "{}", EVIL.len());
        let overlong = overlong();
        let mut refused = 0;
        for text in EVIL.iter().copied().chain(overlong.iter().map(String::as_str)) {
            let Ok(key) = ArtifactKey::new(text) else {
                refused += 1;
                continue;
            };
            assert_eq!(key.as_str(), text, "a key is taken as it is");
            for decoded in decodings(text) {
                assert!(!decoded.contains(['\\', '\0', '\r', '\n', '#']), "{text:?}");
                assert!(!decoded.starts_with(['/', '~']) && decoded.len() <= crate::limits::ARTIFACT_KEY_BYTES_MAX, "{text:?}");
                assert!(decoded.split('/').all(|part| !part.is_empty() && !part.trim_matches(['.', ' ']).is_empty()), "{text:?}");
            }
        }
        assert!(refused >= 50, "only {refused} are refused");
    }

    #[test]
    fn ordinary_keys_are_taken() {
        for key in HARMLESS {
            assert_eq!(ArtifactKey::new(key).expect(key).as_str(), *key);
        }
    }

    #[test]
    fn a_refusal_is_short() {
        let fault = ArtifactKey::new(&"../".repeat(100_000)).expect_err("evil");
        assert_eq!(fault.code, crate::Code::BAD_PATH);
        assert!(fault.message.starts_with("Invalid path") && fault.message.len() < 400, "{fault}");
    }
}
