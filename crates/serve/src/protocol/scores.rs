//! What predictions are to clients that expect values and no more.

use crate::model::Scored;
use crate::predict::Answered;
use gristmill_kernel::{Code, Fault, Kind, Result};
use gristmill_web::schema::{either, list, number};
use serde_json::Value;

/// What was scored of each row. These protocols have no place for the failure of one row, so it is the failure of the request.
pub fn scored(answered: &Answered) -> Result<Vec<&Scored>> {
    let mut scored = Vec::with_capacity(answered.predictions.len());
    for (row, prediction) in answered.predictions.iter().enumerate() {
        scored.push(prediction.scored.as_ref().ok_or_else(|| {
            Fault::new(Kind::Internal, Code::BAD_MODEL, format!("row {row} could not be scored, see prediction {}", prediction.id))
        })?);
    }
    Ok(scored)
}

/// What [`plain`] gives, for `/openapi.json`.
pub fn schema() -> Value {
    list(either(&[number(), list(number())]))
}

/// One value per row: every class's probability where there are more than two, else the score.
pub fn plain(answered: &Answered) -> Result<Vec<Value>> {
    Ok(scored(answered)?.into_iter().map(|s| if s.outputs.len() > 2 { s.outputs.clone().into() } else { s.score.into() }).collect())
}

/// The ids under which the predictions are logged.
pub fn ids(answered: &Answered) -> Vec<&str> {
    answered.predictions.iter().map(|p| p.id.as_str()).collect()
}

/// The versions that answered, each once.
pub fn versions(answered: &Answered) -> Vec<String> {
    let mut versions: Vec<u64> = answered.predictions.iter().map(|p| p.model.number).collect();
    versions.sort_unstable();
    versions.dedup();
    versions.iter().map(u64::to_string).collect()
}
