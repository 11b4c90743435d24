//! `gristmill replay PREDICTION`: the features of one prediction computed again for its moment, the model asked again, and whether all is the same.

use super::{Cx, Ended, Exit};
use crate::wiring::State;
use clap::Args;
use gristmill_monitor::Replayed;
use gristmill_monitor::parity::Found;
use gristmill_monitor::replay::{Difference, ViewAgain};
use serde_json::{Value, json};

/// Compute a logged prediction again, and say whether it is the same.
#[derive(Debug, Args)]
pub struct Replay {
    /// The prediction's id, or enough of its beginning.
    prediction: String,
}

/// What the model says of the logged features.
struct ModelAgain {
    score: Option<f64>,
    outcome: Option<String>,
    error: Option<String>,
    same: bool,
}

impl Replay {
    pub async fn run(self, cx: &Cx) -> Ended {
        let state = State::open(cx).await?;
        let replayed = gristmill_monitor::replay(&state.ports, &self.prediction).await?;
        let ports = &state.ports;
        let scored = gristmill_serve::score_logged(&replayed.model, ports.ledger.as_ref(), ports.blobs.as_ref(), &replayed.features).await;
        let again = compare(&replayed, scored.map(|scored| (scored.score, scored.outcome)));
        let views_hold = replayed.views.iter().all(|view| view.found != Found::Mismatch);
        if cx.out.is_json() {
            let model = json!({ "score": again.score, "outcome": again.outcome, "error": again.error, "same": again.same });
            cx.out.data_json(&json!({ "prediction": replayed, "model_again": model, "same": again.same && views_hold }));
        } else {
            lines(&replayed, &again).into_iter().for_each(|line| cx.out.data(line));
        }
        Ok(if again.same && views_hold { Exit::Done } else { Exit::Failed })
    }
}

/// Bits decide. A row that failed is the same when it fails again.
fn compare(replayed: &Replayed, scored: gristmill_kernel::Result<(f64, Option<String>)>) -> ModelAgain {
    match scored {
        Ok((score, outcome)) => {
            let same = replayed.score.map(f64::to_bits) == Some(score.to_bits()) && replayed.outcome == outcome;
            ModelAgain { score: Some(score), outcome, error: None, same }
        }
        Err(fault) => ModelAgain { score: None, outcome: None, error: Some(fault.to_string()), same: replayed.score.is_none() },
    }
}

fn lines(replayed: &Replayed, again: &ModelAgain) -> Vec<String> {
    let entity = Value::Object(replayed.entity.clone());
    let mut lines = vec![
        format!("prediction {} of endpoints.{} for {entity}", replayed.id, replayed.endpoint),
        format!("  answered {} by {} ({}), as of {}", replayed.at, replayed.model, replayed.arm, replayed.as_of),
    ];
    lines.extend(replayed.views.iter().map(|view| format!("  features.{}@{}: {}", view.view, view.version, said(view))));
    lines.extend(replayed.not_computed.iter().map(|view| format!("  features.{view}: computed in the request, taken as logged")));
    if replayed.views.is_empty() && replayed.not_computed.is_empty() {
        lines.push("  features: sent by the caller, taken as logged".to_owned());
    }
    let was = shown(replayed.score, replayed.outcome.as_deref(), replayed.error.as_deref());
    let is = shown(again.score, again.outcome.as_deref(), again.error.as_deref());
    lines.push(match again.same {
        true => format!("  {}: {is}, the same", replayed.model),
        false => format!("  {}: answered {was}, and says {is} now", replayed.model),
    });
    lines
}

fn shown(score: Option<f64>, outcome: Option<&str>, error: Option<&str>) -> String {
    match (score, outcome, error) {
        (Some(score), Some(outcome), _) => format!("{score} ({outcome})"),
        (Some(score), None, _) => score.to_string(),
        (None, _, Some(error)) => format!("an error: {error}"),
        (None, _, None) => "nothing".to_owned(),
    }
}

fn said(view: &ViewAgain) -> String {
    let first = |differences: &[Difference]| {
        let one = |d: &Difference| format!("{} was {} and is {}", d.feature, d.served, d.computed);
        match differences {
            [] => "nothing differs".to_owned(),
            [only] => one(only),
            [first, rest @ ..] => format!("{}, and {} more", one(first), rest.len()),
        }
    };
    match view.found {
        Found::Equal => "the same".to_owned(),
        Found::Late => format!("the same without the rows that came after the answer; with them {}", first(&view.now)),
        Found::Behind => format!("the same from the rows that were applied then; with those that were not yet {}", first(&view.now)),
        Found::Unknown => format!("a table was overwritten since, so the rows of then cannot be told; now {}", first(&view.now)),
        Found::Mismatch => format!("NOT the same from the same rows: {}", first(&view.then)),
    }
}
