//! Traces and evaluation datasets on SQLite.
//!
//! Promise: what is told of a trace is one transaction, with its spans, tags and assessments; telling it twice changes nothing. A search
//! lets the index find experiment, time, state and exact tags, and asks the rest of the traces one by one, up to a limit.
//!
//! `rows` reads and writes traces and spans, `said` assessments, `search` answers searches, `datasets` has the evaluation datasets.

mod datasets;
mod rows;
mod said;
mod search;

use super::SqliteLedger;
use super::open::fault;
use super::write::{append, commit, write};
use crate::{story, trace_rules};
use async_trait::async_trait;
use gristmill_kernel::port::Traces;
use gristmill_kernel::tracking::assessment::{Assessment, AssessmentUpdate};
use gristmill_kernel::tracking::trace::{Span, SpanBatch, TraceEnd, TraceId, TraceInfo, TracesToDelete, key};
use gristmill_kernel::tracking::{ExperimentId, Page, Search, usage};
use gristmill_kernel::{Actor, Result, RunId, Timestamp};
use sqlx::sqlite::{SqliteConnection, SqliteRow};
use sqlx::{Connection, QueryBuilder, Sqlite};
use std::collections::BTreeMap;

/// Values in one `IN (...)`. Lists are padded to 1, 8, 64 or 512 values so that few statements are prepared.
const IN_VALUES_MAX: usize = 512;
/// Rows in one `INSERT`.
const ROWS_PER_INSERT: usize = 200;

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
        let mut db = self.writer().await;
        let mut tx = write(&mut db).await?;
        let before = rows::one(&mut tx, &info.id).await?;
        let info = match before.clone() {
            Some(before) => info.settled_over(before),
            None => info,
        };
        rows::save(&mut tx, &info, before.as_ref()).await?;
        commit(tx).await?;
        Ok(info)
    }

    async fn log_spans(&self, batches: Vec<SpanBatch>) -> Result<()> {
        let mut db = self.writer().await;
        let mut tx = write(&mut db).await?;
        for batch in &batches {
            let before = rows::one(&mut tx, &batch.trace).await?;
            let info = TraceInfo::grown(before.clone(), batch);
            rows::save(&mut tx, &info, before.as_ref()).await?;
            rows::save_spans(&mut tx, &batch.trace, &batch.spans).await?;
            add_up(&mut tx, &info, &batch.spans).await?;
        }
        commit(tx).await
    }

    async fn end_trace(&self, id: &TraceId, end: TraceEnd) -> Result<TraceInfo> {
        let mut db = self.writer().await;
        let mut tx = write(&mut db).await?;
        let before = rows::one(&mut tx, id).await?.ok_or_else(|| trace_rules::unknown_trace(id))?;
        let info = before.clone().ended(end);
        rows::save(&mut tx, &info, Some(&before)).await?;
        commit(tx).await?;
        Ok(info)
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
        let ids: Vec<&str> = ids.iter().map(TraceId::as_str).collect();
        let mut found = rows::spans(&mut tx, &ids).await?;
        let mut named = BTreeMap::new();
        for id in ids {
            if let Some(spans) = found.remove(id) {
                named.insert(TraceId::new(id)?, spans);
            }
        }
        Ok(named)
    }

    async fn set_trace_tag(&self, id: &TraceId, key: &str, value: Option<&str>) -> Result<()> {
        let mut db = self.writer().await;
        let mut tx = write(&mut db).await?;
        rows::must_be_there(&mut tx, id).await?;
        match value {
            Some(value) => {
                let tags = [(key.to_owned(), value.to_owned())].into();
                rows::save_words(&mut tx, rows::Words::Tags, id, &tags, &BTreeMap::new()).await?;
            }
            None => {
                let gone = sqlx::query("DELETE FROM trace_tags WHERE trace = $1 AND name = $2")
                    .bind(id.as_str())
                    .bind(key)
                    .execute(&mut *tx)
                    .await
                    .map_err(|e| fault("remove the tag of a trace", e))?;
                if gone.rows_affected() == 0 {
                    return Err(trace_rules::unknown_trace_tag(id, key));
                }
            }
        }
        commit(tx).await
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

    async fn link_traces(&self, ids: &[TraceId], run: &RunId) -> Result<()> {
        let mut db = self.writer().await;
        let mut tx = write(&mut db).await?;
        for id in ids {
            sqlx::query(
                "INSERT INTO trace_runs (trace, run) SELECT id, $2 FROM traces WHERE id = $1 ON CONFLICT (trace, run) DO NOTHING",
            )
            .bind(id.as_str())
            .bind(&run.0)
            .execute(&mut *tx)
            .await
            .map_err(|e| fault("link a trace to a run", e))?;
        }
        commit(tx).await
    }

    async fn link_prompts(&self, id: &TraceId, prompts: &[String]) -> Result<()> {
        let mut db = self.writer().await;
        let mut tx = write(&mut db).await?;
        rows::must_be_there(&mut tx, id).await?;
        for prompt in prompts {
            sqlx::query("INSERT INTO trace_prompts (trace, prompt) VALUES ($1, $2) ON CONFLICT (trace, prompt) DO NOTHING")
                .bind(id.as_str())
                .bind(prompt)
                .execute(&mut *tx)
                .await
                .map_err(|e| fault("link a prompt to a trace", e))?;
        }
        commit(tx).await
    }

    async fn put_assessment(&self, assessment: Assessment) -> Result<Assessment> {
        let mut db = self.writer().await;
        let mut tx = write(&mut db).await?;
        rows::must_be_there(&mut tx, &assessment.trace).await?;
        if let Some(known) = said::one(&mut tx, &assessment.trace, &assessment.id).await? {
            return Ok(known);
        }
        if let Some(overridden) = &assessment.overrides
            && !said::set_valid(&mut tx, &assessment.trace, overridden, false).await?
        {
            return Err(trace_rules::unknown_assessment(&assessment.trace, overridden));
        }
        said::save(&mut tx, &assessment).await?;
        commit(tx).await?;
        Ok(assessment)
    }

    async fn assessment(&self, trace: &TraceId, id: &str) -> Result<Option<Assessment>> {
        let mut db = self.reader().await?;
        let mut tx = db.begin().await.map_err(|e| fault("read an assessment", e))?;
        rows::must_be_there(&mut tx, trace).await?;
        said::one(&mut tx, trace, id).await
    }

    async fn update_assessment(&self, trace: &TraceId, id: &str, update: AssessmentUpdate, now: Timestamp) -> Result<Assessment> {
        let mut db = self.writer().await;
        let mut tx = write(&mut db).await?;
        rows::must_be_there(&mut tx, trace).await?;
        let known = said::one(&mut tx, trace, id).await?.ok_or_else(|| trace_rules::unknown_assessment(trace, id))?;
        let changed = known.updated(update, now)?;
        said::save(&mut tx, &changed).await?;
        commit(tx).await?;
        Ok(changed)
    }

    async fn delete_assessment(&self, trace: &TraceId, id: &str) -> Result<()> {
        let mut db = self.writer().await;
        let mut tx = write(&mut db).await?;
        rows::must_be_there(&mut tx, trace).await?;
        let Some(known) = said::one(&mut tx, trace, id).await? else { return Ok(()) };
        if let Some(overridden) = &known.overrides {
            said::set_valid(&mut tx, trace, overridden, true).await?;
        }
        said::delete(&mut tx, trace, id).await?;
        commit(tx).await
    }
}

/// Adds up tokens and costs over the whole tree, if these spans bring any.
async fn add_up(db: &mut SqliteConnection, info: &TraceInfo, arrived: &[Span]) -> Result<()> {
    type Sum = fn(&[usage::Spent]) -> Option<String>;
    let sums: [(&str, &str, rows::Figures, Sum); 2] = [
        (key::SPAN_USAGE, key::USAGE, rows::Figures::Usage, usage::tokens),
        (key::SPAN_COST, key::COST, rows::Figures::Cost, usage::costs),
    ];
    for (attribute, name, column, sum) in sums {
        let brought = arrived.iter().any(|span| span.attribute(attribute).is_some());
        if !brought || !trace_rules::is_added_up(info, name) {
            continue;
        }
        if let Some(text) = sum(&rows::spent(db, &info.id, column).await?) {
            rows::save_words(db, rows::Words::Metadata, &info.id, &[(name.to_owned(), text)].into(), &BTreeMap::new()).await?;
        }
    }
    Ok(())
}
