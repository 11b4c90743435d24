//! Rows as the protocols of JSON and CSV send them, and what they are to an endpoint.
//!
//! The forms: rows with names (`[{"a": 1}]`), rows without (`[[1, 2]]`, or plain values of one column), columns (`{"a": [1, 2]}`), pandas'
//! `dataframe_split` and `dataframe_records`, JSON lines, CSV with or without a line of names. To add one: a function that makes [`Rows`].
//!
//! What a row means is decided once, in [`Rows::input`]: rows that hold the entity are looked up, others are the model's inputs, by name or in
//! their order.

use crate::model::LoadedModel;
use crate::plan::{Row, check_row_count, columns_of, words};
use crate::plane::Endpoint;
use crate::predict::Input;
use arrow::array::{RecordBatch, RecordBatchOptions};
use arrow::datatypes::{Field, Schema};
use base64::Engine as _;
use gristmill_kernel::model::Feature;
use gristmill_kernel::prediction::Arm;
use gristmill_kernel::{Code, Fault, Result};
use gristmill_web::check_json_depth;
use gristmill_web::schema::{self, any, either, flag, list, map, open, text};
use serde_json::{Value, json as of_json};
use std::sync::Arc;

/// Rows of a request.
#[derive(Debug, PartialEq)]
pub enum Rows {
    /// With the names of their fields.
    Named(Vec<Row>),
    /// In the order of the model's inputs, or of the entity's columns.
    Plain(Vec<Vec<Value>>),
}

/// The keys under which a JSON body may have its rows, one of them.
const FORMS: [&str; 6] = ["instances", "inputs", "dataframe_split", "dataframe_records", "features", "rows"];

/// What a JSON body may be, for `/openapi.json`: a list of rows, or rows under one of the keys.
pub fn body_schema() -> Value {
    let row = either(&[map(any()), list(any()), schema::number(), text(), flag(), of_json!({ "type": "null" })]);
    let forms = FORMS.map(|form| open([(form, any())]));
    either(&[&[list(row)], forms.as_slice()].concat())
}

impl Rows {
    /// A JSON body in any of the forms; keys that are none of them are left alone (`params`, `signature_name`).
    pub fn of_body(body: Value) -> Result<Rows> {
        let Value::Object(mut body) = body else { return Rows::of_list(body, "the body") };
        let found: Vec<&str> = FORMS.into_iter().filter(|form| body.get(*form).is_some_and(|v| !v.is_null())).collect();
        let form = match found.as_slice() {
            [form] => *form,
            [] => return Err(bad("the body has no rows").fix(format!("send them under one of {}", words(&FORMS.map(str::to_owned))))),
            many => {
                return Err(bad(format!("the body has rows under {}", words(&many.iter().map(|m| (*m).to_owned()).collect::<Vec<_>>())))
                    .fix("send one of them"));
            }
        };
        let rows = body.remove(form).unwrap_or_default();
        match form {
            "dataframe_split" => Rows::of_split(rows),
            "inputs" => Rows::of_columns_or_list(rows),
            // One row may stand without a list around it.
            "features" if rows.as_array().is_some_and(|row| !row.iter().any(|v| v.is_array() || v.is_object())) => {
                Ok(Rows::Plain(vec![rows.as_array().cloned().unwrap_or_default()]))
            }
            _ => Rows::of_list(rows, form),
        }
    }

    /// Row by row: objects, lists, or the values of one column.
    pub fn of_list(rows: Value, what: &str) -> Result<Rows> {
        let rows = match rows {
            Value::Array(rows) => rows,
            Value::Object(_) => vec![rows],
            other => return Err(bad(format!("{what} is {other}, not a list of rows"))),
        };
        let Some(first) = rows.first() else { return Ok(Rows::Plain(Vec::new())) };
        let mixed = |number: usize, row: &Value| bad(format!("row {number} of {what} is {row}, and row 0 is of another kind"));
        if first.as_object().is_some_and(|o| !is_encoded(o)) {
            let named = rows.into_iter().enumerate().map(|(number, row)| match row {
                Value::Object(row) => row.into_iter().map(|(name, value)| Ok((name, cell(value)?))).collect::<Result<Row>>(),
                other => Err(mixed(number, &other)),
            });
            return Ok(Rows::Named(named.collect::<Result<_>>()?));
        }
        let lists = first.is_array();
        let plain = rows.into_iter().enumerate().map(|(number, row)| match row {
            Value::Array(row) if lists => row.into_iter().map(cell).collect::<Result<Vec<_>>>(),
            Value::Array(_) => Err(mixed(number, &row)),
            value if !lists => Ok(vec![cell(value)?]),
            other => Err(mixed(number, &other)),
        });
        Ok(Rows::Plain(plain.collect::<Result<_>>()?))
    }

    /// Columns by name, or rows.
    pub fn of_columns_or_list(columns: Value) -> Result<Rows> {
        let Value::Object(columns) = columns else { return Rows::of_list(columns, "`inputs`") };
        let mut rows: Vec<Row> = Vec::new();
        for (place, (name, values)) in columns.into_iter().enumerate() {
            let values = match values {
                Value::Array(values) => values,
                one => vec![one],
            };
            if place == 0 {
                rows = vec![Row::new(); values.len()];
            } else if values.len() != rows.len() {
                return Err(bad(format!("the column `{name}` has {} values, those before it {}", values.len(), rows.len())));
            }
            for (row, value) in rows.iter_mut().zip(values) {
                // A column of one value per row may be written as a matrix of one column.
                let value = match value {
                    Value::Array(mut one) if one.len() == 1 => one.swap_remove(0),
                    other => other,
                };
                row.insert(name.clone(), cell(value)?);
            }
        }
        Ok(Rows::Named(rows))
    }

    /// Pandas' split form: `columns`, `data` and perhaps `index`.
    fn of_split(mut split: Value) -> Result<Rows> {
        let data = split.get_mut("data").map(Value::take).unwrap_or_default();
        let Rows::Plain(data) = Rows::of_list(data, "`dataframe_split.data`")? else {
            return Err(bad("`dataframe_split.data` is not a list of lists"));
        };
        let Some(columns) = split["columns"].as_array() else { return Ok(Rows::Plain(data)) };
        let name = |column: &Value| column.as_str().map(str::to_owned);
        let Some(names) = columns.iter().map(name).collect::<Option<Vec<String>>>() else {
            // A frame without names numbers its columns.
            return Ok(Rows::Plain(data));
        };
        named(&names, data)
    }

    /// A JSON value per line.
    pub fn of_lines(text: &[u8]) -> Result<Rows> {
        let lines = text.split(|b| *b == b'\n').filter(|line| !line.trim_ascii().is_empty());
        Rows::of_list(Value::Array(lines.map(json).collect::<Result<_>>()?), "the body")
    }

    /// CSV. A first line without a number in it has the names.
    pub fn of_csv(text: &[u8]) -> Result<Rows> {
        let mut reader = csv::ReaderBuilder::new().has_headers(false).from_reader(text);
        let mut rows: Vec<Vec<Value>> = Vec::new();
        for record in reader.records() {
            let record = record.map_err(|e| bad(format!("the body is no CSV: {e}")).because(e))?;
            rows.push(record.iter().map(csv_cell).collect());
        }
        let has_names = rows.first().is_some_and(|row| !row.is_empty() && row.iter().all(Value::is_string));
        if !has_names {
            return Ok(Rows::Plain(rows));
        }
        let names: Vec<String> = rows.remove(0).into_iter().filter_map(|name| name.as_str().map(str::to_owned)).collect();
        named(&names, rows)
    }

    /// What the rows are to an endpoint, or to one version of it.
    pub fn input(self, endpoint: &Endpoint, version: Option<u64>) -> Result<Input> {
        let (model, spec) = (model_of(endpoint, version), &endpoint.spec);
        check_row_count(match &self {
            Rows::Named(rows) => rows.len(),
            Rows::Plain(rows) => rows.len(),
        })?;
        match self {
            Rows::Named(rows) => {
                // Where one row has the entity, a row without it is told so.
                let with_entity = rows.iter().any(|row| spec.entity.iter().all(|column| row.contains_key(column)));
                if model.shape.asks_request() || with_entity {
                    return Ok(Input::Entities(rows));
                }
                let batch = columns_of(&rows.iter().collect::<Vec<_>>(), &[])?;
                let fields = batch.schema();
                let names = feature_names(endpoint, model, &fields.fields().iter().map(|f| f.name().as_str()).collect::<Vec<_>>())?;
                let fields = fields.fields().iter().zip(names).map(|(f, name)| Field::new(name, f.data_type().clone(), true));
                // Rows may have no columns at all; how many there are must be said then.
                let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
                let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
                let renamed = RecordBatch::try_new_with_options(schema, batch.columns().to_vec(), &options);
                Ok(Input::Features(renamed.map_err(|e| Fault::internal("the columns of a request cannot be named").because(e))?))
            }
            Rows::Plain(rows) => {
                let width = rows.first().map_or(0, Vec::len);
                if let Some((number, row)) = rows.iter().enumerate().find(|(_, row)| row.len() != width) {
                    return Err(bad(format!("row {number} has {} values, row 0 has {width}", row.len())));
                }
                let features = &model.shape.features;
                if width == features.len() {
                    if let Some(matrix) = rows.iter().flatten().map(number).collect::<Option<Vec<f64>>>() {
                        return Ok(Input::Encoded { rows: rows.len(), matrix });
                    }
                    let names: Vec<String> = features.iter().map(|f| model.shape.input_name(f)).collect();
                    return named(&names, rows)?.input(endpoint, version);
                }
                if width == spec.entity.len() {
                    return named(&spec.entity, rows)?.input(endpoint, version);
                }
                let mut fault = format!("a row has {width} values, the model reads {}", features.len());
                if !spec.entity.is_empty() {
                    fault += &format!(" and the entity has {}", spec.entity.len());
                }
                Err(Fault::invalid(Code::MISSING_INPUT, fault).fix(known(endpoint, model)))
            }
        }
    }
}

/// The model that answers, as far as the names of its inputs go.
pub fn model_of(endpoint: &Endpoint, version: Option<u64>) -> &LoadedModel {
    let arms = endpoint.arms();
    let arm = arms.iter().find(|(_, id)| Some(id.number) == version).map_or(Arm::Stable, |(arm, _)| *arm);
    endpoint.model(arm)
}

/// The features behind the names that a caller gave: `view.column`, or the column alone where one view has it. A name with a point that is not
/// known stays: another arm may read it, and the model itself says which one is missing.
pub fn feature_names(endpoint: &Endpoint, model: &LoadedModel, names: &[&str]) -> Result<Vec<String>> {
    let one = |name: &&str| {
        // Asked of every feature with every request, so nothing is put together for it.
        let is_full = |f: &Feature| name.strip_prefix(f.view.as_str()).and_then(|rest| rest.strip_prefix('.')) == Some(f.column.as_str());
        let hits: Vec<_> = model.shape.features.iter().filter(|f| f.column == *name || is_full(f)).collect();
        match hits.as_slice() {
            [feature] => Ok(format!("{}.{}", feature.view, feature.column)),
            [] if name.contains('.') => Ok((*name).to_owned()),
            _ => {
                let what = if model.shape.asks_request() { "no input of the model" } else { "neither the entity nor one feature" };
                Err(Fault::invalid(Code::MISSING_INPUT, format!("the input `{name}` is {what}")).fix(known(endpoint, model)))
            }
        }
    };
    let found: Vec<String> = names.iter().map(one).collect::<Result<_>>()?;
    for (at, name) in found.iter().enumerate() {
        if let Some(first) = found[..at].iter().position(|other| other == name) {
            let what = format!("`{name}` is named twice, as `{}` and as `{}`", names[first], names[at]);
            return Err(bad(what).fix("name it in one way in all rows"));
        }
    }
    Ok(found)
}

/// What may be sent.
fn known(endpoint: &Endpoint, model: &LoadedModel) -> String {
    let inputs: Vec<String> = model.shape.features.iter().map(|f| model.shape.input_name(f)).collect();
    let inputs = format!("{}; or one matrix [rows, {}]", words(&inputs), inputs.len());
    if model.shape.asks_request() { format!("send {inputs}") } else { format!("send {}; or {inputs}", words(&endpoint.spec.entity)) }
}

fn named(names: &[String], rows: Vec<Vec<Value>>) -> Result<Rows> {
    let one = |(number, row): (usize, Vec<Value>)| match row.len() == names.len() {
        true => Ok(names.iter().cloned().zip(row).collect::<Row>()),
        false => Err(bad(format!("row {number} has {} values for {} columns", row.len(), names.len()))),
    };
    Ok(Rows::Named(rows.into_iter().enumerate().map(one).collect::<Result<_>>()?))
}

/// A number, NaN where it is missing; `None` for what is no number.
fn number(value: &Value) -> Option<f64> {
    match value {
        Value::Null => Some(f64::NAN),
        Value::Bool(flag) => Some(f64::from(u8::from(*flag))),
        value => value.as_f64(),
    }
}

fn is_encoded(object: &Row) -> bool {
    object.len() == 1 && object.get("b64").is_some_and(Value::is_string)
}

/// A value of a row; bytes are written as `{"b64": "..."}`.
fn cell(value: Value) -> Result<Value> {
    match value {
        Value::Object(object) if is_encoded(&object) => {
            let text = object["b64"].as_str().unwrap_or_default();
            let bytes = base64::engine::general_purpose::STANDARD.decode(text).map_err(|e| bad(format!("`b64` cannot be decoded: {e}")))?;
            let text = String::from_utf8(bytes).map_err(|_| bad("the bytes behind `b64` are not UTF-8, and no feature holds others"))?;
            Ok(Value::String(text))
        }
        plain => Ok(plain),
    }
}

/// A cell of CSV: a number, true, false, nothing, or text.
fn csv_cell(text: &str) -> Value {
    match text.trim() {
        "" => Value::Null,
        "true" | "True" => Value::Bool(true),
        "false" | "False" => Value::Bool(false),
        word => match word.parse::<i64>() {
            Ok(whole) => Value::from(whole),
            // `nan` is a missing number; what is infinite stays text, which no number of a model can be.
            Err(_) => match word.parse::<f64>() {
                Ok(number) if !number.is_infinite() => Value::from(number),
                _ => Value::String(text.to_owned()),
            },
        },
    }
}

/// JSON as these protocols have it: `NaN` may stand for a missing number, as Python and TensorFlow write it.
pub fn json(text: &[u8]) -> Result<Value> {
    check_json_depth(text)?;
    let unreadable = |e: serde_json::Error| bad(format!("the body is no JSON: {e}")).because(e);
    match serde_json::from_slice(text) {
        Ok(value) => Ok(value),
        Err(first) => {
            let Some(without) = without_nan(text) else { return Err(unreadable(first)) };
            serde_json::from_slice(&without).map_err(unreadable)
        }
    }
}

/// The text with `null` in the place of each bare `NaN`; `None` if there is none.
fn without_nan(text: &[u8]) -> Option<Vec<u8>> {
    let (mut out, mut at, mut quoted, mut found) = (Vec::with_capacity(text.len() + 8), 0, false, false);
    while at < text.len() {
        let byte = text[at];
        if quoted && byte == b'\\' {
            out.extend_from_slice(&text[at..(at + 2).min(text.len())]);
            at += 2;
            continue;
        }
        quoted ^= byte == b'"';
        if !quoted && text[at..].starts_with(b"NaN") {
            out.extend_from_slice(b"null");
            (at, found) = (at + 3, true);
            continue;
        }
        out.push(byte);
        at += 1;
    }
    found.then_some(out)
}

/// A body that is no rows.
pub fn bad(message: impl Into<String>) -> Fault {
    Fault::invalid(Code::BAD_BODY, message).fix("send rows such as {\"instances\": [{\"customer_id\": 1}]}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn of(body: Value) -> Rows {
        Rows::of_body(body).expect("rows")
    }

    #[test]
    fn every_form_says_the_same() {
        let rows = of(json!({ "instances": [{ "a": 1, "b": "x" }, { "a": 2, "b": null }] }));
        for body in [
            json!({ "inputs": { "a": [1, 2], "b": ["x", null] } }),
            json!({ "inputs": { "a": [[1], [2]], "b": ["x", null] }, "signature_name": "serving_default" }),
            json!({ "inputs": [{ "a": 1, "b": "x" }, { "a": 2, "b": null }] }),
            json!({ "dataframe_split": { "columns": ["a", "b"], "index": [7, 8], "data": [[1, "x"], [2, null]] } }),
            json!({ "dataframe_records": [{ "a": 1, "b": { "b64": "eA==" } }, { "a": 2, "b": null }], "params": { "k": 1 } }),
            json!([{ "a": 1, "b": "x" }, { "a": 2, "b": null }]),
        ] {
            assert_eq!(of(body.clone()), rows, "{body}");
        }
        assert_eq!(Rows::of_csv(b"a,b\n1,x\n2,\n").expect("rows"), rows);
        assert_eq!(Rows::of_lines(b"{\"a\": 1, \"b\": \"x\"}\n\n{\"a\": 2, \"b\": null}\n").expect("rows"), rows);
        let plain = Rows::Plain(vec![vec![json!(1), json!(2.5)], vec![json!(3), Value::Null]]);
        assert_eq!(of(json!({ "instances": [[1, 2.5], [3, null]] })), plain);
        assert_eq!(of(json!({ "dataframe_split": { "columns": [0, 1], "data": [[1, 2.5], [3, null]] } })), plain);
        assert_eq!(Rows::of_csv(b"1,2.5\n3,nan\n").expect("rows"), plain);
        assert_eq!(Rows::of_csv(b"1,2\n3,inf\n").expect("rows"), Rows::Plain(vec![vec![json!(1), json!(2)], vec![json!(3), json!("inf")]]));
        assert_eq!(of(json!({ "features": [1, 2.5] })), Rows::Plain(vec![vec![json!(1), json!(2.5)]]));
        assert_eq!(of(json!({ "instances": [1, 2] })), Rows::Plain(vec![vec![json!(1)], vec![json!(2)]]));
    }

    #[test]
    fn what_is_no_row_is_refused_with_its_place() {
        for (body, part) in [
            (json!({}), "no rows"),
            (json!({ "instances": [1], "inputs": [1] }), "`instances`, `inputs`"),
            (json!({ "instances": 3 }), "not a list of rows"),
            (json!({ "instances": [{ "a": 1 }, [2]] }), "row 1"),
            (json!({ "instances": [[1], 2] }), "row 1"),
            (json!({ "inputs": { "a": [1, 2], "b": [1] } }), "`b` has 1 values"),
            (json!({ "dataframe_split": { "columns": ["a"], "data": [[1, 2]] } }), "2 values for 1 columns"),
            (json!({ "instances": [{ "a": { "b64": "?" } }] }), "`b64`"),
        ] {
            let fault = Rows::of_body(body.clone()).expect_err("refused");
            assert!(fault.message.contains(part) && fault.fix.is_some(), "{body}: {fault}");
        }
        assert!(Rows::of_csv(b"1,2\n3\n").is_err());
        assert!(Rows::of_lines(b"{\n").is_err());
    }

    #[test]
    fn a_bare_nan_is_a_missing_number_and_text_stays() {
        assert_eq!(json(br#"[NaN, "a NaN \" NaN", -1]"#).expect("reads"), json!([null, "a NaN \" NaN", -1]));
        assert!(json(b"[Infinity]").is_err(), "no feature holds it");
        assert!(json(&[b'['; 10_000]).is_err());
    }
}
