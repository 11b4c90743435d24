//! Values of unit tests: from TOML into columns, from columns into what is compared and written.

use super::Row;
use crate::lock::arrow_type;
use arrow::array::{
    Array, ArrayRef, AsArray, BooleanBuilder, Date32Builder, Float64Builder, Int64Builder, StringBuilder, TimestampMicrosecondBuilder,
};
use arrow::datatypes::{DataType, Field, Float64Type, Int64Type, Schema, TimeUnit, TimestampMicrosecondType};
use gristmill_kernel::table::LOADED_AT;
use gristmill_kernel::{Code, Fault, Timestamp};
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::Arc;

/// The type of a moment.
pub(super) fn moment() -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))
}

/// The columns that rows seem to have, where nothing else says.
pub(super) fn guess(rows: &[Row]) -> Schema {
    let mut kinds: BTreeMap<&String, DataType> = BTreeMap::new();
    for (name, value) in rows.iter().flatten().filter(|(n, _)| *n != LOADED_AT) {
        let kind = match value {
            Value::Bool(_) => DataType::Boolean,
            Value::Number(n) if n.is_i64() => DataType::Int64,
            Value::Number(_) => DataType::Float64,
            Value::String(text) if text == "null" => continue,
            _ => DataType::Utf8,
        };
        let wider = kind == DataType::Float64 && kinds.get(name) == Some(&DataType::Int64);
        if wider || !kinds.contains_key(name) {
            kinds.insert(name, kind);
        }
    }
    Schema::new(kinds.into_iter().map(|(name, kind)| Field::new(name, kind, true)).collect::<Vec<_>>())
}

/// Whether tests can give values of a type.
pub(super) fn expressible(kind: &DataType) -> bool {
    use DataType::{Boolean, Date32, Float64, Int64, Utf8};
    matches!(kind, Boolean | Int64 | Float64 | Utf8 | Date32 | DataType::Timestamp(TimeUnit::Microsecond, _))
}

/// One column of the rows; on failure the row and why.
pub(super) fn column(rows: &[Row], field: &Field) -> Result<ArrayRef, (usize, Fault)> {
    macro_rules! build {
        ($builder:expr, $read:expr) => {{
            let mut builder = $builder;
            for (i, row) in rows.iter().enumerate() {
                match row.get(field.name()).filter(|v| !v.is_null() && *v != "null") {
                    None => builder.append_null(),
                    Some(value) => match $read(value) {
                        Some(value) => builder.append_value(value),
                        None => return Err((i, wrong(value, field))),
                    },
                }
            }
            Ok(Arc::new(builder.finish()) as ArrayRef)
        }};
    }
    let time = |v: &Value| v.as_str().and_then(|t| t.parse::<Timestamp>().ok()).map(Timestamp::micros);
    match field.data_type() {
        DataType::Boolean => build!(BooleanBuilder::new(), Value::as_bool),
        DataType::Int64 => build!(Int64Builder::new(), Value::as_i64),
        DataType::Float64 => build!(Float64Builder::new(), Value::as_f64),
        DataType::Utf8 => build!(StringBuilder::new(), Value::as_str),
        DataType::Date32 => build!(Date32Builder::new(), |v: &Value| time(v).map(|us| us.div_euclid(86_400_000_000) as i32)),
        DataType::Timestamp(TimeUnit::Microsecond, _) => {
            build!(TimestampMicrosecondBuilder::new().with_data_type(field.data_type().clone()), time)
        }
        _ => {
            let absent = |r: &Row| r.get(field.name()).is_none_or(|v| *v == "null");
            match rows.iter().position(|r| !absent(r)) {
                None => Ok(arrow::array::new_null_array(field.data_type(), rows.len())),
                Some(i) => Err((
                    i,
                    Fault::invalid(Code::WRONG_TYPE, format!("tests cannot give values of type {} yet", field.data_type()))
                        .fix("leave the column out"),
                )),
            }
        }
    }
}

fn wrong(value: &Value, field: &Field) -> Fault {
    let word = crate::lock::type_word(field.data_type()).unwrap_or_else(|| field.data_type().to_string());
    debug_assert!(arrow_type(&word).is_some());
    Fault::invalid(Code::WRONG_TYPE, format!("`{}` is {word}, not {value}", field.name())).fix(match word.as_str() {
        "time" | "date" => "write it as \"2011-09-01T12:00:00\"".to_owned(),
        "text" => "put it in quotes".to_owned(),
        _ => format!("write a value of type {word}"),
    })
}

/// A value of an answer as JSON.
pub(super) fn value(array: &ArrayRef, row: usize) -> Value {
    if array.is_null(row) {
        return Value::Null;
    }
    match array.data_type() {
        DataType::Boolean => array.as_boolean().value(row).into(),
        DataType::Int64 => array.as_primitive::<Int64Type>().value(row).into(),
        DataType::Float64 => array.as_primitive::<Float64Type>().value(row).into(),
        DataType::Utf8 => array.as_string::<i32>().value(row).into(),
        DataType::Timestamp(TimeUnit::Microsecond, _) => {
            Timestamp::from_micros(array.as_primitive::<TimestampMicrosecondType>().value(row)).to_string().into()
        }
        _ => arrow::util::display::array_value_to_string(array, row).map_or(Value::Null, |text| match text.parse::<f64>() {
            Ok(number) if !array.data_type().is_temporal() => number.into(),
            _ => text.into(),
        }),
    }
}

/// Numbers agree within a billionth, so that tests may write 0.1; moments agree when they are the same moment.
pub(super) fn same(expected: &Value, found: &Value) -> bool {
    match (expected, found) {
        (Value::Number(a), Value::Number(b)) => match (a.as_f64(), b.as_f64()) {
            (Some(a), Some(b)) => a == b || (a - b).abs() <= 1e-9 * a.abs().max(b.abs()),
            _ => a == b,
        },
        (Value::String(a), Value::String(b)) if a != b => match (a.parse::<Timestamp>(), b.parse::<Timestamp>()) {
            (Ok(a), Ok(b)) => a == b,
            _ => false,
        },
        _ => expected == found,
    }
}
