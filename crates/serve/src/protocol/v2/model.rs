//! What is asked of a model and what it says, whatever carries it.

use super::super::rows::{feature_names, model_of};
use super::super::scores;
use super::tensor::{self, Data, Tensor};
use crate::model::LoadedModel;
use crate::plane::{Endpoint, Plane};
use crate::predict::{Answered, Ask, Input, Urgency, predict};
use gristmill_kernel::model::Task;
use gristmill_kernel::prediction::Arm;
use gristmill_kernel::view::FeatureType;
use gristmill_kernel::{Code, Fault, Result, Span, VersionRef};
use serde::Serialize;
use std::sync::Arc;

/// A version as a client writes it.
pub fn version(text: &str) -> Result<u64> {
    text.parse().map_err(|_| Fault::not_found(Code::UNKNOWN_MODEL, format!("`{text}` is not a version")).fix("versions are numbers from 1"))
}

/// The endpoint, if it serves that version.
pub fn served(plane: &Plane, name: &str, version: Option<u64>) -> Result<Arc<Endpoint>> {
    let (name, endpoint) = plane.endpoint(name)?;
    match version {
        Some(number) if endpoint.arms().iter().all(|(_, id)| id.number != number) => {
            Err(Fault::not_found(Code::UNKNOWN_MODEL, format!("endpoint `{name}` does not serve version {number}"))
                .fix(format!("GET /v2/models/{name} lists the versions")))
        }
        _ => Ok(endpoint),
    }
}

/// A tensor that is read or written.
#[derive(Serialize)]
pub struct Described {
    pub name: String,
    pub datatype: &'static str,
    /// -1 is any number of rows.
    pub shape: Vec<i64>,
}

/// What a model is.
#[derive(Serialize)]
pub struct About {
    pub name: String,
    pub versions: Vec<String>,
    pub platform: String,
    pub inputs: Vec<Described>,
    pub outputs: Vec<Described>,
    parameters: Parameters,
}

#[derive(Serialize)]
struct Parameters {
    entity: Vec<String>,
    classes: Vec<String>,
}

impl About {
    pub fn of(plane: &Plane, name: &str, version: Option<u64>) -> Result<About> {
        let endpoint = served(plane, name, version)?;
        let model = model_of(&endpoint, version);
        Ok(About {
            name: name.to_owned(),
            versions: endpoint.arms().iter().map(|(_, id)| id.number.to_string()).collect(),
            platform: format!("gristmill_{}", model.shape.platform),
            inputs: inputs(model),
            outputs: outputs(model),
            parameters: Parameters { entity: endpoint.spec.entity.clone(), classes: model.shape.classes.clone() },
        })
    }
}

fn inputs(model: &LoadedModel) -> Vec<Described> {
    let datatype = |kind: FeatureType| match kind {
        FeatureType::Number => "FP64",
        FeatureType::Boolean => "BOOL",
        FeatureType::Category => "BYTES",
    };
    let one =
        |f: &gristmill_kernel::model::Feature| Described { name: model.shape.input_name(f), datatype: datatype(f.kind), shape: vec![-1] };
    model.shape.features.iter().map(one).collect()
}

fn outputs(model: &LoadedModel) -> Vec<Described> {
    let output = |name: &str, datatype, shape| Described { name: name.to_owned(), datatype, shape };
    let mut outputs = vec![output("score", "FP64", vec![-1])];
    if matches!(model.shape.task, Task::Binary | Task::Multiclass) {
        outputs.push(output("outcome", "BYTES", vec![-1]));
    }
    if model.shape.task == Task::Multiclass {
        outputs.push(output("probabilities", "FP64", vec![-1, model.shape.outputs as i64]));
    }
    outputs.push(output("prediction_id", "BYTES", vec![-1]));
    outputs
}

/// How urgent a request is by Triton's parameters: `priority`, of which 1 is the highest and 0 says nothing, and `timeout` in microseconds.
pub fn urgency(priority: Option<u64>, timeout: Option<u64>) -> Urgency {
    let micros = timeout.filter(|micros| *micros > 0).map(|micros| i64::try_from(micros).unwrap_or(i64::MAX));
    Urgency { priority: priority.filter(|p| *p > 0).unwrap_or(u64::MAX), within: micros.map(Span::from_micros) }
}

/// What was inferred.
pub struct Inferred {
    pub model: String,
    /// Those that answered, each once.
    pub versions: String,
    pub as_of: String,
    /// All there are.
    pub outputs: Vec<Tensor>,
}

/// Asks a model.
pub async fn infer(
    plane: &Plane,
    endpoint: &Endpoint,
    name: &str,
    version: Option<u64>,
    inputs: &[Tensor],
    urgency: Urgency,
) -> Result<Inferred> {
    let input = input_of(endpoint, inputs, version)?;
    let answered = predict(plane, name, Ask { input, at: None, explain: false, version, urgency }).await?;
    Ok(Inferred {
        model: answered.endpoint.to_string(),
        versions: scores::versions(&answered).join(","),
        as_of: answered.as_of.to_string(),
        outputs: output_tensors(endpoint, &answered)?,
    })
}

/// What the tensors are: the entity, the features, or a matrix of numbers.
fn input_of(endpoint: &Endpoint, inputs: &[Tensor], version: Option<u64>) -> Result<Input> {
    let spec = &endpoint.spec;
    let named = |name: &str| inputs.iter().find(|t| t.name == name);
    if !spec.entity.is_empty() && spec.entity.iter().all(|column| named(column).is_some()) {
        return Ok(Input::Entities(tensor::rows_of(inputs)?));
    }
    let model = model_of(endpoint, version);
    let features = &model.shape.features;
    if let [only] = inputs {
        let is_matrix = only.shape.len() == 2 && only.shape[1] == features.len();
        if let (true, Some(matrix)) = (is_matrix, only.data.numbers()) {
            return Ok(Input::Encoded { rows: only.shape[0], matrix });
        }
    }
    let names = feature_names(endpoint, model, &inputs.iter().map(|t| t.name.as_str()).collect::<Vec<_>>())?;
    let columns: Vec<(String, &Tensor)> = names.into_iter().zip(inputs).collect();
    Ok(Input::Features(tensor::batch_of(&columns)?))
}

fn output_tensors(endpoint: &Endpoint, answered: &Answered) -> Result<Vec<Tensor>> {
    let scored = scores::scored(answered)?;
    let rows = scored.len();
    let tensor = |name: &str, shape: Vec<usize>, data: Data| Tensor { name: name.to_owned(), shape, data };
    let mut outputs = vec![tensor("score", vec![rows], Data::F64(scored.iter().map(|s| s.score).collect()))];
    if let Some(words) = scored.iter().map(|s| s.outcome.clone()).collect::<Option<Vec<String>>>() {
        outputs.push(tensor("outcome", vec![rows], Data::Text(words)));
    }
    if endpoint.stable.shape.task == Task::Multiclass {
        let width = scored.first().map_or(0, |s| s.outputs.len());
        outputs.push(tensor("probabilities", vec![rows, width], Data::F64(scored.iter().flat_map(|s| s.outputs.clone()).collect())));
    }
    outputs.push(tensor("prediction_id", vec![rows], Data::Text(answered.predictions.iter().map(|p| p.id.clone()).collect())));
    Ok(outputs)
}

/// A version in the repository.
#[derive(Serialize)]
pub struct Indexed {
    pub name: String,
    pub version: String,
    pub state: &'static str,
    pub reason: &'static str,
}

/// Every version that answers, and what is deployed but cannot; `ready`: the former alone.
pub fn index(plane: &Plane, ready: bool) -> Vec<Indexed> {
    let all = plane.snapshot();
    let answering = all.endpoints.iter().flat_map(|(name, endpoint)| {
        let one = |id: VersionRef| Indexed { name: name.to_string(), version: id.number.to_string(), state: "READY", reason: "" };
        endpoint.arms().into_iter().map(move |(_, id)| one(id)).collect::<Vec<_>>()
    });
    // Why is for `gristmill status`: it may name files.
    let reason = "it cannot be loaded; `gristmill status` says why";
    let broken = all.broken.keys().filter(|_| !ready);
    let broken = broken.map(|name| Indexed { name: name.to_string(), version: String::new(), state: "UNAVAILABLE", reason });
    answering.chain(broken).collect()
}

/// What a version did since the process began. A request of several rows counts as that many inferences, failures by row.
pub struct Did {
    pub name: String,
    pub version: String,
    pub last_ms: u64,
    pub requests: u64,
    /// Calls of the model, which requests may share.
    pub executions: u64,
    pub inferences: u64,
    pub failures: u64,
    /// The time that all requests took.
    pub ns: u64,
}

/// What a model, or each of them, did.
pub fn statistics(plane: &Plane, name: Option<&str>, version: Option<u64>) -> Result<Vec<Did>> {
    let of = |name: &str, endpoint: &Endpoint| {
        let one = |(arm, id): (Arm, VersionRef)| {
            let did = endpoint.lane.figures.totals(arm, &id);
            Did {
                name: name.to_owned(),
                version: id.number.to_string(),
                last_ms: did.last.map_or(0, |at| at.millis().unsigned_abs()),
                requests: did.requests,
                executions: did.requests.saturating_sub(endpoint.paces(arm).together.saved()),
                inferences: did.rows - did.errors,
                failures: did.errors,
                ns: (did.seconds * 1e9) as u64,
            }
        };
        endpoint.arms().into_iter().filter(|(_, id)| version.is_none_or(|v| v == id.number)).map(one).collect::<Vec<_>>()
    };
    match name {
        Some(name) => Ok(of(name, &*served(plane, name, version)?)),
        None => Ok(plane.snapshot().endpoints.iter().flat_map(|(name, endpoint)| of(name.as_str(), endpoint)).collect()),
    }
}

/// Which versions answer is decided by deployments: a load looks for a newer one.
pub async fn load(plane: &Plane, name: &str) -> Result<()> {
    plane.refresh().await?;
    served(plane, name, None).map(drop)
}

/// Which versions answer is decided by deployments.
pub fn unload(plane: &Plane, name: &str) -> Result<()> {
    served(plane, name, None)?;
    Err(Fault::invalid(Code::NOT_ALLOWED, format!("`{name}` is deployed, and stays so"))
        .fix("take the endpoint out of gristmill.toml and run `gristmill apply`"))
}
