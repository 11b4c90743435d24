//! What a search for registered models and versions can ask for, and the order of its answers.
//!
//! [`gristmill_kernel::tracking::filter::Filter::holds`] is the meaning of a filter; here are the fields it looks at. Times are milliseconds, as clients
//! write them.

use gristmill_kernel::tracking::filter::{Field, Fields, Filter, OrderBy, Value};
use gristmill_kernel::tracking::registry::{ModelVersion, RegisteredModel};
use gristmill_kernel::{Code, Fault, Result, Timestamp};
use std::cmp::Ordering;

/// A column of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Column {
    Name,
    Number,
    Run,
    Source,
    Stage,
    User,
    Model,
    Created,
    Updated,
}

/// What is looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Models,
    Versions,
}

impl Kind {
    /// The column behind the name of an attribute.
    pub(crate) fn column(self, attribute: &str) -> Result<Column> {
        let column = match attribute {
            "name" => Column::Name,
            "creation_timestamp" | "creation_time" => Column::Created,
            "last_updated_timestamp" | "last_updated_time" | "timestamp" => Column::Updated,
            "version_number" | "version" if self == Kind::Versions => Column::Number,
            "run_id" if self == Kind::Versions => Column::Run,
            "source_path" | "source" if self == Kind::Versions => Column::Source,
            "current_stage" | "stage" if self == Kind::Versions => Column::Stage,
            "user_id" if self == Kind::Versions => Column::User,
            "model_id" if self == Kind::Versions => Column::Model,
            _ => return Err(unknown_field(attribute, self)),
        };
        Ok(column)
    }

    /// Refuses a search for what is not there.
    pub(crate) fn check(self, filter: &Filter, order: &[OrderBy]) -> Result<()> {
        self.check_filter(filter)?;
        order.iter().try_for_each(|by| self.ordered_by(by).map(|_| ()))
    }

    fn check_filter(self, filter: &Filter) -> Result<()> {
        match filter {
            Filter::All(parts) | Filter::Any(parts) => parts.iter().try_for_each(|part| self.check_filter(part)),
            Filter::Not(part) => self.check_filter(part),
            Filter::Test(test) => match &test.field {
                Field::Attribute(name) => self.column(name).map(|_| ()),
                Field::Tag(_) => Ok(()),
                Field::Metric(name) | Field::MetricOn(name, _) | Field::Param(name) | Field::Dataset(name) => {
                    Err(unknown_field(name, self))
                }
            },
        }
    }

    /// Orders go by columns only.
    pub(crate) fn ordered_by(self, by: &OrderBy) -> Result<Column> {
        match &by.field {
            Field::Attribute(name) => self.column(name),
            Field::Tag(name) | Field::Metric(name) | Field::MetricOn(name, _) | Field::Param(name) | Field::Dataset(name) => {
                Err(unknown_field(name, self))
            }
        }
    }

    /// The whole order: what was asked for, then what decides ties.
    pub(crate) fn order(self, asked: &[OrderBy]) -> Result<Vec<(Column, bool)>> {
        let mut order = Vec::new();
        for by in asked {
            order.push((self.ordered_by(by)?, by.ascending));
        }
        let ties: &[(Column, bool)] = match self {
            Kind::Models => &[(Column::Name, true)],
            Kind::Versions if asked.is_empty() => &[(Column::Updated, false), (Column::Name, true), (Column::Number, false)],
            Kind::Versions => &[(Column::Name, true), (Column::Number, false)],
        };
        order.extend(ties.iter().copied());
        let mut seen = Vec::new();
        order.retain(|(column, _)| {
            !seen.contains(column) && {
                seen.push(*column);
                true
            }
        });
        Ok(order)
    }
}

fn unknown_field(name: &str, kind: Kind) -> Fault {
    let known = match kind {
        Kind::Models => "name, creation_timestamp, last_updated_timestamp",
        Kind::Versions => {
            "name, version_number, run_id, source_path, current_stage, user_id, model_id, creation_timestamp, last_updated_timestamp"
        }
    };
    Fault::invalid(Code::BAD_FILTER, format!("Invalid attribute key '{name}' specified. Valid keys are {known}"))
        .fix("search for one of these, or for a tag")
}

fn text(text: &str) -> Option<Value> {
    Some(Value::Text(text.to_owned()))
}
fn time(at: Timestamp) -> Option<Value> {
    Some(Value::Number(at.millis() as f64))
}

/// A registered model as a filter sees it.
pub(crate) struct ModelFields<'a>(pub &'a RegisteredModel);

impl Fields for ModelFields<'_> {
    fn values(&self, field: &Field) -> Vec<Value> {
        let model = self.0;
        let value = match field {
            Field::Tag(name) => model.tags.get(name).and_then(|value| text(value)),
            Field::Attribute(name) => Kind::Models.column(name).ok().and_then(|column| match column {
                Column::Name => text(&model.name),
                Column::Created => time(model.created_at),
                Column::Updated => time(model.updated_at),
                _ => None,
            }),
            _ => None,
        };
        value.into_iter().collect()
    }
}

/// A version as a filter sees it.
pub(crate) struct VersionFields<'a>(pub &'a ModelVersion);

impl Fields for VersionFields<'_> {
    fn values(&self, field: &Field) -> Vec<Value> {
        let version = self.0;
        let value = match field {
            Field::Tag(name) => version.tags.get(name).and_then(|value| text(value)),
            Field::Attribute(name) => Kind::Versions.column(name).ok().and_then(|column| match column {
                Column::Name => text(&version.name),
                Column::Number => Some(Value::Number(version.id.number as f64)),
                Column::Run => version.run.as_ref().and_then(|run| text(&run.0)),
                Column::Source => text(&version.source),
                Column::Stage => text(version.stage.as_str()),
                Column::User => version.user.as_deref().and_then(text),
                Column::Model => version.model.as_deref().and_then(text),
                Column::Created => time(version.created_at),
                Column::Updated => time(version.updated_at),
            }),
            _ => None,
        };
        value.into_iter().collect()
    }
}

/// The order of two models.
pub(crate) fn compare_models(a: &RegisteredModel, b: &RegisteredModel, order: &[(Column, bool)]) -> Ordering {
    by_columns(order, |column| match column {
        Column::Name => a.name.cmp(&b.name),
        Column::Created => a.created_at.cmp(&b.created_at),
        Column::Updated => a.updated_at.cmp(&b.updated_at),
        _ => Ordering::Equal,
    })
}

/// The order of two versions; what is absent comes last, whichever the direction.
pub(crate) fn compare_versions(a: &ModelVersion, b: &ModelVersion, order: &[(Column, bool)]) -> Ordering {
    let absent = |column| match column {
        Column::Run => (a.run.is_none(), b.run.is_none()),
        Column::User => (a.user.is_none(), b.user.is_none()),
        Column::Model => (a.model.is_none(), b.model.is_none()),
        _ => (false, false),
    };
    for (column, ascending) in order {
        let (a_absent, b_absent) = absent(*column);
        let found = a_absent.cmp(&b_absent).then_with(|| {
            by_columns(&[(*column, *ascending)], |column| match column {
                Column::Name => a.name.cmp(&b.name),
                Column::Number => a.id.number.cmp(&b.id.number),
                Column::Run => a.run.cmp(&b.run),
                Column::Source => a.source.cmp(&b.source),
                Column::Stage => a.stage.as_str().cmp(b.stage.as_str()),
                Column::User => a.user.cmp(&b.user),
                Column::Model => a.model.cmp(&b.model),
                Column::Created => a.created_at.cmp(&b.created_at),
                Column::Updated => a.updated_at.cmp(&b.updated_at),
            })
        });
        if found.is_ne() {
            return found;
        }
    }
    Ordering::Equal
}

fn by_columns(order: &[(Column, bool)], compare: impl Fn(Column) -> Ordering) -> Ordering {
    let directed = |(column, ascending): &(Column, bool)| if *ascending { compare(*column) } else { compare(*column).reverse() };
    order.iter().map(directed).find(|found| found.is_ne()).unwrap_or(Ordering::Equal)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ties_end_in_the_searchs_own_order() {
        let by = |name: &str, ascending| OrderBy { field: Field::Attribute(name.into()), ascending, dataset: None };
        assert_eq!(Kind::Models.order(&[by("name", false)]).expect("order"), [(Column::Name, false)]);
        let order = Kind::Versions.order(&[by("version_number", true)]).expect("order");
        assert_eq!(order, [(Column::Number, true), (Column::Name, true)]);
        assert_eq!(Kind::Versions.order(&[]).expect("order")[0], (Column::Updated, false));
        assert_eq!(Kind::Models.order(&[by("run_id", true)]).expect_err("models have no run").code, Code::BAD_FILTER);
    }
}
