//! The rows of traces and spans.

use super::{IN_VALUES_MAX, ROWS_PER_INSERT, push_ids, rows_of, said};
use crate::ledger::sqlite::cells::Cells;
use crate::ledger::sqlite::open::fault;
use crate::trace_rules;
use gristmill_kernel::tracking::ExperimentId;
use gristmill_kernel::tracking::trace::{Span, SpanEvent, SpanLink, SpanStatus, TraceId, TraceInfo, TraceState, TracesToDelete, key};
use gristmill_kernel::tracking::usage::Spent;
use gristmill_kernel::{Code, Fault, Result, Timestamp};
use sqlx::sqlite::{SqliteConnection, SqliteRow};
use sqlx::{QueryBuilder, Sqlite};
use std::collections::{BTreeMap, HashMap};

/// Which words of a trace.
#[derive(Clone, Copy)]
pub(super) enum Words {
    Tags,
    Metadata,
}

impl Words {
    fn table(self) -> &'static str {
        match self {
            Words::Tags => "trace_tags",
            Words::Metadata => "trace_metadata",
        }
    }
}

/// Which figures of spans.
#[derive(Clone, Copy)]
pub(super) enum Figures {
    Usage,
    Cost,
}

pub(super) async fn must_be_there(db: &mut SqliteConnection, id: &TraceId) -> Result<()> {
    let found = sqlx::query("SELECT 1 FROM traces WHERE id = $1")
        .bind(id.as_str())
        .fetch_optional(db)
        .await
        .map_err(|e| fault("look for a trace", e))?;
    found.map(drop).ok_or_else(|| trace_rules::unknown_trace(id))
}

pub(super) async fn one(db: &mut SqliteConnection, id: &TraceId) -> Result<Option<TraceInfo>> {
    Ok(many(db, &[id.as_str()]).await?.pop())
}

/// Those of these traces that are there, in the order given, each once: four statements per 512.
pub(super) async fn many(db: &mut SqliteConnection, ids: &[&str]) -> Result<Vec<TraceInfo>> {
    let mut found: HashMap<String, TraceInfo> = HashMap::new();
    for ids in ids.chunks(IN_VALUES_MAX) {
        for row in rows_of(db, "SELECT * FROM traces", "id", "id", ids).await? {
            let info = bare(&row)?;
            found.insert(info.id.to_string(), info);
        }
        for words in [Words::Tags, Words::Metadata] {
            let select = match words {
                Words::Tags => "SELECT trace, name, value FROM trace_tags",
                Words::Metadata => "SELECT trace, name, value FROM trace_metadata",
            };
            for row in rows_of(db, select, "trace", "trace, name", ids).await? {
                let c = Cells::keyed(&row, words.table(), "trace")?;
                let (trace, name, value) = (c.text("trace")?, c.text("name")?, c.text("value")?);
                let info = found.get_mut(&trace).ok_or_else(|| c.damage("trace", "names no trace"))?;
                match words {
                    Words::Tags => info.tags.insert(name, value),
                    Words::Metadata => info.metadata.insert(name, value),
                };
            }
        }
        for row in rows_of(db, "SELECT * FROM assessments", "trace", "created_at, id", ids).await? {
            let assessment = said::of(&row)?;
            if let Some(info) = found.get_mut(assessment.trace.as_str()) {
                info.assessments.push(assessment);
            }
        }
    }
    Ok(ids.iter().filter_map(|id| found.remove(*id)).collect())
}

fn bare(row: &SqliteRow) -> Result<TraceInfo> {
    let c = Cells::keyed(row, "traces", "id")?;
    let state = c.text("state")?;
    Ok(TraceInfo {
        id: trace_id(&c, "id")?,
        experiment: ExperimentId(c.count("experiment")?),
        requested_at: c.time("requested_at")?,
        took_ms: c.maybe_int("took_ms")?,
        state: TraceState::of_word(&state).ok_or_else(|| c.damage("state", format_args!("`{state}` is no state")))?,
        client_request: c.maybe_text("client_request")?,
        request_preview: c.maybe_text("request_preview")?,
        response_preview: c.maybe_text("response_preview")?,
        metadata: BTreeMap::new(),
        tags: BTreeMap::new(),
        assessments: Vec::new(),
    })
}

pub(super) fn trace_id(c: &Cells<'_>, column: &str) -> Result<TraceId> {
    TraceId::new(&c.text(column)?).map_err(|e| c.damage(column, e.message))
}

/// Writes a trace over what was there before.
pub(super) async fn save(db: &mut SqliteConnection, info: &TraceInfo, before: Option<&TraceInfo>) -> Result<()> {
    let experiment = i64::try_from(info.experiment.0)
        .map_err(|_| Fault::invalid(Code::UNKNOWN_EXPERIMENT, format!("experiment {} is too large a number", info.experiment)))?;
    sqlx::query(
        "INSERT INTO traces (id, experiment, requested_at, took_ms, state, client_request, request_preview, response_preview) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT (id) DO UPDATE SET experiment = excluded.experiment, \
         requested_at = excluded.requested_at, took_ms = excluded.took_ms, state = excluded.state, \
         client_request = excluded.client_request, request_preview = excluded.request_preview, \
         response_preview = excluded.response_preview",
    )
    .bind(info.id.as_str())
    .bind(experiment)
    // To the millisecond, as searches compare it.
    .bind(info.requested_at.millis().saturating_mul(1_000))
    .bind(info.took_ms)
    .bind(info.state.as_str())
    .bind(&info.client_request)
    .bind(&info.request_preview)
    .bind(&info.response_preview)
    .execute(&mut *db)
    .await
    .map_err(|e| fault("write a trace", e))?;
    let nothing = BTreeMap::new();
    save_words(db, Words::Tags, &info.id, &info.tags, before.map_or(&nothing, |b| &b.tags)).await?;
    save_words(db, Words::Metadata, &info.id, &info.metadata, before.map_or(&nothing, |b| &b.metadata)).await?;
    for assessment in &info.assessments {
        if before.is_none_or(|before| !before.assessments.contains(assessment)) {
            said::save(db, assessment).await?;
        }
    }
    Ok(())
}

/// Writes the words that differ from before.
pub(super) async fn save_words(
    db: &mut SqliteConnection,
    words: Words,
    trace: &TraceId,
    now: &BTreeMap<String, String>,
    before: &BTreeMap<String, String>,
) -> Result<()> {
    let changed: Vec<_> = now.iter().filter(|(name, value)| before.get(*name) != Some(*value)).collect();
    for part in changed.chunks(ROWS_PER_INSERT) {
        let mut query = QueryBuilder::<Sqlite>::new(match words {
            Words::Tags => "INSERT INTO trace_tags (trace, name, value) ",
            Words::Metadata => "INSERT INTO trace_metadata (trace, name, value) ",
        });
        query.push_values(part, |mut row, (name, value)| {
            row.push_bind(trace.as_str().to_owned()).push_bind((*name).clone()).push_bind((*value).clone());
        });
        query.push(" ON CONFLICT (trace, name) DO UPDATE SET value = excluded.value");
        query.build().execute(&mut *db).await.map_err(|e| fault("write the words of a trace", e))?;
    }
    Ok(())
}

/// Names and values, in the order they came.
type Pairs = Vec<(String, String)>;

/// What no column of a span has. The names are part of the stored format.
#[derive(serde::Serialize, serde::Deserialize)]
struct Content {
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<String>,
    attributes: Pairs,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    events: Vec<(String, i64, Pairs)>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    links: Vec<(String, String, Pairs)>,
}

/// Writes spans, each over what was there under its id.
pub(super) async fn save_spans(db: &mut SqliteConnection, trace: &TraceId, spans: &[Span]) -> Result<()> {
    // One statement must not name a row twice, so of spans with the same id the last one is written.
    let last: HashMap<&str, usize> = spans.iter().enumerate().map(|(i, span)| (span.id.as_str(), i)).collect();
    let written: Vec<&Span> = spans.iter().enumerate().filter(|(i, span)| last.get(span.id.as_str()) == Some(i)).map(|(_, s)| s).collect();
    for part in written.chunks(ROWS_PER_INSERT) {
        let contents = part.iter().map(|span| content(span)).collect::<Result<Vec<String>>>()?;
        let mut query = QueryBuilder::<Sqlite>::new(
            "INSERT INTO spans (trace, id, parent, name, kind, status, started_ns, ended_ns, usage, cost, content) ",
        );
        query.push_values(part.iter().zip(contents), |mut row, (span, content)| {
            row.push_bind(trace.as_str().to_owned())
                .push_bind(span.id.clone())
                .push_bind(span.parent.clone())
                .push_bind(span.name.clone())
                .push_bind(span.kind())
                .push_bind(span.status.as_str())
                .push_bind(span.started_ns)
                .push_bind(span.ended_ns)
                .push_bind(span.attribute(key::SPAN_USAGE).map(str::to_owned))
                .push_bind(span.attribute(key::SPAN_COST).map(str::to_owned))
                .push_bind(content);
        });
        query.push(
            " ON CONFLICT (trace, id) DO UPDATE SET parent = excluded.parent, name = excluded.name, kind = excluded.kind, \
             status = excluded.status, started_ns = excluded.started_ns, ended_ns = excluded.ended_ns, usage = excluded.usage, \
             cost = excluded.cost, content = excluded.content",
        );
        query.build().execute(&mut *db).await.map_err(|e| fault("write spans", e))?;
    }
    Ok(())
}

fn content(span: &Span) -> Result<String> {
    let content = Content {
        message: span.status_message.clone(),
        attributes: span.attributes.clone(),
        events: span.events.iter().map(|e| (e.name.clone(), e.at_ns, e.attributes.clone())).collect(),
        links: span.links.iter().map(|l| (l.trace.clone(), l.span.clone(), l.attributes.clone())).collect(),
    };
    serde_json::to_string(&content).map_err(|e| Fault::internal("encode a span").because(e))
}

/// The spans of these traces, roots first, then by start.
pub(super) async fn spans(db: &mut SqliteConnection, ids: &[&str]) -> Result<HashMap<String, Vec<Span>>> {
    let mut found: HashMap<String, Vec<Span>> = HashMap::new();
    for ids in ids.chunks(IN_VALUES_MAX) {
        for row in rows_of(db, "SELECT * FROM spans", "trace", "trace, parent IS NOT NULL, started_ns, id", ids).await? {
            let c = Cells::keyed(&row, "spans", "id")?;
            found.entry(c.text("trace")?).or_default().push(span(&c)?);
        }
    }
    Ok(found)
}

fn span(c: &Cells<'_>) -> Result<Span> {
    let content: Content = c.json("content")?;
    let status = c.text("status")?;
    Ok(Span {
        id: c.text("id")?,
        parent: c.maybe_text("parent")?,
        name: c.text("name")?,
        started_ns: c.int("started_ns")?,
        ended_ns: c.maybe_int("ended_ns")?,
        status: SpanStatus::of_word(&status).ok_or_else(|| c.damage("status", format_args!("`{status}` is no status")))?,
        status_message: content.message,
        attributes: content.attributes,
        events: content.events.into_iter().map(|(name, at_ns, attributes)| SpanEvent { name, at_ns, attributes }).collect(),
        links: content.links.into_iter().map(|(trace, span, attributes)| SpanLink { trace, span, attributes }).collect(),
    })
}

/// The figures of all spans of a trace.
pub(super) async fn spent(db: &mut SqliteConnection, trace: &TraceId, column: Figures) -> Result<Vec<Spent>> {
    let query = match column {
        Figures::Usage => sqlx::query("SELECT id, parent, usage AS figures FROM spans WHERE trace = $1"),
        Figures::Cost => sqlx::query("SELECT id, parent, cost AS figures FROM spans WHERE trace = $1"),
    };
    let rows = query.bind(trace.as_str()).fetch_all(db).await.map_err(|e| fault("read the figures of spans", e))?;
    let spent = |row: &SqliteRow| {
        let c = Cells::keyed(row, "spans", "id")?;
        Ok(Spent { id: c.text("id")?, parent: c.maybe_text("parent")?, figures: c.maybe_text("figures")? })
    };
    rows.iter().map(spent).collect()
}

/// The runs and prompts of these traces.
pub(super) async fn links(db: &mut SqliteConnection, ids: &[&str]) -> Result<HashMap<String, (Vec<String>, Vec<String>)>> {
    let mut found: HashMap<String, (Vec<String>, Vec<String>)> = HashMap::new();
    for row in rows_of(db, "SELECT trace, run FROM trace_runs", "trace", "trace, run", ids).await? {
        let c = Cells::keyed(&row, "trace_runs", "trace")?;
        found.entry(c.text("trace")?).or_default().0.push(c.text("run")?);
    }
    for row in rows_of(db, "SELECT trace, prompt FROM trace_prompts", "trace", "trace, prompt", ids).await? {
        let c = Cells::keyed(&row, "trace_prompts", "trace")?;
        found.entry(c.text("trace")?).or_default().1.push(c.text("prompt")?);
    }
    Ok(found)
}

/// Deletes traces; what hangs on them goes with them.
pub(super) async fn delete(db: &mut SqliteConnection, which: &TracesToDelete) -> Result<u64> {
    let mut gone = 0;
    for part in to_delete(db, which).await?.chunks(IN_VALUES_MAX) {
        for (table, column) in [("trace_runs", "trace"), ("traces", "id")] {
            let mut query = QueryBuilder::<Sqlite>::new("DELETE FROM ");
            query.push(table).push(" WHERE ").push(column).push(" IN (");
            push_ids(&mut query, part.iter().map(String::as_str));
            query.push(")");
            let deleted = query.build().execute(&mut *db).await.map_err(|e| fault("delete traces", e))?.rows_affected();
            gone += if table == "traces" { deleted } else { 0 };
        }
    }
    Ok(gone)
}

/// The ids of the traces to delete, oldest first.
async fn to_delete(db: &mut SqliteConnection, which: &TracesToDelete) -> Result<Vec<String>> {
    let experiment = i64::try_from(which.experiment.0).unwrap_or(i64::MAX);
    let until = which.until.map_or(i64::MAX, Timestamp::micros);
    let at_most = which.at_most.unwrap_or(usize::MAX);
    let mut rows = Vec::new();
    if which.ids.is_empty() {
        rows = sqlx::query("SELECT * FROM traces WHERE experiment = $1 AND requested_at <= $2 ORDER BY requested_at, id LIMIT $3")
            .bind(experiment)
            .bind(until)
            .bind(i64::try_from(at_most).unwrap_or(i64::MAX))
            .fetch_all(&mut *db)
            .await
            .map_err(|e| fault("find traces to delete", e))?;
    } else {
        let ids: Vec<&str> = which.ids.iter().map(TraceId::as_str).collect();
        for ids in ids.chunks(IN_VALUES_MAX) {
            rows.extend(rows_of(db, "SELECT * FROM traces", "id", "id", ids).await?);
        }
    }
    let mut found = rows.iter().map(bare).collect::<Result<Vec<_>>>()?;
    found.retain(|info| info.experiment == which.experiment && info.requested_at.micros() <= until);
    found.sort_by(|a, b| (a.requested_at, &a.id).cmp(&(b.requested_at, &b.id)));
    found.dedup_by(|a, b| a.id == b.id);
    Ok(found.into_iter().take(at_most).map(|info| info.id.to_string()).collect())
}
