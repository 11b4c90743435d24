//! Reads what a client asks: query arguments or a JSON body, into a type of [`super::wire`].
//!
//! Promises:
//! - A value of an [`Ask`] holds what its fields say: a required text is there and not empty, a number is a number.
//! - Unknown fields are passed over; `null` is as good as absent. A whole number may be written as a text, a float may be `"NaN"`,
//!   `"Infinity"`, `"-Infinity"`: protocol buffers have their JSON like that.
//! - A request that does not fit is explained in MLflow's words, parameter by parameter in the order of [`Ask::FIELDS`].
//!
//! The quick way reads the type directly. Only what does not fit is read a second time, as a plain value, to find the words.
//!
//! To read a new request: a struct with `Deserialize` and its [`Ask::FIELDS`], then `let ask: T = request::read(call).await?`.

use super::error::invalid;
use gristmill_kernel::{Result, RunId};
use gristmill_web::{Call, Method, check_json_depth};
use serde::de::{DeserializeOwned, Deserializer, Error, Visitor};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::fmt;

/// What every explanation of a parameter ends with.
pub(crate) const SEE_DOCS: &str = " See the API docs for more information about request parameters.";

/// A request: its fields as MLflow names them.
pub(crate) trait Ask: DeserializeOwned {
    /// Every field, in the order in which MLflow looks at them.
    const FIELDS: &'static [Field];
}

/// A field of a request.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Field {
    name: &'static str,
    is: Is,
    required: Required,
}

/// Whether a field must be there, and when that is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Required {
    No,
    /// Before its type: an empty text is missing.
    First,
    /// After its type: an empty text is of the wrong type, if it should be something else.
    Last,
}

/// What a field holds.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Is {
    /// A text.
    Text,
    /// A whole number of 64 bits.
    Int,
    /// A floating-point number.
    Float,
    /// True or false.
    Flag,
    /// A list of texts.
    Texts,
    /// A list of objects with these fields.
    Items(&'static [Field]),
    /// An object with these fields.
    Object(&'static [Field]),
    /// One word of an enum, or its number.
    Word,
}

impl Field {
    /// A field that may be absent.
    pub(crate) const fn new(name: &'static str, is: Is) -> Field {
        Field { name, is, required: Required::No }
    }
    /// A text that may be absent.
    pub(crate) const fn text(name: &'static str) -> Field {
        Field::new(name, Is::Text)
    }
    /// It must be there, and not be empty.
    pub(crate) const fn required(self) -> Field {
        Field { required: Required::First, ..self }
    }
    /// The same; MLflow looks at the type first.
    pub(crate) const fn required_last(self) -> Field {
        Field { required: Required::Last, ..self }
    }
}

/// Reads a request. The arguments of a GET are its query string; without one, and for every other method, they are the body.
pub(crate) async fn read<T: Ask>(call: Call) -> Result<T> {
    if call.method() == Method::GET {
        let pairs: Vec<(String, String)> = call.query()?;
        if !pairs.is_empty() {
            return from_query(&pairs);
        }
    }
    check_content_type(&call)?;
    from_body(&call.bytes().await?)
}

/// Reads query arguments.
pub(crate) fn from_query<T: Ask>(pairs: &[(String, String)]) -> Result<T> {
    let mut map = Map::new();
    for field in T::FIELDS {
        let mut given = pairs.iter().filter(|(key, _)| key == field.name).map(|(_, value)| value.as_str());
        let Some(first) = given.next() else { continue };
        let value = match field.is {
            Is::Texts | Is::Items(_) => std::iter::once(first).chain(given).map(Value::from).collect(),
            Is::Flag => Value::Bool(flag(first)?),
            _ => Value::from(first),
        };
        map.insert(field.name.to_owned(), value);
    }
    from_value(Value::Object(map))
}

fn flag(text: &str) -> Result<bool> {
    match text.to_ascii_lowercase().as_str() {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => Err(invalid(format!("Invalid boolean value: {text}, must be 'true' or 'false'."))),
    }
}

/// Reads a JSON body. Nothing, and what is no JSON, is an empty object, as MLflow has it: then the required parameters are missing.
pub(crate) fn from_body<T: Ask>(bytes: &[u8]) -> Result<T> {
    check_json_depth(bytes)?;
    // A mark of the byte order is no part of the text.
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    if let Ok(ask) = serde_json::from_slice(bytes) {
        return Ok(ask);
    }
    let mut value = serde_json::from_slice(bytes).unwrap_or(Value::Null);
    // Old clients encode their JSON twice.
    if let Value::String(text) = &value {
        check_json_depth(text.as_bytes())?;
        value = serde_json::from_str(text).unwrap_or(Value::Null);
    }
    if value.is_null() {
        value = Value::Object(Map::new());
    }
    from_value(value)
}

fn from_value<T: Ask>(value: Value) -> Result<T> {
    let Value::Object(map) = &value else { return Err(invalid("the request is not a JSON object")) };
    let read = T::deserialize(&value);
    // Like MLflow: only where something does not fit is every type looked at, and then a word that would have fitted may not.
    if let Some(text) = problem(T::FIELDS, map, "", read.is_err()) {
        return Err(invalid(text + SEE_DOCS));
    }
    read.map_err(|e| invalid(format!("the request cannot be read: {e}")))
}

/// POST and PUT say what they send; the others need not.
fn check_content_type(call: &Call) -> Result<()> {
    if !matches!(*call.method(), Method::POST | Method::PUT) {
        return Ok(());
    }
    match call.header("content-type") {
        None => Err(invalid("Bad Request. Content-Type header is missing.")),
        Some(given) if given.split(';').next() == Some("application/json") => Ok(()),
        Some(_) => Err(invalid("Bad Request. Content-Type must be one of ['application/json'].")),
    }
}

/// The first thing wrong with the fields of an object: what is missing and, where asked, what is of the wrong type.
fn problem(fields: &[Field], map: &Map<String, Value>, within: &str, types: bool) -> Option<String> {
    fields.iter().find_map(|field| {
        let path = if within.is_empty() { field.name.to_owned() } else { format!("{within}.{}", field.name) };
        let mut value = map.get(field.name).filter(|v| !v.is_null());
        // Clients of all ages send the older name beside the newer one, or alone.
        if field.name == "run_id" && value.is_none() {
            value = map.get("run_uuid").filter(|v| !v.is_null());
        }
        let required = field.required != Required::No;
        match value {
            None if required => Some(missing_text(&path)),
            None => None,
            Some(Value::String(text)) if required && text.is_empty() => match field.required {
                Required::Last => unfit(field.is, &Value::from(""), &path, types).or_else(|| Some(missing_text(&path))),
                _ => Some(missing_text(&path)),
            },
            Some(value) => unfit(field.is, value, &path, types),
        }
    })
}

/// What is wrong with a value that is there.
fn unfit(is: Is, value: &Value, path: &str, types: bool) -> Option<String> {
    let fits = match is {
        Is::Text => value.is_string(),
        Is::Int => Int::deserialize(value).is_ok(),
        Is::Float => Double::deserialize(value).is_ok(),
        Is::Flag => value.is_boolean(),
        Is::Texts => value.as_array().is_some_and(|items| items.iter().all(Value::is_string)),
        Is::Items(_) => value.is_array(),
        Is::Object(_) => value.is_object(),
        Is::Word => value.is_string() || value.is_i64(),
    };
    if types && !fits {
        return Some(invalid_text(path, value, Some(&format!(" Hint: Value was of type '{}'.", python_type(value)))));
    }
    match (is, value) {
        (Is::Items(fields), Value::Array(items)) => items.iter().enumerate().find_map(|(at, item)| match item {
            Value::Object(map) => problem(fields, map, &format!("{path}[{at}]"), types),
            other => types.then(|| invalid_text(&format!("{path}[{at}]"), other, None)),
        }),
        (Is::Object(fields), Value::Object(map)) => problem(fields, map, path, types),
        _ => None,
    }
}

fn python_type(value: &Value) -> &'static str {
    match value {
        Value::Null => "NoneType",
        Value::Bool(_) => "bool",
        Value::Number(n) if n.is_f64() => "float",
        Value::Number(_) => "int",
        Value::String(_) => "str",
        Value::Array(_) => "list",
        Value::Object(_) => "dict",
    }
}

fn missing_text(path: &str) -> String {
    format!("Missing value for required parameter '{path}'.")
}

/// MLflow's words for a parameter that is wrong, with what was given.
pub(crate) fn invalid_text(path: &str, value: &Value, why: Option<&str>) -> String {
    let given = ascii_json(value);
    match why {
        Some(why) => format!("Invalid value {given} for parameter '{path}' supplied: {why}"),
        None => format!("Invalid value {given} for parameter '{path}' supplied."),
    }
}

/// JSON in ASCII, as Python writes it by default.
fn ascii_json(value: &Value) -> String {
    let mut out = String::new();
    for c in value.to_string().chars() {
        if c.is_ascii() {
            out.push(c);
        } else {
            let mut units = [0; 2];
            c.encode_utf16(&mut units).iter().for_each(|unit| out.push_str(&format!("\\u{unit:04x}")));
        }
    }
    out
}

/// A required parameter that is not in the request: in the path, say, or under one of two names.
pub(crate) fn needed<T>(value: Option<T>, name: &str) -> Result<T> {
    value.ok_or_else(|| invalid(missing_text(name) + SEE_DOCS))
}

/// The run that a request names, under its new name or its old one.
pub(crate) fn run_id(new: Option<String>, old: Option<String>) -> Result<RunId> {
    needed(new.or(old).filter(|id| !id.is_empty()), "run_id").map(RunId)
}

/// Reads a text that must not be empty. For `#[serde(deserialize_with = "filled")]`.
pub(crate) fn filled<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let text = String::deserialize(deserializer)?;
    if text.is_empty() { Err(D::Error::custom("empty")) } else { Ok(text) }
}

/// A whole number, however it is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Int(pub i64);

impl<'de> Deserialize<'de> for Int {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Int, D::Error> {
        deserializer.deserialize_any(IntVisitor)
    }
}

struct IntVisitor;

impl Visitor<'_> for IntVisitor {
    type Value = Int;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a whole number of 64 bits")
    }
    fn visit_i64<E: Error>(self, value: i64) -> Result<Int, E> {
        Ok(Int(value))
    }
    fn visit_u64<E: Error>(self, value: u64) -> Result<Int, E> {
        i64::try_from(value).map(Int).map_err(E::custom)
    }
    fn visit_f64<E: Error>(self, value: f64) -> Result<Int, E> {
        // Below 2^63 in size a float without a fraction is a whole number of 64 bits.
        if value.fract() == 0.0 && value.abs() < 9.2e18 { Ok(Int(value as i64)) } else { Err(E::custom("not a whole number")) }
    }
    fn visit_str<E: Error>(self, value: &str) -> Result<Int, E> {
        value.trim().parse().map(Int).map_err(E::custom)
    }
}

/// A floating-point number. Written as `"NaN"`, `"Infinity"`, `"-Infinity"` where JSON has no number for it.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(crate) struct Double(pub f64);

impl<'de> Deserialize<'de> for Double {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Double, D::Error> {
        deserializer.deserialize_any(DoubleVisitor)
    }
}

impl Serialize for Double {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            v if v.is_nan() => serializer.serialize_str("NaN"),
            v if v == f64::INFINITY => serializer.serialize_str("Infinity"),
            v if v == f64::NEG_INFINITY => serializer.serialize_str("-Infinity"),
            v => serializer.serialize_f64(v),
        }
    }
}

struct DoubleVisitor;

impl Visitor<'_> for DoubleVisitor {
    type Value = Double;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a number")
    }
    fn visit_f64<E: Error>(self, value: f64) -> Result<Double, E> {
        Ok(Double(value))
    }
    fn visit_i64<E: Error>(self, value: i64) -> Result<Double, E> {
        Ok(Double(value as f64))
    }
    fn visit_u64<E: Error>(self, value: u64) -> Result<Double, E> {
        Ok(Double(value as f64))
    }
    fn visit_bool<E: Error>(self, value: bool) -> Result<Double, E> {
        Ok(Double(f64::from(u8::from(value))))
    }
    fn visit_str<E: Error>(self, value: &str) -> Result<Double, E> {
        value.trim().parse().map(Double).map_err(E::custom)
    }
}

/// One word of an enum, or its number as a text.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct EnumWord(pub String);

impl<'de> Deserialize<'de> for EnumWord {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<EnumWord, D::Error> {
        match Value::deserialize(deserializer)? {
            Value::String(text) => Ok(EnumWord(text)),
            Value::Number(number) => Ok(EnumWord(number.to_string())),
            _ => Err(D::Error::custom("not a word")),
        }
    }
}

#[cfg(test)]
#[path = "request_tests.rs"]
mod tests;
