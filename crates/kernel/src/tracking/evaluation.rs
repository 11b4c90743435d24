//! Evaluation datasets: inputs with what should come out, collected by people and from traces.
//!
//! Invariant: within a dataset, equal inputs are one record; giving them again changes it instead of adding one.

use super::ExperimentId;
use crate::{Digest, Timestamp};
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// A dataset without its records.
#[derive(Debug, Clone, PartialEq)]
pub struct EvaluationDataset {
    /// `d-` and 32 hex digits.
    pub id: String,
    /// Its name; several may have the same.
    pub name: String,
    /// Eight hex digits that change with every change of its records.
    pub digest: String,
    /// The types of the fields seen so far, a JSON object as text.
    pub schema: Option<String>,
    /// How many records it has.
    pub records: u64,
    /// When it was made.
    pub created_at: Timestamp,
    /// When its records or experiments changed last.
    pub updated_at: Timestamp,
    /// Who made it, if they said so.
    pub created_by: Option<String>,
    /// Who changed its records last, if they said so.
    pub updated_by: Option<String>,
    /// Tags.
    pub tags: BTreeMap<String, String>,
    /// The experiments it is used in, in the order they were added.
    pub experiments: Vec<ExperimentId>,
}

impl EvaluationDataset {
    /// The digest of a dataset of this name that changed at this moment.
    pub fn digest_of(name: &str, updated_at: Timestamp) -> String {
        Digest::of(format!("{name}:{}", updated_at.millis())).hex()[..8].to_owned()
    }
}

/// One record.
#[derive(Debug, Clone, PartialEq)]
pub struct EvaluationRecord {
    /// `dr-` and 32 hex digits.
    pub id: String,
    /// What goes in.
    pub inputs: Value,
    /// What came out, if that was recorded.
    pub outputs: Option<Value>,
    /// What should come out.
    pub expectations: Option<Map<String, Value>>,
    /// Tags.
    pub tags: Map<String, Value>,
    /// Where it comes from.
    pub source: Option<RecordSource>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it changed last.
    pub updated_at: Timestamp,
    /// Who made it.
    pub created_by: Option<String>,
    /// Who changed it last.
    pub updated_by: Option<String>,
}

/// Where a record comes from.
#[derive(Debug, Clone, PartialEq)]
pub struct RecordSource {
    /// `TRACE`, `HUMAN`, `DOCUMENT`, `CODE` or `UNSPECIFIED`.
    pub kind: String,
    /// More about it: the trace's id, for instance.
    pub data: Map<String, Value>,
}

/// A record as it is given. What is `None` is not said.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct GivenRecord {
    /// The id it gets if it is new.
    pub id: String,
    /// What goes in; decides which record it is.
    pub inputs: Value,
    /// What came out; `Some(None)` takes it away.
    pub outputs: Option<Option<Value>>,
    /// Expectations to add.
    pub expectations: Option<Map<String, Value>>,
    /// Tags to add.
    pub tags: Option<Map<String, Value>>,
    /// Where it comes from; kept from the first time.
    pub source: Option<RecordSource>,
    /// Who gives it.
    pub user: Option<String>,
}

impl GivenRecord {
    /// What makes two records the same one.
    pub fn identity(&self) -> String {
        Digest::of_json(&self.inputs).hex()
    }

    /// The record when it is given for the first time.
    pub fn made(self, now: Timestamp) -> EvaluationRecord {
        EvaluationRecord {
            id: self.id,
            inputs: self.inputs,
            outputs: self.outputs.unwrap_or_else(|| Some(Value::Object(Map::new()))),
            expectations: self.expectations,
            tags: self.tags.unwrap_or_default(),
            source: self.source,
            created_at: now,
            updated_at: now,
            created_by: self.user.clone(),
            updated_by: self.user,
        }
    }

    /// The record when it was there before.
    pub fn merged(self, mut before: EvaluationRecord, now: Timestamp) -> EvaluationRecord {
        if let Some(outputs) = self.outputs {
            before.outputs = outputs;
        }
        if let Some(expectations) = self.expectations.filter(|given| !given.is_empty()) {
            before.expectations.get_or_insert_default().extend(expectations);
        }
        before.tags.extend(self.tags.unwrap_or_default());
        before.updated_by = self.user.or(before.updated_by);
        before.updated_at = now;
        before
    }
}

/// The schema after these records: a field keeps the type it was first seen with.
pub fn grown_schema(before: Option<&str>, given: &[GivenRecord]) -> Option<String> {
    let mut schema = match before.map(serde_json::from_str) {
        Some(Ok(Value::Object(schema))) => schema,
        _ if given.is_empty() => return None,
        _ => {
            let mut fresh: Map<String, Value> =
                ["inputs", "outputs", "expectations"].map(|part| (part.to_owned(), Map::new().into())).into_iter().collect();
            fresh.insert("version".into(), "1.0".into());
            fresh
        }
    };
    for record in given {
        note_fields(&mut schema, "inputs", record.inputs.as_object());
        note_fields(&mut schema, "expectations", record.expectations.as_ref());
        match &record.outputs {
            Some(Some(Value::Object(fields))) => note_fields(&mut schema, "outputs", Some(fields)),
            Some(Some(whole)) if schema.get("outputs").is_none_or(is_empty) => {
                schema.insert("outputs".into(), type_of(whole).into());
            }
            _ => {}
        }
    }
    Some(Value::Object(schema).to_string())
}

fn is_empty(value: &Value) -> bool {
    value.as_object().is_some_and(Map::is_empty)
}

fn note_fields(schema: &mut Map<String, Value>, part: &str, fields: Option<&Map<String, Value>>) {
    let (Some(Value::Object(known)), Some(fields)) = (schema.get_mut(part), fields) else { return };
    for (name, value) in fields {
        known.entry(name.clone()).or_insert_with(|| type_of(value).into());
    }
}

fn type_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(n) if n.is_f64() => "float",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn given(inputs: Value) -> GivenRecord {
        GivenRecord { id: "dr-1".into(), inputs, ..GivenRecord::default() }
    }
    fn map(value: Value) -> Map<String, Value> {
        value.as_object().cloned().unwrap_or_default()
    }

    #[test]
    fn equal_inputs_are_one_record() {
        assert_eq!(given(json!({"a": 1, "b": 2})).identity(), given(json!({"b": 2, "a": 1})).identity());
        assert_ne!(given(json!({"a": 1})).identity(), given(json!({"a": 2})).identity());
    }

    #[test]
    fn giving_a_record_again_adds_to_it() {
        let (first, later) = (Timestamp::from_micros(1), Timestamp::from_micros(2));
        let mut one = given(json!({"q": "?"}));
        (one.expectations, one.user) = (Some(map(json!({"a": "x"}))), Some("ada".into()));
        let made = one.made(first);
        assert_eq!((made.outputs.clone(), made.created_by.as_deref()), (Some(json!({})), Some("ada")));
        let mut again = given(json!({"q": "?"}));
        again.expectations = Some(map(json!({"b": "y"})));
        again.outputs = Some(Some(json!("!")));
        let merged = again.merged(made, later);
        assert_eq!(merged.expectations, Some(map(json!({"a": "x", "b": "y"}))));
        assert_eq!((merged.outputs, merged.created_at, merged.updated_at), (Some(json!("!")), first, later));
        assert_eq!(merged.updated_by.as_deref(), Some("ada"));
    }

    #[test]
    fn a_schema_only_grows() {
        assert_eq!(grown_schema(None, &[]), None);
        let mut one = given(json!({"q": "?", "n": 1}));
        one.outputs = Some(Some(json!({"a": true})));
        let schema = grown_schema(None, &[one]).expect("a schema");
        let mut two = given(json!({"q": 7, "x": 0.5}));
        two.outputs = Some(Some(json!("text")));
        let schema: Value = serde_json::from_str(&grown_schema(Some(&schema), &[two]).expect("a schema")).expect("JSON");
        let wanted = json!({
            "inputs": {"q": "string", "n": "integer", "x": "float"}, "outputs": {"a": "boolean"}, "expectations": {}, "version": "1.0"
        });
        assert_eq!(schema, wanted);
    }
}
