//! Outcomes: what happened to whom and when, from the newest version of a label set; matched with predictions by entity and moment.

use arrow::array::{Array, RecordBatch};
use arrow::datatypes::{DataType, TimeUnit};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use gristmill_kernel::training::{LABEL, TIME};
use gristmill_kernel::{Fault, Result, Span, Timestamp};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde_json::Value;
use std::collections::HashMap;

/// A prediction belongs to the outcome whose moment is nearest, if it is not farther than this.
pub const WITHIN: Span = Span::from_secs(35 * 86_400);

/// All outcomes of a label set, by entity, each entity's in order of time.
#[derive(Debug, Default)]
pub struct Outcomes(HashMap<String, Vec<(Timestamp, String)>>);

impl Outcomes {
    /// Reads the Parquet content of a `labels.NAME` version: the entity's columns, [`TIME`] and [`LABEL`].
    pub fn read(content: bytes::Bytes, entity: &[String]) -> Result<Outcomes> {
        let bad = |e: &dyn std::fmt::Display| Fault::damaged(format!("a label set cannot be read: {e}"));
        let reader = ParquetRecordBatchReaderBuilder::try_new(content).map_err(|e| bad(&e))?.build().map_err(|e| bad(&e))?;
        let mut outcomes = Outcomes::default();
        for batch in reader {
            outcomes.add(&batch.map_err(|e| bad(&e))?, entity)?;
        }
        outcomes.0.values_mut().for_each(|of_one| of_one.sort());
        Ok(outcomes)
    }

    fn add(&mut self, batch: &RecordBatch, entity: &[String]) -> Result<()> {
        let column = |name: &str| batch.column_by_name(name).ok_or_else(|| Fault::damaged(format!("a label set has no column `{name}`")));
        let keys = entity.iter().map(|name| words(column(name)?)).collect::<Result<Vec<_>>>()?;
        let times = arrow::compute::cast(column(TIME)?, &DataType::Timestamp(TimeUnit::Microsecond, None))
            .map_err(|e| Fault::damaged(format!("the moments of a label set: {e}")))?;
        let times = arrow::array::AsArray::as_primitive::<arrow::datatypes::TimestampMicrosecondType>(&times).clone();
        let labels = words(column(LABEL)?)?;
        for row in 0..batch.num_rows() {
            let Some(label) = labels[row].clone().filter(|_| times.is_valid(row)) else { continue };
            if let Some(key) = join(keys.iter().map(|k| k[row].clone())) {
                self.0.entry(key).or_default().push((Timestamp::from_micros(times.value(row)), label));
            }
        }
        Ok(())
    }

    /// The outcome nearest to a moment; the later one of two that are equally near.
    pub fn nearest(&self, key: &str, at: Timestamp) -> Option<&str> {
        let of_one = self.0.get(key)?;
        let after = of_one.partition_point(|(time, _)| *time < at);
        let gap = |time: Timestamp| if time < at { at.since(time) } else { time.since(at) };
        let near = [of_one.get(after), after.checked_sub(1).and_then(|before| of_one.get(before))];
        let best = near.into_iter().flatten().min_by_key(|(time, _)| gap(*time))?;
        (gap(best.0) <= WITHIN).then_some(best.1.as_str())
    }

    /// Those from a moment on.
    pub fn since(&self, moment: Timestamp) -> Outcomes {
        let late = |of_one: &Vec<(Timestamp, String)>| of_one.iter().filter(|(time, _)| *time >= moment).cloned().collect::<Vec<_>>();
        Outcomes(self.0.iter().map(|(key, of_one)| (key.clone(), late(of_one))).filter(|(_, of_one)| !of_one.is_empty()).collect())
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// The key of an entity from the JSON object of a prediction; `None` if a column is absent or NULL.
pub fn key(entity: &Value, columns: &[String]) -> Option<String> {
    join(columns.iter().map(|name| match entity.get(name)? {
        Value::Null => None,
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(plain(&number.to_string())),
        other => Some(other.to_string()),
    }))
}

fn join(parts: impl Iterator<Item = Option<String>>) -> Option<String> {
    let parts: Option<Vec<String>> = parts.collect();
    // Lengths keep ("a", "bc") and ("ab", "c") apart.
    parts.map(|parts| parts.iter().map(|p| format!("{}:{p}", p.len())).collect())
}

/// A column as words: numbers without a fraction in one spelling, so that 12346 and 12346.0 are the same customer.
fn words(column: &dyn Array) -> Result<Vec<Option<String>>> {
    let format = ArrayFormatter::try_new(column, &FormatOptions::default()).map_err(|e| Fault::damaged(format!("a label set: {e}")))?;
    let float = matches!(column.data_type(), DataType::Float64 | DataType::Float32);
    let word = |row| {
        let text = format.value(row).to_string();
        if float { plain(&text) } else { text }
    };
    Ok((0..column.len()).map(|row| column.is_valid(row).then(|| word(row))).collect())
}

fn plain(number: &str) -> String {
    match number.parse::<f64>() {
        Ok(x) if number.contains(['.', 'e', 'E']) && x.fract() == 0.0 && x.abs() < 9e15 => format!("{}", x as i64),
        _ => number.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{ArrayRef, BooleanArray, Float64Array, TimestampMicrosecondArray};
    use std::sync::Arc;

    const DAY: i64 = 86_400_000_000;

    fn labels(rows: &[(Option<f64>, i64, Option<bool>)]) -> bytes::Bytes {
        let customers: ArrayRef = Arc::new(rows.iter().map(|r| r.0).collect::<Float64Array>());
        let times: ArrayRef = Arc::new(TimestampMicrosecondArray::from_iter_values(rows.iter().map(|r| r.1 * DAY)).with_timezone("UTC"));
        let labels: ArrayRef = Arc::new(rows.iter().map(|r| r.2).collect::<BooleanArray>());
        let batch = RecordBatch::try_from_iter([("customer_id", customers), (TIME, times), (LABEL, labels)]).expect("a batch");
        let mut content = Vec::new();
        let mut writer = parquet::arrow::ArrowWriter::try_new(&mut content, batch.schema(), None).expect("a writer");
        writer.write(&batch).expect("writes");
        writer.close().expect("closes");
        content.into()
    }
    fn day(n: i64) -> Timestamp {
        Timestamp::from_micros(n * DAY)
    }

    #[test]
    fn the_nearest_outcome_counts_and_a_far_one_does_not() {
        let columns = ["customer_id".to_owned()];
        let content = labels(&[(Some(7.0), 100, Some(true)), (Some(7.0), 40, Some(false)), (None, 40, Some(true)), (Some(8.0), 40, None)]);
        let outcomes = Outcomes::read(content, &columns).expect("reads");
        let seven = key(&serde_json::json!({ "customer_id": 7 }), &columns).expect("a key");
        assert_eq!(key(&serde_json::json!({ "customer_id": 7.0 }), &columns), Some(seven.clone()));
        assert_eq!(key(&serde_json::json!({ "customer_id": "7" }), &columns), Some(seven.clone()));
        assert_eq!(outcomes.nearest(&seven, day(99)), Some("true"));
        assert_eq!(outcomes.nearest(&seven, day(60)), Some("false"));
        assert_eq!(outcomes.nearest(&seven, day(70)), Some("true"), "equally near: the later");
        assert_eq!(outcomes.nearest(&seven, day(135)), Some("true"));
        assert_eq!(outcomes.nearest(&seven, day(136)), None);
        let eight = key(&serde_json::json!({ "customer_id": 8 }), &columns).expect("a key");
        assert_eq!(outcomes.nearest(&eight, day(40)), None, "an unknown outcome is none");
        assert_eq!(key(&serde_json::json!({}), &columns), None);
    }

    #[test]
    fn a_label_set_without_its_columns_is_damage() {
        let fault = Outcomes::read(labels(&[]), &["shop".to_owned()]);
        assert!(fault.is_ok() || fault.is_err_and(|f| f.message.contains("shop")));
        let fault = Outcomes::read(labels(&[(Some(1.0), 1, Some(true))]), &["shop".to_owned()]).expect_err("no such column");
        assert!(fault.message.contains("shop"));
        assert!(Outcomes::read(bytes::Bytes::from_static(b"not parquet"), &[]).is_err());
    }
}
