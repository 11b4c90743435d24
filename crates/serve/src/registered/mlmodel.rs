//! `MLmodel`: the file by which MLflow's client says what a model's folder holds. Read is what serving needs: the flavours with their
//! plain entries, and the columns that the signature promises.

use super::yaml::Yaml;
use std::collections::BTreeMap;

/// What an `MLmodel` file says.
#[derive(Debug, Clone, PartialEq)]
pub struct MlModel {
    /// The forms in which the model is there, by name: `lightgbm`, `python_function`.
    pub flavors: BTreeMap<String, Flavor>,
    /// What it takes.
    pub inputs: Inputs,
}

/// One form of the model: its plain entries.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Flavor(BTreeMap<String, String>);

impl Flavor {
    /// An entry, for instance `data`.
    pub fn entry(&self, key: &str) -> Option<&str> {
        self.0.get(key).map(String::as_str)
    }
}

/// What a model takes, as its signature says.
#[derive(Debug, Clone, PartialEq)]
pub enum Inputs {
    /// The signature does not say, or there is none.
    Unsaid,
    /// Named columns, in order.
    Columns(Vec<Column>),
    /// Tensors, of which only the count is of interest: columns have no names.
    Tensors(usize),
}

/// A column of a signature.
#[derive(Debug, Clone, PartialEq)]
pub struct Column {
    /// Its name; a signature without names has none.
    pub name: Option<String>,
    /// What it holds.
    pub kind: ColumnKind,
    /// Whether rows must give it.
    pub required: bool,
}

/// What a column holds.
#[derive(Debug, Clone, PartialEq)]
pub enum ColumnKind {
    Boolean,
    Number,
    Text,
    /// Something that cannot be an input here, by its name: `datetime`, `array`.
    Other(String),
}

impl MlModel {
    /// Reads the file. `Err` says what is wrong with it, as part of a sentence.
    pub fn read(bytes: &[u8]) -> Result<MlModel, String> {
        let text = std::str::from_utf8(bytes).map_err(|_| "it is not UTF-8".to_owned())?;
        let yaml = Yaml::read(text)?;
        let Some(Yaml::Table(listed)) = yaml.get("flavors") else { return Err("it lists no flavours".into()) };
        let plain = |entries: &Yaml| match entries {
            Yaml::Table(entries) => entries.iter().filter_map(|(key, value)| Some((key.clone(), value.text()?.to_owned()))).collect(),
            _ => BTreeMap::new(),
        };
        let flavors = listed.iter().map(|(name, entries)| (name.clone(), Flavor(plain(entries)))).collect();
        let inputs = match yaml.get("signature").and_then(|s| s.get("inputs")).and_then(Yaml::text) {
            Some(json) => inputs(json).map_err(|why| format!("its signature's inputs: {why}"))?,
            None => Inputs::Unsaid,
        };
        Ok(MlModel { flavors, inputs })
    }
}

fn inputs(json: &str) -> Result<Inputs, String> {
    #[derive(serde::Deserialize)]
    struct Entry {
        #[serde(rename = "type")]
        kind: serde_json::Value,
        name: Option<String>,
        required: Option<bool>,
        optional: Option<bool>,
    }
    let entries: Vec<Entry> = serde_json::from_str(json).map_err(|e| e.to_string())?;
    let tensors = entries.iter().filter(|e| e.kind == "tensor").count();
    match (entries.len(), tensors) {
        (0, _) => return Ok(Inputs::Unsaid),
        (all, tensors) if all == tensors => return Ok(Inputs::Tensors(tensors)),
        _ => {}
    }
    let column = |entry: Entry| Column {
        kind: match entry.kind.as_str() {
            Some("boolean") => ColumnKind::Boolean,
            Some("integer" | "long" | "float" | "double") => ColumnKind::Number,
            Some("string") => ColumnKind::Text,
            Some(other) => ColumnKind::Other(other.chars().take(40).collect()),
            None => ColumnKind::Other("structured".into()),
        },
        name: entry.name,
        // The client once wrote `optional` instead.
        required: entry.required.unwrap_or(!entry.optional.unwrap_or(false)),
    };
    let columns: Vec<Column> = entries.into_iter().map(column).collect();
    let mut names: Vec<&str> = columns.iter().filter_map(|c| c.name.as_deref()).collect();
    names.sort_unstable();
    match names.windows(2).find(|pair| pair[0] == pair[1]) {
        Some(pair) => Err(format!("two columns are named `{}`", pair[0].escape_debug())),
        None => Ok(Inputs::Columns(columns)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHURN: &str = r#"artifact_path: mlflow-artifacts:/1/models/m-5b1c/artifacts
env_vars: null
flavors:
  lightgbm:
    code: null
    data: model.lgb
    lgb_version: 4.6.0
    model_class: lightgbm.basic.Booster
    serialization_format: cloudpickle
    skops_trusted_types: null
  python_function:
    data: model.lgb
    env:
      conda: conda.yaml
      virtualenv: python_env.yaml
    loader_module: mlflow.lightgbm
    python_version: 3.12.3
is_signature_from_type_hint: false
mlflow_version: 3.17.2
model_id: m-5b1c
model_size_bytes: 43121
signature:
  inputs: '[{"type": "long", "name": "age", "required": true}, {"type": "double",
    "name": "monthly fee", "required": true}, {"type": "string", "name": "plan", "required":
    false}, {"type": "boolean", "name": "it''s new", "required": true}]'
  outputs: '[{"type": "tensor", "tensor-spec": {"dtype": "float64", "shape": [-1]}}]'
  params: null
type_hint_from_example: false
utc_time_created: '2026-11-21 14:03:20.120391'
"#;

    #[test]
    fn what_the_client_writes_is_read() {
        let model = MlModel::read(CHURN.as_bytes()).expect("reads");
        assert_eq!(model.flavors.keys().map(String::as_str).collect::<Vec<_>>(), ["lightgbm", "python_function"]);
        let flavor = &model.flavors["lightgbm"];
        assert_eq!((flavor.entry("data"), flavor.entry("code")), (Some("model.lgb"), None));
        let Inputs::Columns(columns) = model.inputs else { panic!("columns") };
        let seen: Vec<_> = columns.iter().map(|c| (c.name.as_deref().unwrap_or_default(), c.kind.clone(), c.required)).collect();
        assert_eq!(
            seen,
            [
                ("age", ColumnKind::Number, true),
                ("monthly fee", ColumnKind::Number, true),
                ("plan", ColumnKind::Text, false),
                ("it's new", ColumnKind::Boolean, true)
            ]
        );
    }

    #[test]
    fn signatures_of_every_kind() {
        let of = |signature: &str| MlModel::read(format!("flavors:\n  onnx:\n    data: m\nsignature:\n  inputs: {signature}\n").as_bytes());
        assert_eq!(of("null").expect("reads").inputs, Inputs::Unsaid);
        let tensor = r#"'[{"type": "tensor", "tensor-spec": {"dtype": "float32", "shape": [-1, 4]}}]'"#;
        assert_eq!(of(tensor).expect("reads").inputs, Inputs::Tensors(1));
        let odd = r#"'[{"type": "array", "items": {"type": "long"}, "name": "x"}, {"type": "datetime", "name": "y"}]'"#;
        let Inputs::Columns(columns) = of(odd).expect("reads").inputs else { panic!("columns") };
        assert_eq!(
            (columns[0].kind.clone(), columns[1].kind.clone()),
            (ColumnKind::Other("array".into()), ColumnKind::Other("datetime".into()))
        );
        assert!(of(r#"'[{"type": "long", "name": "x"}, {"type": "long", "name": "x"}]'"#).is_err());
        assert!(of("'[{'").is_err());
        assert!(MlModel::read(b"a: 1\n").is_err() && MlModel::read(b"\xff").is_err());
    }
}
