//! How a call reads its values, and how its answers become a column again.

use crate::walk::Answers;
use crate::{Direction, What};
use arrow::array::{Array, ArrayRef, AsArray, DynComparator, Float64Array, Int64Array, UInt32Array, make_comparator};
use arrow::buffer::NullBuffer;
use arrow::compute::{SortOptions, cast, take};
use arrow::datatypes::{DataType, Float64Type, Int64Type};
use arrow::row::{RowConverter, SortField};
use gristmill_kernel::error::{Fault, Result};
use hashbrown::HashMap;
use std::sync::Arc;

/// The argument of a call, for every row.
pub enum Argument {
    /// There is none.
    None,
    /// Only whether it is there matters, or which row it is.
    Any(ArrayRef),
    /// Floats, to be added up.
    Float(Float64Array),
    /// Whole numbers, to be added up.
    Int(Int64Array),
    /// With an order.
    Ordered(ArrayRef, DynComparator),
    /// Floats, to be compared; all NaNs are one, above everything.
    OrderedFloat(Float64Array),
    /// Equal values have equal numbers.
    Code(Vec<Option<u32>>),
    /// With an order in which NULL has a place.
    By(DynComparator),
}

/// A form in which values are read; two calls that want the same one share it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// [`Argument::Any`]
    Any,
    /// [`Argument::Float`]
    Float,
    /// [`Argument::Int`]
    Int,
    /// [`Argument::Ordered`] or [`Argument::OrderedFloat`]
    Ordered,
    /// [`Argument::Code`]
    Code,
    /// [`Argument::By`]
    By(Direction),
}

impl Form {
    /// What a call wants; `gives` is the type of its answer.
    pub fn of(what: What, gives: &DataType) -> Form {
        match what {
            What::Count | What::First | What::Last => Form::Any,
            What::Sum if *gives == DataType::Int64 => Form::Int,
            What::Sum | What::Avg | What::Spread { .. } | What::Quantile(_) => Form::Float,
            What::Min | What::Max => Form::Ordered,
            What::CountDistinct => Form::Code,
            What::FirstBy(direction) | What::LastBy(direction) => Form::By(direction),
        }
    }
}

impl Argument {
    /// Values in a form.
    pub fn of(form: Form, values: &ArrayRef) -> Result<Argument> {
        let typed = |to: &DataType| cast(values, to).map_err(|e| Fault::internal("type an argument").because(e));
        Ok(match form {
            Form::Any => Argument::Any(values.clone()),
            Form::Int => Argument::Int(typed(&DataType::Int64)?.as_primitive::<Int64Type>().clone()),
            Form::Float => Argument::Float(typed(&DataType::Float64)?.as_primitive::<Float64Type>().clone()),
            Form::Ordered => {
                if let Some(floats) = values.as_primitive_opt::<Float64Type>() {
                    return Ok(Argument::OrderedFloat(floats.unary(|v| if v.is_nan() { f64::NAN } else { v })));
                }
                let compare =
                    make_comparator(values, values, SortOptions::default()).map_err(|e| Fault::internal("order an argument").because(e))?;
                Argument::Ordered(values.clone(), compare)
            }
            Form::By(Direction { descending, nulls_first }) => {
                let order = SortOptions { descending, nulls_first };
                Argument::By(make_comparator(values, values, order).map_err(|e| Fault::internal("order rows by an argument").because(e))?)
            }
            Form::Code => {
                let wrong = |e| Fault::internal("number values").because(e);
                let converter = RowConverter::new(vec![SortField::new(values.data_type().clone())]).map_err(wrong)?;
                let rows = converter.convert_columns(std::slice::from_ref(values)).map_err(wrong)?;
                let mut numbers = HashMap::new();
                let mut codes = Vec::with_capacity(values.len());
                for (at, row) in rows.iter().enumerate() {
                    let next = numbers.len() as u32;
                    codes.push(values.is_valid(at).then(|| *numbers.entry(row).or_insert(next)));
                }
                Argument::Code(codes)
            }
        })
    }

    /// The rows that have a value.
    #[inline]
    pub(crate) fn there(&self, rows: impl Iterator<Item = u32>, work: impl FnMut(u32)) {
        let nulls = match self {
            Argument::None | Argument::By(_) => None,
            Argument::Any(values) | Argument::Ordered(values, _) => values.nulls(),
            Argument::Float(values) | Argument::OrderedFloat(values) => values.nulls(),
            Argument::Int(values) => values.nulls(),
            Argument::Code(codes) => return rows.filter(|row| codes[*row as usize].is_some()).for_each(work),
        };
        match nulls {
            None => rows.for_each(work),
            Some(nulls) => rows.filter(|row| nulls.is_valid(*row as usize)).for_each(work),
        }
    }
}

/// Whether a call over this type is one that can slide here, and gives this type.
pub fn supported(what: What, given: Option<&DataType>, gives: &DataType) -> bool {
    let numeric = |t: &DataType| t.is_integer() || *t == DataType::Float64 || *t == DataType::Float32;
    match (what, given) {
        (What::Count, _) => *gives == DataType::Int64,
        (What::CountDistinct, Some(t)) => *gives == DataType::Int64 && !t.is_nested() && !t.is_null(),
        (What::Sum, Some(t)) => (*gives == DataType::Float64 && numeric(t)) || (*gives == DataType::Int64 && t.is_signed_integer()),
        (What::Avg | What::Spread { .. } | What::Quantile(_), Some(t)) => *gives == DataType::Float64 && numeric(t),
        (What::Min | What::Max, Some(t)) => {
            t == gives
                && (t.is_integer()
                    || *t == DataType::Float64
                    || matches!(t, DataType::Utf8 | DataType::Boolean | DataType::Date32 | DataType::Timestamp(_, _)))
        }
        (What::First | What::Last | What::FirstBy(_) | What::LastBy(_), Some(t)) => t == gives && !t.is_nested() && !t.is_null(),
        (_, None) => false,
    }
}

/// Answers as a column.
pub fn column_of(answers: Answers, argument: Option<&Argument>, to: &DataType) -> Result<ArrayRef> {
    let taken = |values: &dyn Array| {
        let places: UInt32Array = answers.rows().collect();
        take(values, &places, None).map_err(|e| Fault::internal("take answers").because(e))
    };
    match argument {
        Some(Argument::Ordered(values, _)) => return taken(values),
        Some(Argument::OrderedFloat(values)) => return taken(values),
        _ => {}
    }
    let there = NullBuffer::from(answers.there);
    let there = (there.null_count() > 0).then_some(there);
    // In place: the same bits, read as another type.
    if *to == DataType::Float64 {
        let values: Vec<f64> = answers.bits.into_iter().map(f64::from_bits).collect();
        return Ok(Arc::new(Float64Array::new(values.into(), there)));
    }
    let values: Vec<i64> = answers.bits.into_iter().map(u64::cast_signed).collect();
    Ok(Arc::new(Int64Array::new(values.into(), there)))
}
