//! A document of nested tables and lists, in JSON or in UBJSON: the two ways XGBoost writes its models.
//!
//! Promises: no count in the file is believed before the bytes behind it are there; nesting and the number of values are bounded. Lists of
//! numbers are kept packed.

use gristmill_kernel::limits::{JSON_DEPTH_MAX, MODEL_VALUES_MAX};
use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use std::borrow::Cow;
use std::cell::Cell;
use std::collections::BTreeMap;

/// A value of a document.
#[derive(Debug, Clone, PartialEq)]
pub enum Doc {
    Null,
    Bool(bool),
    Number(f64),
    Text(String),
    /// A list of numbers.
    Numbers(Vec<f64>),
    /// A list of small whole numbers.
    Bytes(Vec<u8>),
    List(Vec<Doc>),
    Table(BTreeMap<String, Doc>),
}

impl Doc {
    /// Reads either format: both begin with a brace, and only in JSON a quote, a closing brace or white space can follow.
    pub fn read(bytes: &[u8]) -> Result<Doc, String> {
        let start = bytes.iter().position(|b| !b.is_ascii_whitespace()).unwrap_or(bytes.len());
        match bytes.get(start..start + 2) {
            Some([b'{', second]) if second.is_ascii_whitespace() || b"\"}".contains(second) => Doc::json(bytes),
            Some([b'{', _]) => Doc::ubjson(bytes),
            _ => Err("it is neither JSON nor UBJSON".into()),
        }
    }

    fn json(bytes: &[u8]) -> Result<Doc, String> {
        let budget = Budget::default();
        let bytes = standard(bytes);
        let mut json = serde_json::Deserializer::from_slice(&bytes);
        let doc = Json(&budget).deserialize(&mut json).and_then(|doc| json.end().map(|()| doc));
        doc.map_err(|e| format!("it is not JSON: {e}"))
    }

    fn ubjson(bytes: &[u8]) -> Result<Doc, String> {
        let mut reader = Ubjson { bytes, at: 0, budget: Budget::default() };
        let doc = reader.marker().and_then(|marker| reader.value(marker, 0)).map_err(|why| format!("byte {}: {why}", reader.at))?;
        match reader.bytes.get(reader.at..).is_none_or(<[u8]>::is_empty) {
            true => Ok(doc),
            false => Err(format!("byte {}: something stands behind its end", reader.at)),
        }
    }

    /// What stands under a key of a table.
    pub fn get(&self, key: &str) -> Option<&Doc> {
        match self {
            Doc::Table(entries) => entries.get(key),
            _ => None,
        }
    }
    /// What stands at the end of a path of keys.
    pub fn at(&self, path: &[&str]) -> Result<&Doc, String> {
        path.iter().try_fold(self, |doc, key| doc.get(key)).ok_or_else(|| format!("`{}` is missing", path.join(".")))
    }
    /// A text.
    pub fn text(&self) -> Option<&str> {
        match self {
            Doc::Text(text) => Some(text),
            _ => None,
        }
    }
    /// A number, also one written as text.
    pub fn number(&self) -> Option<f64> {
        match self {
            Doc::Number(number) => Some(*number),
            Doc::Bool(flag) => Some(f64::from(u8::from(*flag))),
            Doc::Text(text) => text.trim().parse().ok(),
            _ => None,
        }
    }
    /// A whole number, not negative.
    pub fn count(&self) -> Option<usize> {
        let number = self.number()?;
        // Above it, not every whole number is an `f64`.
        (number >= 0.0 && number.fract() == 0.0 && number < 9e15).then_some(number as usize)
    }
    /// How many values a list has.
    pub fn len(&self) -> Option<usize> {
        match self {
            Doc::Numbers(list) => Some(list.len()),
            Doc::Bytes(list) => Some(list.len()),
            Doc::List(list) => Some(list.len()),
            _ => None,
        }
    }
    /// The number at a place of a list.
    pub fn nth(&self, place: usize) -> Option<f64> {
        match self {
            Doc::Numbers(list) => list.get(place).copied(),
            Doc::Bytes(list) => list.get(place).map(|b| f64::from(*b)),
            Doc::List(list) => list.get(place)?.number(),
            _ => None,
        }
    }
    /// The values of a list that is not of numbers alone.
    pub fn list(&self) -> Option<&[Doc]> {
        match self {
            Doc::List(list) => Some(list),
            // An empty list is one of anything.
            Doc::Numbers(list) if list.is_empty() => Some(&[]),
            Doc::Bytes(list) if list.is_empty() => Some(&[]),
            _ => None,
        }
    }
}

/// JSON as its standard has it: XGBoost also writes `NaN`, which becomes null, and infinities, which become numbers beyond every `f32`.
fn standard(bytes: &[u8]) -> Cow<'_, [u8]> {
    let mut out: Option<Vec<u8>> = None;
    let (mut at, mut copied, mut quoted) = (0, 0, false);
    while let Some(byte) = bytes.get(at) {
        let word = match byte {
            b'"' => {
                quoted = !quoted;
                None
            }
            b'\\' if quoted => {
                at += 1;
                None
            }
            b'N' if !quoted && bytes[at..].starts_with(b"NaN") => Some((3, &b"null"[..])),
            b'I' if !quoted && bytes[at..].starts_with(b"Infinity") => Some((8, &b"1e308"[..])),
            _ => None,
        };
        match word {
            None => at += 1,
            Some((length, standard)) => {
                let out = out.get_or_insert_default();
                out.extend_from_slice(&bytes[copied..at]);
                out.extend_from_slice(standard);
                at += length;
                copied = at;
            }
        }
    }
    match out {
        None => Cow::Borrowed(bytes),
        Some(mut out) => {
            out.extend_from_slice(&bytes[copied..]);
            Cow::Owned(out)
        }
    }
}

/// How many values may still be read. A number is packed, anything else takes the room of several.
struct Budget(Cell<usize>);

impl Default for Budget {
    fn default() -> Budget {
        Budget(Cell::new(MODEL_VALUES_MAX))
    }
}

impl Budget {
    fn spend(&self, values: usize) -> Result<(), String> {
        let left = self.0.get().checked_sub(values).ok_or_else(|| format!("it has more than {MODEL_VALUES_MAX} values"))?;
        self.0.set(left);
        Ok(())
    }
    fn spend_on(&self, doc: &Doc) -> Result<(), String> {
        self.spend(if matches!(doc, Doc::Number(_)) { 1 } else { 4 })
    }
}

/// Reads a value of JSON.
#[derive(Clone, Copy)]
struct Json<'b>(&'b Budget);

impl<'de> DeserializeSeed<'de> for Json<'_> {
    type Value = Doc;
    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Doc, D::Error> {
        let doc = from.deserialize_any(self)?;
        self.0.spend_on(&doc).map_err(D::Error::custom)?;
        Ok(doc)
    }
}

impl<'de> Visitor<'de> for Json<'_> {
    type Value = Doc;
    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a value")
    }
    fn visit_unit<E>(self) -> Result<Doc, E> {
        Ok(Doc::Null)
    }
    fn visit_bool<E>(self, flag: bool) -> Result<Doc, E> {
        Ok(Doc::Bool(flag))
    }
    fn visit_i64<E>(self, number: i64) -> Result<Doc, E> {
        Ok(Doc::Number(number as f64))
    }
    fn visit_u64<E>(self, number: u64) -> Result<Doc, E> {
        Ok(Doc::Number(number as f64))
    }
    fn visit_f64<E>(self, number: f64) -> Result<Doc, E> {
        Ok(Doc::Number(number))
    }
    fn visit_str<E>(self, text: &str) -> Result<Doc, E> {
        Ok(Doc::Text(text.to_owned()))
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut values: A) -> Result<Doc, A::Error> {
        let mut list = Packing::default();
        while let Some(value) = values.next_element_seed(self)? {
            list.push(value);
        }
        Ok(list.finish())
    }
    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Doc, A::Error> {
        let mut table = BTreeMap::new();
        while let Some(key) = entries.next_key::<String>()? {
            table.insert(key, entries.next_value_seed(self)?);
        }
        Ok(Doc::Table(table))
    }
}

/// A list that stays packed as long as it holds numbers alone.
#[derive(Default)]
struct Packing {
    numbers: Vec<f64>,
    mixed: Vec<Doc>,
}

impl Packing {
    fn push(&mut self, value: Doc) {
        match value {
            Doc::Number(number) if self.mixed.is_empty() => self.numbers.push(number),
            Doc::Null if self.mixed.is_empty() && !self.numbers.is_empty() => self.numbers.push(f64::NAN),
            other => {
                self.mixed.extend(self.numbers.drain(..).map(Doc::Number));
                self.mixed.push(other);
            }
        }
    }
    fn finish(self) -> Doc {
        if self.mixed.is_empty() { Doc::Numbers(self.numbers) } else { Doc::List(self.mixed) }
    }
}

/// UBJSON, draft 12: markers of one byte, numbers with their highest byte first.
struct Ubjson<'a> {
    bytes: &'a [u8],
    at: usize,
    budget: Budget,
}

impl<'a> Ubjson<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], String> {
        let taken = self.bytes.get(self.at..).and_then(|rest| rest.get(..count)).ok_or("it ends too early")?;
        self.at += count;
        Ok(taken)
    }

    fn take_array<const N: usize>(&mut self) -> Result<[u8; N], String> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N)?);
        Ok(array)
    }

    /// The next marker; `N` stands for nothing.
    fn marker(&mut self) -> Result<u8, String> {
        loop {
            match self.take(1)?[0] {
                b'N' => {}
                marker => return Ok(marker),
            }
        }
    }

    fn value(&mut self, marker: u8, depth: usize) -> Result<Doc, String> {
        if depth > JSON_DEPTH_MAX {
            return Err(format!("it is nested deeper than {JSON_DEPTH_MAX}"));
        }
        let doc = match marker {
            b'Z' => Doc::Null,
            b'T' => Doc::Bool(true),
            b'F' => Doc::Bool(false),
            b'i' | b'U' | b'I' | b'l' | b'L' | b'd' | b'D' => Doc::Number(self.number(marker)?),
            b'C' => Doc::Text(char::from(self.take(1)?[0]).to_string()),
            b'S' | b'H' => Doc::Text(self.text()?),
            b'[' => self.list(depth)?,
            b'{' => self.table(depth)?,
            other => return Err(format!("`{}` is no marker of UBJSON", other.escape_ascii())),
        };
        self.budget.spend_on(&doc)?;
        Ok(doc)
    }

    fn number(&mut self, marker: u8) -> Result<f64, String> {
        Ok(match marker {
            b'i' => f64::from(i8::from_be_bytes(self.take_array()?)),
            b'U' => f64::from(u8::from_be_bytes(self.take_array()?)),
            b'I' => f64::from(i16::from_be_bytes(self.take_array()?)),
            b'l' => f64::from(i32::from_be_bytes(self.take_array()?)),
            b'L' => i64::from_be_bytes(self.take_array()?) as f64,
            b'd' => f64::from(f32::from_be_bytes(self.take_array()?)),
            b'D' => f64::from_be_bytes(self.take_array()?),
            other => return Err(format!("`{}` is no number", other.escape_ascii())),
        })
    }

    /// A count: any whole number, not negative.
    fn count(&mut self) -> Result<usize, String> {
        let marker = self.marker()?;
        let number = match marker {
            b'd' | b'D' => return Err("a count is not a whole number".into()),
            b'L' => i64::from_be_bytes(self.take_array()?),
            other => self.number(other)? as i64,
        };
        usize::try_from(number).map_err(|_| "a count is negative".to_owned())
    }

    fn text(&mut self) -> Result<String, String> {
        let count = self.count()?;
        String::from_utf8(self.take(count)?.to_vec()).map_err(|_| "a text is not UTF-8".to_owned())
    }

    /// What may stand behind an opening bracket: the type of all values, and their count.
    fn shape(&mut self) -> Result<(Option<u8>, Option<usize>), String> {
        let mut kind = None;
        if self.bytes.get(self.at) == Some(&b'$') {
            self.at += 1;
            kind = Some(self.take(1)?[0]);
        }
        if self.bytes.get(self.at) == Some(&b'#') {
            self.at += 1;
            return Ok((kind, Some(self.count()?)));
        }
        if kind.is_some() { Err("a typed list has no count".into()) } else { Ok((None, None)) }
    }

    fn list(&mut self, depth: usize) -> Result<Doc, String> {
        let (kind, count) = self.shape()?;
        match (kind, count) {
            (Some(b'U'), Some(count)) => Ok(Doc::Bytes(self.take(count)?.to_vec())),
            (Some(kind), Some(count)) => {
                let size = match kind {
                    b'i' => 1,
                    b'I' => 2,
                    b'l' | b'd' => 4,
                    b'L' | b'D' => 8,
                    other => return Err(format!("a list of `{}` is not read", other.escape_ascii())),
                };
                let bytes = self.bytes.len() - self.at;
                if count > bytes / size {
                    return Err("it ends within a list".into());
                }
                self.budget.spend(count)?;
                (0..count).map(|_| self.number(kind)).collect::<Result<_, _>>().map(Doc::Numbers)
            }
            (_, count) => {
                let mut list = Packing::default();
                let mut read = 0;
                while count != Some(read) {
                    match self.marker()? {
                        b']' if count.is_none() => break,
                        marker => list.push(self.value(marker, depth + 1)?),
                    }
                    read += 1;
                }
                Ok(list.finish())
            }
        }
    }

    fn table(&mut self, depth: usize) -> Result<Doc, String> {
        let (kind, count) = self.shape()?;
        if kind.is_some() {
            return Err("a typed table is not read".into());
        }
        let mut table = BTreeMap::new();
        let mut read = 0;
        while count != Some(read) {
            while self.bytes.get(self.at) == Some(&b'N') {
                self.at += 1;
            }
            if count.is_none() && self.bytes.get(self.at) == Some(&b'}') {
                self.at += 1;
                break;
            }
            let key = self.text()?;
            let marker = self.marker()?;
            table.insert(key, self.value(marker, depth + 1)?);
            read += 1;
        }
        Ok(Doc::Table(table))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &str) -> Vec<u8> {
        let mut bytes = vec![b'L'];
        bytes.extend((name.len() as i64).to_be_bytes());
        bytes.extend(name.as_bytes());
        bytes
    }

    fn sample() -> Vec<u8> {
        let mut bytes = vec![b'{'];
        bytes.extend(key("a"));
        bytes.extend(*b"[$d#L");
        bytes.extend(2i64.to_be_bytes());
        bytes.extend(0.5f32.to_be_bytes());
        bytes.extend(2.0f32.to_be_bytes());
        bytes.extend(key("b"));
        bytes.extend(*b"[i\x07Tl\x00\x00\x01\x00]");
        bytes.extend(key("c"));
        bytes.push(b'S');
        bytes.extend(key("hi"));
        bytes.extend(key("d"));
        bytes.extend(*b"[$U#i\x02\x01\x00");
        bytes.push(b'}');
        bytes
    }

    #[test]
    fn both_formats_give_the_same_document() {
        let ubjson = Doc::read(&sample()).expect("reads");
        let json = Doc::read(br#" {"a": [0.5, 2], "b": [7, true, 256], "c": "hi", "d": [1, 0]}"#).expect("reads");
        assert_eq!(ubjson.get("a"), json.get("a"));
        assert_eq!(ubjson.get("b"), json.get("b"));
        assert_eq!(ubjson.at(&["c"]).expect("there").text(), Some("hi"));
        for doc in [&ubjson, &json] {
            let flags = doc.get("d").expect("there");
            assert_eq!((flags.len(), flags.nth(0), flags.nth(1), flags.nth(2)), (Some(2), Some(1.0), Some(0.0), None));
        }
        assert_eq!(json.at(&["c", "x"]).expect_err("no table"), "`c.x` is missing");
    }

    #[test]
    fn numbers_that_json_has_not() {
        let doc = Doc::read(br#"{"a\"NaN": [1, NaN, -Infinity], "b": ["NaN"], "c": NaN}"#).expect("reads");
        let list = doc.get("a\"NaN").expect("there");
        assert!(list.nth(1).is_some_and(f64::is_nan) && list.nth(2).is_some_and(|x| x as f32 == f32::NEG_INFINITY));
        assert_eq!((doc.get("b").and_then(Doc::list).map(|l| l[0].text()), doc.get("c")), (Some(Some("NaN")), Some(&Doc::Null)));
    }

    #[test]
    fn every_cut_and_every_flipped_byte_is_an_error_or_a_document() {
        let sample = sample();
        for end in 0..sample.len() {
            assert!(Doc::read(&sample[..end]).is_err(), "{end}");
        }
        for at in 0..sample.len() {
            for byte in 0..=255 {
                let mut bytes = sample.clone();
                bytes[at] = byte;
                let _ = Doc::read(&bytes);
            }
        }
    }

    #[test]
    fn absurd_counts_and_depths_are_refused() {
        for bytes in [
            &b"{L\x7f\xff\xff\xff\xff\xff\xff\xff"[..],
            b"{i\x01a[$d#L\x7f\xff\xff\xff\xff\xff\xff\xff",
            b"{i\x01a[$Z#L\x7f\xff\xff\xff\xff\xff\xff\xff",
            b"{i\x01a[#L\x7f\xff\xff\xff\xff\xff\xff\xff",
            b"{i\x01a[$d#i\xff",
            b"{i\x01a[$[",
        ] {
            assert!(Doc::read(bytes).is_err());
        }
        let mut deep = b"{i\x01a".to_vec();
        deep.extend(vec![b'['; 1_000_000]);
        assert!(Doc::read(&deep).expect_err("deep").contains("nested"));
        let json = format!("{{\"a\": {}", "[".repeat(1_000_000));
        assert!(Doc::read(json.as_bytes()).is_err());
        assert!(Doc::read(b"binf").is_err() && Doc::read(b"").is_err());
    }
}
