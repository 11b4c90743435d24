//! The prediction log: a bounded buffer that becomes rows of `predictions__NAME` and versions of `predictions.NAME`.
//!
//! Promises: a prediction that was answered is in the buffer; when the buffer has no room, the request is refused before it is
//! worked on. A batch on its way into the table is frozen under a position of its own, so writing it twice changes nothing. A
//! batch that cannot be written stays, is tried again by the next flush, and keeps its room.

use arrow::array::{ArrayRef, Float64Array, Int32Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use gristmill_kernel::limits::{LEASE_MS, PREDICTION_BUFFER_ROWS_MAX};
use gristmill_kernel::port::Ports;
use gristmill_kernel::prediction::{Arm, LOG_FORMAT};
use gristmill_kernel::run::{Finish, Metric, NewRun};
use gristmill_kernel::table::{Position, SystemColumns, TableName, TableWrite, WriteMode};
use gristmill_kernel::version::Place;
use gristmill_kernel::{
    Actor, Address, AssetKind, Code, Digest, Fault, Kind, Name, NewVersion, Result, RunStatus, Span, StageKind, Timestamp, VersionRef,
};
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

/// One logged prediction.
#[derive(Debug, Clone)]
pub struct LogRow {
    /// Its id.
    pub id: String,
    /// When it was answered.
    pub at: Timestamp,
    /// The moment of its features.
    pub as_of: Timestamp,
    /// The arm it was meant for.
    pub arm: Arm,
    /// The version that answered.
    pub model: VersionRef,
    /// The entity's columns as a JSON object.
    pub entity: String,
    /// The features as a JSON object that loses no bit ([`gristmill_kernel::logged`]).
    pub features: Arc<str>,
    /// What they were computed from, as [`Basis`](gristmill_kernel::prediction::Basis) in JSON; `None` where they came with the request.
    pub based_on: Option<Arc<str>>,
    /// The score.
    pub score: Option<f64>,
    /// The predicted class.
    pub outcome: Option<String>,
    /// What went wrong.
    pub error: Option<String>,
}

/// The buffer of all endpoints.
pub struct PredictionLog {
    instance: String,
    capacity: usize,
    room: Arc<AtomicUsize>,
    waiting: Mutex<BTreeMap<Name, Waiting>>,
    flushing: tokio::sync::Mutex<BTreeMap<Name, Frozen>>,
}

#[derive(Default)]
struct Waiting {
    rows: Vec<LogRow>,
    /// The deployments that answered.
    deployments: BTreeSet<VersionRef>,
    /// Rows frozen so far: the next batch ends at this offset plus its length.
    frozen: i64,
}

/// A batch on its way into the table. It never changes, so that a repeated write is the same write.
struct Frozen {
    rows: RecordBatch,
    inputs: Vec<VersionRef>,
    errors: usize,
    last_at: Timestamp,
    offset: i64,
}

/// Room for the rows of one request. What is not used goes back when it is dropped.
pub struct Reservation {
    room: Arc<AtomicUsize>,
    rows: usize,
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.room.fetch_add(self.rows, Ordering::AcqRel);
    }
}

impl PredictionLog {
    /// An empty log. `instance` tells this process from others that append to the same tables.
    pub fn new(instance: String) -> PredictionLog {
        PredictionLog::with_room(instance, PREDICTION_BUFFER_ROWS_MAX)
    }

    pub(crate) fn with_room(instance: String, rows: usize) -> PredictionLog {
        PredictionLog {
            instance,
            capacity: rows,
            room: Arc::new(AtomicUsize::new(rows)),
            waiting: Mutex::default(),
            flushing: tokio::sync::Mutex::default(),
        }
    }

    fn waiting(&self) -> MutexGuard<'_, BTreeMap<Name, Waiting>> {
        self.waiting.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// Keeps room for a request's rows, or refuses it.
    pub fn reserve(&self, rows: usize) -> Result<Reservation> {
        match self.room.fetch_update(Ordering::AcqRel, Ordering::Acquire, |room| room.checked_sub(rows)) {
            Ok(_) => Ok(Reservation { room: self.room.clone(), rows }),
            Err(_) => {
                Err(Fault::new(Kind::Busy, Code::OVERLOADED, "the prediction log is full and its table is not taking rows fast enough")
                    .fix("try again in a second; if it lasts, look at `gristmill status` and the disk"))
            }
        }
    }

    /// Adds rows into reserved room.
    pub fn append(&self, endpoint: &Name, deployment: &VersionRef, rows: Vec<LogRow>, mut reservation: Reservation) {
        reservation.rows = reservation.rows.saturating_sub(rows.len());
        let mut waiting = self.waiting();
        let lane = waiting.entry(endpoint.clone()).or_default();
        lane.rows.extend(rows);
        if !lane.deployments.contains(deployment) {
            lane.deployments.insert(deployment.clone());
        }
    }

    /// Rows that are in no table yet, those just being answered included.
    pub fn rows_waiting(&self) -> usize {
        self.capacity.saturating_sub(self.room.load(Ordering::Acquire))
    }

    /// Writes everything that waits. Returns how many rows are now in their tables. Every endpoint is tried; the first fault is returned.
    pub async fn flush(&self, ports: &Ports) -> Result<u64> {
        let mut frozen = self.flushing.lock().await;
        let mut fault = self.freeze(&mut frozen).err();
        let mut written = 0;
        for endpoint in frozen.keys().cloned().collect::<Vec<_>>() {
            match self.write(ports, &endpoint, &frozen[&endpoint]).await {
                Ok(rows) => {
                    frozen.remove(&endpoint);
                    written += rows;
                }
                Err(error) => fault = fault.or(Some(error)),
            }
        }
        fault.map_or(Ok(written), Err)
    }

    /// Turns what waits into batches. An endpoint whose last batch is still on its way waits for it.
    fn freeze(&self, frozen: &mut BTreeMap<Name, Frozen>) -> Result<()> {
        for (endpoint, lane) in self.waiting().iter_mut() {
            if lane.rows.is_empty() || frozen.contains_key(endpoint) {
                continue;
            }
            let rows = batch_of(&lane.rows)?;
            let models: BTreeSet<VersionRef> = lane.rows.iter().map(|r| r.model.clone()).collect();
            lane.frozen += lane.rows.len() as i64;
            let batch = Frozen {
                rows,
                inputs: std::mem::take(&mut lane.deployments).into_iter().chain(models).collect(),
                errors: lane.rows.iter().filter(|r| r.error.is_some()).count(),
                last_at: lane.rows.iter().map(|r| r.at).max().unwrap_or_default(),
                offset: lane.frozen,
            };
            frozen.insert(endpoint.clone(), batch);
            lane.rows.clear();
        }
        Ok(())
    }

    /// One batch into its table, and the line in the ledger that says so.
    async fn write(&self, ports: &Ports, endpoint: &Name, batch: &Frozen) -> Result<u64> {
        let asset = Address::new(AssetKind::Predictions, endpoint.clone());
        let (count, now) = (batch.rows.num_rows(), ports.clock.now());
        let stream = format!("buffer:{}", self.instance);
        let run = NewRun {
            id: ports.ids.run(),
            stage: StageKind::Serve,
            address: asset.clone(),
            spec: json!({ "endpoint": endpoint, "buffer": stream, "up_to": batch.offset }),
            key: Digest::of(format!("serve {asset} {stream} {}", batch.offset)),
            inputs: batch.inputs.clone(),
            parent: None,
            actor: Actor::system("serve"),
            reason: "predictions were answered".into(),
            idempotency: None,
            due_at: now,
        };
        let worker = format!("serve:{}", self.instance);
        let run = ports.ledger.begin(run, &worker, now, now.plus(Span::from_millis(LEASE_MS))).await?;
        let table = TableName::of(&asset);
        let write = TableWrite {
            table: table.clone(),
            rows: vec![batch.rows.clone()],
            mode: WriteMode::Append,
            system: SystemColumns::Assign(now),
            positions: vec![Position { stream, offset: batch.offset }],
            note: serde_json::Value::Null,
        };
        let written = match ports.engine.write(write).await {
            Ok(written) => written,
            Err(fault) => {
                let end = Finish { error: Some((&fault).into()), ..finish(RunStatus::Failed, "the rows wait for the next try".into()) };
                if let Err(second) = ports.ledger.finish(&run.id, end, ports.clock.now()).await {
                    tracing::warn!(run = %run.id, "a failed flush could not be recorded: {second}");
                }
                return Err(fault);
            }
        };
        let version = NewVersion {
            asset: asset.clone(),
            digest: Digest::of(format!("{table} {}", written.info.version)),
            place: Place::Table { table, version: written.info.version },
            rows: Some(written.info.rows),
            meta: json!({ "rows_added": count, "last_at": batch.last_at }),
        };
        let metrics = vec![Metric::new("rows", count as f64), Metric::new("errors", batch.errors as f64)];
        let summary = format!("{count} predictions logged, {} with an error", batch.errors);
        let end = Finish { outputs: vec![version], metrics, ..finish(RunStatus::Succeeded, summary) };
        ports.ledger.finish(&run.id, end, ports.clock.now()).await?;
        self.room.fetch_add(count, Ordering::AcqRel);
        Ok(count as u64)
    }
}

fn finish(status: RunStatus, summary: String) -> Finish {
    Finish { summary, ..Finish::empty(status) }
}

/// The columns of `predictions__NAME`.
pub fn schema() -> SchemaRef {
    let moment = || DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
    Arc::new(Schema::new(vec![
        Field::new("prediction_id", DataType::Utf8, false),
        Field::new("at", moment(), false),
        Field::new("as_of", moment(), false),
        Field::new("arm", DataType::Utf8, false),
        Field::new("model", DataType::Utf8, false),
        Field::new("entity", DataType::Utf8, false),
        Field::new("features", DataType::Utf8, false),
        Field::new("score", DataType::Float64, true),
        Field::new("outcome", DataType::Utf8, true),
        Field::new("error", DataType::Utf8, true),
        Field::new("format", DataType::Int32, true),
        Field::new("based_on", DataType::Utf8, true),
    ]))
}

fn batch_of(rows: &[LogRow]) -> Result<RecordBatch> {
    let text = |f: fn(&LogRow) -> &str| -> ArrayRef { Arc::new(StringArray::from_iter_values(rows.iter().map(f))) };
    let maybe = |f: fn(&LogRow) -> Option<&str>| -> ArrayRef { Arc::new(rows.iter().map(f).collect::<StringArray>()) };
    let moment = |f: fn(&LogRow) -> Timestamp| -> ArrayRef {
        Arc::new(TimestampMicrosecondArray::from_iter_values(rows.iter().map(|r| f(r).micros())).with_timezone("UTC"))
    };
    let columns = vec![
        text(|r| &r.id),
        moment(|r| r.at),
        moment(|r| r.as_of),
        text(|r| r.arm.as_str()),
        Arc::new(StringArray::from_iter_values(rows.iter().map(|r| r.model.to_string()))) as ArrayRef,
        text(|r| &r.entity),
        text(|r| &r.features),
        Arc::new(rows.iter().map(|r| r.score).collect::<Float64Array>()),
        maybe(|r| r.outcome.as_deref()),
        maybe(|r| r.error.as_deref()),
        Arc::new(Int32Array::from_value(LOG_FORMAT, rows.len())),
        maybe(|r| r.based_on.as_deref()),
    ];
    RecordBatch::try_new(schema(), columns).map_err(|e| Fault::internal("logged predictions do not make a batch").because(e))
}
