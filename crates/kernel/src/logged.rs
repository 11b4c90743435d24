//! A served feature vector as the prediction log keeps it: JSON that loses no bit, so that it can be held against the same vector computed again.
//!
//! Whole numbers keep all their digits, floats are written so that they read back the same (`-0.0` too, and always with a point or an exponent,
//! so `5` and `5.0` are two values). JSON has no NaN and no infinities: they are the words `NaN`, `inf` and `-inf`; a NaN of other bits
//! than the usual one says them. NULL is `null`.

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{
    DataType, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type, TimeUnit, TimestampMicrosecondType, UInt8Type,
    UInt16Type, UInt32Type, UInt64Type,
};
use serde_json::{Map, Value};

/// A row of features: name -> value.
pub fn row(columns: &RecordBatch, row: usize) -> Map<String, Value> {
    let schema = columns.schema();
    schema.fields().iter().zip(columns.columns()).map(|(field, column)| (field.name().clone(), cell(column, row))).collect()
}

/// A row of features as text: what [`row`] gives, written. `names` are those of [`Names::of`] the columns.
pub fn text(columns: &RecordBatch, names: &Names, row: usize) -> String {
    names.written(|place, out| write_cell(columns.column(place).as_ref(), row, out))
}

/// A row of numbers as text. NaN is a value that is missing.
pub fn text_of_numbers(names: &Names, row: &[f64]) -> String {
    names.written(|place, out| match row[place] {
        x if x.is_nan() => out.extend(b"null"),
        x => write_float(x, out),
    })
}

/// The names of a row's values as they stand in its text: sorted, each once, escaped.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Names(Vec<(usize, String)>);

impl Names {
    /// Of some names in the order of their columns. Of equal ones the last counts.
    pub fn of<'a>(names: impl Iterator<Item = &'a str>) -> Names {
        let mut sorted: Vec<(&str, usize)> = names.enumerate().map(|(place, name)| (name, place)).collect();
        sorted.sort_unstable();
        let last = |(at, (name, _)): &(usize, &(&str, usize))| sorted.get(at + 1).is_none_or(|next| next.0 != *name);
        let written = |(_, (name, place)): (usize, &(&str, usize))| (*place, format!("{}:", Value::from(*name)));
        Names(sorted.iter().enumerate().filter(last).map(written).collect())
    }

    fn written(&self, value: impl Fn(usize, &mut Vec<u8>)) -> String {
        // A name and a number are about so long.
        let mut out = Vec::with_capacity(2 + self.0.iter().map(|(_, name)| name.len() + 20).sum::<usize>());
        out.push(b'{');
        for (number, (place, name)) in self.0.iter().enumerate() {
            if number > 0 {
                out.push(b',');
            }
            out.extend(name.as_bytes());
            value(*place, &mut out);
        }
        out.push(b'}');
        // Only whole texts were written.
        String::from_utf8(out).unwrap_or_default()
    }
}

fn write_cell(column: &dyn Array, row: usize, out: &mut Vec<u8>) {
    match column.data_type() {
        _ if column.is_null(row) => out.extend(b"null"),
        DataType::Float64 => write_float(column.as_primitive::<Float64Type>().value(row), out),
        DataType::Int64 => write_json(&column.as_primitive::<Int64Type>().value(row), out),
        DataType::Utf8 => write_json(column.as_string::<i32>().value(row), out),
        _ => write_json(&cell(column, row), out),
    }
}

fn write_float(value: f64, out: &mut Vec<u8>) {
    if value.is_finite() { write_json(&value, out) } else { write_json(&float(value), out) }
}

fn write_json(value: &(impl serde::Serialize + ?Sized), out: &mut Vec<u8>) {
    // Neither a value of JSON nor a list of bytes can fail.
    let _ = serde_json::to_writer(out, value);
}

/// One value.
pub fn cell(column: &dyn Array, row: usize) -> Value {
    if column.is_null(row) {
        return Value::Null;
    }
    match column.data_type() {
        DataType::Null => Value::Null,
        DataType::Boolean => column.as_boolean().value(row).into(),
        DataType::Int64 => column.as_primitive::<Int64Type>().value(row).into(),
        DataType::Int32 => column.as_primitive::<Int32Type>().value(row).into(),
        DataType::Int16 => column.as_primitive::<Int16Type>().value(row).into(),
        DataType::Int8 => column.as_primitive::<Int8Type>().value(row).into(),
        DataType::UInt64 => column.as_primitive::<UInt64Type>().value(row).into(),
        DataType::UInt32 => column.as_primitive::<UInt32Type>().value(row).into(),
        DataType::UInt16 => column.as_primitive::<UInt16Type>().value(row).into(),
        DataType::UInt8 => column.as_primitive::<UInt8Type>().value(row).into(),
        DataType::Float64 => float(column.as_primitive::<Float64Type>().value(row)),
        DataType::Float32 => float(f64::from(column.as_primitive::<Float32Type>().value(row))),
        DataType::Utf8 => column.as_string::<i32>().value(row).into(),
        DataType::LargeUtf8 => column.as_string::<i64>().value(row).into(),
        DataType::Utf8View => column.as_string_view().value(row).into(),
        DataType::Timestamp(TimeUnit::Microsecond, _) => {
            crate::Timestamp::from_micros(column.as_primitive::<TimestampMicrosecondType>().value(row)).to_string().into()
        }
        // Dates, decimals: as arrow prints them, which is whole.
        _ => arrow::util::display::array_value_to_string(column, row).map_or(Value::Null, Value::from),
    }
}

fn float(value: f64) -> Value {
    match serde_json::Number::from_f64(value) {
        Some(number) => Value::Number(number),
        None if value.to_bits() == f64::NAN.to_bits() => "NaN".into(),
        None if value.is_nan() => format!("NaN:{:016x}", value.to_bits()).into(),
        None if value > 0.0 => "inf".into(),
        None => "-inf".into(),
    }
}

/// Whether two logged values are the same, to the bit.
pub fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        // Numbers are equal if they are written alike: 0.0 and -0.0 are not, 5 and 5.0 are not.
        (Value::Number(a), Value::Number(b)) => a.to_string() == b.to_string(),
        (a, b) => a == b,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{ArrayRef, Float32Array, Float64Array, Int64Array, StringArray, UInt64Array};
    use std::sync::Arc;

    fn floats() -> Vec<f64> {
        let odd = [0.0, -0.0, 5e-324, f64::MIN_POSITIVE, f64::MAX, 0.1 + 0.2, 1e21, 1e16 + 2.0, -1.0 / 3.0, 9_007_199_254_740_993.0, 5.0];
        let beyond = [f64::NAN, -f64::NAN, f64::INFINITY, f64::NEG_INFINITY, f64::from_bits(0x7ff8_0000_0000_0001)];
        // Every exponent, with a mantissa that has something everywhere.
        let all = (0..2046u64).map(|e| f64::from_bits((e << 52) | (0x9e37_79b9_7f4a_7c15u64.wrapping_mul(e + 1) >> 12)));
        odd.into_iter().chain(beyond).chain(all).collect()
    }

    #[test]
    fn two_floats_are_the_same_in_the_log_exactly_if_their_bits_are() {
        let values = floats();
        let column = Float64Array::from(values.clone());
        let logged: Vec<Value> = (0..values.len())
            .map(|row| serde_json::from_str(&cell(&column, row).to_string()).expect("what was written reads back"))
            .collect();
        for (a, x) in logged.iter().zip(&values) {
            if x.is_finite() {
                assert_eq!(a.as_f64().map(f64::to_bits), Some(x.to_bits()), "{x}");
            }
            let equal: Vec<u64> = logged.iter().zip(&values).filter(|(b, _)| same(a, b)).map(|(_, y)| y.to_bits()).collect();
            assert!(equal.iter().all(|bits| *bits == x.to_bits()), "{x} is taken for another value");
        }
    }

    #[test]
    fn a_written_row_is_the_row() {
        let values = floats();
        let column: ArrayRef = Arc::new(Float64Array::from(values.clone()));
        let schema = arrow::datatypes::Schema::new(
            ["z", "a\"b", "z"].map(|name| arrow::datatypes::Field::new(name, DataType::Float64, true)).to_vec(),
        );
        let rows = RecordBatch::try_new(Arc::new(schema), vec![column.clone(), column.clone(), column]).expect("a batch");
        let names = Names::of(rows.schema_ref().fields().iter().map(|field| field.name().as_str()));
        for (at, x) in values.iter().enumerate() {
            assert_eq!(text(&rows, &names, at), Value::Object(row(&rows, at)).to_string());
            let numbers = text_of_numbers(&Names::of(["b", "a"].into_iter()), &[*x, 1.0]);
            let expected = if x.is_nan() { "null".to_owned() } else { cell(rows.column(0), at).to_string() };
            assert_eq!(numbers, format!("{{\"a\":1.0,\"b\":{expected}}}"));
        }
    }

    #[test]
    fn whole_numbers_words_and_nulls_stay_what_they_are() {
        let rows = RecordBatch::try_from_iter([
            ("i", Arc::new(Int64Array::from(vec![Some(9_007_199_254_740_993), Some(i64::MIN), None])) as ArrayRef),
            ("u", Arc::new(UInt64Array::from(vec![u64::MAX, 1, 0])) as ArrayRef),
            ("f", Arc::new(Float32Array::from(vec![0.1, f32::NAN, -0.0])) as ArrayRef),
            ("w", Arc::new(StringArray::from(vec![Some("NaN"), Some("\u{1f}é\""), None])) as ArrayRef),
        ])
        .expect("a batch");
        let names = Names::of(rows.schema_ref().fields().iter().map(|field| field.name().as_str()));
        let text = |at: usize| {
            let written = super::text(&rows, &names, at);
            assert_eq!(written, Value::Object(row(&rows, at)).to_string(), "both ways");
            written
        };
        assert_eq!(text(0), r#"{"f":0.10000000149011612,"i":9007199254740993,"u":18446744073709551615,"w":"NaN"}"#);
        assert_eq!(text(1), r#"{"f":"NaN","i":-9223372036854775808,"u":1,"w":"\u001fé\""}"#);
        assert_eq!(text(2), r#"{"f":-0.0,"i":null,"u":0,"w":null}"#);
        assert!(!same(&5.into(), &5.0.into()) && !same(&0.0.into(), &(-0.0).into()) && same(&Value::Null, &Value::Null));
    }
}
