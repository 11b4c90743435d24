//! What is told of a trace, put together with what is there. Each function is a part of a transaction and checks before it writes.

use super::rows;
use crate::ledger::sqlite::open::fault;
use crate::trace_rules;
use gristmill_kernel::tracking::trace::{Span, SpanBatch, TraceEnd, TraceId, TraceInfo, key};
use gristmill_kernel::tracking::usage;
use gristmill_kernel::{Result, RunId};
use sqlx::sqlite::SqliteConnection;
use std::collections::BTreeMap;

/// A whole trace.
pub(super) async fn whole(db: &mut SqliteConnection, info: TraceInfo) -> Result<TraceInfo> {
    let before = rows::one(db, &info.id).await?;
    let info = match before.clone() {
        Some(before) => info.settled_over(before),
        None => info,
    };
    rows::save(db, &info, before.as_ref()).await?;
    Ok(info)
}

/// Spans of traces.
pub(super) async fn spans(db: &mut SqliteConnection, batches: Vec<SpanBatch>) -> Result<()> {
    for batch in &batches {
        let before = rows::one(db, &batch.trace).await?;
        let info = TraceInfo::grown(before.clone(), batch);
        rows::save(db, &info, before.as_ref()).await?;
        rows::save_spans(db, &batch.trace, &batch.spans).await?;
        add_up(db, &info, &batch.spans).await?;
    }
    Ok(())
}

/// The end of a trace.
pub(super) async fn end(db: &mut SqliteConnection, id: TraceId, end: TraceEnd) -> Result<TraceInfo> {
    let before = rows::one(db, &id).await?.ok_or_else(|| trace_rules::unknown_trace(&id))?;
    let info = before.clone().ended(end);
    rows::save(db, &info, Some(&before)).await?;
    Ok(info)
}

/// A tag, or that there is none.
pub(super) async fn tag(db: &mut SqliteConnection, id: TraceId, name: String, value: Option<String>) -> Result<()> {
    rows::must_be_there(db, &id).await?;
    let Some(value) = value else {
        let gone = sqlx::query("DELETE FROM trace_tags WHERE trace = $1 AND name = $2")
            .bind(id.as_str())
            .bind(&name)
            .execute(db)
            .await
            .map_err(|e| fault("remove the tag of a trace", e))?;
        return if gone.rows_affected() > 0 { Ok(()) } else { Err(trace_rules::unknown_trace_tag(&id, &name)) };
    };
    rows::save_words(db, rows::Words::Tags, &id, &[(name, value)].into(), &BTreeMap::new()).await
}

/// That traces belong to a run.
pub(super) async fn link_run(db: &mut SqliteConnection, ids: Vec<TraceId>, run: RunId) -> Result<()> {
    for id in ids {
        sqlx::query("INSERT INTO trace_runs (trace, run) VALUES ($1, $2) ON CONFLICT (trace, run) DO NOTHING")
            .bind(id.as_str())
            .bind(&run.0)
            .execute(&mut *db)
            .await
            .map_err(|e| fault("link a trace to a run", e))?;
    }
    Ok(())
}

/// That a trace used prompts.
pub(super) async fn link_prompts(db: &mut SqliteConnection, id: TraceId, prompts: Vec<String>) -> Result<()> {
    rows::must_be_there(db, &id).await?;
    for prompt in prompts {
        sqlx::query("INSERT INTO trace_prompts (trace, prompt) VALUES ($1, $2) ON CONFLICT (trace, prompt) DO NOTHING")
            .bind(id.as_str())
            .bind(prompt)
            .execute(&mut *db)
            .await
            .map_err(|e| fault("link a prompt to a trace", e))?;
    }
    Ok(())
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
