//! Runs: start, look, change, delete; parameters and tags; what they read and made.
//!
//! Names and values have MLflow's limits where MLflow has them: tags that are given at the start have none.

use super::error::{invalid, unknown};
use super::request::{self, read};
use super::wire::run as wire;
use super::wire::{PairAsk, moment};
use super::{Mlflow, done, metrics, names, validate};
use gristmill_kernel::limits::TRACK_BODY_BYTES_MAX;
use gristmill_kernel::tracking::{Batch, Dataset, DatasetInput, DatasetKey, Lifecycle, ModelUse, NewTrackedRun, RunUpdate, TrackedRun};
use gristmill_kernel::{Code, Fault, Result, RunId};
use gristmill_web::{Call, Method, Permission, Response, Routes, json};
use std::collections::BTreeMap;
use std::sync::Arc;

/// The tag that is the run's name.
pub(super) const RUN_NAME: &str = "mlflow.runName";
/// The tag in which old clients keep the models a run logged, as JSON.
const LOGGED_MODELS: &str = "mlflow.log-model.history";

pub(super) fn routes(m: &Arc<Mlflow>) -> Routes {
    let (get, post) = (&Method::GET, &Method::POST);
    let (see, track) = (Permission::ReadProject, Permission::Track);
    [
        super::v2(m, post, "/mlflow/runs/create", track, create),
        super::v2(m, get, "/mlflow/runs/get", see, get_one),
        super::v2(m, post, "/mlflow/runs/update", track, update),
        super::v2(m, post, "/mlflow/runs/delete", track, delete),
        super::v2(m, post, "/mlflow/runs/restore", track, restore),
        super::v2(m, post, "/mlflow/runs/log-parameter", track, log_param),
        super::v2(m, post, "/mlflow/runs/set-tag", track, set_tag),
        super::v2(m, post, "/mlflow/runs/delete-tag", track, delete_tag),
        super::v2(m, post, "/mlflow/runs/log-batch", track, metrics::log_batch),
        super::v2(m, post, "/mlflow/runs/log-metric", track, metrics::log_metric),
        // Datasets bring their profiles along.
        super::v2(m, post, "/mlflow/runs/log-inputs", track, log_inputs).map(|r| r.body_limit(TRACK_BODY_BYTES_MAX)),
        super::v2(m, post, "/mlflow/runs/outputs", track, log_outputs),
        super::v2(m, post, "/mlflow/runs/log-model", track, log_model),
    ]
    .concat()
    .into()
}

impl Mlflow {
    /// A run, deleted or not.
    pub(super) async fn run(&self, id: &RunId) -> Result<TrackedRun> {
        self.tracking.tracked_run(id).await?.ok_or_else(|| unknown(Code::UNKNOWN_RUN, format!("Run with id={id} not found")))
    }

    /// A run that may be written to.
    pub(super) async fn active_run(&self, id: &RunId) -> Result<TrackedRun> {
        let run = self.run(id).await?;
        match run.lifecycle {
            Lifecycle::Active => Ok(run),
            Lifecycle::Deleted => {
                Err(Fault::invalid(Code::NOT_ACTIVE, format!("The run {id} must be in the 'active' state. Current state is deleted.")))
            }
        }
    }

    /// Where the artifacts of a run's experiment begin.
    pub(super) async fn location_of(&self, run: &TrackedRun) -> Result<String> {
        Ok(self.experiment(run.experiment).await?.artifact_location)
    }
}

async fn create(m: Arc<Mlflow>, call: Call) -> Result<Response> {
    let actor = call.caller().actor.clone();
    let ask: wire::CreateAsk = read(call).await?;
    let experiment = request::needed(ask.experiment_id.filter(|id| !id.is_empty()), "experiment_id")?;
    let experiment = m.active_experiment(validate::experiment_id(&experiment)?).await?;
    // Not checked here, as in MLflow: what clients write at the start is theirs, and none of it becomes a path.
    let mut tags: BTreeMap<String, String> = ask.tags.unwrap_or_default().into_iter().map(PairAsk::taken).collect();
    let name = run_name(ask.run_name, &tags, &m)?;
    tags.insert(RUN_NAME.into(), name.clone());
    let run = NewTrackedRun {
        id: m.ports.ids.run(),
        experiment: experiment.id,
        name,
        user: ask.user_id.unwrap_or_default(),
        started_at: ask.start_time.map(|at| moment(at.0)),
        tags,
    };
    let run = m.tracking.create_run(run, &actor, m.now()).await?;
    json(&wire::One { run: wire::Run::begun(&run, &experiment.artifact_location) })
}

/// The name of a new run: as it was given, once or twice the same, or an invented one.
fn run_name(given: Option<String>, tags: &BTreeMap<String, String>, m: &Mlflow) -> Result<String> {
    let given = given.filter(|name| !name.is_empty());
    let tagged = tags.get(RUN_NAME).filter(|name| !name.is_empty());
    if let (Some(given), Some(tagged)) = (&given, tagged)
        && given != tagged
    {
        return Err(invalid(format!(
            "Both 'run_name' argument and 'mlflow.runName' tag are specified, but with different values \
             (run_name='{given}', mlflow.runName='{tagged}')."
        )));
    }
    let name = given.or_else(|| tagged.cloned()).unwrap_or_else(|| names::invent(m.ports.ids.as_ref()));
    Ok(validate::cut(name, validate::RUN_TAG_CHARS_MAX))
}

/// A tag of a run, its value cut at the limit.
pub(super) fn checked_tag(tag: PairAsk, path: &str) -> Result<(String, String)> {
    let (key, value) = tag.taken();
    validate::key(&key, path)?;
    validate::within(path, validate::KEY_CHARS_MAX, &key)?;
    Ok((key, validate::cut(value, validate::RUN_TAG_CHARS_MAX)))
}

/// A parameter, its value cut at the limit.
pub(super) fn checked_param(param: PairAsk, path: &str) -> Result<(String, String)> {
    let (key, value) = param.taken();
    validate::key(&key, path)?;
    validate::within("Param key", validate::KEY_CHARS_MAX, &key)?;
    Ok((key, validate::cut(value, validate::PARAM_CHARS_MAX)))
}

async fn get_one(m: Arc<Mlflow>, call: Call) -> Result<Response> {
    let ask: wire::IdAsk = read(call).await?;
    let run = m.run(&request::run_id(ask.run_id, ask.run_uuid)?).await?;
    json(&wire::One { run: wire::Run::new(&run, &m.location_of(&run).await?) })
}

async fn update(m: Arc<Mlflow>, call: Call) -> Result<Response> {
    let actor = call.caller().actor.clone();
    let ask: wire::UpdateAsk = read(call).await?;
    let id = request::run_id(ask.run_id, ask.run_uuid)?;
    // A word that does not exist says nothing, as protocol buffers have it.
    let status = ask.status.and_then(|word| wire::status_of_word(&word.0));
    let name = ask.run_name.filter(|name| !name.is_empty()).map(|name| validate::cut(name, validate::RUN_TAG_CHARS_MAX));
    let update = RunUpdate { status, ended_at: ask.end_time.map(|at| moment(at.0)), name };
    let run = m.tracking.update_run(&id, update, &actor, m.now()).await?;
    json(&wire::Updated { run_info: wire::Info::new(&run, &m.location_of(&run).await?) })
}

async fn delete(m: Arc<Mlflow>, call: Call) -> Result<Response> {
    set_lifecycle(m, call, Lifecycle::Deleted).await
}

async fn restore(m: Arc<Mlflow>, call: Call) -> Result<Response> {
    set_lifecycle(m, call, Lifecycle::Active).await
}

async fn set_lifecycle(m: Arc<Mlflow>, call: Call, to: Lifecycle) -> Result<Response> {
    let actor = call.caller().actor.clone();
    let ask: wire::IdAsk = read(call).await?;
    let id = request::run_id(ask.run_id, ask.run_uuid)?;
    m.tracking.set_run_lifecycle(&id, to, &actor, m.now()).await?;
    done()
}

async fn log_param(m: Arc<Mlflow>, call: Call) -> Result<Response> {
    let ask: wire::PairOfRunAsk = read(call).await?;
    let id = request::run_id(ask.run_id, ask.run_uuid)?;
    let param = checked_param(PairAsk { key: Some(ask.key), value: ask.value }, "key")?;
    m.tracking.log(&id, Batch { params: vec![param], ..Batch::default() }, m.now()).await?;
    done()
}

async fn set_tag(m: Arc<Mlflow>, call: Call) -> Result<Response> {
    let actor = call.caller().actor.clone();
    let ask: wire::PairOfRunAsk = read(call).await?;
    let id = request::run_id(ask.run_id, ask.run_uuid)?;
    let (key, value) = checked_tag(PairAsk { key: Some(ask.key), value: ask.value }, "key")?;
    if key == RUN_NAME {
        // The name and its tag are one; an empty name changes nothing.
        let update = RunUpdate { name: Some(value).filter(|name| !name.is_empty()), ..RunUpdate::default() };
        m.tracking.update_run(&id, update, &actor, m.now()).await?;
        return done();
    }
    m.tracking.log(&id, Batch { tags: vec![(key, value)], ..Batch::default() }, m.now()).await?;
    done()
}

async fn delete_tag(m: Arc<Mlflow>, call: Call) -> Result<Response> {
    let ask: wire::PairOfRunAsk = read(call).await?;
    let id = request::run_id(ask.run_id, ask.run_uuid)?;
    m.tracking.delete_run_tag(&id, &ask.key).await?;
    done()
}

async fn log_inputs(m: Arc<Mlflow>, call: Call) -> Result<Response> {
    let ask: wire::InputsAsk = read(call).await?;
    let id = validate::run_id(ask.run_id)?;
    let datasets = ask.datasets.unwrap_or_default().into_iter().map(dataset_input).collect::<Result<Vec<_>>>()?;
    let models =
        ask.models.unwrap_or_default().into_iter().map(|used| ModelUse { model: used.model_id.unwrap_or_default(), step: 0 }).collect();
    m.tracking.log_inputs(&id, datasets, models).await?;
    done()
}

/// A dataset within MLflow's limits.
fn dataset_input(input: wire::DatasetInputAsk) -> Result<DatasetInput> {
    let dataset = input.dataset.unwrap_or_default();
    let (name, digest) = (dataset.name.unwrap_or_default(), dataset.digest.unwrap_or_default());
    let (source_type, source) = (dataset.source_type.unwrap_or_default(), dataset.source.unwrap_or_default());
    validate::within("name", 500, &name)?;
    validate::within("digest", 36, &digest)?;
    validate::within("source", 65_535, &source)?;
    validate::within("schema", 1_048_575, dataset.schema.as_deref().unwrap_or_default())?;
    validate::within("profile", 16_777_215, dataset.profile.as_deref().unwrap_or_default())?;
    let tags = input.tags.unwrap_or_default().into_iter().map(PairAsk::taken);
    let tags = tags.map(|(key, value)| {
        validate::within("key", 255, &key)?;
        validate::within("value", 500, &value)?;
        Ok((key, value))
    });
    Ok(DatasetInput {
        tags: tags.collect::<Result<Vec<_>>>()?,
        dataset: Dataset {
            key: DatasetKey { name, digest },
            source_type,
            source,
            schema: dataset.schema.filter(|s| !s.is_empty()),
            profile: dataset.profile.filter(|p| !p.is_empty()),
        },
    })
}

async fn log_outputs(m: Arc<Mlflow>, call: Call) -> Result<Response> {
    let ask: wire::OutputsAsk = read(call).await?;
    let models =
        ask.models.into_iter().map(|made| ModelUse { model: made.model_id.unwrap_or_default(), step: made.step.unwrap_or_default().0 });
    m.tracking.log_outputs(&RunId(ask.run_id), models.collect()).await?;
    done()
}

/// What clients before version 3 send when they have logged a model: it is kept in a tag, as they expect.
async fn log_model(m: Arc<Mlflow>, call: Call) -> Result<Response> {
    let ask: wire::LogModelAsk = read(call).await?;
    let model = match serde_json::from_str(&ask.model_json) {
        Ok(serde_json::Value::Object(model)) => model,
        _ => return Err(invalid(format!("Malformed model info. \n {} \n is not a valid JSON.", ask.model_json))),
    };
    let missing: Vec<&str> =
        ["artifact_path", "flavors", "utc_time_created", "run_id"].into_iter().filter(|field| !model.contains_key(*field)).collect();
    if !missing.is_empty() {
        return Err(invalid(format!("Model json is missing mandatory fields: {{'{}'}}", missing.join("', '"))));
    }
    let id = RunId(ask.run_id);
    let run = m.active_run(&id).await?;
    let earlier = run.tags.get(LOGGED_MODELS).and_then(|text| serde_json::from_str::<Vec<serde_json::Value>>(text).ok());
    let mut history = earlier.unwrap_or_default();
    history.push(kept_of_model(model));
    let text = serde_json::to_string(&history).map_err(|e| Fault::internal("a list of models does not serialise").because(e))?;
    m.tracking.log(&id, Batch { tags: vec![(LOGGED_MODELS.into(), text)], ..Batch::default() }, m.now()).await?;
    done()
}

/// What is kept of a model's description: who made it, when, where, and its flavours without their inner settings.
fn kept_of_model(mut model: serde_json::Map<String, serde_json::Value>) -> serde_json::Value {
    model.retain(|key, _| ["run_id", "utc_time_created", "artifact_path", "model_uuid", "flavors"].contains(&key.as_str()));
    if let Some(flavors) = model.get_mut("flavors").and_then(|f| f.as_object_mut()) {
        for settings in flavors.values_mut().filter_map(|f| f.as_object_mut()) {
            settings.remove("config");
        }
    }
    model.into()
}
