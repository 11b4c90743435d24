//! What a call keeps while its window slides over the rows of one entity: rows enter at the end and leave at the beginning.
//!
//! Promise: the value is that of the same aggregate over the rows inside, to the bit, whatever entered and left before. Sums are exact
//! ([`crate::exact`]), so what left has left no trace; values that are not finite are counted apart, because they cannot be
//! subtracted. The least and the greatest keep a queue of the rows that may still become it. Quantiles keep every value inside in order, of
//! one entity at a time: a bounded sketch could not give back what leaves, or would answer by the order of arrival.

use crate::argument::Argument;
use crate::exact::{Exact, Moments};
use crate::ordered::Ordered;
use crate::{What, quantile};
use arrow::array::{Array, PrimitiveArray};
use arrow::datatypes::ArrowPrimitiveType;
use std::cmp::Ordering;
use std::collections::{HashMap, VecDeque};

/// A value, or the row that has it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Answer {
    /// No value.
    Null,
    /// A whole number.
    Int(i64),
    /// A float.
    Float(f64),
    /// The place of a row in the argument.
    Row(u32),
}

/// What is kept. Rows are numbers into the argument.
#[derive(Debug)]
pub enum State {
    /// How many.
    Count(i64),
    /// How often each value is inside.
    Distinct(HashMap<u32, u32>),
    /// A sum of whole numbers, which wraps.
    Whole {
        /// How many are inside.
        count: u64,
        /// Their sum.
        sum: i64,
    },
    /// A sum of floats, and how many: also a mean.
    Sum(Sum),
    /// Variance, or its root.
    Spread {
        /// Whether it is the root.
        root: bool,
        /// What is taken off the count.
        less: u64,
        /// How many of the values inside are not finite.
        beyond: u64,
        /// Count, sum and sum of squares of the others.
        moments: Box<Moments>,
    },
    /// The least or the greatest: rows that may still become it, the best first.
    Best {
        /// How the best one compares with the others.
        wanted: Ordering,
        /// Whether a newer row takes the place of an equal one.
        newest: bool,
        /// The rows.
        queue: VecDeque<u32>,
    },
    /// The values, as keys in their order.
    Values(Ordered),
    /// The rows inside, oldest first.
    First(VecDeque<u32>),
    /// The newest row; older ones leave before it does.
    Last(Option<u32>),
}

/// A sum that can be taken from.
#[derive(Debug, Default)]
pub struct Sum {
    count: u64,
    exact: Exact,
    nan: u64,
    plus: u64,
    minus: u64,
}

impl Sum {
    #[inline]
    fn add(&mut self, value: f64) {
        self.count += 1;
        if value.is_finite() {
            self.exact.add(value);
        } else {
            *self.beyond(value) += 1;
        }
    }
    #[inline]
    fn remove(&mut self, value: f64) {
        self.count -= 1;
        if self.count == 0 {
            *self = Sum::default();
        } else if value.is_finite() {
            self.exact.add(-value);
        } else {
            *self.beyond(value) -= 1;
        }
    }
    fn beyond(&mut self, value: f64) -> &mut u64 {
        if value.is_nan() {
            &mut self.nan
        } else if value > 0.0 {
            &mut self.plus
        } else {
            &mut self.minus
        }
    }
    fn value(&self) -> f64 {
        match (self.nan, self.plus, self.minus) {
            (0, 0, 0) => self.exact.value(),
            (0, _, 0) => f64::INFINITY,
            (0, 0, _) => f64::NEG_INFINITY,
            _ => f64::NAN,
        }
    }
}

impl State {
    /// Of no rows.
    pub fn new(what: What, argument: &Argument) -> State {
        match what {
            What::Count => State::Count(0),
            What::CountDistinct => State::Distinct(HashMap::new()),
            What::Sum if matches!(argument, Argument::Int(_)) => State::Whole { count: 0, sum: 0 },
            What::Sum | What::Avg => State::Sum(Sum::default()),
            What::Spread { root, less } => State::Spread { root, less, beyond: 0, moments: Box::default() },
            What::Min | What::FirstBy(_) => State::Best { wanted: Ordering::Less, newest: false, queue: VecDeque::new() },
            What::Max => State::Best { wanted: Ordering::Greater, newest: false, queue: VecDeque::new() },
            What::LastBy(_) => State::Best { wanted: Ordering::Greater, newest: true, queue: VecDeque::new() },
            What::Quantile(_) => State::Values(Ordered::default()),
            What::First => State::First(VecDeque::new()),
            What::Last => State::Last(None),
        }
    }

    /// Whether what is kept for one call answers the other, too, when both look at the same.
    pub fn serves_both(one: What, other: What, argument: &Argument) -> bool {
        let sum = |what| matches!(what, What::Sum | What::Avg);
        let quantile = |what| matches!(what, What::Quantile(_));
        one == other || (sum(one) && sum(other) && matches!(argument, Argument::Float(_))) || (quantile(one) && quantile(other))
    }

    /// Of no rows again.
    pub fn clear(&mut self) {
        match self {
            State::Count(count) => *count = 0,
            State::Distinct(counts) => counts.clear(),
            State::Whole { count, sum } => (*count, *sum) = (0, 0),
            State::Sum(sum) => *sum = Sum::default(),
            State::Spread { beyond, moments, .. } => {
                *beyond = 0;
                **moments = Moments::default();
            }
            State::Best { queue, .. } | State::First(queue) => queue.clear(),
            State::Values(values) => values.clear(),
            State::Last(row) => *row = None,
        }
    }

    /// Rows enter, in the order of time.
    pub fn add(&mut self, argument: &Argument, mut rows: impl Iterator<Item = u32>) {
        match (self, argument) {
            // First and last are rows, whatever their value.
            (State::First(queue), _) => queue.extend(rows),
            (State::Last(last), _) => *last = rows.last().or(*last),
            (State::Count(count), argument) => argument.there(rows, |_| *count += 1),
            (State::Whole { count, sum }, Argument::Int(values)) => values_of(values, rows, |_, value| {
                *count += 1;
                *sum = sum.wrapping_add(value);
            }),
            (State::Sum(sum), Argument::Float(values)) => values_of(values, rows, |_, value| sum.add(value)),
            (State::Spread { beyond, moments, .. }, Argument::Float(values)) => {
                values_of(values, rows, |_, value| spread(beyond, moments, value, true));
            }
            (State::Values(kept), Argument::Float(values)) => values_of(values, rows, |_, value| kept.insert(quantile::key(value))),
            (State::Best { wanted, queue, .. }, Argument::OrderedFloat(values)) => {
                let all = values.values();
                values_of(values, rows, |row, value| {
                    while queue.back().is_some_and(|last| value.total_cmp(&all[*last as usize]) == *wanted) {
                        queue.pop_back();
                    }
                    queue.push_back(row);
                });
            }
            (State::Best { wanted, newest, queue }, Argument::By(compare)) => {
                let better = |order: Ordering| order == *wanted || (*newest && order == Ordering::Equal);
                for row in rows {
                    while queue.back().is_some_and(|last| better(compare(row as usize, *last as usize))) {
                        queue.pop_back();
                    }
                    queue.push_back(row);
                }
            }
            (State::Best { wanted, queue, .. }, Argument::Ordered(values, compare)) => {
                for row in rows.filter(|row| values.is_valid(*row as usize)) {
                    while queue.back().is_some_and(|last| compare(row as usize, *last as usize) == *wanted) {
                        queue.pop_back();
                    }
                    queue.push_back(row);
                }
            }
            (State::Distinct(counts), Argument::Code(codes)) => {
                rows.filter_map(|row| codes[row as usize]).for_each(|code| *counts.entry(code).or_default() += 1);
            }
            // No call has such an argument.
            (_, _) => drop(rows.next()),
        }
    }

    /// The first of the rows inside leave, in the order of time.
    pub fn remove(&mut self, argument: &Argument, mut rows: impl Iterator<Item = u32>) {
        match (self, argument) {
            (State::Best { queue, .. } | State::First(queue), _) => rows.for_each(|row| {
                if queue.front() == Some(&row) {
                    queue.pop_front();
                }
            }),
            (State::Last(last), _) => *last = last.filter(|last| rows.all(|row| row != *last)),
            (State::Count(count), argument) => argument.there(rows, |_| *count -= 1),
            (State::Whole { count, sum }, Argument::Int(values)) => values_of(values, rows, |_, value| {
                *count -= 1;
                *sum = sum.wrapping_sub(value);
            }),
            (State::Sum(sum), Argument::Float(values)) => values_of(values, rows, |_, value| sum.remove(value)),
            (State::Spread { beyond, moments, .. }, Argument::Float(values)) => {
                values_of(values, rows, |_, value| spread(beyond, moments, value, false));
            }
            (State::Values(kept), Argument::Float(values)) => values_of(values, rows, |_, value| kept.remove(quantile::key(value))),
            (State::Distinct(counts), Argument::Code(codes)) => {
                for code in rows.filter_map(|row| codes[row as usize]) {
                    if let Some(count) = counts.get_mut(&code) {
                        *count -= 1;
                        if *count == 0 {
                            counts.remove(&code);
                        }
                    }
                }
            }
            (_, _) => drop(rows.next()),
        }
    }

    /// The value over the rows inside, for one of the calls that this is kept for.
    #[inline]
    pub fn answer(&self, what: What) -> Answer {
        let row = |row: Option<&u32>| row.map_or(Answer::Null, |row| Answer::Row(*row));
        match self {
            State::Count(count) => Answer::Int(*count),
            State::Distinct(counts) => Answer::Int(counts.len() as i64),
            State::Whole { count: 0, .. } => Answer::Null,
            State::Whole { sum, .. } => Answer::Int(*sum),
            State::Sum(sum) if sum.count == 0 => Answer::Null,
            State::Sum(sum) if what == What::Avg => Answer::Float(sum.value() / sum.count as f64),
            State::Sum(sum) => Answer::Float(sum.value()),
            State::Spread { root, less, beyond, moments } => {
                let variance = match moments.count.checked_sub(*less) {
                    None | Some(0) => None,
                    Some(_) if *beyond > 0 => Some(f64::NAN),
                    Some(_) => moments.variance(*less),
                };
                variance.map_or(Answer::Null, |v| Answer::Float(if *root { v.sqrt() } else { v }))
            }
            State::Values(values) => match what {
                What::Quantile(share) => quantile::in_order(values.len(), share, |at| values.nth(at)).map_or(Answer::Null, Answer::Float),
                _ => Answer::Null,
            },
            State::Best { queue, .. } | State::First(queue) => row(queue.front()),
            State::Last(last) => row(last.as_ref()),
        }
    }
}

/// The values of the rows that have one.
#[inline]
fn values_of<T: ArrowPrimitiveType>(values: &PrimitiveArray<T>, rows: impl Iterator<Item = u32>, mut work: impl FnMut(u32, T::Native)) {
    let all = values.values();
    match values.nulls().filter(|nulls| nulls.null_count() > 0) {
        None => rows.for_each(|row| work(row, all[row as usize])),
        Some(nulls) => rows.filter(|row| nulls.is_valid(*row as usize)).for_each(|row| work(row, all[row as usize])),
    }
}

/// A value, in or out. One whose square is not finite makes the variance NaN while it is inside.
fn spread(beyond: &mut u64, moments: &mut Moments, value: f64, enters: bool) {
    if (value * value).is_finite() {
        if enters { moments.add(value) } else { moments.remove(value) }
    } else if enters {
        moments.count += 1;
        *beyond += 1;
    } else {
        moments.count -= 1;
        *beyond -= 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::argument::Form;
    use crate::{Direction, Share};
    use arrow::array::{ArrayRef, Float64Array, make_comparator};
    use arrow::compute::SortOptions;
    use rand::prelude::*;
    use rand::rngs::StdRng;
    use std::sync::Arc;

    const UP: Direction = Direction { descending: false, nulls_first: false };
    const DOWN: Direction = Direction { descending: true, nulls_first: true };

    const ALL: [What; 16] = [
        What::Count,
        What::CountDistinct,
        What::Sum,
        What::Avg,
        What::Min,
        What::Max,
        What::First,
        What::Last,
        What::Spread { root: false, less: 1 },
        What::Spread { root: true, less: 0 },
        What::Quantile(Share::HALF),
        What::FirstBy(UP),
        What::FirstBy(DOWN),
        What::LastBy(UP),
        What::LastBy(DOWN),
        What::Sum,
    ];

    fn value(rng: &mut StdRng) -> Option<f64> {
        Some(match rng.random_range(0..40) {
            0 => return None,
            1 => f64::NAN,
            2 => f64::INFINITY,
            3 => f64::NEG_INFINITY,
            4 => f64::MAX,
            5 => 1e300,
            6 => -0.0,
            7 => 0.0,
            8 => 5e-324,
            9..20 => f64::from(rng.random_range(-3..3)),
            _ => rng.random_range(-1.0..1.0f64) * 2f64.powi(rng.random_range(-80..80)),
        })
    }

    fn bits(answer: Answer) -> (u8, u64) {
        match answer {
            Answer::Null => (0, 0),
            Answer::Int(value) => (1, value as u64),
            Answer::Float(value) => (2, value.to_bits()),
            Answer::Row(row) => (3, u64::from(row)),
        }
    }

    fn argument(what: What, values: &[Option<f64>], whole: bool) -> Argument {
        let floats = Float64Array::from(values.to_vec());
        match what {
            What::Sum if whole => Argument::Int(values.iter().map(|v| v.map(|v| v as i64)).collect()),
            What::Max => Argument::of(Form::Ordered, &(Arc::new(floats) as ArrayRef)).unwrap(),
            What::FirstBy(order) | What::LastBy(order) => Argument::of(Form::By(order), &(Arc::new(floats) as ArrayRef)).unwrap(),
            What::Min => {
                let values: ArrayRef = Arc::new(floats);
                let compare = make_comparator(&values, &values, SortOptions::default()).unwrap();
                Argument::Ordered(values, compare)
            }
            What::CountDistinct => Argument::Code(values.iter().map(|v| v.map(|v| v.to_bits() as u32 % 7)).collect()),
            What::Count | What::First | What::Last => Argument::Any(Arc::new(floats)),
            _ => Argument::Float(floats),
        }
    }

    #[test]
    fn what_left_has_left_no_trace() {
        let mut rng = StdRng::seed_from_u64(3);
        for round in 0..400 {
            let values: Vec<Option<f64>> = (0..rng.random_range(1..60)).map(|_| value(&mut rng)).collect();
            for (number, what) in ALL.into_iter().enumerate() {
                let argument = argument(what, &values, number == ALL.len() - 1);
                let mut sliding = State::new(what, &argument);
                let (mut first, mut end) = (0, 0);
                while end < values.len() {
                    let to = rng.random_range(end + 1..=values.len());
                    sliding.add(&argument, end as u32..to as u32);
                    end = to;
                    let from = rng.random_range(first..=end);
                    sliding.remove(&argument, first as u32..from as u32);
                    first = from;
                    let mut fresh = State::new(what, &argument);
                    fresh.add(&argument, first as u32..end as u32);
                    assert_eq!(
                        bits(sliding.answer(what)),
                        bits(fresh.answer(what)),
                        "{what:?}, round {round}, rows {first}..{end} of {values:?}"
                    );
                }
                sliding.clear();
                assert_eq!(bits(sliding.answer(what)), bits(State::new(what, &argument).answer(what)));
            }
        }
    }
    #[test]
    fn an_order_of_its_own_has_a_first_and_a_last_row() {
        let values: ArrayRef = Arc::new(Float64Array::from(vec![Some(2.0), None, Some(1.0), Some(2.0), None, Some(1.0)]));
        let row = |what: What| {
            let argument = Argument::of(Form::of(what, &arrow::datatypes::DataType::Float64), &values).unwrap();
            let mut state = State::new(what, &argument);
            state.add(&argument, 0..6);
            state.answer(what)
        };
        assert_eq!(row(What::FirstBy(UP)), Answer::Row(2), "the oldest of the least");
        assert_eq!(row(What::LastBy(UP)), Answer::Row(4), "NULL is last, and the newest one");
        assert_eq!(row(What::FirstBy(DOWN)), Answer::Row(1), "NULL is first, and the oldest one");
        assert_eq!(row(What::LastBy(DOWN)), Answer::Row(5), "the newest of the least");
        let nulls_last = Direction { descending: true, nulls_first: false };
        assert_eq!(row(What::FirstBy(nulls_last)), Answer::Row(0), "the oldest of the greatest");
    }

    #[test]
    fn several_quantiles_share_their_values() {
        let values = Argument::Float(Float64Array::from(vec![Some(4.0), None, Some(1.0), Some(3.0), Some(2.0), Some(f64::NAN)]));
        let quartile = What::Quantile(Share::new(0.25).unwrap());
        assert!(State::serves_both(What::Quantile(Share::HALF), quartile, &values));
        let mut state = State::new(quartile, &values);
        state.add(&values, 0..6);
        assert_eq!(state.answer(quartile), Answer::Float(2.0));
        assert_eq!(state.answer(What::Quantile(Share::HALF)), Answer::Float(3.0));
        state.remove(&values, 0..3);
        assert_eq!(state.answer(What::Quantile(Share::HALF)), Answer::Float(3.0), "of 2, 3 and NaN");
        state.remove(&values, 3..6);
        assert_eq!(state.answer(quartile), Answer::Null);
    }
}
