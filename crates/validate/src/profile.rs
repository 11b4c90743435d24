//! The profile of a source: what its columns hold. Kept as a blob (`profiles.NAME`, JSON); format 1 is read for ever.
//!
//! The profile of a load and of the whole have one form; the whole is the merge of the loads, so only new rows are ever read.

use crate::sketch::{Distinct, Frequent, Sample, hash, spread};
use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::{DataType, Date32Type, Decimal128Type, Float64Type, Int64Type, TimestampMicrosecondType};
use gristmill_kernel::Timestamp;
use gristmill_kernel::error::{Code, Fault, Kind, Result};
use gristmill_kernel::limits::{
    PROFILE_COUNTED_TEXTS_MAX, PROFILE_DISTINCT_MAX, PROFILE_SAMPLE_MAX, PROFILE_TEXT_CHARS_MAX, PROFILE_TOP_VALUES,
};
use gristmill_kernel::table::{LOAD, ROW, SYSTEM_COLUMNS};

/// The blob of a `profiles.NAME` version.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Profile {
    /// The format.
    pub format: u32,
    /// The source.
    pub source: String,
    /// The raw loads behind `load`.
    pub loads: (i64, i64),
    /// The accepted rows of this run.
    pub load: Rows,
    /// All accepted rows.
    pub whole: Rows,
    /// What differs from the profile before.
    pub changes: Vec<String>,
}

impl Profile {
    /// The format written and the newest read.
    pub const FORMAT: u32 = 1;

    /// Reads a blob.
    pub fn read(bytes: &[u8]) -> Result<Profile> {
        let value: serde_json::Value =
            serde_json::from_slice(bytes).map_err(|e| Fault::damaged(format!("a profile cannot be read: {e}")))?;
        if value["format"].as_u64().is_some_and(|f| f > u64::from(Profile::FORMAT)) {
            return Err(Fault::new(Kind::Damaged, Code::NEWER_FORMAT, "a profile was written by a newer gristmill")
                .fix("use that version or a newer one"));
        }
        serde_json::from_value(value).map_err(|e| Fault::damaged(format!("a profile cannot be read: {e}")))
    }
}

/// Rows and their columns.
#[derive(Debug, Clone, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Rows {
    /// How many.
    pub rows: u64,
    /// The columns, in order.
    pub columns: Vec<ColumnProfile>,
}

/// One column.
#[derive(Debug, Clone, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct ColumnProfile {
    /// Its name.
    pub name: String,
    /// Its type in the words of the lock file.
    #[serde(rename = "type")]
    pub kind: String,
    /// Rows without a value.
    pub nulls: u64,
    /// Different values.
    pub distinct: u64,
    /// Whether that is exact.
    pub distinct_exact: bool,
    /// The smallest value.
    pub min: Option<String>,
    /// The largest.
    pub max: Option<String>,
    /// For numbers and truths.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub mean: Option<f64>,
    /// For numbers.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub std: Option<f64>,
    /// For numbers and moments: share and value.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub quantiles: Vec<(f64, f64)>,
    /// For text and truths: the most frequent values.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub top: Vec<(String, u64)>,
    /// By how much a count in `top` may be too low.
    #[serde(skip_serializing_if = "is_zero", default)]
    pub top_missed: u64,
    /// What merging needs.
    pub state: State,
}

fn is_zero(n: &u64) -> bool {
    *n == 0
}

/// The mergeable part of a column's profile.
#[derive(Debug, Clone, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct State {
    values: u64,
    distinct: Distinct,
    numbers: Numbers,
    sample: Sample,
    texts: Frequent,
    min_text: Option<String>,
    max_text: Option<String>,
}

/// Count, mean and spread of finite numbers (Welford; merged as Chan et al. 1979).
#[derive(Debug, Clone, Default, PartialEq, serde::Serialize, serde::Deserialize)]
struct Numbers {
    count: u64,
    mean: f64,
    m2: f64,
    min: f64,
    max: f64,
}

impl Numbers {
    fn see(&mut self, x: f64) {
        self.merge(&Numbers { count: 1, mean: x, m2: 0.0, min: x, max: x });
    }
    fn merge(&mut self, other: &Numbers) {
        if other.count == 0 {
            return;
        }
        if self.count == 0 {
            *self = other.clone();
            return;
        }
        let (a, b) = (self.count as f64, other.count as f64);
        let delta = other.mean - self.mean;
        self.mean += delta * b / (a + b);
        self.m2 += other.m2 + delta * delta * a * b / (a + b);
        self.count += other.count;
        self.min = self.min.min(other.min);
        self.max = self.max.max(other.max);
    }
}

/// The word of the lock file for a type.
fn word(kind: &DataType) -> String {
    match kind {
        DataType::Boolean => "bool".into(),
        DataType::Int64 => "int".into(),
        DataType::Float64 => "float".into(),
        DataType::Utf8 => "text".into(),
        DataType::Timestamp(_, _) => "time".into(),
        DataType::Date32 => "date".into(),
        DataType::Binary => "binary".into(),
        DataType::Decimal128(precision, scale) => format!("decimal({precision},{scale})"),
        other => other.to_string(),
    }
}

impl Rows {
    /// Takes the rows of a batch. The batch has our own columns; they tell the rows apart and are not profiled.
    pub fn see(&mut self, batch: &RecordBatch) -> Result<()> {
        let system = |name: &str| -> Result<ArrayRef> {
            batch.column_by_name(name).cloned().ok_or_else(|| Fault::internal(format!("rows to profile lack `{name}`")))
        };
        let (loads, rows) = (system(LOAD)?, system(ROW)?);
        let (loads, rows) = (loads.as_primitive::<Int64Type>(), rows.as_primitive::<Int64Type>());
        let ids: Vec<u64> = (0..batch.num_rows()).map(|i| spread(spread(loads.value(i) as u64) ^ rows.value(i) as u64)).collect();
        let schema = batch.schema();
        for (field, array) in schema.fields().iter().zip(batch.columns()).filter(|(f, _)| !SYSTEM_COLUMNS.contains(&f.name().as_str())) {
            let kind = word(field.data_type());
            let at = match self.columns.iter().position(|c| c.name == *field.name()) {
                Some(at) => at,
                None => {
                    self.columns.push(ColumnProfile { name: field.name().clone(), kind, nulls: self.rows, ..ColumnProfile::default() });
                    self.columns.len() - 1
                }
            };
            self.columns[at].nulls += array.null_count() as u64;
            self.columns[at].state.see(array, &ids);
        }
        self.rows += batch.num_rows() as u64;
        Ok(())
    }

    /// Takes the profile of other rows.
    pub fn merge(&mut self, other: &Rows) {
        for column in &mut self.columns {
            if !other.columns.iter().any(|c| c.name == column.name) {
                column.nulls += other.rows;
            }
        }
        for theirs in &other.columns {
            match self.columns.iter_mut().find(|c| c.name == theirs.name) {
                Some(ours) => {
                    ours.nulls += theirs.nulls;
                    ours.state.merge(&theirs.state);
                }
                None => self.columns.push(ColumnProfile { nulls: theirs.nulls + self.rows, ..theirs.clone() }),
            }
        }
        self.rows += other.rows;
    }

    /// Works out the figures people read from what was collected.
    pub fn finish(&mut self) {
        self.columns.iter_mut().for_each(ColumnProfile::finish);
    }

    /// The column of this name.
    pub fn column(&self, name: &str) -> Option<&ColumnProfile> {
        self.columns.iter().find(|c| c.name == name)
    }

    /// The newest moment in a time column.
    pub fn newest(&self, time: &str) -> Option<Timestamp> {
        self.column(time)?.max.as_deref()?.parse().ok()
    }
}

impl State {
    fn see(&mut self, array: &ArrayRef, ids: &[u64]) {
        self.values += (array.len() - array.null_count()) as u64;
        let valid = (0..array.len()).filter(|i| array.is_valid(*i));
        match array.data_type() {
            DataType::Int64 => {
                let a = array.as_primitive::<Int64Type>();
                valid.for_each(|i| self.number(a.value(i) as f64, hash(&a.value(i).to_le_bytes()), ids[i]));
            }
            DataType::Float64 => {
                let a = array.as_primitive::<Float64Type>();
                valid.for_each(|i| self.number(a.value(i), hash(&(a.value(i) + 0.0).to_bits().to_le_bytes()), ids[i]));
            }
            DataType::Timestamp(_, _) => {
                let a = array.as_primitive::<TimestampMicrosecondType>();
                valid.for_each(|i| self.number(a.value(i) as f64, hash(&a.value(i).to_le_bytes()), ids[i]));
            }
            DataType::Date32 => {
                let a = array.as_primitive::<Date32Type>();
                valid.for_each(|i| self.number(f64::from(a.value(i)), hash(&a.value(i).to_le_bytes()), ids[i]));
            }
            DataType::Decimal128(_, scale) => {
                let (a, unit) = (array.as_primitive::<Decimal128Type>(), 10f64.powi(i32::from(*scale)));
                valid.for_each(|i| self.number(a.value(i) as f64 / unit, hash(&a.value(i).to_le_bytes()), ids[i]));
            }
            DataType::Boolean => {
                let a = array.as_boolean();
                valid.for_each(|i| {
                    self.number(f64::from(u8::from(a.value(i))), u64::from(a.value(i)), ids[i]);
                    self.texts.see(if a.value(i) { "true" } else { "false" }, 1, PROFILE_COUNTED_TEXTS_MAX);
                });
            }
            DataType::Utf8 => {
                let a = array.as_string::<i32>();
                valid.for_each(|i| self.text(a.value(i)));
            }
            DataType::Binary => {
                let a = array.as_binary::<i32>();
                valid.for_each(|i| self.distinct.see(hash(a.value(i)), PROFILE_DISTINCT_MAX));
            }
            _ => {}
        }
    }

    fn number(&mut self, x: f64, hash: u64, row: u64) {
        self.distinct.see(hash, PROFILE_DISTINCT_MAX);
        if x.is_finite() {
            self.numbers.see(x);
            self.sample.see(row, x, PROFILE_SAMPLE_MAX);
        }
    }

    fn text(&mut self, text: &str) {
        self.distinct.see(hash(text.as_bytes()), PROFILE_DISTINCT_MAX);
        let shown = match text.char_indices().nth(PROFILE_TEXT_CHARS_MAX) {
            Some((end, _)) => &text[..end],
            None => text,
        };
        self.texts.see(shown, 1, PROFILE_COUNTED_TEXTS_MAX);
        if self.min_text.as_deref().is_none_or(|min| shown < min) {
            self.min_text = Some(shown.to_owned());
        }
        if self.max_text.as_deref().is_none_or(|max| shown > max) {
            self.max_text = Some(shown.to_owned());
        }
    }

    fn merge(&mut self, other: &State) {
        self.values += other.values;
        self.distinct.merge(&other.distinct, PROFILE_DISTINCT_MAX);
        self.numbers.merge(&other.numbers);
        self.sample.merge(&other.sample, PROFILE_SAMPLE_MAX);
        self.texts.merge(&other.texts, PROFILE_COUNTED_TEXTS_MAX);
        self.min_text = [self.min_text.take(), other.min_text.clone()].into_iter().flatten().min();
        self.max_text = [self.max_text.take(), other.max_text.clone()].into_iter().flatten().max();
    }
}

impl ColumnProfile {
    fn finish(&mut self) {
        (self.distinct, self.distinct_exact) = self.state.distinct.count(PROFILE_DISTINCT_MAX);
        self.state.texts.shrink(PROFILE_COUNTED_TEXTS_MAX);
        let numbers = &self.state.numbers;
        if numbers.count > 0 {
            (self.min, self.max) = (Some(self.shown(numbers.min)), Some(self.shown(numbers.max)));
            if !matches!(self.kind.as_str(), "time" | "date") {
                self.mean = Some(numbers.mean);
                self.std = (numbers.count > 1).then(|| (numbers.m2 / (numbers.count - 1) as f64).sqrt());
            }
            if self.kind != "bool" {
                let sorted = self.state.sample.sorted();
                let at = |share: f64| sorted[((sorted.len() - 1) as f64 * share).round() as usize];
                self.quantiles = [0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99].map(|share| (share, at(share))).to_vec();
            }
        } else {
            (self.min, self.max) = (self.state.min_text.clone(), self.state.max_text.clone());
        }
        let (top, missed) = self.state.texts.top(PROFILE_TOP_VALUES);
        self.top = top.into_iter().map(|(text, count)| (text.to_owned(), count)).collect();
        self.top_missed = if self.top.is_empty() { 0 } else { missed };
    }

    fn shown(&self, x: f64) -> String {
        match self.kind.as_str() {
            "time" => Timestamp::from_micros(x as i64).to_string(),
            "date" => Timestamp::from_micros(x as i64 * 86_400_000_000).to_string()[..10].to_owned(),
            "bool" => (x > 0.5).to_string(),
            _ => x.to_string(),
        }
    }
}

/// What differs between two profiles: columns that came, went or changed their type, and a share of missing values that moved by ten points or more.
pub fn changes(before: &Rows, now: &Rows) -> Vec<String> {
    let mut found = Vec::new();
    for column in &now.columns {
        let Some(old) = before.column(&column.name) else {
            found.push(format!("column `{}` is new", column.name));
            continue;
        };
        if old.kind != column.kind {
            found.push(format!("column `{}` was {}, is {}", column.name, old.kind, column.kind));
        }
        let share = |nulls: u64, rows: u64| nulls as f64 * 100.0 / rows.max(1) as f64;
        let (was, is) = (share(old.nulls, before.rows), share(column.nulls, now.rows));
        if before.rows > 0 && now.rows > 0 && (was - is).abs() >= 10.0 {
            found.push(format!("column `{}` was empty in {was:.1} % of rows, is in {is:.1} %", column.name));
        }
    }
    let gone = before.columns.iter().filter(|c| now.column(&c.name).is_none());
    found.extend(gone.map(|c| format!("column `{}` is gone", c.name)));
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{BooleanArray, Float64Array, Int64Array, StringArray, TimestampMicrosecondArray};
    use std::sync::Arc;

    fn batch(load: i64, from: i64, numbers: Vec<Option<f64>>) -> RecordBatch {
        let n = numbers.len();
        let text: Vec<String> = (0..n).map(|i| if i % 4 == 0 { "a".into() } else { format!("t{}", i % 3) }).collect();
        RecordBatch::try_from_iter_with_nullable([
            ("x", Arc::new(Float64Array::from(numbers)) as ArrayRef, true),
            ("s", Arc::new(StringArray::from(text)) as ArrayRef, true),
            ("b", Arc::new(BooleanArray::from((0..n).map(|i| i % 2 == 0).collect::<Vec<_>>())) as ArrayRef, true),
            (
                "t",
                Arc::new(TimestampMicrosecondArray::from_iter_values((0..n).map(|i| i as i64 * 1_000_000)).with_timezone("UTC"))
                    as ArrayRef,
                true,
            ),
            (LOAD, Arc::new(Int64Array::from_value(load, n)) as ArrayRef, true),
            (ROW, Arc::new(Int64Array::from_iter_values(from..from + n as i64)) as ArrayRef, true),
        ])
        .expect("batch")
    }

    #[test]
    fn figures_are_right() {
        let mut rows = Rows::default();
        rows.see(&batch(1, 0, (0..=100).map(|i| (i != 7).then_some(f64::from(i))).collect())).expect("profiled");
        rows.finish();
        let x = rows.column("x").expect("x");
        assert_eq!((rows.rows, x.nulls, x.distinct, x.distinct_exact), (101, 1, 100, true));
        assert_eq!((x.min.as_deref(), x.max.as_deref()), (Some("0"), Some("100")));
        assert!((x.mean.expect("mean") - 50.43).abs() < 1e-9 && (x.std.expect("std") - 29.12).abs() < 0.05, "{x:?}");
        assert!((x.quantiles[3].1 - 50.0).abs() <= 1.0);
        assert_eq!(rows.column("s").expect("s").top[0], ("a".into(), 26));
        assert_eq!(rows.column("t").expect("t").max.as_deref(), Some("1970-01-01T00:01:40Z"));
        assert_eq!(rows.newest("t"), Some(Timestamp::from_micros(100_000_000)));
        assert_eq!(rows.column("b").expect("b").top, [("true".into(), 51), ("false".into(), 50)]);
        assert!(rows.column(LOAD).is_none());
    }

    #[test]
    fn loads_merge_to_the_whole_and_survive_the_blob() {
        let values: Vec<_> = (0..5_000).map(|i| Some(f64::from(i % 999))).collect();
        let (mut whole, mut first, mut second) = (Rows::default(), Rows::default(), Rows::default());
        first.see(&batch(1, 0, values[..3_000].to_vec())).expect("profiled");
        second.see(&batch(1, 3_000, values[3_000..].to_vec())).expect("profiled");
        whole.see(&batch(1, 0, values[..3_000].to_vec())).expect("profiled");
        whole.see(&batch(1, 3_000, values[3_000..].to_vec())).expect("profiled");
        first.finish();
        let stored = serde_json::to_vec(&first).expect("json");
        let mut merged: Rows = serde_json::from_slice(&stored).expect("read");
        merged.merge(&second);
        merged.finish();
        whole.finish();
        let (a, b) = (merged.column("x").expect("x"), whole.column("x").expect("x"));
        assert_eq!((merged.rows, a.distinct, a.nulls, &a.quantiles), (whole.rows, b.distinct, b.nulls, &b.quantiles));
        assert!((a.std.expect("std") - b.std.expect("std")).abs() < 1e-9);
        assert_eq!(merged.column("s").expect("s").top, whole.column("s").expect("s").top);
    }

    #[test]
    fn changes_are_noted() {
        let mut before = Rows::default();
        before.see(&batch(1, 0, vec![Some(1.0); 10])).expect("profiled");
        let mut now = Rows::default();
        now.see(&batch(2, 0, vec![None; 10])).expect("profiled");
        now.columns.retain(|c| c.name != "b");
        now.columns[1].kind = "int".into();
        let found = changes(&before, &now).join("\n");
        assert!(
            found.contains("`x` was empty in 0.0 % of rows, is in 100.0 %")
                && found.contains("`s` was text, is int")
                && found.contains("`b` is gone"),
            "{found}"
        );
        assert_eq!(changes(&before, &before), Vec::<String>::new());
    }

    #[test]
    fn a_newer_profile_is_refused() {
        assert_eq!(Profile::read(br#"{"format":2}"#).expect_err("newer").code, Code::NEWER_FORMAT);
    }
}
