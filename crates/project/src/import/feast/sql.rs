//! The text of a view. Pure.
//!
//! Names of columns are a stranger's: each is written as an identifier, quoted unless it is plain, and one that could end the header's comment
//! is refused.

use super::plan::shown;
use super::registry::{Aggregation, DataSource, View};
use gristmill_kernel::Name;

/// What a text is made from.
pub struct Asked<'a> {
    /// The view in Feast.
    pub view: &'a View,
    /// The source it reads here.
    pub source: &'a Name,
    /// Where its columns are described.
    pub batch: &'a DataSource,
    /// The entity's columns.
    pub keys: &'a [String],
}

/// The column of the source behind a name that views use.
pub fn source_column(batch: &DataSource, name: &str) -> String {
    batch.mapping.iter().find(|(_, to)| to == name).map_or(name, |(from, _)| from).to_owned()
}

/// The content of `features/NAME.sql`; `Err` says why there is none.
pub fn view(asked: &Asked<'_>) -> Result<String, String> {
    let Asked { view, source, batch, keys } = asked;
    if let Some(key) = keys.iter().find(|key| key.contains("*/") || key.chars().any(char::is_control)) {
        return Err(format!("its entity's column cannot be written into a header: {}", shown(key)));
    }
    let time = identifier(&source_column(batch, &batch.time));
    let entity: Vec<String> = keys.iter().map(|key| toml::Value::String(key.clone()).to_string()).collect();
    let entity = if entity.len() == 1 { entity.concat() } else { format!("[{}]", entity.join(", ")) };
    let serve = if view.online && !view.disabled { "online" } else { "offline" };
    let mut columns: Vec<String> = keys.iter().map(|key| selected(&identifier(&source_column(batch, key)), key)).collect();
    let grouped = !view.aggregations.is_empty() || !batch.created.is_empty();
    if view.aggregations.is_empty() {
        let features = view.features.iter().filter(|feature| !keys.contains(&feature.name) && feature.name != batch.time);
        let order =
            (!batch.created.is_empty()).then(|| format!("{time}, {} nulls first", identifier(&source_column(batch, &batch.created))));
        columns.extend(features.map(|feature| {
            let column = identifier(&source_column(batch, &feature.name));
            match &order {
                None => selected(&column, &feature.name),
                Some(order) => format!("last_value({column} order by {order}) as {}", identifier(&feature.name)),
            }
        }));
    } else {
        for aggregation in &view.aggregations {
            columns.push(aggregate(aggregation, batch, &time)?);
        }
    }
    if columns.len() == keys.len() {
        return Err("it has no features".into());
    }
    let mut text = format!("/*---\nentity = {entity}\nserve  = \"{serve}\"\nties   = \"include\"\n---*/\n");
    text += &format!(
        "-- Feast's feature view {}\nselect\n  {}\nfrom {}\n",
        shown(&view.name),
        columns.join(",\n  "),
        identifier(source.as_str())
    );
    if view.ttl > 0 {
        text += &format!("where {time} >= as_of() - interval '{}'\n", interval(view.ttl));
    }
    if grouped {
        let groups: Vec<String> = keys.iter().map(|key| identifier(&source_column(batch, key))).collect();
        text += &format!("group by {}\n", groups.join(", "));
    }
    Ok(text)
}

/// A windowed aggregate. Feast's windows hold the row at their end and not the one at their beginning.
fn aggregate(aggregation: &Aggregation, batch: &DataSource, time: &str) -> Result<String, String> {
    let column = identifier(&source_column(batch, &aggregation.column));
    let call = match aggregation.function.to_ascii_lowercase().as_str() {
        plain @ ("sum" | "min" | "max" | "count") => format!("{plain}({column})"),
        "mean" | "avg" => format!("avg({column})"),
        "count_distinct" | "nunique" => format!("count(distinct {column})"),
        "std" | "stddev" | "stddev_samp" => format!("stddev({column})"),
        "var" | "variance" | "var_samp" => format!("var({column})"),
        other => return Err(format!("it aggregates by `{}`, which has no counterpart", shown(other))),
    };
    let filter = match aggregation.window {
        1.. => format!(" filter (where {time} > as_of() - interval '{}')", interval(aggregation.window)),
        _ => String::new(),
    };
    // `Aggregation.resolved_name` in Feast.
    let name = match (aggregation.name.is_empty(), aggregation.window) {
        (false, _) => aggregation.name.clone(),
        (true, 1..) => format!("{}_{}_{}s", aggregation.function, aggregation.column, aggregation.window / 1_000_000),
        (true, _) => format!("{}_{}", aggregation.function, aggregation.column),
    };
    Ok(format!("{call}{filter} as {}", identifier(&name)))
}

fn selected(column: &str, name: &str) -> String {
    let name = identifier(name);
    if column == name { name } else { format!("{column} as {name}") }
}

/// Words that mean something else where a column or table may stand.
const RESERVED: &str = " all and any array as asc at between both by case cast check collate column constraint create cross current_date \
    current_time current_timestamp date delete desc distinct do drop else end except exists extract false fetch filter for from full group having \
    in inner insert intersect interval into is join key lateral leading left like limit localtime natural not null offset on or order outer over \
    partition primary request right row rows select set some substring table then time timestamp to trailing trim true union unique update user using \
    values view when where window with ";

/// A name as SQL writes it.
fn identifier(name: &str) -> String {
    let plain = name.starts_with(|c: char| c.is_ascii_lowercase() || c == '_')
        && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
        && !RESERVED.contains(&format!(" {name} "));
    if plain { name.to_owned() } else { format!("\"{}\"", name.replace('"', "\"\"")) }
}

/// A length in the largest unit that has it whole.
fn interval(micros: i64) -> String {
    const UNITS: [(&str, i64); 6] = [
        ("day", 86_400_000_000),
        ("hour", 3_600_000_000),
        ("minute", 60_000_000),
        ("second", 1_000_000),
        ("millisecond", 1_000),
        ("microsecond", 1),
    ];
    let (unit, size) = UNITS.into_iter().find(|(_, size)| micros % size == 0).unwrap_or(UNITS[5]);
    let count = micros / size;
    format!("{count} {unit}{}", if count == 1 { "" } else { "s" })
}
