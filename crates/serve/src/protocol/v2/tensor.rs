//! Tensors of the protocol: in as JSON (nested or flat) or binary, out the same way.
//!
//! Invariant: a [`Tensor`] has exactly as many values as its shape says, and its first dimension is the number of rows. Sizes
//! are checked before anything is allocated for them.

use super::model::urgency;
use crate::plan::Row;
use crate::predict::Urgency;
use arrow::array::{ArrayRef, BooleanArray, Float64Array, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{Field, Schema};
use gristmill_kernel::limits::{BODY_BYTES_MAX, JSON_DEPTH_MAX, PREDICT_FIELDS_MAX};
use gristmill_kernel::{Code, Fault, Result};
use serde_json::Value;
use std::sync::Arc;

/// A named array of values.
pub struct Tensor {
    pub name: String,
    pub shape: Vec<usize>,
    pub data: Data,
}

/// Values, in the widest type of their family. In JSON, NaN and infinities are `null`.
#[derive(serde::Serialize)]
#[serde(untagged)]
pub enum Data {
    Bool(Vec<bool>),
    I64(Vec<i64>),
    F64(Vec<f64>),
    Text(Vec<String>),
}

impl Tensor {
    /// Refuses values that are not as many as the shape says.
    pub fn new(name: String, shape: Vec<usize>, data: Data) -> Result<Tensor> {
        let count = count_of(&shape);
        if data.len() != count {
            return Err(bad(format!("`{name}` has {} values, its shape says {count}", data.len())));
        }
        Ok(Tensor { name, shape, data })
    }
}

/// The sizes of a tensor, if they are sizes and not absurd.
pub fn shape_of(name: &str, sizes: impl Iterator<Item = Option<usize>>) -> Result<Vec<usize>> {
    let shape: Vec<usize> = sizes.collect::<Option<_>>().ok_or_else(|| bad(format!("the shape of `{name}` has what is no size")))?;
    if shape.is_empty() {
        return Err(bad(format!("the shape of `{name}` has no sizes")));
    }
    let count = shape.iter().try_fold(1usize, |all, n| all.checked_mul(*n)).filter(|n| *n <= BODY_BYTES_MAX);
    count.map(|_| shape).ok_or_else(|| bad(format!("the shape of `{name}` is too large")))
}

/// The values of a shape that [`shape_of`] has checked.
pub fn count_of(shape: &[usize]) -> usize {
    shape.iter().product()
}

/// Refuses no inputs, and inputs of different numbers of rows.
pub fn check_rows(inputs: &[Tensor]) -> Result<()> {
    let rows = inputs
        .first()
        .map(|t| t.shape[0])
        .ok_or_else(|| Fault::invalid(Code::MISSING_INPUT, "the request has no inputs").fix("GET /v2/models/NAME lists the inputs"))?;
    match inputs.iter().find(|t| t.shape[0] != rows) {
        None => Ok(()),
        Some(other) => Err(bad(format!("`{}` has {} rows, `{}` has {rows}", other.name, other.shape[0], inputs[0].name))),
    }
}

/// The outputs of these names. Without names: all but the prediction ids.
pub fn chosen<'t>(made: &'t [Tensor], names: &[String]) -> Result<Vec<&'t Tensor>> {
    if names.is_empty() {
        return Ok(made.iter().filter(|t| t.name != "prediction_id").collect());
    }
    let one = |name: &String| {
        made.iter().find(|t| t.name == *name).ok_or_else(|| {
            let names: Vec<&str> = made.iter().map(|t| t.name.as_str()).collect();
            Fault::invalid(Code::BAD_BODY, format!("there is no output `{name}`")).fix(format!("outputs are {}", names.join(", ")))
        })
    };
    names.iter().map(one).collect()
}

impl Data {
    fn len(&self) -> usize {
        match self {
            Data::Bool(v) => v.len(),
            Data::I64(v) => v.len(),
            Data::F64(v) => v.len(),
            Data::Text(v) => v.len(),
        }
    }
    /// As numbers, if that is what they are.
    pub fn numbers(&self) -> Option<Vec<f64>> {
        match self {
            Data::F64(v) => Some(v.clone()),
            Data::I64(v) => Some(v.iter().map(|x| *x as f64).collect()),
            Data::Bool(_) | Data::Text(_) => None,
        }
    }
    fn value(&self, place: usize) -> Value {
        match self {
            Data::Bool(v) => v[place].into(),
            Data::I64(v) => v[place].into(),
            // NaN is how a tensor says missing.
            Data::F64(v) => v[place].into(),
            Data::Text(v) => v[place].clone().into(),
        }
    }
    fn column(&self) -> ArrayRef {
        match self {
            Data::Bool(v) => Arc::new(BooleanArray::from(v.clone())),
            Data::I64(v) => Arc::new(Int64Array::from(v.clone())),
            Data::F64(v) => Arc::new(v.iter().map(|x| (!x.is_nan()).then_some(*x)).collect::<Float64Array>()),
            Data::Text(v) => Arc::new(StringArray::from_iter_values(v)),
        }
    }
}

/// A request, as far as we read it.
pub struct InferRequest {
    pub id: Option<String>,
    pub inputs: Vec<Tensor>,
    outputs: Vec<(String, bool)>,
    binary_outputs: bool,
    pub urgency: Urgency,
}

impl InferRequest {
    /// Reads a body; `json_length` is the length of its JSON part when tensors follow it.
    pub fn read(body: &[u8], json_length: Option<usize>) -> Result<InferRequest> {
        let json_length = json_length.unwrap_or(body.len());
        if json_length == 0 || json_length > body.len() {
            return Err(bad(format!("the JSON part is said to have {json_length} of {} bytes", body.len())));
        }
        let (head, mut binary) = body.split_at(json_length);
        let head: Head = serde_json::from_slice(head).map_err(|e| bad(format!("the JSON part cannot be read: {e}")))?;
        let Head { id, parameters, inputs: given, outputs: wanted } = head;
        let (given, wanted) = (given.unwrap_or_default(), wanted.unwrap_or_default());
        for (key, count) in [("inputs", given.len()), ("outputs", wanted.len())] {
            if count > PREDICT_FIELDS_MAX {
                return Err(bad(format!("`{key}` is not a list of at most {PREDICT_FIELDS_MAX} tensors")));
            }
        }
        let mut inputs = Vec::with_capacity(given.len());
        for input in given {
            inputs.push(read_tensor(input, &mut binary)?);
        }
        if !binary.is_empty() {
            return Err(bad(format!("{} bytes behind the last tensor", binary.len())));
        }
        check_rows(&inputs)?;
        let binary_outputs = parameters["binary_data_output"].as_bool().unwrap_or(false);
        let mut outputs = Vec::with_capacity(wanted.len());
        for output in wanted {
            let Value::String(name) = output.name else { return Err(bad("an output has no name".into())) };
            outputs.push((name, output.parameters["binary_data"].as_bool().unwrap_or(binary_outputs)));
        }
        let id = match id {
            Value::Null => None,
            Value::String(id) => Some(id),
            other => return Err(bad(format!("`id` is {other}, not text"))),
        };
        let parameter = |key: &str| match &parameters[key] {
            Value::Null => Ok(None),
            given => given.as_u64().map(Some).ok_or_else(|| bad(format!("the parameter `{key}` is {given}, not a whole number from 0"))),
        };
        let urgency = urgency(parameter("priority")?, parameter("timeout")?);
        Ok(InferRequest { id, inputs, outputs, binary_outputs, urgency })
    }

    /// The outputs asked for, each with whether it goes out as bytes. Without a wish: all but the prediction ids.
    pub fn wanted<'t>(&self, made: &'t [Tensor]) -> Result<Vec<(&'t Tensor, bool)>> {
        let (names, binary): (Vec<String>, Vec<bool>) = self.outputs.iter().cloned().unzip();
        let binary = binary.into_iter().chain(std::iter::repeat(self.binary_outputs));
        Ok(chosen(made, &names)?.into_iter().zip(binary).collect())
    }
}

/// The JSON part of a request. What its fields hold is looked at one by one.
#[derive(serde::Deserialize, Default)]
#[serde(default)]
struct Head {
    id: Value,
    parameters: Value,
    inputs: Option<Vec<Given>>,
    outputs: Option<Vec<Given>>,
}

/// A tensor that is sent, or asked for.
#[derive(serde::Deserialize, Default)]
#[serde(default)]
struct Given {
    name: Value,
    shape: Value,
    datatype: Value,
    parameters: Value,
    data: Value,
}

fn bad(message: String) -> Fault {
    Fault::invalid(Code::BAD_BODY, message).fix("send a request of the Open Inference Protocol, version 2")
}

fn read_tensor(tensor: Given, binary: &mut &[u8]) -> Result<Tensor> {
    let Given { name, shape, datatype, parameters, data } = tensor;
    let Value::String(name) = name else { return Err(bad("an input has no name".into())) };
    let sizes = shape.as_array().ok_or_else(|| bad(format!("`{name}` has no shape")))?;
    let shape = shape_of(&name, sizes.iter().map(|n| n.as_u64().and_then(|n| usize::try_from(n).ok())))?;
    let count = count_of(&shape);
    let datatype = datatype.as_str().ok_or_else(|| bad(format!("`{name}` has no datatype")))?;
    let data = match parameters.get("binary_data_size") {
        Some(size) => {
            let size = size.as_u64().and_then(|n| usize::try_from(n).ok()).filter(|n| *n <= binary.len());
            let size = size.ok_or_else(|| bad(format!("`{name}` has fewer bytes than its binary_data_size")))?;
            let (own, rest) = binary.split_at(size);
            *binary = rest;
            from_bytes(&name, datatype, own, count)?
        }
        None => {
            let mut flat = Vec::with_capacity(count.min(data.as_array().map_or(1, Vec::len)));
            flatten(&data, &mut flat, 0);
            from_json(&name, datatype, &flat)?
        }
    };
    Tensor::new(name, shape, data)
}

/// Nested or flat: row-major either way.
fn flatten<'v>(value: &'v Value, out: &mut Vec<&'v Value>, depth: usize) {
    match value {
        Value::Array(values) if depth < JSON_DEPTH_MAX => values.iter().for_each(|v| flatten(v, out, depth + 1)),
        value => out.push(value),
    }
}

fn from_json(name: &str, datatype: &str, flat: &[&Value]) -> Result<Data> {
    let wrong = |value: &Value| {
        Fault::invalid(Code::BAD_BODY, format!("`{name}` is {datatype}, but has the value {value}")).fix("send values of the datatype")
    };
    fn all<T>(flat: &[&Value], read: impl Fn(&Value) -> Option<T>, wrong: impl Fn(&Value) -> Fault) -> Result<Vec<T>> {
        flat.iter().map(|v| read(v).ok_or_else(|| wrong(v))).collect()
    }
    Ok(match datatype {
        "BOOL" => Data::Bool(all(flat, Value::as_bool, wrong)?),
        "INT8" | "INT16" | "INT32" | "INT64" | "UINT8" | "UINT16" | "UINT32" | "UINT64" => Data::I64(all(flat, Value::as_i64, wrong)?),
        "FP16" | "FP32" | "FP64" => Data::F64(all(flat, |v| if v.is_null() { Some(f64::NAN) } else { v.as_f64() }, wrong)?),
        "BYTES" => Data::Text(all(flat, |v| v.as_str().map(str::to_owned), wrong)?),
        other => return Err(unknown_type(name, other)),
    })
}

/// Values as bytes, little-endian.
pub fn from_bytes(name: &str, datatype: &str, bytes: &[u8], count: usize) -> Result<Data> {
    fn each<const N: usize, T>(bytes: &[u8], read: impl Fn([u8; N]) -> T) -> Option<Vec<T>> {
        let (chunks, rest) = bytes.as_chunks::<N>();
        rest.is_empty().then(|| chunks.iter().map(|c| read(*c)).collect())
    }
    let data = match datatype {
        "BOOL" => Some(Data::Bool(bytes.iter().map(|b| *b != 0).collect())),
        "INT8" => each(bytes, |b| i64::from(i8::from_le_bytes(b))).map(Data::I64),
        "INT16" => each(bytes, |b| i64::from(i16::from_le_bytes(b))).map(Data::I64),
        "INT32" => each(bytes, |b| i64::from(i32::from_le_bytes(b))).map(Data::I64),
        "INT64" => each(bytes, i64::from_le_bytes).map(Data::I64),
        "UINT8" => each(bytes, |b| i64::from(u8::from_le_bytes(b))).map(Data::I64),
        "UINT16" => each(bytes, |b| i64::from(u16::from_le_bytes(b))).map(Data::I64),
        "UINT32" => each(bytes, |b| i64::from(u32::from_le_bytes(b))).map(Data::I64),
        "UINT64" => each(bytes, |b| i64::try_from(u64::from_le_bytes(b)).ok()).and_then(|v| v.into_iter().collect()).map(Data::I64),
        "FP16" => each(bytes, |b| half(u16::from_le_bytes(b))).map(Data::F64),
        "FP32" => each(bytes, |b| f64::from(f32::from_le_bytes(b))).map(Data::F64),
        "FP64" => each(bytes, f64::from_le_bytes).map(Data::F64),
        "BYTES" => words(bytes).map(Data::Text),
        other => return Err(unknown_type(name, other)),
    };
    data.ok_or_else(|| bad(format!("the {} bytes of `{name}` are not {count} values of {datatype}", bytes.len())))
}

/// Texts, each behind its length as four little-endian bytes.
fn words(mut bytes: &[u8]) -> Option<Vec<String>> {
    let mut words = Vec::new();
    while !bytes.is_empty() {
        let (length, rest) = bytes.split_first_chunk::<4>()?;
        let (word, rest) = rest.split_at_checked(u32::from_le_bytes(*length) as usize)?;
        words.push(String::from_utf8(word.to_vec()).ok()?);
        bytes = rest;
    }
    Some(words)
}

/// A half-precision number.
fn half(bits: u16) -> f64 {
    let (sign, exponent, fraction) = (if bits >> 15 == 1 { -1.0 } else { 1.0 }, i32::from((bits >> 10) & 31), f64::from(bits & 1023));
    sign * match exponent {
        0 => fraction * 2f64.powi(-24),
        31 if fraction == 0.0 => f64::INFINITY,
        31 => f64::NAN,
        _ => (1.0 + fraction / 1024.0) * 2f64.powi(exponent - 15),
    }
}

pub fn unknown_type(name: &str, datatype: &str) -> Fault {
    Fault::invalid(Code::BAD_BODY, format!("`{name}` has the datatype `{datatype}`"))
        .fix("datatypes are BOOL, INT8 to INT64, UINT8 to UINT64, FP16, FP32, FP64 and BYTES")
}

/// Tensors with one value per row, as rows of fields. A missing number is left out.
pub fn rows_of(tensors: &[Tensor]) -> Result<Vec<Row>> {
    tensors.iter().try_for_each(one_per_row)?;
    let rows = tensors.first().map_or(0, |t| t.shape[0]);
    Ok((0..rows).map(|row| tensors.iter().map(|t| (t.name.clone(), t.data.value(row))).collect()).collect())
}

/// Tensors with one value per row, as columns.
pub fn batch_of(tensors: &[(String, &Tensor)]) -> Result<RecordBatch> {
    let (mut fields, mut columns) = (Vec::new(), Vec::new());
    for (name, tensor) in tensors {
        one_per_row(tensor)?;
        let column = tensor.data.column();
        fields.push(Field::new(name, column.data_type().clone(), true));
        columns.push(column);
    }
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).map_err(|e| Fault::internal("tensors do not make a batch").because(e))
}

fn one_per_row(tensor: &Tensor) -> Result<()> {
    if tensor.data.len() == tensor.shape[0] {
        return Ok(());
    }
    Err(bad(format!("`{}` has the shape {:?}, not one value per row", tensor.name, tensor.shape)))
}

/// A tensor as an answer describes it, with its data unless that goes behind as bytes.
#[derive(serde::Serialize)]
pub struct Written<'t> {
    name: &'t str,
    datatype: &'static str,
    shape: &'t [usize],
    #[serde(skip_serializing_if = "Option::is_none")]
    parameters: Option<BinarySize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<&'t Data>,
}

#[derive(serde::Serialize)]
struct BinarySize {
    binary_data_size: usize,
}

/// The description of each tensor, and the bytes that go behind them all.
pub fn write<'t>(tensors: &[(&'t Tensor, bool)]) -> Result<(Vec<Written<'t>>, Vec<u8>)> {
    let (mut described, mut bytes) = (Vec::with_capacity(tensors.len()), Vec::new());
    for (tensor, binary) in tensors {
        let before = bytes.len();
        if *binary {
            bytes.extend(bytes_of(&tensor.data)?);
        }
        described.push(Written {
            name: &tensor.name,
            datatype: datatype_of(&tensor.data),
            shape: &tensor.shape,
            parameters: binary.then(|| BinarySize { binary_data_size: bytes.len() - before }),
            data: (!binary).then_some(&tensor.data),
        });
    }
    Ok((described, bytes))
}

/// The protocol's word for a type.
pub fn datatype_of(data: &Data) -> &'static str {
    match data {
        Data::Bool(_) => "BOOL",
        Data::I64(_) => "INT64",
        Data::F64(_) => "FP64",
        Data::Text(_) => "BYTES",
    }
}

/// Values as bytes, little-endian.
pub fn bytes_of(data: &Data) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    match data {
        Data::Bool(v) => bytes.extend(v.iter().map(|x| u8::from(*x))),
        Data::I64(v) => v.iter().for_each(|x| bytes.extend(x.to_le_bytes())),
        Data::F64(v) => v.iter().for_each(|x| bytes.extend(x.to_le_bytes())),
        Data::Text(v) => {
            for word in v {
                let length = u32::try_from(word.len()).map_err(|_| Fault::internal("a word of an answer is too long"))?;
                bytes.extend(length.to_le_bytes());
                bytes.extend(word.as_bytes());
            }
        }
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn nested_and_flat_data_mean_the_same() {
        let read = |data: Value| {
            let body = json!({ "inputs": [{ "name": "x", "shape": [2, 2], "datatype": "FP64", "data": data }] }).to_string();
            InferRequest::read(body.as_bytes(), None).expect("reads").inputs[0].data.numbers()
        };
        assert_eq!(read(json!([[1, 2], [3, 4]])), read(json!([1, 2, 3, 4])));
    }

    #[test]
    fn binary_tensors_are_read_as_their_type() {
        let head = json!({ "inputs": [
            { "name": "a", "shape": [2], "datatype": "INT32", "parameters": { "binary_data_size": 8 } },
            { "name": "b", "shape": [2], "datatype": "BYTES", "parameters": { "binary_data_size": 11 } },
            { "name": "c", "shape": [2], "datatype": "FP16", "parameters": { "binary_data_size": 4 } },
        ]})
        .to_string();
        let mut body = head.clone().into_bytes();
        body.extend([1, 0, 0, 0, 254, 255, 255, 255]);
        body.extend([2, 0, 0, 0, b'h', b'i', 1, 0, 0, 0, b'x']);
        body.extend([0x00, 0x3c, 0x00, 0xc0]);
        let read = InferRequest::read(&body, Some(head.len())).expect("reads");
        let rows = rows_of(&read.inputs).expect("rows");
        assert_eq!(Value::from(rows[0].clone()), json!({ "a": 1, "b": "hi", "c": 1.0 }));
        assert_eq!(Value::from(rows[1].clone()), json!({ "a": -2, "b": "x", "c": -2.0 }));
        body.push(0);
        assert!(InferRequest::read(&body, Some(head.len())).is_err(), "bytes left over");
        assert!(InferRequest::read(&body[..head.len() + 3], Some(head.len())).is_err(), "bytes missing");
    }

    #[test]
    fn absurd_requests_are_refused_before_anything_is_allocated() {
        for input in [
            json!({ "name": "x", "shape": [4_000_000_000u64, 4_000_000_000u64, 4_000_000_000u64], "datatype": "FP64", "data": [] }),
            json!({ "name": "x", "shape": [-1], "datatype": "FP64", "data": [1] }),
            json!({ "name": "x", "shape": [], "datatype": "FP64", "data": [] }),
            json!({ "name": "x", "shape": [2], "datatype": "FP64", "data": [1] }),
            json!({ "name": "x", "shape": [1], "datatype": "FP64", "data": ["one"] }),
            json!({ "name": "x", "shape": [1], "datatype": "COMPLEX", "data": [1] }),
            json!({ "name": "x", "shape": [1], "datatype": "FP64", "parameters": { "binary_data_size": 1u64 << 60 } }),
        ] {
            let body = json!({ "inputs": [input] }).to_string();
            let fault = InferRequest::read(body.as_bytes(), None).err().expect("refused");
            assert_eq!(fault.code, Code::BAD_BODY, "{body}");
        }
        assert!(InferRequest::read(b"{}", Some(9)).is_err());
        assert_eq!(InferRequest::read(b"{}", None).err().expect("no inputs").code, Code::MISSING_INPUT);
    }
}
