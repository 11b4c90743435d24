//! The filters of searches: MLflow's grammar, and more.
//!
//! Promises:
//! - What MLflow's server takes is taken and means the same; what it refuses is refused in its words where it can mean nothing here either.
//! - More is taken than MLflow takes: `OR`, `NOT`, parentheses, `BETWEEN`, `IN` and `IS NULL` on every field, doubled quotes.
//! - No text makes this panic, and its depth and length are limited.
//!
//! The names of attributes that leave here are the ports' names, not MLflow's: one table per noun. To add a noun: a table and a function like
//! [`experiments`].

mod lex;
mod parse;

#[cfg(test)]
mod tests;

pub(crate) use super::validate::python_quoted;
pub(crate) use lex::{Token, Word, tokens};
pub(crate) use parse::{Clause, Literal, parse};

use gristmill_kernel::tracking::filter::{Field, Filter, Op, Test, Value};
use gristmill_kernel::{Code, Fault, Result};
use parse::present_and_not;

/// The tag that makes a registered model a prompt.
pub(crate) const IS_PROMPT: &str = "mlflow.prompt.is_prompt";

/// An attribute: its name for clients, its name for the ports, whether it is a number.
pub(crate) type Attribute = (&'static str, &'static str, bool);

/// Attributes of runs.
pub(crate) const RUN_ATTRIBUTES: &[Attribute] = &[
    ("run_id", "run_id", false),
    ("run_uuid", "run_id", false),
    ("run_name", "run_name", false),
    ("run name", "run_name", false),
    ("Run name", "run_name", false),
    ("Run Name", "run_name", false),
    ("user_id", "user_id", false),
    ("status", "status", false),
    ("artifact_uri", "artifact_uri", false),
    ("start_time", "start_time", true),
    ("created", "start_time", true),
    ("Created", "start_time", true),
    ("end_time", "end_time", true),
];

/// Attributes of experiments.
pub(crate) const EXPERIMENT_ATTRIBUTES: &[Attribute] = &[
    ("name", "name", false),
    ("experiment_id", "experiment_id", false),
    ("creation_time", "creation_time", true),
    ("last_update_time", "last_update_time", true),
];

/// Attributes of registered models.
pub(crate) const MODEL_ATTRIBUTES: &[Attribute] = &[
    ("name", "name", false),
    ("creation_timestamp", "creation_timestamp", true),
    ("last_updated_timestamp", "last_updated_timestamp", true),
];

/// Attributes of versions of registered models.
pub(crate) const VERSION_ATTRIBUTES: &[Attribute] = &[
    ("name", "name", false),
    ("version_number", "version_number", true),
    ("run_id", "run_id", false),
    ("source_path", "source_path", false),
    ("creation_timestamp", "creation_timestamp", true),
    ("last_updated_timestamp", "last_updated_timestamp", true),
];

/// Attributes of logged models.
pub(crate) const LOGGED_MODEL_ATTRIBUTES: &[Attribute] = &[
    ("name", "name", false),
    ("model_id", "model_id", false),
    ("model_type", "model_type", false),
    ("status", "status", false),
    ("source_run_id", "source_run_id", false),
    ("creation_timestamp", "creation_timestamp", true),
    ("creation_time", "creation_timestamp", true),
    ("creation_timestamp_ms", "creation_timestamp", true),
    ("last_updated_timestamp", "last_updated_timestamp", true),
    ("last_updated_time", "last_updated_timestamp", true),
    ("last_updated_timestamp_ms", "last_updated_timestamp", true),
];

/// Attributes of evaluation datasets.
pub(crate) const EVALUATION_DATASET_ATTRIBUTES: &[Attribute] = &[
    ("name", "name", false),
    ("created_time", "created_time", true),
    ("last_update_time", "last_update_time", true),
    ("created_by", "created_by", false),
    ("last_updated_by", "last_updated_by", false),
];

/// The filter of a search for evaluation datasets.
pub(crate) fn evaluation_datasets(text: &str) -> Result<Filter> {
    parse(text, &|clause| test(&tagged_field(&clause.entity, &clause.key, EVALUATION_DATASET_ATTRIBUTES)?, &clause).map(Filter::Test))
}

/// The filter of a search for runs.
pub(crate) fn runs(text: &str) -> Result<Filter> {
    parse(text, &|clause| {
        let field = run_field(&clause.entity, &clause.key, RUN_ATTRIBUTES)?;
        let test = test(&field, &clause)?;
        // A figure that is not a number differs from every number.
        if let (Field::Metric(_), Op::NotEqual(value)) = (&field.field, &test.op) {
            return Ok(present_and_not(Filter::Test(Test { op: Op::Equal(value.clone()), ..test })));
        }
        Ok(Filter::Test(test))
    })
}

/// The filter of a search for experiments.
pub(crate) fn experiments(text: &str) -> Result<Filter> {
    parse(text, &|clause| {
        let field = tagged_field(&clause.entity, &clause.key, EXPERIMENT_ATTRIBUTES)?;
        let mut test = test(&field, &clause)?;
        if field.field == Field::Attribute("experiment_id".into()) {
            test.op = experiment_ids(test.op)?;
        }
        Ok(Filter::Test(test))
    })
}

/// The filter of a search for registered models. Prompts are registered models too, but are shown only to who asks for them.
pub(crate) fn registered_models(text: &str) -> Result<Filter> {
    without_prompts(parse(text, &|clause| tagged(&clause, MODEL_ATTRIBUTES))?)
}

/// The filter of a search for versions of registered models; those of prompts are shown only to who asks for them.
pub(crate) fn model_versions(text: &str) -> Result<Filter> {
    without_prompts(parse(text, &|clause| tagged(&clause, VERSION_ATTRIBUTES))?)
}

/// A dataset that figures were measured on: its name, and its digest if that matters.
pub(crate) type On = (String, Option<String>);

/// The filter of a search for logged models. With datasets, it holds for what was measured on one of them.
pub(crate) fn logged_models(text: &str, datasets: &[On]) -> Result<Filter> {
    let speaks_of_metrics = std::cell::Cell::new(false);
    let filter = parse(text, &|clause| {
        let known = run_field(&clause.entity, &clause.key, LOGGED_MODEL_ATTRIBUTES)?;
        let test = test(&known, &clause)?;
        match &known.field {
            Field::Dataset(_) => Err(bad("Invalid entity type: 'dataset'. Expected one of ['attributes', 'metrics', 'params', 'tags'].")),
            Field::Metric(key) if !datasets.is_empty() => {
                speaks_of_metrics.set(true);
                let on = |dataset: &On| Filter::Test(Test { field: Field::MetricOn(key.clone(), dataset.clone()), ..test.clone() });
                Ok(Filter::Any(datasets.iter().map(on).collect()))
            }
            _ => Ok(Filter::Test(test)),
        }
    })?;
    if datasets.is_empty() || speaks_of_metrics.get() {
        return Ok(filter);
    }
    Ok(Filter::All(vec![filter, Filter::Any(datasets.iter().map(measured_on).collect())]))
}

/// Holds for what has any figure on a dataset.
fn measured_on((name, digest): &On) -> Filter {
    let is = |key: &str, text: &str| {
        Filter::Test(Test { field: Field::Dataset(key.into()), op: Op::Equal(Value::Text(text.into())), or_absent: false })
    };
    match digest {
        None => is("name", name),
        Some(digest) => Filter::All(vec![is("name", name), is("digest", digest)]),
    }
}

/// A field, with what messages need to know of it.
pub(crate) struct Known {
    /// The field, by its name for the ports.
    pub field: Field,
    /// Whether it is a number.
    pub numeric: bool,
    /// Its name for clients.
    pub name: String,
}

/// A field of runs or logged models.
pub(crate) fn run_field(entity: &Option<String>, key: &str, attributes: &[Attribute]) -> Result<Known> {
    let known = |field: Field, numeric| Ok(Known { field, numeric, name: key.to_owned() });
    match entity.as_deref() {
        Some("metric" | "metrics") => known(Field::Metric(key.into()), true),
        Some("param" | "params" | "parameter" | "parameters") => known(Field::Param(key.into()), false),
        Some("tag" | "tags") => known(Field::Tag(key.into()), false),
        Some("dataset" | "datasets") if ["name", "digest", "context"].contains(&key) => known(Field::Dataset(key.into()), false),
        Some("dataset" | "datasets") => {
            Err(bad(format!("Invalid dataset key '{key}' specified. Valid keys are '['name', 'digest', 'context']'")))
        }
        None | Some("attribute" | "attributes" | "attr" | "run") => attribute(key, attributes),
        Some(other) => {
            Err(bad(format!("Invalid entity type '{other}'. Valid values are ['metric', 'parameter', 'tag', 'attribute', 'dataset']")))
        }
    }
}

/// A field of something that has attributes and tags.
pub(crate) fn tagged_field(entity: &Option<String>, key: &str, attributes: &[Attribute]) -> Result<Known> {
    match entity.as_deref() {
        Some("tag" | "tags") => Ok(Known { field: Field::Tag(key.into()), numeric: false, name: key.to_owned() }),
        None | Some("attribute") => attribute(key, attributes),
        Some(other) => Err(bad(format!("Invalid entity type '{other}'. Valid entity types are ('attribute', 'tag', 'tags')"))),
    }
}

fn attribute(key: &str, attributes: &[Attribute]) -> Result<Known> {
    match attributes.iter().find(|(name, _, _)| *name == key) {
        Some((_, canonical, numeric)) => {
            Ok(Known { field: Field::Attribute((*canonical).into()), numeric: *numeric, name: key.to_owned() })
        }
        None => {
            let valid: Vec<String> = attributes.iter().map(|(name, _, _)| format!("'{name}'")).collect();
            Err(bad(format!("Invalid attribute key '{key}' specified. Valid keys are '{{{}}}'", valid.join(", "))))
        }
    }
}

fn tagged(clause: &Clause, attributes: &[Attribute]) -> Result<Filter> {
    let field = tagged_field(&clause.entity, &clause.key, attributes)?;
    let test = test(&field, clause)?;
    if field.field != Field::Tag(IS_PROMPT.into()) {
        return Ok(Filter::Test(test));
    }
    // The tag says yes or is not there: `= 'false'` is `!= 'true'`.
    let says = |value: &Value, word: &str| matches!(value, Value::Text(text) if text.eq_ignore_ascii_case(word));
    let asks = match &test.op {
        Op::Equal(value) => says(value, "true"),
        Op::NotEqual(value) => says(value, "false"),
        _ => return Ok(Filter::Test(test)),
    };
    Ok(if asks { is_prompt() } else { is_no_prompt() })
}

fn is_prompt() -> Filter {
    Filter::Test(Test { field: Field::Tag(IS_PROMPT.into()), op: Op::Equal(Value::Text("true".into())), or_absent: false })
}

fn is_no_prompt() -> Filter {
    Filter::Test(Test { field: Field::Tag(IS_PROMPT.into()), op: Op::NotEqual(Value::Text("true".into())), or_absent: true })
}

/// Leaves out prompts unless the filter speaks of them.
fn without_prompts(filter: Filter) -> Result<Filter> {
    fn speaks_of_prompts(filter: &Filter) -> bool {
        match filter {
            Filter::All(parts) | Filter::Any(parts) => parts.iter().any(speaks_of_prompts),
            Filter::Not(part) => speaks_of_prompts(part),
            Filter::Test(test) => test.field == Field::Tag(IS_PROMPT.into()),
        }
    }
    if speaks_of_prompts(&filter) {
        return Ok(filter);
    }
    Ok(match filter {
        Filter::All(mut parts) => {
            parts.push(is_no_prompt());
            Filter::All(parts)
        }
        other => Filter::All(vec![other, is_no_prompt()]),
    })
}

/// A comparison of a field.
pub(crate) fn test(known: &Known, clause: &Clause) -> Result<Test> {
    let op = if known.numeric { numeric_op(known, clause)? } else { text_op(known, clause)? };
    Ok(Test { field: known.field.clone(), op, or_absent: false })
}

fn numeric_op(known: &Known, clause: &Clause) -> Result<Op> {
    let number = |literal: &Literal| match literal {
        Literal::Number(number, _) => Ok(Value::Number(*number)),
        // Versions are texts on the wire, so clients quote them.
        Literal::Text(text) if known.name == "version_number" => match text.trim().parse::<i64>() {
            Ok(number) => Ok(Value::Number(number as f64)),
            Err(_) => Err(bad(format!("Invalid value for numeric attribute '{}': {}", known.name, literal.raw()))),
        },
        other if matches!(known.field, Field::Metric(_)) => {
            Err(bad(format!("Expected numeric value type for metric. Found {}", other.raw())))
        }
        other => Err(bad(format!("Expected numeric value type for numeric attribute: {}. Found {}", known.name, other.raw()))),
    };
    let numbers = || clause.values.iter().map(number).collect::<Result<Vec<_>>>();
    Ok(match (clause.comparator.as_str(), clause.values.as_slice()) {
        ("=", [value]) => Op::Equal(number(value)?),
        ("!=", [value]) => Op::NotEqual(number(value)?),
        ("<", [value]) => Op::Less(number(value)?),
        ("<=", [value]) => Op::LessOrEqual(number(value)?),
        (">", [value]) => Op::Greater(number(value)?),
        (">=", [value]) => Op::GreaterOrEqual(number(value)?),
        ("BETWEEN", [low, high]) => Op::Between(number(low)?, number(high)?),
        ("IN", _) => Op::In(numbers()?),
        ("NOT IN", _) => Op::NotIn(numbers()?),
        ("IS NULL", _) => Op::IsNull,
        ("IS NOT NULL", _) => Op::IsNotNull,
        (other, _) => return Err(bad_comparator(other, "'=', '!=', '<', '<=', '>', '>='")),
    })
}

fn text_op(known: &Known, clause: &Clause) -> Result<Op> {
    let text = |literal: &Literal| match literal {
        Literal::Text(text) => Ok(text.clone()),
        Literal::Bare(raw) => Err(bad(format!(
            "Parameter value is either not quoted or unidentified quote types used for string value {raw}. \
             Use either single or double quotes."
        ))),
        other => Err(bad(match &known.field {
            Field::Param(_) => format!("Expected a quoted string value for parameter (e.g. 'my-value'). Got value {}", other.raw()),
            Field::Tag(_) => format!("Expected a quoted string value for tag (e.g. 'my-value'). Got value {}", other.raw()),
            Field::Dataset(_) => format!("Expected a quoted string value for dataset attributes. Got value {}", other.raw()),
            _ => format!("Expected a quoted string value for attributes. Got value {}", other.raw()),
        })),
    };
    let value = |literal: &Literal| text(literal).map(Value::Text);
    let listed = |literal: &Literal| match literal {
        Literal::Text(text) => Ok(Value::Text(text.clone())),
        other => Err(bad(format!(
            "While parsing a list in the query, expected string value, punctuation, or whitespace, but got different type in list: {}",
            other.raw()
        ))),
    };
    let list = || clause.values.iter().map(listed).collect::<Result<Vec<_>>>();
    Ok(match (clause.comparator.as_str(), clause.values.as_slice()) {
        ("=", [one]) => Op::Equal(value(one)?),
        ("!=", [one]) => Op::NotEqual(value(one)?),
        ("LIKE", [one]) => Op::Like(text(one)?),
        ("ILIKE", [one]) => Op::ILike(text(one)?),
        ("IN", _) => Op::In(list()?),
        ("NOT IN", _) => Op::NotIn(list()?),
        ("IS NULL", _) => Op::IsNull,
        ("IS NOT NULL", _) => Op::IsNotNull,
        (other, values) => {
            // A value of the wrong kind is the nearer mistake.
            values.iter().try_for_each(|literal| text(literal).map(drop))?;
            return Err(bad_comparator(other, "'=', '!=', 'LIKE', 'ILIKE', 'IN', 'NOT IN', 'IS NULL', 'IS NOT NULL'"));
        }
    })
}

/// Ids of experiments are written as texts and are numbers.
fn experiment_ids(op: Op) -> Result<Op> {
    let id = |value: Value| match value {
        Value::Text(text) => Ok(Value::Number(super::validate::experiment_id(&text)?.0 as f64)),
        number => Ok(number),
    };
    Ok(match op {
        Op::Equal(value) => Op::Equal(id(value)?),
        Op::NotEqual(value) => Op::NotEqual(id(value)?),
        Op::In(values) => Op::In(values.into_iter().map(id).collect::<Result<_>>()?),
        Op::NotIn(values) => Op::NotIn(values.into_iter().map(id).collect::<Result<_>>()?),
        op @ (Op::IsNull | Op::IsNotNull) => op,
        _ => return Err(bad("Invalid comparator for experiment_id: use =, !=, IN or NOT IN")),
    })
}

fn bad_comparator(comparator: &str, valid: &str) -> Fault {
    bad(format!("Invalid comparator '{comparator}' not one of '{{{valid}}}'"))
}

/// A filter or order that cannot be read.
pub(crate) fn bad(message: impl Into<String>) -> Fault {
    Fault::invalid(Code::BAD_FILTER, message)
}

/// A part of a filter that is no comparison.
pub(crate) fn invalid_clause(raw: &str) -> Fault {
    bad(format!("Invalid clause(s) in filter string: '{raw}'"))
        .fix("write comparisons such as metrics.auc > 0.8 AND params.model = 'gbdt'; names with other characters go in backticks")
}
