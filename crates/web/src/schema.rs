//! The words in which a route says what it takes and answers: JSON Schema (<https://json-schema.org/draft/2020-12>), as `/openapi.json` has it.
//!
//! They stand in the declaration of the route, beside the handler whose JSON they describe. A server that is tested with them
//! (`tests/schemathesis`) answers nothing else.

use serde_json::{Map, Value, json};

/// Any JSON.
pub fn any() -> Value {
    json!({})
}
/// Text.
pub fn text() -> Value {
    json!({ "type": "string" })
}
/// One of a few words.
pub fn one_of(words: &[&str]) -> Value {
    json!({ "type": "string", "enum": words })
}
/// A moment.
pub fn moment() -> Value {
    json!({ "type": "string", "format": "date-time" })
}
/// A number.
pub fn number() -> Value {
    json!({ "type": "number" })
}
/// A whole number.
pub fn whole() -> Value {
    json!({ "type": "integer" })
}
/// True or false.
pub fn flag() -> Value {
    json!({ "type": "boolean" })
}
/// A list of things.
pub fn list(of: Value) -> Value {
    json!({ "type": "array", "items": of })
}
/// Names, each with a thing.
pub fn map(of: Value) -> Value {
    json!({ "type": "object", "additionalProperties": of })
}
/// A thing, or null.
pub fn maybe(thing: Value) -> Value {
    json!({ "anyOf": [thing, { "type": "null" }] })
}
/// One of several things.
pub fn either(things: &[Value]) -> Value {
    json!({ "anyOf": things })
}
/// An object with these keys and no others. A key whose name ends with `?` may be left out.
pub fn object<const N: usize>(keys: [(&str, Value); N]) -> Value {
    let mut schema = open(keys);
    schema["additionalProperties"] = false.into();
    schema
}
/// The same, and there may be others.
pub fn open<const N: usize>(keys: [(&str, Value); N]) -> Value {
    let required: Vec<&str> = keys.iter().map(|(key, _)| *key).filter(|key| !key.ends_with('?')).collect();
    let mut schema = json!({ "type": "object", "required": required });
    schema["properties"] = keys.into_iter().map(|(key, of)| (key.trim_end_matches('?').to_owned(), of)).collect::<Map<_, _>>().into();
    schema
}
/// An object with the keys of another one, and more.
pub fn with<const N: usize>(mut schema: Value, keys: [(&str, Value); N]) -> Value {
    let more = open(keys);
    for (place, added) in more["properties"].as_object().into_iter().flatten() {
        schema["properties"][place] = added.clone();
    }
    let more = more["required"].as_array().cloned().unwrap_or_default();
    if let Some(required) = schema["required"].as_array_mut() {
        required.extend(more);
    }
    schema
}
