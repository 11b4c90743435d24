//! `median` and `percentile_cont` of floats, exact and the same for any order of the rows.
//!
//! The originals find the median's lower half by comparisons that know no order of `-0` and NaN, and cut the way between two values to six digits. Here
//! the values of a group are kept and [`gristmill_slide::quantile`] says what is between them, as it does where windows slide: one definition, one
//! answer. They cost 8 bytes each, of the query's memory. Every type but Float64 is handed to the original.

use super::{HEAP_BYTES_GUESSED, canonical, list, lists};
use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Float64Array, RecordBatch};
use arrow::datatypes::{DataType, Field, FieldRef, Float64Type, Schema};
use datafusion::common::{DataFusionError, Result, ScalarValue, plan_err};
use datafusion::functions_aggregate as builtin;
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::utils::AggregateOrderSensitivity;
use datafusion::logical_expr::{
    Accumulator, AggregateUDF, AggregateUDFImpl, ColumnarValue, EmitTo, GroupsAccumulator, ReversedUDAF, Signature,
};
use gristmill_slide::{Share, quantile};
use std::collections::HashSet;
use std::sync::Arc;

/// The replacements, to be registered over the originals.
pub fn exact_quantiles() -> Vec<AggregateUDF> {
    let all = [builtin::median::median_udaf(), builtin::percentile_cont::percentile_cont_udaf()];
    all.into_iter().map(|inner| AggregateUDF::new_from_impl(Quantile { inner })).collect()
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Quantile {
    inner: Arc<AggregateUDF>,
}

impl AggregateUDFImpl for Quantile {
    fn name(&self) -> &str {
        self.inner.name()
    }
    fn aliases(&self) -> &[String] {
        self.inner.aliases()
    }
    fn signature(&self) -> &Signature {
        self.inner.signature()
    }
    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        self.inner.return_type(types)
    }
    fn supports_within_group_clause(&self) -> bool {
        self.inner.supports_within_group_clause()
    }
    fn accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        if !is_float(args.expr_fields) {
            return self.inner.accumulator(args);
        }
        Ok(Box::new(One { share: share_of(&args)?, distinct: args.is_distinct.then(HashSet::new), values: Vec::new() }))
    }
    fn state_fields(&self, args: StateFieldsArgs) -> Result<Vec<FieldRef>> {
        if !is_float(args.input_fields) {
            return self.inner.state_fields(args);
        }
        Ok(vec![Arc::new(Field::new_list(format!("{}[values]", args.name), Field::new_list_field(DataType::Float64, true), true))])
    }
    fn groups_accumulator_supported(&self, args: AccumulatorArgs) -> bool {
        if is_float(args.expr_fields) { !args.is_distinct } else { self.inner.groups_accumulator_supported(args) }
    }
    fn create_groups_accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn GroupsAccumulator>> {
        if !is_float(args.expr_fields) {
            return self.inner.create_groups_accumulator(args);
        }
        Ok(Box::new(Many { share: share_of(&args)?, groups: Vec::new(), held: 0 }))
    }
    fn create_sliding_accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        self.inner.create_sliding_accumulator(args)
    }
    fn order_sensitivity(&self) -> AggregateOrderSensitivity {
        AggregateOrderSensitivity::Insensitive
    }
    fn reverse_expr(&self) -> ReversedUDAF {
        ReversedUDAF::NotSupported
    }
}

fn is_float(fields: &[FieldRef]) -> bool {
    fields.first().is_some_and(|field| field.data_type() == &DataType::Float64)
}

/// The share that a call names: half, or its second argument, counted from the other end where the order is descending.
fn share_of(args: &AccumulatorArgs) -> Result<Share> {
    let Some(expr) = args.exprs.get(1) else { return Ok(Share::HALF) };
    let nothing = RecordBatch::new_empty(Arc::new(Schema::empty()));
    let share = match expr.evaluate(&nothing) {
        Ok(ColumnarValue::Scalar(ScalarValue::Float64(Some(share)))) => share,
        _ => return plan_err!("the share of `{}` must be a number that is written out, from 0 to 1", args.name),
    };
    let share = if args.order_bys.first().is_some_and(|by| by.options.descending) { 1.0 - share } else { share };
    Share::new(share).ok_or_else(|| DataFusionError::Plan(format!("the share of `{}` is {share}, which is not from 0 to 1", args.name)))
}

/// One group.
#[derive(Debug)]
struct One {
    share: Share,
    /// The bits seen, for DISTINCT.
    distinct: Option<HashSet<u64>>,
    values: Vec<f64>,
}

impl One {
    fn add(&mut self, values: &ArrayRef) -> Result<()> {
        for value in floats(values)?.iter().flatten() {
            if self.distinct.as_mut().is_none_or(|seen| seen.insert(canonical(value).to_bits())) {
                self.values.push(if self.distinct.is_some() { canonical(value) } else { value });
            }
        }
        Ok(())
    }
}

impl Accumulator for One {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        values.first().map_or(Ok(()), |values| self.add(values))
    }
    fn evaluate(&mut self) -> Result<ScalarValue> {
        Ok(ScalarValue::Float64(quantile::of(&mut self.values, self.share)))
    }
    fn size(&self) -> usize {
        std::mem::size_of_val(self) + self.values.capacity() * 8 + self.distinct.as_ref().map_or(0, |d| d.capacity() * 16)
    }
    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        let values = (!self.values.is_empty()).then(|| self.values.clone());
        Ok(vec![ScalarValue::List(Arc::new(lists([values].into_iter())))])
    }
    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        list(states)?.iter().flatten().try_for_each(|values| self.add(&values))
    }
}

/// Many groups.
struct Many {
    share: Share,
    groups: Vec<Vec<f64>>,
    /// How many values are kept, for the size.
    held: usize,
}

impl Many {
    fn take(&mut self, emit: EmitTo) -> Vec<Vec<f64>> {
        let groups = emit.take_needed(&mut self.groups);
        self.held -= groups.iter().map(Vec::len).sum::<usize>().min(self.held);
        groups
    }
}

impl GroupsAccumulator for Many {
    fn update_batch(&mut self, values: &[ArrayRef], groups: &[usize], filter: Option<&BooleanArray>, total: usize) -> Result<()> {
        self.groups.resize_with(total, Vec::new);
        let Some(values) = values.first() else { return Ok(()) };
        let values = floats(values)?;
        let passes = |row: usize| filter.is_none_or(|f| f.is_valid(row) && f.value(row));
        for (row, group) in groups.iter().enumerate() {
            if values.is_valid(row) && passes(row) {
                self.groups[*group].push(values.value(row));
                self.held += 1;
            }
        }
        Ok(())
    }
    fn evaluate(&mut self, emit: EmitTo) -> Result<ArrayRef> {
        let share = self.share;
        Ok(Arc::new(self.take(emit).iter_mut().map(|values| quantile::of(values, share)).collect::<Float64Array>()))
    }
    fn state(&mut self, emit: EmitTo) -> Result<Vec<ArrayRef>> {
        let groups = self.take(emit);
        Ok(vec![Arc::new(lists(groups.into_iter().map(|values| (!values.is_empty()).then_some(values))))])
    }
    fn merge_batch(&mut self, states: &[ArrayRef], groups: &[usize], total: usize) -> Result<()> {
        self.groups.resize_with(total, Vec::new);
        for (values, group) in list(states)?.iter().zip(groups) {
            if let Some(values) = values {
                let values = values.as_primitive::<Float64Type>().values();
                self.groups[*group].extend(values);
                self.held += values.len();
            }
        }
        Ok(())
    }
    fn convert_to_state(&self, values: &[ArrayRef], filter: Option<&BooleanArray>) -> Result<Vec<ArrayRef>> {
        let Some(values) = values.first() else { return Err(DataFusionError::Internal("a quantile got no values".into())) };
        let values = floats(values)?;
        let passes = |row: usize| values.is_valid(row) && filter.is_none_or(|f| f.is_valid(row) && f.value(row));
        Ok(vec![Arc::new(lists((0..values.len()).map(|row| passes(row).then(|| vec![values.value(row)]))))])
    }
    fn size(&self) -> usize {
        // Lists double as they grow, so half of their room may be free.
        self.groups.capacity() * HEAP_BYTES_GUESSED + self.held * 16
    }
}

fn floats(values: &ArrayRef) -> Result<&Float64Array> {
    values.as_primitive_opt::<Float64Type>().ok_or_else(|| DataFusionError::Internal("an exact quantile got no floats".into()))
}
