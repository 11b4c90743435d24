//! How a call reads its values, and how its answers become a column again.

use crate::What;
use crate::state::Answer;
use arrow::array::{Array, ArrayRef, AsArray, DynComparator, Float64Array, Int64Array, UInt32Array, make_comparator};
use arrow::compute::{SortOptions, cast, take};
use arrow::datatypes::{DataType, Float64Type, Int64Type};
use arrow::row::{RowConverter, SortField};
use gristmill_kernel::error::{Fault, Result};
use hashbrown::HashMap;
use std::cmp::Ordering;
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
}

impl Argument {
    /// The form in which a call reads its values; `gives` is the type of its answer.
    pub fn of(what: What, values: &ArrayRef, gives: &DataType) -> Result<Argument> {
        let typed = |to: &DataType| cast(values, to).map_err(|e| Fault::internal("type an argument").because(e));
        Ok(match what {
            What::Count | What::First | What::Last => Argument::Any(values.clone()),
            What::Sum if *gives == DataType::Int64 => Argument::Int(typed(&DataType::Int64)?.as_primitive::<Int64Type>().clone()),
            What::Sum | What::Avg | What::Spread { .. } => {
                Argument::Float(typed(&DataType::Float64)?.as_primitive::<Float64Type>().clone())
            }
            What::Min | What::Max => {
                if let Some(floats) = values.as_primitive_opt::<Float64Type>() {
                    return Ok(Argument::OrderedFloat(floats.unary(|v| if v.is_nan() { f64::NAN } else { v })));
                }
                let compare =
                    make_comparator(values, values, SortOptions::default()).map_err(|e| Fault::internal("order an argument").because(e))?;
                Argument::Ordered(values.clone(), compare)
            }
            What::CountDistinct => {
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

    /// How two rows compare; without an order all are equal.
    #[inline]
    pub(crate) fn compare(&self, a: usize, b: usize) -> Ordering {
        match self {
            Argument::Ordered(_, compare) => compare(a, b),
            Argument::OrderedFloat(values) => values.value(a).total_cmp(&values.value(b)),
            _ => Ordering::Equal,
        }
    }

    /// Whether a row has a value.
    #[inline]
    pub(crate) fn is_there(&self, row: usize) -> bool {
        match self {
            Argument::None => true,
            Argument::Any(values) | Argument::Ordered(values, _) => values.is_valid(row),
            Argument::Float(values) | Argument::OrderedFloat(values) => values.is_valid(row),
            Argument::Int(values) => values.is_valid(row),
            Argument::Code(codes) => codes[row].is_some(),
        }
    }
}

/// Whether a call over this type is one that can slide here, and gives this type.
pub fn supported(what: What, given: Option<&DataType>, gives: &DataType) -> bool {
    let numeric = |t: &DataType| t.is_integer() || *t == DataType::Float64 || *t == DataType::Float32;
    match (what, given) {
        (What::Count, _) => *gives == DataType::Int64,
        (What::CountDistinct, Some(t)) => *gives == DataType::Int64 && !t.is_floating() && !t.is_nested() && !t.is_null(),
        (What::Sum, Some(t)) => (*gives == DataType::Float64 && numeric(t)) || (*gives == DataType::Int64 && t.is_signed_integer()),
        (What::Avg | What::Spread { .. }, Some(t)) => *gives == DataType::Float64 && numeric(t),
        (What::Min | What::Max, Some(t)) => {
            t == gives
                && (t.is_integer()
                    || *t == DataType::Float64
                    || matches!(t, DataType::Utf8 | DataType::Boolean | DataType::Date32 | DataType::Timestamp(_, _)))
        }
        (What::First | What::Last, Some(t)) => t == gives && !t.is_nested() && !t.is_null(),
        (_, None) => false,
    }
}

/// Answers as a column.
pub fn column_of(answers: &[Answer], argument: Option<&Argument>, to: &DataType) -> Result<ArrayRef> {
    let row = |answer: &Answer| if let Answer::Row(row) = answer { Some(*row) } else { None };
    let int = |answer: &Answer| if let Answer::Int(value) = answer { Some(*value) } else { None };
    let taken = |values: &dyn Array| {
        let places: UInt32Array = answers.iter().map(row).collect();
        take(values, &places, None).map_err(|e| Fault::internal("take answers").because(e))
    };
    let float = |answer: &Answer| if let Answer::Float(value) = answer { Some(*value) } else { None };
    match argument {
        Some(Argument::Ordered(values, _)) => taken(values),
        Some(Argument::OrderedFloat(values)) => taken(values),
        _ if *to == DataType::Float64 => Ok(Arc::new(answers.iter().map(float).collect::<Float64Array>())),
        _ => Ok(Arc::new(answers.iter().map(int).collect::<Int64Array>())),
    }
}
