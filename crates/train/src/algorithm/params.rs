//! The parameters of an algorithm: what may be written, within which bounds, and what stands when nothing is.

use super::Algorithm;
use crate::spec::Range;
use gristmill_kernel::error::{Code, Fault, Result};
use serde_json::Value;
use std::collections::BTreeMap;

/// One parameter.
#[derive(Debug)]
pub struct Param {
    /// The word.
    pub name: &'static str,
    /// What it may be, and what it is when nothing is written.
    pub kind: Kind,
    /// One sentence for people.
    pub about: &'static str,
}

/// What a parameter may be.
#[derive(Debug, Clone, Copy)]
pub enum Kind {
    /// A whole number within bounds.
    Int {
        /// Lowest.
        low: i64,
        /// Highest.
        high: i64,
        /// When nothing is written; `None` leaves it open.
        default: Option<i64>,
    },
    /// A number within bounds.
    Float {
        /// Lowest.
        low: f64,
        /// Highest.
        high: f64,
        /// When nothing is written; `None` leaves it open.
        default: Option<f64>,
    },
    /// True or false.
    Bool {
        /// When nothing is written.
        default: bool,
    },
    /// One of these words; the first when nothing is written.
    Word(&'static [&'static str]),
}

/// The parameters of one fit, checked and complete.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Params(BTreeMap<&'static str, Value>);

impl Params {
    /// Checks what was written against what the algorithm knows and fills in the rest.
    pub fn new(algorithm: &Algorithm, written: &BTreeMap<String, Value>) -> Result<Params> {
        for name in written.keys() {
            known(algorithm, name)?;
        }
        let mut out = BTreeMap::new();
        for param in algorithm.params {
            let value = match written.get(param.name) {
                Some(value) => Some(param.take(algorithm, value)?),
                None => param.default(),
            };
            if let Some(value) = value {
                out.insert(param.name, value);
            }
        }
        Ok(Params(out))
    }

    /// A number that has a default.
    pub fn float(&self, name: &str) -> f64 {
        self.0.get(name).and_then(Value::as_f64).unwrap_or(f64::NAN)
    }
    /// A whole number, if there is one.
    pub fn int(&self, name: &str) -> Option<i64> {
        self.0.get(name).and_then(Value::as_i64)
    }
    /// A number, if there is one.
    pub fn number(&self, name: &str) -> Option<f64> {
        self.0.get(name).and_then(Value::as_f64)
    }
    /// A truth value.
    pub fn bool(&self, name: &str) -> bool {
        self.0.get(name).and_then(Value::as_bool).unwrap_or(false)
    }
    /// A word.
    pub fn word(&self, name: &str) -> &str {
        self.0.get(name).and_then(Value::as_str).unwrap_or_default()
    }
    /// Names and values as text, for the ledger.
    pub fn texts(&self) -> BTreeMap<String, String> {
        self.0.iter().map(|(k, v)| ((*k).to_owned(), v.as_str().map_or_else(|| v.to_string(), str::to_owned))).collect()
    }
}

/// The parameter of a name, or the list of those there are.
pub fn known<'a>(algorithm: &'a Algorithm, name: &str) -> Result<&'a Param> {
    algorithm.params.iter().find(|p| p.name == name).ok_or_else(|| {
        let names: Vec<&str> = algorithm.params.iter().map(|p| p.name).collect();
        let list = match names.as_slice() {
            [] => format!("`{}` has no parameters", algorithm.name),
            names => format!("parameters of `{}` are {}", algorithm.name, names.join(", ")),
        };
        let hint = algorithm.hints.iter().find(|(word, _)| *word == name).map_or(String::new(), |(_, hint)| format!("{hint}; "));
        Fault::invalid(Code::UNKNOWN_KEY, format!("`{}` has no parameter `{name}`", algorithm.name)).fix(format!("{hint}{list}"))
    })
}

/// Checks that a searched range lies within what the parameter may be.
pub fn check_range(algorithm: &Algorithm, name: &str, range: &Range) -> Result<()> {
    let param = known(algorithm, name)?;
    let ends: Vec<Value> = match range {
        Range::Int { low, high } if low <= high => vec![Value::from(*low), Value::from(*high)],
        Range::Float { low, high } if low <= high => vec![Value::from(*low), Value::from(*high)],
        Range::Choice { choices } if !choices.is_empty() => choices.clone(),
        _ => {
            return Err(Fault::invalid(Code::BAD_VALUE, format!("the search range of `{name}` is empty"))
                .fix("write \"low..high\" with low below high, or a list with at least one choice"));
        }
    };
    if matches!((range, param.kind), (Range::Float { .. }, Kind::Int { .. })) {
        return Err(Fault::invalid(Code::BAD_VALUE, format!("`{name}` is a whole number")).fix("write whole numbers: \"3..8\""));
    }
    ends.iter().try_for_each(|v| param.take(algorithm, v).map(|_| ()))
}

impl Param {
    fn default(&self) -> Option<Value> {
        match self.kind {
            Kind::Int { default, .. } => default.map(Value::from),
            Kind::Float { default, .. } => default.map(Value::from),
            Kind::Bool { default } => Some(Value::from(default)),
            Kind::Word(words) => words.first().map(|w| Value::from(*w)),
        }
    }

    fn take(&self, algorithm: &Algorithm, value: &Value) -> Result<Value> {
        let taken = match self.kind {
            Kind::Int { low, high, .. } => {
                let whole = value.as_i64().or_else(|| value.as_f64().filter(|f| f.fract() == 0.0 && f.abs() < 1e15).map(|f| f as i64));
                whole.filter(|i| (low..=high).contains(i)).map(Value::from)
            }
            Kind::Float { low, high, .. } => value.as_f64().filter(|f| (low..=high).contains(f)).map(Value::from),
            Kind::Bool { .. } => value.as_bool().map(Value::from),
            Kind::Word(words) => value.as_str().filter(|w| words.contains(w)).map(Value::from),
        };
        taken.ok_or_else(|| {
            Fault::invalid(Code::BAD_VALUE, format!("parameter `{}` of `{}` cannot be {value}", self.name, algorithm.name))
                .fix(format!("use {}", self.kind.words()))
        })
    }
}

impl Kind {
    fn words(self) -> String {
        match self {
            Kind::Int { low, high, .. } => format!("a whole number from {low} to {high}"),
            Kind::Float { low, high, .. } => format!("a number from {low} to {high}"),
            Kind::Bool { .. } => "true or false".to_owned(),
            Kind::Word(words) => format!("one of {}", words.join(", ")),
        }
    }
}
