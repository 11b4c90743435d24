//! The rows of a journal: how a pushed row is encoded, and how rows go from the journal into the table.
//!
//! Encoding: one compact JSON object, the columns in the table's order, NULLs left out, moments in RFC 3339 as they came. Two keys beside the columns are
//! ours: `_replay` is the number of the row in the file a replay plays.
//!
//! Promise: a row is in the journal until a table commit that carries its offset (stream `journal`) has it. A crash between commit and forgetting leaves
//! it in both, and the position keeps it from being written twice.

use crate::cell::Rows;
use crate::schema::Columns;
use crate::source::file::json::{Misfit, Object, push_object};
use arrow::array::RecordBatch;
use bytes::Bytes;
use gristmill_kernel::error::{Code, Fault, Result};
use gristmill_kernel::port::JournalEntry;
use serde_json::Value;

/// The stream of journal offsets in a table's positions.
pub const STREAM: &str = "journal";
/// The stream of replayed row numbers.
pub const REPLAY_STREAM: &str = "replay";
/// The stream of the row numbers of a replay's history.
pub const HISTORY_STREAM: &str = "history";
/// The key of the replayed row's number.
pub const REPLAY_KEY: &str = "_replay";

/// Encodes a row whose values have been checked.
pub fn encode(object: &Object, columns: &Columns, replay: Option<u64>) -> Result<Bytes> {
    let failed = |e| Fault::internal("a row does not serialise").because(e);
    let mut out = Vec::with_capacity(32 + object.0.len() * 24);
    out.push(b'{');
    let mut field = |name: &str, value: &Value| -> Result<(), serde_json::Error> {
        if out.len() > 1 {
            out.push(b',');
        }
        serde_json::to_writer(&mut out, name)?;
        out.push(b':');
        serde_json::to_writer(&mut out, value)
    };
    for (index, (name, _)) in columns.iter().enumerate() {
        let value = match object.0.get(index) {
            Some((key, value)) if key == name => Some(value),
            _ => object.0.iter().find(|(key, _)| key == name).map(|(_, value)| value),
        };
        if let Some(value) = value.filter(|v| !v.is_null()) {
            field(name, value).map_err(failed)?;
        }
    }
    if let Some(row) = replay {
        field(REPLAY_KEY, &row.into()).map_err(failed)?;
    }
    out.push(b'}');
    Ok(out.into())
}

/// Rows taken from a journal.
pub struct Drained {
    /// As batches of the table's columns.
    pub batches: Vec<RecordBatch>,
    /// The highest replayed row number among them.
    pub replayed: Option<u64>,
}

/// Decodes entries. Every row was checked before it was acknowledged, so one that does not fit means that the columns have changed since; it stays in the
/// journal.
pub fn decode(source: &str, entries: &[JournalEntry], columns: &Columns) -> Result<Drained> {
    let mut rows = Rows::new(columns.clone());
    let mut drained = Drained { batches: Vec::new(), replayed: None };
    for entry in entries {
        let (object, replay) = decode_one(source, entry)?;
        drained.replayed = drained.replayed.max(replay);
        if let Err(misfit) = push_object(&mut rows, &object, entry.row.len()) {
            let what = match misfit {
                Misfit::Unknown(key, _) => format!("column `{key}`, which the source no longer has"),
                Misfit::Type(key, value, kind) => format!("`{value}` in column `{key}`, which is now {kind}"),
            };
            return Err(Fault::conflict(Code::SCHEMA_MISMATCH, format!("row {} in the journal of {source} has {what}", entry.offset))
                .fix("put the column back in gristmill.lock and run again; the row stays in the journal until then"));
        }
        if rows.full() {
            drained.batches.push(rows.finish()?);
        }
    }
    if !rows.is_empty() {
        drained.batches.push(rows.finish()?);
    }
    Ok(drained)
}

/// Decodes one entry into its row and the number a replay gave it.
pub fn decode_one(source: &str, entry: &JournalEntry) -> Result<(Object, Option<u64>)> {
    let mut object: Object = serde_json::from_slice(&entry.row)
        .map_err(|e| Fault::damaged(format!("row {} in the journal of {source} cannot be read: {e}", entry.offset)))?;
    let replay = match object.0.last() {
        Some((key, value)) if key == REPLAY_KEY => value.as_u64(),
        _ => None,
    };
    if replay.is_some() {
        object.0.pop();
    }
    Ok((object, replay))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::ColumnType;
    use gristmill_kernel::Timestamp;
    use proptest::prelude::*;

    fn columns() -> Columns {
        let columns = [("n", ColumnType::Int), ("x", ColumnType::Float), ("s", ColumnType::Text), ("t", ColumnType::Time)];
        Columns::new(columns.map(|(n, k)| (n.to_owned(), k)).to_vec(), "x").expect("columns")
    }
    fn entry(row: Bytes) -> JournalEntry {
        JournalEntry { offset: 9, at: Timestamp::default(), row }
    }
    fn batch(object: &Object) -> RecordBatch {
        let mut rows = Rows::new(columns());
        push_object(&mut rows, object, 1).expect("fits");
        rows.finish().expect("batch")
    }

    #[test]
    fn a_row_that_no_longer_fits_stays_and_says_so() {
        let fault = decode("x", &[entry(Bytes::from_static(b"{\"gone\":1}"))], &columns()).err().expect("refused");
        assert!(fault.message.contains("row 9") && fault.message.contains("`gone`"), "{fault}");
        let fault = decode("x", &[entry(Bytes::from_static(b"{\"n\":"))], &columns()).err().expect("damaged");
        assert_eq!(fault.code, Code::DAMAGED);
    }

    #[test]
    fn replayed_rows_carry_their_number() {
        let object = Object(vec![("n".into(), 1.into())]);
        let bytes = encode(&object, &columns(), Some(41)).expect("encodes");
        assert_eq!(&bytes[..], br#"{"n":1,"_replay":41}"#);
        let drained = decode("x", &[entry(bytes)], &columns()).expect("decodes");
        assert_eq!((drained.replayed, drained.batches[0].num_rows()), (Some(41), 1));
    }

    proptest! {
        #[test]
        fn what_is_encoded_is_decoded(n in any::<Option<i64>>(), x in proptest::option::of(proptest::num::f64::NORMAL), s in any::<Option<String>>(), micros in 0i64..4_000_000_000_000_000) {
            let time = Timestamp::from_micros(micros).to_string();
            let object = Object(vec![("s".into(), s.into()), ("x".into(), x.into()), ("n".into(), n.into()), ("t".into(), time.into())]);
            let bytes = encode(&object, &columns(), None).expect("encodes");
            let drained = decode("x", &[entry(bytes)], &columns()).expect("decodes");
            prop_assert_eq!(&drained.batches[0], &batch(&object));
        }
    }
}
