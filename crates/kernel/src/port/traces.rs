//! Traces and evaluation datasets: what applications built on models did, and what they should have done.
//!
//! Both belong to experiments. Whether an experiment or a run is there is the caller's question to [`super::Tracking`]; these ports keep
//! what they are given.

use crate::tracking::assessment::{Assessment, AssessmentUpdate};
use crate::tracking::evaluation::{EvaluationDataset, EvaluationRecord, GivenRecord};
use crate::tracking::trace::{Span, SpanBatch, TraceEnd, TraceId, TraceInfo, TracesToDelete};
use crate::tracking::{ExperimentId, Page, Search};
use crate::{Actor, Result, RunId, Timestamp};
use async_trait::async_trait;
use std::collections::BTreeMap;

/// Traces, their spans, and what is said about them.
///
/// Errors: [`crate::Code::UNKNOWN_TRACE`] (not found, for assessments too); [`crate::Code::UNKNOWN_TAG`];
/// [`crate::Code::BAD_FILTER`] for a search that cannot be done, or that would look at too much.
#[async_trait]
pub trait Traces: Send + Sync {
    /// Tells of a whole trace: [`TraceInfo::settled_over`] what is there.
    async fn put_trace(&self, info: TraceInfo) -> Result<TraceInfo>;
    /// Tells of spans, all or none: [`TraceInfo::grown`] by each batch. Tokens and costs are added up over the whole tree, unless the trace
    /// was told as a whole with figures of its own.
    async fn log_spans(&self, batches: Vec<SpanBatch>) -> Result<()>;
    /// Ends a trace: [`TraceInfo::ended`].
    async fn end_trace(&self, id: &TraceId, end: TraceEnd) -> Result<TraceInfo>;
    /// Those of these that are there, in the order given, each once; `experiments` leaves out all others.
    async fn traces(&self, ids: &[TraceId], experiments: Option<&[ExperimentId]>) -> Result<Vec<TraceInfo>>;
    /// The spans of each of these, roots first, then by start. A trace without spans has no entry.
    async fn spans(&self, ids: &[TraceId]) -> Result<BTreeMap<TraceId, Vec<Span>>>;
    /// Sets (`Some`) or removes a tag.
    async fn set_trace_tag(&self, id: &TraceId, key: &str, value: Option<&str>) -> Result<()>;
    /// Traces; ties by newest first, then id.
    ///
    /// `filter`: a conjunction of tests on spans holds if one span passes all of them. `RLIKE` is a regular expression without look-around.
    async fn search_traces(&self, search: &Search) -> Result<Page<TraceInfo>>;
    /// How many traces a search finds, whatever its page.
    async fn count_traces(&self, search: &Search) -> Result<u64>;
    /// Deletes traces with everything about them; returns how many.
    async fn delete_traces(&self, which: &TracesToDelete, actor: &Actor, now: Timestamp) -> Result<u64>;
    /// Links traces to a run, those too that are still to be told. What is linked already stays so.
    async fn link_traces(&self, ids: &[TraceId], run: &RunId) -> Result<()>;
    /// Notes the prompts, as `name/version`, that a trace used.
    async fn link_prompts(&self, id: &TraceId, prompts: &[String]) -> Result<()>;

    /// Adds an assessment; what it overrides is no longer valid. One with this id that is there already is returned as it is.
    async fn put_assessment(&self, assessment: Assessment) -> Result<Assessment>;
    /// One assessment of a trace that is there.
    async fn assessment(&self, trace: &TraceId, id: &str) -> Result<Option<Assessment>>;
    /// Changes one: [`Assessment::updated`].
    async fn update_assessment(&self, trace: &TraceId, id: &str, update: AssessmentUpdate, now: Timestamp) -> Result<Assessment>;
    /// Removes one of a trace that is there; what it overrode is valid again. One that is not there changes nothing.
    async fn delete_assessment(&self, trace: &TraceId, id: &str) -> Result<()>;
}

/// Which records of a dataset: behind this moment and id, in that order.
pub type RecordCursor = (Timestamp, String);

/// Evaluation datasets and their records.
///
/// Errors: [`crate::Code::UNKNOWN_DATASET`] (not found).
#[async_trait]
pub trait EvaluationDatasets: Send + Sync {
    /// Keeps a new dataset.
    async fn create_dataset(&self, dataset: EvaluationDataset, actor: &Actor) -> Result<EvaluationDataset>;
    /// One dataset.
    async fn dataset(&self, id: &str) -> Result<Option<EvaluationDataset>>;
    /// Deletes one with its records; says whether it was there.
    async fn delete_dataset(&self, id: &str, actor: &Actor, now: Timestamp) -> Result<bool>;
    /// Datasets, of these experiments if any are named; ties by newest first, then id.
    async fn search_datasets(&self, search: &Search) -> Result<Page<EvaluationDataset>>;
    /// Sets (`Some`) or removes tags. Removing one that is not there changes nothing.
    async fn set_dataset_tags(&self, id: &str, tags: &[(String, Option<String>)]) -> Result<()>;
    /// Adds it to experiments and takes it out of others; returns it.
    async fn set_dataset_experiments(
        &self,
        id: &str,
        add: &[ExperimentId],
        remove: &[ExperimentId],
        now: Timestamp,
    ) -> Result<EvaluationDataset>;
    /// Adds records, or adds to those with the same inputs, all or none; returns how many were new and how many were there.
    async fn put_records(&self, id: &str, records: Vec<GivenRecord>, now: Timestamp) -> Result<(u64, u64)>;
    /// Records by the moment they were made, then id, at most `limit`, behind the cursor.
    async fn records(&self, id: &str, after: Option<&RecordCursor>, limit: usize) -> Result<Page<EvaluationRecord>>;
    /// Deletes records; returns how many were there.
    async fn delete_records(&self, id: &str, records: &[String]) -> Result<u64>;
}
