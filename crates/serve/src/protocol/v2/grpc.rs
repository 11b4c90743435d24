//! `inference.GRPCInferenceService`: the protocol and Triton's extensions over gRPC, and the health service that orchestrators ask.
//!
//! The numbers are those of REST, since both ask [`super::model`]. A request with raw tensors is answered with raw ones, one with typed contents with
//! those, as the protocol wants it. Shared memory, traces and log settings are not there, which gRPC says as `UNIMPLEMENTED`.

use super::model::{self, About, Described, served};
use super::tensor::{self, Data, Tensor, datatype_of};
use super::wire::{self, Choice, Contents, DataType, Nothing, WireTensor};
use super::{EXTENSIONS, NAME, VERSION};
use crate::plane::Plane;
use gristmill_kernel::{Code, Fault, Kind, Result};
use gristmill_web::grpc::{streaming, unary};
use gristmill_web::{Permission, Route, Routes};
use std::collections::HashMap;
use std::future::Future;
use std::sync::Arc;

pub(super) fn routes(plane: &Arc<Plane>) -> Routes {
    let (public, see) = (Permission::Public, Permission::Predict);
    let with = plane;
    Routes::from(vec![
        on(with, "ServerLive", public, |_, _: Nothing| async { Ok(wire::Live { live: true }) }),
        on(with, "ServerReady", public, |plane, _: Nothing| async move { Ok(wire::Ready { ready: plane.health().ready }) }),
        on(with, "ServerMetadata", public, |_, _: Nothing| async {
            let extensions = EXTENSIONS.map(str::to_owned).to_vec();
            Ok(wire::ServerMetadata { name: NAME.into(), version: VERSION.into(), extensions })
        }),
        on(with, "ModelReady", see, |plane, ask: wire::ModelAsk| async move { ready(&plane, &ask) }),
        on(with, "ModelMetadata", see, |plane, ask: wire::ModelAsk| async move { metadata(&plane, &ask) }),
        on(with, "ModelConfig", see, |plane, ask: wire::ModelAsk| async move { config(&plane, &ask) }),
        on(with, "ModelStatistics", see, |plane, ask: wire::ModelAsk| async move { statistics(&plane, &ask) }),
        on(with, "ModelInfer", see, |plane, ask: wire::InferAsk| async move { infer(&plane, ask).await }),
        on(with, "RepositoryIndex", see, |plane, ask: wire::IndexAsk| async move { Ok(index(&plane, ask.ready)) }),
        on(with, "RepositoryModelLoad", Permission::SubmitRun, |plane, ask: wire::LoadAsk| async move {
            model::load(&plane, &ask.model_name).await.map(|()| Nothing {})
        }),
        on(with, "RepositoryModelUnload", Permission::SubmitRun, |plane, ask: wire::LoadAsk| async move {
            model::unload(&plane, &ask.model_name).map(|()| Nothing {})
        }),
        stream(plane),
        health(plane),
    ])
}

/// A procedure of the service.
fn on<Q, A, F>(plane: &Arc<Plane>, name: &str, permission: Permission, answer: fn(Arc<Plane>, Q) -> F) -> Route
where
    Q: prost::Message + Default + 'static,
    A: prost::Message + 'static,
    F: Future<Output = Result<A>> + Send + 'static,
{
    let plane = plane.clone();
    let path = format!("/inference.GRPCInferenceService/{name}");
    unary(&path, permission, move |ask| answer(plane.clone(), ask)).about(&format!("Open Inference Protocol over gRPC: {name}"))
}

fn stream(plane: &Arc<Plane>) -> Route {
    let plane = plane.clone();
    let answer = move |ask: wire::InferAsk| {
        let plane = plane.clone();
        async move { infer(&plane, ask).await.map(|inferred| wire::StreamInferred { error_message: String::new(), inferred: Some(inferred) }) }
    };
    let failure = |fault: &Fault| wire::StreamInferred { error_message: super::super::one_line(fault), inferred: None };
    streaming("/inference.GRPCInferenceService/ModelStreamInfer", Permission::Predict, answer, failure)
        .about("Open Inference Protocol over gRPC: ModelStreamInfer, an answer per request")
}

/// <https://github.com/grpc/grpc/blob/master/doc/health-checking.md>
fn health(plane: &Arc<Plane>) -> Route {
    let plane = plane.clone();
    let answer = move |ask: wire::HealthAsk| {
        let plane = plane.clone();
        async move {
            let known = ["", "inference.GRPCInferenceService"].contains(&ask.service.as_str());
            let unknown = || Fault::not_found(Code::NO_ROUTE, format!("there is no service `{}`", ask.service)).fix("ask without a name");
            if known { Ok(wire::Health { status: if plane.health().ready { 1 } else { 2 } }) } else { Err(unknown()) }
        }
    };
    unary("/grpc.health.v1.Health/Check", Permission::Public, answer).about("gRPC: whether the server answers")
}

/// The version that is asked for; none is the one that deployments choose.
fn version(text: &str) -> Result<Option<u64>> {
    (!text.is_empty()).then(|| model::version(text)).transpose()
}

fn ready(plane: &Plane, ask: &wire::ModelAsk) -> Result<wire::Ready> {
    match served(plane, &ask.name, version(&ask.version)?) {
        Ok(_) => Ok(wire::Ready { ready: true }),
        Err(fault) if fault.kind == Kind::Unavailable => Ok(wire::Ready { ready: false }),
        Err(fault) => Err(fault),
    }
}

fn metadata(plane: &Plane, ask: &wire::ModelAsk) -> Result<wire::ModelMetadata> {
    let about = About::of(plane, &ask.name, version(&ask.version)?)?;
    let tensors = |all: Vec<Described>| {
        all.into_iter().map(|t| wire::TensorMetadata { name: t.name, datatype: t.datatype.into(), shape: t.shape }).collect()
    };
    Ok(wire::ModelMetadata {
        name: about.name,
        versions: about.versions,
        platform: about.platform,
        inputs: tensors(about.inputs),
        outputs: tensors(about.outputs),
    })
}

fn config(plane: &Plane, ask: &wire::ModelAsk) -> Result<wire::ConfigAnswer> {
    let about = About::of(plane, &ask.name, version(&ask.version)?)?;
    let kind = |datatype: &str| match datatype {
        "FP64" => DataType::Fp64,
        "INT64" => DataType::Int64,
        "BOOL" => DataType::Bool,
        "BYTES" => DataType::String,
        _ => DataType::Invalid,
    };
    let input = |t: Described| wire::ConfigInput { name: t.name, data_type: kind(t.datatype).into(), dims: t.shape };
    let output = |t: Described| wire::ConfigOutput { name: t.name, data_type: kind(t.datatype).into(), dims: t.shape };
    let config = wire::Config {
        name: about.name,
        platform: about.platform,
        max_batch_size: 0,
        input: about.inputs.into_iter().map(input).collect(),
        output: about.outputs.into_iter().map(output).collect(),
        backend: NAME.into(),
    };
    Ok(wire::ConfigAnswer { config: Some(config) })
}

fn statistics(plane: &Plane, ask: &wire::ModelAsk) -> Result<wire::Statistics> {
    let name = (!ask.name.is_empty()).then_some(ask.name.as_str());
    let one = |did: model::Did| wire::ModelStatistics {
        name: did.name,
        version: did.version,
        last_inference: did.last_ms,
        inference_count: did.inferences,
        execution_count: did.executions,
        inference_stats: Some(wire::InferStatistics {
            success: Some(wire::Duration { count: did.requests, ns: did.ns }),
            fail: Some(wire::Duration { count: did.failures, ns: 0 }),
            compute_infer: Some(wire::Duration { count: did.requests, ns: did.ns }),
        }),
    };
    Ok(wire::Statistics { models: model::statistics(plane, name, version(&ask.version)?)?.into_iter().map(one).collect() })
}

fn index(plane: &Plane, ready: bool) -> wire::Index {
    let one = |m: model::Indexed| wire::IndexModel { name: m.name, version: m.version, state: m.state.into(), reason: m.reason.into() };
    wire::Index { models: model::index(plane, ready).into_iter().map(one).collect() }
}

async fn infer(plane: &Plane, ask: wire::InferAsk) -> Result<wire::Inferred> {
    let version = version(&ask.model_version)?;
    let endpoint = served(plane, &ask.model_name, version)?;
    let raw = !ask.raw_inputs.is_empty();
    let inputs = tensors(ask.inputs, ask.raw_inputs)?;
    let urgency = model::urgency(whole(&ask.parameters, "priority")?, whole(&ask.parameters, "timeout")?);
    let inferred = model::infer(plane, &endpoint, &ask.model_name, version, &inputs, urgency).await?;
    let names: Vec<String> = ask.outputs.into_iter().map(|output| output.name).collect();
    let as_of = wire::Parameter { choice: Some(Choice::Text(inferred.as_of)) };
    let mut answer = wire::Inferred {
        model_name: inferred.model,
        model_version: inferred.versions,
        id: ask.id,
        parameters: HashMap::from([("as_of".to_owned(), as_of)]),
        ..wire::Inferred::default()
    };
    for tensor in tensor::chosen(&inferred.outputs, &names)? {
        let shape = tensor.shape.iter().map(|n| *n as i64).collect();
        let contents = (!raw).then(|| contents(&tensor.data));
        answer.outputs.push(WireTensor { name: tensor.name.clone(), datatype: datatype_of(&tensor.data).into(), shape, contents });
        if raw {
            answer.raw_outputs.push(tensor::bytes_of(&tensor.data)?);
        }
    }
    Ok(answer)
}

/// A parameter that counts something.
fn whole(parameters: &HashMap<String, wire::Parameter>, key: &str) -> Result<Option<u64>> {
    let Some(parameter) = parameters.get(key) else { return Ok(None) };
    let number = match parameter.choice {
        Some(Choice::Int(number)) => u64::try_from(number).ok(),
        Some(Choice::Whole(number)) => Some(number),
        _ => None,
    };
    let bad =
        || Fault::invalid(Code::BAD_BODY, format!("the parameter `{key}` is not a whole number from 0")).fix("leave it out, or send one");
    number.map(Some).ok_or_else(bad)
}

/// The tensors of a request: all raw, or all with contents.
fn tensors(inputs: Vec<WireTensor>, raw: Vec<Vec<u8>>) -> Result<Vec<Tensor>> {
    if !raw.is_empty() && raw.len() != inputs.len() {
        let what = format!("{} inputs come with {} raw contents", inputs.len(), raw.len());
        return Err(Fault::invalid(Code::BAD_BODY, what).fix("send contents of one kind for all inputs"));
    }
    let mut raw = raw.into_iter();
    let mut tensors = Vec::with_capacity(inputs.len());
    for input in inputs {
        let shape = tensor::shape_of(&input.name, input.shape.iter().map(|n| usize::try_from(*n).ok()))?;
        let data = match (raw.next(), input.contents) {
            (Some(bytes), None) => tensor::from_bytes(&input.name, &input.datatype, &bytes, tensor::count_of(&shape))?,
            (None, Some(contents)) => typed(&input.name, &input.datatype, contents)?,
            (Some(_), Some(_)) => {
                let what = format!("`{}` has contents and raw contents", input.name);
                return Err(Fault::invalid(Code::BAD_BODY, what).fix("send one of them"));
            }
            (None, None) => return Err(Fault::invalid(Code::BAD_BODY, format!("`{}` has no contents", input.name)).fix("send its values")),
        };
        tensors.push(Tensor::new(input.name, shape, data)?);
    }
    tensor::check_rows(&tensors)?;
    Ok(tensors)
}

/// Contents of the field that the datatype has.
fn typed(name: &str, datatype: &str, contents: Contents) -> Result<Data> {
    Ok(match datatype {
        "BOOL" => Data::Bool(contents.bools),
        "INT8" | "INT16" | "INT32" => Data::I64(contents.ints.into_iter().map(i64::from).collect()),
        "INT64" => Data::I64(contents.longs),
        "UINT8" | "UINT16" | "UINT32" => Data::I64(contents.uints.into_iter().map(i64::from).collect()),
        "UINT64" => {
            let whole = contents.ulongs.into_iter().map(i64::try_from).collect::<std::result::Result<_, _>>();
            Data::I64(
                whole
                    .map_err(|e| Fault::invalid(Code::BAD_BODY, format!("`{name}` has a number above 2^63")).because(e).fix("send FP64"))?,
            )
        }
        "FP32" => Data::F64(contents.floats.into_iter().map(f64::from).collect()),
        "FP64" => Data::F64(contents.doubles),
        "BYTES" => {
            let words = contents.bytes.into_iter().map(String::from_utf8).collect::<std::result::Result<_, _>>();
            Data::Text(words.map_err(|e| Fault::invalid(Code::BAD_BODY, format!("`{name}` is no UTF-8")).because(e).fix("send UTF-8"))?)
        }
        other => return Err(tensor::unknown_type(name, other)),
    })
}

fn contents(data: &Data) -> Contents {
    match data {
        Data::Bool(v) => Contents { bools: v.clone(), ..Contents::default() },
        Data::I64(v) => Contents { longs: v.clone(), ..Contents::default() },
        Data::F64(v) => Contents { doubles: v.clone(), ..Contents::default() },
        Data::Text(v) => Contents { bytes: v.iter().map(|word| word.as_bytes().to_vec()).collect(), ..Contents::default() },
    }
}
