//! Parquet files. Types are widened to those a table may have, nested values become JSON text; a value that does not fit is an error, never NULL.

use super::Shown;
use crate::cell::{Cells, Guess};
use crate::schema::{ColumnType, Columns, check_names};
use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, StringBuilder, TimestampMicrosecondBuilder};
use arrow::compute::{CastOptions, cast, cast_with_options};
use arrow::datatypes::{DataType, Field, Int64Type, SchemaRef, TimeUnit};
use arrow::json::writer::{EncoderOptions, make_encoder};
use gristmill_kernel::error::{Code, Fault, Result};
use gristmill_kernel::limits::BATCH_ROWS;
use parquet::arrow::arrow_reader::{ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};
use std::fs::File;
use std::sync::Arc;

fn unreadable(shown: &Shown, e: impl std::error::Error + Send + Sync + 'static) -> Fault {
    Fault::invalid(Code::SOURCE_UNREADABLE, format!("{shown} cannot be read as Parquet: {e}"))
        .fix("check that the file is complete; other formats are .csv, .tsv, .jsonl, .ndjson and .json")
        .because(e)
}

fn open(file: File, shown: &Shown) -> Result<ParquetRecordBatchReaderBuilder<File>> {
    ParquetRecordBatchReaderBuilder::try_new(file).map_err(|e| unreadable(shown, e))
}

fn column_types(schema: &SchemaRef, shown: &Shown) -> Result<Vec<(String, ColumnType)>> {
    check_names(schema.fields().iter().map(|f| f.name().as_str()), &shown.to_string())?;
    let nested = |kind: &DataType| kind.is_nested().then_some(ColumnType::Text);
    let column = |field: &Arc<Field>| match ColumnType::of_arrow(field.data_type()).or_else(|| nested(field.data_type())) {
        Some(kind) => Ok((field.name().clone(), kind)),
        None => Err(Fault::invalid(
            Code::WRONG_TYPE,
            format!("column `{}` of {shown} has type {}, which a table cannot hold", field.name(), field.data_type()),
        )
        .fix("write it as bool, int, float, text, time, date, binary or decimal up to 38 digits")),
    };
    schema.fields().iter().map(column).collect()
}

/// Names and types, from the file's own schema.
pub fn infer(file: File, shown: &Shown) -> Result<Vec<(String, Guess)>> {
    let builder = open(file, shown)?;
    let guess = |kind| {
        let mut guess = Guess::default();
        guess.merge(kind);
        guess
    };
    Ok(column_types(builder.schema(), shown)?.into_iter().map(|(name, kind)| (name, guess(kind))).collect())
}

/// The rows of a Parquet file as batches of the given columns.
pub struct Reader {
    batches: ParquetRecordBatchReader,
    shown: Shown,
    columns: Columns,
    places: Vec<usize>,
    rows: usize,
}

impl Reader {
    /// Holds the file's schema against the columns.
    pub fn new(file: File, shown: Shown, columns: &Columns) -> Result<Reader> {
        let builder = open(file, &shown)?;
        let found = column_types(builder.schema(), &shown)?;
        let names: Vec<String> = found.iter().map(|(name, _)| name.clone()).collect();
        let places = super::match_columns(&names, columns, &shown)?;
        for (place, (name, kind)) in places.iter().zip(columns.iter()) {
            // Text may hold moments; each value is tried.
            let text_as_time = kind == ColumnType::Time && found[*place].1 == ColumnType::Text;
            if !kind.takes(found[*place].1) && !text_as_time {
                return Err(Fault::invalid(
                    Code::WRONG_TYPE,
                    format!("column `{name}` of {shown} is {}, expected {kind}", found[*place].1),
                )
                .fix(super::change_of_schema(kind)));
            }
        }
        let batches = builder.with_batch_size(BATCH_ROWS).build().map_err(|e| unreadable(&shown, e))?;
        Ok(Reader { batches, shown, columns: columns.clone(), places, rows: 0 })
    }

    fn convert(&self, batch: &RecordBatch) -> Result<RecordBatch> {
        let arrays = self.columns.iter().zip(&self.places).map(|((name, kind), place)| self.column(batch.column(*place), name, kind));
        let arrays = arrays.collect::<Result<Vec<_>>>()?;
        RecordBatch::try_new(self.columns.schema(), arrays).map_err(|e| unreadable(&self.shown, e))
    }

    fn column(&self, array: &ArrayRef, name: &str, kind: ColumnType) -> Result<ArrayRef> {
        let to = kind.arrow();
        if *array.data_type() == to {
            return Ok(array.clone());
        }
        if kind == ColumnType::Text && array.data_type().is_nested() {
            return self.json(array, name);
        }
        if kind == ColumnType::Time && ColumnType::of_arrow(array.data_type()) == Some(ColumnType::Text) {
            return self.moments(array, name);
        }
        if kind == ColumnType::Time {
            return self.instants(array, name);
        }
        // A failed cast is NULL here; where NULLs were added, a value did not fit.
        let made =
            cast_with_options(array, &to, &CastOptions { safe: true, ..Default::default() }).map_err(|e| unreadable(&self.shown, e))?;
        match (0..array.len()).find(|i| made.is_null(*i) && !array.is_null(*i)).filter(|_| made.null_count() > array.null_count()) {
            Some(row) => Err(self.misfit(array, row, name, kind)),
            None => Ok(made),
        }
    }

    /// Moments of any resolution as microseconds; without a time zone they are UTC. Finer fractions are cut.
    fn instants(&self, array: &ArrayRef, name: &str) -> Result<ArrayRef> {
        let plain = match array.data_type() {
            DataType::Dictionary(_, value) => cast(array, value).map_err(|e| unreadable(&self.shown, e))?,
            _ => array.clone(),
        };
        let numbers = match plain.data_type() {
            DataType::Date32 => cast(&plain, &DataType::Int32).and_then(|days| cast(&days, &DataType::Int64)),
            _ => cast(&plain, &DataType::Int64),
        };
        let numbers = numbers.map_err(|e| unreadable(&self.shown, e))?;
        let micros = |n: i64| match plain.data_type() {
            DataType::Timestamp(TimeUnit::Second, _) => n.checked_mul(1_000_000),
            DataType::Timestamp(TimeUnit::Millisecond, _) | DataType::Date64 => n.checked_mul(1_000),
            DataType::Timestamp(TimeUnit::Nanosecond, _) => Some(n.div_euclid(1_000)),
            DataType::Date32 => n.checked_mul(86_400_000_000),
            _ => Some(n),
        };
        let mut made = TimestampMicrosecondBuilder::with_capacity(array.len()).with_timezone("UTC");
        for (row, n) in numbers.as_primitive::<Int64Type>().iter().enumerate() {
            match n.map(micros) {
                None => made.append_null(),
                Some(Some(n)) => made.append_value(n),
                Some(None) => return Err(self.misfit(array, row, name, ColumnType::Time)),
            }
        }
        Ok(Arc::new(made.finish()))
    }

    fn moments(&self, array: &ArrayRef, name: &str) -> Result<ArrayRef> {
        let text = cast(array, &DataType::Utf8).map_err(|e| unreadable(&self.shown, e))?;
        let mut cells = Cells::new(ColumnType::Time);
        for (row, value) in text.as_string::<i32>().iter().enumerate() {
            match value {
                None => cells.push_null(),
                Some(value) if cells.push_text(value) => {}
                Some(_) => return Err(self.misfit(array, row, name, ColumnType::Time)),
            }
        }
        Ok(cells.finish())
    }

    /// Lists, structs and maps as JSON text; what is NULL inside of them is written.
    fn json(&self, array: &ArrayRef, name: &str) -> Result<ArrayRef> {
        let field = Arc::new(Field::new(name, array.data_type().clone(), true));
        let options = EncoderOptions::default().with_explicit_nulls(true);
        let mut encoder = make_encoder(&field, array.as_ref(), &options).map_err(|e| unreadable(&self.shown, e))?;
        let mut made = StringBuilder::with_capacity(array.len(), 0);
        let mut text = Vec::new();
        for row in 0..array.len() {
            if array.is_null(row) {
                made.append_null();
                continue;
            }
            text.clear();
            encoder.encode(row, &mut text);
            made.append_value(std::str::from_utf8(&text).map_err(|e| unreadable(&self.shown, e))?);
        }
        Ok(Arc::new(made.finish()))
    }

    fn misfit(&self, array: &ArrayRef, row: usize, name: &str, kind: ColumnType) -> Fault {
        let value = arrow::util::display::array_value_to_string(array, row).unwrap_or_default();
        let row = self.rows + row + 1;
        Fault::invalid(
            Code::WRONG_TYPE,
            format!("column `{name}` in row {row} of {} is `{value}`, expected {kind}; nothing of this load was kept", self.shown),
        )
        .fix(super::change_of_schema(kind))
    }
}

impl Iterator for Reader {
    type Item = Result<RecordBatch>;
    fn next(&mut self) -> Option<Self::Item> {
        let batch = match self.batches.next()? {
            Ok(batch) => batch,
            Err(e) => return Some(Err(unreadable(&self.shown, e))),
        };
        let converted = self.convert(&batch);
        self.rows += batch.num_rows();
        Some(converted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{Int16Array, StringArray, TimestampNanosecondArray, UInt64Array};
    use arrow::datatypes::Schema;
    use parquet::arrow::ArrowWriter;
    use std::io::{Seek, Write};

    fn file(columns: Vec<(&str, ArrayRef)>) -> File {
        let schema = Schema::new(columns.iter().map(|(n, a)| Field::new(*n, a.data_type().clone(), true)).collect::<Vec<_>>());
        let batch = RecordBatch::try_new(Arc::new(schema), columns.into_iter().map(|(_, a)| a).collect()).expect("batch");
        let mut file = tempfile::tempfile().expect("file");
        let mut writer = ArrowWriter::try_new(&mut file, batch.schema(), None).expect("writer");
        writer.write(&batch).expect("write");
        writer.close().expect("close");
        file.rewind().expect("rewind");
        file
    }

    #[test]
    fn types_are_widened() {
        let make = || {
            file(vec![
                ("n", Arc::new(Int16Array::from(vec![Some(1), None]))),
                ("t", Arc::new(TimestampNanosecondArray::from(vec![1_500, 2_000]))),
                ("s", Arc::new(StringArray::from(vec!["2011-09-01", "2011-09-02 10:00:00"]))),
            ])
        };
        let shown = Shown::new("x.parquet");
        let found: Vec<_> = infer(make(), &shown).expect("infer").into_iter().map(|(n, g)| (n, g.kind())).collect();
        assert_eq!(found.iter().map(|c| c.1).collect::<Vec<_>>(), [ColumnType::Int, ColumnType::Time, ColumnType::Text]);
        let columns =
            Columns::new(vec![("s".into(), ColumnType::Time), ("n".into(), ColumnType::Float), ("t".into(), ColumnType::Time)], "x")
                .expect("columns");
        let batch = Reader::new(make(), shown, &columns).expect("open").next().expect("one").expect("good");
        assert_eq!(batch.schema(), columns.schema());
        assert_eq!(batch.column(2).as_primitive::<arrow::datatypes::TimestampMicrosecondType>().values(), &[1, 2]);
    }

    #[test]
    fn nested_values_are_json_text() {
        let (kind, rating) = (Arc::new(StringArray::from(vec![Some("van"), None, None])), Arc::new(Int16Array::from(vec![3, 4, 5])));
        let fields = vec![Field::new("kind", DataType::Utf8, true), Field::new("rating", DataType::Int16, true)];
        let nulls = Some(vec![true, true, false].into());
        let car = arrow::array::StructArray::new(fields.into(), vec![kind, rating], nulls);
        let tags = arrow::array::ListArray::from_iter_primitive::<Int64Type, _, _>(vec![Some(vec![Some(1), None]), None, Some(Vec::new())]);
        let make = || file(vec![("car", Arc::new(car.clone())), ("tags", Arc::new(tags.clone()))]);
        let shown = Shown::new("x.parquet");
        let found: Vec<_> = infer(make(), &shown).expect("infer").into_iter().map(|(_, g)| g.kind()).collect();
        assert_eq!(found, [ColumnType::Text, ColumnType::Text]);
        let columns = Columns::new(vec![("car".into(), ColumnType::Text), ("tags".into(), ColumnType::Text)], "x").expect("columns");
        let batch = Reader::new(make(), shown.clone(), &columns).expect("open").next().expect("one").expect("good");
        let texts = |column: usize| batch.column(column).as_string::<i32>().iter().map(|t| t.map(str::to_owned)).collect::<Vec<_>>();
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(texts(0), [some(r#"{"kind":"van","rating":3}"#), some(r#"{"kind":null,"rating":4}"#), None]);
        assert_eq!(texts(1), [some("[1,null]"), None, some("[]")]);
        let number = Columns::new(vec![("car".into(), ColumnType::Int), ("tags".into(), ColumnType::Text)], "x").expect("columns");
        assert_eq!(Reader::new(make(), shown, &number).err().expect("refused").code, Code::WRONG_TYPE);
    }

    #[test]
    fn a_value_that_does_not_fit_is_an_error() {
        let shown = Shown::new("x.parquet");
        let big = file(vec![("n", Arc::new(UInt64Array::from(vec![1, u64::MAX])))]);
        let columns = Columns::new(vec![("n".into(), ColumnType::Int)], "x").expect("columns");
        let fault = Reader::new(big, shown.clone(), &columns).expect("open").find_map(Result::err).expect("refused");
        assert!(
            fault.code == Code::WRONG_TYPE && fault.message.contains("row 2") && fault.message.contains(&u64::MAX.to_string()),
            "{fault}"
        );
        let text = file(vec![("n", Arc::new(StringArray::from(vec!["x"])))]);
        assert_eq!(Reader::new(text, shown, &columns).err().expect("refused").code, Code::WRONG_TYPE);
    }

    #[test]
    fn bytes_that_are_no_parquet_are_refused() {
        let mut file = tempfile::tempfile().expect("file");
        file.write_all(b"PAR1 nonsense PAR1").expect("write");
        file.rewind().expect("rewind");
        assert_eq!(infer(file, &Shown::new("x.parquet")).expect_err("refused").code, Code::SOURCE_UNREADABLE);
    }
}
