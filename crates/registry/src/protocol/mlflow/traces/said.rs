//! Assessments: created, read, changed, removed.

use super::super::request::{Ask, Field, Is, read};
use super::super::{Mlflow, done, error, validate};
use super::{known_id, no_trace, wire};
use gristmill_kernel::{Code, Fault, Result};
use gristmill_web::{Call, Method, Permission, Response, Route, json};
use serde::Deserialize;
use serde_json::json;
use std::sync::Arc;

/// Longest name of an assessment.
const NAME_CHARS_MAX: usize = 250;

pub(super) fn routes(m: &Arc<Mlflow>) -> Vec<Route> {
    let (see, track) = (Permission::ReadProject, Permission::Track);
    let one = "/mlflow/traces/{trace_id}/assessments/{assessment_id}";
    [
        super::super::v3(m, &Method::POST, "/mlflow/traces/{trace_id}/assessments", track, create),
        super::super::v3(m, &Method::GET, one, see, get),
        super::super::v3(m, &Method::PATCH, one, track, update),
        super::super::v3(m, &Method::DELETE, one, track, delete),
    ]
    .concat()
}

#[derive(Deserialize)]
struct CreateAsk {
    assessment: wire::AssessmentAsk,
}
impl Ask for CreateAsk {
    const FIELDS: &'static [Field] = &[Field::new("assessment", Is::Object(&[])).required()];
}

async fn create(m: Arc<Mlflow>, call: Call) -> Result<Response> {
    let trace = known_id(call.param("trace_id")?)?;
    let mut ask = read::<CreateAsk>(call).await?.assessment;
    // The server gives the id: the same said again gets the same one.
    ask.assessment_id = None;
    let assessment = ask.taken(&trace, m.now())?;
    validate::within("assessment_name", NAME_CHARS_MAX, &assessment.name)?;
    let made = m.traces.put_assessment(assessment).await.map_err(|fault| gone(fault, trace.as_str()))?;
    json(&json!({ "assessment": wire::assessment(&made) }))
}

/// Who assesses a trace may meet it deleted.
fn gone(fault: Fault, trace: &str) -> Fault {
    let unknown = no_trace(trace).message;
    if fault.message == unknown { Fault { message: format!("{unknown} It may have been deleted."), ..fault } } else { fault }
}

async fn get(m: Arc<Mlflow>, call: Call) -> Result<Response> {
    let (trace, id) = (known_id(call.param("trace_id")?)?, call.param("assessment_id")?);
    let missing =
        || error::unknown(Code::UNKNOWN_TRACE, format!("Assessment with ID '{}' not found for trace '{trace}'", id.escape_debug()));
    let found = m.traces.assessment(&trace, id).await?.ok_or_else(missing)?;
    json(&json!({ "assessment": wire::assessment(&found) }))
}

#[derive(Deserialize)]
struct UpdateAsk {
    assessment: wire::AssessmentAsk,
    update_mask: String,
}
impl Ask for UpdateAsk {
    const FIELDS: &'static [Field] = &[Field::new("assessment", Is::Object(&[])).required(), Field::text("update_mask").required()];
}

async fn update(m: Arc<Mlflow>, call: Call) -> Result<Response> {
    let trace = known_id(call.param("trace_id")?)?;
    let id = call.param("assessment_id")?.to_owned();
    let ask: UpdateAsk = read(call).await?;
    let update = ask.assessment.update(&ask.update_mask)?;
    validate::within("assessment_name", NAME_CHARS_MAX, update.name.as_deref().unwrap_or_default())?;
    let changed = m.traces.update_assessment(&trace, &id, update, m.now()).await?;
    json(&json!({ "assessment": wire::assessment(&changed) }))
}

async fn delete(m: Arc<Mlflow>, call: Call) -> Result<Response> {
    let (trace, id) = (known_id(call.param("trace_id")?)?, call.param("assessment_id")?);
    m.traces.delete_assessment(&trace, id).await?;
    done()
}
