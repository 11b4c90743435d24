//! Traces and evaluation datasets on SQLite.
//!
//! Promise: what is told of a trace is done as a whole, with its spans, tags and assessments; telling it twice changes nothing. Small writes
//! are committed together with others ([`super::tracking::Group`]). A search lets the index find experiment, time, state and exact tags, and
//! asks the rest of the traces one by one, up to a limit.
//!
//! `rows` reads and writes traces and spans, `tell` puts together what is told, `said` is assessments, `search` answers searches, `datasets`
//! has the evaluation datasets.

mod datasets;
mod rows;
mod said;
mod search;
mod tell;

use super::SqliteLedger;
use super::open::fault;
use super::write::{append, commit, write};
use crate::story;
use async_trait::async_trait;
use gristmill_kernel::port::Traces;
use gristmill_kernel::tracking::assessment::{Assessment, AssessmentUpdate};
use gristmill_kernel::tracking::trace::{Span, SpanBatch, TraceEnd, TraceId, TraceInfo, TracesToDelete};
use gristmill_kernel::tracking::{ExperimentId, Page, Search};
use gristmill_kernel::{Actor, Result, RunId, Timestamp};
use sqlx::sqlite::{SqliteConnection, SqliteRow};
use sqlx::{Connection, QueryBuilder, Sqlite};
use std::collections::BTreeMap;

/// Values in one `IN (...)`. Lists are padded to 1, 8, 64 or 512 values so that few statements are prepared.
const IN_VALUES_MAX: usize = 512;
/// Rows in one `INSERT`.
const ROWS_PER_INSERT: usize = 200;

/// Spans that are written together with other writes; more of them are a transaction of their own.
const SPANS_IN_GROUP_MAX: usize = 1_000;

/// Ids as the values of `IN (...)`.
fn push_ids<'i>(query: &mut QueryBuilder<Sqlite>, ids: impl ExactSizeIterator<Item = &'i str>) {
    let wanted = [1, 8, 64, IN_VALUES_MAX].into_iter().find(|size| *size >= ids.len()).unwrap_or(ids.len());
    let padding = wanted - ids.len();
    let mut values = query.separated(", ");
    let mut last = "";
    for id in ids {
        values.push_bind(id.to_owned());
        last = id;
    }
    for _ in 0..padding {
        values.push_bind(last.to_owned());
    }
}

/// The rows of a table whose column `owner` is one of these ids, at most [`IN_VALUES_MAX`].
async fn rows_of(
    db: &mut SqliteConnection,
    select: &'static str,
    owner: &'static str,
    order: &'static str,
    ids: &[&str],
) -> Result<Vec<SqliteRow>> {
    let mut query = QueryBuilder::<Sqlite>::new(select);
    query.push(" WHERE ").push(owner).push(" IN (");
    push_ids(&mut query, ids.iter().copied());
    query.push(") ORDER BY ").push(order);
    query.build().fetch_all(db).await.map_err(|e| fault("read traces", e))
}

#[async_trait]
impl Traces for SqliteLedger {
    async fn put_trace(&self, info: TraceInfo) -> Result<TraceInfo> {
        self.group.write(move |db| Box::pin(tell::whole(db, info))).await
    }
    async fn log_spans(&self, batches: Vec<SpanBatch>) -> Result<()> {
        if batches.iter().map(|batch| batch.spans.len()).sum::<usize>() <= SPANS_IN_GROUP_MAX {
            return self.group.write(move |db| Box::pin(tell::spans(db, batches))).await;
        }
        let mut db = self.writer().await;
        let mut tx = write(&mut db).await?;
        tell::spans(&mut tx, batches).await?;
        commit(tx).await
    }
    async fn end_trace(&self, id: &TraceId, end: TraceEnd) -> Result<TraceInfo> {
        let id = id.clone();
        self.group.write(move |db| Box::pin(tell::end(db, id, end))).await
    }

    async fn traces(&self, ids: &[TraceId], experiments: Option<&[ExperimentId]>) -> Result<Vec<TraceInfo>> {
        let mut db = self.reader().await?;
        let mut tx = db.begin().await.map_err(|e| fault("read traces", e))?;
        let ids: Vec<&str> = ids.iter().map(TraceId::as_str).collect();
        let mut infos = rows::many(&mut tx, &ids).await?;
        infos.retain(|info| experiments.is_none_or(|wanted| wanted.contains(&info.experiment)));
        Ok(infos)
    }
    async fn spans(&self, ids: &[TraceId]) -> Result<BTreeMap<TraceId, Vec<Span>>> {
        let mut db = self.reader().await?;
        let mut tx = db.begin().await.map_err(|e| fault("read spans", e))?;
        let texts: Vec<&str> = ids.iter().map(TraceId::as_str).collect();
        let mut found = rows::spans(&mut tx, &texts).await?;
        Ok(ids.iter().filter_map(|id| found.remove(id.as_str()).map(|spans| (id.clone(), spans))).collect())
    }
    async fn search_traces(&self, wanted: &Search) -> Result<Page<TraceInfo>> {
        let mut db = self.reader().await?;
        let mut tx = db.begin().await.map_err(|e| fault("search traces", e))?;
        search::page(&mut tx, wanted).await
    }
    async fn count_traces(&self, wanted: &Search) -> Result<u64> {
        let mut db = self.reader().await?;
        let mut tx = db.begin().await.map_err(|e| fault("count traces", e))?;
        search::count(&mut tx, wanted).await
    }

    async fn set_trace_tag(&self, id: &TraceId, key: &str, value: Option<&str>) -> Result<()> {
        let (id, key, value) = (id.clone(), key.to_owned(), value.map(str::to_owned));
        self.group.write(move |db| Box::pin(tell::tag(db, id, key, value))).await
    }
    async fn link_traces(&self, ids: &[TraceId], run: &RunId) -> Result<()> {
        let (ids, run) = (ids.to_vec(), run.clone());
        self.group.write(move |db| Box::pin(tell::link_run(db, ids, run))).await
    }
    async fn link_prompts(&self, id: &TraceId, prompts: &[String]) -> Result<()> {
        let (id, prompts) = (id.clone(), prompts.to_vec());
        self.group.write(move |db| Box::pin(tell::link_prompts(db, id, prompts))).await
    }
    async fn delete_traces(&self, which: &TracesToDelete, actor: &Actor, now: Timestamp) -> Result<u64> {
        let mut db = self.writer().await;
        let mut tx = write(&mut db).await?;
        let gone = rows::delete(&mut tx, which).await?;
        if gone > 0 {
            append(&mut tx, now, story::traces_deleted(which.experiment, gone, actor)).await?;
        }
        commit(tx).await?;
        Ok(gone)
    }

    async fn put_assessment(&self, assessment: Assessment) -> Result<Assessment> {
        self.group.write(move |db| Box::pin(said::put(db, assessment))).await
    }
    async fn assessment(&self, trace: &TraceId, id: &str) -> Result<Option<Assessment>> {
        let mut db = self.reader().await?;
        let mut tx = db.begin().await.map_err(|e| fault("read an assessment", e))?;
        rows::must_be_there(&mut tx, trace).await?;
        said::one(&mut tx, trace, id).await
    }
    async fn update_assessment(&self, trace: &TraceId, id: &str, update: AssessmentUpdate, now: Timestamp) -> Result<Assessment> {
        let (trace, id) = (trace.clone(), id.to_owned());
        self.group.write(move |db| Box::pin(said::update(db, trace, id, update, now))).await
    }
    async fn delete_assessment(&self, trace: &TraceId, id: &str) -> Result<()> {
        let (trace, id) = (trace.clone(), id.to_owned());
        self.group.write(move |db| Box::pin(said::delete(db, trace, id))).await
    }
}
