//! What the protocol takes and answers over REST, as `/openapi.json` says it.

use super::model::About;
use gristmill_kernel::Kind;
use gristmill_web::Route;
use gristmill_web::schema::{any, flag, list, map, object, one_of, open, text, whole};
use serde_json::Value;

pub fn server() -> Value {
    object([("name", text()), ("version", text()), ("extensions", list(text()))])
}

pub fn ready() -> Value {
    object([("ready", flag())])
}

pub fn model_ready() -> Value {
    open([("name?", text()), ("ready", flag())])
}

/// A route that predicts.
pub fn inferring(route: Route) -> Route {
    let input =
        open([("name", text()), ("shape", list(whole())), ("datatype", text()), ("data?", list(any())), ("parameters?", map(any()))]);
    let wanted = open([("name", text()), ("parameters?", map(any()))]);
    let asked = open([("id?", text()), ("inputs", list(input)), ("outputs?", list(wanted)), ("parameters?", map(any()))]);
    let output = object([
        ("name", text()),
        ("datatype", one_of(&["BOOL", "INT64", "FP64", "BYTES"])),
        ("shape", list(whole())),
        ("data?", list(any())),
        ("parameters?", object([("binary_data_size", whole())])),
    ]);
    let answered = object([
        ("model_name", text()),
        ("model_version", text()),
        ("parameters", object([("as_of", text())])),
        ("id?", text()),
        ("outputs", list(output)),
    ]);
    route.takes(asked).gives(answered).gives_media("application/octet-stream").fails([Kind::Busy])
}

fn described() -> Value {
    object([("name", text()), ("datatype", text()), ("shape", list(whole()))])
}

impl About {
    pub fn schema() -> Value {
        object([
            ("name", text()),
            ("versions", list(text())),
            ("platform", text()),
            ("inputs", list(described())),
            ("outputs", list(described())),
            ("parameters", object([("entity", list(text())), ("classes", list(text()))])),
        ])
    }
}

/// Triton's index of the repository.
pub fn index() -> Value {
    let state = one_of(&["READY", "UNAVAILABLE"]);
    list(object([("name", text()), ("version", text()), ("state", state), ("reason", text())]))
}

/// Triton's statistics.
pub fn statistics() -> Value {
    let took = || object([("count", whole()), ("ns", whole())]);
    let inference = object([
        ("success", took()),
        ("fail", took()),
        ("queue", took()),
        ("compute_input", took()),
        ("compute_infer", took()),
        ("compute_output", took()),
        ("cache_hit", took()),
        ("cache_miss", took()),
    ]);
    let one = object([
        ("name", text()),
        ("version", text()),
        ("last_inference", whole()),
        ("inference_count", whole()),
        ("execution_count", whole()),
        ("inference_stats", inference),
        ("batch_stats", list(any())),
        ("memory_usage", list(any())),
    ]);
    object([("model_stats", list(one))])
}

/// Triton's configuration of a model.
pub fn config() -> Value {
    let tensor = || object([("name", text()), ("data_type", text()), ("dims", list(whole()))]);
    object([
        ("name", text()),
        ("platform", text()),
        ("backend", text()),
        ("max_batch_size", whole()),
        ("version_policy", object([("specific", object([("versions", list(text()))]))])),
        ("input", list(tensor())),
        ("output", list(tensor())),
    ])
}
