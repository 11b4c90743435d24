//! The order of a search: a name and `ASC` or `DESC`, as MLflow writes it.

use super::filter::{Attribute, Known, Token, Word, bad, run_field, tagged_field, tokens};
use gristmill_kernel::Result;
use gristmill_kernel::tracking::filter::{Field, OrderBy};

/// The order of a search for runs.
pub(crate) fn runs(clauses: &[String]) -> Result<Vec<OrderBy>> {
    parse(clauses, |entity, key| {
        let known = run_field(entity, key, super::filter::RUN_ATTRIBUTES)?;
        match known.field {
            Field::Dataset(_) => Err(bad("Invalid identifier type 'dataset'")),
            field => Ok(Known { field, ..known }),
        }
    })
}

/// The order of a search for things that are ordered by their attributes alone.
pub(crate) fn attributes(clauses: &[String], attributes: &[Attribute]) -> Result<Vec<OrderBy>> {
    parse(clauses, |entity, key| {
        let known = tagged_field(entity, key, attributes)?;
        match known.field {
            Field::Tag(_) => Err(bad("Invalid order_by entity: tag")),
            field => Ok(Known { field, ..known }),
        }
    })
}

/// The order of a search for registered models: `name` or `timestamp`, which is the last change.
pub(crate) fn registered_models(clauses: &[String]) -> Result<Vec<OrderBy>> {
    parse(clauses, |entity, key| {
        let canonical = match (entity.as_deref(), key) {
            (None, "name") => "name",
            (None, "timestamp" | "last_updated_timestamp") => "last_updated_timestamp",
            (None, "creation_timestamp") => "creation_timestamp",
            _ => {
                return Err(bad(format!("Invalid order by key '{key}' specified. Valid keys are '{{'name', 'timestamp'}}'")));
            }
        };
        Ok(Known { field: Field::Attribute(canonical.into()), numeric: false, name: key.to_owned() })
    })
}

/// The order of a search for traces.
pub(crate) fn traces(clauses: &[String]) -> Result<Vec<OrderBy>> {
    parse(clauses, super::traces::order_field)
}

/// An order upwards by one attribute, by its name for the ports.
pub(crate) fn by(attribute: &str, ascending: bool) -> OrderBy {
    OrderBy { field: Field::Attribute(attribute.into()), ascending, dataset: None }
}

fn parse(clauses: &[String], read: impl Fn(&Option<String>, &str) -> Result<Known>) -> Result<Vec<OrderBy>> {
    let mut order: Vec<OrderBy> = Vec::new();
    for clause in clauses {
        let unreadable = || bad(format!("Invalid order_by clause '{clause}'. Could not be parsed."));
        let words = tokens(clause).map_err(|_| unreadable())?;
        let (name, direction) = match words.as_slice() {
            [name] => (name, None),
            [name, direction] => (name, Some(direction)),
            _ => return Err(unreadable()),
        };
        let (entity, key) = match &name.is {
            Word::Name(entity, key) => (entity.clone(), key.clone()),
            Word::Quoted(key) => (None, key.clone()),
            _ => return Err(unreadable()),
        };
        let ascending = match direction {
            None => true,
            Some(word) if word.is_keyword("ASC") => true,
            Some(word) if word.is_keyword("DESC") => false,
            Some(Token { is: Word::Name(..), .. }) => {
                return Err(bad(format!("Invalid ordering key in order_by clause '{clause}'.")));
            }
            Some(_) => return Err(unreadable()),
        };
        let field = read(&entity, &key)?.field;
        if order.iter().any(|earlier| earlier.field == field) {
            let listed: Vec<String> = clauses.iter().map(|c| super::validate::python_quoted(c)).collect();
            return Err(bad(format!("`order_by` contains duplicate fields: [{}]", listed.join(", "))));
        }
        order.push(OrderBy { field, ascending, dataset: None });
    }
    Ok(order)
}

/// One key of the order of a search for logged models, which is not a text there but its parts.
pub(crate) fn logged_model(name: &str, ascending: bool, dataset: Option<super::filter::On>) -> Result<OrderBy> {
    let field = match name.split_once('.') {
        Some(("metrics", key)) => Field::Metric(key.to_owned()),
        Some(_) => return Err(bad(format!("Invalid order by field name: {name}. Only metrics are supported."))),
        None => {
            tagged_field(&None, name.trim(), super::filter::LOGGED_MODEL_ATTRIBUTES)
                .map_err(|_| bad(format!("Invalid order by field name: {name}")))?
                .field
        }
    };
    Ok(OrderBy { field, ascending, dataset })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::mlflow::filter::EXPERIMENT_ATTRIBUTES;

    fn texts(list: &[&str]) -> Vec<String> {
        list.iter().map(|t| (*t).to_owned()).collect()
    }

    #[test]
    fn orders_are_read() {
        let order = runs(&texts(&["metrics.`my loss` DESC", "start_time", "params.\"a b\" asc", "tags.x.y desc"])).expect("fits");
        let fields: Vec<(Field, bool)> = order.into_iter().map(|o| (o.field, o.ascending)).collect();
        assert_eq!(
            fields,
            [
                (Field::Metric("my loss".into()), false),
                (Field::Attribute("start_time".into()), true),
                (Field::Param("a b".into()), true),
                (Field::Tag("x.y".into()), false),
            ]
        );
        assert_eq!(runs(&texts(&["`Created` DESC"])).expect("fits"), [by("start_time", false)]);
        assert_eq!(attributes(&texts(&["last_update_time ASC"]), EXPERIMENT_ATTRIBUTES).expect("fits"), [by("last_update_time", true)]);
        assert_eq!(
            registered_models(&texts(&["timestamp DESC", "name"])).expect("fits"),
            [by("last_updated_timestamp", false), by("name", true)]
        );
    }

    #[test]
    fn orders_that_cannot_be_read_are_refused_in_mlflows_words() {
        let refused = |clause: &str| runs(&texts(&[clause])).expect_err(clause).message;
        assert_eq!(refused("metrics.acc UP"), "Invalid ordering key in order_by clause 'metrics.acc UP'.");
        assert_eq!(refused("metrics.acc DESC NOW"), "Invalid order_by clause 'metrics.acc DESC NOW'. Could not be parsed.");
        assert_eq!(refused(""), "Invalid order_by clause ''. Could not be parsed.");
        assert!(refused("acc").starts_with("Invalid attribute key 'acc' specified."));
        assert!(refused("x.acc").starts_with("Invalid entity type 'x'."));
        assert!(runs(&texts(&["start_time", "created DESC"])).expect_err("twice").message.contains("duplicate fields"));
        assert!(attributes(&texts(&["tags.x"]), EXPERIMENT_ATTRIBUTES).is_err());
        assert!(
            registered_models(&texts(&["creator"])).expect_err("unknown").message.starts_with("Invalid order by key 'creator' specified.")
        );
    }
}
