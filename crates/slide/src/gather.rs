//! Columns of the rows that are answers.
//!
//! They are taken a batch at a time and not an answer at a time: what is read then lies in the caches, and only what is written is far apart.
//! Answers in any order over millions of rows would wait for the memory once per value.

use crate::place::Places;
use crate::walk::Answers;
use arrow::array::{Array, ArrayRef, ArrowPrimitiveType, AsArray, BooleanBufferBuilder, PrimitiveArray, new_empty_array, new_null_array};
use arrow::buffer::NullBuffer;
use arrow::compute::interleave;
use arrow::datatypes::DataType;
use arrow::downcast_primitive_array;
use gristmill_kernel::error::{Fault, Result};
use std::sync::Arc;

/// The answers that are rows, by the batches of those.
#[derive(Debug)]
pub struct Chosen {
    /// Where those of each batch begin; one more than there are batches.
    starts: Vec<usize>,
    /// The place in the batch, and among the answers.
    taken: Vec<(u32, u32)>,
    /// How many answers there are, with those that are no row.
    answers: usize,
}

impl Chosen {
    /// Of a call that answers by rows.
    pub fn of(places: &Places, answers: &Answers) -> Chosen {
        let batches = places.batches();
        let found: Vec<Option<(u32, u32)>> = answers.rows().map(|row| Some(places.find(row?))).collect();
        let mut starts = vec![0; batches + 1];
        for (batch, _) in found.iter().flatten() {
            starts[*batch as usize + 1] += 1;
        }
        for batch in 0..batches {
            starts[batch + 1] += starts[batch];
        }
        let (mut next, mut taken) = (starts.clone(), vec![(0, 0); starts[batches]]);
        for (answer, found) in (0..).zip(&found) {
            if let Some((batch, at)) = found {
                let slot = &mut next[*batch as usize];
                taken[*slot] = (*at, answer);
                *slot += 1;
            }
        }
        Chosen { starts, taken, answers: found.len() }
    }

    /// A column of this type for the answers, from that of each batch; NULL where an answer is no row.
    pub fn column(&self, batches: &[&dyn Array], to: &DataType) -> Result<ArrayRef> {
        if batches.len() + 1 != self.starts.len() || batches.iter().any(|batch| batch.data_type() != to) {
            return Err(Fault::internal("answers are taken from other rows than those that were walked over"));
        }
        let empty = new_empty_array(to);
        let like = empty.as_ref();
        downcast_primitive_array! {
            like => Ok(Arc::new(self.primitive(like, batches))),
            _ => self.any(batches, to),
        }
    }

    fn of_batch(&self, batch: usize) -> &[(u32, u32)] {
        &self.taken[self.starts[batch]..self.starts[batch + 1]]
    }

    fn primitive<T: ArrowPrimitiveType>(&self, like: &PrimitiveArray<T>, batches: &[&dyn Array]) -> PrimitiveArray<T> {
        let mut values = vec![T::Native::default(); self.answers];
        let whole = self.taken.len() == self.answers && batches.iter().all(|batch| batch.null_count() == 0);
        let mut valid = BooleanBufferBuilder::new(0);
        if !whole {
            valid.append_n(self.answers, false);
        }
        for (number, batch) in batches.iter().enumerate() {
            let batch = batch.as_primitive::<T>();
            let (from, nulls) = (batch.values(), batch.nulls());
            for (at, answer) in self.of_batch(number) {
                values[*answer as usize] = from[*at as usize];
            }
            if !whole {
                for (at, answer) in self.of_batch(number) {
                    valid.set_bit(*answer as usize, nulls.is_none_or(|nulls| nulls.is_valid(*at as usize)));
                }
            }
        }
        let nulls = (!whole).then(|| NullBuffer::new(valid.finish()));
        PrimitiveArray::new(values.into(), nulls).with_data_type(like.data_type().clone())
    }

    fn any(&self, batches: &[&dyn Array], to: &DataType) -> Result<ArrayRef> {
        // One more batch, of one NULL, for the answers that are no row.
        let nothing = new_null_array(to, 1);
        let mut from = vec![(batches.len(), 0); self.answers];
        for number in 0..batches.len() {
            self.of_batch(number).iter().for_each(|(at, answer)| from[*answer as usize] = (number, *at as usize));
        }
        let batches: Vec<&dyn Array> = batches.iter().copied().chain([nothing.as_ref()]).collect();
        interleave(&batches, &from).map_err(|e| Fault::internal("take answers").because(e))
    }
}
