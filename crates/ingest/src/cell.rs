//! Values into columns: one place where text and JSON become typed values, so that CSV files, JSON lines and pushed rows are read alike.
//!
//! Invariant: a value either fits its column exactly or is refused; nothing is rounded, truncated or turned into NULL.

use crate::schema::{ColumnType, Columns};
use arrow::array::{
    ArrayBuilder, ArrayRef, BinaryBuilder, BooleanBuilder, Date32Builder, Decimal128Builder, Float64Builder, Int64Builder, RecordBatch,
    StringBuilder, TimestampMicrosecondBuilder,
};
use base64::Engine as _;
use gristmill_kernel::Timestamp;
use gristmill_kernel::error::{Fault, Result};
use gristmill_kernel::limits::{BATCH_BYTES_MAX, BATCH_ROWS};
use serde_json::Value;
use std::sync::Arc;

/// A column under construction.
pub enum Cells {
    /// True or false.
    Bool(BooleanBuilder),
    /// Whole numbers.
    Int(Int64Builder),
    /// Floats.
    Float(Float64Builder),
    /// Text.
    Text(StringBuilder),
    /// Moments.
    Time(TimestampMicrosecondBuilder),
    /// Days.
    Date(Date32Builder),
    /// Bytes.
    Binary(BinaryBuilder),
    /// Decimals: builder, precision, scale.
    Decimal(Decimal128Builder, u8, i8),
}

impl Cells {
    /// An empty column.
    pub fn new(kind: ColumnType) -> Cells {
        match kind {
            ColumnType::Bool => Cells::Bool(BooleanBuilder::new()),
            ColumnType::Int => Cells::Int(Int64Builder::new()),
            ColumnType::Float => Cells::Float(Float64Builder::new()),
            ColumnType::Text => Cells::Text(StringBuilder::new()),
            ColumnType::Time => Cells::Time(TimestampMicrosecondBuilder::new().with_timezone("UTC")),
            ColumnType::Date => Cells::Date(Date32Builder::new()),
            ColumnType::Binary => Cells::Binary(BinaryBuilder::new()),
            ColumnType::Decimal(p, s) => Cells::Decimal(Decimal128Builder::new().with_data_type(kind.arrow()), p, s),
        }
    }
    /// Adds a value written as text; false when it does not fit.
    #[must_use]
    pub fn push_text(&mut self, text: &str) -> bool {
        match self {
            Cells::Bool(b) => read_bool(text).map(|v| b.append_value(v)),
            Cells::Int(b) => text.parse().ok().map(|v| b.append_value(v)),
            Cells::Float(b) => read_float(text).map(|v| b.append_value(v)),
            Cells::Text(b) => {
                b.append_value(text);
                Some(())
            }
            Cells::Time(b) => read_time(text).map(|v| b.append_value(v)),
            Cells::Date(b) => read_date(text).map(|v| b.append_value(v)),
            Cells::Binary(b) => base64::engine::general_purpose::STANDARD.decode(text).ok().map(|v| b.append_value(v)),
            Cells::Decimal(b, precision, scale) => read_decimal(text, *precision, *scale).map(|v| b.append_value(v)),
        }
        .is_some()
    }
    /// Adds a JSON value; false when it does not fit. Nested values fit only text columns, as JSON.
    #[must_use]
    pub fn push_json(&mut self, value: &Value) -> bool {
        match (&mut *self, value) {
            (_, Value::Null) => {
                self.push_null();
                true
            }
            (Cells::Bool(b), Value::Bool(v)) => {
                b.append_value(*v);
                true
            }
            (Cells::Int(b), Value::Number(n)) => read_whole(n).map(|v| b.append_value(v)).is_some(),
            (Cells::Float(b), Value::Number(n)) => n.as_f64().map(|v| b.append_value(v)).is_some(),
            (Cells::Float(b), Value::String(s)) => read_unreal(s).map(|v| b.append_value(v)).is_some(),
            (Cells::Decimal(..), Value::Number(n)) => self.push_text(&n.to_string()),
            (Cells::Text(b), Value::Array(_) | Value::Object(_)) => {
                b.append_value(value.to_string());
                true
            }
            (Cells::Text(_) | Cells::Time(_) | Cells::Date(_) | Cells::Binary(_) | Cells::Decimal(..), Value::String(s)) => {
                self.push_text(s)
            }
            _ => false,
        }
    }
    /// Adds NULL.
    pub fn push_null(&mut self) {
        match self {
            Cells::Bool(b) => b.append_null(),
            Cells::Int(b) => b.append_null(),
            Cells::Float(b) => b.append_null(),
            Cells::Text(b) => b.append_null(),
            Cells::Time(b) => b.append_null(),
            Cells::Date(b) => b.append_null(),
            Cells::Binary(b) => b.append_null(),
            Cells::Decimal(b, _, _) => b.append_null(),
        }
    }
    /// How many values it has.
    pub fn len(&self) -> usize {
        match self {
            Cells::Bool(b) => b.len(),
            Cells::Int(b) => b.len(),
            Cells::Float(b) => b.len(),
            Cells::Text(b) => b.len(),
            Cells::Time(b) => b.len(),
            Cells::Date(b) => b.len(),
            Cells::Binary(b) => b.len(),
            Cells::Decimal(b, _, _) => b.len(),
        }
    }
    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// The finished column; the builder starts anew.
    pub fn finish(&mut self) -> ArrayRef {
        match self {
            Cells::Bool(b) => Arc::new(b.finish()),
            Cells::Int(b) => Arc::new(b.finish()),
            Cells::Float(b) => Arc::new(b.finish()),
            Cells::Text(b) => Arc::new(b.finish()),
            Cells::Time(b) => Arc::new(b.finish()),
            Cells::Date(b) => Arc::new(b.finish()),
            Cells::Binary(b) => Arc::new(b.finish()),
            Cells::Decimal(b, _, _) => Arc::new(b.finish()),
        }
    }
}

/// Rows under construction: one [`Cells`] per column.
pub struct Rows {
    /// The columns, in order.
    pub columns: Columns,
    /// Their values so far. Whoever adds a row adds to each.
    pub cells: Vec<Cells>,
    rows: usize,
    bytes: usize,
}

impl Rows {
    /// No rows yet.
    pub fn new(columns: Columns) -> Rows {
        let cells = columns.iter().map(|(_, kind)| Cells::new(kind)).collect();
        Rows { columns, cells, rows: 0, bytes: 0 }
    }
    /// Counts a row that has been added to every column; `bytes` is its size in the input.
    pub fn row_done(&mut self, bytes: usize) {
        self.rows += 1;
        self.bytes += bytes;
    }
    /// Whether a batch is full.
    pub fn full(&self) -> bool {
        self.rows >= BATCH_ROWS || self.bytes >= BATCH_BYTES_MAX
    }
    /// How many rows wait.
    pub fn len(&self) -> usize {
        self.rows
    }
    /// Whether no row waits.
    pub fn is_empty(&self) -> bool {
        self.rows == 0
    }
    /// The waiting rows as a batch.
    pub fn finish(&mut self) -> Result<RecordBatch> {
        (self.rows, self.bytes) = (0, 0);
        let arrays = self.cells.iter_mut().map(Cells::finish).collect();
        RecordBatch::try_new(self.columns.schema(), arrays)
            .map_err(|e| Fault::internal(format!("columns of unequal length: {e}")).because(e))
    }
}

/// What the values of a column have in common so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Guess(Option<ColumnType>);

impl Guess {
    /// Takes one more value written as text.
    pub fn see_text(&mut self, text: &str) {
        if self.0 != Some(ColumnType::Text) {
            // Most values are of the type of the one before.
            if self.0.is_some_and(|kind| kind != ColumnType::Float && guess_text(text) == kind) {
                return;
            }
            self.merge(guess_text(text));
        }
    }
    /// Takes one more JSON value.
    pub fn see_json(&mut self, value: &Value) {
        match value {
            Value::Null => {}
            Value::Bool(_) => self.merge(ColumnType::Bool),
            Value::Number(n) if n.is_i64() => self.merge(ColumnType::Int),
            Value::Number(_) => self.merge(ColumnType::Float),
            Value::String(s) if read_date(s).is_some() => self.merge(ColumnType::Date),
            Value::String(s) if looks_like_time(s) => self.merge(ColumnType::Time),
            Value::String(_) | Value::Array(_) | Value::Object(_) => self.merge(ColumnType::Text),
        }
    }
    /// Takes a type seen in another file.
    pub fn merge(&mut self, kind: ColumnType) {
        use ColumnType::{Date, Float, Int, Text, Time};
        self.0 = Some(match (self.0, kind) {
            (None, kind) => kind,
            (Some(a), b) if a == b => a,
            (Some(Int | Float), Int | Float) => Float,
            (Some(Date | Time), Date | Time) => Time,
            _ => Text,
        });
    }
    /// Takes another guess.
    pub fn merge_guess(&mut self, other: Guess) {
        if let Some(kind) = other.0 {
            self.merge(kind);
        }
    }
    /// The type; text when there was no value.
    pub fn kind(self) -> ColumnType {
        self.0.unwrap_or(ColumnType::Text)
    }
}

fn guess_text(text: &str) -> ColumnType {
    let bytes = text.as_bytes();
    match bytes.first() {
        Some(b't' | b'f' | b'T' | b'F') if read_bool(text).is_some() => ColumnType::Bool,
        Some(b'0'..=b'9' | b'-' | b'.' | b'N' | b'i') => {
            let digits = text.strip_prefix('-').unwrap_or(text);
            // A leading zero marks a code (0123), not a number.
            let code = digits.len() > 1 && digits.starts_with('0') && digits.bytes().all(|b| b.is_ascii_digit());
            if code {
                ColumnType::Text
            } else if text.parse::<i64>().is_ok() {
                ColumnType::Int
            } else if digits.bytes().all(|b| b.is_ascii_digit()) {
                ColumnType::Text
            } else if read_float(text).is_some() {
                ColumnType::Float
            } else if read_date(text).is_some() {
                ColumnType::Date
            } else if looks_like_time(text) {
                ColumnType::Time
            } else {
                ColumnType::Text
            }
        }
        _ => ColumnType::Text,
    }
}

fn looks_like_time(text: &str) -> bool {
    text.len() >= 16 && read_time(text).is_some()
}

fn read_bool(text: &str) -> Option<bool> {
    if text.eq_ignore_ascii_case("true") {
        Some(true)
    } else if text.eq_ignore_ascii_case("false") {
        Some(false)
    } else {
        None
    }
}

/// Decimal notation, with or without an exponent, and the words of [`read_unreal`]. `inf` as Rust reads it in any case is not a number here.
fn read_float(text: &str) -> Option<f64> {
    match text.as_bytes().last()? {
        b'0'..=b'9' | b'.' if !matches!(text.as_bytes()[0], b'+' | b'a'..=b'z' | b'A'..=b'Z') => {
            text.parse::<f64>().ok().filter(|v| v.is_finite())
        }
        _ => read_unreal(text),
    }
}

fn read_unreal(text: &str) -> Option<f64> {
    match text {
        "NaN" => Some(f64::NAN),
        "inf" => Some(f64::INFINITY),
        "-inf" => Some(f64::NEG_INFINITY),
        _ => None,
    }
}

fn read_whole(n: &serde_json::Number) -> Option<i64> {
    n.as_i64().or_else(|| n.as_f64().filter(|v| v.fract() == 0.0 && v.abs() < 9_007_199_254_740_992.0).map(|v| v as i64))
}

fn two(b: &[u8]) -> Option<i64> {
    (b[0].is_ascii_digit() && b[1].is_ascii_digit()).then(|| i64::from(b[0] - b'0') * 10 + i64::from(b[1] - b'0'))
}

/// Days since 1970 of `YYYY-MM-DD` at the start of the bytes.
fn days(b: &[u8]) -> Option<i64> {
    if b.len() < 10 || b[4] != b'-' || b[7] != b'-' {
        return None;
    }
    let (year, month, day) = (two(&b[..2])? * 100 + two(&b[2..4])?, two(&b[5..7])?, two(&b[8..10])?);
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let length = match month {
        1 | 3 | 5 | 7 | 8 | 10 | 12 => 31,
        4 | 6 | 9 | 11 => 30,
        2 if leap => 29,
        2 => 28,
        _ => return None,
    };
    if day < 1 || day > length {
        return None;
    }
    // Howard Hinnant's days_from_civil.
    let y = if month <= 2 { year - 1 } else { year };
    let era = y.div_euclid(400);
    let yoe = y - era * 400;
    let doy = (153 * (if month > 2 { month - 3 } else { month + 9 }) + 2) / 5 + day - 1;
    Some(era * 146_097 + yoe * 365 + yoe / 4 - yoe / 100 + doy - 719_468)
}

/// `YYYY-MM-DD`.
pub fn read_date(text: &str) -> Option<i32> {
    if text.len() != 10 {
        return None;
    }
    days(text.as_bytes()).map(|d| d as i32)
}

/// Microseconds since 1970: a date, or date and time with `T` or a space, seconds and fraction optional, `Z` or an offset optional (without: UTC).
/// Fractions finer than a microsecond are cut.
pub fn read_time(text: &str) -> Option<i64> {
    let b = text.as_bytes();
    if let Some(micros) = read_plain_time(b) {
        return Some(micros);
    }
    if b.first().is_some_and(u8::is_ascii_digit) { text.parse::<Timestamp>().ok().map(Timestamp::micros) } else { None }
}

/// The common spellings, fast.
fn read_plain_time(b: &[u8]) -> Option<i64> {
    let day = days(b)?;
    if b.len() == 10 {
        return Some(day * 86_400_000_000);
    }
    if b.len() < 16 || !matches!(b[10], b'T' | b't' | b' ') || b[13] != b':' {
        return None;
    }
    let (hour, minute) = (two(&b[11..13])?, two(&b[14..16])?);
    let (second, rest) = match b.get(16) {
        Some(b':') if b.len() >= 19 => (two(&b[17..19])?, &b[19..]),
        None | Some(b'Z' | b'z') => (0, &b[16..]),
        _ => return None,
    };
    let (fraction, rest) = match rest.first() {
        Some(b'.') => {
            let digits = rest[1..].iter().take_while(|c| c.is_ascii_digit()).count();
            if digits == 0 || digits > 9 {
                return None;
            }
            let micros = (0..6).fold(0, |n, i| n * 10 + rest[1..1 + digits].get(i).map_or(0, |c| i64::from(c - b'0')));
            (micros, &rest[1 + digits..])
        }
        _ => (0, rest),
    };
    if hour > 23 || minute > 59 || second > 59 || !matches!(rest, [] | [b'Z'] | [b'z']) {
        return None;
    }
    Some(((day * 24 + hour) * 60 + minute) * 60_000_000 + second * 1_000_000 + fraction)
}

fn read_decimal(text: &str, precision: u8, scale: i8) -> Option<i128> {
    let (sign, digits) = match text.strip_prefix('-') {
        Some(rest) => (-1, rest),
        None => (1, text),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let fraction = fraction.trim_end_matches('0');
    let all = |t: &str| t.bytes().all(|b| b.is_ascii_digit());
    if whole.is_empty() || !all(whole) || !all(fraction) || fraction.len() > scale as usize {
        return None;
    }
    let padded = format!("{whole}{fraction:0<width$}", width = scale as usize);
    let significant = padded.trim_start_matches('0');
    if significant.len() > precision as usize {
        return None;
    }
    Some(sign * if significant.is_empty() { 0 } else { significant.parse::<i128>().ok()? })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn guess(values: &[&str]) -> ColumnType {
        let mut guess = Guess::default();
        values.iter().for_each(|v| guess.see_text(v));
        guess.kind()
    }

    #[test]
    fn types_are_guessed_from_all_values() {
        for (values, kind) in [
            (vec!["1", "-2"], ColumnType::Int),
            (vec!["1", "2.5"], ColumnType::Float),
            (vec!["2.5", "1"], ColumnType::Float),
            (vec!["1e3", "NaN"], ColumnType::Float),
            (vec!["0123", "4"], ColumnType::Text),
            (vec!["99999999999999999999"], ColumnType::Text),
            (vec!["true", "False"], ColumnType::Bool),
            (vec!["true", "1"], ColumnType::Text),
            (vec!["2011-09-01", "2011-09-02"], ColumnType::Date),
            (vec!["2011-09-01", "2011-09-02 10:00"], ColumnType::Time),
            (vec!["2011-09-01T10:00:00+02:00"], ColumnType::Time),
            (vec!["2011-02-30"], ColumnType::Text),
            (vec!["infinity"], ColumnType::Text),
            (vec![], ColumnType::Text),
            (vec!["1", "x"], ColumnType::Text),
        ] {
            assert_eq!(guess(&values), kind, "{values:?}");
        }
    }

    #[test]
    fn decimals_are_exact() {
        assert_eq!(read_decimal("-12.30", 10, 2), Some(-1230));
        assert_eq!(read_decimal("12.300", 10, 2), Some(1230));
        assert_eq!(read_decimal("12.305", 10, 2), None);
        assert_eq!(read_decimal("123456789.00", 10, 2), None);
        assert_eq!(read_decimal("0", 3, 2), Some(0));
        assert_eq!(read_decimal(".5", 3, 2), None);
    }

    #[test]
    fn values_fit_or_are_refused() {
        assert!(!Cells::new(ColumnType::Int).push_text("1.0"));
        assert!(!Cells::new(ColumnType::Int).push_json(&serde_json::json!(1.5)));
        assert!(Cells::new(ColumnType::Int).push_json(&serde_json::json!(2.0)));
        assert!(!Cells::new(ColumnType::Int).push_json(&serde_json::json!("2")));
        assert!(!Cells::new(ColumnType::Text).push_json(&serde_json::json!(2)));
        assert!(Cells::new(ColumnType::Text).push_json(&serde_json::json!({"a": [1]})));
        assert!(!Cells::new(ColumnType::Time).push_text("tomorrow"));
    }

    proptest! {
        #[test]
        fn times_agree_with_the_kernel(micros in -60_000_000_000_000_000i64..250_000_000_000_000_000) {
            let text = Timestamp::from_micros(micros).to_string();
            prop_assert_eq!(read_time(&text), Some(micros), "{}", text);
        }
        #[test]
        fn any_text_is_read_without_panic(text in "\\PC{0,40}") {
            let _ = (read_time(&text), read_date(&text), guess_text(&text), read_decimal(&text, 38, 10));
        }
        #[test]
        fn what_is_guessed_can_be_read(text in "[-0-9.:T Ze+truefalsinN]{1,24}") {
            let mut cells = Cells::new(guess_text(&text));
            prop_assert!(cells.push_text(&text), "{} guessed as {}", text, guess_text(&text));
        }
    }
}
