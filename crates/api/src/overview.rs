//! What the status page and `GET /api/v1/status` show: the loop as it stands. One reading, two forms.

use crate::Api;
use gristmill_kernel::experiment::Experiment;
use gristmill_kernel::port::RunFilter;
use gristmill_kernel::prediction::{ArmFigures, Canary, Deployment, EndpointFigures};
use gristmill_kernel::version::Which;
use gristmill_kernel::{Address, AliasName, AssetKind, Name, Result, Run, RunStatus, Span, StageKind, Timestamp, Verdict, VersionRef};

/// Live figures are shown for this long back.
pub const FIGURES_SPAN: Span = Span::from_secs(600);
const RUNS_SHOWN: usize = 20;
const RUNS_LOOKED_AT: usize = 300;
const ALERTS_SHOWN: usize = 10;

/// The loop as it stands.
pub struct Overview {
    pub project: String,
    pub now: Timestamp,
    pub stages: Vec<StageState>,
    pub endpoints: Vec<EndpointState>,
    pub runs: Vec<Run>,
    pub alerts: Vec<Alert>,
}

/// How well something is; in order of badness.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Health {
    /// It has never run.
    Unknown,
    Good,
    Working,
    /// It warned, or there was not enough to judge.
    Doubtful,
    Bad,
}

impl Health {
    pub fn as_str(self) -> &'static str {
        match self {
            Health::Unknown => "unknown",
            Health::Good => "good",
            Health::Working => "working",
            Health::Doubtful => "doubtful",
            Health::Bad => "bad",
        }
    }
    /// Of a run.
    pub fn of(run: &Run) -> Health {
        match (run.status, run.verdict) {
            (RunStatus::Failed, _) | (_, Some(Verdict::Fail)) => Health::Bad,
            (RunStatus::Queued | RunStatus::Running, _) => Health::Working,
            (RunStatus::Cancelled, _) | (_, Some(Verdict::Warn | Verdict::Inconclusive)) => Health::Doubtful,
            (RunStatus::Succeeded | RunStatus::Skipped, _) => Health::Good,
        }
    }
}

/// One stage: the newest run of each of its addresses decides.
pub struct StageState {
    pub stage: StageKind,
    pub health: Health,
    pub last: Option<Run>,
}

/// One endpoint as deployed, with what it did lately.
pub struct EndpointState {
    pub name: Name,
    pub deployment: VersionRef,
    pub stable: VersionRef,
    pub canary: Option<Canary>,
    pub figures: Option<EndpointFigures>,
    pub parity: Option<Parity>,
    /// What the experiment that it is in has come to.
    pub experiment: Option<Experiment>,
}

/// What the newest report of the endpoint's monitor says about features that were computed again. The rest of its record is the monitor's own.
#[derive(Debug, Clone, PartialEq, Eq, serde::Deserialize)]
pub struct Parity {
    pub checked: u64,
    pub late: u64,
    pub behind: u64,
    pub mismatched: u64,
}

impl Parity {
    /// The share that is wrong, if any were computed again.
    pub fn mismatch_rate(&self) -> Option<f64> {
        (self.checked > 0).then(|| self.mismatched as f64 / self.checked as f64)
    }
}

/// Something that wants a look.
pub struct Alert {
    pub at: Timestamp,
    pub subject: String,
    pub text: String,
}

/// Reads it all.
pub async fn read(api: &Api) -> Result<Overview> {
    let now = api.ports.clock.now();
    let mut stages = Vec::new();
    for stage in StageKind::ALL.into_iter().filter(|s| !matches!(s, StageKind::Flow | StageKind::Register)) {
        let runs = api.ports.ledger.runs(&RunFilter { stages: vec![stage], limit: RUNS_SHOWN, ..RunFilter::default() }).await?;
        stages.push(stage_state(stage, runs));
    }
    let runs = api.ports.ledger.runs(&RunFilter { limit: RUNS_LOOKED_AT, ..RunFilter::default() }).await?;
    let alerts = alerts_of(&runs);
    let runs = runs.into_iter().take(RUNS_SHOWN).collect();
    Ok(Overview { project: api.project.to_string(), now, stages, endpoints: endpoints(api, now).await?, runs, alerts })
}

fn stage_state(stage: StageKind, runs: Vec<Run>) -> StageState {
    let mut seen = std::collections::BTreeSet::new();
    let newest = runs.iter().filter(|run| seen.insert(run.address.clone()));
    let health = newest.map(Health::of).max().unwrap_or(Health::Unknown);
    StageState { stage, health, last: runs.into_iter().next() }
}

/// Runs that ended badly: failures, and monitors and validations that said no. The newest word about an address counts; what has become
/// good again is no alert.
fn alerts_of(runs: &[Run]) -> Vec<Alert> {
    let mut seen = std::collections::BTreeSet::new();
    let newest = runs.iter().filter(|run| run.status.is_final() && seen.insert((run.stage, run.address.clone())));
    let bad =
        newest.filter(|run| Health::of(run) == Health::Bad || (run.stage == StageKind::Monitor && run.verdict == Some(Verdict::Warn)));
    bad.take(ALERTS_SHOWN)
        .map(|run| {
            let failed: Vec<String> = run
                .checks
                .iter()
                .filter(|c| matches!(c.verdict, Verdict::Fail | Verdict::Warn))
                .map(|c| format!("{} ({})", c.condition, c.observed))
                .collect();
            let text = match (&run.error, failed.is_empty()) {
                (Some(error), _) => format!("{} [{}]", error.message, error.code),
                (None, false) => failed.join("; "),
                (None, true) => run.summary.clone(),
            };
            Alert { at: run.ended_at.unwrap_or(run.submitted_at), subject: run.address.to_string(), text }
        })
        .collect()
}

async fn endpoints(api: &Api, now: Timestamp) -> Result<Vec<EndpointState>> {
    let mut found = Vec::new();
    for asset in api.ports.ledger.assets().await? {
        if asset.kind != AssetKind::Endpoints {
            continue;
        }
        let Some(version) = api.ports.ledger.version(&asset, &Which::Alias(AliasName::live())).await? else { continue };
        // A deployment written by a newer binary is not a reason to show nothing at all.
        let Ok(deployment) = serde_json::from_value::<Deployment>(version.meta) else { continue };
        let figures = api.figures.figures(&asset.name, now.minus(FIGURES_SPAN));
        let monitor = Address::new(AssetKind::Monitors, asset.name.clone());
        let report = api.ports.ledger.version(&monitor, &Which::Latest).await?;
        let parity = report.and_then(|report| serde_json::from_value(report.meta.get("parity")?.clone()).ok());
        let experiment = match &deployment.canary {
            Some(_) => experiment(api, monitor, &deployment).await?,
            None => None,
        };
        found.push(EndpointState {
            experiment,
            name: asset.name,
            deployment: version.id,
            stable: deployment.stable,
            canary: deployment.canary,
            figures,
            parity,
        });
    }
    Ok(found)
}

/// What an endpoint's monitor counted last, if it counted for an experiment.
async fn experiment(api: &Api, monitor: Address, deployment: &Deployment) -> Result<Option<Experiment>> {
    let statuses = vec![RunStatus::Succeeded];
    let filter = RunFilter { stages: vec![StageKind::Monitor], address: Some(monitor), statuses, limit: 1, ..RunFilter::default() };
    Ok(api.ports.ledger.runs(&filter).await?.first().and_then(|run| Experiment::read(run, deployment)))
}

/// The share of rows that failed, if there were any.
pub fn error_rate(figures: &ArmFigures) -> Option<f64> {
    (figures.rows > 0).then(|| figures.errors as f64 / figures.rows as f64)
}
