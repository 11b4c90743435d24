//! JSON objects as rows: one per line, or one array of objects. Keys become columns in the order of their first appearance; a missing key is NULL; a
//! nested value is kept as JSON text.

use super::Shown;
use crate::cell::{Guess, Rows};
use crate::schema::{Columns, check_names, nearest};
use arrow::array::RecordBatch;
use gristmill_kernel::error::{Code, Fault, Result, Spot};
use gristmill_kernel::limits::{JSON_DEPTH_MAX, RECORD_BYTES_MAX};
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::Value;
use std::fmt;
use std::io::{BufRead, BufReader, Read};

/// One object, its keys in the order written. A key written twice is an error, not a lost value.
#[derive(Debug, Clone, PartialEq)]
pub struct Object(pub Vec<(String, Value)>);

impl<'de> serde::Deserialize<'de> for Object {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Object, D::Error> {
        struct Keys;
        impl<'de> Visitor<'de> for Keys {
            type Value = Object;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object with a key per column")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Object, A::Error> {
                let mut pairs: Vec<(String, Value)> = Vec::with_capacity(map.size_hint().unwrap_or(8).min(64));
                while let Some((key, value)) = map.next_entry::<String, Value>()? {
                    if pairs.len() < 64 && pairs.iter().any(|(k, _)| *k == key) {
                        return Err(serde::de::Error::custom(format!("key `{key}` appears twice")));
                    }
                    if depth(&value) >= JSON_DEPTH_MAX {
                        return Err(serde::de::Error::custom(format!("key `{key}` is nested deeper than {JSON_DEPTH_MAX}")));
                    }
                    pairs.push((key, value));
                }
                if pairs.len() >= 64 {
                    let distinct: std::collections::BTreeSet<_> = pairs.iter().map(|(k, _)| k.as_str()).collect();
                    if distinct.len() < pairs.len() {
                        return Err(serde::de::Error::custom("a key appears twice"));
                    }
                }
                Ok(Object(pairs))
            }
        }
        deserializer.deserialize_map(Keys)
    }
}

fn depth(value: &Value) -> usize {
    match value {
        Value::Array(items) => 1 + items.iter().map(depth).max().unwrap_or(0),
        Value::Object(map) => 1 + map.values().map(depth).max().unwrap_or(0),
        _ => 0,
    }
}

/// The objects of a file, with the line each begins on.
pub struct Objects<R> {
    input: BufReader<R>,
    shown: Shown,
    line: usize,
    text: Vec<u8>,
    /// The rows of a file that is one array.
    array: Option<std::vec::IntoIter<Object>>,
    begun: bool,
}

impl<R: Read> Objects<R> {
    /// Over an open file.
    pub fn new(input: R, shown: Shown) -> Objects<R> {
        Objects { input: BufReader::with_capacity(1 << 20, input), shown, line: 0, text: Vec::new(), array: None, begun: false }
    }

    /// The next object and its line (its number, in an array).
    pub fn next_object(&mut self) -> Result<Option<(usize, Object)>> {
        if !self.begun {
            self.begun = true;
            self.begin()?;
        }
        if let Some(array) = &mut self.array {
            self.line += 1;
            return Ok(array.next().map(|object| (self.line, object)));
        }
        while self.read_line()? {
            if !self.text.trim_ascii().is_empty() {
                return match serde_json::from_slice(&self.text) {
                    Ok(object) => Ok(Some((self.line, object))),
                    Err(e) => Err(self.broken(&e)),
                };
            }
        }
        Ok(None)
    }

    /// Looks whether the file is one array.
    fn begin(&mut self) -> Result<()> {
        let bytes = self.input.fill_buf().map_err(|e| Fault::io(format!("read {}", self.shown), e))?;
        if bytes.trim_ascii_start().first() == Some(&b'[') {
            let rows: Vec<Object> = serde_json::from_reader(&mut self.input).map_err(|e| {
                self.line = e.line();
                self.text.clear();
                self.broken(&e)
            })?;
            self.array = Some(rows.into_iter());
        }
        Ok(())
    }

    fn read_line(&mut self) -> Result<bool> {
        self.text.clear();
        self.line += 1;
        let limit = RECORD_BYTES_MAX as u64 + 1;
        let read =
            (&mut self.input).take(limit).read_until(b'\n', &mut self.text).map_err(|e| Fault::io(format!("read {}", self.shown), e))?;
        if read as u64 == limit {
            self.text.truncate(100);
            let spot = Spot {
                file: self.shown.to_string(),
                line: self.line,
                column: 1,
                width: 1,
                text: String::from_utf8_lossy(&self.text).into_owned(),
            };
            return Err(Fault::invalid(
                Code::BAD_ROW,
                format!("the line is longer than {} MiB; nothing of this load was kept", RECORD_BYTES_MAX >> 20),
            )
            .fix("write one object per line")
            .at(spot));
        }
        Ok(read > 0)
    }

    fn broken(&self, e: &serde_json::Error) -> Fault {
        let text: String = String::from_utf8_lossy(&self.text).trim_end().chars().take(500).collect();
        // serde_json says "at line 1 column 9" within what it was given; the place in the file is ours.
        let reason = e.to_string();
        let reason = reason.rsplit_once(" at line ").map_or(reason.as_str(), |(reason, _)| reason);
        Fault::invalid(Code::BAD_ROW, format!("this row cannot be read: {reason}; nothing of this load was kept"))
            .fix(format!("correct line {} of {} and run again", self.line, self.shown))
            .at(Spot { file: self.shown.to_string(), line: self.line, column: e.column().max(1), width: 1, text })
    }
}

/// Collects column names and types over objects.
#[derive(Default)]
pub struct Shape(Vec<(String, Guess)>);

impl Shape {
    /// Takes one more object.
    pub fn see(&mut self, object: &Object) {
        for (index, (key, value)) in object.0.iter().enumerate() {
            // Most objects have their keys in the order of the one before.
            let at = if self.0.get(index).is_some_and(|(k, _)| k == key) { Some(index) } else { self.0.iter().position(|(k, _)| k == key) };
            match at {
                Some(at) => self.0[at].1.see_json(value),
                None => {
                    let mut guess = Guess::default();
                    guess.see_json(value);
                    self.0.push((key.clone(), guess));
                }
            }
        }
    }
    /// What was seen.
    pub fn columns(self, whose: &str) -> Result<Vec<(String, Guess)>> {
        check_names(self.0.iter().map(|(name, _)| name.as_str()), whose)?;
        Ok(self.0)
    }
}

/// Names and guessed types of a whole file.
pub fn infer(input: impl Read, shown: &Shown) -> Result<Vec<(String, Guess)>> {
    let mut objects = Objects::new(input, shown.clone());
    let mut shape = Shape::default();
    while let Some((line, object)) = objects.next_object()? {
        shape.see(&object);
        shown.check_now_and_then(line)?;
    }
    shape.columns(&shown.to_string())
}

/// Why an object does not fit its columns.
#[derive(Debug, PartialEq)]
pub enum Misfit {
    /// A key that no column has, and the nearest column.
    Unknown(String, Option<String>),
    /// A value of another type: column, value, expected type.
    Type(String, Value, crate::schema::ColumnType),
}

/// Adds an object to the rows. On a misfit the rows are unusable.
pub fn push_object(rows: &mut Rows, object: &Object, bytes: usize) -> Result<(), Misfit> {
    let before = rows.len();
    for (index, (key, value)) in object.0.iter().enumerate() {
        let at = if index < rows.columns.len() && rows.columns.at(index).0 == key { Some(index) } else { rows.columns.position(key) };
        let Some(at) = at else {
            return Err(Misfit::Unknown(key.clone(), nearest(key, rows.columns.iter().map(|(n, _)| n)).map(str::to_owned)));
        };
        if !rows.cells[at].push_json(value) {
            return Err(Misfit::Type(key.clone(), value.clone(), rows.columns.at(at).1));
        }
    }
    if object.0.len() < rows.columns.len() {
        for cells in &mut rows.cells {
            if cells.len() == before {
                cells.push_null();
            }
        }
    }
    rows.row_done(bytes);
    Ok(())
}

/// The rows of a JSON file as batches of the given columns.
pub struct Reader<R> {
    objects: Objects<R>,
    rows: Rows,
}

impl<R: Read> Reader<R> {
    /// Over an open file.
    pub fn new(input: R, shown: Shown, columns: &Columns) -> Reader<R> {
        Reader { objects: Objects::new(input, shown), rows: Rows::new(columns.clone()) }
    }

    fn fill_batch(&mut self) -> Result<Option<RecordBatch>> {
        while !self.rows.full() {
            let Some((line, object)) = self.objects.next_object()? else { break };
            let bytes = self.objects.text.len().max(64);
            if let Err(misfit) = push_object(&mut self.rows, &object, bytes) {
                return Err(match misfit {
                    Misfit::Unknown(key, near) => {
                        super::unknown_column(&self.objects.shown, Some(line), &key, near.as_deref(), &self.rows.columns)
                    }
                    Misfit::Type(key, value, kind) => super::wrong_type(&self.objects.shown, line, &key, &value.to_string(), kind),
                });
            }
        }
        if self.rows.is_empty() { Ok(None) } else { self.rows.finish().map(Some) }
    }
}

impl<R: Read> Iterator for Reader<R> {
    type Item = Result<RecordBatch>;
    fn next(&mut self) -> Option<Self::Item> {
        self.fill_batch().transpose()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::ColumnType;

    fn types(text: &str) -> Result<Vec<(String, ColumnType)>> {
        Ok(infer(text.as_bytes(), &Shown::new("x.jsonl"))?.into_iter().map(|(n, g)| (n, g.kind())).collect())
    }

    #[test]
    fn lines_and_arrays_are_the_same_rows() {
        let expected = vec![("b".to_owned(), ColumnType::Float), ("a".to_owned(), ColumnType::Time), ("c".to_owned(), ColumnType::Text)];
        assert_eq!(types("{\"b\":1,\"a\":null}\n\n{\"a\":\"2011-09-01T00:00:00Z\",\"b\":2.5,\"c\":[1]}").expect("lines"), expected);
        assert_eq!(types(" [{\"b\":1,\"a\":null},{\"a\":\"2011-09-01T00:00:00Z\",\"b\":2.5,\"c\":[1]}]").expect("array"), expected);
    }

    #[test]
    fn broken_objects_have_their_line() {
        for (text, line) in [("{\"a\":1}\n{\"a\":", 2), ("{\"a\":1}\n\n[1]", 3), ("{\"a\":1,\"a\":2}", 1), ("[{\"a\":1},\n{\"a\" 1}]", 2)] {
            let fault = types(text).expect_err(text);
            assert_eq!((fault.code, fault.spot.as_ref().expect("a place").line), (Code::BAD_ROW, line), "{text:?}: {fault}");
        }
        let deep = format!("{{\"a\":{}1{}}}", "[".repeat(JSON_DEPTH_MAX), "]".repeat(JSON_DEPTH_MAX));
        assert!(types(&deep).expect_err("deep").message.contains("deeper"));
    }

    #[test]
    fn misfits_name_the_column() {
        let columns = Columns::new(vec![("price".into(), ColumnType::Float), ("name".into(), ColumnType::Text)], "x").expect("good");
        let read = |text: &'static str| Reader::new(text.as_bytes(), Shown::new("x.jsonl"), &columns).collect::<Result<Vec<_>>>();
        assert_eq!(read("{\"price\":1}\n{\"name\":\"x\"}").expect("good")[0].num_rows(), 2);
        let fault = read("{\"price\":1}\n{\"prize\":1}").expect_err("unknown");
        assert!(fault.code == Code::SCHEMA_MISMATCH && fault.to_string().contains("did you mean `price`"), "{fault}");
        let fault = read("{\"price\":\"cheap\"}").expect_err("type");
        assert!(fault.code == Code::WRONG_TYPE && fault.message.contains("cheap"), "{fault}");
    }
}
