//! `gristmill show ADDRESS`: every value of an asset and where it came from.
//!
//! Invariant: what is shown is what the stages get; secrets are masked.

use crate::project::Project;
use crate::resolve;
use crate::secrets::masked;
use crate::text::did_you_mean;
use gristmill_kernel::{Code, Fault, Name, Result};
use serde_json::Value;

/// Where a value came from.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case", tag = "from")]
pub enum Origin {
    /// It was left out.
    Default,
    /// It is written.
    File {
        /// The file.
        file: String,
        /// The line.
        line: usize,
    },
    /// An environment overrides it.
    Env {
        /// Which.
        env: String,
        /// The file.
        file: String,
        /// The line.
        line: usize,
    },
    /// It follows from other values.
    Derived,
}

impl std::fmt::Display for Origin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Origin::Default => f.write_str("default"),
            Origin::Derived => f.write_str("derived"),
            Origin::File { file, line } => write!(f, "{file}:{line}"),
            Origin::Env { env, file, line } => write!(f, "env.{env} {file}:{line}"),
        }
    }
}

/// One value.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct ShownValue {
    /// The key below the address: `rollout.every`.
    pub key: String,
    /// The value, secrets masked.
    pub value: Value,
    /// Where it came from.
    pub origin: Origin,
}

/// An address with its values.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct Shown {
    /// The address.
    pub address: String,
    /// Its values, by key.
    pub values: Vec<ShownValue>,
}

impl Shown {
    /// For people: aligned lines `key = value   # origin`.
    pub fn text(&self) -> String {
        let lines: Vec<(String, String)> = self.values.iter().map(|v| (format!("{} = {}", v.key, v.value), v.origin.to_string())).collect();
        let width = lines.iter().map(|(l, _)| l.chars().count()).max().unwrap_or(0).min(80);
        let mut text = format!("[{}]\n", self.address);
        for (line, origin) in lines {
            let pad = width.saturating_sub(line.chars().count());
            text.push_str(&format!("{line}{}  # {origin}\n", " ".repeat(pad)));
        }
        text
    }
    /// For tools.
    pub fn json(&self) -> Value {
        serde_json::json!(self)
    }
}

impl Project {
    /// The values of `sources.NAME`, `models.NAME`, `endpoints.NAME`, `features.NAME`, `labels.NAME`, `alerts`, or `project`.
    pub fn show(&self, address: &str) -> Result<Shown> {
        let kinds = ["project", "alerts", "sources", "models", "endpoints", "features", "labels"];
        let (kind, name) = address.split_once('.').unwrap_or((address, ""));
        let value = match kind {
            "project" | "alerts" if !name.is_empty() => None,
            "project" => Some(top(self)),
            "alerts" => json(&self.file.alerts),
            "sources" => named(&self.file.sources, name).and_then(json),
            "models" => named(&self.file.models, name).and_then(json),
            "endpoints" => named(&self.file.endpoints, name).and_then(json),
            "features" => named(&self.views, name).and_then(json),
            "labels" => named(&self.labels, name).and_then(json),
            _ => {
                let fault = Fault::invalid(Code::UNKNOWN_ADDRESS, format!("`{kind}` is nothing that can be shown"));
                return Err(fault.fix(did_you_mean(kind, "kinds", kinds)));
            }
        };
        let Some(value) = value else {
            let known: Vec<&str> = match kind {
                "sources" => self.file.sources.keys().map(Name::as_str).collect(),
                "models" => self.file.models.keys().map(Name::as_str).collect(),
                "endpoints" => self.file.endpoints.keys().map(Name::as_str).collect(),
                "features" => self.views.keys().map(Name::as_str).collect(),
                "labels" => self.labels.keys().map(Name::as_str).collect(),
                _ => Vec::new(),
            };
            let fault = Fault::not_found(Code::UNKNOWN_ADDRESS, format!("there is no {address}"));
            return Err(fault.fix(did_you_mean(name, kind, known)));
        };
        let mut values = Vec::new();
        flatten("", &value, &mut values);
        let prefix = if kind == "project" { String::new() } else { format!("{address}.") };
        let mut shown: Vec<ShownValue> = values
            .into_iter()
            .map(|(key, value)| {
                let origin = match kind {
                    "features" | "labels" => self.sql_origin(kind, name, &key),
                    _ => self.origin(&format!("{prefix}{key}")),
                };
                ShownValue { key, value: mask(value), origin }
            })
            .collect();
        self.derived(kind, name, &mut shown);
        Ok(Shown { address: address.to_owned(), values: shown })
    }

    fn origin(&self, path: &str) -> Origin {
        // A short form (an expectation that is a text, a rollout that is a word) stands one level above.
        let place = self.places.get(path).or_else(|| {
            let above = path.rsplit_once('.')?.0;
            self.places.get(above).filter(|p| p.value != p.key && !self.places.keys().any(|k| k.starts_with(&format!("{above}."))))
        });
        match place {
            None => Origin::Default,
            Some(place) => {
                let (file, line) = (self.text.file.clone(), self.text.line(place.value.start));
                match &place.env {
                    Some(env) => Origin::Env { env: env.clone(), file, line },
                    None => Origin::File { file, line },
                }
            }
        }
    }

    fn sql_origin(&self, kind: &str, name: &str, key: &str) -> Origin {
        let file = if kind == "features" { format!("features/{name}.sql") } else { format!("labels/{name}.sql") };
        let Some(text) = self.sql.get(&file) else { return Origin::Derived };
        let (word, end) = match key {
            "name" | "file" | "line_offset" => return Origin::Derived,
            "online" => ("serve", text.text.find("---*/").unwrap_or(0)),
            "sql" => {
                let offset = match kind {
                    "features" => named(&self.views, name).map(|v| v.line_offset),
                    _ => named(&self.labels, name).map(|l| l.line_offset),
                };
                return Origin::File { file, line: offset.unwrap_or(0) + 1 };
            }
            other => (other, text.text.find("---*/").unwrap_or(0)),
        };
        match text.word(word, 0).filter(|span| span.start < end) {
            Some(span) => Origin::File { line: text.line(span.start), file },
            None => Origin::Default,
        }
    }

    /// Values that the file leaves to others: the metric by task, the outcomes by model.
    fn derived(&self, kind: &str, name: &str, shown: &mut Vec<ShownValue>) {
        let mut add = |key: &str, value: Value| {
            if !shown.iter().any(|v| v.key == key) {
                shown.push(ShownValue { key: key.to_owned(), value, origin: Origin::Derived });
            }
        };
        if let Some(model) = named(&self.file.models, name).filter(|_| kind == "models") {
            add("measure", resolve::measure(model).into());
            if let Ok(name) = Name::new(name)
                && let Some(gate) = resolve::gate(self, &name)
            {
                add("promote_to", gate.promote_to.as_str().into());
            }
        }
        if let Some(endpoint) = named(&self.file.endpoints, name).filter(|_| kind == "endpoints")
            && let Some(outcomes) = resolve::outcomes(self, endpoint)
        {
            add("monitor.outcomes", format!("labels/{outcomes}.sql").into());
        }
        if kind == "sources"
            && let Some((_, columns)) = self.lock.sources.iter().find(|(n, _)| n.as_str() == name)
        {
            let list: Vec<String> = columns.iter().map(|c| format!("{} {}", c.name, c.kind)).collect();
            let origin = Origin::File { file: crate::lock::FILE.to_owned(), line: 1 };
            shown.push(ShownValue { key: "columns".into(), value: list.into(), origin });
        }
        shown.sort_by(|a, b| a.key.cmp(&b.key));
    }
}

fn top(project: &Project) -> Value {
    let file = &project.file;
    let or = |value: &Option<String>, default: &str| value.clone().unwrap_or_else(|| default.to_owned());
    serde_json::json!({
        "project": file.project,
        "clock": file.clock,
        "storage": or(&file.storage, ".gristmill"),
        "ledger": or(&file.ledger, "embedded"),
        "online": or(&file.online, "embedded"),
        "engine": or(&file.engine, "embedded"),
    })
}

fn named<'a, T>(map: &'a std::collections::BTreeMap<Name, T>, name: &str) -> Option<&'a T> {
    map.iter().find(|(key, _)| key.as_str() == name).map(|(_, value)| value)
}

fn json(value: impl serde::Serialize) -> Option<Value> {
    serde_json::to_value(value).ok()
}

fn flatten(prefix: &str, value: &Value, out: &mut Vec<(String, Value)>) {
    let below = |key: &str| if prefix.is_empty() { key.to_owned() } else { format!("{prefix}.{key}") };
    match value {
        Value::Object(map) if !map.is_empty() => map.iter().for_each(|(key, value)| flatten(&below(key), value, out)),
        Value::Object(_) => {}
        Value::Array(list) if list.iter().any(Value::is_object) => {
            list.iter().enumerate().for_each(|(i, value)| flatten(&below(&i.to_string()), value, out));
        }
        other => out.push((prefix.to_owned(), other.clone())),
    }
}

fn mask(value: Value) -> Value {
    match value {
        Value::String(text) => masked(&text).into(),
        Value::Array(list) => list.into_iter().map(mask).collect(),
        other => other,
    }
}
