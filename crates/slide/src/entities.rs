//! The asked entities, numbered, and the rows that are theirs.

use crate::walk::Entry;
use arrow::array::{Array, ArrayRef, AsArray, Int64Array, TimestampMicrosecondArray};
use arrow::compute::{cast, max, min};
use arrow::datatypes::{DataType, Int64Type};
use arrow::row::{RowConverter, SortField};
use gristmill_kernel::error::{Fault, Result};
use hashbrown::HashMap;

/// The asked entities.
pub struct Entities {
    numbers: Numbers,
    /// How many there are.
    pub count: usize,
    /// The number of each asked row's; [`NOBODY`] where a column of it is NULL, which equals nothing.
    asked: Vec<u32>,
}

/// Not the number of an entity.
const NOBODY: u32 = u32::MAX;

/// Keys to numbers. Most entities are one number or one text, and those need no encoding.
enum Numbers {
    /// The view has no entity: everything is one.
    One,
    /// Numbers that lie close: a table from the first one on.
    Dense(i64, Vec<u32>),
    Int(HashMap<i64, u32>),
    Text(HashMap<String, u32>),
    Encoded(RowConverter, HashMap<Vec<u8>, u32>),
}

impl Entities {
    /// Numbers the entities of the asked rows; `types` are those of the key's columns.
    pub fn of(types: &[DataType], keys: &[ArrayRef], rows: usize) -> Result<Entities> {
        let mut numbers = match types {
            [] => Numbers::One,
            [DataType::Int64 | DataType::Int32] => dense(&integers(&keys[0])?),
            [DataType::Utf8] => Numbers::Text(HashMap::new()),
            many => {
                let fields = many.iter().map(|t| SortField::new(t.clone())).collect();
                Numbers::Encoded(RowConverter::new(fields).map_err(wrong)?, HashMap::new())
            }
        };
        let asked = match &mut numbers {
            Numbers::One => vec![0; rows],
            Numbers::Dense(first, table) => {
                let mut next = 0;
                let mut number = |value: i64| {
                    let number = &mut table[(value - *first) as usize];
                    if *number == NOBODY {
                        *number = next;
                        next += 1;
                    }
                    *number
                };
                integers(&keys[0])?.iter().map(|value| value.map_or(NOBODY, &mut number)).collect()
            }
            Numbers::Int(known) => {
                let mut number = |value: i64| {
                    let next = known.len() as u32;
                    *known.entry(value).or_insert(next)
                };
                integers(&keys[0])?.iter().map(|value| value.map_or(NOBODY, &mut number)).collect()
            }
            Numbers::Text(known) => keys[0]
                .as_string::<i32>()
                .iter()
                .map(|value| {
                    let next = known.len() as u32;
                    value.map_or(NOBODY, |value| *known.entry_ref(value).or_insert(next))
                })
                .collect(),
            Numbers::Encoded(converter, known) => {
                let encoded = converter.convert_columns(keys).map_err(wrong)?;
                let number = |at: usize| {
                    if keys.iter().any(|k| k.is_null(at)) {
                        return NOBODY;
                    }
                    let next = known.len() as u32;
                    *known.entry_ref(encoded.row(at).as_ref()).or_insert(next)
                };
                (0..rows).map(number).collect()
            }
        };
        let count = match &numbers {
            Numbers::One => 1,
            Numbers::Dense(_, table) => table.iter().filter(|number| **number != NOBODY).count(),
            Numbers::Int(known) => known.len(),
            Numbers::Text(known) => known.len(),
            Numbers::Encoded(_, known) => known.len(),
        };
        Ok(Entities { numbers, count, asked })
    }

    /// The asked rows that have an entity and a moment.
    pub fn questions(&self, moments: &TimestampMicrosecondArray) -> Vec<Entry> {
        entries(&self.asked, moments)
    }

    /// The places of the asked rows in so many groups, those of one entity together.
    pub fn split(&self, groups: usize) -> Vec<Vec<u32>> {
        let mut split = vec![Vec::new(); groups.max(1)];
        for (at, number) in self.asked.iter().enumerate() {
            split[*number as usize % groups.max(1)].push(at as u32);
        }
        split
    }

    /// The rows of asked entities that have a time.
    pub fn rows(&self, keys: &[ArrayRef], times: &TimestampMicrosecondArray) -> Result<Vec<Entry>> {
        Ok(entries(&self.find(keys, times.len())?, times))
    }

    /// The number of each row's entity, [`NOBODY`] if it is not asked for.
    fn find(&self, keys: &[ArrayRef], rows: usize) -> Result<Vec<u32>> {
        let number = |found: Option<&u32>| found.copied().unwrap_or(NOBODY);
        Ok(match &self.numbers {
            Numbers::One => vec![0; rows],
            Numbers::Dense(first, table) => {
                let find =
                    |value: i64| usize::try_from(value.wrapping_sub(*first)).ok().and_then(|at| table.get(at)).copied().unwrap_or(NOBODY);
                let values = integers(&keys[0])?;
                match values.nulls() {
                    None => values.values().iter().map(|value| find(*value)).collect(),
                    Some(_) => values.iter().map(|value| value.map_or(NOBODY, find)).collect(),
                }
            }
            Numbers::Int(known) => integers(&keys[0])?.iter().map(|value| number(value.and_then(|value| known.get(&value)))).collect(),
            Numbers::Text(known) => {
                keys[0].as_string::<i32>().iter().map(|value| number(value.and_then(|value| known.get(value)))).collect()
            }
            Numbers::Encoded(converter, known) => {
                let encoded = converter.convert_columns(keys).map_err(wrong)?;
                let find = |at: usize| {
                    if keys.iter().any(|k| k.is_null(at)) { NOBODY } else { number(known.get(encoded.row(at).as_ref())) }
                };
                (0..rows).map(find).collect()
            }
        })
    }
}

fn entries(numbers: &[u32], times: &TimestampMicrosecondArray) -> Vec<Entry> {
    let mut entries = Vec::with_capacity(numbers.len());
    let nulls = times.nulls();
    for (at, (entity, time)) in numbers.iter().zip(times.values()).enumerate() {
        if *entity != NOBODY && nulls.is_none_or(|nulls| nulls.is_valid(at)) {
            entries.push(Entry { time: *time, entity: *entity, at: at as u32 });
        }
    }
    entries
}

/// A key of whole numbers.
fn integers(key: &ArrayRef) -> Result<Int64Array> {
    Ok(cast(key, &DataType::Int64).map_err(wrong)?.as_primitive::<Int64Type>().clone())
}

/// A table if the numbers lie so close that it is no larger than a few of the asked rows, else a map.
fn dense(keys: &Int64Array) -> Numbers {
    let (Some(first), Some(last)) = (min(keys), max(keys)) else { return Numbers::Int(HashMap::new()) };
    match last.checked_sub(first).and_then(|range| usize::try_from(range).ok()) {
        Some(range) if range / 8 < keys.len() + 128 => Numbers::Dense(first, vec![NOBODY; range + 1]),
        _ => Numbers::Int(HashMap::new()),
    }
}

fn wrong(error: arrow::error::ArrowError) -> Fault {
    Fault::internal("number entities").because(error)
}
