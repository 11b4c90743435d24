//! Pure decisions of the request plane: which arm a row takes, what a request says, which column has which type.

use arrow::array::{ArrayRef, BooleanArray, Float64Array, Int64Array, RecordBatch, RecordBatchOptions, StringArray};
use arrow::datatypes::{DataType, Field, Schema};
use gristmill_kernel::limits::{PREDICT_FIELDS_MAX, PREDICT_ROWS_MAX};
use gristmill_kernel::prediction::{Arm, Canary};
use gristmill_kernel::{Code, Digest, Fault, Kind, Name, Result, Timestamp};
use serde_json::{Map, Value};
use std::collections::BTreeSet;
use std::sync::Arc;

/// A row as the caller sent it.
pub type Row = Map<String, Value>;

/// What a prediction request says.
#[derive(Debug, Clone, PartialEq)]
pub struct Wish {
    /// The rows.
    pub rows: Vec<Row>,
    /// As of which moment; `None` is now.
    pub at: Option<Timestamp>,
    /// Whether the answer shall carry features and contributions.
    pub explain: bool,
}

/// Reads the body of `POST /predict/NAME`: `{"rows": [...]}`, one object with the fields, or `{"entity": {...}}`.
pub fn read_wish(body: Value) -> Result<Wish> {
    let bad = |message: String| {
        Fault::invalid(Code::BAD_BODY, message).fix("send {\"rows\": [{\"customer_id\": 1}]} or one object such as {\"customer_id\": 1}")
    };
    let Value::Object(mut body) = body else { return Err(bad("the body is not a JSON object".into())) };
    let at = match body.remove("as_of") {
        None | Some(Value::Null) => None,
        Some(Value::String(text)) => Some(text.parse::<Timestamp>()?),
        Some(other) => return Err(bad(format!("`as_of` is {other}, not a moment in quotes"))),
    };
    let explain = match body.remove("explain") {
        None | Some(Value::Null) => false,
        Some(Value::Bool(explain)) => explain,
        Some(other) => return Err(bad(format!("`explain` is {other}, not true or false"))),
    };
    let rows = match body.remove("rows") {
        None => vec![flatten(body, 0)?],
        Some(Value::Array(rows)) => {
            if let Some(key) = body.keys().next() {
                return Err(bad(format!("`{key}` stands beside `rows`; only `as_of` and `explain` may")));
            }
            let one = |(number, row)| match row {
                Value::Object(row) => flatten(row, number),
                _ => Err(bad(format!("row {number} is not a JSON object"))),
            };
            rows.into_iter().enumerate().map(one).collect::<Result<_>>()?
        }
        Some(_) => return Err(bad("`rows` is not a list".into())),
    };
    Ok(Wish { rows, at, explain })
}

/// `{"entity": {...}, ...}` is the same as its fields side by side.
fn flatten(mut row: Row, number: usize) -> Result<Row> {
    match row.remove("entity") {
        None => Ok(row),
        Some(Value::Object(entity)) => {
            for (key, value) in entity {
                if row.insert(key.clone(), value).is_some() {
                    return Err(Fault::invalid(Code::BAD_BODY, format!("row {number} gives `{key}` twice")).fix("give each field once"));
                }
            }
            Ok(row)
        }
        // An entity column may itself be named `entity`.
        Some(other) => {
            row.insert("entity".into(), other);
            Ok(row)
        }
    }
}

/// Refuses no rows and too many.
pub fn check_row_count(rows: usize) -> Result<()> {
    match rows {
        0 => Err(Fault::invalid(Code::MISSING_INPUT, "the request has no rows").fix("send at least one row")),
        n if n > PREDICT_ROWS_MAX => Err(Fault::new(
            Kind::TooLarge,
            Code::BODY_TOO_LARGE,
            format!("the request has {n} rows, at most {PREDICT_ROWS_MAX} are answered at once"),
        )
        .fix("send it in several requests")),
        _ => Ok(()),
    }
}

/// The entity columns of a row, in the spec's order of names; a row without one is refused.
pub fn entity_of(row: &Row, number: usize, entity: &[String], endpoint: &Name) -> Result<Row> {
    let mut found = Row::new();
    for column in entity {
        match row.get(column) {
            None | Some(Value::Null) => {
                return Err(Fault::invalid(Code::MISSING_INPUT, format!("row {number} lacks `{column}`"))
                    .fix(format!("endpoint `{endpoint}` is asked by {}; give it in every row", words(entity))));
            }
            Some(value @ (Value::Array(_) | Value::Object(_))) => {
                return Err(Fault::invalid(Code::BAD_BODY, format!("`{column}` of row {number} is {value}, not a plain value"))
                    .fix("give a number, text, true or false"));
            }
            Some(value) => {
                found.insert(column.clone(), value.clone());
            }
        }
    }
    Ok(found)
}

/// Which arm a row takes. The same entity takes the same arm for the whole rollout, and an entity that has joined the canary stays
/// in it while its share grows.
pub fn arm_of(endpoint: &Name, canary: Option<&Canary>, key: &str) -> Arm {
    let Some(canary) = canary else { return Arm::Stable };
    let began = canary.began_at.micros().to_be_bytes();
    let digest = Digest::of_parts([endpoint.as_str().as_bytes(), canary.model.to_string().as_bytes(), &began, key.as_bytes()]);
    let mut head = [0; 8];
    head.copy_from_slice(&digest.bytes()[..8]);
    if u64::from_be_bytes(head) % 1_000 < u64::from(canary.permille) { Arm::Canary } else { Arm::Stable }
}

/// The rows as columns: the entity's first, then every other field by name. Numbers without a fraction are Int64.
pub fn columns_of(rows: &[&Row], entity: &[String]) -> Result<RecordBatch> {
    let others: BTreeSet<&String> = rows.iter().flat_map(|r| r.keys()).filter(|k| !entity.contains(k)).collect();
    check_field_count(others.len())?;
    let names = entity.iter().chain(others);
    let column = |name: &String| column_of(name, rows.iter().map(|row| row.get(name).unwrap_or(&Value::Null)));
    batch_of(names.map(|name| Ok((name.as_str(), column(name)?))), rows.len())
}

/// As [`columns_of`], of columns that are lists of so many values already.
pub fn columns_of_lists<'v>(lists: impl Iterator<Item = (&'v str, &'v [Value])> + Clone, rows: usize) -> Result<RecordBatch> {
    check_field_count(lists.clone().count())?;
    batch_of(lists.map(|(name, values)| Ok((name, column_of(name, values.iter())?))), rows)
}

fn check_field_count(fields: usize) -> Result<()> {
    if fields > PREDICT_FIELDS_MAX {
        let what = format!("the rows have {fields} different fields, at most {PREDICT_FIELDS_MAX} are read");
        return Err(Fault::invalid(Code::BAD_BODY, what).fix("send only the fields that the endpoint's request views read"));
    }
    Ok(())
}

fn batch_of<'n>(named: impl Iterator<Item = Result<(&'n str, ArrayRef)>>, rows: usize) -> Result<RecordBatch> {
    let (mut fields, mut columns) = (Vec::new(), Vec::new());
    for named in named {
        let (name, column) = named?;
        fields.push(Field::new(name, column.data_type().clone(), true));
        columns.push(column);
    }
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    RecordBatch::try_new_with_options(Arc::new(Schema::new(fields)), columns, &options)
        .map_err(|e| Fault::internal("the rows of a request do not make a batch").because(e))
}

fn column_of<'v>(name: &str, values: impl Iterator<Item = &'v Value> + Clone) -> Result<ArrayRef> {
    let mut kind: Option<(DataType, usize)> = None;
    for (number, value) in values.clone().enumerate() {
        let Some(this) = type_of(name, number, value)? else { continue };
        kind = Some(match kind.take() {
            None => (this, number),
            Some((known, first)) => match (&known, &this) {
                (a, b) if a == b => (known, first),
                (DataType::Int64, DataType::Float64) | (DataType::Float64, DataType::Int64) => (DataType::Float64, first),
                _ => {
                    let what = format!("`{name}` is {} in row {first} and {} in row {number}", word(&known), word(&this));
                    return Err(Fault::invalid(Code::BAD_BODY, what).fix("give one type per field"));
                }
            },
        });
    }
    Ok(match kind.map(|(kind, _)| kind) {
        Some(DataType::Boolean) => Arc::new(values.map(Value::as_bool).collect::<BooleanArray>()),
        Some(DataType::Int64) => Arc::new(values.map(Value::as_i64).collect::<Int64Array>()),
        Some(DataType::Float64) => Arc::new(values.map(Value::as_f64).collect::<Float64Array>()),
        _ => Arc::new(values.map(Value::as_str).collect::<StringArray>()),
    })
}

fn type_of(name: &str, number: usize, value: &Value) -> Result<Option<DataType>> {
    Ok(match value {
        Value::Null => None,
        Value::Bool(_) => Some(DataType::Boolean),
        Value::String(_) => Some(DataType::Utf8),
        Value::Number(n) if n.is_i64() => Some(DataType::Int64),
        Value::Number(n) if n.is_f64() => Some(DataType::Float64),
        other => {
            return Err(Fault::invalid(Code::BAD_BODY, format!("`{name}` of row {number} is {other}, which no column can hold"))
                .fix("give a number of 64 bits, text, true or false"));
        }
    })
}

fn word(kind: &DataType) -> &'static str {
    match kind {
        DataType::Boolean => "true or false",
        DataType::Int64 | DataType::Float64 => "a number",
        _ => "text",
    }
}

/// `a`, `b` and `c` for a message.
pub fn words(names: &[String]) -> String {
    match names {
        [] => "nothing".into(),
        names => names.iter().map(|n| format!("`{n}`")).collect::<Vec<_>>().join(", "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn name(text: &str) -> Name {
        Name::new(text).expect("a name")
    }

    fn canary(permille: u32) -> Canary {
        let model = gristmill_kernel::VersionRef { asset: "models.churn".parse().expect("an address"), number: 2 };
        Canary { model, permille, mirrored: 0, step: 0, began_at: Timestamp::from_micros(7), since: Timestamp::from_micros(9) }
    }

    #[test]
    fn the_three_forms_of_a_body_mean_the_same() {
        let rows = read_wish(json!({ "rows": [{ "customer_id": 1, "n": 2 }] })).expect("rows");
        assert_eq!(rows, read_wish(json!({ "customer_id": 1, "n": 2 })).expect("plain"));
        assert_eq!(rows, read_wish(json!({ "entity": { "customer_id": 1 }, "n": 2 })).expect("entity"));
        let wish = read_wish(json!({ "rows": [], "as_of": "2011-09-01", "explain": true })).expect("options");
        assert_eq!((wish.at, wish.explain), (Some("2011-09-01".parse().expect("a moment")), true));
    }

    #[test]
    fn wrong_bodies_are_refused_with_the_reason() {
        for (body, part) in [
            (json!([1]), "not a JSON object"),
            (json!({ "rows": 1 }), "`rows` is not a list"),
            (json!({ "rows": [1] }), "row 0 is not"),
            (json!({ "rows": [], "asof": "x" }), "`asof` stands beside"),
            (json!({ "as_of": 3 }), "`as_of` is 3"),
            (json!({ "explain": "yes" }), "`explain` is \"yes\""),
            (json!({ "entity": { "a": 1 }, "a": 2 }), "`a` twice"),
        ] {
            let fault = read_wish(body).expect_err(part);
            assert!(fault.message.contains(part), "{} lacks {part}", fault.message);
            assert!(fault.fix.is_some());
        }
    }

    #[test]
    fn a_share_grows_without_moving_anybody_back() {
        let arm = |permille, key: usize| arm_of(&name("churn"), Some(&canary(permille)), &format!("{{\"id\":{key}}}"));
        let count = |permille| (0..20_000).filter(|k| arm(permille, *k) == Arm::Canary).count();
        assert_eq!((count(0), count(1_000)), (0, 20_000));
        let quarter = count(250);
        assert!((4_700..5_300).contains(&quarter), "{quarter} of 20000");
        assert!((0..20_000).filter(|k| arm(50, *k) == Arm::Canary).all(|k| arm(250, k) == Arm::Canary));
    }

    #[test]
    fn columns_take_one_type_each() {
        let rows = [json!({ "id": 1, "x": 1 }), json!({ "id": 2, "x": 1.5, "w": "a" }), json!({ "id": 3 })];
        let rows: Vec<&Row> = rows.iter().map(|r| r.as_object().expect("an object")).collect();
        let batch = columns_of(&rows, &["id".into()]).expect("a batch");
        let types: Vec<_> = batch.schema().fields().iter().map(|f| (f.name().clone(), f.data_type().clone())).collect();
        assert_eq!(types, [("id".into(), DataType::Int64), ("w".into(), DataType::Utf8), ("x".into(), DataType::Float64)]);
        let mixed = [json!({ "id": 1 }), json!({ "id": "one" })];
        let mixed: Vec<&Row> = mixed.iter().map(|r| r.as_object().expect("an object")).collect();
        let fault = columns_of(&mixed, &["id".into()]).expect_err("mixed");
        assert_eq!(fault.message, "`id` is a number in row 0 and text in row 1");
    }

    #[test]
    fn a_missing_entity_names_row_and_column() {
        let row = json!({ "country": "France" });
        let fault = entity_of(row.as_object().expect("object"), 4, &["customer_id".into()], &name("churn")).expect_err("missing");
        assert_eq!((fault.code, fault.message.as_str()), (Code::MISSING_INPUT, "row 4 lacks `customer_id`"));
        assert!(fault.fix.expect("a fix").contains("`customer_id`"));
    }
}
