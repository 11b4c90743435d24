//! Requests of every protocol for the same rows, and the scores out of the answers.

use super::grpc::{self, Channel};
use super::load::Requests;
use crate::bench::http::{Address, Connection};
use anyhow::{Context, Result, bail};
use prost::Message as _;
use serde_json::{Map, Value, json};

/// How a server is asked.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Protocol {
    /// Open Inference Protocol over REST: a tensor in JSON.
    Tensor,
    /// The same with the values as bytes behind the JSON.
    Binary,
    /// The same over gRPC.
    Grpc,
    /// Our `POST /predict/NAME`: rows of named values.
    Named,
    /// Rows of values, as small services take them: `{"rows": [[...]]}`.
    Rows,
    /// The same as MLflow's scoring takes it: `{"inputs": [[...]]}`.
    Matrix,
    /// What [`Protocol::Tensor`] sends, to a server that does not look at it.
    Unread,
}

/// Rows to ask for, and the names of their columns.
#[derive(Clone, Copy)]
pub struct Rows<'a> {
    /// The model or endpoint.
    pub model: &'a str,
    /// The names.
    pub names: &'a [String],
    /// The values, row by row.
    pub rows: &'a [Vec<f64>],
    /// Whether the one column is an entity, to be looked up.
    pub entity: bool,
}

impl Rows<'_> {
    fn flat(&self) -> impl Iterator<Item = f64> {
        self.rows.iter().flatten().copied()
    }
    /// The name, datatype and shape of the one tensor.
    fn tensor(&self) -> (&str, &'static str, Vec<usize>) {
        match self.entity {
            true => (&self.names[0], "INT64", vec![self.rows.len()]),
            false => ("input", "FP32", vec![self.rows.len(), self.names.len()]),
        }
    }
    fn bytes(&self) -> Vec<u8> {
        match self.entity {
            true => self.flat().flat_map(|x| (x as i64).to_le_bytes()).collect(),
            false => self.flat().flat_map(|x| (x as f32).to_le_bytes()).collect(),
        }
    }
    /// A value in JSON: keys of entities are whole numbers.
    fn value(&self, x: f64) -> Value {
        if self.entity { (x as i64).into() } else { x.into() }
    }
    fn infer(&self) -> Value {
        let (name, datatype, shape) = self.tensor();
        let data: Vec<Value> = self.flat().map(|x| self.value(x)).collect();
        json!({ "inputs": [{ "name": name, "shape": shape, "datatype": datatype, "data": data }], "outputs": [{ "name": "score" }] })
    }
    fn named(&self) -> Value {
        let row =
            |row: &Vec<f64>| -> Map<String, Value> { self.names.iter().zip(row).map(|(name, x)| (name.clone(), self.value(*x))).collect() };
        json!({ "rows": self.rows.iter().map(row).collect::<Vec<_>>() })
    }
    /// JSON that says how many bytes follow it; how long the JSON is; both.
    fn binary(&self) -> (usize, Vec<u8>) {
        let ((name, datatype, shape), bytes) = (self.tensor(), self.bytes());
        let head = json!({
            "inputs": [{ "name": name, "shape": shape, "datatype": datatype, "parameters": { "binary_data_size": bytes.len() } }],
            "outputs": [{ "name": "score", "parameters": { "binary_data": true } }],
        });
        let mut body = head.to_string().into_bytes();
        let length = body.len();
        body.extend(bytes);
        (length, body)
    }
    fn message(&self) -> Vec<u8> {
        let (name, datatype, shape) = self.tensor();
        let shape = shape.into_iter().map(|size| size as i64).collect();
        let ask = grpc::Ask {
            model_name: self.model.to_owned(),
            inputs: vec![grpc::Tensor { name: name.to_owned(), datatype: datatype.to_owned(), shape }],
            outputs: vec![grpc::Wanted { name: "score".to_owned() }],
            raw_inputs: vec![self.bytes()],
        };
        ask.encode_to_vec()
    }
}

impl Protocol {
    /// Requests for so many rows each, in their order, every row in one of them.
    pub fn requests(self, address: &Address, all: Rows, each: usize) -> Requests {
        let parts = all.rows.chunks(each).map(|rows| Rows { rows, ..all });
        if self == Protocol::Grpc {
            return Requests::Grpc(Channel { at: address.at, auth: address.auth.clone() }, parts.map(|part| part.message()).collect());
        }
        Requests::Http(address.clone(), parts.map(|part| self.request(address, part)).collect())
    }

    fn request(self, address: &Address, part: Rows) -> Vec<u8> {
        let infer = format!("/v2/models/{}/infer", part.model);
        match self {
            Protocol::Tensor | Protocol::Unread | Protocol::Grpc => address.post(&infer, &part.infer()),
            Protocol::Binary => {
                let (length, body) = part.binary();
                let kind = format!("application/octet-stream\r\nInference-Header-Content-Length: {length}");
                address.with_body("POST", &infer, &kind, &body)
            }
            Protocol::Named => address.post(&format!("/predict/{}", part.model), &part.named()),
            Protocol::Rows => address.post("/predict", &json!({ "rows": part.rows })),
            Protocol::Matrix => address.post("/invocations", &json!({ "inputs": part.rows })),
        }
    }

    /// The scores of all rows, over one connection.
    pub fn scores(self, requests: &Requests) -> Result<Vec<f64>> {
        let mut scores = Vec::new();
        match requests {
            Requests::Grpc(channel, messages) => {
                for message in messages {
                    let answer = grpc::Answer::decode(grpc::once(channel, message)?.as_slice())?;
                    scores.extend(doubles(answer.raw_outputs.first().context("there are no values")?));
                }
            }
            Requests::Http(address, requests) => {
                let mut connection = Connection::new(address);
                for request in requests {
                    let answer = connection.call(request)?;
                    if self != Protocol::Binary {
                        scores.extend(self.read(&answer.json()?)?);
                        continue;
                    }
                    if answer.status != 200 {
                        bail!("status {}: {}", answer.status, String::from_utf8_lossy(&answer.body));
                    }
                    // The values stand behind the JSON.
                    let mut parts = serde_json::Deserializer::from_slice(&answer.body).into_iter::<Value>();
                    parts.next().context("the answer is empty")??;
                    let end = parts.byte_offset();
                    scores.extend(doubles(&answer.body[end..]));
                }
            }
        }
        Ok(scores)
    }

    fn read(self, answer: &Value) -> Result<Vec<f64>> {
        let list = match self {
            Protocol::Tensor | Protocol::Binary | Protocol::Grpc => answer["outputs"][0]["data"].as_array(),
            Protocol::Named => answer["predictions"].as_array(),
            // Some give the list, some an object around it.
            Protocol::Rows => answer.as_array().or_else(|| answer["predictions"].as_array()),
            Protocol::Matrix => answer["predictions"]["probabilities"].as_array().or_else(|| answer["predictions"].as_array()),
            Protocol::Unread => None,
        };
        let list = list.with_context(|| format!("the answer has no scores: {}", shortened(answer)))?;
        let one = |value: &Value| match value {
            Value::Array(classes) => classes.get(1)?.as_f64(),
            Value::Object(row) => row.get("score").or_else(|| row.get("probabilities")?.get(1))?.as_f64(),
            value => value.as_f64(),
        };
        list.iter().map(|value| one(value).with_context(|| format!("not a score: {}", shortened(value)))).collect()
    }
}

fn shortened(value: &Value) -> String {
    value.to_string().chars().take(400).collect()
}

fn doubles(bytes: &[u8]) -> impl Iterator<Item = f64> {
    let (chunks, _) = bytes.as_chunks::<8>();
    chunks.iter().map(|chunk| f64::from_le_bytes(*chunk))
}

/// The first row whose scores differ by more than float32 can explain, if they are not the same.
pub fn differing(scores: &[f64], expected: &[f64], tolerance: f64) -> Option<String> {
    if scores.len() != expected.len() {
        return Some(format!("{} scores for {} rows", scores.len(), expected.len()));
    }
    let same = |(a, b): (&f64, &f64)| (a - b).abs() <= tolerance;
    let row = scores.iter().zip(expected).position(|pair| !same(pair))?;
    Some(format!("row {row} has {} instead of {}", scores[row], expected[row]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shape_of_an_answer_is_read() {
        let row = json!([0.25, 0.75]);
        for (protocol, answer) in [
            (Protocol::Tensor, json!({ "outputs": [{ "data": [0.75] }] })),
            (Protocol::Named, json!({ "predictions": [{ "score": 0.75, "model": "m@1" }] })),
            (Protocol::Rows, json!([0.75])),
            (Protocol::Rows, json!({ "predictions": [0.75] })),
            (Protocol::Matrix, json!({ "predictions": { "label": [1], "probabilities": [row] } })),
            (Protocol::Matrix, json!({ "predictions": [{ "label": 1, "probabilities": row }] })),
        ] {
            assert_eq!(protocol.read(&answer).unwrap(), [0.75], "{answer}");
        }
        assert!(Protocol::Rows.read(&json!({ "detail": "no" })).is_err());
        assert_eq!(doubles(&0.5f64.to_le_bytes()).collect::<Vec<_>>(), [0.5]);
    }

    #[test]
    fn differing_scores_are_named() {
        assert_eq!(differing(&[0.5, 0.25], &[0.5, 0.25], 0.0), None);
        assert!(differing(&[0.5], &[0.5, 0.25], 1.0).is_some());
        assert!(differing(&[0.5, f64::NAN], &[0.5, 0.25], 1.0).is_some_and(|why| why.starts_with("row 1")));
    }
}
