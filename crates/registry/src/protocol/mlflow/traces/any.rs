//! Values of attributes: what OpenTelemetry sends, what is stored (JSON text), what clients get back.
//!
//! Promise: the order of keys, and whether a number is whole, survive the way there and back. No text and no bytes make this panic; what is
//! no JSON is shown as the text it is.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Value, json};
use std::fmt;

/// A value.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Any {
    /// Nothing.
    Null,
    /// True or false.
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// A number.
    Float(f64),
    /// A text.
    Text(String),
    /// Several values.
    List(Vec<Any>),
    /// Values by name, in the order given.
    Map(Vec<(String, Any)>),
}

impl Any {
    /// Reads a JSON text. Python also writes `NaN` and `Infinity`.
    pub(crate) fn of_json(text: &str) -> Any {
        match text {
            "NaN" => Any::Float(f64::NAN),
            "Infinity" => Any::Float(f64::INFINITY),
            "-Infinity" => Any::Float(f64::NEG_INFINITY),
            text => serde_json::from_str(text).unwrap_or_else(|_| Any::Text(text.to_owned())),
        }
    }

    /// As JSON text, with spaces where Python writes them.
    pub(crate) fn to_json(&self) -> String {
        let mut out = String::new();
        self.write(&mut out);
        out
    }

    fn write(&self, out: &mut String) {
        match self {
            Any::Null => out.push_str("null"),
            Any::Bool(value) => out.push_str(if *value { "true" } else { "false" }),
            Any::Int(value) => out.push_str(&value.to_string()),
            Any::Float(value) if value.is_nan() => out.push_str("NaN"),
            Any::Float(value) if value.is_infinite() => out.push_str(if *value > 0.0 { "Infinity" } else { "-Infinity" }),
            Any::Float(value) => out.push_str(&Value::from(*value).to_string()),
            Any::Text(text) => out.push_str(&Value::from(text.as_str()).to_string()),
            Any::List(items) => {
                out.push('[');
                for (at, item) in items.iter().enumerate() {
                    out.push_str(if at > 0 { ", " } else { "" });
                    item.write(out);
                }
                out.push(']');
            }
            Any::Map(pairs) => {
                out.push('{');
                for (at, (key, value)) in pairs.iter().enumerate() {
                    out.push_str(if at > 0 { ", " } else { "" });
                    out.push_str(&Value::from(key.as_str()).to_string());
                    out.push_str(": ");
                    value.write(out);
                }
                out.push('}');
            }
        }
    }

    /// As OpenTelemetry's `AnyValue` in the JSON of protocol buffers.
    pub(crate) fn to_otlp(&self) -> Value {
        match self {
            Any::Null => json!({}),
            Any::Bool(value) => json!({ "bool_value": value }),
            Any::Int(value) => json!({ "int_value": value }),
            Any::Float(value) if value.is_nan() => json!({ "double_value": "NaN" }),
            Any::Float(value) if value.is_infinite() => json!({ "double_value": if *value > 0.0 { "Infinity" } else { "-Infinity" } }),
            Any::Float(value) => json!({ "double_value": value }),
            Any::Text(text) => json!({ "string_value": text }),
            Any::List(items) => match items.is_empty() {
                true => json!({ "array_value": {} }),
                false => json!({ "array_value": { "values": items.iter().map(Any::to_otlp).collect::<Vec<_>>() } }),
            },
            Any::Map(pairs) => match pairs.is_empty() {
                true => json!({ "kvlist_value": {} }),
                false => json!({ "kvlist_value": { "values": pairs.iter().map(|(key, value)| pair(key, value)).collect::<Vec<_>>() } }),
            },
        }
    }

    /// Reads OpenTelemetry's `AnyValue` from the JSON that its exporters write. The caller has limited the depth of the JSON.
    pub(crate) fn of_otlp(value: &Value) -> Any {
        let Some((kind, value)) = value.as_object().and_then(|fields| fields.iter().next()) else { return Any::Null };
        match (kind.as_str(), value) {
            ("stringValue" | "string_value", Value::String(text)) => Any::Text(text.clone()),
            ("boolValue" | "bool_value", Value::Bool(value)) => Any::Bool(*value),
            ("intValue" | "int_value", value) => match value {
                Value::String(text) => text.parse().map_or(Any::Null, Any::Int),
                value => value.as_i64().map_or(Any::Null, Any::Int),
            },
            ("doubleValue" | "double_value", value) => match value {
                Value::String(text) => text.parse().map_or(Any::Null, Any::Float),
                value => value.as_f64().map_or(Any::Null, Any::Float),
            },
            ("bytesValue" | "bytes_value", Value::String(text)) => Any::Text(text.clone()),
            ("arrayValue" | "array_value", value) => {
                let items = value.get("values").and_then(Value::as_array);
                Any::List(items.into_iter().flatten().map(Any::of_otlp).collect())
            }
            ("kvlistValue" | "kvlist_value", value) => Any::Map(pairs_of_otlp(value.get("values"))),
            _ => Any::Null,
        }
    }

    /// Bytes have no JSON of their own: their base64.
    pub(crate) fn of_bytes(bytes: &[u8]) -> Any {
        Any::Text(STANDARD.encode(bytes))
    }

    /// The text, if it is one.
    pub(crate) fn as_text(&self) -> Option<&str> {
        match self {
            Any::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The value under a name.
    pub(crate) fn get(&self, name: &str) -> Option<&Any> {
        match self {
            Any::Map(pairs) => pairs.iter().find(|(key, _)| key == name).map(|(_, value)| value),
            _ => None,
        }
    }
}

/// A `KeyValue`. One without a value has only its key, as protocol buffers write it.
pub(crate) fn pair(key: &str, value: &Any) -> Value {
    match value {
        Any::Null => json!({ "key": key }),
        value => json!({ "key": key, "value": value.to_otlp() }),
    }
}

/// A list of `KeyValue`.
pub(crate) fn pairs_of_otlp(list: Option<&Value>) -> Vec<(String, Any)> {
    let pair = |pair: &Value| {
        let key = pair.get("key").and_then(Value::as_str).unwrap_or_default();
        (key.to_owned(), pair.get("value").map_or(Any::Null, Any::of_otlp))
    };
    list.and_then(Value::as_array).into_iter().flatten().map(pair).collect()
}

impl<'de> Deserialize<'de> for Any {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Any, D::Error> {
        deserializer.deserialize_any(AnyVisitor)
    }
}

struct AnyVisitor;

impl<'de> Visitor<'de> for AnyVisitor {
    type Value = Any;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }
    fn visit_unit<E>(self) -> Result<Any, E> {
        Ok(Any::Null)
    }
    fn visit_bool<E>(self, value: bool) -> Result<Any, E> {
        Ok(Any::Bool(value))
    }
    fn visit_i64<E>(self, value: i64) -> Result<Any, E> {
        Ok(Any::Int(value))
    }
    fn visit_u64<E>(self, value: u64) -> Result<Any, E> {
        // Beyond 63 bits there is no whole number to send.
        Ok(i64::try_from(value).map_or(Any::Float(value as f64), Any::Int))
    }
    fn visit_f64<E>(self, value: f64) -> Result<Any, E> {
        Ok(Any::Float(value))
    }
    fn visit_str<E>(self, value: &str) -> Result<Any, E> {
        Ok(Any::Text(value.to_owned()))
    }
    fn visit_string<E>(self, value: String) -> Result<Any, E> {
        Ok(Any::Text(value))
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Any, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element()? {
            items.push(item);
        }
        Ok(Any::List(items))
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Any, A::Error> {
        let mut pairs = Vec::new();
        while let Some(pair) = map.next_entry()? {
            pairs.push(pair);
        }
        Ok(Any::Map(pairs))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_comes_back_as_it_was() {
        for text in [
            "null",
            "true",
            "-7",
            "9223372036854775807",
            "1.0",
            "0.1",
            "NaN",
            "-Infinity",
            "\"é \\\"\\n\\u0001\"",
            "[]",
            "{}",
            r#"{"z": 1, "a": [1, 2.5, {"y": null, "b": "x"}], "é": false}"#,
        ] {
            assert_eq!(Any::of_json(text).to_json(), text);
        }
        assert_eq!(Any::of_json("{\"a\":1,\"b\":[1,2]}").to_json(), r#"{"a": 1, "b": [1, 2]}"#);
        assert_eq!(Any::of_json("no JSON"), Any::Text("no JSON".into()));
        assert_eq!(Any::of_json("18446744073709551615"), Any::Float(18446744073709551615.0));
        let deep = format!("{}1{}", "[".repeat(500), "]".repeat(500));
        assert_eq!(Any::of_json(&deep), Any::Text(deep.clone()), "too deep is a text");
    }

    #[test]
    fn otlp_comes_back_as_it_was() {
        for text in ["null", "true", "5", "5.0", "NaN", "\"x\"", "[]", "{}", r#"[1, [], {"b": 2, "a": null}]"#] {
            let any = Any::of_json(text);
            let back = Any::of_otlp(&any.to_otlp());
            assert_eq!(back.to_json(), text);
        }
        assert_eq!(Any::of_otlp(&json!({"intValue": "42"})), Any::Int(42));
        assert_eq!(Any::of_otlp(&json!({"doubleValue": "-Infinity"})).to_json(), "-Infinity");
        for odd in [json!(null), json!([]), json!({"intValue": "x"}), json!({"what": 1}), json!({"arrayValue": 5})] {
            let _ = Any::of_otlp(&odd);
        }
    }
}
