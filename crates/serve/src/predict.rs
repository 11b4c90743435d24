//! One prediction request, whatever protocol it came by: arms, features, scores, the log.
//!
//! Promises: every answered row is in the log before the answer leaves. The caller is never hurt by a canary: a row on which it fails,
//! or for which it takes too long, is answered by the stable version and counted as an error of the canary. What both arms
//! share (reading the features of the stable version, waiting for a thread) is never blamed on the canary.

use crate::cache::{Claim, Flight, Landing};
use crate::explain::Explained;
use crate::figures::Tally;
use crate::log::LogRow;
use crate::model::{LoadedModel, Scored, row_json};
use crate::plan::{Row, arm_of, check_row_count, entity_of};
use crate::plane::{Endpoint, Plane};
use crate::scoring::{self, Load, Pace, Turn};
use crate::shadow;
use crate::table::Table;
use arrow::array::RecordBatch;
use gristmill_kernel::limits::PREDICT_ROWS_INLINE_MAX;
use gristmill_kernel::prediction::Arm;
use gristmill_kernel::{Code, Fault, Kind, Name, Result, Span, Timestamp, VersionRef};
use serde_json::Value;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// What is asked, in any protocol.
pub(crate) struct Ask {
    pub input: Input,
    /// As of which moment; `None` is now.
    pub at: Option<Timestamp>,
    pub explain: bool,
    /// Only this version of the model.
    pub version: Option<u64>,
    pub urgency: Urgency,
}

/// How urgent a request is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Urgency {
    /// Among those that wait for a shared call, the smallest goes first.
    pub priority: u64,
    /// How long an answer is of use, if that is shorter than the endpoint's own time.
    pub within: Option<Span>,
}

impl Default for Urgency {
    fn default() -> Urgency {
        Urgency { priority: u64::MAX, within: None }
    }
}

/// What the rows are.
pub(crate) enum Input {
    /// Entities and request fields: features are read.
    Entities(Vec<Row>),
    /// Features at hand, in columns named `view.column`.
    Features(RecordBatch),
    /// Encoded features at hand, one row behind the other, for the version asked or the stable one.
    Encoded { rows: usize, matrix: Vec<f64> },
}

/// An answered row.
#[derive(Debug, Clone)]
pub(crate) struct Prediction {
    pub id: String,
    /// The arm the row was meant for.
    pub arm: Arm,
    /// The version that answered.
    pub model: VersionRef,
    pub as_of: Timestamp,
    pub newest: Option<Timestamp>,
    /// The features, where they were asked.
    pub features: Option<Row>,
    /// What the log keeps of them.
    pub kept: Kept,
    pub scored: Option<Scored>,
    /// What each feature did, where it was asked.
    pub explained: Option<Explained>,
    /// Why there is no score, or why the canary did not answer.
    pub error: Option<String>,
}

/// What the log keeps of a row besides its answer, so that the features can be computed again.
#[derive(Debug, Clone)]
pub(crate) struct Kept {
    /// The features without the loss of a bit ([`logged`]).
    pub features: Arc<str>,
    /// Definitions and rows that they were computed from, as [`Basis`](gristmill_kernel::prediction::Basis) in JSON; `None` where they came with the
    /// request.
    pub basis: Option<Arc<str>>,
}

/// An answered request.
pub(crate) struct Answered {
    pub endpoint: Name,
    pub as_of: Timestamp,
    pub predictions: Vec<Prediction>,
}

/// An answer that may be given again.
pub(crate) struct Cached {
    as_of: Timestamp,
    newest: Option<Timestamp>,
    kept: Kept,
    scored: Scored,
}

/// Answers a request.
pub(crate) async fn predict(plane: &Plane, endpoint: &str, ask: Ask) -> Result<Answered> {
    let (name, endpoint) = plane.endpoint(endpoint)?;
    let rows = match &ask.input {
        Input::Entities(rows) => rows.len(),
        Input::Features(columns) => columns.num_rows(),
        Input::Encoded { rows, .. } => *rows,
    };
    check_row_count(rows)?;
    let work = Work::new(plane, &name, &endpoint, ask, rows)?;
    let _in_flight = endpoint.lane.enter(endpoint.spec.in_flight, &name)?;
    let limit = work.limit;
    let turn = plane.scorers.take_on(work.load(), limit, &name)?;
    let room = plane.log.reserve(rows)?;
    let began = Instant::now();
    let outcome = tokio::time::timeout(limit.std(), work.answer(turn)).await.unwrap_or_else(|_| {
        Err(Fault::new(Kind::Timeout, Code::TIMED_OUT, format!("endpoint `{name}` took longer than {limit}"))
            .fix("ask for fewer rows at once, or give it more time"))
    });
    let predictions = match outcome {
        Ok(predictions) => predictions,
        Err(fault) => {
            // Nor is it the model's fault if a caller's own time was too short for the endpoint's.
            let impatient = fault.kind == Kind::Timeout && limit < endpoint.spec.timeout;
            if !impatient && !matches!(fault.kind, Kind::Invalid | Kind::NotFound | Kind::TooLarge) {
                let micros = began.elapsed().as_micros() as u64;
                let tally = Tally { errors: rows as u64, micros, ..Tally::default() };
                let arm = work.pinned.unwrap_or(Arm::Stable);
                endpoint.lane.figures.record(arm, &endpoint.model(arm).id, &tally, plane.parts.ports.clock.now());
            }
            return Err(fault);
        }
    };
    let at = plane.parts.ports.clock.now();
    let logged = predictions.iter().zip(&work.entities).map(|(p, entity)| LogRow {
        id: p.id.clone(),
        at,
        as_of: p.as_of,
        arm: p.arm,
        model: p.model.clone(),
        entity: entity.clone(),
        features: p.kept.features.clone(),
        based_on: p.kept.basis.clone(),
        score: p.scored.as_ref().map(|s| s.score),
        outcome: p.scored.as_ref().and_then(|s| s.outcome.clone()),
        error: p.error.clone(),
    });
    plane.log.append(&name, &endpoint.deployment, logged.collect(), room);
    let as_of = work.at;
    shadow::show(plane, &endpoint, as_of, work.pinned, work.input, &predictions);
    Ok(Answered { endpoint: name, as_of, predictions })
}

/// A request, split over the arms.
struct Work<'a> {
    plane: &'a Plane,
    endpoint: &'a Endpoint,
    input: Input,
    explain: bool,
    /// The one version that may answer, whatever the split says; without another to fall back on.
    pinned: Option<Arm>,
    at: Timestamp,
    /// How long it may take.
    limit: Span,
    deadline: Instant,
    priority: u64,
    /// Per row: the entity as JSON.
    entities: Vec<String>,
    /// Per row.
    arms: Vec<Arm>,
    /// Per row: the key in the cache; empty where nothing may be cached.
    keys: Vec<String>,
}

/// Where the rows of a request are scored.
enum Place {
    /// In a call of their own.
    Own(scoring::Place),
    /// Together with those of others.
    Shared(Turn),
}

/// Who computes the rows of a request that no kept answer has.
struct Claimed<'a> {
    own: Vec<usize>,
    /// Of the own ones, for those who wait for them.
    flights: Vec<Flight<'a>>,
    /// Rows that another request has begun to compute.
    others: Vec<(usize, Landing)>,
}

/// What a model said about a row, and on what.
struct Judged {
    scored: Scored,
    explained: Option<Explained>,
}

impl<'a> Work<'a> {
    fn new(plane: &'a Plane, name: &Name, endpoint: &'a Endpoint, ask: Ask, rows: usize) -> Result<Work<'a>> {
        let only = ask.version.map(|number| arm_of_version(endpoint, name, number)).transpose()?;
        let entities: Vec<String> = match &ask.input {
            Input::Entities(rows) => {
                let one = |(number, row)| Ok(Value::Object(entity_of(row, number, &endpoint.spec.entity, name)?).to_string());
                rows.iter().enumerate().map(one).collect::<Result<_>>()?
            }
            Input::Features(_) | Input::Encoded { .. } => vec!["{}".to_owned(); rows],
        };
        let canary = endpoint.canary.as_ref().map(|(canary, _)| canary);
        let pinned = match &ask.input {
            // Numbers without names fit one version only, unless both name them alike.
            Input::Encoded { .. } if !endpoint.alike() => Some(only.unwrap_or(Arm::Stable)),
            Input::Encoded { .. } | Input::Entities(_) | Input::Features(_) => only,
        };
        let arm = |row: usize| match (pinned, &ask.input) {
            (Some(arm), _) => arm,
            (None, Input::Features(columns)) if canary.is_some() => {
                arm_of(name, canary, &Value::Object(row_json(columns, row)).to_string())
            }
            (None, Input::Encoded { rows, matrix }) if canary.is_some() => {
                let width = matrix.len() / (*rows).max(1);
                let bits = matrix[row * width..(row + 1) * width].iter().map(|x| format!("{:016x}", x.to_bits()));
                arm_of(name, canary, &bits.collect::<String>())
            }
            // Without an entity to go by, equal rows take the same arm.
            (None, Input::Entities(rows)) if canary.is_some() && endpoint.spec.entity.is_empty() => {
                arm_of(name, canary, &Value::Object(rows[row].clone()).to_string())
            }
            (None, _) => arm_of(name, canary, &entities[row]),
        };
        let arms: Vec<Arm> = (0..rows).map(arm).collect();
        let keys = match &ask.input {
            Input::Entities(rows) if endpoint.cache.is_some() && ask.at.is_none() && !ask.explain => {
                let key = |(row, arm): (&Row, &Arm)| format!("{} {}", endpoint.model(*arm).id, Value::Object(row.clone()));
                rows.iter().zip(&arms).map(key).collect()
            }
            _ => Vec::new(),
        };
        let at = ask.at.unwrap_or_else(|| plane.parts.features_clock.now());
        let Urgency { priority, within } = ask.urgency;
        let limit = within.map_or(endpoint.spec.timeout, |within| within.min(endpoint.spec.timeout));
        let deadline = Instant::now() + limit.std();
        let (input, explain) = (ask.input, ask.explain);
        Ok(Work { plane, endpoint, input, explain, pinned, at, limit, deadline, priority, entities, arms, keys })
    }

    /// How long it will compute, as far as its versions have shown.
    fn load(&self) -> Load {
        let rows = |arm: Arm| self.arms.iter().filter(|a| **a == arm).count();
        let asked = [Arm::Stable, Arm::Canary].map(|arm| (arm, rows(arm))).into_iter().filter(|(_, rows)| *rows > 0);
        let many = self.explain || self.arms.len() > PREDICT_ROWS_INLINE_MAX;
        Load::of(asked.map(|(arm, rows)| self.pace(arm).micros(rows)), many)
    }

    fn pace(&self, arm: Arm) -> &Pace {
        let paces = self.endpoint.paces(arm);
        if self.explain { &paces.explained } else { &paces.scored }
    }

    /// Where it is scored. Who shares a call waits for no thread: the call does.
    async fn place(&self, turn: &Turn) -> Result<Place> {
        let arms = [Arm::Stable, Arm::Canary].into_iter().filter(|arm| self.arms.contains(arm));
        let shares = |arm: Arm| self.endpoint.batcher(arm).is_some_and(|batcher| batcher.takes(self.arms.len()));
        match !self.explain && arms.into_iter().all(shares) {
            true => Ok(Place::Shared(turn.clone())),
            false => Ok(Place::Own(self.plane.scorers.place(turn).await?)),
        }
    }

    async fn answer(&self, turn: Turn) -> Result<Vec<Prediction>> {
        let began = Instant::now();
        let mut done: Vec<Option<Prediction>> = (0..self.arms.len()).map(|row| self.kept(row)).collect();
        let Claimed { own, flights, others } = self.claim(&mut done);
        let kept = done.len() - own.len() - others.len();
        let mut took = self.answer_open(&own, &turn, &mut done).await?;
        // Whoever waits for these rows goes on before this request waits for anybody.
        drop(flights);
        let mut misses = own.len();
        if !others.is_empty() {
            let rows: Vec<usize> = others.iter().map(|(row, _)| *row).collect();
            for (row, landing) in others {
                landing.landed().await;
                done[row] = self.kept(row);
            }
            let left: Vec<usize> = rows.iter().copied().filter(|row| done[*row].is_none()).collect();
            self.answer_open(&left, &turn, &mut done).await?;
            misses += left.len();
            let all = began.elapsed().as_micros() as u64;
            took = [all, all];
        }
        if self.endpoint.cache.is_some() {
            self.endpoint.lane.cached.note(kept, done.len() - kept - misses, misses);
        }
        self.count(&done, took);
        done.into_iter().map(|p| p.ok_or_else(|| Fault::internal("a row was left without an answer"))).collect()
    }

    /// Who computes the rows that have no answer yet.
    fn claim(&self, done: &mut [Option<Prediction>]) -> Claimed<'_> {
        let mut claimed = Claimed { own: Vec::with_capacity(done.len()), flights: Vec::new(), others: Vec::new() };
        for (row, answer) in done.iter_mut().enumerate().filter(|(_, answer)| answer.is_none()) {
            match self.endpoint.cache.as_ref().zip(self.keys.get(row)).map(|(cache, key)| cache.claim(key)) {
                None => claimed.own.push(row),
                Some(Claim::Theirs(landing)) => claimed.others.push((row, landing)),
                Some(Claim::Ours(flight)) => {
                    // It may have landed between the look into the cache and the claim.
                    *answer = self.kept(row);
                    if answer.is_none() {
                        claimed.own.push(row);
                        claimed.flights.push(flight);
                    }
                }
            }
        }
        claimed
    }

    /// Answers rows by the model. The microseconds that it took on either arm.
    async fn answer_open(&self, open: &[usize], turn: &Turn, done: &mut [Option<Prediction>]) -> Result<[u64; 2]> {
        let began = Instant::now();
        let both = |took: Duration| [took.as_micros() as u64; 2];
        if open.is_empty() {
            return Ok(both(began.elapsed()));
        }
        if let Some(arm) = self.pinned {
            let model = self.endpoint.model(arm);
            let table = self.table(model, open).await?;
            let place = self.place(turn).await?;
            let judged = self.judge(arm, &place, &table, &(0..open.len()).collect::<Vec<_>>()).await?;
            for (place, judged) in judged.into_iter().enumerate() {
                done[open[place]] = Some(self.prediction(open[place], model, &table, place, judged));
            }
            return Ok(both(began.elapsed()));
        }
        let table = self.table(&self.endpoint.stable, open).await?;
        let place = self.place(turn).await?;
        let shared = began.elapsed();
        let places = |arm: Arm| (0..open.len()).filter(|place| self.arms[open[*place]] == arm).collect::<Vec<_>>();
        let on_stable = places(Arm::Stable);
        let judged = self.judge(Arm::Stable, &place, &table, &on_stable).await?;
        for (place, judged) in on_stable.iter().zip(judged) {
            done[open[*place]] = Some(self.prediction(open[*place], &self.endpoint.stable, &table, *place, judged));
        }
        let stable_took = began.elapsed();
        let on_canary = places(Arm::Canary);
        let canary_began = Instant::now();
        if !on_canary.is_empty() {
            self.answer_canary(open, &on_canary, &place, &table, done).await?;
        }
        Ok([stable_took.as_micros() as u64, (shared + canary_began.elapsed()).as_micros() as u64])
    }

    /// Rows of the canary, within half of the time that is left; what it cannot answer, the stable version answers.
    async fn answer_canary(
        &self,
        open: &[usize],
        places: &[usize],
        thread: &Place,
        table: &Table,
        done: &mut [Option<Prediction>],
    ) -> Result<()> {
        let model = self.endpoint.model(Arm::Canary);
        let half = self.deadline.saturating_duration_since(Instant::now()) / 2;
        let work = async {
            // Columns of the request are read anew: two registered models need not have the same.
            if !model.shape.asks_request()
                && model.views.iter().all(|view| self.endpoint.stable.views.iter().any(|stable| stable.same(view)))
            {
                return Ok((None, self.judge(Arm::Canary, thread, table, places).await?));
            }
            let rows: Vec<usize> = places.iter().map(|place| open[*place]).collect();
            let own = self.table(model, &rows).await?;
            let judged = self.judge(Arm::Canary, thread, &own, &(0..rows.len()).collect::<Vec<_>>()).await?;
            Ok((Some(own), judged))
        };
        let late = || Err(Fault::new(Kind::Timeout, Code::TIMED_OUT, format!("{} took longer than {} ms", model.id, half.as_millis())));
        let outcome: Result<(Option<Table>, Vec<Result<Judged>>)> = tokio::time::timeout(half, work).await.unwrap_or_else(|_| late());
        let mut fallen: Vec<(usize, String)> = Vec::new();
        match outcome {
            Err(fault) => fallen.extend(places.iter().map(|place| (*place, fault.to_string()))),
            Ok((own, judged)) => {
                for (number, (place, judged)) in places.iter().zip(judged).enumerate() {
                    match judged {
                        Err(fault) => fallen.push((*place, fault.to_string())),
                        Ok(judged) => {
                            let (table, at) = own.as_ref().map_or((table, *place), |own| (own, number));
                            done[open[*place]] = Some(self.prediction(open[*place], model, table, at, Ok(judged)));
                        }
                    }
                }
            }
        }
        if let Some((_, why)) = fallen.first() {
            tracing::warn!(canary = %model.id, rows = fallen.len(), "the canary failed, the stable version answered: {why}");
        }
        let fallen_places: Vec<usize> = fallen.iter().map(|(place, _)| *place).collect();
        let judged = self.judge(Arm::Stable, thread, table, &fallen_places).await?;
        for ((place, why), judged) in fallen.into_iter().zip(judged) {
            let mut prediction = self.prediction(open[place], &self.endpoint.stable, table, place, judged);
            prediction.error = Some(match prediction.error {
                None => format!("canary {}: {why}", model.id),
                Some(own) => format!("canary {}: {why}; stable: {own}", model.id),
            });
            done[open[place]] = Some(prediction);
        }
        Ok(())
    }

    /// The features a model reads, for some rows.
    async fn table(&self, model: &LoadedModel, rows: &[usize]) -> Result<Table> {
        Table::read(self.plane.parts.features.as_ref(), self.endpoint, model, &self.input, rows, self.at).await
    }

    /// What a model says about some rows of a table. A fault of one row is that row's; a fault of all (a missing column) is the outer one.
    async fn judge(&self, arm: Arm, thread: &Place, table: &Table, places: &[usize]) -> Result<Vec<Result<Judged>>> {
        if places.is_empty() {
            return Ok(Vec::new());
        }
        let model = self.endpoint.model(arm).clone();
        let width = model.shape.features.len();
        let features = table.features.of(places, width)?;
        let (explain, rows, paces) = (self.explain, places.len(), self.endpoint.paces(arm).clone());
        let own = match (thread, self.endpoint.batcher(arm)) {
            (Place::Own(own), _) => own,
            (Place::Shared(turn), Some(batcher)) => {
                // Read by its own request, so that what cannot be read is a fault of nobody else.
                let matrix = features.encoded(&model)?;
                let scored = batcher.score(matrix, rows, self.priority, turn.clone()).await?;
                return Ok(scored.into_iter().map(|scored| Ok(Judged { scored: scored?, explained: None })).collect());
            }
            (Place::Shared(_), None) => return Err(Fault::internal("a request has nobody to share a call with")),
        };
        let work = move || -> Result<Vec<Result<Judged>>> {
            let began = Instant::now();
            let matrix = features.encoded(&model)?;
            let one = |(row, scored): (usize, Result<Scored>)| {
                let row = &matrix[row * width..(row + 1) * width];
                Ok(Judged { scored: scored?, explained: if explain { model.explain(row) } else { None } })
            };
            let judged = model.score(&matrix, rows)?.into_iter().enumerate().map(one).collect();
            let pace = if explain { &paces.explained } else { &paces.scored };
            pace.note(rows, began.elapsed());
            Ok(judged)
        };
        match (arm, self.pinned) {
            // It falls to the stable version if it takes too long.
            (Arm::Canary, None) => own.attempt(work).await,
            _ => own.compute(work).await,
        }
    }

    fn prediction(&self, row: usize, model: &LoadedModel, table: &Table, place: usize, judged: Result<Judged>) -> Prediction {
        let newest = table.newest[place];
        let kept = Kept { features: table.logged(model, place).into(), basis: table.basis.clone() };
        let features = self.explain.then(|| table.features.row(model, place));
        let (scored, explained, error) = match judged {
            Ok(judged) => (Some(judged.scored), judged.explained, None),
            Err(fault) => (None, None, Some(fault.to_string())),
        };
        if let (Some(scored), Some(cache), Some(key)) = (&scored, &self.endpoint.cache, self.keys.get(row)) {
            // Under the key of the model that answered: a row that fell back to the stable version is not the canary's answer.
            if model.id == self.endpoint.model(self.arms[row]).id {
                let cached = Cached { as_of: self.at, newest, kept: kept.clone(), scored: scored.clone() };
                cache.insert(key.clone(), Arc::new(cached));
            }
        }
        let (arm, model) = (self.arms[row], model.id.clone());
        Prediction { id: self.new_id(), arm, model, as_of: self.at, newest, features, kept, scored, explained, error }
    }

    /// The answer given before, if it is not older than the endpoint's `cache`. The moment it was true at is part of it.
    fn kept(&self, row: usize) -> Option<Prediction> {
        let (cache, ttl, key) = (self.endpoint.cache.as_ref()?, self.endpoint.spec.cache?, self.keys.get(row)?);
        let known = cache.get(key)?;
        if known.as_of > self.at || self.at.since(known.as_of) >= ttl {
            return None;
        }
        let arm = self.arms[row];
        Some(Prediction {
            id: self.new_id(),
            arm,
            model: self.endpoint.model(arm).id.clone(),
            as_of: known.as_of,
            newest: known.newest,
            features: None,
            kept: known.kept.clone(),
            scored: Some(known.scored.clone()),
            explained: None,
            error: None,
        })
    }

    fn new_id(&self) -> String {
        let mut bytes = [0; 16];
        self.plane.parts.ports.ids.random(&mut bytes);
        hex::encode(bytes)
    }

    /// Counts each row once, on the arm it was meant for.
    fn count(&self, done: &[Option<Prediction>], took: [u64; 2]) {
        let now = self.plane.parts.ports.clock.now();
        for (arm, micros) in [Arm::Stable, Arm::Canary].into_iter().zip(took) {
            let rows: Vec<&Prediction> = done.iter().flatten().filter(|p| p.arm == arm).collect();
            if rows.is_empty() {
                continue;
            }
            let scores: Vec<f64> = rows.iter().filter(|p| p.error.is_none()).filter_map(|p| p.scored.as_ref()).map(|s| s.score).collect();
            let tally = Tally { errors: (rows.len() - scores.len()) as u64, scores, micros, ..Tally::default() };
            self.endpoint.lane.figures.record(arm, &self.endpoint.model(arm).id, &tally, now);
        }
    }
}

fn arm_of_version(endpoint: &Endpoint, name: &Name, number: u64) -> Result<Arm> {
    let arms = endpoint.arms();
    arms.iter().find(|(_, id)| id.number == number).map(|(arm, _)| *arm).ok_or_else(|| {
        let versions: Vec<String> = arms.iter().map(|(_, id)| id.number.to_string()).collect();
        Fault::not_found(Code::UNKNOWN_MODEL, format!("endpoint `{name}` does not serve version {number}"))
            .fix(format!("it serves {}", versions.join(" and ")))
    })
}
