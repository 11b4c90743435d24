//! Where rows are that come in batches, and the order in which they arrived.

use crate::walk::Entry;
use arrow::array::{Array, Int64Array};
use std::cmp::Ordering;

/// The order of the rows of a batch: the load that each came with, and its number within the load.
#[derive(Debug)]
pub struct Arrivals {
    loads: Int64Array,
    numbers: Int64Array,
    /// Whether the rows are in this order.
    ordered: bool,
}

/// Load and number; what is absent comes last, as in the order of a query.
type Arrival = [(bool, i64); 2];

impl Arrivals {
    /// Of a batch; both have its length.
    pub fn new(loads: Int64Array, numbers: Int64Array) -> Arrivals {
        let mut arrivals = Arrivals { loads, numbers, ordered: true };
        let told = [&arrivals.loads, &arrivals.numbers].iter().any(|values| values.null_count() < values.len());
        arrivals.ordered = !told || (1..arrivals.len()).all(|at| arrivals.of(at - 1) <= arrivals.of(at));
        arrivals
    }
    /// How many rows the batch has.
    #[expect(clippy::len_without_is_empty, reason = "nobody asks")]
    pub fn len(&self) -> usize {
        self.loads.len()
    }
    fn of(&self, at: usize) -> Arrival {
        let one = |values: &Int64Array| {
            if values.nulls().is_none_or(|nulls| nulls.is_valid(at)) { (false, values.values()[at]) } else { (true, 0) }
        };
        [one(&self.loads), one(&self.numbers)]
    }
}

/// Batches laid end to end: a row has one place among all.
#[derive(Debug)]
pub struct Places {
    parts: Vec<Arrivals>,
    /// The place of each batch's first row.
    starts: Vec<u32>,
}

impl Places {
    /// Lays batches end to end and moves the places of their rows along. `None` if there are more rows than places.
    pub fn of(parts: Vec<Arrivals>, rows: &mut [Vec<Entry>]) -> Option<Places> {
        let mut starts = Vec::with_capacity(parts.len());
        let mut before = 0u32;
        for (part, rows) in parts.iter().zip(rows) {
            starts.push(before);
            rows.iter_mut().for_each(|row| row.at += before);
            before = before.checked_add(u32::try_from(part.len()).ok()?)?;
        }
        Some(Places { parts, starts })
    }

    /// The batch of a row, and its place there.
    #[inline]
    pub fn find(&self, row: u32) -> (u32, u32) {
        let part = self.starts.partition_point(|start| *start <= row) - 1;
        (part as u32, row - self.starts[part])
    }

    /// Which of two rows arrived first.
    pub fn order(&self, a: u32, b: u32) -> Ordering {
        let of = |row| {
            let (part, at) = self.find(row);
            self.parts[part as usize].of(at as usize)
        };
        of(a).cmp(&of(b)).then_with(|| a.cmp(&b))
    }

    /// Whether rows are in the order in which they arrived, so that places say all.
    pub fn in_order(&self) -> bool {
        let filled: Vec<&Arrivals> = self.parts.iter().filter(|part| part.len() > 0).collect();
        filled.iter().all(|part| part.ordered) && filled.windows(2).all(|pair| pair[0].of(pair[0].len() - 1) <= pair[1].of(0))
    }

    /// How many batches there are.
    pub fn batches(&self) -> usize {
        self.parts.len()
    }
}
