//! Rows as they were written lately: a row never changes, so what was written of it is right for as long as the process lives, and most questions
//! are about rows that were asked for before.

use super::answer::{Cells, NEVER, NULL, json_bytes, write_list};
use arrow::array::{Array, RecordBatch};
use gristmill_kernel::limits::ONLINE_TEXT_BYTES_MAX;
use gristmill_kernel::port::{FeatureSource, NewestFound};
use gristmill_kernel::{Fault, Result, Timestamp};
use quick_cache::Weighter;
use quick_cache::sync::Cache;
use std::sync::Arc;

/// Rows as they were written before.
pub struct RowTexts {
    /// Per asked row; `None` where the entity has none.
    rows: Vec<Option<RowText>>,
    /// Their moments as a list.
    moments: Vec<u8>,
    /// Whether each entity has a row, and each row all its values.
    whole: bool,
}

impl RowTexts {
    pub fn is_whole(&self) -> bool {
        self.whole
    }

    pub fn moments(&self) -> &[u8] {
        &self.moments
    }

    /// The cells of a feature, by its number in the view.
    pub fn cells(&self, feature: usize) -> impl Iterator<Item = &[u8]> {
        self.rows.iter().map(move |row| row.as_ref().map_or(NULL, |row| row.cell(feature)))
    }

    /// Which of three words each cell is told by: there is a value, the row has none, there is no row.
    pub fn statuses<'w>(&self, feature: usize, [present, null, none]: [&'w str; 3]) -> impl Iterator<Item = &'w str> {
        self.rows.iter().map(move |row| match row.as_ref().map(|row| row.cell(feature)) {
            None => none,
            Some(NULL) => null,
            Some(_) => present,
        })
    }
}

/// The features of a row, as JSON. In one piece of memory, since most of what an answer of many rows takes is waiting for it: whether all cells have a
/// value (a byte), how many there are, where the moment ends and where each cell does (numbers of 32 bits, from the smallest byte on); behind
/// them the moment and the cells.
#[derive(Clone)]
struct RowText(Arc<[u8]>);

impl RowText {
    fn of(columns: &RecordBatch, row: usize, at: Timestamp) -> Result<RowText> {
        let mut text = json_bytes(&at.to_string())?;
        let (mut whole, mut ends) = (true, vec![text.len()]);
        for column in columns.columns() {
            // As a column of one cell is written.
            let list = json_bytes(&Cells(&column.slice(row, 1)))?;
            let cell = list.strip_prefix(b"[").and_then(|list| list.strip_suffix(b"]")).unwrap_or(NULL);
            whole &= cell != NULL;
            text.extend_from_slice(cell);
            ends.push(text.len());
        }
        let mut bytes = vec![u8::from(whole)];
        for number in [columns.num_columns()].into_iter().chain(ends) {
            let number = u32::try_from(number).map_err(|e| Fault::internal("a row is too long to be answered").because(e))?;
            bytes.extend_from_slice(&number.to_le_bytes());
        }
        bytes.extend_from_slice(&text);
        Ok(RowText(bytes.into()))
    }

    fn is_whole(&self) -> bool {
        self.0[0] == 1
    }

    fn moment(&self) -> &[u8] {
        self.text(0, self.number(1))
    }

    fn cell(&self, feature: usize) -> &[u8] {
        if feature < self.number(0) { self.text(self.number(1 + feature), self.number(2 + feature)) } else { NULL }
    }

    #[inline]
    fn number(&self, at: usize) -> usize {
        let mut bytes = [0; 4];
        bytes.copy_from_slice(&self.0[1 + 4 * at..5 + 4 * at]);
        u32::from_le_bytes(bytes) as usize
    }

    fn text(&self, from: usize, to: usize) -> &[u8] {
        let begin = 1 + 4 * (2 + self.number(0));
        &self.0[begin + from..begin + to]
    }
}

/// What was written lately.
pub struct Written(Cache<FeatureSource, RowText, ByBytes>);

/// Counts bytes.
#[derive(Clone)]
struct ByBytes;

/// What an entry takes beside its bytes.
const ENTRY_BYTES: u64 = 160;
/// What a row takes, about, to begin with.
const ROW_BYTES: u64 = 512;

impl Weighter<FeatureSource, RowText> for ByBytes {
    fn weight(&self, _: &FeatureSource, row: &RowText) -> u64 {
        ENTRY_BYTES + row.0.len() as u64
    }
}

impl Default for Written {
    fn default() -> Written {
        Written(Cache::with_weighter((ONLINE_TEXT_BYTES_MAX / ROW_BYTES) as usize, ONLINE_TEXT_BYTES_MAX, ByBytes))
    }
}

impl Written {
    /// The rows that were found, each written once.
    pub async fn of(&self, newest: &dyn NewestFound) -> Result<RowTexts> {
        let sources = newest.sources();
        let mut rows: Vec<Option<RowText>> = sources.iter().map(|found| found.and_then(|(source, _)| self.0.get(&source))).collect();
        let open: Vec<usize> = (0..rows.len()).filter(|row| rows[*row].is_none() && sources[*row].is_some()).collect();
        if !open.is_empty() {
            let columns = newest.columns(&open).await?;
            for (place, row) in open.into_iter().enumerate() {
                let Some((source, at)) = sources[row] else { continue };
                let text = RowText::of(&columns, place, at)?;
                self.0.insert(source, text.clone());
                rows[row] = Some(text);
            }
        }
        let never = json_bytes(&NEVER)?;
        let mut moments = Vec::with_capacity(rows.len() * 32);
        write_list(&mut moments, rows.iter().map(|row| row.as_ref().map_or(never.as_slice(), RowText::moment)));
        let whole = rows.iter().all(|row| row.as_ref().is_some_and(RowText::is_whole));
        Ok(RowTexts { rows, moments, whole })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{ArrayRef, BooleanArray, Float64Array, Int64Array, StringArray, TimestampMicrosecondArray};

    #[test]
    fn a_row_is_written_as_its_column_would_be() {
        let columns: Vec<(&str, ArrayRef)> = vec![
            ("x", Arc::new(Float64Array::from(vec![Some(0.1 + 0.2), Some(f64::NAN), None]))),
            ("n", Arc::new(Int64Array::from(vec![Some(i64::MIN), None, Some(7)]))),
            ("w", Arc::new(StringArray::from(vec![Some("a \"b\", null"), Some("null"), None]))),
            ("b", Arc::new(BooleanArray::from(vec![Some(true), Some(false), Some(true)]))),
            ("t", Arc::new(TimestampMicrosecondArray::from(vec![1_500_000, -1, 0]).with_timezone("UTC"))),
        ];
        let batch = RecordBatch::try_from_iter(columns.clone()).expect("a batch");
        let at = Timestamp::from_micros(1_293_840_000_000_000);
        let rows: Vec<RowText> = (0..3).map(|row| RowText::of(&batch, row, at).expect("a row")).collect();
        for (feature, (name, column)) in columns.iter().enumerate() {
            let mut list = Vec::new();
            write_list(&mut list, rows.iter().map(|row| row.cell(feature)));
            assert_eq!(list, json_bytes(&Cells(column)).expect("a column"), "{name}");
        }
        assert_eq!(rows.iter().map(RowText::is_whole).collect::<Vec<_>>(), [true, false, false]);
        assert!(rows.iter().all(|row| row.moment() == b"\"2011-01-01T00:00:00Z\"" && row.cell(5) == NULL));
    }
}
