//! Copies of requests for a version that answers nobody yet.
//!
//! Promises: the caller is never hurt and never waits. A copy is taken after the answer stands; what the version says, how long it takes
//! and whether it panics is counted and goes nowhere else. At most [`COPIES_MAX`](gristmill_kernel::limits::COPIES_MAX) copies of an endpoint are
//! under way, also where a version hangs for ever: the rest is not shown, and counted as skipped.

use crate::figures::Tally;
use crate::model::{LoadedModel, Scored};
use crate::plane::{Endpoint, Plane};
use crate::predict::{Input, Prediction};
use crate::table::Table;
use gristmill_kernel::port::FeatureReader;
use gristmill_kernel::prediction::{Arm, Compared};
use gristmill_kernel::{Code, Fault, Kind, Result, Timestamp};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;

/// Scores that differ by less than this part of the larger one are the same where there is no outcome to compare.
const SAME: f64 = 1e-6;

/// Shows a request that was answered to the version that is shown copies, if there is one and the request is in its sample.
pub(crate) fn show(plane: &Plane, endpoint: &Arc<Endpoint>, at: Timestamp, pinned: Option<Arm>, input: Input, answers: &[Prediction]) {
    let Some((canary, model)) = endpoint.canary.as_ref().filter(|(canary, _)| canary.mirrored > 0) else { return };
    // Who asks for one version is no part of the traffic; numbers without names are pinned where the versions do not name them alike.
    if pinned.is_some() || !sampled(answers, canary.mirrored) {
        return;
    }
    let Ok(place) = endpoint.lane.copies.clone().try_acquire_owned() else {
        endpoint.lane.skipped.fetch_add(1, Ordering::Relaxed);
        return;
    };
    let answers = answers.iter().map(|answer| answer.scored.clone().filter(|_| answer.error.is_none())).collect();
    let copy = Copy { reader: plane.parts.features.clone(), endpoint: endpoint.clone(), model: model.clone(), input, at, answers };
    let clock = plane.parts.ports.clock.clone();
    tokio::spawn(async move {
        let (endpoint, model) = (copy.endpoint.clone(), copy.model.id.clone());
        let tally = copy.tally(Arc::new(place)).await;
        endpoint.lane.figures.record(Arm::Shadow, &model, &tally, clock.now());
    });
}

/// Whether a request is in the sample: its first prediction has a random id, which decides.
fn sampled(answers: &[Prediction], permille: u32) -> bool {
    let head = answers.first().and_then(|answer| answer.id.get(..8)).and_then(|head| u32::from_str_radix(head, 16).ok());
    head.is_some_and(|head| head % 1_000 < permille)
}

/// A request that was answered.
struct Copy {
    reader: Arc<dyn FeatureReader>,
    endpoint: Arc<Endpoint>,
    model: Arc<LoadedModel>,
    input: Input,
    at: Timestamp,
    /// What callers got; `None` for a row that failed.
    answers: Vec<Option<Scored>>,
}

impl Copy {
    /// What the version does with it, within the time that callers are given.
    async fn tally(self, place: Arc<OwnedSemaphorePermit>) -> Tally {
        let (began, limit, rows) = (Instant::now(), self.endpoint.spec.timeout, self.answers.len());
        let outcome = tokio::time::timeout(limit.std(), self.scored(&place)).await.unwrap_or_else(|_| {
            Err(Fault::new(Kind::Timeout, Code::TIMED_OUT, format!("{} took longer than {limit} with a copy", self.model.id)))
        });
        let micros = began.elapsed().as_micros() as u64;
        let scored = match outcome {
            Ok(scored) => scored,
            Err(fault) => {
                tracing::warn!(shadow = %self.model.id, rows, "a copy could not be answered, the caller has the stable answer: {fault}");
                return Tally { errors: rows as u64, micros, ..Tally::default() };
            }
        };
        let (mut errors, mut scores, mut compared) = (0, Vec::with_capacity(rows), Compared::default());
        for (answer, scored) in self.answers.iter().zip(scored) {
            let Ok(scored) = scored else {
                errors += 1;
                continue;
            };
            if let Some(answer) = answer {
                compared.rows += 1;
                compared.same += u64::from(same(answer, &scored));
                compared.distance += (answer.score - scored.score).abs();
            }
            scores.push(scored.score);
        }
        Tally { errors, scores, micros, compared }
    }

    /// The rows, scored on a thread that nobody waits for. The thread keeps its place until it is done.
    async fn scored(&self, place: &Arc<OwnedSemaphorePermit>) -> Result<Vec<Result<Scored>>> {
        let rows: Vec<usize> = (0..self.answers.len()).collect();
        let table = Table::read(self.reader.as_ref(), &self.endpoint, &self.model, &self.input, &rows, self.at).await?;
        let (model, place, features) = (self.model.clone(), place.clone(), table.features);
        let work = move || {
            let _kept_until_done = place;
            model.score(&features.encoded(&model)?, rows.len())
        };
        tokio::task::spawn_blocking(work).await.map_err(|e| Fault::internal("scoring a copy panicked").because(e))?
    }
}

fn same(one: &Scored, other: &Scored) -> bool {
    match (&one.outcome, &other.outcome) {
        (Some(one), Some(other)) => one == other,
        _ => (one.score - other.score).abs() <= SAME * one.score.abs().max(other.score.abs()),
    }
}
