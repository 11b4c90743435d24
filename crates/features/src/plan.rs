//! Decisions of the stage, from values alone.

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, StringArray};
use arrow::compute::{SortColumn, lexsort_to_indices, take};
use arrow::datatypes::{DataType, Field, Float64Type, Schema, TimeUnit, TimestampMicrosecondType};
use arrow::row::{RowConverter, SortField};
use gristmill_kernel::error::Code;
use gristmill_kernel::training::{self, Split};
use gristmill_kernel::view::{FeatureType, LabelDef, ViewDef};
use gristmill_kernel::{Digest, Fault, Result, Timestamp};
use std::collections::BTreeMap;
use std::sync::Arc;

/// The one type of a moment.
pub fn moment_type() -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))
}

/// How a model sees a column of this type.
pub fn feature_type(name: &str, data_type: &DataType) -> Result<FeatureType> {
    match data_type {
        t if t.is_numeric() || *t == DataType::Null => Ok(FeatureType::Number),
        DataType::Boolean => Ok(FeatureType::Boolean),
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View | DataType::Dictionary(_, _) => Ok(FeatureType::Category),
        other => Err(Fault::invalid(Code::UNTRAINABLE, format!("feature `{name}` has type {other}, which no model can read"))
            .fix(format!("make it a number, a truth or a word, for example date_part('epoch', as_of() - {name})"))),
    }
}

/// A column cast to another type; the fault names the column.
pub fn cast_column(rows: &RecordBatch, name: &str, to: &DataType) -> Result<ArrayRef> {
    let column = rows.column_by_name(name).ok_or_else(|| {
        let known: Vec<&str> = rows.schema_ref().fields().iter().map(|f| f.name().as_str()).collect();
        Fault::invalid(Code::UNKNOWN_COLUMN, format!("column `{name}` is missing")).fix(format!("columns are {}", known.join(", ")))
    })?;
    if column.data_type().is_floating() && to.is_integer() {
        check_whole(column, name)?;
    }
    let options = arrow::compute::CastOptions { safe: false, ..Default::default() };
    arrow::compute::cast_with_options(column, to, &options).map_err(|e| {
        Fault::invalid(Code::WRONG_TYPE, format!("column `{name}` is {}, which cannot be read as {to}", column.data_type()))
            .fix(format!("cast it in the query: cast({name} as ...)"))
            .because(e)
    })
}

/// A cast would cut off what is behind the point: 1.5 would be the entity 1.
fn check_whole(column: &ArrayRef, name: &str) -> Result<()> {
    let numbers = arrow::compute::cast(column, &DataType::Float64).map_err(bug)?;
    let mut numbers = numbers.as_primitive::<Float64Type>().iter().enumerate();
    match numbers.find_map(|(row, number)| number.filter(|number| number.fract() != 0.0).map(|number| (row, number))) {
        None => Ok(()),
        Some((row, number)) => {
            Err(Fault::invalid(Code::WRONG_TYPE, format!("`{name}` of row {row} is {number}, which is no whole number"))
                .fix("give whole numbers"))
        }
    }
}

/// What callers send for a view that is computed in the call, in the declared columns and types.
pub fn sent(view: &ViewDef, rows: &RecordBatch) -> Result<Vec<(String, ArrayRef)>> {
    let declared = view.request.iter();
    declared
        .map(|(name, kind)| {
            if rows.column_by_name(name).is_none() {
                let fix = format!(
                    "send {} with every row; what is not known may be null",
                    view.request.keys().cloned().collect::<Vec<_>>().join(", ")
                );
                return Err(Fault::invalid(
                    Code::MISSING_INPUT,
                    format!("view {} is computed from `{name}`, which is not given", view.name),
                )
                .fix(fix));
            }
            Ok((name.clone(), cast_column(rows, name, &kind.arrow())?))
        })
        .collect()
}

/// A label set from the answer of its query: entity columns, `__time`, `__label`, then whatever else the query gives. Ordered by moment and
/// entity, so that equal data is an equal blob whatever order the query answered in. Rows without an outcome are left out and counted.
pub fn label_rows(def: &LabelDef, answer: &RecordBatch) -> Result<(RecordBatch, u64)> {
    let mut fields = Vec::new();
    let mut columns: Vec<ArrayRef> = Vec::new();
    let plain = |t: &DataType| match t {
        DataType::Utf8View | DataType::LargeUtf8 => DataType::Utf8,
        DataType::Int8 | DataType::Int16 | DataType::Int32 | DataType::UInt8 | DataType::UInt16 | DataType::UInt32 | DataType::UInt64 => {
            DataType::Int64
        }
        DataType::Float32 => DataType::Float64,
        other => other.clone(),
    };
    let type_of = |name: &str| answer.column_by_name(name).map_or(DataType::Null, |c| plain(c.data_type()));
    for name in &def.entity {
        let column = cast_column(answer, name, &type_of(name))?;
        if column.null_count() > 0 {
            return Err(Fault::invalid(Code::BAD_VALUE, format!("{}: {} label rows have no `{name}`", def.file, column.null_count()))
                .fix(format!("add `where {name} is not null` to the label query")));
        }
        fields.push(Field::new(name, column.data_type().clone(), false));
        columns.push(column);
    }
    let time = cast_column(answer, &def.time, &moment_type())?;
    if time.null_count() > 0 {
        return Err(Fault::invalid(Code::BAD_VALUE, format!("{}: {} label rows have no `{}`", def.file, time.null_count(), def.time))
            .fix(format!("add `where {} is not null` to the label query", def.time)));
    }
    fields.push(Field::new(training::TIME, moment_type(), false));
    columns.push(time);
    let label = cast_column(answer, &def.label, &type_of(&def.label))?;
    let unknown = label.null_count() as u64;
    fields.push(Field::new(training::LABEL, label.data_type().clone(), true));
    columns.push(label.clone());
    for field in answer.schema_ref().fields() {
        let name = field.name();
        if def.entity.contains(name) || *name == def.time || *name == def.label {
            continue;
        }
        let column = cast_column(answer, name, &plain(field.data_type()))?;
        fields.push(Field::new(name, column.data_type().clone(), true));
        columns.push(column);
    }
    let rows = batch(fields, columns)?;
    let rows = if unknown > 0 {
        let known = arrow::compute::is_not_null(&label).map_err(bug)?;
        arrow::compute::filter_record_batch(&rows, &known).map_err(bug)?
    } else {
        rows
    };
    Ok((sorted(&rows, def.entity.len())?, unknown))
}

/// Ordered by moment, entity and then every other column.
fn sorted(rows: &RecordBatch, entity_columns: usize) -> Result<RecordBatch> {
    if rows.num_rows() == 0 {
        return Ok(rows.clone());
    }
    let by: Vec<usize> = std::iter::once(entity_columns).chain((0..rows.num_columns()).filter(|c| *c != entity_columns)).collect();
    let keys: Vec<SortColumn> = by.into_iter().map(|c| SortColumn { values: rows.column(c).clone(), options: None }).collect();
    let order = lexsort_to_indices(&keys, None).map_err(bug)?;
    let columns = rows.columns().iter().map(|c| take(c, &order, None)).collect::<std::result::Result<Vec<_>, _>>().map_err(bug)?;
    RecordBatch::try_new(rows.schema(), columns).map_err(bug)
}

/// `train` or `test` per row, and the first moment held out where the split is by time.
pub fn split_rows(split: &Split, rows: &RecordBatch, entity: &[String]) -> Result<(StringArray, Option<Timestamp>)> {
    let share = match split {
        Split::Time { test } | Split::Random { test } | Split::Group { test, .. } => *test,
    };
    if !(share > 0.0 && share < 1.0) {
        return Err(Fault::invalid(Code::BAD_VALUE, format!("a test share of {share} leaves nothing to train or to judge"))
            .fix("write split = { by = \"time\", test = 0.2 }"));
    }
    let moments = rows
        .column_by_name(training::TIME)
        .ok_or_else(|| Fault::internal("label rows lack their moment"))?
        .as_primitive::<TimestampMicrosecondType>()
        .clone();
    let side = |test: bool| if test { "test" } else { "train" };
    match split {
        Split::Time { .. } => {
            let from = time_border(moments.values(), share)?;
            let sides = moments.values().iter().map(|t| Some(side(*t >= from.micros()))).collect();
            Ok((sides, Some(from)))
        }
        Split::Random { .. } => {
            let mut columns: Vec<&str> = entity.iter().map(String::as_str).collect();
            columns.push(training::TIME);
            Ok((hashed(rows, &columns, share)?, None))
        }
        Split::Group { column, .. } => Ok((hashed(rows, &[column.as_str()], share)?, None)),
    }
}

/// The latest moments that together hold at least `share` of the rows, but never all moments.
fn time_border(moments: &[i64], share: f64) -> Result<Timestamp> {
    let mut counts: BTreeMap<i64, usize> = BTreeMap::new();
    for t in moments {
        *counts.entry(*t).or_default() += 1;
    }
    if counts.len() < 2 {
        return Err(Fault::invalid(Code::UNTRAINABLE, "a split by time needs label rows at two moments or more")
            .fix("widen the label query, or write split = { by = \"random\", test = 0.2 }"));
    }
    let wanted = (moments.len() as f64 * share).ceil() as usize;
    let first = *counts.keys().next().unwrap_or(&0);
    let mut held = 0;
    let mut border = i64::MAX;
    for (t, n) in counts.iter().rev() {
        if *t == first || held >= wanted {
            break;
        }
        held += n;
        border = *t;
    }
    Ok(Timestamp::from_micros(border))
}

/// A draw by content, so that it is the same in every run and for every order of rows.
fn hashed(rows: &RecordBatch, columns: &[&str], share: f64) -> Result<StringArray> {
    let taken = columns
        .iter()
        .map(|name| {
            rows.column_by_name(name).cloned().ok_or_else(|| {
                Fault::invalid(Code::UNKNOWN_COLUMN, format!("the label query gives no column `{name}` to split by"))
                    .fix("name a column of the label query or the entity")
            })
        })
        .collect::<Result<Vec<_>>>()?;
    let converter = RowConverter::new(taken.iter().map(|c| SortField::new(c.data_type().clone())).collect()).map_err(bug)?;
    let encoded = converter.convert_columns(&taken).map_err(bug)?;
    let border = (share * u64::MAX as f64) as u64;
    Ok(encoded
        .iter()
        .map(|row| {
            let digest = Digest::of(row.as_ref());
            let draw = u64::from_be_bytes(digest.bytes()[..8].try_into().unwrap_or_default());
            Some(if draw < border { "test" } else { "train" })
        })
        .collect())
}

/// A batch from fields and columns.
pub fn batch(fields: Vec<Field>, columns: Vec<ArrayRef>) -> Result<RecordBatch> {
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).map_err(bug)
}

/// An arrow error that cannot happen.
pub fn bug(e: arrow::error::ArrowError) -> Fault {
    Fault::internal(format!("columns do not fit together: {e}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{BooleanArray, Int64Array, TimestampMicrosecondArray};

    fn def() -> LabelDef {
        LabelDef {
            name: "churned".parse().unwrap(),
            entity: vec!["customer_id".into()],
            time: "asked_at".into(),
            label: "churned".into(),
            horizon: None,
            sql: String::new(),
            file: "labels/churned.sql".into(),
            line_offset: 0,
        }
    }

    fn answer(rows: &[(i64, i64, Option<bool>)]) -> RecordBatch {
        batch(
            vec![
                Field::new("customer_id", DataType::Int64, true),
                Field::new("asked_at", DataType::Timestamp(TimeUnit::Nanosecond, None), true),
                Field::new("churned", DataType::Boolean, true),
            ],
            vec![
                Arc::new(Int64Array::from_iter_values(rows.iter().map(|r| r.0))),
                Arc::new(arrow::array::TimestampNanosecondArray::from_iter_values(rows.iter().map(|r| r.1 * 1000))),
                Arc::new(BooleanArray::from_iter(rows.iter().map(|r| r.2))),
            ],
        )
        .unwrap()
    }

    #[test]
    fn equal_labels_are_equal_whatever_their_order() {
        let a = label_rows(&def(), &answer(&[(2, 10, Some(true)), (1, 20, Some(false)), (1, 10, None)])).unwrap();
        let b = label_rows(&def(), &answer(&[(1, 10, None), (1, 20, Some(false)), (2, 10, Some(true))])).unwrap();
        assert_eq!(a, b);
        assert_eq!((a.0.num_rows(), a.1), (2, 1));
        let times = a.0.column(1).as_primitive::<TimestampMicrosecondType>();
        assert_eq!(times.values().to_vec(), [10, 20]);
    }

    #[test]
    fn a_split_by_time_holds_out_the_latest_moments() {
        let rows = label_rows(&def(), &answer(&(0..100).map(|i| (i, i / 10, Some(true))).collect::<Vec<_>>())).unwrap().0;
        let (sides, from) = split_rows(&Split::Time { test: 0.15 }, &rows, &def().entity).unwrap();
        assert_eq!(from, Some(Timestamp::from_micros(8)), "moments are kept whole, at least the share is held out");
        assert_eq!(sides.iter().filter(|s| *s == Some("test")).count(), 20);
        let one = label_rows(&def(), &answer(&[(1, 1, Some(true))])).unwrap().0;
        assert_eq!(split_rows(&Split::default(), &one, &def().entity).unwrap_err().code, Code::UNTRAINABLE);
    }

    #[test]
    fn a_drawn_split_does_not_depend_on_the_order() {
        let many: Vec<_> = (0..2000).map(|i| (i, 0, Some(true))).collect();
        let rows = label_rows(&def(), &answer(&many)).unwrap().0;
        let (sides, _) = split_rows(&Split::Random { test: 0.25 }, &rows, &def().entity).unwrap();
        let share = sides.iter().filter(|s| *s == Some("test")).count() as f64 / 2000.0;
        assert!((share - 0.25).abs() < 0.04, "{share}");
        let few = label_rows(&def(), &answer(&many[500..510])).unwrap().0;
        let (some, _) = split_rows(&Split::Random { test: 0.25 }, &few, &def().entity).unwrap();
        assert_eq!(some.iter().collect::<Vec<_>>(), sides.iter().skip(500).take(10).collect::<Vec<_>>());
    }

    #[test]
    fn a_fraction_is_no_whole_number() {
        let cast = |numbers: Vec<Option<f64>>| {
            let column: ArrayRef = Arc::new(arrow::array::Float64Array::from(numbers));
            let rows = RecordBatch::try_from_iter_with_nullable([("id", column, true)]).unwrap();
            cast_column(&rows, "id", &DataType::Int64)
        };
        let whole = cast(vec![Some(7.0), None, Some(-0.0)]).unwrap();
        assert_eq!(whole.as_ref(), &Int64Array::from(vec![Some(7), None, Some(0)]) as &dyn Array);
        for wrong in [1.5, f64::NAN, f64::INFINITY] {
            let fault = cast(vec![Some(7.0), Some(wrong)]).unwrap_err();
            assert_eq!((fault.code, fault.fix.is_some()), (Code::WRONG_TYPE, true));
            assert!(fault.message.contains("`id` of row 1"), "{fault}");
        }
        assert_eq!(cast(vec![Some(1e300)]).unwrap_err().code, Code::WRONG_TYPE, "too large for the type");
    }

    #[test]
    fn a_label_without_a_moment_is_refused() {
        let mut rows = answer(&[(1, 1, Some(true))]);
        let nulls: ArrayRef = Arc::new(TimestampMicrosecondArray::from(vec![None::<i64>]));
        let schema = Schema::new(vec![
            Field::new("customer_id", DataType::Int64, true),
            Field::new("asked_at", DataType::Timestamp(TimeUnit::Microsecond, None), true),
            Field::new("churned", DataType::Boolean, true),
        ]);
        rows = RecordBatch::try_new(Arc::new(schema), vec![rows.column(0).clone(), nulls, rows.column(2).clone()]).unwrap();
        let fault = label_rows(&def(), &rows).unwrap_err();
        assert!(fault.message.contains("no `asked_at`") && fault.fix.is_some());
    }
}
