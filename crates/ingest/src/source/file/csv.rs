//! CSV as RFC 4180 has it: a header, fields divided by one character (`,`, or `;` or a tab if the header has those instead), quotes doubled inside
//! quotes.
//!
//! Strict on purpose: lenient readers take an unclosed quote for a very long field and lose the rows in it without a word. Here a record that is not
//! what it should be is an error with its line, and nothing of the load is kept. An empty field is NULL, a quoted empty field is the empty text; empty
//! lines are passed over.

use super::Shown;
use crate::cell::{Guess, Rows};
use crate::schema::{Columns, check_names};
use arrow::array::RecordBatch;
use gristmill_kernel::error::{Code, Fault, Result, Spot};
use gristmill_kernel::limits::RECORD_BYTES_MAX;
use std::io::Read;
use std::ops::Range;

const CHUNK: usize = 1 << 20;

/// The records of a CSV file.
pub struct Records<R> {
    input: R,
    shown: Shown,
    delimiter: u8,
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    finished: bool,
    /// The line on which the next record begins, from 1.
    next_line: usize,
    /// The record at hand.
    record: Record,
}

/// One record: its text and where its fields are.
#[derive(Default)]
struct Record {
    line: usize,
    raw: Vec<u8>,
    /// The fields, unquoted; a range into `text`, and whether it was quoted.
    fields: Vec<(Range<usize>, bool)>,
    text: String,
}

impl<R: Read> Records<R> {
    fn new(input: R, shown: Shown) -> Records<R> {
        let buffer = vec![0; CHUNK];
        Records { input, shown, delimiter: b',', buffer, start: 0, end: 0, finished: false, next_line: 1, record: Record::default() }
    }

    /// Reads more bytes behind those at hand; false at the end of the input.
    fn fill(&mut self) -> Result<bool> {
        if self.finished {
            return Ok(false);
        }
        if self.start > 0 {
            self.buffer.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        if self.end == self.buffer.len() {
            self.buffer.resize(self.buffer.len() * 2, 0);
        }
        loop {
            match self.input.read(&mut self.buffer[self.end..]) {
                Ok(0) => self.finished = true,
                Ok(n) => self.end += n,
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(e) => return Err(Fault::io(format!("read {}", self.shown), e)),
            }
            return Ok(!self.finished);
        }
    }

    /// Finds the next record that is not an empty line and puts it into `self.record`; false at the end.
    fn advance(&mut self) -> Result<bool> {
        loop {
            let Some(length) = self.record_length()? else { return Ok(false) };
            let bytes = &self.buffer[self.start..self.start + length];
            let newlines = memchr::memchr_iter(b'\n', bytes).count();
            let bytes = bytes.strip_suffix(b"\n").unwrap_or(bytes);
            let bytes = bytes.strip_suffix(b"\r").unwrap_or(bytes);
            self.record.line = self.next_line;
            self.record.raw.clear();
            self.record.raw.extend_from_slice(bytes);
            self.start += length;
            self.next_line += newlines.max(1);
            if !self.record.raw.is_empty() {
                return Ok(true);
            }
        }
    }

    /// The bytes of the next record with its line end; `None` at the end of the input.
    fn record_length(&mut self) -> Result<Option<usize>> {
        let (mut searched, mut in_quotes) = (0, false);
        loop {
            let bytes = &self.buffer[self.start + searched..self.end];
            for at in memchr::memchr2_iter(b'"', b'\n', bytes) {
                if bytes[at] == b'"' {
                    in_quotes = !in_quotes;
                } else if !in_quotes {
                    return Ok(Some(searched + at + 1));
                }
            }
            searched = self.end - self.start;
            if searched > RECORD_BYTES_MAX {
                let reason = if in_quotes { "a quote opened here is not closed" } else { "the line does not end" };
                return Err(self.broken_at_start(&format!("{reason} within {} MiB", RECORD_BYTES_MAX >> 20)));
            }
            if !self.fill()? {
                return match (searched, in_quotes) {
                    (0, _) => Ok(None),
                    (_, true) => Err(self.broken_at_start("a quote opened here is never closed")),
                    (n, false) => Ok(Some(n)),
                };
            }
        }
    }

    fn broken_at_start(&self, reason: &str) -> Fault {
        let bytes = &self.buffer[self.start..self.end];
        let text = String::from_utf8_lossy(&bytes[..bytes.iter().position(|b| *b == b'\n').unwrap_or(bytes.len()).min(500)]).into_owned();
        broken(&self.shown, self.next_line, text, reason)
    }

    fn broken(&self, reason: &str) -> Fault {
        let raw = &self.record.raw;
        let text = String::from_utf8_lossy(&raw[..raw.iter().position(|b| *b == b'\n').unwrap_or(raw.len()).min(500)]).into_owned();
        broken(&self.shown, self.record.line, text, reason)
    }

    /// Divides the record at hand into fields.
    fn split(&mut self) -> Result<()> {
        let delimiter = self.delimiter;
        let Record { raw, fields, text, .. } = &mut self.record;
        fields.clear();
        text.clear();
        let Ok(record) = std::str::from_utf8(raw) else { return Err(self.broken("the line is not UTF-8 text")) };
        if memchr::memchr(b'"', record.as_bytes()).is_none() {
            text.push_str(record);
            let mut from = 0;
            for at in memchr::memchr_iter(delimiter, record.as_bytes()) {
                fields.push((from..at, false));
                from = at + 1;
            }
            fields.push((from..record.len(), false));
            return Ok(());
        }
        match split_quoted(record, delimiter, fields, text) {
            Ok(()) => Ok(()),
            Err(reason) => Err(self.broken(reason)),
        }
    }

    fn next(&mut self) -> Result<bool> {
        if !self.advance()? {
            return Ok(false);
        }
        self.split()?;
        Ok(true)
    }

    /// Reads the header.
    fn header(&mut self) -> Result<Vec<String>> {
        if !self.advance()? {
            return Err(Fault::invalid(Code::SOURCE_UNREADABLE, format!("{} is empty", self.shown))
                .fix("a CSV file begins with a line of column names"));
        }
        if let Some(rest) = self.record.raw.strip_prefix(b"\xef\xbb\xbf") {
            self.record.raw = rest.to_vec();
        }
        let count = |c: u8| self.record.raw.iter().filter(|b| **b == c).count();
        self.delimiter = match (count(b','), count(b';'), count(b'\t')) {
            (0, 0, 0) => b',',
            (0, semicolons, tabs) => {
                if semicolons >= tabs {
                    b';'
                } else {
                    b'\t'
                }
            }
            _ => b',',
        };
        self.split()?;
        let Record { fields, text, .. } = &self.record;
        let names: Vec<String> = fields.iter().map(|(range, _)| text[range.clone()].trim().to_owned()).collect();
        check_names(names.iter().map(String::as_str), &self.shown.to_string())?;
        Ok(names)
    }

    fn check_width(&self, expected: usize) -> Result<()> {
        let found = self.record.fields.len();
        if found == expected {
            return Ok(());
        }
        Err(self.broken(&format!("the line has {found} field{}, the header {expected}", if found == 1 { "" } else { "s" })))
    }

    /// The field's text, `None` for NULL.
    fn field(&self, index: usize) -> Option<&str> {
        let (range, quoted) = &self.record.fields[index];
        if range.is_empty() && !quoted { None } else { Some(&self.record.text[range.clone()]) }
    }
}

fn split_quoted(record: &str, delimiter: u8, fields: &mut Vec<(Range<usize>, bool)>, text: &mut String) -> Result<(), &'static str> {
    let bytes = record.as_bytes();
    let mut at = 0;
    loop {
        let from = text.len();
        let quoted = bytes.get(at) == Some(&b'"');
        if quoted {
            at += 1;
            loop {
                let close = at + memchr::memchr(b'"', &bytes[at..]).ok_or("a quote opened on this line is never closed")?;
                text.push_str(&record[at..close]);
                at = close + 1;
                if bytes.get(at) != Some(&b'"') {
                    break;
                }
                text.push('"');
                at += 1;
            }
            if at < bytes.len() && bytes[at] != delimiter {
                return Err("text follows a closing quote; a quote inside a quoted field must be doubled");
            }
        } else {
            let stop = memchr::memchr2(delimiter, b'"', &bytes[at..]).map_or(bytes.len(), |n| at + n);
            if bytes.get(stop) == Some(&b'"') {
                return Err("a quote inside a field that does not begin with one");
            }
            text.push_str(&record[at..stop]);
            at = stop;
        }
        fields.push((from..text.len(), quoted));
        if at == bytes.len() {
            return Ok(());
        }
        at += 1;
    }
}

fn broken(shown: &Shown, line: usize, text: String, reason: &str) -> Fault {
    let width = text.chars().count().max(1);
    Fault::invalid(Code::BAD_ROW, format!("this row cannot be read: {reason}; nothing of this load was kept"))
        .fix(format!("correct line {line} of {shown} and run again"))
        .at(Spot { file: shown.to_string(), line, column: 1, width, text })
}

/// Names and guessed types of a whole CSV file. Every line is checked on the way.
pub fn infer(input: impl Read, shown: &Shown) -> Result<Vec<(String, Guess)>> {
    let mut records = Records::new(input, shown.clone());
    let names = records.header()?;
    let mut guesses = vec![Guess::default(); names.len()];
    while records.next()? {
        records.check_width(names.len())?;
        for (index, guess) in guesses.iter_mut().enumerate() {
            if let Some(text) = records.field(index) {
                guess.see_text(text);
            }
        }
        shown.check_now_and_then(records.record.line)?;
    }
    Ok(names.into_iter().zip(guesses).collect())
}

/// The rows of a CSV file as batches of the given columns.
pub struct Reader<R> {
    records: Records<R>,
    rows: Rows,
    /// For each column of the table its place in the file.
    places: Vec<usize>,
    width: usize,
}

impl<R: Read> Reader<R> {
    /// Reads the header and holds it against the columns.
    pub fn new(input: R, shown: Shown, columns: &Columns) -> Result<Reader<R>> {
        let mut records = Records::new(input, shown);
        let names = records.header()?;
        let places = super::match_columns(&names, columns, &records.shown)?;
        Ok(Reader { records, rows: Rows::new(columns.clone()), places, width: names.len() })
    }

    fn fill_batch(&mut self) -> Result<Option<RecordBatch>> {
        while !self.rows.full() && self.records.next()? {
            self.records.check_width(self.width)?;
            for (index, place) in self.places.iter().enumerate() {
                match self.records.field(*place) {
                    None => self.rows.cells[index].push_null(),
                    Some(text) => {
                        if !self.rows.cells[index].push_text(text) {
                            let (name, kind) = self.rows.columns.at(index);
                            let mut fault = super::wrong_type(&self.records.shown, self.records.record.line, name, text, kind);
                            let line = self.records.record.text.chars().take(500).collect();
                            fault.spot = fault.spot.map(|s| Box::new(Spot { text: line, ..*s }));
                            return Err(fault);
                        }
                    }
                }
            }
            self.rows.row_done(self.records.record.raw.len());
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
    use arrow::array::AsArray;
    use proptest::prelude::*;

    fn read(text: &str) -> Result<Vec<Vec<Option<String>>>> {
        let mut records = Records::new(text.as_bytes(), Shown::new("x.csv"));
        let width = records.header()?.len();
        let mut rows = Vec::new();
        while records.next()? {
            records.check_width(width)?;
            rows.push((0..width).map(|i| records.field(i).map(str::to_owned)).collect());
        }
        Ok(rows)
    }

    fn row(fields: &[&str]) -> Vec<Option<String>> {
        fields.iter().map(|f| (*f != "NULL").then(|| (*f).to_owned())).collect()
    }

    #[test]
    fn quotes_line_ends_and_nulls() {
        assert_eq!(
            read("a,b\n1,\"x, \"\"y\"\"\n z\"\r\n\n,\"\"\n3,4").expect("good"),
            vec![row(&["1", "x, \"y\"\n z"]), row(&["NULL", ""]), row(&["3", "4"])]
        );
        assert_eq!(read("\u{feff}a;b\n1;2,5\n").expect("good"), vec![row(&["1", "2,5"])]);
    }

    #[test]
    fn broken_lines_have_their_line_and_reason() {
        for (text, line, reason) in [
            ("a,b\n1,2\n3\n4,5\n", 3, "1 field, the header 2"),
            ("a,b\n1,2\n3,4,5\n", 3, "3 fields, the header 2"),
            ("a,b\n1,\"2\n2,3\n3,4\n", 2, "never closed"),
            ("a,b\n\n1,\"2\" x\n", 3, "closing quote"),
            ("a,b\n\"m\nn\",2\n1,5\" pipe \"\n", 4, "does not begin with one"),
        ] {
            let fault = read(text).expect_err(text);
            let spot = fault.spot.clone().expect("a place");
            assert_eq!((fault.code, spot.line, spot.file.as_str()), (Code::BAD_ROW, line, "x.csv"), "{text:?}: {fault}");
            assert!(fault.message.contains(reason) && fault.fix.is_some(), "{fault}");
        }
        assert_eq!(read("").expect_err("empty").code, Code::SOURCE_UNREADABLE);
        let not_text = Records::new(&b"a\n\xff\n"[..], Shown::new("x.csv")).read_all();
        assert!(not_text.expect_err("not text").message.contains("UTF-8"));
    }

    impl<R: Read> Records<R> {
        fn read_all(mut self) -> Result<usize> {
            self.header()?;
            let mut n = 0;
            while self.next()? {
                n += 1;
            }
            Ok(n)
        }
    }

    #[test]
    fn an_endless_quote_ends_at_the_limit() {
        let input = b"a\n\"".chain(std::io::repeat(b'x'));
        let fault = Records::new(input, Shown::new("x.csv")).read_all().expect_err("too long");
        assert_eq!((fault.code, fault.spot.expect("a place").line), (Code::BAD_ROW, 2));
    }

    #[test]
    fn wrong_types_name_line_column_and_value() {
        let columns = Columns::new(vec![("b".into(), crate::schema::ColumnType::Int), ("a".into(), crate::schema::ColumnType::Text)], "x")
            .expect("good");
        let good: Vec<_> =
            Reader::new(&b"a,b\nx,1\ny,\n"[..], Shown::new("x.csv"), &columns).expect("header").collect::<Result<_>>().expect("rows");
        assert_eq!(good[0].column(0).as_primitive::<arrow::datatypes::Int64Type>().iter().collect::<Vec<_>>(), [Some(1), None]);
        let fault =
            Reader::new(&b"a,b\nx,1\ny,zwei\n"[..], Shown::new("x.csv"), &columns).expect("header").find_map(Result::err).expect("refused");
        assert_eq!((fault.code, fault.spot.as_ref().expect("a place").line), (Code::WRONG_TYPE, 3));
        assert!(fault.message.contains("`zwei`") && fault.message.contains("`b`") && fault.message.contains("int"), "{fault}");
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(rows in prop::collection::vec(prop::collection::vec("[a-z,\";\n\r é]{0,8}", 3), 0..20)) {
            let mut text = String::from("a,b,c\n");
            for row in &rows {
                let line: Vec<_> = row.iter().map(|f| format!("\"{}\"", f.replace('"', "\"\""))).collect();
                text.push_str(&line.join(","));
                text.push('\n');
            }
            let expected: Vec<Vec<_>> = rows.into_iter().map(|r| r.into_iter().map(Some).collect()).collect();
            prop_assert_eq!(read(&text).expect("good"), expected);
        }
        #[test]
        fn any_bytes_are_read_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = Records::new(&bytes[..], Shown::new("x.csv")).read_all();
        }
    }
}
