//! The training set as read: one Parquet blob into plain columns.
//!
//! Promises: bytes that are not Parquet, or lie about themselves, are a [`Fault`], never a panic; a column that models cannot take is refused
//! by name with what to do; rows keep their order. NULL is NaN in numbers and "no word" in text.

use arrow::array::{Array, AsArray, BooleanArray, StringArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float64Type, Int64Type, TimeUnit, TimestampMicrosecondType};
use arrow::record_batch::RecordBatch;
use gristmill_kernel::error::{Code, Fault, Result};
use gristmill_kernel::training::{GROUP, LABEL, SPLIT, TIME, TrainingSetMeta};
use gristmill_kernel::view::FeatureType;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use std::collections::BTreeMap;

/// Text by dictionary: words in the order they were met, and a code per row.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Words {
    /// The distinct words.
    pub words: Vec<String>,
    /// A place in `words` per row; [`Words::NONE`] for NULL.
    pub codes: Vec<u32>,
}

impl Words {
    /// Marks NULL.
    pub const NONE: u32 = u32::MAX;

    /// The word of a row.
    pub fn at(&self, row: usize) -> Option<&str> {
        self.words.get(self.codes[row] as usize).map(String::as_str)
    }
}

/// The values of one feature.
#[derive(Debug, Clone, PartialEq)]
pub enum Values {
    /// Numbers and booleans; NaN is missing.
    Number(Vec<f64>),
    /// Categories.
    Word(Words),
}

/// The outcomes, as stored.
#[derive(Debug, Clone, PartialEq)]
pub enum Labels {
    /// True or false.
    Boolean(Vec<bool>),
    /// Whole numbers.
    Int(Vec<i64>),
    /// Numbers.
    Float(Vec<f64>),
    /// Words.
    Text(Words),
}

/// A training set in memory.
#[derive(Debug, Clone)]
pub struct TrainingTable {
    /// What the version says about it.
    pub meta: TrainingSetMeta,
    /// How many rows.
    pub rows: usize,
    /// The entity's columns as text, for slices.
    pub entity: Vec<(String, Words)>,
    /// Microseconds since the epoch.
    pub time: Vec<i64>,
    /// The outcomes.
    pub labels: Labels,
    /// Whether a row is held out.
    pub held_out: Vec<bool>,
    /// The group of each row, if the set has groups.
    pub group: Option<Words>,
    /// One entry per feature of `meta`, in order.
    pub features: Vec<Values>,
}

impl TrainingTable {
    /// Reads the blob of a training set.
    pub fn read(meta: TrainingSetMeta, content: bytes::Bytes) -> Result<TrainingTable> {
        if meta.format > TrainingSetMeta::FORMAT {
            return Err(Fault::invalid(
                Code::NEWER_FORMAT,
                format!("the training set has format {}, this binary reads up to {}", meta.format, TrainingSetMeta::FORMAT),
            )
            .fix("use the newer gristmill that wrote it"));
        }
        // The Parquet reader may panic on bytes that lie about themselves.
        let batches = crate::guard("the Parquet reader", move || read_batches(content))
            .map_err(|fault| damaged("it cannot be read as Parquet").because(fault))??;
        let columns = Columns::gather(&batches)?;
        let rows = columns.rows;
        let time = columns.times(TIME)?;
        let labels = columns.labels()?;
        let split = columns.words(SPLIT)?;
        let held_out = (0..rows)
            .map(|row| match split.at(row) {
                Some("train") => Ok(false),
                Some("test") => Ok(true),
                other => Err(damaged(format!("column {SPLIT}, row {row}: {other:?} is neither `train` nor `test`"))),
            })
            .collect::<Result<Vec<bool>>>()?;
        let group = columns.has(GROUP).then(|| columns.words(GROUP)).transpose()?;
        let entity = meta.entity.iter().map(|name| Ok((name.clone(), columns.words(name)?))).collect::<Result<Vec<_>>>()?;
        let features = meta.features.iter().map(|f| columns.feature(&f.qualified(), f.kind)).collect::<Result<Vec<_>>>()?;
        Ok(TrainingTable { meta, rows, entity, time, labels, held_out, group, features })
    }
}

fn damaged(what: impl std::fmt::Display) -> Fault {
    Fault::damaged(format!("the training set is damaged: {what}")).fix("make it again: gristmill run training_sets.NAME")
}

fn read_batches(content: bytes::Bytes) -> Result<Vec<RecordBatch>> {
    let bad = |e: &dyn std::fmt::Display| damaged(format!("it cannot be read as Parquet: {e}"));
    let reader = ParquetRecordBatchReaderBuilder::try_new(content).map_err(|e| bad(&e))?.build().map_err(|e| bad(&e))?;
    reader.map(|batch| batch.map_err(|e| bad(&e))).collect()
}

/// The batches' columns, looked up by name.
struct Columns<'a> {
    batches: &'a [RecordBatch],
    places: BTreeMap<String, usize>,
    rows: usize,
}

impl<'a> Columns<'a> {
    fn gather(batches: &'a [RecordBatch]) -> Result<Columns<'a>> {
        let Some(first) = batches.first() else {
            return Err(Fault::invalid(Code::UNTRAINABLE, "the training set has no rows")
                .fix("check the label query: gristmill sql with the text of its file"));
        };
        let places = first.schema().fields().iter().enumerate().map(|(at, f)| (f.name().clone(), at)).collect();
        Ok(Columns { batches, places, rows: batches.iter().map(RecordBatch::num_rows).sum() })
    }

    fn has(&self, name: &str) -> bool {
        self.places.contains_key(name)
    }

    fn parts(&self, name: &str) -> Result<Vec<&'a dyn Array>> {
        let at = *self.places.get(name).ok_or_else(|| damaged(format!("it has no column `{name}`")))?;
        Ok(self.batches.iter().map(|b| b.column(at).as_ref()).collect())
    }

    fn kind(&self, name: &str) -> Result<DataType> {
        Ok(self.parts(name)?.first().map_or(DataType::Null, |a| a.data_type().clone()))
    }

    fn cast(&self, name: &str, to: &DataType) -> Result<Vec<arrow::array::ArrayRef>> {
        self.parts(name)?.into_iter().map(|part| cast(part, to).map_err(|e| damaged(format!("column `{name}` is no {to}: {e}")))).collect()
    }

    fn times(&self, name: &str) -> Result<Vec<i64>> {
        let parts = self.cast(name, &DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())))?;
        let mut out = Vec::with_capacity(self.rows);
        for part in &parts {
            let part = part.as_primitive::<TimestampMicrosecondType>();
            if part.null_count() > 0 {
                return Err(damaged(format!("column `{name}` has rows without a moment")));
            }
            out.extend_from_slice(part.values());
        }
        Ok(out)
    }

    fn words(&self, name: &str) -> Result<Words> {
        let parts = self.cast(name, &DataType::Utf8)?;
        let mut places: BTreeMap<String, u32> = BTreeMap::new();
        let mut out = Words { words: Vec::new(), codes: Vec::with_capacity(self.rows) };
        for part in &parts {
            let part: &StringArray = part.as_string();
            for word in part {
                let Some(word) = word else {
                    out.codes.push(Words::NONE);
                    continue;
                };
                let code = match places.get(word) {
                    Some(code) => *code,
                    None => {
                        let code = out.words.len() as u32;
                        places.insert(word.to_owned(), code);
                        out.words.push(word.to_owned());
                        code
                    }
                };
                out.codes.push(code);
            }
        }
        Ok(out)
    }

    fn numbers(&self, name: &str) -> Result<Vec<f64>> {
        let parts = self.cast(name, &DataType::Float64)?;
        let mut out = Vec::with_capacity(self.rows);
        for part in &parts {
            out.extend(part.as_primitive::<Float64Type>().iter().map(|v| v.unwrap_or(f64::NAN)));
        }
        Ok(out)
    }

    fn labels(&self) -> Result<Labels> {
        let missing: usize = self.parts(LABEL)?.iter().map(|p| p.null_count()).sum();
        if missing > 0 {
            return Err(Fault::invalid(Code::UNTRAINABLE, format!("{missing} rows have no label"))
                .fix("leave them out in the label query: where LABEL is not null"));
        }
        match self.kind(LABEL)? {
            DataType::Boolean => {
                let mut out = Vec::with_capacity(self.rows);
                for part in self.parts(LABEL)? {
                    let part: &BooleanArray = part.as_boolean();
                    out.extend(part.iter().flatten());
                }
                Ok(Labels::Boolean(out))
            }
            kind if kind.is_integer() => {
                let mut out = Vec::with_capacity(self.rows);
                for part in &self.cast(LABEL, &DataType::Int64)? {
                    out.extend_from_slice(part.as_primitive::<Int64Type>().values());
                }
                Ok(Labels::Int(out))
            }
            DataType::Float16 | DataType::Float32 | DataType::Float64 | DataType::Decimal128(..) => {
                let out = self.numbers(LABEL)?;
                let broken = out.iter().filter(|v| !v.is_finite()).count();
                if broken > 0 {
                    return Err(Fault::invalid(Code::UNTRAINABLE, format!("{broken} labels are not finite numbers"))
                        .fix("leave them out in the label query"));
                }
                Ok(Labels::Float(out))
            }
            DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View | DataType::Dictionary(..) => Ok(Labels::Text(self.words(LABEL)?)),
            other => Err(Fault::invalid(Code::UNTRAINABLE, format!("a label of type {other} cannot be learnt"))
                .fix("make it a boolean, a number or a word in the label query")),
        }
    }

    fn feature(&self, name: &str, wanted: FeatureType) -> Result<Values> {
        let kind = self.kind(name)?;
        if kind.is_temporal() {
            return Err(Fault::invalid(Code::UNTRAINABLE, format!("feature `{name}` is of type {kind}, which models cannot take"))
                .fix("make it a number in the view, for example: date_part('epoch', as_of()) - date_part('epoch', COLUMN)"));
        }
        let is_text = matches!(kind, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View | DataType::Dictionary(..));
        match wanted {
            FeatureType::Category if is_text => Ok(Values::Word(self.words(name)?)),
            FeatureType::Number | FeatureType::Boolean if kind.is_numeric() || kind == DataType::Boolean || kind == DataType::Null => {
                let out = self.numbers(name)?;
                if out.iter().any(|v| v.is_infinite()) {
                    return Err(Fault::invalid(Code::UNTRAINABLE, format!("feature `{name}` has infinite values"))
                        .fix("guard the division in the view: x / nullif(y, 0)"));
                }
                Ok(Values::Number(out))
            }
            _ => Err(damaged(format!("column `{name}` is of type {kind}, its record says {wanted:?}"))),
        }
    }
}
