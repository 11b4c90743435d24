//! The rows of assessments.

use super::rows::{must_be_there, trace_id};
use crate::ledger::sqlite::cells::Cells;
use crate::ledger::sqlite::open::fault;
use crate::trace_rules;
use gristmill_kernel::tracking::assessment::{Assessment, AssessmentError, AssessmentUpdate, Said, SourceKind};
use gristmill_kernel::tracking::trace::TraceId;
use gristmill_kernel::{Fault, Result, Timestamp};
use serde_json::{Value, json};
use sqlx::sqlite::{SqliteConnection, SqliteRow};

pub(super) fn of(row: &SqliteRow) -> Result<Assessment> {
    let c = Cells::keyed(row, "assessments", "id")?;
    let value: Value = c.json("value")?;
    let said = match c.text("kind")?.as_str() {
        "feedback" => Said::Feedback(value, c.maybe_json::<Value>("error")?.map(|error| error_of(&error))),
        "expectation" => Said::Expectation(value),
        "issue" => Said::Issue(value.as_str().ok_or_else(|| c.damage("value", "an issue has a name"))?.to_owned()),
        kind => return Err(c.damage("kind", format_args!("`{kind}` is no kind of assessment"))),
    };
    let source = c.text("source")?;
    Ok(Assessment {
        id: c.text("id")?,
        trace: trace_id(&c, "trace")?,
        name: c.text("name")?,
        said,
        source: SourceKind::of_word(&source).ok_or_else(|| c.damage("source", format_args!("`{source}` is no source")))?,
        source_id: c.maybe_text("source_id")?,
        span: c.maybe_text("span")?,
        rationale: c.maybe_text("rationale")?,
        metadata: c.json("metadata")?,
        overrides: c.maybe_text("overrides")?,
        valid: c.int("valid")? != 0,
        created_at: c.time("created_at")?,
        updated_at: c.time("updated_at")?,
    })
}

fn error_of(stored: &Value) -> AssessmentError {
    let text = |name: &str| stored.get(name).and_then(Value::as_str).map(str::to_owned);
    AssessmentError { code: text("code"), message: text("message"), stack: text("stack") }
}

pub(super) async fn one(db: &mut SqliteConnection, trace: &TraceId, id: &str) -> Result<Option<Assessment>> {
    let row = sqlx::query("SELECT * FROM assessments WHERE id = $1 AND trace = $2")
        .bind(id)
        .bind(trace.as_str())
        .fetch_optional(db)
        .await
        .map_err(|e| fault("read an assessment", e))?;
    row.as_ref().map(of).transpose()
}

/// Writes an assessment over what the trace had under its id.
pub(super) async fn save(db: &mut SqliteConnection, one: &Assessment) -> Result<()> {
    let (value, error) = match &one.said {
        Said::Feedback(value, error) => {
            (value.clone(), error.as_ref().map(|e| json!({"code": e.code, "message": e.message, "stack": e.stack}).to_string()))
        }
        Said::Expectation(value) => (value.clone(), None),
        Said::Issue(name) => (Value::String(name.clone()), None),
    };
    let metadata = serde_json::to_string(&one.metadata).map_err(|e| Fault::internal("encode metadata").because(e))?;
    sqlx::query(
        "INSERT INTO assessments (id, trace, name, kind, value, error, source, source_id, span, rationale, metadata, overrides, valid, \
         created_at, updated_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15) \
         ON CONFLICT (trace, id) DO UPDATE SET name = excluded.name, value = excluded.value, error = excluded.error, \
         rationale = excluded.rationale, metadata = excluded.metadata, valid = excluded.valid, updated_at = excluded.updated_at",
    )
    .bind(&one.id)
    .bind(one.trace.as_str())
    .bind(&one.name)
    .bind(one.said.kind())
    .bind(value.to_string())
    .bind(error)
    .bind(one.source.as_str())
    .bind(&one.source_id)
    .bind(&one.span)
    .bind(&one.rationale)
    .bind(metadata)
    .bind(&one.overrides)
    .bind(i64::from(one.valid))
    .bind(one.created_at.micros())
    .bind(one.updated_at.micros())
    .execute(db)
    .await
    .map_err(|e| fault("write an assessment", e))?;
    Ok(())
}

/// Sets whether one stands; says whether it is there.
async fn set_valid(db: &mut SqliteConnection, trace: &TraceId, id: &str, valid: bool) -> Result<bool> {
    let changed = sqlx::query("UPDATE assessments SET valid = $3 WHERE id = $1 AND trace = $2")
        .bind(id)
        .bind(trace.as_str())
        .bind(i64::from(valid))
        .execute(db)
        .await
        .map_err(|e| fault("override an assessment", e))?;
    Ok(changed.rows_affected() > 0)
}

/// Adds an assessment; what it overrides no longer stands.
pub(super) async fn put(db: &mut SqliteConnection, assessment: Assessment) -> Result<Assessment> {
    must_be_there(db, &assessment.trace).await?;
    if let Some(known) = one(db, &assessment.trace, &assessment.id).await? {
        return Ok(known);
    }
    if let Some(overridden) = &assessment.overrides
        && !set_valid(db, &assessment.trace, overridden, false).await?
    {
        return Err(trace_rules::unknown_assessment(&assessment.trace, overridden));
    }
    save(db, &assessment).await?;
    Ok(assessment)
}

/// Changes one.
pub(super) async fn update(
    db: &mut SqliteConnection,
    trace: TraceId,
    id: String,
    update: AssessmentUpdate,
    now: Timestamp,
) -> Result<Assessment> {
    must_be_there(db, &trace).await?;
    let known = one(db, &trace, &id).await?.ok_or_else(|| trace_rules::unknown_assessment(&trace, &id))?;
    let changed = known.updated(update, now)?;
    save(db, &changed).await?;
    Ok(changed)
}

/// Removes one; what it overrode stands again.
pub(super) async fn delete(db: &mut SqliteConnection, trace: TraceId, id: String) -> Result<()> {
    must_be_there(db, &trace).await?;
    let Some(known) = one(db, &trace, &id).await? else { return Ok(()) };
    if let Some(overridden) = &known.overrides {
        set_valid(db, &trace, overridden, true).await?;
    }
    sqlx::query("DELETE FROM assessments WHERE id = $1 AND trace = $2")
        .bind(&id)
        .bind(trace.as_str())
        .execute(db)
        .await
        .map_err(|e| fault("delete an assessment", e))?;
    Ok(())
}
