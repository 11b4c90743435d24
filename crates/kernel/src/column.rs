//! The types a column may have: their words in the lock file and in headers, and their one spelling in tables.
//!
//! Every incoming type is widened to one of these, so that nothing behind ingestion meets a 16-bit integer or a dictionary. To add a type: a
//! variant here, and the compiler shows where it must be read.

use crate::error::{Code, Fault, Result};
use arrow::datatypes::{DataType, TimeUnit};
use std::fmt;

/// The type of a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum ColumnType {
    /// True or false.
    Bool,
    /// 64-bit whole numbers.
    Int,
    /// 64-bit floats.
    Float,
    /// UTF-8.
    Text,
    /// Moments in UTC, to the microsecond.
    Time,
    /// Days.
    Date,
    /// Bytes; base64 in text formats.
    Binary,
    /// Exact decimals: precision up to 38, scale.
    Decimal(u8, i8),
}

impl ColumnType {
    /// From its word.
    pub fn from_word(word: &str) -> Result<ColumnType> {
        let decimal = || {
            let (precision, scale) = word.strip_prefix("decimal(")?.strip_suffix(')')?.split_once(',')?;
            let (precision, scale) = (precision.trim().parse::<u8>().ok()?, scale.trim().parse::<i8>().ok()?);
            ((1..=38).contains(&precision) && scale >= 0 && scale as u8 <= precision).then_some(ColumnType::Decimal(precision, scale))
        };
        Ok(match word {
            "bool" => ColumnType::Bool,
            "int" => ColumnType::Int,
            "float" => ColumnType::Float,
            "text" => ColumnType::Text,
            "time" => ColumnType::Time,
            "date" => ColumnType::Date,
            "binary" => ColumnType::Binary,
            _ => decimal().ok_or_else(|| {
                Fault::invalid(Code::BAD_VALUE, format!("`{word}` is not a column type"))
                    .fix("column types are bool, int, float, text, time, date, binary and decimal(PRECISION,SCALE)")
            })?,
        })
    }
    /// The arrow type of such a column in a table.
    pub fn arrow(self) -> DataType {
        match self {
            ColumnType::Bool => DataType::Boolean,
            ColumnType::Int => DataType::Int64,
            ColumnType::Float => DataType::Float64,
            ColumnType::Text => DataType::Utf8,
            ColumnType::Time => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
            ColumnType::Date => DataType::Date32,
            ColumnType::Binary => DataType::Binary,
            ColumnType::Decimal(precision, scale) => DataType::Decimal128(precision, scale),
        }
    }
    /// What an incoming arrow type is widened to; `None` for nested and other types that a table cannot hold.
    pub fn of_arrow(kind: &DataType) -> Option<ColumnType> {
        Some(match kind {
            DataType::Boolean => ColumnType::Bool,
            DataType::Int8 | DataType::Int16 | DataType::Int32 | DataType::Int64 => ColumnType::Int,
            DataType::UInt8 | DataType::UInt16 | DataType::UInt32 | DataType::UInt64 => ColumnType::Int,
            DataType::Float16 | DataType::Float32 | DataType::Float64 => ColumnType::Float,
            DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View | DataType::Null => ColumnType::Text,
            DataType::Dictionary(_, value) => ColumnType::of_arrow(value)?,
            DataType::Timestamp(_, _) => ColumnType::Time,
            DataType::Date32 | DataType::Date64 => ColumnType::Date,
            DataType::Binary | DataType::LargeBinary | DataType::FixedSizeBinary(_) | DataType::BinaryView => ColumnType::Binary,
            DataType::Decimal32(p, s) | DataType::Decimal64(p, s) | DataType::Decimal128(p, s) if *s >= 0 => ColumnType::Decimal(*p, *s),
            _ => return None,
        })
    }
    /// The type that tables write exactly so.
    pub fn exactly(kind: &DataType) -> Option<ColumnType> {
        ColumnType::of_arrow(kind).filter(|found| found.arrow() == *kind)
    }
    /// Whether values of another type become values of this one without losing anything.
    pub fn takes(self, from: ColumnType) -> bool {
        self == from || matches!((self, from), (ColumnType::Float, ColumnType::Int) | (ColumnType::Time, ColumnType::Date))
    }
}

impl fmt::Display for ColumnType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ColumnType::Bool => f.write_str("bool"),
            ColumnType::Int => f.write_str("int"),
            ColumnType::Float => f.write_str("float"),
            ColumnType::Text => f.write_str("text"),
            ColumnType::Time => f.write_str("time"),
            ColumnType::Date => f.write_str("date"),
            ColumnType::Binary => f.write_str("binary"),
            ColumnType::Decimal(precision, scale) => write!(f, "decimal({precision},{scale})"),
        }
    }
}

impl TryFrom<String> for ColumnType {
    type Error = String;
    fn try_from(word: String) -> std::result::Result<ColumnType, String> {
        ColumnType::from_word(&word).map_err(|fault| fault.message)
    }
}

impl From<ColumnType> for String {
    fn from(kind: ColumnType) -> String {
        kind.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_round_trip() {
        for word in ["bool", "int", "float", "text", "time", "date", "binary", "decimal(10,2)"] {
            let kind = ColumnType::from_word(word).expect(word);
            assert_eq!(kind.to_string(), word);
            assert_eq!(ColumnType::of_arrow(&kind.arrow()), Some(kind));
            assert_eq!(ColumnType::exactly(&kind.arrow()), Some(kind));
        }
        for bad in ["", "integer", "decimal(39,2)", "decimal(2,3)", "decimal(2)"] {
            assert!(ColumnType::from_word(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn what_is_widened_is_not_exactly_that_type() {
        assert_eq!((ColumnType::of_arrow(&DataType::Int16), ColumnType::exactly(&DataType::Int16)), (Some(ColumnType::Int), None));
    }
}
