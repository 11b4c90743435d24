//! TensorFlow Serving over REST, and with it KServe's first protocol and Vertex AI's containers, which ask in the same way.
//!
//! A model is one of our endpoints; its versions are those that it serves just now, its labels their arms (`stable`, `canary`). Forms and words are
//! those of <https://github.com/tensorflow/serving/blob/master/tensorflow_serving/g3doc/api_rest.md>; where text and code of it differ
//! (`results`), the code is followed. KServe looks for `ready` in the status of a model, so both are in it.

use super::rows::{Rows, json as read, model_of};
use super::scores;
use crate::plane::{Endpoint, Plane};
use crate::predict::{Answered, Ask, Input, Urgency, predict};
use gristmill_kernel::model::Task;
use gristmill_kernel::view::FeatureType;
use gristmill_kernel::{Code, Fault, Kind, Result};
use gristmill_web::schema::{list, object, text};
use gristmill_web::{Call, Method, Permission, Response, Route, Routes, StatusCode, json, route, status_of};
use serde_json::{Map, Value, json};
use std::sync::Arc;

pub(super) fn routes(plane: &Arc<Plane>) -> Routes {
    let on = |method: Method, path: &str, about: &str, answer: fn(Arc<Plane>, Call) -> Answer| {
        let plane = plane.clone();
        shaped(route(method, path, Permission::Predict, move |call| answer(plane.clone(), call)).about(about))
    };
    let models = on(Method::GET, "/v1/models", "KServe: the models", |plane, _| {
        Box::pin(async move { json(&json!({ "models": plane.snapshot().endpoints.keys().collect::<Vec<_>>() })) })
    });
    let mut routes = vec![models.gives(object([("models", list(text()))]))];
    for path in ["/v1/models/{model}", "/v1/models/{model}/versions/{version}", "/v1/models/{model}/labels/{label}"] {
        let state = on(Method::GET, path, "TensorFlow Serving, KServe: the state of a model", |plane, call| {
            Box::pin(async move { status(&plane, &call) })
        });
        let about = "TensorFlow Serving: inputs and outputs of a model";
        let shown = on(Method::GET, &format!("{path}/metadata"), about, |plane, call| Box::pin(async move { metadata(&plane, &call) }));
        let about = "TensorFlow Serving, KServe, Vertex AI: NAME:predict, :classify, :regress, :explain";
        let by_verb = on(Method::POST, path, about, |plane, call| Box::pin(ask(plane, call)));
        routes.push(state.gives(told::state()));
        routes.push(shown.gives(told::metadata()));
        routes.push(asked(by_verb));
    }
    routes.into()
}

type Answer = futures::future::BoxFuture<'static, Result<Response>>;

/// A route that answers rows.
pub(super) fn asked(route: Route) -> Route {
    shaped(route).takes(told::asked()).gives(told::answered()).fails([Kind::Busy])
}

/// Errors as the protocol has them.
pub(super) fn shaped(route: Route) -> Route {
    route.errors(|_, fault, _| json!({ "error": super::one_line(fault) }), super::ERROR).error_status(|fault| match fault.kind {
        Kind::Refused => StatusCode::BAD_REQUEST,
        kind => status_of(kind),
    })
}

/// What is taken and answered, as `/openapi.json` says it.
mod told {
    use super::super::scores;
    use gristmill_web::schema::{any, either, flag, list, map, maybe, number, object, one_of, open, text};
    use serde_json::Value;

    pub fn state() -> Value {
        let status = object([("error_code", one_of(&["OK"])), ("error_message", text())]);
        let version = object([("version", text()), ("state", one_of(&["AVAILABLE"])), ("status", status)]);
        object([("model_version_status", list(version)), ("name", text()), ("ready", flag())])
    }

    pub fn metadata() -> Value {
        let dim = object([("size", text()), ("name", text())]);
        let tensor =
            object([("dtype", text()), ("tensor_shape", object([("dim", list(dim)), ("unknown_rank", flag())])), ("name", text())]);
        let signature = object([("inputs", map(tensor.clone())), ("outputs", map(tensor)), ("method_name", text())]);
        let spec = object([("name", text()), ("signature_name", text()), ("version", text())]);
        object([("model_spec", spec), ("metadata", object([("signature_def", object([("signature_def", map(signature))]))]))])
    }

    pub fn asked() -> Value {
        let named = ("signature_name?", maybe(text()));
        either(&[
            open([("instances", list(any())), named.clone()]),
            open([("inputs", any()), named.clone()]),
            open([("examples", list(map(any()))), ("context?", map(any())), named]),
        ])
    }

    pub fn answered() -> Value {
        let scored = |key| {
            object([
                (key, scores::schema()),
                ("prediction_ids", list(text())),
                ("model_version", text()),
                ("explanations?", list(maybe(map(number())))),
                ("method?", maybe(text())),
                ("base_values?", list(maybe(number()))),
            ])
        };
        let class = list(either(&[text(), number()]));
        either(&[scored("predictions"), scored("outputs"), object([("results", list(either(&[number(), list(class)])))])])
    }
}

/// What a path names.
struct Target {
    name: String,
    endpoint: Arc<Endpoint>,
    version: Option<u64>,
    /// Behind a colon.
    verb: Option<String>,
}

impl Target {
    fn of(plane: &Plane, call: &Call) -> Result<Target> {
        let (model, version, label) = (call.param("model")?, call.param("version").ok(), call.param("label").ok());
        let last = version.or(label).unwrap_or(model);
        let (last, verb) = last.split_once(':').map_or((last, None), |(name, verb)| (name, Some(verb.to_ascii_lowercase())));
        let name = if version.or(label).is_some() { model } else { last }.to_owned();
        let (_, endpoint) = plane.endpoint(&name)?;
        let arms = endpoint.arms();
        let unknown = |what: String| {
            let known: Vec<String> = arms.iter().map(|(arm, id)| format!("{} ({})", id.number, arm.as_str())).collect();
            Fault::not_found(Code::UNKNOWN_MODEL, format!("Servable not found for request: Specific({name}, {what})"))
                .fix(format!("endpoint `{name}` serves {}", known.join(", ")))
        };
        let found = match (version, label) {
            (Some(_), _) => {
                let number = last.parse::<u64>().ok().filter(|n| arms.iter().any(|(_, id)| id.number == *n));
                Some(number.ok_or_else(|| unknown(last.to_owned()))?)
            }
            (None, Some(_)) => {
                let arm = arms.iter().find(|(arm, _)| arm.as_str() == last);
                Some(arm.ok_or_else(|| unknown(last.to_owned()))?.1.number)
            }
            (None, None) => None,
        };
        Ok(Target { name, version: found, verb, endpoint })
    }
}

/// The state of each version. A model that is not there is an error, so what is answered is available.
fn status(plane: &Plane, call: &Call) -> Result<Response> {
    let target = Target::of(plane, call)?;
    let asked = |number: u64| target.version.is_none_or(|version| version == number);
    let one =
        |number: u64| json!({ "version": number.to_string(), "state": "AVAILABLE", "status": { "error_code": "OK", "error_message": "" } });
    let versions: Vec<Value> = target.endpoint.arms().iter().filter(|(_, id)| asked(id.number)).map(|(_, id)| one(id.number)).collect();
    json(&json!({ "model_version_status": versions, "name": target.name, "ready": true }))
}

fn metadata(plane: &Plane, call: &Call) -> Result<Response> {
    let target = Target::of(plane, call)?;
    let model = model_of(&target.endpoint, target.version);
    let tensor = |name: &str, dtype: &str, width: Option<usize>| {
        let mut dims = vec![json!({ "size": "-1", "name": "" })];
        dims.extend(width.map(|width| json!({ "size": width.to_string(), "name": "" })));
        json!({ "dtype": dtype, "tensor_shape": { "dim": dims, "unknown_rank": false }, "name": name })
    };
    let inputs: Map<String, Value> = model
        .shape
        .features
        .iter()
        .map(|feature| {
            let dtype = match feature.kind {
                FeatureType::Number => "DT_DOUBLE",
                FeatureType::Boolean => "DT_BOOL",
                FeatureType::Category => "DT_STRING",
            };
            let name = model.shape.input_name(feature);
            let about = tensor(&name, dtype, None);
            (name, about)
        })
        .collect();
    let (output, width) = match model.shape.task {
        Task::Multiclass => ("probabilities", Some(model.shape.outputs)),
        _ => ("score", None),
    };
    let signature = json!({
        "inputs": inputs,
        "outputs": { output: tensor(output, "DT_DOUBLE", width) },
        "method_name": "tensorflow/serving/predict",
    });
    json(&json!({
        "model_spec": { "name": target.name, "signature_name": "", "version": model.id.number.to_string() },
        "metadata": { "signature_def": { "signature_def": { SIGNATURE: signature } } },
    }))
}

/// The one signature that a model has.
const SIGNATURE: &str = "serving_default";

async fn ask(plane: Arc<Plane>, call: Call) -> Result<Response> {
    let target = Target::of(&plane, &call)?;
    let verb = target.verb.clone().unwrap_or_default();
    let known = ["predict", "classify", "regress", "explain"];
    if !known.contains(&verb.as_str()) {
        let what = format!("{} is asked to `{verb}`", target.name);
        return Err(Fault::not_found(Code::NO_ROUTE, what).fix(format!(
            "POST /v1/models/{}:predict, or {}",
            target.name,
            known.join(", :")
        )));
    }
    let body = body_of(&plane, &target, call).await?;
    match verb.as_str() {
        "classify" | "regress" => examples(&plane, &target, body, verb == "classify").await,
        _ => instances(&plane, &target, body, verb == "explain").await,
    }
}

/// `:predict` of an endpoint that no path names.
pub(super) async fn predict_by(plane: &Plane, name: &str, call: Call) -> Result<Response> {
    let (name, endpoint) = plane.endpoint(name)?;
    let target = Target { name: name.to_string(), endpoint, version: None, verb: None };
    let body = body_of(plane, &target, call).await?;
    instances(plane, &target, body, false).await
}

/// What is sent, if there is room for it and it asks for the signature that a model has.
async fn body_of(plane: &Plane, target: &Target, call: Call) -> Result<Map<String, Value>> {
    if let Err(fault) = plane.has_room(&target.name) {
        return Err(call.refuse(fault).await);
    }
    let Value::Object(body) = read(&call.bytes().await?)? else {
        return Err(Fault::invalid(Code::BAD_BODY, "the body is not a JSON object").fix("send {\"instances\": [...]}"));
    };
    match body.get("signature_name") {
        None | Some(Value::Null) => Ok(body),
        Some(Value::String(name)) if name.is_empty() || name == SIGNATURE => Ok(body),
        Some(other) => {
            let what = format!("Serving signature name: {other} not found in signature def");
            Err(Fault::invalid(Code::BAD_BODY, what).fix(format!("leave it out, or send \"{SIGNATURE}\"")))
        }
    }
}

async fn answered(plane: &Plane, target: &Target, input: Input, explain: bool) -> Result<Answered> {
    predict(plane, &target.name, Ask { input, at: None, explain, version: target.version, urgency: Urgency::default() }).await
}

/// Rows under `instances` or columns under `inputs`, answered in the same way.
async fn instances(plane: &Plane, target: &Target, mut body: Map<String, Value>, explain: bool) -> Result<Response> {
    let given = |body: &mut Map<String, Value>, key: &str| body.remove(key).filter(|v| !v.is_null());
    let (rows, key) = match (given(&mut body, "instances"), given(&mut body, "inputs")) {
        (Some(rows), None) => (Rows::of_list(rows, "`instances`")?, "predictions"),
        (None, Some(columns)) => (Rows::of_columns_or_list(columns)?, "outputs"),
        (one, _) => {
            let what = if one.is_some() { "Both 'inputs' and 'instances' are given" } else { "Missing 'inputs' or 'instances' key" };
            return Err(Fault::invalid(Code::BAD_BODY, what).fix("send rows as `instances`, or columns as `inputs`"));
        }
    };
    let input = rows.input(&target.endpoint, target.version)?;
    let answered = answered(plane, target, input, explain).await?;
    let mut reply = json!({
        key: scores::plain(&answered)?,
        "prediction_ids": scores::ids(&answered),
        "model_version": scores::versions(&answered).join(","),
    });
    if explain {
        let explained: Vec<_> = answered.predictions.iter().map(|p| p.explained.as_ref()).collect();
        reply["explanations"] = explained.iter().map(|row| json!(row.map(|e| &e.contributions))).collect();
        reply["method"] = json!(explained.iter().flatten().map(|e| e.method).next());
        // A row of its own each: with several classes, and between two versions, they differ.
        reply["base_values"] = explained.iter().map(|row| json!(row.and_then(|e| e.base))).collect();
    }
    json(&reply)
}

/// Examples by name, each with what the `context` says for all.
async fn examples(plane: &Plane, target: &Target, mut body: Map<String, Value>, classify: bool) -> Result<Response> {
    let model = model_of(&target.endpoint, target.version);
    let classifies = matches!(model.shape.task, Task::Binary | Task::Multiclass);
    if classify != classifies {
        let (is, use_instead) = if classifies { ("a classifier", ":classify") } else { ("no classifier", ":regress") };
        return Err(Fault::invalid(Code::BAD_BODY, format!("{} is {is}", target.name)).fix(format!("ask it by {use_instead} or :predict")));
    }
    let context = match body.remove("context") {
        None | Some(Value::Null) => Map::new(),
        Some(Value::Object(context)) => context,
        Some(other) => return Err(Fault::invalid(Code::BAD_BODY, format!("`context` is {other}, not an object")).fix("leave it out")),
    };
    let Some(Value::Array(mut examples)) = body.remove("examples") else {
        return Err(Fault::invalid(Code::BAD_BODY, "`examples` is no list").fix("send {\"examples\": [{\"customer_id\": 1}]}"));
    };
    for example in examples.iter_mut().filter_map(Value::as_object_mut) {
        for (name, value) in &context {
            example.entry(name.clone()).or_insert_with(|| value.clone());
        }
    }
    let input = Rows::of_list(Value::Array(examples), "`examples`")?.input(&target.endpoint, target.version)?;
    let answered = answered(plane, target, input, false).await?;
    let results: Vec<Value> = scores::scored(&answered)?
        .into_iter()
        .map(|scored| match classify {
            false => scored.score.into(),
            true => {
                let two = [1.0 - scored.score, scored.score];
                let probabilities = if scored.outputs.len() == model.shape.classes.len() { scored.outputs.as_slice() } else { &two };
                model.shape.classes.iter().zip(probabilities).map(|(label, score)| json!([label, score])).collect()
            }
        })
        .collect();
    json(&json!({ "results": results }))
}
