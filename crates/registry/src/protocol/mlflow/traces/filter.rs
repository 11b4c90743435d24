//! The filter and the order of a search for traces.
//!
//! Beyond MLflow: `OR`, `NOT`, parentheses, `BETWEEN`, `IN` on every text, comparisons of span attributes by their value. Differs: a tag named
//! `name` is the tag of that name, not the trace's name; feedback for a session counts for the trace it was given to.

use crate::protocol::mlflow::filter::{Clause, Known, Literal, bad, parse};
use gristmill_kernel::Result;
use gristmill_kernel::tracking::filter::{Field, Filter, Op, Test, TraceField, Value};
use gristmill_kernel::tracking::trace::key;

/// Attributes: the client's name, the port's name, whether it is a number.
const ATTRIBUTES: &[(&str, &str, bool)] = &[
    ("request_id", "request_id", false),
    ("trace_id", "request_id", false),
    ("timestamp", "timestamp_ms", true),
    ("timestamp_ms", "timestamp_ms", true),
    ("request_time", "timestamp_ms", true),
    ("execution_time", "execution_time_ms", true),
    ("execution_time_ms", "execution_time_ms", true),
    ("end_time", "end_time_ms", true),
    ("end_time_ms", "end_time_ms", true),
    ("status", "status", false),
    ("state", "status", false),
    ("client_request_id", "client_request_id", false),
];
/// What can be ordered by beside them.
const EXPERIMENT: &str = "experiment_id";
const TEXT_COMPARATORS: &[&str] = &["!=", "=", "IN", "NOT IN", "LIKE", "ILIKE", "RLIKE", "IS NULL", "IS NOT NULL"];
const NUMBER_COMPARATORS: &[&str] = &["!=", "=", "<", "<=", ">", ">=", "BETWEEN", "IS NULL", "IS NOT NULL"];
const SAID_COMPARATORS: &[&str] =
    &["!=", "=", "<", "<=", ">", ">=", "BETWEEN", "IN", "NOT IN", "LIKE", "ILIKE", "RLIKE", "IS NULL", "IS NOT NULL"];

/// How the values of a field compare.
#[derive(Clone, Copy, PartialEq)]
enum Values {
    Text,
    Number,
    /// Numbers with `<`, texts with the others.
    Said,
    /// Only `=`.
    Exact,
    /// Only patterns.
    Pattern,
}

/// Reads a filter.
pub(crate) fn traces(text: &str) -> Result<Filter> {
    parse(text, &|clause| {
        let (field, values) = field(clause.entity.as_deref(), &clause.key)?;
        let op = op(&clause, values)?;
        Ok(Filter::Test(Test { field, op, or_absent: false }))
    })
}

/// A field that a search can be ordered by.
pub(crate) fn order_field(entity: &Option<String>, name: &str) -> Result<Known> {
    let known = |field: Field, numeric| Known { field, numeric, name: name.to_owned() };
    if matches!(entity.as_deref(), None | Some("attribute" | "attributes" | "trace")) && name == EXPERIMENT {
        return Ok(known(Field::Attribute(EXPERIMENT.into()), true));
    }
    match field(entity.as_deref(), name)? {
        (Field::Trace(TraceField::Metadata(name)), _) if [key::USAGE, key::COST].contains(&name.as_str()) => {
            Err(bad(format!("Ordering by reserved metadata '{name}' is not supported because it is represented by multiple columns.")))
        }
        (field @ (Field::Attribute(_) | Field::Tag(_) | Field::Trace(TraceField::Metadata(_) | TraceField::Run)), values) => {
            Ok(known(field, values == Values::Number))
        }
        _ => Err(bad(format!("Invalid identifier type '{}'", entity.as_deref().unwrap_or("attribute")))),
    }
}

fn field(entity: Option<&str>, name: &str) -> Result<(Field, Values)> {
    let of_trace = |field: TraceField, values| Ok((Field::Trace(field), values));
    match entity {
        None | Some("attribute" | "attributes" | "trace") => match name {
            "name" => Ok((Field::Tag(key::NAME.into()), Values::Text)),
            "run_id" => of_trace(TraceField::Run, Values::Text),
            "prompt" => of_trace(TraceField::Prompt, Values::Exact),
            "text" => of_trace(TraceField::Span("content".into()), Values::Pattern),
            name => match ATTRIBUTES.iter().find(|(known, _, _)| *known == name) {
                Some((_, attribute, true)) => Ok((Field::Attribute((*attribute).into()), Values::Number)),
                Some((_, attribute, false)) => Ok((Field::Attribute((*attribute).into()), Values::Text)),
                None => {
                    let words = ATTRIBUTES.iter().map(|(known, _, _)| *known).chain(["name", "run_id", "prompt", "text"]);
                    let valid: Vec<String> = words.map(|word| format!("'{word}'")).collect();
                    Err(bad(format!("Invalid attribute key '{name}' specified. Valid keys are '{{{}}}'", valid.join(", "))))
                }
            },
        },
        Some("tag" | "tags") => Ok((Field::Tag(name.into()), Values::Text)),
        Some("metadata" | "request_metadata") if name == key::RUN => of_trace(TraceField::Run, Values::Text),
        Some("metadata" | "request_metadata") => of_trace(TraceField::Metadata(name.into()), Values::Text),
        Some("feedback") => of_trace(TraceField::Feedback(said_name(name)?), Values::Said),
        Some("expectation") => of_trace(TraceField::Expectation(said_name(name)?), Values::Said),
        Some("issue") => match name {
            "id" => of_trace(TraceField::Issue, Values::Exact),
            _ => Err(bad(format!("Invalid issue attribute '{name}'. Supported attributes: id"))),
        },
        Some("span") => match (name, name.strip_prefix("attributes.")) {
            (_, Some("")) => Err(bad("Span attribute name cannot be empty after 'attributes.'")),
            (_, Some(attribute)) => of_trace(TraceField::SpanAttribute(attribute.into()), Values::Text),
            ("name" | "type" | "status", _) => of_trace(TraceField::Span(name.into()), Values::Text),
            ("content", _) => of_trace(TraceField::Span(name.into()), Values::Pattern),
            _ => {
                Err(bad(format!("Invalid span attribute '{name}'. Supported attributes: name, status, type, attributes.<attribute_name>.")))
            }
        },
        Some(other) => Err(bad(format!(
            "Invalid entity type '{other}'. Valid values are {{'attribute', 'attributes', 'trace', 'tag', 'tags', 'metadata', \
             'request_metadata', 'span', 'feedback', 'expectation', 'issue'}}"
        ))),
    }
}

fn said_name(name: &str) -> Result<String> {
    if name.is_empty() { Err(bad("Assessment field name cannot be empty")) } else { Ok(name.to_owned()) }
}

fn op(clause: &Clause, values: Values) -> Result<Op> {
    let comparators = match values {
        Values::Text => TEXT_COMPARATORS,
        Values::Number => NUMBER_COMPARATORS,
        Values::Said => SAID_COMPARATORS,
        Values::Exact => &["="],
        Values::Pattern => &["LIKE", "ILIKE", "RLIKE"],
    };
    let comparator = clause.comparator.as_str();
    if !comparators.contains(&comparator) {
        let valid: Vec<String> = comparators.iter().map(|word| format!("'{word}'")).collect();
        return Err(bad(format!("Invalid comparator '{comparator}' not one of '{{{}}}'", valid.join(", "))));
    }
    let numeric = values == Values::Number || values == Values::Said && matches!(comparator, "<" | "<=" | ">" | ">=" | "BETWEEN");
    let value = |literal: &Literal| -> Result<Value> {
        match literal {
            Literal::Number(number, _) if numeric => Ok(Value::Number(*number)),
            other if numeric => Err(bad(format!(
                "Expected a numeric value for {} when using comparator '{comparator}'. Got value {}",
                name_of(clause),
                other.raw()
            ))),
            literal => text(literal, clause).map(Value::Text),
        }
    };
    let pattern = |literal: &Literal| text(literal, clause);
    Ok(match (comparator, clause.values.as_slice()) {
        ("=", [one]) => Op::Equal(value(one)?),
        ("!=", [one]) => Op::NotEqual(value(one)?),
        ("<", [one]) => Op::Less(value(one)?),
        ("<=", [one]) => Op::LessOrEqual(value(one)?),
        (">", [one]) => Op::Greater(value(one)?),
        (">=", [one]) => Op::GreaterOrEqual(value(one)?),
        ("BETWEEN", [low, high]) => Op::Between(value(low)?, value(high)?),
        ("LIKE", [one]) => Op::Like(pattern(one)?),
        ("ILIKE", [one]) => Op::ILike(pattern(one)?),
        ("RLIKE", [one]) => Op::RLike(pattern(one)?),
        ("IN", list) => Op::In(list.iter().map(value).collect::<Result<_>>()?),
        ("NOT IN", list) => Op::NotIn(list.iter().map(value).collect::<Result<_>>()?),
        ("IS NULL", _) => Op::IsNull,
        ("IS NOT NULL", _) => Op::IsNotNull,
        _ => return Err(bad(format!("Invalid clause(s) in filter string: '{} {comparator}'", clause.key))),
    })
}

fn name_of(clause: &Clause) -> String {
    clause.entity.clone().unwrap_or_else(|| format!("'{}'", clause.key))
}

fn text(literal: &Literal, clause: &Clause) -> Result<String> {
    match literal {
        Literal::Text(text) => Ok(text.clone()),
        other => Err(bad(format!("Expected a quoted string value for {} (e.g. 'my-value'). Got value {}", name_of(clause), other.raw()))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(text: &str) -> (Field, Op) {
        match traces(text).expect(text) {
            Filter::Test(test) => (test.field, test.op),
            other => panic!("{other:?}"),
        }
    }
    fn equal(text: &str) -> Op {
        Op::Equal(Value::Text(text.into()))
    }

    #[test]
    fn filters_are_read() {
        let attribute = |name: &str| Field::Attribute(name.into());
        for (text, field, op) in [
            ("status = 'OK'", attribute("status"), equal("OK")),
            ("attributes.status = \"OK\"", attribute("status"), equal("OK")),
            ("trace.status = 'OK'", attribute("status"), equal("OK")),
            ("timestamp > 5", attribute("timestamp_ms"), Op::Greater(Value::Number(5.0))),
            ("execution_time_ms <= 1.5", attribute("execution_time_ms"), Op::LessOrEqual(Value::Number(1.5))),
            ("name = 'a'", Field::Tag(key::NAME.into()), equal("a")),
            ("tags.`mlflow.traceName` = 'a'", Field::Tag(key::NAME.into()), equal("a")),
            ("attribute.run_id = 'r'", Field::Trace(TraceField::Run), equal("r")),
            ("metadata.mlflow.sourceRun = 'r'", Field::Trace(TraceField::Run), equal("r")),
            ("request_metadata.`mlflow.modelId` = 'm'", Field::Trace(TraceField::Metadata("mlflow.modelId".into())), equal("m")),
            ("metadata.x IS NULL", Field::Trace(TraceField::Metadata("x".into())), Op::IsNull),
            ("trace.text LIKE '%x%'", Field::Trace(TraceField::Span("content".into())), Op::Like("%x%".into())),
            ("span.type = 'LLM'", Field::Trace(TraceField::Span("type".into())), equal("LLM")),
            ("span.name RLIKE '^a'", Field::Trace(TraceField::Span("name".into())), Op::RLike("^a".into())),
            ("span.attributes.model LIKE 'g%'", Field::Trace(TraceField::SpanAttribute("model".into())), Op::Like("g%".into())),
            (
                "span.attributes.`mlflow.spanInputs` LIKE 'g%'",
                Field::Trace(TraceField::SpanAttribute("mlflow.spanInputs".into())),
                Op::Like("g%".into()),
            ),
            ("feedback.quality > 0.5", Field::Trace(TraceField::Feedback("quality".into())), Op::Greater(Value::Number(0.5))),
            ("feedback.quality = 'yes'", Field::Trace(TraceField::Feedback("quality".into())), equal("yes")),
            ("expectation.x IS NOT NULL", Field::Trace(TraceField::Expectation("x".into())), Op::IsNotNull),
            ("issue.id = 'i'", Field::Trace(TraceField::Issue), equal("i")),
            ("prompt = 'p/1'", Field::Trace(TraceField::Prompt), equal("p/1")),
        ] {
            assert_eq!(one(text), (field, op), "{text}");
        }
        assert!(matches!(traces("status = 'OK' AND span.type = 'LLM'").expect("both"), Filter::All(parts) if parts.len() == 2));
        assert!(matches!(traces("status IN ('OK', 'ERROR') OR name = 'x'").expect("either"), Filter::Any(parts) if parts.len() == 2));
        assert_eq!(traces("").expect("nothing"), Filter::default());
    }

    #[test]
    fn filters_that_cannot_be_read_are_refused() {
        for (text, why) in [
            ("metrics.x > 1", "Invalid entity type 'metrics'"),
            ("speed = 'x'", "Invalid attribute key 'speed'"),
            ("status > 'OK'", "Invalid comparator '>'"),
            ("status = OK", "Expected a quoted string value"),
            ("timestamp_ms = 'x'", "Expected a numeric value"),
            ("feedback.x > 'y'", "Expected a numeric value for feedback"),
            ("feedback.x = 5", "Expected a quoted string value for feedback"),
            ("span.color = 'x'", "Invalid span attribute 'color'"),
            ("span.attributes. = 'x'", "Span attribute name cannot be empty"),
            ("issue.name = 'x'", "Invalid issue attribute 'name'"),
            ("prompt LIKE 'x'", "Invalid comparator 'LIKE'"),
            ("trace.text = 'x'", "Invalid comparator '='"),
            ("status = 'OK' status", "Invalid clause"),
        ] {
            let message = traces(text).expect_err(text).message;
            assert!(message.contains(why), "{text}: {message}");
        }
    }
}
