//! Arrays as NumPy saves them (`numpy.save`), which SageMaker's `NumpySerializer` sends as `application/x-npy`.
//!
//! The format: <https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html>. An array of one dimension is a column, one of two is rows
//! of columns. Numbers and truth values are read, in either order of bytes and of axes; what would have to be unpickled is refused.

use super::rows::{Rows, bad};
use crate::plan::check_row_count;
use gristmill_kernel::Result;
use gristmill_kernel::limits::MODEL_INPUTS_MAX;
use serde_json::Value;

/// How its files are called in HTTP.
pub const MEDIA_TYPE: &str = "application/x-npy";
const MAGIC: &[u8] = b"\x93NUMPY";

/// The rows of an array.
pub fn rows(body: &[u8]) -> Result<Rows> {
    let (header, data) = parts(body).ok_or_else(|| bad("the body is no array of NumPy"))?;
    let header = Header::of(header)?;
    let (rows, columns) = match header.shape.as_slice() {
        [rows] => (*rows, 1),
        [rows, columns] => (*rows, *columns),
        other => return Err(bad(format!("the array has {} dimensions", other.len())).fix("send one of [rows, columns]")),
    };
    let kind = header.kind;
    let bytes = rows.checked_mul(columns).and_then(|cells| cells.checked_mul(kind.bytes));
    if bytes != Some(data.len()) {
        return Err(bad(format!("the array is of {rows} x {columns} numbers of {} bytes, and has {} bytes", kind.bytes, data.len())));
    }
    // A number takes more room here than there.
    check_row_count(rows)?;
    if columns > MODEL_INPUTS_MAX {
        return Err(bad(format!("the array has {columns} columns")));
    }
    let cell = |row: usize, column: usize| {
        let at = if header.by_column { column * rows + row } else { row * columns + column };
        kind.read(&data[at * kind.bytes..][..kind.bytes])
    };
    let row = |row: usize| (0..columns).map(|column| cell(row, column)).collect::<Result<Vec<Value>>>();
    Ok(Rows::Plain((0..rows).map(row).collect::<Result<_>>()?))
}

/// An array of `f64`: a column, or rows of so many columns.
pub fn of(rows: usize, columns: Option<usize>, numbers: impl Iterator<Item = f64>) -> Vec<u8> {
    let shape = columns.map_or(format!("({rows},)"), |columns| format!("({rows}, {columns})"));
    let mut header = format!("{{'descr': '<f8', 'fortran_order': False, 'shape': {shape}, }}");
    // The data begin at a multiple of 64.
    let before = MAGIC.len() + 4;
    header += &" ".repeat(63 - (before + header.len()) % 64);
    header.push('\n');
    let length = u16::try_from(header.len()).unwrap_or_default();
    let head = [MAGIC, &[1, 0], &length.to_le_bytes(), header.as_bytes()].concat();
    head.into_iter().chain(numbers.flat_map(f64::to_le_bytes)).collect()
}

/// The header and the numbers.
fn parts(body: &[u8]) -> Option<(&str, &[u8])> {
    let (version, rest) = body.strip_prefix(MAGIC)?.split_at_checked(2)?;
    let (length, rest) = match version[0] {
        1 => {
            let (length, rest) = rest.split_first_chunk::<2>()?;
            (usize::from(u16::from_le_bytes(*length)), rest)
        }
        2 | 3 => {
            let (length, rest) = rest.split_first_chunk::<4>()?;
            (u32::from_le_bytes(*length) as usize, rest)
        }
        _ => return None,
    };
    let (header, data) = rest.split_at_checked(length)?;
    Some((std::str::from_utf8(header).ok()?, data))
}

struct Header {
    kind: Number,
    /// Whether a column's numbers lie one behind the other.
    by_column: bool,
    shape: Vec<usize>,
}

impl Header {
    /// `{'descr': '<f8', 'fortran_order': False, 'shape': (3, 2), }`, whose keys NumPy writes in any order.
    fn of(text: &str) -> Result<Header> {
        let unreadable = || bad("the header of the array is not what NumPy writes");
        let value = |key: &str| {
            let behind = text.split_once(&format!("'{key}':"))?.1.trim_start();
            Some(behind)
        };
        let descr = value("descr").ok_or_else(unreadable)?;
        let descr = descr.strip_prefix('\'').and_then(|rest| rest.split_once('\'')).map(|(descr, _)| descr);
        let by_column = match value("fortran_order").ok_or_else(unreadable)? {
            text if text.starts_with("True") => true,
            text if text.starts_with("False") => false,
            _ => return Err(unreadable()),
        };
        let shape = value("shape").and_then(|text| text.strip_prefix('(')?.split_once(')')).ok_or_else(unreadable)?.0;
        let sizes = shape.split(',').map(str::trim).filter(|size| !size.is_empty());
        let shape = sizes.map(|size| size.parse().map_err(|_| unreadable())).collect::<Result<_>>()?;
        let kind = descr.and_then(Number::of).ok_or_else(|| {
            let what = descr.map_or("records".to_owned(), |descr| format!("`{}`", descr.escape_debug()));
            bad(format!("the array is of {what}, not of numbers")).fix("send numbers: array.astype(numpy.float64)")
        })?;
        Ok(Header { kind, by_column, shape })
    }
}

/// A type of numbers.
#[derive(Clone, Copy)]
struct Number {
    class: Class,
    bytes: usize,
    big: bool,
}

#[derive(Clone, Copy)]
enum Class {
    Truth,
    Signed,
    Unsigned,
    Float,
}

impl Number {
    /// Such as `<f8`.
    fn of(descr: &str) -> Option<Number> {
        let big = match descr.chars().next()? {
            '<' | '|' => false,
            '>' => true,
            _ => return None,
        };
        let (class, bytes) = match &descr[1..] {
            "b1" => (Class::Truth, 1),
            "i1" => (Class::Signed, 1),
            "i2" => (Class::Signed, 2),
            "i4" => (Class::Signed, 4),
            "i8" => (Class::Signed, 8),
            "u1" => (Class::Unsigned, 1),
            "u2" => (Class::Unsigned, 2),
            "u4" => (Class::Unsigned, 4),
            "u8" => (Class::Unsigned, 8),
            "f4" => (Class::Float, 4),
            "f8" => (Class::Float, 8),
            _ => return None,
        };
        Some(Number { class, bytes, big })
    }

    /// One number as JSON has it; NaN is missing.
    fn read(self, bytes: &[u8]) -> Result<Value> {
        let mut wide = [0; 8];
        for (at, byte) in bytes.iter().enumerate() {
            wide[if self.big { bytes.len() - 1 - at } else { at }] = *byte;
        }
        let bits = u64::from_le_bytes(wide);
        let float = match (self.class, self.bytes) {
            (Class::Truth, _) => return Ok(Value::Bool(bits != 0)),
            (Class::Unsigned, _) => return Ok(Value::from(bits)),
            (Class::Signed, bytes) => {
                let empty = 64 - 8 * bytes as u32;
                return Ok(Value::from((bits << empty).cast_signed() >> empty));
            }
            (Class::Float, 4) => f64::from(f32::from_bits(bits as u32)),
            (Class::Float, _) => f64::from_bits(bits),
        };
        match float {
            infinite if infinite.is_infinite() => {
                Err(bad("the array has a number that is infinite").fix("send finite numbers, NaN where one is missing"))
            }
            // JSON has no NaN: it is null then.
            float => Ok(Value::from(float)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn array(header: &str, data: &[u8]) -> Vec<u8> {
        [MAGIC, &[1, 0], &(header.len() as u16).to_le_bytes(), header.as_bytes(), data].concat()
    }

    #[test]
    fn arrays_of_numbers_are_rows() {
        let data: Vec<u8> = [1.5_f64, f64::NAN, 3.0, 4.0, 5.0, 6.0].into_iter().flat_map(f64::to_le_bytes).collect();
        let wanted = json!([[1.5, null], [3.0, 4.0], [5.0, 6.0]]);
        let plain = |rows: Rows| match rows {
            Rows::Plain(rows) => json!(rows),
            Rows::Named(_) => json!("named"),
        };
        let read = |header: &str, data: &[u8]| plain(rows(&array(header, data)).expect("rows"));
        assert_eq!(read("{'descr': '<f8', 'fortran_order': False, 'shape': (3, 2), }   \n", &data), wanted);
        // Columns first, the keys in another order.
        let turned: Vec<u8> = [1.5_f64, 3.0, 5.0, f64::NAN, 4.0, 6.0].into_iter().flat_map(f64::to_le_bytes).collect();
        assert_eq!(read("{'shape': (3, 2), 'fortran_order': True, 'descr': '<f8'}", &turned), wanted);
        let column = |descr: &str, data: &[u8]| read(&format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': (2,), }}"), data);
        assert_eq!(column("|b1", &[0, 1]), json!([[false], [true]]));
        assert_eq!(column("|i1", &[255, 1]), json!([[-1], [1]]));
        assert_eq!(column("|u1", &[255, 1]), json!([[255], [1]]));
        assert_eq!(column(">i2", &[255, 254, 1, 0]), json!([[-2], [256]]));
        assert_eq!(column("<u8", &[255, 255, 255, 255, 255, 255, 255, 255, 1, 0, 0, 0, 0, 0, 0, 0]), json!([[u64::MAX], [1]]));
        assert_eq!(column("<f4", &[0, 0, 192, 63, 0, 0, 128, 191]), json!([[1.5], [-1.0]]));
        assert_eq!(column(">f4", &[63, 192, 0, 0, 191, 128, 0, 0]), json!([[1.5], [-1.0]]));
        // What is written is read again.
        let written = of(3, Some(2), [1.5, f64::NAN, 3.0, 4.0, 5.0, 6.0].into_iter());
        assert_eq!(plain(rows(&written).expect("rows")), wanted);
        assert_eq!((written.len() - data.len()) % 64, 0, "the data begin at a multiple of 64");
        assert_eq!(plain(rows(&of(2, None, [1.0, 2.0].into_iter())).expect("rows")), json!([[1.0], [2.0]]));
    }

    #[test]
    fn what_is_no_array_of_numbers_is_refused() {
        let header = |descr: &str, shape: &str| format!("{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}");
        for (header, data, part) in [
            (header("'|O'", "(1,)"), 8, "`|O`"),
            (header("'<U3'", "(1,)"), 12, "`<U3`"),
            (header("[('a', '<f8')]", "(1,)"), 8, "records"),
            (header("'\u{e9}8'", "(1,)"), 8, "not of numbers"),
            (header("''", "(1,)"), 8, "not of numbers"),
            (header("'<f8'", "(2,)"), 8, "has 8 bytes"),
            (header("'<f8'", "(1, 1, 1)"), 8, "3 dimensions"),
            (header("'<f8'", "()"), 8, "0 dimensions"),
            (header("'<f8'", "(18446744073709551615, 18446744073709551615)"), 8, "has 8 bytes"),
            (header("'<f8'", "(18446744073709551616,)"), 8, "header"),
            (header("'<f8'", "(1000000000000, 0)"), 0, "at most"),
            (header("'|b1'", "(1, 200000)"), 200_000, "200000 columns"),
            (header("'<f8'", "(-1,)"), 8, "header"),
            ("{'descr': '<f8'}".to_owned(), 8, "header"),
            (String::new(), 0, "header"),
        ] {
            let fault = rows(&array(&header, &vec![0; data])).expect_err("refused");
            assert!(fault.message.contains(part) && fault.fix.is_some(), "{header}: {fault}");
        }
        let infinite = array("{'descr': '<f8', 'fortran_order': False, 'shape': (1,), }", &f64::INFINITY.to_le_bytes());
        assert!(rows(&infinite).expect_err("refused").message.contains("infinite"));
        // Cut anywhere, with another version, or none of it at all.
        let whole = of(2, None, [1.0, 2.0].into_iter());
        for end in 0..whole.len() {
            assert!(rows(&whole[..end]).is_err(), "{end}");
        }
        let mut other = whole;
        other[6] = 9;
        assert!(rows(&other).is_err());
    }
}
