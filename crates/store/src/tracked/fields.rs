//! What a search looks at: the values that each kind of thing has under a field, and the check of a search before it is answered.
//!
//! This is the meaning that every implementation is held to (`Filter::holds` over these values); a database translates the same words.

use super::{CONTEXT_TAG, TESTS_MAX};
use gristmill_kernel::tracking::filter::{Field, Fields, Filter, Op, OrderBy, Test, Value};
use gristmill_kernel::tracking::{Experiment, LoggedModel, LoggedModelStatus, Point, Search, TrackedRun};
use gristmill_kernel::{Code, Fault, Result, RunId, RunStatus, Timestamp};
use std::cmp::Ordering;

/// The kinds of things that are searched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Searched {
    Runs,
    Experiments,
    Models,
}

/// An attribute: its one name and whether it is a number.
type Attribute = (&'static str, bool);

const RUN: &[Attribute] = &[
    ("run_id", false),
    ("run_name", false),
    ("user_id", false),
    ("status", false),
    ("artifact_uri", false),
    ("start_time", true),
    ("end_time", true),
    ("experiment_id", true),
    ("lifecycle_stage", false),
];
const EXPERIMENT: &[Attribute] = &[
    ("name", false),
    ("experiment_id", true),
    ("artifact_location", false),
    ("creation_time", true),
    ("last_update_time", true),
    ("lifecycle_stage", false),
];
const MODEL: &[Attribute] = &[
    ("name", false),
    ("model_id", false),
    ("model_type", false),
    ("status", false),
    ("status_message", false),
    ("source_run_id", false),
    ("experiment_id", true),
    ("creation_timestamp", true),
    ("last_updated_timestamp", true),
    ("lifecycle_stage", false),
];

impl Searched {
    fn attributes(self) -> &'static [Attribute] {
        match self {
            Searched::Runs => RUN,
            Searched::Experiments => EXPERIMENT,
            Searched::Models => MODEL,
        }
    }
    fn word(self) -> &'static str {
        match self {
            Searched::Runs => "runs",
            Searched::Experiments => "experiments",
            Searched::Models => "logged models",
        }
    }
    /// Other names that clients use.
    fn canonical(self, name: &str) -> &str {
        match (self, name) {
            (Searched::Runs, "created" | "Created") => "start_time",
            (Searched::Runs, "run name" | "Run name" | "Run Name") => "run_name",
            (Searched::Models, "creation_time" | "creation_timestamp_ms") => "creation_timestamp",
            (Searched::Models, "last_updated_time" | "last_updated_timestamp_ms") => "last_updated_timestamp",
            (_, other) => other,
        }
    }
    /// The field by its one name and whether its values are numbers; what this kind of thing does not have is refused.
    fn known(self, field: &Field) -> Result<(Field, bool)> {
        let bad = |what: String, fix: String| Err(Fault::invalid(Code::BAD_FILTER, what).fix(fix));
        match field {
            Field::Attribute(name) => {
                let name = self.canonical(name);
                match self.attributes().iter().find(|(known, _)| *known == name) {
                    Some((known, number)) => Ok((Field::Attribute((*known).to_owned()), *number)),
                    None => {
                        let known: Vec<&str> = self.attributes().iter().map(|(known, _)| *known).collect();
                        bad(format!("{} have no attribute `{name}`", self.word()), format!("attributes are {}", known.join(", ")))
                    }
                }
            }
            Field::Tag(_) => Ok((field.clone(), false)),
            Field::Param(_) if self != Searched::Experiments => Ok((field.clone(), false)),
            Field::Metric(_) if self != Searched::Experiments => Ok((field.clone(), true)),
            Field::MetricOn(..) if self == Searched::Models => Ok((field.clone(), true)),
            Field::Dataset(key) if self == Searched::Runs && matches!(key.as_str(), "name" | "digest" | "context") => {
                Ok((field.clone(), false))
            }
            Field::Dataset(key) if self == Searched::Models && matches!(key.as_str(), "name" | "digest") => Ok((field.clone(), false)),
            Field::Dataset(_) if self != Searched::Experiments => {
                bad(format!("`{field:?}` is not known of {}", self.word()), "of datasets, ask for name, digest or context".into())
            }
            other => bad(format!("{} have no {other:?}", self.word()), "ask for attributes and tags".into()),
        }
    }
}

/// The search with every field under its one name and numbers where numbers are compared.
pub(crate) fn checked(kind: Searched, search: &Search) -> Result<Search> {
    let mut tests = 0;
    let filter = checked_filter(kind, &search.filter, &mut tests)?;
    let order = search.order.iter().map(|key| checked_order(kind, key)).collect::<Result<Vec<OrderBy>>>()?;
    Ok(Search { filter, order, ..search.clone() })
}

fn checked_order(kind: Searched, key: &OrderBy) -> Result<OrderBy> {
    let (field, _) = kind.known(&key.field)?;
    if matches!(field, Field::Dataset(_)) {
        return Err(Fault::invalid(Code::BAD_FILTER, "datasets have no order").fix("order by an attribute, a metric, a parameter or a tag"));
    }
    Ok(OrderBy { field, ..key.clone() })
}

fn checked_filter(kind: Searched, filter: &Filter, tests: &mut usize) -> Result<Filter> {
    *tests += 1;
    if *tests > TESTS_MAX {
        return Err(
            Fault::invalid(Code::BAD_FILTER, format!("a filter has at most {TESTS_MAX} comparisons")).fix("search in several steps")
        );
    }
    Ok(match filter {
        Filter::All(parts) => Filter::All(parts.iter().map(|p| checked_filter(kind, p, tests)).collect::<Result<_>>()?),
        Filter::Any(parts) => Filter::Any(parts.iter().map(|p| checked_filter(kind, p, tests)).collect::<Result<_>>()?),
        Filter::Not(part) => Filter::Not(Box::new(checked_filter(kind, part, tests)?)),
        Filter::Test(test) => {
            let (field, number) = kind.known(&test.field)?;
            Filter::Test(Test { field, op: if number { numeric(&test.op) } else { test.op.clone() }, or_absent: test.or_absent })
        }
    })
}

/// Texts that are compared with numbers become numbers where they can.
fn numeric(op: &Op) -> Op {
    let read = |value: &Value| match value {
        Value::Text(text) => text.trim().parse().map_or_else(|_| value.clone(), Value::Number),
        Value::Number(_) => value.clone(),
    };
    match op {
        Op::Equal(v) => Op::Equal(read(v)),
        Op::NotEqual(v) => Op::NotEqual(read(v)),
        Op::Less(v) => Op::Less(read(v)),
        Op::LessOrEqual(v) => Op::LessOrEqual(read(v)),
        Op::Greater(v) => Op::Greater(read(v)),
        Op::GreaterOrEqual(v) => Op::GreaterOrEqual(read(v)),
        Op::In(values) => Op::In(values.iter().map(read).collect()),
        Op::NotIn(values) => Op::NotIn(values.iter().map(read).collect()),
        Op::Between(low, high) => Op::Between(read(low), read(high)),
        other => other.clone(),
    }
}

/// A run's state in the words of the protocol's clients.
pub(crate) fn status_word(status: RunStatus) -> &'static str {
    match status {
        RunStatus::Queued => "SCHEDULED",
        RunStatus::Running => "RUNNING",
        RunStatus::Succeeded | RunStatus::Skipped => "FINISHED",
        RunStatus::Failed => "FAILED",
        RunStatus::Cancelled => "KILLED",
    }
}

/// A logged model's state, likewise.
pub(crate) fn model_status_word(status: LoggedModelStatus) -> &'static str {
    match status {
        LoggedModelStatus::Pending => "PENDING",
        LoggedModelStatus::Ready => "READY",
        LoggedModelStatus::Failed => "FAILED",
    }
}

/// The model state of a word.
pub(crate) fn model_status(word: &str) -> Option<LoggedModelStatus> {
    [LoggedModelStatus::Pending, LoggedModelStatus::Ready, LoggedModelStatus::Failed].into_iter().find(|s| model_status_word(*s) == word)
}

fn text(text: &str) -> Vec<Value> {
    vec![Value::Text(text.to_owned())]
}
fn maybe(words: Option<&str>) -> Vec<Value> {
    words.map(text).unwrap_or_default()
}
fn moment(at: Option<Timestamp>) -> Vec<Value> {
    at.map(|at| Value::Number(at.millis() as f64)).into_iter().collect()
}

/// A run with what it does not carry itself.
pub(crate) struct RunFields<'a> {
    pub run: &'a TrackedRun,
    /// Where artifacts of its experiment begin.
    pub location: &'a str,
}

impl Fields for RunFields<'_> {
    fn values(&self, field: &Field) -> Vec<Value> {
        let run = self.run;
        match field {
            Field::Attribute(name) => match name.as_str() {
                "run_id" => text(&run.id.0),
                "run_name" => text(&run.name),
                "user_id" => text(&run.user),
                "status" => text(status_word(run.status)),
                "artifact_uri" => text(&format!("{}/{}/artifacts", self.location, run.id)),
                "start_time" => moment(run.started_at),
                "end_time" => moment(run.ended_at),
                "experiment_id" => vec![Value::Number(run.experiment.0 as f64)],
                "lifecycle_stage" => text(run.lifecycle.as_str()),
                _ => Vec::new(),
            },
            Field::Metric(key) => run.metrics.iter().filter(|p| p.key == *key).map(|p| Value::Number(p.value)).collect(),
            Field::MetricOn(..) => Vec::new(),
            Field::Param(key) => maybe(run.params.get(key).map(String::as_str)),
            Field::Tag(key) => maybe(run.tags.get(key).map(String::as_str)),
            Field::Dataset(key) => {
                let told = run.datasets.iter().filter_map(|input| match key.as_str() {
                    "name" => Some(&input.dataset.key.name),
                    "digest" => Some(&input.dataset.key.digest),
                    "context" => input.tags.iter().find(|(name, _)| name == CONTEXT_TAG).map(|(_, value)| value),
                    _ => None,
                });
                told.map(|word| Value::Text(word.clone())).collect()
            }
        }
    }
}

pub(crate) struct ExperimentFields<'a>(pub &'a Experiment);

impl Fields for ExperimentFields<'_> {
    fn values(&self, field: &Field) -> Vec<Value> {
        let experiment = self.0;
        match field {
            Field::Attribute(name) => match name.as_str() {
                "name" => text(&experiment.name),
                "experiment_id" => vec![Value::Number(experiment.id.0 as f64)],
                "artifact_location" => text(&experiment.artifact_location),
                "creation_time" => moment(Some(experiment.created_at)),
                "last_update_time" => moment(Some(experiment.updated_at)),
                "lifecycle_stage" => text(experiment.lifecycle.as_str()),
                _ => Vec::new(),
            },
            Field::Tag(key) => maybe(experiment.tags.get(key).map(String::as_str)),
            _ => Vec::new(),
        }
    }
}

pub(crate) struct ModelFields<'a>(pub &'a LoggedModel);

impl ModelFields<'_> {
    fn points<'p>(&'p self, key: &'p str, on: Option<&'p (String, Option<String>)>) -> impl Iterator<Item = &'p (Point, RunId)> {
        self.0.metrics.iter().filter(move |(point, _)| point.key == key && on.is_none_or(|on| is_on(point, on)))
    }
}

/// Whether a point was measured on a dataset.
fn is_on(point: &Point, (name, digest): &(String, Option<String>)) -> bool {
    point.dataset.as_ref().is_some_and(|on| on.name == *name && digest.as_ref().is_none_or(|digest| on.digest == *digest))
}

impl Fields for ModelFields<'_> {
    fn values(&self, field: &Field) -> Vec<Value> {
        let model = self.0;
        match field {
            Field::Attribute(name) => match name.as_str() {
                "name" => text(&model.name),
                "model_id" => text(&model.id),
                "model_type" => maybe(model.model_type.as_deref()),
                "status" => text(model_status_word(model.status)),
                "status_message" => maybe(model.status_message.as_deref()),
                "source_run_id" => maybe(model.source_run.as_ref().map(|id| id.0.as_str())),
                "experiment_id" => vec![Value::Number(model.experiment.0 as f64)],
                "creation_timestamp" => moment(Some(model.created_at)),
                "last_updated_timestamp" => moment(Some(model.updated_at)),
                "lifecycle_stage" => text(model.lifecycle.as_str()),
                _ => Vec::new(),
            },
            Field::Metric(key) => self.points(key, None).map(|(point, _)| Value::Number(point.value)).collect(),
            Field::MetricOn(key, on) => self.points(key, Some(on)).map(|(point, _)| Value::Number(point.value)).collect(),
            Field::Param(key) => maybe(model.params.get(key).map(String::as_str)),
            Field::Tag(key) => maybe(model.tags.get(key).map(String::as_str)),
            Field::Dataset(key) => {
                let told = model.metrics.iter().filter_map(|(point, _)| point.dataset.as_ref());
                let told = told.filter_map(|on| match key.as_str() {
                    "name" => Some(&on.name),
                    "digest" => Some(&on.digest),
                    _ => None,
                });
                told.map(|word| Value::Text(word.clone())).collect()
            }
        }
    }
}

/// What a thing is ordered by: one value, or none.
pub(crate) trait Ordered: Fields {
    fn key(&self, order: &OrderBy) -> Option<Value>;
}

/// Things are ordered by microseconds, whatever clients see.
fn exact(at: Timestamp) -> Option<Value> {
    Some(Value::Number(at.micros() as f64))
}

fn attribute(order: &OrderBy) -> Option<&str> {
    if let Field::Attribute(name) = &order.field { Some(name) } else { None }
}

impl Ordered for RunFields<'_> {
    fn key(&self, order: &OrderBy) -> Option<Value> {
        match attribute(order) {
            Some("start_time") => self.run.started_at.and_then(exact),
            Some("end_time") => self.run.ended_at.and_then(exact),
            _ => self.values(&order.field).into_iter().next(),
        }
    }
}
impl Ordered for ExperimentFields<'_> {
    fn key(&self, order: &OrderBy) -> Option<Value> {
        match attribute(order) {
            Some("creation_time") => exact(self.0.created_at),
            Some("last_update_time") => exact(self.0.updated_at),
            _ => self.values(&order.field).into_iter().next(),
        }
    }
}
impl Ordered for ModelFields<'_> {
    /// Of a metric, the newest point: by moment, then step, then the smallest run id, then the greatest value.
    fn key(&self, order: &OrderBy) -> Option<Value> {
        let (key, on) = match &order.field {
            Field::Metric(key) => (key, order.dataset.as_ref()),
            Field::MetricOn(key, on) => (key, Some(on)),
            other => {
                return match attribute(order) {
                    Some("creation_timestamp") => exact(self.0.created_at),
                    Some("last_updated_timestamp") => exact(self.0.updated_at),
                    _ => self.values(other).into_iter().next(),
                };
            }
        };
        let rank = |point: &Point| if point.value.is_nan() { (0.0, false) } else { (point.value, true) };
        let newest = self.points(key, on).max_by(|(a, by), (b, other)| {
            (a.at, a.step).cmp(&(b.at, b.step)).then_with(|| other.cmp(by)).then_with(|| {
                let (a, b) = (rank(a), rank(b));
                a.0.total_cmp(&b.0).then(a.1.cmp(&b.1))
            })
        });
        newest.map(|(point, _)| Value::Number(point.value))
    }
}

/// The order of two things; what is absent or NaN comes last, whichever the direction.
pub(crate) fn compare(order: &[OrderBy], a: &dyn Ordered, b: &dyn Ordered) -> Ordering {
    let present = |value: Option<Value>| value.filter(|v| !matches!(v, Value::Number(n) if n.is_nan()));
    for key in order {
        let by = match (present(a.key(key)), present(b.key(key))) {
            (None, None) => Ordering::Equal,
            (None, Some(_)) => Ordering::Greater,
            (Some(_), None) => Ordering::Less,
            (Some(a), Some(b)) => {
                let by = a.compare(&b).unwrap_or(Ordering::Equal);
                if key.ascending { by } else { by.reverse() }
            }
        };
        if by.is_ne() {
            return by;
        }
    }
    Ordering::Equal
}
