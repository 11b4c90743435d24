//! The stage: reads the window, judges it, joins outcomes, writes the report, tells somebody.

use crate::alert::{self, Egress};
use crate::audit::{self, Wanted};
use crate::experiment;
use crate::known;
use crate::outcomes::Outcomes;
use crate::parity::Parity;
use crate::plan::{self, Report, Span};
use crate::quality::{Known, Quality};
use crate::spec::MonitorSpec;
use crate::window::Window;
use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{DataType, Float64Type, TimeUnit, TimestampMicrosecondType};
use async_trait::async_trait;
use futures::TryStreamExt;
use gristmill_kernel::experiment::Experiment;
use gristmill_kernel::limits::QUALITY_ROWS_MAX;
use gristmill_kernel::model::ModelFile;
use gristmill_kernel::port::Ports;
use gristmill_kernel::prediction::Deployment;
use gristmill_kernel::stage::Made;
use gristmill_kernel::table::{Catalog, Relation, TableName};
use gristmill_kernel::version::{Place, Which};
use gristmill_kernel::{
    Address, AliasName, AssetKind, Check, Done, Fault, Name, NewVersion, Order, Result, Stage, StageContext, StageKind, Timestamp, Verdict,
    Version, VersionRef,
};
use std::sync::Arc;

/// Stage `monitor`: node `monitors.NAME`.
pub struct MonitorStage {
    egress: Arc<dyn Egress>,
}

impl MonitorStage {
    /// A stage that sends its alerts through `egress`.
    pub fn new(egress: Arc<dyn Egress>) -> MonitorStage {
        MonitorStage { egress }
    }
}

#[async_trait]
impl Stage for MonitorStage {
    fn kind(&self) -> StageKind {
        StageKind::Monitor
    }
    /// Time passes and predictions arrive without any input changing.
    fn skippable(&self) -> bool {
        false
    }
    async fn run(&self, cx: &StageContext, order: Order) -> Result<Done> {
        let spec: MonitorSpec = order.spec()?;
        let ports = &cx.ports;
        let Some(deployment) = live(ports, &spec).await? else {
            return Ok(inconclusive(format!("endpoint `{}` is not deployed yet", spec.endpoint)));
        };
        let table = TableName::of(&Address::new(AssetKind::Predictions, spec.endpoint.clone()));
        if ports.engine.table(&table).await?.is_none() {
            return Ok(inconclusive(format!("endpoint `{}` has answered nothing yet", spec.endpoint)));
        }
        let model = deployment.stable.clone();
        let version = version(ports, &model).await?;
        let file = model_file(ports, &version).await?;
        let happened = match &spec.decide {
            Some(decide) => outcomes(ports, Some(&decide.labels), &file).await?,
            None => None,
        };
        let experiment = match (&spec.decide, &happened) {
            (Some(decide), Some(outcomes)) => experiment::count(cx, &table, (&deployment, decide), (&file, outcomes)).await?,
            _ => None,
        };
        let (mut params, counted) = experiment.as_ref().map(Experiment::written).unwrap_or_default();
        params.insert("model".to_owned(), model.to_string());
        let from = last_end(ports, &order.node.address).await?;
        let mut window = Window::new(&file);
        let to = read_window(cx, &table, &model, from, &mut window).await?;
        let to = match to.filter(|_| window.rows >= spec.at_least.max(1)) {
            Some(to) => to,
            None => {
                let at_least = spec.at_least.max(1);
                let summary = format!("{} of {at_least} predictions of {model}: the window stays open", window.rows);
                return Ok(Done::Made(Made { verdict: Some(Verdict::Inconclusive), summary, params, metrics: counted, ..Made::default() }));
            }
        };
        cx.cancel.check()?;
        // A label set is read once, and only for a window that is judged.
        let same = spec.decide.as_ref().map(|decide| &decide.labels) == spec.outcomes.as_ref();
        let outcomes = if same { happened } else { outcomes(ports, spec.outcomes.as_ref(), &file).await? };
        let measured = plan::measure_all(&window);
        let mut checks = judge(ports, spec.drift.as_deref(), &measured).await?;
        let mut report = Report {
            format: Report::FORMAT,
            endpoint: spec.endpoint.clone(),
            model: model.clone(),
            window: Span { from, to },
            rows: window.rows,
            verdict: spec.drift.as_ref().map(|_| plan::verdict(&checks)),
            drifted: checks.iter().filter(|c| c.verdict == Verdict::Fail).map(|c| c.observed.clone()).collect(),
            quality: match &outcomes {
                Some(outcomes) => quality(cx, (&spec, &table), (&version, &file), outcomes).await?,
                None => None,
            },
            parity: None,
            columns: measured.iter().map(|m| (m.column.clone(), m.values.clone())).collect(),
        };
        cx.cancel.check()?;
        let wanted = Wanted { table: &table, model: &model, window: report.window, rows: spec.audit };
        report.parity = audit::audit(cx, &wanted).await?;
        checks.extend(judge_parity(ports, spec.parity.as_deref(), report.parity.as_mut()).await?);
        let mut summary = plan::summary(&report, measured.len());
        if report.verdict == Some(Verdict::Fail) {
            tracing::warn!(endpoint = %spec.endpoint, model = %model, rows = report.rows, first = report.drifted.first(), "drift");
        }
        if report.skewed() {
            let first = report.parity.as_ref().and_then(|p| p.shown.first());
            tracing::warn!(endpoint = %spec.endpoint, model = %model, first, "served features are not those that training gives");
        }
        if report.verdict == Some(Verdict::Fail) || report.skewed() {
            let notes = alert::send(&spec.alerts, &report, &order.run, ports.secrets.as_ref(), self.egress.as_ref()).await;
            summary = notes.into_iter().fold(summary, |all, note| format!("{all}; {note}"));
        }
        let mut metrics = report.metrics();
        metrics.extend(counted);
        let output = write(ports, &order.node.address, &mut report).await?;
        Ok(Done::Made(Made { outputs: vec![output], verdict: report.overall(), checks, params, metrics, summary, ..Made::default() }))
    }
}

/// Nothing was judged and nothing is written, so the window stays where it was.
fn inconclusive(summary: String) -> Done {
    Done::Made(Made { verdict: Some(Verdict::Inconclusive), summary, ..Made::default() })
}

/// The newest report of an endpoint, with every column's measures; `None` before the first.
pub async fn last_report(ports: &Ports, endpoint: &gristmill_kernel::Name) -> Result<Option<Report>> {
    let address = Address::new(AssetKind::Monitors, endpoint.clone());
    let Some(version) = ports.ledger.version(&address, &Which::Latest).await? else { return Ok(None) };
    let content = content(ports, &version).await?;
    let report = serde_json::from_slice(&content).map_err(|e| Fault::damaged(format!("{} is not a report: {e}", version.id)).because(e))?;
    Ok(Some(report))
}

async fn live(ports: &Ports, spec: &MonitorSpec) -> Result<Option<Deployment>> {
    let endpoint = Address::new(AssetKind::Endpoints, spec.endpoint.clone());
    let Some(live) = ports.ledger.version(&endpoint, &Which::Alias(AliasName::live())).await? else { return Ok(None) };
    let deployment: Deployment =
        serde_json::from_value(live.meta).map_err(|e| Fault::damaged(format!("{} is not a deployment: {e}", live.id)).because(e))?;
    Ok(Some(deployment))
}

async fn version(ports: &Ports, id: &VersionRef) -> Result<Version> {
    let found = ports.ledger.version(&id.asset, &Which::Number(id.number)).await?;
    found.ok_or_else(|| Fault::damaged(format!("{id} is deployed but not in the ledger")))
}

async fn content(ports: &Ports, version: &Version) -> Result<bytes::Bytes> {
    let content = ports.blobs.get(&version.blob()?).await?;
    content.ok_or_else(|| Fault::damaged(format!("the content of {} is gone", version.id)))
}

async fn model_file(ports: &Ports, version: &Version) -> Result<ModelFile> {
    ModelFile::read(&content(ports, version).await?)
}

/// Where the last judged window ended.
async fn last_end(ports: &Ports, address: &Address) -> Result<Option<Timestamp>> {
    let Some(last) = ports.ledger.version(address, &Which::Latest).await? else { return Ok(None) };
    let report: Report =
        serde_json::from_value(last.meta).map_err(|e| Fault::damaged(format!("{} is not a report: {e}", last.id)).because(e))?;
    Ok(Some(report.window.to))
}

pub(crate) fn catalog(table: &TableName) -> Catalog {
    Catalog::from([("predictions".to_owned(), Relation::Stored { table: table.clone(), version: None, time: Some("at".into()) })])
}

/// Adds the predictions of a model made after `from`. Returns the moment of the newest one: the window ends there and not now, because
/// predictions made a moment ago may still wait in the buffer of `serve`.
async fn read_window(
    cx: &StageContext,
    table: &TableName,
    model: &VersionRef,
    from: Option<Timestamp>,
    window: &mut Window<'_>,
) -> Result<Option<Timestamp>> {
    let after = from.map_or(i64::MIN, Timestamp::micros);
    // A model's name and number are safe in quotes: they are made of lowercase letters, digits, `_`, `.` and `@`.
    let since = from.map(|t| format!(" and cast(at as bigint) > {}", t.micros())).unwrap_or_default();
    let sql = format!("select at, features, score from predictions where error is null and model = '{model}'{since}");
    let mut rows = cx.ports.engine.query(&sql, &catalog(table), false).await?;
    let mut newest = None;
    while let Some(batch) = rows.try_next().await? {
        cx.cancel.check()?;
        let at = column(&batch, "at", &DataType::Timestamp(TimeUnit::Microsecond, None))?;
        let (features, score) = (column(&batch, "features", &DataType::Utf8)?, column(&batch, "score", &DataType::Float64)?);
        let (at, features) = (at.as_primitive::<TimestampMicrosecondType>(), features.as_string::<i32>());
        let score = score.as_primitive::<Float64Type>();
        for row in 0..batch.num_rows() {
            if !at.is_valid(row) || at.value(row) <= after {
                continue;
            }
            let values = if features.is_valid(row) { features.value(row) } else { "{}" };
            let values = serde_json::from_str(values)
                .map_err(|e| Fault::damaged(format!("table {table}, column features, a prediction at {}: {e}", at.value(row))))?;
            window.add(&values, score.is_valid(row).then(|| score.value(row)));
            newest = newest.max(Some(at.value(row)));
        }
        cx.progress.at(window.rows, 0, "predictions");
    }
    Ok(newest.map(Timestamp::from_micros))
}

pub(crate) fn column(batch: &RecordBatch, name: &str, kind: &DataType) -> Result<arrow::array::ArrayRef> {
    let column = batch.column_by_name(name).ok_or_else(|| Fault::damaged(format!("the prediction log has no column `{name}`")))?;
    arrow::compute::cast(column, kind).map_err(|e| Fault::damaged(format!("the prediction log's column `{name}`: {e}")).because(e))
}

async fn judge(ports: &Ports, drift: Option<&str>, measured: &[plan::Measured]) -> Result<Vec<Check>> {
    let Some(condition) = drift else { return Ok(vec![]) };
    let mut checks = Vec::with_capacity(measured.len());
    for column in measured {
        let judged = ports.engine.judge(condition, &column.figures).await?;
        checks.push((plan::check(condition, column, &judged), column));
    }
    plan::sort(&mut checks);
    Ok(checks.into_iter().map(|(check, _)| check).collect())
}

/// Judges what the audit found, and writes the verdict into it.
async fn judge_parity(ports: &Ports, condition: Option<&str>, parity: Option<&mut Parity>) -> Result<Option<Check>> {
    let (Some(condition), Some(parity)) = (condition, parity) else { return Ok(None) };
    let judged = ports.engine.judge(condition, &parity.figures()).await?;
    let check = parity.check(condition, &judged);
    parity.verdict = Some(check.verdict);
    Ok(Some(check))
}

/// What happened, by a label set that has a version.
async fn outcomes(ports: &Ports, labels: Option<&Name>, file: &ModelFile) -> Result<Option<Outcomes>> {
    let Some(labels) = labels else { return Ok(None) };
    let labels = Address::new(AssetKind::Labels, labels.clone());
    let Some(labels) = ports.ledger.version(&labels, &Which::Latest).await? else { return Ok(None) };
    let outcomes = Outcomes::read(content(ports, &labels).await?, &file.entity)?;
    Ok((!outcomes.is_empty()).then_some(outcomes))
}

/// Joins predictions with outcomes.
async fn quality(
    cx: &StageContext,
    (spec, table): (&MonitorSpec, &TableName),
    (version, file): (&Version, &ModelFile),
    outcomes: &Outcomes,
) -> Result<Option<Quality>> {
    let ports = &cx.ports;
    let mut known = Vec::new();
    let model = &version.id;
    let newest = format!("model = '{model}' order by at desc limit {QUALITY_ROWS_MAX}");
    known::each(cx, table, &newest, (file, outcomes), |one| {
        known.extend(one.outcome(file).map(|outcome| Known { score: one.score, outcome }));
    })
    .await?;
    if known.is_empty() {
        return Ok(None);
    }
    let held_out = ports.ledger.run(&version.run).await?.and_then(|run| run.metrics.get(&spec.measure).copied());
    Ok(Some(Quality::of(file.task, &known, &spec.measure, held_out)))
}

/// The report's content and, without the columns, its meta.
async fn write(ports: &Ports, address: &Address, report: &mut Report) -> Result<NewVersion> {
    let unable = |e| Fault::internal("a report does not serialise").because(e);
    let content = serde_json::to_vec_pretty(report).map_err(unable)?;
    let digest = ports.blobs.put(content.into()).await?;
    report.columns.clear();
    let meta = serde_json::to_value(&*report).map_err(unable)?;
    Ok(NewVersion { asset: address.clone(), digest, place: Place::Blob { digest }, rows: Some(report.rows), meta })
}
