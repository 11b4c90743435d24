//! Aggregates over floats whose bits do not depend on the order of the rows.
//!
//! `sum`, `avg`, `min`, `max`, `var*` and `stddev*` of DataFusion are replaced, under their own names, by ones that are exact for
//! Float64 and hand every other type to the original. Training, online and request then agree to the bit whatever order and
//! partitioning their rows come in. To add one: a [`Kind`], its arm in [`Tally`], its line in [`exact_functions`]. Quantiles, which keep
//! all their values, are in [`quantile`].

mod quantile;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Float64Array, Float64Builder, ListArray, ListBuilder};
use arrow::datatypes::{DataType, Field, FieldRef, Float64Type};
use datafusion::common::{DataFusionError, Result, ScalarValue};
use datafusion::functions_aggregate as builtin;
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::utils::AggregateOrderSensitivity;
use datafusion::logical_expr::{
    Accumulator, AggregateUDF, AggregateUDFImpl, EmitTo, GroupsAccumulator, ReversedUDAF, Signature, Volatility,
};
use gristmill_slide::exact::{Exact, Moments};
use std::collections::HashSet;
use std::sync::Arc;

/// The replacements, to be registered over the originals.
pub fn exact_functions() -> Vec<AggregateUDF> {
    use builtin::{average, min_max, stddev, sum, variance};
    let spread = Some(Signature::exact(vec![DataType::Float64], Volatility::Immutable));
    let all = [
        (Kind::Sum, sum::sum_udaf(), None),
        (Kind::Avg, average::avg_udaf(), None),
        (Kind::Min, min_max::min_udaf(), None),
        (Kind::Max, min_max::max_udaf(), None),
        (Kind::VarianceSample, variance::var_samp_udaf(), spread.clone()),
        (Kind::VariancePopulation, variance::var_pop_udaf(), spread.clone()),
        (Kind::DeviationSample, stddev::stddev_udaf(), spread.clone()),
        (Kind::DeviationPopulation, stddev::stddev_pop_udaf(), spread),
    ];
    all.into_iter()
        .map(|(kind, inner, signature)| {
            let signature = signature.unwrap_or_else(|| inner.signature().clone());
            AggregateUDF::new_from_impl(ExactAggregate { kind, inner, signature })
        })
        .chain(quantile::exact_quantiles())
        .collect()
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Kind {
    Sum,
    Avg,
    Min,
    Max,
    VarianceSample,
    VariancePopulation,
    DeviationSample,
    DeviationPopulation,
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct ExactAggregate {
    kind: Kind,
    inner: Arc<AggregateUDF>,
    signature: Signature,
}

impl AggregateUDFImpl for ExactAggregate {
    fn name(&self) -> &str {
        self.inner.name()
    }
    fn aliases(&self) -> &[String] {
        self.inner.aliases()
    }
    fn signature(&self) -> &Signature {
        &self.signature
    }
    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        match types {
            [DataType::Float64] => Ok(DataType::Float64),
            _ => self.inner.return_type(types),
        }
    }
    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        self.inner.inner().coerce_types(types)
    }
    fn accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        if !is_float(args.expr_fields) {
            return self.inner.accumulator(args);
        }
        let distinct = args.is_distinct.then(HashSet::new);
        Ok(Box::new(One { distinct, tally: Tally::new(self.kind) }))
    }
    fn state_fields(&self, args: StateFieldsArgs) -> Result<Vec<FieldRef>> {
        if !is_float(args.input_fields) {
            return self.inner.state_fields(args);
        }
        Ok(vec![Arc::new(Field::new_list(format!("{}[exact]", args.name), Field::new_list_field(DataType::Float64, true), true))])
    }
    fn groups_accumulator_supported(&self, args: AccumulatorArgs) -> bool {
        if is_float(args.expr_fields) { !args.is_distinct } else { self.inner.groups_accumulator_supported(args) }
    }
    fn create_groups_accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn GroupsAccumulator>> {
        if !is_float(args.expr_fields) {
            return self.inner.create_groups_accumulator(args);
        }
        Ok(Box::new(Many { kind: self.kind, tallies: Vec::new() }))
    }
    fn create_sliding_accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        self.inner.create_sliding_accumulator(args)
    }
    fn order_sensitivity(&self) -> AggregateOrderSensitivity {
        AggregateOrderSensitivity::Insensitive
    }
    fn reverse_expr(&self) -> ReversedUDAF {
        ReversedUDAF::Identical
    }
    fn default_value(&self, data_type: &DataType) -> Result<ScalarValue> {
        self.inner.default_value(data_type)
    }
}

fn is_float(fields: &[FieldRef]) -> bool {
    matches!(fields, [field] if field.data_type() == &DataType::Float64)
}

/// One group's state.
#[derive(Debug)]
enum Tally {
    Sum {
        seen: bool,
        sum: Exact,
    },
    Avg {
        count: u64,
        sum: Exact,
    },
    /// Floats in their total order: `-0 < +0`, NaN above everything.
    Least(Option<f64>),
    Most(Option<f64>),
    Spread {
        root: bool,
        less: u64,
        moments: Box<Moments>,
    },
}

impl Tally {
    fn new(kind: Kind) -> Tally {
        let spread = |root, less| Tally::Spread { root, less, moments: Box::default() };
        match kind {
            Kind::Sum => Tally::Sum { seen: false, sum: Exact::default() },
            Kind::Avg => Tally::Avg { count: 0, sum: Exact::default() },
            Kind::Min => Tally::Least(None),
            Kind::Max => Tally::Most(None),
            Kind::VarianceSample => spread(false, 1),
            Kind::VariancePopulation => spread(false, 0),
            Kind::DeviationSample => spread(true, 1),
            Kind::DeviationPopulation => spread(true, 0),
        }
    }

    #[inline]
    fn add(&mut self, value: f64) {
        match self {
            Tally::Sum { seen, sum } => {
                *seen = true;
                sum.add(value);
            }
            Tally::Avg { count, sum } => {
                *count += 1;
                sum.add(value);
            }
            Tally::Least(least) => {
                let value = if value.is_nan() { f64::NAN } else { value };
                if least.is_none_or(|l| value.total_cmp(&l).is_lt()) {
                    *least = Some(value);
                }
            }
            Tally::Most(most) => {
                let value = if value.is_nan() { f64::NAN } else { value };
                if most.is_none_or(|m| value.total_cmp(&m).is_gt()) {
                    *most = Some(value);
                }
            }
            Tally::Spread { moments, .. } => moments.add(value),
        }
    }

    fn value(&self) -> Option<f64> {
        match self {
            Tally::Sum { seen, sum } => seen.then(|| sum.value()),
            Tally::Avg { count, sum } => (*count > 0).then(|| sum.value() / *count as f64),
            Tally::Least(value) | Tally::Most(value) => *value,
            Tally::Spread { root, less, moments } => {
                let variance = moments.variance(*less)?;
                Some(if *root { variance.sqrt() } else { variance })
            }
        }
    }

    /// As floats that another tally can merge; `None` if nothing was added.
    fn state(&self) -> Option<Vec<f64>> {
        match self {
            Tally::Sum { seen, sum } => seen.then(|| sum.parts()),
            Tally::Avg { count, sum } => (*count > 0).then(|| {
                let mut state = vec![*count as f64];
                state.extend(sum.parts());
                state
            }),
            Tally::Least(value) | Tally::Most(value) => value.map(|v| vec![v]),
            Tally::Spread { moments, .. } => (moments.count > 0).then(|| {
                let sum = moments.sum.parts();
                let mut state = vec![moments.count as f64, sum.len() as f64];
                state.extend(sum);
                state.extend(moments.squares.parts());
                state
            }),
        }
    }

    fn merge(&mut self, state: &[f64]) {
        match self {
            Tally::Sum { seen, sum } => {
                *seen = true;
                sum.merge(state);
            }
            Tally::Avg { count, sum } => {
                if let [more, parts @ ..] = state {
                    *count += *more as u64;
                    sum.merge(parts);
                }
            }
            Tally::Least(_) | Tally::Most(_) => state.iter().for_each(|v| self.add(*v)),
            Tally::Spread { moments, .. } => {
                if let [count, sums, parts @ ..] = state {
                    moments.count += *count as u64;
                    let (sum, squares) = parts.split_at((*sums as usize).min(parts.len()));
                    moments.sum.merge(sum);
                    moments.squares.merge(squares);
                }
            }
        }
    }

    fn heap_bytes(&self) -> usize {
        match self {
            Tally::Sum { sum, .. } | Tally::Avg { sum, .. } => sum.heap_bytes(),
            Tally::Least(_) | Tally::Most(_) => 0,
            Tally::Spread { moments, .. } => std::mem::size_of::<Moments>() + moments.sum.heap_bytes() + moments.squares.heap_bytes(),
        }
    }
}

/// One group.
#[derive(Debug)]
struct One {
    /// The bits seen, for DISTINCT.
    distinct: Option<HashSet<u64>>,
    tally: Tally,
}

impl One {
    fn add(&mut self, value: f64) {
        if let Some(seen) = &mut self.distinct {
            let value = canonical(value);
            if !seen.insert(value.to_bits()) {
                return;
            }
        }
        self.tally.add(value);
    }
}

/// For DISTINCT, -0 and +0 are one value, and so are all NaNs.
fn canonical(value: f64) -> f64 {
    match value {
        0.0 => 0.0,
        nan if nan.is_nan() => f64::NAN,
        other => other,
    }
}

impl Accumulator for One {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        floats(values)?.iter().flatten().for_each(|v| self.add(v));
        Ok(())
    }
    fn evaluate(&mut self) -> Result<ScalarValue> {
        Ok(ScalarValue::Float64(self.tally.value()))
    }
    fn size(&self) -> usize {
        std::mem::size_of_val(self) + self.tally.heap_bytes() + self.distinct.as_ref().map_or(0, |d| d.capacity() * 16)
    }
    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        let state = match &self.distinct {
            Some(seen) => (!seen.is_empty()).then(|| seen.iter().map(|b| f64::from_bits(*b)).collect()),
            None => self.tally.state(),
        };
        Ok(vec![ScalarValue::List(Arc::new(lists([state].into_iter())))])
    }
    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        let states = list(states)?;
        for state in states.iter().flatten() {
            let values = state.as_primitive::<Float64Type>().values();
            if self.distinct.is_some() { values.iter().for_each(|v| self.add(*v)) } else { self.tally.merge(values) }
        }
        Ok(())
    }
}

/// What a group holds on the heap, on average.
const HEAP_BYTES_GUESSED: usize = 64;

/// Many groups.
struct Many {
    kind: Kind,
    tallies: Vec<Tally>,
}

impl Many {
    fn grow(&mut self, groups: usize) {
        let kind = self.kind;
        if self.tallies.len() < groups {
            self.tallies.resize_with(groups, || Tally::new(kind));
        }
    }
}

impl GroupsAccumulator for Many {
    fn update_batch(&mut self, values: &[ArrayRef], groups: &[usize], filter: Option<&BooleanArray>, total: usize) -> Result<()> {
        self.grow(total);
        let values = floats(values)?;
        let passes = |row: usize| filter.is_none_or(|f| f.is_valid(row) && f.value(row));
        for (row, group) in groups.iter().enumerate() {
            if values.is_valid(row) && passes(row) {
                self.tallies[*group].add(values.value(row));
            }
        }
        Ok(())
    }
    fn evaluate(&mut self, emit: EmitTo) -> Result<ArrayRef> {
        let done = emit.take_needed(&mut self.tallies);
        Ok(Arc::new(done.iter().map(Tally::value).collect::<Float64Array>()))
    }
    fn state(&mut self, emit: EmitTo) -> Result<Vec<ArrayRef>> {
        let done = emit.take_needed(&mut self.tallies);
        Ok(vec![Arc::new(lists(done.iter().map(Tally::state)))])
    }
    fn merge_batch(&mut self, states: &[ArrayRef], groups: &[usize], total: usize) -> Result<()> {
        self.grow(total);
        let states = list(states)?;
        let values = states.values().as_primitive::<Float64Type>().values();
        let offsets = states.value_offsets();
        for (row, group) in groups.iter().enumerate() {
            if states.is_valid(row) {
                self.tallies[*group].merge(&values[offsets[row] as usize..offsets[row + 1] as usize]);
            }
        }
        Ok(())
    }
    fn convert_to_state(&self, values: &[ArrayRef], filter: Option<&BooleanArray>) -> Result<Vec<ArrayRef>> {
        let values = floats(values)?;
        let passes = |row: usize| filter.is_none_or(|f| f.is_valid(row) && f.value(row));
        let states = (0..values.len()).map(|row| {
            (values.is_valid(row) && passes(row)).then(|| {
                let mut tally = Tally::new(self.kind);
                tally.add(values.value(row));
                tally.state().unwrap_or_default()
            })
        });
        Ok(vec![Arc::new(lists(states))])
    }
    fn size(&self) -> usize {
        // Asked for after every batch, so an estimate: most groups stay in place, some have a list.
        self.tallies.capacity() * (std::mem::size_of::<Tally>() + HEAP_BYTES_GUESSED)
    }
}

fn lists(states: impl Iterator<Item = Option<Vec<f64>>>) -> ListArray {
    let mut builder = ListBuilder::new(Float64Builder::new());
    for state in states {
        match state {
            Some(state) => {
                builder.values().append_slice(&state);
                builder.append(true);
            }
            None => builder.append(false),
        }
    }
    builder.finish()
}

fn floats(values: &[ArrayRef]) -> Result<&Float64Array> {
    let floats = values.first().and_then(|v| v.as_primitive_opt::<Float64Type>());
    floats.ok_or_else(|| DataFusionError::Internal("an exact aggregate got no floats".into()))
}

fn list(states: &[ArrayRef]) -> Result<&ListArray> {
    let lists = states.first().and_then(|s| s.as_list_opt::<i32>());
    lists.ok_or_else(|| DataFusionError::Internal("an exact aggregate got no state".into()))
}
