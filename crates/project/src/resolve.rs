//! What was written, with defaults filled in, as the spec of each stage.
//!
//! Pure: values in, specs out. Everything that a node's fingerprint holds is decided here and in [`crate::graph`].

use crate::file::{Endpoint, Model, Rollout, SplitBy};
use crate::project::Project;
use gristmill_deploy as deploy;
use gristmill_ingest::spec::SourceSpec;
use gristmill_kernel::experiment::{Decide, Measure};
use gristmill_kernel::model::Task;
use gristmill_kernel::training::Split;
use gristmill_kernel::{AliasName, Name, Span};
use gristmill_monitor::spec::MonitorSpec;
use gristmill_registry::spec::GateSpec;
use gristmill_retrain::spec::RetrainSpec;
use gristmill_serve::spec::{Batching, ServeSpec};
use gristmill_train::spec::{TrainSpec, Tune};
use gristmill_validate::spec::{Expectation, ValidateSpec};

/// Built-in algorithms.
pub const ALGORITHMS: [&str; 5] = ["gbdt", "logistic", "linear", "random_forest", "baseline"];

/// The node `raw.NAME`.
pub fn source(project: &Project, name: &Name) -> Option<SourceSpec> {
    let source = project.file.sources.get(name)?;
    Some(SourceSpec {
        name: name.clone(),
        from: source.from.clone(),
        time: source.time.clone(),
        late: source.late,
        columns: project.lock.sources.get(name).cloned(),
        full: false,
    })
}

/// The node `sources.NAME`.
pub fn validate(project: &Project, name: &Name) -> Option<ValidateSpec> {
    let source = project.file.sources.get(name)?;
    let expectation = |e: &crate::words::Expect| Expectation {
        that: e.that.trim().to_owned(),
        at_least: e.at_least.unwrap_or(1.0),
        otherwise: e.otherwise,
    };
    Some(ValidateSpec { source: name.clone(), time: source.time.clone(), expect: source.expect.iter().map(expectation).collect() })
}

/// How a model holds rows out.
pub fn split(model: &Model) -> Split {
    let test = model.split.test.0;
    match model.split.by {
        SplitBy::Time => Split::Time { test },
        SplitBy::Random => Split::Random { test },
        SplitBy::Group => Split::Group { test, column: model.split.column.clone().or(model.group.clone()).unwrap_or_default() },
    }
}

/// The metric that decides about a model.
pub fn measure(model: &Model) -> String {
    let by_task = match model.task {
        Some(Task::Multiclass) => "logloss",
        Some(Task::Regression) => "rmse",
        Some(Task::Ranking) => "ndcg_10",
        Some(Task::Binary) => "auc",
        None if model.train == "linear" => "rmse",
        None if model.group.is_some() => "ndcg_10",
        None => "auc",
    };
    model.measure.clone().unwrap_or_else(|| by_task.to_owned())
}

/// The node `models.NAME`.
pub fn train(project: &Project, name: &Name) -> Option<TrainSpec> {
    let model = project.file.models.get(name)?;
    let tune = model.tune.as_ref().map(|t| Tune {
        trials: t.trials,
        search: t.search,
        parallel: t.parallel,
        space: t.space.iter().map(|(k, v)| (k.clone(), v.0.clone())).collect(),
    });
    Some(TrainSpec {
        name: name.clone(),
        train: model.train.clone(),
        task: model.task,
        params: model.params.clone(),
        tune,
        measure: measure(model),
        slices: model.slices.clone(),
        balance: model.balance,
        seed: model.seed,
    })
}

/// The node `gates.NAME`.
pub fn gate(project: &Project, name: &Name) -> Option<GateSpec> {
    let model = project.file.models.get(name)?;
    let served = project.file.endpoints.values().any(|e| e.model.own() == Some(name));
    Some(GateSpec {
        model: name.clone(),
        gates: model.gates.iter().map(|g| g.trim().to_owned()).collect(),
        measure: measure(model),
        promote_to: if served { AliasName::challenger() } else { AliasName::champion() },
    })
}

/// How an endpoint answers.
pub fn serve(project: &Project, name: &Name) -> Option<ServeSpec> {
    let endpoint = project.file.endpoints.get(name)?;
    // A registered model reads no views: it takes its own columns from the request.
    let features: &[Name] = match endpoint.model.own() {
        Some(name) => &project.file.models.get(name)?.features,
        None => &[],
    };
    let mut entity: Vec<String> = Vec::new();
    for view in features.iter().filter_map(|v| project.views.get(v)) {
        for column in &view.entity {
            if !entity.contains(column) {
                entity.push(column.clone());
            }
        }
    }
    Some(ServeSpec {
        endpoint: name.clone(),
        model: endpoint.model.clone(),
        views: features.to_vec(),
        entity,
        cache: endpoint.cache,
        timeout: endpoint.limits.timeout,
        in_flight: endpoint.limits.in_flight,
        batch: endpoint.batch.as_ref().map(|batch| Batching { rows: batch.rows as usize, delay: batch.delay }),
    })
}

/// How a new version takes over.
pub fn rollout(project: &Project, endpoint: &Endpoint) -> deploy::Rollout {
    let table = match &endpoint.rollout {
        Rollout::Direct => return deploy::Rollout::Direct,
        Rollout::Manual => return deploy::Rollout::Manual,
        Rollout::Table(table) => table,
    };
    let judging =
        deploy::Judging { abort: table.abort.clone(), at_least: table.at_least, patience: table.patience, approve: table.approve };
    if let (Some(share), Some(decide)) = (table.ab, decide(project, endpoint)) {
        let trial = deploy::Trial { share: share.0, decide, after: table.after.unwrap_or(EXPERIMENT) };
        return deploy::Rollout::Ab { trial, judging };
    }
    let sample = table.sample.map_or(deploy::strategy::ALL, |share| share.0);
    match (&table.canary, table.shadow, table.blue_green) {
        (Some(steps), ..) => deploy::Rollout::Canary { steps: steps.iter().map(|s| s.0).collect(), every: table.every, judging },
        (_, Some(lasts), _) => deploy::Rollout::Shadow { sample, lasts, judging },
        (_, _, Some(bake)) => deploy::Rollout::BlueGreen { sample, preview: table.preview.unwrap_or(PREVIEW), bake, judging },
        _ => deploy::Rollout::Direct,
    }
}

/// What decides an endpoint's experiment: a label set (more of it is better), `more` or `less` with a label set, or a measure of predictions
/// over what happened. `None` if that is not told.
pub fn decide(project: &Project, endpoint: &Endpoint) -> Option<Decide> {
    let Rollout::Table(table) = &endpoint.rollout else { return None };
    let text = table.decide.as_deref().filter(|_| table.ab.is_some())?.trim();
    let (confidence, at_least) = (table.confidence.map_or(CONFIDENCE, |share| share.0), table.at_least);
    let deciding = |by, labels: &Name| Decide { by, labels: labels.clone(), confidence, at_least };
    if let Some(by) = Measure::OF_PREDICTIONS.into_iter().find(|by| by.as_str() == text) {
        return Some(deciding(by, &outcomes(project, endpoint)?));
    }
    let (by, name) = match text.split_once(' ') {
        Some(("more", name)) => (Measure::More, name.trim()),
        Some(("less", name)) => (Measure::Less, name.trim()),
        _ => (Measure::More, text),
    };
    project.labels.values().find(|labels| labels.name.as_str() == name).map(|labels| deciding(by, &labels.name))
}

/// How long an experiment lasts at least: a week has every day of the week.
const EXPERIMENT: Span = Span::from_secs(7 * 24 * 3600);
/// How sure an experiment must be, in per mille.
const CONFIDENCE: u32 = 950;
/// How long a version that shall answer everything is shown copies before.
const PREVIEW: Span = Span::from_secs(10 * 60);

/// The label set that says what happened: the one written, else the model's own.
pub fn outcomes(project: &Project, endpoint: &Endpoint) -> Option<Name> {
    let own = || project.file.models.get(endpoint.model.own()?).and_then(|m| m.labels.as_ref());
    let written = endpoint.monitor.outcomes.as_ref().or_else(own)?;
    project.label_set(written).map(|l| l.name.clone())
}

/// The node `monitors.NAME`. A registered model has none: nobody kept how its training rows looked.
pub fn monitor(project: &Project, name: &Name) -> Option<MonitorSpec> {
    let endpoint = project.file.endpoints.get(name)?;
    let own = endpoint.model.own()?;
    let model = project.file.models.get(own)?;
    Some(MonitorSpec {
        endpoint: name.clone(),
        model: own.clone(),
        measure: measure(model),
        drift: Some(endpoint.monitor.drift.trim().to_owned()),
        every: endpoint.monitor.every,
        at_least: endpoint.monitor.at_least,
        parity: Some(endpoint.monitor.parity.trim().to_owned()),
        audit: endpoint.monitor.audit,
        decide: decide(project, endpoint),
        outcomes: outcomes(project, endpoint),
        alerts: project.file.alerts.to.0.clone(),
    })
}

/// When models are trained again.
pub fn retrain(project: &Project) -> Vec<RetrainSpec> {
    let spec = |(name, model): (&Name, &Model)| {
        let retrain = model.retrain.as_ref()?;
        Some(RetrainSpec {
            model: name.clone(),
            endpoint: project.file.endpoints.iter().find(|(_, e)| e.model.own() == Some(name)).map(|(n, _)| n.clone()),
            every: retrain.every.clone(),
            when: retrain.when.clone(),
            cooldown: retrain.cooldown,
        })
    };
    project.file.models.iter().filter_map(spec).collect()
}
