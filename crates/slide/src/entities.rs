//! The asked entities, numbered, and the rows that are theirs.

use arrow::array::{Array, ArrayRef, AsArray, PrimitiveArray};
use arrow::datatypes::{ArrowPrimitiveType, DataType, Int32Type, Int64Type};
use arrow::row::{RowConverter, SortField};
use gristmill_kernel::error::{Fault, Result};
use hashbrown::HashMap;

/// The asked entities.
pub struct Entities {
    numbers: Numbers,
    /// How many there are.
    pub count: usize,
    /// The number of each asked row's; none where a column of it is NULL, which equals nothing.
    pub asked: Vec<Option<u32>>,
}

/// Keys to numbers. Most entities are one number or one text, and those need no encoding.
enum Numbers {
    /// The view has no entity: everything is one.
    One,
    Int(HashMap<i64, u32>),
    Text(HashMap<String, u32>),
    Encoded(RowConverter, HashMap<Vec<u8>, u32>),
}

impl Entities {
    /// Numbers the entities of the asked rows; `types` are those of the key's columns.
    pub fn of(types: &[DataType], keys: &[ArrayRef], rows: usize) -> Result<Entities> {
        let mut numbers = match types {
            [] => Numbers::One,
            [DataType::Int64 | DataType::Int32] => Numbers::Int(HashMap::new()),
            [DataType::Utf8] => Numbers::Text(HashMap::new()),
            many => {
                let fields = many.iter().map(|t| SortField::new(t.clone())).collect();
                Numbers::Encoded(RowConverter::new(fields).map_err(wrong)?, HashMap::new())
            }
        };
        let asked = match &mut numbers {
            Numbers::One => vec![Some(0); rows],
            Numbers::Int(known) => match keys[0].as_primitive_opt::<Int64Type>() {
                Some(values) => number_ints(known, values),
                None => number_ints(known, keys[0].as_primitive::<Int32Type>()),
            },
            Numbers::Text(known) => keys[0]
                .as_string::<i32>()
                .iter()
                .map(|value| {
                    let next = known.len() as u32;
                    value.map(|value| *known.entry_ref(value).or_insert(next))
                })
                .collect(),
            Numbers::Encoded(converter, known) => {
                let encoded = converter.convert_columns(keys).map_err(wrong)?;
                let number = |at: usize| {
                    if keys.iter().any(|k| k.is_null(at)) {
                        return None;
                    }
                    let next = known.len() as u32;
                    Some(*known.entry_ref(encoded.row(at).as_ref()).or_insert(next))
                };
                (0..rows).map(number).collect()
            }
        };
        let count = match &numbers {
            Numbers::One => 1,
            Numbers::Int(known) => known.len(),
            Numbers::Text(known) => known.len(),
            Numbers::Encoded(_, known) => known.len(),
        };
        Ok(Entities { numbers, count, asked })
    }

    /// The number of each row's entity, if it is asked for.
    pub fn find(&self, keys: &[ArrayRef], rows: usize) -> Result<Vec<Option<u32>>> {
        Ok(match &self.numbers {
            Numbers::One => vec![Some(0); rows],
            Numbers::Int(known) => match keys[0].as_primitive_opt::<Int64Type>() {
                Some(values) => values.iter().map(|value| known.get(&value?).copied()).collect(),
                None => keys[0].as_primitive::<Int32Type>().iter().map(|value| known.get(&i64::from(value?)).copied()).collect(),
            },
            Numbers::Text(known) => keys[0].as_string::<i32>().iter().map(|value| known.get(value?).copied()).collect(),
            Numbers::Encoded(converter, known) => {
                let encoded = converter.convert_columns(keys).map_err(wrong)?;
                let find = |at: usize| {
                    if keys.iter().any(|k| k.is_null(at)) { None } else { known.get(encoded.row(at).as_ref()).copied() }
                };
                (0..rows).map(find).collect()
            }
        })
    }
}

fn number_ints<T>(known: &mut HashMap<i64, u32>, values: &PrimitiveArray<T>) -> Vec<Option<u32>>
where
    T: ArrowPrimitiveType,
    T::Native: Into<i64>,
{
    values
        .iter()
        .map(|value| {
            let next = known.len() as u32;
            value.map(|value| *known.entry(value.into()).or_insert(next))
        })
        .collect()
}

fn wrong(error: arrow::error::ArrowError) -> Fault {
    Fault::internal("number entities").because(error)
}
